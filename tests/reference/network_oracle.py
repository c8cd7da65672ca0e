"""Networks of one perceptron per species, atom by atom. Slow on purpose.

a_0 = g,   z_l = W_l a_{l-1} + b_l,   a_l = phi(z_l),   eps = z_L;   E = sum over atoms of eps
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def sigmoid(z: Array) -> Array:
    return 0.5 * (1.0 + np.tanh(0.5 * z))


ACTIVATIONS: dict[str, tuple[Callable[[Array], Array], Callable[[Array], Array]]] = {
    "linear": (lambda z: z, np.ones_like),
    "tanh": (np.tanh, lambda z: np.cosh(z) ** -2.0),
    "softplus": (lambda z: np.logaddexp(0.0, z), sigmoid),
    "silu": (lambda z: z * sigmoid(z), lambda z: sigmoid(z) + z * sigmoid(z) * sigmoid(-z)),
    "twist": (
        lambda z: 1.7159 * np.tanh(0.666666666666667 * z) + 0.1 * z,
        lambda z: 1.7159 * 0.666666666666667 * 4 * sigmoid(4 / 3 * z) * sigmoid(-4 / 3 * z) + 0.1,
    ),
}


def layers_of(parameters: Array, sizes: Sequence[int]) -> list[tuple[Array, Array]]:
    """Weights (out, in) and biases (out) of the layers of one species."""
    layers, at = [], 0
    for n_in, n_out in itertools.pairwise(sizes):
        W = parameters[at : at + n_in * n_out].reshape(n_out, n_in)
        at += n_in * n_out
        layers.append((W, parameters[at : at + n_out]))
        at += n_out
    assert at == len(parameters)
    return layers


def atom_terms(
    parameters: Array, sizes: Sequence[int], activation: str, g: Array
) -> tuple[float, Array, Array]:
    """eps, d eps / d g and d eps / d parameters of one atom."""
    phi, slope = ACTIVATIONS[activation]
    layers = layers_of(parameters, sizes)
    inputs, sums = [g], []
    for index, (W, b) in enumerate(layers):
        sums.append(W @ inputs[-1] + b)
        if index < len(layers) - 1:
            inputs.append(phi(sums[-1]))
    gradient: list[Array] = []
    back = np.ones(1)
    for index in reversed(range(len(layers))):
        if index < len(layers) - 1:
            back = back * slope(sums[index])
        gradient = [np.outer(back, inputs[index]).ravel(), back, *gradient]
        back = layers[index][0].T @ back
    return float(sums[-1][0]), back, np.concatenate(gradient)
