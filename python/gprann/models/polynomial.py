"""Linear and quadratic models: polynomials in the standardised descriptor, one per species, fitted in closed form."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from gprann import _core
from gprann.arrays import Array
from gprann.errors import ConfigError
from gprann.models.base import Model, register_model
from gprann.options import option


class Polynomial(Model):
    """Options that linear and quadratic models share."""

    ridge: Literal["evidence", "cross_validation", "ard"] | float = option(
        'Ridge of the equations: "evidence" the most probable one (marginal likelihood); "cross_validation" that of '
        'the smallest errors; "ard" one for each parameter, by evidence; or a number, in units of the mean square of '
        "the equations.",
        "evidence",
        example=1e-8,
    )
    folds: int = option(
        "Parts of the data that are held out in turn, to find what is not given and to calibrate deviations.",
        5,
        ge=2,
        le=20,
    )

    degree: ClassVar[int]
    """Of the polynomial."""

    def build(self, n_features: int, n_species: int) -> PolynomialModel:
        """Return the polynomials for descriptors of `n_features` components and `n_species` elements."""
        return PolynomialModel(self, n_features, n_species)


@register_model
class Linear(Polynomial):
    """Options of linear models: with the density descriptor linear ACE, with others what is known from SNAP.

    Examples
    --------
    >>> Linear().build(36, 3).n_parameters
    111
    """

    name = "linear"
    degree: ClassVar[int] = 1


@register_model
class Quadratic(Polynomial):
    """Options of quadratic models.

    Examples
    --------
    >>> Quadratic().build(36, 3).n_parameters
    2109
    """

    name = "quadratic"
    degree: ClassVar[int] = 2


class PolynomialModel:
    """Shape of the polynomials; the coefficients are one vector that is passed along.

    Parameters
    ----------
    options : Polynomial
    n_features : int
        Descriptor components D.
    n_species : int

    Notes
    -----
    Parameters stand species by species: constant, D linear ones, then those of the products g_k g_l with k <= l, row by
    row.

    Examples
    --------
    >>> PolynomialModel(Quadratic(), 2, 1).n_parameters
    6
    """

    linear = True

    def __init__(self, options: Polynomial, n_features: int, n_species: int) -> None:
        self.options, self.n_features, self.n_species = options, int(n_features), int(n_species)
        self.core = _core.Polynomial(self.n_features, options.degree, self.n_species)

    def __repr__(self) -> str:
        return f"{self.options.name}, {self.n_features} components"

    def __reduce__(self) -> tuple[Any, ...]:
        # Compiled objects cannot be copied or pickled; plain data also suit another build of the core.
        return PolynomialModel, (self.options, self.n_features, self.n_species)

    @property
    def n_parameters(self) -> int:
        """Number of coefficients of all species."""
        return self.core.n_parameters

    @property
    def output_biases(self) -> NDArray[np.int64]:
        """Constants, which shift the energy of the atoms of each species, shape (S,)."""
        return np.arange(self.n_species) * (self.n_parameters // self.n_species)

    def frozen_parameters(self, layers: Iterable[int]) -> NDArray[np.int64]:
        """Return none: there are no layers.

        Raises
        ------
        ConfigError
            If some are asked for.
        """
        if tuple(layers):
            raise ConfigError(
                f"frozen = {tuple(layers)}: a {self.options.name} model has no layers; leave it out"
            )
        return np.zeros(0, np.int64)

    def initial(self, rng: np.random.Generator) -> Array:  # noqa: ARG002 - there is nothing to draw
        """Return zeros: closed forms need no start."""
        return np.zeros(self.n_parameters)

    def widths(self, scales: Array) -> Array:
        """Return how wide coefficients spread, (P,), from the relative importance of the components (S, D).

        Constants are free, as energies of atoms are subtracted before with some error.
        """
        parts = []
        for own in scales:
            parts += [np.array([_CONSTANT_WIDTH]), own]
            if self.options.degree == 2:
                k, l = np.triu_indices(self.n_features)  # noqa: E741
                parts.append(own[k] * own[l])
        return np.concatenate(parts)


_CONSTANT_WIDTH = 10.0
