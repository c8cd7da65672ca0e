"""Training of committees of networks: targets from labels, members, and the potential that they make."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gprann.arrays import Array
from gprann.baselines import CalculatorBaseline, as_baseline, terms_of
from gprann.data.structure import Composition, Dataset
from gprann.descriptors import Descriptor
from gprann.errors import ConfigError, DataError, TrainingError
from gprann.io.checks import geometry_digest
from gprann.io.reading import Source, structures
from gprann.models import Linear, PolynomialModel, Quadratic
from gprann.potential import Potential
from gprann.runtime.executors import Workers
from gprann.runtime.messages import progress_bar
from gprann.runtime.resources import n_threads
from gprann.runtime.role import current_team
from gprann.signatures import takes
from gprann.training.committee import MemberProgress, train_members
from gprann.training.linear import fit_polynomials, refuse_options_of_networks
from gprann.training.optimizers.base import OptimizerState
from gprann.training.options import RankOptions, TrainingOptions
from gprann.training.prepared import Learner, Prepared, record_compositions, record_data
from gprann.training.streamed import features_folder, prepare_streamed
from gprann.training.task import make_task

if TYPE_CHECKING:
    from gprann.training.member import CommitteeTask
    from gprann.training.ranks import Team

_log = logging.getLogger(__name__)
_DRAWS = 8  # from the posterior of linear models


@takes(RankOptions, TrainingOptions)
def train(
    data: Source,
    descriptor: Descriptor,
    *,
    start_from: Potential | str | os.PathLike[str] | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    workers: Workers | None = None,
    progress: bool | None = None,
    **options: Any,
) -> Potential:
    """Train networks on a data set: on energies, or on energies, forces and stresses.

    Parameters
    ----------
    data : Dataset, or anything that `gprann.read` takes
        Structures with energies; usually the result of `augment`. With `forces=True` those that have forces
        count with them.
    descriptor : Descriptor
    start_from : Potential or path, optional
        A potential to go on from (fine-tuning): its networks, normalisation and energy scale, and, unless others
        are given, its baseline. Calculators on which the potential of a file builds are given too: `baseline`. Member
        k starts from its member k; by default there are as many members.
    checkpoint : path, optional
        Folder in which the state of every member is kept: run again with the same data and options, training
        goes on where it was interrupted and ends with the same bits.
    workers : int, str or concurrent.futures.Executor, optional
        Processes that train members side by side; or "mpi", "dask:ADDRESS" or an executor that does it on other
        machines, which see the folder of the checkpoint or else the working directory. Default: one per thread for
        committees that are worth it.
    progress : bool, optional
        Show a progress bar; default: on a terminal only.
    **options
        Fields of `TrainingOptions`, and of the chosen model and optimizer beside them.

    Returns
    -------
    Potential
        With `members` networks; its `provenance["training"]["history"]` holds the learning curves.

    Raises
    ------
    ConfigError
        If an option is misspelt or impossible.
    DataError
        If structures lack energies or have elements unknown to the descriptor.
    TrainingError
        If training diverged.

    Examples
    --------
    >>> import gprann
    >>> data = gprann.examples.hydrogen(7)
    >>> descriptor = gprann.ChebyshevDescriptor(["H"], radial_order=10, radial_cutoff=8.0, angular_order=None)
    >>> potential = gprann.train(data, descriptor, hidden=(5, 5), optimizer="lm", iterations=20, seed=1)
    >>> potential.provenance["training"]["n_structures"]
    7
    """
    how = _How(start_from, checkpoint, workers, progress)
    ranks = RankOptions(**{name: options.pop(name) for name in RankOptions.model_fields if name in options})
    if not ranks.mpi:
        return _train(data, descriptor, how, options, current_team())
    from gprann.training.ranks import lead

    return lead(lambda: _train(data, descriptor, how, options, current_team()))


@dataclass(frozen=True, slots=True)
class _How:
    """Arguments of `train` that are no options."""

    start_from: Potential | str | os.PathLike[str] | None
    checkpoint: str | os.PathLike[str] | None
    workers: Workers | None
    progress: bool | None


def _train(
    data: Source,
    descriptor: Descriptor,
    how: _How,
    options: dict[str, Any],
    team: Team | None,
) -> Potential:
    """Train with the structures divided among ranks, if there are any."""
    if not isinstance(descriptor, Descriptor):
        raise ConfigError(
            f"descriptor is {descriptor!r}; expected a descriptor, for example "
            f"gprann.ChebyshevDescriptor(['C', 'H', 'O'])"
        )
    base = None
    if how.start_from is not None:
        start = how.start_from
        base = start if isinstance(start, Potential) else _load_base(start, options)
        options = _like(base, descriptor, options)
    settings = TrainingOptions(**options)
    started = time.perf_counter()
    model = settings.model.build(descriptor.size, len(descriptor.species))
    model.frozen_parameters(settings.frozen)  # raises if there are no such layers
    if settings.store is None:
        data = structures(data)
        if len(data) == 0:
            raise DataError("the training set is empty; give at least one structure with an energy")
    if isinstance(model, PolynomialModel):
        if team is not None:
            _log.warning("mpi has no effect: %s models are fitted in one process", model.options.name)
        return _fit_in_closed_form(data, descriptor, model, settings)
    if team is not None and settings.store is not None:
        raise ConfigError(
            "store has no effect with mpi, which divides the features among the ranks; leave one out"
        )
    folder = None if how.checkpoint is None else Path(how.checkpoint)
    setting = Learner(descriptor, model, settings, base)
    streaming = nullcontext() if team is not None else features_folder(data, descriptor, settings, folder)
    with streaming as features:
        prepared = (
            _in_memory(structures(data), setting, team)
            if features is None
            else prepare_streamed(data, setting, features)
        )
        task = prepared.task
        workers = how.workers if team is None else _one_at_a_time(team, task.options)
        with _Bar(task.options, task.energy_scale, how.progress) as bar:
            states = train_members(task, folder=folder, workers=workers, progress=bar)
    return Potential(
        descriptor,
        prepared.normalisation,
        model,
        _best_parameters(states),
        baseline=prepared.baseline,
        energy_scale=task.energy_scale,
        guard=prepared.guard,
        provenance={"training": {**prepared.record, **_record_members(task, states, started)}},
    )


def _one_at_a_time(team: Team, settings: TrainingOptions) -> int:
    """Return the number of members that are trained side by side where all ranks work at each of them."""
    _log.info("structures are divided among %d ranks, with %d threads on this one", team.size, n_threads())
    if settings.members >= team.size:
        _log.info(
            "%d members are trained one after the other by all ranks; worker processes, without mpi, train them side "
            "by side with less waiting, if the memory of one machine suffices",
            settings.members,
        )
    return 1


@takes(TrainingOptions)
def fit_linear(
    data: Source,
    descriptor: Descriptor,
    *,
    quadratic: bool = False,
    ridge: str | float = "evidence",
    folds: int = 5,
    **options: Any,
) -> Potential:
    """Fit a linear or quadratic potential in closed form to energies, and to the forces of structures that have some.

    The same as `train(..., model="linear")` or `model="quadratic"`, with eight draws from the posterior as members,
    whose spread is the standard deviation of predictions.

    Parameters
    ----------
    data : Dataset, or anything that `gprann.read` takes
    descriptor : Descriptor
        With `DensityDescriptor` the linear potential is linear ACE.
    quadratic : bool
        Whether products of two components of the descriptor count too.
    ridge : {"evidence", "cross_validation", "ard"} or float
        Most probable ridge (marginal likelihood), that of the smallest errors of held-out structures, one ridge for
        each coefficient by evidence, or a number in units of the mean square of the equations.
    folds : int
        Parts of the data that are held out in turn, to find what is not given and to calibrate standard deviations.
    **options
        Those of `train` that do not belong to networks.

    Returns
    -------
    Potential

    Raises
    ------
    ConfigError, DataError
        As `train` does.

    Notes
    -----
    Linear: Thompson et al., J. Comput. Phys. 285, 316 (2015); quadratic: Wood, Thompson, J. Chem. Phys. 148, 241721
    (2018); on the density descriptor: Drautz, Phys. Rev. B 99, 014104 (2019).

    Examples
    --------
    >>> import gprann
    >>> data = gprann.examples.hydrogen(20)
    >>> descriptor = gprann.ChebyshevDescriptor(["H"], radial_order=10, radial_cutoff=8.0, angular_order=None)
    >>> potential = gprann.fit_linear(data, descriptor, quadratic=True)
    >>> potential.model, len(potential)
    (quadratic, 11 components, 8)
    """
    data = structures(data)
    forces = any(item.forces is not None for item in data)
    defaults = {"forces": forces, "members": _DRAWS}
    model = (Quadratic if quadratic else Linear)(regularisation=ridge, folds=folds)  # type: ignore[arg-type]
    return train(data, descriptor, **{**defaults, **options, "model": model})


def _fit_in_closed_form(
    data: Source,
    descriptor: Descriptor,
    model: PolynomialModel,
    settings: TrainingOptions,
) -> Potential:
    """Fit a linear or quadratic potential, which needs no start and no optimiser."""
    started = time.perf_counter()
    refuse_options_of_networks(settings)
    data = structures(data)
    baseline = Learner(descriptor, model, settings).fit_baseline(data)
    compositions = record_compositions(_compositions(data), settings, None)
    settings = settings.replace(baseline=None, reference_energies=None)
    fitted = fit_polynomials(baseline.subtract(data), descriptor, model, settings)
    prepared = fitted.prepared
    record = {**_record(data, settings), **fitted.facts, "seconds": round(time.perf_counter() - started, 1)}
    return Potential(
        descriptor,
        prepared.normalisation,
        model,
        fitted.parameters,
        baseline=baseline,
        std_factors=fitted.std_factors,
        guard=prepared.guard,
        provenance={"training": {**record, **compositions}},
    )


def _load_base(start_from: str | os.PathLike[str], options: Mapping[str, Any]) -> Potential:
    """Return the potential of a file; the calculators on which it builds are those of the option `baseline`."""
    given = [
        term
        for term in terms_of(as_baseline(options.get("baseline")))
        if isinstance(term, CalculatorBaseline)
    ]
    return Potential.load(start_from, baseline=as_baseline(given))


def _like(base: Potential, descriptor: Descriptor, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options with the model of the potential to go on from, if it fits.

    Raises
    ------
    ConfigError
        If the descriptor or the model is another one than asked for.
    """
    if isinstance(base.model, PolynomialModel):
        raise ConfigError(
            f"start_from: a {base.model.options.name} model is fitted anew to all data, there is nothing to start "
            "from; leave it out, and give old and new structures together"
        )
    if base.descriptor != descriptor:
        raise ConfigError(
            f"start_from: its descriptor is {base.descriptor!r}, not {descriptor!r}; use its own"
        )
    own = base.model.options
    shape = {name: options[name] for name in ("model", *type(own).model_fields) if name in options}
    asked = TrainingOptions(**shape).model if shape else own
    if type(asked) is not type(own):
        raise ConfigError(f"model = {asked.name}: the potential to start from is {own.name}; leave it out")
    for name in sorted(asked.model_fields_set if shape else ()):
        if getattr(asked, name) != getattr(own, name):
            raise ConfigError(
                f"{name} = {getattr(asked, name)}: the potential to start from has {getattr(own, name)}; leave it out"
            )
    members = options.get("members", len(base))
    _log.info("%d members, which start from the %d of the potential given", members, len(base))
    others = {name: value for name, value in options.items() if name not in shape}
    return {**others, "model": own, "members": members}


