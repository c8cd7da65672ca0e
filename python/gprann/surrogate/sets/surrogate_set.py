"""Sets of surrogates: one surrogate for each homogeneous subset of a data set, fitted side by side."""

from __future__ import annotations

import contextlib
import os
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeVar

import numpy as np

from gprann.arrays import Array, Indices
from gprann.baselines import BaselineLike
from gprann.data.prediction import Prediction
from gprann.data.structure import Dataset, Structure
from gprann.errors import DataError, GprannError
from gprann.explain import keys
from gprann.io.reading import Source, structures
from gprann.model_file import read_kind
from gprann.runtime.messages import SharedBar, progress_bar, task
from gprann.runtime.resources import Job, memory_budget, memory_share, side_by_side
from gprann.signatures import divide, takes
from gprann.surrogate.observations import describe_formulas
from gprann.surrogate.options import SurrogateOptions
from gprann.surrogate.saving import reading_plain, write_plain
from gprann.surrogate.sets.atom_matching import in_one_order
from gprann.surrogate.sets.partition import Assignment, Kinds, SubsetOptions, ask, divide_data
from gprann.surrogate.solvers.plan import memory_needed
from gprann.surrogate.surrogate import Surrogate

Build = Callable[[tuple[str, ...]], Surrogate]
"""Gives a surrogate for structures of some elements, not fitted yet."""
T = TypeVar("T")
_BATCH = 512  # structures that all surrogates of a composition are asked about at a time


@dataclass(frozen=True, slots=True)
class FittedSubset:
    """Structures that a surrogate is fitted to.

    Attributes
    ----------
    name : str
        As "subset 2 of 3".
    indices : ndarray of int64
        Their places in the data set.
    data : Dataset
    """

    name: str
    indices: Indices
    data: Dataset

    def __str__(self) -> str:
        return f"{self.name}: {len(self.data)} structures of {describe_formulas(self.data)}"


@dataclass(frozen=True, slots=True)
class Subset(FittedSubset):
    """Structures that a surrogate is to be fitted to, see `plan_subsets`.

    Attributes
    ----------
    build : callable
        Gives a surrogate for it, not fitted yet.
    budget : float, GiB
        Memory that the surrogate may take.
    memory, kept : float, GiB
        Memory that the fit takes, and that the surrogate takes from then on if it is kept.
    alone : bool
        Whether there is no other subset.
    """

    build: Callable[[], Surrogate]
    budget: float
    memory: float
    kept: float
    alone: bool

    def job(self, work: Callable[[Subset], T]) -> Job[T]:
        """Return the work with this subset for `side_by_side`."""
        return Job(partial(work, self), self.memory, self.kept)

    @contextlib.contextmanager
    def task(self) -> Iterator[None]:
        """Give the block the memory of the subset; its messages and errors name the subset if there are several."""
        with task("" if self.alone else self.name), memory_share(self.budget):
            try:
                yield
            except GprannError as error:
                if not self.alone:
                    error.args = (f"{self}: {error}", *error.args[1:])
                raise


def plan_subsets(
    data: Dataset,
    build: Build,
    *,
    max_subset: int | None = None,
    memory: float | None = None,
    keep: bool = False,
) -> list[Subset]:
    """Divide a data set into subsets, to each of which a surrogate is to be fitted.

    To work with them side by side: `side_by_side([subset.job(work) for subset in subsets], ...)`, where `work` does
    what it does in the block `with subset.task()`.

    Parameters
    ----------
    data : Dataset
    build : callable
        Gives a surrogate for the elements of a subset, not fitted yet.
    max_subset : int, optional
        Most structures of a subset, see `divide_data`.
    memory : float, optional, GiB
        Budget of all surrogates that exist at a time. Default: what is available.
    keep : bool
        Whether all surrogates are kept: all of them together then have to do with the memory, and those of sets too
        large for that take other solvers than the covariance matrix.

    Returns
    -------
    list of Subset

    Raises
    ------
    ConfigError
        If there are options for species that no structure has.
    """
    mixed = build(data.species).kernel.any_composition
    divided = divide_data(data, max_subset, any_composition=mixed)
    parts = [(indices, data.select(indices)) for indices in divided]
    budget = memory_budget(memory)
    budgets = [budget] * len(parts)
    if keep:
        budgets = _shares([memory_needed(part) for _, part in parts], budget)
    subsets = []
    for number, ((indices, part), share) in enumerate(zip(parts, budgets, strict=True), 1):
        own = partial(_build_surrogate, build, part.species, data.species)
        with memory_share(share):
            taken, kept = own().memory_of_fit(part)
        name = f"subset {number} of {len(parts)}"
        kept = kept if keep else 0.0
        subsets.append(Subset(name, indices, part, own, share, taken, kept, len(parts) == 1))
    return subsets


