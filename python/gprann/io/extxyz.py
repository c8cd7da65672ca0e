"""Extended XYZ, as written by ASE, libAtoms and the programs that follow them.

The framing and the columns are read here and not by ASE, which ends the file at the first blank line, ignores
surplus columns and does not say which atom is at fault.
"""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gprann.data.attachments import OWN_NAMES, plain
from gprann.data.structure import Origin, Structure
from gprann.errors import DataError, FormatError
from gprann.io.checks import DataWarning
from gprann.io.files import InputFile, check_not_cut, elements, number, numbers, vectors
from gprann.io.labels import (
    Frame,
    ReadOptions,
    choose_labels,
    declared_units,
    label_weight,
    make_frame,
    stress_label,
)

_DEFAULT_PROPERTIES = "species:S:1:pos:R:3"
_QUOTED = r"\"(?:[^\"\\]|\\.)*\"|'(?:[^'\\]|\\.)*'|\{[^{}]*\}|\[(?:[^\[\]]|\[[^\[\]]*\])*\]"
_ENTRY = re.compile(
    rf"(?P<key>\"(?:[^\"\\]|\\.)*\"|[^\s=]+)"
    rf"(?:\s*=(?:\s*(?P<quoted>{_QUOTED})|(?P<bare>\S+)|\s+(?P<spaced>[^\s=]+)(?!\S)(?!\s*=))?)?",
    re.DOTALL,
)
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)
_TRUTH = {"T": True, "TRUE": True, "1": True, "F": False, "FALSE": False, "0": False}
_INFO_TRUTH = dict.fromkeys(("T", "True", "true", "TRUE"), True) | dict.fromkeys(
    ("F", "False", "false", "FALSE"), False
)
_COLUMN_TYPES = ("S", "R", "I", "L")
_STRUCTURAL = ("Lattice", "Properties", "pbc")
_ORIGIN = ("origin_file", "origin_index", "origin_method")
_RESERVED = {*OWN_NAMES, *_STRUCTURAL, *_ORIGIN, "species", "pos", "positions", "numbers", "Z", "move_mask"}
_IN_ANY_CASE = {name.lower(): name for name in _STRUCTURAL}
_COLUMN_NAMES = {name.lower(): name for name in ("species", "pos", "positions", "Z")}
_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eEdD][-+]?\d+)?")
_OTHER_CELL = re.compile(r"cell|box|unit_?cell|lattice_vectors|cell_vectors|primvec|cellpar", re.IGNORECASE)


class _Column(NamedTuple):
    start: int
    width: int
    kind: str


def read_extxyz(file: InputFile, options: ReadOptions) -> Iterator[Frame | DataError]:
    """Read all structures of an extended XYZ file.

    Labels are `energy` or `free_energy`, the column `forces`, `stress` (6 or 9 values, eV/Å³, ASE's sign)
    and `virial` (eV, minus volume times stress), or the names in `options.keys`. `weight` (or `config_weight`),
    `energy_variance`, `group` (or `config_type`), `origin_file`, `origin_index` and `origin_method` are read too;
    everything else goes into `info` and `arrays`, and `move_mask` into the constraints, as ASE has it. A structure
    that cannot be used comes as an error in its place.

    Raises
    ------
    FormatError
        If the file is cut or damaged, after the structures before the damage.
    DataError
        If it is empty.
    """
    text = file.lines()
    for index, (start, n_atoms) in enumerate(_frame_spans(text.lines, file)):
        origin = Origin(str(file), index)
        rows = [line.split() for line in text.lines[start + 2 : start + 2 + n_atoms]]
        try:
            frame = parse_frame(text.lines[start + 1], rows, origin, options)
            if not text.terminated and start + 2 + n_atoms == len(text.lines):
                check_not_cut(rows, origin)
        except DataError as error:
            yield error
        else:
            yield frame


def _frame_spans(lines: list[str], path: object) -> Iterator[tuple[int, int]]:
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


def parse_frame(comment: str, rows: list[list[str]], origin: Origin, options: ReadOptions) -> Frame:
    """Return the structure of a comment line and the columns of the lines of its atoms.

    Raises
    ------
    DataError
        If it cannot be used.
    """
    info = _parse_comment(comment, origin, options)
    columns = _parse_properties(info.pop("Properties", _DEFAULT_PROPERTIES), origin)
    _check_width(rows, columns, origin)
    species = _column(columns, ("species", "Z"), 1, origin)
    positions = _column(columns, ("pos", "positions"), 3, origin)
    # Forces are columns, everything else stands in the comment line.
    forces = options.keys.get("forces", "forces")
    candidates = {name: value for name, value in info.items() if name != forces} | {
        name: column for name, column in columns.items() if column.width == 3 or name == forces
    }
    found, said = choose_labels(candidates, options, origin)
    units, unit_keys, converted = declared_units(info, origin)
    weight, ignored = label_weight(info, origin)
    cell, pbc = _parse_cell(info, origin)
    cell = units.convert("length", cell)
    taken = {*OWN_NAMES, *found.values(), *unit_keys, *_STRUCTURAL, *_ORIGIN}
    arrays = {
        name: _array(rows, column)
        for name, column in columns.items()
        if name not in taken and column not in (species, positions)
    }
    kept = {name: info_value(text) for name, text in info.items() if name not in taken}
    structure = Structure(
        elements([row[species.start] for row in rows], origin),
        units.convert("length", vectors(rows, positions.start, "position", origin)),
        cell,
        pbc,
        energy=units.convert("energy", _energy(info, found, origin)),
        forces=units.convert("forces", _forces(rows, columns, found, origin)),
        stress=stress_label(
            units.convert("stress", _tensor(info, found, "stress", origin)),
            units.convert("virial", _tensor(info, found, "virial", origin)),
            cell,
            origin,
        ),
        weight=weight,
        energy_variance=_variance(info, origin),
        group=info.get("group", info.get("config_type", "")),
        origin=origin,
        constraints=(
            *_constraints_of_mask(arrays.pop("move_mask", None), origin),
            *_stored_constraints(kept),
        ),
        info=kept,
        arrays=arrays,
    )
    frame = make_frame(structure, [*info, *columns], (*said, *converted, *ignored))
    return frame._replace(structure=_with_stored_origin(structure, info))


