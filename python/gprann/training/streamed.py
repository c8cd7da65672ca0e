"""Training sets that are streamed: when, where their features are kept, and what training needs to know of them."""

from __future__ import annotations

import contextlib
import logging
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gprann.arrays import Array, Indices
from gprann.baselines import Baseline, ReferenceEnergies, as_baseline
from gprann.baselines.reference_energies import fit_to_counts
from gprann.data.structure import Dataset, evenly_spread
from gprann.descriptors import Descriptor
from gprann.errors import ConfigError
from gprann.io.reading import Source
from gprann.models import Guard
from gprann.models.features import FeatureTable
from gprann.models.guard import ArraySample
from gprann.runtime.resources import GIB, memory_budget
from gprann.training.guard import fit_guard, fold_structures
from gprann.training.hold_out import Trajectories
from gprann.training.member import CommitteeTask
from gprann.training.optimizers import AdamW
from gprann.training.options import TrainingOptions
from gprann.training.prepared import Learner, Prepared, compare_sizes, record_compositions, record_data
from gprann.training.standardised import report_components
from gprann.training.store.build import Built, Known, build_store
from gprann.training.store.objective import StreamedObjective
from gprann.training.targets import Facts, energy_scale, energy_weights, structure_weights

_log = logging.getLogger(__name__)
_GUARD_BYTES = 128 * 2**20  # of the features from which the guard of larger sets is made
_COPIES = 3.0  # of the features that training in memory holds: values, standardised, selected


@contextlib.contextmanager
def features_folder(
    data: Source, descriptor: Descriptor, settings: TrainingOptions, checkpoint: Path | None
) -> Iterator[Path | None]:
    """Give the folder in which the features are to be kept; None if they stay in memory.

    They do unless a folder is asked for, or they would exceed the memory and can be streamed: then a folder among the
    checkpoints is taken, or one that is gone after the block.
    """
    if settings.store is not None:
        yield Path(settings.store).expanduser()
        return
    atoms = sum(len(structure) for structure in data) if isinstance(data, Dataset) else 0
    needed, budget = _COPIES * 8.0 * atoms * descriptor.size / GIB, memory_budget(None)
    if needed <= budget or not can_stream(settings):
        yield None
        return
    with contextlib.ExitStack() as stack:
        if checkpoint is None:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="gprann-")))
        else:
            folder = checkpoint / "features"
            folder.parent.mkdir(parents=True, exist_ok=True)
        _log.info(
            "the features would take about %.1f GiB of memory, of which %.1f are available: they are streamed from %s",
            needed,
            budget,
            folder,
        )
        yield folder


def can_stream(settings: TrainingOptions) -> bool:
    """Return whether a training can be streamed: on energies alone, all of whose errors are squared."""
    return not settings.forces and settings.huber_energy is None and not settings.optimizer.needs_products


def prepare_streamed(data: Source, setting: Learner, folder: Path) -> Prepared:
    """Write the features of a training set into a folder, and set up what is to be minimised.

    Parameters
    ----------
    data : anything that `gprann.read` takes
        Large files are read structure by structure.
    setting : Learner
    folder : Path

    Raises
    ------
    ConfigError
        If the optimiser or a term of the baseline needs all structures in memory, or the folder holds something else.
    DataError
        If structures cannot be used.
    """
    descriptor, base = setting.descriptor, setting.base
    others, references = setting.terms()
    _check_terms(others)
    before = None if base is None else base.normalisation
    built = build_store(data, descriptor, folder, terms=others, before=before)
    known, normalisation = built.known, built.index.normalisation
    report_components(descriptor, known.counts.sum(axis=0), normalisation)
    settings, reason = _choose_optimizer(setting, known)
    fitted = references if base is not None else _fit(references or [ReferenceEnergies()], known, descriptor)
    energies = _subtract(fitted, known, descriptor)
    sizes = known.counts.sum(axis=1)
    labels = known.labels
    facts = Facts(sizes, labels["weight"], labels["variance"], labels["group"], known.groups)
    settings, per_atom = compare_sizes(settings, facts)
    scale = energy_scale(energies) if base is None else base.energy_scale
    weights = energy_weights(facts, structure_weights(facts, settings), per_atom=bool(settings.per_atom))
    arrays = {"counts": known.counts, "targets": energies / scale, "weights": weights}
    objective = StreamedObjective.of_store(setting.model, built.blocks, built.index.fingerprint, arrays)
    families = _join_trajectories(built)
    strata = np.ascontiguousarray(labels["stratum"])
    initial = None if base is None else base.parameters
    record = {
        **record_data(len(labels), known.references, settings),
        **record_compositions(known.compositions, setting.options, base),
        "optimizer_reason": reason,
        "weighting": per_atom,
    }
    return Prepared(
        normalisation,
        _guard(built, descriptor, families, strata),
        CommitteeTask(objective, families, strata, settings, scale, initial),
        as_baseline([*others, *fitted]),
        record,
    )


