"""Compare gprann with ænet's own numbers, and potentials before and after a round trip through its files.

    python bench/python/aenet_exchange.py DATA [--save bench/results/aenet_exchange.json]

DATA holds aenet_reference/, with networks, descriptors, energies (8 decimals) and forces (6 decimals) of the ænet
program, and li_ec/, on which committees of 36-10-10-1 networks are trained for the round trips. All differences are the
largest ones.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from measure import machine

import gprann


def largest(first: Any, second: Any) -> float:
    """Return the largest difference."""
    return float(max(np.abs(np.asarray(a) - np.asarray(b)).max() for a, b in zip(first, second, strict=True)))


def round_trip(potential: gprann.Potential, data: gprann.Dataset) -> dict[str, dict[str, float]]:
    """Return what a potential loses on its way through files of both forms."""
    before = potential.predict(data)
    result = {}
    for name, text in (("binary", False), ("text", True)):
        with tempfile.TemporaryDirectory() as folder:
            gprann.write_aenet(potential, folder, ascii=text)
            after = gprann.read_aenet(folder).predict(data)
        result[name] = {
            "energy_relative": float((np.abs(after.energy - before.energy) / np.abs(before.energy)).max()),
            "energy_eV": largest(after.energy, before.energy),
            "force_eV_per_A": largest(after.forces, before.forces),
        }
    return result


def reference(folder: Path) -> dict[str, Any]:
    """Return the differences from the numbers of ænet."""
    potential, data = gprann.read_aenet(folder), gprann.read(folder / "structure.xsf")
    expected = json.loads((folder / "reference.json").read_text(encoding="utf-8"))
    found = potential.predict(data)
    descriptors = potential.descriptor.values(potential.descriptor.neighbours(list(data)))
    return {
        "descriptor": largest(descriptors, expected["raw_descriptors"]),
        "energy_eV": abs(float(found.energy[0]) - expected["predicted_total_energy_eV"]),
        "force_eV_per_A": largest(found.forces[0], expected["predicted_forces_eV_A"]),
        "round_trip": round_trip(potential, data),
    }


def trained(data: Path, activation: str) -> dict[str, Any]:
    """Return what a committee that was trained on EC/Li loses."""
    train, test = gprann.read(data / "li_ec/train.extxyz"), gprann.read(data / "li_ec/dev.extxyz")
    descriptor = gprann.ChebyshevDescriptor(["Li", "C", "H", "O"])
    potential = gprann.train(
        train, descriptor, activation=activation, members=2, iterations=20, starts=1, seed=0
    )
    return round_trip(potential, test)


def main() -> None:
    """Measure, print and save."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--save", type=Path, help="file for the result")
    options = parser.parse_args()
    result = {
        "machine": machine(),
        "reference": {
            name: reference(options.data / "aenet_reference" / name) for name in ("EC-EC", "Li-EC")
        },
        "li_ec": {activation: trained(options.data, activation) for activation in ("tanh", "twist")},
    }
    text = json.dumps(result, indent=1)
    print(text)
    if options.save is not None:
        options.save.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
