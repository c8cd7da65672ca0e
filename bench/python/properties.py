"""Properties of silicon by potentials of several kinds, beside those of the reference: is the force error what counts?

    python bench/python/properties.py DATA [PART ...]

Parts: solid (models of the solid structures alone), all (of all structures, melts included); by default both. Models
are linear, quadratic, and a network, on the Chebyshev descriptor of `linear.py`. The reference is the potential of
Stillinger and Weber that has labelled the data. Times are processor time of fit and properties. Each result is merged
into bench/results/properties.json at once. DATA is the folder with silicon/.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from ase.build import bulk
from measure import RESULTS
from parts import Part, run_parts

import gprann
from gprann.labelling.calculators import CalculatorSpec

REFERENCE = CalculatorSpec("reference_calculators:StillingerWeber")
PROPERTIES = ["relaxation", "equation_of_state", "elastic_constants", "phonons", "thermal_conductivity"]
SOLID = -4.0  # eV/atom; melts lie above
ENERGIES_OF_DEFECTS = ["vacancy", "surfaces"]


def relative(found: gprann.Properties, name: str, values: list[str] | None = None) -> float:
    """Return the largest relative difference of values of a property."""
    sides = found.results[name]
    known = {item["name"]: item["value"] for item in sides["reference"]["values"]}
    return max(
        abs(item["value"] / known[item["name"]] - 1.0)
        for item in sides["potential"]["values"]
        if values is None or item["name"] in values
    )


def frequencies(found: gprann.Properties) -> float:
    """Return the mean difference of frequencies along the path, relative to their mean."""
    own, expected = (
        np.array(found.results["phonons"][side]["curves"]["bands"]) for side in ("potential", "reference")
    )
    return float(np.abs(own - expected).mean() / np.abs(expected).mean())


def measure(train: gprann.Dataset, test: gprann.Dataset) -> dict[str, Any]:
    """Fit three models, and measure properties with them."""
    descriptor = gprann.ChebyshevDescriptor(["Si"], radial_order=12, angular_order=4)
    ways: dict[str, Callable[[], gprann.Potential]] = {
        "linear": lambda: gprann.fit_linear(train, descriptor, members=1),
        "quadratic": lambda: gprann.fit_linear(train, descriptor, quadratic=True, members=1),
        "network_10_10": lambda: gprann.train(
            train, descriptor, hidden=(10, 10), forces=True, optimizer="lm", progress=False
        ),
    }
    crystal = gprann.Structure.from_ase(bulk("Si", cubic=True))
    result: dict[str, Any] = {"structures": len(train)}
    for name, fit in ways.items():
        started = time.process_time()
        potential = fit()
        fitted = time.process_time()
        with tempfile.TemporaryDirectory() as folder:
            gprann.measure_properties(potential, crystal, folder, only=PROPERTIES)
            measured = time.process_time()
            found = gprann.measure_properties(
                potential, crystal, folder, only=PROPERTIES + ENERGIES_OF_DEFECTS, reference=REFERENCE
            )
        report = gprann.evaluate(potential, test, forces_std=0)
        result[name] = {
            "force_rmse": 1e3 * (report.force_rmse or 0.0),
            "cpu_seconds_fit": fitted - started,
            "cpu_seconds_properties": measured - fitted,
            "frequencies": frequencies(found),
            "elastic_constants": relative(found, "elastic_constants", ["C11", "C12", "C44"]),
            "bulk_modulus": relative(found, "equation_of_state", ["bulk modulus"]),
            "thermal_conductivity": relative(found, "thermal_conductivity"),
            "vacancy": relative(found, "vacancy"),
            "surfaces": relative(found, "surfaces"),
            "failed": dict(found.failed),
        }
        result["reference_conductivity"] = found.results["thermal_conductivity"]["reference"]["values"][0][
            "value"
        ]
    return result


def sets(data: Path, keep: Callable[[gprann.Structure], bool]) -> dict[str, Any]:
    """Measure with some of the structures."""
    train, test = (
        gprann.Dataset(item for item in gprann.read(data / f"silicon/sw_{name}.extxyz") if keep(item))
        for name in ("train", "test")
    )
    return measure(train, test)


PARTS: dict[str, Part] = {
    "solid": lambda data: sets(data, lambda item: (item.energy or 0.0) / len(item) < SOLID),
    "all": lambda data: sets(data, lambda _: True),
}

if __name__ == "__main__":
    run_parts(PARTS, RESULTS / "properties.json", __doc__)
