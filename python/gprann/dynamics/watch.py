"""Reasons to stop a simulation."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from ase.units import fs
from numpy.typing import NDArray

from gprann import _core
from gprann.arrays import Array
from gprann.data.neighbours import reduce_cells
from gprann.data.structure import Structure
from gprann.dynamics.bonds import Bonds, find_contact
from gprann.dynamics.engine import Engine
from gprann.dynamics.integrators import State
from gprann.dynamics.options import MdOptions
from gprann.dynamics.window import temperature_window

_LEAP = 0.5  # Å; an atom that moves farther in one time step has left every potential


@dataclass(frozen=True, slots=True)
class Stop:
    """Why a simulation stopped.

    Attributes
    ----------
    reason : str
    atom : int or None
        The atom that it is about, counted from 0.
    sound : bool
        Whether the positions of the moment are worth labelling: still those of atoms that do not collapse.
    """

    reason: str
    atom: int | None = None
    sound: bool = False


class Watch:
    """Looks at every step for a reason to stop.

    Parameters
    ----------
    engine : Engine
    structure : Structure
        At the start.
    options : MdOptions

    Attributes
    ----------
    worst : tuple of float, int and int
        The largest standard deviation of a force so far (eV/Å), its atom, and the step.
    highest : tuple of float, int and int
        The largest extrapolation grade so far, its atom, and the step.
    deviations : ndarray, shape (N,), eV/Å, or None
        As they were looked at last.
    grades : ndarray, shape (N,), or None
        Extrapolation grades, as they were looked at last.
    """

    def __init__(self, engine: Engine, structure: Structure, options: MdOptions) -> None:
        self._engine, self._structure, self._options = engine, structure, options
        self.worst = self.highest = (0.0, -1, -1)
        self.deviations: Array | None = None
        self.grades: Array | None = None
        kinds = np.zeros(len(structure), dtype=np.int32)
        self._near = _core.MovingNeighbours(kinds, options.min_distance, 1.0)
        self._far = _core.MovingNeighbours(kinds, options.max_distance, 1.0)
        self._cell, self._reduced = b"", np.zeros((3, 3))
        self._window: tuple[int, float, float] | None = None  # degrees of freedom, and limits for these
        self._alone = self._lonely(structure.positions, structure.cell)
        self._bonds = None if options.max_stretch is None else Bonds(structure)

    def look(self, state: State, *, closely: bool) -> Stop | None:
        """Return a reason to stop, or None.

        Parameters
        ----------
        state : State
            With energy and forces.
        closely : bool
            Whether a line of the log is due, for which what takes time is looked at too.
        """
        found = self._numbers(state) or self._motion(state) or self._distances(state)
        found = found or self._fluctuation(state) or self._grade(state)
        if found is None and (self._engine.deviates_always or (closely and self._wanted)):
            found = self._deviation(state)
        if found is None and closely:
            found = self._losses(state) or self._stretch(state) or self._contact(state)
        return found

    @property
    def _wanted(self) -> bool:
        return self._engine.deviates and self._options.max_deviation is not None

    def _name(self, atom: int) -> str:
        return f"atom {atom} ({self._structure.symbols[atom]})"

    def _numbers(self, state: State) -> Stop | None:
        if np.isfinite(state.energy) and np.isfinite(state.forces).all():
            return None
        atom = int(np.argmin(np.isfinite(state.forces).all(axis=1)))
        return Stop(f"the energy is {state.energy}, and the force on {self._name(atom)} not finite", atom)

    def _motion(self, state: State) -> Stop | None:
        temperature, limit = state.temperature, self._options.highest_temperature(state.degrees)
        velocities = state.momenta / state.masses
        squares = np.einsum("ik,ik->i", velocities, velocities)
        if not np.isfinite(temperature) or temperature > limit:
            atom = int(np.argmax(squares * state.masses[:, 0]))
            text = f"the temperature is {temperature:.0f} K, above max_temperature = {limit:.0f} K; the hottest is "
            return Stop(text + self._name(atom), atom)
        atom = int(np.argmax(squares))
        leap = float(np.sqrt(squares[atom])) * self._options.time_step * fs
        if leap > _LEAP:
            return Stop(f"{self._name(atom)} moves by {leap:.2f} Å in one time step", atom)
        return None

    def _fluctuation(self, state: State) -> Stop | None:
        """Compare the temperature with those of a canonical ensemble."""
        chance = self._options.false_alarm
        if chance is None or state.step < self._options.settled:
            return None
        if self._window is None or self._window[0] != state.degrees:
            self._window = (state.degrees, *temperature_window(state.degrees, chance))
        thermostat, temperature = self._options.temperature_at(state.step), state.temperature
        low, high = (limit * thermostat for limit in self._window[1:])
        if low <= temperature <= high:
            return None
        energies = np.einsum("ik,ik->i", state.momenta, state.momenta) / state.masses[:, 0]
        hot = temperature > high
        atom = int(
            np.argmax(energies) if hot else np.argmin(np.where(state.free.any(axis=1), energies, np.inf))
        )
        text = f"the temperature is {temperature:.0f} K, outside {low:.0f} to {high:.0f} K, where {thermostat:.0f} K "
        text += f"of {state.degrees} degrees of freedom stay (false_alarm = {chance:g}); the "
        return Stop(text + f"{'hottest' if hot else 'coldest'} is {self._name(atom)}", atom)

    def _grade(self, state: State) -> Stop | None:
        self.grades = grades = self._engine.grades()
        if grades is None:
            return None
        atom = int(np.argmax(grades))
        value, limit = float(grades[atom]), self._options.max_grade
        if value > self.highest[0]:
            self.highest = (value, atom, state.step)
        if limit is None or value <= limit:
            return None
        text = f"the extrapolation grade of {self._name(atom)} is {value:.3g}, above max_grade = {limit:g}"
        return Stop(text, atom, sound=True)

    def _distances(self, state: State) -> Stop | None:
        nearest = self._engine.nearest()
        if nearest is None:
            self._near.update(state.positions, self._reduce(state.cell), self._structure.pbc)
            nearest = self._near.nearest()
        i, j, distance = nearest
        if distance >= self._options.min_distance:
            return None
        limit = self._options.min_distance
        text = f"{self._name(i)} and {self._name(j)} are {distance:.2f} Å apart, below min_distance = {limit:g} Å"
        return Stop(text, i)

    def _deviation(self, state: State) -> Stop | None:
        self.deviations = found = self._engine.deviations(state)
        if found is None:
            return None
        atom = int(np.argmax(found))
        value, limit = float(found[atom]), self._options.max_deviation
        if value > self.worst[0]:
            self.worst = (value, atom, state.step)
        if limit is None or value <= limit:
            return None
        text = f"the force on {self._name(atom)} has a standard deviation of {value:.3g} eV/Å"
        return Stop(f"{text}, above max_deviation = {limit:g} eV/Å", atom, sound=True)

    def _losses(self, state: State) -> Stop | None:
        lost = self._lonely(state.positions, state.cell) & ~self._alone
        if not lost.any():
            return None
        atom, limit = int(np.argmax(lost)), self._options.max_distance
        return Stop(f"{self._name(atom)} has no neighbour within max_distance = {limit:g} Å any more", atom)

    def _contact(self, state: State) -> Stop | None:
        limit = self._options.min_contact
        if limit is None:
            return None
        found = find_contact(self._structure.with_positions(state.positions, cell=state.cell), limit)
        if found is None:
            return None
        text = f"{self._name(found.atom)} and {self._name(found.other)} are {found.length:.2f} Å apart"
        text += f", {found.stretch:.2f} times the sum of their covalent radii, below min_contact = {limit:g}"
        return Stop(text, found.atom)

    def _stretch(self, state: State) -> Stop | None:
        limit = self._options.max_stretch
        longest = None if self._bonds is None else self._bonds.longest(state.positions, state.cell)
        if limit is None or longest is None or longest.stretch <= limit:
            return None
        text = f"the bond of {self._name(longest.atom)} and {self._name(longest.other)} is {longest.length:.2f} Å long"
        text += (
            f", {longest.stretch:.2f} times the sum of their covalent radii, above max_stretch = {limit:g}"
        )
        return Stop(text, longest.atom)

    def _lonely(self, positions: Array, cell: Array) -> NDArray[np.bool_]:
        """Return which atoms have no neighbour within `max_distance`, shape (N,)."""
        self._far.update(positions, self._reduce(cell), self._structure.pbc)
        lonely: NDArray[np.bool_] = np.diff(self._far.arrays()[0]) == 0
        return lonely

    def _reduce(self, cell: Array) -> Array:
        if cell.tobytes() != self._cell:
            self._cell = cell.tobytes()
            reduced = reduce_cells([self._structure.replace(cell=cell)])[0]
            self._reduced = np.ascontiguousarray(reduced)
        return self._reduced
