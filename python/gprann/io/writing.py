"""Writing of structures and labels."""

from __future__ import annotations

import os
import warnings
from pathlib import Path

from gprann.data.structure import Dataset, Structure
from gprann.errors import ConfigError, DataError, nearest_name
from gprann.io.checks import DataWarning
from gprann.io.extxyz import format_extxyz
from gprann.io.reading import Source, structures
from gprann.io.xsf import format_xsf
from gprann.runtime.atomic_write import WriteError, atomic_write

__all__ = ["write"]

_SUFFIXES = (".extxyz", ".xyz", ".xsf")


def write(path: str | os.PathLike[str], data: Source) -> None:
    """Write structures as extended XYZ or as ænet XSF.

    The suffix decides: `.extxyz` or `.xyz` is one file with all structures; `.xsf` is one file with one
    structure; a path without a suffix is a folder with one XSF file per structure (`structure_00000.xsf`,
    ...). Files appear complete or not at all, and every number can be read back exactly.

    Extended XYZ keeps everything: energy, forces, stress, weight, energy variance, group and origin. XSF
    keeps energy, forces and the cell of periodic structures; a warning says if more is lost.

    Parameters
    ----------
    path : str or path
    data : Dataset, Structure, ase.Atoms, or a list of these

    Raises
    ------
    ConfigError
        If the suffix is unknown.
    DataError
        If there is nothing to write, or XSF cannot express it.
    WriteError
        If the file cannot be written; an older file is left as it was.

    Examples
    --------
    >>> import tempfile
    >>> h2 = Structure(("H", "H"), [[0, 0, 0], [0, 0, 0.74]], energy=-31.7)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write(Path(folder) / "h2.extxyz", h2)
    ...     (Path(folder) / "h2.extxyz").stat().st_size > 0
    True
    """
    target = Path(path).expanduser()
    dataset = structures(data)
    if not len(dataset):
        raise DataError(f"{target}: there is no structure to write")
    suffix = "" if target.is_dir() else target.suffix.lower()
    if suffix in (".extxyz", ".xyz"):
        with atomic_write(target) as stream:
            stream.writelines(format_extxyz(dataset))
        return
    if suffix not in ("", ".xsf"):
        raise ConfigError(f"{target}: unknown suffix {suffix!r}; {nearest_name(suffix, _SUFFIXES)}")
    _warn_loss(dataset)
    if suffix == ".xsf":
        _write_xsf_file(target, dataset)
    else:
        _write_xsf_folder(target, dataset)


def _write_xsf_file(target: Path, dataset: Dataset) -> None:
    if len(dataset) > 1:
        raise DataError(
            f"{target}: an XSF file holds one structure, {len(dataset)} are given; "
            f"give a folder ('{target.with_suffix('')}') or an .extxyz file"
        )
    text = format_xsf(dataset[0])
    with atomic_write(target) as stream:
        stream.write(text)


def _write_xsf_folder(folder: Path, dataset: Dataset) -> None:
    texts = [format_xsf(structure) for structure in dataset]
    files = [folder / f"structure_{index:05d}.xsf" for index in range(len(texts))]
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise WriteError(
            f"{folder}: the folder cannot be made: {error.strerror}; choose another one"
        ) from error
    others = sorted(set(folder.glob("*.xsf")) - set(files))
    if others:
        # Whoever reads the folder later would mix the two data sets without noticing.
        raise DataError(
            f"{folder}: holds {len(others)} other XSF files ({others[0].name}, ...); choose a new folder"
        )
    for file, text in zip(files, texts, strict=True):
        with atomic_write(file, sync=len(texts) == 1) as stream:
            stream.write(text)


def _warn_loss(dataset: Dataset) -> None:
    lost = {name: sum(1 for structure in dataset if _has(structure, name)) for name in _XSF_LOSES}
    named = [f"{_XSF_LOSES[name]} ({count} structures)" for name, count in lost.items() if count]
    if named:
        warnings.warn(
            f"XSF does not keep {', '.join(named)}; write extended XYZ to keep them",
            DataWarning,
            stacklevel=3,
        )


_XSF_LOSES = {
    "stress": "stress",
    "weight": "weight",
    "energy_variance": "energy variance",
    "group": "group",
    "cell": "the cell of structures that are not periodic",
}


def _has(structure: Structure, name: str) -> bool:
    if name == "cell":
        return not structure.pbc.any() and bool(structure.cell.any())
    default = {"stress": None, "weight": 1.0, "energy_variance": 0.0, "group": ""}
    value = getattr(structure, name)
    return value is not None if default[name] is None else bool(value != default[name])
