"""Refusal of copies in which atoms come closer than the reference structures have ever shown."""

from __future__ import annotations

import logging
from dataclasses import dataclass

import numpy as np
import vesin
from ase.data import atomic_numbers, covalent_radii
from numpy.typing import NDArray

from gprann.data.structure import Dataset, Structure

__all__ = ["DistanceLimits"]

_log = logging.getLogger(__name__)
Array = NDArray[np.float64]
_REACH = 4.0  # Å; elements that never come as near as this have no smallest distance worth the name


@dataclass(frozen=True, slots=True)
class DistanceLimits:
    """Smallest allowed distances between elements.

    Attributes
    ----------
    species : tuple of str
    smallest : ndarray, shape (S, S), Å
    """

    species: tuple[str, ...]
    smallest: Array

    @classmethod
    def of(cls, data: Dataset, fraction: float) -> DistanceLimits:
        """Return a fraction of the smallest distances in some structures.

        For elements that never come closer than 4 Å there, of the sum of their covalent radii.

        Examples
        --------
        >>> import gprann
        >>> DistanceLimits.of(gprann.examples.hydrogen(7), 0.7).smallest.round(6)
        array([[0.7]])
        """
        species = data.species
        smallest = np.full((len(species), len(species)), np.inf)
        for structure in data:
            first, second, distances = _pairs(structure, species, _REACH)
            np.minimum.at(smallest, (first, second), distances)
        smallest = np.minimum(smallest, smallest.T)
        radii = np.array([covalent_radii[atomic_numbers[symbol]] for symbol in species])
        return cls(species, fraction * np.where(np.isfinite(smallest), smallest, radii[:, None] + radii))

    def kept(self, copies: Dataset) -> NDArray[np.bool_]:
        """Return which copies are allowed, shape (n,), and log how many are not."""
        kept = np.array([self.allow(copy) for copy in copies], dtype=bool)
        if not kept.all():
            _log.warning("%d of %d copies left out: atoms come too close", np.sum(~kept), len(kept))
        return kept

    def allow(self, structure: Structure) -> bool:
        """Return whether no two atoms of a structure are too close."""
        if not self.smallest.size or not self.smallest.max() > 0:
            return True
        first, second, distances = _pairs(structure, self.species, float(self.smallest.max()))
        return not np.any(distances < self.smallest[first, second])


def _pairs(
    structure: Structure, species: tuple[str, ...], cutoff: float
) -> tuple[NDArray[np.int64], NDArray[np.int64], Array]:
    """Return the kinds of the atoms of all pairs within a cutoff, and their distances."""
    kinds = np.array([species.index(symbol) for symbol in structure.symbols], dtype=np.int64)
    finder = vesin.NeighborList(cutoff=cutoff, full_list=False)
    first, second, distances = finder.compute(
        structure.positions, structure.cell, [bool(periodic) for periodic in structure.pbc], "ijd"
    )
    return kinds[first], kinds[second], np.asarray(distances)
