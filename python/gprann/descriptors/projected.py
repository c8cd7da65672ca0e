"""Another descriptor seen through one fixed matrix for each species, and the matrices that keep almost all of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Self

import numpy as np
from pydantic import Field, SkipValidation, field_validator, model_validator
from scipy.linalg import eigh

from gprann import _core
from gprann.arrays import Array
from gprann.data.structure import Dataset
from gprann.descriptors.base import (
    CompiledDescriptor,
    Descriptor,
    derived_descriptor,
    descriptor_from_dict,
    descriptor_to_dict,
)
from gprann.errors import ConfigError, check_whole

_ATOMS = 3000
"""Atoms whose environments decide on the matrices."""
_SAMPLES = 3
"""Changes of environments that are looked at, in units of the number of components."""
_ROUNDING = 1e-14  # of the largest variance, below which a direction is rounding
_ROWS = 1200
"""Environments, half as many at most, and changes of a species that are looked at, where components are many."""
_STEP = 0.1
"""Å; a change of the environment along a random displacement of this size counts as much as another environment."""


@derived_descriptor
class ProjectedDescriptor(CompiledDescriptor):
    """The features g = (G - offset) · M of another descriptor G, with one matrix M for each species of the atom.

    A few hundred features say almost what a thousand components do, and make kernels and networks as small and fast
    as with a descriptor of that size. `compress_descriptor` makes the matrices.

    Parameters
    ----------
    species : sequence of str
        Elements; those of `base`.
    base : Descriptor
        D components.
    matrices : ndarray, shape (n_species, D, d)
    offsets : ndarray, shape (n_species, D)

    Raises
    ------
    ConfigError
        If the shapes do not fit, or a number is not finite.

    Examples
    --------
    >>> import gprann
    >>> import numpy as np
    >>> base = gprann.ChebyshevDescriptor(["H"], angular_order=None)
    >>> first = np.eye(base.size)[None, :, :3]  # the first three of 13 components
    >>> few = gprann.ProjectedDescriptor(["H"], base=base, matrices=first, offsets=np.zeros((1, base.size)))
    >>> data = gprann.examples.hydrogen(2)
    >>> G, g = (item.values(item.neighbours(data)) for item in (base, few))
    >>> bool(abs(G[:, :3] - g).max() < 1e-12)
    True
    """

    name = "projected"

    base: SkipValidation[Any] = Field(description="The descriptor that is projected.")
    matrices: SkipValidation[Any] = Field(description="Matrices (species, D, d).", repr=False)
    offsets: SkipValidation[Any] = Field(description="Offsets (species, D).", repr=False)

    @field_validator("matrices", "offsets", mode="after")
    @classmethod
    def _as_array(cls, value: Any) -> Array:
        array = np.array(value, dtype=np.float64, order="C")
        if not np.isfinite(array).all():
            raise ValueError("matrices and offsets: expected finite numbers")
        array.setflags(write=False)
        return array

    @model_validator(mode="after")
    def _check_shapes(self) -> Self:
        if not isinstance(self.base, Descriptor):
            raise ValueError(f"base: expected a descriptor, got {self.base!r}")
        if tuple(self.species) != tuple(self.base.species):
            raise ValueError(f"species: those of the base are {' '.join(self.base.species)}")
        table = (len(self.species), self.base.size)
        if self.offsets.shape != table or self.matrices.ndim != 3 or self.matrices.shape[:2] != table:
            raise ValueError(
                f"matrices {self.matrices.shape} and offsets {self.offsets.shape}: expected "
                f"({table[0]}, {table[1]}, features) and {table}"
            )
        return self

    @cached_property
    def core(self) -> _core.ProjectedDescriptor:
        """The compiled descriptor."""
        return _core.ProjectedDescriptor(self.base.core, list(self.matrices), self.offsets)

    @property
    def costly(self) -> bool:
        """Whether derivatives take longer to compute than to read from memory."""
        return bool(self.base.costly)

    @property
    def has_metric(self) -> bool:
        """True: the matrices say how much each feature counts."""
        return True

    def kernel_scales(self, deviations: Array) -> Array:
        """Return ones: the matrices have scaled the features."""
        return np.ones_like(deviations)

    def to_dict(self) -> dict[str, Any]:
        """Return the base as plain data, and the arrays."""
        return {
            "base": descriptor_to_dict(self.base),
            "matrices": self.matrices,
            "offsets": self.offsets,
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Make the descriptor of what `to_dict` gave.

        Raises
        ------
        ConfigError
            If something is missing, or does not fit.
        """
        missing = {"base", "matrices", "offsets"} - set(values)
        if missing:
            raise ConfigError(
                f"projected descriptor: {', '.join(sorted(missing))} missing; save the model again"
            )
        base = descriptor_from_dict(values["base"])
        return cls(base.species, base=base, matrices=values["matrices"], offsets=values["offsets"])

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, ProjectedDescriptor)
            and self.base == other.base
            and np.array_equal(self.matrices, other.matrices)
            and np.array_equal(self.offsets, other.offsets)
        )

    def __hash__(self) -> int:
        return hash((repr(self.base), self.matrices.tobytes()))

    def __repr__(self) -> str:
        return f"ProjectedDescriptor({self.size} features of {self.base!r})"

    __str__ = __repr__


