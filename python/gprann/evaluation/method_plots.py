"""Figures that compare methods of training. Needs matplotlib.

Both take a mapping from names in `METHODS` to residuals of the same structures.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from gprann.evaluation.drawing import INK, Axes, Figure, density_bar, new_axes, new_figure
from gprann.evaluation.methods import METHODS
from gprann.evaluation.metrics import metrics_of, number
from gprann.evaluation.plots import (
    angle_limit,
    common_limits,
    directed_forces,
    draw_direction_error,
    draw_parity,
    reference_forces,
    save_figures,
)
from gprann.evaluation.residuals import Residuals
from gprann.units import MEV

_QUANTITIES = (
    ("energy", "energy (meV)", 1 / MEV),
    ("force_norm", "force magnitude (eV/Å)", 1.0),
    ("force_angle", "force direction (degrees)", 1.0),
)
_KINDS = (("mae", "mean absolute error"), ("msd", "mean standard deviation"))
_PANEL = (3.0, 2.8)  # inches
_CELLS = 50


def error_bars(methods: Mapping[str, Residuals]) -> Figure:
    """Draw mean absolute errors above mean standard deviations of the committees, one bar for each method.

    Energy, magnitude and direction of the forces, as in Fig. 3 of Yeu et al., npj Comput. Mater. 11, 156 (2025).
    Quantities without reference, and the standard deviations of single potentials, are left out.

    Examples
    --------
    >>> from gprann.evaluation import residuals
    >>> from gprann.data.prediction import Prediction
    >>> from gprann.data.structure import Dataset, Structure
    >>> h2 = Structure(("H", "H"), np.array([[0.0, 0, 0], [0, 0, 0.74]]), energy=-31.7)
    >>> pair = residuals.compare(Dataset([h2]), Prediction(np.array([-31.5]), [np.zeros((2, 3))]))
    >>> [axes.get_title() for axes in error_bars({"gpr": pair}).axes]
    ['energy (meV)']
    """
    metrics = {name: metrics_of(residuals) for name, residuals in methods.items()}

    def values(stem: str, kind: str) -> list[float | None]:
        return [getattr(own, f"{stem}_{kind}") for own in metrics.values()]

    quantities = [item for item in _QUANTITIES if any(value is not None for value in values(item[0], "mae"))]
    kinds = [item for item in _KINDS if any(value is not None for value in values("energy", item[0]))]
    figure = new_figure(0.5 + 3.0 * len(quantities), 0.4 + 2.6 * len(kinds))
    grid = figure.add_gridspec(len(kinds), len(quantities))
    for row, (kind, label) in enumerate(kinds):
        for column, (stem, title, factor) in enumerate(quantities):
            axes = new_axes(figure, grid[row, column])
            _bars(axes, list(methods), values(stem, kind), factor)
            axes.tick_params(labelbottom=row == len(kinds) - 1)
            if row == 0:
                axes.set_title(title, fontsize=10.5, color=INK, pad=8)
            if column == 0:
                axes.set_ylabel(label)
    return figure


def _bars(axes: Axes, names: list[str], values: list[float | None], factor: float) -> None:
    heights = [np.nan if value is None else value * factor for value in values]
    bars = axes.bar(range(len(names)), heights, color=[METHODS[name].colour for name in names], width=0.7)
    axes.bar_label(bars, [number(value, factor) for value in values], fontsize=8.5, color=INK, padding=2)
    axes.set_xticks(range(len(names)), [METHODS[name].title.replace(" ", "\n") for name in names])
    axes.tick_params(axis="x", length=0, labelsize=8.5)
    axes.margins(y=0.12)


def force_panels(methods: Mapping[str, Residuals]) -> Figure:
    """Draw predicted against reference magnitudes of the forces above the errors of their direction.

    One column for each method, all on the same scales and coloured by the logarithm of the count, as in Fig. 4 of
    Yeu et al., npj Comput. Mater. 11, 156 (2025). Dashed lines: errors of ±1 eV/Å.

    Raises
    ------
    DataError
        If there are no reference forces, or none has a direction.
    """
    forces = {name: reference_forces(residuals) for name, residuals in methods.items()}
    directed = {name: directed_forces(residuals) for name, residuals in methods.items()}
    norms = {name: np.linalg.norm(own.predicted, axis=1) for name, own in forces.items()}
    reference = next(iter(forces.values())).reference_norm
    limits = common_limits(reference, np.concatenate(list(norms.values())), floor=0.0)
    top = angle_limit(np.concatenate([own.angle for own in directed.values()]))
    figure = new_figure(0.9 + _PANEL[0] * len(methods), 2 * _PANEL[1] + 0.6)
    grid = figure.add_gridspec(2, len(methods))
    panels: list[Axes] = []
    cells: list[Any] = []
    for column, name in enumerate(methods):
        upper, lower = (new_axes(figure, grid[row, column]) for row in range(2))
        cells.append(draw_parity(upper, reference, norms[name], limits, size=_PANEL, across=_CELLS))
        cells.append(draw_direction_error(lower, directed[name], top, size=_PANEL, across=_CELLS))
        lower.set_xlim(*limits)
        upper.set_title(METHODS[name].title, fontsize=10.5, color=INK, pad=8)
        upper.set_xlabel("reference |F| (eV/Å)")
        lower.set_xlabel("reference |F| (eV/Å)")
        panels += [upper, lower]
    panels[0].set_ylabel("predicted |F| (eV/Å)")
    panels[1].set_ylabel("error of direction (degrees)")
    density_bar(figure, panels, cells, counted="atoms")
    return figure


def save_methods(methods: Mapping[str, Residuals], folder: Path) -> list[Path]:
    """Write both figures as PNG files, as far as there are data for them; return the files written."""
    drawings = {"errors": lambda: error_bars(methods), "forces": lambda: force_panels(methods)}
    return save_figures(drawings, folder)
