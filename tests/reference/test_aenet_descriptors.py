"""Descriptors computed by the ænet program."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import contracts
from gprann.data.structure import Structure
from gprann.descriptors import ChebyshevDescriptor


@pytest.mark.data
@pytest.mark.parametrize(
    ("name", "species", "periodic"),
    [("EC-EC", ["C", "H", "O"], False), ("Li-EC", ["Li", "C", "H", "O"], True)],
)
def test_descriptors_agree_with_aenet(
    shared_data: Path, name: str, species: list[str], periodic: bool
) -> None:
    reference = json.loads((shared_data / "aenet_reference" / name / "reference.json").read_text())
    expected = np.array(reference["raw_descriptors"])
    cell = np.array(reference["cell"]) if periodic else np.zeros((3, 3))
    structure = Structure(tuple(reference["symbols"]), reference["positions"], cell, [periodic] * 3)
    descriptor = ChebyshevDescriptor(
        species, radial_order=12, radial_cutoff=6.5, angular_order=4, angular_cutoff=4.0
    )
    actual = descriptor.values(descriptor.neighbours([structure]))
    assert expected.shape == (len(structure), 36)
    contracts.assert_close(actual, expected, relative=1e-8)
    # The rows too, and every component against its own largest value: small ones must not hide behind large ones.
    for axis in (0, 1):
        scale = np.abs(expected).max(axis=axis, keepdims=True)
        assert np.all(np.abs(actual - expected) <= 1e-8 * scale)
