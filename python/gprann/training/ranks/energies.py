"""The objective of energies whose structures are divided among ranks."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from gprann.arrays import Array, Indices
from gprann.descriptors.base import Descriptor, descriptor_to_dict
from gprann.models.base import AtomModel
from gprann.training.objective import EnergiesAlone, Objective, minibatches

if TYPE_CHECKING:
    from gprann.training.ranks.team import Team


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class RankedEnergies(EnergiesAlone):
    """The objective that `EnergyObjective` is in one process, divided; the same sums up to rounding.

    Attributes
    ----------
    team : Team
    model : AtomModel
    counts : ndarray of int64, shape (n, S)
    targets, weights : ndarray, shape (n,)
    digest : ndarray of uint8
        Fingerprint of the structures, which lie on the ranks.
    descriptor : Descriptor
    number : int
        By which the ranks know their parts of it.
    """

    team: Team
    model: AtomModel
    counts: Indices
    targets: Array
    weights: Array
    digest: NDArray[np.uint8]
    descriptor: Descriptor
    number: int = 0

    def __post_init__(self) -> None:
        if self.number:
            weakref.finalize(self, self.team.forget, "objectives", self.number)

    @property
    def size(self) -> int:
        """Number of structures."""
        return len(self.targets)

    @property
    def total_weight(self) -> float:
        """Sum of the weights."""
        return float(self.weights.sum())

    def select(self, structures: Indices) -> RankedEnergies:
        """Return the objective of some structures."""
        number = self.team.number()
        self.team.tell("select_energies", structures.astype(np.int64), of=self.number, number=number)
        return RankedEnergies(
            self.team,
            self.model,
            self.counts[structures],
            self.targets[structures],
            self.weights[structures],
            self.digest,
            self.descriptor,
            number,
        )

    def epoch(self, rng: np.random.Generator, batch_size: int) -> Iterator[tuple[Objective, Indices]]:
        """Yield minibatches of a random order."""
        return minibatches(self, rng, batch_size)

    def loss(self, parameters: Array) -> float:
        """Return the weighted sum of squared residuals."""
        if self.size == 0:
            return 0.0
        (loss,) = self.team.sum("energy_loss", parameters, of=self.number)
        return float(loss[0])

    def normal_equations(self, parameters: Array, hessian: Array, slope: Array) -> float:
        """Fill the lower triangle of JᵀWJ (P, P) and JᵀWr (P,); return rᵀWr."""
        matrix, vector, loss = self.team.sum("energy_equations", parameters, of=self.number)
        hessian[:], slope[:] = matrix, vector
        return float(loss[0])

    def gradient(self, parameters: Array, batch: Indices | None = None) -> tuple[float, Array]:
        """Return loss and gradient (P,) of some structures; default: of all."""
        chosen = () if batch is None else (batch,)
        (result,) = self.team.sum("energy_gradient", parameters, *chosen, of=self.number)
        return float(result[0]), result[1:]

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return what tells the objective from others: descriptors lie on the ranks."""
        return {"targets": self.targets, "weights": self.weights, "digest": self.digest}

    def settings(self) -> dict[str, Any]:
        """Return what kind of objective it is."""
        return {"kind": "energies over ranks", "descriptor": descriptor_to_dict(self.descriptor)}
