"""Residuals: reference labels beside predictions, from which all metrics, tables and plots are computed."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gprann.arrays import Array
from gprann.data.prediction import Prediction
from gprann.data.structure import Dataset, Origin
from gprann.errors import DataError

logger = logging.getLogger(__name__)


TINY_FORCE = 1e-3
"""Reference forces shorter than this (eV/Å) have no direction: it is the noise of a converged calculation."""


def angle_between(a: ArrayLike, b: ArrayLike) -> Array:
    """Return the angle between vectors, exact also near 0° and 180° where the arc cosine is not.

    The angle to a vector of length zero is taken as 90°, the mean over random directions: a model that
    predicts no force must not profit from it.

    Parameters
    ----------
    a, b : array_like, shape (..., 3)
        Broadcast against each other.

    Returns
    -------
    ndarray, shape (...), degrees

    Examples
    --------
    >>> angle_between([[1.0, 0, 0], [1, 0, 0], [0, 0, 0]], [0.0, 2, 0]).tolist()
    [90.0, 90.0, 90.0]
    >>> float(angle_between([1.0, 0, 0], [-3.0, 0, 0]))
    180.0
    """
    u, v = _unit(np.asarray(a, dtype=np.float64)), _unit(np.asarray(b, dtype=np.float64))
    sine, cosine = np.linalg.norm(np.cross(u, v), axis=-1), np.sum(u * v, axis=-1)
    undefined = (sine == 0) & (cosine == 0)
    degrees: Array = np.where(undefined, 90.0, np.degrees(np.arctan2(sine, cosine)))
    return degrees


def _unit(vectors: Array) -> Array:
    vectors = np.where(np.all(np.isfinite(vectors), axis=-1, keepdims=True), vectors, np.nan)
    # Dividing by the largest component first keeps the squares of tiny components from underflowing.
    largest = np.max(np.abs(vectors), axis=-1, keepdims=True)
    scaled = vectors / np.where(largest > 0, largest, 1.0)
    length = np.linalg.norm(scaled, axis=-1, keepdims=True)
    unit: Array = scaled / np.where(length > 0, length, 1.0)
    return unit


@dataclass(frozen=True, slots=True, eq=False)
class ForceResiduals:
    """Forces on A atoms of all structures that have reference forces.

    Attributes
    ----------
    structure : ndarray of int, shape (A,)
        Index of the structure to which the atom belongs.
    symbols : ndarray of str, shape (A,)
    reference, predicted : ndarray, shape (A, 3), eV/Å
    std : ndarray, shape (A, 3), eV/Å, or None
    members : ndarray, shape (members, A, 3), eV/Å, or None
    grades : ndarray, shape (A,), or None
        Of the extrapolation guard.
    """

    structure: NDArray[np.int64]
    symbols: NDArray[np.str_]
    reference: Array
    predicted: Array
    std: Array | None = None
    members: Array | None = None
    grades: Array | None = None

    def __len__(self) -> int:
        """Return the number of atoms."""
        return len(self.structure)

    @property
    def error(self) -> Array:
        """Predicted minus reference force, shape (A, 3), eV/Å."""
        return self.predicted - self.reference

    @property
    def reference_norm(self) -> Array:
        """Magnitude of the reference force, shape (A,), eV/Å."""
        norm: Array = np.linalg.norm(self.reference, axis=1)
        return norm

    @property
    def norm_error(self) -> Array:
        """Predicted minus reference magnitude, shape (A,), eV/Å."""
        error: Array = np.linalg.norm(self.predicted, axis=1) - self.reference_norm
        return error

    @property
    def has_direction(self) -> NDArray[np.bool_]:
        """Whether the reference force is at least `TINY_FORCE`, shape (A,)."""
        directed: NDArray[np.bool_] = self.reference_norm >= TINY_FORCE
        return directed

    @property
    def angle(self) -> Array:
        """Angle between predicted and reference force, shape (A,), degrees; NaN without a direction."""
        return np.where(self.has_direction, angle_between(self.predicted, self.reference), np.nan)

    def select(self, atoms: NDArray[np.bool_]) -> ForceResiduals:
        """Return the atoms for which the mask, shape (A,), is true."""
        return ForceResiduals(
            self.structure[atoms],
            self.symbols[atoms],
            self.reference[atoms],
            self.predicted[atoms],
            None if self.std is None else self.std[atoms],
            None if self.members is None else self.members[:, atoms],
            None if self.grades is None else self.grades[atoms],
        )


@dataclass(frozen=True, slots=True, eq=False)
class Residuals:
    """Labels and predictions of n structures.

    Attributes
    ----------
    origins : tuple of Origin, length n
    groups : tuple of str, length n
        `Structure.group`, or the chemical formula where there is none.
    formulas : tuple of str, length n
    n_atoms : ndarray of int, shape (n,)
    energy_reference, energy_predicted : ndarray, shape (n,), eV
    energy_std : ndarray, shape (n,), eV, or None
    member_energy : ndarray, shape (members, n), eV, or None
    forces : ForceResiduals or None
        None if no structure has reference forces.
    stress_error : ndarray, shape (n, 6), eV/Å³, or None
        NaN in the rows of structures without a reference or predicted stress; None if there is no other.
    """

    origins: tuple[Origin, ...]
    groups: tuple[str, ...]
    formulas: tuple[str, ...]
    n_atoms: NDArray[np.int64]
    energy_reference: Array
    energy_predicted: Array
    energy_std: Array | None = None
    member_energy: Array | None = None
    forces: ForceResiduals | None = None
    stress_error: Array | None = None

    def __len__(self) -> int:
        """Return the number of structures."""
        return len(self.energy_reference)

    @property
    def energy_error(self) -> Array:
        """Predicted minus reference energy, shape (n,), eV per structure."""
        return self.energy_predicted - self.energy_reference

    @property
    def n_members(self) -> int:
        """Number of committee members, 0 where the prediction has none."""
        return 0 if self.member_energy is None else len(self.member_energy)

    def select(self, indices: NDArray[np.int64]) -> Residuals:
        """Return the structures with the given indices, which must be in ascending order."""
        forces = self.forces
        if forces is not None:
            forces = forces.select(np.isin(forces.structure, indices))
            forces = (
                replace(forces, structure=np.searchsorted(indices, forces.structure)) if len(forces) else None
            )
        return Residuals(
            origins=tuple(self.origins[i] for i in indices),
            groups=tuple(self.groups[i] for i in indices),
            formulas=tuple(self.formulas[i] for i in indices),
            n_atoms=self.n_atoms[indices],
            energy_reference=self.energy_reference[indices],
            energy_predicted=self.energy_predicted[indices],
            energy_std=None if self.energy_std is None else self.energy_std[indices],
            member_energy=None if self.member_energy is None else self.member_energy[:, indices],
            forces=forces,
            stress_error=None if self.stress_error is None else self.stress_error[indices],
        )

    def member(self, index: int) -> Residuals:
        """Return the residuals of one committee member alone.

        Raises
        ------
        DataError
            If the prediction has no such member.
        """
        if self.member_energy is None or not 0 <= index < self.n_members:
            raise DataError(f"there is no member {index}; the prediction has {self.n_members} members")
        forces = self.forces
        if forces is not None:
            own = None if forces.members is None else forces.members[index]
            forces = None if own is None else replace(forces, predicted=own, std=None, members=None)
        return replace(
            self,
            energy_predicted=self.member_energy[index],
            energy_std=None,
            member_energy=None,
            forces=forces,
            stress_error=None,
        )


def compare(reference: Dataset, prediction: Prediction) -> Residuals:
    """Put the labels of a data set and a prediction for it side by side.

    Parameters
    ----------
    reference : Dataset
        Every structure with an energy; forces and stress where there are some.
    prediction : Prediction
        In the order of `reference`.

    Returns
    -------
    Residuals

    Raises
    ------
    DataError
        If the data set is empty, a structure has no energy, or the prediction is of other structures.

    Examples
    --------
    >>> from gprann.data.structure import Structure
    >>> h2 = Structure(("H", "H"), np.array([[0.0, 0, 0], [0, 0, 0.74]]), energy=-31.7)
    >>> residuals = compare(Dataset([h2]), Prediction(np.array([-31.5]), [np.zeros((2, 3))]))
    >>> residuals.energy_error.round(6).tolist()
    [0.2]
    """
    energies = require_energies(reference)
    _check_shapes(reference, prediction)
    _warn_not_finite(reference, prediction)
    return Residuals(
        origins=tuple(structure.origin for structure in reference),
        groups=tuple(structure.group or structure.formula for structure in reference),
        formulas=tuple(structure.formula for structure in reference),
        n_atoms=reference.n_atoms,
        energy_reference=energies,
        energy_predicted=np.asarray(prediction.energy, dtype=np.float64),
        energy_std=_optional(prediction.energy_std),
        member_energy=_optional(prediction.member_energy),
        forces=_compare_forces(reference, prediction),
        stress_error=_compare_stress(reference, prediction),
    )


def require_energies(reference: Dataset) -> Array:
    """Return the reference energies, shape (n,), eV.

    Raises
    ------
    DataError
        If there is no structure, or one without an energy.
    """
    if len(reference) == 0:
        raise DataError("there are no structures to evaluate on; check the path or the selection")
    return reference.energies


def _optional(values: ArrayLike | None) -> Array | None:
    return None if values is None else np.asarray(values, dtype=np.float64)


def _check_shapes(reference: Dataset, prediction: Prediction) -> None:
    n = len(reference)
    if len(prediction) != n or len(prediction.forces) != n:
        raise DataError(
            f"the prediction has {len(prediction)} energies and {len(prediction.forces)} arrays of forces, "
            f"the data set has {n} structures; predict the same data set"
        )
    for structure, forces in zip(reference, prediction.forces, strict=True):
        if np.shape(forces) != (len(structure), 3):
            raise DataError(
                f"{structure.origin}: predicted forces have shape {np.shape(forces)}, "
                f"expected {(len(structure), 3)}; predict the same data set"
            )


def _warn_not_finite(reference: Dataset, prediction: Prediction) -> None:
    bad = [
        str(structure.origin)
        for structure, energy, forces in zip(reference, prediction.energy, prediction.forces, strict=True)
        if not (np.isfinite(energy) and np.all(np.isfinite(forces)))
    ]
    if bad:
        more = f" and {len(bad) - 3} more" if len(bad) > 3 else ""
        logger.warning(
            "predictions that are not finite, so are their metrics: %s%s", "; ".join(bad[:3]), more
        )


def _compare_forces(reference: Dataset, prediction: Prediction) -> ForceResiduals | None:
    """Concatenate the forces of all atoms whose structure has reference forces."""
    labelled = [(i, structure) for i, structure in enumerate(reference) if structure.forces is not None]
    if not labelled:
        return None
    indices = [i for i, _ in labelled]
    return ForceResiduals(
        structure=np.repeat(indices, [len(structure) for _, structure in labelled]),
        symbols=np.array([symbol for _, structure in labelled for symbol in structure.symbols]),
        reference=np.concatenate([np.asarray(structure.forces) for _, structure in labelled]),
        predicted=_join(prediction.forces, indices, axis=0),
        std=None if prediction.forces_std is None else _join(prediction.forces_std, indices, axis=0),
        members=None
        if prediction.member_forces is None
        else _join(prediction.member_forces, indices, axis=1),
        grades=None if prediction.grades is None else _join(prediction.grades, indices, axis=0),
    )


def _join(arrays: Sequence[Array], indices: Sequence[int], *, axis: int) -> Array:
    return np.concatenate([np.asarray(arrays[i], dtype=np.float64) for i in indices], axis=axis)


def _compare_stress(reference: Dataset, prediction: Prediction) -> Array | None:
    if prediction.stress is None:
        return None
    missing = np.full(6, np.nan)
    rows = [missing if structure.stress is None else structure.stress for structure in reference]
    error: Array = np.asarray(prediction.stress, dtype=np.float64) - np.array(rows)
    return error if np.any(np.isfinite(error)) else None
