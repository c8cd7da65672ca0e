"""Phonons and lattice thermal conductivity of crystals, with phonopy and phono3py (extra `properties`)."""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import ase
import numpy as np
from ase.calculators.calculator import BaseCalculator

from gprann.arrays import Array
from gprann.data.structure import Structure
from gprann.errors import ConfigError, GprannError, check_whole
from gprann.properties.relaxation import check_length, relaxed_crystal, repeats

FREQUENCY = 0.05
"""THz; what is below its negative is an imaginary mode, not noise of the three acoustic ones at Gamma."""
_POINTS = 51  # on each piece of the path
_SYMMETRY = 1e-4  # Å
_THIRD = 0.03  # Å, the displacement for third derivatives, as phono3py has it


@dataclass(frozen=True, slots=True)
class Phonons:
    """Phonons of a crystal, in harmonic approximation.

    Attributes
    ----------
    distances : ndarray, shape (n,), 1/Å
        Along the path of q points; pieces that do not touch are joined.
    bands : ndarray, shape (n, 3 N), THz
        Frequencies; imaginary ones are negative.
    labels : tuple of (float, str)
        Where the path passes points of high symmetry, and their names.
    frequencies, density : ndarray, shape (m,), THz and 1/THz
        Density of states of one primitive cell.
    imaginary : tuple of (tuple of float, float)
        The q points (in reciprocal lattice vectors) of path and mesh at which a mode is imaginary, with the lowest
        frequency (THz), the lowest of all first. With any of these the crystal is not stable.
    supercell : tuple of int
        Unit cells in each direction.
    """

    distances: Array
    bands: Array
    labels: tuple[tuple[float, str], ...]
    frequencies: Array
    density: Array
    imaginary: tuple[tuple[tuple[float, ...], float], ...]
    supercell: tuple[int, ...]

    @property
    def is_stable(self) -> bool:
        """Whether there is no imaginary mode."""
        return not self.imaginary


@dataclass(frozen=True, slots=True)
class ThermalConductivity:
    """Lattice thermal conductivity of a crystal in the relaxation time approximation.

    Attributes
    ----------
    temperatures : ndarray, shape (n,), K
    matrices : ndarray, shape (n, 3, 3), W/(m K)
    supercell, mesh : tuple of int
    """

    temperatures: Array
    matrices: Array
    supercell: tuple[int, ...]
    mesh: tuple[int, ...]

    @property
    def values(self) -> Array:
        """Mean over the directions, shape (n,), W/(m K)."""
        return np.asarray(np.trace(self.matrices, axis1=1, axis2=2) / 3.0)


def phonons(
    structure: Structure,
    calculator: BaseCalculator,
    *,
    length: float = 10.0,
    displacement: float = 0.01,
    mesh: int = 21,
    relax: bool = True,
) -> Phonons:
    """Return the phonons of a crystal from forces of displaced atoms (Togo, J. Phys. Soc. Jpn. 92, 012001 (2023)).

    Parameters
    ----------
    structure : Structure
        Unit cell, periodic in three directions; the path of q points is that of its primitive cell (Hinuma et al.,
        Comput. Mater. Sci. 128, 140 (2017)).
    calculator : ASE calculator
    length : float, Å
        Least length of the supercell in each direction: forces must have died away over half of it.
    displacement : float, Å
    mesh : int
        Points in each direction, for the density of states.
    relax : bool
        Whether cell and atoms are relaxed first.

    Returns
    -------
    Phonons

    Raises
    ------
    DataError
        If the structure is not periodic.
    ConfigError
        If an option is impossible.
    GprannError
        If the atoms do not come to rest.
    ImportError
        If phonopy or seekpath are not installed.

    """
    _check(length, mesh, displacement)
    atoms = relaxed_crystal(structure, calculator, relax=relax)
    with _quiet():
        lattice = _harmonic(atoms, calculator, length, displacement)
        points, labels, connected = _module("seekpath_path")(lattice.primitive, _POINTS)
        lattice.run_band_structure(points, labels=labels, path_connections=connected)
        lattice.run_mesh([mesh] * 3)
        lattice.run_total_dos()
    structure_of_bands = lattice.band_structure
    found = [
        (q, own)
        for path, bands in zip(structure_of_bands.qpoints, structure_of_bands.frequencies, strict=True)
        for q, own in zip(path, bands, strict=True)
    ]
    found += list(zip(lattice.mesh.qpoints, lattice.mesh.frequencies, strict=True))
    return Phonons(
        np.concatenate(structure_of_bands.distances),
        np.concatenate(structure_of_bands.frequencies),
        _ticks(structure_of_bands.distances, labels, connected),
        np.asarray(lattice.total_dos.frequency_points),
        np.asarray(lattice.total_dos.dos),
        _imaginary(found),
        tuple(repeats(atoms, length)),
    )


