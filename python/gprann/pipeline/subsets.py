"""The subsets of a data set: fit a surrogate to each, test it, label copies, and store what has been found.

Subsets are worked on side by side, and their results kept one by one: a run that was interrupted goes on with those
that are missing.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from gprann.arrays import Array
from gprann.augmentation.displacements import require_forces, with_unique_origins
from gprann.augmentation.gpr import Augmentation, Sink, label_subset
from gprann.augmentation.taylor import taylor_parts
from gprann.augmentation.thermal import surrogate_hessian
from gprann.data.prediction import Prediction
from gprann.data.structure import Dataset, Structure
from gprann.descriptors import ProjectedDescriptor, descriptor_from_dict, descriptor_to_dict
from gprann.evaluation.metrics import Metrics, number
from gprann.evaluation.report import Report, with_forces_std
from gprann.io import write
from gprann.io.extxyz import format_extxyz
from gprann.io.reading import structures
from gprann.pipeline.checkpoints import Stages, data_digest, digest
from gprann.runtime.atomic_write import atomic_write, make_folder
from gprann.runtime.executors import Workers, process_count
from gprann.runtime.messages import SharedBar, progress_bar
from gprann.runtime.resources import memory_budget, side_by_side
from gprann.surrogate.compression import compress_surrogate
from gprann.surrogate.kernels.atoms import AtomsFingerprint
from gprann.surrogate.observations import describe_formulas
from gprann.surrogate.saving import read_plain, write_plain
from gprann.surrogate.sets.partition import Kinds, ask
from gprann.surrogate.sets.surrogate_set import Subset, order_for, plan_subsets
from gprann.units import MEV
from gprann.version import __version__

if TYPE_CHECKING:
    from gprann.config.sections import AugmentationSection, SurrogateSection
    from gprann.surrogate.surrogate import Surrogate

_log = logging.getLogger(__name__)
_MUCH_WORSE = 5.0  # errors of the networks relative to those of their surrogates
_WORTH_A_REMARK = 2e-3  # eV/atom; error of the networks
_PARENTS = 100  # structures whose Taylor copies are in memory at a time where they go to a file
_FORCES_STD = 50  # structures of a surrogate whose forces get standard deviations, which are costly


# ------------------------------------------------------------------------ store
@dataclass(slots=True)
class SubsetStore:
    """Labels of the copies of each subset, kept for a run that goes on.

    Attributes
    ----------
    stages : Stages
        Where they are kept.
    options : dict
        Of surrogates and copies: labels of other options are not used.
    names : set of str
        Records that this run has used.
    earlier_seconds : list of float
        Time that an interrupted run has spent on the labels it left, subset by subset.
    streams : bool
        Whether the labelled copies stay in files alone, because they may be too many for the memory.
    files : list of Path
        Then those files, in the order of the subsets; set by `augment_data`.
    """

    stages: Stages
    options: dict[str, Any]
    n_features: int | None = None
    names: set[str] = field(default_factory=set)
    earlier_seconds: list[float] = field(default_factory=list)
    streams: bool = False
    files: list[Path] = field(default_factory=list)

    def list_files(self, subsets: Sequence[Subset]) -> None:
        """Note down the files of the labelled copies."""
        self.files = [self._files(self._record(subset)[0])[0] for subset in subsets]

    @contextlib.contextmanager
    def sink(self, subset: Subset) -> Iterator[Sink | None]:
        """Give what writes the labelled copies of a subset to its file; None: they stay in memory."""
        if not self.streams:
            yield None
            return
        with self.writer(self._record(subset)[0]) as take:
            yield take

    @contextlib.contextmanager
    def writer(self, name: str) -> Iterator[Sink]:
        """Give what writes labelled copies to the file of a name."""
        file = self._files(name)[0]
        file.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(file) as stream:
            yield lambda copies: stream.writelines(format_extxyz(copies))

    def find(self, subset: Subset) -> Augmentation | None:
        """Return the labelled copies of a subset that an interrupted run has left."""
        name, inputs = self._record(subset)
        self.names.add(name)
        left = self.stages.find(name, inputs)
        if left is None:
            return None
        data = subset.data
        _log.info(
            "labels of %d structures of %s: taken from an earlier run", len(data), describe_formulas(data)
        )
        self.earlier_seconds.append(left.get("seconds", 0.0))
        accepted, uncertain = (
            structures(file) if file.is_file() and read else Dataset()
            for file, read in zip(self._files(name), (not self.streams, True), strict=True)
        )
        found = Augmentation(accepted, uncertain, left["surrogates"], left["left_out"], left["not_made"])
        return replace(found, streamed=left["accepted"]) if self.streams else found

    def has(self, subset: Subset) -> bool:
        """Return whether there are labelled copies of a subset."""
        return self.stages.find(*self._record(subset)) is not None

    def keep(self, subset: Subset, made: Augmentation, seconds: float) -> None:
        """Keep the labelled copies of a subset, and the time that they took."""
        name, inputs = self._record(subset)
        left = {
            "surrogates": made.surrogates,
            "left_out": made.left_out,
            "not_made": made.not_made,
            "accepted": len(made.accepted) + made.streamed,
            "seconds": seconds,
        }
        files = self._files(name)
        make_folder(files[0].parent)
        for file, data in zip(files, (made.accepted, made.uncertain), strict=True):
            if data is made.accepted and made.streamed:
                continue  # they are there
            file.unlink(missing_ok=True)
            if len(data):
                write(file, data)
        files.append(self._feature_file(name))
        self.stages.keep(name, inputs, [file for file in files if file.is_file()], left)

    def keep_features(self, subset: Subset, surrogate: Surrogate) -> None:
        """Keep the features of a surrogate for the networks, if they are to have some."""
        if self.n_features is None or not isinstance(surrogate.fingerprint, AtomsFingerprint):
            return
        file = self._feature_file(self._record(subset)[0])
        make_folder(file.parent)
        features = compress_surrogate(surrogate, n_features=self.n_features)
        content = {"descriptor": descriptor_to_dict(features), "structures": len(subset.data)}
        write_plain(file, "features", content)

    def features(self) -> list[ProjectedDescriptor]:
        """Return the features of all surrogates, those of the largest subset first."""
        files = [self._feature_file(name) for name in sorted(self.names)]
        found = [read_plain(file, "features") for file in files if file.is_file()]
        found.sort(key=lambda content: -int(content["structures"]))
        descriptors = [descriptor_from_dict(content["descriptor"]) for content in found]
        return [item for item in descriptors if isinstance(item, ProjectedDescriptor)]

    def _feature_file(self, name: str) -> Path:
        return self.stages.checkpoints / f"{name}.features.gprann"

    def _record(self, subset: Subset) -> tuple[str, str]:
        """Return the name and the inputs of the record of a subset."""
        inputs = digest(__version__, data_digest(subset.data), subset.indices.tolist(), self.options)
        return f"labels/{inputs[:16]}", inputs

    def _files(self, name: str) -> list[Path]:
        return [self.stages.checkpoints / f"{name}.{part}.extxyz" for part in ("accepted", "uncertain")]


# ----------------------------------------------------------------------- copies
def augment_data(
    data: Dataset,
    augmentation: AugmentationSection,
    surrogate: SurrogateSection,
    *,
    workers: Workers | None = None,
    store: SubsetStore | None = None,
    test: SurrogateTest | None = None,
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
    store : SubsetStore, optional
        Keeps the labels of each subset, or has them from an earlier run.
    test : SurrogateTest, optional
        Tests the surrogates while they exist.

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
    >>> from gprann.config import AugmentationSection, SurrogateSection
    >>> len(augment_data(data, AugmentationSection(copies=2), SurrogateSection(kernel="pairs")).accepted)
    14
    """
    augmentation.check_use(surrogate)
    if augmentation.method == "none":
        return Augmentation(Dataset(), Dataset(), [])
    augmentation.check_elements(data)
    require_forces(data, augmentation.method)
    data = with_unique_origins(data)
    if augmentation.method == "taylor":
        hessians = _hessians(data, augmentation, surrogate, workers, test)
        return _taylor_copies(*hessians, augmentation, store)
    options = augmentation.copy_options()
    subsets = _plan(data, augmentation, surrogate)
    predict = None if test is None else test.predict
    if workers is not None and not isinstance(workers, int):
        from gprann.pipeline.elsewhere import label_elsewhere

        label_elsewhere(subsets, options, store, test, workers)
    with progress_bar(options.total(data), "labelling") as bar:
        work = partial(label_subset, options=options, bar=SharedBar(bar), store=store, test=predict)
        jobs = [subset.job(work) for subset in subsets]
        parts = side_by_side(jobs, memory=memory_budget(surrogate.memory), most=process_count(workers))
    if store is not None:
        store.list_files(subsets)
    result = sum(parts, Augmentation(Dataset(), Dataset(), []))
    result.log_counts()
    return result


