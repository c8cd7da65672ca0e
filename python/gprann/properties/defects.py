"""Energies of vacancies and of surfaces of crystals."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import ase
import numpy as np
from ase.build import surface
from ase.calculators.calculator import BaseCalculator
from ase.units import J, m

from gprann.data.structure import Structure
from gprann.errors import ConfigError, DataError
from gprann.properties.relaxation import check_length, relax_atoms, relaxed_crystal, repeats

_SAME = 0.1  # Å, within which atoms lie in one plane


@dataclass(frozen=True, slots=True)
class Vacancy:
    """Energy to take an atom out of a crystal and to put it back elsewhere into a crystal of the same element.

    Attributes
    ----------
    energy, unrelaxed : float, eV
        With the other atoms relaxed in the cell of the crystal, and where they were.
    atoms : int
        In the supercell before.
    """

    energy: float
    unrelaxed: float
    atoms: int


@dataclass(frozen=True, slots=True)
class Surface:
    """Energy to cut a crystal.

    Attributes
    ----------
    miller : tuple of int
        Indices of the plane, of the cell that was given.
    energy, unrelaxed : float, J/m²
    area : float, Å²
    atoms : int
    thickness : float, Å
    """

    miller: tuple[int, ...]
    energy: float
    unrelaxed: float
    area: float
    atoms: int
    thickness: float


def vacancy(structure: Structure, calculator: BaseCalculator, *, length: float = 10.0) -> Vacancy:
    """Return the formation energy of a vacancy in the crystal of an element.

    E(N - 1 atoms) - (N - 1)/N E(N atoms), in the relaxed cell of the crystal.

    Parameters
    ----------
    structure : Structure
        Periodic in three directions, of one element: of a compound the energy depends on where the atom goes.
    calculator : ASE calculator
    length : float, Å
        Least length of the supercell in each direction.

    Returns
    -------
    Vacancy

    Raises
    ------
    DataError
        If the structure is not periodic, or a compound.
    ConfigError
        If the length is impossible.
    GprannError
        If the atoms do not come to rest.

    Examples
    --------
    >>> import gprann
    >>> from ase.build import bulk
    >>> from ase.calculators.emt import EMT
    >>> found = gprann.vacancy(gprann.Structure.from_ase(bulk("Cu", cubic=True)), EMT(), length=7.0)
    >>> 0.9 < found.energy < found.unrelaxed < 1.4
    True
    """
    atoms = _element(structure, calculator, length)
    whole = atoms.repeat(tuple(repeats(atoms, length)))
    whole.calc = calculator
    share = (len(whole) - 1) / len(whole) * whole.get_potential_energy()
    del whole[0]
    unrelaxed = whole.get_potential_energy() - share
    relax_atoms(whole, structure)
    return Vacancy(float(whole.get_potential_energy() - share), float(unrelaxed), len(whole) + 1)


def surface_energy(
    structure: Structure,
    calculator: BaseCalculator,
    miller: Sequence[int] = (1, 0, 0),
    *,
    thickness: float = 12.0,
    vacuum: float = 12.0,
) -> Surface:
    """Return the energy of a surface of the crystal of an element, without reconstruction.

    Of the planes at which the crystal can be cut, that of the lowest energy before the relaxation counts.

    Parameters
    ----------
    structure : Structure
        Periodic in three directions, of one element: of a compound the energy depends on the termination.
    calculator : ASE calculator
    miller : three ints
        Of the cell that is given: take the conventional one.
    thickness, vacuum : float, Å
        Least thickness of the slab, and distance to its images.

    Returns
    -------
    Surface

    Raises
    ------
    DataError
        If the structure is not periodic, or a compound.
    ConfigError
        If the indices or a length are impossible.
    GprannError
        If the atoms do not come to rest.

    Examples
    --------
    >>> import gprann
    >>> from ase.build import bulk
    >>> from ase.calculators.emt import EMT
    >>> copper = gprann.Structure.from_ase(bulk("Cu", cubic=True))
    >>> found = gprann.surface_energy(copper, EMT(), (1, 1, 1))
    >>> 0.5 < found.energy < 1.5
    True
    """
    indices = tuple(int(k) for k in miller)
    if (
        len(indices) != 3
        or indices == (0, 0, 0)
        or any(k != own for k, own in zip(indices, miller, strict=True))
    ):
        raise ConfigError(f"miller = {tuple(miller)}: expected three whole numbers that are not all 0")
    if not 0 < vacuum < np.inf:
        raise ConfigError(f"vacuum = {vacuum}: expected a positive length in Å")
    atoms = _element(structure, calculator, thickness)
    bulk_energy = atoms.get_potential_energy() / len(atoms)
    unit = J / m**2
    best, unrelaxed, deep = ase.Atoms(), np.inf, 0.0
    for slab in _slabs(atoms, indices, thickness):
        thick = float(np.ptp(slab.positions[:, 2]))
        slab.center(vacuum=0.5 * vacuum, axis=2)
        slab.calc = calculator
        area = float(np.linalg.norm(np.cross(slab.cell[0], slab.cell[1])))
        energy = float((slab.get_potential_energy() - len(slab) * bulk_energy) / (2.0 * area * unit))
        if energy < unrelaxed:
            best, unrelaxed, deep = slab, energy, thick
    area = float(np.linalg.norm(np.cross(best.cell[0], best.cell[1])))
    relax_atoms(best, structure)
    relaxed = float((best.get_potential_energy() - len(best) * bulk_energy) / (2.0 * area * unit))
    return Surface(indices, relaxed, unrelaxed, area, len(best), deep)


def _element(structure: Structure, calculator: BaseCalculator, length: float) -> ase.Atoms:
    """Return the relaxed crystal of one element."""
    check_length(length)
    if len(set(structure.symbols)) > 1:
        raise DataError(
            f"{structure.origin}: is the compound {structure.formula}; these energies are those of elements, as where "
            "an atom goes, or which layer ends a surface, would have to be known"
        )
    return relaxed_crystal(structure, calculator)


def _slabs(atoms: ase.Atoms, miller: tuple[int, ...], thickness: float) -> Iterator[ase.Atoms]:
    """Yield slabs that are thick enough, cut at each of the planes that differ."""
    bare = ase.Atoms(atoms.symbols, positions=atoms.positions, cell=atoms.cell, pbc=True)
    one = surface(bare, miller, 1)
    area = np.linalg.norm(np.cross(one.cell[0], one.cell[1]))
    height = len(one) / len(bare) * bare.get_volume() / area  # of a layer, after which the crystal repeats
    # One layer is lost where the planes at the ends stand far apart.
    layers = int(np.ceil(thickness / height)) + 1
    normal = np.linalg.inv(bare.cell[:]) @ np.array(miller)
    normal /= np.linalg.norm(normal)
    planes = np.sort(bare.positions @ normal % height)
    for plane in planes[np.diff(planes, append=planes[0] + height) > _SAME]:
        moved = bare.copy()
        moved.translate(-(plane + 0.5 * _SAME) * normal)
        slab = surface(moved, miller, layers)
        slab.pbc = True  # so that potentials have stresses, and any calculator takes it
        yield slab
