"""Runs whose augmented training set is larger than the memory: structures go from file to file."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Sequence
from pathlib import Path

from gprann.config.sections import Config
from gprann.data.structure import Dataset
from gprann.errors import ConfigError
from gprann.io import atomic_write
from gprann.io.extxyz import format_extxyz
from gprann.models import Linear, Quadratic
from gprann.pipeline.inputs import streamed_memory, training_memory, training_workload
from gprann.runtime.resources import memory_budget
from gprann.training.streamed import can_stream

_log = logging.getLogger(__name__)


def stream_if_needed(config: Config, data: Dataset, checkpoints: Path) -> Config:
    """Return the configuration with the features of the training set among the checkpoints, if memory is too short.

    Only where the training can be streamed, and less memory does it then; else it stays as it is.
    """
    options = config.training
    if options.store is not None or options.forces or isinstance(options.model, Linear | Quadratic):
        return config
    workload = training_workload(config, data, config.descriptor.build(data.species))
    resolved = options.replace(optimizer=options.optimizer.resolve(workload)[0])
    needed, budget = training_memory(config, data), memory_budget(config.resources.memory)
    if needed <= budget or not can_stream(resolved) or streamed_memory(config, data) >= needed:
        return config
    folder = checkpoints / "features"
    _log.info(
        "training in memory would need about %.1f GiB, %.1f GiB are available: features are streamed from %s",
        needed,
        budget,
        folder,
    )
    return with_store(config, str(folder))


def without_store(config: Config) -> Config:
    """Return the configuration of the trials of method = "auto", which are small.

    Raises
    ------
    ConfigError
        If a store is asked for, but not training on energies alone.
    """
    if config.training.store is None:
        return config
    if config.training.forces or "forces" not in config.training.model_fields_set:
        raise ConfigError(
            'training.store: method = "auto" trains on forces, whose features are not kept in files; add '
            "training.forces = false, or leave training.store out"
        )
    return with_store(config, None)


def with_store(config: Config, store: str | None) -> Config:
    """Return the configuration with another folder for the features."""
    return config.model_copy(update={"training": config.training.model_copy(update={"store": store})})


def join_files(path: Path, data: Dataset, files: Sequence[Path]) -> None:
    """Write structures, and behind them those of files of extended XYZ, without reading these."""
    with atomic_write(path, "wb") as stream:
        for text in format_extxyz(data):
            stream.write(text.encode("utf-8", "surrogateescape"))
        for file in files:
            if file.is_file():
                with file.open("rb") as source:
                    shutil.copyfileobj(source, stream)
