"""A folder with the standardised descriptors of a data set in blocks of structures, each with its checksums.

    index.json                  format, descriptor, normalisation, fingerprint, number of blocks
    00000.json                  entry of a block: number of structures and atoms, size and SHA-256 of its files
    00000.features.npy          (n_atoms, D) float64, sorted by species, then by structure
    00000.rows.npy              (S, n + 1) int64, as in `FeatureTable`
    00000.labels.npy            (n,) energies, weights, variances, families, strata and groups

Every file appears complete or not at all, an entry after the files of its block and the index after all entries. There
is no pickle and no code in them.
"""

from __future__ import annotations

import hashlib
import json
import logging
import mmap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gprann.arrays import Array, Indices
from gprann.errors import ConfigError, FormatError
from gprann.models.features import Moments, Normalisation
from gprann.runtime.atomic_write import atomic_write, make_folder

_log = logging.getLogger(__name__)
FORMAT_NAME, FORMAT_VERSION = "gprann features", 1
BLOCK_BYTES = 32 * 2**20  # of the features of a block
INDEX = "index.json"
LABELS = np.dtype(
    [
        ("energy", "<f8"),
        ("weight", "<f8"),
        ("variance", "<f8"),
        ("family", "<i8"),
        ("stratum", "<i8"),
        ("group", "<i8"),
    ]
)
_DAMAGED = (OSError, ValueError, KeyError, TypeError, AttributeError)


@dataclass(frozen=True, slots=True)
class Entry:
    """The contents of a block.

    Attributes
    ----------
    structures, atoms : int
    data : str
        Digest of its structures, of all before it, and of what its numbers depend on.
    scaled : bool
        Whether the features are standardised already.
    moments : Moments
        Of the features before that.
    files : mapping of name to (bytes, SHA-256)
        Under `features` or `raw`, `rows` and `labels`.
    """

    structures: int
    atoms: int
    data: str
    scaled: bool
    moments: Moments
    files: Mapping[str, tuple[int, str]]

    @property
    def features(self) -> str:
        """Name of the file of the features: `raw` until they are standardised."""
        return "features" if self.scaled else "raw"

    def to_dict(self) -> dict[str, Any]:
        """Return the entry as plain data."""
        moments = {name: getattr(self.moments, name).tolist() for name in ("count", "mean", "squares")}
        return {
            "structures": self.structures,
            "atoms": self.atoms,
            "data": self.data,
            "scaled": self.scaled,
            "moments": moments,
            "files": {name: list(facts) for name, facts in self.files.items()},
        }

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> Entry:
        """Return the entry of plain data."""
        moments = plain["moments"]
        return cls(
            int(plain["structures"]),
            int(plain["atoms"]),
            str(plain["data"]),
            bool(plain["scaled"]),
            Moments(
                np.array(moments["count"], dtype=np.int64),
                np.array(moments["mean"], dtype=np.float64),
                np.array(moments["squares"], dtype=np.float64),
            ),
            {str(name): (int(size), str(digest)) for name, (size, digest) in plain["files"].items()},
        )


class BrokenBlockError(FormatError):
    """A block whose files are not what its entry says."""


