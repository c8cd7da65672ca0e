"""Which of several correlated unknowns to observe, so that the uncertainty of all of them falls most."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

__all__ = ["greedy_variance_reduction"]

Array = NDArray[np.float64]
_NEGLIGIBLE = 1e-9  # reduction of the summed variance, relative to its start, that is none


def greedy_variance_reduction(
    covariance: Array,
    count: int,
    *,
    noise: Array,
    threshold: float = 0.0,
    progress: Callable[[int], object] | None = None,
) -> tuple[NDArray[np.int64], Array]:
    """Return the rows to observe, in turn, such that each lowers the sum of all variances most.

    Observing row j with noise variance s_j lowers the sum by sum_i C_ij² / (C_jj + s_j), and leaves
    C - c_j c_jᵀ / (C_jj + s_j).

    Parameters
    ----------
    covariance : ndarray, shape (n, n)
        It is not changed.
    count : int
        Rows at most.
    noise : ndarray, shape (n,)
        Variances.
    threshold : float
        Rows whose standard deviation is not larger are not taken.
    progress : callable, optional
        Called with the number of rows taken since the last call.

    Returns
    -------
    rows : ndarray of int64, shape (k,), k <= count
    left : ndarray, shape (k,)
        Sum of the variances after each of them.

    Examples
    --------
    >>> covariance = np.array([[2.0, 1.9, 0.0], [1.9, 2.0, 0.0], [0.0, 0.0, 1.0]])
    >>> greedy_variance_reduction(covariance, 2, noise=np.zeros(3))[0].tolist()
    [0, 2]
    """
    C = np.array(covariance)
    free = np.ones(len(C), dtype=bool)
    rows: list[int] = []
    left: list[float] = []
    start = float(np.trace(C))
    while len(rows) < count:
        variance = np.diagonal(C)
        takable = free & (variance > threshold**2)
        gain = np.full(len(C), -np.inf)
        np.divide(np.einsum("ij,ij->j", C, C), variance + noise, out=gain, where=takable)
        best = int(np.argmax(gain))
        if not gain[best] > _NEGLIGIBLE * start:
            break
        column = C[:, best] / np.sqrt(C[best, best] + noise[best])
        C -= np.outer(column, column)
        free[best] = False
        rows.append(best)
        left.append(max(float(np.trace(C)), 0.0))
        if progress is not None:
            progress(1)
    return np.array(rows, dtype=np.int64), np.array(left)
