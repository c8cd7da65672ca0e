"""Energies alone, Taylor copies, GPR copies and forces with symmetry functions: Cooper et al. in small.

    python bench/python/cooper.py DATA [PART ...]

Cooper, Kästner, Urban, Artrith, npj Comput. Mater. 6, 54 (2020), compare networks trained on energies alone with those
of which copies of the structures, displaced by delta and labelled by a Taylor expansion, are learned too: strategy A
displaces each atom along each axis, B all atoms at random. Beside them stand copies that surrogates label (GPR-ANN)
and direct training on forces. Parts: ethanol (rMD17, 50 structures), water (20 boxes of 192 atoms), 5-5 networks on
symmetry functions by the rule, one seed. Of water, simulations at constant energy and radial distributions follow.
Each result is merged into bench/results/cooper.json at once. DATA is the folder with public/.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from measure import RESULTS
from parts import Part, run_parts

import gprann
from gprann import Dataset

SEED = 0
TEST = 100
OPTIONS: dict[str, Any] = {"hidden": (5, 5), "members": 1, "iterations": 30, "seed": SEED, "progress": False}
TEMPERATURE, LENGTH, STEP = 300.0, 2.0, 0.5  # K, ps, fs


def descriptor_of(data: Dataset) -> gprann.Descriptor:
    """Return a set small enough for some tens of structures."""
    return gprann.SymmetryFunctionDescriptor(data.species, radial=6, radial_cutoff=5.0, angular=1)


def taylor(**options: Any) -> Callable[[Dataset], Dataset]:
    """Return what adds copies that a Taylor expansion labels."""
    return lambda data: gprann.taylor_augment(data, seed=SEED, **options)


def gpr(copies: int) -> Callable[[Dataset], Dataset]:
    """Return what adds copies that a surrogate of energies and forces labels."""

    def add(data: Dataset) -> Dataset:
        surrogate = gprann.Surrogate().fit(data)
        return gprann.augment(data, surrogate, copies=copies, seed=SEED)

    return add


def ways(
    displacements: tuple[float, ...], copies: int, *, along_axes: bool = True
) -> Iterator[tuple[str, Callable[[Dataset], Dataset]]]:
    """Name every training set, and tell how it is made of the structures."""
    yield "energies", lambda data: data
    yield "direct", lambda data: data
    for displacement in displacements:
        if along_axes:
            yield f"Taylor A, {displacement} Å", taylor(strategy="A", displacement=displacement)
        for count in (5, 10):
            name = f"Taylor B, {displacement} Å, {count} copies"
            yield name, taylor(strategy="B", displacement=displacement, copies=count)
    yield f"GPR, {copies} copies", gpr(copies)


def errors(potential: gprann.Potential, test: Dataset) -> dict[str, float]:
    """Return errors of energies (meV), force components (meV/Å) and directions of forces (degrees)."""
    report = gprann.evaluate(potential, test, forces_std=0)
    predicted = np.concatenate(list(potential.predict(test).forces))
    reference = np.concatenate([item.forces for item in test if item.forces is not None])
    cosine = np.sum(predicted * reference, axis=1) / (
        np.linalg.norm(predicted, axis=1) * np.linalg.norm(reference, axis=1)
    )
    return {
        "energy MAE, meV": 1e3 * report.energy_mae,
        "force MAE, meV/Å": 1e3 * (report.force_mae or 0.0),
        "force RMSE, meV/Å": 1e3 * (report.force_rmse or 0.0),
        "direction, degrees": float(np.degrees(np.arccos(np.clip(cosine, -1, 1))).mean()),
    }


def rows(
    train: Dataset,
    test: Dataset,
    made: Iterator[tuple[str, Callable[[Dataset], Dataset]]],
    further: Callable[[gprann.Potential], dict[str, Any]] = lambda potential: {},  # noqa: ARG005
) -> Iterator[dict[str, Any]]:
    """Train and test in each way; yield the table after each."""
    descriptor = descriptor_of(train)
    table: dict[str, Any] = {"descriptor": str(descriptor), "rows": {}}
    for name, make in made:
        begin = time.process_time()
        data = make(train)
        added = time.process_time()
        potential = gprann.train(data, descriptor, forces=name == "direct", **OPTIONS)
        table["rows"][name] = {
            "structures": len(data),
            "copies, s CPU": round(added - begin, 1),
            "training, s CPU": round(time.process_time() - added, 1),
            **{key: round(value, 1) for key, value in errors(potential, test).items()},
            **further(potential),
        }
        yield table


def ethanol(data: Path) -> Iterator[dict[str, Any]]:
    """rMD17 ethanol."""
    folder = data / "public/rmd17_ethanol"
    train, test = (gprann.read(folder / name) for name in ("train50.extxyz", "dev.extxyz"))
    yield from rows(train, test[:TEST], ways((0.01, 0.03), 36))


def water(data: Path) -> Iterator[dict[str, Any]]:
    """Boxes of liquid water; then dynamics from one of them, and where the neighbours are."""
    folder = data / "public/water"
    train, test = (gprann.read(folder / name) for name in ("train.extxyz", "dev.extxyz"))
    expected = gprann.rdf(train, "O", "O")

    def simulate(potential: gprann.Potential) -> dict[str, Any]:
        with tempfile.TemporaryDirectory() as name:
            result = gprann.md(
                potential,
                test[0],
                name,
                ensemble="nve",
                temperature=TEMPERATURE,
                length=LENGTH,
                time_step=STEP,
                seed=SEED,
                progress=False,
            )
            frames = gprann.read(Path(name) / "trajectory.extxyz", require=())
        found = gprann.rdf(frames, "O", "O")
        return {
            "ps until it stops": round(1e-3 * STEP * result.steps, 3),
            "why": result.reason,
            "drift, meV/atom/ps": round(result.drift, 3),
            "O-O first peak, Å": round(float(found.r[np.argmax(found.g)]), 2),
            "O-O, mean difference of g": round(float(np.abs(found.g - expected.g).mean()), 3),
        }

    # Strategy A would make 1,152 copies of each box.
    for table in rows(train[:20], test[:10], ways((0.01, 0.03), 5, along_axes=False), simulate):
        yield {**table, "O-O first peak of the data, Å": float(expected.r[np.argmax(expected.g)])}


PARTS: dict[str, Part] = {"ethanol": ethanol, "water": water}

if __name__ == "__main__":
    run_parts(PARTS, RESULTS / "cooper.json", __doc__)
