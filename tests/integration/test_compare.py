"""`gprann compare`: what it leaves, that each method is the run it stands for, and that it goes on bit by bit."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gprann
from gprann.cli.main import main
from gprann.config import load_config
from gprann.errors import ConfigError, DataError
from gprann.pipeline import Comparison, compare, compare_file, run
from gprann.surrogate import Surrogate
from gprann.training.optimizers.base import OptimizerState

CONFIG = """
data.train = "train.extxyz"
data.test = "test.extxyz"
[descriptor]
radial_cutoff = 8.0
angular_order = "none"
[surrogate]
kernel = "pairs"
[augmentation]
copies = 2
[training]
members = 2
hidden = [4]
iterations = 6
starts = 2
start_iterations = 3
force_fraction = 0.5
forces = true
[output]
plots = false
"""
SLOW = {
    "iterations = 6\nstarts = 2\nstart_iterations = 3": 'optimizer = "adamw"\niterations = 400\npatience = 400'
}
NAMES = ["energies", "taylor", "gpr", "direct"]
STAGES = ("augmentation", "training", "report")
GPR_STAGES = ("augmentation", "surrogate", "training", "report")
DEADLINE = 60.0  # s


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    prepare(tmp_path)
    return tmp_path


def prepare(folder: Path, changes: dict[str, str] | None = None) -> Path:
    """Write training and test structures and a configuration; return its path."""
    folder.mkdir(exist_ok=True)
    gprann.write(folder / "train.extxyz", gprann.examples.hydrogen(7))
    gprann.write(folder / "test.extxyz", gprann.examples.hydrogen(12, 0.97, 2.03))
    text = CONFIG
    for old, new in (changes or {}).items():
        assert old in text
        text = text.replace(old, new)
    (folder / "config.toml").write_text(text)
    return folder / "config.toml"


def numbers(result: Comparison) -> dict[str, Any]:
    """Return all numbers of a comparison that do not depend on the clock."""
    return {
        name: (
            gprann.load(run.potential).parameters.tobytes(),
            {key: value for key, value in result.metrics[name].items() if not key.endswith("_seconds")},
        )
        for name, run in result.runs.items()
    }


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Comparison]:
    """A finished comparison and its configuration file."""
    file = prepare(tmp_path_factory.mktemp("done") / "here", {"plots = false": "plots = true"})
    return file, compare_file(file)


class TestResults:
    def test_files(self, done: tuple[Path, Comparison]) -> None:
        file, result = done
        assert result.folder == file.parent / "results/compare"
        names = ["comparison.txt", "comparison.md", "comparison.json", "errors.png", "forces.png"]
        assert [path.name for path in result.files] == names
        assert all(path.parent == result.folder and path.stat().st_size for path in result.files)
        assert (result.folder / "comparison.txt").read_text() == result.table() + "\n"
        content = json.loads((result.folder / "comparison.json").read_text())
        assert list(content["methods"]) == NAMES
        assert content["methods"]["direct"]["energy_mae"] == result.metrics["direct"]["energy_mae"]
        assert (content["units"]["energy_mae"], content["units"]["training_seconds"]) == ("eV", "s")
        assert "method: GPR-ANN" in (result.folder / "run.log").read_text()

    def test_table(self, done: tuple[Path, Comparison]) -> None:
        _, result = done
        lines = result.table().splitlines()
        assert max(len(line) for line in lines) <= 120
        assert [line.split("  ")[0] for line in lines[5:]] == [
            "energies only",
            "Taylor-ANN",
            "GPR-ANN",
            "direct forces",
        ]
        taylor = lines[6].split()
        metrics = result.metrics["taylor"]
        assert taylor[1] == "21"
        assert float(taylor[2]) == pytest.approx(1000 * metrics["energy_mae"], rel=6e-3)
        assert float(taylor[8]) == pytest.approx(metrics["force_mae"], rel=6e-3)
        assert len(result.markdown().splitlines()) == 6
        assert "| force magnitude MAE eV/Å |" in result.markdown()

    def test_methods_are_what_the_python_interface_gives(self, done: tuple[Path, Comparison]) -> None:
        """The displacement, which is not given, is each method's own; options of forces are those of direct alone."""
        file, result = done
        data = gprann.read(file.parent / "train.extxyz")
        descriptor = gprann.ChebyshevDescriptor(["H"], radial_cutoff=8.0, angular_order=None)
        options: dict[str, Any] = {
            "hidden": (4,),
            "iterations": 6,
            "starts": 2,
            "start_iterations": 3,
            "members": 2,
        }
        expected = {
            "energies": gprann.train(data, descriptor, **options),
            "taylor": gprann.train(gprann.taylor_augment(data, copies=2), descriptor, **options),
            "gpr": gprann.train(gprann.augment(data, kernel="pairs", copies=2), descriptor, **options),
            "direct": gprann.train(data, descriptor, forces=True, force_fraction=0.5, **options),
        }
        for name, potential in expected.items():
            found = gprann.load(result.runs[name].potential)
            assert np.array_equal(found.parameters, potential.parameters), name
            report = gprann.evaluate(potential, file.parent / "test.extxyz")
            assert result.metrics[name]["force_angle_msd"] == report.force_angle_msd

    def test_times(self, done: tuple[Path, Comparison]) -> None:
        _, result = done
        for name, metrics in result.metrics.items():
            training = gprann.load(result.runs[name].potential).provenance["training"]
            assert metrics["training_seconds"] == pytest.approx(sum(training["member_seconds"]), abs=0.02)
            assert 0 < metrics["training_seconds"] <= training["seconds"] + 0.1
        assert result.metrics["gpr"]["label_seconds"] > 0
        assert result.metrics["energies"]["label_seconds"] < 0.5 * result.metrics["gpr"]["label_seconds"]

    def test_one_displacement_for_both(self, folder: Path) -> None:
        file = prepare(folder, {"copies = 2": "copies = 2\ndisplacement = 0.03"})
        result = compare_file(file, methods=["taylor", "gpr"])
        data = gprann.read(folder / "train.extxyz")
        for name, copies in (
            ("taylor", gprann.taylor_augment(data, copies=2, displacement=0.03)),
            ("gpr", gprann.augment(data, kernel="pairs", copies=2, displacement=0.03)),
        ):
            written = gprann.read(result.runs[name].folder / "augmented.extxyz")
            assert np.allclose(written.energies, copies.energies, atol=1e-10)

    def test_a_subset_in_the_usual_order(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        arguments = ["compare", str(folder / "config.toml"), "--methods", "direct", "energies"]
        assert main([*arguments, "-q"]) == 0
        out = capsys.readouterr().out
        assert out.index("energies only") < out.index("direct forces")
        assert "GPR-ANN" not in out
        assert not (folder / "results/compare/gpr").exists()
        rest = compare_file(folder / "config.toml", methods=("gpr", "direct", "gpr"))
        assert list(rest.runs) == ["gpr", "direct"]
        assert rest.runs["direct"].skipped == STAGES

    def test_run_and_compare_in_one_folder(self, folder: Path) -> None:
        compare_file(folder / "config.toml", methods=["energies"])
        run(folder / "config.toml")
        assert compare_file(folder / "config.toml", methods=["energies"]).runs["energies"].skipped == STAGES
        assert run(folder / "config.toml").skipped == GPR_STAGES

    def test_test_set_without_forces(self, folder: Path) -> None:
        file = prepare(folder, {"plots = false": "plots = true"})
        bare = gprann.Dataset(s.replace(forces=None) for s in gprann.examples.hydrogen(5))
        gprann.write(folder / "test.extxyz", bare)
        result = compare_file(file, methods=["energies"])
        assert [path.name for path in result.files[3:]] == ["errors.png"]
        assert result.table().splitlines()[-1].split()[5:11] == ["-"] * 6

    def test_without_matplotlib_the_table_is_there(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        file = prepare(folder, {"plots = false": "plots = true"})
        with monkeypatch.context() as patch:
            patch.setitem(sys.modules, "matplotlib", None)
            result = compare_file(file, methods=["energies"])
        assert [path.suffix for path in result.files] == [".txt", ".md", ".json"]
        assert "no figures in" in caplog.text
        assert "pip install 'gprann[plot]'" in caplog.text
        assert len(compare_file(file, methods=["energies"]).files) == 5

    def test_on_a_test_set_that_is_split_off(self, folder: Path) -> None:
        file = prepare(folder, {'data.test = "test.extxyz"': ""})
        gprann.write(folder / "train.extxyz", gprann.examples.hydrogen(20))
        result = compare_file(file, methods=["energies", "direct"])
        assert [metrics["n_structures"] for metrics in result.metrics.values()] == [2, 2]
        assert [metrics["structures"] for metrics in result.metrics.values()] == [18, 18]
        assert compare_file(file, methods=["direct"]).runs["direct"].skipped == STAGES


class TestGoingOn:
    def test_nothing_is_repeated(self, done: tuple[Path, Comparison]) -> None:
        file, first = done
        before = {path: path.stat().st_mtime_ns for path in first.folder.rglob("*.gprann")}
        before[first.folder / "forces.png"] = (first.folder / "forces.png").stat().st_mtime_ns
        second = compare_file(file)
        assert {name: run.skipped for name, run in second.runs.items()} == {
            name: GPR_STAGES if name == "gpr" else STAGES for name in NAMES
        }
        assert (second.metrics, second.table(), second.files) == (first.metrics, first.table(), first.files)
        assert {path: path.stat().st_mtime_ns for path in before} == before

    def test_the_surrogate_is_fitted_once(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        fit, fitted = Surrogate.fit, []

        def counted(self: Surrogate, data: gprann.Dataset) -> Surrogate:
            fitted.append(len(data))
            return fit(self, data)

        monkeypatch.setattr(Surrogate, "fit", counted)
        compare_file(folder / "config.toml")
        compare_file(folder / "config.toml")
        assert fitted == [7]

    def test_killed_while_it_trains(self, folder: Path) -> None:
        file = prepare(folder, SLOW)
        names = ["energies", "direct"]
        states = folder / "results/compare/direct/checkpoints/training"
        process = subprocess.Popen(
            [sys.executable, "-m", "gprann", "compare", "config.toml", "--methods", *names],
            cwd=folder,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + DEADLINE
        while not list(states.glob("*.state")) and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.002)
        assert list(states.glob("*.state")), "the training has not begun"
        process.send_signal(signal.SIGKILL)
        process.wait(timeout=DEADLINE)
        assert not (folder / "results/compare/comparison.txt").exists()
        result = compare_file(file, methods=names)
        assert result.runs["energies"].skipped == STAGES
        assert result.runs["direct"].skipped == ("augmentation",)
        fresh = compare_file(prepare(folder / "fresh", SLOW), methods=names)
        assert numbers(result) == numbers(fresh)

    def test_time_of_an_interrupted_training_counts(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        save = OptimizerState.save

        def interrupted(self: OptimizerState, *arguments: Any) -> None:
            self.seconds += 1000.0
            save(self, *arguments)
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(OptimizerState, "save", interrupted)
            with pytest.raises(KeyboardInterrupt):
                compare_file(folder / "config.toml", methods=["energies"])
        result = compare_file(folder / "config.toml", methods=["energies"])
        assert 1000.0 < result.metrics["energies"]["training_seconds"] < 1000.0 + DEADLINE

    def test_interruption_says_how_to_go_on(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        def interrupted(*_: Any) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr(OptimizerState, "save", interrupted)
        monkeypatch.chdir(folder)
        assert main(["compare", "config.toml", "-q"]) == 130
        assert "kept, go on with: gprann compare config.toml" in capsys.readouterr().err


class TestRefusals:
    def test_no_test_set(self, folder: Path) -> None:
        file = prepare(folder, {'data.test = "test.extxyz"': ""})
        with pytest.raises(ConfigError, match=r"config\.toml: data\.test: is missing; .*test = "):
            compare_file(file)
        with pytest.raises(ConfigError, match=r"^data\.test: is missing"):
            compare(load_config(file))
        assert not (folder / "results").exists()

    @pytest.mark.parametrize(
        ("methods", "message"),
        [
            (["gpr", "directt"], "methods: 'directt' is unknown; did you mean 'direct'?"),
            ("gpr2", "did you mean 'gpr'?"),
            ([], "methods: expected at least one of energies, taylor, gpr, direct"),
        ],
    )
    def test_methods(self, folder: Path, methods: Any, message: str) -> None:
        with pytest.raises(ConfigError) as caught:
            compare_file(folder / "config.toml", methods=methods)
        assert message in str(caught.value)
        assert not (folder / "results").exists()

    def test_forces_that_a_later_method_needs(self, folder: Path) -> None:
        """Refused before the first method is trained."""
        bare = gprann.Dataset(s.replace(forces=None) for s in gprann.examples.hydrogen(7))
        gprann.write(folder / "train.extxyz", bare)
        with pytest.raises(DataError, match="no structure of the training set has forces"):
            compare_file(folder / "config.toml", methods=["energies", "direct"])
        with pytest.raises(DataError, match=r"has no forces .* 'taylor' needs"):
            compare_file(folder / "config.toml")
        assert not list((folder / "results").rglob("*.gprann"))
        compare_file(folder / "config.toml", methods=["energies"])

    def test_memory_of_any_method(self, folder: Path) -> None:
        file = prepare(folder, {"plots = false": "plots = false\n[resources]\nmemory = 0.2"})
        with pytest.raises(ConfigError, match=r"the run needs about 0\.3 GiB of memory"):
            compare_file(file)
        assert not list((folder / "results").rglob("augmented.extxyz"))

    def test_results_of_another_configuration(self, folder: Path) -> None:
        compare_file(folder / "config.toml", methods=["energies"])
        (folder / "second.toml").write_text(CONFIG)
        with pytest.raises(ConfigError, match=r"second\.toml: .* holds the results of .*config\.toml"):
            compare_file(folder / "second.toml", methods=["energies"])
