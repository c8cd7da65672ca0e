"""Times of an iteration of Levenberg-Marquardt and of an epoch of AdamW on one rank of MPI and on two.

    python bench/python/mpi.py DATA [PART ...]

Parts: forces (250 EC dimers, energies and forces), energies (9,250 energies). Writes bench/results/mpi.json.

DATA is the folder with ec_dimer/. Needs mpi4py and mpiexec. Every rank has one thread. A time is that of rank 0 in the
optimiser over its iterations, the least of some repeats. `clock` is that of the wall; `processor` the processor time of
rank 0, with its short waits for the others: what the clock would say on a machine that does nothing else, but for the
time in which messages are under way. `load` is that of the machine before the part: above the number of its processors,
the clock shows what others take.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from measure import RESULTS
from parts import run_parts

import gprann
from gprann.training.optimizers import AdamW, OptimizerState
from gprann.training.optimizers.levenberg_marquardt import SecondOrder

RANKS = (1, 2)
REPEATS = 2
LM: dict[str, Any] = {"optimizer": "lm", "starts": 1, "patience": 1000}
ADAMW: dict[str, Any] = {"optimizer": "adamw", "patience": 1000}
CASES: dict[str, dict[str, dict[str, Any]]] = {
    "forces": {
        "iteration of lm": {**LM, "forces": True, "alpha": 0.9, "iterations": 4},
        "iteration of lm, wide": {**LM, "forces": True, "alpha": 0.9, "hidden": (20, 20), "iterations": 2},
        "epoch of adamw": {**ADAMW, "forces": True, "alpha": 0.9, "batch_size": 32, "iterations": 40},
    },
    "energies": {
        "iteration of lm": {**LM, "iterations": 4},
        "epoch of adamw": {**ADAMW, "batch_size": 256, "iterations": 20},
    },
}
spent: list[tuple[float, float]] = []
"""Clock and processor time of each minimisation, s."""


def timed(minimise: Callable[..., OptimizerState]) -> Callable[..., OptimizerState]:
    """Note how long a minimisation takes."""

    def run(*arguments: Any, **options: Any) -> OptimizerState:
        clock, processor = time.perf_counter(), time.process_time()
        result = minimise(*arguments, **options)
        spent.append((time.perf_counter() - clock, time.process_time() - processor))
        return result

    return run


def copies(train: gprann.Dataset, number: int) -> gprann.Dataset:
    """Return rattled copies with the energies of the originals: their number counts, not what they tell."""
    generator = np.random.default_rng(0)
    return gprann.Dataset(
        item.without_labels().replace(
            positions=item.positions + 0.02 * generator.normal(size=item.positions.shape), energy=item.energy
        )
        for item in train
        for _ in range(number)
    )


def here(part: str, data: Path, output: Path) -> None:
    """Measure on this rank; rank 0 writes the result."""
    from mpi4py import MPI

    comm = MPI.COMM_WORLD
    for kind in (AdamW, SecondOrder):
        kind.minimise = timed(kind.minimise)  # type: ignore[method-assign]
    train = gprann.read(data / "ec_dimer" / "train.extxyz")
    descriptor = gprann.ChebyshevDescriptor(train.species)
    structures = train if part == "forces" else copies(train, 37)
    found: dict[str, Any] = {}
    for name, options in CASES[part].items():
        spent.clear()
        for _ in range(REPEATS):
            potential = gprann.train(
                structures, descriptor, mpi=comm.size > 1, progress=False, **{"hidden": (10, 10), **options}
            )
        if comm.rank == 0:
            clock, processor = np.min(spent, axis=0) / options["iterations"]
            weights = int(potential.parameters.shape[1])
            found[name] = {"weights": weights, "clock_ms": 1e3 * clock, "processor_ms": 1e3 * processor}
    if comm.rank == 0:
        output.write_text(json.dumps(found))


def measure(part: str, data: Path) -> Iterator[dict[str, Any]]:
    """Start the ranks, and compare what they need."""
    result: dict[str, Any] = {"load": os.getloadavg()[0], "processors": os.cpu_count(), "ranks": {}}
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "GPRANN_NUM_THREADS": "1"}
    for ranks in RANKS:
        with tempfile.TemporaryDirectory() as folder:
            output = Path(folder) / "found.json"
            command = [sys.executable, __file__, "--here", part, str(data), str(output)]
            subprocess.run(["mpiexec", "-n", str(ranks), *command], env=environment, check=True)
            result["ranks"][str(ranks)] = json.loads(output.read_text())
        yield result
    one, two = (result["ranks"][str(ranks)] for ranks in RANKS)
    result["times_faster"] = {
        name: {kind: one[name][f"{kind}_ms"] / two[name][f"{kind}_ms"] for kind in ("clock", "processor")}
        for name in one
    }
    yield result


if __name__ == "__main__":
    if sys.argv[1:2] == ["--here"]:
        here(sys.argv[2], Path(sys.argv[3]), Path(sys.argv[4]))
    else:
        parts = {name: (lambda data, name=name: measure(name, data)) for name in CASES}
        run_parts(parts, RESULTS / "mpi.json", __doc__)
