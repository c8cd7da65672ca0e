"""The C interface: the same numbers as Python, ghosts, virials of atoms, files that are refused, a program in C."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import struct
import subprocess
import sys
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

if os.name == "nt":
    pytest.skip("the C interface is not built for Windows", allow_module_level=True)

import c_library
import samples
from c_library import LIBRARY, CFailureError, CPotential
from gprann import (
    ChebyshevDescriptor,
    Coulomb,
    DensityDescriptor,
    Descriptor,
    Potential,
    SymmetryFunctionDescriptor,
    Zbl,
    add_guard,
    c_interface,
    compress_descriptor,
    register_descriptor,
)
from gprann.baselines import BaselineSum, CalculatorBaseline
from gprann.data.structure import Dataset, Structure
from gprann.errors import FormatError
from gprann.model_file import read_model_file, write_model_file

SPECIES = ["H", "O"]
DENSITY = DensityDescriptor(
    SPECIES, radial_order=4, radial_cutoff=3.6, n_max=2, l_max=2, angular_cutoff=3.2, four_body_l=2
)
SYMMETRY = SymmetryFunctionDescriptor(
    SPECIES, radial=3, radial_cutoff=3.6, angular_cutoff=3.2, cutoff_function="poly2", inner_cutoff=0.1
)
DOCS = Path(__file__).resolve().parents[2] / "docs"


def potential(descriptor: Any = samples.DESCRIPTOR, **options: Any) -> Potential:
    return samples.potential(descriptor=descriptor, **options)


def projected() -> Any:
    return compress_descriptor(DENSITY, samples.crystals(6), most=9)


def large_crystal() -> Structure:
    """648 atoms, more than one piece of work, in a triclinic cell."""
    cell = samples.CRYSTAL.to_ase().repeat((6, 6, 6))
    cell.rattle(0.1, seed=3)
    return Structure.from_ase(cell)


STRUCTURES = {
    "crystal": samples.crystals(1, seed=5)[0],
    "molecule": samples.waters(1, seed=5)[0],
    "slab": samples.crystals(1, seed=6)[0].replace(pbc=np.array([True, False, True])),
    "large": large_crystal(),
}


def saved(model: Potential, folder: Path) -> Path:
    model.save(folder / "potential.gprann")
    return folder / "potential.gprann"


def found_lists(structure: Structure, loaded: CPotential, skin: float = 0.5) -> c_library.Lists:
    return c_library.lists(structure, loaded.species, loaded.cutoff + skin)


def assert_same_as_python(model: Potential, structure: Structure, path: Path) -> None:
    loaded = CPotential(path)
    found = found_lists(structure, loaded)
    got = loaded.evaluate(found)
    expected = model.predict(Dataset([structure]))
    assert got["energy"][0] == pytest.approx(expected.energy[0], rel=1e-12)
    assert expected.atom_energies is not None
    np.testing.assert_allclose(got["atom_energies"], expected.atom_energies[0], rtol=0, atol=1e-12)
    np.testing.assert_allclose(
        c_library.collect(found, got["forces"]), expected.forces[0], rtol=0, atol=1e-12
    )
    np.testing.assert_allclose(got["virial"], got["virial"].T, atol=1e-11)
    if structure.pbc.all():
        assert expected.stress is not None
        xx, yy, zz, yz, xz, xy = -expected.stress[0] * abs(np.linalg.det(structure.cell))
        np.testing.assert_allclose(got["virial"], [[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]], atol=1e-11)
    if len(model) == 1:
        assert got["energy_std"][0] == 0
        return
    assert expected.energy_std is not None
    assert expected.member_energy is not None
    assert expected.atom_energies_std is not None
    assert got["energy_std"][0] == pytest.approx(expected.energy_std[0], rel=1e-8)
    np.testing.assert_allclose(got["member_energies"], expected.member_energy[:, 0], rtol=1e-12)
    np.testing.assert_allclose(got["atom_energies_std"], expected.atom_energies_std[0], atol=1e-12)
    assert expected.member_forces is not None
    for own, other in zip(got["member_forces"], expected.member_forces[0], strict=True):
        np.testing.assert_allclose(c_library.collect(found, own), other, rtol=0, atol=1e-12)
    if not structure.pbc.any():
        assert expected.forces_std is not None
        np.testing.assert_allclose(got["forces_std"], expected.forces_std[0], atol=1e-12)


class TestNumbers:
    @pytest.mark.parametrize("structure", STRUCTURES.values(), ids=STRUCTURES)
    def test_same_as_python(self, structure: Structure, tmp_path: Path) -> None:
        model = replace(potential(), std_factors=(1.3, 0.6))
        assert_same_as_python(model, structure, saved(model, tmp_path))

    @pytest.mark.parametrize(
        "descriptor", [DENSITY, projected(), SYMMETRY], ids=["density", "projected", "symmetry"]
    )
    @pytest.mark.parametrize("name", ["crystal", "large"])
    def test_descriptors(self, descriptor: Any, name: str, tmp_path: Path) -> None:
        model = potential(descriptor, members=2)
        assert_same_as_python(model, STRUCTURES[name], saved(model, tmp_path))

    @pytest.mark.parametrize("activation", ["tanh", "softplus", "silu", "linear", "twist"])
    def test_activations(self, activation: str, tmp_path: Path) -> None:
        model = potential(members=1, activation=activation)
        assert_same_as_python(model, STRUCTURES["crystal"], saved(model, tmp_path))

    def test_no_hidden_layer_and_no_angles(self, tmp_path: Path) -> None:
        descriptor = ChebyshevDescriptor(SPECIES, radial_order=3, radial_cutoff=3.0, angular_order=None)
        model = potential(descriptor, hidden=())
        assert_same_as_python(model, STRUCTURES["crystal"], saved(model, tmp_path))

    def test_zbl(self, tmp_path: Path) -> None:
        """Its cutoff is beyond that of the descriptor here; an analytic baseline computes it in Python."""
        model = potential()
        both = BaselineSum(terms=(Zbl(cutoff=3.4), model.baseline, Zbl(cutoff=2.0)))
        model = replace(model, baseline=both)
        path = saved(model, tmp_path)
        assert CPotential(path).cutoff > model.cutoff
        for name in ("crystal", "large"):
            assert_same_as_python(model, STRUCTURES[name], path)

    def test_version_one(self, tmp_path: Path) -> None:
        model = potential()
        document, arrays = read_model_file(saved(model, tmp_path))
        energies = np.array(list(model.reference_energies.values()))
        del document["baselines"]
        document["model"]["kind"] = "network"
        old = {name: value for name, value in document.items() if name != "arrays"} | {"version": 1}
        write_model_file(tmp_path / "old.gprann", old, {**arrays, "reference_energies": energies})
        assert_same_as_python(model, STRUCTURES["crystal"], tmp_path / "old.gprann")

    @pytest.mark.parametrize(
        "wanted", [("energy",), ("forces",), ("virial", "forces"), ("atom_virials",), ()]
    )
    def test_what_is_not_wanted_is_left_out(self, wanted: tuple[str, ...], tmp_path: Path) -> None:
        loaded = CPotential(saved(potential(), tmp_path))
        found = found_lists(STRUCTURES["crystal"], loaded)
        everything, some = loaded.evaluate(found), loaded.evaluate(found, wanted=wanted)
        for name, array in some.items():
            np.testing.assert_allclose(array, everything[name], atol=1e-13)

    def test_neighbours_beyond_the_cutoff_change_no_bit(self, tmp_path: Path) -> None:
        loaded = CPotential(saved(potential(), tmp_path))
        structure = STRUCTURES["molecule"]
        near, far = found_lists(structure, loaded, 0.0), found_lists(structure, loaded, 3.0)
        for name, array in loaded.evaluate(near).items():
            np.testing.assert_array_equal(array, loaded.evaluate(far)[name])


class TestCentresAndThreads:
    def test_any_number_of_threads_gives_the_same_bits(self, tmp_path: Path) -> None:
        model = potential()
        loaded = CPotential(saved(replace(model, baseline=BaselineSum(terms=(Zbl(),))), tmp_path))
        found = found_lists(STRUCTURES["large"], loaded)
        one = loaded.evaluate(found)
        for threads in (2, 3, 7, 1):
            for name, array in loaded.evaluate(found, threads=threads).items():
                np.testing.assert_array_equal(array, one[name])

    def test_centres_in_parts_add_up(self, tmp_path: Path) -> None:
        loaded = CPotential(saved(potential(), tmp_path))
        found = found_lists(STRUCTURES["large"], loaded)
        whole = loaded.evaluate(found)
        order = np.random.default_rng(0).permutation(found.n_atoms).astype(np.int32)
        parts = [loaded.evaluate(found, centres=part) for part in np.split(order, [100, 101, 500])]
        for name in ("energy", "forces", "virial", "atom_virials", "member_energies", "member_forces"):
            np.testing.assert_allclose(sum(part[name] for part in parts), whole[name], rtol=1e-12, atol=1e-11)
        energies = np.concatenate([part["atom_energies"] for part in parts])
        np.testing.assert_allclose(energies, whole["atom_energies"][order], atol=1e-12)

    def test_high_bits_of_the_lists_are_masked(self, tmp_path: Path) -> None:
        loaded = CPotential(saved(potential(), tmp_path))
        found = found_lists(STRUCTURES["crystal"], loaded)
        plain = loaded.evaluate(found)
        marked = replace(found, neighbours=[own | np.int32(1 << 30) for own in found.neighbours])
        masked = loaded.evaluate(marked, mask=(1 << 29) - 1)
        np.testing.assert_array_equal(masked["forces"], plain["forces"])
        with pytest.raises(CFailureError, match="is no atom"):
            loaded.evaluate(marked)

    @pytest.mark.parametrize("descriptor", [samples.DESCRIPTOR, DENSITY, SYMMETRY, projected()])
    def test_grades(self, descriptor: Any, tmp_path: Path) -> None:
        """Of any centres in any order, with a guard for features of which no multiple of the lanes is made."""
        model = add_guard(potential(descriptor), samples.crystals(6))
        structure = STRUCTURES["large"]
        loaded = CPotential(saved(model, tmp_path))
        found = found_lists(structure, loaded)
        (expected,) = model.predict(Dataset([structure])).grades or ()
        assert loaded.has_guard
        np.testing.assert_allclose(loaded.evaluate(found)["grades"], expected, rtol=1e-9)
        centres = np.random.default_rng(0).permutation(found.n_atoms)[:100].astype(np.int32)
        some = loaded.evaluate(found, threads=2, centres=centres, wanted=("grades",))["grades"]
        np.testing.assert_allclose(some, np.asarray(expected)[centres], rtol=1e-9)

    def test_no_guard(self, tmp_path: Path) -> None:
        loaded = CPotential(saved(potential(), tmp_path))
        assert not loaded.has_guard
        assert not loaded.evaluate(found_lists(STRUCTURES["molecule"], loaded))["grades"].any()

    def test_no_atoms_and_no_centres(self, tmp_path: Path) -> None:
        loaded = CPotential(saved(potential(), tmp_path))
        found = found_lists(STRUCTURES["crystal"], loaded)
        none = loaded.evaluate(found, centres=np.zeros(0, np.int32))
        assert none["energy"][0] == 0
        assert not none["forces"].any()
        empty = c_library.Lists(np.zeros((0, 3)), np.zeros(0, np.int32), np.zeros(0, np.int64), [])
        assert loaded.evaluate(empty)["energy"][0] == 0


class TestVirialsOfAtoms:
    @pytest.mark.parametrize("descriptor", [samples.DESCRIPTOR, DENSITY, projected()], ids=str)
    @pytest.mark.parametrize("name", ["crystal", "large"])
    def test_sum_is_the_virial(self, descriptor: Any, name: str, tmp_path: Path) -> None:
        model = replace(potential(descriptor, members=2), baseline=Zbl(cutoff=2.0))
        loaded = CPotential(saved(model, tmp_path))
        got = loaded.evaluate(found_lists(STRUCTURES[name], loaded))
        scale = np.abs(got["virial"]).max()
        np.testing.assert_allclose(got["atom_virials"].sum(axis=0), got["virial"], atol=1e-12 * scale)
        plain = loaded.evaluate(found_lists(STRUCTURES[name], loaded), wanted=("forces",))
        np.testing.assert_allclose(got["forces"], plain["forces"], atol=1e-13)

    def test_belongs_to_the_neighbour(self, tmp_path: Path) -> None:
        """W_j = -sum_i r_ij (x) dE_i/dR_j, by differences of the energies of the others when j moves."""
        loaded = CPotential(saved(potential(members=1), tmp_path))
        structure, j, step = STRUCTURES["molecule"], 1, 1e-5
        got = loaded.evaluate(found_lists(structure, loaded))["atom_virials"][j]
        expected = np.zeros((3, 3))
        for b in range(3):
            energies = []
            for sign in (1, -1):
                moved = structure.positions.copy()
                moved[j, b] += sign * step
                found = found_lists(structure.replace(positions=moved), loaded)
                energies.append(loaded.evaluate(found)["atom_energies"])
            slopes = (energies[0] - energies[1]) / (2 * step)
            for i in range(len(structure)):
                if i != j:
                    expected[:, b] -= (structure.positions[j] - structure.positions[i]) * slopes[i]
        np.testing.assert_allclose(got, expected, atol=1e-8)


@pytest.fixture
def _registries(restored_registries: Callable[[], Any]) -> Any:
    with restored_registries():
        yield


class TestRefusals:
    """Each message is one sentence with a remedy."""

    def refuse(self, path: Path | str, code: int, words: str, flags: int = 0) -> None:
        with pytest.raises(CFailureError, match=words) as caught:
            CPotential(path, flags)
        assert caught.value.code == code, caught.value
        assert str(caught.value).startswith(f"{path}: ")
        assert "\n" not in str(caught.value)

    def test_missing_file(self, tmp_path: Path) -> None:
        self.refuse(tmp_path / "none.gprann", c_library.FILE_ERROR, "No such file")
        self.refuse(tmp_path, c_library.FILE_ERROR, "cannot be read")

    def test_coulomb(self, tmp_path: Path) -> None:
        model = replace(potential(), baseline=Coulomb(charges={"H": 0.4, "O": -0.8}, scale=0.5))
        path = saved(model, tmp_path)
        recipe = r"H 0\.2, O -0\.4; .*hybrid/overlay gprann coulomb off coul/long"
        self.refuse(path, c_library.UNSUPPORTED, recipe)
        loaded = CPotential(path, c_library.WITHOUT_COULOMB)
        assert [loaded.charge(k) for k in range(3)] == [0.2, -0.4, 0.0]
        found = found_lists(STRUCTURES["molecule"], loaded)
        without = replace(model, baseline=BaselineSum()).predict(Dataset([STRUCTURES["molecule"]]))
        assert loaded.evaluate(found)["energy"][0] == pytest.approx(without.energy[0])

    @pytest.mark.parametrize(
        ("options", "words"),
        [
            ({"shape": "gaussian", "widths": {"H": 1.0, "O": 1.0}}, "smeared"),
            ({"field": (0.0, 0.0, 0.1)}, "external field"),
            ({"charges": "initial_charges"}, "structure files"),
        ],
    )
    def test_electrostatics_that_no_program_has(
        self, options: dict[str, Any], words: str, tmp_path: Path
    ) -> None:
        baseline = Coulomb(**{"charges": {"H": 0.4, "O": -0.8}, **options})
        path = saved(replace(potential(), baseline=baseline), tmp_path)
        self.refuse(path, c_library.UNSUPPORTED, f"{words}.*in Python", c_library.WITHOUT_COULOMB)

    @pytest.mark.usefixtures("_registries")
    def test_calculators_and_python_descriptors(self, tmp_path: Path) -> None:
        path = saved(replace(potential(), baseline=CalculatorBaseline(calculator="emt")), tmp_path)
        self.refuse(path, c_library.UNSUPPORTED, r"calculator of ASE \(emt\).*fix external")

        @register_descriptor
        class Mine(ChebyshevDescriptor):
            name = "mine"

        assert issubclass(Mine, Descriptor)
        own = potential(Mine(SPECIES, radial_order=3, angular_order=None))
        self.refuse(saved(own, tmp_path), c_library.UNSUPPORTED, "'mine' is written in Python.*chebyshev")

    def test_surrogates_and_reference_energies_that_are_missing(self, tmp_path: Path) -> None:
        document, arrays = read_model_file(saved(potential(), tmp_path))
        del document["arrays"]
        write_model_file(tmp_path / "a", {**document, "kind": "surrogate"}, arrays)
        self.refuse(tmp_path / "a", c_library.UNSUPPORTED, "a surrogate")
        kept = [{"kind": "reference_energies", "energies": {"H": 1.0}}]
        write_model_file(tmp_path / "b", {**document, "baselines": kept}, arrays)
        self.refuse(tmp_path / "b", c_library.FORMAT_ERROR, "number for O")

    def test_newer_format(self, tmp_path: Path) -> None:
        document, arrays = read_model_file(saved(potential(), tmp_path))
        del document["arrays"]
        write_model_file(tmp_path / "a", {**document, "version": 3}, arrays)
        self.refuse(tmp_path / "a", c_library.FORMAT_ERROR, "newer than this program reads.*update")

    @pytest.mark.parametrize(
        "change", [{"n_max": 20}, {"weights": [[1.0, 2.0]] * 900}, {"radial_order": 9**9}]
    )
    def test_descriptors_that_would_fill_the_memory(self, change: dict[str, Any], tmp_path: Path) -> None:
        document, arrays = read_model_file(saved(potential(DENSITY), tmp_path))
        del document["arrays"]
        write_model_file(tmp_path / "a", {**document, "descriptor": document["descriptor"] | change}, arrays)
        self.refuse(tmp_path / "a", c_library.FORMAT_ERROR, "descriptor does not fit|expected a number from")

    def test_unknown_options_are_no_defaults(self, tmp_path: Path) -> None:
        document, arrays = read_model_file(saved(potential(), tmp_path))
        del document["arrays"]
        write_model_file(
            tmp_path / "a", {**document, "descriptor": document["descriptor"] | {"new": 1}}, arrays
        )
        self.refuse(tmp_path / "a", c_library.UNSUPPORTED, "'new' of the descriptor is not known")

    def test_impossible_arguments(self, tmp_path: Path) -> None:
        loaded = CPotential(saved(potential(), tmp_path))
        found = found_lists(STRUCTURES["crystal"], loaded)
        on_top, infinite, unknown = (found.positions.copy(), found.positions.copy(), found.species.copy())
        on_top[1], infinite[2, 1], unknown[0] = on_top[0], np.nan, 2
        for changed, words in (
            (replace(found, positions=on_top), "on top of each other"),
            (replace(found, positions=infinite), "not finite"),
            (replace(found, species=unknown), "species of atom 0 is 2"),
            (replace(found, neighbours=[own + np.int32(10**6) for own in found.neighbours]), "is no atom"),
        ):
            with pytest.raises(CFailureError, match=words) as caught:
                loaded.evaluate(changed)
            assert caught.value.code == c_library.ARGUMENT_ERROR
        for centres in ([0, 0], [-1], [10**6]):
            with pytest.raises(CFailureError, match="occurs twice"):
                loaded.evaluate(found, centres=np.array(centres, np.int32))
        assert LIBRARY.gprann_evaluate(loaded._pointer, None, 1, None) == c_library.ARGUMENT_ERROR
        assert b"GPRANN_ATOMS" in LIBRARY.gprann_message()
        assert LIBRARY.gprann_species(loaded._pointer, 2) is None
        loaded.evaluate(found)  # the potential is as good as before


@pytest.fixture(scope="module")
def content(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Of a file that holds a projected descriptor."""
    model = potential(projected(), members=1, hidden=(2,))
    return saved(model, tmp_path_factory.mktemp("whole")).read_bytes()


