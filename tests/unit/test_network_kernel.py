"""Networks of the compiled core against the same equations atom by atom."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

import contracts
from contracts import EPS, Array
from gprann import _core
from gprann.runtime.resources import one_blas_thread, scipy_blas
from reference.network_oracle import ACTIVATIONS, atom_terms

HIDDEN: tuple[tuple[int, ...], ...] = ((), (7,), (6, 5, 3))
D = 9


@dataclass(frozen=True)
class Problem:
    """Random atoms of some structures with a random network.

    features: (atoms, D), sorted by species, then structure; rows: (species, structures + 1).
    """

    sizes: list[int]
    activation: str
    features: Array
    rows: Any
    parameters: Array

    @property
    def network(self) -> _core.Network:
        return _core.Network(self.sizes, self.activation, len(self.rows))

    @property
    def atoms(self) -> _core.AtomFeatures:
        return _core.AtomFeatures(self.features, self.rows)

    @property
    def n_structures(self) -> int:
        return self.rows.shape[1] - 1


def make_problem(
    hidden: tuple[int, ...] = (7,),
    activation: str = "tanh",
    *,
    n: int = 12,
    n_species: int = 3,
    seed: int = 0,
) -> Problem:
    """Between 0 and 4 atoms of a species in a structure, some structures without any atom of some species."""
    rng = np.random.default_rng(seed)
    counts = rng.integers(0, 5, size=(n_species, n))
    counts[0, : n // 3] = 0
    counts[-1, n // 2] = 0
    ends = np.cumsum(counts).reshape(n_species, n)
    rows = np.column_stack([np.append(0, ends[:-1, -1]), ends])
    sizes = [D, *hidden, 1]
    per_species = sum(o * (i + 1) for i, o in itertools.pairwise(sizes))
    return Problem(
        sizes,
        activation,
        rng.normal(size=(counts.sum(), D)),
        rows,
        rng.normal(size=n_species * per_species) * 0.5,
    )


@pytest.fixture(params=[(h, a) for h in HIDDEN for a in ACTIVATIONS], ids=str)
def problem(request: pytest.FixtureRequest) -> Problem:
    return make_problem(*request.param)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(4)


def reference(p: Problem) -> tuple[Array, Array, Array, Array]:
    """Energies (n), dE/dw (n, P), atomic energies (atoms) and slopes (atoms, D)."""
    own = p.parameters.reshape(len(p.rows), -1)
    E, rows = np.zeros(p.n_structures), np.zeros((p.n_structures, *own.shape))
    eps, slopes = np.zeros(len(p.features)), np.zeros_like(p.features)
    for t, first in enumerate(p.rows):
        for s in range(p.n_structures):
            for i in range(first[s], first[s + 1]):
                eps[i], slopes[i], gradient = atom_terms(own[t], p.sizes, p.activation, p.features[i])
                E[s] += eps[i]
                rows[s, t] += gradient
    return E, rows.reshape(p.n_structures, -1), eps, slopes


def blases() -> list[Any]:
    return [pytest.param(_core.Blas, id="Eigen"), pytest.param(scipy_blas, id="scipy")]


def normal_equations(
    p: Problem, targets: Array, weights: Array, blas: _core.Blas, threads: int = 2
) -> tuple[Array, Array, float]:
    P = p.network.n_parameters
    H, b = np.full((P, P), np.nan), np.full(P, np.nan)
    with one_blas_thread():
        loss = p.network.normal_equations(p.parameters, p.atoms, targets, weights, blas, threads, H, b)
    return np.tril(H), b, loss


# Against the equations --------------------------------------------------------------------------------------------


def test_number_of_parameters(problem: Problem) -> None:
    assert problem.network.n_parameters == len(problem.parameters)
    assert _core.Network([36, 10, 10, 1], "tanh", 3).n_parameters == 3 * (370 + 110 + 11)


def test_energies_and_slopes(problem: Problem) -> None:
    E, rows, eps, slopes = reference(problem)
    network, atoms, w = problem.network, problem.atoms, problem.parameters
    contracts.assert_close(network.energies(w, atoms, 2), E, relative=1e-13)
    actual_eps, actual_slopes = network.atoms(w, atoms, 2)
    contracts.assert_close(actual_eps, eps, relative=1e-13)
    contracts.assert_close(actual_slopes, slopes, relative=1e-13)
    actual_E, actual_rows = network.energy_rows(w, atoms)
    contracts.assert_close(actual_E, E, relative=1e-13)
    contracts.assert_close(actual_rows, rows, relative=1e-13)


def test_loss_of_a_batch(problem: Problem, rng: np.random.Generator) -> None:
    E, rows, _, _ = reference(problem)
    targets, weights = rng.normal(size=len(E)), rng.uniform(size=len(E))
    for batch in (np.arange(len(E)), np.array([7, 2, 2, 11]), np.zeros(0, dtype=np.int64)):
        loss, gradient = problem.network.energy_loss(
            problem.parameters, problem.atoms, batch, targets, weights, 2
        )
        residual = E[batch] - targets[batch]
        expected = 2 * (weights[batch] * residual) @ rows[batch]
        contracts.assert_close(loss, np.sum(weights[batch] * residual**2), relative=1e-13)
        contracts.assert_close(gradient, expected, relative=1e-13)


@pytest.mark.parametrize("blas", blases())
def test_normal_equations(problem: Problem, rng: np.random.Generator, blas: Any) -> None:
    E, rows, _, _ = reference(problem)
    targets, weights = rng.normal(size=len(E)), rng.uniform(size=len(E))
    weights[3] = 0.0
    H, b, loss = normal_equations(problem, targets, weights, blas())
    contracts.assert_close(H, np.tril(rows.T * weights @ rows), relative=1e-13)
    contracts.assert_close(b, rows.T @ (weights * (E - targets)), relative=1e-13)
    contracts.assert_close(loss, np.sum(weights * (E - targets) ** 2), relative=1e-13)


@pytest.mark.parametrize("blas", blases())
def test_normal_equations_in_many_panels_and_tiles(rng: np.random.Generator, blas: Any) -> None:
    """More structures than rows of a panel (1024) and more parameters than columns of a tile (256)."""
    p = make_problem((20, 10), n=1100, n_species=2, seed=3)
    assert p.network.n_parameters > 2 * 256
    E, rows = p.network.energy_rows(p.parameters, p.atoms)
    targets, weights = rng.normal(size=len(E)), rng.uniform(size=len(E))
    H, b, loss = normal_equations(p, targets, weights, blas())
    contracts.assert_close(H, np.tril(rows.T * weights @ rows), relative=1e-12)
    contracts.assert_close(b, rows.T @ (weights * (E - targets)), relative=1e-12)
    contracts.assert_close(loss, np.sum(weights * (E - targets) ** 2), relative=1e-12)


def test_structures_without_atoms_have_no_energy() -> None:
    p = make_problem()
    rows = np.concatenate([p.rows[:, :4], p.rows[:, 3:]], axis=1)  # one more structure, without atoms
    E = p.network.energies(p.parameters, _core.AtomFeatures(p.features, rows), 1)
    assert E[3] == 0.0
    np.testing.assert_array_equal(np.delete(E, 3), p.network.energies(p.parameters, p.atoms, 1))


def test_species_without_atoms_have_no_gradient(rng: np.random.Generator) -> None:
    p = make_problem()
    rows = np.array([p.rows[0], np.full_like(p.rows[0], p.rows[0, -1]), p.rows[1] * 0 + p.rows[0, -1]])
    atoms = _core.AtomFeatures(p.features[: rows[-1, -1]], rows)
    everything, ones = np.arange(p.n_structures), np.ones(p.n_structures)
    _, gradient = p.network.energy_loss(p.parameters, atoms, everything, 3 * ones, ones, 2)
    assert gradient.reshape(3, -1)[0].any()
    assert not gradient.reshape(3, -1)[1:].any()


# Derivatives ------------------------------------------------------------------------------------------------------


def test_gradient_of_the_loss_by_order(problem: Problem, rng: np.random.Generator) -> None:
    targets, weights = rng.normal(size=problem.n_structures), rng.uniform(size=problem.n_structures)
    direction = rng.uniform(-1, 1, size=len(problem.parameters))
    batch = np.arange(problem.n_structures)

    def loss(w: Array) -> tuple[float, Array]:
        return problem.network.energy_loss(w, problem.atoms, batch, targets, weights, 1)

    contracts.assert_derivative(
        lambda t: loss(problem.parameters + t * direction)[0], loss(problem.parameters)[1] @ direction
    )


def test_slopes_of_the_atoms_by_order(problem: Problem, rng: np.random.Generator) -> None:
    direction = rng.uniform(-1, 1, size=problem.features.shape)

    def energies(t: float) -> Array:
        atoms = _core.AtomFeatures(problem.features + t * direction, problem.rows)
        return problem.network.atoms(problem.parameters, atoms, 1)[0]

    slopes = problem.network.atoms(problem.parameters, problem.atoms, 1)[1]
    contracts.assert_derivative(energies, np.sum(slopes * direction, axis=1))


# Activations ------------------------------------------------------------------------------------------------------


def activation_at(name: str, z: Array) -> tuple[Array, Array]:
    """phi(z) and phi'(z), through a network with one hidden node of weight 1."""
    network = _core.Network([1, 1, 1], name, 1)
    atoms = _core.AtomFeatures(z[:, None], np.array([[0, len(z)]]))
    values, slopes = network.atoms(np.array([1.0, 0.0, 1.0, 0.0]), atoms, 1)
    return values, slopes[:, 0]


