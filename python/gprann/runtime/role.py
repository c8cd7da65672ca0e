"""The role of this process among the ranks of MPI; without numpy, so that commands may ask at any time."""

from __future__ import annotations

from contextvars import ContextVar
from typing import Any

TEAM: ContextVar[Any] = ContextVar("team", default=None)
"""The ranks that this process leads."""
_rank = 0


def take_rank(rank: int) -> None:
    """Remember the number of this process among the ranks."""
    global _rank  # noqa: PLW0603 - a process has one role
    _rank = rank


def is_follower() -> bool:
    """Whether this process serves rank 0, which alone speaks to the user and writes files.

    Examples
    --------
    >>> is_follower()
    False
    """
    return _rank > 0


def current_team() -> Any:
    """Return the ranks that this process leads (a `gprann.training.ranks.Team`), or None.

    Examples
    --------
    >>> current_team() is None
    True
    """
    return TEAM.get()
