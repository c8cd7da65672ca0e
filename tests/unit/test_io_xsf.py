"""The XSF dialect of ænet."""

from __future__ import annotations

import numpy as np
import pytest

from gprann.data.structure import Dataset, Origin, Structure
from gprann.errors import ConfigError, DataError, FormatError
from gprann.io import DataWarning, WriteError, read, write

MOLECULE = """# total energy = -14.5 eV

ATOMS
O  0.10 0.20 0.30  1.00 2.00 3.00
H  1.10 1.20 1.30  4.00 5.00 6.00
1  2.10 2.20 2.30  7.00 8.00 9.00
"""
CRYSTAL = """# total energy = -14.5 eV
# cohesive energy = -1.0 eV

CRYSTAL
PRIMVEC
 5.0 0.0 0.0
 0.5 6.0 0.0
 0.0 0.0 7.0
PRIMCOORD
 3 1
O  0.10 0.20 0.30  1.00 2.00 3.00
H  1.10 1.20 1.30  4.00 5.00 6.00
1  2.10 2.20 2.30  7.00 8.00 9.00
"""


def _read(tmp_path, text: str, **options):
    file = tmp_path / "a.xsf"
    file.write_text(text)
    (structure,) = read(file, **options)
    return structure


def _refused(tmp_path, text: str, *parts: str, **options) -> None:
    with pytest.raises(DataError) as caught:
        _read(tmp_path, text, **options)
    for part in (str(tmp_path / "a.xsf"), *parts):
        assert part in str(caught.value)


@pytest.mark.parametrize("text", [MOLECULE, CRYSTAL], ids=["ATOMS", "PRIMCOORD"])
def test_everything_is_read(tmp_path, text):
    structure = _read(tmp_path, text)
    assert structure.symbols == ("O", "H", "H")
    assert structure.energy == -14.5
    np.testing.assert_array_equal(structure.positions[:, 0], [0.1, 1.1, 2.1])
    np.testing.assert_array_equal(structure.forces, np.arange(1.0, 10.0).reshape(3, 3))
    assert structure.origin == Origin(str(tmp_path / "a.xsf"), 0)
    cell = [[5, 0, 0], [0.5, 6, 0], [0, 0, 7]] if text is CRYSTAL else np.zeros((3, 3))
    np.testing.assert_array_equal(structure.cell, cell)


@pytest.mark.parametrize(
    ("keyword", "pbc"),
    [
        ("CRYSTAL\n", [True, True, True]),
        ("SLAB\n", [True, True, False]),
        ("POLYMER\n", [True, False, False]),
        ("MOLECULE\n", [False, False, False]),
        ("", [True, True, True]),
        ("slab\n", [True, True, False]),
    ],
)
def test_periodic_directions(tmp_path, keyword, pbc):
    structure = _read(tmp_path, CRYSTAL.replace("CRYSTAL\n", keyword))
    assert structure.pbc.tolist() == pbc
    assert structure.cell[1, 0] == 0.5
    assert _read(tmp_path, MOLECULE).pbc.tolist() == [False] * 3
    assert _read(tmp_path, MOLECULE.replace("ATOMS", "MOLECULE\nATOMS")).pbc.tolist() == [False] * 3


def test_other_sections_and_line_ends(tmp_path):
    text = CRYSTAL.replace("PRIMCOORD\n", "CONVVEC\n 1 0 0\n 0 1 0\n 0 0 1\nPRIMCOORD 1\n")
    text += "CONVCOORD\n 1 1\nH 0 0 0\nBEGIN_BLOCK_DATAGRID_3D\n junk\nEND_BLOCK_DATAGRID_3D\n"
    assert _read(tmp_path, text.replace("\n", "\r\n")).forces[2, 2] == 9.0


def test_without_forces(tmp_path):
    text = "\n".join(
        " ".join(line.split()[:4]) if line[:1] in "OH1" else line for line in MOLECULE.split("\n")
    )
    assert _read(tmp_path, text).forces is None
    _refused(tmp_path, text, "has no forces", require=("energy", "forces"))


def test_fortran_exponents(tmp_path):
    assert _read(tmp_path, MOLECULE.replace("-14.5", "-1.45D+01")).energy == -14.5


# --- damaged files ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", [MOLECULE, CRYSTAL], ids=["ATOMS", "PRIMCOORD"])
@pytest.mark.parametrize("value", ["nan", "inf", "****", "-****", "1.0.0", "1_0"])
def test_values_that_are_no_numbers(tmp_path, text, value):
    _refused(tmp_path, text.replace("-14.5", value), "structure 0", "energy")
    _refused(tmp_path, text.replace("1.20", value), "structure 0", "position", "atom 1")
    _refused(tmp_path, text.replace("9.00", value), "structure 0", "force", "atom 2")


