"""SOAP fingerprints: values and derivatives of dscribe, periodic images, and the surrogate made of them."""

from __future__ import annotations

import builtins
from typing import Any

import numpy as np
import pytest

import contracts
import samples
from contracts import Array, assert_close, assert_derivative
from gprann.config import SurrogateSection
from gprann.data.structure import Dataset
from gprann.errors import ConfigError, DataError
from gprann.surrogate import SoapKernel, SoapOptions, Surrogate
from gprann.surrogate.kernels.base import Fingerprint
from gprann.surrogate.kernels.internal_coordinates import internal_directions

SETTINGS: dict[str, Any] = {"r_cut": 3.2, "n_max": 3, "l_max": 2}
FIXED: dict[str, Any] = {"length": 3.0, "energy_noise": 1e-6, "force_noise": 1e-6}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"r_cu": 3.0}, "soap.r_cu: unknown key; did you mean 'r_cut'"),
        ({"r_cut": 0.8}, "soap.r_cut = 0.8: expected a number greater than 1 in Å"),
        ({"sigma": -1.0}, "sigma = -1.0: expected a positive number in Å"),
        ({"n_max": 0}, "n_max = 0: expected 1 or more"),
        ({"l_max": 4.0}, "l_max: expected a whole number, got 4.0"),
        ({"centers": []}, "centers: expected at least one entry"),
    ],
)
def test_impossible_settings_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Surrogate("soap", soap=options)


def test_whole_numbers_of_a_configuration_stay_whole() -> None:
    pytest.importorskip("dscribe")
    data = samples.waters(2)
    section = SurrogateSection.model_validate(
        {"kernel": "soap", "soap": {**SETTINGS, "centers": [1]}, **FIXED}
    )
    surrogate = Surrogate("soap", soap={**SETTINGS, "centers": [1]}, **FIXED)
    energies = [made.fit(data).predict(data).energy for made in (section.build(data.species, 0), surrogate)]
    contracts.assert_same_bits([[energy] for energy in energies])


def test_settings_belong_to_soap() -> None:
    with pytest.raises(ConfigError, match="soap belongs to kernel = 'soap' or 'auto', not to 'pairs'"):
        Surrogate("pairs", soap=SETTINGS)


def test_without_dscribe_the_error_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *arguments: Any, **options: Any) -> Any:
        if name.startswith("dscribe"):
            raise ImportError(name)
        return real(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ImportError, match=r"pip install 'gprann\[soap\]'"):
        Surrogate("soap").fit(samples.waters(2))


# With dscribe ------------------------------------------------------------------------------------------------------


@pytest.fixture(params=[None, [0, 2]], ids=["averaged", "fixed centres"])
def centers(request: pytest.FixtureRequest) -> Any:
    pytest.importorskip("dscribe")
    return request.param


@pytest.fixture(params=[samples.waters, samples.crystals])
def data(request: pytest.FixtureRequest) -> Dataset:
    return request.param(6)


@pytest.fixture
def fitted(centers: Any, data: Dataset) -> Fingerprint:
    fingerprint = SoapKernel(soap=SoapOptions(**SETTINGS, centers=centers)).fingerprint()
    fingerprint.fit(data)
    return fingerprint


def test_values_are_those_of_dscribe(fitted: Fingerprint, data: Dataset, centers: Any) -> None:
    from dscribe.descriptors import SOAP

    periodic = bool(data[0].pbc.any())
    soap = SOAP(**SETTINGS, sigma=0.5, species=["H", "O"], periodic=periodic)
    for features, structure in zip(fitted.rows(data).features, data, strict=True):
        expected = soap.create(structure.to_ase(), centers=centers)
        expected = expected.mean(axis=0) if centers is None else expected.ravel()
        assert_close(features, expected, relative=1e-9)


def test_jacobians_are_derivatives(fitted: Fingerprint, data: Dataset) -> None:
    structure = data[1]
    directions = internal_directions(structure, "rotation")
    (jacobian,) = fitted.jacobians(Dataset([structure]))
    for k in range(directions.shape[1]):
        step = directions[:, k].reshape(-1, 3)

        def value(t: float, step: Array = step) -> Array:
            moved = structure.replace(positions=structure.positions + t * step)
            return fitted.rows(Dataset([moved])).features[0]

        assert_derivative(value, jacobian[:, k], step=0.02)


def test_forces_are_derivatives_of_the_energy(centers: Any, data: Dataset) -> None:
    surrogate = Surrogate("soap", soap={**SETTINGS, "centers": centers}, **FIXED).fit(data)

    direction = np.random.default_rng(2).uniform(-1, 1, size=(3, 3))

    def energy(t: float) -> float:
        moved = data[0].replace(positions=data[0].positions + t * direction)
        return float(surrogate.predict(Dataset([moved]), std=False).energy[0])

    (forces,) = surrogate.predict(data[:1]).forces
    # Steps large enough for the rounding of dscribe's radial integrals.
    assert_derivative(energy, -np.sum(forces * direction), step=0.02, halvings=2)


def test_tangents_are_adjoint_to_gradients(fitted: Fingerprint, data: Dataset) -> None:
    rng, rows = np.random.default_rng(4), fitted.rows(data)
    displacements = [rng.normal(size=(len(structure), 3)) for structure in data]
    slopes = rng.normal(size=rows.features.shape)
    backward = np.concatenate([gradient.ravel() for gradient in rows.gradients(slopes)[0]])
    v = np.concatenate([displacement.ravel() for displacement in displacements])
    contracts.assert_adjoint(slopes.ravel(), rows.tangents(displacements, None).ravel(), v, backward)


def test_conjugate_gradients_predict_as_cholesky_does(centers: Any, data: Dataset) -> None:
    options: dict[str, Any] = {"soap": {**SETTINGS, "centers": centers}, **FIXED}
    exact = Surrogate("soap", **options, solver="cholesky").fit(data).predict(data[:2], std=False)
    free = Surrogate("soap", **options, solver="conjugate_gradient", tolerance=1e-9, inducing=2).fit(data)
    assert_close(free.predict(data[:2], std=False).energy, exact.energy, relative=1e-5)


def test_other_structures_are_predicted() -> None:
    pytest.importorskip("dscribe")
    query = samples.waters(20, seed=7)
    surrogate = Surrogate("soap", soap=SETTINGS).fit(samples.waters(14))
    prediction = surrogate.predict(query, forces_std=True)
    assert np.abs(prediction.energy - query.energies).mean() < 0.05 * np.std(query.energies)
    turned = Dataset(
        contracts.reordered(
            contracts.deformed(s, np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])), np.array([2, 0, 1])
        )
        for s in query
    )
    assert_close(surrogate.predict(turned).energy, prediction.energy, relative=1e-6)


def test_atoms_that_do_not_fit_are_refused() -> None:
    pytest.importorskip("dscribe")
    with pytest.raises(ConfigError, match=r"centers has atom 3: expected 0 to 2"):
        Surrogate("soap", soap={"centers": [0, 3]}).fit(samples.waters(2))
    fixed = Surrogate("soap", soap={**SETTINGS, "centers": [0]}, **FIXED).fit(samples.waters(2))
    with pytest.raises(DataError, match="one order of atoms"):
        fixed.predict(Dataset([contracts.reordered(samples.waters(1)[0], np.array([2, 0, 1]))]))