def _plan(data: Dataset, augmentation: AugmentationSection, surrogate: SurrogateSection) -> list[Subset]:
    """Return the subsets to which the surrogates of a run are fitted."""
    return plan_subsets(
        data,
        partial(surrogate.build, seed=augmentation.seed),
        max_subset=augmentation.max_subset,
        memory=surrogate.memory,
    )


_Hessians: TypeAlias = "list[Array] | str | None"


def _hessians(
    data: Dataset,
    augmentation: AugmentationSection,
    surrogate: SurrogateSection,
    workers: Workers | None,
    test: SurrogateTest | None,
) -> tuple[Dataset, _Hessians]:
    """Return structures and Hessians of a Taylor expansion: of none, a file, or a surrogate of each subset."""
    hessians: list[Array] | str | None = augmentation.hessians
    if augmentation.order == 2 and hessians is None:
        work = partial(_expand_subset, test=test)
        jobs = [subset.job(work) for subset in _plan(data, augmentation, surrogate)]
        parts = side_by_side(jobs, memory=memory_budget(surrogate.memory), most=process_count(workers))
        ordered, hessians = list(data), [np.zeros((0, 0))] * len(data)
        for index, structure, hessian in itertools.chain.from_iterable(parts):
            ordered[index], hessians[index] = structure, hessian
        data = Dataset(ordered)
    return data, hessians


