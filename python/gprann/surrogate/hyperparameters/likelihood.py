"""Log marginal likelihood with its analytic gradient, and its maximum over lengths and noises.

K may be a sum of parts with lengths of their own, as of the kinds of rows (species): the derivative of K with
respect to the logarithm of one length is that of its part alone. The amplitude has a closed form.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from gprann.errors import FactorisationError
from gprann.surrogate.gaussian_process import Factor, factorise
from gprann.surrogate.hyperparameters.settings import (
    BOUNDS,
    FREE,
    Fixed,
    Trial,
    with_fixed,
)
from gprann.surrogate.observations import Observations

__all__ = ["likelihood_of_parts", "log_marginal_likelihood", "maximise_likelihood", "maximise_of_parts"]

Array = NDArray[np.float64]
_log = logging.getLogger(__name__)
_STRETCH = 4.0
"""Lengths of parts are stretched and shrunk by this much, about their geometric mean."""


def log_marginal_likelihood(
    observations: Observations, settings: Trial, spread: float
) -> tuple[float, Array]:
    """Return the log marginal likelihood, amplitude at its optimum, and its gradient.

    Parameters
    ----------
    observations : Observations
    settings : Trial
    spread : float
        Unit of the length.

    Returns
    -------
    value : float
    gradient : ndarray, shape (3,)
        With respect to log length, log energy_noise, log force_noise.

    Raises
    ------
    FactorisationError
    """
    return likelihood_of_parts([observations], [1.0], settings, spread)


def likelihood_of_parts(
    parts: Sequence[Observations],
    factors: Sequence[float] | Array,
    settings: Trial,
    spread: float,
) -> tuple[float, Array]:
    """Return what `log_marginal_likelihood` does for a K that is a sum of parts with lengths of their own.

    Parameters
    ----------
    parts : sequence of p Observations
        With the same observations; together their features are those of the whole.
    factors : sequence of p floats
        On the length, one for each part.
    settings : Trial
    spread : float
        Unit of the length.

    Returns
    -------
    value : float
    gradient : ndarray, shape (p + 2,)
        With respect to the logarithms of the lengths of the parts, log energy_noise, log force_noise.

    Raises
    ------
    FactorisationError
    """
    observations, lengths = parts[0], [settings.length * spread * factor for factor in factors]
    K = parts[0].covariance(lengths[0])
    for part, length in zip(parts[1:], lengths[1:], strict=True):
        K += part.covariance(length)
    unit = observations.unit_rows(K)
    scale = float(np.diagonal(K)[unit].mean())
    energy = np.where(observations.is_energy, settings.energy_noise, 0.0)
    force = np.where(observations.is_energy, 0.0, settings.force_noise)
    factor = factorise(K, scale * (energy + force))
    value, weights = _value_and_weights(factor, observations.values)
    diagonal = np.diagonal(weights)
    by_noise = [0.5 * scale * float(diagonal @ noise) for noise in (energy, force)]
    by_length = []
    for part, length in zip(parts, lengths, strict=True):
        dK = part.covariance(length, derivative=True)
        slope = 0.5 * float(np.diagonal(dK) @ diagonal)
        slope += float(np.einsum("ij,ij->", np.tril(dK, -1), weights))  # off-diagonal elements count twice
        unit_slope = float(np.diagonal(dK)[unit].mean())  # of the unit of the noises
        by_length.append(slope + sum(by_noise) * unit_slope / scale)
    return value, np.array([*by_length, *by_noise])


def _value_and_weights(factor: Factor, values: Array) -> tuple[float, Array]:
    """Return the likelihood and W = alpha alphaᵀ / s_f² - K⁻¹, whose sum W o dK / 2 is its derivative.

    The factor is lost.
    """
    n = len(values)
    alpha = factor.solve(values)
    amplitude2 = max(float(values @ alpha) / n, 1e-300)  # zero if there is nothing to be explained
    value = -0.5 * (n * np.log(2 * np.pi * amplitude2) + factor.log_determinant + n)
    return value, np.outer(alpha, alpha / amplitude2) - factor.inverse()


def maximise_likelihood(
    observations: Observations,
    start: Trial,
    spread: float,
    fixed: Fixed = FREE,
    *,
    max_steps: int = 15,
) -> Trial:
    """Return the settings of largest log marginal likelihood within `BOUNDS`, by L-BFGS-B from `start`.

    Those that are `fixed` are held.
    """
    found, _ = maximise_of_parts([observations], start, spread, fixed, max_steps=max_steps)
    return found


def maximise_of_parts(
    parts: Sequence[Observations],
    start: Trial,
    spread: float,
    fixed: Fixed = FREE,
    *,
    max_steps: int = 15,
) -> tuple[Trial, Array]:
    """Return the settings of largest likelihood, and the factors on the lengths of the parts.

    Parameters
    ----------
    parts : sequence of p Observations
        See `likelihood_of_parts`.
    start : Trial
        Where the search begins, with equal lengths.
    spread : float
        Unit of the length.
    fixed : tuple of length, energy noise and force noise
        Those that are held, None for the others.
    max_steps : int

    Returns
    -------
    settings : Trial
        The geometric mean of the lengths, and the noises.
    factors : ndarray, shape (p,)
        Their geometric mean is 1.
    """

    def unpack(x: Array) -> tuple[Trial, Array]:
        return Trial.from_vector(x[:3]), np.exp(x[3:] - x[3:].mean())

    def objective(x: Array) -> tuple[float, Array]:
        settings, factors = unpack(x)
        try:
            value, gradient = likelihood_of_parts(parts, factors, settings, spread)
        except FactorisationError:
            # Not positive definite: longer lengths and smaller noises are out of reach; a slope turns the search back.
            slope = np.array([1.0, -1.0, -1.0, *np.zeros(len(parts))])
            return 1e6 + float(slope @ x), slope
        by_length = gradient[: len(parts)]
        slopes = np.array([by_length.sum(), *gradient[len(parts) :], *(by_length - by_length.mean())])
        return -value / len(parts[0].values), -slopes / len(parts[0].values)

    low, high = (with_fixed(bound, fixed) for bound in BOUNDS)
    bounds = list(zip(low.vector(), high.vector(), strict=True))
    bounds += [(-np.log(_STRETCH), np.log(_STRETCH))] * len(parts)
    options = {"maxiter": max_steps, "maxfun": 2 * max_steps}
    x = np.concatenate([start.vector(), np.zeros(len(parts))])
    result = minimize(objective, x, jac=True, method="L-BFGS-B", bounds=bounds, options=options)
    settings, factors = unpack(result.x)
    settings = with_fixed(settings, fixed)
    _log.debug("likelihood %.4f per observation at %s, lengths times %s", -result.fun, settings, factors)
    return settings, factors
