"""Attachments of structures: charges, spins, constraints, ... as plain data that nobody can change by accident.

A value is a bool, a number, a text, None, an array of numbers or bools, a tuple or a mapping of these.
"""

from __future__ import annotations

import contextlib
import logging
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

import ase
import numpy as np
from ase.calculators.calculator import all_properties, compare_atoms
from ase.constraints import dict2constraint
from numpy.typing import NDArray

from gprann.errors import DataError

_log = logging.getLogger(__name__)

# Whatever follows from positions: a displaced copy has another one. Momenta belong to one moment of a trajectory.
_DERIVED = re.compile(
    r"energ|force|stress|virial|dipole|polari[sz]|hirshfeld|mulliken|bader|fermi|homo|lumo|momenta|momentum|velocit"
    r"|band_?gap"
)
_INPUT = re.compile(r"initial_|weight|sigma|cutoff|ecut|encut")

_PER_ATOM = ("forces", "magmoms", "charges", "energies", "stresses", "born_effective_charges")
OWN_NAMES = ("energy", "free_energy", "forces", "stress", "virial", "weight", "energy_variance", "group")


class Attached(Mapping[str, Any]):
    """A mapping that cannot be changed, and can be pickled and copied.

    Examples
    --------
    >>> Attached({"charge": 1})["charge"]
    1
    """

    __slots__ = ("_items",)

    def __init__(self, items: Mapping[str, Any] | Iterable[tuple[str, Any]] = ()) -> None:
        self._items = dict(items)

    def __getitem__(self, key: str) -> Any:
        return self._items[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)

    def __repr__(self) -> str:
        return repr(self._items)


def is_result(name: str) -> bool:
    """Return whether ASE knows a name as a result of a calculation."""
    return name in all_properties


def is_derived(name: str) -> bool:
    """Return whether a value of this name follows from the positions, so that a displaced copy must not keep it.

    Examples
    --------
    >>> [is_derived(name) for name in ("dipole", "REF_energy", "charge", "initial_magmoms", "energy_weight")]
    [True, True, False, False, False]
    """
    lowered = name.lower()
    return is_result(name) or bool(_DERIVED.search(lowered) and not _INPUT.search(lowered))


def _freeze(value: Any, *, nested: bool = False) -> Any:
    """Return a private copy of plain data that cannot be changed; lists within tables stay lists.

    Raises
    ------
    TypeError
        If it is no plain data.
    """
    if isinstance(value, np.generic) or (isinstance(value, np.ndarray) and value.ndim == 0):
        value = value.item()
    if value is None or isinstance(value, bool | int | float | str | Attached):
        return value
    if isinstance(value, Mapping):
        return Attached({str(key): _freeze(item, nested=True) for key, item in value.items()})
    if not isinstance(value, list | tuple | np.ndarray):
        raise TypeError(f"a {type(value).__name__} is no plain data")
    if nested and not isinstance(value, np.ndarray):
        return tuple(_freeze(item, nested=True) for item in value)
    try:
        array = _freeze_array(value)
    except (TypeError, ValueError):  # not numbers alone, or of unequal lengths
        return tuple(_freeze(item, nested=True) for item in value)
    return tuple(array.tolist()) if array.dtype.kind == "U" and array.ndim == 1 else array


def _freeze_array(value: Any) -> NDArray[Any]:
    array = np.asarray(value)
    kinds = {"f": np.float64, "i": np.int64, "u": np.int64, "b": np.bool_, "U": np.str_}
    if array.dtype.kind not in kinds:
        raise TypeError(f"values of the kind {array.dtype} are no plain data")
    if (
        array.dtype.kind == "U"
        and isinstance(value, list | tuple)
        and not all(isinstance(item, str) for item in np.asarray(value, dtype=object).ravel())
    ):
        raise TypeError("numbers beside texts")
    array = np.array(array, dtype=None if array.dtype.kind == "U" else kinds[array.dtype.kind], order="C")
    array.flags.writeable = False
    return array


def attach_info(items: Mapping[str, Any], place: object) -> Attached:
    """Return values that belong to a whole structure.

    Raises
    ------
    DataError
        If one of them is no plain data.
    """
    if isinstance(items, Attached):
        return items
    checked = {}
    for name, value in items.items():
        try:
            checked[str(name)] = _freeze(value)
        except TypeError as error:
            raise DataError(
                f"{place}: info['{name}']: {error}; give numbers, texts, arrays or tables"
            ) from None
    return Attached(checked)


