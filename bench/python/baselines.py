"""What baselines bring: electrostatics against known values, and surrogates of differences to GFN2-xTB.

    python bench/python/baselines.py DATA [PART ...]

Parts: coulomb, steps, locality, charged_salt, salt_networks, schottky, charged_dimer, sulfide, ec_dimer, ec_networks,
ethanol, azobenzene, aspirin; by default all. Each result is merged into bench/results/baselines.json at once. DATA is
the folder with public/, ec_dimer/ and ionic/. The parts with GFN2 need tblite, charged_dimer needs dftd4. Everything by
its defaults, which were chosen on azobenzene; one run each.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from ase.build import bulk
from ase.io import read as read_atoms
from ase.units import Bohr
from measure import RESULTS
from parts import Part, run_parts
from public_sets import SETS

import gprann
from gprann.baselines.coulomb import CONSTANT

FILE = RESULTS / "baselines.json"
MADELUNG = {"NaCl": ("rocksalt", 5.64, 1.747564594633), "CsCl": ("cesiumchloride", 4.12, 1.762674773071)}


def coulomb(data: Path) -> dict[str, Any]:
    """Madelung constants, and the time of energy and forces."""
    del data
    result: dict[str, Any] = {}
    for name, (lattice, length, constant) in MADELUNG.items():
        atoms = bulk(name, lattice, a=length)
        first, second = atoms.get_chemical_symbols()
        found = gprann.Coulomb(charges={first: 1.0, second: -1.0}).evaluate(
            gprann.Dataset([gprann.Structure.from_ase(atoms)])
        )
        own = -float(found.energy[0]) * atoms.get_distance(0, 1, mic=True) / CONSTANT
        result[f"error_of_madelung_{name}"] = own - constant
    baseline = gprann.Coulomb(charges={"Na": 1.0, "Cl": -1.0})
    for repeat in (2, 5):
        atoms = bulk("NaCl", "rocksalt", a=5.64, cubic=True).repeat(repeat)
        atoms.rattle(0.1)
        salt = gprann.Dataset([gprann.Structure.from_ase(atoms)])
        times = []
        for _ in range(9):
            started = time.perf_counter()
            baseline.evaluate(salt)
            times.append(time.perf_counter() - started)
        result[f"ms_{len(atoms)}_atoms"] = 1e3 * statistics.median(times)
    return result


def steps(data: Path) -> dict[str, Any]:
    """Steps of molecular dynamics through ASE's calculator, of a network without charges and with them."""
    del data
    result: dict[str, Any] = {}
    charges = gprann.Coulomb(charges={"Na": 1.0, "Cl": -1.0})
    descriptor = gprann.ChebyshevDescriptor(("Cl", "Na"), radial_cutoff=5.0, angular_order=None)
    small = [_rattled(1, seed) for seed in range(8)]
    labelled = [one.replace(energy=float(k)) for k, one in enumerate(small)]
    for name, baseline in (("without", None), ("with", charges)):
        potential = gprann.train(
            labelled, descriptor, hidden=(4,), iterations=1, starts=1, baseline=baseline, progress=False
        )
        for repeat in (2, 5):
            atoms = _rattled(repeat, 0).to_ase()
            atoms.calc = gprann.Calculator(potential)
            times = []
            for step in range(15):
                atoms.rattle(0.001, seed=step)
                started = time.perf_counter()
                atoms.get_forces()
                times.append(time.perf_counter() - started)
            result[f"ms_{len(atoms)}_atoms_{name}_charges"] = 1e3 * statistics.median(times)
    return result


def _rattled(repeat: int, seed: int) -> gprann.Structure:
    atoms = bulk("NaCl", "rocksalt", a=5.64, cubic=True).repeat(repeat)
    atoms.rattle(0.1, seed=seed)
    return gprann.Structure.from_ase(atoms)


def locality(data: Path) -> dict[str, Any]:
    """Charges of Li7P3S11 that explain the forces of distant atoms, tested on an atom that is not in the fit."""
    kept = np.load(data / "ionic/li7p3s11_locality.npz", allow_pickle=False)
    structure = gprann.Structure.from_ase(read_atoms(data / "ionic/li7p3s11_locality.extxyz"))

    def rows(keys: list[str]) -> gprann.HessianRows:
        atoms, directions, hessian = ([kept[f"{key}_{part}"] for key in keys] for part in "inH")
        numbers = np.array([int(atom) for atom in atoms])
        return gprann.HessianRows(structure, numbers, np.array(directions), np.array(hessian))

    formal = gprann.Coulomb(charges={"Li": 1.0, "P": 5.0, "S": -2.0})
    fitted = gprann.fit_charges_to_locality([rows(["P", "Li", "St", "Sb"])], formal)
    test = gprann.locality(rows(["P2"]), fitted.baseline, radii=[6.0])
    wrong = gprann.locality(rows(["P2"]), formal, radii=[6.0])
    assert test.with_baseline is not None
    return {
        "charges": fitted.charges,
        "std": fitted.std,
        "force_beyond_6": float(test.without[0, 0]),
        "left": float(test.with_baseline[0, 0]),
        "warning_of_formal_charges": wrong.warning,
    }


