"""Search for the hyperparameters, inside the training set alone.

1. The log marginal likelihood, maximised with its gradient on a small subset.
2. The likelihood of a squared exponential is no measure of how well it predicts, so length and noise are then
   chosen by prediction errors: in small sets of each structure left out, in larger ones of half the set
   predicted from the other half.
3. The noise, which stands for what the kernel cannot express more than for errors of the labels, falls with
   the number of structures, and the best length with it: at last both are refined as long as structures held out
   from four fifths of the set are predicted better.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Sequence
from dataclasses import astuple

import numpy as np

from gprann.errors import FactorisationError
from gprann.surrogate.gaussian_process import Problem
from gprann.surrogate.hyperparameters.settings import BOUNDS, Fixed, Settings, scan, with_fixed

__all__ = ["ErrorOfNoise", "choose_by_leaving_out", "choose_length", "describe", "lower_noise", "refine"]

_log = logging.getLogger(__name__)
_STRETCH = (2.5, 1.5, 1.0, 0.6, 0.36)
_NOISE = (1.0, 0.1, 0.01)
_FINE, _SHORTER = 1 / 3, 0.8  # steps of the noises and of the length, where they are refined
_LOWEST = Settings(BOUNDS[0].length, 1e-12, 1e-12)
_STEPS = 5  # in one direction, at most
ErrorOfNoise = Callable[[Settings], float]


def _clip(settings: Settings, lowest: Settings = BOUNDS[0]) -> Settings:
    low, high = astuple(lowest), astuple(BOUNDS[1])
    return Settings(*(float(np.clip(v, a, b)) for v, a, b in zip(astuple(settings), low, high, strict=True)))


def choose_by_leaving_out(
    problem: Problem, start: Settings, spread: float, fixed: Fixed, *, groups: Sequence[int] | None = None
) -> Settings:
    """Return the settings near `start` with the smallest errors of structures left out.

    `groups` are the first structures of those that are left out together; by default one by one.
    """
    candidates = [
        with_fixed(
            _clip(Settings(start.length * stretch, start.energy_noise * noise, start.force_noise * noise)),
            fixed,
        )
        for stretch, noise in itertools.product(_STRETCH, _NOISE)
    ]
    results = scan(problem, dict.fromkeys(candidates), spread, groups)
    if not results:
        return start
    winner = min(results, key=lambda result: result.score)
    turns = "one by one" if groups is None else f"in {len(groups)} groups"
    _log.info("structures left out %s: %s", turns, describe(winner.settings))
    return winner.settings


def choose_length(start: Settings, fixed: Fixed, error_at: Callable[[float], ErrorOfNoise]) -> Settings:
    """Return the settings of smallest error over lengths about `start`, each at its best noise.

    Parameters
    ----------
    start : Settings
    fixed : Fixed
    error_at : callable
        Gives for a length the error of held-out structures as a function of the noises.
    """
    stretches = _STRETCH[1:] if fixed[0] is None else (1.0,)
    best, smallest = start, np.inf
    for stretch in stretches:
        trial = _clip(Settings(start.length * stretch, start.energy_noise, start.force_noise))
        settings, found = lower_noise(
            with_fixed(trial, fixed), fixed, error_at(with_fixed(trial, fixed).length)
        )
        if found < smallest:
            best, smallest = settings, found
        elif stretch < 1.0:
            break  # shorter lengths have begun to be worse
    _log.info("half of the structures predicted from the others: %s", describe(best))
    return best


def lower_noise(settings: Settings, fixed: Fixed, error: ErrorOfNoise) -> tuple[Settings, float]:
    """Lower both noises in steps of ten as long as `error` falls; return the settings and their error."""
    return _descended((settings, _error_or_infinity(error, settings)), (1.0, 0.1), fixed, error)


def refine(start: Settings, fixed: Fixed, error_at: Callable[[float], ErrorOfNoise]) -> Settings:
    """Return settings near `start` of smaller error: first the noises, then the length, then the noises again.

    Which length is best falls as structures are added, like the noise: that of half of them is too long, and where
    several predict equally well there, rounding decides between them.

    Parameters
    ----------
    start : Settings
    fixed : Fixed
    error_at : callable
        Gives for a length the error of held-out structures as a function of the noises.
    """
    error = error_at(start.length)
    best = _moved((start, _error_or_infinity(error, start)), (1.0, _FINE), fixed, error)
    if fixed[0] is not None:
        return best[0]
    length = best[0].length
    best = _moved(best, (_SHORTER, 1.0), fixed, lambda settings: error_at(settings.length)(settings))
    if best[0].length != length:
        best = _moved(best, (1.0, _FINE), fixed, error_at(best[0].length))
    return best[0]


def _descended(
    best: tuple[Settings, float], factors: tuple[float, float], fixed: Fixed, error: ErrorOfNoise
) -> tuple[Settings, float]:
    """Multiply length and noises by these factors as long as the error falls."""
    length, noise = factors
    for _ in range(_STEPS):
        now = best[0]
        trial = Settings(now.length * length, now.energy_noise * noise, now.force_noise * noise)
        candidate = with_fixed(_clip(trial, _LOWEST), fixed)
        found = np.inf if candidate == now else _error_or_infinity(error, candidate)
        if not found < best[1]:
            break
        best = candidate, found
    return best


def _moved(
    best: tuple[Settings, float], factors: tuple[float, float], fixed: Fixed, error: ErrorOfNoise
) -> tuple[Settings, float]:
    """Descend by these factors, or, if that is no better, by their inverses."""
    found = _descended(best, factors, fixed, error)
    if found != best:
        return found
    return _descended(best, (1.0 / factors[0], 1.0 / factors[1]), fixed, error)


def _error_or_infinity(error: ErrorOfNoise, settings: Settings) -> float:
    try:
        return error(settings)
    except FactorisationError:
        return np.inf


def describe(settings: Settings) -> str:
    """Return the settings in words for the log."""
    noises = f"{settings.energy_noise:.1e} and {settings.force_noise:.1e}"
    return f"length {settings.length:.3g}, relative noises {noises}"
