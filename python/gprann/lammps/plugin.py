"""The pair style, compiled for one LAMMPS and kept: `gprann lammps --build`."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from gprann.errors import GprannError
from gprann.lammps.installation import Installation, find_installation
from gprann.libraries import CInterface, c_interface

_SOURCE = Path(__file__).parent / "pair_gprann.cpp"
_RECORD = "build.json"
_FILE = "gprannplugin.so"  # LAMMPS loads files *plugin.so of the folders of LAMMPS_PLUGIN_PATH


@dataclass(frozen=True, slots=True)
class Plugin:
    """A compiled pair style.

    Attributes
    ----------
    file : Path
    installation : Installation
        The LAMMPS for which it is.
    """

    file: Path
    installation: Installation

    def instructions(self) -> str:
        """Return how a script of LAMMPS comes to know the style."""
        name = f"pair_style gprann for LAMMPS of {self.installation.name}: {self.file}"
        if not self.installation.has_plugins:
            return (
                f"{name}\nThis LAMMPS has no command plugin. Run scripts by Python:\n\n"
                "    import ctypes\n    from lammps import lammps\n\n    lmp = lammps()\n"
                f'    ctypes.CDLL("{self.file}").gprann_register(lmp.lmp)\n'
                '    lmp.file("in.lammps")\n'
            )
        if self.installation.command[0] == sys.executable:
            return f"{name}\nThe command lmp of this environment knows it: lmp -in in.lammps"
        return (
            f"{name}\nLAMMPS knows it after\n\n    export LAMMPS_PLUGIN_PATH={self.file.parent}\n\nin the shell, or "
            f"plugin load {self.file}\nin the script"
        )


def plugin_folder(installation: Installation) -> Path:
    """Return where the pair style of a LAMMPS is kept; `gprann_lammps` looks there, too."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    place = hashlib.sha256(os.path.realpath(installation.prefix).encode()).hexdigest()[:12]
    return cache / "gprann" / "lammps" / f"{installation.version}-{place}"


def build(lammps: str | os.PathLike[str] | None = None) -> Plugin:
    """Compile the pair style for a LAMMPS, unless that has been done.

    Parameters
    ----------
    lammps : path, optional
        Prefix of its installation. Default: that of this Python environment, or of the command `lmp`.

    Returns
    -------
    Plugin

    Raises
    ------
    ConfigError
        If there is no LAMMPS.
    GprannError
        If it is too old, has no headers or does not run, or the compiler is missing or fails.
    """
    installation = find_installation(lammps)
    installation.check()
    interface = c_interface()
    folder = plugin_folder(installation)
    target = folder / _FILE
    command = _compile_command(installation, interface)
    key = _key(command, interface)
    if _is_current(folder, key):
        return Plugin(target, installation)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            made = Path(scratch) / "made.so"
            _write_mpi_header(Path(scratch), installation)
            _compile([*command, f"-I{scratch}", str(_SOURCE), "-o", str(made)])
            made.replace(target)
        (folder / _RECORD).write_text(key, encoding="utf-8")
    except OSError as error:
        raise GprannError(
            f"{folder}: cannot be written ({error}); set XDG_CACHE_HOME to a folder that can"
        ) from error
    return Plugin(target, installation)


def find_built(installation: Installation) -> Path | None:
    """Return the pair style for a LAMMPS if it has been compiled from these sources, else None.

    Raises
    ------
    GprannError
        If nothing can be compiled here: there is no compiler, or no C interface.
    """
    interface = c_interface()
    folder = plugin_folder(installation)
    current = _is_current(folder, _key(_compile_command(installation, interface), interface))
    return folder / _FILE if current else None


def _is_current(folder: Path, key: str) -> bool:
    record = folder / _RECORD
    return (folder / _FILE).is_file() and record.is_file() and record.read_text(encoding="utf-8") == key


def _write_mpi_header(folder: Path, installation: Installation) -> None:
    """Write what the headers of LAMMPS need of an MPI, of which the style itself calls nothing."""
    text = (
        f"#ifndef GPRANN_MPI_H\n#define GPRANN_MPI_H\ntypedef {installation.communicator}MPI_Comm;\n#endif\n"
    )
    (folder / "mpi.h").write_text(text.replace("intMPI", "int MPI"), encoding="utf-8")


def _compile_command(installation: Installation, interface: CInterface) -> list[str]:
    given = os.environ.get("CXX", "").split()
    found = next((path for path in map(shutil.which, ("c++", "g++", "clang++")) if path), None)
    if not given and found is None:
        raise GprannError("no C++ compiler was found; install one (Debian: g++), or name it by CXX")
    return [
        *(given or [str(found)]),
        "-std=c++17",
        "-O2",
        "-shared",
        "-fPIC",
        "-fvisibility=hidden",
        *(("-undefined", "dynamic_lookup") if sys.platform == "darwin" else ()),
        installation.size_flag,
        f'-DGPRANN_LIBRARY="{interface.library}"',
        f"-DGPRANN_LAMMPS_VERSION={installation.version}",
        f'-DGPRANN_LAMMPS_NAME="{installation.name}"',
        f"-I{installation.include}",
        f"-I{interface.include}",
    ]


def _compile(command: list[str]) -> None:
    try:
        answer = subprocess.run(
            [*command, *(() if sys.platform == "darwin" else ("-ldl",))],
            capture_output=True,
            text=True,
            check=False,
        )
    except OSError as error:
        raise GprannError(
            f"the C++ compiler {command[0]} does not run ({error}); name another one by CXX"
        ) from error
    if answer.returncode:
        first = next((line for line in answer.stderr.splitlines() if "error" in line), answer.stderr.strip())
        raise GprannError(
            f"the pair style does not compile against these headers: {first}; the command was: {' '.join(command)}"
        )


def _key(command: list[str], interface: CInterface) -> str:
    sources = [_SOURCE, interface.include / "gprann.h"]
    sums = [hashlib.sha256(file.read_bytes()).hexdigest() for file in sources]
    return json.dumps({"command": command, "sources": sums}, indent=1)
