"""Structures that are added to a surrogate later."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import contracts
import samples
from contracts import Array, assert_close
from gprann import _core
from gprann.data.structure import Dataset
from gprann.errors import ConfigError, DataError, FactorisationError
from gprann.runtime.resources import one_blas_thread
from gprann.surrogate import Surrogate, SurrogateOptions
from gprann.surrogate.gaussian_process import Factor, PosteriorMean
from gprann.surrogate.observations import Observations, observe
from samples import FIXED, KERNELS, MAKERS, system


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(8)


def test_an_extended_factor_is_that_of_the_whole_matrix(rng: np.random.Generator) -> None:
    A, _ = system(600, rng)
    n = 530
    with one_blas_thread():
        before = Factor(np.linalg.cholesky(A[:n, :n]))
        extended = before.extend(A[n:])
    expected = np.linalg.cholesky(A)
    assert_close(np.tril(extended.L), expected, relative=1e-11)


def test_a_row_that_cannot_be_added_is_named() -> None:
    before = Factor(np.linalg.cholesky(np.diag([2.0, 1.0])))
    with pytest.raises(FactorisationError, match="at row 2 of 3") as caught:
        before.extend(np.array([[2.0, 0.0, 1.0]]))
    assert caught.value.row == 2


@pytest.mark.parametrize("make", MAKERS)
@pytest.mark.parametrize("kernel", KERNELS)
def test_extended_surrogates_predict_as_fits_to_all(kernel: Any, make: Callable[..., Dataset]) -> None:
    """With the features' scaling and the noise of the first fit."""
    first, second, query = make(6), make(4, seed=2), make(5, seed=3)
    surrogate = Surrogate(kernel, **FIXED).fit(first)
    noise = surrogate._require_fit().solution.noise
    together = first + second
    mean = float(together.energies.mean())
    problem, rows, jacobians = observe(surrogate.fingerprint, together, mean)
    length = FIXED["length"] * surrogate.fingerprint.spread
    lower = np.tril(problem.covariance(length))
    A = lower + np.tril(lower, -1).T + np.diag(problem.noise(*noise))
    alpha = np.linalg.solve(A, problem.values)
    folded = PosteriorMean.from_weights(rows, jacobians, alpha, problem.first)
    energy, _ = folded.predict(surrogate.fingerprint.rows(query), problem.kernel(length))
    assert surrogate.extend(second) is surrogate
    prediction = surrogate.predict(query)
    assert_close(prediction.energy, energy + mean, relative=1e-9)
    assert surrogate.hyperparameters.amplitude == pytest.approx(np.sqrt(problem.values @ alpha / len(alpha)))
    assert surrogate.to_dict()["n_structures"] == 10
    assert variance_of(surrogate, query) == pytest.approx(
        expected_variance(problem, A, surrogate, query), rel=1e-5
    )


def variance_of(surrogate: Surrogate, query: Dataset) -> Array:
    std, _ = samples.uncalibrated(surrogate, surrogate.predict(query, forces_std=True))
    return (std / surrogate.hyperparameters.amplitude) ** 2


def expected_variance(problem: Observations, A: Array, surrogate: Surrogate, query: Dataset) -> Array:
    joint, _, _ = observe(surrogate.fingerprint, query, 0.0)
    kernel = problem.kernel(FIXED["length"] * surrogate.fingerprint.spread)
    cross = np.zeros((joint.sets.observations, problem.sets.observations))
    _core.covariance(joint.sets, problem.sets, kernel, _core.Blas(), False, 1, cross)
    cross = cross[joint.first[:-1]]
    prior = _core.energy_variance(joint.sets, kernel)
    variance: Array = prior - np.einsum("qk,kq->q", cross, np.linalg.solve(A, cross.T))
    return variance


@pytest.mark.parametrize("solver", ["cholesky", "conjugate_gradient", "inducing"])
def test_structures_added_improve_predictions(solver: Any) -> None:
    query = samples.waters(20, seed=3)
    surrogate = Surrogate(**FIXED, solver=solver).fit(samples.waters(5))
    errors = []
    for seed in (7, 8):
        errors.append(float(np.abs(surrogate.predict(query).energy - query.energies).mean()))
        surrogate.extend(samples.waters(20, seed=seed))
    errors.append(float(np.abs(surrogate.predict(query).energy - query.energies).mean()))
    assert errors[2] < errors[1] < errors[0]


