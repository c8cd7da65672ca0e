"""Files that read well and are wrong: not converged, of mixed levels or units, bad ones among good ones."""

from __future__ import annotations

import bz2
import gzip
import json
import logging
import lzma
import os
import sys
import threading
from pathlib import Path

import ase
import ase.io
import numpy as np
import pytest
from ase.units import Bohr, GPa, Hartree

import gprann
from gprann.errors import ConfigError, DataError, FormatError
from gprann.io import DataWarning, FileFormat, read, register_format, write
from gprann.io.files import InputFile
from gprann.io.formats import find_files, format_of
from gprann.io.labels import Frame, ReadOptions, choose_labels, declared_units, make_frame
from vasp_files import outcar, vasprun

FRAME = "2\n{comment}\nH 0.0 0.0 0.0 0.1 0.2 {f}\nH 0.0 0.0 {z} -0.1 -0.2 {g}\n"
HEAD = "Properties=species:S:1:pos:R:3:forces:R:3 energy={energy}"


def frames(n: int, head: str = HEAD) -> str:
    return "".join(
        FRAME.format(comment=head.format(energy=-1.0 - k), f=-10.0, g=10.0, z=0.7 + 0.1 * k) for k in range(n)
    )


# ------------------------------------------------------------ 2: not converged
WRITERS = {"OUTCAR": outcar, "vasprun.xml": vasprun}


@pytest.mark.parametrize("name", WRITERS)
def test_a_step_that_uses_all_cycles_is_refused(tmp_path, name):
    file = tmp_path / name
    file.write_text(WRITERS[name]([-6.0, -6.5, -6.25], cycles=[3, 8, 4], limit=8))
    with pytest.raises(
        DataError, match=rf"{name}, structure 1: the electrons did not converge within 8 cycles"
    ):
        read(file)
    with pytest.warns(DataWarning, match=r"1 bad calculation\(s\) left out: .*structure 1: the electrons"):
        data = read(file, skip_bad=True)
    assert [item.origin.index for item in data] == [0, 2]
    file.write_text(WRITERS[name]([-6.0, -6.5, -6.25], cycles=[3, 7, 4], limit=8))
    assert len(read(file)) == 3


def test_an_outcar_that_says_unconverged_is_refused(tmp_path):
    file = tmp_path / "OUTCAR"
    text = outcar([-6.0, -6.5], cycles=[3, 3], limit=60)
    place = text.index("in kB", text.index("in kB") + 10)
    said = "aborting loop EDIFF was not reached (unconverged)\n"
    file.write_text(text[:place] + said + text[place:])
    with pytest.raises(DataError, match="structure 1: the electrons did not converge"):
        read(file)


@pytest.mark.parametrize(
    ("ase_name", "text"),
    [
        ("espresso-out", "convergence NOT achieved after 100 iterations: stopping"),
        ("aims-output", "  ** Self-consistency cycle not converged."),
        ("gaussian-out", " Convergence failure -- run terminated."),
        ("orca-output", "SCF NOT CONVERGED AFTER  125 CYCLES"),
        ("orca-output", "The wavefunction IS NOT FULLY CONVERGED!"),
        ("castep-castep", "*Warning* max. SCF cycles performed but system has not reached the groundstate."),
        ("gpaw-out", "Did not converge!"),
        ("nwchem-out", "Calculation failed to converge"),
        ("cp2k", " *** WARNING SCF run NOT converged ***"),
        ("siesta", "SCF_NOT_CONV: SCF did not converge  in maximum number of steps"),
        ("abacus", "!! convergence has NOT been achieved !!"),
        ("dftbplus", "SCC is NOT converged, maximal SCC iterations exceeded"),
    ],
)
def test_what_other_programs_say_is_understood(tmp_path, ase_name, text):
    from gprann.io.ase import check_convergence

    (tmp_path / "log").write_text(f"something\n{text}\nmore\n")
    if ase_name not in ("espresso-out", "aims-output"):  # which mark the beginning of each step
        assert (
            "the electrons did not converge" in check_convergence(InputFile(tmp_path / "log"), ase_name, 1)[0]
        )
    with pytest.raises(DataError, match="log: the electrons did not converge"):
        check_convergence(InputFile(tmp_path / "log"), ase_name, 2)
    (tmp_path / "log").write_text("something\nSCF converged after 12 cycles\n")
    assert check_convergence(InputFile(tmp_path / "log"), ase_name, 1) == {}


