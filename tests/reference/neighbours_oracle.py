"""Neighbour vectors from all pairs of atoms and all images of the cell, without any list. Slow on purpose."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from gprann.data.structure import Structure

Array = NDArray[np.float64]


def _repeats(structure: Structure, cutoff: float) -> list[range]:
    """Numbers of periods that may bring an atom of the cell within the cutoff of another, along each vector."""
    cell, pbc = structure.cell, structure.pbc
    rows = [int(k) for k in np.flatnonzero(pbc)]
    ranges = [range(1)] * 3
    if not rows:
        return ranges
    dual = np.linalg.pinv(cell[rows])  # (3, periods); 1 / |column| is the distance of the lattice planes
    spread = np.ptp(structure.positions @ dual, axis=0)
    for column, k in enumerate(rows):
        n = math.ceil(cutoff * float(np.linalg.norm(dual[:, column])) + float(spread[column])) + 1
        ranges[k] = range(-n, n + 1)
    return ranges


def image_pairs(structure: Structure, cutoff: float) -> Iterator[tuple[int, int, Array]]:
    """All (i, j, R_j + S cell - R_i) shorter than the cutoff, without the atom itself (i = j, S = 0)."""
    periods = np.array(list(itertools.product(*_repeats(structure, cutoff))))
    for i, j in itertools.product(range(len(structure)), repeat=2):
        vectors = structure.positions[j] - structure.positions[i] + periods @ structure.cell
        near = np.sqrt((vectors**2).sum(axis=1)) < cutoff
        if i == j:
            near &= periods.any(axis=1)
        for v in vectors[near]:
            yield i, j, v
