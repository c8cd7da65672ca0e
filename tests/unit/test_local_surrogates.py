"""Surrogates of the subsets of a heterogeneous data set, fitted side by side."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import pytest

import samples
from gprann import augment, examples
from gprann.errors import DataError, FactorisationError
from gprann.log import TaskFormatter
from gprann.memory import available_memory, memory_share
from gprann.structure import Dataset
from gprann.surrogate import Surrogate, memory_needed
from gprann.surrogate.local import for_each_subset

FIXED: dict[str, Any] = {"length": 4.0, "energy_noise": 1e-7, "force_noise": 1e-7}


def mixture(n: int = 5) -> Dataset:
    """Waters, hydrogens and periodic crystals (of the composition of water) in turn."""
    parts = samples.waters(n), examples.hydrogen(n), samples.crystals(n)
    return Dataset(structure for triple in zip(*parts, strict=True) for structure in triple)


@pytest.fixture
def four_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GPRANN_NUM_THREADS", "4")


@pytest.mark.usefixtures("four_threads")
class TestSideBySide:
    def test_same_bits_as_one_after_the_other(self, monkeypatch: pytest.MonkeyPatch) -> None:
        data = mixture(6)
        together = augment(data, copies=3, max_subset=4)
        monkeypatch.setenv("GPRANN_NUM_THREADS", "1")
        alone = augment(data, copies=3, max_subset=4)
        assert [copy.energy for copy in together] == [copy.energy for copy in alone]
        assert [copy.energy_variance for copy in together] == [copy.energy_variance for copy in alone]
        assert all(np.array_equal(a.positions, b.positions) for a, b in zip(together, alone, strict=True))

    def test_errors_name_the_subset(self) -> None:
        data = mixture(3)
        broken = Dataset(s.replace(forces=None) if s.symbols == ("H", "H") else s for s in data)
        with pytest.raises(DataError, match=r"^subset 2 of 3: 3 structures of H2: .*has no forces"):
            augment(broken, copies=1, **FIXED)
        with pytest.raises(DataError, match=r"^(?!subset)"):  # there is one only
            augment(broken.filter(lambda s: s.symbols == ("H", "H")), copies=1, **FIXED)
        twice = Dataset([*samples.waters(3), *samples.waters(3), *examples.hydrogen(3)])
        with pytest.raises(FactorisationError, match=r"subset 1 of 2: 6 structures of H2O: .*row") as caught:
            augment(twice, copies=1, length=4.0, energy_noise=1e-18, force_noise=1e-18)
        assert caught.value.row > 0

    def test_messages_name_the_subset(self, caplog: pytest.LogCaptureFixture) -> None:
        caplog.handler.setFormatter(TaskFormatter("%(message)s"))
        with caplog.at_level(logging.INFO, logger="gprann"):
            augment(mixture(4), copies=1, **FIXED)
            *lines, counts = caplog.text.splitlines()
            caplog.clear()
            augment(samples.waters(4), copies=1, **FIXED)
        assert {line[:13] for line in lines} == {f"subset {k} of 3" for k in (1, 2, 3)}
        assert counts.startswith("12 copies wanted")
        assert not any(line.count("subset") > 1 for line in lines)
        assert not any(line.startswith("subset") and "surrogate" in line for line in caplog.text.splitlines())

    def test_solvers_do_not_depend_on_what_runs_beside(self) -> None:
        """A surrogate may use what is there for all, and takes it only when nothing else runs."""
        data = mixture()
        found = for_each_subset(data, lambda *_: available_memory(), lambda _: Surrogate(), memory=3.0)
        assert found == [3.0] * 3


def test_memory_of_a_fit() -> None:
    data = samples.waters(40)
    surrogate = Surrogate()
    taken, kept = surrogate.memory_of_fit(data)
    assert kept == memory_needed(data)
    assert 4 * kept < taken < 8 * kept  # small sets are left out one by one
    large = Dataset(list(data) * 60)
    taken, kept = surrogate.memory_of_fit(large)
    assert kept == memory_needed(large) < taken < 1.1 * kept
    with memory_share(0.5 * kept):
        assert surrogate.memory_of_fit(large)[1] <= 0.5 * kept
    assert Surrogate(solver="inducing", inducing=10).memory_of_fit(large)[1] < 0.05 * kept


def test_subsets_tell_what_they_are() -> None:
    names = for_each_subset(mixture(), lambda subset, _: str(subset), lambda _: Surrogate())
    assert names == [f"subset {k} of 3: 5 structures of {f}" for k, f in ((1, "H2O"), (2, "H2"), (3, "H2O"))]
