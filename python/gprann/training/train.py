"""Train a potential or a committee on the energies of a data set."""

from __future__ import annotations

import itertools
import logging
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gprann.descriptors import ChebyshevDescriptor
from gprann.errors import DataError, TrainingError
from gprann.models import FeatureTable, NetworkModel, Normalisation
from gprann.models.features import descriptor_values
from gprann.potential import Potential
from gprann.progress import progress_bar
from gprann.structure import Dataset
from gprann.training.committee import MemberProgress, train_members
from gprann.training.job import Job
from gprann.training.options import TrainingOptions
from gprann.training.problem import EnergyProblem
from gprann.training.state import OptimizerState
from gprann.training.targets import (
    count_species,
    energy_scale,
    fit_reference_energies,
    given_reference_energies,
    structure_weights,
)
from gprann.version import __version__

__all__ = ["train"]

_log = logging.getLogger(__name__)
Array = NDArray[np.float64]


def train(
    data: Dataset,
    descriptor: ChebyshevDescriptor,
    *,
    reference_energies: Mapping[str, float] | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    workers: int | None = None,
    progress: bool | None = None,
    provenance: Mapping[str, Any] | None = None,
    **options: Any,
) -> Potential:
    """Train networks on the energies of a data set.

    Parameters
    ----------
    data : Dataset
        Structures with energies; usually the result of `augment`.
    descriptor : ChebyshevDescriptor
    reference_energies : mapping of symbol to eV, optional
        E0 of each element. Default: least squares on the composition.
    checkpoint : path, optional
        Folder in which the state of every member is kept: run again with the same data and options, training
        goes on where it was interrupted and ends with the same bits.
    workers : int, optional
        Processes that train members side by side. Default: one per thread for committees that are worth it.
    progress : bool, optional
        Show a progress bar; default: on a terminal only.
    provenance : mapping, optional
        Plain data kept in the model file beside the options.
    **options
        Fields of `TrainingOptions`: hidden, activation, optimizer ('lm' or 'adamw'), members, seed,
        iterations, validation, patience, starts, start_iterations, per_atom, label_noise, learning_rate,
        weight_decay, batch_size, ridge.

    Returns
    -------
    Potential
        With `members` networks; its `provenance["training"]["history"]` holds the learning curves.

    Raises
    ------
    ConfigError
        If an option is misspelt or impossible.
    DataError
        If structures lack energies or have elements unknown to the descriptor.
    TrainingError
        If training diverged.

    Examples
    --------
    >>> import gprann
    >>> data = gprann.examples.hydrogen(7)
    >>> descriptor = gprann.ChebyshevDescriptor(["H"], radial_order=10, radial_cutoff=8.0, angular_order=None)
    >>> potential = gprann.train(data, descriptor, hidden=(5, 5), optimizer="lm", iterations=20, seed=1)
    >>> potential.provenance["training"]["n_structures"]
    7
    """
    settings = TrainingOptions.from_keywords(options)
    if len(data) == 0:
        raise DataError("the training set is empty; give at least one structure with an energy")
    energies = data.energies
    started = time.perf_counter()
    normalisation, table = _features(descriptor, data)
    e0, residuals = _without_references(energies, data, descriptor.species, reference_energies)
    scale = energy_scale(residuals)
    weights = structure_weights(data, per_atom=settings.per_atom, label_noise=settings.label_noise)
    model = NetworkModel(descriptor.size, settings.hidden, len(descriptor.species), settings.activation)
    job = Job(EnergyProblem(model, table, residuals / scale, weights), _groups(data), settings, scale)
    folder = None if checkpoint is None else Path(checkpoint)
    with _Bar(settings, scale, progress) as bar:
        states = train_members(job, folder=folder, workers=workers, progress=bar)
    return Potential(
        descriptor,
        normalisation,
        model,
        _best_parameters(states),
        e0,
        energy_scale=scale,
        provenance={**(provenance or {}), "training": _record(data, job, states, started)},
    )


