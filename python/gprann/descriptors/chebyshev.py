"""Chebyshev descriptor of Artrith, Urban and Ceder, Phys. Rev. B 96, 014112 (2017)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from ase.data import atomic_numbers
from numpy.typing import ArrayLike, NDArray

from gprann import _core
from gprann.data.neighbours import Neighbourhood, build_neighbours
from gprann.data.structure import Structure
from gprann.errors import ConfigError
from gprann.runtime.parallel import n_threads

__all__ = ["ChebyshevDescriptor", "aenet_weights"]

Array = NDArray[np.float64]
_MAX_ORDER = 24


def aenet_weights(n_species: int) -> list[float]:
    """Return ænet's weights (typespin): integers about 0, which is one of them only if `n_species` is odd.

    Examples
    --------
    >>> aenet_weights(2), aenet_weights(3), aenet_weights(4)
    ([-1.0, 1.0], [-1.0, 0.0, 1.0], [-2.0, -1.0, 1.0, 2.0])
    """
    half = n_species // 2
    return [float(k) for k in range(-half, half + 1) if k != 0 or n_species % 2]


class ChebyshevDescriptor:
    """Chebyshev descriptor: radial and angular sums over neighbours, once per channel of species weights.

    Parameters
    ----------
    species : sequence of str
        Elements; their order sets the default weights.
    radial_order : int
        Highest Chebyshev polynomial of the distances.
    radial_cutoff : float, Å
    angular_order : int or None
        Highest Chebyshev polynomial of the cosine of the angles; None for no angular part.
    angular_cutoff : float, Å
    weights : array_like, shape (n_channels, n_species) or (n_species,), optional
        Species weights of the channels after the first, which counts every neighbour as 1. Default: ænet's
        typespin (with one species no further channel), so that the components are those of the ænet program.

    Raises
    ------
    ConfigError
        If a species is no element or listed twice, or an order, cutoff or weight is impossible.

    Notes
    -----
    Order of the components: [radial | angular] of the first channel, then of the next.

    Examples
    --------
    >>> descriptor = ChebyshevDescriptor(["C", "H", "O"])
    >>> descriptor.size, descriptor.cutoff
    (36, 6.5)
    """

    def __init__(
        self,
        species: Sequence[str],
        *,
        radial_order: int = 12,
        radial_cutoff: float = 6.5,
        angular_order: int | None = 4,
        angular_cutoff: float = 4.0,
        weights: ArrayLike | None = None,
    ) -> None:
        self._species = _checked_species(species)
        for name, order in (("radial_order", radial_order), ("angular_order", angular_order)):
            if order is not None and not 0 <= order <= (_MAX_ORDER if name == "angular_order" else 200):
                raise ConfigError(
                    f"{name} = {order}: expected 0 to {_MAX_ORDER if name == 'angular_order' else 200}"
                )
        for name, cutoff in (("radial_cutoff", radial_cutoff), ("angular_cutoff", angular_cutoff)):
            if not (np.isfinite(cutoff) and cutoff > 0):
                raise ConfigError(f"{name} = {cutoff}: expected a positive distance in Å")
        self.radial_order = int(radial_order)
        self.radial_cutoff = float(radial_cutoff)
        self.angular_order = None if angular_order is None else int(angular_order)
        self.angular_cutoff = float(angular_cutoff)
        self.weights = _channels(len(self._species), weights)
        self._kernel = _core.ChebyshevDescriptor(
            self.radial_order,
            self.radial_cutoff,
            -1 if self.angular_order is None else self.angular_order,
            self.angular_cutoff,
            self.weights,
        )

    @property
    def species(self) -> tuple[str, ...]:
        """Elements in the order in which they were listed."""
        return self._species

    @property
    def size(self) -> int:
        """Number of components D."""
        return self._kernel.size

    @property
    def cutoff(self) -> float:
        """Larger of the two cutoffs, Å."""
        return self._kernel.cutoff

    @property
    def kernel(self) -> _core.ChebyshevDescriptor:
        """The compiled descriptor."""
        return self._kernel

    def neighbours(self, structures: Sequence[Structure]) -> Neighbourhood:
        """Return the neighbour lists of a batch of structures.

        Raises
        ------
        DataError
            If a structure has an element that the descriptor does not know, or atoms on top of each other.
        """
        return build_neighbours(structures, self.cutoff, self._species)

    def values(self, neighbours: Neighbourhood) -> Array:
        """Return G, shape (n_atoms, D)."""
        return self._kernel.values(neighbours.kernel, n_threads())

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
        flat = np.zeros((0, 9)) if strains is None else np.ascontiguousarray(strains.reshape(-1, 9))
        return self._kernel.jvp(neighbours.kernel, np.ascontiguousarray(direction), flat, n_threads())

    def vjp(self, neighbours: Neighbourhood, cotangent: Array) -> tuple[Array, Array]:
        """Return (dG/dR)ᵀ · cotangent, shape (n_atoms, 3), and the virials, shape (n, 3, 3).

        The virial of a structure is the derivative of cotangent · G with respect to a strain of positions and
        cell.
        """
        gradient, virial = self._kernel.vjp(neighbours.kernel, np.ascontiguousarray(cotangent), n_threads())
        return gradient, virial.reshape(-1, 3, 3)

    def jacobian(self, neighbours: Neighbourhood, structure: int, *, strained: bool = False) -> Array:
        """Return the dense Jacobian of one structure, shape (N, D, 3N), 1/Å: 24 N² D bytes.

        With `strained` (N, D, 3N + 6), last the derivatives with respect to the strains in Voigt's order, 1.
        """
        dense = self._kernel.jacobian(neighbours.kernel, structure, strained)
        return dense.reshape(-1, self.size, dense.shape[1])

    def to_dict(self) -> dict[str, Any]:
        """Return the settings as plain data."""
        return {
            "kind": "chebyshev",
            "species": list(self._species),
            "radial_order": self.radial_order,
            "radial_cutoff": self.radial_cutoff,
            "angular_order": self.angular_order,
            "angular_cutoff": self.angular_cutoff,
            "weights": self.weights[1:].tolist(),
        }

    @classmethod
    def from_dict(cls, settings: Mapping[str, Any]) -> ChebyshevDescriptor:
        """Make a descriptor from what `to_dict` gave."""
        values = {key: value for key, value in settings.items() if key != "kind"}
        return cls(values.pop("species"), **values)

    def __repr__(self) -> str:
        angular = (
            "no angular part"
            if self.angular_order is None
            else f"angular {self.angular_order}, {self.angular_cutoff} Å"
        )
        return (
            f"ChebyshevDescriptor({' '.join(self._species)}; "
            f"radial {self.radial_order}, {self.radial_cutoff} Å; "
            f"{angular}; {self.size} components)"
        )


def _checked_species(species: Sequence[str]) -> tuple[str, ...]:
    names = (species,) if isinstance(species, str) else tuple(species)
    if not names:
        raise ConfigError("species: at least one element is needed")
    for name in names:
        if atomic_numbers.get(name, 0) == 0:
            raise ConfigError(f"species: '{name}' is not a chemical element")
    if len(set(names)) < len(names):
        raise ConfigError(f"species: an element is listed twice in {', '.join(names)}")
    return names


def _channels(n_species: int, weights: ArrayLike | None) -> Array:
    """Return all channels, shape (n_channels, n_species): ones, then the given or ænet's weights."""
    ones = np.ones((1, n_species))
    if weights is None:
        return ones if n_species == 1 else np.vstack([ones, aenet_weights(n_species)])
    given = np.asarray(weights, dtype=np.float64)
    if given.size == 0:
        return ones
    given = np.atleast_2d(given)
    if given.ndim != 2 or given.shape[1] != n_species or not np.isfinite(given).all():
        raise ConfigError(
            f"weights: shape {given.shape}, expected (channels, {n_species}) finite numbers, "
            "one for each species"
        )
    return np.ascontiguousarray(np.vstack([ones, given]))
