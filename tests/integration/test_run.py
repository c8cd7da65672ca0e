"""`gprann run`: what it leaves, that it goes on bit by bit after an interruption, and what it refuses."""

from __future__ import annotations

import csv
import json
import logging
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gprann
from gprann.config import SurrogateSection, load_config
from gprann.errors import ConfigError, DataError
from gprann.pipeline import RunResult, run
from gprann.pipeline.inputs import check_memory
from gprann.runtime.resources import available_memory
from gprann.surrogate import Surrogate, memory_needed

CONFIG = """
data.train = "train.extxyz"
data.test = "test.extxyz"
[descriptor]
radial_cutoff = 8.0
angular_order = "none"
[surrogate]
kernel = "pairs"
[augmentation]
copies = 3
displacement = 0.05
[training]
members = 2
hidden = [4]
iterations = 8
starts = 2
start_iterations = 3
[output]
plots = false
"""
SLOW = {
    "iterations = 8\nstarts = 2\nstart_iterations = 3": 'optimizer = "adamw"\niterations = 1000\npatience = 1000'
}
"""Long enough to be interrupted, with a state saved every few milliseconds."""
STAGES = ("augmentation", "surrogate", "training", "report")
DEADLINE = 60.0  # s


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with training and test structures and a configuration."""
    gprann.write(tmp_path / "train.extxyz", gprann.examples.hydrogen(7))
    gprann.write(tmp_path / "test.extxyz", gprann.examples.hydrogen(20, 0.97, 2.03))
    (tmp_path / "config.toml").write_text(CONFIG)
    return tmp_path


def change(folder: Path, replacements: dict[str, str]) -> None:
    file = folder / "config.toml"
    text = file.read_text()
    for old, new in replacements.items():
        assert old in text
        text = text.replace(old, new)
    file.write_text(text)


def contents(folder: Path) -> dict[str, Any]:
    """Return all numbers that a run has left; the model file itself also holds how long the training took."""
    potential = gprann.load(folder / "potential.gprann")
    return {
        "augmented": (folder / "augmented.extxyz").read_bytes(),
        "parameters": potential.parameters.tobytes(),
        "normalisation": potential.normalisation.mean.tobytes()
        + potential.normalisation.inverse_scale.tobytes(),
        "history": potential.provenance["training"]["history"],
        "metrics": (folder / "report/metrics.json").read_bytes(),
    }


class TestResults:
    def test_files(self, folder: Path) -> None:
        result = run(folder / "config.toml")
        results = folder / "results"
        assert (result.folder, result.potential, result.skipped) == (
            results,
            results / "potential.gprann",
            (),
        )
        augmented = gprann.read(results / "augmented.extxyz")
        assert [s.origin.method for s in augmented] == ["reference"] * 7 + ["gpr"] * 21
        for name in ("test", "training"):
            assert (results / "report" / name / "summary.txt").is_file()
        expected = gprann.evaluate(gprann.load(result.potential), folder / "test.extxyz")
        assert result.metrics["test"]["energy_mae"] == expected.energy_mae
        assert result.metrics["training"]["n_structures"] == 7
        assert result.summary == (results / "report/summary.txt").read_text()
        assert not (results / "label_next.extxyz").exists()

    def test_is_what_the_python_interface_gives(self, folder: Path) -> None:
        result = run(folder / "config.toml")
        data = gprann.read(folder / "train.extxyz")
        augmented = gprann.augment(data, kernel="pairs", copies=3, displacement=0.05)
        descriptor = gprann.ChebyshevDescriptor(["H"], radial_cutoff=8.0, angular_order=None)
        options: dict[str, Any] = {
            "hidden": (4,),
            "iterations": 8,
            "starts": 2,
            "start_iterations": 3,
            "members": 2,
        }
        expected = gprann.train(augmented, descriptor, **options)
        assert np.array_equal(gprann.load(result.potential).parameters, expected.parameters)

    def test_configuration_is_kept_with_all_defaults(self, folder: Path) -> None:
        result = run(folder / "config.toml")
        assert load_config(result.folder / "config.toml") == load_config(folder / "config.toml")
        assert "radial_order = 12" in (result.folder / "config.toml").read_text()
        again = run(result.folder / "config.toml")
        assert len(again.skipped) == 4

    def test_log_and_provenance(self, folder: Path) -> None:
        handlers = list(logging.getLogger("gprann").handlers)
        result = run(folder / "config.toml")
        log = (result.folder / "run.log").read_text().splitlines()
        assert all(time.strptime(line[:19], "%Y-%m-%d %H:%M:%S") for line in log)
        assert any("memory: about" in line for line in log)
        assert handlers == logging.getLogger("gprann").handlers
        provenance = gprann.load(result.potential).provenance
        assert provenance["config"]["augmentation"]["copies"] == 3
        assert provenance["training_data"]["structures"] == 7
        assert [surrogate["kernel"] for surrogate in provenance["surrogates"]] == ["pairs"]

    def test_plots(self, folder: Path) -> None:
        change(folder, {"plots = false": "plots = true"})
        result = run(folder / "config.toml")
        for name in ("energy_parity", "force_parity", "learning_curve", "force_direction_error"):
            assert (result.folder / f"report/test/{name}.png").is_file()

    def test_uncertain_copies_are_set_apart(self, folder: Path) -> None:
        change(folder, {"copies = 3": "copies = 3\nthreshold = 0.0001"})
        result = run(folder / "config.toml")
        label_next = gprann.read(result.folder / "label_next.extxyz", require=())
        left_out = 28 - len(gprann.read(result.folder / "augmented.extxyz"))
        assert 0 < len(label_next) <= left_out
        assert all(np.sqrt(structure.energy_variance) > 2 * 0.0001 for structure in label_next)
        change(folder, {"threshold = 0.0001": ""})
        run(folder / "config.toml")
        assert not (result.folder / "label_next.extxyz").exists()

    def test_copies_carry_forces_where_asked(self, folder: Path) -> None:
        change(folder, {"copies = 3": "copies = 3\nforces = true"})
        result = run(folder / "config.toml")
        data = gprann.read(folder / "train.extxyz")
        expected = gprann.augment(data, kernel="pairs", copies=3, displacement=0.05, forces=True)
        found = gprann.read(result.folder / "augmented.extxyz")
        np.testing.assert_array_equal(np.array(found.forces), np.array(expected.forces))

    @pytest.mark.parametrize("method", ["taylor", "none"])
    def test_other_methods(self, folder: Path, method: str) -> None:
        change(folder, {"copies = 3": f'copies = 3\nmethod = "{method}"', 'kernel = "pairs"': ""})
        result = run(folder / "config.toml")
        methods = [s.origin.method for s in gprann.read(result.folder / "augmented.extxyz")]
        assert methods == ["reference"] * 7 + [method] * (21 if method == "taylor" else 0)

    @pytest.mark.parametrize("kernel", ["pairs", "atoms"])
    def test_second_order_taylor_uses_the_surrogates_hessian(self, folder: Path, kernel: str) -> None:
        change(
            folder,
            {"copies = 3": 'copies = 3\nmethod = "taylor"\norder = 2', '"pairs"': f'"{kernel}"'},
        )
        result = run(folder / "config.toml")
        data = gprann.read(folder / "train.extxyz")
        surrogate = Surrogate(kernel=kernel).fit(data)  # type: ignore[arg-type]
        expected = gprann.taylor_augment(data, copies=3, displacement=0.05, hessians=surrogate)
        found = gprann.read(result.folder / "augmented.extxyz")
        np.testing.assert_allclose(found.energies, expected.energies, rtol=0, atol=1e-9)
        first = gprann.taylor_augment(data, copies=3, displacement=0.05)
        assert np.abs(found.energies - first.energies).max() > 0.01

    def test_second_order_taylor_fits_each_surrogate_once(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The surrogate that gives the Hessians is the one that is judged."""
        change(folder, {"copies = 3": 'copies = 3\nmethod = "taylor"\norder = 2'})
        fit, fitted = Surrogate.fit, []

        def counted(self: Surrogate, data: gprann.Dataset) -> Surrogate:
            fitted.append(len(data))
            return fit(self, data)

        monkeypatch.setattr(Surrogate, "fit", counted)
        assert run(folder / "config.toml").metrics["surrogate"]["n_structures"] == 20
        assert fitted == [7]

    def test_sizes_of_elements(self, folder: Path) -> None:
        change(folder, {"displacement = 0.05": "displacement = { H = 0.05 }"})
        table = run(folder / "config.toml")
        change(
            folder,
            {"displacement = { H = 0.05 }": "displacement = 0.05", "[output]": '[output]\nfolder = "b"'},
        )
        number = run(folder / "config.toml")
        assert (table.folder / "augmented.extxyz").read_bytes() == (
            number.folder / "augmented.extxyz"
        ).read_bytes()
        assert load_config(table.folder / "config.toml").augmentation.displacement == {"H": 0.05}

    def test_automatic_sizes_are_noted(self, folder: Path) -> None:
        change(folder, {"copies = 3\ndisplacement = 0.05\n": ""})
        result = run(folder / "config.toml")
        (surrogate,) = gprann.load(result.potential).provenance["surrogates"]
        assert surrogate["policy"] == "gaussian"
        assert 0.005 <= surrogate["displacement"] <= 0.1
        rejected = result.folder / "label_next.extxyz"
        apart = len(gprann.read(rejected, require=())) if rejected.is_file() else 0
        assert len(gprann.read(result.folder / "augmented.extxyz")) == 7 * 11 - apart

    def test_several_compositions(self, folder: Path) -> None:
        result = run(mixed(folder))
        assert [s["n_structures"] for s in gprann.load(result.potential).provenance["surrogates"]] == [7, 6]


