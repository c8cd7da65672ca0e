"""Errors and uncertainties of predicted energies, forces and stresses, as numbers and as text tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from gprann.arrays import Array
from gprann.data.prediction import Prediction
from gprann.data.structure import Dataset
from gprann.evaluation.grades import LARGE
from gprann.evaluation.residuals import TINY_FORCE, ForceResiduals, Residuals, angle_between, compare
from gprann.units import EV_PER_ANGSTROM3_TO_GPA, MEV

if TYPE_CHECKING:
    from gprann.evaluation.grades import GuardMetrics
    from gprann.evaluation.report import Report


_ROWS_SHOWN = 20

# Label, unit, factor from the unit of `Metrics`, and the stem of the attribute names.
QUANTITIES = (
    ("energy", "meV/structure", 1 / MEV, "energy"),
    ("energy per atom", "meV/atom", 1 / MEV, "energy_per_atom"),
    ("force component", "eV/Å", 1.0, "force"),
    ("force magnitude |F|", "eV/Å", 1.0, "force_norm"),
    ("force vector |F - F_ref|", "eV/Å", 1.0, "force_vector"),
    ("force direction", "degrees", 1.0, "force_angle"),
    ("stress", "GPa", EV_PER_ANGSTROM3_TO_GPA, "stress"),
)
KINDS = ("mae", "rmse", "max", "msd")
HEADS = {"mae": "MAE", "rmse": "RMSE", "max": "max", "msd": "MSD"}

_ENERGY_COLUMNS = (
    ("E MAE", "meV", 1 / MEV, "energy_mae"),
    ("E MAE", "meV/atom", 1 / MEV, "energy_per_atom_mae"),
)
_FORCE_COLUMNS = (
    ("F MAE", "eV/Å", 1.0, "force_mae"),
    ("F RMSE", "eV/Å", 1.0, "force_rmse"),
    ("|F| MAE", "eV/Å", 1.0, "force_norm_mae"),
    ("angle", "degrees", 1.0, "force_angle_mae"),
)
_Columns = tuple[tuple[str, str, float, str], ...]


def _in(unit: str) -> Any:
    return field(default=None, metadata={"unit": unit})


@dataclass(frozen=True, slots=True, kw_only=True)
class ForceMetrics:
    """Errors of the forces on a set of atoms; None where there is nothing to compute a value from.

    For a committee the mean absolute errors (MAE) are those of its mean force, and a mean standard deviation
    (MSD) is the standard deviation over the members (divisor: number of members), averaged over the atoms, as
    in Yeu et al., npj Comput. Mater. 11, 156 (2025), Figs. 2, 3 and 5. The paper gives no formula for the
    direction; here it is the root mean square angle between the members' forces and the committee's mean
    force, the standard deviation of a direction about the mean direction. (The standard deviation of those
    angles about *their* mean would vanish for two members, however much they disagree.)

    Attributes
    ----------
    n_force_atoms : int
        Atoms with a reference force.
    n_directions : int
        Those of them whose reference force is at least `TINY_FORCE` = 0.001 eV/Å: only they enter the metrics
        of the direction.
    force_mae, force_rmse, force_max : float, eV/Å
        Over the Cartesian components: mean absolute, root mean square, largest absolute error.
    force_norm_mae : float, eV/Å
        Mean of ``| |F| - |F_ref| |`` over the atoms.
    force_vector_mae : float, eV/Å
        Mean of ``|F - F_ref|`` over the atoms.
    force_angle_mae : float, degrees
        Mean angle between predicted and reference force; 90° where the predicted force is zero.
    force_msd : float, eV/Å
        Mean standard deviation of a component: over the members, or the one that the model gives.
    force_norm_msd : float, eV/Å
        Mean over the atoms of the standard deviation of the members' ``|F|``.
    force_vector_msd : float, eV/Å
        Mean over the atoms of the root mean square length of ``F_member - F_mean``.
    force_angle_msd : float, degrees
        Mean over the atoms of the root mean square angle between ``F_member`` and ``F_mean``.
    force_within_one_std, force_within_two_std : float
        Fraction of components whose error is within one and two standard deviations, among those that have
        one.
    """

    n_force_atoms: int = 0
    n_directions: int = 0
    force_mae: float | None = _in("eV/Å")
    force_rmse: float | None = _in("eV/Å")
    force_max: float | None = _in("eV/Å")
    force_norm_mae: float | None = _in("eV/Å")
    force_vector_mae: float | None = _in("eV/Å")
    force_angle_mae: float | None = _in("degrees")
    force_msd: float | None = _in("eV/Å")
    force_norm_msd: float | None = _in("eV/Å")
    force_vector_msd: float | None = _in("eV/Å")
    force_angle_msd: float | None = _in("degrees")
    force_within_one_std: float | None = _in("1")
    force_within_two_std: float | None = _in("1")


@dataclass(frozen=True, slots=True, kw_only=True)
class Metrics(ForceMetrics):
    """Errors of energies, forces and stresses; None where there is nothing to compute a value from.

    Attributes
    ----------
    n_structures, n_members : int
        Structures, and members of the committee (0 for a model that is none).
    energy_mae, energy_rmse, energy_max : float, eV per structure
        Mean absolute, root mean square and largest absolute error of the total energy.
    energy_per_atom_mae, energy_per_atom_rmse : float, eV/atom
        The same of the energy divided by the number of atoms of the structure.
    energy_msd : float, eV per structure
        Mean standard deviation of the energy: over the members, or the one that the model gives.
    within_one_std, within_two_std : float
        Fraction of structures whose energy error is within one and two standard deviations; 0.683 and 0.954
        for errors that are normally distributed with the stated standard deviation.
    stress_mae : float, eV/Å³
        Mean absolute error of the six Voigt components.

    See Also
    --------
    ForceMetrics : the metrics of the forces and the definition of MAE and MSD.
    """

    n_structures: int = 0
    n_members: int = 0
    energy_mae: float | None = _in("eV")
    energy_rmse: float | None = _in("eV")
    energy_max: float | None = _in("eV")
    energy_per_atom_mae: float | None = _in("eV/atom")
    energy_per_atom_rmse: float | None = _in("eV/atom")
    energy_msd: float | None = _in("eV")
    within_one_std: float | None = _in("1")
    within_two_std: float | None = _in("1")
    stress_mae: float | None = _in("eV/Å³")


def units() -> dict[str, str]:
    """Return the unit of every metric that has one.

    Examples
    --------
    >>> units()["energy_mae"], units()["force_angle_mae"]
    ('eV', 'degrees')
    """
    return {item.name: item.metadata["unit"] for item in fields(Metrics) if "unit" in item.metadata}


def compute_metrics(reference: Dataset, prediction: Prediction) -> Metrics:
    """Compute all metrics of a prediction.

    Parameters
    ----------
    reference : Dataset
        Every structure with an energy; structures without forces count for the energy only.
    prediction : Prediction
        In the order of `reference`.

    Returns
    -------
    Metrics

    Raises
    ------
    DataError
        If the data set is empty, a structure has no energy, or the prediction is of other structures.

    Examples
    --------
    >>> from gprann.data.structure import Structure
    >>> h2 = Structure(("H", "H"), np.array([[0.0, 0, 0], [0, 0, 0.74]]), energy=-31.7, forces=np.eye(2, 3))
    >>> metrics = compute_metrics(Dataset([h2]), Prediction(np.array([-31.5]), [np.eye(2, 3) * 1.5]))
    >>> round(metrics.energy_mae, 6), metrics.force_norm_mae, metrics.force_angle_mae
    (0.2, 0.5, 0.0)
    """
    return metrics_of(compare(reference, prediction))


def metrics_of(residuals: Residuals) -> Metrics:
    """Compute all metrics from residuals (see `compute_metrics`)."""
    error = np.abs(residuals.energy_error)
    per_atom = error / residuals.n_atoms
    std = energy_std(residuals)
    return Metrics(
        n_structures=len(residuals),
        n_members=residuals.n_members,
        energy_mae=_mean(error),
        energy_rmse=_rms(error),
        energy_max=float(np.max(error)),
        energy_per_atom_mae=_mean(per_atom),
        energy_per_atom_rmse=_rms(per_atom),
        energy_msd=None if std is None else _mean(std),
        within_one_std=_within(1, error, std),
        within_two_std=_within(2, error, std),
        stress_mae=_stress_mae(residuals.stress_error),
        **asdict(force_metrics_of(residuals.forces)),
    )


def _stress_mae(error: Array | None) -> float | None:
    return None if error is None else _mean(np.abs(error[np.isfinite(error)]))


def energy_std(residuals: Residuals) -> Array | None:
    """Return the standard deviation of every energy, shape (n,), eV, or None where there is none.

    The model's own if it gives one, otherwise over the members of a committee (divisor: number of members). One member
    alone has no standard deviation.
    """
    members = residuals.member_energy
    if residuals.energy_std is not None or members is None:
        return residuals.energy_std
    return np.std(members, axis=0) if len(members) > 1 else None


def force_metrics_of(forces: ForceResiduals | None) -> ForceMetrics:
    """Compute the metrics of the forces on a set of atoms (see `ForceMetrics`)."""
    if forces is None or len(forces) == 0:
        return ForceMetrics()
    error = forces.error
    directed = forces.has_direction
    return ForceMetrics(
        n_force_atoms=len(forces),
        n_directions=int(np.sum(directed)),
        force_mae=_mean(np.abs(error)),
        force_rmse=_rms(error),
        force_max=float(np.max(np.abs(error))),
        force_norm_mae=_mean(np.abs(forces.norm_error)),
        force_vector_mae=_mean(np.linalg.norm(error, axis=1)),
        force_angle_mae=_mean(forces.angle[directed]),
        **_force_deviations(forces, directed),
    )


def _force_deviations(forces: ForceResiduals, directed: NDArray[np.bool_]) -> dict[str, float | None]:
    """Return mean standard deviations and coverages, over the members or as the model gives them."""
    std = force_std(forces)
    if std is None:
        return {}
    component = {
        "force_msd": _mean(std[np.isfinite(std)]),
        "force_within_one_std": _within(1, forces.error, std),
        "force_within_two_std": _within(2, forces.error, std),
    }
    members = forces.members
    if members is None:
        return component
    mean = np.mean(members, axis=0)
    angle = angle_between(members[:, directed], mean[directed])
    return component | {
        "force_norm_msd": _mean(np.std(np.linalg.norm(members, axis=2), axis=0)),
        "force_vector_msd": _mean(np.sqrt(np.sum(std**2, axis=1))),
        "force_angle_msd": _mean(np.sqrt(np.mean(angle**2, axis=0))),
    }


def force_std(forces: ForceResiduals) -> Array | None:
    """Return the standard deviation of every force component, shape (A, 3), eV/Å, or None.

    As `energy_std`; NaN for atoms for which the model has given none.
    """
    if forces.std is not None or forces.members is None:
        return forces.std
    return np.std(forces.members, axis=0) if len(forces.members) > 1 else None


def _within(factor: int, error: Array, std: Array | None) -> float | None:
    """Return the fraction of errors within a multiple of their standard deviations; NaN deviations do not count."""
    if std is None:
        return None
    known = np.isfinite(std)
    return _mean(np.abs(error[known]) <= factor * std[known])


def species_metrics(residuals: Residuals) -> dict[str, ForceMetrics]:
    """Return the force metrics by chemical symbol, in alphabetical order; empty without reference forces."""
    forces = residuals.forces
    if forces is None:
        return {}
    return {
        str(symbol): force_metrics_of(forces.select(forces.symbols == symbol))
        for symbol in np.unique(forces.symbols)
    }


def group_metrics(residuals: Residuals) -> dict[str, Metrics]:
    """Return the metrics by group (the chemical formula where a structure has no group), in alphabetical order."""
    groups = np.array(residuals.groups)
    return {
        str(name): metrics_of(residuals.select(np.flatnonzero(groups == name))) for name in np.unique(groups)
    }


def member_metrics(residuals: Residuals) -> list[Metrics]:
    """Return the metrics of every committee member alone; empty without members."""
    return [metrics_of(residuals.member(index)) for index in range(residuals.n_members)]


def median_metrics(members: Sequence[Metrics]) -> Metrics | None:
    """Return the median over the members, metric by metric, or None without members.

    Examples
    --------
    >>> median_metrics([Metrics(energy_mae=mae) for mae in (0.001, 0.002, 0.009)]).energy_mae
    0.002
    """
    if not members:
        return None
    medians: dict[str, Any] = {}
    for item in fields(Metrics):
        values = [getattr(member, item.name) for member in members]
        if isinstance(values[0], int):  # counts, which all members share
            medians[item.name] = values[0]
        elif None not in values:
            medians[item.name] = float(np.median(values))
    return Metrics(**medians)


def _mean(values: NDArray[Any]) -> float | None:
    return float(np.mean(values)) if values.size else None


def _rms(values: Array) -> float:
    return float(np.sqrt(np.mean(values**2)))


def number(value: float | None, factor: float = 1.0) -> str:
    """Write a value with three significant digits, `-` where there is none.

    Examples
    --------
    >>> number(0.0012045, 1000), number(104.6), number(None)
    ('1.20', '105', '-')
    """
    if value is None:
        return "-"
    scaled = value * factor
    if 1000 <= abs(scaled) < 1e7:
        return f"{scaled:.0f}"
    return f"{scaled:#.3g}".removesuffix(".")


def table(rows: Sequence[Sequence[str]], *, headers: int = 1) -> str:
    """Align columns, the first to the left and the others to the right, with a line under the headers.

    Parameters
    ----------
    rows : sequence of sequences of str
        All of the same length.
    headers : int
        Number of rows above the line.

    Examples
    --------
    >>> print(table([["species", "MAE"], ["H", "0.1"]]))
    species  MAE
    ------------
    H        0.1
    """
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = [
        "  ".join(
            cell.rjust(width) if i else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]
    lines.insert(headers, "-" * (sum(widths) + 2 * (len(widths) - 1)))
    return "\n".join(line.rstrip() for line in lines)


def summarise(report: Report) -> str:
    """Write all tables of a report, with units."""
    metrics = report.metrics
    parts = [_title(metrics), _overview(metrics), _notes(report.residuals, metrics)]
    if report.by_species:
        parts.append(_metrics_table("species", "atoms", report.by_species, _FORCE_COLUMNS))
    if report.guard is not None:
        parts.append(_grades_table(report.guard))
    columns = _ENERGY_COLUMNS + (_FORCE_COLUMNS if metrics.n_force_atoms else ())
    if len(report.by_group) > 1:
        parts.append(_group_table(report.by_group, columns))
    if report.median_member is not None and metrics.n_members > 1:
        rows = {str(index): member for index, member in enumerate(report.by_member[:_ROWS_SHOWN])}
        rows |= {"median member": report.median_member, "committee mean": metrics}
        parts.append(_metrics_table("member", "", rows, columns))
    return "\n\n".join(parts) + "\n"


def _title(metrics: Metrics) -> str:
    forces = f"forces on {metrics.n_force_atoms} atoms" if metrics.n_force_atoms else "no reference forces"
    committee = f"; mean of a committee of {metrics.n_members}" if metrics.n_members > 1 else ""
    plural = "" if metrics.n_structures == 1 else "s"
    return f"{metrics.n_structures} structure{plural}, {forces}{committee}"


def _overview(metrics: Metrics) -> str:
    """Return the table of all quantities; without standard deviations it has no column MSD."""
    kinds = KINDS if has_deviations(metrics) else KINDS[:-1]
    rows = [["", "unit", *(HEADS[kind] for kind in kinds)]]
    for label, unit, factor, stem in QUANTITIES:
        values = [getattr(metrics, f"{stem}_{kind}", None) for kind in kinds]
        if any(value is not None for value in values):
            rows.append([label, unit, *(number(value, factor) for value in values)])
    return table(rows)


def has_deviations(metrics: Metrics) -> bool:
    """Return whether there are standard deviations."""
    return metrics.energy_msd is not None or metrics.force_msd is not None


def _notes(residuals: Residuals, metrics: Metrics) -> str:
    notes = []
    if has_deviations(metrics):
        source = "of the committee" if metrics.n_members > 1 else "that the model predicts"
        notes.append(f"MSD: mean standard deviation {source}, its own estimate of its errors")
    for what, one, two in (
        ("energy", metrics.within_one_std, metrics.within_two_std),
        ("force component", metrics.force_within_one_std, metrics.force_within_two_std),
    ):
        if one is not None and two is not None:
            notes.append(
                f"{what} errors within one std: {100 * one:.0f} % (normal: 68 %), "
                f"two std: {100 * two:.0f} % (normal: 95 %)"
            )
    if metrics.n_directions < metrics.n_force_atoms:
        left_out = metrics.n_force_atoms - metrics.n_directions
        notes.append(
            f"force direction: without {left_out} atoms whose reference force is below {TINY_FORCE} eV/Å"
        )
    worst = int(np.argmax(np.abs(residuals.energy_error)))
    error = number(float(residuals.energy_error[worst]), 1 / MEV)
    notes.append(f"largest energy error: {error} meV, {residuals.origins[worst]}")
    return "\n".join(notes)


def _grades_table(guard: GuardMetrics) -> str:
    """Return the table of force errors by extrapolation grade, and how well grades tell large errors."""
    rows = [["extrapolation grade", "atoms", "share", "F MAE", "F RMSE"], ["", "", "%", "eV/Å", "eV/Å"]]
    for part in guard.ranges:
        upper = "" if part.upper is None else f" to {part.upper:g}"
        name = f"{part.lower:g}{upper}" if upper else f"above {part.lower:g}"
        share = number(part.share, 100)
        rows.append([name, str(part.n_atoms), share, number(part.force_mae), number(part.force_rmse)])
    lines = [table(rows, headers=2), "1: the edge of the training set"]
    if guard.roc_area is not None:
        std = (
            "" if guard.roc_area_std is None else f"; by their standard deviations: {guard.roc_area_std:.3f}"
        )
        lines.append(
            f"force errors above {LARGE:g} times the median ({guard.n_large} atoms) told by the grades: area under "
            f"the ROC curve {guard.roc_area:.3f}{std}"
        )
    return "\n".join(lines)


def _group_table(groups: Mapping[str, Metrics], columns: _Columns) -> str:
    """Return the table of all groups in alphabetical order, or of the worst ones if there are many."""
    hidden = len(groups) - _ROWS_SHOWN
    if hidden <= 0:
        return _metrics_table("group", "structures", groups, columns)
    worst = sorted(groups, key=lambda name: -(groups[name].energy_mae or 0.0))[:_ROWS_SHOWN]
    shown = _metrics_table("group", "structures", {name: groups[name] for name in worst}, columns)
    return f"{shown}\n... and {hidden} more with smaller energy errors (see by_group)"


def _metrics_table(label: str, counted: str, rows: Mapping[str, ForceMetrics], columns: _Columns) -> str:
    """Return a table with one row per species, group or member; `counted` is atoms, structures or nothing."""
    counter = {"atoms": "n_force_atoms", "structures": "n_structures"}.get(counted)
    count_head = [counted] if counter else []
    lines = [
        [label, *count_head, *(head for head, _, _, _ in columns)],
        ["", *([""] if counter else []), *(unit for _, unit, _, _ in columns)],
    ]
    for name, metrics in rows.items():
        count = [str(getattr(metrics, counter))] if counter else []
        lines.append(
            [name, *count, *(number(getattr(metrics, key), factor) for _, _, factor, key in columns)]
        )
    return table(lines, headers=2)
