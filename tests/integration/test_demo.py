"""The demo: small committees, but the order of the four methods and the size of their errors must be right."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

import gprann
from gprann.cli.main import main
from gprann.demo import DemoResult, run_demo
from gprann.demo.hydrogen import along_bond


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> DemoResult:
    return run_demo(seed=1, members=2, output=tmp_path_factory.mktemp("demo") / "new" / "folder")


def test_gpr_is_best_and_as_good_as_in_the_paper(result: DemoResult) -> None:
    energies_only, taylor, gpr, direct = (method.metrics for method in result.methods)
    assert [method.structures for method in result.methods] == [7, 21, 21, 7]
    for name in ("energy_mae", "force_norm_mae"):
        assert gpr[name] < 0.3 * taylor[name] < 0.3 * energies_only[name]  # type: ignore[operator]
        assert gpr[name] < 0.5 * direct[name] < 0.5 * energies_only[name]  # type: ignore[operator]
    assert gpr["energy_mae"] < 0.004  # type: ignore[operator]
    assert gpr["force_norm_mae"] < 0.27  # type: ignore[operator]


def test_files(result: DemoResult) -> None:
    picture, numbers, potential = result.files
    assert picture.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    content = json.loads(numbers.read_text())["methods"]
    assert list(content) == [method.title for method in result.methods]
    gpr = result.methods[2]
    assert content["GPR-ANN"]["energy_mae"] == gpr.metrics["energy_mae"]
    assert np.array_equal(gprann.load(potential).parameters, gpr.potential.parameters)


def test_table_stands_beside_the_paper(result: DemoResult) -> None:
    lines = result.table().splitlines()
    assert [line.split("  ")[0].strip() for line in lines[3:]] == [
        "energies only",
        "",
        "Taylor-ANN",
        "GPR-ANN",
        "",
        "direct forces",
        "",
    ]
    assert lines[4].split() == ["paper", "105", "3.10", "22", "0.52"]
    assert lines[7].split() == ["paper", "3", "0.21", "2", "0.08"]
    assert lines[9].split() == ["paper", "23", "1.22", "9", "0.30"]


def test_picture_shows_all_methods(result: DemoResult) -> None:
    from gprann.demo.picture import draw

    figure = draw(result)
    panels = figure.axes
    assert len(panels) == 8
    for method, axes in zip(result.methods, panels[::2], strict=True):
        assert axes.get_title().startswith(method.title)
        mean = axes.lines[0].get_ydata()
        assert np.array_equal(mean, method.prediction.energy)
        assert len(axes.lines[2].get_xdata()) == 7


def test_without_matplotlib_it_says_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from gprann.demo import hydrogen

    monkeypatch.setattr(
        hydrogen, "_OPTIONS", {"hidden": (2,), "iterations": 2, "validation": 0.0, "starts": 1}
    )
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert main(["demo", "--members", "2", "--output", str(tmp_path)]) == 0
    assert "pip install 'gprann[plot]'" in capsys.readouterr().out
    assert sorted(path.name for path in tmp_path.iterdir()) == ["h2.gprann", "h2.json"]


def test_copies_lie_along_the_bond() -> None:
    data = gprann.examples.hydrogen(3)
    copies = along_bond(data, 0.055, "gpr")
    lengths = [np.linalg.norm(s.positions[1] - s.positions[0]) for s in copies]
    assert np.allclose(lengths, [1.055, 0.945, 1.555, 1.445, 2.055, 1.945])
    assert [s.origin.index for s in copies] == [0, 0, 1, 1, 2, 2]
    assert all(s.energy is None for s in copies)