@pytest.mark.slow
@pytest.mark.data
@pytest.mark.filterwarnings("ignore::gprann.io.DataWarning")  # H2 has other energies per atom than the rest
def test_a_heterogeneous_database_needs_no_word_from_the_user(tmp_path: Path, shared_data: Path) -> None:
    """Molecules, clusters and a periodic slab, shuffled: split, fitted together, augmented, trained by default."""
    counts = {"h2": 7, "ec_dimer": 10, "li_ec": 6}
    parts = [gprann.read(shared_data / name / "train.extxyz")[:n] for name, n in counts.items()]
    data = gprann.Dataset(structure for part in parts for structure in part)
    shuffled = data.select(np.random.default_rng(0).permutation(len(data)))
    gprann.write(tmp_path / "train.extxyz", shuffled)
    (tmp_path / "config.toml").write_text(
        'method = "manual"\ndata.train = "train.extxyz"\n[output]\nplots = false\n'
    )
    result = run(tmp_path / "config.toml")
    potential = gprann.load(result.potential)
    surrogates = potential.provenance["surrogates"]
    assert [item["n_structures"] for item in surrogates] == [21]  # one of ten, one of seven are tested
    assert 0.005 <= surrogates[0]["displacement"] <= 0.1
    augmented = gprann.read(result.folder / "augmented.extxyz")
    copies = Counter(s.formula for s in augmented if s.origin.method == "gpr")
    assert copies["C6H8O6"] > 0.9 * 324
    assert copies["C3H4Li36O3"] > 0.9 * 216
    assert copies["H2"] > 0.9 * 60
    for part in parts:
        error = np.abs(potential.predict(part).energy - part.energies).mean()
        assert error < np.std(augmented.filter(lambda s, f=part[0].formula: s.formula == f).energies)


