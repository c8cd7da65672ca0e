"""Hyperparameters of the surrogate: length, amplitude and noises, in physical and in relative units."""

from __future__ import annotations

from dataclasses import astuple, dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "BOUNDS",
    "FREE",
    "Fixed",
    "Hyperparameters",
    "Trial",
    "with_fixed",
]

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Hyperparameters:
    """Hyperparameters of a fitted surrogate, in physical units.

    Attributes
    ----------
    length : float
        Kernel length in units of the fingerprint's spread.
    amplitude : float, eV
        s_f, root of the kernel's prefactor.
    energy_noise : float, eV
    force_noise : float, eV/Å
    """

    length: float
    amplitude: float
    energy_noise: float
    force_noise: float


@dataclass(frozen=True, slots=True)
class Trial:
    """Hyperparameters as the search tries them: in relative units, in which they hardly depend on the system.

    Attributes
    ----------
    length : float
        Kernel length in units of the fingerprint's spread.
    energy_noise, force_noise : float
        Noise variances relative to the mean diagonal of the gradient blocks of the noise-free K (with
        energies in eV and lengths in Å).
    """

    length: float
    energy_noise: float
    force_noise: float

    def vector(self) -> Array:
        """Return the logarithms, shape (3,)."""
        return np.log([self.length, self.energy_noise, self.force_noise])

    def __str__(self) -> str:
        noises = f"{self.energy_noise:.1e} and {self.force_noise:.1e}"
        return f"length {self.length:.3g}, relative noises {noises}"

    @classmethod
    def from_vector(cls, logarithms: Array) -> Trial:
        """Make settings from the logarithms."""
        length, energy_noise, force_noise = np.exp(logarithms)
        return cls(float(length), float(energy_noise), float(force_noise))


BOUNDS = Trial(0.5, 1e-10, 1e-10), Trial(60.0, 1e-2, 1e-2)
"""Smallest and largest settings that are considered."""
Fixed = tuple[float | None, float | None, float | None]
"""Length, energy noise and force noise as the user gives them, None for those that are to be found."""
FREE: Fixed = (None, None, None)


def with_fixed(settings: Trial, fixed: Fixed) -> Trial:
    """Return the settings, with those hyperparameters replaced that the user gives."""
    return Trial(
        *(own if given is None else given for given, own in zip(fixed, astuple(settings), strict=True))
    )
