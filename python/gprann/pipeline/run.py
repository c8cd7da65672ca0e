"""A run: read, augment, train, evaluate; every stage leaves its result, and finished stages are not repeated."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import logging
import os
import shutil
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from gprann.config.sections import AUGMENTED, Config, DescriptorSection, TrainingSection, load_config
from gprann.config.template import to_toml
from gprann.data.structure import Dataset
from gprann.descriptors import Descriptor, descriptor_from_dict, descriptor_to_dict
from gprann.errors import ConfigError
from gprann.evaluation.report import Report, history
from gprann.io import DataWarning, atomic_write, write
from gprann.io.reading import structures
from gprann.pipeline.auto import choose
from gprann.pipeline.checkpoints import Stage, Stages, claim_folder, data_digest, digest, file_digest
from gprann.pipeline.choices import Plan
from gprann.pipeline.inputs import (
    RunData,
    check_run,
    read_data,
    remember_baselines,
    surrogate_within_memory,
)
from gprann.pipeline.streaming import join_files, stream_if_needed, with_store, without_store
from gprann.pipeline.subsets import (
    SubsetStore,
    SurrogateTest,
    augment_data,
    describe_test,
    evaluate_surrogates,
    loss_remark,
)
from gprann.pipeline.uncertainty import calibrate_committee
from gprann.potential import Potential
from gprann.runtime.executors import Workers
from gprann.runtime.messages import log_to_file, warnings_to_log
from gprann.surrogate.saving import read_plain, write_plain
from gprann.training.train import train
from gprann.version import __version__

_log = logging.getLogger(__name__)
_POTENTIAL = "potential.gprann"
_DESCRIPTOR = "descriptor.gprann"


@dataclass(frozen=True, slots=True)
class RunResult:
    """Result of a run.

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
    metrics: dict[str, Any] = field(repr=False)
    summary: str = field(repr=False)
    skipped: tuple[str, ...]

    @property
    def potential(self) -> Path:
        """The model file."""
        return self.folder / _POTENTIAL


def run(config: Config | str | os.PathLike[str], *, source: Path | None = None) -> RunResult:
    r"""Run the whole pipeline, from structures to an evaluated potential.

    A second run of the same configuration goes on where the first was interrupted and ends with the same bits; a
    changed one repeats the stages that depend on the change.

    Parameters
    ----------
    config : path or Config
        A file as `gprann init` writes it, or its content, with absolute paths, as `load_config` gives it.
    source : Path, optional
        The file that a `Config` comes from: results of another file are not overwritten.

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

    Examples
    --------
    >>> import gprann, tempfile
    >>> from pathlib import Path
    >>> with tempfile.TemporaryDirectory() as name:
    ...     folder = Path(name)
    ...     gprann.write(folder / "train.extxyz", gprann.examples.hydrogen(12))
    ...     _ = (folder / "config.toml").write_text(
    ...         'data.train = "train.extxyz"\naugmentation.copies = 2\noutput.plots = false\n'
    ...         "training.hidden = [3]\ntraining.iterations = 2\ntraining.starts = 1"
    ...     )
    ...     result = gprann.run(folder / "config.toml")
    ...     result.potential.name
    'potential.gprann'
    """
    if not isinstance(config, Config):
        source = Path(config)
        config = load_config(source)
    begin = "" if source is None else f"{source}: "
    config.augmentation.check_use(config.surrogate, lambda section, key: f"{begin}{section}.{key}")
    if not config.resources.mpi:
        return _run(config, source)
    from gprann.training.ranks import lead

    return lead(partial(_run, config, source))


def _run(config: Config, source: Path | None) -> RunResult:
    folder = Path(config.output.folder)
    with claim_folder(folder, source) as stages, log_run(folder, source):
        remember_baselines(config, stages.checkpoints)
        data = read_data(config)
        plan = None
        if config.method != "manual":
            plan = choose(without_store(config), data.train, stages)
            config = with_store(plan.config, config.training.store)
        remember_baselines(config, stages.checkpoints)
        config = stream_if_needed(config, data.train, stages.checkpoints)
        check_run(config, data)
        return finish(config, stages, data, plan)


@contextlib.contextmanager
def log_run(folder: Path, source: Path | None) -> Iterator[None]:
    """Keep the messages of a run in its folder."""
    with log_to_file(folder / "run.log"), warnings_to_log(DataWarning):
        started = time.perf_counter()
        _log.info("gprann %s, %s, results in %s", __version__, source or "configuration in memory", folder)
        yield
        _log.info("finished in %.1f s", time.perf_counter() - started)


def finish(config: Config, stages: Stages, data: RunData, plan: Plan | None = None) -> RunResult:
    """Do every stage of a run that is not finished; `plan` tells how the configuration came about."""
    with atomic_write(stages.folder / "config.toml") as stream:
        stream.write(to_toml(config))
    run = _Run(config, stages, data, plan)
    test = run.make_test()
    augmented = run.augment(test)
    tested = run.evaluate_surrogates(test, augmented)
    trained = run.train(augmented)
    reported = run.report(trained, tested)
    done = [augmented, *([] if tested is None else [tested]), trained, reported]
    return RunResult(
        stages.folder,
        json.loads((stages.folder / "report" / "metrics.json").read_text(encoding="utf-8")),
        reported.left["summary"],
        tuple(stage.name for stage in done if stage.skipped),
    )