SALT = gprann.ChebyshevDescriptor(("Cl", "Na"), radial_cutoff=6.5, angular_cutoff=4.0)
UNIT = gprann.Coulomb(charges={"Na": 1.0, "Cl": -1.0})


def _salt(data: Path) -> tuple[gprann.Dataset, gprann.Dataset]:
    salt = gprann.read(data / "ionic/nacl_fixed.extxyz")
    return salt[:48], salt[48:]


def charged_salt(data: Path) -> dict[str, Any]:
    """NaCl with fixed charges: the charge that held-out residuals find, and the surrogate with it and without."""
    train, test = _salt(data)
    kernel = gprann.AtomsKernel(descriptor=SALT)
    found = gprann.fit_charge_scale(train, UNIT, kernel=kernel)
    surrogate = gprann.Surrogate(kernel=kernel, baseline=found.baseline).fit(train)
    without = errors(gprann.Surrogate(kernel=kernel).fit(train), test)
    return {
        "charge": found.charges["Na"],
        "std": found.std["Na"],
        **errors(surrogate, test),
        "without": without,
    }


def salt_networks(data: Path) -> dict[str, Any]:
    """The same salt by networks on energies and forces."""
    train, test = _salt(data)
    result: dict[str, Any] = {}
    for name, baseline in (("without", None), ("with_charges", UNIT)):
        started = time.perf_counter()
        network = gprann.train(train, SALT, hidden=(10, 10), forces=True, baseline=baseline, progress=False)
        seconds = time.perf_counter() - started
        result[name] = {**errors(network, test), "train_seconds": seconds}
    return result


def schottky(data: Path) -> dict[str, Any]:
    """A sodium and a chloride vacancy in 216 atoms, from 6.5 Å on: the salt's other forces reach no farther.

    Atoms stay on their lattice, so that energies differ by the charges alone, which are known. Mean absolute errors of
    the energies relative to the nearest pair.
    """
    train, _ = _salt(data)
    crystal = bulk("NaCl", "rocksalt", a=5.712, cubic=True).repeat(3)
    sodium, *others = (crystal.symbols == name for name in ("Na", "Cl"))
    first = int(np.flatnonzero(sodium)[0])
    distances = crystal.get_distances(first, np.arange(len(crystal)), mic=True)
    pairs = {round(float(distances[k]), 3): int(k) for k in np.flatnonzero(others[0])}
    far = [distance for distance in sorted(pairs) if distance > 6.5]
    structures = []
    for distance in far:
        atoms = crystal.copy()
        del atoms[sorted([first, pairs[distance]])]
        structures.append(gprann.Structure.from_ase(atoms))
    test = gprann.Dataset(structures)
    reference = UNIT.evaluate(test).energy
    result: dict[str, Any] = {"distances": far, "reference": (reference - reference[0]).tolist()}
    for name, baseline in (("without", None), ("with_charges", UNIT)):
        surrogate = gprann.Surrogate(kernel=gprann.AtomsKernel(descriptor=SALT), baseline=baseline).fit(train)
        found = surrogate.predict(test, std=False).energy
        result[name] = 1e3 * float(np.abs(found - found[0] - reference + reference[0])[1:].mean())
    return result


def charged_dimer(data: Path) -> dict[str, Any]:
    """Two charged molecules, trained at 6.6 to 12.2 Å, tested at 13 to 15 Å.

    Charges are those of electronegativity equilibration in each molecule (by dftd4), times a factor that structures
    held out of the training set determine.
    """
    train, test = (
        gprann.Dataset(
            _with_charges(one) for one in gprann.read(data / f"public/charged_dimer/{name}.extxyz")
        )
        for name in ("train", "test")
    )
    given = gprann.Coulomb(charges="charge")
    fitted = gprann.fit_charge_scale(train, given).baseline
    result: dict[str, Any] = {"scale": fitted.scale}
    for name, baseline in (("without", None), ("with_charges", given), ("scaled", fitted)):
        result[name] = errors(gprann.Surrogate(baseline=baseline).fit(train), test)
    return result


