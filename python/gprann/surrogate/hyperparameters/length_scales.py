"""Lengths of the kernel that differ by species, or by component of the features.

Lengths of species maximise the likelihood of a small subset. Lengths of components follow from their relevance: how
strongly the predicted energy depends on a component is told by the root mean square of its slope dE/d(feature) over
the atoms of the training set (the diagonal of the active-subspace matrix of Constantine, Dow and Wang, SIAM J. Sci.
Comput. 36, A1500 (2014)). Components on which the energy hardly depends get longer lengths.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from gprann import _core
from gprann.arrays import Array
from gprann.data.structure import Dataset
from gprann.errors import FactorisationError
from gprann.surrogate.gaussian_process import PosteriorMean, factorise
from gprann.surrogate.hyperparameters.criteria import (
    Trial,
    maximise_likelihood,
    with_fixed,
)
from gprann.surrogate.hyperparameters.search import HyperparameterSearch
from gprann.surrogate.kernels.base import Rows
from gprann.surrogate.observations import observe

_log = logging.getLogger(__name__)
_POWER = 0.25  # of the ratio of mean squares: half of what would make all slopes alike
_LONGEST = 10.0


def fit_length_scales(search: HyperparameterSearch, subset: Dataset) -> HyperparameterSearch:
    """Find the lengths of species and components, as far as the kernel asks for it, by a random subset.

    Returns
    -------
    HyperparameterSearch
        The search for the other hyperparameters, with the point where it is to begin.
    """
    fingerprint = search.fingerprint
    if fingerprint.likely_lengths:
        factors, start = likely_lengths(search, subset)
        fingerprint.stretch_species(factors)
        search = replace(search, start=start)
    if fingerprint.relevance:
        weigh_components(search, subset)
    return search


def likely_lengths(search: HyperparameterSearch, subset: Dataset) -> tuple[dict[str, float], Trial]:
    """Return the factors on the lengths of all species that make the labels of a subset most likely.

    Equal lengths are where the search begins, so that the likelihood found is at least theirs.

    Parameters
    ----------
    search : HyperparameterSearch
        Its fingerprint is fitted, all species with the same length. Hyperparameters that the user gives are held: the
        length as the geometric mean of those of the species.
    subset : Dataset

    Returns
    -------
    factors : dict of str to float
        Their geometric mean is 1; empty where there is nothing to find.
    settings : Trial
        Hyperparameters at that maximum.
    """
    mean = float(subset.energies.mean())
    fingerprint, fixed = search.fingerprint, search.fixed
    start, spread = with_fixed(search.start, fixed), fingerprint.spread
    observations, rows, jacobians = observe(fingerprint, subset, mean)
    kinds = np.unique(rows.kinds())
    if len(kinds) < 2 or len(subset) < 2 or not observations.values.any():
        return {}, start
    equal, _ = maximise_likelihood([observations], start, spread, fixed)
    parts = [replace(observations, sets=rows_of_kind(rows, jacobians, kind)) for kind in kinds]
    settings, factors = maximise_likelihood(parts, equal, spread, fixed)
    species = fingerprint.kinds
    found = {species[kind]: float(factor) for kind, factor in zip(kinds, factors, strict=True)}
    described = ", ".join(f"{symbol} {settings.length * factor:.3g}" for symbol, factor in found.items())
    _log.info("likelihood: lengths of species %s", described)
    return found, settings


def rows_of_kind(rows: Rows, jacobians: Sequence[Array], kind: int) -> _core.FeatureSets:
    """Return the compiled view of the rows of one kind alone, with their Jacobians (see `Rows.sets`)."""
    size = rows.features.shape[1]
    own = rows.kind_rows[:, kind : kind + 2]
    edges = np.concatenate([[0], np.cumsum(own[:, 1] - own[:, 0])])
    parts = [
        jacobian[(begin - first) * size : (end - first) * size].ravel()
        for jacobian, first, (begin, end) in zip(jacobians, rows.kind_rows[:, 0], own, strict=True)
    ]
    return _core.FeatureSets(
        np.stack([edges[:-1], edges[1:]], axis=1).astype(np.int64),
        np.ascontiguousarray(rows.features[rows.kinds() == kind]),
        np.concatenate([np.zeros(0), *parts]),
        np.array([jacobian.shape[1] for jacobian in jacobians], dtype=np.int64),
    )


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


def weigh_components(search: HyperparameterSearch, subset: Dataset) -> None:
    """Stretch the components of the fingerprint by their relevance in a surrogate of a random subset."""
    fingerprint = search.fingerprint
    mean = float(subset.energies.mean())
    settings = search.find(subset, mean)
    observations, rows, jacobians = observe(fingerprint, subset, mean)
    length = settings.length * fingerprint.spread
    K = observations.covariance(length)
    scale = observations.gradient_scale(K)
    try:
        factor = factorise(K, scale * observations.noise(settings.energy_noise, settings.force_noise))
    except FactorisationError:  # a set so degenerate that nothing can be learnt from its slopes
        return
    posterior = PosteriorMean.from_weights(
        rows, jacobians, factor.solve(observations.values), observations.first
    )
    _, slopes = posterior.predict(rows, observations.kernel(length))
    fingerprint.stretch(length_factors(slopes, rows.kinds(), rows.kind_rows.shape[1] - 1))
