"""`--json`: every command prints one JSON object with the exit code, and the result or the error."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gprann
from gprann.cli.answer import Answer, plain
from gprann.cli.arguments import COMMANDS
from gprann.cli.main import _parser, main

SMALL = "--angular-order none --radial-cutoff 8 --hidden 4 --iterations 3 --starts 1 -q --json"
CONFIG = """
data.train = "train.extxyz"
data.test = "train.extxyz"
augmentation.method = "none"
training = { hidden = [3], iterations = 2, starts = 1 }
output = { plots = false }
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, with data, a configuration and a model."""
    gprann.write(tmp_path / "train.extxyz", gprann.examples.hydrogen(12))
    (tmp_path / "c.toml").write_text(CONFIG)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def told(arguments: str, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    """Return the document of a command, whose exit code it holds."""
    capsys.readouterr()
    code = main([*arguments.split(), *([] if "--json" in arguments else ["--json"])])
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert list(found)[:3] == ["gprann", "command", "exit_code"]
    assert (found["gprann"], found["command"], found["exit_code"]) == (
        gprann.__version__,
        arguments.split(maxsplit=1)[0],
        code,
    )
    return found


def test_the_commands_of_a_project(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert told("init new.toml", capsys)["result"] == {"file": "new.toml"}
    assert told("check train.extxyz", capsys)["result"]["structures"] == 12
    made = told("augment train.extxyz -o more.extxyz --kernel pairs --copies 2 -q", capsys)["result"]
    assert made["structures"] == 12
    assert made["copies"] + made["left_out"] == 24
    trained = told(f"train train.extxyz -o p.gprann --members 2 {SMALL}", capsys)["result"]
    assert (trained["members"], trained["training"]["n_structures"]) == (2, 12)
    errors = told("evaluate p.gprann train.extxyz", capsys)["result"]
    assert errors["energy_mae"] == gprann.evaluate("p.gprann", "train.extxyz").energy_mae
    described = told("info p.gprann", capsys)["result"]
    assert (described["kind"], described["members"], described["species"]) == ("potential", 2, ["H"])
    assert told("info c.toml", capsys)["result"]["configuration"]["training"]["hidden"] == [3]
    assert told("info train.extxyz", capsys)["result"]["compositions"] == {"H2": 12}
    written = told("export p.gprann --format aenet", capsys)["result"]["files"]
    assert all((folder / name).is_file() for name in written)
    chosen = told("select train.extxyz --potential p.gprann --count 3 -o s.xyz -q", capsys)["result"]
    assert (chosen["chosen"], len(chosen["std_eV_per_atom"])) == (3, 3)
    assert (folder / told("interface", capsys)["result"]["library"]).is_file()


def test_a_run_and_a_comparison(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result = told("run c.toml -q", capsys)["result"]
    assert (folder / result["potential"]).is_file()
    assert result["skipped"] == []
    assert result["metrics"]["test"]["n_structures"] == 12
    assert told("run c.toml -q", capsys)["result"]["skipped"] == ["augmentation", "training", "report"]
    compared = told("compare c.toml --methods energies -q", capsys)["result"]
    assert list(compared["methods"]) == ["energies"]


def test_a_result_that_failed_in_part(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["label", "train.extxyz", "-o", "l.extxyz", "--calculator", "emt", "--json", "-q"]) == 0
    assert json.loads(capsys.readouterr().out)["result"]["labelled"] == 12
    copy = gprann.examples.hydrogen(3)
    gprann.write("copy.extxyz", copy + copy)
    found = told("check copy.extxyz", capsys)
    assert found["exit_code"] == 1
    assert found["result"]["problems"]


@pytest.mark.parametrize(
    ("arguments", "code", "kind", "message"),
    [
        ("evaluate no.gprann train.extxyz", 2, "FormatError", "no.gprann: no such model file"),
        ("run no.toml", 2, "ConfigError", "no.toml: no such file"),
    ],
)
def test_errors(
    folder: Path, capsys: pytest.CaptureFixture[str], arguments: str, code: int, kind: str, message: str
) -> None:
    found = told(arguments, capsys)
    assert (found["exit_code"], found["error"]["kind"]) == (code, kind)
    assert message in found["error"]["message"]
    assert "result" not in found


def test_a_command_line_that_cannot_be_read(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "a", "-o", "b", "--hiden", "5", "--json"]) == 2
    found = json.loads(capsys.readouterr().out)
    assert found["error"]["message"] == "train: unknown option '--hiden'; did you mean '--hidden'?"


def test_every_command_has_it() -> None:
    parsers = _parser()[1]
    assert {name for name in COMMANDS if "--json" in parsers[name]._option_string_actions} == set(COMMANDS)


def test_values_that_json_does_not_know() -> None:
    values = {"a": np.float64(1.5), "b": np.array([1.0, np.inf]), "c": (Path("x"), None, True), 3: {"d"}}
    assert plain(values) == {"a": 1.5, "b": [1.0, None], "c": ["x", None, True], "3": ["d"]}
    document = json.loads(Answer("", {"x": float("nan")}, 1, "a part failed").document("label"))
    assert (document["exit_code"], document["result"], document["error"]) == (
        1,
        {"x": None},
        {"message": "a part failed"},
    )
