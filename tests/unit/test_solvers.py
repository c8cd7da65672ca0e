"""Solvers of the surrogate against the dense matrix, the choice among them, and structures added later."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import contracts
import samples
from contracts import Array, assert_close
from gprann import _core
from gprann.errors import ConfigError, DataError, FactorisationError
from gprann.parallel import one_blas_thread
from gprann.prediction import Prediction
from gprann.structure import Dataset
from gprann.surrogate import Surrogate, left_out, plan, solvers
from gprann.surrogate.directions import internal_directions, observed_directions
from gprann.surrogate.fingerprints import (
    AtomsFingerprint,
    CartesianFingerprint,
    Fingerprint,
    PairsFingerprint,
)
from gprann.surrogate.folded import FoldedTraining
from gprann.surrogate.gaussian_process import Factor, Problem, Radial
from gprann.surrogate.inducing import representatives
from gprann.surrogate.matrix_free import CovarianceOperator, ReducedSystem, conjugate_gradients
from gprann.surrogate.observations import build_problem

FIXED: dict[str, Any] = {"length": 3.0, "energy_noise": 1e-4, "force_noise": 2e-5}
SMOOTH = "squared_exponential"
NOISE = np.array([3e-4, 1e-5])
KERNELS = {"atoms": AtomsFingerprint, "pairs": PairsFingerprint, "cartesian": CartesianFingerprint}
MAKERS: list[Callable[[int], Dataset]] = [samples.waters, samples.crystals]


class Dense:
    """The matrix that the others do without, symmetric, in the order of `Problem`."""

    def __init__(self, fingerprint: Fingerprint, data: Dataset, radial: Radial) -> None:
        self.fingerprint, self.data, self.length = fingerprint, data, 3.0 * fingerprint.spread
        self.mean = float(data.energies.mean())
        self.problem, self.rows, self.jacobians = build_problem(fingerprint, data, self.mean, radial)
        lower = np.tril(self.problem.covariance(self.length))
        self.K = lower + np.tril(lower, -1).T
        self.noise = self.problem.noise(*NOISE)
        self.A = self.K + np.diag(self.noise)

    def operator(self) -> CovarianceOperator:
        kernel = self.problem.kernel(self.length)
        return CovarianceOperator(self.rows, self.data, self.fingerprint.invariant, kernel, NOISE)

    def in_coordinates(self, x: Array) -> Array:
        """Energies, then gradients along all coordinates."""
        first = self.problem.first
        gradients = [
            observed_directions(structure, self.fingerprint.invariant) @ x[begin + 1 : end]
            for structure, begin, end in zip(self.data, first[:-1], first[1:], strict=True)
        ]
        return np.concatenate([x[first[:-1]], *gradients])

    def rows_of(self, chosen: Any) -> Any:
        first = self.problem.first
        return np.concatenate([np.arange(first[i], first[i + 1]) for i in chosen])


@pytest.fixture(
    params=[(name, make, radial) for name in KERNELS for make in MAKERS for radial in get_args(Radial)]
    + [("atoms", samples.strained_crystals, SMOOTH)],
    ids=lambda p: f"{p[0]}-{p[1].__name__}-{p[2]}",
)
def dense(request: pytest.FixtureRequest) -> Dense:
    name, make, radial = request.param
    rng = np.random.default_rng(1)
    # As computed forces do, these have a resultant and a torque, which no invariant energy can follow.
    data = Dataset(
        structure.replace(forces=structure.forces + rng.normal(size=(len(structure), 3)))
        for structure in make(7)
    )
    fingerprint = KERNELS[name]()
    fingerprint.fit(data)
    return Dense(fingerprint, data, radial)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(8)


# Products without the matrix ---------------------------------------------------------------------------------------


def test_tangents_are_adjoint_to_gradients(dense: Dense, rng: np.random.Generator) -> None:
    displacements = [rng.normal(size=(len(structure), 3)) for structure in dense.data]
    strains = rng.normal(size=(len(dense.data), 3, 3)) if dense.fingerprint.strains else None
    slopes = rng.normal(size=dense.rows.features.shape)
    gradients, virials = dense.rows.gradients(slopes)
    backward, v = (
        np.concatenate([part.ravel() for part in (*parts, last) if part is not None])
        for parts, last in ((gradients, virials), (displacements, strains))
    )
    contracts.assert_adjoint(slopes.ravel(), dense.rows.tangents(displacements, strains).ravel(), v, backward)


def test_product_is_that_of_the_matrix(dense: Dense, rng: np.random.Generator) -> None:
    x, operator = rng.normal(size=len(dense.A)), dense.operator()
    assert operator.n_observations == len(dense.A)
    assert_close(operator.product(dense.in_coordinates(x)), dense.in_coordinates(dense.A @ x), relative=1e-11)
    assert_close(operator.values(dense.mean), dense.in_coordinates(dense.problem.values), relative=1e-12)


def test_reduced_system_is_the_schur_complement(dense: Dense, rng: np.random.Generator) -> None:
    chosen = np.array([1, 4, 5])
    m = dense.rows_of(chosen)
    o = np.setdiff1d(np.arange(len(dense.A)), m)
    factor = Factor(np.linalg.cholesky(dense.A[np.ix_(m, m)]))
    rows = dense.fingerprint.rows(dense.data.select(chosen))
    reduced = ReducedSystem(
        dense.operator(), rows, dense.data, chosen, factor=factor, invariant=dense.fingerprint.invariant
    )

    def spread(values: Array) -> Array:
        full = np.zeros(len(dense.A))
        full[o] = values
        return dense.in_coordinates(full)

    explained = dense.A[np.ix_(o, m)] @ np.linalg.inv(dense.A[np.ix_(m, m)])
    S = dense.A[np.ix_(o, o)] - explained @ dense.A[np.ix_(m, o)]
    x, y = rng.normal(size=len(o)), dense.problem.values
    scale = np.abs(dense.A).max()
    assert_close(reduced.product(spread(x)), spread(S @ x), relative=1e-9, scale=scale)
    right = y[o] - explained @ y[m]
    full = dense.in_coordinates(y)
    assert_close(reduced.right_side(full), spread(right), relative=1e-9, scale=np.abs(y).max())
    solution = reduced.complete(spread(np.linalg.solve(S, right)), full)
    residual = full - dense.operator().product(solution)
    assert np.abs(residual).max() < 1e-6 * np.abs(full).max()


# Conjugate gradients -----------------------------------------------------------------------------------------------


def system(n: int, rng: np.random.Generator) -> tuple[Array, Array]:
    half = rng.normal(size=(n, n))
    return half @ half.T + 0.1 * np.eye(n), rng.normal(size=n)


def test_conjugate_gradients_solve_a_system(rng: np.random.Generator) -> None:
    A, b = system(30, rng)
    diagonal = np.diagonal(A)
    found = conjugate_gradients(A.__matmul__, lambda r: r / diagonal, b, tolerance=1e-10, max_iterations=200)
    assert found.converged
    assert found.residual == pytest.approx(np.linalg.norm(b - A @ found.solution))
    assert_close(found.solution, np.linalg.solve(A, b), relative=1e-8)


def test_conjugate_gradients_say_when_they_have_not_converged(rng: np.random.Generator) -> None:
    A, b = system(30, rng)
    found = conjugate_gradients(A.__matmul__, lambda r: r, b, tolerance=1e-10, max_iterations=4)
    assert (found.converged, found.iterations) == (False, 4)
    assert found.residual > 1e-10
    nothing = conjugate_gradients(A.__matmul__, lambda r: r, 0 * b, tolerance=1e-10, max_iterations=4)
    assert (nothing.converged, nothing.iterations, nothing.residual) == (True, 0, 0.0)


@pytest.mark.parametrize("value", [-1.0, np.nan, np.inf])
def test_a_matrix_that_is_not_positive_definite_is_refused(value: float) -> None:
    A = np.diag([1.0, value])
    with pytest.raises(FactorisationError, match="not positive definite"):
        conjugate_gradients(
            A.__matmul__, lambda r: r, np.array([0.1, 1.0]), tolerance=1e-10, max_iterations=9
        )


# Solvers -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", MAKERS)
@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize(("inducing", "radial"), [(1, SMOOTH), (4, SMOOTH), (50, SMOOTH), (4, "matern52")])
def test_conjugate_gradients_predict_as_cholesky_does(
    kernel: Any, make: Callable[..., Dataset], inducing: int, radial: Any
) -> None:
    training, query = make(12), make(5, seed=3)
    exact = Surrogate(kernel, **FIXED, radial=radial, solver="cholesky").fit(training)
    options: dict[str, Any] = {"solver": "conjugate_gradient", "inducing": inducing, "tolerance": 1e-9}
    free = Surrogate(kernel, **FIXED, radial=radial, **options).fit(training)
    a, b = (surrogate.predict(query, forces_std=True) for surrogate in (exact, free))
    assert_close(b.energy, a.energy, relative=1e-7)
    assert_close(np.array(b.forces), np.array(a.forces), relative=1e-6)
    for ours, theirs in zip((free, exact), (exact, free), strict=True):
        assert ours.hyperparameters.amplitude == pytest.approx(theirs.hyperparameters.amplitude, rel=1e-6)
        assert ours.hyperparameters.force_noise == pytest.approx(theirs.hyperparameters.force_noise, rel=1e-6)
    facts = free.to_dict()
    assert facts["solver"] == "conjugate_gradient"
    assert facts["inducing"] == min(inducing, 12)
    assert 0 <= facts["residual"] < 1e-8
    # Standard deviations given fewer structures are upper bounds.
    (b_energy, b_force), (a_energy, a_force) = uncalibrated(free, b), uncalibrated(exact, a)
    if inducing >= 12:
        assert_close(b_energy, a_energy, relative=1e-5)
        assert_close(b_force, a_force, relative=1e-5)
    else:
        assert (b_energy > a_energy * (1 - 1e-6)).all()
        assert (b_force > a_force * (1 - 1e-6) - 1e-12).all()


def uncalibrated(surrogate: Surrogate, prediction: Prediction) -> tuple[Array, Array]:
    """The standard deviations of energies and forces that follow from the kernel."""
    assert prediction.energy_std is not None
    assert prediction.forces_std is not None
    factors = surrogate.calibration
    return prediction.energy_std / factors.energy, np.array(prediction.forces_std) / factors.force


def test_tolerance_bounds_the_residual() -> None:
    data = samples.waters(15)
    for tolerance in (1e-1, 1e-3, 1e-5):
        options: dict[str, Any] = {"solver": "conjugate_gradient", "tolerance": tolerance, "inducing": 2}
        facts = Surrogate("pairs", **FIXED, **options).fit(data).to_dict()
        assert facts["residual"] <= 1.1 * tolerance


def test_what_has_not_converged_is_named(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(solvers, "_MAX_ITERATIONS", 2)
    options: dict[str, Any] = {"solver": "conjugate_gradient", "tolerance": 1e-9, "inducing": 1}
    surrogate = Surrogate("pairs", **FIXED, **options).fit(samples.waters(15))
    residual = surrogate.to_dict()["residual"]
    assert "did not reach the tolerance 1e-09" in caplog.text
    assert f"residual {residual:.1e} of the observations after 2 iterations" in caplog.text
    assert surrogate.to_dict()["converged"] is False
    assert "left out" not in caplog.text


def test_what_has_not_converged_without_some_structures_is_named(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The fit has, its calibration has not."""
    options: dict[str, Any] = {"solver": "conjugate_gradient", "tolerance": 1e-9, "inducing": 1}
    surrogate = Surrogate("pairs", **FIXED, **options).fit(samples.waters(25))
    monkeypatch.setattr(solvers, "_MAX_ITERATIONS", 2)
    plain = surrogate.to_dict()
    assert plain["converged"] is True
    assert plain["calibration"]["converged"] is False
    (warning,) = (record.getMessage() for record in caplog.records if record.levelname == "WARNING")
    assert "conjugate gradients without 10 structures that are left out to judge" in warning
    assert "the factors on standard deviations may be less accurate" in warning
    monkeypatch.undo()
    again = Surrogate("pairs", **FIXED, **options).fit(samples.waters(25))
    assert again.calibration.converged


