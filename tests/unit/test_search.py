"""Steps of the search for hyperparameters: noise, length, and their refinement."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from gprann.errors import FactorisationError
from gprann.surrogate.hyperparameters.criteria import (
    BOUNDS,
    FREE,
    Trial,
)
from gprann.surrogate.hyperparameters.search import choose_length, lower_noise, refine


@pytest.mark.parametrize(("best", "expected"), [(1e-6, 1e-6), (1e-4, 1e-4), (1e-20, 1e-9)])
def test_noise_falls_as_long_as_the_error_does(best: float, expected: float) -> None:
    """At most by five steps of ten."""
    tried = []

    def error(settings: Trial) -> float:
        tried.append(settings)
        return abs(np.log(settings.force_noise / best))

    settings, smallest = lower_noise(Trial(2.0, 1e-5, 1e-4), FREE, error)
    assert settings.force_noise == pytest.approx(expected)
    assert settings.energy_noise == pytest.approx(0.1 * expected)
    assert smallest == min(error(candidate) for candidate in tried[:])
    assert all(candidate.length == 2.0 for candidate in tried)


def test_noise_does_not_fall_where_it_is_given_or_the_matrix_becomes_singular() -> None:
    def error(settings: Trial) -> float:
        if settings.force_noise < 0.9e-6:
            raise FactorisationError("singular", 0)
        return settings.force_noise + settings.energy_noise

    start = Trial(2.0, 1e-4, 1e-4)
    settings, _ = lower_noise(start, FREE, error)
    assert settings.force_noise == pytest.approx(1e-6)
    assert lower_noise(start, (None, 1e-4, 1e-4), error) == (start, 2e-4)
    settings, _ = lower_noise(start, (None, 1e-4, None), error)
    assert (settings.energy_noise, settings.force_noise) == (1e-4, pytest.approx(1e-6))

    def singular(settings: Trial) -> float:
        raise FactorisationError("singular", 0)

    assert lower_noise(start, FREE, singular) == (start, np.inf)


@pytest.mark.parametrize("best", [1.5, 1.0, 0.6, 0.36])
def test_length_is_the_best_of_those_around_the_start(best: float) -> None:
    def error_at(length: float) -> Callable[[Trial], float]:
        return lambda settings: abs(np.log(length / (4.0 * best))) + abs(np.log(settings.force_noise / 1e-6))

    settings = choose_length(Trial(4.0, 1e-5, 1e-5), FREE, error_at)
    assert settings.length == pytest.approx(4.0 * best)
    assert settings.force_noise == pytest.approx(1e-6)


def test_length_stays_within_bounds_and_where_it_is_given() -> None:
    lengths = []

    def error_at(length: float) -> Callable[[Trial], float]:
        lengths.append(length)
        return lambda settings: 1.0 / length

    settings = choose_length(Trial(59.0, 1e-5, 1e-5), FREE, error_at)
    assert settings.length == BOUNDS[1].length == max(lengths)
    lengths.clear()
    settings = choose_length(Trial(4.0, 1e-5, 1e-5), (4.0, None, None), error_at)
    assert settings.length == 4.0
    assert lengths == [4.0]


def test_length_stays_if_every_matrix_is_singular() -> None:
    def error_at(length: float) -> Callable[[Trial], float]:
        def error(settings: Trial) -> float:
            raise FactorisationError("singular", 0)

        return error

    start = Trial(4.0, 1e-5, 1e-5)
    assert choose_length(start, FREE, error_at) == start


def valley(length: float, noise: float) -> Callable[[float], Callable[[Trial], float]]:
    """Return an error that is smallest at a length and a force noise; longer lengths than 30 are singular."""

    def error_at(relative_length: float) -> Callable[[Trial], float]:
        def error(settings: Trial) -> float:
            if relative_length > 30:
                raise FactorisationError("singular")
            assert settings.length == relative_length
            return np.log(relative_length / length) ** 2 + np.log(settings.force_noise / noise) ** 2

        return error

    return error_at


@pytest.mark.parametrize("start", [4.0, 9.0, 17.0])
@pytest.mark.parametrize("noise", [1e-10, 1e-9, 1e-8])
def test_refined_settings_are_the_best_nearby(start: float, noise: float) -> None:
    settings = refine(Trial(start, 1e-10, 1e-9), FREE, valley(8.0, noise))
    assert abs(np.log(settings.length / 8.0)) <= -0.5 * np.log(0.8) + 1e-9
    assert abs(np.log(settings.force_noise / noise)) <= 0.5 * np.log(3.0) + 1e-9
    assert settings.energy_noise == pytest.approx(0.1 * settings.force_noise)


def test_what_is_given_is_not_refined() -> None:
    error_at, start = valley(8.0, 1e-8), Trial(17.0, 1e-10, 1e-9)
    assert refine(start, (17.0, 1e-10, 1e-9), error_at) == start
    settings = refine(start, (17.0, None, None), error_at)
    assert settings.length == 17.0
    assert settings.force_noise == pytest.approx(9e-9)
    settings = refine(start, (None, 1e-10, 1e-9), error_at)
    assert settings.length == pytest.approx(17.0 * 0.8**3)
    assert (settings.energy_noise, settings.force_noise) == (1e-10, 1e-9)


def test_refinement_leaves_what_is_singular() -> None:
    assert refine(Trial(60.0, 1e-9, 1e-9), FREE, valley(8.0, 1e-9)) == Trial(60.0, 1e-9, 1e-9)
    assert refine(Trial(35.0, 1e-9, 1e-9), FREE, valley(8.0, 1e-9)).length == pytest.approx(35 * 0.8**5)
