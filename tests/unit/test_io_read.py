"""`read`: sources, options and labels."""

from __future__ import annotations

import warnings

import ase
import numpy as np
import pytest

from gprann.data.structure import Dataset, Structure
from gprann.errors import ConfigError, DataError, FormatError
from gprann.io import DataWarning, read, write


def _h2(length: float, **labels) -> Structure:
    return Structure(("H", "H"), [[0, 0, 0], [0, 0, length]], **{"energy": -length, **labels})


@pytest.fixture
def xyz(tmp_path):
    file = tmp_path / "a.xyz"
    write(file, [_h2(0.7), _h2(0.8), _h2(0.9)])
    return file


def test_every_kind_of_source_in_one_list(tmp_path, xyz):
    write(tmp_path / "set", [_h2(1.0), _h2(1.1)])
    atoms = ase.Atoms("H2", [[0, 0, 0], [0, 0, 1.2]], info={"energy": -1.2})
    more = Dataset([_h2(1.4), _h2(1.5)])
    data = read([str(xyz), tmp_path / "set", atoms, [_h2(1.3), more], (a for a in [atoms.copy()][:0])])
    assert data.energies.tolist() == [-0.7, -0.8, -0.9, -1.0, -1.1, -1.2, -1.3, -1.4, -1.5]


def test_a_data_set_is_passed_through():
    data = Dataset([_h2(0.7), _h2(0.7)])
    assert read(data) is data  # and its duplicates are not reported again
    assert [structure.group for structure in read(data, group="g")] == ["g", "g"]
    with pytest.raises(DataError, match="has no forces"):
        read(data, require=("forces",))
    (structure,) = read(data[0])
    assert structure is data[0]


@pytest.mark.parametrize(
    ("index", "expected"),
    [
        (":", [0.7, 0.8, 0.9]),
        (0, [0.7]),
        (-1, [0.9]),
        ("-1", [0.9]),
        ("1:", [0.8, 0.9]),
        ("::2", [0.7, 0.9]),
        ("::-1", [0.9, 0.8, 0.7]),
        (":-1", [0.7, 0.8]),
        (slice(1, 2), [0.8]),
    ],
)
def test_index(xyz, index, expected):
    data = read(xyz, index=index)
    assert (-data.energies).tolist() == expected
    all_indices = {0.7: 0, 0.8: 1, 0.9: 2}
    assert [structure.origin.index for structure in data] == [all_indices[length] for length in expected]


@pytest.mark.parametrize("index", ["x", "1:2:3:4", "::0", "-", "::-", "", 1.5, None, True, slice(0, 1, 0)])
def test_wrong_index(xyz, index):
    with pytest.raises(ConfigError, match=r"index is .*; expected an integer or start:stop:step"):
        read(xyz, index=index)


def test_index_beyond_the_end(xyz):
    with pytest.raises(DataError, match=r"a\.xyz: index 3 is beyond its 3 structures"):
        read(xyz, index=3)
    with pytest.raises(DataError, match=r"a\.xyz: index = '5:' takes none of its structures"):
        read(xyz, index="5:")


def test_the_rest_of_the_file_is_checked_too(xyz):
    xyz.write_text(xyz.read_text().replace("0.9\n", "nan\n"))
    with pytest.raises(DataError, match="structure 2: positions of atom 1 is nan"):
        read(xyz, index=0)


def test_misspelt_options(xyz):
    with pytest.raises(ConfigError, match=r"require: unknown label 'force'; did you mean 'forces'\?"):
        read(xyz, require=("energy", "force"))
    with pytest.raises(ConfigError, match=r"keys: unknown label 'enrgy'; did you mean 'energy'\?"):
        read(xyz, keys={"enrgy": "REF_energy"})
    with pytest.raises(ConfigError, match=r"groups.*valid names: index"):
        read(xyz, groups="a")


def test_require_takes_one_name(xyz):
    with pytest.raises(DataError, match="has no forces"):
        read(xyz, require="forces")


@pytest.mark.parametrize("source", [None, 3, {"a": 1}.items, b"a.xyz"])
def test_a_source_that_is_none(source):
    with pytest.raises(DataError, match="source: "):
        read(source)


@pytest.mark.parametrize("source", [[], (), [[]]])
def test_an_empty_list(source):
    with pytest.raises(DataError, match="source: holds no structure"):
        read(source)


def test_a_model_file_holds_no_structures(tmp_path):
    (tmp_path / "potential.gprann").write_bytes(b"PK\x03\x04 and more")
    with pytest.raises(
        FormatError, match=r"potential\.gprann: is a model file; structures are expected here"
    ):
        read(tmp_path / "potential.gprann")


def test_missing_labels_are_an_error_that_counts_them():
    data = [_h2(0.7), _h2(0.8, energy=None), _h2(0.9, energy=None)]
    with pytest.raises(
        DataError, match=r"has no energy \(and so 2 of 3 structures\); add it to the file, leave"
    ):
        read(data)
    with pytest.raises(DataError, match=r"has no stress; add it"):
        read(_h2(0.7), require=("energy", "stress"))


def test_structures_with_and_without_forces_are_a_warning():
    forces = np.zeros((2, 3))
    with pytest.warns(
        DataWarning, match="2 of 3 structures have no forces, the others have: structure 0, str"
    ):
        read([_h2(0.7), _h2(0.8, forces=forces), _h2(0.9)])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert read([_h2(0.7), _h2(0.8)]).has_forces is False  # training on energies only
        assert read([_h2(0.7, forces=forces), _h2(0.8, forces=forces)]).has_forces


def test_a_molecule_beside_a_crystal_needs_no_stress():
    crystal = Structure(("H",), np.zeros((1, 3)), np.eye(3), [True] * 3, energy=-1.0, stress=np.zeros(6))
    assert len(read([crystal, _h2(0.7)])) == 2
    bare = crystal.replace(stress=None, cell=2 * np.eye(3))
    with pytest.warns(DataWarning, match="1 of 3 structures have no stress"):
        read([crystal, _h2(0.7), bare])


def test_coincident_atoms_name_file_structure_and_atoms(tmp_path):
    write(tmp_path / "a.xyz", Dataset([_h2(0.7), _h2(0.05)]))
    with pytest.raises(DataError, match=r"a\.xyz, structure 1: atoms 0 and 1 \(H, H\) are 0\.050 Å apart"):
        read(tmp_path / "a.xyz")


def test_what_read_gives_is_independent_of_the_input():
    atoms = ase.Atoms("H2", [[0, 0, 0], [0, 0, 1.2]], info={"energy": -1.2})
    (structure,) = read(atoms)
    atoms.positions += 1.0
    assert structure.positions[1, 2] == 1.2
    assert atoms.info == {"energy": -1.2}
