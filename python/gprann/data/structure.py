"""Structures with their labels, and data sets of them.

Every step of the pipeline takes a `Dataset` and gives a `Dataset`; none of them changes its input.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any, overload

import ase
import numpy as np
from ase.calculators.singlepoint import SinglePointCalculator
from ase.data import atomic_numbers
from numpy.typing import ArrayLike, NDArray

from gprann.data.attachments import (
    Attached,
    attach_arrays,
    attach_constraints,
    attach_info,
    attachments_of,
    constraints_of,
    is_derived,
    is_result,
    plain,
    stored_results,
    thaw,
)
from gprann.errors import DataError

if TYPE_CHECKING:
    from typing import Self

Composition = tuple[tuple[str, int], ...]
_WEIGHT = re.compile(r"weight|sigma", re.IGNORECASE)
_LABELS = frozenset({"energy", "forces", "stress", "weight", "energy_variance", "group", "origin"})


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a structure comes from.

    Attributes
    ----------
    file : str
        File it was read from, empty if it was not read from a file.
    index : int
        Position in that file (or in the data set it was made from), counted from 0.
    method : str
        `reference` for first-principles labels, `taylor` or `gpr` for synthetic ones.
    place : str
        Where it stands now, as `file, structure k`, if that is somewhere else: messages name it. It is no part of
        the origin, and two origins that differ in it alone are equal.

    Examples
    --------
    >>> str(Origin("train.extxyz", 4, "gpr")), str(Origin("train.extxyz", 4, place="mine.extxyz, structure 0"))
    ('gpr copy of train.extxyz, structure 4', 'mine.extxyz, structure 0')
    """

    file: str = ""
    index: int = 0
    method: str = "reference"
    place: str = field(default="", compare=False)

    def __str__(self) -> str:
        first = f"{self.file}, structure {self.index}" if self.file else f"structure {self.index}"
        if self.method == "reference":
            return self.place or first
        copy = f"{self.method} copy of {first}"
        return f"{self.place} ({copy})" if self.place else copy


