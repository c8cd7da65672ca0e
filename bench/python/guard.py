"""How well the extrapolation guard tells bad forces, and whether it stops a simulation before it breaks.

    python bench/python/guard.py DATA [PART ...] [--work FOLDER]

into bench/results/guard.json. Parts: the names of SETS, NAME.dft, dimer, calm, lithium, cost; all by default. In FOLDER
labels and potentials are kept for the next time.

A force error is bad above five times the median. Errors are measured on test structures and on displaced copies of
them (random displacements of 0.05, 0.1 and 0.2 Å, volumes of 0.78 to 1.33 times their own). Nobody has labelled the
latter: training, test and displaced structures of these potentials have the labels of one reference that is quickly
computed, GFN2-xTB, GFN1-xTB (EC on lithium; both: tblite), Stillinger-Weber or Finnis-Sinclair. Parts NAME.dft train on
the published labels and test on the published test structures alone. Choices were made on azobenzene and Si.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import ase
import numpy as np
from ase import units
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import read, write
from ase.md.verlet import VelocityVerlet
from ase.optimize import FIRE
from measure import RESULTS, machine
from reference_calculators import FinnisSinclair, StillingerWeber

import gprann
from gprann.evaluation.grades import LARGE, roc_area
from gprann.models.guard import STOP

FILE = RESULTS / "guard.json"
MEMBERS, ITERATIONS = 2, 60
LARGEST = 100.0  # eV/Å; displaced structures with larger reference forces are left out


def xtb(method: str) -> Callable[[], Any]:
    """Return what makes a calculator of xtb."""

    def make() -> Any:
        from tblite.ase import TBLite

        return TBLite(method=method, verbosity=0)

    return make


# Training file, its structures; test file, its structures; reference.
SETS: dict[str, tuple[str, int, str, int, Callable[[], Any]]] = {
    "azobenzene": ("public/rmd17_azobenzene/train50", 50, "public/rmd17_azobenzene/dev", 60, xtb("GFN2-xTB")),
    "Si": ("public/mlearn_Si/train", 1000, "public/mlearn_Si/test", 1000, StillingerWeber),
    "ethanol": ("public/rmd17_ethanol/train200", 200, "public/rmd17_ethanol/dev", 100, xtb("GFN2-xTB")),
    "aspirin": ("public/rmd17_aspirin/train200", 200, "public/rmd17_aspirin/dev", 60, xtb("GFN2-xTB")),
    "Mo": ("public/mlearn_Mo/train", 1000, "public/mlearn_Mo/test", 1000, FinnisSinclair),
    "ec_dimer": ("ec_dimer/train", 250, "ec_dimer/dev", 80, xtb("GFN2-xTB")),
    "li_ec": ("li_ec/train", 100, "li_ec/dev", 30, xtb("GFN1-xTB")),
}


def displaced(structures: list[ase.Atoms]) -> list[ase.Atoms]:
    """Return copies with displaced atoms or changed volumes."""
    rng = np.random.default_rng(1)
    result = []
    for number, structure in enumerate(structures):
        atoms = structure.copy()
        kind = number % 4
        if kind < 3:
            atoms.positions += rng.normal(0, (0.05, 0.1, 0.2)[kind], atoms.positions.shape)
        else:
            factor = rng.choice([0.92, 0.96, 1.05, 1.1])
            if atoms.pbc.any():
                atoms.set_cell(atoms.cell * factor, scale_atoms=True)
            else:
                atoms.positions *= factor
            atoms.positions += rng.normal(0, 0.03, atoms.positions.shape)
        result.append(atoms)
    return result


def label(structures: list[ase.Atoms], make: Callable[[], Any]) -> list[ase.Atoms]:
    """Return the structures with the labels of a calculator, without those that it cannot do."""
    result, calculator = [], make()
    for atoms in structures:
        atoms.calc = calculator
        try:
            energy, forces = atoms.get_potential_energy(), atoms.get_forces()
        except Exception as error:
            print("not labelled:", error)
            calculator = make()
            continue
        if np.abs(forces).max() < LARGEST:
            copy = atoms.copy()
            copy.calc = SinglePointCalculator(copy, energy=energy, forces=forces)
            result.append(copy)
    return result


class Work:
    """Data, and what is kept of them."""

    def __init__(self, data: Path, folder: Path) -> None:
        self.data, self.folder = data, folder
        folder.mkdir(parents=True, exist_ok=True)

    def published(self, name: str) -> tuple[gprann.Dataset, gprann.Dataset]:
        """Return training and test structures."""
        train, n_train, test, n_test, _ = SETS[name]
        read_set = lambda file: gprann.read(self.data / f"{file}.extxyz")  # noqa: E731
        return read_set(train)[:n_train], read_set(test)[:n_test]

    def labelled(self, name: str) -> list[gprann.Dataset]:
        """Return training, test and displaced structures with the labels of the reference."""
        files = [self.folder / f"{name}.{part}.extxyz" for part in ("train", "test", "displaced")]
        if not all(file.exists() for file in files):
            train, test = (
                [structure.without_labels().to_ase() for structure in part] for part in self.published(name)
            )
            for file, part in zip(files, (train, test, displaced(test)), strict=True):
                write(file, label(part, SETS[name][-1]), format="extxyz")
        return [gprann.read(read(file, ":")) for file in files]

    def potential(self, name: str, train: gprann.Dataset) -> gprann.Potential:
        """Return the potential, trained on energies and forces."""
        file = self.folder / f"{name}.gprann"
        if not file.exists():
            descriptor = gprann.ChebyshevDescriptor(train.species)
            gprann.train(
                train,
                descriptor,
                forces=True,
                optimizer="lm",
                members=MEMBERS,
                iterations=ITERATIONS,
                workers=1,
            ).save(file)
        potential = gprann.Potential.load(file)
        return potential if potential.guard is not None else gprann.add_guard(potential, train)


def scores(potential: gprann.Potential, data: gprann.Dataset) -> dict[str, Any]:
    """Return force errors, and what may tell them, of all atoms."""
    found = potential.predict(data)
    norm = lambda arrays: np.linalg.norm(np.concatenate(arrays), axis=1)  # noqa: E731
    return {
        "error": norm([a - s.forces for a, s in zip(found.forces, data, strict=True)]),
        "grade": np.concatenate(found.grades or []),
        "std": norm(found.forces_std),
        "force": norm(found.forces),
    }


def areas(parts: list[dict[str, Any]]) -> dict[str, Any]:
    """Return how well grades and standard deviations tell bad forces."""
    whole = {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}
    error, grade = whole["error"], whole["grade"]
    bad = error > LARGE * np.median(error)
    usual = np.sqrt(np.mean(whole["force"] ** 2))
    with_force = grade * (1 + (whole["force"] / usual) ** 2) ** 0.25
    share = lambda mask: float(np.mean(mask))  # noqa: E731
    return {
        "atoms": len(error),
        "bad": share(bad),
        "median_error": float(np.median(error)),
        "area_grade": roc_area(grade, bad),
        "area_std": roc_area(whole["std"], bad),
        "area_grade_and_force": roc_area(with_force, bad),
        "above_1": share(grade >= 1),
        "above_2": share(grade >= STOP),
        "bad_among_above_1": share(bad[grade >= 1]) if np.any(grade >= 1) else None,
        "mae_below_1": float(np.mean(error[grade < 1])),
        "mae_above_1": float(np.mean(error[grade >= 1])) if np.any(grade >= 1) else None,
    }


def one_set(work: Work, name: str) -> dict[str, Any]:
    """Measure a set with the labels of its reference."""
    train, test, moved = work.labelled(name)
    potential = work.potential(f"{name}.reference", train)
    found = [scores(potential, part) for part in (test, moved)]
    return {
        "test and displaced": areas(found),
        "test": areas(found[:1]),
        "displaced": areas(found[1:]),
        "reach": dict(potential.guard.reach) if potential.guard else None,
    }


def published_labels(work: Work, name: str) -> dict[str, Any]:
    """Measure a set with its published labels, on its test structures alone."""
    train, test = work.published(name)
    return areas([scores(work.potential(f"{name}.dft", train), test)])


def thermal(atoms: ase.Atoms, seed: int, temperature: float = 300.0) -> ase.Atoms:
    """Return a copy with velocities of a temperature, of which half will be left where the atoms begin at rest."""
    copy: ase.Atoms = atoms.copy()
    rng = np.random.default_rng(seed)
    copy.set_momenta(
        np.sqrt(copy.get_masses()[:, None] * units.kB * temperature) * rng.standard_normal((len(copy), 3))
    )
    return copy


def follow(atoms: ase.Atoms, calculator: gprann.Calculator, steps: int, limit: float) -> dict[str, Any]:
    """Simulate NVE with steps of 0.5 fs up to a temperature; return grades and temperatures of all steps."""
    atoms.calc = calculator
    dynamics = VelocityVerlet(atoms, 0.5 * units.fs)
    grades, atom, temperatures = [], [], []
    for _ in range(steps):
        try:
            dynamics.run(1)
        except gprann.GprannError as error:
            print("ended:", error)
            break
        own = calculator.deviations["grades"]
        grades.append(float(own.max()))
        atom.append(int(own.argmax()))
        temperatures.append(float(atoms.get_temperature()))
        if temperatures[-1] > limit:
            break
    return {"grades": np.array(grades), "atoms": np.array(atom), "temperatures": np.array(temperatures)}


def dimer(work: Work) -> dict[str, Any]:
    """Simulate the EC dimer with a potential of 250 rattled structures, which breaks: when is it stopped?"""
    train, _ = work.published("ec_dimer")
    potential = work.potential("ec_dimer.dft", train)
    # The mean of the rattled structures is the geometry that was rattled.
    start = train[0].without_labels().to_ase()
    start.positions = np.mean([structure.positions for structure in train], axis=0)
    runs = []
    for seed in range(10):
        calculator = gprann.Calculator(potential, guard="off")
        run = follow(thermal(start, seed), calculator, 6000, 3000.0)
        over = np.flatnonzero(run["grades"] >= STOP)
        # Potential energy becomes heat when the start is relaxed or strained: the double of the first 10 fs.
        first = float(run["temperatures"][:20].mean())
        doubled = np.flatnonzero(run["temperatures"] >= 2 * first)
        at = int(over[0]) if len(over) else None
        runs.append(
            {
                "seed": seed,
                "steps": len(run["grades"]),
                "last_temperature": float(run["temperatures"][-1]),
                "mean_temperature_first_10_fs": first,
                "stopped_after_fs": None if at is None else 0.5 * (at + 1),
                "temperature_when_stopped": None if at is None else float(run["temperatures"][at]),
                "atom": None
                if at is None
                else f"{run['atoms'][at]} ({start.symbols[int(run['atoms'][at])]})",
                "doubled_after_fs": 0.5 * (int(doubled[0]) + 1) if len(doubled) else None,
                "first_above_1_fs": 0.5 * (int(np.argmax(run["grades"] >= 1)) + 1),
            }
        )
        print(runs[-1], flush=True)
    return {"threshold": STOP, "runs": runs}


def relaxed(structure: gprann.Structure, potential: gprann.Potential) -> ase.Atoms:
    """Return the structure, relaxed by the potential."""
    atoms: ase.Atoms = structure.without_labels().to_ase()
    atoms.calc = gprann.Calculator(potential, guard="off")
    FIRE(atoms, logfile=None).run(fmax=0.05, steps=500)
    atoms.calc = None
    return atoms


def calm(work: Work, steps: int = 20000) -> dict[str, Any]:
    """Simulate ethanol at 300 K with a potential of 200 structures of 500 K: is it stopped without a reason?"""
    train, test, _ = work.labelled("ethanol")
    potential = work.potential("ethanol.reference", train)
    runs = []
    for seed in range(3):
        calculator = gprann.Calculator(potential, guard="off")
        atoms = thermal(relaxed(test[seed], potential), seed, 600.0)
        run = follow(atoms, calculator, steps, 3000.0)
        runs.append(
            {
                "seed": seed,
                "picoseconds": len(run["grades"]) / 2000,
                "largest_grade": float(run["grades"].max()),
                "steps_above_1": float(np.mean(run["grades"] >= 1)),
                "steps_above_2": float(np.mean(run["grades"] >= STOP)),
                "mean_temperature": float(run["temperatures"].mean()),
                "largest_temperature": float(run["temperatures"].max()),
            }
        )
        print(runs[-1], flush=True)
    return {"threshold": STOP, "runs": runs}


def lithium(work: Work, frames: int = 40) -> dict[str, Any]:
    """Simulate EC on lithium from a relaxed start, whose temperature stays: are its forces right?

    With the potential of the labels of GFN1-xTB, so that the true forces along the run can be had.
    """
    train, test, _ = work.labelled("li_ec")
    potential = work.potential("li_ec.reference", train)
    tested = scores(potential, test)
    start = relaxed(test[0], potential)
    atoms = thermal(start, 0)
    calculator = gprann.Calculator(potential, guard="off")
    seen, temperatures = [start], []
    for _ in range(frames):
        run = follow(atoms, calculator, 50, 3000.0)
        temperatures += run["temperatures"].tolist()
        copy = atoms.copy()
        copy.calc = None
        seen.append(copy)
    found = scores(potential, gprann.read(label(seen, SETS["li_ec"][-1])))

    def per_structure(values: dict[str, Any]) -> dict[str, Any]:
        errors, grades = (values[key].reshape(-1, len(start)) for key in ("error", "grade"))
        return {
            "structures": len(errors),
            "median_error": float(np.median(errors)),
            "median_of_largest_errors": float(np.median(errors.max(axis=1))),
            "median_of_largest_grades": float(np.median(grades.max(axis=1))),
            "share_with_a_grade_above_2": float(np.mean(grades.max(axis=1) >= STOP)),
        }

    n = len(start)
    return {
        "picoseconds": len(temperatures) / 2000,
        "largest_temperature": max(temperatures),
        "test": per_structure(tested),
        "relaxed_start": per_structure({key: values[:n] for key, values in found.items()}),
        "simulation": per_structure({key: values[n:] for key, values in found.items()}),
    }


def cost(work: Work) -> dict[str, Any]:
    """Measure the processor time of evaluations with the guard, over that without; they take turns."""
    result = {}
    for name in ("ec_dimer", "li_ec"):
        train, test = work.published(name)
        potential = work.potential(f"{name}.dft", train)
        neighbours = potential.descriptor.neighbours(test)
        for members in (1, 2):
            watched = potential[:members]
            bare = replace(watched, guard=None)
            times: dict[bool, list[float]] = {True: [], False: []}
            for _ in range(60):
                for guarded, one in ((True, watched), (False, bare)):
                    started = time.process_time()
                    one.evaluate(neighbours)
                    times[guarded].append(time.process_time() - started)
            atoms = int(test.n_atoms.sum())
            result[f"{name}, {members} networks"] = {
                "microseconds_per_atom": 1e6 * statistics.median(times[False]) / atoms,
                "with_guard": 1e6 * statistics.median(times[True]) / atoms,
                "ratio_of_medians": statistics.median(times[True]) / statistics.median(times[False]),
                "ratio_of_fastest": min(times[True]) / min(times[False]),
            }
    return result


def main() -> None:
    """Measure what was asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("parts", nargs="*")
    parser.add_argument("--work", type=Path, default=Path("guard_work"))
    given = parser.parse_args()
    work = Work(given.data, given.work)
    ways: dict[str, Callable[[Work], Any]] = {
        **{name: lambda work, name=name: one_set(work, name) for name in SETS},  # type: ignore[misc]
        **{f"{name}.dft": lambda work, name=name: published_labels(work, name) for name in SETS},  # type: ignore[misc]
        "dimer": dimer,
        "calm": calm,
        "lithium": lithium,
        "cost": cost,
    }
    for part in given.parts or ways:
        content = json.loads(FILE.read_text()) if FILE.exists() else {}
        content[part] = ways[part](work)
        content["machine"] = machine()
        print(part, json.dumps(content[part], indent=1), flush=True)
        FILE.write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
