"""Second derivatives of the energy: a surrogate's or the user's, and displacements along the normal modes."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from ase.units import kB
from numpy.typing import NDArray

from gprann.data.structure import Dataset, Structure
from gprann.errors import DataError
from gprann.runtime.parallel import one_blas_thread
from gprann.surrogate import Surrogate
from gprann.surrogate.kernels.internal_coordinates import internal_directions

__all__ = ["read_hessians", "surrogate_hessian", "symmetric_hessians", "thermal"]

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


def read_hessians(path: str | os.PathLike[str], data: Dataset) -> list[Array]:
    """Read the Hessians of structures from a file of `numpy.savez(file, *hessians)`.

    Parameters
    ----------
    path : path
        `.npz` file with an array (3N, 3N) in eV/Å² for each structure, in their order: arr_0, arr_1, ...
    data : Dataset

    Returns
    -------
    list of ndarray, shape (3N, 3N), eV/Å²
        Symmetrised.

    Raises
    ------
    DataError
        If there is no such file, it is no archive of arrays, or a Hessian does not belong to its structure.

    Examples
    --------
    >>> import gprann, tempfile
    >>> data = gprann.examples.hydrogen(2)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = Path(folder) / "hessians.npz"
    ...     np.savez(file, *[np.eye(6)] * 2)
    ...     len(read_hessians(file, data))
    2
    """
    file = Path(path).expanduser()
    made_by = "make it with numpy.savez(file, *hessians)"
    try:
        with file.open("rb") as stream, np.load(stream, allow_pickle=False) as content:
            arrays = {name: content[name] for name in content.files}
    except FileNotFoundError:
        raise DataError(f"{file}: no such file of Hessians; {made_by}") from None
    except (OSError, ValueError, AttributeError, TypeError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(f"{file}: cannot be read as Hessians ({error}); {made_by}") from error
    names = [f"arr_{k}" for k in range(len(data))]
    if set(arrays) != set(names):
        raise DataError(
            f"{file}: holds {len(arrays)} arrays ({', '.join(list(arrays)[:4]) or 'none'}), expected one for each of "
            f"{len(data)} structures, arr_0 to {names[-1] if names else 'none'}; {made_by}"
        )
    return symmetric_hessians([arrays[name] for name in names], data, f"{file}: ")


def symmetric_hessians(hessians: Sequence[Array], data: Dataset, source: str = "") -> list[Array]:
    """Return the symmetric parts of Hessians, one for each structure.

    Raises
    ------
    DataError
        If their number or the shape of one is wrong, or it is not finite; the message begins with `source`.
    """
    if len(hessians) != len(data):
        raise DataError(
            f"{source}hessians: expected one for each of {len(data)} structures, got {len(hessians)}"
        )
    result = []
    for number, (structure, hessian) in enumerate(zip(data, hessians, strict=True)):
        begin = f"{source}Hessian {number}, of {structure.origin}"
        try:
            matrix = np.asarray(hessian, dtype=np.float64)
        except (TypeError, ValueError) as error:
            raise DataError(f"{begin}: holds no numbers ({error})") from None
        expected = (3 * len(structure), 3 * len(structure))
        if matrix.shape != expected:
            raise DataError(f"{begin}: has shape {matrix.shape}, expected {expected} in eV/Å²")
        if not np.isfinite(matrix).all():
            raise DataError(f"{begin}: has values that are not finite; compute it again")
        result.append(0.5 * (matrix + matrix.T))
    return result


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
