"""Baselines: what is subtracted from labels and added to predictions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ase
import numpy as np
import pytest

import samples
from contracts import assert_close
from gprann import Baseline, Calculator, Contribution, ReferenceEnergies, load, register_baseline, train
from gprann.baselines import BASELINES, as_baseline, fit_baseline, terms_of
from gprann.baselines.reference_energies import count_species, isolated_atom_energies
from gprann.data.prediction import Prediction, strain_matrices
from gprann.data.structure import Dataset, Structure
from gprann.errors import ConfigError, DataError
from gprann.evaluation import evaluate
from gprann.options import option
from gprann.potential import Potential
from reference.neighbours_oracle import image_pairs

QUICK: dict[str, Any] = {"hidden": (4,), "iterations": 8, "starts": 1, "seed": 1}
REACH = 3.0


class Springs(Baseline):
    """Harmonic pairs, in plain numpy: k (r - R)² for each pair nearer than R."""

    stiffness: float = option("Force constant.", 0.5, unit="eV/Å²")

    def evaluate(self, data: Dataset) -> Contribution:
        energy, forces = np.zeros(len(data)), [np.zeros((len(s), 3)) for s in data]
        stress = np.full((len(data), 6), np.nan)
        for n, structure in enumerate(data):
            virial = np.zeros((3, 3))
            for i, j, v in image_pairs(structure, REACH):
                r = float(np.linalg.norm(v))
                slope = 2 * self.stiffness * (r - REACH) * v / r
                energy[n] += 0.5 * self.stiffness * (r - REACH) ** 2
                forces[n][i] += 0.5 * slope
                forces[n][j] -= 0.5 * slope
                virial += 0.5 * np.outer(v, slope)
            if structure.pbc.all():
                stress[n] = virial[[0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1]] / abs(
                    np.linalg.det(structure.cell)
                )
        return Contribution(energy, forces, stress)


@register_baseline
class NamedSprings(Springs):
    name = "springs of the tests"


def mixed() -> Dataset:
    return samples.waters(12) + samples.crystals(12)


def with_stress(data: Dataset) -> Dataset:
    return Dataset(s.replace(stress=np.arange(6.0)) if s.pbc.all() else s for s in data)


def test_the_springs_of_these_tests_are_consistent() -> None:
    """Forces and stress are the derivatives of the energy."""
    springs, h = Springs(), 1e-4
    crystal = samples.crystals(1)[0]
    exact = springs.evaluate(Dataset([crystal]))
    assert exact.forces is not None
    assert exact.stress is not None
    for atom, axis in ((0, 0), (1, 2)):
        shift = np.zeros((len(crystal), 3))
        shift[atom, axis] = h
        energies = springs.evaluate(
            Dataset(crystal.replace(positions=crystal.positions + s * shift) for s in (1, -1))
        )
        assert exact.forces[0][atom, axis] == pytest.approx(
            -np.diff(energies.energy[::-1])[0] / (2 * h), rel=1e-5
        )
    for component in (0, 4):
        strain = strain_matrices(h * np.eye(6)[component])
        pair = Dataset(
            crystal.replace(
                positions=crystal.positions @ (np.eye(3) + s * strain),
                cell=crystal.cell @ (np.eye(3) + s * strain),
            )
            for s in (1, -1)
        )
        slope = -np.diff(springs.evaluate(pair).energy)[0] / (2 * h)
        assert exact.stress[0, component] == pytest.approx(slope / abs(np.linalg.det(crystal.cell)), rel=1e-5)


# Subtract and add ----------------------------------------------------------------------------------------------------


def test_what_is_subtracted_is_added_again() -> None:
    data = with_stress(mixed())
    baseline = Springs() + ReferenceEnergies(energies={"H": -13.6, "O": -430.0})
    left = baseline.subtract(data)
    contribution = baseline.evaluate(data)
    assert_close(left.energies, data.energies - contribution.energy)
    potential = samples.potential(members=2)
    plain = potential.predict(data)
    added = baseline.add(data, plain)
    assert_close(added.energy - plain.energy, data.energies - left.energies, relative=1e-9)
    for k, structure in enumerate(data):
        change = np.asarray(structure.forces) - np.asarray(left[k].forces)
        assert_close(added.forces[k] - plain.forces[k], change, relative=1e-9)
        if structure.pbc.all():
            assert_close(added.stress[k] - plain.stress[k], structure.stress - left[k].stress, relative=1e-9)
            assert added.stress.shape == plain.stress.shape
        assert added.atom_energies is not None
        assert added.atom_energies[k].sum() == pytest.approx(added.energy[k])
    assert_close(added.member_energy.mean(axis=0), added.energy)
    np.testing.assert_array_equal(added.energy_std, plain.energy_std)


def test_predictions_without_forces_stay_without() -> None:
    data = samples.waters(3)
    added = Springs().add(data, Prediction(np.zeros(3), []))
    assert (added.forces, added.stress, added.atom_energies) == ([], None, None)
    assert_close(added.energy, Springs().evaluate(data).energy)


def test_labels_that_are_absent_stay_absent() -> None:
    bare = samples.waters(1)[0].replace(energy=None, forces=None)
    (left,) = Springs().subtract(Dataset([bare]))
    assert left.energy is left.forces is left.stress is None


@pytest.mark.parametrize(
    ("contribution", "message"),
    [
        (Contribution(np.zeros(3)), "energy is given for 3 structures instead of 2"),
        (Contribution(np.zeros(2), [np.zeros((3, 3))]), "forces is given for 1 structures instead of 2"),
        (
            Contribution(np.zeros(2), [np.zeros((3, 3)), np.zeros((2, 3))]),
            r"forces of structure 1 has shape \(2, 3\)",
        ),
        (Contribution(np.array([0.0, np.nan])), "energy of structure 1 is not finite"),
    ],
)
def test_impossible_contributions_are_refused(contribution: Contribution, message: str) -> None:
    class Wrong(Baseline):
        def evaluate(self, data: Dataset) -> Contribution:
            return contribution

    data = Dataset(s.replace(origin=type(s.origin)(index=k)) for k, s in enumerate(samples.waters(2)))
    with pytest.raises(DataError, match=f"baseline Wrong: {message}"):
        Wrong().subtract(data)


# Reference energies --------------------------------------------------------------------------------------------------


def compounds() -> Dataset:
    rng = np.random.default_rng(0)
    e0 = {"H": -13.6, "O": -430.0}
    names = [("O", "H", "H"), ("O", "O"), ("H", "H"), ("O", "H"), ("H", "H", "H", "O")]
    return Dataset(Structure(s, rng.normal(0, 3, (len(s), 3)), energy=sum(e0[x] for x in s)) for s in names)


def test_reference_energies_are_those_of_additive_energies() -> None:
    data = compounds()
    np.testing.assert_array_equal(count_species(data, ["O", "C", "H"])[0], [1, 0, 2])
    assert ReferenceEnergies().fit(data, ["O", "H"]).energies == pytest.approx({"O": -430.0, "H": -13.6})
    fitted = ReferenceEnergies().fit(data, ["H", "C", "O"]).energies
    assert fitted == pytest.approx({"H": -13.6, "C": 0.0, "O": -430.0}, abs=1e-9)
    water = samples.waters(5)
    fitted = (
        ReferenceEnergies().fit(water, ["H", "O"]).energies
    )  # one composition: the solution of smallest norm
    assert fitted is not None
    assert 2 * fitted["H"] + fitted["O"] == pytest.approx(water.energies.mean())
    assert fitted["H"] == pytest.approx(2 * fitted["O"])


def test_isolated_atoms_give_the_reference_energy_of_their_element() -> None:
    """Up to the mean energy per atom that is left, which all elements share."""
    atom = Structure(("H",), np.zeros((1, 3)), energy=-13.0)
    boxed = Structure(("O",), np.zeros((1, 3)), cell=10 * np.eye(3), pbc=True, energy=-400.0)
    crystal = Structure(("O",), np.zeros((1, 3)), cell=3 * np.eye(3), pbc=True, energy=-500.0)
    assert isolated_atom_energies(Dataset([atom, boxed, crystal])) == {"H": -13.0, "O": -400.0}
    data = Dataset([*samples.waters(6), atom, boxed])
    fitted = ReferenceEnergies().fit(data, ["H", "O"])
    assert fitted.energies is not None
    assert fitted.energies["H"] - fitted.energies["O"] == pytest.approx(387.0)
    assert fitted.subtract(data).energies.sum() == pytest.approx(0.0, abs=1e-8)


def test_elements_without_a_reference_energy_are_named() -> None:
    with pytest.raises(DataError, match="element O is not among the species H"):
        ReferenceEnergies(energies={"H": -13.6}).subtract(samples.waters(1))
    with pytest.raises(ConfigError, match="the reference energies are not known yet"):
        ReferenceEnergies().subtract(samples.waters(1))


def test_reference_energies_are_fitted_last_and_once() -> None:
    fitted = fit_baseline(ReferenceEnergies() + Springs(), samples.waters(5), ["H", "O"])
    springs, reference = terms_of(fitted)
    assert isinstance(springs, Springs)
    assert isinstance(reference, ReferenceEnergies)
    assert fitted.subtract(samples.waters(5)).energies.mean() == pytest.approx(0.0, abs=1e-10)


# Names and files ----------------------------------------------------------------------------------------------------


def test_baselines_are_given_as_objects_names_tables_and_lists() -> None:
    name = NamedSprings.name
    assert as_baseline(name) == NamedSprings()
    assert as_baseline({"kind": name, "stiffness": 2.0}) == NamedSprings(stiffness=2.0)
    assert terms_of(as_baseline([name, Springs()])) == (NamedSprings(), Springs())
    assert terms_of(as_baseline(None)) == ()
    with pytest.raises(ConfigError, match="baseline = 'sprinks of the tests': did you mean 'springs of the"):
        as_baseline("sprinks of the tests")
    with pytest.raises(ConfigError, match="baseline: expected a Baseline"):
        as_baseline(3)  # type: ignore[arg-type]
    assert "reference_energies" in BASELINES


@pytest.mark.parametrize("forces", [False, True])
def test_a_potential_learns_what_the_baseline_leaves(forces: bool) -> None:
    """Training with a baseline is training on what it leaves, with the baseline added to the predictions."""
    data = with_stress(mixed())
    options = {**QUICK, "forces": forces, **({"stress": 0.1} if forces else {})}
    whole = train(data, samples.DESCRIPTOR, baseline=Springs(), **options)
    rest = train(Springs().subtract(data), samples.DESCRIPTOR, **options)
    np.testing.assert_array_equal(whole.parameters, rest.parameters)
    expected = Springs().add(data, rest.predict(data))
    prediction = whole.predict(data)
    assert_close(prediction.energy, expected.energy)
    assert_close(np.concatenate(prediction.forces), np.concatenate(expected.forces))
    atoms = data[-1].to_ase()
    atoms.calc = Calculator(whole)
    assert atoms.get_potential_energy() == pytest.approx(expected.energy[-1])
    assert_close(atoms.get_forces(), expected.forces[-1])
    assert expected.stress is not None
    assert_close(atoms.get_stress(), expected.stress[-1])


def test_registered_baselines_are_saved_and_others_are_not(tmp_path: Path) -> None:
    data = samples.waters(8)
    path = tmp_path / "a.gprann"
    potential = train(data, samples.DESCRIPTOR, baseline=NamedSprings(stiffness=0.7), **QUICK)
    potential.save(path)
    again = load(path)
    assert again.baseline == potential.baseline
    np.testing.assert_array_equal(again.predict(data).energy, potential.predict(data).energy)
    unknown = train(data, samples.DESCRIPTOR, baseline=Springs(), **QUICK)
    with pytest.raises(ConfigError, match="Springs is no registered baseline, so a file cannot name it"):
        unknown.save(path)


def outside_training(potential: Potential, formulas: list[str], caplog: pytest.LogCaptureFixture) -> str:
    """Return the warnings about structures of these compositions."""
    caplog.clear()
    given = [ase.Atoms(formula) for formula in formulas]
    for atoms in given:
        atoms.positions[:, 0] = 2.0 * np.arange(len(atoms))
    potential.predict(given)
    return caplog.text


def test_compositions_without_reference_energies_are_named_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Those that are no linear combination of compositions of the training set."""
    data = samples.waters(8)
    potential = train(data, samples.DESCRIPTOR, **QUICK)
    assert potential.provenance["training"]["compositions"] == [{"H": 2, "O": 1}]
    potential.save(tmp_path / "water.gprann")
    potential = Potential.load(tmp_path / "water.gprann")
    evaluate(potential, samples.waters(3, seed=1))
    assert not caplog.text
    assert not outside_training(potential, ["H2O", "H4O2"], caplog)
    text = outside_training(potential, ["H2O", "H2", "OH", "H2"], caplog)
    assert "structure 1 (H2): the training set (H2O) does not determine the total energy" in text
    assert "train with reference_energies" in text
    assert "2 compositions" in text
    assert len(caplog.records) == 1
    assert not outside_training(potential, ["H2", "OH"], caplog)  # once
    atoms = ase.Atoms("O2", [[0, 0, 0], [0, 0, 1.3]])
    atoms.calc = Calculator(potential, guard="off")  # which would warn of these environments, too
    for _ in range(2):
        atoms.rattle(0.01)
        atoms.get_potential_energy()
    assert [record.getMessage().count("(O2)") for record in caplog.records] == [1]