def _energy(info: Mapping[str, str], found: Mapping[str, str], origin: Origin) -> float | None:
    name = found.get("energy")
    return None if name is None or name not in info else number(info[name], "energy", origin)


def _forces(
    rows: list[list[str]], columns: Mapping[str, _Column], found: Mapping[str, str], origin: Origin
) -> NDArray[np.float64] | None:
    column = columns.get(found.get("forces", ""))
    if column is None:
        return None
    if column.width != 3:
        raise FormatError(f"{origin}: the forces have {column.width} columns, expected 3; correct Properties")
    return vectors(rows, column.start, "force", origin)


def _array(rows: list[list[str]], column: _Column) -> NDArray[Any]:
    """Return a column of the type that the file declares; texts where it does not hold that type."""
    tokens = [row[column.start : column.start + column.width] for row in rows]
    try:
        if column.kind == "L":
            array: NDArray[Any] = np.array([[_TRUTH[token.upper()] for token in row] for row in tokens])
        else:
            array = np.array(tokens, dtype={"R": np.float64, "I": np.int64, "S": np.str_}[column.kind])
    except (KeyError, ValueError, OverflowError):
        array = np.array(tokens)
    return array[:, 0] if column.width == 1 else array


def _stored_constraints(info: dict[str, Any]) -> list[dict[str, Any]]:
    """Take the constraints that `format_extxyz` wrote out of the entries; another value of this name is none."""
    value = info.get("constraints")
    if not isinstance(value, list) or not all(isinstance(item, dict) and "name" in item for item in value):
        return []
    del info["constraints"]
    return value


def _constraints_of_mask(mask: NDArray[Any] | None, origin: Origin) -> list[dict[str, Any]]:
    """Return the constraints that ASE's column `move_mask` stands for: true where an atom may move."""
    if mask is None:
        return []
    if mask.dtype.kind not in "bif":
        raise FormatError(f"{origin}: move_mask is {mask.ravel()[0]!r}, expected T or F; correct the column")
    held = ~mask.astype(bool)
    if mask.ndim == 1:
        atoms = np.flatnonzero(held).tolist()
        return [{"name": "FixAtoms", "kwargs": {"indices": atoms}}] if atoms else []
    return [
        {"name": "FixCartesian", "kwargs": {"a": [atom], "mask": row}}
        for atom, row in enumerate(held.tolist())
        if any(row)
    ]


def _parse_comment(comment: str, origin: Origin, options: ReadOptions) -> dict[str, str]:
    """Return the key=value entries of a comment line as they stand there, without quotes."""
    info: dict[str, str] = {}
    flags = []
    meaningful = {*_STRUCTURAL, "energy", "free_energy", "stress", "virial", *options.keys.values()}
    for entry in _ENTRY.finditer(comment):
        key = _unquote(entry["key"])
        key = _IN_ANY_CASE.get(key.lower(), key)
        if (
            entry["quoted"] is None
            and entry["bare"] is None
            and entry["spaced"] is None
            and "=" not in entry[0]
        ):
            flags.append(key)
            continue
        value = _unquote(entry["quoted"]) if entry["quoted"] else entry["bare"] or entry["spaced"] or ""
        if key in meaningful and info.get(key, value) != value:
            raise FormatError(f"{origin}: {key} is given twice with different values; remove one")
        info[key] = value
    if "Properties" in info:  # elsewhere the line is free text
        info |= {flag: "T" for flag in flags if flag not in info}
    if "Lattice" not in info:
        _refuse_other_cell(info, origin)
    return info


def _refuse_other_cell(info: Mapping[str, str], origin: Origin) -> None:
    """Refuse a cell under another name: the structure would be read as a molecule."""
    for name, value in info.items():
        tokens = re.findall(r"[^\s,\[\]{}]+", value)
        if _OTHER_CELL.fullmatch(name) and len(tokens) in (3, 6, 9) and all(map(_NUMBER.fullmatch, tokens)):
            raise FormatError(
                f"{origin}: '{name}' looks like a cell, which extended XYZ keeps as Lattice; rename it"
            )


