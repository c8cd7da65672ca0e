"""Partition of databases into subsets, and one order of atoms within them."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

import samples
from gprann import augment, read
from gprann.data.structure import Dataset, Origin, Structure
from gprann.errors import ConfigError, DataError
from gprann.surrogate import Surrogate, in_one_order, partition
from gprann.surrogate.sets.atom_matching import match
from gprann.surrogate.sets.partition import bisect
from gprann.surrogate.sets.surrogate_set import order_for

METHANE = Structure(
    ("C", "H", "H", "H", "H"),
    0.63 * np.array([[0.0, 0, 0], [1, 1, 1], [-1, -1, 1], [-1, 1, -1], [1, -1, -1]])
    + [[0, 0, 0], [0, 0, 0.1], [0.1, 0, 0], [0, 0.2, 0], [0, 0, 0]],
)


LOPSIDED = samples.WATER.replace(positions=[[0.0, 0.0, 0.1], [0.78, 0.61, 0.0], [-1.02, 0.8, -0.1]])
"""Its atoms of hydrogen cannot be confused, whatever its orientation."""


def lopsided(n: int) -> Dataset:
    return samples.rattled(LOPSIDED, n, 0.03, 0, "lopsided")


def conformers(n: int) -> Dataset:
    """Bent and straight waters in turn."""
    straight = samples.WATER.replace(positions=[[0, 0, 0], [0.98, 0, 0], [-0.98, 0, 0]])
    rng = np.random.default_rng(3)
    return Dataset(
        samples.labelled(
            base.replace(
                positions=base.positions + rng.normal(0, 0.02, (3, 3)), origin=Origin("conformers", k)
            )
        )
        for k, base in enumerate([samples.WATER, straight] * (n // 2))
    )


def permuted(structure: Structure, order: Any) -> Structure:
    assert structure.forces is not None
    return structure.replace(
        symbols=tuple(structure.symbols[i] for i in order),
        positions=structure.positions[order],
        forces=structure.forces[order],
    )


# Partition ---------------------------------------------------------------------------------------------------------


def test_subsets_are_homogeneous_and_complete() -> None:
    oxygen = [samples.labelled(samples.chain("OO", bond=1.2 + 0.1 * k)) for k in range(3)]
    triples = zip(samples.waters(3), samples.crystals(3), oxygen, strict=True)
    data = Dataset(
        [
            *(s for triple in triples for s in triple),
            samples.waters(1)[0].replace(pbc=[1, 0, 0], cell=np.eye(3) * 20),
        ]
    )
    parts = partition(data)
    assert [part.tolist() for part in parts] == [[0, 3, 6], [1, 4, 7], [2, 5, 8], [9]]
    assert partition(Dataset()) == []


def test_large_groups_are_divided_by_similarity() -> None:
    data = conformers(14)
    parts = partition(data, max_size=8)
    assert [part.tolist() for part in parts] == [list(range(0, 14, 2)), list(range(1, 14, 2))]
    # The order of the structures does not matter.
    shuffled = np.random.default_rng(0).permutation(14)
    again = partition(data.select(shuffled), max_size=8)
    assert {frozenset(shuffled[part].tolist()) for part in again} == {
        frozenset(part.tolist()) for part in parts
    }


@settings(max_examples=50, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    n=st.integers(1, 80),
    size=st.integers(1, 90),
    distinct=st.integers(1, 80),
)
def test_clusters_are_complete_and_neither_too_large_nor_too_small(
    seed: int, n: int, size: int, distinct: int
) -> None:
    rng = np.random.default_rng(seed)
    points = rng.standard_cauchy((distinct, 3))[rng.integers(distinct, size=n)]  # outliers and equal points
    parts = bisect(points, size)
    assert sorted(np.concatenate(parts).tolist()) == list(range(n))
    assert max(map(len, parts)) <= size
    assert min(map(len, parts)) >= min(n, max(1, size // 5))
    assert all((np.diff(part) > 0).all() for part in parts)
    assert [part.tolist() for part in parts] == [part.tolist() for part in bisect(points, size)]


def test_a_lone_outlier_takes_its_neighbours_along() -> None:
    points = np.concatenate([np.arange(20.0), [1e3]])[:, None]
    assert [part.tolist() for part in bisect(points, 20)] == [list(range(17)), [17, 18, 19, 20]]


def test_clusters_are_those_of_the_nearest_means() -> None:
    points = np.concatenate([np.zeros(20), np.full(6, 3.9), np.full(6, 12.0)])[:, None]  # their mean is 2.98
    assert [part.tolist() for part in bisect(points, 26)] == [list(range(26)), list(range(26, 32))]


def test_equal_structures_are_halved() -> None:
    data = Dataset([samples.waters(1)[0]] * 9)
    assert [len(part) for part in partition(data, max_size=5)] == [4, 5]


def test_impossible_sizes_are_refused() -> None:
    with pytest.raises(ConfigError, match="max_size = 0: expected 1 or more structures"):
        partition(samples.waters(2), max_size=0)


# Order -------------------------------------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), order=st.permutations(range(5)))
def test_any_order_and_orientation_is_matched(seed: int, order: list[int]) -> None:
    rng = np.random.default_rng(seed)
    turned = METHANE.positions @ Rotation.random(random_state=rng).as_matrix().T + rng.normal(size=3)
    moved = METHANE.replace(
        symbols=tuple(METHANE.symbols[i] for i in order),
        positions=(turned + rng.uniform(-0.03, 0.03, (5, 3)))[order],
    )
    found = match(METHANE, moved)
    assert found is not None
    np.testing.assert_array_equal(np.array(order)[found], range(5))


def test_periodic_structures_are_matched_through_their_images() -> None:
    rng = np.random.default_rng(5)
    reference = samples.CRYSTAL
    order = np.array([1, 2, 0])
    wrapped = reference.positions + rng.integers(-2, 3, (3, 3)) @ reference.cell + [0.3, -0.2, 0.1]
    moved = reference.replace(symbols=("H", "H", "O"), positions=wrapped[order])
    found = match(reference, moved)
    assert found is not None
    np.testing.assert_array_equal(order[found], range(3))


@pytest.mark.parametrize("rotations", [True, False])
def test_strays_are_put_in_order_with_their_forces(rotations: bool, caplog: pytest.LogCaptureFixture) -> None:
    data = lopsided(8)
    stray = {0: [2, 0, 1], 3: [1, 2, 0], 5: [0, 2, 1]}  # the last one lists the elements rightly
    mixed = Dataset(permuted(s, stray[k]) if k in stray else s for k, s in enumerate(data))
    repaired = in_one_order(mixed, rotations=rotations)
    for structure, original in zip(repaired, data, strict=True):
        assert structure.symbols == original.symbols
        np.testing.assert_array_equal(structure.positions, original.positions)
        np.testing.assert_array_equal(structure.forces, original.forces)
    message = "3 of 8 structures of H2O listed their atoms in another order; matched: structures 0, 3, 5"
    assert message in caplog.text
    caplog.clear()
    unchanged = in_one_order(data, rotations=rotations)
    assert [s.positions.tolist() for s in unchanged] == [s.positions.tolist() for s in data]
    assert not caplog.text


SOAP_AT_CENTERS: Any = {"kernel": "soap", "soap": {"r_cut": 3.0, "n_max": 3, "l_max": 2, "centers": [0, 1]}}


@pytest.mark.parametrize(
    "kernel",
    [{"kernel": "pairs"}, {"kernel": "cartesian"}, SOAP_AT_CENTERS],
    ids=lambda options: options["kernel"],
)
def test_kernels_with_one_order_take_any_order(
    kernel: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    if "soap" in kernel:
        pytest.importorskip("dscribe")
    data = lopsided(8)
    mixed = Dataset(permuted(s, [1, 0, 2]) if k % 3 == 1 else s for k, s in enumerate(data))
    options: Any = {"copies": 2, "displacement": 0.02, "forces": True, "length": 5.0, **kernel}
    noises: Any = {"energy_noise": 1e-8, "force_noise": 1e-8}
    with caplog.at_level(logging.WARNING, logger="gprann"):
        found = augment(mixed, **options, **noises)
    assert "3 of 8 structures" in caplog.text
    expected = augment(data, **options, **noises)
    np.testing.assert_allclose(found.energies, expected.energies, rtol=1e-9)
    np.testing.assert_allclose(np.array(found[8:].forces), np.array(expected[8:].forces), atol=1e-7)
    with pytest.raises(DataError, match="this kernel needs one order of atoms"):
        Surrogate(**kernel).fit(mixed)


@pytest.mark.parametrize("kernel", [{"kernel": "atoms"}, {"kernel": "soap", "soap": {"r_cut": 3.0}}])
def test_kernels_without_an_order_leave_atoms_as_they_are(kernel: dict[str, Any]) -> None:
    if "soap" in kernel:
        pytest.importorskip("dscribe")
    data = lopsided(4)
    mixed = Dataset([*data[:3], permuted(data[3], [1, 0, 2])])
    surrogate = Surrogate(**kernel, length=5.0, energy_noise=1e-8, force_noise=1e-8)
    assert order_for(surrogate, mixed)[3].symbols == ("H", "O", "H")


def test_strays_without_a_certain_match_are_refused_with_their_indices() -> None:
    data = samples.waters(5)
    far = permuted(data[2], [1, 0, 2])
    far = far.replace(positions=far.positions * [[3.0], [1.0], [1.0]])
    with pytest.raises(
        DataError, match=r"waters, structure 2: the elements stand .* structures 2, 4 of 5 of H2O"
    ):
        in_one_order(Dataset([*data[:2], far, data[3], far]), rotations=True)


def test_without_rotations_a_turned_stray_is_refused() -> None:
    data = samples.waters(3)
    turned = permuted(data[1], [1, 0, 2])
    turned = turned.replace(positions=turned.positions[:, [1, 2, 0]])
    mixed = Dataset([data[0], turned, data[2]])
    assert in_one_order(mixed, rotations=True)[1].symbols == ("O", "H", "H")
    with pytest.raises(DataError, match="structures 1 of 3"):
        in_one_order(mixed, rotations=False)


def test_a_structure_far_from_the_others_keeps_its_own_order() -> None:
    data = samples.waters(3)
    stretched = data[1].replace(positions=data[1].positions * 4)
    found = in_one_order(Dataset([data[0], stretched, data[2]]), rotations=True)
    np.testing.assert_array_equal(found[1].positions, stretched.positions)


@pytest.mark.data
@pytest.mark.parametrize("name", ["ec_dimer", "li_ec"])
def test_first_principles_data_are_put_back_in_order(name: str, shared_data: Path) -> None:
    data = read(shared_data / name / "train.extxyz")[:40]
    rng = np.random.default_rng(1)
    shuffled = Dataset(permuted(s, rng.permutation(len(s))) if k % 3 == 1 else s for k, s in enumerate(data))
    repaired = in_one_order(shuffled, rotations=True)
    for structure, original in zip(repaired, data, strict=True):
        np.testing.assert_array_equal(structure.positions, original.positions)
        np.testing.assert_array_equal(structure.forces, original.forces)