def test_tanh_is_accurate() -> None:
    small = np.concatenate([10.0 ** np.arange(-300, 1, 4), np.linspace(0.05, 0.15, 2001)])
    z = np.concatenate([np.linspace(-50, 50, 200001), small, -small, [0.0, 700.0, -700.0, 1e300, -1e300]])
    values, slopes = activation_at("tanh", z)
    assert contracts.max_norm(values - np.tanh(z)) <= 2.3e-16
    assert contracts.max_norm(slopes - (1 - np.tanh(z) ** 2)) <= 8e-16
    near = np.abs(z) < 0.2
    error = np.abs(values - np.tanh(z))[near]
    assert np.all(error <= 16 * EPS * np.abs(z[near]))  # relative, down to the smallest numbers
    np.testing.assert_array_equal(activation_at("tanh", -z)[0], -values)


@pytest.mark.parametrize("name", ["softplus", "silu", "twist", "linear"])
def test_other_activations_are_accurate(name: str) -> None:
    z = np.concatenate([np.linspace(-50, 50, 20001), [0.0, 700.0, -700.0, -800.0, 800.0, 1e300, -1e300]])
    values, slopes = activation_at(name, z)
    phi, slope = ACTIVATIONS[name]
    assert np.all(np.abs(values - phi(z)) <= 8 * EPS * np.maximum(1.0, np.abs(phi(z))))
    assert contracts.max_norm(slopes - slope(z)) <= 64 * EPS


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_nan_is_not_hidden(name: str) -> None:
    """A diverged network has to be seen in its energies."""
    z = np.linspace(-1, 1, 21)
    z[5] = np.nan
    values, slopes = activation_at(name, z)
    np.testing.assert_array_equal(np.isnan(values), np.isnan(z))
    assert name == "linear" or np.isnan(slopes[5])


