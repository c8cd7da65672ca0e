"""Solvers of the surrogate's linear equations behind one interface, and the choice among them.

`cholesky` factorises the covariance matrix K, which takes memory with the square of the observations and time with
their cube. `conjugate_gradient` solves the same equations without K. `inducing` keeps all observations but lets
only the covariances with representative structures count.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from gprann import _core
from gprann.errors import ConfigError, FactorisationError, nearest_name
from gprann.memory import GIB, available_memory
from gprann.parallel import n_threads, one_blas_thread, scipy_blas
from gprann.structure import Dataset
from gprann.surrogate.fingerprints import Fingerprint, Rows
from gprann.surrogate.folded import FoldedTraining
from gprann.surrogate.gaussian_process import Factor, Problem, assemble, factorise
from gprann.surrogate.hyperparameters import Settings, gradient_scale
from gprann.surrogate.inducing import BLOCK_ROWS, InducingApproximation, representatives
from gprann.surrogate.matrix_free import CovarianceOperator, ReducedSystem, conjugate_gradients
from gprann.surrogate.search import Fixed, describe, with_fixed

__all__ = [
    "Equations",
    "Plan",
    "Posterior",
    "Solution",
    "SolverName",
    "SolverOptions",
    "extend_solution",
    "memory_needed",
    "plan_solver",
    "solve",
    "solve_raising_noise",
]

Array = NDArray[np.float64]
SolverName = Literal["auto", "cholesky", "conjugate_gradient", "inducing"]
_log = logging.getLogger(__name__)
_SOLVERS = ("auto", "cholesky", "conjugate_gradient", "inducing")
_MAX_ITERATIONS = 1000
_BYTES_PER_ATOM = 8192.0  # neighbour lists (about 60 of 28 bytes) and a dozen arrays of 36 features
_PRODUCT_FLOPS = 14.0  # for each feature of a pair of rows, see covariance_product.hpp
_LARGEST_PRODUCT = 1e12
"""Operations of one K x (half a minute on one thread) beyond which a hundred of them take too long."""
_LEAST_ELIMINATED, _MOST_ELIMINATED = 3000, 15000  # observations of the representatives
_ELIMINATION = 30.0
"""Their elimination may take the time of this many products."""
_MOST_INDUCING = 10000  # observations of the inducing structures


@dataclass(frozen=True, slots=True)
class SolverOptions:
    """How to solve the equations.

    Attributes
    ----------
    solver : {'auto', 'cholesky', 'conjugate_gradient', 'inducing'}
    memory : float, optional, GiB
        Budget of the fit; default: what is available.
    tolerance : float
        Of conjugate gradients: largest residual relative to the observations.
    inducing : int, optional
        Number of representative structures: those that `inducing` keeps the covariances of, and those that
        `conjugate_gradient` eliminates first.

    Raises
    ------
    ConfigError
        If an option is misspelt or impossible.
    """

    solver: SolverName = "auto"
    memory: float | None = None
    tolerance: float = 1e-4
    inducing: int | None = None

    def __post_init__(self) -> None:
        if self.solver not in _SOLVERS:
            raise ConfigError(f"solver = '{self.solver}': {nearest_name(self.solver, _SOLVERS)}")
        if self.memory is not None and not (np.isfinite(self.memory) and self.memory > 0):
            raise ConfigError(f"memory = {self.memory}: expected a positive number of GiB")
        if not 0 < self.tolerance < 1:
            raise ConfigError(f"tolerance = {self.tolerance}: expected a number between 0 and 1")
        if self.inducing is not None and self.inducing < 1:
            raise ConfigError(f"inducing = {self.inducing}: expected 1 or more structures")

    @property
    def budget(self) -> float:
        """Memory that may be used, GiB."""
        available = available_memory()
        return min(value for value in (self.memory, available, float("inf")) if value is not None)


@dataclass(frozen=True, slots=True)
class Plan:
    """The solver that was chosen, and why.

    Attributes
    ----------
    solver : {'cholesky', 'conjugate_gradient', 'inducing'}
    reason : str
    inducing : int
        Number of representative structures; of no meaning to `cholesky`.
    tolerance : float
    """

    solver: SolverName
    reason: str
    inducing: int
    tolerance: float


def memory_needed(data: Dataset, solver: SolverName = "cholesky", inducing: int = 1) -> float:
    """Return the memory in GiB that a fit takes: one or two square matrices, Jacobians, neighbour lists.

    Parameters
    ----------
    data : Dataset
    solver : {'cholesky', 'conjugate_gradient', 'inducing', 'auto'}
        With `auto`, that of the covariance matrix.
    inducing : int
        Number of representative structures of the other solvers.

    Examples
    --------
    >>> import gprann
    >>> round(memory_needed(gprann.examples.hydrogen(7)), 3)
    0.0
    """
    if solver in ("cholesky", "auto"):
        rows = sum(3 * len(structure) + 1 for structure in data)
        return (8.0 * rows**2 + sum(8.0 * 36 * 3 * len(structure) ** 2 for structure in data)) / GIB
    atoms = int(data.n_atoms.max())
    m = inducing * (3 * atoms + 1)
    jacobians = inducing * 8.0 * 36 * 3 * atoms**2
    matrices = 8.0 * m**2
    if solver == "inducing":  # a second factor, and one block of covariances with its Jacobians
        matrices += 8.0 * m**2 + (8.0 * m + 2 * 8.0 * 36 * atoms) * (BLOCK_ROWS + 3 * atoms)
    return (matrices + jacobians + _BYTES_PER_ATOM * float(data.n_atoms.sum())) / GIB


def product_operations(rows: Rows) -> float:
    """Return the floating-point operations of one K x without K."""
    of_kinds = np.diff(rows.kind_rows, axis=1).sum(axis=0).astype(float)
    return float(0.5 * _PRODUCT_FLOPS * rows.features.shape[1] * (of_kinds @ of_kinds))


def plan_solver(data: Dataset, rows: Rows, options: SolverOptions) -> Plan:
    """Choose the solver by the memory budget, and by time where memory leaves a choice.

    Raises
    ------
    ConfigError
        If the solver asked for does not fit into the memory.
    """
    budget, dense = options.budget, memory_needed(data)
    solver, work = options.solver, product_operations(rows)
    n_observations = int((3 * data.n_atoms + 1).sum())
    matrix = f"the covariance matrix of {n_observations} observations takes {dense:.2g} of {budget:.2g} GiB"
    reason = "asked for"
    if solver == "auto" and dense <= budget:
        solver, reason = "cholesky", matrix
    elif solver == "auto":
        solver = "conjugate_gradient" if work <= _LARGEST_PRODUCT else "inducing"
        reason = f"{matrix}; a product without it takes {work:.1g} operations"
    per_structure = 3 * int(data.n_atoms.max()) + 1
    wanted = float(_MOST_INDUCING)
    if solver == "conjugate_gradient":
        cheap = max(
            np.cbrt(3 * _ELIMINATION * work), n_observations / 4
        )  # a quarter always pays in iterations
        wanted = float(np.clip(cheap, _LEAST_ELIMINATED, _MOST_ELIMINATED))
    count = min(options.inducing or max(1, int(wanted) // per_structure), len(data))
    while count > 1 and options.inducing is None and memory_needed(data, solver, count) > budget:
        count -= 1
    needed = memory_needed(data, solver, count)
    if needed > budget:
        remedy = "use solver = 'auto'" if solver == "cholesky" else "fit fewer structures"
        raise ConfigError(
            f"solver '{solver}' needs about {needed:.2g} GiB for {len(data)} structures, {budget:.2g} GiB may be "
            f"used; raise memory, or {remedy}"
        )
    return Plan(solver, reason, count, options.tolerance)


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
        variance: Array = prior - np.einsum("qk,qk->q", cross, cross)
        return variance

    def covariance(self, prior: Array, cross: Array) -> Array:
        """Return covariances (q, q)."""
        self.factor.half_solve(cross)
        return prior - cross @ cross.T


@dataclass(frozen=True, slots=True)
class Equations:
    """Training set whose weights are sought.

    Attributes
    ----------
    fingerprint : Fingerprint
        Fitted.
    data : Dataset
    mean : float, eV
    """

    fingerprint: Fingerprint
    data: Dataset
    mean: float

    def noise(self, settings: Settings) -> Array:
        """Return the variances of energies and gradients relative to the amplitude, without K; shape (2,)."""
        length = settings.length * self.fingerprint.spread
        total, count, energies = 0.0, 0, 0.0
        for index in range(len(self.data)):
            problem, _, _ = assemble(self.fingerprint, self.data[index : index + 1], self.mean)
            diagonal = np.diagonal(problem.covariance(length))
            total, count, energies = (
                total + diagonal[1:].sum(),
                count + len(diagonal) - 1,
                energies + diagonal[0],
            )
        scale = total / count if total > 0 else energies / len(self.data)
        return float(scale) * np.array([settings.energy_noise, settings.force_noise])


@dataclass(frozen=True, slots=True)
class Solution:
    """Weights of the training set, ready for predictions.

    Attributes
    ----------
    folded : FoldedTraining
    posterior : Posterior
    amplitude2 : float, eV²
    noise : ndarray, shape (2,)
        Variances of energies and gradients relative to the amplitude.
    facts : dict
        What the solver has to tell, plain data.
    """

    folded: FoldedTraining
    posterior: Posterior
    amplitude2: float
    noise: Array
    facts: dict[str, str | int | float]


def solve(equations: Equations, settings: Settings, plan: Plan) -> Solution:
    """Solve the equations by the solver of the plan.

    Raises
    ------
    FactorisationError
        If the covariance matrix is singular for these settings.
    """
    solvers: dict[str, Callable[[Equations, Settings, Plan], Solution]] = {
        "cholesky": _cholesky,
        "conjugate_gradient": _conjugate_gradient,
        "inducing": _inducing,
    }
    return solvers[plan.solver](equations, settings, plan)


def solve_raising_noise(
    equations: Equations, settings: Settings, plan: Plan, fixed: Fixed, before: Solution | None = None
) -> tuple[Solution, Settings]:
    """Solve; noises that are not `fixed` are raised where double precision needs it.

    With the solution `before` of the first structures, that is extended.

    Raises
    ------
    FactorisationError
        If the covariance matrix is singular for the noises given, or for any.
    """
    while True:
        try:
            if before is None:
                return solve(equations, settings, plan), settings
            return extend_solution(before, equations, settings, plan), settings
        except FactorisationError:
            free = settings.force_noise if fixed[2] is None else settings.energy_noise
            if (fixed[1] and fixed[2]) or free > 1e-3:
                raise
            before = None
            raised = Settings(settings.length, 10 * settings.energy_noise, 10 * settings.force_noise)
            settings = with_fixed(raised, fixed)
            _log.warning("the covariance matrix is singular in double precision; now %s", describe(settings))


def _facts(plan: Plan, **more: str | int | float) -> dict[str, str | int | float]:
    return {"solver": plan.solver, "solver_reason": plan.reason, **more}


def _cholesky(equations: Equations, settings: Settings, plan: Plan) -> Solution:
    problem, rows, jacobians = assemble(equations.fingerprint, equations.data, equations.mean)
    K = problem.covariance(settings.length * equations.fingerprint.spread)
    noise = gradient_scale(problem, K) * np.array([settings.energy_noise, settings.force_noise])
    factor = factorise(K, problem.noise(*noise))
    return _dense_solution(problem, rows, jacobians, factor=factor, noise=noise, plan=plan)


def _dense_solution(
    problem: Problem, rows: Rows, jacobians: list[Array], *, factor: Factor, noise: Array, plan: Plan
) -> Solution:
    alpha = factor.solve(problem.values)
    folded = FoldedTraining.from_weights(rows, jacobians, alpha, problem.first)
    amplitude2 = float(problem.values @ alpha) / len(alpha)
    return Solution(folded, DensePosterior(problem, factor), amplitude2, noise, _facts(plan))


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
    dense = solution.facts["solver"] == plan.solver == "cholesky"
    if not (dense and isinstance(posterior, DensePosterior)):
        return solve(equations, settings, plan)
    n = len(posterior.factor.L)
    problem, rows, jacobians = assemble(equations.fingerprint, equations.data, equations.mean)
    before = len(posterior.problem.first) - 1
    added = np.zeros((len(problem.values) - n, len(problem.values)))
    kernel = _core.SquaredExponential(settings.length * equations.fingerprint.spread)
    with one_blas_thread():
        sets = rows.sets(jacobians[before:], first=before)
        _core.covariance(sets, problem.sets, kernel, scipy_blas(), False, n_threads(), added)
    added[:, n:][np.diag_indices(len(added))] += problem.noise(*solution.noise)[n:]
    factor = posterior.factor.extended(added)
    return _dense_solution(problem, rows, jacobians, factor=factor, noise=solution.noise, plan=plan)


def _inducing(equations: Equations, settings: Settings, plan: Plan) -> Solution:
    fingerprint, data = equations.fingerprint, equations.data
    length, noise = settings.length * fingerprint.spread, equations.noise(settings)
    kernel = _core.SquaredExponential(length)
    chosen = representatives(fingerprint.rows(data), kernel, plan.inducing)
    approximation = InducingApproximation.build(
        fingerprint, data, chosen, mean=equations.mean, length=length, noise=noise
    )
    return Solution(
        approximation.fold(approximation.weights),
        approximation,
        approximation.amplitude2,
        noise,
        _facts(plan, inducing=plan.inducing),
    )


def _conjugate_gradient(equations: Equations, settings: Settings, plan: Plan) -> Solution:
    fingerprint, data = equations.fingerprint, equations.data
    length, noise = settings.length * fingerprint.spread, equations.noise(settings)
    kernel = _core.SquaredExponential(length)
    rows = fingerprint.rows(data)
    chosen = representatives(rows, kernel, plan.inducing)
    problem, own_rows = assemble(fingerprint, data.select(chosen), equations.mean)[:2]
    factor = factorise(problem.covariance(length), problem.noise(*noise))
    operator = CovarianceOperator(rows, data, fingerprint.invariant, kernel, noise)
    reduced = ReducedSystem(operator, own_rows, data, chosen, factor=factor, invariant=fingerprint.invariant)
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
    facts = _facts(plan, inducing=plan.inducing, iterations=found.iterations, residual=residual)
    return Solution(operator.fold(solution), DensePosterior(problem, factor), amplitude2, noise, facts)


def _report(plan: Plan, iterations: int, residual: float, converged: bool) -> None:
    outcome = (
        f"residual {residual:.1e} of the observations after {iterations} iterations, {plan.inducing} structures "
        "eliminated"
    )
    if converged:
        _log.info("conjugate gradients: %s", outcome)
        return
    _log.warning(
        "conjugate gradients did not reach the tolerance %g: %s; predictions may be less accurate: allow more "
        "memory or inducing structures, or raise force_noise",
        plan.tolerance,
        outcome,
    )
