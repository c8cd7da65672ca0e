"""Structures carry charges, spins, constraints and whatever users attach, from the first file to the last."""

from __future__ import annotations

import copy
import pickle
import sys
from pathlib import Path

import ase
import ase.io
import numpy as np
import pytest
from ase.calculators.calculator import Calculator, all_changes
from ase.constraints import FixAtoms, FixBondLengths, FixCartesian

import gprann
from gprann.augmentation.displacements import displace
from gprann.data.structure import Dataset, Structure
from gprann.errors import DataError
from gprann.io import DataWarning, read, write
from gprann.labelling import geometry_key, label, merge
from gprann.labelling.process import to_message
from gprann.labelling.worker import compute
from gprann.pipeline.checkpoints import data_digest

INFO = {
    "charge": 1,
    "spin": 1.5,
    "multiplicity": 3,
    "config_type": "radical",
    "field": np.array([0.0, 0.1, -0.2]),
    "matrix": np.arange(4.0).reshape(2, 2),
    "name": "5",
    "text": 'a "quoted" one\nin two lines',
    "solvated": True,
    "counts": np.array([3]),
    "mixed": [1, "a"],
    "table": {"a": [1, 2], "b": {"c": 0.1}},
    "REF_energy": -4.5,
}


def _atoms(stretch: float = 0.0) -> ase.Atoms:
    positions = np.array([[0.0, 0.0, 0.1], [0.78 + stretch, 0.61, 0.0], [-0.76, 0.59, -0.1]])
    atoms = ase.Atoms(
        "OH2", positions, cell=[6.0, 7.0, 8.0], pbc=[True, True, False], info=copy.deepcopy(INFO)
    )
    atoms.set_initial_magnetic_moments([1.0, 0.5, -0.25])
    atoms.set_initial_charges([-0.8, 0.4, 0.4])
    atoms.set_tags([0, 1, 2])
    atoms.set_array("site", np.array(["top", "side", "side"]))
    atoms.set_array("moved", np.array([True, False, True]))
    atoms.set_constraint([FixAtoms([0]), FixBondLengths([[0, 1]])])
    return atoms


def _structure(stretch: float = 0.0) -> Structure:
    return Structure.from_ase(_atoms(stretch))


def _same(a: Structure, b: Structure) -> None:
    from gprann.data.attachments import plain

    for part in ("info", "arrays", "constraints"):
        assert plain(getattr(a, part)) == plain(getattr(b, part)), part
    for name, array in a.arrays.items():
        assert b.arrays[name].dtype.kind == array.dtype.kind


def test_ase_round_trip():
    structure = _structure()
    back = structure.to_ase()
    assert back.info["charge"] == 1
    assert back.info["table"] == INFO["table"]
    np.testing.assert_array_equal(back.info["field"], INFO["field"])
    np.testing.assert_array_equal(back.get_initial_magnetic_moments(), [1.0, 0.5, -0.25])
    np.testing.assert_array_equal(back.get_initial_charges(), [-0.8, 0.4, 0.4])
    assert [type(item).__name__ for item in back.constraints] == ["FixAtoms", "FixBondLengths"]
    _same(Structure.from_ase(back), structure)


def test_weight_variance_and_group_survive_ase():
    structure = _structure().replace(energy=-1.0, weight=2.0, energy_variance=0.5, group="mine")
    back = Structure.from_ase(structure.to_ase())
    assert (back.weight, back.energy_variance, back.group) == (2.0, 0.5, "mine")


def test_results_of_the_reference_are_results_again():
    structure = _structure().replace(energy=-1.0, forces=np.zeros((3, 3)))
    structure = structure.replace(
        info={"dipole": [0.0, 0.0, 0.3]}, arrays={"magmoms": [1.0, 0.0, 0.0], "initial_magmoms": [2.0, 0, 0]}
    )
    atoms = structure.to_ase()
    np.testing.assert_array_equal(atoms.calc.results["dipole"], [0.0, 0.0, 0.3])
    np.testing.assert_array_equal(atoms.get_magnetic_moments(), [1.0, 0.0, 0.0])
    _same(Structure.from_ase(atoms), structure.replace(constraints=structure.constraints))
    assert "dipole" not in structure.without_labels().info
    assert set(structure.without_labels().arrays) == {"initial_magmoms"}


def test_extended_xyz_keeps_everything(tmp_path):
    structure = _structure().replace(energy=-1.0, forces=np.arange(9.0).reshape(3, 3))
    write(tmp_path / "a.extxyz", structure)
    (back,) = read(tmp_path / "a.extxyz")
    _same(back, structure)
    write(tmp_path / "b.extxyz", back)
    assert (tmp_path / "b.extxyz").read_text().splitlines()[2:] == (
        tmp_path / "a.extxyz"
    ).read_text().splitlines()[2:]


