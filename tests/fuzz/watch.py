"""One input after the other in a child process, which may crash, hang or use up its memory.

The input at hand stands in memory that parent and child share: when the child is gone, the parent knows what killed it.
"""

from __future__ import annotations

import contextlib
import json
import logging
import mmap
import os
import re
import resource
import signal
import struct
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from fuzz.mutations import LARGEST
from fuzz.targets import Target
from gprann.errors import GprannError

SECONDS = 5  # of the processor, which one input may take
MEMORY = 2**30  # bytes beyond those of the process before its first input
_DRIFT = 20  # of so many inputs that are read, one is changed further
_WALL = 120.0  # seconds without a sign of life, as of one that waits for something
_HEAD = struct.Struct("<QQ")
_VARIABLE = re.compile(r"'[^']*'|\"[^\"]*\"|[-+]?\d[\d.e+-]*|\S*/\S*")


class Finding(NamedTuple):
    """What an input has shown: its kind, where, and how it is told from others."""

    kind: str
    key: str
    text: str


class Runner:
    """Feeds inputs to a target in this process.

    Parameters
    ----------
    target : Target
    folder : Path
        For the file that is read.
    """

    def __init__(self, target: Target, folder: Path) -> None:
        self._target = target
        self.path = folder / target.file
        self.path.parent.mkdir(parents=True, exist_ok=True)

    def outcome(self, data: bytes) -> str | Finding:
        """Return "read", the message of the refusal, or what is wrong."""
        content = self._target.wrap(data)
        self.path.write_bytes(content)
        try:
            self._target.read(self.path)
        except GprannError as error:
            message = str(error)
            if self.path.name not in message:
                return Finding("message", _where(error), f"does not name the file: {message[:300]}")
            return message
        except (KeyboardInterrupt, SystemExit):
            raise
        except MemoryError as error:
            return Finding("memory", _where(error), f"more than {MEMORY} bytes: {error}")
        except BaseException as error:
            return Finding(
                "exception", _where(error), "".join(traceback.format_exception_only(error)).strip()
            )
        return "read"


def _where(error: BaseException) -> str:
    """Return the kind of an error and the last place in the package that it went through."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if f"{os.sep}gprann{os.sep}" in frame.filename] or frames[-1:]
    place = f"{Path(own[-1].filename).name}:{own[-1].name}" if own else ""
    return f"{type(error).__name__} in {place}"


def skeleton(message: str) -> str:
    """Return a message without what varies: names, numbers and paths."""
    return _VARIABLE.sub("*", message)[:200]


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep warnings and messages of the package away, and messages of other libraries to the terminal too."""
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), open(os.devnull, "w") as null, contextlib.redirect_stdout(null):  # noqa: PTH123
            warnings.simplefilter("ignore")
            with contextlib.redirect_stderr(null):
                yield
    finally:
        logging.disable(logging.NOTSET)


@contextlib.contextmanager
def scratch() -> Iterator[Path]:
    """Give a folder, in memory where the system has such."""
    memory = Path("/dev") / "shm"
    with tempfile.TemporaryDirectory(prefix="fuzz-", dir=memory if memory.is_dir() else None) as folder:
        yield Path(folder)


def limit_memory() -> None:
    """Let the process take so much more memory than it has now."""
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, resource.RLIM_INFINITY))


class Result(NamedTuple):
    """What a child has done: inputs, findings with their inputs, and whether it ended by itself."""

    inputs: int
    read: int
    findings: list[tuple[Finding, bytes]]
    finished: bool


Source = Callable[[], Iterator[bytes]]


class Watched:
    """A target in a child process under a watchdog.

    Parameters
    ----------
    target : Target
    limit : float
        Seconds of the processor that one input may take.
    memory : bool
        Whether memory is limited; sanitised code reserves far more than it uses.
    """

    def __init__(self, target: Target, limit: float = SECONDS, memory: bool = True) -> None:
        self._target, self._limit, self._memory = target, limit, memory
        self._shared = mmap.mmap(-1, _HEAD.size + LARGEST)

    def run(self, inputs: Source, on_new: Callable[[bytes], None], seconds: float) -> Result:
        """Feed inputs for some time, or until one ends the child.

        Parameters
        ----------
        inputs : callable
            Gives the inputs, in the child.
        on_new : callable
            Is called, in the child, with an input of an outcome that was not seen before.
        seconds : float
        """
        _HEAD.pack_into(self._shared, 0, 0, 0)
        with scratch() as folder, tempfile.TemporaryFile("w+") as report:
            child = os.fork()
            if child == 0:
                code = 1
                try:
                    self._feed(folder, inputs, on_new, seconds, report.fileno())
                    code = 0
                except BaseException:
                    traceback.print_exc(file=sys.__stderr__)
                finally:
                    os._exit(code)
            status, hung = self._wait(child)
            report.seek(0)
            lines = [json.loads(line) for line in report if line.endswith("\n")]
        findings = [(Finding(*line[:3]), bytes.fromhex(line[3])) for line in lines if len(line) == 4]
        count, length = _HEAD.unpack_from(self._shared, 0)
        read = next((line[0] for line in reversed(lines) if len(line) == 1), 0)
        if status == 0:
            return Result(count, read, findings, True)
        data = bytes(self._shared[_HEAD.size : _HEAD.size + length])
        if status > 0 or count == 0:
            raise RuntimeError(f"the child of the fuzzer itself failed: exit code {status}")
        name = signal.Signals(-status).name
        slow = hung or -status == signal.SIGPROF
        kind = "hang" if slow else "crash"
        text = f"more than {self._limit:g} s" if slow else f"the process was ended by {name}"
        return Result(count, read, [*findings, (Finding(kind, name, text), data)], False)

    def _feed(
        self, folder: Path, inputs: Source, on_new: Callable[[bytes], None], seconds: float, report: int
    ) -> None:
        runner, end = Runner(self._target, folder), time.monotonic() + seconds
        if self._memory:
            limit_memory()
        seen: set[str] = set()
        count = read = 0
        with quiet():
            for data in inputs():
                if count % 16 == 0 and time.monotonic() > end:
                    break
                count += 1
                self._shared[_HEAD.size : _HEAD.size + len(data)] = data
                _HEAD.pack_into(self._shared, 0, count, len(data))
                # Of the time of the processor, so that a machine with other work makes no hang of it. The signal is
                # not handled: it also ends code that never comes back to Python.
                signal.setitimer(signal.ITIMER_PROF, self._limit)
                outcome = runner.outcome(data)
                signal.setitimer(signal.ITIMER_PROF, 0)
                read += outcome == "read"
                key = outcome.key if isinstance(outcome, Finding) else skeleton(outcome)
                drifts = outcome == "read" and read % _DRIFT == 0
                if key in seen and not drifts:
                    continue
                seen.add(key)
                on_new(data)
                if isinstance(outcome, Finding):
                    os.write(report, (json.dumps([*outcome, data.hex()]) + "\n").encode())
        os.write(report, (json.dumps([read]) + "\n").encode())

    def _wait(self, child: int) -> tuple[int, bool]:
        """Return the exit code of the child, negative for a signal, and whether it had to be killed."""
        last, since = -1, time.monotonic()
        while True:
            pid, status = os.waitpid(child, os.WNOHANG)
            if pid:
                return os.waitstatus_to_exitcode(status), False
            count = _HEAD.unpack_from(self._shared, 0)[0]
            if count != last:
                last, since = count, time.monotonic()
            elif time.monotonic() - since > _WALL:
                os.kill(child, signal.SIGKILL)
                return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), True
            time.sleep(0.02)
