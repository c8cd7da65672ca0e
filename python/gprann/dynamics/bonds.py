"""Bonds of molecules, as the structure at the start has them, and atoms that are closer than any bond."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from ase.data import atomic_numbers, covalent_radii
from ase.neighborlist import neighbor_list

from gprann.arrays import Array
from gprann.data.structure import Structure

_NEAR = 1.25  # times the sum of covalent radii, up to which atoms are bound
_NON_METALS = frozenset(["H", "B", "C", "N", "O", "F", "Si", "P", "S", "Cl", "Se", "Br", "I"])


class Bond(NamedTuple):
    """A bond: its atoms, its length (Å), and this relative to the sum of covalent radii."""

    atom: int
    other: int
    length: float
    stretch: float


class Bonds:
    """The bonds between non-metals of a structure.

    Parameters
    ----------
    structure : Structure
        Atoms of it may cross the borders of the cell later on, but must not be wrapped back.

    Examples
    --------
    >>> water = Structure(("O", "H", "H"), [[0.0, 0.0, 0.1], [0.78, 0.61, 0.0], [-0.76, 0.59, -0.1]])
    >>> moved = water.positions + [[0, 0, 0], [0.5, 0, 0], [0, 0, 0]]
    >>> bond = Bonds(water).longest(moved, water.cell)
    >>> sorted((bond.atom, bond.other)), round(bond.stretch, 2)
    ([0, 1], 1.47)
    """

    def __init__(self, structure: Structure) -> None:
        radii = _radii(structure)
        bound = np.array([symbol in _NON_METALS for symbol in structure.symbols])
        i, j, self._shifts = neighbor_list("ijS", structure.to_ase(), (_NEAR * radii).tolist())
        kept = bound[i] & bound[j] & (i <= j)
        self._i, self._j, self._shifts = i[kept], j[kept], self._shifts[kept].astype(float)
        self._sums = radii[self._i] + radii[self._j]

    def longest(self, positions: Array, cell: Array) -> Bond | None:
        """Return the bond that is stretched most; None where there are none."""
        if not len(self._i):
            return None
        vectors = positions[self._j] - positions[self._i] + self._shifts @ cell
        lengths = np.sqrt(np.einsum("ik,ik->i", vectors, vectors))
        k = int(np.argmax(lengths / self._sums))
        return Bond(int(self._i[k]), int(self._j[k]), float(lengths[k]), float(lengths[k] / self._sums[k]))


def find_contact(structure: Structure, least: float) -> Bond | None:
    """Return the two atoms that are closest, if they are closer than so many times the sum of their covalent radii.

    Examples
    --------
    >>> find_contact(Structure(("O", "H"), [[0, 0, 0], [0, 0, 0.5]]), 0.65).length
    0.5
    """
    radii = _radii(structure)
    i, j, lengths = neighbor_list("ijd", structure.to_ase(), (least * radii).tolist())
    if not len(i):
        return None
    ratios = lengths / (radii[i] + radii[j])
    k = int(np.argmin(ratios))
    return Bond(int(i[k]), int(j[k]), float(lengths[k]), float(ratios[k]))


def _radii(structure: Structure) -> Array:
    """Return the covalent radii of the atoms, shape (N,), Å."""
    return np.array([covalent_radii[atomic_numbers[symbol]] for symbol in structure.symbols])
