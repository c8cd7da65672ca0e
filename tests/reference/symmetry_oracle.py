"""Symmetry functions by their defining sums over pairs and triples. Slow on purpose.

Behler, J. Chem. Phys. 134, 074106 (2011), eqs. 6, 8, 9 with the cutoff functions of n2p2; functions are rows of central
species, type, species of the neighbours, eta, Rs, lambda, zeta, cutoff.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from gprann.data.structure import Structure
from reference.neighbours_oracle import image_pairs

Array = NDArray[np.float64]

FADES: dict[str, Callable[[float], float]] = {
    "cosine": lambda x: 0.5 * (math.cos(math.pi * x) + 1),
    "tanhu": lambda x: math.tanh(1 - x) ** 3,
    "tanh": lambda x: (math.tanh(1 - x) / math.tanh(1)) ** 3,
    "exp": lambda x: math.exp(1 - 1 / (1 - x * x)),
    "poly1": lambda x: (2 * x - 3) * x**2 + 1,
    "poly2": lambda x: ((15 - 6 * x) * x - 10) * x**3 + 1,
    "poly3": lambda x: (x * (x * (20 * x - 70) + 84) - 35) * x**4 + 1,
    "poly4": lambda x: (x * (x * ((315 - 70 * x) * x - 540) + 420) - 126) * x**5 + 1,
}


def fade(name: str, r: float, cutoff: float, alpha: float) -> float:
    if r >= cutoff:
        return 0.0
    return FADES[name](max(0.0, (r / cutoff - alpha) / (1 - alpha)))


def symmetry_oracle(
    structure: Structure,
    species: Sequence[str],
    functions: Sequence[Sequence[float]],
    cutoff_function: str = "cosine",
    inner_cutoff: float = 0.0,
) -> Array:
    """Return the components (N, D), zero behind those of the species of the atom."""
    pairs = list(image_pairs(structure, max(row[8] for row in functions)))
    lists = {k: [row for row in functions if row[0] == k] for k in range(len(species))}
    result = np.zeros((len(structure), max(map(len, lists.values()))))
    for i, symbol in enumerate(structure.symbols):
        near = [(species.index(structure.symbols[j]), v) for centre, j, v in pairs if centre == i]
        for d, row in enumerate(lists[species.index(symbol)]):
            _, kind, first, second, eta, shift, turn, zeta, cutoff = row

            def weight(v: Array, eta: float = eta, shift: float = shift, cutoff: float = cutoff) -> float:
                r = float(np.linalg.norm(v))
                return math.exp(-eta * (r - shift) ** 2) * fade(cutoff_function, r, cutoff, inner_cutoff)

            if kind == 2:
                result[i, d] = sum(weight(v) for t, v in near if t == first)
                continue
            for (s, v), (t, w) in itertools.combinations(near, 2):
                if sorted((s, t)) != sorted((first, second)):
                    continue
                cosine = float(v @ w / np.linalg.norm(v) / np.linalg.norm(w))
                third = weight(w - v) if kind == 3 else 1.0
                base = max(1 + turn * cosine, 0.0)
                result[i, d] += 2 ** (1 - zeta) * base**zeta * weight(v) * weight(w) * third
    return result
