"""Workers: train members of the task in a folder.

As `python -m gprann.training.worker FOLDER MEMBER...` it trains them and reports on standard output, a JSON object a
line; a process of its own with a clean start (never a fork), so that scripts without a main guard can train committees.
Executors call `train_one`.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from functools import lru_cache
from importlib import import_module
from pathlib import Path
from typing import TextIO

from gprann.errors import GprannError, TrainingError
from gprann.training.committee import MemberProgress, load_task, resume_member
from gprann.training.member import CommitteeTask
from gprann.training.optimizers.base import OptimizerState


def run(folder: Path, members: list[int], output: TextIO) -> None:
    """Train the members one after the other."""
    task, identity = load_task(folder)

    def send(message: dict[str, object]) -> None:
        # A broken pipe here ends the worker when its parent has died; its last state is on the disk.
        output.write(json.dumps(message) + "\n")
        output.flush()

    for member in members:

        def report(state: OptimizerState, member: int = member) -> None:
            send(asdict(MemberProgress.of(member, state)))

        try:
            state = resume_member(task, folder, member, identity, report)
        except GprannError as error:
            send({"member": member, "failed": f"{type(error).__name__}: {error}"})
            continue
        send({"member": member, "done": state.reason})


def train_one(folder: str, member: int, identity: str, extensions: list[str]) -> str | None:
    """Train one member, for an executor; return why it failed. Its state lies in the folder.

    Parameters
    ----------
    folder : str
    member : int
    identity : str
        Of the task that the folder holds.
    extensions : list of str
        Modules that register the parts of the task.
    """
    for name in extensions:
        import_module(name)
    try:
        resume_member(_task(folder, identity), Path(folder), member, identity)
    except GprannError as error:
        return f"{type(error).__name__}: {error}"
    return None


@lru_cache(maxsize=1)
def _task(folder: str, identity: str) -> CommitteeTask:
    task, stored = load_task(Path(folder))
    if stored != identity:
        raise TrainingError(f"{folder} holds another training; two of them cannot share a folder")
    return task


if __name__ == "__main__":
    run(Path(sys.argv[1]), [int(argument) for argument in sys.argv[2:]], sys.stdout)
