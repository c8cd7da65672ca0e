"""Partition of a database into the homogeneous subsets that local surrogates are fitted to."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
from numpy.typing import NDArray

from gprann.errors import ConfigError
from gprann.structure import Dataset

__all__ = ["partition"]


def partition(data: Dataset, *, max_size: int = 300, seed: int = 0) -> list[NDArray[np.int64]]:
    """Return the indices of the structures of each subset: equal composition, at most `max_size` structures.

    A larger group is dealt out at random into parts of equal size, each of which gets a surrogate of its own.

    Parameters
    ----------
    data : Dataset
    max_size : int
    seed : int

    Examples
    --------
    >>> import gprann
    >>> [len(part) for part in partition(gprann.examples.hydrogen(7), max_size=4)]
    [4, 3]
    """
    if max_size < 1:
        raise ConfigError(f"max_size = {max_size}: expected 1 or more structures")
    groups: defaultdict[object, list[int]] = defaultdict(list)
    for index, structure in enumerate(data):
        groups[structure.composition, tuple(structure.pbc)].append(index)
    parts = []
    for members in groups.values():
        n_parts = -(-len(members) // max_size)
        order = np.array(members, dtype=np.int64)
        if n_parts > 1:
            order = np.random.default_rng(seed).permutation(order)
        parts += [np.sort(order[k::n_parts]) for k in range(n_parts)]
    return parts
