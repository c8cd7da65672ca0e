"""Records of files that Fortran programs write: unformatted, each between two byte counts, or as text.

A file is described once, as a list of `Record`; both forms are read and written from that.
"""

from __future__ import annotations

import struct
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from gprann.arrays import Array
from gprann.errors import FormatError

Values = Mapping[str, Any]
Count = Callable[[Values], int]
_NAME = 2  # characters of the name of an element
_LARGEST = 2**29  # bytes; networks have some kB
_PER_LINE = 4
_REPAIR = "copy the file again, or have ænet write it again"


@dataclass(frozen=True, slots=True)
class Record:
    """One record of a file.

    Attributes
    ----------
    name : str
    kind : {"integer", "real", "logical", "text", "names"}
    count : callable, optional
        From the values of the records before to the number of values; None for a single one, which is no array.
    width : int
        Characters of a text.
    other_count : callable, optional
        Another number of values that text files may have instead.
    """

    name: str
    kind: Literal["integer", "real", "logical", "text", "names"]
    count: Count | None = None
    width: int = 0
    other_count: Count | None = None


class _Reader(ABC):
    """Reads the records of one file, from its beginning to its end."""

    def __init__(self, path: Path, content: bytes) -> None:
        self.path, self.content = path, content

    def read(self, records: Sequence[Record]) -> dict[str, Any]:
        """Return the values of all records by their names."""
        values: dict[str, Any] = {}
        for record in records:
            n = 1 if record.count is None else record.count(values)
            if n < 0:
                raise self.error(f"'{record.name}' would have {n} values", _REPAIR)
            found = self.values(record, n, values)
            if record.kind == "real" and not np.isfinite(found).all():
                raise self.error(
                    f"'{record.name}' holds numbers that are not finite", "train the network again"
                )
            single = record.count is None and record.kind in ("integer", "real")
            values[record.name] = found[0].item() if single else found
        self.end()
        return values

    def error(self, fact: str, remedy: str) -> FormatError:
        """Return the error that names the file."""
        return FormatError(f"{self.path}: {fact}; {remedy}")

    @abstractmethod
    def values(self, record: Record, n: int, before: Values) -> Any:
        """Return the n values of a record."""

    @abstractmethod
    def end(self) -> None:
        """Refuse what follows the last record."""


class _BinaryReader(_Reader):
    """Unformatted sequential records: little-endian, 4-byte counts, integers and logicals, 8-byte reals."""

    at = 0

    def values(self, record: Record, n: int, before: Values) -> Any:  # noqa: ARG002
        width = {"integer": 4, "real": 8, "logical": 4, "text": record.width, "names": _NAME}[record.kind]
        body = self._body(record.name, n * width)
        if record.kind == "integer":
            return np.frombuffer(body, "<i4").astype(np.int64)
        if record.kind == "real":
            return np.frombuffer(body, "<f8").astype(np.float64)
        if record.kind == "logical":
            return any(body)
        text = body.decode("latin-1")
        if record.kind == "text":
            return text.rstrip()
        return tuple(text[k : k + _NAME].strip() for k in range(0, len(text), _NAME))

    def _body(self, name: str, length: int) -> bytes:
        before, self.at = self.at, self.at + length + 8
        first = self._marker(name, before)
        if first != length and before == 0:
            raise self.error(
                f"begins with a record of {first} bytes, expected one 4-byte integer: no network of ænet, or of a "
                "machine with another order or size of numbers",
                "give a .nn file, or write .nn.ascii there",
            )
        if first != length:
            raise self.error(
                f"the record '{name}' at byte {before} has {first} bytes, expected {length}", _REPAIR
            )
        last = self._marker(name, self.at - 4)
        if last != length:
            raise self.error(
                f"the record '{name}' at byte {before} ends with the count {last}, expected {length}", _REPAIR
            )
        return self.content[before + 4 : self.at - 4]

    def _marker(self, name: str, at: int) -> int:
        if at + 4 > len(self.content):
            raise self.error(f"ends within the record '{name}', after {len(self.content)} bytes", _REPAIR)
        (count,) = struct.unpack_from("<i", self.content, at)
        return int(count)

    def end(self) -> None:
        rest = len(self.content) - self.at
        if rest:
            raise self.error(f"{rest} bytes follow the last record", _REPAIR)


