"""The notebooks of the documentation run, at small size, and print something where their readers see something."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from notebooks import code, run

FOLDER = Path(__file__).parents[2] / "docs" / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
SMALL = {
    "iterations=30": "iterations=3, starts=1",
    "members=4": "members=2",
    "hidden=(10, 10)": "hidden=(3,)",
    "frames(300, 50, seed=0)": "frames(300, 25, seed=0)",
    "frames(temperature, 20, seed=1)": "frames(temperature, 3, seed=1)",
    "dynamics.run(1000)": "dynamics.run(20)",
    "dynamics.run(1500)": "dynamics.run(150)",
    "range(6)": "range(3)",
}


@pytest.fixture(params=NOTEBOOKS, ids=lambda notebook: notebook.stem)
def notebook(request: pytest.FixtureRequest) -> Path:
    return Path(request.param)


@pytest.fixture(autouse=True)
def registries(restored_registries: Any) -> Iterator[None]:
    with restored_registries():
        yield


def shown(notebook: Path) -> list[str]:
    """What a notebook holds as printed by each of its cells."""
    return ["".join("".join(output["text"]) for output in cell["outputs"]) for cell in code(notebook)]


def test_there_are_two() -> None:
    assert len(NOTEBOOKS) == 2


def test_cells_run_and_print_where_outputs_are_shown(notebook: Path, tmp_path: Path) -> None:
    text = notebook.read_text(encoding="utf-8")
    for large, little in SMALL.items():
        text = text.replace(large, little)
    assert text != notebook.read_text(encoding="utf-8")
    (tmp_path / notebook.name).write_text(text, encoding="utf-8")
    printed = run(tmp_path / notebook.name)
    assert [bool(output) for output in printed] == [bool(output) for output in shown(notebook)]


def test_outputs_are_short_and_complete(notebook: Path) -> None:
    document = json.loads(notebook.read_text(encoding="utf-8"))
    assert document["nbformat"] == 4
    assert len(notebook.read_bytes()) < 20_000
    assert all(len(output) < 4000 for output in shown(notebook))
    assert [cell["execution_count"] for cell in code(notebook)] == list(range(1, len(code(notebook)) + 1))
    assert not re.search(r"/(?:home|tmp|root)/", notebook.read_text(encoding="utf-8"))


def test_a_cell_that_fails_is_noticed(tmp_path: Path) -> None:
    cells = [{"cell_type": "code", "source": ["1 / 0\n"], "outputs": []}]
    (tmp_path / "bad.ipynb").write_text(json.dumps({"nbformat": 4, "cells": cells}), encoding="utf-8")
    with pytest.raises(ZeroDivisionError):
        run(tmp_path / "bad.ipynb")
