"""Evaluation of a potential against reference data: prediction, metrics, tables, and the files of a report."""

from __future__ import annotations

import csv
import importlib.util
import json
import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np

from gprann.data.prediction import Prediction
from gprann.data.structure import Dataset, evenly_spread
from gprann.errors import nearest_name
from gprann.evaluation.data_check import shared_structures
from gprann.evaluation.grades import GuardMetrics, guard_metrics
from gprann.evaluation.metrics import (
    ForceMetrics,
    Metrics,
    energy_std,
    group_metrics,
    median_metrics,
    member_metrics,
    metrics_of,
    number,
    species_metrics,
    summarise,
    units,
)
from gprann.evaluation.residuals import ForceResiduals, Residuals, compare, require_energies
from gprann.io.checks import geometry_digest
from gprann.io.reading import Source, read
from gprann.potential import Potential, load
from gprann.runtime.atomic_write import WriteError, atomic_write, make_folder
from gprann.surrogate.sets.surrogate_set import SurrogateSet
from gprann.surrogate.surrogate import Surrogate
from gprann.units import MEV

logger = logging.getLogger(__name__)

History = Mapping[str, Sequence[tuple[float, float, float | None]]]
"""Name of a potential -> (iteration, training error, validation error or None) of every iteration."""

_METRICS = tuple(item.name for item in fields(Metrics))


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Report:
    """Metrics and tables of an evaluation. Every attribute of `metrics` is also one of the report.

    Attributes
    ----------
    metrics : Metrics
    by_species : dict of str to ForceMetrics
        Force metrics by chemical symbol, empty without reference forces.
    by_group : dict of str to Metrics
        By `Structure.group`, or by chemical formula where a structure has no group.
    by_member : list of Metrics
        Of every committee member alone, empty for a model that is no committee.
    median_member : Metrics or None
        Median over the members, metric by metric.
    residuals : Residuals
        Labels and predictions themselves; the plots are made from them.
    guard : GuardMetrics or None
        Force errors by extrapolation grade, where the model gives grades and there are reference forces.

    Examples
    --------
    >>> from gprann.data.structure import Structure
    >>> h2 = Structure(("H", "H"), np.array([[0.0, 0, 0], [0, 0, 0.74]]), energy=-31.7)
    >>> report = Report.from_prediction(Dataset([h2]), Prediction(np.array([-31.5]), [np.zeros((2, 3))]))
    >>> round(report.energy_mae, 6), report.force_mae
    (0.2, None)
    """

    metrics: Metrics
    by_species: dict[str, ForceMetrics]
    by_group: dict[str, Metrics]
    by_member: list[Metrics]
    median_member: Metrics | None
    residuals: Residuals
    guard: GuardMetrics | None = None

    @classmethod
    def from_prediction(cls, reference: Dataset, prediction: Prediction) -> Report:
        """Compare a prediction with the labels of a data set.

        Raises
        ------
        DataError
            If the data set is empty, a structure has no energy, or the prediction is of other structures.
        """
        residuals = compare(reference, prediction)
        members = member_metrics(residuals)
        return cls(
            metrics_of(residuals),
            species_metrics(residuals),
            group_metrics(residuals),
            members,
            median_metrics(members),
            residuals,
            guard_metrics(residuals.forces),
        )

    def __getattr__(self, name: str) -> Any:
        """Return the metric of this name. Python calls it for names that are no attributes."""
        if name in _METRICS:
            return getattr(self.metrics, name)
        hint = "" if name.startswith("_") else "; " + nearest_name(name, _METRICS)
        raise AttributeError(f"a report has no attribute '{name}'{hint}", name=name, obj=self)

    def __dir__(self) -> list[str]:
        """List attributes and metrics."""
        return sorted({*object.__dir__(self), *_METRICS})

    def __repr__(self) -> str:
        """Return one line with the main errors."""
        metrics = self.metrics
        errors = f"energy MAE {number(metrics.energy_mae, 1 / MEV)} meV"
        if metrics.n_force_atoms:
            errors += f", force MAE {number(metrics.force_mae)} eV/Å"
        return f"Report({metrics.n_structures} structures, {errors})"

    def __str__(self) -> str:
        """Return the summary."""
        return self.summary()

    def summary(self) -> str:
        """Return all tables as text with units."""
        return summarise(self)

    def to_dict(self) -> dict[str, Any]:
        """Return metrics, units and tables as plain numbers, strings, lists and dictionaries.

        Metrics stand at the top level under their attribute names, in the units of `units`. Values that are
        not finite become None, because JSON has no NaN.
        """
        content = asdict(self.metrics) | {
            "by_species": {name: asdict(row) for name, row in self.by_species.items()},
            "by_group": {name: asdict(row) for name, row in self.by_group.items()},
            "by_member": [asdict(row) for row in self.by_member],
            "median_member": None if self.median_member is None else asdict(self.median_member),
            "guard": None if self.guard is None else asdict(self.guard),
            "units": units(),
        }
        plain: dict[str, Any] = _plain(content)
        return plain

    def to_json(self, path: str | Path) -> None:
        """Write `to_dict` to a JSON file."""
        text = json.dumps(self.to_dict(), indent=2, ensure_ascii=False, allow_nan=False)
        with atomic_write(path) as stream:
            stream.write(text + "\n")

    def to_csv(self, path: str | Path) -> None:
        """Write one line per structure: origin, energies in eV, force errors in eV/Å and degrees."""
        with atomic_write(path) as stream:
            writer = csv.writer(stream)
            writer.writerow(_CSV_HEADER)
            writer.writerows(_csv_rows(self.residuals))

    def save(
        self, folder: str | Path, *, plots: bool | None = None, history: History | None = None
    ) -> list[Path]:
        """Write metrics.json, summary.txt, structures.csv and the plots.

        Parameters
        ----------
        folder : path
            Made if it does not exist; files in it with the same names are replaced.
        plots : bool, optional
            Whether to write the plots. Default: if matplotlib is installed; a failure to draw is then a warning.
        history : mapping of str to sequence of (iteration, training error, validation error), optional
            For the learning curve: one entry per potential.

        Returns
        -------
        list of Path
            The files written.

        Raises
        ------
        ImportError
            If `plots` is true and matplotlib is not installed.
        """
        target = make_folder(folder)
        written = [target / "metrics.json", target / "summary.txt", target / "structures.csv"]
        self.to_json(written[0])
        with atomic_write(written[1]) as stream:
            stream.write(self.summary())
        self.to_csv(written[2])
        if plots or (plots is None and self._can_plot(target)):
            try:
                written += self.save_plots(target, history=history)
            except WriteError:
                raise
            except Exception as error:
                if plots:
                    raise
                logger.warning("no plots in %s: %s: %s", target, type(error).__name__, error)
        return written

    @staticmethod
    def _can_plot(folder: Path) -> bool:
        found = importlib.util.find_spec("matplotlib") is not None
        if not found:
            logger.warning("no plots in %s: matplotlib is missing, pip install 'gprann[plot]'", folder)
        return found

    def save_plots(self, folder: str | Path, *, history: History | None = None) -> list[Path]:
        """Write every plot for which there are data as a PNG file (see `save`)."""
        from gprann.evaluation.plots import save_all

        return save_all(self.residuals, folder, history=history)


