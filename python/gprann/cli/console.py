"""The only place that writes to the terminal: results to standard output, messages and errors to standard error."""

from __future__ import annotations

import contextlib
import logging
import sys
from collections.abc import Iterator

from tqdm import tqdm

from gprann.io import DataWarning
from gprann.runtime.log import TaskFormatter, warnings_to_log

__all__ = ["messages", "show", "show_error"]

_log = logging.getLogger("gprann")


def show(text: str) -> None:
    """Write a result to standard output."""
    sys.stdout.write(text.rstrip("\n") + "\n")
    sys.stdout.flush()


def show_error(text: str) -> None:
    """Write an error to standard error."""
    sys.stderr.write(text.rstrip("\n") + "\n")
    sys.stderr.flush()


class _Handler(logging.Handler):
    """Messages above a progress bar that may be on the screen."""

    def emit(self, record: logging.LogRecord) -> None:
        tqdm.write(self.format(record), file=sys.stderr)


class _Formatter(TaskFormatter):
    """The time, the level where it matters, and the message."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s  %(level)s%(message)s", "%H:%M:%S", defaults={"level": ""})

    def format(self, record: logging.LogRecord) -> str:
        record.level = f"{record.levelname.lower()}: " if record.levelno >= logging.WARNING else ""
        return super().format(record)


@contextlib.contextmanager
def messages(level: int) -> Iterator[None]:
    """Show messages of the package from a level on, its warnings among them, until the block ends."""
    handler = _Handler(level)
    handler.setFormatter(_Formatter())
    before = _log.level, _log.propagate
    _log.addHandler(handler)
    _log.setLevel(min(level, logging.INFO))
    _log.propagate = False
    try:
        with warnings_to_log(DataWarning):
            yield
    finally:
        _log.removeHandler(handler)
        _log.setLevel(before[0])
        _log.propagate = before[1]
