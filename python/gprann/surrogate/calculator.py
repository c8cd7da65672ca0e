"""ASE calculator of a surrogate."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import ase

from gprann.data.ase_calculator import PredictionCalculator
from gprann.data.moving import bare_structure
from gprann.data.prediction import Prediction
from gprann.data.structure import Dataset
from gprann.errors import ConfigError
from gprann.surrogate.surrogate import Surrogate


class SurrogateCalculator(PredictionCalculator):
    """ASE calculator of a fitted surrogate.

    Parameters
    ----------
    surrogate : Surrogate or path
        Fitted, or the file it was saved to; it predicts structures of its own composition.

    Notes
    -----
    `results` holds `energy` and `free_energy` (eV), `forces` (eV/Å) and, with the atoms kernel and a cell that is
    periodic in all directions, `stress` (eV/Å³). The standard deviations `energy_std` (eV) and `forces_std` (N, 3)
    (eV/Å) cost far more: they are computed when they are asked for with `get_property`, and are then in `deviations`.

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

    deviation_names = ("energy_std", "forces_std")
    no_stress = "needs the kernel 'atoms' and a cell that is periodic in three directions"

    def __init__(self, surrogate: Surrogate | str | os.PathLike[str], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if isinstance(surrogate, str | os.PathLike):
            surrogate = Surrogate.load(surrogate)
        if not isinstance(surrogate, Surrogate):
            raise ConfigError(f"surrogate: expected a fitted Surrogate, got {type(surrogate).__name__}")
        self.surrogate = surrogate

    def predict(self, atoms: ase.Atoms, properties: Sequence[str]) -> Prediction:
        """Return the prediction of the surrogate, with those standard deviations that are asked for."""
        return self.surrogate.predict(
            Dataset([bare_structure(atoms)]),
            std="energy_std" in properties,
            forces_std="forces_std" in properties,
        )
