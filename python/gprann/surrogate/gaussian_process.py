"""Linear algebra of Gaussian processes: Cholesky factors, conjugate gradients, and the mean of the posterior.

Observations stand structure by structure: the energy, then its gradients along the internal directions.
K = s_f² (K0(l) + diag(noise)), where K0 has unit amplitude and the noise is relative to it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import lapack

from gprann import _core
from gprann.arrays import Array
from gprann.errors import FactorisationError
from gprann.runtime.resources import blas_and_threads, one_blas_thread
from gprann.surrogate.kernels.base import Rows

_log = logging.getLogger(__name__)
_REPORT = 10  # iterations between two lines of the log
_RESTARTS = 5


@dataclass(frozen=True, slots=True)
class Factor:
    """Cholesky factor L of K0 + noise, in the lower triangle of `L`."""

    L: Array

    @classmethod
    def stored(cls, L: Array, n: int) -> Factor:
        """Return the factor of n rows that a file holds.

        Raises
        ------
        ValueError
            If it is none.
        """
        if L.shape != (n, n) or not np.all(np.diagonal(L) > 0):
            raise ValueError(
                f"the factor of {n} rows has shape {L.shape}, or a diagonal that is not positive"
            )
        return cls(np.ascontiguousarray(L))

    def solve(self, values: Array) -> Array:
        """Return K⁻¹ values, shape (rows,) or one right-hand side a row."""
        rows = np.array(np.atleast_2d(values), order="C")
        with blas_and_threads() as (blas, threads):
            _core.solve_lower(blas, self.L, rows, threads)
            _core.solve_lower_transposed(blas, self.L, rows, threads)
        return rows.reshape(np.shape(values))

    def half_solve(self, rows: Array) -> Array:
        """Replace every row b by L⁻¹ b, in place, and return them."""
        with blas_and_threads() as (blas, threads):
            _core.solve_lower(blas, self.L, rows, threads)
        return rows

    def half_solve_transposed(self, rows: Array) -> Array:
        """Replace every row b by L⁻ᵀ b, in place, and return them."""
        with blas_and_threads() as (blas, threads):
            _core.solve_lower_transposed(blas, self.L, rows, threads)
        return rows

    def extend(self, rows: Array) -> Factor:
        """Return the factor of a larger matrix whose first rows are those factorised here.

        Costs n² k + k³ / 3 instead of (n + k)³ / 3 operations for k more rows.

        Parameters
        ----------
        rows : ndarray, shape (k, n + k)
            Last rows of the larger matrix, noise included.

        Raises
        ------
        FactorisationError
            If the larger matrix is not positive definite.
        """
        n, size = len(self.L), rows.shape[1]
        below = self.half_solve(np.ascontiguousarray(rows[:, :n]))
        with blas_and_threads() as (blas, threads):
            corner = rows[:, n:] - below @ below.T
            row = _core.cholesky(blas, corner, threads)
        if row >= 0:
            raise _not_positive_definite(n + row, size)
        L = np.zeros((size, size))
        L[:n, :n], L[n:, :n], L[n:, n:] = self.L, below, corner
        return Factor(L)

    @property
    def log_determinant(self) -> float:
        """Log determinant of K0 + noise."""
        return 2.0 * float(np.log(np.diagonal(self.L)).sum())

    def inverse(self) -> Array:
        """Return (K0 + noise)⁻¹, both triangles; takes the place of L, which is lost."""
        with one_blas_thread():
            # A row-major lower triangle is LAPACK's upper one.
            inverse, info = lapack.dpotri(self.L.T, lower=0, overwrite_c=1)
        if info != 0:
            raise FactorisationError("the covariance matrix could not be inverted", int(info))
        inverse = inverse.T
        upper = np.triu_indices(len(inverse), 1)
        inverse[upper] = inverse.T[upper]
        return np.asarray(inverse)


def factorise(K: Array, noise: Array) -> Factor:
    """Factorise K + diag(noise) in place: the lower triangle of K is overwritten.

    Raises
    ------
    FactorisationError
        If the matrix is not positive definite, with the failing row.
    """
    K[np.diag_indices(len(K))] += noise
    with blas_and_threads() as (blas, threads):
        row = _core.cholesky(blas, K, threads)
    if row >= 0:
        raise _not_positive_definite(row, len(K))
    return Factor(K)


def _not_positive_definite(row: int, size: int) -> FactorisationError:
    return FactorisationError(
        f"the covariance matrix is not positive definite at row {row} of {size}: "
        "the kernel length is too long or the "
        "noise too small for double precision; raise force_noise or shorten length",
        row,
    )


class Restorable:
    """A covariance matrix that can be factorised several times without a second copy.

    Factorisation overwrites the lower triangle only; the upper one keeps the original.

    Parameters
    ----------
    matrix : ndarray, shape (rows, rows)
        Its lower triangle counts; it is used as working space.
    """

    _TILE = 512

    def __init__(self, matrix: Array) -> None:
        self.matrix = matrix
        self._diagonal = np.diagonal(matrix).copy()
        self._mirror(to_upper=True)

    def _mirror(self, *, to_upper: bool) -> None:
        """Copy one triangle onto the other, tile by tile."""
        n = len(self.matrix)
        for begin in range(0, n, self._TILE):
            end = min(begin + self._TILE, n)
            for other in range(0, end, self._TILE):
                lower = self.matrix[begin:end, other : min(other + self._TILE, end)]
                upper = self.matrix[other : min(other + self._TILE, end), begin:end]
                if other == begin:
                    triangle = np.tril(lower, -1) if to_upper else np.triu(lower, 1)
                    np.copyto(lower, triangle + triangle.T)
                elif to_upper:
                    np.copyto(upper, lower.T)
                else:
                    np.copyto(lower, upper.T)
        self.matrix[np.diag_indices(n)] = self._diagonal

    def restore(self) -> Array:
        """Return the matrix with its lower triangle as it was at first."""
        self._mirror(to_upper=False)
        return self.matrix


class PosteriorMean:
    """The features of the training set with their weights: all that a mean prediction needs.

    Parameters
    ----------
    rows : Rows
        Of the n training structures.
    energy_weights : ndarray, shape (n,)
        Weight of the energy of each structure.
    slopes : ndarray, shape (rows, D)
        Weights of the gradients times the Jacobians.
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
        """Make the mean from weights alpha of energies and gradients along internal directions, by structure."""
        size = rows.features.shape[1]
        slopes = [
            (jacobian @ alpha[begin + 1 : end]).reshape(-1, size)
            for jacobian, begin, end in zip(jacobians, first[:-1], first[1:], strict=True)
        ]
        return cls(rows, alpha[first[:-1]], np.concatenate(slopes))

    def state(self) -> dict[str, Array]:
        """Return the weights; with the rows of the training set they make the mean again."""
        return {"energy_weight": self.energy_weight, "slope": self.slope}

    @classmethod
    def from_state(cls, rows: Rows, state: Mapping[str, Array]) -> PosteriorMean:
        """Make the mean from the rows of its training set and what `state` gave."""
        mean = cls(rows, np.zeros(len(rows.kind_rows)), np.zeros_like(rows.features))
        for name in ("energy_weight", "slope"):
            array, expected = np.ascontiguousarray(state[name], dtype=np.float64), getattr(mean, name).shape
            if array.shape != expected:
                raise ValueError(f"{name} has shape {array.shape}, expected {expected}")
            setattr(mean, name, array)
        return mean

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
        return _in_row_order(energies, slopes, order, rows.kind_rows[:, 0])

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
        return _in_row_order(energies, slopes, self._order, self._structures)


