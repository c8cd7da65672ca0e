"""Reference energies, energy scale and weights of a training set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from gprann.errors import ConfigError, DataError
from gprann.structure import Dataset

__all__ = [
    "count_species",
    "energy_scale",
    "fit_reference_energies",
    "given_reference_energies",
    "structure_weights",
]

Array = NDArray[np.float64]


def count_species(data: Dataset, species: Sequence[str]) -> Array:
    """Return the number of atoms of each species in each structure, shape (n, S)."""
    return np.array(
        [[structure.symbols.count(symbol) for symbol in species] for structure in data], dtype=float
    )


def fit_reference_energies(data: Dataset, species: Sequence[str]) -> Array:
    """Return E0 of each species, shape (S,), eV: the least squares of smallest norm on the composition.

    Examples
    --------
    >>> import gprann
    >>> data = gprann.examples.hydrogen(7)
    >>> bool(np.isclose(2 * fit_reference_energies(data, ["H"])[0], data.energies.mean()))
    True
    """
    counts = count_species(data, species)
    solution, *_ = np.linalg.lstsq(counts, data.energies, rcond=None)
    return np.asarray(solution)


def given_reference_energies(given: Mapping[str, float], species: Sequence[str]) -> Array:
    """Return the user's E0 in the order of the species, shape (S,), eV.

    Raises
    ------
    ConfigError
        If a species is missing or unknown, or a value is not finite.
    """
    missing = [symbol for symbol in species if symbol not in given]
    unknown = [symbol for symbol in given if symbol not in species]
    if missing or unknown:
        names = ", ".join(missing or unknown)
        raise ConfigError(f"reference_energies: {names} {'missing' if missing else 'not among the species'}")
    try:
        values = np.array([float(given[symbol]) for symbol in species])
    except (TypeError, ValueError):
        values = np.array([np.nan])
    if not np.isfinite(values).all():
        raise ConfigError(f"reference_energies: expected finite numbers in eV, got {dict(given)}")
    return values


def energy_scale(residuals: Array) -> float:
    """Return the unit of the networks' output: the standard deviation of the energies left to fit, eV."""
    scale = float(np.std(residuals))
    return scale if scale > 1e-8 else 1.0


def structure_weights(data: Dataset, *, per_atom: bool, label_noise: float | None) -> Array:
    """Return the weights of the squared energy errors, shape (n,).

    Raises
    ------
    DataError
        If all weights are zero.
    """
    weights = np.array([structure.weight for structure in data])
    if per_atom:
        weights = weights / data.n_atoms.astype(float) ** 2
    if label_noise is not None:
        variances = np.array([structure.energy_variance for structure in data])
        weights = weights * label_noise**2 / (label_noise**2 + variances)
    if not weights.sum() > 0:
        raise DataError("all weights of the training set are zero; nothing would be trained")
    return weights
