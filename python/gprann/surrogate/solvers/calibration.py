"""Calibration: standard deviations that are as large as the errors really are.

The variance of a Gaussian process follows from the kernel, not from how well the kernel suits the energy
surface; with smooth kernels and small noises it is too small by a factor that differs from one training set
to the next. Structures of the training set, each held out in turn as a whole and predicted from all others,
tell this factor, one for energies and one for forces. (Scaling by one factor: Levi et al., Sensors 22, 5540
(2022).)
"""

from __future__ import annotations

import contextlib
import contextvars
import logging
import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy.special import erfinv

from gprann.arrays import Array
from gprann.data.structure import Dataset, evenly_spread
from gprann.runtime.resources import one_blas_thread
from gprann.surrogate.hyperparameters.criteria import LeftOut, leave_out_in_turn, left_out_variance
from gprann.surrogate.kernels.internal_coordinates import internal_directions
from gprann.surrogate.memory import IN_TURN_ROWS, structures_for
from gprann.surrogate.solvers.base import Fit
from gprann.surrogate.solvers.posterior import DensePosterior

_log = logging.getLogger(__name__)
FEWEST = 10
"""Structures held out; the errors of fewer say little about those of others."""
# Energies and forces share the kernel and so most of what is wrong with it, and force components are many
# where energies are few: the factor of the forces counts in that of the energies as so many structures.
_FORCES_COUNT_AS = 20
_MOST = 50  # structures held out by solvers without the whole matrix, a tenth of the training set otherwise
_QUANTILES = (0.5, 0.6, 0.7, 0.8, 0.9)
_few_expected: contextvars.ContextVar[bool] = contextvars.ContextVar("few_expected", default=False)


@contextlib.contextmanager
def few_structures_expected() -> Iterator[None]:
    """Do not warn, in the block, of structures that are too few for a calibration: a search begins with few."""
    token = _few_expected.set(True)
    try:
        yield
    finally:
        _few_expected.reset(token)


@dataclass(frozen=True, slots=True)
class Calibration:
    """Factors on the standard deviations of a Gaussian process.

    Attributes
    ----------
    energy, force : float
    n_structures : int
        Structures that were held out to find them; 0 if there were too few, and both are 1.
    converged : bool
        Whether the equations without them were solved to the tolerance.
    energy_error, force_error : float, eV/atom and eV/Å, or None
        Standard deviations of their errors, from the quantiles.
    """

    energy: float = 1.0
    force: float = 1.0
    n_structures: int = 0
    converged: bool = True
    energy_error: float | None = None
    force_error: float | None = None


def calibrate(errors: LeftOut, data: Dataset, invariant: str) -> Calibration:
    """Find the factors from the errors of structures that were held out.

    Parameters
    ----------
    errors : LeftOut
    data : Dataset
        The structures held out, with their forces.
    invariant : {'rotation', 'translation'}
        Of the fingerprint (see `internal_directions`).

    Returns
    -------
    Calibration
    """
    if len(data) < FEWEST:
        _log.log(
            logging.DEBUG if _few_expected.get() else logging.WARNING,
            "standard deviations are not calibrated, and may be far too small: %d structures are too few to be "
            "held out, %d are needed",
            len(data),
            FEWEST,
        )
        return Calibration()
    energy_std = np.sqrt([max(float(block[0, 0]), 0.0) for block in errors.latent])
    force_error, force_std = force_errors(errors, data, invariant)
    force = factor_of(force_error, force_std)
    weight = len(data) / (len(data) + _FORCES_COUNT_AS)
    energy = factor_of(errors.energy, energy_std) ** weight * force ** (1.0 - weight)
    per_atom = errors.energy / data.n_atoms
    own = (factor_of(per_atom, np.ones(len(data))), factor_of(force_error, np.ones(force_error.shape)))
    found = Calibration(energy, force, len(data), errors.converged, *own)
    _log.info(
        "%d structures held out: standard deviations of energies times %.2f, of forces times %.2f",
        len(data),
        found.energy,
        found.force,
    )
    return found


def force_errors(errors: LeftOut, data: Dataset, invariant: str) -> tuple[Array, Array]:
    """Return errors of all force components of structures that were held out, and their standard deviations."""
    pairs = [
        _force_errors(structure.forces, gradient, block, internal_directions(structure, invariant))
        for structure, gradient, block in zip(data, errors.gradient, errors.latent, strict=True)
        if structure.forces is not None
    ]
    error, std = (np.concatenate(part) for part in zip(*pairs, strict=True))
    return error, std