def info_value(text: str) -> Any:
    """Return the bool, number, array, table or text that the value of a comment line stands for, as in ASE.

    Examples
    --------
    >>> [info_value(text) for text in ("T", "3", "1.5", "bulk", '_JSON {"a": 1}')]
    [True, 3, 1.5, 'bulk', {'a': 1}]
    """
    if text.startswith("_JSON"):
        try:
            return json.loads(text.removeprefix("_JSON"))
        except (ValueError, RecursionError):
            return text
    tokens = re.findall(r"[^\s,\[\]{}]+", text)
    if not tokens or any("_" in token for token in tokens):
        return text
    if all(token in _INFO_TRUTH for token in tokens):
        values: Any = [_INFO_TRUTH[token] for token in tokens]
    else:
        try:
            values = np.array([int(token) for token in tokens], dtype=np.int64)
        except (ValueError, OverflowError):
            try:
                values = np.array([float(token) for token in tokens])
            except ValueError:
                return text
    return (values if isinstance(values, list) else values.tolist())[0] if len(tokens) == 1 else values


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
        columns[_COLUMN_NAMES.get(name.lower(), name)] = _Column(start, int(width), kind)
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
        columns, constraints = _columns(structure)
        numbers = [structure.positions, *([] if structure.forces is None else [structure.forces])]
        rows = [
            " ".join([f"{symbol:<2}", *(f"{value!r:>23}" for value in row)])
            for symbol, row in zip(structure.symbols, np.hstack(numbers).tolist(), strict=True)
        ]
        for array in columns.values():
            texts = array.reshape(len(structure), -1).tolist()
            rows = [" ".join([row, *map(_token, values)]) for row, values in zip(rows, texts, strict=True)]
        yield "\n".join([str(len(structure)), _comment(structure, columns, constraints), *rows, ""])


def _columns(structure: Structure) -> tuple[dict[str, NDArray[Any]], list[Any]]:
    """Return the arrays that become columns, among them ASE's `move_mask`, and the constraints that it cannot say."""
    columns = {}
    for name, array in structure.arrays.items():
        if name in _RESERVED or not re.fullmatch(r"[^\s:\"'=]+", name):
            continue  # such a name would change the meaning of the file
        if array.dtype.kind == "U" and not all(re.fullmatch(r"\S+", text) for text in array.ravel().tolist()):
            warnings.warn(
                f"{structure.origin}: arrays['{name}'] holds texts with blanks, which extended XYZ does not keep",
                DataWarning,
                stacklevel=4,
            )
            continue
        columns[name] = array
    free = np.ones(len(structure), dtype=bool)
    others = []
    for constraint in structure.constraints:
        if constraint["name"] == "FixAtoms":
            free[np.asarray(constraint["kwargs"]["indices"], dtype=np.int64)] = False
        else:
            others.append(plain(constraint))
    if not free.all():
        columns["move_mask"] = free
    return columns, others


def _token(value: Any) -> str:
    return ("T" if value else "F") if isinstance(value, bool) else str(value)


def _comment(structure: Structure, columns: Mapping[str, NDArray[Any]], constraints: Sequence[Any]) -> str:
    entries = []
    if structure.cell.any():
        entries.append(("Lattice", _join(structure.cell)))
    properties = _DEFAULT_PROPERTIES + ("" if structure.forces is None else ":forces:R:3")
    kinds = {"f": "R", "i": "I", "b": "L", "U": "S"}
    for name, array in columns.items():
        properties += f":{name}:{kinds[array.dtype.kind]}:{array[0].size}"
    entries.append(("Properties", properties))
    if structure.energy is not None:
        entries.append(("energy", repr(structure.energy)))
    if structure.stress is not None:
        entries.append(("stress", _join(structure.stress[[0, 5, 4, 5, 1, 3, 4, 3, 2]])))
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
    entries += [
        (name, _info_text(value))
        for name, value in structure.info.items()
        if value is not None and name not in _RESERVED
    ]
    if constraints:
        entries.append(("constraints", "_JSON " + json.dumps(constraints)))
    return " ".join(f"{_quote(key)}={_quote(value)}" for key, value in entries)


def _info_text(value: Any) -> str:
    """Return the text from which `info_value` makes a value again."""
    if isinstance(value, str):
        text = value
    elif isinstance(value, np.ndarray) and value.ndim == 1 and len(value) > 1:
        text = " ".join(map(_token, value.tolist()))
    elif isinstance(value, bool | int | float):
        text = _token(value)
    else:
        return "_JSON " + json.dumps(plain(value))
    same = info_value(text)
    if isinstance(value, str) and (
        not isinstance(same, str) or same != value or "\n" in value or "\r" in value
    ):
        return "_JSON " + json.dumps(value)
    return text


def _join(array: NDArray[np.float64]) -> str:
    return " ".join(repr(value) for value in array.ravel().tolist())


def _quote(value: str) -> str:
    if re.fullmatch(r"[\w.:+/-]+", value, re.ASCII):
        return value
    escaped = value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\r", "\\r")
    return f'"{escaped}"'
