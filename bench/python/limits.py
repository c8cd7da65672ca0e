"""Times of the operations on which training and prediction spend their time, beside the limit of the processor.

    python bench/python/limits.py DATA [PART ...]

Parts: energies, copies, forces, descriptor, density. Writes bench/results/limits.json.

DATA is the folder with ec_dimer/ and li_ec/. Numbers of one thread are seconds of processor time, so that what else
runs on the machine does not count; those of two threads are of the clock, and beside them stands what the clock said
of one thread in the same minute. `gemm` is the rate of large matrix products, of the BLAS of numpy, measured just
before and after: every part holds `scaled`, its times on a core that does 78 Gflop/s, the unit in which the targets
were set.
"""

from __future__ import annotations

import itertools
import os
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from measure import RESULTS
from parts import run_parts
from threadpoolctl import threadpool_limits

import gprann
from gprann.training.member import CommitteeTask
from gprann.training.optimizers import AdamW
from gprann.training.options import TrainingOptions
from gprann.training.prepared import Learner

UNIT = 78e9  # flop/s, to which times are scaled
training = import_module("gprann.training.train")  # the function of that name hides it in its package


def gemm() -> float:
    """Return the flop/s of large matrix products on one thread."""
    a, b = np.random.default_rng(0).normal(size=(2, 1200, 1200))
    with threadpool_limits(1):
        return 2 * 1200**3 / _seconds(lambda: a @ b, 7)


def _seconds(
    call: Callable[[], object], repeats: int, clock: Callable[[], float] = time.process_time
) -> float:
    """Return the median time of a call, after one that does not count."""
    call()
    times = []
    for _ in range(repeats):
        started = clock()
        call()
        times.append(clock() - started)
    return statistics.median(times)


class Times(dict[str, Any]):
    """Times in ms by name, with those of a core that does `UNIT` flop/s."""

    def one(
        self, name: str, call: Callable[[], object], repeats: int = 15, flops: float | None = None
    ) -> None:
        """Measure on one thread; with the operations of the call also its share of the rate of large products."""
        before = gemm()
        with _threads(1):
            seconds = _seconds(call, repeats)
        rate = 0.5 * (before + gemm())
        self[name] = {
            "ms": 1e3 * seconds,
            "gemm_Gflops": rate / 1e9,
            "scaled_ms": 1e3 * seconds * rate / UNIT,
        }
        if flops is not None:
            self[name]["share"] = flops / seconds / rate

    def two(self, name: str, call: Callable[[], object], repeats: int = 15) -> None:
        """Measure how much faster two threads are than one, by the clock, in turn."""
        ratios, seconds = [], []
        for _ in range(5):
            one, both = (_on_threads(call, threads, repeats) for threads in (1, 2))
            ratios.append(one / both)
            seconds.append(both)
        self[f"{name}, two threads"] = {
            "ms": 1e3 * statistics.median(seconds),
            "times_as_fast": statistics.median(ratios),
        }


