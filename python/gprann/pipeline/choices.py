"""Choices that a run makes for the user, each with its reason, in one table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from gprann.evaluation.metrics import number, table

if TYPE_CHECKING:
    from gprann.config.sections import Config


@dataclass(frozen=True, slots=True)
class Choice:
    """One choice.

    Attributes
    ----------
    what : str
        Key of the configuration, or what it is about.
    value : str
    reason : str
    by : {'data', 'user'}
        Who has made it.
    """

    what: str
    value: str
    reason: str
    by: Literal["data", "user"] = "data"


@dataclass(frozen=True, slots=True)
class Candidate:
    """A way to the potential, and its errors on structures that it was not trained on.

    Attributes
    ----------
    name : str
    energy, force : float or None
        Mean absolute errors, eV/atom and eV/Å (component); None where there are no such labels.
    seconds : float
        Time of the trial.
    """

    name: str
    energy: float | None
    force: float | None
    seconds: float

    def score(self, scale: Candidate) -> float:
        """Return the geometric mean of the errors relative to those of another candidate."""
        pairs = [(self.energy, scale.energy), (self.force, scale.force)]
        ratios = [own / max(other, 1e-9) for own, other in pairs if own is not None and other is not None]
        return float(np.exp(np.mean(np.log(np.maximum(ratios, 1e-9))))) if ratios else 1.0


@dataclass(frozen=True, slots=True)
class Plan:
    """A configuration in which every choice stands, and how it came about.

    Attributes
    ----------
    config : Config
        With `method = "manual"`.
    choices : tuple of Choice
    candidates : tuple of Candidate
    left_out : int
        Number of structures that the candidates were judged by.
    """

    config: Config
    choices: tuple[Choice, ...]
    candidates: tuple[Candidate, ...] = ()
    left_out: int = 0

    def summary(self) -> str:
        """Return the choices, and the errors of the candidates, as tables."""
        rows = [["choice", "value", "by", "reason"]]
        rows += [[choice.what, choice.value, choice.by, choice.reason] for choice in self.choices]
        parts = [left_table(rows)]
        if self.candidates:
            rows = [["candidate", "energy MAE", "force MAE", "trial"], ["", "meV/atom", "meV/Å", "s"]]
            rows += [
                [item.name, number(item.energy, 1e3), number(item.force, 1e3), f"{item.seconds:.0f}"]
                for item in self.candidates
            ]
            parts.append(
                f"on {self.left_out} left-out structures of the training set:\n{table(rows, headers=2)}"
            )
        return "\n\n".join(parts)

    def to_dict(self) -> dict[str, Any]:
        """Return plain data."""
        return {"config": self.config.to_dict(), **self.facts()}

    def facts(self) -> dict[str, Any]:
        """Return choices and candidates as plain data."""
        return {
            "choices": [asdict(choice) for choice in self.choices],
            "candidates": [asdict(candidate) for candidate in self.candidates],
            "left_out": self.left_out,
        }

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any], config: Config) -> Plan:
        """Make the plan that `to_dict` described; the sections that have no part in it are those of `config`."""
        chosen = type(config).from_dict(plain["config"])
        return cls(
            chosen.model_copy(
                update={"data": config.data, "output": config.output, "resources": config.resources}
            ),
            tuple(Choice(**choice) for choice in plain["choices"]),
            tuple(Candidate(**candidate) for candidate in plain["candidates"]),
            plain["left_out"],
        )


def left_table(rows: Sequence[Sequence[str]]) -> str:
    """Return columns of text, aligned to the left, with a line under the first row.

    Examples
    --------
    >>> print(left_table([["choice", "value"], ["members", "4"]]))
    choice   value
    -------  -----
    members  4
    """
    widths = [max(len(row[k]) for row in rows) for k in range(len(rows[0]))]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]
    return "\n".join([lines[0], "  ".join("-" * width for width in widths), *lines[1:]])
