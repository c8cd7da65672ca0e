"""GPR augmentation: displaced copies labelled by Gaussian-process surrogates.

Yeu et al., npj Comput. Mater. 11, 156 (2025).
"""

from __future__ import annotations

import contextlib
import inspect
import logging
import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Protocol

import numpy as np

from gprann.augmentation.displacements import references
from gprann.augmentation.policies import CopyOptions, Sampler
from gprann.data.prediction import volume
from gprann.data.structure import Dataset, Structure
from gprann.errors import ConfigError, refuse_unused
from gprann.io import write
from gprann.io.reading import Source
from gprann.runtime.messages import SharedBar, progress_bar
from gprann.runtime.resources import side_by_side
from gprann.signatures import divide, takes
from gprann.surrogate.options import SurrogateOptions
from gprann.surrogate.sets.surrogate_set import (
    Subset,
    SurrogateSet,
    assign,
    order_for,
    plan_subsets,
)
from gprann.surrogate.solvers.posterior import greedy_variance_reduction
from gprann.surrogate.surrogate import Surrogate

_log = logging.getLogger(__name__)
_STREAMED = 100  # structures whose copies are in memory at a time where they go to a file
_POOL = 1000  # copies of a subset, the most uncertain, from which those to be labelled next are chosen


@dataclass(frozen=True, slots=True)
class Augmentation:
    """Result of labelling copies.

    Attributes
    ----------
    accepted : Dataset
        Labelled copies; each keeps the variance of its label.
    uncertain : Dataset
        What to label with DFT next: of the copies whose standard deviation exceeds the threshold, the most informative
        first, as many as bring all others below the threshold (greedy variance reduction, see `gprann.select`).
        Of a subset with more than 1000 such copies the 1000 most uncertain are considered, and the log counts the
        others. Where labels are as noisy as the copies are uncertain, copies stay above the threshold. Predicted
        energies are not kept.
    surrogates : list of dict
        Kernel and hyperparameters of the surrogates used, and the size of the displacements.
    left_out : int
        Number of copies whose standard deviation exceeds the threshold.
    not_made : int
        Number of copies in which atoms would have come too close, or would have left the places where the Cartesian
        kernel can compare them, or had no atom to move.
    streamed : int
        Number of labelled copies that have gone to a file and are not among `accepted`.
    """

    accepted: Dataset
    uncertain: Dataset
    surrogates: list[dict[str, Any]]
    left_out: int = 0
    not_made: int = 0
    streamed: int = 0

    def __add__(self, other: Augmentation) -> Augmentation:
        return Augmentation(
            self.accepted + other.accepted,
            self.uncertain + other.uncertain,
            self.surrogates + other.surrogates,
            self.left_out + other.left_out,
            self.not_made + other.not_made,
            self.streamed + other.streamed,
        )

    def log_counts(self) -> None:
        """Log what has become of the copies that were wanted."""
        labelled = len(self.accepted) + self.streamed
        _log.info(
            "%d copies wanted: %d labelled, %d not made (too close, too far away, or no atom moves), %d too uncertain",
            labelled + self.not_made + self.left_out,
            labelled,
            self.not_made,
            self.left_out,
        )


