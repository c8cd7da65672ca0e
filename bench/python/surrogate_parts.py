"""Measurements of surrogates used by themselves and of the ways to fit them; run by measure.py."""

from __future__ import annotations

import resource
import time
from pathlib import Path
from typing import Any

import ase
from ase.build import add_adsorbate, fcc100, fcc111
from ase.calculators.emt import EMT
from ase.constraints import FixAtoms
from ase.mep import NEB
from ase.optimize import BFGS

import gprann

__all__ = ["barriers", "solvers", "surrogate_kernels"]


class CountedEMT(EMT):
    """EMT that counts its calculations."""

    calls = 0

    def calculate(self, *args: Any, **kwargs: Any) -> None:
        """Count and calculate."""
        CountedEMT.calls += 1
        super().calculate(*args, **kwargs)


def _relaxed(atoms: ase.Atoms) -> ase.Atoms:
    atoms.calc = EMT()
    BFGS(atoms, logfile=None).run(fmax=0.02, steps=500)
    return atoms


def _adatom(metal: str) -> tuple[ase.Atoms, ase.Atoms]:
    """An adatom in neighbouring hollows of Al(100); two of three layers are fixed."""
    initial = fcc100("Al", (2, 2, 3))
    add_adsorbate(initial, metal, 1.7, "hollow")
    initial.center(axis=2, vacuum=4.0)
    initial.set_constraint(FixAtoms(mask=initial.get_tags() > 1))
    final = initial.copy()
    final.positions[-1, 0] += initial.cell[0, 0] / 2
    return _relaxed(initial), _relaxed(final)


def _oxygen() -> tuple[ase.Atoms, ase.Atoms]:
    """O on Cu(111) between two sites of different energy; the lower layer is fixed."""
    ends = []
    for site in ("fcc", "hcp"):
        atoms = fcc111("Cu", (2, 2, 2))
        add_adsorbate(atoms, "O", 1.2, site)
        atoms.center(axis=2, vacuum=4.0)
        atoms.set_constraint(FixAtoms(mask=atoms.get_tags() == 2))
        ends.append(_relaxed(atoms))
    return ends[0], ends[1]


def _plain_barrier(initial: ase.Atoms, final: ase.Atoms) -> tuple[float, int]:
    """Return the barrier by ASE's climbing-image band with five images, and its calculations."""
    CountedEMT.calls = 0
    images = [initial.copy() for _ in range(6)] + [final.copy()]
    for image in images:
        image.calc = CountedEMT()
    band = NEB(images, climb=True, method="improvedtangent")
    band.interpolate(apply_constraint=True)
    BFGS(band, logfile=None).run(fmax=0.05, steps=200)
    energies = [image.get_potential_energy() for image in images]
    return float(max(energies) - energies[0]), CountedEMT.calls


def barriers(_: Path) -> dict[str, Any]:
    """Barriers on metal surfaces (EMT) by bands with and without a surrogate: energies, reference calls."""
    result = {}
    ends = {"Al on Al(100)": _adatom("Al"), "Au on Al(100)": _adatom("Au"), "O on Cu(111)": _oxygen()}
    for name, (initial, final) in ends.items():
        plain, plain_calls = _plain_barrier(initial, final)
        CountedEMT.calls = 0
        started = time.perf_counter()
        path = gprann.neb(initial.copy(), final.copy(), CountedEMT())  # end points are computed again
        result[name] = {
            "plain_barrier_eV": plain,
            "plain_calls": plain_calls,
            "barrier_eV": path.barrier,
            "difference_meV": 1e3 * abs(path.barrier - plain),
            "calls": CountedEMT.calls,
            "converged": path.converged,
            "seconds": time.perf_counter() - started,
        }
    return result


def _judged(surrogate: gprann.Surrogate, train: gprann.Dataset, test: gprann.Dataset) -> dict[str, Any]:
    started, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    surrogate.fit(train)
    fitted = time.perf_counter()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    report = gprann.evaluate(surrogate, test)
    return {
        "energy_mae_meV": 1e3 * report.energy_mae,
        "force_mae": report.force_mae,
        "within_one_std": report.within_one_std,
        "force_within_one_std": report.force_within_one_std,
        "fit_seconds": fitted - started,
        "peak_growth_GiB": (peak - before) / 2**20,
        **surrogate.to_dict(),
    }


def solvers(data: Path) -> dict[str, Any]:
    """The solvers without the covariance matrix beside the one with it, hyperparameters fixed.

    From the smallest memory to the largest, as the peak only grows.
    """
    sizes = {"ec_dimer": 100, "li_ec": 40}
    options: dict[str, Any] = {"length": 10.0, "energy_noise": 1e-8, "force_noise": 1e-8}
    result = {}
    for name, size in sizes.items():
        train, test = (gprann.read(data / name / f"{part}.extxyz") for part in ("train", "dev"))
        for solver in ("conjugate_gradient", "inducing", "cholesky"):
            surrogate = gprann.Surrogate(**options, solver=solver)
            result[f"{name} {size} {solver}"] = _judged(surrogate, train[:size], test)
    return result


def surrogate_kernels(data: Path) -> dict[str, Any]:
    """Every kernel with its hyperparameters from the training set: 40 structures of EC on Li(100), 100 EC dimers.

    SOAP vectors of single atoms compare the atoms of the molecules one by one.
    """
    atoms = {"ec_dimer": list(range(20)), "li_ec": list(range(36, 46))}
    sizes = {"ec_dimer": 100, "li_ec": 40}
    result = {}
    for name, size in sizes.items():
        train, test = (gprann.read(data / name / f"{part}.extxyz") for part in ("train", "dev"))
        choices: dict[str, dict[str, Any]] = {
            "atoms": {},
            "atoms, Matern 5/2": {"radial": "matern52"},
            "atoms, relevance": {"relevance": True},
            "pairs": {"kernel": "pairs"},
            "cartesian": {"kernel": "cartesian"},
            "soap, averaged": {"kernel": "soap"},
            "soap, atoms of the molecules": {"kernel": "soap", "soap": {"centers": atoms[name]}},
            "auto": {"kernel": "auto"},
        }
        for label, options in choices.items():
            try:
                surrogate = gprann.Surrogate(**options)
                result[f"{name} {size}: {label}"] = _judged(surrogate, train[:size], test)
            except (gprann.GprannError, ImportError) as error:
                result[f"{name} {size}: {label}"] = {"error": str(error)}
    return result
