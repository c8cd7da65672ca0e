"""Structures from ASE: its `Atoms` objects, and the files of other programs that it reads."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from typing import Any

import ase
import numpy as np
from ase.data import covalent_radii
from ase.io.formats import UnknownFileTypeError, filetype, ioformats
from ase.io.formats import read as ase_read
from ase.units import Bohr, Hartree

from gprann.data.attachments import OWN_NAMES, attachments_of, stored_results
from gprann.data.structure import Origin, Structure
from gprann.errors import DataError, FormatError
from gprann.io.files import InputFile, elements
from gprann.io.labels import (
    Frame,
    ReadOptions,
    Units,
    choose_labels,
    declared_units,
    label_weight,
    make_frame,
    stress_label,
)

EXPECTED = (
    "extended XYZ (.xyz, .extxyz), ænet XSF (.xsf) or the output file of a program that ASE or dpdata reads"
)
_REFUSED = {
    "bundletrajectory": "may hold pickled objects, which can run any code when they are read",
    "db": "is a database",
    "mysql": "is a database",
    "postgresql": "is a database",
}

# What a finished run of a program leaves near the end of its file. ASE silently returns the complete steps of
# a file that was cut, and sometimes a last step with the positions of one step and the energy of another.
_END_MARKS = {
    "vasp-xml": b"</modeling>",
    "vasp-out": b"General timing and accounting",
    "espresso-out": b"JOB DONE",
    "aims-output": b"Have a nice day",
    "gaussian-out": b"Normal termination of Gaussian",
    "orca-output": b"ORCA TERMINATED NORMALLY",
    "castep-castep": b"Total time",
    "nwchem-out": b"Total times",
}
_TAIL = 100_000
# Formats that ASE guesses by .out and .log alone, and what their programs write.
_BY_SUFFIX = {"espresso-out": rb"(?i)PWSCF|quantum[ -]?espresso", "gaussian-out": rb"Gaussian"}

# What a program says when its electrons did not converge, and what begins each step of the nuclei, where that is known.
_NOT_CONVERGED: dict[str, tuple[str, str | None]] = {
    "espresso-out": (r"convergence NOT achieved", r"Self-consistent Calculation"),
    "aims-output": (
        r"[Ss]elf-consistency cycle not (yet )?converged",
        r"Begin self-consistency loop: (?:Init|Re-init)",
    ),
    "gaussian-out": (r"Convergence failure|Convergence criterion not met", None),
    "orca-output": (r"SCF NOT CONVERGED|(?i:wavefunction (is )?not (fully )?converged)", None),
    "castep-castep": (r"has not reached the groundstate", None),
    "gpaw-out": (r"Did not converge!", None),
    "nwchem-out": (r"Calculation failed to converge", None),
    "abinit-out": (r"was not enough SCF cycles to converge", None),
    "crystal": (r"TOO MANY CYCLES", None),
    "gamess-us-out": (r"SCF IS UNCONVERGED|DENSITY NOT CONVERGED", None),
    "elk": (r"Reached self-consistent loops maximum", None),
    # Formats that dpdata reads.
    "cp2k": (r"SCF run NOT converged", None),
    "siesta": (r"SCF_NOT_CONV|SCF not converged", None),
    "abacus": (r"(?i:convergence has not been achieved|scf is not converged)", None),
    "dftbplus": (r"SCC is NOT converged", None),
    "psi4": (r"Could not converge|Failed to converge", None),
    "openmx": (r"(?i:scf.*not converged)", None),
}


def read_ase(file: InputFile, file_format: str, options: ReadOptions) -> Iterator[Frame | DataError]:
    """Read the structures of a file in a format that ASE understands, by the name that ASE gives it.

    Steps whose electrons did not converge come as errors, in their place.

    Raises
    ------
    FormatError
        If the file is cut or damaged; with `skip_bad` after its complete steps.
    DataError
        If the file holds no structure.
    """
    problem = _incomplete(file, file_format)
    if problem is not None and not options.skip_bad:
        raise problem
    images = _images(_mend(file, file_format) if problem is not None else file, file_format)
    if problem is not None and file_format not in ("vasp-xml", "vasp-out"):
        images = images[:-1]  # its positions may be those of one step, and its energy that of another
    if file_format == "vasp-xml" and problem is None and len(images) != _vasp_steps(file.content):
        raise FormatError(f"{file}: is damaged: ASE reads {len(images)} of its steps; write the file again")
    if not images and problem is None:
        raise DataError(f"{file}: holds no structure; leave the file out")
    bad = check_convergence(file, file_format, len(images))
    note: tuple[str, ...] = ()
    if file_format == "runnerdata":
        images, note = _with_judged_units(images)
    for index, atoms in enumerate(images):
        origin = Origin(str(file), index)
        if index in bad:
            yield DataError(f"{origin}: {bad[index]}")
            continue
        try:
            yield _frame(atoms, origin, options, note)
        except DataError as error:
            yield error
    if problem is not None:
        raise problem


def _images(file: InputFile, file_format: str) -> list[ase.Atoms]:
    with file.on_disk() as path:
        try:
            # ASE says that it will move its reader of FHI-aims, which no user can help.
            with warnings.catch_warnings(action="ignore", category=FutureWarning):
                images = ase_read(str(path), index=":", format=file_format, do_not_split_by_at_sign=True)
        # The parsers of ASE meet damaged files with any exception, from IndexError to AssertionError.
        except Exception as error:
            reason = str(error).strip().split("\n")[0][:200]
            raise FormatError(
                f"{file}: ASE cannot read it as {file_format} ({type(error).__name__}: {reason}); "
                f"the file is cut, damaged or of another format: write it again, or give {EXPECTED}"
            ) from error
    return list(images)


def ase_format(file: InputFile) -> str:
    """Return ASE's name of the format of a file.

    Raises
    ------
    FormatError
        If the format is unknown, or may run code or change a database when it is read.
    """
    try:
        if not file.path.is_dir():
            file.content  # noqa: B018 - refuses an empty or damaged file
        with file.on_disk() as path:
            name = str(filetype(str(path)))
        if name in _BY_SUFFIX and not re.search(_BY_SUFFIX[name], file.content):
            name = next(known for known, program in _BY_SUFFIX.items() if re.search(program, file.content))
        known = ioformats.get(name)
        if known is None or not known.can_read:
            raise UnknownFileTypeError(name)
    except (OSError, UnknownFileTypeError, StopIteration) as error:
        what = "is a configuration, not structures" if file.path.suffix == ".toml" else "has no known format"
        raise FormatError(f"{file}: {what}; give {EXPECTED}") from error
    if name in _REFUSED:
        raise FormatError(f"{file}: is not read because it {_REFUSED[name]}; convert it to extended XYZ")
    return name


# ------------------------------------------------- finished, and converged
def _vasp_steps(content: bytes) -> int:
    return max(content.count(b"<calculation"), content.count(b"</calculation"))


def _incomplete(file: InputFile, file_format: str) -> FormatError | None:
    mark = _END_MARKS.get(file_format)
    if mark is None or mark in file.content[-_TAIL:]:
        return None
    failure = _NOT_CONVERGED.get(file_format)
    reason = "the file is cut or the run did not finish"
    if failure is not None and re.search(failure[0], file.text):
        reason = "the electrons did not converge"
    return FormatError(
        f"{file}: {reason}: '{mark.decode()}' is not near its end; "
        "finish the run, convert the complete steps to extended XYZ, or keep them with skip_bad = true"
    )


def _mend(file: InputFile, file_format: str) -> InputFile:
    """Return the complete steps of a file of VASP that was cut."""
    ends = {"vasp-xml": rb"</calculation>", "vasp-out": rb"energy  without entropy=.*\n"}
    end = ends.get(file_format)
    if end is None:
        return file
    found = list(re.finditer(end, file.content))
    if not found:
        raise FormatError(f"{file}: the file is cut before its first step is complete; leave it out")
    mended = InputFile(file.path.with_name(f"{file.name}.complete"))
    mended.name = file.name
    tail = b"\n</modeling>\n" if file_format == "vasp-xml" else b""
    mended.__dict__["content"] = file.content[: found[-1].end()] + tail
    return mended


def check_convergence(file: InputFile, file_format: str, n_steps: int) -> dict[int, str]:
    """Return the steps whose electrons did not converge, counted from 0, and the reason.

    Raises
    ------
    DataError
        If some did not, and it cannot be told which.
    """
    remedy = "; compute it again, or leave it out (skip_bad = true)"
    if file_format in ("vasp-out", "vasp-xml"):
        counts, limit = (_outcar_cycles if file_format == "vasp-out" else _vasprun_cycles)(file.text)
        bad = [step for step, count in enumerate(counts) if count >= limit]
        reason = f"the electrons did not converge within {limit} cycles (NELM)"
        n_known: int | None = len(counts)
    elif file_format in _NOT_CONVERGED:
        failure, begin = _NOT_CONVERGED[file_format]
        found = [match.start() for match in re.finditer(failure, file.text)]
        begins = [match.start() for match in re.finditer(begin, file.text)] if begin and found else []
        bad = [max(0, int(np.searchsorted(begins, place)) - 1) for place in found]
        reason = "the electrons did not converge, as the program says"
        n_known = len(begins) if begin else 1
    else:
        return {}
    if not bad:
        return {}
    if n_known != n_steps:
        raise DataError(f"{file}: {reason}{remedy}")
    return dict.fromkeys(bad, reason + remedy)


_CYCLE = re.compile(r"Iteration\s+(\d+)\(\s*(\d+)\)|aborting loop EDIFF was not reached")


def _outcar_cycles(text: str) -> tuple[list[int], int]:
    """Return the electronic cycles of each step of an OUTCAR, and the largest number that is allowed."""
    limit = re.search(r"\bNELM\s*=\s*(\d+)", text)
    most = int(limit[1]) if limit else 10**9
    cycles: dict[int, int] = {}
    step = 1
    for match in _CYCLE.finditer(text):
        if match[1]:
            step = int(match[1])
            cycles[step] = max(cycles.get(step, 0), int(match[2]))
        else:
            cycles[step] = max(cycles.get(step, 0), most)  # VASP says so itself
    return [cycles[key] for key in sorted(cycles)], most if most > 1 else 10**9 + 1


def _vasprun_cycles(text: str) -> tuple[list[int], int]:
    """Return the electronic cycles of each step of a vasprun.xml, and the largest number that is allowed."""
    limit = re.search(r'name="NELM"[^>]*>\s*(\d+)', text)
    most = int(limit[1]) if limit else 0
    return [step.count("<scstep") for step in text.split("<calculation")[1:]], most if most > 1 else 10**9


# ----------------------------------------------------------------------- atoms
def frame_from_atoms(atoms: ase.Atoms, index: int, options: ReadOptions) -> Frame:
    """Convert ASE atoms with the stored results of their calculator; nothing is computed.

    Raises
    ------
    DataError
        If the results belong to other positions, or a value cannot be used.

    Examples
    --------
    >>> h2 = ase.Atoms("H2", [[0, 0, 0], [0, 0, 0.74]], info={"energy": -31.7})
    >>> frame_from_atoms(h2, 0, ReadOptions()).structure.energy
    -31.7
    """
    origin = Origin(index=index)
    stored_results(atoms, origin)  # refuses those of other positions
    return _frame(atoms, origin, options)


def _frame(atoms: ase.Atoms, origin: Origin, options: ReadOptions, notes: tuple[str, ...] = ()) -> Frame:
    results = getattr(atoms.calc, "results", None) or {}
    arrays = {name: value for name, value in atoms.arrays.items() if name not in ("numbers", "positions")}
    values = {name: value for name, value in {**arrays, **atoms.info, **results}.items() if value is not None}
    found, said = choose_labels(values, options, origin)
    labels = {label: _numeric(values[name], label, origin) for label, name in found.items()}
    units, unit_keys, converted = declared_units(atoms.info, origin)
    weight, ignored = label_weight(atoms.info, origin)
    cell = units.convert("length", np.array(atoms.cell[:], dtype=np.float64))
    info, attached, constraints = attachments_of(atoms, {*OWN_NAMES, *found.values(), *unit_keys})
    structure = Structure(
        elements([str(number) for number in atoms.numbers.tolist()], origin),
        units.convert("length", atoms.positions),
        cell,
        atoms.pbc,
        energy=units.convert("energy", _scalar(labels.get("energy"), origin)),
        forces=units.convert("forces", labels.get("forces")),
        stress=stress_label(
            units.convert("stress", labels.get("stress")),
            units.convert("virial", labels.get("virial")),
            cell,
            origin,
        ),
        weight=weight,
        energy_variance=atoms.info.get("energy_variance", 0.0),
        group=str(values.get("group", values.get("config_type", ""))),
        origin=origin,
        info=info,
        arrays=attached,
        constraints=tuple(constraints),
    )
    present = [name for name in values if isinstance(name, str)]
    return make_frame(structure, present, (*notes, *said, *converted, *ignored))


def _numeric(value: Any, label: str, origin: Origin) -> Any:
    try:
        return np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError):
        raise DataError(f"{origin}: {label} is {str(value)[:40]!r}, expected numbers; correct it") from None


def _scalar(value: Any, origin: Origin) -> float | None:
    if value is None:
        return None
    if value.size != 1:
        raise DataError(f"{origin}: energy has {value.size} values, expected 1; correct it")
    return float(value.reshape(()))


def _with_judged_units(images: list[ase.Atoms]) -> tuple[list[ase.Atoms], tuple[str, ...]]:
    """Give files of n2p2 and RuNNer, which do not say their units, those that make bonds as long as bonds are.

    ASE takes them for Hartree and Bohr.
    """
    ratios = [ratio for atoms in images[:20] if (ratio := _shortest_bond(atoms)) is not None]
    if not ratios or np.median(ratios) > 0.72:
        return images, (
            "the file does not say its units: Hartree and Bohr are assumed (bonds are as long as expected)",
        )
    units = Units(1 / Hartree, 1 / Bohr, Bohr / Hartree, Bohr**3 / Hartree, 1 / Hartree)
    converted = []
    for atoms in images:
        copy = atoms.copy()
        copy.positions *= units.length
        copy.cell *= units.length
        results = dict(atoms.calc.results) if atoms.calc is not None else {}
        names = {"energy": "energy", "free_energy": "energy", "forces": "forces", "stress": "stress"}
        copy.info |= {name: getattr(units, names[name]) * results[name] for name in names if name in results}
        converted.append(copy)
    return converted, (
        "the file does not say its units: eV and Å are assumed, in Bohr its bonds would be too short",
    )


def _shortest_bond(atoms: ase.Atoms) -> float | None:
    """Return the smallest distance of two atoms over the sum of their covalent radii."""
    if len(atoms) < 2:
        return None
    distances = atoms.get_all_distances(mic=bool(atoms.pbc.any()))
    radii = covalent_radii[atoms.numbers]
    np.fill_diagonal(distances, np.inf)
    return float((distances / (radii[:, None] + radii)).min())
