"""Reading of structures and labels from everything that stands for them."""

from __future__ import annotations

import logging
import os
import re
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

import ase

from gprann.data.structure import Dataset, Origin, Structure
from gprann.errors import ConfigError, DataError, nearest_name
from gprann.io.ase import ase_format, frame_from_atoms, read_ase
from gprann.io.checks import DataWarning, check_dataset
from gprann.io.discover import find_files, uncompressed_suffix
from gprann.io.extxyz import read_extxyz
from gprann.io.labels import LABELS, Frame, check_keys, make_frame
from gprann.io.xsf import read_xsf

__all__ = ["Source", "read", "structures"]

Source: TypeAlias = "str | os.PathLike[str] | ase.Atoms | Structure | Dataset | Iterable[Source]"

_FORMATS = {".xyz": "extxyz", ".extxyz": "extxyz", ".xsf": "xsf"}
_INDEX = re.compile(r"-?\d+|(-?\d+)?:(-?\d+)?(:(-?\d+)?)?", re.ASCII)
_LISTED = 5
_log = logging.getLogger(__name__)


def read(
    source: Source,
    *,
    group: str | None = None,
    require: Sequence[str] = ("energy",),
    index: str | int | slice = ":",
    keys: Mapping[str, str] | None = None,
) -> Dataset:
    """Read structures with their energies and forces.

    Parameters
    ----------
    source : path, folder, glob pattern, ase.Atoms, Structure, Dataset, or a list that mixes them
        Files are extended XYZ (`.xyz`, `.extxyz`), ænet XSF (`.xsf`) or any other format that ASE reads, for
        example `vasprun.xml`, `OUTCAR` and `.traj`; files with pickled objects are refused. A folder stands
        for its files of known kind in natural order (file_2 before file_10); `**` in a pattern matches any
        depth. Energies are in eV, lengths in Å, forces in eV/Å, stresses in eV/Å³ (positive when the
        structure wants to shrink, ASE's sign); a virial is minus volume times stress, in eV.
    group : str or None
        Label given to all structures; None keeps the one in the file (`group` or `config_type`).
    require : sequence of {"energy", "forces", "stress"}
        Labels that every structure must have. Without "forces" structures without forces are accepted, for
        training on energies only; the empty tuple accepts structures without labels.
    index : str, int or slice
        Structures to take from each file, counted from 0, as in ASE: `":"` all, `-1` the last, `"::10"`
        every tenth. The rest of the file is checked all the same.
    keys : mapping or None
        Names under which the files keep `energy`, `forces`, `stress` or `virial`, where these are not the
        standard ones, for example `{"energy": "REF_energy", "forces": "REF_forces"}`.

    Returns
    -------
    Dataset
        In the order of the sources. A single `Dataset` is returned as it is.

    Raises
    ------
    DataError
        If a path does not exist, nothing matches, a required label is missing, an element is unknown, two
        atoms coincide or a value is not finite. The message names the file, the structure and the atom.
    FormatError
        If a file is cut, damaged or of an unknown format.
    ConfigError
        If an option has an impossible value.

    Warns
    -----
    DataWarning
        Once each: stray files left out; labels that only some structures have; labels under other names;
        repeated structures and energies that do not belong to the others.

    Examples
    --------
    >>> import numpy as np
    >>> h2 = ase.Atoms("H2", [[0, 0, 0], [0, 0, 0.74]], info={"energy": -31.7})
    >>> read([h2]).energies
    array([-31.7])
    """
    required = _check_require(require)
    chosen = _check_index(index)
    names = check_keys(keys)
    if isinstance(source, Dataset):
        _label_messages([Frame(structure, {}) for structure in source], required)
        return source if group is None else Dataset(structure.replace(group=group) for structure in source)
    stray: list[Path] = []
    frames = list(_collect(source, chosen, names, stray))
    if not frames:
        raise DataError("source: holds no structure; give at least one")
    messages = [*_stray_messages(stray), *_label_messages(frames, required)]
    data = Dataset(f.structure if group is None else f.structure.replace(group=group) for f in frames)
    for message in (*messages, *check_dataset(data).messages):
        warnings.warn(message, DataWarning, stacklevel=2)
    _log.info("read %r", data)
    return data


def structures(source: Source) -> Dataset:
    """Return the structures that a source stands for, with whatever labels they have."""
    if isinstance(source, Dataset):
        return source
    return Dataset(frame.structure for frame in _collect(source, slice(None), {}, []))


def _check_require(require: Sequence[str]) -> tuple[str, ...]:
    required = (require,) if isinstance(require, str) else tuple(require)
    for label in required:
        if label not in LABELS:
            raise ConfigError(f"require: unknown label {label!r}; {nearest_name(str(label), LABELS)}")
    return required


