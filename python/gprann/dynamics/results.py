"""The log of a simulation, and what it says in a page of text and a picture."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from ase.units import GPa

from gprann.arrays import Array
from gprann.dynamics.integrators import State
from gprann.errors import FormatError
from gprann.models.guard import STOP

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLUMNS = (
    "step",
    "time_ps",
    "temperature_K",
    "kinetic_eV",
    "potential_eV",
    "conserved_eV",
    "pressure_GPa",
    "volume_A3",
    "deviation_eV_per_A",
    "deviation_atom",
    "grade",
    "grade_atom",
)


def log_line(
    state: State, time_step: float, conserved: bool, deviations: Array | None, grades: Array | None
) -> str:
    """Return the line of the log for a state; quantities that are not known stay empty."""
    pressure = state.pressure
    values = (
        state.step,
        round(1e-3 * time_step * state.step, 9),
        state.temperature,
        state.kinetic_energy,
        state.energy,
        state.kinetic_energy + state.energy - state.heat if conserved else None,
        None if pressure is None else pressure / GPa,
        None if pressure is None else state.volume,
        *_largest(deviations),
        *_largest(grades),
    )
    return ",".join("" if value is None else repr(value) for value in values) + "\n"


def _largest(values: Array | None) -> tuple[float | None, int | None]:
    """Return the largest value of the atoms, and its atom."""
    if values is None:
        return None, None
    atom = int(np.argmax(values))
    return float(values[atom]), atom


def read_log(path: Path) -> dict[str, Array]:
    """Read a log: the columns by their names, NaN where nothing is known.

    Raises
    ------
    FormatError
        If the file is no log.
    """
    try:
        with path.open(newline="", encoding="utf-8") as stream:
            rows = list(csv.reader(stream))
        if not rows or tuple(rows[0]) != COLUMNS:
            raise FormatError(f"{path}: is no log of gprann md; its first line must be {','.join(COLUMNS)}")
        numbers = [[float(text or "nan") for text in row] for row in rows[1:]]
        table = np.array(numbers).reshape(len(numbers), len(COLUMNS))
    except FormatError:
        raise
    except (OSError, ValueError, csv.Error) as error:
        raise FormatError(
            f"{path}: is cut or damaged ({error}); run the simulation in another folder"
        ) from error
    return dict(zip(COLUMNS, table.T, strict=True))


@dataclass(frozen=True, slots=True, repr=False)
class MdResult:
    """Result of molecular dynamics. Printed, it is a page of text.

    Attributes
    ----------
    folder : Path
        With `trajectory.extxyz`, `log.csv`, `summary.txt`, `checkpoint.npz` and, with matplotlib, `md.png`.
    log : dict of str to ndarray
        Columns of `log.csv`; NaN where nothing is known.
    steps : int
        Time steps made, those before an interruption included.
    reason : str
        Why the run stopped early; empty if it did not.
    atom : int or None
        The atom that the reason is about, counted from 0.
    worst : tuple of float, int and int
        Largest standard deviation of a force (eV/Å), its atom and its step; atom -1 if none is known.
    highest : tuple of float, int and int
        Largest extrapolation grade, its atom and its step; atom -1 if none is known.
    title : str
        What was run.
    size : int
        Number of atoms.
    time_step : float, fs
    """

    folder: Path
    log: dict[str, Array]
    steps: int
    reason: str
    atom: int | None
    worst: tuple[float, int, int]
    highest: tuple[float, int, int]
    title: str
    size: int
    time_step: float

    def __repr__(self) -> str:
        return f"MdResult({self.steps} steps: {self.reason or 'complete'})"

    def __str__(self) -> str:
        return self.summary()

    @property
    def drift(self) -> float:
        """Slope of the conserved energy, meV/atom/ps, by least squares; NaN where nothing is conserved."""
        time, energy = self.log["time_ps"], self.log["conserved_eV"]
        if len(time) < 2 or not np.isfinite(energy).all():
            return float("nan")
        return float(1e3 / self.size * np.polyfit(time - time.mean(), energy - energy[0], 1)[0])

    def summary(self) -> str:
        """Return the page of text."""
        lines = [self.title, f"{'stopped' if self.reason else 'complete'}: {self.steps} steps"]
        lines[-1] += f", {1e-3 * self.steps * self.time_step:.6g} ps"
        if self.reason:
            lines += [f"reason: {self.reason}", "frames before the end, for labelling: to_label.extxyz"]
        lines += [""]
        for name, label, unit in (
            ("temperature_K", "temperature", "K"),
            ("pressure_GPa", "pressure", "GPa"),
            ("volume_A3", "volume", "Å³"),
            ("potential_eV", "potential energy", "eV"),
        ):
            values = self.log[name]
            constant = name == "volume_A3" and np.ptp(values) < 1e-9 * np.abs(values).max(initial=1.0)
            if len(values) and np.isfinite(values).all() and not constant:
                lines.append(
                    f"{label:<34}{values.mean():.6g} ± {values.std():.3g} {unit} "
                    f"({values.min():.6g} to {values.max():.6g})"
                )
        if np.isfinite(self.drift):
            energy = 1e3 * self.log["conserved_eV"] / self.size
            lines.append(f"{'drift of the conserved energy':<34}{self.drift:.2e} meV/atom/ps")
            lines.append(f"{'fluctuation of it':<34}{energy.std():.2e} meV/atom")
        value, atom, step = self.worst
        if atom >= 0:
            lines.append(
                f"{'largest deviation of a force':<34}{value:.3g} eV/Å, at atom {atom} in step {step}"
            )
        value, atom, step = self.highest
        if atom >= 0:
            lines.append(f"{'largest extrapolation grade':<34}{value:.3g}, at atom {atom} in step {step}")
            outside = float(np.mean(self.log["grade"] > STOP))
            if outside > 0:
                lines.append(
                    f"{'outside the training set':<34}{100 * outside:.0f} % of the lines of the log: an atom has a "
                    f"grade above {STOP:g}, do not trust them"
                )
        return "\n".join(lines) + "\n"

    def draw(self) -> Figure:
        """Return a figure of temperature, conserved energy, pressure, deviation and grade over time.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        """
        from gprann.evaluation.drawing import BLUE, GREY, new_axes, new_figure

        energy = 1e3 * (self.log["conserved_eV"] - self.log["conserved_eV"][:1]) / self.size
        panels = [
            ("temperature, K", self.log["temperature_K"]),
            ("conserved energy, meV/atom", energy),
            ("pressure, GPa", self.log["pressure_GPa"]),
            ("largest deviation of a force, eV/Å", self.log["deviation_eV_per_A"]),
            ("largest extrapolation grade", self.log["grade"]),
        ]
        panels = [(label, values) for label, values in panels if np.isfinite(values).any()]
        figure = new_figure(6.4, 1.9 * len(panels) + 0.3)
        grid = figure.add_gridspec(len(panels), 1)
        for row, (label, values) in enumerate(panels):
            axes = new_axes(figure, grid[row])
            axes.plot(self.log["time_ps"], values, color=BLUE, linewidth=0.8)
            axes.set_ylabel(label, fontsize=8)
            if label.endswith("grade"):
                axes.axhline(STOP, color=GREY, linewidth=0.8, linestyle="--")
        axes.set_xlabel("time, ps")
        return figure
