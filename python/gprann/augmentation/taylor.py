"""Taylor augmentation: energies of displaced copies from forces and Hessians.

E' = E - sum_i delta_i . F_i (+ sum_ij delta_i H_ij delta_j / 2)

Cooper, Kästner, Urban, Artrith, npj Comput. Mater. 6, 54 (2020).
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from gprann.arrays import Array
from gprann.augmentation.displacements import (
    DisplacementOptions,
    DistanceLimits,
    atom_sizes,
    automatic_copies,
    displace,
    references,
    single_atoms,
    within_spheres,
)
from gprann.augmentation.thermal import surrogate_hessian
from gprann.data.structure import Dataset, Structure
from gprann.errors import ConfigError, DataError
from gprann.io.reading import Source
from gprann.options import option
from gprann.runtime.archives import DAMAGED, read_arrays
from gprann.signatures import takes
from gprann.surrogate.surrogate import Surrogate

_SIZE = 0.01  # Å, of the displacements


class TaylorOptions(DisplacementOptions):
    """Options of the copies that a Taylor expansion labels; see `taylor_augment`."""

    strategy: Literal["A", "B"] = option(
        "With method taylor: A moves one atom at a time by ± the displacement along x, y and z, 6 N copies of "
        "each structure; "
        "B all atoms at random within spheres, without a net shift.",
        "B",
    )


@takes(TaylorOptions)
def taylor_augment(
    data: Source,
    *,
    hessians: Surrogate | Sequence[Array] | str | os.PathLike[str] | None = None,
    **options: Any,
) -> Dataset:
    """Return the data set followed by displaced copies labelled by a Taylor expansion.

    Parameters
    ----------
    data : Dataset, or anything that `gprann.read` takes
        Structures with energies and forces.
    hessians : Surrogate, sequence of ndarray or path, optional
        For an expansion to second order: a surrogate fitted to structures of this composition, whose Hessian is
        taken at every structure, or one Hessian (3N, 3N) in eV/Å² for each structure; or a file of them, see
        `read_hessians`.
    **options
        Of `TaylorOptions`.

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
    >>> len(gprann.taylor_augment(data, copies=2)), len(gprann.taylor_augment(data, strategy="A"))
    (21, 91)
    >>> surrogate = gprann.Surrogate(kernel="pairs").fit(data)
    >>> len(gprann.taylor_augment(data, copies=2, hessians=surrogate))
    21
    """
    settings = TaylorOptions(**options)
    data = references(data)
    return sum(taylor_parts(data, settings, hessians), data)


def taylor_parts(
    data: Dataset,
    settings: TaylorOptions,
    hessians: Surrogate | Sequence[Array] | str | os.PathLike[str] | None = None,
    size: int | None = None,
) -> Iterator[Dataset]:
    """Yield the labelled copies of so many structures after the other; of all if `size` is None.

    See `taylor_augment`.
    """
    if settings.strategy == "A" and settings.copies is not None:
        raise ConfigError(
            f"copies = {settings.copies}: has no effect, strategy A makes six of each atom; leave it out"
        )
    settings.check_elements(data)
    _ = data.energies, data.forces  # complain about missing labels before any work
    given = _check_hessians(data, hessians)
    limits = DistanceLimits.of(data, settings.min_distance)
    step = len(data) if size is None else size
    for begin in range(0, len(data), max(step, 1)):
        part = slice(begin, begin + step)
        yield _copies(data[part], settings, given[part], limits, begin)


def _copies(
    data: Dataset,
    settings: TaylorOptions,
    given: Sequence[Array | None],
    limits: DistanceLimits,
    begin: int,
) -> Dataset:
    """Return the labelled copies of some structures, of which the first has the random stream `begin`."""
    size = _SIZE if settings.displacement is None else settings.displacement
    shifts = []
    for index, structure in enumerate(data, begin):
        sizes = atom_sizes(structure, size, settings.min_force)
        if not sizes.any():
            shifts.append(np.zeros((0, len(structure), 3)))
        elif settings.strategy == "A":
            shifts.append(single_atoms(len(structure), sizes))
        else:
            number = settings.copies or automatic_copies(structure)
            shifts.append(within_spheres(len(structure), number, sizes, (settings.seed, index)))
    parents = [structure for structure, own in zip(data, shifts, strict=True) for _ in own]
    second = [hessian for hessian, own in zip(given, shifts, strict=True) for _ in own]
    copies_of_all = displace(data, "taylor", shifts)
    kept = np.flatnonzero(limits.allow_each(copies_of_all)).tolist()
    return taylor_labels([parents[k] for k in kept], copies_of_all.select(kept), [second[k] for k in kept])


def _check_hessians(
    data: Dataset, hessians: Surrogate | Sequence[Array] | str | os.PathLike[str] | None
) -> Sequence[Array | None]:
    """Return a symmetric Hessian for each structure, or None for each."""
    if hessians is None:
        return [None] * len(data)
    if isinstance(hessians, Surrogate):
        return [surrogate_hessian(hessians, structure) for structure in data]
    if isinstance(hessians, str | os.PathLike):
        return read_hessians(hessians, data)
    return _symmetrise(hessians, data)


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


def read_hessians(path: str | os.PathLike[str], data: Dataset) -> list[Array]:
    """Read the Hessians of structures from a file of `numpy.savez(file, *hessians)`.

    Parameters
    ----------
    path : path
        `.npz` file with an array (3N, 3N) in eV/Å² for each structure, in their order: arr_0, arr_1, ...
    data : Dataset

    Returns
    -------
    list of ndarray, shape (3N, 3N), eV/Å²
        Symmetrised.

    Raises
    ------
    DataError
        If there is no such file, it is no archive of arrays, or a Hessian does not belong to its structure.

    Examples
    --------
    >>> import gprann, tempfile
    >>> data = gprann.examples.hydrogen(2)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = Path(folder) / "hessians.npz"
    ...     np.savez(file, *[np.eye(6)] * 2)
    ...     len(read_hessians(file, data))
    2
    """
    file = Path(path).expanduser()
    made_by = "make it with numpy.savez(file, *hessians)"
    try:
        arrays = read_arrays(file)
    except FileNotFoundError:
        raise DataError(f"{file}: no such file of Hessians; {made_by}") from None
    except DAMAGED as error:
        raise DataError(f"{file}: cannot be read as Hessians ({error}); {made_by}") from error
    names = [f"arr_{k}" for k in range(len(data))]
    if set(arrays) != set(names):
        raise DataError(
            f"{file}: holds {len(arrays)} arrays ({', '.join(list(arrays)[:4]) or 'none'}), expected one for each of "
            f"{len(data)} structures, arr_0 to {names[-1] if names else 'none'}; {made_by}"
        )
    return _symmetrise([arrays[name] for name in names], data, f"{file}: ")


def _symmetrise(hessians: Sequence[Array], data: Dataset, source: str = "") -> list[Array]:
    """Return the symmetric parts of Hessians, one for each structure.

    Raises
    ------
    DataError
        If their number or the shape of one is wrong, or it is not finite; the message begins with `source`.
    """
    if len(hessians) != len(data):
        raise DataError(
            f"{source}hessians: expected one for each of {len(data)} structures, got {len(hessians)}"
        )
    result = []
    for number, (structure, hessian) in enumerate(zip(data, hessians, strict=True)):
        begin = f"{source}Hessian {number}, of {structure.origin}"
        try:
            matrix = np.asarray(hessian, dtype=np.float64)
        except (TypeError, ValueError) as error:
            raise DataError(f"{begin}: holds no numbers ({error})") from None
        expected = (3 * len(structure), 3 * len(structure))
        if matrix.shape != expected:
            raise DataError(f"{begin}: has shape {matrix.shape}, expected {expected} in eV/Å²")
        if not np.isfinite(matrix).all():
            raise DataError(f"{begin}: has values that are not finite; compute it again")
        result.append(0.5 * (matrix + matrix.T))
    return result
