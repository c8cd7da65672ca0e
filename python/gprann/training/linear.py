"""Linear and quadratic potentials: fitted in closed form to energies, forces and stresses."""

from __future__ import annotations

import logging
import time
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from gprann.arrays import Array, Indices
from gprann.data.structure import Dataset
from gprann.descriptors import Descriptor
from gprann.errors import ConfigError, refuse_unused
from gprann.models import Guard, Normalisation, Polynomial, PolynomialModel
from gprann.runtime.resources import one_blas_thread
from gprann.training.closed_form import (
    Prior,
    Scan,
    Solution,
    balance,
    calibrate,
    choose_ratio,
    members_of,
    solve,
)
from gprann.training.equations import Equations, Weights, gather
from gprann.training.hold_out import folds
from gprann.training.options import TrainingOptions
from gprann.training.standardised import Standardised
from gprann.training.targets import label_table, sizes_differ

_log = logging.getLogger(__name__)
_MOST_CALIBRATED = (
    2500  # coefficients, or equations if these are fewer, up to which deviations are calibrated
)
_OF_NETWORKS = ("optimizer", "force_fraction", "huber_energy", "huber_force", "frozen", "validation", "store")


@dataclass(frozen=True, slots=True)
class Prepared:
    """The equations of a data set, ready for any weights and ridge.

    Attributes
    ----------
    equations : Equations
    prior : Prior
    normalisation : Normalisation
    guard : Guard
    """

    equations: Equations
    prior: Prior
    normalisation: Normalisation
    guard: Guard


@dataclass(frozen=True, slots=True)
class Fitted:
    """A fit in closed form.

    Attributes
    ----------
    prepared : Prepared
    parameters : ndarray, shape (K, P)
        Of draws from the posterior; a single row is its mean.
    std_factors : tuple of two floats
    facts : dict
        Plain data.
    """

    prepared: Prepared
    parameters: Array
    std_factors: tuple[float, float]
    facts: dict[str, Any]


def refuse_options_of_networks(settings: TrainingOptions) -> None:
    """Refuse options that have no effect on a fit in closed form.

    Raises
    ------
    ConfigError
    """
    changed = settings.changes()
    kind = settings.model.name
    unused = {
        name: f"it belongs to networks, not to model = '{kind}'" for name in _OF_NETWORKS if name in changed
    }
    refuse_unused(unused, settings)


def prepare(
    data: Dataset, descriptor: Descriptor, model: PolynomialModel, settings: TrainingOptions
) -> Prepared:
    """Gather the equations of a data set, from which its baseline has been subtracted."""
    settings = settings.replace(alpha=0.5 if settings.forces else None, per_atom=_per_atom(settings, data))
    known = Standardised.of(data, descriptor)
    equations = gather(
        model,
        descriptor,
        known,
        data,
        labels=label_table(data, 1.0, descriptor.species, settings),
        folds=_folds(known, model.options, settings.seed),
    )
    prior = Prior(model.widths(_importance(descriptor, known.normalisation)), model.options.regularisation)
    return Prepared(equations, prior, known.normalisation, known.fit_guard(data, descriptor))


def fit_polynomials(
    data: Dataset, descriptor: Descriptor, model: PolynomialModel, settings: TrainingOptions
) -> Fitted:
    """Fit a linear or quadratic model.

    Parameters
    ----------
    data : Dataset
        Structures from which the baseline has been subtracted.
    descriptor : Descriptor
    model : PolynomialModel
    settings : TrainingOptions

    Returns
    -------
    Fitted
    """
    started = time.perf_counter()
    prepared = prepare(data, descriptor, model, settings)
    gathered = time.perf_counter()
    with one_blas_thread():
        weights, reason, scans = _weights(prepared, settings)
        everything = range(prepared.equations.n_folds)
        solution = solve(prepared.equations, weights, prepared.prior, everything)
        factors = _calibration(prepared, weights) if settings.members > 1 else (1.0, 1.0)
    _log.info(
        "%s: %d equations, of %d coefficients %.0f are determined by the data; ridge %.2g; %s",
        model,
        prepared.equations.count(weights, everything),
        model.n_parameters,
        solution.effective,
        solution.ridge,
        reason,
    )
    facts = {
        "seconds_of_equations": round(gathered - started, 2),
        "seconds_of_fit": round(time.perf_counter() - gathered, 2),
        **_describe(solution, weights, reason, scans),
    }
    return Fitted(prepared, members_of(solution, settings.members, settings.seed), factors, facts)


def _per_atom(settings: TrainingOptions, data: Dataset) -> bool:
    return sizes_differ(data) if settings.per_atom is None else settings.per_atom


def _folds(known: Standardised, options: Polynomial, seed: int) -> Indices:
    """Return the fold of each structure.

    Raises
    ------
    ConfigError
        If the ridge is to be found by cross-validation and there are too few structures.
    """
    count = min(options.folds, len(np.unique(known.families)))
    if options.regularisation == "cross_validation" and count < 2:
        raise ConfigError(
            "ridge = cross_validation: needs two structures at least; take evidence, or a number"
        )
    return divide(known, count, seed)


def divide(known: Standardised, count: int, seed: int) -> Indices:
    """Return the number of the fold of each structure, shape (n,), in which it is held out."""
    return folds(known.families, known.strata, count, np.random.default_rng((seed, 20)))


def _importance(descriptor: Descriptor, normalisation: Normalisation) -> Array:
    """Return the relative importance of the standardised components, (S, D), at most 1: the one of kernels."""
    varies = normalisation.inverse_scale > 0
    deviations = np.divide(
        1.0, normalisation.inverse_scale, where=varies, out=np.zeros_like(normalisation.mean)
    )
    ratios = np.where(varies, deviations / descriptor.kernel_scales(deviations), 0.0)
    largest = ratios.max(axis=1, keepdims=True)
    return np.asarray(ratios / np.where(largest > 0, largest, 1.0))


def _weights(prepared: Prepared, settings: TrainingOptions) -> tuple[Weights, str, list[Scan]]:
    """Return the weights of the labels, the reason, and the balances that were tried."""
    if not settings.forces:
        return Weights(1.0, 0.0, 0.0), "energies alone", []
    if settings.alpha is not None:
        return (
            Weights(2.0 * (1.0 - settings.alpha), 2.0 * settings.alpha, 1.0),
            f"alpha = {settings.alpha:g} as asked",
            [],
        )
    ratio, reason, scans = choose_ratio(prepared.equations, prepared.prior)
    return balance(ratio), f"alpha = {ratio / (1.0 + ratio):.4g}: {reason}", scans


def _calibration(prepared: Prepared, weights: Weights) -> tuple[float, float]:
    equations = prepared.equations
    rows = equations.count(weights, range(equations.n_folds))
    if min(len(prepared.prior.widths), rows) > _MOST_CALIBRATED:
        _log.info("standard deviations are not calibrated: the fit is too large to be repeated for each fold")
        return 1.0, 1.0
    factors = calibrate(equations, weights, prepared.prior)
    _log.info("standard deviations of energies times %.3g, of forces times %.3g, by folds held out", *factors)
    return factors


def _describe(solution: Solution, weights: Weights, reason: str, scans: list[Scan]) -> dict[str, Any]:
    return {
        "ridge": solution.ridge,
        "effective_parameters": round(solution.effective, 1),
        "weights": weights._asdict(),
        "weighting": reason,
        "scan": [asdict(scan) for scan in scans],
    }
