"""Configuration files: finding and reading them."""

from __future__ import annotations

import difflib
import os
import tomllib
from pathlib import Path
from typing import TypeVar

from pydantic import ValidationError

from gprann.errors import ConfigError
from gprann.explain import explain
from gprann.options import FILE, Options

T = TypeVar("T", bound=Options)


def read_config(file: Path, kind: type[T]) -> T:
    """Read a configuration of a kind from a file that exists; paths in it stay as they are.

    Raises
    ------
    ConfigError
        If it is no TOML, or has an unknown key or an impossible value.
    """
    try:
        text = file.read_text(encoding="utf-8-sig")
        content = tomllib.loads(text)
    except OSError as error:
        raise ConfigError(f"{file}: cannot be read: {error.strerror}; check its permissions") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{file}: is not a text file in UTF-8; {_EXPECTED}") from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{file}: is not valid TOML: {error}{_toml_hint(file, str(error))}") from error
    try:
        return kind.model_validate(content, context=FILE)
    except ValidationError as error:
        sentences = [f"{file}: {sentence}" for sentence in explain(error, kind, file=True)]
        raise ConfigError("\n".join(sentences)) from None


def find_config(path: str | os.PathLike[str]) -> Path:
    """Return the path of a configuration file that exists.

    Raises
    ------
    ConfigError
        If there is none, with the nearest name, or how to make one.
    """
    file = Path(path).expanduser()
    if file.is_file():
        return file
    if file.is_dir():
        raise ConfigError(
            f"{file}: is a folder; give the configuration file, for example {file / 'config.toml'}"
        )
    others = [other.name for other in file.parent.glob("*.toml")] if file.parent.is_dir() else []
    close = difflib.get_close_matches(file.name, others, n=1)
    hint = f"did you mean '{file.with_name(close[0])}'?" if close else f"make one with: gprann init {file}"
    raise ConfigError(f"{file}: no such file; {hint}")


_EXPECTED = "a configuration is expected here, gprann init writes one"


def _toml_hint(file: Path, message: str) -> str:
    if file.suffix.lower() != ".toml":
        return f"; {_EXPECTED}"
    if "Invalid value" in message:
        return '; texts need quotes ("..."), and truth values are true and false'
    return ""
