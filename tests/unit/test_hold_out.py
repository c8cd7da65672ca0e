"""Structures held out in families and by strata, and the balance of energies and forces."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import pytest

import samples
from gprann import train
from gprann.data.structure import Dataset
from gprann.training.hold_out import folds, join_trajectories, split, strata

RNG = np.random.default_rng


def test_every_stratum_gives_its_share() -> None:
    kind = np.repeat([0, 1, 2], [60, 30, 10])
    counts = np.ones((100, 1))
    fitted, held = split(np.arange(100), kind, counts, 0.1, RNG(0))
    assert len(fitted) + len(held) == 100
    assert np.bincount(kind[held]).tolist() == [6, 3, 1]


def test_families_are_not_divided() -> None:
    families = np.repeat(np.arange(20), 5)
    fitted, held = split(families, np.zeros(100, np.int64), np.ones((100, 1)), 0.2, RNG(1))
    assert not set(families[fitted]) & set(families[held])
    numbers = folds(families, np.zeros(100, np.int64), 4, RNG(2))
    assert all(len(set(numbers[families == one])) == 1 for one in range(20))


def test_pieces_of_a_trajectory_are_held_out_together() -> None:
    walk = np.cumsum(RNG(3).normal(size=(200, 4)), axis=0)
    joined = join_trajectories(np.arange(200), np.zeros(200, np.int64), walk)
    assert len(set(joined.tolist())) == 20
    unrelated = join_trajectories(np.arange(200), np.zeros(200, np.int64), RNG(4).normal(size=(200, 4)))
    assert len(set(unrelated.tolist())) == 200


def test_strata_are_groups_and_compositions() -> None:
    data = samples.waters(2) + samples.crystals(2)
    grouped = Dataset([*data, data[0].replace(group="other")])
    assert strata(grouped).tolist() == [0, 0, 1, 1, 2]


QUICK: dict[str, Any] = {"hidden": (4,), "forces": True, "iterations": 2, "seed": 0}


def test_balance_is_found_and_recorded(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "gprann"):
        train(samples.waters(40), samples.DESCRIPTOR, **QUICK)
    assert "alpha = " in caplog.text
    caplog.clear()
    with caplog.at_level(logging.INFO, "gprann"):
        train(samples.waters(40), samples.DESCRIPTOR, alpha=0.9, **QUICK)
    assert "alpha = 0.9: as asked" in caplog.text


def test_few_structures_keep_the_usual_share(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "gprann"):
        train(samples.waters(8), samples.DESCRIPTOR, **QUICK)
    assert "alpha = 0.98: the usual share; 8 structures are too few to tell" in caplog.text


def test_cells_of_several_sizes_are_compared_per_atom(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "gprann"):
        train(
            samples.waters(6)
            + Dataset([samples.labelled(samples.chain("HH")), samples.labelled(samples.chain("HOH"))]),
            samples.DESCRIPTOR,
            **QUICK,
        )
    assert "energies are compared per atom: structures of" in caplog.text