def test_inducing_structures_are_the_subset_of_regressors(dense: Dense) -> None:
    """Against the formula with the whole K_nm, and the variance of the deterministic training conditional."""
    data, fingerprint = dense.data, dense.fingerprint
    chosen = np.array([0, 3, 6])
    m = dense.rows_of(chosen)
    approximation = solvers.InducingApproximation.build(
        fingerprint,
        data,
        chosen,
        mean=dense.mean,
        length=dense.length,
        noise=NOISE,
        radial=dense.problem.radial,
    )
    K_mn, A_mm = dense.K[m], dense.A[np.ix_(m, m)]
    inner = A_mm + (K_mn / dense.noise) @ K_mn.T
    weights = np.linalg.solve(inner, K_mn @ (dense.problem.values / dense.noise))
    # In place of queries the training set, whose covariances with the chosen are at hand.
    mean = dense.in_coordinates(K_mn.T @ weights)
    assert_close(dense.operator().from_others(approximation.fold(approximation.weights)), mean, relative=1e-6)
    expected = dense.K - K_mn.T @ (np.linalg.inv(A_mm) - np.linalg.inv(inner)) @ K_mn
    covariance = approximation.covariance(dense.K, K_mn.T.copy())
    scale = np.abs(dense.K).max()
    assert_close(covariance, expected, relative=1e-7, scale=scale)
    variance = approximation.variance(np.diagonal(dense.K), K_mn.T.copy())
    assert_close(variance, np.diagonal(expected), relative=1e-7, scale=scale)


