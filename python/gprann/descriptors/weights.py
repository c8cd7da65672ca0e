"""Species weights as descriptors take them from users."""

from __future__ import annotations

from typing import Any

import numpy as np


def channel_rows(weights: Any) -> tuple[tuple[float, ...], ...] | None:
    """Return weights as rows, one for each channel; a single channel may be given without the outer list.

    Raises
    ------
    ValueError
        If these are no finite numbers, or no table of them.
    """
    if weights is None:
        return None
    try:
        given = np.asarray(weights, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"weights: expected numbers, one for each species, got {weights!r}") from error
    rows = given.reshape(0, 0) if given.size == 0 else np.atleast_2d(given)
    if rows.ndim != 2 or not np.isfinite(rows).all():
        raise ValueError(f"weights: shape {given.shape}, expected (channels, species) finite numbers")
    return tuple(tuple(row) for row in rows.tolist())