def test_the_step_of_a_long_file_is_named(tmp_path):
    from gprann.io.ase import check_convergence

    begin = "     Self-consistent Calculation\n"
    (tmp_path / "pw.out").write_text(begin + "ok\n" + begin + "     convergence NOT achieved\n" + begin)
    assert list(check_convergence(InputFile(tmp_path / "pw.out"), "espresso-out", 3)) == [1]


# -------------------------------------------------------------- 7: the cell
@pytest.mark.parametrize("key", ["lattice", "LATTICE", "Lattice"])
def test_the_cell_in_any_case(tmp_path, key):
    (tmp_path / "a.xyz").write_text(
        frames(1, f'{HEAD} {key}="5 0 0 0 5 0 0 0 5"').replace("Properties", "properties")
    )
    (structure,) = read(tmp_path / "a.xyz")
    assert structure.pbc.all()
    assert structure.cell[0, 0] == 5.0


@pytest.mark.parametrize(
    "entry", ['cell="5 0 0 0 5 0 0 0 5"', 'Box="5 5 5"', "unit_cell=[[5,0,0],[0,5,0],[0,0,5]]"]
)
def test_a_cell_under_another_name_is_no_molecule(tmp_path, entry):
    (tmp_path / "a.xyz").write_text(frames(1, f"{HEAD} {entry}"))
    with pytest.raises(FormatError, match=r"structure 0: '\w+' looks like a cell"):
        read(tmp_path / "a.xyz")


def test_two_cells_are_refused(tmp_path):
    (tmp_path / "a.xyz").write_text(
        frames(1, f'{HEAD} Lattice="5 0 0 0 5 0 0 0 5" lattice="6 0 0 0 6 0 0 0 6"')
    )
    with pytest.raises(FormatError, match="Lattice is given twice"):
        read(tmp_path / "a.xyz")


