"""One simulation of a potential on trial, and the frames that it leaves."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from gprann.arrays import Array
from gprann.data.structure import Dataset, Structure
from gprann.dynamics.bonds import find_contact
from gprann.dynamics.options import MdOptions
from gprann.dynamics.window import temperature_window
from gprann.errors import DataError
from gprann.io import atomic_write, write
from gprann.io.reading import structures
from gprann.potential import Potential
from gprann.runtime.atomic_write import make_folder
from gprann.sampling.records import read_record
from gprann.surrogate import Surrogate

_RELAXED, _OUTCOME = "relaxed.extxyz", "outcome.json"
_CALM = 1e-3  # probability of temperatures that are left out
_FMAX, _RELAXATION = 0.05, 200  # eV/Å and steps at which a relaxation ends


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a replica ended.

    Attributes
    ----------
    steps : int
        Time steps made.
    time : float, ps
    reason : str
        Why it failed; empty if it survived.
    atom : int or None
        The atom that the reason is about, counted from 0.
    cut : bool
        Whether it was ended before its time, since another replica had failed.
    """

    steps: int
    time: float
    reason: str
    atom: int | None
    cut: bool = False

    @property
    def survived(self) -> bool:
        """Whether it reached its whole length."""
        return not self.reason and not self.cut

    @property
    def failed(self) -> bool:
        """Whether there was a reason to stop it."""
        return bool(self.reason)


@dataclass(frozen=True, slots=True)
class Frame:
    """A frame of a replica.

    Attributes
    ----------
    replica, step : int
    temperature : float, K
    structure : Structure
        Without labels.
    momenta : ndarray, shape (N, 3)
    """

    replica: int
    step: int
    temperature: float
    structure: Structure
    momenta: Array


def run_replica(
    model: Potential | Surrogate,
    start: Structure,
    folder: Path,
    options: MdOptions,
    *,
    relax: bool,
    until: int | None,
) -> Outcome:
    """Run a replica, go on with it where it was interrupted, or return how it ended.

    Parameters
    ----------
    model : Potential or Surrogate
    start : Structure
    folder : Path
    options : MdOptions
    relax : bool
        Whether to relax the start first.
    until : int or None
        Step at which it is cut, if it lives that long.

    Raises
    ------
    ConfigError
        If the options do not suit the structure or the model.
    """
    from gprann.dynamics.run import Simulation

    file = folder / _OUTCOME
    if file.exists():
        return read_record(file, Outcome)
    make_folder(folder)
    try:
        begin = _relax(model, start, folder / _RELAXED) if relax else start
        result = Simulation(lean_model(model, options), begin, folder, options, on_trial=True).run(
            None, until
        )
        cut = not result.reason and result.steps < options.steps
        time = 1e-3 * result.steps * options.time_step
        outcome = Outcome(result.steps, time, result.reason, result.atom, cut)
    except DataError as error:  # the model refuses the start, or fails there
        outcome = Outcome(0, 0.0, str(error), None)
    with atomic_write(file) as stream:
        stream.write(json.dumps(asdict(outcome), indent=1) + "\n")
    return outcome


def lean_model(model: Potential | Surrogate, options: MdOptions) -> Potential | Surrogate:
    """Return the model, of a linear one the mean of its members alone: the same forces in a fraction of the time."""
    if isinstance(model, Potential) and model.model.linear and options.max_deviation is None:
        return replace(model, parameters=model.parameters.mean(axis=0))
    return model


def _relax(model: Potential | Surrogate, start: Structure, file: Path) -> Structure:
    """Return the structure relaxed by the model, as far as some steps lead."""
    from ase.optimize import FIRE

    from gprann.dynamics.engine import make_calculator

    if not file.exists():
        atoms = start.without_labels().to_ase()
        atoms.calc = make_calculator(model, 0.0, "off")
        FIRE(atoms, logfile=None).run(fmax=_FMAX, steps=_RELAXATION)
        write(file, Dataset([start.with_positions(np.array(atoms.positions))]))
    return start.with_positions(structures(file)[0].positions)


def read_frames(folder: Path, start: Structure, replica: int) -> list[Frame]:
    """Return the frames of a replica in the order of their steps; none if it failed before the first."""
    file = folder / "trajectory.extxyz"
    if not file.exists() or file.stat().st_size == 0:
        return []
    return [
        Frame(
            replica,
            int(item.info["step"]),
            float(item.info["temperature_K"]),
            start.with_positions(item.positions, cell=item.cell),
            np.array(item.arrays["momenta"]),
        )
        for item in structures(file)
    ]


def sound_frames(frames: list[Frame], options: MdOptions, degrees: int) -> list[Frame]:
    """Return the frames that have not blown up: calm ones, whose atoms keep their distances.

    Parameters
    ----------
    frames : list of Frame
    options : MdOptions
        Of the replica.
    degrees : int
        Degrees of freedom.
    """
    low, high = temperature_window(degrees, _CALM)

    def is_calm(frame: Frame) -> bool:
        thermostat = options.temperature_at(frame.step)
        cold = frame.temperature < low * thermostat and frame.step >= options.settled
        return not cold and frame.temperature <= high * thermostat

    def collides(frame: Frame) -> bool:
        least = options.min_contact
        return least is not None and find_contact(frame.structure, least) is not None

    return [frame for frame in frames if is_calm(frame) and not collides(frame)]


def degrees_of_freedom(start: Structure, options: MdOptions) -> int:
    """Return the degrees of freedom that a simulation from a structure has.

    Raises
    ------
    ConfigError, DataError
        If it cannot begin there.
    """
    from gprann.dynamics.start import begin

    return begin(start, start.without_labels().to_ase(), options.replace(start="thermal")).degrees
