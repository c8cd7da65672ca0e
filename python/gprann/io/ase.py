"""Structures from ASE: its `Atoms` objects, and the files of other programs that it reads."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ase
import numpy as np
from ase.calculators.calculator import compare_atoms
from ase.io.formats import UnknownFileTypeError, filetype
from ase.io.formats import read as ase_read

from gprann.data.structure import Origin, Structure
from gprann.errors import DataError, FormatError
from gprann.io.labels import Frame, label_names, make_frame, stress_label
from gprann.io.text import elements

__all__ = ["ase_format", "frame_from_atoms", "read_ase"]

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
}
_TAIL = 100_000

_STRUCTURE_ARRAYS = {"numbers", "positions"}


def read_ase(path: Path, file_format: str, keys: Mapping[str, str]) -> list[Frame]:
    """Read all structures of a file in a format that ASE understands, by the name that ASE gives it.

    Raises
    ------
    FormatError
        If the file is cut or damaged.
    DataError
        If the file holds no structure, or a value that cannot be used.
    """
    _check_complete(path, file_format)
    try:
        images = ase_read(str(path), index=":", format=file_format, do_not_split_by_at_sign=True)
    # The parsers of ASE meet damaged files with any exception, from IndexError to AssertionError.
    except Exception as error:
        reason = str(error).strip().split("\n")[0][:200]
        raise FormatError(
            f"{path}: ASE cannot read it as {file_format} ({type(error).__name__}: {reason}); "
            "the file is cut, damaged or of another format: write it again, or convert it to extended XYZ"
        ) from error
    if file_format == "vasp-xml" and len(images) != _vasp_steps(path):
        raise FormatError(f"{path}: is damaged: ASE reads {len(images)} of its steps; write the file again")
    if not images:
        raise DataError(f"{path}: holds no structure; leave the file out")
    return [_frame(atoms, Origin(str(path), index), keys) for index, atoms in enumerate(images)]


def ase_format(path: Path) -> str:
    """Return ASE's name of the format of a file.

    Raises
    ------
    FormatError
        If the format is unknown, or may run code or change a database when it is read.
    """
    try:
        if path.is_file() and path.stat().st_size == 0:
            raise DataError(f"{path}: is empty; write the structures again or leave the file out")
        name = str(filetype(str(path)))
    except (OSError, UnknownFileTypeError) as error:
        raise FormatError(
            f"{path}: has no known format; give extended XYZ (.xyz, .extxyz), ænet XSF (.xsf) or the output "
            "file of a program that ASE reads"
        ) from error
    if name in _REFUSED:
        raise FormatError(f"{path}: is not read because it {_REFUSED[name]}; convert it to extended XYZ")
    return name


def _vasp_steps(path: Path) -> int:
    content = path.read_bytes()
    return max(content.count(b"<calculation"), content.count(b"</calculation"))


def _check_complete(path: Path, file_format: str) -> None:
    mark = _END_MARKS.get(file_format)
    if mark is None:
        return
    with path.open("rb") as stream:
        stream.seek(max(0, path.stat().st_size - _TAIL))
        tail = stream.read()
    if mark not in tail:
        raise FormatError(
            f"{path}: the file is cut or the run did not finish: '{mark.decode()}' is not near its end; "
            "finish the run, or convert the complete steps to extended XYZ"
        )


def frame_from_atoms(atoms: ase.Atoms, index: int, keys: Mapping[str, str]) -> Frame:
    """Convert ASE atoms with the stored results of their calculator; nothing is computed.

    Raises
    ------
    DataError
        If the results belong to other positions, or a value cannot be used.

    Examples
    --------
    >>> h2 = ase.Atoms("H2", [[0, 0, 0], [0, 0, 0.74]], info={"energy": -31.7})
    >>> frame_from_atoms(h2, 0, {}).structure.energy
    -31.7
    """
    origin = Origin(index=index)
    reference = getattr(atoms.calc, "atoms", None)
    if reference is not None and getattr(atoms.calc, "results", None):
        changed = {"positions", "numbers", "cell", "pbc"} & set(compare_atoms(reference, atoms, tol=1e-10))
        if changed:
            raise DataError(
                f"{origin}: the results of its calculator belong to other {' and '.join(sorted(changed))}; "
                "compute them again, with a calculator of its own for each structure"
            )
    return _frame(atoms, origin, keys)


def _frame(atoms: ase.Atoms, origin: Origin, keys: Mapping[str, str]) -> Frame:
    results = getattr(atoms.calc, "results", None) or {}
    arrays = {name: value for name, value in atoms.arrays.items() if name not in _STRUCTURE_ARRAYS}
    values = {name: value for name, value in {**arrays, **atoms.info, **results}.items() if value is not None}
    found = label_names(values, keys)
    labels = {label: _numeric(values[name], label, origin) for label, name in found.items()}
    cell = np.array(atoms.cell[:], dtype=np.float64)
    structure = Structure(
        elements([str(number) for number in atoms.numbers.tolist()], origin),
        atoms.positions,
        cell,
        atoms.pbc,
        energy=_scalar(labels.get("energy"), origin),
        forces=labels.get("forces"),
        stress=stress_label(labels.get("stress"), labels.get("virial"), cell, origin),
        group=str(values.get("group", values.get("config_type", ""))),
        origin=origin,
    )
    return make_frame(structure, [name for name in values if isinstance(name, str)])


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
