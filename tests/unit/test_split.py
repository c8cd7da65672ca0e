"""A test set split off from the training structures."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

import samples
from gprann import examples
from gprann.data.structure import Dataset, Structure
from gprann.pipeline.inputs import split_test_set


def mixture() -> Dataset:
    atoms = [Structure((symbol,), [[0.0, 0, 0]], energy=-1.0, forces=[[0.0, 0, 0]]) for symbol in "HHO"]
    single = Structure(("H", "O"), [[0.0, 0, 0], [0, 0, 1.0]], energy=-2.0)
    return Dataset([*atoms, single, *examples.hydrogen(20), *samples.waters(30)])


def test_every_composition_gives_its_share() -> None:
    data = mixture()
    chosen = data.select(split_test_set(data, 0.2))
    assert Counter(structure.formula for structure in chosen) == {"H2": 4, "H2O": 6}


@pytest.mark.parametrize("seed", range(5))
def test_isolated_atoms_and_single_structures_stay(seed: int) -> None:
    data = mixture()
    for fraction in (0.1, 0.5, 0.9):
        chosen = split_test_set(data, fraction, seed)
        assert chosen.min() >= 4
        left = data.select(np.setdiff1d(np.arange(len(data)), chosen))
        assert {structure.composition for structure in left} == {structure.composition for structure in data}


def test_the_seed_decides() -> None:
    data = mixture()
    first = split_test_set(data, 0.2, 1)
    np.testing.assert_array_equal(first, split_test_set(data, 0.2, 1))
    assert not np.array_equal(first, split_test_set(data, 0.2, 2))


def test_groups_give_their_shares() -> None:
    data = Dataset(
        structure.replace(group="rattled" if k < 40 else "relaxed")
        for k, structure in enumerate(examples.hydrogen(50))
    )
    chosen = split_test_set(data, 0.2)
    assert Counter(data[int(k)].group for k in chosen) == {"rattled": 8, "relaxed": 2}


def test_compositions_of_few_structures_give_some_together() -> None:
    """One in ten of three is none; of thirty such compositions some are chosen, none of them loses more than one."""
    data = Dataset(
        structure.replace(symbols=(a, b))
        for a, b in (("H", x) for x in "HCNOFBPSIK")
        for structure in examples.hydrogen(3)
    )
    chosen = data.select(split_test_set(data, 0.1))
    assert len(chosen) == 3
    assert max(Counter(structure.formula for structure in chosen).values()) == 1


def test_similar_structures_stay_together() -> None:
    """A trajectory of small steps: most structures chosen have their neighbour in time chosen too."""
    data = examples.hydrogen(200)
    chosen = split_test_set(data, 0.2)
    assert len(chosen) == 40
    together = np.mean([index + 1 in chosen or index - 1 in chosen for index in chosen])
    assert together > 0.9
    runs = np.split(chosen, np.flatnonzero(np.diff(chosen) > 1) + 1)
    assert 4 <= len(runs) <= 8
