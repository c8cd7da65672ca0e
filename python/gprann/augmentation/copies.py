"""Synthetic structures: displaced copies labelled with energies."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from gprann.structure import Dataset, Origin, Structure

__all__ = ["displaced", "with_unique_origins"]

Array = NDArray[np.float64]


def with_unique_origins(data: Dataset) -> Dataset:
    """Return the data set with origins that tell its structures apart: copies name their parent by them."""
    origins = {(structure.origin.file, structure.origin.index) for structure in data}
    if len(origins) == len(data):
        return data
    return Dataset(
        structure.replace(origin=Origin(structure.origin.file or "data set", index, structure.origin.method))
        for index, structure in enumerate(data)
    )


def displaced(
    data: Dataset, indices: Sequence[int], method: str, make: Callable[[int, Structure], Array]
) -> Dataset:
    """Return unlabelled copies of some structures.

    Parameters
    ----------
    data : Dataset
    indices : sequence of int
    method : str
        How the copies will be labelled; kept in their origin.
    make : callable
        Gives the displacements (copies, N, 3) in Å of structure `index`.
    """
    return Dataset(
        structure.replace(
            positions=structure.positions + shift,
            energy=None,
            forces=None,
            stress=None,
            origin=Origin(structure.origin.file, structure.origin.index, method),
        )
        for index, structure in ((int(i), data[int(i)]) for i in indices)
        for shift in make(index, structure)
    )
