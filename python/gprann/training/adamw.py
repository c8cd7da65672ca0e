"""AdamW with minibatches. Loshchilov and Hutter, ICLR 2019; one call of the core per batch."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from gprann.errors import TrainingError
from gprann.training.options import TrainingOptions
from gprann.training.problem import EnergyProblem
from gprann.training.state import OptimizerState, Step

__all__ = ["adamw"]

Array = NDArray[np.float64]
_BETA1, _BETA2, _EPSILON = 0.9, 0.999, 1e-8
_FINAL_RATE = 0.01  # fraction of the learning rate that is left at the end of the cosine


@np.errstate(over="ignore", invalid="ignore")  # a loss that is not finite ends the training, with a reason
def adamw(
    train: EnergyProblem,
    validation: EnergyProblem,
    state: OptimizerState,
    options: TrainingOptions,
    stream: tuple[int, int],
    *,
    report: Callable[[OptimizerState], object] = lambda _: None,
) -> OptimizerState:
    """Minimise the mean training loss from `state` on.

    Parameters
    ----------
    train, validation : EnergyProblem
        `validation` may be empty.
    state : OptimizerState
        Changed in place and returned.
    options : TrainingOptions
    stream : (seed, member)
        The order of the structures in an epoch depends on these and the epoch alone.
    report : callable
        Called with the state after every epoch.

    Raises
    ------
    TrainingError
        If the loss is not finite before any state was good.
    """
    epochs = options.max_iterations
    while not state.finished and state.iteration < epochs:
        epoch = state.iteration + 1
        rate = options.learning_rate * _cosine(epoch, epochs)
        order = np.random.default_rng((*stream, epoch)).permutation(train.size).astype(np.int64)
        batches = [order[k : k + options.batch_size] for k in range(0, train.size, options.batch_size)]
        w, total = _run_epoch(train, state, batches, rate, options.weight_decay)
        held_out = validation.rmse(w)  # NaN without held-out structures
        # The sum over the batches belongs to parameters on the way; alone it must not decide which are kept.
        error = float(np.sqrt(total / train.weights.sum())) if validation.size else train.rmse(w)
        if not (np.isfinite([total, error]).all() and np.isfinite(w).all()) or np.isinf(held_out):
            if not state.history:
                raise TrainingError(
                    "the loss became infinite or NaN in the first epoch: lower learning_rate, "
                    "or look for wrong energies in the data"
                )
            state.vectors.clear()  # they are not finite either
            state.finish("the loss became infinite or NaN; the best state before is kept")
            break
        state.record(Step(epoch, error, held_out), w)
        if epoch - state.best_iteration >= options.max_patience:
            state.finish(f"no better validation error for {options.max_patience} epochs")
        report(state)
    if not state.finished:
        state.finish("number of epochs reached")
    return state


def _run_epoch(
    train: EnergyProblem,
    state: OptimizerState,
    batches: list[NDArray[np.int64]],
    rate: float,
    weight_decay: float,
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
        w = w - rate * (slope + weight_decay * w)
        state.numbers["step"] = step
    return w, total


def _cosine(epoch: int, epochs: int) -> float:
    """Return the factor of the learning rate: 1 at first, `_FINAL_RATE` at the end."""
    return _FINAL_RATE + (1 - _FINAL_RATE) * 0.5 * (1 + float(np.cos(np.pi * (epoch - 1) / max(epochs, 1))))
