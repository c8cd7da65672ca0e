"""Errors of several models on several data sets side by side."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gprann.arrays import Array
from gprann.data.structure import Dataset
from gprann.errors import ConfigError
from gprann.evaluation.methods import Column, cells, headings, markdown
from gprann.evaluation.metrics import number, table, units
from gprann.evaluation.report import Predictor, Report, evaluate
from gprann.evaluation.residuals import Residuals
from gprann.runtime.atomic_write import atomic_write, make_folder
from gprann.units import EV_PER_ANGSTROM3_TO_GPA, MEV

_COLUMNS = (
    Column(("", "structures", ""), "n_structures"),
    Column(("energy", "MAE", "meV/atom"), "energy_per_atom_mae", 1 / MEV),
    Column(("", "RMSE", "meV/atom"), "energy_per_atom_rmse", 1 / MEV),
    Column(("force", "MAE", "eV/Å"), "force_mae"),
    Column(("", "RMSE", "eV/Å"), "force_rmse"),
    Column(("", "largest", "eV/Å"), "force_max"),
    Column(("stress", "MAE", "GPa"), "stress_mae", EV_PER_ANGSTROM3_TO_GPA),
)
_HEADERS = 3


@dataclass(frozen=True, slots=True)
class Difference:
    """By how much one model's mean absolute error is larger than that of the first, on the same structures.

    Attributes
    ----------
    mean : float
        Mean over the structures of the difference of their errors.
    error : float
        Standard error of it, from the scatter over the structures, which are taken as independent: steps of one
        trajectory are not, and their standard error is larger. NaN of a single structure.
    """

    mean: float
    error: float

    def to_dict(self) -> dict[str, float | None]:
        """Return it as plain data, None for what is not known."""
        return {"mean": self.mean, "error": self.error if np.isfinite(self.error) else None}

    @property
    def is_clear(self) -> bool:
        """Whether it is larger than twice its standard error."""
        return bool(abs(self.mean) > 2 * self.error)


@dataclass(frozen=True, slots=True)
class Evaluations:
    """Errors of models on data sets. Printed, it is a table.

    Attributes
    ----------
    reports : dict of (str, str) to Report
        By the names of the model and the set.
    """

    reports: dict[tuple[str, str], Report]

    @property
    def models(self) -> list[str]:
        """Names of the models."""
        return list(dict.fromkeys(model for model, _ in self.reports))

    @property
    def sets(self) -> list[str]:
        """Names of the data sets."""
        return list(dict.fromkeys(name for _, name in self.reports))

    def __str__(self) -> str:
        parts = [self.table()]
        if len(self.models) > 1:
            parts.append(self._differences_table())
        return "\n\n".join(parts)

    def table(self) -> str:
        """Return the errors as text, a line for each set and model."""
        return table(self._rows(), headers=_HEADERS)

    def markdown(self) -> str:
        """Return the same in Markdown."""
        return markdown(self._rows(), headers=_HEADERS)

    def differences(self) -> dict[tuple[str, str], dict[str, Difference]]:
        """Return, by model and set, what the first model does better: `energy` (eV/atom) and `force` (eV/Å)."""
        first = self.models[0]
        found = {}
        for (model, name), report in self.reports.items():
            if model != first:
                base = _errors(self.reports[first, name].residuals)
                found[model, name] = {
                    key: _difference(values - base[key]) for key, values in _errors(report.residuals).items()
                }
        return found

    def to_dict(self) -> dict[str, Any]:
        """Return all metrics, and the differences from the first model, as plain data."""
        rows: list[dict[str, Any]] = [
            {"model": model, "set": name, **report.to_dict()}
            for (model, name), report in self.reports.items()
        ]
        differences = [
            {
                "model": model,
                "set": name,
                "to": self.models[0],
                **{key: one.to_dict() for key, one in found.items()},
            }
            for (model, name), found in self.differences().items()
        ]
        return {"errors": rows, "differences": differences, "units": units()}

    def save(self, folder: str | Path, *, plots: bool | None = None) -> list[Path]:
        """Write errors.txt, errors.md and errors.json, and a folder with the report of each model on each set."""
        target = make_folder(folder)
        files = [target / f"errors.{suffix}" for suffix in ("txt", "md", "json")]
        plain = json.dumps(self.to_dict(), indent=1, ensure_ascii=False, allow_nan=False)
        for file, text in zip(files, (str(self), self.markdown(), plain), strict=True):
            with atomic_write(file) as stream:
                stream.write(text + "\n")
        for (model, name), report in self.reports.items():
            parts = [part for part, many in ((model, self.models), (name, self.sets)) if len(many) > 1]
            place = target / "_".join(Path(part).name or "set" for part in parts) if parts else target
            files += report.save(place, plots=plots)
        return files

    def _rows(self) -> list[list[str]]:
        several = [len(self.sets) > 1, len(self.models) > 1 or len(self.sets) == 1]
        lines = []
        for name in self.sets:
            for model in self.models:
                title = ": ".join(part for part, shown in zip((name, model), several, strict=True) if shown)
                lines.append([title, *cells(asdict(self.reports[model, name].metrics), _COLUMNS)])
        used = [k for k in range(len(lines[0])) if any(line[k] != "-" for line in lines)]
        return [[row[k] for k in used] for row in (*headings(_COLUMNS), *lines)]

    def _differences_table(self) -> str:
        rows = [[f"difference from {self.models[0]}", "energy", "±", "force", "±", "beyond scatter"]]
        rows.append(["", "meV/atom", "", "eV/Å", "", ""])
        for (model, name), found in self.differences().items():
            title = model if len(self.sets) == 1 else f"{name}: {model}"
            row = [title]
            for key, factor in (("energy", 1 / MEV), ("force", 1.0)):
                one = found.get(key)
                row += ["-", "-"] if one is None else [number(one.mean, factor), number(one.error, factor)]
            clear = [key for key, one in found.items() if one.is_clear]
            rows.append([*row, ", ".join(clear) or "nothing"])
        note = "differences of the mean absolute errors; ±: standard error over the structures"
        return f"{table(rows, headers=2)}\n{note}"


def _errors(residuals: Residuals) -> dict[str, Array]:
    """Return the errors of each structure: energy per atom and, if all have forces, mean over the components."""
    found = {"energy": np.abs(residuals.energy_error) / np.asarray(residuals.n_atoms)}
    forces = residuals.forces
    if forces is not None and len(np.unique(forces.structure)) == len(residuals):
        summed = np.bincount(
            forces.structure, weights=np.abs(forces.error).mean(axis=1), minlength=len(residuals)
        )
        found["force"] = summed / np.bincount(forces.structure, minlength=len(residuals))
    return found


def _difference(values: Array) -> Difference:
    error = float(values.std(ddof=1) / np.sqrt(len(values))) if len(values) > 1 else float("nan")
    return Difference(float(values.mean()), error)


def evaluate_several(models: Mapping[str, Predictor], sets: Mapping[str, Dataset]) -> Evaluations:
    """Return the errors of each model on each data set.

    Parameters
    ----------
    models : mapping of str to Predictor
    sets : mapping of str to Dataset
        Every structure with an energy.

    Returns
    -------
    Evaluations

    Raises
    ------
    ConfigError
        If there is no model or no set.
    DataError
        If a set is empty, a structure has no energy, or is of an element that a model does not know.

    Examples
    --------
    >>> import gprann
    >>> data = gprann.examples.hydrogen(12)
    >>> models = {n: gprann.Surrogate(kernel="pairs").fit(data[::k]) for n, k in (("all", 1), ("third", 3))}
    >>> found = evaluate_several(models, {"test": gprann.examples.hydrogen(9)})
    >>> found.differences()["third", "test"]["energy"].mean > 0
    True
    """
    if not models or not sets:
        raise ConfigError("nothing to evaluate: give at least one model and one data set")
    return Evaluations(
        {(name, key): evaluate(model, data) for key, data in sets.items() for name, model in models.items()}
    )


def short_names(paths: Iterable[str]) -> list[str]:
    """Return names for tables: file names without suffix where these tell the paths apart, else the paths.

    Examples
    --------
    >>> short_names(["a/small.gprann", "b/large.gprann"]), short_names(["a/p.gprann", "b/p.gprann"])
    (['small', 'large'], ['a/p.gprann', 'b/p.gprann'])
    """
    given: Sequence[str] = list(paths)
    stems = [Path(path).stem for path in given]
    return stems if len(set(stems)) == len(given) else list(given)
