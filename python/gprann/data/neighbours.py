"""Neighbour lists of batches of structures: small ones by trying all pairs, large ones by linked cells."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from ase.geometry.minkowski_reduction import minkowski_reduce
from numpy.typing import NDArray

from gprann import _core
from gprann.data.structure import Structure
from gprann.errors import AtomsTooCloseError, DataError
from gprann.runtime.resources import n_threads

CLOSEST = 0.05  # Å; below it two atoms are one, and every descriptor is meaningless
_SMALL = 300  # atoms up to which trying all pairs is as fast as linked cells, whatever the cell
_Lists = tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.float64], int]


@dataclass(frozen=True, slots=True)
class Neighbourhood:
    """Neighbour lists of n structures with all their atoms numbered through.

    Attributes
    ----------
    first_atom : ndarray of int64, shape (n + 1,)
        Atoms of structure s are first_atom[s] .. first_atom[s + 1] - 1.
    first_pair : ndarray of int64, shape (n_atoms + 1,)
        Neighbours of atom i are the pairs first_pair[i] .. first_pair[i + 1] - 1; each pair stands twice, once from
        each side.
    neighbour : ndarray of int32, shape (n_pairs,)
    vectors : ndarray, shape (n_pairs, 3), Å
        R_j + S cell - R_i; a neighbour may be a periodic image.
    species : ndarray of int32, shape (n_atoms,)
    core : compiled view of the same arrays
    """

    first_atom: NDArray[np.int64]
    first_pair: NDArray[np.int64]
    neighbour: NDArray[np.int32]
    vectors: NDArray[np.float64]
    species: NDArray[np.int32]
    core: _core.Neighbours = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        core = _core.Neighbours(self.first_atom, self.first_pair, self.neighbour, self.vectors, self.species)
        object.__setattr__(self, "core", core)

    def __reduce__(self) -> tuple[type[Neighbourhood], tuple[NDArray[Any], ...]]:
        return type(self), (self.first_atom, self.first_pair, self.neighbour, self.vectors, self.species)

    @property
    def n_atoms(self) -> int:
        """Number of atoms of all structures."""
        return len(self.species)

    @property
    def centres(self) -> NDArray[np.int64]:
        """Atom whose neighbour each pair is, shape (n_pairs,)."""
        return np.repeat(np.arange(self.n_atoms), np.diff(self.first_pair))

    def vector_changes(
        self, direction: NDArray[np.float64], strains: NDArray[np.float64] | None = None
    ) -> NDArray[np.float64]:
        """Return how the vectors change, shape (n_pairs, 3): what a descriptor written in NumPy needs for `jvp`.

        Parameters
        ----------
        direction : ndarray, shape (n_atoms, 3), Å
            Displacements of the atoms.
        strains : ndarray, shape (n, 3, 3), optional
            Of positions and cell of each structure.
        """
        changes: NDArray[np.float64] = direction[self.neighbour] - direction[self.centres]
        if strains is not None:
            changes += np.einsum("pdc,pc->pd", strains[self._structures()], self.vectors)
        return changes

    def collect(self, slopes: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return gradient and virials of something whose derivatives by the vectors are known: what `vjp` needs.

        Parameters
        ----------
        slopes : ndarray, shape (n_pairs, 3)
            Derivatives by the vectors.

        Returns
        -------
        gradient : ndarray, shape (n_atoms, 3)
            Derivatives by the positions.
        virials : ndarray, shape (n, 3, 3)
            Derivatives by strains of positions and cells.
        """
        gained, lost = np.zeros(
            (2, self.n_atoms, 3)
        )  # apart, so that an atom's own images cancel to the last bit
        np.add.at(gained, self.neighbour, slopes)
        np.add.at(lost, self.centres, slopes)
        virials = np.zeros((len(self.first_atom) - 1, 3, 3))
        np.add.at(virials, self._structures(), self.vectors[:, :, None] * slopes[:, None, :])
        return gained - lost, virials

    def _structures(self) -> NDArray[np.int64]:
        """Return the structure of each pair, shape (n_pairs,)."""
        return np.searchsorted(self.first_atom, self.centres, side="right") - 1


def species_indices(structure: Structure, species: Sequence[str]) -> NDArray[np.int32]:
    """Return for every atom the position of its element in `species`, shape (N,).

    Raises
    ------
    DataError
        If an element is not listed.
    """
    indices = _indices(structure.symbols, tuple(species))
    unknown = sorted({structure.symbols[i] for i in np.flatnonzero(indices < 0)})
    if unknown:
        raise DataError(
            f"{structure.origin}: element {', '.join(unknown)} is not among the species "
            f"{', '.join(species)}; "
            "train with it or leave the structure out"
        )
    return indices


