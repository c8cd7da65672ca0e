"""Standard deviations of committees that learn from surrogates."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from gprann.data.structure import Dataset
from gprann.potential import Potential
from gprann.surrogate.solvers.calibration import factor_of

_log = logging.getLogger(__name__)


def calibrate_committee(
    potential: Potential, data: Dataset, surrogates: Sequence[Mapping[str, Any]]
) -> Potential:
    """Return a committee whose standard deviations count the errors of the surrogates that have taught it.

    Members that learn the same labels agree on the errors of these. How large they are tell structures that were held
    out of the surrogates: to their variance that of the networks' own errors on the training structures is added, and
    the median standard deviation of the committee there is scaled to the root.

    Parameters
    ----------
    potential : Potential
    data : Dataset
        The training structures, without copies.
    surrogates : sequence of mapping
        As `Surrogate.to_dict` gives them.
    """
    errors = [item["calibration"] for item in surrogates if item["calibration"]["n_structures"] > 0]
    if len(potential) < 2 or not errors or len(errors) < len(surrogates):
        return potential
    prediction = potential.predict(data)
    spread = prediction.required_energy_std / data.n_atoms
    own = (prediction.energy - data.energies) / data.n_atoms
    pairs = [
        (predicted - structure.forces, std)
        for structure, predicted, std in zip(
            data, prediction.forces, prediction.forces_std or [], strict=True
        )
        if structure.forces is not None
    ]
    force_errors, force_spread = (
        np.concatenate([item.ravel() for item in part]) for part in zip(*pairs, strict=True)
    )
    weights = np.array([item["n_structures"] for item in errors], dtype=float)
    factors = []
    for name, error, std in (("energy", own, spread), ("force", force_errors, force_spread)):
        taught = np.average([item[f"{name}_error"] ** 2 for item in errors], weights=weights)
        fitted = factor_of(error, np.ones(error.shape))
        factors.append(float(np.sqrt(taught + fitted**2) / max(float(np.median(std)), 1e-12)))
    energy, force = (max(factor, 1.0) for factor in factors)
    _log.info(
        "standard deviations of the committee times %.1f (energies) and %.1f (forces): so large are the errors of the "
        "surrogates that have taught it",
        energy,
        force,
    )
    return replace(potential, std_factors=(energy, force))
