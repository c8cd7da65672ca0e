"""Labelling of structures by a reference calculator: retries, resume, several workers, merging."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import queue
import tempfile
import threading
import warnings
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from gprann.data.structure import Dataset, Origin, Structure
from gprann.errors import ConfigError
from gprann.io import DataWarning, atomic_write, write
from gprann.io.checks import find_level_shifts
from gprann.io.reading import Source, structures
from gprann.labelling.calculators import CalculatorSpec
from gprann.labelling.elsewhere import Attempts, label_elsewhere
from gprann.labelling.process import LabellingError, WorkerProcess
from gprann.labelling.record import Record, geometry_key
from gprann.options import Options, PathText, option
from gprann.runtime.executors import WorkersOption, process_count
from gprann.runtime.messages import progress_bar
from gprann.runtime.resources import n_threads
from gprann.signatures import takes

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Failure:
    """A structure that got no labels.

    Attributes
    ----------
    index : int
        Its number among the structures, counted from 0.
    origin : str
        Where it comes from.
    attempts : int
    reason : str
        What the calculator said last.
    """

    index: int
    origin: str
    attempts: int
    reason: str


@dataclass(frozen=True, slots=True)
class Labelling:
    """Result of labelling.

    Attributes
    ----------
    labelled : Dataset
        The structures that have labels, in the order in which they were given. Whatever they were before, these
        labels are of the reference, without a variance, and their origin is the file and the number in it.
    failures : list of Failure
        The others.
    computed : int
        Structures computed now; the labels of the rest were in the file already.
    """

    labelled: Dataset
    failures: list[Failure]
    computed: int


class LabelOptions(Options):
    """How the calculator is run."""

    workers: WorkersOption = option(
        'Processes side by side; or who labels on many machines: "mpi", or "dask:" and the address of a scheduler or '
        "its file.",
        1,
    )
    retries: int = option("Further attempts at a structure that failed, each in a new process.", 1, ge=0)
    timeout: float | None = option(
        "Time that an attempt may take. Default: any.", None, unit="s", example=3600.0, gt=0
    )
    scratch: PathText | None = option(
        "Folder in which worker k runs in worker_k; relative paths in the options of the calculator start there. "
        "Default: a temporary folder, which is removed at the end.",
        None,
        example="scratch",
    )


@takes(LabelOptions)
def label(
    data: Source,
    calculator: str,
    output: str | os.PathLike[str],
    *,
    options: Mapping[str, Any] | None = None,
    progress: bool | None = None,
    **settings: Any,
) -> Labelling:
    """Compute energies and forces of structures with an ASE calculator, in processes of their own.

    Every result is on the disk before the next structure is begun. The same call after an interruption, even
    after `kill -9`, computes only what is missing. Structures that fail are listed in `OUTPUT.failed.json`, and
    tried again by the next call.

    Parameters
    ----------
    data : Dataset, or anything that `gprann.read` takes
        Structures; labels that they have are replaced, and with them variance and origin of the labels.
    calculator : str
        Name of a calculator of ASE (`emt`, `vasp`, `espresso`, ...), `tblite` for GFN-xTB, or `module:Class` for
        anything that can be imported and called.
    output : path
        Extended XYZ file. The calculator is noted in `OUTPUT.calculator.json`, so that labels of two levels of
        theory do not get into one file.
    options : mapping, optional
        Keyword arguments of the calculator: plain data.
    progress : bool, optional
        Show a progress bar; default: on a terminal only.
    **settings
        Of `LabelOptions`.

    Returns
    -------
    Labelling

    Raises
    ------
    ConfigError
        If an option is impossible, the calculator cannot be made, or the file holds labels of another one.
    FormatError
        If the file exists and is damaged.

    Examples
    --------
    >>> import gprann, tempfile
    >>> from pathlib import Path
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     result = gprann.label(gprann.examples.hydrogen(3), "emt", Path(folder) / "labels.extxyz")
    >>> len(result.labelled), result.failures
    (3, [])
    """
    running = LabelOptions(**settings)
    spec = CalculatorSpec(calculator, options or {})
    data = _number_origins(structures(data))
    target = Path(output).expanduser()
    record = _open_record(target, spec)
    missing = _without_results(data, record)
    failures: list[Failure] = []

    with progress_bar(len(missing), "labelling", show=progress) as bar:

        def take(outcome: Structure | Failure) -> None:
            bar.update(1)
            if isinstance(outcome, Failure):
                _log.warning(
                    "%s: no labels in %d attempts: %s", outcome.origin, outcome.attempts, outcome.reason
                )
                failures.append(outcome)

        if isinstance(running.workers, int):
            _label_here(missing, spec, running, record, take)
        else:
            _label_elsewhere(missing, spec, running, record, take)
    failures.sort(key=lambda failure: failure.index)
    _write_failures(target, failures)
    labelled = _with_results(data, record)
    first = _write_in_order(target, record, labelled)
    placed = (item.replace(origin=Origin(str(target), k)) for k, item in enumerate(labelled, first))
    return Labelling(Dataset(placed), failures, len(missing) - len(failures))


def merge(train: Dataset, labelled: Dataset) -> Dataset:
    """Return a training set followed by newly labelled structures; geometries that it has are left out.

    Warns
    -----
    DataWarning
        If the new energies of a composition look like those of another level of theory.

    Examples
    --------
    >>> import gprann
    >>> data = gprann.examples.hydrogen(4)
    >>> len(merge(data[:3], data[2:]))
    4
    """
    known = {geometry_key(structure) for structure in train}
    new = labelled.filter(lambda structure: geometry_key(structure) not in known)
    if len(new) < len(labelled):
        _log.info("%d structures are in the training set already", len(labelled) - len(new))
    for composition, shift in find_level_shifts(train, labelled).items():
        formula = next(item.formula for item in labelled if item.composition == composition)
        warnings.warn(
            f"the new energies of {formula} differ by {shift:+.3g} eV/atom from those of the training set, more than "
            "structures do: labels of two levels of theory must not be mixed; label with the calculator and the "
            "options that the training set comes from",
            DataWarning,
            stacklevel=2,
        )
    return train + new


# ------------------------------------------------------------------- files
def _beside(target: Path, what: str) -> Path:
    return target.with_name(f"{target.name}.{what}.json")


def _open_record(target: Path, spec: CalculatorSpec) -> Record:
    """Open the file of results, which must be those of this calculator."""
    note = _beside(target, "calculator")
    record = Record(target)
    if note.exists():
        try:
            noted = json.loads(note.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise ConfigError(f"{note}: cannot be read ({error}); give another output") from error
        if noted != spec.to_dict() and len(record.structures):
            raise ConfigError(
                f"{target}: holds labels of another calculator or other options, {json.dumps(noted)}; "
                "give another output"
            )
    elif len(record.structures):
        raise ConfigError(
            f"{target}: exists, and its labels are of an unknown calculator; give another output"
        )
    with atomic_write(note) as stream:
        stream.write(json.dumps(spec.to_dict(), indent=2) + "\n")
    return record


def _number_origins(data: Dataset) -> Dataset:
    """Return the structures; those that come from no file tell their number in messages."""
    return Dataset(
        structure.replace(origin=Origin("", index)) if str(structure.origin) == str(Origin()) else structure
        for index, structure in enumerate(data)
    )


def _with_results(data: Dataset, record: Record) -> Dataset:
    """Return the structures that have a result, with their labels and without any origin."""
    found = ((structure, record.find(structure)) for structure in data)
    return Dataset(
        structure.without_labels().replace(
            energy=known.energy,
            forces=known.forces,
            stress=known.stress,
            energy_variance=0.0,
            origin=Origin(),
        )
        for structure, known in found
        if known is not None
    )


def _without_results(data: Dataset, record: Record) -> list[tuple[int, Structure]]:
    """Return the structures without a result, each geometry once, with their numbers."""
    missing: dict[str, tuple[int, Structure]] = {}
    for index, structure in enumerate(data):
        if record.find(structure) is None:
            missing.setdefault(geometry_key(structure), (index, structure))
    return list(missing.values())


def _write_failures(target: Path, failures: Sequence[Failure]) -> None:
    file = _beside(target, "failed")
    if not failures:
        file.unlink(missing_ok=True)
        return
    with atomic_write(file) as stream:
        stream.write(
            json.dumps([asdict(failure) for failure in failures], indent=2, ensure_ascii=False) + "\n"
        )


def _write_in_order(target: Path, record: Record, labelled: Dataset) -> int:
    """Bring the file into the order of the input: it is then the same for any number of workers.

    Structures that were in the file and are not in the input come first; return how many.
    """
    given = {geometry_key(structure) for structure in labelled}
    others = record.structures.filter(lambda structure: geometry_key(structure) not in given)
    if len(others) + len(labelled):
        write(target, others + labelled)
    return len(others)


@contextlib.contextmanager
def _folder(scratch: str | os.PathLike[str] | None) -> Iterator[Path]:
    if scratch is not None:
        yield Path(scratch).expanduser().absolute()
        return
    with tempfile.TemporaryDirectory(prefix="gprann-") as name:
        yield Path(name)


# ----------------------------------------------------------------- workers
def _label_here(
    missing: Sequence[tuple[int, Structure]],
    spec: CalculatorSpec,
    running: LabelOptions,
    record: Record,
    take: Callable[[Structure | Failure], object],
) -> None:
    """Label structures by processes of this machine."""
    workers = min(process_count(running.workers) or 1, len(missing))
    threads = max(1, n_threads() // workers) if workers > 1 else None
    with _folder(running.scratch) as folder:
        processes = [
            WorkerProcess(spec, folder / f"worker_{number}", threads=threads, timeout=running.timeout)
            for number in range(workers)
        ]
        with contextlib.closing(_outcomes(missing, processes, running.retries, record)) as outcomes:
            for outcome in outcomes:
                take(outcome)


def _label_elsewhere(
    missing: Sequence[tuple[int, Structure]],
    spec: CalculatorSpec,
    running: LabelOptions,
    record: Record,
    take: Callable[[Structure | Failure], object],
) -> None:
    """Label structures by the calls of an executor; each result is kept as soon as it is there."""
    attempts = 1 + running.retries

    def done(index: int, structure: Structure, result: Structure | str) -> None:
        if isinstance(result, str):
            take(Failure(index, str(structure.origin), attempts, result))
            return
        record.append(result)
        take(result)

    how = Attempts(spec, attempts, running.timeout, running.scratch)
    label_elsewhere(missing, how, str(running.workers), done)


def _outcomes(
    missing: Sequence[tuple[int, Structure]],
    processes: Sequence[WorkerProcess],
    retries: int,
    record: Record,
) -> Generator[Structure | Failure]:
    """Yield the labelled structures and the failures as they come; a thread looks after each worker."""
    pending: queue.SimpleQueue[tuple[int, Structure]] = queue.SimpleQueue()
    for item in missing:
        pending.put(item)
    results: queue.SimpleQueue[Structure | Failure | BaseException] = queue.SimpleQueue()
    writing = threading.Lock()

    def keep(structure: Structure) -> None:
        with writing:
            record.append(structure)

    keepers = [
        threading.Thread(target=_keep_busy, args=(process, pending, results, retries, keep), daemon=True)
        for process in processes
    ]
    for keeper in keepers:
        keeper.start()
    try:
        for _ in missing:
            outcome = results.get()
            if isinstance(outcome, BaseException):
                raise outcome
            yield outcome
    except BaseException:
        for process in processes:
            process.interrupt()
        raise
    finally:
        for keeper in keepers:
            keeper.join()


def _keep_busy(
    process: WorkerProcess,
    pending: queue.SimpleQueue[tuple[int, Structure]],
    results: queue.SimpleQueue[Structure | Failure | BaseException],
    retries: int,
    keep: Callable[[Structure], None],
) -> None:
    """Give a worker one structure after the other; each result is kept before the next structure is begun."""
    try:
        while True:
            try:
                index, structure = pending.get_nowait()
            except queue.Empty:
                return
            outcome = _attempt(process, index, structure, 1 + retries)
            if isinstance(outcome, Structure):
                keep(outcome)
            results.put(outcome)
    # Passed on to the thread that waits for the results.
    except BaseException as error:
        results.put(error)
    finally:
        process.close()


def _attempt(process: WorkerProcess, index: int, structure: Structure, attempts: int) -> Structure | Failure:
    reason = ""
    for _ in range(attempts):
        try:
            return process.label(structure)
        except LabellingError as error:
            reason = str(error)
    return Failure(index, str(structure.origin), attempts, reason)
