"""The XSF dialect of ænet: one structure per file, energy in a comment, forces in columns 5 to 7.

# total energy = -18642.17 eV
                                                    CRYSTAL          (or SLAB, POLYMER, MOLECULE)
ATOMS                                               PRIMVEC
O  9.96 6.48 12.31  0.13 -0.11 -0.14                 10.3 0.0 0.0    (three lattice vectors)
...                                                  ...
                                                    PRIMCOORD
                                                     46 1
                                                    Li 0.0 0.0 10.3  0.01 0.02 0.03
                                                    ...
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gprann.data.structure import Origin, Structure
from gprann.errors import DataError, FormatError, nearest_name
from gprann.io.labels import Frame, make_frame
from gprann.io.text import check_not_cut, elements, load_text, number, vectors

__all__ = ["format_xsf", "read_xsf"]

_PERIODICITY = {
    "CRYSTAL": (True, True, True),
    "SLAB": (True, True, False),
    "POLYMER": (True, False, False),
    "MOLECULE": (False, False, False),
}
_TOTAL_ENERGY = re.compile(r"#.*?\btotal\s+energy\s*=\s*(\S+)\s*(\S*)", re.IGNORECASE)
_ATOM_COUNT = re.compile(r"#\s*number\s+of\s+atoms\s*=\s*(\S+)\s*$", re.IGNORECASE)


def read_xsf(path: Path) -> Frame:
    """Read an ænet XSF file.

    `CRYSTAL`, `SLAB`, `POLYMER` and `MOLECULE` mean periodic in three, the first two, the first and no
    direction; `PRIMVEC` without one of them means three. `ATOMS` means not periodic. Atom lines begin with a
    symbol or an atomic number. The `ATOMS` form does not say how many atoms there are, so that whole lines
    missing at the end are noticed only where a comment `# number of atoms = N` does.

    Raises
    ------
    FormatError
        If the file is cut, damaged or of another dialect.
    DataError
        If it is empty, or holds a value or an element that cannot be used.
    """
    return _Parser(path).parse()


class _Parser:
    """Reads the sections of one file from top to bottom."""

    def __init__(self, path: Path) -> None:
        self.origin = Origin(str(path), 0)
        self.lines, self.terminated = load_text(path)
        self.next = 0
        self.pbc: tuple[bool, bool, bool] | None = None
        self.cell: NDArray[np.float64] | None = None
        self.energy: float | None = None
        self.rows: list[list[str]] = []
        self.announced: str | None = None
        self.comments: list[str] = []
        self.sections: dict[str, Callable[[], None]] = {
            "ATOMS": self._atoms,
            "PRIMVEC": self._lattice,
            "PRIMCOORD": self._coordinates,
            "CONVVEC": lambda: self._skip(3, "CONVVEC"),
            "CONVCOORD": lambda: self._skip(self._count("CONVCOORD"), "CONVCOORD"),
        }

    def parse(self) -> Frame:
        while self.next < len(self.lines):
            line = self.lines[self.next].strip()
            self.next += 1
            if line.startswith("#"):
                self._comment(line)
            elif line:
                self._section(line)
        return self._frame()

    def _fail(self, problem: str) -> FormatError:
        return FormatError(f"{self.origin}: {problem}; write the file again or leave it out")

    def _comment(self, line: str) -> None:
        self.comments.append(line)
        count = _ATOM_COUNT.match(line)
        if count:
            self.announced = count[1]
        match = _TOTAL_ENERGY.match(line)
        if not match:
            return
        energy = number(match[1], "total energy", self.origin)
        if match[2] and match[2].lower() != "ev":
            raise self._fail(f"the total energy is in {match[2]!r}, expected eV")
        if self.energy is not None and energy != self.energy:
            raise self._fail("two different total energies are given")
        self.energy = energy

    def _section(self, line: str) -> None:
        keyword = line.split(maxsplit=1)[0].upper()
        if keyword in _PERIODICITY:
            self.pbc = _PERIODICITY[keyword]
        elif keyword in self.sections:
            self.sections[keyword]()
        elif keyword.startswith("BEGIN_BLOCK"):
            self._skip_block(keyword)
        elif keyword == "ANIMSTEPS":
            raise self._fail("holds an animation, expected one structure per file")
        else:
            hint = nearest_name(keyword, [*_PERIODICITY, *self.sections])
            raise self._fail(f"line {self.next} begins with {keyword[:40]!r}, which is no keyword ({hint})")

    def _take(self, count: int, section: str) -> list[list[str]]:
        lines = self.lines[self.next : self.next + count]
        if len(lines) < count:
            raise self._fail(f"the file is cut: {section} needs {count} lines, {len(lines)} follow")
        self.next += count
        return [line.split() for line in lines]

    def _skip(self, count: int, section: str) -> None:
        self._take(count, section)

    def _skip_block(self, keyword: str) -> None:
        end = keyword.replace("BEGIN_", "END_", 1)
        while self.next < len(self.lines):
            self.next += 1
            if self.lines[self.next - 1].strip().upper().startswith(end):
                return
        raise self._fail(f"the file is cut: {keyword} has no {end}")

    def _count(self, section: str) -> int:
        tokens = self._take(1, section)[0]
        if not tokens or not (tokens[0].isascii() and tokens[0].isdigit() and len(tokens[0]) < 10):
            raise self._fail(
                f"line {self.next} should be the number of atoms but is {' '.join(tokens)[:40]!r}"
            )
        return int(tokens[0])

    def _lattice(self) -> None:
        if self.cell is not None:
            raise self._fail("PRIMVEC is given twice")
        rows = self._take(3, "PRIMVEC")
        for row in rows:
            if len(row) != 3:
                raise self._fail(f"a lattice vector has {len(row)} components, expected 3")
        self.cell = np.array([[number(token, "PRIMVEC", self.origin) for token in row] for row in rows])

    def _coordinates(self) -> None:
        self._set_rows(self._take(self._count("PRIMCOORD"), "PRIMCOORD"))

    def _atoms(self) -> None:
        if self.cell is not None:
            raise self._fail("has both PRIMVEC and ATOMS, expected PRIMCOORD")
        end = self.next
        while end < len(self.lines) and self.lines[end].strip():
            end += 1
        self.pbc = self.pbc or (False, False, False)
        self._set_rows(self._take(end - self.next, "ATOMS"))

    def _set_rows(self, rows: list[list[str]]) -> None:
        if self.rows:
            raise self._fail("has more than one list of atoms")
        if not rows:
            raise self._fail("the file is cut: no atoms follow the keyword")
        self.rows = rows
        for atom, row in enumerate(rows):
            if len(row) not in (4, 7):
                raise self._fail(
                    f"the line of atom {atom} has {len(row)} columns, expected 4, or 7 with forces"
                )
            if len(row) != len(rows[0]):
                raise self._fail(
                    f"the line of atom {atom} has {len(row)} columns, that of atom 0 {len(rows[0])}"
                )
        if not self.terminated and self.next == len(self.lines):
            check_not_cut(rows, self.origin)

    def _frame(self) -> Frame:
        if not self.rows:
            raise self._fail("has no ATOMS or PRIMCOORD section")
        if self.announced is not None and self.announced != str(len(self.rows)):
            raise self._fail(
                f"the file is cut: {self.announced} atoms are announced, {len(self.rows)} are there"
            )
        pbc = self.pbc or _PERIODICITY["CRYSTAL"]
        if any(pbc) and self.cell is None:
            raise self._fail("is periodic but has no PRIMVEC section")
        structure = Structure(
            elements([row[0] for row in self.rows], self.origin),
            vectors(self.rows, 1, "position", self.origin),
            np.zeros((3, 3)) if self.cell is None else self.cell,
            np.array(pbc),
            energy=self.energy,
            forces=vectors(self.rows, 4, "force", self.origin) if len(self.rows[0]) == 7 else None,
            origin=self.origin,
        )
        return make_frame(structure, [line for line in self.comments if self.energy is None])


def format_xsf(structure: Structure) -> str:
    """Return the text of an ænet XSF file, with enough digits to read back the same bits.

    Structures that are not periodic get the `ATOMS` form, which has no cell.

    Raises
    ------
    DataError
        If the periodic directions are not the first one, the first two or all three, which is all that the
        format can say.

    Examples
    --------
    >>> h2 = Structure(("H", "H"), np.array([[0.0, 0, 0], [0, 0, 0.74]]), energy=-31.7)
    >>> format_xsf(h2).splitlines()[0]
    '# total energy = -31.7 eV'
    """
    pbc = tuple(structure.pbc.tolist())
    keyword = next((name for name, meaning in _PERIODICITY.items() if meaning == pbc), None)
    if keyword is None:
        flags = " ".join("T" if periodic else "F" for periodic in pbc)
        raise DataError(
            f"{structure.origin}: XSF cannot say which directions are periodic when these are {flags}; "
            "write extended XYZ or exchange the axes"
        )
    lines = [f"# total energy = {structure.energy!r} eV"] if structure.energy is not None else []
    lines += [f"# number of atoms = {len(structure)}", ""]
    if any(pbc):
        lines += [
            keyword,
            "PRIMVEC",
            *(_numbers(row) for row in structure.cell),
            "PRIMCOORD",
            f" {len(structure)} 1",
        ]
    else:
        lines += ["ATOMS"]
    columns = (
        structure.positions
        if structure.forces is None
        else np.hstack([structure.positions, structure.forces])
    )
    lines += [f"{symbol:<2}{_numbers(row)}" for symbol, row in zip(structure.symbols, columns, strict=True)]
    return "\n".join([*lines, ""])


def _numbers(row: NDArray[np.float64]) -> str:
    return "".join(f" {value!r:>23}" for value in row.tolist())
