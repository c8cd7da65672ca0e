"""Files of other programs, and ASE's own objects."""

from __future__ import annotations

import pickle

import ase
import ase.io
import numpy as np
import pytest
from ase.calculators.calculator import Calculator
from ase.calculators.lj import LennardJones
from ase.calculators.singlepoint import SinglePointCalculator

from gprann.errors import DataError, FormatError
from gprann.io import DataWarning, read
from vasp_files import FORCES, POSITIONS, outcar, vasprun

WRITERS = {"OUTCAR": outcar, "vasprun.xml": vasprun}


@pytest.mark.parametrize("name", WRITERS)
def test_vasp_files(tmp_path, name):
    (tmp_path / name).write_text(WRITERS[name]([-6.0, -6.5, -6.25]))
    data = read(tmp_path / name)
    np.testing.assert_allclose(data.energies, [-6.001, -6.501, -6.251], rtol=0, atol=1e-9)  # of the forces
    assert [structure.origin.index for structure in data] == [0, 1, 2]
    np.testing.assert_allclose(data[1].positions, 1.01 * POSITIONS, atol=1e-7)
    np.testing.assert_allclose(data[2].forces, FORCES)
    assert data[0].pbc.all()
    assert data[0].stress is not None
    assert data[0].stress[0] == pytest.approx(-1e-1 * 0.00624150907446, rel=1e-6)  # VASP's kB, opposite sign
    np.testing.assert_allclose(
        read(tmp_path / name, energy="extrapolated").energies, [-6.0, -6.5, -6.25], rtol=1e-12
    )


@pytest.mark.parametrize("name", WRITERS)
def test_a_cut_vasp_file_is_refused(tmp_path, name):
    text = WRITERS[name]([-6.0, -6.5, -6.25])
    for fraction in (0.3, 0.6, 0.9, 0.97):
        (tmp_path / name).write_text(text[: int(fraction * len(text))])
        with pytest.raises(FormatError, match=f"{name}: the file is cut or the run did not finish"):
            read(tmp_path / name)


def test_a_vasp_xml_file_damaged_in_the_middle_is_refused(tmp_path):
    text = vasprun([-6.0, -6.5, -6.25])
    second = text.index("</structure>", text.index("-6.5"))
    (tmp_path / "vasprun.xml").write_text(text[:second] + text[second + len("</structure>") :])
    with pytest.raises(FormatError, match=r"vasprun\.xml: is damaged: ASE reads 1 of its steps"):
        read(tmp_path / "vasprun.xml")


@pytest.mark.parametrize("name", WRITERS)
def test_stars_in_a_vasp_file_are_refused(tmp_path, name):
    text = WRITERS[name]([-6.0, -6.5])
    assert "0.200000" in text
    (tmp_path / name).write_text(text.replace("0.200000", "********"))
    with pytest.raises(DataError, match=f"{name}: ASE cannot read it"):
        read(tmp_path / name)


def _images(n: int) -> list[ase.Atoms]:
    rng = np.random.default_rng(0)
    images = []
    for k in range(n):
        atoms = ase.Atoms("CO2", rng.normal(size=(3, 3)) + np.diag([0, 3, 6]), cell=[8, 8, 9], pbc=True)
        atoms.calc = SinglePointCalculator(
            atoms, energy=-float(k), forces=rng.normal(size=(3, 3)), stress=rng.normal(size=6)
        )
        images.append(atoms)
    return images


def test_trajectory(tmp_path):
    images = _images(3)
    ase.io.write(tmp_path / "a.traj", images)
    for data in (read(tmp_path / "a.traj"), read(images)):
        assert data.energies.tolist() == [0.0, -1.0, -2.0]
        np.testing.assert_array_equal(data[2].forces, images[2].get_forces())
        np.testing.assert_array_equal(data[2].stress, images[2].get_stress())
        np.testing.assert_array_equal(data[2].cell, images[2].cell[:])


def test_a_cut_trajectory_is_refused(tmp_path):
    ase.io.write(tmp_path / "a.traj", _images(4))
    content = (tmp_path / "a.traj").read_bytes()
    for length in np.linspace(1, len(content) - 1, 40).astype(int):
        (tmp_path / "a.traj").write_bytes(content[:length])
        with pytest.raises(DataError, match=r"a\.traj"):
            read(tmp_path / "a.traj")


class _Bomb:
    def __reduce__(self):
        return (pytest.fail, ("a pickle was loaded",))


@pytest.mark.parametrize(
    "name", ["a.traj", "a.pckl", "a.pickle", "a.trj", "a.db", "a.json", "a.xyz", "a.xsf", "a"]
)
def test_pickles_are_never_loaded(tmp_path, name):
    (tmp_path / name).write_bytes(pickle.dumps([_Bomb()]))
    with pytest.raises(DataError, match=name):
        read(tmp_path / name)


