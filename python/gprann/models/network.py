"""Behler-Parrinello networks: one multilayer perceptron per species."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import field_validator

from gprann import _core
from gprann.arrays import Array
from gprann.errors import ConfigError
from gprann.models.base import Model, register_model
from gprann.options import Widths, option

Activation = Literal["tanh", "softplus", "silu", "twist", "linear"]


@register_model
class Mlp(Model):
    """Options of the networks.

    Examples
    --------
    >>> Mlp(hidden=(10, 10)).build(36, 3).n_parameters
    1473
    """

    name = "mlp"
    hidden: Widths = option("Widths of the hidden layers; none for a linear model.", (10, 10))
    activation: Activation = option(
        'Activation of the hidden layers: "tanh", "softplus", "silu", "twist" (1.7159 tanh(2z/3) + z/10) or "linear".',
        "tanh",
    )

    @field_validator("hidden")
    @classmethod
    def _check_widths(cls, hidden: tuple[int, ...]) -> tuple[int, ...]:
        if any(width < 1 for width in hidden):
            raise ValueError(f"hidden = {hidden}: expected positive layer widths")
        return hidden

    def build(self, n_features: int, n_species: int) -> NetworkModel:
        """Return the networks for descriptors of `n_features` components and `n_species` elements."""
        return NetworkModel(n_features, self.hidden, n_species, self.activation)


class NetworkModel:
    """Shape of the networks; the weights are one vector that is passed along.

    Parameters
    ----------
    n_features : int
        Descriptor components D.
    hidden : sequence of int
        Widths of the hidden layers; empty for a linear model.
    n_species : int
    activation : {'tanh', 'softplus', 'silu', 'twist', 'linear'}

    Raises
    ------
    ConfigError
        If a width is not positive or the activation is unknown.

    Notes
    -----
    Parameters stand species by species, layer by layer: weights (out, in) row by row, then biases.

    Examples
    --------
    >>> NetworkModel(36, (10, 10), 3).n_parameters
    1473
    """

    def __init__(
        self, n_features: int, hidden: Sequence[int], n_species: int, activation: Activation = "tanh"
    ) -> None:
        self.n_features, self.n_species = int(n_features), int(n_species)
        self.options = Mlp(hidden=tuple(int(width) for width in hidden), activation=activation)
        self.hidden, self.activation = self.options.hidden, self.options.activation
        self.sizes = [self.n_features, *self.hidden, 1]
        self.core = _core.Network(self.sizes, activation, self.n_species)

    def __repr__(self) -> str:
        return f"{'-'.join(map(str, self.sizes))} {self.activation}"

    def __reduce__(self) -> tuple[Any, ...]:
        # Compiled objects cannot be copied or pickled; plain data also suit another build of the core.
        return NetworkModel, (self.n_features, self.hidden, self.n_species, self.activation)

    @property
    def n_parameters(self) -> int:
        """Number of weights and biases of all species."""
        return self.core.n_parameters

    @property
    def linear(self) -> bool:
        """Whether energies are linear in the parameters: without hidden layers."""
        return not self.hidden

    def layers(self) -> list[tuple[int, int, slice, slice]]:
        """Return (species, layer, weights, biases) with the places of each layer in the parameter vector."""
        result, at = [], 0
        for kind in range(self.n_species):
            for layer, (below, above) in enumerate(zip(self.sizes[:-1], self.sizes[1:], strict=True)):
                middle, end = at + below * above, at + (below + 1) * above
                result.append((kind, layer, slice(at, middle), slice(middle, end)))
                at = end
        return result

    def initial(self, rng: np.random.Generator) -> Array:
        """Return random parameters: weights ~ N(0, 1/fan_in), biases ~ 0.1 N(0, 1)."""
        parameters = np.empty(self.n_parameters)
        for _, layer, weights, biases in self.layers():
            fan_in = self.sizes[layer]
            parameters[weights] = rng.normal(0.0, fan_in**-0.5, weights.stop - weights.start)
            parameters[biases] = 0.1 * rng.normal(size=biases.stop - biases.start)
        return parameters

    @property
    def output_biases(self) -> NDArray[np.int64]:
        """Biases of the outputs, which shift the energy of the atoms of each species, shape (S,)."""
        last = len(self.hidden)
        return np.array([biases.stop - 1 for _, layer, _, biases in self.layers() if layer == last])

    def frozen_parameters(self, layers: Iterable[int]) -> NDArray[np.int64]:
        """Return the parameters of some layers, counted from 0 at the descriptor.

        Raises
        ------
        ConfigError
            If there is no such layer, or none is left to be trained.
        """
        chosen = set(layers)
        for layer in chosen:
            if not 0 <= layer <= len(self.hidden):
                raise ConfigError(f"frozen: layer {layer} does not exist; expected 0 to {len(self.hidden)}")
        if len(chosen) > len(self.hidden):
            raise ConfigError(f"frozen = {tuple(layers)}: these are all layers; leave one to be trained")
        parts = [
            np.arange(weights.start, biases.stop)
            for _, layer, weights, biases in self.layers()
            if layer in chosen
        ]
        return np.concatenate([np.zeros(0, np.int64), *parts])
