"""A dry run: what `gprann run` would do with a configuration, how long, and with how much memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from gprann.config.sections import Config
from gprann.data.structure import Dataset
from gprann.errors import ConfigError, listing
from gprann.models.polynomial import Polynomial
from gprann.pipeline.checkpoints import Stages
from gprann.pipeline.inputs import (
    RunData,
    check_memory,
    check_run,
    count_processes,
    features_of,
    read_data,
    training_workload,
)
from gprann.pipeline.streaming import stream_if_needed
from gprann.runtime.resources import available_memory, n_threads
from gprann.surrogate.memory import SMALL_ROWS
from gprann.surrogate.sets.partition import divide_data
from gprann.surrogate.solvers.plan import matrix_operations

_RATE = 3e10
"""Floating-point operations of training in a second on one usual processor."""
_LIKELIHOODS, _REFINEMENTS = 85.0, 8.0
"""Covariance matrices, made and factorised, of a small subset and of the whole set in the search for hyperparameters.

They follow from the time it took on azobenzene with 12, 24 and 54 structures.
"""
_DENSE = 8000
"""Observations up to which a surrogate is solved with its covariance matrix in any case."""
_STAGES = ("augmentation", "surrogate", "training", "report")


@dataclass(frozen=True, slots=True)
class Preview:
    """Forecast of a run. Printed, it is a page of text.

    Attributes
    ----------
    folder : Path
        Where results would go.
    method : str
        How the potential is made: auto, or manual with the kind of its copies.
    structures, test : int
        Structures to train on, and of the test set.
    compositions : dict of str to int
        Training structures of each formula.
    surrogates : tuple of int
        Structures of each surrogate; empty without.
    copies : int
        Copies at most.
    network : str
        Model and descriptor; empty where `auto` chooses them.
    members, parameters : int
        Networks, and weights of each; 0 where `auto` chooses.
    memory, available : float, GiB, or None
        What the run needs, and what there is.
    seconds : float or None
        Time of the training at most, from its operations; None where it is not known.
    surrogate_seconds : float or None
        Time of fitting the surrogates, in the same way; None where it is not known, 0 without surrogates.
    threads : int
    finished : tuple of str
        Stages of which the folder holds a record. They are not repeated if what they depend on is the same.
    """

    folder: Path
    method: str
    structures: int
    test: int
    compositions: dict[str, int]
    surrogates: tuple[int, ...]
    copies: int
    network: str
    members: int
    parameters: int
    memory: float
    available: float | None
    seconds: float | None
    surrogate_seconds: float | None
    threads: int
    finished: tuple[str, ...]

    def __str__(self) -> str:
        formulas = [f"{count} x {formula}" for formula, count in self.compositions.items()]
        lines = {
            "structures": f"{self.structures} to train on ({listing(formulas)}), {self.test or 'no'} to test with",
            "method": self.method,
        }
        if self.surrogates:
            sizes = listing(self.surrogates)
            lines["surrogates"] = f"{len(self.surrogates)}, of {sizes} structures"
        if self.copies:
            lines["copies"] = f"{self.copies} at most"
        if self.network:
            count = "1 network" if self.members == 1 else f"{self.members} networks"
            lines["potential"] = f"{count} of {self.parameters} weights: {self.network}"
        there = "" if self.available is None else f" of {self.available:.1f} GiB that are available"
        lines["memory"] = f"about {self.memory:.1f} GiB{there}"
        lines["time"] = self._time()
        done = f"; it holds {', '.join(self.finished)} of an earlier run" if self.finished else ""
        lines["results"] = f"{self.folder}{done}"
        return "\n".join(f"{name:<12}{text}" for name, text in lines.items())

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain data."""
        return asdict(self)

    def _time(self) -> str:
        if self.method.startswith("auto"):
            return f"about {_amount(self.seconds)} for the networks (resources.time); surrogates come on top"
        threads = "one thread" if self.threads == 1 else f"{self.threads} threads"
        parts = [] if not self.surrogates else [f"the surrogates about {_amount(self.surrogate_seconds)}"]
        if self.seconds is None:
            parts.append("the fit in closed form is usually a matter of seconds")
        else:
            parts.append(f"the networks at most about {_amount(self.seconds)}")
        return f"{', '.join(parts)}; on {threads}"


def _amount(seconds: float | None) -> str:
    if seconds is None:
        return "(not predicted)"
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"