def _features(descriptor: ChebyshevDescriptor, data: Dataset) -> tuple[Normalisation, FeatureTable]:
    """Return the standardised descriptors of the data set, and what standardises them."""
    values, kinds, first = descriptor_values(descriptor, data)
    n_species = len(descriptor.species)
    normalisation = Normalisation.from_values(values, kinds, n_species)
    _warn_of_unseen(descriptor, kinds)
    return normalisation, FeatureTable.sort(normalisation.apply(values, kinds), kinds, first, n_species)


def _without_references(
    energies: Array, data: Dataset, species: Sequence[str], given: Mapping[str, float] | None
) -> tuple[Array, Array]:
    """Return E0 of each species, shape (S,), and the energies less those of their atoms, shape (n,), eV."""
    e0 = fit_reference_energies(data, species) if given is None else given_reference_energies(given, species)
    counts = count_species(data, species)
    e0 = e0 + _remaining_offset(energies - counts @ e0, data)
    return e0, energies - counts @ e0


def _best_parameters(states: list[OptimizerState]) -> Array:
    """Return the best parameters of every member, shape (K, P)."""
    for member, state in enumerate(states):
        _log.info("member %d: %d iterations, %s", member, state.iteration, state.reason)
    parameters = np.array([state.best for state in states])
    if not np.isfinite(parameters).all():
        raise TrainingError(
            "training ended with parameters that are not finite; look for wrong energies in the data"
        )
    return parameters


def _record(data: Dataset, job: Job, states: list[OptimizerState], started: float) -> dict[str, Any]:
    """Return how the potential was trained, as plain data for its file."""
    return {
        "program": f"gprann {__version__}",
        "n_structures": len(data),
        "n_reference": sum(structure.origin.method == "reference" for structure in data),
        "options": job.options.to_dict(),
        "seconds": round(time.perf_counter() - started, 1),
        "history": [_history(state, job.energy_scale) for state in states],
        "ended": [state.reason for state in states],
    }


def _warn_of_unseen(descriptor: ChebyshevDescriptor, kinds: NDArray[np.int32]) -> None:
    unseen = [symbol for kind, symbol in enumerate(descriptor.species) if not np.any(kinds == kind)]
    if unseen:
        _log.warning(
            "the training set has no %s: the potential will know nothing about it; "
            "leave it out of the descriptor",
            ", ".join(unseen),
        )


def _remaining_offset(residuals: Array, data: Dataset) -> float:
    """Return the mean energy per atom that given reference energies leave: nothing for networks to learn."""
    return float(residuals.sum() / data.n_atoms.sum())


def _groups(data: Dataset) -> NDArray[np.int64]:
    """Number the reference structures; copies carry the number of the structure they were made from.

    Structures made in memory may claim the same origin: each gets a number, which the copies after it share.
    """
    numbers: dict[tuple[str, int], int] = {}
    references: set[tuple[str, int]] = set()
    fresh = itertools.count()
    result = []
    for structure in data:
        key = (structure.origin.file, structure.origin.index)
        is_reference = structure.origin.method == "reference"
        if key not in numbers or (is_reference and key in references):
            numbers[key] = next(fresh)
        if is_reference:
            references.add(key)
        result.append(numbers[key])
    return np.array(result, dtype=np.int64)


def _history(state: OptimizerState, scale: float) -> list[list[float | None]]:
    """Return [iteration, training error, validation error] for each iteration, eV."""
    return [
        [step.iteration, step.train * scale, None if np.isnan(step.validation) else step.validation * scale]
        for step in state.history
    ]


class _Bar:
    """Progress of all members as one bar: iterations of every member, with the current errors."""

    def __init__(self, options: TrainingOptions, scale: float, show: bool | None) -> None:
        self._bar = progress_bar(options.members * options.max_iterations, "training", unit="it", show=show)
        self._scale = scale
        self._done: dict[int, int] = {}

    def __enter__(self) -> _Bar:
        return self

    def __call__(self, state: MemberProgress) -> None:
        self._bar.update(state.iteration - self._done.get(state.member, 0))
        self._done[state.member] = state.iteration
        train, held_out = 1e3 * self._scale * state.train, 1e3 * self._scale * state.error
        self._bar.set_postfix_str(
            f"member {state.member}: train {train:.2f} meV, held out {held_out:.2f} meV"
        )

    def __exit__(self, *exception: object) -> None:
        self._bar.close()
