"""Descriptors that are written in Python: losses, rows and committees take them as they take compiled ones."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import contracts
import samples
from gprann import Potential, Surrogate, _core, load, register_descriptor, train
from gprann.data.neighbours import Neighbourhood
from gprann.data.structure import Dataset, Structure
from gprann.descriptors import DESCRIPTORS, Descriptor
from gprann.errors import ConfigError, GprannError
from gprann.models import FeatureTable
from reference.numpy_descriptor import NumpyRadial

Array = NDArray[np.float64]
RADIAL = NumpyRadial(["H", "O"], order=4, range=3.7)
TWIN = RADIAL.twin()


class Registered(NumpyRadial):
    name = "radial of the tests"


@pytest.fixture
def registered() -> Iterator[type[Registered]]:
    yield register_descriptor(Registered)
    DESCRIPTORS._kinds.pop(Registered.name, None)


class Failing(NumpyRadial):
    """Raises an exception of its own, or returns arrays of a wrong shape."""

    fault: str = ""

    def values(self, neighbours: Neighbourhood) -> Array:
        if self.fault == "raise":
            raise ZeroDivisionError("the width is zero")
        values = super().values(neighbours)
        return values[:, :-1] if self.fault == "values" else values

    def vjp(self, neighbours: Neighbourhood, cotangent: Array) -> Any:
        gradient, virials = super().vjp(neighbours, cotangent)
        return gradient if self.fault == "vjp" else (gradient, virials)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(3)


def batch(n: int = 6) -> Dataset:
    """Molecules and cells with energies, forces and stresses."""
    return Dataset([*samples.waters(n), *samples.strained_crystals(n)])


def test_the_core_calls_it_for_one_structure_at_a_time(rng: np.random.Generator) -> None:
    neighbours = RADIAL.neighbours(batch())
    u = rng.normal(size=(neighbours.n_atoms, RADIAL.size))
    v = rng.normal(size=(neighbours.n_atoms, 3))
    strains = rng.normal(size=(len(neighbours.first_atom) - 1, 3, 3))
    core = RADIAL.core
    contracts.assert_close(core.values(neighbours.core, 2), RADIAL.values(neighbours), relative=1e-14)
    contracts.assert_close(
        core.jvp(neighbours.core, v, strains.reshape(-1, 9), 2),
        RADIAL.jvp(neighbours, v, strains),
        relative=1e-14,
    )
    gradient, virials = core.vjp(neighbours.core, u, 2)
    expected, expected_virials = RADIAL.vjp(neighbours, u)
    contracts.assert_close(gradient, expected, relative=1e-13)
    contracts.assert_close(virials.reshape(-1, 3, 3), expected_virials, relative=1e-13)


def test_committee_equals_that_of_the_compiled_twin() -> None:
    data = batch()
    ours, twins = samples.potential(descriptor=RADIAL), samples.potential(descriptor=TWIN)
    own, twin = ours.predict(data), twins.predict(data)
    contracts.assert_close(own.energy, twin.energy, relative=1e-12)
    contracts.assert_close(np.concatenate(own.forces), np.concatenate(twin.forces), relative=1e-11)


def loss_of(descriptor: Descriptor, data: Dataset, potential: Potential) -> list[Array]:
    """Everything that a loss offers: value, gradient, products and normal equations."""
    neighbours = descriptor.neighbours(data)
    features = potential.normalisation.apply(descriptor.values(neighbours), neighbours.species)
    table = FeatureTable.sort(features, neighbours.species, neighbours.first_atom, len(descriptor.species))
    loss = _core.CombinedLoss(
        potential.model.core,
        descriptor.core,
        neighbours.core,
        table.core,
        table.order,
        potential.normalisation.inverse_scale,
    )
    n, atoms = len(data), neighbours.n_atoms
    rng = np.random.default_rng(8)
    labels = _core.Labels(
        rng.normal(size=n),
        np.ones(n),
        rng.normal(size=(atoms, 3)),
        np.ones((atoms, 3)),
        rng.normal(size=(n, 6)),
        np.ones((n, 6)),
    )
    w = potential.parameters[0]
    chosen = np.arange(n)
    H, b = np.zeros((len(w), len(w))), np.zeros(len(w))
    parts = loss.normal_equations(w, labels, chosen, _core.Blas(), 2, H, b)
    value, gradient = loss.gradient(w, labels, chosen, 2)
    assert loss.value(w, labels, chosen, 2) == value
    v = rng.normal(size=len(w))
    return [
        np.array(value),
        gradient,
        np.array(parts),
        np.tril(H),
        b,
        loss.gauss_newton(w, labels, chosen, v, 2),
    ]


def test_losses_and_rows_equal_those_of_the_compiled_twin() -> None:
    data = batch()
    ours = loss_of(RADIAL, data, samples.potential(descriptor=RADIAL, members=1))
    twins = loss_of(TWIN, data, samples.potential(descriptor=TWIN, members=1))
    for own, twin in zip(ours, twins, strict=True):
        contracts.assert_close(own, twin, relative=1e-11)


def test_training_equals_that_of_the_compiled_twin() -> None:
    data = batch(10)
    options: dict[str, Any] = {"hidden": (4,), "iterations": 4, "members": 1, "seed": 1, "forces": True}
    ours, twins = train(data, RADIAL, **options), train(data, TWIN, **options)
    contracts.assert_close(ours.parameters, twins.parameters, relative=1e-6)
    contracts.assert_close(ours.predict(data).energy, twins.predict(data).energy, relative=1e-8)


def test_surrogates_equal_those_of_the_compiled_twin() -> None:
    data, others = samples.waters(8), samples.waters(4, seed=5)
    ours, twins = (
        Surrogate(descriptor=item, length=3.0, energy_noise=1e-6, force_noise=1e-6).fit(data).predict(others)
        for item in (RADIAL, TWIN)
    )
    contracts.assert_close(ours.energy, twins.energy, relative=1e-9)
    contracts.assert_close(np.concatenate(ours.forces), np.concatenate(twins.forces), relative=1e-7)


@pytest.mark.parametrize("threads", [1, 2])
def test_exceptions_of_python_reach_the_caller(threads: int) -> None:
    descriptor = Failing(["H", "O"], fault="raise")
    neighbours = descriptor.neighbours(batch())
    with pytest.raises(ZeroDivisionError, match="the width is zero"):
        descriptor.core.values(neighbours.core, threads)


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("values", r"values of Failing has shape \(3, 9\), expected \(3, 10\)"),
        ("vjp", "vjp of Failing must return the gradient and the virials"),
    ],
)
def test_arrays_of_a_wrong_shape_are_named(fault: str, message: str) -> None:
    descriptor = Failing(["H", "O"], fault=fault)
    neighbours = descriptor.neighbours(samples.waters(2))
    cotangent = np.zeros((neighbours.n_atoms, descriptor.size))
    calls = {
        "values": lambda: descriptor.core.values(neighbours.core, 2),
        "vjp": lambda: descriptor.core.vjp(neighbours.core, cotangent, 2),
    }
    with pytest.raises((ValueError, TypeError), match=message):
        calls[fault]()


def test_unregistered_ones_are_not_written_to_files(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"NumpyRadial is no registered descriptor.*register the class"):
        samples.potential(descriptor=RADIAL).save(tmp_path / "potential.gprann")


def test_registered_ones_are_restored_from_files(tmp_path: Path, registered: type[Registered]) -> None:
    potential = samples.potential(descriptor=registered(["H", "O"], order=3))
    potential.save(tmp_path / "potential.gprann")
    again = load(tmp_path / "potential.gprann")
    assert again.descriptor == potential.descriptor
    structure = Structure(("O", "H"), [[0, 0, 0], [0.97, 0.1, 0]])
    assert again.predict([structure]).energy == potential.predict([structure]).energy
    del DESCRIPTORS._kinds[Registered.name]
    with pytest.raises(GprannError, match="the descriptor 'radial of the tests' of the file is unknown here"):
        load(tmp_path / "potential.gprann")
