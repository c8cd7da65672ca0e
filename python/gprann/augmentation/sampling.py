"""Synthetic structures: displaced copies without labels."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from gprann.data.structure import Dataset, Origin
from gprann.errors import DataError
from gprann.io.reading import Source, structures

__all__ = ["displaced", "references", "with_unique_origins"]

Array = NDArray[np.float64]


def references(source: Source) -> Dataset:
    """Return the structures that are to be copied, with origins that tell them apart.

    Raises
    ------
    DataError
        If there are none.
    """
    data = structures(source)
    if len(data) == 0:
        raise DataError("there are no structures to copy; give some")
    return with_unique_origins(data)


def with_unique_origins(data: Dataset) -> Dataset:
    """Return the data set with origins that tell its structures apart: copies name their parent by them."""
    origins = {(structure.origin.file, structure.origin.index) for structure in data}
    if len(origins) == len(data):
        return data
    return Dataset(
        structure.replace(origin=_numbered(structure.origin, index)) for index, structure in enumerate(data)
    )


def _numbered(origin: Origin, index: int) -> Origin:
    """Return an origin with another number; messages go on to name the file and the number in it."""
    place = origin.place or (str(replace(origin, method="reference")) if origin.file else "")
    return Origin(origin.file or "data set", index, origin.method, place)


def displaced(data: Dataset, method: str, shifts: Iterable[Array]) -> Dataset:
    """Return unlabelled copies of structures, with charges, spins, constraints and whatever else is not derived.

    Parameters
    ----------
    data : Dataset
    method : str
        How the copies will be labelled; kept in their origin.
    shifts : iterable of ndarray
        For each structure the displacements (copies, N, 3) in Å.
    """
    return Dataset(
        structure.moved(structure.positions + shift).replace(
            origin=Origin(structure.origin.file, structure.origin.index, method)
        )
        for structure, own in zip(data, shifts, strict=True)
        for shift in own
    )
