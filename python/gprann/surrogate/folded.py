"""Mean predictions of a Gaussian process from its training set folded with the weights."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gprann import _core
from gprann.parallel import n_threads, one_blas_thread, scipy_blas
from gprann.surrogate.fingerprints import Rows

__all__ = ["FoldedTraining"]

Array = NDArray[np.float64]


class FoldedTraining:
    """The training set folded with the weights: all that a mean prediction needs."""

    def __init__(self, rows: Rows, jacobians: list[Array], alpha: Array, first: NDArray[np.int64]) -> None:
        kinds = rows.kinds()
        order = np.argsort(kinds, kind="stable")
        self.first = np.searchsorted(kinds[order], np.arange(rows.kind_rows.shape[1])).astype(np.int64)
        size = rows.features.shape[1]
        slopes = [
            (jacobian @ alpha[begin + 1 : end]).reshape(-1, size)
            for jacobian, begin, end in zip(jacobians, first[:-1], first[1:], strict=True)
        ]
        counts = rows.kind_rows[:, -1] - rows.kind_rows[:, 0]
        self.features = np.ascontiguousarray(rows.features[order])
        self.slope = np.ascontiguousarray(np.concatenate(slopes)[order])
        self.energy_weight = np.ascontiguousarray(np.repeat(alpha[first[:-1]], counts)[order])

    def predict(self, rows: Rows, kernel: _core.RadialKernel) -> tuple[Array, Array]:
        """Return energies (n,) and slopes (rows, D) of query structures."""
        kinds = rows.kinds()
        order = np.argsort(kinds, kind="stable")
        first = np.searchsorted(kinds[order], np.arange(rows.kind_rows.shape[1])).astype(np.int64)
        query = np.ascontiguousarray(rows.features[order])
        with one_blas_thread():
            sorted_energies, sorted_slopes = _core.predict_rows(
                self.first,
                self.features,
                self.energy_weight,
                self.slope,
                first,
                query,
                kernel,
                scipy_blas(),
                n_threads(),
            )
        energies, slopes = np.empty_like(sorted_energies), np.empty_like(sorted_slopes)
        energies[order], slopes[order] = sorted_energies, sorted_slopes
        return np.add.reduceat(energies, rows.kind_rows[:, 0]), slopes
