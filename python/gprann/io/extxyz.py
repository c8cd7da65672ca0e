"""Extended XYZ, as written by ASE, libAtoms and the programs that follow them.

The framing and the columns are read here and not by ASE, which ends the file at the first blank line, ignores
surplus columns and does not say which atom is at fault.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from gprann.data.structure import Origin, Structure
from gprann.errors import FormatError
from gprann.io.labels import Frame, label_names, make_frame, stress_label
from gprann.io.text import check_not_cut, elements, load_text, number, numbers, vectors

__all__ = ["format_extxyz", "read_extxyz"]

_DEFAULT_PROPERTIES = "species:S:1:pos:R:3"
_QUOTED = r"\"(?:[^\"\\]|\\.)*\"|'(?:[^'\\]|\\.)*'|\{[^{}]*\}|\[(?:[^\[\]]|\[[^\[\]]*\])*\]"
_ENTRY = re.compile(
    rf"(?P<key>\"(?:[^\"\\]|\\.)*\"|[^\s=]+)"
    rf"(?:\s*=(?:\s*(?P<quoted>{_QUOTED})|(?P<bare>\S+)|\s+(?P<spaced>[^\s=]+)(?!\S)(?!\s*=))?)?",
    re.DOTALL,
)
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)
_TRUTH = {"T": True, "TRUE": True, "1": True, "F": False, "FALSE": False, "0": False}
_COLUMN_TYPES = ("S", "R", "I", "L")


class _Column(NamedTuple):
    start: int
    width: int


def read_extxyz(path: Path, keys: Mapping[str, str]) -> list[Frame]:
    """Read all structures of an extended XYZ file.

    Labels are `energy` (or `free_energy`), the column `forces`, `stress` (6 or 9 values, eV/Å³, ASE's sign)
    and `virial` (eV, minus volume times stress), or the names in `keys`. `weight`, `energy_variance`, `group`
    (or `config_type`), `origin_file`, `origin_index` and `origin_method` are read too.

    Raises
    ------
    FormatError
        If the file is cut or damaged.
    DataError
        If it is empty, or holds a value or an element that cannot be used.
    """
    text = load_text(path)
    frames = []
    for index, (start, n_atoms) in enumerate(_frame_spans(text.lines, path)):
        origin = Origin(str(path), index)
        rows = [line.split() for line in text.lines[start + 2 : start + 2 + n_atoms]]
        frames.append(_parse_frame(text.lines[start + 1], rows, origin, keys))
        if not text.terminated and start + 2 + n_atoms == len(text.lines):
            check_not_cut(rows, origin)
    return frames


def _frame_spans(lines: list[str], path: Path) -> Iterator[tuple[int, int]]:
    """Yield first line and number of atoms of each structure; blank lines between them are skipped.

    A generator, so that a line missing in one structure is reported there and not for the next one.
    """
    line = count = 0
    while line < len(lines):
        head = lines[line].strip()
        if not head:
            line += 1
            continue
        place = f"{path}, structure {count}"
        if not (head.isascii() and head.isdigit() and 0 < len(head) < 10):
            raise FormatError(
                f"{place}: line {line + 1} should be its number of atoms but is {head[:40]!r}; "
                "the file is damaged or the structure before has more lines than atoms"
            )
        n_atoms = int(head)
        if n_atoms == 0:
            raise FormatError(f"{place}: line {line + 1} announces 0 atoms; remove the structure")
        left = len(lines) - line - 2
        if left < n_atoms:
            raise FormatError(
                f"{place}: the file is cut: {n_atoms} atoms are announced, {max(left, 0)} lines follow; "
                "write the file again or remove the incomplete structure"
            )
        yield line, n_atoms
        line += n_atoms + 2
        count += 1


def _parse_frame(comment: str, rows: list[list[str]], origin: Origin, keys: Mapping[str, str]) -> Frame:
    info = _parse_comment(comment, origin, keys)
    columns = _parse_properties(info.pop("Properties", _DEFAULT_PROPERTIES), origin)
    _check_width(rows, columns, origin)
    species = _column(columns, ("species", "Z"), 1, origin)
    positions = _column(columns, ("pos", "positions"), 3, origin)
    cell, pbc = _parse_cell(info, origin)
    # Forces are columns, everything else stands in the comment line.
    found = label_names([name for name in info if name != keys.get("forces", "forces")], keys)
    forces = columns.get(keys.get("forces", "forces"))
    if forces is not None and forces.width != 3:
        raise FormatError(f"{origin}: the forces have {forces.width} columns, expected 3; correct Properties")
    structure = Structure(
        elements([row[species.start] for row in rows], origin),
        vectors(rows, positions.start, "position", origin),
        cell,
        pbc,
        energy=number(info[found["energy"]], "energy", origin) if "energy" in found else None,
        forces=vectors(rows, forces.start, "force", origin) if forces else None,
        stress=stress_label(
            _tensor(info, found, "stress", origin), _tensor(info, found, "virial", origin), cell, origin
        ),
        weight=number(info.get("weight", "1"), "weight", origin),
        energy_variance=_variance(info, origin),
        group=info.get("group", info.get("config_type", "")),
        origin=origin,
    )
    frame = make_frame(structure, [*info, *columns])
    return frame._replace(structure=_with_stored_origin(structure, info))


def _parse_comment(comment: str, origin: Origin, keys: Mapping[str, str]) -> dict[str, str]:
    """Return the key=value entries of a comment line as they stand there, without quotes."""
    info: dict[str, str] = {}
    meaningful = {"Properties", "Lattice", "pbc", "energy", "stress", "virial", *keys.values()}
    for entry in _ENTRY.finditer(comment):
        key = _unquote(entry["key"])
        value = _unquote(entry["quoted"]) if entry["quoted"] else entry["bare"] or entry["spaced"] or ""
        if key in meaningful and info.get(key, value) != value:
            raise FormatError(f"{origin}: {key} is given twice with different values; remove one")
        info[key] = value
    return info


def _unquote(token: str) -> str:
    if token[0] in "[{":
        return token[1:-1]
    if token[0] not in "\"'" or len(token) < 2:
        return token
    return _ESCAPED.sub(lambda match: {"n": "\n", "r": "\r"}.get(match[1], match[1]), token[1:-1])


def _parse_properties(properties: str, origin: Origin) -> dict[str, _Column]:
    fields = properties.split(":")
    columns: dict[str, _Column] = {}
    start = 0
    for name, kind, width in zip(fields[::3], fields[1::3], fields[2::3], strict=False):
        known = name not in columns and kind in _COLUMN_TYPES and width.isascii() and width.isdigit()
        if not known or not 0 < int(width[:4]) < 1000:
            break
        columns[name] = _Column(start, int(width))
        start += int(width)
    if len(fields) % 3 or 3 * len(columns) != len(fields):
        raise FormatError(
            f"{origin}: Properties={properties[:80]!r} is damaged; expected name:type:columns, "
            "for example species:S:1:pos:R:3:forces:R:3"
        )
    return columns


def _column(columns: Mapping[str, _Column], names: tuple[str, ...], width: int, origin: Origin) -> _Column:
    name = next((name for name in names if name in columns), None)
    if name is None or columns[name].width != width:
        raise FormatError(
            f"{origin}: Properties does not declare {names[0]} with {width} column(s); correct it"
        )
    return columns[name]


def _check_width(rows: list[list[str]], columns: Mapping[str, _Column], origin: Origin) -> None:
    width = sum(column.width for column in columns.values())
    for atom, row in enumerate(rows):
        if len(row) != width:
            raise FormatError(
                f"{origin}: the line of atom {atom} has {len(row)} columns, Properties declares {width}; "
                "a line is cut or missing, or a column is not declared"
            )


def _parse_cell(info: Mapping[str, str], origin: Origin) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    cell = np.zeros((3, 3))
    if "Lattice" in info:
        cell = numbers(info["Lattice"], 9, "Lattice", origin).reshape(3, 3)
    if "pbc" not in info:
        return cell, np.full(3, "Lattice" in info)
    flags = [_TRUTH.get(token.upper()) for token in re.split(r"[\s,]+", info["pbc"].strip(" ,"))]
    if len(flags) not in (1, 3) or None in flags:
        raise FormatError(f"{origin}: pbc is {info['pbc'][:40]!r}, expected three of T and F; correct it")
    return cell, np.broadcast_to(np.array(flags, dtype=bool), 3)


def _tensor(
    info: Mapping[str, str], found: Mapping[str, str], label: str, origin: Origin
) -> NDArray[np.float64] | None:
    if label not in found:
        return None
    text = info[found[label]]
    n_values = len([token for token in re.split(r"[\s,\[\]{}]+", text.removeprefix("_JSON")) if token])
    return numbers(text, 6 if n_values == 6 else 9, label, origin)


def _variance(info: Mapping[str, str], origin: Origin) -> float:
    variance = number(info.get("energy_variance", "0"), "energy_variance", origin)
    if not 0.0 <= variance < np.inf:
        raise FormatError(f"{origin}: energy_variance is {variance}; it must be finite and not negative")
    return variance


def _with_stored_origin(structure: Structure, info: Mapping[str, str]) -> Structure:
    """Give a structure that was written by `format_extxyz` the origin that it had, and the place where it was read."""
    if "origin_index" not in info:
        return structure
    index = info["origin_index"]
    if not (index.isascii() and index.isdigit() and len(index) < 19):
        raise FormatError(f"{structure.origin}: origin_index is {index[:40]!r}, expected an integer")
    method = info.get("origin_method", "reference")
    place = str(structure.origin)
    return structure.replace(origin=Origin(info.get("origin_file", ""), int(index), method, place))


def format_extxyz(structures: Iterable[Structure]) -> Iterable[str]:
    """Yield the text of each structure, with enough digits to read back the same bits.

    Examples
    --------
    >>> h2 = Structure(("H", "H"), np.array([[0.0, 0, 0], [0, 0, 0.74]]), energy=-31.7)
    >>> text, = format_extxyz([h2])
    >>> text.splitlines()[1]
    'Properties=species:S:1:pos:R:3 energy=-31.7 pbc="F F F"'
    """
    for structure in structures:
        columns = [structure.positions]
        if structure.forces is not None:
            columns.append(structure.forces)
        rows = [
            " ".join([f"{symbol:<2}", *(f"{value!r:>23}" for value in row)])
            for symbol, row in zip(structure.symbols, np.hstack(columns).tolist(), strict=True)
        ]
        yield "\n".join([str(len(structure)), _comment(structure), *rows, ""])


def _comment(structure: Structure) -> str:
    entries = []
    if structure.cell.any():
        entries.append(("Lattice", _joined(structure.cell)))
    forces = "" if structure.forces is None else ":forces:R:3"
    entries.append(("Properties", _DEFAULT_PROPERTIES + forces))
    if structure.energy is not None:
        entries.append(("energy", repr(structure.energy)))
    if structure.stress is not None:
        entries.append(("stress", _joined(structure.stress[[0, 5, 4, 5, 1, 3, 4, 3, 2]])))
    entries.append(("pbc", " ".join("T" if periodic else "F" for periodic in structure.pbc)))
    if structure.weight != 1.0:
        entries.append(("weight", repr(float(structure.weight))))
    if structure.energy_variance != 0.0:
        entries.append(("energy_variance", repr(float(structure.energy_variance))))
    if structure.group:
        entries.append(("group", structure.group))
    if structure.origin != Origin():
        entries.append(("origin_file", structure.origin.file))
        entries.append(("origin_index", str(structure.origin.index)))
        entries.append(("origin_method", structure.origin.method))
    return " ".join(f"{key}={_quote(value)}" for key, value in entries)


def _joined(array: NDArray[np.float64]) -> str:
    return " ".join(repr(value) for value in array.ravel().tolist())


def _quote(value: str) -> str:
    if re.fullmatch(r"[\w.:+/-]+", value, re.ASCII):
        return value
    escaped = value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\r", "\\r")
    return f'"{escaped}"'