def _by_kind(rows: Rows) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the order of the rows by kind, and where each kind begins."""
    kinds = rows.kinds()
    order = np.argsort(kinds, kind="stable")
    first = np.searchsorted(kinds[order], np.arange(rows.kind_rows.shape[1]))
    return order, first.astype(np.int64)


def _in_row_order(
    energies: Array, slopes: Array, order: NDArray[np.int64], structures: NDArray[np.int64]
) -> tuple[Array, Array]:
    """Return the energies of structures and the slopes in the order of the rows."""
    own_energies, own_slopes = np.empty_like(energies), np.empty_like(slopes)
    own_energies[order], own_slopes[order] = energies, slopes
    return np.add.reduceat(own_energies, structures), own_slopes


@dataclass(frozen=True, slots=True)
class Convergence:
    """Result of conjugate gradients.

    Attributes
    ----------
    solution : ndarray
    iterations : int
    residual : float
        |b - A x|, computed anew at the end.
    converged : bool
    """

    solution: Array
    iterations: int
    residual: float
    converged: bool


def conjugate_gradients(
    product: Callable[[Array], Array],
    precondition: Callable[[Array], Array],
    b: Array,
    *,
    tolerance: float,
    max_iterations: int,
) -> Convergence:
    """Solve A x = b by preconditioned conjugate gradients.

    Begun anew from the true residual where the updated one has drifted away from it.

    Parameters
    ----------
    product : callable
        A x, symmetric positive definite.
    precondition : callable
        Approximation of A⁻¹ r.
    b : ndarray
    tolerance : float
        Largest |b - A x|.
    max_iterations : int

    Raises
    ------
    FactorisationError
        If A turns out not to be positive definite, or not finite.

    Examples
    --------
    >>> A = np.array([[4.0, 1.0], [1.0, 3.0]])
    >>> solve = lambda r: r / np.diagonal(A)
    >>> found = conjugate_gradients(
    ...     A.__matmul__, solve, np.array([1.0, 2.0]), tolerance=1e-12, max_iterations=10
    ... )
    >>> found.iterations, found.converged, np.round(found.solution, 4).tolist()
    (2, True, [0.0909, 0.6364])
    """
    x, r = np.zeros_like(b), b
    residual, done = float(np.linalg.norm(b)), 0
    for _ in range(_RESTARTS):
        if residual <= tolerance or done >= max_iterations:
            break
        x, iterations = _descend(product, precondition, (x, r), tolerance, range(done, max_iterations))
        done += iterations
        r = b - product(x)
        before, residual = residual, float(np.linalg.norm(r))
        if residual > 0.5 * before:
            break  # as small as rounding lets it become
    return Convergence(x, done, residual, residual <= tolerance)


def _descend(
    product: Callable[[Array], Array],
    precondition: Callable[[Array], Array],
    start: tuple[Array, Array],
    target: float,
    iterations: range,
) -> tuple[Array, int]:
    """Iterate from (x, residual) until the updated residual is below `target`; return x and how many were done."""
    x, r = start
    z = precondition(r)
    p, rz = z, float(r @ z)
    done = 0
    for iteration in iterations:
        Ap = product(p)
        curvature = float(p @ Ap)
        if not (np.isfinite(curvature) and curvature > 0 and rz > 0):
            raise FactorisationError(
                f"conjugate gradients: the covariance matrix is not positive definite (iteration {iteration}): the "
                "kernel length is too long or the noise too small for double precision; raise force_noise or "
                "shorten length"
            )
        step = rz / curvature
        x = x + step * p
        r = r - step * Ap
        done += 1
        norm = float(np.linalg.norm(r))
        if (iteration + 1) % _REPORT == 0:
            _log.info(
                "conjugate gradients: iteration %d, residual %.1e, %.1e is the aim",
                iteration + 1,
                norm,
                target,
            )
        if norm <= target:
            break
        z = precondition(r)
        rz, before = float(r @ z), rz
        p = z + rz / before * p
    return x, done
