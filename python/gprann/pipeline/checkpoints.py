"""Checkpoints of a run: each finished stage leaves a record of its inputs and of the files it made."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import shutil
import time
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from gprann.data.attachments import plain
from gprann.data.structure import Dataset
from gprann.errors import ConfigError
from gprann.runtime.atomic_write import atomic_write, make_folder, write_error

_log = logging.getLogger(__name__)
_RECORDS = "checkpoints"
_SOURCE = "source.json"


@dataclass(slots=True)
class Stage:
    """One stage of a run, finished by an earlier run or to be done now.

    Attributes
    ----------
    stages : Stages
    name : str
    inputs : str
        Digest of everything that its result depends on.
    left : dict
        Plain data for the stages after it; empty until it is finished.
    skipped : bool
        Whether an earlier run has finished it.
    """

    stages: Stages
    name: str
    inputs: str
    left: dict[str, Any] = field(default_factory=dict)
    skipped: bool = False
    _started: float = field(default_factory=time.perf_counter)

    def finish(self, files: Sequence[Path], left: dict[str, Any]) -> None:
        """Record that the stage is finished, with the files it made and what it leaves for the stages after it."""
        self.left = left
        self.stages.keep(self.name, self.inputs, files, left)
        _log.info("%s: done in %.1f s", self.name, time.perf_counter() - self._started)


class Stages:
    """Records of the finished stages of one output folder.

    Parameters
    ----------
    folder : Path
        Output folder.
    source : Path, optional
        Configuration file, noted down with the first record: from then on the folder belongs to it.
    around : Stages, optional
        Of the folder in which this one lies, which then belongs to its own configuration file.
    """

    def __init__(self, folder: Path, source: Path | None = None, around: Stages | None = None) -> None:
        self.folder = folder
        self.source = source
        self.around = around
        self.checkpoints = folder / _RECORDS

    def absolute(self) -> Stages:
        """Return the same with paths that mean the same in every folder."""
        around = None if self.around is None else self.around.absolute()
        return Stages(self.folder.absolute(), None if self.source is None else self.source.absolute(), around)

    def begin(self, name: str, inputs: str) -> Stage:
        """Return a stage, as skipped if an earlier run has finished it with the same inputs."""
        left = self.find(name, inputs)
        if left is None:
            return Stage(self, name, inputs)
        _log.info("%s: finished by an earlier run", name)
        return Stage(self, name, inputs, left, skipped=True)

    def find(self, name: str, digest: str) -> dict[str, Any] | None:
        """Return the data that a stage has left, or None if its inputs differ or its files have changed."""
        try:
            record = json.loads(self._path(name).read_text(encoding="utf-8"))
            same = record["digest"] == digest
            files, left = dict(record["files"]), dict(record["left"])
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            _log.warning("%s: the record is damaged; done again", name)
            return None
        if not same:
            _log.info("%s: configuration or data have changed; done again", name)
            return None
        for file, expected in files.items():
            path = self.folder / file
            if not path.is_file() or file_digest(path) != expected:
                _log.info("%s: %s is missing or has been changed; done again", name, path)
                return None
        return left

    def keep(self, name: str, digest: str, files: Sequence[Path], left: dict[str, Any]) -> None:
        """Record that something is finished: the digest of its inputs, the files made, and plain data for later."""
        made = {path.relative_to(self.folder).as_posix(): file_digest(path) for path in files}
        path = self._path(name)
        make_folder(path.parent)
        self.note_source()
        with atomic_write(path) as stream:
            json.dump({"digest": digest, "files": made, "left": left}, stream, indent=1)

    def keep_only(self, group: str, names: Collection[str]) -> None:
        """Remove the records `group/...` that are not among `names`, and the files beside them."""
        for path in (self.checkpoints / group).glob("*"):
            if f"{group}/{path.name.partition('.')[0]}" not in names:
                path.unlink(missing_ok=True)

    def note_source(self) -> None:
        """Note down the configuration file whose results the folder holds; likewise for the folder around it."""
        if self.around is not None:
            self.around.note_source()
        if self.source is not None and self.read_source() != self._relative(self.source):
            with atomic_write(self.checkpoints / _SOURCE) as stream:
                json.dump({"config": self._relative(self.source)}, stream)

    def check_source(self) -> None:
        """Refuse to overwrite the results of another configuration file."""
        other = self.read_source()
        if self.source is None or other in (None, self._relative(self.source)):
            return
        owner = (self.folder / str(other)).resolve()
        if owner.is_file():
            raise ConfigError(
                f"{self.source}: output.folder: {self.folder} holds the results of {owner}; choose another folder, or "
                "remove this one"
            )

    def read_source(self) -> object:
        """Return the configuration file of the results, relative to the folder; None if there are none yet."""
        try:
            return json.loads((self.checkpoints / _SOURCE).read_text(encoding="utf-8"))["config"]
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            return None

    def _relative(self, source: Path) -> str:
        return os.path.relpath(source.resolve(), self.folder.resolve())

    def _path(self, name: str) -> Path:
        return self.checkpoints / f"{name}.json"


@contextlib.contextmanager
def claim_folder(folder: Path, source: Path | None = None, around: Stages | None = None) -> Iterator[Stages]:
    """Make the output folder and keep other runs out of it until the block ends.

    The folder belongs to the configuration file of the first run that leaves a record. A run that fails before leaves
    a folder behind only if there was one before, or results of a baseline in it.

    Parameters
    ----------
    folder : Path
    source : Path, optional
        Configuration file of the run.
    around : Stages, optional
        Of the folder in which this one lies.

    Raises
    ------
    ConfigError
        If the folder holds something else, the results of another configuration file, or another run is active.
    """
    if source is not None and source.resolve().parent == folder.resolve():
        source = None  # the copy in the folder itself
    stages = Stages(folder, source, around)
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"output.folder: {folder} is a file; choose another name")
    new = not folder.is_dir() or not any(folder.iterdir())
    if not new and not stages.checkpoints.is_dir():
        raise ConfigError(
            f"output.folder: {folder} holds files that no run of gprann has made; choose a new folder or empty it"
        )
    try:
        stages.checkpoints.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(
            f"output.folder: {folder} cannot be made: {error.strerror}; choose another one"
        ) from error
    try:
        with _lock(stages.checkpoints / "lock", folder):
            stages.check_source()
            yield stages
    except Exception:
        kept = [*folder.rglob("*.json"), *folder.rglob("*.extxyz")]
        if new and not any(_RECORDS in path.parts for path in kept):
            shutil.rmtree(folder, ignore_errors=True)
        raise


@contextlib.contextmanager
def _lock(path: Path, folder: Path) -> Iterator[None]:
    """Hold a lock that the system releases when the process ends, however it ends."""
    try:
        import fcntl
    except ImportError:  # Windows
        yield
        return
    try:
        stream = path.open("w")
    except OSError as error:
        raise write_error(path, error) from error
    with stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigError(
                f"output.folder: another run is active in {folder}; wait for it, or choose another folder"
            ) from None
        except OSError:  # some network file systems offer no locks
            _log.debug("%s cannot be locked", path)
        yield


def digest(*parts: Any) -> str:
    """Return the digest of plain data.

    Examples
    --------
    >>> digest({"copies": 36}) == digest({"copies": 36}), digest({"copies": 36}) == digest({"copies": 35})
    (True, False)
    """
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def data_digest(data: Dataset) -> str:
    """Return the digest of a data set; the names of its files do not count.

    Examples
    --------
    >>> import gprann
    >>> data = gprann.examples.hydrogen(7)
    >>> data_digest(data) == data_digest(gprann.examples.hydrogen(7)), data_digest(data) == data_digest(data[:6])
    (True, False)
    """
    state = hashlib.sha256()
    files: dict[str, int] = {}
    for structure in data:
        origin = structure.origin
        # Which structures come from one file matters (copies belong to their parents), its name does not.
        number = files.setdefault(origin.file, len(files))
        labels = [structure.energy, structure.weight, structure.energy_variance, structure.group]
        known = [structure.symbols, structure.pbc.tolist(), *labels, number, origin.index, origin.method]
        state.update(json.dumps(known).encode())
        # What is attached goes into the files that a run writes; constraints and charges reach the reference.
        attached = (structure.info, structure.arrays, structure.constraints)
        if any(attached):
            state.update(json.dumps([plain(part) for part in attached], sort_keys=True).encode())
        for array in (structure.positions, structure.cell, structure.forces, structure.stress):
            state.update(b"-" if array is None else np.ascontiguousarray(array).tobytes())
    return state.hexdigest()


def file_digest(path: str | os.PathLike[str]) -> str:
    """Return the digest of the content of a file."""
    with Path(path).open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
