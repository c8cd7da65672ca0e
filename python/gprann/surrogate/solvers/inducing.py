"""Approximation of a covariance matrix by the rows of a few representative structures.

K ≈ Q = K_nm (K_mm + noise)⁻¹ K_mn, with m the observations of the representatives, so that with L Lᵀ = K_mm + noise
and V = L⁻¹ K_mn

    (Q + D)⁻¹ = D⁻¹ - D⁻¹ Vᵀ (I + V D⁻¹ Vᵀ)⁻¹ V D⁻¹,      D the noise of all observations.

This is the subset of regressors with the variance of the deterministic training conditional (Quiñonero-Candela and
Rasmussen, J. Mach. Learn. Res. 6, 1939 (2005)). V is made block by block and not kept: memory is O(m²).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gprann import _core
from gprann.data.structure import Dataset
from gprann.runtime.resources import blas_and_threads
from gprann.surrogate.gaussian_process import Factor, Problem, Radial, factorise
from gprann.surrogate.kernels.fingerprints import Fingerprint, Rows
from gprann.surrogate.observations import build_problem
from gprann.surrogate.posterior_mean import PosteriorMean

__all__ = ["InducingApproximation", "representatives"]

Array = NDArray[np.float64]
BLOCK_ROWS = 1024
"""Observations of the training set whose covariances with the representatives are formed at a time."""


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


@dataclass(frozen=True, slots=True)
class InducingApproximation:
    """The factors L of K_mm + noise and B of I + V D⁻¹ Vᵀ.

    Attributes
    ----------
    problem : Problem
        Of the representatives.
    rows, jacobians
        Their features and Jacobians.
    half : Factor, (m, m)
        L.
    inner : Factor, (m, m)
        Of I + V D⁻¹ Vᵀ.
    projected : ndarray, shape (m,)
        V D⁻¹ y.
    """

    problem: Problem
    rows: Rows
    jacobians: list[Array]
    half: Factor
    inner: Factor
    projected: Array

    @classmethod
    def build(
        cls,
        fingerprint: Fingerprint,
        data: Dataset,
        chosen: NDArray[np.int64],
        *,
        mean: float,
        length: float,
        noise: Array,
        radial: Radial,
    ) -> InducingApproximation:
        """Approximate the covariance matrix of `data` by its structures `chosen`.

        Parameters
        ----------
        fingerprint : Fingerprint
        data : Dataset
            Training set, n structures.
        chosen : ndarray of int64
            Indices of the representatives.
        mean : float, eV
        length : float
            Kernel length.
        noise : ndarray, shape (2,)
            Variances of energies and gradients relative to the amplitude.
        radial : {'squared_exponential', 'matern52'}

        Raises
        ------
        FactorisationError
            If the covariance matrix of the representatives is singular.
        """
        problem, rows, jacobians = build_problem(fingerprint, data.select(chosen), mean, radial)
        half = factorise(problem.covariance(length), problem.noise(*noise))
        m = len(problem.values)
        inner, projected = np.zeros((m, m)), np.zeros(m)
        kernel = problem.kernel(length)
        for block in _blocks(data):
            part, _, _ = build_problem(fingerprint, block, mean, radial)
            V = np.zeros((len(part.values), m))
            with blas_and_threads() as (blas, threads):
                _core.covariance(part.sets, problem.sets, kernel, blas, False, threads, V)
                half.half_solve(V)
                scale = 1.0 / np.sqrt(part.noise(*noise))
                V *= scale[:, None]
                _core.add_gram(blas, V, inner, threads)
                projected += (scale * part.values) @ V
        return cls(problem, rows, jacobians, half, factorise(inner, np.ones(m)), projected)

    @property
    def weights(self) -> Array:
        """Weights of the representatives' observations in the mean: L⁻ᵀ (I + V D⁻¹ Vᵀ)⁻¹ V D⁻¹ y."""
        inner = np.atleast_2d(self.inner.solve(self.projected))
        return self.half.half_solve_transposed(inner).reshape(-1)

    @property
    def amplitude2(self) -> float:
        """Amplitude s_f² of largest likelihood of the representatives' observations, eV²."""
        values = self.problem.values
        return float(values @ self.half.solve(values)) / len(values)

    def fold(self, weights: Array) -> PosteriorMean:
        """Return the representatives folded with weights of their observations."""
        return PosteriorMean.from_weights(self.rows, self.jacobians, weights, self.problem.first)

    # As a posterior (see `solvers.Posterior`): k_** - |V_*|² + |B⁻¹ V_*|²
    @property
    def sets(self) -> _core.FeatureSets:
        """Structures with which queries are correlated."""
        return self.problem.sets

    def variance(self, prior: Array, cross: Array) -> Array:
        """Return prior - |V_*|² + |B⁻¹ V_*|² for the rows of `cross`, which is overwritten."""
        self.half.half_solve(cross)
        explained = np.square(cross).sum(axis=1)
        self.inner.half_solve(cross)
        variance: Array = prior - explained + np.square(cross, out=cross).sum(axis=1)
        return variance

    def covariance(self, prior: Array, cross: Array) -> Array:
        """Return the same for all pairs of rows of `cross`, which is overwritten."""
        self.half.half_solve(cross)
        explained = cross @ cross.T
        self.inner.half_solve(cross)
        return prior - explained + cross @ cross.T

    def left_out(self, part: Problem, kernel: _core.RadialKernel, noise: Array) -> tuple[Array, Array]:
        """Return errors of a structure of the training set without its observations, and their covariance.

        With C = V_sᵀ (I + V D⁻¹ Vᵀ)⁻¹ V_s the covariance that its observations s are left with, and r their
        residual, these are, by Woodbury's formula, (I - C D⁻¹)⁻¹ r and (I - C D⁻¹)⁻¹ C.

        Parameters
        ----------
        part : Problem
            Its observations, o of them, less the mean of the training set.
        kernel : RadialKernel
        noise : ndarray, shape (2,)
            Variances of energies and gradients relative to the amplitude.

        Returns
        -------
        errors : ndarray, shape (o,)
        covariance : ndarray, shape (o, o)
            Without the noise of the observations.
        """
        size = len(part.values)
        prior, V = np.zeros((size, size)), np.zeros((size, len(self.projected)))
        with blas_and_threads() as (blas, threads):
            for other, target in ((part.sets, prior), (self.sets, V)):
                _core.covariance(part.sets, other, kernel, blas, False, threads, target)
            self.half.half_solve(V)
            residual = part.values - V @ self.inner.solve(self.projected)
            explained = V @ V.T
            root = np.sqrt(part.noise(*noise))
            largest = np.linalg.norm(explained / np.outer(root, root), 2)
            self.inner.half_solve(V)
            share, modes = np.linalg.eigh(V @ V.T / np.outer(root, root))
            # Below one by more than rounding shows: other observations than its own only lower them.
            left = 1.0 - np.clip(share, 0.0, largest / (1.0 + largest))
            errors = root * (modes @ ((modes.T @ (residual / root)) / left))
            own = root[:, None] * modes
            return errors, prior - explained + (own * ((1.0 - left) / left)) @ own.T


def _blocks(data: Dataset) -> Iterator[Dataset]:
    size = max(1, BLOCK_ROWS // (3 * int(data.n_atoms.max())))
    for begin in range(0, len(data), size):
        yield data[begin : begin + size]
