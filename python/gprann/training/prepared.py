"""The common part of training in memory and training from a store: choices, baseline, records."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from gprann.baselines import Baseline, ReferenceEnergies, as_baseline, fit_baseline, terms_of
from gprann.baselines.reference_energies import spanning_compositions
from gprann.data.structure import Composition, Dataset
from gprann.descriptors import Descriptor
from gprann.errors import ConfigError
from gprann.models import Guard, Normalisation
from gprann.models.base import AtomModel
from gprann.potential import Potential
from gprann.training.member import CommitteeTask
from gprann.training.optimizers.base import Workload
from gprann.training.options import TrainingOptions
from gprann.training.targets import Facts, sizes_differ
from gprann.version import __version__

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Prepared:
    """A training set, ready for training.

    Attributes
    ----------
    normalisation : Normalisation
    guard : Guard
    task : CommitteeTask
    baseline : Baseline
    record : dict
        Of the data and the choices, for the file of the potential.
    """

    normalisation: Normalisation
    guard: Guard
    task: CommitteeTask
    baseline: Baseline
    record: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Learner:
    """A model to be trained, and how.

    Attributes
    ----------
    descriptor : Descriptor
    model : AtomModel
    options : TrainingOptions
    base : Potential, optional
        To go on from.
    """

    descriptor: Descriptor
    model: AtomModel
    options: TrainingOptions
    base: Potential | None = None

    def replace(self, options: TrainingOptions) -> Learner:
        """Return the setting with other options."""
        return replace(self, options=options)

    def choose_optimizer(
        self, n_structures: int, n_rows: int, n_compositions: int
    ) -> tuple[TrainingOptions, str]:
        """Return the options that all members share, with the optimiser that suits the data, and the reason."""
        options = self.options
        workload = Workload(
            n_parameters=self.model.n_parameters,
            n_structures=n_structures,
            n_compositions=n_compositions,
            forces=options.forces,
            linear=self.model.linear,
            n_rows=n_rows,
        )
        if n_rows < workload.n_parameters:
            _log.info(
                "%d parameters, but only %d energies and forces to determine them: what the networks do between the "
                "structures is decided by their start; a committee shows where that matters, and smaller networks, a "
                "descriptor compressed to fewer features (compress_descriptor) or more data change it",
                workload.n_parameters,
                n_rows,
            )
        optimizer, reason = options.optimizer.resolve(workload)
        _log.info("optimizer %s: %s", optimizer.name or type(optimizer).__name__, reason)
        if options.huber_force is not None and not options.forces:
            _log.warning("huber_force has no effect without forces = true")
        return options.shared.replace(optimizer=optimizer), reason

    def terms(self) -> tuple[list[Baseline], list[ReferenceEnergies]]:
        """Return the terms of the baseline that was given, its reference energies apart.

        A potential that is trained further keeps its own, except for what was given.
        """
        options = self.options
        given = () if options.baseline is None else terms_of(options.baseline)
        if options.reference_energies is not None:
            given = (*given, ReferenceEnergies(energies=options.reference_energies))
        before = () if self.base is None else terms_of(self.base.baseline)
        others, references = (
            [term for term in given if isinstance(term, ReferenceEnergies) == kind]
            or [term for term in before if isinstance(term, ReferenceEnergies) == kind]
            for kind in (False, True)
        )
        return others, [term for term in references if isinstance(term, ReferenceEnergies)]

    def fit_baseline(self, data: Dataset) -> Baseline:
        """Return the baseline: what was given, completed by reference energies and fitted."""
        others, references = self.terms()
        if self.base is None:
            return fit_baseline(as_baseline([*others, *references]), data, self.descriptor.species)
        for term in references:
            term.energies_of(self.descriptor.species)  # raises if one is missing
        return as_baseline([*others, *references])


def compare_sizes(settings: TrainingOptions, facts: Facts) -> tuple[TrainingOptions, dict[str, str]]:
    """Return the options with energies compared per structure or per atom, and the reason."""
    if settings.per_atom is not None:
        return settings, {"per_atom": "as asked"}
    differ = sizes_differ(facts)
    reason = f"structures of {int(facts.n_atoms.min())} to {int(facts.n_atoms.max())} atoms"
    if differ:
        _log.info("energies are compared per atom: %s", reason)
    return settings.replace(per_atom=differ), {"per_atom": reason}


def record_compositions(
    compositions: Iterable[Composition], settings: TrainingOptions, base: Potential | None
) -> dict[str, Any]:
    """Return compositions that span those of the training set, and whether the reference energies were given.

    Energies of other compositions are not determined unless they were; see `Potential.predict`. A potential that is
    trained further has those of its own training set too, and no record if it had none.
    """
    before = {"compositions": []} if base is None else base.provenance.get("training", {})
    if "compositions" not in before:
        return {}
    known = [tuple(numbers.items()) for numbers in before["compositions"]]
    spanning = spanning_compositions([*known, *compositions])
    return {
        "compositions": [dict(composition) for composition in spanning],
        "reference_energies_given": settings.gives_reference_energies
        or bool(before.get("reference_energies_given")),
    }


def record_data(n_structures: int, references: Sequence[str], settings: TrainingOptions) -> dict[str, Any]:
    """Return what the potential was trained on and how, as plain data for its file.

    Parameters
    ----------
    n_structures : int
    references : sequence of str
        Digests of the reference structures: an evaluation warns of test structures that have been trained on.
    settings : TrainingOptions
    """
    return {
        "program": f"gprann {__version__}",
        "n_structures": n_structures,
        "n_reference": len(references),
        "structures": list(references),
        "options": _describe(settings),
    }


def _describe(options: TrainingOptions) -> dict[str, Any]:
    """Return the options as plain data; an optimiser or model that no file can name appears as text."""
    try:
        return options.to_dict()
    except ConfigError:
        named = TrainingOptions(**{**options.changes(), "optimizer": "auto", "model": "mlp"}).to_dict()
        return {**named, "optimizer": repr(options.optimizer), "model": repr(options.model)}
