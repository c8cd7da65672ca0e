"""Search for the hyperparameters, inside the training set alone.

1. The log marginal likelihood, maximised with its gradient on a small subset; or one of some coarse points, if it
   predicts structures of the subset better that are held out.
2. The likelihood of a squared exponential is no measure of how well it predicts, so length and noise are then
   chosen by prediction errors: in small sets of each structure held out, in larger ones of half the set
   predicted from the other half.
3. The noise, which stands for what the kernel cannot express more than for errors of the labels, falls with
   the number of structures, and the best length with it: at last both are refined as long as structures held out
   from four fifths of the set are predicted better.

Besides, all points of a grid can be tried (Yeu et al., npj Comput. Mater. 11, 156 (2025)).
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Sequence
from dataclasses import astuple, dataclass, replace
from typing import Annotated, Literal

import numpy as np
from pydantic import BeforeValidator, Field

from gprann.data.structure import Dataset
from gprann.errors import FactorisationError
from gprann.options import Options, option
from gprann.surrogate.gaussian_process import PosteriorMean, Restorable, factorise
from gprann.surrogate.hyperparameters.criteria import (
    BOUNDS,
    Fixed,
    Scan,
    Trial,
    coarse_points,
    leave_out_in_turn,
    maximise_likelihood,
    scan,
    with_fixed,
)
from gprann.surrogate.hyperparameters.nested import NestedSubsets
from gprann.surrogate.kernels.base import Fingerprint
from gprann.surrogate.memory import (
    FEATURES,
    HALF_ROWS,
    HOLD_OUT_ROWS,
    IN_TURN_ROWS,
    LEAVE_OUT_ROWS,
    MATRICES,
    SMALL_ROWS,
    features_per_atom,
    structures_for,
    structures_within,
)
from gprann.surrogate.observations import Observations, observed_values

_log = logging.getLogger(__name__)
_STRETCH = (2.5, 1.5, 1.0, 0.6, 0.36)
_NOISE = (1.0, 0.1, 0.01)
_FINE, _SHORTER = 1 / 3, 0.8  # steps of the noises and of the length, where they are refined
_LOWEST = Trial(BOUNDS[0].length, 1e-12, 1e-12)
_STEPS = 5  # in one direction, at most
_FOLDS = 5  # groups in which structures are held out by k_fold
_GRID_NOISES = (1e-10, 1e-8, 1e-6, 1e-4)
START = Trial(8.0, 1e-8, 1e-8)
"""Where the search for the maximum of the likelihood begins."""
_SINGLE = Trial(4.0, 1e-6, 1e-6)  # for a single structure, from which nothing can be held out
SearchName = Literal["held_out", "likelihood", "leave_one_out", "k_fold", "grid"]
ErrorOfNoise = Callable[[Trial], float]


def _numbers(values: object) -> object:
    """Take lists, and arrays of NumPy, for tuples."""
    if isinstance(values, np.ndarray):
        values = values.tolist()
    return tuple(values) if isinstance(values, list) else values


Positive = Annotated[float, Field(gt=0)]
Points = Annotated[tuple[Positive, ...], BeforeValidator(_numbers), Field(min_length=1)]


class Grid(Options):
    """Lengths and noises of which all combinations are tried.

    Examples
    --------
    >>> len(Grid().points()), len(Grid(length=[4, 8], force_noise=[1e-8]).points())
    (20, 8)
    """

    length: Points = option("In units of the fingerprint's spread.", (2.0, 4.0, 8.0, 16.0, 32.0))
    energy_noise: Points | None = option(
        "Relative variances. Default: 1e-10, 1e-8, 1e-6 and 1e-4, the same for both if neither is given.",
        None,
    )
    force_noise: Points | None = option("Relative variances, as `energy_noise`.", None)

    def points(self, fixed: Fixed = (None, None, None)) -> list[Trial]:
        """Return all combinations, each once, with those hyperparameters replaced that the user gives."""
        pairs = [(noise, noise) for noise in _GRID_NOISES]
        if self.energy_noise is not None or self.force_noise is not None:
            pairs = list(
                itertools.product(self.energy_noise or _GRID_NOISES, self.force_noise or _GRID_NOISES)
            )
        points = [with_fixed(Trial(length, *pair), fixed) for length in self.length for pair in pairs]
        return list(dict.fromkeys(points))


def _table(value: object) -> object:
    """Take a grid for a table of its lists; refuse tables of which no grid can be made."""
    if isinstance(value, Grid):
        return value.model_dump(exclude_unset=True, mode="json")
    if not isinstance(value, dict):
        return value
    plain = {
        name: list(item) if isinstance(item, tuple | np.ndarray) else item for name, item in value.items()
    }
    Grid.from_dict(plain)
    return plain


GridTable = Annotated[dict[str, list[float]], BeforeValidator(_table)]


@dataclass(frozen=True, slots=True)
class HyperparameterSearch:
    """A search for the hyperparameters of a training set.

    Attributes
    ----------
    fingerprint : Fingerprint
        Fitted to the training set.
    fixed : tuple of length, energy noise and force noise
        As the user gives them, None for those that are to be found.
    name : str
        One of `SEARCHES`.
    seed : int
        Seed of the random subsets.
    memory : float, GiB
        Budget: with little of it subsets are smaller.
    grid : Grid
        Points that the search `grid` tries.
    start : Trial
        Where the search for the maximum of the likelihood begins.
    features : float
        Features of an atom, which set the memory; known once the search has begun.
    """

    fingerprint: Fingerprint
    fixed: Fixed
    name: SearchName
    seed: int
    memory: float
    grid: Grid
    start: Trial = START
    features: float = FEATURES

    def find(self, data: Dataset, mean: float) -> Trial:
        """Return the hyperparameters: those given, the others from random subsets of the training set."""
        fixed, n = self.fixed, len(data)
        if all(fixed):
            return with_fixed(START, fixed)
        if n < 2 or not any(np.any(observed_values(item, mean, self.fingerprint.invariant)) for item in data):
            return with_fixed(_SINGLE, fixed)
        shuffled = data.select(np.random.default_rng(self.seed).permutation(n))
        search, name = replace(self, features=features_per_atom(shuffled, self.fingerprint)), self.name
        if name == "held_out" and n == search.count(shuffled, LEAVE_OUT_ROWS, MATRICES):
            name = "leave_one_out"  # small sets, all structures of which can be held out one by one
        return SEARCHES[name](search, NestedSubsets(search.fingerprint, shuffled, mean))

    def count(self, data: Dataset, rows: int, matrices: int) -> int:
        """Return how many structures give about `rows` observations, or fewer that leave the budget room."""
        within = structures_within(data, self.memory, matrices, features=self.features)
        return min(structures_for(data, rows), within)

    def observe(self, training: NestedSubsets, rows: int) -> Observations:
        """Return about `rows` observations, of the first structures of a training set."""
        return training.observe(self.count(training.data, rows, MATRICES))[0]


def maximum_likelihood(search: HyperparameterSearch, training: NestedSubsets) -> Trial:
    """Return the maximum of the likelihood of a small random subset."""
    observations = search.observe(training, SMALL_ROWS)
    start = with_fixed(search.start, search.fixed)
    found, _ = maximise_likelihood([observations], start, search.fingerprint.spread, search.fixed)
    _log.info("likelihood: %s", found)
    return found


def beginning(search: HyperparameterSearch, training: NestedSubsets) -> Trial:
    """Return the best of some coarse points by structures held out of a small subset, one by one.

    Kernels over whole structures, whose lengths have no common unit, begin at the maximum of the likelihood if that
    predicts better. For the kernel `atoms` it does not: of sets with perfect crystals beside melts the likelihood is
    largest at lengths so short that nothing is predicted (silicon: errors of forces of 174 instead of 75 meV/Å).
    """
    points = coarse_points(search.fixed)
    if not search.fingerprint.local:
        points.insert(0, maximum_likelihood(search, training))
    observations = search.observe(training, SMALL_ROWS)
    results = scan(observations, points, search.fingerprint.spread)
    best = (
        min(results, key=lambda result: result.score).settings if results else with_fixed(START, search.fixed)
    )
    _log.info("structures held out of a small subset are predicted best with %s", best)
    return best


def leave_one_out(search: HyperparameterSearch, training: NestedSubsets) -> Trial:
    """Return settings near the maximum of the likelihood with the smallest errors of structures held out singly."""
    start = beginning(search, training)
    observations = search.observe(training, LEAVE_OUT_ROWS)
    return choose_by_leaving_out(observations, start, search.fingerprint.spread, search.fixed)


def k_fold(search: HyperparameterSearch, training: NestedSubsets) -> Trial:
    """Return settings near the maximum of the likelihood with the smallest errors of structures held out by fifths."""
    start = beginning(search, training)
    observations = search.observe(training, LEAVE_OUT_ROWS)
    groups = folds(len(observations.first) - 1)
    return choose_by_leaving_out(observations, start, search.fingerprint.spread, search.fixed, groups=groups)


def folds(n: int) -> list[int]:
    """Return the first structures of equal groups, five if there are as many structures."""
    return [n * fold // min(_FOLDS, n) for fold in range(min(_FOLDS, n))]


def grid(search: HyperparameterSearch, training: NestedSubsets) -> Trial:
    """Return the point of the grid with the smallest leave-one-structure-out errors of a small subset."""
    observations = search.observe(training, SMALL_ROWS)
    points = search.grid.points(search.fixed)
    results = scan(observations, points, search.fingerprint.spread)
    if not results:
        raise FactorisationError(
            f"grid: at none of the {len(points)} points is the covariance matrix positive definite in double "
            "precision; give shorter lengths or larger noises"
        )
    winner = min(results, key=lambda result: result.score)
    _log.info("grid of %d points: %s", len(points), winner.settings)
    return winner.settings


def hold_out(search: HyperparameterSearch, training: NestedSubsets) -> Trial:
    """Return the settings with the smallest errors of halves, then of a fifth, of the training set."""
    fixed, n, data = search.fixed, len(training.data), training.data
    start = beginning(search, training)
    half = min(n // 2, search.count(data, HALF_ROWS, 1))
    settings = choose_length(
        start, fixed, lambda length: _held_out_error(training, half, data[half : 3 * half], length)
    )
    kept = min(n * 4 // 5, search.count(data, HOLD_OUT_ROWS, 3))  # K, and its last corner inverted
    held_out = data[kept : kept + max(n // 5, 20)]
    in_turn = structures_for(data[:kept], IN_TURN_ROWS)
    settings = refine(
        settings,
        fixed,
        lambda length: _held_out_error(training, kept, held_out, length, in_turn=in_turn),
    )
    _log.info("a fifth of the structures predicted from the others: %s", settings)
    return settings


SEARCHES: dict[SearchName, Callable[[HyperparameterSearch, NestedSubsets], Trial]] = {
    "held_out": hold_out,
    "likelihood": maximum_likelihood,
    "leave_one_out": leave_one_out,
    "k_fold": k_fold,
    "grid": grid,
}
"""Ways to find the hyperparameters: functions of a search, and of the training set in random order."""


def _held_out_error(
    training: NestedSubsets, kept: int, held_out: Dataset, relative_length: float, *, in_turn: int = 0
) -> ErrorOfNoise:
    """Return the error of `held_out` predicted from the first `kept` as a function of the noises, K built once.

    With `in_turn`, half the score is that of so many of the last of these that are held out one by one.
    """
    fingerprint, mean = training.fingerprint, training.mean
    observations, rows, jacobians = training.observe(kept)
    query = fingerprint.rows(held_out)
    length = relative_length * fingerprint.spread
    K = Restorable(observations.covariance(length))
    scale = observations.gradient_scale(K.matrix)

    def error(candidate: Trial) -> float:
        noise = observations.noise(scale * candidate.energy_noise, scale * candidate.force_noise)
        factor = factorise(K.restore(), noise)
        alpha = factor.solve(observations.values)
        posterior = PosteriorMean.from_weights(rows, jacobians, alpha, observations.first)
        energy, slopes = posterior.predict(query, observations.kernel(length))
        energies = np.abs(energy + mean - held_out.energies).mean()
        gradients = np.concatenate(query.gradients(slopes)[0])
        forces = np.abs(gradients + np.concatenate(held_out.forces)).mean()
        score = float(np.log(max(energies, 1e-12)) + np.log(max(forces, 1e-12)))
        if not in_turn:
            return score
        last = range(kept - in_turn, kept)
        return 0.5 * score + leave_out_in_turn(observations, factor, alpha, noise, last).score

    return error


def _clip(settings: Trial, lowest: Trial = BOUNDS[0]) -> Trial:
    low, high = astuple(lowest), astuple(BOUNDS[1])
    return Trial(*(float(np.clip(v, a, b)) for v, a, b in zip(astuple(settings), low, high, strict=True)))


def choose_by_leaving_out(
    observations: Observations,
    start: Trial,
    spread: float,
    fixed: Fixed,
    *,
    groups: Sequence[int] | None = None,
) -> Trial:
    """Return the settings near `start` with the smallest errors of structures held out.

    `groups` are the first structures of those that are held out together; by default one by one.
    """
    candidates = [
        with_fixed(
            _clip(Trial(start.length * stretch, start.energy_noise * noise, start.force_noise * noise)),
            fixed,
        )
        for stretch, noise in itertools.product(_STRETCH, _NOISE)
    ]
    results = scan(observations, dict.fromkeys(candidates), spread, groups)
    if not results:
        return start
    winner = min(results, key=lambda result: result.score)
    found = _raise_noise(winner, start, fixed, lambda trials: scan(observations, trials, spread, groups))
    turns = "one by one" if groups is None else f"in {len(groups)} groups"
    _log.info("structures held out %s: %s", turns, found)
    return found


def _raise_noise(
    winner: Scan, start: Trial, fixed: Fixed, try_all: Callable[[Sequence[Trial]], list[Scan]]
) -> Trial:
    """Raise both noises in steps of ten as long as held-out structures are predicted better, then try the lengths.

    A few structures are explained without noise, and their likelihood is largest at none; data sampled by molecular
    dynamics have parts that the kernel cannot express, which only structures held out show.
    """
    best, now = winner, winner.settings
    if now.energy_noise < start.energy_noise and now.force_noise < start.force_noise:
        return now
    for _ in range(_STEPS):
        trial = Trial(now.length, now.energy_noise * 10, now.force_noise * 10)
        now = with_fixed(_clip(trial), fixed)
        results = [] if now == best.settings else try_all([now])
        if not results or results[0].score >= best.score:
            break
        best = results[0]
    if best is winner or fixed[0] is not None:
        return best.settings
    lengths = [best.settings.length * stretch for stretch in _STRETCH if stretch != 1.0]
    trials = [_clip(replace(best.settings, length=length)) for length in lengths]
    return min([best, *try_all(trials)], key=lambda result: result.score).settings


def choose_length(start: Trial, fixed: Fixed, error_at: Callable[[float], ErrorOfNoise]) -> Trial:
    """Return the settings of smallest error over lengths about `start`, each at its best noise.

    Parameters
    ----------
    start : Trial
    fixed : Fixed
    error_at : callable
        Gives for a length the error of held-out structures as a function of the noises.
    """
    stretches = _STRETCH[1:] if fixed[0] is None else (1.0,)
    best, smallest = start, np.inf
    for stretch in stretches:
        trial = _clip(Trial(start.length * stretch, start.energy_noise, start.force_noise))
        settings, found = lower_noise(
            with_fixed(trial, fixed), fixed, error_at(with_fixed(trial, fixed).length)
        )
        if found < smallest:
            best, smallest = settings, found
        elif stretch < 1.0:
            break  # shorter lengths have begun to be worse
    _log.info("half of the structures predicted from the others: %s", best)
    return best


def lower_noise(settings: Trial, fixed: Fixed, error: ErrorOfNoise) -> tuple[Trial, float]:
    """Lower both noises in steps of ten as long as `error` falls; return the settings and their error."""
    return _descend((settings, _error_or_infinity(error, settings)), (1.0, 0.1), fixed, error)


def refine(start: Trial, fixed: Fixed, error_at: Callable[[float], ErrorOfNoise]) -> Trial:
    """Return settings near `start` of smaller error: first the noises, then the length, then the noises again.

    Which length is best falls as structures are added, like the noise: that of half of them is too long, and where
    several predict equally well there, rounding decides between them.

    Parameters
    ----------
    start : Trial
    fixed : Fixed
    error_at : callable
        Gives for a length the error of held-out structures as a function of the noises.
    """
    error = error_at(start.length)
    best = _step_either_way((start, _error_or_infinity(error, start)), (1.0, _FINE), fixed, error)
    if fixed[0] is not None:
        return best[0]
    length = best[0].length
    best = _step_either_way(
        best, (_SHORTER, 1.0), fixed, lambda settings: error_at(settings.length)(settings)
    )
    if best[0].length != length:
        best = _step_either_way(best, (1.0, _FINE), fixed, error_at(best[0].length))
    return best[0]


def _descend(
    best: tuple[Trial, float],
    factors: tuple[float, float],
    fixed: Fixed,
    error: ErrorOfNoise,
) -> tuple[Trial, float]:
    """Multiply length and noises by these factors as long as the error falls."""
    length, noise = factors
    for _ in range(_STEPS):
        now = best[0]
        trial = Trial(now.length * length, now.energy_noise * noise, now.force_noise * noise)
        candidate = with_fixed(_clip(trial, _LOWEST), fixed)
        found = np.inf if candidate == now else _error_or_infinity(error, candidate)
        if not found < best[1]:
            break
        best = candidate, found
    return best


def _step_either_way(
    best: tuple[Trial, float],
    factors: tuple[float, float],
    fixed: Fixed,
    error: ErrorOfNoise,
) -> tuple[Trial, float]:
    """Descend by these factors, or, if that is no better, by their inverses."""
    found = _descend(best, factors, fixed, error)
    if found != best:
        return found
    return _descend(best, (1.0 / factors[0], 1.0 / factors[1]), fixed, error)


def _error_or_infinity(error: ErrorOfNoise, settings: Trial) -> float:
    try:
        return error(settings)
    except FactorisationError:
        return np.inf
