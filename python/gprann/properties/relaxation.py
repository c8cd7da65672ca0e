"""Crystals at rest, and their supercells: where their properties begin."""

from __future__ import annotations

from typing import Any

import ase
import numpy as np
from ase.calculators.calculator import BaseCalculator
from ase.filters import FrechetCellFilter
from ase.optimize import BFGS

from gprann.data.structure import Structure
from gprann.errors import ConfigError, DataError, GprannError

FORCES = 1e-4
"""eV/Å, to which structures are relaxed."""
_STEPS = 500


def crystal_atoms(structure: Structure, calculator: BaseCalculator) -> ase.Atoms:
    """Return the atoms of a crystal with a calculator.

    Raises
    ------
    DataError
        If it is not periodic in three directions.
    """
    if not structure.pbc.all():
        raise DataError(f"{structure.origin}: is no crystal; it must be periodic in three directions")
    atoms: ase.Atoms = structure.without_labels().to_ase()
    atoms.calc = calculator
    return atoms


def relax_atoms(
    atoms: ase.Atoms, structure: Structure, *, cell: bool = False, forces: float = FORCES
) -> None:
    """Relax the atoms, with `cell` the cell too.

    Raises
    ------
    GprannError
        If they do not come to rest.
    """
    subject: Any = FrechetCellFilter(atoms) if cell else atoms  # a filter stands for atoms
    if not BFGS(subject, logfile=None).run(fmax=forces, steps=_STEPS):
        raise GprannError(f"{structure.origin}: the atoms have not come to rest after {_STEPS} steps")


def relaxed_crystal(structure: Structure, calculator: BaseCalculator, *, relax: bool = True) -> ase.Atoms:
    """Return the atoms of a crystal with a calculator, cell and atoms at rest to 1e-5 eV/Å.

    Raises
    ------
    DataError
        If it is not periodic in three directions.
    GprannError
        If it does not come to rest.
    """
    atoms = crystal_atoms(structure, calculator)
    if relax:
        relax_atoms(atoms, structure, cell=True, forces=1e-5)
    return atoms


def repeats(atoms: ase.Atoms, length: float) -> list[int]:
    """Return how many cells a length needs in each periodic direction; in others 1.

    Heights count, not the lengths of vectors.

    Examples
    --------
    >>> repeats(ase.Atoms(cell=[4.0, 5.0, 6.0], pbc=[True, True, False]), 10.0)
    [3, 2, 1]
    """
    heights = 1.0 / np.linalg.norm(np.linalg.inv(atoms.cell.complete()[:]), axis=0)
    return [
        max(1, int(np.ceil(length / height - 1e-9))) if periodic else 1
        for height, periodic in zip(heights, atoms.pbc, strict=True)
    ]


def check_length(length: float) -> None:
    """Refuse an impossible length.

    Raises
    ------
    ConfigError
    """
    if not 0 < length < np.inf:
        raise ConfigError(f"length = {length}: expected a positive length in Å")