@functools.lru_cache(maxsize=64)  # for structures that move
def _indices(symbols: tuple[str, ...], species: tuple[str, ...]) -> NDArray[np.int32]:
    """Return the position of each symbol in `species`, or -1."""
    table = {symbol: index for index, symbol in enumerate(species)}
    indices = np.array([table.get(symbol, -1) for symbol in symbols], dtype=np.int32)
    indices.flags.writeable = False
    return indices


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

    Examples
    --------
    >>> molecule = Structure(("O", "H"), [[0, 0, 0], [0.97, 0, 0]])
    >>> neighbours = build_neighbours([molecule], 4.0, ["H", "O"])
    >>> neighbours.neighbour, neighbours.vectors[0]
    (array([1, 0], dtype=int32), array([0.97, 0.  , 0.  ]))

    Notes
    -----
    Lists of small structures are made by trying all pairs and images, for the whole batch in one call; those of batches
    with a large structure by linked cells, one structure after the other. Both give the same lists to the last bit.
    """
    structures = list(structures)
    first_atom = np.concatenate([[0], np.cumsum([len(structure) for structure in structures])]).astype(
        np.int64
    )
    kinds = np.concatenate([np.zeros(0, np.int32), *(species_indices(item, species) for item in structures)])
    if max(map(len, structures), default=0) <= _SMALL:
        lists = _all_pairs(structures, first_atom, cutoff, n_threads())
    else:
        lists = _cell_lists(structures, first_atom, cutoff)
    _check_distance(structures, first_atom, lists)
    first_pair, neighbour, vectors, _ = lists
    return Neighbourhood(first_atom, first_pair, neighbour, vectors, kinds)


def without_pairs(kinds: NDArray[np.int32], first_atom: NDArray[np.int64]) -> Neighbourhood:
    """Return lists without neighbours, for what needs atoms but not their surroundings."""
    first_pair = np.zeros(len(kinds) + 1, np.int64)
    return Neighbourhood(first_atom, first_pair, np.zeros(0, np.int32), np.zeros((0, 3)), kinds)


@functools.lru_cache(maxsize=64)
def _reduce_cell(cell: bytes, periodic: tuple[bool, ...]) -> NDArray[np.float64]:
    reduced, _ = minkowski_reduce(np.frombuffer(cell).reshape(3, 3), periodic)
    return np.asarray(reduced, dtype=np.float64)


def reduce_cells(structures: Sequence[Structure]) -> NDArray[np.float64]:
    """Return the cells, shape (n, 3, 3), with strongly skewed ones replaced by short vectors of the same lattice, Å.

    The neighbours are the same, but a flat cell has many images within the cutoff. A cell is skewed if the
    projection of one vector onto another one is longer than half of that.

    Examples
    --------
    >>> skewed = Structure(("H",), [[0, 0, 0]], [[2, 0, 0], [8, 3, 0], [0, 0, 4]], [True] * 3)
    >>> reduce_cells([skewed])[0]
    array([[2., 0., 0.],
           [0., 3., 0.],
           [0., 0., 4.]])
    """
    cells = np.array([structure.cell for structure in structures], dtype=np.float64).reshape(-1, 3, 3)
    periodic = np.array([structure.pbc for structure in structures], dtype=bool).reshape(-1, 3)
    products = np.abs(cells @ cells.swapaxes(1, 2)) * (periodic[:, :, None] & periodic[:, None, :])
    squares = np.diagonal(products, axis1=1, axis2=2)
    skewed = products > 0.501 * np.minimum(squares[:, :, None], squares[:, None, :])
    skewed[:, range(3), range(3)] = False
    for s in np.flatnonzero(skewed.any(axis=(1, 2))):
        cells[s] = _reduce_cell(cells[s].tobytes(), tuple(periodic[s].tolist()))
    return cells


def _all_pairs(
    structures: Sequence[Structure], first_atom: NDArray[np.int64], cutoff: float, threads: int
) -> _Lists:
    n = len(structures)
    return _core.neighbour_list(
        first_atom,
        np.concatenate([np.zeros((0, 3)), *(structure.positions for structure in structures)]),
        reduce_cells(structures).reshape(n, 9),
        np.array([structure.pbc for structure in structures], dtype=bool).reshape(n, 3),
        cutoff,
        threads,
    )


def _cell_lists(structures: Sequence[Structure], first_atom: NDArray[np.int64], cutoff: float) -> _Lists:
    counts, neighbours, vectors = [], [], []
    for structure, cell, first in zip(structures, reduce_cells(structures), first_atom, strict=False):
        finder = _core.MovingNeighbours(np.zeros(len(structure), np.int32), cutoff, 0.0)
        try:
            finder.update(structure.positions, np.ascontiguousarray(cell), structure.pbc)
        except ValueError as error:
            raise DataError(f"{structure.origin}: {error}; wrap the atoms into the cell") from None
        starts, j, vector = finder.arrays()
        counts.append(np.diff(starts))
        neighbours.append(j + np.int32(first))
        vectors.append(vector)
    first_pair = np.concatenate([[0], np.cumsum(np.concatenate(counts))]).astype(np.int64)
    flat = np.concatenate(vectors)
    nearest = int(np.argmin(np.einsum("pk,pk->p", flat, flat))) if len(flat) else -1
    return first_pair, np.concatenate(neighbours), flat, nearest


def _check_distance(structures: Sequence[Structure], first_atom: NDArray[np.int64], lists: _Lists) -> None:
    """Refuse atoms on top of each other."""
    first_pair, neighbour, vectors, nearest = lists
    if nearest < 0:
        return
    i = int(np.searchsorted(first_pair, nearest, side="right")) - 1
    s = int(np.searchsorted(first_atom, i, side="right")) - 1
    check_shortest(
        structures[s],
        i - int(first_atom[s]),
        int(neighbour[nearest] - first_atom[s]),
        float(np.linalg.norm(vectors[nearest])),
    )


def check_shortest(structure: Structure, i: int, j: int, distance: float) -> None:
    """Refuse a structure whose nearest atoms i and j lie on top of each other.

    Raises
    ------
    AtomsTooCloseError
    """
    if distance < CLOSEST:
        raise AtomsTooCloseError(
            f"{structure.origin}: atoms {i} and {j} are {distance:.3g} Å apart",
            "remove the structure or correct its geometry",
        )
