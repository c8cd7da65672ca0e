"""Fine-tuning by configuration and command line: networks not named are those of the potential to start from."""

from __future__ import annotations

from pathlib import Path

import pytest

import gprann
from gprann.cli.main import main
from gprann.config import load_config
from gprann.errors import ConfigError, GprannError
from gprann.pipeline import run
from gprann.pipeline.inputs import training_memory

CONFIG = """
data.train = "train.extxyz"
descriptor = {{ radial_cutoff = 8.0, angular_order = "none" }}
augmentation.method = "none"
output.plots = false
[training]
start_from = "base.gprann"
iterations = 2
validation = 0.0
{more}
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with structures, and a potential with other networks than those of a new one."""
    data = gprann.examples.hydrogen(7)
    gprann.write(tmp_path / "train.extxyz", data)
    descriptor = gprann.ChebyshevDescriptor(["H"], radial_cutoff=8.0, angular_order=None)
    shape = {"hidden": (4, 3, 3), "activation": "silu"}
    gprann.train(data, descriptor, **shape, iterations=3, starts=1).save(tmp_path / "base.gprann")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def configured(folder: Path, more: str = "") -> Path:
    file = folder / "config.toml"
    file.write_text(CONFIG.format(more=more))
    return file


@pytest.mark.parametrize("more", ["", "hidden = [4, 3, 3]", 'activation = "silu"', "frozen = [3]"])
def test_run(folder: Path, more: str) -> None:
    """Layers that do not exist in the default networks may be frozen too."""
    tuned = gprann.load(run(configured(folder, more)).potential)
    base = gprann.load(folder / "base.gprann")
    assert tuned.model.options == base.model.options
    *_, (_, layer, last, _) = base.model.layers()
    assert layer == 3
    assert (tuned.parameters[0, last] == base.parameters[0, last]).all() == (more == "frozen = [3]")


def test_the_configuration_that_a_run_writes_can_be_run(folder: Path) -> None:
    result = run(configured(folder))
    result.potential.unlink()
    assert "training" not in run(result.folder / "config.toml").skipped


def test_command_line(folder: Path) -> None:
    words = "train train.extxyz -o tuned.gprann --start-from base.gprann --iterations 2 --radial-cutoff 8"
    assert main([*words.split(), "--angular-order", "none"]) == 0
    assert gprann.load("tuned.gprann").model.hidden == (4, 3, 3)


def test_other_networks_are_refused(folder: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"hidden = \(10, 10\): the potential to start from has \(4, 3, 3\)"
    ):
        run(configured(folder, "hidden = [10, 10]"))


def test_layers_that_the_potential_has_not_are_refused(folder: Path) -> None:
    with pytest.raises(ConfigError, match="frozen: layer 4 does not exist; expected 0 to 3"):
        run(configured(folder, "frozen = [4]"))


def test_memory_is_that_of_its_networks(folder: Path) -> None:
    """The normal equations, three times for a member, are most of it."""
    config = load_config(configured(folder))
    new = config.training.model_copy(update={"start_from": None})
    data = gprann.read(folder / "train.extxyz")
    needed, of_default = (
        training_memory(config.model_copy(update={"training": training}), data)
        for training in (config.training, new)
    )
    parameters = gprann.load(folder / "base.gprann").model.n_parameters
    assert 3 * 8 * parameters**2 / 2**30 < needed < of_default


EMT_BASELINE = """
[training.baseline]
kind = "calculator"
calculator = "emt"
"""


def test_a_potential_that_builds_on_a_calculator(folder: Path) -> None:
    """It is handed over by the configuration, as at every loading."""
    data = gprann.read(folder / "train.extxyz")
    descriptor = gprann.ChebyshevDescriptor(["H"], radial_cutoff=8.0, angular_order=None)
    emt = gprann.CalculatorBaseline(calculator="emt")
    options = {"hidden": (4,), "iterations": 3, "starts": 1}
    base = gprann.train(data, descriptor, baseline=emt, **options)
    base.save(folder / "base.gprann")
    result = run(configured(folder, EMT_BASELINE))
    tuned = gprann.load(result.potential, baseline=gprann.CalculatorBaseline(calculator="emt"))
    again = gprann.train(
        data,
        descriptor,
        start_from=folder / "base.gprann",
        baseline=emt,
        iterations=2,
        validation=0.0,
    )
    assert tuned.parameters.tobytes() == again.parameters.tobytes() != base.parameters.tobytes()
    for more in ("", EMT_BASELINE.replace("emt", "lj")):
        (folder / "results" / "potential.gprann").unlink(missing_ok=True)
        with pytest.raises(
            GprannError, match=r"needs its baseline, the calculator emt|is not the one of the file"
        ):
            run(configured(folder, more))
