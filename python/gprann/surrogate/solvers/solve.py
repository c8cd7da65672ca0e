"""Solvers of the surrogate's linear equations behind one interface.

`cholesky` factorises the covariance matrix K, which takes memory with the square of the observations and time with
their cube. `conjugate_gradient` solves the same equations without K. `inducing` keeps all observations but lets
only the covariances with representative structures count.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from gprann import _core
from gprann.data.structure import Dataset
from gprann.errors import FactorisationError
from gprann.runtime.resources import blas_and_threads
from gprann.surrogate.gaussian_process import Factor, Problem, Radial, factorise, radial_kernel
from gprann.surrogate.hyperparameters.search import describe
from gprann.surrogate.hyperparameters.settings import (
    Fixed,
    Hyperparameters,
    Settings,
    gradient_scale,
    with_fixed,
)
from gprann.surrogate.kernels.fingerprints import Fingerprint, Rows
from gprann.surrogate.observations import build_problem
from gprann.surrogate.posterior_mean import PosteriorMean
from gprann.surrogate.solvers.conjugate_gradients import (
    CovarianceOperator,
    ReducedSystem,
    conjugate_gradients,
)
from gprann.surrogate.solvers.inducing import InducingApproximation, representatives
from gprann.surrogate.solvers.plan import Plan
from gprann.surrogate.solvers.posterior import DensePosterior, Posterior

__all__ = [
    "Eliminated",
    "Equations",
    "Fit",
    "Solution",
    "conjugate_gradient",
    "extend_solution",
    "solve",
    "solve_raising_noise",
]

Array = NDArray[np.float64]
_log = logging.getLogger(__name__)
_MAX_ITERATIONS = 1000
_RAISE = 3.0  # factor on noises for which the matrix is singular in double precision


@dataclass(frozen=True, slots=True)
class Equations:
    """Training set whose weights are sought.

    Attributes
    ----------
    fingerprint : Fingerprint
        Fitted.
    data : Dataset
    mean : float, eV
    radial : {'squared_exponential', 'matern52'}
    """

    fingerprint: Fingerprint
    data: Dataset
    mean: float
    radial: Radial

    def length(self, settings: Settings) -> float:
        """Return the kernel length in the units of the features."""
        return settings.length * self.fingerprint.spread

    def kernel(self, settings: Settings) -> _core.RadialKernel:
        """Return the radial kernel."""
        return radial_kernel(self.radial, self.length(settings), shift=self.fingerprint.shift)

    def problem(self, part: Dataset | None = None) -> tuple[Problem, Rows, list[Array]]:
        """Return the observations of the training set, or of a part of it, with features and Jacobians."""
        return build_problem(self.fingerprint, self.data if part is None else part, self.mean, self.radial)

    def noise(self, settings: Settings) -> Array:
        """Return the variances of energies and gradients relative to the amplitude, without K; shape (2,)."""
        length = self.length(settings)
        total, count, energies = 0.0, 0, 0.0
        for index in range(len(self.data)):
            problem, _, _ = self.problem(self.data[index : index + 1])
            diagonal = np.diagonal(problem.covariance(length))
            total, count, energies = (
                total + diagonal[1:].sum(),
                count + len(diagonal) - 1,
                energies + diagonal[0],
            )
        scale = total / count if total > 0 else energies / len(self.data)
        return float(scale) * np.array([settings.energy_noise, settings.force_noise])


@dataclass(frozen=True, slots=True)
class Eliminated:
    """Representative structures, whose observations conjugate gradients eliminate.

    Attributes
    ----------
    chosen : ndarray of int64
        Their indices in the training set, ascending.
    rows : Rows
    posterior : DensePosterior
        What they leave uncertain.
    noise : ndarray, shape (2,)
        In their covariance matrix.
    """

    chosen: NDArray[np.int64]
    rows: Rows
    posterior: DensePosterior
    noise: Array

    @classmethod
    def choose(cls, equations: Equations, rows: Rows, settings: Settings, count: int) -> Eliminated:
        """Choose `count` structures of a training set with these rows, and factorise.

        Raises
        ------
        FactorisationError
            If their covariance matrix is singular.
        """
        noise = equations.noise(settings)
        chosen = representatives(rows, equations.kernel(settings), count)
        problem, own_rows, _ = equations.problem(equations.data.select(chosen))
        factor = factorise(problem.covariance(equations.length(settings)), problem.noise(*noise))
        return cls(chosen, own_rows, DensePosterior(problem, factor), noise)

    def within(self, kept: NDArray[np.int64]) -> Eliminated | None:
        """Return them in a part of the training set, its indices ascending; None if one of them is not in it."""
        if not np.isin(self.chosen, kept).all():
            return None
        return replace(self, chosen=np.searchsorted(kept, self.chosen))


@dataclass(frozen=True, slots=True)
class Solution:
    """Weights of the training set, ready for predictions.

    Attributes
    ----------
    folded : PosteriorMean
    posterior : Posterior
    amplitude2 : float, eV²
    noise : ndarray, shape (2,)
        Variances of energies and gradients relative to the amplitude.
    plan : Plan
        By which it was found.
    numbers : dict
        What the solver has to tell, plain data.
    eliminated : Eliminated, optional
        By conjugate gradients.
    """

    folded: PosteriorMean
    posterior: Posterior
    amplitude2: float
    noise: Array
    plan: Plan
    numbers: dict[str, int | float]
    eliminated: Eliminated | None = None

    @property
    def converged(self) -> bool:
        """Whether the tolerance was reached, where there is one."""
        return bool(self.numbers.get("converged", True))

    @property
    def facts(self) -> dict[str, str | int | float]:
        """Solver, reason and what it has to tell, plain data."""
        return {"solver": self.plan.solver, "solver_reason": self.plan.reason, **self.numbers}


@dataclass(frozen=True, slots=True)
class Fit:
    """Equations with the hyperparameters for which they were solved, and their solution.

    Attributes
    ----------
    equations : Equations
    settings : Settings
        Noises perhaps raised (see `solve_raising_noise`).
    fixed : tuple of length, energy noise and force noise
        Those that were given, None for the others.
    solution : Solution
    """

    equations: Equations
    settings: Settings
    fixed: Fixed
    solution: Solution

    @property
    def kernel(self) -> _core.RadialKernel:
        """Radial kernel of the features."""
        return self.equations.kernel(self.settings)

    @property
    def amplitude2(self) -> float:
        """Amplitude s_f², eV²; any fits if all energies and forces are equal."""
        return self.solution.amplitude2 if self.solution.amplitude2 > 0 else 1e-12

    @property
    def hyperparameters(self) -> Hyperparameters:
        """Hyperparameters in physical units."""
        amplitude, energy, force = np.sqrt(self.amplitude2 * np.array([1.0, *self.solution.noise]))
        return Hyperparameters(self.settings.length, float(amplitude), float(energy), float(force))


def solve(equations: Equations, settings: Settings, plan: Plan) -> Solution:
    """Solve the equations by the solver of the plan.

    Raises
    ------
    FactorisationError
        If the covariance matrix is singular for these settings.
    """
    solvers: dict[str, Callable[[Equations, Settings, Plan], Solution]] = {
        "cholesky": _cholesky,
        "conjugate_gradient": conjugate_gradient,
        "inducing": _inducing,
    }
    return solvers[plan.solver](equations, settings, plan)


def solve_raising_noise(
    equations: Equations,
    settings: Settings,
    plan: Plan,
    fixed: Fixed,
    quicker: Callable[[], Solution] | None = None,
) -> tuple[Solution, Settings]:
    """Solve; noises that are not `fixed` are raised where double precision needs it.

    Where there is a `quicker` way for the settings as they are, from another solution, it is tried first.

    Raises
    ------
    FactorisationError
        If the covariance matrix is singular for the noises given, or for any.
    """
    while True:
        try:
            return quicker() if quicker is not None else solve(equations, settings, plan), settings
        except FactorisationError:
            free = settings.force_noise if fixed[2] is None else settings.energy_noise
            if (fixed[1] and fixed[2]) or free > 1e-3:
                raise
            quicker = None
            raised = Settings(settings.length, _RAISE * settings.energy_noise, _RAISE * settings.force_noise)
            settings = with_fixed(raised, fixed)
            _log.warning("the covariance matrix is singular in double precision; now %s", describe(settings))


def _cholesky(equations: Equations, settings: Settings, plan: Plan) -> Solution:
    problem, rows, jacobians = equations.problem()
    K = problem.covariance(equations.length(settings))
    noise = gradient_scale(problem, K) * np.array([settings.energy_noise, settings.force_noise])
    factor = factorise(K, problem.noise(*noise))
    return _dense_solution(problem, rows, jacobians, factor=factor, noise=noise, plan=plan)


def _dense_solution(
    problem: Problem, rows: Rows, jacobians: list[Array], *, factor: Factor, noise: Array, plan: Plan
) -> Solution:
    alpha = factor.solve(problem.values)
    folded = PosteriorMean.from_weights(rows, jacobians, alpha, problem.first)
    amplitude2 = float(problem.values @ alpha) / len(alpha)
    return Solution(folded, DensePosterior(problem, factor), amplitude2, noise, plan, {})


def extend_solution(solution: Solution, equations: Equations, settings: Settings, plan: Plan) -> Solution:
    """Return the solution for a training set to which structures were appended, hyperparameters kept.

    A dense factor is extended by the new rows; for this both matrices must be held for a moment. The other solvers
    solve again.

    Parameters
    ----------
    solution : Solution
        For the structures before.
    equations : Equations
        Of all structures, those before first.
    settings : Settings
    plan : Plan
        For all structures.

    Raises
    ------
    FactorisationError
        If the covariance matrix has become singular.
    """
    posterior = solution.posterior
    dense = solution.plan.solver == plan.solver == "cholesky"
    if not (dense and isinstance(posterior, DensePosterior)):
        return solve(equations, settings, plan)
    n = len(posterior.factor.L)
    problem, rows, jacobians = equations.problem()
    before = len(posterior.problem.first) - 1
    added = np.zeros((len(problem.values) - n, len(problem.values)))
    kernel = equations.kernel(settings)
    with blas_and_threads() as (blas, threads):
        sets = rows.sets(jacobians[before:], first=before)
        _core.covariance(sets, problem.sets, kernel, blas, False, threads, added)
    added[:, n:][np.diag_indices(len(added))] += problem.noise(*solution.noise)[n:]
    factor = posterior.factor.extended(added)
    return _dense_solution(problem, rows, jacobians, factor=factor, noise=solution.noise, plan=plan)


def _inducing(equations: Equations, settings: Settings, plan: Plan) -> Solution:
    fingerprint, data, noise = equations.fingerprint, equations.data, equations.noise(settings)
    chosen = representatives(fingerprint.rows(data), equations.kernel(settings), plan.inducing)
    approximation = InducingApproximation.build(
        fingerprint,
        data,
        chosen,
        mean=equations.mean,
        length=equations.length(settings),
        noise=noise,
        radial=equations.radial,
    )
    return Solution(
        approximation.fold(approximation.weights),
        approximation,
        approximation.amplitude2,
        noise,
        plan,
        {"inducing": plan.inducing},
    )


def conjugate_gradient(
    equations: Equations, settings: Settings, plan: Plan, eliminated: Eliminated | None = None
) -> Solution:
    """Solve the equations without the covariance matrix.

    Parameters
    ----------
    equations : Equations
    settings : Settings
    plan : Plan
    eliminated : Eliminated, optional
        Representatives of these equations that are known, for these settings. Default: they are chosen.

    Raises
    ------
    FactorisationError
        If the covariance matrix is singular for these settings.
    """
    fingerprint, data, kernel = equations.fingerprint, equations.data, equations.kernel(settings)
    rows = fingerprint.rows(data)
    if eliminated is None:
        eliminated = Eliminated.choose(equations, rows, settings, plan.inducing)
    noise, posterior = eliminated.noise, eliminated.posterior
    operator = CovarianceOperator(rows, data, fingerprint.invariant, kernel, noise)
    reduced = ReducedSystem(
        operator,
        eliminated.rows,
        data,
        eliminated.chosen,
        factor=posterior.factor,
        invariant=fingerprint.invariant,
    )
    values = operator.values(equations.mean)
    size = float(np.linalg.norm(values))
    found = conjugate_gradients(
        reduced.product,
        lambda residual: residual / operator.noise,
        reduced.right_side(values),
        tolerance=plan.tolerance * size,
        max_iterations=_MAX_ITERATIONS,
    )
    solution = reduced.complete(found.solution, values)
    residual = float(np.linalg.norm(values - operator.product(solution))) / (size or 1.0)
    _report(plan, found.iterations, residual, found.converged)
    amplitude2 = float(values @ solution) / operator.n_observations
    numbers: dict[str, int | float] = {
        "inducing": plan.inducing,
        "iterations": found.iterations,
        "residual": residual,
        "converged": found.converged,
    }
    return Solution(operator.fold(solution), posterior, amplitude2, noise, plan, numbers, eliminated)


def _report(plan: Plan, iterations: int, residual: float, converged: bool) -> None:
    name = f"conjugate gradients {plan.purpose}".rstrip()
    outcome = (
        f"residual {residual:.1e} of the observations after {iterations} iterations, {plan.inducing} structures "
        "eliminated"
    )
    if converged:
        _log.info("%s: %s", name, outcome)
        return
    _log.warning(
        "%s did not reach the tolerance %g: %s; %s may be less accurate: allow more memory or inducing structures, "
        "or raise force_noise",
        name,
        plan.tolerance,
        outcome,
        "the factors on standard deviations" if plan.purpose else "predictions",
    )
