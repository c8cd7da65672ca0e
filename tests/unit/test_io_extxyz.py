"""Extended XYZ: what is read, what is refused, what is kept."""

from __future__ import annotations

import gzip
import re
import warnings

import ase
import ase.io
import numpy as np
import pytest
from ase.calculators.singlepoint import SinglePointCalculator

import gprann.io
from gprann.data.structure import Dataset, Origin, Structure
from gprann.errors import DataError, FormatError
from gprann.io import DataWarning, read, write

HEAD = 'Lattice="5 0 0 0 6 0 0 0 7" Properties=species:S:1:pos:R:3:forces:R:3 energy=-10.5 pbc="T T F"'
ROWS = [
    "H 0.10 0.20 0.30 1.00 2.00 3.00",
    "O 1.10 1.20 1.30 4.00 5.00 6.00",
    "H 2.10 2.20 2.30 7.00 8.00 9.00",
]


def _text(head: str = HEAD, rows: list[str] = ROWS, count: object = None) -> str:
    return "\n".join([str(len(rows) if count is None else count), head, *rows, ""])


def _read(tmp_path, text: str, **options):
    file = tmp_path / "a.xyz"
    file.write_text(text)
    return read(file, **options)


def _refused(tmp_path, text: str, *parts: str, error: type[Exception] = FormatError, **options) -> None:
    """The text is refused, and the message names the file and all of `parts`."""
    with pytest.raises(error) as caught:
        _read(tmp_path, text, **options)
    for part in (str(tmp_path / "a.xyz"), *parts):
        assert part in str(caught.value)


def test_everything_is_read(tmp_path):
    (structure,) = _read(tmp_path, _text())
    assert structure.symbols == ("H", "O", "H")
    np.testing.assert_array_equal(structure.cell, np.diag([5.0, 6.0, 7.0]))
    assert structure.pbc.tolist() == [True, True, False]
    assert structure.energy == -10.5
    np.testing.assert_array_equal(structure.positions[1], [1.1, 1.2, 1.3])
    np.testing.assert_array_equal(structure.forces[2], [7.0, 8.0, 9.0])
    assert structure.origin == Origin(str(tmp_path / "a.xyz"), 0)
    assert (structure.stress, structure.weight, structure.group) == (None, 1.0, "")


@pytest.mark.parametrize(
    ("comment", "pbc"),
    [
        ("energy=-1", [False] * 3),
        ('energy=-1 Lattice="9 0 0 0 9 0 0 0 9"', [True] * 3),
        ('energy=-1 Lattice="9 0 0 0 9 0 0 0 9" pbc="F T F"', [False, True, False]),
        ("energy=-1 Lattice={9 0 0 0 9 0 0 0 9} pbc=[F, false, True]", [False, False, True]),
        ('energy=-1 Lattice="9 0 0 0 9 0 0 0 9" pbc=F', [False] * 3),
        ("  energy = -1  ", [False] * 3),
        ("config_type= energy=-1", [False] * 3),
        ('i = 5, it\'s "quoted text" energy=-1.0e0', [False] * 3),
    ],
)
def test_comment_lines(tmp_path, comment, pbc):
    (structure,) = _read(tmp_path, _text(comment, ["H 0 0 0", "h 0 0 0.74"]))
    assert structure.energy == -1.0
    assert structure.pbc.tolist() == pbc
    assert structure.symbols == ("H", "H")


def test_atomic_numbers_and_other_columns(tmp_path):
    head = "Properties=id:I:1:Z:I:1:pos:R:3:move:L:1:forces:R:3:tag:S:1 energy=1"
    (structure,) = _read(tmp_path, _text(head, ["0 1 0 0 0 T 1 2 3 a_b", "1 8 0 0 1 F 4 5 6 c"]))
    assert structure.symbols == ("H", "O")
    np.testing.assert_array_equal(structure.forces, [[1, 2, 3], [4, 5, 6]])