def test_another_solver_may_be_chosen_for_the_larger_set() -> None:
    """As where memory has become free: the factor of the representatives is not that of the training set."""
    query = samples.waters(5, seed=3)
    surrogate = Surrogate(**FIXED, solver="conjugate_gradient", inducing=2).fit(samples.waters(6))
    surrogate._options = SurrogateOptions(**FIXED, solver="cholesky")
    prediction = surrogate.extend(samples.waters(4, seed=2)).predict(query)
    expected = Surrogate(**FIXED).fit(samples.waters(6)).extend(samples.waters(4, seed=2)).predict(query)
    assert surrogate.to_dict()["solver"] == "cholesky"
    assert_close(prediction.energy, expected.energy, relative=1e-2)


def test_extending_by_nothing_or_by_known_structures_changes_little() -> None:
    data = samples.waters(6)
    surrogate = Surrogate(**FIXED).fit(data)
    before = surrogate.predict(data).energy
    contracts.assert_same_bits([[surrogate.extend(data[:0]).predict(data).energy], [before]])
    assert_close(surrogate.extend(data[:3]).predict(data).energy, before, relative=1e-3)


def test_a_refused_extension_leaves_the_surrogate_as_it_was() -> None:
    data = samples.waters(5)
    with pytest.raises(ConfigError, match="has not been fitted"):
        Surrogate().extend(data)
    surrogate = Surrogate(**FIXED).fit(data)
    before = surrogate.predict(data).energy
    chain = Dataset([samples.labelled(samples.chain("OHO"))])
    for added, message in (
        (chain, "composition HO2 is not that of"),
        (Dataset([data[0].replace(forces=None)]), "has no forces"),
    ):
        with pytest.raises(DataError, match=message):
            surrogate.extend(added)
    contracts.assert_same_bits([[surrogate.predict(data).energy], [before]])


@pytest.mark.parametrize("solver", ["cholesky", "inducing"])
def test_structures_that_are_there_are_not_added_again(solver: Any, caplog: pytest.LogCaptureFixture) -> None:
    """Neither moved as a whole, nor with another label, nor twice among the new ones."""
    data, new = samples.waters(8), samples.waters(2, seed=4)
    moved = data[3].replace(positions=data[3].positions + 1.0, energy=7.0)
    surrogate = Surrogate(**FIXED, solver=solver).fit(data)
    before = surrogate.predict(new).energy
    assert surrogate.extend([data[2], moved]) is surrogate  # type: ignore[arg-type]
    contracts.assert_same_bits([[surrogate.predict(new).energy], [before]])
    assert "2 of 2 structures left out, their geometries are in the training set already" in caplog.text
    assert "waters, structure 2, waters, structure 3" in caplog.text
    caplog.clear()
    surrogate.extend(Dataset([data[0], new[0], new[0], new[1]]))
    assert "2 of 4 structures left out" in caplog.text
    expected = Surrogate(**FIXED, solver=solver).fit(data).extend(new)
    contracts.assert_same_bits([[m.predict(data).energy] for m in (surrogate, expected)])
    assert surrogate.to_dict()["n_structures"] == 10


def test_noise_rises_where_the_extended_matrix_is_singular(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def failing(self: Factor, rows: Array) -> Factor:
        raise FactorisationError("singular", 3)

    monkeypatch.setattr(Factor, "extend", failing)
    data = samples.waters(5)
    given_noise = Surrogate("pairs", **FIXED).fit(data)
    with pytest.raises(FactorisationError):
        given_noise.extend(samples.waters(5, seed=4))
    surrogate = Surrogate("pairs", length=3.0).fit(data)
    surrogate.extend(samples.waters(3, seed=4))
    assert caplog.text.count("singular in double precision") == 1
    assert surrogate.to_dict()["n_structures"] == 8