def _check_index(index: str | int | slice) -> int | slice:
    if isinstance(index, str) and _INDEX.fullmatch(index.strip()):
        limits = [int(part) if part else None for part in index.strip().split(":")]
        if len(limits) == 1 and limits[0] is not None:
            return limits[0]
        if len(limits) > 1 and limits[2:] != [0]:
            return slice(*limits)
    elif isinstance(index, int | slice) and not isinstance(index, bool) and getattr(index, "step", None) != 0:
        return index
    raise ConfigError(
        f"index is {index!r}; expected an integer or start:stop:step, for example ':', -1 or '::10'"
    )


def _collect(
    source: Source, index: int | slice, keys: Mapping[str, str], stray: list[Path], position: int = 0
) -> Iterator[Frame]:
    """Yield the frames of a source; files that are left out are added to `stray`."""
    if isinstance(source, str | os.PathLike):
        files, left_out = find_files(source)
        stray += left_out
        for path in files:
            yield from _select(_read_file(path, keys), index, path)
    elif isinstance(source, ase.Atoms):
        yield frame_from_atoms(source, position, keys)
    elif isinstance(source, Structure):
        unnamed = position > 0 and source.origin == Origin()
        yield make_frame(source.replace(origin=Origin("", position)) if unnamed else source)
    elif isinstance(source, Iterable):
        for count, item in enumerate(source):
            yield from _collect(item, index, keys, stray, count)
    else:
        raise DataError(
            f"source: {type(source).__name__} is no path, folder, pattern, ase.Atoms, Structure or Dataset, "
            "nor a list of these"
        )


def _read_file(path: Path, keys: Mapping[str, str]) -> list[Frame]:
    file_format = _FORMATS.get(uncompressed_suffix(path)) or ase_format(path)
    if file_format == "extxyz":
        return read_extxyz(path, keys)
    if file_format == "xsf":
        return [read_xsf(path)]
    return read_ase(path, file_format, keys)


def _select(frames: list[Frame], index: int | slice, path: Path) -> list[Frame]:
    if isinstance(index, slice):
        return frames[index]
    try:
        return [frames[index]]
    except IndexError:
        raise DataError(
            f"{path}: index {index} is beyond its {len(frames)} structures; give a smaller one"
        ) from None


def _label_messages(frames: Sequence[Frame], required: Sequence[str]) -> list[str]:
    """What to warn of because of missing labels; required labels that are missing are an error."""
    messages = []
    for label in LABELS:
        without = [frame for frame in frames if getattr(frame.structure, label) is None]
        if without and label in required:
            raise DataError(_missing(label, without, len(frames)))
        if label == "stress":  # a molecule has none
            without = [frame for frame in without if frame.structure.pbc.all()]
        # Synthetic copies have an energy and nothing else.
        without = [frame for frame in without if frame.structure.origin.method == "reference"]
        renamed = [frame for frame in without if label in frame.similar]
        if renamed:
            messages.append(
                f"{renamed[0].structure.origin}: has no {label}, but {_similar(label, renamed[0])}"
            )
        elif without and any(getattr(frame.structure, label) is not None for frame in frames):
            places = [str(frame.structure.origin) for frame in without[:_LISTED]]
            more = f", and {len(without) - _LISTED} more" if len(without) > _LISTED else ""
            messages.append(
                f"{len(without)} of {len(frames)} structures have no {label}, the others have: "
                f"{', '.join(places)}{more}"
            )
    return messages


def _missing(label: str, without: Sequence[Frame], total: int) -> str:
    origin = without[0].structure.origin
    counted = f" (and so {len(without)} of {total} structures)" if len(without) > 1 else ""
    if label in without[0].similar:
        return f"{origin}: has no {label}{counted}, but {_similar(label, without[0])}"
    rest = "add them to the file" if label == "forces" else "add it to the file"
    return f"{origin}: has no {label}{counted}; {rest}, leave the structure out, or do not require {label}"


def _similar(label: str, frame: Frame) -> str:
    names = frame.similar[label]
    if names[0].startswith("#"):
        return f"the comment {names[0][:80]!r}; write the total energy as '# total energy = X eV'"
    key = "virial" if label == "stress" and "virial" in names[0].lower() else label
    unit = {"energy": "eV", "forces": "eV/Å", "stress": "eV/Å³", "virial": "eV"}[key]
    listed = ", ".join(repr(name) for name in names[:_LISTED])
    return f"{listed} may be what is meant; if it is in {unit}, give keys={{{key!r}: {names[0]!r}}}"


def _stray_messages(stray: Sequence[Path]) -> list[str]:
    if not stray:
        return []
    names = ", ".join(str(path) for path in stray[:_LISTED]) + (", ..." if len(stray) > _LISTED else "")
    return [f"{len(stray)} stray file(s) left out (hidden, or of no known kind): {names}"]
