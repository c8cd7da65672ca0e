"""A run: read, check, augment, train, evaluate; every stage leaves its result, finished stages are not repeated."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import logging
import os
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gprann.augmentation import Augmentation
from gprann.augmentation.hessian import read_hessians
from gprann.augmentation.sampling import with_unique_origins
from gprann.config import Config, load_config, to_toml
from gprann.config.augmentation import AUGMENTED
from gprann.data.structure import Dataset
from gprann.errors import ConfigError, DataError, nearest_name
from gprann.evaluation import evaluate
from gprann.io import DataWarning, atomic_write, read, write
from gprann.io.formats import find_files
from gprann.io.reading import structures
from gprann.pipeline.checkpoints import Stages, claimed_folder
from gprann.pipeline.digest import data_digest, digest, file_digest
from gprann.pipeline.memory import check_memory, surrogate_within_memory
from gprann.pipeline.steps import augment_data, require_labels, train_potential
from gprann.pipeline.surrogate_test import SurrogateTest, notice_of_loss, summary_of
from gprann.potential import Potential, load
from gprann.runtime.log import log_to_file, warnings_to_log
from gprann.surrogate import Surrogate
from gprann.surrogate.sets.surrogate_set import Subset, fit_in_one_order, for_each_subset
from gprann.version import __version__

__all__ = ["RunResult", "check_run", "finish", "history", "logged", "read_sets", "run", "run_file"]

_log = logging.getLogger(__name__)
_POTENTIAL = "potential.gprann"


@dataclass(frozen=True, slots=True)
class RunResult:
    """What a run has left.

    Attributes
    ----------
    folder : Path
    metrics : dict
        Of each evaluated set, `test` and `training`, as in `Report.to_dict`; under `surrogate` those of the
        surrogates on the test set, if there are any.
    summary : str
        Tables of the errors.
    skipped : tuple of str
        Stages that an earlier run had finished.
    """

    folder: Path
    metrics: dict[str, Any]
    summary: str
    skipped: tuple[str, ...]

    @property
    def potential(self) -> Path:
        """The model file."""
        return self.folder / _POTENTIAL


def run_file(path: str | os.PathLike[str]) -> RunResult:
    """Run a configuration file; see `run`."""
    return run(load_config(path), source=Path(path))


def run(config: Config, *, source: Path | None = None) -> RunResult:
    """Run the whole pipeline.

    A second run of the same configuration goes on where the first was interrupted and ends with the same bits; a
    changed one repeats the stages that depend on the change.

    Parameters
    ----------
    config : Config
        With absolute paths, as `load_config` gives it.
    source : Path, optional
        The file it comes from: results of another file are not overwritten.

    Returns
    -------
    RunResult

    Raises
    ------
    ConfigError
        If the configuration is impossible, the memory does not suffice, or the output folder is in use.
    DataError
        If the data cannot be used.
    TrainingError, FactorisationError
        If a fit failed; what was finished is kept.
    """
    begin = "" if source is None else f"{source}: "
    config.augmentation.check_use(config.surrogate, lambda section, key: f"{begin}{section}.{key}")
    folder = Path(config.output.folder)
    with claimed_folder(folder, source) as stages, logged(folder, source):
        train, test = read_sets(config)
        check_run(config, train, test)
        return finish(config, stages, train, test)


@contextlib.contextmanager
def logged(folder: Path, source: Path | None) -> Iterator[None]:
    """Keep the messages of a run in its folder."""
    with log_to_file(folder / "run.log"), warnings_to_log(DataWarning):
        started = time.perf_counter()
        _log.info("gprann %s, %s, results in %s", __version__, source or "configuration in memory", folder)
        yield
        _log.info("finished in %.1f s", time.perf_counter() - started)


def read_sets(config: Config) -> tuple[Dataset, Dataset | None]:
    """Read the training and test structures."""
    folder = Path(config.output.folder).resolve()
    sets = []
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
        sets.append(read(list(sources), **config.data.read_options()))
    return with_unique_origins(sets[0]), sets[1] if len(sets) > 1 else None


def check_run(config: Config, train: Dataset, test: Dataset | None) -> None:
    """Refuse data that a run cannot use, or that do not fit into the memory, before anything is computed."""
    require_labels(train, config.augmentation)
    if config.augmentation.method == "taylor" and config.augmentation.hessians is not None:
        read_hessians(config.augmentation.hessians, train)
    if config.training.forces and all(structure.forces is None for structure in train):
        raise DataError(
            "direct training on forces: no structure of the training set has forces; give forces, or train on "
            "energies alone"
        )
    species = config.descriptor.build(train.species).species
    for data in (train, test or train):
        for structure in data:
            unknown = sorted(set(structure.symbols) - set(species))
            if unknown:
                raise DataError(
                    f"{structure.origin}: the element {unknown[0]} is not among the species {', '.join(species)}; "
                    f"{nearest_name(unknown[0], species)}"
                )
    check_memory(config, train)


def finish(config: Config, stages: Stages, train: Dataset, test: Dataset | None) -> RunResult:
    """Do every stage of a run that is not finished."""
    with atomic_write(stages.folder / "config.toml") as stream:
        stream.write(to_toml(config))
    return _Run(config, stages, train, test).finish()


@dataclass(slots=True)
class _Run:
    """The stages of one run. Data of finished stages are read only where a later stage needs them."""

    config: Config
    stages: Stages
    train: Dataset
    test: Dataset | None
    skipped: list[str] = field(default_factory=list)
    seconds_kept: list[float] = field(default_factory=list)
    """That an interrupted run has spent on the labels it left, subset by subset."""
    labels: set[str] = field(default_factory=set)
    """Records of the labels that this run has made or taken."""
    judge: SurrogateTest | None = None

    def __post_init__(self) -> None:
        if self.test is not None and self.config.augmentation.uses_surrogate:
            self.judge = SurrogateTest(self.stages, self.test, self._augmentation_options())

    def finish(self) -> RunResult:
        """Do every stage that is not finished."""
        augmented = self._stage("augmentation", self._augmentation_inputs(), self._augment)
        judged = self._judged(augmented)
        trained = self._stage("training", self._training_inputs(augmented), lambda: self._train(augmented))
        reported = self._stage("report", self._report_inputs(trained), lambda: self._report(judged))
        folder = self.stages.folder
        return RunResult(
            folder,
            json.loads((folder / "report" / "metrics.json").read_text(encoding="utf-8")),
            reported["summary"],
            tuple(self.skipped),
        )

    def _stage(
        self, name: str, inputs: str, work: Callable[[], tuple[list[Path], dict[str, Any]]]
    ) -> dict[str, Any]:
        left = self.stages.find(name, inputs)
        if left is not None:
            _log.info("%s: finished by an earlier run", name)
            self.skipped.append(name)
            return left
        started = time.perf_counter()
        files, left = work()
        left["inputs"] = inputs
        self.stages.keep(name, inputs, files, left)
        self._drop_earlier(name)
        _log.info("%s: done in %.1f s", name, time.perf_counter() - started)
        return left

    def _drop_earlier(self, stage: str) -> None:
        """Once a stage is finished, remove what runs of other options or structures have left for it."""
        if stage == "augmentation":
            self.stages.keep_only("labels", self.labels)
        elif stage == "surrogate" and self.judge is not None:
            self.stages.keep_only("judgements", self.judge.judged)

    # --------------------------------------------------------- augmentation
    def _augmentation_inputs(self) -> str:
        return digest(__version__, data_digest(self.train), self._augmentation_options())

    def _augmentation_options(self) -> dict[str, Any]:
        config = self.config
        if config.augmentation.method == "none":
            return {"method": "none"}
        options = {"augmentation": config.augmentation.model_dump(mode="json")}
        if config.augmentation.hessians is not None:
            options["augmentation"]["hessians"] = file_digest(config.augmentation.hessians)
        if config.augmentation.uses_surrogate:
            # With the budget that the user leaves it: solver and hyperparameters depend on it. What the machine has
            # does not count, so that a run can go on elsewhere.
            options["surrogate"] = surrogate_within_memory(config).model_dump(mode="json")
        return options

    def _augment(self) -> tuple[list[Path], dict[str, Any]]:
        config, folder = self.config, self.stages.folder
        started = time.perf_counter()
        surrogate = surrogate_within_memory(config)
        workers = config.resources.workers
        copies = augment_data(
            self.train,
            config.augmentation,
            surrogate,
            workers=workers,
            around=self._keep_labels,
            fitted=self._judge_fitted,
        )
        seconds = round(sum(self.seconds_kept) + time.perf_counter() - started, 2)
        path, label_next = folder / AUGMENTED, folder / config.augmentation.label_next
        write(path, self.train + copies.accepted)
        _log.info("%s: %d structures and %d copies", path, len(self.train), len(copies.accepted))
        label_next.unlink(missing_ok=True)
        files = [path]
        if len(copies.uncertain):
            write(label_next, copies.uncertain)
            files.append(label_next)
            _log.info(
                "%s: %d of the copies that are too uncertain; label them next",
                label_next,
                len(copies.uncertain),
            )
        left = {"surrogates": copies.surrogates, "label_next": len(copies.uncertain), "seconds": seconds}
        return files, left

    def _keep_labels(self, indices: NDArray[np.int64], make: Callable[[], Augmentation]) -> Augmentation:
        """Label the copies of a subset, or take the labels that an interrupted run has left."""
        subset = self.train.select(indices)
        inputs = digest(__version__, data_digest(subset), indices.tolist(), self._augmentation_options())
        name = f"labels/{inputs[:16]}"
        self.labels.add(name)
        left = self.stages.find(name, inputs)
        files = [self.stages.checkpoints / f"{name}.{part}.extxyz" for part in ("accepted", "uncertain")]
        if left is not None:
            _log.info(
                "labels of %d structures of %s: taken from an earlier run", len(subset), subset[0].formula
            )
            self.seconds_kept.append(left.get("seconds", 0.0))
            accepted, uncertain = (structures(f) if f.is_file() else Dataset() for f in files)
            return Augmentation(accepted, uncertain, left["surrogates"], left["left_out"], left["not_made"])
        started = time.perf_counter()
        made = make()
        seconds = time.perf_counter() - started
        left = {
            "surrogates": made.surrogates,
            "left_out": made.left_out,
            "not_made": made.not_made,
            "seconds": seconds,
        }
        files[0].parent.mkdir(parents=True, exist_ok=True)
        for file, data in zip(files, (made.accepted, made.uncertain), strict=True):
            file.unlink(missing_ok=True)
            if len(data):
                write(file, data)
        kept = [file for file in files if file.is_file()]
        self.stages.keep(name, inputs, kept, left)
        return made

    # ------------------------------------------------------------ surrogate
    def _judged(self, augmented: dict[str, Any]) -> dict[str, Any] | None:
        """Return what the surrogates are worth on the test set, None if there is no surrogate or no such set."""
        folder = self.stages.folder / "report" / "surrogate"
        if self.test is None or not self.config.augmentation.uses_surrogate:
            shutil.rmtree(folder, ignore_errors=True)
            self.stages.keep_only("judgements", ())
            return None
        inputs = digest(augmented["inputs"], data_digest(self.test), self._draws_plots())
        return self._stage("surrogate", inputs, lambda: self._judge(folder))

    def _judge_fitted(self, surrogate: Surrogate, subset: Subset) -> None:
        if self.judge is not None:
            self.judge.judge(surrogate, self.train.select(subset.indices))

    def _judge(self, folder: Path) -> tuple[list[Path], dict[str, Any]]:
        """Report the predictions of the surrogates; those that an earlier run has not left are fitted again."""
        judge, config = self.judge, self.config
        if judge is None:  # _judged() has a test set
            return [], {"metrics": None}
        section, seed = surrogate_within_memory(config), config.augmentation.seed

        def judged(subset: Subset, surrogate: Surrogate) -> Dataset:
            if not judge.has(subset.data):
                fit_in_one_order(surrogate, subset.data)
                judge.judge(surrogate, subset.data)
            return subset.data

        subsets = for_each_subset(
            self.train,
            judged,
            lambda subset: section.build(subset.species, seed),
            max_subset=config.augmentation.max_subset,
            memory=section.memory,
            workers=config.resources.workers,
        )
        shutil.rmtree(folder, ignore_errors=True)
        report = judge.report(subsets)
        if report is None:
            _log.info("the surrogates are not judged: no test structure is of a composition that they know")
            return [], {"metrics": None}
        files = report.save(folder, plots=None if config.output.plots else False)
        return files, {"metrics": report.to_dict(), "summary": summary_of(report.metrics, len(judge.test))}

    def _draws_plots(self) -> bool:
        return self.config.output.plots and importlib.util.find_spec("matplotlib") is not None

    # ------------------------------------------------------------- training
    def _training_inputs(self, augmented: dict[str, Any]) -> str:
        descriptor = self.config.descriptor.build(self.train.species).to_dict()
        return digest(augmented["inputs"], descriptor, self.config.training.model_dump(mode="json"))

    def _train(self, augmented: dict[str, Any]) -> tuple[list[Path], dict[str, Any]]:
        config, path = self.config, self.stages.folder / _POTENTIAL
        provenance = {
            "config": config.model_dump(mode="json"),
            "training_data": {
                "digest": data_digest(self.train),
                "structures": len(self.train),
                "species": list(self.train.species),
            },
            "surrogates": augmented["surrogates"],
            "label_seconds": augmented.get("seconds"),
        }
        potential = train_potential(
            structures(self.stages.folder / AUGMENTED),
            config.descriptor,
            config.training,
            checkpoint=self.stages.checkpoints / "training",
            workers=config.resources.workers,
            provenance=provenance,
        )
        potential.save(path)
        return [path], {}

    # --------------------------------------------------------------- report
    def _report_inputs(self, trained: dict[str, Any]) -> str:
        test = None if self.test is None else data_digest(self.test)
        return digest(trained["inputs"], test, self._draws_plots())

    def _report(self, judged: dict[str, Any] | None) -> tuple[list[Path], dict[str, Any]]:
        folder = self.stages.folder / "report"
        potential = load(self.stages.folder / _POTENTIAL)
        files, metrics, texts = [], {}, []
        for name, data in (("test", self.test), ("training", self.train)):
            shutil.rmtree(folder / name, ignore_errors=True)
            if data is None:
                continue
            report = evaluate(potential, data)
            plots = None if self.config.output.plots else False
            files += report.save(folder / name, plots=plots, history=history(potential))
            metrics[name] = report.to_dict()
            texts.append(f"{name} set\n{'=' * (len(name) + 4)}\n{report.summary()}")
        if judged is not None and judged["metrics"] is not None:
            metrics["surrogate"] = judged["metrics"]
            notice = notice_of_loss(metrics["test"], judged["metrics"])
            if notice:
                _log.warning(notice.strip())
            texts.append(f"surrogate\n=========\n{notice}{judged['summary']}\n")
        summary = "\n".join(texts)
        for path, text in (
            (
                folder / "metrics.json",
                json.dumps(metrics, indent=2, ensure_ascii=False, allow_nan=False) + "\n",
            ),
            (folder / "summary.txt", summary),
        ):
            with atomic_write(path) as stream:
                stream.write(text)
            files.append(path)
        return files, {"summary": summary}


def history(potential: Potential) -> dict[str, list[tuple[float, float, float | None]]]:
    """Return the learning curves of the members, eV."""
    curves = potential.provenance.get("training", {}).get("history", [])
    return {f"member {k}": [tuple(step) for step in curve] for k, curve in enumerate(curves)}
