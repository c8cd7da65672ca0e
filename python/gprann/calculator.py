"""ASE calculator of potentials."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from gprann.data.ase_calculator import PredictionCalculator
from gprann.data.prediction import Prediction
from gprann.data.structure import Dataset
from gprann.errors import ConfigError
from gprann.potential import Potential


class Calculator(PredictionCalculator):
    """ASE calculator of a potential or a committee.

    Parameters
    ----------
    potential : Potential or path
        A trained potential, or the file it was saved to.

    Notes
    -----
    `results` holds `energy` and `free_energy` (eV), `energies` (per atom, eV), `forces` (eV/Å) and `stress` (Voigt,
    eV/Å³; periodic structures only). `deviations` holds the standard deviations of a committee, `energy_std` (eV),
    `forces_std` (N, 3) (eV/Å) and `energies_std` (N,) (eV); `get_property` gives them as well.

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

    def __init__(self, potential: Potential | str | os.PathLike[str], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if not isinstance(potential, Potential | str | os.PathLike):
            raise ConfigError(
                f"potential: expected a Potential or its file, got {type(potential).__name__}; the calculator of "
                "surrogates is SurrogateCalculator"
            )
        self.potential = potential if isinstance(potential, Potential) else Potential.load(potential)

    def predict(self, data: Dataset, properties: Sequence[str]) -> Prediction:  # noqa: ARG002 - all cost the same
        """Return the prediction of the potential."""
        return self.potential.predict(data)