def test_more_inducing_structures_predict_better() -> None:
    training, query = samples.waters(40), samples.waters(20, seed=5)
    errors = []
    for count in (2, 8, 40):
        surrogate = Surrogate("pairs", **FIXED, solver="inducing", inducing=count).fit(training)
        prediction = surrogate.predict(query)
        errors.append(float(np.abs(np.array(prediction.forces) - np.array(query.forces)).mean()))
        assert np.isfinite(prediction.energy_std).all()
    assert errors[0] > errors[1] > errors[2]
    exact = Surrogate("pairs", **FIXED).fit(training).predict(query)
    assert errors[2] < 1.2 * float(np.abs(np.array(exact.forces) - np.array(query.forces)).mean())


@pytest.mark.parametrize("solver", ["cholesky", "conjugate_gradient", "inducing"])
def test_number_of_threads_does_not_matter(solver: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    training, query = samples.waters(9), samples.waters(3, seed=2)

    def compute() -> list[Any]:
        inducing = None if solver == "cholesky" else 3
        surrogate = Surrogate(**FIXED, solver=solver, inducing=inducing).fit(training)
        prediction = surrogate.extend(samples.waters(2, seed=6)).predict(query)
        return [prediction.energy, prediction.energy_std, *prediction.forces]

    contracts.assert_threads(compute, monkeypatch)


@pytest.mark.parametrize("solver", ["conjugate_gradient", "inducing"])
def test_difficult_training_sets(solver: Any) -> None:
    one = samples.waters(1)
    for data in (
        one,
        one + one + one,
        Dataset(s.replace(energy=0.0, forces=np.zeros((3, 3))) for s in samples.waters(4)),
    ):
        prediction = Surrogate(solver=solver).fit(data).predict(data, forces_std=True)
        assert_close(prediction.energy, data.energies, relative=1e-2, scale=0.1)
        assert np.isfinite(prediction.energy_std).all()


# Structures left out ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("radial", get_args(Radial))
@pytest.mark.parametrize("solver", ["conjugate_gradient", "inducing"])
def test_structures_left_out_are_predicted_by_a_fit_without_them(solver: Any, radial: Any) -> None:
    data = samples.waters(24)
    options: dict[str, Any] = {"solver": solver, "radial": radial, "inducing": 5}
    if solver == "conjugate_gradient":
        options["tolerance"] = 1e-9
    surrogate = Surrogate("pairs", **FIXED, **options).fit(data)
    chosen = np.array([2, 3, 17])
    errors = left_out.leave_out(surrogate._fitted(), chosen)
    without = Surrogate("pairs", **FIXED, **options)
    kept = data.select(np.setdiff1d(np.arange(24), chosen))
    without.fit(kept)
    # The features of the kernel 'pairs' are not scaled; the length is, and that by the set of the first fit.
    without = Surrogate(
        "pairs",
        **{**FIXED, "length": 3.0 * surrogate.fingerprint.spread / without.fingerprint.spread},
        **options,
    ).fit(kept)
    query = data.select(chosen)
    prediction = without.predict(query, forces_std=True)
    assert_close(errors.energy, query.energies - prediction.energy, relative=1e-6, scale=1e-2)
    for index, structure in enumerate(query):
        directions = internal_directions(structure, "rotation")
        difference = (prediction.forces[index] - np.asarray(structure.forces)).ravel() @ directions
        assert_close(errors.gradient[index], difference, relative=1e-6, scale=1e-1)
    assert prediction.energy_std is not None
    stds = prediction.energy_std / without.calibration.energy
    assert_close(np.sqrt([block[0, 0] for block in errors.latent]), stds, relative=1e-6)


@pytest.mark.parametrize("solver", ["conjugate_gradient", "inducing"])
def test_other_solvers_are_calibrated_by_their_own_errors(solver: Any) -> None:
    options: dict[str, Any] = {**FIXED, "solver": solver, "inducing": 20}
    surrogate = Surrogate("pairs", **options).fit(samples.waters(60))
    factors = surrogate.calibration
    assert factors.n_structures == 10
    query = samples.waters(40, seed=9)
    found = surrogate.predict(query, forces_std=True)
    energy_std, force_std = uncalibrated(surrogate, found)
    errors = (found.energy - query.energies, np.array(found.forces) - np.array(query.forces))
    # Closer to the 0.67 of normally distributed errors.
    for error, std, factor in zip(
        errors, (energy_std, force_std), (factors.energy, factors.force), strict=True
    ):
        ratio = np.median(np.abs(error) / std)
        assert abs(np.log(ratio / factor / 0.67)) < abs(np.log(ratio / 0.67))
    assert surrogate.extend(samples.waters(60, seed=4)).calibration.n_structures == 12
    assert Surrogate("pairs", **options).fit(samples.waters(19)).calibration.n_structures == 0


@pytest.mark.parametrize("solver", ["conjugate_gradient", "inducing"])
@pytest.mark.parametrize("n", [1, 3, 20])
def test_uncertainty_of_structures_left_out(solver: Any, n: int) -> None:
    data = samples.waters(n)
    whole = Surrogate("pairs", **FIXED, solver=solver, inducing=50).fit(data)
    found = whole.left_out_std(8) / whole.calibration.energy
    assert found.shape == (min(n, 8),)
    exact = Surrogate("pairs", **FIXED).fit(data)
    alone = exact.left_out_std(8) / exact.calibration.energy
    # With others left out too they are less certain, but for an amplitude from other structures.
    assert (found > 0.6 * alone).all()
    if n == 20:
        assert np.median(found / alone) < 3


@pytest.mark.parametrize("solver", ["cholesky", "conjugate_gradient", "inducing"])
def test_energy_covariance_has_the_variances_on_its_diagonal(solver: Any) -> None:
    inducing = None if solver == "cholesky" else 4
    surrogate = Surrogate("pairs", **FIXED, solver=solver, inducing=inducing).fit(samples.waters(25))
    query = samples.waters(6, seed=3)
    covariance = surrogate.energy_covariance(query)
    stds = surrogate.predict(query).energy_std
    assert_close(np.sqrt(np.diagonal(covariance)), np.asarray(stds), relative=1e-6)
    assert_close(covariance, covariance.T, relative=1e-9)


# Representatives ---------------------------------------------------------------------------------------------------


def test_representatives_are_those_of_the_pivoted_factorisation(dense: Dense) -> None:
    energies = dense.problem.first[:-1]
    K = dense.K[np.ix_(energies, energies)]
    left, expected = K.copy(), []
    for _ in range(3):
        pivot = int(np.argmax(np.diagonal(left)))
        expected.append(pivot)
        left = left - np.outer(left[:, pivot], left[pivot]) / left[pivot, pivot]
    kernel = dense.problem.kernel(dense.length)
    assert representatives(dense.rows, kernel, 3).tolist() == sorted(expected)
    assert representatives(dense.rows, kernel, 99).tolist() == list(range(len(dense.data)))


def test_representatives_of_equal_structures_are_different_ones() -> None:
    data = samples.waters(1) + samples.waters(1) + samples.waters(3)
    fingerprint = AtomsFingerprint()
    fingerprint.fit(data)
    chosen = representatives(fingerprint.rows(data), _core.SquaredExponential(5.0), 4)
    assert len(set(chosen.tolist())) == 4


# The choice --------------------------------------------------------------------------------------------------------


def planned(data: Dataset, **options: Any) -> plan.Plan:
    fingerprint = AtomsFingerprint()
    fingerprint.fit(data)
    return plan.plan_solver(data, fingerprint, plan.SolverOptions(**options))


def test_memory_and_time_choose_the_solver(monkeypatch: pytest.MonkeyPatch) -> None:
    data = samples.waters(200)
    dense = plan.memory_needed(data)
    assert planned(data, memory=1.01 * dense).solver == "cholesky"
    small = planned(data, memory=0.9 * dense)
    assert small.solver == "conjugate_gradient"
    assert "the covariance matrix of 2000 observations takes" in small.reason
    assert planned(data, memory=0.5 * dense).inducing < small.inducing
    monkeypatch.setattr(plan, "_LARGEST_PRODUCT", 1e3)
    assert planned(data, memory=0.9 * dense).solver == "inducing"
    assert planned(data, memory=0.9 * dense, solver="conjugate_gradient").solver == "conjugate_gradient"


def test_what_does_not_fit_is_refused() -> None:
    data = samples.waters(200)
    with pytest.raises(
        ConfigError, match=r"solver 'cholesky' needs about .* GiB for 200 structures.*solver = 'auto'"
    ):
        planned(data, memory=0.01, solver="cholesky")
    with pytest.raises(ConfigError, match="solver 'conjugate_gradient' needs about"):
        planned(data, memory=1e-4)
    with pytest.raises(ConfigError, match="solver 'inducing' needs about"):
        planned(data, memory=0.01, solver="inducing", inducing=200)


def test_the_choice_is_logged_and_kept(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", logger="gprann")
    surrogate = Surrogate(**FIXED, memory=0.02).fit(samples.waters(200))
    facts = surrogate.to_dict()
    assert facts["solver"] == "conjugate_gradient"
    assert f"solver conjugate_gradient: {facts['solver_reason']}" in caplog.text


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"solver": "cholesk"}, "solver = 'cholesk': did you mean 'cholesky'"),
        ({"memory": 0.0}, "memory = 0.0: expected a positive number"),
        ({"memory": np.nan}, "memory = nan"),
        ({"tolerance": 1.0}, "tolerance = 1.0: expected a number between 0 and 1"),
        ({"inducing": 2.5}, r"inducing = 2\.5: expected 1 or more, a whole number"),
        ({"inducing": 0}, "inducing = 0: expected 1 or more"),
    ],
)
def test_impossible_options_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Surrogate(**options)


