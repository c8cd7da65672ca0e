"""Predictions of models for a data set; stresses and strains in Voigt order: xx yy zz yz xz xy, shears γ = 2 ε.

stress = (1/V) dE/d(strain), ASE's sign: positive when the structure wants to shrink.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

from gprann.arrays import Array
from gprann.data.structure import Structure
from gprann.errors import DataError


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
    grades : list of n ndarrays, shape (N,), or None
        How far the environment of each atom lies outside the training set: 1 is the edge of what it has shown, see
        `Potential.guard`.

    Examples
    --------
    >>> Prediction(np.array([-1.5]), [np.zeros((2, 3))], energy_std=np.array([0.01]))
    Prediction(1 structures: energy, forces, energy_std)
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
    grades: list[Array] | None = None

    @property
    def largest_grades(self) -> Array | None:
        """The largest grade of each structure, shape (n,)."""
        return None if self.grades is None else np.array([grades.max(initial=0.0) for grades in self.grades])

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

    def __repr__(self) -> str:
        known = [field.name for field in fields(self) if getattr(self, field.name) is not None]
        return f"Prediction({len(self)} structures: {', '.join(known)})"


FIRST, SECOND = [0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1]
"""Row and column of each component."""


def volume(structure: Structure) -> float:
    """Return the volume of the cell, Å³; 0 unless the structure is periodic in all directions."""
    return abs(float(np.linalg.det(structure.cell))) if structure.pbc.all() else 0.0


def virial_components(virials: Array) -> Array:
    """Return dE/d(strain) in Voigt order, (..., 6), of virials (..., 3, 3), eV."""
    return 0.5 * (virials[..., FIRST, SECOND] + virials[..., SECOND, FIRST])


def strain_matrices(strains: Array) -> Array:
    """Return symmetric strains, (..., 3, 3), from components (..., 6); the adjoint of `virial_components`.

    Examples
    --------
    >>> strain_matrices(np.array([0.1, 0.0, 0.0, 0.2, 0.0, 0.0])).tolist()
    [[0.1, 0.0, 0.0], [0.0, 0.0, 0.1], [0.0, 0.1, 0.0]]
    """
    matrices = np.zeros((*strains.shape[:-1], 3, 3))
    matrices[..., FIRST, SECOND] += 0.5 * strains
    matrices[..., SECOND, FIRST] += 0.5 * strains
    return matrices


def voigt_stress(structure: Structure, virial: Array) -> Array:
    """Return the stress (6,), eV/Å³, from the virial (3, 3); NaN unless periodic in all directions."""
    size = volume(structure)
    return virial_components(virial) / size if size > 0 else np.full(6, np.nan)
