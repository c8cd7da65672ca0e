"""Selection of structures to label by the extrapolation guard of a potential, which needs no committee."""

from __future__ import annotations

import logging
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cholesky, solve_triangular

from gprann.active.select import atom_features
from gprann.arrays import Array
from gprann.data.structure import Dataset
from gprann.errors import ConfigError, DataError, check_whole
from gprann.io.reading import Source, structures
from gprann.potential import Potential

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class GradeSelection:
    """Structures chosen to be labelled next, the most unknown first.

    Attributes
    ----------
    structures : Dataset
    indices : ndarray of int64, shape (k,)
        Their numbers among the candidates.
    grades : ndarray, shape (k,)
        Largest extrapolation grade of each, of the potential as it is.
    grades_left : ndarray, shape (k,)
        Largest grade of all candidates once this structure and those before it belong to the training set.
    """

    structures: Dataset
    indices: NDArray[np.int64]
    grades: Array
    grades_left: Array


def select_by_grade(
    candidates: Source, potential: Potential, count: int, *, least: float = 1.0
) -> GradeSelection:
    """Select the structures with environments that lie farthest outside the training set, and outside each other.

    The structure whose largest grade is the highest is taken, and its environments z, whitened by the guard, count as
    known from then on: the square of a grade is z^T A^-1 z, A = I + the sum of z z^T over the environments taken. So
    of several copies of one unknown structure only one is taken. This is the greedy maximisation of the determinant of
    A, D-optimality (Podryabinkin and Shapeev, Comput. Mater. Sci. 140, 171 (2017), do so with linear models).

    Parameters
    ----------
    candidates : Dataset, or anything that `gprann.read` takes
        Structures, with or without labels.
    potential : Potential
        With a guard; a single network will do.
    count : int
        Structures wanted.
    least : float
        Structures whose grade is below it, once those before are known, are not taken: there may be fewer than wanted.

    Returns
    -------
    GradeSelection

    Raises
    ------
    ConfigError
        If the potential has no guard, or an option is impossible.
    DataError
        If there are no candidates, or the potential does not know one of their elements.

    Examples
    --------
    >>> import gprann
    >>> data = gprann.examples.hydrogen(41)
    >>> descriptor = gprann.ChebyshevDescriptor(["H"], angular_order=None)
    >>> potential = gprann.train(data[10:20], descriptor, hidden=(3,), iterations=2, starts=1)
    >>> chosen = gprann.select_by_grade(data, potential, 5)
    >>> bool(chosen.grades[0] > 1), bool(chosen.grades_left[-1] < chosen.grades[0])
    (True, True)
    """
    check_whole(1, count=count)
    if not 0 < least < np.inf:
        raise ConfigError(f"least = {least}: expected a positive grade; 1 is the edge of the training set")
    if potential.guard is None:
        raise ConfigError("the potential has no extrapolation guard; give it one by gprann.add_guard")
    data = structures(candidates)
    if len(data) == 0:
        raise DataError("there are no candidates to select from; give structures")
    vectors, kinds, owner = _whiten(data, potential)
    squares = np.einsum("ik,ik->i", vectors, vectors)
    first = _largest(squares, owner, len(data))
    factors = {int(kind): np.eye(vectors.shape[1]) for kind in np.unique(kinds)}
    open_ones = np.ones(len(data), bool)
    chosen: list[int] = []
    left: list[float] = []
    grades = first
    while len(chosen) < min(count, len(data)):
        best = int(np.argmax(np.where(open_ones, grades, -1.0)))
        if grades[best] < least:
            _log.info(
                "%d structures selected: the others lie within grade %g of what is known then",
                len(chosen),
                least,
            )
            break
        chosen.append(best)
        open_ones[best] = False
        for kind in np.unique(kinds[owner == best]):
            added = vectors[(owner == best) & (kinds == kind)]
            known = factors[int(kind)] = factors[int(kind)] + added.T @ added
            own = kinds == kind
            whitened = solve_triangular(cholesky(known, lower=True), vectors[own].T, lower=True)
            squares[own] = np.einsum("ki,ki->i", whitened, whitened)
        grades = _largest(squares, owner, len(data))
        left.append(float(grades.max()))
    indices = np.array(chosen, dtype=np.int64)
    return GradeSelection(data.select(indices), indices, first[indices], np.array(left))


def _whiten(data: Dataset, potential: Potential) -> tuple[Array, NDArray[np.int32], NDArray[np.int64]]:
    """Return z of all atoms, whose length is the grade, with their species and structures."""
    guard = potential.guard
    assert guard is not None
    vectors, kinds, sizes = [], [], []
    for values, own, lengths in atom_features(data, potential):
        vectors.append(guard.whiten(values, own))
        kinds.append(own)
        sizes.append(lengths)
    owner = np.repeat(np.arange(len(data)), np.concatenate(sizes))
    return np.concatenate(vectors), np.concatenate(kinds), owner


def _largest(squares: Array, owner: NDArray[np.int64], n: int) -> Array:
    """Return the largest grade of each structure, shape (n,)."""
    result = np.zeros(n)
    np.maximum.at(result, owner, squares)
    return np.sqrt(result)
