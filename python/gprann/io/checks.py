"""Geometries that cannot be used; repeated structures; energies that do not belong to the others."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from ase.geometry import complete_cell, minkowski_reduce
from numpy.typing import NDArray

from gprann.arrays import Array
from gprann.data.structure import Composition, Dataset, Structure
from gprann.errors import DataError, listing
from gprann.io.consistency import LabelCheck, check_labels, electronic_state

DUPLICATE_TOLERANCE = 1e-6
"""Å; largest difference of coordinates between two structures that count as the same."""

OUTLIER_SCORE = 12.0
"""Robust standard deviations from the median beyond which an energy per atom is reported, in a large set."""

OUTLIER_MINIMUM = 8
"""Smallest number of structures (beyond the number of elements) whose energies are judged."""

COINCIDENT = 0.2
"""Å; nuclei closer than this are a mistake: the shortest bond, H-H, has 0.74 Å."""

FARTHEST = 1e6
"""Å; a larger coordinate or cell vector is a mistake of units or format."""

# Sorting along a direction that no crystal plane is perpendicular to keeps the number of candidates small.
_DIRECTION = np.array([0.6186, 0.5317, 0.5786]) / np.linalg.norm([0.6186, 0.5317, 0.5786])

_LEAST_SPREAD, _LEAST_CHEMISTRY = 1e-3, 0.1  # eV/atom; within a composition, and between them
_LEVEL_SHIFT, _LEVEL_RANGES = 0.5, 3.0  # eV/atom, and times the range of the energies
_LISTED = 5
_MAX_PASSES = 200

Indices = NDArray[np.intp]


class DataWarning(UserWarning):
    """Data that can be used but look wrong; the message lists what to look at."""


@dataclass(frozen=True, slots=True)
class DataReport:
    """Suspicious structures of a data set.

    Attributes
    ----------
    duplicates : tuple of tuple of int
        Indices of structures with the same elements, cell and geometry, each tuple in ascending order.
    outliers : tuple of int
        Indices of structures whose energy per atom is far from that of the others, worst first.
    messages : tuple of str
        One sentence for each kind of finding, empty where nothing is suspicious.
    labels : LabelCheck
        How energies, forces and stresses fit each other.
    """

    duplicates: tuple[tuple[int, ...], ...]
    outliers: tuple[int, ...]
    messages: tuple[str, ...]
    labels: LabelCheck


def check_dataset(data: Dataset) -> DataReport:
    """Look for repeated structures, energies that do not belong to the others, and labels that do not fit each other.

    Parameters
    ----------
    data : Dataset

    Returns
    -------
    DataReport

    Examples
    --------
    >>> from gprann.data.structure import Structure
    >>> h2 = Structure(("H", "H"), np.array([[0.0, 0, 0], [0, 0, 0.74]]), energy=-31.7)
    >>> check_dataset(Dataset([h2, h2.replace(positions=h2.positions + 1.0)])).duplicates
    ((0, 1),)
    """
    duplicates = _of_one_state(data, find_duplicates(data))
    outliers, deviations = find_outliers(data)
    labels = check_labels(data)
    messages = list(labels.messages)
    if duplicates:
        messages.append(_duplicate_message(data, duplicates))
    if outliers:
        messages.append(_outlier_message(data, outliers, deviations))
    return DataReport(duplicates, outliers, tuple(messages), labels)


def _of_one_state(data: Dataset, groups: Sequence[tuple[int, ...]]) -> tuple[tuple[int, ...], ...]:
    """Divide groups of one geometry by charge and spin; nothing that stands alone is a duplicate."""
    found = []
    for group in groups:
        states: dict[object, list[int]] = defaultdict(list)
        for index in group:
            states[electronic_state(data[index])].append(index)
        found += [tuple(members) for members in states.values() if len(members) > 1]
    return tuple(found)


def _duplicate_message(data: Dataset, duplicates: Sequence[tuple[int, ...]]) -> str:
    groups = ["[" + " = ".join(_names(data, group, _LISTED)) + "]" for group in duplicates]
    repeated = sum(len(group) - 1 for group in duplicates)
    spread = max(_energy_spread(data, group) for group in duplicates)
    return (
        f"{repeated} of {len(data)} structures repeat the geometry of another one "
        f"(energies differ by up to {spread:.3g} eV): {listing(groups)}; remove the repeated ones"
    )


def _energy_spread(data: Dataset, group: Sequence[int]) -> float:
    energies = [data[i].energy for i in group]
    known = [energy for energy in energies if energy is not None]
    return max(known) - min(known) if known else 0.0


def _outlier_message(data: Dataset, outliers: Sequence[int], deviations: Sequence[float]) -> str:
    named = [
        f"{name} ({deviation:+.3g} eV/atom)"
        for name, deviation in zip(_names(data, outliers, len(outliers)), deviations, strict=True)
    ]
    return (
        f"{len(outliers)} of {len(data)} structures have an energy per atom more than {OUTLIER_SCORE:g} "
        f"robust standard deviations away from what the others suggest: {listing(named)}; "
        "check their labels and units"
    )


def _names(data: Dataset, indices: Sequence[int], most: int) -> list[str]:
    names = [str(data[i].origin) for i in indices[:most]]
    return names if len(indices) <= most else [*names, f"{len(indices) - most} more"]


def find_duplicates(data: Dataset, tolerance: float = DUPLICATE_TOLERANCE) -> tuple[tuple[int, ...], ...]:
    """Return groups of structures that are the same up to a translation and the choice of periodic images.

    Two structures are the same if they have the same elements in the same order, the same periodic cell
    vectors, and coordinates relative to the first atom that agree within `tolerance` (Å).
    Cost O(n log n) for n structures.

    Examples
    --------
    >>> from gprann.data.structure import Structure
    >>> h2 = Structure(("H", "H"), np.array([[0.0, 0, 0], [0, 0, 0.74]]))
    >>> find_duplicates(Dataset([h2, h2.replace(positions=1.1 * h2.positions), h2]))
    ((0, 2),)
    """
    alike: dict[tuple[object, ...], list[int]] = defaultdict(list)
    for index, structure in enumerate(data):
        alike[structure.symbols, tuple(structure.pbc.tolist())].append(index)
    found = [
        group for members in alike.values() if len(members) > 1 for group in _equal(data, members, tolerance)
    ]
    return tuple(sorted(found))


def geometry_digest(structure: Structure) -> str:
    """Return a short digest of elements, cell and relative positions, by which a structure is known again.

    Examples
    --------
    >>> import gprann
    >>> a, b = gprann.examples.hydrogen(2)
    >>> geometry_digest(a) == geometry_digest(a.replace(positions=a.positions + 1.0)), geometry_digest(a) == (
    ...     geometry_digest(b)
    ... )
    (True, False)
    """
    state = hashlib.sha256(" ".join(structure.symbols).encode())
    for array in (structure.positions - structure.positions[0], structure.cell * structure.pbc[:, None]):
        state.update((array.round(5) + 0.0).tobytes())  # + 0.0 makes -0.0 equal to 0.0
    return state.hexdigest()[:16]


def _equal(data: Dataset, members: list[int], tolerance: float) -> list[tuple[int, ...]]:
    """Return the groups of equal structures among `members`, which have the same elements and periodic directions."""
    pbc = data[members[0]].pbc
    relative = np.stack([data[i].positions - data[i].positions[0] for i in members])
    cells = np.stack([complete_cell(data[i].cell * pbc[:, None]) for i in members])
    inverses = np.linalg.inv(cells)
    key, resolution = _projection(relative @ inverses, relative, cells, pbc)

    def same(a: Indices, b: Indices) -> NDArray[np.bool_]:
        shift = (relative[a] - relative[b]) @ inverses[a]
        shift -= np.where(pbc, np.round(shift), 0.0)
        moved = np.abs(shift @ cells[a]).max(axis=(1, 2))
        strained = np.abs(cells[a] - cells[b]).max(axis=(1, 2))
        return np.asarray(np.maximum(moved, strained) <= tolerance)

    roots = _link(key, resolution * tolerance, same)
    groups: dict[int, list[int]] = defaultdict(list)
    for member, root in zip(members, roots.tolist(), strict=True):
        groups[root].append(member)
    return [tuple(group) for group in groups.values() if len(group) > 1]


def _projection(
    fractions: Array, relative: Array, cells: Array, pbc: NDArray[np.bool_]
) -> tuple[Array, float]:
    """Return one number per structure that equal structures share, and how much it may change per Å.

    Periodic directions enter through sine and cosine, so that the choice of the image does not matter.
    """
    n = len(relative)
    angles = 2.0 * np.pi * fractions[:, :, pbc]
    free = relative if not pbc.any() else fractions[:, :, ~pbc]
    features = np.concatenate(
        [part.reshape(n, part[0].size) for part in (np.cos(angles), np.sin(angles), free, cells[:, pbc])],
        axis=1,
    )
    weights = np.random.default_rng(0).uniform(0.1, 1.0, features.shape[1])
    # A shift of 1 Å changes a fraction by at most one over the smallest height of the cell.
    steepest = 2.0 * np.pi * float(np.linalg.norm(np.linalg.inv(cells), axis=1).max()) if pbc.any() else 1.0
    return np.asarray(features @ weights), 2.0 * float(np.sum(weights)) * max(1.0, steepest)


def _link(key: Array, width: float, same: Callable[[Indices, Indices], NDArray[np.bool_]]) -> Indices:
    """Return the root of each element: elements whose keys differ by at most `width` are compared by `same`.

    Elements that repeat another one are taken out of the sorted list at once, so that many copies of one
    structure do not cost a comparison of all pairs.
    """
    root = np.arange(len(key))
    alive = np.argsort(key, kind="stable")
    step = 1
    for _ in range(_MAX_PASSES):
        if step >= len(alive):
            break
        near = key[alive[step:]] - key[alive[:-step]] <= width
        if not near.any():
            break
        first, second = alive[:-step][near], alive[step:][near]
        equal = same(first, second)
        for a, b in zip(first[equal].tolist(), second[equal].tolist(), strict=True):
            root[b] = root[a]
        if equal.any():
            alive, step = alive[~np.isin(alive, second[equal])], 1
        else:
            step += 1
    return root


def find_outliers(data: Dataset) -> tuple[tuple[int, ...], tuple[float, ...]]:
    """Return structures whose energy does not belong to the others, and by how much (eV/atom), worst first.

    Energies per atom are compared among the structures of one composition, where there are `OUTLIER_MINIMUM` or
    more: the energies of different ones neither agree nor spread alike. Those of rarer compositions are compared
    together, after a fit by the fractions of the elements (least absolute deviations) to them and to the medians
    of the frequent ones. A structure is reported if it is more than ``OUTLIER_SCORE (1 + 20/n)`` robust standard
    deviations from the median of the n that it is compared with. One of them is 1.4826 x the median absolute
    deviation, above and below the median separately, because thermal energies are skewed, and at least 1 meV/atom.
    Structures without an energy are left out; fewer than `OUTLIER_MINIMUM` structures beyond the number of elements
    are not judged.

    Examples
    --------
    >>> from gprann.data.structure import Structure
    >>> energies = [-31.7, -31.6, -31.8, -31.75, -31.65, -31.7, -31.72, -31.68, -31.7, -3.17]
    >>> h2 = Structure(("H", "H"), np.array([[0.0, 0, 0], [0, 0, 0.74]]))
    >>> find_outliers(Dataset(h2.replace(energy=energy) for energy in energies))[0]
    (9,)
    """
    frequent, rare = _by_frequency(data)
    judged = [_scores(_energies_per_atom(data, members), members, _LEAST_SPREAD) for members in frequent]
    judged.append(_scores_of_rare(data, frequent, rare))
    found = sorted((item for scores in judged for item in scores), key=lambda item: -item[0])
    return tuple(index for _, index, _ in found), tuple(deviation for _, _, deviation in found)


def _by_frequency(data: Dataset) -> tuple[list[list[int]], list[int]]:
    """Return the labelled structures of each composition that is frequent, and all others."""
    groups = _labelled_by_composition(data)
    frequent = [members for members in groups.values() if len(members) >= OUTLIER_MINIMUM]
    rare = [index for members in groups.values() if len(members) < OUTLIER_MINIMUM for index in members]
    return frequent, sorted(rare)


def _labelled_by_composition(data: Dataset) -> dict[Composition, list[int]]:
    groups: dict[Composition, list[int]] = defaultdict(list)
    for index, structure in enumerate(data):
        if structure.energy is not None:
            groups[structure.composition].append(index)
    return groups


def _energies_per_atom(data: Dataset, members: Sequence[int]) -> Array:
    chosen = data.select(members)
    return np.asarray(chosen.energies / chosen.n_atoms)


def _scores(energies: Array, members: Sequence[int], least: float) -> list[tuple[float, int, float]]:
    """Return score, index and deviation of the members whose energies are too far from the median."""
    deviations = energies - np.median(energies)
    above, below = (max(least, _spread(side)) for side in (deviations, -deviations))
    scores = np.abs(deviations) / np.where(deviations > 0, above, below)
    limit = OUTLIER_SCORE * (1.0 + 20.0 / len(energies))  # a spread known from few structures is uncertain
    items = zip(scores.tolist(), members, deviations.tolist(), strict=False)
    return [item for item in items if item[0] > limit]


def _scores_of_rare(
    data: Dataset, frequent: Sequence[Sequence[int]], rare: Sequence[int]
) -> list[tuple[float, int, float]]:
    """Score structures of rare compositions; a frequent composition stands beside them by its median."""
    medians = [float(np.median(_energies_per_atom(data, members))) for members in frequent]
    examples = data.select([*rare, *(members[0] for members in frequent)])
    species = examples.species
    if not rare or len(examples) < OUTLIER_MINIMUM + len(species) - 1:
        return []
    counts = np.array([[s.symbols.count(element) for element in species] for s in examples], dtype=np.float64)
    energies = np.concatenate([_energies_per_atom(data, rare), medians])
    residuals = _robust_residuals(counts / examples.n_atoms[:, None], energies)
    return _scores(residuals, rare, _LEAST_CHEMISTRY)


def find_level_shifts(before: Dataset, new: Dataset) -> dict[Composition, float]:
    """Return the compositions whose new energies look like those of another level of theory, and the difference.

    The medians of the energies per atom are compared where both sets hold a composition. Reported is what exceeds
    0.5 eV/atom and three times the range of the energies in either set: new structures may well be unusual ones.

    Examples
    --------
    >>> import gprann
    >>> data = gprann.examples.hydrogen(7)
    >>> other = Dataset(item.replace(energy=item.energy - 27.2) for item in data)
    >>> find_level_shifts(data[:4], data[4:]), list(find_level_shifts(data[:4], other[4:]))
    ({}, [(('H', 2),)])
    """
    known, added = _labelled_by_composition(before), _labelled_by_composition(new)
    shifts = {}
    for composition in known.keys() & added.keys():
        old, other = (
            _energies_per_atom(before, known[composition]),
            _energies_per_atom(new, added[composition]),
        )
        shift = float(np.median(other) - np.median(old))
        if abs(shift) > max(_LEVEL_SHIFT, _LEVEL_RANGES * max(float(np.ptp(old)), float(np.ptp(other)))):
            shifts[composition] = shift
    return dict(sorted(shifts.items()))


def _spread(deviations: Array) -> float:
    """Return the standard deviation of the positive side of a distribution, from its median."""
    above = deviations[deviations > 0]
    return 1.4826 * float(np.median(above)) if len(above) else 0.0


def _robust_residuals(fractions: Array, energies: Array) -> Array:
    """Return the residuals of least absolute deviations, by iteratively reweighted least squares (Huber 1981, 7.8)."""
    weights = np.ones(len(energies))
    residuals = energies
    for _ in range(20):
        root = np.sqrt(weights)
        solution = np.linalg.lstsq(fractions * root[:, None], energies * root, rcond=1e-10)[0]
        residuals = energies - fractions @ solution
        weights = 1.0 / np.maximum(np.abs(residuals), 1e-4)
        weights /= weights.max()
    return np.asarray(residuals)


# ---------------------------------------------------------------- geometries
def check_geometry(structure: Structure) -> None:
    """Raise an error if two atoms coincide or a length is absurd.

    Raises
    ------
    DataError
        Naming the structure, the atoms and their distance.

    Examples
    --------
    >>> check_geometry(Structure(("H", "H"), np.array([[0.0, 0, 0], [0, 0, 0.01]])))
    Traceback (most recent call last):
    ...
    gprann.errors.DataError: structure 0: atoms 0 and 1 (H, H) are 0.010 Å apart; remove one of them or \
