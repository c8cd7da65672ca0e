"""The steps of the pipeline, each from data and a section of the configuration to a result."""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gprann.augmentation import Augmentation, label, partition, taylor_augment
from gprann.augmentation.copies import with_unique_origins
from gprann.augmentation.gpr import CopyOptions
from gprann.config import AugmentationSection, DescriptorSection, SurrogateSection, TrainingSection
from gprann.errors import ConfigError, DataError
from gprann.potential import Potential
from gprann.progress import progress_bar
from gprann.structure import Dataset
from gprann.surrogate import Surrogate
from gprann.training import train

__all__ = ["Label", "augment_data", "require_labels", "train_potential"]

_log = logging.getLogger(__name__)
Label = Callable[[NDArray[np.int64], Callable[[], Augmentation]], Augmentation]
"""Called with the structures of a subset and a function that labels its copies."""


def augment_data(
    data: Dataset,
    augmentation: AugmentationSection,
    surrogate: SurrogateSection,
    *,
    around: Label | None = None,
    progress: bool | None = None,
) -> Augmentation:
    """Make and label the copies of a data set.

    Parameters
    ----------
    data : Dataset
    augmentation : AugmentationSection
    surrogate : SurrogateSection
    around : callable, optional
        Put around the labelling of each subset, to keep its result.
    progress : bool, optional
        Show a progress bar; default: on a terminal only.

    Returns
    -------
    Augmentation
        With the copies alone, not the structures they were made from.

    Raises
    ------
    DataError
        If labels are missing.

    Examples
    --------
    >>> import gprann
    >>> data = gprann.examples.hydrogen(7)
    >>> len(augment_data(data, AugmentationSection(copies=2), SurrogateSection(kernel="pairs")).accepted)
    14
    """
    require_labels(data, augmentation)
    if augmentation.method == "none":
        return Augmentation(Dataset(), Dataset(), [])
    data = with_unique_origins(data)
    if augmentation.method == "taylor":
        return Augmentation(_taylor_copies(data, augmentation), Dataset(), [])
    options = augmentation.copy_options()
    parts = partition(data, max_size=options.max_subset, seed=options.seed)
    result = Augmentation(Dataset(), Dataset(), [])
    with progress_bar(options.copies * len(data), "labelling", show=progress) as bar:
        for number, indices in enumerate(parts, 1):
            subset = data.select(indices)
            name = f"subset {number} of {len(parts)} ({len(subset)} structures of {subset[0].formula})"
            model = surrogate.build(subset.species, options.seed)
            work = partial(_label_subset, data, indices, options, model, name=name, bar=bar)
            result += work() if around is None else around(indices, work)
    return result


def _taylor_copies(data: Dataset, augmentation: AugmentationSection) -> Dataset:
    everything = taylor_augment(
        data,
        strategy=augmentation.strategy,
        copies=augmentation.copies,
        displacement=augmentation.size,
        seed=augmentation.seed,
    )
    return everything[len(data) :]


def _label_subset(
    data: Dataset,
    indices: NDArray[np.int64],
    options: CopyOptions,
    surrogate: Surrogate,
    *,
    name: str,
    bar: Any,
) -> Augmentation:
    """Fit the surrogate to a subset, and label its copies."""
    started = time.perf_counter()
    bar.set_postfix_str(f"fitting {name}")
    surrogate.fit(data.select(indices))
    bar.set_postfix_str("")
    copies = options.make(data, indices)
    labelled = label(surrogate, copies, options.threshold, bar, forces=options.forces)
    _log.info("%s: fitted and labelled in %.1f s", name, time.perf_counter() - started)
    return labelled


def require_labels(data: Dataset, augmentation: AugmentationSection) -> None:
    """Refuse structures without the labels that the augmentation needs.

    Raises
    ------
    DataError
        Naming the first structure and the remedy.
    """
    if augmentation.method == "none":
        return
    for structure in data:
        if structure.forces is None:
            count = sum(other.forces is None for other in data)
            raise DataError(
                f"{structure.origin}: has no forces (and so {count} of {len(data)} structures), which the method "
                f"'{augmentation.method}' needs; compute them, leave the structures out, or train on energies "
                'alone with augmentation method "none"'
            )


def train_potential(
    data: Dataset,
    descriptor: DescriptorSection,
    training: TrainingSection,
    *,
    checkpoint: str | os.PathLike[str] | None = None,
    workers: int | None = None,
    provenance: Mapping[str, Any] | None = None,
) -> Potential:
    """Train a potential as two sections of the configuration say.

    Raises
    ------
    ConfigError, DataError, TrainingError
        See `gprann.train`.

    Examples
    --------
    >>> import gprann
    >>> settings = DescriptorSection(radial_cutoff=8.0, angular_order=None)
    >>> train_potential(gprann.examples.hydrogen(7), settings, TrainingSection(hidden=(5,), iterations=5)).species
    ('H',)
    """
    folder = None if checkpoint is None else Path(checkpoint)
    if folder is not None and folder.exists() and not folder.is_dir():
        raise ConfigError(f"checkpoint: {folder} is a file; give a folder")
    return train(
        data,
        descriptor.build(data.species),
        reference_energies=training.reference_energies,
        checkpoint=folder,
        workers=workers,
        provenance=json.loads(json.dumps(provenance or {})),
        **training.options(),
    )
