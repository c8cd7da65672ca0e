"""Train a potential or a committee on a data set."""

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

from gprann.baselines import Baseline, ReferenceEnergies, as_baseline, fit_baseline, terms_of
from gprann.data.neighbours import without_pairs
from gprann.data.structure import Dataset
from gprann.descriptors import Descriptor
from gprann.errors import ConfigError, DataError, TrainingError
from gprann.io.reading import Source, structures
from gprann.models import FeatureTable, NetworkModel, Normalisation
from gprann.models.features import descriptor_values
from gprann.potential import Potential, load
from gprann.runtime.progress import progress_bar
from gprann.training.committee import MemberProgress, train_members
from gprann.training.energy_force_objective import EnergyForceObjective
from gprann.training.member import Job
from gprann.training.objective import EnergyObjective
from gprann.training.optimizers.state import OptimizerState
from gprann.training.options import TrainingOptions
from gprann.training.targets import (
    energy_scale,
    energy_weights,
    label_table,
    structure_weights,
)
from gprann.version import __version__

__all__ = ["train"]

_log = logging.getLogger(__name__)
Array = NDArray[np.float64]


def train(
    data: Source,
    descriptor: Descriptor,
    *,
    baseline: Baseline | str | Sequence[Any] | None = None,
    reference_energies: Mapping[str, float] | None = None,
    start_from: Potential | str | os.PathLike[str] | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    workers: int | None = None,
    progress: bool | None = None,
    provenance: Mapping[str, Any] | None = None,
    **options: Any,
) -> Potential:
    """Train networks on a data set: on energies, or on energies, forces and stresses.

    Parameters
    ----------
    data : Dataset, or anything that `gprann.read` takes
        Structures with energies; usually the result of `augment`. With `forces=True` those that have forces
        count with them.
    descriptor : Descriptor
    baseline : Baseline, or its name, or a list of them, optional
        Contributions to the energy that are known: they are subtracted from the labels and added to every
        prediction. Reference energies belong to them in any case.
    reference_energies : mapping of symbol to eV, optional
        E0 of each element, short for `baseline=ReferenceEnergies(energies=...)`. Default: of isolated atoms in the
        data, or by least squares on the compositions.
    start_from : Potential or path, optional
        A potential to go on from (fine-tuning): its networks, normalisation and energy scale, and, unless others
        are given, its reference energies. Member k starts from its member k.
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
        Fields of `TrainingOptions`: hidden, activation, optimizer ('auto', 'lm', 'gauss_newton_cg', 'lbfgs' or
        'adamw'), forces, alpha, force_fraction, stress, huber_energy, huber_force, group_weights,
        species_weights, members, seed, iterations, validation, patience, starts, start_iterations, per_atom,
        label_noise, max_rows, frozen, learning_rate, weight_decay, batch_size, schedule, warmup, ridge.

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
    base = None if start_from is None else _base(start_from, descriptor, options)
    settings = TrainingOptions.from_keywords({**options, **({} if base is None else base.model.options())})
    data = structures(data)
    if len(data) == 0:
        raise DataError("the training set is empty; give at least one structure with an energy")
    started = time.perf_counter()
    model = NetworkModel(descriptor.size, settings.hidden, len(descriptor.species), settings.activation)
    settings, reason = settings.resolved(model.n_parameters, len(data))
    settings = settings.suited_to(len({structure.composition for structure in data}))
    _log.info("optimizer %s: %s", settings.optimizer, reason)
    if settings.huber_force is not None and not settings.forces:
        _log.warning("huber_force has no effect without forces = true")
    fitted = _baseline(data, descriptor.species, baseline, reference_energies, base)
    data = fitted.subtract(data)
    scale = energy_scale(data.energies, forces=settings.forces) if base is None else base.energy_scale
    normalisation, problem = _problem(
        data, descriptor, model, data.energies / scale, settings=settings, base=base, scale=scale
    )
    initial = None if base is None else base.parameters
    job = Job(problem, _groups(data), settings, scale, initial)
    folder = None if checkpoint is None else Path(checkpoint)
    with _Bar(settings, scale, progress) as bar:
        states = train_members(job, folder=folder, workers=workers, progress=bar)
    record = {**_record(data, job, states, started), "optimizer_reason": reason}
    return Potential(
        descriptor,
        normalisation,
        model,
        _best_parameters(states),
        baseline=fitted,
        energy_scale=scale,
        provenance={**(provenance or {}), "training": record},
    )


def _base(
    start_from: Potential | str | os.PathLike[str],
    descriptor: Descriptor,
    given: Mapping[str, Any],
) -> Potential:
    """Return the potential to go on from, if it fits.

    Raises
    ------
    ConfigError
        If descriptor or networks are others than those asked for.
    """
    base = start_from if isinstance(start_from, Potential) else load(start_from)
    if base.descriptor != descriptor:
        raise ConfigError(
            f"start_from: its descriptor is {base.descriptor!r}, not {descriptor!r}; use its own"
        )
    shape = base.model.options()
    asked = TrainingOptions(**{name: given.get(name, own) for name, own in shape.items()})
    for name in shape:
        own = getattr(base.model, name)
        if getattr(asked, name) != own:
            raise ConfigError(f"{name} = {given[name]}: the potential to start from has {own}; leave it out")
    return base


def _problem(
    data: Dataset,
    descriptor: Descriptor,
    model: NetworkModel,
    targets: Array,
    *,
    settings: TrainingOptions,
    base: Potential | None,
    scale: float,
) -> tuple[Normalisation, EnergyObjective | EnergyForceObjective]:
    """Return the normalisation of the descriptors, and what is to be minimised."""
    n_species = len(descriptor.species)
    neighbours = descriptor.neighbours(data) if settings.forces else None
    values, kinds, first = descriptor_values(descriptor, data, neighbours)
    normalisation = Normalisation.from_values(values, kinds, n_species)
    if base is not None:
        normalisation = base.normalisation.completed(normalisation)
    _warn_of_unseen(descriptor, kinds)
    table = FeatureTable.sort(normalisation.apply(values, kinds), kinds, first, n_species)
    plain = not settings.forces and settings.huber_energy is None
    if plain and settings.optimizer != "gauss_newton_cg":
        weights = energy_weights(data, structure_weights(data, settings), per_atom=settings.per_atom)
        return normalisation, EnergyObjective(model, table, targets, weights)
    problem = EnergyForceObjective.build(
        model,
        descriptor,
        neighbours or without_pairs(kinds, first),
        table,
        normalisation.inverse_scale,
        labels=label_table(data, targets, scale, descriptor.species, settings),
        force_fraction=settings.force_fraction,
        max_rows=settings.max_rows,
    )
    return normalisation, problem


def _baseline(
    data: Dataset,
    species: Sequence[str],
    given: Baseline | str | Sequence[Any] | None,
    reference_energies: Mapping[str, float] | None,
    base: Potential | None,
) -> Baseline:
    """Return the baseline of a training: what was given, completed by reference energies and fitted.

    A potential that is trained further keeps its own baseline, except for what was given.
    """
    terms = terms_of(as_baseline(given))
    if reference_energies is not None:
        if any(isinstance(term, ReferenceEnergies) for term in terms):
            raise ConfigError("reference_energies: the baseline has some already; give them once")
        try:
            energies = {symbol: float(energy) for symbol, energy in reference_energies.items()}
            terms = (*terms, ReferenceEnergies(energies=energies))
        except (TypeError, ValueError):
            raise ConfigError(
                f"reference_energies: expected finite numbers in eV, got {dict(reference_energies)}"
            ) from None
    if base is None:
        return fit_baseline(as_baseline(terms), data, species)
    own = terms_of(base.baseline)
    chosen: list[Baseline] = []
    for reference in (False, True):
        mine, before = (
            [term for term in group if isinstance(term, ReferenceEnergies) == reference]
            for group in (terms, own)
        )
        chosen += mine or before
    for term in chosen:
        if isinstance(term, ReferenceEnergies):
            term.of(species)  # raises if one is missing
    return as_baseline(chosen)


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
        "member_seconds": [round(state.seconds, 2) for state in states],
        "history": [_history(state, job.energy_scale) for state in states],
        "held_out": [_last_errors(state, job.energy_scale) for state in states],
        "ended": [state.reason for state in states],
    }


def _warn_of_unseen(descriptor: Descriptor, kinds: NDArray[np.int32]) -> None:
    unseen = [symbol for kind, symbol in enumerate(descriptor.species) if not np.any(kinds == kind)]
    if unseen:
        _log.warning(
            "the training set has no %s: the potential will know nothing about it; "
            "leave it out of the descriptor",
            ", ".join(unseen),
        )


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


def _last_errors(state: OptimizerState, scale: float) -> dict[str, float | None]:
    """Return the root mean square errors of the held-out structures at the best state, eV and eV/Å."""
    best = state.history[state.best_iteration - 1] if state.history else None
    values = {"energy": getattr(best, "energy", np.nan), "force": getattr(best, "force", np.nan)}
    return {name: None if np.isnan(value) else scale * value for name, value in values.items()}


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
        self._bar.set_postfix_str(f"member {state.member}: {self._errors(state)}")

    def _errors(self, state: MemberProgress) -> str:
        train, error = 1e3 * self._scale * state.train, 1e3 * self._scale * state.error
        if state.force is None:
            return f"train {train:.2f} meV, held out {error:.2f} meV"
        energy = "" if state.energy is None else f"{1e3 * self._scale * state.energy:.2f} meV, "
        return f"held out {energy}{self._scale * state.force:.4f} eV/Å"

    def __exit__(self, *exception: object) -> None:
        self._bar.close()
