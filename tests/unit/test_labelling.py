"""Labelling: any calculator by name, failures recorded, nothing computed twice, nothing lost by kill -9."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ase
import numpy as np
import pytest
from ase.build import bulk
from ase.calculators.emt import EMT

import gprann
import samples
from gprann import Dataset, Structure, label, read
from gprann.data.structure import Origin
from gprann.describe import describe
from gprann.errors import ConfigError, DataError
from gprann.io import DataWarning
from gprann.labelling import Record, merge
from gprann.labelling.calculators import CalculatorSpec

CALCULATORS = '''
import os, pathlib, sys, time
from ase.calculators.emt import EMT

class Difficult(EMT):
    """EMT that notes every call, and fails where the z of atom 0 says so."""

    def __init__(self, log="", seconds=0.0, **options):
        super().__init__(**options)
        self.log, self.seconds = log, seconds

    def calculate(self, atoms=None, properties=("energy",), system_changes=("positions",)):
        if system_changes:
            print("a program that talks to standard output")
            with open(self.log, "a") as stream:
                stream.write(f"{atoms.positions[0].tolist()!r}\\n")
            time.sleep(self.seconds)
            z = atoms.positions[0, 2]
            if z == 1.0:
                raise RuntimeError("SCF did not converge")
            if z == 2.0:
                print("segmentation fault, as it were", file=sys.stderr, flush=True)
                os.kill(os.getpid(), 9)
            if z == 6.0:
                os._exit(3)
            if z == 3.0:
                time.sleep(60)
            marker = pathlib.Path(self.log + ".marker")
            if z == 4.0 and not marker.exists():
                marker.touch()
                raise RuntimeError("only the first time")
        super().calculate(atoms, list(properties), list(system_changes))
        if system_changes and z == 5.0:
            self.results["forces"][1, 2] = float("nan")

def broken(**options):
    raise ValueError("no licence")

number = 3
'''


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Calculators that can be imported, and the file in which they note their calls."""
    modules = tmp_path / "modules"
    modules.mkdir()
    (modules / "difficult_calculators.py").write_text(CALCULATORS)
    monkeypatch.syspath_prepend(modules)
    return tmp_path / "calls.log"


def calls(log: Path) -> list[str]:
    return log.read_text().splitlines() if log.exists() else []


def structures(*heights: float) -> Dataset:
    return Dataset(
        Structure(("Cu", "Cu"), [[0.1 * k, 0.0, z], [0.1 * k, 0.2, z + 2.2 + 0.03 * k]], group=f"number {k}")
        for k, z in enumerate(heights)
    )


def difficult(log: Path, data: Dataset, **options: Any) -> Any:
    extra = {"log": str(log), **options.pop("options", {})}
    return label(
        data, "difficult_calculators:Difficult", log.with_name("labels.extxyz"), options=extra, **options
    )


def emt(structure: Structure) -> ase.Atoms:
    atoms = structure.to_ase()
    atoms.calc = EMT()
    return atoms


@pytest.mark.parametrize("workers", [1, 2])
def test_labels_are_those_of_the_calculator(workers: int, tmp_path: Path) -> None:
    data = Dataset([*structures(0.0, 0.5, 0.7), Structure.from_ase(bulk("Cu"))])
    result = label(data, "emt", tmp_path / "labels.extxyz", workers=workers)
    assert (result.computed, result.failures) == (4, [])
    written = read(tmp_path / "labels.extxyz", require=("energy", "forces"))
    for before, after, kept in zip(data, result.labelled, written, strict=True):
        atoms = emt(before)
        assert after.energy == kept.energy == atoms.get_potential_energy()
        np.testing.assert_array_equal(after.forces, atoms.get_forces())
        np.testing.assert_array_equal(after.positions, before.positions)
        assert after.group == before.group
    assert written[0].stress is None
    np.testing.assert_allclose(written[3].stress, emt(data[3]).get_stress())


def test_the_file_is_the_same_for_any_number_of_workers(log: Path) -> None:
    contents = []
    for workers in (1, 3):
        file = log.with_name(f"labels{workers}.extxyz")
        label(structures(*np.linspace(0, 0.9, 7)), "emt", file, workers=workers)
        contents.append(file.read_bytes())
    assert contents[0] == contents[1]


