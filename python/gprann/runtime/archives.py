"""Archives of arrays: what can be wrong with one, and those that `numpy.savez` writes."""

from __future__ import annotations

import lzma
import struct
import tokenize
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gprann.errors import GprannError

# What zipfile, numpy and json raise for files that are damaged: RuntimeError (NotImplementedError and RecursionError
# among them) for encryption, an unknown compression or JSON nested too deeply; the last three for headers of arrays,
# which numpy reads as Python literals.
DAMAGED: tuple[type[Exception], ...] = (
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    struct.error,
    OSError,
    EOFError,
    RuntimeError,
    AttributeError,
    LookupError,
    TypeError,
    ValueError,
    ArithmeticError,
    MemoryError,
    SyntaxError,
    tokenize.TokenError,
)

# The same, and the package's own errors about what such a file describes.
DAMAGED_CONTENT: tuple[type[Exception], ...] = (GprannError, *DAMAGED)


def read_arrays(path: Path) -> dict[str, NDArray[Any]]:
    """Return the arrays of an archive of `numpy.savez` by their names; pickled objects are refused.

    Raises
    ------
    FileNotFoundError
    One of DAMAGED
        For the caller, who knows what the file should be.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     np.savez(Path(folder) / "a.npz", x=np.arange(2))
    ...     read_arrays(Path(folder) / "a.npz")["x"].tolist()
    [0, 1]
    """
    with path.open("rb") as stream, np.load(stream, allow_pickle=False) as archive:
        arrays = {name: archive[name] for name in archive.files}
    others = [name for name, array in arrays.items() if not isinstance(array, np.ndarray)]
    if others:
        raise ValueError(f"{others[0]!r} is no array")
    return arrays
