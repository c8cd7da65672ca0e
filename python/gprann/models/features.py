"""Standardised descriptors of whole data sets, in the order in which the networks want them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from gprann import _core
from gprann.arrays import Array
from gprann.data.neighbours import Neighbourhood
from gprann.data.structure import Structure

if TYPE_CHECKING:
    from gprann.descriptors import Descriptor

_BATCH = 100  # structures whose neighbour lists are held at a time
_CONSTANT = 1e-10  # standard deviation below which a component carries nothing
# Smallest scale as a fraction of the largest. Crystals at three volumes have components at 0.003, of which a rattle of
# 0.1 Å would make 70 standard deviations; structures that differ by more than a volume have none below 0.015.
_FLOOR = 1e-2


@dataclass(frozen=True, slots=True)
class Moments:
    """Number, mean and sum of the squared deviations from it, of the descriptors of the atoms of each species.

    Attributes
    ----------
    count : ndarray of int64, shape (S,)
    mean, squares : ndarray, shape (S, D)

    Examples
    --------
    >>> values = np.arange(12.0).reshape(6, 2)
    >>> parts = Moments.of([values[:2]]).join(Moments.of([values[2:]]))
    >>> bool(np.allclose(parts.squares, Moments.of([values]).squares))
    True
    """

    count: NDArray[np.int64]
    mean: Array
    squares: Array

    @classmethod
    def of(cls, values: Sequence[Array]) -> Moments:
        """Take the moments of the descriptors (n_t, D) of the atoms of each species t."""
        count = np.array([len(own) for own in values], dtype=np.int64)
        mean, squares = (np.zeros((len(values), values[0].shape[1])) for _ in range(2))
        for kind, own in enumerate(values):
            if len(own):
                mean[kind] = own.mean(axis=0)
                squares[kind] = ((own - mean[kind]) ** 2).sum(axis=0)
        return cls(count, mean, squares)

    def join(self, other: Moments) -> Moments:
        """Return the moments of both sets of atoms together (Chan, Golub and LeVeque, Am. Stat. 37, 242 (1983))."""
        count = self.count + other.count
        share = (other.count / np.maximum(count, 1))[:, None]
        shift = other.mean - self.mean
        squares = self.squares + other.squares + shift**2 * share * self.count[:, None]
        return Moments(count, self.mean + share * shift, squares)


@dataclass(frozen=True, slots=True)
class Normalisation:
    """g = (G - mean) * inverse_scale, per species and component.

    Attributes
    ----------
    mean : ndarray, shape (S, D)
    inverse_scale : ndarray, shape (S, D)
        1 / standard deviation over the training set; at least a hundredth of the largest standard deviation of the
        species counts. Zero leaves out components that are constant in the training set.

    Examples
    --------
    >>> values = np.array([[1.0, 5.0], [3.0, 5.0]])
    >>> normalisation = Normalisation.from_values(values, np.zeros(2, np.int32), 1)
    >>> normalisation.apply(values, np.zeros(2, np.int32))
    array([[-1.,  0.],
           [ 1.,  0.]])
    """

    mean: Array
    inverse_scale: Array

    @classmethod
    def from_values(cls, values: Array, kinds: NDArray[np.int32], n_species: int) -> Normalisation:
        """Take mean and standard deviation from descriptors (n_atoms, D) and species indices (n_atoms,)."""
        return cls.from_moments(Moments.of([values[kinds == kind] for kind in range(n_species)]))

    @classmethod
    def from_moments(cls, moments: Moments) -> Normalisation:
        """Take mean and standard deviation from the moments of a training set."""
        mean = moments.mean
        inverse = np.zeros_like(mean)
        for kind in np.flatnonzero(moments.count):
            deviation = np.sqrt(moments.squares[kind] / moments.count[kind])
            varies = deviation > _CONSTANT * np.maximum(1.0, np.abs(mean[kind]))
            inverse[kind, varies] = 1.0 / np.maximum(deviation, _FLOOR * deviation.max())[varies]
        return cls(mean, inverse)

    def complete(self, other: Normalisation) -> Normalisation:
        """Return this normalisation, with that of `other` for species of which it knows nothing."""
        unknown = np.logical_not(np.any(self.inverse_scale, axis=1, keepdims=True))
        return Normalisation(
            np.where(unknown, other.mean, self.mean),
            np.where(unknown, other.inverse_scale, self.inverse_scale),
        )

    def apply(self, values: Array, kinds: NDArray[np.int32]) -> Array:
        """Return the standardised descriptors, shape (n_atoms, D)."""
        result: Array = (values - self.mean[kinds]) * self.inverse_scale[kinds]
        return result


@dataclass(frozen=True, slots=True)
class FeatureTable:
    """Standardised descriptors of n structures sorted by species, then by structure.

    Attributes
    ----------
    features : ndarray, shape (n_atoms, D)
    rows : ndarray of int64, shape (S, n + 1)
        Atoms of species t of structure s are the rows rows[t, s] .. rows[t, s + 1] - 1.
    order : ndarray of int64, shape (n_atoms,)
        Atom (numbered through all structures) of every row.

    Examples
    --------
    >>> features = np.array([[1.0], [2.0], [3.0]])  # of three atoms of two species in one structure
    >>> table = FeatureTable.sort(features, np.array([1, 0, 1], np.int32), np.array([0, 3]), 2)
    >>> table.order, table.rows.tolist()
    (array([1, 0, 2]), [[0, 1], [1, 3]])
    """

    features: Array
    rows: NDArray[np.int64]
    order: NDArray[np.int64]

    @property
    def n_structures(self) -> int:
        """Number of structures."""
        return int(self.rows.shape[1]) - 1

    @property
    def core(self) -> _core.AtomFeatures:
        """Return the compiled view."""
        return _core.AtomFeatures(self.features, self.rows)

    def select(self, structures: NDArray[np.int64]) -> FeatureTable:
        """Return the table of some structures, in the given order."""
        counts = np.diff(self.rows, axis=1)[:, structures]
        starts = self.rows[:, structures]
        chosen = np.concatenate(
            [np.zeros(0, np.int64)]
            + [
                np.repeat(start - np.cumsum(count) + count, count) + np.arange(count.sum())
                for start, count in zip(starts, counts, strict=True)
            ]
        )
        return FeatureTable(
            np.ascontiguousarray(self.features[chosen]), self.offsets(counts), self.order[chosen]
        )

    @classmethod
    def sort(
        cls, features: Array, kinds: NDArray[np.int32], first_atom: NDArray[np.int64], n_species: int
    ) -> FeatureTable:
        """Sort standardised descriptors given atom by atom, structure by structure."""
        structure = np.repeat(np.arange(len(first_atom) - 1), np.diff(first_atom))
        order = np.argsort(kinds, kind="stable").astype(np.int64)
        counts = np.zeros((n_species, len(first_atom) - 1), dtype=np.int64)
        np.add.at(counts, (kinds, structure), 1)
        return cls(np.ascontiguousarray(features[order]), cls.offsets(counts), order)

    @staticmethod
    def offsets(counts: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the rows (S, n + 1) of structures with so many atoms of each species, shape (S, n)."""
        totals = np.concatenate([[0], np.cumsum(counts.ravel())]).astype(np.int64)
        n = counts.shape[1]
        return np.stack([totals[t * n : (t + 1) * n + 1] for t in range(counts.shape[0])])


