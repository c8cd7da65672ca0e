"""`gprann run` with training sets larger than memory: copies go to files, features to a store, and the results stay."""

from __future__ import annotations

import json
import logging
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

import contracts
import gprann
from gprann.augmentation import gpr
from gprann.config import load_config
from gprann.errors import ConfigError
from gprann.pipeline import run, streaming, subsets
from gprann.pipeline.streaming import stream_if_needed

CONFIG = """
data.train = "train.extxyz"
data.test_fraction = 0.0
method = "manual"
[descriptor]
radial_cutoff = 8.0
angular_order = "none"
[augmentation]
copies = 3
displacement = 0.05
[training]
hidden = [3]
iterations = 3
starts = 1
[output]
plots = false
"""
RUN = import_module("gprann.pipeline.run")  # the function of that name hides it in its package
PAIRS = '[surrogate]\nkernel = "pairs"\n'


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Copies of four structures at a time."""
    monkeypatch.setenv("GPRANN_NUM_THREADS", "1")
    monkeypatch.setattr(gpr, "_STREAMED", 4)
    monkeypatch.setattr(subsets, "_PARENTS", 4)


def configure(folder: Path, name: str, more: str = "") -> Path:
    if not (folder / "train.extxyz").exists():
        gprann.write(folder / "train.extxyz", gprann.examples.hydrogen(9))
    file = folder / f"{name}.toml"
    file.write_text(f"{CONFIG.replace('[output]', '[output]' + chr(10) + f'folder = {name!r}')}{more}")
    return file


def results(folder: Path, name: str) -> tuple[bytes, Any]:
    potential = gprann.load(folder / name / "potential.gprann")
    return (folder / name / "augmented.extxyz").read_bytes(), potential.parameters


@pytest.mark.parametrize(
    "more",
    [
        PAIRS,
        PAIRS + "[augmentation]\nthreshold = 1e-6",
        '[augmentation]\nmethod = "taylor"',
    ],
    ids=["gpr", "uncertain", "taylor"],
)
def test_a_store_changes_no_result(tmp_path: Path, more: str) -> None:
    extra = more.partition("[augmentation]\n")
    text = CONFIG.replace("copies = 3", f"copies = 3\n{extra[2]}") + extra[0]
    gprann.write(tmp_path / "train.extxyz", gprann.examples.hydrogen(9))
    for name, given in (("memory", ""), ("files", '\nstore = "features"')):
        file = tmp_path / f"{name}.toml"
        changed = text.replace("starts = 1", "starts = 1" + given)
        file.write_text(changed.replace("[output]", f'[output]\nfolder = "{name}"'))
        run(file)
    (one, parameters), (other, same) = results(tmp_path, "memory"), results(tmp_path, "files")
    assert one == other
    contracts.assert_same_bits([[parameters], [same]])
    assert (tmp_path / "features" / "index.json").is_file()
    records = [
        json.loads((tmp_path / name / "checkpoints" / "augmentation.json").read_text())["left"]
        for name in ("memory", "files")
    ]
    assert [{**record, "seconds": 0} for record in records] == [{**records[0], "seconds": 0}] * 2


def test_copies_are_never_all_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    label = gpr._label

    def counted(surrogate: Any, copies: Any, *arguments: Any, **options: Any) -> Any:
        sizes.append(len(copies))
        return label(surrogate, copies, *arguments, **options)

    monkeypatch.setattr(gpr, "_label", counted)
    monkeypatch.setattr(RUN, "structures", None)  # reads them all
    run(configure(tmp_path, "a", PAIRS).parent / _with_store(tmp_path / "a.toml"))
    assert sizes == [12, 12, 3]


def _with_store(file: Path) -> str:
    file.write_text(file.read_text().replace("starts = 1", 'starts = 1\nstore = "features"'))
    return file.name


def test_an_interrupted_run_goes_on_with_its_copies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    file = configure(tmp_path, "a", PAIRS)
    _with_store(file)
    with monkeypatch.context() as patch:
        patch.setattr(RUN, "join_files", lambda *files: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            run(file)
    with caplog.at_level(logging.INFO):
        run(file)
    assert "taken from an earlier run" in caplog.text
    assert "9 structures and 27 copies" in caplog.text
    run(configure(tmp_path, "b", PAIRS))
    assert results(tmp_path, "a")[0] == results(tmp_path, "b")[0]


def test_features_are_streamed_where_the_memory_is_too_short(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    config = load_config(configure(tmp_path, "a", PAIRS))
    data = gprann.read(tmp_path / "train.extxyz")
    assert stream_if_needed(config, data, tmp_path) is config
    needs = {"training_memory": 3.0, "streamed_memory": 0.5}
    for name, needed in needs.items():
        monkeypatch.setattr(streaming, name, lambda *_, needed=needed: needed)
    monkeypatch.setattr(streaming, "memory_budget", lambda limit: 2.0)
    with caplog.at_level(logging.INFO):
        found = stream_if_needed(config, data, tmp_path)
    assert found.training.store == str(tmp_path / "features")
    assert "training in memory would need about 3.0 GiB, 2.0 GiB are available" in caplog.text
    for changes in ({"forces": True}, {"model": "linear"}, {"huber_energy": 0.1}):
        other = config.model_copy(update={"training": config.training.replace(**changes)})
        assert stream_if_needed(other, data, tmp_path) is other


def test_automatic_choices_are_for_energies_alone(tmp_path: Path) -> None:
    file = configure(tmp_path, "a")
    _with_store(file)
    file.write_text(file.read_text().replace('method = "manual"', 'method = "auto"'))
    with pytest.raises(
        ConfigError, match=r"training.store: method = \"auto\" trains on forces.*forces = false"
    ):
        run(file)
