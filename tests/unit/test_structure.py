"""Structures, data sets, the errors of the package and the small examples."""

from __future__ import annotations

import dataclasses
from typing import Any

import ase
import numpy as np
import pytest
from ase.calculators.lj import LennardJones
from ase.calculators.singlepoint import SinglePointCalculator
from ase.constraints import FixAtoms

import samples
from gprann import errors, examples
from gprann.data.structure import Dataset, Origin, Structure
from gprann.errors import DataError, FactorisationError, GprannError, nearest_name
from gprann.runtime.messages import progress_bar

POSITIONS = np.array([[0.0, 0.1, 0.2], [0.9, 0.0, 0.3], [0.1, 0.8, -0.2]])
SYMBOLS = ("O", "H", "H")


def make(**changes: Any) -> Structure:
    return Structure(**{"symbols": SYMBOLS, "positions": POSITIONS, **changes})


# One structure -----------------------------------------------------------------------------------------------------


def test_what_is_left_out_has_defaults() -> None:
    structure = make()
    assert len(structure) == 3
    assert (structure.energy, structure.forces, structure.stress) == (None, None, None)
    assert (structure.weight, structure.energy_variance, structure.group) == (1.0, 0.0, "")
    np.testing.assert_array_equal(structure.cell, np.zeros((3, 3)))
    np.testing.assert_array_equal(structure.pbc, [False] * 3)
    assert structure.composition == (("H", 2), ("O", 1))
    assert structure.formula == "H2O"
    assert structure.origin == Origin("", 0, "reference")


def test_arrays_are_private_copies_that_cannot_be_written() -> None:
    positions, forces = POSITIONS.copy(), np.ones((3, 3), dtype=np.float32)
    structure = make(positions=positions, forces=np.asfortranarray(forces), pbc=True, cell=np.eye(3) * 5)
    positions[0, 0] = 7.0
    np.testing.assert_array_equal(structure.positions, POSITIONS)
    for name in ("positions", "forces", "cell", "pbc"):
        array = getattr(structure, name)
        assert array.flags.c_contiguous
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 0
    assert structure.forces.dtype == np.float64
    with pytest.raises(dataclasses.FrozenInstanceError):
        structure.energy = 1.0  # type: ignore[misc]


@pytest.mark.parametrize(
    ("pbc", "expected"),
    [(True, [1, 1, 1]), ([1, 0, 1], [1, 0, 1]), (np.array([False, True, False]), [0, 1, 0]), (0, [0, 0, 0])],
)
def test_periods_are_given_as_one_value_or_three(pbc: Any, expected: list[int]) -> None:
    assert make(pbc=pbc, cell=np.eye(3)).pbc.tolist() == [bool(value) for value in expected]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"symbols": (), "positions": np.zeros((0, 3))}, "has no atoms"),
        ({"symbols": ("O", "H", "Hx")}, "'Hx' is not a chemical element"),
        ({"symbols": ("O", "H", "X")}, "'X' is not a chemical element"),
        ({"symbols": ("O", "H")}, r"positions has shape \(3, 3\), expected \(2, 3\)"),
        ({"positions": POSITIONS.T[:2]}, r"positions has shape \(2, 3\)"),
        ({"positions": [[0, 0, 0], [1, 1], [2, 2, 2]]}, r"positions are no numbers of shape \(3, 3\)"),
        ({"positions": [["a", 0, 0]] * 3}, "positions are no numbers"),
        ({"positions": np.where(np.eye(3) == 1, np.nan, 1.0)}, "positions of atom 0 is nan Å"),
        ({"forces": np.where(np.eye(3)[::-1] == 1, np.inf, 1.0)}, "forces of atom 0 is inf eV/Å"),
        ({"forces": np.zeros((2, 3))}, r"forces has shape \(2, 3\), expected \(3, 3\)"),
        ({"stress": np.zeros((3, 3))}, r"stress has shape \(3, 3\), expected \(6,\)"),
        ({"stress": [0, 0, np.nan, 0, 0, 0]}, "stress of row 2 is nan"),
        ({"cell": np.eye(2)}, r"cell has shape \(2, 2\)"),
        ({"pbc": True}, "cell vectors of the periodic directions are zero or linearly dependent"),
        ({"pbc": [1, 1, 0], "cell": [[1, 0, 0], [2, 0, 0], [0, 0, 1]]}, "linearly dependent"),
        ({"pbc": [True, False]}, r"pbc has shape \(2,\)"),
        ({"pbc": np.ones((3, 3)), "cell": np.eye(3)}, r"pbc has shape \(3, 3\)"),
        ({"energy": np.nan}, "energy is nan"),
        ({"energy": -np.inf}, "energy is -inf"),
        ({"energy": "low"}, "energy is 'low', expected a number"),
        ({"energy": np.zeros(2)}, r"energy is '\[0. 0.\]', expected a number"),
        ({"weight": -1.0}, "weight is -1.0; it must be finite and not negative"),
        ({"weight": np.inf}, "weight is inf"),
        ({"weight": None}, "weight is 'None', expected a number"),
        ({"energy_variance": -1e-9}, "energy_variance is -1e-09"),
        ({"energy_variance": np.nan}, "energy_variance is nan"),
    ],
)
def test_impossible_values_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=f"^a.xyz, structure 4: .*{message}"):
        make(origin=Origin("a.xyz", 4), **changes)


