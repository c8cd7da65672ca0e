"""Memory of the machine that a run may use."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["GIB", "available_memory"]

GIB = 2.0**30


def available_memory() -> float | None:
    """Return the memory that can be had without swapping, GiB, or None where the system does not tell.

    Examples
    --------
    >>> memory = available_memory()
    >>> memory is None or memory > 0
    True
    """
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
