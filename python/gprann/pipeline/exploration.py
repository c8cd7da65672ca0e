"""An exploration from its configuration: the models that it fits, and the folder that it works in."""

from __future__ import annotations

import importlib.util
import json
import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from gprann.config.exploration import ExploreConfig, load_exploration
from gprann.config.template import to_toml
from gprann.data.structure import Dataset
from gprann.errors import ConfigError, DataError, listing
from gprann.io import atomic_write, read
from gprann.labelling.calculators import CalculatorSpec
from gprann.models import Polynomial
from gprann.pipeline.checkpoints import Stages, claim_folder, data_digest
from gprann.pipeline.run import log_run
from gprann.potential import Potential
from gprann.sampling.loop import Plan, explore_plan
from gprann.sampling.results import Exploration
from gprann.surrogate import Surrogate
from gprann.training.train import fit_linear, train

_log = logging.getLogger(__name__)
# Calibrate the deviations of polynomials, of which the order alone matters here; five take three times as long.
_FOLDS = 2
_MAY_CHANGE = ("convergence", "output")
_MAY_CHANGE_IN_REFERENCE = ("workers", "retries", "timeout", "scratch")


def explore(
    config: ExploreConfig | Mapping[str, Any] | str | os.PathLike[str], *, source: Path | None = None
) -> Exploration:
    """Explore: fit a potential, simulate, label structures from before the failures, and fit again.

    Converged is a potential with which all replicas live to the end, and whose force error on structures held out
    is below a target. The same call after an interruption, even after `kill -9`, computes no label twice and ends with
    the same potential.

    Parameters
    ----------
    config : path, mapping or ExploreConfig
        A file as `gprann init --explore` writes it, or its content as plain data; paths in the latter start at the
        working directory.
    source : Path, optional
        The file that an `ExploreConfig` comes from: results of another file are not overwritten.

    Returns
    -------
    Exploration

    Raises
    ------
    ConfigError
        If the configuration is impossible, the calculator cannot be made or has no forces, or the output folder is
        in use or holds another exploration.
    DataError
        If the structures cannot be used.
    GprannError
        If the reference failed for all structures of a generation, or a fit failed; what was finished is kept.

    Examples
    --------
    >>> import ase, gprann, tempfile
    >>> cluster = ase.Atoms("Cu4", [[0, 0, 0], [2.3, 0, 0], [1.1, 2.0, 0], [1.1, 0.7, 1.9]])
    >>> with tempfile.TemporaryDirectory() as name:
    ...     gprann.write(f"{name}/start.extxyz", cluster)
    ...     result = gprann.explore(
    ...         {
    ...             "model": "network",
    ...             "training": {"hidden": [3], "members": 2, "iterations": 5, "starts": 1},
    ...             "start": {"structures": f"{name}/start.extxyz", "count": 6},
    ...             "reference": {"calculator": "emt"},
    ...             "dynamics": {"length": 0.01, "replicas": 1},
    ...             "convergence": {"force_error": 10.0, "check": 2, "generations": 2},
    ...             "output": {"folder": f"{name}/results", "plots": False},
    ...         }
    ...     )
    >>> result.converged, len(result.generations)
    (True, 1)
    """
    if isinstance(config, str | os.PathLike):
        source = Path(config)
        config = load_exploration(source)
    elif isinstance(config, Mapping):
        config = ExploreConfig.from_dict(config).resolve(Path())
    spec = CalculatorSpec(config.reference.calculator, config.reference.options or {})
    plan = _make_plan(config)
    folder = Path(config.output.folder)
    with claim_folder(folder, source) as stages, log_run(folder, source):
        _claim(stages, config, plan, spec)
        return explore_plan(plan, _Fit(config, plan), folder, plots=_draws_plots(config))


def _draws_plots(config: ExploreConfig) -> bool:
    if config.output.plots and importlib.util.find_spec("matplotlib") is None:
        _log.warning("no plots: matplotlib is missing, pip install 'gprann[plot]'")
        return False
    return config.output.plots


