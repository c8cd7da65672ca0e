"""Standard deviations against errors: the factors, where they come from, and what they do to predictions."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import samples
from contracts import Array, assert_close
from gprann.data.structure import Dataset
from gprann.evaluation import evaluate
from gprann.surrogate import Surrogate
from gprann.surrogate.hyperparameters.criteria import LeftOut
from gprann.surrogate.solvers import calibration as module
from gprann.surrogate.solvers.calibration import Calibration, calibrate, factor_of

FIXED: dict[str, Any] = {"length": 4.0, "energy_noise": 1e-8, "force_noise": 1e-8}


@pytest.mark.parametrize("truth", [0.3, 1.0, 4.0])
def test_factor_of_normal_errors(truth: float) -> None:
    rng = np.random.default_rng(3)
    std = rng.uniform(0.5, 2.0, size=4000)
    errors = truth * std * rng.normal(size=4000)
    assert factor_of(errors, std) == pytest.approx(truth, rel=0.05)
    errors[:20] *= 1e3  # failures do not decide
    assert factor_of(errors, std) == pytest.approx(truth, rel=0.06)


def test_factor_without_a_scale_is_one() -> None:
    assert factor_of(np.ones(20), np.zeros(20)) == 1.0
    assert factor_of(np.zeros(20), np.ones(20)) == 1.0


def left_out(data: Dataset, kernel: str) -> tuple[Array, Array, Array, Array]:
    """Errors and uncalibrated standard deviations of every structure predicted by a surrogate of the others."""
    energies, stds, forces, force_stds = [], [], [], []
    whole = Surrogate(kernel, **FIXED).fit(data)
    amplitude2 = whole.hyperparameters.amplitude**2
    for index, structure in enumerate(data):
        others = Surrogate(kernel, **FIXED)
        others.fit(data)  # the fingerprint of the whole set
        others._fingerprint.fit = lambda _: None  # type: ignore[method-assign]
        others.fit(data.select(np.delete(np.arange(len(data)), index)))
        state = others._require_fit()
        others._calibration = Calibration()
        found = others.predict(Dataset([structure]), forces_std=True)
        assert found.energy_std is not None
        assert found.forces_std is not None
        size = np.sqrt(amplitude2 / state.amplitude2)
        energies.append(found.energy[0] - structure.energy)
        stds.append(found.energy_std[0] * size)
        forces.append((found.forces[0] - structure.forces).ravel())
        force_stds.append(found.forces_std[0].ravel() * size)
    return np.array(energies), np.array(stds), np.concatenate(forces), np.concatenate(force_stds)


@pytest.mark.parametrize("kernel", ["atoms", "cartesian"])
def test_factors_are_those_of_surrogates_without_the_structure(
    kernel: str,
) -> None:
    """Each fitted in earnest; the mean energy, the unit of the noise and the amplitude move a little."""
    data = samples.waters(12)
    surrogate = Surrogate(kernel, **FIXED).fit(data)
    energy, std, force, force_std = left_out(data, kernel)
    found = surrogate.calibration
    assert found.n_structures == 12
    assert found.force == pytest.approx(factor_of(force, force_std), rel=0.05)
    # Twelve structures against the twenty that the forces count as.
    expected = factor_of(energy, std) ** (12 / 32) * found.force ** (20 / 32)
    assert found.energy == pytest.approx(expected, rel=0.05)


def test_predicted_deviations_carry_the_factors() -> None:
    data, query = samples.waters(12), samples.waters(3, seed=5)
    surrogate = Surrogate(**FIXED).fit(data)
    factors = surrogate.calibration
    calibrated = surrogate.predict(query, forces_std=True)
    surrogate._calibration = Calibration()
    bare = surrogate.predict(query, forces_std=True)
    assert_close(calibrated.energy_std, factors.energy * bare.energy_std)
    for some, others in zip(calibrated.forces_std, bare.forces_std, strict=True):
        assert_close(some, factors.force * others)
    assert surrogate.fit(data).calibration == factors  # found again by another fit


def test_few_structures_are_not_calibrated() -> None:
    assert Surrogate(**FIXED).fit(samples.waters(9)).calibration == Calibration(1.0, 1.0, 0)


def test_of_large_sets_a_random_part_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    data = samples.waters(40)
    whole = Surrogate(**FIXED, seed=4).fit(data)
    expected = whole.predict(data[:2])
    monkeypatch.setattr(module, "IN_TURN_ROWS", 150)
    part = Surrogate(**FIXED, seed=4).fit(data)
    assert whole.calibration.n_structures == 40
    assert part.calibration.n_structures == 15
    assert 0.5 < part.calibration.energy / whole.calibration.energy < 2
    assert part._require_fit().equations.data[-15:].energies.tolist() != data[-15:].energies.tolist()
    assert_close(part.predict(data[:2]).energy, expected.energy, relative=1e-9)


def test_forces_along_rigid_motions_are_errors() -> None:
    """No invariant kernel predicts a resultant force."""
    data = Dataset(s.replace(forces=s.forces + 1.0) for s in samples.waters(12))
    latent = [np.eye(4)] * 12
    errors = LeftOut(np.ones(12), [np.zeros(3)] * 12, latent)
    assert calibrate(errors, data, "rotation").force > 0.5


@pytest.mark.parametrize(("make", "n"), [(samples.waters, 30), (samples.crystals, 30)])
def test_errors_of_other_structures_are_as_large_as_predicted(make: Any, n: int) -> None:
    report = evaluate(Surrogate(**FIXED).fit(make(n)), make(200, seed=7), forces_std=80)
    assert 0.5 < report.within_one_std < 0.85
    assert report.within_two_std > 0.8
    assert 0.5 < report.force_within_one_std < 0.85
    assert report.force_within_two_std > 0.85
    assert "force component errors within one std" in report.summary()


def test_evaluation_asks_for_the_forces_of_some_structures() -> None:
    surrogate, query = Surrogate(**FIXED).fit(samples.waters(12)), samples.waters(9, seed=7)
    forces = evaluate(surrogate, query, forces_std=4).residuals.forces
    known = np.isfinite(forces.std).all(axis=1)
    assert sorted(set(forces.structure[known].tolist())) == [0, 3, 5, 8]
    assert np.isnan(forces.std[~known]).all()
    assert evaluate(surrogate, query, forces_std=0).force_within_one_std is None
    assert np.isfinite(evaluate(surrogate, query).residuals.forces.std).all()