def test_crlf_blank_lines_and_compression(tmp_path):
    text = _text() + "\n   \n" + _text().replace("-10.5", "-11.5").replace("0.10", "0.15") + "\n\n"
    assert _read(tmp_path, text.replace("\n", "\r\n")).energies.tolist() == [-10.5, -11.5]
    (tmp_path / "b.xyz.gz").write_bytes(gzip.compress(text.encode()))
    assert read(tmp_path / "b.xyz.gz").energies.tolist() == [-10.5, -11.5]
    (tmp_path / "b.xyz.gz").write_bytes(gzip.compress(text.encode())[:-20])
    with pytest.raises(FormatError, match="is cut or damaged"):
        read(tmp_path / "b.xyz.gz")


# --- cut and damaged files -------------------------------------------------------------------------------


@pytest.mark.parametrize("lines", range(1, 10))
def test_a_file_cut_between_lines(tmp_path, lines):
    text = _text() + _text().replace("0.10", "0.15")
    cut = "\n".join(text.split("\n")[:lines]) + "\n"
    if lines == 5:
        assert len(_read(tmp_path, cut)) == 1
    else:
        _refused(tmp_path, cut, f"structure {int(lines > 5)}", "cut")


def test_a_file_cut_inside_a_line(tmp_path):
    text = _text()
    cut = text[: text.rindex(" 8.00")]
    _refused(tmp_path, cut, "structure 0", "atom 2", "5 columns", "declares 7")


def test_a_file_cut_inside_its_last_number(tmp_path):
    _refused(tmp_path, _text().rstrip("\n")[:-1], "'9.0'", "cut")
    assert _read(tmp_path, _text().rstrip("\n")).energies.tolist() == [
        -10.5
    ]  # complete, but for the line end


def test_a_last_number_that_may_be_cut_is_a_warning(tmp_path):
    rows = ["H 0 0 0.125", "H 0 0 0.7500"]
    with pytest.warns(DataWarning, match="seems to be cut"):
        _read(tmp_path, _text("energy=1", [*rows, "H 0 0 5.12"]).rstrip("\n"))
    _read(tmp_path, _text("energy=1", [*rows, "H 0 0 5.12"]))  # the line end says that it is complete


def test_a_missing_line_in_the_middle(tmp_path):
    text = _text(rows=ROWS[:2], count=3) + _text()
    _refused(tmp_path, text, "structure 0", "atom 2", "1 columns")


def test_a_surplus_line(tmp_path):
    _refused(tmp_path, _text(count=2) + _text(), "structure 1", "line 5", "number of atoms", "'H 2.10")


@pytest.mark.parametrize("count", ["-3", "3.0", "3 4", "three", "1_0", "٣"])
def test_a_wrong_number_of_atoms(tmp_path, count):
    _refused(tmp_path, _text(count=count), "structure 0", "number of atoms")


def test_no_atoms(tmp_path):
    _refused(tmp_path, "0\nenergy=1\n", "announces 0 atoms")


@pytest.mark.parametrize("content", ["", "\n", "  \n\n"])
def test_an_empty_file(tmp_path, content):
    _refused(tmp_path, content, "is empty", error=DataError)


def test_surplus_columns_are_not_dropped(tmp_path):
    _refused(tmp_path, _text("energy=1"), "atom 0", "7 columns", "declares 4")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("species:S:1", "species:S", "Properties"),
        ("pos:R:3", "pos:X:3", "Properties"),
        ("pos:R:3", "pos:R:0", "Properties"),
        ("pos:R:3", "xyz:R:3", "pos with 3"),
        ("species:S:1", "kind:S:1", "species with 1"),
        ("pos:R:3:forces:R:3", "pos:R:5:forces:R:1", "pos with 3"),
        ("forces:R:3", "forces:R:2:x:R:1", "forces have 2 columns"),
        ("5 0 0 0 6 0 0 0 7", "5 0 0 0 6 0 0 0", "Lattice has 8 values, expected 9"),
        ("T T F", "T T", "pbc"),
        ("T T F", "yes no no", "pbc"),
        ("energy=-10.5", "energy=-10.5 energy=-11", "energy is given twice"),
        ("energy=-10.5", "energy=-10.5 energy_variance=-1", "energy_variance"),
        ("energy=-10.5", "energy=-10.5 origin_index=x", "origin_index"),
        ("5 0 0 0 6 0 0 0 7", "5 0 0 5 0 0 0 0 7", "linearly dependent"),
    ],
)
def test_a_damaged_comment_line(tmp_path, old, new, message):
    assert old in HEAD
    _refused(tmp_path, _text(HEAD.replace(old, new)), "structure 0", message, error=DataError)