@given(tolerance=st.floats(), memory=st.floats(), inducing=st.integers(-3, 3))
def test_options_are_usable_or_refused(tolerance: float, memory: float, inducing: int) -> None:
    good = 0 < tolerance < 1 and 0 < memory < np.inf and inducing >= 1
    try:
        options = plan.SolverOptions(memory=memory, tolerance=tolerance, inducing=inducing)
    except ConfigError:
        assert not good
    else:
        assert good
        assert 0 < options.budget <= memory


# Structures added later --------------------------------------------------------------------------------------------


def test_an_extended_factor_is_that_of_the_whole_matrix(rng: np.random.Generator) -> None:
    A, _ = system(600, rng)
    n = 530
    with one_blas_thread():
        before = Factor(np.linalg.cholesky(A[:n, :n]))
        extended = before.extended(A[n:])
    expected = np.linalg.cholesky(A)
    assert_close(np.tril(extended.L), expected, relative=1e-11)


def test_a_row_that_cannot_be_added_is_named() -> None:
    before = Factor(np.linalg.cholesky(np.diag([2.0, 1.0])))
    with pytest.raises(FactorisationError, match="at row 2 of 3") as caught:
        before.extended(np.array([[2.0, 0.0, 1.0]]))
    assert caught.value.row == 2


