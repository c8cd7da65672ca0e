"""Invariants of the atomic density by sums over pairs, and by integrals over the sphere. Slow on purpose.

No spherical harmonics and no coupling coefficients: by the addition theorem the part of angular momentum l of a
density is d_l(u) = sum_j w_j R_n(r_j) (2l+1)/(4 pi) P_l(u . u_j), so that

    2-body  sum_j w_j R_n(r_j)
    3-body  (2l+1)^(-1/2) sum_jk w_j R_n(r_j) w_k R_m(r_k) (2l+1)/(4 pi) P_l(u_j . u_k)
    4-body  integral over u of d_l1(u) d_l2(u) d_l3(u)
"""

from __future__ import annotations

import numpy as np
from numpy.polynomial.legendre import leggauss
from numpy.typing import NDArray
from scipy.special import eval_legendre

from gprann.data.structure import Structure
from gprann.descriptors import DensityDescriptor
from reference.chebyshev_oracle import chebyshev, cutoff_function
from reference.neighbours_oracle import image_pairs

Array = NDArray[np.float64]


def density_oracle(structure: Structure, descriptor: DensityDescriptor) -> Array:
    """Descriptor (N, D), component by component as `descriptor.components` lists them."""
    pairs = list(image_pairs(structure, descriptor.cutoff))
    rows = []
    for atom in range(len(structure)):
        vectors = np.array([v for i, _, v in pairs if i == atom]).reshape(-1, 3)
        kinds = [descriptor.species.index(structure.symbols[j]) for i, j, _ in pairs if i == atom]
        rows.append(_invariants(vectors, descriptor.channels[:, np.array(kinds, dtype=int)], descriptor))
    return np.array(rows)


def _radial(r: Array, n: int, cutoff: float, decay: float) -> Array:
    if decay == 0:
        return chebyshev(n - 1, 2 * r / cutoff - 1) * cutoff_function(r, cutoff)
    x = 1 - 2 * (np.exp(-decay * r / cutoff) - np.exp(-decay)) / (1 - np.exp(-decay))
    return chebyshev(n - 1, x) * cutoff_function(r, cutoff)


def _invariants(vectors: Array, weights: Array, descriptor: DensityDescriptor) -> Array:
    r = np.linalg.norm(vectors, axis=1)
    u = vectors / r[:, None]
    four = descriptor.four_body_cutoff or descriptor.angular_cutoff
    radial = {
        2: _radial(r, descriptor.radial_order + 1, descriptor.radial_cutoff, descriptor.decay),
        3: _radial(r, max(descriptor.n_max, 1), descriptor.angular_cutoff, descriptor.decay),
        4: _radial(r, max(descriptor.four_body, 1), four, descriptor.decay),
    }
    cosines = u @ u.T
    z, weight = leggauss(12)
    phi = np.arange(24) * np.pi / 12
    Z, P = (a.ravel() for a in np.meshgrid(z, phi, indexing="ij"))
    s = np.sqrt(1 - Z**2)
    seen = np.stack([s * np.cos(P), s * np.sin(P), Z], -1) @ u.T
    area = np.repeat(weight, len(phi)) * np.pi / 12

    def part(k: int) -> Array:
        return weights[component.channels[k]] * radial[component.body][component.n[k]]

    values = []
    for component in descriptor.components:
        if component.body == 2:
            values.append(part(0).sum())
        elif component.body == 3:
            momentum = component.l[0]
            P_l = eval_legendre(momentum, cosines)
            values.append(np.sqrt(2 * momentum + 1) / (4 * np.pi) * part(0) @ P_l @ part(1))
        else:
            product = area.copy()
            for k, momentum in enumerate(component.l):
                product *= eval_legendre(momentum, seen) @ part(k) * (2 * momentum + 1) / (4 * np.pi)
            values.append(product.sum())
    return np.array(values)