def _taylor_copies(
    data: Dataset, hessians: _Hessians, augmentation: AugmentationSection, store: SubsetStore | None
) -> Augmentation:
    """Return Taylor copies, or write them to a file, those of some structures after the other."""
    options = augmentation.taylor_options()
    if store is None or not store.streams:
        return Augmentation(sum(taylor_parts(data, options, hessians), Dataset()), Dataset(), [])
    name, count = "labels/taylor", 0
    with store.writer(name) as take:
        for part in taylor_parts(data, options, hessians, _PARENTS):
            take(part)
            count += len(part)
    store.names.add(name)
    store.files = store._files(name)[:1]
    return Augmentation(Dataset(), Dataset(), [], streamed=count)


def _expand_subset(subset: Subset, test: SurrogateTest | None) -> list[tuple[int, Structure, Array]]:
    """Fit the surrogate of a subset and test it; return index, structure with its atoms in order, and Hessian."""
    with subset.task():
        surrogate = subset.build()
        data = order_for(surrogate, subset.data)
        surrogate.fit(data)
        if test is not None:
            test.predict(surrogate, subset.data)
        return [
            (index, structure, surrogate_hessian(surrogate, structure))
            for index, structure in zip(subset.indices.tolist(), data, strict=True)
        ]


# ------------------------------------------------------------------------- test
def evaluate_surrogates(
    data: Dataset,
    test: SurrogateTest,
    augmentation: AugmentationSection,
    surrogate: SurrogateSection,
    workers: Workers | None = None,
) -> Report | None:
    """Return the errors of the surrogates of all subsets; surrogates that were not tested yet are fitted again.

    Returns
    -------
    Report or None
        None if the surrogates know the composition of no test structure, or refuse them all.
    """
    subsets = _plan(data, augmentation, surrogate)
    missing = [
        subset.job(partial(_test_subset, test=test)) for subset in subsets if not test.has(subset.data)
    ]
    side_by_side(missing, memory=memory_budget(surrogate.memory), most=process_count(workers))
    return test.report([subset.data for subset in subsets])


def _test_subset(subset: Subset, test: SurrogateTest) -> None:
    with subset.task():
        surrogate = subset.build()
        surrogate.fit(order_for(surrogate, subset.data))
        test.predict(surrogate, subset.data)


