"""What every descriptor offers; the rest of the program uses nothing else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from gprann.data.neighbours import Neighbourhood
from gprann.data.structure import Structure

__all__ = ["Descriptor"]

Array = NDArray[np.float64]


class Descriptor(Protocol):
    """G(R) and the products with its Jacobian, which itself is never stored.

    `neighbours` prepares a batch of structures once; `values` gives G (n_atoms, D), `jvp` dG/dR · v, `vjp`
    (dG/dR)ᵀ · β with the virials.
    """

    @property
    def species(self) -> tuple[str, ...]:
        """Elements in the order in which the user listed them."""

    @property
    def size(self) -> int:
        """Number of components D."""

    @property
    def cutoff(self) -> float:
        """Distance beyond which an atom has no influence, Å."""

    def neighbours(self, structures: Sequence[Structure]) -> Neighbourhood:
        """Return the neighbour lists of a batch."""

    def values(self, neighbours: Neighbourhood) -> Array:
        """Return G, shape (n_atoms, D)."""

    def jvp(self, neighbours: Neighbourhood, direction: Array) -> Array:
        """Return dG/dR · direction, shape (n_atoms, D), for `direction` of shape (n_atoms, 3)."""

    def vjp(self, neighbours: Neighbourhood, cotangent: Array) -> tuple[Array, Array]:
        """Return (dG/dR)ᵀ · cotangent, shape (n_atoms, 3), and the virials, shape (n, 3, 3)."""

    def jacobian(self, neighbours: Neighbourhood, structure: int) -> Array:
        """Return the dense Jacobian of one structure, shape (N, D, 3N), 1/Å."""

    def to_dict(self) -> Mapping[str, Any]:
        """Return the settings as plain data, for model files."""