def _build_surrogate(build: Build, own: tuple[str, ...], species: tuple[str, ...]) -> Surrogate:
    """Return the surrogate of a subset of structures, which know some elements of all data."""
    surrogate = build(own)
    surrogate.prepare(species)
    return surrogate


def _shares(needed: Sequence[float], budget: float) -> list[float]:
    """Divide memory that does not suffice: small subsets get what they need, large ones equal parts of the rest."""
    if sum(needed) <= budget:
        return [budget] * len(needed)
    shares = [0.0] * len(needed)
    for rank, number in enumerate(np.argsort(needed, kind="stable").tolist()):
        shares[number] = min(needed[number], (budget - sum(shares)) / (len(needed) - rank))
    return shares


def order_for(surrogate: Surrogate, subset: Dataset) -> Dataset:
    """Return structures to fit a surrogate to, their atoms in one order if the kernel needs that."""
    fingerprint = surrogate.fingerprint
    if not fingerprint.fixed_order:
        return subset
    return in_one_order(subset, rotations=fingerprint.invariant == "rotation")


class SurrogateSet:
    """Surrogates of the subsets of a data set, see `fit_surrogates`.

    Each structure is predicted by a surrogate of its composition and periodic directions, or of its composition if
    these are new; among several by the one that gives it the smallest standard deviation and does not refuse it.
    Atoms may be listed in any order: for kernels that need one, structures are matched with the training set first.
    Iterating gives pairs of a surrogate and the indices of the structures that it was fitted to.

    Parameters
    ----------
    members : sequence of (Surrogate, FittedSubset)
        Fitted surrogates and what they were fitted to.
    """

    def __init__(self, members: Sequence[tuple[Surrogate, FittedSubset]]) -> None:
        self._members = tuple(members)
        self._kinds = Kinds([subset.data for _, subset in self._members])

    def __len__(self) -> int:
        return len(self._members)

    def __iter__(self) -> Iterator[tuple[Surrogate, Indices]]:
        return iter((surrogate, subset.indices) for surrogate, subset in self._members)

    def __repr__(self) -> str:
        return f"SurrogateSet({', '.join(str(subset) for _, subset in self._members)})"

    @property
    def formulas(self) -> tuple[str, ...]:
        """Formulas of the structures that can be predicted."""
        return tuple(dict.fromkeys(item.formula for _, subset in self._members for item in subset.data))

    def assign(self, data: Dataset, *, progress: Callable[[int], object] | None = None) -> list[Assignment]:
        """Return what each surrogate that is to predict some structures predicts.

        Parameters
        ----------
        data : Dataset
        progress : callable, optional
            Called with the number of structures done since the last call, of those whose standard deviations are
            known from then on.

        Returns
        -------
        list of Assignment
            Every structure belongs to one of them. Costs the standard deviations by all surrogates of a composition
            that has several.

        Raises
        ------
        DataError
            If no surrogate knows the composition of a structure, or all that do refuse it.
        """
        groups: defaultdict[tuple[int, ...], list[int]] = defaultdict(list)
        for index, structure in enumerate(data):
            groups[self._knowing(structure)].append(index)
        several = {number for numbers in groups if len(numbers) > 1 for number in numbers}
        chosen, stds = np.zeros(len(data), dtype=np.int64), np.zeros(len(data))
        for numbers, listed in groups.items():
            chosen[listed] = numbers[0]
            for begin in range(0, len(listed) if several.intersection(numbers) else 0, _BATCH):
                batch = listed[begin : begin + _BATCH]
                chosen[batch], stds[batch] = self._surest(numbers, data.select(batch))
                if progress is not None:
                    progress(len(batch))
        return [
            self._assign_to(
                number, data, np.flatnonzero(chosen == number), stds if number in several else None
            )
            for number in np.unique(chosen).tolist()
        ]

    def _knowing(self, structure: Structure) -> tuple[int, ...]:
        numbers = self._kinds.knowing(structure)
        if not numbers:
            raise DataError(
                f"{structure.origin}: no surrogate knows the composition {structure.formula}; those that are known: "
                f"{', '.join(self.formulas)}. Fit to structures of this one too, or leave it out"
            )
        return numbers

    def _surest(self, numbers: Sequence[int], data: Dataset) -> tuple[Indices, Array]:
        """Return which surrogate gives each structure the smallest standard deviation, and that."""
        stds = np.full((len(numbers), len(data)), np.inf)  # of those that refuse a structure
        refusals: dict[int, DataError] = {}
        for row, number in zip(stds, numbers, strict=True):
            assignment, found, refused = ask(self._members[number][0], data, Assignment.energy_std)
            row[assignment.indices] = found
            refusals |= refused
        best = stds.min(axis=0, initial=np.inf)
        if np.any(np.isinf(best)):
            raise refusals[int(np.argmax(best))]
        return np.array(numbers)[np.argmin(stds, axis=0)], best

    def _assign_to(self, number: int, data: Dataset, own: Indices, stds: Array | None) -> Assignment:
        assignment, refusals = Assignment.in_order(self._members[number][0], data.select(own))
        if refusals:
            raise next(iter(refusals.values()))
        return replace(assignment, indices=own, known_std=None if stds is None else stds[own])

    def predict(
        self,
        data: Source,
        *,
        std: bool = True,
        forces: bool = True,
        forces_std: bool = False,
        progress: Callable[[int], object] | None = None,
    ) -> Prediction:
        """Predict energies and forces with their standard deviations; see `Surrogate.predict`.

        Parameters
        ----------
        data : Dataset, or anything that `gprann.read` takes
            Structures of compositions that are known.
        std, forces, forces_std : bool
            Whether to predict the standard deviations of the energies, the forces, and those of the forces.
        progress : callable, optional
            Called with the number of structures done since the last call.

        Returns
        -------
        Prediction

        Raises
        ------
        DataError
            If no surrogate knows the composition of a structure, or all that do refuse it.
        """
        parts = self.assign(structures(data), progress=progress)
        found = [
            assignment.predict(
                std=std,
                forces=forces,
                forces_std=forces_std,
                progress=progress if assignment.known_std is None else None,
            )
            for assignment in parts
        ]
        order = np.argsort(
            np.concatenate([np.zeros(0, np.int64), *(assignment.indices for assignment in parts)])
        )
        return _join(found, order)

    def save(self, path: str | os.PathLike[str], *, factor: bool = False) -> None:
        """Write all surrogates to one portable file, see `Surrogate.save`."""
        members = [
            {
                "name": subset.name,
                "indices": subset.indices.tolist(),
                "surrogate": surrogate.to_plain(factor=factor),
            }
            for surrogate, subset in self._members
        ]
        write_plain(path, "surrogate set", {"members": members})

    @classmethod
    def load(cls, path: str | os.PathLike[str], *, baseline: BaselineLike = None) -> SurrogateSet:
        """Read surrogates that `save` has written, see `Surrogate.load`."""
        members = []
        with reading_plain(path, "surrogate set") as plain:
            for member in plain["members"]:
                surrogate = Surrogate.from_plain(member["surrogate"], baseline)
                indices = np.array(member["indices"], dtype=np.int64)
                members.append((surrogate, FittedSubset(member["name"], indices, surrogate.training_set)))
            return cls(members)

    def to_dict(self) -> list[dict[str, Any]]:
        """Return kernels and hyperparameters as plain data, for provenance, one for each surrogate."""
        return [
            {"formula": describe_formulas(subset.data), **surrogate.to_dict()}
            for surrogate, subset in self._members
        ]


