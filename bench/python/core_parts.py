"""Measurements of descriptors and of potentials in use; run by measure.py."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import gprann

__all__ = ["descriptor", "in_use"]


def descriptor(data: Path) -> dict[str, Any]:
    """Largest relative deviation of the descriptor from the ænet program."""
    result = {}
    for name, species in (("EC-EC", ["C", "H", "O"]), ("Li-EC", ["Li", "C", "H", "O"])):
        reference = json.loads((data / "aenet_reference" / name / "reference.json").read_text())
        cell = np.array(reference["cell"]) if reference["cell"] is not None else np.zeros((3, 3))
        structure = gprann.Structure(
            tuple(reference["symbols"]),
            np.array(reference["positions"]),
            cell,
            np.full(3, bool(np.any(cell))),
        )
        chebyshev = gprann.ChebyshevDescriptor(species)
        values = chebyshev.values(chebyshev.neighbours([structure]))
        expected = np.array(reference["raw_descriptors"])
        result[name] = float(np.abs(values - expected).max() / np.abs(expected).max())
    return result


def in_use(data: Path) -> dict[str, Any]:
    """Energies and forces of EC dimers from a potential, neighbour lists included."""
    train, test = (gprann.read(data / "ec_dimer" / f"{part}.extxyz") for part in ("train", "dev"))
    descriptor = gprann.ChebyshevDescriptor(train.species)
    potential = gprann.train(train, descriptor, forces=True, iterations=2, seed=0, progress=False)
    atoms = test[0].to_ase()
    atoms.calc = gprann.Calculator(potential)
    generator = np.random.default_rng(0)

    def step() -> None:
        atoms.positions += 1e-3 * generator.normal(size=(len(atoms), 3))
        atoms.get_forces()

    n_atoms = sum(len(structure) for structure in test)
    return {
        "atoms_per_second_batch": n_atoms / _median(lambda: potential.predict(test)),
        "atoms_per_second_calculator": len(atoms) / _median(step, repeats=200),
    }


def _median(call: Callable[[], object], repeats: int = 21) -> float:
    """Return the median time of a call, seconds."""
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        call()
        times.append(time.perf_counter() - started)
    return statistics.median(times)
