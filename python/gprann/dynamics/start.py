"""The state in which a simulation begins: what is fixed, degrees of freedom, first velocities."""

from __future__ import annotations

import ase
import numpy as np
from ase.constraints import FixAtoms, FixCartesian
from ase.units import kB

from gprann.arrays import Array
from gprann.data.structure import Structure
from gprann.dynamics.integrators import State
from gprann.dynamics.options import MdOptions
from gprann.errors import ConfigError, DataError


def begin(structure: Structure, atoms: ase.Atoms, options: MdOptions) -> State:
    """Return the first state, without energy and forces.

    Raises
    ------
    ConfigError
        If the ensemble does not suit the structure.
    DataError
        If there are no momenta where the file is to have them.
    """
    free = free_coordinates(structure, atoms)
    if not free.any():
        raise DataError(f"{structure.origin}: all atoms are fixed; nothing can move")
    if options.ensemble == "npt" and not (structure.pbc.all() and free.all()):
        what = "fixed atoms" if structure.pbc.all() else "a cell that is not periodic in all directions"
        raise ConfigError(f"ensemble = npt: {structure.origin} has {what}; choose langevin or bussi")
    masses = np.array(atoms.get_masses(), dtype=float)[:, None]
    if not (masses > 0).all():
        raise DataError(
            f"{structure.origin}: atom {int(np.argmin(masses))} has the mass {masses.min()}; correct `masses`"
        )
    rng = np.random.default_rng(options.seed)
    state = State(
        np.array(structure.positions),
        np.zeros((len(structure), 3)),
        np.array(structure.cell),
        masses,
        free,
        1,
        rng,
        np.zeros((len(structure), 3)),
    )
    if options.start == "file":
        momenta = structure.arrays.get("momenta")
        if momenta is None or np.shape(momenta) != (len(structure), 3):
            raise DataError(
                f'{structure.origin}: start = "file", but there are no momenta; write them with the structure, or use '
                'start = "thermal"'
            )
        state.momenta[:] = momenta * free
    else:
        state.momenta[:] = np.sqrt(masses * kB * options.temperature) * rng.standard_normal(free.shape) * free
    state.degrees = int(free.sum())
    if options.ensemble != "langevin" and free.all():
        _remove_rigid_motion(state, rotation=not structure.pbc.any())
    if options.start == "thermal" and state.kinetic_energy > 0:
        state.momenta *= np.sqrt(options.temperature / state.temperature)
    return state


def free_coordinates(structure: Structure, atoms: ase.Atoms) -> Array:
    """Return 1 for coordinates that move and 0 for fixed ones, shape (N, 3).

    Raises
    ------
    ConfigError
        If a constraint is none that fixes coordinates.
    """
    free = np.ones((len(atoms), 3))
    for constraint in atoms.constraints:
        if isinstance(constraint, FixAtoms):
            free[constraint.index] = 0.0
        elif isinstance(constraint, FixCartesian):
            free[np.ix_(constraint.index, np.flatnonzero(constraint.mask))] = 0.0
        else:
            raise ConfigError(
                f"{structure.origin}: constraint {type(constraint).__name__}: md knows FixAtoms and FixCartesian; take "
                "the constraint out of the structure"
            )
    return free


def _remove_rigid_motion(state: State, *, rotation: bool) -> None:
    """Stop translation and, of molecules, rotation, which the dynamics then leaves at rest."""
    n = len(state.masses)
    state.momenta -= state.momenta.sum(axis=0) * state.masses / state.masses.sum()
    state.degrees = max(1, 3 * n - 3)
    if not rotation or n < 2:
        return
    arms = state.positions - (state.masses * state.positions).sum(axis=0) / state.masses.sum()
    inertia = (state.masses * (arms**2).sum(axis=1)[:, None]).sum() * np.eye(3) - (
        state.masses * arms
    ).T @ arms
    values, axes = np.linalg.eigh(inertia)
    turning = values > 1e-8 * values.max()
    spin = axes.T @ np.cross(arms, state.momenta).sum(axis=0)
    velocity = axes @ np.where(turning, spin / np.where(turning, values, 1.0), 0.0)
    state.momenta -= state.masses * np.cross(velocity, arms)
    state.degrees = max(1, 3 * n - 3 - int(turning.sum()))
