"""Strains of positions and cell, and stresses, in Voigt order: xx yy zz yz xz xy, shears γ = 2 ε.

stress = (1/V) dE/d(strain), ASE's sign: positive when the structure wants to shrink.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gprann.data.structure import Structure

__all__ = ["FIRST", "SECOND", "strain_matrices", "virial_components", "voigt_stress", "volume"]

Array = NDArray[np.float64]
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
