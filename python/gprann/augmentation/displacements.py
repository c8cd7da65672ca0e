"""Displacements of atoms, and copies of structures with displaced atoms, without labels.

Every structure has a random stream of its own, (seed, its number), so that its copies depend on nothing else.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Annotated

import numpy as np
import vesin
from ase.data import atomic_numbers, covalent_radii
from numpy.typing import NDArray
from pydantic import PlainValidator

from gprann.arrays import Array
from gprann.data.structure import Dataset, Origin, Structure
from gprann.errors import ConfigError, DataError, nearest_name
from gprann.io.reading import Source, structures
from gprann.options import Options, option

_log = logging.getLogger(__name__)
_FEWEST, _MOST = 10, 36  # copies; potentials improve no more beyond 36 (Yeu et al. 2025)
_NOISIEST = 1.0  # labels for which the number of copies still grows
_REACH = 4.0  # Å; elements that never come as near as this have no smallest distance worth the name


def _sizes(value: object) -> object:
    """Take a length, or a length for each element."""
    if isinstance(value, list) and len(value) == 1:
        (value,) = value
    try:
        if isinstance(value, Mapping):
            return {str(symbol): _length(size) for symbol, size in value.items()}
        return None if value is None else _length(value)
    except (TypeError, ValueError):
        raise ValueError(
            f"expected a length or a table of lengths, {{ O = 0.02, H = 0.03 }}, got {value!r}"
        ) from None


def _length(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise TypeError
    return float(value)


def _check_sizes(sizes: float | dict[str, float] | None) -> float | dict[str, float] | None:
    """Refuse sizes that are negative or infinite, or that move no atom."""
    if isinstance(sizes, dict):
        for symbol, size in sizes.items():
            if not (np.isfinite(size) and size >= 0):
                raise ConfigError(f"displacement = {sizes}: expected a length in Å, 0 or more, for {symbol}")
        if not any(size > 0 for size in sizes.values()):
            raise ConfigError(f"displacement = {sizes}: expected a positive length of some element")
    elif sizes is not None and not (np.isfinite(sizes) and sizes > 0):
        raise ConfigError(f"displacement = {sizes}: expected a positive length in Å")
    return sizes


Displacement = Annotated[float | dict[str, float], PlainValidator(lambda value: _check_sizes(_sizes(value)))]
"""Size of the displacements in Å, one for all atoms or one for each element."""


class DisplacementOptions(Options):
    """Options of the displacements that all methods of labelling share."""

    copies: int | None = option(
        "Copies of each training structure; 10 to 40 are enough. Default: one for each degree of freedom, at least "
        "10 and at most 36; gpr up to twice as many where labels are uncertain compared with the changes of energy.",
        None,
        example=36,
        ge=1,
    )
    displacement: Displacement | None = option(
        "Size of the displacements, a length or a table of lengths, { C = 0.02, H = 0.03 }: gaussian the standard "
        "deviation of each component, sphere and taylor the radius. Default: taylor 0.01; gpr the largest, between "
        "0.005 and 0.1, at which copies are no more uncertain than structures held out of the fit and "
        "change the energy by no more than three times its spread.",
        None,
        unit="Å",
        example=0.02,
    )
    min_force: float | None = option(
        "Displace only atoms on which at least this force acts.", None, unit="eV/Å", example=0.05, ge=0
    )
    min_distance: float = option(
        "Leave out copies in which atoms come closer than this fraction of the smallest distance between their "
        "elements in the training structures; for elements never closer than 4 Å, of the sum of covalent radii.",
        0.7,
        ge=0,
        lt=1,
    )
    seed: int = option(
        "Seed of the displacements and of the surrogates: structure k has the random stream (seed, k).",
        0,
        ge=0,
    )

    def check_elements(self, data: Dataset) -> None:
        """Refuse a size for an element that the data do not have.

        Raises
        ------
        ConfigError
        """
        given = self.displacement if isinstance(self.displacement, dict) else {}
        absent = [symbol for symbol in given if symbol not in data.species]
        if absent:
            raise ConfigError(
                f"displacement = {given}: {absent[0]} has no effect, no structure has this element "
                f"(elements: {', '.join(data.species)}); leave it out"
            )


def automatic_copies(structure: Structure, noise: float = 0.0) -> int:
    """Return the number of copies: one for each degree of freedom, 10 to 36, and more if labels are uncertain.

    A structure has 3N unknown slopes, and every copy tells one sum of them; with 36 copies of 20 atoms the
    errors of the potentials have settled (Yeu et al., npj Comput. Mater. 11, 156 (2025)). A label E of standard
    deviation s tells less of a change D of the energy by the displacement: the variance of the slopes found from M
    labels goes as (D² + s²) / M, so that M (1 + (s / D)²) of them tell as much as M exact ones. Beyond s = D, twice
    as many copies, labels are mostly noise, and more of them are not worth their cost.

    Parameters
    ----------
    structure : Structure
    noise : float
        s / D, see `relative_noise`.

    Examples
    --------
    >>> import gprann
    >>> h2 = gprann.examples.hydrogen(7)[0]
    >>> automatic_copies(h2), automatic_copies(h2, 0.5), automatic_copies(h2, 3.0)
    (10, 12, 20)
    """
    exact = int(np.clip(3 * len(structure), _FEWEST, _MOST))
    return round(exact * (1.0 + min(noise, _NOISIEST) ** 2))


def moving_atoms(structure: Structure, min_force: float | None) -> NDArray[np.bool_]:
    """Return which atoms are displaced: all of them, or those on which at least `min_force` (eV/Å) acts.

    Raises
    ------
    DataError
        If the forces are needed and unknown.
    """
    if min_force is None:
        return np.ones(len(structure), dtype=bool)
    if structure.forces is None:
        raise DataError(f"{structure.origin}: has no forces, which min_force needs; leave min_force out")
    return np.asarray(np.linalg.norm(structure.forces, axis=1) >= min_force)


def atom_sizes(structure: Structure, displacement: Displacement, min_force: float | None = None) -> Array:
    """Return the size of the displacement of every atom, Å, zero for atoms that stay; shape (N,).

    Raises
    ------
    DataError
        If no size is given for an element.

    Examples
    --------
    >>> water = Structure(("O", "H", "H"), [[0, 0, 0], [0.96, 0, 0], [-0.24, 0.93, 0]])
    >>> atom_sizes(water, {"O": 0.01, "H": 0.03})
    array([0.01, 0.03, 0.03])
    """
    if isinstance(displacement, Mapping):
        missing = sorted(set(structure.symbols) - set(displacement))
        if missing:
            hint = nearest_name(missing[0], displacement)
            raise DataError(f"{structure.origin}: displacement gives no size for {missing[0]}; {hint}")
        sizes = np.array([float(displacement[symbol]) for symbol in structure.symbols])
    else:
        sizes = np.full(len(structure), float(displacement))
    return np.where(moving_atoms(structure, min_force), sizes, 0.0)


def _per_atom(displacement: float | Array, n_atoms: int) -> Array:
    return np.broadcast_to(np.asarray(displacement, dtype=np.float64), (n_atoms,))


def gaussian(n_atoms: int, copies: int, displacement: float | Array, stream: tuple[int, int]) -> Array:
    """Return displacements of all atoms, normal with standard deviation `displacement` per component.

    The choice of Yeu et al., npj Comput. Mater. 11, 156 (2025), for GPR labels.

    Parameters
    ----------
    n_atoms, copies : int
    displacement : float or ndarray of shape (n_atoms,), Å
    stream : tuple of int

    Returns
    -------
    ndarray, shape (copies, n_atoms, 3), Å

    Examples
    --------
    >>> gaussian(20, 36, 0.021, (0, 0)).shape
    (36, 20, 3)
    """
    normal = np.random.default_rng(stream).standard_normal((copies, n_atoms, 3))
    return _per_atom(displacement, n_atoms)[:, None] * normal


def within_spheres(n_atoms: int, copies: int, displacement: float | Array, stream: tuple[int, int]) -> Array:
    """Return displacements uniform in a sphere of radius `displacement` about each atom, less their mean.

    Strategy B of Cooper et al., npj Comput. Mater. 6, 54 (2020): no net shift of the atoms that move.

    Returns
    -------
    ndarray, shape (copies, n_atoms, 3), Å
    """
    radii = _per_atom(displacement, n_atoms)
    rng = np.random.default_rng(stream)
    directions = rng.normal(size=(copies, n_atoms, 3))
    directions /= np.linalg.norm(directions, axis=2, keepdims=True)
    shifts = radii[:, None] * np.cbrt(rng.random((copies, n_atoms, 1))) * directions
    moving = radii > 0
    if np.count_nonzero(moving) > 1:
        shifts[:, moving] -= shifts[:, moving].mean(axis=1, keepdims=True)
    return np.asarray(shifts)


def single_atoms(n_atoms: int, displacement: float | Array) -> Array:
    """Return displacements of one atom at a time by ±displacement along x, y, z.

    Strategy A of Cooper et al., npj Comput. Mater. 6, 54 (2020). Atoms of size zero are left out.

    Returns
    -------
    ndarray, shape (6 n_moving, n_atoms, 3), Å

    Examples
    --------
    >>> single_atoms(2, 0.01).shape
    (12, 2, 3)
    """
    sizes = np.repeat(_per_atom(displacement, n_atoms), 3)
    steps = np.diag(sizes)[sizes > 0].reshape(-1, n_atoms, 3)
    return np.stack([steps, -steps], axis=1).reshape(-1, n_atoms, 3)


def references(source: Source) -> Dataset:
    """Return the reference structures to be copied, each with an origin of its own.

    Raises
    ------
    DataError
        If there are none.
    """
    data = structures(source)
    if len(data) == 0:
        raise DataError("there are no structures to copy; give some")
    return with_unique_origins(data)


def require_forces(data: Dataset, method: str) -> None:
    """Refuse structures without the forces that all methods of augmentation need.

    Raises
    ------
    DataError
        Naming the first structure and the remedy.
    """
    for structure in data:
        if structure.forces is None:
            count = sum(other.forces is None for other in data)
            raise DataError(
                f"{structure.origin}: has no forces (and so {count} of {len(data)} structures), which the method "
                f"'{method}' needs; compute them, leave the structures out, or train on energies alone with "
                'augmentation method "none"'
            )


def with_unique_origins(data: Dataset) -> Dataset:
    """Return the data set with a different origin for each structure, by which copies name their parent."""
    origins = {(structure.origin.file, structure.origin.index) for structure in data}
    if len(origins) == len(data):
        return data
    return Dataset(
        structure.replace(origin=_renumber(structure.origin, index)) for index, structure in enumerate(data)
    )


def _renumber(origin: Origin, index: int) -> Origin:
    """Return an origin with another number; messages still name the file and the number in the file."""
    place = origin.place or (str(replace(origin, method="reference")) if origin.file else "")
    return Origin(origin.file or "data set", index, origin.method, place)


def displace(data: Dataset, method: str, shifts: Iterable[Array]) -> Dataset:
    """Return unlabelled copies of structures, with charges, spins, constraints and what else is not derived.

    Parameters
    ----------
    data : Dataset
    method : str
        Method of labelling, which the origins of the copies keep.
    shifts : iterable of ndarray
        For each structure the displacements (copies, N, 3) in Å.
    """
    return Dataset(
        structure.with_positions(
            structure.positions + shift, origin=Origin(structure.origin.file, structure.origin.index, method)
        )
        for structure, own in zip(data, shifts, strict=True)
        for shift in own
    )


@dataclass(frozen=True, slots=True)
class DistanceLimits:
    """Smallest allowed distances between elements.

    Attributes
    ----------
    species : tuple of str
    smallest : ndarray, shape (S, S), Å
    """

    species: tuple[str, ...]
    smallest: Array

    @classmethod
    def of(cls, data: Dataset, fraction: float) -> DistanceLimits:
        """Return limits that are a fraction of the smallest distances in a data set.

        For elements that never come closer than 4 Å in it they are that fraction of the sum of the covalent radii.

        Examples
        --------
        >>> import gprann
        >>> DistanceLimits.of(gprann.examples.hydrogen(7), 0.7).smallest.round(6)
        array([[0.7]])
        """
        species = data.species
        smallest = np.full((len(species), len(species)), np.inf)
        for structure in data:
            first, second, distances = _pairs(structure, species, _REACH)
            np.minimum.at(smallest, (first, second), distances)
        smallest = np.minimum(smallest, smallest.T)
        radii = np.array([covalent_radii[atomic_numbers[symbol]] for symbol in species])
        return cls(species, fraction * np.where(np.isfinite(smallest), smallest, radii[:, None] + radii))

    def allow_each(self, copies: Dataset) -> NDArray[np.bool_]:
        """Return whether each copy is allowed, shape (n,), and log how many are not."""
        kept = np.array([self.allow(copy) for copy in copies], dtype=bool)
        if not kept.all():
            _log.warning("%d of %d copies left out: atoms come too close", np.sum(~kept), len(kept))
        return kept

    def allow(self, structure: Structure) -> bool:
        """Return whether no two atoms of a structure are too close."""
        if not self.smallest.size or not self.smallest.max() > 0:
            return True
        first, second, distances = _pairs(structure, self.species, float(self.smallest.max()))
        return not np.any(distances < self.smallest[first, second])


def _pairs(
    structure: Structure, species: tuple[str, ...], cutoff: float
) -> tuple[NDArray[np.int64], NDArray[np.int64], Array]:
    """Return the species numbers of both atoms, and the distance, of all pairs within a cutoff."""
    kinds = np.array([species.index(symbol) for symbol in structure.symbols], dtype=np.int64)
    finder = vesin.NeighborList(cutoff=cutoff, full_list=False)
    first, second, distances = finder.compute(
        structure.positions, structure.cell, [bool(periodic) for periodic in structure.pbc], "ijd"
    )
    return kinds[first], kinds[second], np.asarray(distances)
