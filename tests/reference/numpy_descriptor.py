"""The radial part of the Chebyshev descriptor in plain NumPy, as users write descriptors; it has a compiled twin."""

from __future__ import annotations

import numpy as np
from numpy.polynomial import chebyshev
from numpy.typing import NDArray

from gprann.data.neighbours import Neighbourhood
from gprann.descriptors import ChebyshevDescriptor, Descriptor
from gprann.descriptors.chebyshev import aenet_weights
from gprann.options import option

Array = NDArray[np.float64]


class NumpyRadial(Descriptor):
    """Sum over neighbours j of w_j T_a(2 r / Rc - 1) f_c(r), for weights 1 and, with several species, ænet's."""

    order: int = option("Highest Chebyshev polynomial.", 4, ge=0)
    range: float = option("Cutoff.", 4.3, unit="Å", gt=0)

    @property
    def size(self) -> int:
        return len(self._channels()) * (self.order + 1)

    @property
    def cutoff(self) -> float:
        return self.range

    def twin(self) -> ChebyshevDescriptor:
        """The same descriptor of the compiled core."""
        return ChebyshevDescriptor(
            self.species, radial_order=self.order, radial_cutoff=self.range, angular_order=None
        )

    def values(self, neighbours: Neighbourhood) -> Array:
        return self._sum(neighbours, self._terms(neighbours)[0])

    def jvp(self, neighbours: Neighbourhood, direction: Array, strains: Array | None = None) -> Array:
        changes = neighbours.vector_changes(direction, strains)
        stretch = np.sum(_unit(neighbours.vectors) * changes, axis=1)
        return self._sum(neighbours, self._terms(neighbours)[1] * stretch[:, None])

    def vjp(self, neighbours: Neighbourhood, cotangent: Array) -> tuple[Array, Array]:
        weighted = self._weights(neighbours)[:, :, None] * self._terms(neighbours)[1][:, None, :]
        slopes = np.sum(cotangent[neighbours.centres] * weighted.reshape(-1, self.size), axis=1)
        return neighbours.collect(slopes[:, None] * _unit(neighbours.vectors))

    def _channels(self) -> Array:
        rows = [np.ones(len(self.species))]
        return np.array(rows if len(self.species) == 1 else [*rows, aenet_weights(len(self.species))])

    def _weights(self, neighbours: Neighbourhood) -> Array:
        """Weights of the neighbour of every pair, (n_pairs, channels)."""
        weights: Array = self._channels().T[neighbours.species[neighbours.neighbour]]
        return weights

    def _terms(self, neighbours: Neighbourhood) -> tuple[Array, Array]:
        """T_a f_c of every pair and its derivative by the distance, (n_pairs, order + 1) each."""
        r = np.linalg.norm(neighbours.vectors, axis=1)
        x = 2.0 * r / self.range - 1.0
        inside = (r < self.range).astype(float)
        cut = 0.5 * inside * (np.cos(np.pi * r / self.range) + 1.0)
        cut_slope = -0.5 * np.pi / self.range * inside * np.sin(np.pi * r / self.range)
        polynomials = chebyshev.chebvander(x, self.order)
        unit = np.eye(self.order + 1)
        slopes = np.stack([chebyshev.chebval(x, chebyshev.chebder(row)) for row in unit], axis=1)
        return polynomials * cut[:, None], slopes * (2.0 / self.range) * cut[
            :, None
        ] + polynomials * cut_slope[:, None]

    def _sum(self, neighbours: Neighbourhood, terms: Array) -> Array:
        """Sums over the neighbours of every atom, weighted for each channel, (n_atoms, D)."""
        weighted = self._weights(neighbours)[:, :, None] * terms[:, None, :]
        result = np.zeros((neighbours.n_atoms, self.size))
        np.add.at(result, neighbours.centres, weighted.reshape(-1, self.size))
        return result


def _unit(vectors: Array) -> Array:
    unit: Array = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return unit
