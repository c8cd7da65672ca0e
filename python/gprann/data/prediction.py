"""What a potential or a surrogate predicts for a data set."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gprann.errors import DataError

__all__ = ["Prediction"]

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Prediction:
    """Predictions for n structures, in the order of the data set.

    Attributes
    ----------
    energy : ndarray, shape (n,), eV
        Total energies; for a committee the mean of its members.
    forces : list of n ndarrays, shape (N, 3), eV/Å
    energy_std : ndarray, shape (n,), eV, or None
        Standard deviation: of the Gaussian process, or over the members of a committee.
    forces_std : list of n ndarrays, shape (N, 3), eV/Å, or None
        Standard deviation of every force component.
    stress : ndarray, shape (n, 6), eV/Å³, or None
        Voigt order, NaN for structures that are not periodic in three directions.
    member_energy : ndarray, shape (members, n), eV, or None
    member_forces : list of n ndarrays, shape (members, N, 3), eV/Å, or None
    atom_energies, atom_energies_std : list of n ndarrays, shape (N,), eV, or None
        The energies divided among the atoms, where the model does so, and their standard deviations.
    """

    energy: Array
    forces: list[Array]
    energy_std: Array | None = None
    forces_std: list[Array] | None = None
    stress: Array | None = None
    member_energy: Array | None = None
    member_forces: list[Array] | None = None
    atom_energies: list[Array] | None = None
    atom_energies_std: list[Array] | None = None

    @property
    def required_energy_std(self) -> Array:
        """Standard deviations of the energies, where there must be some, shape (n,), eV.

        Raises
        ------
        DataError
            If they were not predicted.
        """
        if self.energy_std is None:
            raise DataError("there are no standard deviations of the energies: predict with std=True")
        return self.energy_std

    def __len__(self) -> int:
        return len(self.energy)
