"""Neighbour lists that follow a structure: the same bits as lists made anew, whatever has happened before."""

from __future__ import annotations

import copy
import pickle
import threading
from typing import Any

import ase
import ase.io
import numpy as np
import pytest
from ase.calculators.calculator import PropertyNotImplementedError, compare_atoms
from hypothesis import given, settings
from hypothesis import strategies as st

import samples
from gprann import Calculator, _core
from gprann.baselines import Coulomb, ReferenceEnergies, Zbl
from gprann.data.moving import MovingStructure
from gprann.data.neighbours import build_neighbours
from gprann.data.structure import Structure
from gprann.errors import ConfigError, DataError
from gprann.io import read

SPECIES = ["H", "O", "C"]
CUTOFF = 3.6


def follow(moving: MovingStructure, atoms: ase.Atoms) -> None:
    """Take the atoms, and compare with lists that are made of them alone: to the bit."""
    moving.follow(atoms)
    made = build_neighbours([moving.structure], CUTOFF, SPECIES)
    first_pair, neighbour, vectors = moving.core.arrays()
    np.testing.assert_array_equal(first_pair, made.first_pair)
    np.testing.assert_array_equal(neighbour, made.neighbour)
    np.testing.assert_array_equal(vectors, made.vectors)
    lengths = np.linalg.norm(vectors, axis=1)
    assert moving.core.nearest()[2] == pytest.approx(lengths.min(initial=np.inf))


def crystal(rng: np.random.Generator, n: int, pbc: Any) -> ase.Atoms:
    cell = np.diag(rng.uniform(2.2, 7.0, size=3)) + rng.uniform(-1.0, 1.0, size=(3, 3))
    scaled = rng.uniform(-1.5, 2.5, size=(n, 3))
    return ase.Atoms(rng.choice(SPECIES, n), positions=scaled @ cell, cell=cell, pbc=pbc)


def is_crowded(atoms: ase.Atoms) -> bool:
    distances = atoms.get_all_distances(mic=True)[np.triu_indices(len(atoms), 1)]
    return bool(distances.min(initial=1.0) < 0.2)


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 2**32 - 1),
    st.integers(1, 9),
    st.tuples(*[st.booleans()] * 3),
    st.sampled_from([0, 0.3, 1]),
)
def test_lists_are_those_of_the_moment(seed: int, n: int, pbc: tuple[bool, ...], skin: float) -> None:
    """Small and large moves, cells that change, wrapped atoms, other atoms: nothing of the past remains."""
    rng = np.random.default_rng(seed)
    moving = MovingStructure(CUTOFF, SPECIES, skin)
    atoms = crystal(rng, n, pbc)
    for _ in range(8):
        before = atoms.copy()
        match rng.integers(6):
            case 0:
                atoms.positions += rng.uniform(-1.0, 1.0, atoms.positions.shape)
            case 1:
                atoms.set_cell(atoms.cell[:] * (1 + 0.02 * rng.normal()), scale_atoms=True)
            case 2:
                atoms.wrap()
            case 3:
                atoms = crystal(rng, int(rng.integers(1, 9)), pbc)
            case _:
                atoms.positions += 0.05 * rng.normal(size=atoms.positions.shape)
        if is_crowded(atoms):
            atoms = before
        if not is_crowded(atoms):
            follow(moving, atoms)


@pytest.mark.parametrize("n", [2, 5, 8])
def test_large_cells(n: int) -> None:
    """Boxes of many kinds: the search by boxes finds what trying all pairs finds."""
    rng = np.random.default_rng(n)
    cell = np.array([[2.6, 0, 0], [0.4, 2.9, 0], [-0.3, 0.5, 3.1]]) * [[n], [2], [3]]
    grid = np.stack(np.meshgrid(np.arange(n) / n, [0, 0.5], [0, 1 / 3, 2 / 3], indexing="ij"), -1)
    for pbc in ([1, 1, 1], [1, 1, 0], [0, 0, 1], [0, 0, 0]):
        positions = grid.reshape(-1, 3) @ cell + rng.uniform(-0.4, 0.4, (6 * n, 3))
        atoms = ase.Atoms(["C"] * (6 * n), positions=positions, cell=cell, pbc=pbc)
        moving = MovingStructure(CUTOFF, SPECIES, 0.4)
        for _ in range(3):
            atoms.positions += 0.03 * rng.normal(size=positions.shape)
            follow(moving, atoms)


