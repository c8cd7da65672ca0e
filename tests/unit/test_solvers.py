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
from gprann.data.structure import Dataset
from gprann.descriptors import ChebyshevDescriptor
from gprann.errors import ConfigError, FactorisationError
from gprann.surrogate import AtomsKernel, Surrogate, SurrogateOptions, memory_needed
from gprann.surrogate.hyperparameters.criteria import Trial
from gprann.surrogate.kernels.base import KERNELS as REGISTERED_KERNELS
from gprann.surrogate.kernels.base import Fingerprint, Radial
from gprann.surrogate.kernels.internal_coordinates import observed_directions
from gprann.surrogate.observations import observe
from gprann.surrogate.solvers import conjugate_gradients as cg
from gprann.surrogate.solvers import plan
from gprann.surrogate.solvers.base import SOLVERS, Equations, Plan
from gprann.surrogate.solvers.conjugate_gradients import (
    CovarianceOperator,
    Eliminated,
    ReducedSystem,
    conjugate_gradients,
)
from gprann.surrogate.solvers.inducing import InducingApproximation
from gprann.surrogate.solvers.posterior import representatives
from samples import FIXED, KERNELS, MAKERS, system

SMOOTH = "squared_exponential"
NOISE = np.array([3e-4, 1e-5])


class Dense:
    """The matrix that the others do without, symmetric, in the order of `Observations`."""

    def __init__(self, fingerprint: Fingerprint, data: Dataset) -> None:
        self.fingerprint, self.data, self.length = fingerprint, data, 3.0 * fingerprint.spread
        self.mean = float(data.energies.mean())
        self.equations = Equations(fingerprint, data, self.mean)
        self.problem, self.rows, self.jacobians = observe(fingerprint, data, self.mean)
        lower = np.tril(self.problem.covariance(self.length))
        self.K = lower + np.tril(lower, -1).T
        self.noise = self.problem.noise(*NOISE)
        self.A = self.K + np.diag(self.noise)

    def operator(self) -> CovarianceOperator:
        kernel = self.problem.kernel(self.length)
        return CovarianceOperator(self.equations, self.rows, kernel, NOISE)

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
    fingerprint = REGISTERED_KERNELS.make(name, radial=radial).fingerprint()
    fingerprint.fit(data)
    return Dense(fingerprint, data)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(8)


# Products without the matrix ---------------------------------------------------------------------------------------


def test_tangents_are_adjoint_to_gradients(dense: Dense, rng: np.random.Generator) -> None:
    displacements = [rng.normal(size=(len(structure), 3)) for structure in dense.data]
    strains = rng.normal(size=(len(dense.data), 3, 3)) if dense.fingerprint.kernel.strains else None
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
    eliminated = Eliminated.build(dense.equations, Trial(3.0, 1.0, 1.0), chosen, NOISE)
    reduced = ReducedSystem(dense.operator(), eliminated, dense.data)

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
    (b_energy, b_force), (a_energy, a_force) = samples.uncalibrated(free, b), samples.uncalibrated(exact, a)
    if inducing >= 12:
        assert_close(b_energy, a_energy, relative=1e-5)
        assert_close(b_force, a_force, relative=1e-5)
    else:
        assert (b_energy > a_energy * (1 - 1e-6)).all()
        assert (b_force > a_force * (1 - 1e-6) - 1e-12).all()


def test_tolerance_bounds_the_residual() -> None:
    data = samples.waters(15)
    for tolerance in (1e-1, 1e-3, 1e-5):
        options: dict[str, Any] = {"solver": "conjugate_gradient", "tolerance": tolerance, "inducing": 2}
        facts = Surrogate("pairs", **FIXED, **options).fit(data).to_dict()
        assert facts["residual"] <= 1.1 * tolerance


