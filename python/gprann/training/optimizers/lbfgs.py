"""Limited-memory BFGS on the whole training set; the minimiser is SciPy's.

Liu and Nocedal, Math. Program. 45, 503 (1989).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from gprann.arrays import Array, Indices
from gprann.errors import TrainingError
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
    from gprann.training.objective import Objective

_SEGMENT = 50  # iterations after which the memory is built anew; there an interrupted run is taken up again
_PAIRS = 20


@register_optimizer
class Lbfgs(Optimizer):
    """L-BFGS with a penalty on the squared parameters."""

    name = "lbfgs"
    ridge: float | None = RIDGE

    def defaults(self, workload: Workload) -> dict[str, Any]:
        """Return the values of those options whose default depends on the data."""
        return {**super().defaults(workload), "ridge": default_ridge(workload)}

    @property
    def penalty(self) -> float:
        """Penalty on the squared parameters."""
        return float(self.value("ridge"))

    @np.errstate(over="ignore", invalid="ignore")
    def minimise(
        self,
        train: Objective,
        validation: Objective,
        state: OptimizerState,
        *,
        stream: tuple[int, ...],
        frozen: Indices,
        report: Report = no_report,
    ) -> OptimizerState:
        """Minimise the mean training loss; every 50 iterations force components are drawn, and progress reported."""
        free = np.ones(train.n_parameters, dtype=bool)
        free[frozen] = False
        most = self.value("iterations")
        while not state.finished and state.iteration < most:
            drawn = train.draw((*stream, state.iteration + 1, 1))
            before = state.parameters
            segment = _Segment(train, drawn, validation, free, self.penalty)
            segment.run(state, min(_SEGMENT, most - state.iteration))
            if state.parameters is before:
                state.finish("converged: no step lowers the loss any further")
            self.end(state)
            if state.history:
                report(state)
        self.end(state)
        return state


@dataclass(slots=True)
class _Segment:
    """Some iterations with one memory and one choice of force components.

    Attributes
    ----------
    train, drawn, validation : Objective
        All structures, those with the residuals of this segment, and the held-out ones.
    free : ndarray of bool, shape (P,)
        Parameters that are not frozen.
    ridge : float
    last : float
        The latest value of the penalised mean loss.
    """

    train: Objective
    drawn: Objective
    validation: Objective
    free: NDArray[np.bool_]
    ridge: float
    last: float = float("nan")

    def run(self, state: OptimizerState, iterations: int) -> None:
        """Run some iterations, and record each of them."""
        w = state.parameters.copy()

        def value(x: Array) -> tuple[float, Array]:
            w[self.free] = x
            loss, gradient = self.drawn.gradient(w)
            self.last = loss / self.drawn.total_weight + self.ridge * float(w @ w)
            if not np.isfinite(self.last):
                return np.finfo(float).max, np.zeros_like(
                    x
                )  # far too long a step: the line search comes back
            return self.last, (gradient / self.drawn.total_weight + 2 * self.ridge * w)[self.free]

        def record(x: Array) -> None:
            here = state.parameters.copy()
            here[self.free] = x
            mean = self.last - self.ridge * float(here @ here)
            held_out = self.validation.errors(here)
            error = (
                self.train.errors(here).total if self.validation.size == 0 else float(np.sqrt(max(mean, 0.0)))
            )
            state.advance(here, error, held_out)

        start, _ = value(w[self.free].copy())
        if start == np.finfo(float).max:
            raise TrainingError(
                "the loss is infinite or NaN at the start: look for wrong energies in the data"
            )
        minimize(
            value,
            state.parameters[self.free],
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
