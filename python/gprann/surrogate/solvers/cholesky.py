"""The solver `cholesky`: the covariance matrix K of all energies and forces, factorised.

Memory grows with the square of the observations, time with their cube.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from gprann import _core
from gprann.arrays import Array
from gprann.runtime.resources import blas_and_threads
from gprann.surrogate.gaussian_process import Factor, PosteriorMean, factorise
from gprann.surrogate.hyperparameters.criteria import Trial
from gprann.surrogate.kernels.base import Rows
from gprann.surrogate.observations import Observations
from gprann.surrogate.solvers.base import Equations, Fit, Solution, Solver, register_solver
from gprann.surrogate.solvers.posterior import DensePosterior


@register_solver
class Cholesky(Solver):
    """The covariance matrix of all energies and forces, factorised: exact, with exact standard deviations."""

    name = "cholesky"
    remedy: ClassVar[str] = "use solver = 'auto'"

    def solve(self, equations: Equations, settings: Trial) -> Solution:
        """Return the weights, see `Solver.solve`."""
        observations, rows, jacobians = equations.observe()
        K = observations.covariance(equations.length(settings))
        noise = observations.gradient_scale(K) * np.array([settings.energy_noise, settings.force_noise])
        posterior = DensePosterior(observations, factorise(K, observations.noise(*noise)))
        return _solution(posterior, rows, jacobians, noise, (len(equations.data),))

    def extend(self, before: Fit, equations: Equations, settings: Trial) -> Solution:
        """Return the weights with structures appended: the factor is extended by their rows.

        For this the matrices before and after must be held for a moment. After another solver K is factorised anew.
        """
        posterior = before.posterior if before.plan.solver.name == self.name else None
        if not isinstance(posterior, DensePosterior):
            return self.solve(equations, settings)
        noise = before.solution.noise
        observations, rows, jacobians = equations.observe()
        factor = _extend_factor(
            posterior, observations, rows, jacobians, kernel=equations.kernel(settings), noise=noise
        )
        factor_sizes = (*before.solution.factor_sizes, len(equations.data))
        return _solution(DensePosterior(observations, factor), rows, jacobians, noise, factor_sizes)

    def posterior(
        self,
        equations: Equations,
        settings: Trial,
        solution: Solution,
        factors: list[Array],
    ) -> DensePosterior:
        """Factorise, and extend as often as it was done before: the same bits, see `Solver.posterior`."""
        if factors:
            observations = equations.observe()[0]
            return DensePosterior(observations, Factor.stored(factors[0], observations.first[-1]))
        first, *others = solution.factor_sizes
        noise = solution.noise
        observations, _, _ = equations.observe(equations.data[:first])
        K = observations.covariance(equations.length(settings))
        posterior = DensePosterior(observations, factorise(K, observations.noise(*noise)))
        for count in others:
            observations, rows, jacobians = equations.observe(equations.data[:count])
            factor = _extend_factor(
                posterior, observations, rows, jacobians, kernel=equations.kernel(settings), noise=noise
            )
            posterior = DensePosterior(observations, factor)
        return posterior


def _extend_factor(
    before: DensePosterior,
    observations: Observations,
    rows: Rows,
    jacobians: list[Array],
    *,
    kernel: _core.RadialKernel,
    noise: Array,
) -> Factor:
    """Return the factor of more observations, the first of which are factorised already."""
    n, known = len(before.factor.L), len(before.observations.first) - 1
    added = np.zeros((len(observations.values) - n, len(observations.values)))
    with blas_and_threads() as (blas, threads):
        sets = rows.sets(jacobians[known:], first=known)
        _core.covariance(sets, observations.sets, kernel, blas, False, threads, added)
    added[:, n:][np.diag_indices(len(added))] += observations.noise(*noise)[n:]
    return before.factor.extend(added)


def _solution(
    posterior: DensePosterior, rows: Rows, jacobians: list[Array], noise: Array, factor_sizes: tuple[int, ...]
) -> Solution:
    values = posterior.observations.values
    alpha = posterior.factor.solve(values)
    mean = PosteriorMean.from_weights(rows, jacobians, alpha, posterior.observations.first)
    return Solution(mean, float(values @ alpha) / len(alpha), noise, {}, posterior, factor_sizes=factor_sizes)
