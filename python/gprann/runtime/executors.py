"""Independent pieces of work on other processes and machines, all through `concurrent.futures.Executor`.

Processes of this machine (`WorkerProcesses`) are the default; `mpi4py.futures` and `dask.distributed` bring executors
of their own, and any other executor may be given from Python. Work is a function of a module and its arguments; what is
large goes through files in a folder that all machines see, and what is finished lies there when a worker is lost.
"""

from __future__ import annotations

import contextlib
import logging
import os
import pickle
import queue
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Executor, Future, wait
from dataclasses import dataclass
from importlib import import_module
from typing import IO, Annotated, Any, TypeAlias

from pydantic import BeforeValidator, Field

from gprann.errors import ConfigError, GprannError
from gprann.runtime.resources import n_threads

_log = logging.getLogger(__name__)
_TAIL = 2000  # characters of what a process said last
_MPI, _DASK = "mpi", "dask:"


def check_workers(value: object) -> object:
    """Return what `workers` may be: a number, "mpi", "dask:ADDRESS" or an executor.

    Raises
    ------
    ValueError
        For another text.

    Examples
    --------
    >>> check_workers("dask:tcp://node1:8786")
    'dask:tcp://node1:8786'
    """
    value = _as_number_or_name(value)
    if isinstance(value, int) and value < 1:
        raise ValueError("expected 1 or more")
    return value


def _as_number_or_name(value: object) -> object:
    if isinstance(value, str) and value.strip().removeprefix("-").isdecimal():
        return int(value)  # of a command line
    if isinstance(value, str) and value != _MPI and not (value.startswith(_DASK) and value != _DASK):
        raise ValueError('expected a number, "mpi", or "dask:" and the address of a scheduler or its file')
    return value


WorkersOption = Annotated[Annotated[int, Field(ge=1)] | str, BeforeValidator(_as_number_or_name)]
Workers: TypeAlias = int | str | Executor


def process_count(workers: Workers | None) -> int | None:
    """Return the number of processes of this machine that were asked for; None where others decide.

    Examples
    --------
    >>> process_count(3), process_count("mpi"), process_count(None)
    (3, None, None)
    """
    return workers if isinstance(workers, int) else None


def is_remote(workers: Workers | None) -> bool:
    """Return whether the work goes to an executor that is not of this machine's own processes."""
    return workers is not None and not isinstance(workers, int)


class WorkerLostError(BrokenExecutor):
    """A worker process that ended before its work was done, with what it said last."""


@dataclass(frozen=True, slots=True)
class Call:
    """A function of a module, and its arguments: what can be pickled.

    Attributes
    ----------
    function : callable
    arguments : tuple
    """

    function: Callable[..., Any]
    arguments: tuple[Any, ...]


