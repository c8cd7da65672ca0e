"""What baselines bring: electrostatics against known values, and surrogates of differences to GFN2-xTB.

    python bench/python/baselines.py DATA [PART ...]

Parts: coulomb, locality, charged_salt, ec_dimer, ethanol, azobenzene, aspirin; by default all. Each result is merged
into bench/results/baselines.json at once. DATA is the folder with public/, ec_dimer/ and ionic/. The parts with GFN2
need tblite. Everything by its defaults, which were chosen on azobenzene; one run each.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from ase.build import bulk
from ase.io import read as read_atoms
from measure import RESULTS, machine, peak_gib
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


def charged_salt(data: Path) -> dict[str, Any]:
    """NaCl with fixed charges: the charge that held-out residuals find, and the surrogate with it."""
    salt = gprann.read(data / "ionic/nacl_fixed.extxyz")
    train, test = salt[:48], salt[48:]
    descriptor = gprann.ChebyshevDescriptor(("Cl", "Na"), radial_cutoff=6.5, angular_cutoff=4.0)
    kernel = gprann.AtomsKernel(descriptor=descriptor)
    found = gprann.fit_charge_scale(train, gprann.Coulomb(charges={"Na": 1.0, "Cl": -1.0}), kernel=kernel)
    surrogate = gprann.Surrogate(kernel=kernel, baseline=found.baseline).fit(train)
    return {"charge": found.charges["Na"], "std": found.std["Na"], **errors(surrogate, test)}


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


def errors(model: gprann.Surrogate, test: gprann.Dataset) -> dict[str, Any]:
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


def rmd17(name: str) -> Callable[[Path], dict[str, Any]]:
    """Return the measurement on 50 structures of one molecule."""

    def measure(data: Path) -> dict[str, Any]:
        train, test = (gprann.read(file) for file in SETS[f"rmd17_{name}"].files(data, 50))
        return with_xtb(train, test)

    return measure


PARTS: dict[str, Callable[[Path], dict[str, Any]]] = {
    "coulomb": coulomb,
    "locality": locality,
    "charged_salt": charged_salt,
    "ec_dimer": ec_dimer,
    **{name: rmd17(name) for name in ("ethanol", "azobenzene", "aspirin")},
}


def main() -> None:
    """Measure the parts that are asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path, metavar="DATA")
    parser.add_argument("parts", nargs="*", metavar="PART", default=list(PARTS))
    arguments = parser.parse_args()
    for name in arguments.parts:
        result = {"machine": machine(), **PARTS[name](arguments.data), "peak_GiB": peak_gib()}
        print(name, json.dumps(result, default=str), flush=True)
        known = json.loads(FILE.read_text(encoding="utf-8")) if FILE.exists() else {}
        everything = {**known, name: result}
        ordered = {part: everything[part] for part in PARTS if part in everything}
        FILE.write_text(json.dumps(ordered, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
