"""The solver `inducing`: a covariance matrix that is approximated by its rows for representative structures.

K ≈ Q = K_nm (K_mm + noise)⁻¹ K_mn, with m the observations of the representatives, so that with L Lᵀ = K_mm + noise
and V = L⁻¹ K_mn

    (Q + D)⁻¹ = D⁻¹ - D⁻¹ Vᵀ (I + V D⁻¹ Vᵀ)⁻¹ V D⁻¹,      D the noise of all observations.

This is the subset of regressors with the variance of the deterministic training conditional (Quiñonero-Candela and
Rasmussen, J. Mach. Learn. Res. 6, 1939 (2005)). V is made block by block and not kept: memory is O(m²).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gprann import _core
from gprann.arrays import Array
from gprann.data.structure import Dataset
from gprann.runtime.resources import blas_and_threads
from gprann.surrogate.gaussian_process import Factor, PosteriorMean, factorise
from gprann.surrogate.hyperparameters.criteria import LeftOut, Trial
from gprann.surrogate.kernels.base import Fingerprint, Rows
from gprann.surrogate.observations import Observations
from gprann.surrogate.solvers.base import (
    Equations,
    Fit,
    Solution,
    register_solver,
)
from gprann.surrogate.solvers.posterior import representatives
from gprann.surrogate.solvers.representatives import WithRepresentatives

_MOST_INDUCING = 10000  # observations of the representatives
BLOCK_ROWS = 1024
"""Observations of the training set whose covariances with the representatives are formed at a time."""


@dataclass(frozen=True, slots=True)
class InducingApproximation:
    """The factors L of K_mm + noise and B of I + V D⁻¹ Vᵀ.

    Attributes
    ----------
    observations : Observations
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

    observations: Observations
    rows: Rows
    jacobians: list[Array]
    half: Factor
    inner: Factor
    projected: Array

    @classmethod
    def build(
        cls,
        equations: Equations,
        settings: Trial,
        chosen: NDArray[np.int64],
        noise: Array,
        factors: Sequence[Array] = (),
    ) -> InducingApproximation:
        """Approximate the covariance matrix of a training set by its structures `chosen`.

        Parameters
        ----------
        equations : Equations
        settings : Trial
        chosen : ndarray of int64
            Indices of the representatives.
        noise : ndarray, shape (2,)
            Variances of energies and gradients relative to the amplitude.
        factors : sequence of ndarray
            L, B and V D⁻¹ y, if they are known.

        Raises
        ------
        FactorisationError
            If the covariance matrix of the representatives is singular.
        """
        observations, rows, jacobians = equations.observe(equations.data.select(chosen))
        if factors:
            L, B, known = factors
            m = observations.first[-1]
            if known.shape != (m,):
                raise ValueError(f"the projected values have shape {known.shape}, expected {(m,)}")
            return cls(observations, rows, jacobians, Factor.stored(L, m), Factor.stored(B, m), known)
        length, kernel = equations.length(settings), equations.kernel(settings)
        half = factorise(observations.covariance(length), observations.noise(*noise))
        m = len(observations.values)
        inner, projected = np.zeros((m, m)), np.zeros(m)
        for block in _blocks(equations.data):
            part, _, _ = equations.observe(block)
            V = np.zeros((len(part.values), m))
            with blas_and_threads() as (blas, threads):
                _core.covariance(part.sets, observations.sets, kernel, blas, False, threads, V)
                half.half_solve(V)
                scale = 1.0 / np.sqrt(part.noise(*noise))
                V *= scale[:, None]
                _core.add_gram(blas, V, inner, threads)
                projected += (scale * part.values) @ V
        return cls(observations, rows, jacobians, half, factorise(inner, np.ones(m)), projected)

    @property
    def weights(self) -> Array:
        """Weights of the representatives' observations in the mean: L⁻ᵀ (I + V D⁻¹ Vᵀ)⁻¹ V D⁻¹ y."""
        inner = np.atleast_2d(self.inner.solve(self.projected))
        return self.half.half_solve_transposed(inner).reshape(-1)

    @property
    def amplitude2(self) -> float:
        """Amplitude s_f² of largest likelihood of the representatives' observations, eV²."""
        values = self.observations.values
        return float(values @ self.half.solve(values)) / len(values)

    @property
    def mean(self) -> PosteriorMean:
        """The posterior mean."""
        return PosteriorMean.from_weights(self.rows, self.jacobians, self.weights, self.observations.first)

    @property
    def factors(self) -> list[Array]:
        """L, B and V D⁻¹ y, for a file."""
        return [self.half.L, self.inner.L, self.projected]

    # As a posterior (see `Posterior`): k_** - |V_*|² + |B⁻¹ V_*|²
    @property
    def sets(self) -> _core.FeatureSets:
        """Structures with which queries are correlated."""
        return self.observations.sets

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

    def weights_of(self, cross: Array) -> Array:
        """Return L⁻ᵀ (V - B⁻ᵀ B⁻¹ V) with V = L⁻¹ k, see `Posterior.weights_of`."""
        half = self.half.half_solve(np.array(np.atleast_2d(cross), order="C"))
        left = half - np.atleast_2d(self.inner.solve(half))
        return self.half.half_solve_transposed(left).reshape(-1)

    def leave_out(self, part: Observations, kernel: _core.RadialKernel, noise: Array) -> tuple[Array, Array]:
        """Return errors of a structure of the training set without its observations, and their covariance.

        With C = V_sᵀ (I + V D⁻¹ Vᵀ)⁻¹ V_s the covariance that its observations s are left with, and r their
        residual, these are, by Woodbury's formula, (I - C D⁻¹)⁻¹ r and (I - C D⁻¹)⁻¹ C.

        Parameters
        ----------
        part : Observations
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


@register_solver
class Inducing(WithRepresentatives):
    """An approximation by representative structures: less accurate, and linear in the number of structures."""

    name = "inducing"

    def solve(self, equations: Equations, settings: Trial) -> Solution:
        """Return the weights of the representatives, see `Solver.solve`."""
        noise, rows = equations.noise(settings), equations.fingerprint.rows(equations.data)
        count = self.inducing or 1
        chosen = representatives(rows, equations.kernel(settings), count)
        found = InducingApproximation.build(equations, settings, chosen, noise)
        return Solution(found.mean, found.amplitude2, noise, {"inducing": count}, found, chosen, sparse=True)

    def posterior(
        self,
        equations: Equations,
        settings: Trial,
        solution: Solution,
        factors: list[Array],
    ) -> InducingApproximation:
        """Return the approximation again, see `Solver.posterior`."""
        return InducingApproximation.build(
            equations, settings, solution.representatives, solution.noise, factors
        )

    def leave_out(self, fit: Fit, chosen: NDArray[np.int64]) -> LeftOut:
        """Return the errors of structures held out one by one."""
        parts = list(_left_out_of(fit, chosen))
        return LeftOut(
            np.array([errors[0] for errors, _ in parts]),
            [errors[1:] for errors, _ in parts],
            [fit.amplitude2 * block for _, block in parts],
        )

    def left_out_variance(self, fit: Fit, chosen: NDArray[np.int64]) -> Array:
        """Return the variances of the energies of structures held out one by one."""
        return np.array([block[0, 0] for _, block in _left_out_of(fit, chosen)])

    def wanted_observations(self, data: Dataset, fingerprint: Fingerprint) -> float:  # noqa: ARG002
        """Return the observations of the representatives, where memory does not matter."""
        return float(_MOST_INDUCING)

    def representative_bytes(self, m: int, data: Dataset, features: float) -> float:
        """Return the bytes of two factors, and of one block of covariances with its Jacobians."""
        atoms = int(data.n_atoms.max())
        block = (8.0 * m + 2 * 8.0 * features * atoms) * (BLOCK_ROWS + 3 * atoms)
        return 2 * 8.0 * m**2 + block


def _left_out_of(fit: Fit, chosen: NDArray[np.int64]) -> Iterator[tuple[Array, Array]]:
    """Yield errors and relative covariances of structures held out one by one."""
    approximation = fit.posterior
    if not isinstance(approximation, InducingApproximation):
        raise TypeError(f"{fit.plan.solver.name}: not a fit by inducing structures")
    for index in chosen.tolist():
        part, _, _ = fit.equations.observe(fit.equations.data[index : index + 1])
        yield approximation.leave_out(part, fit.kernel, fit.solution.noise)


def _blocks(data: Dataset) -> Iterator[Dataset]:
    size = max(1, BLOCK_ROWS // (3 * int(data.n_atoms.max())))
    for begin in range(0, len(data), size):
        yield data[begin : begin + size]
