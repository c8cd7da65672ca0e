"""Corrections that are weighed by their own certainty: exact derivatives, and the baseline alone far away."""

from typing import Any

import numpy as np
import pytest

import gprann
import samples
from gprann.data.structure import Dataset
from gprann.errors import ConfigError
from gprann.surrogate import prediction
from gprann.surrogate.solvers.environments import SparsePosterior

SOLVERS: dict[str, dict[str, Any]] = {
    "cholesky": {},
    "conjugate_gradient": {"inducing": 3},
    "inducing": {"inducing": 4},
    "sparse": {"environments": 9},
}
FIXED: dict[str, Any] = {"length": 4.0, "energy_noise": 1e-6, "force_noise": 1e-6}


def fitted(bound: float | str | None, solver: str = "cholesky", **options: Any) -> gprann.Surrogate:
    chosen = {**FIXED, "solver": solver, **SOLVERS[solver], **options}
    return gprann.Surrogate(bound=bound, **chosen).fit(samples.waters(6))


def displaced(size: float) -> gprann.Structure:
    item = samples.waters(7)[6].without_labels()
    return item.replace(
        positions=item.positions + np.random.default_rng(0).normal(0.0, size, item.positions.shape)
    )


def assert_forces_are_gradients(surrogate: gprann.Surrogate, item: gprann.Structure) -> None:
    """Compare forces with central differences of the energy, whose error falls by four with half the step."""
    direction = np.random.default_rng(1).normal(size=item.positions.shape)
    slope = -float(np.sum(surrogate.predict(Dataset([item])).forces[0] * direction))
    errors = []
    for step in (0.008, 0.004):
        moved = [item.replace(positions=item.positions + s * direction) for s in (step, -step)]
        energies = surrogate.predict(Dataset(moved)).energy
        errors.append(abs(float(energies[0] - energies[1]) / (2.0 * step) - slope))
    assert errors[0] / errors[1] == pytest.approx(4.0, rel=0.15)


@pytest.mark.parametrize("solver", SOLVERS)
def test_forces_are_the_gradient_of_the_weighed_energy(solver: str) -> None:
    item = displaced(0.15)
    plain = fitted("off", solver).predict(Dataset([item]))
    surrogate = fitted(float(plain.energy_std[0]), solver)  # a weight of one half
    found = surrogate.predict(Dataset([item]))
    mean = float(np.mean(samples.waters(6).energies))
    assert found.energy[0] - mean == pytest.approx(0.5 * (plain.energy[0] - mean), rel=1e-3)
    assert_forces_are_gradients(surrogate, item)


def test_large_sets_are_weighed_by_representative_environments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prediction, "_EXACT", 10)
    monkeypatch.setattr(prediction, "_ENVIRONMENTS", 8)
    monkeypatch.setattr(prediction, "kept_for_calibration", lambda _: np.array([1]))
    item = displaced(0.15)
    fit = fitted(1.0)._require_fit()
    posterior = prediction.certainty_of(fit)
    assert isinstance(posterior, SparsePosterior)
    relative = prediction.energy_variance(
        posterior, fit.equations.fingerprint.rows(Dataset([item])).sets(), fit.kernel
    )
    surrogate = fitted(float(np.sqrt(fit.amplitude2 * relative[0])))  # a weight of one half
    found, exact = (one.predict(Dataset([item])) for one in (surrogate, fitted("off")))
    mean = float(np.mean(samples.waters(6).energies))
    assert found.energy_std == pytest.approx(exact.energy_std)  # as always
    assert found.energy[0] - mean == pytest.approx(0.5 * (exact.energy[0] - mean), rel=1e-3)
    assert_forces_are_gradients(surrogate, item)


@pytest.mark.parametrize("solver", SOLVERS)
def test_variances_are_those_of_unweighed_predictions(solver: str) -> None:
    data = Dataset([displaced(0.1), displaced(0.3)])
    weighed, plain = (fitted(bound, solver).predict(data) for bound in (0.05, "off"))
    np.testing.assert_allclose(weighed.energy_std, plain.energy_std, rtol=1e-5)


def test_far_away_the_baseline_alone_remains() -> None:
    surrogate = fitted(0.02)
    mean = float(np.mean(samples.waters(6).energies))
    far = displaced(1.0)
    found, plain = surrogate.predict(Dataset([far])), fitted("off").predict(Dataset([far]))
    weight = 1.0 / (1.0 + (float(plain.energy_std[0]) / 0.02) ** 4)
    assert weight < 0.1
    assert found.energy[0] - mean == pytest.approx(weight * (plain.energy[0] - mean), rel=1e-4)


def test_training_structures_are_kept() -> None:
    data = samples.waters(6)
    weighed, plain = (fitted(bound).predict(data) for bound in (0.05, "off"))
    np.testing.assert_allclose(weighed.energy, plain.energy, atol=1e-3)


def test_the_default_follows_the_baseline() -> None:
    data = gprann.examples.hydrogen(6)
    assert gprann.Surrogate().fit(data).bound is None
    assert gprann.Surrogate(baseline="zbl").fit(data).bound is None  # exerts none on the training set
    emt = gprann.CalculatorBaseline(calculator="emt")
    assert gprann.Surrogate(baseline=emt).fit(data).bound == prediction._UNKNOWN  # nothing was held out
    assert gprann.Surrogate(baseline=emt, bound="off").fit(data).bound is None
    assert gprann.Surrogate(baseline=emt, bound=0.3).fit(data).bound == 0.3


def test_it_is_saved(tmp_path: Any) -> None:
    surrogate = fitted(0.05)
    surrogate.save(tmp_path / "surrogate.gprann")
    item = Dataset([displaced(0.2)])
    again = gprann.load(tmp_path / "surrogate.gprann")
    assert np.array_equal(again.predict(item).energy, surrogate.predict(item).energy)


def test_bad_input() -> None:
    for bad in (0.0, -1.0, "on"):
        with pytest.raises(ConfigError, match="bound"):
            gprann.Surrogate(bound=bad)
