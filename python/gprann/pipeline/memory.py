"""Memory of a run, predicted before anything is computed."""

from __future__ import annotations

import bisect
import logging
import math
import os

import numpy as np

from gprann.config import Config, SurrogateSection
from gprann.data.structure import Dataset
from gprann.errors import ConfigError
from gprann.models import NetworkModel
from gprann.potential import load
from gprann.runtime.memory import GIB, available_memory, memory_budget
from gprann.surrogate import memory_needed, partition
from gprann.surrogate.solvers.plan import features_per_atom
from gprann.training import TrainingOptions

__all__ = ["check_memory", "surrogate_memory", "surrogate_within_memory", "training_memory"]

_log = logging.getLogger(__name__)
_PROGRAM = 0.3  # GiB; interpreter and libraries


def check_memory(config: Config, data: Dataset) -> float:
    """Predict the memory of a run in GiB; refuse a run that does not fit.

    Raises
    ------
    ConfigError
        Naming the remedy.
    """
    limit = config.resources.memory
    available, budget = available_memory(), memory_budget(limit)
    surrogate = surrogate_memory(config, data, budget - _PROGRAM)
    training = training_memory(config, data)
    needed = _PROGRAM + max(surrogate, training)
    known = "unknown" if available is None else f"{available:.1f} GiB"
    _log.info(
        "memory: about %.1f GiB (surrogate %.2f, training %.2f); available: %s%s",
        needed,
        surrogate,
        training,
        known,
        "" if limit is None else f", allowed: {limit:g} GiB",
    )
    if needed > budget:
        raise ConfigError(_refusal(config, data, needed, budget, surrogate >= training))
    return needed


def surrogate_memory(config: Config, data: Dataset, budget: float) -> float:
    """Return the memory of the largest surrogate, GiB.

    Where the solver is left open, that of the covariance matrix if this fits into `budget`, else the least with
    which the other solvers can do; they take more representative structures where there is more memory.
    """
    if not config.augmentation.uses_surrogate:
        return 0.0
    parts = partition(data, max_size=config.augmentation.max_subset)
    return max(_memory_of_fit(config.surrogate, data.select(part), data.species, budget) for part in parts)


def _memory_of_fit(
    section: SurrogateSection, data: Dataset, species: tuple[str, ...], budget: float
) -> float:
    inducing, features = section.inducing or 1, _features(section, data, species)
    if section.solver != "auto":
        return memory_needed(data, section.solver, inducing, features=features)
    dense = memory_needed(data, features=features)
    if dense <= min(budget, section.memory or math.inf):
        return dense
    return max(
        memory_needed(data, solver, inducing, features=features)
        for solver in ("conjugate_gradient", "inducing")
    )


def _features(section: SurrogateSection, data: Dataset, species: tuple[str, ...]) -> float:
    """Return the features of an atom (of the kernel `atoms`, where the kernel is chosen later)."""
    surrogate = section.build(data[:1].species, 0)
    surrogate.prepare(species)
    surrogate.fingerprint.fit(data[:1])
    return features_per_atom(data, surrogate.fingerprint)


def surrogate_within_memory(config: Config) -> SurrogateSection:
    """Return the section of the surrogate with what `resources.memory` leaves it, by which it takes its solver."""
    limit = config.resources.memory
    if limit is None or not config.augmentation.uses_surrogate:
        return config.surrogate
    memory = min(config.surrogate.memory or math.inf, max(limit - _PROGRAM, 0.01))
    return config.surrogate.model_copy(update={"memory": memory})


def training_memory(config: Config, data: Dataset) -> float:
    """Return the memory of the training, GiB.

    Descriptors of all structures twice, with forces their neighbour lists, and normal equations thrice.
    """
    descriptor = config.descriptor.build(data.species)
    atoms = sum(len(structure) * (1 + config.augmentation.most_copies(structure)) for structure in data)
    start_from = config.training.start_from
    shape = {} if start_from is None else load(start_from).model.options()
    options = TrainingOptions(**{**config.training.options(), **shape})
    model = NetworkModel(descriptor.size, options.hidden, len(descriptor.species))
    options, _ = options.resolved(
        model.n_parameters, sum(1 + config.augmentation.most_copies(structure) for structure in data)
    )
    workers = min(config.resources.workers or os.cpu_count() or 1, config.training.members)
    equations = 3 * 8.0 * model.n_parameters**2 if options.optimizer == "lm" else 0.0
    per_atom = 2 * 8.0 * descriptor.size
    if options.forces:
        sample = data[: min(len(data), 20)]
        neighbours = descriptor.neighbours(sample)
        per_atom += 28.0 * len(neighbours.neighbour) / neighbours.n_atoms
        if options.optimizer == "lm":
            largest = float(data.n_atoms.max())
            equations += 8.0 * 3 * largest * (largest * descriptor.size + model.n_parameters)
    return float(atoms * per_atom * (1 + workers) / 2 + workers * equations) / GIB


def _refusal(config: Config, data: Dataset, needed: float, budget: float, surrogate: bool) -> str:
    begin = f"the run needs about {needed:.1f} GiB of memory, {budget:.1f} GiB are available"
    if not surrogate:
        copies = max(config.augmentation.most_copies(structure) for structure in data)
        return f"{begin}; lower augmentation.copies (now {copies}) or resources.workers"
    if config.surrogate.solver != "cholesky":
        what = "surrogate.inducing" if config.surrogate.inducing else "augmentation.max_subset"
        return f"{begin}; lower {what}, or use a machine with more memory"
    largest_first = data.select(np.argsort(-data.n_atoms, kind="stable"))
    features = _features(config.surrogate, largest_first, data.species)
    fitting = bisect.bisect_right(
        range(config.augmentation.max_subset),
        budget - _PROGRAM,
        key=lambda count: memory_needed(largest_first[:count], features=features),
    )
    fitting -= 1  # the range begins with no structure at all
    without = 'set surrogate.solver to "auto"'
    if fitting < 2:
        return f"{begin}; {without}, or use a machine with more memory"
    return (
        f"{begin}; lower augmentation.max_subset (now {config.augmentation.max_subset}) to {fitting} or less, "
        f"or {without}"
    )
