"""Training sets larger than memory: the store of features, what is rebuilt of it, and training that streams it."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import contracts
import samples
from contracts import assert_close
from gprann import Dataset, Structure, load, train, write
from gprann.baselines import Baseline, Contribution
from gprann.errors import ConfigError, DataError, FormatError
from gprann.io import streaming
from gprann.io.streaming import stream
from gprann.models.features import Moments, Normalisation
from gprann.training import TrainingOptions, streamed
from gprann.training.committee import identify, load_task, save_task, train_members
from gprann.training.member import CommitteeTask, hold_out
from gprann.training.objective import EnergyObjective
from gprann.training.optimizers import AdamW, OptimizerState
from gprann.training.prepared import Learner
from gprann.training.store import build, objective
from gprann.training.store.blocks import INDEX, BrokenBlockError, open_blocks
from gprann.training.store.build import build_store
from gprann.training.store.objective import StreamedObjective
from gprann.training.train import _in_memory

DESCRIPTOR = samples.DESCRIPTOR
ADAMW: dict[str, Any] = {"optimizer": "adamw", "iterations": 4, "batch_size": 8, "hidden": (4,), "seed": 3}
LM: dict[str, Any] = {"optimizer": "lm", "iterations": 3, "starts": 2, "start_iterations": 2, "hidden": (4,)}
LBFGS: dict[str, Any] = {"optimizer": "lbfgs", "iterations": 5, "hidden": (4,)}
SMALL = 20 * 3 * DESCRIPTOR.size * 8  # bytes of 20 molecules


@pytest.fixture(autouse=True)
def _one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GPRANN_NUM_THREADS", "1")


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of twenty molecules, of which no more than those of one stay in memory."""
    monkeypatch.setattr(build, "BLOCK_BYTES", SMALL)
    monkeypatch.setattr(objective, "_SELECTED", 1)


def molecules(references: int = 30, copies: int = 4) -> Dataset:
    """Reference structures and copies of them."""
    data = samples.waters(references)
    made = [
        samples.labelled(item.with_positions(item.positions + shift)).replace(
            forces=None, origin=item.origin.__class__(item.origin.file, item.origin.index, "gpr")
        )
        for k, item in enumerate(data)
        for shift in np.random.default_rng(k).normal(scale=0.03, size=(copies, len(item), 3))
    ]
    return data + made


DATA = molecules()


def prepare(folder: Path, data: Any = DATA, **options: Any) -> CommitteeTask:
    settings = TrainingOptions(**{**ADAMW, **options})
    model = settings.model.build(DESCRIPTOR.size, len(DESCRIPTOR.species))
    return streamed.prepare_streamed(data, Learner(DESCRIPTOR, model, settings), folder).task


def streams(task: CommitteeTask) -> StreamedObjective:
    assert isinstance(task.objective, StreamedObjective)
    return task.objective


def in_memory(**options: Any) -> CommitteeTask:
    settings = TrainingOptions(**{**ADAMW, **options})
    model = settings.model.build(DESCRIPTOR.size, len(DESCRIPTOR.species))
    return _in_memory(DATA, Learner(DESCRIPTOR, model, settings), None).task


def flip(path: Path) -> None:
    """Change one bit of the last byte."""
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def times(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}


# Results -----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("options", [ADAMW, LM, LBFGS], ids=["adamw", "lm", "lbfgs"])
def test_one_block_gives_the_bits_of_training_in_memory(tmp_path: Path, options: dict[str, Any]) -> None:
    potential = train(DATA, DESCRIPTOR, **options)
    same = train(DATA, DESCRIPTOR, store=str(tmp_path / "store"), **options)
    contracts.assert_same_bits([[p.parameters, p.guard.factors, p.guard.offset] for p in (potential, same)])
    assert (same.baseline, same.guard.reach, same.energy_scale) == (
        potential.baseline,
        potential.guard.reach,
        potential.energy_scale,
    )
    records = [dict(p.provenance["training"]) for p in (potential, same)]
    for record in records:
        for name in ("seconds", "member_seconds", "options"):
            del record[name]
    assert records[0] == records[1]


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("options", [ADAMW, LM, LBFGS], ids=["adamw", "lm", "lbfgs"])
def test_several_blocks_of_one_window_give_the_same_up_to_rounding(
    tmp_path: Path, options: dict[str, Any]
) -> None:
    potential = train(DATA, DESCRIPTOR, **options)
    same = train(DATA, DESCRIPTOR, store=str(tmp_path), **options)
    assert len(list(tmp_path.glob("*.features.npy"))) == 8
    assert_close(same.parameters, potential.parameters, relative=1e-5)
    grades = [p.predict(DATA).grades for p in (potential, same)]
    assert_close(np.concatenate(grades[1]), np.concatenate(grades[0]), relative=1e-5)


