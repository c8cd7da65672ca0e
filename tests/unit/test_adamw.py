"""AdamW: against the published recipe in plain NumPy, when it stops, and what it leaves behind."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import contracts
import regression
from contracts import Array, assert_close
from gprann.errors import TrainingError
from gprann.training.objective import EnergyObjective
from gprann.training.optimizers import AdamW, OptimizerState

STREAM = (7, 3)


def fit(
    train: EnergyObjective,
    state: OptimizerState,
    *,
    validation: Any = None,
    report: Any = None,
    **options: Any,
) -> OptimizerState:
    held_out = regression.nothing(train) if validation is None else validation
    nothing = np.zeros(0, np.int64)
    return AdamW(**options).minimise(
        train, held_out, state, stream=STREAM, frozen=nothing, report=report or (lambda state: None)
    )


def recipe(train: EnergyObjective, start: Array, options: AdamW) -> Array:
    """Loshchilov and Hutter, algorithm 2, for the mean of w (X p - y)^2, with their cosine from 1 to 0.01."""
    X, y, weights = regression.design(train), train.targets, train.weights
    p, m, v, t = start.copy(), np.zeros_like(start), np.zeros_like(start), 0
    for epoch in range(1, options.iterations + 1):
        eta = 0.01 + 0.99 * 0.5 * (1 + np.cos(np.pi * (epoch - 1) / options.iterations))
        order = np.random.default_rng((*STREAM, epoch)).permutation(len(y))
        for batch in np.split(order, range(options.batch_size, len(y), options.batch_size)):
            g = 2 * X[batch].T @ (weights[batch] * (X[batch] @ p - y[batch])) / len(batch)
            t += 1
            m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
            step = (m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)
            p = p - eta * options.learning_rate * (step + options.weight_decay * p)
    return p


@pytest.mark.parametrize(("n", "batch"), [(20, 6), (20, 20), (7, 100)])
def test_steps_are_those_of_the_recipe(n: int, batch: int) -> None:
    train, _ = regression.problem(n, noise=0.2)
    options = {"iterations": 9, "batch_size": batch, "learning_rate": 0.03, "weight_decay": 0.2}
    start = train.model.initial(np.random.default_rng(1))
    state = fit(train, OptimizerState.start(start), **options)
    assert_close(state.parameters, recipe(train, start, AdamW(**options)), relative=1e-10)
    assert state.reason == "number of epochs reached"


def test_the_loss_falls() -> None:
    train, _ = regression.problem(200, hidden=(4,), activation="tanh")
    start = OptimizerState.start(train.model.initial(np.random.default_rng(1)))
    before = regression.rmse(train, start.parameters)
    state = fit(train, start, iterations=150, learning_rate=0.01)
    assert regression.rmse(train, state.best) < 0.2 * before
    assert state.history[-1].train < 0.2 * before
    assert state.iteration == 150


def test_without_held_out_structures_the_error_is_that_of_the_parameters() -> None:
    train, _ = regression.problem(30, noise=0.2)
    seen: list[float] = []
    state = fit(
        train,
        OptimizerState.start(np.zeros(train.n_parameters)),
        report=lambda state: seen.append(regression.rmse(train, state.parameters)),
        iterations=5,
        batch_size=4,
        learning_rate=0.1,
    )
    assert [step.train for step in state.history] == seen
    assert regression.rmse(train, state.best) == min(seen)


def test_the_best_epoch_is_kept_and_patience_ends_the_training() -> None:
    train, _ = regression.problem(30, hidden=(6,), activation="tanh", noise=3.0)
    validation, _ = regression.problem(40, hidden=(6,), activation="tanh", noise=3.0, seed=5)
    reports: list[int] = []
    start = OptimizerState.start(train.model.initial(np.random.default_rng(1)))
    state = fit(
        train,
        start,
        validation=validation,
        report=lambda state: reports.append(state.iteration),
        iterations=400,
        patience=25,
        learning_rate=0.03,
    )
    assert state.reason == "no better validation error for 25 epochs"
    assert state.iteration == state.best_iteration + 25
    assert reports == list(range(1, state.iteration + 1))
    errors = [step.validation for step in state.history]
    assert int(np.argmin(errors)) == state.best_iteration - 1
    assert regression.rmse(validation, state.best) == pytest.approx(min(errors), rel=1e-12)
    assert regression.rmse(validation, state.parameters) > min(errors)


class Failing(EnergyObjective):
    """Returns what `spoil` makes of loss and gradient from the tenth batch on."""

    calls = 0
    spoil: Any = None

    def gradient(self, parameters: Array, batch: Any = None) -> tuple[float, Array]:
        type(self).calls += 1
        loss, gradient = super().gradient(parameters, batch)
        return type(self).spoil(loss, gradient) if type(self).calls > 9 else (loss, gradient)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda loss, gradient: (np.nan, gradient),
        lambda loss, gradient: (np.inf, gradient),
        lambda loss, gradient: (loss, gradient * np.nan),
        lambda loss, gradient: (0.0, gradient * np.inf),
    ],
    ids=["NaN loss", "infinite loss", "NaN gradient", "infinite gradient"],
)
@pytest.mark.parametrize("held_out", [False, True])
def test_divergence_stops_at_the_last_good_state(spoil: Any, held_out: bool) -> None:
    plain, _ = regression.problem(20, noise=0.2)
    failing = Failing(plain.model, plain.table, plain.targets, plain.weights)
    Failing.calls, Failing.spoil = 0, staticmethod(spoil)
    start = plain.model.initial(np.random.default_rng(1))
    validation = plain if held_out else None
    state = fit(failing, OptimizerState.start(start), validation=validation, iterations=50, batch_size=5)
    assert state.finished
    assert state.reason == "the loss became infinite or NaN; the best state before is kept"
    assert state.iteration == 2  # of four batches each; the third epoch failed
    good = fit(plain, OptimizerState.start(start), iterations=50, batch_size=5, report=_stop_after(2))
    np.testing.assert_array_equal(state.parameters, good.parameters)
    np.testing.assert_array_equal(state.best, good.best)
    assert all(np.isfinite(vector).all() for vector in state.vectors.values())  # files hold no others


def _stop_after(n: int) -> Any:
    def report(state: OptimizerState) -> None:
        if state.iteration == n:
            state.finish("enough")

    return report


def test_divergence_in_the_first_epoch_is_an_error() -> None:
    train, _ = regression.problem(20, hidden=(3,), activation="softplus")
    start = OptimizerState.start(train.model.initial(np.random.default_rng(1)))
    with pytest.raises(TrainingError, match=r"first epoch: lower learning_rate"):
        fit(train, start, learning_rate=1e200)


def test_a_state_from_a_file_goes_on_bit_by_bit(tmp_path: Path) -> None:
    train, _ = regression.problem(30, hidden=(3,), activation="tanh", noise=0.1)
    start = train.model.initial(np.random.default_rng(1))
    whole = fit(train, OptimizerState.start(start), iterations=12)
    half = fit(train, OptimizerState.start(start), iterations=12, report=_stop_after(5))
    half.finished = False
    half.save(tmp_path / "state", "job")
    back = OptimizerState.load(tmp_path / "state", "job")
    assert back is not None
    assert set(back.vectors) == {"first_moment", "second_moment"}
    resumed = fit(train, back, iterations=12)
    contracts.assert_same_bits(
        [[s.parameters, s.best, *s.vectors.values(), [x.train for x in s.history]] for s in (whole, resumed)]
    )


def test_number_of_threads_does_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    train, _ = regression.problem(300, hidden=(5,), activation="tanh", noise=0.1)
    start = train.model.initial(np.random.default_rng(2))
    contracts.assert_threads(
        lambda: [fit(train, OptimizerState.start(start.copy()), iterations=3, batch_size=128).parameters],
        monkeypatch,
    )
