"""Number and size of the displacements where the user gives none."""

from __future__ import annotations

import logging
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from gprann.augmentation.copies import displaced
from gprann.structure import Dataset, Structure
from gprann.surrogate import Surrogate

__all__ = ["automatic_copies", "largest_certain"]

Array = NDArray[np.float64]
_log = logging.getLogger(__name__)
_FEWEST, _MOST = 10, 36  # copies; potentials improve no more beyond 36 (Yeu et al. 2025)
_LEFT_OUT, _TRIED = 16, 32  # structures whose uncertainty is computed
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


def largest_certain(
    surrogate: Surrogate,
    data: Dataset,
    shifts: Callable[[Structure, int, float], Array],
    bounds: tuple[float, float],
) -> float:
    """Return the largest size of displacements at which copies are no more uncertain than unseen structures.

    The medians are compared of the standard deviation of the energies of copies, and of training structures given
    all the others: a copy shall not lie farther from its parent than the structures of the set from each other.

    Parameters
    ----------
    surrogate : Surrogate
        Fitted to `data`.
    data : Dataset
    shifts : callable
        Gives the displacements (m, N, 3) of copies of structure k for a size, in Å.
    bounds : tuple of float
        Between which the size is sought.
    """
    limit = float(np.median(surrogate.left_out_std(_LEFT_OUT)))
    chosen = np.unique(np.linspace(0, len(data) - 1, min(_TRIED, len(data))).round().astype(np.int64))
    parents = data.select(chosen)

    def certain(size: float) -> bool:
        made = (shifts(structure, int(k), size) for k, structure in zip(chosen, parents, strict=True))
        std = surrogate.predict(displaced(parents, "gpr", made), forces=False).energy_std
        return std is not None and (len(std) == 0 or float(np.median(std)) <= limit)

    low, high = bounds
    if certain(high):
        low = high
    for _ in range(_HALVINGS if low < high else 0):
        middle = float(np.sqrt(low * high))
        low, high = (middle, high) if certain(middle) else (low, middle)
    _log.info("copies no more uncertain than structures left out (%.2g eV): size %.3g", limit, low)
    return float(f"{low:.3g}")