@pytest.mark.usefixtures("small")
def test_streamed_steps_are_those_in_memory_in_the_same_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(objective, "_WINDOW", 3)
    task = prepare(tmp_path)
    fitted, held = hold_out(task, np.random.default_rng(0))
    train_set, validation = task.objective.select(fitted), task.objective.select(held)
    assert isinstance(train_set, StreamedObjective)
    whole = next(train_set._windows([train_set._used], whole=True))
    places = {row.tobytes(): k for k, row in enumerate(_first_atoms(whole))}

    class SameOrder:
        """In memory, in the order in which the batches come from the store."""

        size, total_weight, n_parameters = train_set.size, train_set.total_weight, whole.n_parameters

        def draw(self, stream: tuple[int, ...]) -> SameOrder:
            return self

        def epoch(self, rng: np.random.Generator, batch_size: int) -> Iterator[Any]:
            for part, batch in train_set.epoch(rng, batch_size):
                yield whole, np.array([places[row.tobytes()] for row in _first_atoms(part)[batch]])

    start = task.objective.model.initial(np.random.default_rng(1))
    states = [
        AdamW(iterations=3, batch_size=8).minimise(
            one, validation, OptimizerState.start(start), stream=(0, 0), frozen=np.zeros(0, np.int64)
        )
        for one in (train_set, SameOrder())
    ]
    contracts.assert_same_bits([[s.parameters, [step.train for step in s.history]] for s in states])


def _first_atoms(part: Any) -> Any:
    """Descriptors of the first atom of the first species of every structure, which tell them apart."""
    return part.table.features[part.table.rows[0, :-1]]


@pytest.mark.usefixtures("small")
def test_sums_over_blocks_are_those_of_all(tmp_path: Path) -> None:
    chosen = np.flatnonzero(np.arange(len(DATA)) % 7)
    sums = streams(prepare(tmp_path)).select(chosen)
    whole = in_memory().objective.select(chosen)
    assert isinstance(sums, StreamedObjective)
    assert isinstance(whole, EnergyObjective)
    w = whole.model.initial(np.random.default_rng(2))
    n = len(w)
    hessians, slopes = np.zeros((2, n, n)), np.zeros((2, n))
    for k, one in enumerate((sums, whole)):
        one.normal_equations(w, hessians[k], slopes[k])
    assert_close(np.tril(hessians[0]), np.tril(hessians[1]), relative=1e-9)
    assert_close(slopes[0], slopes[1], relative=1e-9)
    assert_close(sums.gradient(w)[1], whole.gradient(w)[1], relative=1e-9)
    assert_close(sums.errors(w).total, whole.errors(w).total, relative=1e-9)
    batch = np.array([150, 3, 77, 30])[np.array([1, 3, 2, 0])] % len(chosen)
    assert_close(sums.gradient(w, batch)[1], whole.gradient(w, batch)[1], relative=1e-9)
    assert (sums.counts == whole.counts).all()
    assert sums.total_weight == pytest.approx(whole.total_weight)


@pytest.mark.usefixtures("small")
def test_an_epoch_has_every_structure_once_and_depends_on_the_seed_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(objective, "_WINDOW", 3)
    task = prepare(tmp_path)
    part = streams(task).select(np.arange(5, 140))
    targets = np.sort(part.targets[part.chosen])

    def epoch(seed: int) -> list[Any]:
        return [p.targets[b] for p, b in part.epoch(np.random.default_rng(seed), 16)]

    first, second = np.concatenate(epoch(0)), np.concatenate(epoch(1))
    assert (np.sort(first) == targets).all()
    assert (first != second).any()
    contracts.assert_threads(lambda: epoch(0), monkeypatch)


@pytest.mark.usefixtures("small")
def test_no_more_than_two_windows_are_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(objective, "_WINDOW", 2)
    task = prepare(tmp_path)
    blocks = streams(task).blocks
    assert len(blocks.entries) == 8
    train_members(task)
    assert blocks.most_held == 4
    assert blocks.held == 0
    epoch = task.objective.epoch(np.random.default_rng(0), 4)
    next(epoch)
    assert blocks.held == 4
    epoch.close()
    assert blocks.held == 0


