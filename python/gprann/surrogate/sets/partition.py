"""Partition of a data set into subsets with a surrogate each, and assignment of structures to these surrogates."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from numpy.typing import NDArray

from gprann.arrays import Array, Indices
from gprann.data.prediction import Prediction
from gprann.data.structure import Dataset, Structure
from gprann.descriptors import ChebyshevDescriptor
from gprann.errors import ConfigError, DataError
from gprann.options import Options, option
from gprann.runtime.resources import one_blas_thread
from gprann.surrogate.kernels.atoms import AtomsKernel
from gprann.surrogate.observations import mixes_compositions
from gprann.surrogate.sets.atom_matching import Order, orders_like

if TYPE_CHECKING:
    from gprann.surrogate.surrogate import Surrogate

MAX_SIZE = 150
"""Size of the largest subset for kernels that compare whole structures."""
_SMALLEST = 0.2  # of the largest subset: no cluster is cut off with fewer structures
_ITERATIONS = 50  # of 2-means; it settles in about ten


class SubsetOptions(Options):
    """How a data set is divided into the subsets that surrogates are fitted to."""

    max_subset: int | None = option(
        "Most structures of a surrogate; sets are divided by composition, and larger ones by similarity. Default: "
        f"one surrogate for all with the kernel atoms; with kernels that compare whole structures {MAX_SIZE}.",
        None,
        example=150,
        ge=1,
    )


def partition(data: Dataset, *, max_size: int = MAX_SIZE) -> list[Indices]:
    """Return the indices of the structures of each subset.

    Structures of equal composition and periodic directions belong together. A group larger than
    `max_size` is divided by similarity: halved by 2-means on the averaged standardised descriptors until no part
    is too large. No part that is cut off has less than a fifth of `max_size` structures. Nothing is random.

    Parameters
    ----------
    data : Dataset
    max_size : int
        Most structures of a subset.

    Returns
    -------
    list of ndarray of int64
        Ascending indices; groups in the order of their first structures.

    Raises
    ------
    ConfigError

    Examples
    --------
    >>> import gprann
    >>> partition(gprann.examples.hydrogen(7), max_size=4)
    [array([0, 1, 2]), array([3, 4, 5, 6])]
    """
    if max_size < 1:
        raise ConfigError(f"max_size = {max_size}: expected 1 or more structures")
    groups: defaultdict[object, list[int]] = defaultdict(list)
    for index, structure in enumerate(data):
        groups[structure.composition, tuple(structure.pbc)].append(index)
    parts: list[Indices] = []
    for listed in groups.values():
        members = np.array(listed, dtype=np.int64)
        if len(members) <= max_size:
            parts.append(members)
        else:
            parts += [members[part] for part in bisect(averaged_descriptors(data.select(members)), max_size)]
    return parts


def divide_data(data: Dataset, max_subset: int | None, *, any_composition: bool) -> list[Indices]:
    """Return the indices of the structures that each surrogate is fitted to.

    Parameters
    ----------
    data : Dataset
    max_subset : int or None
        Most structures of a subset. None: all together with a kernel that takes any compositions, or `MAX_SIZE`.
    any_composition : bool
        Whether the kernel takes any compositions together.
    """
    if max_subset is None and any_composition:
        return [np.arange(len(data), dtype=np.int64)] if len(data) else []
    return partition(data, max_size=MAX_SIZE if max_subset is None else max_subset)


def averaged_descriptors(data: Dataset) -> Array:
    """Return the standardised Chebyshev descriptors of each structure, averaged over the atoms of each species.

    Parameters
    ----------
    data : Dataset
        Structures of one composition.

    Returns
    -------
    ndarray, shape (n, S * D)
    """
    fingerprint = AtomsKernel(descriptor=ChebyshevDescriptor.for_kernel(data.species)).fingerprint()
    fingerprint.fit(data)
    rows = fingerprint.rows(data)
    counts = np.diff(rows.kind_rows, axis=1)
    sums = np.add.reduceat(rows.features, rows.kind_rows[:, :-1].ravel())
    return (sums / counts.reshape(-1, 1)).reshape(len(data), -1)


@one_blas_thread()
def bisect(points: Array, max_size: int) -> list[Indices]:
    """Divide points into clusters of at most `max_size`, ordered by their first points.

    Parameters
    ----------
    points : ndarray, shape (n, d)
    max_size : int

    Examples
    --------
    >>> bisect(np.array([[0.0], [9.0], [0.1], [9.1], [0.2]]), 3)
    [array([0, 2, 4]), array([1, 3])]
    """
    done, left = [], [np.arange(len(points))]
    while left:
        members = left.pop()
        if len(members) <= max_size:
            done.append(members)
            continue
        smallest = max(1, int(_SMALLEST * max_size))
        upper = _halves(points[members], smallest)
        left += [members[upper], members[~upper]]
    return sorted(done, key=lambda part: int(part[0]))


def _halves(points: Array, smallest: int) -> NDArray[np.bool_]:
    """Return which points belong to the second of two clusters with at least `smallest` points each.

    2-means (Lloyd, IEEE Trans. Inf. Theory 28, 129 (1982)) that starts from a cut across the longest axis.
    """
    centred = points - points.mean(axis=0)
    axis = np.linalg.svd(centred, full_matrices=False)[2][0]
    # The sign of a singular vector is arbitrary.
    along = centred @ (axis * np.sign(axis[np.argmax(np.abs(axis))] or 1.0))
    second = _cut(along, smallest)
    for _ in range(_ITERATIONS):
        first_mean, second_mean = points[~second].mean(axis=0), points[second].mean(axis=0)
        along = (points - 0.5 * (first_mean + second_mean)) @ (second_mean - first_mean)
        moved = _cut(along, smallest)
        if np.array_equal(moved, second):
            break
        second = moved
    return second


def _cut(along: Array, smallest: int) -> NDArray[np.bool_]:
    """Cut at zero, or as near to it as the smallest size allows; equal points in halves, in their order."""
    n = len(along)
    size = int(np.clip(np.count_nonzero(along <= 0), smallest, n - smallest)) if np.any(along) else n // 2
    second = np.ones(n, dtype=bool)
    second[np.argsort(along, kind="stable")[:size]] = False
    return second


T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Assignment:
    """The structures that one surrogate predicts, out of a data set.

    Attributes
    ----------
    surrogate : Surrogate
    indices : ndarray of int64, shape (n,)
        Which of the structures they are.
    data : Dataset
        These structures, their atoms in the order of the surrogate.
    orders : tuple of n ndarrays of int64, or None
        Atom `order[k]` of a structure as it was listed is atom k in `data`; None if all are as they were listed.
    known_std : ndarray, shape (n,), eV, or None
        Standard deviations of the energies, where they are known already.
    """

    surrogate: Surrogate
    indices: Indices
    data: Dataset
    orders: tuple[Order, ...] | None = None
    known_std: Array | None = None

    @classmethod
    def as_listed(cls, surrogate: Surrogate, data: Dataset) -> Assignment:
        """Return all structures, their atoms as they are listed."""
        return cls(surrogate, np.arange(len(data)), data)

    @classmethod
    def in_order(cls, surrogate: Surrogate, data: Dataset) -> tuple[Assignment, dict[int, DataError]]:
        """Return the structures whose atoms can be put in the order of the surrogate, and why others cannot."""
        fingerprint = surrogate.fingerprint
        if not fingerprint.fixed_order or len(data) == 0:
            return cls.as_listed(surrogate, data), {}
        reference = surrogate.training_set
        found = orders_like(reference, data, rotations=fingerprint.invariant == "rotation")
        kept = [(index, order) for index, order in enumerate(found) if order is not None]
        refusals = {
            index: DataError(
                f"{data[index].origin}: the elements stand in another order than in the training set of the surrogate, "
                f"as in {reference[0].origin}, and its atoms cannot be matched with certainty: list them in that "
                "order, or use the kernel 'atoms'"
            )
            for index, order in enumerate(found)
            if order is None
        }
        ordered = Dataset(data[index].reorder(order) for index, order in kept)
        indices = np.array([index for index, _ in kept], dtype=np.int64)
        return cls(surrogate, indices, ordered, tuple(order for _, order in kept)), refusals

    def part(self, positions: Sequence[int] | Indices) -> Assignment:
        """Return some of the structures, by their positions in `data`."""
        chosen = np.asarray(positions, dtype=np.int64)
        return Assignment(
            self.surrogate,
            self.indices[chosen],
            self.data.select(chosen),
            None if self.orders is None else tuple(self.orders[k] for k in chosen.tolist()),
            None if self.known_std is None else self.known_std[chosen],
        )

    def predict(
        self,
        *,
        std: bool = True,
        forces: bool = True,
        forces_std: bool = False,
        progress: Callable[[int], object] | None = None,
    ) -> Prediction:
        """Predict the structures, the atoms as they were listed; see `Surrogate.predict`."""
        known = self.known_std
        found = self.surrogate.predict(
            self.data, std=std and known is None, forces=forces, forces_std=forces_std, progress=progress
        )
        if std and known is not None:
            found = replace(found, energy_std=known)
        return self.reorder_back(found)

    def reorder_back(self, prediction: Prediction) -> Prediction:
        """Return a prediction of `data` with the atoms as they were listed."""
        forces, deviations = prediction.forces, prediction.forces_std
        return replace(
            prediction,
            forces=self._reorder_back(forces),
            forces_std=None if deviations is None else self._reorder_back(deviations),
        )

    def _reorder_back(self, values: list[Array]) -> list[Array]:
        if self.orders is None or not values:
            return values
        return [value[np.argsort(order)] for value, order in zip(values, self.orders, strict=True)]

    def energy_std(self) -> Array:
        """Return the standard deviations of the energies, shape (n,), eV."""
        if self.known_std is not None:
            return self.known_std
        return self.surrogate.predict(self.data, forces=False).required_energy_std


def ask(
    surrogate: Surrogate, data: Dataset, question: Callable[[Assignment], T]
) -> tuple[Assignment, T, dict[int, DataError]]:
    """Predict something for the structures that a surrogate does not refuse.

    Parameters
    ----------
    surrogate : Surrogate
    data : Dataset
        Structures of its composition.
    question : callable
        Predicts something for an assignment.

    Returns
    -------
    Assignment
        The structures that were not refused.
    object
        The answer for them.
    dict of int to DataError
        Why the others were refused, by their indices.
    """
    assignment, refusals = Assignment.in_order(surrogate, data)
    try:
        return assignment, question(assignment), refusals
    except DataError:  # whose fault it is only each of them by itself can tell
        kept = []
        for position in range(len(assignment.data)):
            try:
                surrogate.predict(assignment.data.select([position]), std=False, forces=False)
                kept.append(position)
            except DataError as error:
                refusals[int(assignment.indices[position])] = error
    assignment = assignment.part(kept)
    return assignment, question(assignment), refusals


class Kinds:
    """Finds the surrogates that know a structure: they have its composition and periodic directions.

    Where these directions are new, those of its composition; where this is new, those fitted to several compositions
    that have its elements.

    Parameters
    ----------
    subsets : sequence of Dataset
        The training set of each surrogate.
    """

    def __init__(self, subsets: Sequence[Dataset]) -> None:
        self._known: defaultdict[object, list[int]] = defaultdict(list)
        self._elements: dict[int, frozenset[str]] = {}
        for number, subset in enumerate(subsets):
            kinds = {(item.composition, tuple(item.pbc)): None for item in subset}
            for composition in dict.fromkeys(composition for composition, _ in kinds):
                self._known[composition].append(number)
            for kind in kinds:
                self._known[kind].append(number)
            if mixes_compositions(subset):
                self._elements[number] = frozenset(subset.species)

    def knowing(self, structure: Structure) -> tuple[int, ...]:
        """Return the numbers of the surrogates that know a structure; none if its composition is new."""
        kinds = (structure.composition, tuple(structure.pbc)), structure.composition
        for kind in kinds:
            if kind in self._known:
                return tuple(self._known[kind])
        own = set(structure.symbols)
        return tuple(number for number, elements in self._elements.items() if own <= elements)
