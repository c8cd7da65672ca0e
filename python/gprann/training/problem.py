"""The least-squares problem of training: energies of structures as a function of the parameters."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from gprann import _core
from gprann.models import FeatureTable, NetworkModel
from gprann.parallel import n_threads, scipy_blas

__all__ = ["EnergyProblem"]

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class EnergyProblem:
    """Energies in units of the energy scale, less the reference energies.

    Attributes
    ----------
    model : NetworkModel
    table : FeatureTable of n structures
    targets : ndarray, shape (n,)
    weights : ndarray, shape (n,)
        Factors of the squared residuals.
    """

    model: NetworkModel
    table: FeatureTable
    targets: Array
    weights: Array
    _atoms: _core.AtomFeatures = field(init=False, repr=False)

    def __post_init__(self) -> None:
        # Made once: its checks would cost as much as a minibatch.
        object.__setattr__(self, "_atoms", self.table.kernel())

    @property
    def size(self) -> int:
        """Number of structures."""
        return len(self.targets)

    def select(self, structures: NDArray[np.int64]) -> EnergyProblem:
        """Return the problem of some structures."""
        return EnergyProblem(
            self.model, self.table.select(structures), self.targets[structures], self.weights[structures]
        )

    def loss(self, parameters: Array) -> float:
        """Return the weighted sum of squared residuals."""
        residuals = self.model.kernel.energies(parameters, self._atoms, n_threads()) - self.targets
        return float(self.weights @ residuals**2)

    def rmse(self, parameters: Array) -> float:
        """Return the weighted root mean square residual; NaN for an empty problem."""
        total = float(self.weights.sum())
        return float(np.sqrt(self.loss(parameters) / total)) if total > 0 else float("nan")

    def normal_equations(self, parameters: Array, hessian: Array, slope: Array) -> float:
        """Fill the lower triangle of JᵀWJ (P, P) and JᵀWr (P,); return rᵀWr."""
        return self.model.kernel.normal_equations(
            parameters,
            self._atoms,
            self.targets,
            self.weights,
            scipy_blas(),
            n_threads(),
            hessian,
            slope,
        )

    def batch_gradient(self, parameters: Array, batch: NDArray[np.int64]) -> tuple[float, Array]:
        """Return loss and gradient (P,) of a minibatch, in one call of the core."""
        return self.model.kernel.energy_loss(
            parameters, self._atoms, batch, self.targets, self.weights, n_threads()
        )
