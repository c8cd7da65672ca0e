"""Messages name the file that was given and the number in it, whatever origin its structures note."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import gprann
from gprann.augmentation.displacements import with_unique_origins
from gprann.data.structure import Dataset, Origin
from gprann.errors import DataError
from gprann.io import DataWarning


@pytest.fixture
def noted() -> Dataset:
    """Seven molecules that were read from a file elsewhere, in reverse order."""
    data = gprann.examples.hydrogen(7)
    return Dataset(item.replace(origin=Origin("far/train.extxyz", 9 - k)) for k, item in enumerate(data))


def test_missing_labels(noted: Dataset, tmp_path: Path) -> None:
    file = tmp_path / "mine.extxyz"
    gprann.write(file, Dataset(item.replace(energy=None) if k == 2 else item for k, item in enumerate(noted)))
    with pytest.raises(DataError, match=r"mine\.extxyz, structure 2: has no energy"):
        gprann.read(file)
    gprann.write(file, Dataset(item.replace(forces=None) if k == 3 else item for k, item in enumerate(noted)))
    with pytest.warns(DataWarning, match=r"have no forces.*mine\.extxyz, structure 3$"):
        data = gprann.read(file)
    with pytest.raises(DataError, match=r"mine\.extxyz, structure 3: has no forces"):
        gprann.augment(data)


def test_duplicates_and_outliers(noted: Dataset, tmp_path: Path) -> None:
    file = tmp_path / "mine.extxyz"
    gprann.write(file, noted + noted[1:2])
    with pytest.warns(DataWarning, match=r"mine\.extxyz, structure 1 = \S*mine\.extxyz, structure 7\]"):
        data = gprann.read(file)
    assert data[7].origin == noted[1].origin  # which still tells where it comes from
    many = Dataset(
        item.replace(energy=1e4 if k == 5 else item.energy)
        for k, item in enumerate(gprann.examples.hydrogen(30))
    )
    gprann.write(file, Dataset(item.replace(origin=Origin("far.xyz", 0)) for item in many))
    pair = r"contradict each other in .*mine\.extxyz, structure 5 and \S*mine\.extxyz, structure 6"
    with (
        pytest.warns(DataWarning, match=pair),
        pytest.warns(DataWarning, match=r"mine\.extxyz, structure 5 \("),
    ):
        gprann.read(file)


def test_copies_say_both(tmp_path: Path) -> None:
    gprann.write(tmp_path / "a.extxyz", gprann.taylor_augment(gprann.examples.hydrogen(3), copies=1))
    origin = gprann.read(tmp_path / "a.extxyz")[4].origin
    assert str(origin) == f"{tmp_path / 'a.extxyz'}, structure 4 (taylor copy of hydrogen, structure 1)"


def test_numbering_keeps_the_place() -> None:
    data = gprann.examples.hydrogen(2)
    numbered = with_unique_origins(data + data[1:])
    assert [(item.origin.file, item.origin.index) for item in numbered] == [("hydrogen", k) for k in range(3)]
    assert [str(item.origin) for item in numbered] == [f"hydrogen, structure {k}" for k in (0, 1, 1)]
    bare = with_unique_origins(Dataset(item.replace(origin=Origin()) for item in data))
    assert [str(item.origin) for item in bare] == ["data set, structure 0", "data set, structure 1"]


def test_the_place_is_not_written(noted: Dataset, tmp_path: Path) -> None:
    """A file tells where its structures come from: with the same bytes wherever it was copied to."""
    gprann.write(tmp_path / "a.extxyz", noted)
    gprann.write(tmp_path / "b.extxyz", gprann.read(tmp_path / "a.extxyz"))
    assert (tmp_path / "a.extxyz").read_bytes() == (tmp_path / "b.extxyz").read_bytes()
    assert np.all([item.origin.file == "far/train.extxyz" for item in gprann.read(tmp_path / "b.extxyz")])