def test_a_changed_copy_leaves_the_original() -> None:
    structure = make(energy=-1.0)
    changed = structure.replace(energy=-2, weight=0)
    assert (structure.energy, structure.weight) == (-1.0, 1.0)
    assert (changed.energy, changed.weight) == (-2.0, 0.0)
    assert changed.symbols == structure.symbols
    with pytest.raises(DataError, match="weight"):
        structure.replace(weight=np.nan)


def test_origins_read_as_sentences() -> None:
    assert str(Origin()) == "structure 0"
    assert str(Origin("a.xyz", 3)) == "a.xyz, structure 3"
    assert str(Origin("a.xyz", 3, "gpr")) == "gpr copy of a.xyz, structure 3"


# ASE ---------------------------------------------------------------------------------------------------------------


def test_ase_and_back() -> None:
    structure = make(
        cell=samples.TRICLINIC, pbc=[1, 0, 1], energy=-3.0, forces=-POSITIONS, stress=np.arange(6.0)
    )
    atoms = structure.to_ase()
    assert atoms.get_potential_energy() == -3.0
    np.testing.assert_array_equal(atoms.get_forces(), -POSITIONS)
    np.testing.assert_array_equal(atoms.get_stress(), np.arange(6.0))
    back = Structure.from_ase(atoms, group="x", origin=Origin("f", 2))
    assert (back.symbols, back.energy, back.group, back.origin) == (SYMBOLS, -3.0, "x", Origin("f", 2))
    for name in ("positions", "cell", "pbc", "forces", "stress"):
        np.testing.assert_array_equal(getattr(back, name), getattr(structure, name))
    atoms.calc.results["forces"][:] = 0.0  # ASE's arrays are ASE's
    assert structure.forces.any()


def test_structures_without_labels_have_no_calculator() -> None:
    assert make().to_ase().calc is None
    assert Structure.from_ase(ase.Atoms("H2", POSITIONS[:2])).energy is None
    fresh = ase.Atoms("H2", POSITIONS[:2], calculator=LennardJones())
    assert Structure.from_ase(fresh).energy is None  # nothing is computed


def test_forces_are_those_of_the_calculator_not_those_after_constraints() -> None:
    atoms = ase.Atoms("H2", POSITIONS[:2], constraint=FixAtoms([0]), calculator=LennardJones())
    atoms.get_forces()
    structure = Structure.from_ase(atoms)
    assert np.abs(structure.forces[0]).max() > 0
    np.testing.assert_allclose(structure.forces.sum(axis=0), 0, atol=1e-10)


def test_free_energy_stands_in_for_the_energy() -> None:
    atoms = ase.Atoms("H2", POSITIONS[:2])
    atoms.calc = SinglePointCalculator(atoms, free_energy=-2.0)
    assert Structure.from_ase(atoms).energy == -2.0


@pytest.mark.parametrize(
    ("change", "name"),
    [
        (lambda atoms: atoms.rattle(0.1), "positions"),
        (lambda atoms: atoms.set_cell([9, 9, 9]), "cell"),
        (lambda atoms: atoms.set_atomic_numbers([1, 8]), "numbers"),
    ],
)
def test_results_of_other_positions_are_no_labels(change: Any, name: str) -> None:
    atoms = ase.Atoms("H2", POSITIONS[:2], cell=[8, 8, 8], pbc=True, calculator=LennardJones())
    atoms.get_forces()
    assert Structure.from_ase(atoms).energy == atoms.get_potential_energy()
    change(atoms)
    with pytest.raises(
        DataError, match=f"results of its calculator belong to other {name}; compute them again"
    ):
        Structure.from_ase(atoms)


# Data sets ---------------------------------------------------------------------------------------------------------


