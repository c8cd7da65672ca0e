"""Molecular dynamics of EC on Li(100): speed against the calculator of before, skin, drift of the energy, memory.

    python bench/python/dynamics.py DATA [speed] [nve] [memory] [--potentials FOLDER]

into bench/results/dynamics.json. DATA is the folder with li_ec/. Speeds are those of one network on the Chebyshev
descriptor (the first one of `measure.py direct_li`); the drift is that of this one, of the network of the README
(`public.py li_ec/all/network`), and of a committee of two with the repulsion of nuclei as baseline, all trained on 100
structures. With --potentials they are taken from a folder, or kept there. Speeds are atom-steps in
each second of processor time of one thread (GPRANN_NUM_THREADS=1), medians; ways that are compared take turns.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import ase
import numpy as np
import vesin
from ase import units
from ase.calculators.calculator import Calculator as AseCalculator
from ase.calculators.calculator import all_changes
from ase.md.verlet import VelocityVerlet
from ase.optimize import FIRE
from measure import RESULTS, machine

import gprann
from gprann.data.neighbours import Neighbourhood, reduce_cells, species_indices
from gprann.data.structure import Dataset, Structure
from gprann.dynamics.engine import Engine
from gprann.dynamics.integrators import Integrator
from gprann.dynamics.options import MdOptions
from gprann.dynamics.start import begin
from gprann.dynamics.watch import Watch

FILE = RESULTS / "dynamics.json"
SKINS = (0.0, 0.2, 0.3, 0.4, 0.5, 0.7, 1.0, 1.5)


class Before(AseCalculator):  # type: ignore[misc]
    """The calculator as it was: ASE's comparisons and copies, a structure checked and lists made anew at every step."""

    implemented_properties = ["energy", "free_energy", "energies", "forces", "stress"]  # noqa: RUF012

    def __init__(self, potential: gprann.Potential) -> None:
        super().__init__()
        self.potential = potential

    def calculate(
        self, atoms: Any = None, properties: Sequence[str] = (), system_changes: Sequence[str] = all_changes
    ) -> None:
        """Predict."""
        super().calculate(atoms, properties, system_changes)
        now = self.atoms
        structure = Structure(tuple(now.get_chemical_symbols()), now.positions, now.cell[:], now.pbc)
        found = self.potential._complete(
            Dataset([structure]), [(Dataset([structure]), self.potential.evaluate(self.lists(structure)))]
        )
        energy = float(found.energy[0])
        self.results = {"energy": energy, "free_energy": energy, "forces": found.forces[0]}
        assert found.atom_energies is not None
        assert found.stress is not None
        self.results |= {"energies": found.atom_energies[0], "stress": found.stress[0]}

    def lists(self, structure: Structure) -> Neighbourhood:
        """Return the neighbour lists as they were made."""
        if len(structure) <= 300:
            return self.potential.descriptor.neighbours([structure])
        finder = vesin.NeighborList(cutoff=self.potential.cutoff, full_list=True)
        cell, periodic = reduce_cells([structure])[0], [bool(p) for p in structure.pbc]
        i, j, vector = finder.compute(structure.positions, cell, periodic, "ijD")
        order = np.argsort(i, kind="stable")
        counts = np.bincount(i, minlength=len(structure))
        return Neighbourhood(
            np.array([0, len(structure)]),
            np.concatenate([[0], np.cumsum(counts)]),
            j[order].astype(np.int32),
            vector[order],
            species_indices(structure, self.potential.species),
        )


class Nothing(AseCalculator):  # type: ignore[misc]
    """No forces at no cost: what is left is ASE's own time."""

    implemented_properties = ["energy", "free_energy", "forces"]  # noqa: RUF012

    def calculate(
        self, atoms: Any = None, properties: Sequence[str] = (), system_changes: Sequence[str] = all_changes
    ) -> None:
        """Give zeros."""
        super().calculate(atoms, properties, system_changes)
        self.results = {"energy": 0.0, "free_energy": 0.0, "forces": np.zeros((len(self.atoms), 3))}


def chebyshev(train: Dataset) -> gprann.Potential:
    """Return a network on the Chebyshev descriptor."""
    descriptor = gprann.ChebyshevDescriptor(train.species)
    return gprann.train(train, descriptor, forces=True, optimizer="lm", seed=0)


def of_readme(train: Dataset) -> gprann.Potential:
    """Return the network of the README."""
    whole = gprann.DensityDescriptor.for_kernel(train.species)
    return gprann.train(train, gprann.compress_descriptor(whole, train, most=60), forces=True, seed=0)


