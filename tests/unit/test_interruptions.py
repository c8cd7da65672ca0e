"""Ctrl-C in every command: what it says is kept, and how to go on."""

from __future__ import annotations

import json

import pytest

from gprann.cli import arguments, commands, errors
from gprann.cli.main import main

LOST = "nothing was written"
CASES = {
    "demo": LOST,
    "check a": LOST,
    "augment a -o b.xyz": LOST,
    "scan a": LOST,
    "select a -o b.xyz --train c --count 2": LOST,
    "locality a --calculator emt": LOST,
    "evaluate p.gprann a": LOST,
    "compare p.gprann q.gprann --data a": LOST,
    "run c.toml --dry-run": LOST,
    "run c.toml": "what is finished is kept, go on with: gprann run c.toml",
    "explore e.toml": "what is finished is kept, go on with: gprann explore e.toml",
    "compare c.toml": "what is finished is kept, go on with: gprann compare c.toml",
    "label a -o l.xyz --calculator emt": "what is finished is kept in l.xyz, the same command goes on",
    "properties p.gprann --structure a -o out": "what is finished is kept in out, the same command goes on",
    "report out": LOST,
    "md p.gprann a -o out": "what was done up to the last checkpoint is kept in out, the same command goes on",
    "train a -o p.gprann": "nothing is kept; with --checkpoint FOLDER the same command goes on",
    "train a -o p.gprann --checkpoint s": "the state is kept in s, the same command goes on",
}
QUICK = {"init", "export", "lammps", "interface", "completion", "doctor", "info"}


@pytest.mark.parametrize(("line", "hint"), CASES.items(), ids=CASES)
def test_hint(
    line: str, hint: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    name = line.split(maxsplit=1)[0]

    def stop(given: object) -> None:
        if name == "compare" and isinstance(given.config, list) and not given.data:
            given.config = given.config[0]  # as the command does at its beginning
        raise KeyboardInterrupt

    monkeypatch.setattr(errors if name in ("evaluate", "compare") else commands, name, stop)
    assert main(line.split()) == 130
    assert capsys.readouterr().err == f"\ngprann: interrupted; {hint}\n"
    assert main([*line.split(), "--json"]) == 130
    captured = capsys.readouterr()
    assert json.loads(captured.out)["error"] == {
        "kind": "KeyboardInterrupt",
        "message": f"interrupted; {hint}",
    }


def test_no_long_command_is_forgotten() -> None:
    assert {line.split()[0] for line in CASES} | QUICK == set(arguments.COMMANDS)
