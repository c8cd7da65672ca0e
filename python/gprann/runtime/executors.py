"""Independent pieces of work on other processes and machines, all through `concurrent.futures.Executor`.

`mpi4py.futures` and `dask.distributed` bring executors of their own, and any other executor may be given from Python.
Work is a function of a module and its arguments; what is large goes through files in a folder that all machines see,
and what is finished lies there when a worker is lost. Processes of this machine, the default, are started by those that
need them.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Executor, Future, wait
from dataclasses import dataclass
from importlib import import_module
from typing import Annotated, Any, TypeAlias

from pydantic import BeforeValidator, Field

from gprann.errors import ConfigError, GprannError

_log = logging.getLogger(__name__)
_MPI, _DASK = "mpi", "dask:"
MOST_LOSSES = 2
"""Workers that may be lost over the same work before it is an error."""


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


class WorkerLostError(BrokenExecutor):
    """Work over which several workers were lost."""


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


# ------------------------------------------------------------------- engines
@contextlib.contextmanager
def open_executor(workers: str | Executor) -> Iterator[Executor]:
    """Give the executor that `workers` names; one that was given stays open.

    Parameters
    ----------
    workers : str or Executor

    Raises
    ------
    ConfigError
        If its package is missing, or the scheduler cannot be reached.
    """
    if isinstance(workers, Executor):
        yield workers
        return
    check_workers(workers)
    if workers == _MPI:
        with _import("mpi4py.futures", "mpi", workers).MPIPoolExecutor(main=False) as pool:
            yield pool
    else:
        yield from _open_dask(workers)


def _open_dask(workers: str) -> Iterator[Executor]:
    distributed = _import("distributed", "dask", workers)
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


def _import(module: str, extra: str, workers: str) -> Any:
    package = module.partition(".")[0]
    try:
        return import_module(module)
    except ImportError as error:
        raise ConfigError(
            f"workers = {workers} needs {package}: pip install 'gprann[{extra}]' ({error})"
        ) from error


def run_calls(
    workers: str | Executor,
    calls: Sequence[Call],
    done: Callable[[int, Any], object],
    *,
    retries: int = MOST_LOSSES,
) -> None:
    """Make calls side by side, in any order; tell each result as soon as it is there.

    A call whose worker is lost is made again, by another one; errors of gprann itself are final.

    Parameters
    ----------
    workers : str or Executor
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
