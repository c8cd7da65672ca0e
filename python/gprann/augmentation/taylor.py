"""Taylor augmentation: energies of displaced copies from forces and Hessians.

E' = E - sum_i delta_i . F_i (+ sum_ij delta_i H_ij delta_j / 2)

Cooper, Kästner, Urban, Artrith, npj Comput. Mater. 6, 54 (2020).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from gprann.augmentation.automatic import automatic_copies
from gprann.augmentation.copies import displaced, with_unique_origins
from gprann.augmentation.displacements import (
    Displacement,
    atom_sizes,
    check_displacement,
    single_atoms,
    within_spheres,
)
from gprann.augmentation.hessian import surrogate_hessian
from gprann.errors import ConfigError, DataError, nearest_name
from gprann.structure import Dataset, Structure
from gprann.surrogate import Surrogate

__all__ = ["taylor_augment", "taylor_labels"]

Array = NDArray[np.float64]


def taylor_augment(
    data: Dataset,
    *,
    strategy: Literal["A", "B"] = "B",
    copies: int | None = None,
    displacement: Displacement = 0.01,
    min_force: float | None = None,
    hessians: Surrogate | Sequence[Array] | None = None,
    seed: int = 0,
) -> Dataset:
    """Return the data set followed by displaced copies labelled by a Taylor expansion.

    Parameters
    ----------
    data : Dataset
        Structures with energies and forces.
    strategy : {'A', 'B'}
        A: one atom at a time by ±displacement along x, y, z, 6N copies of each structure, whatever `copies`.
        B: all atoms at random within spheres of radius `displacement`, without a net shift.
    copies : int, optional
        Copies of each structure, for strategy B. Default: one for each degree of freedom, at least 10 and at most
        36.
    displacement : float or mapping of elements to float, Å
    min_force : float, optional, eV/Å
        Only atoms on which at least this force acts are displaced.
    hessians : Surrogate or sequence of ndarray, optional
        For an expansion to second order: a surrogate fitted to structures of this composition, whose Hessian is
        taken at every structure, or one Hessian (3N, 3N) in eV/Å² for each structure.
    seed : int

    Raises
    ------
    DataError
        If a structure has no energy or forces, or a Hessian does not belong to its structure.
    ConfigError
        If an option is impossible.

    Examples
    --------
    >>> import gprann
    >>> data = gprann.examples.hydrogen(7)
    >>> len(taylor_augment(data, copies=2)), len(taylor_augment(data, strategy="A"))
    (21, 91)
    >>> surrogate = gprann.Surrogate(kernel="pairs").fit(data)
    >>> len(taylor_augment(data, copies=2, hessians=surrogate))
    21
    """
    check_displacement(displacement, copies, min_force)
    if strategy not in ("A", "B"):
        raise ConfigError(f"strategy = '{strategy}': {nearest_name(strategy, ['A', 'B'])}")
    data = with_unique_origins(data)
    _ = data.energies, data.forces  # complain about missing labels before any work
    given = _checked(data, hessians)
    shifts = []
    for index, structure in enumerate(data):
        sizes = atom_sizes(structure, displacement, min_force)
        if not sizes.any():
            shifts.append(np.zeros((0, len(structure), 3)))
        elif strategy == "A":
            shifts.append(single_atoms(len(structure), sizes))
        else:
            number = automatic_copies(structure) if copies is None else copies
            shifts.append(within_spheres(len(structure), number, sizes, (seed, index)))
    parents = [structure for structure, own in zip(data, shifts, strict=True) for _ in own]
    second = [hessian for hessian, own in zip(given, shifts, strict=True) for _ in own]
    return data + taylor_labels(parents, displaced(data, "taylor", shifts), second)


def _checked(data: Dataset, hessians: Surrogate | Sequence[Array] | None) -> Sequence[Array | None]:
    """Return a symmetric Hessian for each structure, or None for each."""
    if hessians is None:
        return [None] * len(data)
    if isinstance(hessians, Surrogate):
        return [surrogate_hessian(hessians, structure) for structure in data]
    if len(hessians) != len(data):
        raise DataError(f"hessians: expected one for each of {len(data)} structures, got {len(hessians)}")
    result = []
    for structure, hessian in zip(data, hessians, strict=True):
        matrix = np.asarray(hessian, dtype=np.float64)
        expected = (3 * len(structure), 3 * len(structure))
        if matrix.shape != expected or not np.isfinite(matrix).all():
            raise DataError(
                f"{structure.origin}: its Hessian has shape {matrix.shape}, expected finite numbers in eV/Å² of "
                f"shape {expected}"
            )
        result.append(0.5 * (matrix + matrix.T))
    return result


def taylor_labels(
    parents: Sequence[Structure], copies: Dataset, hessians: Sequence[Array | None] | None = None
) -> Dataset:
    """Label copies with Taylor energies from their parents (one for each copy), to second order with a Hessian."""
    labelled = []
    for parent, copy, hessian in zip(
        parents, copies, [None] * len(copies) if hessians is None else hessians, strict=True
    ):
        shift = (copy.positions - parent.positions).ravel()
        parent_set = Dataset([parent])
        energy = parent_set.energies[0] - float(shift @ parent_set.forces[0].ravel())
        if hessian is not None:
            energy += 0.5 * float(shift @ hessian @ shift)
        labelled.append(copy.replace(energy=energy))
    return Dataset(labelled)
