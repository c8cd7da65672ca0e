"""The interface of optimisers: options, defaults by the kind of data, cost, memory, and the minimisation itself."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from gprann.options import Named, Registry, option
from gprann.training.objective import Objective
from gprann.training.optimizers.state import OptimizerState

__all__ = [
    "OPTIMIZERS",
    "RIDGE",
    "Optimizer",
    "Report",
    "Workload",
    "default_ridge",
    "no_report",
    "register_optimizer",
]

Array = NDArray[np.float64]
Indices = NDArray[np.int64]
Report = Callable[[OptimizerState], object]


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


def no_report(state: OptimizerState) -> None:
    """Ignore the progress."""


@dataclass(frozen=True, slots=True)
class Workload:
    """What decides about defaults, time and memory of a training.

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
    """

    n_parameters: int = 0
    n_structures: int = 0
    n_rows: int = 0
    n_compositions: int = 1
    forces: bool = False
    largest: int = 0
    n_features: int = 0

    @property
    def mixed(self) -> bool:
        """Whether energies alone of several compositions are fitted.

        A composition whose environments are unlike those of the rest is learned late, and from few of the starts.
        """
        return self.n_compositions > 1 and not self.forces


class Optimizer(Named):
    """An optimiser of the parameters of a model.

    A subclass declares its options with `gprann.option` and implements `minimise`. With a `name` and after
    `register_optimizer` it can be named in configurations.

    Examples
    --------
    >>> import gprann
    >>> class SteepestDescent(Optimizer):
    ...     rate: float = option("Length of a step.", 0.05, gt=0)
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
