"""Comparison of methods of training on the same data: a run of each, and a table and figures of their errors."""

from __future__ import annotations

import importlib.util
import json
import logging
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

from gprann.config.sections import Config, SurrogateSection, TrainingSection, load_config
from gprann.data.structure import Dataset
from gprann.errors import ConfigError, nearest_name
from gprann.evaluation.methods import METHODS, Column, cells, headings, markdown
from gprann.evaluation.metrics import table, units
from gprann.evaluation.residuals import compare as residuals_of
from gprann.io import atomic_write
from gprann.pipeline.checkpoints import Stages, claim_folder, data_digest, digest, file_digest
from gprann.pipeline.inputs import check_run, read_data, remember_baselines
from gprann.pipeline.run import RunResult, finish, log_run
from gprann.potential import Potential
from gprann.units import MEV

_log = logging.getLogger(__name__)
_FOLDER = "compare"
_AUGMENTATION = {"energies": "none", "taylor": "taylor", "gpr": "gpr", "direct": "none"}
_OF_FORCES = ("forces", "force_fraction", "stress", "species_weights", "huber_force")
"""Options of training that count for forces only, and are refused without them."""
_COLUMNS = (
    Column(("", "", "structures", ""), "structures"),
    Column(("", "energy", "MAE", "meV"), "energy_mae", 1 / MEV),
    Column(("", "energy", "MSD", "meV"), "energy_msd", 1 / MEV),
    Column(("force", "magnitude", "MAE", "eV/Å"), "force_norm_mae"),
    Column(("force", "magnitude", "MSD", "eV/Å"), "force_norm_msd"),
    Column(("force", "direction", "MAE", "degrees"), "force_angle_mae"),
    Column(("force", "direction", "MSD", "degrees"), "force_angle_msd"),
    Column(("force", "component", "MAE", "eV/Å"), "force_mae"),
    Column(("force", "component", "MSD", "eV/Å"), "force_msd"),
    Column(("time", "", "labels", "s"), "label_seconds"),
    Column(("time", "", "training", "s"), "training_seconds"),
)
_HEADERS = 4


@dataclass(frozen=True, slots=True)
class Comparison:
    """The errors of several methods, trained on the same structures.

    Attributes
    ----------
    folder : Path
        With the table, the figures, and a folder for each method, as `gprann run` leaves it.
    metrics : dict of str to dict
        By method: the metrics of the test set (eV, eV/Å and degrees, see `gprann.evaluation.Metrics`);
        `structures` trained on, copies included; `label_seconds` to fit the surrogate and to label the copies, and
        `training_seconds` of all members one after the other.
    runs : dict of str to RunResult
        By method; their `skipped` names the stages that an earlier call had finished.
    files : tuple of Path
        Table and figures.
    """

    folder: Path
    metrics: dict[str, dict[str, Any]]
    runs: dict[str, RunResult]
    files: tuple[Path, ...]

    def table(self) -> str:
        """Return the errors on the test set as text, one line for each method."""
        rows = self._rows()
        for row in rows[:2]:  # a heading stands above the first of its columns
            row[1:] = [row[1], *(here if here != left else "" for left, here in pairwise(row[1:]))]
        return table(rows, headers=_HEADERS)

    def markdown(self) -> str:
        """Return the same table in Markdown."""
        return markdown(self._rows(), headers=_HEADERS)

    def _rows(self) -> list[list[str]]:
        lines = [[METHODS[name].title, *cells(values, _COLUMNS)] for name, values in self.metrics.items()]
        return [*headings(_COLUMNS), *lines]


def compare_file(path: str | os.PathLike[str], *, methods: Iterable[str] | None = None) -> Comparison:
    """Compare the methods on the data and with the options of a configuration file; see `compare`."""
    return compare(load_config(path), methods=methods, source=Path(path))


def compare(
    config: Config, *, methods: Iterable[str] | None = None, source: Path | None = None
) -> Comparison:
    """Train on energies alone, with Taylor copies, with GPR copies, and on forces directly, and compare.

    Descriptor, networks, members and seed are those of the configuration for all of them; Taylor and GPR copies are
    made with those options of its section `augmentation` that the method has, direct training takes its `alpha`,
    `force_fraction` and the like. The configuration's own `method` and `forces` do not count. A second call goes on
    where the first was interrupted, and ends with the same bits.

    Parameters
    ----------
    config : Config
        With absolute paths, as `load_config` gives it, and with a test set.
    methods : iterable of {'energies', 'taylor', 'gpr', 'direct'}, optional
        Default: all four.
    source : Path, optional
        The file it comes from: results of another file are not overwritten.

    Returns
    -------
    Comparison

    Raises
    ------
    ConfigError
        If a method is unknown, there is no test set, the memory does not suffice, or the output folder is in use.
    DataError
        If the data cannot be used by one of the methods.
    TrainingError, FactorisationError
        If a fit failed; what was finished is kept.

    Examples
    --------
    >>> import tempfile, gprann
    >>> with tempfile.TemporaryDirectory() as name:
    ...     folder = Path(name)
    ...     gprann.write(folder / "train.extxyz", gprann.examples.hydrogen(7))
    ...     gprann.write(folder / "test.extxyz", gprann.examples.hydrogen(9))
    ...     data = {"train": str(folder / "train.extxyz"), "test": str(folder / "test.extxyz")}
    ...     options = {"hidden": (3,), "iterations": 2, "starts": 1}
    ...     output = {"folder": str(folder / "results"), "plots": False}
    ...     config = Config.model_validate({"data": data, "training": options, "output": output})
    ...     list(compare(config, methods=["energies", "direct"]).metrics)
    ['energies', 'direct']
    """
    names = _choose_methods(methods)
    if not config.resources.mpi:
        return _compare(config, names, source)
    from gprann.training.ranks import lead

    return lead(partial(_compare, config, names, source))