def test_a_data_set_is_an_immutable_sequence() -> None:
    data = samples.waters(5)
    assert len(data) == 5
    assert list(data) == [data[i] for i in range(5)]
    assert data[-1] is data[4]
    assert data[np.int64(2)] is data[2]
    assert isinstance(data[1:3], Dataset)
    assert [s.origin.index for s in data[1:3]] == [1, 2]
    assert isinstance(data + data[:1], Dataset)
    assert len(data + list(data)) == 10
    assert data[0] in data
    with pytest.raises(IndexError):
        data[5]
    with pytest.raises(AttributeError):
        data.extra = 1  # type: ignore[attr-defined]
    assert len(Dataset()) == 0
    assert len(Dataset(iter(data))) == 5


def test_parts_of_a_data_set() -> None:
    data = samples.waters(5)
    assert [s.origin.index for s in data.select(np.array([3, 0, 3]))] == [3, 0, 3]
    assert [s.origin.index for s in data.filter(lambda s: s.origin.index % 2 == 1)] == [1, 3]


def test_labels_of_a_data_set() -> None:
    data = samples.waters(3)
    mixed = Dataset([*data, Structure(("Li",), np.zeros((1, 3)))])
    assert mixed.species == ("H", "Li", "O")
    assert mixed.n_atoms.tolist() == [3, 3, 3, 1]
    assert data.energies.tolist() == [s.energy for s in data]
    assert [f.shape for f in data.forces] == [(3, 3)] * 3
    assert (data.has_energies, data.has_forces) == (True, True)
    assert (mixed.has_energies, mixed.has_forces) == (False, False)
    with pytest.raises(DataError, match="structure 0: has no energy"):
        _ = mixed.energies
    with pytest.raises(DataError, match="structure 0: has no forces"):
        _ = mixed.forces


def test_a_data_set_is_shown_by_its_formulas() -> None:
    water = samples.waters(2)
    assert repr(water) == "Dataset(2 structures: 2 x H2O)"
    others = [Structure((symbol,), np.zeros((1, 3))) for symbol in ("Li", "C", "N", "F")]
    assert repr(water + others) == "Dataset(6 structures: 2 x H2O, 1 x Li, 1 x C, 1 x N, ...)"


# Errors, examples, progress ----------------------------------------------------------------------------------------


def test_errors_are_what_callers_catch() -> None:
    assert issubclass(errors.FormatError, DataError)
    for name, base in (
        ("DataError", ValueError),
        ("ConfigError", ValueError),
        ("FactorisationError", ArithmeticError),
        ("TrainingError", ArithmeticError),
    ):
        assert issubclass(getattr(errors, name), GprannError)
        assert issubclass(getattr(errors, name), base)
    assert FactorisationError("singular", 7).row == 7


def test_the_nearest_name_is_named() -> None:
    assert nearest_name("optimiser", ["members", "optimizer"]) == "did you mean 'optimizer'?"
    assert nearest_name("qqq", iter(["members", "optimizer"])) == "valid names: members, optimizer"


def test_a_structure_is_shown_in_one_line() -> None:
    crystal = Structure(
        ("Cu",), np.zeros((1, 3)), np.eye(3), np.ones(3, bool), energy=-3.5, forces=np.zeros((1, 3))
    )
    assert repr(crystal) == "Structure(Cu, periodic, energy -3.5 eV, forces; structure 0)"
    assert (
        repr(Structure(("H", "O"), np.eye(3)[:2], origin=Origin("a.xyz", 4)))
        == "Structure(HO; a.xyz, structure 4)"
    )


def test_hydrogen_is_the_lennard_jones_dimer() -> None:
    data = examples.hydrogen(5, 0.95, 2.05)
    bonds = [np.linalg.norm(s.positions[1] - s.positions[0]) for s in data]
    np.testing.assert_allclose(bonds, np.linspace(0.95, 2.05, 5))
    for structure, r in zip(data, bonds, strict=True):
        # ASE shifts the potential so that it is zero at its cutoff of 3 sigma.
        assert structure.energy == pytest.approx(4 * (r**-12 - r**-6) - 4 * (3.0**-12 - 3.0**-6))
        slope = 4 * (-12 * r**-13 + 6 * r**-7)
        np.testing.assert_allclose(structure.forces, [[0, 0, slope], [0, 0, -slope]], atol=1e-12)
    assert len({s.origin for s in data}) == 5


def test_progress_is_shown_on_request_alone(capfd: pytest.CaptureFixture[str]) -> None:
    for show in (None, False, True):
        with progress_bar(10, "labelling", show=show) as bar:
            bar.update(10)
            bar.set_postfix_str("late")
        printed = capfd.readouterr()
        assert printed.out == ""
        assert ("labelling" in printed.err) == (show is True)