def _with_charges(structure: gprann.Structure) -> gprann.Structure:
    """Return a dimer with the charges of its atoms, molecule by molecule."""
    from dftd4.interface import DispersionModel

    atoms, cut = structure.to_ase(), int(structure.info["indexB"])
    charges = [
        DispersionModel(
            atoms.numbers[own], atoms.positions[own] / Bohr, charge=float(structure.info[f"charge{name}"])
        ).get_properties()["partial charges"]
        for name, own in (("A", slice(0, cut)), ("B", slice(cut, None)))
    ]
    return structure.replace(arrays={**structure.arrays, "charge": np.concatenate(charges)})


def sulfide(data: Path) -> dict[str, Any]:
    """Crystals of Li7P3S11, far from any defect: charges must not do harm, and formal ones be noticed.

    With the Chebyshev descriptor, for speed: the density descriptor of three elements had not finished the fits after
    seven minutes of processor time.
    """
    every = gprann.read(data / "ionic/li7p3s11_gfn1.extxyz")
    train, test = every[:19], every[19:]
    known = json.loads(FILE.read_text(encoding="utf-8"))["locality"]["charges"]
    formal = gprann.Coulomb(charges={"Li": 1.0, "P": 5.0, "S": -2.0})
    kernel = gprann.AtomsKernel(descriptor=gprann.ChebyshevDescriptor(train.species))
    found = [
        errors(gprann.Surrogate(kernel=kernel, baseline=baseline).fit(train), test)
        for baseline in (None, gprann.Coulomb(charges=known))
    ]
    check = gprann.check_baseline(train, formal, kernel=kernel)
    return {
        "without": found[0],
        "charges_of_locality": found[1],
        "check_of_formal_charges": str(check),
        "warning_of_formal_charges": check.warning,
    }


def with_xtb(train: gprann.Dataset, test: gprann.Dataset) -> dict[str, Any]:
    """Return the errors of a surrogate of the difference to GFN2-xTB."""
    baseline = gprann.CalculatorBaseline(calculator="tblite")
    started = time.perf_counter()
    surrogate = gprann.Surrogate(baseline=baseline).fit(train)
    seconds = time.perf_counter() - started
    return {
        "n_train": len(train),
        "fit_seconds": seconds,
        "bound": surrogate.bound,
        **errors(surrogate, test),
    }


def errors(model: gprann.Surrogate | gprann.Potential, test: gprann.Dataset) -> dict[str, Any]:
    """Return mean absolute errors (meV, meV/Å), and shares within one and two standard deviations."""
    report = gprann.evaluate(model, test)
    return {
        "energy_mae": 1e3 * report.energy_mae,
        "force_mae": 1e3 * (report.force_mae or 0.0),
        "within_one_std": report.within_one_std,
        "within_two_std": report.within_two_std,
    }


def ec_dimer(data: Path) -> dict[str, Any]:
    """Twenty EC dimers."""
    train, test = (gprann.read(data / f"ec_dimer/{name}.extxyz") for name in ("train", "dev"))
    return with_xtb(train[:20], test)


def ec_networks(data: Path) -> dict[str, Any]:
    """Networks on energies and forces of the same dimers, without a baseline and with GFN2-xTB."""
    train, test = (gprann.read(data / f"ec_dimer/{name}.extxyz") for name in ("train", "dev"))
    train, xtb = train[:20], gprann.CalculatorBaseline(calculator="tblite")
    descriptor = gprann.ChebyshevDescriptor(train.species)
    result: dict[str, Any] = {}
    for name, baseline, hidden in (
        ("without", None, (10, 10)),
        ("with_gfn2", xtb, (10, 10)),
        ("with_gfn2_one_layer_of_five", xtb, (5,)),
    ):
        started = time.perf_counter()
        network = gprann.train(
            train, descriptor, hidden=hidden, forces=True, baseline=baseline, progress=False
        )
        seconds = time.perf_counter() - started
        result[name] = {**errors(network, test), "train_seconds": seconds}
    return result


def rmd17(name: str) -> Callable[[Path], dict[str, Any]]:
    """Return the measurement on 50 structures of one molecule."""

    def measure(data: Path) -> dict[str, Any]:
        train, test = (gprann.read(file) for file in SETS[f"rmd17_{name}"].files(data, 50))
        return with_xtb(train, test)

    return measure


PARTS: dict[str, Part] = {
    "coulomb": coulomb,
    "steps": steps,
    "locality": locality,
    "charged_salt": charged_salt,
    "salt_networks": salt_networks,
    "schottky": schottky,
    "charged_dimer": charged_dimer,
    "sulfide": sulfide,
    "ec_dimer": ec_dimer,
    "ec_networks": ec_networks,
    **{name: rmd17(name) for name in ("ethanol", "azobenzene", "aspirin")},
}


if __name__ == "__main__":
    run_parts(PARTS, FILE, __doc__)
