"""The extrapolation guard: how far the environment of an atom lies outside those of the training set."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from gprann import _core
from gprann.arrays import Array, Indices

_RIDGE = 1e-4  # of the largest variance: chosen on azobenzene and Si, between 1e-6 and 1e-2 it changes little
_EDGE = 0.999  # share of the held-out atoms that lie inside
_LANE = 8  # the width of the core's lanes
_UNSEEN = 1e6  # grade of atoms of elements without a training environment
STOP = 2.0
"""Grade at which simulations stop and warnings are given unless another is asked for."""


@dataclass(frozen=True, slots=True, eq=False)
class Guard:
    """Grades of environments: 1 is the edge of what the training set has shown.

    The grade of an atom of element t with the standardised descriptor g is its Mahalanobis distance to the training
    environments of the element, in units of the distance that one in a thousand held-out atoms exceeds,

        grade = sqrt((g - m_t)^T (C_t + r I)^-1 (g - m_t)) / d_t = norm(T_t^T g + b_t),

    with mean m, covariance C, and a ridge r of 1e-4 of the largest variance.

    Attributes
    ----------
    factors : ndarray, shape (S, D, R)
        T; R is D rounded up to a multiple of 8, the rest zeros.
    offset : ndarray, shape (S, R)
        b.
    reach : mapping of str to float or None, Å
        By element: the random displacement (standard deviation of each coordinate) of all atoms of training structures
        at which half of the atoms have a grade above 1; None where 0.5 Å are not enough.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> features, kinds = rng.normal(size=(1000, 3)), np.zeros(1000, np.int32)
    >>> guard = Guard.fit(features, kinds, np.arange(1000) % 5, 1)
    >>> grades = guard.grades(np.array([[0.0, 0.0, 0.0], [0.0, 9.0, 0.0]]), np.zeros(2, np.int32))
    >>> bool(grades[0] < 0.1), bool(grades[1] > 2.0)
    (True, True)
    """

    factors: Array
    offset: Array
    reach: Mapping[str, float | None] = field(default_factory=dict)

    @classmethod
    def fit(cls, features: Array, kinds: NDArray[np.int32], folds: Indices, n_species: int) -> Guard:
        """Fit a guard to the environments of a training set.

        Parameters
        ----------
        features : ndarray, shape (n_atoms, D)
            Standardised descriptors.
        kinds : ndarray of int32, shape (n_atoms,)
            Species of each atom.
        folds : ndarray of int64, shape (n_atoms,)
            Atoms with the same number are held out together to find the edge.
        n_species : int
        """
        return cls.of(ArraySample(features, kinds, folds), n_species, features.shape[1])

    @classmethod
    def of(cls, sample: Sample, n_species: int, size: int) -> Guard:
        """Fit a guard to environments of `size` components, of which sums and distances are known."""
        rank = -(-size // _LANE) * _LANE
        factors, offset = np.zeros((n_species, size, rank)), np.zeros((n_species, rank))
        for kind in range(n_species):
            if not sample.folds_of(kind):
                offset[kind, 0] = _UNSEEN
                continue
            mean, whiten, edge = _whiten(sample, kind)
            factors[kind, :, :size] = whiten / edge
            offset[kind] = -mean @ factors[kind]
        return cls(factors, offset)

    @classmethod
    def from_arrays(
        cls, arrays: Mapping[str, Array], document: Mapping[str, Any], n_species: int, size: int
    ) -> Guard | None:
        """Return the guard of a model file; None if it was written before there were guards.

        Raises
        ------
        ValueError
            If the arrays do not fit the descriptor.
        """
        if "guard_factors" not in arrays:
            return None
        factors, offset = arrays["guard_factors"], arrays["guard_offset"]
        rank = factors.shape[-1]
        if rank == 0 or rank % _LANE:
            raise ValueError(
                f"'guard_factors' has shape {factors.shape}, expected a multiple of {_LANE} in the end"
            )
        for name, array, shape in (
            ("guard_factors", factors, (n_species, size, rank)),
            ("guard_offset", offset, (n_species, rank)),
        ):
            if array.shape != shape:
                raise ValueError(f"'{name}' has shape {array.shape}, expected {shape}")
        reach = document.get("reach", {})
        return cls(factors, offset, {str(key): None if r is None else float(r) for key, r in reach.items()})

    @property
    def arrays(self) -> dict[str, Array]:
        """The arrays of a model file."""
        return {"guard_factors": self.factors, "guard_offset": self.offset}

    @property
    def core(self) -> _core.Guard:
        """The compiled view."""
        return _core.Guard(self.factors, self.offset)

    def grades(self, features: Array, kinds: NDArray[np.int32]) -> Array:
        """Return the grades, shape (n_atoms,), of standardised descriptors (n_atoms, D)."""
        return np.asarray(np.linalg.norm(self.whiten(features, kinds), axis=1))

    def whiten(self, features: Array, kinds: NDArray[np.int32]) -> Array:
        """Return the vectors T^T g + b, shape (n_atoms, R), whose lengths are the grades."""
        result = np.zeros((len(features), self.factors.shape[2]))
        for kind in np.unique(kinds):
            own = kinds == kind
            result[own] = features[own] @ self.factors[kind] + self.offset[kind]
        return result


class Sums(NamedTuple):
    """Number, sum and sum of the outer products of some vectors."""

    number: float
    first: Array
    second: Array

    @classmethod
    def of(cls, x: Array) -> Sums:
        """Return the sums of vectors (n, D)."""
        return cls(len(x), x.sum(axis=0), x.T @ x)

    def minus(self, other: Sums) -> Sums:
        """Return the sums without those of some of the vectors."""
        return Sums(self.number - other.number, self.first - other.first, self.second - other.second)

    def whiten(self) -> tuple[Array, Array, float]:
        """Return mean, matrix (D, D) that makes the regularised covariance 1, and the trace of what it makes of C."""
        mean = self.first / self.number
        variances, axes = np.linalg.eigh(self.second / self.number - np.outer(mean, mean))
        variances = np.maximum(variances, 0.0)
        regular = variances + max(_RIDGE * variances[-1], 1e-12)
        return mean, axes / np.sqrt(regular), float(np.sum(variances / regular))


class Sample(Protocol):
    """The training environments, of which each element is asked for sums and distances alone."""

    def folds_of(self, kind: int) -> list[int]:
        """Return the folds in which an element has atoms; none if there are no atoms of it."""

    def sums(self, kind: int, fold: int | None) -> Sums:
        """Return the sums of the environments of an element, of one fold or of all."""

    def distances(self, kind: int, fold: int | None, mean: Array, whiten: Array) -> Array:
        """Return the lengths of (x - mean) whiten of the same environments."""


class ArraySample(NamedTuple):
    """Environments in one array.

    Attributes
    ----------
    features : ndarray, shape (n_atoms, D)
    kinds : ndarray of int32, shape (n_atoms,)
    numbers : ndarray of int64, shape (n_atoms,)
        Folds.
    """

    features: Array
    kinds: NDArray[np.int32]
    numbers: Indices

    def folds_of(self, kind: int) -> list[int]:
        """Return the folds in which an element has atoms."""
        return list(map(int, np.unique(self.numbers[self.kinds == kind])))

    def sums(self, kind: int, fold: int | None) -> Sums:
        """Return the sums of the environments of an element, of one fold or of all."""
        return Sums.of(self.some(kind, fold))

    def distances(self, kind: int, fold: int | None, mean: Array, whiten: Array) -> Array:
        """Return the lengths of (x - mean) whiten of the same environments."""
        return np.asarray(np.linalg.norm((self.some(kind, fold) - mean) @ whiten, axis=1))

    def some(self, kind: int, fold: int | None) -> Array:
        """Return the environments of an element, of one fold or of all."""
        own = self.kinds == kind
        result: Array = self.features[own if fold is None else own & (self.numbers == fold)]
        return result


def _whiten(sample: Sample, kind: int) -> tuple[Array, Array, float]:
    """Return mean, whitening matrix (D, D) and the edge of the environments of one element."""
    total = sample.sums(kind, None)
    mean, whiten, freedom = total.whiten()
    distances = []
    for fold in sample.folds_of(kind):
        held = sample.sums(kind, fold)
        if held.number < total.number:
            middle, matrix, _ = total.minus(held).whiten()
            distances.append(sample.distances(kind, fold, middle, matrix))
    if not distances:  # a single fold
        distances = [sample.distances(kind, None, mean, whiten)]
    # Where there are few atoms the typical distance of a normal distribution.
    edge = max(float(np.quantile(np.concatenate(distances), _EDGE)), float(np.sqrt(freedom)), 1e-3)
    return mean, whiten, edge
