"""Molecular dynamics that goes on where it was killed, and stops where the model knows no more."""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import os
import time
from pathlib import Path
from typing import Any

import numpy as np

from gprann.data.structure import Dataset, Structure
from gprann.dynamics.engine import Engine
from gprann.dynamics.files import LOG, TRAJECTORY, Checkpoint, Frames, GrowingFile, damaged_checkpoint
from gprann.dynamics.integrators import Integrator
from gprann.dynamics.options import MdOptions
from gprann.dynamics.results import COLUMNS, MdResult, log_line, read_log
from gprann.dynamics.start import begin
from gprann.dynamics.watch import Stop, Watch
from gprann.errors import ConfigError, DataError
from gprann.io import write
from gprann.io.extxyz import format_extxyz
from gprann.io.reading import Source, structures
from gprann.potential import Potential, load
from gprann.runtime.atomic_write import atomic_write, make_folder, write_picture
from gprann.runtime.messages import progress_bar
from gprann.signatures import takes
from gprann.surrogate import Surrogate, SurrogateSet

_log = logging.getLogger(__name__)
_SECONDS = 60.0  # between two checkpoints at most
CHECKPOINT = "checkpoint.npz"
SUMMARY, PICTURE, TO_LABEL = "summary.txt", "md.png", "to_label.extxyz"


@takes(MdOptions)
def md(
    model: Potential | Surrogate | SurrogateSet | str | os.PathLike[str],
    structure: Source,
    folder: str | os.PathLike[str],
    *,
    progress: bool | None = None,
    **options: Any,
) -> MdResult:
    """Run molecular dynamics, or go on with the run of a folder.

    Parameters
    ----------
    model : Potential or Surrogate, or its file
    structure : Structure, ase.Atoms, or anything that `gprann.read` takes and that holds one structure
        Where the run begins. Fixed atoms (FixAtoms, FixCartesian) stay where they are.
    folder : path
        For the results. If it holds a checkpoint, the run goes on from there with the same bits, as if it had never
        been interrupted; `length` and the limits may be others.
    progress : bool, optional
        Whether to show a progress bar. Default: on a terminal; elsewhere lines of the log.
    **options

    Returns
    -------
    MdResult

    Raises
    ------
    ConfigError
        If an option is impossible, or the folder holds another run.
    DataError
        If the structure is none that the model knows, or begins in a state that is to end the run.
    FormatError
        If a file is damaged.

    Examples
    --------
    >>> import gprann, tempfile
    >>> data = gprann.examples.hydrogen(12)
    >>> surrogate = gprann.Surrogate(kernel="pairs").fit(data)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     result = gprann.md(surrogate, data[2], folder, ensemble="nve", length=0.01, temperature=100.0)
    >>> result.steps, result.reason
    (20, '')
    """
    settings = MdOptions(**options)
    return Simulation(single_model(model), _one(structure), make_folder(folder), settings).run(progress)


def single_model(given: Any) -> Potential | Surrogate:
    """Return the model of a file, or the only member of a set.

    Raises
    ------
    ConfigError
        If there is none, or there are several.
    """
    model = load(given) if isinstance(given, str | os.PathLike) else given
    if isinstance(model, SurrogateSet) and len(model) == 1:
        model = next(iter(model))[0]
    if not isinstance(model, Potential | Surrogate):
        raise ConfigError(
            f"model: expected a Potential or a Surrogate, got {type(model).__name__}; of a set of surrogates give one "
            "member"
        )
    return model


def _one(source: Source) -> Structure:
    found = structures(source)
    if len(found) != 1:
        raise DataError(
            f"structure: expected one to begin with, got {len(found)}; choose one, on the command line with --index 0"
        )
    return found[0]


