"""Choice of the descriptor of the kernel `atoms` by structures of a subset of the training set that are held out."""

from __future__ import annotations

import logging

import numpy as np

from gprann.data.structure import Dataset
from gprann.surrogate.hyperparameters.criteria import Fixed, scan
from gprann.surrogate.hyperparameters.search import coarse_points
from gprann.surrogate.kernels.atoms import AtomsFingerprint, AtomsKernel, default_descriptor
from gprann.surrogate.kernels.base import Fingerprint
from gprann.surrogate.observations import Observations, observe

_log = logging.getLogger(__name__)
CUTOFFS = (5.0, 4.0)
"""Cutoffs of angles that are compared, Å: what flexible molecules do farther away is noise to a small training set."""


def choose_descriptor(fingerprint: Fingerprint, subset: Dataset, fixed: Fixed) -> None:
    """Let the labels of a subset choose the descriptor of a fingerprint to which none was given.

    Each structure of the subset is predicted from the others. The likelihood would ask for no inverse, but is one of
    the forces almost alone: it prefers short cutoffs, with which the energies of azobenzene are a fifth worse.

    Parameters
    ----------
    fingerprint : Fingerprint
        Of any kernel; those of the kernel `atoms` without a descriptor take one.
    subset : Dataset
        Random structures of the training set, baseline subtracted.
    fixed : tuple of length, energy noise and force noise
        Those that the user gives.
    """
    if not isinstance(fingerprint, AtomsFingerprint) or fingerprint.descriptor_given or len(subset) < 2:
        return
    found = {}
    for cutoff in CUTOFFS:
        candidate = AtomsKernel(
            descriptor=default_descriptor(subset.species, cutoff), radial=fingerprint.kernel.radial
        ).fingerprint()
        candidate.fit(subset)
        observations, _, _ = observe(candidate, subset, float(subset.energies.mean()))
        if not observations.values.any():
            return
        found[cutoff] = _error(observations, candidate.spread, fixed)
    best = min(found, key=lambda cutoff: found[cutoff])
    fingerprint.angular_cutoff = best
    text = ", ".join(
        f"{np.exp(value - found[best]):.2f} with {cutoff:g} Å" for cutoff, value in found.items()
    )
    _log.info(
        "cutoff of the angles %g Å: relative error of %d structures left out %s", best, len(subset), text
    )


def _error(observations: Observations, spread: float, fixed: Fixed) -> float:
    """Return the smallest leave-one-structure-out score over a few lengths and noises."""
    return min((result.score for result in scan(observations, coarse_points(fixed), spread)), default=np.inf)
