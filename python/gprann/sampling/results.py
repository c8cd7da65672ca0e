"""Results of an exploration: generations as a table, as plain data and as a picture."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from gprann.data.structure import Dataset
from gprann.sampling.replica import Outcome

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_REASON = 70  # characters of a reason in the table


@dataclass(frozen=True, slots=True)
class Generation:
    """One potential: what it was fitted to, how its simulations went, and what was learned from them.

    Attributes
    ----------
    number : int
    labels : int
        Structures to which it was fitted.
    replicas : tuple of Outcome
    error : float or None, eV/Å
        Mean absolute error of force components on structures that were held out; None if there were none.
    tested : int
        How many these were.
    new_error : float or None, eV/Å
        The same on the structures that were chosen, before they were fitted.
    chosen : tuple of (int, int)
        Replica and step of the structures that were chosen; (-1, -1) of displaced copies and of steps of the reference.
    added : int
        Structures that the next generation is fitted to in addition.
    refused : tuple of str
        Why labels of others were refused.
    calls : int
        Structures that the reference has computed so far.
    """

    number: int
    labels: int
    replicas: tuple[Outcome, ...]
    error: float | None
    tested: int
    new_error: float | None
    chosen: tuple[tuple[int, int], ...]
    added: int
    refused: tuple[str, ...]
    calls: int

    @property
    def survived(self) -> bool:
        """Whether all replicas reached their whole length."""
        return all(outcome.survived for outcome in self.replicas)

    def is_good(self, force_error: float) -> bool:
        """Return whether all replicas survived and the error is below a target."""
        return self.survived and self.error is not None and self.error < force_error

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain data."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """Make it of what `to_dict` gave, perhaps read from a file."""
        return cls(
            **{
                **values,
                "replicas": tuple(Outcome(**item) for item in values["replicas"]),
                "chosen": tuple((int(a), int(b)) for a, b in values["chosen"]),
                "refused": tuple(values["refused"]),
            }
        )


@dataclass(frozen=True, slots=True, repr=False)
class Exploration:
    """Result of an exploration. Printed, it is a page of text.

    Attributes
    ----------
    folder : Path
        With `potential.gprann`, `train.extxyz`, `generations.txt`, `generations.json`, with matplotlib
        `generations.png`, and a folder for each generation.
    generations : tuple of Generation
    converged : bool
    reason : str
        Why it ended.
    force_error : float, eV/Å
        The error that was aimed at.
    """

    folder: Path
    generations: tuple[Generation, ...]
    converged: bool
    reason: str
    force_error: float

    def __repr__(self) -> str:
        return f"Exploration({len(self.generations)} generations: {self.reason})"

    def __str__(self) -> str:
        return self.summary()

    @property
    def potential(self) -> Path:
        """File of the last potential."""
        return self.folder / "potential.gprann"

    @property
    def labels(self) -> Dataset:
        """Structures with labels to which the last potential was fitted."""
        from gprann.io.reading import structures

        return structures(self.folder / "train.extxyz")

    def summary(self) -> str:
        """Return the table of the generations, and how it ended."""
        lines = [f"{'':>3}{'labels':>8}{'calls':>7}{'force error':>16}{'of the chosen':>15}  replicas, ps"]
        for one in self.generations:
            times = " ".join(
                f"{item.time:.3g}{'*' if item.failed else '+' if item.cut else ''}" for item in one.replicas
            )
            error = "-" if one.error is None else f"{1e3 * one.error:.0f} meV/Å"
            new = "-" if one.new_error is None else f"{1e3 * one.new_error:.0f} meV/Å"
            lines.append(f"{one.number:>3}{one.labels:>8}{one.calls:>7}{error:>16}{new:>15}  {times}")
            first = next((item.reason for item in one.replicas if item.reason), "")
            if first:
                lines.append(f"{'':>11}* {first[:_REASON]}{'...' if len(first) > _REASON else ''}")
            if one.refused:
                lines.append(f"{'':>11}{len(one.refused)} labels refused: {one.refused[0][:_REASON]}")
        target = f"all replicas survive, force error below {1e3 * self.force_error:g} meV/Å"
        end = "converged" if self.converged else "not converged"
        return "\n".join([*lines, "", f"{end}: {self.reason} (aim: {target})"]) + "\n"

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain data."""
        return {
            "converged": self.converged,
            "reason": self.reason,
            "force_error": self.force_error,
            "generations": [one.to_dict() for one in self.generations],
        }

    def save(self, *, plots: bool) -> None:
        """Write table, plain data and, if asked for, the picture into the folder."""
        from gprann.runtime.atomic_write import atomic_write, write_picture

        for name, text in (
            ("generations.json", json.dumps(self.to_dict(), indent=1, ensure_ascii=False) + "\n"),
            ("generations.txt", self.summary()),
        ):
            with atomic_write(self.folder / name) as stream:
                stream.write(text)
        if plots:
            write_picture(self.draw(), self.folder / "generations.png", 150)

    def draw(self) -> Figure:
        """Return a figure of the times that replicas survived and of the errors, over the number of labels.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        """
        from gprann.evaluation.drawing import BLUE, GREY, ORANGE, legend, logarithmic, new_axes, new_figure

        figure = new_figure(6.4, 5.0)
        grid = figure.add_gridspec(2, 1)
        times, errors = new_axes(figure, grid[0]), new_axes(figure, grid[1])
        for failed, color, label in ((False, BLUE, "alive at the end"), (True, ORANGE, "failed")):
            points = [
                (one.labels, max(item.time, 1e-3))
                for one in self.generations
                for item in one.replicas
                if item.failed == failed
            ]
            if points:
                times.plot(*zip(*points, strict=True), "o", color=color, ms=4, label=label)
        times.set_ylabel("length of replicas, ps")
        for name, color, label in (
            ("new_error", GREY, "chosen structures"),
            ("error", BLUE, "held-out structures"),
        ):
            known = [one for one in self.generations if getattr(one, name) is not None]
            values = [1e3 * getattr(one, name) for one in known]
            if known:
                errors.plot(
                    [one.labels for one in known], values, "o-", color=color, ms=4, lw=0.8, label=label
                )
        errors.axhline(1e3 * self.force_error, color=ORANGE, lw=0.8, label="aim")
        errors.set_ylabel("force error, meV/Å")
        errors.set_xlabel("labels")
        for axes in (times, errors):
            logarithmic(axes)
            legend(axes)
        return figure
