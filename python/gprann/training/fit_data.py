"""The data of a fit of energies, forces and stresses: labels, and structures with all that is computed for them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from gprann import _core
from gprann.arrays import Array, Indices
from gprann.data.neighbours import Neighbourhood
from gprann.descriptors.base import Descriptor
from gprann.models.base import AtomModel
from gprann.models.features import FeatureTable
from gprann.runtime.resources import blas_and_threads, n_threads

Losses = tuple[float, float, float]
"""Weighted sums of the squared residuals of energies, forces and virials."""
LISTS = ("first_atom", "first_pair", "neighbour", "vectors", "species")
"""Arrays of neighbour lists."""


@dataclass(frozen=True, slots=True)
class LabelTable:
    """Labels of a training set, in units of the energy scale (and Å), with the weights of their residuals.

    The balance of energies, forces and virials is that of the whole set, held-out structures included.

    Attributes
    ----------
    energies, energy_weights : ndarray, shape (n,)
    forces, force_weights : ndarray, shape (n_atoms, 3)
    virials, virial_weights : ndarray, shape (n, 6)
        dE/d(strain), Voigt order.
    structure_weights : ndarray, shape (n,)
        The loss over the sum of these is the mean that is reported.
    energy_threshold, force_threshold : float
        Residuals beyond count linearly (Huber); infinity: all are squared.
    """

    energies: Array
    energy_weights: Array
    forces: Array
    force_weights: Array
    virials: Array
    virial_weights: Array
    structure_weights: Array
    energy_threshold: float = np.inf
    force_threshold: float = np.inf

    def core(self) -> _core.Labels:
        """Return the compiled view."""
        return _core.Labels(
            self.energies,
            self.energy_weights,
            self.forces,
            self.force_weights,
            self.virials,
            self.virial_weights,
            self.energy_threshold,
            self.force_threshold,
        )


class SharedData(Protocol):
    """Data of a set of structures that the objectives of all its subsets share, in this process or over several."""

    @property
    def model(self) -> AtomModel:
        """Shape of the networks."""

    @property
    def descriptor(self) -> Descriptor:
        """Descriptor of the atoms."""

    @property
    def first_atom(self) -> Indices:
        """First atom of each structure, shape (n + 1,)."""

    @property
    def counts(self) -> Indices:
        """Atoms of each species in each structure, shape (n, S)."""

    def of_labels(self, labels: LabelTable) -> Any:
        """Return the labels as the methods below take them."""

    def value(self, parameters: Array, labels: Any, structures: Indices) -> Losses:
        """Return the losses of some structures."""

    def gradient(self, parameters: Array, labels: Any, structures: Indices) -> tuple[Losses, Array]:
        """Return the losses and the gradient of their sum (P,)."""

    def normal_equations(
        self, parameters: Array, labels: Any, structures: Indices, hessian: Array, slope: Array
    ) -> Losses:
        """Fill the lower triangle of JᵀWJ (P, P) and JᵀWr (P,); return the losses."""

    def rows(self, parameters: Array, labels: Any, structures: Indices) -> tuple[float, Array, Array]:
        """Return the loss, the rows W^½ J (rows, P) and the residuals W^½ r (rows,)."""

    def gauss_newton(self, parameters: Array, labels: Any, structures: Indices, v: Array) -> Array:
        """Return JᵀWJ v (P,)."""

    def adjoint_product(
        self, parameters: Array, labels: Any, structures: Indices, z: tuple[Array, Array, Array]
    ) -> Array:
        """Return JᵀW^½ z (P,), z of energies (n,), forces (n_atoms, 3) and virials (n, 6) of all structures."""

    def energies(self, parameters: Array) -> Array:
        """Return the energies of all structures, shape (n,)."""

    def with_model(self, model: AtomModel) -> SharedData:
        """Return the same for another model."""

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return the arrays that it is made of."""