@pytest.mark.parametrize("value", ["nan", "****"])
def test_a_cell_that_is_no_number(tmp_path, value):
    _refused(tmp_path, CRYSTAL.replace("0.5 6.0", f"0.5 {value}"), "structure 0")


@pytest.mark.parametrize("lines", range(1, 13))
def test_a_crystal_cut_between_lines_is_refused(tmp_path, lines):
    _refused(tmp_path, "\n".join(CRYSTAL.split("\n")[:lines]) + "\n")


@pytest.mark.parametrize("lines", range(1, 4))
def test_a_molecule_cut_before_its_atoms_is_refused(tmp_path, lines):
    _refused(tmp_path, "\n".join(MOLECULE.split("\n")[:lines]) + "\n")


@pytest.mark.parametrize("text", [MOLECULE, CRYSTAL], ids=["ATOMS", "PRIMCOORD"])
def test_a_file_cut_inside_its_last_line_is_refused(tmp_path, text):
    last = len(text.rstrip("\n").rpartition("\n")[2])
    for characters in range(1, last):
        _refused(tmp_path, text.rstrip("\n")[:-characters], "structure 0")
    assert _read(tmp_path, text.rstrip("\n")).forces[2, 2] == 9.0


@pytest.mark.parametrize("text", [MOLECULE, CRYSTAL], ids=["ATOMS", "PRIMCOORD"])
def test_missing_and_surplus_columns(tmp_path, text):
    _refused(tmp_path, text.replace(" 6.00", ""), "atom 1", "6 columns")
    _refused(tmp_path, text.replace("4.00 5.00 6.00", ""), "atom 1", "4 columns", "atom 0 7")
    _refused(tmp_path, text.replace("6.00", "6.00 7.00"), "atom 1", "8 columns")


def test_missing_and_surplus_lines(tmp_path):
    _refused(tmp_path, CRYSTAL.replace(" 3 1", " 4 1"), "cut", "PRIMCOORD needs 4 lines")
    _refused(tmp_path, CRYSTAL.replace(" 3 1", " 2 1"), "line 13", "no keyword")
    announced = MOLECULE.replace("\n\n", "\n# number of atoms = 3\n\n")
    assert len(_read(tmp_path, announced)) == 3
    _refused(tmp_path, announced.replace("= 3", "= 4"), "cut", "4 atoms are announced, 3 are there")
    _refused(tmp_path, MOLECULE.replace("\nH", "\n\nH"), "line 6", "no keyword")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("CRYSTAL", "CRISTAL", "did you mean 'CRYSTAL'?"),
        ("PRIMVEC\n 5.0 0.0 0.0\n 0.5 6.0 0.0\n 0.0 0.0 7.0\n", "", "no PRIMVEC"),
        ("PRIMCOORD\n 3 1", "ATOMS", "both PRIMVEC and ATOMS"),
        ("CRYSTAL", "ANIMSTEPS 2\nCRYSTAL", "animation"),
        (" 5.0 0.0 0.0", " 5.0 0.0", "2 components"),
        (" 0.5 6.0 0.0", " 5.0 0.0 0.0", "linearly dependent"),
        (" 3 1", " x 1", "number of atoms"),
        (" 3 1", "", "number of atoms"),
        (" 3 1", " 0 1", "no atoms follow"),
        ("PRIMVEC", "PRIMVEC\n 1 0 0\n 0 1 0\n 0 0 1\nPRIMVEC", "twice"),
        ("# cohesive", "# total energy = -3 eV\n# cohesive", "two different total energies"),
        ("-14.5 eV", "-14.5 Ha", "in 'Ha', expected eV"),
        ("O  0.10", "Qq 0.10", "atom 0 is 'Qq'"),
        ("# cohesive", "BEGIN_BLOCK_X\n#", "has no END_BLOCK_X"),
    ],
)
def test_damaged_sections(tmp_path, old, new, message):
    assert old in CRYSTAL
    _refused(tmp_path, CRYSTAL.replace(old, new, 1), "structure 0", message)


def test_two_lists_of_atoms(tmp_path):
    _refused(tmp_path, MOLECULE + "\n" + MOLECULE, "more than one list of atoms")


@pytest.mark.parametrize("content", ["", "\n\n"])
def test_an_empty_file(tmp_path, content):
    _refused(tmp_path, content, "is empty")


