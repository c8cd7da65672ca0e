"""Choices of `method = "auto"`: how a potential is made, found by left-out structures of the training set.

1. A part of the training structures is left out, as a test set would be.
2. A surrogate is fitted to the others, and networks with each candidate descriptor are trained directly on their
   energies and forces.
3. Where the surrogate is better on the structures left out, networks are also trained on copies that it labels with
   energies and forces (distillation).
4. The best way is taken for the whole training set, with as many networks as the time allows.

What a user has set is kept, and says so in the table of choices.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any

import numpy as np

from gprann.augmentation.displacements import DistanceLimits
from gprann.augmentation.dynamics import strangeness
from gprann.augmentation.gpr import augment
from gprann.augmentation.policies import CopyOptions
from gprann.config.sections import (
    AugmentationSection,
    Config,
    DescriptorSection,
    SurrogateSection,
    TrainingSection,
)
from gprann.data.structure import Dataset, evenly_spread
from gprann.descriptors import Descriptor
from gprann.errors import GprannError
from gprann.evaluation.metrics import number
from gprann.evaluation.report import Predictor, evaluate
from gprann.models.network import Mlp
from gprann.options import Options
from gprann.pipeline.checkpoints import Stages, data_digest, digest
from gprann.pipeline.choices import Candidate, Choice, Plan
from gprann.pipeline.inputs import split_test_set, surrogate_within_memory, with_hyperparameters
from gprann.pipeline.students import FEATURES, Student, students
from gprann.surrogate.sets.surrogate_set import SurrogateSet, fit_each
from gprann.training.optimizers import Optimizer, Workload
from gprann.training.train import train
from gprann.version import __version__

_log = logging.getLogger(__name__)
_LEFT_OUT = 0.2  # part of the structures by which the candidates are judged
_MOST_LEFT_OUT = 60
_FEWEST_LEFT_OUT = 4  # fewer would decide nothing
_WIDTHS = ((5, 5), (10, 10), (16, 16), (20, 20), (24, 24))
_EQUATIONS = 3.0  # energies and force components for each weight of a network, at least
_LABELS = 8.0  # the same of a network that learns from copies, which cost little
_COPIES = (2, 36)  # of each structure
_WORTH = 0.05  # part of its errors by which twice as many copies must improve a network
_WORTH_SPEED = 0.2  # part of its errors by which a slow descriptor must improve a network
_RATE = 6e10  # floating-point operations of training in a second, on two usual processors
_TRIALS = 0.3  # part of the time that goes into trials
_ITERATIONS = 60  # of a network, usually
_FEWEST_ITERATIONS = 20
_TEACHER_LABELS = (
    12000  # of the surrogate in the trials; larger sets are learned from directly in the same time
)
_NOTHING_TO_LEARN = (
    0.9  # errors of a direct network in units of the surrogate's, below which it needs no teacher
)
_MEMBERS = 4
_DESCRIPTORS: tuple[dict[str, Any], ...] = ({"kind": "chebyshev"}, {"kind": "density", "features": FEATURES})
_SECTIONS = ("descriptor", "surrogate", "augmentation", "training")
_FEWEST_FOR_DYNAMICS = 10  # structures
_STRANGE = 4.0  # times as uncertain as structures left out: dynamics leads away from the data


def choose(config: Config, data: Dataset, stages: Stages) -> Plan:
    """Choose how the potential is made, or return the choices of an earlier run.

    Parameters
    ----------
    config : Config
    data : Dataset
        The training structures.
    stages : Stages
        Keep the choices.

    Returns
    -------
    Plan
    """
    plain = {name: part for name, part in config.to_dict().items() if name not in ("data", "output")}
    plain["resources"] = {**plain["resources"], "workers": None, "mpi": False}
    stage = stages.begin("choices", digest(__version__, data_digest(data), plain))
    if stage.skipped:
        plan = Plan.from_dict(stage.left, config)
    else:
        plan = _Chooser(config, data).plan()
        stage.finish([], plan.to_dict())
    for line in plan.summary().splitlines():
        _log.info("%s", line)
    return plan


@dataclass(slots=True)
class _Way:
    """A way to the potential: sections of the configuration."""

    name: str
    augmentation: AugmentationSection
    training: TrainingSection
    descriptor: DescriptorSection
    built: Descriptor
    reason: str = "that of the best candidate"  # for the descriptor


def _options_given(section: Options) -> set[str]:
    """Return the options that the user has set to something else than the default: templates spell defaults out."""
    return set(section.changes())


class _Chooser:
    """Makes the choices for a data set, and notes them down."""

    def __init__(self, config: Config, data: Dataset) -> None:
        self.config, self.data = config, data
        self.choices: list[Choice] = []
        self.candidates: list[Candidate] = []
        count = int(np.floor(min(_LEFT_OUT * len(data), _MOST_LEFT_OUT)))
        held = split_test_set(data, count / max(len(data), 1), config.augmentation.seed)
        self._surrogate = config.surrogate
        self._labelled: tuple[CopyOptions, Dataset] | None = None
        self.judges = data.select(held if len(held) >= _FEWEST_LEFT_OUT else held[:0])
        kept = np.setdiff1d(np.arange(len(data)), held if len(self.judges) else held[:0])
        self.rest = data.select(kept)
        for name in _SECTIONS:
            self._note_given(name, getattr(config, name))

    def note(self, what: str, value: object, reason: str) -> None:
        """Note a choice down, unless the user has made it."""
        if all(choice.what != what for choice in self.choices):
            self.choices.append(Choice(what, str(value), reason))

    def _note_given(self, name: str, section: Options) -> None:
        """Note what the user has set in a section."""
        default = type(section)().to_dict()
        for key, value in section.to_dict().items():
            if value is not None and default.get(key) != value:
                self.choices.append(Choice(f"{name}.{key}", str(value), "given by you", "user"))

    def plan(self) -> Plan:
        """Return the plan."""
        way = self._way()
        members = self._members(way)
        self._note_way(way)
        surrogate = self._surrogate if way.augmentation.uses_surrogate else SurrogateSection()
        optimizer = self._optimizer(way, members)
        config = self.config.model_copy(
            update={
                "method": "manual",
                "surrogate": surrogate,
                "augmentation": way.augmentation,
                "descriptor": way.descriptor,
                "training": way.training.replace(members=members, optimizer=optimizer),
            }
        )
        return Plan(config, tuple(self.choices), tuple(self.candidates), len(self.judges))

    def _note_way(self, way: _Way) -> None:
        """Note what a way implies, as far as nothing has been noted."""
        training, augmentation = way.training, way.augmentation
        count = _parameters(way)
        self.note("training.forces", training.forces, "all labels that there are")
        if isinstance(training.model, Mlp) and training.start_from is None:
            reason = f"{count} parameters: the most that labels and time allow"
            self.note("training.hidden", list(training.model.hidden), reason)
        self.note("descriptor.kind", way.descriptor.kind.name, way.reason)
        if augmentation.uses_surrogate:
            reason = f"about {_LABELS:.0f} labels for each of {count} parameters"
            self.note("augmentation.copies", augmentation.copies, reason)

    # ------------------------------------------------------------------ ways
    def _way(self) -> _Way:
        """Return the best way to the potential."""
        forces = [structure.forces is not None for structure in self.data]
        given = self.config.augmentation
        if not any(forces):
            self.note("training.forces", False, "no structure has forces: networks learn energies alone")
            return self._energies()
        if given.method == "gpr" and not all(forces):
            self.note("augmentation.method", "none", "a surrogate needs the forces of all structures")
        if given.method != "gpr" or not all(forces):
            return self._best_direct()
        teacher = self._teacher()
        if teacher is None:
            self.note(
                "augmentation.method", "none", "there is no surrogate: direct training on energies and forces"
            )
            return self._best_direct()
        if "method" in _options_given(given):
            return self._taught(teacher, self._students(teacher)[-1])
        if not len(self.judges):
            self.note(
                "augmentation.method",
                "gpr",
                f"{len(self.data)} structures are too few to leave some out: copies labelled by the surrogate",
            )
            return self._taught(teacher, self._students(teacher)[-1])
        return self._better(teacher)

    def _energies(self) -> _Way:
        """Return training on energies alone."""
        augmentation = self.config.augmentation.replace(method="none", forces=False)
        section = self.config.descriptor
        built = section.compress(self.data)
        return self._with_size(
            _Way("energies", augmentation, self.config.training, section, built), len(self.data), _EQUATIONS
        )

    def _direct(self) -> list[_Way]:
        """Return ways of direct training, one for each descriptor, with copies only if the user wants some."""
        augmentation, training, given = (
            self.config.augmentation,
            self.config.training,
            self.config.descriptor,
        )
        if augmentation.method == "gpr":
            augmentation = AugmentationSection(method="none", seed=augmentation.seed)
        if augmentation.method != "taylor" and "forces" not in _options_given(training):
            training = training.replace(forces=True)  # Taylor copies have energies alone
        equations = _equations(self.data) if training.forces else len(self.data)
        sections = (
            [given] if _options_given(given) else [DescriptorSection.from_dict(kind) for kind in _DESCRIPTORS]
        )
        ways = []
        for section in sections:
            built = section.compress(self.data)
            way = _Way(f"direct, {section.kind.name}", augmentation, training, section, built)
            ways.append(self._with_size(way, equations, _EQUATIONS))
        return ways

    def _best_direct(self) -> _Way:
        """Return the way of direct training whose descriptor is the best on the structures left out."""
        ways = self._direct()
        if len(ways) == 1 or not len(self.judges) or ways[0].augmentation.method == "taylor":
            return ways[0]
        scores = [self._try(way, self.rest).score(self._scale) for way in ways]
        return ways[int(np.argmin(scores))]

    def _students(self, teacher: SurrogateSet) -> list[Student]:
        """Return the descriptors of networks that learn from a surrogate, the fastest first."""
        given = self.config.descriptor
        if _options_given(given):
            return [Student("taught", given.to_dict(), given.compress(self.data), "you gave its options")]
        return students(teacher, self.data)

    def _taught(self, teacher: SurrogateSet, student: Student) -> _Way:
        """Return training on copies that a surrogate labels with energies and forces."""
        given, training = self.config.augmentation, self.config.training
        forces = next((part.forces for part in (training, given) if "forces" in _options_given(part)), True)
        chosen: dict[str, Any] = {} if "forces" in _options_given(given) else {"forces": forces}
        training = training.replace(forces=forces)
        if not {"policy", "displacement"} & _options_given(given):
            chosen["policy"] = self._policy(teacher)
        section = DescriptorSection.from_dict(student.options)
        way = _Way(student.name, given, training, section, student.built, student.reason)
        way = self._with_size(way, np.inf, _LABELS)
        if given.copies is None:
            wanted = _LABELS * _parameters(way) / max(_equations(self.data), 1)
            chosen["copies"] = int(np.clip(np.ceil(wanted), *_COPIES))
        way.augmentation = given.replace(**chosen)
        return way

    def _best_taught(self, teacher: SurrogateSet) -> tuple[_Way, float]:
        """Return training on copies with the best descriptor, and its score; slow ones must be clearly better."""
        fastest, *slower = self._students(teacher)
        best, best_score = self._with_copies(self._taught(teacher, fastest), teacher)
        for student in slower:
            way = replace(self._taught(teacher, student), augmentation=best.augmentation)
            score = self._try(way, self._copies(way, teacher)).score(self._scale)
            if score < (1.0 - _WORTH_SPEED) * best_score:
                best, best_score = way, score
        return best, best_score

    def _copies(self, way: _Way, teacher: SurrogateSet) -> Dataset:
        """Return the structures that are not left out with copies; the last ones are kept for the next network."""
        options = CopyOptions.part_of(way.augmentation)
        if self._labelled is None or self._labelled[0] != options:
            self._labelled = options, augment(self.rest, teacher, progress=False, **options.changes())
        return self._labelled[1]

    def _with_copies(self, way: _Way, teacher: SurrogateSet) -> tuple[_Way, float]:
        """Return training on copies, twice as many as long as that lowers the errors and time allows, and their score.

        Networks are judged on the structures left out. A number of copies that is given is kept.
        """
        best, best_score, tried = way, np.inf, way
        while True:
            score = self._try(tried, self._copies(tried, teacher)).score(self._scale)
            if not score < (1.0 - _WORTH) * best_score:
                break
            best, best_score = tried, score
            known = tried.augmentation.copies or _COPIES[1]
            count = known if self.config.augmentation.copies else min(2 * known, _COPIES[1])
            more = way.augmentation.replace(copies=count)
            tried = replace(way, name=f"taught, {count} copies", augmentation=more)
            slow = self._seconds(tried, self._rows(tried)) > self._time * (1 - _TRIALS)
            if slow or count == known:
                break
        if best is not way:
            self.note("augmentation.copies", best.augmentation.copies, "errors of networks fell up to here")
        return best, best_score

    def _policy(self, teacher: SurrogateSet) -> str:
        """Return how copies are made: along dynamics, too, where the surrogate knows its structures."""
        what = "augmentation.policy"
        surrogate, indices = max(teacher, key=lambda item: len(item[1]))
        if len(indices) < _FEWEST_FOR_DYNAMICS:
            self.note(
                what, "gaussian", f"{len(indices)} structures are too few for dynamics with their surrogate"
            )
            return "gaussian"
        if surrogate.bound is not None:
            self.note(what, "mixture", "where the surrogate knows nothing, the baseline carries its dynamics")
            return "mixture"
        data, given = surrogate.training_set, self.config.augmentation
        ratio = strangeness(surrogate, data, DistanceLimits.of(data, given.min_distance), seed=given.seed)
        reason = f"frames of its dynamics are {ratio:.2g} times as uncertain as structures left out"
        chosen = "mixture" if ratio < _STRANGE else "gaussian"
        self.note(what, chosen, reason)
        return chosen

    # -------------------------------------------------------------- networks
    def _with_size(self, way: _Way, equations: float, ratio: float) -> _Way:
        """Return the way with the largest networks that data and time allow, unless the user has sized them."""
        if "model" in _options_given(self.config.training) or way.training.start_from is not None:
            return way
        labels = min(equations, _COPIES[1] * _equations(self.data))
        fitting = [_WIDTHS[0]]
        for widths in _WIDTHS:
            sized = replace(way, training=way.training.replace(model=Mlp(hidden=widths)))
            rows = ratio * _parameters(sized)
            if rows <= labels and self._seconds(sized, rows) <= self._time * (1 - _TRIALS):
                fitting.append(widths)
        return replace(way, training=way.training.replace(model=Mlp(hidden=fitting[-1])))

    def _seconds(self, way: _Way, rows: float, iterations: int = _ITERATIONS) -> float:
        """Return about how long the training of one network takes on usual processors."""
        workload = self._workload(way, rows)
        optimizer, _ = way.training.optimizer.resolve(workload)
        return iterations * optimizer.flops(workload) / _RATE

    def _workload(self, way: _Way, rows: float) -> Workload:
        return Workload(
            n_parameters=_parameters(way),
            n_structures=len(self.data),
            n_rows=int(min(rows, 1e9)),
            forces=way.training.forces,
            largest=int(self.data.n_atoms.max()),
            n_features=way.built.size,
        )

    @property
    def _time(self) -> float:
        return 60.0 * self.config.resources.time

    def _members(self, way: _Way) -> int:
        """Return the number of networks: a committee if the time allows one, whose spread is its uncertainty."""
        if "members" in _options_given(self.config.training):
            return way.training.members
        each = self._seconds(way, self._rows(way))
        members = int(np.clip(self._time * (1 - _TRIALS) / max(each, 1e-9), 1, _MEMBERS))
        what = (
            "their spread is the standard deviation"
            if members > 1
            else "no more in the time: no standard deviation"
        )
        self.note("training.members", members, f"about {each / 60:.1f} min each, {what}")
        return members

    def _rows(self, way: _Way) -> float:
        """Return the number of labels that the networks of a way are trained on."""
        copies = 0 if way.augmentation.method == "none" else way.augmentation.copies or 0
        labels = _equations(self.data) if way.training.forces else len(self.data)
        return float(labels * (1 + copies))

    def _optimizer(self, way: _Way, members: int) -> Optimizer:
        """Return the optimizer with as many iterations as the time allows, unless the user has set them."""
        optimizer = way.training.optimizer
        if optimizer.iterations is not None:
            return optimizer
        each = members * self._seconds(way, self._rows(way), 1)
        most = max(_FEWEST_ITERATIONS, int(self._time * (1 - _TRIALS) / max(each, 1e-9)))
        resolved, _ = optimizer.resolve(self._workload(way, self._rows(way)))
        if most >= resolved.value("iterations"):
            return optimizer
        self.note("training.iterations", most, f"about {each:.1f} s each, all networks together")
        return optimizer.replace(iterations=most)

    # ---------------------------------------------------------------- trials
    @cached_property
    def _scale(self) -> Candidate:
        """Errors of a model that knows nothing but the mean, which errors are compared with."""
        per_atom = self.data.energies / self.data.n_atoms
        forces = [np.abs(s.forces).mean() for s in self.data if s.forces is not None]
        return Candidate(
            "nothing", float(np.std(per_atom)) or 1.0, float(np.mean(forces)) if forces else None, 0.0
        )

    def _teacher(self) -> SurrogateSet | None:
        """Fit the surrogate to the structures that are not left out; None if there can be none."""
        section = surrogate_within_memory(self.config)
        started = time.perf_counter()
        count = int(np.searchsorted(np.cumsum([item.n_labels for item in self.rest]), _TEACHER_LABELS)) + 1
        subset = self.rest.select(evenly_spread(len(self.rest), count))
        try:
            teacher = fit_each(
                subset,
                partial(section.build, seed=self.config.augmentation.seed),
                max_subset=self.config.augmentation.max_subset,
                memory=section.memory,
                progress=False,
            )
        except GprannError as error:
            self.note("surrogate", "none", str(error))
            return None
        kernels = ", ".join(dict.fromkeys(surrogate.kernel.name for surrogate, _ in teacher))
        self.note("surrogate.kernel", kernels, "its hyperparameters from the training structures alone")
        if len(subset) == len(self.rest):
            self._surrogate = with_hyperparameters(self.config.surrogate, teacher, self.data)
            if self._surrogate != self.config.surrogate:
                length = f"{self._surrogate.length:.3g}"
                self.note(
                    "surrogate.length", length, "with noises and descriptor, those of the trial's surrogate"
                )
        if len(self.judges):
            self._judge("surrogate", teacher, time.perf_counter() - started)
        return teacher

    def _judge(self, name: str, model: Predictor, seconds: float) -> Candidate:
        """Note the errors of a model on the structures left out."""
        report = evaluate(model, self.judges, forces_std=0)
        found = Candidate(name, report.energy_per_atom_mae, report.force_mae, seconds)
        self.candidates.append(found)
        _log.info(
            "%s: %s meV/atom, %s meV/Å on %d left-out structures",
            name,
            number(found.energy, 1e3),
            number(found.force, 1e3),
            len(self.judges),
        )
        return found

    def _try(self, way: _Way, data: Dataset) -> Candidate:
        """Train one network on the structures that are not left out, and judge it."""
        started = time.perf_counter()
        rows = _equations(data)
        each = self._seconds(way, rows, 1)
        iterations = int(np.clip(self._time * _TRIALS / 2 / max(each, 1e-9), 10, _ITERATIONS))
        optimizer = way.training.optimizer
        if "iterations" not in optimizer.changes():
            optimizer = optimizer.replace(iterations=iterations)
        options = way.training.replace(members=1, optimizer=optimizer).options()
        potential = train(data, way.built, progress=False, **options)
        return self._judge(way.name, potential, time.perf_counter() - started)

    def _better(self, teacher: SurrogateSet) -> _Way:
        """Return the better of direct training and training on the labels of a surrogate."""
        scores = {"surrogate": self.candidates[-1].score(self._scale)}
        direct = self._best_direct()
        tried = [item for item in self.candidates if item.name == direct.name] or [
            self._try(direct, self.rest)
        ]
        scores["direct"] = tried[0].score(self._scale)
        ratio = scores["direct"] / max(scores["surrogate"], 1e-12)
        if ratio < _NOTHING_TO_LEARN:
            reason = f"errors of direct training are {ratio:.2g} times the surrogate's: no teacher is needed"
            self.note("augmentation.method", "none", reason)
            return direct
        taught, scores["taught"] = self._best_taught(teacher)
        ratio = scores["taught"] / max(scores["direct"], 1e-12)
        best = taught if ratio < 1 else direct
        reason = (
            f"errors with copies that the surrogate labels are {ratio:.2g} times those of direct training"
        )
        self.note("augmentation.method", best.augmentation.method, reason)
        return best


def _parameters(way: _Way) -> int:
    """Return the number of parameters of a network."""
    return int(way.training.model.build(way.built.size, len(way.built.species)).n_parameters)


def _equations(data: Dataset) -> int:
    """Return the number of energies and force components."""
    return sum(1 + (0 if structure.forces is None else 3 * len(structure)) for structure in data)
