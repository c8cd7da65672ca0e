"""Train on more structures than fit into memory: time and memory of streamed epochs beside those in memory.

    python bench/python/store.py DATA [STRUCTURES]

DATA is the folder with ec_dimer/train.extxyz. Displaced copies of its dimers of 20 atoms, by default a million, are
made one by one and labelled by the forces; their features (36 components) go into a store in a temporary folder. Epochs
of AdamW over the store, with a tenth of the dimers held out, are compared with epochs over a part of the copies whose
features are in memory: structures per second of the median epoch, of processor time, so that what else runs on the
machine does not count, and of the clock. The processor time of streamed epochs includes that of the thread which reads
ahead. Each of the two runs in a process of its own, so that its peak memory is its own; what the system keeps of the
files in memory of its own does not count. Set GPRANN_NUM_THREADS=1. Writes bench/results/store.json.
"""

from __future__ import annotations

import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from measure import RESULTS, machine, peak_gib

import gprann
from gprann.data.structure import Dataset, Origin, Structure
from gprann.training import TrainingOptions
from gprann.training.member import train_member
from gprann.training.optimizers.base import OptimizerState
from gprann.training.prepared import Learner
from gprann.training.streamed import prepare_streamed
from gprann.training.train import _in_memory

MILLION, PART, EPOCHS = 1_000_000, 50_000, 5
OPTIONS: dict[str, Any] = {"optimizer": "adamw", "iterations": EPOCHS, "batch_size": 256, "seed": 0}


def copies(dimers: Dataset, count: int) -> Iterator[Structure]:
    """Yield displaced copies of the dimers in turn, with energies to first order."""
    rng = np.random.default_rng(0)
    for number in range(count):
        index = number % len(dimers)
        parent = dimers[index]
        shift = rng.normal(scale=0.02, size=(len(parent), 3))
        yield Structure(
            parent.symbols,
            parent.positions + shift,
            energy=parent.energy - float(np.vdot(parent.forces, shift)),
            origin=Origin("train.extxyz", index, "taylor"),
        )


def train(data: Path, count: int, store: Path | None) -> dict[str, Any]:
    """Return time and memory of the preparation and of the epochs."""
    dimers = gprann.read(data / "ec_dimer" / "train.extxyz")
    descriptor = gprann.ChebyshevDescriptor(["C", "H", "O"])
    settings = TrainingOptions(**OPTIONS)
    learner = Learner(descriptor, settings.model.build(descriptor.size, 3), settings)
    started = time.perf_counter()
    made = copies(dimers, count)
    prepared = _in_memory(Dataset(made), learner) if store is None else prepare_streamed(made, learner, store)
    seconds, peak = time.perf_counter() - started, peak_gib()
    ends = [(time.process_time(), time.perf_counter())]
    state = train_member(
        prepared.task, 0, report=lambda _: ends.append((time.process_time(), time.perf_counter()))
    )
    # The first epoch includes the selection of the structures.
    epochs = np.diff(ends, axis=0)[1:]
    processor, clock = np.median(epochs, axis=0).tolist()
    return {
        "structures": count,
        "components": descriptor.size,
        "parameters": learner.model.n_parameters,
        "prepare_seconds": seconds,
        "peak_gib_prepare": peak,
        "peak_gib": peak_gib(),
        "epoch_processor_seconds": processor,
        "epoch_clock_seconds": clock,
        "structures_per_processor_second": count / processor,
        "structures_per_clock_second": count / clock,
        "held_out_error_meV": _error(state, prepared.task.energy_scale),
    }


def _error(state: OptimizerState, scale: float) -> float:
    return 1e3 * scale * state.best_error


def main(data: Path, count: int) -> None:
    """Measure in processes of their own and write the result."""
    with tempfile.TemporaryDirectory(prefix="gprann-") as folder:
        needed, free = count * 20 * 36 * 8, shutil.disk_usage(folder).free
        if 1.2 * needed > free:
            sys.exit(f"{folder}: {needed / 1e9:.1f} GB are needed, {free / 1e9:.1f} GB are free; set TMPDIR")
        found = {
            name: json.loads(
                subprocess.run(
                    [sys.executable, __file__, str(data), *arguments], check=True, stdout=subprocess.PIPE
                ).stdout
            )
            for name, arguments in (
                ("in_memory", ["of", str(min(count, PART))]),
                ("streamed", ["of", str(count), f"{folder}/features"]),
                ("in_memory_again", ["of", str(min(count, PART))]),
            )
        }
        found["features_gb"] = sum(file.stat().st_size for file in Path(folder).rglob("*.npy")) / 1e9
    for time_of in ("processor", "clock"):
        key = f"structures_per_{time_of}_second"
        rates = [found[name][key] for name in ("in_memory", "in_memory_again")]
        found[f"share_of_in_memory_rate_{time_of}"] = found["streamed"][key] / statistics.mean(rates)
    text = json.dumps({"machine": machine(), "options": OPTIONS, **found}, indent=1)
    print(text)
    if count == MILLION:
        (RESULTS / "store.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    if "of" in sys.argv:
        folder = Path(sys.argv[4]) if len(sys.argv) > 4 else None
        print(json.dumps(train(Path(sys.argv[1]), int(sys.argv[3]), folder)))
    else:
        main(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else MILLION)
