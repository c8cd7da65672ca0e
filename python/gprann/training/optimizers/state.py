"""State of an optimisation: all that is needed to go on, bit by bit, after an interruption."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gprann.model_file import read_model_file, write_model_file
from gprann.training.objective import Errors

__all__ = ["OptimizerState", "Step"]

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Step:
    """One line of the history.

    Attributes
    ----------
    iteration : int
    train, validation : float, energy scale
        Roots of the mean loss: for energies alone the weighted root mean square error per structure. Validation
        is NaN without held-out structures.
    energy, force : float, energy scale (per Å)
        Root mean square errors of the held-out energies and force components; NaN where there are none.
    """

    iteration: int
    train: float
    validation: float
    energy: float = float("nan")
    force: float = float("nan")

    @property
    def error(self) -> float:
        """The error that decides: of the held-out structures where there are any."""
        return self.train if np.isnan(self.validation) else self.validation


@dataclass(slots=True)
class OptimizerState:
    """Parameters, the optimiser's own numbers, the best parameters so far and the history.

    Attributes
    ----------
    parameters, best : ndarray, shape (P,)
    numbers : dict of str to float
        Scalars of the optimiser (damping, step count).
    vectors : dict of str to ndarray, shape (P,)
        Moments of the optimiser.
    history : list of Step
    best_iteration : int
    finished : bool
    reason : str
        Why training ended.
    seconds : float
        Spent so far, by interrupted runs as well.
    """

    parameters: Array
    best: Array
    numbers: dict[str, float] = field(default_factory=dict)
    vectors: dict[str, Array] = field(default_factory=dict)
    history: list[Step] = field(default_factory=list)
    best_iteration: int = 0
    finished: bool = False
    reason: str = ""
    seconds: float = 0.0

    @classmethod
    def start(cls, parameters: Array) -> OptimizerState:
        """Return the state before the first iteration."""
        return cls(parameters.copy(), parameters.copy())

    @property
    def iteration(self) -> int:
        """Iterations done."""
        return self.history[-1].iteration if self.history else 0

    @property
    def best_error(self) -> float:
        """Error of the best parameters so far, eV."""
        return self.history[self.best_iteration - 1].error if self.history else float("inf")

    def advance(self, parameters: Array, train: float, held_out: Errors) -> None:
        """Record an iteration: its parameters, which are kept if they are the best so far, and their errors."""
        step = Step(self.iteration + 1, train, held_out.total, held_out.energy, held_out.force)
        if step.error < self.best_error or not self.history:
            self.best, self.best_iteration = parameters.copy(), step.iteration
        self.parameters = parameters
        self.history.append(step)

    def finish(self, reason: str) -> None:
        """Mark the optimisation as ended."""
        self.finished, self.reason = True, reason

    def save(self, path: str | os.PathLike[str], identity: str) -> None:
        """Write the state; `identity` names the job it belongs to."""
        document: dict[str, Any] = {
            "kind": "optimizer state",
            "identity": identity,
            "numbers": self.numbers,
            "history": [
                [step.iteration, step.train, *map(_plain, (step.validation, step.energy, step.force))]
                for step in self.history
            ],
            "best_iteration": self.best_iteration,
            "finished": self.finished,
            "reason": self.reason,
            "seconds": self.seconds,
        }
        arrays = {"parameters": self.parameters, "best": self.best}
        write_model_file(
            path, document, {**arrays, **{f"vector_{name}": v for name, v in self.vectors.items()}}
        )

    @classmethod
    def load(cls, path: str | os.PathLike[str], identity: str) -> OptimizerState | None:
        """Read a state back; None if there is none, or it belongs to another job.

        Raises
        ------
        FormatError
            If the file is damaged.
        """
        if not Path(path).exists():
            return None
        document, arrays = read_model_file(path)
        if document.get("identity") != identity:
            return None
        history = [
            Step(iteration, train, *(float("nan") if number is None else number for number in held_out))
            for iteration, train, *held_out in document["history"]
        ]
        vectors = {
            name.removeprefix("vector_"): a for name, a in arrays.items() if name.startswith("vector_")
        }
        return cls(
            arrays["parameters"],
            arrays["best"],
            json.loads(json.dumps(document["numbers"])),
            vectors,
            history,
            document["best_iteration"],
            document["finished"],
            document["reason"],
            document.get("seconds", 0.0),
        )


def _plain(number: float) -> float | None:
    """Return a number for JSON, which knows no NaN."""
    return None if np.isnan(number) else number
