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
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gprann.data.structure import Dataset, Origin, Structure
from gprann.errors import DataError, FormatError, nearest_name
from gprann.io.checks import DataWarning
from gprann.io.files import InputFile, check_not_cut, elements, number, vectors
from gprann.io.labels import Frame, ReadOptions, make_frame
from gprann.runtime.atomic_write import WriteError, atomic_write

_PERIODICITY = {
    "CRYSTAL": (True, True, True),
    "SLAB": (True, True, False),
    "POLYMER": (True, False, False),
    "MOLECULE": (False, False, False),
}
_TOTAL_ENERGY = re.compile(r"#.*?\btotal\s+energy\s*=\s*(\S+)\s*(\S*)", re.IGNORECASE)
_ATOM_COUNT = re.compile(r"#\s*number\s+of\s+atoms\s*=\s*(\S+)\s*$", re.IGNORECASE)


def read_xsf(file: InputFile, _: ReadOptions) -> Iterator[Frame | DataError]:
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
    yield _Parser(file).parse()


class _Parser:
    """Reads the sections of one file from top to bottom."""

    def __init__(self, file: InputFile) -> None:
        self.origin = Origin(str(file), 0)
        self.lines, self.terminated = file.lines()
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


def write_xsf(target: Path, dataset: Dataset) -> None:
    """Write a file with one structure, or a folder with a file for each, if the path has no suffix.

    Raises
    ------
    DataError
        If the structures do not fit into the file or the format.
    WriteError
        If the folder cannot be made.
    """
    _warn_loss(dataset)
    if target.is_dir() or not target.suffix:
        _write_xsf_folder(target, dataset)
    else:
        _write_xsf_file(target, dataset)


def _write_xsf_file(target: Path, dataset: Dataset) -> None:
    if len(dataset) > 1:
        raise DataError(
            f"{target}: an XSF file holds one structure, {len(dataset)} are given; "
            f"give a folder ('{target.with_suffix('')}') or an .extxyz file"
        )
    text = format_xsf(dataset[0])
    with atomic_write(target) as stream:
        stream.write(text)


def _write_xsf_folder(folder: Path, dataset: Dataset) -> None:
    texts = [format_xsf(structure) for structure in dataset]
    files = [folder / f"structure_{index:05d}.xsf" for index in range(len(texts))]
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise WriteError(
            f"{folder}: the folder cannot be made: {error.strerror}; choose another one"
        ) from error
    others = sorted(set(folder.glob("*.xsf")) - set(files))
    if others:
        # Whoever reads the folder later would mix the two data sets without noticing.
        raise DataError(
            f"{folder}: holds {len(others)} other XSF files ({others[0].name}, ...); choose a new folder"
        )
    for file, text in zip(files, texts, strict=True):
        with atomic_write(file, sync=len(texts) == 1) as stream:
            stream.write(text)


def _warn_loss(dataset: Dataset) -> None:
    lost = {name: sum(1 for structure in dataset if _has(structure, name)) for name in _XSF_LOSES}
    named = [f"{_XSF_LOSES[name]} ({count} structures)" for name, count in lost.items() if count]
    if named:
        warnings.warn(
            f"XSF does not keep {', '.join(named)}; write extended XYZ to keep them",
            DataWarning,
            stacklevel=4,
        )


_XSF_LOSES = {
    "stress": "stress",
    "weight": "weight",
    "energy_variance": "energy variance",
    "group": "group",
    "cell": "the cell of structures that are not periodic",
    "info": "charge, spin and other entries of info",
    "arrays": "magnetic moments and other arrays",
    "constraints": "constraints",
}


def _has(structure: Structure, name: str) -> bool:
    if name == "cell":
        return not structure.pbc.any() and bool(structure.cell.any())
    if name in ("info", "arrays", "constraints"):
        return len(getattr(structure, name)) > 0
    default = {"stress": None, "weight": 1.0, "energy_variance": 0.0, "group": ""}
    value = getattr(structure, name)
    return value is not None if default[name] is None else bool(value != default[name])
