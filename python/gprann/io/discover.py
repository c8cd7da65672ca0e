"""Which files a path, a folder or a pattern stands for."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from ase.io.formats import UnknownFileTypeError, match_magic

from gprann.errors import DataError

__all__ = ["find_files", "natural_key", "uncompressed_suffix"]

_SUFFIXES = {".xyz", ".extxyz", ".xsf", ".traj", ".castep", ".pwo"}
_PATTERNS = ("OUTCAR*", "*vasprun*.xml", "*OUTCAR")
_SUFFIXES_BY_CONTENT = {".out", ".log"}
_MAGIC = re.compile(r"[*?\[]")


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
    path = Path(source).expanduser()
    if path.is_dir():
        files, stray = _sort_out(_children(path))
        if not files:
            raise DataError(_nothing_in(path, stray))
        return files, stray
    if path.exists():
        return [path], []
    if _MAGIC.search(str(path)):
        return _match(path)
    raise DataError(f"{path}: no such file or folder; {_hint(path)}")


def natural_key(path: Path) -> list[list[str | int]]:
    """Sort key under which numbers in names count as numbers.

    Examples
    --------
    >>> [str(p) for p in sorted([Path("f_10.xsf"), Path("f_2.xsf")], key=natural_key)]
    ['f_2.xsf', 'f_10.xsf']
    """
    return [
        [int(piece) if k % 2 else piece for k, piece in enumerate(re.split(r"([0-9]+)", part))]
        for part in path.parts
    ]


def uncompressed_suffix(path: Path) -> str:
    """Return the suffix in small letters, that before `.gz` for a compressed file."""
    return (path.with_suffix("") if path.suffix.lower() == ".gz" else path).suffix.lower()


def _children(folder: Path) -> list[Path]:
    try:
        return [child for child in folder.iterdir() if child.is_file()]
    except OSError as error:
        raise DataError(f"{folder}: cannot be read: {error.strerror}; check its permissions") from error


def _match(pattern: Path) -> tuple[list[Path], list[Path]]:
    parts = pattern.parts
    first = next(k for k, part in enumerate(parts) if _MAGIC.search(part))
    base, rest = Path(*parts[:first]), list(parts[first:])
    if rest[-1] == "**":
        rest.append("*")
    matches = list(base.glob("/".join(rest)))
    found = [match for match in matches if match.is_file()]
    if not found:
        folders = [match for match in matches if match.is_dir() and not _hidden(match.relative_to(base))]
        found = [child for folder in folders for child in _children(folder)]
        specific = False
    else:
        specific = rest[-1].strip("*") != ""
    visible = [match for match in found if not _hidden(match.relative_to(base))]
    hidden = [match for match in found if _hidden(match.relative_to(base))]
    files, stray = (sorted(visible, key=natural_key), []) if specific else _sort_out(visible)
    if not files:
        left_out = _left_out([*hidden, *stray])
        raise DataError(
            f"{pattern}: the pattern matches no file that can be read{left_out}; correct the pattern"
        )
    return files, sorted([*hidden, *stray], key=natural_key)


def _hidden(path: Path) -> bool:
    return any(part.startswith(".") and part not in (".", "..") for part in path.parts)


def _sort_out(paths: Iterable[Path]) -> tuple[list[Path], list[Path]]:
    ordered = sorted(paths, key=natural_key)
    with_xml = {path.parent for path in ordered if path.name == "vasprun.xml"}
    files = [
        path
        for path in ordered
        if not path.name.startswith(".")
        and _is_known(path)
        # One VASP run leaves both files; reading both would give every structure twice.
        and not (path.name == "OUTCAR" and path.parent in with_xml)
    ]
    chosen = set(files)
    return files, [path for path in ordered if path not in chosen]


def _is_known(path: Path) -> bool:
    suffix = uncompressed_suffix(path)
    if suffix in _SUFFIXES or any(path.match(pattern) for pattern in _PATTERNS):
        return True
    if suffix not in _SUFFIXES_BY_CONTENT:
        return False
    try:
        with path.open("rb") as stream:
            match_magic(stream.read(50_000))
    except (OSError, UnknownFileTypeError):
        return False
    return True


def _nothing_in(folder: Path, stray: Sequence[Path]) -> str:
    if any(child.is_dir() for child in folder.iterdir()):
        return f"{folder}: has only folders{_left_out(stray)}; give '{folder / '**' / '*'}' to read them all"
    return f"{folder}: the folder has no file that can be read{_left_out(stray)}; check the path"


def _left_out(stray: Sequence[Path]) -> str:
    return f" (left out: {', '.join(path.name for path in stray[:3])})" if stray else ""


def _hint(path: Path) -> str:
    """Name the nearest neighbour in the deepest folder of the path that exists."""
    missing = path
    while not missing.parent.is_dir() and missing.parent != missing:
        missing = missing.parent
    try:
        names = [child.name for child in missing.parent.iterdir()] if missing.parent.is_dir() else []
    except OSError:
        names = []
    close = difflib.get_close_matches(missing.name, names, n=1)
    return f"did you mean '{missing.parent / close[0]}'?" if close else "check the path"