def test_failures_are_recorded_and_the_others_go_on(log: Path) -> None:
    """An exception, a crash and a force that is not finite: each tried twice, with its reason."""
    data = structures(0.0, 1.0, 2.0, 5.0, 0.5, 4.0)
    result = difficult(log, data, workers=2)
    assert [item.group for item in result.labelled] == ["number 0", "number 4", "number 5"]
    assert [(item.index, item.attempts) for item in result.failures] == [(1, 2), (2, 2), (3, 2)]
    reasons = [item.reason for item in result.failures]
    assert reasons[0] == "RuntimeError: SCF did not converge"
    ending, said = reasons[1].split(": ", 1)
    assert ending == "its process was ended by signal 9 (SIGKILL)"
    assert said == "a program that talks to standard output\nsegmentation fault, as it were"
    assert reasons[2].startswith("DataError: structure 3: forces of atom 1 is nan")
    assert len(calls(log)) == 2 + 3 * 2 + 2  # number 5 succeeds at the second attempt
    noted = json.loads(log.with_name("labels.extxyz.failed.json").read_text())
    assert [item["reason"] for item in noted] == reasons
    assert len(read(log.with_name("labels.extxyz"))) == 3


def test_a_silent_end_has_its_own_reason(log: Path) -> None:
    """No message of an earlier structure or of Python's start passes for what the process said."""
    failure = difficult(log, structures(0.0, 6.0), retries=0).failures[0]
    said = "a program that talks to standard output"
    assert failure.reason == f"its process ended with exit status 3: {said}"
    assert failure.origin == "structure 1"


def test_a_worker_that_says_nothing(log: Path) -> None:
    (log.with_name("modules") / "silent.py").write_text(
        "import os\nfrom ase.calculators.emt import EMT\n"
        "class Silent(EMT):\n"
        "    def calculate(self, *args, **options):\n"
        "        os._exit(7)\n"
    )
    failure = label(structures(0.0), "silent:Silent", log.with_name("l.xyz"), retries=0).failures[0]
    assert failure.reason == "its process ended with exit status 7: it said nothing"


def test_a_worker_that_dies_over_its_calculator(log: Path) -> None:
    (log.with_name("modules") / "dying.py").write_text("import os\ndef make():\n    os._exit(5)\n")
    with pytest.raises(ConfigError, match=r"'dying:make' cannot be made: .* exit status 5: it said nothing"):
        label(structures(0.0), "dying:make", log.with_name("l.xyz"))


def test_labels_are_of_the_reference(tmp_path: Path) -> None:
    """Copies that a surrogate was too uncertain of get labels like any other, with no trace of the surrogate."""
    copies = Dataset(
        item.replace(energy_variance=0.008, origin=Origin("train.extxyz", 6, "gpr"), weight=2.0)
        for item in structures(0.0, 0.5, 0.7)
    )
    output = tmp_path / "labels.extxyz"
    first = label(copies[1:], "emt", output).labelled
    assert [item.origin for item in first] == [Origin(str(output), 0), Origin(str(output), 1)]
    result = label(copies[:1] + copies[2:], "emt", output)
    assert result.computed == 1  # the other one is found again by its geometry
    assert [item.origin for item in result.labelled] == [Origin(str(output), 1), Origin(str(output), 2)]
    for data in (result.labelled, read(output, require=("energy", "forces"))):
        assert [item.energy_variance for item in data] == [0.0] * len(data)
        assert {item.origin.method for item in data} == {"reference"}
        assert {item.origin.file for item in data} == {str(output)}
        assert {item.weight for item in data} == {2.0}
    merged = merge(gprann.examples.hydrogen(3), result.labelled)
    gprann.write(tmp_path / "merged.extxyz", merged)
    assert "copies" not in describe(tmp_path / "merged.extxyz").lower()
    assert label(merged[3:], "emt", output).computed == 0


def test_a_structure_may_not_take_for_ever(log: Path) -> None:
    started = time.perf_counter()
    result = difficult(log, structures(3.0, 0.0), timeout=3.0, retries=0)
    assert time.perf_counter() - started < 30
    assert len(result.labelled) == 1
    assert result.failures[0].reason == "took longer than the 3 s allowed"


def test_finished_structures_are_not_computed_again(log: Path) -> None:
    data = structures(0.0, 1.0, 0.5)
    assert difficult(log, data, retries=0).computed == 2
    more = difficult(log, data + structures(0.0, 0.0, 0.0, 0.25)[3:], retries=0)
    assert (more.computed, len(more.labelled), len(more.failures)) == (1, 3, 1)
    assert len(calls(log)) == 3 + 2  # what failed is tried again
    fewer = difficult(log, data[2:], retries=0)
    assert (fewer.computed, len(fewer.labelled)) == (0, 1)
    assert len(read(log.with_name("labels.extxyz"))) == 3  # and the others stay in the file
    assert not log.with_name("labels.extxyz.failed.json").exists()


