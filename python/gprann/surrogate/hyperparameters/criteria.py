"""Hyperparameters and what judges them: the marginal likelihood, and errors of structures held out.

The log marginal likelihood has an analytic gradient. K may be a sum of parts with lengths of their own, as of the kinds
of rows (species): the derivative of K with respect to the logarithm of one length is that of its part alone. The
amplitude has a closed form. Cross-validation predicts structures without themselves.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterable, Sequence
from dataclasses import asdict, astuple, dataclass
from typing import Protocol

import numpy as np
from scipy.linalg import lapack
from scipy.optimize import minimize

from gprann.arrays import Array
from gprann.data.structure import Dataset
from gprann.errors import FactorisationError
from gprann.runtime.resources import one_blas_thread
from gprann.surrogate.gaussian_process import Factor, factorise
from gprann.surrogate.observations import Observations

_COARSE_LENGTHS = (5.0, 12.0, 30.0)
_COARSE_NOISES = (1e-8, 1e-6, 1e-5, 1e-4)


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
    relative : Trial
        Length and noises in the units in which they are given to a surrogate.
    """

    length: float
    amplitude: float
    energy_noise: float
    force_noise: float
    relative: Trial

    def options(self) -> dict[str, float]:
        """Return the options of a surrogate with these hyperparameters."""
        return asdict(self.relative)

    def __str__(self) -> str:
        return (
            f"length {self.length:.3g}, amplitude {self.amplitude:.3g} eV, noises {self.energy_noise:.2g} eV and "
            f"{self.force_noise:.2g} eV/Å"
        )


@dataclass(frozen=True, slots=True)
class Trial:
    """Hyperparameters as the search tries them: in relative units, in which they hardly depend on the system.

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

    def __str__(self) -> str:
        noises = f"{self.energy_noise:.1e} and {self.force_noise:.1e}"
        return f"length {self.length:.3g}, relative noises {noises}"

    @classmethod
    def from_vector(cls, logarithms: Array) -> Trial:
        """Make settings from the logarithms."""
        length, energy_noise, force_noise = np.exp(logarithms)
        return cls(float(length), float(energy_noise), float(force_noise))


BOUNDS = Trial(0.5, 1e-10, 1e-10), Trial(60.0, 1e-2, 1e-2)
"""Smallest and largest settings that are considered."""
Fixed = tuple[float | None, float | None, float | None]
"""Length, energy noise and force noise as the user gives them, None for those that are to be found."""
FREE: Fixed = (None, None, None)


def with_fixed(settings: Trial, fixed: Fixed) -> Trial:
    """Return the settings, with those hyperparameters replaced that the user gives."""
    return Trial(
        *(own if given is None else given for given, own in zip(fixed, astuple(settings), strict=True))
    )


class Search(Protocol):
    """Finds hyperparameters, see `HyperparameterSearch`."""

    @property
    def fixed(self) -> Fixed:
        """Hyperparameters that the user gives, None for the others."""

    @property
    def name(self) -> str:
        """Way to find the others."""

    @property
    def seed(self) -> int:
        """Seed of the random subsets."""

    def find(self, data: Dataset, mean: float) -> Trial:
        """Return the hyperparameters of a training set with this mean energy."""


_log = logging.getLogger(__name__)
_STRETCH = 4.0
"""Lengths of parts are stretched and shrunk by this much, about their geometric mean."""


def log_marginal_likelihood(
    parts: Sequence[Observations], settings: Trial, spread: float, factors: Sequence[float] | Array = (1.0,)
) -> tuple[float, Array]:
    """Return the log marginal likelihood, amplitude at its optimum, and its gradient.

    Parameters
    ----------
    parts : sequence of p Observations
        The same observations, with features that together are those of the whole: K is the sum of the covariances of
        the parts, each with a length of its own.
    settings : Trial
    spread : float
        Unit of the length.
    factors : sequence of p floats
        On the length, one for each part.

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
    values, n = observations.values, len(observations.values)
    alpha = factor.solve(values)
    amplitude2 = max(float(values @ alpha) / n, 1e-300)  # zero if there is nothing to be explained
    value = -0.5 * (n * np.log(2 * np.pi * amplitude2) + factor.log_determinant + n)
    weights = (
        np.outer(alpha, alpha / amplitude2) - factor.inverse()
    )  # sum(weights o dK) / 2 is the derivative
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


def maximise_likelihood(
    parts: Sequence[Observations],
    start: Trial,
    spread: float,
    fixed: Fixed = FREE,
    *,
    max_steps: int = 15,
) -> tuple[Trial, Array]:
    """Return the settings of largest likelihood within `BOUNDS`, by L-BFGS-B, and the factors on the lengths of parts.

    Parameters
    ----------
    parts : sequence of p Observations
        See `log_marginal_likelihood`.
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
            value, gradient = log_marginal_likelihood(parts, settings, spread, factors)
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


@dataclass(frozen=True, slots=True)
class LeftOut:
    """Cross-validation errors: structures are predicted from a training set without them.

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
    """Return the errors of structures held out one by one, or group by group, from blocks of K⁻¹.

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
        First structures of the groups that are held out together, ascending. Default: every structure alone.

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
        try:
            covariance = np.linalg.inv(columns @ columns.T)
        except np.linalg.LinAlgError:
            raise FactorisationError(
                "the covariance matrix of structures that are left out is singular; raise the noises",
                int(begin),
            ) from None
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
    """Score of one candidate by structures that were held out."""

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
    """Return the scores of candidates by structures held out; those not positive definite are left out.

    `groups` are the first structures of those that are held out together; by default one by one.
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


def coarse_points(fixed: Fixed) -> list[Trial]:
    """Return settings that are far apart, with those replaced that the user gives."""
    points = [
        with_fixed(Trial(length, noise, noise), fixed)
        for length in _COARSE_LENGTHS
        for noise in _COARSE_NOISES
    ]
    return list(dict.fromkeys(points))