def test_what_has_not_converged_is_named(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(cg, "_MAX_ITERATIONS", 2)
    options: dict[str, Any] = {"solver": "conjugate_gradient", "tolerance": 1e-9, "inducing": 1}
    surrogate = Surrogate("pairs", **FIXED, **options).fit(samples.waters(15))
    residual = surrogate.to_dict()["residual"]
    assert "did not reach the tolerance 1e-09" in caplog.text
    assert f"residual {residual:.1e} of the observations after 2 iterations" in caplog.text
    assert surrogate.to_dict()["converged"] is False
    assert "held out" not in caplog.text


def test_what_has_not_converged_without_some_structures_is_named(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The fit has, its calibration has not."""
    options: dict[str, Any] = {"solver": "conjugate_gradient", "tolerance": 1e-9, "inducing": 1}
    surrogate = Surrogate("pairs", **FIXED, **options).fit(samples.waters(25))
    monkeypatch.setattr(cg, "_MAX_ITERATIONS", 2)
    plain = surrogate.to_dict()
    assert plain["converged"] is True
    assert plain["calibration"]["converged"] is False
    (warning,) = (record.getMessage() for record in caplog.records if record.levelname == "WARNING")
    assert "conjugate gradients without 10 structures that are held out to judge" in warning
    assert "the factors on standard deviations may be less accurate" in warning
    monkeypatch.undo()
    again = Surrogate("pairs", **FIXED, **options).fit(samples.waters(25))
    assert again.calibration.converged


def test_inducing_structures_are_the_subset_of_regressors(dense: Dense) -> None:
    """Against the formula with the whole K_nm, and the variance of the deterministic training conditional."""
    chosen = np.array([0, 3, 6])
    m = dense.rows_of(chosen)
    approximation = InducingApproximation.build(dense.equations, Trial(3.0, 1.0, 1.0), chosen, NOISE)
    K_mn, A_mm = dense.K[m], dense.A[np.ix_(m, m)]
    inner = A_mm + (K_mn / dense.noise) @ K_mn.T
    weights = np.linalg.solve(inner, K_mn @ (dense.problem.values / dense.noise))
    # In place of queries the training set, whose covariances with the chosen are at hand.
    mean = dense.in_coordinates(K_mn.T @ weights)
    assert_close(dense.operator().from_others(approximation.mean), mean, relative=1e-6)
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
        options = {} if solver == "cholesky" else {"inducing": 3}
        surrogate = Surrogate(**FIXED, solver=solver, **options).fit(training)
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


@pytest.mark.parametrize("solver", ["cholesky", "conjugate_gradient", "inducing"])
def test_energy_covariance_has_the_variances_on_its_diagonal(solver: Any) -> None:
    options = {} if solver == "cholesky" else {"inducing": 4}
    surrogate = Surrogate("pairs", **FIXED, solver=solver, **options).fit(samples.waters(25))
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
    fingerprint = AtomsKernel().fingerprint()
    fingerprint.fit(data)
    chosen = representatives(fingerprint.rows(data), _core.SquaredExponential(5.0), 4)
    assert len(set(chosen.tolist())) == 4


# The choice --------------------------------------------------------------------------------------------------------


def planned(data: Dataset, **options: Any) -> Plan:
    fingerprint = AtomsKernel(descriptor=ChebyshevDescriptor.for_kernel(("H", "O"))).fingerprint()
    fingerprint.fit(data)
    memory = options.pop("memory")
    return SOLVERS.make(options.pop("solver", "auto"), **options).plan(data, fingerprint, memory)


def test_memory_and_time_choose_the_solver(monkeypatch: pytest.MonkeyPatch) -> None:
    data = samples.waters(200)
    dense = memory_needed(data, features=36)
    assert planned(data, memory=1.01 * dense).solver.name == "cholesky"
    small = planned(data, memory=0.9 * dense)
    assert small.solver.name == "conjugate_gradient"
    assert "the covariance matrix of 2000 observations takes" in small.reason
    assert planned(data, memory=0.5 * dense).solver.inducing < small.solver.inducing
    monkeypatch.setattr(plan, "_LARGEST_PRODUCT", 1e3)
    assert planned(data, memory=0.9 * dense).solver.name == "inducing"
    assert planned(data, memory=0.9 * dense, solver="conjugate_gradient").solver.name == "conjugate_gradient"


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
        ({"memory": np.nan}, "memory: expected a finite number, got nan"),
        ({"tolerance": 1.0}, "tolerance = 1.0: expected a fraction above 0 and below 1"),
        ({"inducing": 2.5}, r"inducing: expected a whole number, got 2\.5"),
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
        options = SurrogateOptions(memory=memory, tolerance=tolerance, inducing=inducing)
    except ConfigError:
        assert not good
    else:
        assert good
        assert (options.memory, options.solver.inducing) == (memory, inducing)
