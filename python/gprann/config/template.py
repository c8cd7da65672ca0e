"""Configurations as commented TOML."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator, Mapping
from typing import Any, get_args

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from gprann.config.sections import Config

__all__ = ["default_config", "key_facts", "to_toml", "toml_value"]

_WIDTH = 100
_TITLE = (
    "Configuration of gprann. Every key is listed with its unit and default; "
    "keys that are commented out are not set."
)


def default_config() -> Config:
    """Return the configuration in which nothing but an example of the training file is set."""
    return Config.model_validate({"data": {"train": "train.extxyz"}})


def to_toml(config: Config, *, comments: bool = True) -> str:
    """Write a configuration as TOML, every key with its unit and default.

    Parameters
    ----------
    config : Config
    comments : bool
        Without them, keys that are not set are left out too.

    Examples
    --------
    >>> print(to_toml(default_config(), comments=False).partition("[descriptor]")[0].strip())
    [data]
    train = "train.extxyz"
    index = ":"
    keys = {}
    """
    lines = [*_comment(_TITLE), ""] if comments else []
    for name in Config.model_fields:
        section = getattr(config, name)
        if comments:
            lines += _comment(_summary(type(section)))
        lines += [f"[{name}]", *_table(name, section, comments), ""]
    return "\n".join(lines).rstrip() + "\n"


def toml_value(value: Any) -> str:
    """Return a value as TOML.

    Examples
    --------
    >>> toml_value((10, 10)), toml_value({"energy": "E0"}), toml_value(1e-7), toml_value(True)
    ('[10, 10]', '{ energy = "E0" }', '1e-07', 'true')
    """
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, Mapping):
        inner = ", ".join(f"{_key(str(name))} = {toml_value(item)}" for name, item in value.items())
        return f"{{ {inner} }}" if inner else "{}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(toml_value(item) for item in value) + "]"
    return repr(value)


def _key(name: str) -> str:
    bare = name.isascii() and name.replace("_", "").replace("-", "").isalnum()
    return name if bare else toml_value(name)


def _table(path: str, section: BaseModel, comments: bool, off: bool = False) -> Iterator[str]:
    """Yield the lines of a table; with `off` all of them are commented out."""
    fields = type(section).model_fields
    for name, field in fields.items():
        if _inner_table(field) is not None:
            continue
        line = _assignment(name, getattr(section, name), field)
        if not comments:
            yield from [line] if line else []
            continue
        yield from _comment(str(field.description))
        shown = line or f"{name} = {toml_value(_extra(field)['example'])}"
        facts = key_facts(field)
        yield f"{'# ' if off or not line else ''}{shown}{'  # ' + facts if facts else ''}"
    for name, field in fields.items():
        inner, value = _inner_table(field), getattr(section, name)
        if inner is None or (value is None and not comments):
            continue
        yield ""
        if comments:
            yield from _comment(str(field.description))
        yield f"{'# ' if value is None else ''}[{path}.{name}]"
        yield from _table(f"{path}.{name}", inner() if value is None else value, comments, off=value is None)


def _assignment(name: str, value: Any, field: FieldInfo) -> str | None:
    """Return the line that sets a key, or None if there is nothing to set."""
    if value is None:
        spelled = _extra(field)["none"]
        return f"{name} = {toml_value(spelled)}" if spelled else None
    if isinstance(value, tuple) and len(value) == 1 and isinstance(value[0], str):
        value = value[0]
    return f"{name} = {toml_value(value)}"


def _inner_table(field: FieldInfo) -> type[BaseModel] | None:
    for item in (field.annotation, *get_args(field.annotation)):
        if isinstance(item, type) and issubclass(item, BaseModel):
            return item
    return None


def _extra(field: FieldInfo) -> dict[str, Any]:
    extra = field.json_schema_extra
    return dict(extra) if isinstance(extra, Mapping) else {}


def key_facts(field: FieldInfo) -> str:
    """Return unit and default of a key, where they do not stand in its description."""
    unit = str(_extra(field)["unit"])
    facts = [unit] if unit else []
    if field.is_required():
        facts.append("required")
    elif field.default is not None:
        facts.append(f"default {toml_value(field.default)}")
    elif "efault" not in str(field.description):
        facts.append("default: not set")
    return ", ".join(facts)


def _summary(section: type[BaseModel]) -> str:
    return (section.__doc__ or "").strip().partition("\n\n")[0]


def _comment(text: str) -> list[str]:
    return textwrap.wrap(text, _WIDTH, initial_indent="# ", subsequent_indent="# ", break_long_words=False)
