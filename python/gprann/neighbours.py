"""Neighbour lists of batches of structures, made with vesin."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import vesin
from numpy.typing import NDArray

from gprann import _core
from gprann.errors import DataError
from gprann.structure import Structure

__all__ = ["Neighbourhood", "build_neighbours", "species_indices"]

_CLOSEST = 0.05  # Å; below it two atoms are one, and every descriptor is meaningless


@dataclass(frozen=True, slots=True)
class Neighbourhood:
    """Neighbour lists of n structures with all their atoms numbered through.

    Attributes
    ----------
    first_atom : ndarray of int64, shape (n + 1,)
        Atoms of structure s are first_atom[s] .. first_atom[s + 1] - 1.
    first_pair : ndarray of int64, shape (n_atoms + 1,)
    neighbour : ndarray of int32, shape (n_pairs,)
    vectors : ndarray, shape (n_pairs, 3), Å
        R_j + S cell - R_i; a neighbour may be a periodic image.
    species : ndarray of int32, shape (n_atoms,)
    kernel : compiled view of the same arrays
    """

    first_atom: NDArray[np.int64]
    first_pair: NDArray[np.int64]
    neighbour: NDArray[np.int32]
    vectors: NDArray[np.float64]
    species: NDArray[np.int32]
    kernel: _core.Neighbours

    @property
    def n_atoms(self) -> int:
        """Number of atoms of all structures."""
        return len(self.species)


def species_indices(structure: Structure, species: Sequence[str]) -> NDArray[np.int32]:
    """Return for every atom the position of its element in `species`, shape (N,).

    Raises
    ------
    DataError
        If an element is not listed.
    """
    table = {symbol: index for index, symbol in enumerate(species)}
    unknown = sorted(set(structure.symbols) - set(table))
    if unknown:
        raise DataError(
            f"{structure.origin}: element {', '.join(unknown)} is not among the species "
            f"{', '.join(species)}; "
            "train with it or leave the structure out"
        )
    return np.array([table[symbol] for symbol in structure.symbols], dtype=np.int32)


def _pairs(
    structure: Structure, cutoff: float
) -> tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.float64]]:
    """Return neighbours per atom, their indices and vectors, sorted by the first atom."""
    finder = vesin.NeighborList(cutoff=cutoff, full_list=True)
    periodic = [bool(p) for p in structure.pbc]
    i, j, vectors = finder.compute(structure.positions, structure.cell, periodic, "ijD")
    if len(i):
        squared = np.einsum("pk,pk->p", vectors, vectors)
        closest = int(np.argmin(squared))
        if squared[closest] < _CLOSEST**2:
            raise DataError(
                f"{structure.origin}: atoms {i[closest]} and {j[closest]} are "
                f"{np.sqrt(squared[closest]):.3g} Å apart; "
                "remove the structure or correct its geometry"
            )
    order = np.argsort(i, kind="stable")
    counts = np.bincount(i, minlength=len(structure)).astype(np.int64)
    return counts, j[order].astype(np.int32), vectors[order]


def build_neighbours(structures: Sequence[Structure], cutoff: float, species: Sequence[str]) -> Neighbourhood:
    """Return the neighbour lists of a batch of structures.

    Parameters
    ----------
    structures : sequence of Structure
    cutoff : float, Å
    species : sequence of str
        Elements in the order in which the caller counts them.

    Raises
    ------
    DataError
        If an element is not in `species`, or two atoms lie on top of each other.
    """
    lists = [_pairs(structure, cutoff) for structure in structures]
    first_atom = np.concatenate([[0], np.cumsum([len(structure) for structure in structures])]).astype(
        np.int64
    )
    counts = np.concatenate([np.zeros(1, np.int64), *(item[0] for item in lists)])
    neighbour = np.concatenate(
        [
            np.zeros(0, np.int32),
            *(item[1] + np.int32(first) for item, first in zip(lists, first_atom, strict=False)),
        ]
    )
    vectors = np.concatenate([np.zeros((0, 3)), *(item[2] for item in lists)])
    kinds = np.concatenate([np.zeros(0, np.int32), *(species_indices(item, species) for item in structures)])
    first_pair = np.cumsum(counts)
    kernel = _core.Neighbours(first_atom, first_pair, neighbour, vectors, kinds)
    return Neighbourhood(first_atom, first_pair, neighbour, vectors, kinds, kernel)
