"""Training sets of several compositions: the energy about which they are fitted, and what they know of others.

A structure that is held out has others of its composition in the training set, and says nothing of how wrong a
prediction for another composition is. So every composition is predicted, as far as time allows, from the others alone,
reference energies found anew without it.
"""

from __future__ import annotations

import logging
import math
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np
from scipy.special import stdtrit

from gprann.arrays import Array, Indices
from gprann.baselines import Baseline, ReferenceEnergies
from gprann.data.structure import Dataset, Structure, evenly_spread
from gprann.errors import FactorisationError
from gprann.runtime.resources import one_blas_thread
from gprann.surrogate.hyperparameters.criteria import LeftOut
from gprann.surrogate.observations import mixes_compositions
from gprann.surrogate.solvers.base import Fit, leave_out_together
from gprann.surrogate.solvers.calibration import Calibration, factor_of, force_errors

_log = logging.getLogger(__name__)
_MOST = 5  # compositions left out, each of which costs the solution for all others
_PREDICTED = 20  # structures of each
_MEDIAN = 0.6745  # of the absolute value of a standard normal variable
_ONE_SIGMA = 0.8413  # fraction of a normal distribution below one standard deviation
Fractions = tuple[tuple[str, int], ...]


def subtract_mean(baseline: Baseline, data: Dataset) -> tuple[Baseline, Dataset]:
    """Return a baseline that reference energies complete where compositions differ, and what it leaves of the labels.

    The mean of a single composition is subtracted where energies are observed. Reference energies are found by least
    squares: what they miss, and how little is known of compositions that are new, is the kernel's own.
    """
    labels = baseline.subtract(data)
    if not mixes_compositions(data):
        return baseline, labels
    baseline = baseline + ReferenceEnergies().fit(labels, data.species)
    return baseline, baseline.subtract(data)


def fractions(structure: Structure) -> Fractions:
    """Return the composition; of periodic structures in smallest numbers: a cell and its supercell have the same.

    Examples
    --------
    >>> import gprann
    >>> fractions(gprann.examples.hydrogen(1)[0])
    (('H', 2),)
    """
    counts = structure.composition
    if not structure.pbc.any():
        return counts
    divisor = math.gcd(*(count for _, count in counts))
    return tuple((symbol, count // divisor) for symbol, count in counts)


@one_blas_thread()
def calibrate_new_compositions(fit: Fit, known: Calibration) -> Calibration:
    """Return the factors on the standard deviations of structures whose composition the training set lacks.

    Parameters
    ----------
    fit : Fit
        To a training set with several compositions.
    known : Calibration
        Factors for compositions that it has, which are the least that is returned.
    """
    ratios: list[tuple[float, float]] = []
    count = 0
    for chosen, kept in _groups_to_leave_out(fit.equations.data):
        try:
            found = _predict(fit, chosen, kept)
        except FactorisationError:
            continue
        count += len(chosen)
        std = np.sqrt([max(float(block[0, 0]), 0.0) for block in found.latent])
        energy = float(np.median(np.abs(found.energy) / np.maximum(std, 1e-300))) / _MEDIAN
        errors = force_errors(found, fit.equations.data.select(chosen), fit.equations.fingerprint.invariant)
        ratios.append((energy, factor_of(*errors)))
    if not ratios:
        _log.warning(
            "standard deviations of compositions that the training set lacks may be far too small: none of its own can "
            "be left out and predicted from the others; add other compositions"
        )
        return known
    # Errors of one composition are hardly independent, so that each counts once; and few compositions tell the spread
    # of their errors badly: so much wider is Student's distribution.
    few = float(stdtrit(len(ratios), _ONE_SIGMA))
    factors = few * np.sqrt(np.mean(np.square(ratios), axis=0))
    _log.info(
        "%d compositions left out: standard deviations of new ones times %.2f (energies) and %.2f (forces)",
        len(ratios),
        *factors,
    )
    energy, force = np.maximum(factors, [known.energy, known.force]).tolist()
    return Calibration(energy, force, count, known.converged)


def _groups_to_leave_out(data: Dataset) -> list[tuple[Indices, Indices]]:
    """Return for some compositions the structures to predict, and those that all other compositions have.

    Left out are compositions whose elements others have too.
    """
    members: Mapping[Fractions, list[int]] = defaultdict(list)
    for index, structure in enumerate(data):
        members[fractions(structure)].append(index)
    groups = []
    for own in members.values():
        kept = np.setdiff1d(np.arange(len(data)), own)
        if set(data.select(own).species) <= set(data.select(kept).species):
            groups.append((np.array(own)[evenly_spread(len(own), min(_PREDICTED, len(own)))], kept))
    return [groups[k] for k in evenly_spread(len(groups), min(_MOST, len(groups))).tolist()]


def _predict(fit: Fit, chosen: Indices, kept: Indices) -> LeftOut:
    """Return the errors of structures predicted from others, about reference energies of these."""
    data = fit.equations.data
    references = ReferenceEnergies().fit(data.select(kept), data.species)
    labels = references.subtract(data)
    equations = replace(fit.equations, data=labels)
    return leave_out_together(
        replace(fit, equations=equations), chosen, fit.plan.solver, equations.without(kept)
    )


def factors_of(
    data: Dataset, training: Dataset, calibration: Calibration, of_new: Callable[[], Calibration]
) -> tuple[Array, Array]:
    """Return the factors on the standard deviations of energies and of forces of structures, (n,) each.

    `of_new` gives those of compositions that the training set lacks, and is called only where there are some.
    """
    known = {fractions(structure) for structure in training}
    new = np.array([fractions(structure) not in known for structure in data], dtype=bool)
    if not np.any(new):
        return np.full(len(data), calibration.energy), np.full(len(data), calibration.force)
    others = of_new()
    return np.where(new, others.energy, calibration.energy), np.where(new, others.force, calibration.force)