@dataclass(slots=True)
class Blocks:
    """The files of a store: written and read block by block, verified at the first use of a block.

    Attributes
    ----------
    folder : Path
    entries : list of Entry
    verified : set of int
        Blocks whose checksums have been compared.
    held, most_held : int
        Blocks whose structures are in memory, and the most that have been at a time.
    """

    folder: Path
    entries: list[Entry] = field(default_factory=list)
    verified: set[int] = field(default_factory=set)
    held: int = 0
    most_held: int = 0

    def hold(self, blocks: int) -> int:
        """Count blocks that come into memory, or with a minus sign leave it; return the number."""
        self.held += blocks
        self.most_held = max(self.most_held, self.held)
        return blocks

    def path(self, block: int, name: str) -> Path:
        """Return the path of a file of a block."""
        return self.folder / f"{block:05d}.{name}.npy"

    def entry_path(self, block: int) -> Path:
        """Return the path of the entry of a block."""
        return self.folder / f"{block:05d}.json"

    def read_entry(self, block: int) -> Entry | None:
        """Return the entry of a block; None if there is none, or it or the sizes of its files are wrong."""
        try:
            entry = Entry.from_dict(json.loads(self.entry_path(block).read_text(encoding="utf-8")))
        except FileNotFoundError:
            return None
        except _DAMAGED:
            _log.warning("%s: the entry is damaged", self.entry_path(block))
            return None
        for name, (size, _) in entry.files.items():
            path = self.path(block, name)
            if not path.is_file() or path.stat().st_size != size:
                _log.warning("%s: is missing or of the wrong size", path)
                return None
        return entry

    def write(self, block: int, arrays: Mapping[str, NDArray[Any]], entry: Entry) -> Entry:
        """Write files of a block, then its entry, which keeps those files of the given one that are not replaced."""
        files = dict(entry.files)
        for name, array in arrays.items():
            with atomic_write(self.path(block, name), "wb", sync=False) as stream:
                np.lib.format.write_array(stream, np.ascontiguousarray(array), allow_pickle=False)
            files[name] = _digest_of(self.path(block, name))
        done = Entry(entry.structures, entry.atoms, entry.data, entry.scaled, entry.moments, files)
        with atomic_write(self.entry_path(block), sync=False) as text:
            json.dump(done.to_dict(), text)
        self.entries[block : block + 1] = [done]
        self.verified.add(block)
        return done

    def verify(self, block: int) -> None:
        """Compare the checksums of a block, once.

        Raises
        ------
        BrokenBlockError
            Naming the file, and the remedy.
        """
        if block in self.verified:
            return
        for name, facts in self.entries[block].files.items():
            path = self.path(block, name)
            try:
                same = _digest_of(path) == facts
            except OSError:
                same = False
            if not same:
                raise BrokenBlockError(
                    f"{path}: block {block} of the features is damaged: its content is not what was written; run the "
                    "training again, it will compute this block anew"
                )
        self.verified.add(block)

    def open(self, block: int, name: str) -> NDArray[Any]:
        """Return an array of a block, mapped, not read; the map ends with the array.

        Raises
        ------
        BrokenBlockError
        """
        self.verify(block)
        path = self.path(block, name)
        try:
            array: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
        except _DAMAGED as error:
            raise BrokenBlockError(
                f"{path}: cannot be read ({error}); run the training again, it will compute this block anew"
            ) from error
        return array

    def features(self, block: int) -> Array:
        """Return the features of a block, mapped, to be read from the beginning to the end."""
        array = self.open(block, self.entries[block].features)
        if isinstance(array.base, mmap.mmap) and hasattr(mmap, "MADV_SEQUENTIAL"):
            array.base.madvise(mmap.MADV_SEQUENTIAL)
        return np.asarray(array)

    def read_features(self, block: int, targets: Sequence[Array]) -> None:
        """Read the features of a block into arrays, of each species one after the other: twice as fast as a map.

        Raises
        ------
        BrokenBlockError
        """
        self.verify(block)
        path = self.path(block, self.entries[block].features)
        sizes = [target.nbytes for target in targets]
        with path.open("rb", buffering=0) as file:
            file.seek(path.stat().st_size - sum(sizes))  # behind the header
            for target, size in zip(targets, sizes, strict=True):
                view, done = target.reshape(-1).view(np.uint8).data, 0
                while done < size:
                    count = file.readinto(view[done:])
                    if not count:
                        raise BrokenBlockError(f"{path}: is shorter than it was; run the training again")
                    done += count

    def rows(self, block: int) -> Indices:
        """Return the rows of the structures of a block, shape (S, n + 1)."""
        return np.array(self.open(block, "rows"), dtype=np.int64)

    def labels(self, block: int) -> NDArray[Any]:
        """Return the labels of a block, shape (n,), of type `LABELS`."""
        return np.array(self.open(block, "labels"), dtype=LABELS)


