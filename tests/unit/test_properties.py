"""Properties: distributions and diffusion against exact models, crystals against the energies themselves."""

from __future__ import annotations

import numpy as np
import pytest
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.units import GPa, kB

import gprann
from gprann.data.structure import Dataset, Structure
from gprann.errors import ConfigError, DataError, GprannError
from gprann.properties.trajectories import unwrap

COPPER = Structure.from_ase(bulk("Cu", "fcc", a=3.59, cubic=True))


def box(positions: np.ndarray, symbols: tuple[str, ...], length: float) -> Structure:
    return Structure(symbols, positions, cell=length * np.eye(3), pbc=True)


def test_the_shells_of_a_crystal() -> None:
    found = gprann.rdf([COPPER], cutoff=5.0, shells=100)
    inside = found.coordination[np.searchsorted(found.r, [3.0, 4.0, 4.8])]
    assert inside.tolist() == [12.0, 18.0, 42.0]
    first = int(np.argmax(found.g > 0))
    edges = first * 0.05, (first + 1) * 0.05
    assert edges[0] <= 3.59 / np.sqrt(2) < edges[1]
    shell = 4 / 3 * np.pi * (edges[1] ** 3 - edges[0] ** 3)
    assert found.g[first] == pytest.approx(12 / (shell * 4 / 3.59**3), rel=1e-12)


def test_an_ideal_gas_has_no_structure() -> None:
    rng = np.random.default_rng(0)
    gas = [box(rng.uniform(0, 12, size=(60, 3)), ("Ar",) * 30 + ("Ne",) * 30, 12.0) for _ in range(40)]
    gas = [item for item in gas if np.min(item.to_ase().get_all_distances(mic=True) + 9 * np.eye(60)) > 0.3]
    for first, second, share in ((None, None, 59 / 60), ("Ar", "Ne", 1.0), ("Ne", "Ne", 29 / 30)):
        found = gprann.rdf(gas, first, second, cutoff=8.0, shells=8)
        # Beyond half of the box the images correlate no more than others; five standard deviations of a count.
        assert found.g[2:] == pytest.approx(share * np.ones(6), abs=0.08)


def test_displacements_by_definition() -> None:
    positions = np.cumsum(np.random.default_rng(1).normal(size=(30, 4, 3)), axis=0)
    expected = [
        np.mean(np.sum((positions[lag:] - positions[: len(positions) - lag]) ** 2, axis=2))
        for lag in range(len(positions))
    ]
    assert gprann.mean_squared_displacement(positions) == pytest.approx(expected, abs=1e-9)


def test_a_random_walk_diffuses_as_it_must() -> None:
    """Steps of variance 2 D t in each direction, wrapped into the cell; the others stand still."""
    D, interval, length = 0.05, 0.1, 10.0
    rng = np.random.default_rng(2)
    steps = rng.normal(size=(800, 40, 3)) * np.sqrt(2 * D * interval)
    walk = rng.uniform(0, length, size=(40, 3)) + np.cumsum(steps, axis=0)
    heavy = np.broadcast_to(rng.uniform(0, length, size=(40, 3)), walk.shape)
    frames = Dataset(
        box(np.concatenate([own % length, other]), ("Li",) * 40 + ("U",) * 40, length)
        for own, other in zip(walk, heavy, strict=True)
    )
    found = gprann.diffusion(frames, "Li", interval)
    assert abs(found.coefficient - D) < 4 * max(found.error, 0.05 * D)
    assert found.error < 0.2 * D
    assert np.diff(unwrap(frames)[:, :40], axis=0) == pytest.approx(steps[1:], abs=1e-9)
    sigma, error = found.conductivity(1.0, 300.0)
    density = 40 / length**3
    assert sigma == pytest.approx(density * found.coefficient / (kB * 300) * 1602.176634, rel=1e-6)
    assert error / sigma == pytest.approx(found.error / found.coefficient)
    assert found.conductivity(2.0, 300.0)[0] == pytest.approx(4 * sigma)