# --- values that are no numbers --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "value", ["nan", "NaN", "inf", "-Infinity", "********", "1.0.0", "0x1", "1_0", "--1"]
)
@pytest.mark.parametrize(("old", "what"), [("1.20", "position"), ("5.00", "force")])
def test_a_coordinate_or_force_that_is_no_number(tmp_path, value, old, what):
    rows = [row.replace(old, value) for row in ROWS]
    _refused(tmp_path, _text() + _text(rows=rows), "structure 1", "atom 1", what, error=DataError)


@pytest.mark.parametrize("value", ["nan", "inf", "****", '"-1 2"', "T", "", "1_0"])
def test_an_energy_that_is_no_number(tmp_path, value):
    text = _text() + _text(HEAD.replace("energy=-10.5", f"energy={value}"))
    _refused(tmp_path, text, "structure 1", "energy", error=DataError)


def test_fortran_exponents(tmp_path):
    (structure,) = _read(tmp_path, _text("energy=-1.5D+01", ["H 0.0D0 0 0", "H 0 0 7.4d-1"]))
    assert structure.energy == -15.0
    assert structure.positions[1, 2] == 0.74


@pytest.mark.parametrize("symbol", ["Xx", "X", "0", "119", "H1", "D", "99999999999999999999999"])
def test_an_unknown_element(tmp_path, symbol):
    rows = [ROWS[0], ROWS[1].replace("O", symbol), ROWS[2]]
    _refused(tmp_path, _text(rows=rows), "structure 0", "atom 1", f"'{symbol}'", "element", error=DataError)


# --- labels ----------------------------------------------------------------------------------------------


def test_stress_and_virial(tmp_path):
    full = "1.0 6.0 5.0 6.0 2.0 4.0 5.0 4.0 3.0"
    cell = HEAD.replace("T T F", "T T T")
    (structure,) = _read(tmp_path, _text(f'{cell} stress="{full}"'))
    np.testing.assert_array_equal(structure.stress, [1, 2, 3, 4, 5, 6])
    (structure,) = _read(tmp_path, _text(f'{cell} stress="1 2 3 4 5 6"'))
    np.testing.assert_array_equal(structure.stress, [1, 2, 3, 4, 5, 6])
    (structure,) = _read(tmp_path, _text(f'{cell} virial="{full}"'))
    np.testing.assert_allclose(structure.stress, np.array([1, 2, 3, 4, 5, 6]) / -210.0, rtol=1e-14)
    (structure,) = _read(tmp_path, _text(f"{cell} v=[[1,6,5],[6,2,4],[5,4,3]]"), keys={"virial": "v"})
    np.testing.assert_allclose(structure.stress, np.array([1, 2, 3, 4, 5, 6]) / -210.0, rtol=1e-14)
    both = f'{cell} stress="1 2 3 4 5 6" virial="-210 -1260 -1050 -1260 -420 -840 -1050 -840 -630"'
    (structure,) = _read(tmp_path, _text(both))
    np.testing.assert_array_equal(structure.stress, [1, 2, 3, 4, 5, 6])
    _refused(tmp_path, _text(both.replace("-", "")), "contradict", error=DataError)
    _refused(tmp_path, _text(f'{cell} stress="1 2 3"'), "3 values, expected 9")
    _refused(tmp_path, _text(f'{cell} stress="1 2 3 4 5 *"'), "'*'")


