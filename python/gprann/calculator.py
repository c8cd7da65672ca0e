"""ASE calculator of potentials."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from typing import Any

import ase

from gprann.data.ase_calculator import PredictionCalculator
from gprann.data.moving import SKIN, MovingStructure
from gprann.data.prediction import Prediction
from gprann.errors import ConfigError
from gprann.potential import Potential


class Calculator(PredictionCalculator):
    """ASE calculator of a potential or a committee.

    Parameters
    ----------
    potential : Potential or path
        A trained potential, or the file it was saved to.
    skin : float, Å
        Neighbour lists hold all pairs within the cutoff and this, and are kept until an atom has moved by half of it.
        The results do not depend on it; 0 looks for the pairs at every step.

    Notes
    -----
    `results` holds `energy` and `free_energy` (eV), `energies` (per atom, eV), `forces` (eV/Å) and `stress` (Voigt,
    eV/Å³; periodic structures only). `deviations` holds the standard deviations of a committee, `energy_std` (eV),
    `forces_std` (N, 3) (eV/Å) and `energies_std` (N,) (eV); `get_property` gives them as well, and `snapshot` a copy of
    the atoms that carries all of them into files.
    Atoms may change in any way between two calls. A calculator serves one thread; several may share a potential.

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

    def __init__(
        self, potential: Potential | str | os.PathLike[str], *, skin: float = SKIN, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        if not isinstance(potential, Potential | str | os.PathLike):
            raise ConfigError(
                f"potential: expected a Potential or its file, got {type(potential).__name__}; the calculator of "
                "surrogates is SurrogateCalculator"
            )
        if not (isinstance(skin, int | float) and 0 <= skin < math.inf):
            raise ConfigError(f"skin = {skin}: expected a length in Å, 0 or more")
        self.potential = potential if isinstance(potential, Potential) else Potential.load(potential)
        self.moving = MovingStructure(self.potential.cutoff, self.potential.species, skin)

    def predict(self, atoms: ase.Atoms, properties: Sequence[str]) -> Prediction:  # noqa: ARG002 - all cost the same
        """Return the prediction of the potential."""
        self.moving.follow(atoms)
        return self.potential.predict_moving(self.moving)