@dataclass(frozen=True, slots=True)
class Index:
    """The index of a finished store.

    Attributes
    ----------
    key : str
        Digest of everything but the data that the numbers depend on.
    fingerprint : str
        Digest of the key and of the data.
    blocks : int
    normalisation : Normalisation
    """

    key: str
    fingerprint: str
    blocks: int
    normalisation: Normalisation

    def write(self, folder: Path, about: Mapping[str, Any]) -> None:
        """Write the index, with what a person wants to know about the features."""
        document = {
            "format": FORMAT_NAME,
            "version": FORMAT_VERSION,
            **about,
            "key": self.key,
            "fingerprint": self.fingerprint,
            "blocks": self.blocks,
            "mean": self.normalisation.mean.tolist(),
            "inverse_scale": self.normalisation.inverse_scale.tolist(),
        }
        with atomic_write(folder / INDEX) as stream:
            json.dump(document, stream, indent=1)

    @classmethod
    def read(cls, folder: Path) -> Index | None:
        """Read the index of a folder; None if there is none, or it is damaged.

        Raises
        ------
        FormatError
            If it was written by a newer version.
        """
        path = folder / INDEX
        try:
            document = json.loads(path.read_text(encoding="utf-8"))
            same = document["format"] == FORMAT_NAME
            version = int(document["version"])
        except FileNotFoundError:
            return None
        except _DAMAGED:
            _log.warning("%s: the index is damaged; it is written again", path)
            return None
        if same and version > FORMAT_VERSION:
            raise FormatError(
                f"{path}: is of format {version}; this version of gprann reads {FORMAT_VERSION}"
            )
        try:
            normalisation = Normalisation(np.array(document["mean"]), np.array(document["inverse_scale"]))
            return cls(
                str(document["key"]), str(document["fingerprint"]), int(document["blocks"]), normalisation
            )
        except _DAMAGED:
            _log.warning("%s: the index is damaged; it is written again", path)
            return None


def claim_features_folder(folder: Path) -> Path:
    """Make the folder of a store, and refuse one that holds something else.

    Raises
    ------
    ConfigError
    """
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"store: {folder} is a file; give a folder")
    known = (INDEX, "*.json", "*.npy", ".*.tmp")
    if folder.is_dir():
        strange = [
            path.name for path in folder.iterdir() if not any(path.match(pattern) for pattern in known)
        ]
        if strange:
            raise ConfigError(
                f"store: {folder} holds files that are no features ({min(strange)}); give a new folder or empty it"
            )
    return make_folder(folder)


def open_blocks(folder: Path, fingerprint: str) -> Blocks:
    """Open a finished store; the sizes of all files are compared at once, checksums at the first use of a block.

    Raises
    ------
    FormatError
        If there is none, a block is missing, or the features are those of other data or another descriptor.
    """
    index = Index.read(folder)
    again = "run the training again, which computes what is missing"
    if index is None:
        raise FormatError(f"{folder}: holds no finished features (no {INDEX}); {again}")
    if index.fingerprint != fingerprint:
        raise FormatError(
            f"{folder}: holds the features of other data, or of another descriptor or baseline; give each training a "
            "folder of its own"
        )
    blocks = Blocks(folder)
    for block in range(index.blocks):
        entry = blocks.read_entry(block)
        if entry is None or not entry.scaled:
            raise BrokenBlockError(
                f"{blocks.entry_path(block)}: block {block} is missing or damaged; {again}"
            )
        blocks.entries.append(entry)
    return blocks


def _digest_of(path: Path) -> tuple[int, str]:
    with path.open("rb") as stream:
        return path.stat().st_size, hashlib.file_digest(stream, "sha256").hexdigest()
