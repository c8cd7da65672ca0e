"""The standardised descriptors of a training set, and what is told of its structures by them."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from gprann.arrays import Array, Indices
from gprann.data.neighbours import Neighbourhood
from gprann.data.structure import Dataset
from gprann.descriptors import Descriptor
from gprann.models import Guard, Normalisation
from gprann.models.features import descriptor_values
from gprann.training.guard import Environments, atom_folds, fit_guard, kinship

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Standardised:
    """Standardised descriptors of a training set, and which of its structures belong together.

    Attributes
    ----------
    normalisation : Normalisation
    features : ndarray, shape (n_atoms, D)
    kinds : ndarray of int32, shape (n_atoms,)
        Species.
    first_atom : ndarray of int64, shape (n + 1,)
    families, strata : ndarray of int64, shape (n,)
        See `gprann.training.hold_out`.
    """

    normalisation: Normalisation
    features: Array
    kinds: NDArray[np.int32]
    first_atom: Indices
    families: Indices
    strata: Indices

    @classmethod
    def of(
        cls,
        data: Dataset,
        descriptor: Descriptor,
        *,
        neighbours: Neighbourhood | None = None,
        before: Normalisation | None = None,
    ) -> Self:
        """Compute the descriptors of a training set, and name elements and components that it does not determine.

        Parameters
        ----------
        data : Dataset
        descriptor : Descriptor
        neighbours : Neighbourhood, optional
            Neighbour lists, where there are some already.
        before : Normalisation, optional
            Of the potential to go on from, which is kept.
        """
        values, kinds, first = descriptor_values(descriptor, data, neighbours)
        normalisation = Normalisation.from_values(values, kinds, len(descriptor.species))
        if before is not None:
            normalisation = before.complete(normalisation)
        report_components(descriptor, np.bincount(kinds, minlength=len(descriptor.species)), normalisation)
        features = normalisation.apply(values, kinds)
        return cls(normalisation, features, kinds, first, *kinship(data, features, first))

    def fit_guard(self, data: Dataset, descriptor: Descriptor) -> Guard:
        """Fit the extrapolation guard of the training set."""
        numbers = atom_folds(self.families, self.strata, self.first_atom)
        environments = Environments(self.features, self.kinds, numbers)
        return fit_guard(data, descriptor, self.normalisation, environments)


def report_components(descriptor: Descriptor, atoms: Indices, normalisation: Normalisation) -> None:
    """Name the elements without atoms, shape (S,), and those some of whose components never vary."""
    unseen = [symbol for symbol, count in zip(descriptor.species, atoms.tolist(), strict=True) if count == 0]
    if unseen:
        _log.warning(
            "the training set has no %s: the potential will know nothing about it; "
            "leave it out of the descriptor",
            ", ".join(unseen),
        )
    for symbol, scales in zip(descriptor.species, normalisation.inverse_scale, strict=True):
        constant = np.count_nonzero(scales == 0)
        if constant and symbol not in unseen:
            _log.info(
                "%s: %d of %d descriptor components are constant and left out", symbol, constant, len(scales)
            )