def _make_plan(config: ExploreConfig) -> Plan:
    """Read the structures."""
    start, test = config.start, config.convergence.test
    starts = read(list(start.structures), require=())
    labels = None if start.labels is None else read(list(start.labels), require=("energy", "forces"))
    held_out = None if test is None else read(list(test), require=("energy", "forces"))
    if labels is not None:
        _check_elements(starts, labels, "start.labels")
        _check_zeros(labels)
    if held_out is not None and labels is not None:
        _check_elements(held_out, labels, "start.labels")
    return Plan(
        Dataset(structure.without_labels() for structure in starts),
        labels,
        held_out,
        start,
        config.reference,
        config.dynamics,
        config.choice,
        config.convergence,
    )


def _check_elements(needed: Dataset, labels: Dataset, what: str) -> None:
    missing = sorted(set(needed.species) - set(labels.species))
    if missing:
        raise DataError(
            f"{what}: has no {listing(missing)}, which {needed[0].origin} has; add labelled structures with these "
            "elements, or leave the labels out"
        )


def _check_zeros(labels: Dataset) -> None:
    """Refuse labels of atoms that were fixed, and whose forces the program has left out."""
    for structure in labels:
        atoms = structure.to_ase()
        fixed = [index for one in atoms.constraints for index in getattr(one, "index", [])]
        if structure.forces is not None and fixed and not structure.forces[fixed].any():
            raise DataError(
                f"{structure.origin}: the forces on the atoms that are fixed ({listing(fixed)}) are exactly 0: the "
                "program has left them out, and a potential fitted to them would be wrong for all atoms like these; "
                "compute the labels without constraints"
            )


def _claim(stages: Stages, config: ExploreConfig, plan: Plan, spec: CalculatorSpec) -> None:
    """Note down what the exploration is, or refuse a folder that holds another one."""
    options = config.to_dict()
    for name in _MAY_CHANGE:
        options.pop(name)
    for name in _MAY_CHANGE_IN_REFERENCE:
        options["reference"].pop(name)
    for name in ("structures", "labels"):
        options["start"].pop(name)
    options["convergence"] = {"share": config.convergence.share}
    options["structures"] = data_digest(plan.starts)
    options["labels"] = None if plan.labels is None else data_digest(plan.labels)
    known = _read_record(stages.checkpoints / "exploration.json")
    if known is not None:
        for name, value in _flat(json.loads(json.dumps(options))).items():
            before = _flat(known).get(name)
            if before != value:
                raise ConfigError(
                    f"output.folder: {stages.folder} holds an exploration with another {name} ({before}, now {value}); "
                    "choose another folder, or remove this one"
                )
        return
    spec.build()  # better now than after the first fit
    with atomic_write(stages.checkpoints / "exploration.json") as stream:
        json.dump(options, stream, indent=1)
    stages.note_source()
    with atomic_write(stages.folder / "config.toml") as stream:
        stream.write(to_toml(config))


def _read_record(path: Path) -> dict[str, Any] | None:
    if not path.exists():
        return None
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


def _flat(options: Mapping[str, Any], start: str = "") -> dict[str, Any]:
    """Return the options of nested tables by dotted names."""
    found: dict[str, Any] = {}
    for name, value in options.items():
        inner = _flat(value, f"{start}{name}.") if isinstance(value, Mapping) and value else None
        found |= {f"{start}{name}": value} if inner is None else inner
    return found


class _Fit:
    """Fits the model of a configuration to all labels."""

    def __init__(self, config: ExploreConfig, plan: Plan) -> None:
        self._config = config
        known = [*plan.starts.species, *(plan.labels.species if plan.labels is not None else ())]
        self._species: Sequence[str] = sorted(set(known))

    def __call__(self, data: Dataset, folder: Path) -> Potential | Surrogate:
        """Return the model fitted from scratch; `folder` keeps the states of networks."""
        config = self._config
        if config.model == "surrogate":
            return config.surrogate.build(self._species, config.dynamics.seed).fit(data)
        descriptor, options = config.descriptor.compress(data), config.training.options()
        if config.model == "network":
            start = config.training.start_from
            return train(data, descriptor, start_from=start, checkpoint=folder, **options)
        model = options.pop("model", None)
        own = {"folds": _FOLDS, **(model.changes() if isinstance(model, Polynomial) else {})}
        return fit_linear(data, descriptor, quadratic=config.model == "quadratic", **options, **own)