def test_pairs_are_looked_for_only_when_an_atom_has_moved_half_the_skin() -> None:
    moving = MovingStructure(CUTOFF, SPECIES, 0.8)
    atoms = samples.CRYSTAL.to_ase()
    for shift, searches in ((0.0, 1), (0.39, 1), (0.0, 1), (0.41, 2), (0.41, 2), (0.8, 2), (0.83, 3)):
        atoms.positions[1] = samples.CRYSTAL.positions[1] + [0.0, shift, 0.0]
        follow(moving, atoms)
        assert moving.searches == searches, shift
    atoms.set_cell(atoms.cell[:] * 1.5)
    follow(moving, atoms)
    assert moving.searches == 4
    atoms.pbc = (1, 1, 0)
    follow(moving, atoms)
    assert moving.searches == 5


@pytest.mark.parametrize("pbc", [True, (True, True, False), (False, True, False)])
@pytest.mark.parametrize("seed", range(3))
def test_lists_are_kept_while_the_cell_changes_with_the_atoms(seed: int, pbc: Any) -> None:
    """As at constant pressure: strains of any shape, under which atoms move a little on their own."""
    rng = np.random.default_rng(seed)
    moving = MovingStructure(CUTOFF, SPECIES, 0.25)
    atoms = samples.CRYSTAL.to_ase()
    atoms.pbc = pbc
    for _ in range(60):
        atoms.set_cell(atoms.cell[:] @ (np.eye(3) + 2e-3 * rng.normal(size=(3, 3))), scale_atoms=True)
        atoms.positions += 0.01 * rng.normal(size=atoms.positions.shape)
        follow(moving, atoms)
    assert 1 < moving.searches < 15


@pytest.mark.parametrize("strain", [0.7, 0.9, 0.97, 1.03])
def test_a_strain_brings_pairs_into_the_cutoff(strain: float) -> None:
    """A pair just beyond cutoff and skin, in a cell that shrinks: at once, and bit by bit."""
    atoms = ase.Atoms("CO", [[0.0, 0.0, 0.0], [CUTOFF + 0.81, 0.0, 0.0]], cell=[20.0, 20.0, 20.0], pbc=True)
    for steps in (1, 100):
        moving = MovingStructure(CUTOFF, SPECIES, 0.8)
        follow(moving, atoms)
        for step in range(1, steps + 1):
            now = atoms.copy()
            now.set_cell(atoms.cell[:] * strain ** (step / steps), scale_atoms=True)
            follow(moving, now)
        assert len(moving.core.arrays()[1]) == (2 if strain * (CUTOFF + 0.81) < CUTOFF else 0)


def test_pairs_are_made_when_they_are_needed() -> None:
    """After the first step a potential makes them itself, and tells the shortest; what comes too near is refused."""
    potential = samples.potential()
    atoms = samples.CRYSTAL.to_ase()
    moving = MovingStructure(potential.cutoff, potential.species)
    for step in range(6):
        atoms.positions[1] = samples.CRYSTAL.positions[1] + [0.0, 0.02 * step, 0.0]
        moving.follow(atoms)
        assert (moving.core.lower_bound() > 0) == (step > 0)
        own = potential.evaluate(moving)
        bound, (i, j, length) = moving.core.lower_bound(), moving.core.nearest()
        again = MovingStructure(potential.cutoff, potential.species)
        follow(again, atoms)
        assert again.core.nearest() == (i, j, length)
        assert bound <= length
        lists = potential.evaluate(again)
        np.testing.assert_array_equal(own.energies, lists.energies)
        np.testing.assert_array_equal(own.forces, lists.forces)
        np.testing.assert_array_equal(own.virials, lists.virials)
    atoms.positions[1] = atoms.positions[0] + [0.0, 0.0, 0.01]
    with pytest.raises(DataError, match=r"0 and 1 are 0.01 Å apart|1 and 0 are 0.01 Å apart"):
        moving.follow(atoms)


def test_no_lists_before_the_first_positions() -> None:
    potential = samples.potential()
    moving = _core.MovingNeighbours(np.zeros(2, dtype=np.int32), 3.0, 0.1)
    with pytest.raises(ValueError, match="update has not been called"):
        _core.evaluate_moving(
            potential.model.core,
            potential.descriptor.core,
            potential.normalisation.mean,
            potential.normalisation.inverse_scale,
            potential.parameters,
            moving,
            1,
            _core.CommitteeWorkspace(),
        )


