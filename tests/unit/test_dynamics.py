"""Dynamics of many structures side by side: temperature, reproducibility, and what happens far from the data."""

from __future__ import annotations

import numpy as np
import pytest

import samples
from gprann import augment
from gprann.augmentation.displacements import DistanceLimits
from gprann.augmentation.dynamics import Walk, strangeness, temperature_of, walk
from gprann.augmentation.policies import CopyOptions, Sampler
from gprann.data.structure import Dataset
from gprann.surrogate import Surrogate

FIXED = {"kernel": "pairs", "length": 5.0, "energy_noise": 1e-8, "force_noise": 1e-8}


@pytest.fixture(scope="module")
def waters() -> Dataset:
    return samples.waters(16)


@pytest.fixture(scope="module")
def surrogate(waters: Dataset) -> Surrogate:
    return Surrogate(**FIXED).fit(waters)


def all_move(data: Dataset) -> list[np.ndarray]:
    return [np.ones(len(structure), dtype=bool) for structure in data]


def walked(surrogate: Surrogate, data: Dataset, length: Walk, **changes: object) -> list[np.ndarray]:
    options = {"moving": all_move(data), "streams": [(0, k) for k in range(len(data))], **changes}
    return walk(surrogate, data, DistanceLimits.of(data, 0.5), length, **options)


def test_temperature_is_that_of_a_harmonic_ensemble(waters: Dataset, surrogate: Surrogate) -> None:
    """Along the normal modes of one structure with the amplitudes of 100 K the forces tell 100 K."""
    data = Dataset([waters[0]])
    still = surrogate.predict(data).forces[0]
    found = []
    for seed in range(5):  # forces along the stiffest modes count most: samples differ
        copies = augment(
            data,
            surrogate,
            policy="normal_modes",
            temperature=100.0,
            copies=200,
            forces=True,
            min_distance=0.0,
            seed=seed,
        )[1:]
        # The start is no minimum: its force is taken away.
        thermal = Dataset(
            copy.replace(forces=copy.forces - still) for copy in copies if copy.forces is not None
        )
        found.append(temperature_of(surrogate, thermal))
    assert np.median(found) == pytest.approx(100.0, rel=0.35)


def test_temperature_grows_with_the_square_of_the_forces(waters: Dataset, surrogate: Surrogate) -> None:
    halved = Dataset(s.replace(forces=0.5 * s.forces) for s in waters if s.forces is not None)
    whole = temperature_of(surrogate, waters)
    assert 50 < temperature_of(surrogate, halved) < whole < 2000
    assert temperature_of(surrogate, halved) == pytest.approx(whole / 4, rel=1e-2)


def test_walk_goes_farther_when_hotter_and_longer(waters: Dataset, surrogate: Surrogate) -> None:
    def distance(length: Walk) -> float:
        return float(np.mean([np.mean(shifts**2) for shifts in walked(surrogate, waters, length)]))

    assert distance(Walk(20.0, 10, 1)) < distance(Walk(500.0, 10, 1))
    assert distance(Walk(100.0, 2, 1)) < distance(Walk(100.0, 12, 1))


def test_walk_has_the_frames_that_are_asked_for(waters: Dataset, surrogate: Surrogate) -> None:
    found = walked(surrogate, waters[:3], Walk(50.0, 9, 3))
    assert [shifts.shape for shifts in found] == [(3, 3, 3)] * 3
    again = walked(surrogate, waters[:3], Walk(50.0, 9, 3))
    for one, other in zip(found, again, strict=True):
        np.testing.assert_array_equal(one, other)
    other = walked(surrogate, waters[:3], Walk(50.0, 9, 3), streams=[(0, 7), (0, 1), (0, 2)])
    assert not np.array_equal(found[0], other[0])
    np.testing.assert_allclose(found[1], other[1], atol=1e-9)  # a structure has a stream of its own


def test_fixed_atoms_stay(waters: Dataset, surrogate: Surrogate) -> None:
    moving = [np.array([False, True, True])] * 2
    for shifts in walked(surrogate, waters[:2], Walk(300.0, 10, 2), moving=moving):
        assert not shifts[:, 0].any()
        assert shifts[:, 1:].any()


def test_equilibrium_has_the_temperature(waters: Dataset, surrogate: Surrogate) -> None:
    """In a harmonic well the spread of the forces is that of the temperature, whatever the start."""
    data = Dataset([waters[0]] * 40)
    shifts = walked(surrogate, data, Walk(30.0, 400, 1))
    moved = Dataset(
        s.with_positions(s.positions + own[0]) for s, own in zip(data, shifts, strict=True) if len(own)
    )
    labelled = Dataset(
        s.replace(forces=forces, energy=0.0)
        for s, forces in zip(moved, surrogate.predict(moved).forces, strict=True)
    )
    assert len(moved) > 30
    assert temperature_of(surrogate, labelled) < 120  # the clip is at 50


def test_structures_that_run_away_start_anew(waters: Dataset, surrogate: Surrogate) -> None:
    shifts = walked(surrogate, waters, Walk(1e6, 20, 20))
    assert sum(map(len, shifts)) < 20 * len(waters)
    assert all(np.isfinite(own).all() for own in shifts)


def test_mixture_has_frames_and_displaced_copies(waters: Dataset, surrogate: Surrogate) -> None:
    options = CopyOptions(policy="mixture", copies=5, displacement=0.01, temperature=100.0, min_distance=0.0)
    sampler = Sampler(options, waters, surrogate)
    copies = sampler.copies(range(len(waters)))
    assert len(copies) == 5 * len(waters)
    moved = np.array([copy.positions for copy in copies]).reshape(len(waters), 5, 3, 3)
    sizes = np.sqrt(np.mean((moved - np.array([s.positions for s in waters])[:, None]) ** 2, axis=(0, 2, 3)))
    assert sizes[3:] == pytest.approx([0.005, 0.01], rel=0.2)
    assert sizes[0] > 0.012


def test_mixture_takes_the_temperature_of_the_data(waters: Dataset, surrogate: Surrogate) -> None:
    sampler = Sampler(CopyOptions(policy="mixture", copies=2, displacement=0.01), waters, surrogate)
    sampler.find_temperature()
    assert sampler.options.temperature == temperature_of(surrogate, waters)


def test_dynamics_is_strange_to_structures_displaced_in_one_direction(waters: Dataset) -> None:
    shifts = [np.array([[0.0, 0, 0], [0.01 * k - 0.06, 0, 0], [0, 0, 0]]) for k in range(12)]
    line = Dataset(
        samples.labelled(waters[0].replace(positions=waters[0].positions + shift)) for shift in shifts
    )
    limits = DistanceLimits.of(waters, 0.5)
    everywhere = samples.waters(40)
    narrow, wide = (Surrogate(**FIXED).fit(data) for data in (line, everywhere))
    assert strangeness(narrow, line, limits) > 5 * strangeness(wide, everywhere, limits)
