"""`gprann run --dry-run`: what it foretells is what the run does, and it leaves nothing behind."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import gprann
from gprann.cli.main import main
from gprann.config import load_config
from gprann.pipeline.preview import preview, training_seconds

CONFIG = """
method = "manual"
data.train = "train.extxyz"
descriptor = { radial_cutoff = 8.0, angular_order = "none" }
surrogate.kernel = "pairs"
augmentation = { method = "gpr", copies = 3 }
training = { members = 2, hidden = [4], iterations = 3, starts = 1 }
output = { plots = false }
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    gprann.write(tmp_path / "train.extxyz", gprann.examples.hydrogen(24))
    (tmp_path / "c.toml").write_text(CONFIG)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def changed(old: str, new: str) -> Any:
    text = CONFIG.replace(old, new)
    assert text != CONFIG
    Path("c.toml").write_text(text)
    return load_config("c.toml")


def told(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    capsys.readouterr()
    assert main(["run", "c.toml", "--dry-run", "--json", "-q"]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)["result"]
    return found


def test_it_foretells_the_run(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = sorted(folder.iterdir())
    found = told(capsys)
    assert sorted(folder.iterdir()) == before
    assert main(["run", "c.toml", "-q"]) == 0
    potential = gprann.load("results/potential.gprann")
    record = potential.provenance["training"]
    assert (found["structures"], found["test"]) == (record["n_reference"], 24 - record["n_reference"])
    assert (found["members"], found["parameters"]) == (len(potential), potential.model.n_parameters)
    assert found["surrogates"] == [record["n_reference"]]
    assert 0 < record["n_structures"] - record["n_reference"] <= found["copies"] == 3 * found["structures"]
    assert found["finished"] == []
    assert told(capsys)["finished"] == ["augmentation", "surrogate", "training", "report"]


def test_the_page(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "c.toml", "--dry-run", "-q"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split(maxsplit=1)[1] == "22 to train on (22 x H2), 2 to test with"
    assert "copies labelled by surrogates, training on energies" in lines[1]
    assert lines[-1] == "nothing was computed or written; to run it: gprann run c.toml"


def test_time_is_proportional_to_the_operations(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GPRANN_NUM_THREADS", "1")
    data = gprann.read("train.extxyz")
    base = training_seconds(load_config("c.toml"), data)
    assert base is not None
    assert training_seconds(changed("members = 2", "members = 4"), data) == pytest.approx(2 * base)
    assert training_seconds(changed("copies = 3", "copies = 7"), data) > 1.5 * base
    monkeypatch.setenv("GPRANN_NUM_THREADS", "2")
    assert training_seconds(changed("hidden = [4]", "hidden = [8]"), data) > 0.5 * base
    linear = changed("hidden = [4], iterations = 3, starts = 1", 'model = "linear"')
    assert training_seconds(linear, data) is None


def test_time_of_surrogates(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GPRANN_NUM_THREADS", "1")
    found = preview(load_config("c.toml"))
    assert found.surrogate_seconds > 0
    given = preview(changed('kernel = "pairs"', 'kernel = "pairs"\nsurrogate.length = 1.0'))
    assert given.surrogate_seconds < 0.1 * found.surrogate_seconds  # nothing is searched for
    assert "the surrogates about 0 s, the networks at most about 0 s; on one thread" in str(given)
    iterative = preview(changed('kernel = "pairs"', 'kernel = "pairs"\nsurrogate.solver = "inducing"'))
    assert iterative.surrogate_seconds is None
    assert "the surrogates about (not predicted)" in str(iterative)
    without = preview(changed('method = "gpr", copies = 3', 'method = "none"'))
    assert (without.surrogate_seconds, without.surrogates) == (0.0, ())


def test_auto_has_no_networks_yet(folder: Path) -> None:
    found = preview(changed('"manual"', '"auto"\nresources.time = 3.0'))
    assert (found.seconds, found.network, found.members, found.copies) == (180.0, "", 0, 0)
    assert "trials on a part of the structures" in str(found)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("train.extxyz", "trian.extxyz", "trian.extxyz: no such file or folder"),
        ("[4]", "[4], hiden = [3]", "unknown key"),
        ("output = {", 'output = { folder = "taken",', "holds files that no run of gprann has made"),
        ("output = {", 'output = { folder = "train.extxyz",', "is a file; choose another name"),
        ("plots = false }", "plots = false }\nresources.memory = 0.001", "of memory"),
    ],
)
def test_it_refuses_what_the_run_refuses(
    folder: Path, capsys: pytest.CaptureFixture[str], old: str, new: str, message: str
) -> None:
    (folder / "taken").mkdir()
    (folder / "taken/mine.txt").write_text("mine")
    Path("c.toml").write_text(CONFIG.replace(old, new))
    errors = []
    for options in (["--dry-run"], []):
        assert main(["run", "c.toml", "-q", *options]) == 2
        errors.append(capsys.readouterr().err.splitlines()[-1])
    assert errors[0] == errors[1]
    assert message in errors[0]