def test_ase_reads_what_is_attached(tmp_path):
    write(tmp_path / "a.extxyz", _structure().replace(energy=-1.0))
    atoms = ase.io.read(tmp_path / "a.extxyz")
    np.testing.assert_array_equal(atoms.get_initial_magnetic_moments(), [1.0, 0.5, -0.25])
    np.testing.assert_array_equal(atoms.get_initial_charges(), [-0.8, 0.4, 0.4])
    np.testing.assert_array_equal(atoms.get_tags(), [0, 1, 2])
    np.testing.assert_array_equal(atoms.info["matrix"], INFO["matrix"])
    assert (atoms.info["charge"], atoms.info["spin"], atoms.info["solvated"]) == (1, 1.5, True)
    assert (atoms.info["text"], atoms.info["table"]) == (INFO["text"], INFO["table"])
    np.testing.assert_array_equal(atoms.constraints[0].index, [0])


def test_what_ase_writes_is_read(tmp_path):
    atoms = _atoms()
    atoms.set_constraint([FixCartesian([1], [True, False, True])])
    atoms.info = {"charge": -1, "energy": -2.0, "note": "a b"}
    ase.io.write(tmp_path / "a.extxyz", atoms)
    (structure,) = read(tmp_path / "a.extxyz")
    assert dict(structure.info) == {"charge": -1, "note": "a b"}
    np.testing.assert_array_equal(structure.arrays["initial_magmoms"], [1.0, 0.5, -0.25])
    (fixed,) = structure.to_ase().constraints
    np.testing.assert_array_equal(fixed.index, [1])
    np.testing.assert_array_equal(fixed.mask, [True, False, True])


def test_a_trajectory_keeps_everything(tmp_path):
    atoms = _atoms()
    atoms.info = {"charge": 1, "energy": -1.0}
    ase.io.write(tmp_path / "a.traj", atoms)
    (structure,) = read(tmp_path / "a.traj")
    assert structure.info["charge"] == 1
    assert set(structure.arrays) >= {"initial_magmoms", "initial_charges", "tags"}
    assert len(structure.constraints) == 2


def test_xsf_says_what_it_loses(tmp_path):
    with pytest.warns(
        DataWarning, match=r"entries of info \(1 structures\), magnetic moments .*, constraints"
    ):
        write(tmp_path / "a.xsf", _structure().replace(energy=-1.0))


def test_texts_that_a_column_cannot_hold_are_named(tmp_path):
    structure = _structure().replace(energy=-1.0, arrays={"site": ["on top", "side", "side"]})
    with pytest.warns(DataWarning, match=r"arrays\['site'\] holds texts with blanks"):
        write(tmp_path / "a.extxyz", structure)


def test_names_that_have_a_meaning_do_not_damage_a_file(tmp_path, caplog):
    structure = _structure().replace(
        energy=-1.0,
        info={"energy": -5.0, "Lattice": "x", "a b": 1, "constraints": "none"},
        arrays={"forces": np.ones((3, 3)), "a:b": np.ones(3), "pos": np.zeros((3, 3)), "kept": np.ones(3)},
        constraints=[{"name": "Unknown", "kwargs": {}}],
    )
    write(tmp_path / "a.extxyz", structure)
    (back,) = read(tmp_path / "a.extxyz")
    assert (back.energy, back.forces) == (-1.0, None)
    assert back.info["a b"] == 1
    assert set(back.arrays) == {"kept"}
    assert back.to_ase().constraints == []
    assert "the constraint Unknown is left out" in caplog.text
    text = (tmp_path / "a.extxyz").read_text()
    (tmp_path / "a.extxyz").write_text(text.replace("_JSON [", "_JSON [3, "))
    assert read(tmp_path / "a.extxyz")[0].constraints == ()


def test_attachments_cannot_be_changed_and_can_be_pickled():
    structure = _structure()
    with pytest.raises(TypeError):
        structure.info["charge"] = 2  # type: ignore[index]
    with pytest.raises(ValueError, match="read-only"):
        structure.arrays["tags"][0] = 5
    _same(pickle.loads(pickle.dumps(structure)), structure)
    _same(copy.deepcopy(structure), structure)
    given = np.zeros(3)
    held = structure.replace(arrays={"a": given})
    given[0] = 1.0
    assert held.arrays["a"][0] == 0.0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"info": {"a": object()}}, r"info\['a'\]: a object is no plain data"),
        ({"arrays": {"a": [1.0, 2.0]}}, r"arrays\['a'\] has shape \(2,\), expected 3 rows"),
        ({"arrays": {"a": [1j, 0, 0]}}, r"arrays\['a'\]: values of the kind complex128"),
        ({"constraints": [{"kwargs": {}}]}, "expected the table that todict"),
    ],
)
def test_what_is_no_plain_data_is_refused(change, message):
    with pytest.raises(DataError, match=message):
        _structure().replace(**change)


def test_objects_in_atoms_are_left_out():
    atoms = _atoms()
    atoms.info = {"charge": 1, "object": object(), ("a", 1): 2}
    assert dict(Structure.from_ase(atoms).info) == {"charge": 1}


