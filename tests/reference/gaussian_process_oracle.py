"""Gaussian process of energies and forces by the text-book formulas, with dense matrices of all 3N coordinates.

Slow on purpose: Jacobians of the fingerprint by central differences of eighth order, covariances row pair by row
pair, K^-1 by a plain inverse. Nothing is projected: what the fingerprint does not see has no covariance, and the
noise keeps K regular there.

mean = k_* K^-1 y,   covariance = k_** - k_* K^-1 k_*^T   (Rasmussen and Williams, eq. 2.25 and 2.26)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gprann.data.structure import Structure
from reference.covariance_oracle import Sets, covariance_oracle

Array = NDArray[np.float64]
Features = Callable[[Structure], tuple[NDArray[np.int64], Array]]
"""Kinds (rows,), ascending, and features (rows, D) of a structure."""

_STEP = 0.01
_COEFFICIENTS = (4 / 5, -1 / 5, 4 / 105, -1 / 280)


def jacobian(features: Features, structure: Structure) -> Array:
    """d(features) / d(positions): (rows, D, 3N)."""
    columns = []
    for direction in np.eye(3 * len(structure)).reshape(-1, len(structure), 3):

        def at(t: float, direction: Array = direction) -> Array:
            return features(structure.replace(positions=structure.positions + t * direction))[1]

        columns.append(
            sum(c * (at(k * _STEP) - at(-k * _STEP)) / _STEP for k, c in enumerate(_COEFFICIENTS, start=1))
        )
    return np.stack(columns, axis=2)


@dataclass(frozen=True)
class Posterior:
    energy: float
    forces: Array
    energy_std: float
    forces_std: Array


class DenseProcess:
    """Posterior of a process with unit amplitude; noise variances relative to `unit`, amplitude from the data.

    shift: prior variance of a shift of all energies.
    freedom: number of the 3N directions of each structure that are no rigid motion.
    """

    def __init__(
        self,
        features: Features,
        data: Sequence[Structure],
        *,
        length: float,
        noise: tuple[float, float],
        freedom: Sequence[int],
        radial: str = "squared_exponential",
        shift: float = 0.0,
    ) -> None:
        self.shift = shift
        self.features, self.length, self.radial = features, length, radial
        self.sets = self._sets(data)
        K = covariance_oracle(self.sets, self.sets, length, radial, shift)
        is_energy = np.isin(np.arange(len(K)), self.sets.energies_at)
        self.mean = float(np.mean([structure.energy for structure in data]))
        values = [
            np.concatenate([[structure.energy - self.mean], -structure.forces.ravel()]) for structure in data
        ]
        # A trace is the same in any basis; rigid motions add nothing to it.
        self.unit = float(np.diagonal(K)[~is_energy].sum()) / sum(freedom)
        K[np.diag_indices(len(K))] += self.unit * np.where(is_energy, *noise)
        self.inverse = np.linalg.inv(K)
        self.alpha = self.inverse @ np.concatenate(values)
        self.observations = len(data) + sum(freedom)
        self.amplitude2 = float(np.concatenate(values) @ self.alpha) / self.observations

    def _sets(self, data: Sequence[Structure]) -> Sets:
        described = [self.features(structure) for structure in data]
        jacobians = [jacobian(self.features, structure) for structure in data]
        n_kinds = 1 + max(int(kinds.max()) for kinds, _ in described)
        return Sets([kinds for kinds, _ in described], [rows for _, rows in described], jacobians, n_kinds)

    def predict(self, structure: Structure) -> Posterior:
        query = self._sets([structure])
        cross = covariance_oracle(query, self.sets, self.length, self.radial, self.shift)
        mean = cross @ self.alpha
        prior = covariance_oracle(query, query, self.length, self.radial, self.shift)
        variance = self.amplitude2 * np.diagonal(prior - cross @ self.inverse @ cross.T)
        std = np.sqrt(np.maximum(variance, 0.0))
        return Posterior(
            float(mean[0]) + self.mean, -mean[1:].reshape(-1, 3), float(std[0]), std[1:].reshape(-1, 3)
        )
