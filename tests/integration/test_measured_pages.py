"""Numbers on the pages are those that were measured, in `bench/results`."""

from __future__ import annotations

import importlib
import json
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.skipif(
    not (ROOT / "bench" / "results").is_dir(), reason="distributions of the sources have no results"
)
STEP = re.compile(r"^<!-- numbers: (\w+) -->\n```text\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def results(name: str) -> dict[str, Any]:
    return json.loads((ROOT / "bench" / "results" / f"{name}.json").read_text(encoding="utf-8"))


def page(name: str) -> str:
    return (ROOT / "docs" / f"{name}.md").read_text(encoding="utf-8")


def words(line: str) -> str:
    return " ".join(line.split())


def not_measured(text: str, measured: dict[str, Any]) -> list[str]:
    """Lines of the steps on a page with which no line that was measured begins."""
    wrong = []
    for step, lines in STEP.findall(text):
        known = [words(line) for line in measured[step]["lines"]]
        shown = [words(line) for line in lines.splitlines() if line.strip()]
        wrong += [line for line in shown if not any(other.startswith(line) for other in known)]
    return wrong


def test_tutorial_shows_what_its_commands_printed() -> None:
    measured, text = results("tutorial"), page("tutorial")
    assert {step for step, _ in STEP.findall(text)} == set(measured) - {"machine", "frames"}
    assert not not_measured(text, measured)
    found = re.search(r"(\d+) frames have a mean absolute force error of (\d+) meV/Å", text)
    assert found is not None
    assert [int(x) for x in found.groups()] == [
        measured["frames"]["frames"],
        round(measured["frames"]["force_mae_meV"]),
    ]


def test_tutorial_runs_the_commands_that_were_measured() -> None:
    text = "\n".join(words(line) for line in page("tutorial").replace("\\\n", " ").splitlines())
    commands = [step["command"] for step in results("tutorial").values() if "command" in step]
    assert len(commands) == 5
    assert not [command for command in commands if f"\n{command}\n" not in text]


def test_another_number_is_noticed() -> None:
    text = page("tutorial").replace("stopped: 1", "stopped: 9")
    assert len(not_measured(text, results("tutorial"))) == 2


@pytest.fixture
def tables(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(ROOT / "bench" / "python")
    return importlib.import_module("comparison")


def test_tables_of_the_comparison_are_those_of_the_results(tables: ModuleType) -> None:
    text = page("comparison")
    assert tables.filled(text) == text, "write them with: python bench/python/comparison.py"
    assert sorted(re.findall(r"<!-- table: (.+?) -->", text)) == sorted(tables.TABLES)
    assert tables.filled(text.replace("**58.6**", "**38.6**")) == text


def test_errors_of_others_are_understood(tables: ModuleType) -> None:
    lines = tables.peers(
        "MACE 1.8 / 11.9 in 31 min, A-B 5-5: 5.42 (RMSE 7.74) / 388 in 53 min; all 3.8-9.3 / 83-120"
    )
    assert [line[:4] for line in lines] == [
        ("MACE", "1.8", "11.9", "31 min"),
        ("A-B 5-5", "5.42", "388", "53 min"),
        ("all", "3.8-9.3", "83-120", ""),
    ]
    with pytest.raises(ValueError, match=r"not understood: 'MACE 1\.8'"):
        tables.peers("MACE 1.8, n2p2 1 / 2")
