"""Progress bars: on a terminal only, silent in a log."""

from __future__ import annotations

import sys
from typing import Any

from tqdm import tqdm

__all__ = ["progress_bar"]


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