def _in_memory(data: Dataset, setting: Learner, team: Team | None) -> Prepared:
    """Compute the features of a data set, and set up what is to be minimised."""
    labels = sum(item.n_labels for item in data) if setting.options.forces else len(data)
    settings, reason = setting.choose_optimizer(len(data), labels, len({item.composition for item in data}))
    baseline = setting.fit_baseline(data)
    compositions = record_compositions(_compositions(data), setting.options, setting.base)
    data = baseline.subtract(data)
    normalisation, guard, task, weighting = make_task(
        data, setting.descriptor, setting.model, settings, base=setting.base, team=team
    )
    record = {
        **_record(data, task.options),
        **compositions,
        "optimizer_reason": reason,
        "weighting": weighting,
    }
    return Prepared(normalisation, guard, task, baseline, record)


def _compositions(data: Dataset) -> list[Composition]:
    return [structure.composition for structure in data]


def _record(data: Dataset, settings: TrainingOptions) -> dict[str, Any]:
    references = [geometry_digest(item) for item in data if item.origin.method == "reference"]
    return record_data(len(data), references, settings)


def _best_parameters(states: list[OptimizerState]) -> Array:
    """Return the best parameters of every member, shape (K, P)."""
    for member, state in enumerate(states):
        _log.info("member %d: %d iterations, %s", member, state.iteration, state.reason)
    parameters = np.array([state.best for state in states])
    if not np.isfinite(parameters).all():
        raise TrainingError(
            "training ended with parameters that are not finite; look for wrong energies in the data"
        )
    return parameters