@dataclass(slots=True)
class SurrogateTest:
    """Test of the surrogates of a run: each predicts the test structures of its composition while it exists.

    The predictions are kept, one file for each surrogate, for a run that goes on.

    Attributes
    ----------
    stages : Stages
        Where they are kept.
    test : Dataset
    options : dict
        Of the surrogates.
    """

    stages: Stages
    test: Dataset
    options: dict[str, Any]
    names: set[str] = field(default_factory=set, init=False)
    """Records from which a report has been made."""
    _test_digest: str = field(init=False)

    def __post_init__(self) -> None:
        self._test_digest = data_digest(self.test)

    def has(self, subset: Dataset) -> bool:
        """Return whether the surrogate of a subset has been tested."""
        return self.stages.find(*self._record(subset)) is not None

    def predict(self, surrogate: Surrogate, subset: Dataset) -> None:
        """Predict the test structures that the surrogate of a subset knows, and keep the predictions.

        Structures that the surrogate refuses are left out.

        Parameters
        ----------
        surrogate : Surrogate
            Fitted to the subset.
        subset : Dataset
            As it is in the training set.
        """
        kinds = Kinds([subset])
        alike = np.array([k for k, item in enumerate(self.test) if kinds.knowing(item)], np.int64)
        assignment, means, refusals = ask(
            surrogate, self.test.select(alike), lambda assignment: surrogate.predict(assignment.data)
        )
        prediction = assignment.reorder_back(with_forces_std(surrogate, assignment.data, means, _FORCES_STD))
        if refusals:
            _log.info(
                "the surrogate refuses %d of %d test structures: %s",
                len(refusals),
                len(alike),
                next(iter(refusals.values())),
            )
        arrays = {
            "indices": alike[assignment.indices],
            "energy": prediction.energy,
            "energy_std": prediction.required_energy_std,
            "forces": np.concatenate([np.zeros((0, 3)), *prediction.forces]),
            "forces_std": np.concatenate([np.zeros((0, 3)), *(prediction.forces_std or [])]),
        }
        file = self._file(subset)
        make_folder(file.parent)
        with atomic_write(file, "wb") as stream:
            np.savez(stream, allow_pickle=False, **arrays)
        self.stages.keep(*self._record(subset), [file], {})

    def report(self, subsets: list[Dataset]) -> Report | None:
        """Return the errors of the surrogates of all subsets together, or None if they know no test structure.

        As in a `SurrogateSet`, a structure that several surrogates know is predicted by the most certain of them.
        """
        kinds = Kinds(subsets)
        best: dict[int, tuple[float, float, Array, Array]] = {}
        for position, subset in enumerate(subsets):
            self.names.add(self._record(subset)[0])
            with np.load(self._file(subset), allow_pickle=False) as arrays:
                part = dict(arrays)
            ends = np.cumsum(self.test.select(part["indices"]).n_atoms)[:-1]
            forces, stds = (np.split(part[name], ends) for name in ("forces", "forces_std"))
            own = zip(part["energy_std"].tolist(), part["energy"].tolist(), forces, stds, strict=False)
            for index, found in zip(part["indices"].tolist(), own, strict=True):
                knows = position in kinds.knowing(self.test[index])
                if knows and (index not in best or found[0] < best[index][0]):
                    best[index] = found
        if not best:
            return None
        known = sorted(best)
        stds_of, energies, all_forces, forces_stds = zip(*(best[index] for index in known), strict=True)
        prediction = Prediction(
            np.array(energies),
            list(all_forces),
            energy_std=np.array(stds_of),
            forces_std=list(forces_stds),
        )
        return Report.from_prediction(self.test.select(known), prediction)

    def _record(self, subset: Dataset) -> tuple[str, str]:
        """Return the name and the inputs of the record of a subset."""
        inputs = digest(__version__, data_digest(subset), self.options, self._test_digest)
        return f"surrogate_tests/{inputs[:16]}", inputs

    def _file(self, subset: Dataset) -> Path:
        return self.stages.checkpoints / f"{self._record(subset)[0]}.npz"


def loss_remark(potential: Mapping[str, Any], surrogate: Mapping[str, Any]) -> str:
    """Return a remark if the networks are far worse than the surrogates whose labels they learn; else nothing.

    Parameters
    ----------
    potential, surrogate : mapping
        Metrics on the test set, as of `Report.to_dict`.

    Examples
    --------
    >>> own = {"n_structures": 9, "energy_mae": 0.002, "energy_per_atom_mae": 2e-4}
    >>> bad = {"n_structures": 9, "energy_mae": 0.050, "energy_per_atom_mae": 5e-3}
    >>> loss_remark(own, own), loss_remark(bad, own)[:62]
    ('', 'the energies of the networks are 25.0 times as wrong as those ')
    """
    if surrogate["n_structures"] != potential["n_structures"]:
        return ""  # of other structures
    ratio = potential["energy_mae"] / max(surrogate["energy_mae"], 1e-12)
    if ratio < _MUCH_WORSE or potential["energy_per_atom_mae"] < _WORTH_A_REMARK:
        return ""
    return (
        f"the energies of the networks are {number(ratio)} times as wrong as those of the surrogate: try more copies, "
        "more members, wider hidden layers, or training on forces without copies (training.forces = true, "
        'augmentation.method = "none")\n'
    )


def describe_test(metrics: Metrics, n_test: int) -> str:
    """Return errors and coverage of the surrogates in two lines; those of forces where the structures have some."""

    def shares(one: float | None, two: float | None) -> str:
        return f"{number(one, 100.0)} / {number(two, 100.0)} %"

    errors = [f"energy MAE {number(metrics.energy_mae, 1 / MEV)} meV"]
    covered = [f"energies {shares(metrics.within_one_std, metrics.within_two_std)}"]
    if metrics.force_mae is not None:
        errors.append(f"force component MAE {number(metrics.force_mae)} eV/Å")
        covered.append(
            f"force components {shares(metrics.force_within_one_std, metrics.force_within_two_std)}"
        )
    return (
        f"{metrics.n_structures} of {n_test} test structures: {', '.join(errors)}\n"
        f"errors within one / two standard deviations (normal: 68 / 95 %): {', '.join(covered)}"
    )