def test_families_are_held_out_as_a_whole(tmp_path: Path) -> None:
    task, other = prepare(tmp_path), in_memory()
    assert (task.families == other.families).all()
    assert (task.strata == other.strata).all()
    fitted, held = hold_out(task, np.random.default_rng(0))
    assert len(held) > 0
    assert not set(task.families[held]) & set(task.families[fitted])


@pytest.mark.parametrize("at", [1, 77, 149])
def test_moments_of_parts_are_those_of_all(at: int) -> None:
    values = np.random.default_rng(0).normal(size=(150, 4)) * [1, 10, 0, 1e-3] + [0, 5, 3, 100]
    kinds = np.arange(150, dtype=np.int32) % 2
    of = [
        Moments.of([part[own == kind] for kind in range(3)])
        for part, own in ((values[:at], kinds[:at]), (values[at:], kinds[at:]))
    ]
    joined = Normalisation.from_moments(of[0].join(of[1]))
    whole = Normalisation.from_values(values, kinds, 3)
    assert_close(joined.mean, whole.mean, relative=1e-12)
    assert_close(joined.inverse_scale, whole.inverse_scale, relative=1e-9)


# Files -------------------------------------------------------------------------------------------------------------
@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("name", ["00003.features.npy", "00003.rows.npy", "00003.labels.npy"])
def test_a_damaged_block_is_named_and_computed_alone(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    first = build_store(DATA, DESCRIPTOR, tmp_path)
    assert first.computed == tuple(range(8))
    content = (tmp_path / name).read_bytes()
    flip(tmp_path / name)
    opened = open_blocks(tmp_path, first.index.fingerprint)  # of the right size
    opened.features(2)
    with pytest.raises(
        BrokenBlockError, match=rf"{name}: block 3 of the features is damaged.*run the training again"
    ):
        opened.features(3)
    before = times(tmp_path)
    with caplog.at_level(logging.WARNING):
        again = build_store(DATA, DESCRIPTOR, tmp_path)
    assert "block 3 of the features is damaged" in caplog.text
    assert again.computed == (3,)
    assert (tmp_path / name).read_bytes() == content
    after = times(tmp_path)
    assert {file for file in after if after[file] != before[file]} == {
        f"00003.{part}" for part in ("features.npy", "rows.npy", "labels.npy", "json")
    }


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("harm", ["shorter", "missing", "entry", "half an entry"])
def test_a_half_written_block_is_found_at_once(tmp_path: Path, harm: str) -> None:
    first = build_store(DATA, DESCRIPTOR, tmp_path)
    whole = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    features, entry = tmp_path / "00005.features.npy", tmp_path / "00005.json"
    if harm == "shorter":
        features.write_bytes(features.read_bytes()[:-100])
    elif harm == "missing":
        features.unlink()
    elif harm == "entry":
        entry.unlink()
    else:
        entry.write_text(entry.read_text()[:50])
    with pytest.raises(BrokenBlockError, match=r"block 5 is missing or damaged; run the training again"):
        open_blocks(tmp_path, first.index.fingerprint)
    assert build_store(DATA, DESCRIPTOR, tmp_path).computed == (5,)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == whole


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("index", ["", '{"format": "gprann fea', "[]", None])
def test_a_half_written_index_is_no_store_and_is_written_again(tmp_path: Path, index: str | None) -> None:
    first = build_store(DATA, DESCRIPTOR, tmp_path)
    whole = (tmp_path / INDEX).read_text()
    if index is None:
        (tmp_path / INDEX).unlink()
    else:
        (tmp_path / INDEX).write_text(index)
    with pytest.raises(FormatError, match="holds no finished features"):
        open_blocks(tmp_path, first.index.fingerprint)
    again = build_store(DATA, DESCRIPTOR, tmp_path)
    assert (tmp_path / INDEX).read_text() == whole
    assert again.index.fingerprint == first.index.fingerprint


class KilledError(Exception):
    pass


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("after", range(0, 18, 3))
def test_an_interrupted_store_goes_on_where_it_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    """Killed while a block is computed (0 to 7), or while one is standardised (8 to 15)."""
    whole, folder = tmp_path / "whole", tmp_path / "interrupted"
    build_store(DATA, DESCRIPTOR, whole)
    blocks_write, count = build.Blocks.write, iter(range(1000))

    def killed(self: Any, *arguments: Any) -> Any:
        if next(count) == after:
            raise KilledError
        return blocks_write(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(build.Blocks, "write", killed)
        try:
            build_store(DATA, DESCRIPTOR, folder)
        except KilledError:
            assert after < 16
    again = build_store(DATA, DESCRIPTOR, folder)
    assert again.computed == tuple(range(min(after, 8), 8))
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == {
        p.name: p.read_bytes() for p in whole.iterdir()
    }


@pytest.mark.usefixtures("small")
def test_features_of_other_data_or_descriptors_are_not_used(tmp_path: Path) -> None:
    first = build_store(DATA, DESCRIPTOR, tmp_path)
    others = DATA[:100] + samples.waters(30, seed=9)
    second = build_store(others, DESCRIPTOR, tmp_path)
    assert second.computed == tuple(range(7))  # their mean and scale are those of all data
    assert not (tmp_path / "00007.json").exists()
    with pytest.raises(FormatError, match="features of other data, or of another descriptor"):
        open_blocks(tmp_path, first.index.fingerprint)
    fresh = build_store(others, DESCRIPTOR, tmp_path / "fresh")
    assert (fresh.blocks.features(2) == second.blocks.features(2)).all()
    shutil.rmtree(tmp_path / "fresh")
    third = build_store(others, DESCRIPTOR.replace(radial_order=2), tmp_path)
    assert third.index.fingerprint != second.index.fingerprint
    assert third.blocks.features(0).shape[1] < DESCRIPTOR.size
    with pytest.raises(ConfigError, match="cannot be taken twice; give a new folder"):
        build_store(iter(DATA), DESCRIPTOR.replace(radial_order=2), tmp_path)


def test_a_folder_with_other_files_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("all of it")
    with pytest.raises(ConfigError, match=r"holds files that are no features \(thesis.txt\)"):
        build_store(DATA, DESCRIPTOR, tmp_path)
    with pytest.raises(ConfigError, match="is a file; give a folder"):
        build_store(DATA, DESCRIPTOR, tmp_path / "thesis.txt")
    with pytest.raises(DataError, match="the training set is empty"):
        build_store([], DESCRIPTOR, tmp_path / "store")


def test_a_newer_format_is_refused(tmp_path: Path) -> None:
    build_store(DATA, DESCRIPTOR, tmp_path)
    index = json.loads((tmp_path / INDEX).read_text())
    (tmp_path / INDEX).write_text(json.dumps({**index, "version": 99}))
    with pytest.raises(FormatError, match="is of format 99"):
        build_store(DATA, DESCRIPTOR, tmp_path)


# Sources -----------------------------------------------------------------------------------------------------------
def test_structures_of_a_large_file_come_one_by_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "data.extxyz"
    write(file, DATA)
    whole = list(stream(file))
    monkeypatch.setattr(streaming, "_WHOLE", 10)
    found = list(stream([file]))
    assert [(s.symbols, s.energy, s.origin, s.origin.place) for s in found] == [
        (s.symbols, s.energy, s.origin, s.origin.place) for s in whole
    ]
    contracts.assert_same_bits([[s.positions for s in part] for part in (found, whole)])
    file.write_text(file.read_text()[:-200])
    with pytest.raises(FormatError, match=rf"structure {len(DATA) - 1}"):
        list(stream(file))
    file.write_text("3\nenergy=1\nH 0 0 0\n")
    with pytest.raises(FormatError, match=r"structure 0: the file is cut: 3 atoms are announced, 1 lines"):
        list(stream(file))
    file.write_text("many\n" + 9 * "\n")
    with pytest.raises(FormatError, match="should begin with its number of atoms, begins with 'many'"):
        list(stream(file))


@pytest.mark.usefixtures("small")
def test_files_and_generators_are_trained_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "data.extxyz", DATA)
    monkeypatch.setattr(streaming, "_WHOLE", 10)
    potentials = [
        train(source, DESCRIPTOR, store=str(tmp_path / f"store{k}"), **ADAMW)
        for k, source in enumerate((DATA, tmp_path / "data.extxyz", (item for item in DATA)))
    ]
    contracts.assert_same_bits([[p.parameters] for p in potentials])


# Options -----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"forces": True},
            r"store: keeps the features of energies alone.*leave store out, or train on the energies",
        ),
        (
            {"optimizer": "gauss_newton_cg"},
            r"'gauss_newton_cg' needs all structures in memory; use \"adamw\"",
        ),
        ({"huber_energy": 0.1}, "huber_energy needs all structures in memory"),
        ({"model": "linear"}, "store.*it belongs to networks"),
    ],
)
def test_what_cannot_be_streamed_is_refused(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        train(DATA, DESCRIPTOR, store=str(tmp_path / "store"), **options)
    assert not (tmp_path / "store").exists()


class Fitted(Baseline):
    def evaluate(self, data: Dataset) -> Contribution:
        return Contribution(np.zeros(len(data)))

    def fit(self, data: Dataset, species: Any) -> Any:
        return self


class Bond(Baseline):
    """Depends on positions."""

    factor: float = 1.0

    def evaluate(self, data: Dataset) -> Contribution:
        return Contribution(np.array([self.factor * np.sum(item.positions**2) for item in data]))


@pytest.mark.usefixtures("small")
def test_baselines_are_subtracted(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is fitted to all structures at once"):
        train(DATA, DESCRIPTOR, store=str(tmp_path / "a"), baseline=Fitted(), **ADAMW)
    one, other = (
        train(DATA, DESCRIPTOR, baseline=Bond(factor=0.1), **ADAMW, **more)
        for more in ({}, {"store": str(tmp_path / "b")})
    )
    assert_close(other.parameters, one.parameters, relative=1e-5)
    assert len(other.baseline.terms) == 2
    built = build_store(DATA, DESCRIPTOR, tmp_path / "b", terms=[Bond(factor=0.2)])
    assert len(built.computed) == 8


def test_a_potential_is_trained_further(tmp_path: Path) -> None:
    first = train(DATA[:90], DESCRIPTOR, **ADAMW)
    given = {name: value for name, value in ADAMW.items() if name != "hidden"}
    one, other = (
        train(DATA, DESCRIPTOR, start_from=first, **given, **more)
        for more in ({}, {"store": str(tmp_path / "store")})
    )
    contracts.assert_same_bits([[p.parameters, p.normalisation.mean] for p in (one, other)])
    assert one.baseline == other.baseline == first.baseline


def test_features_are_streamed_only_where_the_memory_is_too_short(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        train(DATA, DESCRIPTOR, checkpoint=tmp_path / "a", **ADAMW)
        assert "streamed" not in caplog.text
        monkeypatch.setattr(streamed, "memory_budget", lambda limit: 1e-6)
        one = train(DATA, DESCRIPTOR, checkpoint=tmp_path / "b", **ADAMW)
        assert caplog.text.count("they are streamed from") == 1
        other = train(DATA, DESCRIPTOR, **ADAMW)
        train(DATA.select(range(30)), DESCRIPTOR, forces=True, hidden=(2,), iterations=1, starts=1)
    assert caplog.text.count("they are streamed from") == 2
    assert (tmp_path / "b" / "features" / INDEX).is_file()
    contracts.assert_same_bits([[p.parameters] for p in (one, other)])


# Going on ----------------------------------------------------------------------------------------------------------
class InterruptionError(Exception):
    pass


@pytest.mark.usefixtures("small")
def test_training_goes_on_with_the_same_bits(tmp_path: Path) -> None:
    options = {"iterations": 50, "members": 2}
    whole = train_members(prepare(tmp_path / "store", **options))

    def interrupt(step: Any) -> None:
        if (step.member, step.iteration) == (1, 31):
            raise InterruptionError

    with pytest.raises(InterruptionError):
        train_members(prepare(tmp_path / "store", **options), folder=tmp_path / "a", progress=interrupt)
    shutil.move(tmp_path / "store", tmp_path / "moved")
    steps: list[Any] = []
    again = train_members(
        prepare(tmp_path / "moved", **options), folder=tmp_path / "a", progress=steps.append
    )
    contracts.assert_same_bits([[s.parameters for s in states] for states in (whole, again)])
    assert min(step.iteration for step in steps) == 21
    assert {step.member for step in steps} == {1}


@pytest.mark.usefixtures("small")
def test_workers_read_the_same_store(tmp_path: Path) -> None:
    task = prepare(tmp_path / "store", members=2)
    (tmp_path / "task").mkdir()
    identity = save_task(task, tmp_path / "task")
    loaded, same = load_task(tmp_path / "task")
    assert same == identity == identify(loaded)
    runs = [train_members(task, workers=number) for number in (1, 2)]
    contracts.assert_same_bits([[s.parameters for s in states] for states in runs])
    flip(tmp_path / "store" / "00001.features.npy")
    with pytest.raises(BrokenBlockError, match=r"00001.features.npy: block 1 of the features is damaged"):
        train_members(load_task(tmp_path / "task")[0])


def test_the_file_of_the_potential_tells_no_folder(tmp_path: Path) -> None:
    train(DATA, DESCRIPTOR, store=str(tmp_path / "store"), **ADAMW).save(tmp_path / "potential.gprann")
    assert load(tmp_path / "potential.gprann").provenance["training"]["options"].get("store") is None
    assert isinstance(DATA[0], Structure)