def with_repulsion(train: Dataset) -> gprann.Potential:
    """Return a committee on the Chebyshev descriptor and the repulsion of nuclei, which the data do not show."""
    descriptor = gprann.ChebyshevDescriptor(train.species)
    return gprann.train(
        train,
        descriptor,
        forces=True,
        optimizer="lm",
        seed=0,
        members=2,
        baseline=[gprann.Zbl(), "reference_energies"],
    )


def potential_of(
    make: Callable[[Dataset], gprann.Potential], data: Path, folder: Path | None
) -> gprann.Potential:
    """Return a potential, from the folder if it is there."""
    file = None if folder is None else folder / f"{make.__name__}.gprann"
    if file is not None and file.exists():
        return gprann.Potential.load(file)
    potential = make(gprann.read(data / "li_ec" / "train.extxyz"))
    if file is not None:
        potential.save(file)
    return potential


def relaxed(atoms: ase.Atoms, potential: gprann.Potential) -> ase.Atoms:
    """Return the atoms relaxed."""
    copy: ase.Atoms = atoms.copy()
    copy.calc = gprann.Calculator(potential)
    FIRE(copy, logfile=None).run(fmax=0.05, steps=500)
    copy.calc = None
    return copy


def thermal(atoms: ase.Atoms) -> ase.Atoms:
    """Return a copy with velocities of 300 K."""
    copy: ase.Atoms = atoms.copy()
    rng = np.random.default_rng(0)
    copy.set_momenta(
        np.sqrt(copy.get_masses()[:, None] * units.kB * 300) * rng.standard_normal((len(copy), 3))
    )
    return copy


def ase_steps(atoms: ase.Atoms, calculator: Any) -> Callable[[int], None]:
    """Return what makes steps of NVE in ASE."""
    copy = thermal(atoms)
    copy.calc = calculator
    dynamics = VelocityVerlet(copy, 0.5 * units.fs)

    def run(steps: int) -> None:
        dynamics.run(steps)

    return run


def own_steps(atoms: ase.Atoms, potential: gprann.Potential, skin: float = 0.5) -> Callable[[int], None]:
    """Return what makes steps of NVE as gprann.md does, with everything it looks at, without files."""
    structure = Structure.from_ase(atoms)
    options = MdOptions(ensemble="nve", skin=skin)
    engine = Engine(potential, structure, options)
    state = begin(structure, engine.atoms, options)
    watch, integrator = Watch(engine, structure, options), Integrator(options)
    engine.evaluate(state)

    def run(steps: int) -> None:
        for _ in range(steps):
            integrator.step(state, lambda: engine.evaluate(state))
            stop = watch.look(state, closely=(state.step + 1) % options.log_every == 0)
            assert stop is None, stop

    return run


def milliseconds(ways: dict[str, Callable[[int], None]], steps: int, rounds: int) -> dict[str, float]:
    """Return the median processor time of a step of each way, which take turns, ms."""
    times: dict[str, list[float]] = {name: [] for name in ways}
    for run in ways.values():
        run(2)
    for _ in range(rounds):
        for name, run in ways.items():
            started = time.process_time()
            run(steps)
            times[name].append(1e3 * (time.process_time() - started) / steps)
    return {name: statistics.median(found) for name, found in times.items()}


def speed(atoms: ase.Atoms, potential: gprann.Potential) -> dict[str, Any]:
    """Compare the calculators, gprann.md and the kernel alone, for one size."""
    neighbours = potential.descriptor.neighbours([Structure.from_ase(atoms)])

    def kernel(steps: int) -> None:
        for _ in range(steps):
            potential.evaluate(neighbours)

    ways = {
        "before": ase_steps(atoms, Before(potential)),
        "calculator": ase_steps(atoms, gprann.Calculator(potential)),
        "md": own_steps(atoms, potential),
        "kernel": kernel,
        "ase_alone": ase_steps(atoms, Nothing()),
    }
    found = milliseconds(ways, *((100, 15) if len(atoms) < 1000 else (5, 9)))
    return {
        "atoms": len(atoms),
        "milliseconds_of_a_step": found,
        "atom_steps_per_second": {name: 1e3 * len(atoms) / value for name, value in found.items()},
        "calculator_against_before": found["before"] / found["calculator"],
        "md_against_before": found["before"] / found["md"],
        "overhead_beyond_the_kernel_ms": found["calculator"] - found["kernel"] - found["ase_alone"],
    }


def skins(atoms: ase.Atoms, potential: gprann.Potential) -> dict[str, float]:
    """Return the time of a step for several skins, ms."""
    ways = {str(skin): own_steps(atoms, potential, skin) for skin in SKINS}
    return milliseconds(ways, *((200, 7) if len(atoms) < 1000 else (20, 3)))


