"""Reading of configuration files."""

from __future__ import annotations

import difflib
import os
import tomllib
from pathlib import Path

from pydantic import ValidationError

from gprann.config.sections import Config
from gprann.errors import ConfigError
from gprann.explain import explain
from gprann.options import FILE

__all__ = ["find_config", "load_config"]


def load_config(path: str | os.PathLike[str]) -> Config:
    """Read a configuration file; its relative paths become absolute, starting at its folder.

    Parameters
    ----------
    path : path
        TOML, as `gprann init` writes it.

    Raises
    ------
    ConfigError
        If the file is missing or no TOML, or has an unknown key or an impossible value: the message names the
        file, the key, what was expected, what came, and the nearest valid name.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = Path(folder) / "config.toml"
    ...     _ = file.write_text('data.train = "train.extxyz"')
    ...     load_config(file).training.optimizer
    'auto'
    """
    file = find_config(path)
    try:
        text = file.read_text(encoding="utf-8-sig")
        content = tomllib.loads(text)
    except OSError as error:
        raise ConfigError(f"{file}: cannot be read: {error.strerror}; check its permissions") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{file}: is not a text file in UTF-8; give a configuration in TOML") from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{file}: is not valid TOML: {error}{_toml_hint(str(error))}") from error
    try:
        config = Config.model_validate(content, context=FILE)
    except ValidationError as error:
        sentences = [f"{file}: {sentence}" for sentence in explain(error, Config, file=True)]
        raise ConfigError("\n".join(sentences)) from None
    return config.resolved(file.parent)


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


def _toml_hint(message: str) -> str:
    if "Invalid value" in message:
        return '; texts need quotes ("..."), and truth values are true and false'
    return ""
