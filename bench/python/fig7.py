"""Cost of training on EC/Li(100) against cutoff and batch size: time per epoch and peak memory, with a plot.

    python bench/python/fig7.py DATA

DATA is the folder with li_ec/train.extxyz: 100 periodic structures of 46 atoms. Writes
bench/results/fig7.json and fig7.png, the counterpart of Fig. 7 of Yeu et al., npj Comput. Mater. 11, 156
(2025), for

    energy   energies alone, descriptors computed once
    gpr      GPR-ANN: energies of the 100 structures and of 36 displaced copies of each; the labels are made up,
             because the cost does not depend on them, and what the surrogate costs is no part of an epoch
    direct   energies and all force components

Every measurement is a call of `gprann.train` (36-10-10-1, AdamW, one thread) in a process of its own. An
epoch is one sweep of AdamW over all structures: medians of wall and of processor time. Memory is the highest
resident memory of the process, with reading and neighbour lists, less that of a process that has only
imported gprann.
"""

from __future__ import annotations

import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from measure import RESULTS, machine

import gprann

CUTOFFS = ((6.5, 4.0), (8.5, 6.0), (10.5, 8.0))
BATCHES = (1, 8, 32, 100)
METHODS = ("energy", "gpr", "direct")
COPIES = 36
DISPLACEMENT = 0.034  # Å, the paper's for this set
EPOCHS = {"energy": 25, "gpr": 7, "direct": 15}
USUAL_BATCH = 32
AENET = {
    "program": "aenet-PyTorch, direct, all forces, batch 32, one thread, on the same set and a machine of this kind",
    "cutoffs": CUTOFFS,
    "seconds": [0.224, 0.229, 0.328],
    "peak_MB": [688, 1085, 1552],
    "interpreter_MB": 300,
}
ONE_THREAD = {"GPRANN_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}


@dataclass(frozen=True)
class Case:
    """One measurement."""

    method: str
    radial: float
    angular: float
    batch: int


# ------------------------------------------------------------------ in a process of its own
def peak_mb() -> float:
    """Return the highest resident memory of this process so far, MB."""
    status = Path("/proc/self/status")
    if status.exists():  # the rusage of a child begins with that of its parent
        lines = dict(line.split(":", 1) for line in status.read_text().splitlines())
        return float(lines["VmHWM"].split()[0]) * 1024e-6
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1e-6


def descriptor_of(case: Case) -> gprann.ChebyshevDescriptor:
    """Return the paper's descriptor at the cutoffs of a case."""
    return gprann.ChebyshevDescriptor(
        ["Li", "C", "O", "H"], radial_cutoff=case.radial, angular_cutoff=case.angular
    )


def with_copies(data: gprann.Dataset) -> gprann.Dataset:
    """Return the structures and their displaced copies, labelled to first order."""
    rng = np.random.default_rng(0)
    structures = list(data)
    for parent in data:
        for shift in rng.normal(scale=DISPLACEMENT, size=(COPIES, len(parent), 3)):
            energy = parent.energy - float(np.sum(shift * parent.forces))
            structures.append(parent.replace(positions=parent.positions + shift, energy=energy, forces=None))
    return gprann.Dataset(structures)


class EpochTimer:
    """Takes the times of AdamW's sweeps."""

    def __init__(self) -> None:
        self.wall: list[float] = []
        self.cpu: list[float] = []
        gprann.AdamW._run_epoch = self._timed(gprann.AdamW._run_epoch)  # type: ignore[method-assign]

    def _timed(self, run: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*arguments: Any, **keywords: Any) -> Any:
            wall, cpu = time.perf_counter(), time.thread_time()
            result = run(*arguments, **keywords)
            self.wall.append(time.perf_counter() - wall)
            self.cpu.append(time.thread_time() - cpu)
            return result

        return timed


def measure(data: Path, case: Case) -> dict[str, float]:
    """Train for a few epochs."""
    imported = peak_mb()
    timer = EpochTimer()
    train = gprann.read(data / "li_ec" / "train.extxyz")
    if case.method == "gpr":
        train = with_copies(train)
    options: dict[str, Any] = {"forces": True, "alpha": 0.3} if case.method == "direct" else {}
    gprann.train(
        train,
        descriptor_of(case),
        hidden=(10, 10),
        optimizer="adamw",
        learning_rate=1e-4,
        batch_size=case.batch,
        iterations=EPOCHS[case.method],
        validation=0.0,
        progress=False,
        workers=1,
        **options,
    )
    return {
        "structures": len(train),
        "seconds": statistics.median(timer.wall),
        "cpu_seconds": statistics.median(timer.cpu),
        "us_per_structure": 1e6 * statistics.median(timer.cpu) / len(train),
        "peak_MB": peak_mb(),
        "import_MB": imported,
        "added_MB": peak_mb() - imported,
    }


def descriptors(data: Path, case: Case) -> dict[str, float]:
    """Compute the descriptors of all structures, given their neighbour lists."""
    train = gprann.read(data / "li_ec" / "train.extxyz")
    descriptor = descriptor_of(case)
    neighbours = descriptor.neighbours(train)
    wall, cpu = [], []
    for _ in range(EPOCHS["direct"]):
        starts = time.perf_counter(), time.thread_time()
        descriptor.values(neighbours)
        wall.append(time.perf_counter() - starts[0])
        cpu.append(time.thread_time() - starts[1])
    return {
        "seconds": statistics.median(wall),
        "cpu_seconds": statistics.median(cpu),
        "neighbours_per_atom": len(neighbours.neighbour) / neighbours.n_atoms,
        "neighbour_list_MB": 28e-6 * len(neighbours.neighbour),
    }


# ------------------------------------------------------------------------------ all of them
def in_own_process(data: Path, case: Case) -> dict[str, Any]:
    """Run one measurement and return its numbers."""
    command = [sys.executable, __file__, str(data), json.dumps(asdict(case))]
    done = subprocess.run(
        command, check=True, stdout=subprocess.PIPE, text=True, env={**os.environ, **ONE_THREAD}
    )
    result: dict[str, Any] = json.loads(done.stdout)
    print(f"{case}: {1e3 * result['seconds']:.1f} ms, {result.get('added_MB', 0):.0f} MB", flush=True)
    return {**asdict(case), **result}


def find(rows: list[dict[str, Any]], method: str, radial: float, batch: int = USUAL_BATCH) -> dict[str, Any]:
    """Return the row of a case."""
    return next(
        row for row in rows if (row["method"], row["radial"], row["batch"]) == (method, radial, batch)
    )


def summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the numbers that were promised; times as [wall, processor], s."""
    smallest, largest = CUTOFFS[0][0], CUTOFFS[-1][0]

    def times(method: str, radial: float) -> np.ndarray:
        row = find(rows, method, radial)
        return np.array([row["seconds"], row["cpu_seconds"]])

    recomputing = times("descriptors", smallest) + times("energy", smallest)
    return {
        "direct epoch / energy-only epoch that recomputes descriptors, 6.5/4.0 (target 3)": list(
            times("direct", smallest) / recomputing
        ),
        "direct epoch / energy-only epoch with stored descriptors, 6.5/4.0": list(
            times("direct", smallest) / times("energy", smallest)
        ),
        "direct epoch at 10.5/8.0, s (target 0.06; aenet-PyTorch 0.328)": list(times("direct", largest)),
        "growth of peak memory 6.5/4.0 -> 10.5/8.0, MB (target 60; aenet-PyTorch 860)": {
            method: find(rows, method, largest)["peak_MB"] - find(rows, method, smallest)["peak_MB"]
            for method in METHODS
        },
        "growth of the neighbour list alone, MB": find(rows, "descriptors", largest)["neighbour_list_MB"]
        - find(rows, "descriptors", smallest)["neighbour_list_MB"],
    }


def plot(rows: list[dict[str, Any]], path: Path) -> None:
    """Draw time and memory against cutoff (left) and batch size (right)."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(2, 2, figsize=(9, 6.5), sharex="col", sharey="row", layout="constrained")
    labels = {"energy": "energy only", "gpr": f"GPR-ANN, {COPIES} copies", "direct": "direct, all forces"}
    smallest, largest = CUTOFFS[0], CUTOFFS[-1]
    for row, key in enumerate(("cpu_seconds", "added_MB")):
        by_cutoff, by_batch = axes[row]
        for method, label in labels.items():
            values = [find(rows, method, radial)[key] for radial, _ in CUTOFFS]
            (line,) = by_cutoff.plot([radial for radial, _ in CUTOFFS], values, "o-", label=label)
            for (radial, _), style in ((smallest, "o--"), (largest, "o-")):
                values = [find(rows, method, radial, batch)[key] for batch in BATCHES]
                by_batch.plot(BATCHES, values, style, color=line.get_color())
        reference = AENET["seconds"] if row == 0 else np.subtract(AENET["peak_MB"], AENET["interpreter_MB"])
        by_cutoff.plot([radial for radial, _ in CUTOFFS], reference, "ks:", label="aenet-PyTorch, direct")
        for axis in (by_cutoff, by_batch):
            axis.set_yscale("log")
            axis.grid(visible=True, which="major", alpha=0.3)
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
    axes[0, 0].set(ylabel="processor time per epoch (s)", title=f"batches of {USUAL_BATCH}")
    axes[0, 1].set(title="full: {}/{} Å, dashed: {}/{} Å".format(*largest, *smallest))
    axes[1, 0].set(ylabel="peak memory above the import (MB)", xlabel="radial cutoff (Å)")
    axes[1, 0].set_xticks([radial for radial, _ in CUTOFFS], [f"{r}/{a}" for r, a in CUTOFFS])
    axes[1, 1].set(xlabel="structures in a batch", xscale="log")
    axes[1, 1].set_xticks(BATCHES, [str(batch) for batch in BATCHES])
    figure.suptitle("EC/Li(100), 100 structures of 46 atoms, 36-10-10-1, AdamW, one thread")
    figure.savefig(path, dpi=130)


def main() -> None:
    """Measure everything, or the one case named on the command line."""
    data = Path(sys.argv[1])
    if len(sys.argv) > 2:
        case = Case(**json.loads(sys.argv[2]))
        print(json.dumps((descriptors if case.method == "descriptors" else measure)(data, case)))
        return
    rows = [in_own_process(data, Case("descriptors", *cutoffs, USUAL_BATCH)) for cutoffs in CUTOFFS]
    rows += [
        in_own_process(data, Case(method, *cutoffs, batch))
        for method in METHODS
        for cutoffs in CUTOFFS
        for batch in BATCHES
    ]
    result = {"machine": machine() | {"threads": 1}, "summary": summary(rows), "aenet": AENET, "cases": rows}
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "fig7.json").write_text(json.dumps(result, indent=1) + "\n")
    plot(rows, RESULTS / "fig7.png")
    print(json.dumps(result["summary"], indent=1, ensure_ascii=False))


if __name__ == "__main__":
    main()
