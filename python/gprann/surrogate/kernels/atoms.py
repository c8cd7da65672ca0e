"""The kernel `atoms`: a sum over pairs of atomic environments of one species, compared by their descriptors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal, cast

import numpy as np
from numpy.typing import NDArray
from pydantic import PlainSerializer, PlainValidator, SkipValidation, field_validator

from gprann import _core
from gprann.arrays import Array
from gprann.data.structure import Dataset
from gprann.descriptors import (
    DESCRIPTORS,
    Descriptor,
    compress_descriptor,
    descriptor_from_dict,
    descriptor_to_dict,
)
from gprann.errors import ConfigError, nearest_name
from gprann.options import option
from gprann.runtime.resources import n_threads
from gprann.surrogate.kernels.base import Environments, Fingerprint, Kernel, Rows, register_kernel
from gprann.surrogate.kernels.internal_coordinates import observed_directions, strain_length

CUTOFF = 5.0
"""Å; cutoff of angles of the default descriptor, unless the data choose another one."""
_LARGE = 100
"""Descriptors of more components are compressed."""


def _descriptor(value: object) -> object:
    """Take a descriptor, or the settings that its `to_dict` gave."""
    if isinstance(value, Mapping):
        return descriptor_from_dict(value)
    if value is not None and not isinstance(value, Descriptor):
        raise ValueError(f"expected a descriptor, got {value!r}")
    return value


def _species_lengths(value: object) -> object:
    """Take a name, or a factor for each element."""
    table = isinstance(value, Mapping) and all(
        isinstance(factor, int | float) and not isinstance(factor, bool) for factor in value.values()
    )
    if not table and value not in (None, "likelihood"):
        raise ValueError(f'expected "likelihood" or a table of factors, {{ H = 0.7 }}, got {value!r}')
    return value


SpeciesLengths = Annotated[Literal["likelihood"] | dict[str, float], PlainValidator(_species_lengths)]
DescriptorOption = Annotated[
    SkipValidation[Any],
    PlainValidator(_descriptor),
    PlainSerializer(lambda descriptor: None if descriptor is None else descriptor_to_dict(descriptor)),
]


def default_descriptor(species: Sequence[str], angular_cutoff: float = CUTOFF) -> Descriptor:
    """Return the descriptor of surrogates to which none is given: the invariants of the density."""
    return DESCRIPTORS["density"].for_kernel(species, angular_cutoff=angular_cutoff)


@register_kernel
class AtomsKernel(Kernel):
    """Sum over the environments of the atoms: invariant, for any system, by far the most accurate.

    Examples
    --------
    >>> import gprann
    >>> gprann.AtomsKernel(radial="matern52", species_lengths={"H": 0.7}).species_lengths
    {'H': 0.7}
    """

    name = "atoms"
    fixed_order: ClassVar[bool] = False
    any_composition: ClassVar[bool] = True
    strains: ClassVar[bool] = True
    shift: ClassVar[float] = 0.0
    descriptor: DescriptorOption = option(
        "Descriptor of the environments; one of more than 100 components is compressed. Default: invariants of the "
        "density, angles within 4.0 or 5.0 Å, whichever predicts structures held out of the training set better, and "
        "up to three elements two radial functions in the 4-body part.",
        None,
    )
    species_lengths: SpeciesLengths | None = option(
        'Factors on the length for some species, or "likelihood": those that make a random subset of the training '
        "structures most likely; the length is then their geometric mean.",
        None,
        example={"H": 0.7},
    )
    relevance: bool = option(
        "Whether components of the descriptor on which the energy hardly depends get longer lengths.", False
    )

    @field_validator("species_lengths")
    @classmethod
    def _check_lengths(cls, given: str | dict[str, float] | None) -> str | dict[str, float] | None:
        for symbol, factor in given.items() if isinstance(given, Mapping) else ():
            if not (np.isfinite(factor) and factor > 0):
                raise ValueError(f"species_lengths: {symbol} = {factor}: expected a positive number")
        return given

    def fingerprint(self) -> Fingerprint:
        """Return a fingerprint that has not been fitted yet."""
        return AtomsFingerprint(self)


class AtomsFingerprint(Fingerprint):
    """One row per atom: its descriptor, standardised per species.

    Parameters
    ----------
    kernel : AtomsKernel

    Attributes
    ----------
    angular_cutoff : float, Å
        Of the default descriptor, where none was given.
    """

    def __init__(self, kernel: AtomsKernel) -> None:
        super().__init__(kernel)
        given = kernel.species_lengths
        self.likely_lengths, self.relevance = isinstance(given, str), kernel.relevance
        self._given_lengths: dict[str, float] = {} if given is None or isinstance(given, str) else dict(given)
        self._elsewhere: tuple[str, ...] = ()  # elements of other training sets
        self._species_lengths: dict[str, float] = {}
        self._given: Descriptor | None = kernel.descriptor
        self.angular_cutoff = CUTOFF
        self._descriptor: Descriptor | None = kernel.descriptor
        self._mean = np.zeros((0, 0))
        self._scale = np.zeros((0, 0))

    @property
    def descriptor_given(self) -> bool:
        """Whether the user gave the descriptor."""
        return self._given is not None

    @property
    def descriptor(self) -> Descriptor:
        """The descriptor in use; known after `fit` unless it was given."""
        if self._descriptor is None:
            raise ConfigError("the fingerprint has not been fitted yet")
        return self._descriptor

    def expect(self, species: Sequence[str]) -> None:
        """Let factors name elements of other training sets, see `Fingerprint.expect`."""
        known = [*species, *(() if self._given is None else self._given.species)]
        for symbol in self._given_lengths:
            if symbol not in known:
                raise ConfigError(f"species_lengths: {symbol}: {nearest_name(symbol, known)}")
        self._elsewhere = tuple(species)

    def fit(self, data: Dataset) -> None:
        """Fix the descriptor, and mean and scale of its components for each species."""
        self._descriptor = self._given or default_descriptor(data.species, self.angular_cutoff)
        if not self.descriptor.has_metric and self.descriptor.size > _LARGE:
            self._descriptor = compress_descriptor(self.descriptor, data)
        neighbours = self.descriptor.neighbours(data)
        values = self.descriptor.values(neighbours)
        n_species, size = len(self.descriptor.species), self.descriptor.size
        self._mean = np.zeros((n_species, size))
        deviations = np.zeros((n_species, size))
        present = [kind for kind in range(n_species) if np.any(neighbours.species == kind)]
        for kind in present:
            own = values[neighbours.species == kind]
            self._mean[kind], deviations[kind] = own.mean(axis=0), own.std(axis=0)
        self._scale = self.descriptor.kernel_scales(deviations)
        variances = [np.sum((deviations[kind] / self._scale[kind]) ** 2) for kind in present]
        self.spread = float(np.sqrt(max(np.mean(variances), 1e-12)))
        self._species_lengths = {}
        own = self.descriptor.species
        self.stretch_species(
            {s: x for s, x in self._given_lengths.items() if s in own or s not in self._elsewhere}
        )

    @property
    def kinds(self) -> tuple[str, ...]:
        """The species of the descriptor."""
        return tuple(self.descriptor.species)

    @property
    def mean(self) -> Array:
        """Mean of the components of each species, shape (species, D)."""
        return self._mean

    @property
    def scale(self) -> Array:
        """Scale of the components of each species, shape (species, D)."""
        return self._scale

    @property
    def species_lengths(self) -> dict[str, float]:
        """Factors on the kernel length for atoms of some species; known after `fit`."""
        return dict(self._species_lengths)

    def stretch_species(self, species_lengths: Mapping[str, float]) -> None:
        """Multiply the kernel lengths of some species, which have none of their own yet, by factors.

        Raises
        ------
        ConfigError
            If a species is unknown.
        """
        species = self.descriptor.species
        factors = np.ones((len(species), self.descriptor.size))
        for symbol, factor in species_lengths.items():
            if symbol not in species:
                raise ConfigError(f"species_lengths: {symbol}: {nearest_name(symbol, species)}")
            factors[species.index(symbol)] = factor
        self._species_lengths = dict(species_lengths)
        self.stretch(factors)

    def stretch(self, factors: Array) -> None:
        """Multiply the kernel lengths of the components of each species, (species, D), by factors."""
        self._scale = self._scale * factors

    def rows(self, data: Dataset) -> Rows:
        """Return the standardised descriptors, the atoms of every structure sorted by species."""
        neighbours = self.descriptor.neighbours(data)
        kinds = neighbours.species
        structure = np.repeat(np.arange(len(data)), np.diff(neighbours.first_atom))
        order = np.lexsort((kinds, structure))
        n_species = len(self.descriptor.species)
        counts = np.zeros((len(data), n_species), dtype=np.int64)
        np.add.at(counts, (structure, kinds), 1)
        kind_rows = np.zeros((len(data), n_species + 1), dtype=np.int64)
        kind_rows[:, 0] = neighbours.first_atom[:-1]
        kind_rows[:, 1:] = neighbours.first_atom[:-1, None] + np.cumsum(counts, axis=1)
        features = ((self.descriptor.values(neighbours) - self._mean[kinds]) / self._scale[kinds])[order]

        def gradients(slopes: Array) -> tuple[list[Array], Array]:
            cotangent = np.empty_like(slopes)
            cotangent[order] = slopes
            gradient, virials = self.descriptor.vjp(neighbours, cotangent / self._scale[kinds])
            return np.split(gradient, neighbours.first_atom[1:-1]), virials

        def tangents(displacements: Sequence[Array], strains: Array | None) -> Array:
            changes = self.descriptor.jvp(neighbours, np.concatenate(displacements), strains)
            return np.ascontiguousarray((changes / self._scale[kinds])[order])

        return Rows(kind_rows, np.ascontiguousarray(features), gradients, tangents)

    @property
    def local(self) -> bool:
        """True: rows are environments of atoms."""
        return True

    def environment_rows(
        self, data: Dataset, environments: Environments, kernel: _core.RadialKernel
    ) -> tuple[Array, Array, NDArray[np.int64]]:
        """Return the covariances with environments, see `Fingerprint.environment_rows`; no Jacobian is stored."""
        neighbours = self.descriptor.neighbours(data)
        kinds = neighbours.species
        features = (self.descriptor.values(neighbours) - self._mean[kinds]) / self._scale[kinds]
        strained = np.array([structure.stress is not None for structure in data], dtype=bool)
        lengths = np.zeros(len(data))
        lengths[strained] = [strain_length(structure) for structure in data if structure.stress is not None]
        first = np.concatenate([[0], np.cumsum(3 * data.n_atoms + 6 * strained)]).astype(np.int64)
        energies, gradients = (np.empty((len(environments), n)) for n in (len(data), int(first[-1])))
        _core.environment_rows(
            self.descriptor.core,
            neighbours.core,
            features,
            self._scale,
            environments.first,
            environments.features,
            kernel,
            first,
            lengths,
            n_threads(),
            energies,
            gradients,
        )
        return energies, gradients, first

    def jacobians(self, data: Dataset) -> list[Array]:
        """Return the Jacobians of the standardised descriptors along the observed directions."""
        neighbours = self.descriptor.neighbours(data)
        result = []
        for index, structure in enumerate(data):
            atoms = slice(neighbours.first_atom[index], neighbours.first_atom[index + 1])
            kinds = neighbours.species[atoms]
            strained = structure.stress is not None
            dense = self.descriptor.jacobian(neighbours, index, strained=strained)
            if strained:
                dense[:, :, -6:] /= strain_length(structure)
            dense = (dense / self._scale[kinds][:, :, None])[np.argsort(kinds, kind="stable")]
            directions = observed_directions(structure, self.invariant)
            result.append(dense.reshape(-1, dense.shape[2]) @ directions)
        return result

    def state(self) -> dict[str, Any]:
        """Return descriptor, mean and scale."""
        return {
            **super().state(),
            "descriptor": self.descriptor,
            "mean": self._mean,
            "scale": self._scale,
            "species_lengths": self.species_lengths,
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take what `state` gave."""
        super().restore(state)
        self._descriptor = cast("Descriptor", _descriptor(state["descriptor"]))
        self._mean, self._scale = state["mean"], state["scale"]
        self._species_lengths = dict(state["species_lengths"])

    def facts(self) -> dict[str, Any]:
        """Return the factors on the lengths of species, if there are any."""
        return {"species_lengths": self.species_lengths} if self._species_lengths else {}
