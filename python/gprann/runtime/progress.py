"""Progress bars: on a terminal only, silent in a log."""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Iterator
from typing import Any

from tqdm import tqdm

__all__ = ["SharedBar", "progress_bar"]


def progress_bar(total: int, label: str, *, unit: str = "structures", show: bool | None = None) -> Any:
    """Return a tqdm bar with rate and time left; by default hidden unless standard error is a terminal."""
    visible = sys.stderr.isatty() if show is None else show
    return tqdm(
        total=total,
        desc=label,
        unit=unit,
        disable=not visible,
        dynamic_ncols=True,
        leave=False,
        mininterval=0.2,
    )


class SharedBar:
    """A progress bar that several threads move, each of which says what it is about.

    Parameters
    ----------
    bar : tqdm
    """

    def __init__(self, bar: Any) -> None:
        self._bar = bar
        self._lock = threading.Lock()
        self._names: list[str] = []

    def update(self, count: int) -> None:
        """Move on by some steps."""
        with self._lock:
            self._bar.update(count)

    def extend(self, count: int) -> None:
        """Add steps to the total."""
        with self._lock:
            self._bar.total += count
            self._bar.refresh()

    @contextlib.contextmanager
    def about(self, name: str) -> Iterator[None]:
        """Show what a thread is about, until the block ends."""
        self._show(add=name)
        try:
            yield
        finally:
            self._show(drop=name)

    def _show(self, *, add: str | None = None, drop: str | None = None) -> None:
        with self._lock:
            self._names = [name for name in self._names if name != drop] + ([] if add is None else [add])
            self._bar.set_postfix_str(", ".join(self._names))
