"""Random starts: the one that goes on is the best of them, by the loss with its ridge where structures are few."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import gprann
from gprann.descriptors import ChebyshevDescriptor

DATA = gprann.examples.hydrogen(7)
DESCRIPTOR = ChebyshevDescriptor(["H"], radial_order=10, radial_cutoff=8.0, angular_order=None)
OPTIONS: dict[str, Any] = {"hidden": (5, 5), "validation": 0.0, "iterations": 60, "members": 4, "workers": 1}


def objectives(ridge: float, **options: Any) -> list[float]:
    """Mean squared error with the ridge, of every member at its end."""
    potential = gprann.train(DATA, DESCRIPTOR, ridge=ridge, **OPTIONS, **options)
    errors = potential.predict(DATA).member_energy - DATA.energies
    penalties = ridge * (potential.parameters**2).sum(axis=1)
    return list((errors**2).mean(axis=1) / potential.energy_scale**2 + penalties)


@pytest.mark.parametrize("ridge", [1e-6, 1e-4])
def test_more_starts_end_lower(ridge: float) -> None:
    single = np.median(objectives(ridge, starts=1))
    many = np.median(objectives(ridge, starts=24, start_iterations=10))
    assert many < 0.9 * single


def test_starts_are_reproducible() -> None:
    first, again = (objectives(1e-6, starts=9, start_iterations=3, seed=4) for _ in range(2))
    assert first == again
