"""Reading and writing of structures."""

from __future__ import annotations

import logging
import os
import re
import warnings
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import ase

from gprann.data.structure import Dataset, Origin, Structure
from gprann.errors import ConfigError, DataError, listing, nearest_name
from gprann.io.ase import frame_from_atoms
from gprann.io.checks import DataReport, DataWarning, check_dataset
from gprann.io.files import InputFile
from gprann.io.formats import find_files, format_of, format_to_write
from gprann.io.labels import FREE_ENERGY_NOTE, LABELS, Frame, ReadOptions, make_frame
from gprann.runtime.atomic_write import check_length
from gprann.signatures import takes

Source: TypeAlias = "str | os.PathLike[str] | ase.Atoms | Structure | Dataset | Iterable[Source]"

_LISTED = 5
_log = logging.getLogger(__name__)


@takes(ReadOptions)
def read(
    source: Source, *, group: str | None = None, require: Sequence[str] = ("energy",), **options: Any
) -> Dataset:
    """Read structures with their energies and forces.

    Parameters
    ----------
    source : path, glob pattern, ase.Atoms, Structure, Dataset, or a list that mixes them
        Files are extended XYZ (`.xyz`, `.extxyz`), ænet XSF (`.xsf`), folders of DeePMD, files of MTP and FitSNAP, or
        any other format that ASE or dpdata reads, for example `vasprun.xml`, `OUTCAR` and `.traj`, compressed or not;
        files with pickled objects are refused. A folder stands for its files of known kind in natural order (file_2
        before file_10); `**` in a pattern matches any depth. Energies are in eV, lengths in Å, forces in eV/Å,
        stresses in eV/Å³ (positive when the structure wants to shrink, ASE's sign); a virial is minus volume times
        stress, in eV. Other units that a file declares are converted.
    group : str or None
        Label given to all structures; None keeps the one in the file (`group` or `config_type`).
    require : sequence of {"energy", "forces", "stress"}
        Labels that every structure must have. Without "forces" structures without forces are accepted, for
        training on energies only; the empty tuple accepts structures without labels.
    **options
        Fields of `ReadOptions`.

    Returns
    -------
    Dataset
        In the order of the sources. A single `Dataset` is returned as it is.

    Raises
    ------
    DataError
        If a path does not exist, nothing matches, a required label is missing, an element is unknown, two
        atoms coincide, a value is not finite or a calculation did not converge. The message names the file, the
        structure and the atom.
    FormatError
        If a file is cut, damaged or of an unknown format.
    ConfigError
        If an option has an impossible value.

    Warns
    -----
    DataWarning
        Once each: stray files and bad calculations left out; labels that only some structures have; labels under
        other names; units converted; repeated structures; energies and forces that do not belong to the others or do
        not fit each other.

    Examples
    --------
    >>> import ase, gprann
    >>> h2 = ase.Atoms("H2", [[0, 0, 0], [0, 0, 0.74]], info={"energy": -31.7})
    >>> gprann.read([h2]).energies
    array([-31.7])
    """
    result = read_all(source, ReadOptions(**options), group=group, require=require)
    for message in result.messages:
        warnings.warn(message, DataWarning, stacklevel=2)
    return result.data


class ReadResult(NamedTuple):
    """Structures that have been read, and what is to be said about them.

    Attributes
    ----------
    data : Dataset
    messages : tuple of str
        What a user should look at.
    left_out : tuple of str
        Reasons why calculations were left out, with `skip_bad`.
    report : DataReport or None
        None for a `Dataset`, which has been checked when it was made.
    """

    data: Dataset
    messages: tuple[str, ...]
    left_out: tuple[str, ...] = ()
    report: DataReport | None = None


def read_all(
    source: Source, options: ReadOptions, *, group: str | None = None, require: Sequence[str] = ("energy",)
) -> ReadResult:
    """Read structures as `read` does, and return its warnings instead of giving them.

    Raises
    ------
    DataError, ConfigError
        As `read` does.
    """
    required = _check_require(require)
    if isinstance(source, Dataset):
        _label_messages([Frame(structure, {}) for structure in source], required)
        regrouped = (structure.replace(group=group) for structure in source)
        return ReadResult(source if group is None else Dataset(regrouped), ())
    collected = _Collected(options)
    frames = list(collected.frames(source))
    if not frames:
        if collected.left_out:
            raise DataError(f"no calculation can be used: {collected.left_out[0]}")
        named = source if isinstance(source, str | os.PathLike) else "source"
        whole = options.index == ":"
        found = "holds no structure" if whole else f"index = '{options.index}' takes none of its structures"
        raise DataError(f"{named}: {found}; give at least one")
    messages = [*_stray_messages(collected.stray), *_left_out_messages(collected.left_out)]
    messages += _note_messages(frames)
    messages += _label_messages(frames, required)
    data = Dataset(f.structure if group is None else f.structure.replace(group=group) for f in frames)
    report = check_dataset(data)
    messages += report.messages
    _log.info("read %r", data)
    return ReadResult(data, tuple(messages), tuple(collected.left_out), report)


