"""Records that an exploration leaves as JSON, and reads again when it goes on."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter

from gprann.errors import FormatError

T = TypeVar("T")


def read_record(file: Path, kind: type[T]) -> T:
    """Read a record.

    Parameters
    ----------
    file : Path
    kind : type
        What it holds: a dataclass, or a list of plain data.

    Raises
    ------
    FormatError
        If the file cannot be read, is damaged or holds something else.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = Path(folder) / "chosen.json"
    ...     _ = file.write_text("[[0, 3], [1, 2]]")
    ...     read_record(file, list[tuple[int, int]])
    [(0, 3), (1, 2)]
    """
    adapter: TypeAdapter[Any] = TypeAdapter(kind)
    remedy = "remove the file, so that this part is done again"
    try:
        found: T = adapter.validate_json(file.read_bytes())
    except OSError as error:
        raise FormatError(f"{file}: cannot be read: {error.strerror}; {remedy}") from error
    except ValueError as error:
        raise FormatError(
            f"{file}: is no record of an exploration, or damaged ({_first(error)}); {remedy}"
        ) from error
    return found


def _first(error: ValueError) -> str:
    """Return the first line of what is wrong."""
    return " ".join(str(error).split("\n")[1:3]) or str(error)
