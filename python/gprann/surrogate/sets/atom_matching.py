"""Matching of atoms: one order for a subset, for kernels that compare atom k of one structure with atom k of another.

Atoms are matched with those of a structure whose order is taken as right: structures are superimposed (Kabsch,
Acta Cryst. A 32, 922 (1976)) and the atoms of each species assigned by their squared distances (Hungarian method).
An assignment is certain if every atom lies nearer to its partner than half the smallest distance between
equal atoms there: no other atom can then be nearer.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator
from itertools import product

import numpy as np
from ase.geometry import find_mic
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from gprann.arrays import Array
from gprann.data.structure import Dataset, Structure
from gprann.errors import DataError

Order = NDArray[np.int64]
_log = logging.getLogger(__name__)
_ITERATIONS = 20  # of superposition and assignment in turn; they settle in a few
_FAR_BETTER = 0.5  # ratio of the distances from a reference at which a structure gives its own order up
_REFERENCES = 5  # structures in the right order that a stray one is compared with, the nearest first


def in_one_order(data: Dataset, *, rotations: bool) -> Dataset:
    """Return the structures with their atoms, and forces, in the order that most of them have.

    A structure that lists its elements in that order is changed only if another order of equal atoms is certain
    and its own is not: atoms that have swapped places are swapped back.

    Parameters
    ----------
    data : Dataset
        Structures of one composition.
    rotations : bool
        Whether structures that are not periodic may be turned to be compared.

    Raises
    ------
    DataError
        Naming the structures whose elements stand in another order and whose atoms cannot be matched with
        certainty.

    Examples
    --------
    >>> water = Structure(("O", "H", "H"), [[0, 0, 0], [0.96, 0, 0], [-0.24, 0.93, 0]])
    >>> other = Structure(("H", "O", "H"), [[0.97, 0, 0], [0, 0, 0], [-0.24, 0.94, 0]])
    >>> in_one_order(Dataset([water, other]), rotations=True)[1].symbols
    ('O', 'H', 'H')
    """
    if len(data) < 2:
        return data
    common = Counter(structure.symbols for structure in data).most_common(1)[0][0]
    right = [next(structure for structure in data if structure.symbols == common)]
    result: list[Structure] = []
    changed, refused = [], []
    for index, structure in enumerate(data):
        order = _order([right[0], *right[:-_REFERENCES:-1]], structure, rotations)
        if order is None:
            refused.append(index)
            continue
        if np.any(np.diff(order) < 0):
            changed.append(index)
        result.append(structure.reorder(order))
        right.append(result[-1])
    if refused:
        raise DataError(
            f"{data[refused[0]].origin}: the elements stand in another order than in {right[0].origin}, and its atoms "
            f"cannot be matched with certainty; so in structures {_shorten(refused)} of {len(data)} of "
            f"{data[0].formula}: list their atoms in one order, or use the kernel 'atoms'"
        )
    if changed:
        _log.warning(
            "%d of %d structures of %s listed their atoms in another order; matched: structures %s",
            len(changed),
            len(data),
            data[0].formula,
            _shorten(changed),
        )
    return Dataset(result)


def orders_like(reference: Dataset, data: Dataset, *, rotations: bool) -> list[Order | None]:
    """Return the order in which the atoms of each structure are those of structures that are in one order.

    Each is compared with the few that are most like it, judged by distances, which no order changes. So a structure
    that is itself among them gets the order that it has there.

    Parameters
    ----------
    reference : Dataset
        Structures in one order, see `in_one_order`.
    data : Dataset
        Structures of their composition.
    rotations : bool
        Whether structures that are not periodic may be turned to be compared.

    Returns
    -------
    list of ndarray of int64, shape (N,), or None
        Atom `order[k]` of a structure is atom k of the reference: its own order if none is certain, or None if that
        lists other elements.

    Examples
    --------
    >>> co = Structure(("C", "O"), [[0, 0, 0], [0, 0, 1.13]])
    >>> oc = Structure(("O", "C"), [[0, 1.14, 0], [0, 0, 0]])
    >>> orders_like(Dataset([co]), Dataset([co, oc]), rotations=True)
    [array([0, 1]), array([1, 0])]
    """
    profiles = np.array([_profile(structure) for structure in reference])
    found: list[Order | None] = []
    for structure in data:
        unlike = np.linalg.norm(profiles - _profile(structure), axis=1)
        nearest = [reference[k] for k in np.argsort(unlike, kind="stable")[:_REFERENCES].tolist()]
        certain = (_certain_order(right, structure, rotations) for right in nearest)
        own = np.arange(len(structure)) if structure.symbols == reference[0].symbols else None
        found.append(next((order for order in certain if order is not None), own))
    return found


def _certain_order(reference: Structure, structure: Structure, rotations: bool) -> Order | None:
    """Return the order of the atoms of a structure that is that of another one, or None if none is certain."""
    own = np.arange(len(structure))
    if structure.symbols == reference.symbols and _is_certain(reference, structure, own, rotations):
        return _better(reference, structure, own, rotations)
    return match(reference, structure, rotations=rotations)


def _profile(structure: Structure) -> Array:
    """Return the distances between the atoms of each pair of species in ascending order, Å."""
    symbols = np.array(structure.symbols)
    first, second = np.triu_indices(len(symbols), 1)
    if len(first) == 0:
        return np.zeros(0)
    lengths = _lengths(structure.positions[second] - structure.positions[first], structure)
    kinds = np.sort(np.stack([symbols[first], symbols[second]]), axis=0)
    return np.asarray(lengths[np.lexsort((lengths, kinds[1], kinds[0]))])


def _shorten(indices: list[int]) -> str:
    text = ", ".join(map(str, indices[:20]))
    return text if len(indices) <= 20 else f"{text}, ... ({len(indices)} in all)"


def _order(references: list[Structure], structure: Structure, rotations: bool) -> Order | None:
    """Return the order of the atoms of a structure that is that of the others, or None if there is no certain one."""
    own = np.arange(len(structure))
    listed_alike = structure.symbols == references[0].symbols
    for reference in references:
        if listed_alike and _is_certain(reference, structure, own, rotations):
            return _better(reference, structure, own, rotations)
    for reference in references:
        order = match(reference, structure, rotations=rotations)
        if order is not None:
            return order
    return own if listed_alike else None


def _better(reference: Structure, structure: Structure, own: Order, rotations: bool) -> Order:
    """Return another order of a structure that could keep its own, if it fits far better in another orientation."""
    if structure.pbc.any() or not rotations:
        return own
    order = match(reference, structure)
    if order is None:
        return own
    fits = [np.linalg.norm(_distances(reference, structure, item, rotations)) for item in (order, own)]
    return order if fits[0] < _FAR_BETTER * fits[1] else own


def match(reference: Structure, structure: Structure, *, rotations: bool = True) -> Order | None:
    """Return the atoms of a structure in the order of another one.

    Parameters
    ----------
    reference, structure : Structure
        Of the same composition.
    rotations : bool
        Whether structures that are not periodic may be turned.

    Returns
    -------
    ndarray of int64, shape (N,), or None
        Atom `order[k]` of `structure` is atom k of `reference`; None if the match is not certain.

    Examples
    --------
    >>> co = Structure(("C", "O"), [[0, 0, 0], [0, 0, 1.13]])
    >>> match(co, Structure(("O", "C"), [[0, 1.14, 0], [0, 0, 0]]))
    array([1, 0])
    """
    best, smallest = None, np.inf
    for start in _starts(reference, structure, rotations):
        order = _assign(reference, structure, start)
        for _ in range(_ITERATIONS):
            moved = _assign(reference, structure, _superimpose(reference, structure, order, rotations))
            if np.array_equal(moved, order):
                break
            order = moved
        distance = float(np.linalg.norm(_distances(reference, structure, order, rotations)))
        if distance < smallest:
            best, smallest = order, distance
    return best if best is not None and _is_certain(reference, structure, best, rotations) else None


def _is_certain(reference: Structure, structure: Structure, order: Order, rotations: bool) -> bool:
    """Return whether no atom can be confused with another one of its species."""
    largest = _distances(reference, structure, order, rotations).max()
    return bool(largest < 0.5 * _smallest_distance(reference))


def _smallest_distance(structure: Structure) -> float:
    """Return the smallest distance between atoms of one species, Å; infinity if there are none."""
    smallest = np.inf
    symbols = np.array(structure.symbols)
    for symbol in set(structure.symbols):
        positions = structure.positions[symbols == symbol]
        first, second = np.triu_indices(len(positions), 1)
        if len(first):
            smallest = min(smallest, float(_lengths(positions[first] - positions[second], structure).min()))
    return smallest


def _lengths(vectors: Array, structure: Structure) -> Array:
    """Return the lengths of vectors, to the nearest periodic images."""
    if structure.pbc.any():
        return np.asarray(find_mic(vectors, structure.cell, structure.pbc)[1])
    return np.asarray(np.linalg.norm(vectors, axis=1))


def _starts(reference: Structure, structure: Structure, rotations: bool) -> Iterator[Array]:
    """Yield positions of the structure laid over the reference: as it is, and turned along its principal axes."""
    if structure.pbc.any():
        yield structure.positions
        return
    centred = structure.positions - structure.positions.mean(axis=0)
    middle = reference.positions.mean(axis=0)
    yield centred + middle
    if not rotations:
        return
    own = np.linalg.svd(centred, full_matrices=True)[2]
    axes = np.linalg.svd(reference.positions - middle, full_matrices=True)[2]
    for signs in product((1.0, -1.0), repeat=3):
        rotation = own.T @ (np.array(signs)[:, None] * axes)
        if np.linalg.det(rotation) > 0:
            yield centred @ rotation + middle


def _superimpose(reference: Structure, structure: Structure, order: Order, rotations: bool) -> Array:
    """Return the positions of a structure, in its own order, shifted and turned so that partners lie close."""
    target, ordered = reference.positions, structure.positions[order]
    if structure.pbc.any():
        nearest = find_mic(target - ordered, structure.cell, structure.pbc)[0]
        return np.asarray(structure.positions + nearest.mean(axis=0))
    middle, own_middle = target.mean(axis=0), ordered.mean(axis=0)
    centred = structure.positions - own_middle
    if not rotations or len(structure) == 1:
        return np.asarray(centred + middle)
    left, _, right = np.linalg.svd((ordered - own_middle).T @ (target - middle))
    proper = np.diag([1.0, 1.0, np.sign(np.linalg.det(left @ right)) or 1.0])
    return np.asarray(centred @ (left @ proper @ right) + middle)


def _distances(reference: Structure, structure: Structure, order: Order, rotations: bool) -> Array:
    """Return the distances of partners after superposition, shape (N,), Å."""
    laid = _superimpose(reference, structure, order, rotations)[order]
    return _lengths(laid - reference.positions, structure)


def _assign(reference: Structure, structure: Structure, positions: Array) -> Order:
    """Return the order of least summed squared distance between partners of one species."""
    order = np.empty(len(structure), dtype=np.int64)
    symbols, target_symbols = np.array(structure.symbols), np.array(reference.symbols)
    for symbol in sorted(set(reference.symbols)):
        own, target = np.flatnonzero(symbols == symbol), np.flatnonzero(target_symbols == symbol)
        vectors = positions[own][None] - reference.positions[target][:, None]
        squares = _lengths(vectors.reshape(-1, 3), structure).reshape(len(target), len(own)) ** 2
        rows, columns = linear_sum_assignment(squares)
        order[target[rows]] = own[columns]
    return order
