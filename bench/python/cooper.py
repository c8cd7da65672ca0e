"""Energies alone, Taylor copies and forces with symmetry functions: the comparison of Cooper et al. in small.

Cooper, Kästner, Urban, Artrith, npj Comput. Mater. 6, 54 (2020), compare networks trained on energies alone with those
of which copies of the structures, displaced by delta and labelled by a Taylor expansion, are learned too: strategy A
displaces each atom along each axis, B all atoms at random. Here on ethanol (rMD17), 50 structures and 5-5 networks:

    python bench/python/cooper.py PATH/TO/rmd17_ethanol bench/results/cooper.json
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

import gprann
from gprann import Dataset

SEED = 0
TEST = 100
OPTIONS = {"hidden": (5, 5), "members": 1, "iterations": 30, "seed": SEED, "progress": False}


def descriptor_of(data: Dataset) -> gprann.Descriptor:
    """Return a set small enough for 50 structures."""
    return gprann.SymmetryFunctionDescriptor(data.species, radial=6, radial_cutoff=5.0, angular=1)


def settings() -> Iterator[tuple[str, dict[str, Any] | None]]:
    """Name every training set, and say how its copies are made."""
    yield "energies", None
    yield "direct", None
    for displacement in (0.01, 0.03):
        yield f"Taylor A, {displacement} Å", {"strategy": "A", "displacement": displacement}
        for copies in (5, 10):
            name = f"Taylor B, {displacement} Å, {copies} copies"
            yield name, {"strategy": "B", "displacement": displacement, "copies": copies}


def errors(potential: gprann.Potential, test: Dataset) -> dict[str, float]:
    """Return errors of energies (meV), force components (meV/Å) and directions of forces (degrees)."""
    prediction = potential.predict(test)
    predicted = np.concatenate(list(prediction.forces))
    reference = np.concatenate([s.forces for s in test])
    cosine = np.sum(predicted * reference, axis=1) / (
        np.linalg.norm(predicted, axis=1) * np.linalg.norm(reference, axis=1)
    )
    energy = np.asarray(prediction.energy) - [s.energy for s in test]
    return {
        "energy MAE, meV": 1e3 * float(np.abs(energy).mean()),
        "force MAE, meV/Å": 1e3 * float(np.abs(predicted - reference).mean()),
        "force RMSE, meV/Å": 1e3 * float(np.sqrt(np.mean((predicted - reference) ** 2))),
        "direction, degrees": float(np.degrees(np.arccos(np.clip(cosine, -1, 1))).mean()),
    }


def main(folder: str, target: str) -> None:
    """Train, test, and write the table after each training."""
    train, test = (gprann.read(Path(folder) / name) for name in ("train50.extxyz", "dev.extxyz"))
    test = test[:TEST]
    descriptor = descriptor_of(train)
    rows: dict[str, Any] = {}
    for name, copies in settings():
        data = train if copies is None else gprann.taylor_augment(train, seed=SEED, **copies)
        begin = time.process_time()
        potential = gprann.train(data, descriptor, forces=name == "direct", **OPTIONS)
        rows[name] = {
            "structures": len(data),
            "training, s CPU": round(time.process_time() - begin, 1),
            **{key: round(value, 1) for key, value in errors(potential, test).items()},
        }
        print(name, rows[name], flush=True)
        table = {
            "data": "rMD17 ethanol, 50 structures, 100 of the development set",
            "descriptor": str(descriptor),
            "rows": rows,
        }
        Path(target).write_text(json.dumps(table, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
