"""Hyperparameters of the surrogate, and the errors of structures left out by which they are judged."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import lapack

from gprann.errors import FactorisationError
from gprann.runtime.resources import one_blas_thread
from gprann.surrogate.gaussian_process import Factor, Problem, factorise

__all__ = [
    "FREE",
    "Fixed",
    "Hyperparameters",
    "LeftOut",
    "Scan",
    "Settings",
    "gradient_scale",
    "leave_out_in_turn",
    "left_out_variance",
    "scan",
    "unit_rows",
    "with_fixed",
]

Array = NDArray[np.float64]
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Hyperparameters:
    """Hyperparameters of a fitted surrogate, in physical units.

    Attributes
    ----------
    length : float
        Kernel length in units of the fingerprint's spread.
    amplitude : float, eV
        s_f, root of the kernel's prefactor.
    energy_noise : float, eV
    force_noise : float, eV/Å
    """

    length: float
    amplitude: float
    energy_noise: float
    force_noise: float


@dataclass(frozen=True, slots=True)
class Settings:
    """Hyperparameters in relative units, in which they hardly depend on the system.

    Attributes
    ----------
    length : float
        Kernel length in units of the fingerprint's spread.
    energy_noise, force_noise : float
        Noise variances relative to the mean diagonal of the gradient blocks of the noise-free K (with
        energies in eV and lengths in Å).
    """

    length: float
    energy_noise: float
    force_noise: float

    def vector(self) -> Array:
        """Return the logarithms, shape (3,)."""
        return np.log([self.length, self.energy_noise, self.force_noise])

    @classmethod
    def from_vector(cls, logarithms: Array) -> Settings:
        """Make settings from the logarithms."""
        length, energy_noise, force_noise = np.exp(logarithms)
        return cls(float(length), float(energy_noise), float(force_noise))


BOUNDS = Settings(0.5, 1e-10, 1e-10), Settings(60.0, 1e-2, 1e-2)
"""Smallest and largest settings that are considered."""
Fixed = tuple[float | None, float | None, float | None]
"""Length, energy noise and force noise that are given, None where they are to be found."""
FREE: Fixed = (None, None, None)


def with_fixed(settings: Settings, fixed: Fixed) -> Settings:
    """Return the settings with those that are given in their places."""
    return Settings(
        *(own if given is None else given for given, own in zip(fixed, astuple(settings), strict=True))
    )


def gradient_scale(problem: Problem, K: Array) -> float:
    """Return the mean diagonal of the gradient blocks of K, the unit of the noises."""
    return float(np.diagonal(K)[unit_rows(problem, K)].mean())


def unit_rows(problem: Problem, K: Array) -> NDArray[np.bool_]:
    """Return which rows the unit of the noises is the mean of: gradients, or energies where those do not vary."""
    gradients = ~problem.is_energy
    # Single atoms have no gradients; those of atoms that do not feel each other the kernel takes for zero.
    return gradients if np.any(np.diagonal(K)[gradients]) else problem.is_energy


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
    problem: Problem, factor: Factor, alpha: Array, noise: Array, groups: Sequence[int] | None = None
) -> LeftOut:
    """Return the errors of structures left out one by one, or group by group, from blocks of K⁻¹.

    The prediction error of block A given all others is (K⁻¹)_AA⁻¹ alpha_A, its covariance s_f² (K⁻¹)_AA⁻¹
    (Dubrule, Math. Geol. 15, 687 (1983)). The blocks of the last structures need the last rows of L⁻¹ alone.

    Parameters
    ----------
    problem : Problem
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
    amplitude2 = float(problem.values @ alpha) / len(alpha)
    n = len(problem.first) - 1
    edges = [*(range(n) if groups is None else groups), n]
    first = problem.first[edges]
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
            own = slice(*(problem.first[structure : structure + 2] - begin))
            energy.append(error[own][0])
            gradient.append(error[own][1:])
            latent.append(amplitude2 * covariance[own, own])
    return LeftOut(np.array(energy), gradient, latent)


def left_out_variance(problem: Problem, factor: Factor, structures: Iterable[int]) -> list[float]:
    """Return the variance of the energies of some structures given all others, relative to the amplitude.

    The first element of (K⁻¹)_AA⁻¹, see `leave_out_in_turn`, noise included; the factor is kept.
    """
    variances = []
    for index in structures:
        begin, end = problem.first[index : index + 2]
        half = np.zeros((end - begin, len(problem.values)))
        half[np.arange(end - begin), np.arange(begin, end)] = 1.0
        factor.half_solve(half)
        variances.append(float(np.linalg.inv(half @ half.T)[0, 0]))
    return variances


@dataclass(frozen=True, slots=True)
class Scan:
    """Score of one candidate by structures that were left out."""

    settings: Settings
    score: float
    energy_mae: float
    force_mae: float


def scan(
    problem: Problem, candidates: Iterable[Settings], spread: float, groups: Sequence[int] | None = None
) -> list[Scan]:
    """Return the scores of candidates by structures left out; those not positive definite are left out.

    `groups` are the first structures of those that are left out together; by default one by one.
    """
    results = []
    lengths: dict[float, tuple[Array, float]] = {}
    for settings in candidates:
        if settings.length not in lengths:
            K = problem.covariance(settings.length * spread)
            lengths = {settings.length: (K, gradient_scale(problem, K))}
        K, scale = lengths[settings.length]
        try:
            noise = scale * problem.noise(settings.energy_noise, settings.force_noise)
            factor = factorise(K.copy(), noise)
        except FactorisationError:
            _log.debug("%s is not positive definite", settings)
            continue
        errors = leave_out_in_turn(problem, factor, factor.solve(problem.values), noise, groups)
        forces = [np.abs(error).mean() for error in errors.gradient if len(error)] or [np.nan]
        results.append(
            Scan(settings, errors.score, float(np.abs(errors.energy).mean()), float(np.mean(forces)))
        )
    return results
