"""The report of a run as one HTML file: written at its end, and on request from its folder."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from gprann.config.sections import Config, load_config
from gprann.config.template import to_toml
from gprann.errors import ConfigError
from gprann.evaluation.page import EvaluatedSet, PageContent, write_page
from gprann.evaluation.page.verdict import Finding, Weight
from gprann.evaluation.report import Report, history
from gprann.io import DataWarning
from gprann.pipeline.checkpoints import data_digest
from gprann.pipeline.inputs import RunData, read_data, remember_baselines
from gprann.pipeline.subsets import loss_remark
from gprann.potential import Potential
from gprann.runtime.atomic_write import make_folder
from gprann.runtime.messages import warnings_to_log
from gprann.version import __version__

PAGE = "report.html"
_PACKAGES = ("numpy", "scipy", "ase", "vesin")
_LARGEST_METRICS = 100_000_000  # bytes


def report_run(run: str | os.PathLike[str], output: str | os.PathLike[str] | None = None) -> Path:
    """Evaluate the potential of a finished run again and write its report as one HTML file.

    Parameters
    ----------
    run : path
        Folder of the run. The data that its configuration names are read again.
    output : path, optional
        Default: report/report.html in the folder.

    Returns
    -------
    Path
        The file written.

    Raises
    ------
    ConfigError
        If the folder holds no finished run.
    DataError
        If the data cannot be read any more.

    Examples
    --------
    >>> import gprann, tempfile
    >>> from gprann.pipeline import report_run
    >>> with tempfile.TemporaryDirectory() as name:
    ...     folder = Path(name)
    ...     gprann.write(folder / "train.extxyz", gprann.examples.hydrogen(12))
    ...     _ = (folder / "config.toml").write_text(
    ...         'data.train = "train.extxyz"\\naugmentation.copies = 2\\noutput.plots = false\\n'
    ...         "training.hidden = [3]\\ntraining.iterations = 2\\ntraining.starts = 1"
    ...     )
    ...     _ = gprann.run(folder / "config.toml")
    ...     report_run(folder / "results", folder / "errors.html").name
    'errors.html'
    """
    folder = Path(run)
    potential_file = folder / "potential.gprann"
    if not (folder / "config.toml").is_file() or not potential_file.is_file():
        raise ConfigError(
            f"{folder}: holds no finished run (config.toml and potential.gprann); give the output.folder of gprann run"
        )
    target = folder / "report" / PAGE if output is None else Path(output)
    if output is None:
        make_folder(target.parent)
    config = load_config(folder / "config.toml")
    remember_baselines(config, folder / "checkpoints")
    with warnings_to_log(DataWarning):
        data = read_data(config)
    potential = Potential.load(potential_file, baseline=config.training.baseline)
    sets = {"test": data.test, "training": data.train}
    reports = {
        name: Report.from_prediction(part, potential.predict(part))
        for name, part in sets.items()
        if part is not None
    }
    return write_run_page(target, config, data, potential, reports, more=_read_metrics(folder))


def _read_metrics(folder: Path) -> dict[str, Any]:
    """Return what the run has noted about surrogates and choices; nothing if the file is missing or damaged."""
    path = folder / "report" / "metrics.json"
    try:
        if path.stat().st_size > _LARGEST_METRICS:
            return {}
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _surrogate(more: Mapping[str, Any]) -> dict[str, float] | None:
    """Return the metrics of the surrogates that are numbers; None if there are none."""
    given = more.get("surrogate")
    numbers = (
        {name: v for name, v in given.items() if isinstance(v, int | float)}
        if isinstance(given, dict)
        else {}
    )
    needed = {"n_structures", "energy_mae", "energy_per_atom_mae"}
    return numbers if needed <= numbers.keys() else None


def _choices(more: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Return names, values and reasons of what was chosen automatically."""
    given = more.get("choices")
    listed = given.get("choices") if isinstance(given, dict) else None
    entries = [item for item in listed if isinstance(item, dict)] if isinstance(listed, list) else []
    return [(str(item.get("what")), str(item.get("value")), str(item.get("reason"))) for item in entries]


def write_run_page(
    target: Path,
    config: Config,
    data: RunData,
    potential: Potential,
    reports: Mapping[str, Report],
    *,
    more: Mapping[str, Any],
) -> Path:
    """Write the page of a run.

    Parameters
    ----------
    target : Path
    config : Config
    data : RunData
    potential : Potential
    reports : mapping of str to Report
        Of the sets `training` and, if there is one, `test`.
    more : mapping
        Metrics of the surrogates under `surrogate`, facts about choices under `choices`, where there are some.

    Returns
    -------
    Path
        The file written.
    """
    from gprann.describe import list_facts  # here, as it imports much

    test = None
    if data.test is not None:
        test = EvaluatedSet(data.test, reports["test"], data.origin_of_test)
    surrogate = _surrogate(more)
    content = PageContent(
        title=f"Potential for {', '.join(potential.species)}: report",
        test=test,
        training=EvaluatedSet(data.train, reports["training"]),
        plots=config.output.plots,
        history=history(potential),
        findings=_findings(data, potential, reports, surrogate),
        facts=list_facts(potential),
        check=data.check,
        surrogate=surrogate,
        choices=_choices(more),
        settings=to_toml(config, comments=False),
        versions=_versions(potential),
        reproduce=_commands(),
    )
    return write_page(content, target)


def _findings(
    data: RunData, potential: Potential, reports: Mapping[str, Report], surrogate: Mapping[str, Any] | None
) -> list[Finding]:
    """Return what is to be said beyond what the errors say."""
    found = []
    expected = potential.provenance.get("training_data", {}).get("digest")
    if expected not in (None, data_digest(data.train)):
        text = (
            "The training structures are not those that the potential was trained on: the files have changed."
        )
        found.append(Finding(Weight.PROBLEM, text))
    if data.problems:
        count = (
            "One thing about the data is"
            if len(data.problems) == 1
            else f"{len(data.problems)} things about the data are"
        )
        found.append(Finding(Weight.CAUTION, f"{count} suspicious: {data.problems[0]}."))
    if surrogate is not None and "test" in reports:
        remark = loss_remark(reports["test"].to_dict(), surrogate).strip()
        if remark:
            found.append(Finding(Weight.CAUTION, f"{remark[0].upper()}{remark[1:]}."))
    return found


def _versions(potential: Potential) -> dict[str, str]:
    """Return what the potential and this page were made with."""
    known = potential.provenance
    training, labels = known.get("training", {}), known.get("label_seconds")
    entries = {
        "potential trained by": str(training.get("program", "")),
        "page written by": f"gprann {__version__}",
        "Python": platform.python_version(),
        **{name: _version(name) for name in _PACKAGES},
        "system": f"{platform.system()} {platform.machine()}",
        "digest of the training structures": str(known.get("training_data", {}).get("digest", "")),
        "time of the copies": f"{labels:g} s" if labels else "",
        "time of the training": "" if "seconds" not in training else f"{training['seconds']:g} s",
    }
    return {name: text for name, text in entries.items() if text}


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def _commands() -> list[str]:
    """Return the commands that make the potential again."""
    released = "+" not in __version__
    return [
        *([f"pip install gprann=={__version__}"] if released else []),
        "gprann run config.toml      # the configuration above; it stands in the folder of the run too",
        "gprann report results       # this page",
    ]
