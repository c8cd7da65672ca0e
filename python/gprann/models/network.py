"""Behler-Parrinello networks: one multilayer perceptron per species."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gprann import _core
from gprann.errors import ConfigError, nearest_name

__all__ = ["ACTIVATIONS", "NetworkModel"]

Array = NDArray[np.float64]
ACTIVATIONS = ("tanh", "softplus", "silu", "linear")


class NetworkModel:
    """Shape of the networks; the weights are one vector that is passed along.

    Parameters
    ----------
    n_features : int
        Descriptor components D.
    hidden : sequence of int
        Widths of the hidden layers; empty for a linear model.
    n_species : int
    activation : {'tanh', 'softplus', 'silu', 'linear'}

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
        self, n_features: int, hidden: Sequence[int], n_species: int, activation: str = "tanh"
    ) -> None:
        self.n_features, self.n_species, self.activation = int(n_features), int(n_species), activation
        self.hidden = tuple(int(width) for width in hidden)
        if any(width < 1 for width in self.hidden):
            raise ConfigError(f"hidden = {self.hidden}: expected positive layer widths")
        if activation not in ACTIVATIONS:
            raise ConfigError(f"activation = '{activation}': {nearest_name(activation, ACTIVATIONS)}")
        self.sizes = [self.n_features, *self.hidden, 1]
        self.core = _core.Network(self.sizes, activation, self.n_species)

    def __reduce__(self) -> tuple[Any, ...]:
        # Compiled objects cannot be copied or pickled; plain data also suit another build of the core.
        return NetworkModel, (self.n_features, self.hidden, self.n_species, self.activation)

    @property
    def n_parameters(self) -> int:
        """Number of weights and biases of all species."""
        return self.core.n_parameters

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

    def to_dict(self) -> dict[str, Any]:
        """Return the shape as plain data."""
        return {"kind": "network", **self.options()}

    def options(self) -> dict[str, Any]:
        """Return hidden widths and activation as plain data."""
        return {"hidden": list(self.hidden), "activation": self.activation}
