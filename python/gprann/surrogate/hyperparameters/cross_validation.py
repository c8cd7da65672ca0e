"""Cross-validation: errors of structures that are predicted without themselves."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import lapack

from gprann.errors import FactorisationError
from gprann.runtime.resources import one_blas_thread
from gprann.surrogate.gaussian_process import Factor, factorise
from gprann.surrogate.hyperparameters.settings import Trial
from gprann.surrogate.observations import Observations

__all__ = ["LeftOut", "Scan", "leave_out_in_turn", "left_out_variance", "scan"]

Array = NDArray[np.float64]
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class LeftOut:
    """Errors of structures predicted from others, without themselves.

    Attributes
    ----------
    energy : ndarray, shape (n,), eV
    gradient : list of n ndarrays, eV/Å, along the internal directions
    latent : list of n ndarrays, (1 + m, 1 + m)
        Predicted covariance of energy and gradients, without the noise of the labels.
    converged : bool
        Whether the equations behind them were solved to the tolerance.
    """

    energy: Array
    gradient: list[Array]
    latent: list[Array]
    converged: bool = True

    @property
    def score(self) -> float:
        """Half the sum of the logarithms of the mean absolute errors: smaller is better in any units."""
        forces = [np.abs(error).mean() for error in self.gradient if len(error)]
        energy = max(float(np.abs(self.energy).mean()), 1e-12)
        return 0.5 * float(
            np.log(energy) + (np.log(max(float(np.mean(forces)), 1e-12)) if forces else np.log(energy))
        )


def leave_out_in_turn(
    observations: Observations,
    factor: Factor,
    alpha: Array,
    noise: Array,
    groups: Sequence[int] | None = None,
) -> LeftOut:
    """Return the errors of structures left out one by one, or group by group, from blocks of K⁻¹.

    The prediction error of block A given all others is (K⁻¹)_AA⁻¹ alpha_A, its covariance s_f² (K⁻¹)_AA⁻¹
    (Dubrule, Math. Geol. 15, 687 (1983)). The blocks of the last structures need the last rows of L⁻¹ alone.

    Parameters
    ----------
    observations : Observations
    factor : Factor
        Of K0 + diag(noise).
    alpha : ndarray, shape (rows,)
    noise : ndarray, shape (rows,)
        Relative to the amplitude.
    groups : sequence of int, optional
        First structures of the groups that are left out together, ascending. Default: every structure alone.

    Returns
    -------
    LeftOut
        Of the structures from the first group on.
    """
    amplitude2 = float(observations.values @ alpha) / len(alpha)
    n = len(observations.first) - 1
    edges = [*(range(n) if groups is None else groups), n]
    first = observations.first[edges]
    # A row-major lower triangle is LAPACK's upper one.
    with one_blas_thread():
        transposed, _ = lapack.dtrtri(factor.L[first[0] :, first[0] :].T, lower=0)
    energy, gradient, latent = [], [], []
    for group, (begin, end) in zip(itertools.pairwise(edges), itertools.pairwise(first), strict=True):
        columns = transposed[begin - first[0] : end - first[0], begin - first[0] :].copy()
        columns[:, : end - begin] = np.triu(columns[:, : end - begin])
        covariance = np.linalg.inv(columns @ columns.T)
        error = covariance @ alpha[begin:end]
        covariance[np.diag_indices(len(covariance))] -= noise[begin:end]
        for structure in range(*group):
            own = slice(*(observations.first[structure : structure + 2] - begin))
            energy.append(error[own][0])
            gradient.append(error[own][1:])
            latent.append(amplitude2 * covariance[own, own])
    return LeftOut(np.array(energy), gradient, latent)


def left_out_variance(observations: Observations, factor: Factor, structures: Iterable[int]) -> list[float]:
    """Return the variance of the energies of some structures given all others, relative to the amplitude.

    The first element of (K⁻¹)_AA⁻¹, see `leave_out_in_turn`, noise included; the factor is kept.
    """
    variances = []
    for index in structures:
        begin, end = observations.first[index : index + 2]
        half = np.zeros((end - begin, len(observations.values)))
        half[np.arange(end - begin), np.arange(begin, end)] = 1.0
        factor.half_solve(half)
        variances.append(float(np.linalg.inv(half @ half.T)[0, 0]))
    return variances


@dataclass(frozen=True, slots=True)
class Scan:
    """Score of one candidate by structures that were left out."""

    settings: Trial
    score: float
    energy_mae: float
    force_mae: float


def scan(
    observations: Observations,
    candidates: Iterable[Trial],
    spread: float,
    groups: Sequence[int] | None = None,
) -> list[Scan]:
    """Return the scores of candidates by structures left out; those not positive definite are left out.

    `groups` are the first structures of those that are left out together; by default one by one.
    """
    results = []
    lengths: dict[float, tuple[Array, float]] = {}
    for settings in candidates:
        if settings.length not in lengths:
            K = observations.covariance(settings.length * spread)
            lengths = {settings.length: (K, observations.gradient_scale(K))}
        K, scale = lengths[settings.length]
        try:
            noise = scale * observations.noise(settings.energy_noise, settings.force_noise)
            factor = factorise(K.copy(), noise)
        except FactorisationError:
            _log.debug("%s is not positive definite", settings)
            continue
        errors = leave_out_in_turn(observations, factor, factor.solve(observations.values), noise, groups)
        forces = [np.abs(error).mean() for error in errors.gradient if len(error)] or [np.nan]
        results.append(
            Scan(settings, errors.score, float(np.abs(errors.energy).mean()), float(np.mean(forces)))
        )
    return results
