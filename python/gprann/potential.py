"""Neural-network potentials: one network, or a committee that differs by seed."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from gprann import _core
from gprann.arrays import Array
from gprann.baselines import (
    Baseline,
    BaselineLike,
    BaselineSum,
    ReferenceEnergies,
    keep_baseline,
    restore_baseline,
    terms_of,
)
from gprann.baselines.reference_energies import is_spanned
from gprann.data.moving import MovingStructure
from gprann.data.neighbours import Neighbourhood
from gprann.data.prediction import Prediction, voigt_stress
from gprann.data.structure import Composition, Dataset, format_composition
from gprann.descriptors import Descriptor, descriptor_from_dict, descriptor_to_dict
from gprann.errors import ConfigError, FormatError, listing
from gprann.io.reading import Source, structures
from gprann.model_file import read_kind, read_model_file, write_model_file
from gprann.models import MODELS, AtomModel, Guard, Mlp, Model, Normalisation
from gprann.runtime.resources import n_threads

if TYPE_CHECKING:
    from gprann.surrogate import Surrogate, SurrogateSet

_log = logging.getLogger(__name__)
_BATCH = 256  # structures whose neighbour lists are held at a time


@dataclass(frozen=True, slots=True)
class AtomicPrediction:
    """Predictions of all K networks for a batch of structures, without the baseline; atoms numbered through.

    Attributes
    ----------
    atom_energies : ndarray, shape (K, n_atoms), eV
        Of the networks alone: without the baseline.
    forces : ndarray, shape (K, n_atoms, 3), eV/Å
    virials : ndarray, shape (K, n, 3, 3), eV
        dE/d(strain).
    first_atom : ndarray of int64, shape (n + 1,)
    grades : ndarray, shape (n_atoms,), or None
        Of the extrapolation guard.
    """

    atom_energies: Array
    forces: Array
    virials: Array
    first_atom: NDArray[np.int64]
    grades: Array | None = None

    @property
    def energies(self) -> Array:
        """Total energies, shape (K, n), eV."""
        sums: Array = np.add.reduceat(self.atom_energies, self.first_atom[:-1], axis=1)
        return sums


@dataclass(eq=False, repr=False, slots=True)
class Potential:
    """A trained potential with K members on one descriptor; K = 1 is a single network.

    Parameters
    ----------
    descriptor : Descriptor
    normalisation : Normalisation
        Of the descriptor, from the training set.
    model : AtomModel
    parameters : ndarray, shape (K, P)
    baseline : Baseline
        What was subtracted from the labels, usually reference energies; it is added to every prediction.
    energy_scale : float, eV
        Unit of the networks' output.
    std_factors : tuple of two floats
        On the standard deviations of energies and forces over the members, see `calibrate_committee`.
    provenance : mapping
        How the potential was made: plain data.
    guard : Guard, optional
        Grades the environments of atoms by their distance to those of the training set; None for potentials of before
        there were guards.

    Examples
    --------
    >>> import gprann
    >>> data = gprann.examples.hydrogen(7)
    >>> descriptor = gprann.ChebyshevDescriptor(["H"], radial_order=10, radial_cutoff=8.0, angular_order=None)
    >>> potential = gprann.train(data, descriptor, hidden=(5, 5), optimizer="lm", iterations=20, seed=1)
    >>> len(potential), potential.species, potential.predict(data).energy.shape
    (1, ('H',), (7,))
    """

    descriptor: Descriptor
    normalisation: Normalisation
    model: AtomModel
    parameters: Array
    _: KW_ONLY
    baseline: Baseline = field(default_factory=BaselineSum)
    energy_scale: float = 1.0
    std_factors: tuple[float, float] = (1.0, 1.0)
    provenance: Mapping[str, Any] = field(default_factory=dict)
    guard: Guard | None = None
    _workspace: _core.CommitteeWorkspace = field(default_factory=_core.CommitteeWorkspace, init=False)
    _compared: set[Composition] = field(default_factory=set, init=False)  # with those of the training set

    def __post_init__(self) -> None:
        self.parameters = np.ascontiguousarray(np.atleast_2d(self.parameters))

    def __len__(self) -> int:
        return len(self.parameters)

    def __getitem__(self, member: int | slice) -> Potential:
        """Return one member, or some, as a potential of its own."""
        return replace(self, parameters=self.parameters[member])

    @property
    def species(self) -> tuple[str, ...]:
        """Elements the potential knows."""
        return tuple(self.descriptor.species)

    @property
    def reference_energies(self) -> dict[str, float]:
        """Reference energy E0 of each element, eV; empty if the baseline has none."""
        terms = [term for term in terms_of(self.baseline) if isinstance(term, ReferenceEnergies)]
        return {
            symbol: sum((term.energies or {}).get(symbol, 0.0) for term in terms)
            for symbol in self.species
            if terms
        }

    @property
    def cutoff(self) -> float:
        """Distance beyond which atoms do not see each other, Å."""
        return self.descriptor.cutoff

    def __repr__(self) -> str:
        return f"Potential({len(self)} x {self.model!r}; {self.descriptor!r})"

    # -------------------------------------------------------------- predict
    def evaluate(self, neighbours: Neighbourhood | MovingStructure) -> AtomicPrediction:
        """Return what the networks add to the baseline, for prepared neighbour lists."""
        committee = (
            self.model.core,
            self.descriptor.core,
            self.normalisation.mean,
            self.normalisation.inverse_scale,
            self.parameters,
        )
        rest = (n_threads(), self._workspace, None if self.guard is None else self.guard.core)
        if isinstance(neighbours, MovingStructure):
            found = _core.evaluate_moving(*committee, neighbours.core, *rest)
        else:
            found = _core.evaluate_committee(*committee, neighbours.core, *rest)
        energies, gradients, virials, grades = found
        energies *= self.energy_scale
        gradients *= -self.energy_scale
        virials *= self.energy_scale
        return AtomicPrediction(energies, gradients, virials, neighbours.first_atom, grades)

    def predict(self, data: Source) -> Prediction:
        """Predict energies, forces and stresses; a committee with mean and standard deviation.

        Parameters
        ----------
        data : Dataset, or anything that `gprann.read` takes

        Returns
        -------
        Prediction

        Raises
        ------
        DataError
            If a structure has an element that the potential does not know, or atoms on top of each other.

        Notes
        -----
        A warning of the log tells, once, of compositions whose energies the training set does not determine: those
        that are no linear combination of its compositions, where no reference energies were given.
        """
        data = structures(data)
        parts = []
        for begin in range(0, len(data), _BATCH):
            batch = data[begin : begin + _BATCH]
            parts.append((batch, self.evaluate(self.descriptor.neighbours(batch))))
        return self._complete(data, parts)

    def predict_moving(self, moving: MovingStructure) -> Prediction:
        """Predict as `predict` does, for one structure whose neighbour lists are kept: what calculators need."""
        data = Dataset([moving.structure])
        return self._complete(data, [(data, self.evaluate(moving))])

    def _complete(self, data: Dataset, parts: Sequence[tuple[Dataset, AtomicPrediction]]) -> Prediction:
        """Return the prediction for all batches, with baseline, mean and standard deviation."""
        energies: list[Array] = [np.zeros((len(self), 0))]
        stresses: list[Array] = [np.zeros((0, 6))]
        forces: list[Array] = []
        atom_energies: list[Array] = []
        grades: list[Array] = []
        for batch, result in parts:
            virials = _mean(result.virials)
            energies.append(result.energies)
            stresses.append(np.array([voigt_stress(s, v) for s, v in zip(batch, virials, strict=True)]))
            for first, end in pairwise(result.first_atom.tolist()):
                forces.append(result.forces[:, first:end])
                atom_energies.append(result.atom_energies[:, first:end])
                if result.grades is not None:
                    grades.append(result.grades[first:end])
        member_energy = np.concatenate(energies, axis=1)
        committee = len(self) > 1
        by_energy, by_force = self.std_factors
        networks = Prediction(
            _mean(member_energy),
            [_mean(own) for own in forces],
            energy_std=by_energy * member_energy.std(axis=0) if committee else None,
            forces_std=[by_force * own.std(axis=0) for own in forces] if committee else None,
            stress=np.concatenate(stresses),
            member_energy=member_energy if committee else None,
            member_forces=forces if committee else None,
            atom_energies=[_mean(own) for own in atom_energies],
            atom_energies_std=[by_energy * own.std(axis=0) for own in atom_energies] if committee else None,
            grades=None if self.guard is None else grades,
        )
        self._compare_compositions(data)
        return self.baseline.add(data, networks)

    def _compare_compositions(self, data: Dataset) -> None:
        """Warn of compositions that are no linear combination of those of the training set.

        Least squares leave their reference energies open: the total energy may be wrong by thousands of eV.
        """
        training = self.provenance.get("training", {})
        known = [tuple(numbers.items()) for numbers in training.get("compositions", [])]
        if not known or training.get("reference_energies_given"):
            return  # a file of before these records does not tell
        outside = []
        for structure in data:
            if structure.composition not in self._compared:
                self._compared.add(structure.composition)
                if not is_spanned(structure.composition, known):
                    outside.append(structure)
        if outside:
            _log.warning(
                "%s (%s): the training set (%s) does not determine the total energy of this composition, which may be "
                "wrong by any amount; train with reference_energies (or a baseline that has them), or with isolated "
                "atoms or structures of such compositions%s",
                outside[0].origin,
                outside[0].formula,
                listing([format_composition(one) for one in known]),
                f" (so for {len(outside)} compositions)" if len(outside) > 1 else "",
            )

    # ----------------------------------------------------------------- file
    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the potential to one portable file; see `load`.

        Raises
        ------
        ConfigError
            If a baseline is not registered: a file could not name it.
        WriteError
            If the file cannot be written; what stood there before is unchanged.
        """
        document = {
            "kind": "potential",
            "baselines": keep_baseline(self.baseline),
            "descriptor": descriptor_to_dict(self.descriptor),
            "model": MODELS.to_dict(self.model.options),
            "energy_scale": self.energy_scale,
            "std_factors": list(self.std_factors),
            "units": {"energy": "eV", "length": "Å"},
            "provenance": self.provenance,
        }
        if self.guard is not None:
            document["guard"] = {"reach": dict(self.guard.reach)}
        arrays = {
            "parameters": self.parameters,
            "feature_mean": self.normalisation.mean,
            "feature_inverse_scale": self.normalisation.inverse_scale,
            **({} if self.guard is None else self.guard.arrays),
        }
        write_model_file(path, document, arrays)

    @classmethod
    def load(
        cls,
        path: str | os.PathLike[str],
        *,
        baseline: BaselineLike = None,
    ) -> Potential:
        """Read a potential that `save` wrote; calculators among its baselines are handed over, see `gprann.load`.

        Raises
        ------
        FormatError
            If the file is missing, damaged, of a newer format, holds something else, or names a descriptor, model or
            baseline that is not registered here.
        """
        document, arrays = read_model_file(path)
        kind = document.get("kind", "potential")
        if kind != "potential":
            raise FormatError(
                f"{os.fspath(path)}: holds {_with_article(kind)}, not a potential; gprann.load reads either"
            )
        try:
            return _from_file(document, arrays, baseline)
        except ConfigError as error:
            raise FormatError(f"{os.fspath(path)}: {error}") from error
        except (AttributeError, KeyError, TypeError, ValueError, OverflowError, MemoryError) as error:
            raise FormatError(
                f"{os.fspath(path)}: the description of the potential is incomplete or damaged ({error})"
            ) from error


