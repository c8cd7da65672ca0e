"""The commands that tell errors: `evaluate` and `compare`."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from gprann.cli.answer import Answer
from gprann.cli.inputs import config_file, load_model, read_baseline, read_data
from gprann.errors import ConfigError

if TYPE_CHECKING:
    from gprann.data.structure import Dataset
    from gprann.potential import Potential
    from gprann.surrogate import Surrogate, SurrogateSet


def evaluate(arguments: argparse.Namespace) -> Answer:
    """Show the errors of a potential."""
    from gprann.evaluation import evaluate as evaluate_potential
    from gprann.evaluation.report import history
    from gprann.potential import Potential

    potential = load_model(arguments)
    if arguments.each:
        return _table_of(arguments, {arguments.potential: potential}, arguments.data)
    report = evaluate_potential(potential, read_data(arguments, arguments.data))
    text = report.summary().rstrip()
    if arguments.output is not None:
        report.save(
            arguments.output, history=history(potential) if isinstance(potential, Potential) else None
        )
        text += f"\nwritten: {arguments.output}"
    return Answer(text, report.to_dict())


def compare(arguments: argparse.Namespace) -> Answer:
    """Compare potentials, or train with several methods and compare these."""
    if arguments.data:
        return _compare_potentials(arguments)
    given = [name for name in arguments.config if not name.endswith(".gprann")]
    if len(arguments.config) > 1 or len(given) < len(arguments.config):
        raise ConfigError(
            "compare: the structures on which potentials are compared are missing; give --data FILE, or one "
            "configuration to compare methods of training"
        )
    _refuse(arguments, ("each", "output", "calculator"), "needs --data, with potentials to compare")
    from gprann.pipeline.comparison import compare_file

    arguments.config = arguments.config[0] if arguments.config else None
    result = compare_file(config_file(arguments), methods=arguments.methods)
    written = "written: " + ", ".join(str(file) for file in result.files)
    return Answer(
        f"errors on the test structures\n\n{result.table()}\n\n{written}",
        {"folder": result.folder, "methods": result.metrics, "files": result.files},
    )


def _compare_potentials(arguments: argparse.Namespace) -> Answer:
    _refuse(arguments, ("methods",), "belongs to a configuration, without --data")
    if len(set(arguments.config)) < 2:
        raise ConfigError("compare: --data compares potentials; give two or more different model files")
    baseline = read_baseline(arguments)
    models = {}
    for path in arguments.config:
        one = argparse.Namespace(**{**vars(arguments), "potential": path})
        models[path] = load_model(one, baseline)
    return _table_of(arguments, models, arguments.data)


def _refuse(arguments: argparse.Namespace, names: Sequence[str], reason: str) -> None:
    for name in names:
        if getattr(arguments, name):
            raise ConfigError(f"compare: --{name} has no effect here, it {reason}; leave it out")


def _table_of(
    arguments: argparse.Namespace,
    models: Mapping[str, Potential | Surrogate | SurrogateSet],
    sources: Sequence[str],
) -> Answer:
    """Return the errors of models, on each source or on all together."""
    from gprann.evaluation.several import evaluate_several, short_names

    parts = dict(zip(short_names(sources), sources, strict=True)) if arguments.each else {}
    sets: dict[str, Dataset] = {name: read_data(arguments, [source]) for name, source in parts.items()}
    sets = sets or {"data": read_data(arguments, sources)}
    found = evaluate_several(dict(zip(short_names(models), models.values(), strict=True)), sets)
    files = [] if arguments.output is None else found.save(arguments.output)
    written = f"\nwritten: {arguments.output}" if files else ""
    return Answer(f"{found}{written}", found.to_dict() | {"files": files})
