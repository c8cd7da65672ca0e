"""Potentials and surrogates in an external electric field."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from gprann.arrays import Array
from gprann.baselines import Coulomb, terms_of
from gprann.calculator import Calculator
from gprann.data.ase_calculator import PredictionCalculator
from gprann.data.prediction import Prediction
from gprann.data.structure import Dataset
from gprann.errors import ConfigError
from gprann.potential import Potential
from gprann.surrogate import Surrogate, SurrogateCalculator


class FieldCalculator(PredictionCalculator):
    """ASE calculator of a potential or a surrogate in an external electric field.

    Fixed charges q feel the field F: each contributes -q F . R to the energy and q F to the force on its atom.
    Positions are taken as they are: an ion that leaves the cell on one side must not be put back on the other.

    Parameters
    ----------
    model : Potential or Surrogate
        Of data without a field.
    field : sequence of three floats, V/Å
    charges : mapping of symbol to float, e, optional
        Those that the field sees. Default: those of the model's baseline `coulomb`, which are smaller where they were
        fitted: they stand for charges that electrons screen.

    Raises
    ------
    ConfigError
        If the field has not three components, or there are no charges: a model without does not feel a field.

    Examples
    --------
    >>> import gprann
    >>> data = gprann.examples.hydrogen(7)
    >>> surrogate = gprann.Surrogate(kernel="pairs").fit(data)
    >>> atoms = data[0].to_ase()
    >>> atoms.calc = gprann.FieldCalculator(surrogate, (0.0, 0.0, 0.1), charges={"H": 1.0})
    >>> round(float(atoms.get_forces().sum(axis=0)[2]), 6)
    0.2
    """

    def __init__(
        self,
        model: Potential | Surrogate,
        field: Sequence[float],
        charges: Mapping[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if not isinstance(model, Potential | Surrogate):
            raise ConfigError(f"model: expected a Potential or a Surrogate, got {type(model).__name__}")
        self.field = np.asarray(field, dtype=float)
        if self.field.shape != (3,) or not np.isfinite(self.field).all():
            raise ConfigError(f"field: expected three numbers, got {field!r}")
        self._model: PredictionCalculator = (
            Calculator(model) if isinstance(model, Potential) else SurrogateCalculator(model)
        )
        own = [term for term in terms_of(model.baseline) if isinstance(term, Coulomb)]
        self._charges = own if charges is None else [Coulomb(charges=dict(charges))]
        if not self._charges:
            raise ConfigError(
                "charges: the model has none, so that it does not feel a field; train it with the baseline coulomb, or "
                "give charges"
            )

    def predict(self, data: Dataset, properties: Sequence[str]) -> Prediction:
        """Return the prediction of the model, with the energy and the forces of its charges in the field."""
        found = self._model.predict(data, properties)
        charges: list[Array] = [
            np.sum([term.charges_of(structure) for term in self._charges], axis=0) for structure in data
        ]
        parts = [
            -own * (structure.positions @ self.field) for own, structure in zip(charges, data, strict=True)
        ]
        forces = [force + own[:, None] * self.field for force, own in zip(found.forces, charges, strict=True)]
        energies = None
        if found.atom_energies is not None:
            energies = [energy + part for energy, part in zip(found.atom_energies, parts, strict=True)]
        total = found.energy + np.array([float(part.sum()) for part in parts])
        return replace(found, energy=total, forces=forces, atom_energies=energies)
