"""ASE calculator of potentials."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import ase
from ase.calculators.calculator import Calculator as AseCalculator
from ase.calculators.calculator import PropertyNotImplementedError, all_changes

from gprann.data.structure import Dataset
from gprann.errors import ConfigError
from gprann.potential import Potential, load
from gprann.surrogate.calculator import bare_structure

__all__ = ["Calculator"]


class Calculator(AseCalculator):
    """ASE calculator of a potential or a committee.

    Parameters
    ----------
    potential : Potential or path
        A trained potential, or the file it was saved to.

    Notes
    -----
    `results` holds `energy` and `free_energy` (eV), `energies` (per atom, eV), `forces` (eV/Å), `stress`
    (Voigt, eV/Å³; periodic structures only) and, for a committee, `energy_std` (eV), `forces_std` (N, 3)
    (eV/Å) and `energies_std` (N,) (eV).

    Examples
    --------
    >>> import gprann
    >>> data = gprann.examples.hydrogen(7)
    >>> descriptor = gprann.ChebyshevDescriptor(["H"], radial_order=10, radial_cutoff=8.0, angular_order=None)
    >>> potential = gprann.train(data, descriptor, hidden=(5, 5), optimizer="lm", iterations=20, seed=1)
    >>> atoms = data[0].to_ase()
    >>> atoms.calc = gprann.Calculator(potential)
    >>> atoms.get_forces().shape
    (2, 3)
    """

    # ASE declares a list of the instance here, and so must we.
    implemented_properties: list[str] = ["energy", "free_energy", "energies", "forces", "stress"]  # noqa: RUF012

    def __init__(self, potential: Potential | str | os.PathLike[str], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if not isinstance(potential, Potential | str | os.PathLike):
            raise ConfigError(
                f"potential: expected a Potential or its file, got {type(potential).__name__}; the calculator of "
                "surrogates is SurrogateCalculator"
            )
        self.potential = potential if isinstance(potential, Potential) else load(potential)

    def calculate(
        self,
        atoms: ase.Atoms | None = None,
        properties: Sequence[str] = ("energy",),
        system_changes: Sequence[str] = tuple(all_changes),
    ) -> None:
        """Compute all results for `atoms`.

        Raises
        ------
        DataError
            If an element is unknown to the potential or two atoms lie on top of each other.
        PropertyNotImplementedError
            If the stress of a structure is asked for that is not periodic in three directions.
        """
        super().calculate(atoms, properties, system_changes)
        structure = bare_structure(self.atoms)
        if "stress" in properties and not structure.pbc.all():
            raise PropertyNotImplementedError("stress needs a structure that is periodic in three directions")
        prediction = self.potential.predict(Dataset([structure]))
        energy = float(prediction.energy[0])
        self.results = {"energy": energy, "free_energy": energy, "forces": prediction.forces[0]}
        if prediction.atom_energies is not None:
            self.results["energies"] = prediction.atom_energies[0]
        if prediction.stress is not None and structure.pbc.all():
            self.results["stress"] = prediction.stress[0]
        if prediction.energy_std is not None:
            self.results["energy_std"] = float(prediction.energy_std[0])
        if prediction.atom_energies_std is not None:
            self.results["energies_std"] = prediction.atom_energies_std[0]
        if prediction.forces_std is not None:
            self.results["forces_std"] = prediction.forces_std[0]
