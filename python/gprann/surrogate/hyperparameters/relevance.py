"""Relevance of the components of a descriptor: lengths that differ from component to component.

How strongly the predicted energy depends on a component is told by the root mean square of its slope
dE/d(feature) over the atoms of the training set (the diagonal of the active-subspace matrix of Constantine,
Dow and Wang, SIAM J. Sci. Comput. 36, A1500 (2014)). Components on which the energy hardly depends get longer
lengths.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gprann.data.structure import Dataset
from gprann.errors import FactorisationError
from gprann.surrogate.gaussian_process import factorise
from gprann.surrogate.hyperparameters.choice import Choice
from gprann.surrogate.hyperparameters.settings import gradient_scale
from gprann.surrogate.kernels.fingerprints import AtomsFingerprint
from gprann.surrogate.observations import build_problem
from gprann.surrogate.posterior_mean import PosteriorMean

__all__ = ["length_factors", "weigh_components"]

Array = NDArray[np.float64]
_POWER = 0.25  # of the ratio of mean squares: half of what would make all slopes alike
_LONGEST = 10.0


def length_factors(slopes: Array, kinds: NDArray[np.int64], n_kinds: int) -> Array:
    """Return the factors on the lengths of all components, (kinds, D), one for the most relevant of a kind.

    Parameters
    ----------
    slopes : ndarray, shape (rows, D)
        Energy with respect to the standardised features.
    kinds : ndarray of int, shape (rows,)
    n_kinds : int

    Examples
    --------
    >>> length_factors(np.array([[4.0, 1.0], [4.0, -1.0]]), np.array([0, 0]), 1).round(6).tolist()
    [[1.0, 2.0]]
    """
    factors = np.ones((n_kinds, slopes.shape[1]))
    for kind in range(n_kinds):
        squares = np.mean(slopes[kinds == kind] ** 2, axis=0) if np.any(kinds == kind) else np.zeros(1)
        if squares.max() > 0:
            ratio = squares.max() / np.maximum(squares, squares.max() * _LONGEST ** (-1 / _POWER))
            factors[kind] = np.minimum(ratio**_POWER, _LONGEST)
    return factors


def weigh_components(fingerprint: AtomsFingerprint, subset: Dataset, choice: Choice) -> None:
    """Stretch the components of a fitted fingerprint by their relevance in a surrogate of a random subset."""
    mean = float(subset.energies.mean())
    settings = choice.choose(subset, mean)
    problem, rows, jacobians = build_problem(fingerprint, subset, mean, choice.radial)
    length = settings.length * fingerprint.spread
    K = problem.covariance(length)
    scale = gradient_scale(problem, K)
    try:
        factor = factorise(K, scale * problem.noise(settings.energy_noise, settings.force_noise))
    except FactorisationError:  # a set so degenerate that nothing can be learnt from its slopes
        return
    folded = PosteriorMean.from_weights(rows, jacobians, factor.solve(problem.values), problem.first)
    _, slopes = folded.predict(rows, problem.kernel(length))
    fingerprint.stretch(length_factors(slopes, rows.kinds(), rows.kind_rows.shape[1] - 1))