@dataclass(frozen=True, slots=True)
class _Run:
    """The stages of one run. Results of finished stages are read only if a later stage needs them."""

    config: Config
    stages: Stages
    data: RunData
    plan: Plan | None = None

    # --------------------------------------------------------- augmentation
    def augment(self, test: SurrogateTest | None) -> Stage:
        """Label copies of the training structures, subset by subset."""
        config, folder, data = self.config, self.stages.folder, self.data.train
        options = self._augmentation_options()
        stage = self.stages.begin("augmentation", digest(__version__, data_digest(data), options))
        if stage.skipped:
            return stage
        started = time.perf_counter()
        streams = config.training.store is not None
        store = SubsetStore(self.stages, options, config.descriptor.features, streams=streams)
        copies = augment_data(
            data,
            config.augmentation,
            surrogate_within_memory(config),
            workers=config.resources.workers,
            store=store,
            test=test,
        )
        seconds = round(sum(store.earlier_seconds) + time.perf_counter() - started, 2)
        files = [folder / AUGMENTED]
        if streams:
            join_files(files[0], data, store.files)
        else:
            write(files[0], data + copies.accepted)
        _log.info(
            "%s: %d structures and %d copies", files[0], len(data), len(copies.accepted) + copies.streamed
        )
        files += self._write_uncertain(copies.uncertain)
        files += self._write_descriptor(store)
        left = {"surrogates": copies.surrogates, "label_next": len(copies.uncertain), "seconds": seconds}
        stage.finish(files, left)
        self.stages.keep_only("labels", store.names)
        return stage

    def _write_descriptor(self, store: SubsetStore) -> list[Path]:
        """Write the compressed descriptor of the networks, if it is to be one; return the file."""
        path = self.stages.folder / _DESCRIPTOR
        path.unlink(missing_ok=True)
        if self.config.descriptor.features is None:
            return []
        descriptor = self.config.descriptor.compress(self.data.train, store.features())
        write_plain(path, "features", {"descriptor": descriptor_to_dict(descriptor)})
        return [path]

    def _descriptor(self) -> Descriptor:
        """Return the descriptor of the networks."""
        if self.config.descriptor.features is None:
            return self.config.descriptor.build(self.data.train.species)
        return descriptor_from_dict(read_plain(self.stages.folder / _DESCRIPTOR, "features")["descriptor"])

    def _write_uncertain(self, copies: Dataset) -> list[Path]:
        """Write the copies to be labelled next, if there are any; return the file."""
        path = self.stages.folder / self.config.augmentation.label_next
        path.unlink(missing_ok=True)
        if len(copies) == 0:
            return []
        write(path, copies)
        _log.info("%s: %d of the copies that are too uncertain; label them next", path, len(copies))
        return [path]

    def _augmentation_options(self) -> dict[str, Any]:
        """Return the options on which copies and surrogates depend."""
        config = self.config
        if config.augmentation.method == "none":
            compressed = config.descriptor.features is not None
            return {"method": "none", **({"descriptor": config.descriptor.to_dict()} if compressed else {})}
        options: dict[str, Any] = {"augmentation": config.augmentation.to_dict()}
        if config.descriptor.features is not None:
            options["features"] = config.descriptor.features
        if config.augmentation.hessians is not None:
            options["augmentation"]["hessians"] = file_digest(config.augmentation.hessians)
        if config.augmentation.uses_surrogate:
            # With the budget that the user leaves it: solver and hyperparameters depend on it. What the machine has
            # does not count, so that a run can go on elsewhere.
            options["surrogate"] = surrogate_within_memory(config).to_dict()
        return options

    # ------------------------------------------------------------ surrogate
    def make_test(self) -> SurrogateTest | None:
        """Return the test of the surrogates, or None if there are no surrogates or there is no test set."""
        if self.data.test is None or not self.config.augmentation.uses_surrogate:
            return None
        return SurrogateTest(self.stages, self.data.test, self._augmentation_options())

    def evaluate_surrogates(self, test: SurrogateTest | None, augmented: Stage) -> Stage | None:
        """Report the errors of the surrogates on the test set; return None if they are not tested."""
        config, folder = self.config, self.stages.folder / "report" / "surrogate"
        if test is None:
            shutil.rmtree(folder, ignore_errors=True)
            self.stages.keep_only("surrogate_tests", ())
            return None
        inputs = digest(augmented.inputs, data_digest(test.test), self._draws_plots())
        stage = self.stages.begin("surrogate", inputs)
        if stage.skipped:
            return stage
        report = evaluate_surrogates(
            self.data.train,
            test,
            config.augmentation,
            surrogate_within_memory(config),
            config.resources.workers,
        )
        shutil.rmtree(folder, ignore_errors=True)
        if report is None:
            _log.info("the surrogates are not tested: no test structure is of a composition that they know")
            stage.finish([], {"metrics": None})
        else:
            files = report.save(folder, plots=None if config.output.plots else False)
            summary = describe_test(report.metrics, len(test.test))
            stage.finish(files, {"metrics": report.to_dict(), "summary": summary})
        self.stages.keep_only("surrogate_tests", test.names)
        return stage

    def _draws_plots(self) -> bool:
        return self.config.output.plots and importlib.util.find_spec("matplotlib") is not None

    # ------------------------------------------------------------- training
    def train(self, augmented: Stage) -> Stage:
        """Train the networks on the structures and their copies."""
        config, path = self.config, self.stages.folder / _POTENTIAL
        data = self.data.train
        descriptor = descriptor_to_dict(config.descriptor.build(data.species))
        # Where the features are kept, and whether in memory, is no matter of the result.
        inputs = digest(augmented.inputs, descriptor, config.training.replace(store=None).to_dict())
        stage = self.stages.begin("training", inputs)
        if stage.skipped:
            return stage
        provenance = {
            "config": config.to_dict(),
            "training_data": {
                "digest": data_digest(data),
                "structures": len(data),
                "species": list(data.species),
            },
            "surrogates": augmented.left["surrogates"],
            "label_seconds": augmented.left.get("seconds"),
        }
        source = self.stages.folder / AUGMENTED
        potential = train_potential(
            structures(source) if config.training.store is None else source,
            self._descriptor(),
            config.training,
            checkpoint=self.stages.checkpoints / "training",
            workers=config.resources.workers,
            provenance=provenance,
        )
        potential = calibrate_committee(potential, data, augmented.left["surrogates"])
        potential.save(path)
        stage.finish([path], {})
        return stage

    # --------------------------------------------------------------- report
    def report(self, trained: Stage, tested: Stage | None) -> Stage:
        """Evaluate the potential on both sets; write tables, plots and the summary."""
        test = None if self.data.test is None else data_digest(self.data.test)
        choices = None if self.plan is None else self.plan.to_dict()
        stage = self.stages.begin(
            "report", digest(trained.inputs, test, self._draws_plots(), choices, "page")
        )
        if stage.skipped:
            return stage
        potential = Potential.load(self.stages.folder / _POTENTIAL, baseline=self.config.training.baseline)
        reports, files, texts = self._evaluate(potential)
        metrics: dict[str, Any] = {name: report.to_dict() for name, report in reports.items()}
        if tested is not None and tested.left["metrics"] is not None:
            metrics["surrogate"] = tested.left["metrics"]
            remark = loss_remark(metrics["test"], tested.left["metrics"])
            if remark:
                _log.warning(remark.strip())
            texts.append(f"surrogate\n=========\n{remark}{tested.left['summary']}\n")
        if self.plan is not None:
            metrics["choices"] = self.plan.facts()
            texts.append(f"choices\n=======\n{self.plan.summary()}\n")
        summary = "\n".join(texts)
        plain = json.dumps(metrics, indent=2, ensure_ascii=False, allow_nan=False)
        contents = {"metrics.json": plain + "\n", "summary.txt": summary, "check.txt": self.data.check + "\n"}
        for name, text in contents.items():
            files.append(self.stages.folder / "report" / name)
            with atomic_write(files[-1]) as stream:
                stream.write(text)
        from gprann.pipeline.page import PAGE, write_run_page  # imports much that other stages do without

        page = self.stages.folder / "report" / PAGE
        files.append(write_run_page(page, self.config, self.data, potential, reports, more=metrics))
        stage.finish(files, {"summary": summary})
        return stage

    def _evaluate(self, potential: Potential) -> tuple[dict[str, Report], list[Path], list[str]]:
        """Return the reports on both sets, their files and their summaries."""
        folder = self.stages.folder / "report"
        plots = None if self.config.output.plots else False
        files: list[Path] = []
        reports, texts = {}, []
        for name, data in (("test", self.data.test), ("training", self.data.train)):
            shutil.rmtree(folder / name, ignore_errors=True)
            if data is None:
                continue
            report = Report.from_prediction(data, potential.predict(data))
            files += report.save(folder / name, plots=plots, history=history(potential))
            reports[name] = report
            origin = self.data.origin_of_test if name == "test" else ""
            origin = f"{origin}\n" if origin else ""
            texts.append(f"{name} set\n{'=' * (len(name) + 4)}\n{origin}{report.summary()}")
        return reports, files, texts


def train_potential(
    data: Dataset | Path,
    descriptor: DescriptorSection | Descriptor,
    training: TrainingSection,
    *,
    checkpoint: str | os.PathLike[str] | None = None,
    workers: Workers | None = None,
    provenance: Mapping[str, Any] | None = None,
) -> Potential:
    """Train a potential with the options of two sections of a configuration.

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
    potential = train(
        data,
        descriptor.compress(structures(data)) if isinstance(descriptor, DescriptorSection) else descriptor,
        start_from=training.start_from,
        checkpoint=folder,
        workers=workers,
        **training.options(),
    )
    potential.provenance = {**json.loads(json.dumps(provenance or {})), **potential.provenance}
    return potential
