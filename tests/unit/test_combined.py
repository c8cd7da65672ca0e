"""The combined loss of energies, forces and virials: against predictions, finite differences, and its own rows."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import contracts
import samples
from contracts import Array, assert_adjoint, assert_close, assert_derivative
from gprann.data.structure import Dataset
from gprann.models import FeatureTable, NetworkModel, Normalisation
from gprann.models.features import descriptor_values
from gprann.potential import Potential
from gprann.training.energy_force_objective import EnergyForceObjective, LabelTable
from gprann.training.optimizers import levenberg_marquardt

VOIGT = ((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1))
DATA = samples.crystals(3, seed=1) + samples.waters(2, seed=2)
CASES = [((4, 3), "tanh"), ((5,), "softplus"), ((3, 4, 2), "silu"), ((3, 4), "twist"), ((), "linear")]


def labels(data: Dataset, rng: np.random.Generator, **changes: Any) -> LabelTable:
    """Random labels; the molecules have no virial, one structure has no forces, and some weights are zero."""
    n, n_atoms = len(data), int(data.n_atoms.sum())
    force_weights = rng.uniform(0.2, 1.0, size=(n_atoms, 3)) * (rng.random((n_atoms, 3)) < 0.7)
    force_weights[3:6] = 0.0
    virial_weights = rng.uniform(0.2, 1.0, size=(n, 6)) * (rng.random((n, 6)) < 0.8)
    virial_weights[[1, 3, 4]] = 0.0
    energy_weights = rng.uniform(0.5, 1.0, size=n)
    energy_weights[2] = 0.0
    table = LabelTable(
        energies=rng.normal(size=n),
        energy_weights=energy_weights,
        forces=rng.normal(size=(n_atoms, 3)),
        force_weights=force_weights,
        virials=rng.normal(size=(n, 6)),
        virial_weights=virial_weights,
        structure_weights=np.ones(n),
    )
    return replace(table, **changes)


def problem(
    hidden: tuple[int, ...] = (4, 3), activation: str = "tanh", *, seed: int = 0, **changes: Any
) -> tuple[EnergyForceObjective, Array, Potential]:
    """A problem with random labels, random parameters, and the potential that they make."""
    rng = np.random.default_rng(seed)
    descriptor = samples.DESCRIPTOR
    neighbours = descriptor.neighbours(DATA)
    values, kinds, first = descriptor_values(descriptor, DATA, neighbours)
    normalisation = Normalisation.from_values(values, kinds, 2)
    table = FeatureTable.sort(normalisation.apply(values, kinds), kinds, first, 2)
    model = NetworkModel(descriptor.size, hidden, 2, activation)
    made = EnergyForceObjective.build(
        model, descriptor, neighbours, table, normalisation.inverse_scale, labels=labels(DATA, rng, **changes)
    )
    w = model.initial(rng)
    return made, w, Potential(descriptor, normalisation, model, w)


def huber(residual: Array, threshold: float) -> Array:
    size = np.abs(residual)
    return np.where(size <= threshold, residual**2, threshold * (2 * size - threshold))


def loss_of_predictions(potential: Potential, table: LabelTable) -> float:
    """The loss from what the potential predicts."""
    result = potential.evaluate(potential.descriptor.neighbours(DATA))
    virials = np.array([[0.5 * (v[i, j] + v[j, i]) for i, j in VOIGT] for v in result.virials[0]])
    return float(
        np.sum(table.energy_weights * huber(result.energies[0] - table.energies, table.energy_threshold))
        + np.sum(table.force_weights * huber(result.forces[0] - table.forces, table.force_threshold))
        + np.sum(table.virial_weights * (virials - table.virials) ** 2)
    )


@pytest.mark.parametrize(("hidden", "activation"), CASES)
@pytest.mark.parametrize("thresholds", [{}, {"energy_threshold": 0.3, "force_threshold": 0.5}])
def test_the_loss_is_that_of_the_predictions(
    hidden: tuple[int, ...], activation: str, thresholds: dict[str, float]
) -> None:
    made, w, potential = problem(hidden, activation, **thresholds)
    assert_close(made.loss(w), loss_of_predictions(potential, made.labels))
    value, _ = made.gradient(w)
    assert_close(value, made.loss(w))


@pytest.mark.parametrize(("hidden", "activation"), CASES)
def test_the_gradient_is_the_derivative_of_the_loss(hidden: tuple[int, ...], activation: str) -> None:
    """Periodic structures, virials and molecules together; the order of convergence, and 1e-9 at the best step."""
    made, w, _ = problem(hidden, activation)
    _, gradient = made.gradient(w)
    direction = np.random.default_rng(5).normal(size=len(w))
    assert_derivative(lambda t: made.loss(w + t * direction), gradient @ direction, step=0.02)
    # Richardson's extrapolation leaves an error of the fourth order: the best step is large enough for nine digits.
    errors = []
    for h in 10.0 ** np.arange(-1.5, -3.5, -0.25):
        slopes = [
            (made.loss(w + t * direction) - made.loss(w - t * direction)) / (2 * t) for t in (h, h / 2, h / 4)
        ]
        fourth = [(4 * fine - coarse) / 3 for coarse, fine in itertools.pairwise(slopes)]
        errors.append(abs((16 * fourth[1] - fourth[0]) / 15 / (gradient @ direction) - 1))
    assert min(errors) < 1e-9


@pytest.mark.parametrize("part", ["energy", "force", "virial"])
def test_every_part_has_its_own_gradient(part: str) -> None:
    others = {
        f"{name}_weights": np.zeros_like(getattr(problem()[0].labels, f"{name}_weights"))
        for name in ("energy", "force", "virial")
        if name != part
    }
    made, w, _ = problem(**others)
    _, gradient = made.gradient(w)
    direction = np.random.default_rng(5).normal(size=len(w))
    assert_derivative(lambda t: made.loss(w + t * direction), gradient @ direction, step=0.02)


@pytest.mark.parametrize("thresholds", [{}, {"energy_threshold": 0.3, "force_threshold": 0.5}])
@pytest.mark.parametrize(("hidden", "activation"), CASES)
def test_rows_gradient_and_products_agree(
    hidden: tuple[int, ...], activation: str, thresholds: dict[str, float]
) -> None:
    made, w, _ = problem(hidden, activation, **thresholds)
    n = len(w)
    hessian, slope = np.full((n, n), np.nan), np.full(n, np.nan)
    loss = made.normal_equations(w, hessian, slope)
    _, gradient = made.gradient(w)
    assert_close(loss, made.loss(w))
    assert_close(2 * slope, gradient)
    full = np.tril(hessian) + np.tril(hessian, -1).T
    v = np.random.default_rng(1).normal(size=n)
    assert_close(made.gauss_newton(w, v), full @ v)
    assert np.linalg.eigvalsh(full).min() >= -1e-12 * np.linalg.eigvalsh(full).max()


def test_the_hessian_is_that_of_a_linear_model() -> None:
    """Without hidden layers the residuals are linear: Gauss-Newton is exact, and twice it is the second derivative."""
    made, w, _ = problem(())
    v = np.random.default_rng(1).normal(size=len(w))

    def slope(t: float) -> Array:
        _, gradient = made.gradient(w + t * v)
        return gradient

    assert_close(2 * made.gauss_newton(w, v), slope(1.0) - slope(0.0), relative=1e-10)


def test_the_product_with_the_jacobian_is_adjoint_to_its_rows() -> None:
    """<JᵀWJ u, v> = <u, JᵀWJ v>, and the random signs estimate the diagonal."""
    made, w, _ = problem()
    rng = np.random.default_rng(3)
    u, v = rng.normal(size=(2, len(w)))
    assert_adjoint(u, made.gauss_newton(w, v), v, made.gauss_newton(w, u))
    hessian, slope = np.zeros((len(w), len(w))), np.zeros(len(w))
    made.normal_equations(w, hessian, slope)
    estimates = np.mean([made.diagonal(w, rng) for _ in range(60)], axis=0)
    # 480 probes: a standard deviation of at most sqrt(2 / 480) = 6.5 % where one row does not dominate.
    large = np.diag(hessian) > 1e-3 * np.diag(hessian).max()
    np.testing.assert_allclose(estimates[large], np.diag(hessian)[large], rtol=0.4)


@pytest.mark.parametrize("products", [1, 2, 5])
def test_a_step_of_conjugate_gradients_is_the_best_one_of_so_many_products(
    products: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It minimises the quadratic model over their Krylov space, preconditioned with the estimated diagonal."""
    monkeypatch.setattr(levenberg_marquardt, "_PRODUCTS", products)
    monkeypatch.setattr(levenberg_marquardt, "_RESIDUAL", 1e-14)
    system, matrix, precondition = matrix_free_system(damping=0.1)
    space = [-precondition * system.slope]
    for _ in range(products - 1):
        space.append(precondition * (matrix @ space[-1]))
        space[-1] /= np.linalg.norm(space[-1])
    basis, _ = np.linalg.qr(np.transpose(space))
    best = -basis @ np.linalg.solve(basis.T @ matrix @ basis, basis.T @ system.slope)
    assert_close(system.step(0.1), best, relative=1e-8)


