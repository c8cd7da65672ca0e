"""Resources of a job: threads, memory, and the BLAS behind the large products of the core."""

from __future__ import annotations

import contextlib
import contextvars
import functools
import math
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, CancelledError, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Generic, TypeVar

from scipy.linalg import cython_blas, cython_lapack
from threadpoolctl import ThreadpoolController

from gprann import _core
from gprann.errors import ConfigError

T = TypeVar("T")
GIB = 2.0**30


@functools.cache
def scipy_blas() -> _core.Blas:
    """Return the BLAS and LAPACK routines of scipy, for the core's large products."""
    blas, lapack = cython_blas.__pyx_capi__, cython_lapack.__pyx_capi__
    return _core.Blas(blas["dgemm"], blas["dsyrk"], blas["dtrsm"], lapack["dpotrf"])


@functools.cache
def _controller() -> ThreadpoolController:
    return ThreadpoolController()


def _machine_threads() -> int:
    for variable in ("GPRANN_NUM_THREADS", "OMP_NUM_THREADS"):
        value = os.environ.get(variable, "").split(",")[0].strip()
        if value:
            if not value.isdecimal() or int(value) < 1:
                raise ConfigError(f"{variable}={value}: expected a positive integer")
            return int(value)
    if hasattr(os, "sched_getaffinity"):
        return max(1, len(os.sched_getaffinity(0)))
    return os.cpu_count() or 1


class _Here(threading.local):
    """The resources of the blocks that a thread is in."""

    depth = 0
    machine_threads = 0  # as they were when it entered the first of them: small steps need the number often