@pytest.mark.parametrize("make", MAKERS)
@pytest.mark.parametrize("kernel", KERNELS)
def test_extended_surrogates_predict_as_fits_to_all(kernel: Any, make: Callable[..., Dataset]) -> None:
    """With the features' scaling and the noise of the first fit."""
    first, second, query = make(6), make(4, seed=2), make(5, seed=3)
    surrogate = Surrogate(kernel, **FIXED).fit(first)
    noise = surrogate._fitted().solution.noise
    together = first + second
    mean = float(together.energies.mean())
    problem, rows, jacobians = build_problem(surrogate.fingerprint, together, mean, surrogate.radial)
    length = FIXED["length"] * surrogate.fingerprint.spread
    lower = np.tril(problem.covariance(length))
    A = lower + np.tril(lower, -1).T + np.diag(problem.noise(*noise))
    alpha = np.linalg.solve(A, problem.values)
    folded = FoldedTraining.from_weights(rows, jacobians, alpha, problem.first)
    energy, _ = folded.predict(surrogate.fingerprint.rows(query), problem.kernel(length))
    assert surrogate.extend(second) is surrogate
    prediction = surrogate.predict(query)
    assert_close(prediction.energy, energy + mean, relative=1e-9)
    assert surrogate.hyperparameters.amplitude == pytest.approx(np.sqrt(problem.values @ alpha / len(alpha)))
    assert surrogate.to_dict()["n_structures"] == 10
    assert variance_of(surrogate, query) == pytest.approx(
        expected_variance(problem, A, surrogate, query), rel=1e-5
    )