def structures(source: Source) -> Dataset:
    """Return the structures that a source stands for, with whatever labels they have."""
    if isinstance(source, Dataset):
        return source
    return Dataset(frame.structure for frame in _Collected(ReadOptions()).frames(source))


def _check_require(require: Sequence[str]) -> tuple[str, ...]:
    required = (require,) if isinstance(require, str) else tuple(require)
    for label in required:
        if label not in LABELS:
            raise ConfigError(f"require: unknown label {label!r}; {nearest_name(str(label), LABELS)}")
    return required


class _Collected:
    """Reads sources, and gathers what is left out.

    Attributes
    ----------
    stray : list of Path
        Files of no known kind.
    left_out : list of str
        Why calculations cannot be used.
    """

    def __init__(self, options: ReadOptions) -> None:
        self.options = options
        self.stray: list[Path] = []
        self.left_out: list[str] = []

    def frames(self, source: Source, position: int = 0) -> Iterator[Frame]:
        """Yield the frames of a source.

        Raises
        ------
        DataError
            If a calculation cannot be used; with `skip_bad` only if a path does not exist.
        """
        if isinstance(source, str | os.PathLike):
            files, stray = find_files(source)
            self.stray += stray
            for path in files:
                yield from self._file(path)
        elif isinstance(source, ase.Atoms):
            yield frame_from_atoms(source, position, self.options)
        elif isinstance(source, Structure):
            unnamed = position > 0 and source.origin == Origin()
            yield make_frame(source.replace(origin=Origin("", position)) if unnamed else source)
        elif isinstance(source, Iterable):
            for count, item in enumerate(source):
                yield from self.frames(item, count)
        else:
            raise DataError(
                f"source: {type(source).__name__} is no path, folder, pattern, ase.Atoms, Structure or Dataset, "
                "nor a list of these"
            )

    def _file(self, path: Path) -> list[Frame]:
        frames: list[Frame] = []
        try:
            file = InputFile(path)
            reader = format_of(file).read
            if reader is None:
                raise DataError(f"{path}: is of a format that cannot be read")
            for item in reader(file, self.options):
                if isinstance(item, DataError):
                    self._refuse(item)
                elif isinstance(item, Structure):
                    unnamed = item.origin == Origin()
                    place = Origin(str(path), len(frames))
                    frames.append(make_frame(item.replace(origin=place) if unnamed else item))
                else:
                    frames.append(item)
        except DataError as error:
            self._refuse(error if str(path) in str(error) else type(error)(f"{path}: {error}"))
        return _select(frames, self.options.chosen, path) if frames or not self.left_out else frames

    def _refuse(self, error: DataError) -> None:
        if not self.options.skip_bad:
            raise error
        self.left_out.append(re.sub(r"; [^;]*\bskip_bad = true\)?$", "", str(error)))


def _select(frames: list[Frame], index: int | slice, path: Path) -> list[Frame]:
    if isinstance(index, slice):
        return frames[index]
    try:
        return [frames[index]]
    except IndexError:
        raise DataError(
            f"{path}: index {index} is beyond its {len(frames)} structures; give a smaller one"
        ) from None


def _left_out_messages(left_out: Sequence[str]) -> list[str]:
    if not left_out:
        return []
    more = f"; and {len(left_out) - _LISTED} more" if len(left_out) > _LISTED else ""
    return [f"{len(left_out)} bad calculation(s) left out: {'; '.join(left_out[:_LISTED])}{more}"]


def _note_messages(frames: Sequence[Frame]) -> list[str]:
    """Say once each what was converted, ignored or assumed; which energy is taken is logged."""
    places: dict[str, list[Origin]] = {}
    for frame in frames:
        for note in frame.notes:
            places.setdefault(note, []).append(frame.structure.origin)
    consistent = places.pop(FREE_ENERGY_NOTE, [])
    messages = []
    if consistent:
        _log.info("%s%s: %s", consistent[0], _and_more(consistent), FREE_ENERGY_NOTE)
        if len(consistent) < sum(frame.structure.energy is not None for frame in frames):
            messages.append(
                f"{consistent[0]}{_and_more(consistent)} have a free energy beside the energy, the others have one "
                "energy alone: make sure that it is the one whose derivatives the forces are"
            )
    return messages + [f"{origins[0]}{_and_more(origins)}: {note}" for note, origins in places.items()]


