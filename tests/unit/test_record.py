"""The file of results that loses none when the process dies."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import samples
from gprann import read
from gprann.data.structure import Structure
from gprann.errors import ConfigError, FormatError
from gprann.io import WriteError
from gprann.labelling import Record, geometry_key


def test_results_are_found_again(tmp_path: Path) -> None:
    file = tmp_path / "results.extxyz"
    data = samples.crystals(3) + samples.waters(2)
    record = Record(file)
    for structure in data:
        assert record.find(structure) is None
        record.append(structure)
        assert len(read(file)) == len(record.structures)
    again = Record(file)
    for structure in data:
        found = again.find(structure.replace(energy=None, forces=None, group="other"))
        assert found is not None
        assert found.energy == structure.energy
        np.testing.assert_array_equal(found.forces, structure.forces)
        assert again.find(structure.replace(positions=np.nextafter(structure.positions, 9.0))) is None


@settings(deadline=None, max_examples=40)  # every result waits for the disk
@given(cut=st.integers(min_value=0, max_value=10**6))
def test_a_killed_process_loses_nothing_that_was_complete(
    cut: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Whatever byte the file ends at, all structures before it are kept, and the next ones follow them."""
    file = tmp_path_factory.mktemp("record") / "results.extxyz"
    data = samples.waters(2) + samples.crystals(2)
    ends = [0]
    record = Record(file)
    for structure in data:
        record.append(structure)
        ends.append(file.stat().st_size)
    cut %= ends[-1] + 1
    file.write_bytes(file.read_bytes()[:cut])
    kept = sum(end <= cut for end in ends) - 1
    again = Record(file)
    assert [item.energy for item in again.structures] == [item.energy for item in data[:kept]]
    for structure in data[kept:]:
        again.append(structure)
    assert read(file).energies.tolist() == data.energies.tolist()


def test_the_key_is_that_of_the_geometry() -> None:
    water = samples.WATER
    key = geometry_key(water)
    assert geometry_key(water.replace(energy=1.0, weight=2.0, group="a")) == key
    assert (
        geometry_key(water.replace(positions=water.positions * np.where(water.positions == 0, -1.0, 1.0)))
        == key
    )
    for other in (
        water.replace(symbols=("H", "O", "H")),
        water.replace(positions=water.positions + 1e-12),
        water.replace(cell=np.eye(3)),
        samples.CRYSTAL.replace(pbc=[True, True, False]),
    ):
        assert geometry_key(other) != key
    assert geometry_key(samples.CRYSTAL) != geometry_key(samples.CRYSTAL.replace(pbc=[True, True, False]))


def test_other_files_are_left_as_they_are(tmp_path: Path) -> None:
    file = tmp_path / "results.xyz"
    for content in ("these are notes\n", "notes", "2\nProperties=species:S:1:pos:R:3\nH 0 0 0\nH 0 0 x\n"):
        file.write_text(content)
        with pytest.raises(FormatError):
            Record(file)
        assert file.read_text() == content
    with pytest.raises(ConfigError, match=r"ends in \.extxyz or \.xyz"):
        Record(tmp_path / "results.json")
    with pytest.raises(WriteError, match="does not exist; make it first"):
        Record(tmp_path / "missing" / "results.xyz")
    (tmp_path / "folder.xyz").mkdir()
    with pytest.raises(WriteError):
        Record(tmp_path / "folder.xyz")


def test_a_record_in_memory() -> None:
    record = Record()
    record.append(Structure(("H",), [[0.0, 0, 0]], energy=1.0))
    assert len(record.structures) == 1
