"""A small exploration, labels within the process, and a program that kills it at the files that it writes.

    python explore_sample.py FOLDER

runs the exploration in FOLDER/once, and in FOLDER/killed with children that end at once where a file is to reach the
disk, the first at its third, the next at its fifth, ... until one lives to the end; prints how many were killed, and
what was computed.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any, ClassVar

from ase.calculators.emt import EMT

import gprann
from gprann.data.structure import Origin, Structure
from gprann.labelling import geometry_key
from gprann.labelling.process import LabellingError
from gprann.labelling.worker import compute

CLUSTER = Structure(("Cu",) * 4, [[0, 0, 0], [2.3, 0, 0], [1.1, 2.0, 0], [1.1, 0.7, 1.9]])
TABLES: dict[str, Any] = {
    "model": "network",
    "start": {"structures": "start.extxyz", "count": 4, "displacement": 0.05},
    "reference": {"calculator": "emt"},
    "dynamics": {"temperature": 600.0, "length": 0.1, "time_step": 2.0, "replicas": 2, "log_every": 5},
    "choice": {"count": 3},
    "convergence": {"force_error": 0.3, "check": 4, "generations": 4},
    "descriptor": {"radial_cutoff": 4.0, "angular_cutoff": 4.0, "radial_order": 3, "angular_order": 1},
    "training": {"hidden": [3], "members": 2, "iterations": 8, "starts": 1},
    "output": {"folder": "results", "plots": False},
}


class LocalWorker:
    """What a worker process does, in this one; it notes what it computes."""

    calls: ClassVar[list[str]] = []
    file: ClassVar[Path | None] = None

    def __init__(self, *_: Any, **__: Any) -> None:
        self._calculator = EMT()

    def label(self, structure: Structure) -> Structure:
        key = geometry_key(structure.without_labels())
        self.calls.append(key)
        if self.file is not None:
            with self.file.open("a") as stream:
                stream.write(key + "\n")
        try:
            labels = compute(self._calculator, structure.without_labels())
        except Exception as error:
            raise LabellingError(str(error)) from error
        return structure.without_labels().replace(**labels, energy_variance=0.0, origin=Origin())

    def close(self) -> None: ...

    def interrupt(self) -> None: ...


def patch_worker() -> None:
    import gprann.labelling.run
    import gprann.sampling.reference

    gprann.labelling.run.WorkerProcess = LocalWorker  # type: ignore[misc,assignment]
    gprann.sampling.reference.WorkerProcess = LocalWorker  # type: ignore[misc,assignment]


def explore(folder: str, calls: Path) -> None:
    LocalWorker.file = calls
    gprann.explore({**TABLES, "output": {"folder": folder, "plots": False}})


def die_at(count: int) -> None:
    """End this process at the file of this number."""
    keep, seen = os.fsync, [0]

    def fsync(descriptor: int) -> None:
        seen[0] += 1
        if seen[0] >= count:
            os._exit(9)
        keep(descriptor)

    os.fsync = fsync


def run_child(folder: str, calls: Path, kill_at: int | None) -> int:
    child = os.fork()
    if child == 0:
        code = 1
        try:
            if kill_at is not None:
                die_at(kill_at)
            explore(folder, calls)
            code = 0
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def run(folder: Path) -> None:
    # Here, not in each child.
    import gprann.dynamics.run
    import gprann.pipeline.exploration
    import gprann.training  # noqa: F401

    os.chdir(folder)
    patch_worker()
    if run_child("once", Path("once.txt"), None) != 0:
        sys.exit("the exploration failed")
    kills, code = 0, 9
    while code == 9:
        code = run_child("killed", Path("killed.txt"), kill_at=3 + 2 * kills)
        kills += code == 9
    if code != 0:
        sys.exit(f"a child ended with {code}")
    calls = {name: Path(f"{name}.txt").read_text().split() for name in ("once", "killed")}
    sys.stdout.write(json.dumps({"kills": kills, "calls": calls["killed"], "calls once": len(calls["once"])}))


if __name__ == "__main__":
    run(Path(sys.argv[1]))
