"""Paths, folders and patterns."""

from __future__ import annotations

from pathlib import Path

import pytest

import gprann.io
from gprann.errors import DataError
from gprann.io import DataWarning
from gprann.io.files import natural_key
from gprann.io.formats import find_files

H2 = "# total energy = {energy} eV\n\nATOMS\nH 0.0 0.0 0.0\nH 0.0 0.0 0.{length}\n"


def _make(folder: Path, *names: str) -> None:
    for count, name in enumerate(names):
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(H2.format(energy=-31.0 - count, length=700 + 7 * count))


def _names(found: tuple[list[Path], list[Path]], folder: Path) -> list[list[str]]:
    return [[path.relative_to(folder).as_posix() for path in part] for part in found]


def test_natural_order():
    names = ["b_1.xsf", "a_10.xsf", "a_2.xsf", "a_02b.xsf", "10.xsf", "9.xsf"]
    assert sorted(names, key=lambda name: natural_key(Path(name))) == [
        "9.xsf", "10.xsf", "a_2.xsf", "a_02b.xsf", "a_10.xsf", "b_1.xsf",
    ]  # fmt: skip


def test_folder_leaves_stray_files_out(tmp_path):
    _make(
        tmp_path, "f_10.xsf", "f_2.xsf", "._f_2.xsf", ".DS_Store", ".hidden.xyz", "notes.txt", "sub/f_1.xsf"
    )
    files, stray = _names(find_files(tmp_path), tmp_path)
    assert files == ["f_2.xsf", "f_10.xsf"]
    assert sorted(stray) == [".DS_Store", "._f_2.xsf", ".hidden.xyz", "notes.txt"]


def test_stray_files_give_one_warning_with_the_names(tmp_path):
    _make(tmp_path, "f_10.xsf", "f_2.xsf", "._f_2.xsf", ".DS_Store", *(f"n{k}.txt" for k in range(7)))
    with pytest.warns(DataWarning) as caught:
        data = gprann.io.read(tmp_path)
    assert data.energies.tolist() == [-32.0, -31.0]
    (warning,) = caught
    assert str(warning.message).startswith("9 stray file(s)")
    assert "._f_2.xsf" in str(warning.message)
    assert "n6.txt" not in str(warning.message)
    assert warning.filename == __file__


def test_a_clean_folder_gives_no_warning(tmp_path):
    _make(tmp_path, "f_1.xsf", "f_2.xsf")
    assert len(gprann.io.read(str(tmp_path))) == 2


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("*.xsf", ["a_2.xsf", "a_10.xsf"]),
        ("a_?.xsf", ["a_2.xsf"]),
        ("**/*.xsf", ["a_2.xsf", "a_10.xsf", "sub/a_1.xsf", "sub/deep/a_3.xsf"]),
        ("**", ["a_2.xsf", "a_10.xsf", "sub/a_1.xsf", "sub/deep/a_3.xsf"]),
        ("*", ["a_2.xsf", "a_10.xsf"]),
        ("s*b", ["sub/a_1.xsf"]),
        ("*/deep/*", ["sub/deep/a_3.xsf"]),
    ],
)
def test_patterns(tmp_path, pattern, expected):
    _make(
        tmp_path,
        "a_10.xsf",
        "a_2.xsf",
        "sub/a_1.xsf",
        "sub/deep/a_3.xsf",
        ".git/a_4.xsf",
        "sub/._a_1.xsf",
        "x.txt",
    )
    files, stray = _names(find_files(tmp_path / pattern), tmp_path)
    assert files == expected
    assert not set(stray) & set(expected)


def test_an_existing_name_is_not_a_pattern(tmp_path):
    _make(tmp_path, "a[1].xsf", "a1.xsf")
    assert _names(find_files(tmp_path / "a[1].xsf"), tmp_path)[0] == ["a[1].xsf"]


def test_one_vasp_run_is_not_read_twice(tmp_path):
    _make(tmp_path, "run/OUTCAR", "run/vasprun.xml", "other/OUTCAR")
    files, stray = _names(find_files(tmp_path / "**" / "*"), tmp_path)
    assert files == ["other/OUTCAR", "run/vasprun.xml"]
    assert stray == []  # it is known, and read already


def test_logs_count_if_their_content_does(tmp_path):
    (tmp_path / "slurm.out").write_text("job 1 started\n")
    (tmp_path / "pw.out").write_text("\n     Program PWSCF v.7.2 starts\n")
    files, stray = _names(find_files(tmp_path), tmp_path)
    assert files == ["pw.out"]
    assert stray == ["slurm.out"]


def test_wrong_path_names_the_nearest(tmp_path):
    _make(tmp_path, "train.xsf")
    with pytest.raises(DataError, match=r"tran\.xsf: no such file or folder; did you mean '.*train\.xsf'\?"):
        gprann.io.read(tmp_path / "tran.xsf")
    with pytest.raises(DataError, match="no such file or folder; check the path"):
        gprann.io.read(tmp_path / "nothing" / "of" / "this.xsf")


def test_nothing_found(tmp_path):
    with pytest.raises(DataError, match=r"\*\.xsf: the pattern matches no file"):
        gprann.io.read(tmp_path / "*.xsf")
    with pytest.raises(DataError, match="the folder has no file that can be read; check the path"):
        gprann.io.read(tmp_path)
    _make(tmp_path, "notes.txt")
    with pytest.raises(DataError, match=r"no file that can be read \(left out: notes.txt\)"):
        gprann.io.read(tmp_path)
    _make(tmp_path, "sub/a.xsf")
    with pytest.raises(DataError, match=r"has only folders .*give '.*\*\*"):
        gprann.io.read(tmp_path)
    assert len(gprann.io.read(tmp_path / "**" / "*.xsf")) == 1
