"""Training of the members of a committee in parallel processes, resumed from checkpoints after an interruption."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import queue
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import BrokenExecutor, Executor
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gprann.descriptors import DESCRIPTORS
from gprann.errors import ConfigError, FormatError, TrainingError
from gprann.model_file import read_model_file, write_model_file
from gprann.models import MODELS
from gprann.options import Named, Registry
from gprann.runtime.atomic_write import atomic_write, make_folder
from gprann.runtime.executors import MOST_LOSSES, Call, Workers, run_calls
from gprann.runtime.resources import n_threads
from gprann.training.energy_force_objective import EnergyForceObjective
from gprann.training.member import CommitteeTask, train_member
from gprann.training.objective import EnergyObjective
from gprann.training.optimizers.base import OPTIMIZERS, OptimizerState, Report, no_report
from gprann.training.options import TrainingOptions
from gprann.training.store.objective import StreamedObjective

_log = logging.getLogger(__name__)
_KINDS: dict[str, type[EnergyObjective] | type[EnergyForceObjective] | type[StreamedObjective]] = {
    "energies": EnergyObjective,
    "combined": EnergyForceObjective,
    "streamed": StreamedObjective,
}
_SMALL = 2e10  # flops of a member below which a process of its own does not pay


@dataclass(frozen=True, slots=True)
class MemberProgress:
    """Progress of the training of a member, in units of the energy scale (and Å).

    Attributes
    ----------
    member, iteration : int
    train, error : float
        Roots of the mean loss; `error`, of the held-out structures where there are any, decides.
    energy, force : float or None
        Root mean square errors of the held-out structures; None where there are none.
    """

    member: int
    iteration: int
    train: float
    error: float
    energy: float | None = None
    force: float | None = None

    @classmethod
    def of(cls, member: int, state: OptimizerState) -> MemberProgress:
        """Return the progress that a state stands for."""
        last = state.history[-1]
        energy, force = (None if np.isnan(value) else value for value in (last.energy, last.force))
        return cls(member, last.iteration, last.train, last.error, energy, force)


Progress = Callable[[MemberProgress], object]


def train_members(
    task: CommitteeTask,
    *,
    folder: Path | None = None,
    workers: Workers | None = None,
    progress: Progress | None = None,
) -> list[OptimizerState]:
    """Train all members of a committee; return their final states in order.

    Parameters
    ----------
    task : CommitteeTask
    folder : Path, optional
        Where states are kept. Members that are finished there are not trained again, others go on where they
        stopped.
    workers : int, str or Executor, optional
        Processes, or who makes the calls instead: see `gprann.runtime.executors`. Default: as many processes as there
        are threads and members, or one if the task is small.
    progress : callable, optional
        Called with a `MemberProgress` after every iteration of every member.

    Raises
    ------
    TrainingError
        If a member failed; the states of the others are kept in `folder`.
    ConfigError
        If the workers of an executor cannot have what the task is made of.
    """
    members = list(range(task.options.members))
    if workers is not None and not isinstance(workers, int):
        # Workers of other machines see the working directory, but not the temporary files of this one.
        with _folder(folder, within=Path()) as shared:
            return _train_elsewhere(task, members, shared, workers, progress)
    wanted = workers if workers is not None else _default_workers(task)
    wanted = max(1, min(wanted, len(members)))
    if wanted > 1 and _extensions(task) is None:
        _log.info(
            "members are trained one after the other: worker processes cannot import the descriptor, the optimizer or "
            "the model; register them in a module of their own"
        )
        wanted = 1
    if wanted == 1:
        if folder is not None:
            make_folder(folder)
        return _train_here(task, members, folder, progress)
    with _folder(folder) as shared:
        return _train_in_processes(task, members, shared, wanted, progress)


@contextlib.contextmanager
def _folder(folder: Path | None, within: Path | None = None) -> Iterator[Path]:
    """Give the folder, made if needed, or a temporary one."""
    if folder is not None:
        make_folder(folder)
        yield folder
        return
    with tempfile.TemporaryDirectory(prefix="gprann-", dir=within) as name:
        yield Path(name).absolute()


def _default_workers(task: CommitteeTask) -> int:
    optimizer = task.options.optimizer
    return n_threads() if optimizer.flops(task.workload) * optimizer.value("iterations") > _SMALL else 1


def _extensions(task: CommitteeTask) -> list[str] | None:
    """Return the modules outside the package that workers need, None if they cannot have what the task is made of."""
    descriptor = getattr(
        task.objective, "descriptor", None
    )  # energies alone come with the features of all atoms
    parts: list[tuple[Registry[Any], Named]] = [
        (OPTIMIZERS, task.options.optimizer),
        (MODELS, task.options.model),
        *([] if descriptor is None else [(DESCRIPTORS, descriptor)]),
    ]
    modules = {type(part).__module__ for _, part in parts if not type(part).__module__.startswith("gprann.")}
    try:
        for registry, part in parts:
            registry.to_dict(part)
    except ConfigError:  # not registered
        return None
    # Scripts and notebooks are `__main__`: to import them would run them again.
    found = all(name != "__main__" and PathFinder.find_spec(name.partition(".")[0]) for name in modules)
    return sorted(modules) if found else None


def _train_here(
    task: CommitteeTask, members: list[int], folder: Path | None, progress: Progress | None
) -> list[OptimizerState]:
    identity = identify(task) if folder is not None else ""
    states = []
    for member in members:

        def report(state: OptimizerState, member: int = member) -> None:
            if progress is not None:
                progress(MemberProgress.of(member, state))

        if folder is None:
            states.append(train_member(task, member, report=report))
        else:
            states.append(resume_member(task, folder, member, identity, report))
    return states


def _train_in_processes(
    task: CommitteeTask, members: list[int], folder: Path, workers: int, progress: Progress | None
) -> list[OptimizerState]:
    identity = save_task(task, folder)
    crew = _Crew(folder, max(1, n_threads() // workers), _extensions(task) or [])
    failures = []
    try:
        for k in range(workers):
            crew.start(members[k::workers])
        while crew.running:
            message = crew.messages.get()
            if "ended" in message:
                failures += crew.bury(message)
            elif "failed" in message:
                failures.append(f"member {message['member']}: {message['failed']}")
            elif "iteration" in message and progress is not None:
                progress(MemberProgress(**message))
    finally:
        crew.end()
    if failures:
        raise TrainingError("training failed; what was finished is kept\n" + "\n".join(failures))
    return [_load_finished(folder, member, identity) for member in members]


class _Crew:
    """Worker processes of this machine; the members of one that dies are given to another, from their last states."""

    def __init__(self, folder: Path, threads: int, extensions: list[str]) -> None:
        self._start = partial(_start_worker, folder, threads=threads, extensions=extensions)
        self.messages: queue.Queue[dict[str, Any]] = queue.Queue()
        self.running = 0
        self._all: list[tuple[subprocess.Popen[str], threading.Thread]] = []

    def start(self, members: list[int], losses: int = 0) -> None:
        process = self._start(members)
        about = {"members": members, "losses": losses}
        reader = threading.Thread(target=_relay, args=(process, self.messages, about), daemon=True)
        self._all.append((process, reader))
        self.running += 1
        reader.start()

    def bury(self, message: dict[str, Any]) -> list[str]:
        """Take leave of a worker that has ended; return what it said if it is not replaced."""
        self.running -= 1
        if not message["ended"]:
            return []
        if message["losses"] >= MOST_LOSSES or message["ended"] > 0:  # an exit status is an error of its own
            return [message["log"]]
        _log.warning("%s; its members go on in another one", message["log"].splitlines()[0])
        self.start(message["members"], message["losses"] + 1)
        return []

    def end(self) -> None:
        for process, reader in self._all:
            _end(process, reader)


def _train_elsewhere(
    task: CommitteeTask, members: list[int], folder: Path, workers: str | Executor, progress: Progress | None
) -> list[OptimizerState]:
    """Train the members by the calls of an executor; their states come through the folder."""
    extensions = _extensions(task)
    if extensions is None:
        raise ConfigError(
            f"workers = {workers}: they cannot import the descriptor, the optimizer or the model; register them in a "
            "module of their own that all machines find"
        )
    identity = save_task(task, folder)
    failures: list[str] = []

    def finish(member: int, failure: str | None) -> None:
        if failure is not None:
            failures.append(f"member {member}: {failure}")
        elif progress is not None:
            progress(MemberProgress.of(member, _load_finished(folder, member, identity)))

    function = import_module("gprann.training.worker").train_one  # which imports this module
    calls = [Call(function, (str(folder.absolute()), member, identity, extensions)) for member in members]
    try:
        run_calls(workers, calls, finish)
    except BrokenExecutor as error:
        failures.append(str(error))
    if failures:
        raise TrainingError("training failed; what was finished is kept\n" + "\n".join(failures))
    return [_load_finished(folder, member, identity) for member in members]


def _end(process: subprocess.Popen[str], reader: threading.Thread) -> None:
    if process.poll() is None:
        process.terminate()
        process.wait()
    if reader.is_alive():
        reader.join()
    for pipe in (process.stdout, process.stderr):
        if pipe is not None:
            pipe.close()


def _start_worker(
    folder: Path, members: list[int], threads: int, extensions: list[str]
) -> subprocess.Popen[str]:
    # -P: modules are found where this process finds them, not in the working directory.
    command = [sys.executable, "-P", "-m", "gprann.training.worker", str(folder), *map(str, members)]
    environment = {
        **os.environ,
        "GPRANN_NUM_THREADS": str(threads),
        "GPRANN_EXTENSIONS": ",".join([os.environ.get("GPRANN_EXTENSIONS", ""), *extensions]),
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
    }
    return subprocess.Popen(
        command,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def _relay(
    process: subprocess.Popen[str], messages: queue.Queue[dict[str, Any]], about: dict[str, Any]
) -> None:
    """Put the messages of a worker into the queue, and last how it ended, with what is to be known about it."""
    if process.stdout is None or process.stderr is None:  # pipes are always asked for
        return
    for line in process.stdout:
        try:
            messages.put(json.loads(line))
        except json.JSONDecodeError:
            _log.debug("worker: %s", line.rstrip())
    log = process.stderr.read()
    code = process.wait()
    said = f"a worker ended with code {code}: {log.strip()[-2000:]}"
    messages.put({"ended": code, "log": said, **about})


def _load_finished(folder: Path, member: int, identity: str) -> OptimizerState:
    state = OptimizerState.load(state_file(folder, member), identity)
    if state is None:
        raise TrainingError(f"member {member} left no state behind in {folder}")
    return state


def identify(task: CommitteeTask) -> str:
    """Return a fingerprint of data and options: a checkpoint of another task is not taken up.

    Raises
    ------
    ConfigError
        If the optimiser or the model is not registered: a file could not name it.
    """
    digest = hashlib.sha256()
    options = task.options.to_dict()
    del options["members"]  # members are independent: a committee may grow
    objective = task.objective
    settings = {name: value for name, value in objective.settings().items() if name != "folder"}  # may move
    facts = [options, objective.model.n_features, task.energy_scale, settings]
    digest.update(json.dumps(facts, default=_digest_of).encode())
    for array in _arrays(task).values():
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def _digest_of(array: NDArray[Any]) -> str:
    """Return the digest of an array of a descriptor, in the place of its numbers."""
    return hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()


def _arrays(task: CommitteeTask) -> dict[str, NDArray[Any]]:
    given = {} if task.initial is None else {"initial": task.initial}
    return {**task.objective.arrays(), "families": task.families, "strata": task.strata, **given}


def save_task(task: CommitteeTask, folder: Path) -> str:
    """Write the task for worker processes; return its fingerprint."""
    identity = identify(task)
    for name, array in _arrays(task).items():
        with atomic_write(folder / f"{name}.npy", "wb", sync=False) as stream:
            np.lib.format.write_array(stream, np.ascontiguousarray(array), allow_pickle=False)
    model = task.objective.model
    document = {
        "kind": "training task",
        "identity": identity,
        "options": task.options.to_dict(),
        "energy_scale": task.energy_scale,
        "names": list(_arrays(task)),
        "objective": task.objective.settings(),
        "n_features": model.n_features,
        "n_species": model.n_species,
    }
    write_model_file(folder / "task.gprann", document, {})
    return identity


def load_task(folder: Path) -> tuple[CommitteeTask, str]:
    """Read a task that `save_task` wrote; the arrays are mapped, not copied."""
    document, _ = read_model_file(folder / "task.gprann")
    options = TrainingOptions.from_dict(document["options"])
    arrays = {
        name: np.asarray(np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False))
        for name in document["names"]
    }
    model = options.model.build(document["n_features"], document["n_species"])
    settings = document["objective"]
    objective = _KINDS[settings["kind"]].from_arrays(model, arrays, settings)
    task = CommitteeTask(
        objective,
        arrays["families"],
        arrays["strata"],
        options,
        document["energy_scale"],
        arrays.get("initial"),
    )
    return task, document["identity"]


def state_file(folder: Path, member: int) -> Path:
    """Return the file of the state of a member."""
    return folder / f"member_{member:03d}.state"


def resume_member(
    task: CommitteeTask, folder: Path, member: int, identity: str, report: Report = no_report
) -> OptimizerState:
    """Train a member with its state kept in `folder`, going on where an interrupted run stopped."""
    path = state_file(folder, member)
    try:
        state = OptimizerState.load(path, identity)
    except FormatError:  # cut short by a dying disk: this member starts anew
        state = None
    if state is not None and state.finished:
        return state
    if state is None and path.exists():
        _log.warning(
            "%s belongs to another training (data or options have changed): the member starts anew", path
        )
    every = task.options.optimizer.save_every

    def keep(current: OptimizerState) -> None:
        if current.iteration % every == 0 or current.finished:
            current.save(path, identity)
        report(current)

    final = train_member(task, member, state, keep)
    final.save(path, identity)
    return final
