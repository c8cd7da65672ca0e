"""The objective of training: energies of structures as a function of the parameters."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from gprann import _core
from gprann.arrays import Array, Indices
from gprann.models.base import AtomModel
from gprann.models.features import FeatureTable
from gprann.runtime.resources import blas_and_threads, n_threads

if TYPE_CHECKING:
    from typing import Self


@dataclass(frozen=True, slots=True)
class Errors:
    """Weighted root mean square residuals, in units of the energy scale (and Å); NaN where there are none.

    Attributes
    ----------
    total : float
        Root of the mean loss: what is minimised, and what decides.
    energy : float
    force : float
        Of the force components.
    """

    total: float
    energy: float
    force: float = float("nan")


class Objective(Protocol):
    """A sum over structures of weighted squared residuals: the interface that every optimiser uses."""

    @property
    def size(self) -> int:
        """Number of structures."""

    @property
    def n_parameters(self) -> int:
        """Number of parameters P."""

    @property
    def total_weight(self) -> float:
        """Sum of the structures' weights: loss over total weight is the mean."""

    def draw(self, stream: tuple[int, ...], max_rows: int | None = None) -> Self:
        """Return the objective of one iteration, where its residuals or rows are a random choice."""

    def epoch(self, rng: np.random.Generator, batch_size: int) -> Iterator[tuple[Objective, Indices]]:
        """Yield minibatches in which every structure occurs once, in an order that `rng` decides on alone.

        Each is an objective, perhaps of a part of the structures, and structures of it. Structures of one are gone
        once the next is asked for.
        """

    def loss(self, parameters: Array) -> float:
        """Return the weighted sum of squared residuals."""

    def errors(self, parameters: Array) -> Errors:
        """Return the root mean square residuals."""

    def gradient(self, parameters: Array, batch: Indices | None = None) -> tuple[float, Array]:
        """Return loss and gradient (P,) of some structures; default: of all."""


class LeastSquaresObjective(Objective, Protocol):
    """An objective whose Gauss-Newton equations can be set up."""

    def align(self, parameters: Array, frozen: Indices) -> Array:
        """Return the parameters after what can be minimised at once, without steps, has been."""

    def normal_equations(self, parameters: Array, hessian: Array, slope: Array) -> float:
        """Fill the lower triangle of JᵀWJ (P, P) and JᵀWr (P,); return rᵀWr."""


class MatrixFreeObjective(LeastSquaresObjective, Protocol):
    """An objective whose Jacobian can be multiplied with vectors without being formed."""

    def gauss_newton(self, parameters: Array, v: Array) -> Array:
        """Return JᵀWJ v (P,)."""

    def diagonal(self, parameters: Array, rng: np.random.Generator) -> Array:
        """Return an estimate of the diagonal of JᵀWJ (P,)."""


def minibatches(
    objective: Objective, rng: np.random.Generator, batch_size: int
) -> Iterator[tuple[Objective, Indices]]:
    """Yield an objective whose structures are all in memory, with the structures of each minibatch."""
    order = rng.permutation(objective.size).astype(np.int64)
    for begin in range(0, len(order), batch_size):
        yield objective, order[begin : begin + batch_size]


class EnergiesAlone(ABC):
    """Common part of the objectives of energies alone, wherever their features are: one residual for each structure."""

    __slots__ = ()

    model: AtomModel

    @property
    @abstractmethod
    def size(self) -> int:
        """Number of structures."""

    @property
    @abstractmethod
    def total_weight(self) -> float:
        """Sum of the weights."""

    @abstractmethod
    def loss(self, parameters: Array) -> float:
        """Return the weighted sum of squared residuals."""

    @property
    def n_parameters(self) -> int:
        """Number of parameters P."""
        return self.model.n_parameters

    @property
    def n_rows(self) -> int:
        """Number of residuals."""
        return self.size

    @property
    def trial_size(self) -> int:
        """Structures that suffice to tell a good random start from a bad one."""
        return 2000

    def draw(self, stream: tuple[int, ...], max_rows: int | None = None) -> Self:  # noqa: ARG002
        """Return the objective itself: every energy counts in every iteration."""
        return self

    def errors(self, parameters: Array) -> Errors:
        """Return the root mean square residual; NaN for an empty objective."""
        total = self.total_weight
        rmse = float(np.sqrt(self.loss(parameters) / total)) if total > 0 else float("nan")
        return Errors(rmse, rmse)

    def align(self, parameters: Array, frozen: Indices) -> Array:  # noqa: ARG002
        """Return the parameters: steps that see nothing but energies leave no common error of theirs."""
        return parameters


