"""The reference calculator of a search, whose calls are counted and whose results are kept."""

from __future__ import annotations

import os

import ase
import numpy as np
from ase.calculators.calculator import BaseCalculator, PropertyNotImplementedError
from ase.calculators.singlepoint import SinglePointCalculator

from gprann.data.structure import Dataset, Origin, Structure
from gprann.errors import ConfigError, DataError, GprannError, check_whole
from gprann.io.consistency import electronic_state
from gprann.labelling import Record
from gprann.labelling.calculators import force_consistent_energy


class Reference:
    """A calculator whose results are counted and kept.

    Parameters
    ----------
    calculator : ASE calculator
        With energy and forces.
    record : path, optional
        Extended XYZ file for every result. Those that it holds already are used, and not counted.
    max_calls : int
        Calls that are allowed.

    Attributes
    ----------
    calls : int
        Calls made so far.
    """

    def __init__(
        self, calculator: BaseCalculator, record: str | os.PathLike[str] | None, max_calls: int
    ) -> None:
        check_whole(1, max_calls=max_calls)
        if isinstance(calculator, type) or not hasattr(calculator, "get_property"):
            raise ConfigError(
                f"calculator = {calculator!r}: expected an ASE calculator, for example ase.calculators.emt.EMT()"
            )
        self.calculator = calculator
        self.calls = 0
        self._max_calls = max_calls
        self._record = Record(record)

    @property
    def exhausted(self) -> bool:
        """Whether no call is left."""
        return self.calls >= self._max_calls

    def results(self, like: Structure) -> Dataset:
        """Return all results for the atoms, the cell, the periodicity, the charge and the spin of a structure."""
        return self._record.structures.filter(
            lambda item: (
                item.symbols == like.symbols
                and np.allclose(item.cell, like.cell)
                and np.array_equal(item.pbc, like.pbc)
                and electronic_state(item) == electronic_state(like)
            )
        )

    def find(self, atoms: ase.Atoms) -> Structure | None:
        """Return the labelled structure if this geometry, with its charges and spins, has been computed."""
        return self._record.find(Structure.from_ase(atoms.copy()))

    def take(self, atoms: ase.Atoms) -> None:
        """Keep the results that atoms carry, if they come from a file or from a calculator of the same kind."""
        calculator = atoms.calc
        same = type(calculator) is type(self.calculator) and getattr(
            calculator, "parameters", None
        ) == getattr(self.calculator, "parameters", None)
        if not (same or isinstance(calculator, SinglePointCalculator)) or self.find(atoms) is not None:
            return
        if not calculator.calculation_required(atoms, ["energy", "forces"]):
            self._record.append(self._compute(atoms, calculator))

    def label(self, atoms: ase.Atoms) -> Structure:
        """Return atoms with energy and forces, computed if they are not known; constraints play no part.

        Raises
        ------
        DataError
            If a result is not finite.
        ConfigError
            If the calculator has no energies or forces.
        GprannError
            If it fails.
        """
        known = self.find(atoms)
        if known is not None:
            return known
        self.calls += 1
        structure = self._compute(atoms, self.calculator)
        self._record.append(structure)
        return structure

    def _compute(self, atoms: ase.Atoms, calculator: BaseCalculator) -> Structure:
        computed = atoms.copy()
        computed.set_constraint()
        name = f"reference call {self.calls}"
        try:
            energy = force_consistent_energy(calculator, computed)
            forces = calculator.get_property("forces", computed)
        except PropertyNotImplementedError as error:
            raise ConfigError(f"calculator: {error}; give one with energies and forces") from error
        # A calculator fails in whatever way its program likes.
        except Exception as error:
            raise GprannError(
                f"{name}, {computed.get_chemical_formula()}: the calculator failed with {type(error).__name__}: "
                f"{error}; {self._describe_record()}"
            ) from error
        bare = Structure.from_ase(atoms.copy())  # a copy of atoms has no results
        return bare.replace(energy=energy, forces=forces, origin=Origin(place=name))

    def _describe_record(self) -> str:
        """Say where the results so far are, and how to go on from them."""
        count, path = len(self._record.structures), self._record.path
        if path is None:
            return f'its {count} earlier results are lost: with record = "file.extxyz" they are kept and used again'
        return f"{path} keeps {count} results, from which the same call goes on"


def check_atoms(atoms: object, name: str) -> None:
    """Refuse anything but `ase.Atoms`.

    Raises
    ------
    ConfigError
    """
    if not isinstance(atoms, ase.Atoms):
        raise ConfigError(
            f"{name}: expected ase.Atoms, got {type(atoms).__name__}; positions alone are moved, in the cell they "
            "have; the result of relax has them as `.atoms`"
        )


def with_labels(atoms: ase.Atoms, structure: Structure) -> ase.Atoms:
    """Return a copy of atoms, constraints included, with the positions, energy and forces of a structure."""
    copy: ase.Atoms = atoms.copy()
    copy.positions = structure.positions
    copy.calc = SinglePointCalculator(copy, energy=energy_of(structure), forces=np.array(structure.forces))
    return copy


def energy_of(structure: Structure) -> float:
    """Return the energy of a labelled structure, eV."""
    if structure.energy is None:
        raise DataError(f"{structure.origin}: has no energy")
    return structure.energy


def largest_force(atoms: ase.Atoms, structure: Structure) -> float:
    """Return the largest norm, eV/Å, of the forces on atoms that the constraints of `atoms` leave free."""
    return float(np.linalg.norm(with_labels(atoms, structure).get_forces(), axis=1).max())
