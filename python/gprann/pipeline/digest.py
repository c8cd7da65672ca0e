"""Digests: two results with the same digest come from the same data and options."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import numpy as np

from gprann.data.attachments import plain
from gprann.data.structure import Dataset

__all__ = ["data_digest", "digest", "file_digest"]


def digest(*parts: Any) -> str:
    """Return the digest of plain data.

    Examples
    --------
    >>> digest({"copies": 36}) == digest({"copies": 36}), digest({"copies": 36}) == digest({"copies": 35})
    (True, False)
    """
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def data_digest(data: Dataset) -> str:
    """Return the digest of everything about a data set but the names of its files.

    Examples
    --------
    >>> import gprann
    >>> data = gprann.examples.hydrogen(7)
    >>> data_digest(data) == data_digest(gprann.examples.hydrogen(7)), data_digest(data) == data_digest(data[:6])
    (True, False)
    """
    state = hashlib.sha256()
    files: dict[str, int] = {}
    for structure in data:
        origin = structure.origin
        # Which structures come from one file matters (copies belong to their parents), its name does not.
        number = files.setdefault(origin.file, len(files))
        labels = [structure.energy, structure.weight, structure.energy_variance, structure.group]
        known = [structure.symbols, structure.pbc.tolist(), *labels, number, origin.index, origin.method]
        state.update(json.dumps(known).encode())
        # What is attached goes into the files that a run writes; constraints and charges reach the reference.
        attached = (structure.info, structure.arrays, structure.constraints)
        if any(attached):
            state.update(json.dumps([plain(part) for part in attached], sort_keys=True).encode())
        for array in (structure.positions, structure.cell, structure.forces, structure.stress):
            state.update(b"-" if array is None else np.ascontiguousarray(array).tobytes())
    return state.hexdigest()


def file_digest(path: str | os.PathLike[str]) -> str:
    """Return the digest of the content of a file."""
    with Path(path).open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
