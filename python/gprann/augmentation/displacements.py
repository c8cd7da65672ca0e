"""Displaced copies of structures.

Every structure has a random stream of its own, (seed, its number), so that its copies depend on nothing else.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gprann.errors import ConfigError

__all__ = ["check_displacement", "gaussian", "single_atoms", "within_spheres"]

Array = NDArray[np.float64]


def check_displacement(displacement: float, copies: int) -> None:
    """Refuse impossible sizes and numbers of displacements.

    Raises
    ------
    ConfigError
    """
    if not (np.isfinite(displacement) and displacement > 0):
        raise ConfigError(f"displacement = {displacement}: expected a positive length in Å")
    if copies < 1:
        raise ConfigError(f"copies = {copies}: expected 1 or more")


def gaussian(n_atoms: int, copies: int, displacement: float, stream: tuple[int, int]) -> Array:
    """Return displacements of all atoms, normal with standard deviation `displacement` per component.

    The choice of Yeu et al., npj Comput. Mater. 11, 156 (2025), for GPR labels.

    Returns
    -------
    ndarray, shape (copies, n_atoms, 3), Å

    Examples
    --------
    >>> gaussian(20, 36, 0.021, (0, 0)).shape
    (36, 20, 3)
    """
    return np.random.default_rng(stream).normal(0.0, displacement, (copies, n_atoms, 3))


def within_spheres(n_atoms: int, copies: int, displacement: float, stream: tuple[int, int]) -> Array:
    """Return displacements uniform in a sphere of radius `displacement` about each atom, less their mean.

    Strategy B of Cooper et al., npj Comput. Mater. 6, 54 (2020): no net shift of the structure.

    Returns
    -------
    ndarray, shape (copies, n_atoms, 3), Å
    """
    rng = np.random.default_rng(stream)
    directions = rng.normal(size=(copies, n_atoms, 3))
    directions /= np.linalg.norm(directions, axis=2, keepdims=True)
    shifts = displacement * np.cbrt(rng.random((copies, n_atoms, 1))) * directions
    if n_atoms > 1:
        shifts -= shifts.mean(axis=1, keepdims=True)
    return np.asarray(shifts)


def single_atoms(n_atoms: int, displacement: float) -> Array:
    """Return displacements of one atom at a time by ±displacement along x, y, z.

    Strategy A of Cooper et al., npj Comput. Mater. 6, 54 (2020).

    Returns
    -------
    ndarray, shape (6 n_atoms, n_atoms, 3), Å

    Examples
    --------
    >>> single_atoms(2, 0.01).shape
    (12, 2, 3)
    """
    basis = np.eye(3 * n_atoms).reshape(-1, n_atoms, 3)
    return displacement * np.stack([basis, -basis], axis=1).reshape(-1, n_atoms, 3)
