"""Copies along short molecular dynamics with a surrogate."""

from __future__ import annotations

import ase
import numpy as np
from ase.constraints import FixAtoms
from ase.md.langevin import Langevin
from ase.units import fs, kB
from numpy.typing import NDArray

from gprann.augmentation.min_distance import DistanceLimits
from gprann.data.structure import Structure
from gprann.errors import DataError
from gprann.surrogate import Surrogate, SurrogateCalculator

__all__ = ["langevin"]

Array = NDArray[np.float64]
_TIMESTEP = 0.5  # fs; hydrogen vibrates in 10
_FRICTION = 0.02  # 1/fs


def langevin(
    surrogate: Surrogate,
    structure: Structure,
    moving: NDArray[np.bool_],
    limits: DistanceLimits,
    *,
    temperature: float,
    steps: int,
    copies: int,
    stream: tuple[int, int],
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
    temperature : float, K
    steps : int
        Of the whole run, at least `copies`.
    copies : int
    stream : tuple of int

    Returns
    -------
    ndarray, shape (m, N, 3), Å, m <= copies
    """
    atoms = ase.Atoms(list(structure.symbols), structure.positions, cell=structure.cell, pbc=structure.pbc)
    if not moving.all():
        atoms.set_constraint(FixAtoms(mask=~moving))
    atoms.calc = SurrogateCalculator(surrogate)
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
    """Make a step; return whether the atoms are where they may be."""
    try:
        dynamics.run(1)
        return limits.allow(structure.replace(positions=dynamics.atoms.positions))
    except DataError:  # atoms on top of each other, or no longer anywhere
        return False
