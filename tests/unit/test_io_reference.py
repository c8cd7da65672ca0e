"""The published reference data."""

from __future__ import annotations

from collections import Counter

import ase.io
import numpy as np
import pytest

from gprann.data.structure import Dataset
from gprann.io import check_dataset, read, write

pytestmark = pytest.mark.data

SETS = [
    ("h2/train.extxyz", 7, {"H": 2}),
    ("h2/test.extxyz", 200, {"H": 2}),
    ("ec_dimer/train.extxyz", 250, {"C": 6, "H": 8, "O": 6}),
    ("ec_dimer/dev.extxyz", 250, {"C": 6, "H": 8, "O": 6}),
    ("li_ec/train.extxyz", 100, {"Li": 36, "C": 3, "H": 4, "O": 3}),
    ("li_ec/dev.extxyz", 100, {"Li": 36, "C": 3, "H": 4, "O": 3}),
]


@pytest.mark.parametrize(("name", "count", "atoms"), SETS)
def test_sets_are_read_as_ase_reads_them_and_raise_no_suspicion(shared_data, name, count, atoms):
    data = read(shared_data / name, require=("energy", "forces"))
    assert len(data) == count
    assert check_dataset(data).messages == ()
    for structure, other in zip(data, ase.io.read(shared_data / name, ":"), strict=True):
        assert Counter(structure.symbols) == atoms
        np.testing.assert_array_equal(structure.positions, other.positions)
        np.testing.assert_array_equal(structure.forces, other.get_forces())
        np.testing.assert_array_equal(structure.cell, other.cell[:])
        np.testing.assert_array_equal(structure.pbc, other.pbc)
        assert structure.energy == other.get_potential_energy()


@pytest.mark.parametrize("name", ["h2", "ec_dimer", "li_ec"])
def test_xsf_files_are_the_first_structures_of_the_training_set(shared_data, name):
    files = read(shared_data / "xsf" / name, require=("energy", "forces"))
    frames = read(shared_data / name / "train.extxyz")[: len(files)]
    assert len(files) == (7 if name == "h2" else 10)
    assert [structure.origin.file[-8:-4] for structure in files] == [f"{k:04d}" for k in range(len(files))]
    for structure, frame in zip(files, frames, strict=True):
        assert structure.symbols == frame.symbols
        assert structure.energy == pytest.approx(frame.energy, rel=0, abs=1e-9)
        # The extended XYZ files were written with eight decimals.
        np.testing.assert_allclose(structure.positions, frame.positions, rtol=0, atol=5.1e-9)
        np.testing.assert_allclose(structure.forces, frame.forces, rtol=0, atol=5.1e-9)
        np.testing.assert_array_equal(structure.cell, frame.cell)
        np.testing.assert_array_equal(structure.pbc, frame.pbc)
        assert structure.pbc.all() == (name == "li_ec")


def test_structures_of_the_aenet_reference(shared_data):
    for folder in ("EC-EC", "Li-EC"):
        (structure,) = read(shared_data / "aenet_reference" / folder / "structure.xsf")
        assert structure.pbc.all() == (folder == "Li-EC")


@pytest.mark.parametrize("name", ["ec_dimer", "li_ec"])
def test_round_trip(shared_data, tmp_path, name):
    data = read(shared_data / name / "train.extxyz")[:10]
    write(tmp_path / "a.extxyz", data)
    write(tmp_path / "set", data)
    for back in (read(tmp_path / "a.extxyz"), read(tmp_path / "set")):
        for old, new in zip(data, back, strict=True):
            assert (old.symbols, old.energy) == (new.symbols, new.energy)
            for label in ("positions", "forces", "cell", "pbc"):
                np.testing.assert_array_equal(getattr(old, label), getattr(new, label))
    assert [s.origin for s in read(tmp_path / "a.extxyz")] == [s.origin for s in data]


def test_a_shifted_copy_of_a_real_structure_is_found(shared_data):
    data = read(shared_data / "li_ec" / "train.extxyz")
    images = np.arange(46)[:, None] % 3 * data[5].cell[0]
    copy = data[5].replace(positions=data[5].positions + np.array([1.0, 2.0, 3.0]) + images)
    assert check_dataset(Dataset([*data, copy])).duplicates == ((5, 100),)


def test_a_wrong_energy_of_a_real_structure_is_found(shared_data):
    for name in ("ec_dimer", "li_ec"):
        data = read(shared_data / name / "train.extxyz")
        wrong = data[9].replace(energy=data[9].energy + 20.0)
        assert check_dataset(Dataset([*data[:9], wrong, *data[10:]])).outliers == (9,)
