"""Chebyshev descriptor of Artrith, Urban and Ceder, Phys. Rev. B 96, 014112 (2017)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Annotated, Any, Self

import numpy as np
from pydantic import BeforeValidator, field_validator, model_validator

from gprann import _core
from gprann.arrays import Array
from gprann.descriptors.base import CompiledDescriptor, register_descriptor
from gprann.descriptors.weights import channel_rows
from gprann.options import OrderOrNone, option

_HIGHEST = {"radial_order": 200, "angular_order": 24}


def aenet_weights(n_species: int) -> list[float]:
    """Return ænet's weights (typespin): integers about 0, which is one of them only if `n_species` is odd.

    Examples
    --------
    >>> aenet_weights(2), aenet_weights(3), aenet_weights(4)
    ([-1.0, 1.0], [-1.0, 0.0, 1.0], [-2.0, -1.0, 1.0, 2.0])
    """
    half = n_species // 2
    return [float(k) for k in range(-half, half + 1) if k != 0 or n_species % 2]


def nonzero_weights(n_species: int) -> list[float]:
    """Return species weights without a zero, so that every species is seen: -1, 1, 2 for three.

    Examples
    --------
    >>> nonzero_weights(2), nonzero_weights(3), nonzero_weights(4)
    ([-1.0, 1.0], [-1.0, 1.0, 2.0], [-2.0, -1.0, 1.0, 2.0])
    """
    below = n_species // 2
    return [float(k) for k in range(-below, 0)] + [float(k) for k in range(1, n_species - below + 1)]


@register_descriptor
class ChebyshevDescriptor(CompiledDescriptor):
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
    >>> import gprann
    >>> descriptor = gprann.ChebyshevDescriptor(["C", "H", "O"])
    >>> descriptor.size, descriptor.cutoff
    (36, 6.5)
    """

    name = "chebyshev"

    radial_order: int = option("Highest Chebyshev polynomial of the distances.", 12)
    radial_cutoff: float = option("Cutoff of the distances.", 6.5, unit="Å", gt=0)
    angular_order: OrderOrNone = option(
        'Highest Chebyshev polynomial of the angles; "none" for no angular part.', 4, none="none"
    )
    angular_cutoff: float = option("Cutoff of the angular part.", 4.0, unit="Å", gt=0)
    weights: Annotated[Any, BeforeValidator(channel_rows)] = option(
        "Weights by which the descriptor tells elements apart: lists in the order of the species, one for each channel "
        "after the first, which has none. Default: those of the ænet program; for the surrogate the same without a "
        "zero.",
        None,
        example=[[-1.0, 1.0, 2.0]],
    )

    @field_validator("radial_order", "angular_order")
    @classmethod
    def _check_order(cls, order: int | None, info: Any) -> int | None:
        highest = _HIGHEST[info.field_name]
        if order is not None and not 0 <= order <= highest:
            raise ValueError(f"{info.field_name} = {order}: expected 0 to {highest}")
        return order

    @model_validator(mode="after")
    def _complete_weights(self) -> Self:
        n_species = len(self.species)
        if self.weights is None:
            rows = (tuple(aenet_weights(n_species)),) if n_species > 1 else ()
            object.__setattr__(self, "weights", rows)
        for row in self.weights:
            if len(row) != n_species:
                raise ValueError(
                    f"weights: shape ({len(self.weights)}, {len(row)}), expected (channels, {n_species}) "
                    "finite numbers, one for each species"
                )
        return self

    @property
    def channels(self) -> Array:
        """Species weights of all channels, shape (n_channels, n_species); ones in the first."""
        return np.array([[1.0] * len(self.species), *self.weights])

    @cached_property
    def core(self) -> _core.ChebyshevDescriptor:
        """The compiled descriptor."""
        angular_order = -1 if self.angular_order is None else self.angular_order
        return _core.ChebyshevDescriptor(
            self.radial_order, self.radial_cutoff, angular_order, self.angular_cutoff, self.channels
        )

    @classmethod
    def for_kernel(cls, species: Sequence[str], **options: Any) -> Self:
        """Return the descriptor for a Gaussian process: weights that are not given have no zero."""
        if options.get("weights") is None and len(species) > 1:
            options["weights"] = [nonzero_weights(len(species))]
        return cls(species, **options)

    def __repr__(self) -> str:
        angular = (
            "no angular part"
            if self.angular_order is None
            else f"angular {self.angular_order}, {self.angular_cutoff} Å"
        )
        return (
            f"ChebyshevDescriptor({' '.join(self.species)}; "
            f"radial {self.radial_order}, {self.radial_cutoff} Å; "
            f"{angular}; {self.size} components)"
        )

    __str__ = __repr__
