"""The common look of all plots: colours, axes, density colouring. Needs matplotlib.

Figures are drawn with the Agg canvas; pyplot with its global state and displays is never touched.
"""

from __future__ import annotations

import contextlib
import math
import os
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

from gprann.arrays import Array

# The shell of a notebook may name a backend that is not installed here, with which matplotlib cannot even be imported.
_backend = os.environ.pop("MPLBACKEND", "") if "matplotlib" not in sys.modules else ""
try:
    from matplotlib import rcParams
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.collections import Collection
    from matplotlib.colors import LinearSegmentedColormap
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter
except ImportError as error:
    raise ImportError("plots need matplotlib: pip install 'gprann[plot]'") from error
finally:
    if _backend:
        os.environ["MPLBACKEND"] = _backend
if _backend:
    with contextlib.suppress(ValueError):
        rcParams["backend"] = _backend

__all__ = [
    "BLUE",
    "CATEGORIES",
    "GREY",
    "INK",
    "ORANGE",
    "Axes",
    "Collection",
    "Figure",
    "MaxNLocator",
    "density",
    "density_bar",
    "legend",
    "logarithmic",
    "markers",
    "new_axes",
    "new_figure",
    "note",
    "plain_ticks",
]


BLUE, ORANGE, GREY, INK = "#2b6ca3", "#d1622b", "#8a8f98", "#23272e"
CATEGORIES = (BLUE, ORANGE, "#3b8f5a", "#8e5aa8", "#b8912b", "#4a4f57")
_DENSITY = LinearSegmentedColormap.from_list(
    "gprann_density", ["#cfe0ef", "#7fb0d6", BLUE, "#173f66", "#0b1d31"]
)


def new_figure(width: float, height: float) -> Figure:
    """Make an empty figure of a size in inches."""
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def new_axes(figure: Figure, place: Any = None) -> Axes:
    """Add axes with two spines to a figure, at a place of its grid."""
    axes = figure.add_subplot() if place is None else figure.add_subplot(place)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(INK)
    axes.tick_params(colors=INK, labelsize=9)
    axes.xaxis.label.set_color(INK)
    axes.yaxis.label.set_color(INK)
    return axes


def note(axes: Axes, text: str) -> None:
    """Write a text into the upper left corner."""
    axes.text(0.04, 0.96, text, transform=axes.transAxes, va="top", fontsize=9, color=INK)


def plain_ticks(axis: Axis) -> None:
    """Write plain numbers on a logarithmic axis that spans little, powers of ten otherwise."""
    low, high = axis.get_view_interval()
    if high / low < 300:
        axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axis.set_minor_formatter(NullFormatter())


def logarithmic(axes: Axes) -> None:
    """Make the vertical axis logarithmic; the data must have been drawn."""
    axes.set_yscale("log")
    plain_ticks(axes.yaxis)


def legend(axes: Axes, **options: Any) -> None:
    """Add a legend without a frame."""
    box = axes.legend(frameon=False, fontsize=9, labelcolor=INK, title_fontsize=9, **options)
    box.get_title().set_color(INK)


def markers(count: int) -> dict[str, Any]:
    """Style of `count` points: smaller and more transparent where there are many."""
    crowded = count > 1000
    return {
        "marker": "o",
        "mec": "none",
        "color": BLUE,
        "ms": 2.5 if crowded else 4,
        "alpha": 0.4 if crowded else 0.7,
    }


def density(
    axes: Axes,
    x: Array,
    y: Array,
    extent: tuple[float, float, float, float],
    *,
    size: tuple[float, float],
    across: int = 80,
) -> Collection:
    """Colour hexagons, `across` of them over the axes of a size in inches, by the number of points in them."""
    finite = np.isfinite(x) & np.isfinite(y)
    rows = max(int(across * size[1] / size[0] / math.sqrt(3)), 2)
    cells = axes.hexbin(
        x[finite],
        y[finite],
        gridsize=(across, rows),
        bins="log",
        mincnt=1,
        extent=extent,
        cmap=_DENSITY,
        linewidths=0.1,
    )
    axes.set(xlim=extent[:2], ylim=extent[2:])
    return cells


def density_bar(figure: Figure, axes: Sequence[Axes], cells: Sequence[Collection], *, counted: str) -> None:
    """Give the hexagons of all axes the same logarithmic scale, and add its colour bar."""
    most = max(float(np.max(np.asarray(drawn.get_array()), initial=0.0)) for drawn in cells)
    for drawn in cells:
        drawn.set_clim(1, max(10.0, most))
    bar = figure.colorbar(cells[0], ax=list(axes), pad=0.02, aspect=30)
    bar.set_label(f"{counted} per cell", color=INK)
    bar.outline.set_visible(False)
    bar.formatter = FuncFormatter(lambda value, _: f"{value:g}")
    bar.minorformatter = NullFormatter()
    bar.ax.tick_params(colors=INK, labelsize=8)