def compress_descriptor(
    descriptor: Descriptor,
    data: Dataset,
    *,
    scales: Array | None = None,
    tolerance: float = 1e-7,
    most: int = 600,
    seed: int = 0,
) -> ProjectedDescriptor:
    """Return the leading directions of a descriptor: principal components of environments and of their changes.

    Parameters
    ----------
    descriptor : Descriptor
    data : Dataset
        Structures, of which a random part counts if they are many; labels are not looked at.
    scales : ndarray, shape (n_species, D), optional
        What each component is divided by first. Default: `descriptor.kernel_scales`.
    tolerance : float
        Directions are kept that carry more than this fraction of the variance.
    most : int
        Most features.
    seed : int
        Of the random part, and of the displacements.

    Returns
    -------
    ProjectedDescriptor
        With the same number of features for all species; distances between its features are those between scaled
        components.

    Raises
    ------
    ConfigError
        If tolerance or most is impossible.

    Examples
    --------
    >>> import gprann
    >>> data = gprann.examples.hydrogen(7)
    >>> few = gprann.compress_descriptor(gprann.DensityDescriptor(["H"]), data)
    >>> few.size < 30
    True
    """
    check_whole(1, most=most)
    if not 0 <= tolerance < 1:
        raise ConfigError(f"tolerance = {tolerance}: expected a number from 0 to below 1")
    rng = np.random.default_rng(seed)
    sample = _random_part(data, rng)
    neighbours = descriptor.neighbours(sample)
    kinds = neighbours.species
    values = descriptor.values(neighbours)
    present = [kind for kind in range(len(descriptor.species)) if np.any(kinds == kind)]
    offsets = np.zeros((len(descriptor.species), descriptor.size))
    deviations = np.zeros_like(offsets)
    for kind in present:
        offsets[kind] = values[kinds == kind].mean(axis=0)
        deviations[kind] = values[kinds == kind].std(axis=0)
    scales = descriptor.kernel_scales(deviations) if scales is None else scales
    samples = _samples(descriptor, neighbours, (values - offsets[kinds]) / scales[kinds], scales, rng)
    spectra = {kind: _principal_directions(samples[kind], most) for kind in present}
    counts = [_leading(variances, tolerance) for variances, _ in spectra.values()]
    size = min(max(counts, default=1), most)
    matrices = np.zeros((*offsets.shape, size))
    for kind, (_, vectors) in spectra.items():
        leading = vectors[:, :size]
        count = leading.shape[1]
        signs = np.sign(leading[np.abs(leading).argmax(axis=0), np.arange(count)])
        matrices[kind, :, :count] = leading * signs / scales[kind][:, None]
    return ProjectedDescriptor(descriptor.species, base=descriptor, matrices=matrices, offsets=offsets)