def variance_of(surrogate: Surrogate, query: Dataset) -> Array:
    std, _ = uncalibrated(surrogate, surrogate.predict(query, forces_std=True))
    return (std / surrogate.hyperparameters.amplitude) ** 2


def expected_variance(problem: Problem, A: Array, surrogate: Surrogate, query: Dataset) -> Array:
    joint, _, _ = build_problem(surrogate.fingerprint, query, 0.0, surrogate.radial)
    kernel = problem.kernel(FIXED["length"] * surrogate.fingerprint.spread)
    cross = np.zeros((joint.sets.observations, problem.sets.observations))
    _core.covariance(joint.sets, problem.sets, kernel, _core.Blas(), False, 1, cross)
    cross = cross[joint.first[:-1]]
    prior = _core.energy_variance(joint.sets, kernel)
    variance: Array = prior - np.einsum("qk,kq->q", cross, np.linalg.solve(A, cross.T))
    return variance


@pytest.mark.parametrize("solver", ["cholesky", "conjugate_gradient", "inducing"])
def test_structures_added_improve_predictions(solver: Any) -> None:
    query = samples.waters(20, seed=3)
    surrogate = Surrogate(**FIXED, solver=solver).fit(samples.waters(5))
    errors = []
    for seed in (7, 8):
        errors.append(float(np.abs(surrogate.predict(query).energy - query.energies).mean()))
        surrogate.extend(samples.waters(20, seed=seed))
    errors.append(float(np.abs(surrogate.predict(query).energy - query.energies).mean()))
    assert errors[2] < errors[1] < errors[0]


