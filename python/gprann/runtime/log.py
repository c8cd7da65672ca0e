"""Where messages go: the package only sends them to its loggers; these helpers bring them somewhere."""

from __future__ import annotations

import contextlib
import contextvars
import logging
import os
import warnings
from collections.abc import Iterator
from typing import Any

from gprann.errors import GprannError

__all__ = ["TaskFormatter", "log_to_file", "task", "warnings_to_log"]

_log = logging.getLogger("gprann")
_LINE = "%(asctime)s  %(levelname)-7s  %(message)s"
_task: contextvars.ContextVar[str] = contextvars.ContextVar("task", default="")


@contextlib.contextmanager
def task(name: str) -> Iterator[None]:
    """Let messages of the block begin with the name of the task, one of several that may run side by side."""
    token = _task.set(name)
    try:
        yield
    finally:
        _task.reset(token)


class TaskFormatter(logging.Formatter):
    """A formatter that says to which task a message belongs, see `task`."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802, D102
        name = _task.get()
        if not record.message.startswith(name):
            record.message = f"{name}: {record.message}"
        return super().formatMessage(record)


@contextlib.contextmanager
def log_to_file(path: str | os.PathLike[str]) -> Iterator[None]:
    """Append the package's messages to a file, with their times, until the block ends.

    Raises
    ------
    GprannError
        If the file cannot be written.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = pathlib.Path(folder) / "run.log"
    ...     with log_to_file(file):
    ...         logging.getLogger("gprann").info("begun")
    ...     file.read_text().endswith("INFO     begun\\n")
    True
    """
    try:
        handler = logging.FileHandler(path, encoding="utf-8")
    except OSError as error:
        raise GprannError(
            f"{os.fspath(path)}: cannot be written: {error.strerror}; check the folder"
        ) from error
    handler.setFormatter(TaskFormatter(_LINE, datefmt="%Y-%m-%d %H:%M:%S"))
    level = _log.level
    _log.addHandler(handler)
    if not _log.isEnabledFor(logging.INFO):
        _log.setLevel(logging.INFO)
    try:
        yield
    finally:
        _log.removeHandler(handler)
        _log.setLevel(level)
        handler.close()


@contextlib.contextmanager
def warnings_to_log(kind: type[Warning]) -> Iterator[None]:
    """Turn warnings of a category into messages of the log, all of them, until the block ends.

    Examples
    --------
    >>> with warnings_to_log(UserWarning):
    ...     warnings.warn("look at this", stacklevel=1)
    """

    def show(message: Warning | str, category: type[Warning], filename: str, *rest: Any, **more: Any) -> None:
        if issubclass(category, kind):
            _log.warning("%s", message)
        else:
            before(message, category, filename, *rest, **more)

    with warnings.catch_warnings():
        before = warnings.showwarning
        warnings.simplefilter("always", kind)
        warnings.showwarning = show
        yield
