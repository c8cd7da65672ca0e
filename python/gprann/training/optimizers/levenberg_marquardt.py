"""Levenberg-Marquardt: Gauss-Newton steps with Marquardt's damping.

(JᵀWJ + ridge + damping (diag(JᵀWJ) + ridge)) dw = -(JᵀWr + ridge w), solved by a Cholesky factorisation of the
normal equations, which are accumulated block by block so that J is never stored, or, for large networks, by
conjugate gradients that need products with J and Jᵀ alone.

Marquardt, J. SIAM 11, 431 (1963); Hagan and Menhaj, IEEE Trans. Neural Netw. 5, 989 (1994); Martens, ICML 2010.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from scipy.sparse.linalg import LinearOperator, cg

from gprann import _core
from gprann.arrays import Array, Indices
from gprann.options import option
from gprann.runtime.resources import blas_and_threads, one_blas_thread
from gprann.training.optimizers.base import (
    RIDGE,
    Optimizer,
    OptimizerState,
    Report,
    Workload,
    default_ridge,
    no_report,
    register_optimizer,
)

if TYPE_CHECKING:
    from gprann.training.objective import LeastSquaresObjective, MatrixFreeObjective, Objective

_NOTHING = np.zeros(0, np.int64)
# First damping for energies of several compositions. Environments unlike most others begin where tanh is nearly
# saturated; long first steps, which the others decide, would leave them there for tens of iterations.
_MIXED_DAMPING = 1.0
_FIRST_DAMPING = 1e-2
_SMALLEST_DAMPING = 1e-9
_TRIALS = 25  # a converged fit may need a damping many orders above the last one
_FLAT = 1 - 1e-4  # of the training error `_WINDOW` iterations ago; above it the fit has converged
_WINDOW = 20
_PRODUCTS = 100  # most conjugate-gradient iterations of one step
_RESIDUAL = 0.03  # at which they end: a step of a nonlinear problem need not be exact


class SecondOrder(Optimizer):
    """Damped Gauss-Newton steps: the options that all ways to solve their equations share."""

    starts: int | None = option(
        "Random starts that are tried, to go on with the best. Default: 4; for energies of several compositions 8; "
        "with forces, which leave fewer ways to go astray, 1.",
        None,
        ge=1,
        example=4,
    )
    start_iterations: int = option(
        "Iterations of each start; with more than four starts the best quarter gets twice as many, and so on.",
        15,
        ge=1,
    )
    ridge: float | None = RIDGE

    def defaults(self, workload: Workload) -> dict[str, Any]:
        """Return the values of those options whose default depends on the data."""
        return {
            "iterations": 100 if workload.forces or workload.mixed else 40,
            "patience": 20 if workload.mixed else 10,
            "starts": 1 if workload.forces or workload.linear else (8 if workload.mixed else 4),
            "ridge": default_ridge(workload),
        }

    @property
    def random_starts(self) -> int:
        """Random starts that are tried, of which the best goes on."""
        return int(self.value("starts"))

    @property
    def trial_iterations(self) -> int:
        """Iterations that each random start gets."""
        return self.start_iterations

    @property
    def penalty(self) -> float:
        """Penalty on the squared parameters."""
        return float(self.value("ridge"))

    def start(self, parameters: Array, workload: Workload) -> OptimizerState:
        """Return the state at random parameters."""
        state = OptimizerState.start(parameters)
        if workload.linear:  # the first step is the solution of least squares
            state.numbers["damping"] = _SMALLEST_DAMPING
        elif workload.mixed:
            state.numbers["damping"] = _MIXED_DAMPING
        return state

    def _system(self, train: Any, penalty: float, frozen: Indices) -> _System:
        """Return the equations of a step."""
        raise NotImplementedError

    def _draw(self, train: Any, stream: tuple[int, ...]) -> Any:
        """Return the objective of an iteration."""
        return train.draw(stream)

    def minimise(
        self,
        train: LeastSquaresObjective,
        validation: Objective,
        state: OptimizerState,
        *,
        stream: tuple[int, ...] = (0,),
        frozen: Indices = _NOTHING,
        report: Report = no_report,
    ) -> OptimizerState:
        """Minimise the training loss; stop by convergence, patience or count."""
        system = self._system(train, self.penalty * train.total_weight, frozen)
        damping = state.numbers.setdefault("damping", _FIRST_DAMPING)
        # A step that is far too long may overflow; its loss is then not finite, and the step is refused.
        with one_blas_thread(), np.errstate(over="ignore", invalid="ignore"):
            while not state.finished and state.iteration < self.value("iterations"):
                here = (*stream, state.iteration + 1)
                drawn = self._draw(train, (*here, 1))
                loss = system.fill(drawn, state.parameters, (*here, 2))
                after, loss, damping = _damped_step(drawn, system, state.parameters, loss, damping)
                if after is None:
                    state.finish("no step lowers the loss any further")
                    break
                state.numbers["damping"] = damping
                if drawn is train or validation.size:
                    error = float(np.sqrt(max(loss - system.penalty(after), 0.0) / drawn.total_weight))
                else:  # losses of different draws must not decide which parameters are kept
                    error = train.errors(after).total
                state.advance(after, error, validation.errors(after))
                self.end(state)
                report(state)
        self.end(state)
        return state

    def end(self, state: OptimizerState) -> None:
        """Mark the state as finished by patience, convergence or the number of iterations."""
        history = state.history
        waits = not state.finished and state.iteration - state.best_iteration < self.value("patience")
        if waits and len(history) > _WINDOW and history[-1].train > _FLAT * history[-1 - _WINDOW].train:
            state.finish("converged: the training error no longer falls")
        super().end(state)


@register_optimizer
class LevenbergMarquardt(SecondOrder):
    """Levenberg-Marquardt with the normal equations: for up to some thousand parameters."""

    name = "lm"
    max_rows: int = option(
        "Most energies and force components in the equations of one iteration. Of larger sets each iteration takes "
        "structures at random, while the loss that a step must lower remains that of all structures.",
        60000,
        ge=1,
    )

    def flops(self, workload: Workload) -> float:
        """Return about how many floating-point operations an iteration takes."""
        rows, parameters = workload.n_rows, workload.n_parameters
        if workload.fewer_rows:
            return rows**2 * parameters + rows**3 / 3
        return (min(rows, self.max_rows) if workload.forces else rows) * parameters**2 + parameters**3 / 3

    def memory(self, workload: Workload) -> float:
        """Return the memory of the equations and, with forces, of the rows of the largest structure, bytes."""
        parameters, largest = workload.n_parameters, workload.largest
        if workload.fewer_rows:
            return 8.0 * (2 * workload.n_rows * parameters + 2 * workload.n_rows**2)
        rows = 3 * largest * (largest * workload.n_features + parameters) if workload.forces else 0
        return 8.0 * (3 * parameters**2 + rows)

    def _system(self, train: LeastSquaresObjective, penalty: float, frozen: Indices) -> _System:
        if isinstance(train, WithJacobian) and train.n_rows < train.n_parameters:
            return _RowEquations(penalty, frozen)
        return _NormalEquations.zeros(train, penalty, frozen)

    def _draw(self, train: LeastSquaresObjective, stream: tuple[int, ...]) -> LeastSquaresObjective:
        return train.draw(stream, self.max_rows)


@register_optimizer
class GaussNewtonCG(SecondOrder):
    """The same steps by conjugate gradients, without the matrix: for networks of many parameters."""

    name = "gauss_newton_cg"
    needs_products = True

    def flops(self, workload: Workload) -> float:
        """Return about how many floating-point operations an iteration takes."""
        return 50.0 * super().flops(workload)

    def _system(self, train: MatrixFreeObjective, penalty: float, frozen: Indices) -> _System:  # noqa: ARG002
        return _MatrixFree(penalty, frozen)


class _System(Protocol):
    """Damped Gauss-Newton equations of the penalised loss at some parameters."""

    @property
    def frozen(self) -> NDArray[np.int64]:
        """Parameters that stay as they are."""

    def penalty(self, w: Array) -> float:
        """Return the penalty on the parameters."""

    def fill(self, objective: Any, w: Array, stream: tuple[int, ...]) -> float:
        """Set up the equations at the parameters w; return the penalised loss there.

        `stream` seeds the random numbers, where some are needed.
        """

    def step(self, damping: float) -> Array | None:
        """Return the solution, or None if the equations are not positive definite."""


@dataclass(frozen=True, slots=True)
class _NormalEquations:
    """Equations in arrays that all iterations share.

    Attributes
    ----------
    hessian : ndarray, shape (P, P)
        JᵀWJ without the ridge, lower triangle.
    slope : ndarray, shape (P,)
        JᵀWr + ridge w.
    ridge : float
        Penalty on the squared parameters.
    frozen : ndarray of int64
    """

    hessian: Array
    slope: Array
    ridge: float
    frozen: NDArray[np.int64]

    @classmethod
    def zeros(cls, train: LeastSquaresObjective, ridge: float, frozen: NDArray[np.int64]) -> _NormalEquations:
        n = train.n_parameters
        return cls(np.zeros((n, n)), np.zeros(n), ridge, frozen)

    def penalty(self, w: Array) -> float:
        return self.ridge * float(w @ w)

    def fill(self, objective: LeastSquaresObjective, w: Array, stream: tuple[int, ...]) -> float:  # noqa: ARG002
        loss = objective.normal_equations(w, self.hessian, self.slope) + self.penalty(w)
        self.slope[:] += self.ridge * w
        self.slope[self.frozen] = 0.0
        self.hessian[self.frozen] = 0.0
        self.hessian[:, self.frozen] = 0.0
        return loss

    def step(self, damping: float) -> Array | None:
        matrix = self.hessian.copy()
        diagonal = np.diagonal(self.hessian)
        matrix.flat[:: len(matrix) + 1] += _shift(self.ridge, damping, diagonal)
        step = -self.slope.reshape(1, -1)
        with blas_and_threads() as (blas, threads):
            if _core.cholesky(blas, matrix, threads) >= 0:
                return None
            _core.solve_lower(blas, matrix, step, threads)
            _core.solve_lower_transposed(blas, matrix, step, threads)
        return np.asarray(step[0])


@runtime_checkable
class WithJacobian(Protocol):
    """An objective that gives the rows of its Jacobian."""

    @property
    def n_rows(self) -> int:
        """Number of residuals."""

    @property
    def n_parameters(self) -> int:
        """Number of parameters."""

    def jacobian(self, parameters: Array) -> tuple[float, Array, Array]:
        """Return the loss, the weighted rows (rows, P) and the weighted residuals (rows,)."""


@dataclass(slots=True)
class _RowEquations:
    """The same equations where there are fewer residuals than parameters: a matrix of (rows, rows) is factorised.

    With S = ridge + damping (diag(JᵀJ) + ridge), a diagonal matrix, and g = Jᵀr + ridge w (Woodbury's identity),

        (JᵀJ + S)⁻¹ g = S⁻¹ g - S⁻¹ Jᵀ (1 + J S⁻¹ Jᵀ)⁻¹ J S⁻¹ g.
    """

    ridge: float
    frozen: NDArray[np.int64]
    rows: Array = field(default_factory=lambda: np.zeros((0, 0)))
    slope: Array = field(default_factory=lambda: np.zeros(0))
    diagonal: Array = field(default_factory=lambda: np.zeros(0))

    def penalty(self, w: Array) -> float:
        return self.ridge * float(w @ w)

    def fill(self, objective: WithJacobian, w: Array, stream: tuple[int, ...]) -> float:  # noqa: ARG002
        loss, self.rows, residuals = objective.jacobian(w)
        self.rows[:, self.frozen] = 0.0
        self.slope = residuals @ self.rows + self.ridge * w
        self.slope[self.frozen] = 0.0
        self.diagonal = np.einsum("ij,ij->j", self.rows, self.rows)
        return loss + self.penalty(w)

    def step(self, damping: float) -> Array | None:
        shift = _shift(self.ridge, damping, self.diagonal)
        scaled = self.rows / np.sqrt(shift)
        if not np.isfinite(scaled).all():
            return None
        matrix = np.eye(len(scaled))
        part = (self.rows @ (self.slope / shift)).reshape(1, -1)
        with blas_and_threads() as (blas, threads):
            _core.add_gram_of_rows(blas, scaled, matrix, threads)
            if _core.cholesky(blas, matrix, threads) >= 0:
                return None
            _core.solve_lower(blas, matrix, part, threads)
            _core.solve_lower_transposed(blas, matrix, part, threads)
        return np.asarray((part[0] @ self.rows - self.slope) / shift)


@dataclass(slots=True)
class _MatrixFree:
    """Equations solved by conjugate gradients, scaled so that their diagonal is one."""

    ridge: float
    frozen: NDArray[np.int64]
    slope: Array = field(default_factory=lambda: np.zeros(0))
    diagonal: Array = field(default_factory=lambda: np.zeros(0))
    product: Callable[[Array], Array] = field(default=lambda v: v)

    def penalty(self, w: Array) -> float:
        return self.ridge * float(w @ w)

    def fill(self, objective: MatrixFreeObjective, w: Array, stream: tuple[int, ...]) -> float:
        loss, gradient = objective.gradient(w)
        self.slope = gradient / 2 + self.ridge * w
        self.slope[self.frozen] = 0.0
        self.diagonal = objective.diagonal(w, np.random.default_rng(stream))
        # An entry that the few probes missed must not send its parameter far away.
        self.diagonal = np.maximum(self.diagonal, 1e-6 * float(self.diagonal.mean()))

        def product(v: Array) -> Array:
            result = objective.gauss_newton(w, v)
            result[self.frozen] = 0.0
            return result

        self.product = product
        return loss + self.penalty(w)

    def step(self, damping: float) -> Array | None:
        shift = _shift(self.ridge, damping, self.diagonal)
        root = np.sqrt(self.diagonal + shift)
        scaled = -self.slope / root
        if not np.isfinite(scaled).all():  # products would only hand on what has overflowed
            return None

        def product(v: Array) -> Array:
            x = v / root
            return (self.product(x) + shift * x) / root

        matrix = LinearOperator((len(root), len(root)), matvec=product, dtype=np.float64)
        step, _ = cg(matrix, scaled, rtol=_RESIDUAL, maxiter=_PRODUCTS)
        return np.asarray(step / root)


def _shift(ridge: float, damping: float, diagonal: Array) -> Array:
    """Return what is added to the diagonal: ridge + damping (diag(JᵀWJ) + ridge)."""
    return ridge + damping * (diagonal + max(ridge, 1e-300))


def _damped_step(
    train: LeastSquaresObjective, system: _System, w: Array, loss: float, damping: float
) -> tuple[Array | None, float, float]:
    """Return parameters of lower loss, that loss, the next damping; None if `_TRIALS` dampings give none."""
    for _ in range(_TRIALS):
        step = system.step(damping)
        if step is not None:
            after = train.align(w + step, system.frozen)
            found = train.loss(after) + system.penalty(after)
            if np.isfinite(found) and found < loss:
                return after, found, max(damping / 5, _SMALLEST_DAMPING)
        damping *= 4
    return None, loss, damping
