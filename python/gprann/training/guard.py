"""The extrapolation guard of a training set, and what it notices: how far atoms move before they leave the set."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from gprann.arrays import Array, Indices
from gprann.data.structure import Dataset, evenly_spread
from gprann.descriptors import Descriptor
from gprann.errors import AtomsTooCloseError, DataError
from gprann.io.reading import Source, structures
from gprann.models import Guard, Normalisation
from gprann.models.features import descriptor_values
from gprann.models.guard import ArraySample, Sample
from gprann.potential import Potential
from gprann.training.hold_out import families, folds, join_trajectories, strata

_log = logging.getLogger(__name__)
_DISPLACEMENTS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5)  # Å
_STRUCTURES, _ATOMS = 20, 2000  # that are displaced at most
_FOLDS = 5


def fit_guard(
    data: Dataset,
    descriptor: Descriptor,
    normalisation: Normalisation,
    environments: Sample,
) -> Guard:
    """Fit the guard of a training set, and displace its atoms to see what the guard notices.

    Parameters
    ----------
    data : Dataset
    descriptor : Descriptor
    normalisation : Normalisation
    environments : Sample
        Those of the atoms of `data`.

    Returns
    -------
    Guard
    """
    guard = Guard.of(environments, len(descriptor.species), descriptor.size)
    guard = replace(guard, reach=_reach(guard, _some(data), descriptor, normalisation))
    _log.info(
        "extrapolation guard: half of the atoms are noticed once they are displaced by %s",
        ", ".join(
            f"{symbol} {'more than 0.5' if length is None else format(length, '.2g')} Å"
            for symbol, length in guard.reach.items()
        ),
    )
    return guard


def add_guard(potential: Potential, data: Source) -> Potential:
    """Return a potential with the guard of a training set, for one that was saved before there were guards.

    Parameters
    ----------
    potential : Potential
    data : Dataset, or anything that `gprann.read` takes
        All structures that it was trained on; labels do not count.

    Raises
    ------
    DataError
        If the data set is empty, or has elements that the potential does not know.

    Examples
    --------
    >>> import gprann
    >>> data = gprann.examples.hydrogen(7)
    >>> descriptor = gprann.ChebyshevDescriptor(["H"], angular_order=None)
    >>> potential = gprann.train(data, descriptor, hidden=(3,), iterations=2, starts=1)
    >>> bool((gprann.add_guard(potential, data).guard.factors == potential.guard.factors).all())
    True
    """
    data = structures(data)
    if len(data) == 0:
        raise DataError("the data set is empty; give the structures that the potential was trained on")
    values, kinds, first = descriptor_values(potential.descriptor, data)
    features = potential.normalisation.apply(values, kinds)
    kin, kind = kinship(data, features, first)
    environments = ArraySample(features, kinds, atom_folds(kin, kind, first))
    guard = fit_guard(data, potential.descriptor, potential.normalisation, environments)
    return replace(potential, guard=guard)


def kinship(data: Dataset, features: Array, first: Indices) -> tuple[Indices, Indices]:
    """Return families and strata of structures, pieces of trajectories joined; see `hold_out`."""
    return kinship_of_averages(data, average_environments(features, first))


def kinship_of_averages(data: Dataset, averages: Array) -> tuple[Indices, Indices]:
    """Return the same from the average environment of each structure, shape (n, D)."""
    kin, kind = families(data), strata(data)
    return join_trajectories(kin, kind, averages), kind


def average_environments(features: Array, first: Indices) -> Array:
    """Return the average of the environments of each structure, shape (n, D)."""
    return np.asarray(np.add.reduceat(features, first[:-1]) / np.diff(first)[:, None])


def fold_structures(kin: Indices, kind: Indices) -> Indices:
    """Return the fold of each structure, shape (n,), in which it is held out."""
    return folds(kin, kind, _FOLDS, np.random.default_rng(0))


def atom_folds(kin: Indices, kind: Indices, first: Indices) -> Indices:
    """Return the fold of each atom, shape (n_atoms,), in which its structure is held out."""
    return np.repeat(fold_structures(kin, kind), np.diff(first))


def _some(data: Dataset) -> Dataset:
    """Return some structures, spread evenly, of not too many atoms."""
    chosen = data.select(evenly_spread(len(data), _STRUCTURES))
    atoms = np.cumsum(chosen.n_atoms)
    return chosen[: max(1, int(np.searchsorted(atoms, _ATOMS)))]


def _reach(
    guard: Guard, data: Dataset, descriptor: Descriptor, normalisation: Normalisation
) -> Mapping[str, float | None]:
    """Return, by element, the displacement at which half of the atoms are noticed."""
    rng = np.random.default_rng(0)
    moves = [rng.normal(size=(len(structure), 3)) for structure in data]
    medians = []
    for length in _DISPLACEMENTS:
        copies = [
            structure.without_labels().with_positions(structure.positions + length * move)
            for structure, move in zip(data, moves, strict=True)
        ]
        try:
            values, kinds, _ = descriptor_values(descriptor, copies)
        except AtomsTooCloseError:
            break
        grades = guard.grades(normalisation.apply(values, kinds), kinds)
        medians.append([np.median(grades[kinds == kind]) for kind in np.unique(kinds)])
    if not medians:
        return {}
    lengths = np.log(_DISPLACEMENTS[: len(medians)])
    result: dict[str, float | None] = {}
    for kind, own in zip(
        np.unique(kinds).tolist(), np.maximum.accumulate(np.array(medians), axis=0).T, strict=True
    ):
        found = float(np.exp(np.interp(0.0, np.log(np.maximum(own, 1e-9)), lengths)))
        result[descriptor.species[kind]] = found if own[-1] >= 1 else None
    return result
