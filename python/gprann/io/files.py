"""Files of structures: which ones a path stands for, their content, and the numbers in their lines.

Errors name the file, the structure, the atom and the token.
"""

from __future__ import annotations

import bz2
import contextlib
import difflib
import gzip
import lzma
import os
import re
import tempfile
import warnings
import zlib
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
from ase.data import atomic_numbers, chemical_symbols
from numpy.typing import NDArray

from gprann.data.structure import Origin
from gprann.errors import DataError, FormatError
from gprann.io.checks import DataWarning

_FORTRAN_EXPONENT = re.compile(r"([+-]?(?:\d+\.?\d*|\.\d+))[dD]([+-]?\d+)")
_MAGIC = re.compile(r"[*?\[]")
_DECOMPRESS: dict[str, Callable[[bytes], bytes]] = {
    ".gz": gzip.decompress,
    ".bz2": bz2.decompress,
    ".xz": lzma.decompress,
}
_COMPRESSED = ((b"\x1f\x8b", ".gz"), (b"BZh", ".bz2"), (b"\xfd7zXZ\x00", ".xz"))
_OTHERS_COMPRESSED = (
    (b"\x28\xb5\x2f\xfd", "zstd"),
    (b"\x1f\x9d", "compress"),
    (b"PK\x03\x04", "zip"),
    (b"7z\xbc\xaf", "7z"),
)
_BYTE_ORDER_MARKS = (
    (b"\xff\xfe\x00\x00", "utf-32"),
    (b"\x00\x00\xfe\xff", "utf-32"),
    (b"\xef\xbb\xbf", "utf-8-sig"),
    (b"\xff\xfe", "utf-16"),
    (b"\xfe\xff", "utf-16"),
)
_HEAD = 50_000

Tokens = Sequence[Sequence[str]]
SortOut = Callable[[Sequence[Path]], tuple[list[Path], list[Path]]]


class TextFile(NamedTuple):
    """Lines of a file, and whether its last line is terminated as a complete file's is."""

    lines: list[str]
    terminated: bool


def strip_compression(path: Path) -> Path:
    """Return the path without the suffix of a compressed file.

    Examples
    --------
    >>> strip_compression(Path("OUTCAR.gz")).name
    'OUTCAR'
    """
    return path.with_suffix("") if path.suffix.lower() in _DECOMPRESS else path


