"""Number and size of the displacements where the user gives none."""

from __future__ import annotations

import logging
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from gprann.augmentation.copies import displaced
from gprann.errors import DataError
from gprann.structure import Dataset, Structure
from gprann.surrogate import Surrogate

__all__ = ["automatic_copies", "largest_size", "uncertainty_of_unseen"]

Array = NDArray[np.float64]
_log = logging.getLogger(__name__)
_FEWEST, _MOST = 10, 36  # copies; potentials improve no more beyond 36 (Yeu et al. 2025)
_LEFT_OUT, _PARENTS = (
    16,
    32,
)  # structures that the uncertainty is computed of, and those tried copies are made of
_SPREADS = 3.0  # of the energies, which copies may rise by
_HALVINGS = 7  # of the interval of the logarithm: 2 % of a displacement


def automatic_copies(structure: Structure) -> int:
    """Return one copy for each degree of freedom, at least 10 and at most 36.

    A structure has 3N unknown slopes, and every copy tells one sum of them; with 36 copies of 20 atoms the
    errors of the potentials have settled (Yeu et al., npj Comput. Mater. 11, 156 (2025)).

    Examples
    --------
    >>> import gprann
    >>> automatic_copies(gprann.examples.hydrogen(7)[0])
    10
    """
    return int(np.clip(3 * len(structure), _FEWEST, _MOST))


def uncertainty_of_unseen(surrogate: Surrogate) -> float:
    """Return the median standard deviation of the energies of training structures given all others, eV."""
    return max(float(np.median(surrogate.left_out_std(_LEFT_OUT))), 1e-9)


def largest_size(
    surrogate: Surrogate,
    data: Dataset,
    shifts: Callable[[Structure, int, float], Array],
    bounds: tuple[float, float],
    limit: float,
) -> float:
    """Return the largest size of displacements that leaves copies close to the reference structures.

    The median standard deviation of their energies is at most `limit`: that of structures the surrogate has not
    seen, so that copies lie no farther from their parents than the structures from each other. And the root mean
    square of the change of energy is at most three times the standard deviation of the energies of the set: at a
    repulsive wall surrogates are surer than they should be.

    Parameters
    ----------
    surrogate : Surrogate
        Fitted to `data`.
    data : Dataset
    shifts : callable
        Gives the displacements (m, N, 3) of copies of structure k for a size, in Å.
    bounds : tuple of float
        Between which the size is sought.
    limit : float, eV
    """
    chosen = np.unique(np.linspace(0, len(data) - 1, min(_PARENTS, len(data))).round().astype(np.int64))
    parents = data.select(chosen)
    spread = float(data.energies.std()) or np.inf

    def allowed(size: float) -> bool:
        own = [shifts(structure, int(k), size) for k, structure in zip(chosen, parents, strict=True)]
        try:
            prediction = surrogate.predict(displaced(parents, "gpr", own), forces=False)
        except DataError:  # the Cartesian kernel refuses copies that have left the places of the others
            return False
        if prediction.energy_std is None or len(prediction) == 0:  # no atom is to move
            return True
        change = prediction.energy - np.repeat(parents.energies, [len(shift) for shift in own])
        rise = float(np.sqrt(np.mean(change**2)))
        return float(np.median(prediction.energy_std)) <= limit and rise <= _SPREADS * spread

    low, high = bounds
    if allowed(high):
        low = high
    for _ in range(_HALVINGS if low < high else 0):
        middle = float(np.sqrt(low * high))
        low, high = (middle, high) if allowed(middle) else (low, middle)
    return float(f"{low:.3g}")
