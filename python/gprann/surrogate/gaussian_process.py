"""Gaussian-process regression of energies and gradients: one covariance matrix, factorised in place.

Observations stand structure by structure: the energy, then its gradients along the internal directions.
K = s_f² (K0(l) + diag(noise)), where K0 has unit amplitude and the noise is relative to it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import lapack

from gprann import _core
from gprann.errors import FactorisationError
from gprann.runtime.resources import blas_and_threads, one_blas_thread

__all__ = ["Factor", "Problem", "Radial", "Restorable", "factorise", "radial_kernel"]

Array = NDArray[np.float64]
Radial = Literal["squared_exponential", "matern52"]
_RADIAL_KERNELS: dict[Radial, Callable[[float, bool, float], _core.RadialKernel]] = {
    "squared_exponential": _core.SquaredExponential,
    "matern52": _core.Matern52,
}


def radial_kernel(
    radial: Radial, length: float, *, shift: float = 0.0, derivative: bool = False
) -> _core.RadialKernel:
    """Return the kernel of this name, or its derivative with respect to log l.

    `shift` is added to it: the prior variance, relative to the kernel's own, of a shift of all energies.
    """
    return _RADIAL_KERNELS[radial](length, derivative, shift)


@dataclass(frozen=True, slots=True)
class Problem:
    """Observations of n structures.

    Attributes
    ----------
    sets : compiled features and Jacobians
    first : ndarray of int64, shape (n + 1,)
        Row of the energy of each structure.
    values : ndarray, shape (first[-1],)
        Energies less their mean, eV, and gradients along the internal directions, eV/Å.
    radial : {'squared_exponential', 'matern52'}
        Kernel as a function of the distance of two rows of features.
    shift : float
        Of the kernel, see `radial_kernel`.
    """

    sets: _core.FeatureSets
    first: NDArray[np.int64]
    values: Array
    radial: Radial = "squared_exponential"
    shift: float = 0.0

    @property
    def is_energy(self) -> NDArray[np.bool_]:
        """Mask of the rows that are energies."""
        mask = np.zeros(len(self.values), dtype=bool)
        mask[self.first[:-1]] = True
        return mask

    def kernel(self, length: float, *, derivative: bool = False) -> _core.RadialKernel:
        """Return the radial kernel, or its derivative with respect to log l."""
        return radial_kernel(self.radial, length, shift=self.shift, derivative=derivative)

    def covariance(self, length: float, *, derivative: bool = False) -> Array:
        """Return K0, lower triangle, or its derivative with respect to log l; shape (rows, rows)."""
        rows = len(self.values)
        K = np.zeros((rows, rows))
        kernel = self.kernel(length, derivative=derivative)
        with blas_and_threads() as (blas, threads):
            _core.covariance(self.sets, self.sets, kernel, blas, True, threads, K)
        return K

    def noise(self, energy_noise: float, force_noise: float) -> Array:
        """Return the diagonal of the noise for variances relative to the amplitude, shape (rows,)."""
        return np.where(self.is_energy, energy_noise, force_noise)


@dataclass(frozen=True, slots=True)
class Factor:
    """Cholesky factor L of K0 + noise, in the lower triangle of `L`."""

    L: Array

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

    def extended(self, rows: Array) -> Factor:
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

    def restored(self) -> Array:
        """Return the matrix with its lower triangle as it was at first."""
        self._mirror(to_upper=False)
        return self.matrix