@takes(CopyOptions, SurrogateOptions)
def augment(
    data: Source,
    surrogate: Surrogate | SurrogateSet | None = None,
    *,
    label_next: str | os.PathLike[str] | None = None,
    progress: bool | None = None,
    **options: Any,
) -> Dataset:
    """Return the data set followed by displaced copies labelled by Gaussian-process regression.

    Parameters
    ----------
    data : Dataset, or anything that `gprann.read` takes
        Reference structures with energies and forces.
    surrogate : Surrogate or SurrogateSet, optional
        Fitted to this data: one surrogate for data of one composition, or those of `fit_surrogates`. Default: one
        surrogate is fitted to each subset, see `partition`; for kernels that need one order of atoms, atoms are put
        in order first.
    label_next : path, optional
        Extended XYZ file for the copies to label next: of those left out, the most informative first, as many as
        make the others certain (of more than 1000 of a subset, the 1000 most uncertain are considered). Not written
        if there are none.
    progress : bool, optional
        Show a progress bar; default: on a terminal only.
    **options
        Of `CopyOptions`, and of `Surrogate` if none is given.

    Returns
    -------
    Dataset
        The original structures first. Every copy has its `energy`, the `energy_variance` of it, and in its
        `origin` the structure it was made from.

    Raises
    ------
    DataError
        If structures lack energies or forces, or their atoms cannot be put in one order for a kernel that needs it.
    ConfigError
        If an option is misspelt or impossible.

    Examples
    --------
    >>> import gprann
    >>> data = gprann.examples.hydrogen(7)
    >>> augmented = gprann.augment(data, copies=2, displacement=0.03, kernel="pairs")
    >>> len(augmented), augmented[0].origin.method, augmented[7].origin.method
    (21, 'reference', 'gpr')
    """
    settings, surrogate_options = divide(options, CopyOptions, inspect.signature(Surrogate).parameters)
    _check_use(settings, label_next, surrogate, surrogate_options)
    data = references(data)
    settings.check_elements(data)
    with progress_bar(settings.total(data), "labelling", show=progress) as terminal:
        bar = SharedBar(terminal)
        if surrogate is not None:
            result = _augment_with(surrogate, data, settings, bar)
        else:
            subsets = plan_subsets(
                data,
                lambda _: Surrogate(**{"seed": settings.seed, **surrogate_options}),
                max_subset=settings.max_subset,
                memory=surrogate_options.get("memory"),
            )
            result = augment_subsets(subsets, settings, bar)
    result.log_counts()
    if label_next is not None:
        _write_uncertain(label_next, result.uncertain)
    elif result.left_out:
        _log.warning(
            "%d uncertain copies are not kept: label_next keeps those worth labelling in a file",
            result.left_out,
        )
    return data + result.accepted


def _check_use(
    options: CopyOptions,
    label_next: str | os.PathLike[str] | None,
    surrogate: Surrogate | SurrogateSet | None,
    surrogate_options: Mapping[str, Any],
) -> None:
    """Refuse options of `augment` that have no effect."""
    refuse_unused(options.unused_options(), options)
    if label_next is not None and not options.has_threshold:
        raise ConfigError(
            f"label_next needs a threshold, which is not set automatically where {options.sized_by} is given: give "
            "the standard deviation in eV/atom above which copies are left out"
        )
    if surrogate is not None and options.max_subset != CopyOptions.model_fields["max_subset"].default:
        raise ConfigError(
            f"max_subset = {options.max_subset}: has no effect, a fitted surrogate was given; leave it out"
        )
    if surrogate is not None and surrogate_options:
        raise ConfigError(
            f"{', '.join(surrogate_options)}: options of the surrogate, but a fitted surrogate was given"
        )


def _augment_with(
    surrogate: Surrogate | SurrogateSet, data: Dataset, options: CopyOptions, bar: SharedBar
) -> Augmentation:
    """Label copies with given surrogates, which are fitted already."""
    labelled = [
        label_copies(assignment.surrogate, assignment.data, assignment.indices.tolist(), options, bar)
        for assignment in assign(surrogate, data)
    ]
    return sum(labelled, Augmentation(Dataset(), Dataset(), []))


def _write_uncertain(path: str | os.PathLike[str], uncertain: Dataset) -> None:
    if len(uncertain) == 0:
        _log.info("no copy is more uncertain than the threshold: %s was not written", os.fspath(path))
        return
    write(path, uncertain)
    _log.info("%d copies to be labelled next written to %s", len(uncertain), os.fspath(path))


Sink = Callable[[Dataset], object]
"""Takes labelled copies, so that they need not stay in memory."""


class Store(Protocol):
    """Keeps the results of subsets, so that work that was interrupted goes on with those that are missing."""

    def find(self, subset: Subset) -> Augmentation | None:
        """Return the labelled copies of a subset if they are kept."""
        ...

    def sink(self, subset: Subset) -> AbstractContextManager[Sink | None]:
        """Give what takes the labelled copies of a subset one after the other; None: they stay in memory."""
        ...

    def keep_features(self, subset: Subset, surrogate: Surrogate) -> None:
        """Keep the features of the surrogate of a subset for networks, if they are wanted."""
        ...

    def keep(self, subset: Subset, made: Augmentation, seconds: float) -> None:
        """Keep the labelled copies of a subset, and the time that they took."""
        ...