@runtime_checkable
class Predictor(Protocol):
    """Anything that predicts the energies and forces of a data set: a potential, a committee, a surrogate."""

    def predict(self, data: Dataset, /) -> Prediction:
        """Predict every structure, in the order of the data set."""
        ...


def evaluate(
    potential: Predictor | str | Path,
    data: Source,
    *,
    plots: str | Path | None = None,
    forces_std: int = 50,
) -> Report:
    """Predict a data set and compare with its labels.

    Parameters
    ----------
    potential : Predictor or path
        Anything with `predict`, or the file of a saved potential.
    data : Dataset, or anything that `gprann.read` takes
        Every structure with an energy. Structures without forces count for the energy only.
    plots : path, optional
        Folder for the plots; needs matplotlib. `Report.save` writes plots, metrics and tables together.
    forces_std : int
        Of surrogates: of how many structures, spread evenly over the set, the standard deviations of the
        forces are predicted too. They cost 3N times as much as that of the energy.

    Returns
    -------
    Report

    Raises
    ------
    DataError
        If there are no structures, or a structure has no energy.
    TypeError
        If `potential` cannot predict.
    ImportError
        If `plots` is given and matplotlib is not installed.

    Examples
    --------
    >>> import gprann
    >>> data = gprann.examples.hydrogen(12)
    >>> surrogate = gprann.Surrogate(kernel="pairs").fit(data[::2])
    >>> gprann.evaluate(surrogate, data[1::2]).energy_mae < 0.1
    True
    """
    predictor = _predictor(potential)
    reference = data if isinstance(data, Dataset) else read(data)
    require_energies(reference)  # before the time is spent on predicting
    _warn_of_known(predictor, reference)
    prediction = predictor.predict(reference)
    if isinstance(predictor, Surrogate | SurrogateSet) and forces_std > 0:
        prediction = with_forces_std(predictor, reference, prediction, forces_std)
    report = Report.from_prediction(reference, prediction)
    if plots is not None:
        report.save_plots(plots)
    return report


