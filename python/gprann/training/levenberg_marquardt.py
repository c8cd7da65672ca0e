"""Levenberg-Marquardt: Gauss-Newton steps with Marquardt's damping on the normal equations.

(JᵀWJ + ridge + damping diag(JᵀWJ)) dw = -(JᵀWr + ridge w); J is accumulated block by block and never stored.
Marquardt, J. SIAM 11, 431 (1963); Hagan and Menhaj, IEEE Trans. Neural Netw. 5, 989 (1994).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gprann import _core
from gprann.parallel import n_threads, one_blas_thread, scipy_blas
from gprann.training.problem import EnergyProblem
from gprann.training.state import OptimizerState, Step

__all__ = ["levenberg_marquardt"]

Array = NDArray[np.float64]
_FIRST_DAMPING = 1e-2
_SMALLEST_DAMPING = 1e-9
_TRIALS = 25  # a converged fit may need a damping many orders above the last one
_TOLERANCE = 1e-4  # relative fall of the loss over `_WINDOW` iterations below which the fit has converged
_WINDOW = 20


def levenberg_marquardt(
    train: EnergyProblem,
    validation: EnergyProblem,
    state: OptimizerState,
    *,
    iterations: int,
    patience: int,
    ridge: float,
    report: Callable[[OptimizerState], object] = lambda _: None,
) -> OptimizerState:
    """Minimise the training loss from `state` on; stop by convergence, patience or count.

    Parameters
    ----------
    train, validation : EnergyProblem
        `validation` may be empty.
    state : OptimizerState
        Changed in place and returned.
    iterations, patience : int
    ridge : float
        Penalty on the squared parameters, per unit of weight of the training set.
    report : callable
        Called with the state after every iteration.
    """
    normal = _NormalEquations.zeros(train, ridge * float(train.weights.sum()))
    damping = state.numbers.setdefault("damping", _FIRST_DAMPING)
    # A step that is far too long may overflow; its loss is then not finite, and the step is refused.
    with one_blas_thread(), np.errstate(over="ignore", invalid="ignore"):
        while not state.finished and state.iteration < iterations:
            loss = normal.fill(train, state.parameters)
            after, loss, damping = _damped_step(train, normal, state.parameters, loss, damping)
            if after is None:
                state.finish("no step lowers the loss any further")
                break
            state.numbers["damping"] = damping
            error = float(np.sqrt(max(loss - normal.penalty(after), 0.0) / train.weights.sum()))
            state.record(Step(state.iteration + 1, error, validation.rmse(after)), after)
            _judge(state, patience, iterations)
            report(state)
    if not state.finished and state.iteration >= iterations:
        state.finish("number of iterations reached")
    return state


@dataclass(frozen=True, slots=True)
class _NormalEquations:
    """Normal equations of the penalised loss, in arrays that all iterations share.

    Attributes
    ----------
    hessian : ndarray, shape (P, P)
        JᵀWJ without the ridge, lower triangle.
    slope : ndarray, shape (P,)
        JᵀWr + ridge w.
    ridge : float
        Penalty on the squared parameters.
    """

    hessian: Array
    slope: Array
    ridge: float

    @classmethod
    def zeros(cls, train: EnergyProblem, ridge: float) -> _NormalEquations:
        n = train.model.n_parameters
        return cls(np.zeros((n, n)), np.zeros(n), ridge)

    def penalty(self, w: Array) -> float:
        return self.ridge * float(w @ w)

    def fill(self, train: EnergyProblem, w: Array) -> float:
        """Set up the equations at the parameters w; return the penalised loss there."""
        loss = train.normal_equations(w, self.hessian, self.slope) + self.penalty(w)
        self.slope[:] += self.ridge * w
        return loss

    def damped(self, damping: float) -> Array:
        """Return JᵀWJ + ridge + damping (diag(JᵀWJ) + ridge)."""
        matrix = self.hessian.copy()
        diagonal = np.diagonal(self.hessian)
        matrix[np.diag_indices_from(matrix)] += self.ridge + damping * (diagonal + max(self.ridge, 1e-300))
        return matrix


def _damped_step(
    train: EnergyProblem, normal: _NormalEquations, w: Array, loss: float, damping: float
) -> tuple[Array | None, float, float]:
    """Return parameters of lower loss, that loss, the next damping; None if `_TRIALS` dampings give none."""
    for _ in range(_TRIALS):
        matrix = normal.damped(damping)
        if _core.cholesky(scipy_blas(), matrix, n_threads()) < 0:
            step = -normal.slope.reshape(1, -1)
            _core.solve_lower(scipy_blas(), matrix, step, n_threads())
            _core.solve_lower_transposed(scipy_blas(), matrix, step, n_threads())
            after = w + step[0]
            found = train.loss(after) + normal.penalty(after)
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