def _random_part(data: Dataset, rng: np.random.Generator) -> Dataset:
    """Return random structures with enough atoms, and for each element that these lack the next one that has it."""
    order = rng.permutation(len(data))
    enough = int(np.searchsorted(np.cumsum(data.n_atoms[order]), _ATOMS)) + 1
    chosen = order[:enough].tolist()
    known = {symbol for k in chosen for symbol in data[k].symbols}
    for k in order[enough:].tolist():
        if not known.issuperset(data[k].symbols):
            chosen.append(k)
            known.update(data[k].symbols)
    return Dataset([data[k] for k in sorted(chosen)])


def _leading(variances: Array, tolerance: float) -> int:
    """Return how many variances are more than a fraction of their sum."""
    return max(1, int(np.sum(variances > tolerance * max(float(variances.sum()), 0.0))))


def _principal_directions(samples: _Samples, most: int) -> tuple[Array, Array]:
    """Return the largest variances of samples, descending, and their directions (D, count)."""
    if samples.moment is None:  # the products of few samples with each other are the smaller matrix
        rows = np.concatenate(samples.rows)
        variances, vectors = np.linalg.eigh(rows @ rows.T)
        variances, vectors = variances[::-1][:most], vectors[:, ::-1][:, :most]
        kept = max(1, int(np.sum(variances > _ROUNDING * max(variances[0], 0.0))))
        directions = rows.T @ vectors[:, :kept]
        lengths = np.maximum(np.linalg.norm(directions, axis=0), 1e-300)
        return variances[:kept], directions / lengths
    size = len(samples.moment)
    variances, vectors = eigh(samples.moment, subset_by_index=(max(0, size - most), size - 1))
    return variances[::-1], vectors[:, ::-1]


@dataclass
class _Samples:
    """Environments of one species, and their changes: as rows, or if these are many, their second moments."""

    most: int  # rows that are kept as such
    rows: list[Array] = field(default_factory=list)
    moment: Array | None = None
    count: int = 0

    def add(self, rows: Array) -> None:
        self.count += len(rows)
        self.rows.append(rows)
        if self.count > self.most:
            if self.moment is None:
                self.moment = np.zeros((rows.shape[1], rows.shape[1]))
            for part in self.rows:
                self.moment += part.T @ part
            self.rows = []


def _samples(
    descriptor: Descriptor, neighbours: Any, features: Array, scales: Array, rng: np.random.Generator
) -> dict[int, _Samples]:
    """Return for each species its environments, and their changes along displacements."""
    kinds = neighbours.species
    found, wanted, atoms = {}, {}, {}
    # So many directions span all changes of the largest structure; each structure moves along one of its own.
    most = 3 * int(np.diff(neighbours.first_atom).max(initial=0))
    rows = min(_SAMPLES * descriptor.size, _ROWS)
    for kind in np.unique(kinds).tolist():
        atoms[kind] = np.flatnonzero(kinds == kind)
        if len(atoms[kind]) > rows // 2:
            atoms[kind] = np.sort(rng.choice(atoms[kind], rows // 2, replace=False))
        count = len(atoms[kind])
        found[kind] = _Samples(descriptor.size)
        found[kind].add(features[atoms[kind]] / np.sqrt(count))
        wanted[kind] = min(-(-rows // count), most)
    for turn in range(max(wanted.values(), default=0)):
        tangents = descriptor.jvp(neighbours, rng.normal(size=(neighbours.n_atoms, 3)))
        for kind, count in wanted.items():
            if turn < count:
                own = tangents[atoms[kind]] / scales[kind]
                found[kind].add(own * (_STEP / np.sqrt(len(own) * count)))
    return found