def test_a_format_that_nobody_knows(tmp_path):
    (tmp_path / "notes.qqq").write_text("nothing\nhere\n")
    with pytest.raises(FormatError, match=r"notes\.qqq"):
        read(tmp_path / "notes.qqq")
    (tmp_path / "notes").write_text("nothing\nhere\n")
    with pytest.raises(FormatError, match="has no known format"):
        read(tmp_path / "notes")
    for name in ("notes.csv", "picture.png", "script.py"):
        (tmp_path / name).write_text("nothing\nhere\n")
        with pytest.raises(FormatError, match=rf"{name}: has no known format; give extended XYZ"):
            read(tmp_path / name)
    (tmp_path / "config.toml").write_text('data.train = "train.extxyz"')
    with pytest.raises(
        FormatError, match=r"config\.toml: is a configuration, not structures; give extended XYZ"
    ):
        read(tmp_path / "config.toml")
    (tmp_path / "OUTCAR").write_text("")
    with pytest.raises(DataError, match="OUTCAR: is empty"):
        read(tmp_path / "OUTCAR")


def test_extended_xyz_without_a_suffix_is_read_with_the_same_care(tmp_path):
    (tmp_path / "movie").write_text("2\nenergy=-1\nH 0 0 0\nH 0 0 1\n")
    assert read(tmp_path / "movie").energies.tolist() == [-1.0]
    (tmp_path / "movie").write_text("2\nenergy=-1\nH 0 0 0\nH 0 0\n")
    with pytest.raises(FormatError, match="atom 1"):
        read(tmp_path / "movie")


# --- atoms objects ---------------------------------------------------------------------------------------


def _h2(length: float = 0.74, **info: object) -> ase.Atoms:
    return ase.Atoms("H2", [[0, 0, 0], [0, 0, length]], info=info)


def test_labels_of_atoms():
    atoms = _h2(REF_energy=-31.0, energy=-30.0, config_type="gas")
    atoms.set_array("REF_forces", np.ones((2, 3)))
    (structure,) = read(atoms, keys={"energy": "REF_energy", "forces": "REF_forces"})
    assert (structure.energy, structure.group) == (-31.0, "gas")
    np.testing.assert_array_equal(structure.forces, np.ones((2, 3)))
    with pytest.warns(DataWarning, match="has no forces, but 'REF_forces'"):
        assert read(atoms)[0].energy == -30.0
    with pytest.raises(DataError, match="structure 0: has no energy, but 'dft_energy' may be"):
        read(_h2(dft_energy=-1.0))
    with pytest.raises(DataError, match=r"structure 1: has no energy; add it"):
        read([_h2(energy=-1.0), _h2()])


def test_virial_of_atoms():
    atoms = ase.Atoms(
        "H", cell=np.diag([1.0, 2.0, 4.0]), pbc=True, info={"energy": -1.0, "virial": -8.0 * np.eye(3)}
    )
    np.testing.assert_allclose(read(atoms)[0].stress, [1, 1, 1, 0, 0, 0], rtol=1e-14)


def test_nothing_is_computed():
    atoms = _h2()
    atoms.calc = LennardJones()
    with pytest.raises(DataError, match="has no energy"):
        read(atoms)
    atoms.get_potential_energy()
    assert read(atoms)[0].energy == atoms.get_potential_energy()


def test_results_of_other_positions_are_refused():
    shared: Calculator = LennardJones()
    images = [_h2(0.9), _h2(1.1)]
    for atoms in images:
        atoms.calc = shared
        atoms.get_potential_energy()
    with pytest.raises(
        DataError, match="structure 0: the results of its calculator belong to other positions"
    ):
        read(images)


@pytest.mark.parametrize(
    ("info", "message"),
    [
        ({"energy": float("nan")}, "energy is nan"),
        ({"energy": "****"}, "energy is '\\*\\*\\*\\*'"),
        ({"energy": [1.0, 2.0]}, "energy has 2 values"),
        ({"energy": None}, "has no energy"),
    ],
)
def test_bad_labels_of_atoms(info, message):
    with pytest.raises(DataError, match=f"structure 0: {message}"):
        read(_h2(**info))


def test_bad_atoms():
    with pytest.raises(DataError, match="structure 0: positions of atom 1 is nan"):
        read(ase.Atoms("H2", [[0, 0, 0], [0, 0, np.nan]], info={"energy": -1.0}))
    with pytest.raises(DataError, match="atom 1 is '0', which is not a chemical element"):
        read(ase.Atoms("HX", [[0, 0, 0], [0, 0, 1]], info={"energy": -1.0}))
    with pytest.raises(DataError, match="has no atoms"):
        read(ase.Atoms(info={"energy": -1.0}))