def test_a_step_of_conjugate_gradients_ends_near_the_solution() -> None:
    system, matrix, precondition = matrix_free_system(damping=0.1)
    step = system.step(0.1)
    residual = matrix @ step + system.slope
    norms = [np.sqrt(precondition @ vector**2) for vector in (residual, system.slope)]
    assert 1e-6 * norms[1] < norms[0] < 0.03 * norms[1]
    assert (step[:4] == 0.0).all()  # they are frozen


def test_equations_that_have_overflowed_have_no_step() -> None:
    system, _, _ = matrix_free_system(damping=0.1)
    system.slope[7] = np.nan
    assert system.step(0.1) is None


def matrix_free_system(damping: float) -> tuple[levenberg_marquardt._MatrixFree, Array, Array]:
    """Return equations to be solved without their matrix, that matrix, and its inverse diagonal as estimated."""
    made, w, _ = problem()
    frozen, ridge = np.arange(4), 1e-3
    system = levenberg_marquardt._MatrixFree(ridge, frozen)
    system.fill(made, w, (5,))
    hessian = np.zeros((len(w), len(w)))
    made.normal_equations(w, hessian, np.zeros(len(w)))
    hessian += np.tril(hessian, -1).T
    hessian[frozen] = 0.0
    hessian[:, frozen] = 0.0
    shift = ridge + damping * (system.diagonal + ridge)
    return system, hessian + np.diag(shift), 1.0 / (system.diagonal + shift)