def format_composition(composition: Composition) -> str:
    """Return the chemical formula of a composition.

    Examples
    --------
    >>> format_composition((("H", 2), ("O", 1)))
    'H2O'
    """
    return "".join(f"{symbol}{count if count > 1 else ''}" for symbol, count in composition)


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Structure:
    """One arrangement of atoms with its labels. Immutable: make a changed copy with `replace`.

    Attributes
    ----------
    symbols : tuple of str, length N
        Chemical symbols.
    positions : ndarray, shape (N, 3), Å
    cell : ndarray, shape (3, 3), Å
        Rows are the lattice vectors; zeros where there is none.
    pbc : ndarray of bool, shape (3,)
    energy : float or None, eV
        TOTAL energy of the structure.
    forces : ndarray, shape (N, 3), eV/Å, or None
    stress : ndarray, shape (6,), eV/Å³, or None
        Voigt order xx yy zz yz xz xy; positive when the structure wants to shrink (ASE's sign).
    weight : float
        Weight of the structure in a training loss.
    energy_variance : float, eV²
        Variance of the energy label, 0 for first-principles labels.
    group : str
        Free label under which errors are reported.
    origin : Origin
    info : mapping of str
        What else belongs to the structure, by the names of ASE: `charge`, `spin`, `config_type`, `dipole`, ...
        Plain data: numbers, texts, arrays, tables.
    arrays : mapping of str to ndarray, N rows each
        What else belongs to the atoms: `initial_magmoms`, `initial_charges`, `tags`, ...
    constraints : tuple of mappings
        ASE's constraints in the form of their `todict`.

    Raises
    ------
    DataError
        If an array has the wrong shape, a value is not finite, a symbol is no element, or something attached is no
        plain data.

    Examples
    --------
    >>> import gprann
    >>> h2 = gprann.Structure(("H", "H"), [[0, 0, 0], [0, 0, 0.74]], energy=-31.7)
    >>> len(h2), h2.formula
    (2, 'H2')
    >>> h2
    Structure(H2, energy -31.7 eV; structure 0)
    """

    symbols: tuple[str, ...]
    positions: NDArray[np.float64]
    cell: NDArray[np.float64] = field(default_factory=lambda: np.zeros((3, 3)))
    pbc: NDArray[np.bool_] = field(default_factory=lambda: np.zeros(3, dtype=bool))
    energy: float | None = None
    forces: NDArray[np.float64] | None = None
    stress: NDArray[np.float64] | None = None
    weight: float = 1.0
    energy_variance: float = 0.0
    group: str = ""
    origin: Origin = field(default_factory=Origin)
    info: Mapping[str, Any] = field(default_factory=Attached)
    arrays: Mapping[str, NDArray[Any]] = field(default_factory=Attached)
    constraints: tuple[Mapping[str, Any], ...] = ()

    def __post_init__(self) -> None:
        n = len(self.symbols)
        object.__setattr__(self, "symbols", tuple(self.symbols))
        if n == 0:
            raise DataError(f"{self.origin}: has no atoms; remove it from the data")
        for symbol in set(self.symbols):
            if atomic_numbers.get(symbol, 0) == 0:
                raise DataError(
                    f"{self.origin}: '{symbol}' is not a chemical element; check the species column"
                )
        self._take("positions", (n, 3), "Å")
        self._take("cell", (3, 3), "Å")
        self._take_pbc()
        self._check_cell()
        self._take_labels(_LABELS)
        object.__setattr__(self, "info", attach_info(self.info, self.origin))
        object.__setattr__(self, "arrays", attach_arrays(self.arrays, n, self.origin))
        object.__setattr__(self, "constraints", attach_constraints(self.constraints, self.origin))

    def _take_labels(self, names: Collection[str]) -> None:
        """Check and store the labels of these names."""
        if "forces" in names and self.forces is not None:
            self._take("forces", (len(self.symbols), 3), "eV/Å")
        if "stress" in names and self.stress is not None:
            self._take("stress", (6,), "eV/Å³")
        if "energy" in names and self.energy is not None:
            self._take_number("energy")
            if not np.isfinite(self.energy):
                raise DataError(f"{self.origin}: energy is {self.energy}; remove or recompute the structure")
        for name in ("weight", "energy_variance"):
            if name in names:
                self._take_number(name)
                value = getattr(self, name)
                if not (np.isfinite(value) and value >= 0):
                    raise DataError(f"{self.origin}: {name} is {value}; it must be finite and not negative")

    def _take_number(self, name: str) -> None:
        value = getattr(self, name)
        try:
            object.__setattr__(self, name, float(value))
        except (TypeError, ValueError):
            raise DataError(f"{self.origin}: {name} is {str(value)[:40]!r}, expected a number") from None

    def _take_pbc(self) -> None:
        pbc = np.array(self.pbc, dtype=bool)
        if pbc.shape not in ((), (3,)):
            raise DataError(
                f"{self.origin}: pbc has shape {pbc.shape}, expected (3,) or one value for all directions"
            )
        pbc = np.array(np.broadcast_to(pbc, 3))
        pbc.flags.writeable = False
        object.__setattr__(self, "pbc", pbc)

    def _take(self, name: str, shape: tuple[int, ...], unit: str) -> None:
        """Store a private, read-only, C-ordered float64 copy of an array after checking it."""
        try:
            array = np.array(getattr(self, name), dtype=np.float64, order="C")
        except (TypeError, ValueError) as error:
            raise DataError(f"{self.origin}: {name} are no numbers of shape {shape} ({error})") from None
        if array.shape != shape:
            raise DataError(f"{self.origin}: {name} has shape {array.shape}, expected {shape}")
        bad = np.argwhere(~np.isfinite(array))
        if len(bad):
            where = (
                f"atom {bad[0][0]}"
                if shape[0] == len(self.symbols) and len(shape) == 2
                else f"row {bad[0][0]}"
            )
            raise DataError(
                f"{self.origin}: {name} of {where} is {array[tuple(bad[0])]} {unit}; "
                "remove or recompute the structure"
            )
        array.flags.writeable = False
        object.__setattr__(self, name, array)

    def _check_cell(self) -> None:
        periodic = self.cell[self.pbc]
        lengths = np.sqrt((periodic**2).sum(axis=1))
        if len(periodic) == 3 and abs(determinant(periodic)) > 1e-3 * lengths.prod() and lengths.min() > 1e-2:
            return  # clearly independent, without a decomposition
        if len(periodic) and np.linalg.matrix_rank(periodic, tol=1e-6) < len(periodic):
            raise DataError(
                f"{self.origin}: the cell vectors of the periodic directions are zero or linearly dependent; "
                "give the cell or switch pbc off"
            )

    def __len__(self) -> int:
        return len(self.symbols)

    @property
    def composition(self) -> Composition:
        """Numbers of atoms by element, sorted by symbol."""
        return _composition(self.symbols)

    def __repr__(self) -> str:
        facts = [self.formula, *(["periodic"] if self.pbc.any() else [])]
        facts += [] if self.energy is None else [f"energy {self.energy:.6g} eV"]
        facts += [name for name in ("forces", "stress") if getattr(self, name) is not None]
        return f"Structure({', '.join(facts)}; {self.origin})"

    @property
    def formula(self) -> str:
        """Chemical formula, elements in alphabetical order."""
        return format_composition(self.composition)

    @property
    def n_labels(self) -> int:
        """Number of labels when all have been computed: an energy, 3N forces, and 6 stresses where there are any."""
        return 1 + 3 * len(self) + (6 if self.stress is not None else 0)

    @property
    def inputs(self) -> dict[str, Any]:
        """Inputs of a calculation of the labels besides the geometry, as plain data by name.

        Initial magnetic moments and charges, total charge and spin, and whatever else is attached; results, weights
        and names of groups are none of it, nor are arrays of zeros.
        """
        arrays = {
            name: array for name, array in self.arrays.items() if array.dtype.kind == "U" or array.any()
        }
        return {
            name: plain(value)
            for name, value in sorted({**self.info, **arrays}.items())
            if not is_derived(name) and name != "config_type" and not _WEIGHT.search(name)
        }

    def replace(self, **changes: object) -> Structure:
        """Return a copy with some attributes changed."""
        if not changes.keys() <= _LABELS:
            return replace(self, **changes)  # type: ignore[arg-type]
        copy: Structure = object.__new__(type(self))  # the geometry has been checked
        for name in self.__dataclass_fields__:
            object.__setattr__(copy, name, changes[name] if name in changes else getattr(self, name))
        copy._take_labels(changes.keys())
        return copy

    def without_labels(self) -> Structure:
        """Return a copy without energy, forces, stress and other results of a calculation."""
        return self._replace_without(is_result)

    def with_positions(self, positions: ArrayLike, **changes: Any) -> Structure:
        """Return a copy at other positions (N, 3), Å, without anything that follows from the old ones."""
        return self._replace_without(is_derived, positions=positions, **changes)

    def _replace_without(self, unwanted: Callable[[str], bool], **changes: Any) -> Structure:
        for part in ("info", "arrays"):
            items = getattr(self, part)
            if any(unwanted(name) for name in items):
                changes[part] = Attached((name, items[name]) for name in items if not unwanted(name))
        return replace(self, energy=None, forces=None, stress=None, **changes)

    def reorder(self, order: Sequence[int] | NDArray[np.intp]) -> Structure:
        """Return a copy with the atoms, and all that belongs to them, in another order."""
        chosen = np.asarray(order)
        constraints: Any = self.constraints
        if constraints:
            constraints = [constraint.todict() for constraint in self.to_ase()[chosen].constraints]
        return self.replace(
            symbols=tuple(self.symbols[i] for i in chosen),
            positions=self.positions[chosen],
            forces=None if self.forces is None else self.forces[chosen],
            arrays={name: array[chosen] for name, array in self.arrays.items()},
            constraints=constraints,
        )

    @classmethod
    def from_ase(cls, atoms: ase.Atoms, *, group: str = "", origin: Origin | None = None) -> Structure:
        """Make a structure from ASE atoms, with the results of their calculator where there are any.

        The energy is the one that the forces are derivatives of: ASE's `free_energy` where there is one. What is
        attached to the atoms is kept, but for objects that are no plain data.

        Raises
        ------
        DataError
            If the results belong to other positions, or a value cannot be used.
        """
        origin = origin or Origin()
        results = stored_results(atoms, origin)
        energy = results.get("free_energy", results.get("energy"))
        info, arrays, constraints = attachments_of(atoms)
        stored = atoms.info
        return cls(
            tuple(atoms.get_chemical_symbols()),
            atoms.positions,
            np.asarray(atoms.cell[:]),
            np.asarray(atoms.pbc),
            energy=None if energy is None else float(energy),
            forces=results.get("forces"),
            stress=results.get("stress"),
            weight=stored.get("weight", 1.0),
            energy_variance=stored.get("energy_variance", 0.0),
            group=group or str(stored.get("group", stored.get("config_type", ""))),
            origin=origin,
            info=info,
            arrays=arrays,
            constraints=tuple(constraints),
        )

    def to_ase(self) -> ase.Atoms:
        """Return ASE atoms with all that is attached; labels are results of a `SinglePointCalculator`."""
        atoms = ase.Atoms(list(self.symbols), positions=self.positions, cell=self.cell, pbc=self.pbc)
        given = {
            name: np.copy(value) if isinstance(value, np.ndarray) else value
            for name in ("energy", "forces", "stress")
            if (value := getattr(self, name)) is not None
        }
        for name, default in (("weight", 1.0), ("energy_variance", 0.0), ("group", "")):
            if getattr(self, name) != default:
                atoms.info[name] = getattr(self, name)
        for name, value in self.info.items():
            (given if is_result(name) else atoms.info)[name] = thaw(value)
        for name, value in self.arrays.items():
            if is_result(name):
                given[name] = np.array(value)
            else:
                atoms.set_array(name, np.array(value))
        atoms.set_constraint(constraints_of(self.constraints, self.origin))
        if given:
            atoms.calc = SinglePointCalculator(atoms, **given)
        return atoms


