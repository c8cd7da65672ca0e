"""Number and size of the displacements where the user gives none."""

from __future__ import annotations

import logging
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from gprann.augmentation.sampling import displaced
from gprann.data.structure import Dataset, Structure, evenly_spread
from gprann.errors import DataError
from gprann.surrogate import Surrogate

__all__ = ["automatic_copies", "largest_size", "relative_noise", "uncertainty_of_unseen"]

Array = NDArray[np.float64]
_log = logging.getLogger(__name__)
_FEWEST, _MOST = 10, 36  # copies; potentials improve no more beyond 36 (Yeu et al. 2025)
_NOISIEST = 1.0  # labels for which the number of copies still grows
_LEFT_OUT, _PARENTS = (
    16,
    32,
)  # structures that uncertainties are computed of, and those that copies are tried of
_SPREADS = 3.0  # of the energies, which copies may rise by
_HALVINGS = 7  # of the interval of the logarithm: 2 % of a displacement


def automatic_copies(structure: Structure, noise: float = 0.0) -> int:
    """Return one copy for each degree of freedom, at least 10 and at most 36, and more if labels are uncertain.

    A structure has 3N unknown slopes, and every copy tells one sum of them; with 36 copies of 20 atoms the
    errors of the potentials have settled (Yeu et al., npj Comput. Mater. 11, 156 (2025)). A label E of standard
    deviation s tells less of a change D of the energy by the displacement: the variance of the slopes found from M
    labels goes as (D² + s²) / M, so that M (1 + (s / D)²) of them tell as much as M exact ones. Beyond s = D, twice
    as many copies, labels are mostly noise, and more of them are not worth their cost.

    Parameters
    ----------
    structure : Structure
    noise : float
        s / D, see `relative_noise`.

    Examples
    --------
    >>> import gprann
    >>> h2 = gprann.examples.hydrogen(7)[0]
    >>> automatic_copies(h2), automatic_copies(h2, 0.5), automatic_copies(h2, 3.0)
    (10, 12, 20)
    """
    exact = int(np.clip(3 * len(structure), _FEWEST, _MOST))
    return round(exact * (1.0 + min(noise, _NOISIEST) ** 2))


def relative_noise(
    surrogate: Surrogate, data: Dataset, shifts: Callable[[Structure, int], Array], threshold: float
) -> float:
    """Return the standard deviation of the labels relative to what they tell, both root mean square.

    Parameters
    ----------
    surrogate : Surrogate
        Fitted to `data`.
    data : Dataset
    shifts : callable
        Gives displacements (m, N, 3) of copies of structure k, in Å.
    threshold : float, eV
        Copies that are less certain, which will be left out, do not count.

    Returns
    -------
    float
        Of the energies of the copies over their differences from those of their parents; 0 if there are none.
    """
    change, std = _tried(surrogate, data, _LEFT_OUT, shifts)
    kept = std <= threshold
    told = float(np.sqrt(np.mean(change[kept] ** 2))) if kept.any() else 0.0
    return float(np.sqrt(np.mean(std[kept] ** 2))) / told if told > 0 else 0.0


def _tried(
    surrogate: Surrogate, data: Dataset, parents: int, shifts: Callable[[Structure, int], Array]
) -> tuple[Array, Array]:
    """Return of copies of some structures the changes of energy and their standard deviations."""
    chosen = evenly_spread(len(data), parents)
    tried = data.select(chosen)
    own = [shifts(structure, int(k)) for k, structure in zip(chosen, tried, strict=True)]
    prediction = surrogate.predict(displaced(tried, "gpr", own), forces=False)
    change = prediction.energy - np.repeat(tried.energies, [len(shift) for shift in own])
    return change, prediction.required_energy_std


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
    spread = float(data.energies.std()) or np.inf

    def allowed(size: float) -> bool:
        try:
            change, std = _tried(surrogate, data, _PARENTS, lambda structure, k: shifts(structure, k, size))
        except DataError:  # the Cartesian kernel refuses copies that have left the places of the others
            return False
        if len(change) == 0:  # no atom is to move
            return True
        rise = float(np.sqrt(np.mean(change**2)))
        return float(np.median(std)) <= limit and rise <= _SPREADS * spread

    low, high = bounds
    if allowed(high):
        low = high
    for _ in range(_HALVINGS if low < high else 0):
        middle = float(np.sqrt(low * high))
        low, high = (middle, high) if allowed(middle) else (low, middle)
    return float(f"{low:.3g}")
