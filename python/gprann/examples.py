"""Small data sets that the package makes itself, for the demo, the documentation and first steps."""

from __future__ import annotations

import ase
import numpy as np
from ase.calculators.lj import LennardJones

from gprann.data.structure import Dataset, Origin, Structure


def hydrogen(n: int = 7, shortest: float = 1.0, longest: float = 2.0) -> Dataset:
    """Return H2 molecules with the energies and forces of ASE's Lennard-Jones potential.

    The first example of Yeu et al., npj Comput. Mater. 11, 156 (2025): 7 bond lengths between 1 and 2 Å to
    train on, 200 between 0.95 and 2.05 Å to test.

    Parameters
    ----------
    n : int
        Number of bond lengths, equally spaced.
    shortest, longest : float, Å

    Returns
    -------
    Dataset

    Examples
    --------
    >>> hydrogen(7)
    Dataset(7 structures: 7 x H2)
    """
    structures = []
    for index, length in enumerate(np.linspace(shortest, longest, n)):
        atoms = ase.Atoms("H2", positions=[[0.0, 0.0, 0.0], [0.0, 0.0, length]])
        atoms.calc = LennardJones()
        atoms.get_forces()
        structures.append(Structure.from_ase(atoms, origin=Origin("hydrogen", index)))
    return Dataset(structures)
