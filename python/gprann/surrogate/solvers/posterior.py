"""Posterior covariances: what the training set leaves of the prior ones of queries, relative to the amplitude."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from gprann import _core
from gprann.data.structure import Dataset
from gprann.runtime.resources import blas_and_threads, one_blas_thread
from gprann.surrogate.gaussian_process import Factor, Problem
from gprann.surrogate.kernels.fingerprints import Fingerprint, Rows
from gprann.surrogate.kernels.internal_coordinates import internal_directions

__all__ = [
    "DensePosterior",
    "Posterior",
    "energy_covariance",
    "energy_variance",
    "forces_std_of",
    "structure_covariance",
]

Array = NDArray[np.float64]


class Posterior(Protocol):
    """What the training set leaves of the prior covariances of queries."""

    @property
    def sets(self) -> _core.FeatureSets:
        """Structures with which queries are correlated."""

    def variance(self, prior: Array, cross: Array) -> Array:
        """Return variances (q,) from the prior ones and `cross` (q, observations), which is overwritten."""

    def covariance(self, prior: Array, cross: Array) -> Array:
        """Return covariances (q, q) from the prior ones and `cross`, which is overwritten."""


@dataclass(frozen=True, slots=True)
class DensePosterior:
    """Exact, from the factorised covariance matrix."""

    problem: Problem
    factor: Factor

    @property
    def sets(self) -> _core.FeatureSets:
        """Structures with which queries are correlated."""
        return self.problem.sets

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
    prior = np.zeros((sets.observations, sets.observations))
    cross = np.zeros((sets.observations, posterior.sets.observations))
    for other, target in ((sets, prior), (posterior.sets, cross)):
        with blas_and_threads() as (blas, threads):
            _core.covariance(sets, other, kernel, blas, False, threads, target)
    return posterior.covariance(prior, cross)


def forces_std_of(
    posterior: Posterior, fingerprint: Fingerprint, data: Dataset, rows: Rows, kernel: _core.RadialKernel
) -> list[Array]:
    """Return sqrt(diag(B V Bᵀ)), (N, 3): V of the gradients along the internal directions B of each structure."""
    result = []
    for index, (structure, jacobian) in enumerate(zip(data, fingerprint.jacobians(data), strict=True)):
        sets = rows.sets([jacobian], first=index, last=index + 1)
        variance = structure_covariance(posterior, sets, kernel)[1:, 1:]
        directions = internal_directions(structure, fingerprint.invariant)
        diagonal = np.einsum("kd,de,ke->k", directions, variance, directions)
        result.append(np.sqrt(np.maximum(diagonal, 0.0)).reshape(-1, 3))
    return result