def _force_errors(reference: Array, gradient: Array, block: Array, directions: Array) -> tuple[Array, Array]:
    """Return errors and standard deviations of the force components, (3N,) each.

    `gradient` is observed minus predicted along the observed directions; rigid motions, along which an
    invariant kernel predicts no force, keep the whole reference force as their error.
    """
    forces = reference.ravel()
    rigid = forces - directions @ (directions.T @ forces)
    m = directions.shape[1]  # stresses, if there are any, come after
    variance = np.einsum("kd,de,ke->k", directions, block[1 : 1 + m, 1 : 1 + m], directions)
    return directions @ gradient[:m] - rigid, np.sqrt(np.maximum(variance, 0.0))


def factor_of(errors: Array, std: Array) -> float:
    """Return the factor on `std` that makes the quantiles of |errors| those of a normal distribution.

    The geometric mean of what the quantiles from the median to 90 % demand: steadier than one quantile, and
    blind to the few largest errors, which would decide over a variance.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> round(factor_of(2.0 * rng.normal(size=10000), np.ones(10000)), 1)
    2.0
    """
    known = std > 0
    if not np.any(known):
        return 1.0
    ratios = np.quantile(np.abs(errors[known]) / std[known], _QUANTILES)
    if not np.all(ratios > 0):  # labels that are predicted exactly
        return 1.0
    return float(np.exp(np.mean(np.log(ratios / [_normal_quantile(q) for q in _QUANTILES]))))


def _normal_quantile(fraction: float) -> float:
    """Return z within which this fraction of normally distributed errors lies."""
    return math.sqrt(2.0) * float(erfinv(fraction))


def put_calibration_last(data: Dataset, seed: int) -> Dataset:
    """Put the structures to calibrate with last: holding them out then costs a corner of L alone."""
    if structures_for(data, IN_TURN_ROWS) == len(data):
        return data
    return data.select(np.random.default_rng([seed, 1]).permutation(len(data)))


@one_blas_thread()
def calibration_of(fit: Fit, seed: int) -> Calibration:
    """Return the factors on the standard deviations.

    They come from the last structures of the training set (see `put_calibration_last`), or, by solvers without the
    covariance matrix, from a random tenth of it, no representatives where there are ten others. Below twenty structures
    these solvers leave the factors at 1.
    """
    data, invariant = fit.equations.data, fit.equations.fingerprint.invariant
    whole = _whole(fit)
    if whole is not None:
        observations, factor = whole.observations, whole.factor
        last = range(len(data) - structures_for(data, IN_TURN_ROWS), len(data))
        alpha = factor.solve(observations.values)
        noise = observations.noise(*fit.solution.noise)
        errors = leave_out_in_turn(observations, factor, alpha, noise, last)
        return calibrate(errors, data[last[0] :], invariant)
    if len(data) < 2 * FEWEST:
        return Calibration()
    count = int(np.clip(len(data) // 10, FEWEST, _MOST))
    shuffled = np.random.default_rng([seed, 1]).permutation(len(data))
    if fit.plan.solver.eliminates:
        others = shuffled[~np.isin(shuffled, fit.solution.representatives)]
        shuffled = shuffled if len(others) < FEWEST else others
    chosen = np.sort(shuffled[:count])
    return calibrate(fit.plan.solver.leave_out(fit, chosen), data.select(chosen), invariant)


@one_blas_thread()
def left_out_std(fit: Fit, count: int) -> Array:
    """Return the standard deviations, not calibrated, of `count` structures held out; see `Surrogate`."""
    chosen = evenly_spread(len(fit.equations.data), count)
    whole = _whole(fit)
    if whole is not None:
        variances = left_out_variance(whole.observations, whole.factor, chosen)
        relative = np.array(variances) - fit.solution.noise[0]
    else:
        relative = fit.plan.solver.left_out_variance(fit, chosen)
    std: Array = np.sqrt(fit.amplitude2 * np.maximum(relative, 0.0))
    return std


def _whole(fit: Fit) -> DensePosterior | None:
    """Return the posterior with the factor of the whole covariance matrix, if the solver has one."""
    posterior, n = fit.posterior, len(fit.equations.data)
    is_whole = isinstance(posterior, DensePosterior) and len(posterior.observations.first) == n + 1
    return posterior if isinstance(posterior, DensePosterior) and is_whole else None
