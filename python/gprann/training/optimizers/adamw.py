"""AdamW with minibatches. Loshchilov and Hutter, ICLR 2019; one call of the core per batch."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Literal

import numpy as np

from gprann.arrays import Array, Indices
from gprann.errors import TrainingError
from gprann.options import option
from gprann.training.optimizers.base import Optimizer, OptimizerState, Report, no_report, register_optimizer

if TYPE_CHECKING:
    from gprann.training.objective import Objective

_BETA1, _BETA2, _EPSILON = 0.9, 0.999, 1e-8
_FINAL_RATE = 0.01  # fraction of the learning rate that is left at the end of a schedule


@register_optimizer
class AdamW(Optimizer):
    """AdamW; the defaults of rate, decay and batches are near those of the paper: 1e-4, 1e-3, 32."""

    name = "adamw"
    unit = "epochs"
    save_every = 20
    learning_rate: float = option("Learning rate.", 1e-3, gt=0)
    weight_decay: float = option("Weight decay.", 1e-3, ge=0)
    batch_size: int = option("Structures of a batch.", 32, ge=1)
    schedule: Literal["cosine", "exponential", "constant"] = option(
        'Course of the learning rate: "cosine" or "exponential" (down to a hundredth), or "constant".',
        "cosine",
    )
    warmup: int = option("Epochs over which the learning rate rises.", 0, ge=0)

    @np.errstate(
        over="ignore", invalid="ignore"
    )  # a loss that is not finite ends the training, with a reason
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
        """Minimise the mean training loss; an iteration is an epoch.

        The order of the structures in an epoch depends on the stream and the epoch alone.
        """
        epochs = self.value("iterations")
        while not state.finished and state.iteration < epochs:
            epoch = state.iteration + 1
            drawn = train.draw((*stream, epoch, 1))
            batches = drawn.epoch(np.random.default_rng((*stream, epoch)), self.batch_size)
            w, total = self._run_epoch(batches, state, self._rate(epoch, epochs), frozen)
            held_out = validation.errors(w)  # NaN without held-out structures
            # The sum over the batches belongs to parameters on the way; alone it must not decide which are kept.
            error = float(np.sqrt(total / train.total_weight)) if validation.size else train.errors(w).total
            if not (np.isfinite([total, error]).all() and np.isfinite(w).all()) or np.isinf(held_out.total):
                if not state.history:
                    raise TrainingError(
                        "the loss became infinite or NaN in the first epoch: lower learning_rate, "
                        "or look for wrong energies in the data"
                    )
                state.vectors.clear()  # they are not finite either
                state.finish("the loss became infinite or NaN; the best state before is kept")
                break
            state.advance(w, error, held_out)
            self.end(state)
            report(state)
        self.end(state)
        return state

    def _run_epoch(
        self,
        batches: Iterable[tuple[Objective, Indices]],
        state: OptimizerState,
        rate: float,
        frozen: Indices,
    ) -> tuple[Array, float]:
        """Return the parameters after a step for each batch, and the sum of the losses on the way.

        Moments and step count of the state are carried on, its parameters are not.
        """
        first = state.vectors.setdefault("first_moment", np.zeros_like(state.parameters))
        second = state.vectors.setdefault("second_moment", np.zeros_like(state.parameters))
        w, total = state.parameters, 0.0
        for step, (part, batch) in enumerate(batches, int(state.numbers.get("step", 0)) + 1):
            loss, gradient = part.gradient(w, batch)
            total += loss
            gradient /= len(batch)
            first += (1 - _BETA1) * (gradient - first)
            second += (1 - _BETA2) * (gradient**2 - second)
            slope = first / (1 - _BETA1**step) / (np.sqrt(second / (1 - _BETA2**step)) + _EPSILON)
            change = rate * (slope + self.weight_decay * w)
            change[frozen] = 0.0
            w = w - change
            state.numbers["step"] = step
        return w, total

    def _rate(self, epoch: int, epochs: int) -> float:
        """Return the learning rate: it rises over the warm-up, then falls to `_FINAL_RATE` of itself."""
        done = (epoch - 1) / max(epochs, 1)
        falling = {
            "cosine": _FINAL_RATE + (1 - _FINAL_RATE) * 0.5 * (1 + float(np.cos(np.pi * done))),
            "exponential": float(_FINAL_RATE**done),
            "constant": 1.0,
        }
        return self.learning_rate * (falling[self.schedule] * min(1.0, epoch / (self.warmup + 1)))
