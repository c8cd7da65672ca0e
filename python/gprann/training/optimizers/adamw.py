"""AdamW with minibatches. Loshchilov and Hutter, ICLR 2019; one call of the core per batch."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from gprann.errors import TrainingError
from gprann.training.objective import Problem
from gprann.training.optimizers.state import OptimizerState, Step
from gprann.training.options import TrainingOptions

__all__ = ["adamw"]

Array = NDArray[np.float64]
_BETA1, _BETA2, _EPSILON = 0.9, 0.999, 1e-8
_FINAL_RATE = 0.01  # fraction of the learning rate that is left at the end of a schedule


@np.errstate(over="ignore", invalid="ignore")  # a loss that is not finite ends the training, with a reason
def adamw(
    train: Problem,
    validation: Problem,
    state: OptimizerState,
    options: TrainingOptions,
    stream: tuple[int, int],
    *,
    frozen: NDArray[np.int64] | None = None,
    report: Callable[[OptimizerState], object] = lambda _: None,
) -> OptimizerState:
    """Minimise the mean training loss from `state` on.

    Parameters
    ----------
    train, validation : Problem
        `validation` may be empty.
    state : OptimizerState
        Changed in place and returned.
    options : TrainingOptions
    stream : (seed, member)
        The order of the structures in an epoch depends on these and the epoch alone.
    frozen : ndarray of int64, optional
        Parameters that stay as they are.
    report : callable
        Called with the state after every epoch.

    Raises
    ------
    TrainingError
        If the loss is not finite before any state was good.
    """
    epochs = options.max_iterations
    held = np.zeros(0, np.int64) if frozen is None else frozen
    while not state.finished and state.iteration < epochs:
        epoch = state.iteration + 1
        rate = options.learning_rate * _schedule(options, epoch, epochs)
        problem = train.drawn((*stream, epoch, 1))
        order = np.random.default_rng((*stream, epoch)).permutation(train.size).astype(np.int64)
        batches = [order[k : k + options.batch_size] for k in range(0, train.size, options.batch_size)]
        w, total = _run_epoch(problem, state, batches, rate, options.weight_decay, frozen=held)
        held_out = validation.errors(w)  # NaN without held-out structures
        # The sum over the batches belongs to parameters on the way; alone it must not decide which are kept.
        error = float(np.sqrt(total / train.total_weight)) if validation.size else train.rmse(w)
        if not (np.isfinite([total, error]).all() and np.isfinite(w).all()) or np.isinf(held_out.total):
            if not state.history:
                raise TrainingError(
                    "the loss became infinite or NaN in the first epoch: lower learning_rate, "
                    "or look for wrong energies in the data"
                )
            state.vectors.clear()  # they are not finite either
            state.finish("the loss became infinite or NaN; the best state before is kept")
            break
        state.record(Step.taken(epoch, error, held_out), w)
        if epoch - state.best_iteration >= options.max_patience:
            state.finish(f"no better validation error for {options.max_patience} epochs")
        report(state)
    if not state.finished:
        state.finish("number of epochs reached")
    return state


def _run_epoch(
    train: Problem,
    state: OptimizerState,
    batches: list[NDArray[np.int64]],
    rate: float,
    weight_decay: float,
    *,
    frozen: NDArray[np.int64],
) -> tuple[Array, float]:
    """Return the parameters after a step for each batch, and the sum of the losses on the way.

    Moments and step count of the state are carried on, its parameters are not.
    """
    first = state.vectors.setdefault("first_moment", np.zeros_like(state.parameters))
    second = state.vectors.setdefault("second_moment", np.zeros_like(state.parameters))
    w, total = state.parameters, 0.0
    for step, batch in enumerate(batches, int(state.numbers.get("step", 0)) + 1):
        loss, gradient = train.batch_gradient(w, batch)
        total += loss
        gradient /= len(batch)
        first += (1 - _BETA1) * (gradient - first)
        second += (1 - _BETA2) * (gradient**2 - second)
        slope = first / (1 - _BETA1**step) / (np.sqrt(second / (1 - _BETA2**step)) + _EPSILON)
        change = rate * (slope + weight_decay * w)
        change[frozen] = 0.0
        w = w - change
        state.numbers["step"] = step
    return w, total


def _schedule(options: TrainingOptions, epoch: int, epochs: int) -> float:
    """Return the factor of the learning rate: it rises over the warm-up, then falls to `_FINAL_RATE`."""
    done = (epoch - 1) / max(epochs, 1)
    falling = {
        "cosine": _FINAL_RATE + (1 - _FINAL_RATE) * 0.5 * (1 + float(np.cos(np.pi * done))),
        "exponential": float(_FINAL_RATE**done),
        "constant": 1.0,
    }
    return falling[options.schedule] * min(1.0, epoch / (options.warmup + 1))
