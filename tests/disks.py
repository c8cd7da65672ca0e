"""Disks that are full, or cannot be written to, for a while."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import signal
import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest


class Disk:
    """The disk that atomic files and files that grow are brought to; full after some more writes.

    Parameters
    ----------
    monkeypatch : MonkeyPatch
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._left: int | None = None
        self.writes = 0
        for owner, name in ((os, "fsync"), (Path, "replace")):
            monkeypatch.setattr(owner, name, self._counted(getattr(owner, name)))

    def fill(self, left: int | None) -> None:
        """Let so many writes succeed from now on, all if None."""
        self._left = left

    def _counted(self, write: Any) -> Any:
        def counted(*arguments: Any) -> Any:
            self.writes += 1
            if self._left is not None:
                if self._left == 0:
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                self._left -= 1
            return write(*arguments)

        return counted


@contextlib.contextmanager
def largest_file(size: int) -> Iterator[None]:
    """Let no file grow beyond a size, bytes: the system itself refuses, in the midst of a write."""
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)


@contextlib.contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """Let this thread write nothing into a folder, even if it is root's; skip the test where this cannot be had."""
    mode = folder.stat().st_mode
    folder.chmod(stat.S_IRUSR | stat.S_IXUSR)
    try:
        with _without_capabilities():
            try:
                (folder / "probe").touch()
            except OSError:
                yield
            else:
                (folder / "probe").unlink()
                pytest.skip("this user may write into folders that are read-only")
    finally:
        folder.chmod(mode)


_CAPABILITIES_VERSION = 0x20080522
_WRITES_ANYWHERE = 0b110  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH


@contextlib.contextmanager
def _without_capabilities() -> Iterator[None]:
    """Take from this thread of root the right to write where the permissions forbid it (Linux)."""
    if sys.platform != "linux" or os.geteuid() != 0:
        yield
        return
    library = ctypes.CDLL(None, use_errno=True)
    header = (ctypes.c_uint32 * 2)(_CAPABILITIES_VERSION, 0)
    own = (ctypes.c_uint32 * 6)()  # twice: effective, permitted, inheritable
    if library.capget(header, own) != 0:
        pytest.skip("the rights of root cannot be read")
    effective = own[0]
    own[0] = effective & ~_WRITES_ANYWHERE
    if library.capset(header, own) != 0:
        pytest.skip("the rights of root cannot be given up")
    try:
        yield
    finally:
        own[0] = effective
        library.capset(header, own)


def left_behind(folder: Path) -> list[str]:
    """Return the hidden files of writes that were not ended."""
    return [path.name for path in folder.rglob(".*.tmp")]
