"""The steps of the pipeline, each from data and a section of the configuration to a result."""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gprann.augmentation import Augmentation, surrogate_hessian, taylor_augment
from gprann.augmentation.gpr import Around, Fitted, augment_subsets
from gprann.augmentation.sampling import with_unique_origins
from gprann.config import AugmentationSection, DescriptorSection, SurrogateSection, TrainingSection
from gprann.data.structure import Dataset, Structure
from gprann.errors import ConfigError, DataError
from gprann.potential import Potential
from gprann.runtime.progress import SharedBar, progress_bar
from gprann.surrogate import Surrogate
from gprann.surrogate.sets.surrogate_set import Subset, fit_in_one_order, for_each_subset
from gprann.training import train

__all__ = ["augment_data", "require_labels", "train_potential"]


def augment_data(
    data: Dataset,
    augmentation: AugmentationSection,
    surrogate: SurrogateSection,
    *,
    workers: int | None = None,
    around: Around | None = None,
    fitted: Fitted | None = None,
    progress: bool | None = None,
) -> Augmentation:
    """Make and label the copies of a data set.

    Parameters
    ----------
    data : Dataset
    augmentation : AugmentationSection
    surrogate : SurrogateSection
        Its `memory` is the budget of all surrogates that exist at a time.
    workers : int, optional
        Most surrogates side by side. Default: as many as there are threads.
    around : callable, optional
        Of gpr copies: put around the labelling of each subset, to keep its result.
    fitted : callable, optional
        Called with each surrogate once it is fitted, and its subset.
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
    ConfigError
        If an option is set that has no effect.

    Examples
    --------
    >>> import gprann
    >>> data = gprann.examples.hydrogen(7)
    >>> len(augment_data(data, AugmentationSection(copies=2), SurrogateSection(kernel="pairs")).accepted)
    14
    """
    augmentation.check_use(surrogate)
    require_labels(data, augmentation)
    if augmentation.method == "none":
        return Augmentation(Dataset(), Dataset(), [])
    data = with_unique_origins(data)
    if augmentation.method == "taylor":
        copies = _taylor_copies(data, augmentation, surrogate, workers, fitted)
        return Augmentation(copies, Dataset(), [])
    options = augmentation.copy_options()
    with progress_bar(options.total(data), "labelling", show=progress) as bar:
        result = augment_subsets(
            data,
            options,
            lambda subset: surrogate.build(subset.species, options.seed),
            memory=surrogate.memory,
            workers=workers,
            around=around,
            fitted=fitted,
            bar=SharedBar(bar),
        )
    result.log_counts()
    return result


def _taylor_copies(
    data: Dataset,
    augmentation: AugmentationSection,
    surrogate: SurrogateSection,
    workers: int | None,
    fitted: Fitted | None,
) -> Dataset:
    """Return the copies; to second order with the Hessians of a surrogate of each subset."""
    hessians: list[NDArray[np.float64]] | str | None = augmentation.hessians
    if augmentation.order == 2 and hessians is None:
        data, hessians = _with_hessians(data, augmentation, surrogate, workers, fitted)
    everything = taylor_augment(data, hessians=hessians, **augmentation.taylor_options().to_dict())
    return everything[len(data) :]


def _with_hessians(
    data: Dataset,
    augmentation: AugmentationSection,
    surrogate: SurrogateSection,
    workers: int | None,
    fitted: Fitted | None,
) -> tuple[Dataset, list[NDArray[np.float64]]]:
    """Return the Hessians of the structures; atoms are put in one order where the kernel needs it."""
    structures = list(data)
    hessians = [np.zeros((0, 0))] * len(data)

    def expand(subset: Subset, model: Surrogate) -> list[tuple[int, Structure, NDArray[np.float64]]]:
        ordered = fit_in_one_order(model, subset.data)
        if fitted is not None:
            fitted(model, subset)
        return [
            (index, structure, surrogate_hessian(model, structure))
            for index, structure in zip(subset.indices.tolist(), ordered, strict=True)
        ]

    parts = for_each_subset(
        data,
        expand,
        lambda subset: surrogate.build(subset.species, augmentation.seed),
        max_subset=augmentation.max_subset,
        memory=surrogate.memory,
        workers=workers,
    )
    for index, structure, hessian in itertools.chain.from_iterable(parts):
        structures[index], hessians[index] = structure, hessian
    return Dataset(structures), hessians


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
        start_from=training.start_from,
        checkpoint=folder,
        workers=workers,
        provenance=json.loads(json.dumps(provenance or {})),
        **training.options(),
    )
