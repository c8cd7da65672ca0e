"""Posterior covariances of queries, relative to the amplitude: the prior ones less what the training set explains."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from gprann import _core
from gprann.arrays import Array
from gprann.data.structure import Dataset
from gprann.runtime.resources import blas_and_threads, one_blas_thread
from gprann.surrogate.gaussian_process import Factor
from gprann.surrogate.kernels.base import Fingerprint, Rows
from gprann.surrogate.kernels.internal_coordinates import internal_directions
from gprann.surrogate.observations import Observations

_NEGLIGIBLE = 1e-9  # reduction of the summed variance, relative to its start, that is none


class Posterior(Protocol):
    """Gives posterior from prior covariances of queries."""

    @property
    def sets(self) -> _core.FeatureSets:
        """Structures with which queries are correlated."""

    def variance(self, prior: Array, cross: Array) -> Array:
        """Return variances (q,) from the prior ones and `cross` (q, observations), which is overwritten."""

    def covariance(self, prior: Array, cross: Array) -> Array:
        """Return covariances (q, q) from the prior ones and `cross`, which is overwritten."""

    def weights_of(self, cross: Array) -> Array:
        """Return z for one row k of covariances, (observations,): the variance is the prior one less k z."""

    @property
    def factors(self) -> list[Array]:
        """Cholesky factors, for a file."""


@runtime_checkable
class WithRows(Protocol):
    """A posterior that knows a quicker way to the covariances of a structure with its own rows."""

    def cross(self, fingerprint: Fingerprint, own: Dataset, kernel: _core.RadialKernel) -> Array:
        """Return cov(observations of a structure, sets), (1 + m, observations); `own` holds the structure alone."""


@dataclass(frozen=True, slots=True)
class DensePosterior:
    """Exact posterior covariances, from the factorised covariance matrix of the observations."""

    observations: Observations
    factor: Factor

    @property
    def sets(self) -> _core.FeatureSets:
        """Structures with which queries are correlated."""
        return self.observations.sets

    def variance(self, prior: Array, cross: Array) -> Array:
        """Return variances (q,)."""
        self.factor.half_solve(cross)
        # Pairwise sums: what they leave of the prior's variance is too little for the rounding of plain ones.
        variance: Array = prior - np.square(cross, out=cross).sum(axis=1)
        return variance

    def covariance(self, prior: Array, cross: Array) -> Array:
        """Return covariances (q, q)."""
        self.factor.half_solve(cross)
        return prior - cross @ cross.T

    def weights_of(self, cross: Array) -> Array:
        """Return K⁻¹ k."""
        return self.factor.solve(cross)

    @property
    def factors(self) -> list[Array]:
        """Cholesky factors, for a file."""
        return [self.factor.L]


@one_blas_thread()
def energy_variance(posterior: Posterior, sets: _core.FeatureSets, kernel: _core.RadialKernel) -> Array:
    """Return the variances of the energies of queries, shape (q,)."""
    prior = _core.energy_variance(sets, kernel)
    cross = np.zeros((len(prior), posterior.sets.observations))
    with blas_and_threads() as (blas, threads):
        _core.energy_covariance(sets, posterior.sets, kernel, blas, threads, cross)
    return posterior.variance(prior, cross)


@one_blas_thread()
def energy_covariance(
    posterior: Posterior, sets: _core.FeatureSets, kernel: _core.RadialKernel, count: int
) -> Array:
    """Return the covariances of the energies of `count` queries, without Jacobians; shape (count, count)."""
    prior = np.zeros((count, count))
    cross = np.zeros((count, posterior.sets.observations))
    for other, target in ((sets, prior), (posterior.sets, cross)):
        with blas_and_threads() as (blas, threads):
            _core.energy_covariance(sets, other, kernel, blas, threads, target)
    return posterior.covariance(prior, cross)


@one_blas_thread()
def structure_covariance(posterior: Posterior, sets: _core.FeatureSets, kernel: _core.RadialKernel) -> Array:
    """Return the covariances of energies and gradients along the directions of the queries' Jacobians."""
    cross = _covariance(sets, posterior.sets, kernel)
    return posterior.covariance(_covariance(sets, sets, kernel), cross)


def _covariance(sets: _core.FeatureSets, others: _core.FeatureSets, kernel: _core.RadialKernel) -> Array:
    block = np.zeros((sets.observations, others.observations))
    with blas_and_threads() as (blas, threads):
        _core.covariance(sets, others, kernel, blas, False, threads, block)
    return block


