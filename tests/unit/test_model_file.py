"""Model files: what is written is read, and nothing else is."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import samples
from gprann import load
from gprann.errors import FormatError
from gprann.model_file import FORMAT_VERSION, read_model_file, write_model_file
from gprann.runtime.atomic_write import WriteError

ARRAYS = {"a": np.arange(6.0).reshape(2, 3), "empty": np.zeros((0, 4)), "one": np.array(3.0)}
DOCUMENT = {"kind": "test", "text": "Å", "numbers": [1, 2.5, None, True], "nested": {"x": []}}


def npy(array: Any, *, allow_pickle: bool = False) -> bytes:
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, np.asanyarray(array), allow_pickle=allow_pickle)
    return buffer.getvalue()


def forge(
    path: Path, *, blobs: dict[str, bytes], digests: dict[str, str] | None = None, **header: Any
) -> Path:
    """A file as `write_model_file` makes them, with anything in it."""
    if digests is None:
        digests = {name: hashlib.sha256(blob).hexdigest() for name, blob in blobs.items()}
    document = {"format": "gprann model", "version": FORMAT_VERSION, "arrays": digests, **header}
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("model.json", json.dumps(document))
        for name, blob in blobs.items():
            archive.writestr(f"{name}.npy", blob)
    return path


def test_what_is_written_is_read(tmp_path: Path) -> None:
    write_model_file(tmp_path / "m", DOCUMENT, ARRAYS)
    document, arrays = read_model_file(str(tmp_path / "m"))
    assert {name: document[name] for name in DOCUMENT} == DOCUMENT
    assert arrays.keys() == ARRAYS.keys()
    for name, array in arrays.items():
        assert array.dtype == np.float64
        assert array.flags.c_contiguous
        np.testing.assert_array_equal(array, ARRAYS[name])
        assert array.shape == (ARRAYS[name].shape or (1,))
    fortran = np.asfortranarray(np.arange(6.0).reshape(2, 3))
    write_model_file(tmp_path / "m", {}, {"f": fortran})
    np.testing.assert_array_equal(read_model_file(tmp_path / "m")[1]["f"], fortran)


def test_the_description_is_readable_by_people(tmp_path: Path) -> None:
    write_model_file(tmp_path / "m", DOCUMENT, ARRAYS)
    with zipfile.ZipFile(tmp_path / "m") as archive:
        assert archive.testzip() is None
        text = archive.read("model.json").decode()
    assert text.count("\n") > 5
    assert json.loads(text)["version"] == FORMAT_VERSION


def test_a_forged_file_is_read_if_it_is_right(tmp_path: Path) -> None:
    """So that the refusals below are about what they change."""
    file = forge(tmp_path / "m", blobs={"a": npy(ARRAYS["a"])})
    np.testing.assert_array_equal(read_model_file(file)[1]["a"], ARRAYS["a"])


class Trap:
    """Unpickling this makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


def test_nothing_in_a_file_is_ever_executed(tmp_path: Path) -> None:
    trap = tmp_path / "sprung"
    objects = npy(np.array([Trap(trap)], dtype=object), allow_pickle=True)
    pickled = pickle.dumps(Trap(trap))
    pickle.loads(pickled)
    assert trap.exists()  # the trap works
    trap.unlink()
    for blob in (objects, pickled):
        with pytest.raises(FormatError, match="'a' is no array of numbers"):
            read_model_file(forge(tmp_path / "m", blobs={"a": blob}))
    (tmp_path / "p").write_bytes(pickled)
    with pytest.raises(FormatError):
        load(tmp_path / "p")
    assert not trap.exists()


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.array([1.0, np.nan]), "finite float64"),
        (np.array([np.inf]), "finite float64"),
        (np.arange(3), "finite float64"),
        (np.zeros(3, dtype=np.float32), "finite float64"),
        (np.array(["text"]), "finite float64"),
    ],
)
def test_other_numbers_are_refused(array: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(FormatError, match=message):
        read_model_file(forge(tmp_path / "m", blobs={"a": npy(array)}))


def lying_header(shape: str) -> bytes:
    """An array file of 8 bytes that claims another shape."""
    blob = npy(np.zeros(1))
    header = f"{{'descr': '<f8', 'fortran_order': False, 'shape': {shape}, }}"
    return blob[:10] + header.ljust(len(blob) - 8 - 11).encode() + b"\n" + blob[-8:]


@pytest.mark.parametrize("shape", ["(2,)", "(10**3,)", "(10000000000000,)", "(-1,)", "(1.5,)", "'text'"])
def test_headers_that_lie_are_refused(shape: str, tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="'a' is no array of numbers"):
        read_model_file(forge(tmp_path / "m", blobs={"a": lying_header(shape)}))
    np.testing.assert_array_equal(
        read_model_file(forge(tmp_path / "m", blobs={"a": lying_header("(1,)")}))[1]["a"], [0]
    )


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ({"format": "another model"}, "not a gprann model file"),
        (
            {"version": FORMAT_VERSION + 1},
            f"model format {FORMAT_VERSION + 1} is newer .*pip install -U gprann",
        ),
        ({"version": "1"}, "model format 1 is newer"),
        ({"version": None}, "model format None"),
        ({"arrays": ["a"]}, "not a complete gprann model file"),
        ({"arrays": None}, "not a complete gprann model file"),
        ({"arrays": {"b": "0" * 64}}, "not a complete gprann model file"),
        ({"arrays": {"a": "0" * 64}}, "checksum of 'a' is wrong, the file is damaged"),
        ({"arrays": {"a": None}}, "checksum of 'a' is wrong"),
    ],
)
def test_headers_of_other_files_are_refused(header: dict[str, Any], message: str, tmp_path: Path) -> None:
    file = forge(tmp_path / "m", blobs={"a": npy(ARRAYS["a"])}, **header)
    with pytest.raises(FormatError, match=message):
        read_model_file(file)


