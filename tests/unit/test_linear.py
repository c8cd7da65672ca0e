"""Linear and quadratic models: rows of their equations, fits in closed form, deviations, files."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.linalg import hilbert, lstsq

import gprann
import samples
from c_library import CPotential, collect, lists
from contracts import EPS, Observed, assert_close, assert_gradient, assert_threads, assert_virial
from gprann import _core
from gprann.data.prediction import volume
from gprann.data.structure import Dataset
from gprann.errors import ConfigError
from gprann.models import Linear, Normalisation, Polynomial, PolynomialModel, Quadratic
from gprann.models.features import descriptor_values
from gprann.potential import Potential
from gprann.training.closed_form import Prior, Solution, Spectrum, members_of, relevance, solve
from gprann.training.equations import Equations, Factor, Weights
from reference.numpy_descriptor import NumpyRadial

SMALL = gprann.ChebyshevDescriptor(
    ["H", "O"], radial_order=3, radial_cutoff=3.7, angular_order=2, angular_cutoff=3.1
)
DENSITY = gprann.DensityDescriptor(
    ["H", "O"], radial_order=3, radial_cutoff=3.6, n_max=1, l_max=1, angular_cutoff=3.2, four_body=0
)
NUMPY = NumpyRadial(["H", "O"], range=3.5)
DESCRIPTORS = [
    pytest.param(SMALL, id="Chebyshev"),
    pytest.param(DENSITY, id="density"),
    pytest.param(NUMPY, id="NumPy"),
]
DEGREES = [pytest.param(Linear(), id="linear"), pytest.param(Quadratic(), id="quadratic")]


def potential_of(descriptor: Any, options: Polynomial, data: Dataset, members: int = 1) -> Potential:
    """A potential with random coefficients."""
    values, kinds, _ = descriptor_values(descriptor, data)
    model = options.build(descriptor.size, 2)
    parameters = np.random.default_rng(3).normal(size=(members, model.n_parameters))
    return Potential(descriptor, Normalisation.from_values(values, kinds, 2), model, parameters)


def rows_of(potential: Potential, data: Dataset) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Equations of energies, forces and strains."""
    neighbours = potential.descriptor.neighbours(data)
    features = potential.normalisation.apply(potential.descriptor.values(neighbours), neighbours.species)
    shapes = len(data), 3 * neighbours.n_atoms, 6 * len(data)
    energies, forces, strains = (np.full((n, potential.model.n_parameters), np.nan) for n in shapes)
    _core.polynomial_rows(
        potential.model.core,
        potential.descriptor.core,
        neighbours.core,
        np.ascontiguousarray(features),
        potential.normalisation.inverse_scale,
        2,
        energies,
        forces,
        strains,
    )
    return energies, forces, strains


@pytest.mark.parametrize("options", DEGREES)
@pytest.mark.parametrize("descriptor", DESCRIPTORS)
def test_rows_are_those_of_predictions(descriptor: Any, options: Polynomial) -> None:
    data = samples.crystals(4) + samples.waters(2)
    potential = potential_of(descriptor, options, data)
    x = potential.parameters[0]
    energies, forces, strains = rows_of(potential, data)
    found = potential.predict(data)
    assert_close(energies @ x, found.energy, 1e-12)
    assert_close(forces @ x, np.concatenate([np.ravel(own) for own in found.forces]), 1e-12)
    crystals = strains.reshape(len(data), 6, -1)[:4] @ x
    assert found.stress is not None
    assert_close(
        crystals, np.array([s * volume(item) for s, item in zip(found.stress, data[:4], strict=False)]), 1e-12
    )


@pytest.mark.parametrize("options", DEGREES)
def test_forces_and_virials_are_derivatives(options: Polynomial) -> None:
    data = samples.crystals(6)
    potential = potential_of(SMALL, options, data)

    def evaluate(structure: gprann.Structure) -> Observed:
        found = potential.evaluate(SMALL.neighbours([structure]))
        energy = found.atom_energies[0]
        return Observed(float(energy.sum()), energy, -found.forces[0], found.virials[0, 0])

    rng = np.random.default_rng(5)
    assert_gradient(evaluate, data[0], rng)
    assert_virial(evaluate, data[0], rng)


def test_threads_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    data = samples.crystals(30)
    assert_threads(lambda: [gprann.fit_linear(data, SMALL, quadratic=True).parameters], monkeypatch)


