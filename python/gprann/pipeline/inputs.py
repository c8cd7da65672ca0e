"""The beginning of a run: read the data, split a test set off, and refuse what cannot succeed.

Nothing is computed before all of this is done; the memory of a run is predicted.
"""

from __future__ import annotations

import bisect
import logging
import math
import os
import warnings
from collections import Counter, defaultdict
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from gprann.augmentation.displacements import require_forces, with_unique_origins
from gprann.augmentation.taylor import read_hessians
from gprann.baselines import CalculatorBaseline, terms_of
from gprann.baselines.calculator import DescribedCalculator
from gprann.data.structure import Dataset
from gprann.descriptors import Descriptor, ProjectedDescriptor
from gprann.descriptors.base import MOST_STORED
from gprann.errors import ConfigError, DataError, nearest_name
from gprann.evaluation.data_check import read_and_check
from gprann.io import DataWarning, ReadOptions
from gprann.io.formats import find_files
from gprann.potential import Potential
from gprann.runtime.executors import process_count
from gprann.runtime.resources import GIB, available_memory, memory_budget
from gprann.surrogate.kernels.atoms import AtomsFingerprint, default_descriptor
from gprann.surrogate.memory import FEATURES, features_per_atom
from gprann.surrogate.sets.partition import averaged_descriptors, divide_data
from gprann.surrogate.sets.partition import bisect as divide_by_similarity
from gprann.surrogate.solvers.plan import memory_needed
from gprann.surrogate.solvers.representatives import WithRepresentatives
from gprann.training.optimizers import Workload
from gprann.training.store.objective import MOST_HELD

if TYPE_CHECKING:
    from gprann.config.sections import Config, SurrogateSection
    from gprann.surrogate.sets.surrogate_set import SurrogateSet

_log = logging.getLogger(__name__)
_PROGRAM = 0.3  # GiB; interpreter and libraries
_PARTS = 4  # of a composition's share of the test set: that many sets of similar structures, or more


@dataclass(frozen=True, slots=True)
class RunData:
    """The structures of a run.

    Attributes
    ----------
    train : Dataset
        With origins that tell the structures apart.
    test : Dataset or None
    split : int
        Number of structures of the test set that have been split off from the training structures; 0 if the test set
        was given.
    check : str
        The verdict on the data, for the report.
    problems : tuple of str
        What is suspicious about them.
    """

    train: Dataset
    test: Dataset | None
    split: int = 0
    check: str = ""
    problems: tuple[str, ...] = ()

    @property
    def origin_of_test(self) -> str:
        """Say how the test set came about, for the report; nothing if it was given."""
        if not self.split:
            return ""
        total = self.split + len(self.train)
        return f"{self.split} of the {total} structures of data.train, split off and not trained on"


def read_data(config: Config) -> RunData:
    """Read the training and test structures and check them; split a test set off where none is given."""
    folder = Path(config.output.folder).resolve()
    for name, sources in (("train", config.data.train), ("test", config.data.test)):
        if sources is None:
            continue
        for source in sources:
            own = [file for file in find_files(source)[0] if file.resolve().is_relative_to(folder)]
            if own:
                raise ConfigError(
                    f"data.{name}: {source} takes in results of this run ({own[0].name}); name the files more precisely"
                )
        _log.info("reading data.%s: %s", name, ", ".join(sources))
    test = None if config.data.test is None else list(config.data.test)
    checked = read_and_check(list(config.data.train), test, ReadOptions.part_of(config.data))
    for problem in checked.problems:
        warnings.warn(problem, DataWarning, stacklevel=2)
    for line in checked.summary().splitlines():
        _log.info("%s", line)
    data = with_unique_origins(checked.data)
    if checked.test is not None:
        return RunData(data, checked.test, check=checked.summary(), problems=checked.problems)
    return replace(_with_split(data, config), check=checked.summary(), problems=checked.problems)


def remember_baselines(config: Config, folder: Path) -> None:
    """Let calculators that are baselines keep their results in a folder, so that a restart does not repeat them."""
    for baseline in (config.baseline, config.surrogate.baseline, config.training.baseline):
        for term in () if baseline is None else terms_of(baseline):
            if isinstance(term, CalculatorBaseline):
                term.remember_in(folder)


def _with_split(data: Dataset, config: Config) -> RunData:
    """Return the data with a test set that is split off, if there is anything to split off."""
    fraction, seed = config.data.test_fraction, config.augmentation.seed
    if fraction == 0:
        return RunData(data, None)
    if config.augmentation.method == "taylor" and config.augmentation.hessians is not None:
        _log.warning("no test set: none is split off from structures that a file of Hessians belongs to")
        return RunData(data, None)
    chosen = split_test_set(data, fraction, seed)
    if len(chosen) == 0:
        _log.warning(
            "no test set: data.test is not given, and of %d structures none can be split off (data.test_fraction = "
            "%g); errors on training structures say little about others",
            len(data),
            fraction,
        )
        return RunData(data, None)
    kept = np.setdiff1d(np.arange(len(data)), chosen)
    result = RunData(data.select(kept), data.select(chosen), len(chosen))
    _log.info(
        "test set: %s (data.test is not given, data.test_fraction = %g)", result.origin_of_test, fraction
    )
    return result