@pytest.mark.parametrize(
    "content",
    [b"", b"PK", b"{}", b"PK\x05\x06" + b"\0" * 18, os.urandom(500)],
    ids=["empty", "two bytes", "JSON", "empty archive", "noise"],
)
def test_files_of_other_kinds_are_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "m").write_bytes(content)
    with pytest.raises(FormatError, match="not a complete gprann model file"):
        read_model_file(tmp_path / "m")


@pytest.mark.parametrize("text", [b"[1]", b"{", b"\xff\xfe", b"[" * 200000, b'"format"'])
def test_descriptions_of_other_kinds_are_refused(text: bytes, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "m", "w") as archive:
        archive.writestr("model.json", text)
    with pytest.raises(FormatError, match=r"not a (complete )?gprann model file"):
        read_model_file(tmp_path / "m")


def test_missing_files_and_folders_are_refused(tmp_path: Path) -> None:
    for path in (tmp_path / "none", tmp_path):
        with pytest.raises(FormatError, match="no such model file"):
            read_model_file(path)
    with pytest.raises(WriteError):
        write_model_file(tmp_path, {}, {})


def test_files_that_unpack_without_measure_are_refused(tmp_path: Path) -> None:
    """Refused by what the archive says of itself, before anything is unpacked."""
    blob = npy(np.zeros(4_000_000))
    with zipfile.ZipFile(tmp_path / "m", "w", zipfile.ZIP_DEFLATED) as archive:
        digest = hashlib.sha256(blob).hexdigest()
        archive.writestr(
            "model.json", json.dumps({"format": "gprann model", "version": 1, "arrays": {"a": digest}})
        )
        archive.writestr("a.npy", blob)
    assert (tmp_path / "m").stat().st_size < 100_000
    with pytest.raises(FormatError, match=r"would unpack to 3.2e\+07 bytes"):
        read_model_file(tmp_path / "m")


def test_ordinary_compression_is_no_crime(tmp_path: Path) -> None:
    samples.potential().save(tmp_path / "m")
    with (
        zipfile.ZipFile(tmp_path / "m") as old,
        zipfile.ZipFile(tmp_path / "n", "w", zipfile.ZIP_DEFLATED) as new,
    ):
        for name in old.namelist():
            new.writestr(name, old.read(name))
    np.testing.assert_array_equal(load(tmp_path / "n").parameters, samples.potential().parameters)


def test_every_cut_is_noticed(tmp_path: Path) -> None:
    samples.potential(members=1, hidden=(2,)).save(tmp_path / "m")
    raw = (tmp_path / "m").read_bytes()
    for length in [*range(0, len(raw), 97), len(raw) - 1]:
        (tmp_path / "cut").write_bytes(raw[:length])
        with pytest.raises(FormatError):
            load(tmp_path / "cut")


def test_no_flipped_bit_changes_a_model(tmp_path: Path) -> None:
    """Either the file is refused, or the bit meant nothing (a date, an attribute of the archive)."""
    potential = samples.potential(members=1, hidden=(2,))
    potential.save(tmp_path / "m")
    raw = (tmp_path / "m").read_bytes()
    expected = read_model_file(tmp_path / "m")
    rng = np.random.default_rng(0)
    refused = 0
    for place in rng.choice(len(raw), size=700, replace=False):
        damaged = bytearray(raw)
        damaged[place] ^= 1 << int(rng.integers(8))
        (tmp_path / "flipped").write_bytes(damaged)
        try:
            document, arrays = read_model_file(tmp_path / "flipped")
        except FormatError:
            refused += 1
            continue
        assert document == expected[0]
        assert all(np.array_equal(arrays[name], array) for name, array in expected[1].items())
    assert refused > 600


@pytest.mark.parametrize("bit", range(16))
def test_every_flag_of_the_archive_is_a_format_error_or_harmless(bit: int, tmp_path: Path) -> None:
    """Encryption and unknown ways of compression among them."""
    samples.potential(members=1, hidden=(2,)).save(tmp_path / "m")
    raw = bytearray((tmp_path / "m").read_bytes())
    directory = raw.rindex(b"PK\x01\x02")
    for field in (6, 8, 10):  # version needed, flags, compression
        damaged = bytearray(raw)
        damaged[directory + field + bit // 8] ^= 1 << (bit % 8)
        (tmp_path / "flag").write_bytes(damaged)
        with contextlib.suppress(FormatError):
            load(tmp_path / "flag")
