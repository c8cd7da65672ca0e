"""Checkpoints: the task of a committee and the states of its members in a folder, for workers and resumed runs."""

from __future__ import annotations

import hashlib
import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gprann.errors import FormatError
from gprann.model_file import read_model_file, write_model_file
from gprann.runtime.atomic_write import atomic_write
from gprann.training.energy_force_objective import EnergyForceObjective
from gprann.training.member import CommitteeTask, train_member
from gprann.training.objective import EnergyObjective
from gprann.training.optimizers.base import OptimizerState, Report, no_report
from gprann.training.options import TrainingOptions

__all__ = ["identify", "load_task", "resume_member", "save_task", "state_file"]

_log = logging.getLogger(__name__)


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
    facts = [options, objective.model.n_features, task.energy_scale, objective.settings()]
    digest.update(json.dumps(facts).encode())
    for array in _arrays(task).values():
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def _arrays(task: CommitteeTask) -> dict[str, NDArray[Any]]:
    given = {} if task.initial is None else {"initial": task.initial}
    return {**task.objective.arrays(), "families": task.families, **given}


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
    objective = (
        EnergyForceObjective.from_arrays(model, arrays, settings)
        if settings["kind"] == "combined"
        else EnergyObjective.from_arrays(model, arrays)
    )
    task = CommitteeTask(
        objective, arrays["families"], options, document["energy_scale"], arrays.get("initial")
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
