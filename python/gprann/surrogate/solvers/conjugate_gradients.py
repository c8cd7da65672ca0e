"""The solver `conjugate_gradient`: products with a covariance matrix that is never formed.

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
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from gprann import _core
from gprann.arrays import Array
from gprann.data.prediction import strain_matrices, virial_components
from gprann.data.structure import Dataset
from gprann.options import option
from gprann.surrogate.gaussian_process import Factor, PosteriorMean, conjugate_gradients, factorise
from gprann.surrogate.hyperparameters.criteria import LeftOut, Trial, left_out_variance
from gprann.surrogate.kernels.base import Fingerprint, Rows
from gprann.surrogate.kernels.internal_coordinates import (
    observed_directions,
    strain_length,
    unobserved_motions,
)
from gprann.surrogate.memory import jacobian_bytes
from gprann.surrogate.observations import observed_gradient
from gprann.surrogate.solvers.base import (
    Equations,
    Fit,
    Solution,
    leave_out_together,
    register_solver,
)
from gprann.surrogate.solvers.posterior import DensePosterior, energy_variance, representatives
from gprann.surrogate.solvers.representatives import WithRepresentatives

_log = logging.getLogger(__name__)
_MAX_ITERATIONS = 1000
_FEWEST_LEFT = 10  # structures that are no representatives; of fewer, calibration leaves representatives out
_PRODUCT_FLOPS = 14.0  # for each feature of a pair of rows, see covariance_product.hpp
_LEAST_ELIMINATED, _MOST_ELIMINATED = 3000, 15000  # observations of the representatives
_ELIMINATION = 30.0
"""Their elimination may take the time of this many products."""


@dataclass(frozen=True, slots=True)
class Eliminated(DensePosterior):
    """Representative structures, whose observations are eliminated, and the posterior that they leave.

    Attributes
    ----------
    chosen : ndarray of int64
        Their indices in the training set, ascending.
    rows : Rows
    noise : ndarray, shape (2,)
        In their covariance matrix.
    """

    chosen: NDArray[np.int64]
    rows: Rows
    noise: Array

    @classmethod
    def build(
        cls,
        equations: Equations,
        settings: Trial,
        chosen: NDArray[np.int64],
        noise: Array,
        factors: Sequence[Array] = (),
    ) -> Eliminated:
        """Factorise the covariance matrix of the structures `chosen` of a training set.

        Raises
        ------
        FactorisationError
            If it is singular.
        """
        observations, rows, _ = equations.observe(equations.data.select(chosen))
        if factors:
            return cls(observations, Factor.stored(factors[0], observations.first[-1]), chosen, rows, noise)
        K = observations.covariance(equations.length(settings))
        return cls(observations, factorise(K, observations.noise(*noise)), chosen, rows, noise)

    def within(self, kept: NDArray[np.int64]) -> Eliminated | None:
        """Return them in a part of the training set, its indices ascending; None if one of them is not in it."""
        if not np.isin(self.chosen, kept).all():
            return None
        return replace(self, chosen=np.searchsorted(kept, self.chosen))


@register_solver
class ConjugateGradients(WithRepresentatives):
    """The exact equations, solved iteratively without forming the covariance matrix.

    Standard deviations are those that the representative structures alone leave: upper bounds of the exact ones.
    """

    name = "conjugate_gradient"
    eliminates: ClassVar[bool] = True
    tolerance: float = option("Largest residual relative to the energies and forces.", 1e-4, gt=0, lt=1)

    def solve(self, equations: Equations, settings: Trial) -> Solution:
        """Return the weights, see `Solver.solve`."""
        rows = equations.fingerprint.rows(equations.data)
        chosen = representatives(rows, equations.kernel(settings), self.inducing or 1)
        eliminated = Eliminated.build(equations, settings, chosen, equations.noise(settings))
        return self._solve(equations, settings, eliminated, rows)

    def _solve(
        self,
        equations: Equations,
        settings: Trial,
        eliminated: Eliminated,
        rows: Rows | None = None,
        purpose: str = "",
    ) -> Solution:
        """Solve with representatives that are known; `purpose` says what for, where it is not the training set."""
        data = equations.data
        rows = equations.fingerprint.rows(data) if rows is None else rows
        operator = CovarianceOperator(equations, rows, equations.kernel(settings), eliminated.noise)
        reduced = ReducedSystem(operator, eliminated, data)
        values = operator.values(equations.mean)
        size = float(np.linalg.norm(values))
        found = conjugate_gradients(
            reduced.product,
            lambda residual: residual / operator.noise,
            reduced.right_side(values),
            tolerance=self.tolerance * size,
            max_iterations=_MAX_ITERATIONS,
        )
        solution = reduced.complete(found.solution, values)
        residual = float(np.linalg.norm(values - operator.product(solution))) / (size or 1.0)
        facts = {
            "inducing": len(eliminated.chosen),
            "iterations": found.iterations,
            "residual": residual,
            "converged": found.converged,
        }
        self._report(facts, purpose)
        return Solution(
            operator.posterior_mean(solution),
            float(values @ solution) / operator.n_observations,
            eliminated.noise,
            facts,
            eliminated,
            eliminated.chosen,
        )

    def _report(self, facts: Mapping[str, Any], purpose: str) -> None:
        name = f"conjugate gradients {purpose}".rstrip()
        outcome = (
            f"residual {facts['residual']:.1e} of the observations after {facts['iterations']} iterations, "
            f"{facts['inducing']} structures eliminated"
        )
        if facts["converged"]:
            _log.info("%s: %s", name, outcome)
            return
        _log.warning(
            "%s did not reach the tolerance %g: %s; %s may be less accurate: allow more memory or inducing "
            "structures, or raise force_noise",
            name,
            self.tolerance,
            outcome,
            "the factors on standard deviations" if purpose else "predictions",
        )

    def posterior(
        self,
        equations: Equations,
        settings: Trial,
        solution: Solution,
        factors: list[Array],
    ) -> Eliminated:
        """Factorise the representatives again, see `Solver.posterior`."""
        return Eliminated.build(equations, settings, solution.representatives, solution.noise, factors)

    def leave_out(self, fit: Fit, chosen: NDArray[np.int64]) -> LeftOut:
        """Return the errors of structures held out together; representatives stay where they can, with their factor."""
        kept = np.setdiff1d(np.arange(len(fit.equations.data)), chosen)
        equations = fit.equations.without(kept)
        solver = self.replace(inducing=min(self.inducing or 1, len(kept)))
        purpose = f"without {len(chosen)} structures that are held out to judge the standard deviations"
        known = _eliminated_posterior(fit).within(kept)
        quicker = (
            None if known is None else partial(solver._solve, equations, fit.settings, known, purpose=purpose)
        )
        return leave_out_together(fit, chosen, solver, equations, quicker)

    def left_out_variance(self, fit: Fit, chosen: NDArray[np.int64]) -> Array:
        """Return the variances of the energies that the other representatives leave."""
        eliminated = _eliminated_posterior(fit)
        relative = np.zeros(len(chosen))
        own = np.isin(chosen, eliminated.chosen)
        places = np.searchsorted(eliminated.chosen, chosen[own])
        variances = left_out_variance(eliminated.observations, eliminated.factor, places)
        relative[own] = np.array(variances) - fit.solution.noise[0]
        if not own.all():
            others = fit.equations.fingerprint.rows(fit.equations.data.select(chosen[~own]))
            relative[~own] = energy_variance(eliminated, others.sets(), fit.kernel)
        return relative

    def wanted_observations(self, data: Dataset, fingerprint: Fingerprint) -> float:
        """Return the observations of the representatives, where memory does not matter."""
        # A quarter of the observations always pays in iterations.
        n_observations = sum(structure.n_labels for structure in data)
        cheap = max(np.cbrt(3 * _ELIMINATION * product_operations(data, fingerprint)), n_observations / 4)
        return float(np.clip(cheap, _LEAST_ELIMINATED, _MOST_ELIMINATED))

    def representative_bytes(self, m: int, data: Dataset, features: float) -> float:
        """Return the bytes of the factor, of two where calibration leaves representatives out."""
        atoms, inducing = int(data.n_atoms.max()), self.inducing or 1
        twice = 0 < len(data) - inducing < _FEWEST_LEFT
        extra = 8.0 * m**2 + inducing * jacobian_bytes(atoms, features) if twice else 0.0
        return 8.0 * m**2 + extra


def _eliminated_posterior(fit: Fit) -> Eliminated:
    posterior = fit.posterior
    if not isinstance(posterior, Eliminated):
        raise TypeError(f"{fit.plan.solver.name}: not a fit by conjugate gradients")
    return posterior


def product_operations(data: Dataset, fingerprint: Fingerprint) -> float:
    """Return the floating-point operations of one K x without K for structures of one composition."""
    rows = fingerprint.rows(data[:1])
    of_kinds = len(data) * np.diff(rows.kind_rows[0]).astype(float)
    return float(0.5 * _PRODUCT_FLOPS * rows.features.shape[1] * (of_kinds @ of_kinds))


class CovarianceOperator:
    """K + noise of a training set as a function of a vector.

    K x takes one sweep over the neighbours that turns x into a vector of D numbers for each row, kernel sums
    over pairs of rows, 14 D operations each, and one sweep back: O(rows² D) time, O(rows D) memory.

    Parameters
    ----------
    equations : Equations
        The training set, with energies and forces.
    rows : Rows
        Features of the training set.
    kernel : RadialKernel
    noise : sequence of two floats
        Variances of energies and gradients relative to the amplitude.
    """

    def __init__(self, equations: Equations, rows: Rows, kernel: _core.RadialKernel, noise: Array) -> None:
        data = equations.data
        self._rows, self._kernel, self._data = rows, kernel, data
        self.invariant = equations.fingerprint.invariant
        self._rigid = [unobserved_motions(structure, self.invariant) for structure in data]
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

    def posterior_mean(self, x: Array) -> PosteriorMean:
        """Return the posterior mean that belongs to a vector of weights."""
        n = len(self._data)
        parts = np.split(x[n:], self._first[1:-1])
        return PosteriorMean(self._rows, x[:n], changes(self._rows, self._data, parts))

    def product(self, x: Array) -> Array:
        """Return (K + noise) x."""
        energies, slopes = self.posterior_mean(x).predict_itself(self._kernel)
        return self._vector(energies, self._in_coordinates(slopes)) + self.noise * x

    def from_others(self, others: PosteriorMean) -> Array:
        """Return the covariances with other structures times their weights."""
        energies, slopes = others.predict(self._rows, self._kernel)
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
    eliminated : Eliminated
        The representatives, with the factor of A_mm along their internal directions.
    data : Dataset
        The training set.
    """

    def __init__(self, operator: CovarianceOperator, eliminated: Eliminated, data: Dataset) -> None:
        chosen = eliminated.chosen
        self._operator, self._chosen = operator, chosen
        self._rows, self._factor = eliminated.rows, eliminated.factor
        self._data = data.select(chosen)
        self._directions = [observed_directions(structure, operator.invariant) for structure in self._data]
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
        own = PosteriorMean(self._rows, weights[self._first[:-1]], slopes)
        return self._clear(x - self._operator.from_others(own))

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