@dataclass(frozen=True, slots=True)
class EnergyObjective(EnergiesAlone):
    """Energies of structures, less the baseline, in units of the energy scale.

    Attributes
    ----------
    model : AtomModel
    table : FeatureTable of n structures
    targets : ndarray, shape (n,)
    weights : ndarray, shape (n,)
        Factors of the squared residuals.
    """

    model: AtomModel
    table: FeatureTable
    targets: Array
    weights: Array
    _atoms: _core.AtomFeatures = field(init=False, repr=False)

    def __post_init__(self) -> None:
        # Made once: its checks would cost as much as a minibatch.
        object.__setattr__(self, "_atoms", self.table.core)

    @property
    def size(self) -> int:
        """Number of structures."""
        return len(self.targets)

    @property
    def counts(self) -> Indices:
        """Atoms of each species in each structure, shape (size, S)."""
        return np.diff(self.table.rows, axis=1).T

    @property
    def total_weight(self) -> float:
        """Sum of the weights."""
        return float(self.weights.sum())

    def select(self, structures: Indices) -> EnergyObjective:
        """Return the objective of some structures."""
        return EnergyObjective(
            self.model, self.table.select(structures), self.targets[structures], self.weights[structures]
        )

    def epoch(self, rng: np.random.Generator, batch_size: int) -> Iterator[tuple[Objective, Indices]]:
        """Yield minibatches of a random order."""
        return minibatches(self, rng, batch_size)

    def loss(self, parameters: Array) -> float:
        """Return the weighted sum of squared residuals."""
        residuals = self.model.core.energies(parameters, self._atoms, n_threads()) - self.targets
        return float(self.weights @ residuals**2)

    def normal_equations(self, parameters: Array, hessian: Array, slope: Array) -> float:
        """Fill the lower triangle of JᵀWJ (P, P) and JᵀWr (P,); return rᵀWr."""
        with blas_and_threads() as (blas, threads):
            loss: float = self.model.core.normal_equations(
                parameters,
                self._atoms,
                self.targets,
                self.weights,
                blas,
                threads,
                hessian,
                slope,
            )
        return loss

    def gradient(self, parameters: Array, batch: Indices | None = None) -> tuple[float, Array]:
        """Return loss and gradient (P,) of some structures, in one call of the core; default: of all."""
        batch = np.arange(self.size) if batch is None else batch
        loss, slope = self.model.core.energy_loss(
            parameters, self._atoms, batch, self.targets, self.weights, n_threads()
        )
        return loss, slope

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return the arrays that make up the objective."""
        table = self.table
        return {
            "features": table.features,
            "rows": table.rows,
            "order": table.order,
            "targets": self.targets,
            "weights": self.weights,
        }

    def settings(self) -> dict[str, Any]:
        """Return what kind of objective it is."""
        return {"kind": "energies"}

    @classmethod
    def from_arrays(
        cls,
        model: AtomModel,
        arrays: Mapping[str, NDArray[Any]],
        settings: Mapping[str, Any] | None = None,  # noqa: ARG003
    ) -> EnergyObjective:
        """Make an objective of what `arrays` gave."""
        table = FeatureTable(arrays["features"], arrays["rows"], arrays["order"])
        return cls(model, table, arrays["targets"], arrays["weights"])
