"""Labelled structures in a file that grows by one at a time, and loses none of them when the process dies."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from pathlib import Path

import numpy as np

from gprann.data.structure import Dataset, Structure
from gprann.errors import ConfigError
from gprann.io import WriteError
from gprann.io.extxyz import format_extxyz
from gprann.io.reading import structures
from gprann.runtime.atomic_write import append_whole, write_error

_log = logging.getLogger(__name__)
_SUFFIXES = (".extxyz", ".xyz")


def geometry_key(structure: Structure) -> str:
    """Return a digest of elements, positions, cell, periodicity, charges, spins, ...; labels do not count.

    Examples
    --------
    >>> h2 = Structure(("H", "H"), [[0, 0, 0], [0, 0, 0.74]])
    >>> geometry_key(h2) == geometry_key(h2.replace(energy=-31.7)), geometry_key(h2) == geometry_key(
    ...     h2.replace(positions=h2.positions + 0.1)
    ... )
    (True, False)
    """
    state = hashlib.sha256(" ".join(structure.symbols).encode())
    for array in (structure.positions, structure.cell):
        state.update((array + 0.0).tobytes())  # + 0.0 makes -0.0 equal to 0.0
    state.update(np.asarray(structure.pbc).tobytes())
    if inputs := structure.inputs:
        state.update(json.dumps(inputs, sort_keys=True).encode())
    return state.hexdigest()


class Record:
    """Labelled structures, in the order in which they came, found again by their geometry, charges and spins.

    Every structure is on the disk before `append` returns. If the process is killed while it writes, the
    incomplete end of the file is dropped when the record is opened again.

    Parameters
    ----------
    path : path, optional
        Extended XYZ file; what it holds is read. Without one the record is kept in memory alone.

    Raises
    ------
    ConfigError
        If the suffix is not that of extended XYZ.
    DataError
        If the file holds something else than labelled structures.
    WriteError
        If the file cannot be written.

    Examples
    --------
    >>> record = Record()
    >>> h2 = Structure(("H", "H"), [[0, 0, 0], [0, 0, 0.74]], energy=-31.7)
    >>> record.append(h2)
    >>> record.find(h2.replace(energy=None)).energy, len(record.structures)
    (-31.7, 1)
    """

    def __init__(self, path: str | os.PathLike[str] | None = None) -> None:
        self.path = None if path is None else Path(path).expanduser()
        self._structures: list[Structure] = []
        self._known: dict[str, int] = {}
        if self.path is not None:
            self._open(self.path)

    def _open(self, path: Path) -> None:
        if path.suffix.lower() not in _SUFFIXES:
            raise ConfigError(
                f"{path}: results are kept as extended XYZ; give a file that ends in .extxyz or .xyz"
            )
        if not path.absolute().parent.is_dir():
            raise WriteError(f"{path}: the folder {path.parent} does not exist; make it first")
        if path.exists() and not path.is_file():
            raise WriteError(f"{path}: is not an ordinary file; give the name of a file")
        if not path.exists() or _drop_incomplete(path) == 0:
            return
        for structure in structures(path):
            self._keep(structure)
        _log.info("%s: %d labelled structures are used again", path, len(self._structures))

    def _keep(self, structure: Structure) -> None:
        self._known[geometry_key(structure)] = len(self._structures)
        self._structures.append(structure)

    @property
    def structures(self) -> Dataset:
        """All structures so far."""
        return Dataset(self._structures)

    def find(self, structure: Structure) -> Structure | None:
        """Return the labelled structure of the same geometry, bit by bit, if there is one."""
        index = self._known.get(geometry_key(structure))
        return None if index is None else self._structures[index]

    def append(self, structure: Structure) -> None:
        """Add a labelled structure, and write it to the disk.

        Raises
        ------
        WriteError
            If the file cannot be written.
        """
        if self.path is not None:
            _append_durably(self.path, "".join(format_extxyz([structure])))
        self._keep(structure)


def _append_durably(path: Path, text: str) -> None:
    try:
        with path.open("ab", buffering=0) as stream:
            append_whole(stream, text.encode("utf-8", "surrogateescape"))
            os.fsync(stream.fileno())
    except OSError as error:
        raise write_error(path, error) from error


def _drop_incomplete(path: Path) -> int:
    """Cut off an incomplete last structure, of a process that was killed; return the bytes that are left."""
    content = path.read_bytes()
    complete = _complete_bytes(content)
    if complete < len(content):
        _log.warning("%s: its last structure is incomplete and was dropped", path)
        with path.open("r+b") as stream:
            stream.truncate(complete)
            os.fsync(stream.fileno())
    return complete


def _complete_bytes(content: bytes) -> int:
    """Return where the last complete structure ends; all of it if the file is not what `append` writes."""
    lines = content.splitlines(keepends=True)
    line = end = 0
    while line < len(lines):
        head = lines[line].strip()
        if not head.isdigit():
            return len(content)  # not ours to cut: the reader says what is wrong with it
        frame = lines[line : line + int(head) + 2]
        if len(frame) < int(head) + 2 or not frame[-1].endswith(b"\n"):
            return end
        end += sum(map(len, frame))
        line += len(frame)
    return end
