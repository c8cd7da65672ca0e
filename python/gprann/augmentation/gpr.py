"""GPR augmentation: displaced copies labelled by Gaussian-process surrogates.

Yeu et al., npj Comput. Mater. 11, 156 (2025).
"""

from __future__ import annotations

import inspect
import logging
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gprann.augmentation.copies import displaced, with_unique_origins
from gprann.augmentation.displacements import check_displacement, gaussian
from gprann.augmentation.subsets import partition
from gprann.errors import ConfigError, DataError, nearest_name
from gprann.io import write
from gprann.progress import progress_bar
from gprann.structure import Dataset, Structure
from gprann.surrogate import Surrogate

__all__ = ["Augmentation", "CopyOptions", "augment", "augment_subsets", "label"]

Array = NDArray[np.float64]
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Augmentation:
    """Result of labelling copies.

    Attributes
    ----------
    accepted : Dataset
        Labelled copies; each keeps the variance of its label.
    uncertain : Dataset
        Copies whose standard deviation exceeds the threshold, most uncertain first: label them with DFT next.
        Their predicted energies are not kept.
    surrogates : list of dict
        Kernel and hyperparameters of the surrogates used.
    """

    accepted: Dataset
    uncertain: Dataset
    surrogates: list[dict[str, Any]]

    def __add__(self, other: Augmentation) -> Augmentation:
        return Augmentation(
            self.accepted + other.accepted,
            self.uncertain + other.uncertain,
            self.surrogates + other.surrogates,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class CopyOptions:
    """How copies are made, and which of them are kept.

    Attributes
    ----------
    copies : int
        Copies of each structure.
    displacement : float, Å
        Standard deviation of each component of the Gaussian displacements.
    seed : int
        Structure k is displaced with the random stream (seed, k).
    threshold : float, optional, eV
        Standard deviation above which a copy is set apart.
    max_subset : int
        Largest subset a single surrogate is fitted to.
    forces : bool
        Whether copies are labelled with forces too.

    Raises
    ------
    ConfigError
        If a value is impossible.
    """

    copies: int = 36
    displacement: float = 0.021
    seed: int = 0
    threshold: float | None = None
    max_subset: int = 300
    forces: bool = False

    def __post_init__(self) -> None:
        check_displacement(self.displacement, self.copies)
        if self.threshold is not None and not self.threshold > 0:
            raise ConfigError(f"threshold = {self.threshold}: expected a positive energy in eV")

    def make(self, data: Dataset, indices: Iterable[int]) -> Dataset:
        """Return unlabelled copies of some structures."""

        def shifts(index: int, structure: Structure) -> Array:
            return gaussian(len(structure), self.copies, self.displacement, (self.seed, index))

        return displaced(data, list(indices), "gpr", shifts)


def augment(
    data: Dataset,
    surrogate: Surrogate | None = None,
    *,
    copies: int = 36,
    displacement: float = 0.021,
    seed: int = 0,
    threshold: float | None = None,
    label_next: str | os.PathLike[str] | None = None,
    max_subset: int = 300,
    forces: bool = False,
    progress: bool | None = None,
    **surrogate_options: Any,
) -> Dataset:
    """Return the data set followed by displaced copies labelled by Gaussian-process regression.

    Parameters
    ----------
    data : Dataset
        Reference structures with energies and forces.
    surrogate : Surrogate, optional
        Fitted to this data (of one composition). Default: one surrogate is fitted to each subset of equal
        composition.
    copies : int
        Copies M of each structure; 10 to 40 are enough.
    displacement : float, Å
        Standard deviation of each component of the Gaussian displacements.
    seed : int
    threshold : float, optional, eV
        Copies whose predicted standard deviation per structure exceeds it are left out.
    label_next : path, optional
        File (extended XYZ) for the copies left out: the structures that are most worth labelling next.
        Not written if there are none.
    max_subset : int
        Largest subset a single surrogate is fitted to, if none is given.
    forces : bool
        Label the copies with the surrogate's forces beside its energies, for training on forces; the variances
        are those of the energies.
    progress : bool, optional
        Show a progress bar; default: on a terminal only.
    **surrogate_options
        Options of `Surrogate`, if none is given.

    Returns
    -------
    Dataset
        The original structures first. Every copy has its `energy`, the `energy_variance` of it, and in its
        `origin` the structure it was made from.

    Raises
    ------
    DataError
        If structures lack energies or forces.
    ConfigError
        If an option is misspelt or impossible.

    Examples
    --------
    >>> import gprann
    >>> data = gprann.examples.hydrogen(7)
    >>> augmented = augment(data, copies=2, displacement=0.03, kernel="pairs")
    >>> len(augmented), augmented[0].origin.method, augmented[7].origin.method
    (21, 'reference', 'gpr')
    """
    _check_names(surrogate_options)
    options = CopyOptions(
        copies=copies,
        displacement=displacement,
        seed=seed,
        threshold=threshold,
        max_subset=max_subset,
        forces=forces,
    )
    if label_next is not None and threshold is None:
        raise ConfigError(
            "label_next needs a threshold: give the standard deviation in eV above which copies are left out"
        )
    if surrogate is not None and surrogate_options:
        raise ConfigError(
            f"{', '.join(surrogate_options)}: options of the surrogate, but a fitted surrogate was given"
        )
    data = with_unique_origins(data)
    result = Augmentation(Dataset(), Dataset(), [])
    with progress_bar(copies * len(data), "labelling", show=progress) as bar:
        if surrogate is not None:
            copied = options.make(data, range(len(data)))
            result = label(surrogate, copied, threshold, bar, forces=forces)
        else:
            for part in augment_subsets(data, options, surrogate_options, bar):
                result += part
    if label_next is not None:
        _write_uncertain(label_next, result.uncertain)
    return data + result.accepted


def _check_names(surrogate_options: dict[str, Any]) -> None:
    known = inspect.signature(Surrogate).parameters
    own = [
        name for name, item in inspect.signature(augment).parameters.items() if item.kind is item.KEYWORD_ONLY
    ]
    for name in surrogate_options:
        if name not in known:
            raise ConfigError(f"unknown option '{name}': {nearest_name(name, [*own, *known])}")


def _write_uncertain(path: str | os.PathLike[str], uncertain: Dataset) -> None:
    if len(uncertain) == 0:
        _log.info("no copy is more uncertain than the threshold: %s was not written", os.fspath(path))
        return
    write(path, uncertain)
    _log.info("%d uncertain copies written to %s", len(uncertain), os.fspath(path))


def augment_subsets(
    data: Dataset,
    options: CopyOptions,
    surrogate_options: Mapping[str, Any] | None = None,
    bar: Any = None,
) -> Iterator[Augmentation]:
    """Fit a surrogate to each subset in turn, label its copies, and let the surrogate go.

    Parameters
    ----------
    data : Dataset
        Structures with origins that tell them apart, see `with_unique_origins`.
    options : CopyOptions
    surrogate_options : mapping, optional
        Options of `Surrogate`; its seed is that of the copies unless given here.
    bar : tqdm, optional
        Progress bar, one step for each copy.

    Yields
    ------
    Augmentation
        The labelled copies of one subset.
    """
    surrogate_options = {"seed": options.seed, **(surrogate_options or {})}
    parts = partition(data, max_size=options.max_subset, seed=options.seed)
    for number, indices in enumerate(parts, 1):
        subset = data.select(indices)
        formula = subset[0].formula
        _log.info("subset %d of %d: %d structures of %s", number, len(parts), len(subset), formula)
        if bar is not None:
            bar.set_postfix_str(f"fitting surrogate {number} of {len(parts)} ({len(subset)} x {formula})")
        surrogate = Surrogate(**surrogate_options).fit(subset)
        if bar is not None:
            bar.set_postfix_str("")
        yield label(surrogate, options.make(data, indices), options.threshold, bar, forces=options.forces)


def label(
    surrogate: Surrogate,
    copies: Dataset,
    threshold: float | None = None,
    bar: Any = None,
    *,
    forces: bool = False,
) -> Augmentation:
    """Label structures with the surrogate's energies; set apart those more uncertain than `threshold` (eV).

    With `forces` the accepted ones carry the surrogate's forces too.

    Raises
    ------
    DataError
        If a structure does not belong to the surrogate's composition.
    """
    prediction = surrogate.predict(copies, progress=None if bar is None else bar.update, forces=forces)
    if prediction.energy_std is None:  # predict() was asked for it
        raise DataError("the surrogate gave no standard deviations")
    accepted, uncertain = [], []
    for number, (copy, std) in enumerate(zip(copies, prediction.energy_std.tolist(), strict=True)):
        if threshold is not None and std > threshold:
            uncertain.append((std, copy))
            continue
        labels = {"energy": float(prediction.energy[number]), "energy_variance": std**2}
        accepted.append(copy.replace(**labels, forces=prediction.forces[number] if forces else None))
    uncertain.sort(key=lambda item: -item[0])
    return Augmentation(
        Dataset(accepted),
        Dataset(copy.replace(energy_variance=std**2) for std, copy in uncertain),
        [surrogate.to_dict()],
    )
