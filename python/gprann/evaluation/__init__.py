"""How good a potential is: metrics, tables and plots against reference data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np

from gprann.data.prediction import Prediction
from gprann.data.structure import Dataset, evenly_spread
from gprann.evaluation.metrics import ForceMetrics, Metrics, compute_metrics
from gprann.evaluation.report import History, Report
from gprann.evaluation.residuals import checked_energies
from gprann.surrogate import Surrogate, SurrogateSet

if TYPE_CHECKING:
    import ase

__all__ = [
    "ForceMetrics",
    "History",
    "Metrics",
    "Predictor",
    "Report",
    "compute_metrics",
    "evaluate",
    "with_forces_std",
]


@runtime_checkable
class Predictor(Protocol):
    """Anything that predicts the energies and forces of a data set: a potential, a committee, a surrogate."""

    def predict(self, data: Dataset, /) -> Prediction:
        """Predict every structure, in the order of the data set."""
        ...


def evaluate(
    potential: Predictor | str | Path,
    data: Dataset | str | Path | ase.Atoms | Sequence[str | Path] | Sequence[ase.Atoms],
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
    >>> import numpy as np
    >>> from gprann.data.structure import Structure
    >>> class Zero:
    ...     def predict(self, data):
    ...         return Prediction(np.zeros(len(data)), [np.zeros((len(s), 3)) for s in data])
    >>> h2 = Structure(("H", "H"), np.array([[0.0, 0, 0], [0, 0, 0.74]]), energy=-31.7)
    >>> evaluate(Zero(), Dataset([h2])).energy_mae
    31.7
    """
    predictor = _predictor(potential)
    reference = _dataset(data)
    checked_energies(reference)  # before the time is spent on predicting
    prediction = predictor.predict(reference)
    if isinstance(predictor, Surrogate | SurrogateSet) and forces_std > 0:
        prediction = with_forces_std(predictor, reference, prediction, forces_std)
    report = Report.from_prediction(reference, prediction)
    if plots is not None:
        report.save_plots(plots)
    return report


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
    if isinstance(potential, (str, Path)):
        from gprann.potential import load

        return load(potential)
    if not isinstance(potential, Predictor):
        raise TypeError(
            f"potential is a {type(potential).__name__}; expected the path of a saved potential or an "
            "object with a method predict(data)"
        )
    return potential


def _dataset(data: Dataset | str | Path | ase.Atoms | Sequence[str | Path] | Sequence[ase.Atoms]) -> Dataset:
    if isinstance(data, Dataset):
        return data
    from gprann.io import read

    return read(data)
