"""The training of one member of a committee: hold-out, random starts, minimisation."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from gprann.arrays import Array, Indices
from gprann.errors import TrainingError
from gprann.training.hold_out import split
from gprann.training.optimizers.base import OptimizerState, Report, Workload, no_report
from gprann.training.options import TrainingOptions
from gprann.training.store.objective import StreamedObjective

if TYPE_CHECKING:
    from gprann.training.energy_force_objective import EnergyForceObjective
    from gprann.training.objective import EnergyObjective
    from gprann.training.ranks.energies import RankedEnergies

    AnyObjective = EnergyObjective | EnergyForceObjective | RankedEnergies | StreamedObjective


@dataclass(frozen=True, slots=True)
class CommitteeTask:
    """The data and options that all members of a committee share.

    Attributes
    ----------
    objective : EnergyObjective, EnergyForceObjective, RankedEnergies or StreamedObjective
        Of all structures, in units of `energy_scale`.
    families : ndarray of int64, shape (n,)
        Structures with the same number (a reference structure and its copies) are held out together.
    strata : ndarray of int64, shape (n,)
        Structures with the same number are of one group and composition, of which a share is held out.
    options : TrainingOptions
    energy_scale : float, eV
    initial : ndarray, shape (K, P), optional
        Parameters to start from, of member k those of k modulo K; default: random ones.
    """

    objective: AnyObjective
    families: Indices
    strata: Indices
    options: TrainingOptions
    energy_scale: float
    initial: Array | None = None

    @property
    def workload(self) -> Workload:
        """Size and kind of the training, which decide about its cost."""
        objective = self.objective
        return Workload(
            n_parameters=objective.n_parameters,
            n_structures=objective.size,
            n_rows=objective.n_rows,
            n_compositions=len(np.unique(objective.counts, axis=0)),
            forces=self.options.forces,
            linear=objective.model.linear,
        )


def train_member(
    task: CommitteeTask, member: int, state: OptimizerState | None = None, report: Report = no_report
) -> OptimizerState:
    """Train one member, from its random start or from a saved state.

    Parameters
    ----------
    task : CommitteeTask
    member : int
        Number of the member; its random stream is (seed, member).
    state : OptimizerState, optional
        Where to go on.
    report : callable, optional
        Called with the state after every iteration.

    Raises
    ------
    TrainingError
        If the loss is not finite at the start.
    """
    options = task.options
    started, earlier = time.perf_counter(), 0.0 if state is None else state.seconds
    rng = np.random.default_rng((options.seed, member))
    fitted, held = hold_out(task, rng)
    train, validation = task.objective.select(fitted), task.objective.select(held)
    if state is None:
        state = _start(task, train, rng, member)

    def notify(current: OptimizerState) -> None:
        current.seconds = earlier + time.perf_counter() - started
        report(current)

    final = options.optimizer.minimise(
        train,
        validation,
        state,
        stream=(options.seed, member),
        frozen=task.objective.model.frozen_parameters(options.frozen),
        report=notify,
    )
    if not final.history and not np.isfinite(train.loss(final.parameters)):
        raise TrainingError("the loss is infinite or NaN at the start: look for wrong energies in the data")
    return final


def hold_out(task: CommitteeTask, rng: np.random.Generator) -> tuple[Indices, Indices]:
    """Return the structures that a member is fitted to, and those that are held out."""
    return split(task.families, task.strata, task.objective.counts, task.options.validation, rng)


def _start(task: CommitteeTask, train: AnyObjective, rng: np.random.Generator, member: int) -> OptimizerState:
    """Return the given parameters, or the best of several random starts; a bad start never recovers.

    Successive halving: all starts get a few cheap iterations, the best quarter of them twice as many, and so on. They
    are compared on structures they have not seen; where there are too few of them by the loss with its ridge, because
    errors alone would favour the wildest function.
    """
    if task.initial is not None:
        return OptimizerState.start(task.initial[member % len(task.initial)])
    options, optimizer = task.options, task.options.optimizer
    starts = [task.objective.model.initial(rng) for _ in range(optimizer.random_starts)]
    states = [optimizer.start(parameters, task.workload) for parameters in starts]
    if len(states) == 1:
        return states[0]
    order = rng.permutation(train.size)
    count = train.trial_size
    chosen, others = order[:count], order[count : 2 * count]
    trial, unseen = train.select(np.sort(chosen)), train.select(np.sort(others))
    nothing = train.select(order[:0])

    def loss(state: OptimizerState) -> float:
        if 2 * unseen.size >= trial.size:
            return unseen.loss(state.parameters)
        penalty = optimizer.penalty * trial.total_weight
        return trial.loss(state.parameters) + penalty * float(state.parameters @ state.parameters)

    iterations = optimizer.trial_iterations
    while len(states) > 1:
        for state in states:
            state.finished = False
            most = state.iteration + iterations
            optimizer.replace(iterations=most, patience=most).minimise(
                trial,
                nothing,
                state,
                stream=(options.seed, member, 0, 3),
                frozen=task.objective.model.frozen_parameters(options.frozen),
                report=no_report,
            )
        states.sort(key=loss)
        states = states[: -(-len(states) // 4)]
        iterations *= 2
    best = OptimizerState.start(states[0].parameters)
    best.numbers.update(states[0].numbers)
    return best
