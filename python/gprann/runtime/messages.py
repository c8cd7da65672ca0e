"""Messages and progress: where they go, to which task they belong, and bars or lines while work goes on."""

from __future__ import annotations

import contextlib
import contextvars
import logging
import os
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

from tqdm import tqdm

from gprann.runtime.atomic_write import write_error

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


class _LogFile(logging.FileHandler):
    """A log that ends, and says so once, where it cannot be written: what is computed is worth more than it."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - the name is that of logging
        """Give the file up after an error of the disk."""
        error = sys.exc_info()[1]
        if not isinstance(error, OSError):
            super().handleError(record)
            return
        _log.removeHandler(self)
        self.close()
        _log.warning("%s; no more messages are kept", write_error(Path(self.baseFilename), error))

    def close(self) -> None:
        """Close the file; text that cannot be written is lost."""
        with contextlib.suppress(OSError):
            super().close()


@contextlib.contextmanager
def log_to_file(path: str | os.PathLike[str]) -> Iterator[None]:
    """Append the package's messages to a file, with their times, until the block ends.

    Raises
    ------
    WriteError
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
        handler = _LogFile(path, encoding="utf-8")
    except OSError as error:
        raise write_error(Path(path), error) from error
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


_EVERY = 30.0  # seconds between two lines


def progress_bar(total: int, label: str, *, unit: str = "structures", show: bool | None = None) -> Any:
    """Return a tqdm bar with rate and time left.

    Unless standard error is a terminal it writes lines by default (see `LineProgress`); with `show=False` nothing.
    """
    if show is None and not sys.stderr.isatty():
        return LineProgress(total, label, unit)
    return tqdm(
        total=total,
        desc=label,
        unit=unit,
        disable=show is False,
        dynamic_ncols=True,
        leave=False,
        mininterval=0.2,
    )


class LineProgress:
    """The state of a progress bar, as a line every 30 seconds, even while nothing moves.

    The lines go to the log where one shows messages (of level INFO), else to standard error.

    Parameters
    ----------
    total : int
        Steps.
    label : str
        What is being done.
    unit : str
        What a step is.
    """

    def __init__(self, total: int, label: str, unit: str) -> None:
        self.total, self.n = total, 0
        self._label, self._unit, self._about = label, unit, ""
        self._started = self._counted = time.monotonic()
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._report, daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Write no more lines."""
        self._end.set()
        self._thread.join()

    def update(self, count: int = 1) -> None:
        """Move on by some steps."""
        self.n += count

    def refresh(self) -> None:
        """Do nothing: the next line shows what there is."""

    def set_postfix_str(self, text: str, refresh: bool = True) -> None:  # noqa: ARG002 - as tqdm has it
        """Say what is being done at the moment."""
        self._about = text
        if self.n == 0:  # what came before the first step tells nothing of the time that steps take
            self._counted = time.monotonic()

    def line(self) -> str:
        """Return the line of now."""
        now = time.monotonic()
        seconds, counted = now - self._started, now - self._counted
        left = (
            f", about {_duration(counted * (self.total / self.n - 1))} left"
            if 0 < self.n < self.total
            else ""
        )
        about = f" ({self._about})" if self._about else ""
        done = f"{self.n} of {self.total} {self._unit}"
        return f"{self._label}: {done} after {_duration(seconds)}{left}{about}"

    def _report(self) -> None:
        while not self._end.wait(_EVERY):
            handlers = _log.handlers + _log.root.handlers if _log.isEnabledFor(logging.INFO) else []
            if any(handler.level <= logging.INFO for handler in handlers):
                _log.info("%s", self.line())
            else:
                with contextlib.suppress(OSError, ValueError):  # a closed output
                    sys.stderr.write(self.line() + "\n")
                    sys.stderr.flush()


def _duration(seconds: float) -> str:
    """Return a time in words.

    Examples
    --------
    >>> _duration(42.3), _duration(200), _duration(8000)
    ('42 s', '3 min', '2.2 h')
    """
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


class SharedBar:
    """A progress bar that several threads move, each of which says what it is about.

    Parameters
    ----------
    bar : tqdm
    """

    def __init__(self, bar: Any) -> None:
        self._bar = bar
        self._lock = threading.Lock()
        self._names: list[str] = []

    def update(self, count: int) -> None:
        """Move on by some steps."""
        with self._lock:
            self._bar.update(count)

    def extend(self, count: int) -> None:
        """Add steps to the total."""
        with self._lock:
            self._bar.total += count
            self._bar.refresh()

    @contextlib.contextmanager
    def about(self, name: str) -> Iterator[None]:
        """Show what a thread is about, until the block ends."""
        self._show(add=name)
        try:
            yield
        finally:
            self._show(drop=name)

    def _show(self, *, add: str | None = None, drop: str | None = None) -> None:
        with self._lock:
            self._names = [name for name in self._names if name != drop] + ([] if add is None else [add])
            self._bar.set_postfix_str(", ".join(self._names))
