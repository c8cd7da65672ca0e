"""How the cost of training and prediction grows with the work: one sweep for each size, and the exponent of the growth.

    python bench/python/exponents.py

Writes bench/results/exponents.json and exponents.png. Structures are rattled cubic crystals of one density, so that the
number of neighbours is that of the cutoff whatever the number of atoms. Times are seconds of processor time on one
thread, the least of some repeats. The exponent is that of a power law through the upper half of a sweep: 1 is linear.
Of the sweep over the cutoff it is the exponent in the number of neighbours.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from importlib import import_module
from typing import Any

import numpy as np
from limits import _epoch, _task, _threads
from measure import RESULTS, machine

import gprann

SPECIES = ("Li", "C", "H", "O", "Na", "S", "P", "Cl")
SPACING = 2.2  # Å between neighbours of the crystals


def crystals(count: int, edge: int, species: int = 2) -> gprann.Dataset:
    """Return rattled cubic crystals of edge^3 atoms, with energies and forces of no meaning."""
    generator = np.random.default_rng(0)
    grid = SPACING * np.stack(np.meshgrid(*[np.arange(edge)] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
    made = []
    for _ in range(count):
        symbols = tuple(SPECIES[k % species] for k in range(len(grid)))
        made.append(
            gprann.Structure(
                symbols,
                grid + 0.05 * generator.normal(size=grid.shape),
                np.eye(3) * SPACING * edge,
                np.ones(3, dtype=bool),
                energy=float(generator.normal()),
                forces=generator.normal(size=grid.shape),
            )
        )
    return gprann.Dataset(made)


def descriptor_of(cutoff: float, species: int = 2) -> gprann.ChebyshevDescriptor:
    """Return a descriptor with one cutoff for both parts."""
    return gprann.ChebyshevDescriptor(SPECIES[:species], radial_cutoff=cutoff, angular_cutoff=cutoff)


def least(call: Callable[[], object], repeats: int = 5) -> float:
    """Return the least processor time of a call on one thread, s."""
    call()
    times = []
    with _threads(1):
        for _ in range(repeats):
            started = time.process_time()
            call()
            times.append(time.process_time() - started)
    return min(times)


def epoch(data: gprann.Dataset, cutoff: float = 5.0, species: int = 2, **options: Any) -> float:
    """Return the time of an epoch of AdamW with forces, s."""
    chosen = {"optimizer": "adamw", "forces": True, "alpha": 0.5, "validation": 0.0, **options}
    return least(_epoch(_task(data, descriptor_of(cutoff, species), **chosen)))


def products(cutoff: float) -> tuple[float, float]:
    """Return neighbours of an atom, and the time of values and a product with the Jacobian, s."""
    data, descriptor = crystals(4, 6), descriptor_of(cutoff)
    lists = descriptor.neighbours(data)
    cotangent = np.ones((lists.n_atoms, descriptor.size))
    seconds = least(lambda: (descriptor.values(lists), descriptor.vjp(lists, cotangent)))
    return len(lists.neighbour) / lists.n_atoms, seconds


def equations(hidden: int) -> tuple[float, float]:
    """Return weights, and the time of the normal equations of 2,000 energies, s."""
    task = _task(crystals(2000, 2), descriptor_of(4.0), optimizer="lm", hidden=(hidden, hidden))
    objective = task.objective
    size = objective.n_parameters
    hessian, slope = np.zeros((size, size)), np.zeros(size)
    w = objective.model.initial(np.random.default_rng(0))
    return float(size), least(lambda: objective.normal_equations(w, hessian, slope), 3)


SWEEPS: dict[str, tuple[str, Callable[[], list[tuple[float, float]]]]] = {
    "cutoff": (
        "neighbours of an atom; values and vjp",
        lambda: [products(cutoff) for cutoff in (4.0, 5.0, 6.0, 7.0, 8.0, 10.0)],
    ),
    "atoms": (
        "atoms of a structure; epoch with forces",
        lambda: [(edge**3, epoch(crystals(8, edge))) for edge in (2, 3, 4, 5, 6, 8)],
    ),
    "structures": (
        "structures; epoch with forces",
        lambda: [(count, epoch(crystals(count, 3))) for count in (16, 32, 64, 128, 256)],
    ),
    "copies": (
        "copies M of 100 structures; epoch of energies",
        lambda: [
            (copies, epoch(crystals(100 * copies, 2), forces=False, alpha=None, batch_size=256))
            for copies in (4, 8, 16, 32, 64)
        ],
    ),
    "species": (
        "elements; epoch with forces",
        lambda: [(species, epoch(crystals(64, 3, species), species=species)) for species in (1, 2, 4, 8)],
    ),
    "weights": (
        "weights of a network; normal equations of 2,000 energies",
        lambda: [equations(hidden) for hidden in (5, 10, 20, 30)],
    ),
}


def exponent(points: list[tuple[float, float]]) -> float:
    """Return the exponent of a power law through the upper half of a sweep."""
    upper = np.log(np.array(points[len(points) // 2 - 1 :]))
    return float(np.polyfit(upper[:, 0], upper[:, 1], 1)[0])


def main() -> None:
    """Run all sweeps, and draw them."""
    import_module("matplotlib").use("agg")
    from matplotlib import pyplot

    result: dict[str, Any] = {"machine": machine()}
    figure, axes = pyplot.subplots(2, 3, figsize=(11, 6.4), layout="constrained")
    for (name, (text, sweep)), axis in zip(SWEEPS.items(), axes.flat, strict=True):
        points = sweep()
        result[name] = {"of": text, "points": points, "exponent": exponent(points)}
        print(f"{name:12s} exponent {result[name]['exponent']:.2f}  {text}", flush=True)
        axis.loglog(*zip(*points, strict=True), "o-", color="black", ms=4)
        axis.set_xlabel(text)
        axis.set_ylabel("s")
        axis.set_title(f"exponent {result[name]['exponent']:.2f}", fontsize=10)
    (RESULTS / "exponents.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    figure.savefig(RESULTS / "exponents.png", dpi=110)


if __name__ == "__main__":
    main()
