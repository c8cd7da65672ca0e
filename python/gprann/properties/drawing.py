"""Pictures of properties, of a potential and of its reference side by side."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from gprann.evaluation.drawing import (
    BLUE,
    CATEGORIES,
    GREY,
    ORANGE,
    Axes,
    Figure,
    legend,
    new_axes,
    new_figure,
)
from gprann.properties.suite import Found

_COLOURS = {"potential": BLUE, "reference": ORANGE}


def draw(name: str, sides: Mapping[str, Found]) -> Figure:
    """Return the picture of a property; sides: `potential` and, if there is one, `reference`."""
    if name == "phonons":
        return _draw_phonons(sides)
    figure = new_figure(6.0, 4.0)
    axes = new_axes(figure)
    drawn = {
        "equation_of_state": _draw_state,
        "elastic_constants": _draw_values,
        "thermal_conductivity": _draw_conductivity,
        "vibrations": _draw_vibrations,
        "dynamics": _draw_energy,
        "rdf": _draw_rdf,
        "diffusion": _draw_displacement,
    }.get(name, _draw_values)
    drawn(axes, sides)
    if len(axes.get_legend_handles_labels()[1]) > 1:
        legend(axes)
    return figure


def _draw_state(axes: Axes, sides: Mapping[str, Found]) -> None:
    for side, found in sides.items():
        energies = np.array(found["curves"]["energies"])
        axes.plot(
            found["curves"]["volumes"],
            1e3 * (energies - energies.min()),
            "o-",
            color=_COLOURS[side],
            label=side,
        )
    axes.set_xlabel("volume, Å³/atom")
    axes.set_ylabel("energy above the minimum, meV/atom")


def _draw_values(axes: Axes, sides: Mapping[str, Found]) -> None:
    names = [item["name"] for item in next(iter(sides.values()))["values"]]
    for k, (side, found) in enumerate(sides.items()):
        known = {item["name"]: item["value"] for item in found["values"]}
        places = np.arange(len(names)) + (k - 0.5 * (len(sides) - 1)) * 0.4
        axes.barh(places, [known.get(name, np.nan) for name in names], 0.38, color=_COLOURS[side], label=side)
    axes.set_yticks(np.arange(len(names)), names)
    axes.invert_yaxis()
    axes.set_xlabel(", ".join(sorted({item["unit"] for item in next(iter(sides.values()))["values"]})))


def _draw_conductivity(axes: Axes, sides: Mapping[str, Found]) -> None:
    for side, found in sides.items():
        curves = found["curves"]
        axes.plot(curves["temperatures"], curves["conductivity"], "o-", color=_COLOURS[side], label=side)
    axes.set_xlabel("temperature, K")
    axes.set_ylabel("thermal conductivity, W/(m K)")


def _draw_vibrations(axes: Axes, sides: Mapping[str, Found]) -> None:
    for k, (side, found) in enumerate(sides.items()):
        numbers = found["curves"]["wavenumbers"]
        axes.vlines(numbers, k, k + 0.9, color=_COLOURS[side], label=side, linewidth=1.2)
    axes.set_yticks([])
    axes.set_xlabel("wavenumber, 1/cm")


def _draw_energy(axes: Axes, sides: Mapping[str, Found]) -> None:
    for side, found in sides.items():
        axes.plot(
            found["curves"]["time"],
            found["curves"]["energy"],
            color=_COLOURS[side],
            label=side,
            linewidth=0.8,
        )
    axes.set_xlabel("time, ps")
    axes.set_ylabel("total energy, meV/atom")


def _draw_rdf(axes: Axes, sides: Mapping[str, Found]) -> None:
    for side, found in sides.items():
        pairs = [name for name in found["curves"] if name != "r"]
        for pair, colour in zip(pairs, CATEGORIES * len(pairs), strict=False):
            style = "-" if side == "potential" else "--"
            axes.plot(
                found["curves"]["r"], found["curves"][pair], style, color=colour, label=_label(pair, side)
            )
    axes.axhline(1.0, color=GREY, linewidth=0.6)
    axes.set_xlabel("distance, Å")
    axes.set_ylabel("g(r)")


def _draw_displacement(axes: Axes, sides: Mapping[str, Found]) -> None:
    for side, found in sides.items():
        names = [name for name in found["curves"] if name not in {"time", "temperatures"}]
        for name, colour in zip(names, CATEGORIES * len(names), strict=False):
            style = "-" if side == "potential" else "--"
            axes.plot(
                found["curves"]["time"], found["curves"][name], style, color=colour, label=_label(name, side)
            )
    axes.set_xlabel("time, ps")
    axes.set_ylabel("mean squared displacement, Å²")


def _label(name: str, side: str) -> str:
    return name if side == "potential" else f"{name}, reference"


def _draw_phonons(sides: Mapping[str, Found]) -> Figure:
    figure = new_figure(7.0, 4.2)
    grid = figure.add_gridspec(1, 2, width_ratios=[3, 1])
    bands, states = new_axes(figure, grid[0]), new_axes(figure, grid[1])
    for side, found in sides.items():
        curves: Mapping[str, Any] = found["curves"]
        lines = bands.plot(curves["distances"], curves["bands"], color=_COLOURS[side], linewidth=0.9)
        lines[0].set_label(side)
        states.plot(curves["density"], curves["frequencies"], color=_COLOURS[side], linewidth=0.9)
    labels = next(iter(sides.values()))["curves"]["labels"]
    bands.set_xticks([place for place, _ in labels], [name for _, name in labels])
    for place, _ in labels:
        bands.axvline(place, color=GREY, linewidth=0.4)
    for axes in (bands, states):
        axes.axhline(0.0, color=GREY, linewidth=0.6)
    states.set_ylim(bands.get_ylim())
    bands.set_ylabel("frequency, THz")
    states.set_xlabel("states, 1/THz")
    if len(sides) > 1:
        legend(bands)
    return figure
