"""What a Gaussian process observes of a training set: energies, and gradients along internal directions."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gprann.errors import DataError
from gprann.structure import Dataset, Structure
from gprann.surrogate.directions import internal_directions
from gprann.surrogate.fingerprints import Fingerprint, Rows
from gprann.surrogate.gaussian_process import Problem, Radial

__all__ = ["build_problem", "check_training", "observations"]

Array = NDArray[np.float64]


def build_problem(
    fingerprint: Fingerprint, data: Dataset, mean: float, radial: Radial
) -> tuple[Problem, Rows, list[Array]]:
    """Return the observations of a data set, with the rows of its features and their Jacobians."""
    rows = fingerprint.rows(data)
    jacobians = fingerprint.jacobians(data)
    sizes = [1 + jacobian.shape[1] for jacobian in jacobians]
    first = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    values = np.concatenate([observations(structure, mean, fingerprint.invariant) for structure in data])
    return Problem(rows.sets(jacobians), first, values, radial), rows, jacobians


def observations(structure: Structure, mean: float, invariant: str) -> Array:
    """Return energy less the mean and gradients along the internal directions, shape (1 + m,)."""
    if structure.energy is None or structure.forces is None:  # excluded by check_training
        raise DataError(f"{structure.origin}: has no energy or no forces")
    gradients = -(structure.forces.ravel() @ internal_directions(structure, invariant))
    return np.concatenate([[structure.energy - mean], gradients])


def check_training(data: Dataset) -> None:
    """Refuse training sets that are empty, lack labels or mix compositions.

    Raises
    ------
    DataError
    """
    if len(data) == 0:
        raise DataError("the training set of the surrogate is empty; give at least one structure")
    for structure in data:
        if structure.energy is None or structure.forces is None:
            missing = "energy" if structure.energy is None else "forces"
            raise DataError(
                f"{structure.origin}: has no {missing}, which the surrogate needs; compute them, "
                "leave the structure out, or train on energies without augmentation"
            )
        if structure.composition != data[0].composition:
            raise DataError(
                f"{structure.origin}: composition {structure.formula} differs from {data[0].formula} of "
                f"{data[0].origin}; fit one surrogate per composition, as fit_surrogates(data) does"
            )
