"""Partition of a database into the homogeneous subsets that local surrogates are fitted to."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
from numpy.typing import NDArray

from gprann.data.structure import Dataset
from gprann.errors import ConfigError
from gprann.options import Options, option
from gprann.runtime.resources import one_blas_thread
from gprann.surrogate.kernels.atoms import AtomsKernel

Array = NDArray[np.float64]
Indices = NDArray[np.int64]
MAX_SIZE = 150
"""Default size of the largest subset."""
_SMALLEST = 0.2  # of the largest subset: no cluster is cut off with fewer structures
_ITERATIONS = 50  # of 2-means; it settles in about ten


class SubsetOptions(Options):
    """How a data set is divided into the subsets that surrogates are fitted to."""

    max_subset: int = option(
        "Most structures of a surrogate; larger sets are divided by similarity. Memory grows with its square.",
        MAX_SIZE,
        ge=1,
    )


def partition(data: Dataset, *, max_size: int = MAX_SIZE) -> list[Indices]:
    """Return the indices of the structures of each subset.

    Structures of equal composition and periodic directions belong together. A group larger than
    `max_size` is divided by similarity: halved by 2-means on the averaged standardised descriptors until no part
    is too large. No part that is cut off has less than a fifth of `max_size` structures. Nothing is random.

    Parameters
    ----------
    data : Dataset
    max_size : int
        Most structures of a subset.

    Returns
    -------
    list of ndarray of int64
        Ascending indices; groups in the order of their first structures.

    Raises
    ------
    ConfigError

    Examples
    --------
    >>> import gprann
    >>> partition(gprann.examples.hydrogen(7), max_size=4)
    [array([0, 1, 2]), array([3, 4, 5, 6])]
    """
    if max_size < 1:
        raise ConfigError(f"max_size = {max_size}: expected 1 or more structures")
    groups: defaultdict[object, list[int]] = defaultdict(list)
    for index, structure in enumerate(data):
        groups[structure.composition, tuple(structure.pbc)].append(index)
    parts: list[Indices] = []
    for listed in groups.values():
        members = np.array(listed, dtype=np.int64)
        if len(members) <= max_size:
            parts.append(members)
        else:
            parts += [members[part] for part in bisect(averaged_descriptors(data.select(members)), max_size)]
    return parts


def averaged_descriptors(data: Dataset) -> Array:
    """Return the standardised Chebyshev descriptors of each structure, averaged over the atoms of each species.

    Parameters
    ----------
    data : Dataset
        Structures of one composition.

    Returns
    -------
    ndarray, shape (n, S * D)
    """
    fingerprint = AtomsKernel().fingerprint()
    fingerprint.fit(data)
    rows = fingerprint.rows(data)
    counts = np.diff(rows.kind_rows, axis=1)
    sums = np.add.reduceat(rows.features, rows.kind_rows[:, :-1].ravel())
    return (sums / counts.reshape(-1, 1)).reshape(len(data), -1)


@one_blas_thread()
def bisect(points: Array, max_size: int) -> list[Indices]:
    """Divide points into clusters of at most `max_size`, ordered by their first points.

    Parameters
    ----------
    points : ndarray, shape (n, d)
    max_size : int

    Examples
    --------
    >>> bisect(np.array([[0.0], [9.0], [0.1], [9.1], [0.2]]), 3)
    [array([0, 2, 4]), array([1, 3])]
    """
    done, left = [], [np.arange(len(points))]
    while left:
        members = left.pop()
        if len(members) <= max_size:
            done.append(members)
            continue
        smallest = max(1, int(_SMALLEST * max_size))
        upper = _halves(points[members], smallest)
        left += [members[upper], members[~upper]]
    return sorted(done, key=lambda part: int(part[0]))


def _halves(points: Array, smallest: int) -> NDArray[np.bool_]:
    """Return which points belong to the second of two clusters with at least `smallest` points each.

    2-means (Lloyd, IEEE Trans. Inf. Theory 28, 129 (1982)) that starts from a cut across the longest axis.
    """
    centred = points - points.mean(axis=0)
    axis = np.linalg.svd(centred, full_matrices=False)[2][0]
    # The sign of a singular vector is arbitrary.
    along = centred @ (axis * np.sign(axis[np.argmax(np.abs(axis))] or 1.0))
    second = _cut(along, smallest)
    for _ in range(_ITERATIONS):
        first_mean, second_mean = points[~second].mean(axis=0), points[second].mean(axis=0)
        along = (points - 0.5 * (first_mean + second_mean)) @ (second_mean - first_mean)
        moved = _cut(along, smallest)
        if np.array_equal(moved, second):
            break
        second = moved
    return second


def _cut(along: Array, smallest: int) -> NDArray[np.bool_]:
    """Cut at zero, or as near to it as the smallest size allows; equal points in halves, in their order."""
    n = len(along)
    size = int(np.clip(np.count_nonzero(along <= 0), smallest, n - smallest)) if np.any(along) else n // 2
    second = np.ones(n, dtype=bool)
    second[np.argsort(along, kind="stable")[:size]] = False
    return second
