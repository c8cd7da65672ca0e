"""One surrogate over several compositions and numbers of atoms."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import contracts
import samples
from gprann import load
from gprann.data.structure import Dataset, Structure
from gprann.errors import DataError
from gprann.surrogate import Surrogate
from gprann.surrogate.compositions import fractions

FIXED: dict[str, Any] = {"length": 8.0, "energy_noise": 1e-8, "force_noise": 1e-8}
SOLVERS = ("cholesky", "conjugate_gradient", "sparse")


def chains(n: int, *formulas: str, seed: int = 0) -> Dataset:
    """Rattled chains of some formulas in turn."""
    rng = np.random.default_rng(seed)
    found = []
    for k in range(n):
        chain = samples.chain(formulas[k % len(formulas)])
        moved = chain.replace(positions=chain.positions + rng.normal(0, 0.05, chain.positions.shape))
        found.append(samples.labelled(moved))
    return Dataset(found)


def errors(surrogate: Surrogate, data: Dataset) -> tuple[float, float]:
    found = surrogate.predict(data)
    forces = np.concatenate(found.forces) - np.concatenate(data.forces)
    return float(np.abs(found.energy - data.energies).mean()), float(np.abs(forces).mean())


@pytest.mark.parametrize("solver", SOLVERS)
def test_one_surrogate_predicts_all_compositions(solver: str) -> None:
    data = chains(40, "HOH", "HH", "OH", "HOOH")
    query = chains(20, "HOH", "HH", "OH", "HOOH", seed=1)
    surrogate = Surrogate(solver=solver).fit(data)
    energy, force = errors(surrogate, query)
    assert energy < 0.05 * query.energies.std()
    assert force < 0.1 * np.abs(np.concatenate(query.forces)).mean()


def test_energies_of_a_composition_that_is_new_are_less_certain() -> None:
    data = chains(30, "HH", "HOH", "OO")
    surrogate = Surrogate().fit(data)
    known, new = chains(10, "HOH", seed=2), chains(10, "HOOH", seed=2)
    of_known, of_new = (surrogate.predict(part) for part in (known, new))
    assert np.median(of_new.energy_std) > 2 * np.median(of_known.energy_std)
    assert np.isfinite(of_new.energy).all()


def test_a_cell_and_its_supercell_agree() -> None:
    data = samples.crystals(12, size=0.1)
    doubled = [
        Structure(
            item.symbols * 2,
            np.concatenate([item.positions, item.positions + item.cell[0]]),
            item.cell * [[2], [1], [1]],
            item.pbc,
        )
        for item in data[:3]
    ]
    training = Dataset([*data, *(samples.labelled(item) for item in doubled[:1])])
    surrogate = Surrogate(**FIXED).fit(training)
    one, two = surrogate.predict(data[:3]), surrogate.predict(Dataset(doubled))
    np.testing.assert_allclose(two.energy, 2 * one.energy, rtol=1e-9, atol=1e-7)
    np.testing.assert_allclose(two.energy_std, 2 * one.energy_std, rtol=1e-3, atol=1e-6)
    for small, large in zip(one.forces, two.forces, strict=True):
        np.testing.assert_allclose(large, np.concatenate([small, small]), atol=1e-6)


def test_one_composition_is_as_before() -> None:
    """No reference energies are fitted where there is nothing to tell them apart."""
    surrogate = Surrogate(**FIXED).fit(samples.waters(6))
    assert not surrogate.baseline.to_dict().get("terms")
    with pytest.raises(DataError, match="composition HO2 is not that of the surrogate's training set, H2O"):
        surrogate.predict(chains(1, "OHO"))


def test_unknown_elements_are_refused() -> None:
    surrogate = Surrogate(**FIXED).fit(chains(8, "HH", "HOH"))
    stranger = Dataset([Structure(("H", "N"), [[0.0, 0, 0], [0, 0, 1.0]])])
    with pytest.raises(DataError, match="structure 0: element N is not in the surrogate's training set"):
        surrogate.predict(stranger)


def test_files_and_extension(tmp_path: Path) -> None:
    data = chains(16, "HH", "HOH")
    surrogate = Surrogate(**FIXED).fit(data[:12])
    query = chains(4, "HOH", "HOOH", seed=3)
    surrogate.save(tmp_path / "mixed.gprann")
    again = load(tmp_path / "mixed.gprann")
    contracts.assert_same_bits([[surrogate.predict(query).energy], [again.predict(query).energy]])
    before = errors(surrogate, data[12:])[1]
    surrogate.extend(data[12:])
    assert errors(surrogate, data[12:])[1] < before


def test_standard_deviations_are_calibrated() -> None:
    surrogate = Surrogate().fit(chains(48, "HOH", "HH", "OH", "HOOH"))
    query = chains(100, "HOH", "HH", "OH", "HOOH", seed=5)
    found = surrogate.predict(query)
    ratio = np.abs(found.energy - query.energies) / found.energy_std
    assert 0.45 < np.mean(ratio < 1) < 0.9
    assert np.mean(ratio < 2) > 0.8


@pytest.mark.parametrize(
    ("known", "new"),
    [(("HH", "HOH", "OO"), "HOOH"), (("HH", "OH", "HOOH"), "HOH")],
)
def test_standard_deviations_of_new_compositions_cover_the_errors(known: tuple[str, ...], new: str) -> None:
    """Errors are up to 0.6 eV, and structures held out one by one say 0.03 eV."""
    surrogate = Surrogate().fit(chains(48, *known))
    query = chains(20, new, seed=2)
    found = surrogate.predict(query, forces_std=True)
    assert np.mean(np.abs(found.energy - query.energies) < 2 * found.energy_std) > 0.9
    errors = np.abs(np.concatenate(found.forces) - np.concatenate(query.forces))
    assert found.forces_std is not None
    assert np.mean(errors < 2 * np.concatenate(found.forces_std)) > 0.7
    assert surrogate.calibration_of_new.energy > surrogate.calibration.energy
    covariance = surrogate.energy_covariance(query[:3])
    np.testing.assert_allclose(np.sqrt(np.diagonal(covariance)), found.energy_std[:3], rtol=1e-6)


def test_a_supercell_is_of_a_known_composition() -> None:
    data = samples.crystals(12, size=0.1)
    doubled = Structure(
        data[0].symbols * 2,
        np.concatenate([data[0].positions, data[0].positions + data[0].cell[0]]),
        data[0].cell * [[2], [1], [1]],
        data[0].pbc,
    )
    assert fractions(doubled) == fractions(data[0])
    assert fractions(samples.waters(1)[0]) == (("H", 2), ("O", 1))


def test_where_no_composition_can_be_left_out_there_is_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    surrogate = Surrogate(**FIXED).fit(chains(12, "HH", "OO"))
    surrogate.predict(chains(2, "HH", "OO"))
    assert not caplog.records
    surrogate.predict(chains(2, "HOH"))
    assert "add other compositions" in caplog.text
