"""The solver `sparse` against dense algebra, and what follows from it: extension, calibration, the plan, files."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import contracts
import samples
from contracts import Array, assert_close
from gprann import _core
from gprann.data.structure import Dataset
from gprann.descriptors import ChebyshevDescriptor
from gprann.errors import ConfigError
from gprann.surrogate import AtomsKernel, PairsKernel, Surrogate, memory_needed
from gprann.surrogate.hyperparameters.criteria import FREE, Trial
from gprann.surrogate.kernels.base import Environments
from gprann.surrogate.kernels.internal_coordinates import observed_directions
from gprann.surrogate.observations import observe
from gprann.surrogate.solvers import environments as algebra
from gprann.surrogate.solvers import plan, sparse_search
from gprann.surrogate.solvers.base import SOLVERS, Equations, Fit, Plan
from gprann.surrogate.solvers.calibration import calibration_of
from gprann.surrogate.solvers.environments import SparsePosterior, Triangle, choose_environments
from samples import FIXED

MAKERS = [samples.waters, samples.crystals, samples.strained_crystals]


def fitted(make: Callable[..., Dataset], n: int = 8, **options: Any) -> Surrogate:
    stress = make is samples.strained_crystals
    return Surrogate(**{**FIXED, "solver": "sparse", "stress": stress, **options}).fit(make(n))


class Explicit:
    """The sparse model of a fit with dense matrices: covariances from Jacobians, no triangles."""

    def __init__(self, fit: Fit, data: Dataset) -> None:
        posterior = fit.posterior
        assert isinstance(posterior, SparsePosterior)
        self.fit, self.mean = fit, fit.equations.mean
        self.environments = posterior.environments
        self.problem, _, _ = observe(fit.equations.fingerprint, data, self.mean)
        self.A = self.cross(self.problem.sets)
        self.noise = self.problem.noise(*fit.solution.noise)
        self.noise[self.problem.first[:-1]] *= data.n_atoms / posterior.equation.atoms
        self.K = posterior.root.T @ posterior.root
        self.values = self.problem.values
        self.Q = self.A @ np.linalg.solve(self.K, self.A.T)

    def cross(self, sets: _core.FeatureSets) -> Array:
        own = self.environments.rows().sets()
        block = np.zeros((sets.observations, len(self.environments)))
        _core.covariance(sets, own, self.fit.kernel, _core.Blas(), False, 1, block)
        return block

    def posterior(self, rows: Any) -> tuple[Array, Array]:
        """Means and variances, relative to the amplitude, of the observations in these rows from all others."""
        others = np.setdiff1d(np.arange(len(self.values)), rows)
        gram = self.Q[np.ix_(others, others)] + np.diag(self.noise[others])
        gain = np.linalg.solve(gram, self.Q[np.ix_(others, rows)]).T
        prior = np.zeros((len(self.values), len(self.values)))
        _core.covariance(self.problem.sets, self.problem.sets, self.fit.kernel, _core.Blas(), False, 1, prior)
        own = np.ix_(rows, rows)
        return gain @ self.values[others], prior[own] - gain @ self.Q[np.ix_(others, rows)]


@pytest.mark.parametrize("make", MAKERS)
@pytest.mark.parametrize("radial", ["squared_exponential", "matern52"])
def test_rows_are_covariances_of_observations_with_values(make: Callable[..., Dataset], radial: Any) -> None:
    data = make(5)
    fingerprint = AtomsKernel(radial=radial).fingerprint()
    fingerprint.fit(data)
    kernel = fingerprint.radial_kernel(3.0 * fingerprint.spread)
    environments, _ = choose_environments(fingerprint, make(3, seed=9), kernel, 7, 0.0)
    assert len(environments) == 7
    problem, _, _ = observe(fingerprint, data, 0.0)
    expected = np.zeros((len(problem.values), 7))
    sets = environments.rows().sets()
    _core.covariance(problem.sets, sets, kernel, _core.Blas(), False, 1, expected)
    energies, gradients, first = fingerprint.environment_rows(data, environments, kernel)
    found = []
    for index, structure in enumerate(data):
        directions = observed_directions(structure, fingerprint.invariant)
        own = gradients[:, first[index] : first[index + 1]]
        found += [energies[:, index][None, :], directions.T @ own.T]
    assert_close(np.concatenate(found), expected, relative=1e-12)
    alone = np.zeros((len(data), 7))
    _core.energy_covariance(fingerprint.rows(data).sets(), sets, kernel, _core.Blas(), 1, alone)
    assert_close(alone, energies.T, relative=1e-12)


def test_environments_are_those_of_the_pivoted_factorisation() -> None:
    data = samples.waters(6)
    fingerprint = AtomsKernel().fingerprint()
    fingerprint.fit(data)
    kernel = fingerprint.radial_kernel(fingerprint.spread)
    rows = fingerprint.rows(data)
    kinds = rows.kinds()
    distance = ((rows.features[:, None] - rows.features[None]) ** 2).sum(axis=2)
    left = np.exp(-distance / (2 * fingerprint.spread**2)) * (kinds[:, None] == kinds[None])
    total, features = float(np.trace(left)), []
    for _ in range(5):
        pivot = int(np.argmax(np.diagonal(left)))
        features.append(rows.features[pivot])
        left = left - np.outer(left[:, pivot], left[pivot]) / left[pivot, pivot]
    found, residual = choose_environments(fingerprint, data, kernel, 5, 0.0)
    assert_close(np.sort(found.features, axis=0), np.sort(np.array(features), axis=0), relative=1e-12)
    assert residual == pytest.approx(float(np.trace(left)) / total, rel=1e-9)
    fewer, _ = choose_environments(fingerprint, data, kernel, 5, 1.01 * residual)
    assert len(fewer) == 5
    enough, small = choose_environments(fingerprint, data, kernel, 18, 0.2)
    assert len(enough) < 18
    assert small <= 0.2


@pytest.mark.parametrize("make", MAKERS)
def test_weights_and_amplitude_are_those_of_the_dense_model(make: Callable[..., Dataset]) -> None:
    surrogate = fitted(make, environments=9, force_noise=1e-4, energy_noise=1e-4)
    fit = surrogate._require_fit()
    model = Explicit(fit, fit.equations.data)
    gram = model.Q + np.diag(model.noise)
    alpha = np.linalg.solve(gram, model.values)
    expected = np.linalg.solve(model.K, model.A.T @ alpha)
    assert_close(model.A @ fit.posterior.solved.weights, model.A @ expected, relative=1e-6)  # type: ignore[attr-defined]
    assert fit.amplitude2 == pytest.approx(float(model.values @ alpha) / len(alpha), rel=1e-6)


def test_compositions_and_sizes_may_be_mixed() -> None:
    """The algebra does not care; the noise of an energy grows with the number of atoms."""
    chains = Dataset([samples.labelled(samples.chain("OHO")), samples.labelled(samples.chain("HOHH"))])
    data = samples.waters(6) + chains + samples.waters(2, seed=3)
    fingerprint = AtomsKernel().fingerprint()
    fingerprint.fit(data)
    equations, settings = Equations(fingerprint, data, 0.0), Trial(3.0, 1e-4, 1e-4)
    solver = SOLVERS.make("sparse", environments=12)
    fit = Fit(equations, settings, FREE, Plan(solver, ""), solver.solve(equations, settings))
    errors = solver.leave_out(fit, np.array([0, 7]))
    model = Explicit(fit, data)
    assert len(set(model.noise[model.problem.first[:-1]].tolist())) == 2
    for place, index in enumerate((0, 7)):
        rows = np.arange(*model.problem.first[index : index + 2])
        mean, covariance = model.posterior(rows)
        found = np.append(errors.energy[place], errors.gradient[place])
        assert_close(found, model.values[rows] - mean, relative=1e-5)
        assert_close(errors.latent[place], fit.amplitude2 * covariance, relative=1e-5)


@pytest.mark.parametrize("make", MAKERS)
def test_structures_left_out_are_predicted_by_a_model_without_them(make: Callable[..., Dataset]) -> None:
    fit = fitted(make, environments=9, force_noise=1e-4, energy_noise=1e-4)._require_fit()
    errors = fit.plan.solver.leave_out(fit, np.array([1, 6]))
    model = Explicit(fit, fit.equations.data)
    for place, index in enumerate((1, 6)):
        rows = np.arange(*model.problem.first[index : index + 2])
        mean, covariance = model.posterior(rows)
        found = np.append(errors.energy[place], errors.gradient[place])
        assert_close(found, model.values[rows] - mean, relative=1e-5)
        assert_close(errors.latent[place], fit.amplitude2 * covariance, relative=1e-5)


def test_predictions_have_the_variance_of_the_projected_process() -> None:
    surrogate = fitted(samples.waters, environments=9, force_noise=1e-4, energy_noise=1e-4)
    fit, query = surrogate._require_fit(), samples.waters(3, seed=5)
    model = Explicit(fit, fit.equations.data + query)
    known = model.problem.first[len(fit.equations.data)]
    rows = np.arange(known, len(model.values))
    _, covariance = model.posterior(rows)
    prediction = surrogate.predict(query, forces_std=True)
    energies = model.problem.first[len(fit.equations.data) : -1] - known
    expected = fit.amplitude2 * np.diagonal(covariance)
    assert_close(np.asarray(prediction.energy_std) ** 2, expected[energies], relative=1e-5)
    directions = observed_directions(query[0], "rotation")
    own = np.arange(1, 1 + directions.shape[1])
    block = fit.amplitude2 * directions @ covariance[np.ix_(own, own)] @ directions.T
    assert prediction.forces_std is not None
    assert_close(prediction.forces_std[0].ravel() ** 2, np.diagonal(block), relative=1e-5)
    whole = surrogate.energy_covariance(query)
    assert_close(np.diagonal(whole), np.asarray(prediction.energy_std) ** 2, relative=1e-9)


@pytest.mark.parametrize("make", MAKERS[:2])
def test_forces_are_slopes_of_the_energies(make: Callable[..., Dataset]) -> None:
    surrogate, structure = fitted(make, n=12), make(1, seed=4)[0]
    prediction = surrogate.predict(Dataset([structure]), std=False)
    direction = np.random.default_rng(0).normal(size=structure.positions.shape)
    step = 1e-4
    moved = Dataset(
        structure.replace(positions=structure.positions + sign * step * direction) for sign in (1, -1)
    )
    above, below = surrogate.predict(moved, std=False).energy
    expected = (above - below) / (2 * step)
    assert -np.sum(prediction.forces[0] * direction) == pytest.approx(expected, rel=1e-5, abs=1e-6)


def test_many_environments_predict_as_the_exact_solver() -> None:
    training, query = samples.waters(60), samples.waters(20, seed=3)
    exact = Surrogate(**FIXED, solver="cholesky").fit(training).predict(query, std=False)
    error = float(np.abs(exact.energy - query.energies).mean())
    found = []
    for count in (5, 60):
        sparse = (
            Surrogate(**FIXED, solver="sparse", environments=count).fit(training).predict(query, std=False)
        )
        found.append(float(np.abs(sparse.energy - query.energies).mean()))
    assert found[1] < 0.2 * found[0]
    assert found[1] < 10.0 * error


@pytest.mark.parametrize("rows", [1, 50])
def test_blocks_do_not_matter(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = fitted(samples.waters, n=12).predict(samples.waters(4, seed=2))
    monkeypatch.setattr(algebra.blocks, "__defaults__", (rows,))
    found = fitted(samples.waters, n=12).predict(samples.waters(4, seed=2))
    assert_close(found.energy, expected.energy, relative=1e-6)
    assert_close(np.asarray(found.energy_std), np.asarray(expected.energy_std), relative=1e-3)


def test_number_of_threads_does_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    training, query = samples.waters(25), samples.waters(3, seed=2)

    def compute() -> list[Any]:
        surrogate = Surrogate(solver="sparse", environments=30).fit(training)
        prediction = surrogate.extend(samples.waters(2, seed=6)).predict(query, forces_std=True)
        return [prediction.energy, prediction.energy_std, *prediction.forces, *(prediction.forces_std or [])]

    contracts.assert_threads(compute, monkeypatch)


@pytest.mark.parametrize("make", MAKERS)
def test_an_extended_model_is_that_of_all_structures(make: Callable[..., Dataset]) -> None:
    """With environments and noises of the first fit, about the mean of all."""
    first, second = make(12), make(5, seed=2)
    options: dict[str, Any] = {"environments": 12, "force_noise": 1e-4, "energy_noise": 1e-4}
    surrogate = fitted(make, n=12, **options)
    before = surrogate._require_fit()
    surrogate.extend(second)
    after = surrogate._require_fit()
    assert after.equations.mean == pytest.approx(float((first + second).energies.mean()))
    assert after.solution.environments is before.solution.environments
    again = replace(after.solution, posterior=None)
    expected = after.plan.solver.posterior(after.equations, after.settings, again, [])
    assert isinstance(expected, SparsePosterior)
    found = after.posterior
    assert isinstance(found, SparsePosterior)
    assert_close(found.solved.weights, expected.solved.weights, relative=1e-5)
    assert found.equation.observations == expected.equation.observations
    assert_close(found.solved.misfit, expected.solved.misfit, relative=1e-6)


def test_new_environments_are_represented_after_an_extension() -> None:
    surrogate = fitted(samples.waters, n=20, length=1.0)
    before = surrogate._require_fit().solution.environments
    far = samples.waters(10, size=0.5, seed=7)
    surrogate.extend(far)
    after = surrogate._require_fit().solution.environments
    assert before is not None
    assert after is not None
    assert len(after) > len(before)
    assert (after.features.max(axis=0) >= before.features.max(axis=0) - 1e-12).all()


@pytest.mark.parametrize("factor", [True, False])
def test_a_loaded_model_predicts_the_same(tmp_path: Path, *, factor: bool) -> None:
    surrogate, query = fitted(samples.waters, n=25), samples.waters(3, seed=2)
    surrogate.save(tmp_path / "sparse.gprann", factor=factor)
    loaded = Surrogate.load(tmp_path / "sparse.gprann")
    expected, found = surrogate.predict(query), loaded.predict(query)
    contracts.assert_same_bits([[expected.energy, *expected.forces], [found.energy, *found.forces]])
    assert_close(np.asarray(found.energy_std), np.asarray(expected.energy_std), relative=1e-9)
    assert loaded.to_dict() == surrogate.to_dict()
    added = samples.waters(3, seed=8)
    assert_close(
        loaded.extend(added).predict(query).energy,
        surrogate.extend(added).predict(query).energy,
        relative=1e-9,
    )


def test_standard_deviations_are_calibrated_on_structures_without_environments() -> None:
    data = samples.waters(120)
    surrogate = Surrogate(solver="sparse", environments=60).fit(data)
    fit = surrogate._require_fit()
    sources = fit.solution.representatives
    assert 0 < len(sources) < len(data)
    left_out = np.setdiff1d(np.arange(len(data)), sources)
    own = surrogate.fingerprint.rows(fit.equations.data.select(left_out)).features
    environments = fit.solution.environments
    assert environments is not None
    assert not (own[:, None] == environments.features[None]).all(axis=2).any()
    assert calibration_of(fit, 0).n_structures == len(left_out)
    query = samples.waters(200, seed=5)
    prediction = surrogate.predict(query)
    within = np.abs(prediction.energy - query.energies) / np.asarray(prediction.energy_std)
    assert 0.45 < (within < 1).mean() < 0.9
    assert (within < 2).mean() > 0.8


def test_the_search_finds_noises_that_predict_well(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", logger="gprann")
    training, query = samples.waters(60), samples.waters(40, seed=3)
    found = Surrogate(solver="sparse").fit(training).predict(query, std=False)
    exact = Surrogate(solver="cholesky").fit(training).predict(query, std=False)
    errors = [float(np.abs(p.energy - query.energies).mean()) for p in (found, exact)]
    assert errors[0] < 10.0 * errors[1]
    assert "fifths of 60 structures held out" in caplog.text


def test_hyperparameters_that_are_given_are_kept() -> None:
    surrogate = Surrogate(solver="sparse", length=5.0, force_noise=1e-5).fit(samples.waters(25))
    settings = surrogate._require_fit().settings
    assert (settings.length, settings.force_noise) == (5.0, 1e-5)


def test_folds_are_predicted_by_the_others() -> None:
    fit = fitted(samples.waters, n=20, force_noise=1e-4, energy_noise=1e-4, environments=9)._require_fit()
    environments = fit.solution.environments
    assert environments is not None
    folds = sparse_search._folds(fit.equations, environments, fit.kernel)
    root = algebra.prior_root(environments, fit.kernel)
    errors = [fold.errors(root, fit.solution.noise) for fold in folds]
    model = Explicit(fit, fit.equations.data)
    for fold in range(5):
        own = np.arange(fold, 20, 5)
        rows = np.concatenate([np.arange(*model.problem.first[i : i + 2]) for i in own])
        mean, _ = model.posterior(rows)
        residual = (model.values[rows] - mean)[np.isin(rows, model.problem.first[:-1])]
        assert_close(errors[fold][0], np.abs(residual) / 3, relative=1e-5)


def test_memory_does_not_grow_with_the_structures() -> None:
    small, large = samples.waters(2000), samples.waters(4000)
    solver = SOLVERS.make("sparse", environments=500)
    assert solver.memory(large) == pytest.approx(solver.memory(small))
    assert solver.memory(large) < 0.3 * memory_needed(large)


def planned(data: Dataset, memory: float, solver: str = "auto", kernel: Any = None, **options: Any) -> Plan:
    fingerprint = (kernel or AtomsKernel(descriptor=ChebyshevDescriptor.for_kernel(("H", "O")))).fingerprint()
    fingerprint.fit(data)
    return SOLVERS.make(solver, **options).plan(data, fingerprint, memory)


def test_large_sets_of_a_sum_over_atoms_are_sparse(monkeypatch: pytest.MonkeyPatch) -> None:
    data = samples.waters(200)
    assert planned(data, 16.0).solver.name == "cholesky"
    monkeypatch.setattr(plan, "_MANY", 1999)
    found = planned(data, 16.0)
    assert found.solver.name == "sparse"
    assert "2000 observations of a sum over atoms" in found.reason
    assert planned(data, 16.0, kernel=PairsKernel()).solver.name == "cholesky"
    assert planned(data, 16.0, environments=50).solver.environments == 50  # type: ignore[attr-defined]
    monkeypatch.undo()
    monkeypatch.setattr(plan, "_SOME", 1999)
    little = 0.9 * memory_needed(data, features=36)
    assert planned(data, little).solver.name == "conjugate_gradient"  # a pool of environments takes more
    assert planned(samples.waters(1500), 1.0).solver.name == "sparse"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"environments": 0}, "environments = 0: expected 1 or more"),
        ({"environments": 2.5}, r"environments: expected a whole number, got 2\.5"),
        ({"inducing": 3}, "inducing"),
        (
            {"kernel": "pairs"},
            "solver 'sparse' needs a kernel that is a sum over atoms, which 'pairs' is not",
        ),
        ({"memory": 1e-3}, "solver 'sparse' needs about .* GiB for 30 structures"),
    ],
)
def test_what_cannot_be_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Surrogate(solver="sparse", **options).fit(samples.waters(30))


def test_triangles_of_parts_are_those_of_the_whole() -> None:
    rows = np.random.default_rng(1).normal(size=(40, 7))
    first, second = Triangle(7).append(rows[:25].copy()), Triangle(7).append(rows[25:].copy())
    for triangle in (first.copy().append(rows[25:].copy()), first.copy().join(second.R)):
        assert_close(triangle.R.T @ triangle.R, rows.T @ rows, relative=1e-13)
        assert not np.tril(triangle.R, -1).any()


def test_environments_as_structures_of_one_row() -> None:
    environments = Environments(np.arange(6.0).reshape(3, 2), np.array([0, 1, 1, 3]))
    rows = environments.rows()
    assert rows.kind_rows.tolist() == [[0, 1, 1, 1], [1, 1, 1, 2], [2, 2, 2, 3]]
    assert rows.kinds().tolist() == [0, 2, 2]
    with pytest.raises(TypeError, match="without positions"):
        rows.gradients(np.zeros((3, 2)))
