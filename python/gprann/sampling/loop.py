"""The loop of an exploration: fit, simulate, choose from before the failure, label, fit again.

After Xu et al., stability-indicated sampling (2023), with the temperature window of the canonical ensemble, several
replicas, and held-out errors beside stability. Every stage leaves a file when it is complete, and everything that is
drawn at random follows from the seed, the generation and the replica: a run that was killed does the stage of that
moment again, with the same numbers. Each label is on the disk before the next is computed.
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gprann.data.structure import Dataset, Origin, Structure
from gprann.dynamics.options import MdOptions
from gprann.errors import GprannError, listing
from gprann.io import atomic_write, write
from gprann.io.reading import structures
from gprann.potential import Potential, load
from gprann.runtime.atomic_write import make_folder
from gprann.sampling.choice import choose, evenly, new_frames, shares, thin
from gprann.sampling.options import (
    ChoiceOptions,
    ConvergenceOptions,
    ReferenceOptions,
    ReplicaOptions,
    StartOptions,
)
from gprann.sampling.records import read_record
from gprann.sampling.reference import Labelled, Reference
from gprann.sampling.replica import (
    Frame,
    Outcome,
    degrees_of_freedom,
    read_frames,
    run_replica,
    sound_frames,
)
from gprann.sampling.results import Exploration, Generation
from gprann.surrogate import Surrogate

_log = logging.getLogger(__name__)
Fit = Callable[[Dataset, Path], "Potential | Surrogate"]
"""Fits a model to all labels from scratch; the folder is for checkpoints."""
_FRUITLESS = 3  # generations without new labels after which nothing more is to be expected
_COPY = (-1, -1)  # in the place of replica and step
_LEAST = 1.0  # ps, to which a replica runs even if another one has failed
_START, _CHOICE, _REFERENCE, _REPLICAS = range(4)  # what random numbers are for; generations follow the last


@dataclass(frozen=True, slots=True)
class Plan:
    """Structures and options of an exploration.

    Attributes
    ----------
    starts : Dataset
        Structures in which replicas begin, in turn.
    labels : Dataset or None
        First labels.
    test : Dataset or None
        Structures with labels that are held out.
    """

    starts: Dataset
    labels: Dataset | None
    test: Dataset | None
    start: StartOptions
    reference: ReferenceOptions
    replicas: ReplicaOptions
    choice: ChoiceOptions
    convergence: ConvergenceOptions


def explore_plan(plan: Plan, fit: Fit, folder: Path, *, plots: bool) -> Exploration:
    """Explore, or go on in a folder.

    Parameters
    ----------
    plan : Plan
    fit : callable
    folder : Path
    plots : bool
        Whether to draw the generations.

    Raises
    ------
    ConfigError
        If the calculator cannot be made or gives no forces, or an option does not suit the structures.
    GprannError
        If the reference failed for all structures of a generation, or a fit failed.
    """
    return _Run(plan, fit, folder, plots).run()


class _Run:
    def __init__(self, plan: Plan, fit: Fit, folder: Path, plots: bool) -> None:
        self._plan, self._fit, self._folder, self._plots = plan, fit, folder, plots
        self._reference = Reference(plan.reference, folder)

    # ------------------------------------------------------------------ run
    def run(self) -> Exploration:
        """Do generation after generation until there is a reason to end."""
        for start in self._plan.starts:  # refuses what cannot move
            degrees_of_freedom(start, self._plan.replicas.of_replica(0))
        data, done = self._first_labels(), list[Generation]()
        while True:
            generation = self._generation(len(done), data)
            done.append(generation)
            reason = self._end(done)
            result = self._report(done, reason, data)
            if reason:
                return result
            data = data + self._labels_of(generation)

    def _end(self, done: Sequence[Generation]) -> str:
        """Return why to end now, nothing if there is no reason."""
        limits, last = self._plan.convergence, done[-1]
        if last.is_good(limits.force_error):
            return f"{last.labels} labels"
        if len(done) >= limits.generations:
            return f"generations = {limits.generations}"
        if limits.max_labels is not None and last.labels + last.added > limits.max_labels:
            return f"max_labels = {limits.max_labels}"
        if len(done) >= _FRUITLESS and not any(one.added for one in done[-_FRUITLESS:]):
            return f"no structure of the last {_FRUITLESS} generations could be labelled"
        return ""

    def _report(self, done: Sequence[Generation], reason: str, data: Dataset) -> Exploration:
        limits, last = self._plan.convergence, done[-1]
        good = last.is_good(limits.force_error)
        result = Exploration(self._folder, tuple(done), good, reason or "goes on", limits.force_error)
        write(self._folder / "train.extxyz", self._divide(data)[0])
        model = (self._place(last.number) / "potential.gprann").read_bytes()
        with atomic_write(result.potential, "wb") as stream:
            stream.write(model)
        result.save(plots=self._plots and bool(reason))
        _log.info("%s", result.summary().splitlines()[-1] if reason else self._line(last))
        return result

    @staticmethod
    def _line(one: Generation) -> str:
        alive = sum(item.survived for item in one.replicas)
        shortest = min(item.time for item in one.replicas)
        error = "" if one.error is None else f", force error {1e3 * one.error:.0f} meV/Å"
        text = (
            f"generation {one.number}, {one.labels} labels: {alive} of {len(one.replicas)} replicas survived"
        )
        return f"{text}, the shortest {shortest:.3g} ps{error}; {one.added} new labels"

    def _place(self, number: int) -> Path:
        return self._folder / f"generation_{number:03d}"

    def _rng(self, *numbers: int) -> np.random.Generator:
        return np.random.default_rng([self._plan.replicas.seed, *numbers])

    # --------------------------------------------------------------- labels
    def _first_labels(self) -> Dataset:
        """Return the labels that were given, or computed at the start."""
        plan, file = self._plan, self._folder / "start.extxyz"
        if plan.labels is not None:
            return _number(plan.labels, "start")
        if not file.exists():
            options = plan.start
            if options.method == "rattle":
                moved = self._displace(options.count, options.displacement, self._rng(_START))
                found = self._reference.label(moved)
            else:
                found = self._start_by_reference()
            self._warn(found, "start")
            if not len(found.data):
                raise GprannError(
                    f"start: no structure could be labelled: {listing(found.refused, 1)}; give other structures, or a "
                    "larger reference.max_force"
                )
            write(file, found.data)
        return _number(structures(file), "start")

    def _displace(self, count: int, size: float, rng: np.random.Generator) -> list[Structure]:
        """Return displaced copies of the structures in which replicas begin; fixed atoms move too."""
        starts = self._plan.starts
        chosen = [starts[k % len(starts)] for k in range(count)]
        return [
            item.with_positions(item.positions + rng.normal(0.0, size, item.positions.shape))
            for item in chosen
        ]

    def _start_by_reference(self) -> Labelled:
        """Label frames of simulations with the reference, from every structure."""
        starts, stride = self._plan.starts, self._plan.choice.stride
        data, refused = Dataset(), tuple[str, ...]()
        for k, count in enumerate(shares(self._plan.start.count, len(starts))):
            frame = Frame(-1, 0, 0.0, starts[k], np.zeros((len(starts[k]), 3)))
            options = self._reference_options(count * stride, 0, k, start="thermal")
            found = self._reference.simulate(frame, count * stride, stride, options)
            data, refused = data + found.data, refused + found.refused
        return Labelled(data, refused)

    def _reference_options(self, steps: int, step: int, *numbers: int, start: str) -> MdOptions:
        """Return the options of a simulation with the reference, from a step of a replica on."""
        replicas = self._plan.replicas
        seed = int(self._rng(_REFERENCE, *numbers).integers(2**31))
        return replicas.of_replica(seed).replace(
            start=start,
            length=1e-3 * steps * replicas.time_step,
            temperature=replicas.temperature_at(step),
            final_temperature=None,
            max_deviation=None,
            max_grade=None,
        )

    def _warn(self, found: Labelled, where: str) -> None:
        for reason in found.refused:
            _log.warning("%s: a label is refused: %s", where, reason)

    def _divide(self, data: Dataset) -> tuple[Dataset, Dataset]:
        """Return the labels to fit, and those that are set aside."""
        share = self._plan.convergence.share
        if self._plan.convergence.test is not None or share == 0:
            return data, Dataset()
        every = max(2, round(1.0 / share))
        aside = [k % every == every - 1 for k in range(len(data))]
        fitted = [item for item, out in zip(data, aside, strict=True) if not out]
        return Dataset(fitted), Dataset(item for item, out in zip(data, aside, strict=True) if out)

    # ----------------------------------------------------------- generation
    def _generation(self, number: int, data: Dataset) -> Generation:
        """Do what is left of a generation."""
        place, file = self._place(number), self._place(number) / "generation.json"
        limits = self._plan.convergence
        if file.exists():
            known = read_record(file, Generation)
            if known.chosen or known.is_good(limits.force_error):
                return known
        make_folder(place)
        fitted, aside = self._divide(data)
        model = self._model(place, fitted)
        held_out = aside if self._plan.test is None else self._plan.test
        error = _force_error(model, held_out) if len(held_out) else None
        outcomes: list[Outcome] = []
        for k in range(self._plan.replicas.replicas):
            outcomes.append(self._replica(number, k, model, outcomes))
        survived = all(item.survived for item in outcomes)
        done = survived and error is not None and error < limits.force_error
        chosen, new = ([], Labelled(Dataset(), ())) if done else self._learn(number, model, outcomes, data)
        new_error = _force_error(model, new.data) if len(new.data) else None
        tested = len(held_out)
        # Labels along the surviving runs. One that is refused, or none that can be used, is no good sign.
        if survived and not tested and chosen and not new.refused and _COPY not in chosen:
            error, tested = new_error, len(new.data)
        self._warn(new, place.name)
        generation = Generation(
            number,
            len(fitted),
            tuple(outcomes),
            error,
            tested,
            new_error,
            tuple(chosen),
            len(new.data),
            new.refused,
            self._reference.calls,
        )
        with atomic_write(file) as stream:
            stream.write(json.dumps(generation.to_dict(), indent=1, ensure_ascii=False) + "\n")
        return generation

    def _labels_of(self, generation: Generation) -> Dataset:
        """Return the labels that a generation has added."""
        place = self._place(generation.number)
        if not generation.added:
            return Dataset()
        return _number(structures(place / "new.extxyz"), place.name)

    def _model(self, place: Path, data: Dataset) -> Potential | Surrogate:
        """Return the model of a generation as its file holds it: the same bits now and after an interruption."""
        file = place / "potential.gprann"
        if not file.exists():
            self._fit(data, place / "fit").save(file)
        found = load(file)
        if isinstance(found, Potential | Surrogate):
            return found
        return next(iter(found))[0]  # a set of one

    def _replica(
        self, number: int, k: int, model: Potential | Surrogate, before: Sequence[Outcome]
    ) -> Outcome:
        """Run a replica, not for long if one before it has failed."""
        replicas, starts = self._plan.replicas, self._plan.starts
        options = replicas.of_replica(int(self._rng(_REPLICAS + number, k).integers(2**31)))
        place = self._place(number) / f"replica_{k}"
        failed = [item.steps for item in before if item.failed]
        least = round(1000.0 * _LEAST / options.time_step)
        until = max(least, round(replicas.patience * min(failed))) if failed else None
        start = starts[k % len(starts)]
        return run_replica(model, start, place, options, relax=replicas.relax, until=until)

    # --------------------------------------------------------------- choice
    def _learn(
        self, number: int, model: Potential | Surrogate, outcomes: Sequence[Outcome], data: Dataset
    ) -> tuple[list[tuple[int, int]], Labelled]:
        """Choose structures and label them; return where they come from, and the labels."""
        place = self._place(number)
        picks, new = place / "chosen.json", place / "new.extxyz"
        frames = self._frames(number, outcomes, data)
        survived = all(item.survived for item in outcomes)
        if self._plan.choice.rule == "reference_md" and not survived and frames:
            found = self._simulate_reference(number, frames)
            chosen = [_COPY] * len(found.data)
        else:
            if not picks.exists():
                self._write_choice(number, model, frames, survived)
            chosen = read_record(picks, list[tuple[int, int]])
            found = self._reference.label(list(structures(place / "chosen.extxyz")))
        if len(found.data):
            write(new, found.data)
        return chosen, found

    def _frames(self, number: int, outcomes: Sequence[Outcome], data: Dataset) -> list[list[Frame]]:
        """Return the frames of the replicas that failed, or of all if none did."""
        plan, survived = self._plan, all(item.survived for item in outcomes)
        found = []
        for k, outcome in enumerate(outcomes):
            if not (outcome.failed or survived):
                continue
            start = plan.starts[k % len(plan.starts)]
            frames = read_frames(self._place(number) / f"replica_{k}", start, k)
            options = plan.replicas.of_replica(0)
            sound = sound_frames(thin(frames), options, degrees_of_freedom(start, options))
            found.append(new_frames(sound, data))
        return [own for own in found if own]

    def _write_choice(
        self, number: int, model: Potential | Surrogate, frames: list[list[Frame]], survived: bool
    ) -> None:
        """Choose, and write down which structures."""
        plan, place = self._plan, self._place(number)
        rng = self._rng(_CHOICE, number)
        if survived and plan.convergence.test is None and plan.convergence.share == 0:
            count = plan.convergence.check
            picked = [
                frame
                for own, most in zip(frames, shares(count, len(frames)), strict=True)
                for frame in evenly(own, most)
            ]
        else:
            picked = choose(frames, model, plan.choice, plan.replicas.time_step, rng)
        chosen = [(frame.replica, frame.step) for frame in picked]
        items = [frame.structure for frame in picked]
        if not items:
            _log.warning("%s: no frame can be used; displaced copies of the start are labelled", place.name)
            items = self._displace(plan.choice.count, plan.start.displacement, rng)
            chosen = [_COPY] * len(items)
        write(place / "chosen.extxyz", Dataset(items))
        with atomic_write(place / "chosen.json") as stream:
            stream.write(json.dumps(chosen) + "\n")

    def _simulate_reference(self, number: int, frames: list[list[Frame]]) -> Labelled:
        """Run the reference from the last calm frame of each replica that failed."""
        plan = self._plan
        data, refused = Dataset(), tuple[str, ...]()
        for k, (own, count) in enumerate(zip(frames, shares(plan.choice.count, len(frames)), strict=True)):
            calm = [frame for frame in own if _is_calm(frame, plan.replicas)] or own[:1]
            steps = count * plan.choice.stride
            if steps == 0:
                continue
            options = self._reference_options(steps, calm[-1].step, number, k, start="file")
            found = self._reference.simulate(calm[-1], steps, plan.choice.stride, options)
            data, refused = data + found.data, refused + found.refused
        return Labelled(data, refused)


def _is_calm(frame: Frame, replicas: ReplicaOptions) -> bool:
    """Return whether the temperature is within two standard deviations of the canonical ensemble."""
    thermostat = replicas.temperature_at(frame.step)
    return abs(frame.temperature / thermostat - 1.0) < 2.0 * math.sqrt(2.0 / (3 * len(frame.structure)))


def _number(data: Dataset, name: str) -> Dataset:
    """Return structures with origins that do not depend on where the folder is."""
    return Dataset(item.replace(origin=Origin(name, k)) for k, item in enumerate(data))


def _force_error(model: Potential | Surrogate, data: Dataset) -> float:
    """Return the mean absolute error of the components of all forces, eV/Å."""
    predicted = model.predict(data).forces
    if predicted is None:
        return float("inf")
    errors = [
        np.abs(found - item.forces).ravel()
        for found, item in zip(predicted, data, strict=True)
        if item.forces is not None
    ]
    return float(np.concatenate(errors).mean())