def test_equation_of_state_has_the_curvature_of_the_energy() -> None:
    found = gprann.equation_of_state(COPPER, EMT(), range=0.03)

    def energy(volume: float) -> float:
        atoms = bulk("Cu", "fcc", a=(4 * volume) ** (1 / 3))
        atoms.calc = EMT()
        return float(atoms.get_potential_energy())

    v, h = found.volume, 0.05
    assert energy(v) == pytest.approx(found.energy, abs=1e-5)
    assert energy(v + h) == pytest.approx(energy(v - h), abs=5e-5)
    curvature = (energy(v + h) - 2 * energy(v) + energy(v - h)) / h**2
    assert found.bulk_modulus == pytest.approx(v * curvature / GPa, rel=0.01)


def test_elastic_constants_are_second_derivatives_of_the_energy() -> None:
    found = gprann.elastic_constants(COPPER, EMT())
    matrix = found.matrix
    assert found.asymmetry < 0.01
    cubic = np.zeros((6, 6))
    cubic[:3, :3] = matrix[0, 1]
    cubic[np.arange(3), np.arange(3)] = matrix[0, 0]
    cubic[np.arange(3, 6), np.arange(3, 6)] = matrix[3, 3]
    assert matrix == pytest.approx(cubic, abs=0.05)
    state = gprann.equation_of_state(COPPER, EMT(), range=0.03)
    assert found.bulk_modulus == pytest.approx((matrix[0, 0] + 2 * matrix[0, 1]) / 3, rel=1e-3)
    assert found.bulk_modulus == pytest.approx(state.bulk_modulus, rel=0.01)
    edge, h = (4 * state.volume) ** (1 / 3), 0.005

    def energy(shear: float) -> float:
        atoms = bulk("Cu", "fcc", a=edge, cubic=True)
        atoms.set_cell(
            atoms.cell @ (np.eye(3) + shear * np.eye(3)[[0, 2, 1]] * [[0], [0.5], [0.5]]), scale_atoms=True
        )
        atoms.calc = EMT()
        return float(atoms.get_potential_energy()) / edge**3

    second = (energy(h) - 2 * energy(0.0) + energy(-h)) / h**2
    assert matrix[3, 3] == pytest.approx(second / GPa, rel=0.02)
    assert 0 < found.shear_modulus < matrix[3, 3]


def test_bad_input() -> None:
    molecule = gprann.examples.hydrogen(3)
    for call, error, message in (
        (lambda: gprann.rdf(molecule), DataError, "periodic in three"),
        (lambda: gprann.rdf([COPPER], "Ag"), DataError, "no atoms of Ag"),
        (lambda: gprann.rdf([COPPER], cutoff=-1.0), ConfigError, "cutoff"),
        (lambda: gprann.diffusion(molecule, "H", 0.1), DataError, "too few"),
        (lambda: gprann.diffusion([COPPER] * 30, "Ag", 0.1), DataError, "no atoms of Ag"),
        (lambda: gprann.diffusion([COPPER] * 30, "Cu", 0.0), ConfigError, "interval"),
        (lambda: gprann.diffusion([COPPER] * 30, "Cu", 0.1, fit=(0.5, 0.2)), ConfigError, "fit"),
        (lambda: gprann.equation_of_state(molecule[0], EMT()), DataError, "no crystal"),
        (lambda: gprann.equation_of_state(COPPER, EMT(), range=0.7), ConfigError, "range"),
        (lambda: gprann.elastic_constants(COPPER, EMT(), strain=0.0), ConfigError, "strain"),
    ):
        with pytest.raises(error, match=message):
            call()
    squeezed = COPPER.replace(cell=0.8 * COPPER.cell, positions=0.8 * COPPER.positions)
    with pytest.raises(GprannError, match=r"no minimum|no equation of state"):
        gprann.equation_of_state(squeezed, EMT(), range=0.02)
