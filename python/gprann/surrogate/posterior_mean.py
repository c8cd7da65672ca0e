"""Mean predictions of a Gaussian process from its training set folded with the weights."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from gprann import _core
from gprann.runtime.resources import blas_and_threads
from gprann.surrogate.kernels.fingerprints import Rows

__all__ = ["PosteriorMean"]

Array = NDArray[np.float64]


class PosteriorMean:
    """The training set folded with the weights: all that a mean prediction needs.

    Parameters
    ----------
    rows : Rows
        Of the n training structures.
    energy_weights : ndarray, shape (n,)
        Weight of the energy of each structure.
    slopes : ndarray, shape (rows, D)
        Weights of the gradients carried to the features by the Jacobians.
    """

    def __init__(self, rows: Rows, energy_weights: Array, slopes: Array) -> None:
        self._order, self.first = _by_kind(rows)
        counts = rows.kind_rows[:, -1] - rows.kind_rows[:, 0]
        self._structures = rows.kind_rows[:, 0]
        self.features = np.ascontiguousarray(rows.features[self._order])
        self.slope = np.ascontiguousarray(slopes[self._order])
        self.energy_weight = np.ascontiguousarray(np.repeat(energy_weights, counts)[self._order])

    @classmethod
    def from_weights(
        cls, rows: Rows, jacobians: Sequence[Array], alpha: Array, first: NDArray[np.int64]
    ) -> PosteriorMean:
        """Fold weights alpha of energies and gradients along internal directions, structure by structure."""
        size = rows.features.shape[1]
        slopes = [
            (jacobian @ alpha[begin + 1 : end]).reshape(-1, size)
            for jacobian, begin, end in zip(jacobians, first[:-1], first[1:], strict=True)
        ]
        return cls(rows, alpha[first[:-1]], np.concatenate(slopes))

    def predict(self, rows: Rows, kernel: _core.RadialKernel) -> tuple[Array, Array]:
        """Return energies (n,) and slopes (rows, D) of query structures."""
        order, first = _by_kind(rows)
        query = np.ascontiguousarray(rows.features[order])
        with blas_and_threads() as (blas, threads):
            energies, slopes = _core.predict_rows(
                self.first,
                self.features,
                self.energy_weight,
                self.slope,
                first,
                query,
                kernel,
                blas,
                threads,
            )
        return _restored(energies, slopes, order, rows.kind_rows[:, 0])

    def predict_itself(self, kernel: _core.RadialKernel) -> tuple[Array, Array]:
        """Return what `predict` gives for the training structures, with each pair of rows seen once."""
        with blas_and_threads() as (blas, threads):
            energies, slopes = _core.covariance_product(
                self.first,
                self.features,
                self.energy_weight,
                self.slope,
                kernel,
                blas,
                threads,
            )
        return _restored(energies, slopes, self._order, self._structures)


def _by_kind(rows: Rows) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the order of the rows by kind, and where each kind begins."""
    kinds = rows.kinds()
    order = np.argsort(kinds, kind="stable")
    first = np.searchsorted(kinds[order], np.arange(rows.kind_rows.shape[1]))
    return order, first.astype(np.int64)


def _restored(
    energies: Array, slopes: Array, order: NDArray[np.int64], structures: NDArray[np.int64]
) -> tuple[Array, Array]:
    """Return the energies of structures and the slopes in the order of the rows."""
    own_energies, own_slopes = np.empty_like(energies), np.empty_like(slopes)
    own_energies[order], own_slopes[order] = energies, slopes
    return np.add.reduceat(own_energies, structures), own_slopes
