"""The algebra of sparse models: representative environments, their covariances row by row, and streamed QR.

With A the covariances of the observations with M environments, Λ their noise and K_MM = Uᵀ U, the weights c of the
environments minimise |Λ^-1/2 (A c - y)|² + |U c|². The triangle of the QR factorisation of [Λ^-1/2 A; U] is found
block by block (Demmel et al., SIAM J. Sci. Comput. 34, A206 (2012)), so that memory does not grow with the number of
structures, and no digits are lost to normal equations (Foster et al., J. Mach. Learn. Res. 10, 857 (2009)).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy.linalg import lapack, solve_triangular

from gprann import _core
from gprann.arrays import Array
from gprann.data.structure import Dataset
from gprann.errors import FactorisationError
from gprann.runtime.resources import blas_and_threads
from gprann.surrogate.gaussian_process import Factor
from gprann.surrogate.kernels.base import Environments, Fingerprint
from gprann.surrogate.kernels.internal_coordinates import observed_directions

BLOCK_ROWS = 4096
"""Gradients of the training set whose covariances with the environments are formed at a time, about."""
POOL = 4000
"""Environments, drawn at random, among which representatives are chosen; twice their number if that is more."""
_SMALLEST = (
    1e-12  # variance of an environment, given those chosen before, for which it is no other than these
)
_JITTER = 1e-13  # relative to the variance of an environment
_PANEL = 32  # columns of a block of Householder reflections


def blocks(data: Dataset, rows: int = BLOCK_ROWS) -> Iterator[Dataset]:
    """Yield consecutive structures that have about so many gradients together."""
    begin = 0
    sizes = 3 * data.n_atoms
    while begin < len(data):
        end = begin + 1
        while end < len(data) and sizes[begin : end + 1].sum() <= rows:
            end += 1
        yield data[begin:end]
        begin = end


def choose_environments(
    fingerprint: Fingerprint,
    data: Dataset,
    kernel: _core.RadialKernel,
    most: int,
    tolerance: float,
) -> tuple[Environments, float]:
    """Choose environments one by one, each the least certain given those before, until all others are certain.

    This is the pivoted Cholesky factorisation of their covariance matrix (Harbrecht, Peters and Schneider, Appl. Numer.
    Math. 62, 428 (2012)), of a random pool of environments in large sets.

    Parameters
    ----------
    fingerprint : Fingerprint
        Local.
    data : Dataset
    kernel : RadialKernel
    most : int
        Number of environments at most.
    tolerance : float
        Mean variance of the environments, relative to the prior one, at which no more are chosen.

    Returns
    -------
    environments : Environments
    residual : float
        Mean variance of the others given them, relative to the prior one.
    """
    features, kinds = _pool(fingerprint, data, max(POOL, 2 * most))
    n_kinds = len(fingerprint.kinds)
    order = np.argsort(kinds, kind="stable")
    features, kinds = np.ascontiguousarray(features[order]), kinds[order]
    first = np.searchsorted(kinds, np.arange(n_kinds + 1)).astype(np.int64)
    K = environment_covariance(Environments(features, first), kernel)
    prior = float(K[0, 0])
    total = float(np.trace(K))
    upper, pivots, rank, _ = lapack.dpstrf(K.T, tol=_SMALLEST * prior, lower=0, overwrite_a=1)
    explained = np.array([float(np.square(upper[k, k:]).sum()) for k in range(int(rank))])
    left = np.maximum(1.0 - np.cumsum(explained) / total, 0.0)
    enough = int(np.argmax(left <= tolerance)) + 1 if np.any(left <= tolerance) else int(rank)
    count = min(most, enough)
    chosen = np.sort(pivots[:count] - 1)
    first = np.searchsorted(kinds[chosen], np.arange(n_kinds + 1)).astype(np.int64)
    return Environments(np.ascontiguousarray(features[chosen]), first), float(left[count - 1])


def _pool(fingerprint: Fingerprint, data: Dataset, size: int) -> tuple[Array, Array]:
    """Return features and kinds of `size` random environments, of all if there are no more."""
    total = int(data.n_atoms.sum())
    drawn = np.arange(total)
    if total > size:
        drawn = np.sort(np.random.default_rng(4).choice(total, size, replace=False))
    features, kinds, begin = [], [], 0
    for block in blocks(data):
        rows = fingerprint.rows(block)
        end = begin + len(rows.features)
        own = drawn[(drawn >= begin) & (drawn < end)] - begin
        features.append(rows.features[own])
        kinds.append(rows.kinds()[own])
        begin = end
    return np.concatenate(features), np.concatenate(kinds)


def environment_covariance(environments: Environments, kernel: _core.RadialKernel) -> Array:
    """Return K_MM, (M, M)."""
    sets = environments.rows().sets()
    K = np.zeros((len(environments), len(environments)))
    with blas_and_threads() as (blas, threads):
        _core.energy_covariance(sets, sets, kernel, blas, threads, K)
    return K


def prior_root(environments: Environments, kernel: _core.RadialKernel) -> Array:
    """Return U, upper triangular with Uᵀ U = K_MM, to whose diagonal as little is added as double precision needs.

    Raises
    ------
    FactorisationError
        If even a thousand times the smallest addition does not do.
    """
    K = environment_covariance(environments, kernel)
    prior = float(K[0, 0])
    for factor in (1.0, 10.0, 100.0, 1000.0):
        shifted = K.copy()
        shifted[np.diag_indices(len(K))] += factor * _JITTER * len(K) * prior
        # The row-major lower triangle of a symmetric matrix is LAPACK's upper one.
        upper, info = lapack.dpotrf(shifted.T, lower=0, clean=1, overwrite_a=1)
        if info == 0:
            return np.asarray(upper)
    raise FactorisationError(
        f"the covariance matrix of {len(K)} environments is not positive definite: the kernel length is too long for "
        "double precision; shorten length, or use fewer environments"
    )


class Triangle:
    """R of the QR factorisation of a matrix to which rows are appended.

    Parameters
    ----------
    columns : int

    Attributes
    ----------
    R : ndarray, shape (columns, columns)
        Upper triangular; Rᵀ R is the Gram matrix of all rows.

    Examples
    --------
    >>> rows = np.random.default_rng(0).normal(size=(7, 3))
    >>> triangle = Triangle(3).append(rows[:4]).append(rows[4:])
    >>> bool(np.allclose(triangle.R.T @ triangle.R, rows.T @ rows))
    True
    """

    def __init__(self, columns: int) -> None:
        self.R = np.zeros((columns, columns), order="F")

    def append(self, rows: Array) -> Triangle:
        """Append rows, (m, columns), and return itself."""
        if len(rows):
            panel = min(_PANEL, len(self.R))
            # A copy only if they do not lie column by column already.
            block = np.array(rows, order="F", copy=None)
            self.R, *_ = lapack.dtpqrt(0, panel, self.R, block, overwrite_a=1, overwrite_b=1)
        return self

    def join(self, R: Array) -> Triangle:
        """Append the rows of another triangle, and return itself."""
        panel, size = min(_PANEL, len(self.R)), len(self.R)
        self.R, *_ = lapack.dtpqrt(size, panel, self.R, np.array(R, order="F"), overwrite_a=1, overwrite_b=1)
        return self

    def copy(self) -> Triangle:
        """Return a copy, to which other rows may be appended."""
        other = Triangle(0)
        other.R = self.R.copy(order="F")
        return other


@dataclass(slots=True)
class Equation:
    """Triangles of all energies and of all gradients without their noise, so that any noises can be tried.

    Attributes
    ----------
    energy : Triangle, M + S + 1 columns
        Of [A | counts | y]: covariances with the environments, atoms of each kind, energies less their mean. Each row
        is divided by the root of the number of atoms in units of `atoms`.
    gradient : Triangle, M + 1 columns
        Of [A | y].
    atoms : float
        Number of atoms of the structure whose energy has the noise that is given.
    observations : int
        Energies and gradients, rigid motions not counted.
    """

    energy: Triangle
    gradient: Triangle
    atoms: float
    observations: int

    @classmethod
    def empty(cls, environments: int, kinds: int, atoms: float) -> Equation:
        """Return the triangles of no observations."""
        return cls(Triangle(environments + kinds + 1), Triangle(environments + 1), atoms, 0)

    def join(self, other: Equation) -> None:
        """Append the observations of another equation, of the same environments and `atoms`."""
        self.energy.join(other.energy.R)
        self.gradient.join(other.gradient.R)
        self.observations += other.observations

    @property
    def kinds(self) -> int:
        """Number of columns of counts."""
        return len(self.energy.R) - len(self.gradient.R)

    def gradient_variance(self, root: Array) -> float:
        """Return the sum of the variances of all gradients under the model: the squares of A U⁻¹."""
        M = len(root)
        half = solve_triangular(root, self.gradient.R[:M, :M].T, trans="T", lower=False, check_finite=False)
        return float(np.square(half).sum())

    def move(self, shift: Array) -> None:
        """Subtract `shift`, (S,), from the energies for each atom of every kind."""
        first = len(self.energy.R) - 1 - self.kinds
        self.energy.R[:, -1] -= self.energy.R[:, first:-1] @ shift

    def solve(self, root: Array, noise: Array) -> Solved:
        """Return the weights for noise variances of energies and gradients relative to the amplitude.

        Parameters
        ----------
        root : ndarray, shape (M, M)
            U.
        noise : ndarray, shape (2,)

        Raises
        ------
        FactorisationError
            If the weights are not finite.
        """
        M = len(root)
        energy = self.energy.R[: M + 1, [*range(M), -1]]
        energy[M, M] = np.linalg.norm(
            self.energy.R[M:, -1]
        )  # the rows of the counts, which have no covariances
        prior = np.zeros((M + 1, M + 1), order="F")
        prior[:M, :M] = root
        triangle = Triangle(M + 1)
        triangle.R[:, :] = self.gradient.R / np.sqrt(noise[1])
        triangle.join(energy / np.sqrt(noise[0])).join(prior)
        R, projected = triangle.R[:M, :M], triangle.R[:M, M]
        weights = solve_triangular(R, projected, check_finite=False)
        if not np.all(np.isfinite(weights)):
            raise FactorisationError(
                "the weights of the environments are not finite: raise force_noise or shorten length"
            )
        return Solved(np.ascontiguousarray(R.T), weights, float(triangle.R[M, M] ** 2))


@dataclass(frozen=True, slots=True)
class Solved:
    """Weights of the environments.

    Attributes
    ----------
    lower : ndarray, shape (M, M)
        Rᵀ: R of the QR factorisation of all whitened rows and U.
    weights : ndarray, shape (M,)
    misfit : float
        yᵀ (Q + Λ)⁻¹ y with Q = A K_MM⁻¹ Aᵀ, relative to the amplitude.
    """

    lower: Array
    weights: Array
    misfit: float


@dataclass(frozen=True, slots=True)
class SparsePosterior:
    """Posterior of a sparse model: the projected process with the variance that the projection leaves out.

    k_** - |U⁻ᵀ k_*|² + |R⁻ᵀ k_*|² (the deterministic training conditional of Quiñonero-Candela and Rasmussen, J.
    Mach. Learn. Res. 6, 1939 (2005)).

    Attributes
    ----------
    sets : FeatureSets
        The environments, each a structure of its own.
    environments : Environments
    root : ndarray, shape (M, M)
        U.
    equation : Equation
    solved : Solved
    """

    sets: _core.FeatureSets
    environments: Environments
    root: Array
    equation: Equation
    solved: Solved

    def half_solve(self, cross: Array) -> tuple[Array, Array]:
        """Return U⁻ᵀ k and R⁻ᵀ k for the rows k of `cross`."""
        prior, left = np.array(cross, order="C"), np.array(cross, order="C")
        Factor(np.ascontiguousarray(self.root.T)).half_solve(prior)
        Factor(self.solved.lower).half_solve(left)
        return prior, left

    def cross(self, fingerprint: Fingerprint, own: Dataset, kernel: _core.RadialKernel) -> Array:
        """Return the covariances of a structure with the environments, see `WithRows`."""
        energies, gradients, _ = fingerprint.environment_rows(own, self.environments, kernel)
        directions = observed_directions(own[0], fingerprint.invariant)
        return np.vstack([energies.T, directions.T @ gradients.T])

    def variance(self, prior: Array, cross: Array) -> Array:
        """Return variances (q,)."""
        explained, left = self.half_solve(cross)
        missing = np.maximum(prior - np.square(explained).sum(axis=1), 0.0)
        variance: Array = missing + np.square(left).sum(axis=1)
        return variance

    def covariance(self, prior: Array, cross: Array) -> Array:
        """Return covariances (q, q)."""
        explained, left = self.half_solve(cross)
        return prior - explained @ explained.T + left @ left.T

    def weights_of(self, cross: Array) -> Array:
        """Return (U⁻¹ U⁻ᵀ - R⁻¹ R⁻ᵀ) k, see `Posterior.weights_of`."""
        prior = Factor(np.ascontiguousarray(self.root.T)).solve(cross)
        return prior - Factor(self.solved.lower).solve(cross)

    @property
    def factors(self) -> list[Array]:
        """Triangles of energies and of gradients, for a file."""
        facts = np.array([self.equation.atoms, float(self.equation.observations)])
        return [*(np.array(t.R, order="C") for t in (self.equation.energy, self.equation.gradient)), facts]
