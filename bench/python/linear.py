"""Linear and quadratic models: time, accuracy, and the balance of energies and forces.

    python bench/python/linear.py DATA [PART ...]

Parts: silicon (linear, quadratic and a network on the Chebyshev descriptor; nine balances in five folds), azobenzene,
ethanol and aspirin (linear models of 50 structures on the density descriptor, which is linear ACE); by default all.
Defaults were chosen on azobenzene and silicon. Each result is merged into bench/results/linear.json at once. DATA is
the folder with silicon/ and public/.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from measure import RESULTS
from parts import Part, run_parts
from public_sets import SETS

import gprann


def errors(model: gprann.Potential, test: gprann.Dataset) -> dict[str, Any]:
    """Return errors, meV and meV/Å, and how many lie within one and two standard deviations."""
    report = gprann.evaluate(model, test)
    return {
        "energy_mae": 1e3 * report.energy_mae,
        "force_mae": 1e3 * (report.force_mae or 0.0),
        "force_rmse": 1e3 * (report.force_rmse or 0.0),
    }


def timed(fit: Callable[[], gprann.Potential]) -> tuple[gprann.Potential, float]:
    """Return a potential and the processor time of its fit, s."""
    started = time.process_time()
    return fit(), time.process_time() - started


def silicon(data: Path) -> dict[str, Any]:
    """Fit Stillinger-Weber silicon, 240 structures of 64 atoms."""
    train, test = (gprann.read(data / f"silicon/sw_{name}.extxyz") for name in ("train", "test"))
    descriptor = gprann.ChebyshevDescriptor(["Si"], radial_order=12, angular_order=4)
    result: dict[str, Any] = {}
    for name, quadratic in (("linear", False), ("quadratic", True)):
        potential, seconds = timed(lambda q=quadratic: gprann.fit_linear(train, descriptor, quadratic=q))  # type: ignore[misc]
        facts = potential.provenance["training"]
        result[name] = {
            "cpu_seconds": seconds,
            "ridge": facts["ridge"],
            "scan": facts["scan"],
            **errors(potential, test),
        }
    network, seconds = timed(
        lambda: gprann.train(train, descriptor, hidden=(10, 10), forces=True, optimizer="lm", progress=False)
    )
    result["network_10_10"] = {"cpu_seconds": seconds, **errors(network, test)}
    result["cpu_seconds_of_both"] = sum(result[name]["cpu_seconds"] for name in ("linear", "quadratic"))
    for other in ("linear", "network_10_10"):
        result[f"quadratic_over_{other}"] = result["quadratic"]["force_rmse"] / result[other]["force_rmse"]
    return result


def molecule(name: str) -> Callable[[Path], dict[str, Any]]:
    """Return the measurement on 50 structures of one molecule."""

    def measure(data: Path) -> dict[str, Any]:
        train, test = (gprann.read(file) for file in SETS[f"rmd17_{name}"].files(data, 50))
        descriptor = gprann.DensityDescriptor(sorted(set(train.species)))
        potential, seconds = timed(lambda: gprann.fit_linear(train, descriptor, members=1))
        coefficients = potential.model.n_parameters
        return {
            "n_train": 50,
            "coefficients": coefficients,
            "cpu_seconds": seconds,
            **errors(potential, test),
        }

    return measure


PARTS: dict[str, Part] = {
    "silicon": silicon,
    "azobenzene": molecule("azobenzene"),
    "ethanol": molecule("ethanol"),
    "aspirin": molecule("aspirin"),
}


if __name__ == "__main__":
    run_parts(PARTS, RESULTS / "linear.json", __doc__)
