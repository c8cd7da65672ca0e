"""Committees: members in processes, checkpoints, and runs that are killed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import contracts
import regression
import samples
from gprann import ChebyshevDescriptor, DensityDescriptor, compress_descriptor, load, train
from gprann.errors import FormatError, TrainingError
from gprann.training import TrainingOptions, committee
from gprann.training.committee import (
    MemberProgress,
    identify,
    load_task,
    save_task,
    state_file,
    train_members,
)
from gprann.training.member import CommitteeTask
from gprann.training.optimizers.base import OptimizerState

LM: dict[str, Any] = {"optimizer": "lm", "iterations": 12, "starts": 3, "start_iterations": 2, "hidden": (4,)}
ADAMW: dict[str, Any] = {"optimizer": "adamw", "iterations": 50, "hidden": (4,), "learning_rate": 0.01}
OPTIMIZERS = pytest.mark.parametrize("options", [LM, ADAMW], ids=["lm", "adamw"])


@pytest.fixture(autouse=True)
def _one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """The problems are so small that threads cost more than they gain, most of all on a busy machine."""
    monkeypatch.setenv("GPRANN_NUM_THREADS", "1")


def make_task(*, n: int = 40, **options: Any) -> CommitteeTask:
    settings = TrainingOptions(**{"members": 2, **options})
    problem, _ = regression.problem(n, hidden=settings.model.hidden, activation="tanh", noise=0.3)
    return CommitteeTask(problem, np.arange(n) // 2, np.zeros(n, np.int64), settings, 0.5)


def assert_same_states(*runs: Sequence[OptimizerState]) -> None:
    """Everything but the time it took."""
    contracts.assert_same_bits(
        [
            [
                array
                for s in states
                for array in (s.parameters, s.best, [[h.iteration, h.train, h.validation] for h in s.history])
            ]
            for states in runs
        ]
    )
    for states in runs:
        for one, other in zip(states, runs[0], strict=True):
            assert (one.reason, one.best_iteration) == (other.reason, other.best_iteration)
            assert one.finished


class InterruptionError(Exception):
    pass


def interrupt_after(member: int, iteration: int) -> Any:
    def progress(step: MemberProgress) -> None:
        if (step.member, step.iteration) == (member, iteration):
            raise InterruptionError

    return progress


# Members -----------------------------------------------------------------------------------------------------------


@OPTIMIZERS
def test_members_differ_and_do_not_depend_on_each_other(options: dict[str, Any]) -> None:
    three, two = (train_members(make_task(members=members, **options)) for members in (3, 2))
    assert_same_states(three[:2], two)
    for a in range(3):
        for b in range(a):
            assert not np.array_equal(three[a].best, three[b].best)
    (other,) = train_members(make_task(members=1, seed=1, **options))
    assert not np.array_equal(other.best, three[0].best)


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[tuple[subprocess.Popen[str], list[int], int]]:
    """Workers as they are started: process, members, threads."""
    workers: list[tuple[subprocess.Popen[str], list[int], int]] = []
    start = committee._start_worker

    def record(folder: Path, members: list[int], threads: int, extensions: list[str]) -> Any:
        workers.append((start(folder, members, threads, extensions), members, threads))
        return workers[-1][0]

    monkeypatch.setattr(committee, "_start_worker", record)
    return workers


def test_processes_give_the_bits_of_one(started: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GPRANN_NUM_THREADS", "4")
    task = make_task(members=3, **LM)
    here = train_members(task, workers=1)
    seen: list[tuple[int, int]] = []

    def progress(step: MemberProgress) -> None:
        seen.append((step.member, step.iteration))
        assert np.isfinite([step.train, step.error]).all()

    assert_same_states(here, train_members(task, workers=2, progress=progress))
    assert sorted(seen) == [(m, k) for m, state in enumerate(here) for k in range(1, state.iteration + 1)]
    assert [(members, threads) for _, members, threads in started] == [([0, 2], 2), ([1], 2)]


def test_workers_do_not_look_for_modules_in_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "json.py").write_text("raise RuntimeError('a file of the user')")
    monkeypatch.chdir(tmp_path)
    task = make_task(**LM)
    assert_same_states(train_members(task, workers=1), train_members(task, workers=2))


def test_processes_share_the_folder_with_a_single_one(started: Any, tmp_path: Path) -> None:
    """More workers than members; the folder, which did not exist, then serves a run in one process."""
    task = make_task(**ADAMW)
    folder = tmp_path / "new" / "folder"
    assert_same_states(train_members(task), train_members(task, workers=5, folder=folder))
    assert [members for _, members, _ in started] == [[0], [1]]
    trained: list[MemberProgress] = []
    assert_same_states(
        train_members(task), train_members(task, workers=1, folder=folder, progress=trained.append)
    )
    assert trained == []


def test_a_committee_of_train_is_the_same_with_two_workers() -> None:
    descriptor = ChebyshevDescriptor(["H", "O"], radial_order=3, radial_cutoff=3.5, angular_order=None)
    one, two = (train(samples.waters(10), descriptor, members=2, workers=workers, **LM) for workers in (1, 2))
    np.testing.assert_array_equal(one.parameters, two.parameters)
    for record in (one, two):
        del record.provenance["training"]["seconds"], record.provenance["training"]["member_seconds"]
    assert one.provenance == two.provenance


# Checkpoints -------------------------------------------------------------------------------------------------------


@OPTIMIZERS
@pytest.mark.parametrize("iteration", [1, 7, 12])
def test_an_interrupted_run_goes_on_bit_by_bit(
    options: dict[str, Any], iteration: int, tmp_path: Path
) -> None:
    task = make_task(**options)
    whole = train_members(task)
    at = iteration if options is LM else 4 * iteration  # AdamW keeps every twentieth epoch
    with pytest.raises(InterruptionError):
        train_members(task, folder=tmp_path, workers=1, progress=interrupt_after(1, at))
    first: list[MemberProgress] = []
    resumed = train_members(task, folder=tmp_path, workers=1, progress=first.append)
    assert_same_states(whole, resumed)
    assert {step.member for step in first} == (
        {1} if at < whole[1].iteration else set()
    )  # member 0 was finished
    if first:
        assert first[0].iteration == (at if options is LM else at // 20 * 20) + 1


@OPTIMIZERS
def test_a_killed_worker_goes_on_bit_by_bit(options: dict[str, Any], tmp_path: Path) -> None:
    """kill -9 in the middle of an iteration; the task folder is all that is left."""
    task = make_task(
        members=1, n=400, **{**options, "iterations": 40 if options is LM else 2000, "patience": 5000}
    )
    save_task(task, tmp_path)
    worker = subprocess.Popen(
        [sys.executable, "-m", "gprann.training.worker", str(tmp_path), "0"],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
    )
    assert worker.stdout is not None
    with worker:
        for line in worker.stdout:
            if json.loads(line)["iteration"] >= (5 if options is LM else 30):
                worker.kill()
                break
    assert worker.wait() < 0
    kept = OptimizerState.load(state_file(tmp_path, 0), identify(task))
    assert kept is not None
    assert not kept.finished
    assert 0 < kept.iteration < task.options.optimizer.iterations
    assert_same_states(train_members(task), train_members(task, folder=tmp_path, workers=1))


def killer(started: Any, times: int) -> Any:
    """Return a progress callback that kills the worker of member 1, and those that go on in its place."""
    killed: list[Any] = []

    def kill(step: MemberProgress) -> None:
        if step.member != 1 or len(killed) == times:
            return
        process = next(process for process, members, _ in reversed(started) if 1 in members)
        if process not in killed:
            killed.append(process)
            process.kill()

    return kill


@pytest.mark.parametrize("times", [1, 2])
def test_the_members_of_a_killed_worker_go_on_in_another(started: Any, tmp_path: Path, times: int) -> None:
    task = make_task(n=100, **{**ADAMW, "iterations": 400, "patience": 5000})
    states = train_members(task, folder=tmp_path, workers=2, progress=killer(started, times))
    assert [members for _, members, _ in started] == [[0], [1], *([[1]] * times)]
    assert_same_states(train_members(task), states)


def test_a_worker_that_is_killed_again_and_again_is_reported_and_the_others_are_kept(
    started: Any, tmp_path: Path
) -> None:
    task = make_task(n=100, **{**ADAMW, "iterations": 400, "patience": 5000})
    with pytest.raises(TrainingError, match=r"what was finished is kept\na worker ended with code -9"):
        train_members(task, folder=tmp_path, workers=2, progress=killer(started, 3))
    finished = OptimizerState.load(state_file(tmp_path, 0), identify(task))
    assert finished is not None
    assert finished.finished
    assert_same_states(train_members(task), train_members(task, folder=tmp_path, workers=1))


def test_an_interruption_of_the_parent_ends_the_workers(started: Any, tmp_path: Path) -> None:
    task = make_task(n=100, **{**ADAMW, "iterations": 100000, "patience": 200000})
    with pytest.raises(InterruptionError):
        train_members(task, folder=tmp_path, workers=2, progress=interrupt_after(0, 3))
    assert len(started) == 2
    assert all(process.poll() is not None for process, _, _ in started)


@pytest.mark.parametrize(
    "damage",
    [
        lambda raw: raw[: len(raw) // 2],
        lambda raw: b"",
        lambda raw: raw[:-400] + bytes([raw[-400] ^ 1]) + raw[-399:],
        lambda raw: b"not a state",
    ],
    ids=["cut", "empty", "bit flipped", "other file"],
)
def test_a_damaged_state_is_trained_anew(damage: Any, tmp_path: Path) -> None:
    task = make_task(**LM)
    whole = train_members(task, folder=tmp_path)
    file = state_file(tmp_path, 0)
    damaged = damage(file.read_bytes())
    assert damaged != file.read_bytes()
    file.write_bytes(damaged)
    with pytest.raises(FormatError):
        OptimizerState.load(file, identify(task))
    trained: list[MemberProgress] = []
    assert_same_states(whole, train_members(task, folder=tmp_path, progress=trained.append))
    assert {step.member for step in trained} == {0}


@pytest.mark.parametrize(
    "changes",
    [{"seed": 1}, {"ridge": 1e-3}, {"iterations": 11}, {"validation": 0.3}, {"hidden": (5,)}, {"n": 42}],
    ids=lambda changes: next(iter(changes)),
)
def test_the_checkpoint_of_another_job_is_not_taken_up(changes: dict[str, Any], tmp_path: Path) -> None:
    train_members(make_task(**LM), folder=tmp_path)
    other = make_task(**{**LM, **changes})
    assert_same_states(train_members(other), train_members(other, folder=tmp_path, workers=1))


def test_every_part_of_a_job_counts_for_its_identity() -> None:
    task = make_task(**LM)
    problem = task.objective
    first = np.eye(1, problem.size)[0]
    others = [
        make_task(**LM, label_noise=0.1),
        CommitteeTask(task.objective, task.families, task.strata, task.options, 0.6),
        CommitteeTask(problem, np.arange(problem.size), task.strata, task.options, task.energy_scale),
        CommitteeTask(task.objective, task.families, task.strata + task.families, task.options, 0.5),
        CommitteeTask(
            type(problem)(problem.model, problem.table, problem.targets + 1e-14 * first, problem.weights),
            task.families,
            task.strata,
            task.options,
            0.5,
        ),
        CommitteeTask(
            type(problem)(problem.model, problem.table, problem.targets, problem.weights + first),
            task.families,
            task.strata,
            task.options,
            0.5,
        ),
    ]
    assert len({identify(item) for item in [task, *others]}) == 7
    assert identify(make_task(**LM, members=7)) == identify(task)


def test_a_growing_committee_keeps_its_finished_members(tmp_path: Path) -> None:
    train_members(make_task(**LM), folder=tmp_path, workers=1)
    before = [state_file(tmp_path, member).stat().st_mtime_ns for member in (0, 1)]
    trained: list[MemberProgress] = []
    four = train_members(make_task(members=4, **LM), folder=tmp_path, workers=1, progress=trained.append)
    assert {step.member for step in trained} == {2, 3}
    assert [state_file(tmp_path, member).stat().st_mtime_ns for member in (0, 1)] == before
    assert_same_states(train_members(make_task(members=4, **LM)), four)


def test_a_job_comes_back_from_its_folder_as_it_was(tmp_path: Path) -> None:
    task = make_task(**LM)
    identity = save_task(task, tmp_path)
    back, same = load_task(tmp_path)
    assert same == identity == identify(back) == identify(task)
    assert (back.options, back.energy_scale) == (task.options, task.energy_scale)


# Failures ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [1, 2])
def test_members_that_diverge_at_once_are_an_error(workers: int) -> None:
    task = make_task(**{**ADAMW, "learning_rate": 1e200})
    with pytest.raises(TrainingError, match="infinite or NaN in the first epoch"):
        train_members(task, workers=workers)


def test_members_that_diverge_later_keep_their_best(tmp_path: Path) -> None:
    """A weight decay that throws the parameters farther with every step."""
    task = make_task(**{**ADAMW, "weight_decay": 1e6, "validation": 0.0})
    states = train_members(task, workers=1, folder=tmp_path)
    for state in states:
        assert state.reason == "the loss became infinite or NaN; the best state before is kept"
        assert 0 < state.iteration < 50
        assert np.isfinite(state.best).all()
    assert_same_states(states, train_members(task, folder=tmp_path, workers=1))


def test_a_folder_that_cannot_be_made_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        train_members(make_task(**LM), folder=tmp_path / "file" / "folder")


def test_projected_descriptors_reach_workers(tmp_path: Path) -> None:
    """Checkpoints and worker processes take descriptors that are made of arrays."""
    data = samples.waters(12)
    few = compress_descriptor(DensityDescriptor(["H", "O"]), data, most=6)
    options: dict[str, Any] = {
        "hidden": (3,),
        "forces": True,
        "iterations": 2,
        "members": 2,
        "optimizer": "lm",
    }
    alone = train(data, few, workers=1, checkpoint=tmp_path / "one", **options)
    together = train(data, few, workers=2, checkpoint=tmp_path / "two", **options)
    np.testing.assert_array_equal(alone.parameters, together.parameters)
    alone.save(tmp_path / "few.gprann")
    again = load(tmp_path / "few.gprann")
    np.testing.assert_array_equal(again.predict(data).energy, alone.predict(data).energy)