def test_a_geometry_given_twice_is_computed_once(log: Path) -> None:
    data = structures(0.0, 0.5)
    result = difficult(log, data + data)
    assert (result.computed, len(result.labelled), len(calls(log))) == (2, 4, 2)


SCRIPT = """
import sys
sys.path.insert(0, {modules!r})
import gprann
data = gprann.read({data!r}, require=())
gprann.label(data, "difficult_calculators:Difficult", {output!r}, options={options!r}, workers={workers})
"""


def wait_for(condition: Callable[[], bool]) -> None:
    limit = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < limit
        time.sleep(0.02)


@pytest.mark.parametrize("name", ["os:system", "subprocess:run", "builtins:eval", "os.path:exists"])
def test_parts_of_python_are_no_calculators(name: str) -> None:
    """A configuration of somebody else must not run what it likes."""
    with pytest.raises(ConfigError, match="is a part of Python itself, which makes no calculator"):
        CalculatorSpec(name, {"command": "true"}).build()


@pytest.mark.skipif(os.name != "posix", reason="SIGKILL")
def test_kill_9_loses_nothing_that_was_finished(log: Path) -> None:
    data = structures(*np.linspace(0, 0.9, 8))
    gprann.write(log.with_name("data.extxyz"), data)
    output, workers = log.with_name("labels.extxyz"), 2
    options = {"log": str(log), "seconds": 0.3}
    script = SCRIPT.format(
        modules=str(log.with_name("modules")),
        data=str(log.with_name("data.extxyz")),
        output=str(output),
        options=options,
        workers=workers,
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    process = subprocess.Popen([sys.executable, "-c", script], env=environment)
    wait_for(lambda: output.exists() and output.read_bytes().count(b"Properties") >= 3)
    process.send_signal(signal.SIGKILL)
    process.wait()
    count = -1
    while count < len(calls(log)):  # a worker may have a structure before it; its answer goes nowhere
        count = len(calls(log))
        time.sleep(1.5)
    finished, before = len(read(output)), len(calls(log))
    assert 3 <= finished < 8
    with output.open("ab") as stream:
        stream.write(b"2\nPropert")
    result = difficult(log, data, options={"seconds": 0.3}, workers=workers)
    assert len(result.labelled) == 8
    assert result.computed == 8 - finished == len(calls(log)) - before
    assert before - finished <= workers


def test_a_result_is_kept_before_the_next_structure_is_begun(
    log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, append = [], Record.append

    def slowly(record: Record, structure: Structure) -> None:
        time.sleep(0.2)
        begun.append(len(calls(log)))
        append(record, structure)

    monkeypatch.setattr(Record, "append", slowly)
    difficult(log, structures(0.0, 0.5, 0.7))
    assert begun == [1, 2, 3]


def test_an_interruption_ends_the_workers(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(record: Record, structure: Structure) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Record, "append", interrupt)
    started = time.perf_counter()
    with pytest.raises(KeyboardInterrupt):
        difficult(log, structures(0.0, 3.0, 0.5, 3.0), workers=2)
    assert time.perf_counter() - started < 30  # and not the minutes that two structures take


def test_other_labels_are_not_mixed_in(log: Path) -> None:
    data, output = structures(0.0), log.with_name("labels.extxyz")
    label(data, "emt", output)
    content = output.read_bytes()
    with pytest.raises(ConfigError, match="holds labels of another calculator"):
        label(data, "emt", output, options={"asap_cutoff": True})
    with pytest.raises(ConfigError, match="holds labels of another calculator"):
        difficult(log, data)
    gprann.write(log.with_name("mine.extxyz"), data[0].replace(energy=1.0))
    with pytest.raises(ConfigError, match="labels are of an unknown calculator"):
        label(data, "emt", log.with_name("mine.extxyz"))
    assert output.read_bytes() == content


def test_labels_that_were_there_are_replaced(tmp_path: Path) -> None:
    wrong = structures(0.0)[0].replace(energy=7.0, forces=np.ones((2, 3)))
    result = label(Dataset([wrong]), "emt", tmp_path / "labels.xyz")
    assert result.labelled[0].energy == emt(wrong).get_potential_energy()


def test_our_own_potentials_label_too(tmp_path: Path) -> None:
    potential = samples.potential()
    potential.save(tmp_path / "p.gprann")
    data = samples.waters(2)
    options = {"potential": str(tmp_path / "p.gprann")}
    result = label(data, "gprann.calculator:Calculator", tmp_path / "labels.xyz", options=options)
    np.testing.assert_allclose(result.labelled.energies, potential.predict(data).energy, rtol=1e-12)


def test_scratch_is_kept(tmp_path: Path) -> None:
    label(structures(0.0), "emt", tmp_path / "labels.xyz", scratch=tmp_path / "work")
    assert (tmp_path / "work" / "worker_0" / "output.log").is_file()


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("emmt", {}, "calculator 'emmt' is not found .*did you mean 'emt'"),
        ("no.such:Thing", {}, "put its folder on PYTHONPATH"),
        ("difficult_calculators:Missing", {}, "has no attribute 'Missing'"),
        ("difficult_calculators:number", {}, "is a int, which makes no calculator"),
        ("difficult_calculators:broken", {}, "ValueError: no licence"),
        ("ase:Atoms", {}, "gives a Atoms, no ASE calculator"),
        ("gprann.calculator:Calculator", {"potentiel": "p"}, "check its options"),
        ("emt; import os", {}, "expected a name such as emt"),
        ("../emt", {}, "expected a name such as emt"),
        ("emt", {"x": object()}, "expected numbers, texts, lists and tables"),
    ],
)
@pytest.mark.usefixtures("log")
def test_calculators_that_cannot_be_made(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        CalculatorSpec(name, options).build()


@pytest.mark.parametrize("workers", [1, 2])
def test_a_calculator_that_cannot_be_made_ends_the_labelling(log: Path, workers: int) -> None:
    with pytest.raises(ConfigError, match="ValueError: no licence"):
        label(
            structures(0, 0.1), "difficult_calculators:broken", log.with_name("labels.xyz"), workers=workers
        )


def test_impossible_options(tmp_path: Path) -> None:
    data, output = structures(0.0), tmp_path / "labels.xyz"
    for options, message in (
        ({"workers": 0}, "workers = 0"),
        ({"retries": -1}, "retries = -1"),
        ({"timeout": 0.0}, "timeout = 0.0"),
    ):
        with pytest.raises(ConfigError, match=message):
            label(data, "emt", output, **options)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"ends in \.extxyz or \.xyz"):
        label(data, "emt", tmp_path / "labels.xsf")


