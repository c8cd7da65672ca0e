"""What a run has finished: each stage leaves a record of its inputs and of the files it made."""

from __future__ import annotations

import contextlib
import json
import logging
import os
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

from gprann.errors import ConfigError
from gprann.io import atomic_write
from gprann.pipeline.digest import file_digest

__all__ = ["Stages", "claimed_folder"]

_log = logging.getLogger(__name__)
_RECORDS = "checkpoints"


class Stages:
    """Records of the finished stages of one output folder.

    Parameters
    ----------
    folder : Path
        Output folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.checkpoints = folder / _RECORDS

    def find(self, name: str, digest: str) -> dict[str, Any] | None:
        """Return what a stage left, if it was finished with the same inputs and its files are unchanged."""
        try:
            record = json.loads(self._path(name).read_text(encoding="utf-8"))
            same = record["digest"] == digest
            files, left = dict(record["files"]), dict(record["left"])
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError):
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
        """Record a finished stage: its inputs, the files it made, and plain data for the stages after it."""
        made = {path.relative_to(self.folder).as_posix(): file_digest(path) for path in files}
        path = self._path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path) as stream:
            json.dump({"digest": digest, "files": made, "left": left}, stream, indent=1)

    def keep_only(self, group: str, names: Collection[str]) -> None:
        """Remove the records `group/...` that are not among `names`, and the files beside them."""
        for path in (self.checkpoints / group).glob("*"):
            if f"{group}/{path.name.partition('.')[0]}" not in names:
                path.unlink(missing_ok=True)

    def _path(self, name: str) -> Path:
        return self.checkpoints / f"{name}.json"


@contextlib.contextmanager
def claimed_folder(folder: Path, source: Path | None) -> Iterator[Stages]:
    """Make the output folder and keep other runs out of it until the block ends.

    Parameters
    ----------
    folder : Path
    source : Path, optional
        Configuration file of the run.

    Raises
    ------
    ConfigError
        If the folder holds something else, the results of another configuration file, or another run is active.
    """
    stages = Stages(folder)
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"output.folder: {folder} is a file; choose another name")
    if folder.is_dir() and any(folder.iterdir()) and not stages.checkpoints.is_dir():
        raise ConfigError(
            f"output.folder: {folder} holds files that no run of gprann has made; choose a new folder or empty it"
        )
    try:
        stages.checkpoints.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(
            f"output.folder: {folder} cannot be made: {error.strerror}; choose another one"
        ) from error
    with _locked(stages.checkpoints / "lock", folder):
        _check_source(stages, source)
        yield stages


def _check_source(stages: Stages, source: Path | None) -> None:
    """Refuse to overwrite the results of another configuration file; note down whose they are."""
    if source is None or source.resolve().parent == stages.folder.resolve():  # the copy in the folder itself
        return
    note = stages.checkpoints / "source.json"
    own = os.path.relpath(source.resolve(), stages.folder.resolve())
    other = _noted(note)
    if other not in (None, own) and (stages.folder / str(other)).is_file():
        raise ConfigError(
            f"{source}: output.folder: {stages.folder} holds the results of {(stages.folder / str(other)).resolve()}; "
            "choose another folder, or remove this one"
        )
    with atomic_write(note) as stream:
        json.dump({"config": own}, stream)


def _noted(note: Path) -> object:
    """Return the configuration file of the results, relative to the output folder; None if there are none yet."""
    try:
        return json.loads(note.read_text(encoding="utf-8"))["config"]
    except (OSError, ValueError, KeyError, TypeError):
        return None


@contextlib.contextmanager
def _locked(path: Path, folder: Path) -> Iterator[None]:
    """Hold a lock that the system releases when the process ends, however it ends."""
    try:
        import fcntl
    except ImportError:  # Windows
        yield
        return
    with path.open("w") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigError(
                f"output.folder: another run is active in {folder}; wait for it, or choose another folder"
            ) from None
        except OSError:  # some network file systems offer no locks
            _log.debug("%s cannot be locked", path)
        yield