def _on_threads(call: Callable[[], object], threads: int, repeats: int) -> float:
    with _threads(threads):
        return _seconds(call, max(repeats // 5, 1), time.perf_counter)


@contextmanager
def _threads(number: int) -> Iterator[None]:
    before = os.environ.get("GPRANN_NUM_THREADS")
    os.environ["GPRANN_NUM_THREADS"] = str(number)
    try:
        with threadpool_limits(number):
            yield
    finally:
        del os.environ["GPRANN_NUM_THREADS"]
        if before is not None:
            os.environ["GPRANN_NUM_THREADS"] = before


def _task(data: gprann.Dataset, descriptor: gprann.Descriptor, **options: Any) -> CommitteeTask:
    """Return what `gprann.train` minimises, for networks of two layers of ten."""
    settings = TrainingOptions(**{"hidden": (10, 10), **options})
    model = settings.model.build(descriptor.size, len(descriptor.species))
    task: CommitteeTask = training._in_memory(data, Learner(descriptor, model, settings), None).task
    return task


def _epoch(task: CommitteeTask) -> Callable[[], object]:
    """Return a function that does one epoch of AdamW."""
    objective, optimizer = task.objective, task.options.optimizer
    assert isinstance(optimizer, AdamW)
    generator = np.random.default_rng(0)
    state = optimizer.start(objective.model.initial(generator), task.workload)
    frozen = np.zeros(0, dtype=np.int64)

    def run() -> None:
        batches = objective.epoch(generator, optimizer.batch_size)
        state.parameters, _ = optimizer._run_epoch(batches, state, 1e-3, frozen)

    return run


def _flops_of_epoch(task: CommitteeTask) -> float:
    """Return the operations of an epoch with energies alone: forward, back to the first layer, gradient."""
    sizes = (task.objective.model.n_features, 10, 10, 1)
    weights = sum(a * b for a, b in itertools.pairwise(sizes))
    return float(task.objective.counts.sum() * (6 * weights - 2 * sizes[0] * sizes[1]))


def _dimers(data: Path) -> tuple[gprann.Dataset, gprann.ChebyshevDescriptor]:
    train = gprann.read(data / "ec_dimer" / "train.extxyz")
    return train, gprann.ChebyshevDescriptor(train.species)


def energies(data: Path) -> dict[str, Any]:
    """An epoch of AdamW over the energies of 250 EC dimers, in batches of 32."""
    task = _task(*_dimers(data), optimizer="adamw", batch_size=32)
    times = Times()
    times.one("epoch, 250 structures", _epoch(task), 31, _flops_of_epoch(task))
    return times


def displaced(data: gprann.Dataset, copies: int) -> gprann.Dataset:
    """Return displaced copies of each structure, with the energy of what it was."""
    generator = np.random.default_rng(0)
    return gprann.Dataset(
        gprann.Structure(
            item.symbols,
            item.positions + 0.02 * generator.normal(size=item.positions.shape),
            item.cell,
            item.pbc,
            energy=item.energy,
        )
        for item in data
        for _ in range(copies)
    )


def copies(data: Path) -> dict[str, Any]:
    """9,250 structures (36 copies of each): an epoch in batches of 256, and an iteration of Levenberg-Marquardt."""
    train, descriptor = _dimers(data)
    task = _task(displaced(train, 37), descriptor, optimizer="adamw", batch_size=256)
    times = Times()
    epoch = _epoch(task)
    times.one("epoch, 9250 structures", epoch, 9, _flops_of_epoch(task))
    times.two("epoch, 9250 structures", epoch, 15)
    objective = task.objective
    P = objective.n_parameters
    hessian, slope = np.zeros((P, P)), np.zeros(P)
    w = objective.model.initial(np.random.default_rng(0))

    def equations() -> None:
        objective.normal_equations(w, hessian, slope)

    times.one("normal equations, 9250 energies", equations, 5, objective.size * P * (P + 1.0))
    times.two("normal equations, 9250 energies", equations, 5)

    def solve() -> None:
        matrix = hessian + np.diag(np.diag(hessian) + 1e-6)
        np.linalg.cholesky(matrix)

    times.one("Cholesky of the normal equations", solve, 5, P**3 / 3)
    return times


def forces(data: Path) -> dict[str, Any]:
    """An epoch of AdamW over energies and forces of 250 EC dimers, in batches of 32."""
    task = _task(*_dimers(data), optimizer="adamw", batch_size=32, forces=True)
    times = Times()
    times.one("epoch with forces, 250 structures", _epoch(task), 15)
    return times


def _products(data: Path, descriptor: gprann.Descriptor, structures: int) -> dict[str, Any]:
    slabs = gprann.read(data / "li_ec" / "train.extxyz")[:structures]
    lists = descriptor.neighbours(slabs)
    generator = np.random.default_rng(0)
    cotangent = generator.normal(size=(lists.n_atoms, descriptor.size))
    direction = generator.normal(size=(lists.n_atoms, 3))
    times = Times(
        structures=structures, atoms=int(lists.n_atoms), neighbours=len(lists.neighbour) / lists.n_atoms
    )
    times.one("values", lambda: descriptor.values(lists), 7)
    times.one("vjp", lambda: descriptor.vjp(lists, cotangent), 7)
    times.one("jvp", lambda: descriptor.jvp(lists, direction), 7)
    return times


def descriptor(data: Path) -> dict[str, Any]:
    """Values and products with the Jacobian of the Chebyshev descriptor, 100 structures of EC on Li(100)."""
    chebyshev = gprann.ChebyshevDescriptor(["Li", "C", "H", "O"], radial_cutoff=10.5, angular_cutoff=8.0)
    return _products(data, chebyshev, 100)


def density(data: Path) -> dict[str, Any]:
    """The same for the density descriptor with its defaults, 20 structures."""
    return _products(data, gprann.DensityDescriptor(["Li", "C", "H", "O"]), 20)


PARTS = {f.__name__: f for f in (energies, copies, forces, descriptor, density)}

if __name__ == "__main__":
    run_parts(PARTS, RESULTS / "limits.json", __doc__)
