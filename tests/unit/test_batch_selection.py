"""Batch selection: greedy variance reduction against brute force, and no copies of one structure twice."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import samples
from contracts import Array
from gprann import Dataset, Surrogate, select
from gprann.active.select import committee_covariance, structure_features
from gprann.errors import ConfigError, DataError
from gprann.potential import Potential
from gprann.surrogate.solvers.posterior import greedy_variance_reduction


def random_covariance(n: int, seed: int) -> Array:
    factor = np.random.default_rng(seed).normal(size=(n, n + 2))
    return factor @ factor.T / n


def left_after(covariance: Array, rows: list[int], noise: Array) -> float:
    """Sum of the posterior variances by the textbook formula, all observations at once."""
    K = covariance[np.ix_(rows, rows)] + np.diag(noise[rows])
    cross = covariance[:, rows]
    return float(np.trace(covariance - cross @ np.linalg.solve(K, cross.T)))


@settings(deadline=None)
@given(st.integers(2, 8), st.integers(0, 1000))
def test_each_step_is_the_best_one(n: int, seed: int) -> None:
    covariance = random_covariance(n, seed)
    before = covariance.copy()
    noise = np.random.default_rng(seed + 1).uniform(1e-3, 0.1, size=n)
    rows, left = greedy_variance_reduction(covariance, n, noise=noise)
    np.testing.assert_array_equal(covariance, before)
    assert len(set(rows.tolist())) == len(rows)
    for k in range(len(rows)):
        taken = rows[:k].tolist()
        best = min(left_after(covariance, [*taken, j], noise) for j in range(n) if j not in taken)
        assert left[k] == pytest.approx(best, rel=1e-9, abs=1e-12)
        assert left[k] == pytest.approx(
            left_after(covariance, rows[: k + 1].tolist(), noise), rel=1e-9, abs=1e-12
        )


def test_thresholds_hold_for_what_is_left() -> None:
    """Once one of two copies is taken, the other one is certain."""
    covariance = np.array([[1.0, 1.0, 0.0], [1.0, 1.0, 0.0], [0.0, 0.0, 0.01]])
    noise = np.full(3, 1e-9)
    assert greedy_variance_reduction(covariance, 3, noise=noise, threshold=0.2)[0].tolist() == [0]
    assert greedy_variance_reduction(covariance, 3, noise=noise, threshold=0.05)[0].tolist() == [0, 2]
    assert greedy_variance_reduction(covariance, 3, noise=noise, threshold=2.0)[0].tolist() == []


# A surrogate and a committee that know the water molecule, asked about three ways to leave it -------------------


def fitted() -> Surrogate:
    return Surrogate(length=4.0, energy_noise=1e-7, force_noise=1e-7).fit(samples.waters(8))


def committee() -> Potential:
    return samples.potential(members=8)


MODELS = pytest.mark.parametrize("model", [fitted, committee])


def near_duplicates() -> Dataset:
    """Six copies (within 1e-4 Å) of each of three distorted waters."""
    rng = np.random.default_rng(2)
    kinds = samples.waters(3, size=0.5, seed=11)
    return Dataset(
        kind.replace(positions=kind.positions + rng.normal(0, 1e-4, (3, 3)), energy=None, forces=None)
        for kind in kinds
        for _ in range(6)
    )


@MODELS
def test_near_duplicates_are_taken_once(model: Callable[[], Surrogate | Potential]) -> None:
    candidates, predictor = near_duplicates(), model()
    std = predictor.predict(candidates).energy_std
    assert std is not None
    top_of_the_list = np.argsort(-std)[:3] // 6
    assert len(set(top_of_the_list)) == 1  # what mere sorting would do
    chosen = select(candidates, predictor, 3)
    assert sorted(chosen.indices // 6) == [0, 1, 2]
    np.testing.assert_allclose(chosen.std, std[chosen.indices] / 3, rtol=1e-5)
    assert [item.positions.tolist() for item in chosen.structures] == [
        candidates[int(i)].positions.tolist() for i in chosen.indices
    ]


@MODELS
def test_what_is_left_falls(model: Callable[[], Surrogate | Potential]) -> None:
    candidates, predictor = samples.waters(30, size=0.4, seed=4), model()
    chosen = select(candidates, predictor, 6)
    assert len(chosen.indices) == 6
    assert np.all(np.diff(chosen.std_left) < 0)
    taken: list[int] = []
    threshold = float(np.median(chosen.std))
    few = select(candidates, predictor, 30, threshold=threshold, progress=taken.append)
    assert 0 < len(few.indices) == len(taken) < 30
    assert few.std.min() > threshold
    assert len(select(candidates, predictor, 6, threshold=1e3).structures) == 0


def test_labelling_the_selection_does_what_it_says() -> None:
    """The surrogate fitted with the selected structures is more certain than with the most uncertain ones."""
    training, candidates = samples.waters(8), near_duplicates() + samples.waters(10, size=0.3, seed=9)
    surrogate = fitted()
    std = surrogate.predict(candidates).energy_std
    assert std is not None

    def left(indices: Array) -> float:
        more = training + [samples.labelled(candidates[int(i)]) for i in indices]
        grown = Surrogate(length=4.0, energy_noise=1e-7, force_noise=1e-7).fit(
            more, standardise_over=training
        )
        after = grown.predict(candidates).energy_std
        assert after is not None
        return float(np.sqrt(np.mean(after**2)) / grown.hyperparameters.amplitude)

    assert left(select(candidates, surrogate, 3).indices) < 0.8 * left(np.argsort(-std)[:3])


def test_candidates_of_several_sizes() -> None:
    """A committee knows any composition; energies count per atom."""
    candidates = samples.waters(3, size=0.4) + samples.crystals(3) + [samples.chain(["H", "H"])]
    chosen = select(candidates, committee(), 4)
    std = committee().predict(candidates).energy_std
    assert std is not None
    np.testing.assert_allclose(chosen.std, (std / candidates.n_atoms)[chosen.indices], rtol=1e-6)


def test_localised_covariance() -> None:
    """Positive semi-definite, the diagonal that of the members, and nothing between distant structures."""
    rng = np.random.default_rng(0)
    energies, features = rng.normal(size=(4, 12)), rng.normal(size=(12, 3))
    features[6:] += 100.0
    covariance = committee_covariance(energies, features)
    np.testing.assert_allclose(np.diagonal(covariance), energies.var(axis=0))
    assert np.linalg.eigvalsh(covariance)[0] > -1e-12
    assert np.abs(covariance[:6, 6:]).max() < 0.2 * np.abs(np.cov(energies.T)[:6, 6:]).max()
    same = committee_covariance(energies, np.zeros((12, 3)))
    np.testing.assert_allclose(same, np.cov(energies.T, bias=True))


def test_features_are_means_over_the_atoms() -> None:
    potential = samples.potential()
    data = samples.waters(2) + samples.crystals(1)
    features = structure_features(data, potential)
    swapped = data[0].replace(symbols=("H", "H", "O"), positions=data[0].positions[[1, 2, 0]], forces=None)
    np.testing.assert_allclose(structure_features(Dataset([swapped]), potential)[0], features[0], atol=1e-10)
    doubled = np.concatenate([data[2].positions, data[2].positions + data[2].cell[0]])
    supercell = data[2].replace(
        symbols=data[2].symbols * 2,
        positions=doubled,
        cell=data[2].cell * [[2], [1], [1]],
        energy=None,
        forces=None,
    )
    np.testing.assert_allclose(structure_features(Dataset([supercell]), potential)[0], features[2], atol=1e-9)


def test_large_pools_keep_the_most_uncertain(monkeypatch: pytest.MonkeyPatch) -> None:
    candidates = samples.waters(20, size=0.4, seed=4)
    surrogate = fitted()
    std = surrogate.predict(candidates).energy_std
    assert std is not None
    monkeypatch.setattr("gprann.active.select._POOL", 5)
    chosen = select(candidates, surrogate, 5)
    assert set(chosen.indices) <= set(np.argsort(-std)[:5])


def test_impossible_requests() -> None:
    data, surrogate = samples.waters(2), fitted()
    with pytest.raises(ConfigError, match="count = 0"):
        select(data, surrogate, 0)
    with pytest.raises(ConfigError, match="threshold = -1"):
        select(data, surrogate, 1, threshold=-1.0)
    with pytest.raises(DataError, match="no candidates"):
        select(Dataset(), surrogate, 1)
    with pytest.raises(ConfigError, match="train a committee"):
        select(data, samples.potential(members=1), 1)
    with pytest.raises(ConfigError, match="has not been fitted"):
        select(data, Surrogate(), 1)
    with pytest.raises(DataError, match="composition"):
        select(Dataset([samples.chain(["H", "H"])]), surrogate, 1)
