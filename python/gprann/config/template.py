"""Configurations as commented TOML."""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, get_args

from gprann.explain import Key, keys, registry_of
from gprann.options import Named, Options, Registry

_WIDTH = 100
_TITLE = (
    "Configuration of gprann. Every key is listed with its unit and default; "
    "keys that are commented out are not set."
)


def to_toml(config: Options, *, comments: bool = True) -> str:
    """Write a configuration as TOML, every key with its unit and default.

    Parameters
    ----------
    config : Config
        Or another table of tables.
    comments : bool
        Without them, keys that are not set are left out too.

    Examples
    --------
    >>> from gprann.config import default_config
    >>> print(to_toml(default_config(), comments=False).partition("[output]")[2].strip())
    folder = "results"
    plots = true
    """
    title = [*_comment(_TITLE), ""] if comments else []
    text = "\n".join([*title, *_tables("", config, comments)])
    return re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"


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
    if isinstance(value, Options):
        return toml_value(value.changes())
    if isinstance(value, Mapping):
        items = ((str(name), item) for name, item in value.items() if item is not None)
        inner = ", ".join(f"{_key(name)} = {toml_value(item)}" for name, item in items)
        return f"{{ {inner} }}" if inner else "{}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(toml_value(item) for item in value) + "]"
    return repr(value)


def _key(name: str) -> str:
    bare = name.isascii() and name.replace("_", "").replace("-", "").isalnum()
    return name if bare else toml_value(name)


def _tables(path: str, section: Options, comments: bool, off: bool = False) -> Iterator[str]:
    """Yield the lines of a table and of those in it; with `off` all of them are commented out."""
    plain, tables = section.to_dict(), {}
    for name, key in keys(type(section)).items():
        inner = _inner_table(key)
        if inner is None:
            yield from _lines(key, plain, comments, off)
        else:
            tables[name] = inner, key
    for name, (inner, key) in tables.items():
        value, place = getattr(section, name), f"{path}.{name}".removeprefix(".")
        if value is None and not comments:
            continue
        yield ""
        if comments:
            yield from _comment(_summary(inner) if key.field.description is None else key.sentence)
        yield f"{'# ' if value is None else ''}[{place}]"
        registry: Registry[Any] | None = registry_of(inner)
        if registry is None:
            yield from _tables(place, inner() if value is None else value, comments, value is None)
        else:
            yield from _kind(registry, value or registry.make(_example(key)), comments, value is None)


def _kind(registry: Registry[Any], chosen: Named, comments: bool, off: bool) -> Iterator[str]:
    """Yield the lines of a table that names a kind of something, with the options of all kinds."""
    plain = registry.to_dict(chosen)
    yield f"{'# ' if off else ''}kind = {toml_value(plain['kind'])}"
    for kind in registry:
        for key in keys(registry[kind]).values():
            own = kind == plain["kind"]
            if own or comments:
                yield from _lines(
                    replace(key, owners=(("kind", kind),)), plain if own else {}, comments, off or not own
                )


def _lines(key: Key, plain: Mapping[str, Any], comments: bool, off: bool) -> Iterator[str]:
    """Yield the lines that explain and set a key."""
    line = _assignment(key, plain)
    if not comments:
        yield from [line] if line else []
        return
    yield from _comment(key.sentence)
    facts = key_facts(key)
    # An option of some kinds that has its default need not be taken out when another kind is named.
    off = off or (bool(key.kinds) and plain.get(key.name) == key.field.default)
    shown = line or f"{key.name} = {toml_value(_example(key))}"
    yield f"{'# ' if off or not line else ''}{shown}{'  # ' + facts if facts else ''}"


def _assignment(key: Key, plain: Mapping[str, Any]) -> str | None:
    """Return the line that sets a key, or None if there is nothing to set."""
    value = plain.get(key.name)
    if value is None:
        spelled = key.extra["none"] if key.name in plain else ""
        return f"{key.name} = {toml_value(spelled)}" if spelled else None
    if isinstance(value, list) and len(value) == 1 and isinstance(value[0], str):
        value = value[0]
    return f"{key.name} = {toml_value(value)}"


def _example(key: Key) -> Any:
    """Return a value for a key that is not set: that of another kind, or an example."""
    default = key.field.get_default(call_default_factory=True)
    return key.extra["example"] if key.field.is_required() or default is None else default


def _inner_table(key: Key) -> type[Options] | None:
    """Return the class of a key whose options stand in a table of their own; with an example it is an inline table."""
    if key.owners or isinstance(key.extra.get("example"), Mapping):
        return None
    for item in (key.field.annotation, *get_args(key.field.annotation)):
        if (
            isinstance(item, type)
            and issubclass(item, Options)
            and (registry_of(item) is None or key.extra.get("table"))
        ):
            return item
    return None


def key_facts(key: Key) -> str:
    """Return unit and default of a key, where they do not stand in its description."""
    unit = str(key.extra["unit"])
    facts = [unit] if unit else []
    default = key.field.get_default(call_default_factory=True)
    if key.field.is_required():
        facts.append("required")
    elif default is not None:
        facts.append(f"default {toml_value(default)}")
    elif "efault" not in str(key.field.description):
        facts.append("default: not set")
    return ", ".join(facts)


def _summary(section: type[Options]) -> str:
    return " ".join((section.__doc__ or "").partition("\n\n")[0].split())


def _comment(text: str) -> list[str]:
    return textwrap.wrap(text, _WIDTH, initial_indent="# ", subsequent_indent="# ", break_long_words=False)