def test_another_solver_may_be_chosen_for_the_larger_set() -> None:
    """As where memory has become free: the factor of the representatives is not that of the training set."""
    query = samples.waters(5, seed=3)
    surrogate = Surrogate(**FIXED, solver="conjugate_gradient", inducing=2).fit(samples.waters(6))
    surrogate._solver = plan.SolverOptions("cholesky")
    prediction = surrogate.extend(samples.waters(4, seed=2)).predict(query)
    expected = Surrogate(**FIXED).fit(samples.waters(6)).extend(samples.waters(4, seed=2)).predict(query)
    assert surrogate.to_dict()["solver"] == "cholesky"
    assert_close(prediction.energy, expected.energy, relative=1e-2)


def test_extending_by_nothing_or_by_known_structures_changes_little() -> None:
    data = samples.waters(6)
    surrogate = Surrogate(**FIXED).fit(data)
    before = surrogate.predict(data).energy
    contracts.assert_same_bits([[surrogate.extend(data[:0]).predict(data).energy], [before]])
    assert_close(surrogate.extend(data[:3]).predict(data).energy, before, relative=1e-3)


def test_a_refused_extension_leaves_the_surrogate_as_it_was() -> None:
    data = samples.waters(5)
    with pytest.raises(ConfigError, match="has not been fitted"):
        Surrogate().extend(data)
    surrogate = Surrogate(**FIXED).fit(data)
    before = surrogate.predict(data).energy
    chain = Dataset([samples.labelled(samples.chain("OHO"))])
    for added, message in (
        (chain, "composition HO2 differs from H2O"),
        (Dataset([data[0].replace(forces=None)]), "has no forces"),
    ):
        with pytest.raises(DataError, match=message):
            surrogate.extend(added)
    contracts.assert_same_bits([[surrogate.predict(data).energy], [before]])


