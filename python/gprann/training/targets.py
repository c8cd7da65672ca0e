"""Targets of a fit: energies, forces and virials in units of the energy scale, and the weights of their errors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from gprann.arrays import Array, Indices
from gprann.data.prediction import volume
from gprann.data.structure import Dataset
from gprann.errors import ConfigError, DataError, nearest_name
from gprann.training.fit_data import LabelTable
from gprann.training.options import USUAL_ALPHA, TrainingOptions

_WITH_FORCES = 4.0
_SAME_SIZE = (
    1.2  # times as many atoms as the smallest structure, up to which energies are compared as they are
)
_LARGEST_FACTOR = 4.0


def energy_scale(residuals: Array, *, forces: bool = False) -> float:
    """Return the unit of the networks' output, eV: the standard deviation of the energies left to fit.

    With forces four times that: random networks, whose energies then vary about as much as those of the data or
    more, find their way in half the iterations, because no weight has to grow until tanh saturates.
    """
    scale = float(np.std(residuals))
    return (_WITH_FORCES if forces else 1.0) * (scale if scale > 1e-8 else 1.0)


class Facts(NamedTuple):
    """The facts on which the weights of n structures depend.

    Attributes
    ----------
    n_atoms : ndarray of int64, shape (n,)
    weights : ndarray, shape (n,)
    variances : ndarray, shape (n,), eV²
        Of the energies.
    group : ndarray of int64, shape (n,)
        Number of the name of its group.
    groups : tuple of str
        Names of the groups.
    """

    n_atoms: Indices
    weights: Array
    variances: Array
    group: Indices
    groups: tuple[str, ...]

    @classmethod
    def of(cls, data: Dataset) -> Facts:
        """Return the facts of a data set."""
        groups: dict[str, int] = {}
        return cls(
            data.n_atoms,
            np.array([structure.weight for structure in data]),
            np.array([structure.energy_variance for structure in data]),
            np.array([groups.setdefault(structure.group, len(groups)) for structure in data], dtype=np.int64),
            tuple(groups),
        )


def structure_weights(data: Dataset | Facts, options: TrainingOptions) -> Array:
    """Return the weights of the structures, shape (n,).

    Raises
    ------
    ConfigError
        If a group has a weight but no structure.
    DataError
        If all weights are zero.
    """
    facts = Facts.of(data) if isinstance(data, Dataset) else data
    groups = set(facts.groups)
    for group in options.group_weights:
        if group not in groups:
            raise ConfigError(
                f"group_weights: no structure is of the group '{group}'; {nearest_name(group, groups)}"
            )
    factors = np.array([options.group_weights.get(name, 1.0) for name in facts.groups])
    weights: Array = facts.weights * factors[facts.group]
    if options.label_noise is not None:
        weights = weights * options.label_noise**2 / (options.label_noise**2 + facts.variances)
    if not weights.sum() > 0:
        raise DataError("all weights of the training set are zero; nothing would be trained")
    return weights


def sizes_differ(data: Dataset | Facts) -> bool:
    """Whether the structures differ in size by so much that errors are to be compared per atom."""
    return int(data.n_atoms.max()) > _SAME_SIZE * int(data.n_atoms.min())


def energy_weights(data: Dataset | Facts, weights: Array, *, per_atom: bool) -> Array:
    """Return the weights of the squared energy errors, shape (n,): per structure or per atom.

    Per atom the weight is (N_mean / N)², so that structures of the mean size keep theirs. None counts more than sixteen
    times that: an isolated atom among cells of a hundred would decide alone.
    """
    if not per_atom:
        return weights
    sizes = data.n_atoms.astype(float)
    mean = float(weights @ sizes / weights.sum())
    result: Array = weights * (mean / np.maximum(sizes, mean / _LARGEST_FACTOR)) ** 2
    return result


def label_table(data: Dataset, scale: float, species: Sequence[str], options: TrainingOptions) -> LabelTable:
    """Return energies, forces and virials in units of the energy scale, with the weights of the combined loss.

    Parameters
    ----------
    data : Dataset
        With labels less the baseline.
    scale : float, eV
    species : sequence of str
    options : TrainingOptions

    Raises
    ------
    ConfigError
        If an element has a weight but does not occur.
    DataError
        If forces or stresses are to be fitted and no structure has them.
    """
    weights = structure_weights(data, options)
    of_energy = energy_weights(data, weights, per_atom=bool(options.per_atom))
    forces, counts = _forces(data, weights, species, options)
    virials, stressed = _virials(data, weights, options)
    alpha = USUAL_ALPHA if options.alpha is None else options.alpha
    alpha = alpha if options.forces else 0.0
    total = float(weights.sum())
    return LabelTable(
        energies=data.energies / scale,
        energy_weights=(1 - alpha) * of_energy,
        forces=forces / scale,
        force_weights=alpha * total / max(counts.sum(), 1e-300) * counts,
        virials=virials / scale,
        virial_weights=options.stress * total / max(stressed.sum(), 1e-300) * stressed,
        structure_weights=weights,
        energy_threshold=np.inf if options.huber_energy is None else options.huber_energy / scale,
        force_threshold=np.inf if options.huber_force is None else options.huber_force / scale,
    )


def _forces(
    data: Dataset, weights: Array, species: Sequence[str], options: TrainingOptions
) -> tuple[Array, Array]:
    """Return forces and relative weights of their components, both of shape (n_atoms, 3)."""
    forces = [np.zeros((len(s), 3)) if s.forces is None else s.forces for s in data]
    for symbol in options.species_weights:
        if symbol not in species:
            raise ConfigError(
                f"species_weights: {symbol} is not among the species; {nearest_name(symbol, species)}"
            )
    counts = [
        np.array([weight * options.species_weights.get(symbol, 1.0) for symbol in structure.symbols])
        * (structure.forces is not None and options.forces)
        for weight, structure in zip(weights, data, strict=True)
    ]
    flat = np.repeat(np.concatenate(counts)[:, None], 3, axis=1)
    if options.forces and not flat.sum() > 0:
        raise DataError(
            "forces = true, but no structure of the training set has forces (or all their weights are zero); "
            "give forces, or train on energies alone"
        )
    return np.concatenate(forces), flat


def _virials(data: Dataset, weights: Array, options: TrainingOptions) -> tuple[Array, Array]:
    """Return virials dE/d(strain) and relative weights of their components, both of shape (n, 6)."""
    virials, counts = np.zeros((len(data), 6)), np.zeros((len(data), 6))
    for k, structure in enumerate(data):
        size = volume(structure)
        if options.stress > 0 and structure.stress is not None and size > 0:
            virials[k] = structure.stress * size
            counts[k] = weights[k]
    if options.stress > 0 and not counts.sum() > 0:
        raise DataError(
            "stress is to be fitted, but no structure that is periodic in three directions has a stress; "
            "give stresses, or set stress = 0"
        )
    return virials, counts