# ---------------------------------------------------------- 8: compressed files
@pytest.mark.parametrize(
    ("suffix", "compress"), [(".gz", gzip.compress), (".bz2", bz2.compress), (".xz", lzma.compress)]
)
@pytest.mark.parametrize("name", WRITERS)
def test_compressed_outputs(tmp_path, name, suffix, compress):
    content = WRITERS[name]([-6.0, -6.5]).encode()
    (tmp_path / (name + suffix)).write_bytes(compress(content))
    assert len(read(tmp_path / (name + suffix))) == 2
    assert len(read(tmp_path)) == 2
    (tmp_path / (name + suffix)).write_bytes(compress(content[: len(content) // 2]))
    with pytest.raises(FormatError, match="the file is cut or the run did not finish"):
        read(tmp_path / (name + suffix))
    (tmp_path / (name + suffix)).write_bytes(compress(content)[:-20])
    with pytest.raises(FormatError, match="is cut or damaged"):
        read(tmp_path / (name + suffix))
    (tmp_path / name).write_bytes(compress(content))  # under the name of a file that is not compressed
    assert len(read(tmp_path / name)) == 2


def test_a_compression_that_is_not_known_is_named(tmp_path):
    (tmp_path / "OUTCAR.zst").write_bytes(b"\x28\xb5\x2f\xfd" + bytes(100))
    with pytest.raises(FormatError, match="is compressed by zstd; decompress it"):
        read(tmp_path / "OUTCAR.zst")


def test_compressed_extended_xyz(tmp_path):
    (tmp_path / "a.xyz.bz2").write_bytes(bz2.compress(frames(2).encode()))
    assert read(tmp_path / "a.xyz.bz2").energies.tolist() == [-1.0, -2.0]


# ------------------------------------------------------------------- 9: hints
@pytest.mark.parametrize(
    "name",
    [
        "energy_per_atom", "formation_energy", "dispersion_energy", "fermi_energy", "binding_energy",
        "zero_point_energy", "cohesive_energy", "atomization_energy", "exchange_energy", "energy_above_hull",
        "energy_std", "energy_weight", "solvation_energy", "interaction_energy", "band_energy",
        "correction_energy", "energy_error", "smearing_energy", "energy_TS", "strain_energy", "energy_pa",
    ],
)  # fmt: skip
def test_other_energies_are_not_recommended(tmp_path, name):
    (tmp_path / "a.xyz").write_text(frames(1, HEAD.replace("energy=", f"{name}=")))
    with pytest.raises(DataError, match="has no energy; add it"):
        read(tmp_path / "a.xyz")


def test_the_hint_names_the_total_energy(tmp_path):
    (tmp_path / "a.xyz").write_text(frames(1, HEAD.replace("energy=", "total_energy=")))
    with pytest.raises(
        DataError, match="'total_energy' may be what is meant; if it is the total energy in eV, give"
    ):
        read(tmp_path / "a.xyz")


# --------------------------------------------------------- 12, 13: bytes and pipes
@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
def test_byte_order_marks(tmp_path, encoding):
    (tmp_path / "a.xyz").write_bytes(frames(2).encode(encoding))
    assert len(read(tmp_path / "a.xyz")) == 2
    text = "# total energy = -1.5 eV\n\nATOMS\nH 0 0 0\nH 0 0 0.7\n"
    (tmp_path / "a.xsf").write_bytes(text.encode(encoding))
    assert read(tmp_path / "a.xsf").energies.tolist() == [-1.5]
    (tmp_path / "joined.xyz").write_bytes(2 * frames(1).encode("utf-8-sig"))
    with pytest.warns(DataWarning, match="repeat the geometry"):
        assert len(read(tmp_path / "joined.xyz")) == 2


@pytest.mark.skipif(os.name != "posix", reason="named pipes")
@pytest.mark.parametrize("name", ["pipe", "pipe.xyz"])
def test_a_pipe_is_read(tmp_path, name):
    pipe = tmp_path / name
    os.mkfifo(pipe)
    writer = threading.Thread(target=lambda: pipe.write_text(frames(3)))
    writer.start()
    data = read(pipe)
    writer.join()
    assert data.energies.tolist() == [-1.0, -2.0, -3.0]


@pytest.mark.parametrize("name", ["a" * 247 + ".extxyz", "é" * 120 + ".extxyz"])
def test_long_names_can_be_written(tmp_path, name):
    write(tmp_path / name, gprann.examples.hydrogen(2))
    assert len(read(tmp_path / name)) == 2


def test_names_that_are_too_long_are_called_so(tmp_path):
    with pytest.raises(OSError, match=r"a\.\.\.: cannot be written: the name is too long"):
        write(tmp_path / ("a" * 300 + ".extxyz"), gprann.examples.hydrogen(2))
    with pytest.raises(OSError, match="is too long"):
        write(tmp_path.joinpath(*["a" * 200] * 25, "a.extxyz"), gprann.examples.hydrogen(2))


# -------------------------------------------------------------------- 14: weights
def test_weights_of_other_programs(tmp_path):
    (tmp_path / "a.xyz").write_text(frames(2, HEAD + " config_weight=2.5"))
    assert [item.weight for item in read(tmp_path / "a.xyz")] == [2.5, 2.5]
    (tmp_path / "a.xyz").write_text(frames(2, HEAD + " energy_weight=0 energy_sigma=0.001 force_weight=1"))
    with pytest.warns(DataWarning) as caught:
        read(tmp_path / "a.xyz")
    (warning,) = caught
    assert "structure 0 and 1 more: energy_sigma, energy_weight have no effect" in str(warning.message)


@pytest.mark.parametrize(
    "name", ["Config_weight", "Weight", "default_sigma", "dipole_weight", "sample_weight"]
)
def test_weights_without_effect_are_named(tmp_path, name):
    (tmp_path / "a.xyz").write_text(frames(2, f"{HEAD} {name}=0.5"))
    with pytest.warns(DataWarning, match=f"{name} has no effect"):
        read(tmp_path / "a.xyz")


@pytest.mark.parametrize("name", ["sigma", "molecular_weight", "energy_weighted_score"])
def test_other_quantities_are_no_weights(tmp_path, name):
    (tmp_path / "a.xyz").write_text(frames(2, f"{HEAD} {name}=0.5"))
    assert len(read(tmp_path / "a.xyz")) == 2


# --------------------------------------------------------------- 22: free energies
def test_the_free_energy_is_taken_and_said_once(tmp_path, caplog):
    (tmp_path / "a.xyz").write_text(frames(3, HEAD + " free_energy={energy}5"))
    with caplog.at_level(logging.INFO, "gprann"):
        data = read(tmp_path / "a.xyz")
    assert data.energies.tolist() == [-1.05, -2.05, -3.05]
    assert sum("the free energy is taken" in record.message for record in caplog.records) == 1
    assert all("energy" not in item.info for item in data)
    assert read(tmp_path / "a.xyz", energy="extrapolated").energies.tolist() == [-1.0, -2.0, -3.0]
    assert read(tmp_path / "a.xyz", keys={"energy": "energy"}).energies.tolist() == [-1.0, -2.0, -3.0]
    with pytest.raises(ConfigError, match="energy"):
        read(tmp_path / "a.xyz", energy="sigma")


def test_free_energies_of_some_structures_only_are_a_warning(tmp_path):
    (tmp_path / "a.xyz").write_text(
        frames(2, HEAD + " free_energy=-9") + frames(3).split("2\n", 3)[-1].join(["2\n", ""])
    )
    with pytest.warns(
        DataWarning, match="have a free energy beside the energy, the others have one energy alone"
    ):
        read(tmp_path / "a.xyz")


# ---------------------------------------------------------------------- 23: units
@pytest.mark.parametrize(
    ("key", "unit", "quantity", "factor"),
    [
        ("energy-unit", "hartree", "energy", Hartree),
        ("energy_unit", "meV", "energy", 1e-3),
        ("energy_units", "kcal/mol", "energy", 0.0433641),
        ("forces-unit", "Ha/Bohr", "forces", Hartree / Bohr),
        ("force_unit", "kJ/mol/Å", "forces", 0.0103643),
        ("stress-unit", "GPa", "stress", GPa),
        ("stress_unit", "kbar", "stress", 0.1 * GPa),
        ("stress-unit", "Hartree/Bohr^3", "stress", Hartree / Bohr**3),
        ("stress-unit", "eV/Å³", "stress", 1.0),
        ("length-unit", "bohr", "length", Bohr),
        ("virial-unit", "Ry", "virial", 0.5 * Hartree),
        ("unit_energy", "hartree", "energy", Hartree),
        ("energy.unit", "[eV]", "energy", 1.0),
    ],
)
def test_declared_units(key, unit, quantity, factor):
    units, keys, _ = declared_units({key: unit}, "a")
    assert getattr(units, quantity) == pytest.approx(factor, rel=1e-5)
    assert keys == {key}


def test_units_of_nothing_are_refused():
    with pytest.raises(DataError, match="units is 'hartree', which does not say of what; write energy-unit"):
        declared_units({"units": "hartree"}, "a")
    assert declared_units({"units": "metal", "unit": "eV"}, "a")[0].energy == 1.0


def test_units_of_a_file_are_converted_once(tmp_path):
    text = frames(1, HEAD + ' energy-unit=hartree force-unit="hartree/bohr" length-unit=bohr')
    (tmp_path / "a.xyz").write_text(text)
    with pytest.warns(
        DataWarning, match="units that the file declares are converted: energy from hartree to eV"
    ):
        (structure,) = read(tmp_path / "a.xyz")
    assert structure.energy == pytest.approx(-Hartree)
    assert structure.positions[1, 2] == pytest.approx(0.7 * Bohr)
    assert structure.forces[0, 0] == pytest.approx(0.1 * Hartree / Bohr)
    write(tmp_path / "b.xyz", structure)
    assert read(tmp_path / "b.xyz")[0].energy == structure.energy
    (tmp_path / "a.xyz").write_text(frames(1, HEAD + " energy-unit=furlong"))
    with pytest.raises(DataError, match="energy-unit is 'furlong', which is no unit known here"):
        read(tmp_path / "a.xyz")


def test_a_stress_beyond_any_material_is_warned_of(tmp_path):
    head = HEAD + ' Lattice="5 0 0 0 5 0 0 0 5" stress="48457 0 0 0 1 0 0 0 1"'
    (tmp_path / "a.xyz").write_text(frames(1, head))
    with pytest.warns(DataWarning, match=r"stresses up to 4\.85e\+04 eV/Å³, beyond any material"):
        read(tmp_path / "a.xyz")


N2P2 = """begin
comment molecule
atom 0.0 0.0 0.0 C 0.0 0.0 0.1 0.0 0.0
atom 0.0 0.0 {z} O 0.0 0.0 -0.1 0.0 0.0
energy -5.0
charge 0.0
end
"""


@pytest.mark.parametrize(
    ("length", "word", "energy"),
    [(1.13, "eV and Å", -5.0), (1.13 / Bohr, "Hartree and Bohr", -5.0 * Hartree)],
)
def test_assumed_units_of_n2p2_are_named(tmp_path, length, word, energy):
    (tmp_path / "input.data").write_text(N2P2.format(z=length))
    with pytest.warns(DataWarning, match=f"does not say its units: {word} are assumed"):
        (structure,) = read(tmp_path / "input.data")
    assert structure.energy == pytest.approx(energy, rel=1e-6)
    assert structure.positions[1, 2] == pytest.approx(1.13, rel=1e-6)
    assert structure.forces[0, 0] == pytest.approx(
        0.1 * (1.0 if word.startswith("eV") else Hartree / Bohr), rel=1e-6
    )


# --------------------------------------------------------------------- 24: levels
@pytest.mark.parametrize(
    ("present", "keys", "expected"),
    [
        (
            "energy forces REF_energy REF_forces",
            {"energy": "REF_energy"},
            {"energy": "REF_energy", "forces": "REF_forces"},
        ),
        (
            "energy forces REF_energy REF_forces",
            {"forces": "REF_forces"},
            {"energy": "REF_energy", "forces": "REF_forces"},
        ),
        ("energy forces stress", {}, {"energy": "energy", "forces": "forces", "stress": "stress"}),
        ("REF_energy forces", {"energy": "REF_energy"}, {"energy": "REF_energy", "forces": "forces"}),
        (
            "energy_dft forces_dft energy forces",
            {"energy": "energy_dft"},
            {"energy": "energy_dft", "forces": "forces_dft"},
        ),
        (
            "energy forces stress virial",
            {"virial": "virial"},
            {"energy": "energy", "forces": "forces", "virial": "virial"},
        ),
        ("energy stress virial", {"stress": "stress"}, {"energy": "energy", "stress": "stress"}),
        (
            "energy REF_energy REF_virial stress",
            {"energy": "REF_energy"},
            {"energy": "REF_energy", "virial": "REF_virial"},
        ),
    ],
)
def test_labels_of_one_level(present, keys, expected):
    values = {name: k for k, name in enumerate(present.split())}
    assert choose_labels(values, ReadOptions(keys=keys), "a").names == expected


def test_a_virial_of_the_level_goes_before_a_stress_of_another(tmp_path):
    head = HEAD.replace("energy=", "REF_energy=") + (
        ' Lattice="5 0 0 0 5 0 0 0 5" stress="1 0 0 0 1 0 0 0 1" REF_virial="-250 0 0 0 -250 0 0 0 -250"'
    )
    (tmp_path / "a.xyz").write_text(frames(1, head))
    (structure,) = read(tmp_path / "a.xyz", keys={"energy": "REF_energy"})
    assert structure.stress.tolist() == pytest.approx([2.0, 2.0, 2.0, 0.0, 0.0, 0.0])


def test_forces_of_an_unclear_level_are_refused(tmp_path):
    (tmp_path / "a.xyz").write_text(frames(1, HEAD + " REF_energy=-20"))
    with pytest.raises(
        DataError, match="energy is there as 'REF_energy' and under its standard name, forces only as"
    ):
        read(tmp_path / "a.xyz", keys={"energy": "REF_energy"})


def test_a_virial_that_the_user_names_overrides_a_stress(tmp_path):
    head = HEAD + ' Lattice="2 0 0 0 2 0 0 0 2" stress="1 0 0 0 1 0 0 0 1" my_virial="8 0 0 0 8 0 0 0 8"'
    (tmp_path / "a.xyz").write_text(frames(1, head))
    assert read(tmp_path / "a.xyz")[0].stress[0] == 1.0
    assert read(tmp_path / "a.xyz", keys={"virial": "my_virial"})[0].stress[0] == pytest.approx(-1.0)


# --------------------------------------------------------------------- 25: one bad
def test_bad_files_among_good_ones(tmp_path):
    (tmp_path / "a.xyz").write_text(frames(2))
    (tmp_path / "b.xyz").write_text(frames(3, HEAD + " k=1").replace("0.8", "0.85")[:-20])
    (tmp_path / "c.xyz").write_text(
        frames(3, HEAD + " k=2").replace("-2.0", "nan").replace("0.9", "0.95").replace("0.7", "0.72")
    )
    (tmp_path / "OUTCAR").write_text("cut")
    with pytest.raises(DataError):
        read(tmp_path)
    with pytest.warns(DataWarning) as caught:
        data = read(tmp_path, skip_bad=True)
    (message,) = [str(item.message) for item in caught if "left out" in str(item.message)]
    assert message.startswith("3 bad calculation(s) left out")
    for part in ("b.xyz, structure 2", "c.xyz, structure 1", "OUTCAR"):
        assert part in message
    assert [Path(item.origin.file).name for item in data] == [
        "a.xyz",
        "a.xyz",
        "b.xyz",
        "b.xyz",
        "c.xyz",
        "c.xyz",
    ]


@pytest.mark.parametrize("name", WRITERS)
def test_complete_steps_of_a_cut_run_are_kept(tmp_path, name):
    text = WRITERS[name]([-6.0, -6.5, -6.25])
    (tmp_path / name).write_text(text[: int(0.8 * len(text))])
    with pytest.warns(
        DataWarning, match=r"1 bad calculation\(s\) left out: .*the file is cut or the run did not finish"
    ):
        data = read(tmp_path / name, skip_bad=True, energy="extrapolated")
    assert data.energies.tolist() == [-6.0, -6.5]


def test_nothing_that_can_be_used(tmp_path):
    (tmp_path / "OUTCAR").write_text("cut")
    with pytest.raises(DataError, match=r"no calculation can be used: .*OUTCAR"):
        read(tmp_path, skip_bad=True)


# ------------------------------------------------------------- 26: other formats
SNIFFED = {
    "cp2k": " CP2K| version string:                    CP2K version 9.1\n",
    "siesta": "Siesta Version  : 4.1\n",
    "psi4": "         Psi4: An Open-Source Ab Initio Electronic Structure Package\n",
    "abacus": "                             WELCOME TO ABACUS v3.2\n",
}


@pytest.mark.parametrize("name", SNIFFED)
@pytest.mark.parametrize("suffix", [".log", ".out"])
def test_the_true_program_is_named_with_the_remedy(tmp_path, name, suffix, monkeypatch):
    (tmp_path / f"run{suffix}").write_text(SNIFFED[name])
    assert format_of(InputFile(tmp_path / f"run{suffix}")).name == name
    assert find_files(tmp_path)[0] == [tmp_path / f"run{suffix}"]
    monkeypatch.setitem(sys.modules, "dpdata", None)
    with pytest.raises(
        FormatError,
        match=r"is an output of \w+, which is read through dpdata: pip install 'gprann\[formats\]'",
    ):
        read(tmp_path / f"run{suffix}")


@pytest.mark.parametrize("name", SNIFFED)
# dpdata leaves files open where it fails.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning")
def test_a_damaged_output_names_the_program(tmp_path, name):
    pytest.importorskip("dpdata")
    (tmp_path / "run.log").write_text(SNIFFED[name])
    with pytest.raises(DataError, match=r"as an output of|finished no step"):
        read(tmp_path / "run.log")


@pytest.mark.parametrize("name", ["a.out", "a.log"])
def test_outputs_of_unknown_programs_are_not_called_cut(tmp_path, name):
    (tmp_path / name).write_text("  Welcome to Q-Chem\n Thank you very much for using Q-Chem.\n")
    with pytest.raises(FormatError, match="has no known format"):
        read(tmp_path / name)
    (tmp_path / name).write_text(" Entering Gaussian System, Link 0=g16\n")
    with pytest.raises(FormatError, match="'Normal termination of Gaussian' is not near its end"):
        read(tmp_path / name)


DFTB_IN = """Geometry = GenFormat {{
  3  {kind}
O H
 1 1 0.00 0.00 0.00
 2 2 0.96 0.00 0.00
 3 2 -0.24 0.93 0.00
{lattice}}}
"""
DETAILED = """Total energy:                       -4.0705 H         -110.7642 eV
Total Forces
    1      0.010000000000      0.000000000000      0.000000000000
    2     -0.005000000000      0.001000000000      0.000000000000
    3     -0.005000000000     -0.001000000000      0.000000000000

"""


@pytest.mark.parametrize(("kind", "lattice"), [("C", ""), ("S", " 0 0 0\n 8 0 0\n 0 9 0\n 1 0 7\n")])
def test_dftbplus(tmp_path, kind, lattice):
    pytest.importorskip("dpdata")
    (tmp_path / "dftb_in.hsd").write_text(DFTB_IN.format(kind=kind, lattice=lattice))
    (tmp_path / "detailed.out").write_text(DETAILED)
    with pytest.warns(DataWarning, match="1 stray file"):
        (structure,) = read(tmp_path)
    assert structure.symbols == ("O", "H", "H")
    assert structure.energy == pytest.approx(-4.0705 * Hartree, rel=1e-6)
    assert structure.forces[0, 0] == pytest.approx(0.01 * Hartree / Bohr, rel=1e-6)
    assert structure.pbc.all() == (kind == "S")
    if kind == "S":
        assert structure.cell.tolist() == [[8, 0, 0], [0, 9, 0], [1, 0, 7]]
    (tmp_path / "detailed.out").write_text(
        DETAILED + "SCC is NOT converged, maximal SCC iterations exceeded\n"
    )
    with pytest.raises(DataError, match="the electrons did not converge"):
        read(tmp_path / "detailed.out")


PSI4 = """    Psi4: An Open-Source Ab Initio Electronic Structure Package
    Geometry (in Angstrom), charge = 0, multiplicity = 1:

       Center              X                  Y                   Z               Mass
    ------------   -----------------  -----------------  -----------------  -----------------
         H            0.000000000000     0.000000000000    -0.370000000000     1.007825032230
         H            0.000000000000     0.000000000000     0.370000000000     1.007825032230

    Total Energy =                       -1.1300000000000000
  ## Total Gradient (Symmetry 0) ##
  Irrep: 1 Size: 2 x 3

                 1                   2                   3

    1     0.00000000000000     0.00000000000000     0.01000000000000
    2     0.00000000000000     0.00000000000000    -0.01000000000000

"""


def test_psi4(tmp_path):
    pytest.importorskip("dpdata")
    (tmp_path / "psi4.out").write_text(PSI4)
    (structure,) = read(tmp_path)
    assert structure.energy == pytest.approx(-1.13 * Hartree, rel=1e-6)
    assert structure.positions[1, 2] - structure.positions[0, 2] == pytest.approx(0.74)
    assert structure.forces[1, 2] == pytest.approx(0.01 * Hartree / Bohr, rel=1e-6)  # minus the gradient
    assert not structure.pbc.any()


def test_a_folder_of_deepmd(tmp_path):
    rng = np.random.default_rng(0)
    folder = tmp_path / "system"
    (folder / "set.000").mkdir(parents=True)
    (folder / "set.001").mkdir()
    (folder / "type.raw").write_text("1\n0\n0\n")
    (folder / "type_map.raw").write_text("H O\n")
    positions = np.array([[0.0, 0, 0], [0.96, 0, 0], [-0.24, 0.93, 0]])
    for part, energies in (("set.000", [-14.0, -14.2]), ("set.001", [-14.1])):
        n = len(energies)
        np.save(folder / part / "coord.npy", (positions + rng.normal(0, 0.02, (n, 3, 3))).reshape(n, 9))
        np.save(folder / part / "box.npy", np.tile(np.diag([10.0, 10, 8]).ravel(), (n, 1)))
        np.save(folder / part / "energy.npy", np.array(energies))
        np.save(folder / part / "force.npy", np.zeros((n, 9)))
        np.save(folder / part / "virial.npy", np.tile(np.diag([8.0, 4.0, 2.0]).ravel(), (n, 1)))
    for source in (folder, tmp_path / "**" / "*"):
        data = read(source)
        assert data.energies.tolist() == [-14.0, -14.2, -14.1]
        assert data[0].symbols == ("O", "H", "H")
        assert data[0].pbc.all()
        np.testing.assert_allclose(data[0].stress[:3], [-0.01, -0.005, -0.0025])
    (folder / "nopbc").touch()
    assert not read(folder)[0].pbc.any()
    (folder / "type_map.raw").unlink()
    with pytest.raises(DataError, match=r'species = \["X", ...\] \(2 of them\)'):
        read(folder)
    assert read(folder, species=["H", "O"])[0].symbols == ("O", "H", "H")
    np.save(folder / "set.000" / "force.npy", np.zeros((1, 9)))
    with pytest.raises(FormatError, match="force has 1 frames, coord 2"):
        read(folder, species=["H", "O"])


MTP = """BEGIN_CFG
 Size
    2
 Supercell
         4.0      0.0      0.0
         0.0      4.0      0.0
         0.0      0.0      4.0
 AtomData:  id type       cartes_x      cartes_y      cartes_z           fx          fy          fz
             1    0       0.0      0.0      0.0     0.1    0.2    0.3
             2    1       1.5      0.0      0.0    -0.1   -0.2   -0.3
 Energy
        -11.5
 PlusStress:  xx          yy          zz          yz          xz          xy
     6.4     3.2     0.0     0.64     0.0     0.0
 Feature   EFS_by       VASP
END_CFG

"""


def test_mtp(tmp_path):
    (tmp_path / "train.cfg").write_text(MTP + MTP.replace(" 1.5 ", " 1.6 "))
    with pytest.raises(DataError, match=r"species = "):
        read(tmp_path / "train.cfg")
    data = read(tmp_path / "train.cfg", species=["Si", "O"])
    assert (data[0].symbols, data[1].energy) == (("Si", "O"), -11.5)
    assert data[0].forces[1].tolist() == [-0.1, -0.2, -0.3]
    np.testing.assert_allclose(data[0].stress, [-0.1, -0.05, 0.0, -0.01, 0.0, 0.0])
    (tmp_path / "train.cfg").write_text(MTP + MTP.replace("END_CFG", ""))
    with pytest.raises(FormatError, match="structure 1: the file is cut: END_CFG is missing"):
        read(tmp_path / "train.cfg", species=["Si", "O"])


def test_fitsnap(tmp_path):
    entry = {
        "Positions": [[0, 0, 0], [1.5, 0, 0]], "Lattice": [[4, 0, 0], [0, 4, 0], [0, 0, 4]], "Energy": -7.5,
        "AtomTypes": ["Si", "O"], "NumAtoms": 2, "Forces": [[0.1, 0, 0], [-0.1, 0, 0]],
        "Stress": [[1000.0, 0, 0], [0, 0, 0], [0, 0, 0]],
    }  # fmt: skip
    document = {
        "Dataset": {"Data": [entry], "Label": "bulk", "StressStyle": "bar", "EnergyStyle": "electronvolt"}
    }
    (tmp_path / "a.json").write_text("# file a.json\n" + json.dumps(document))
    (structure,) = read(tmp_path)
    assert (structure.energy, structure.group, structure.symbols) == (-7.5, "bulk", ("Si", "O"))
    assert structure.stress[0] == pytest.approx(-0.1 * GPa)
    (tmp_path / "a.json").write_text(json.dumps(document)[:-20])
    with pytest.raises(FormatError, match="damaged as a JSON file of FitSNAP"):
        read(tmp_path / "a.json")


# --------------------------------------------------------------- formats of users
def test_a_format_of_ones_own(tmp_path):
    def read_pairs(file: InputFile, options: ReadOptions):
        for index, line in enumerate(file.lines().lines):
            length, energy = map(float, line.split())
            origin = gprann.data.structure.Origin(str(file), index)
            yield make_frame(
                gprann.Structure(("H", "H"), [[0, 0, 0], [0, 0, length]], energy=energy, origin=origin)
            )

    def write_pairs(target: Path, data) -> None:
        target.write_text("".join(f"{item.positions[1, 2]} {item.energy}\n" for item in data))

    register_format(FileFormat("pairs of H", ("*.pairs",), read_pairs, write_pairs))
    write(tmp_path / "a.pairs", gprann.examples.hydrogen(3))
    assert read(tmp_path).energies.tolist() == gprann.examples.hydrogen(3).energies.tolist()
    with pytest.raises(ConfigError, match="give a name, and patterns or a beginning"):
        register_format(FileFormat(""))


def test_frames_have_notes():
    structure = gprann.examples.hydrogen(2)[0]
    assert make_frame(structure, notes=("a",)) == Frame(structure, {}, ("a",))
    assert isinstance(ase.io.read, object)
