"""A training set that is divided among ranks: its normalisation, its guard, and the objectives of a fit."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import numpy as np
from numpy.typing import NDArray

from gprann.arrays import Array, Indices
from gprann.baselines.reference_energies import count_species
from gprann.data.structure import Dataset
from gprann.descriptors import Descriptor
from gprann.models import Guard, Normalisation
from gprann.models.base import AtomModel
from gprann.models.features import Moments
from gprann.models.guard import Sums
from gprann.training.energy_force_objective import EnergyForceObjective
from gprann.training.fit_data import LabelTable
from gprann.training.guard import fit_guard, fold_structures, kinship_of_averages
from gprann.training.ranks.combined import RankedData
from gprann.training.ranks.energies import RankedEnergies
from gprann.training.standardised import report_components

if TYPE_CHECKING:
    from gprann.training.ranks.team import Team


@dataclass(frozen=True, slots=True)
class DividedSet:
    """The training set that `Standardised` is in one process, with descriptors that stay on the ranks.

    Attributes
    ----------
    team : Team
    descriptor : Descriptor
    normalisation : Normalisation
    counts : ndarray of int64, shape (n, S)
        Atoms of each species in each structure.
    families, strata : ndarray of int64, shape (n,)
        See `gprann.training.hold_out`.
    digest : ndarray of uint8
        Fingerprint of the geometries.
    """

    team: Team
    descriptor: Descriptor
    normalisation: Normalisation
    counts: Indices
    families: Indices
    strata: Indices
    digest: NDArray[np.uint8]

    @classmethod
    def of(
        cls,
        team: Team,
        data: Dataset,
        descriptor: Descriptor,
        *,
        with_pairs: bool,
        before: Normalisation | None = None,
    ) -> Self:
        """Divide a training set, and let the ranks compute its descriptors.

        Parameters
        ----------
        team : Team
        data : Dataset
        descriptor : Descriptor
        with_pairs : bool
            Whether neighbour lists are kept.
        before : Normalisation, optional
            Of the potential to go on from, which is kept.
        """
        team.divide(data, descriptor, with_pairs=with_pairs)
        number, total = team.sum("moments")
        divisor = np.maximum(number, 1.0)[:, None]
        mean = total / divisor
        (squares,) = team.sum("squares", mean)
        normalisation = Normalisation.from_moments(Moments(number.astype(np.int64), mean, squares))
        if before is not None:
            normalisation = before.complete(normalisation)
        report_components(descriptor, number.astype(np.int64), normalisation)
        averages = team.by_structure(
            team.gather("standardise", normalisation.mean, normalisation.inverse_scale)
        )
        counts = np.asarray(count_species(data, descriptor.species), dtype=np.int64)
        kin = kinship_of_averages(data, averages)
        return cls(team, descriptor, normalisation, counts, *kin, _digest(data))

    def fit_guard(self, data: Dataset, descriptor: Descriptor) -> Guard:
        """Fit the extrapolation guard of the training set."""
        numbers = fold_structures(self.families, self.strata)
        self.team.tell("divide", spread=[("structures", numbers)])
        return fit_guard(
            data, descriptor, self.normalisation, _DividedSample(self.team, self.counts, numbers)
        )

    def energies(self, model: AtomModel, targets: Array, weights: Array) -> RankedEnergies:
        """Return the objective of energies."""
        spread = [("structures", targets), ("structures", weights)]
        self.team.tell("fit_energies", spread=spread, model=model.options)
        return RankedEnergies(self.team, model, self.counts, targets, weights, self.digest, self.descriptor)

    def forces(self, model: AtomModel, labels: LabelTable, force_fraction: float) -> EnergyForceObjective:
        """Return the objective of energies, forces and virials."""
        self.team.tell("fit_forces", model=model.options)
        shared = RankedData(self.team, model, self.descriptor, self.counts, self.digest)
        return EnergyForceObjective(shared, labels, np.arange(len(self.counts)), force_fraction)


@dataclass(frozen=True, slots=True)
class _DividedSample:
    """The environments of the ranks, as `Guard.of` asks for them."""

    team: Team
    counts: Indices
    numbers: Indices

    def folds_of(self, kind: int) -> list[int]:
        return list(map(int, np.unique(self.numbers[self.counts[:, kind] > 0])))

    def sums(self, kind: int, fold: int | None) -> Sums:
        number, first, second = self.team.sum("environment_sums", kind=kind, fold=fold)
        return Sums(float(number[0]), first, second)

    def distances(self, kind: int, fold: int | None, mean: Array, whiten: Array) -> Array:
        return np.concatenate(self.team.gather("distances", mean, whiten, kind=kind, fold=fold))


def _digest(data: Dataset) -> NDArray[np.uint8]:
    """Return a fingerprint of elements, positions, cells and periodicity."""
    digest = hashlib.sha256()
    for structure in data:
        digest.update(" ".join(structure.symbols).encode())
        for array in (structure.positions, structure.cell, structure.pbc):
            digest.update(np.ascontiguousarray(array).tobytes())
    return np.frombuffer(digest.digest(), np.uint8)
