"""Base class of the ASE calculators of potentials and of surrogates."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import ase
import numpy as np
from ase.calculators.calculator import Calculator as AseCalculator
from ase.calculators.calculator import CalculatorSetupError, PropertyNotImplementedError, all_changes
from ase.calculators.singlepoint import SinglePointCalculator

from gprann.data.prediction import Prediction
from gprann.errors import AtomsTooCloseError


class PredictionCalculator(AseCalculator):
    """ASE calculator of a model that predicts data sets.

    `results` holds properties that ASE knows, so that they can be copied and written; standard deviations are
    in `deviations`, and come from `get_property` as well.

    Attributes
    ----------
    deviations : dict
        `energy_std` (eV), `forces_std` (N, 3) (eV/Å) and `energies_std` (N,) (eV), and the extrapolation `grades` (N,),
        as far as they were computed.
    """

    # ASE declares a list of the instance here, and so must we.
    implemented_properties: list[str] = ["energy", "free_energy", "energies", "forces", "stress"]  # noqa: RUF012
    deviation_names: ClassVar[tuple[str, ...]] = ("energy_std", "forces_std", "energies_std", "grades")
    no_stress: ClassVar[str] = "needs a structure that is periodic in three directions"

    def __init__(self, **kwargs: Any) -> None:
        self.deviations: dict[str, Any] = {}
        super().__init__(**kwargs)

    @abstractmethod
    def predict(self, atoms: ase.Atoms, properties: Sequence[str]) -> Prediction:
        """Return the prediction for atoms, with the standard deviations among the properties."""

    def reset(self) -> None:
        """Forget all results."""
        super().reset()
        self.deviations = {}

    def check_state(self, atoms: ase.Atoms, tol: float = 0.0) -> list[str]:  # noqa: ARG002 - any change counts
        """Return what has changed since the last calculation, by ASE's names."""
        known = self.atoms
        if known is None or len(known) != len(atoms):
            return list(all_changes)
        before, now = known.arrays, atoms.arrays
        changes = [name for name in _INITIAL if not _same(before.get(name), now.get(name))]
        changes += [name for name in ("positions", "numbers") if not _same(before[name], now[name])]
        if not _same(known.cell.array, atoms.cell.array):
            changes.append("cell")
        if not _same(known.pbc, atoms.pbc):
            changes.append("pbc")
        return changes

    def get_property(self, name: str, atoms: ase.Atoms | None = None, allow_calculation: bool = True) -> Any:
        """Return a result for atoms, computed where it is not known.

        Raises
        ------
        PropertyNotImplementedError
            If there is no such property, or none of these atoms.
        """
        deviation = name in self.deviation_names
        if not deviation and name not in self.implemented_properties:
            raise PropertyNotImplementedError(f"{name}: no property of this calculator")
        changes = [] if atoms is None else self.check_state(atoms)
        if changes:
            self.results, self.deviations = {}, {}
        if name not in (self.deviations if deviation else self.results) and allow_calculation:
            self.calculate(self.atoms if atoms is None else atoms, [name], changes)
        value = (self.deviations if deviation else self.results).get(name)
        if value is None and allow_calculation:
            needed = "a model with a guard" if name == "grades" else "a committee of at least two members"
            raise PropertyNotImplementedError(f"{name}: it needs {needed}")
        return np.copy(value) if isinstance(value, np.ndarray) else value

    def snapshot(self, atoms: ase.Atoms) -> ase.Atoms:
        """Return a copy of atoms with their results, as ASE copies, writes and reads them.

        Energies, forces and the stress are results of a `SinglePointCalculator`; the standard deviations that were
        computed stand in `info` (`energy_std`) and in `arrays` (`forces_std`, `energies_std`).

        Examples
        --------
        >>> import ase.io, gprann, tempfile
        >>> data = gprann.examples.hydrogen(7)
        >>> descriptor = gprann.ChebyshevDescriptor(["H"], angular_order=None)
        >>> committee = gprann.train(data, descriptor, hidden=(3,), iterations=2, starts=1, members=2)
        >>> atoms, calculator = data[0].to_ase(), gprann.Calculator(committee)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     ase.io.write(f"{folder}/one.extxyz", calculator.snapshot(atoms))
        ...     again = ase.io.read(f"{folder}/one.extxyz")
        >>> bool(abs(again.arrays["forces_std"] - calculator.deviations["forces_std"]).max() < 1e-7)
        True
        """
        self.get_property("energy", atoms)
        copy: ase.Atoms = atoms.copy()
        copy.calc = SinglePointCalculator(copy, **_copies(self.results))
        for name, value in _copies(self.deviations).items():
            (copy.arrays if np.ndim(value) else copy.info)[name] = value
        return copy

    def calculate(
        self,
        atoms: ase.Atoms | None = None,
        properties: Sequence[str] = ("energy",),
        system_changes: Sequence[str] = tuple(all_changes),
    ) -> None:
        """Compute all results for `atoms`, and those standard deviations that `properties` names.

        Raises
        ------
        CalculatorSetupError
            If there are no atoms.
        DataError
            If the elements are not those of the model, or two atoms lie on top of each other.
        PropertyNotImplementedError
            If the stress is asked for and not known.
        """
        if atoms is None:
            raise CalculatorSetupError("no atoms: assign the calculator to an Atoms object, or pass one")
        if system_changes:
            self.results, self.deviations = {}, {}
        if "stress" in properties and not atoms.pbc.all():
            raise PropertyNotImplementedError(f"stress: {self.no_stress}")
        try:
            found = self.predict(atoms, properties)
        except AtomsTooCloseError as error:
            raise AtomsTooCloseError(
                error.fact,
                "in a simulation the structure has left what the model learned: use a shorter time step or a lower "
                "temperature, or train with structures from before this step (gprann.select finds them)",
            ) from None
        self._remember(atoms)
        energy = float(found.energy[0])
        # For unchanged atoms ASE asks for one property after the other: what is known stays.
        self.results.update(energy=energy, free_energy=energy, forces=found.forces[0])
        if found.atom_energies is not None:
            self.results["energies"] = found.atom_energies[0]
        if found.stress is not None and np.isfinite(found.stress[0]).all():
            self.results["stress"] = found.stress[0]
        elif "stress" in properties:
            raise PropertyNotImplementedError(f"stress: {self.no_stress}")
        if found.energy_std is not None:
            self.deviations["energy_std"] = float(found.energy_std[0])
        if found.forces_std is not None:
            self.deviations["forces_std"] = found.forces_std[0]
        if found.atom_energies_std is not None:
            self.deviations["energies_std"] = found.atom_energies_std[0]
        if found.grades is not None:
            self.deviations["grades"] = found.grades[0]

    def _remember(self, atoms: ase.Atoms) -> None:
        """Keep a copy of what the results belong to, the last one with new positions where nothing else differs."""
        known = self.atoms
        if known is atoms:
            return
        if known is None or set(self.check_state(atoms)) - {"positions", "cell"}:
            self.atoms = ase.Atoms(
                numbers=atoms.numbers, positions=atoms.positions, cell=atoms.cell, pbc=atoms.pbc
            )
            for name in _INITIAL:
                if name in atoms.arrays:
                    self.atoms.set_array(name, atoms.arrays[name])
        else:
            known.positions[...] = atoms.positions
            known.cell[...] = atoms.cell


_INITIAL = ("initial_charges", "initial_magmoms")
"""Do not matter to a model, but ASE asks for them."""


def _same(a: Any, b: Any) -> bool:
    """Return whether two arrays of one shape and type are the same; bytes compare faster than numbers."""
    return a is b or (a is not None and b is not None and a.tobytes() == b.tobytes())


def _copies(values: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: np.copy(value) if isinstance(value, np.ndarray) else value for name, value in values.items()
    }
