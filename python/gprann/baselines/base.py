"""The interface of baselines, and their sum.

A baseline is subtracted from the labels before a potential is trained or a surrogate is fitted, and is added to every
prediction:

    E = E_baseline + E_model,  and the same for forces and stresses.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import numpy as np
from pydantic import ConfigDict

from gprann.arrays import Array
from gprann.data.prediction import Prediction
from gprann.data.structure import Dataset
from gprann.errors import ConfigError, DataError
from gprann.options import Named, Registry


@dataclass(frozen=True, slots=True)
class Contribution:
    """The contribution of a baseline to the energies, forces and stresses of n structures.

    Attributes
    ----------
    energy : ndarray, shape (n,), eV
    forces : list of n ndarrays, shape (N, 3), eV/Å, or None
        None where the baseline exerts no forces.
    stress : ndarray, shape (n, 6), eV/Å³, or None
        Voigt order xx yy zz yz xz xy; None where the baseline exerts none.
    atom_energies : list of n ndarrays, shape (N,), eV, or None
        The energies divided among the atoms. Default: in equal parts.
    """

    energy: Array
    forces: list[Array] | None = None
    stress: Array | None = None
    atom_energies: list[Array] | None = None

    def _shares(self, data: Dataset) -> list[Array]:
        """Return the energies divided among the atoms."""
        return self.atom_energies or [
            np.full(len(structure), energy / len(structure))
            for structure, energy in zip(data, self.energy, strict=True)
        ]

    def check(self, data: Dataset, name: str) -> None:
        """Refuse arrays of the wrong shape and numbers that are not finite.

        Raises
        ------
        DataError
            Naming the baseline, the quantity and the structure.
        """
        for quantity, per_atom, columns in (
            ("energy", False, ()),
            ("stress", False, (6,)),
            ("forces", True, (3,)),
            ("atom_energies", True, ()),
        ):
            values = getattr(self, quantity)
            if values is None:
                continue
            if len(values) != len(data):
                raise DataError(
                    f"baseline {name}: {quantity} is given for {len(values)} structures instead of {len(data)}"
                )
            for structure, value in zip(data, values, strict=True):
                shape = (len(structure), *columns) if per_atom else columns
                if np.shape(value) != shape:
                    raise DataError(
                        f"baseline {name}: {quantity} of {structure.origin} has shape {np.shape(value)}, "
                        f"expected {shape}"
                    )
                if not (np.isfinite(value).all() or quantity == "stress"):
                    raise DataError(f"baseline {name}: {quantity} of {structure.origin} is not finite")


class Baseline(Named):
    """A contribution to the energy that needs no training.

    A subclass declares its options with `gprann.option`, and implements `evaluate`. With a `name` and after
    `register_baseline` it can be named in configurations and saved with a potential.

    Examples
    --------
    >>> import gprann
    >>> import numpy as np
    >>> class Constant(gprann.Baseline):
    ...     name = "constant"
    ...     energy: float = 0.0
    ...
    ...     def evaluate(self, data):
    ...         return gprann.Contribution(np.full(len(data), self.energy))
    >>> data = gprann.examples.hydrogen(3)
    >>> bool(np.allclose(Constant(energy=-20.0).subtract(data).energies, data.energies + 20.0))
    True
    """

    model_config = ConfigDict(arbitrary_types_allowed=True)
    reads_attachments: ClassVar[bool] = True
    """Whether it reads more of a structure than elements, positions and cell: charges, say."""

    @abstractmethod
    def evaluate(self, data: Dataset) -> Contribution:
        """Return the contribution to the energies, forces and stresses of the structures."""

    def fit(self, data: Dataset, species: Sequence[str]) -> Self:  # noqa: ARG002 - most have nothing to fit
        """Return the baseline after fitting it to the labels; most have nothing to fit.

        Parameters
        ----------
        data : Dataset
            Structures with energies.
        species : sequence of str
            Elements that the model will know.
        """
        return self

    def __add__(self, other: Baseline) -> BaselineSum:
        return BaselineSum(terms=(*terms_of(self), *terms_of(other)))

    def _check_contribution(self, data: Dataset) -> Contribution:
        contribution = self.evaluate(data)
        contribution.check(data, f"'{self.name}'" if self.name else type(self).__name__)
        return contribution

    def subtract(self, data: Dataset) -> Dataset:
        """Return the structures with the labels that are left when the baseline is taken away.

        Labels that a structure does not have stay absent.

        Raises
        ------
        DataError
            If a structure has a stress for which the baseline gives none.
        """
        contribution = self._check_contribution(data)
        structures = []
        for k, structure in enumerate(data):
            changes: dict[str, object] = {}
            if structure.energy is not None:
                changes["energy"] = structure.energy - float(contribution.energy[k])
            if structure.forces is not None and contribution.forces is not None:
                changes["forces"] = structure.forces - contribution.forces[k]
            if structure.stress is not None and contribution.stress is not None:
                if not np.isfinite(contribution.stress[k]).all():
                    raise DataError(
                        f"{structure.origin}: has a stress, but the baseline {self} gives none for it; leave stresses "
                        "out of the data, or choose another baseline"
                    )
                changes["stress"] = structure.stress - contribution.stress[k]
            structures.append(structure.replace(**changes) if changes else structure)
        return Dataset(structures)

    def add(self, data: Dataset, prediction: Prediction) -> Prediction:
        """Return the prediction of a model that was fitted to `subtract(...)`, completed by the baseline.

        Standard deviations stay as they are: a baseline is exact.
        """
        contribution = self._check_contribution(data)
        energy = contribution.energy
        changes: dict[str, Any] = {"energy": prediction.energy + energy}
        if prediction.member_energy is not None:
            changes["member_energy"] = prediction.member_energy + energy
        if prediction.atom_energies is not None:
            changes["atom_energies"] = _sums(prediction.atom_energies, contribution._shares(data))
        if contribution.forces is not None and prediction.forces:
            changes["forces"] = _sums(prediction.forces, contribution.forces)
            if prediction.member_forces is not None:
                changes["member_forces"] = _sums(prediction.member_forces, contribution.forces)
        if contribution.stress is not None and prediction.stress is not None:
            changes["stress"] = prediction.stress + contribution.stress
        return replace(prediction, **changes)


BaselineLike = Baseline | str | Mapping[str, Any] | Sequence[Any] | None
"""What `as_baseline` takes."""
BASELINES = Registry("baseline", Baseline)  # type: ignore[type-abstract]
register_baseline = BASELINES.register


class BaselineSum(Baseline):
    """The sum of some baselines; of none it is zero.

    Examples
    --------
    >>> from gprann.baselines import ReferenceEnergies
    >>> both = ReferenceEnergies(energies={"H": -13.6}) + ReferenceEnergies(energies={"H": -0.5})
    >>> len(both.terms)
    2
    """

    terms: tuple[Baseline, ...] = ()

    def evaluate(self, data: Dataset) -> Contribution:
        """Return the sum of the contributions of all terms."""
        total = Contribution(np.zeros(len(data)))
        for term in self.terms:
            part = term._check_contribution(data)
            total = Contribution(
                total.energy + part.energy,
                _sums(total.forces, part.forces),
                part.stress
                if total.stress is None
                else (total.stress if part.stress is None else total.stress + part.stress),
                _sums(total._shares(data), part._shares(data)),
            )
        return total

    def subtract(self, data: Dataset) -> Dataset:
        """Return the structures with the labels that are left when all terms are taken away."""
        for term in self.terms:
            data = term.subtract(data)
        return data

    def fit(self, data: Dataset, species: Sequence[str]) -> Self:
        """Return the sum with every term fitted to what the terms before it leave."""
        fitted: list[Baseline] = []
        for term in self.terms:
            fitted.append(term.fit(data, species))
            data = fitted[-1].subtract(data)
        return type(self)(terms=tuple(fitted))


def terms_of(baseline: Baseline) -> tuple[Baseline, ...]:
    """Return the baselines of which one is the sum: itself, or its terms."""
    return baseline.terms if isinstance(baseline, BaselineSum) else (baseline,)


def as_baseline(given: BaselineLike) -> Baseline:
    """Return a baseline: given as one, by its name, as a table `{"kind": name, ...}`, or as a list of these.

    Raises
    ------
    ConfigError
        If a name or an option is unknown, or what is given is no baseline.

    Examples
    --------
    >>> as_baseline({"kind": "reference_energies", "energies": {"H": -13.6}})
    ReferenceEnergies(energies={'H': -13.6})
    """
    if isinstance(given, Baseline):
        return given
    if isinstance(given, str):
        return BASELINES.make(given)
    if isinstance(given, Mapping):
        return BASELINES.from_dict(given)
    if given is not None and not isinstance(given, Sequence):
        raise ConfigError(f"baseline: expected a Baseline, its name or a list of them, got {given!r}")
    terms = [term for item in given or () for term in terms_of(as_baseline(item))]
    return terms[0] if len(terms) == 1 else BaselineSum(terms=tuple(terms))


def _sums(first: Sequence[Array] | None, second: Sequence[Array] | None) -> list[Array] | None:
    """Return the sums of two lists of arrays, either of which may be absent."""
    if first is None or second is None:
        return None if first is second else list(first or second or ())
    return [a + b for a, b in zip(first, second, strict=True)]