def _and_more(origins: Sequence[Origin]) -> str:
    return f" and {len(origins) - 1} more" if len(origins) > 1 else ""


def _label_messages(frames: Sequence[Frame], required: Sequence[str]) -> list[str]:
    """Return warnings about missing labels; required labels that are missing are an error."""
    messages = []
    for label in LABELS:
        without = [frame for frame in frames if getattr(frame.structure, label) is None]
        if without and label in required:
            raise DataError(_describe_missing(label, without, len(frames)))
        if label == "stress":  # a molecule has none
            without = [frame for frame in without if frame.structure.pbc.all()]
        # Synthetic copies have an energy and nothing else.
        without = [frame for frame in without if frame.structure.origin.method == "reference"]
        renamed = [frame for frame in without if label in frame.similar]
        if renamed:
            messages.append(
                f"{renamed[0].structure.origin}: has no {label}, but {_describe_similar(label, renamed[0])}"
            )
        elif without and any(getattr(frame.structure, label) is not None for frame in frames):
            messages.append(
                f"{len(without)} of {len(frames)} structures have no {label}, the others have: "
                f"{listing([frame.structure.origin for frame in without])}"
            )
    return messages


def _describe_missing(label: str, without: Sequence[Frame], total: int) -> str:
    origin = without[0].structure.origin
    counted = f" (and so {len(without)} of {total} structures)" if len(without) > 1 else ""
    if label in without[0].similar:
        return f"{origin}: has no {label}{counted}, but {_describe_similar(label, without[0])}"
    rest = "add them to the file" if label == "forces" else "add it to the file"
    return f"{origin}: has no {label}{counted}; {rest}, leave the structure out, or do not require {label}"


def _describe_similar(label: str, frame: Frame) -> str:
    names = frame.similar[label]
    if names[0].startswith("#"):
        return f"the comment {names[0][:80]!r}; write the total energy as '# total energy = X eV'"
    key = "virial" if label == "stress" and "virial" in names[0].lower() else label
    unit = {"energy": "eV", "forces": "eV/Å", "stress": "eV/Å³", "virial": "eV"}[key]
    listed = ", ".join(repr(name) for name in names[:_LISTED])
    what = f"the total energy in {unit}" if key == "energy" else f"in {unit}"
    given = f"keys={{{key!r}: {names[0]!r}}} (in the shell --keys {key}={names[0]})"
    return f"{listed} may be what is meant; if it is {what}, give {given}"


def _stray_messages(stray: Sequence[Path]) -> list[str]:
    if not stray:
        return []
    names = ", ".join(str(path) for path in stray[:_LISTED]) + (", ..." if len(stray) > _LISTED else "")
    return [f"{len(stray)} stray file(s) left out (hidden, or of no known kind): {names}"]


def write(path: str | os.PathLike[str], data: Source) -> None:
    """Write structures as extended XYZ, as ænet XSF, or in another format that has been registered.

    The suffix decides: `.extxyz` or `.xyz` is one file with all structures; `.xsf` is one file with one
    structure; a path without a suffix is a folder with one XSF file per structure (`structure_00000.xsf`,
    ...). Files appear complete or not at all, and every number can be read back exactly.

    Extended XYZ keeps everything: energy, forces, stress, weight, energy variance, group, origin, `info`, `arrays` and
    constraints, under the names of ASE. XSF keeps energy, forces and the cell of periodic structures; a warning says if
    more is lost.

    Parameters
    ----------
    path : str or path
    data : Dataset, Structure, ase.Atoms, or a list of these

    Raises
    ------
    ConfigError
        If the suffix is unknown.
    DataError
        If there is nothing to write, or the format cannot express it.
    WriteError
        If the file cannot be written; an older file is left as it was.

    Examples
    --------
    >>> import gprann, tempfile
    >>> from pathlib import Path
    >>> h2 = gprann.Structure(("H", "H"), [[0, 0, 0], [0, 0, 0.74]], energy=-31.7)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     gprann.write(Path(folder) / "h2.extxyz", h2)
    ...     (Path(folder) / "h2.extxyz").stat().st_size > 0
    True
    """
    target = Path(path).expanduser()
    check_length(target)
    dataset = structures(data)
    if not len(dataset):
        raise DataError(f"{target}: there is no structure to write")
    format_to_write(target)(target, dataset)