def descriptor_values(
    descriptor: Descriptor, structures: Sequence[Structure], neighbours: Neighbourhood | None = None
) -> tuple[Array, NDArray[np.int32], NDArray[np.int64]]:
    """Return descriptors (n_atoms, D), species indices (n_atoms,) and first atoms (n + 1,) of a data set.

    Neighbour lists that are not given are made, and let go, a batch of structures at a time.
    """
    if neighbours is not None:
        return descriptor.values(neighbours), neighbours.species, neighbours.first_atom
    first = np.concatenate([[0], np.cumsum([len(structure) for structure in structures])]).astype(np.int64)
    values, kinds = np.empty((first[-1], descriptor.size)), np.empty(first[-1], np.int32)
    for begin in range(0, len(structures), _BATCH):
        end = min(begin + _BATCH, len(structures))
        atoms = slice(first[begin], first[end])
        values[atoms], kinds[atoms] = _some_values(descriptor, structures[begin:end])
    return values, kinds, first


def _some_values(descriptor: Descriptor, structures: Sequence[Structure]) -> tuple[Array, NDArray[np.int32]]:
    # A function of its own, so that its neighbour lists are gone before the next are made.
    neighbours = descriptor.neighbours(structures)
    return descriptor.values(neighbours), neighbours.species