def test_nothing_to_do(tmp_path: Path) -> None:
    result = label(Dataset(), "emt", tmp_path / "labels.xyz")
    assert (len(result.labelled), result.failures, result.computed) == (0, [], 0)


def test_merging_leaves_out_what_is_there() -> None:
    data = gprann.examples.hydrogen(5)
    merged = merge(data[:3], Dataset(item.replace(energy=0.0) for item in data[1:]))
    assert merged.energies.tolist() == [*data.energies[:3], 0.0, 0.0]
    assert len(merge(Dataset(), data)) == 5


def test_merging_two_levels_of_theory_is_a_warning() -> None:
    data = gprann.examples.hydrogen(7)
    other = Dataset(item.replace(energy=(item.energy or 0.0) - 27.2) for item in data)
    with pytest.warns(DataWarning, match=r"new energies of H2 differ by -1\d\.\d eV/atom"):
        assert len(merge(data[:5], other[5:])) == 7
    with pytest.warns(
        DataWarning, match="levels of theory"
    ):  # the same geometries, though none of them is added
        merge(data, other)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        merge(data[1:4], data)  # far beyond the energies that were there
        merge(data, structures(0.0))  # nothing to compare with


def test_gfn_xtb(tmp_path: Path) -> None:
    pytest.importorskip("tblite")
    water = Structure(("O", "H", "H"), [[0.0, 0.0, 0.1], [0.78, 0.61, 0.0], [-0.76, 0.59, -0.1]])
    options = {"method": "GFN2-xTB", "verbosity": 0}
    result = label(Dataset([water]), "tblite", tmp_path / "labels.xyz", options=options)
    energy = result.labelled[0].energy
    assert energy is not None
    assert energy == pytest.approx(-137.9, abs=0.3)  # -5.07 hartree
    assert result.labelled[0].forces is not None


def test_tblite_that_is_missing_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tblite", None)
    monkeypatch.setitem(sys.modules, "tblite.ase", None)
    with pytest.raises(ConfigError, match=r"pip install 'gprann\[xtb\]'"):
        CalculatorSpec("tblite").build()


def test_a_damaged_note_is_named(tmp_path: Path) -> None:
    (tmp_path / "labels.xyz.calculator.json").write_text("{")
    with pytest.raises((ConfigError, DataError), match=r"calculator\.json: cannot be read"):
        label(structures(0.0), "emt", tmp_path / "labels.xyz")