def assign(model: Surrogate | SurrogateSet, data: Dataset) -> list[Assignment]:
    """Return which surrogate predicts which structures; a single one all of them, their atoms as they are listed."""
    return model.assign(data) if isinstance(model, SurrogateSet) else [Assignment.as_listed(model, data)]


def _join(parts: Sequence[Prediction], order: Indices) -> Prediction:
    """Return the predictions one after the other, brought into an order; NaN for stresses that some have not."""

    def arrays(values: Sequence[Array | None]) -> Array | None:
        given = [value for value in values if value is not None]
        return np.concatenate(given)[order] if len(given) == len(values) and given else None

    def lists(values: Sequence[list[Array] | None]) -> list[Array]:
        flat = [item for value in values for item in value or ()]
        return [flat[k] for k in order.tolist()] if flat else []

    stresses = [part.stress for part in parts]
    if any(stress is not None for stress in stresses):
        stresses = [np.full((len(part), 6), np.nan) if part.stress is None else part.stress for part in parts]
    deviations = lists([part.forces_std for part in parts])
    return Prediction(
        np.concatenate([np.zeros(0), *(part.energy for part in parts)])[order],
        lists([part.forces for part in parts]),
        energy_std=arrays([part.energy_std for part in parts]),
        forces_std=deviations or None,
        stress=arrays(stresses),
    )