def preview(config: Config, *, source: Path | None = None) -> Preview:
    """Read and check everything that a run reads, and say what it would do; nothing is computed or written.

    Parameters
    ----------
    config : Config
        With absolute paths, as `load_config` gives it.
    source : Path, optional
        The file it comes from.

    Returns
    -------
    Preview

    Raises
    ------
    ConfigError, DataError
        As the run itself would at its beginning.

    Examples
    --------
    >>> import gprann, tempfile
    >>> with tempfile.TemporaryDirectory() as name:
    ...     file = Path(name) / "train.extxyz"
    ...     gprann.write(file, gprann.examples.hydrogen(12))
    ...     config = Config.model_validate({"data": {"train": str(file)}, "method": "manual"})
    ...     found = preview(config)
    >>> found.structures, found.test, found.members
    (11, 1, 1)
    """
    folder = Path(config.output.folder)
    finished = _stages_on_record(folder, source)
    config.augmentation.check_use(config.surrogate, lambda section, key: f"{section}.{key}")
    data = read_data(config)
    config = stream_if_needed(config, data.train, Stages(folder, source).checkpoints)
    check_run(config, data)
    return _preview(config, data, folder, finished)


def _stages_on_record(folder: Path, source: Path | None) -> tuple[str, ...]:
    """Return the stages that are on record; refuse a folder that the run would refuse."""
    if not folder.exists():
        return ()
    if not folder.is_dir():
        raise ConfigError(f"output.folder: {folder} is a file; choose another name")
    stages = Stages(folder, source)
    if any(folder.iterdir()) and not stages.checkpoints.is_dir():
        raise ConfigError(
            f"output.folder: {folder} holds files that no run of gprann has made; choose a new folder or empty it"
        )
    if source is None or source.resolve().parent != folder.resolve():
        stages.check_source()
    return tuple(name for name in _STAGES if (stages.checkpoints / f"{name}.json").is_file())


def _preview(config: Config, data: RunData, folder: Path, finished: tuple[str, ...]) -> Preview:
    train, section = data.train, config.augmentation
    automatic = config.method != "manual"
    parts: list[Dataset] = []
    if not automatic and section.uses_surrogate:
        mixed = config.surrogate.kernel.any_composition
        divided = divide_data(train, section.max_subset, any_composition=mixed)
        parts = [train.select(part) for part in divided]
    descriptor = config.descriptor.build(train.species)
    workload = training_workload(config, train, descriptor)
    copies = sum(section.most_copies(structure) for structure in train)
    return Preview(
        folder=folder,
        method=_method(config),
        structures=len(train),
        test=0 if data.test is None else len(data.test),
        compositions=dict(Counter(structure.formula for structure in train)),
        surrogates=tuple(map(len, parts)),
        copies=0 if automatic else copies,
        network="" if automatic else f"{config.training.model!r}, {descriptor!r}",
        members=0 if automatic else config.training.members,
        parameters=0 if automatic else workload.n_parameters,
        memory=check_memory(config, train),
        available=available_memory(),
        seconds=60.0 * config.resources.time if automatic else training_seconds(config, train),
        surrogate_seconds=surrogate_seconds(config, parts, train.species),
        threads=n_threads(),
        finished=finished,
    )


def _method(config: Config) -> str:
    if config.method != "manual":
        return (
            f"{config.method}: trials on a part of the structures decide on copies, descriptor and networks"
        )
    what = "energies and forces" if config.training.forces else "energies"
    kinds = {"none": "no copies", "taylor": "Taylor copies", "gpr": "copies labelled by surrogates"}
    return f"manual: {kinds[config.augmentation.method]}, training on {what}"


def training_seconds(config: Config, data: Dataset) -> float | None:
    """Return about how long the training takes at most, from its operations on usual processors.

    Patience ends it earlier as a rule. None of models that are fitted in closed form.
    """
    options = config.training
    descriptor = config.descriptor.build(data.species)
    workload = training_workload(config, data, descriptor)
    if isinstance(options.model, Polynomial):
        return None
    each = [(1 + config.augmentation.most_copies(item)) * _labels(config, item) for item in data]
    compositions = len({structure.composition for structure in data})
    workload = replace(workload, n_rows=sum(each), n_compositions=compositions)
    optimizer, _ = options.optimizer.resolve(workload)
    steps = optimizer.value("iterations") + optimizer.random_starts * optimizer.trial_iterations
    side_by_side = min(n_threads(), count_processes(config))
    return float(options.members * steps * optimizer.flops(workload) / (_RATE * side_by_side))


def surrogate_seconds(config: Config, parts: Sequence[Dataset], species: tuple[str, ...]) -> float | None:
    """Return about how long fitting surrogates of these parts takes, from the operations of covariance matrices.

    None of sets that are solved without this matrix.
    """
    section = config.surrogate
    found = 0.0
    for data in parts:
        rows = sum(structure.n_labels for structure in data)
        if section.solver.name not in ("auto", "cholesky") or (
            section.solver.name == "auto" and rows > _DENSE
        ):
            return None
        whole = matrix_operations(data, features_of(section, data, species)) + rows**3 / 3
        small = whole * min(1.0, SMALL_ROWS / rows) ** 2
        found += whole if section.length is not None else _LIKELIHOODS * small + _REFINEMENTS * whole
    return found / (_RATE * n_threads())


def _labels(config: Config, structure: Any) -> int:
    forces = config.training.forces and structure.forces is not None
    return 1 + (3 * len(structure) if forces else 0)
