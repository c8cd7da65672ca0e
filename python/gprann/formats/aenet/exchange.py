"""Folders of ænet's files: one for each potential, one file for each element."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from gprann.baselines import CalculatorBaseline
from gprann.errors import ConfigError, FormatError, listing
from gprann.formats.aenet.network_file import BINARY, TEXT, AenetNetwork, read_network, write_network
from gprann.formats.aenet.networks import DESCRIPTION, check_exportable, networks_of
from gprann.formats.aenet.potentials import potential_of
from gprann.formats.aenet.setup_file import SUFFIX, write_setup
from gprann.potential import Potential
from gprann.runtime.atomic_write import make_folder

_log = logging.getLogger(__name__)
Paths = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]
_MEMBER = "member_"


def write_aenet(potential: Potential, folder: str | os.PathLike[str], *, ascii: bool = False) -> list[Path]:
    """Write a potential as networks and set-ups of the ænet program.

    ænet computes the same energies and forces, up to rounding.

    Parameters
    ----------
    potential : Potential
        On the Chebyshev descriptor with its default weights, with networks of tanh, "twist" or linear layers, and with
        no baseline but reference energies.
    folder : path
        Is made if need be. A committee gets folders `member_0`, `member_1`, ... in it.
    ascii : bool
        Write text, `X.nn.ascii`, instead of the binary files `X.nn` that ænet itself reads.

    Returns
    -------
    list of Path
        The files: for each element X a network and its set-up `X.fingerprint.stp`.

    Raises
    ------
    ConfigError
        If ænet cannot evaluate the potential, or the folder has networks already.
    WriteError
        If the files cannot be written.

    Examples
    --------
    >>> import gprann, tempfile
    >>> data = gprann.examples.hydrogen(7)
    >>> potential = gprann.train(data, gprann.ChebyshevDescriptor(["H"]), hidden=(3,), iterations=2, starts=1)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     files = gprann.write_aenet(potential, folder)
    ...     same = gprann.read_aenet(folder)
    >>> [file.name for file in files]
    ['H.fingerprint.stp', 'H.nn']
    >>> bool(abs(same.predict(data).energy - potential.predict(data).energy).max() < 1e-12)
    True
    """
    if not isinstance(potential, Potential):
        raise ConfigError(
            f"a {type(potential).__name__} cannot be written: ænet has potentials of networks alone; train one with "
            "gprann train, or gprann run"
        )
    check_exportable(potential)
    target = Path(folder).expanduser()
    if holds_networks(target):
        raise ConfigError(
            f"{target}: has networks of ænet already; give another folder, or remove them first"
        )
    if potential.std_factors != (1.0, 1.0):
        _log.warning(
            "ænet's files have no place for the calibration of a committee: read again, its standard deviations are "
            "those of its members"
        )
    files = []
    digits = len(str(len(potential) - 1))
    for member in range(len(potential)):
        place = make_folder(target if len(potential) == 1 else target / f"{_MEMBER}{member:0{digits}}")
        for setup, network in networks_of(potential, member):
            files += [
                place / f"{setup.element}.fingerprint{SUFFIX}",
                place / f"{setup.element}{TEXT if ascii else BINARY}",
            ]
            write_setup(files[-2], setup, DESCRIPTION)
            write_network(files[-1], network)
    return files


def check_document(path: Path, document: Mapping[str, Any]) -> None:
    """Refuse model files that ænet cannot have, before what they build on is asked for.

    Parameters
    ----------
    path : Path
    document : mapping
        The description in the file, see `gprann.model_file`.

    Raises
    ------
    ConfigError
        If it holds no potential, or one on a calculator.
    """
    kind = document.get("kind", "potential")
    if kind != "potential":
        raise ConfigError(
            f"{path}: holds a {kind}, ænet has potentials of networks alone; train one with gprann train, or gprann run"
        )
    for term in document.get("baselines", ()):
        if term.get("kind") == CalculatorBaseline.name:
            raise ConfigError(
                f"{path}: builds on the calculator {term.get('calculator')}: ænet has no baseline but reference "
                "energies; train without it for ænet"
            )


def read_aenet(source: Paths) -> Potential:
    """Read networks of the ænet program as a potential.

    Parameters
    ----------
    source : path, or sequence of paths
        The folder with one network, `.nn` or `.nn.ascii`, for each element; or these files. Where both forms of one
        name are there, the binary one is read, which is exact. Several folders, or a folder that `write_aenet`
        made of a committee, give a committee.

    Returns
    -------
    Potential
        With the same energies and forces as ænet, up to rounding.

    Raises
    ------
    FormatError
        If a file is missing, cut or damaged, the files do not belong together, or gprann has no such potential.

    Examples
    --------
    >>> import gprann, tempfile
    >>> data = gprann.examples.hydrogen(7)
    >>> potential = gprann.train(data, gprann.ChebyshevDescriptor(["H"]), hidden=(3,), iterations=2, starts=1)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     files = gprann.write_aenet(potential, folder, ascii=True)
    ...     gprann.read_aenet(files[1]).species
    ('H',)
    """
    given = [source] if isinstance(source, str | os.PathLike) else list(source)
    paths = [Path(path).expanduser() for path in given]
    if not paths:
        raise ConfigError(
            "source: nothing given; give the folder of the networks, or one file for each element"
        )
    folders = [path for path in paths if path.is_dir()]
    if folders and len(folders) < len(paths):
        raise ConfigError(
            f"source: {folders[0]} is a folder and others are files; give either folders, one for each member of a "
            "committee, or files, one for each element"
        )
    if not folders:
        return potential_of([_member(paths)])
    members = [files for folder in folders for files in _members(folder)]
    return potential_of([_member(files) for files in members])


def holds_networks(path: str | os.PathLike[str]) -> bool:
    """Return whether a path is a network of ænet, or a folder of them or of a committee."""
    place = Path(path).expanduser()
    if place.is_dir():
        return any(_networks(folder) for folder in (place, *_member_folders(place)))
    return place.is_file() and place.name.endswith((BINARY, TEXT))


def _members(folder: Path) -> list[list[Path]]:
    """Return the files of each member in a folder: its own, or those of the folders in it."""
    own, below = _networks(folder), _member_folders(folder)
    if own and any(map(_networks, below)):
        raise FormatError(
            f"{folder}: has networks, and folders of members beside them; give the one or the other by name"
        )
    members = [own] if own else [_networks(one) for one in below]
    if not members or not all(members):
        place = next((one for one, files in zip(below, members, strict=False) if not files), folder)
        raise FormatError(f"{place}: has no networks of ænet, files {BINARY} or {TEXT}")
    return members


def _member_folders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob(f"{_MEMBER}*") if path.is_dir())


def _networks(folder: Path) -> list[Path]:
    """Return the networks in a folder: of two forms of one name the binary one."""
    binary = sorted(folder.glob(f"*{BINARY}"))
    names = {path.name.removesuffix(BINARY) for path in binary}
    text = [path for path in sorted(folder.glob(f"*{TEXT}")) if path.name.removesuffix(TEXT) not in names]
    return binary + text


def _member(paths: Iterable[Path]) -> dict[str, tuple[Path, AenetNetwork]]:
    """Read the networks of one member."""
    member: dict[str, tuple[Path, AenetNetwork]] = {}
    for path in paths:
        if path.name.endswith(SUFFIX):
            raise FormatError(
                f"{path}: is a set-up of the descriptor, not a network; give the {BINARY} files, or read it with "
                "gprann.read_aenet_setup"
            )
        network = read_network(path)
        if network.element in member:
            both = listing([member[network.element][0], path])
            raise FormatError(
                f"{both}: both are networks of {network.element}; give one file for each element"
            )
        member[network.element] = (path, network)
    return member
