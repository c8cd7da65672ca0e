"""Base class of the ASE calculators of potentials and of surrogates."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

import ase
import numpy as np
from ase.calculators.calculator import Calculator as AseCalculator
from ase.calculators.calculator import CalculatorSetupError, PropertyNotImplementedError, all_changes

from gprann.data.prediction import Prediction
from gprann.data.structure import Dataset, Structure
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
    def predict(self, data: Dataset, properties: Sequence[str]) -> Prediction:
        """Return the prediction for a structure, with the standard deviations among the properties."""

    def reset(self) -> None:
        """Forget all results."""
        super().reset()
        self.deviations = {}

    def get_property(self, name: str, atoms: ase.Atoms | None = None, allow_calculation: bool = True) -> Any:
        """Return a result for atoms, computed where it is not known.

        Raises
        ------
        PropertyNotImplementedError
            If there is no such property, or none of these atoms.
        """
        if name not in self.deviation_names:
            return super().get_property(name, atoms, allow_calculation)
        if atoms is not None and self.check_state(atoms):
            self.reset()
        if name not in self.deviations and allow_calculation:
            self.calculate(self.atoms if atoms is None else atoms, [name], [])
        if name not in self.deviations:
            if allow_calculation:
                needed = "a model with a guard" if name == "grades" else "a committee of at least two members"
                raise PropertyNotImplementedError(f"{name}: it needs {needed}")
            return None
        return np.copy(self.deviations[name]) if np.ndim(self.deviations[name]) else self.deviations[name]

    def calculate(
        self,
        atoms: ase.Atoms | None = None,
        properties: Sequence[str] = ("energy",),
        system_changes: Sequence[str] = tuple(all_changes),
    ) -> None:
        """Compute all results for `atoms`, and those standard deviations that `properties` names.

        Raises
        ------
        DataError
            If the elements are not those of the model, or two atoms lie on top of each other.
        PropertyNotImplementedError
            If the stress is asked for and not known.
        """
        super().calculate(atoms, properties, system_changes)
        if system_changes:
            self.results, self.deviations = {}, {}
        structure = bare_structure(self.atoms)
        if "stress" in properties and not structure.pbc.all():
            raise PropertyNotImplementedError(f"stress: {self.no_stress}")
        try:
            found = self.predict(Dataset([structure]), properties)
        except AtomsTooCloseError as error:
            raise AtomsTooCloseError(
                error.fact,
                "in a simulation the structure has left what the model learned: use a shorter time step or a lower "
                "temperature, or train with structures from before this step (gprann.select finds them)",
            ) from None
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


def bare_structure(atoms: ase.Atoms | None) -> Structure:
    """Return positions and cell alone: labels of another calculator have no place here.

    Raises
    ------
    CalculatorSetupError
        If there are no atoms.
    """
    if atoms is None:
        raise CalculatorSetupError("no atoms: assign the calculator to an Atoms object, or pass one")
    return Structure(
        tuple(atoms.get_chemical_symbols()), atoms.positions, np.asarray(atoms.cell[:]), np.asarray(atoms.pbc)
    )