class Simulation:
    """A run in its folder.

    Parameters
    ----------
    model : Potential or Surrogate
    structure : Structure
    folder : Path
    options : MdOptions
    on_trial : bool
        Of a model that may fail: without a picture, and without warnings of what it does not know.
    """

    def __init__(
        self,
        model: Potential | Surrogate,
        structure: Structure,
        folder: Path,
        options: MdOptions,
        *,
        on_trial: bool = False,
    ) -> None:
        self._structure, self._folder, self._options = structure, folder, options
        self._on_trial = on_trial
        self._engine = Engine(model, structure, options, guard="off" if on_trial else "warn")
        self._frames = Frames(options.keep)
        self._integrator = Integrator(options)
        self._state = begin(structure, self._engine.atoms, options)
        self._watch = Watch(self._engine, structure, options)
        self._checkpoint_file = folder / CHECKPOINT
        sizes = self._resume() if self._checkpoint_file.exists() else self._begin()
        self._saved = time.monotonic()
        self._saved_step = self._state.step
        self._files = {name: GrowingFile(folder / name, size) for name, size in sizes.items()}
        self._is_new = sizes[LOG] == 0

    def _begin(self) -> dict[str, int]:
        for name in (TRAJECTORY, LOG):
            if (self._folder / name).exists():
                raise ConfigError(
                    f"{self._folder / name}: exists, but there is no checkpoint to go on from; give another folder"
                )
        self._engine.evaluate(self._state)
        stop = self._watch.look(self._state, closely=True)
        if stop is not None:
            raise DataError(f"{self._structure.origin}: the run would stop at once: {stop.reason}")
        sizes = {TRAJECTORY: 0, LOG: 0}
        self._write_checkpoint(sizes)  # before the files, which without it would belong to nobody
        return sizes

    def _resume(self) -> dict[str, int]:
        found = Checkpoint.read(self._checkpoint_file)
        found.check(self._structure, self._options)
        with damaged_checkpoint(self._checkpoint_file):
            found.restore(self._state, self._frames)
            forces = self._state.forces.copy()
            energy, stress = self._state.energy, self._state.stress
            self._engine.evaluate(self._state)
        self._watch.worst, self._watch.highest = (tuple(found.values[name]) for name in ("worst", "highest"))
        scale = max(1.0, float(np.abs(forces).max()))
        if not np.allclose(self._state.forces, forces, rtol=0, atol=1e-5 * scale):
            raise ConfigError(
                f"{self._folder}: the run in this folder was begun with another potential: its forces differ; give "
                "another folder"
            )
        self._state.forces[...], self._state.energy, self._state.stress = forces, energy, stress
        _log.info("%s: goes on after step %d", self._folder, self._state.step)
        sizes: dict[str, int] = found.values["sizes"]
        return sizes

    # ------------------------------------------------------------------ run
    def run(self, progress: bool | None, until: int | None = None) -> MdResult:
        """Make the steps that are left, or those until a step before the end, and write what came out."""
        state, options = self._state, self._options
        end = options.steps if until is None else min(until, options.steps)
        stop: Stop | None = None
        try:
            if self._is_new:
                self._watch.look(state, closely=True)
                self._files[LOG].write(",".join(COLUMNS) + "\n")
                self._record(log=True, frame=True)
                self._save()
            with progress_bar(end, "dynamics", unit="steps", show=progress) as bar:
                bar.update(state.step)
                while state.step < end and stop is None:
                    before = state.step
                    stop = self._advance(min(end, before + options.log_every))
                    bar.set_postfix_str(f"{state.temperature:.0f} K", refresh=False)
                    bar.update(state.step - before)
            if stop is None:
                self._save()
        finally:
            with contextlib.ExitStack() as files:
                for file in self._files.values():
                    files.callback(file.close)
        return self._finish(stop)

    def _advance(self, until: int) -> Stop | None:
        """Make steps; return a reason to stop if there is one."""
        state, options = self._state, self._options
        while state.step < until:
            log = (state.step + 1) % options.log_every == 0
            frame = (state.step + 1) % options.trajectory_every == 0
            try:
                self._integrator.step(state, lambda: self._engine.evaluate(state))
            except DataError as error:
                return Stop(f"step {state.step + 1}: {error}")
            stop = self._watch.look(state, closely=log)
            if stop is not None:
                return Stop(f"step {state.step}: {stop.reason}", stop.atom, stop.sound)
            self._record(log=log, frame=frame)
            due = state.step - self._saved_step >= options.checkpoint_every
            if due or (log and time.monotonic() - self._saved > _SECONDS):
                self._save()
        return None

    def _record(self, *, log: bool, frame: bool) -> None:
        if log:
            conserved = self._options.ensemble != "npt"
            watch = self._watch
            line = log_line(self._state, self._options.time_step, conserved, watch.deviations, watch.grades)
            self._files[LOG].write(line)
            self._frames.add(self._state)
        if frame:
            self._files[TRAJECTORY].write("".join(format_extxyz([self._frame()])))

    def _frame(self) -> Structure:
        state = self._state
        bare = self._structure.with_positions(state.positions, cell=state.cell)
        info = {
            "step": state.step,
            "time_fs": round(self._options.time_step * state.step, 6),
            "temperature_K": state.temperature,
        }
        return bare.replace(
            energy=state.energy,
            arrays={**bare.arrays, "momenta": state.momenta},
            info={**bare.info, **info},
        )

    def _save(self) -> None:
        self._write_checkpoint({name: file.flush() for name, file in self._files.items()})
        self._saved, self._saved_step = time.monotonic(), self._state.step

    def _write_checkpoint(self, sizes: dict[str, int]) -> None:
        checkpoint = Checkpoint.of(
            self._state,
            self._frames,
            self._options,
            self._structure,
            sizes=sizes,
            worst=list(self._watch.worst),
            highest=list(self._watch.highest),
        )
        checkpoint.write(self._checkpoint_file)

    def _finish(self, stop: Stop | None) -> MdResult:
        state, options = self._state, self._options
        result = MdResult(
            self._folder,
            read_log(self._folder / LOG),
            state.step,
            "" if stop is None else stop.reason,
            None if stop is None else stop.atom,
            self._watch.worst,
            self._watch.highest,
            f"{self._structure.formula}, {len(self._structure)} atoms, from {self._structure.origin}: "
            f"{options.ensemble}, {options.temperature:g} K, {options.time_step:g} fs, seed {options.seed}",
            len(self._structure),
            options.time_step,
        )
        if stop is not None:
            _log.log(logging.INFO if self._on_trial else logging.WARNING, "stopped in %s", stop.reason)
            frames = self._frames.structures(self._structure)
            if stop.sound:
                frames.append(self._structure.with_positions(state.positions, cell=state.cell))
            write(self._folder / TO_LABEL, Dataset(frames))
        with atomic_write(self._folder / SUMMARY) as stream:
            stream.write(result.summary())
        if self._on_trial:
            return result
        if importlib.util.find_spec("matplotlib") is None:
            _log.warning("no plot in %s: matplotlib is missing, pip install 'gprann[plot]'", self._folder)
        else:
            write_picture(result.draw(), self._folder / PICTURE, 150)
        return result
