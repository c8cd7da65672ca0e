"""Limited-memory BFGS on the whole training set; the minimiser is SciPy's.

Liu and Nocedal, Math. Program. 45, 503 (1989).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from gprann.errors import TrainingError
from gprann.training.objective import Problem
from gprann.training.optimizers.state import OptimizerState, Step
from gprann.training.options import TrainingOptions

__all__ = ["lbfgs"]

Array = NDArray[np.float64]
_SEGMENT = 50  # iterations after which the memory is built anew; there an interrupted run is taken up again
_PAIRS = 20


@np.errstate(over="ignore", invalid="ignore")
def lbfgs(
    train: Problem,
    validation: Problem,
    state: OptimizerState,
    options: TrainingOptions,
    stream: tuple[int, int],
    *,
    frozen: NDArray[np.int64] | None = None,
    report: Callable[[OptimizerState], object] = lambda _: None,
) -> OptimizerState:
    """Minimise the mean training loss, with the penalty `ridge`, from `state` on.

    Parameters
    ----------
    train, validation : Problem
        `validation` may be empty.
    state : OptimizerState
        Changed in place and returned.
    options : TrainingOptions
    stream : (seed, member)
        Of the force components that are drawn, anew every 50 iterations.
    frozen : ndarray of int64, optional
        Parameters that stay as they are.
    report : callable
        Called with the state after every 50 iterations, from which a run can be taken up.

    Raises
    ------
    TrainingError
        If the loss is not finite at the start.
    """
    free = np.ones(train.model.n_parameters, dtype=bool)
    free[frozen if frozen is not None else []] = False
    while not state.finished and state.iteration < options.max_iterations:
        problem = train.drawn((*stream, state.iteration + 1, 1))
        count = min(_SEGMENT, options.max_iterations - state.iteration)
        before = state.parameters
        _segment(train, problem, validation, state, free=free, ridge=options.penalty, iterations=count)
        if state.parameters is before:
            state.finish("converged: no step lowers the loss any further")
        elif state.iteration - state.best_iteration >= options.max_patience:
            state.finish(f"no better validation error for {options.max_patience} iterations")
        if state.history:
            report(state)
    if not state.finished:
        state.finish("number of iterations reached")
    return state


def _segment(
    train: Problem,
    problem: Problem,
    validation: Problem,
    state: OptimizerState,
    *,
    free: NDArray[np.bool_],
    ridge: float,
    iterations: int,
) -> None:
    """Run some iterations, and record each of them."""
    everything = np.arange(problem.size)
    w = state.parameters.copy()
    last = float("nan")

    def value(x: Array) -> tuple[float, Array]:
        nonlocal last
        w[free] = x
        loss, gradient = problem.batch_gradient(w, everything)
        last = loss / problem.total_weight + ridge * float(w @ w)
        if not np.isfinite(last):
            return np.finfo(float).max, np.zeros_like(x)  # far too long a step: the line search comes back
        return last, (gradient / problem.total_weight + 2 * ridge * w)[free]

    def record(x: Array) -> None:
        here = state.parameters.copy()
        here[free] = x
        mean = last - ridge * float(here @ here)
        error = train.rmse(here) if validation.size == 0 else float(np.sqrt(max(mean, 0.0)))
        state.record(Step.taken(state.iteration + 1, error, validation.errors(here)), here)

    start, _ = value(w[free].copy())
    if start == np.finfo(float).max:
        raise TrainingError("the loss is infinite or NaN at the start: look for wrong energies in the data")
    minimize(
        value,
        state.parameters[free],
        jac=True,
        method="L-BFGS-B",
        callback=record,
        options={
            "maxiter": iterations,
            "maxcor": _PAIRS,
            "ftol": 0.0,
            "gtol": 0.0,
            "maxfun": 20 * iterations,
        },
    )
