"""Formats of files: one table, which says how each is recognised, read and written."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from ase.io.formats import UnknownFileTypeError, match_magic

from gprann.data.structure import Dataset, Structure
from gprann.errors import ConfigError, DataError, nearest_name
from gprann.io import files, other_codes
from gprann.io.ase import ase_format, read_ase
from gprann.io.extxyz import format_extxyz, read_extxyz
from gprann.io.files import InputFile, natural_key, strip_compression
from gprann.io.labels import Frame, ReadOptions
from gprann.io.xsf import read_xsf, write_xsf
from gprann.runtime.atomic_write import atomic_write

Reader = Callable[[InputFile, ReadOptions], Iterator[Frame | Structure | DataError]]
Writer = Callable[[Path, Dataset], None]


@dataclass(frozen=True, slots=True)
class FileFormat:
    """A format of files.

    Attributes
    ----------
    name : str
    patterns : tuple of str
        Names of its files, such as `*.extxyz`; the first suffix is the one that is written.
    read : callable or None
        Takes an `InputFile`, whose `text` is the content of the file, decompressed, and `ReadOptions`. It yields a
        `Structure` (or a `Frame`, with what else there is to say) for each structure, or a `DataError` in the place
        of a structure that cannot be used; raises a `DataError` where the rest of the file cannot be read.
    write : callable or None
        Takes a path and a `Dataset`.
    begins : bytes or None
        Regular expression for what the first 50,000 bytes of its files contain; it decides before the name does.

    Examples
    --------
    >>> import gprann, tempfile
    >>> from pathlib import Path
    >>> def read_bonds(file, options):
    ...     for length in map(float, file.text.split()):
    ...         yield gprann.Structure(("H", "H"), [[0, 0, 0], [0, 0, length]])
    >>> _ = gprann.register_format(gprann.FileFormat("bonds", ("*.h2",), read=read_bonds))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = (Path(folder) / "two.h2").write_text("0.74 0.80")
    ...     gprann.read(Path(folder) / "two.h2", require=())
    Dataset(2 structures: 2 x H2)
    """

    name: str
    patterns: tuple[str, ...] = ()
    read: Reader | None = None
    write: Writer | None = None
    begins: bytes | None = None

    def matches(self, path: Path) -> bool:
        """Return whether files of this format have such a name."""
        name = Path(strip_compression(path).name.lower())
        return any(name.match(pattern.lower()) for pattern in self.patterns)


_FORMATS: dict[str, FileFormat] = {}


def register_format(new: FileFormat) -> FileFormat:
    """Make a format known; one of the same name is replaced.

    Raises
    ------
    ConfigError
        If it has no name, or neither patterns nor a beginning by which its files are recognised.

    Examples
    --------
    A format that `read` then takes for files named `*.energies`::

        register_format(FileFormat("energies", ("*.energies",), read=read_energies))
    """
    if not new.name or not (new.patterns or new.begins):
        raise ConfigError(f"format {new.name!r}: give a name, and patterns or a beginning of its files")
    _FORMATS[new.name] = new
    return new


def _write_extxyz(target: Path, data: Dataset) -> None:
    with atomic_write(target) as stream:
        stream.writelines(format_extxyz(data))


register_format(FileFormat("extxyz", ("*.extxyz", "*.xyz"), read_extxyz, _write_extxyz))
register_format(FileFormat("xsf", ("*.xsf",), read_xsf, write_xsf))
register_format(FileFormat("deepmd", ("type.raw",), other_codes.read_deepmd))
register_format(FileFormat("mtp", (), other_codes.read_mtp, begins=rb"(?m)^\s*BEGIN_CFG\s*$"))
register_format(
    FileFormat("fitsnap", (), other_codes.read_fitsnap, begins=rb'(?s)^(#[^\n]*\n)?\s*\{\s*"Dataset"\s*:')
)
for _row in other_codes.DPDATA:
    register_format(
        FileFormat(_row.name, _row.patterns, partial(other_codes.read_dpdata, _row), begins=_row.begins)
    )

# Formats of ASE whose files a folder stands for.
_ASE_PATTERNS = ("OUTCAR*", "*vasprun*.xml", "*OUTCAR", "*.traj", "*.castep", "*.pwo")
_BY_CONTENT = (".out", ".log")


def format_of(file: InputFile) -> FileFormat:
    """Return the format of a file: by its beginning, by its name, or the one that ASE finds.

    Raises
    ------
    FormatError
        If it is unknown, or not read because it may run code.
    """
    own = [known for known in _FORMATS.values() if known.matches(file.path)]
    if own:
        return own[-1]
    if not file.path.is_dir():
        for known in reversed(_FORMATS.values()):
            if known.begins is not None and re.search(known.begins, file.head):
                return known
        if _NUMBER_LINE.match(file.head) and not file.path.is_file():  # a pipe has no name that says anything
            return _FORMATS["extxyz"]
    name = ase_format(file)
    return _FORMATS["extxyz"] if name == "extxyz" else FileFormat(name, read=partial(_read_ase, name))


_NUMBER_LINE = re.compile(rb"(\xef\xbb\xbf)?\s*\d+[ \t\r]*\n")


def _read_ase(name: str, file: InputFile, options: ReadOptions) -> Iterator[Frame | DataError]:
    return read_ase(file, name, options)


def format_to_write(target: Path) -> Writer:
    """Return the function that writes a file of this name.

    Raises
    ------
    ConfigError
        If no format that can be written has such files.
    """
    if target.is_dir() or not target.suffix:
        return write_xsf
    suffixes = []
    for known in reversed(_FORMATS.values()):
        if known.write is not None:
            if known.matches(target):
                return known.write
            suffixes += [Path(pattern).suffix for pattern in known.patterns]
    suffix = target.suffix.lower()
    raise ConfigError(f"{target}: unknown suffix {suffix!r}; {nearest_name(suffix, suffixes)}")


def find_files(source: str | os.PathLike[str]) -> tuple[list[Path], list[Path]]:
    """Return the files that a path, a folder or a glob pattern stands for, and the stray files left out.

    A folder stands for its files of known kind, a pattern for the files it matches (for the files of the
    folders it matches, if it matches folders only). `**` matches any depth. Hidden files (among them `._*` of
    macOS) are left out, and files of unknown kind unless the pattern itself ends in a suffix or a name.

    Returns
    -------
    files : list of Path
        In natural order: file_2 before file_10.
    stray : list of Path

    Raises
    ------
    DataError
        If there is no such file, or the folder or pattern has no file that can be read.
    """
    return files.match_files(source, _sort_out)


def _sort_out(paths: Sequence[Path]) -> tuple[list[Path], list[Path]]:
    """Part files into those of known kind, and the others."""
    ordered = sorted(paths, key=natural_key)
    with_xml = {path.parent for path in ordered if strip_compression(path).name == "vasprun.xml"}
    deepmd = {path.parent for path in ordered if path.name == "type.raw"}
    # One VASP run leaves both files; reading both would give every structure twice. A folder of DeePMD is one source.
    companions = {
        path
        for path in ordered
        if (strip_compression(path).name == "OUTCAR" and path.parent in with_xml)
        or ((path.parent in deepmd or path.parent.parent in deepmd) and path.name != "type.raw")
    }
    known = [
        path
        for path in ordered
        if path not in companions and not path.name.startswith(".") and _is_known(path)
    ]
    chosen = companions.union(known)
    return known, [path for path in ordered if path not in chosen]


def _is_known(path: Path) -> bool:
    plain = strip_compression(path)
    if any(plain.match(pattern) for pattern in _ASE_PATTERNS) or any(
        known.matches(path) for known in _FORMATS.values()
    ):
        return True
    suffix = plain.suffix.lower()
    if suffix in (".cfg", ".json", *_BY_CONTENT):
        try:
            head = InputFile(path).head
        except DataError:
            return False
        if any(known.begins is not None and re.search(known.begins, head) for known in _FORMATS.values()):
            return True
        if suffix in _BY_CONTENT:
            try:
                match_magic(head)
            except UnknownFileTypeError:
                return False
            return True
    return False