def test_the_sign_of_stress_is_that_of_ase(tmp_path):
    atoms = ase.Atoms("H2", [[0.1, 0, 0], [0, 0.2, 0.9]], cell=np.diag([3.0, 4.0, 5.0]), pbc=True)
    stress = np.array([1.0, 2.0, 3.0, 4.0, 5.0, 6.0])
    atoms.calc = SinglePointCalculator(atoms, energy=-1.0, forces=np.ones((2, 3)), stress=stress)
    ase.io.write(tmp_path / "a.xyz", atoms, format="extxyz")
    np.testing.assert_array_equal(read(tmp_path / "a.xyz")[0].stress, stress)


@pytest.mark.parametrize("name", ["REF_energy", "dft_energy", "Energy", "E", "DFT_ENERGY", "total_energy"])
def test_an_energy_under_another_name_is_named(tmp_path, name):
    text = _text(HEAD.replace("energy=", f"{name}="))
    _refused(
        tmp_path,
        text,
        "structure 0: has no energy",
        f"'{name}'",
        f"keys={{'energy': '{name}'}}",
        error=DataError,
    )
    assert _read(tmp_path, text, keys={"energy": name}).energies.tolist() == [-10.5]
    with pytest.warns(DataWarning, match=f"has no energy, but '{name}'"):
        assert _read(tmp_path, text, require=())[0].energy is None


@pytest.mark.parametrize("name", ["REF_forces", "force", "dft_force", "Forces"])
def test_forces_under_another_name_are_named(tmp_path, name):
    text = _text(HEAD.replace("forces", name))
    with pytest.warns(DataWarning, match=re.escape(f"has no forces, but '{name}'")):
        assert _read(tmp_path, text)[0].forces is None
    _refused(tmp_path, text, "has no forces", f"'{name}'", error=DataError, require=("energy", "forces"))
    assert _read(tmp_path, text, keys={"forces": name})[0].forces[1, 1] == 5.0


def test_a_stress_under_another_name_is_named(tmp_path):
    text = _text(HEAD.replace("T T F", "T T T") + ' REF_virial="1 0 0 0 1 0 0 0 1"')
    with pytest.warns(DataWarning, match=re.escape("keys={'virial': 'REF_virial'}")):
        assert _read(tmp_path, text)[0].stress is None
    assert _read(tmp_path, text, keys={"virial": "REF_virial"})[0].stress[0] == pytest.approx(
        -1 / 210, rel=1e-14
    )


def test_levels_of_theory_are_not_mixed(tmp_path):
    text = _text(HEAD + " REF_energy=-20") + _text(HEAD.replace("-10.5", "-11.5")).replace("0.10", "0.15")
    assert _read(tmp_path, text).energies.tolist() == [-10.5, -11.5]
    keys = {"energy": "REF_energy"}
    _refused(tmp_path, text, "it is not clear to which of them it belongs", error=DataError, keys=keys)
    keys["forces"] = "forces"
    _refused(tmp_path, text, "structure 1: has no energy", error=DataError, keys=keys)


def test_the_free_energy_is_what_forces_are_derivatives_of(tmp_path):
    text = _text(HEAD.replace("energy", "free_energy"))
    assert _read(tmp_path, text).energies.tolist() == [-10.5]
    both = _text(HEAD + " free_energy=-10.6")
    assert _read(tmp_path, both).energies.tolist() == [-10.6]
    assert _read(tmp_path, both, energy="extrapolated").energies.tolist() == [-10.5]


def test_config_type_is_the_group(tmp_path):
    assert _read(tmp_path, _text(HEAD + ' config_type="bulk a"'))[0].group == "bulk a"
    assert _read(tmp_path, _text(HEAD + " config_type=bulk group=12"))[0].group == "12"
    assert _read(tmp_path, _text(HEAD + " config_type=bulk"), group="mine")[0].group == "mine"


# --- writing ---------------------------------------------------------------------------------------------


