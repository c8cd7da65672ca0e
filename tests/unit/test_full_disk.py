"""Full disks and folders that cannot be written to: a clear error, nothing half-written, nothing computed lost."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import gprann
import samples
from disks import Disk, largest_file, left_behind, read_only
from explore_sample import CLUSTER, TABLES, LocalWorker
from gprann.cli.main import main
from gprann.runtime.atomic_write import WriteError

H2 = gprann.examples.hydrogen(7)
FULL = r"\S+: .*(the disk is full; free some space|the file is larger than the system allows; write it elsewhere)"
DENIED = r"\S+.*(Permission denied|Read-only file system)"
RUN: dict[str, Any] = {
    "data": {"train": "train.extxyz"},
    "descriptor": {"radial_cutoff": 8.0, "radial_order": 4, "angular_order": "none"},
    "surrogate": {"kernel": "pairs"},
    "augmentation": {"copies": 2, "displacement": 0.05},
    "training": {"hidden": [2], "members": 2, "iterations": 3, "starts": 1},
    "output": {"folder": "out", "plots": False},
}


class Work(NamedTuple):
    """What a user asks for, in the working directory, and the results that do not depend on the time of day."""

    call: Callable[[], Any]
    results: Callable[[Path], Any]
    files: int
    """Writes that it makes at least; fewer would mean that this test has become blind."""


@cache
def _surrogate() -> gprann.Surrogate:
    return gprann.Surrogate(kernel="pairs", **samples.FIXED).fit(gprann.examples.hydrogen(12))


def _md() -> Any:
    options: dict[str, Any] = {"length": 0.015, "log_every": 5, "checkpoint_every": 10}
    return gprann.md(_surrogate(), H2[3], "out", temperature=10.0, seed=0, **options)


def _properties() -> Any:
    return gprann.measure_properties(
        _surrogate(), gprann.examples.hydrogen(12)[2], "out", only=["vibrations"]
    )


def _label() -> Any:
    structures = [CLUSTER.replace(positions=CLUSTER.positions * (1 + 0.01 * k)) for k in range(4)]
    return gprann.label(structures, "emt", "labels.extxyz")


def _explore() -> Any:
    gprann.write("start.extxyz", CLUSTER)
    return gprann.explore({**TABLES, "model": "linear", "training": {}})


def _run() -> Any:
    gprann.write("train.extxyz", H2)
    return gprann.run(gprann.config.Config.model_validate(RUN).resolve(Path()))


def _bytes(*names: str) -> Callable[[Path], Any]:
    return lambda folder: [(folder / name).read_bytes() for name in names]


def _parameters(name: str) -> Callable[[Path], Any]:
    return lambda folder: gprann.load(folder / name).parameters.tobytes()


def _labels(folder: Path) -> Any:
    return sorted((item.energy, item.forces.tobytes()) for item in gprann.read(folder / "labels.extxyz"))


WORK = {
    "md": Work(_md, _bytes("out/trajectory.extxyz", "out/log.csv"), 10),
    "label": Work(_label, _labels, 5),
    "explore": Work(_explore, _parameters("results/potential.gprann"), 20),
    "run": Work(_run, _parameters("out/potential.gprann"), 10),
    "properties": Work(_properties, _bytes("out/results.json"), 5),
}


@pytest.fixture
def workers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Labels within this process, whose disk can be filled."""
    monkeypatch.setattr("gprann.labelling.run.WorkerProcess", LocalWorker)
    monkeypatch.setattr("gprann.sampling.reference.WorkerProcess", LocalWorker)


def _in(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


@pytest.mark.usefixtures("workers")
@pytest.mark.parametrize("name", WORK)
def test_a_disk_that_is_full_again_and_again(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each call fails some files later than the one before, and goes on where that one ended."""
    work, disk = WORK[name], Disk(monkeypatch)
    once = _in(tmp_path / "once", monkeypatch)
    work.call()
    total = disk.writes
    assert total >= work.files
    often = _in(tmp_path / "often", monkeypatch)
    errors = []
    for left in range(1, total, max(1, total // 7)):
        disk.fill(left)
        try:
            work.call()
        except WriteError as error:
            errors.append(str(error))
        else:
            break
        assert left_behind(often) == []
    disk.fill(None)
    work.call()
    assert len(errors) >= 2
    assert all(re.match(FULL, error) for error in errors)
    assert work.results(often) == work.results(once)


@pytest.mark.usefixtures("workers")
@pytest.mark.parametrize(("name", "size"), [("md", 1500), ("label", 900), ("explore", 3000), ("run", 600)])
def test_the_system_refuses_in_the_midst_of_a_write(
    name: str, size: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = WORK[name]
    once = _in(tmp_path / "once", monkeypatch)
    work.call()
    cut = _in(tmp_path / "cut", monkeypatch)
    with largest_file(size), pytest.raises(WriteError, match=FULL):
        work.call()
    assert left_behind(cut) == []
    for path in cut.rglob("*.extxyz"):
        gprann.read(path, require=())  # what is there is whole
    work.call()
    assert work.results(cut) == work.results(once)


MODELS = {
    "potential.gprann": lambda path: samples.potential().save(path),
    "surrogate.gprs": lambda path: gprann.Surrogate(kernel="pairs", **samples.FIXED).fit(H2).save(path),
    "data.extxyz": lambda path: gprann.write(path, H2),
    "data.xsf": lambda path: gprann.write(path, gprann.Structure(("H", "H"), H2[0].positions)),
}


@pytest.mark.parametrize("name", MODELS)
def test_what_stood_there_before_stays(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    MODELS[name](path)
    before = path.read_bytes()
    with largest_file(100), pytest.raises(WriteError, match=FULL) as caught:
        MODELS[name](path)
    assert str(path) in str(caught.value)
    assert path.read_bytes() == before
    assert left_behind(tmp_path) == []
    with read_only(tmp_path), pytest.raises(WriteError, match=DENIED) as caught:
        MODELS[name](path)
    assert str(path) in str(caught.value)
    assert path.read_bytes() == before


@pytest.mark.usefixtures("workers")
@pytest.mark.parametrize("name", WORK)
def test_folders_that_cannot_be_written_to(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before anything is computed, and once results are there: which stay as they are."""
    folder = _in(tmp_path / "work", monkeypatch)
    with read_only(folder), pytest.raises(gprann.GprannError, match=DENIED):
        WORK[name].call()
    assert list(folder.iterdir()) == []
    WORK[name].call()
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    places = [path for path in folder.rglob("*") if path.is_dir()]
    errors = []
    with read_only(places[0] if places else folder):
        try:
            WORK[name].call()
        except gprann.GprannError as error:  # where nothing was to be written, there is none
            errors.append(str(error))
    assert all(re.match(DENIED, error) for error in errors)
    after = {path: path.read_bytes() for path in before}
    changed = {path.name for path in before if before[path] != after[path]}
    assert changed <= {"lock", "run.log"}


def test_the_command_tells_it_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = _in(tmp_path / "work", monkeypatch)
    gprann.write("train.extxyz", H2)
    config = gprann.config.Config.model_validate(RUN)
    (folder / "config.toml").write_text(gprann.config.to_toml(config, comments=False))
    with largest_file(300):
        assert main(["run", "config.toml", "-q"]) == 1
    said = capsys.readouterr().err
    assert re.search(rf"(?m)^gprann: {FULL}$", said)
    assert "Traceback" not in said
    assert said.count("run.log") == 1  # a log that cannot be kept is told once, and no reason to stop
    assert main(["run", "config.toml", "-q"]) == 0
