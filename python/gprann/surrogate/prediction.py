"""Predictions of a surrogate, weighed by their own certainty where they correct a baseline.

A Gaussian process with the long lengths that predict best extrapolates like a polynomial. With the posterior variance v
of the energy,

    E = E_baseline + mean + W D,    W = 1 / (1 + (v / b²)²),    dE/dx = dE_baseline/dx + W dD/dx + D dW/dv dv/dx

are energies with exact derivatives: near the training set W is one, where the variance grows the correction vanishes.
For large training sets v is the variance that representative environments leave, at the same hyperparameters: it is
larger near the training set, where the square makes it negligible, and as large far away; the exact one reads all
Jacobians of the training set twice for each structure.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from gprann import _core
from gprann.arrays import Array
from gprann.data.prediction import Prediction, voigt_stress
from gprann.data.structure import Dataset
from gprann.runtime.resources import blas_and_threads, n_threads
from gprann.surrogate.gaussian_process import PosteriorMean
from gprann.surrogate.kernels.base import Fingerprint, Rows
from gprann.surrogate.solvers.base import Fit
from gprann.surrogate.solvers.posterior import Posterior, energy_variance, forces_std_of
from gprann.surrogate.solvers.sparse import Sparse, kept_for_calibration

_BATCH = 512  # structures predicted at a time
_LOOKED_AT = 3  # structures
_COST = 0.02  # of the error near the training set, that the weights may add
_RARE = (
    4.0  # times the squared error, the variance of structures that are the least certain of those held out
)
_UNKNOWN = 0.1  # eV, where no structures were held out to tell the errors
_EXACT = 2000  # observations up to which the exact variance is quick enough
_ENVIRONMENTS = 1500  # that tell how certain corrections are, beyond


@dataclass(frozen=True, slots=True)
class Query:
    """A fit, and all else that predictions need.

    Attributes
    ----------
    fit : Fit
    fingerprint : Fingerprint
    factors : callable
        Takes structures, and returns the factors on the standard deviations of their energies and forces, (n,) each.
    bound : float or None, eV
        See `weigh`; None if corrections are not weighed.
    """

    fit: Fit
    fingerprint: Fingerprint
    factors: Callable[[Dataset], tuple[Array, Array]]
    bound: float | None


def predict_corrections(
    query: Query,
    data: Dataset,
    *,
    std: bool,
    forces: bool,
    forces_std: bool,
    progress: Callable[[int], object] | None,
) -> Prediction:
    """Return the prediction without the baseline, see `Surrogate.predict`."""
    fit, fingerprint = query.fit, query.fingerprint
    energies, stds = [np.zeros(0)], [np.zeros(0)]
    force_list: list[Array] = []
    stresses: list[Array] = []
    force_stds: list[Array] = []
    for begin in range(0, len(data), _BATCH):
        batch = data[begin : begin + _BATCH]
        rows = fingerprint.rows(batch)
        factors = query.factors(batch) if std or forces_std or query.bound else (np.zeros(0), np.zeros(0))
        energy, slopes = fit.solution.mean.predict(rows, fit.kernel)
        if query.bound is not None:
            energy, slopes = weigh(fit, rows, (energy, slopes), factors[0], query.bound)
        if std:
            relative = energy_variance(fit.posterior, rows.sets(), fit.kernel)
            variance = factors[0] ** 2 * fit.amplitude2 * np.maximum(relative, 0.0)
        energies.append(energy + fit.equations.mean)
        if std:
            stds.append(np.sqrt(variance))
        if forces:
            gradients, virials = rows.gradients(slopes)
            force_list += [-gradient for gradient in gradients]
            if virials is not None:
                stresses += [voigt_stress(*pair) for pair in zip(batch, virials, strict=True)]
        if forces_std:
            scales = factors[1] * np.sqrt(fit.amplitude2)
            own = forces_std_of(fit.posterior, fingerprint, batch, rows, fit.kernel)
            force_stds += [scale * one for scale, one in zip(scales, own, strict=True)]
        if progress is not None:
            progress(len(batch))
    return Prediction(
        np.concatenate(energies),
        force_list,
        energy_std=np.concatenate(stds) if std else None,
        forces_std=force_stds if forces_std else None,
        stress=np.array(stresses) if stresses else None,
    )


def exerts_forces(data: Dataset, labels: Dataset) -> bool:
    """Return whether forces of a training set differ from what the baseline leaves of them, by a look at some."""
    pairs = itertools.islice(zip(data, labels, strict=False), _LOOKED_AT)
    return any(not np.array_equal(np.asarray(a.forces), np.asarray(b.forces)) for a, b in pairs)


def choose_bound(fit: Fit, error: float | None, scale: float) -> float:
    """Return b, eV, with which weights cost little near the training set.

    There they change an energy by D (v / b²)²: a share `_COST` of the error, e, with b⁴ = D v² / (e `_COST`).

    Parameters
    ----------
    fit : Fit
    error : float or None, eV/atom
        Standard deviation of the energies of structures held out; None if there were none.
    scale : float, eV²
        Of relative variances: amplitude, calibration.
    """
    data = fit.equations.data
    spread = float(np.std(data.energies))
    if error is None or not (error > 0 and spread > 0):
        return _UNKNOWN
    error = error * float(data.n_atoms.mean())
    variance = _RARE * error**2
    posterior = certainty_of(fit)
    if posterior is not fit.posterior:
        held_out = fit.equations.fingerprint.rows(data.select(kept_for_calibration(len(data))))
        found = scale * energy_variance(posterior, held_out.sets(), fit.kernel)
        variance = max(variance, float(np.max(found)))
    return float((max(spread, error) * variance**2 / (error * _COST)) ** 0.25)


def certainty_of(fit: Fit) -> Posterior:
    """Return the posterior whose variances weigh corrections: the exact one, unless that takes long."""
    if fit.certainty is None:
        posterior: Posterior | None = None
        held_out = kept_for_calibration(len(fit.equations.data))
        if fit.equations.n_observations > _EXACT and len(held_out) > 0:
            posterior = Sparse(environments=_ENVIRONMENTS).solve(fit.equations, fit.settings).posterior
        fit.certainty = (
            posterior or fit.posterior
        )  # the exact one of a loaded surrogate is not yet factorised
    return fit.certainty


def weigh(
    fit: Fit, rows: Rows, corrections: tuple[Array, Array], factors: Array, bound: float
) -> tuple[Array, Array]:
    """Return weighed corrections, and their derivatives by the features.

    Parameters
    ----------
    fit : Fit
    rows : Rows
        Of the query structures.
    corrections : tuple of ndarrays (n,) and (rows, D)
        D and dD/d(features).
    factors : ndarray, shape (n,)
        Of the calibration, on standard deviations.
    bound : float, eV
    """
    posterior, scales = certainty_of(fit), fit.amplitude2 * factors**2
    energy, slopes = corrections[0].copy(), corrections[1].copy()
    for k in range(len(energy)):
        begin, end = rows.kind_rows[k, 0], rows.kind_rows[k, -1]
        own = replace(rows, kind_rows=rows.kind_rows[k : k + 1] - begin, features=rows.features[begin:end])
        relative, change = _variance_and_slopes(posterior, own, fit.kernel)
        variance = scales[k] * relative
        weight = 1.0 / (1.0 + (variance / bound**2) ** 2)
        slopes[begin:end] *= weight
        slopes[begin:end] -= energy[k] * weight**2 * 2.0 * variance / bound**4 * scales[k] * change
        energy[k] *= weight
    return energy, slopes


def _variance_and_slopes(posterior: Posterior, own: Rows, kernel: _core.RadialKernel) -> tuple[float, Array]:
    """Return the relative variance of the energy of one structure, and its derivatives by the features, (rows, D)."""
    sets = own.sets()
    cross = np.zeros((1, posterior.sets.observations))
    with blas_and_threads() as (blas, threads):
        _core.energy_covariance(sets, posterior.sets, kernel, blas, threads, cross)
    weights = posterior.weights_of(cross[0])
    energies, slopes = posterior.sets.fold(weights, n_threads())
    known = replace(own, kind_rows=posterior.sets.kind_rows, features=posterior.sets.features)
    _, explained = PosteriorMean(known, energies, slopes).predict(own, kernel)
    _, prior = PosteriorMean(own, np.ones(1), np.zeros_like(own.features)).predict(own, kernel)
    variance = float(_core.energy_variance(sets, kernel)[0] - cross[0] @ weights)
    if variance <= 0.0:  # rounding, at a training structure: there it is as small as it can be
        return 0.0, np.zeros_like(own.features)
    return variance, 2.0 * (prior - explained)
