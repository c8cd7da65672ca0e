"""The work of each rank for its own structures, rank 0 included."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gprann.arrays import Array, Indices
from gprann.data.neighbours import Neighbourhood, without_pairs
from gprann.data.structure import Origin, Structure
from gprann.descriptors import Descriptor
from gprann.models import FeatureTable, Normalisation
from gprann.models.base import AtomModel, Model
from gprann.models.features import descriptor_values
from gprann.models.guard import ArraySample, Sums
from gprann.runtime.mpi import Lower
from gprann.training.fit_data import LabelTable, LocalData
from gprann.training.guard import average_environments
from gprann.training.objective import EnergyObjective

Parts = list[Array | Lower]
"""Arrays of a rank, to be added to those of the others."""


class Part:
    """The structures of a rank, and all that is computed for them.

    Methods that return `Parts` have the same number of arrays of the same shapes on each rank. Structures are named by
    their numbers in the whole training set; those of other ranks are passed over.

    Attributes
    ----------
    owned, atoms : ndarray of int64
        Numbers of its structures and of their atoms in the whole training set.
    """

    def __init__(self, rank: int) -> None:
        self.rank = rank
        self.owned = self.atoms = np.zeros(0, np.int64)
        self._place = np.zeros(0, np.int64)  # of each structure of the training set among its own, or -1
        self._structures: list[Structure] = []
        self._descriptor: Descriptor
        self._neighbours: Neighbourhood | None = None
        self._values: Array
        self._kinds: NDArray[np.int32]
        self._first: Indices
        self._folds: Indices
        self._table: FeatureTable
        self._inverse_scale: Array
        self._energies: dict[int, tuple[EnergyObjective, Indices]] = {}
        self._losses: dict[int, LocalData] = {}
        self._labels: dict[int, tuple[LabelTable, Any]] = {}
        self._groups: dict[int, Indices] = {}
        self._matrix = np.zeros((0, 0))

    # ------------------------------------------------------------ structures
    def take(self, owner: Indices, sizes: Indices) -> None:
        """Take the structures of which it is the owner; those of an earlier training are let go."""
        self.__init__(self.rank)  # type: ignore[misc]
        own = owner == self.rank
        self.owned = np.flatnonzero(own)
        self.atoms = np.flatnonzero(np.repeat(own, sizes))
        self._first = np.concatenate([[0], np.cumsum(sizes[self.owned])]).astype(np.int64)
        self._place = np.full(len(owner), -1)
        self._place[self.owned] = np.arange(len(self.owned))

    def place(self, positions: Array, cells: Array, pbc: NDArray[np.bool_], kinds: Indices) -> None:
        """Take their atoms: positions (n_atoms, 3), Å, cells (n, 3, 3), periodicity (n, 3), species (n_atoms,)."""
        self._kinds = kinds.astype(np.int32)
        self._positions, self._cells, self._pbc = positions, cells, pbc

    def describe(self, *, descriptor: Descriptor, with_pairs: bool) -> None:
        """Compute descriptors; neighbour lists are kept if forces are to be fitted."""
        species, first = descriptor.species, self._first
        structures = [
            Structure(
                tuple(species[kind] for kind in self._kinds[begin:end]),
                self._positions[begin:end],
                cell=self._cells[k],
                pbc=self._pbc[k],
                origin=Origin(index=int(self.owned[k])),
            )
            for k, (begin, end) in enumerate(itertools.pairwise(first))
        ]
        self._descriptor = descriptor
        self._neighbours = descriptor.neighbours(structures) if with_pairs else None
        self._values = descriptor_values(descriptor, structures, self._neighbours)[0]

    # -------------------------------------------------------- normalisation
    def moments(self) -> Parts:
        """Return the number of atoms (S,) and the sums of their descriptors (S, D)."""
        elements = self._by_element()
        return [
            np.array([float(len(own)) for own in elements]),
            np.array([own.sum(axis=0) for own in elements]),
        ]

    def squares(self, mean: Array) -> Parts:
        """Return the sums of the squared deviations from the means, (S, D)."""
        elements = self._by_element()
        return [np.array([((own - m) ** 2).sum(axis=0) for own, m in zip(elements, mean, strict=True)])]

    def _by_element(self) -> list[Array]:
        return [self._values[self._kinds == kind] for kind in range(len(self._descriptor.species))]

    def standardise(self, mean: Array, inverse_scale: Array) -> Array:
        """Standardise the descriptors; return the average of each structure, (n, D)."""
        self._values = Normalisation(mean, inverse_scale).apply(self._values, self._kinds)
        self._inverse_scale = inverse_scale
        return average_environments(self._values, self._first)

    # ---------------------------------------------------------------- guard
    def divide(self, folds: Indices) -> None:
        """Take the folds of its structures."""
        self._folds = np.repeat(folds, np.diff(self._first))

    def environment_sums(self, *, kind: int, fold: int | None) -> Parts:
        """Return number, sum and outer products of the environments of an element; see `Sums`."""
        number, first, second = Sums.of(self._sample.some(kind, fold))
        return [np.array([float(number)]), first, second]

    def distances(self, mean: Array, whiten: Array, *, kind: int, fold: int | None) -> Array:
        """Return the distances of the environments of an element, any number."""
        return self._sample.distances(kind, fold, mean, whiten)

    @property
    def _sample(self) -> ArraySample:
        return ArraySample(self._values, self._kinds, self._folds)

    def _sort(self) -> None:
        """Bring the features into the order of the networks."""
        species = len(self._descriptor.species)
        self._table = FeatureTable.sort(self._values, self._kinds, self._first, species)
        del self._values, self._positions, self._cells, self._pbc

    # ------------------------------------------------------------- energies
    def fit_energies(self, targets: Array, weights: Array, *, model: Model) -> None:
        """Make the objective of the energies of its structures: number 0."""
        self._sort()
        whole = EnergyObjective(self._build(model), self._table, targets, weights)
        self._energies = {0: (whole, self._place)}

    def select_energies(self, chosen: Indices, *, of: int, number: int) -> None:
        """Make the objective of some structures of another one, in the order given."""
        objective, place = self._energies[of]
        here = place[chosen]
        mine = here >= 0
        own = np.full(len(chosen), -1)
        own[mine] = np.arange(np.count_nonzero(mine))
        self._energies[number] = (objective.select(here[mine]), own)

    def energy_loss(self, parameters: Array, *, of: int) -> Parts:
        """Return the loss (1,)."""
        objective, _ = self._energies[of]
        return [np.array([objective.loss(parameters) if objective.size else 0.0])]

    def energy_gradient(self, parameters: Array, batch: Indices | None = None, *, of: int) -> Parts:
        """Return loss and gradient in one array (1 + P,), of all or some structures."""
        objective, place = self._energies[of]
        here = None if batch is None else place[batch]
        here = None if here is None else here[here >= 0]
        result = np.zeros(1 + len(parameters))
        if objective.size and (here is None or len(here)):
            result[0], result[1:] = objective.gradient(parameters, here)
        return [result]

    def energy_equations(self, parameters: Array, *, of: int) -> Parts:
        """Return the lower triangle of JᵀWJ (P, P), JᵀWr (P,) and rᵀWr (1,)."""
        objective, _ = self._energies[of]
        matrix, slope, loss = self._equations(len(parameters)), np.zeros(len(parameters)), np.zeros(1)
        if objective.size:
            loss[0] = objective.normal_equations(parameters, matrix, slope)
        return [Lower(matrix), slope, loss]

    # --------------------------------------------------- energies and forces
    def fit_forces(self, *, model: Model) -> None:
        """Make the loss of energies, forces and virials for a model: number 0."""
        self._sort()
        neighbours = self._neighbours or without_pairs(self._kinds, self._first)
        data = LocalData.of(
            self._build(model), self._descriptor, neighbours, self._table, self._inverse_scale
        )
        self._losses = {0: data}

    def add_model(self, *, model: Model, number: int) -> None:
        """Make the loss for another model."""
        self._losses[number] = self._losses[0].with_model(self._build(model))

    def add_labels(self, *arrays: Array, number: int, thresholds: dict[str, float]) -> None:
        """Take the labels of its structures, in the order of `LabelTable`."""
        names = (item.name for item in fields(LabelTable))
        values: dict[str, Any] = {**dict(zip(names, arrays, strict=False)), **thresholds}
        table = LabelTable(**values)
        self._labels[number] = (table, table.core())

    def energies(self, parameters: Array, *, of: int) -> Array:
        """Return the energies of all its structures, (n,)."""
        return self._losses[of].energies(parameters)

    def value(self, parameters: Array, *chosen: Indices, **which: Any) -> Parts:
        """Return the losses of energies, forces and virials (3,)."""
        data, labels, own = self._which(chosen, **which)
        return [np.array(data.value(parameters, labels, own) if len(own) else [0.0, 0.0, 0.0])]

    def gradient(self, parameters: Array, *chosen: Indices, **which: Any) -> Parts:
        """Return the losses with the gradient behind them (3 + P,)."""
        data, labels, own = self._which(chosen, **which)
        result = np.zeros(3 + len(parameters))
        if len(own):
            result[:3], result[3:] = data.gradient(parameters, labels, own)
        return [result]

    def equations(self, parameters: Array, *chosen: Indices, **which: Any) -> Parts:
        """Return the lower triangle of JᵀWJ (P, P), JᵀWr (P,) and the losses (3,)."""
        data, labels, own = self._which(chosen, **which)
        matrix, slope, losses = self._equations(len(parameters)), np.zeros(len(parameters)), np.zeros(3)
        if len(own):
            losses[:] = data.normal_equations(parameters, labels, own, matrix, slope)
        return [Lower(matrix), slope, losses]

    def gauss_newton(self, parameters: Array, v: Array, *chosen: Indices, **which: Any) -> Parts:
        """Return JᵀWJ v (P,)."""
        data, labels, own = self._which(chosen, **which)
        if not len(own):
            return [np.zeros(len(parameters))]
        return [np.array(data.gauss_newton(parameters, labels, own, v))]

    def adjoint(self, parameters: Array, *arrays: NDArray[Any], **which: Any) -> Parts:
        """Return JᵀW^½ z (P,) for z of energies, forces and virials: the last three arrays, of its own structures."""
        *chosen, energies, forces, virials = arrays
        data, labels, own = self._which(chosen, **which)
        if not len(own):
            return [np.zeros(len(parameters))]
        return [np.array(data.adjoint_product(parameters, labels, own, (energies, forces, virials)))]

    def rows(self, parameters: Array, *chosen: Indices, **which: Any) -> Array:
        """Return the rows W^½ J with W^½ r and their share of the loss behind them, (rows, P + 2)."""
        data, labels, own = self._which(chosen, **which)
        loss, J, r = data.rows(parameters, labels, own)
        return np.column_stack([J, r, np.full(len(r), loss / max(len(r), 1))])

    def _which(
        self, chosen: Sequence[Indices], *, of: int, labels: int, group: int | None
    ) -> tuple[LocalData, Any, Indices]:
        """Return the data, the labels, and those of the chosen structures that are its own.

        Structures that are given with the number of a group are remembered by it, and not given again.
        """
        if chosen:
            own = self._place[chosen[0]]
            own = own[own >= 0]
            if group is not None:
                self._groups[group] = own
        else:
            own = self._groups[int(group or 0)]
        return self._losses[of], self._labels[labels][1], own

    def drop(self, *, objectives: Sequence[int], labels: Sequence[int], groups: Sequence[int]) -> None:
        """Let go of what rank 0 has forgotten."""
        held: tuple[dict[int, Any], ...] = (self._energies, self._labels, self._groups)
        for kept, numbers in zip(held, (objectives, labels, groups), strict=True):
            for number in numbers:
                kept.pop(number, None)

    def _build(self, model: Model) -> AtomModel:
        built: AtomModel = model.build(self._descriptor.size, len(self._descriptor.species))
        return built

    def _equations(self, n: int) -> Array:
        """Return a matrix of zeros, which all iterations share."""
        if len(self._matrix) != n:
            self._matrix = np.zeros((n, n))
        self._matrix[:] = 0.0
        return self._matrix