class InputFile:
    """A file to be read: compressed or not, on a disk or from a pipe; its content is read once.

    Attributes
    ----------
    path : Path
        As it was given; messages name it.
    name : str
        Name without the suffix of a compressed file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.name = strip_compression(path).name
        self._was_compressed = False

    def __str__(self) -> str:
        return str(self.path)

    @cached_property
    def content(self) -> bytes:
        """The bytes of the file, decompressed.

        Raises
        ------
        DataError
            If it cannot be opened, is empty or damaged.
        """
        try:
            content = self.path.read_bytes()
        except OSError as error:
            raise DataError(
                f"{self.path}: cannot be read: {error.strerror}; check the path and its permissions"
            ) from error
        try:
            suffix = next((known for magic, known in _COMPRESSED if content.startswith(magic)), "")
            self._was_compressed = suffix != ""
            content = _DECOMPRESS.get(suffix or self.path.suffix.lower(), bytes)(content)
        except (EOFError, OSError, ValueError, zlib.error, lzma.LZMAError) as error:
            raise FormatError(f"{self.path}: is cut or damaged: {error}; write the file again") from error
        if not content.strip():
            raise self._empty()
        packed = next((name for magic, name in _OTHERS_COMPRESSED if content.startswith(magic)), "")
        if packed and self.path.suffix == ".gprann":
            raise FormatError(f"{self.path}: is a model file; structures are expected here")
        if packed and self.path.suffix.lower() != ".npz":
            raise FormatError(
                f"{self.path}: is compressed by {packed}; decompress it, or use gzip, bzip2 or xz"
            )
        return content

    def _empty(self) -> DataError:
        return DataError(f"{self.path}: is empty; write the structures again or leave the file out")

    @property
    def head(self) -> bytes:
        """The first 50,000 bytes."""
        return self.content[:_HEAD]

    @property
    def text(self) -> str:
        """The content as text, without a byte order mark."""
        encoding = next((name for mark, name in _BYTE_ORDER_MARKS if self.content.startswith(mark)), "utf-8")
        # surrogateescape: bytes that are no UTF-8 matter only where they stand in place of a number.
        errors = "surrogateescape" if encoding.startswith("utf-8") else "replace"
        # Files that were joined keep their marks at the beginning of each part.
        return self.content.decode(encoding, errors=errors).replace("\ufeff", "")

    def lines(self) -> TextFile:
        """Return the lines.

        Raises
        ------
        DataError
            If the file cannot be opened, is empty or damaged.
        """
        text = self.text
        if not text.strip():
            raise self._empty()
        lines = text.split("\n")
        terminated = lines[-1] == ""
        return TextFile(lines[:-1] if terminated else lines, terminated)

    @contextlib.contextmanager
    def on_disk(self) -> Iterator[Path]:
        """Give an ordinary, uncompressed file with this content, for libraries that open files themselves."""
        if (
            self.path.is_file()
            and self.path.name == self.name
            and not (self.content and self._was_compressed)
        ):
            yield self.path
            return
        with tempfile.TemporaryDirectory(prefix="gprann-") as folder:
            copy = Path(folder) / self.name
            copy.write_bytes(self.content)
            yield copy


# ------------------------------------------------------------------ discovery
def match_files(source: str | os.PathLike[str], sort_out: SortOut) -> tuple[list[Path], list[Path]]:
    """Return the files that a path, a folder or a glob pattern stands for, and the stray files left out.

    Parameters
    ----------
    source : path, folder or glob pattern
    sort_out : callable
        Parts files of a folder into those of known kind, in natural order, and the others.

    Raises
    ------
    DataError
        If there is no such file, or the folder or pattern has no file that can be read.
    """
    path = Path(source).expanduser()
    if path.is_dir():
        files, stray = sort_out(_children(path))
        if not files:
            raise DataError(_nothing_in(path, stray))
        return files, stray
    if path.exists():
        return [path], []
    if _MAGIC.search(str(path)):
        return _match(path, sort_out)
    raise DataError(f"{path}: no such file or folder; {_hint(path)}")


def natural_key(path: Path) -> list[list[str | int]]:
    """Sort key under which numbers in names count as numbers.

    Examples
    --------
    >>> [str(p) for p in sorted([Path("f_10.xsf"), Path("f_2.xsf")], key=natural_key)]
    ['f_2.xsf', 'f_10.xsf']
    """
    return [
        [int(piece) if k % 2 else piece for k, piece in enumerate(re.split(r"([0-9]+)", part))]
        for part in path.parts
    ]


def _children(folder: Path) -> list[Path]:
    try:
        return [child for child in folder.iterdir() if child.is_file()]
    except OSError as error:
        raise DataError(f"{folder}: cannot be read: {error.strerror}; check its permissions") from error


def _match(pattern: Path, sort_out: SortOut) -> tuple[list[Path], list[Path]]:
    parts = pattern.parts
    first = next(k for k, part in enumerate(parts) if _MAGIC.search(part))
    base, rest = Path(*parts[:first]), list(parts[first:])
    if rest[-1] == "**":
        rest.append("*")
    matches = list(base.glob("/".join(rest)))
    found = [match for match in matches if match.is_file()]
    if not found:
        folders = [match for match in matches if match.is_dir() and not _hidden(match.relative_to(base))]
        found = [child for folder in folders for child in _children(folder)]
        specific = False
    else:
        specific = rest[-1].strip("*") != ""
    visible = [match for match in found if not _hidden(match.relative_to(base))]
    hidden = [match for match in found if _hidden(match.relative_to(base))]
    files, stray = (sorted(visible, key=natural_key), []) if specific else sort_out(visible)
    if not files:
        left_out = _describe_left_out([*hidden, *stray])
        raise DataError(
            f"{pattern}: the pattern matches no file that can be read{left_out}; correct the pattern"
        )
    return files, sorted([*hidden, *stray], key=natural_key)


def _hidden(path: Path) -> bool:
    return any(part.startswith(".") and part not in (".", "..") for part in path.parts)


def _nothing_in(folder: Path, stray: Sequence[Path]) -> str:
    if any(child.is_dir() for child in folder.iterdir()):
        return f"{folder}: has only folders{_describe_left_out(stray)}; give '{folder / '**' / '*'}' to read them all"
    return f"{folder}: the folder has no file that can be read{_describe_left_out(stray)}; check the path"


def _describe_left_out(stray: Sequence[Path]) -> str:
    return f" (left out: {', '.join(path.name for path in stray[:3])})" if stray else ""


def _hint(path: Path) -> str:
    """Name the nearest neighbour in the deepest folder of the path that exists."""
    missing = path
    while not missing.parent.is_dir() and missing.parent != missing:
        missing = missing.parent
    try:
        names = [child.name for child in missing.parent.iterdir()] if missing.parent.is_dir() else []
    except OSError:
        names = []
    close = difflib.get_close_matches(missing.name, names, n=1)
    return f"did you mean '{missing.parent / close[0]}'?" if close else "check the path"


# ------------------------------------------------------------ numbers in text
def number(token: str, what: str, place: object) -> float:
    """Convert one token to a number; Fortran's exponent letter D is accepted.

    Raises
    ------
    FormatError
        If it is no number. NaN and infinity are numbers; `Structure` refuses them.

    Examples
    --------
    >>> number("-1.5D+01", "energy", "a.xsf")
    -15.0
    >>> number("****", "energy", "a.xsf")
    Traceback (most recent call last):
    ...
    gprann.errors.FormatError: a.xsf: energy is '****', expected a number; correct or remove the structure
    """
    fortran = _FORTRAN_EXPONENT.fullmatch(token)
    try:
        if "_" in token:  # Python takes 1_0 for 10; a damaged file should not be read that way
            raise ValueError
        return float(f"{fortran[1]}e{fortran[2]}" if fortran else token)
    except ValueError:
        raise FormatError(
            f"{place}: {what} is {token[:40]!r}, expected a number; correct or remove the structure"
        ) from None


def numbers(text: str, count: int, what: str, place: object) -> NDArray[np.float64]:
    """Convert the `count` numbers in `text`, which may stand in brackets or be separated by commas.

    Raises
    ------
    FormatError
        If there are more or fewer of them, or one is no number.
    """
    tokens = [token for token in re.split(r"[\s,\[\]{}]+", text.removeprefix("_JSON")) if token]
    if len(tokens) != count:
        raise FormatError(f"{place}: {what} has {len(tokens)} values, expected {count}; correct the file")
    return np.array([number(token, what, place) for token in tokens])


def vectors(rows: Tokens, start: int, what: str, place: object) -> NDArray[np.float64]:
    """Convert the columns start, start+1, start+2 of the atoms' rows to an array (N, 3).

    Raises
    ------
    FormatError
        Naming the atom and the token that is no number.
    """
    tokens = [row[start : start + 3] for row in rows]
    try:
        values = np.array(tokens, dtype=np.float64)
    except ValueError:
        values = None
    if values is None or any("_" in token for row in tokens for token in row):
        values = np.array(
            [
                [number(token, f"{what} of atom {atom}", place) for token in row]
                for atom, row in enumerate(tokens)
            ]
        )
    return values.reshape(len(rows), 3)


def elements(tokens: Sequence[str], place: object) -> tuple[str, ...]:
    """Convert chemical symbols (in any case) or atomic numbers to chemical symbols.

    Raises
    ------
    DataError
        Naming the atom whose element is unknown.

    Examples
    --------
    >>> elements(["LI", "8"], "a.xsf")
    ('Li', 'O')
    """
    known = {token: _element(token) for token in set(tokens)}
    for atom, token in enumerate(tokens):
        if not known[token]:
            raise DataError(
                f"{place}: atom {atom} is {token[:40]!r}, which is not a chemical element; "
                "write symbols (Li) or atomic numbers (3)"
            )
    return tuple(known[token] for token in tokens)


def _element(token: str) -> str:
    if token.isascii() and token.isdigit():
        index = int(token[:9])
        return chemical_symbols[index] if 0 < index < len(chemical_symbols) else ""
    symbol = token.capitalize()
    return symbol if atomic_numbers.get(symbol, 0) > 0 else ""


def check_not_cut(rows: Tokens, origin: Origin) -> None:
    """Refuse a last number that is shorter than the numbers above it, in a file that ends without a line end.

    Such a file is either complete or was cut inside its last number, which still reads as a number. Where
    all other numbers of the column have the same number of decimals the case is clear; else it is a warning.

    Raises
    ------
    FormatError
        If the number was cut.
    """
    decimals = [len(row[-1].partition(".")[2]) for row in rows]
    if len(decimals) < 2 or decimals[-1] >= min(decimals[:-1]):
        return
    message = (
        f"{origin}: the last number, {rows[-1][-1]!r}, has fewer digits than those above it and no line end "
        "follows: the file seems to be cut; write it again, or end it with a line end if it is complete"
    )
    if len(set(decimals[:-1])) == 1:
        raise FormatError(message)
    warnings.warn(message, DataWarning, stacklevel=2)
