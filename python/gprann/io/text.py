"""Lines and columns of text files, with errors that name the structure, the atom and the token."""

from __future__ import annotations

import gzip
import re
import warnings
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from ase.data import atomic_numbers, chemical_symbols
from numpy.typing import NDArray

from gprann.data.structure import Origin
from gprann.errors import DataError, FormatError
from gprann.io.checks import DataWarning

__all__ = ["TextFile", "check_not_cut", "elements", "load_text", "number", "numbers", "vectors"]

_FORTRAN_EXPONENT = re.compile(r"([+-]?(?:\d+\.?\d*|\.\d+))[dD]([+-]?\d+)")

Rows = Sequence[Sequence[str]]


class TextFile(NamedTuple):
    """Lines of a file, and whether its last line is terminated as a complete file's is."""

    lines: list[str]
    terminated: bool


def load_text(path: Path) -> TextFile:
    """Read a text file.

    Raises
    ------
    DataError
        If the file cannot be opened or is empty.
    """
    try:
        content = path.read_bytes()
        if path.suffix.lower() == ".gz":
            content = gzip.decompress(content)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise FormatError(f"{path}: is cut or damaged: {error}; write the file again") from error
    except OSError as error:
        raise DataError(
            f"{path}: cannot be read: {error.strerror}; check the path and its permissions"
        ) from error
    # surrogateescape: bytes that are no UTF-8 matter only where they stand in place of a number.
    text = content.decode("utf-8", errors="surrogateescape")
    if not text.strip():
        raise DataError(f"{path}: is empty; write the structures again or leave the file out")
    lines = text.split("\n")
    terminated = lines[-1] == ""
    return TextFile(lines[:-1] if terminated else lines, terminated)


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


def vectors(rows: Rows, start: int, what: str, place: object) -> NDArray[np.float64]:
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


def check_not_cut(rows: Rows, origin: Origin) -> None:
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
