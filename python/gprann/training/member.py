"""A training job: all that the members need, in memory and as a folder for workers and resumed runs."""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gprann.errors import FormatError, TrainingError
from gprann.model_file import read_model_file, write_model_file
from gprann.models import NetworkModel
from gprann.runtime.atomic_write import atomic_write
from gprann.training.energy_force_objective import EnergyForceObjective
from gprann.training.objective import EnergyObjective, Problem
from gprann.training.optimizers.adamw import adamw
from gprann.training.optimizers.lbfgs import lbfgs
from gprann.training.optimizers.levenberg_marquardt import levenberg_marquardt
from gprann.training.optimizers.state import OptimizerState
from gprann.training.options import TrainingOptions

__all__ = ["Job"]

_log = logging.getLogger(__name__)
Array = NDArray[np.float64]
_SAVE_EVERY_EPOCHS = 20
# First damping for energies of several compositions. Environments unlike most others begin where tanh is nearly
# saturated; long first steps, which the others decide, would leave them there for tens of iterations.
_MIXED_DAMPING = 1.0


@dataclass(frozen=True, slots=True)
class Job:
    """Energies, and forces and stresses with them, to be fitted by a committee.

    Attributes
    ----------
    problem : Problem
        All structures, in units of `energy_scale`.
    groups : ndarray of int64, shape (n,)
        Structures with the same number (a reference structure and its copies) are held out together.
    options : TrainingOptions
    energy_scale : float, eV
    initial : ndarray, shape (K, P), optional
        Parameters to start from, of member k those of k modulo K; default: random ones.
    """

    problem: EnergyObjective | EnergyForceObjective
    groups: NDArray[np.int64]
    options: TrainingOptions
    energy_scale: float
    initial: Array | None = None

    @property
    def identity(self) -> str:
        """Fingerprint of data and options: a checkpoint of another job is not taken up."""
        digest = hashlib.sha256()
        options = self.options.to_dict()
        del options["members"]  # members are independent: a committee may grow
        facts = [options, self.problem.model.sizes, self.energy_scale, self.problem.settings()]
        digest.update(json.dumps(facts).encode())
        for array in self._arrays().values():
            digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()

    def _arrays(self) -> dict[str, NDArray[Any]]:
        given = {} if self.initial is None else {"initial": self.initial}
        return {**self.problem.arrays(), "groups": self.groups, **given}

    def flops_per_iteration(self) -> float:
        """Return about how much work an iteration of a member is."""
        problem, options = self.problem, self.options
        parameters = problem.model.n_parameters
        rows = problem.n_rows
        if options.optimizer == "lm":
            return min(rows, options.max_rows if options.forces else rows) * parameters**2 + parameters**3 / 3
        products = 50.0 if options.optimizer == "gauss_newton_cg" else 1.0
        return products * 300.0 * rows * parameters

    # ------------------------------------------------------------- training
    def train_member(
        self,
        member: int,
        state: OptimizerState | None = None,
        report: Callable[[OptimizerState], object] | None = None,
    ) -> OptimizerState:
        """Train one member, from its random start or from a saved state.

        Parameters
        ----------
        member : int
            Number of the member; its random stream is (seed, member).
        state : OptimizerState, optional
            Where to go on.
        report : callable, optional
            Called with the state after every iteration.
        """
        options = self.options
        started, earlier = time.perf_counter(), 0.0 if state is None else state.seconds
        rng = np.random.default_rng((options.seed, member))
        train, validation = self._split(rng)
        start = self._start(train, rng, member) if state is None else state

        def notify(current: OptimizerState) -> None:
            current.seconds = earlier + time.perf_counter() - started
            if report is not None:
                report(current)

        stream, frozen = (options.seed, member), self._frozen()
        if options.second_order:
            final = levenberg_marquardt(
                train,
                validation,
                start,
                iterations=options.max_iterations,
                patience=options.max_patience,
                ridge=options.penalty,
                stream=stream,
                frozen=frozen,
                matrix_free=options.optimizer == "gauss_newton_cg",
                report=notify,
            )
            if not final.history and not np.isfinite(train.loss(final.parameters)):
                raise TrainingError(
                    "the loss is infinite or NaN at the start: look for wrong energies in the data"
                )
            return final
        minimise = lbfgs if options.optimizer == "lbfgs" else adamw
        return minimise(train, validation, start, options, stream, frozen=frozen, report=notify)

    def _frozen(self) -> NDArray[np.int64]:
        """Return the parameters of the frozen layers."""
        return np.concatenate(
            [np.zeros(0, np.int64)]
            + [
                np.arange(weights.start, biases.stop)
                for _, layer, weights, biases in self.problem.model.layers()
                if layer in self.options.frozen
            ]
        )

    def _split(self, rng: np.random.Generator) -> tuple[Problem, Problem]:
        """Return training and held-out structures; a group is never divided, and one alone would tell nothing."""
        groups = np.unique(self.groups)
        n_held = round(self.options.validation * len(groups))
        held = rng.permutation(groups)[: min(n_held, len(groups) - 1) if n_held > 1 else 0]
        mask = np.isin(self.groups, held)
        everything = np.arange(self.problem.size)
        return self.problem.select(everything[~mask]), self.problem.select(everything[mask])

    def _start(self, train: Problem, rng: np.random.Generator, member: int) -> OptimizerState:
        """Return the given parameters, or the best of several random starts; a bad start never recovers.

        Successive halving: all starts get a few cheap iterations, the best quarter of them twice as many, and
        so on. They are judged on structures they have not seen; where there are too few of them by the loss
        with its ridge, because errors alone would favour the wildest function.
        """
        if self.initial is not None:
            return OptimizerState.start(self.initial[member % len(self.initial)])
        options = self.options
        starts = [self.problem.model.initial(rng) for _ in range(options.random_starts)]
        states = [self._fresh(parameters) for parameters in starts]
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
            penalty = options.penalty * trial.total_weight
            return trial.loss(state.parameters) + penalty * float(state.parameters @ state.parameters)

        iterations = options.start_iterations
        while len(states) > 1:
            for state in states:
                state.finished = False
                most = state.iteration + iterations
                levenberg_marquardt(
                    trial,
                    nothing,
                    state,
                    iterations=most,
                    patience=most,
                    ridge=options.penalty,
                    stream=(options.seed, member, 0, 3),
                    frozen=self._frozen(),
                    matrix_free=options.optimizer == "gauss_newton_cg",
                )
            states.sort(key=loss)
            states = states[: -(-len(states) // 4)]
            iterations *= 2
        best = OptimizerState.start(states[0].parameters)
        best.numbers.update(states[0].numbers)
        return best

    def _fresh(self, parameters: Array) -> OptimizerState:
        """Return the state of a random start."""
        state = OptimizerState.start(parameters)
        options = self.options
        if options.second_order and not options.forces and np.ptp(self.problem.counts, axis=0).any():
            state.numbers["damping"] = _MIXED_DAMPING
        return state

    def resume_member(
        self,
        folder: Path,
        member: int,
        identity: str,
        report: Callable[[OptimizerState], object] | None = None,
    ) -> OptimizerState:
        """Train a member with its state kept in `folder`, going on where an interrupted run stopped."""
        path = folder / f"member_{member:03d}.state"
        try:
            state = OptimizerState.load(path, identity)
        except FormatError:  # cut short by a dying disk: this member starts anew
            state = None
        if state is not None and state.finished:
            return state
        if state is None and path.exists():
            _log.warning(
                "%s belongs to another job (data or options have changed): the member starts anew", path
            )
        every = _SAVE_EVERY_EPOCHS if self.options.optimizer == "adamw" else 1

        def keep(current: OptimizerState) -> None:
            if current.iteration % every == 0 or current.finished:
                current.save(path, identity)
            if report is not None:
                report(current)

        final = self.train_member(member, state, keep)
        final.save(path, identity)
        return final

    # --------------------------------------------------------------- folder
    def save(self, folder: Path) -> str:
        """Write the job for worker processes; return its identity."""
        identity = self.identity
        for name, array in self._arrays().items():
            with atomic_write(folder / f"{name}.npy", "wb", sync=False) as stream:
                np.lib.format.write_array(stream, np.ascontiguousarray(array), allow_pickle=False)
        model = self.problem.model
        document = {
            "kind": "training job",
            "identity": identity,
            "options": self.options.to_dict(),
            "energy_scale": self.energy_scale,
            "names": list(self._arrays()),
            "problem": self.problem.settings(),
            "n_features": model.n_features,
            "n_species": model.n_species,
        }
        write_model_file(folder / "job.gprann", document, {})
        return identity

    @classmethod
    def load(cls, folder: Path) -> tuple[Job, str]:
        """Read a job that `save` wrote; the arrays are mapped, not copied."""
        document, _ = read_model_file(folder / "job.gprann")
        options = TrainingOptions(**document["options"])
        arrays = {
            name: np.asarray(np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False))
            for name in document["names"]
        }
        model = NetworkModel(
            document["n_features"], options.hidden, document["n_species"], options.activation
        )
        settings = document["problem"]
        problem = (
            EnergyForceObjective.from_arrays(model, arrays, settings)
            if settings["kind"] == "combined"
            else EnergyObjective.from_arrays(model, arrays)
        )
        job = cls(problem, arrays["groups"], options, document["energy_scale"], arrays.get("initial"))
        return job, document["identity"]
