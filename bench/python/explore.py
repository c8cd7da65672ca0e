"""Labels that an exploration needs until simulations are stable and forces good, by the rule that chooses structures.

    python bench/python/explore.py DATA [PART ...] [--model NAME] [--seeds N] [--rules NAME ...] [--work FOLDER]

into bench/results/explore.json. Parts: ec (ethylene carbonate, GFN2-xTB, 1200 K, from 20 frames of 600 K), copper (a
Cu(111) slab with an adatom, EMT, 1000 K, from 5 frames of 200 K), ethanol (GFN2-xTB, 1000 K; defaults were chosen on
it). An exploration ends when three replicas of 20 ps survive and the mean absolute force error on frames of these,
labelled for it, is below 80 meV/Å (EC, ethanol) or 20 meV/Å (copper). All labels count: those of the start and of the
last test too. The error on frames of a simulation with the reference itself, which no exploration has seen, stands
beside it. In FOLDER explorations are kept: those that were interrupted go on, those that are complete are not repeated.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import ase
import numpy as np
from ase import units
from ase.build import add_adsorbate, fcc111, molecule
from ase.calculators.emt import EMT
from ase.constraints import FixAtoms
from ase.io import read, write
from ase.md.langevin import Langevin
from ase.md.velocitydistribution import MaxwellBoltzmannDistribution
from measure import RESULTS, machine

import gprann
from gprann.data.structure import Dataset, Structure

FILE = RESULTS / "explore.json"


def gfn2() -> Any:
    from tblite.ase import TBLite

    return TBLite(method="GFN2-xTB", verbosity=0)


def ethylene_carbonate(data: Path) -> ase.Atoms:
    return read(data / "ec_molecule.extxyz")


def ethanol(data: Path) -> ase.Atoms:  # noqa: ARG001 - as the others
    return molecule("CH3CH2OH")


def slab(data: Path) -> ase.Atoms:  # noqa: ARG001 - as the others
    atoms = fcc111("Cu", (3, 3, 4), vacuum=6.0, periodic=True)
    add_adsorbate(atoms, "Cu", 1.8, "fcc")
    atoms.set_constraint(FixAtoms(np.flatnonzero(atoms.positions[:, 2] < atoms.positions[:, 2].min() + 0.1)))
    return atoms


class System(NamedTuple):
    """What is explored: start, reference, temperatures (K) of the simulations and of the first frames."""

    atoms: Callable[[Path], ase.Atoms]
    make: Callable[[], Any]
    reference: dict[str, Any]
    temperature: float
    cool: float
    first: int
    time_step: float
    aim: float  # eV/Å


XTB = {"calculator": "tblite", "options": {"method": "GFN2-xTB", "verbosity": 0}}
SYSTEMS = {
    "ec": System(ethylene_carbonate, gfn2, XTB, 1200.0, 600.0, 20, 0.5, 0.08),
    "ethanol": System(ethanol, gfn2, XTB, 1000.0, 500.0, 20, 0.5, 0.08),
    "copper": System(slab, EMT, {"calculator": "emt"}, 1000.0, 200.0, 5, 2.0, 0.02),
}


def frames(system: System, data: Path, *, temperature: float, count: int, every: int, seed: int) -> Dataset:
    """Frames of a simulation with the reference, with its labels; forces on fixed atoms are those of the reference."""
    atoms = system.atoms(data)
    atoms.calc = system.make()
    rng = np.random.default_rng(seed)
    MaxwellBoltzmannDistribution(atoms, temperature_K=temperature, rng=rng)
    simulation = Langevin(
        atoms, system.time_step * units.fs, temperature_K=temperature, friction=0.01 / units.fs, rng=rng
    )
    found = []
    for _ in range(count):
        simulation.run(every)
        forces = atoms.get_forces(apply_constraint=False)
        bare = Structure.from_ase(ase.Atoms(atoms.symbols, atoms.positions, cell=atoms.cell, pbc=atoms.pbc))
        found.append(bare.replace(energy=float(atoms.get_potential_energy()), forces=forces))
    return Dataset(found)


def files(name: str, system: System, data: Path, work: Path, seed: int) -> tuple[Path, Path, Path]:
    """Start, first labels of a seed, and structures for the test, made where they are missing."""
    start, labels, test = (work / f"{name}_{what}.extxyz" for what in ("start", f"labels_{seed}", "test"))
    if not start.exists():
        write(start, system.atoms(data))
    if not labels.exists():
        gprann.write(
            labels, frames(system, data, temperature=system.cool, count=system.first, every=10, seed=seed)
        )
    if not test.exists():
        gprann.write(
            test, frames(system, data, temperature=system.temperature, count=100, every=50, seed=1000)
        )
    return start, labels, test


def explore(name: str, rule: str, seed: int, work: Path, arguments: Any) -> dict[str, Any]:
    """One exploration from the start to the end."""
    system = SYSTEMS[name]
    start, labels, test = files(name, system, arguments.data, work, seed)
    folder = work / f"{name}_{arguments.model}_{rule}_{seed}"
    began = time.perf_counter()
    result = gprann.explore(
        {
            "model": arguments.model,
            "start": {"structures": str(start), "labels": str(labels)},
            "reference": system.reference,
            "dynamics": {
                "temperature": system.temperature,
                "time_step": system.time_step,
                "length": 20.0,
                "seed": seed,
            },
            "choice": {"rule": rule},
            "convergence": {"force_error": system.aim, "max_labels": arguments.most},
            "output": {"folder": str(folder), "plots": False},
        }
    )
    seconds = round(time.perf_counter() - began, 1)
    last = result.generations[-1]
    held_out = gprann.read(test)
    predicted = gprann.load(result.potential).predict(held_out).forces
    errors = [np.abs(found - item.forces) for found, item in zip(predicted, held_out, strict=True)]
    return {
        "rule": rule,
        "seed": seed,
        "converged": result.converged,
        "labels": last.labels + last.added,
        "labels to the first stable generation": next(
            (one.labels for one in result.generations if one.survived), None
        ),
        "calls": last.calls + system.first,
        "error on its own runs, meV/A": None if last.error is None else round(1e3 * last.error, 1),
        "error on reference dynamics, meV/A": round(1e3 * float(np.concatenate(errors).mean()), 1),
        "seconds": seconds,
        "generations": [
            [one.labels, round(min(item.time for item in one.replicas), 3), one.error, one.new_error]
            for one in result.generations
        ],
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("data", type=Path)
    parser.add_argument("parts", nargs="*", default=["ec", "copper"])
    parser.add_argument("--model", default="quadratic")
    parser.add_argument("--rules", nargs="+", default=["informative", "random"])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--most", type=int, default=300, help="labels at which an exploration gives up")
    parser.add_argument("--work", type=Path)
    parser.add_argument("--dry", action="store_true", help="print, leave the file of results as it is")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        work = arguments.work or Path(folder)
        for name in arguments.parts:
            for rule in arguments.rules:
                runs = []
                for seed in range(arguments.seeds):
                    runs.append(explore(name, rule, seed, work, arguments))
                    print(name, json.dumps(runs[-1], ensure_ascii=False), flush=True)
                    if not arguments.dry:
                        keep(name, arguments.model, rule, runs)


def keep(name: str, model: str, rule: str, runs: list[dict[str, Any]]) -> None:
    """Write the runs of a rule among the results."""
    known = json.loads(FILE.read_text(encoding="utf-8")) if FILE.exists() else {}
    known["machine"] = machine()
    known.setdefault(name, {}).setdefault(model, {})[rule] = {
        "median of labels": statistics.median(run["labels"] for run in runs),
        "converged": sum(run["converged"] for run in runs),
        "runs": runs,
    }
    FILE.write_text(json.dumps(known, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