# Execution --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("blas", blases())
def test_number_of_threads_does_not_matter(rng: np.random.Generator, blas: Any) -> None:
    p = make_problem((10, 10), n=700, seed=8)
    targets, weights = rng.normal(size=700), rng.uniform(size=700)
    batch = rng.permutation(700)[:301]
    results = []
    for threads in (1, 2, 3):
        loss, gradient = p.network.energy_loss(p.parameters, p.atoms, batch, targets, weights, threads)
        energies = p.network.energies(p.parameters, p.atoms, threads)
        H, b, square = normal_equations(p, targets, weights, blas(), threads)
        atoms = p.network.atoms(p.parameters, p.atoms, threads)
        results.append([loss, gradient, energies, H, b, square, *atoms])
    contracts.assert_same_bits(results)


def test_bits_do_not_depend_on_where_arrays_lie(rng: np.random.Generator) -> None:
    p = make_problem((10, 10), n=40, seed=8)
    targets, weights = rng.normal(size=40), rng.uniform(size=40)
    results = []
    for offset in range(4):
        room = np.empty(p.features.size + 4)[offset : offset + p.features.size].reshape(p.features.shape)
        room[:] = p.features
        w = np.empty(len(p.parameters) + 4)[offset : offset + len(p.parameters)]
        w[:] = p.parameters
        atoms = _core.AtomFeatures(room, p.rows)
        loss, gradient = p.network.energy_loss(w, atoms, np.arange(40), targets, weights, 1)
        results.append([loss, gradient, p.network.energies(w, atoms, 1), *p.network.energy_rows(w, atoms)])
    contracts.assert_same_bits(results)