@takes(SubsetOptions, SurrogateOptions)
def fit_surrogates(
    data: Source,
    *,
    baseline: BaselineLike = None,
    seed: int = 0,
    progress: bool | None = None,
    **options: Any,
) -> SurrogateSet:
    """Fit surrogates to a data set of any compositions: one for all, or one for each of its subsets, side by side.

    For kernels that need one order of atoms, atoms are put in order first. `memory` is the budget of all surrogates
    together: those whose covariance matrices do not fit in together take other solvers, each with its share.

    Parameters
    ----------
    data : Dataset, or anything that `gprann.read` takes
        Structures with energies and forces.
    baseline : Baseline, its name, or a list of these, optional
    seed : int
        See `Surrogate` for both.
    progress : bool, optional
        Show a progress bar; default: on a terminal only.
    **options
        Of the subsets, and of `Surrogate`.

    Returns
    -------
    SurrogateSet
        The same bits for any number of threads.

    Raises
    ------
    DataError
        If there are no structures, structures lack energies or forces, or their atoms cannot be put in one order
        for a kernel that needs it.
    ConfigError
        If an option is misspelt or impossible.
    FactorisationError
        If a covariance matrix is singular for the given hyperparameters.

    Examples
    --------
    >>> import gprann
    >>> h2 = gprann.examples.hydrogen(7)
    >>> surrogates = gprann.fit_surrogates(h2, max_subset=4, kernel="pairs")
    >>> [(surrogate.kernel.name, indices.tolist()) for surrogate, indices in surrogates]
    [('pairs', [0, 1, 2]), ('pairs', [3, 4, 5, 6])]
    >>> bool(abs(surrogates.predict(h2).energy - h2.energies).max() < 0.05)
    True
    """
    division, chosen = divide(options, SubsetOptions, keys(SurrogateOptions))
    return fit_each(
        structures(data),
        lambda _: Surrogate(**chosen, baseline=baseline, seed=seed),
        max_subset=division.max_subset,
        memory=chosen.get("memory"),
        progress=progress,
    )


def load_surrogate(
    path: str | os.PathLike[str],
    *,
    baseline: BaselineLike = None,
) -> Surrogate | SurrogateSet:
    """Read what `Surrogate.save` or `SurrogateSet.save` has written.

    Raises
    ------
    FormatError
        If the file is missing, damaged, or holds something else.
    """
    kind: type[Surrogate | SurrogateSet] = SurrogateSet if read_kind(path) == "surrogate set" else Surrogate
    return kind.load(path, baseline=baseline)


def fit_each(
    data: Dataset,
    build: Build,
    *,
    max_subset: int | None = None,
    memory: float | None = None,
    progress: bool | None = None,
) -> SurrogateSet:
    """Fit the surrogates that `build` gives; see `fit_surrogates`."""
    if len(data) == 0:
        raise DataError("there are no structures to fit surrogates to; give some")
    subsets = plan_subsets(data, build, max_subset=max_subset, memory=memory, keep=True)
    with progress_bar(len(data), "fitting", show=progress) as bar:
        shared = SharedBar(bar)

        def fit(subset: Subset) -> tuple[Surrogate, FittedSubset]:
            with subset.task():
                surrogate = subset.build()
                with shared.about(str(subset)):
                    surrogate.fit(order_for(surrogate, subset.data))
                shared.update(len(subset.data))
                return surrogate, FittedSubset(subset.name, subset.indices, subset.data)

        members = side_by_side([subset.job(fit) for subset in subsets], memory=memory_budget(memory))
    return SurrogateSet(members)