def _mean(members: Array) -> Array:
    """Return the mean over the members; of one itself."""
    return np.asarray(members[0] if len(members) == 1 else members.mean(axis=0))


def load(
    path: str | os.PathLike[str],
    *,
    baseline: BaselineLike = None,
) -> Potential | Surrogate | SurrogateSet:
    """Read a potential, a surrogate or a set of surrogates that `save` wrote.

    Parameters
    ----------
    path : path
    baseline : Baseline, its name, or a list of these, optional
        The calculators on which the potential builds, which a file does not name as code: as `CalculatorBaseline`.
        Other baselines stand in the file.

    Raises
    ------
    FormatError
        If the file is missing, damaged, of a newer format, holds something else, or names a descriptor, model or
        baseline that is not registered here.

    Examples
    --------
    >>> import gprann, tempfile
    >>> from pathlib import Path
    >>> data = gprann.examples.hydrogen(7)
    >>> descriptor = gprann.ChebyshevDescriptor(["H"], angular_order=None)
    >>> potential = gprann.train(data, descriptor, hidden=(3,), iterations=2, starts=1)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     potential.save(Path(folder) / "potential.gprann")
    ...     loaded = gprann.load(Path(folder) / "potential.gprann")
    >>> bool((loaded.predict(data).energy == potential.predict(data).energy).all())
    True
    """
    if read_kind(path).startswith("surrogate"):
        from gprann.surrogate.sets.surrogate_set import load_surrogate

        return load_surrogate(path, baseline=baseline)
    return Potential.load(path, baseline=baseline)


