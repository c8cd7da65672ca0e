"""The command line: every command on tiny data, and what it answers to mistakes."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
from ase.calculators.lj import LennardJones

import gprann
import samples
from gprann.cli import commands
from gprann.cli.main import main, parse
from gprann.errors import ConfigError, FactorisationError, TrainingError
from gprann.io import DataWarning

SMALL = (
    "--angular-order",
    "none",
    "--radial-cutoff",
    "8",
    "--hidden",
    "4",
    "--iterations",
    "5",
    "--starts",
    "1",
)


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with seven H2 molecules, which is the working directory."""
    gprann.write(tmp_path / "train.extxyz", gprann.examples.hydrogen(7))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def answer(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    """Run a command; return exit code, standard output and standard error."""
    code = main(arguments)
    captured = capsys.readouterr()
    return code, captured.out, captured.err


class TestCommands:
    def test_augment_train_evaluate_info(self, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """The steps of the pipeline one by one; the results are those of the Python interface."""
        options = ["--kernel", "pairs", "--copies", "2", "--displacement", "0.05", "--seed", "3"]
        assert main(["augment", "train.extxyz", "-o", "augmented.extxyz", *options]) == 0
        expected = gprann.augment(
            gprann.examples.hydrogen(7), kernel="pairs", copies=2, displacement=0.05, seed=3
        )
        written = gprann.read("augmented.extxyz")
        assert np.allclose(written.energies, expected.energies, atol=1e-12)

        options[options.index("0.05")] = "H=0.05"
        assert main(["augment", "train.extxyz", "-o", "by_element.extxyz", *options]) == 0
        assert Path("by_element.extxyz").read_bytes() == Path("augmented.extxyz").read_bytes()

        training = ["train", "augmented.extxyz", "-o", "p.gprann", "--members", "2", *SMALL]
        assert main(training) == 0
        potential = gprann.load("p.gprann")
        assert (len(potential), potential.model.hidden) == (2, (4,))
        assert (potential.cutoff, potential.descriptor.angular_order) == (8.0, None)
        capsys.readouterr()

        code, out, _ = answer(["evaluate", "p.gprann", "train.extxyz", "--output", "errors"], capsys)
        assert code == 0
        assert "7 structures, forces on 14 atoms; mean of a committee of 2" in out
        metrics = json.loads((data / "errors/metrics.json").read_text())
        assert metrics["energy_mae"] == gprann.evaluate(potential, "train.extxyz").energy_mae
        assert (data / "errors/learning_curve.png").is_file()

        code, out, _ = answer(["info", "p.gprann"], capsys)
        assert code == 0
        assert f"{potential.model.n_parameters} per network" in out
        assert "7 reference structures, 14 copies" in out
        assert "training error" in out
        assert f"training data:       {data / 'augmented.extxyz'}"[:60] in out

    def test_taylor_copies(self, data: Path) -> None:
        options = ["--method", "taylor", "--copies", "3", "-q"]
        assert main(["augment", "train.extxyz", "-o", "t.xyz", *options]) == 0
        assert np.allclose(
            gprann.read(data / "t.xyz").energies,
            gprann.taylor_augment(gprann.examples.hydrogen(7), copies=3).energies,
        )

    def test_hessians_of_a_file(self, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
        hessians = list(np.random.default_rng(1).normal(size=(7, 6, 6)))
        np.savez("h.npz", *hessians)
        options = ["--method", "taylor", "--order", "2", "--hessians", "h.npz", "--copies", "3", "-q"]
        assert main(["augment", "train.extxyz", "-o", "t.xyz", *options]) == 0
        expected = gprann.taylor_augment(gprann.examples.hydrogen(7), copies=3, hessians=hessians)
        assert np.allclose(gprann.read(data / "t.xyz").energies, expected.energies)
        options[options.index("2")] = "1"
        code, _, error = answer(["augment", "train.extxyz", "-o", "t.xyz", *options], capsys)
        assert code == 2
        assert "--hessians = h.npz: has no effect, an expansion of order 1 has none, order 2 has" in error

    def test_threshold_sets_copies_apart(self, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
        options = [
            "--kernel",
            "pairs",
            "--copies",
            "3",
            "--displacement",
            "0.1",
            "--threshold",
            "0.0001",
            "-q",
        ]
        command = ["augment", "train.extxyz", "-o", "a.extxyz", *options]
        code, out, _ = answer(command, capsys)
        assert code == 0
        assert (
            "copies exceed the threshold and were left out; --label-next FILE keeps those worth labelling"
            in out
        )
        assert sorted(file.name for file in data.iterdir()) == ["a.extxyz", "train.extxyz"]
        code, out, _ = answer([*command, "--label-next", "label_next.extxyz"], capsys)
        assert code == 0
        accepted, uncertain = gprann.read("a.extxyz"), gprann.read("label_next.extxyz", require=())
        assert 7 <= len(accepted) < 7 + 21
        assert 0 < len(uncertain) <= 7 + 21 - len(accepted)
        assert (
            f"label_next.extxyz: {len(uncertain)} of the {28 - len(accepted)} copies exceed the threshold"
            in out
        )
        assert all(structure.energy is None for structure in uncertain)

    def test_the_automatic_threshold_sets_copies_apart_too(
        self, data: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("gprann.augmentation.policies._OUTLIER", 0.5)
        command = "augment train.extxyz -o a.extxyz --kernel pairs --copies 5 --label-next n.extxyz"
        code, out, error = answer(command.split(), capsys)
        uncertain = gprann.read("n.extxyz", require=())
        assert (code, len(uncertain) > 0) == (0, True)
        left_out = 7 + 35 - len(gprann.read("a.extxyz"))
        assert f"n.extxyz: {len(uncertain)} of the {left_out} copies exceed the threshold" in out
        assert f"35 copies wanted: {35 - left_out} labelled, 0 not made" in error

    def test_info_on_data_and_configuration(self, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
        code, out, _ = answer(["info", "train.extxyz"], capsys)
        assert (code, out.splitlines()[0]) == (0, "7 structures, 2 atoms each")
        (data / "c.toml").write_text('data.train = "train.extxyz"\ntraining.members = 4')
        code, out, _ = answer(["info", "c.toml"], capsys)
        assert code == 0
        assert tomllib.loads(out)["training"]["members"] == 4

    def test_init_and_run(self, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["init"]) == 0
        code, _, error = answer(["init"], capsys)
        assert code == 2
        assert "config.toml: exists" in error
        assert main(["init", "--force"]) == 0
        text = Path("config.toml").read_text()
        for old, new in (
            ("copies = 36", "copies = 1"),
            ('kernel = "atoms"', 'kernel = "pairs"'),
            ("hidden = [10, 10]", "hidden = [4]"),
            ("# iterations = ", "iterations = 5 # "),
            ("plots = true", "plots = false"),
        ):
            assert old in text
            text = text.replace(old, new, 1)
        Path("config.toml").write_text(text)
        code, out, error = answer(["run", "config.toml"], capsys)
        assert code == 0
        assert "training set" in out
        assert "potential.gprann" in out
        assert "memory: about" in error
        code, _, error = answer(["run", "config.toml"], capsys)
        assert code == 0
        assert error.count("finished by an earlier run") == 4
        out = answer(["info", "results/potential.gprann"], capsys)[1]
        assert "training data:       " in out
        errors = json.loads(Path("results/report/metrics.json").read_text())
        assert ("test errors:         " in out) == ("test" in errors)

    def test_energy_only_data(self, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
        bare = gprann.Dataset(s.replace(forces=None) for s in gprann.examples.hydrogen(7))
        gprann.write("bare.extxyz", bare)
        code, _, error = answer(["augment", "bare.extxyz", "-o", "a.extxyz"], capsys)
        assert code == 2
        assert "bare.extxyz, structure 0: has no forces (and so 7 of 7 structures)" in error
        assert main(["train", "bare.extxyz", "-o", "p.gprann", *SMALL, "-q"]) == 0
        assert "no reference forces" in answer(["evaluate", "p.gprann", "bare.extxyz"], capsys)[1]

    def test_select_by_a_surrogate(self, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
        candidates, options = gprann.examples.hydrogen(41), ["--kernel", "pairs", "--length", "2", "-q"]
        gprann.write("candidates.extxyz", candidates)
        command = ["select", "candidates.extxyz", "--train", "train.extxyz", "--count", "4", "-o", "s.extxyz"]
        code, out, _ = answer([*command, *options], capsys)
        assert code == 0
        assert "s.extxyz: 4 of 41 candidates, most informative first" in out
        surrogate = gprann.Surrogate("pairs", length=2.0).fit(gprann.read("train.extxyz"))
        expected = gprann.select(candidates, surrogate, 4)
        for found, wanted in zip(gprann.read("s.extxyz"), expected.structures, strict=True):
            assert np.array_equal(found.positions, wanted.positions)
        code, out, _ = answer([*command[:-1], "none.extxyz", *options, "--threshold", "9"], capsys)
        assert (code, Path("none.extxyz").exists()) == (0, False)
        assert "no candidate is less certain than 9 eV/atom: nothing was written" in out

    def test_select_from_several_compositions(self, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
        gprann.write("mixed.extxyz", gprann.examples.hydrogen(7) + samples.waters(6))
        candidates = gprann.examples.hydrogen(20) + samples.waters(5, size=0.3)
        gprann.write("candidates.extxyz", candidates)
        command = ["select", "candidates.extxyz", "--train", "mixed.extxyz", "--count", "4", "-o", "s.extxyz"]
        options = ["--length", "2", "--max-subset", "4", "--species-lengths", "O=1.3", "-q"]
        code, out, _ = answer([*command, *options], capsys)
        assert code == 0
        assert "s.extxyz: 4 of 25 candidates" in out
        surrogates = gprann.fit_surrogates(
            gprann.read("mixed.extxyz"), length=2.0, max_subset=4, species_lengths={"O": 1.3}
        )
        assert len(surrogates) == 4
        expected = gprann.select(candidates, surrogates, 4)
        for found, wanted in zip(gprann.read("s.extxyz"), expected.structures, strict=True):
            assert np.array_equal(found.positions, wanted.positions)

    def test_select_by_a_committee(self, data: Path) -> None:
        assert main(["train", "train.extxyz", "-o", "p.gprann", "--members", "3", *SMALL, "-q"]) == 0
        bare = gprann.Dataset(s.replace(energy=None, forces=None) for s in gprann.examples.hydrogen(20))
        gprann.write("bare.extxyz", bare)
        command = ["select", "bare.extxyz", "--potential", "p.gprann", "--count", "2", "-o", "s.extxyz", "-q"]
        assert main(command) == 0
        assert len(gprann.read("s.extxyz", require=())) == 2

    def test_label_and_merge(self, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
        bare = gprann.Dataset(s.replace(energy=None, forces=None) for s in gprann.examples.hydrogen(9)[1::2])
        gprann.write("new.extxyz", bare)
        Path("options.toml").write_text("sigma = 3.0\nepsilon = 0.5\n")
        command = [
            "label",
            "new.extxyz",
            "-o",
            "labels.extxyz",
            "--calculator",
            "ase.calculators.lj:LennardJones",
        ]
        options = ["--options-file", "options.toml", "--options", "sigma=0.9", "rc=4", "smooth=true", "-q"]
        merging = ["--merge", "train.extxyz", "merged.extxyz"]
        code, out, _ = answer([*command, *options, *merging], capsys)
        assert code == 0
        assert "labels.extxyz: 4 of 4 structures, 4 computed now" in out
        assert "merged.extxyz: 7 structures and 4 new ones" in out
        atoms = bare[0].to_ase()
        atoms.calc = LennardJones(sigma=0.9, epsilon=0.5, rc=4, smooth=True)
        with pytest.warns(DataWarning, match="levels of theory"):  # Lennard-Jones among first principles
            merged = gprann.read("merged.extxyz", require=("energy", "forces"))
        assert merged[7].energy == atoms.get_potential_energy()
        code, out, _ = answer([*command, *options, *merging], capsys)
        assert (code, "4 of 4 structures, 0 computed now" in out) == (0, True)
        assert len(merged) == 11

    def test_label_says_what_failed(self, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
        data_set = gprann.examples.hydrogen(2)
        xenon = gprann.Structure(("Xe", "Xe"), [[0.0, 0, 0], [0, 0, 4.0]])
        gprann.write("new.extxyz", [*data_set, xenon])
        command = ["label", "new.extxyz", "-o", "labels.extxyz", "--calculator", "emt", "--retries", "0"]
        code, out, error = answer(command, capsys)
        assert code == 1
        assert "labels.extxyz: 2 of 3 structures" in out
        assert "No EMT-potential for Xe" in error
        assert "no labels for 1 of 3 structures; the reasons stand in labels.extxyz.failed.json" in error

    def test_labels_under_other_names(self, data: Path) -> None:
        text = Path("train.extxyz").read_text().replace(" energy=", " REF_energy=")
        Path("other.extxyz").write_text(text)
        options = ["-o", "p.gprann", *SMALL, "-q"]
        assert main(["train", "other.extxyz", *options]) == 2
        assert main(["train", "other.extxyz", "--keys", "energy=REF_energy", *options]) == 0

    def test_checkpoint_goes_on(self, data: Path) -> None:
        options = ["train", "train.extxyz", *SMALL, "--checkpoint", "states", "-q"]
        assert main([*options, "-o", "a.gprann"]) == 0
        assert main([*options, "-o", "b.gprann", "--members", "2"]) == 0
        first, both = gprann.load("a.gprann"), gprann.load("b.gprann")
        assert np.array_equal(first.parameters[0], both.parameters[0])
        assert (data / "states/member_001.state").is_file()

    def test_module_and_version(self) -> None:
        """The only test in a process of its own: `python -m gprann`."""
        run = subprocess.run(
            [sys.executable, "-m", "gprann", "--version"], capture_output=True, text=True, check=False
        )
        assert (run.returncode, run.stdout.strip()) == (0, f"gprann {gprann.__version__}")

    def test_help(self, capsys: pytest.CaptureFixture[str]) -> None:
        code, out, _ = answer([], capsys)
        assert code == 2
        commands = (
            "demo",
            "init",
            "run",
            "compare",
            "augment",
            "train",
            "evaluate",
            "select",
            "label",
            "info",
        )
        for command in commands:
            assert f"\n    {command} " in out
            code, text, _ = answer([command, "--help"], capsys)
            assert code == 0
            assert f"usage: gprann {command}" in text


class TestMistakes:
    """One clear message without a traceback, on standard error, exit code 2."""

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ("rnu config.toml", "unknown command 'rnu'; did you mean 'run'?"),
            ("train train.extxyz -o p.gprann --hiden 5", "train: unknown option '--hiden'; did you mean '--hidden'?"),
            ("train train.extxyz -o p.gprann --member=5", "unknown option '--member'; did you mean '--members'?"),
            ("run config.toml more", "run: unexpected argument 'more'; see gprann run --help"),
            ("run", "run: give a configuration file; make one with: gprann init config.toml"),
            ("demo --members many", "argument --members: invalid int value: 'many'; see gprann demo --help"),
            ("demo --members 0", "members = 0: expected 1 or more"),
            ("train train.extxyz -o p.gprann --members many", '--members: expected a whole number, got "many"'),
            ("train train.extxyz -o p.gprann --optimizer adam", "--optimizer = \"adam\": did you mean 'adamw'?"),
            ("train train.extxyz -o p.gprann --species H Xx", "--species: 'Xx' is not a chemical element"),
            ("augment train.extxyz -o a.extxyz --kernel par", "--kernel = \"par\": did you mean 'pairs'?"),
            ("augment train.extxyz -o a.extxyz --copies 0", "--copies = 0: expected 1 or more"),
            ("augment train.extxyz -o a.pdb", "--output: a.pdb has the suffix '.pdb'; expected .extxyz"),
            ("augment train.extxyz -o no/a.xyz", "--output: the folder no does not exist; make it first"),
            (
                "augment train.extxyz -o a.xyz --label-next b.xyz --displacement 0.1",
                "--label-next needs --threshold, which is not set automatically where --displacement is given",
            ),
            (
                "augment train.extxyz -o a.xyz --label-next b.xyz --method taylor",
                '--label-next belongs to the method "gpr", not to "taylor"',
            ),
            ("select no.xyz -o a.xyz --train no.xyz --count 0", "--count = 0: expected 1 or more"),
            ("select no.xyz -o a.xyz --train no.xyz --count 1 --threshold -1", "--threshold = -1: expected a"),
            ("select no.xyz -o a.xyz --train no.xyz --count 1 --threshold inf", "--threshold: expected a finite"),
            ("augment train.extxyz -o a.xyz --label-next no/b.xyz", "--label-next: the folder no does not exist"),
            ("train train.extxyz -o p.gprann --reference-energies H", "--reference-energies: expected"),
            ("train train.extxyz -o p.gprann --keys energie=E", "unknown label 'energie'; did you mean 'energy'?"),
            ("train trian.extxyz -o p.gprann", "trian.extxyz: no such file or folder; did you mean 'train.extxyz'?"),
            ("train *.xsf -o p.gprann", "*.xsf: the pattern matches no file that can be read"),
            ("train empty.extxyz -o p.gprann", "empty.extxyz"),
            ("train nan.extxyz -o p.gprann", "nan.extxyz, structure 0: positions of atom 1 is nan"),
            ("train cut.extxyz -o p.gprann", "cut.extxyz, structure 6"),
            ("train train.extxyz -o p.gprann --species O", "element H is not among the species O"),
            ("run confg.toml", "confg.toml: no such file; make one with: gprann init confg.toml"),
            ("compare confg.toml", "confg.toml: no such file; make one with: gprann init confg.toml"),
            ("compare alone.conf", "alone.conf: data.test: is missing; the methods are compared on structures"),
            ("compare alone.conf --methods gpr tailor", "methods: 'tailor' is unknown; did you mean 'taylor'?"),
            ("compare alone.conf --methods", "argument --methods: expected at least one argument"),
            ("evaluate missing.gprann train.extxyz", "missing.gprann: no such model file"),
            ("evaluate train.extxyz train.extxyz", "train.extxyz: not a complete gprann model file"),
            ("info nothing.xyz", "nothing.xyz: no such file or folder"),
            ("select train.extxyz --count 3 -o s.xyz", "one of the arguments --potential --train is required"),
            ("select train.extxyz --train train.extxyz --count 0 -o s.xyz --kernel pairs", "count = 0"),
            ("select train.extxyz --potential p.gprann --count 3 -o s.xyz --length 2", "--length is an option of the"),
            ("select train.extxyz --potential p.gprann --count 3 -o s.xyz --max-subset 9", "--max-subset is an option"),
            ("label train.extxyz -o l.xyz --calculator emmt", "calculator 'emmt' is not found"),
            ("label train.extxyz -o l.xsf --calculator emt", "l.xsf has the suffix '.xsf'; expected .extxyz"),
            ("label train.extxyz -o l.xyz --calculator emt --options a", "--options: expected NAME=VALUE, got 'a'"),
            ("label train.extxyz -o l.xyz --calculator emt --options-file no.toml", "--options-file: no.toml"),
            ("label train.extxyz -o l.xyz --calculator emt --merge train.extxyz no/m.xyz", "--merge: the folder no"),
            ("label train.extxyz -o l.xyz --calculator emt --workers 0", "workers = 0: expected 1 or more"),
        ],
    )  # fmt: skip
    def test_message(
        self, data: Path, capsys: pytest.CaptureFixture[str], arguments: str, message: str
    ) -> None:
        text = (data / "train.extxyz").read_text()
        (data / "empty.extxyz").write_text("")
        (data / "cut.extxyz").write_text("\n".join(text.splitlines()[:-1]) + "\n")
        lines = text.splitlines()
        lines[3] = lines[3].replace(lines[3].split()[3], "nan", 1)
        (data / "nan.extxyz").write_text("\n".join(lines) + "\n")
        (data / "alone.conf").write_text('data.train = "train.extxyz"')
        code, out, error = answer(arguments.split(), capsys)
        assert code == 2
        assert out == ""
        assert "gprann: " in error
        assert message in error
        assert "Traceback" not in error
        assert not (data / "p.gprann").exists()
        assert not (data / "results").exists()

    def test_truncated_model_file(self, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["train", "train.extxyz", "-o", "p.gprann", *SMALL, "-q"]) == 0
        content = Path("p.gprann").read_bytes()
        Path("p.gprann").write_bytes(content[: len(content) // 2])
        for arguments in (["info", "p.gprann"], ["evaluate", "p.gprann", "train.extxyz"]):
            code, _, error = answer(arguments, capsys)
            assert code == 2
            assert "p.gprann: not a complete gprann model file" in error

    def test_warnings_are_messages(self, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
        twice = gprann.examples.hydrogen(7) + gprann.examples.hydrogen(1)
        gprann.write("twice.extxyz", twice)
        code, _, error = answer(["info", "twice.extxyz"], capsys)
        assert code == 0
        assert "warning: 1 of 8 structures repeat the geometry of another one" in error


class TestEndings:
    """How a command ends that does not succeed."""

    @staticmethod
    def failing(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
        def fail(arguments: object) -> None:
            raise error

        fail.__name__ = "train"
        monkeypatch.setattr(commands, "train", fail)

    @pytest.mark.parametrize(
        ("error", "code", "message"),
        [
            (TrainingError("diverged"), 1, "gprann: diverged"),
            (FactorisationError("singular"), 1, "gprann: singular"),
            (PermissionError(13, "not allowed", "p.gprann"), 1, "gprann: [Errno 13] not allowed: 'p.gprann'"),
            (MemoryError(), 1, "gprann: the memory does not suffice"),
            (ConfigError("wrong"), 2, "gprann: wrong"),
        ],
    )
    def test_errors(
        self,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
        error: BaseException,
        code: int,
        message: str,
    ) -> None:
        self.failing(monkeypatch, error)
        found, out, text = answer(["train", "a", "-o", "b"], capsys)
        assert (found, out) == (code, "")
        assert text.startswith(message)

    @pytest.mark.parametrize(
        ("options", "hint"),
        [((), "with --checkpoint FOLDER"), (("--checkpoint", "here"), "the state is kept in here")],
    )
    def test_interruption(
        self,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
        options: tuple[str, ...],
        hint: str,
    ) -> None:
        self.failing(monkeypatch, KeyboardInterrupt())
        code, _, error = answer(["train", "a", "-o", "b", *options], capsys)
        assert code == 130
        assert "gprann: interrupted; " in error
        assert hint in error

    def test_a_bug_is_not_hidden(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.failing(monkeypatch, ZeroDivisionError("a bug"))
        with pytest.raises(ZeroDivisionError):
            main(["train", "a", "-o", "b"])

    @pytest.mark.skipif(os.name != "posix", reason="pipes of a shell")
    def test_a_closed_pipe_is_no_error(self, data: Path) -> None:
        command = f"{sys.executable} -m gprann info train.extxyz | true; exit ${{PIPESTATUS[0]}}"
        run = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
        assert (run.returncode, run.stderr) == (0, "")


class TestPresentation:
    """What is finished is not spoiled by a terminal."""

    @staticmethod
    def run(shell: str, **variables: str) -> subprocess.CompletedProcess[str]:
        command = shell.replace("gprann", f"{sys.executable} -m gprann")
        environment = os.environ | variables
        return subprocess.run(
            ["bash", "-c", command], capture_output=True, text=True, check=False, env=environment
        )

    @pytest.mark.parametrize("encoding", ["gbk", "cp932", "koi8-r", "ascii"])
    def test_characters_that_are_missing(self, encoding: str) -> None:
        result = self.run("gprann --help", PYTHONIOENCODING=encoding)
        assert (result.returncode, result.stderr) == (0, "")
        assert "Units: A, eV, eV/A;" in result.stdout

    @pytest.mark.skipif(os.name != "posix", reason="redirections of a shell")
    def test_closed_and_full_outputs(self) -> None:
        closed = self.run("gprann --help >&-")
        assert (closed.returncode, closed.stdout, closed.stderr) == (0, "", "")
        if Path("/dev/full").exists():
            full = self.run("gprann --help >/dev/full")
            assert full.returncode == 1
            assert full.stderr.startswith("gprann: standard output cannot be written: ")
            assert len(full.stderr.splitlines()) == 1

    def test_version_and_help_import_nothing_heavy(self) -> None:
        code = "import sys; from gprann.cli.main import main; main([sys.argv[1]]); print(*sys.modules)"
        for option in ("--version", "--help"):
            result = subprocess.run(
                [sys.executable, "-c", code, option], capture_output=True, text=True, check=True
            )
            loaded = {name.partition(".")[0] for name in result.stdout.splitlines()[-1].split()}
            assert not loaded & {"numpy", "ase", "scipy", "pydantic", "tqdm", "matplotlib"}

    def test_a_configuration_is_suggested(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.chdir(tmp_path)
        (tmp_path / "mine.toml").write_text("")
        code, _, error = answer(["compare"], capsys)
        assert code == 2
        assert "for example: gprann compare mine.toml" in error


class TestLogging:
    def test_levels(self) -> None:
        assert parse(["run", "c.toml"]).level == logging.INFO
        assert parse(["run", "c.toml", "-q"]).level == logging.WARNING
        assert parse(["info", "x", "-v"]).level == logging.DEBUG

    def test_loggers_are_left_as_they_were(self, data: Path) -> None:
        logger = logging.getLogger("gprann")
        before = (list(logger.handlers), logger.level, logger.propagate)
        assert main(["info", "train.extxyz", "-v"]) == 0
        assert (list(logger.handlers), logger.level, logger.propagate) == before