def thermal_conductivity(
    structure: Structure,
    calculator: BaseCalculator,
    *,
    temperatures: Sequence[float] = (300.0,),
    length: float = 10.0,
    mesh: int = 11,
    most: int | None = None,
) -> ThermalConductivity:
    """Return the lattice thermal conductivity of a crystal from second and third derivatives of its energy.

    By the linearised Boltzmann equation in the relaxation time approximation, three-phonon processes alone (Togo,
    Chaput and Tanaka, Phys. Rev. B 91, 094306 (2015)). The number of displaced supercells is about a hundred for
    crystals of high symmetry and thousands for others.

    Parameters
    ----------
    structure : Structure
        Unit cell, periodic in three directions; cell and atoms are relaxed.
    calculator : ASE calculator
    temperatures : sequence of float, K
    length : float, Å
        Least length of the supercell in each direction.
    mesh : int
        q points in each direction: the result converges slowly with it.
    most : int, optional
        Displaced supercells that may be computed. Default: any number.

    Returns
    -------
    ThermalConductivity

    Raises
    ------
    DataError
        If the structure is not periodic.
    ConfigError
        If an option is impossible.
    GprannError
        If the atoms do not come to rest, a mode is imaginary (then there is no conductivity), or more supercells are
        needed than are allowed.
    ImportError
        If phono3py is not installed.

    """
    _check(length, mesh)
    if not len(temperatures) or not all(0 < t < np.inf for t in temperatures):
        raise ConfigError(f"temperatures = {list(temperatures)}: expected positive numbers of K")
    atoms = relaxed_crystal(structure, calculator)
    with _quiet():
        harmonic = _harmonic(atoms, calculator, length, 0.01)
        harmonic.run_mesh([mesh] * 3)
        imaginary = _imaginary(list(zip(harmonic.mesh.qpoints, harmonic.mesh.frequencies, strict=True)))
        if imaginary:
            (q, frequency), *_ = imaginary
            raise GprannError(
                f"{structure.origin}: no thermal conductivity, the crystal is not stable: a mode at q = "
                f"({', '.join(f'{part:.3g}' for part in q)}) has the imaginary frequency {-frequency:.2g}i THz"
            )
        lattice = _module("Phono3py")(
            _cell(atoms), np.diag(repeats(atoms, length)), primitive_matrix="auto", symprec=_SYMMETRY
        )
        lattice.generate_displacements(distance=_THIRD)
        displaced = lattice.supercells_with_displacements
        if most is not None and len(displaced) > most:
            raise GprannError(
                f"{structure.origin}: no thermal conductivity: it needs {len(displaced)} displaced supercells of "
                f"{len(displaced[0])} atoms, and {most} are allowed"
            )
        lattice.forces = np.array([_forces(cell, atoms, calculator) for cell in displaced])
        lattice.produce_fc2()
        lattice.produce_fc3()
        lattice.mesh_numbers = [mesh] * 3
        lattice.init_phph_interaction()
        lattice.run_thermal_conductivity(temperatures=list(temperatures))
        voigt = np.asarray(lattice.thermal_conductivity.kappa)[0]
    matrices = voigt[:, [[0, 5, 4], [5, 1, 3], [4, 3, 2]]]
    return ThermalConductivity(
        np.array(temperatures, dtype=np.float64),
        matrices,
        tuple(repeats(atoms, length)),
        (mesh,) * 3,
    )


