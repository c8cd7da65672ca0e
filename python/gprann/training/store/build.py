"""Writing of a store: one walk through the structures, which computes the blocks that are missing or broken."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gprann.arrays import Array, Indices
from gprann.baselines import BASELINES, Baseline, as_baseline
from gprann.baselines.reference_energies import isolated_atom_energies
from gprann.data.attachments import plain
from gprann.data.structure import Composition, Dataset, Structure
from gprann.descriptors import Descriptor, descriptor_to_dict
from gprann.errors import ConfigError, DataError
from gprann.io.checks import geometry_digest
from gprann.io.reading import Source
from gprann.io.streaming import stream
from gprann.models.features import FeatureTable, Moments, Normalisation, descriptor_values
from gprann.runtime.resources import GIB
from gprann.training.hold_out import Families, Strata
from gprann.training.store.blocks import (
    BLOCK_BYTES,
    LABELS,
    Blocks,
    BrokenBlockError,
    Entry,
    Index,
    claim_features_folder,
)
from gprann.version import __version__

_log = logging.getLogger(__name__)
_SAMPLE = 4096  # structures that are kept, at least, of larger sets


@dataclass(slots=True)
class Known:
    """Facts about the structures of a store, beside their features.

    Attributes
    ----------
    labels : ndarray, shape (n,)
        Of the type `LABELS`; the energies less those terms of the baseline that depend on positions.
    counts : ndarray of int64, shape (n, S)
        Atoms of each species.
    groups : tuple of str
        Names of the groups.
    isolated : dict of symbol to eV
        Energies of isolated atoms.
    references : list of str
        Digests of the reference structures.
    compositions : list of Composition
        Those that occur.
    sample : Dataset
        Some of the structures, evenly spread; of small sets all.
    """

    labels: NDArray[Any]
    counts: Indices
    groups: tuple[str, ...]
    isolated: dict[str, float]
    references: list[str]
    compositions: list[Composition]
    sample: Dataset


@dataclass(frozen=True, slots=True)
class Built:
    """A finished store.

    Attributes
    ----------
    blocks : Blocks
    index : Index
    known : Known
    computed : tuple of int
        Blocks whose descriptors have been computed now; the others were there.
    """

    blocks: Blocks
    index: Index
    known: Known
    computed: tuple[int, ...]


def build_store(
    source: Source,
    descriptor: Descriptor,
    folder: Path,
    *,
    terms: Sequence[Baseline] = (),
    before: Normalisation | None = None,
) -> Built:
    """Write the features of structures into a folder, block by block; blocks that are there and whole stay.

    Parameters
    ----------
    source : anything that `gprann.read` takes
        Walked through once, or twice if the folder holds features of other data; never all in memory unless it is.
    descriptor : Descriptor
    folder : Path
        Of nothing but this store.
    terms : sequence of Baseline
        Subtracted from the energies before they are stored.
    before : Normalisation, optional
        Of the potential to go on from, which is kept.

    Raises
    ------
    ConfigError
        If the folder holds something else.
    DataError
        If there is no structure, or one cannot be used.
    """
    claim_features_folder(folder)
    key = _key(descriptor, terms, before)
    index = Index.read(folder)
    if index is not None and index.key != key:
        _log.info("%s: holds the features of another descriptor or baseline; all are computed", folder)
        index = None
    walk = _Walk(descriptor, terms, key, Blocks(folder), scaled_too=index is not None)
    walk.through(source)
    if index is not None and index.fingerprint != walk.fingerprint:
        _log.info("%s: holds the features of other data", folder)
        index = None
        if walk.kept_scaled:  # by the mean and scale of other data
            walk = _Walk(descriptor, terms, key, Blocks(folder), scaled_too=False, computed=walk.computed)
            walk.through(source, again=True)
    if index is None:
        own = Normalisation.from_moments(walk.moments())
        normalisation = own if before is None else before.complete(own)
        index = Index(key, walk.fingerprint, len(walk.blocks.entries), normalisation)
        index.write(folder, {"species": list(descriptor.species), "descriptor": repr(descriptor)})
    for block in range(index.blocks):
        _standardise(walk.blocks, block, index.normalisation)
    _remove_others(folder, index.blocks)
    atoms = sum(entry.atoms for entry in walk.blocks.entries)
    _log.info(
        "%s: %d structures, %d blocks of features (%.2f GiB), of which %d are computed now",
        folder,
        len(walk.known.labels),
        index.blocks,
        8.0 * atoms * descriptor.size / GIB,
        len(walk.computed),
    )
    return Built(walk.blocks, index, walk.known, tuple(sorted(walk.computed)))


def split_into_blocks(
    structures: Iterator[Structure], size: int, block_bytes: int
) -> Iterator[list[Structure]]:
    """Yield lists of structures whose features take no more than so many bytes, but one structure at least.

    Examples
    --------
    >>> import gprann
    >>> data = gprann.examples.hydrogen(7)
    >>> [len(part) for part in split_into_blocks(iter(data), 10, 3 * 2 * 10 * 8)]
    [3, 3, 1]
    """
    most = max(1, block_bytes // (8 * size))
    block: list[Structure] = []
    atoms = 0
    for structure in structures:
        if block and atoms + len(structure) > most:
            yield block
            block, atoms = [], 0
        block.append(structure)
        atoms += len(structure)
    if block:
        yield block


class _Numbers(NamedTuple):
    """Numbers that are given to structures one after the other."""

    families: Families
    strata: Strata
    groups: dict[str, int]

    def labels(self, structures: Sequence[Structure]) -> NDArray[Any]:
        """Return the labels of the next structures, their energies still to be set."""
        result = np.zeros(len(structures), LABELS)
        for own, structure in zip(result, structures, strict=True):
            own["weight"], own["variance"] = structure.weight, structure.energy_variance
            own["family"], own["stratum"] = self.families.of(structure), self.strata.of(structure)
            own["group"] = self.groups.setdefault(structure.group, len(self.groups))
        return result


@dataclass(slots=True)
class _Walk:
    """A walk through the structures, which leaves the blocks behind, their features perhaps not standardised yet."""

    descriptor: Descriptor
    terms: Sequence[Baseline]
    key: str
    blocks: Blocks
    scaled_too: bool
    """Whether blocks that are standardised are kept."""
    kept_scaled: bool = False
    computed: list[int] = field(default_factory=list)
    fingerprint: str = ""
    known: Known = field(init=False)

    def through(self, source: Source, *, again: bool = False) -> None:
        """Take all structures of a source.

        Raises
        ------
        ConfigError
            If the source cannot be walked through again.
        DataError
            If there is none.
        """
        if again and isinstance(source, Iterator):
            raise ConfigError(
                "store: the folder holds the features of other data, and structures that come one by one cannot be "
                "taken twice; give a new folder, or the data as a file"
            )
        state = hashlib.sha256(self.key.encode())
        numbers = _Numbers(Families(), Strata(), {})
        gathered = _Gathered(self.descriptor.species)
        parts = split_into_blocks(stream(source), self.descriptor.size, BLOCK_BYTES)
        for block, structures in enumerate(parts):
            labels = numbers.labels(structures)
            for structure, own in zip(structures, labels, strict=True):
                state.update(_digest(structure, own))
            labels["energy"] = self._take(block, Dataset(structures), labels, state.hexdigest())
            gathered.add(structures, labels)
        if not gathered.labels:
            raise DataError("the training set is empty; give at least one structure with an energy")
        self.fingerprint = state.hexdigest()
        self.known = gathered.finish(tuple(numbers.groups))

    def moments(self) -> Moments:
        """Return the moments of all features before they are standardised."""
        first, *others = (entry.moments for entry in self.blocks.entries)
        for moments in others:
            first = first.join(moments)
        return first

    def _take(self, block: int, data: Dataset, labels: NDArray[Any], digest: str) -> Array:
        """Keep a block or write it; return the energies of its structures."""
        _ = data.energies  # complains about missing ones
        entry = self.blocks.read_entry(block)
        if entry is not None and entry.data == digest and (self.scaled_too or not entry.scaled):
            self.blocks.entries[block:] = [entry]
            try:
                self.blocks.verify(block)
            except BrokenBlockError:
                _log.warning("block %d of the features is damaged: it is computed again", block)
            else:
                self.kept_scaled |= entry.scaled
                return np.array(self.blocks.labels(block)["energy"])
        del self.blocks.entries[block:]
        return self._compute(block, data, labels, digest)

    def _compute(self, block: int, data: Dataset, labels: NDArray[Any], digest: str) -> Array:
        energies = as_baseline(list(self.terms)).subtract(data).energies if self.terms else data.energies
        values, kinds, first = descriptor_values(self.descriptor, data)
        table = FeatureTable.sort(values, kinds, first, len(self.descriptor.species))
        moments = Moments.of([table.features[own[0] : own[-1]] for own in table.rows])
        labels = labels.copy()
        labels["energy"] = energies
        # Not the file of an interrupted run: nothing stands for the block until its new entry does.
        self.blocks.entry_path(block).unlink(missing_ok=True)
        self.blocks.write(
            block,
            {"raw": table.features, "rows": table.rows, "labels": labels},
            Entry(len(data), len(values), digest, False, moments, {}),
        )
        self.computed.append(block)
        return energies


@dataclass(slots=True)
class _Gathered:
    """Facts that are gathered on the walk."""

    species: Sequence[str]
    labels: list[NDArray[Any]] = field(default_factory=list)
    counts: list[Indices] = field(default_factory=list)
    singles: list[Structure] = field(default_factory=list)
    references: list[str] = field(default_factory=list)
    compositions: dict[Composition, None] = field(default_factory=dict)
    sample: list[Structure] = field(default_factory=list)
    every: int = 1
    seen: int = 0

    def add(self, structures: Sequence[Structure], labels: NDArray[Any]) -> None:
        """Add the structures of a block."""
        self.labels.append(labels)
        numbers = {
            composition: [dict(composition).get(symbol, 0) for symbol in self.species]
            for composition in dict.fromkeys(structure.composition for structure in structures)
        }
        self.compositions.update(dict.fromkeys(numbers))
        self.counts.append(np.array([numbers[structure.composition] for structure in structures], np.int64))
        for structure, energy in zip(structures, labels["energy"].tolist(), strict=True):
            if len(structure) == 1:
                self.singles.append(structure.replace(energy=energy))
            if structure.origin.method == "reference":
                self.references.append(geometry_digest(structure))
            if self.seen % self.every == 0:
                self.sample.append(structure)
            self.seen += 1
            if len(self.sample) >= 2 * _SAMPLE:  # as evenly spread as a set can be whose size is not known
                self.sample, self.every = self.sample[::2], 2 * self.every

    def finish(self, groups: tuple[str, ...]) -> Known:
        """Return what has been gathered."""
        return Known(
            np.concatenate(self.labels),
            np.concatenate(self.counts),
            groups,
            isolated_atom_energies(Dataset(self.singles)),
            self.references,
            list(self.compositions),
            Dataset(self.sample),
        )


def _standardise(blocks: Blocks, block: int, normalisation: Normalisation) -> None:
    """Replace the raw features of a block by standardised ones, unless they are."""
    entry = blocks.entries[block]
    if entry.scaled:
        return
    raw, rows = blocks.features(block), blocks.rows(block)
    features = np.empty_like(raw)
    for kind, own in enumerate(rows):
        atoms = slice(own[0], own[-1])
        features[atoms] = (raw[atoms] - normalisation.mean[kind]) * normalisation.inverse_scale[kind]
    kept = {name: facts for name, facts in entry.files.items() if name != "raw"}
    scaled = Entry(entry.structures, entry.atoms, entry.data, True, entry.moments, kept)
    blocks.write(block, {"features": features}, scaled)
    del raw  # some systems remove no file that is mapped
    blocks.path(block, "raw").unlink()


def _remove_others(folder: Path, blocks: int) -> None:
    """Remove blocks beyond the last, and what killed runs left behind."""
    for path in [*folder.glob("*.npy"), *folder.glob("[0-9]*.json"), *folder.glob(".*.tmp")]:
        number, _, rest = path.name.partition(".")
        if not number or rest == "raw.npy" or (number.isdigit() and int(number) >= blocks):
            path.unlink(missing_ok=True)


def _key(descriptor: Descriptor, terms: Sequence[Baseline], before: Normalisation | None) -> str:
    """Return the digest of all that the numbers of a store depend on, but the data."""
    facts = [
        __version__,
        BLOCK_BYTES,
        _describe(lambda: descriptor_to_dict(descriptor), descriptor),
        [_describe(lambda term=term: BASELINES.to_dict(term), term) for term in terms],
        None if before is None else [before.mean.tolist(), before.inverse_scale.tolist()],
    ]
    return hashlib.sha256(json.dumps(facts, default=np.ndarray.tolist).encode()).hexdigest()


def _describe(to_dict: Any, item: object) -> Any:
    """Return a part as plain data; as text where it is not registered."""
    try:
        return to_dict()
    except ConfigError:
        return repr(item)


def _digest(structure: Structure, labels: Mapping[str, Any]) -> bytes:
    """Return the digest of a structure; the name of its file does not count."""
    numbers = [labels[name].item() for name in ("weight", "variance", "family", "stratum", "group")]
    known = [structure.symbols, structure.pbc.tolist(), structure.energy, structure.origin.method, *numbers]
    state = hashlib.sha256(json.dumps(known).encode())
    for array in (structure.positions, structure.cell):
        state.update(np.ascontiguousarray(array).tobytes())
    attached = (structure.info, structure.arrays)  # a baseline may read them
    if any(attached):
        state.update(json.dumps([plain(part) for part in attached], sort_keys=True).encode())
    return state.digest()
