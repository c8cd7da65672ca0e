"""Observations of a Gaussian process: energies, gradients along internal directions, and stresses."""

from __future__ import annotations

import logging
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gprann import _core
from gprann.arrays import Array
from gprann.data.prediction import volume
from gprann.data.structure import Dataset, Structure
from gprann.errors import DataError, listing
from gprann.io.checks import find_duplicates
from gprann.runtime.resources import blas_and_threads
from gprann.surrogate.kernels.base import Fingerprint, Rows
from gprann.surrogate.kernels.internal_coordinates import observed_directions, strain_length

_log = logging.getLogger(__name__)
_FEW = 5  # structures, whose features hardly differ
_RATTLE = 0.05  # Å


@dataclass(frozen=True, slots=True)
class Observations:
    """Energies and gradients of n structures, with the features that explain them.

    Attributes
    ----------
    sets : compiled features and Jacobians
    first : ndarray of int64, shape (n + 1,)
        Row of the energy of each structure.
    values : ndarray, shape (first[-1],)
        Energies less their mean, eV, and gradients along the internal directions, eV/Å.
    fingerprint : Fingerprint
        Its kernel has the radial kernel.
    """

    sets: _core.FeatureSets
    first: NDArray[np.int64]
    values: Array
    fingerprint: Fingerprint

    @property
    def is_energy(self) -> NDArray[np.bool_]:
        """Mask of the rows that are energies."""
        mask = np.zeros(len(self.values), dtype=bool)
        mask[self.first[:-1]] = True
        return mask

    def kernel(self, length: float, *, derivative: bool = False) -> _core.RadialKernel:
        """Return the radial kernel, or its derivative with respect to log l."""
        return self.fingerprint.radial_kernel(length, derivative=derivative)

    def covariance(self, length: float, *, derivative: bool = False) -> Array:
        """Return K0, lower triangle, or its derivative with respect to log l; shape (rows, rows)."""
        rows = len(self.values)
        K = np.zeros((rows, rows))
        kernel = self.kernel(length, derivative=derivative)
        with blas_and_threads() as (blas, threads):
            _core.covariance(self.sets, self.sets, kernel, blas, True, threads, K)
        return K

    def noise(self, energy_noise: float, force_noise: float) -> Array:
        """Return the diagonal of the noise for variances relative to the amplitude, shape (rows,)."""
        return np.where(self.is_energy, energy_noise, force_noise)

    def unit_rows(self, K: Array) -> NDArray[np.bool_]:
        """Return the rows whose mean is the unit of the noises: gradients, or energies where no gradient varies."""
        gradients = ~self.is_energy
        # Single atoms have no gradients; those of atoms that do not feel each other the kernel takes for zero.
        return gradients if np.any(np.diagonal(K)[gradients]) else self.is_energy

    def gradient_scale(self, K: Array) -> float:
        """Return the mean diagonal of the gradient blocks of K, the unit of the noises."""
        return float(np.diagonal(K)[self.unit_rows(K)].mean())


def observe(
    fingerprint: Fingerprint, data: Dataset, mean: float, jacobians: list[Array] | None = None
) -> tuple[Observations, Rows, list[Array]]:
    """Return the observations of a data set, with the rows of its features and their Jacobians, if need be computed."""
    rows = fingerprint.rows(data)
    jacobians = fingerprint.jacobians(data) if jacobians is None else jacobians
    sizes = [1 + jacobian.shape[1] for jacobian in jacobians]
    first = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    values = np.concatenate([observed_values(structure, mean, fingerprint.invariant) for structure in data])
    return Observations(rows.sets(jacobians), first, values, fingerprint), rows, jacobians


def observed_values(structure: Structure, mean: float, invariant: str) -> Array:
    """Return energy less the mean and gradients along the observed directions, shape (1 + m,)."""
    if structure.energy is None:  # excluded by check_training
        raise DataError(f"{structure.origin}: has no energy")
    gradients = observed_gradient(structure) @ observed_directions(structure, invariant)
    return np.concatenate([[structure.energy - mean], gradients])