@pytest.mark.parametrize("share", [0.3, 0.45, 0.55, 0.7, 0.95, 1.2])
def test_atoms_that_approach_from_both_sides_are_found(share: float) -> None:
    """Just outside of cutoff and skin, each moves by a share of the skin: also where one alone would not matter."""
    skin = 0.8
    atoms = ase.Atoms("CO", [[0.0, 0.0, 0.0], [CUTOFF + skin + 0.01, 0.0, 0.0]])
    moving = MovingStructure(CUTOFF, SPECIES, skin)
    follow(moving, atoms)
    atoms.positions[:, 0] += [share * skin, -share * skin]
    follow(moving, atoms)
    assert len(moving.core.arrays()[1]) == (2 if 2 * share * skin > skin + 0.01 else 0)


def test_a_list_without_skin_is_made_at_every_step() -> None:
    moving = MovingStructure(CUTOFF, SPECIES, 0.0)
    atoms = samples.CRYSTAL.to_ase()
    for step in range(4):
        atoms.positions[0] += 1e-3
        follow(moving, atoms)
        assert moving.searches == step + 1
    follow(moving, atoms)  # nothing has moved
    assert moving.searches == 4


def test_what_cannot_be_described_is_refused_and_forgotten() -> None:
    moving = MovingStructure(CUTOFF, SPECIES)
    atoms = samples.CRYSTAL.to_ase()
    moving.follow(atoms)
    for k, (message, spoil) in enumerate(
        {
            "positions of atom 2 is nan": lambda a: a.positions.__setitem__((2, 1), np.nan),
            "wrap the atoms": lambda a: a.positions.__setitem__((2, 1), 1e6),
            "0 and 1 are 0 Å apart|1 and 0 are 0 Å apart": lambda a: a.positions.__setitem__(
                0, a.positions[1]
            ),
            "element Fe": lambda a: a.numbers.__setitem__(0, 26),
            "linearly dependent": lambda a: a.set_cell(a.cell[:] * [[0], [1], [1]]),
        }.items()
    ):
        bad = atoms.copy()
        spoil(bad)
        with pytest.raises(DataError, match=message):
            moving.follow(bad)
        atoms.positions[0] += 0.01 * k
        follow(moving, atoms)


def test_core_refuses_what_does_not_fit() -> None:
    kinds = np.zeros(2, dtype=np.int32)
    for cutoff, skin in ((0.0, 0.1), (np.nan, 0.1), (1.0, -0.1), (1.0, np.nan)):
        with pytest.raises(ValueError, match=r"cutoff|skin"):
            _core.MovingNeighbours(kinds, cutoff, skin)
    core = _core.MovingNeighbours(kinds, 3.0, 0.1)
    with pytest.raises(ValueError, match="positions has 9 elements"):
        core.update(np.zeros((3, 3)), np.eye(3), np.zeros(3, dtype=bool))


# The calculator ----------------------------------------------------------------------------------------------------


def test_energies_do_not_depend_on_the_skin() -> None:
    """A path of many small steps: the same bits with every skin, and as the potential predicts."""
    potential = samples.potential(members=2)
    atoms, rng = samples.CRYSTAL.to_ase(), np.random.default_rng(0)
    calculators = [Calculator(potential, skin=skin) for skin in (0, 0.2, 0.5, 2.0)]
    for _ in range(30):
        atoms.positions += 0.04 * rng.normal(size=atoms.positions.shape)
        expected = potential.predict([Structure.from_ase(atoms)])
        for calculator in calculators:
            assert calculator.get_property("energy", atoms) == expected.energy[0]
            np.testing.assert_array_equal(calculator.get_property("forces", atoms), expected.forces[0])
            np.testing.assert_array_equal(calculator.get_property("stress", atoms), expected.stress[0])
            assert calculator.get_property("energy_std", atoms) == expected.energy_std[0]
    searches = [calculator.moving.searches for calculator in calculators]
    assert searches == sorted(searches, reverse=True)
    assert searches[0] == 30
    assert searches[-1] < 5


@pytest.mark.parametrize("skin", [-0.1, np.inf, "wide", None])
def test_impossible_skins(skin: Any) -> None:
    with pytest.raises(ConfigError, match="skin = "):
        Calculator(samples.potential(), skin=skin)


def test_baselines_are_added_at_every_step() -> None:
    potential = samples.potential()
    potential.baseline = potential.baseline + Coulomb(charges={"H": 0.4, "O": -0.8}) + Zbl(cutoff=1.5)
    assert any(isinstance(term, ReferenceEnergies) for term in potential.baseline.terms)
    atoms = samples.CRYSTAL.to_ase()
    atoms.calc = Calculator(potential)
    for _ in range(3):
        atoms.positions[0] += 0.05
        expected = potential.predict([samples.CRYSTAL.with_positions(atoms.positions)])
        assert atoms.get_potential_energy() == expected.energy[0]
        np.testing.assert_array_equal(atoms.get_forces(), expected.forces[0])


