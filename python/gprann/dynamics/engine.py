"""Energy, forces and standard deviations of the atoms of a simulation, without ASE's comparisons in between."""

from __future__ import annotations

from collections.abc import Sequence

import ase
import numpy as np
from ase.calculators.calculator import PropertyNotImplementedError

from gprann.arrays import Array
from gprann.calculator import Calculator, GuardMode
from gprann.data.ase_calculator import PredictionCalculator
from gprann.data.structure import Structure
from gprann.dynamics.integrators import State
from gprann.dynamics.options import MdOptions
from gprann.errors import ConfigError
from gprann.potential import Potential
from gprann.surrogate import Surrogate, SurrogateCalculator


class Engine:
    """A model and the atoms that it moves.

    Parameters
    ----------
    model : Potential or Surrogate
    structure : Structure
    options : MdOptions
    guard : {'warn', 'stop', 'collect', 'off'}
        What a potential does where it extrapolates.

    Raises
    ------
    ConfigError
        If the options ask for something that the model does not know.
    """

    def __init__(
        self,
        model: Potential | Surrogate,
        structure: Structure,
        options: MdOptions,
        *,
        guard: GuardMode = "warn",
    ) -> None:
        self.atoms: ase.Atoms = structure.without_labels().to_ase()
        self.calculator = make_calculator(model, options.skin, guard)
        self._properties: Sequence[str] = ("forces", "stress") if options.ensemble == "npt" else ("forces",)
        self.deviates = not isinstance(model, Potential) or len(model) > 1
        self.deviates_always = isinstance(model, Potential) and self.deviates
        if options.max_deviation is not None and not self.deviates:
            raise ConfigError(
                f"max_deviation = {options.max_deviation}: the potential is a single network, which has no standard "
                "deviation; train a committee (members), or leave it out"
            )

        if options.max_grade is not None and not (isinstance(model, Potential) and model.guard is not None):
            raise ConfigError(
                f"max_grade = {options.max_grade}: the model has no extrapolation guard; leave it out, or give a "
                "potential to gprann.add_guard"
            )

    def evaluate(self, state: State) -> None:
        """Compute energy, forces and, where there is one, the stress at the positions of a state.

        Raises
        ------
        DataError
            If the model refuses the positions: atoms on top of each other, or numbers that are not finite.
        ConfigError
            If a stress is needed and the model has none.
        """
        self._place(state)
        try:
            self.calculator.calculate(self.atoms, self._properties, ("positions", "cell"))
        except PropertyNotImplementedError as error:
            raise ConfigError(f"ensemble = npt: {error}") from error
        results = self.calculator.results
        state.energy = results["energy"]
        np.multiply(results["forces"], state.free, out=state.forces)
        state.stress = results.get("stress")

    def deviations(self, state: State) -> Array | None:
        """Return the standard deviation of the force on each atom, shape (N,), eV/Å; None if there is none."""
        if not self.deviates:
            return None
        if not self.deviates_always:
            self._place(state)
            self.calculator.get_property("forces_std", self.atoms)
        found: Array = self.calculator.deviations["forces_std"]
        return np.asarray(np.sqrt(np.einsum("ik,ik->i", found, found)))

    def grades(self) -> Array | None:
        """Return the extrapolation grade of each atom at the last evaluation, shape (N,); None without a guard."""
        found: Array | None = self.calculator.deviations.get("grades")
        return found

    def nearest(self) -> tuple[int, int, float] | None:
        """Return the nearest atoms and their distance, where the calculator has looked for them."""
        if not isinstance(self.calculator, Calculator):
            return None
        return self.calculator.moving.core.nearest()

    def _place(self, state: State) -> None:
        self.atoms.positions[...] = state.positions
        self.atoms.cell[...] = state.cell


def make_calculator(
    model: Potential | Surrogate, skin: float, guard: GuardMode = "warn"
) -> PredictionCalculator:
    """Return the calculator of a model."""
    return (
        Calculator(model, skin=skin, guard=guard)
        if isinstance(model, Potential)
        else SurrogateCalculator(model)
    )