def test_inputs_are_not_modified(rng: np.random.Generator) -> None:
    p = make_problem()
    targets, weights, batch = rng.normal(size=12), rng.uniform(size=12), np.arange(12)
    contracts.assert_inputs_kept(
        lambda: (
            p.network.energy_loss(p.parameters, p.atoms, batch, targets, weights, 2),
            p.network.energy_rows(p.parameters, p.atoms),
            p.network.atoms(p.parameters, p.atoms, 2),
            normal_equations(p, targets, weights, scipy_blas()),
        ),
        [p.parameters, p.features, p.rows, targets, weights, batch],
    )


# Wrong input ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([9], "tanh", 1), "sizes"),
        (([9, 5, 2], "tanh", 1), "sizes"),
        (([9, 0, 1], "tanh", 1), "positive"),
        (([9, 1], "relu", 1), "unknown activation 'relu'"),
        (([9, 1], "tanh", 0), "species"),
    ],
)
def test_impossible_networks_are_refused(arguments: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        _core.Network(*arguments)


def test_arrays_that_do_not_fit_are_refused() -> None:
    p = make_problem()
    network, n = p.network, p.n_structures
    one, batch = np.ones(n), np.arange(n)
    with pytest.raises(ValueError, match="rows"):
        _core.AtomFeatures(p.features, p.rows[:, ::-1].copy())
    with pytest.raises(ValueError, match="features"):
        _core.AtomFeatures(p.features[1:], p.rows)
    with pytest.raises(ValueError, match="parameters"):
        network.energies(p.parameters[1:], p.atoms, 1)
    with pytest.raises(ValueError, match="feature vector"):
        network.energies(p.parameters, _core.AtomFeatures(np.zeros((len(p.features), D - 1)), p.rows), 1)
    with pytest.raises(ValueError, match="first dimension of rows"):
        _core.Network(p.sizes, p.activation, 2).energies(p.parameters[: -len(p.parameters) // 3], p.atoms, 1)
    with pytest.raises(ValueError, match="targets"):
        network.energy_loss(p.parameters, p.atoms, batch, one[1:], one, 1)
    with pytest.raises(ValueError, match="weights"):
        network.energy_loss(p.parameters, p.atoms, batch, one, one[1:], 1)
    for wrong in (-1, n):
        with pytest.raises(ValueError, match="batch index"):
            network.energy_loss(p.parameters, p.atoms, np.array([0, wrong]), one, one, 1)
    with pytest.raises(ValueError, match="H"):
        network.normal_equations(
            p.parameters, p.atoms, one, one, _core.Blas(), 1, np.zeros((3, 3)), np.zeros(3)
        )
    with pytest.raises(TypeError):
        network.energies(np.zeros(2 * len(p.parameters))[::2], p.atoms, 1)
