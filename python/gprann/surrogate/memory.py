"""Memory that covariance matrices, features and neighbour lists take, and subsets that fit into it."""

from __future__ import annotations

import numpy as np

from gprann.data.structure import Dataset
from gprann.runtime.resources import GIB
from gprann.surrogate.kernels.base import Fingerprint

FEATURES = 400.0
"""Features of an atom by the compressed descriptor of the kernel `atoms` with several elements."""
_NEIGHBOURS = 4736.0  # bytes of an atom's neighbour lists, about 60 of 28 bytes, and of what comes of them
_FEATURE_ARRAYS = 12  # that are held at once
_TILES = 4.0 * 2**20  # bytes; parts of a matrix that are copied

# Observations of the subsets on which hyperparameters are found.
SMALL_ROWS = 1700  # of the likelihood (about 20 evaluations)
LEAVE_OUT_ROWS = 3400  # at most, where structures are held out in turn
HALF_ROWS = 7000  # of the half from which the other half is predicted
HOLD_OUT_ROWS = 11000  # of the four fifths from which the last fifth is predicted
IN_TURN_ROWS = 5500
"""Observations of the last structures of a set, which are held out one by one."""
MATRICES = 4
"""Square matrices, of the size of a subset, that its likelihood or its leave-one-out errors need at once."""


def features_per_atom(data: Dataset, fingerprint: Fingerprint) -> float:
    """Return the number of features of a structure, divided by its number of atoms."""
    return fingerprint.rows(data[:1]).features.size / len(data[0])


def structures_for(data: Dataset, rows: int) -> int:
    """Return how many structures give about `rows` observations, at least four where there are so many."""
    return min(len(data), max(4, rows // max(structure.n_labels for structure in data)))


def structures_within(data: Dataset, memory: float, matrices: int, *, features: float = FEATURES) -> int:
    """Return how many structures of a data set fit into a memory with their covariance matrices, at least two.

    Parameters
    ----------
    data : Dataset
    memory : float, GiB
    matrices : int
        Number of square matrices that are held at once, beside the Jacobians, twice.
    features : float
        Features of an atom, see `features_per_atom`.

    Examples
    --------
    >>> import gprann
    >>> data = gprann.examples.hydrogen(7)
    >>> structures_within(data, 1e-4, 1), structures_within(data, 1.0, 1)
    (2, 7)
    """
    atoms = int(data.n_atoms.max())
    square = 8.0 * matrices * max(structure.n_labels for structure in data) ** 2
    half = jacobian_bytes(atoms, features) + 0.5 * per_atom_bytes(features) * atoms
    rest = max(memory * GIB - _TILES, 0.0)
    count = (np.sqrt(half**2 + square * rest) - half) / square  # square count² + 2 half count = rest
    return min(len(data), max(2, int(count)))


def memory_within(data: Dataset, count: int, matrices: int, *, features: float = FEATURES) -> float:
    """Return the memory in GiB that `count` structures take with so many covariance matrices.

    The reverse of `structures_within`.
    """
    atoms = int(data.n_atoms.max())
    rows = count * max(structure.n_labels for structure in data)
    each = 2.0 * jacobian_bytes(atoms, features) + per_atom_bytes(features) * atoms
    return (8.0 * matrices * rows**2 + each * count + _TILES) / GIB


def random_subset(data: Dataset, seed: int, memory: float) -> Dataset:
    """Return random structures to compare kernels, or components of a fingerprint, within a memory in GiB."""
    order = np.random.default_rng([seed, 2]).permutation(len(data))
    count = min(structures_for(data, SMALL_ROWS), structures_within(data, memory, MATRICES))
    return data.select(order[:count])


def fit_memory(data: Dataset, kept: float) -> float:
    """Return the memory in GiB that a fit takes at most, with its calibration, if its solution keeps so much."""
    return max(_search_memory(data), kept + _corner_memory(data))


def _search_memory(data: Dataset) -> float:
    """Return the memory in GiB that the search for the hyperparameters of a training set takes at most."""
    # K, its derivative, its inverse and products of them; K, its factor and the factor's inverse; K, and its last
    # corner inverted.
    parts = ((SMALL_ROWS, 6), (LEAVE_OUT_ROWS, 4), (HOLD_OUT_ROWS, 1))
    search, turns, hold = (memory_within(data, structures_for(data, rows), n) for rows, n in parts)
    return max(search, turns, hold + _corner_memory(data))


def _corner_memory(data: Dataset) -> float:
    """Return the memory in GiB of the corner that is inverted to leave the last structures out one by one."""
    rows = structures_for(data, IN_TURN_ROWS) * max(structure.n_labels for structure in data)
    return 8.0 * float(rows) ** 2 / GIB


def jacobian_bytes(atoms: int, features: float) -> float:
    """Return the bytes of the Jacobian of a structure."""
    return 8.0 * features * 3 * atoms**2


def per_atom_bytes(features: float) -> float:
    """Return the bytes of features and neighbours of an atom."""
    return _NEIGHBOURS + 8.0 * _FEATURE_ARRAYS * features
