"""A committee of ten on 8,000 structures: own processes, dask workers, MPI ranks, and a worker that is killed.

    python bench/python/executors.py DATA [PART ...]

Parts: processes, dask, mpi, killed. Writes bench/results/executors.json; each part compares the bits of the potential
with those of one process. Needs gprann[mpi,dask] and an mpiexec. The machine is oversubscribed: what is shown is that
the results are the same, also after a worker was killed, not how much faster it goes.

DATA is the folder with ec_dimer/.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from limits import displaced
from measure import RESULTS
from parts import run_parts

import gprann
from gprann.runtime.executors import Workers

MEMBERS = 10
OPTIONS: dict[str, Any] = {"optimizer": "adamw", "iterations": 25, "members": MEMBERS, "seed": 1}


def structures(data: Path) -> gprann.Dataset:
    """Return 8,000 structures: displaced EC dimers with the energies of what they were."""
    return displaced(gprann.read(data / "ec_dimer" / "train.extxyz"), 32)


def committee(data: Path, workers: Workers, checkpoint: Path | None = None) -> dict[str, Any]:
    """Train the committee; return time and digest of its parameters."""
    known = structures(data)
    descriptor = gprann.ChebyshevDescriptor(known.species)
    started = time.perf_counter()
    potential = gprann.train(
        known, descriptor, workers=workers, checkpoint=checkpoint, progress=False, **OPTIONS
    )
    seconds = time.perf_counter() - started
    digest = hashlib.sha256(np.ascontiguousarray(potential.parameters).tobytes()).hexdigest()
    return {"seconds": seconds, "parameters": digest[:16]}


@cache
def alone(data: Path) -> dict[str, Any]:
    """Return the result of one process."""
    return committee(data, 1)


def beside(data: Path, found: dict[str, Any]) -> dict[str, Any]:
    """Return a result and whether it is that of one process."""
    one = alone(data)
    same = one["parameters"] == found["parameters"]
    return {**found, "same_bits_as_one_process": same, "seconds_of_one_process": one["seconds"]}


def processes(data: Path) -> dict[str, Any]:
    """Four processes of this machine."""
    return beside(data, committee(data, 4))


def dask(data: Path) -> dict[str, Any]:
    """Four workers of a scheduler of dask.distributed."""
    import distributed

    with distributed.LocalCluster(n_workers=4, threads_per_worker=1, dashboard_address=None) as cluster:
        return beside(data, committee(data, f"dask:{cluster.scheduler_address}"))


def mpi(data: Path) -> dict[str, Any]:
    """Four ranks beside the one that gives them their work."""
    code = f"import json; from executors import *; print(json.dumps(committee(Path({str(data)!r}), 'mpi')))"
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder) / "script.py"
        script.write_text(code)
        command = ["mpiexec", "-n", "5", sys.executable, "-m", "mpi4py.futures", str(script)]
        path = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
        done = subprocess.run(
            command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": path}, check=True
        )
    return beside(data, json.loads(done.stdout.splitlines()[-1]))


def killed(data: Path) -> dict[str, Any]:
    """Four workers of dask, of which one is killed after the first member is done."""
    import distributed

    with (
        tempfile.TemporaryDirectory() as name,
        distributed.LocalCluster(n_workers=4, threads_per_worker=1, dashboard_address=None) as cluster,
    ):
        folder = Path(name)
        victim: list[int] = []

        def kill() -> None:
            while not any(folder.glob("member_*.state")):
                time.sleep(0.05)
            victim.append(next(iter(cluster.workers.values())).pid)
            os.kill(victim[0], 9)

        killer = threading.Thread(target=kill, daemon=True)
        killer.start()
        found = committee(data, f"dask:{cluster.scheduler_address}", checkpoint=folder)
        killer.join()
    return {**beside(data, found), "killed": len(victim)}


PARTS = {f.__name__: f for f in (processes, dask, mpi, killed)}

if __name__ == "__main__":
    run_parts(PARTS, RESULTS / "executors.json", __doc__)
