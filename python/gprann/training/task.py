"""The task of a training: the objective of a data set, in this process or over ranks, normalisation and guard."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gprann.arrays import Array, Indices
from gprann.data.neighbours import Neighbourhood, without_pairs
from gprann.data.structure import Dataset
from gprann.descriptors import Descriptor
from gprann.models import FeatureTable, Guard, Normalisation
from gprann.models.base import AtomModel
from gprann.potential import Potential
from gprann.training.balance import choose_alpha
from gprann.training.energy_force_objective import EnergyForceObjective
from gprann.training.fit_data import LabelTable
from gprann.training.member import CommitteeTask
from gprann.training.objective import EnergyObjective
from gprann.training.options import TrainingOptions
from gprann.training.prepared import compare_sizes
from gprann.training.standardised import Standardised
from gprann.training.targets import Facts, energy_scale, energy_weights, label_table, structure_weights

if TYPE_CHECKING:
    from gprann.training.member import AnyObjective
    from gprann.training.ranks import Team
    from gprann.training.ranks.data import DividedSet

_log = logging.getLogger(__name__)


def make_task(
    data: Dataset,
    descriptor: Descriptor,
    model: AtomModel,
    settings: TrainingOptions,
    *,
    base: Potential | None,
    team: Team | None,
) -> tuple[Normalisation, Guard, CommitteeTask, dict[str, str]]:
    """Return normalisation, guard, what is to be minimised, and how energies and forces are weighed.

    Parameters
    ----------
    data : Dataset
        Structures from which the baseline has been subtracted.
    descriptor : Descriptor
    model : AtomModel
    settings : TrainingOptions
    base : Potential or None
        To go on from.
    team : Team or None
        Ranks among which the structures are divided.
    """
    settings, weighting = compare_sizes(settings, Facts.of(data))
    scale = energy_scale(data.energies, forces=settings.forces) if base is None else base.energy_scale
    before = None if base is None else base.normalisation
    known = _standardise(data, descriptor, before, team, forces=settings.forces)
    guard = known.fit_guard(data, descriptor)
    objective: AnyObjective
    if settings.forces or settings.huber_energy is not None or settings.optimizer.needs_products:
        labels = label_table(data, scale, descriptor.species, settings)
        objective = known.forces(model, labels, settings.force_fraction)
    else:
        weights = energy_weights(data, structure_weights(data, settings), per_atom=bool(settings.per_atom))
        objective = known.energies(model, data.energies / scale, weights)
    if settings.forces and isinstance(objective, EnergyForceObjective):
        alpha, weighting["alpha"] = settings.alpha, "as asked"
        if alpha is None:
            alpha, weighting["alpha"] = choose_alpha(objective, known.families, known.strata, settings.seed)
        settings = settings.replace(alpha=alpha)
        objective = objective.relabel(label_table(data, scale, descriptor.species, settings))
        _log.info("alpha = %g: %s", alpha, weighting["alpha"])
    initial = None if base is None else base.parameters
    task = CommitteeTask(objective, known.families, known.strata, settings, scale, initial)
    return known.normalisation, guard, task, weighting


def _standardise(
    data: Dataset, descriptor: Descriptor, before: Normalisation | None, team: Team | None, *, forces: bool
) -> _WholeSet | DividedSet:
    if team is not None:
        from gprann.training.ranks.data import DividedSet

        return DividedSet.of(team, data, descriptor, with_pairs=forces, before=before)
    neighbours = descriptor.neighbours(data) if forces else None
    known = Standardised.of(data, descriptor, neighbours=neighbours, before=before)
    return _WholeSet(known, descriptor, neighbours)


@dataclass(frozen=True, slots=True)
class _WholeSet:
    """A training set of this process, and the objectives of a fit to it."""

    known: Standardised
    descriptor: Descriptor
    neighbours: Neighbourhood | None

    @property
    def normalisation(self) -> Normalisation:
        return self.known.normalisation

    @property
    def families(self) -> Indices:
        return self.known.families

    @property
    def strata(self) -> Indices:
        return self.known.strata

    def fit_guard(self, data: Dataset, descriptor: Descriptor) -> Guard:
        return self.known.fit_guard(data, descriptor)

    def _table(self) -> FeatureTable:
        known = self.known
        return FeatureTable.sort(known.features, known.kinds, known.first_atom, len(self.descriptor.species))

    def energies(self, model: AtomModel, targets: Array, weights: Array) -> EnergyObjective:
        return EnergyObjective(model, self._table(), targets, weights)

    def forces(self, model: AtomModel, labels: LabelTable, force_fraction: float) -> EnergyForceObjective:
        known = self.known
        return EnergyForceObjective.build(
            model,
            self.descriptor,
            self.neighbours or without_pairs(known.kinds, known.first_atom),
            self._table(),
            known.normalisation.inverse_scale,
            labels=labels,
            force_fraction=force_fraction,
        )