def equations_of(blocks: list[tuple[np.ndarray, np.ndarray]]) -> Equations:
    """Equations of energies alone, each block a fold."""
    factors = []
    for A, y in blocks:
        factor = Factor()
        for begin in range(0, len(A), 7):  # as they stream in
            factor.add(np.column_stack([A, y])[begin : begin + 7].copy())
        factors.append((factor, Factor(), Factor()))
    return Equations(PolynomialModel(Linear(), blocks[0][0].shape[1] - 1, 1), factors)


def test_ill_conditioned_equations_are_solved_as_scipy_does() -> None:
    """With a condition number of 1e11, of which the normal equations would have the square."""
    rng = np.random.default_rng(0)
    basis = np.linalg.qr(rng.normal(size=(200, 8)))[0]
    A = basis @ hilbert(8)
    y = A @ rng.normal(size=8) + 1e-3 * rng.normal(size=200)
    assert np.linalg.cond(A) > 1e10
    equations = equations_of([(A[:90], y[:90]), (A[90:], y[90:])])
    found = solve(equations, Weights(1, 0, 0), Prior(np.ones(8), 1e-30), range(2))
    expected = lstsq(A, y)[0]
    assert_close(A @ found.x, A @ expected, 1e-8)
    assert_close(found.x, expected, 1e-4)  # 1e11 roundings
    residual = np.sqrt(sum(equations.residual(0, fold, found.x) for fold in range(2)))
    rounding = 100 * EPS * np.abs(expected).max()  # of the products of large coefficients that cancel
    assert residual == pytest.approx(np.linalg.norm(A @ expected - y), abs=rounding)


def test_evidence_is_the_marginal_likelihood() -> None:
    rng = np.random.default_rng(1)
    A, widths = rng.normal(size=(30, 5)), np.array([1.0, 2.0, 0.5, 1.0, 0.0])
    y = A @ (widths * rng.normal(size=5)) + 0.3 * rng.normal(size=30)
    spectrum = Spectrum(np.column_stack([A, y]), widths, 30)

    def twice_negative_log(ridge: float) -> float:
        covariance = np.eye(30) + (A * widths**2) @ A.T / ridge
        sigma2 = y @ np.linalg.solve(covariance, y) / 30
        return float(30 * np.log(sigma2) + np.linalg.slogdet(covariance)[1])

    for ridge in (1e-3, 0.1, 10.0):
        assert spectrum.evidence(ridge) == pytest.approx(twice_negative_log(ridge), rel=1e-10)
    best = spectrum.most_probable_ridge()
    assert spectrum.evidence(best) <= min(spectrum.evidence(best * f) for f in (0.9, 1.1))


@pytest.mark.parametrize("rows", [40, 4])
def test_the_posterior_is_that_of_ridge_regression(rows: int) -> None:
    rng = np.random.default_rng(2)
    A, widths = rng.normal(size=(rows, 6)), rng.uniform(0.5, 2.0, size=6)
    y = rng.normal(size=rows)
    solution = Spectrum(np.column_stack([A, y]), widths, rows).solve(0.7)
    precision = A.T @ A + np.diag(0.7 / widths**2)
    x = np.linalg.solve(precision, A.T @ y)
    assert_close(solution.x, x, 1e-10)
    sigma2 = (np.sum((A @ x - y) ** 2) + 0.7 * np.sum((x / widths) ** 2)) / rows
    test = rng.normal(size=(3, 6))
    expected = sigma2 * np.trace(test @ np.linalg.inv(precision) @ test.T)
    assert solution.variance(test) == pytest.approx(expected, rel=1e-10)
    draws = np.array([test @ solution.draw(rng) for _ in range(4000)])
    assert np.sum(draws.var(axis=0)) == pytest.approx(expected, rel=0.1)


def test_members_are_opposite_pairs_about_the_solution() -> None:
    solution = Solution(np.array([1.0, 2.0]), np.eye(2), 0.0, 2.0)
    for count in (1, 2, 5, 400):
        members = members_of(solution, count, 0)
        assert members.shape == (count, 2)
        assert_close(members.mean(axis=0), solution.x)
    assert members.std(axis=0) == pytest.approx([1.0, 1.0], rel=0.15)


def test_relevance_drops_what_the_data_do_not_need() -> None:
    rng = np.random.default_rng(4)
    A = rng.normal(size=(200, 10))
    y = 3.0 * A[:, 2] - A[:, 7] + 0.01 * rng.normal(size=200)
    found = relevance(np.column_stack([A, y]), np.ones(10), 200)
    assert np.flatnonzero(np.abs(found.x) > 0.1).tolist() == [2, 7]
    assert np.count_nonzero(np.delete(found.x, [2, 7]) == 0.0) >= 4


