"""Memory of a run, predicted before anything is computed."""

from __future__ import annotations

import bisect
import logging
import math
import os

import numpy as np

from gprann.augmentation import partition
from gprann.config import Config
from gprann.errors import ConfigError
from gprann.memory import GIB, available_memory
from gprann.models import NetworkModel
from gprann.structure import Dataset
from gprann.surrogate import memory_needed

__all__ = ["check_memory", "surrogate_memory", "training_memory"]

_log = logging.getLogger(__name__)
_PROGRAM = 0.3  # GiB; interpreter and libraries


def check_memory(config: Config, data: Dataset) -> float:
    """Predict the memory of a run in GiB; refuse a run that does not fit.

    Raises
    ------
    ConfigError
        Naming the remedy.
    """
    surrogate = surrogate_memory(config, data)
    training = training_memory(config, data)
    needed = _PROGRAM + max(surrogate, training)
    limit = config.resources.memory
    available = available_memory()
    budget = min(value for value in (limit, available, math.inf) if value is not None)
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


def surrogate_memory(config: Config, data: Dataset) -> float:
    """Return the memory of the largest surrogate, GiB."""
    if config.augmentation.method != "gpr":
        return 0.0
    parts = partition(data, max_size=config.augmentation.max_subset, seed=config.augmentation.seed)
    options = config.surrogate
    return max(memory_needed(data.select(part), options.solver, options.inducing or 1) for part in parts)


def training_memory(config: Config, data: Dataset) -> float:
    """Return the memory of the training, GiB: descriptors of all structures twice, normal equations thrice."""
    descriptor = config.descriptor.build(data.species)
    copies = {"none": 0, "taylor": config.augmentation.copies, "gpr": config.augmentation.copies}
    atoms = float(data.n_atoms.sum())
    factor: float = 1 + copies[config.augmentation.method]
    if config.augmentation.method == "taylor" and config.augmentation.strategy == "A":
        factor = 1 + 6 * float((data.n_atoms**2).sum()) / atoms
    model = NetworkModel(descriptor.size, config.training.hidden, len(descriptor.species))
    workers = min(config.resources.workers or os.cpu_count() or 1, config.training.members)
    equations = 3 * 8.0 * model.n_parameters**2 if config.training.optimizer == "lm" else 0.0
    return float(2 * 8 * factor * atoms * descriptor.size * (1 + workers) / 2 + workers * equations) / GIB


def _refusal(config: Config, data: Dataset, needed: float, budget: float, surrogate: bool) -> str:
    begin = f"the run needs about {needed:.1f} GiB of memory, {budget:.1f} GiB are available"
    if not surrogate:
        return f"{begin}; lower augmentation.copies (now {config.augmentation.copies}) or resources.workers"
    if config.surrogate.solver not in ("auto", "cholesky"):
        return f"{begin}; lower surrogate.inducing, or use a machine with more memory"
    largest_first = data.select(np.argsort(-data.n_atoms, kind="stable"))
    fitting = bisect.bisect_right(
        range(config.augmentation.max_subset),
        budget - _PROGRAM,
        key=lambda count: memory_needed(largest_first[:count]),
    )
    fitting -= 1  # the range begins with no structure at all
    without = 'set surrogate.solver to "conjugate_gradient"'
    if fitting < 2:
        return f"{begin}; {without}, or use a machine with more memory"
    return (
        f"{begin}; lower augmentation.max_subset (now {config.augmentation.max_subset}) to {fitting} or less, "
        f"or {without}"
    )
