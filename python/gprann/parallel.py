"""Threads of the compiled core, and the BLAS behind its large products."""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Iterator

from scipy.linalg import cython_blas, cython_lapack
from threadpoolctl import ThreadpoolController

from gprann import _core
from gprann.errors import ConfigError

__all__ = ["n_threads", "one_blas_thread", "scipy_blas"]


def n_threads() -> int:
    """Return the number of threads to use.

    `GPRANN_NUM_THREADS`, else `OMP_NUM_THREADS`, else the processors this process may run on.
    Results have the same bits for any number.

    Raises
    ------
    ConfigError
        If a variable is set to something else than a positive integer.
    """
    for variable in ("GPRANN_NUM_THREADS", "OMP_NUM_THREADS"):
        value = os.environ.get(variable, "").split(",")[0].strip()
        if value:
            if not value.isdecimal() or int(value) < 1:
                raise ConfigError(f"{variable}={value}: expected a positive integer")
            return int(value)
    if hasattr(os, "sched_getaffinity"):
        return max(1, len(os.sched_getaffinity(0)))
    return os.cpu_count() or 1


@functools.cache
def scipy_blas() -> _core.Blas:
    """Return the BLAS and LAPACK routines of scipy, for the core's large products."""
    blas, lapack = cython_blas.__pyx_capi__, cython_lapack.__pyx_capi__
    return _core.Blas(blas["dgemm"], blas["dsyrk"], blas["dtrsm"], lapack["dpotrf"])


@functools.cache
def _controller() -> ThreadpoolController:
    return ThreadpoolController()


@contextlib.contextmanager
def one_blas_thread() -> Iterator[None]:
    """Keep BLAS to one thread a call: the core's own threads call it side by side.

    This is also what makes results independent of the number of threads.
    """
    with _controller().limit(limits=1, user_api="blas"):
        yield
