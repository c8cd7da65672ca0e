"""The ASE calculator of a surrogate."""

from __future__ import annotations

from pathlib import Path

import ase
import numpy as np
import pytest
from ase.constraints import FixAtoms
from ase.optimize import BFGS

import samples
from contracts import assert_derivative
from gprann import (
    Calculator,
    Dataset,
    Surrogate,
    SurrogateCalculator,
    SurrogateSet,
    evaluate,
    fit_surrogates,
    load,
    write,
)
from gprann.cli.main import main
from gprann.data.structure import Structure
from gprann.errors import ConfigError, DataError, FormatError


@pytest.fixture(scope="module", params=["molecule", "crystal"])
def fitted(request: pytest.FixtureRequest) -> tuple[Surrogate, Structure]:
    data = samples.waters(12) if request.param == "molecule" else samples.crystals(6)
    surrogate = Surrogate(length=6.0, energy_noise=1e-7, force_noise=1e-7).fit(data[:-1])
    return surrogate, data[-1]


def atoms_of(structure: Structure, surrogate: Surrogate) -> ase.Atoms:
    atoms = structure.replace(energy=None, forces=None).to_ase()
    atoms.calc = SurrogateCalculator(surrogate)
    return atoms


def test_results_are_those_of_the_surrogate(fitted: tuple[Surrogate, Structure]) -> None:
    surrogate, structure = fitted
    atoms = atoms_of(structure, surrogate)
    prediction = surrogate.predict(Dataset([structure]), forces_std=True)
    assert prediction.energy_std is not None
    assert prediction.forces_std is not None
    assert atoms.get_potential_energy() == prediction.energy[0]
    np.testing.assert_array_equal(atoms.get_forces(), prediction.forces[0])
    stress = ["stress"] if structure.pbc.all() else []
    assert sorted(atoms.calc.results) == ["energy", "forces", "free_energy", *stress]
    assert atoms.calc.get_property("energy_std", atoms) == prediction.energy_std[0]
    assert "forces_std" not in atoms.calc.deviations
    np.testing.assert_array_equal(atoms.calc.get_property("forces_std", atoms), prediction.forces_std[0])
    assert set(atoms.calc.deviations) == {"energy_std", "forces_std"}
    assert sorted(atoms.calc.results) == ["energy", "forces", "free_energy", *stress]


def test_standard_deviations_do_not_outlive_their_positions(fitted: tuple[Surrogate, Structure]) -> None:
    atoms = atoms_of(fitted[1], fitted[0])
    before = atoms.calc.get_property("energy_std", atoms)
    atoms.positions[0] += 0.05
    atoms.get_potential_energy()
    assert "energy_std" not in atoms.calc.deviations
    assert atoms.calc.get_property("energy_std", atoms) != before


def test_forces_are_derivatives_of_the_energy(fitted: tuple[Surrogate, Structure]) -> None:
    surrogate, structure = fitted
    atoms = atoms_of(structure, surrogate)
    direction = np.random.default_rng(0).uniform(-1, 1, size=(len(atoms), 3))
    start = atoms.positions.copy()
    slope = -np.sum(atoms.get_forces() * direction)

    def energy(t: float) -> float:
        atoms.positions = start + t * direction
        return float(atoms.get_potential_energy())

    assert_derivative(energy, slope)


def test_a_relaxation_respects_constraints(fitted: tuple[Surrogate, Structure]) -> None:
    atoms = atoms_of(fitted[1], fitted[0])
    atoms.set_constraint(FixAtoms([1]))
    place, before = atoms.positions[1].copy(), atoms.get_potential_energy()
    BFGS(atoms, logfile=None).run(fmax=0.05, steps=5)
    np.testing.assert_array_equal(atoms.positions[1], place)
    assert atoms.get_potential_energy() < before


def test_what_cannot_be_predicted_is_refused(fitted: tuple[Surrogate, Structure]) -> None:
    atoms = atoms_of(fitted[1], fitted[0])
    atoms.symbols[0] = "H"
    with pytest.raises(DataError, match="is not that of the surrogate's training set, H2O"):
        atoms.get_potential_energy()
    atoms.calc = SurrogateCalculator(Surrogate())
    with pytest.raises(ConfigError, match="has not been fitted"):
        atoms.get_forces()


def test_covariance_of_energies(fitted: tuple[Surrogate, Structure]) -> None:
    """Its diagonal is the variance; conditioning on a label is what a fit with that label gives."""
    surrogate, structure = fitted
    data = Dataset([structure]) + (
        samples.waters(3, seed=5)
        if len(structure) == 3 and not structure.pbc.any()
        else samples.crystals(3, seed=5)
    )
    covariance = surrogate.energy_covariance(data)
    std = surrogate.predict(data).energy_std
    assert std is not None
    np.testing.assert_allclose(np.sqrt(np.diagonal(covariance)), std, rtol=1e-6)
    np.testing.assert_allclose(covariance, covariance.T, atol=1e-12 * covariance.max())
    assert np.linalg.eigvalsh(covariance)[0] > -1e-8 * covariance.max()
    assert surrogate.energy_covariance(Dataset()).shape == (0, 0)


def test_standardisation_over_other_structures() -> None:
    """The features depend on the set for the standardisation alone, and so stay as they are when the data grow."""
    region, data = samples.waters(8, seed=3), samples.waters(3)

    def fitted_to(training: Dataset, over: Dataset | None) -> Surrogate:
        return Surrogate(length=8.0, energy_noise=1e-8, force_noise=1e-8).fit(training, standardise_over=over)

    expected = fitted_to(region, None).fingerprint.rows(data).features
    np.testing.assert_array_equal(fitted_to(data, region).fingerprint.rows(data).features, expected)
    assert not np.array_equal(fitted_to(data, None).fingerprint.rows(data).features, expected)
    single = fitted_to(data[:1], region)
    assert abs(single.predict(data[:1]).energy[0] - data.energies[0]) < 1e-4


def test_files_of_surrogates_serve_wherever_potentials_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`load`, the calculator, the evaluation, and the commands."""
    monkeypatch.chdir(tmp_path)
    data = samples.waters(12)
    surrogate = Surrogate("pairs").fit(data)
    surrogate.save("a.gprann")
    fit_surrogates(data, kernel="pairs").save("b.gprann")
    again = load("a.gprann")
    assert isinstance(again, Surrogate)
    assert isinstance(load("b.gprann"), SurrogateSet)
    query = samples.waters(3, seed=2)
    np.testing.assert_array_equal(again.predict(query).energy, surrogate.predict(query).energy)
    atoms = query[0].replace(energy=None, forces=None).to_ase()
    atoms.calc = SurrogateCalculator("a.gprann")
    assert atoms.get_potential_energy() == surrogate.predict(query[:1]).energy[0]
    assert evaluate("a.gprann", query).energy_mae == evaluate(surrogate, query).energy_mae
    write("query.extxyz", query)
    for words in ("evaluate a.gprann query.extxyz", "info a.gprann", "info b.gprann"):
        assert main(words.split()) == 0
    assert "12 structures of H2O" in capsys.readouterr().out
    with pytest.raises(FormatError, match="holds a surrogate, not a potential"):
        Calculator("a.gprann")
