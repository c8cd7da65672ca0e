"""Products with a covariance matrix that is never formed, and conjugate gradients with them.

The condition number of K + noise (about 10¹²) is out of reach of conjugate gradients, and of any preconditioner
that is not applied to almost all digits: what it leaves of the large eigenvalues is amplified by as much. So
the observations m of some representative structures are eliminated by a Cholesky factorisation, which is
exact; what remains for the others, o, is the Schur complement

    S = A_oo - A_om A_mm⁻¹ A_mo,   A = K + noise,

the covariance of what the representatives do not predict. It is smaller than K by orders of magnitude, while
its smallest eigenvalue is still the noise.

Vectors hold the energies of the n structures, then their gradients in the coordinates of `observed_directions`.
Gradients are kept orthogonal to the rigid motions of their structures, so that the solution is that along the
internal directions of the dense matrix, without a basis of them.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gprann import _core
from gprann.data.strain import strain_matrices, virial_components
from gprann.data.structure import Dataset
from gprann.errors import FactorisationError
from gprann.surrogate.gaussian_process import Factor
from gprann.surrogate.kernels.fingerprints import Rows
from gprann.surrogate.kernels.internal_coordinates import (
    observed_directions,
    strain_length,
    unobserved_motions,
)
from gprann.surrogate.observations import observed_gradient
from gprann.surrogate.posterior_mean import PosteriorMean

__all__ = ["Convergence", "CovarianceOperator", "ReducedSystem", "conjugate_gradients"]

Array = NDArray[np.float64]
_log = logging.getLogger(__name__)
_REPORT = 10  # iterations between two lines of the log
_RESTARTS = 5


class CovarianceOperator:
    """K + noise of a training set as a function of a vector.

    K x takes one sweep over the neighbours that folds x into a vector of D numbers for each row, kernel sums
    over pairs of rows, 14 D operations each, and one sweep back: O(rows² D) time, O(rows D) memory.

    Parameters
    ----------
    rows : Rows
        Features of the training set.
    data : Dataset
        The training set, with energies and forces.
    invariant : {'rotation', 'translation'}
        Rigid motions that leave the features unchanged.
    kernel : RadialKernel
    noise : sequence of two floats
        Variances of energies and gradients relative to the amplitude.
    """

    def __init__(
        self,
        rows: Rows,
        data: Dataset,
        invariant: str,
        kernel: _core.RadialKernel,
        noise: Array,
    ) -> None:
        self._rows, self._kernel, self._data = rows, kernel, data
        self._rigid = [unobserved_motions(structure, invariant) for structure in data]
        self._first = first_coordinates(data)
        lengths = [0.0 if structure.stress is None else strain_length(structure) for structure in data]
        self._strain_lengths, self._stressed = np.array(lengths), np.flatnonzero(lengths)
        self.noise = np.repeat(noise, [len(data), self._first[-1]])

    @property
    def n_observations(self) -> int:
        """Number of energies and of gradients along internal directions."""
        return len(self.noise) - sum(int(motions.shape[1]) for motions in self._rigid)

    def values(self, mean: float) -> Array:
        """Return the observations: energies less `mean` and gradients."""
        gradients = [observed_gradient(structure) for structure in self._data]
        return self._vector(self._data.energies - mean, gradients)

    def _vector(self, energies: Array, gradients: list[Array]) -> Array:
        internal = [
            gradient - motions @ (gradient @ motions)
            for gradient, motions in zip(gradients, self._rigid, strict=True)
        ]
        return np.concatenate([energies, *internal])

    def _in_coordinates(self, slopes: Array) -> list[Array]:
        """Return the gradients that belong to slopes of the features, virials in those of stresses."""
        positions, virials = self._rows.gradients(slopes)
        gradients = [gradient.ravel() for gradient in positions]
        if virials is not None:
            components = virial_components(virials)
            for index in self._stressed:
                own = components[index] / self._strain_lengths[index]
                gradients[index] = np.concatenate([gradients[index], own])
        return gradients

    def fold(self, x: Array) -> PosteriorMean:
        """Return the training set folded with a vector of weights."""
        n = len(self._data)
        parts = np.split(x[n:], self._first[1:-1])
        return PosteriorMean(self._rows, x[:n], changes(self._rows, self._data, parts))

    def product(self, x: Array) -> Array:
        """Return (K + noise) x."""
        energies, slopes = self.fold(x).predict_itself(self._kernel)
        return self._vector(energies, self._in_coordinates(slopes)) + self.noise * x

    def from_others(self, folded: PosteriorMean) -> Array:
        """Return the covariances with other structures times the weights these are folded with."""
        energies, slopes = folded.predict(self._rows, self._kernel)
        return self._vector(energies, self._in_coordinates(slopes))


def first_coordinates(data: Dataset) -> NDArray[np.int64]:
    """Return where the coordinates of each structure begin (see `observed_directions`), shape (n + 1,)."""
    sizes = [structure.n_labels - 1 for structure in data]
    return np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)


def changes(rows: Rows, data: Dataset, parts: Sequence[Array]) -> Array:
    """Return the changes of the features, (rows, D), along coordinates, (3N,) or (3N + 6,) for each structure."""
    displacements, strains = [], np.zeros((len(data), 6))
    for index, (structure, part) in enumerate(zip(data, parts, strict=True)):
        size = 3 * len(structure)
        displacements.append(part[:size].reshape(-1, 3))
        if len(part) > size:
            strains[index] = part[size:] / strain_length(structure)
    return rows.tangents(displacements, strain_matrices(strains) if np.any(strains) else None)


class ReducedSystem:
    """Equations of a training set from which those of representative structures are eliminated.

    Vectors are those of the operator, with zeros at the representatives.

    Parameters
    ----------
    operator : CovarianceOperator
    rows : Rows
        Of the representatives.
    data : Dataset
        The training set.
    chosen : ndarray of int64
        Indices of the representatives.
    factor : Factor
        Of their A_mm, along their internal directions.
    invariant : {'rotation', 'translation'}
    """

    def __init__(
        self,
        operator: CovarianceOperator,
        rows: Rows,
        data: Dataset,
        chosen: NDArray[np.int64],
        *,
        factor: Factor,
        invariant: str,
    ) -> None:
        self._operator, self._rows, self._chosen, self._factor = operator, rows, chosen, factor
        self._data = data.select(chosen)
        self._directions = [observed_directions(structure, invariant) for structure in self._data]
        first = len(data) + first_coordinates(data)
        self._places = [slice(first[index], first[index + 1]) for index in chosen]
        sizes = [1 + directions.shape[1] for directions in self._directions]
        self._first = np.concatenate([[0], np.cumsum(sizes)])

    def _clear(self, x: Array) -> Array:
        x[self._chosen] = 0.0
        for place in self._places:
            x[place] = 0.0
        return x

    def _weights(self, x: Array) -> Array:
        """Return A_mm⁻¹ x_m along internal directions."""
        own = np.empty(self._first[-1])
        own[self._first[:-1]] = x[self._chosen]
        parts = zip(self._first[:-1] + 1, self._first[1:], self._places, self._directions, strict=True)
        for begin, end, place, directions in parts:
            own[begin:end] = x[place] @ directions
        return self._factor.solve(own)

    def _gradients(self, weights: Array) -> list[Array]:
        """Return the weights of the representatives in their coordinates."""
        return [
            directions @ weights[begin:end]
            for begin, end, directions in zip(
                self._first[:-1] + 1, self._first[1:], self._directions, strict=True
            )
        ]

    def _without_explained(self, x: Array) -> Array:
        """Return x_o - A_om A_mm⁻¹ x_m."""
        weights = self._weights(x)
        slopes = changes(self._rows, self._data, self._gradients(weights))
        folded = PosteriorMean(self._rows, weights[self._first[:-1]], slopes)
        return self._clear(x - self._operator.from_others(folded))

    def right_side(self, values: Array) -> Array:
        """Return y_o - A_om A_mm⁻¹ y_m: what the representatives do not predict of the others."""
        return self._without_explained(values)

    def product(self, x: Array) -> Array:
        """Return S x."""
        return self._without_explained(self._operator.product(x))

    def complete(self, x: Array, values: Array) -> Array:
        """Return the solution of all equations, A_mm⁻¹ (y_m - A_mo x_o) at the representatives."""
        weights = self._weights(values - self._operator.product(x))
        solution = x.copy()
        solution[self._chosen] = weights[self._first[:-1]]
        for place, part in zip(self._places, self._gradients(weights), strict=True):
            solution[place] = part
        return solution


@dataclass(frozen=True, slots=True)
class Convergence:
    """What conjugate gradients came to.

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
        x, done = _descend(
            product, precondition, x, r, target=tolerance, done=done, max_iterations=max_iterations
        )
        r = b - product(x)
        before, residual = residual, float(np.linalg.norm(r))
        if residual > 0.5 * before:
            break  # as small as rounding lets it become
    return Convergence(x, done, residual, residual <= tolerance)


def _descend(
    product: Callable[[Array], Array],
    precondition: Callable[[Array], Array],
    x: Array,
    r: Array,
    *,
    target: float,
    done: int,
    max_iterations: int,
) -> tuple[Array, int]:
    """Iterate from x with residual r until the updated residual is below `target`; x and iterations done."""
    z = precondition(r)
    p, rz = z, float(r @ z)
    while done < max_iterations:
        Ap = product(p)
        curvature = float(p @ Ap)
        if not (np.isfinite(curvature) and curvature > 0 and rz > 0):
            raise FactorisationError(
                f"conjugate gradients: the covariance matrix is not positive definite (iteration {done}): the "
                "kernel length is too long or the noise too small for double precision; raise force_noise or "
                "shorten length"
            )
        step = rz / curvature
        x = x + step * p
        r = r - step * Ap
        done += 1
        norm = float(np.linalg.norm(r))
        if done % _REPORT == 0:
            _log.info("conjugate gradients: iteration %d, residual %.1e, %.1e is the aim", done, norm, target)
        if norm <= target:
            break
        z = precondition(r)
        rz, before = float(r @ z), rz
        p = z + rz / before * p
    return x, done
