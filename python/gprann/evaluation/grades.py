"""How well extrapolation grades tell large force errors."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from gprann.arrays import Array
from gprann.evaluation.residuals import ForceResiduals
from gprann.models.guard import STOP

LARGE = 5.0
"""Multiple of the median from which on a force error is large."""
_LIMITS = (0.0, 1.0, STOP, np.inf)


@dataclass(frozen=True, slots=True)
class GradeRange:
    """Force errors of the atoms whose grade lies between two limits.

    Attributes
    ----------
    lower, upper : float
        `upper` is None where there is no limit.
    n_atoms : int
    share : float
        Of all atoms.
    force_mae, force_rmse : float, eV/Å, or None
        Over the Cartesian components; None without atoms.
    """

    lower: float
    upper: float | None
    n_atoms: int
    share: float
    force_mae: float | None
    force_rmse: float | None


@dataclass(frozen=True, slots=True)
class GuardMetrics:
    """Force errors by extrapolation grade.

    Attributes
    ----------
    ranges : list of GradeRange
        Below 1, from there to 2, and above.
    n_large : int
        Atoms whose force error exceeds five times the median.
    roc_area : float or None
        Probability that such an atom has a larger grade than another: 1 if grades tell them without a mistake, 0.5 if
        they tell nothing; None where all errors are alike.
    roc_area_std : float or None
        The same of the standard deviations of a committee.
    """

    ranges: list[GradeRange]
    n_large: int
    roc_area: float | None
    roc_area_std: float | None


def roc_area(score: Array, positive: NDArray[np.bool_]) -> float | None:
    """Return the area under the receiver operating characteristic, None if all or none are positive.

    Parameters
    ----------
    score : ndarray, shape (n,)
    positive : ndarray of bool, shape (n,)
        Those that should have the larger scores.

    Examples
    --------
    >>> roc_area(np.array([1.0, 2.0, 3.0, 4.0]), np.array([False, True, False, True]))
    0.75
    """
    n = int(np.sum(positive))
    if n in {0, len(positive)}:
        return None
    ranks = rankdata(score)
    return float((ranks[positive].sum() - n * (n + 1) / 2) / (n * (len(positive) - n)))


def guard_metrics(forces: ForceResiduals | None) -> GuardMetrics | None:
    """Return force errors by extrapolation grade; None without reference forces or grades.

    Examples
    --------
    >>> forces = ForceResiduals(
    ...     np.zeros(4, int), np.array(["H"] * 4), np.zeros((4, 3)), np.diag([1.0, 1, 1, 9])[:, 1:],
    ...     grades=np.array([0.2, 0.5, 1.5, 3.0]),
    ... )
    >>> [part.n_atoms for part in guard_metrics(forces).ranges]
    [2, 1, 1]
    """
    if forces is None or forces.grades is None or len(forces) == 0:
        return None
    error = np.linalg.norm(forces.error, axis=1)
    large = error > LARGE * np.median(error)
    std = None if forces.std is None else np.linalg.norm(forces.std, axis=1)
    return GuardMetrics(
        [_range(forces, lower, upper) for lower, upper in pairwise(_LIMITS)],
        int(np.sum(large)),
        roc_area(forces.grades, large),
        None if std is None else roc_area(std, large),
    )


def _range(forces: ForceResiduals, lower: float, upper: float) -> GradeRange:
    assert forces.grades is not None
    inside = (forces.grades >= lower) & (forces.grades < upper)
    error = forces.error[inside]
    return GradeRange(
        lower,
        float(upper) if np.isfinite(upper) else None,
        len(error),
        len(error) / len(forces),
        float(np.mean(np.abs(error))) if len(error) else None,
        float(np.sqrt(np.mean(error**2))) if len(error) else None,
    )
