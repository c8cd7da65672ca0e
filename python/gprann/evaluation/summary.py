"""Text tables of metrics for people to read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from gprann.evaluation.metrics import ForceMetrics, Metrics
from gprann.evaluation.residuals import TINY_FORCE, Residuals
from gprann.units import EV_PER_ANGSTROM3_TO_GPA, MEV

if TYPE_CHECKING:
    from gprann.evaluation.report import Report

__all__ = ["number", "summarise", "table"]

_ROWS_SHOWN = 20

# Label, unit, factor from the unit of `Metrics`, and the stem of the attribute names.
_QUANTITIES = (
    ("energy", "meV/structure", 1 / MEV, "energy"),
    ("energy per atom", "meV/atom", 1 / MEV, "energy_per_atom"),
    ("force component", "eV/Å", 1.0, "force"),
    ("force magnitude |F|", "eV/Å", 1.0, "force_norm"),
    ("force vector |F - F_ref|", "eV/Å", 1.0, "force_vector"),
    ("force direction", "degrees", 1.0, "force_angle"),
    ("stress", "GPa", EV_PER_ANGSTROM3_TO_GPA, "stress"),
)
_KINDS = ("mae", "rmse", "max", "msd")

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
    rows = [["", "unit", "MAE", "RMSE", "max", "MSD"]]
    for label, unit, factor, stem in _QUANTITIES:
        values = [getattr(metrics, f"{stem}_{kind}", None) for kind in _KINDS]
        if any(value is not None for value in values):
            rows.append([label, unit, *(number(value, factor) for value in values)])
    return table(rows)


def _notes(residuals: Residuals, metrics: Metrics) -> str:
    notes = []
    if metrics.energy_msd is not None:
        source = "over the committee" if metrics.n_members > 1 else "given by the model"
        notes.append(f"MSD: mean standard deviation {source}")
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


def _group_table(groups: Mapping[str, Metrics], columns: _Columns) -> str:
    """All groups in alphabetical order, or the worst where there are many."""
    hidden = len(groups) - _ROWS_SHOWN
    if hidden <= 0:
        return _metrics_table("group", "structures", groups, columns)
    worst = sorted(groups, key=lambda name: -(groups[name].energy_mae or 0.0))[:_ROWS_SHOWN]
    shown = _metrics_table("group", "structures", {name: groups[name] for name in worst}, columns)
    return f"{shown}\n... and {hidden} more with smaller energy errors (see by_group)"


def _metrics_table(label: str, counted: str, rows: Mapping[str, ForceMetrics], columns: _Columns) -> str:
    """One row per species, group or member; `counted` is atoms, structures or nothing."""
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
