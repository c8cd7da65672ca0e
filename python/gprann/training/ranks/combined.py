"""Energies, forces and virials of structures that are divided among ranks: what `EnergyForceObjective` builds on."""

from __future__ import annotations

import weakref
from collections import OrderedDict, deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from gprann.arrays import Array, Indices
from gprann.descriptors import Descriptor
from gprann.models.base import AtomModel
from gprann.training.fit_data import LabelTable, Losses

if TYPE_CHECKING:
    from gprann.training.ranks.team import Team

_FEW = 500  # structures up to which they are named each time: a batch
_REMEMBERED = 16  # larger sets that the ranks remember
_LABELS = 3  # label tables that are found again: those of a draw, and of the whole set


class RankedLabels:
    """Labels that lie on the ranks, each of which has those of its own structures.

    Attributes
    ----------
    number : int
        By which the ranks know them.
    """

    __slots__ = ("__weakref__", "number")

    def __init__(self, team: Team, labels: LabelTable) -> None:
        self.number = team.number()
        weakref.finalize(self, team.forget, "labels", self.number)
        team.tell(
            "add_labels",
            spread=[
                ("structures", labels.energies),
                ("structures", labels.energy_weights),
                ("atoms", labels.forces),
                ("atoms", labels.force_weights),
                ("structures", labels.virials),
                ("structures", labels.virial_weights),
                ("structures", labels.structure_weights),
            ],
            number=self.number,
            thresholds={name: getattr(labels, name) for name in ("energy_threshold", "force_threshold")},
        )


class Groups:
    """Large sets of structures that have been named to the ranks, the latest ones."""

    def __init__(self, team: Team) -> None:
        self._team = team
        # By identity; the array is kept, so that no other one can have it.
        self._known: OrderedDict[int, tuple[Indices, int]] = OrderedDict()

    def name(self, structures: Indices) -> tuple[tuple[Indices, ...], int | None]:
        """Return what to send of a set of structures, and its number if it is to be remembered or is known."""
        if len(structures) <= _FEW:
            return (structures,), None
        key = id(structures)
        if key in self._known:
            self._known.move_to_end(key)
            return (), self._known[key][1]
        number = self._team.number()
        self._known[key] = (structures, number)
        if len(self._known) > _REMEMBERED:
            _, (_, old) = self._known.popitem(last=False)
            self._team.forget("groups", old)
        return (structures,), number


@dataclass(frozen=True, slots=True)
class RankedData:
    """The data that `LocalData` holds in one process, divided; the same sums up to rounding.

    Attributes
    ----------
    team : Team
    model : AtomModel
    descriptor : Descriptor
    counts : ndarray of int64, shape (n, S)
    digest : ndarray of uint8
        Fingerprint of the structures, which lie on the ranks.
    number : int
        By which the ranks know the model.
    first_atom : ndarray of int64, shape (n + 1,)
    """

    team: Team
    model: AtomModel
    descriptor: Descriptor
    counts: Indices
    digest: NDArray[np.uint8]
    number: int = 0
    first_atom: Indices = field(init=False)
    _groups: Groups = field(init=False, repr=False)
    # Objectives of subsets and draws have the same labels: these are sent once.
    _latest: deque[tuple[LabelTable, RankedLabels]] = field(
        init=False, repr=False, default_factory=lambda: deque(maxlen=_LABELS)
    )

    def __post_init__(self) -> None:
        first = np.concatenate([[0], np.cumsum(self.counts.sum(axis=1))]).astype(np.int64)
        object.__setattr__(self, "first_atom", first)
        object.__setattr__(self, "_groups", Groups(self.team))

    def of_labels(self, labels: LabelTable) -> RankedLabels:
        """Give the labels to the ranks."""
        for known, sent in self._latest:
            if known is labels:
                return sent
        self._latest.append((labels, RankedLabels(self.team, labels)))
        return self._latest[-1][1]

    def with_model(self, model: AtomModel) -> RankedData:
        """Return the same for another model."""
        number = self.team.number()
        self.team.tell("add_model", model=model.options, number=number)
        return RankedData(self.team, model, self.descriptor, self.counts, self.digest, number)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return what tells the data from others."""
        return {"digest": self.digest}

    def energies(self, parameters: Array) -> Array:
        """Return the energies of all structures, shape (n,)."""
        return self.team.by_structure(self.team.gather("energies", parameters, of=self.number))

    def _which(self, labels: RankedLabels, structures: Indices) -> tuple[tuple[Indices, ...], dict[str, Any]]:
        chosen, group = self._groups.name(structures)
        return chosen, {"of": self.number, "labels": labels.number, "group": group}

    def value(self, parameters: Array, labels: RankedLabels, structures: Indices) -> Losses:
        """Return the losses of some structures."""
        chosen, which = self._which(labels, structures)
        (losses,) = self.team.sum("value", parameters, *chosen, **which)
        return _losses(losses)

    def gradient(self, parameters: Array, labels: RankedLabels, structures: Indices) -> tuple[Losses, Array]:
        """Return the losses and the gradient of their sum (P,)."""
        chosen, which = self._which(labels, structures)
        (result,) = self.team.sum("gradient", parameters, *chosen, **which)
        return _losses(result[:3]), result[3:]

    def normal_equations(
        self, parameters: Array, labels: RankedLabels, structures: Indices, hessian: Array, slope: Array
    ) -> Losses:
        """Fill the lower triangle of JᵀWJ (P, P) and JᵀWr (P,); return the losses."""
        chosen, which = self._which(labels, structures)
        matrix, vector, losses = self.team.sum("equations", parameters, *chosen, **which)
        hessian[:], slope[:] = matrix, vector
        return _losses(losses)

    def rows(
        self, parameters: Array, labels: RankedLabels, structures: Indices
    ) -> tuple[float, Array, Array]:
        """Return the loss, the rows W^½ J (rows, P) and the residuals W^½ r (rows,), rank after rank."""
        chosen, which = self._which(labels, structures)
        rows = np.concatenate(self.team.gather("rows", parameters, *chosen, **which))
        return float(rows[:, -1].sum()), np.ascontiguousarray(rows[:, :-2]), rows[:, -2].copy()

    def gauss_newton(self, parameters: Array, labels: RankedLabels, structures: Indices, v: Array) -> Array:
        """Return JᵀWJ v (P,)."""
        chosen, which = self._which(labels, structures)
        (result,) = self.team.sum("gauss_newton", parameters, v, *chosen, **which)
        return result

    def adjoint_product(
        self, parameters: Array, labels: RankedLabels, structures: Indices, z: tuple[Array, Array, Array]
    ) -> Array:
        """Return JᵀW^½ z (P,), z of energies (n,), forces (n_atoms, 3) and virials (n, 6) of all structures."""
        chosen, which = self._which(labels, structures)
        spread = list(zip(("structures", "atoms", "structures"), z, strict=True))
        (result,) = self.team.sum("adjoint", parameters, *chosen, spread=spread, **which)
        return result


def _losses(array: Array) -> Losses:
    energy, force, virial = map(float, array)
    return energy, force, virial
