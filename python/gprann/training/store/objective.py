"""The objective of energies whose features stand in a store: blocks are read, used and let go."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gprann.arrays import Array, Indices
from gprann.models.base import AtomModel
from gprann.models.features import FeatureTable
from gprann.training.objective import EnergiesAlone, EnergyObjective, Objective
from gprann.training.store.blocks import BLOCK_BYTES, Blocks, open_blocks

_WINDOW = 8  # blocks whose structures are shuffled together
_SELECTED = (
    20  # blocks up to whose size selected structures stay in memory: those held out are needed in every epoch
)
MOST_HELD = (2 * _WINDOW + _SELECTED + 2) * BLOCK_BYTES
"""Bytes of features that are in memory at a time: two windows, the structures held out, and blocks that are read."""


@dataclass(frozen=True, slots=True)
class StreamedObjective(EnergiesAlone):
    """Energies of structures, less the baseline, in units of the energy scale; the features stay in files.

    An epoch goes through the blocks in a random order, in windows of eight whose structures are shuffled; the next
    window is read while one is used, so that there are never more than two in memory. What needs all structures is
    summed over the blocks. Selections of up to twenty blocks are held in memory. The order depends on the seed alone,
    and the sums on the blocks: results have the same bits for any number of threads, and those of training in memory
    where all structures fit into one block.

    Attributes
    ----------
    model : AtomModel
    blocks : Blocks
    fingerprint : str
        Of the store.
    all_counts : ndarray of int64, shape (n_all, S)
        Atoms of each species in each structure of the store.
    targets, weights : ndarray, shape (n_all,)
    chosen : ndarray of int64, shape (n,)
        The structures that count, in ascending order.
    """

    model: AtomModel
    blocks: Blocks
    fingerprint: str
    all_counts: Indices
    targets: Array
    weights: Array
    chosen: Indices
    _first: Indices = field(init=False, repr=False)
    _parts: Indices = field(init=False, repr=False)

    def __post_init__(self) -> None:
        sizes = [entry.structures for entry in self.blocks.entries]
        first = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
        object.__setattr__(self, "_first", first)
        object.__setattr__(self, "_parts", np.searchsorted(self.chosen, first))

    @classmethod
    def of_store(
        cls, model: AtomModel, blocks: Blocks, fingerprint: str, arrays: Mapping[str, NDArray[Any]]
    ) -> StreamedObjective:
        """Return the objective of all structures of a store; `arrays`: their counts, targets and weights."""
        counts, targets, weights = (arrays[name] for name in ("counts", "targets", "weights"))
        return cls(model, blocks, fingerprint, counts, targets, weights, np.arange(len(targets)))

    # ------------------------------------------------------------- contents
    @property
    def size(self) -> int:
        """Number of structures."""
        return len(self.chosen)

    @property
    def counts(self) -> Indices:
        """Atoms of each species in each structure, shape (size, S)."""
        return self.all_counts[self.chosen]

    @property
    def total_weight(self) -> float:
        """Sum of the weights."""
        return float(self.weights[self.chosen].sum())

    def select(self, structures: Indices) -> StreamedObjective | EnergyObjective:
        """Return the objective of some structures, in ascending order; in memory if these are not many."""
        chosen = self.chosen[structures]
        part = StreamedObjective(
            self.model, self.blocks, self.fingerprint, self.all_counts, self.targets, self.weights, chosen
        )
        atoms = int(self.all_counts[chosen].sum())
        if atoms > _SELECTED * max(entry.atoms for entry in self.blocks.entries):
            return part
        return part._load(part._used, np.empty((atoms, self.model.n_features)))

    # --------------------------------------------------------------- blocks
    @property
    def _used(self) -> list[int]:
        """Blocks that have structures that count."""
        return np.flatnonzero(np.diff(self._parts)).tolist()

    def _windows(self, groups: Sequence[Sequence[int]], *, whole: bool = False) -> Iterator[EnergyObjective]:
        """Yield the objective of each group of blocks; it is gone once the one after it is asked for.

        Two buffers: the structures of one group are used while those of the next are read. With `whole` structures
        that do not count are there too, which is read faster.
        """
        if not groups:
            return
        load = self._load_whole if whole else self._load
        most = max(sum(self._atoms(block, whole=whole) for block in group) for group in groups)
        buffers = [np.empty((most, self.model.n_features)) for _ in groups[:2]]
        held = 0
        try:
            with ThreadPoolExecutor(1, "gprann-read") as pool:
                jobs = [partial(load, group, buffers[number % 2]) for number, group in enumerate(groups)]
                held = self.blocks.hold(len(groups[0]))
                ahead = pool.submit(jobs[0])
                for number, group in enumerate(groups):
                    window = ahead.result()
                    if number + 1 < len(groups):
                        held += self.blocks.hold(len(groups[number + 1]))
                        ahead = pool.submit(jobs[number + 1])
                    yield window
                    held += self.blocks.hold(-len(group))
        finally:
            self.blocks.hold(-held)

    def _atoms(self, block: int, *, whole: bool) -> int:
        """Return the number of atoms of a block, or of those of its structures that count."""
        return self.blocks.entries[block].atoms if whole else int(self.all_counts[self._of(block)].sum())

    def _load_whole(self, group: Sequence[int], buffer: Array) -> EnergyObjective:
        """Read all structures of some blocks into a buffer; return their objective."""
        structures = np.concatenate([np.arange(*self._first[block : block + 2]) for block in group])
        rows = FeatureTable.offsets(np.ascontiguousarray(self.all_counts[structures].T))
        ends = rows[:, 0].copy()  # where the next atom of each species goes
        for block in group:
            counts = self.all_counts[self._first[block] : self._first[block + 1]].sum(axis=0)
            targets = [buffer[end : end + count] for end, count in zip(ends, counts, strict=True)]
            self.blocks.read_features(block, targets)
            ends += counts
        return self._objective(structures, rows, buffer)

    def _of(self, block: int) -> Indices:
        """Return the structures of a block that count."""
        return self.chosen[self._parts[block] : self._parts[block + 1]]

    def _load(self, group: Sequence[int], buffer: Array) -> EnergyObjective:
        """Read the structures of some blocks that count into a buffer; return their objective."""
        own = [self._of(block) for block in group]
        structures = np.concatenate([np.zeros(0, np.int64), *own])
        rows = FeatureTable.offsets(np.ascontiguousarray(self.all_counts[structures].T))
        ends = rows[:, 0].copy()  # where the next atom of each species goes
        for block, chosen in zip(group, own, strict=True):
            features, first = self.blocks.features(block), self._first[block : block + 2]
            counts = self.all_counts[first[0] : first[1]].T
            begins = FeatureTable.offsets(counts)
            for kind, (begin, count) in enumerate(
                zip(begins[:, chosen - first[0]], counts[:, chosen - first[0]], strict=True)
            ):
                end = ends[kind] + int(count.sum())
                target = buffer[ends[kind] : end]
                if len(chosen) == counts.shape[1]:
                    np.copyto(target, features[begin[0] : begin[0] + len(target)])
                else:
                    taken = np.repeat(begin - np.cumsum(count) + count, count) + np.arange(len(target))
                    # Clipped: with mode "raise" numpy makes a copy of the result.
                    np.take(features, taken, axis=0, out=target, mode="clip")
                ends[kind] = end
        return self._objective(structures, rows, buffer)

    def _objective(self, structures: Indices, rows: Indices, buffer: Array) -> EnergyObjective:
        """Return the objective of structures whose features are in a buffer."""
        n_atoms = int(rows[-1, -1])
        table = FeatureTable(buffer[:n_atoms], rows, np.broadcast_to(np.int64(0), n_atoms))
        return EnergyObjective(self.model, table, self.targets[structures], self.weights[structures])

    def _each_block(self) -> Iterator[EnergyObjective]:
        return self._windows([[block] for block in self._used])

    # ----------------------------------------------------------------- loss
    def epoch(self, rng: np.random.Generator, batch_size: int) -> Iterator[tuple[Objective, Indices]]:
        """Yield minibatches of windows of blocks; a window is gone once a batch of the next one is asked for."""
        used = self._used
        if len(used) > _WINDOW:
            used = rng.permutation(used).tolist()
        groups = [used[k : k + _WINDOW] for k in range(0, len(used), _WINDOW)]
        for group, window in zip(groups, self._windows(groups, whole=True), strict=True):
            order = rng.permutation(self._places(group))
            for begin in range(0, len(order), batch_size):
                yield window, order[begin : begin + batch_size]

    def _places(self, group: Sequence[int]) -> Indices:
        """Return where the structures that count are among all those of some blocks."""
        sizes = [self.blocks.entries[block].structures for block in group]
        begins = np.concatenate([[0], np.cumsum(sizes)]) - [*self._first[list(group)], 0]
        return np.concatenate(
            [self._of(block) + begin for block, begin in zip(group, begins[:-1].tolist(), strict=True)]
        )

    def loss(self, parameters: Array) -> float:
        """Return the weighted sum of squared residuals."""
        return float(sum(part.loss(parameters) for part in self._each_block()))

    def gradient(self, parameters: Array, batch: Indices | None = None) -> tuple[float, Array]:
        """Return loss and gradient (P,) of some structures; default: of all."""
        if batch is not None:
            return self.select(np.sort(batch)).gradient(parameters)
        loss, slope = 0.0, np.zeros(self.n_parameters)
        for part in self._each_block():
            own, change = part.gradient(parameters)
            loss += own
            slope += change
        return loss, slope

    def normal_equations(self, parameters: Array, hessian: Array, slope: Array) -> float:
        """Fill the lower triangle of JᵀWJ (P, P) and JᵀWr (P,); return rᵀWr."""
        loss, own_hessian, own_slope = 0.0, np.empty_like(hessian), np.empty_like(slope)
        for number, part in enumerate(self._each_block()):
            if number == 0:
                loss = part.normal_equations(parameters, hessian, slope)
                continue
            loss += part.normal_equations(parameters, own_hessian, own_slope)
            hessian += own_hessian
            slope += own_slope
        return loss

    # ---------------------------------------------------------------- files
    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return the arrays that make up the objective, beside those of the store."""
        return {"counts": self.all_counts, "targets": self.targets, "weights": self.weights}

    def settings(self) -> dict[str, Any]:
        """Return what kind of objective it is, and where its features are."""
        return {"kind": "streamed", "fingerprint": self.fingerprint, "folder": str(self.blocks.folder)}

    @classmethod
    def from_arrays(
        cls, model: AtomModel, arrays: Mapping[str, NDArray[Any]], settings: Mapping[str, Any]
    ) -> StreamedObjective:
        """Make an objective of what `arrays` and `settings` gave.

        Raises
        ------
        FormatError
            If the store is no longer what it was.
        """
        fingerprint = str(settings["fingerprint"])
        return cls.of_store(model, open_blocks(Path(settings["folder"]), fingerprint), fingerprint, arrays)