correct the positions and the cell
    """
    far = np.argwhere(np.abs(structure.positions) > FARTHEST)
    if len(far):
        value = structure.positions[tuple(far[0])]
        raise DataError(
            f"{structure.origin}: atom {far[0][0]} has the coordinate {value:g} Å; check the units"
        )
    if np.abs(structure.cell).max() > FARTHEST:
        raise DataError(f"{structure.origin}: a cell vector is longer than {FARTHEST:g} Å; check the units")
    pair = close_pair(structure, COINCIDENT)
    if pair is None:
        return
    i, j, distance = pair
    atoms = (
        f"atom {i} ({structure.symbols[i]}) and its own periodic image"
        if i == j
        else f"atoms {i} and {j} ({structure.symbols[i]}, {structure.symbols[j]})"
    )
    raise DataError(
        f"{structure.origin}: {atoms} are {distance:.3f} Å apart; "
        "remove one of them or correct the positions and the cell"
    )


def close_pair(structure: Structure, distance: float) -> tuple[int, int, float] | None:
    """Return two atoms closer than `distance` (Å), and how close they are, or None.

    Periodic images count; an atom may come too close to its own image. Cost O(N) for matter of ordinary
    density.

    Examples
    --------
    >>> close_pair(Structure(("H", "H"), np.array([[0.0, 0, 0], [0, 0, 0.74]])), 0.2) is None
    True
    """
    if not structure.pbc.any():
        return _sweep(structure.positions, np.arange(len(structure)), distance)
    cell = complete_cell(structure.cell * structure.pbc[:, None])
    heights = 1.0 / np.linalg.norm(np.linalg.inv(cell), axis=0)
    if heights[structure.pbc].min() < 1.0:
        # A thin or strongly skewed cell needs many images, its reduced form only the nearest ones.
        cell, _ = minkowski_reduce(cell, structure.pbc)
        shortest = float(np.linalg.norm(cell[structure.pbc], axis=1).min())
        if shortest < distance:
            return 0, 0, shortest
    return _sweep(*_with_images(structure.positions, cell, structure.pbc, distance), distance)


def _with_images(
    positions: Array, cell: Array, pbc: NDArray[np.bool_], margin: float
) -> tuple[Array, NDArray[np.intp]]:
    """Wrap the atoms into the cell and add the images within `margin` of its upper faces."""
    inverse = np.linalg.inv(cell)
    fractions = positions @ inverse
    fractions -= np.where(pbc, np.floor(fractions), 0.0)
    atoms = np.arange(len(positions))
    margins = margin * np.linalg.norm(inverse, axis=0)
    for axis in np.flatnonzero(pbc):
        shifted, parents = [fractions], [atoms]
        for copy in range(1, int(np.ceil(margins[axis])) + 1):
            near = fractions[:, axis] + copy - 1.0 < margins[axis]
            shifted.append(fractions[near] + copy * np.eye(3)[axis])
            parents.append(atoms[near])
        fractions, atoms = np.concatenate(shifted), np.concatenate(parents)
    return fractions @ cell, atoms


def _sweep(positions: Array, atoms: NDArray[np.intp], distance: float) -> tuple[int, int, float] | None:
    """Compare each atom with the next ones along one direction until all of these are too far away."""
    along = positions @ _DIRECTION
    order = np.argsort(along)
    along, positions, atoms = along[order], positions[order], atoms[order]
    for step in range(1, len(atoms)):
        candidates = np.flatnonzero(along[step:] - along[:-step] < distance)
        if not len(candidates):
            return None
        distances = np.linalg.norm(positions[candidates + step] - positions[candidates], axis=1)
        best = int(np.argmin(distances))
        if distances[best] < distance:
            i, j = sorted((int(atoms[candidates[best]]), int(atoms[candidates[best] + step])))
            return i, j, float(distances[best])
    return None
