"""Covariances of energies and gradients, row pair by row pair.

Slow on purpose. For k(g, g') = exp(-|g - g'|^2 / (2 l^2)):

cov(E, E') = sum k,  cov(E, dE'/dR') = sum k (d . J') / l^2,  cov(dE/dR, E') = -sum k (J . d) / l^2,
cov(dE/dR, dE'/dR') = sum k J^T [I / l^2 - d d^T / l^4] J',  d = g - g'   (METHODS section 3)
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gprann import _core

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Sets:
    """Structures as sets of feature vectors.

    kinds: kind of every row, one array a structure, ascending; features: (rows, D) each; jacobians: (rows, D, m) each.
    """

    kinds: list[Any]
    features: list[Array]
    jacobians: list[Array]
    n_kinds: int

    def __len__(self) -> int:
        return len(self.kinds)

    @property
    def directions(self) -> list[int]:
        return [J.shape[2] for J in self.jacobians]

    @property
    def kind_rows(self) -> Any:
        """(structures, kinds + 1) offsets of the rows of each kind, counted through all structures."""
        table, first = [], 0
        for kinds in self.kinds:
            table.append(first + np.searchsorted(kinds, np.arange(self.n_kinds + 1)))
            first += len(kinds)
        return np.array(table, dtype=np.int64).reshape(len(self), self.n_kinds + 1)

    @cached_property
    def arrays(self) -> tuple[Any, Array, Array, Any]:
        """The arrays of the compiled feature sets."""
        flat = [J.ravel() for J in self.jacobians]
        return (
            self.kind_rows,
            np.concatenate(self.features),
            np.concatenate(flat),
            np.array(self.directions, dtype=np.int64),
        )

    @property
    def kernel(self) -> _core.FeatureSets:
        return _core.FeatureSets(*self.arrays)

    @property
    def energies_at(self) -> list[int]:
        """Rows of the energies among all observations."""
        return np.cumsum([0, *(1 + m for m in self.directions)])[:-1].tolist()

    @property
    def observations(self) -> int:
        return sum(1 + m for m in self.directions)


def squared_exponential(d: Array, length: float) -> tuple[float, Array, Array]:
    """k, dk/dg and d2k/dg dg'^T."""
    k = np.exp(-(d @ d) / (2 * length**2))
    return k, -k * d / length**2, k * (np.eye(len(d)) / length**2 - np.outer(d, d) / length**4)


def matern52(d: Array, length: float) -> tuple[float, Array, Array]:
    """k = (1 + u + u^2 / 3) exp(-u) with u = sqrt(5) |d| / l, dk/dg and d2k/dg dg'^T."""
    u = np.sqrt(5.0) * np.linalg.norm(d) / length
    factor = 5 / (3 * length**2) * np.exp(-u)
    k = (1 + u + u**2 / 3) * np.exp(-u)
    return k, -factor * (1 + u) * d, factor * ((1 + u) * np.eye(len(d)) - 5 / length**2 * np.outer(d, d))


RADIAL = {"squared_exponential": squared_exponential, "matern52": matern52}


def structure_block(
    A: Sets,
    a: int,
    B: Sets,
    b: int,
    length: float,
    radial: str = "squared_exponential",
    constant: float = 0.0,
) -> Array:
    """Covariances of the observations of two structures, (1 + m_a, 1 + m_b)."""
    ma, mb = A.directions[a], B.directions[b]
    K = np.zeros((1 + ma, 1 + mb))
    for i, kind in enumerate(A.kinds[a]):
        for j in np.flatnonzero(np.asarray(B.kinds[b]) == kind):
            d = A.features[a][i] - B.features[b][j]
            Ja, Jb = A.jacobians[a][i], B.jacobians[b][j]
            k, slope, mixed = RADIAL[radial](d, length)
            K[0, 0] += k + constant
            K[0, 1:] -= slope @ Jb
            K[1:, 0] += slope @ Ja
            K[1:, 1:] += Ja.T @ mixed @ Jb
    return K


def covariance_oracle(
    A: Sets, B: Sets, length: float, radial: str = "squared_exponential", constant: float = 0.0
) -> Array:
    """All covariances, structure by structure [E, gradients]: (observations of A, observations of B)."""
    rows = [
        np.concatenate([structure_block(A, a, B, b, length, radial, constant) for b in range(len(B))], axis=1)
        for a in range(len(A))
    ]
    return np.concatenate(rows)
