"""The interface of optimisers: options, defaults by the kind of data, cost, memory, and the state of a minimisation."""

from __future__ import annotations

import json
import os
from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

from gprann.arrays import Array, Indices
from gprann.model_file import naming_file, read_model_file, write_model_file
from gprann.options import Named, Registry, option

if TYPE_CHECKING:
    from gprann.training.objective import Errors, Objective


_RIDGE, _RIDGE_FORCES = 1e-7, 1e-8
RIDGE = option(
    "Penalty on the squared parameters beside the mean squared error, in units of the energy scale; keeps tanh out "
    f"of saturation, from which no step comes back. Default: {_RIDGE:g}, with forces {_RIDGE_FORCES:g}.",
    None,
    ge=0,
    example=_RIDGE,
)


def default_ridge(workload: Workload) -> float:
    """Return the penalty that suits the data."""
    return _RIDGE_FORCES if workload.forces else _RIDGE


Report = Callable[["OptimizerState"], object]


def no_report(state: OptimizerState) -> None:
    """Ignore the progress."""


@dataclass(frozen=True, slots=True)
class Workload:
    """Size and kind of a training, which decide about defaults, time and memory.

    Attributes
    ----------
    n_parameters, n_structures : int
    n_rows : int
        Residuals: energies, force components, virials.
    n_compositions : int
    forces : bool
        Whether forces are fitted.
    largest : int
        Atoms of the largest structure.
    n_features : int
        Components of the descriptor.
    linear : bool
        Whether residuals are linear in the parameters.
    """

    n_parameters: int = 0
    n_structures: int = 0
    n_rows: int = 0
    n_compositions: int = 1
    forces: bool = False
    largest: int = 0
    n_features: int = 0
    linear: bool = False

    @property
    def fewer_rows(self) -> bool:
        """Whether there are fewer residuals with forces than parameters: steps are found among the residuals."""
        return self.forces and 0 < self.n_rows < self.n_parameters

    @property
    def mixed(self) -> bool:
        """Whether energies alone of several compositions are fitted.

        A composition whose environments are unlike those of the rest is learned late, and from few of the starts.
        """
        return self.n_compositions > 1 and not self.forces


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
        """Write the state; `identity` is the fingerprint of the training."""
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
        """Read a state back; None if there is none, or it belongs to another training.

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
        with naming_file(path, "state of an optimiser"):
            return cls._from_file(document, arrays)

    @classmethod
    def _from_file(cls, document: Mapping[str, Any], arrays: Mapping[str, Array]) -> OptimizerState:
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


class Optimizer(Named):
    """An optimiser of the parameters of a model.

    A subclass declares its options with `gprann.option` and implements `minimise`. With a `name` and after
    `register_optimizer` it can be named in configurations.

    Examples
    --------
    >>> import gprann
    >>> class SteepestDescent(gprann.Optimizer):
    ...     rate: float = gprann.option("Length of a step.", 0.05, gt=0)
    ...
    ...     def minimise(self, train, validation, state, *, stream, frozen, report):
    ...         while not state.finished:
    ...             _, slope = train.gradient(state.parameters)
    ...             after = state.parameters - self.rate * slope / train.total_weight
    ...             state.advance(after, train.errors(after).total, validation.errors(after))
    ...             self.end(state)
    ...             report(state)
    ...         return state
    >>> data = gprann.examples.hydrogen(7)
    >>> descriptor = gprann.ChebyshevDescriptor(["H"], radial_order=10, radial_cutoff=8.0, angular_order=None)
    >>> potential = gprann.train(data, descriptor, optimizer=SteepestDescent(iterations=5))
    >>> len(potential.provenance["training"]["history"][0])
    5
    """

    unit: ClassVar[str] = "iterations"
    save_every: ClassVar[int] = 1
    """Iterations after which the state of a member is written to its checkpoint."""
    needs_products: ClassVar[bool] = False
    """Whether the objective must have products with its Jacobian."""

    iterations: int | None = option(
        "Most iterations, or epochs of adamw. Default: 40 for lm and gauss_newton_cg (100 with forces or structures of "
        "several compositions), 1000 for lbfgs and adamw.",
        None,
        ge=1,
        example=40,
    )
    patience: int | None = option(
        "Stop after so many iterations or epochs without a better validation error. Default: 10 for lm and "
        "gauss_newton_cg (20 for energies of several compositions), 200 for lbfgs and adamw.",
        None,
        ge=1,
        example=10,
    )

    def defaults(self, workload: Workload) -> dict[str, Any]:  # noqa: ARG002 - the same for all
        """Return the values of those options whose default depends on the data."""
        return {"iterations": 1000, "patience": 200}

    def resolve(self, workload: Workload) -> tuple[Optimizer, str]:
        """Return the optimiser with all defaults in place, and the reason for its choice."""
        return self.suited_to(workload), "as asked"

    def suited_to(self, workload: Workload) -> Self:
        """Return a copy with the defaults for a training in the place of None."""
        defaults = self.defaults(workload)
        return self.replace(**{name: defaults[name] for name in defaults if getattr(self, name) is None})

    def value(self, name: str) -> Any:
        """Return an option, or its default for energies of one composition."""
        given = getattr(self, name)
        return self.defaults(Workload())[name] if given is None else given

    @property
    def random_starts(self) -> int:
        """Random starts that are tried, of which the best goes on."""
        return 1

    @property
    def trial_iterations(self) -> int:
        """Iterations that each random start gets."""
        return 0

    @property
    def penalty(self) -> float:
        """Penalty on the squared parameters beside the mean squared error."""
        return 0.0

    def flops(self, workload: Workload) -> float:
        """Return about how many floating-point operations an iteration takes."""
        return 300.0 * workload.n_rows * workload.n_parameters

    def memory(self, workload: Workload) -> float:  # noqa: ARG002 - a few vectors
        """Return the memory of a member beside the features, bytes."""
        return 0.0

    def start(self, parameters: Array, workload: Workload) -> OptimizerState:  # noqa: ARG002
        """Return the state at random parameters."""
        return OptimizerState.start(parameters)

    @abstractmethod
    def minimise(
        self,
        train: Any,
        validation: Objective,
        state: OptimizerState,
        *,
        stream: tuple[int, ...],
        frozen: Indices,
        report: Report,
    ) -> OptimizerState:
        """Minimise the mean training loss from `state` on.

        Parameters
        ----------
        train : Objective
        validation : Objective
            Of the held-out structures; may be empty.
        state : OptimizerState
            Changed in place and returned.
        stream : tuple of int
            Seed of all random numbers, with the iteration behind it.
        frozen : ndarray of int64
            Parameters that stay as they are.
        report : callable
            Called with the state after every iteration from which a run can be taken up.

        Raises
        ------
        TrainingError
            If the loss is not finite at the start.
        """

    def end(self, state: OptimizerState) -> None:
        """Mark the state as finished if patience or iterations are used up."""
        patience = self.value("patience")
        if state.finished:
            return
        if state.iteration - state.best_iteration >= patience:
            state.finish(f"no better validation error for {patience} {self.unit}")
        elif state.iteration >= self.value("iterations"):
            state.finish(f"number of {self.unit} reached")


OPTIMIZERS = Registry("optimizer", Optimizer)  # type: ignore[type-abstract]
register_optimizer = OPTIMIZERS.register


def _plain(number: float) -> float | None:
    """Return a number for JSON, which knows no NaN."""
    return None if np.isnan(number) else number
