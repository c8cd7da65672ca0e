"""Equation of state and elastic constants of crystals, by any ASE calculator: of a potential or of its reference."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from ase.calculators.calculator import BaseCalculator
from ase.eos import EquationOfState as AseEquationOfState
from ase.units import GPa

from gprann.arrays import Array
from gprann.data.prediction import strain_matrices
from gprann.data.structure import Structure
from gprann.errors import ConfigError, GprannError, check_whole
from gprann.properties.relaxation import crystal_atoms, relax_atoms


@dataclass(frozen=True, slots=True)
class EquationOfState:
    """Energy over volume, fitted by Birch and Murnaghan's equation.

    Attributes
    ----------
    volumes : ndarray, shape (n,), Å³/atom
    energies : ndarray, shape (n,), eV/atom
    volume : float, Å³/atom
        Of the smallest energy.
    energy : float, eV/atom
    bulk_modulus : float, GPa
    """

    volumes: Array
    energies: Array
    volume: float
    energy: float
    bulk_modulus: float


@dataclass(frozen=True, slots=True)
class ElasticConstants:
    """Elastic constants of a crystal.

    Attributes
    ----------
    matrix : ndarray, shape (6, 6), GPa
        In Voigt's order xx yy zz yz xz xy; symmetric.
    asymmetry : float, GPa
        Largest difference of two elements that should be equal, before their mean was taken.
    """

    matrix: Array
    asymmetry: float

    @property
    def bulk_modulus(self) -> float:
        """Mean of Voigt's and Reuss' bounds (Hill), GPa."""
        voigt = float(self.matrix[:3, :3].sum()) / 9.0
        reuss = 1.0 / float(np.linalg.inv(self.matrix)[:3, :3].sum())
        return 0.5 * (voigt + reuss)

    @property
    def shear_modulus(self) -> float:
        """Mean of Voigt's and Reuss' bounds (Hill), GPa."""
        c, s = self.matrix, np.linalg.inv(self.matrix)
        off = ((0, 1), (0, 2), (1, 2))
        voigt = (np.trace(c[:3, :3]) - sum(c[k] for k in off) + 3 * np.trace(c[3:, 3:])) / 15.0
        reuss = 15.0 / (4 * np.trace(s[:3, :3]) - 4 * sum(s[k] for k in off) + 3 * np.trace(s[3:, 3:]))
        return 0.5 * float(voigt + reuss)


def equation_of_state(
    structure: Structure, calculator: BaseCalculator, *, range: float = 0.06, points: int = 9
) -> EquationOfState:
    """Return the energy of a crystal over its volume, its shape kept and its atoms relaxed.

    Parameters
    ----------
    structure : Structure
        Periodic in three directions.
    calculator : ASE calculator
    range : float
        Largest relative change of the volume, up and down.
    points : int

    Returns
    -------
    EquationOfState

    Raises
    ------
    DataError
        If the structure is not periodic.
    ConfigError
        If an option is impossible.
    GprannError
        If the atoms do not come to rest, or there is no smallest energy between the volumes.

    Examples
    --------
    >>> import gprann
    >>> from ase.build import bulk
    >>> from ase.calculators.emt import EMT
    >>> found = gprann.equation_of_state(gprann.Structure.from_ase(bulk("Cu")), EMT())
    >>> round(found.volume, 1), round(found.bulk_modulus / 10)
    (11.6, 13)
    """
    check_whole(5, points=points)
    if not 0 < range < 0.5:
        raise ConfigError(f"range = {range}: expected a part of the volume, above 0 and below 0.5")
    atoms = crystal_atoms(structure, calculator)
    cell, found = atoms.cell.copy(), []
    for factor in np.linspace(1.0 - range, 1.0 + range, points):
        atoms.set_cell(cell * factor ** (1 / 3), scale_atoms=True)
        relax_atoms(atoms, structure)
        found.append((atoms.get_volume() / len(atoms), atoms.get_potential_energy() / len(atoms)))
    volumes, energies = np.array(found).T
    try:
        volume, energy, modulus = AseEquationOfState(volumes, energies, eos="birchmurnaghan").fit(warn=False)
    except (ValueError, RuntimeError, np.linalg.LinAlgError) as error:
        raise GprannError(f"{structure.origin}: no equation of state fits the energies ({error})") from error
    if not volumes.min() < volume < volumes.max():
        raise GprannError(
            f"{structure.origin}: the energy has no minimum between {volumes.min():.4g} and {volumes.max():.4g} "
            "Å³/atom; start from a relaxed cell, or widen range"
        )
    return EquationOfState(volumes, energies, float(volume), float(energy), float(modulus) / GPa)


def elastic_constants(
    structure: Structure, calculator: BaseCalculator, *, strain: float = 0.005, relax: bool = True
) -> ElasticConstants:
    """Return the elastic constants of a crystal, from the stresses of strained cells with relaxed atoms.

    Parameters
    ----------
    structure : Structure
        Periodic in three directions.
    calculator : ASE calculator
        With stresses.
    strain : float
        In both directions, so that the error is of second order.
    relax : bool
        Whether cell and atoms are relaxed first: constants are those of the unstressed crystal.

    Returns
    -------
    ElasticConstants

    Raises
    ------
    DataError
        If the structure is not periodic.
    ConfigError
        If the strain is impossible.
    GprannError
        If the atoms do not come to rest.

    Examples
    --------
    >>> import gprann
    >>> from ase.build import bulk
    >>> from ase.calculators.emt import EMT
    >>> found = gprann.elastic_constants(gprann.Structure.from_ase(bulk("Cu")), EMT())
    >>> round(found.bulk_modulus / 10), found.asymmetry < 1
    (13, True)
    """
    if not 0 < strain < 0.1:
        raise ConfigError(f"strain = {strain}: expected a small positive number")
    atoms = crystal_atoms(structure, calculator)
    if relax:
        relax_atoms(atoms, structure, cell=True)
    cell, positions = atoms.cell.copy(), atoms.get_scaled_positions()
    columns = []
    for component in np.eye(6):
        stresses = []
        for sign in (1.0, -1.0):
            deformation = np.eye(3) + strain_matrices(sign * strain * component)
            atoms.set_cell(cell @ deformation)
            atoms.set_scaled_positions(positions)
            relax_atoms(atoms, structure)
            stresses.append(atoms.get_stress())
        columns.append((stresses[0] - stresses[1]) / (2.0 * strain * GPa))
    matrix = np.array(columns)
    return ElasticConstants(0.5 * (matrix + matrix.T), float(np.max(np.abs(matrix - matrix.T))))
