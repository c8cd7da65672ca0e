"""Writing of structures and labels."""

from __future__ import annotations

import os
from pathlib import Path

from gprann.errors import DataError
from gprann.io.formats import format_to_write
from gprann.io.reading import Source, structures

__all__ = ["write"]


def write(path: str | os.PathLike[str], data: Source) -> None:
    """Write structures as extended XYZ, as ænet XSF, or in another format that has been registered.

    The suffix decides: `.extxyz` or `.xyz` is one file with all structures; `.xsf` is one file with one
    structure; a path without a suffix is a folder with one XSF file per structure (`structure_00000.xsf`,
    ...). Files appear complete or not at all, and every number can be read back exactly.

    Extended XYZ keeps everything: energy, forces, stress, weight, energy variance, group, origin, `info`, `arrays` and
    constraints, under the names of ASE. XSF keeps energy, forces and the cell of periodic structures; a warning says if
    more is lost.

    Parameters
    ----------
    path : str or path
    data : Dataset, Structure, ase.Atoms, or a list of these

    Raises
    ------
    ConfigError
        If the suffix is unknown.
    DataError
        If there is nothing to write, or the format cannot express it.
    WriteError
        If the file cannot be written; an older file is left as it was.

    Examples
    --------
    >>> import gprann, tempfile
    >>> from pathlib import Path
    >>> h2 = gprann.Structure(("H", "H"), [[0, 0, 0], [0, 0, 0.74]], energy=-31.7)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     gprann.write(Path(folder) / "h2.extxyz", h2)
    ...     (Path(folder) / "h2.extxyz").stat().st_size > 0
    True
    """
    target = Path(path).expanduser()
    dataset = structures(data)
    if not len(dataset):
        raise DataError(f"{target}: there is no structure to write")
    format_to_write(target)(target, dataset)
