"""Tables of the errors, narrow enough for a phone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from gprann.evaluation.grades import LARGE, GuardMetrics
from gprann.evaluation.metrics import (
    HEADS,
    KINDS,
    QUANTITIES,
    ForceMetrics,
    Metrics,
    has_deviations,
    number,
)
from gprann.evaluation.page.elements import Markup, element, join, table, with_unit
from gprann.units import MEV

_ROWS_SHOWN = 20
_LONGEST = 2000  # characters of a fact


def overview(metrics: Metrics) -> Markup:
    """Return the table of all errors of a set."""
    kinds = KINDS if has_deviations(metrics) else KINDS[:-1]
    rows = []
    for label, unit, factor, stem in QUANTITIES:
        values = [getattr(metrics, f"{stem}_{kind}", None) for kind in kinds]
        if any(value is not None for value in values):
            rows.append([with_unit(f"{label}, {unit}"), *(number(value, factor) for value in values)])
    text = "MAE: mean absolute error; RMSE: root mean square error; max: largest."
    if has_deviations(metrics):
        text += " MSD: mean standard deviation, what the potential takes for its error."
    heads = ["quantity", *(HEADS[kind] for kind in kinds)]
    return join([table("Errors", heads, rows), element("p", text, class_="muted")])


def by_group(groups: Mapping[str, Metrics]) -> Markup:
    """Return the table of the groups, if there are several; the worst ones if there are many."""
    if len(groups) < 2:
        return Markup("")
    worst = sorted(groups, key=lambda name: groups[name].energy_per_atom_mae or 0.0, reverse=True)
    names = sorted(worst[:_ROWS_SHOWN])
    rows = [
        [
            name,
            str(groups[name].n_structures),
            number(groups[name].energy_per_atom_mae, 1 / MEV),
            number(groups[name].force_mae),
        ]
        for name in names
    ]
    caption = "Errors by group" + (
        f", the worst {len(names)} of {len(groups)}" if len(names) < len(groups) else ""
    )
    return table(caption, ["group", "structures", "energy MAE, meV/atom", "force MAE, eV/Å"], rows)


def by_species(species: Mapping[str, ForceMetrics]) -> Markup:
    """Return the table of the elements."""
    rows = [
        [
            name,
            str(row.n_force_atoms),
            *(number(value) for value in (row.force_mae, row.force_rmse, row.force_angle_mae)),
        ]
        for name, row in species.items()
    ]
    heads = ["element", "atoms", "force MAE, eV/Å", "RMSE, eV/Å", "angle, degrees"]
    return table("Force errors by element", heads, rows)


def calibration(metrics: Metrics) -> Markup:
    """Return the table that tells whether errors are as large as the standard deviations."""
    rows = [
        [what, number(one, 100), number(two, 100)]
        for what, one, two in (
            ("energies", metrics.within_one_std, metrics.within_two_std),
            ("force components", metrics.force_within_one_std, metrics.force_within_two_std),
        )
        if one is not None
    ]
    if not rows:
        return element("p", "The potential gives no standard deviations: it is no committee.")
    rows.append(["normal distribution", "68.3", "95.4"])
    heads = ["errors of", "within one, %", "within two, %"]
    return table("Errors within one and two standard deviations", heads, rows)


def by_grade(guard: GuardMetrics | None) -> Markup:
    """Return the table of the force errors by extrapolation grade."""
    if guard is None:
        return element("p", "There are no extrapolation grades, or no reference forces to compare with.")
    rows = []
    for part in guard.ranges:
        name = f"above {part.lower:g}" if part.upper is None else f"{part.lower:g} to {part.upper:g}"
        rows.append(
            [
                name,
                str(part.n_atoms),
                number(part.share, 100),
                number(part.force_mae),
                number(part.force_rmse),
            ]
        )
    heads = ["grade", "atoms", "share, %", "force MAE, eV/Å", "RMSE, eV/Å"]
    text = "Up to 1 an atom's environment is of the kind that the training set has shown."
    if guard.roc_area is not None:
        text += (
            f" Force errors above {LARGE:g} times the median ({guard.n_large} atoms) told by the grades: area under "
            f"the ROC curve {guard.roc_area:.3f} (1: always, 0.5: grades tell nothing)."
        )
    return join(
        [table("Force errors by extrapolation grade", heads, rows), element("p", text, class_="muted")]
    )


def of_surrogate(surrogate: Mapping[str, Any], test: Metrics) -> Markup:
    """Return the table that compares the networks with the surrogates, on the structures both could predict."""
    rows = [
        [label, number(surrogate.get(name), factor), number(getattr(test, name), factor)]
        for label, name, factor in (
            ("structures", "n_structures", 1.0),
            ("energy MAE, meV", "energy_mae", 1 / MEV),
            ("energy MAE, meV/atom", "energy_per_atom_mae", 1 / MEV),
            ("force component MAE, eV/Å", "force_mae", 1.0),
            ("force component RMSE, eV/Å", "force_rmse", 1.0),
        )
        if surrogate.get(name) is not None
    ]
    rows[0] = ["structures", str(surrogate["n_structures"]), str(test.n_structures)]
    return table("Surrogate and networks on the test set", ["error", "surrogate", "networks"], rows)


def facts(caption: str, entries: Mapping[str, str]) -> Markup:
    """Return names and texts beside each other; nothing without entries."""
    rows = [
        (name, text[:_LONGEST] + ("..." if len(text) > _LONGEST else "")) for name, text in entries.items()
    ]
    content = table(caption, ["what", "value"], rows)
    return element("div", content, class_="facts") if content else content


def choices(chosen: Sequence[tuple[str, str, str]]) -> Markup:
    """Return the table of what was chosen automatically; nothing if nothing was."""
    content = table("Chosen automatically", ["what", "value", "reason"], chosen)
    return element("div", content, class_="facts") if content else content