@pytest.mark.parametrize("solver", ["cholesky", "inducing"])
def test_structures_that_are_there_are_not_added_again(solver: Any, caplog: pytest.LogCaptureFixture) -> None:
    """Neither moved as a whole, nor with another label, nor twice among the new ones."""
    data, new = samples.waters(8), samples.waters(2, seed=4)
    moved = data[3].replace(positions=data[3].positions + 1.0, energy=7.0)
    surrogate = Surrogate(**FIXED, solver=solver).fit(data)
    before = surrogate.predict(new).energy
    assert surrogate.extend([data[2], moved]) is surrogate  # type: ignore[arg-type]
    contracts.assert_same_bits([[surrogate.predict(new).energy], [before]])
    assert "2 of 2 structures left out, their geometries are in the training set already" in caplog.text
    assert "waters, structure 2, waters, structure 3" in caplog.text
    caplog.clear()
    surrogate.extend(Dataset([data[0], new[0], new[0], new[1]]))
    assert "2 of 4 structures left out" in caplog.text
    expected = Surrogate(**FIXED, solver=solver).fit(data).extend(new)
    contracts.assert_same_bits([[m.predict(data).energy] for m in (surrogate, expected)])
    assert surrogate.to_dict()["n_structures"] == 10


def test_noise_rises_where_the_extended_matrix_is_singular(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def failing(self: Factor, rows: Array) -> Factor:
        raise FactorisationError("singular", 3)

    monkeypatch.setattr(Factor, "extended", failing)
    data = samples.waters(5)
    given_noise = Surrogate("pairs", **FIXED).fit(data)
    with pytest.raises(FactorisationError):
        given_noise.extend(samples.waters(5, seed=4))
    surrogate = Surrogate("pairs", length=3.0).fit(data)
    surrogate.extend(samples.waters(3, seed=4))
    assert caplog.text.count("singular in double precision") == 1
    assert surrogate.to_dict()["n_structures"] == 8
