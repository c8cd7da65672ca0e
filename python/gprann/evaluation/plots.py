"""Plots of an evaluation, drawn without a display and without global state. Needs matplotlib.

Every function returns a `matplotlib.figure.Figure`; save it with ``figure.savefig("name.pdf")``.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np

from gprann.arrays import Array
from gprann.errors import DataError
from gprann.evaluation.drawing import (
    BLUE,
    CATEGORIES,
    GREY,
    INK,
    ORANGE,
    Axes,
    Collection,
    Figure,
    MaxNLocator,
    density,
    density_bar,
    legend,
    logarithmic,
    markers,
    new_axes,
    new_figure,
    note,
    plain_ticks,
)
from gprann.evaluation.metrics import energy_std, force_std, metrics_of, number
from gprann.evaluation.report import History
from gprann.evaluation.residuals import ForceResiduals, Residuals
from gprann.runtime.atomic_write import make_folder, write_picture
from gprann.units import MEV

logger = logging.getLogger(__name__)


_DPI = 150
_FEWEST = 10  # values in a bin
_MARKERS = "osD^vPX"  # with which lines are told apart without colours
_WIDE_FORCE_RANGE = 5.0  # eV/Å; below it lines at ±1 eV/Å would say nothing


def energy_parity(residuals: Residuals) -> Figure:
    """Plot predicted against reference energy, and the error below with its standard deviation where known.

    Energies are relative to the mean reference energy of all structures of the same composition, in eV.

    Examples
    --------
    >>> from gprann.evaluation import residuals
    >>> from gprann.data.prediction import Prediction
    >>> from gprann.data.structure import Dataset, Structure
    >>> h2 = Structure(("H", "H"), np.array([[0.0, 0, 0], [0, 0, 0.74]]), energy=-31.7)
    >>> pair = residuals.compare(Dataset([h2]), Prediction(np.array([-31.5]), [np.zeros((2, 3))]))
    >>> [axes.get_ylabel() for axes in energy_parity(pair).axes]
    ['predicted energy (eV)', 'error (meV)']
    """
    error = _energy_error(residuals)
    figure = new_figure(4.6, 5.4)
    grid = figure.add_gridspec(2, 1, height_ratios=(3, 1.3))
    top, bottom = (new_axes(figure, grid[i]) for i in range(2))
    shift = _composition_mean(residuals)
    x, y = residuals.energy_reference - shift, residuals.energy_predicted - shift
    limits = common_limits(x, y)
    top.plot(limits, limits, color=GREY, lw=1, zorder=1)
    top.plot(x, y, ls="", **markers(len(x)))
    top.set(xlim=limits, ylim=limits, ylabel="predicted energy (eV)")
    top.tick_params(labelbottom=False)
    top.locator_params(nbins=6)
    bottom.locator_params(axis="x", nbins=6)
    metrics = metrics_of(residuals)
    note(
        top,
        f"MAE {number(metrics.energy_mae, 1 / MEV)} meV\nRMSE {number(metrics.energy_rmse, 1 / MEV)} meV",
    )
    bottom.axhline(0, color=GREY, lw=1, zorder=1)
    std = energy_std(residuals)
    if std is not None:
        bottom.errorbar(x, error, yerr=std / MEV, fmt="none", ecolor=BLUE, elinewidth=0.7, alpha=0.35)
    bottom.plot(x, error, ls="", **markers(len(x)))
    bottom.set(xlim=limits, xlabel="reference energy (eV), relative to the mean", ylabel="error (meV)")
    figure.align_ylabels([top, bottom])
    return figure


def force_parity(residuals: Residuals, *, quantity: Literal["component", "norm"] = "component") -> Figure:
    """Plot predicted against reference forces, coloured by the logarithm of the count.

    Parameters
    ----------
    residuals : Residuals
    quantity : {"component", "norm"}
        Cartesian components or magnitudes, as in Fig. 4a-d of Yeu et al., npj Comput. Mater. 11, 156 (2025).
        Dashed lines mark errors of ±1 eV/Å where the forces span more than 5 eV/Å.

    Raises
    ------
    DataError
        If there are no reference forces, or `quantity` is something else.
    """
    forces = reference_forces(residuals)
    if quantity == "component":
        x, y, label = forces.reference.ravel(), forces.predicted.ravel(), "force component"
    elif quantity == "norm":
        x, y, label = forces.reference_norm, np.linalg.norm(forces.predicted, axis=1), "force magnitude"
    else:
        raise DataError(f"quantity is {quantity!r}; expected 'component' or 'norm'")
    figure = new_figure(5.0, 4.2)
    axes = new_axes(figure)
    limits = common_limits(x, y, floor=0.0 if quantity == "norm" else None)
    cells = draw_parity(axes, x, y, limits, size=(5.0, 4.2))
    density_bar(figure, [axes], [cells], counted="components" if quantity == "component" else "atoms")
    axes.set(xlabel=f"reference {label} (eV/Å)", ylabel=f"predicted {label} (eV/Å)", aspect="equal")
    return figure


def draw_parity(axes: Axes, x: Array, y: Array, limits: tuple[float, float], **options: Any) -> Collection:
    """Draw predicted forces `y` against reference forces `x`, eV/Å, into axes; `options` are those of `density`."""
    axes.plot(limits, limits, color=INK, lw=0.8)
    if limits[1] - limits[0] > _WIDE_FORCE_RANGE:
        for offset in (-1.0, 1.0):
            axes.plot(limits, [limits[0] + offset, limits[1] + offset], color=GREY, lw=0.8, ls=(0, (4, 3)))
    cells = density(axes, x, y, (*limits, *limits), **options)
    error = np.abs(y - x)
    note(axes, f"MAE {number(_mean(error))} eV/Å\nmax {number(float(np.max(error)))} eV/Å")
    return cells


def force_direction_error(residuals: Residuals) -> Figure:
    """Plot the angle between predicted and reference force against the reference magnitude.

    Coloured by the logarithm of the count, with the median of equally populated bins, as in Fig. 4e-h of Yeu
    et al., npj Comput. Mater. 11, 156 (2025). The angle axis ends at the largest error.

    Raises
    ------
    DataError
        If no atom has a reference force of at least `TINY_FORCE`.
    """
    forces = directed_forces(residuals)
    figure = new_figure(5.0, 3.8)
    axes = new_axes(figure)
    cells = draw_direction_error(axes, forces, angle_limit(forces.angle), size=(5.0, 3.8))
    density_bar(figure, [axes], [cells], counted="atoms")
    axes.set(xlabel="reference force magnitude (eV/Å)", ylabel="error of force direction (degrees)")
    return figure


def draw_direction_error(axes: Axes, forces: ForceResiduals, top: float, **options: Any) -> Collection:
    """Draw angles up to `top` degrees against reference forces into axes; `options` are those of `density`."""
    norm, angle = forces.reference_norm, forces.angle
    finite = np.isfinite(angle)
    cells = density(axes, norm, angle, (0.0, _upper(norm), 0.0, top), **options)
    centre, (median,) = _bin(norm[finite], angle[finite], [50])
    axes.plot(centre, median, color=ORANGE, lw=1.6, marker="o", ms=3, label="median")
    legend(axes, title=f"mean {number(_mean(angle))}°")
    return cells


def directed_forces(residuals: Residuals) -> ForceResiduals:
    """Return the forces on the atoms whose reference force has a direction.

    Raises
    ------
    DataError
        If there are none.
    """
    forces = reference_forces(residuals)
    forces = forces.select(forces.has_direction)
    if len(forces) == 0:
        raise DataError("no reference force is long enough to have a direction; leave this plot out")
    return forces


def error_by_force(residuals: Residuals) -> Figure:
    """Plot the median force error ``|F - F_ref|`` of every species against the reference magnitude.

    The band spans the 10th to the 90th percentile of all atoms; bins are equally populated. Of an element with few
    atoms every atom is shown.

    Raises
    ------
    DataError
        If there are no reference forces.
    """
    forces = reference_forces(residuals)
    norm, error = forces.reference_norm, np.linalg.norm(forces.error, axis=1)
    figure = new_figure(5.0, 3.8)
    axes = new_axes(figure)
    centre, (low, high) = _bin(norm, error, [10, 90])
    axes.fill_between(centre, low, high, color=GREY, alpha=0.22, lw=0, label="10-90 %, all atoms")
    species = np.unique(forces.symbols)
    for i, symbol in enumerate(species):
        own = forces.symbols == symbol
        style: dict[str, Any] = {
            "color": CATEGORIES[i % len(CATEGORIES)],
            "ls": "-" if i < len(CATEGORIES) else "--",
        }
        if np.count_nonzero(own) < 2 * _FEWEST:  # one bin would be a lone dot
            axes.plot(norm[own], error[own], **style | {"ls": ""}, marker="x", ms=5, label=f"{symbol}, atoms")
            continue
        centre, (median,) = _bin(norm[own], error[own], [50])
        axes.plot(
            centre,
            median,
            lw=1.6,
            marker=_MARKERS[i % len(_MARKERS)],
            ms=4,
            label=f"{symbol}, median",
            **style,
        )
    if np.any(error > 0):
        logarithmic(axes)
    axes.set(xlabel="reference force magnitude (eV/Å)", ylabel=r"force error $|F - F_\mathrm{ref}|$ (eV/Å)")
    axes.set_xlim(left=0.0)
    legend(axes, ncols=2 if len(species) > 3 else 1)
    return figure


def learning_curve(history: History, *, label: str = "error") -> Figure:
    """Plot training and validation errors (logarithmic) against the iteration, one line per potential.

    Parameters
    ----------
    history : mapping of str to sequence of (iteration, training error, validation error)
        One entry per committee member; the validation error may be None. Values that are not positive are
        left out.
    label : str
        Label of the axis, with its unit.

    Raises
    ------
    DataError
        If the history holds no positive value.

    Examples
    --------
    >>> figure = learning_curve({"member 0": [(1, 0.5, 0.6), (2, 0.2, 0.3)]}, label="RMSE (eV)")
    >>> len(figure.axes[0].lines)
    2
    """
    figure = new_figure(5.0, 3.8)
    axes = new_axes(figure)
    several = len(history) > 1
    style: dict[str, Any] = {"lw": 0.9, "alpha": 0.55} if several else {"lw": 1.5, "alpha": 1.0}
    drawn: set[str] = set()
    for records in history.values():
        columns = np.array(
            [[np.nan if value is None else value for value in record] for record in records], float
        )
        for column, kind, colour, line in ((1, "training", BLUE, "-"), (2, "validation", ORANGE, "--")):
            x, y = columns.reshape(-1, 3)[:, 0], columns.reshape(-1, 3)[:, column]
            shown = np.isfinite(y) & (y > 0)
            if np.any(shown):
                name = "_nolegend_" if kind in drawn else kind
                axes.plot(x[shown], y[shown], color=colour, ls=line, label=name, **style)
                drawn.add(kind)
    if not drawn:
        raise DataError("the training history holds no positive error; there is nothing to plot")
    logarithmic(axes)
    axes.set(xlabel="iteration", ylabel=label)
    axes.margins(x=0.02)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    legend(axes, title=f"{len(history)} potentials" if several else None)
    return figure


def error_histogram(residuals: Residuals, *, stacked: bool = False) -> Figure:
    """Plot the distribution of the energy errors, and of the force component errors on a logarithmic axis.

    Parameters
    ----------
    residuals : Residuals
    stacked : bool
        One below the other instead of side by side.

    Raises
    ------
    DataError
        If no prediction is finite.
    """
    panels = [(_energy_error(residuals), "energy error (meV)", "structures")]
    if residuals.forces is not None:
        panels.append(
            (reference_forces(residuals).error.ravel(), "force component error (eV/Å)", "components")
        )
    figure, places = _panels(len(panels), (8.0 if len(panels) > 1 else 4.6, 3.4), stacked)
    for i, (values, label, counted) in enumerate(panels):
        axes = places[i]
        finite = values[np.isfinite(values)]
        bins = int(np.clip(3 * np.cbrt(len(finite)), 8, 80))
        axes.hist(finite, bins=bins, color=BLUE, alpha=0.85, edgecolor="white", linewidth=0.4, log=i > 0)
        axes.axvline(0, color=INK, lw=0.8)
        axes.set(xlabel=label, ylabel=counted)
    return figure


def _panels(count: int, size: tuple[float, float], stacked: bool) -> tuple[Figure, list[Axes]]:
    """Return a figure with axes side by side, of a size in inches all together, or of half the width stacked."""
    rows, columns = (count, 1) if stacked else (1, count)
    figure = new_figure(*((4.6, size[1] * count) if stacked else size))
    grid = figure.add_gridspec(rows, columns)
    return figure, [new_axes(figure, grid[i]) for i in range(count)]


def uncertainty_calibration(residuals: Residuals, *, stacked: bool = False) -> Figure:
    """Plot energy errors against standard deviations, and how often errors stay within z of them.

    Left: absolute error against standard deviation, with lines at one and two standard deviations. Right:
    observed against expected fraction of normally distributed errors within z standard deviations, of the
    energies and, where they have standard deviations, of the force components; a curve below the diagonal
    means that the standard deviations are too small. If `stacked`, one is below the other.

    Raises
    ------
    DataError
        If the prediction has no standard deviations.
    """
    std = energy_std(residuals)
    if std is None or not np.any(std > 0):
        raise DataError(
            "the prediction has no standard deviations of the energy; use a committee or a surrogate"
        )
    error = np.abs(_energy_error(residuals)) * MEV
    figure, (left, right) = _panels(2, (8.0, 3.8), stacked)
    shown = (std > 0) & (error > 0)
    left.loglog(std[shown] / MEV, error[shown] / MEV, ls="", **markers(len(error)))
    _sigma_lines(left)
    plain_ticks(left.xaxis)
    plain_ticks(left.yaxis)
    left.set(xlabel="standard deviation (meV)", ylabel="absolute energy error (meV)")
    right.plot([0, 1], [0, 1], color=GREY, lw=1)
    _reliability(right, error, std, "energies")
    forces = residuals.forces
    deviations = None if forces is None else force_std(forces)
    if forces is not None and deviations is not None:
        known = np.isfinite(deviations) & np.isfinite(forces.error)
        _reliability(right, np.abs(forces.error[known]), deviations[known], "force components")
    legend(right, loc="upper left")
    right.set(
        xlabel="expected fraction", ylabel="observed fraction", xlim=(0, 1), ylim=(0, 1.01), aspect="equal"
    )
    return figure


def _reliability(axes: Axes, error: Array, std: Array, label: str) -> None:
    """Draw how often errors are within z standard deviations, with dots at one and two."""
    z = np.linspace(0.0, 3.5, 141)
    expected = np.array([math.erf(value / math.sqrt(2)) for value in z])
    ratio = np.sort(np.divide(error, std, out=np.where(error > 0, np.inf, 0.0), where=std > 0))
    observed = np.searchsorted(ratio, z, side="right") / max(len(ratio), 1)
    one, two = observed[40], observed[80]
    colour, line = (BLUE, "-") if label == "energies" else (ORANGE, "--")  # told apart without colours too
    shares = f"{100 * one:.0f}, {100 * two:.0f} %"
    axes.plot(expected, observed, color=colour, ls=line, lw=1.6, label=f"{label}: {shares}")
    axes.plot(expected[[40, 80]], [one, two], "o", color=colour, ms=5)


def save_all(residuals: Residuals, folder: str | Path, *, history: History | None = None) -> list[Path]:
    """Write every plot for which there are data as a PNG file of 150 dots per inch.

    Parameters
    ----------
    residuals : Residuals
    folder : path
        Made if it does not exist.
    history : mapping, optional
        For `learning_curve`.

    Returns
    -------
    list of Path
        The files written.
    """
    drawings: dict[str, Callable[[], Figure]] = {
        "energy_parity": lambda: energy_parity(residuals),
        "force_parity": lambda: force_parity(residuals),
        "force_norm_parity": lambda: force_parity(residuals, quantity="norm"),
        "force_direction_error": lambda: force_direction_error(residuals),
        "error_by_force": lambda: error_by_force(residuals),
        "error_histogram": lambda: error_histogram(residuals),
        "uncertainty_calibration": lambda: uncertainty_calibration(residuals),
    }
    if history is not None:
        drawings["learning_curve"] = lambda: learning_curve(history, label="square root of the loss (eV)")
    return save_figures(drawings, folder)


def save_figures(drawings: Mapping[str, Callable[[], Figure]], folder: str | Path) -> list[Path]:
    """Write the figures for which there are data as PNG files; return the files written."""
    target = make_folder(folder)
    written = []
    for name, draw in drawings.items():
        try:
            figure = draw()
        except DataError as error:
            logger.debug("no plot %s: %s", name, error)
            continue
        path = target / f"{name}.png"
        write_picture(figure, path, _DPI)
        written.append(path)
    return written


def reference_forces(residuals: Residuals) -> ForceResiduals:
    """Return the forces on the atoms that have a reference force.

    Raises
    ------
    DataError
        If there are none, or no predicted force is finite.
    """
    if residuals.forces is None:
        raise DataError("the reference data have no forces; leave this plot out")
    if not np.any(np.isfinite(residuals.forces.error)):
        raise DataError("no predicted force is finite; there is nothing to plot")
    return residuals.forces


def _energy_error(residuals: Residuals) -> Array:
    """Return the energy errors in meV; at least one of them is finite."""
    error = residuals.energy_error / MEV
    if not np.any(np.isfinite(error)):
        raise DataError("no predicted energy is finite; there is nothing to plot")
    return error


def _mean(values: Array) -> float:
    return float(np.mean(values))


def _composition_mean(residuals: Residuals) -> Array:
    _, index = np.unique(np.array(residuals.formulas), return_inverse=True)
    total = np.bincount(index, weights=residuals.energy_reference)
    mean: Array = (total / np.bincount(index))[index]
    return mean


def common_limits(x: Array, y: Array, *, floor: float | None = None) -> tuple[float, float]:
    """Return limits for both axes with a margin; equal values get some room."""
    both = np.concatenate([x, y])
    both = both[np.isfinite(both)]
    low, high = float(both.min()), float(both.max())
    margin = 0.04 * (high - low) or 0.5
    return (low - margin if floor is None else floor, high + margin)


def _upper(values: Array) -> float:
    return 1.02 * float(np.max(values)) or 1.0


def angle_limit(angle: Array) -> float:
    """Return the smallest round limit above all finite angles, at most 180 degrees."""
    largest = float(np.max(angle[np.isfinite(angle)], initial=0.0))
    round_limits = (1.0, 2.0, 3.0, 5.0, 8.0, 12.0, 20.0, 30.0, 45.0, 60.0, 90.0, 120.0, 180.0)
    return next(limit for limit in round_limits if largest <= limit or limit == round_limits[-1])


def _bin(x: Array, y: Array, percentiles: list[float]) -> tuple[Array, Array]:
    """Return the median of x and percentiles of y, shape (percentiles, bins), in equally populated bins of x."""
    order = np.argsort(x)
    fewest = int(np.clip(len(x) // _FEWEST, 1, 4))  # bins even of a few atoms, which make a line
    bins = np.array_split(order, int(np.clip(len(x) // 40, fewest, 12)))
    centre = np.array([np.median(x[b]) for b in bins])
    return centre, np.array([np.percentile(y[b], percentiles) for b in bins]).T


def _sigma_lines(axes: Axes) -> None:
    limits = np.array(axes.get_xlim())
    for factor, style in ((1, "-"), (2, "--")):
        axes.plot(limits, factor * limits, color=GREY, lw=1, ls=style, label=f"{factor} std")
    axes.set_xlim(*limits)
    legend(axes, loc="lower right")
