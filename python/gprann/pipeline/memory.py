"""Memory of a run, predicted before anything is computed."""

from __future__ import annotations

import bisect
import logging
import math
import os
from pathlib import Path

import numpy as np

from gprann.augmentation import partition
from gprann.config import Config
from gprann.errors import ConfigError
from gprann.models import NetworkModel
from gprann.structure import Dataset
from gprann.surrogate import memory_needed
from gprann.training import TrainingOptions

__all__ = ["available_memory", "check_memory", "surrogate_memory", "training_memory"]

_log = logging.getLogger(__name__)
_GIB = 2.0**30
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
    if not config.augmentation.uses_surrogate:
        return 0.0
    parts = partition(data, max_size=config.augmentation.max_subset)
    return max(memory_needed(data.select(part)) for part in parts)


def training_memory(config: Config, data: Dataset) -> float:
    """Return the memory of the training, GiB.

    Descriptors of all structures twice, with forces their neighbour lists, and normal equations thrice.
    """
    descriptor = config.descriptor.build(data.species)
    atoms = sum(len(structure) * (1 + config.augmentation.count(structure)) for structure in data)
    model = NetworkModel(descriptor.size, config.training.hidden, len(descriptor.species))
    options, _ = TrainingOptions(**config.training.options()).resolved(
        model.n_parameters, sum(1 + config.augmentation.count(structure) for structure in data)
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
    return float(atoms * per_atom * (1 + workers) / 2 + workers * equations) / _GIB


def available_memory() -> float | None:
    """Return the memory that can be had without swapping, GiB, or None where the system does not tell.

    Examples
    --------
    >>> memory = available_memory()
    >>> memory is None or memory > 0
    True
    """
    found = [value for value in (_from_meminfo(), _from_control_group()) if value is not None]
    if not found:
        try:
            found = [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / _GIB]
        except (AttributeError, ValueError, OSError):
            return None
    return min(found)


def _from_meminfo() -> float | None:
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        return next(
            float(line.split()[1]) * 1024 / _GIB for line in lines if line.startswith("MemAvailable:")
        )
    except (OSError, StopIteration, ValueError, IndexError):
        return None


def _from_control_group() -> float | None:
    """Return what the limit of a container or a batch job leaves."""
    folder = Path("/sys/fs/cgroup")
    try:
        limit = (folder / "memory.max").read_text(encoding="ascii").strip()
        used = (folder / "memory.current").read_text(encoding="ascii")
        return None if limit == "max" else max(0.0, (float(limit) - float(used)) / _GIB)
    except (OSError, ValueError):
        return None


def _refusal(config: Config, data: Dataset, needed: float, budget: float, surrogate: bool) -> str:
    begin = f"the run needs about {needed:.1f} GiB of memory, {budget:.1f} GiB are available"
    if not surrogate:
        copies = max(config.augmentation.count(structure) for structure in data)
        return f"{begin}; lower augmentation.copies (now {copies}) or resources.workers"
    largest_first = data.select(np.argsort(-data.n_atoms, kind="stable"))
    fitting = bisect.bisect_right(
        range(config.augmentation.max_subset),
        budget - _PROGRAM,
        key=lambda count: memory_needed(largest_first[:count]),
    )
    fitting -= 1  # the range begins with no structure at all
    if fitting < 2:
        return f"{begin}; a surrogate of structures this large does not fit: use a machine with more memory"
    return (
        f"{begin}; lower augmentation.max_subset (now {config.augmentation.max_subset}) to {fitting} or less"
    )
