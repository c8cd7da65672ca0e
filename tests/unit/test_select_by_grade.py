"""Selection by the extrapolation guard: what is unknown, once, and from the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gprann
import samples
from gprann.cli.main import main
from gprann.data.structure import Dataset
from gprann.errors import ConfigError, DataError


@pytest.fixture(scope="module")
def potential() -> gprann.Potential:
    return gprann.add_guard(samples.potential(members=1), samples.crystals(12))


@pytest.fixture(scope="module")
def candidates() -> Dataset:
    """Known crystals; one far outside, copied thrice; one of another kind outside."""
    squeezed = samples.CRYSTAL.replace(
        cell=0.8 * samples.CRYSTAL.cell, positions=0.8 * samples.CRYSTAL.positions
    )
    wide = samples.CRYSTAL.replace(cell=1.3 * samples.CRYSTAL.cell, positions=1.3 * samples.CRYSTAL.positions)
    return Dataset([*samples.crystals(12, seed=3), squeezed, squeezed, squeezed, wide])


def test_the_farthest_first_and_copies_once(potential: gprann.Potential, candidates: Dataset) -> None:
    found = gprann.select_by_grade(candidates, potential, 16)
    grades = potential.predict(candidates).largest_grades
    assert grades is not None
    np.testing.assert_allclose(found.grades, grades[found.indices], rtol=1e-9)
    assert found.indices[0] == int(np.argmax(grades))
    far = {12, 13, 14}
    assert len(far & set(found.indices.tolist())) == 1
    assert 15 in found.indices
    assert len(found.indices) < 16
    assert found.grades_left[-1] < 1.0
    assert (np.diff(found.grades_left) <= 1e-12).all()


def test_grades_left_are_those_of_the_metric(potential: gprann.Potential, candidates: Dataset) -> None:
    """z^T (I + sum of z z^T)^-1 z, in the plainest way."""
    found = gprann.select_by_grade(candidates, potential, 2)
    guard = potential.guard
    assert guard is not None
    neighbours = potential.descriptor.neighbours(candidates)
    values = potential.normalisation.apply(potential.descriptor.values(neighbours), neighbours.species)
    z = guard.whiten(values, neighbours.species)
    owner = np.repeat(np.arange(len(candidates)), np.diff(neighbours.first_atom))
    highest = 0.0
    for kind in range(2):
        taken = z[(neighbours.species == kind) & np.isin(owner, found.indices)]
        inverse = np.linalg.inv(np.eye(z.shape[1]) + taken.T @ taken)
        own = z[neighbours.species == kind]
        highest = max(highest, float(np.sqrt(np.einsum("ik,kl,il->i", own, inverse, own).max())))
    assert found.grades_left[-1] == pytest.approx(highest, rel=1e-9)


def test_known_structures_are_not_taken(potential: gprann.Potential) -> None:
    found = gprann.select_by_grade(samples.crystals(12), potential, 3, least=5.0)
    assert len(found.structures) == len(found.grades) == 0


def test_command(potential: gprann.Potential, candidates: Dataset, tmp_path: Path, capsys: Any) -> None:
    potential.save(tmp_path / "p.gprann")
    gprann.write(tmp_path / "c.extxyz", [item.without_labels() for item in candidates])
    line = ["select", str(tmp_path / "c.extxyz"), "--potential", str(tmp_path / "p.gprann"), "--count", "2"]
    target = tmp_path / "next.extxyz"
    assert main([*line, "-o", str(target), "--by-grade"]) == 0
    assert "2 of 16 candidates, most unknown first" in capsys.readouterr().out
    assert len(gprann.read(target, require=())) == 2
    assert main([*line, "-o", str(tmp_path / "none.extxyz"), "--by-grade", "--least-grade", "1e9"]) == 0
    assert "nothing was written" in capsys.readouterr().out
    assert not (tmp_path / "none.extxyz").exists()
    for more, message in (
        (["--least-grade", "2"], "belongs to --by-grade"),
        (["--by-grade", "--threshold", "0.1"], "give --least-grade"),
        (["--by-grade", "--least-grade", "-1"], "expected a positive grade"),
    ):
        assert main([*line, "-o", str(target), *more]) == 2
        assert message in capsys.readouterr().err


def test_bad_input(potential: gprann.Potential, candidates: Dataset) -> None:
    for call, error, message in (
        (lambda: gprann.select_by_grade(candidates, samples.potential(), 1), ConfigError, "gprann.add_guard"),
        (lambda: gprann.select_by_grade(candidates, potential, 0), ConfigError, "count"),
        (lambda: gprann.select_by_grade(candidates, potential, 1, least=0.0), ConfigError, "least = 0"),
        (lambda: gprann.select_by_grade([], potential, 1), DataError, "no candidates"),
        (
            lambda: gprann.select_by_grade(gprann.examples.hydrogen(2)[:0], potential, 1),
            DataError,
            "no candidates",
        ),
    ):
        with pytest.raises(error, match=message):
            call()
