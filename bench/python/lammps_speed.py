"""Measure LAMMPS with `pair_style gprann`: agreement with Python, speed beside the kernel, time of the build.

    python bench/python/lammps_speed.py DATA

DATA is the folder with li_ec/. EC on Li(100), 46 atoms, and 10 x 10 of these, 4,600 atoms; a small network on the
Chebyshev descriptor of the README, trained shortly, as speed does not depend on the parameters. Speeds are atoms times
steps for each second of processor time, on one thread: of LAMMPS the difference of a long and a short NVE run, all that
it does included; of the kernel `Potential.evaluate` with the neighbour lists given, and `ase` all that Python does
where atoms have moved. Both are measured in turn, and ratios are those of neighbours in time. Results go to
bench/results/lammps.json.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.io.lammpsdata import write_lammps_data
from measure import machine

import gprann
from gprann.data.structure import Structure
from gprann.lammps import Plugin, build, check

FILE = Path(__file__).resolve().parents[1] / "results" / "lammps.json"
SIZES = {"46": (1, 4000), "4600": (10, 40)}
REPEATS = 7
SCRIPT = """units metal
read_data atoms.data
pair_style gprann threads 1
pair_coeff * * {potential} {elements}
neighbor 1.0 bin
velocity all create 100 12345
timestep 0.0001
fix 1 all nve
run {steps}
"""


def train(data: Path, file: Path) -> gprann.Potential:
    """Train a committee of two for a moment."""
    structures = gprann.read(data / "li_ec" / "train.extxyz")[:40]
    potential = gprann.train(
        structures,
        gprann.ChebyshevDescriptor(["Li", "C", "H", "O"]),
        hidden=(10, 10),
        optimizer="lm",
        iterations=5,
        starts=1,
        members=2,
        seed=1,
    )
    potential.save(file)
    return potential


def agreement(file: Path, atoms: Atoms) -> dict[str, Any]:
    """Compare on one and two processes, rattled and in a sheared cell."""
    moved = atoms.copy()
    moved.rattle(0.03, seed=1)
    sheared = moved.copy()
    sheared.set_cell(moved.cell.array @ [[1, 0.02, 0.01], [0, 1, 0.03], [0, 0, 1]], scale_atoms=True)
    found = {}
    for name, chosen, ranks in (
        ("1 process", moved, 1),
        ("2 processes", moved, 2),
        ("triclinic", sheared, 2),
    ):
        result = check(file, chosen, ranks=ranks)
        found[name] = {**result.differences, "good": result.good}
    return found


def children() -> float:
    """Seconds of processor time of all processes that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def lammps_seconds(plugin: Plugin, folder: Path, file: Path, elements: str, steps: int) -> float:
    """Return the processor time of a run of so many steps."""
    script = SCRIPT.format(potential=file, elements=elements, steps=steps)
    (folder / "in.lammps").write_text(script, encoding="utf-8")
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "LAMMPS_PLUGIN_PATH": str(plugin.file.parent)}
    before = children()
    subprocess.run(
        [*plugin.installation.command, "-in", "in.lammps", "-log", "none", "-screen", "none"],
        cwd=folder,
        env=environment,
        check=True,
    )
    return children() - before


def process_seconds(work: Callable[[], object], times: int) -> float:
    """Return the processor time of one call."""
    work()
    before = time.process_time()
    for _ in range(times):
        work()
    return (time.process_time() - before) / times


def speed(file: Path, atoms: Atoms, steps: int) -> dict[str, Any]:
    """Measure LAMMPS, the kernel and the calculator in turn."""
    potential, plugin = gprann.Potential.load(file)[0:1], build()
    single = file.with_name("single.gprann")
    potential.save(single)
    lists = potential.descriptor.neighbours([Structure.from_ase(atoms)])
    moving = atoms.copy()
    moving.calc = gprann.Calculator(potential)
    rng = np.random.default_rng(0)

    def move() -> None:
        moving.positions += rng.normal(scale=1e-3, size=moving.positions.shape)
        moving.get_forces()

    rates: dict[str, list[float]] = {"lammps": [], "kernel": [], "ase": []}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_lammps_data(
            folder / "atoms.data", atoms, specorder=list(potential.species), masses=True, units="metal"
        )
        for _ in range(REPEATS):
            few, many = (
                lammps_seconds(plugin, folder, single, " ".join(potential.species), n)
                for n in (steps // 10, steps + steps // 10)
            )
            rates["lammps"].append(len(atoms) * steps / (many - few))
            calls = max(3, steps // 10)
            rates["kernel"].append(len(atoms) / process_seconds(lambda: potential.evaluate(lists), calls))
            rates["ase"].append(len(atoms) / process_seconds(move, max(3, steps // 40)))
    ratios = [own / other for own, other in zip(rates["lammps"], rates["kernel"], strict=True)]
    return {
        **{name: round(statistics.median(values)) for name, values in rates.items()},
        "lammps_of_kernel": round(statistics.median(ratios), 3),
        "all": {name: [round(value) for value in values] for name, values in rates.items()},
    }


def build_seconds() -> float:
    """Return the time of a build with an empty cache."""
    kept = os.environ.get("XDG_CACHE_HOME")
    folder = tempfile.mkdtemp()
    os.environ["XDG_CACHE_HOME"] = folder
    started = time.perf_counter()
    build()
    seconds = time.perf_counter() - started
    shutil.rmtree(folder)
    if kept is None:
        del os.environ["XDG_CACHE_HOME"]
    else:
        os.environ["XDG_CACHE_HOME"] = kept
    return round(seconds, 1)


def main() -> None:
    """Measure everything."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path, metavar="DATA")
    data = parser.parse_args().data
    os.environ["GPRANN_NUM_THREADS"] = "1"
    result: dict[str, Any] = {
        "machine": machine(),
        "lammps": build().installation.name,
        "build_s": build_seconds(),
    }
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "committee.gprann"
        train(data, file)
        cell = gprann.read(data / "li_ec" / "train.extxyz")[0].to_ase()
        cell.calc = None
        for name, (n, steps) in SIZES.items():
            atoms = cell.repeat((n, n, 1))
            result[f"{name} atoms"] = {
                "agreement": agreement(file, atoms),
                "atom_steps_per_cpu_second": speed(file, atoms, steps),
            }
            print(name, json.dumps(result[f"{name} atoms"]), flush=True)
    FILE.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