class WorkerProcesses(Executor):
    """Processes of this machine, each with an interpreter and threads of its own.

    Unlike those of `concurrent.futures.ProcessPoolExecutor` they never run the script of the user again, so that it
    needs no main guard, and one that dies takes nothing but its work with it: the next piece gets a new process.

    Parameters
    ----------
    workers : int
    threads : int, optional
        Of each; default: an equal share.

    Examples
    --------
    >>> with WorkerProcesses(1) as pool:
    ...     pool.submit(divmod, 7, 2).result()
    (3, 1)
    """

    def __init__(self, workers: int, threads: int | None = None) -> None:
        self._threads = threads or max(1, n_threads() // workers)
        self._pending: queue.SimpleQueue[tuple[Future[Any], bytes] | None] = queue.SimpleQueue()
        self._processes: dict[int, subprocess.Popen[bytes]] = {}
        self._lock = threading.Lock()
        self._closed = False
        self._keepers = [
            threading.Thread(target=self._keep_busy, args=(k,), daemon=True) for k in range(workers)
        ]
        for keeper in self._keepers:
            keeper.start()

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Return the future result of a call of a function of a module."""
        if self._closed:
            raise RuntimeError("the executor has been shut down")
        future: Future[Any] = Future()
        self._pending.put((future, pickle.dumps((fn, args, kwargs))))
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """End the processes, after the work that was submitted unless it is to be cancelled."""
        with self._lock:
            self._closed = True
            if cancel_futures:
                with contextlib.suppress(queue.Empty):
                    while True:
                        item = self._pending.get_nowait()
                        if item is not None:
                            item[0].cancel()
                for process in self._processes.values():
                    process.kill()
        for _ in self._keepers:
            self._pending.put(None)
        if wait:
            for keeper in self._keepers:
                keeper.join()

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        self.shutdown(
            cancel_futures=kind is not None
        )  # an interruption does not wait for work that nobody wants

    def _keep_busy(self, number: int) -> None:
        with tempfile.TemporaryFile() as log:
            while (item := self._pending.get()) is not None:
                future, request = item
                if not future.set_running_or_notify_cancel():
                    continue
                try:
                    process = self._process(number, log)
                    answered, answer = _ask(process, request)
                except Exception as error:
                    future.set_exception(error)
                    continue
                if answered is None:
                    future.set_exception(WorkerLostError(self._bury(number, log)))
                elif answered:
                    future.set_result(answer)
                else:
                    future.set_exception(answer)
            self._end(number)

    def _process(self, number: int, log: IO[bytes]) -> subprocess.Popen[bytes]:
        with self._lock:
            if number not in self._processes:
                if self._closed:
                    raise WorkerLostError("the work was ended")
                log.seek(0)
                log.truncate()
                # -P: modules are found where this process finds them, not in the working directory.
                self._processes[number] = subprocess.Popen(
                    [sys.executable, "-P", "-m", "gprann.runtime.worker"],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=log,
                    env={
                        **os.environ,
                        "GPRANN_NUM_THREADS": str(self._threads),
                        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
                    },
                )
            return self._processes[number]

    def _bury(self, number: int, log: IO[bytes]) -> str:
        """Take leave of a process that has died; return how it ended."""
        with self._lock:
            process = self._processes.pop(number)
        _close_pipes(process)
        code = process.wait()
        log.seek(0)
        said = log.read().decode("utf-8", errors="replace").strip()[-_TAIL:]
        return f"a worker ended with code {code}: {said}"

    def _end(self, number: int) -> None:
        with self._lock:
            process = self._processes.pop(number, None)
        if process is not None:
            _close_pipes(process)
            process.wait()


def _close_pipes(process: subprocess.Popen[bytes]) -> None:
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            with contextlib.suppress(OSError):
                pipe.close()


def _ask(process: subprocess.Popen[bytes], request: bytes) -> tuple[bool | None, Any]:
    """Return whether a request succeeded, and its result or exception; None if the process died over it."""
    if process.stdin is None or process.stdout is None:  # pipes are always asked for
        return None, None
    try:
        write_message(process.stdin, request)
        answer = read_message(process.stdout)
    except OSError:  # a broken pipe
        return None, None
    if answer is None:
        return None, None
    succeeded, content = pickle.loads(answer)
    return bool(succeeded), content


def write_message(stream: IO[bytes], message: bytes) -> None:
    """Write a message behind its length."""
    stream.write(len(message).to_bytes(8, "little") + message)
    stream.flush()


def read_message(stream: IO[bytes]) -> bytes | None:
    """Return the next message, None at the end of the stream."""
    header = stream.read(8)
    if len(header) < 8:
        return None
    length = int.from_bytes(header, "little")
    message = stream.read(length)
    return message if len(message) == length else None


# ------------------------------------------------------------------- engines
@contextlib.contextmanager
def open_executor(workers: Workers) -> Iterator[Executor]:
    """Give the executor that `workers` names; one that was given stays open.

    Raises
    ------
    ConfigError
        If its package is missing, or the scheduler cannot be reached.
    """
    if isinstance(workers, Executor):
        yield workers
        return
    check_workers(workers)
    if isinstance(workers, int):
        with WorkerProcesses(workers) as pool:
            yield pool
    elif workers == _MPI:
        with _import("mpi4py.futures", "mpi4py", workers).MPIPoolExecutor(main=False) as pool:
            yield pool
    else:
        yield from _open_dask(workers)


def _open_dask(workers: str) -> Iterator[Executor]:
    distributed = _import("distributed", "distributed", workers)
    address = workers.removeprefix(_DASK)
    options = {"scheduler_file": address} if os.path.isfile(address) else {"address": address}  # noqa: PTH113
    try:
        client = distributed.Client(**options, timeout="30s", set_as_default=False)
    except (OSError, ValueError, TimeoutError) as error:
        raise ConfigError(
            f"workers = {workers}: the scheduler cannot be reached ({error}); start it with 'dask scheduler', and "
            "give the address that it prints, or the file of --scheduler-file"
        ) from error
    with client:
        yield client.get_executor(pure=False)


def _import(module: str, package: str, workers: str) -> Any:
    try:
        return import_module(module)
    except ImportError as error:
        raise ConfigError(
            f"workers = {workers} needs {package}: pip install 'gprann[cluster]' ({error})"
        ) from error


def run_calls(
    workers: Workers, calls: Sequence[Call], done: Callable[[int, Any], object], *, retries: int = 2
) -> None:
    """Make calls side by side, in any order; tell each result as soon as it is there.

    A call whose worker is lost is made again, by another one; errors of gprann itself are final.

    Parameters
    ----------
    workers : int, str or Executor
    calls : sequence of Call
    done : callable
        Called in this thread with the number of the call and its result.
    retries : int

    Raises
    ------
    GprannError
        Of the call that raised one.
    WorkerLostError
        If a call lost more than `retries` workers.
    """
    work = _Work(calls, done, retries)
    while work.left:
        with open_executor(workers) as pool:
            try:
                work.run(pool)
            except WorkerLostError:
                raise
            except BrokenExecutor as error:
                if isinstance(workers, Executor):
                    raise
                _log.warning("the executor broke (%s); it is opened again", error)


class _Work:
    """Calls, and what has become of them."""

    def __init__(self, calls: Sequence[Call], done: Callable[[int, Any], object], retries: int) -> None:
        self._calls, self._done, self._retries = calls, done, retries
        self._losses = [0] * len(calls)
        self._running: dict[Future[Any], int] = {}
        self.left = set(range(len(calls)))

    def run(self, pool: Executor) -> None:
        self._running.clear()
        try:
            for k in sorted(self.left):
                self._submit(pool, k)
            while self._running:
                for future in wait(self._running, return_when=FIRST_COMPLETED).done:
                    self._take(pool, future)
        finally:
            for future in self._running:
                future.cancel()

    def _submit(self, pool: Executor, k: int) -> None:
        self._running[pool.submit(self._calls[k].function, *self._calls[k].arguments)] = k

    def _take(self, pool: Executor, future: Future[Any]) -> None:
        k = self._running.pop(future)
        try:
            result = future.result()
        except GprannError:
            raise
        # Every engine has exceptions of its own for a worker that is gone.
        except Exception as error:
            self._losses[k] += 1
            if self._losses[k] > self._retries:
                raise WorkerLostError(
                    f"{self._losses[k]} workers failed at the same work: {error}"
                ) from error
            _log.warning("a worker was lost (%s); its work is done again", error)
            self._submit(pool, k)
            return
        self.left.discard(k)
        self._done(k, result)
