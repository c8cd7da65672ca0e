"""Hyperparameters of a training set: those that are not given, from random subsets of it."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from gprann.data.structure import Dataset
from gprann.errors import ConfigError, FactorisationError, nearest_name
from gprann.runtime.resources import GIB
from gprann.surrogate.gaussian_process import Radial, Restorable, factorise
from gprann.surrogate.hyperparameters.grid import Grid
from gprann.surrogate.hyperparameters.likelihood import maximise_likelihood
from gprann.surrogate.hyperparameters.search import (
    ErrorOfNoise,
    choose_by_leaving_out,
    choose_length,
    describe,
    refine,
)
from gprann.surrogate.hyperparameters.settings import (
    Fixed,
    Settings,
    gradient_scale,
    leave_out_in_turn,
    scan,
    with_fixed,
)
from gprann.surrogate.kernels.fingerprints import Fingerprint
from gprann.surrogate.observations import build_problem, observations
from gprann.surrogate.posterior_mean import PosteriorMean
from gprann.surrogate.solvers.plan import features_per_atom, memory_within, structures_within

__all__ = [
    "IN_TURN_ROWS",
    "SMALL_ROWS",
    "START",
    "Choice",
    "Method",
    "check_method",
    "fit_memory",
    "small_subset",
    "structures_for",
]

_log = logging.getLogger(__name__)
Method = Literal["held_out", "likelihood", "leave_one_out", "k_fold", "grid"]
SMALL_ROWS = 1700  # observations of the subset for the likelihood (about 20 evaluations)
_LEAVE_OUT_ROWS = 3400  # at most, for a set to be judged by structures left out in turn
_FOLDS = 5  # groups in which they are left out by k_fold
_HALF_ROWS = 7000  # of the half from which the other half is predicted
_HOLD_OUT_ROWS = 11000  # of the four fifths from which the last fifth is predicted
_MATRICES = 4
"""Of the size of a subset that its likelihood needs, and the leave-one-out errors of several settings."""
IN_TURN_ROWS = 5500
"""Of the last structures of a set, which are left out one by one of all others."""
START = Settings(8.0, 1e-8, 1e-8)
_SINGLE = Settings(4.0, 1e-6, 1e-6)  # for a single structure, from which nothing can be held out


def check_method(method: str, grid: Mapping[str, Sequence[float]] | None, fixed: Fixed) -> None:
    """Refuse a way to find hyperparameters that there is not, or that leaves nothing to find.

    Raises
    ------
    ConfigError
    """
    if method not in get_args(Method):
        raise ConfigError(f"hyperparameters = '{method}': {nearest_name(method, get_args(Method))}")
    if method != "held_out" and None not in fixed:
        raise ConfigError(f"hyperparameters = '{method}': has no effect, all are given; leave it out")
    if grid is not None and method != "grid":
        raise ConfigError(f"grid belongs to hyperparameters = 'grid', not to '{method}'")


@dataclass(frozen=True, slots=True)
class Choice:
    """What is to be chosen, and how.

    Attributes
    ----------
    fingerprint : Fingerprint
        Fitted to the training set.
    radial : {'squared_exponential', 'matern52'}
    fixed : tuple of length, energy noise and force noise
        Those that are given, None for the others.
    method : {'held_out', 'likelihood', 'leave_one_out', 'k_fold', 'grid'}
        See `Surrogate`.
    seed : int
        Of the random subsets.
    memory : float, GiB
        Budget: with little of it subsets are smaller.
    grid : Grid
        Points that the method `grid` tries.
    start : Settings
        Where the search for the maximum of the likelihood begins.
    """

    fingerprint: Fingerprint
    radial: Radial
    fixed: Fixed
    method: Method
    seed: int
    memory: float
    grid: Grid
    start: Settings = START

    def choose(self, data: Dataset, mean: float) -> Settings:
        """Return the hyperparameters: those given, the others from random subsets of the training set."""
        fixed, n = self.fixed, len(data)
        if all(fixed):
            return with_fixed(START, fixed)
        if n < 2 or not any(np.any(observations(item, mean, self.fingerprint.invariant)) for item in data):
            return with_fixed(_SINGLE, fixed)
        shuffled = data.select(np.random.default_rng(self.seed).permutation(n))
        if self.method == "grid":
            return self._on_grid(shuffled, mean)
        start = self._likely(shuffled, mean)
        if self.method == "likelihood":
            return start
        left_out = shuffled[: self._count(data, _LEAVE_OUT_ROWS, _MATRICES)]
        if self.method in ("leave_one_out", "k_fold") or n == len(left_out):
            problem, _, _ = build_problem(self.fingerprint, left_out, mean, self.radial)
            groups = _folds(len(left_out)) if self.method == "k_fold" else None
            return choose_by_leaving_out(problem, start, self.fingerprint.spread, fixed, groups=groups)
        return self._by_holding_out(shuffled, mean, start)

    def _count(self, data: Dataset, rows: int, matrices: int) -> int:
        """Return how many structures give about `rows` observations, or fewer that leave the budget room."""
        features = features_per_atom(data, self.fingerprint)
        return min(
            structures_for(data, rows), structures_within(data, self.memory, matrices, features=features)
        )

    def _likely(self, shuffled: Dataset, mean: float) -> Settings:
        """Return the maximum of the likelihood of a small subset."""
        subset = shuffled[: self._count(shuffled, SMALL_ROWS, _MATRICES)]
        problem, _, _ = build_problem(self.fingerprint, subset, mean, self.radial)
        start = with_fixed(self.start, self.fixed)
        found = maximise_likelihood(problem, start, self.fingerprint.spread, self.fixed)
        _log.info("likelihood: %s", describe(found))
        return found

    def _on_grid(self, shuffled: Dataset, mean: float) -> Settings:
        """Return the point of the grid with the smallest leave-one-structure-out errors of a small subset."""
        subset = shuffled[: self._count(shuffled, SMALL_ROWS, _MATRICES)]
        problem, _, _ = build_problem(self.fingerprint, subset, mean, self.radial)
        points = self.grid.points(self.fixed)
        results = scan(problem, points, self.fingerprint.spread)
        if not results:
            raise FactorisationError(
                f"grid: at none of the {len(points)} points is the covariance matrix positive definite in double "
                "precision; give shorter lengths or larger noises"
            )
        winner = min(results, key=lambda result: result.score)
        _log.info("grid of %d points: %s", len(points), describe(winner.settings))
        return winner.settings

    def _by_holding_out(self, shuffled: Dataset, mean: float, start: Settings) -> Settings:
        """Return the settings with the smallest errors of halves, then of a fifth, of the training set."""
        fixed, n = self.fixed, len(shuffled)
        half = min(n // 2, self._count(shuffled, _HALF_ROWS, 1))
        settings = choose_length(
            start,
            fixed,
            lambda length: self._held_out_error(shuffled[:half], shuffled[half : 3 * half], mean, length),
        )
        kept = min(n * 4 // 5, self._count(shuffled, _HOLD_OUT_ROWS, 3))  # K, and its last corner inverted
        held_out = shuffled[kept : kept + max(n // 5, 20)]
        in_turn = structures_for(shuffled[:kept], IN_TURN_ROWS)
        settings = refine(
            settings,
            fixed,
            lambda length: self._held_out_error(shuffled[:kept], held_out, mean, length, in_turn),
        )
        _log.info("a fifth of the structures predicted from the others: %s", describe(settings))
        return settings

    def _held_out_error(
        self, kept: Dataset, held_out: Dataset, mean: float, relative_length: float, in_turn: int = 0
    ) -> ErrorOfNoise:
        """Return the error of `held_out` predicted from `kept` as a function of the noises, K built once.

        With `in_turn`, together with that of so many structures of `kept` that are left out one by one.
        """
        problem, rows, jacobians = build_problem(self.fingerprint, kept, mean, self.radial)
        query = self.fingerprint.rows(held_out)
        length = relative_length * self.fingerprint.spread
        K = Restorable(problem.covariance(length))
        scale = gradient_scale(problem, K.matrix)

        def error(candidate: Settings) -> float:
            noise = problem.noise(scale * candidate.energy_noise, scale * candidate.force_noise)
            factor = factorise(K.restored(), noise)
            alpha = factor.solve(problem.values)
            folded = PosteriorMean.from_weights(rows, jacobians, alpha, problem.first)
            energy, slopes = folded.predict(query, problem.kernel(length))
            energies = np.abs(energy + mean - held_out.energies).mean()
            gradients = np.concatenate(query.gradients(slopes)[0])
            forces = np.abs(gradients + np.concatenate(held_out.forces)).mean()
            score = float(np.log(max(energies, 1e-12)) + np.log(max(forces, 1e-12)))
            if not in_turn:
                return score
            last = range(len(kept) - in_turn, len(kept))
            return 0.5 * score + leave_out_in_turn(problem, factor, alpha, noise, last).score

        return error


def small_subset(data: Dataset, seed: int, memory: float) -> Dataset:
    """Return random structures to compare kernels or components of a fingerprint by, within a budget in GiB."""
    order = np.random.default_rng([seed, 2]).permutation(len(data))
    return data.select(
        order[: min(structures_for(data, SMALL_ROWS), structures_within(data, memory, _MATRICES))]
    )


def _folds(n: int) -> list[int]:
    """Return the first structures of equal groups, five if there are as many structures."""
    return [n * fold // min(_FOLDS, n) for fold in range(min(_FOLDS, n))]


def structures_for(data: Dataset, rows: int) -> int:
    """Return how many structures give about `rows` observations, at least four where there are so many."""
    return min(len(data), max(4, rows // max(structure.n_labels for structure in data)))


def _search_memory(data: Dataset) -> float:
    """Return the memory in GiB that the search for the hyperparameters of a training set takes at most."""
    # K, its derivative, its inverse and products of them; K, its factor and the factor's inverse; K, and its last
    # corner inverted.
    parts = ((SMALL_ROWS, 6), (_LEAVE_OUT_ROWS, 4), (_HOLD_OUT_ROWS, 1))
    search, turns, hold = (memory_within(data, structures_for(data, rows), n) for rows, n in parts)
    return max(search, turns, hold + _corner_memory(data))


def _corner_memory(data: Dataset) -> float:
    """Return the memory in GiB of the corner that is inverted to leave the last structures out one by one."""
    rows = structures_for(data, IN_TURN_ROWS) * max(structure.n_labels for structure in data)
    return 8.0 * float(rows) ** 2 / GIB


def fit_memory(data: Dataset, kept: float) -> float:
    """Return the memory in GiB that a fit takes at most, with its calibration, if its solution keeps so much."""
    return max(_search_memory(data), kept + _corner_memory(data))