def test_threads_change_no_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    made, w, _ = problem()
    many = np.tile(np.arange(made.size), 12)

    def compute() -> list[Array]:
        hessian, slope = np.zeros((len(w), len(w))), np.zeros(len(w))
        made.normal_equations(w, hessian, slope)
        value, gradient = made.gradient(w, many)
        return [hessian, slope, np.array(value), gradient, made.gauss_newton(w, gradient)]

    contracts.assert_threads(compute, monkeypatch)


def test_selections_add_up() -> None:
    made, w, _ = problem()
    parts = [made.select(np.array(part)) for part in ([0, 3], [1], [4, 2])]
    assert_close(sum(part.loss(w) for part in parts), made.loss(w))
    assert made.select(np.zeros(0, np.int64)).loss(w) == 0.0
    assert np.isnan(made.select(np.zeros(0, np.int64)).errors(w).total)
    assert parts[0].select(np.array([1])).structures.tolist() == [3]
    errors = parts[1].errors(w)
    assert np.isfinite(errors.energy)
    assert np.isnan(errors.force)  # that structure has none


def test_energies_alone_need_no_neighbours() -> None:
    made, w, _ = problem(force_weights=np.zeros((15, 3)), virial_weights=np.zeros((5, 6)))
    from gprann.data.neighbours import without_pairs

    shared = made.shared
    bare = EnergyForceObjective.build(
        shared.model,
        shared.descriptor,
        without_pairs(shared.neighbours.species, shared.neighbours.first_atom),
        shared.table,
        shared.inverse_scale,
        labels=made.labels,
    )
    assert_close(bare.gradient(w)[1], made.gradient(w)[1])


@settings(max_examples=15, deadline=None)
@given(fraction=st.floats(0.05, 0.9), seed=st.integers(0, 1000))
def test_drawn_components_are_unbiased_and_repeatable(fraction: float, seed: int) -> None:
    made = replace(problem()[0], force_fraction=fraction)
    first, again = made.draw((seed, 1)), made.draw((seed, 1))
    np.testing.assert_array_equal(first.labels.force_weights, again.labels.force_weights)
    drawn = first.labels.force_weights > 0
    assert not (drawn & (made.labels.force_weights == 0)).any()
    np.testing.assert_allclose(first.labels.force_weights[drawn] * fraction, made.labels.force_weights[drawn])
    mean = np.mean([made.draw((seed, k)).labels.force_weights.sum() for k in range(200)])
    assert abs(mean / made.labels.force_weights.sum() - 1) < 6 / np.sqrt(200 * 20 * fraction)


def test_sampled_rows_make_equations_of_their_own() -> None:
    """Matrix and slope are those of some structures, scaled up; the loss stays that of all."""
    whole, w, _ = problem()
    made = whole.draw((0, 1), 12)
    assert made.rows_of is not None
    assert 0 < len(made.rows_of) < whole.size
    n = len(w)
    hessian, slope = np.zeros((n, n)), np.zeros(n)
    assert_close(made.normal_equations(w, hessian, slope), whole.loss(w))
    few, few_slope = np.zeros((n, n)), np.zeros(n)
    positions = np.flatnonzero(np.isin(whole.structures, made.rows_of))
    whole.select(positions).normal_equations(w, few, few_slope)
    scale = whole.size / len(positions)
    assert_close(np.tril(hessian), scale * np.tril(few))
    assert_close(slope, scale * few_slope)


def test_a_problem_survives_its_arrays() -> None:
    made, w, _ = problem(force_threshold=0.4)
    again = EnergyForceObjective.from_arrays(made.model, made.arrays(), made.settings())
    assert again.loss(w) == made.loss(w)
    assert again.settings() == made.settings()
