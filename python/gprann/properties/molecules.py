"""Vibrations of molecules."""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt

import ase
import numpy as np
from ase.calculators.calculator import BaseCalculator
from ase.units import _amu, _e, _hbar, invcm

from gprann.arrays import Array
from gprann.data.structure import Structure
from gprann.errors import ConfigError, DataError
from gprann.properties.relaxation import relax_atoms

_PER_ROOT = 1e10 * _hbar / sqrt(_e * _amu) / invcm  # from the root of eV / (Å² u) to 1/cm
_LINEAR = 1e-3  # of the roots of moments of inertia: below it there is no rotation


@dataclass(frozen=True, slots=True)
class Vibrations:
    """Vibrations of a molecule, in harmonic approximation.

    Attributes
    ----------
    wavenumbers : ndarray, shape (m,), 1/cm
        Ascending; imaginary ones are negative. Translations and rotations are left out: m = 3 N - 6, or 3 N - 5 of a
        linear molecule.
    modes : ndarray, shape (m, N, 3)
        Displacements, of length 1.
    """

    wavenumbers: Array
    modes: Array


def vibrations(
    structure: Structure, calculator: BaseCalculator, *, displacement: float = 0.01, relax: bool = True
) -> Vibrations:
    """Return the vibrations of a molecule from forces of displaced atoms.

    Parameters
    ----------
    structure : Structure
        Not periodic.
    calculator : ASE calculator
    displacement : float, Å
        In both directions, so that the error is of second order.
    relax : bool
        Whether the atoms are relaxed first.

    Returns
    -------
    Vibrations

    Raises
    ------
    DataError
        If the structure is periodic, or has a single atom.
    ConfigError
        If the displacement is impossible.
    GprannError
        If the atoms do not come to rest.

    Examples
    --------
    >>> import gprann
    >>> from ase.calculators.emt import EMT
    >>> pair = gprann.Structure(("N", "N"), [[0.0, 0, 0], [1.1, 0, 0]])
    >>> found = gprann.vibrations(pair, EMT())
    >>> found.wavenumbers.shape, bool(found.wavenumbers[0] > 1000)
    ((1,), True)
    """
    if not 0 < displacement < 1:
        raise ConfigError(f"displacement = {displacement}: expected a small positive length in Å")
    if structure.pbc.any() or len(structure) < 2:
        raise DataError(
            f"{structure.origin}: is no molecule; crystals have phonons, and single atoms no vibrations"
        )
    atoms: ase.Atoms = structure.without_labels().to_ase()
    atoms.calc = calculator
    if relax:
        relax_atoms(atoms, structure, forces=1e-5)
    n, rest = len(atoms), atoms.positions.copy()
    hessian = np.empty((3 * n, 3 * n))
    for k in range(3 * n):
        sides = []
        for sign in (1.0, -1.0):
            atoms.positions = rest
            atoms.positions[k // 3, k % 3] += sign * displacement
            sides.append(atoms.get_forces().ravel())
        hessian[k] = (sides[1] - sides[0]) / (2.0 * displacement)
    atoms.positions = rest
    weights = np.repeat(1.0 / np.sqrt(atoms.get_masses()), 3)
    weighted = 0.5 * (hessian + hessian.T) * np.outer(weights, weights)
    basis = _internal(atoms)
    values, vectors = np.linalg.eigh(basis.T @ weighted @ basis)
    modes = ((basis @ vectors).T * weights).reshape(-1, n, 3)
    modes /= np.linalg.norm(modes, axis=(1, 2), keepdims=True)
    return Vibrations(np.sign(values) * np.sqrt(np.abs(values)) * _PER_ROOT, modes)


def _internal(atoms: ase.Atoms) -> Array:
    """Return the mass-weighted directions that are no translation and no rotation, shape (3 N, m)."""
    masses = atoms.get_masses()
    places = atoms.positions - atoms.get_center_of_mass()
    rows = [np.tile(axis, (len(atoms), 1)) for axis in np.eye(3)]
    rows += [np.cross(axis, places) for axis in np.eye(3)]
    outer = np.array([(row * np.sqrt(masses)[:, None]).ravel() for row in rows])
    _, sizes, right = np.linalg.svd(outer)
    return np.asarray(right[int(np.sum(sizes > _LINEAR * sizes.max())) :].T)