def history(potential: Potential) -> History:
    """Return the learning curves of the members, eV."""
    curves = potential.provenance.get("training", {}).get("history", [])
    return {f"member {k}": [tuple(step) for step in curve] for k, curve in enumerate(curves)}


def _warn_of_known(predictor: Predictor, reference: Dataset) -> None:
    """Warn of structures that the model has been trained on."""
    known: list[int] = []
    if isinstance(predictor, Potential):
        training = set(predictor.provenance.get("training", {}).get("structures", []))
        known = [k for k, item in enumerate(reference) if training and geometry_digest(item) in training]
    elif isinstance(predictor, Surrogate | SurrogateSet):
        members = [predictor] if isinstance(predictor, Surrogate) else [member for member, _ in predictor]
        fitted = Dataset(structure for member in members for structure in member.training_set)
        known = [k for k, _ in shared_structures(fitted, reference)]
    if known:
        logger.warning(
            "%d of %d structures have been trained on, their errors are no test errors: structures %s%s",
            len(known),
            len(reference),
            ", ".join(map(str, known[:20])),
            ", ..." if len(known) > 20 else "",
        )


def with_forces_std(
    surrogate: Surrogate | SurrogateSet, data: Dataset, prediction: Prediction, n: int
) -> Prediction:
    """Add the standard deviations of the forces of n structures, spread evenly; the others have NaN."""
    if len(data) == 0:
        return prediction
    chosen = evenly_spread(len(data), n)
    found = surrogate.predict(data.select(chosen), std=False, forces=False, forces_std=True).forces_std
    deviations = [np.full((len(structure), 3), np.nan) for structure in data]
    for index, std in zip(chosen, found or [], strict=True):
        deviations[index] = std
    return replace(prediction, forces_std=deviations)


def _predictor(potential: Predictor | str | Path) -> Predictor:
    """Return the potential of a file, or the object itself if it can predict."""
    if isinstance(potential, (str, Path)):
        return load(potential)
    if not isinstance(potential, Predictor):
        raise TypeError(
            f"potential is a {type(potential).__name__}; expected the path of a saved potential or an "
            "object with a method predict(data)"
        )
    return potential


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value


_CSV_HEADER = (
    "index",
    "file",
    "file_index",
    "method",
    "group",
    "formula",
    "n_atoms",
    "energy_reference_eV",
    "energy_predicted_eV",
    "energy_error_eV",
    "energy_std_eV",
    "force_mae_eV_per_A",
    "force_max_eV_per_A",
    "force_norm_mae_eV_per_A",
    "force_angle_mae_degrees",
)


def _csv_rows(residuals: Residuals) -> list[list[object]]:
    std = energy_std(residuals)
    forces = _force_columns(residuals.forces, len(residuals))
    rows: list[list[object]] = []
    for i, origin in enumerate(residuals.origins):
        energies = [residuals.energy_reference[i], residuals.energy_predicted[i], residuals.energy_error[i]]
        energies.append(np.nan if std is None else std[i])
        what = [i, origin.file, origin.index, origin.method, residuals.groups[i], residuals.formulas[i]]
        rows.append([*what, residuals.n_atoms[i], *map(_csv_number, (*energies, *forces[i]))])
    return rows


def _csv_number(value: float) -> str:
    return f"{value:.12g}" if math.isfinite(value) else ""


def _force_columns(
    forces: ForceResiduals | None, n: int
) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    """Return mean and largest component error, magnitude error and angle of every structure; NaN without forces."""
    columns = np.full((n, 4), np.nan)
    if forces is None:
        return columns
    error = np.abs(forces.error)
    starts = np.flatnonzero(np.diff(forces.structure, prepend=-1))
    rows = forces.structure[starts]
    count = np.diff([*starts, len(forces)])
    columns[rows, 0] = np.add.reduceat(error.mean(axis=1), starts) / count
    columns[rows, 1] = np.maximum.reduceat(error.max(axis=1), starts)
    columns[rows, 2] = np.add.reduceat(np.abs(forces.norm_error), starts) / count
    directed = np.add.reduceat(forces.has_direction.astype(np.float64), starts)
    angle = np.add.reduceat(np.where(forces.has_direction, forces.angle, 0.0), starts)
    columns[rows, 3] = np.divide(angle, directed, out=np.full(len(rows), np.nan), where=directed > 0)
    return columns
