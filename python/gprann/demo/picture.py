"""The picture of the demo: energy and force of H2 over the bond length, as in Fig. 2 of the paper."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from gprann.arrays import Array
from gprann.data.prediction import Prediction
from gprann.data.structure import Dataset
from gprann.evaluation.methods import METHODS
from gprann.units import MEV

if TYPE_CHECKING:
    from gprann.demo.hydrogen import DemoResult, Method

_QUANTILE = 2.576
"""Standard deviations within which 99 % of normally distributed values lie."""


def draw(result: DemoResult) -> Any:
    """Draw energies above forces, one column for each method.

    Line and band: mean and 99 % interval of the committee. Dashed: reference. Circles: the seven reference structures.

    Raises
    ------
    ImportError
        If matplotlib is missing.
    """
    from gprann.evaluation.drawing import INK, new_axes, new_figure

    lengths = bond_lengths(result.test)
    known = bond_lengths(result.train)
    figure = new_figure(3.3 * len(result.methods) + 0.5, 5.6)
    grid = figure.add_gridspec(2, len(result.methods))
    rows: list[list[Any]] = [[], []]
    for column, method in enumerate(result.methods):
        predicted, colour = method.prediction, METHODS[method.name].colour
        curves = (
            (predicted.energy, _energy_std(predicted), result.test.energies),
            (bond_forces(predicted.forces), _force_std(predicted), bond_forces(result.test.forces)),
        )
        labels = (result.train.energies, bond_forces(result.train.forces))
        for row, (mean, std, exact) in enumerate(curves):
            axes = new_axes(figure, grid[row, column])
            band = (mean - _QUANTILE * std, mean + _QUANTILE * std)
            axes.fill_between(lengths, *band, color=colour, alpha=0.25, lw=0, label="99 % interval")
            axes.plot(lengths, mean, color=colour, lw=1.8, label="committee mean")
            axes.plot(lengths, exact, color=INK, lw=1.1, ls=(0, (4, 2.5)), label="reference")
            axes.plot(
                known,
                labels[row],
                "o",
                mfc="white",
                mec=INK,
                mew=1.2,
                ms=5.5,
                label="training structures",
                zorder=5,
            )
            rows[row].append(axes)
        rows[0][-1].set_title(_title(method), fontsize=10.5, color=INK, pad=8)
        rows[1][-1].set_xlabel("bond length (Å)")
    _finish(rows, result)
    return figure


def _finish(rows: list[list[Any]], result: DemoResult) -> None:
    """Give all panels of a row the same scale, and label the outer ones."""
    from gprann.evaluation.drawing import GREY, legend

    exact = (result.test.energies, bond_forces(result.test.forces))
    for panels, values, label in zip(
        rows, exact, ("energy (eV)", "force along the bond (eV/Å)"), strict=True
    ):
        span = float(np.ptp(values))
        for column, axes in enumerate(panels):
            axes.axhline(0, color=GREY, lw=0.6, zorder=0)
            axes.set_xlim(0.93, 2.07)
            axes.set_ylim(float(values.min()) - 0.08 * span, float(values.max()) + 0.04 * span)
            axes.tick_params(labelleft=column == 0, labelbottom=panels is rows[-1])
        panels[0].set_ylabel(label)
    rows[0][0].figure.align_ylabels([panels[0] for panels in rows])
    legend(rows[0][0], loc="upper right", handlelength=1.8)


def _title(method: Method) -> str:
    energy, force = method.metrics["energy_mae"], method.metrics["force_norm_mae"]
    if energy is None or force is None:
        return method.title
    return f"{method.title}\nMAE {energy / MEV:.3g} meV, {force:.2f} eV/Å"


def bond_lengths(data: Dataset) -> Array:
    """Return the distances of the two atoms, Å."""
    return np.array([np.linalg.norm(s.positions[1] - s.positions[0]) for s in data])


def bond_forces(forces: list[Array]) -> Array:
    """Return the force on the second atom along z, the direction of the bond, eV/Å."""
    return np.array([force[1, 2] for force in forces])


def _energy_std(prediction: Prediction) -> Array:
    return np.zeros(1) if prediction.energy_std is None else prediction.energy_std


def _force_std(prediction: Prediction) -> Array:
    return np.zeros(1) if prediction.forces_std is None else bond_forces(prediction.forces_std)
