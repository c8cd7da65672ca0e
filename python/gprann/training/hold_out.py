"""Structures to hold out to judge when to stop: a share of every group and composition, copies together."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np

from gprann.arrays import Array, Indices
from gprann.data.structure import Dataset, Structure
from gprann.models.features import Moments

_CORRELATED = 0.5  # von Neumann's ratio over 2 below which subsequent structures are steps of a trajectory
_RUNS = 20  # pieces of a trajectory that are held out as a whole


def families(data: Dataset) -> Indices:
    """Number the reference structures; copies carry the number of the structure they were made from.

    Structures made in memory may claim the same origin: each gets a number, which the copies after it share.

    Returns
    -------
    ndarray of int64, shape (n,)
    """
    numbers = Families()
    return np.array([numbers.of(structure) for structure in data], dtype=np.int64)


class Families:
    """The numbers of the families of structures that come one after the other; see `families`."""

    def __init__(self) -> None:
        self._numbers: dict[tuple[str, int], int] = {}
        self._references: set[tuple[str, int]] = set()
        self._fresh = itertools.count()

    def of(self, structure: Structure) -> int:
        """Return the number of the family of the next structure."""
        key = (structure.origin.file, structure.origin.index)
        is_reference = structure.origin.method == "reference"
        if key not in self._numbers or (is_reference and key in self._references):
            self._numbers[key] = next(self._fresh)
        if is_reference:
            self._references.add(key)
        return self._numbers[key]


def strata(data: Dataset) -> Indices:
    """Number the groups and compositions: structures with the same number are of the same kind, shape (n,)."""
    numbers = Strata()
    return np.array([numbers.of(structure) for structure in data], dtype=np.int64)


class Strata:
    """The numbers of the strata of structures that come one after the other; see `strata`."""

    def __init__(self) -> None:
        self._numbers: dict[tuple[object, ...], int] = {}

    def of(self, structure: Structure) -> int:
        """Return the number of the stratum of the next structure."""
        kind = (structure.composition, tuple(structure.pbc.tolist()), structure.group)
        return self._numbers.setdefault(kind, len(self._numbers))


def join_trajectories(families: Indices, strata: Indices, features: Array) -> Indices:
    """Join neighbouring steps of molecular dynamics into one family, so that they are held out together.

    A held-out structure between two of the training set that hardly differ from it would show no error. Structures of
    a stratum are taken for a trajectory if subsequent ones are much more alike than any two (von Neumann, Ann. Math.
    Stat. 12, 367 (1941)); twenty pieces are made of it. Smaller strata than twice that stay as they are.

    Parameters
    ----------
    families, strata : ndarray of int64, shape (n,)
    features : ndarray, shape (n, D)
        Averages of the standardised descriptors of each structure.

    Returns
    -------
    ndarray of int64, shape (n,)
        New families.

    Examples
    --------
    >>> path, alike = np.linspace(0, 1, 60)[:, None], np.zeros(60, np.int64)
    >>> len(np.unique(join_trajectories(np.arange(60), alike, path)))
    20
    >>> shuffled = np.random.default_rng(0).permutation(60)
    >>> len(np.unique(join_trajectories(np.arange(60), alike, path[shuffled])))
    60
    """
    _, first = np.unique(families, return_index=True)
    first = np.sort(first)
    trajectories = Trajectories()
    for stratum in np.unique(strata[first]).tolist():
        trajectories.add(stratum, features[first[strata[first] == stratum]])
    return trajectories.join(families, strata)


class Trajectories:
    """The strata that are trajectories, told from the averaged descriptors of families, given piece by piece."""

    def __init__(self) -> None:
        self._seen: dict[int, tuple[Moments, float, Array]] = {}  # of all, sum of the squared steps, the last

    def add(self, stratum: int, x: Array) -> None:
        """Add the descriptors (m, D) of the next families of a stratum."""
        if len(x) == 0:
            return
        moments, steps = Moments.of([x]), float(np.sum(np.diff(x, axis=0) ** 2))
        if stratum in self._seen:
            before, steps_before, last = self._seen[stratum]
            moments = before.join(moments)
            steps += steps_before + float(np.sum((x[0] - last) ** 2))
        self._seen[stratum] = (moments, steps, x[-1].copy())

    def join(self, families: Indices, strata: Indices) -> Indices:
        """Return the families, shape (n,), those of every trajectory joined into pieces."""
        result = families.copy()
        _, first = np.unique(families, return_index=True)
        first = np.sort(first)
        for stratum, (moments, steps, _) in self._seen.items():
            count = int(moments.count[0])
            if count < 2 * _RUNS:
                continue
            spread = 2 * float(np.sum(moments.squares)) / count
            if steps / (count - 1) >= _CORRELATED * spread:
                continue
            for piece in np.array_split(first[strata[first] == stratum], _RUNS):
                result[np.isin(families, families[piece])] = families[piece[0]]
        return result


def split(
    families: Indices, strata: Indices, counts: Indices, fraction: float, rng: np.random.Generator
) -> tuple[Indices, Indices]:
    """Return the structures that are fitted, and those that are held out.

    A family is never divided. Every stratum gives its share. One structure held out alone would tell nothing, so there
    are at least two or none. The last family of a composition is fitted: no other structure would tell its energy. Only
    where hardly any composition occurs twice, structures of single compositions are held out too, but never single
    atoms.

    Parameters
    ----------
    families, strata : ndarray of int64, shape (n,)
    counts : ndarray, shape (n, S)
        Atoms of each species.
    fraction : float
        Part of the families to hold out.
    rng : numpy.random.Generator

    Returns
    -------
    fitted, held_out : ndarray of int64
    """
    names, first = np.unique(families, return_index=True)
    wanted = round(fraction * len(names))
    everything = np.arange(len(families))
    order = rng.permutation(len(names))
    if wanted < 2:
        return everything, everything[:0]
    _, composition = np.unique(counts[first], axis=0, return_inverse=True)
    composition = composition.ravel()
    left = np.bincount(composition)
    spare: dict[int, list[int]] = {}  # families of each stratum that others of their composition stand by
    others: list[int] = []
    for family in order.tolist():
        if left[composition[family]] > 1:
            left[composition[family]] -= 1
            spare.setdefault(int(strata[first[family]]), []).append(family)
        elif counts[first[family]].sum() > 1:
            others.append(family)
    enough = min(wanted, len(names) - 1)
    lists = list(spare.values())
    shares = _shares([len(own) for own in lists], enough)
    held = [family for own, share in zip(lists, shares, strict=True) for family in own[:share]]
    if 2 * len(held) < wanted:
        held += others[: max(0, enough - len(held))]
    mask = np.isin(families, names[held])
    return everything[~mask], everything[mask]


def _shares(sizes: Sequence[int], wanted: int) -> list[int]:
    """Divide a number in proportion to sizes, by the largest remainders, no share above its size."""
    total = sum(sizes)
    if total <= wanted:
        return list(sizes)
    exact = np.array(sizes) * wanted / total
    shares = np.floor(exact).astype(int)
    # The first of equal remainders: the order is random already.
    for index in np.argsort(shares - exact, kind="stable")[: wanted - int(shares.sum())]:
        shares[index] += 1
    return [int(share) for share in shares]


def folds(families: Indices, strata: Indices, count: int, rng: np.random.Generator) -> Indices:
    """Divide structures for cross-validation, every stratum evenly, families together; return their folds, shape (n,).

    Examples
    --------
    >>> sorted(folds(np.arange(8), np.repeat([0, 1], 4), 4, np.random.default_rng(0))[:4].tolist())
    [0, 1, 2, 3]
    """
    names, first, own = np.unique(families, return_index=True, return_inverse=True)
    order = rng.permutation(len(names))
    order = order[np.argsort(strata[first[order]], kind="stable")]
    numbers = np.empty(len(names), np.int64)
    numbers[order] = np.arange(len(names)) % count
    result: Indices = numbers[own.ravel()]
    return result
