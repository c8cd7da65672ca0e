"""ASE calculator of a surrogate."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import ase
import numpy as np
from ase.calculators.calculator import Calculator as AseCalculator
from ase.calculators.calculator import CalculatorSetupError, PropertyNotImplementedError, all_changes

from gprann.data.structure import Dataset, Structure
from gprann.errors import ConfigError
from gprann.surrogate.surrogate import Surrogate

__all__ = ["SurrogateCalculator", "bare_structure"]


class SurrogateCalculator(AseCalculator):
    """ASE calculator of a fitted surrogate.

    Parameters
    ----------
    surrogate : Surrogate
        Fitted; it predicts structures of its own composition.

    Notes
    -----
    `results` holds `energy` and `free_energy` (eV), `forces` (eV/Å) and, with the atoms kernel and a cell that is
    periodic in all directions, `stress` (eV/Å³). The standard deviations `energy_std`
    (eV) and `forces_std` (N, 3) (eV/Å) cost far more, and are computed when they are asked for with
    `get_property`.

    Examples
    --------
    >>> import gprann
    >>> data = gprann.examples.hydrogen(7)
    >>> atoms = data[0].to_ase()
    >>> atoms.calc = gprann.SurrogateCalculator(gprann.Surrogate(kernel="pairs").fit(data))
    >>> atoms.get_forces().shape, sorted(atoms.calc.results)
    ((2, 3), ['energy', 'forces', 'free_energy'])
    >>> bool(atoms.calc.get_property("energy_std", atoms) < 0.01)
    True
    """

    implemented_properties: list[str] = [  # noqa: RUF012
        "energy",
        "free_energy",
        "forces",
        "stress",
        "energy_std",
        "forces_std",
    ]

    def __init__(self, surrogate: Surrogate, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if not isinstance(surrogate, Surrogate):
            raise ConfigError(f"surrogate: expected a fitted Surrogate, got {type(surrogate).__name__}")
        self.surrogate = surrogate

    def calculate(
        self,
        atoms: ase.Atoms | None = None,
        properties: Sequence[str] = ("energy",),
        system_changes: Sequence[str] = tuple(all_changes),
    ) -> None:
        """Compute energy and forces for `atoms`, and those standard deviations that `properties` names.

        Raises
        ------
        DataError
            If the atoms are not those of the surrogate's composition or two lie on top of each other.
        ConfigError
            If the surrogate has not been fitted.
        PropertyNotImplementedError
            If the stress is asked for and not known.
        """
        super().calculate(atoms, properties, system_changes)
        data = Dataset([bare_structure(self.atoms)])
        forces_std = "forces_std" in properties
        prediction = self.surrogate.predict(data, std="energy_std" in properties, forces_std=forces_std)
        energy = float(prediction.energy[0])
        # Updated, not replaced: for unchanged atoms ASE asks for one property after the other.
        self.results.update(energy=energy, free_energy=energy, forces=prediction.forces[0])
        if prediction.stress is not None and np.isfinite(prediction.stress[0]).all():
            self.results["stress"] = prediction.stress[0]
        elif "stress" in properties:
            raise PropertyNotImplementedError(
                "stress: needs the kernel 'atoms' and a cell that is periodic in three directions"
            )
        if prediction.energy_std is not None:
            self.results["energy_std"] = float(prediction.energy_std[0])
        if prediction.forces_std is not None:
            self.results["forces_std"] = prediction.forces_std[0]


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
