"""One structure that moves, step by step: its neighbour lists are kept, and what stays the same is checked once."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import ase
import numpy as np
from numpy.typing import NDArray

from gprann import _core
from gprann.arrays import Array
from gprann.data.attachments import attachments_of, is_derived
from gprann.data.neighbours import CLOSEST, check_shortest, reduce_cells, species_indices
from gprann.data.structure import Structure
from gprann.errors import DataError

SKIN = 0.5
"""Å; see `MovingStructure`. The time of a step of molecular dynamics hardly depends on it between 0.3 and 1 Å."""

_GEOMETRY = {"numbers", "positions", "momenta", "tags", "masses"}  # arrays of atoms that no baseline needs


class MovingStructure:
    """The latest positions of a structure, with neighbour lists that follow them.

    Pairs within the cutoff and a skin are kept until an atom has moved by half the skin (less what a change of the cell
    takes of it), or the elements or the periodic directions change. Lists and vectors are to the last bit the same
    whatever the skin, and whatever the structure has been through: a simulation that is resumed gives the same numbers.

    Parameters
    ----------
    cutoff : float, Å
    species : sequence of str
        Elements in the order in which the caller counts them.
    skin : float, Å
    attached : bool
        Whether what is attached to atoms, as their charges, matters: then it is read at each step.

    Attributes
    ----------
    structure : Structure
        As it was given last, without labels.
    core : compiled neighbour lists of it
    first_atom : ndarray of int64, shape (2,)
    searches : int
        How often the pairs were looked for.

    Examples
    --------
    >>> moving = MovingStructure(4.0, ["H"])
    >>> atoms = ase.Atoms("H2", [[0, 0, 0], [0.8, 0, 0]])
    >>> for _ in range(5):
    ...     atoms.positions[1, 0] += 0.02
    ...     moving.follow(atoms)
    >>> len(moving.structure), round(moving.core.nearest()[2], 2), moving.searches
    (2, 0.9, 1)
    """

    def __init__(
        self, cutoff: float, species: Sequence[str], skin: float = SKIN, *, attached: bool = False
    ) -> None:
        self._cutoff, self._species, self._skin, self._attached = cutoff, tuple(species), skin, attached
        self._numbers = np.zeros(0, dtype=int)
        self._cell = np.zeros((3, 3))
        self.searches = 0
        self.structure: Structure
        self.core: _core.MovingNeighbours
        self.first_atom: NDArray[np.int64]

    def __reduce__(self) -> tuple[Any, ...]:  # a copy begins with lists of its own
        return partial(type(self), attached=self._attached), (self._cutoff, self._species, self._skin)

    def follow(self, atoms: ase.Atoms) -> None:
        """Take positions, cell, elements and periodic directions of atoms, any number of them.

        Raises
        ------
        DataError
            If they cannot be described: an unknown element, atoms on top of each other, positions that are not finite.
        """
        if not (
            len(self._numbers)
            and np.array_equal(atoms.numbers, self._numbers)
            and np.array_equal(atoms.pbc, self.structure.pbc)
        ):
            self._begin(atoms)
        elif not np.array_equal(atoms.cell.array, self.structure.cell):
            self._take_cell(bare_structure(atoms))
        positions = np.array(atoms.positions, dtype=np.float64, order="C")
        positions.flags.writeable = False
        try:
            self.searches += self.core.update(positions, self._cell, self.structure.pbc)
        except ValueError as error:
            self._numbers = self._numbers[:0]
            bare_structure(atoms)  # says which position is not finite
            raise DataError(f"{self.structure.origin}: {error}; wrap the atoms into the cell") from None
        if self._attached and (_has_attachments(atoms) or self.structure.info or self.structure.arrays):
            self.structure = bare_structure(atoms)
        else:
            self.structure = _at(self.structure, positions)
        if self.core.lower_bound() < CLOSEST:  # else the pairs are made when they are needed
            check_shortest(self.structure, *self.core.nearest())

    def _begin(self, atoms: ase.Atoms) -> None:
        self._numbers = self._numbers[:0]  # should one of these fail
        structure = bare_structure(atoms)
        self.core = _core.MovingNeighbours(
            species_indices(structure, self._species), self._cutoff, self._skin
        )
        self.first_atom = np.array([0, len(structure)])
        self._take_cell(structure)
        self._numbers = np.array(atoms.numbers)

    def _take_cell(self, checked: Structure) -> None:
        self.structure = checked
        self._cell = np.ascontiguousarray(reduce_cells([checked])[0])


def _at(structure: Structure, positions: Array) -> Structure:
    """Return a copy of a bare structure at other positions, finite and read-only: nothing is checked or copied."""
    copy: Structure = object.__new__(Structure)
    for name in structure.__dataclass_fields__:
        object.__setattr__(copy, name, positions if name == "positions" else getattr(structure, name))
    return copy


def bare_structure(atoms: ase.Atoms) -> Structure:
    """Return positions, cell, and what is attached to them, as charges and spins, checked; labels have no place here.

    A baseline may need the charges of atoms, or the total charge.
    """
    info: dict[str, Any] = {}
    arrays: dict[str, Any] = {}
    if _has_attachments(atoms):
        info, arrays, _ = attachments_of(atoms)
    return Structure(
        tuple(atoms.get_chemical_symbols()),
        atoms.positions,
        np.asarray(atoms.cell[:]),
        np.asarray(atoms.pbc),
        info={name: value for name, value in info.items() if not is_derived(name)},
        arrays={name: array for name, array in arrays.items() if not is_derived(name)},
    )


def _has_attachments(atoms: ase.Atoms) -> bool:
    return bool(len(atoms.info)) or not _GEOMETRY.issuperset(atoms.arrays)