class _BlasLimit:
    """One thread for BLAS as long as anyone wants it: the limit is the process's, not that of a thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._users = 0
        self._first: Any = None
        self.here = _Here()

    def begin(self) -> None:
        depth = self.here.depth
        if depth == 0:
            self.here.machine_threads = _machine_threads()
        self.here.depth = depth + 1
        if depth > 0:  # this thread has the limit already: setting it takes longer than a small step
            return
        with self._lock:
            if self._users == 0:
                self._free()
            # By every thread: that of a BLAS with OpenMP is the thread's own.
            limit = _controller().limit(limits=1, user_api="blas")
            if self._users == 0:
                self._first = limit
            self._users += 1

    def end(self) -> None:
        self.here.depth -= 1
        if self.here.depth > 0:
            return
        with self._lock:
            self._users -= 1
            if self._users == 0:
                self._free()
                self._first.restore_original_limits()
                self._free()

    @staticmethod
    def _free() -> None:
        """Allow any thread to set the limit; from version 3.8 on only the one may that was the first."""
        for library in _controller().lib_controllers:
            clear = getattr(library, "clear_controlling_thread", None)
            if clear is not None:
                clear(force=True)


_blas_limit = _BlasLimit()


@contextlib.contextmanager
def one_blas_thread() -> Iterator[None]:
    """Keep BLAS to one thread a call: the core's own threads call it side by side.

    This is also what makes results independent of the number of threads. BLAS gets its threads back when the last
    of the blocks that several threads may be in has ended.
    """
    _blas_limit.begin()
    try:
        yield
    finally:
        _blas_limit.end()


class _Team:
    """Jobs that run side by side and share the threads, perhaps within a job of others."""

    def __init__(self, threads: int, around: _Team | None) -> None:
        self.threads, self.around = threads, around
        self.running = 1
        self.stopped = False

    def share(self) -> int:
        """Return how many threads each of them has."""
        if self.around is not None:
            self.around.share()  # ends this job where one beside those around it has failed
        if self.stopped:
            raise CancelledError("stopped: a job beside this one has failed")
        return max(1, self.threads // self.running)


@dataclass(frozen=True, slots=True)
class Resources:
    """Threads and memory of a job.

    Attributes
    ----------
    team : _Team or None
        The jobs that share the threads; None for a job that has all threads of the machine.
    memory : float, GiB, or None
        Share of the memory; None for a job that has all the memory of the machine.
    """

    team: _Team | None = None
    memory: float | None = None


_resources: contextvars.ContextVar[Resources] = contextvars.ContextVar("resources", default=Resources())  # noqa: B039


def n_threads() -> int:
    """Return the number of threads to use.

    `GPRANN_NUM_THREADS`, else `OMP_NUM_THREADS`, else the processors this process may run on; of these its share
    in a job that runs with others (see `side_by_side`). Results have the same bits for any number.

    Raises
    ------
    ConfigError
        If a variable is set to something else than a positive integer.
    CancelledError
        In a job beside which another one has failed.

    Examples
    --------
    >>> n_threads() >= 1
    True
    """
    team = _resources.get().team
    if team is not None:
        return team.share()
    return _blas_limit.here.machine_threads if _blas_limit.here.depth else _machine_threads()


def available_memory() -> float | None:
    """Return the memory that can be had without swapping, GiB, or None where the system does not tell.

    Examples
    --------
    >>> memory = available_memory()
    >>> memory is None or memory > 0
    True
    """
    memory = _resources.get().memory
    return _machine_memory() if memory is None else memory


def memory_budget(limit: float | None) -> float:
    """Return the memory that may be used, GiB: the user's limit, if there is one, but no more than is available.

    Examples
    --------
    >>> memory_budget(0.001)
    0.001
    """
    return min(value for value in (limit, available_memory(), math.inf) if value is not None)


@contextlib.contextmanager
def memory_share(memory: float) -> Iterator[None]:
    """Give a job that runs beside others a fixed share of the memory, GiB, which `available_memory` returns in it.

    Decisions that depend on the memory are then independent of the other jobs.

    Examples
    --------
    >>> with memory_share(2.0):
    ...     available_memory()
    2.0
    """
    token = _resources.set(replace(_resources.get(), memory=memory))
    try:
        yield
    finally:
        _resources.reset(token)


@contextlib.contextmanager
def thread_share(threads: int) -> Iterator[None]:
    """Give what this process does a fixed number of threads, which `n_threads` returns in it.

    Examples
    --------
    >>> with thread_share(3):
    ...     n_threads()
    3
    """
    here = _resources.get()
    token = _resources.set(replace(here, team=_Team(threads, here.team)))
    try:
        yield
    finally:
        _resources.reset(token)


@contextlib.contextmanager
def blas_and_threads() -> Iterator[tuple[_core.Blas, int]]:
    """Give what a kernel with large products takes: scipy's BLAS, kept to one thread a call, and the threads.

    Examples
    --------
    >>> import numpy as np
    >>> matrix = np.eye(3)
    >>> with blas_and_threads() as (blas, threads):
    ...     _core.cholesky(blas, matrix, threads)
    -1
    """
    _blas_limit.begin()
    try:
        yield scipy_blas(), n_threads()
    finally:
        _blas_limit.end()


@dataclass(frozen=True, slots=True)
class Job(Generic[T]):
    """A piece of work that may run beside others.

    Attributes
    ----------
    work : callable
    memory : float, GiB
        Memory that the work takes while it runs.
    kept : float, GiB
        Memory that its result takes afterwards.
    """

    work: Callable[[], T]
    memory: float
    kept: float = 0.0


def side_by_side(jobs: Sequence[Job[T]], *, memory: float, most: int | None = None) -> list[T]:
    """Run jobs in threads, as many at a time as there are threads and as the memory allows.

    The jobs begin in their order and share the threads (see `n_threads`). Their results have the same bits as those
    of jobs that run one after the other. A job that alone exceeds the memory runs alone. When one fails the others
    end at their next call of the core.

    Parameters
    ----------
    jobs : sequence of Job
    memory : float, GiB
        Largest sum of the memory of those that run and of the results.
    most : int, optional
        Most jobs at a time.

    Returns
    -------
    list
        Results in the order of the jobs.

    Raises
    ------
    Exception
        The exception of the first job that failed.

    Examples
    --------
    >>> side_by_side([Job(lambda k=k: k**2, 0.1) for k in range(4)], memory=0.2)
    [0, 1, 4, 9]
    """
    threads = n_threads()
    at_once = min(threads, len(jobs), threads if most is None else most)
    if at_once < 2:
        return [job.work() for job in jobs]
    here = _resources.get()
    team = _Team(threads, here.team)
    futures: list[Future[T]] = []
    running: dict[Future[T], Job[T]] = {}
    kept = 0.0
    with one_blas_thread(), ThreadPoolExecutor(at_once) as pool:
        try:
            for job in jobs:
                while running and (
                    len(running) == at_once
                    or kept + job.memory + sum(other.memory for other in running.values()) > memory
                ):
                    kept += _await_end(running)
                    team.running = max(1, len(running))
                team.running = len(running) + 1
                context = contextvars.copy_context()
                context.run(_resources.set, replace(here, team=team))
                futures.append(pool.submit(context.run, job.work))
                running[futures[-1]] = job
            while running:
                _await_end(running)
                team.running = max(1, len(running))
        except BaseException:
            team.stopped = True
            raise
    return [future.result() for future in futures]


def _await_end(running: dict[Future[T], Job[T]]) -> float:
    """Wait until jobs end and take them off; return the memory of their results."""
    done, _ = wait(running, return_when=FIRST_COMPLETED)
    ended = [future for future in running if future in done]  # in their order
    for future in ended:
        future.result()
    return sum(running.pop(future).kept for future in ended)


def _machine_memory() -> float | None:
    found = [value for value in (_from_meminfo(), _from_control_group()) if value is not None]
    if not found:
        try:
            found = [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / GIB]
        except (AttributeError, ValueError, OSError):
            return None
    return min(found)


def _from_meminfo() -> float | None:
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        return next(float(line.split()[1]) * 1024 / GIB for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration, ValueError, IndexError):
        return None


def _from_control_group() -> float | None:
    """Return what the limit of a container or a batch job leaves."""
    folder = Path("/sys/fs/cgroup")
    try:
        limit = (folder / "memory.max").read_text(encoding="ascii").strip()
        used = (folder / "memory.current").read_text(encoding="ascii")
        return None if limit == "max" else max(0.0, (float(limit) - float(used)) / GIB)
    except (OSError, ValueError):
        return None
