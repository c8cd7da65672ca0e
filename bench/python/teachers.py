"""Molecular dynamics with GFN2-xTB + surrogate, and with networks that such surrogates have taught.

    python bench/python/teachers.py DATA [PART ...]

Parts: ec_teacher (surrogate of 100 EC dimers), ec_taught (network taught by that of 250), ethanol_taught and
aspirin_taught (networks from 50 structures); by default all. Each result is merged into bench/results/teachers.json at
once. DATA is the folder with public/ and ec_dimer/. All parts need tblite. Networks by `gprann run` with its defaults
and the baseline for the surrogate alone; one run each.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from ase import units
from ase.md.velocitydistribution import MaxwellBoltzmannDistribution, Stationary, ZeroRotation
from ase.md.verlet import VelocityVerlet
from measure import RESULTS
from parts import Part, run_parts
from public_sets import SETS

import gprann

FILE = RESULTS / "teachers.json"
TIMESTEP = 0.5  # fs
TEMPERATURE = 300.0  # K
LENGTH = 10.0  # ps
HOT = 3000.0  # K: the molecules are torn apart
EVERY = 20  # steps between two looks at the energy
CONFIGURATION = """
output.folder = "{output}"

[data]
train = "{train}"
test = "{test}"

[surrogate.baseline]
kind = "calculator"
calculator = "tblite"
"""


def simulate(calculator: Any, start: gprann.Structure, seed: int) -> dict[str, Any]:
    """Run molecular dynamics at constant energy, until it ends or the molecules are torn apart."""
    atoms = start.without_labels().to_ase()
    atoms.calc = calculator
    MaxwellBoltzmannDistribution(atoms, temperature_K=TEMPERATURE, rng=np.random.default_rng(seed))
    Stationary(atoms)
    ZeroRotation(atoms)
    dynamics = VelocityVerlet(atoms, TIMESTEP * units.fs)
    times, energies, hottest = [], [], 0.0
    started = time.perf_counter()
    while 1e-3 * TIMESTEP * dynamics.nsteps < LENGTH and hottest < HOT:
        dynamics.run(EVERY)
        times.append(1e-3 * TIMESTEP * dynamics.nsteps)
        energies.append(1e3 * atoms.get_total_energy() / len(atoms))
        hottest = max(hottest, float(atoms.get_temperature()))
    return {
        "seed": seed,
        "ps": times[-1],
        "stable": hottest < HOT,
        "hottest": hottest,
        "drift": float(np.polyfit(times, energies, 1)[0]),
        "largest_change": float(np.max(np.abs(np.array(energies) - energies[0]))),
        "ms_per_step": 1e3 * (time.perf_counter() - started) / dynamics.nsteps,
    }


def simulations(
    calculator: Any, start: gprann.Structure, seeds: int, found: dict[str, Any]
) -> Iterator[dict[str, Any]]:
    """Yield what was found before, with the simulations that have ended."""
    runs: list[dict[str, Any]] = []
    yield {**found, "runs": runs}
    for seed in range(seeds):
        runs.append(simulate(calculator, start, seed))
        yield {**found, "runs": runs}


def errors(model: Any, test: gprann.Dataset) -> dict[str, float]:
    """Return mean absolute errors, meV and meV/Å."""
    report = gprann.evaluate(model, test, forces_std=0)
    return {"energy_mae": 1e3 * report.energy_mae, "force_mae": 1e3 * (report.force_mae or 0.0)}


def ec_teacher(data: Path) -> Iterator[dict[str, Any]]:
    """GFN2-xTB + surrogate of 100 EC dimers: errors, and three simulations."""
    train, test = (gprann.read(data / f"ec_dimer/{name}.extxyz") for name in ("train", "dev"))
    surrogate = gprann.Surrogate(baseline=gprann.CalculatorBaseline(calculator="tblite")).fit(train[:100])
    found = {"n_train": 100, "bound": surrogate.bound, **errors(surrogate, test)}
    yield from simulations(gprann.SurrogateCalculator(surrogate), test[0], 3, found)


def taught(train: Path, test: Path) -> tuple[gprann.Potential, dict[str, Any]]:
    """Train a network by `gprann run`, with GFN2-xTB for the surrogate alone."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "config.toml"
        output = Path(folder) / "run"
        file.write_text(CONFIGURATION.format(output=output, train=train, test=test), encoding="utf-8")
        started = time.perf_counter()
        result = gprann.run(file)
        seconds = time.perf_counter() - started
        potential = gprann.Potential.load(result.potential)
    held_out = gprann.read(test)
    return potential, {
        "seconds": seconds,
        "members": len(potential),
        **errors(potential, held_out),
        "atoms_per_second": speed(potential[0], held_out),
    }


def speed(potential: gprann.Potential, data: gprann.Dataset) -> float:
    """Return how many atoms a single network predicts in a second."""
    data = data[:200]
    potential.predict(data)
    started = time.perf_counter()
    for _ in range(5):
        potential.predict(data)
    return 5 * int(data.n_atoms.sum()) / (time.perf_counter() - started)


def ec_taught(data: Path) -> Iterator[dict[str, Any]]:
    """A network taught by GFN2-xTB + surrogate of 250 EC dimers: errors, and five simulations."""
    train, test = (data / f"ec_dimer/{name}.extxyz" for name in ("train", "dev"))
    potential, found = taught(train, test)
    yield from simulations(gprann.Calculator(potential), gprann.read(test)[0], 5, found)


def rmd17(name: str) -> Callable[[Path], dict[str, Any]]:
    """Return the measurement on a network from 50 structures of one molecule."""

    def measure(data: Path) -> dict[str, Any]:
        return taught(*SETS[f"rmd17_{name}"].files(data, 50))[1]

    return measure


PARTS: dict[str, Part] = {
    "ec_teacher": ec_teacher,
    "ec_taught": ec_taught,
    "ethanol_taught": rmd17("ethanol"),
    "aspirin_taught": rmd17("aspirin"),
}


if __name__ == "__main__":
    run_parts(PARTS, FILE, __doc__)