class _TextReader(_Reader):
    """Records as text: each begins a line and may go on over several."""

    def __init__(self, path: Path, content: bytes) -> None:
        super().__init__(path, content)
        self.lines = content.decode("latin-1").replace("\r\n", "\n").split("\n")  # not at the byte 85 of an Å
        self.at = 0

    def values(self, record: Record, n: int, before: Values) -> Any:
        if record.kind == "text":
            return self._line(record.name).rstrip()
        if record.other_count is not None and self._whole_numbers() == record.other_count(before) + 1:
            n = record.other_count(before)  # and one more, the record after it
        words: list[str] = []
        while len(words) < n:
            words += self._line(record.name).split()
        if len(words) > n:
            raise self.error(
                f"line {self.at}: '{record.name}' has {len(words)} values, expected {n}", _REPAIR
            )
        try:
            if record.kind == "integer":
                return np.array([int(word) for word in words], np.int64)
            if record.kind == "real":
                return np.array([_real(word) for word in words])
            if record.kind == "logical":
                return {"T": True, "F": False}[words[0].strip(".").upper()[:1]]
        except (ValueError, KeyError, OverflowError) as error:
            raise self.error(
                f"line {self.at}: '{record.name}' cannot be read as {record.kind} ({error})", _REPAIR
            ) from error
        return tuple(words)

    def _line(self, name: str) -> str:
        if self.at == len(self.lines):
            raise self.error(f"ends before '{name}' is complete, after {len(self.lines)} lines", _REPAIR)
        self.at += 1
        return self.lines[self.at - 1]

    def _whole_numbers(self) -> int:
        """Return how many whole numbers come before the next line with something else."""
        lines = takewhile(
            lambda words: all(word.isdigit() for word in words), map(str.split, self.lines[self.at :])
        )
        return sum(map(len, lines))

    def end(self) -> None:
        if any(map(str.strip, self.lines[self.at :])):
            raise self.error(f"more lines follow the last record, from line {self.at + 1}", _REPAIR)


def _real(word: str) -> float:
    """Return a number as Fortran writes it: the letter of the exponent may be D, or missing before three digits."""
    word = word.upper().replace("D", "E")
    sign = max(word.rfind("+"), word.rfind("-"))
    return float(word if sign < 1 or word[sign - 1] == "E" else f"{word[:sign]}E{word[sign:]}")


def _column(value: float) -> str:
    """Return a number in 24 characters; Fortran leaves the E out where it has no room."""
    word = f"{value:24.17E}"
    return word if len(word) == 24 else word.replace("E", "")


def read_records(path: Path, records: Sequence[Record], *, text: bool) -> dict[str, Any]:
    """Read a file.

    Parameters
    ----------
    path : Path
    records : sequence of Record
    text : bool
        Whether it is a text file.

    Returns
    -------
    dict
        The values of the records: int, float, bool, str, tuple of str, or arrays of int64 or float64.

    Raises
    ------
    FormatError
        If the file is missing, cut, damaged, or something else.
    """
    try:
        size = path.stat().st_size
        content = path.read_bytes() if size <= _LARGEST else b""
    except OSError as error:
        raise FormatError(f"{path}: cannot be read: {error.strerror}; give a network of ænet") from error
    if size > _LARGEST:
        raise FormatError(f"{path}: has {size} bytes, more than any network; give a network of ænet")
    reader = _TextReader if text else _BinaryReader
    return reader(path, content).read(records)


def binary_content(records: Sequence[Record], values: Values) -> bytes:
    """Return the content of an unformatted file."""
    parts = []
    for record in records:
        body = _bytes(record, values[record.name])
        count = struct.pack("<i", len(body))
        parts += [count, body, count]
    return b"".join(parts)


def _bytes(record: Record, value: Any) -> bytes:
    if record.kind == "text":
        return bytes(value.encode("latin-1", "replace").ljust(record.width)[: record.width])
    if record.kind == "names":
        return "".join(name.ljust(_NAME) for name in value).encode("latin-1")
    return np.asarray(value, "<f8" if record.kind == "real" else "<i4").tobytes()


def text_content(records: Sequence[Record], values: Values) -> bytes:
    """Return the content of a text file, in the columns in which ænet writes and reads it."""
    lines: list[str] = []
    for record in records:
        value = values[record.name]
        if record.kind == "text":
            lines.append(" ".join(value[: record.width].split("\n")))
        elif record.kind == "names":
            lines += value
        elif record.kind == "logical":
            lines.append(" T" if value else " F")
        else:
            lines += _table(np.atleast_1d(value))
    return "".join(f"{line}\n" for line in lines).encode("latin-1", "replace")


def _table(values: Array | NDArray[np.int64]) -> list[str]:
    """Return lines of four numbers each."""
    integers = np.issubdtype(values.dtype, np.integer)
    words = [f" {value:17d}" if integers else f" {_column(value)}" for value in values.ravel().tolist()]
    return ["".join(words[k : k + _PER_LINE]) for k in range(0, len(words), _PER_LINE)]