def _compare(config: Config, names: list[str], source: Path | None) -> Comparison:
    folder = Path(config.output.folder)
    variants = {name: _variant(config, name) for name in names}
    with (
        claim_folder(folder, source) as around,
        claim_folder(folder / _FOLDER, around=around) as stages,
        log_run(stages.folder, source),
    ):
        data = read_data(config)
        if data.test is None:
            begin = "" if source is None else f"{source}: "
            raise ConfigError(
                f"{begin}data.test: is missing; the methods are compared on structures they were not trained on, "
                'for example test = "test.extxyz"'
            )
        for variant in variants.values():
            check_run(variant, data)
            remember_baselines(variant, stages.checkpoints)
        runs = {}
        for name, variant in variants.items():
            _log.info("method: %s", METHODS[name].title)
            with claim_folder(Path(variant.output.folder), around=stages) as own:
                runs[name] = finish(variant, own, data)
        potentials = {
            name: Potential.load(run.potential, baseline=variants[name].training.baseline)
            for name, run in runs.items()
        }
        return _write_comparison(stages, runs, potentials, data.test, plots=config.output.plots)


def _choose_methods(methods: Iterable[str] | None) -> list[str]:
    """Return the chosen methods in their usual order."""
    given = list(METHODS) if methods is None else [methods] if isinstance(methods, str) else list(methods)
    for name in given:
        if name not in METHODS:
            raise ConfigError(f"methods: '{name}' is unknown; {nearest_name(str(name), METHODS)}")
    if not given:
        raise ConfigError(f"methods: expected at least one of {', '.join(METHODS)}")
    return [name for name in METHODS if name in given]


def _variant(config: Config, name: str) -> Config:
    """Return the configuration of one method."""
    if name == "direct":
        options: dict[str, Any] = {"forces": True}
    else:
        options = {key: TrainingSection.model_fields[key].get_default() for key in _OF_FORCES}
    changes = {
        "training": options,
        "output": {"folder": str(Path(config.output.folder) / _FOLDER / name)},
    }
    sections = {key: getattr(config, key).model_copy(update=change) for key, change in changes.items()}
    augmentation = config.augmentation.of_method(_AUGMENTATION[name])
    surrogate = config.surrogate if augmentation.uses_surrogate else SurrogateSection()
    chosen = {"method": "manual", "augmentation": augmentation, "surrogate": surrogate}
    return config.model_copy(update={**sections, **chosen})


def _write_comparison(
    stages: Stages,
    runs: Mapping[str, RunResult],
    potentials: Mapping[str, Potential],
    test: Dataset,
    *,
    plots: bool,
) -> Comparison:
    """Write the table as text, Markdown and JSON, and the figures."""
    metrics = {name: _metrics(run, potentials[name]) for name, run in runs.items()}
    texts = [stages.folder / f"comparison.{suffix}" for suffix in ("txt", "md", "json")]
    figures = _figures(stages, runs, potentials, test) if plots else []
    result = Comparison(stages.folder, metrics, dict(runs), (*texts, *figures))
    content = {
        "methods": {name: {"title": METHODS[name].title, **values} for name, values in metrics.items()},
        "units": units() | {"label_seconds": "s", "training_seconds": "s"},
    }
    plain = json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False)
    for path, text in zip(texts, (result.table(), result.markdown(), plain), strict=True):
        with atomic_write(path) as stream:
            stream.write(text + "\n")
    return result


def _metrics(run: RunResult, potential: Potential) -> dict[str, Any]:
    """Return the metrics of the test set without its tables, the size of the training set, and the times."""
    provenance = potential.provenance
    return {
        "structures": provenance["training"]["n_structures"],
        "label_seconds": provenance["label_seconds"],
        "training_seconds": round(sum(provenance["training"]["member_seconds"]), 2),
        **{key: value for key, value in run.metrics["test"].items() if not isinstance(value, dict | list)},
    }


def _figures(
    stages: Stages, runs: Mapping[str, RunResult], potentials: Mapping[str, Potential], test: Dataset
) -> list[Path]:
    """Draw the figures, unless an earlier call has drawn them of the same potentials and structures."""
    if importlib.util.find_spec("matplotlib") is None:
        _log.warning("no figures in %s: matplotlib is missing, pip install 'gprann[plot]'", stages.folder)
        return []
    from gprann.evaluation.method_plots import save_methods

    inputs = digest({name: file_digest(run.potential) for name, run in runs.items()}, data_digest(test))
    left = stages.find("figures", inputs)
    if left is None:
        residuals = {n: residuals_of(test, model.predict(test)) for n, model in potentials.items()}
        files = save_methods(residuals, stages.folder)
        left = {"names": [path.name for path in files]}
        stages.keep("figures", inputs, files, left)
    return [stages.folder / name for name in left["names"]]
