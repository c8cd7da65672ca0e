"""The C interface as C programs see it, through ctypes, and neighbour lists with ghosts for it."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from gprann import c_interface
from gprann.data.structure import Structure

Array = NDArray[np.float64]
WITHOUT_COULOMB = 1
OK, FILE_ERROR, FORMAT_ERROR, UNSUPPORTED, ARGUMENT_ERROR = range(5)

_INT, _DOUBLE = ctypes.POINTER(ctypes.c_int), ctypes.POINTER(ctypes.c_double)


class Atoms(ctypes.Structure):
    """`gprann_atoms`."""

    _fields_ = (
        ("size", ctypes.c_size_t),
        ("n_atoms", ctypes.c_int),
        ("n_centres", ctypes.c_int),
        ("positions", _DOUBLE),
        ("species", _INT),
        ("centres", _INT),
        ("n_neighbours", _INT),
        ("neighbours", ctypes.POINTER(_INT)),
        ("neighbour_mask", ctypes.c_int),
    )


QUANTITIES = (
    "energy",
    "atom_energies",
    "forces",
    "virial",
    "atom_virials",
    "energy_std",
    "atom_energies_std",
    "forces_std",
    "member_energies",
    "member_forces",
    "grades",
)


class Results(ctypes.Structure):
    """`gprann_results`."""

    _fields_ = (("size", ctypes.c_size_t), *((name, _DOUBLE) for name in QUANTITIES))


class CFailureError(Exception):
    """A function returned another code than GPRANN_OK."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


def open_library() -> Any:
    library = ctypes.CDLL(str(c_interface().library))
    library.gprann_message.restype = ctypes.c_char_p
    library.gprann_instruction_set.restype = ctypes.c_char_p
    library.gprann_species.restype = ctypes.c_char_p
    for name in ("cutoff", "charge", "energy_std_factor", "force_std_factor"):
        getattr(library, f"gprann_{name}").restype = ctypes.c_double
    return library


LIBRARY = open_library()


@dataclass
class Lists:
    """Atoms, ghosts behind them, and full neighbour lists of the atoms."""

    positions: Array
    species: NDArray[np.int32]
    owner: NDArray[np.int64]
    neighbours: list[NDArray[np.int32]]

    @property
    def n_atoms(self) -> int:
        return len(self.neighbours)


def lists(structure: Structure, symbols: tuple[str, ...], reach: float) -> Lists:
    """Every image within `reach` of an atom is a ghost of its own."""
    ranges = []
    cell = np.array(structure.cell)
    for axis in range(3):
        if not structure.pbc[axis]:
            ranges.append(range(1))
            continue
        normal = np.cross(cell[(axis + 1) % 3], cell[(axis + 2) % 3])
        height = abs(cell[axis] @ normal) / np.linalg.norm(normal)
        extent = np.ptp(structure.positions @ normal / np.linalg.norm(normal))
        most = int(np.ceil((reach + extent) / height)) + 1
        ranges.append(range(-most, most + 1))
    own = cKDTree(structure.positions)
    positions, owner = [np.array(structure.positions)], [np.arange(len(structure))]
    for shift in np.stack(np.meshgrid(*ranges, indexing="ij"), axis=-1).reshape(-1, 3):
        if shift.any():
            images = structure.positions + shift @ cell
            near = np.flatnonzero(np.isfinite(own.query(images, distance_upper_bound=reach)[0]))
            positions.append(images[near])
            owner.append(near)
    everything, owners = np.concatenate(positions), np.concatenate(owner)
    kinds = np.array([symbols.index(symbol) for symbol in structure.symbols], np.int32)[owners]
    found = own.query_ball_tree(cKDTree(everything), reach)
    neighbours = [np.array([j for j in near if j != i], np.int32) for i, near in enumerate(found)]
    return Lists(everything, kinds, owners, neighbours)


class CPotential:
    """A potential that the C library has loaded."""

    def __init__(self, path: Path | str, flags: int = 0) -> None:
        self._pointer = ctypes.c_void_p()
        code = LIBRARY.gprann_load(str(path).encode(), flags, ctypes.byref(self._pointer))
        if code:
            assert not self._pointer.value
            raise CFailureError(code, LIBRARY.gprann_message().decode())
        self.cutoff = float(LIBRARY.gprann_cutoff(self._pointer))
        self.n_members = int(LIBRARY.gprann_n_members(self._pointer))
        self.species = tuple(
            LIBRARY.gprann_species(self._pointer, k).decode()
            for k in range(LIBRARY.gprann_n_species(self._pointer))
        )

    def __del__(self) -> None:
        LIBRARY.gprann_free(self._pointer)

    @property
    def has_guard(self) -> bool:
        return bool(LIBRARY.gprann_has_guard(self._pointer))

    def charge(self, species: int) -> float:
        return float(LIBRARY.gprann_charge(self._pointer, species))

    def evaluate(
        self,
        found: Lists,
        *,
        threads: int = 1,
        centres: NDArray[np.int32] | None = None,
        wanted: tuple[str, ...] = QUANTITIES,
        mask: int = 0,
    ) -> dict[str, Array]:
        n, n_centres = len(found.positions), found.n_atoms if centres is None else len(centres)
        shapes: dict[str, tuple[int, ...]] = {
            "energy": (1,),
            "atom_energies": (n_centres,),
            "forces": (n, 3),
            "virial": (3, 3),
            "atom_virials": (n, 3, 3),
            "energy_std": (1,),
            "atom_energies_std": (n_centres,),
            "forces_std": (n, 3),
            "member_energies": (self.n_members,),
            "member_forces": (self.n_members, n, 3),
            "grades": (n_centres,),
        }
        arrays = {name: np.full(shapes[name], np.nan) for name in wanted}
        results = Results(
            ctypes.sizeof(Results), **{name: array.ctypes.data_as(_DOUBLE) for name, array in arrays.items()}
        )
        positions = np.ascontiguousarray(found.positions)
        counts = np.array([len(own) for own in found.neighbours] + [0] * (n - found.n_atoms), np.int32)
        pointers = (_INT * n)(*[own.ctypes.data_as(_INT) for own in found.neighbours])
        atoms = Atoms(
            ctypes.sizeof(Atoms),
            n,
            n_centres,
            positions.ctypes.data_as(_DOUBLE),
            found.species.ctypes.data_as(_INT),
            None if centres is None else centres.ctypes.data_as(_INT),
            counts.ctypes.data_as(_INT),
            pointers,
            mask,
        )
        code = LIBRARY.gprann_evaluate(self._pointer, ctypes.byref(atoms), threads, ctypes.byref(results))
        if code:
            raise CFailureError(code, LIBRARY.gprann_message().decode())
        return arrays


def collect(found: Lists, values: Array) -> Array:
    """Add what ghosts received, (n, ...), to the atoms of which they are images."""
    total = np.zeros((found.n_atoms, *values.shape[1:]))
    np.add.at(total, found.owner, values)
    return total
