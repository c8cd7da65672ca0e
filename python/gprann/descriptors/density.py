"""Invariants of the atomic density: 2-body sums, the power spectrum, and 4-body invariants."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Annotated, Any, NamedTuple, Self

import numpy as np
from ase.data import atomic_numbers
from pydantic import BeforeValidator, model_validator

from gprann import _core
from gprann.arrays import Array
from gprann.descriptors.base import CompiledDescriptor, register_descriptor
from gprann.descriptors.weights import channel_rows
from gprann.options import option

_MOST_ONE_HOT = 4
_POWER = 0.5
_FEW_ELEMENTS = 3
_SHARES = {2: 0.2, 3: 0.6, 4: 0.2}


class Component(NamedTuple):
    """Factors of one component of a `DensityDescriptor`.

    Attributes
    ----------
    body : int
        2, 3 or 4: the central atom and how many neighbours at once.
    channels, n, l : tuple of int
        Channel of species weights, radial function and angular momentum of each of the body - 1 factors.
    """

    body: int
    channels: tuple[int, ...]
    n: tuple[int, ...]
    l: tuple[int, ...]  # noqa: E741 - the field's name for it


def species_channels(species: tuple[str, ...]) -> Array:
    """Return species weights, shape (n_channels, n_species).

    Up to four elements one channel for each, 1 for its element and 0 for the others. Beyond, four channels whatever
    the number of elements n, so that the size of the descriptor does not grow: cosines cos(π c (k + 1/2) / n) over
    the elements k = 0, 1, ... sorted by group and period of the periodic table, which are orthogonal, the first
    counting all elements as 1, the next telling the ends of the table apart.

    Examples
    --------
    >>> species_channels(("O", "H")).tolist()
    [[1.0, 0.0], [0.0, 1.0]]
    >>> species_channels(("Ti", "O", "H", "C", "N")).shape
    (4, 5)
    """
    n = len(species)
    if n <= _MOST_ONE_HOT:
        return np.eye(n)
    rank = np.argsort(np.argsort([_chemical_order(element) for element in species]))
    return np.cos(np.pi * np.arange(_MOST_ONE_HOT)[:, None] * (rank + 0.5) / n)


def _chemical_order(element: str) -> float:
    """Return a number that orders elements by group, then by period."""
    number = atomic_numbers[element]
    noble = [0, 2, 10, 18, 36, 54, 86, 118]
    period = int(np.searchsorted(noble, number)) - 1
    place, length = number - noble[period], noble[period + 1] - noble[period]
    from_end = length - place  # the last six groups are the p block, in every period
    if element == "H":
        group = 16.5  # its chemistry is nearer to that of the halogens and carbon than to that of the alkali metals
    elif place <= 2 and element != "He":
        group = float(place)
    elif from_end < 6:
        group = 18.0 - from_end
    else:
        group = 3.0 + (9.0 * (place - 3) / max(length - 9, 1))
    return group + 0.01 * period


@register_descriptor
class DensityDescriptor(CompiledDescriptor):
    """Rotational invariants of the density of an atom's neighbours, of two, three and four bodies.

    With A_q,lm = Σ_j w_c(t_j) R_n(r_ij) Y_lm(u_ij), q = (channel c, radial function n), the components are A_q,00
    (2-body), the power spectrum Σ_m A_q,lm A_q',lm (3-body) and, where `four_body` is positive, the sums of three
    moments with Gaunt coefficients (4-body). The radial functions are Chebyshev polynomials of
    x(r) = 1 - 2 (exp(-k r/rc) - exp(-k)) / (1 - exp(-k)), k = `decay`, times a cosine cutoff.

    Unlike the Chebyshev descriptor it resolves distances and elements within an angle, which matters on data sampled
    by molecular dynamics.

    Parameters
    ----------
    species : sequence of str
        Elements.
    radial_order : int
        Highest Chebyshev polynomial of the distances in the 2-body part.
    radial_cutoff : float, Å
    n_max : int
        Number of radial functions of the 3-body part; 0 for none.
    l_max : int
        Highest angular momentum of the 3-body part.
    angular_cutoff : float, Å
    four_body : int
        Number of radial functions of the 4-body part; 0 for none.
    four_body_l : int
        Highest angular momentum of the 4-body part.
    four_body_cutoff : float, Å, optional
        Default: `angular_cutoff`.
    decay : float
        How much better short distances are resolved than long ones; 0 for equally.
    weights : array_like, shape (n_channels, n_species), optional
        Species weights of the channels. Default: see `species_channels`.

    Raises
    ------
    ConfigError
        If a species is no element or listed twice, or an order, cutoff or weight is impossible.

    Notes
    -----
    Bartók, Kondor, Csányi, Phys. Rev. B 87, 184115 (2013); Drautz, Phys. Rev. B 99, 014104 (2019).

    Examples
    --------
    >>> import gprann
    >>> descriptor = gprann.DensityDescriptor(["C", "H", "O"])
    >>> descriptor.cutoff, descriptor.size == len(descriptor.components)
    (6.5, True)
    >>> descriptor.components[0]
    Component(body=2, channels=(0,), n=(0,), l=(0,))
    """

    name = "density"

    radial_order: int = option(
        "Highest Chebyshev polynomial of the distances in the 2-body part.", 12, ge=0, le=50
    )
    radial_cutoff: float = option("Cutoff of the 2-body part.", 6.5, unit="Å", gt=0)
    n_max: int = option("Number of radial functions of the 3-body part; 0 for none.", 6, ge=0, le=20)
    l_max: int = option("Highest angular momentum of the 3-body part.", 4, ge=0, le=8)
    angular_cutoff: float = option("Cutoff of the 3-body part.", 5.0, unit="Å", gt=0)
    four_body: int = option("Number of radial functions of the 4-body part; 0 for none.", 1, ge=0, le=10)
    four_body_l: int = option("Highest angular momentum of the 4-body part.", 4, ge=2, le=6)
    four_body_cutoff: float | None = option(
        "Cutoff of the 4-body part. Default: that of the 3-body part.", None, unit="Å", gt=0, example=4.0
    )
    decay: float = option(
        "How much better short distances are resolved than long ones; 0 for equally.", 3.0, ge=0, le=20
    )
    weights: Annotated[Any, BeforeValidator(channel_rows)] = option(
        "Weights by which the descriptor tells elements apart: lists in the order of the species, one for each "
        "channel. Default: one channel for each element up to four elements, four mixed ones beyond.",
        None,
        example=[[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]],
    )

    @model_validator(mode="after")
    def _check_weights(self) -> Self:
        n_species = len(self.species)
        if self.weights is None:
            rows = species_channels(tuple(self.species)).tolist()
            object.__setattr__(self, "weights", tuple(tuple(row) for row in rows))
        for row in self.weights:
            if len(row) != n_species:
                raise ValueError(
                    f"weights: shape ({len(self.weights)}, {len(row)}), expected (channels, {n_species}) "
                    "finite numbers, one for each species"
                )
        if len(self.weights) == 0:
            raise ValueError("weights: at least one channel is needed")
        return self

    @property
    def channels(self) -> Array:
        """Species weights of all channels, shape (n_channels, n_species)."""
        return np.array(self.weights)

    @cached_property
    def core(self) -> _core.DensityDescriptor:
        """The compiled descriptor."""
        last = self.angular_cutoff if self.four_body_cutoff is None else self.four_body_cutoff
        return _core.DensityDescriptor(
            (self.radial_order + 1, self.n_max, self.four_body),
            (0, self.l_max, self.four_body_l),
            (self.radial_cutoff, self.angular_cutoff, last),
            self.decay,
            self.channels,
        )

    @cached_property
    def components(self) -> tuple[Component, ...]:
        """The factors of every component, in their order: 2-body, 3-body, 4-body."""
        table = self.core.terms()
        return tuple(
            Component(body, *(tuple(row[k : k + body - 1]) for k in (1, 4, 7)))
            for row in table.tolist()
            for body in (row[0],)
        )

    @classmethod
    def for_kernel(cls, species: Sequence[str], **options: Any) -> Self:
        """Return a descriptor with two radial functions in its 4-body part, unless the options say otherwise.

        Errors of surrogates fall by a few per cent, at more than twice the cost, of which they hardly take notice. With
        more than three elements, whose triples are too many, it has one.
        """
        return cls(species, **{"four_body": 2 if len(species) <= _FEW_ELEMENTS else 1, **options})

    @property
    def costly(self) -> bool:
        """Whether derivatives take longer to compute than to read from memory."""
        return True

    def kernel_scales(self, deviations: Array) -> Array:
        """Return the roots of the deviations, such that each body order has its share of the variance.

        Components that vary little carry more noise than signal; and what a body order says must not depend on how
        many components say it. Root and shares were chosen on azobenzene and silicon by the likelihood, which follows
        the errors of other structures there.
        """
        raised = super().kernel_scales(deviations)
        scales = raised**_POWER
        bodies = self.core.terms()[:, 0]
        shares = {body: share for body, share in _SHARES.items() if np.any(bodies == body)}
        total = np.sum((deviations / scales) ** 2, axis=1, keepdims=True)  # species that vary more count more
        for body, share in shares.items():
            own = bodies == body
            variance = np.sum((deviations[:, own] / scales[:, own]) ** 2, axis=1, keepdims=True)
            wanted = total * share / sum(shares.values())
            scales[:, own] *= np.sqrt(np.where(variance > 0, variance / np.maximum(wanted, 1e-300), 1.0))
        return scales

    def __repr__(self) -> str:
        parts = [f"2-body {self.radial_order}, {self.radial_cutoff} Å"]
        if self.n_max:
            parts.append(f"3-body n {self.n_max}, l {self.l_max}, {self.angular_cutoff} Å")
        if self.four_body:
            cutoff = self.angular_cutoff if self.four_body_cutoff is None else self.four_body_cutoff
            parts.append(f"4-body n {self.four_body}, l {self.four_body_l}, {cutoff} Å")
        return f"DensityDescriptor({' '.join(self.species)}; {'; '.join(parts)}; {self.size} components)"

    __str__ = __repr__
