"""The universal screened repulsion of nuclei of Ziegler, Biersack and Littmark."""

from __future__ import annotations

import numpy as np
from ase.data import atomic_numbers, covalent_radii

from gprann.arrays import Array
from gprann.baselines.base import Baseline, Contribution, register_baseline
from gprann.baselines.coulomb import CONSTANT
from gprann.data.neighbours import build_neighbours
from gprann.data.prediction import voigt_stress
from gprann.data.structure import Dataset
from gprann.options import option

_WEIGHTS = np.array([0.18175, 0.50986, 0.28022, 0.02817])
_DECAYS = np.array([3.19980, 0.94229, 0.40290, 0.20162])
_SCREENING = 0.46850  # Å
_POWER = 0.23


@register_baseline
class Zbl(Baseline):
    """The repulsion of nuclei that come close, which no training set of ordinary structures shows.

    V = K Z Z' / r phi(r / a), a = 0.4685 Å / (Z^0.23 + Z'^0.23) (Ziegler, Biersack and Littmark, The Stopping and Range
    of Ions in Solids, 1985), times a polynomial that falls from one at half the cutoff to zero at the cutoff, with two
    continuous derivatives. Cutoffs are shorter than bonds: forces near the training set stay as they are.

    Examples
    --------
    >>> import gprann
    >>> import numpy as np
    >>> close = gprann.Structure(("C", "H"), np.array([[0.0, 0, 0], [0.4, 0, 0]]))
    >>> far = close.replace(positions=2.5 * close.positions)
    >>> values = gprann.Zbl().evaluate(gprann.Dataset([close, far])).energy
    >>> [round(float(value), 1) for value in values]
    [44.1, 0.0]
    """

    name = "zbl"
    reads_attachments = False
    cutoff: float = option("Where the repulsion ends, in units of the sum of the covalent radii.", 0.75, gt=0)

    def evaluate(self, data: Dataset) -> Contribution:
        """Return energies, forces and, of periodic cells, stresses."""
        species = data.species
        numbers = np.array([atomic_numbers[symbol] for symbol in species])
        radii = covalent_radii[numbers]
        cutoffs = self.cutoff * (radii[:, None] + radii)
        neighbours = build_neighbours(list(data), float(cutoffs.max()), species)
        kinds = neighbours.species
        first, second = kinds[neighbours.centres], kinds[neighbours.neighbour]
        r = np.linalg.norm(neighbours.vectors, axis=1)
        energy, slope = _repulsion(r, numbers[first], numbers[second])
        value, change = _taper(r, cutoffs[first, second])
        energy, slope = energy * value, slope * value + energy * change
        per_atom = np.zeros(neighbours.n_atoms)
        np.add.at(per_atom, neighbours.centres, 0.5 * energy)
        gradient, virials = neighbours.collect((0.5 * slope / r)[:, None] * neighbours.vectors)
        edges = neighbours.first_atom[1:-1]
        energies: list[Array] = np.split(per_atom, edges)
        return Contribution(
            np.array([float(own.sum()) for own in energies]),
            [-own for own in np.split(gradient, edges)],
            np.array([voigt_stress(*pair) for pair in zip(data, virials, strict=True)]).reshape(-1, 6),
            energies,
        )


def _repulsion(r: Array, first: Array, second: Array) -> tuple[Array, Array]:
    """Return V and its derivative for pairs of nuclei."""
    decay = _DECAYS * ((first**_POWER + second**_POWER) / _SCREENING)[:, None]
    terms = _WEIGHTS * np.exp(-decay * r[:, None])
    charge = CONSTANT * first * second
    phi = terms.sum(axis=1)
    return charge * phi / r, -charge * (phi / r**2 + (decay * terms).sum(axis=1) / r)


def _taper(r: Array, cutoff: Array) -> tuple[Array, Array]:
    """Return the factor that falls from one to zero, and its derivative."""
    t = np.clip(2.0 * r / cutoff - 1.0, 0.0, 1.0)
    value = 1.0 - t**3 * (10.0 - 15.0 * t + 6.0 * t**2)
    return value, -30.0 * t**2 * (1.0 - t) ** 2 * 2.0 / cutoff
