"""Training sets of DeePMD, MTP and FitSNAP, and the outputs of programs that dpdata reads.

Signs: the virial of DeePMD and `PlusStress` of MTP are minus volume times the stress of ASE; the stress of FitSNAP is a
pressure tensor, minus ASE's.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext, redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gprann.arrays import Array
from gprann.data.structure import Origin, Structure
from gprann.errors import DataError, FormatError
from gprann.io.ase import check_convergence
from gprann.io.files import InputFile, elements, number
from gprann.io.labels import Frame, ReadOptions, declared_units, make_frame, stress_label
from gprann.runtime.archives import DAMAGED

_MOST_TYPES = 1_000_000
_REMEDY = "compute it again, or leave it out (skip_bad = true)"


# ---------------------------------------------------------------------- DeePMD
def read_deepmd(file: InputFile, options: ReadOptions) -> Iterator[Frame | DataError]:
    """Read a folder of DeePMD, given by its `type.raw`: `set.*/*.npy`, or `coord.raw` and so on.

    Raises
    ------
    FormatError
        If files are missing, damaged or of different lengths.
    """
    folder = file.path.parent
    types = np.array([_whole(token, file) for token in file.text.split()])
    names = options.species
    if (folder / "type_map.raw").is_file():
        names = tuple((folder / "type_map.raw").read_text(encoding="utf-8").split())
    periodic = not (folder / "nopbc").exists()
    sets = sorted(path for path in folder.glob("set.*") if path.is_dir()) or [folder]
    count = 0
    for part in sets:
        data = _deepmd_set(part, len(types))
        kinds = data.get("real_atom_types")
        for k in range(len(data["coord"])):
            symbols = _symbols(types if kinds is None else kinds[k].astype(int), names, file)
            cell = data["box"][k].reshape(3, 3) if periodic and "box" in data else np.zeros((3, 3))
            labels: dict[str, Any] = {
                name: data[name][k] for name in ("energy", "force", "virial") if name in data
            }
            origin = Origin(str(file), count)
            positions = data["coord"][k].reshape(-1, 3)
            yield _frame_or_error(symbols, positions, cell, labels, origin)
            count += 1


def _deepmd_set(folder: Path, n_atoms: int) -> dict[str, Array]:
    widths = {
        "coord": 3 * n_atoms,
        "force": 3 * n_atoms,
        "box": 9,
        "virial": 9,
        "energy": 1,
        "real_atom_types": n_atoms,
    }
    data: dict[str, Array] = {}
    for name, width in widths.items():
        for path in (folder / f"{name}.npy", folder / f"{name}.raw"):
            if not path.is_file():
                continue
            try:
                array = np.load(path, allow_pickle=False) if path.suffix == ".npy" else np.loadtxt(path)
                data[name] = np.asarray(array, dtype=np.float64).reshape(-1, width)
            except DAMAGED as error:
                raise FormatError(
                    f"{path}: is damaged or of another shape ({error}); write it again"
                ) from error
            break
    if "coord" not in data:
        raise FormatError(f"{folder}: a folder of DeePMD needs coord.npy; write it again")
    for name, array in data.items():
        if len(array) != len(data["coord"]):
            raise FormatError(
                f"{folder}: {name} has {len(array)} frames, coord {len(data['coord'])}; write them again"
            )
    return data


def _whole(token: str, place: object) -> int:
    """Return the number of a type."""
    value = number(token, "type", place)
    if not (value.is_integer() and abs(value) < _MOST_TYPES):
        raise FormatError(f"{place}: the type {token[:40]!r} is no whole number; write the file again")
    return int(value)


def _symbols(types: NDArray[np.int64], names: Sequence[str] | None, file: InputFile) -> tuple[str, ...]:
    """Return the elements of numbered types."""
    if names is None:
        raise DataError(
            f"{file}: numbers its types and does not say their elements; give them in the order of the numbers, "
            f'species = ["X", ...] ({int(types.max()) + 1} of them)'
        )
    if types.min() < 0 or types.max() >= len(names):
        raise DataError(
            f"{file}: has the type {int(types.max())}, but {len(names)} elements are given (species)"
        )
    return elements([names[kind] for kind in types], file)


def _frame_or_error(
    symbols: Sequence[str], positions: Array, cell: Array, labels: Mapping[str, Any], origin: Origin
) -> Frame | DataError:
    try:
        return make_frame(_make_structure(elements(symbols, origin), positions, cell, labels, origin))
    except DataError as error:
        return error


def _make_structure(
    symbols: Sequence[str], positions: Array, cell: Array, labels: Mapping[str, Any], origin: Origin
) -> Structure:
    """Return a structure that is periodic where it has a cell; labels are energy, force, stress and virial in eV, Å."""
    energy = labels.get("energy")
    force = labels.get("force")
    return Structure(
        tuple(symbols),
        positions,
        cell,
        np.full(3, bool(cell.any())),
        energy=None if energy is None else float(np.asarray(energy).reshape(())[()]),
        forces=None if force is None else np.asarray(force, dtype=np.float64).reshape(-1, 3),
        stress=stress_label(labels.get("stress"), labels.get("virial"), cell, origin),
        origin=origin,
    )


# ------------------------------------------------------------------------- MTP
def read_mtp(file: InputFile, options: ReadOptions) -> Iterator[Frame | DataError]:
    """Read the configurations of a `.cfg` file of MLIP (moment tensor potentials).

    Raises
    ------
    FormatError
        If the file is cut.
    """
    blocks = re.split(r"(?m)^\s*BEGIN_CFG\s*$", file.text)[1:]
    for index, block in enumerate(blocks):
        body, end, _ = block.partition("END_CFG")
        if not end:
            raise FormatError(
                f"{file}, structure {index}: the file is cut: END_CFG is missing; write it again"
            )
        try:
            yield make_frame(_mtp_structure(body, Origin(str(file), index), file, options))
        except DataError as error:
            yield error


def _mtp_structure(body: str, origin: Origin, file: InputFile, options: ReadOptions) -> Structure:
    sections: dict[str, list[list[str]]] = {}
    name = ""
    for line in body.splitlines():
        tokens = line.split()
        if not tokens or tokens[0] == "Feature":
            continue
        if re.match(r"[A-Za-z]", tokens[0]):
            name = tokens[0].rstrip(":")
            sections[name] = [[token.rstrip(":") for token in tokens]] if ":" in line else []
        else:
            sections.setdefault(name, []).append(tokens)
    header, *rows = sections.get("AtomData", [[]])
    columns = {column: place for place, column in enumerate(header[1:])}
    if not {"type", "cartes_x"} <= columns.keys() or any(len(row) < len(columns) for row in rows):
        raise FormatError(
            f"{origin}: AtomData needs the columns type and cartes_x, y, z in every line; write it again"
        )
    if not rows:
        raise FormatError(f"{origin}: AtomData has no atoms; write it again or remove the configuration")

    def values(first: str) -> Array:
        begin = columns[first]
        if begin + 3 > min(map(len, rows)):
            raise FormatError(f"{origin}: AtomData needs three columns from {first} on; write it again")
        return np.array([[number(token, first, origin) for token in row[begin : begin + 3]] for row in rows])

    labels: dict[str, Any] = {"force": values("fx")} if "fx" in columns else {}
    if sections.get("Energy"):
        labels["energy"] = number(sections["Energy"][0][0], "energy", origin)
    plus_stress = sections.get("PlusStress", [])
    if len(plus_stress) == 2:
        own = dict(zip(plus_stress[0][1:], plus_stress[1], strict=False))
        labels["virial"] = [
            number(own.get(part, ""), "PlusStress", origin) for part in ("xx", "yy", "zz", "yz", "xz", "xy")
        ]
    cell = np.zeros((3, 3))
    vectors = sections.get("Supercell", sections.get("SuperCell", []))
    vectors = [row for row in vectors if len(row) == 3]
    if len(vectors) == 3:
        cell = np.array([[number(token, "Supercell", origin) for token in row] for row in vectors])
    types = np.array([_whole(row[columns["type"]], origin) for row in rows])
    return _make_structure(_symbols(types, options.species, file), values("cartes_x"), cell, labels, origin)


# --------------------------------------------------------------------- FitSNAP
_STYLES = {
    "EnergyStyle": ("energy-unit", "electronvolt"),
    "ForcesStyle": ("force-unit", "electronvoltperangstrom"),
    "StressStyle": ("stress-unit", "bar"),
    "PositionsStyle": ("length-unit", "angstrom"),
}


def read_fitsnap(file: InputFile, _: ReadOptions) -> Iterator[Frame | DataError]:
    """Read a JSON file of FitSNAP.

    Raises
    ------
    FormatError
        If the file is cut or damaged.
    """
    try:
        document = json.loads(re.sub(r"\A#.*\n", "", file.text))["Dataset"]
        entries = document["Data"]
        if not isinstance(document, dict) or not isinstance(entries, list):
            raise TypeError("expected a table with a list 'Data'")
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise FormatError(
            f"{file}: is damaged as a JSON file of FitSNAP ({error}); write it again"
        ) from error
    for index, entry in enumerate(entries):
        try:
            yield _fitsnap_frame(document, entry, Origin(str(file), index))
        except DataError as error:
            yield error
        except (KeyError, TypeError, ValueError) as error:
            yield FormatError(f"{file}, structure {index}: is damaged ({error}); write it again")


def _fitsnap_frame(document: Mapping[str, Any], entry: Mapping[str, Any], origin: Origin) -> Frame:
    styles = {
        key: str(entry.get(style, document.get(style, usual))) for style, (key, usual) in _STYLES.items()
    }
    units, _, notes = declared_units(styles, origin)
    cell = units.convert("length", np.array(entry["Lattice"], dtype=np.float64).reshape(3, 3))
    labels: dict[str, Any] = {}
    if entry.get("Energy") is not None:
        labels["energy"] = units.convert("energy", float(entry["Energy"]))
    if entry.get("Forces") is not None:
        labels["force"] = units.convert("forces", np.array(entry["Forces"], dtype=np.float64))
    if entry.get("Stress") is not None:
        labels["stress"] = -units.convert("stress", np.array(entry["Stress"], dtype=np.float64))
    positions = units.convert("length", np.array(entry["Positions"], dtype=np.float64))
    symbols = elements([str(name) for name in entry["AtomTypes"]], origin)
    structure = _make_structure(symbols, positions, cell, labels, origin)
    # Stresses in bar are what the format is about: no word of it.
    said = notes if any(styles[key] != usual for key, usual in _STYLES.values()) else ()
    return make_frame(structure.replace(group=str(document.get("Label", ""))), notes=said)


# ---------------------------------------------------------------------- dpdata
@dataclass(frozen=True, slots=True)
class DpdataFormat:
    """A format that dpdata reads.

    Attributes
    ----------
    name : str
    title : str
        The program.
    choose : callable
        Takes the file and its path on the disk; returns dpdata's name of the format, and what it wants to be given.
    patterns : tuple of str
        Names of its files.
    begins : bytes or None
        Regular expression for what its files contain.
    """

    name: str
    title: str
    choose: Callable[[InputFile, Path], tuple[str, Any]]
    patterns: tuple[str, ...] = ()
    begins: bytes | None = None


def _cp2k(file: InputFile, path: Path) -> tuple[str, Any]:
    moving = re.search(rb"(?m)^ MD\||MD_ENERGIES\|", file.content) and list(
        file.path.parent.glob("*pos*.xyz")
    )
    return ("cp2k/aimd_output", str(file.path.parent)) if moving else ("cp2k/output", str(path))


def _siesta(file: InputFile, path: Path) -> tuple[str, Any]:
    steps = len(re.findall(rb"Begin (MD|CG|FIRE|Broyden)", file.content))
    return ("siesta/aimd_output" if steps > 1 else "siesta/output"), str(path)


def _abacus(file: InputFile, _: Path) -> tuple[str, Any]:
    kind = next((kind for kind in ("relax", "md") if kind in file.name), "scf")
    return f"abacus/{kind}", str(file.path.parent.parent)


def _cell_of_dftb(file: InputFile) -> Array:
    """Return the lattice vectors of the geometry in `dftb_in.hsd`, which dpdata leaves out; zeros for a cluster."""
    lines = file.path.with_name("dftb_in.hsd").read_text(encoding="utf-8", errors="replace").splitlines()
    begin = next(k for k, line in enumerate(lines) if line.startswith("Geometry"))
    count, kind = lines[begin + 1].split()[:2]
    if kind.upper() == "C":
        return np.zeros((3, 3))
    rows = lines[begin + 4 + int(count) : begin + 7 + int(count)]  # after the atoms and the origin
    return np.array([[number(token, "lattice", file) for token in row.split()[:3]] for row in rows])


DPDATA = (
    DpdataFormat("cp2k", "CP2K", _cp2k, begins=rb"CP2K\| version string|DBCSR\| "),
    DpdataFormat("siesta", "SIESTA", _siesta, begins=rb"(?i)siesta version|\* {2,}WELCOME TO SIESTA"),
    DpdataFormat(
        "abacus", "ABACUS", _abacus, ("running_*.log",), rb"WELCOME TO ABACUS|Atomic-orbital Based Ab-initio"
    ),
    DpdataFormat(
        "dftbplus",
        "DFTB+",
        lambda file, _: ("dftbplus", (str(file.path.with_name("dftb_in.hsd")), str(file.path))),
        ("detailed.out",),
    ),
    DpdataFormat("psi4", "Psi4", lambda _, path: ("psi4/out", str(path)), begins=rb"Psi4: An Open-Source"),
    DpdataFormat("pwmat", "PWmat", lambda _, path: ("pwmat/movement", str(path)), ("MOVEMENT*", "OUT.MLMD*")),
    DpdataFormat(
        "openmx",
        "OpenMX",
        lambda file, _: ("openmx/md", str(file.path.with_suffix(""))),
        begins=rb"time=\s*[\d.]+\s*\(fs\)\s+Energy=",
    ),
)


def read_dpdata(row: DpdataFormat, file: InputFile, _: ReadOptions) -> Iterator[Frame | DataError]:
    """Read the output of a program through dpdata.

    Raises
    ------
    FormatError
        If dpdata is not installed, or cannot read the file.
    DataError
        If the electrons did not converge, and it cannot be told in which step.
    """
    try:
        import dpdata
    except ImportError:
        raise FormatError(
            f"{file}: is an output of {row.title}, which is read through dpdata: pip install 'gprann[formats]'"
        ) from None
    companions = row.name in ("abacus", "dftbplus", "openmx")
    with nullcontext(file.path) if companions else file.on_disk() as path:
        name, source = row.choose(file, path)
        try:
            with redirect_stdout(StringIO()):
                data = dpdata.LabeledSystem(source, fmt=name).data
        # The parsers of dpdata meet damaged files with any exception.
        except Exception as error:
            check_convergence(file, row.name, -1)
            reason = str(error).strip().split("\n")[0][:200]
            raise FormatError(
                f"{file}: dpdata cannot read it as an output of {row.title} ({type(error).__name__}: {reason}); "
                "the run did not finish, has no forces, or a file beside it is missing: convert it to extended XYZ"
            ) from error
    n_frames = len(data["energies"])
    if n_frames == 0:
        raise DataError(f"{file}: the run of {row.title} finished no step; leave the file out")
    bad = check_convergence(file, row.name, n_frames)
    symbols = [data["atom_names"][kind] for kind in data["atom_types"]]
    if row.name == "pwmat" and (n_all := len(re.findall(rb"(?m)^.*\bIteration\b", file.content))) > n_frames:
        yield DataError(
            f"{file}: the electrons of {n_all - n_frames} of {n_all} steps did not converge; {_REMEDY}"
        )
    for k in range(n_frames):
        origin = Origin(str(file), k)
        labels = {
            own: data[theirs][k]
            for own, theirs in (("energy", "energies"), ("force", "forces"), ("virial", "virials"))
            if data.get(theirs) is not None
        }
        cell = _cell_of_dftb(file) if row.name == "dftbplus" else np.array(data["cells"][k])
        if data.get("nopbc", False) and row.name != "dftbplus":
            cell = np.zeros((3, 3))
        if k in bad:
            yield DataError(f"{origin}: {bad[k]}")
        else:
            yield _frame_or_error(symbols, np.array(data["coords"][k]), cell, labels, origin)
