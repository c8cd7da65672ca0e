"""Trainings whose results are compared between one process and several ranks: `python rank_trainings.py FOLDER`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import samples
from gprann import ChebyshevDescriptor, Dataset, train
from gprann.runtime.role import is_follower

LM: dict[str, Any] = {"optimizer": "lm", "starts": 1, "iterations": 3, "hidden": (4,)}
ROWS: dict[str, Any] = {**LM, "hidden": (16, 16), "forces": True, "alpha": 0.9}
_FIRST: dict[str, dict[str, Any]] = {
    "adamw": {"optimizer": "adamw", "iterations": 2, "batch_size": 8, "hidden": (4,)},
    "lbfgs": {"optimizer": "lbfgs", "iterations": 3, "hidden": (4,)},
    "lm": LM,
    "gauss_newton_cg": {**LM, "optimizer": "gauss_newton_cg", "iterations": 2},
}
TRAININGS: dict[str, dict[str, Any]] = {
    **{f"{name}, energies": options for name, options in _FIRST.items()},
    **{f"{name}, forces": {**options, "forces": True, "alpha": 0.9} for name, options in _FIRST.items()},
    "the best of some starts": {**LM, "starts": 3, "start_iterations": 1, "members": 2},
    "balance found": {**LM, "forces": True},
    "draws of forces and rows": {**LM, "forces": True, "alpha": 0.9, "max_rows": 200, "force_fraction": 0.5},
    "fewer rows than parameters": {**ROWS, "iterations": 2},
    "outliers": {**LM, "huber_energy": 0.05},
    "stress": {**LM, "forces": True, "alpha": 0.9, "stress": 0.1},
    "nothing held out": {**LM, "validation": 0.0},
}
DESCRIPTOR = ChebyshevDescriptor(
    ["H", "O"], radial_order=5, radial_cutoff=3.7, angular_order=2, angular_cutoff=3.1
)


def data_of(name: str) -> Dataset:
    """Return structures of two sizes and two elements."""
    if name == "stress":
        return samples.strained_crystals(24)
    return samples.waters(4 if name == "fewer rows than parameters" else 24) + samples.crystals(8)


def results(name: str, **options: Any) -> dict[str, NDArray[Any]]:
    """Return the numbers that a training ends with."""
    potential = train(data_of(name), DESCRIPTOR, seed=3, **TRAININGS[name], **options)
    training = potential.provenance["training"]
    predictions = potential.predict(samples.waters(5, seed=9))
    return {
        "parameters": potential.parameters,
        "normalisation": potential.normalisation.mean * potential.normalisation.inverse_scale,
        "history": np.array([[step[1], step[2] or 0.0] for member in training["history"] for step in member]),
        "grades": np.concatenate(predictions.grades),
        "reach": np.array([number or 0.0 for number in potential.guard.reach.values()]),
        "alpha": np.array([training["options"].get("alpha") or 0.0]),
    }


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    for number, training_name in enumerate(TRAININGS):
        found = results(training_name, mpi=True, checkpoint=folder / f"states {number}")
        followers = "-follower" if is_follower() else ""
        np.savez(folder / f"{number}{followers}.npz", **found)