def split_test_set(data: Dataset, fraction: float, seed: int = 0) -> NDArray[np.int64]:
    """Choose structures for a test set.

    Each group and composition gives its share. Similar structures, as subsequent steps of molecular dynamics, stay
    together: a test set of near copies of training structures would show no error. One structure at least of each
    composition is left to train on, and isolated atoms, from which the energies of the elements are taken, all are.

    Parameters
    ----------
    data : Dataset
    fraction : float
        Part of the structures to choose, rounded down.
    seed : int

    Returns
    -------
    ndarray of int64
        Ascending indices; empty if the data are too few.

    Examples
    --------
    >>> import gprann
    >>> data = gprann.examples.hydrogen(30)
    >>> split_test_set(data, 0.1).tolist() == split_test_set(data, 0.1).tolist(), len(split_test_set(data, 0.1))
    (True, 3)
    >>> split_test_set(data[:7], 0.1).tolist()
    []
    """
    rng = np.random.default_rng(seed)
    count = Counter(structure.composition for structure in data)
    strata: defaultdict[tuple[Any, ...], list[int]] = defaultdict(list)
    for index, structure in enumerate(data):
        if len(structure) > 1:
            strata[structure.composition, tuple(structure.pbc), structure.group].append(index)
    chosen: list[int] = []
    wanted = 0.0
    for (composition, *_), listed in strata.items():
        if count[composition] < 2:
            continue
        wanted += fraction * len(listed)  # what a small one is too small for, a later one gives
        number = min(int(wanted + 1e-9) - len(chosen), len(listed) // 2)
        if number > 0:
            chosen += _similar(data, np.array(listed), number, rng)
    return np.sort(np.array(chosen, dtype=np.int64))


def _similar(data: Dataset, members: NDArray[np.int64], number: int, rng: np.random.Generator) -> list[int]:
    """Choose a number of structures of one composition in clusters of similar structures."""
    size = max(1, number // _PARTS)
    clusters = [np.array([k]) for k in range(len(members))]
    if size > 1:
        clusters = divide_by_similarity(averaged_descriptors(data.select(members)), size)
    order = rng.permutation(len(clusters))
    picked = np.concatenate([clusters[k] for k in order])[:number]
    return [int(index) for index in members[picked]]


def check_run(config: Config, data: RunData) -> None:
    """Refuse data that a run cannot use, or that do not fit into the memory, before anything is computed."""
    train = data.train
    if config.augmentation.method != "none":
        config.augmentation.check_elements(train)
        require_forces(train, config.augmentation.method)
    if config.augmentation.method == "taylor" and config.augmentation.hessians is not None:
        read_hessians(config.augmentation.hessians, train)
    if config.training.forces and all(structure.forces is None for structure in train):
        raise DataError(
            "direct training on forces: no structure of the training set has forces; give forces, or train on "
            "energies alone"
        )
    species = config.descriptor.build(train.species).species
    for part in (train, data.test or train):
        for structure in part:
            unknown = sorted(set(structure.symbols) - set(species))
            if unknown:
                raise DataError(
                    f"{structure.origin}: the element {unknown[0]} is not among the species {', '.join(species)}; "
                    f"{nearest_name(unknown[0], species)}"
                )
    check_memory(config, train)


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

    If the solver is chosen automatically, this is the memory of the covariance matrix where it fits into `budget`, and
    else the least that the other solvers need; they use more representative structures where there is more memory.
    """
    if not config.augmentation.uses_surrogate:
        return 0.0
    mixed = config.surrogate.kernel.any_composition
    parts = divide_data(data, config.augmentation.max_subset, any_composition=mixed)
    return max(_memory_of_fit(config.surrogate, data.select(part), data.species, budget) for part in parts)


def _memory_of_fit(
    section: SurrogateSection, data: Dataset, species: tuple[str, ...], budget: float
) -> float:
    features = features_of(section, data, species)
    return section.solver.memory_at_least(data, min(budget, section.memory or math.inf), features=features)


def features_of(section: SurrogateSection, data: Dataset, species: tuple[str, ...]) -> float:
    """Return the number of features per atom; where the kernel is chosen later, that of the kernel `atoms`."""
    surrogate = section.build(data[:1].species, 0)
    surrogate.prepare(species)
    surrogate.fingerprint.fit(data[:1])
    found = features_per_atom(data, surrogate.fingerprint)
    descriptor = getattr(surrogate.fingerprint, "descriptor", None)
    if isinstance(descriptor, ProjectedDescriptor):  # of many structures more directions count than of one
        found = max(found, min(FEATURES, descriptor.base.size))
    return found


def surrogate_within_memory(config: Config) -> SurrogateSection:
    """Return the section of the surrogate, its memory limited by `resources.memory`, which decides on the solver."""
    limit = config.resources.memory
    if limit is None or not config.augmentation.uses_surrogate:
        return config.surrogate
    memory = min(config.surrogate.memory or math.inf, max(limit - _PROGRAM, 0.01))
    return config.surrogate.model_copy(update={"memory": memory})


def count_processes(config: Config) -> int:
    """Return the number of processes that train members side by side, if there are so many members."""
    return process_count(config.resources.workers) or os.cpu_count() or 1


def training_memory(config: Config, data: Dataset) -> float:
    """Return the memory of the training, GiB.

    It holds the descriptors of all structures twice, with forces also the neighbour lists and the derivatives of costly
    descriptors, and the normal equations three times.
    """
    if config.training.store is not None:
        return streamed_memory(config, data)
    descriptor = config.descriptor.build(data.species)
    atoms = sum(len(structure) * (1 + config.augmentation.most_copies(structure)) for structure in data)
    options = config.training
    workload = training_workload(config, data, descriptor)
    optimizer, _ = options.optimizer.resolve(workload)
    workers = min(count_processes(config), options.members)
    per_atom = 2 * 8.0 * descriptor.size
    if options.forces:
        sample = data[: min(len(data), 20)]
        neighbours = descriptor.neighbours(sample)
        pairs = len(neighbours.neighbour) / neighbours.n_atoms
        per_atom += 28.0 * pairs
        stored = 24.0 * pairs * atoms * (config.descriptor.features or descriptor.size)
        if descriptor.costly and stored <= MOST_STORED:  # by each worker
            per_atom += 2.0 * workers / (1 + workers) * stored / atoms
    return float(atoms * per_atom * (1 + workers) / 2 + workers * optimizer.memory(workload)) / GIB


def streamed_memory(config: Config, data: Dataset) -> float:
    """Return the memory of a training whose features are streamed, GiB."""
    options = config.training
    workload = training_workload(config, data, config.descriptor.build(data.species))
    optimizer, _ = options.optimizer.resolve(workload)
    workers = min(count_processes(config), options.members)
    labels = 200.0 * workload.n_structures  # targets, weights, families and the like
    return float(workers * (MOST_HELD + optimizer.memory(workload)) + (1 + workers) * labels) / GIB


def _describe(file: str) -> Potential:
    """Return a potential of which nothing is evaluated: calculators on which it builds are not needed."""
    return Potential.load(file, baseline=DescribedCalculator())


def training_workload(config: Config, data: Dataset, descriptor: Descriptor) -> Workload:
    """Return size and kind of the training, for its memory; the number of residuals is not counted."""
    options, start_from = config.training, config.training.start_from
    kind = options.model if start_from is None else _describe(start_from).model.options
    model = kind.build(descriptor.size, len(descriptor.species))
    return Workload(
        n_parameters=model.n_parameters,
        n_structures=sum(1 + config.augmentation.most_copies(structure) for structure in data),
        forces=options.forces,
        largest=int(data.n_atoms.max()),
        n_features=descriptor.size,
    )


def _refusal(config: Config, data: Dataset, needed: float, budget: float, surrogate: bool) -> str:
    begin = f"the run needs about {needed:.1f} GiB of memory, {budget:.1f} GiB are available"
    if not surrogate:
        copies = max(config.augmentation.most_copies(structure) for structure in data)
        return f"{begin}; lower augmentation.copies (now {copies}) or resources.workers"
    solver = config.surrogate.solver
    if solver.name != "cholesky":
        inducing = isinstance(solver, WithRepresentatives) and solver.inducing
        what = "surrogate.inducing" if inducing else "augmentation.max_subset"
        return f"{begin}; lower {what}, or use a machine with more memory"
    largest_first = data.select(np.argsort(-data.n_atoms, kind="stable"))
    features = features_of(config.surrogate, largest_first, data.species)
    fitting = bisect.bisect_right(
        range(config.augmentation.max_subset or len(data)),
        budget - _PROGRAM,
        key=lambda count: memory_needed(largest_first[:count], features=features),
    )
    fitting -= 1  # the range begins with no structure at all
    without = 'set surrogate.solver to "auto"'
    if fitting < 2:
        return f"{begin}; {without}, or use a machine with more memory"
    return (
        f"{begin}; lower augmentation.max_subset (now {config.augmentation.max_subset or len(data)}) to {fitting} or "
        f"less, or {without}"
    )


def with_hyperparameters(section: SurrogateSection, teacher: SurrogateSet, data: Dataset) -> SurrogateSection:
    """Return the section with what the trial has found, so that it need not be searched for again."""
    if len(teacher) != 1 or "hyperparameters" in section.changes():
        return section
    surrogate, _ = next(iter(teacher))
    found: dict[str, Any] = {
        key: value
        for key, value in surrogate.hyperparameters.options().items()
        if getattr(section, key) is None
    }
    fingerprint = surrogate.fingerprint
    if isinstance(fingerprint, AtomsFingerprint) and not fingerprint.descriptor_given:
        default = default_descriptor(data.species, fingerprint.angular_cutoff)
        found["descriptor"] = {"kind": default.name, **default.to_dict()}
    return section.replace(**found)
