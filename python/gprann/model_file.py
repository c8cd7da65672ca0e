"""The model file: one portable, versioned file of plain numbers and text.

A zip archive with `model.json` (everything a person wants to read: format version, architecture, provenance)
and one `.npy` per array, each with its SHA-256 in `model.json`. Nothing in it is ever executed: no pickle, no
code.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from gprann.arrays import Array
from gprann.errors import ConfigError, FormatError, GprannError
from gprann.runtime.archives import DAMAGED, DAMAGED_CONTENT
from gprann.runtime.atomic_write import atomic_write

FORMAT_NAME = "gprann model"
FORMAT_VERSION = 2  # 1: reference energies instead of baselines; potentials alone
_ARRAY = "__array__"  # key of a table that stands for an array
_EPOCH = (1980, 1, 1, 0, 0, 0)  # equal models make equal files
_UNPACKED = 100  # times the size of the file that its content may have: real numbers hardly shrink


def write_model_file(
    path: str | os.PathLike[str], document: Mapping[str, Any], arrays: Mapping[str, Array]
) -> None:
    """Write a model file; the old file stays until the new one is complete.

    Parameters
    ----------
    path : path
    document : mapping
        Plain data for `model.json`; float64 arrays in it, in any place, are written as arrays too.
    arrays : mapping of name to ndarray
    """
    arrays = dict(arrays)
    document = _without_arrays(document, "", arrays)
    blobs = {}
    for name, array in arrays.items():
        buffer = io.BytesIO()
        np.lib.format.write_array(buffer, np.ascontiguousarray(array), allow_pickle=False)
        blobs[name] = buffer.getvalue()
    header = {
        "format": FORMAT_NAME,
        "version": FORMAT_VERSION,
        "arrays": {name: hashlib.sha256(blob).hexdigest() for name, blob in blobs.items()},
        **document,
    }
    text = json.dumps(header, indent=1, allow_nan=False)
    # Stored, not compressed: the same bytes whatever the version of zlib.
    with atomic_write(Path(path).expanduser(), "wb") as stream, zipfile.ZipFile(stream, "w") as archive:
        archive.writestr(zipfile.ZipInfo("model.json", _EPOCH), text)
        for name, blob in blobs.items():
            archive.writestr(zipfile.ZipInfo(f"{name}.npy", _EPOCH), blob)


def read_kind(path: str | os.PathLike[str]) -> str:
    """Return what a model file holds, as `potential` or `surrogate`, without reading its arrays.

    Raises
    ------
    FormatError
        If it is no model file.
    """
    source = Path(path).expanduser()
    with _reading(source) as archive:
        document = json.loads(archive.read("model.json"))
        _check_header(source, document)
        return str(document.get("kind", "potential"))


def read_model_file(path: str | os.PathLike[str]) -> tuple[dict[str, Any], dict[str, Array]]:
    """Read a model file and verify the checksums of its arrays.

    Raises
    ------
    FormatError
        If the file is missing, truncated, damaged, no model file, or of a newer format.
    """
    source = Path(path).expanduser()
    with _reading(source) as archive:
        document = json.loads(archive.read("model.json"))
        _check_header(source, document)
        arrays = {
            name: _read_array(archive, source, name, digest) for name, digest in document["arrays"].items()
        }
        document = _with_arrays(document, arrays)
    return document, arrays


@contextlib.contextmanager
def naming_file(path: str | os.PathLike[str], kind: str) -> Iterator[None]:
    """Make of whatever goes wrong with the content of a model file an error that names the file.

    Parameters
    ----------
    path : path
    kind : str
        What the file holds, as `surrogate`.

    Raises
    ------
    ConfigError
        If something is not registered here.
    FormatError
        If the content is incomplete or damaged.
    """
    source = os.fspath(path)
    try:
        yield
    except ConfigError as error:
        raise ConfigError(f"{source}: {error}") from error
    except DAMAGED_CONTENT as error:
        if isinstance(error, FormatError) and source in str(error):
            raise
        reason = str(error) if isinstance(error, GprannError) else repr(error)
        raise FormatError(
            f"{source}: the description of the {kind} is incomplete or damaged ({reason}); save it again"
        ) from error


def _without_arrays(value: Any, name: str, arrays: dict[str, Array]) -> Any:
    """Return plain data in which names stand for arrays, which are collected."""
    if isinstance(value, np.ndarray) and value.dtype == np.float64:
        arrays[name] = value
        return {_ARRAY: name}
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    if isinstance(value, Mapping):
        return {
            key: _without_arrays(item, f"{name}.{key}".lstrip("."), arrays) for key, item in value.items()
        }
    if isinstance(value, list | tuple):
        return [_without_arrays(item, f"{name}.{index}", arrays) for index, item in enumerate(value)]
    return value


def _with_arrays(value: Any, arrays: Mapping[str, Array]) -> Any:
    """Return plain data with the arrays in the places of their names."""
    if isinstance(value, dict):
        if set(value) == {_ARRAY}:
            return arrays[value[_ARRAY]]
        return {key: _with_arrays(item, arrays) for key, item in value.items()}
    return [_with_arrays(item, arrays) for item in value] if isinstance(value, list) else value


@contextlib.contextmanager
def _reading(source: Path) -> Iterator[zipfile.ZipFile]:
    """Open a model file; whatever goes wrong with it is a `FormatError`."""
    if not source.is_file():
        raise FormatError(f"{source}: no such model file")
    try:
        with zipfile.ZipFile(source) as archive:
            _check_size(source, archive)
            yield archive
    except FormatError:
        raise
    except DAMAGED as error:
        raise FormatError(
            f"{source}: not a complete gprann model file ({error}); give a .gprann file, and if it is one, copy "
            f"or train it again"
        ) from error


def _check_size(source: Path, archive: zipfile.ZipFile) -> None:
    unpacked = sum(item.file_size for item in archive.infolist())
    if unpacked > _UNPACKED * source.stat().st_size:
        raise FormatError(f"{source}: not a gprann model file, it would unpack to {unpacked:.1e} bytes")


def _check_header(source: Path, document: object) -> None:
    if not isinstance(document, dict) or document.get("format") != FORMAT_NAME:
        raise FormatError(f"{source}: not a gprann model file")
    version = document.get("version")
    if not isinstance(version, int) or version > FORMAT_VERSION:
        raise FormatError(
            f"{source}: model format {version} is newer than this program reads ({FORMAT_VERSION}); "
            "update gprann: pip install -U gprann"
        )


def _read_array(archive: zipfile.ZipFile, source: Path, name: str, digest: str) -> Array:
    blob = archive.read(f"{name}.npy")
    if hashlib.sha256(blob).hexdigest() != digest:
        raise FormatError(
            f"{source}: checksum of '{name}' is wrong, the file is damaged; copy or train it again"
        )
    try:
        array = np.lib.format.read_array(io.BytesIO(blob), allow_pickle=False)
    except DAMAGED as error:
        raise FormatError(f"{source}: '{name}' is no array of numbers ({error})") from error
    if array.dtype != np.float64 or not np.isfinite(array).all():
        raise FormatError(f"{source}: '{name}' must hold finite float64 numbers")
    return np.ascontiguousarray(array)