@dataclass(frozen=True, slots=True)
class LocalData:
    """Data of a set of structures in this process."""

    model: AtomModel
    descriptor: Descriptor
    neighbours: Neighbourhood
    table: FeatureTable
    inverse_scale: Array
    atoms: _core.AtomFeatures
    products: _core.Descriptor
    _loss: _core.CombinedLoss = field(init=False, repr=False)

    def __post_init__(self) -> None:
        loss = _core.CombinedLoss(
            self.model.core,
            self.products,
            self.neighbours.core,
            self.atoms,
            self.table.order,
            self.inverse_scale,
        )
        object.__setattr__(self, "_loss", loss)

    @classmethod
    def of(
        cls,
        model: AtomModel,
        descriptor: Descriptor,
        neighbours: Neighbourhood,
        table: FeatureTable,
        inverse_scale: Array,
    ) -> LocalData:
        """Return the data of all structures of the neighbour lists; see `EnergyForceObjective.build`."""
        products = descriptor.core_for(neighbours)
        scales = np.ascontiguousarray(inverse_scale)
        return cls(model, descriptor, neighbours, table, scales, table.core, products)

    @property
    def first_atom(self) -> Indices:
        """First atom of each structure."""
        return self.neighbours.first_atom

    @property
    def counts(self) -> Indices:
        """Atoms of each species in each structure."""
        return np.diff(self.table.rows, axis=1).T

    def of_labels(self, labels: LabelTable) -> _core.Labels:
        """Return the compiled labels."""
        return labels.core()

    def value(self, parameters: Array, labels: _core.Labels, structures: Indices) -> Losses:
        """Return the losses of some structures."""
        return self._loss.value(parameters, labels, structures, n_threads())

    def gradient(self, parameters: Array, labels: _core.Labels, structures: Indices) -> tuple[Losses, Array]:
        """Return the losses and the gradient of their sum (P,)."""
        return self._loss.gradient(parameters, labels, structures, n_threads())

    def normal_equations(
        self, parameters: Array, labels: _core.Labels, structures: Indices, hessian: Array, slope: Array
    ) -> Losses:
        """Fill the lower triangle of JᵀWJ (P, P) and JᵀWr (P,); return the losses."""
        with blas_and_threads() as (blas, threads):
            return self._loss.normal_equations(parameters, labels, structures, blas, threads, hessian, slope)

    def rows(
        self, parameters: Array, labels: _core.Labels, structures: Indices
    ) -> tuple[float, Array, Array]:
        """Return the loss, the rows W^½ J (rows, P) and the residuals W^½ r (rows,)."""
        count = self._loss.row_count(labels, structures)
        J, r = np.empty((count, len(parameters))), np.empty(count)
        parts = self._loss.rows(parameters, labels, structures, n_threads(), J, r)
        return sum(parts), J, r

    def gauss_newton(self, parameters: Array, labels: _core.Labels, structures: Indices, v: Array) -> Array:
        """Return JᵀWJ v (P,)."""
        return self._loss.gauss_newton(parameters, labels, structures, v, n_threads())

    def adjoint_product(
        self, parameters: Array, labels: _core.Labels, structures: Indices, z: tuple[Array, Array, Array]
    ) -> Array:
        """Return JᵀW^½ z (P,)."""
        return self._loss.adjoint_product(parameters, labels, structures, *z, n_threads())

    def energies(self, parameters: Array) -> Array:
        """Return the energies of all structures."""
        return np.asarray(self.model.core.energies(parameters, self.atoms, n_threads()))

    def with_model(self, model: AtomModel) -> LocalData:
        """Return the same for another model."""
        # Derivatives that are stored are stored once.
        return replace(self, model=model)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return the arrays that it is made of."""
        table = self.table
        return {
            **{name: getattr(self.neighbours, name) for name in LISTS},
            "features": table.features,
            "rows": table.rows,
            "order": table.order,
            "inverse_scale": self.inverse_scale,
        }
