"""Structures one by one, of files that are larger than the memory."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TextIO

from gprann.data.structure import Dataset, Origin, Structure
from gprann.errors import FormatError
from gprann.io.extxyz import parse_frame
from gprann.io.files import check_not_cut
from gprann.io.labels import ReadOptions
from gprann.io.reading import Source, structures

_WHOLE = 64 * 2**20  # bytes of a file up to which it is read at once


def stream(source: Source) -> Iterator[Structure]:
    """Yield the structures that a source stands for, with whatever labels they have.

    Large files of extended XYZ that are not compressed are read structure by structure, others at once.

    Raises
    ------
    DataError, FormatError
        As `gprann.read` does.

    Examples
    --------
    >>> import gprann
    >>> len(list(stream(gprann.examples.hydrogen(7))))
    7
    """
    if isinstance(source, str | os.PathLike):
        path = Path(source).expanduser()
        if path.suffix in (".xyz", ".extxyz") and path.is_file() and path.stat().st_size > _WHOLE:
            yield from _structures_of(path)
        else:
            yield from structures(source)
    elif isinstance(source, Dataset):
        yield from source
    elif isinstance(source, Iterable) and not hasattr(source, "get_positions"):  # no ase.Atoms
        for item in source:
            if isinstance(item, Structure):
                yield item
            else:
                yield from stream(item)
    else:
        yield from structures(source)


def _structures_of(path: Path) -> Iterator[Structure]:
    options = ReadOptions()
    # As `InputFile` decodes: bytes that are no UTF-8 matter only where they stand in place of a number.
    with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="\n") as file:
        index = 0
        for head in file:
            if head.strip():
                yield _next(file, head.strip(), Origin(str(path), index), options)
                index += 1


def _next(file: TextIO, head: str, origin: Origin, options: ReadOptions) -> Structure:
    """Read the structure that begins with a number of atoms."""
    if not (head.isascii() and head.isdigit() and 0 < len(head) < 10 and int(head) > 0):
        raise FormatError(
            f"{origin}: should begin with its number of atoms, begins with {head[:40]!r}; the file is damaged or the "
            "structure before has more lines than atoms"
        )
    n_atoms = int(head)
    lines = [line for _, line in zip(range(n_atoms + 1), file, strict=False)]
    if len(lines) < n_atoms + 1:
        raise FormatError(
            f"{origin}: the file is cut: {n_atoms} atoms are announced, {max(len(lines) - 1, 0)} lines follow; write "
            "the file again or remove the incomplete structure"
        )
    rows = [line.split() for line in lines[1:]]
    frame = parse_frame(lines[0].rstrip("\n"), rows, origin, options)
    if not lines[-1].endswith("\n"):
        check_not_cut(rows, origin)
    return frame.structure