def augment_subsets(subsets: Sequence[Subset], options: CopyOptions, bar: SharedBar) -> Augmentation:
    """Label copies of several subsets side by side; the same bits for any number of threads."""
    jobs = [subset.job(partial(label_subset, options=options, bar=bar)) for subset in subsets]
    budget = max((subset.budget for subset in subsets), default=0.0)
    return sum(side_by_side(jobs, memory=budget), Augmentation(Dataset(), Dataset(), []))


def label_subset(
    subset: Subset,
    options: CopyOptions,
    bar: SharedBar,
    store: Store | None = None,
    test: Callable[[Surrogate, Dataset], object] | None = None,
) -> Augmentation:
    """Fit the surrogate of a subset, test it, label copies with it and store them, unless they are there already.

    Parameters
    ----------
    subset : Subset
        Of structures with origins that tell them apart, see `with_unique_origins`.
    options : CopyOptions
    bar : SharedBar
        Progress bar, one step for each copy.
    store : Store, optional
        Keeps the copies.
    test : callable, optional
        Tests the surrogate; called with it and the structures of the subset.
    """
    with subset.task():
        found = None if store is None else store.find(subset)
        if found is not None:
            bar.update(options.total(subset.data))
            return found
        started = time.perf_counter()
        _log.info("%s", subset)
        surrogate = subset.build()
        with bar.about(f"fitting {subset.name}"):
            data = order_for(surrogate, subset.data)
            surrogate.fit(data)
            if test is not None:
                test(surrogate, subset.data)
        with contextlib.nullcontext() if store is None else store.sink(subset) as sink:
            made = label_copies(surrogate, data, subset.indices.tolist(), options, bar, sink=sink)
        seconds = time.perf_counter() - started
        _log.info("%s: fitted and labelled in %.1f s", subset.name, seconds)
        if store is not None:
            store.keep_features(subset, surrogate)
            store.keep(subset, made, seconds)
        return made


def label_copies(
    surrogate: Surrogate,
    data: Dataset,
    numbers: Iterable[int],
    options: CopyOptions,
    bar: SharedBar,
    *,
    sink: Sink | None = None,
) -> Augmentation:
    """Make copies of the structures that a surrogate is fitted to, and label them with the surrogate.

    Parameters
    ----------
    surrogate : Surrogate
    data : Dataset
        Structures that it is fitted to.
    numbers : iterable of int
        Number of the random stream of each structure.
    options : CopyOptions
    bar : SharedBar
        Progress bar, one step for each copy.
    sink : callable, optional
        Takes the labelled copies of some structures after the other; the result then has none of them.

    Returns
    -------
    Augmentation
    """
    expected = options.total(data)
    sampler = Sampler(options, data, surrogate)
    sampler.find_size()
    sampler.find_number()
    sampler.find_temperature()
    options = sampler.options
    bar.extend(options.total(data) - expected)
    quick = options.sized_by == "displacement" and options.policy != "mixture"
    parts = sampler.parts(list(numbers), None if sink is None else _STREAMED)
    result = _Labelled()
    while True:
        with contextlib.nullcontext() if quick else bar.about(f"sampling, policy {options.policy}"):
            copies = next(parts, None)
        if copies is None:
            break
        result.add(*_label(surrogate, copies, options.threshold, bar, forces=options.forces), sink)
    not_made = options.total(data) - result.copies
    bar.update(not_made)
    labelled = result.finish(surrogate, options.threshold)
    size = options.displacement
    facts = {
        "policy": options.policy,
        "displacement": dict(size) if isinstance(size, Mapping) else size,
        "temperature": options.temperature,
    }
    surrogates = [{**made, **facts} for made in labelled.surrogates]
    return replace(labelled, surrogates=surrogates, not_made=not_made)