def _check_terms(terms: list[Baseline]) -> None:
    """Refuse terms of a baseline that are fitted to all structures."""
    for term in terms:
        if type(term).fit is not Baseline.fit:
            raise ConfigError(
                f"store: the baseline {term!r} is fitted to all structures at once, which are not in memory; fit it "
                "before, or leave store out"
            )


def _choose_optimizer(setting: Learner, known: Known) -> tuple[TrainingOptions, str]:
    """Return the options with the optimiser; where the automatic choice cannot be streamed it is AdamW."""
    count = len(known.labels)
    settings, reason = setting.choose_optimizer(count, count, len(known.compositions))
    if settings.optimizer.needs_products:
        given = {
            name: value
            for name, value in setting.options.optimizer.changes().items()
            if name in AdamW.model_fields
        }
        reason = f"{setting.model.n_parameters} parameters, whose features are streamed"
        settings, _ = setting.replace(setting.options.replace(optimizer=AdamW(**given))).choose_optimizer(
            count, count, len(known.compositions)
        )
    return settings, reason


def _fit(
    references: list[ReferenceEnergies], known: Known, descriptor: Descriptor
) -> list[ReferenceEnergies]:
    """Return the reference energies fitted to the structures of a store, each to what those before it leave."""
    counts, energies = known.counts.astype(float), np.array(known.labels["energy"])
    fitted = []
    for term in references:
        fitted.append(fit_to_counts(term, counts, energies, known.isolated, descriptor.species))
        energies = energies - counts @ fitted[-1].energies_of(descriptor.species)
    return fitted


def _subtract(references: list[ReferenceEnergies], known: Known, descriptor: Descriptor) -> Array:
    """Return the energies of the structures of a store less reference energies, shape (n,), eV."""
    counts, energies = known.counts.astype(float), np.array(known.labels["energy"])
    for term in references:
        energies = energies - counts @ term.energies_of(descriptor.species)
    return energies


def _join_trajectories(built: Built) -> Indices:
    """Return the families, pieces of trajectories joined; of each family the first structure is looked at."""
    labels, blocks = built.known.labels, built.blocks
    families, strata = np.ascontiguousarray(labels["family"]), labels["stratum"]
    _, first = np.unique(families, return_index=True)
    first = np.sort(first)
    trajectories = Trajectories()
    begin = 0
    for block, entry in enumerate(blocks.entries):
        own = first[(first >= begin) & (first < begin + entry.structures)]
        if len(own):
            table = FeatureTable(blocks.features(block), blocks.rows(block), np.zeros(0, np.int64))
            averages = _averages(table, own - begin)
            for stratum in np.unique(strata[own]).tolist():
                trajectories.add(stratum, averages[strata[own] == stratum])
        begin += entry.structures
    return trajectories.join(families, strata)


def _averages(table: FeatureTable, structures: Indices) -> Array:
    """Return the averages of the features of some structures, shape (m, D)."""
    result = np.zeros((len(structures), table.features.shape[1]))
    for k, structure in enumerate(structures.tolist()):
        spans = table.rows[:, structure : structure + 2].tolist()
        total = sum(table.features[begin:end].sum(axis=0) for begin, end in spans)
        result[k] = total / sum(end - begin for begin, end in spans)
    return result


def _guard(built: Built, descriptor: Descriptor, families: Indices, strata: Indices) -> Guard:
    """Fit the extrapolation guard, of larger sets to structures that are spread evenly."""
    known = built.known
    atoms = known.counts.sum()
    share = min(1.0, _GUARD_BYTES / (8.0 * atoms * descriptor.size))
    count = len(families) if share == 1.0 else max(1, int(share * len(families)))
    chosen = evenly_spread(len(families), count)
    folds = fold_structures(families, strata)
    features: list[Array] = []
    kinds: list[NDArray[np.int32]] = []
    numbers: list[Indices] = []
    begin = 0
    for block, entry in enumerate(built.blocks.entries):
        own = chosen[(chosen >= begin) & (chosen < begin + entry.structures)]
        mapped, rows = built.blocks.features(block), built.blocks.rows(block)
        for kind, offsets in enumerate(rows):
            starts, counts = offsets[own - begin], known.counts[own, kind]
            taken = np.repeat(starts - np.cumsum(counts) + counts, counts) + np.arange(counts.sum())
            features.append(mapped[taken])
            kinds.append(np.full(len(taken), kind, np.int32))
            numbers.append(np.repeat(folds[own], counts))
        begin += entry.structures
    environments = ArraySample(np.concatenate(features), np.concatenate(kinds), np.concatenate(numbers))
    return fit_guard(Dataset(known.sample), descriptor, built.index.normalisation, environments)
