"""Thermal displacements: along the normal modes of a surrogate's Hessian, and along molecular dynamics with it."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import ase
import numpy as np
from ase.constraints import FixAtoms
from ase.md.langevin import Langevin
from ase.units import fs, kB
from numpy.typing import NDArray

from gprann.arrays import Array
from gprann.augmentation.displacements import DistanceLimits
from gprann.data.structure import Dataset, Structure
from gprann.errors import DataError
from gprann.runtime.resources import one_blas_thread
from gprann.surrogate.kernels.internal_coordinates import internal_directions

if TYPE_CHECKING:
    from gprann.surrogate.surrogate import Surrogate

_STEP = 5e-3  # Å; the error of the central difference is of second order in it
_LARGEST = 0.1  # Å; standard deviation of the atom that a soft mode moves most
_TIMESTEP = 0.5  # fs; hydrogen vibrates in 10
_FRICTION = 0.02  # 1/fs


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


class ThermalCopies(NamedTuple):
    """Copies of a structure that are drawn at a temperature.

    Attributes
    ----------
    temperature : float, K
    copies : int
    stream : tuple of int
        Seed of the random numbers.
    """

    temperature: float
    copies: int
    stream: tuple[int, int]


@one_blas_thread()
def normal_modes(
    structure: Structure, hessian: Array, moving: NDArray[np.bool_], wanted: ThermalCopies
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
    wanted : ThermalCopies

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
        np.sqrt(kB * wanted.temperature / np.maximum(np.abs(stiffness), 1e-12)), _LARGEST / farthest
    )
    normal = np.random.default_rng(wanted.stream).standard_normal((wanted.copies, len(amplitude)))
    return np.asarray(((amplitude * normal) @ modes.T).reshape(wanted.copies, -1, 3))


def langevin(
    surrogate: Surrogate,
    structure: Structure,
    moving: NDArray[np.bool_],
    limits: DistanceLimits,
    wanted: ThermalCopies,
    *,
    steps: int,
) -> Array:
    """Return displacements along Langevin dynamics that start from a structure, evenly spaced in time.

    Steps of 0.5 fs, friction 0.02/fs, velocities of the temperature at the start. A run ends early when atoms come
    too close: it has left what the surrogate knows.

    Parameters
    ----------
    surrogate : Surrogate
    structure : Structure
    moving : ndarray of bool, shape (N,)
        The other atoms are held fixed.
    limits : DistanceLimits
    wanted : ThermalCopies
    steps : int
        Length of the run, not smaller than the number of copies.

    Returns
    -------
    ndarray, shape (m, N, 3), Å, m <= copies
    """
    from gprann.surrogate.calculator import SurrogateCalculator  # no other policy needs it

    atoms = ase.Atoms(list(structure.symbols), structure.positions, cell=structure.cell, pbc=structure.pbc)
    if not moving.all():
        atoms.set_constraint(FixAtoms(mask=~moving))
    atoms.calc = SurrogateCalculator(surrogate)
    temperature, copies, stream = wanted
    rng = np.random.default_rng(stream)
    thermal = np.sqrt(atoms.get_masses() * kB * temperature)
    atoms.set_momenta(thermal[:, None] * rng.standard_normal((len(atoms), 3)))  # Maxwell and Boltzmann's
    dynamics = Langevin(
        atoms, _TIMESTEP * fs, temperature_K=temperature, friction=_FRICTION / fs, fixcm=False, rng=rng
    )
    shifts: list[Array] = []
    done = 0
    for stop in np.linspace(0, steps, copies + 1).round().astype(int)[1:].tolist():
        for _ in range(stop - done):
            if not _step(dynamics, structure, limits):
                return np.array(shifts).reshape(-1, len(structure), 3)
        done = stop
        shifts.append(atoms.positions - structure.positions)
    return np.array(shifts)


def _step(dynamics: Langevin, structure: Structure, limits: DistanceLimits) -> bool:
    """Make a step; return whether no two atoms have come too close."""
    try:
        dynamics.run(1)
        return limits.allow(structure.replace(positions=dynamics.atoms.positions))
    except DataError:  # atoms on top of each other, or no longer anywhere
        return False
