"""A worker process seen from its parent: a structure goes in, labels or a reason come out."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any, TextIO

from gprann.data.attachments import plain
from gprann.data.structure import Origin, Structure
from gprann.errors import ConfigError
from gprann.labelling.calculators import CalculatorSpec
from gprann.runtime.atomic_write import make_folder, write_error

_TAIL = 600  # characters of what a program said last
_LINES = 8
_DYING = 5.0  # s; a process that closes its output may still have to end


class LabellingError(Exception):
    """A structure that could not be labelled, with the reason."""


def to_message(structure: Structure) -> dict[str, Any]:
    """Return what a calculator sees of a structure, and its place in messages, as plain data of the same bits."""
    return {
        "symbols": structure.symbols,
        "positions": structure.positions.tolist(),
        "cell": structure.cell.tolist(),
        "pbc": structure.pbc.tolist(),
        "info": plain(structure.info),
        "arrays": plain(structure.arrays),
        "constraints": plain(structure.constraints),
        "place": str(structure.origin),
    }


class WorkerProcess:
    """A process that labels one structure after the other; it is started when the first one comes.

    Parameters
    ----------
    spec : CalculatorSpec
    folder : Path
        Working directory of the process, made if needed; what it prints is kept there in `output.log`.
    threads : int or None
        `OMP_NUM_THREADS` of the process; None leaves it as it is.
    timeout : float or None, s
        Time a structure may take.
    """

    def __init__(
        self, spec: CalculatorSpec, folder: Path, *, threads: int | None = None, timeout: float | None = None
    ) -> None:
        self._spec = spec
        self._folder = folder
        self._threads = threads
        self._timeout = timeout
        self._process: subprocess.Popen[str] | None = None
        self._lock = threading.Lock()
        self._closed = False

    def label(self, structure: Structure) -> Structure:
        """Return a structure with its labels; variance and origin of labels that it had are gone with them.

        Raises
        ------
        LabellingError
            If the calculator failed, the process died or took too long. The next structure gets a new process.
        ConfigError
            If the calculator cannot be made.
        """
        process = self._process or self._start()
        begin = self._log.stat().st_size
        late = threading.Event()

        def expire() -> None:
            late.set()
            _kill(process)

        timer = threading.Timer(self._timeout, expire) if self._timeout is not None else None
        if timer is not None:
            timer.start()
        try:
            answer = self._ask(process, to_message(structure.without_labels()))
        finally:
            if timer is not None:
                timer.cancel()
        if answer is None and not late.is_set():
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout=_DYING)
        if late.is_set() or answer is None or "failed" in answer:
            self._end()
        if answer is not None and "failed" not in answer:
            return structure.without_labels().replace(**answer, energy_variance=0.0, origin=Origin())
        if late.is_set():
            raise LabellingError(f"took longer than the {self._timeout:g} s allowed")
        if answer is None:
            raise LabellingError(f"{_ending(process.returncode)}: {self._said(begin)}")
        raise LabellingError(str(answer["failed"]))

    def _open_log(self) -> TextIO:
        try:
            return self._log.open("w", encoding="utf-8")
        except OSError as error:
            raise write_error(self._log, error) from error

    def _start(self) -> subprocess.Popen[str]:
        make_folder(self._folder)
        # -P: modules are found where this process finds them, not in the working directory.
        command = [sys.executable, "-P", "-m", "gprann.labelling.worker"]
        paths = [os.path.abspath(path) for path in sys.path if path]  # noqa: PTH100 - the folder changes
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
        if self._threads is not None:
            environment.setdefault("OMP_NUM_THREADS", str(self._threads))
        with self._lock, self._open_log() as log:
            if self._closed:
                raise LabellingError("the labelling was ended")
            process = self._process = subprocess.Popen(
                command,
                cwd=self._folder,
                env=environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                encoding="utf-8",
                start_new_session=True,
            )
        answer = self._ask(process, self._spec.to_dict())
        if answer is None or "error" in answer:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout=_DYING)
            self._end()
            if answer is not None:
                raise ConfigError(str(answer["error"]))
            ending = _ending(process.returncode)
            raise ConfigError(f"calculator '{self._spec.name}' cannot be made: {ending}: {self._said(0)}")
        return process

    @staticmethod
    def _ask(process: subprocess.Popen[str], message: dict[str, Any]) -> dict[str, Any] | None:
        """Return the answer to a message, None if the process died over it."""
        if process.stdin is None or process.stdout is None:  # pipes are always asked for
            return None
        try:
            process.stdin.write(json.dumps(message) + "\n")
            process.stdin.flush()
            line = process.stdout.readline()
        except OSError:  # a broken pipe
            return None
        if not line.endswith("\n"):
            return None
        answer: dict[str, Any] = json.loads(line)
        return answer

    @property
    def _log(self) -> Path:
        """File that holds what the process has printed."""
        return self._folder / "output.log"

    def _said(self, begin: int) -> str:
        """Return the last lines of what the process has printed since its file had `begin` bytes."""
        text = self._log.read_bytes()[begin:].decode("utf-8", errors="replace").strip()
        return "\n".join(text.splitlines()[-_LINES:])[-_TAIL:] or "it said nothing"

    def _end(self) -> None:
        """End the process; the next structure starts a new one."""
        process, self._process = self._process, None
        if process is None:
            return
        if process.returncode is None:
            _kill(process)
            process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()

    def close(self) -> None:
        """End the process when its work is done: it may clean up after itself."""
        if self._process is not None and self._process.stdin is not None:
            with contextlib.suppress(OSError):
                self._process.stdin.close()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(timeout=10)
        self._end()

    def interrupt(self) -> None:
        """Kill the process from another thread; `label` then raises, and starts no other."""
        with self._lock:
            self._closed = True
            if self._process is not None:
                _kill(self._process)


def _ending(code: int | None) -> str:
    """Return how a process ended, in words."""
    if code is None or code >= 0:
        return f"its process ended with exit status {code}"
    names = {number.value: number.name for number in signal.Signals}
    return f"its process was ended by signal {-code} ({names.get(-code, 'unknown')})"


def _kill(process: subprocess.Popen[str]) -> None:
    """Kill a process and the programs that its calculator has started."""
    if os.name != "posix":
        process.kill()
        return
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
