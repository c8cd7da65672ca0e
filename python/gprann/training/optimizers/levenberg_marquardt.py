"""Levenberg-Marquardt: Gauss-Newton steps with Marquardt's damping.

(JᵀWJ + ridge + damping (diag(JᵀWJ) + ridge)) dw = -(JᵀWr + ridge w), solved by a Cholesky factorisation of the
normal equations, which are accumulated block by block so that J is never stored, or, for large networks, by
conjugate gradients that need products with J and Jᵀ alone.

Marquardt, J. SIAM 11, 431 (1963); Hagan and Menhaj, IEEE Trans. Neural Netw. 5, 989 (1994); Martens, ICML 2010.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.sparse.linalg import LinearOperator, cg

from gprann import _core
from gprann.runtime.parallel import n_threads, one_blas_thread, scipy_blas
from gprann.training.objective import MatrixFreeProblem, Problem
from gprann.training.optimizers.state import OptimizerState, Step

__all__ = ["levenberg_marquardt"]

Array = NDArray[np.float64]
_FIRST_DAMPING = 1e-2
_SMALLEST_DAMPING = 1e-9
_TRIALS = 25  # a converged fit may need a damping many orders above the last one
_TOLERANCE = 1e-4  # relative fall of the loss over `_WINDOW` iterations below which the fit has converged
_WINDOW = 20
_PRODUCTS = 100  # most conjugate-gradient iterations of one step
_RESIDUAL = 0.03  # at which they end: a step of a nonlinear problem need not be exact


def levenberg_marquardt(
    train: Problem,
    validation: Problem,
    state: OptimizerState,
    *,
    iterations: int,
    patience: int,
    ridge: float,
    stream: tuple[int, ...] = (0,),
    frozen: NDArray[np.int64] | None = None,
    matrix_free: bool = False,
    report: Callable[[OptimizerState], object] = lambda _: None,
) -> OptimizerState:
    """Minimise the training loss from `state` on; stop by convergence, patience or count.

    Parameters
    ----------
    train, validation : Problem
        `validation` may be empty.
    state : OptimizerState
        Changed in place and returned.
    iterations, patience : int
    ridge : float
        Penalty on the squared parameters, per unit of weight of the training set.
    stream : tuple of int
        Of the random numbers, where an iteration draws residuals or rows.
    frozen : ndarray of int64, optional
        Parameters that stay as they are.
    matrix_free : bool
        Conjugate gradients instead of the normal equations; `train` is then a `MatrixFreeProblem`.
    report : callable
        Called with the state after every iteration.
    """
    penalty = ridge * train.total_weight
    held = np.zeros(0, np.int64) if frozen is None else frozen
    system = _MatrixFree(penalty, held) if matrix_free else _NormalEquations.zeros(train, penalty, held)
    damping = state.numbers.setdefault("damping", _FIRST_DAMPING)
    # A step that is far too long may overflow; its loss is then not finite, and the step is refused.
    with one_blas_thread(), np.errstate(over="ignore", invalid="ignore"):
        while not state.finished and state.iteration < iterations:
            here = (*stream, state.iteration + 1)
            problem = train.drawn((*here, 1))
            loss = system.fill(problem, state.parameters, np.random.default_rng((*here, 2)))
            after, loss, damping = _damped_step(problem, system, state.parameters, loss, damping)
            if after is None:
                state.finish("no step lowers the loss any further")
                break
            state.numbers["damping"] = damping
            if problem is train or validation.size:
                error = float(np.sqrt(max(loss - system.penalty(after), 0.0) / problem.total_weight))
            else:  # losses of different draws must not decide which parameters are kept
                error = train.rmse(after)
            state.record(Step.taken(state.iteration + 1, error, validation.errors(after)), after)
            _judge(state, patience, iterations)
            report(state)
    if not state.finished and state.iteration >= iterations:
        state.finish("number of iterations reached")
    return state


class _System(Protocol):
    """Damped Gauss-Newton equations of the penalised loss at some parameters."""

    @property
    def frozen(self) -> NDArray[np.int64]:
        """Parameters that stay as they are."""

    def penalty(self, w: Array) -> float:
        """Return the penalty on the parameters."""

    def fill(self, problem: Problem, w: Array, rng: np.random.Generator) -> float:
        """Set up the equations at the parameters w; return the penalised loss there."""

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
    def zeros(cls, train: Problem, ridge: float, frozen: NDArray[np.int64]) -> _NormalEquations:
        n = train.model.n_parameters
        return cls(np.zeros((n, n)), np.zeros(n), ridge, frozen)

    def penalty(self, w: Array) -> float:
        return self.ridge * float(w @ w)

    def fill(self, problem: Problem, w: Array, rng: np.random.Generator) -> float:  # noqa: ARG002 - it needs no probes
        loss = problem.normal_equations(w, self.hessian, self.slope) + self.penalty(w)
        self.slope[:] += self.ridge * w
        self.slope[self.frozen] = 0.0
        self.hessian[self.frozen] = 0.0
        self.hessian[:, self.frozen] = 0.0
        return loss

    def step(self, damping: float) -> Array | None:
        matrix = self.hessian.copy()
        diagonal = np.diagonal(self.hessian)
        matrix[np.diag_indices_from(matrix)] += _shift(self.ridge, damping, diagonal)
        if _core.cholesky(scipy_blas(), matrix, n_threads()) >= 0:
            return None
        step = -self.slope.reshape(1, -1)
        _core.solve_lower(scipy_blas(), matrix, step, n_threads())
        _core.solve_lower_transposed(scipy_blas(), matrix, step, n_threads())
        return np.asarray(step[0])


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

    def fill(self, problem: Problem, w: Array, rng: np.random.Generator) -> float:
        if not isinstance(problem, MatrixFreeProblem):
            raise TypeError(f"{type(problem).__name__} has no products with its Jacobian")
        loss, gradient = problem.batch_gradient(w, np.arange(problem.size))
        self.slope = gradient / 2 + self.ridge * w
        self.slope[self.frozen] = 0.0
        self.diagonal = problem.diagonal(w, rng)
        # An entry that the few probes missed must not send its parameter far away.
        self.diagonal = np.maximum(self.diagonal, 1e-6 * float(self.diagonal.mean()))

        def product(v: Array) -> Array:
            result = problem.gauss_newton(w, v)
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
    train: Problem, system: _System, w: Array, loss: float, damping: float
) -> tuple[Array | None, float, float]:
    """Return parameters of lower loss, that loss, the next damping; None if `_TRIALS` dampings give none."""
    for _ in range(_TRIALS):
        step = system.step(damping)
        if step is not None:
            after = train.aligned(w + step, system.frozen)
            found = train.loss(after) + system.penalty(after)
            if np.isfinite(found) and found < loss:
                return after, found, max(damping / 5, _SMALLEST_DAMPING)
        damping *= 4
    return None, loss, damping


def _judge(state: OptimizerState, patience: int, iterations: int) -> None:
    """Mark the state as finished if it has converged or the validation error has not improved for long."""
    history = state.history
    if state.iteration - state.best_iteration >= patience:
        state.finish(f"no better validation error for {patience} iterations")
    elif len(history) > _WINDOW and history[-1].train > (1 - _TOLERANCE) * history[-1 - _WINDOW].train:
        state.finish("converged: the training error no longer falls")
    elif state.iteration >= iterations:
        state.finish("number of iterations reached")
