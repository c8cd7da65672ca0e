"""The ASE calculator: derivatives through ASE, committees, molecular dynamics and relaxations."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import ase
import numpy as np
import pytest
from ase import units
from ase.build import make_supercell
from ase.calculators.calculator import CalculatorSetupError, PropertyNotImplementedError
from ase.calculators.singlepoint import SinglePointCalculator
from ase.constraints import FixAtoms, FixBondLength
from ase.filters import FrechetCellFilter
from ase.md.verlet import VelocityVerlet
from ase.optimize import BFGS

import samples
from contracts import Array, assert_close, assert_derivative
from gprann import Calculator, ChebyshevDescriptor, taylor_augment, train
from gprann.data.structure import Structure
from gprann.errors import DataError, FormatError
from gprann.potential import Potential

VOIGT = ((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1))


def atoms_of(structure: Any, potential: Potential | None = None) -> ase.Atoms:
    atoms = structure.replace(energy=None, forces=None).to_ase()
    atoms.calc = Calculator(potential or samples.potential())
    return atoms


@pytest.fixture(scope="module")
def trained() -> Potential:
    """A potential for water with a minimum."""
    descriptor = ChebyshevDescriptor(
        ["H", "O"], radial_order=4, radial_cutoff=3.9, angular_order=2, angular_cutoff=3.0
    )
    data = taylor_augment(samples.waters(40, size=0.2), copies=10, displacement=0.02)
    return train(data, descriptor, hidden=(6,), iterations=60, starts=2, members=2)


# Derivatives -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("structure", [samples.WATER, samples.CRYSTAL], ids=["molecule", "crystal"])
def test_forces_are_derivatives_of_the_energy(structure: Any) -> None:
    atoms = atoms_of(structure)
    direction = np.random.default_rng(0).uniform(-1, 1, size=(len(atoms), 3))

    def energy(t: float) -> float:
        moved = atoms.copy()
        moved.positions += t * direction
        moved.calc = atoms.calc
        return moved.get_potential_energy()

    assert_derivative(energy, -np.sum(atoms.get_forces() * direction))


@pytest.mark.parametrize("component", range(6))
def test_stress_is_the_derivative_with_respect_to_strain(component: int) -> None:
    """In ASE's order and with its sign: dE/d(strain) / V, positive when the crystal wants to shrink."""
    atoms = atoms_of(samples.CRYSTAL)
    strain = np.zeros((3, 3))
    i, j = VOIGT[component]
    strain[i, j] += 0.5
    strain[j, i] += 0.5

    def energy(t: float) -> float:
        strained = atoms.copy()
        strained.set_cell(atoms.cell @ (np.eye(3) + t * strain), scale_atoms=True)
        strained.calc = atoms.calc
        return strained.get_potential_energy()

    assert_derivative(energy, atoms.get_stress()[component] * atoms.get_volume(), step=1e-4)


def test_energies_and_stress_of_a_supercell() -> None:
    atoms = atoms_of(samples.CRYSTAL)
    large = make_supercell(atoms, np.array([[2, 0, 0], [1, 1, 0], [0, 0, 1]]))
    large.calc = Calculator(samples.potential())
    assert large.get_potential_energy() == pytest.approx(2 * atoms.get_potential_energy())
    assert_close(large.get_stress(), atoms.get_stress(), relative=1e-10)
    assert_close(np.sort(large.get_potential_energies())[::2], np.sort(atoms.get_potential_energies()))


# Results -----------------------------------------------------------------------------------------------------------


def test_results_are_the_prediction_of_the_potential() -> None:
    potential = samples.potential(members=4)
    for structure in (samples.WATER, samples.CRYSTAL):
        expected = potential.predict([structure])
        atoms = atoms_of(structure, potential)
        assert atoms.get_potential_energy() == pytest.approx(expected.energy[0])
        assert atoms.get_potential_energy(force_consistent=True) == atoms.get_potential_energy()
        assert_close(atoms.get_forces(), expected.forces[0])
        results = atoms.calc.results
        assert results["energies"].shape == (3,)
        assert results["energies"].sum() == pytest.approx(results["energy"])
        assert atoms.calc.get_property("energy_std", atoms) == pytest.approx(expected.energy_std[0])
        assert_close(atoms.calc.deviations["forces_std"], expected.forces_std[0])
        members = [potential[k].evaluate(potential.descriptor.neighbours([structure])) for k in range(4)]
        assert_close(
            atoms.calc.deviations["energies_std"], np.std([m.atom_energies[0] for m in members], axis=0)
        )
        if structure.pbc.all():
            assert_close(atoms.get_stress(), expected.stress[0])


def test_one_network_has_no_deviation() -> None:
    atoms = atoms_of(samples.WATER, samples.potential(members=1))
    atoms.get_forces()
    assert atoms.calc.deviations == {}
    with pytest.raises(PropertyNotImplementedError, match="energy_std: it needs a committee"):
        atoms.calc.get_property("energy_std", atoms)


