"""`gprann doctor`: what it tells, and what it does where something is missing or wrong."""

from __future__ import annotations

import importlib.metadata
import json
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from gprann.cli import doctor
from gprann.cli.main import main
from gprann.errors import ConfigError, GprannError
from gprann.lammps import Installation

ROOT = Path(__file__).parents[2]


def told(capsys: pytest.CaptureFixture[str]) -> tuple[int, dict[str, object]]:
    """Return exit code and result of `gprann doctor --json`."""
    capsys.readouterr()
    code = main(["doctor", "--json"])
    return code, json.loads(capsys.readouterr().out)["result"]


@pytest.fixture(autouse=True)
def no_lammps(monkeypatch: pytest.MonkeyPatch) -> None:
    """No LAMMPS: a real one takes a second to start."""

    def find() -> Installation:
        raise ConfigError("no LAMMPS was found; install one")

    monkeypatch.setattr("gprann.lammps.installation.find_installation", find)


def test_a_sound_installation(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GPRANN_NUM_THREADS", "3")
    assert main(["doctor"]) == 0
    text = capsys.readouterr().out
    assert text.rstrip().splitlines()[-1] == "verdict: gprann works here"
    assert "3 (by GPRANN_NUM_THREADS=3" in text
    code, result = told(capsys)
    assert (code, result["ready"], result["problems"]) == (0, True, [])
    assert result["machine"]["threads"] == 3
    assert result["compiled_core"]["trial_error_eV"] < 0.002
    assert result["needed_packages"]["numpy"] == importlib.metadata.version("numpy")
    assert result["lammps"] == {"version": None, "plugin": None}


@pytest.mark.skipif(not (ROOT / "pyproject.toml").is_file(), reason="tests apart from the source")
def test_the_packages_are_those_of_the_project() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]

    def names(requirements: list[str]) -> set[str]:
        return {text.partition(">")[0].partition("[")[0] for text in requirements}

    assert set(doctor.REQUIRED) == names(project["dependencies"])
    extras = project["optional-dependencies"]
    for_users = {
        extra: names(extras[extra]) for extra in extras if extra not in ("test", "lint", "docs", "bench")
    }
    assert {(name, extra) for extra, packages in for_users.items() for name in packages} == {
        (name, extra) for name, (extra, _) in doctor.OPTIONAL.items()
    }


def test_packages_that_are_missing_or_old(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    versions = dict.fromkeys((*doctor.REQUIRED, *doctor.OPTIONAL), "99.1") | {"scipy": "1.2.3"}
    del versions["ase"]
    versions["dpdata"] = "0.1rc2"
    monkeypatch.setattr(doctor, "_version_of", versions.get)
    monkeypatch.setattr(
        importlib.metadata,
        "requires",
        lambda _: [
            "scipy>=1.12",
            "numpy>=1.26",
            'dpdata>=0.2.21; extra == "formats"',
            "lammps[mpi]>=2024.8.29",
        ],
    )
    code, result = told(capsys)
    assert (code, result["ready"]) == (1, False)
    assert result["problems"] == [
        "scipy 1.2.3 is too old; install 1.12 or newer: pip install --upgrade scipy",
        "the package ase is missing; install it: pip install ase",
    ]
    assert result["hints"][0] == "dpdata 0.1rc2 is older than 0.2.21; pip install --upgrade 'gprann[formats]'"
    main(["doctor"])
    assert (
        capsys.readouterr().out.rstrip().splitlines()[-1].startswith("verdict: gprann does not work here: ")
    )


def test_a_core_that_computes_wrongly(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for error in (0.5, float("nan")):
        monkeypatch.setattr(doctor, "_trial", lambda error=error: error)
        code, result = told(capsys)
        assert code == 1
        assert result["problems"][0].startswith("a surrogate of H2 has an error of ")


def test_it_runs_where_numpy_is_missing() -> None:
    code = "import sys; sys.modules['numpy'] = None; from gprann.cli.main import main; sys.exit(main(['doctor']))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert run.returncode == 1
    assert "Traceback" not in run.stderr
    assert run.stdout.rstrip().splitlines()[-1].startswith("verdict: gprann does not work here: ")


class TestLammps:
    """What it tells of LAMMPS."""

    @staticmethod
    def found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, *, headers: bool) -> Installation:
        include = tmp_path / "include"
        include.mkdir()
        if headers:
            names = "atom comm error force memory neigh_list neighbor pair update"
            for name in names.split():
                (include / f"{name}.h").touch()
        made = Installation(tmp_path, ("lmp",), include, "22 Jul 2025", "")
        monkeypatch.setattr("gprann.lammps.installation.find_installation", lambda: made)
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
        return made

    def test_a_style_that_is_compiled(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from gprann.lammps import plugin

        installation = self.found(monkeypatch, tmp_path, headers=True)
        monkeypatch.setattr(plugin, "_compile_command", lambda *_: ["c++"])
        monkeypatch.setattr(plugin, "_key", lambda *_: "key")
        assert told(capsys)[1]["lammps"]["plugin"] is None
        folder = plugin.plugin_folder(installation)
        folder.mkdir(parents=True)
        (folder / "gprannplugin.so").touch()
        (folder / "build.json").write_text("key of other sources")
        assert told(capsys)[1]["lammps"]["plugin"] is None
        (folder / "build.json").write_text("key")
        result = told(capsys)[1]["lammps"]
        assert (result["version"], result["plugin"]) == ("22 Jul 2025", str(folder / "gprannplugin.so"))

    def test_one_that_cannot_be_used_is_a_hint(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.found(monkeypatch, tmp_path, headers=False)
        code, result = told(capsys)
        assert (code, result["lammps"]["version"]) == (0, "22 Jul 2025")
        assert any("the headers of LAMMPS are missing" in hint for hint in result["hints"])

        def broken() -> Installation:
            raise GprannError("LAMMPS does not run")

        monkeypatch.setattr("gprann.lammps.installation.find_installation", broken)
        code, result = told(capsys)
        assert (code, result["lammps"]["version"]) == (0, None)
        assert "LAMMPS does not run" in result["hints"]