def test_any_change_is_seen_and_nothing_else() -> None:
    atoms = samples.CRYSTAL.to_ase()
    calculator = Calculator(samples.potential())
    assert len(calculator.check_state(atoms)) == 6
    calculator.get_property("energy", atoms)
    assert calculator.check_state(atoms) == []
    assert compare_atoms(calculator.atoms, atoms) == []  # as other parts of ASE ask
    changes: dict[str, Any] = {
        "positions": lambda a: a.positions.__setitem__((0, 0), 0.21),
        "numbers": lambda a: a.numbers.__setitem__(0, 1),
        "cell": lambda a: a.cell.__setitem__((0, 0), 4.2),
        "pbc": lambda a: a.set_pbc([1, 1, 0]),
        "initial_charges": lambda a: a.set_initial_charges([1, 0, 0]),
        "initial_magmoms": lambda a: a.set_initial_magnetic_moments([0, 1, 0]),
    }
    for name, change in changes.items():
        other = atoms.copy()
        change(other)
        assert calculator.check_state(other) == [name]
        calculator.get_property("energy", other)
        assert calculator.check_state(other) == []
        assert compare_atoms(calculator.atoms, other) == []
        calculator.get_property("energy", atoms)
    more = atoms + ase.Atoms("H", [[2.0, 2.0, 0.3]])
    assert calculator.get_property("forces", more).shape == (4, 3)
    with pytest.raises(PropertyNotImplementedError, match="dipole"):
        calculator.get_property("dipole", atoms)


def test_results_cannot_be_changed_from_outside() -> None:
    atoms = samples.CRYSTAL.to_ase()
    atoms.calc = Calculator(samples.potential(members=2))
    forces = atoms.get_forces()
    forces[:] = 0.0
    atoms.calc.get_property("forces_std", atoms)[:] = 0.0
    assert np.abs(atoms.get_forces()).max() > 0
    assert atoms.calc.get_property("forces_std", atoms).max() > 0
    before = atoms.copy()
    atoms.positions[0] += 0.1
    assert atoms.calc.check_state(before) == []  # the calculator has a copy of its own


def test_calculators_in_threads_share_a_potential() -> None:
    potential = samples.potential(members=2)
    starts = [samples.CRYSTAL, samples.WATER, samples.CRYSTAL.replace(pbc=[1, 1, 0])]

    def walk(structure: Structure, energies: list[float]) -> None:
        atoms = structure.to_ase()
        atoms.calc = Calculator(potential)
        rng = np.random.default_rng(3)
        for _ in range(25):
            atoms.positions += 0.03 * rng.normal(size=atoms.positions.shape)
            energies.append(atoms.get_potential_energy())

    together: list[list[float]] = [[] for _ in starts]
    threads = [threading.Thread(target=walk, args=item) for item in zip(starts, together, strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for structure, found in zip(starts, together, strict=True):
        alone: list[float] = []
        walk(structure, alone)
        assert alone == found


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda item: pickle.loads(pickle.dumps(item))])
def test_copies_have_lists_of_their_own(duplicate: Any) -> None:
    atoms = samples.CRYSTAL.to_ase()
    atoms.calc = Calculator(samples.potential(), skin=0.7)
    atoms.get_forces()
    again = duplicate(atoms)
    atoms.positions[0] += 0.4
    atoms.get_forces()
    again.positions[0] += 0.1
    expected = samples.CRYSTAL.with_positions(again.positions)
    assert again.get_potential_energy() == samples.potential().predict([expected]).energy[0]


def test_committee_results_survive_files_of_ase(tmp_path: Any) -> None:
    atoms = samples.CRYSTAL.to_ase()
    calculator = Calculator(samples.potential(members=3))
    ase.io.write(tmp_path / "a.extxyz", calculator.snapshot(atoms).copy(), format="extxyz")
    ase.io.write(tmp_path / "b.extxyz", calculator.snapshot(atoms), format="extxyz")
    for name in ("a", "b"):
        found = ase.io.read(tmp_path / f"{name}.extxyz")
        assert found.info["energy_std"] == pytest.approx(calculator.deviations["energy_std"])
        np.testing.assert_allclose(found.arrays["forces_std"], calculator.deviations["forces_std"], atol=1e-7)
        np.testing.assert_allclose(
            found.arrays["energies_std"], calculator.deviations["energies_std"], atol=1e-7
        )
    assert found.get_potential_energy() == pytest.approx(calculator.results["energy"])
    (structure,) = read(tmp_path / "b.extxyz")
    assert structure.energy == pytest.approx(calculator.results["energy"])