def _record_members(task: CommitteeTask, states: list[OptimizerState], started: float) -> dict[str, Any]:
    """Return how the members were trained, as plain data."""
    return {
        "seconds": round(time.perf_counter() - started, 1),
        "member_seconds": [round(state.seconds, 2) for state in states],
        "history": [_history(state, task.energy_scale) for state in states],
        "held_out": [_last_errors(state, task.energy_scale) for state in states],
        "ended": [state.reason for state in states],
    }


def _history(state: OptimizerState, scale: float) -> list[list[float | None]]:
    """Return [iteration, training error, validation error] for each iteration, eV."""
    return [
        [step.iteration, step.train * scale, None if np.isnan(step.validation) else step.validation * scale]
        for step in state.history
    ]


def _last_errors(state: OptimizerState, scale: float) -> dict[str, float | None]:
    """Return the root mean square errors of the held-out structures at the best state, eV and eV/Å."""
    best = state.history[state.best_iteration - 1] if state.history else None
    values = {"energy": getattr(best, "energy", np.nan), "force": getattr(best, "force", np.nan)}
    return {name: None if np.isnan(value) else scale * value for name, value in values.items()}


class _Bar:
    """Progress of all members as one bar: iterations of every member, with the current errors."""

    def __init__(self, options: TrainingOptions, scale: float, show: bool | None) -> None:
        total = options.members * options.optimizer.value("iterations")
        self._bar = progress_bar(total, "training", unit="it", show=show)
        self._scale = scale
        self._done: dict[int, int] = {}

    def __enter__(self) -> _Bar:
        return self

    def __call__(self, state: MemberProgress) -> None:
        self._bar.update(state.iteration - self._done.get(state.member, 0))
        self._done[state.member] = state.iteration
        self._bar.set_postfix_str(f"member {state.member}: {self._errors(state)}")

    def _errors(self, state: MemberProgress) -> str:
        train, error = 1e3 * self._scale * state.train, 1e3 * self._scale * state.error
        if state.force is None:
            return f"train {train:.2f} meV, held out {error:.2f} meV"
        energy = "" if state.energy is None else f"{1e3 * self._scale * state.energy:.2f} meV, "
        return f"held out {energy}{self._scale * state.force:.4f} eV/Å"

    def __exit__(self, *exception: object) -> None:
        self._bar.close()
