"""Displaced copies of structures.

Every structure has a random stream of its own, (seed, its number), so that its copies depend on nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import PlainValidator

from gprann.data.structure import Structure
from gprann.errors import ConfigError, DataError, nearest_name
from gprann.options import Options, option

__all__ = [
    "Displacement",
    "DisplacementOptions",
    "atom_sizes",
    "gaussian",
    "moving_atoms",
    "single_atoms",
    "within_spheres",
]

Array = NDArray[np.float64]


def _sizes(value: object) -> object:
    """Take a length, or a length for each element."""
    if isinstance(value, list) and len(value) == 1:
        (value,) = value
    try:
        if isinstance(value, Mapping):
            return {str(symbol): _length(size) for symbol, size in value.items()}
        return None if value is None else _length(value)
    except (TypeError, ValueError):
        raise ValueError(
            f"expected a length or a table of lengths, {{ O = 0.02, H = 0.03 }}, got {value!r}"
        ) from None


def _length(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise TypeError
    return float(value)


def _checked_sizes(sizes: float | dict[str, float] | None) -> float | dict[str, float] | None:
    """Refuse sizes that move no atom, or move it by no length."""
    if isinstance(sizes, dict):
        for symbol, size in sizes.items():
            if not (np.isfinite(size) and size >= 0):
                raise ConfigError(f"displacement = {sizes}: expected a length in Å, 0 or more, for {symbol}")
        if not any(size > 0 for size in sizes.values()):
            raise ConfigError(f"displacement = {sizes}: expected a positive length of some element")
    elif sizes is not None and not (np.isfinite(sizes) and sizes > 0):
        raise ConfigError(f"displacement = {sizes}: expected a positive length in Å")
    return sizes


Displacement = Annotated[
    float | dict[str, float], PlainValidator(lambda value: _checked_sizes(_sizes(value)))
]
"""Size of the displacements in Å, one for all atoms or one for each element."""


class DisplacementOptions(Options):
    """Number and size of displaced copies, whoever labels them."""

    copies: int | None = option(
        "Copies of each training structure; 10 to 40 are enough. Default: one for each degree of freedom, at least "
        "10 and at most 36; gpr up to twice as many, the more uncertain their labels are relative to the changes of "
        "energy that they tell.",
        None,
        example=36,
        ge=1,
    )
    displacement: Displacement | None = option(
        "Size of the displacements, a length or a table of lengths, { C = 0.02, H = 0.03 }: gaussian the standard "
        "deviation of each component, sphere and taylor the radius. Default: taylor 0.01; gpr the largest, between "
        "0.005 and 0.1, at which copies are no more uncertain than structures left out of the training set and "
        "change the energy by no more than three times its spread.",
        None,
        unit="Å",
        example=0.02,
    )
    min_force: float | None = option(
        "Displace only atoms on which at least this force acts.", None, unit="eV/Å", example=0.05, ge=0
    )
    min_distance: float = option(
        "Leave out copies in which atoms come closer than this fraction of the smallest distance between their "
        "elements in the training structures; for elements never closer than 4 Å, of the sum of covalent radii.",
        0.7,
        ge=0,
        lt=1,
    )
    seed: int = option(
        "Seed of the displacements and of the surrogates: structure k has the random stream (seed, k).",
        0,
        ge=0,
    )


def moving_atoms(structure: Structure, min_force: float | None) -> NDArray[np.bool_]:
    """Return which atoms are displaced: all of them, or those on which at least `min_force` (eV/Å) acts.

    Raises
    ------
    DataError
        If the forces are needed and unknown.
    """
    if min_force is None:
        return np.ones(len(structure), dtype=bool)
    if structure.forces is None:
        raise DataError(f"{structure.origin}: has no forces, which min_force needs; leave min_force out")
    return np.asarray(np.linalg.norm(structure.forces, axis=1) >= min_force)


def atom_sizes(structure: Structure, displacement: Displacement, min_force: float | None = None) -> Array:
    """Return the size of the displacement of every atom, Å, zero for atoms that stay; shape (N,).

    Raises
    ------
    DataError
        If no size is given for an element.

    Examples
    --------
    >>> water = Structure(("O", "H", "H"), [[0, 0, 0], [0.96, 0, 0], [-0.24, 0.93, 0]])
    >>> atom_sizes(water, {"O": 0.01, "H": 0.03})
    array([0.01, 0.03, 0.03])
    """
    if isinstance(displacement, Mapping):
        missing = sorted(set(structure.symbols) - set(displacement))
        if missing:
            hint = nearest_name(missing[0], displacement)
            raise DataError(f"{structure.origin}: displacement gives no size for {missing[0]}; {hint}")
        sizes = np.array([float(displacement[symbol]) for symbol in structure.symbols])
    else:
        sizes = np.full(len(structure), float(displacement))
    return np.where(moving_atoms(structure, min_force), sizes, 0.0)


def _per_atom(displacement: float | Array, n_atoms: int) -> Array:
    return np.broadcast_to(np.asarray(displacement, dtype=np.float64), (n_atoms,))


def gaussian(n_atoms: int, copies: int, displacement: float | Array, stream: tuple[int, int]) -> Array:
    """Return displacements of all atoms, normal with standard deviation `displacement` per component.

    The choice of Yeu et al., npj Comput. Mater. 11, 156 (2025), for GPR labels.

    Parameters
    ----------
    n_atoms, copies : int
    displacement : float or ndarray of shape (n_atoms,), Å
    stream : tuple of int

    Returns
    -------
    ndarray, shape (copies, n_atoms, 3), Å

    Examples
    --------
    >>> gaussian(20, 36, 0.021, (0, 0)).shape
    (36, 20, 3)
    """
    normal = np.random.default_rng(stream).standard_normal((copies, n_atoms, 3))
    return _per_atom(displacement, n_atoms)[:, None] * normal


def within_spheres(n_atoms: int, copies: int, displacement: float | Array, stream: tuple[int, int]) -> Array:
    """Return displacements uniform in a sphere of radius `displacement` about each atom, less their mean.

    Strategy B of Cooper et al., npj Comput. Mater. 6, 54 (2020): no net shift of the atoms that move.

    Returns
    -------
    ndarray, shape (copies, n_atoms, 3), Å
    """
    radii = _per_atom(displacement, n_atoms)
    rng = np.random.default_rng(stream)
    directions = rng.normal(size=(copies, n_atoms, 3))
    directions /= np.linalg.norm(directions, axis=2, keepdims=True)
    shifts = radii[:, None] * np.cbrt(rng.random((copies, n_atoms, 1))) * directions
    moving = radii > 0
    if np.count_nonzero(moving) > 1:
        shifts[:, moving] -= shifts[:, moving].mean(axis=1, keepdims=True)
    return np.asarray(shifts)


def single_atoms(n_atoms: int, displacement: float | Array) -> Array:
    """Return displacements of one atom at a time by ±displacement along x, y, z.

    Strategy A of Cooper et al., npj Comput. Mater. 6, 54 (2020). Atoms of size zero are left out.

    Returns
    -------
    ndarray, shape (6 n_moving, n_atoms, 3), Å

    Examples
    --------
    >>> single_atoms(2, 0.01).shape
    (12, 2, 3)
    """
    sizes = np.repeat(_per_atom(displacement, n_atoms), 3)
    steps = np.diag(sizes)[sizes > 0].reshape(-1, n_atoms, 3)
    return np.stack([steps, -steps], axis=1).reshape(-1, n_atoms, 3)