class TestDamagedFiles:
    """Whatever Python refuses is refused, and nothing crashes."""

    def read(self, content: bytes, path: Path) -> None:
        path.write_bytes(content)
        code = 0
        try:
            CPotential(path)
        except CFailureError as error:
            code = error.code
        assert code in (c_library.OK, c_library.FORMAT_ERROR, c_library.UNSUPPORTED)
        if code == c_library.OK:
            Potential.load(path)  # or it would raise

    def test_cut_anywhere(self, content: bytes, tmp_path: Path) -> None:
        for length in range(0, len(content), max(1, len(content) // 300)):
            (tmp_path / "cut").write_bytes(content[:length])
            with pytest.raises(CFailureError) as caught:
                CPotential(tmp_path / "cut")
            assert caught.value.code == c_library.FORMAT_ERROR

    def test_wrong_bytes(self, content: bytes, tmp_path: Path) -> None:
        """More of them in the directory of the archive, which no checksum covers."""
        rng = np.random.default_rng(0)
        directory = content.index(b"PK\x01\x02")
        for k in range(700):
            damaged = bytearray(content)
            low = directory if k % 2 else 0
            for at in rng.integers(low, len(content), size=rng.integers(1, 4)):
                damaged[at] = rng.integers(256)
            self.read(bytes(damaged), tmp_path / "damaged")

    def test_wrong_text_with_right_sums(self, content: bytes, tmp_path: Path) -> None:
        """A hostile file has sums that fit."""
        rng = np.random.default_rng(1)
        (tmp_path / "whole").write_bytes(content)
        with zipfile.ZipFile(tmp_path / "whole") as archive:
            members = {name: archive.read(name) for name in archive.namelist()}
        start = members["model.json"].index(b'"kind"')
        stop = members["model.json"].index(b'"provenance"')
        pieces = [
            b"-1",
            b"1e999",
            b"null",
            b"{",
            b"[[[[",
            b'"\\u00"',
            b"9" * 40,
            b'"',
            b",",
            b"true",
            b"[]",
            b"0",
        ]
        for _ in range(700):
            text = members["model.json"]
            at = int(rng.integers(start, stop))
            text = text[:at] + pieces[rng.integers(len(pieces))] + text[at + int(rng.integers(0, 4)) :]
            with zipfile.ZipFile(tmp_path / "forged", "w") as archive:
                for name, blob in {**members, "model.json": text}.items():
                    archive.writestr(name, blob)
            self.read((tmp_path / "forged").read_bytes(), tmp_path / "forged")

    @pytest.mark.parametrize(
        "header",
        [
            "{'descr': '<f8', 'fortran_order': False, 'shape': (999999999999999, 999999999999999), }",
            "{'descr': '<f8', 'fortran_order': True, 'shape': (2, 3), }",
            "{'descr': '|O', 'fortran_order': False, 'shape': (2, 3), }",
            "{'descr': '<f8', 'fortran_order': False, 'shape': (2, -3), }",
            "{'descr': '<f8', 'shape': (2, 3), }",
            "{'descr': '<f8', 'fortran_order': False, 'shape': (2, 3",
            "",
        ],
    )
    def test_wrong_arrays(self, header: str, tmp_path: Path) -> None:
        blob = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode() + bytes(48)
        names = ("parameters", "feature_mean", "feature_inverse_scale")
        digest = hashlib.sha256(blob).hexdigest()
        document = {"format": "gprann model", "version": 2, "arrays": dict.fromkeys(names, digest)}
        path = tmp_path / "forged"
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("model.json", json.dumps(document))
            for name in names:
                archive.writestr(f"{name}.npy", blob)
        with pytest.raises(CFailureError, match="no array of float64") as caught:
            CPotential(path)
        assert caught.value.code == c_library.FORMAT_ERROR

    def test_deep_and_compressed(self, content: bytes, tmp_path: Path) -> None:
        with zipfile.ZipFile(tmp_path / "deep", "w") as archive:
            archive.writestr("model.json", b"[" * 1000000)
        with zipfile.ZipFile(tmp_path / "packed", "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("model.json", b"0" * 1000)
        for name, words in (("deep", "too deeply"), ("packed", "compressed")):
            with pytest.raises(CFailureError, match=words):
                CPotential(tmp_path / name)
            with pytest.raises(FormatError):
                Potential.load(tmp_path / name)


class TestLibrary:
    def test_version_and_build(self) -> None:
        from gprann import _core

        assert LIBRARY.gprann_interface_version() == 1
        assert LIBRARY.gprann_instruction_set().decode() in ("base", "v3", "v4")
        if "GPRANN_INSTRUCTION_SET" not in os.environ:
            assert LIBRARY.gprann_instruction_set().decode() == _core.INSTRUCTION_SET

    def test_a_build_that_is_not_there(self) -> None:
        code = (
            f"import ctypes; L = ctypes.CDLL({str(c_interface().library)!r}); L.gprann_message.restype = "
            "ctypes.c_char_p; p = ctypes.c_void_p(); print(L.gprann_interface_version(), L.gprann_load(b'x', 0, "
            "ctypes.byref(p)), L.gprann_message().decode())"
        )
        environment = {**os.environ, "GPRANN_INSTRUCTION_SET": "v9"}
        answer = subprocess.run(
            [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
        )
        assert re.match("0 1 libgprann: there is no build .*v9.*reinstall", answer.stdout)

    def test_threads_survive_a_fork(self, tmp_path: Path) -> None:
        """The child has none of the threads of its parent, which it would wait for without end."""
        loaded = CPotential(saved(potential(), tmp_path))
        found = found_lists(STRUCTURES["large"], loaded)
        expected = loaded.evaluate(found, threads=3)["energy"][0]
        child = os.fork()
        if child == 0:
            same = loaded.evaluate(found, threads=3)["energy"][0] == expected
            os._exit(0 if same else 1)
        assert os.waitpid(child, 0)[1] == 0


@pytest.mark.parametrize("compiler", ["cc", "c++"])
def test_program_of_the_page(compiler: str, tmp_path: Path) -> None:
    """The example compiles as C and as C++ without a warning, and its forces are those of Python."""
    if shutil.which(compiler) is None:
        pytest.skip(f"there is no {compiler}")
    page = (DOCS / "c_interface.md").read_text(encoding="utf-8")
    (program,) = re.findall(r"^```c\n(.*?)^```$", page, re.DOTALL | re.MULTILINE)
    source = tmp_path / ("example.c" if compiler == "cc" else "example.cpp")
    source.write_text(program, encoding="utf-8")
    interface = c_interface()
    folder = interface.library.parent
    strict = ["-std=c99", "-Wall", "-Wextra", "-pedantic", "-Werror"]
    if compiler == "c++":
        strict = ["-std=c++17", "-Wall", "-Wextra", "-Werror"]
    subprocess.run(
        [
            compiler,
            *strict,
            str(source),
            f"-I{interface.include}",
            f"-L{folder}",
            f"-Wl,-rpath,{folder}",
            "-lgprann",
            "-o",
            str(tmp_path / "example"),
        ],
        check=True,
    )
    model = potential()
    path = saved(model, tmp_path)
    answer = subprocess.run(
        [str(tmp_path / "example"), str(path)], capture_output=True, text=True, check=True
    )
    molecule = Structure(("O", "H", "H"), [[0.0, 0.0, 0.0], [0.76, 0.59, 0.0], [-0.76, 0.59, 0.0]])
    expected = model.predict(Dataset([molecule]))
    numbers = [float(word) for word in re.findall(r"-?\d+\.\d+", answer.stdout)]
    assert expected.energy_std is not None
    assert numbers[:2] == pytest.approx([expected.energy[0], expected.energy_std[0]], abs=1e-6)
    np.testing.assert_allclose(np.reshape(numbers[2:], (3, 3)), expected.forces[0], atol=1e-6)
    refused = subprocess.run([str(tmp_path / "example"), "none"], capture_output=True, text=True, check=False)
    assert refused.returncode == 1
    assert refused.stderr == "none: cannot be read: No such file or directory\n"