@pytest.mark.parametrize("ridge", ["evidence", "cross_validation", "ard", 1e-8])
def test_fits_learn(ridge: Any) -> None:
    data, test = samples.waters(60), samples.waters(40, seed=1)
    linear, quadratic = (
        gprann.evaluate(gprann.fit_linear(data, SMALL, quadratic=flag, ridge=ridge, members=1), test)
        for flag in (False, True)
    )
    scale = np.std(test.energies)
    assert linear.energy_mae < 0.1 * scale
    assert quadratic.energy_mae < 0.5 * linear.energy_mae
    assert (quadratic.force_mae or np.inf) < 0.5 * (linear.force_mae or 0.0)


def test_a_model_of_its_own_is_found_again() -> None:
    """Labels of a quadratic potential: the fit has its predictions, and its stresses where they are labels."""
    data = samples.strained_crystals(40)
    truth = potential_of(NUMPY, Quadratic(), data)
    found = truth.predict(data)
    assert found.stress is not None
    own = Dataset(
        item.replace(energy=float(e), forces=f, stress=s)
        for item, e, f, s in zip(data, found.energy, found.forces, found.stress, strict=True)
    )
    fitted = gprann.fit_linear(own, NUMPY, quadratic=True, stress=1.0, ridge=1e-14, members=1)
    test = samples.strained_crystals(5, seed=3)
    ours, theirs = fitted.predict(test), truth.predict(test)
    assert_close(np.concatenate(ours.forces), np.concatenate(theirs.forces), 1e-4)
    assert ours.stress is not None
    assert theirs.stress is not None
    assert_close(ours.stress, theirs.stress, 1e-4)


def test_deviations_cover_errors() -> None:
    data, test = samples.waters(160), samples.waters(200, seed=2)
    potential = gprann.fit_linear(data, SMALL, members=20)
    found = potential.predict(test)
    assert found.energy_std is not None
    ratio = np.sqrt(np.mean((found.energy - test.energies) ** 2) / np.mean(found.energy_std**2))
    assert 0.5 < ratio < 2.0
    assert found.grades is not None  # of the guard, as for networks


def test_energies_alone() -> None:
    data = Dataset(item.replace(forces=None) for item in samples.waters(60))
    potential = gprann.fit_linear(data, SMALL)
    assert gprann.evaluate(potential, data).energy_mae < 0.2 * np.std(data.energies)


@pytest.mark.parametrize("quadratic", [False, True])
def test_files_and_the_c_interface(quadratic: bool, tmp_path: Path) -> None:
    data = samples.crystals(20)
    potential = gprann.fit_linear(data, DENSITY, quadratic=quadratic, members=3, ridge=1e-9)
    file = tmp_path / "potential.gprann"
    potential.save(file)
    again = gprann.load(file)
    assert isinstance(again, Potential)
    assert again.model.options == potential.model.options
    here, there = potential.predict(data), again.predict(data)
    np.testing.assert_array_equal(here.energy, there.energy)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(potential)).predict(data).energy, here.energy)
    compiled = CPotential(file)
    own = lists(data[0], compiled.species, compiled.cutoff)
    found = compiled.evaluate(own)
    assert_close(found["energy"][0], here.energy[0])
    assert_close(collect(own, found["forces"]), here.forces[0], scale=1.0)


def test_train_takes_the_model_by_name() -> None:
    data = samples.waters(30)
    named = gprann.train(data, SMALL, model="quadratic", forces=True, members=8)
    np.testing.assert_array_equal(named.parameters, gprann.fit_linear(data, SMALL, quadratic=True).parameters)


def test_bad_input() -> None:
    data = samples.waters(12)
    for options, message in (
        ({"optimizer": "adamw"}, "optimizer"),
        ({"huber_force": 0.1}, "huber_force"),
        ({"frozen": (0,)}, "frozen"),
        ({"ridge": "none"}, "regularisation = 'none': expected a number, or 'evidence', "),
        ({"ridge": -1.0}, "regularisation"),
        ({"folds": 1}, "folds"),
        ({"forces": True, "start_from": potential_of(SMALL, Linear(), data)}, "start_from"),
    ):
        with pytest.raises(ConfigError, match=message):
            gprann.fit_linear(data, SMALL, **options)
    with pytest.raises(ConfigError, match="two structures at least"):
        gprann.fit_linear(data[:1], SMALL, ridge="cross_validation")
    with pytest.raises(ConfigError, match="none but networks"):
        gprann.write_aenet(gprann.fit_linear(data, SMALL, members=1), "somewhere")
