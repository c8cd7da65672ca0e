"""Integrators of molecular dynamics: one step of each ensemble. ASE's units: eV, Å, and its time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from ase.units import GPa, fs, kB

from gprann.arrays import Array
from gprann.data.structure import determinant
from gprann.dynamics.options import MdOptions

Evaluate = Callable[[], None]
"""Computes energy, forces and stress of a state at its positions, into the state."""


@dataclass(slots=True)
class State:
    """Where a simulation stands.

    Attributes
    ----------
    positions, momenta, forces : ndarray, shape (N, 3)
    cell : ndarray, shape (3, 3), Å
    energy : float, eV
        Potential energy.
    stress : ndarray, shape (6,), eV/Å³, or None
    masses : ndarray, shape (N, 1), u
    free : ndarray, shape (N, 3)
        1 for coordinates that move, 0 for fixed ones.
    degrees : int
        Degrees of freedom among which the kinetic energy is shared.
    heat : float, eV
        Energy that the thermostat has given: kinetic and potential energy less this is conserved.
    step : int
    rng : Generator
    """

    positions: Array
    momenta: Array
    cell: Array
    masses: Array
    free: Array
    degrees: int
    rng: np.random.Generator
    forces: Array
    energy: float = 0.0
    stress: Array | None = None
    heat: float = 0.0
    step: int = 0

    @property
    def kinetic_energy(self) -> float:
        """Kinetic energy, eV."""
        # Not a dot product: that of BLAS starts threads, and its last bits depend on their number.
        return 0.5 * float((self.momenta * self.momenta / self.masses).sum())

    @property
    def temperature(self) -> float:
        """Temperature of the moment, K."""
        return 2.0 * self.kinetic_energy / (self.degrees * kB)

    @property
    def volume(self) -> float:
        """Volume of the cell, Å³."""
        return abs(determinant(self.cell))

    @property
    def pressure(self) -> float | None:
        """Pressure of the moment, kinetic part included, eV/Å³; None without a stress."""
        if self.stress is None:
            return None
        return 2.0 * self.kinetic_energy / (3.0 * self.volume) - float(self.stress[:3].sum()) / 3.0


class Integrator:
    """Velocity Verlet with the thermostat and barostat of an ensemble.

    langevin is BAOAB (Leimkuhler and Matthews, J. Chem. Phys. 138, 174102 (2013)), bussi stochastic velocity rescaling
    (Bussi, Donadio and Parrinello, J. Chem. Phys. 126, 014101 (2007)), npt with it stochastic cell rescaling, isotropic
    (Bernetti and Bussi, J. Chem. Phys. 153, 114107 (2020)).

    Parameters
    ----------
    options : MdOptions
    """

    def __init__(self, options: MdOptions) -> None:
        self.options = options
        self._dt = options.time_step * fs
        self._decay = float(np.exp(-options.friction * options.time_step / 1000.0))
        self._memory = float(np.exp(-options.time_step / options.coupling_time))
        self._rate = options.compressibility / GPa * options.time_step / options.pressure_time

    def step(self, state: State, evaluate: Evaluate) -> None:
        """Move a state by one time step."""
        thermal = kB * self.options.temperature_at(state.step)
        half = 0.5 * self._dt
        state.momenta += half * state.forces
        if self.options.ensemble == "npt":
            self._rescale_cell(state, thermal)
        if self.options.ensemble == "langevin":
            state.positions += half * state.momenta / state.masses
            self._shake(state, thermal)
            state.positions += half * state.momenta / state.masses
        else:
            state.positions += self._dt * state.momenta / state.masses
        evaluate()
        state.momenta += half * state.forces
        if self.options.ensemble in ("bussi", "npt"):
            self._rescale_velocities(state, thermal)
        state.step += 1

    def _shake(self, state: State, thermal: float) -> None:
        """Friction and noise (the O of BAOAB)."""
        before = state.kinetic_energy
        state.momenta *= self._decay
        noise = state.rng.standard_normal(state.momenta.shape)
        state.momenta += np.sqrt((1.0 - self._decay**2) * thermal * state.masses) * noise * state.free
        state.heat += state.kinetic_energy - before

    def _rescale_velocities(self, state: State, thermal: float) -> None:
        kinetic = state.kinetic_energy
        first = float(state.rng.standard_normal())
        others = (
            2.0 * float(state.rng.standard_gamma(0.5 * (state.degrees - 1))) if state.degrees > 1 else 0.0
        )
        if kinetic <= 0.0:
            return  # nothing moves, and nothing can be scaled
        share = (1.0 - self._memory) * 0.5 * thermal / kinetic
        square = self._memory + share * (first**2 + others) + 2.0 * first * np.sqrt(self._memory * share)
        sign = 1.0 if first + np.sqrt(self._memory / share) >= 0.0 else -1.0
        state.momenta *= sign * np.sqrt(square)
        state.heat += kinetic * (float(square) - 1.0)

    def _rescale_cell(self, state: State, thermal: float) -> None:
        pressure, volume = state.pressure, state.volume
        noise = float(state.rng.standard_normal())
        if pressure is None:
            raise ValueError("a barostat needs a stress")
        growth = self._rate * (pressure - self.options.pressure * GPa)
        growth += np.sqrt(2.0 * thermal * self._rate / volume) * noise
        factor = float(np.exp(growth / 3.0))  # growth is that of the logarithm of the volume
        state.positions *= factor
        state.cell *= factor
        state.momenta /= factor