def test_a_file_serves_as_well(tmp_path: Path) -> None:
    samples.potential().save(tmp_path / "a.gprann")
    expected = atoms_of(samples.CRYSTAL).get_forces()
    for path in (tmp_path / "a.gprann", str(tmp_path / "a.gprann")):
        atoms = samples.CRYSTAL.to_ase()
        atoms.calc = Calculator(path)
        np.testing.assert_array_equal(atoms.get_forces(), expected)
    with pytest.raises(FormatError, match="no such model file"):
        Calculator(tmp_path / "b.gprann")


def test_results_are_kept_until_the_atoms_change(monkeypatch: pytest.MonkeyPatch) -> None:
    potential = samples.potential()
    counted: list[int] = []
    evaluate = Potential.evaluate

    def counting(self: Potential, neighbours: Any) -> Any:
        counted.append(1)
        return evaluate(self, neighbours)

    monkeypatch.setattr(Potential, "evaluate", counting)
    atoms = atoms_of(samples.CRYSTAL, potential)
    first = atoms.get_potential_energy()
    atoms.get_forces()
    atoms.get_stress()
    assert len(counted) == 1
    atoms.positions[0, 0] += 0.1
    assert atoms.get_potential_energy() != first
    assert len(counted) == 2
    atoms.set_cell(atoms.cell[:] * 1.01)
    atoms.get_forces()
    assert len(counted) == 3


@pytest.mark.parametrize("pbc", [(1, 1, 0), (0, 1, 0), (0, 0, 0)])
def test_structures_that_are_not_periodic_throughout_have_no_stress(pbc: tuple[int, ...]) -> None:
    atoms = atoms_of(samples.CRYSTAL.replace(pbc=pbc))
    atoms.get_forces()
    with pytest.raises(PropertyNotImplementedError, match="periodic in three directions"):
        atoms.get_stress()
    fresh = atoms_of(samples.CRYSTAL.replace(pbc=pbc))
    with pytest.raises(PropertyNotImplementedError):
        fresh.get_stress()
    assert np.isfinite(fresh.get_potential_energy())  # the refusal has left no half-done results


def test_only_periods_need_cell_vectors() -> None:
    """A slab as ASE's builders make it: no vector across the surface."""
    slab = samples.CRYSTAL.to_ase()
    slab.pbc = (1, 1, 0)
    thick = slab.copy()
    slab.cell[2] = 0.0
    thick.cell[2] = [0.0, 0.0, 30.0]
    energies = []
    for atoms in (slab, thick):
        atoms.calc = Calculator(samples.potential())
        energies.append(atoms.get_potential_energy())
    assert energies[0] == pytest.approx(energies[1])


def test_what_else_the_atoms_carry_does_not_matter() -> None:
    """Constraints, free numbers, labels of another calculator, tags, momenta."""
    plain = atoms_of(samples.CRYSTAL)
    loaded = samples.CRYSTAL.to_ase()
    loaded.calc = SinglePointCalculator(loaded, energy=99.0, forces=np.ones((3, 3)))
    loaded.info.update(energy=98.0, note="x", matrix=np.eye(2))
    loaded.arrays["forces"] = np.full((3, 3), 7.0)
    loaded.set_tags([1, 2, 3])
    loaded.set_initial_charges([1.0, 0, 0])
    loaded.set_constraint([FixAtoms([0]), FixBondLength(1, 2)])
    loaded.calc = Calculator(samples.potential())
    assert loaded.get_potential_energy() == plain.get_potential_energy()
    np.testing.assert_array_equal(loaded.get_forces(apply_constraint=False), plain.get_forces())
    np.testing.assert_array_equal(loaded.get_forces()[0], 0.0)
    np.testing.assert_array_equal(loaded.get_stress(apply_constraint=False), plain.get_stress())


@pytest.mark.parametrize(
    ("atoms", "error", "message"),
    [
        (ase.Atoms("CO", [[0, 0, 0], [0, 0, 1.1]]), DataError, "element C is not among the species H, O"),
        (ase.Atoms("H2", [[0, 0, 0], [0, 0, 1e-3]]), DataError, "atoms [01] and [01] are 0.001 Å apart"),
        (ase.Atoms("H2", [[0, 0, 0], [0, 0, np.nan]]), DataError, "positions of atom 1 is nan"),
        (ase.Atoms("H", [[0, 0, 0]], pbc=True), DataError, "cell vectors of the periodic directions"),
        (ase.Atoms(), DataError, "has no atoms"),
    ],
)
def test_atoms_that_cannot_be_described_are_refused(atoms: ase.Atoms, error: Any, message: str) -> None:
    atoms = atoms.copy()
    atoms.calc = Calculator(samples.potential())
    with pytest.raises(error, match=message):
        atoms.get_potential_energy()


def test_a_calculator_without_atoms_says_so() -> None:
    with pytest.raises(CalculatorSetupError, match="no atoms"):
        Calculator(samples.potential()).get_potential_energy()