def resident_mib() -> float:
    """Return the resident memory, MiB."""
    with Path("/proc/self/statm").open() as stream:
        return int(stream.read().split()[1]) * resource.getpagesize() / 2**20


def drift(atoms: ase.Atoms, potential: gprann.Potential, folder: Path) -> dict[str, Any]:
    """NVE for 50 ps with velocities of 300 K; energy, memory and time."""
    common: dict[str, Any] = {"ensemble": "nve", "time_step": 0.5, "progress": False}
    first = gprann.md(potential, atoms, folder, length=1.0, **common)
    memory, started = resident_mib(), time.perf_counter()
    result = gprann.md(potential, atoms, folder, length=50.0, **common)  # goes on
    seconds = time.perf_counter() - started
    energy = 1e3 * result.log["conserved_eV"] / result.size
    return {
        "stopped": result.reason,
        "steps": result.steps,
        "temperature_K": float(result.log["temperature_K"].mean()),
        "drift_meV_per_atom_ps": result.drift,
        "fluctuation_meV_per_atom": float(energy.std()),
        "seconds": seconds,
        "steps_timed": result.steps - first.steps,
        "growth_of_memory_MiB": resident_mib() - memory,
    }


def measure_speed(data: Path, folder: Path | None) -> dict[str, Any]:
    """Return speeds and times by skin for both sizes."""
    potential = potential_of(chebyshev, data, folder)
    atoms: ase.Atoms = gprann.read(data / "li_ec" / "dev.extxyz")[0].without_labels().to_ase()
    sizes = {str(len(item)): item for item in (atoms, atoms.repeat((5, 5, 4)))}
    return {
        **{name: speed(item, potential) for name, item in sizes.items()},
        "milliseconds_by_skin": {name: skins(item, potential) for name, item in sizes.items()},
    }


def measure_nve(data: Path, folder: Path | None) -> dict[str, Any]:
    """Return the drift of three potentials from two starts."""
    atoms: ase.Atoms = gprann.read(data / "li_ec" / "dev.extxyz")[0].without_labels().to_ase()
    result = {}
    for make in (chebyshev, of_readme, with_repulsion):
        model = potential_of(make, data, folder)
        for name, start in (("relaxed", relaxed(atoms, model)), ("held-out structure", atoms)):
            with tempfile.TemporaryDirectory() as own:
                result[f"{make.__name__}, from {name}"] = drift(start, model, Path(own))
    return result


def measure_memory(data: Path, folder: Path | None) -> dict[str, Any]:  # noqa: ARG001 - embedded data
    """Return the resident memory in the course of 100,000 steps of a molecule that lasts, H2, and after them."""
    train = gprann.examples.hydrogen(40)
    descriptor = gprann.ChebyshevDescriptor(["H"], radial_order=10, radial_cutoff=8.0, angular_order=None)
    potential = gprann.train(train, descriptor, hidden=(10, 10), seed=0, progress=False)
    start = min(train, key=lambda item: item.energy or 0.0)
    options: dict[str, Any] = {"ensemble": "nve", "time_step": 0.5, "progress": False}
    samples: list[float] = []
    ended = threading.Event()

    def sample() -> None:
        while not ended.wait(0.2):
            samples.append(resident_mib())

    with tempfile.TemporaryDirectory() as own:
        gprann.md(potential, start, own, length=1.0, **options)
        sampler = threading.Thread(target=sample)
        sampler.start()
        result = gprann.md(potential, start, own, length=50.0, **options)  # goes on
        ended.set()
        sampler.join()
    tenths = [samples[len(samples) * k // 10] for k in range(1, 10)]
    return {
        "stopped": result.reason,
        "steps": result.steps,
        "resident_MiB_by_tenths_of_the_time": tenths,
        "resident_MiB_with_the_results_in_memory": resident_mib(),
    }


def main() -> None:
    """Measure the parts that are named."""
    parts = {"speed": measure_speed, "nve": measure_nve, "memory": measure_memory}
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("parts", nargs="*", metavar="PART", help="speed, nve, memory (default all)")
    parser.add_argument("--potentials", type=Path)
    arguments = parser.parse_args()
    result: dict[str, Any] = json.loads(FILE.read_text(encoding="utf-8")) if FILE.exists() else {}
    for part in arguments.parts or parts:
        result[part] = {
            "machine": machine(),
            "load_average": os.getloadavg()[0],
            **parts[part](arguments.data, arguments.potentials),
        }
        FILE.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