def observed_gradient(structure: Structure) -> Array:
    """Return the gradient in the coordinates of `observed_directions`, (3N,) or (3N + 6,), eV/Å.

    Raises
    ------
    DataError
        If the structure has no forces.
    """
    if structure.forces is None:
        raise DataError(f"{structure.origin}: has no forces, which the surrogate needs")
    gradient = -structure.forces.ravel()
    if structure.stress is None:
        return gradient
    virial = structure.stress * volume(structure)
    return np.concatenate([gradient, virial / strain_length(structure)])


def add_rattled_copies(data: Dataset, seed: int) -> Dataset:
    """Return the structures; add rattled copies if they are too few to tell the scale of features."""
    if len(data) >= _FEW:
        return data
    rng = np.random.default_rng([seed, 3])
    bare = with_stress(data, stress=False)
    return data + [
        structure.replace(positions=structure.positions + rng.normal(0.0, _RATTLE, structure.positions.shape))
        for structure in bare
        for _ in range(_FEW)
    ]


def with_stress(data: Dataset, *, stress: bool) -> Dataset:
    """Return the structures with those labels alone that are to be observed.

    Raises
    ------
    DataError
        If stresses are to be observed and no structure has one.
    """
    kept = [stress and structure.stress is not None and volume(structure) > 0 for structure in data]
    if stress and not any(kept):
        raise DataError(
            f"{data[0].origin} and the rest of the training set: no structure that is periodic in three directions "
            "has a stress; give stresses, or leave stress = False"
        )
    return Dataset(
        structure if keep or structure.stress is None else structure.replace(stress=None)
        for structure, keep in zip(data, kept, strict=True)
    )


def leave_out_known(data: Dataset, known: Dataset) -> Dataset:
    """Return the structures whose geometry is not in the training set, each once; those left out are logged."""
    repeated = sorted(index for _, *others in find_duplicates(known + data) for index in others)
    left_out = [index - len(known) for index in repeated if index >= len(known)]
    if left_out:
        _log.warning(
            "%d of %d structures left out, their geometries are in the training set already: %s",
            len(left_out),
            len(data),
            listing([data[index].origin for index in left_out]),
        )
    return data.select(sorted(set(range(len(data))) - set(left_out)))


def mixes_compositions(data: Dataset) -> bool:
    """Return whether structures differ in composition or in the number of atoms."""
    return any(structure.composition != data[0].composition for structure in data)


def describe_formulas(data: Dataset) -> str:
    """Return the formula of structures, or the number of formulas they have.

    Examples
    --------
    >>> import gprann
    >>> describe_formulas(gprann.examples.hydrogen(2))
    'H2'
    """
    found = list(dict.fromkeys(structure.formula for structure in data))
    return found[0] if len(found) == 1 else f"{len(found)} compositions"


def check_training(data: Dataset, *, one_composition: bool = False) -> None:
    """Refuse training sets that are empty, lack labels, or mix compositions where the kernel needs one.

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
        if one_composition and structure.composition != data[0].composition:
            raise DataError(
                f"{structure.origin}: composition {structure.formula} differs from {data[0].formula} of "
                f"{data[0].origin}, and this kernel compares whole structures; take kernel = 'atoms', or fit one "
                "surrogate per composition, as fit_surrogates(data) does"
            )


def check_known(data: Dataset, training: Dataset) -> None:
    """Refuse structures of which the training set cannot tell the energy.

    A training set of one composition knows the energies of that composition alone; one of several compositions those
    of any of its elements.

    Raises
    ------
    DataError
    """
    if not mixes_compositions(training):
        expected = training[0]
        for structure in data:
            if structure.composition != expected.composition:
                raise DataError(
                    f"{structure.origin}: composition {structure.formula} is not that of the surrogate's "
                    f"training set, {expected.formula}; add structures of other compositions to the training set and "
                    "fit again"
                )
        return
    known = set(training.species)
    for structure in data:
        for symbol in structure.symbols:
            if symbol not in known:
                raise DataError(
                    f"{structure.origin}: element {symbol} is not in the surrogate's training set, which has "
                    f"{', '.join(sorted(known))}; add structures with it to the training set"
                )
