"""Lengths of the atoms kernel that differ from species to species, by the likelihood of a small subset."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from gprann import _core
from gprann.data.structure import Dataset
from gprann.surrogate.hyperparameters.choice import Choice
from gprann.surrogate.hyperparameters.likelihood import maximise_likelihood, maximise_of_parts
from gprann.surrogate.hyperparameters.settings import Settings, with_fixed
from gprann.surrogate.kernels.fingerprints import AtomsFingerprint, Rows
from gprann.surrogate.observations import build_problem

__all__ = ["likely_lengths", "rows_of_kind"]

Array = NDArray[np.float64]
_log = logging.getLogger(__name__)


def likely_lengths(
    fingerprint: AtomsFingerprint, subset: Dataset, choice: Choice
) -> tuple[dict[str, float], Settings]:
    """Return the factors on the lengths of all species that make the labels of a subset most likely.

    Equal lengths are where the search begins, so that the likelihood found is at least theirs.

    Parameters
    ----------
    fingerprint : AtomsFingerprint
        Fitted, all its species with the same length.
    subset : Dataset
    choice : Choice
        Hyperparameters that are given are held: the length as the geometric mean of those of the species.

    Returns
    -------
    factors : dict of str to float
        Their geometric mean is 1; empty where there is nothing to find.
    settings : Settings
        Hyperparameters at that maximum.
    """
    mean = float(subset.energies.mean())
    start, fixed, spread = with_fixed(choice.start, choice.fixed), choice.fixed, fingerprint.spread
    problem, rows, jacobians = build_problem(fingerprint, subset, mean, choice.radial)
    kinds = np.unique(rows.kinds())
    if len(kinds) < 2 or len(subset) < 2 or not problem.values.any():
        return {}, start
    equal = maximise_likelihood(problem, start, spread, fixed)
    parts = [replace(problem, sets=rows_of_kind(rows, jacobians, kind)) for kind in kinds]
    settings, factors = maximise_of_parts(parts, equal, spread, fixed)
    species = fingerprint.descriptor.species
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
