"""Memory of the machine that a run may use."""

from __future__ import annotations

import contextlib
import contextvars
import math
import os
from collections.abc import Iterator
from pathlib import Path

__all__ = ["GIB", "available_memory", "memory_budget", "memory_share"]

GIB = 2.0**30
_share: contextvars.ContextVar[float | None] = contextvars.ContextVar("memory", default=None)


def available_memory() -> float | None:
    """Return the memory that can be had without swapping, GiB, or None where the system does not tell.

    Examples
    --------
    >>> memory = available_memory()
    >>> memory is None or memory > 0
    True
    """
    share = _share.get()
    if share is not None:
        return share
    found = [value for value in (_from_meminfo(), _from_control_group()) if value is not None]
    if not found:
        try:
            found = [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / GIB]
        except (AttributeError, ValueError, OSError):
            return None
    return min(found)


def memory_budget(limit: float | None) -> float:
    """Return what may be used under a limit of the user's, if there is one: no more than is available, GiB."""
    return min(value for value in (limit, available_memory(), math.inf) if value is not None)


@contextlib.contextmanager
def memory_share(memory: float) -> Iterator[None]:
    """Let `available_memory` tell inside the block what a job may use that runs beside others, GiB.

    What is decided by it then does not depend on what the others are about to take.
    """
    token = _share.set(memory)
    try:
        yield
    finally:
        _share.reset(token)


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
