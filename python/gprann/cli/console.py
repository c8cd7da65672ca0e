"""The only place that writes to the terminal: results to standard output, messages and errors to standard error.

Nothing that happens here spoils finished work: characters that a terminal lacks are replaced, a closed output is
silence, and one that cannot be written ends in a message.
"""

from __future__ import annotations

import contextlib
import logging
import sys
from collections.abc import Iterator
from typing import TextIO

from gprann.errors import GprannError

_log = logging.getLogger("gprann")
_PLAIN = str.maketrans({"Å": "A", "±": "+-", "²": "^2", "³": "^3", "æ": "ae", "é": "e"})


def show(text: str) -> None:
    """Write a result to standard output.

    Raises
    ------
    BrokenPipeError
        If its reader, such as `head`, has seen enough.
    GprannError
        If it cannot be written.
    """
    try:
        _write(sys.stdout, text)
    except BrokenPipeError:
        raise
    except OSError as error:  # such as a full disk
        sys.stdout = None  # or Python would complain again when it ends
        reason = f"standard output cannot be written: {error.strerror}; results in files are complete"
        raise GprannError(reason) from error


def show_error(text: str) -> None:
    """Write an error to standard error, if there is one."""
    with contextlib.suppress(OSError):
        _write(sys.stderr, text)


def _is_follower() -> bool:
    """Whether rank 0 of MPI speaks for this process; where the module was not needed yet, there are no ranks."""
    role = sys.modules.get("gprann.runtime.role")
    return role is not None and bool(role.is_follower())


def _write(stream: TextIO | None, text: str) -> None:
    if stream is None or stream.closed or _is_follower():
        return
    encoding = stream.encoding or "utf-8"
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        text = text.translate(_PLAIN).encode(encoding, "replace").decode(encoding)
    stream.write(text.rstrip("\n") + "\n")
    stream.flush()


class _Handler(logging.Handler):
    """Messages above a progress bar that may be on the screen."""

    def emit(self, record: logging.LogRecord) -> None:
        from tqdm import tqdm

        with contextlib.suppress(OSError), tqdm.external_write_mode(file=sys.stderr):
            _write(sys.stderr, self.format(record))


@contextlib.contextmanager
def messages(level: int) -> Iterator[None]:
    """Show messages of the package from a level on, its warnings among them, until the block ends."""
    from gprann.io import DataWarning
    from gprann.runtime.messages import TaskFormatter, warnings_to_log

    class Formatter(TaskFormatter):
        """The time, the level where it matters, and the message."""

        def format(self, record: logging.LogRecord) -> str:
            record.level = f"{record.levelname.lower()}: " if record.levelno >= logging.WARNING else ""
            return super().format(record)

    handler = _Handler(level)
    handler.setFormatter(Formatter("%(asctime)s  %(level)s%(message)s", "%H:%M:%S", defaults={"level": ""}))
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
