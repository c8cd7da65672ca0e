"""Molecular dynamics of many structures side by side with a surrogate, and the temperature of a data set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from ase.data import atomic_masses, atomic_numbers
from ase.units import fs, kB
from numpy.typing import NDArray

from gprann.arrays import Array
from gprann.augmentation.displacements import DistanceLimits, displace
from gprann.data.structure import Dataset, evenly_spread
from gprann.errors import DataError

if TYPE_CHECKING:
    from gprann.surrogate.surrogate import Surrogate

_TIMESTEP = 0.5 * fs  # hydrogen vibrates in 10 fs
_FRICTION = 0.02 / fs
_WILD = 5.0  # times the largest force of the training set: the trajectory has left what the surrogate knows
_PROBES = 4  # pairs of random displacements for the trace of a Hessian
_PROBED = 16  # structures
_DISPLACEMENT = 0.01  # Å, standard deviation of a component; the error of the trace is of second order in it
_COLDEST, _HOTTEST = 50.0, 2000.0  # K


def temperature_of(surrogate: Surrogate, data: Dataset, seed: int = 0) -> float:
    r"""Return the configurational temperature of structures, from their forces and the surrogate's curvature.

    :math:`k T = \langle |\nabla E|^2 \rangle / \langle \nabla^2 E \rangle` holds in the canonical ensemble (Rugh,
    Phys. Rev. Lett. 78, 772 (1997)); of other sets it is the temperature at which MD displaces atoms about as far.

    Parameters
    ----------
    surrogate : Surrogate
        Fitted.
    data : Dataset
        Structures with forces.
    seed : int
        Of the random displacements that the Laplacian is estimated with (Hutchinson's estimator).

    Returns
    -------
    float, K
        Between 50 and 2000; 300 where the curvature is not positive.

    Examples
    --------
    >>> import gprann
    >>> data = gprann.examples.hydrogen(7, 1.1, 1.2)
    >>> 50 <= temperature_of(gprann.Surrogate(kernel="pairs").fit(data), data) <= 2000
    True
    """
    tried = data.select(evenly_spread(len(data), _PROBED))
    rng = np.random.default_rng((seed, 1))
    probes: list[Array] = []
    moved = []
    for structure in tried:
        for _ in range(_PROBES):
            probe = _DISPLACEMENT * rng.standard_normal((len(structure), 3))
            probes.append(probe)
            moved += [structure.with_positions(structure.positions + sign * probe) for sign in (1.0, -1.0)]
    energies = surrogate.predict(Dataset([*tried, *moved]), std=False, forces=False).energy
    here, ends = energies[: len(tried)], energies[len(tried) :].reshape(len(tried), _PROBES, 2)
    curvature = float(np.sum(ends.sum(axis=2) - 2 * here[:, None])) / (_PROBES * _DISPLACEMENT**2)
    squares = sum(float(np.sum(structure.forces**2)) for structure in tried if structure.forces is not None)
    if not curvature > 0 or not squares > 0:
        return 300.0
    return float(f"{np.clip(squares / curvature / kB, _COLDEST, _HOTTEST):.3g}")


def strangeness(surrogate: Surrogate, data: Dataset, limits: DistanceLimits, *, seed: int = 0) -> float:
    """Return how strange frames of molecular dynamics are to a surrogate, compared with structures left out.

    Of data from molecular dynamics the ratio of the standard deviations is 1 to 2; of displaced copies of one geometry,
    which dynamics leaves in directions that the surrogate has never seen, 50 and more.

    Parameters
    ----------
    surrogate : Surrogate
        Fitted.
    data : Dataset
        Structures that it is fitted to.
    limits : DistanceLimits
    seed : int
        Of the dynamics: 50 fs at the temperature of the data.

    Returns
    -------
    float
        Ratio of the medians of the standard deviations of the energies; infinite where no trajectory survives.
    """
    tried = data.select(evenly_spread(len(data), _PROBED))
    length = Walk(temperature_of(surrogate, data, seed), 100, 1)
    moving = [np.ones(len(structure), dtype=bool) for structure in tried]
    streams = [(seed, k, 2) for k in range(len(tried))]
    shifts = walk(surrogate, tried, limits, length, moving=moving, streams=streams)
    frames = displace(tried, "gpr", shifts)
    if len(frames) == 0:
        return float("inf")
    stds = surrogate.predict(frames, forces=False).required_energy_std
    return float(np.median(stds) / max(float(np.median(surrogate.left_out_std(_PROBED))), 1e-12))


@dataclass(slots=True)
class _Walkers:
    """Structures that move side by side; arrays run over the atoms of all of them.

    Attributes
    ----------
    data : Dataset
        Where they start.
    parts : list of slice
        Where the atoms of each structure stand in the arrays.
    thermal : ndarray, shape (n, 1)
        Standard deviation of a momentum component in equilibrium, 0 of fixed atoms.
    """

    data: Dataset
    parts: list[slice]
    rngs: list[np.random.Generator]
    positions: Array
    momenta: Array
    forces: Array
    masses: Array
    thermal: Array

    @classmethod
    def at(
        cls,
        data: Dataset,
        moving: Sequence[NDArray[np.bool_]],
        temperature: float,
        streams: Sequence[tuple[int, ...]],
    ) -> _Walkers:
        symbols = [symbol for structure in data for symbol in structure.symbols]
        masses = atomic_masses[[atomic_numbers[symbol] for symbol in symbols]][:, None]
        positions = np.concatenate([structure.positions for structure in data])
        thermal = np.sqrt(masses * kB * temperature) * np.concatenate(moving)[:, None]
        edges = np.concatenate([[0], np.cumsum(data.n_atoms)]).tolist()
        parts = [slice(*pair) for pair in pairwise(edges)]
        rngs = [np.random.default_rng(stream) for stream in streams]
        walkers = cls(data, parts, rngs, positions, positions * 0, positions * 0, masses, thermal)
        walkers.momenta = thermal * walkers._normal()
        return walkers

    def find_forces(self, surrogate: Surrogate, which: NDArray[np.bool_] | None = None) -> None:
        """Find the forces at the positions, of some structures or of all."""
        chosen = range(len(self.data)) if which is None else np.flatnonzero(which).tolist()
        here = Dataset(self.data[k].with_positions(self.positions[self.parts[k]]) for k in chosen)
        for k, forces in zip(chosen, surrogate.predict(here, std=False).forces, strict=True):
            self.forces[self.parts[k]] = forces

    def kick(self) -> None:
        """Let the forces act for half a step."""
        self.momenta = self.momenta + 0.5 * _TIMESTEP * self.forces * (self.thermal > 0)

    def drift(self) -> None:
        """Let the forces act for half a step, and move for a whole one, with the bath in its middle."""
        decay = float(np.exp(-_FRICTION * _TIMESTEP))
        self.kick()
        self.positions = self.positions + 0.5 * _TIMESTEP * self.momenta / self.masses
        self.momenta = decay * self.momenta + np.sqrt(1 - decay**2) * self.thermal * self._normal()
        self.positions = self.positions + 0.5 * _TIMESTEP * self.momenta / self.masses

    def restart_lost(self, surrogate: Surrogate, limits: DistanceLimits, largest: float) -> NDArray[np.bool_]:
        """Find the forces; put structures back to their start that have left what is known, and return which."""
        lost = np.array([not self._is_allowed(k, limits) for k in range(len(self.data))], dtype=bool)
        self._restart(lost)
        self.find_forces(surrogate)
        wild = ~(np.abs(self.forces).max(axis=1) <= largest)  # what is not a number too
        far = np.array([wild[part].any() for part in self.parts], dtype=bool)
        if far.any():
            self._restart(far)
            self.find_forces(surrogate, far)
        return np.asarray(lost | far)

    def _restart(self, which: NDArray[np.bool_]) -> None:
        for k in np.flatnonzero(which).tolist():
            part = self.parts[k]
            self.positions[part] = self.data[k].positions
            self.momenta[part] = self.thermal[part] * self.rngs[k].standard_normal((len(self.data[k]), 3))

    def _is_allowed(self, k: int, limits: DistanceLimits) -> bool:
        """Return whether the atoms of a structure are somewhere, and not too close."""
        positions = self.positions[self.parts[k]]
        try:
            return bool(np.isfinite(positions).all()) and limits.allow(self.data[k].with_positions(positions))
        except DataError:  # atoms on top of each other
            return False

    def _normal(self) -> Array:
        pairs = zip(self.rngs, self.data, strict=True)
        return np.concatenate([rng.standard_normal((len(structure), 3)) for rng, structure in pairs])


class Walk(NamedTuple):
    """Length of molecular dynamics.

    Attributes
    ----------
    temperature : float, K
    steps : int
    frames : int
        Evenly spaced in time, the last at the end.
    """

    temperature: float
    steps: int
    frames: int

    @property
    def stops(self) -> set[int]:
        """Steps whose structures are kept."""
        return set(np.linspace(0, self.steps, self.frames + 1).round().astype(int)[1:].tolist())


def walk(
    surrogate: Surrogate,
    data: Dataset,
    limits: DistanceLimits,
    length: Walk,
    *,
    moving: Sequence[NDArray[np.bool_]],
    streams: Sequence[tuple[int, ...]],
) -> list[Array]:
    """Return displacements along Langevin dynamics of all structures at once, evenly spaced in time.

    Steps of 0.5 fs, friction 0.02/fs, velocities of the temperature at the start; the integrator is BAOAB (Leimkuhler
    and Matthews, Appl. Math. Res. Express 2013, 34). A structure whose atoms come too close, or whose forces are five
    times the largest of the training set, has left what the surrogate knows: it starts anew from its place in `data`.

    Parameters
    ----------
    surrogate : Surrogate
        Fitted to structures of the composition of `data`.
    data : Dataset
    limits : DistanceLimits
    length : Walk
    moving : sequence of ndarray of bool, shape (N,)
        Of each structure; the other atoms are held fixed.
    streams : sequence of tuple of int
        Seeds of the random numbers of each structure.

    Returns
    -------
    list of ndarray, shape (m, N, 3), Å
        m <= frames: frames at which a structure has just started anew are left out.
    """
    walkers = _Walkers.at(data, moving, length.temperature, streams)
    known = [float(np.abs(s.forces).max(initial=0.0)) for s in surrogate.training_set if s.forces is not None]
    largest = _WILD * max(known, default=np.inf)
    walkers.find_forces(surrogate)
    kept: list[list[Array]] = [[] for _ in data]
    stops = length.stops
    for step in range(1, length.steps + 1):
        walkers.drift()
        lost = walkers.restart_lost(surrogate, limits, largest)
        walkers.kick()
        if step in stops:
            for k in np.flatnonzero(~lost).tolist():
                kept[k].append(walkers.positions[walkers.parts[k]] - data[k].positions)
    return [np.array(own).reshape(-1, len(s), 3) for own, s in zip(kept, data, strict=True)]
