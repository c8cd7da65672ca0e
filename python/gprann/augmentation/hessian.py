"""Second derivatives of a surrogate's energy, and displacements along its normal modes."""

from __future__ import annotations

import numpy as np
from ase.units import kB
from numpy.typing import NDArray

from gprann.errors import DataError
from gprann.parallel import one_blas_thread
from gprann.structure import Dataset, Structure
from gprann.surrogate import Surrogate
from gprann.surrogate.directions import internal_directions

__all__ = ["surrogate_hessian", "thermal"]

Array = NDArray[np.float64]
_STEP = 5e-3  # Å; the error of the central difference is of second order in it
_LARGEST = 0.1  # Å; standard deviation of the atom that a soft mode moves most


def surrogate_hessian(surrogate: Surrogate, structure: Structure, *, step: float = _STEP) -> Array:
    """Return the Hessian of the surrogate's energy, by central differences of its forces, symmetrised.

    Parameters
    ----------
    surrogate : Surrogate
    structure : Structure
    step : float, Å

    Returns
    -------
    ndarray, shape (3N, 3N), eV/Å²

    Raises
    ------
    DataError
        If the structure does not belong to the surrogate's composition.

    Examples
    --------
    >>> import gprann
    >>> data = gprann.examples.hydrogen(7)
    >>> surrogate_hessian(gprann.Surrogate(kernel="pairs").fit(data), data[1]).shape
    (6, 6)
    """
    n = len(structure)
    shifts = step * np.eye(3 * n).reshape(-1, n, 3)
    bare = structure.replace(energy=None, forces=None, stress=None)
    displaced = Dataset(
        bare.replace(positions=structure.positions + sign * shift) for sign in (1, -1) for shift in shifts
    )
    forces = np.array(surrogate.predict(displaced, std=False).forces).reshape(2, 3 * n, 3 * n)
    hessian = -(forces[0] - forces[1]) / (2 * step)
    if not np.isfinite(hessian).all():
        raise DataError(f"{structure.origin}: the surrogate's Hessian is not finite")
    return np.asarray(0.5 * (hessian + hessian.T))


@one_blas_thread()
def thermal(
    structure: Structure,
    hessian: Array,
    moving: NDArray[np.bool_],
    *,
    temperature: float,
    copies: int,
    stream: tuple[int, int],
) -> Array:
    """Return displacements along the normal modes with the classical amplitudes of a temperature.

    The variance along a mode of stiffness lambda is kT / |lambda|; the masses drop out. Modes that are softer than
    what moves an atom by 0.1 Å (standard deviation) count as just so stiff; rigid motions are left out.

    Parameters
    ----------
    structure : Structure
    hessian : ndarray, shape (3N, 3N), eV/Å²
    moving : ndarray of bool, shape (N,)
        The other atoms are held fixed.
    temperature : float, K
    copies : int
    stream : tuple of int

    Returns
    -------
    ndarray, shape (copies, N, 3), Å
    """
    if moving.all():
        basis = internal_directions(structure, "rotation")
    else:
        basis = np.eye(3 * len(structure))[:, np.repeat(moving, 3)]
    stiffness, modes = np.linalg.eigh(basis.T @ hessian @ basis)
    modes = basis @ modes
    farthest = np.linalg.norm(modes.reshape(len(structure), 3, -1), axis=1).max(axis=0, initial=0.0)
    amplitude = np.minimum(
        np.sqrt(kB * temperature / np.maximum(np.abs(stiffness), 1e-12)), _LARGEST / farthest
    )
    normal = np.random.default_rng(stream).standard_normal((copies, len(amplitude)))
    return np.asarray(((amplitude * normal) @ modes.T).reshape(copies, -1, 3))
