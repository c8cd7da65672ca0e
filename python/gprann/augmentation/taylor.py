"""Taylor augmentation: energies of displaced copies from the forces, E' = E - sum_i delta_i . F_i.

Cooper, Kästner, Urban, Artrith, npj Comput. Mater. 6, 54 (2020).
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from gprann.augmentation.copies import displaced, with_unique_origins
from gprann.augmentation.displacements import check_displacement, single_atoms, within_spheres
from gprann.errors import ConfigError, nearest_name
from gprann.structure import Dataset, Structure

__all__ = ["taylor_augment", "taylor_labels"]

Array = NDArray[np.float64]


def taylor_augment(
    data: Dataset,
    *,
    strategy: Literal["A", "B"] = "B",
    copies: int = 36,
    displacement: float = 0.01,
    seed: int = 0,
) -> Dataset:
    """Return the data set followed by displaced copies labelled by a first-order Taylor expansion.

    Parameters
    ----------
    data : Dataset
        Structures with energies and forces.
    strategy : {'A', 'B'}
        A: one atom at a time by ±displacement along x, y, z, 6N copies of each structure, whatever `copies`.
        B: all atoms at random within spheres of radius `displacement`, without a net shift.
    copies : int
        Copies of each structure, for strategy B.
    displacement : float, Å
    seed : int

    Raises
    ------
    DataError
        If a structure has no energy or forces.
    ConfigError
        If an option is impossible.

    Examples
    --------
    >>> import gprann
    >>> data = gprann.examples.hydrogen(7)
    >>> len(taylor_augment(data, copies=2)), len(taylor_augment(data, strategy="A"))
    (21, 91)
    """
    check_displacement(displacement, copies)
    if strategy not in ("A", "B"):
        raise ConfigError(f"strategy = '{strategy}': {nearest_name(strategy, ['A', 'B'])}")
    data = with_unique_origins(data)
    _ = data.energies, data.forces  # complain about missing labels before any work

    def make(index: int, structure: Structure) -> Array:
        if strategy == "A":
            return single_atoms(len(structure), displacement)
        return within_spheres(len(structure), copies, displacement, (seed, index))

    parents = [structure for index, structure in enumerate(data) for _ in make(index, structure)]
    return data + taylor_labels(parents, displaced(data, range(len(data)), "taylor", make))


def taylor_labels(parents: list[Structure], copies: Dataset) -> Dataset:
    """Label copies with first-order Taylor energies from their parents (one for each copy)."""
    labelled = []
    for parent, copy in zip(parents, copies, strict=True):
        parent_set = Dataset([parent])
        energy = parent_set.energies[0] - float(
            np.vdot(copy.positions - parent.positions, parent_set.forces[0])
        )
        labelled.append(copy.replace(energy=energy))
    return Dataset(labelled)
