"""The linear equations of polynomials, gathered once and kept as triangular factors, from which every fit is made.

Energies, forces and virials are linear in the coefficients x of a polynomial: A x = y. Of each fold of the data and
each kind of label the factor R of (A, y) = Q R is kept: |A x - y|² = |R (x, -1)|² for every x. Weights, ridges and
cross-validation need no more than these factors, whose condition is that of the equations and not its square (tall and
skinny QR: Demmel, Grigori, Hoemmen, Langou, SIAM J. Sci. Comput. 34, A206 (2012)).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from scipy.linalg import qr

from gprann import _core
from gprann.arrays import Array, Indices
from gprann.data.structure import Dataset
from gprann.descriptors import Descriptor
from gprann.models import PolynomialModel
from gprann.runtime.resources import n_threads
from gprann.training.fit_data import LabelTable

if TYPE_CHECKING:
    from gprann.training.standardised import Standardised

_ELEMENTS = 2e7  # of the rows of a batch of structures
_TALL = 3  # times as many rows as columns: then they are factorised


def triangular(rows: Array) -> Array:
    """Return R of a QR factorisation: as many rows as columns, or fewer where there are fewer."""
    if len(rows) <= rows.shape[1]:
        return rows
    (factor,) = qr(rows, mode="r", overwrite_a=True, check_finite=False)
    return np.ascontiguousarray(factor[: rows.shape[1]])


@dataclass(slots=True)
class Factor:
    """Equations of one fold and kind: rows that have not been factorised yet, and R of the others.

    Attributes
    ----------
    count : int
        Equations.
    square : float
        Sum of the squares of the right-hand sides.
    """

    parts: list[Array] = field(default_factory=list)
    count: int = 0
    square: float = 0.0

    def add(self, rows: Array) -> None:
        """Add equations: rows (A, y), shape (m, P + 1), already weighted."""
        self.count += len(rows)
        self.square += float(rows[:, -1] @ rows[:, -1])
        self.parts.append(rows)
        if sum(map(len, self.parts)) > _TALL * rows.shape[1]:
            self.parts = [triangular(np.concatenate(self.parts))]

    def get(self) -> Array:
        """Return R."""
        if len(self.parts) > 1:
            self.parts = [triangular(np.concatenate(self.parts))]
        return self.parts[0]


class Weights(NamedTuple):
    """Factors of the squared errors of energies, forces and virials."""

    energies: float
    forces: float
    virials: float


@dataclass(slots=True)
class Equations:
    """The equations of a data set, by fold and kind of label.

    Attributes
    ----------
    model : PolynomialModel
    factors : list of tuple of three Factor
        Energies, forces and virials of each fold.
    """

    model: PolynomialModel
    factors: list[tuple[Factor, Factor, Factor]]

    @property
    def n_folds(self) -> int:
        """Number of folds."""
        return len(self.factors)

    def count(self, weights: Weights, folds: Iterable[int]) -> int:
        """Return the number of equations that count."""
        return sum(
            part.count
            for fold in folds
            for part, weight in zip(self.factors[fold], weights, strict=True)
            if weight > 0
        )

    def join(self, weights: Weights, folds: Iterable[int]) -> Array:
        """Return R of the weighted equations of some folds, shape (m, P + 1) with m at most P + 1."""
        parts = [
            np.sqrt(weight) * part.get()
            for fold in folds
            for part, weight in zip(self.factors[fold], weights, strict=True)
            if weight > 0 and part.count
        ]
        return triangular(np.concatenate(parts))

    def residual(self, kind: int, fold: int, x: Array) -> float:
        """Return the sum of the squared errors of one kind of label in a fold."""
        factor = self.factors[fold][kind]
        if not factor.count:
            return 0.0
        error = factor.get() @ np.append(x, -1.0)
        return float(error @ error)


def gather(
    model: PolynomialModel,
    descriptor: Descriptor,
    known: Standardised,
    data: Dataset,
    *,
    labels: LabelTable,
    folds: Indices,
) -> Equations:
    """Gather the equations of a data set, a batch of structures at a time.

    Parameters
    ----------
    model : PolynomialModel
    descriptor : Descriptor
    known : Standardised
        Its descriptors.
    data : Dataset
    labels : LabelTable
        Of the same structures, in eV and Å; rows are weighted by the roots of its weights.
    folds : ndarray of int64, shape (n,)

    Returns
    -------
    Equations
    """
    factors = [(Factor(), Factor(), Factor()) for _ in range(int(folds.max()) + 1)]
    first = known.first_atom
    P = model.n_parameters
    for begin, end in _batches(data.n_atoms, P):
        batch = data[begin:end]
        atoms = slice(first[begin], first[end])
        with_forces = bool((labels.force_weights[atoms] > 0).any())
        with_virials = bool((labels.virial_weights[begin:end] > 0).any())
        neighbours = descriptor.neighbours(batch)
        energies = np.empty((len(batch), P))
        forces = np.empty((3 * neighbours.n_atoms, P)) if with_forces else None
        virials = np.empty((6 * len(batch), P)) if with_virials else None
        _core.polynomial_rows(
            model.core,
            descriptor.core_for(neighbours),
            neighbours.core,
            np.ascontiguousarray(known.features[atoms]),
            known.normalisation.inverse_scale,
            n_threads(),
            energies,
            forces,
            virials,
        )
        own, of_atoms = folds[begin:end], np.repeat(folds[begin:end], np.diff(first[begin : end + 1]))
        sources = (
            (energies, labels.energies[begin:end], labels.energy_weights[begin:end], own),
            (
                forces,
                labels.forces[atoms].ravel(),
                labels.force_weights[atoms].ravel(),
                np.repeat(of_atoms, 3),
            ),
            (
                virials,
                labels.virials[begin:end].ravel(),
                labels.virial_weights[begin:end].ravel(),
                np.repeat(own, 6),
            ),
        )
        for kind, (rows, values, weights, numbers) in enumerate(sources):
            if rows is not None:
                weighted = np.column_stack([rows, values]) * np.sqrt(weights)[:, None]
                _add([fold[kind] for fold in factors], weighted, numbers)
    return Equations(model, factors)


def _add(factors: Sequence[Factor], rows: Array, folds: Indices) -> None:
    """Add weighted equations to the factors of their folds; those of weight zero do not count."""
    counts = rows.any(axis=1)
    for fold in np.unique(folds).tolist():
        chosen = (folds == fold) & counts
        if chosen.any():
            factors[fold].add(rows[chosen])


def _batches(sizes: Indices, n_parameters: int) -> Iterator[tuple[int, int]]:
    """Return consecutive structures whose equations fit into memory together."""
    begin, elements = 0, 0.0
    for k, size in enumerate(sizes.tolist()):
        own = (3.0 * size + 7.0) * n_parameters
        if k > begin and elements + own > _ELEMENTS:
            yield begin, k
            begin, elements = k, 0.0
        elements += own
    yield begin, len(sizes)