def test_a_missing_energy(tmp_path):
    _refused(tmp_path, MOLECULE.replace("total", "cohesive"), "has no energy", "cohesive energy")
    _refused(tmp_path, MOLECULE.partition("\n")[2], "has no energy", "add it to the file")
    assert _read(tmp_path, MOLECULE.partition("\n")[2], require=()).energy is None


# --- writing ---------------------------------------------------------------------------------------------


def _structure(pbc, **labels) -> Structure:
    rng = np.random.default_rng(0)
    cell = np.zeros((3, 3)) if not any(pbc) else rng.normal(size=(3, 3)) * 5
    return Structure(("Li", "O", "H"), rng.normal(size=(3, 3)) * 9, cell, pbc, **labels)


@pytest.mark.parametrize(
    "pbc", [(True, True, True), (True, True, False), (True, False, False), (False, False, False)]
)
@pytest.mark.parametrize("forces", [None, np.random.default_rng(1).normal(size=(3, 3))])
def test_round_trip(tmp_path, pbc, forces):
    structure = _structure(pbc, energy=-1.0 / 3.0, forces=forces)
    write(tmp_path / "a.xsf", structure)
    (back,) = read(tmp_path / "a.xsf")
    assert (back.symbols, back.energy) == (structure.symbols, structure.energy)
    for name in ("positions", "cell", "pbc"):
        np.testing.assert_array_equal(getattr(back, name), getattr(structure, name))
    assert (back.forces is None) == (forces is None)
    if forces is not None:
        np.testing.assert_array_equal(back.forces, forces)


def test_a_written_file_notices_missing_lines(tmp_path):
    write(tmp_path / "a.xsf", _structure((False,) * 3, energy=1.0))
    lines = (tmp_path / "a.xsf").read_text().splitlines(keepends=True)
    (tmp_path / "a.xsf").write_text("".join(lines[:-1]))
    with pytest.raises(FormatError, match="3 atoms are announced, 2 are there"):
        read(tmp_path / "a.xsf")


def test_directions_that_xsf_cannot_express(tmp_path):
    with pytest.raises(
        DataError, match=r"structure 0: XSF cannot say .* these are F T T; write extended XYZ"
    ):
        write(tmp_path / "a.xsf", _structure((False, True, True), energy=1.0))
    assert not (tmp_path / "a.xsf").exists()


def test_a_folder_of_files(tmp_path):
    data = Dataset(_structure((False,) * 3, energy=float(k)) for k in range(12))
    data = Dataset(s.replace(positions=s.positions * (1 + 0.01 * k)) for k, s in enumerate(data))
    write(tmp_path / "new" / "set", data)
    assert sorted(path.name for path in (tmp_path / "new" / "set").iterdir())[-1] == "structure_00011.xsf"
    assert read(tmp_path / "new" / "set").energies.tolist() == list(range(12))
    write(tmp_path / "new" / "set", data)
    with pytest.raises(DataError, match=r"holds 2 other XSF files \(structure_00010.xsf"):
        write(tmp_path / "new" / "set", data[:10])


def test_what_is_lost_is_a_warning(tmp_path):
    structure = _structure(
        (True,) * 3, energy=1.0, stress=np.ones(6), weight=2.0, energy_variance=0.1, group="g"
    )
    with pytest.warns(
        DataWarning, match="does not keep stress .* weight .* energy variance .* group"
    ) as caught:
        write(tmp_path / "a.xsf", structure)
    assert caught[0].filename == __file__
    with pytest.warns(DataWarning, match="the cell of structures that are not periodic"):
        write(
            tmp_path / "a.xsf",
            structure.replace(pbc=np.zeros(3), stress=None, weight=1, energy_variance=0, group=""),
        )


def test_options_of_write(tmp_path):
    structure = _structure((False,) * 3, energy=1.0)
    with pytest.raises(ConfigError, match=r"unknown suffix '.xzy'; did you mean '.xyz'\?"):
        write(tmp_path / "a.xzy", structure)
    with pytest.raises(DataError, match="holds one structure, 2 are given; give a folder"):
        write(tmp_path / "a.xsf", [structure, structure])
    with pytest.raises(DataError, match="no structure to write"):
        write(tmp_path / "a.xyz", Dataset())
    with pytest.raises(WriteError, match="create the folder first"):
        write(tmp_path / "missing" / "a.xyz", structure)
    (tmp_path / "file").write_text("")
    with pytest.raises(WriteError, match="the folder cannot be made"):
        write(tmp_path / "file" / "set", structure)
