"""Properties from simulations: conservation of energy, radial distributions, diffusion and conductivity."""

from __future__ import annotations

import warnings
from itertools import combinations_with_replacement
from typing import TYPE_CHECKING, Any

import numpy as np
from ase.units import kB

from gprann.arrays import Array
from gprann.data.structure import Dataset, Structure
from gprann.errors import GprannError
from gprann.io import read
from gprann.io.checks import DataWarning
from gprann.properties.options import PropertyOptions
from gprann.properties.relaxation import check_length, repeats
from gprann.properties.suite import OF_CALCULATORS, Found, Property, Subject, outcome_of, value
from gprann.properties.trajectories import diffusion, rdf

if TYPE_CHECKING:
    from gprann.dynamics.results import MdResult

_FRAMES = 500  # of a simulation
_SETTLING = 0.2  # part of a simulation that is left out
_FEWEST = 100  # frames from which a diffusion coefficient is taken
KEPT = ("length", "temperatures", "time", "time_step", "seed")
"""Options on which simulations depend."""
_RDF = 8.0  # Å


def supercell(structure: Structure, length: float) -> Structure:
    """Return a supercell with at least a length in each periodic direction.

    Raises
    ------
    ConfigError
        If the length is impossible.
    """
    check_length(length)
    if not structure.pbc.any():
        return structure
    atoms = structure.without_labels().to_ase()
    return Structure.from_ase(atoms.repeat(repeats(atoms, length)))


def _md(structure: Structure, subject: Subject, name: str, **options: Any) -> MdResult:
    """Run a simulation to its end, or find it complete.

    Raises
    ------
    GprannError
        If it stopped early.
    """
    from gprann.dynamics.run import md  # crystals need no simulations

    settings = {"time_step": subject.options.time_step, **options}
    result = md(subject.simulated, structure, subject.folder / name, **settings)
    if result.reason:
        raise GprannError(f"the simulation {name} stopped early: {result.reason}")
    return result


