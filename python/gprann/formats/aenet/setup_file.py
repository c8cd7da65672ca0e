"""Set-ups of ænet's descriptor: files `.stp`."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from gprann.descriptors import ChebyshevDescriptor
from gprann.errors import ConfigError, FormatError
from gprann.runtime.atomic_write import atomic_write

SUFFIX = ".stp"
MIN_DISTANCE = 0.5  # Å; ænet sizes its buffers by it
_KEYS = ("radial_Rc", "radial_N", "angular_Rc", "angular_N")
_LARGEST = 2**20  # bytes


@dataclass(frozen=True, slots=True)
class AenetSetup:
    """The descriptor of one element, as a file says it.

    Attributes
    ----------
    element : str
    environment : tuple of str
        Elements of the neighbours; their order sets the weights of the descriptor.
    parameters : tuple of four floats
        Radial cutoff (Å) and order, angular cutoff (Å) and order.
    """

    element: str
    environment: tuple[str, ...]
    parameters: tuple[float, float, float, float]

    def descriptor(self, path: Path) -> ChebyshevDescriptor:
        """Return the descriptor; errors name the file.

        Raises
        ------
        FormatError
            If there is no such descriptor, or ænet computes another one.
        """
        radial_cutoff, radial_order, angular_cutoff, angular_order = self.parameters
        if angular_cutoff > radial_cutoff:
            raise FormatError(
                f"{path}: angular_Rc = {angular_cutoff:g} is larger than radial_Rc = {radial_cutoff:g}, where ænet's "
                "angular terms are at fault and cannot be repeated; train again with angular_Rc up to radial_Rc"
            )
        if not (radial_order.is_integer() and angular_order.is_integer()):
            raise FormatError(
                f"{path}: the orders {radial_order:g} and {angular_order:g} are no whole numbers; correct them"
            )
        try:
            return ChebyshevDescriptor(
                self.environment,
                radial_cutoff=radial_cutoff,
                radial_order=int(radial_order),
                angular_cutoff=angular_cutoff,
                angular_order=int(angular_order),
            )
        except ConfigError as error:
            raise FormatError(f"{path}: no such descriptor: {error}") from error


def read_aenet_setup(files: str | os.PathLike[str] | Sequence[str | os.PathLike[str]]) -> ChebyshevDescriptor:
    """Read set-ups of ænet's descriptor, files `.stp`, as a descriptor for `train`.

    Parameters
    ----------
    files : path, or sequence of paths
        One file tells all; the others, of the other elements, must say the same.

    Returns
    -------
    ChebyshevDescriptor
        With the elements in the order of the files, which sets the weights.

    Raises
    ------
    FormatError
        If a file cannot be read, has another basis than Chebyshev's, or says something else than the first.

    Examples
    --------
    >>> import gprann, tempfile
    >>> from pathlib import Path
    >>> text = "ATOM O\\nENV 2\\nH\\nO\\nRMIN 0.5\\nBASIS type=Chebyshev\\n"
    >>> text += "radial_Rc = 6.0 radial_N = 10 angular_Rc = 3.5 angular_N = 4\\n"
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = Path(folder) / "O.fingerprint.stp"
    ...     _ = file.write_text(text)
    ...     descriptor = gprann.read_aenet_setup(file)
    >>> descriptor
    ChebyshevDescriptor(H O; radial 10, 6.0 Å; angular 4, 3.5 Å; 32 components)
    """
    given = [files] if isinstance(files, str | os.PathLike) else list(files)
    if not given:
        raise ConfigError("files: none given; give the .stp file of an element")
    paths = [Path(file).expanduser() for file in given]
    setups = [read_setup(path) for path in paths]
    for path, setup in zip(paths, setups, strict=True):
        if (setup.environment, setup.parameters) != (setups[0].environment, setups[0].parameters):
            raise FormatError(
                f"{path}: has other elements, another order of them, cutoffs or orders than {paths[0]}; gprann has one "
                "descriptor for all elements"
            )
    return setups[0].descriptor(paths[0])


def read_setup(path: Path) -> AenetSetup:
    """Read one file.

    Raises
    ------
    FormatError
        If it is missing, not complete, or has another basis than Chebyshev's.
    """
    try:
        if path.stat().st_size > _LARGEST:
            raise FormatError(f"{path}: is far larger than any set-up; give a .stp file of ænet")
        lines = _without_comments(path.read_text(encoding="latin-1"))
    except OSError as error:
        raise FormatError(f"{path}: cannot be read: {error.strerror}; give a .stp file of ænet") from error
    element, parameters = "", None
    environment: tuple[str, ...] = ()
    for line in lines:
        key, *words = line.split()
        if key.upper() == "ATOM" and words:
            element = words[0]
        elif key.upper() == "ENV":
            environment = _environment(path, words, lines)
        elif key.upper() in ("BASIS", "SYMMFUNC", "FUNCTIONS"):
            basis = (re.search(r"type\s*=\s*(\w+)", line) or ["", ""])[1]
            if basis.lower() != "chebyshev":
                raise FormatError(f"{path}: has the basis '{basis}'; gprann has ænet's Chebyshev basis alone")
            parameters = _parameters(path, next(lines, ""))
    if not (element and environment and parameters):
        missing = [
            name
            for name, value in (("ATOM", element), ("ENV", environment), ("BASIS", parameters))
            if not value
        ]
        raise FormatError(f"{path}: has no {' and no '.join(missing)}; give a complete .stp file of ænet")
    return AenetSetup(element, environment, parameters)


def _without_comments(text: str) -> Iterator[str]:
    """Yield the lines that say something: not the description, and nothing behind an exclamation mark or #."""
    described = False
    for full in text.split("\n"):
        line = re.split("[!#]", full)[0].strip()
        if described or not line:
            described = described and "end descr" not in full.lower()
        elif line.split()[0].upper() == "DESCR":
            described = True
        else:
            yield line