def test_reordered_atoms_take_everything_along():
    structure = _structure().replace(forces=np.arange(9.0).reshape(3, 3))
    other = structure.reorder([2, 0, 1])
    assert other.symbols == ("H", "O", "H")
    assert other.arrays["tags"].tolist() == [2, 0, 1]
    assert other.forces is not None
    assert other.forces[0].tolist() == [6.0, 7.0, 8.0]
    fixed, bonds = other.to_ase().constraints
    assert fixed.index.tolist() == [1]
    assert sorted(bonds.pairs[0].tolist()) == [1, 2]


def test_displaced_copies_keep_inputs_and_lose_what_follows_from_positions():
    structure = _structure().replace(energy=-1.0, weight=2.0, group="g")
    structure = structure.replace(
        info={**structure.info, "dipole": [0, 0, 1.0]},
        arrays={**structure.arrays, "momenta": np.ones((3, 3))},
    )
    (moved,) = displace(Dataset([structure]), "gpr", [[np.full((3, 3), 0.1)]])
    assert moved.energy is None
    assert {"dipole", "REF_energy"} & set(moved.info) == set()
    assert set(moved.info) == set(INFO) - {"REF_energy"}
    assert "momenta" not in moved.arrays
    assert moved.arrays["initial_magmoms"].tolist() == [1.0, 0.5, -0.25]
    assert len(moved.constraints) == 2
    assert (moved.weight, moved.group) == (2.0, "g")


def test_digests_see_what_is_attached():
    one = Dataset([_structure()])
    other = Dataset([_structure().replace(info={**INFO, "charge": 0})])
    assert data_digest(one) == data_digest(Dataset([_structure()]))
    assert data_digest(one) != data_digest(other)


def test_geometries_of_another_charge_are_others():
    structure = _structure()
    assert geometry_key(structure) == geometry_key(structure.replace(energy=-1.0, group="a", weight=3.0))
    assert geometry_key(structure) != geometry_key(structure.replace(info={**structure.info, "charge": 0}))
    flipped = {**structure.arrays, "initial_magmoms": [-1.0, 0.5, -0.25]}
    assert geometry_key(structure) != geometry_key(structure.replace(arrays=flipped))
    bare = structure.replace(arrays={})
    assert geometry_key(bare) == geometry_key(bare.replace(arrays={"initial_magmoms": np.zeros(3)}))


SPIN = """
import numpy as np
from ase.calculators.calculator import Calculator, all_changes

class Spin(Calculator):
    '''Its energy depends on magnetic moments, total charge and a field; its free energy is another one.'''
    implemented_properties = ["energy", "free_energy", "forces"]

    def calculate(self, atoms=None, properties=(), system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        energy = float(10.0 * atoms.info["charge"] + atoms.get_initial_magnetic_moments() @ [1.0, 2.0, 4.0]
                       + np.sum(atoms.info["field"]))
        assert len(atoms.constraints) == 2
        self.results = {"energy": energy, "free_energy": energy - 0.25, "forces": np.zeros((len(atoms), 3))}
"""


def test_a_calculator_sees_what_is_attached_and_the_free_energy_is_taken(tmp_path, monkeypatch):
    (tmp_path / "spin.py").write_text(SPIN)
    monkeypatch.syspath_prepend(str(tmp_path))
    flipped = _structure().replace(arrays={**_structure().arrays, "initial_magmoms": [-1.0, 0.5, -0.25]})
    candidates = Dataset([_structure(), flipped, _structure().replace(info={**INFO, "charge": 0})])
    output = tmp_path / "labels.extxyz"
    result = label(candidates, "spin:Spin", output, progress=False)
    assert result.failures == []
    expected = [10.0 + 1.0 - 0.1 - 0.25, 10.0 - 1.0 - 0.1 - 0.25, 1.0 - 0.1 - 0.25]
    np.testing.assert_allclose(result.labelled.energies, expected, rtol=1e-12)
    with pytest.warns(DataWarning, match="differ in charge or spin"):
        again = read(output)
    for structure, other in zip(result.labelled, again, strict=True):
        _same(structure, other)
        assert "REF_energy" in structure.info
    assert label(candidates, "spin:Spin", output, progress=False).computed == 0
    assert len(merge(Dataset(again[:1]), result.labelled)) == 3
    sys.modules.pop("spin", None)


def test_messages_to_worker_processes_keep_bits_and_types():
    import json

    message = json.loads(json.dumps(to_message(_structure())))
    message.pop("place")
    back = Structure(**message)
    _same(back, _structure())


class _Moments(Calculator):
    implemented_properties = ("energy",)

    def calculate(self, atoms=None, properties=(), system_changes=tuple(all_changes)) -> None:
        super().calculate(atoms, properties, list(system_changes))
        self.results = {"energy": float(atoms.get_initial_magnetic_moments().sum())}


def test_the_worker_hands_everything_over():
    assert compute(_Moments(), _structure())["energy"] == 1.25


def test_select_keeps_what_is_attached(tmp_path: Path):
    h2 = gprann.examples.hydrogen(9)
    candidates = Dataset(item.replace(info={"charge": 0, "k": k}) for k, item in enumerate(h2))
    surrogate = gprann.Surrogate(kernel="pairs").fit(h2[::4])
    chosen = gprann.select(candidates, surrogate, 2, progress=None)
    assert all("k" in item.info for item in chosen.structures)
