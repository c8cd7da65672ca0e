"""Choice of the descriptor of the kernel `atoms` by structures that are held out."""

from __future__ import annotations

import logging

import numpy as np

from gprann.data.structure import Dataset
from gprann.surrogate.hyperparameters.criteria import Fixed
from gprann.surrogate.kernels.atoms import AtomsFingerprint, AtomsKernel, default_descriptor
from gprann.surrogate.kernels.base import Fingerprint
from gprann.surrogate.observations import observed_values
from gprann.surrogate.solvers.base import Equations, Solver

_log = logging.getLogger(__name__)
CUTOFFS = (5.0, 4.0)
"""Cutoffs of angles that are compared, Å: what flexible molecules do farther away is noise to a small training set."""


def choose_descriptor(
    fingerprint: Fingerprint,
    data: Dataset,
    subset: Dataset,
    solver: Solver,
    *,
    fixed: Fixed,
    memory: float,
) -> None:
    """Let the labels choose the descriptor of a fingerprint to which none was given.

    Structures are held out, as the solver that the training set asks for can do it: see `Solver.error`. The likelihood
    would ask for no inverse, but is one of the forces almost alone: it prefers short cutoffs, with which the energies
    of azobenzene are a fifth worse.

    Parameters
    ----------
    fingerprint : Fingerprint
        Of any kernel; those of the kernel `atoms` without a descriptor take one.
    data : Dataset
        The training set, baseline subtracted.
    subset : Dataset
        Random structures of it.
    solver : Solver
    fixed : tuple of length, energy noise and force noise
        Those that the user gives.
    memory : float, GiB
        Budget of the solver.
    """
    if not isinstance(fingerprint, AtomsFingerprint) or fingerprint.descriptor_given or len(subset) < 2:
        return
    found = {}
    for cutoff in CUTOFFS:
        candidate = AtomsKernel(
            descriptor=default_descriptor(subset.species, cutoff), radial=fingerprint.kernel.radial
        ).fingerprint()
        candidate.fit(subset)
        mean = float(data.energies.mean())
        if not any(np.any(observed_values(item, mean, candidate.invariant)) for item in subset):
            return
        planned = solver.plan(data, candidate, memory).solver
        found[cutoff] = planned.error(Equations(candidate, data, mean), subset, fixed)
    best = min(found, key=lambda cutoff: found[cutoff])
    fingerprint.angular_cutoff = best
    text = ", ".join(
        f"{np.exp(value - found[best]):.2f} with {cutoff:g} Å" for cutoff, value in found.items()
    )
    _log.info("cutoff of the angles %g Å: relative error of structures left out %s", best, text)
