"""Symmetry functions of n2p2's settings file `input.nn`."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Literal, NamedTuple

from ase.data import atomic_numbers
from ase.units import Bohr

from gprann.errors import DataError

_REFUSED = {
    "global_symfunction_short": "write a line symfunction_short for each element",
    "element_symfunction_short": "write a line symfunction_short for each function",
    "symfunction_electrostatic": "electrostatics of n2p2 is not read; leave such lines out",
}
_NUMBERS = {2: (3, 3), 3: (4, 5), 9: (4, 5)}  # fewest and most behind the neighbours
_CUTOFF_TYPES = range(1, 9)


class N2p2Settings(NamedTuple):
    """Symmetry functions of an `input.nn`, in Å; rows as `SymmetryFunctionDescriptor` takes them."""

    elements: tuple[str, ...]
    rows: list[list[float]]
    cutoff_type: int
    inner_cutoff: float


class _Lines:
    """The lines of a file that belong to one keyword after the other, and messages about them."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        try:
            text = self.path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(f"{self.path}: cannot be read: {error}") from error
        self.all = [
            (number, words)
            for number, line in enumerate(text.splitlines(), 1)
            if (words := line.split("#")[0].split())
        ]

    def error(self, number: int, sentence: str) -> DataError:
        return DataError(f"{self.path}, line {number}: {sentence}")

    def numbers(self, keyword: str) -> tuple[int, list[float]]:
        """Return line and numbers of a keyword that stands once at most; 0 and none without it."""
        found = [(number, words) for number, words in self.all if words[0] == keyword]
        if len(found) > 1:
            raise self.error(found[1][0], f"{keyword} stands twice; leave one of them out")
        if not found:
            return 0, []
        number, words = found[0]
        try:
            return number, [float(word) for word in words[1:]]
        except ValueError:
            raise self.error(
                number, f"expected numbers behind {keyword}, got {' '.join(words[1:])}"
            ) from None


def read_n2p2_settings(
    path: str | os.PathLike[str], length_unit: Literal["bohr", "angstrom"]
) -> N2p2Settings:
    """Read elements, symmetry functions and cutoff function.

    Raises
    ------
    DataError
        Naming file and line of what is wrong or not supported.
    ValueError
        If the unit is unknown.
    """
    if length_unit not in ("bohr", "angstrom"):
        raise ValueError(f"length_unit = {length_unit!r}: expected 'bohr' or 'angstrom'")
    lines = _Lines(path)
    for number, words in lines.all:
        if words[0] in _REFUSED:
            raise lines.error(number, f"{words[0]} is not supported: {_REFUSED[words[0]]}")
    elements = _elements(lines)
    unit = Bohr if length_unit == "bohr" else 1.0
    rows = [
        _function(lines, number, words[1:], elements, unit)
        for number, words in lines.all
        if words[0] == "symfunction_short"
    ]
    if not rows:
        raise DataError(f"{lines.path}: no line symfunction_short; give n2p2's input.nn")
    return N2p2Settings(elements, rows, *_cutoff(lines))


def _cutoff(lines: _Lines) -> tuple[int, float]:
    """Return n2p2's number of the cutoff function and its inner cutoff, which stands behind it."""
    number, values = lines.numbers("cutoff_type")
    if not values:
        raise DataError(f"{lines.path}: no cutoff_type; add a line with n2p2's number, 1 for the cosine")
    kind, alpha = (*values, 0.0)[:2]
    if kind not in _CUTOFF_TYPES:
        raise lines.error(number, f"cutoff_type {kind:g} is not supported: use 1 (cosine) to 8 (poly4)")
    if not 0 <= alpha < 1:
        raise lines.error(number, f"inner cutoff {alpha:g}: expected at least 0 and less than 1")
    return int(kind), alpha


def _elements(lines: _Lines) -> tuple[str, ...]:
    """Return the elements in the order of atomic numbers, as n2p2 counts them."""
    found = [(number, words[1:]) for number, words in lines.all if words[0] == "elements"]
    if len(found) != 1:
        raise DataError(f"{lines.path}: expected one line 'elements', found {len(found)}")
    number, elements = found[0]
    for element in elements:
        if atomic_numbers.get(element, 0) == 0:
            raise lines.error(number, f"'{element}' is not a chemical element")
    if not elements or len(set(elements)) < len(elements):
        raise lines.error(number, "expected each element once behind 'elements'")
    return tuple(sorted(elements, key=lambda element: atomic_numbers[element]))


def _function(
    lines: _Lines, number: int, words: list[str], elements: tuple[str, ...], unit: float
) -> list[float]:
    kind = words[1] if len(words) > 1 else "none"
    if kind not in {"2", "3", "9"}:
        raise lines.error(
            number, f"symmetry function of type {kind} is not supported: use 2 (radial), 3 or 9 (angular)"
        )
    n_neighbours = 1 if kind == "2" else 2
    names, texts = [words[0], *words[2 : 2 + n_neighbours]], words[2 + n_neighbours :]
    for name in names:
        if name not in elements:
            raise lines.error(number, f"'{name}' is not among the elements {' '.join(elements)}")
    least, most = _NUMBERS[int(kind)]
    try:
        numbers = [float(text) for text in texts]
    except ValueError:
        raise lines.error(number, f"expected numbers behind the elements, got {' '.join(texts)}") from None
    if not least <= len(numbers) <= most or not all(map(math.isfinite, numbers)):
        raise lines.error(
            number, f"expected {least} to {most} finite numbers behind the elements, got {' '.join(texts)}"
        )
    if kind == "2":
        (eta, shift, cutoff), turn, zeta = numbers, 0.0, 1.0
    else:
        eta, turn, zeta, cutoff, shift = (*numbers, 0.0)[:5]
    if eta < 0 or cutoff <= 0 or abs(turn) > 1 or zeta < 1:
        raise lines.error(number, "expected eta >= 0, a positive cutoff, lambda from -1 to 1 and zeta >= 1")
    first, second = (elements.index(name) for name in (names[1], names[-1]))
    row = [elements.index(names[0]), int(kind), first, second, eta / unit**2, shift * unit, turn, zeta]
    return [float(x) for x in row] + [cutoff * unit]
