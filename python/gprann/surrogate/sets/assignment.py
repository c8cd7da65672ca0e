"""Assignment of structures to the surrogates of a set that predict them, with the order of their atoms."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from numpy.typing import NDArray

from gprann.data.prediction import Prediction
from gprann.data.structure import Dataset, Structure
from gprann.errors import DataError
from gprann.surrogate.sets.atom_matching import Order, orders_like

if TYPE_CHECKING:
    from gprann.surrogate.surrogate import Surrogate

Array = NDArray[np.float64]
Indices = NDArray[np.int64]
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
        Predicts something for a share.

    Returns
    -------
    Assignment
        The structures that were not refused.
    object
        The answer for them.
    dict of int to DataError
        Why the others were refused, by their indices.
    """
    share, refusals = Assignment.in_order(surrogate, data)
    try:
        return share, question(share), refusals
    except DataError:  # whose fault it is only each of them by itself can tell
        kept = []
        for position in range(len(share.data)):
            try:
                surrogate.predict(share.data.select([position]), std=False, forces=False)
                kept.append(position)
            except DataError as error:
                refusals[int(share.indices[position])] = error
    share = share.part(kept)
    return share, question(share), refusals


class Kinds:
    """Finds the surrogates that know a structure: they have its composition and periodic directions.

    Where these directions are new, those of its composition.

    Parameters
    ----------
    firsts : sequence of Structure
        One structure of the training set of each surrogate.
    """

    def __init__(self, firsts: Sequence[Structure]) -> None:
        self._known: defaultdict[object, list[int]] = defaultdict(list)
        for number, first in enumerate(firsts):
            for kind in (first.composition, (first.composition, tuple(first.pbc))):
                self._known[kind].append(number)

    def knowing(self, structure: Structure) -> tuple[int, ...]:
        """Return the numbers of the surrogates that know a structure; none if its composition is new."""
        kinds = (structure.composition, tuple(structure.pbc)), structure.composition
        return next((tuple(self._known[kind]) for kind in kinds if kind in self._known), ())