def _check(length: float, mesh: int, displacement: float = 0.01) -> None:
    check_whole(1, mesh=mesh)
    check_length(length)
    if not 0 < displacement < 1:
        raise ConfigError(f"displacement = {displacement}: expected a small positive length in Å")


def _module(name: str) -> Any:
    """Return a class or function of phonopy, phono3py or seekpath.

    Raises
    ------
    ImportError
        If they are not installed.
    """
    try:
        if name == "Phono3py":
            return importlib.import_module("phono3py").Phono3py
        if name == "seekpath_path":
            importlib.import_module("seekpath")  # the next one needs it
            return importlib.import_module("phonopy.phonon.band_structure").get_band_qpoints_by_seekpath
        if name == "PhonopyAtoms":
            return importlib.import_module("phonopy.structure.atoms").PhonopyAtoms
        return importlib.import_module("phonopy").Phonopy
    except ImportError as error:
        raise ImportError(
            f"phonons need phonopy, phono3py and seekpath ({error}): pip install 'gprann[properties]'"
        ) from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence warnings of changes between releases of phonopy."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _harmonic(atoms: ase.Atoms, calculator: BaseCalculator, length: float, displacement: float) -> Any:
    """Return phonopy with the force constants of a crystal."""
    lattice = _module("Phonopy")(
        _cell(atoms), np.diag(repeats(atoms, length)), primitive_matrix="auto", symprec=_SYMMETRY
    )
    lattice.generate_displacements(distance=displacement)
    lattice.forces = [_forces(cell, atoms, calculator) for cell in lattice.supercells_with_displacements]
    lattice.produce_force_constants()
    lattice.symmetrize_force_constants()
    return lattice


def _cell(atoms: ase.Atoms) -> Any:
    return _module("PhonopyAtoms")(
        symbols=atoms.get_chemical_symbols(),
        cell=atoms.cell[:],
        scaled_positions=atoms.get_scaled_positions(),
        masses=atoms.get_masses(),
    )


def _forces(cell: Any, atoms: ase.Atoms, calculator: BaseCalculator) -> Array:
    """Return the forces on the atoms of a displaced supercell."""
    displaced = ase.Atoms(cell.symbols, positions=cell.positions, cell=cell.cell, pbc=atoms.pbc)
    displaced.calc = calculator
    forces: Array = displaced.get_forces()
    return forces


def _imaginary(found: list[tuple[Array, Array]]) -> tuple[tuple[tuple[float, ...], float], ...]:
    """Return the q points with imaginary frequencies, each once, the lowest frequency first."""
    lowest: dict[tuple[float, ...], float] = {}
    for q, frequencies in found:
        if frequencies.min() < -FREQUENCY:
            lowest.setdefault(tuple(np.round(q, 4).tolist()), float(frequencies.min()))
    return tuple(sorted(lowest.items(), key=lambda item: item[1]))


def _ticks(
    distances: Sequence[Array], labels: Sequence[str], connected: Sequence[bool]
) -> tuple[tuple[float, str], ...]:
    """Return where on the path the points of high symmetry lie; where it jumps, two have one place."""
    names = iter(labels)
    ticks: list[tuple[float, str]] = []
    fresh = True
    for path, joined in zip(distances, connected, strict=True):
        if fresh:
            first = next(names)
            if ticks and ticks[-1][0] == path[0]:
                ticks[-1] = (ticks[-1][0], f"{ticks[-1][1]}|{_plain(first)}")
            else:
                ticks.append((float(path[0]), _plain(first)))
        ticks.append((float(path[-1]), _plain(next(names))))
        fresh = not joined
    return tuple(ticks)


def _plain(label: str) -> str:
    """Return a label without TeX."""
    for old, new in (("$", ""), ("\\Gamma", "Γ"), ("\\Sigma", "Σ"), ("\\Delta", "Δ"), ("\\Lambda", "Λ")):
        label = label.replace(old, new)
    return label.replace("\\mathrm{", "").replace("}", "").replace("{", "")
