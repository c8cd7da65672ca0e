"""Nested subsets of a training set, on which hyperparameters are found one after the other."""

from __future__ import annotations

from dataclasses import dataclass, field

from gprann.arrays import Array
from gprann.data.structure import Dataset
from gprann.surrogate.kernels.base import Fingerprint, Rows
from gprann.surrogate.observations import Observations, observe


@dataclass
class NestedSubsets:
    """The first structures of a training set in random order, as many as a step of the search asks for.

    Each subset holds the smaller ones, so that Jacobians are computed once.

    Attributes
    ----------
    fingerprint : Fingerprint
        Fitted to the training set.
    data : Dataset
        The training set in random order.
    mean : float, eV
        Of its energies.
    """

    fingerprint: Fingerprint
    data: Dataset
    mean: float
    _jacobians: list[Array] = field(default_factory=list, repr=False)
    _last: tuple[int, tuple[Observations, Rows, list[Array]]] | None = field(default=None, repr=False)

    def observe(self, count: int) -> tuple[Observations, Rows, list[Array]]:
        """Return the observations of the first structures, with the rows of their features and their Jacobians."""
        if self._last is None or self._last[0] != count:
            self._last = None  # before the next is made: memory
            known = len(self._jacobians)
            if known < count:
                self._jacobians += self.fingerprint.jacobians(self.data[known:count])
            subset = self.data[:count]
            self._last = count, observe(self.fingerprint, subset, self.mean, self._jacobians[:count])
        return self._last[1]
