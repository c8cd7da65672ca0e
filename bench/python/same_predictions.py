"""Record the predictions of one version of gprann, and compare those of another with them.

    python bench/python/same_predictions.py DATA record FILE.npz [PART ...]
    python bench/python/same_predictions.py DATA compare FILE.npz [PART ...]

Run `record` where the old version is installed and `compare` where the new one is; both use nothing but the public
interface, with fixed seeds. For every part `compare` prints the largest difference of energies and forces relative to
their largest value, and ends with an error if one exceeds 1e-9. DATA holds ec_dimer/, li_ec/ and h2/.

Parts: hydrogen, kernels, solvers, training, periodic (minutes), ec_dimer, li_ec (whole sets, many minutes).
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

import gprann

Arrays = dict[str, np.ndarray]
TOLERANCE = 1e-9


def _flat(prediction: gprann.Prediction) -> Arrays:
    found = {"energy": prediction.energy, "forces": np.concatenate(prediction.forces)}
    if prediction.energy_std is not None:
        found["energy_std"] = prediction.energy_std
    return found


def _named(name: str, found: Arrays) -> Arrays:
    return {f"{name} {key}": value for key, value in found.items()}


def _read(data: Path, name: str, count: int) -> gprann.Dataset:
    return gprann.read(data / name, index=f":{count}")


def _descriptor(species: list[str]) -> gprann.ChebyshevDescriptor:
    return gprann.ChebyshevDescriptor(
        species, radial_order=12, radial_cutoff=6.5, angular_order=4, angular_cutoff=4.0
    )


def hydrogen(data: Path) -> Arrays:
    """Surrogates of seven H2, networks on their copies and on Taylor copies."""
    train, test = gprann.read(data / "h2/train.extxyz"), gprann.read(data / "h2/test.extxyz")
    descriptor = gprann.ChebyshevDescriptor(
        ["H"], radial_order=10, radial_cutoff=8.0, angular_order=None, angular_cutoff=4.0
    )
    found: Arrays = {}
    for kernel in ("atoms", "pairs", "cartesian"):
        surrogate = gprann.Surrogate(kernel=kernel).fit(train)
        found |= _named(f"surrogate {kernel}", _flat(surrogate.predict(test)))
    copies = {
        "gpr": gprann.augment(
            train, gprann.Surrogate(kernel="pairs").fit(train), copies=14, displacement=0.05
        ),
        "taylor": gprann.taylor_augment(train, displacement=0.03),
    }
    for name, augmented in copies.items():
        networks = gprann.train(augmented, descriptor, hidden=(5, 5), optimizer="lm", members=2, seed=3)
        found |= _named(f"networks {name}", _flat(networks.predict(test)))
    return found


def kernels(data: Path) -> Arrays:
    """Surrogates of EC dimers by kernel and by ways to the hyperparameters."""
    train, test = _read(data, "ec_dimer/train.extxyz", 30), _read(data, "ec_dimer/dev.extxyz", 20)
    variants = {
        "atoms": {"kernel": "atoms"},
        "pairs": {"kernel": "pairs"},
        "cartesian": {"kernel": "cartesian"},
        "matern": {"kernel": "atoms", "radial": "matern52"},
        "likelihood": {"kernel": "atoms", "hyperparameters": "likelihood"},
        "leave_one_out": {"kernel": "pairs", "hyperparameters": "leave_one_out"},
        "k_fold": {"kernel": "pairs", "hyperparameters": "k_fold"},
        "relevance": {"kernel": "atoms", "relevance": True},
        "species_lengths": {"kernel": "atoms", "species_lengths": {"H": 0.8}},
    }
    found: Arrays = {}
    for name, options in variants.items():
        found |= _named(name, _flat(gprann.Surrogate(**options).fit(train).predict(test)))
    return found


def solvers(data: Path) -> Arrays:
    """The same equations by each solver; subsets; copies; the structures chosen."""
    train, test = _read(data, "ec_dimer/train.extxyz", 40), _read(data, "ec_dimer/dev.extxyz", 20)
    given = {"length": 8.0, "energy_noise": 1e-7, "force_noise": 1e-6}
    found: Arrays = {}
    for solver in ("cholesky", "conjugate_gradient", "inducing"):
        surrogate = gprann.Surrogate(solver=solver, **given).fit(train)
        found |= _named(solver, _flat(surrogate.predict(test)))
    surrogate = gprann.Surrogate(**given).fit(train[:30]).extend(train[30:])
    found |= _named("extended", _flat(surrogate.predict(test)))
    found |= _named("subsets", _flat(gprann.fit_surrogates(train, max_subset=20, **given).predict(test)))
    copies = gprann.augment(train, surrogate, copies=4, displacement=0.021, seed=1, forces=True)
    found["copies energy"] = copies.energies
    found["copies forces"] = np.concatenate(copies.forces)
    found["selected"] = np.array(gprann.select(test, surrogate, count=5).indices)
    return found


def training(data: Path) -> Arrays:
    """Networks on EC dimers, on energies and on forces, by each optimiser."""
    train, test = _read(data, "ec_dimer/train.extxyz", 40), _read(data, "ec_dimer/dev.extxyz", 20)
    variants = {
        "lm energies": {"optimizer": "lm", "iterations": 8},
        "lm forces": {"optimizer": "lm", "iterations": 8, "forces": True},
        "lm huber": {
            "optimizer": "lm",
            "iterations": 5,
            "forces": True,
            "huber_force": 0.5,
            "force_fraction": 0.5,
        },
        "cg forces": {"optimizer": "gauss_newton_cg", "iterations": 4, "forces": True},
        "lbfgs forces": {"optimizer": "lbfgs", "iterations": 20, "forces": True},
        "adamw forces": {"optimizer": "adamw", "iterations": 10, "forces": True, "learning_rate": 1e-3},
        "adamw energies": {"optimizer": "adamw", "iterations": 20, "learning_rate": 1e-3},
    }
    found: Arrays = {}
    for name, options in variants.items():
        networks = gprann.train(
            train, _descriptor(["C", "H", "O"]), hidden=(8, 8), members=2, seed=5, workers=1, **options
        )
        found |= _named(name, _flat(networks.predict(test)))
    return found


def periodic(data: Path) -> Arrays:
    """EC on Li(100): a surrogate and networks on forces, 20 structures."""
    train, test = _read(data, "li_ec/train.extxyz", 20), _read(data, "li_ec/dev.extxyz", 10)
    found = _named("surrogate", _flat(gprann.Surrogate().fit(train).predict(test)))
    networks = gprann.train(
        train,
        _descriptor(["C", "H", "Li", "O"]),
        hidden=(8, 8),
        optimizer="lm",
        forces=True,
        iterations=5,
        seed=1,
    )
    return found | _named("networks", _flat(networks.predict(test)))


def ec_dimer(data: Path) -> Arrays:
    """The whole set: surrogates by two kernels, and a network on forces."""
    train, test = gprann.read(data / "ec_dimer/train.extxyz"), gprann.read(data / "ec_dimer/dev.extxyz")
    found: Arrays = {}
    for kernel in ("atoms", "pairs"):
        found |= _named(kernel, _flat(gprann.Surrogate(kernel=kernel).fit(train).predict(test)))
    networks = gprann.train(
        train, _descriptor(["C", "H", "O"]), hidden=(10, 10), optimizer="lm", forces=True, members=1, seed=7
    )
    return found | _named("networks", _flat(networks.predict(test)))


def li_ec(data: Path) -> Arrays:
    """The whole set: the surrogate."""
    train, test = gprann.read(data / "li_ec/train.extxyz"), gprann.read(data / "li_ec/dev.extxyz")
    return _named("atoms", _flat(gprann.Surrogate().fit(train).predict(test)))


PARTS: dict[str, Callable[[Path], Arrays]] = {
    part.__name__: part for part in (hydrogen, kernels, solvers, training, periodic, ec_dimer, li_ec)
}


def main(data: str, what: str, file: str, *names: str) -> int:
    """Record or compare; return the exit code."""
    known = dict(np.load(file)) if what == "compare" else {}
    worst = 0.0
    for name in names or PARTS:
        started = time.perf_counter()
        found = {f"{name}: {key}": value for key, value in PARTS[name](Path(data)).items()}
        print(f"{name}: {time.perf_counter() - started:.0f} s")
        if what == "record":
            known |= found
            np.savez(file, **known)
            continue
        for key, value in found.items():
            difference = float(np.abs(value - known[key]).max() / max(np.abs(known[key]).max(), 1e-300))
            worst = max(worst, difference)
            print(f"  {key:45s} {difference:.1e}{'' if difference <= TOLERANCE else '   <-- differs'}")
    return int(worst > TOLERANCE)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