def test_known_reference_energies_are_not_doubted(caplog: pytest.LogCaptureFixture) -> None:
    """Given ones, those that isolated atoms or other compositions determine, and those of files without the record."""
    data, energies = samples.waters(8), {"H": -13.6, "O": -430.0}
    hydrogen = Structure(("H",), np.zeros((1, 3)), energy=-13.6)
    for potential in (
        train(data, samples.DESCRIPTOR, reference_energies=energies, **QUICK),
        train(data, samples.DESCRIPTOR, baseline=ReferenceEnergies(energies=energies), **QUICK),
        train([*data, hydrogen], samples.DESCRIPTOR, **QUICK),
        samples.potential(),
    ):
        assert not outside_training(potential, ["H2", "O2", "OH"], caplog)


def test_fine_tuning_adds_the_compositions(caplog: pytest.LogCaptureFixture) -> None:
    base = train(samples.waters(8), samples.DESCRIPTOR, **QUICK)
    hydrogen = Structure(("H",), np.zeros((1, 3)), energy=-13.6)
    tuned = train([hydrogen] * 2, samples.DESCRIPTOR, start_from=base, iterations=1)
    assert tuned.provenance["training"]["compositions"] == [{"H": 2, "O": 1}, {"H": 1}]
    assert not outside_training(tuned, ["O2"], caplog)
    of_old_file = train([hydrogen] * 2, samples.DESCRIPTOR, start_from=samples.potential(), iterations=1)
    assert not outside_training(of_old_file, ["O2"], caplog)


def test_fine_tuning_keeps_the_baseline_unless_another_is_given() -> None:
    data = samples.waters(8)
    base = train(data, samples.DESCRIPTOR, baseline=NamedSprings(), **QUICK)
    assert train(data, samples.DESCRIPTOR, start_from=base, iterations=1).baseline == base.baseline
    given = {"H": -1.0, "O": -2.0}
    other = train(data, samples.DESCRIPTOR, start_from=base, iterations=1, reference_energies=given)
    assert terms_of(other.baseline) == (NamedSprings(), ReferenceEnergies(energies=given))
    with pytest.raises(ConfigError, match="the baseline has some already"):
        train(data, samples.DESCRIPTOR, baseline=ReferenceEnergies(), reference_energies=given)
