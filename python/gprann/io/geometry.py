"""Atoms that sit on top of each other, periodic images included."""

from __future__ import annotations

import numpy as np
from ase.geometry import complete_cell, minkowski_reduce
from numpy.typing import NDArray

from gprann.data.structure import Structure
from gprann.errors import DataError

__all__ = ["COINCIDENT", "FARTHEST", "check_geometry", "close_pair"]

COINCIDENT = 0.2
"""Å; nuclei closer than this are a mistake: the shortest bond, H-H, has 0.74 Å."""

FARTHEST = 1e6
"""Å; a larger coordinate or cell vector is a mistake of units or format."""

# Sorting along a direction that no crystal plane is perpendicular to keeps the number of candidates small.
_DIRECTION = np.array([0.6186, 0.5317, 0.5786]) / np.linalg.norm([0.6186, 0.5317, 0.5786])

Array = NDArray[np.float64]


def check_geometry(structure: Structure) -> None:
    """Raise an error if two atoms coincide or a length is absurd.

    Raises
    ------
    DataError
        Naming the structure, the atoms and their distance.

    Examples
    --------
    >>> check_geometry(Structure(("H", "H"), np.array([[0.0, 0, 0], [0, 0, 0.01]])))
    Traceback (most recent call last):
    ...
    gprann.errors.DataError: structure 0: atoms 0 and 1 (H, H) are 0.010 Å apart; remove one of them or \
correct the positions and the cell
    """
    far = np.argwhere(np.abs(structure.positions) > FARTHEST)
    if len(far):
        value = structure.positions[tuple(far[0])]
        raise DataError(
            f"{structure.origin}: atom {far[0][0]} has the coordinate {value:g} Å; check the units"
        )
    if np.abs(structure.cell).max() > FARTHEST:
        raise DataError(f"{structure.origin}: a cell vector is longer than {FARTHEST:g} Å; check the units")
    pair = close_pair(structure, COINCIDENT)
    if pair is None:
        return
    i, j, distance = pair
    atoms = (
        f"atom {i} ({structure.symbols[i]}) and its own periodic image"
        if i == j
        else f"atoms {i} and {j} ({structure.symbols[i]}, {structure.symbols[j]})"
    )
    raise DataError(
        f"{structure.origin}: {atoms} are {distance:.3f} Å apart; "
        "remove one of them or correct the positions and the cell"
    )


def close_pair(structure: Structure, distance: float) -> tuple[int, int, float] | None:
    """Return two atoms closer than `distance` (Å), and how close they are, or None.

    Periodic images count; an atom may come too close to its own image. Cost O(N) for matter of ordinary
    density.

    Examples
    --------
    >>> close_pair(Structure(("H", "H"), np.array([[0.0, 0, 0], [0, 0, 0.74]])), 0.2) is None
    True
    """
    if not structure.pbc.any():
        return _sweep(structure.positions, np.arange(len(structure)), distance)
    cell = complete_cell(structure.cell * structure.pbc[:, None])
    heights = 1.0 / np.linalg.norm(np.linalg.inv(cell), axis=0)
    if heights[structure.pbc].min() < 1.0:
        # A thin or strongly skewed cell needs many images, its reduced form only the nearest ones.
        cell, _ = minkowski_reduce(cell, structure.pbc)
        shortest = float(np.linalg.norm(cell[structure.pbc], axis=1).min())
        if shortest < distance:
            return 0, 0, shortest
    return _sweep(*_with_images(structure.positions, cell, structure.pbc, distance), distance)


def _with_images(
    positions: Array, cell: Array, pbc: NDArray[np.bool_], margin: float
) -> tuple[Array, NDArray[np.intp]]:
    """Wrap the atoms into the cell and add the images within `margin` of its upper faces."""
    inverse = np.linalg.inv(cell)
    fractions = positions @ inverse
    fractions -= np.where(pbc, np.floor(fractions), 0.0)
    atoms = np.arange(len(positions))
    margins = margin * np.linalg.norm(inverse, axis=0)
    for axis in np.flatnonzero(pbc):
        shifted, parents = [fractions], [atoms]
        for copy in range(1, int(np.ceil(margins[axis])) + 1):
            near = fractions[:, axis] + copy - 1.0 < margins[axis]
            shifted.append(fractions[near] + copy * np.eye(3)[axis])
            parents.append(atoms[near])
        fractions, atoms = np.concatenate(shifted), np.concatenate(parents)
    return fractions @ cell, atoms


def _sweep(positions: Array, atoms: NDArray[np.intp], distance: float) -> tuple[int, int, float] | None:
    """Compare each atom with the next ones along one direction until all of these are too far away."""
    along = positions @ _DIRECTION
    order = np.argsort(along)
    along, positions, atoms = along[order], positions[order], atoms[order]
    for step in range(1, len(atoms)):
        candidates = np.flatnonzero(along[step:] - along[:-step] < distance)
        if not len(candidates):
            return None
        distances = np.linalg.norm(positions[candidates + step] - positions[candidates], axis=1)
        best = int(np.argmin(distances))
        if distances[best] < distance:
            i, j = sorted((int(atoms[candidates[best]]), int(atoms[candidates[best] + step])))
            return i, j, float(distances[best])
    return None