def _environment(path: Path, words: Sequence[str], lines: Iterator[str]) -> tuple[str, ...]:
    """Return the elements that follow, one a line."""
    try:
        n = int(words[0])
    except (IndexError, ValueError) as error:
        raise FormatError(f"{path}: ENV {' '.join(words)}: expected the number of elements") from error
    found = tuple(line.split()[0] for line, _ in zip(lines, range(n), strict=False))
    if n < 1 or len(found) < n:
        raise FormatError(f"{path}: ENV {n}, but {len(found)} elements follow; give one in each line")
    return found


def _parameters(path: Path, line: str) -> tuple[float, float, float, float]:
    """Return the cutoffs and orders of a line of `key = value`."""
    found = {
        key.lower(): value for key, value in re.findall(r"(\w+)\s*=\s*([-+.\dDdEe]+)", line)
    }  # a key is not sensitive to case in Fortran's programs
    try:
        values = [float(re.sub("[dD]", "e", found[key.lower()])) for key in _KEYS]
    except (KeyError, ValueError) as error:
        raise FormatError(
            f"{path}: the line after BASIS is '{line[:80]}', expected {' = ... '.join(_KEYS)} = ..."
        ) from error
    return values[0], values[1], values[2], values[3]


def write_setup(path: Path, setup: AenetSetup, description: str) -> None:
    """Write a file.

    Raises
    ------
    WriteError
        If it cannot be written.
    """
    radial_cutoff, radial_order, angular_cutoff, angular_order = setup.parameters
    lines = [
        "DESCR",
        f" {description}",
        "END DESCR",
        "",
        f"ATOM {setup.element}",
        "",
        f"ENV {len(setup.environment)}",
        *setup.environment,
        "",
        f"RMIN {MIN_DISTANCE}d0",
        "",
        "BASIS type=Chebyshev",
        f"radial_Rc = {radial_cutoff!r} radial_N = {radial_order:.0f} "
        f"angular_Rc = {angular_cutoff!r} angular_N = {angular_order:.0f}",
    ]
    with atomic_write(path) as stream:
        stream.write("".join(f"{line}\n" for line in lines))