def test_everything_is_kept(tmp_path):
    rng = np.random.default_rng(0)
    bulk = Structure(
        ("Li", "O", "H"),
        rng.normal(size=(3, 3)) * 1e3,
        rng.normal(size=(3, 3)) * 7,
        np.array([True, False, True]),
        energy=-1.0 / 3.0,
        forces=rng.normal(size=(3, 3)) * 1e-9,
        stress=rng.normal(size=6),
        weight=0.1 + 0.2,
        energy_variance=1e-17 / 3,
        group='a "b" = {c} \\n\nÅ\r\t\\',
        origin=Origin("some folder/näme=1.xyz", 17, "gpr"),
    )
    molecule = Structure(("H",), np.zeros((1, 3)))
    data = Dataset([bulk, bulk.replace(group="T", origin=Origin("", 3)), molecule])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DataWarning)
        write(tmp_path / "a.extxyz", data)
        back = read(tmp_path / "a.extxyz", require=())
    for old, new in zip(data, back, strict=True):
        for name in ("positions", "cell", "pbc", "forces", "stress"):
            np.testing.assert_array_equal(getattr(old, name), getattr(new, name), err_msg=name)
        for name in ("symbols", "energy", "weight", "energy_variance", "group"):
            assert getattr(old, name) == getattr(new, name), name
    assert [structure.origin for structure in back[:2]] == [structure.origin for structure in data[:2]]
    assert back[2].origin == Origin(str(tmp_path / "a.extxyz"), 2)


def test_ase_reads_the_same(tmp_path):
    rng = np.random.default_rng(1)
    structure = Structure(
        ("Li", "O"),
        rng.normal(size=(2, 3)),
        np.diag([3.0, 4, 5]) + 0.1,
        [True, True, True],
        energy=-0.1,
        forces=rng.normal(size=(2, 3)),
        stress=rng.normal(size=6),
        weight=2.5,
        group='a "b" c',
        origin=Origin("x y", 3),
    )
    write(tmp_path / "a.xyz", structure)
    atoms = ase.io.read(tmp_path / "a.xyz")
    np.testing.assert_array_equal(atoms.positions, structure.positions)
    np.testing.assert_array_equal(atoms.cell[:], structure.cell)
    np.testing.assert_array_equal(atoms.get_forces(), structure.forces)
    np.testing.assert_array_equal(atoms.get_stress(), structure.stress)
    assert atoms.get_potential_energy() == structure.energy
    assert (atoms.info["weight"], atoms.info["group"], atoms.info["origin_file"]) == (2.5, 'a "b" c', "x y")


def test_files_of_ase_are_read_as_ase_reads_them(tmp_path):
    rng = np.random.default_rng(2)
    images = []
    for pbc in ([True] * 3, [True, False, True], [False] * 3):
        atoms = ase.Atoms("LiOH2", rng.normal(size=(4, 3)) * 2, cell=rng.normal(size=(3, 3)) * 8, pbc=pbc)
        atoms.set_initial_charges([0.1, 0.2, 0.3, 0.4])
        atoms.set_tags([1, 2, 3, 4])
        atoms.info |= {"name": 'with "quotes" and = {signs}', "numbers": np.arange(4), "flag": True}
        atoms.calc = SinglePointCalculator(atoms, energy=rng.normal(), forces=rng.normal(size=(4, 3)))
        images.append(atoms)
    ase.io.write(tmp_path / "a.extxyz", images)
    for atoms, structure in zip(
        ase.io.read(tmp_path / "a.extxyz", ":"), read(tmp_path / "a.extxyz"), strict=True
    ):
        assert structure.symbols == tuple(atoms.get_chemical_symbols())
        np.testing.assert_array_equal(structure.positions, atoms.positions)
        np.testing.assert_array_equal(structure.cell, atoms.cell[:])
        np.testing.assert_array_equal(structure.pbc, atoms.pbc)
        np.testing.assert_array_equal(structure.forces, atoms.get_forces())
        assert structure.energy == atoms.get_potential_energy()


def test_a_failing_write_leaves_the_old_file(tmp_path, monkeypatch):
    file = tmp_path / "a.xyz"
    file.write_text("old")
    h2 = Structure(("H", "H"), [[0, 0, 0], [0, 0, 0.74]])

    def failing(structures):
        yield "partial"
        raise KeyboardInterrupt

    monkeypatch.setattr(gprann.io.formats, "format_extxyz", failing)
    with pytest.raises(KeyboardInterrupt):
        write(file, h2)
    assert file.read_text() == "old"