def attach_arrays(items: Mapping[str, Any], n_atoms: int, place: object) -> Attached:
    """Return arrays of which each row belongs to an atom.

    Raises
    ------
    DataError
        If one of them has another length, or no numbers, bools or texts.
    """
    if isinstance(items, Attached) and all(len(array) == n_atoms for array in items.values()):
        return items
    checked = {}
    for name, value in items.items():
        try:
            array = _freeze_array(value)
        except (TypeError, ValueError) as error:
            raise DataError(f"{place}: arrays['{name}']: {error}") from None
        if array.ndim == 0 or len(array) != n_atoms:
            raise DataError(f"{place}: arrays['{name}'] has shape {array.shape}, expected {n_atoms} rows")
        checked[str(name)] = array
    return Attached(checked)


def attach_constraints(items: Iterable[Mapping[str, Any]], place: object) -> tuple[Attached, ...]:
    """Return constraints in the form that ASE's `todict` gives them.

    Raises
    ------
    DataError
        If one has no name, or holds something else than plain data.
    """
    checked = []
    for item in items:
        if not isinstance(item, Mapping) or not isinstance(item.get("name"), str):
            raise DataError(
                f"{place}: a constraint is {item!r}, expected the table that todict() of ASE gives"
            )
        checked.append(attach_info(item, place))
    return tuple(checked)


def thaw(value: Any) -> Any:
    """Return a copy of plain data as ASE keeps it: dict, list, and arrays that can be changed."""
    if isinstance(value, Mapping):
        return {key: thaw(item) for key, item in value.items()}
    if isinstance(value, tuple):
        return [thaw(item) for item in value]
    return np.array(value) if isinstance(value, np.ndarray) else value


def plain(value: Any) -> Any:
    """Return a copy of plain data as JSON keeps it; numbers keep their bits.

    Examples
    --------
    >>> plain(Attached({"field": np.array([0.0, 0.1])}))
    {'field': [0.0, 0.1]}
    """
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, tuple):
        return [plain(item) for item in value]
    return value.tolist() if isinstance(value, np.ndarray) else value


def stored_results(atoms: ase.Atoms, place: object) -> dict[str, Any]:
    """Return the results that the calculator of atoms holds; nothing is computed.

    Raises
    ------
    DataError
        If they belong to other positions.
    """
    results = dict(getattr(atoms.calc, "results", None) or {})
    computed_for = getattr(atoms.calc, "atoms", None)
    if results and computed_for is not None:
        changed = {"positions", "numbers", "cell", "pbc"} & set(compare_atoms(computed_for, atoms, tol=1e-10))
        if changed:
            raise DataError(
                f"{place}: the results of its calculator belong to other {' and '.join(sorted(changed))}; "
                "compute them again, with a calculator of its own for each structure"
            )
    return {name: value for name, value in results.items() if value is not None}


def attachments_of(
    atoms: ase.Atoms, taken: Collection[str] = OWN_NAMES
) -> tuple[dict[str, Any], dict[str, Any], list[dict[str, Any]]]:
    """Return info, arrays and constraints of ASE atoms, as far as they are plain data.

    Parameters
    ----------
    atoms : ase.Atoms
    taken : collection of str
        Names that are left out: a structure has attributes for them.
    """
    results = {
        name: value for name, value in (getattr(atoms.calc, "results", None) or {}).items() if is_result(name)
    }
    info, arrays = {}, {}
    for name, value in {**atoms.info, **results}.items():
        per_atom = name in results and np.ndim(value) > 0 and len(value) == len(atoms) and name in _PER_ATOM
        if name in taken or value is None or not isinstance(name, str):
            continue
        with contextlib.suppress(DataError):
            if per_atom:
                arrays[name] = attach_arrays({name: value}, len(atoms), "")[name]
            else:
                info[name] = attach_info({name: value}, "")[name]
    for name, value in atoms.arrays.items():
        if name in taken or name in ("numbers", "positions"):
            continue
        with contextlib.suppress(DataError):
            arrays[name] = attach_arrays({name: value}, len(atoms), "")[name]
    return info, arrays, _constraints_of(atoms)


def constraints_of(items: Iterable[Mapping[str, Any]], place: object) -> list[Any]:
    """Return ASE's constraints; what is none, in a file that was changed by hand, is left out with a warning."""
    found = []
    for item in items:
        try:
            found.append(dict2constraint(thaw(item)))
        # ASE meets unknown names and arguments with any exception.
        except Exception as error:
            _log.warning("%s: the constraint %s is left out: %s", place, item["name"], error)
    return found


def _constraints_of(atoms: ase.Atoms) -> list[dict[str, Any]]:
    """Return those constraints of atoms that ASE can make again from plain data."""
    found = []
    for constraint in atoms.constraints:
        try:
            item = attach_info(constraint.todict(), "")
            dict2constraint(thaw(item))
        # A class of the user's own has no such form, or ASE does not know its name.
        except Exception:
            _log.warning("the constraint %s is left out: it has no plain form", type(constraint).__name__)
            continue
        found.append(dict(item))
    return found
