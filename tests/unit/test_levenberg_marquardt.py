"""Levenberg-Marquardt: known optima, when it stops, and what it leaves behind."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import contracts
import gprann
import regression
import samples
from contracts import assert_close
from gprann import train
from gprann.training.objective import EnergyObjective
from gprann.training.optimizers import LevenbergMarquardt, OptimizerState
from gprann.training.optimizers.levenberg_marquardt import _NormalEquations


def fit(train: EnergyObjective, state: OptimizerState, **options: Any) -> OptimizerState:
    validation = options.pop("validation", regression.nothing(train))
    report = {"report": options.pop("report")} if "report" in options else {}
    optimizer = LevenbergMarquardt(**{"iterations": 100, "patience": 1000, "ridge": 0.0, **options})
    return optimizer.minimise(train, validation, state, **report)


def undamped(train: EnergyObjective, seed: int = 1) -> OptimizerState:
    state = OptimizerState.start(np.random.default_rng(seed).normal(size=train.n_parameters))
    state.numbers["damping"] = 0.0
    return state


@pytest.mark.parametrize("ridge", [0.0, 1e-3, 1.0])
def test_one_undamped_step_solves_a_linear_model(ridge: float) -> None:
    train, _ = regression.problem(40, noise=0.3)
    state = fit(train, undamped(train), iterations=1, ridge=ridge)
    expected = regression.best_linear(train, ridge)
    assert_close(state.parameters, expected)
    assert state.history[0].train == pytest.approx(regression.rmse(train, expected))
    assert state.reason == "number of iterations reached"


def test_the_default_damping_reaches_the_optimum_too() -> None:
    train, _ = regression.problem(40, noise=0.3)
    state = fit(train, OptimizerState.start(np.zeros(train.n_parameters)), iterations=12)
    assert_close(state.parameters, regression.best_linear(train), relative=1e-6)


def test_it_ends_when_no_step_lowers_the_loss() -> None:
    train, _ = regression.problem(40, noise=0.3)
    state = OptimizerState.start(regression.best_linear(train))
    fit(train, state)
    assert state.finished
    assert "no step lowers the loss" in state.reason or "converged" in state.reason
    assert_close(state.best, regression.best_linear(train), relative=1e-6)


@pytest.mark.parametrize("activation", ["tanh", "softplus", "silu", "twist"])
def test_a_network_finds_back_to_the_parameters_that_made_the_targets(activation: str) -> None:
    train, teacher = regression.problem(200, hidden=(3,), activation=activation)
    near = teacher + 0.02 * np.random.default_rng(1).normal(size=len(teacher))
    state = fit(train, OptimizerState.start(near), iterations=30)
    assert regression.rmse(train, near) > 1e-3
    assert state.history[-1].train < 1e-6


def test_the_loss_never_rises_and_all_numbers_are_true() -> None:
    train, _ = regression.problem(60, hidden=(4, 3), activation="tanh", noise=0.1)
    validation, _ = regression.problem(30, hidden=(4, 3), activation="tanh", noise=0.1, seed=3)
    seen: list[tuple[int, float, float]] = []

    def report(state: OptimizerState) -> None:
        last = state.history[-1]
        seen.append((last.iteration, last.train, last.validation))
        assert last.train == pytest.approx(regression.rmse(train, state.parameters), rel=1e-9)
        assert last.validation == pytest.approx(regression.rmse(validation, state.parameters), rel=1e-12)
        assert last.error == last.validation

    start = OptimizerState.start(train.model.initial(np.random.default_rng(2)))
    state = fit(train, start, validation=validation, report=report, iterations=25)
    assert [number for number, _, _ in seen] == list(range(1, len(seen) + 1))
    assert all(np.diff([error for _, error, _ in seen]) <= 0)
    assert state.iteration == len(state.history) == len(seen)
    best = int(np.argmin([error for _, _, error in seen]))
    assert state.best_iteration == best + 1
    assert regression.rmse(validation, state.best) == pytest.approx(
        min(error for _, _, error in seen), rel=1e-12
    )


def test_it_stops_by_patience_and_keeps_the_best() -> None:
    """Targets of noise alone: the held-out error rises as soon as the network fits them."""
    train, _ = regression.problem(40, hidden=(6,), activation="tanh", noise=3.0)
    validation, _ = regression.problem(40, hidden=(6,), activation="tanh", noise=3.0, seed=5)
    start = OptimizerState.start(train.model.initial(np.random.default_rng(2)))
    state = fit(train, start, validation=validation, patience=4)
    assert state.reason == "no better validation error for 4 iterations"
    assert state.iteration == state.best_iteration + 4
    assert not np.array_equal(state.best, state.parameters)
    errors = [step.validation for step in state.history]
    assert (
        regression.rmse(validation, state.best)
        == pytest.approx(min(errors))
        == pytest.approx(errors[state.best_iteration - 1])
    )


def test_it_stops_by_convergence() -> None:
    train, _ = regression.problem(80, hidden=(2,), activation="tanh", noise=0.5)
    start = OptimizerState.start(train.model.initial(np.random.default_rng(2)))
    state = fit(train, start, iterations=2000)
    assert state.finished
    assert state.iteration < 2000
    slope = np.zeros(train.n_parameters)
    train.normal_equations(state.parameters, np.zeros((len(slope), len(slope))), slope)
    first = np.zeros_like(slope)
    train.normal_equations(start.best * 0, np.zeros((len(slope), len(slope))), first)
    assert np.linalg.norm(slope) < 0.01 * np.linalg.norm(first)


def test_constant_features_and_species_without_atoms_do_no_harm() -> None:
    """Without a ridge, their columns of the normal equations are zero."""
    rng = np.random.default_rng(0)
    whole, _ = regression.problem(50, hidden=(3,), activation="tanh", n_species=3, noise=0.1)
    features = whole.table.features.copy()
    features[:, 1] = 0.0
    counts = np.diff(whole.table.rows, axis=1)
    table = type(whole.table)(features, whole.table.rows, whole.table.order)
    present = np.flatnonzero(counts[2] == 0)  # structures without the third species
    train = EnergyObjective(whole.model, table, whole.targets, whole.weights).select(present)
    start = OptimizerState.start(whole.model.initial(rng))
    before = regression.rmse(train, start.parameters)
    state = fit(train, start, iterations=20)
    assert np.isfinite(state.parameters).all()
    assert state.history[-1].train < 0.5 * before


def test_a_start_far_out_of_range_stays_finite() -> None:
    train, _ = regression.problem(50, hidden=(3,), activation="softplus", noise=0.1)
    start = OptimizerState.start(1e120 * train.model.initial(np.random.default_rng(0)))
    state = fit(train, start, iterations=5)
    assert state.finished
    assert np.isfinite(state.parameters).all()


def test_a_state_from_a_file_goes_on_bit_by_bit(tmp_path: Path) -> None:
    train, _ = regression.problem(60, hidden=(4,), activation="tanh", noise=0.1)
    start = train.model.initial(np.random.default_rng(2))
    whole = fit(train, OptimizerState.start(start), iterations=12)
    half = fit(train, OptimizerState.start(start), iterations=5)
    half.finished, half.reason = False, ""
    half.save(tmp_path / "state", "job")
    back = OptimizerState.load(tmp_path / "state", "job")
    assert back is not None
    resumed = fit(train, back, iterations=12)
    contracts.assert_same_bits([[s.parameters, s.best] for s in (whole, resumed)])
    assert resumed.numbers == whole.numbers
    assert [s.train for s in resumed.history] == [s.train for s in whole.history]


def test_number_of_threads_does_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    train, _ = regression.problem(300, hidden=(5,), activation="tanh", noise=0.1)
    start = train.model.initial(np.random.default_rng(2))
    contracts.assert_threads(
        lambda: [fit(train, OptimizerState.start(start.copy()), iterations=5).parameters], monkeypatch
    )


def test_steps_among_the_residuals_are_those_of_the_normal_equations(monkeypatch: pytest.MonkeyPatch) -> None:
    data = samples.waters(4)
    options: dict[str, Any] = {
        "hidden": (20,),
        "forces": True,
        "iterations": 3,
        "alpha": 0.9,
        "validation": 0.0,
    }
    few = train(data, samples.DESCRIPTOR, optimizer="lm", **options)
    assert few.model.n_parameters > sum(structure.n_labels for structure in data)
    monkeypatch.setattr(
        LevenbergMarquardt,
        "_system",
        lambda _, task, penalty, frozen: _NormalEquations.zeros(task, penalty, frozen),
    )
    many = train(data, samples.DESCRIPTOR, optimizer="lm", **options)
    np.testing.assert_allclose(few.parameters, many.parameters, atol=1e-8)


def test_fewer_labels_than_parameters_are_remarked(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "gprann"):
        train(samples.waters(3), samples.DESCRIPTOR, hidden=(20,), forces=True, iterations=1, validation=0.0)
    assert "882 parameters, but only 30 energies and forces to determine them" in caplog.text


def test_a_network_without_hidden_layers_is_solved_in_one_step() -> None:
    """Energies and forces are linear in its parameters: more iterations change nothing."""
    data = samples.waters(30, size=0.3)
    descriptor = gprann.ChebyshevDescriptor(data.species, radial_order=3, angular_order=None)
    one, more = (
        train(
            data, descriptor, hidden=(), forces=True, optimizer="lm", iterations=n, validation=0.0, alpha=0.9
        )
        for n in (1, 5)
    )
    errors = [gprann.evaluate(potential, data).force_mae for potential in (one, more)]
    assert errors[0] == pytest.approx(errors[1], rel=0.02)
