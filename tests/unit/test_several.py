"""Errors of several models on several sets: the table, the differences, and the two commands that show it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gprann
from gprann.cli.main import main
from gprann.evaluation import evaluate_several
from gprann.evaluation.several import Evaluations, short_names

TRAIN = "--angular-order none --radial-cutoff 8 --hidden 3 --starts 1 -q"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two potentials and two sets."""
    made = tmp_path_factory.mktemp("several")
    gprann.write(made / "near.extxyz", gprann.examples.hydrogen(9, 0.7, 1.0))
    gprann.write(made / "far.extxyz", gprann.examples.hydrogen(6, 1.05, 1.8))
    gprann.write(made / "train.extxyz", gprann.examples.hydrogen(14))
    for name, iterations in (("short", 2), ("long", 15)):
        arguments = f"train {made}/train.extxyz -o {made}/{name}.gprann {TRAIN} --iterations {iterations}"
        assert main(arguments.split()) == 0
    return made


@pytest.fixture(scope="module")
def found(folder: Path) -> Evaluations:
    models = {name: gprann.load(folder / f"{name}.gprann") for name in ("short", "long")}
    return evaluate_several(
        models, {name: gprann.read(folder / f"{name}.extxyz") for name in ("near", "far")}
    )


def test_reports_are_those_of_evaluate(found: Evaluations, folder: Path) -> None:
    for (model, name), report in found.reports.items():
        alone = gprann.evaluate(folder / f"{model}.gprann", folder / f"{name}.extxyz")
        assert report.to_dict() == alone.to_dict()
    assert (found.models, found.sets) == (["short", "long"], ["near", "far"])


def test_differences(found: Evaluations) -> None:
    """Mean and standard error over the structures, written out."""
    for name in ("near", "far"):
        first, second = (found.reports[model, name].residuals for model in ("short", "long"))
        energies = [np.abs(part.energy_error) / 2 for part in (first, second)]
        forces = [np.abs(part.forces.error).reshape(-1, 6).mean(axis=1) for part in (first, second)]
        for key, (one, other) in (("energy", energies), ("force", forces)):
            difference = found.differences()["long", name][key]
            assert difference.mean == pytest.approx(np.mean(other - one))
            scatter = np.std(other - one, ddof=1) / np.sqrt(len(one))
            assert difference.error == pytest.approx(scatter)
            assert difference.is_clear == (abs(np.mean(other - one)) > 2 * scatter)
    assert ("short", "near") not in found.differences()


def test_a_single_structure_has_no_scatter(found: Evaluations, folder: Path) -> None:
    models = {name: gprann.load(folder / f"{name}.gprann") for name in ("short", "long")}
    one = evaluate_several(models, {"one": gprann.examples.hydrogen(1)})
    difference = one.differences()["long", "one"]["energy"]
    assert np.isnan(difference.error)
    assert not difference.is_clear
    assert one.to_dict()["differences"][0]["energy"]["error"] is None


def test_energies_alone(folder: Path) -> None:
    data = gprann.Dataset([item.replace(forces=None) for item in gprann.examples.hydrogen(5)])
    models = {name: gprann.load(folder / f"{name}.gprann") for name in ("short", "long")}
    energies = evaluate_several(models, {"energies": data})
    assert set(energies.differences()["long", "energies"]) == {"energy"}
    assert "force  " not in energies.table()
    assert "eV/Å" not in energies.table()


def answer(folder: Path, arguments: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    capsys.readouterr()
    code = main([word.replace("@", f"{folder}/") for word in arguments.split()])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_compare_potentials(
    folder: Path, tmp_path: Path, found: Evaluations, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = f"compare @short.gprann @long.gprann --data @near.extxyz @far.extxyz --each --output {tmp_path}/out -q"
    code, out, _ = answer(folder, arguments, capsys)
    assert code == 0
    assert out == f"{found}\nwritten: {tmp_path}/out\n"
    assert "difference from short" in out
    written = json.loads((tmp_path / "out/errors.json").read_text())
    assert written == json.loads(json.dumps(found.to_dict()))
    assert (tmp_path / "out/long_far/metrics.json").is_file()
    assert "| near: short | 9 |" in (tmp_path / "out/errors.md").read_text()
    code, out, _ = answer(
        folder, "compare @short.gprann @long.gprann --data @near.extxyz @far.extxyz --json -q", capsys
    )
    rows: list[dict[str, Any]] = json.loads(out)["result"]["errors"]
    assert [(row["model"], row["n_structures"]) for row in rows] == [("short", 15), ("long", 15)]


def test_evaluate_each(folder: Path, found: Evaluations, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = answer(folder, "evaluate @long.gprann @near.extxyz @far.extxyz --each -q", capsys)
    assert code == 0
    lines = out.splitlines()[-2:]
    assert [line.split()[:2] for line in lines] == [["near", "9"], ["far", "6"]]
    energy = 1e3 * found.reports["long", "far"].metrics.energy_per_atom_mae
    assert float(lines[1].split()[2]) == pytest.approx(energy, rel=5e-3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            "compare @short.gprann @long.gprann",
            "structures on which potentials are compared are missing; give --data",
        ),
        ("compare @short.gprann", "give --data FILE, or one configuration"),
        ("compare @short.gprann --data @near.extxyz", "give two or more different model files"),
        ("compare @short.gprann @short.gprann --data @near.extxyz", "give two or more different model files"),
        ("compare @c.toml --each", "--each has no effect here, it needs --data"),
        (
            "compare @short.gprann @long.gprann --data @near.extxyz --methods gpr",
            "--methods has no effect here",
        ),
        ("compare @short.gprann @no.gprann --data @near.extxyz", "no.gprann: no such model file"),
    ],
)
def test_mistakes(folder: Path, capsys: pytest.CaptureFixture[str], arguments: str, message: str) -> None:
    code, out, error = answer(folder, arguments, capsys)
    assert (code, out) == (2, "")
    assert message in error


def test_names() -> None:
    assert short_names(["x/a.gprann", "b.extxyz"]) == ["a", "b"]
    assert short_names(["x/a.gprann", "y/a.gprann"]) == ["x/a.gprann", "y/a.gprann"]
