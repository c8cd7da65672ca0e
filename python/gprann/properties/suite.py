"""All properties of a structure that a calculator or a potential can be asked for, as plain data."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import ase
import numpy as np
from ase.calculators.calculator import BaseCalculator
from ase.units import _amu

from gprann.arrays import Array
from gprann.data.structure import Structure
from gprann.errors import ConfigError
from gprann.potential import Potential
from gprann.properties.crystals import elastic_constants, equation_of_state
from gprann.properties.defects import surface_energy, vacancy
from gprann.properties.lattice_dynamics import phonons, thermal_conductivity
from gprann.properties.molecules import vibrations
from gprann.properties.options import PropertyOptions, indices_of
from gprann.properties.relaxation import relax_atoms
from gprann.surrogate import Surrogate

Found: TypeAlias = dict[str, Any]
"""Of a property: `values` (name, value, unit, error or None), `curves` (lists of numbers), and `notes`."""


@dataclass(frozen=True, slots=True)
class Subject:
    """Structure and model whose properties are measured.

    Attributes
    ----------
    structure : Structure
        As it was given; after the relaxation, the relaxed one.
    calculator : ASE calculator
    model : Potential, Surrogate or None
        With which simulations are run; None of a calculator.
    options : PropertyOptions
    folder : Path
        For simulations.
    """

    structure: Structure
    calculator: BaseCalculator
    model: Potential | Surrogate | None
    options: PropertyOptions
    folder: Path

    @property
    def simulated(self) -> Potential | Surrogate:
        """The model of simulations.

        Raises
        ------
        ConfigError
            If there is none.
        """
        if self.model is None:
            raise ConfigError("a calculator runs no simulations here; give a potential")
        return self.model


@dataclass(frozen=True, slots=True)
class Property:
    """A property.

    Attributes
    ----------
    name, title : str
    obstacle : callable
        Returns why a structure does not have it, or an empty text.
    compute : callable
        Returns what was found.
    uses : tuple of str
        Options on which it depends.
    simulates : bool
        Whether it needs a model of ours, not just a calculator.
    compare : callable
        Returns sentences about how what was found differs from what the reference says, beyond the values.
    """

    name: str
    title: str
    obstacle: Callable[[Structure, PropertyOptions], str]
    compute: Callable[[Subject], Found]
    uses: tuple[str, ...] = field(default=())
    simulates: bool = False
    compare: Callable[[Found, Found], list[str]] = lambda one, other: []  # noqa: ARG005


def value(name: str, number: float, unit: str, error: float | None = None) -> Found:
    """Return one value as plain data."""
    return {
        "name": name,
        "value": float(number),
        "unit": unit,
        "error": None if error is None else float(error),
    }


def outcome_of(
    values: list[Found], curves: Mapping[str, Any] | None = None, notes: list[str] | None = None
) -> Found:
    """Return what was found as plain data."""
    plain = {
        name: np.asarray(curve).tolist() if isinstance(curve, np.ndarray) else curve
        for name, curve in (curves or {}).items()
    }
    return {"values": values, "curves": plain, "notes": notes or []}


# ---------------------------------------------------------------- obstacles
def _none(structure: Structure, options: PropertyOptions) -> str:  # noqa: ARG001
    return ""


def not_crystal(structure: Structure, options: PropertyOptions) -> str:  # noqa: ARG001
    """Return why a structure is no crystal."""
    if not structure.pbc.all():
        return "the structure is not periodic in three directions"
    return "it has a vacuum, as slabs and molecules in a box do" if has_vacuum(structure) else ""


def _not_element(structure: Structure, options: PropertyOptions) -> str:
    if len(set(structure.symbols)) > 1:
        return "of compounds it would have to be known where atoms go, or which layer ends a surface"
    return not_crystal(structure, options)


def _not_molecule(structure: Structure, options: PropertyOptions) -> str:  # noqa: ARG001
    if structure.pbc.any():
        return "the structure is periodic: it has phonons"
    return "a single atom has none" if len(structure) < 2 else ""


def has_vacuum(structure: Structure) -> bool:
    """Return whether along a direction of the cell there is a gap of more than 6 Å without an atom.

    Examples
    --------
    >>> import numpy as np
    >>> has_vacuum(Structure(("H",), [[0.0, 0, 0]], np.diag([3.0, 3.0, 9.0]), True))
    True
    """
    heights = 1.0 / np.linalg.norm(np.linalg.inv(structure.cell), axis=0)
    places = np.sort((structure.positions @ np.linalg.inv(structure.cell)) % 1.0, axis=0)
    gaps = np.diff(places, axis=0, append=places[:1] + 1.0).max(axis=0) * heights
    return bool((gaps > 6.0).any())


# --------------------------------------------------------------- properties
def _relaxation(subject: Subject) -> Found:
    structure = subject.structure
    atoms: ase.Atoms = structure.without_labels().to_ase()
    atoms.calc = subject.calculator
    crystal = not not_crystal(structure, subject.options)
    relax_atoms(atoms, structure, cell=crystal, forces=1e-5 if crystal else 1e-4)
    values = [value("energy", atoms.get_potential_energy() / len(atoms), "eV/atom")]
    if crystal:
        volume = atoms.get_volume()
        lengths, angles = atoms.cell.lengths(), atoms.cell.angles()
        values.append(value("volume", volume / len(atoms), "Å³/atom"))
        values += [value(name, length, "Å") for name, length in zip("abc", lengths, strict=True)]
        values += [value(name, angle, "°") for name, angle in zip("αβγ", angles, strict=True)]
        values.append(value("density", atoms.get_masses().sum() * _amu * 1e27 / volume, "g/cm³"))
    moved = atoms.positions - structure.positions
    if not crystal:
        values.append(value("atoms moved by", np.sqrt((moved**2).sum(axis=1).mean()), "Å"))
    return outcome_of(values, {"cell": atoms.cell[:], "positions": atoms.positions})


def structure_at_rest(structure: Structure, outcome: Found) -> Structure:
    """Return the structure that a relaxation has found."""
    curves = outcome["curves"]
    return structure.with_positions(np.array(curves["positions"]), cell=np.array(curves["cell"]))


def _equation_of_state(subject: Subject) -> Found:
    state = equation_of_state(subject.structure, subject.calculator)
    values = [
        value("volume", state.volume, "Å³/atom"),
        value("energy", state.energy, "eV/atom"),
        value("bulk modulus", state.bulk_modulus, "GPa"),
    ]
    return outcome_of(values, {"volumes": state.volumes, "energies": state.energies})


def _elastic_constants(subject: Subject) -> Found:
    elastic = elastic_constants(subject.structure, subject.calculator, relax=False)
    values = [
        value(f"C{i + 1}{j + 1}", elastic.matrix[i, j], "GPa")
        for i, j in zip(*np.triu_indices(6), strict=True)
        if abs(elastic.matrix[i, j]) > 1e-3 * np.abs(elastic.matrix).max()
    ]
    values.append(value("bulk modulus (Hill)", elastic.bulk_modulus, "GPa"))
    values.append(value("shear modulus (Hill)", elastic.shear_modulus, "GPa"))
    lowest = float(np.linalg.eigvalsh(elastic.matrix)[0])
    notes = [f"not stable: the crystal gives way to a strain ({lowest:.3g} GPa)"] if lowest <= 0 else []
    return outcome_of(values, {"matrix": elastic.matrix}, notes)


def _phonons(subject: Subject) -> Found:
    result = phonons(subject.structure, subject.calculator, length=subject.options.length, relax=False)
    values = [
        value("highest frequency", result.bands.max(), "THz"),
        value("lowest frequency", result.bands.min(), "THz"),
        value("mean frequency", mean_frequency(result.frequencies, result.density), "THz"),
    ]
    notes = [f"supercell of {times(result.supercell)} cells"]
    notes += [
        f"imaginary mode: {-frequency:.3g}i THz at q = ({', '.join(f'{part:.3g}' for part in q)})"
        for q, frequency in result.imaginary[:5]
    ]
    if len(result.imaginary) > 5:
        notes.append(f"and imaginary modes at {len(result.imaginary) - 5} more points")
    return outcome_of(
        values,
        {
            "distances": result.distances,
            "bands": result.bands,
            "labels": [list(label) for label in result.labels],
            "frequencies": result.frequencies,
            "density": result.density,
        },
        notes,
    )


def _compare_phonons(one: Found, other: Found) -> list[str]:
    own, expected = (np.array(side["curves"]["bands"]) for side in (one, other))
    if own.shape != expected.shape:
        return ["the paths of the phonons differ, as the relaxed crystals have other symmetries"]
    error = np.abs(own - expected).mean()
    return [
        f"frequencies along the path differ by {error:.3g} THz in the mean, "
        f"{100 * error / np.abs(expected).mean():.2g} % of the mean frequency"
    ]


def mean_frequency(frequencies: Array, density: Array) -> float:
    """Return the mean over a density of states."""
    return float((frequencies * density).sum() / density.sum())


def times(numbers: tuple[int, ...]) -> str:
    """Return numbers as '2 x 2 x 2'."""
    return " x ".join(map(str, numbers))


def _thermal_conductivity(subject: Subject) -> Found:
    options = subject.options
    result = thermal_conductivity(
        subject.structure,
        subject.calculator,
        temperatures=options.temperatures,
        length=options.length,
        mesh=options.mesh,
        most=options.most_displacements,
    )
    values = [
        value(f"{name} at {temperature:g} K", number, "W/(m K)")
        for temperature, matrix in zip(result.temperatures, result.matrices, strict=True)
        for name, number in _directions(matrix)
    ]
    notes = [
        f"supercell of {times(result.supercell)} cells, q mesh {times(result.mesh)}, relaxation times alone"
    ]
    return outcome_of(values, {"temperatures": result.temperatures, "conductivity": result.values}, notes)


def _directions(matrix: Array) -> list[tuple[str, float]]:
    """Return the mean of the diagonal, and its elements where they differ."""
    diagonal = np.diagonal(matrix)
    named = [("mean", float(diagonal.mean()))]
    if np.ptp(diagonal) > 1e-3 * abs(diagonal.mean()):
        named += [(name, float(number)) for name, number in zip(("xx", "yy", "zz"), diagonal, strict=True)]
    return named


def _vibrations(subject: Subject) -> Found:
    result = vibrations(subject.structure, subject.calculator, relax=False)
    values = [value(f"mode {k + 1}", wavenumber, "1/cm") for k, wavenumber in enumerate(result.wavenumbers)]
    unstable = int((result.wavenumbers < 0).sum())
    notes = [f"{unstable} imaginary modes (negative): the structure is no minimum"] if unstable else []
    return outcome_of(values, {"wavenumbers": result.wavenumbers}, notes)


def _vacancy(subject: Subject) -> Found:
    result = vacancy(subject.structure, subject.calculator, length=subject.options.length)
    values = [
        value("formation energy", result.energy, "eV"),
        value("without relaxation", result.unrelaxed, "eV"),
    ]
    return outcome_of(values, notes=[f"supercell of {result.atoms} atoms"])


def _surfaces(subject: Subject) -> Found:
    values, notes = [], []
    for text in subject.options.miller:
        miller = indices_of(text)
        result = surface_energy(subject.structure, subject.calculator, miller)
        name = "(" + " ".join(map(str, miller)) + ")"
        values.append(value(name, result.energy, "J/m²"))
        values.append(value(f"{name} without relaxation", result.unrelaxed, "J/m²"))
        notes.append(f"{name}: {result.atoms} atoms, {result.thickness:.1f} Å thick")
    return outcome_of(values, notes=notes)


OF_CALCULATORS = (
    Property("relaxation", "Structure at rest", _none, _relaxation),
    Property("equation_of_state", "Equation of state", not_crystal, _equation_of_state),
    Property("elastic_constants", "Elastic constants", not_crystal, _elastic_constants),
    Property("phonons", "Phonons", not_crystal, _phonons, ("length",), compare=_compare_phonons),
    Property(
        "thermal_conductivity",
        "Lattice thermal conductivity",
        not_crystal,
        _thermal_conductivity,
        ("length", "temperatures", "mesh", "most_displacements"),
    ),
    Property("vibrations", "Vibrations", _not_molecule, _vibrations),
    Property("vacancy", "Vacancy", _not_element, _vacancy, ("length",)),
    Property("surfaces", "Surfaces", _not_element, _surfaces, ("miller",)),
)
"""Properties that any calculator has."""