def forces_std_of(
    posterior: Posterior, fingerprint: Fingerprint, data: Dataset, rows: Rows, kernel: _core.RadialKernel
) -> list[Array]:
    """Return sqrt(diag(B V Bᵀ)), (N, 3): V of the gradients along the internal directions B of each structure."""
    result = []
    for index, structure in enumerate(data):
        # One by one: those of large structures take hundreds of megabytes.
        sets = rows.sets(fingerprint.jacobians(Dataset([structure])), first=index, last=index + 1)
        if isinstance(posterior, WithRows):
            cross = posterior.cross(fingerprint, Dataset([structure]), kernel)
            variance = posterior.covariance(_covariance(sets, sets, kernel), cross)[1:, 1:]
        else:
            variance = structure_covariance(posterior, sets, kernel)[1:, 1:]
        directions = internal_directions(structure, fingerprint.invariant)
        diagonal = np.einsum("kd,de,ke->k", directions, variance, directions)
        result.append(np.sqrt(np.maximum(diagonal, 0.0)).reshape(-1, 3))
    return result


def representatives(rows: Rows, kernel: _core.RadialKernel, count: int) -> NDArray[np.int64]:
    """Return the indices of `count` structures, each the least certain given the energies of those before.

    This is the pivoted Cholesky factorisation of the covariances of the energies (Harbrecht, Peters and
    Schneider, Appl. Numer. Math. 62, 428 (2012)).
    """
    n = len(rows.kind_rows)
    sets = rows.sets()
    variance = _core.energy_variance(sets, kernel)
    smallest = 1e-10 * variance.max()
    factor = np.zeros((min(count, n), n))
    chosen: list[int] = []
    for step in range(min(count, n)):
        pivot = int(np.argmax(variance))
        if variance[pivot] <= smallest:  # the others follow from those chosen, to rounding: any will do
            rest = np.setdiff1d(np.arange(n), chosen)
            chosen += rest[np.linspace(0, len(rest) - 1, count - step).astype(int)].tolist()
            break
        own = rows.sets(first=pivot, last=pivot + 1)
        column = np.zeros((n, 1))
        with blas_and_threads() as (blas, threads):
            _core.covariance(sets, own, kernel, blas, False, threads, column)
        column[:, 0] -= factor[:step, pivot] @ factor[:step]
        factor[step] = column[:, 0] / np.sqrt(variance[pivot])
        variance = np.maximum(variance - factor[step] ** 2, 0.0)
        chosen.append(pivot)
        variance[chosen] = 0.0
    return np.sort(np.array(chosen, dtype=np.int64))


def greedy_variance_reduction(
    covariance: Array,
    count: int,
    *,
    noise: Array,
    threshold: float = 0.0,
    progress: Callable[[int], object] | None = None,
) -> tuple[NDArray[np.int64], Array]:
    """Return the rows to observe, in turn, such that each lowers the sum of all variances most.

    Observing row j with noise variance s_j lowers the sum by sum_i C_ij² / (C_jj + s_j), and leaves
    C - c_j c_jᵀ / (C_jj + s_j).

    Parameters
    ----------
    covariance : ndarray, shape (n, n)
        It is not changed.
    count : int
        Rows at most.
    noise : ndarray, shape (n,)
        Variances.
    threshold : float
        Rows whose standard deviation is not larger are not taken.
    progress : callable, optional
        Called with the number of rows taken since the last call.

    Returns
    -------
    rows : ndarray of int64, shape (k,), k <= count
    left : ndarray, shape (k,)
        Sum of the variances after each of them.

    Examples
    --------
    >>> covariance = np.array([[2.0, 1.9, 0.0], [1.9, 2.0, 0.0], [0.0, 0.0, 1.0]])
    >>> greedy_variance_reduction(covariance, 2, noise=np.zeros(3))[0].tolist()
    [0, 2]
    """
    C = np.array(covariance)
    free = np.ones(len(C), dtype=bool)
    rows: list[int] = []
    left: list[float] = []
    start = float(np.trace(C))
    while len(rows) < count:
        variance = np.diagonal(C)
        takable = free & (variance > threshold**2)
        gain = np.full(len(C), -np.inf)
        np.divide(np.einsum("ij,ij->j", C, C), variance + noise, out=gain, where=takable)
        best = int(np.argmax(gain))
        if not gain[best] > _NEGLIGIBLE * start:
            break
        column = C[:, best] / np.sqrt(C[best, best] + noise[best])
        C -= np.outer(column, column)
        free[best] = False
        rows.append(best)
        left.append(max(float(np.trace(C)), 0.0))
        if progress is not None:
            progress(1)
    return np.array(rows, dtype=np.int64), np.array(left)
