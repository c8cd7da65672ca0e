"""Standard deviations of committees that surrogates have taught."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import samples
from gprann import ChebyshevDescriptor, Potential, Surrogate, augment, evaluate, load, train
from gprann.errors import FormatError
from gprann.model_file import read_model_file, write_model_file
from gprann.pipeline.uncertainty import calibrate_committee

DATA = samples.waters(12, size=0.2)


@pytest.fixture(scope="module")
def surrogate() -> Surrogate:
    return Surrogate(length=8.0, energy_noise=1e-4, force_noise=1e-4).fit(DATA)


@pytest.fixture(scope="module")
def committee(surrogate: Surrogate) -> Potential:
    descriptor = ChebyshevDescriptor(DATA.species, radial_order=4, angular_order=2)
    copies = augment(DATA, surrogate, copies=3, displacement=0.1, forces=True)
    return train(copies, descriptor, hidden=(4,), members=3, forces=True, iterations=25)


def test_errors_of_the_teacher_count(committee: Potential, surrogate: Surrogate) -> None:
    calibrated = calibrate_committee(committee, DATA, [surrogate.to_dict()])
    assert min(calibrated.std_factors) >= 1.0
    query = samples.waters(200, size=0.2, seed=4)
    before, after = committee.predict(query), calibrated.predict(query)
    np.testing.assert_array_equal(before.energy, after.energy)
    np.testing.assert_allclose(
        after.energy_std, calibrated.std_factors[0] * before.required_energy_std, rtol=1e-12
    )
    shares = [evaluate(model, query).within_two_std for model in (committee, calibrated)]
    assert shares[0] is not None
    assert shares[1] is not None
    assert shares[0] <= shares[1]
    assert shares[1] > 0.75


def test_nothing_is_scaled_without_a_teacher_that_knows_its_errors(
    committee: Potential, surrogate: Surrogate
) -> None:
    few = Surrogate(length=8.0, energy_noise=1e-4, force_noise=1e-4).fit(DATA[:5])
    assert calibrate_committee(committee, DATA, []).std_factors == (1.0, 1.0)
    assert calibrate_committee(committee, DATA, [few.to_dict()]).std_factors == (1.0, 1.0)
    assert calibrate_committee(committee[:1], DATA, [surrogate.to_dict()]).std_factors == (1.0, 1.0)


def test_files_keep_the_factors(committee: Potential, surrogate: Surrogate, tmp_path: Path) -> None:
    calibrated = calibrate_committee(committee, DATA, [surrogate.to_dict()])
    calibrated.save(tmp_path / "own.gprann")
    loaded = load(tmp_path / "own.gprann")
    assert isinstance(loaded, Potential)
    assert loaded.std_factors == calibrated.std_factors
    document, arrays = read_model_file(tmp_path / "own.gprann")
    write_model_file(tmp_path / "wrong.gprann", {**document, "std_factors": [1.0, -1.0]}, arrays)
    with pytest.raises(FormatError, match="std_factors are"):
        load(tmp_path / "wrong.gprann")