def label(
    surrogate: Surrogate,
    copies: Dataset,
    threshold: float | None = None,
    bar: SharedBar | None = None,
    *,
    forces: bool = False,
) -> Augmentation:
    """Label structures with the surrogate's energies; leave out structures more uncertain than `threshold` (eV/atom).

    The result also holds the structures left out that are most worth labelling next, see `Augmentation`.
    With `forces` the accepted ones carry the surrogate's forces too, and its stresses if it has observed some.

    Raises
    ------
    DataError
        If a structure does not belong to the surrogate's composition.
    """
    result = _Labelled()
    result.add(*_label(surrogate, copies, threshold, bar, forces=forces), None)
    return result.finish(surrogate, threshold)


def _label(
    surrogate: Surrogate, copies: Dataset, threshold: float | None, bar: SharedBar | None, *, forces: bool
) -> tuple[list[Structure], list[Structure]]:
    """Return the copies that are certain enough, labelled, and the others, with their variances."""
    prediction = surrogate.predict(copies, progress=None if bar is None else bar.update, forces=forces)
    accepted, uncertain = [], []
    for number, (copy, std) in enumerate(zip(copies, prediction.required_energy_std.tolist(), strict=True)):
        if threshold is not None and std > threshold * len(copy):
            uncertain.append(copy.replace(energy_variance=std**2))
            continue
        labels = {"energy": float(prediction.energy[number]), "energy_variance": std**2}
        if forces:
            labels["forces"] = prediction.forces[number]
        if forces and surrogate.stress and prediction.stress is not None and volume(copy) > 0:
            labels["stress"] = prediction.stress[number]
        accepted.append(copy.replace(**labels))
    return accepted, uncertain


@dataclass(slots=True)
class _Labelled:
    """Labelled copies, gathered part by part."""

    accepted: list[Structure] = field(default_factory=list)
    uncertain: list[Structure] = field(default_factory=list)
    copies: int = 0
    left_out: int = 0
    streamed: int = 0

    def add(self, accepted: list[Structure], uncertain: list[Structure], sink: Sink | None) -> None:
        """Add the copies of some structures; with a sink, keep no more than what may be labelled next."""
        self.copies += len(accepted) + len(uncertain)
        self.left_out += len(uncertain)
        self.uncertain += uncertain
        if sink is None:
            self.accepted += accepted
            return
        sink(Dataset(accepted))
        self.streamed += len(accepted)
        variances = np.array([copy.energy_variance for copy in self.uncertain])
        kept = np.sort(np.argsort(-variances, kind="stable")[:_POOL])
        self.uncertain = [self.uncertain[k] for k in kept.tolist()]

    def finish(self, surrogate: Surrogate, threshold: float | None) -> Augmentation:
        """Choose the copies to be labelled next."""
        left_out = Dataset(self.uncertain)
        chosen = Dataset() if threshold is None else _most_informative(surrogate, left_out, threshold)
        if self.left_out:
            _log.info(
                "%d of %d copies left out: less certain than %g eV/atom; %d of them to be labelled next",
                self.left_out,
                self.copies,
                threshold,
                len(chosen),
            )
        accepted, facts = Dataset(self.accepted), [surrogate.to_dict()]
        return Augmentation(accepted, chosen, facts, self.left_out, streamed=self.streamed)


def _most_informative(surrogate: Surrogate, left_out: Dataset, threshold: float) -> Dataset:
    """Choose the copies to be labelled next: with their labels all copies of the pool would be certain."""
    if len(left_out) == 0:
        return left_out
    variances = np.array([copy.energy_variance or 0.0 for copy in left_out])
    pool = left_out.select(np.sort(np.argsort(-variances, kind="stable")[:_POOL]))
    if len(pool) < len(left_out):
        _log.info(
            "the %d most uncertain copies are considered for labelling; the other %d may stay uncertain",
            len(pool),
            len(left_out) - len(pool),
        )
    covariance = surrogate.energy_covariance(pool)
    rows, _ = greedy_variance_reduction(
        covariance,
        len(pool),
        noise=np.full(len(pool), surrogate.hyperparameters.energy_noise**2),
        threshold=threshold * len(pool[0]),
    )
    return pool.select(rows)
