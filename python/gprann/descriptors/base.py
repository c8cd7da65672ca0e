"""The interface of descriptors; the rest of the program uses nothing else."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Annotated, Any, Self

import numpy as np
from ase.data import atomic_numbers
from pydantic import BeforeValidator, Field

from gprann import _core
from gprann.arrays import Array
from gprann.data.neighbours import Neighbourhood, build_neighbours
from gprann.data.structure import Structure
from gprann.options import Named, Registry
from gprann.runtime.resources import n_threads

MOST_STORED = 3 * 2**30
"""Bytes of derivatives that are kept at most; a constant, so that results do not depend on the machine."""
_FLOOR = 1e-3
"""Smallest scale of a component as a fraction of the largest: constant ones must not be blown up."""


def _check_species(species: Any) -> tuple[str, ...]:
    names = (species,) if isinstance(species, str) else tuple(species)
    if not names:
        raise ValueError("species: at least one element is needed")
    for name in names:
        if not isinstance(name, str) or atomic_numbers.get(name, 0) == 0:
            raise ValueError(f"species: '{name}' is not a chemical element")
    if len(set(names)) < len(names):
        raise ValueError(f"species: an element is listed twice in {', '.join(names)}")
    return names


class Descriptor(Named, ABC):
    """A descriptor of atomic environments: G(R) and the products with its Jacobian, which is never stored.

    A subclass declares its options as fields, and defines `size`, `cutoff`, `values`, `jvp` and `vjp`, for example in
    plain NumPy. Networks, losses and surrogates then work with it; they call it for one structure at a time.
    `register_descriptor` makes it known by its `name` to configurations and files.

    Parameters
    ----------
    species : sequence of str
        Elements, in the order in which the descriptor counts them.

    Raises
    ------
    ConfigError
        If a species is no element or listed twice, or an option is impossible.

    Examples
    --------
    >>> import gprann
    >>> import numpy as np
    >>> class Gaussians(gprann.Descriptor):
    ...     '''Sum over neighbours of exp(-(r / width)²), without a cutoff function.'''
    ...     width: float = gprann.option("Width of the Gaussian, Å.", 1.0, gt=0)
    ...     @property
    ...     def size(self):
    ...         return 1
    ...     @property
    ...     def cutoff(self):
    ...         return 6.0 * self.width
    ...     def _terms(self, neighbours):
    ...         return np.exp(-np.sum((neighbours.vectors / self.width) ** 2, axis=1))
    ...     def values(self, neighbours):
    ...         return np.bincount(neighbours.centres, self._terms(neighbours), neighbours.n_atoms)[:, None]
    ...     def _slopes(self, neighbours):
    ...         return -2 / self.width**2 * self._terms(neighbours)[:, None] * neighbours.vectors
    ...     def jvp(self, neighbours, direction, strains=None):
    ...         changes = neighbours.vector_changes(direction, strains)
    ...         terms = np.sum(self._slopes(neighbours) * changes, axis=1)
    ...         return np.bincount(neighbours.centres, terms, neighbours.n_atoms)[:, None]
    ...     def vjp(self, neighbours, cotangent):
    ...         return neighbours.collect(cotangent[neighbours.centres] * self._slopes(neighbours))
    >>> descriptor = Gaussians(["H"], width=0.5)
    >>> molecule = gprann.Structure(("H", "H"), [[0, 0, 0], [0.5, 0, 0]])
    >>> descriptor.values(descriptor.neighbours([molecule])).round(3)
    array([[0.368],
           [0.368]])
    >>> descriptor.to_dict()
    {'species': ['H'], 'width': 0.5}
    """

    species: Annotated[Sequence[str], BeforeValidator(_check_species)] = Field(
        kw_only=False, description="Elements, in the order in which the descriptor counts them."
    )

    @property
    @abstractmethod
    def size(self) -> int:
        """Number of components D."""

    @property
    @abstractmethod
    def cutoff(self) -> float:
        """Distance beyond which an atom has no influence, Å."""

    @abstractmethod
    def values(self, neighbours: Neighbourhood) -> Array:
        """Return G, shape (n_atoms, D)."""

    @abstractmethod
    def jvp(self, neighbours: Neighbourhood, direction: Array, strains: Array | None = None) -> Array:
        """Return dG/dR · direction + dG/dε · strains, shape (n_atoms, D).

        Parameters
        ----------
        neighbours : Neighbourhood
            Of n structures.
        direction : ndarray, shape (n_atoms, 3), Å
        strains : ndarray, shape (n, 3, 3), optional
            Of positions and cell of each structure. Default: none.
        """

    @abstractmethod
    def vjp(self, neighbours: Neighbourhood, cotangent: Array) -> tuple[Array, Array]:
        """Return (dG/dR)ᵀ · cotangent, shape (n_atoms, 3), and the virials, shape (n, 3, 3).

        The virial of a structure is the derivative of cotangent · G with respect to a strain of positions and
        cell.
        """

    @property
    def has_metric(self) -> bool:
        """Whether distances between descriptors count as they are, or each component is to be scaled first."""
        return False

    def kernel_scales(self, deviations: Array) -> Array:
        """Return what kernels divide each component by: its deviation, small ones raised.

        Parameters
        ----------
        deviations : ndarray, shape (n_species, D)
            Standard deviations of the components over the environments of each species.

        Returns
        -------
        ndarray, shape (n_species, D)
            Positive; ones for a species whose components are all constant.
        """
        largest = deviations.max(axis=1, keepdims=True, initial=0.0)
        return np.where(largest > 0, np.maximum(deviations, _FLOOR * largest), 1.0)

    @property
    def costly(self) -> bool:
        """Whether derivatives take longer to compute than to read from memory."""
        return False

    def core_for(self, neighbours: Neighbourhood) -> _core.Descriptor:  # noqa: ARG002
        """Return the compiled descriptor for many products with the same neighbours."""
        return self.core

    @property
    def core(self) -> _core.Descriptor:
        """The descriptor as the compiled core takes it."""
        return _core.PythonDescriptor(self, Neighbourhood)

    def neighbours(self, structures: Sequence[Structure]) -> Neighbourhood:
        """Return the neighbour lists of a batch of structures.

        Raises
        ------
        DataError
            If a structure has an element that the descriptor does not know, or atoms on top of each other.
        """
        return build_neighbours(structures, self.cutoff, self.species)

    def jacobian(self, neighbours: Neighbourhood, structure: int, *, strained: bool = False) -> Array:
        """Return the dense Jacobian of one structure, shape (N, D, 3N), 1/Å: 24 N² D bytes.

        With `strained` (N, D, 3N + 6), last the derivatives with respect to the strains in Voigt's order, 1.
        """
        dense = self.core.jacobian(neighbours.core, structure, strained)
        return dense.reshape(-1, self.size, dense.shape[1])

    @classmethod
    def for_kernel(cls, species: Sequence[str], **options: Any) -> Self:
        """Return a descriptor with the defaults that suit a Gaussian-process kernel, where they differ."""
        return cls(species, **options)

    def __copy__(self) -> Self:
        return self  # immutable

    def __deepcopy__(self, memo: dict[int, Any] | None = None) -> Self:
        return self

    def __reduce__(self) -> tuple[Callable[..., Self], tuple[()]]:
        options = {name: getattr(self, name) for name in type(self).model_fields}
        return partial(type(self), **options), ()


class CompiledDescriptor(Descriptor):
    """A descriptor whose products the compiled core computes: a subclass defines `core` alone."""

    @property
    @abstractmethod
    def core(self) -> _core.Descriptor:
        """The compiled descriptor."""

    @property
    def size(self) -> int:
        """Number of components D."""
        return self.core.size

    @property
    def cutoff(self) -> float:
        """Distance beyond which an atom has no influence, Å."""
        return self.core.cutoff

    def core_for(self, neighbours: Neighbourhood) -> _core.Descriptor:
        """Return the compiled descriptor for many products; a costly one with its derivatives, up to 3 GiB, kept."""
        stored = 24 * len(neighbours.neighbour) * self.size
        if not (self.costly and 0 < stored <= MOST_STORED):
            return self.core
        return _core.StoredDescriptor(self.core, neighbours.core, n_threads())

    def values(self, neighbours: Neighbourhood) -> Array:
        """Return G, shape (n_atoms, D)."""
        return self.core.values(neighbours.core, n_threads())

    def jvp(self, neighbours: Neighbourhood, direction: Array, strains: Array | None = None) -> Array:
        """Return dG/dR · direction + dG/dε · strains, shape (n_atoms, D) (see `Descriptor.jvp`)."""
        flat = np.zeros((0, 9)) if strains is None else np.ascontiguousarray(strains.reshape(-1, 9))
        return self.core.jvp(neighbours.core, np.ascontiguousarray(direction), flat, n_threads())

    def vjp(self, neighbours: Neighbourhood, cotangent: Array) -> tuple[Array, Array]:
        """Return (dG/dR)ᵀ · cotangent and the virials (see `Descriptor.vjp`)."""
        gradient, virial = self.core.vjp(neighbours.core, np.ascontiguousarray(cotangent), n_threads())
        return gradient, virial.reshape(-1, 3, 3)


DESCRIPTORS: Registry[Descriptor] = Registry("descriptor", Descriptor)  # type: ignore[type-abstract]
register_descriptor = DESCRIPTORS.register


_DERIVED: dict[str, type[Descriptor]] = {}


def derived_descriptor(kind: type[Descriptor]) -> type[Descriptor]:
    """Make a descriptor known to files that the program makes of another one: no configuration names it."""
    _DERIVED[kind.name] = kind
    return kind


def descriptor_to_dict(descriptor: Descriptor) -> dict[str, Any]:
    """Return kind and options of a descriptor as plain data, for a file; with arrays if it is made of some.

    Raises
    ------
    ConfigError
        If its class is not registered: the file could not be read again.
    """
    if _DERIVED.get(descriptor.name) is type(descriptor):
        return {"kind": descriptor.name, **descriptor.to_dict()}
    return DESCRIPTORS.to_dict(descriptor)


def descriptor_from_dict(settings: Mapping[str, Any]) -> Descriptor:
    """Make a descriptor from what `descriptor_to_dict` gave.

    Raises
    ------
    ConfigError
        If no descriptor of this kind is registered here.
    """
    derived = _DERIVED.get(str(settings.get("kind")))
    return DESCRIPTORS.from_dict(settings) if derived is None else derived.from_dict(settings)