def test_after_an_error_the_calculator_works_on() -> None:
    atoms = atoms_of(samples.WATER)
    expected = atoms.get_potential_energy()
    good = atoms.positions.copy()
    atoms.positions[1] = atoms.positions[0]
    with pytest.raises(DataError):
        atoms.get_potential_energy()
    with pytest.raises(DataError):  # and not the results of the geometry before
        atoms.get_forces()
    atoms.positions[:] = good
    assert atoms.get_potential_energy() == expected


# Workflows ---------------------------------------------------------------------------------------------------------


def test_molecular_dynamics_conserves_the_energy(trained: Potential) -> None:
    """The drift of velocity Verlet falls at least to 0.3 when the time step is halved: its error is of second order."""
    spreads = []
    for step in (0.5, 0.25):
        atoms = atoms_of(samples.WATER, trained)
        thermal = np.random.default_rng(0).normal(size=(3, 3))
        atoms.set_momenta(thermal * np.sqrt(atoms.get_masses()[:, None] * units.kB * 150))
        totals: list[float] = []
        kinetic: list[float] = []
        dynamics = VelocityVerlet(atoms, timestep=step * units.fs)
        for _ in range(round(15 / step)):
            dynamics.run(1)
            totals.append(atoms.get_total_energy())
            kinetic.append(atoms.get_kinetic_energy())
        spreads.append(np.ptp(totals))
        assert np.ptp(kinetic) > 20 * spreads[-1]
    assert spreads[1] < 0.3 * spreads[0]


def test_relaxation_finds_the_minimum(trained: Potential) -> None:
    energies: list[Array] = []
    for structure in samples.waters(2, size=0.15, seed=4):
        atoms = atoms_of(structure, trained)
        before = atoms.get_potential_energy()
        assert BFGS(atoms, logfile=None).run(fmax=1e-3, steps=100)
        assert np.abs(atoms.get_forces()).max() < 1e-3
        assert atoms.get_potential_energy() < before
        energies.append(atoms.get_potential_energy())
    assert energies[0] == pytest.approx(energies[1], abs=1e-4)


def test_fixed_atoms_stay_during_a_relaxation(trained: Potential) -> None:
    atoms = atoms_of(samples.waters(1, size=0.15)[0], trained)
    atoms.set_constraint(FixAtoms([0]))
    place = atoms.positions[0].copy()
    assert BFGS(atoms, logfile=None).run(fmax=1e-2, steps=100)
    np.testing.assert_array_equal(atoms.positions[0], place)


def test_a_cell_can_be_relaxed() -> None:
    """Stress and forces belong to one energy: a filter of ASE brings both down."""
    descriptor = ChebyshevDescriptor(["H", "O"], radial_order=3, radial_cutoff=3.9, angular_order=None)
    data = taylor_augment(samples.crystals(30, size=0.3), copies=5, displacement=0.03)
    atoms = atoms_of(samples.CRYSTAL, train(data, descriptor, hidden=(4,), iterations=30, starts=2))
    before = atoms.get_potential_energy()
    BFGS(FrechetCellFilter(atoms), logfile=None).run(fmax=0.02, steps=8)
    assert atoms.get_potential_energy() < before
    assert not np.allclose(atoms.cell[:], samples.TRICLINIC)


def test_results_go_through_ase_and_back() -> None:
    """Copies of the results, ASE's own list of them, and files hold what ASE knows."""
    atoms = atoms_of(samples.CRYSTAL, samples.potential(members=3))
    energy = atoms.get_potential_energy()
    copied = atoms.copy()
    copied.calc = SinglePointCalculator(copied, **atoms.calc.results)
    assert copied.get_potential_energy() == energy
    np.testing.assert_array_equal(copied.get_forces(), atoms.get_forces())
    assert atoms.calc.export_properties()["energy"] == energy
    assert Structure.from_ase(atoms).energy == energy


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda item: pickle.loads(pickle.dumps(item))])
def test_potentials_and_calculators_are_copied_and_pickled(duplicate: Any) -> None:
    potential = samples.potential(members=2)
    expected = potential.predict([samples.CRYSTAL])
    found = duplicate(potential).predict([samples.CRYSTAL])
    np.testing.assert_array_equal(found.energy, expected.energy)
    atoms = atoms_of(samples.CRYSTAL, potential)
    atoms.get_forces()
    again = duplicate(atoms)
    again.positions[0] += 0.1
    atoms.positions[0] += 0.1
    np.testing.assert_array_equal(again.get_forces(), atoms.get_forces())
    assert again.calc.deviations["energy_std"] == atoms.calc.deviations["energy_std"]


def test_a_collapsing_simulation_is_told_what_helps() -> None:
    atoms = atoms_of(samples.WATER)
    atoms.positions[1] = atoms.positions[0] + [0.0, 0.0, 0.01]
    with pytest.raises(
        DataError, match=r"atoms 0 and 1 are 0.01 Å apart; in a simulation .* shorter time step"
    ):
        atoms.get_forces()


def test_the_home_folder_may_be_abbreviated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    samples.potential().save("~/a.gprann")
    assert (tmp_path / "a.gprann").is_file()
    assert len(Calculator("~/a.gprann").potential) == len(samples.potential())