def _std_factors(document: Mapping[str, Any]) -> tuple[float, float]:
    energy, force = (float(value) for value in document.get("std_factors", (1.0, 1.0)))
    if not (0 < energy < np.inf and 0 < force < np.inf):
        raise ValueError(f"std_factors are {energy} and {force}")
    return energy, force


def _from_file(document: Mapping[str, Any], arrays: Mapping[str, Array], baseline: BaselineLike) -> Potential:
    """Return the potential that a model file describes."""
    descriptor = descriptor_from_dict(document["descriptor"])
    model = _load_model(document["model"]).build(descriptor.size, len(descriptor.species))
    scale = float(document["energy_scale"])
    if not np.isfinite(scale):
        raise ValueError(f"energy_scale is {scale}")
    table = (len(descriptor.species), descriptor.size)
    expected = {
        "parameters": (max(1, len(arrays["parameters"])), model.n_parameters),
        "feature_mean": table,
        "feature_inverse_scale": table,
    }
    for name, shape in expected.items():
        if arrays[name].shape != shape:
            raise ValueError(f"'{name}' has shape {arrays[name].shape}, expected {shape}")
    return Potential(
        descriptor,
        Normalisation(arrays["feature_mean"], arrays["feature_inverse_scale"]),
        model,
        arrays["parameters"],
        baseline=_load_baseline(document, arrays, descriptor.species, baseline),
        energy_scale=scale,
        std_factors=_std_factors(document),
        provenance=dict(document.get("provenance", {})),
        guard=Guard.from_arrays(arrays, document.get("guard", {}), *table),
    )


def _with_article(noun: str) -> str:
    return f"{'an' if noun[:1] in 'aeiou' else 'a'} {noun}"


def _load_model(options: Mapping[str, Any]) -> Model:
    """Return the kind of model that a file describes; version 1 knew networks alone, by another name."""
    if options["kind"] == "network":
        return Mlp.from_dict({name: value for name, value in options.items() if name != "kind"})
    return MODELS.from_dict(options)


def _load_baseline(
    document: Mapping[str, Any], arrays: Mapping[str, Array], species: Sequence[str], given: BaselineLike
) -> Baseline:
    """Return the baseline that a model file describes; version 1 knew reference energies alone."""
    if "baselines" in document:
        return restore_baseline(document["baselines"], given)
    values = arrays["reference_energies"].tolist()
    return ReferenceEnergies(energies=dict(zip(species, values, strict=True)))
