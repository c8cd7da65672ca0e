"""Worker process: trains some members of the task in a folder and reports on standard output, a JSON object a line.

Started as `python -m gprann.training.worker FOLDER MEMBER...`; a process of its own with a clean start (never
a fork), so that scripts without a main guard can train committees.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TextIO

from gprann.errors import GprannError
from gprann.training.committee import MemberProgress, load_task, resume_member
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


if __name__ == "__main__":
    run(Path(sys.argv[1]), [int(argument) for argument in sys.argv[2:]], sys.stdout)
