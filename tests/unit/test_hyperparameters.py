"""Likelihood, leave-one-out errors, the search for hyperparameters, and the matrix behind them."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable

import numpy as np
import pytest
from scipy.stats import multivariate_normal

import samples
from contracts import Array, assert_close, assert_derivative
from gprann.data.structure import Dataset, Structure
from gprann.errors import FactorisationError
from gprann.surrogate import AtomsKernel, CartesianKernel, PairsKernel
from gprann.surrogate.gaussian_process import Restorable, factorise
from gprann.surrogate.hyperparameters.criteria import (
    BOUNDS,
    FREE,
    Fixed,
    LeftOut,
    Trial,
    leave_out_in_turn,
    log_marginal_likelihood,
    maximise_likelihood,
    scan,
    with_fixed,
)
from gprann.surrogate.hyperparameters.length_scales import rows_of_kind
from gprann.surrogate.hyperparameters.search import choose_by_leaving_out
from gprann.surrogate.kernels.base import Fingerprint
from gprann.surrogate.kernels.internal_coordinates import internal_directions
from gprann.surrogate.observations import Observations

SETTINGS = Trial(3.0, 1e-3, 1e-4)


def problem_of(fingerprint: Fingerprint, data: Dataset) -> Observations:
    fingerprint.fit(data)
    rows, jacobians = fingerprint.rows(data), fingerprint.jacobians(data)
    values = []
    for structure in data:
        internal = internal_directions(structure, fingerprint.invariant)
        values += [structure.energy - data.energies.mean(), *(-structure.forces.ravel() @ internal)]
    sizes = [1 + jacobian.shape[1] for jacobian in jacobians]
    first = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    return Observations(rows.sets(jacobians), first, np.array(values), fingerprint)


CASES: dict[str, tuple[Callable[[], Fingerprint], Dataset]] = {
    "atoms": (AtomsKernel().fingerprint, samples.waters(6)),
    "pairs": (PairsKernel().fingerprint, samples.waters(6)),
    "cartesian": (CartesianKernel().fingerprint, samples.waters(6)),
    "atoms, crystals": (AtomsKernel().fingerprint, samples.crystals(4)),
    # Structures with different numbers of internal directions: 1 and 3 N - 3.
    "mixed": (
        AtomsKernel().fingerprint,
        Dataset([samples.labelled(samples.chain("OHH")), *samples.crystals(3)]),
    ),
}


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(8)


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest) -> tuple[Observations, float]:
    make, data = CASES[request.param]
    fingerprint = make()
    return problem_of(fingerprint, data), fingerprint.spread


def dense(problem: Observations, settings: Trial, spread: float) -> tuple[Array, Array]:
    """K with its noise, and without."""
    lower = np.tril(problem.covariance(settings.length * spread))
    K = lower + np.tril(lower, -1).T
    scale = float(np.diagonal(K)[~problem.is_energy].mean())
    noise = np.where(problem.is_energy, settings.energy_noise, settings.force_noise)
    return K + np.diag(scale * noise), K


# Matrix ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("n", "tile"), [(1, 512), (7, 512), (30, 7), (28, 7), (29, 7), (1100, 512)])
def test_a_restorable_matrix_can_be_factorised_again_and_again(
    n: int, tile: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Restorable, "_TILE", tile)
    rng = np.random.default_rng(n)
    spare = rng.normal(size=(n, n)) / np.sqrt(n)
    original = spare @ spare.T + np.eye(n)
    given = np.tril(original) + np.triu(rng.normal(size=(n, n)), 1)  # its upper triangle does not count
    K = Restorable(given)
    expected = np.linalg.cholesky(original + 0.5 * np.eye(n))
    for _ in range(2):
        L = np.tril(factorise(K.restore(), np.full(n, 0.5)).L)
        assert_close(L, expected)
        np.testing.assert_array_equal(np.tril(K.restore()), np.tril(original))
    assert K.matrix is given


def test_factor_solves_and_inverts(rng: np.random.Generator) -> None:
    spare = rng.normal(size=(40, 40))
    K = spare @ spare.T + np.eye(40)
    factor = factorise(K.copy(), np.zeros(40))
    one, several = rng.normal(size=40), rng.normal(size=(3, 40))
    assert_close(factor.solve(one), np.linalg.solve(K, one), relative=1e-10)
    assert_close(factor.solve(several), np.linalg.solve(K, several.T).T, relative=1e-10)
    half = factor.half_solve(several.copy())
    assert_close(half @ half.T, several @ np.linalg.solve(K, several.T), relative=1e-10)
    assert factor.log_determinant == pytest.approx(np.linalg.slogdet(K)[1])
    inverse = factor.inverse()
    assert_close(inverse, np.linalg.inv(K), relative=1e-10)
    np.testing.assert_array_equal(inverse, inverse.T)


def test_a_matrix_that_is_not_positive_definite_names_its_row() -> None:
    K = np.eye(5)
    K[3, 3] = -1.0
    with pytest.raises(
        FactorisationError, match=r"at row 3 of 5.*raise force_noise or shorten length"
    ) as caught:
        factorise(K, np.zeros(5))
    assert caught.value.row == 3


def test_noise_goes_to_energies_and_gradients() -> None:
    problem = problem_of(PairsKernel().fingerprint(), samples.waters(2))
    np.testing.assert_array_equal(problem.noise(2.0, 3.0), [2.0, 3.0, 3.0, 3.0] * 2)


# Likelihood --------------------------------------------------------------------------------------------------------


def test_likelihood_is_that_of_a_normal_distribution(case: tuple[Observations, float]) -> None:
    problem, spread = case
    K, _ = dense(problem, SETTINGS, spread)
    value, _ = log_marginal_likelihood([problem], SETTINGS, spread)
    n = len(problem.values)
    best = float(problem.values @ np.linalg.solve(K, problem.values)) / n
    for amplitude2 in (0.7 * best, best, 1.4 * best):
        density = multivariate_normal.logpdf(problem.values, cov=amplitude2 * K)
        if amplitude2 == best:
            assert value == pytest.approx(density, rel=1e-9)
        else:
            assert density < value


@pytest.mark.parametrize("direction", np.eye(3), ids=["length", "energy noise", "force noise"])
def test_gradient_of_the_likelihood_by_order(case: tuple[Observations, float], direction: Array) -> None:
    problem, spread = case

    def value(t: float) -> float:
        return log_marginal_likelihood(
            [problem], Trial.from_vector(SETTINGS.vector() + t * direction), spread
        )[0]

    _, gradient = log_marginal_likelihood([problem], SETTINGS, spread)
    assert_derivative(value, gradient @ direction, step=0.05, halvings=2)


def test_gradient_of_the_likelihood_with_another_radial_kernel() -> None:
    fingerprint = PairsKernel(radial="matern52").fingerprint()
    problem = problem_of(fingerprint, samples.waters(6))

    def value(t: float) -> float:
        settings = Trial(SETTINGS.length * np.exp(t), SETTINGS.energy_noise, SETTINGS.force_noise)
        return log_marginal_likelihood([problem], settings, fingerprint.spread)[0]

    _, gradient = log_marginal_likelihood([problem], SETTINGS, fingerprint.spread)
    assert_derivative(value, gradient[0], step=0.05, halvings=2)


def test_likelihood_bears_labels_that_are_all_zero() -> None:
    problem = problem_of(PairsKernel().fingerprint(), samples.waters(3))
    nothing = dataclasses.replace(problem, values=np.zeros_like(problem.values))
    value, gradient = log_marginal_likelihood([nothing], SETTINGS, 1.0)
    assert np.isfinite([value, *gradient]).all()


def test_likelihood_is_maximised_within_bounds(case: tuple[Observations, float]) -> None:
    problem, spread = case
    start = Trial(8.0, 1e-5, 1e-5)
    found, _ = maximise_likelihood([problem], start, spread)
    before, _ = log_marginal_likelihood([problem], start, spread)
    after, gradient = log_marginal_likelihood([problem], found, spread)
    assert after > before + 1
    low, high = (bound.vector() for bound in BOUNDS)
    assert (found.vector() >= low - 1e-9).all()
    assert (found.vector() <= high + 1e-9).all()
    at_bound = np.minimum(found.vector() - low, high - found.vector()) < 1e-6
    assert np.abs(gradient[~at_bound]).max(initial=0.0) < 0.05 * len(problem.values)


@pytest.mark.parametrize(
    "fixed", [(4.0, None, None), (None, 1e-4, None), (None, None, 1e-3), (70.0, 1e-3, None)]
)
def test_likelihood_is_maximised_over_what_is_not_given(
    case: tuple[Observations, float], fixed: Fixed
) -> None:
    """What is given is held, even out of bounds; beside it no better value of the others is nearby."""
    problem, spread = case
    found, _ = maximise_likelihood([problem], with_fixed(Trial(8.0, 1e-5, 1e-5), fixed), spread, fixed)
    assert with_fixed(found, fixed) == found
    top, gradient = log_marginal_likelihood([problem], found, spread)
    low, high = (bound.vector() for bound in BOUNDS)
    free = np.array([given is None for given in fixed])
    inside = free & (np.minimum(found.vector() - low, high - found.vector()) > 1e-6)
    assert np.abs(gradient[inside]).max(initial=0.0) < 0.05 * len(problem.values)
    put_in_afterwards = with_fixed(maximise_likelihood([problem], SETTINGS, spread)[0], fixed)
    assert top >= log_marginal_likelihood([problem], put_in_afterwards, spread)[0] - 1e-3 * abs(top)


def test_search_leaves_a_region_where_the_matrix_is_singular() -> None:
    """Ten copies of one structure and a length so long that the noises drown in the rounding."""
    problem = problem_of(
        PairsKernel().fingerprint(), Dataset([*samples.waters(2), *list(samples.waters(1)) * 9])
    )
    start = Trial(50.0, 1e-10, 1e-10)
    with pytest.raises(FactorisationError):
        log_marginal_likelihood([problem], start, 100.0)
    found, _ = maximise_likelihood([problem], start, 100.0)
    assert np.isfinite(log_marginal_likelihood([problem], found, 100.0)[0])


def test_unit_of_the_noise_is_the_mean_variance_of_the_gradients(case: tuple[Observations, float]) -> None:
    problem, spread = case
    _, K = dense(problem, SETTINGS, spread)
    expected = np.diagonal(K)[~problem.is_energy].mean()
    assert problem.gradient_scale(K) == pytest.approx(expected)


def test_unit_of_the_noise_without_gradients() -> None:
    atoms = Dataset(
        Structure(("H",), np.zeros((1, 3)), energy=0.0, forces=np.zeros((1, 3))) for _ in range(2)
    )
    problem = problem_of(AtomsKernel().fingerprint(), atoms)
    assert problem.gradient_scale(problem.covariance(1.0)) == pytest.approx(1.0)


# Lengths of species ------------------------------------------------------------------------------------------------


@pytest.fixture(params=["water", "crystal", "kind without rows"])
def kinds(request: pytest.FixtureRequest) -> tuple[Observations, list[Observations], Fingerprint, Dataset]:
    """A problem, its parts of H and of O, and the fingerprint."""
    data = samples.crystals(4) if request.param == "crystal" else samples.waters(6)
    fingerprint = AtomsKernel().fingerprint()
    if request.param == "kind without rows":
        # Structures of H alone beside those of both: with lengths of their own all the same.
        data = Dataset([*data[:4], samples.labelled(samples.chain("HHH"))])
    problem = problem_of(fingerprint, data)
    rows, jacobians = fingerprint.rows(data), fingerprint.jacobians(data)
    parts = [dataclasses.replace(problem, sets=rows_of_kind(rows, jacobians, kind)) for kind in (0, 1)]
    return problem, parts, fingerprint, data


def test_kinds_are_parts_of_the_covariance(
    kinds: tuple[Observations, list[Observations], Fingerprint, Dataset],
) -> None:
    problem, parts, _, data = kinds
    for derivative in (False, True):
        whole = np.tril(problem.covariance(3.0, derivative=derivative))
        assert_close(sum(np.tril(p.covariance(3.0, derivative=derivative)) for p in parts), whole)
    stretched = AtomsKernel(species_lengths={"H": 0.6, "O": 1.7}).fingerprint()
    expected = np.tril(problem_of(stretched, data).covariance(3.0))
    assert_close(
        np.tril(parts[0].covariance(0.6 * 3.0) + parts[1].covariance(1.7 * 3.0)), expected, relative=1e-10
    )


@pytest.mark.parametrize("direction", np.eye(4), ids=["H", "O", "energy noise", "force noise"])
def test_gradient_of_the_likelihood_in_lengths_of_species_by_order(
    kinds: tuple[Observations, list[Observations], Fingerprint, Dataset], direction: Array
) -> None:
    _, parts, fingerprint, _ = kinds

    def evaluate(x: Array) -> tuple[float, Array]:
        settings = Trial(1.0, *np.exp(x[2:]))
        return log_marginal_likelihood(parts, settings, fingerprint.spread, np.exp(x[:2]))

    at = np.log([2.0, 5.0, 1e-3, 1e-4])
    _, gradient = evaluate(at)
    assert_derivative(lambda t: evaluate(at + t * direction)[0], gradient @ direction, step=0.05, halvings=2)


@pytest.mark.parametrize("fixed", [FREE, (4.0, None, None), (4.0, 1e-4, 1e-4)])
def test_lengths_of_species_are_at_least_as_likely_as_equal_ones(
    kinds: tuple[Observations, list[Observations], Fingerprint, Dataset], fixed: Fixed
) -> None:
    problem, parts, fingerprint, _ = kinds
    spread = fingerprint.spread
    equal, _ = maximise_likelihood([problem], with_fixed(SETTINGS, fixed), spread, fixed)
    found, factors = maximise_likelihood(parts, equal, spread, fixed)
    assert with_fixed(found, fixed) == found
    assert np.prod(factors) == pytest.approx(1.0)
    assert (np.abs(np.log(factors)) <= np.log(16) + 1e-9).all()
    before, _ = log_marginal_likelihood([problem], equal, spread)
    after, _ = log_marginal_likelihood(parts, found, spread, factors)
    assert after > before


# Leaving out -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("groups", [None, [0, 1, 3], [2], [0]], ids=["alone", "groups", "the last", "all"])
def test_errors_in_closed_form_are_those_of_leaving_out(
    case: tuple[Observations, float], groups: list[int] | None
) -> None:
    problem, spread = case
    noisy, K = dense(problem, SETTINGS, spread)
    noise = np.diagonal(noisy - K)
    factor = factorise(noisy.copy(), np.zeros(len(K)))
    alpha = factor.solve(problem.values)
    amplitude2 = float(problem.values @ alpha) / len(alpha)
    errors = leave_out_in_turn(problem, factor, alpha, noise, groups)
    n = len(problem.first) - 1
    edges = [*range(n + 1)] if groups is None else [*groups, n]
    counted = 0
    for begin, end in itertools.pairwise(edges):
        left_out = np.arange(problem.first[begin], problem.first[end])
        others = np.setdiff1d(np.arange(len(K)), left_out)
        for structure in range(begin, end):
            own = np.arange(problem.first[structure], problem.first[structure + 1])
            weights = np.linalg.solve(noisy[np.ix_(others, others)], K[np.ix_(others, own)]).T
            error = problem.values[own] - weights @ problem.values[others]
            assert errors.energy[counted] == pytest.approx(error[0], rel=1e-6, abs=1e-9)
            assert_close(errors.gradient[counted], error[1:], relative=1e-6)
            covariance = K[np.ix_(own, own)] - weights @ K[np.ix_(others, own)]
            assert_close(errors.latent[counted], amplitude2 * covariance, relative=1e-6)
            counted += 1
    assert counted == len(errors.energy) == len(errors.gradient) == len(errors.latent)


def test_score_weighs_relative_errors_of_energies_and_forces() -> None:
    assert errors_of(2.0, 3.0).score == pytest.approx(0.5 * np.log(2.0 * 3.0))
    assert errors_of(2.0, None).score == pytest.approx(np.log(2.0))
    assert np.isfinite(errors_of(0.0, 0.0).score)


def errors_of(energy: float, gradient: float | None) -> LeftOut:
    gradients = [np.zeros(0)] if gradient is None else [np.array([gradient, -gradient]), np.zeros(0)]
    return LeftOut(np.array([energy, -energy]), gradients, [])


def test_scan_leaves_singular_candidates_out() -> None:
    problem = problem_of(PairsKernel().fingerprint(), Dataset([*samples.waters(3), *samples.waters(3)]))
    good, bad = Trial(3.0, 1e-4, 1e-4), Trial(60.0, 1e-19, 1e-19)
    results = scan(problem, [bad, good, bad], 1.0)
    assert [result.settings for result in results] == [good]
    (again,) = scan(problem, [good], 1.0)
    assert again == results[0]
    noisy, K = dense(problem, good, 1.0)
    factor = factorise(noisy.copy(), np.zeros(len(K)))
    errors = leave_out_in_turn(problem, factor, factor.solve(problem.values), np.diagonal(noisy - K))
    assert again.energy_mae == pytest.approx(np.abs(errors.energy).mean())
    assert again.score == pytest.approx(errors.score)


def test_choice_by_leaving_out_is_the_best_of_its_candidates(case: tuple[Observations, float]) -> None:
    problem, spread = case
    start = Trial(4.0, 1e-4, 1e-4)
    chosen = choose_by_leaving_out(problem, start, spread, (None, None, None))
    around = [
        Trial(4.0 * stretch, 1e-4 * noise, 1e-4 * noise)
        for stretch in (0.36, 1.0, 2.5)
        for noise in (1, 0.01)
    ]
    (best, *others) = scan(problem, [chosen, *around], spread)
    assert all(best.score <= other.score for other in others)
    fixed = choose_by_leaving_out(problem, start, spread, (2.0, None, 1e-3))
    assert (fixed.length, fixed.force_noise) == (2.0, 1e-3)


def test_choice_stays_where_nothing_can_be_factorised() -> None:
    problem = problem_of(PairsKernel().fingerprint(), Dataset([*samples.waters(2), *samples.waters(2)]))
    start = Trial(60.0, 1e-19, 1e-19)
    assert choose_by_leaving_out(problem, start, 10.0, (60.0, 1e-19, 1e-19)) == start


# Search by held-out errors -----------------------------------------------------------------------------------------


def test_given_values_take_their_places() -> None:
    found = Trial(1.0, 2.0, 3.0)
    assert with_fixed(found, FREE) == found
    assert with_fixed(found, (None, 5.0, None)) == Trial(1.0, 5.0, 3.0)
    assert with_fixed(found, (7.0, None, 8.0)) == Trial(7.0, 2.0, 8.0)