def _simulate(subject: Subject, temperature: float) -> tuple[Dataset, float]:
    """Return the frames of a simulation without its beginning, and the time between them, ps."""
    options = subject.options
    steps = round(1e3 * options.time / options.time_step)
    every = max(1, steps // _FRAMES)
    name = f"{temperature:g}K"
    _md(
        supercell(subject.structure, options.length),
        subject,
        name,
        ensemble="bussi",
        temperature=temperature,
        length=options.time,
        trajectory_every=every,
        seed=options.seed,
    )
    with warnings.catch_warnings():  # of frames that are alike, as those of a molecule that hardly moves
        warnings.simplefilter("ignore", DataWarning)
        frames = read(subject.folder / name / "trajectory.extxyz", require=())
    return frames[round(_SETTLING * len(frames)) :], 1e-3 * every * options.time_step


def _dynamics(subject: Subject) -> Found:
    """Constant energy, from the end of a simulation at the first temperature."""
    options, temperature = subject.options, subject.options.temperatures[0]
    frames, _ = _simulate(subject, temperature)
    result = _md(
        frames[-1],
        subject,
        f"{temperature:g}K_nve",
        ensemble="nve",
        start="file",
        temperature=temperature,
        length=0.5 * options.time,
    )
    energy = 1e3 * result.log["conserved_eV"] / result.size
    kinetic = result.log["temperature_K"]
    values = [
        value("drift of the energy", result.drift, "meV/atom/ps"),
        value("fluctuation of the energy", energy.std(), "meV/atom"),
        value("temperature", kinetic.mean(), "K"),
    ]
    value_, atom, _ = result.highest
    notes = [f"largest extrapolation grade {value_:.3g} (atom {atom})"] if atom >= 0 else []
    return outcome_of(
        values, {"time": result.log["time_ps"], "energy": energy - energy[0], "temperature": kinetic}, notes
    )


def _rdf(subject: Subject) -> Found:
    temperature = subject.options.temperatures[0]
    frames, _ = _simulate(subject, temperature)
    values: list[Found] = []
    curves: Found = {}
    cutoff = min(_RDF, max(subject.options.length, 4.0))
    for first, second in combinations_with_replacement(sorted(set(frames[0].symbols)), 2):
        if first == second and frames[0].symbols.count(first) < 2:
            continue
        result = rdf(frames, first, second, cutoff=cutoff)
        peak = int(np.argmax(result.g))
        pair = f"{first}-{second}"
        values += [
            value(f"{pair}, first peak", result.r[_first_peak(result.g)], "Å"),
            value(f"{pair}, highest value", result.g[peak], ""),
        ]
        curves |= {"r": result.r, pair: result.g}
    return outcome_of(values, curves, [f"{len(frames)} frames at {temperature:g} K"])


def _first_peak(g: Array) -> int:
    """Return the place of the first maximum that is at least half as high as the highest one."""
    high = np.flatnonzero(g >= 0.5 * g.max())
    place = int(high[0])
    while place + 1 < len(g) and g[place + 1] >= g[place]:
        place += 1
    return place


def _diffusion(subject: Subject) -> Found:
    options = subject.options
    values, notes = [], []
    curves: Found = {"temperatures": list(options.temperatures)}
    coefficients: dict[str, list[tuple[float, float]]] = {}
    for temperature in options.temperatures:
        frames, interval = _simulate(subject, temperature)
        if len(frames) < _FEWEST:
            raise GprannError(
                f"{len(frames)} frames are too few for a diffusion coefficient; use a longer time"
            )
        for element in sorted(set(frames[0].symbols)):
            result = diffusion(frames, element, interval)
            name = f"{element} at {temperature:g} K"
            values.append(value(f"diffusion of {name}", result.coefficient, "Å²/ps", result.error))
            curves[name] = result.msd.tolist()
            curves["time"] = result.time.tolist()
            coefficients.setdefault(element, []).append((result.coefficient, result.error))
            charge = (options.charges or {}).get(element)
            if charge is not None and frames[0].pbc.all():
                conductivity, error = result.conductivity(charge, temperature)
                values.append(value(f"conductivity by {name}", conductivity, "S/m", error))
    for element, pairs in coefficients.items():
        numbers, errors = np.array(pairs).T
        if len(numbers) < 2:
            continue
        if (numbers < 2 * errors).any():
            notes.append(f"no activation energy of {element}: it hardly moves at one of the temperatures")
            continue
        energy, error = activation(np.array(options.temperatures), numbers, errors)
        values.append(value(f"activation energy of {element}", energy, "eV", error))
    if options.charges:
        notes.append("conductivities as if ions moved independently of each other (Nernst and Einstein)")
    return outcome_of(values, curves, notes)


def activation(temperatures: Array, coefficients: Array, errors: Array) -> tuple[float, float]:
    """Return the activation energy of D = D0 exp(-E/kT) and its standard error, eV, by weighted least squares.

    Examples
    --------
    >>> T = np.array([600.0, 800.0, 1000.0])
    >>> D = 3.0 * np.exp(-0.25 / (kB * T))
    >>> energy, error = activation(T, D, 0.01 * D)
    >>> round(energy, 6), error < 0.01
    (0.25, True)
    """
    x, y = -1.0 / (kB * temperatures), np.log(coefficients)
    weights = (coefficients / errors) ** 2
    mean = np.average(x, weights=weights)
    spread = float((weights * (x - mean) ** 2).sum())
    return float((weights * (x - mean) * y).sum() / spread), spread**-0.5


def _no_volume(structure: Structure, options: PropertyOptions) -> str:  # noqa: ARG001
    return "" if structure.pbc.all() else "it needs a structure that is periodic in three directions"


def _always(structure: Structure, options: PropertyOptions) -> str:  # noqa: ARG001
    return ""


def _no_ions(structure: Structure, options: PropertyOptions) -> str:  # noqa: ARG001
    return "a single molecule does not diffuse" if not structure.pbc.any() else ""


PROPERTIES = (
    *OF_CALCULATORS,
    Property("dynamics", "Dynamics at constant energy", _always, _dynamics, KEPT, simulates=True),
    Property("rdf", "Radial distribution", _no_volume, _rdf, KEPT, simulates=True),
    Property("diffusion", "Diffusion", _no_ions, _diffusion, (*KEPT, "charges"), simulates=True),
)
"""All properties."""
