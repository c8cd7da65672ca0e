"""Test of the surrogates of a run: each predicts by itself, and together they do as well as a set of surrogates."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import samples
from gprann import evaluate, fit_surrogates
from gprann.data.structure import Dataset, Structure
from gprann.evaluation import Report
from gprann.pipeline.checkpoints import Stages
from gprann.pipeline.subsets import SurrogateTest, describe_test, loss_remark
from gprann.surrogate.sets.surrogate_set import order_for, plan_subsets
from gprann.surrogate.surrogate import Surrogate

FIXED: dict[str, Any] = {"length": 4.0, "energy_noise": 1e-7, "force_noise": 1e-7}


def reported(folder: Path, train: Dataset, test: Dataset, **options: Any) -> Report | None:
    """Return the report of surrogates that exist one after the other."""
    tested = SurrogateTest(Stages(folder), test, options)
    max_subset = options.pop("max_subset")
    subsets = plan_subsets(train, lambda _: Surrogate(**options), max_subset=max_subset)
    for subset in subsets:
        surrogate = subset.build()
        surrogate.fit(order_for(surrogate, subset.data))
        tested.predict(surrogate, subset.data)
    assert all(tested.has(subset.data) for subset in subsets)
    return tested.report([subset.data for subset in subsets])


def permuted(data: Dataset, order: list[int]) -> Dataset:
    """Return a data set every other structure of which lists its atoms in another order."""
    return Dataset(
        structure.replace(
            symbols=tuple(structure.symbols[atom] for atom in order),
            positions=structure.positions[order],
            forces=structure.forces[order],
        )
        if k % 2
        else structure
        for k, structure in enumerate(data)
    )


@pytest.mark.parametrize("kernel", ["atoms", "pairs", "cartesian"])
def test_conformers_are_predicted_as_by_a_set(tmp_path: Path, kernel: str) -> None:
    train = permuted(samples.conformers(8, 1), [2, 0, 3, 1])
    test = permuted(samples.conformers(4, 2), [1, 0, 2, 3])
    options: dict[str, Any] = {"kernel": kernel, "max_subset": 8, **FIXED}
    found = reported(tmp_path, train, test, **options)
    expected = evaluate(fit_surrogates(train, **options), test)
    assert found is not None
    assert found.metrics.n_structures == 8
    assert found.energy_mae == pytest.approx(expected.energy_mae, rel=1e-9)
    assert found.force_mae == pytest.approx(expected.force_mae, rel=1e-6)
    assert found.force_msd == pytest.approx(expected.force_msd, rel=1e-6)


def test_structures_that_all_refuse_are_left_out_alone(tmp_path: Path) -> None:
    shape = np.array([[0.0, 0, 0], [4.0, 0, 0], [0, 4.0, 0], [0, 0, 4.0]])
    odd = Structure(("C", "H", "O", "N"), shape, energy=0.0, forces=np.zeros((4, 3)))
    train, test = samples.conformers(8, 1), samples.conformers(4, 2)
    options: dict[str, Any] = {"kernel": "cartesian", "max_subset": 8, **FIXED}
    found = reported(tmp_path, train, Dataset([*test[:3], odd, *test[3:]]), **options)
    expected = reported(tmp_path, train, test, **options)
    assert found is not None
    assert expected is not None
    assert found.metrics == expected.metrics
    assert reported(tmp_path, train, Dataset([odd]), **options) is None


def test_periodic_directions_as_in_a_set(tmp_path: Path) -> None:
    """Crystals cut in one direction are predicted by all surrogates of the composition, others by their own.

    So are molecules in a large periodic cell, of which the surrogates of molecules would be far surer.
    """
    train = samples.waters(6) + samples.crystals(6)
    cut = Dataset(s.replace(pbc=(True, True, False)) for s in samples.crystals(3, seed=5))
    boxed = Dataset(s.replace(pbc=(True,) * 3, cell=30.0 * np.eye(3)) for s in samples.waters(2, seed=4))
    test = samples.waters(3, seed=4) + samples.crystals(3, seed=4) + cut + boxed
    found = reported(tmp_path, train, test, max_subset=4, **FIXED)
    expected = evaluate(fit_surrogates(train, max_subset=4, **FIXED), test)
    assert found is not None
    assert found.metrics.n_structures == 11
    assert found.energy_mae == pytest.approx(expected.energy_mae, rel=1e-6)


def test_networks_that_are_much_worse_than_their_surrogates_are_remarked() -> None:
    surrogate = {"n_structures": 9, "energy_mae": 1e-3, "energy_per_atom_mae": 1e-4}
    worse = {"n_structures": 9, "energy_mae": 0.031, "energy_per_atom_mae": 3.1e-3}
    assert "31.0 times as wrong as those of the surrogate" in loss_remark(worse, surrogate)
    assert not loss_remark({**worse, "n_structures": 10}, surrogate)
    assert not loss_remark({**worse, "energy_mae": 0.0049}, surrogate)
    assert not loss_remark({**worse, "energy_per_atom_mae": 1.9e-3}, surrogate)


def test_errors_of_forces_are_told_where_there_are_some() -> None:
    data = samples.waters(12)
    surrogate = Surrogate(kernel="pairs", **FIXED).fit(data)
    unseen = samples.waters(3, seed=1)
    assert "force component MAE" in describe_test(evaluate(surrogate, unseen).metrics, 3)
    bare = Dataset(structure.replace(forces=None) for structure in unseen)
    text = describe_test(evaluate(surrogate, bare).metrics, 3)
    assert "3 of 3 test structures: energy MAE" in text
    assert "force" not in text
