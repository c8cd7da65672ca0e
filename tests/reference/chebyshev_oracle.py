"""Chebyshev descriptor by its defining sums over pairs and triples, METHODS section 1. Slow on purpose.

    radial   c2_a = sum_j           w_j     T_a(2 r_ij / Rc_rad - 1) f_c(r_ij; Rc_rad)                  a = 0..order_rad
    angular  c3_a = sum_{j<k}       w_j w_k T_a(cos theta_ijk) f_c(r_ij; Rc_ang) f_c(r_ik; Rc_ang)   a = 0..order_ang

Chebyshev polynomials from T_a(x) = cos(a arccos x); no recurrence, no factorisation, as in no other place.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from gprann.data.structure import Structure
from reference.neighbours_oracle import image_pairs

Array = NDArray[np.float64]


def chebyshev(order: int, x: Array) -> Array:
    """T_a(x) for a = 0..order: (order + 1, n), for -1 <= x <= 1."""
    return np.cos(np.arange(order + 1)[:, None] * np.arccos(np.clip(x, -1.0, 1.0)))


def cutoff_function(r: Array, cutoff: float) -> Array:
    return np.where(r < cutoff, 0.5 * (np.cos(np.pi * r / cutoff) + 1.0), 0.0)


def chebyshev_oracle(
    structure: Structure,
    species: Sequence[str],
    weights: Array,
    radial: tuple[int, float],
    angular: tuple[int, float] | None,
) -> Array:
    """Descriptor (N, D) for weights (channels, species) and (order, cutoff) of the two parts."""
    reach = max(radial[1], angular[1] if angular else 0.0)
    pairs = list(image_pairs(structure, reach))
    rows = []
    for atom in range(len(structure)):
        vectors = np.array([v for i, _, v in pairs if i == atom]).reshape(-1, 3)
        kinds = np.array([species.index(structure.symbols[j]) for i, j, _ in pairs if i == atom], dtype=int)
        parts = []
        for channel in weights:
            parts.append(_radial(vectors, channel[kinds], *radial))
            if angular is not None:
                parts.append(_angular(vectors, channel[kinds], *angular))
        rows.append(np.concatenate(parts))
    return np.array(rows)


def _radial(vectors: Array, w: Array, order: int, cutoff: float) -> Array:
    r = np.linalg.norm(vectors, axis=1)
    inside = r < cutoff
    r, w = r[inside], w[inside]
    return chebyshev(order, 2 * r / cutoff - 1) @ (w * cutoff_function(r, cutoff))


def _angular(vectors: Array, w: Array, order: int, cutoff: float) -> Array:
    r = np.linalg.norm(vectors, axis=1)
    f = cutoff_function(r, cutoff)
    total = np.zeros(order + 1)
    for j in range(len(r)):
        if r[j] >= cutoff:
            continue
        k = np.flatnonzero((np.arange(len(r)) > j) & (r < cutoff))
        cosine = vectors[k] @ vectors[j] / (r[k] * r[j])
        total += chebyshev(order, cosine) @ (w[j] * w[k] * f[j] * f[k])
    return total
