"""The answer of a command: text for people, and the same facts for machines."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Answer:
    """Result of a command.

    Attributes
    ----------
    text : str
        For standard output.
    facts : dict
        The same for machines: numbers, strings, paths, arrays, lists and tables of these.
    code : int
        Exit code.
    error : str
        What failed although there is a result, for standard error.
    """

    text: str
    facts: dict[str, Any] = field(default_factory=dict)
    code: int = 0
    error: str = ""

    def document(self, command: str) -> str:
        """Return the answer as one JSON object."""
        content: dict[str, Any] = {"exit_code": self.code, "result": self.facts}
        return _document(command, content | ({"error": {"message": self.error}} if self.error else {}))


def failure(command: str | None, code: int, error: BaseException) -> str:
    """Return the end of a command without a result as one JSON object.

    Examples
    --------
    >>> text = failure("run", 2, ValueError("no file"))
    >>> json.loads(text)["error"]
    {'kind': 'ValueError', 'message': 'no file'}
    """
    return _document(
        command, {"exit_code": code, "error": {"kind": type(error).__name__, "message": str(error)}}
    )


def _document(command: str | None, content: Mapping[str, Any]) -> str:
    from gprann.version import __version__  # takes its time

    whole = {"gprann": __version__, "command": command, **content}
    return json.dumps(plain(whole), indent=1, ensure_ascii=False, allow_nan=False)


def plain(value: Any) -> Any:
    """Return a value as JSON can write it; numbers that are not finite become None, which JSON does not know.

    Examples
    --------
    >>> plain({"folder": Path("a"), "errors": (1.0, float("nan"))})
    {'folder': 'a', 'errors': [1.0, None]}
    """
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set):
        return [plain(item) for item in value]
    if isinstance(value, Path):
        return str(value)
    if hasattr(value, "tolist"):  # arrays and numbers of numpy, which is not imported for this
        return plain(value.tolist())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, bool | int | str) else str(value)
