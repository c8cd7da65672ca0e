"""Levenberg-Marquardt: Gauss-Newton steps with Marquardt's damping on the normal equations.

(JᵀWJ + ridge + damping diag(JᵀWJ)) dw = -(JᵀWr + ridge w); J is accumulated block by block and never stored.
Marquardt, J. SIAM 11, 431 (1963); Hagan and Menhaj, IEEE Trans. Neural Netw. 5, 989 (1994).
"""

from __future__ import annotations

from collections.abc import Callable

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
    report: Callable[[OptimizerState], object] = lambda state: None,
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
    n = train.model.n_parameters
    hessian, slope = np.zeros((n, n)), np.zeros(n)
    ridge *= float(train.weights.sum())
    damping = state.numbers.setdefault("damping", _FIRST_DAMPING)
    # A step that is far too long may overflow; its loss is then not finite, and the step is refused.
    with one_blas_thread(), np.errstate(over="ignore", invalid="ignore"):
        while not state.finished and state.iteration < iterations:
            w = state.parameters
            loss = train.normal_equations(w, hessian, slope) + ridge * float(w @ w)
            slope += ridge * w
            after, loss, damping = _damped_step(train, w, hessian, slope, loss, damping, ridge)
            if after is None:
                state.finish("no step lowers the loss any further")
                break
            state.numbers["damping"] = damping
            error = float(np.sqrt(max(loss - ridge * float(after @ after), 0.0) / train.weights.sum()))
            state.record(Step(state.iteration + 1, error, validation.rmse(after)), after)
            _judge(state, patience, iterations)
            report(state)
    if not state.finished and state.iteration >= iterations:
        state.finish("number of iterations reached")
    return state


def _damped_step(
    train: EnergyProblem, w: Array, hessian: Array, slope: Array, loss: float, damping: float, ridge: float
) -> tuple[Array | None, float, float]:
    """Return parameters of lower loss, that loss, the next damping; None if `_TRIALS` dampings give none."""
    diagonal = np.diagonal(hessian).copy()
    for _ in range(_TRIALS):
        matrix = hessian.copy()
        matrix[np.diag_indices(len(w))] += ridge + damping * (diagonal + max(ridge, 1e-300))
        if _core.cholesky(scipy_blas(), matrix, n_threads()) < 0:
            step = -slope.reshape(1, -1)
            _core.solve_lower(scipy_blas(), matrix, step, n_threads())
            _core.solve_lower_transposed(scipy_blas(), matrix, step, n_threads())
            after = w + step[0]
            found = train.loss(after) + ridge * float(after @ after)
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