class Dataset(Sequence[Structure]):
    """An immutable sequence of structures.

    Parameters
    ----------
    structures : iterable of Structure

    Examples
    --------
    >>> import gprann
    >>> h2 = gprann.Structure(("H", "H"), [[0, 0, 0], [0, 0, 0.74]], energy=-31.7)
    >>> data = gprann.Dataset([h2, h2.replace(energy=-31.5)])
    >>> data.energies.tolist(), data.species
    ([-31.7, -31.5], ('H',))
    """

    __slots__ = ("_structures",)

    def __init__(self, structures: Iterable[Structure] = ()) -> None:
        self._structures = tuple(structures)

    def __len__(self) -> int:
        return len(self._structures)

    @overload
    def __getitem__(self, index: int) -> Structure: ...
    @overload
    def __getitem__(self, index: slice) -> Self: ...
    def __getitem__(self, index: int | slice) -> Structure | Self:
        if isinstance(index, slice):
            return type(self)(self._structures[index])
        return self._structures[index]

    def __iter__(self) -> Iterator[Structure]:
        return iter(self._structures)

    def __add__(self, other: Iterable[Structure]) -> Dataset:
        return Dataset((*self._structures, *other))

    def __repr__(self) -> str:
        formulas = Counter(structure.formula for structure in self)
        listed = ", ".join(f"{count} x {formula}" for formula, count in formulas.most_common(4))
        more = ", ..." if len(formulas) > 4 else ""
        return f"Dataset({len(self)} structures: {listed}{more})"

    def select(self, indices: Iterable[int]) -> Dataset:
        """Return the structures with the given indices, in the given order."""
        return Dataset(self._structures[int(i)] for i in indices)

    def filter(self, condition: Callable[[Structure], bool]) -> Dataset:
        """Return the structures for which `condition` is true."""
        return Dataset(structure for structure in self if condition(structure))

    @property
    def species(self) -> tuple[str, ...]:
        """Chemical symbols that occur, in alphabetical order."""
        return tuple(sorted({symbol for structure in self for symbol in set(structure.symbols)}))

    @property
    def n_atoms(self) -> NDArray[np.int64]:
        """Number of atoms of each structure, shape (n,)."""
        return np.array([len(structure) for structure in self], dtype=np.int64)

    @property
    def energies(self) -> NDArray[np.float64]:
        """Total energies, shape (n,), eV.

        Raises
        ------
        DataError
            If a structure has no energy.
        """
        return np.array([_require(structure, "energy") for structure in self], dtype=np.float64)

    @property
    def forces(self) -> list[NDArray[np.float64]]:
        """Forces, one array (N, 3) in eV/Å per structure.

        Raises
        ------
        DataError
            If a structure has no forces.
        """
        return [np.asarray(_require(structure, "forces")) for structure in self]

    @property
    def has_energies(self) -> bool:
        """Whether every structure has an energy."""
        return all(structure.energy is not None for structure in self)

    @property
    def has_forces(self) -> bool:
        """Whether every structure has forces."""
        return all(structure.forces is not None for structure in self)


@lru_cache(maxsize=64)  # for structures that move
def _composition(symbols: tuple[str, ...]) -> Composition:
    return tuple(sorted(Counter(symbols).items()))


def determinant(rows: NDArray[np.float64]) -> float:
    """Return the determinant of a matrix of three rows, faster than a decomposition."""
    (a, b, c), (d, e, f), (g, h, i) = rows.tolist()
    return float(a * (e * i - f * h) - b * (d * i - f * g) + c * (d * h - e * g))


def _require(structure: Structure, name: str) -> float | NDArray[np.float64]:
    value: float | NDArray[np.float64] | None = getattr(structure, name)
    if value is None:
        raise DataError(f"{structure.origin}: has no {name}; add them to the file or leave the structure out")
    return value


def evenly_spread(n: int, count: int) -> NDArray[np.int64]:
    """Return the indices of `count` of n structures, evenly spread from the first to the last; all if n is less.

    Examples
    --------
    >>> evenly_spread(9, 3).tolist(), evenly_spread(2, 3).tolist()
    ([0, 4, 8], [0, 1])
    """
    return np.unique(np.linspace(0, n - 1, min(count, n)).round().astype(np.int64))