def mixed(folder: Path) -> Path:
    """Add structures of another composition to the training set; return the configuration."""
    h2 = gprann.examples.hydrogen(7)
    rng = np.random.default_rng(1)
    water = []
    for k in range(6):
        shift = rng.normal(0, 0.05, (3, 3))
        shift -= shift.mean(axis=0)
        positions = np.array([[0, 0, 0], [0.96, 0, 0], [-0.24, 0.93, 0]]) + shift
        origin = gprann.data.structure.Origin("water", k)
        water.append(
            gprann.Structure(
                ("O", "H", "H"),
                positions,
                energy=-14.0 + 5.0 * float((shift**2).sum()),
                forces=-10.0 * shift,
                origin=origin,
            )
        )
    gprann.write(folder / "train.extxyz", h2 + gprann.Dataset(water))
    return folder / "config.toml"


class TestGoingOn:
    def test_a_finished_run_is_not_repeated(self, folder: Path) -> None:
        first = run(folder / "config.toml")
        before = {path: path.stat().st_mtime_ns for path in first.folder.rglob("*.gprann")}
        second = run(folder / "config.toml")
        assert second.skipped == STAGES
        assert (second.summary, second.metrics) == (first.summary, first.metrics)
        assert {path: path.stat().st_mtime_ns for path in before} == before

    @pytest.mark.parametrize(
        ("change_of", "skipped"),
        [
            ({"plots = false": "plots = false\n[resources]\nworkers = 1"}, STAGES),
            ({"plots = false": "plots = false\n[resources]\nmemory = 3"}, ()),  # the surrogate's solver
            ({"members = 2": "members = 3"}, STAGES[:2]),
            ({"radial_cutoff = 8.0": "radial_cutoff = 7.0"}, STAGES[:2]),
            ({"copies = 3": "copies = 2"}, ()),
            ({'kernel = "pairs"': 'kernel = "atoms"'}, ()),
            ({'data.test = "test.extxyz"': ""}, ("augmentation", "training")),
        ],
    )  # fmt: skip
    def test_a_change_repeats_what_depends_on_it(
        self, folder: Path, change_of: dict[str, str], skipped: tuple[str, ...]
    ) -> None:
        run(folder / "config.toml")
        change(folder, change_of)
        result = run(folder / "config.toml")
        assert result.skipped == skipped
        moved = folder / "fresh"
        moved.mkdir()
        for name in ("train.extxyz", "test.extxyz", "config.toml"):
            (moved / name).write_bytes((folder / name).read_bytes())
        run(moved / "config.toml")
        assert contents(folder / "results") == contents(moved / "results")
        assert (folder / "results/report/test").exists() == (
            "data.test" in (folder / "config.toml").read_text()
        )

    def test_changed_data_repeat_everything(self, folder: Path) -> None:
        run(folder / "config.toml")
        data = gprann.examples.hydrogen(7)
        shifted = gprann.Dataset(s.replace(energy=(s.energy or 0.0) + 1e-9) for s in data)
        gprann.write(folder / "train.extxyz", shifted)
        assert run(folder / "config.toml").skipped == ()

    def test_hessians_of_the_user(self, folder: Path) -> None:
        """Relative to the configuration; another content of the file repeats everything, a wrong one is refused."""
        hessians = np.random.default_rng(1).normal(size=(7, 6, 6))
        np.savez(folder / "h.npz", *hessians)
        taylor = 'method = "taylor"\norder = 2\nhessians = "h.npz"\ncopies = 3'
        change(
            folder,
            {
                "copies = 3": taylor,
                "displacement = 0.05": "displacement = 0.02",
                'kernel = "pairs"': "",
            },
        )
        result = run(folder / "config.toml")
        data = gprann.read(folder / "train.extxyz")
        expected = gprann.taylor_augment(data, copies=3, displacement=0.02, hessians=list(hessians))
        assert gprann.read(result.folder / "augmented.extxyz").energies.tolist() == expected.energies.tolist()
        assert run(folder / "config.toml").skipped == ("augmentation", "training", "report")
        np.savez(folder / "h.npz", *(2 * hessians))
        assert run(folder / "config.toml").skipped == ()
        np.savez(folder / "h.npz", *hessians[:6])
        with pytest.raises(
            DataError, match=r"h\.npz: holds 6 arrays .* expected one for each of 7 structures"
        ):
            run(folder / "config.toml")

    def test_a_damaged_result_is_made_again(self, folder: Path) -> None:
        result = run(folder / "config.toml")
        before = contents(result.folder)
        result.potential.write_bytes(result.potential.read_bytes()[:1000])
        assert run(folder / "config.toml").skipped == ("augmentation", "surrogate", "report")
        assert contents(result.folder) == before
        (result.folder / "checkpoints/training.json").write_text("{")
        assert run(folder / "config.toml").skipped == ("augmentation", "surrogate", "report")

    def test_finished_subsets_are_kept(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("GPRANN_NUM_THREADS", "1")  # side by side the first might not have finished
        config = mixed(folder)
        fit, fitted = Surrogate.fit, []

        def interrupted(self: Surrogate, data: gprann.Dataset) -> Surrogate:
            if data.species == ("H", "O"):
                raise KeyboardInterrupt
            return fit(self, data)

        def counted(self: Surrogate, data: gprann.Dataset) -> Surrogate:
            fitted.append(data[0].formula)
            return fit(self, data)

        monkeypatch.setattr(Surrogate, "fit", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run(config)
        monkeypatch.setattr(Surrogate, "fit", counted)
        run(config)
        assert fitted == ["H2O"]
        before = contents(folder / "results")
        monkeypatch.undo()
        run(load_config(config).model_copy(update={"output": output(folder / "other")}))
        assert contents(folder / "other") == before

    def test_what_other_options_have_left_is_removed(self, folder: Path) -> None:
        """Once the stage is finished; of structures that are added only their subsets are labelled anew."""
        config = mixed(folder)

        def left() -> tuple[set[str], set[str]]:
            checkpoints = folder / "results/checkpoints"
            labels, tests = (
                {file.name for file in (checkpoints / name).iterdir()}
                for name in ("labels", "surrogate_tests")
            )
            return labels, tests

        run(config)
        first = left()
        assert [len(names) for names in first] == [4, 4]  # two subsets, each with a record and a file
        change(folder, {"copies = 3": "copies = 2"})
        run(config)
        second = left()
        assert [len(names) for names in second] == [4, 4]
        assert not any(a & b for a, b in zip(first, second, strict=True))
        data = gprann.read(folder / "train.extxyz")
        more = data[-1].replace(positions=1.01 * data[-1].positions)
        gprann.write(folder / "train.extxyz", [*data, more])
        run(config)
        assert [len(a & b) for a, b in zip(second, left(), strict=True)] == [2, 2]
        assert [len(names) for names in left()] == [4, 4]


def output(folder: Path) -> Any:
    from gprann.config import OutputSection

    return OutputSection(folder=str(folder), plots=False)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Results of a run that was not interrupted."""
    folder = tmp_path_factory.mktemp("whole")
    gprann.write(folder / "train.extxyz", gprann.examples.hydrogen(7))
    gprann.write(folder / "test.extxyz", gprann.examples.hydrogen(20, 0.97, 2.03))
    (folder / "config.toml").write_text(CONFIG)
    change(folder, SLOW)
    run(folder / "config.toml")
    return contents(folder / "results")


class TestSurrogate:
    """What the surrogates are worth on the test set."""

    def test_errors_and_coverage(self, folder: Path) -> None:
        change(folder, {"plots = false": "plots = true"})
        result = run(folder / "config.toml")
        surrogate = Surrogate("pairs").fit(gprann.read(folder / "train.extxyz"))
        expected = gprann.evaluate(surrogate, gprann.read(folder / "test.extxyz"))
        assert result.metrics["surrogate"] == expected.to_dict()
        report = folder / "results/report/surrogate"
        names = {file.name for file in report.iterdir()}
        assert {"metrics.json", "summary.txt", "structures.csv", "uncertainty_calibration.png"} <= names
        assert (report / "summary.txt").read_text() == expected.summary()
        *_, errors, coverage = result.summary.strip().splitlines()
        assert errors.startswith("20 of 20 test structures: energy MAE ")
        assert "force component MAE " in errors
        assert coverage.startswith("errors within one / two standard deviations")

    def test_another_test_set(self, folder: Path) -> None:
        """Labels and training are kept; the surrogate is fitted again, to the same bits."""
        first = run(folder / "config.toml")
        before = first.metrics["surrogate"]
        gprann.write(folder / "test.extxyz", gprann.examples.hydrogen(15, 0.97, 2.03))
        second = run(folder / "config.toml")
        assert second.skipped == ("augmentation", "training")
        assert second.metrics["surrogate"]["n_structures"] == 15
        gprann.write(folder / "test.extxyz", gprann.examples.hydrogen(20, 0.97, 2.03))
        third = run(folder / "config.toml")
        assert third.metrics["surrogate"] == before
        change(folder, {"copies = 3": 'copies = 3\nmethod = "none"', "displacement = 0.05": ""})
        last = run(folder / "config.toml")
        assert "surrogate" not in last.metrics
        assert not (last.folder / "report/surrogate").exists()

    def test_several_subsets(self, folder: Path) -> None:
        """The surest surrogate of a composition counts; structures that none knows are left out."""
        change(folder, {"copies = 3": "copies = 3\nmax_subset = 4"})
        test = gprann.read(folder / "test.extxyz")
        h3 = gprann.Structure(("H",) * 3, [[0.0, 0, 0], [1.0, 0, 0], [0, 1.0, 0]], energy=-1.0)
        gprann.write(folder / "test.extxyz", [*test[:9], h3, *test[9:]])
        result = run(folder / "config.toml")
        surrogates = gprann.fit_surrogates(gprann.read(folder / "train.extxyz"), max_subset=4, kernel="pairs")
        assert len(surrogates) == 2
        energies = surrogates.predict(test).energy
        error = float(np.abs(energies - test.energies).mean())
        assert result.metrics["surrogate"]["energy_mae"] == pytest.approx(error, rel=1e-9)
        assert "20 of 21 test structures" in result.summary

    @pytest.mark.parametrize("method", ['method = "gpr"', 'method = "taylor"\norder = 2'])
    def test_factors_for_species_that_some_subsets_lack(self, folder: Path, method: str) -> None:
        n2 = gprann.Dataset(s.replace(symbols=("N", "N")) for s in gprann.examples.hydrogen(7))
        gprann.write(folder / "train.extxyz", gprann.examples.hydrogen(7) + n2)
        change(folder, {'"pairs"': '"atoms"\nspecies_lengths = {H = 0.7}', "copies = 3": method})
        result = run(folder / "config.toml")
        assert result.metrics["surrogate"]["n_structures"] == 20
        surrogates = gprann.fit_surrogates(gprann.read(folder / "train.extxyz"), species_lengths={"H": 0.7})
        expected = gprann.evaluate(surrogates, gprann.read(folder / "test.extxyz"))
        assert result.metrics["surrogate"]["energy_mae"] == pytest.approx(expected.energy_mae, rel=1e-9)

    def test_structures_that_cannot_be_compared(self, folder: Path) -> None:
        """Only those that no surrogate takes are left out; without any others there is no judgement."""
        change(folder, {'"pairs"': '"cartesian"'})
        test = gprann.read(folder / "test.extxyz")
        turned = test[0].replace(positions=test[0].positions[:, [2, 0, 1]], forces=None)
        gprann.write(folder / "test.extxyz", [*test, turned])
        result = run(folder / "config.toml")
        assert "20 of 21 test structures" in result.summary
        assert result.metrics["surrogate"]["n_structures"] == 20
        gprann.write(folder / "test.extxyz", [turned])
        result = run(folder / "config.toml")
        assert "surrogate" not in result.metrics
        assert run(folder / "config.toml").skipped == STAGES


@pytest.mark.skipif(os.name != "posix", reason="signals of a shell")
class TestInterruption:
    """A process killed while it trains: the next one goes on and ends with the same bits."""

    @pytest.mark.parametrize(
        ("how", "workers", "code"),
        [(signal.SIGKILL, 1, -signal.SIGKILL), (signal.SIGKILL, 2, -signal.SIGKILL), (signal.SIGINT, 1, 130)],
    )
    def test_goes_on_with_the_same_bits(
        self, folder: Path, whole: dict[str, Any], how: signal.Signals, workers: int, code: int
    ) -> None:
        change(folder, SLOW | {"plots = false": f"plots = false\n[resources]\nworkers = {workers}"})
        returned, error = interrupted_run(folder, how)
        assert returned == code
        assert not (folder / "results/potential.gprann").exists()
        if how == signal.SIGINT:
            assert (
                "gprann: interrupted; what is finished is kept, go on with: gprann run config.toml" in error
            )
            assert "Traceback" not in error
        result = run(folder / "config.toml")
        assert result.skipped == STAGES[:2]
        assert contents(folder / "results") == whole


def interrupted_run(folder: Path, how: signal.Signals) -> tuple[int, str]:
    """Start a run in a process of its own, and stop it as soon as it has trained a little."""
    # What runs in the background of a shell ignores the interrupt, and so would what it starts.
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    process = subprocess.Popen(
        [sys.executable, "-m", "gprann", "run", "config.toml"],
        cwd=folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    signal.signal(signal.SIGINT, handler)
    state = folder / "results/checkpoints/training/member_000.state"
    deadline = time.monotonic() + DEADLINE
    while not state.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.002)
    assert state.exists(), "the training has not begun"
    process.send_signal(how)
    _, error = process.communicate(timeout=DEADLINE)
    return process.returncode, error


def test_test_structures_that_are_trained_on_are_named(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    train, test = gprann.read(folder / "train.extxyz"), gprann.read(folder / "test.extxyz")
    moved = train[2].replace(positions=train[2].positions + 1.0)
    gprann.write(folder / "test.extxyz", [*test[:4], moved, *test[4:], train[6]])
    result = run(folder / "config.toml")
    assert "2 of 22 test structures are in the training set too (test structures 4, 21; " in caplog.text
    assert "2 of 22 test structures" in (result.folder / "report/check.txt").read_text(encoding="utf-8")


class TestSplit:
    """Without a test set one is split off from the training structures."""

    def test_is_not_trained_on_and_said_in_the_report(
        self, folder: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        gprann.write(folder / "train.extxyz", gprann.examples.hydrogen(30))
        change(folder, {'data.test = "test.extxyz"': ""})
        with caplog.at_level(logging.INFO, "gprann"):
            result = run(folder / "config.toml")
        sentence = "3 of the 30 structures of data.train, split off and not trained on"
        assert sentence in caplog.text
        assert result.summary.splitlines()[2] == sentence
        assert [result.metrics[name]["n_structures"] for name in ("test", "training")] == [3, 27]
        assert result.metrics["surrogate"]["n_structures"] == 3
        trained = gprann.read(result.folder / "augmented.extxyz")[:27]
        with (result.folder / "report/test/structures.csv").open() as stream:
            tested = [float(row["energy_reference_eV"]) for row in csv.DictReader(stream)]
        assert np.abs(np.subtract.outer(tested, trained.energies)).min() > 1e-6
        assert run(folder / "config.toml").skipped == STAGES

    @pytest.mark.parametrize("fraction", ["0", "0.1"])
    def test_none_where_it_is_switched_off_or_the_data_are_few(
        self, folder: Path, fraction: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        change(folder, {'data.test = "test.extxyz"': f"data.test_fraction = {fraction}"})
        result = run(folder / "config.toml")
        assert list(result.metrics) == ["training"]
        assert result.metrics["training"]["n_structures"] == 7
        assert ("of 7 structures none can be split off" in caplog.text) == (fraction != "0")

    def test_given_hessians_belong_to_all_structures(self, folder: Path) -> None:
        gprann.write(folder / "train.extxyz", gprann.examples.hydrogen(30))
        np.savez(folder / "h.npz", *[np.eye(6)] * 30)
        change(
            folder,
            {
                'data.test = "test.extxyz"': "",
                "copies = 3": 'copies = 1\nmethod = "taylor"\norder = 2\nhessians = "h.npz"',
                'kernel = "pairs"': "",
            },
        )
        assert run(folder / "config.toml").metrics["training"]["n_structures"] == 30


class TestRefusals:
    def refused(self, folder: Path, match: str, error: type[Exception] = ConfigError) -> None:
        with pytest.raises(error, match=match):
            run(folder / "config.toml")
        assert not (folder / "results/augmented.extxyz").exists()

    def test_missing_files(self, folder: Path) -> None:
        (folder / "test.extxyz").unlink()
        self.refused(folder, r"test\.extxyz: no such file or folder", DataError)
        assert not (folder / "results").exists()

    def test_a_run_that_fails_claims_no_folder(self, folder: Path) -> None:
        """Neither for its own configuration nor against another one, whether there was a folder before or not."""
        (folder / "test.extxyz").rename(folder / "elsewhere.extxyz")
        (folder / "second.toml").write_text(CONFIG.replace("test.extxyz", "elsewhere.extxyz"))
        (folder / "results").mkdir()
        self.refused(folder, "no such file", DataError)
        assert run(folder / "second.toml").skipped == ()
        self.refused_by_owner(folder)

    def refused_by_owner(self, folder: Path) -> None:
        with pytest.raises(ConfigError, match=r"config\.toml: .* holds the results of .*second\.toml"):
            run(folder / "config.toml")

    def test_elements_that_only_the_test_set_has(self, folder: Path) -> None:
        odd = gprann.Structure(("O", "H"), [[0, 0, 0], [0, 0, 1.0]], energy=-1.0)
        gprann.write(folder / "test.extxyz", odd)
        self.refused(folder, "the element O is not among the species H", DataError)

    def test_missing_forces(self, folder: Path) -> None:
        data = gprann.examples.hydrogen(7)
        gprann.write(folder / "train.extxyz", gprann.Dataset(s.replace(forces=None) for s in data))
        self.refused(folder, 'has no forces .* method "none"', DataError)

    def test_memory(self, folder: Path) -> None:
        change(folder, {"plots = false": "plots = false\n[resources]\nmemory = 0.2"})
        self.refused(folder, r"the run needs about 0\.3 GiB of memory, 0\.2 GiB are available; ")

    def test_folder_with_other_files(self, folder: Path) -> None:
        (folder / "results").mkdir()
        (folder / "results/thesis.tex").write_text("precious")
        self.refused(folder, "holds files that no run of gprann has made; choose a new folder")
        assert [path.name for path in (folder / "results").iterdir()] == ["thesis.tex"]

    def test_results_of_another_configuration(self, folder: Path) -> None:
        first = run(folder / "config.toml")
        before = contents(first.folder)
        (folder / "second.toml").write_text(CONFIG.replace("copies = 3", "copies = 2"))
        with pytest.raises(
            ConfigError, match=r"second\.toml: .* holds the results of .*config\.toml; choose another"
        ):
            run(folder / "second.toml")
        assert contents(first.folder) == before
        (folder / "config.toml").unlink()  # renamed, so to speak
        assert run(folder / "second.toml").skipped == ()

    @pytest.mark.skipif(os.name != "posix", reason="locks of POSIX")
    def test_two_runs_at_once(self, folder: Path) -> None:
        import fcntl

        run(folder / "config.toml")
        with (folder / "results/checkpoints/lock").open("w") as stream:
            fcntl.flock(stream, fcntl.LOCK_EX)
            with pytest.raises(ConfigError, match="another run is active in"):
                run(folder / "config.toml")
        assert len(run(folder / "config.toml").skipped) == 4

    def test_own_results_as_data(self, folder: Path) -> None:
        change(folder, {'"train.extxyz"': '"**/*.extxyz"', 'data.test = "test.extxyz"': ""})
        run(folder / "config.toml")
        with pytest.raises(ConfigError, match=r"takes in results of this run \(.*\.extxyz\)"):
            run(folder / "config.toml")


class TestMemory:
    def test_large_sets_are_fitted_without_the_matrix(
        self, folder: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        """What `resources.memory` leaves beside the program is less than the matrix takes."""
        data = gprann.examples.hydrogen(200)
        assert (
            memory_needed(data, "conjugate_gradient", 20, features=36)
            < 0.008
            < memory_needed(data, features=36)
        )
        gprann.write(folder / "train.extxyz", data)
        given = "inducing = 20\nlength = 8.0\nenergy_noise = 1e-6\nforce_noise = 1e-6"
        change(
            folder,
            {
                'kernel = "pairs"': f'kernel = "pairs"\n{given}',
                "copies = 3": "copies = 1\nmax_subset = 200",
                "[output]": "[resources]\nmemory = 0.308\n[output]",
            },
        )
        with caplog.at_level(logging.INFO, "gprann"):
            result = run(folder / "config.toml")
        (surrogate,) = gprann.load(result.potential).provenance["surrogates"]
        assert surrogate["solver"] == "conjugate_gradient"
        assert "the covariance matrix of 1400 observations takes" in surrogate["solver_reason"]
        assert f"solver conjugate_gradient: {surrogate['solver_reason']}" in caplog.text

    def test_available(self) -> None:
        memory = available_memory()
        assert memory is None or 0.01 < memory < 1e6

    def test_remedy_fits(self, folder: Path, caplog: pytest.LogCaptureFixture) -> None:
        """With the number that the message names, the run is no longer refused."""
        atoms = 40
        rng = np.random.default_rng(0)
        structure = gprann.Structure(
            ("H",) * atoms, 10 * rng.random((atoms, 3)), energy=0.0, forces=np.zeros((atoms, 3))
        )
        data = gprann.Dataset([structure] * 200)
        config = load_config(folder / "config.toml")

        def limited(max_subset: int) -> Any:
            augmentation = config.augmentation.model_copy(update={"max_subset": max_subset})
            resources = config.resources.model_copy(update={"memory": 0.8})
            return config.model_copy(update={"augmentation": augmentation, "resources": resources})

        def with_solver(changed: Any, solver: str, **options: Any) -> Any:
            surrogate = SurrogateSection(kernel="pairs", solver=solver, **options)
            return changed.model_copy(update={"surrogate": surrogate})

        with pytest.raises(ConfigError, match=r"lower augmentation\.max_subset") as caught:
            check_memory(with_solver(limited(300), "cholesky"), data)
        assert 'set surrogate.solver to "auto"' in str(caught.value)
        remedy = int(re.search(r"to (\d+) or less", str(caught.value))[1])  # type: ignore[index]
        assert 1 < remedy < 200
        with caplog.at_level(logging.INFO, "gprann"):
            assert check_memory(with_solver(limited(remedy), "cholesky"), data) <= 0.8
        assert "allowed: 0.8 GiB" in caplog.text
        for solver in ("auto", "conjugate_gradient", "inducing"):
            assert check_memory(with_solver(limited(300), solver), data) <= 0.8
            with pytest.raises(ConfigError, match=r"lower surrogate\.inducing"):
                check_memory(with_solver(limited(300), solver, inducing=200), data)


def test_run_result_is_plain(folder: Path) -> None:
    result = run(folder / "config.toml")
    assert isinstance(result, RunResult)
    assert json.loads(json.dumps(result.metrics)) == result.metrics
