"""The public interface as text: Python names and parameters, commands and options, keys of configurations.

Whoever changes it on purpose writes the list anew, and reads the difference:
python tests/api_listing.py docs/public_api.txt
"""

from __future__ import annotations

import argparse
import inspect
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gprann
from gprann.cli.main import _parser
from gprann.config import Config, ExploreConfig
from gprann.explain import keys
from gprann.options import Named, Options

_FIRST = re.compile(r"\((self|cls)(, )?(/, )?")


def listing() -> str:
    """Return the whole list."""
    parts = {
        "Python: from gprann import ...": sorted(python()),
        "Commands": list(commands()),
        "Keys of the configuration of gprann run and compare": list(configuration("", Config)),
        "Keys that the configuration of gprann explore has beside these": [
            key for key in configuration("", ExploreConfig) if key not in set(configuration("", Config))
        ],
    }
    return "\n\n".join("\n".join([f"# {title}", *lines]) for title, lines in parts.items()) + "\n"


def python() -> Iterator[str]:
    """Yield every public name; a class with its public members."""
    for name in gprann.__all__:
        item = getattr(gprann, name)
        yield f"{name}{parameters(item)}"
        if isinstance(item, type):
            yield from (f"{name}.{member}" for member in members(item))


def parameters(item: Any) -> str:
    """Return the parameters of something that is called: `name` must be given, `name=` has a default."""
    if not callable(item):
        return ""
    try:
        signature = inspect.signature(item)
    except ValueError:  # exceptions without a constructor of their own
        return "(...)"
    words: list[str] = []
    for one in signature.parameters.values():
        if one.kind is one.KEYWORD_ONLY and not any(word.startswith("*") for word in words):
            words.append("*")
        star = {one.VAR_POSITIONAL: "*", one.VAR_KEYWORD: "**"}.get(one.kind, "")
        words.append(f"{star}{one.name}{'' if star or one.default is one.empty else '='}")
    return f"({', '.join(words)})"


def members(kind: type) -> Iterator[str]:
    """Yield methods with their parameters, attributes and properties; not those of a base class that is public too."""
    bases = kind.__mro__[1:]
    public = [base for base in bases if getattr(gprann, base.__name__, None) is base]
    known = {Options, *Options.__mro__, Named, *(part for base in public for part in base.__mro__)}
    own = [base for base in kind.__mro__ if base.__module__.startswith("gprann") and base not in known]
    names = {name for base in own for name in (*vars(base), *inspect.get_annotations(base))}
    for name in sorted(names - {"model_config", "registry"}):
        if name.startswith("_") or any(hasattr(base, name) for base in public):
            continue
        value = inspect.getattr_static(kind, name, None)
        function = getattr(value, "__func__", value)
        called = inspect.isfunction(function)
        yield f"{name}{_FIRST.sub('(', parameters(function)) if called else ''}"


def commands() -> Iterator[str]:
    """Yield every command, what it must be given, and its options."""
    for name, parser in _parser()[1].items():
        for action in parser._actions:
            if action.help == argparse.SUPPRESS or "--help" in action.option_strings:
                continue
            values = (
                "" if action.nargs == 0 else {"+": " ...", "*": " ...", None: " X"}.get(action.nargs, " X")
            )
            words = ", ".join(action.option_strings) or action.dest
            yield f"gprann {name} {words}{values if action.option_strings else ''}"


def configuration(path: str, table: type[Options]) -> Iterator[str]:
    """Yield every key of a configuration."""
    for name, key in keys(table).items():
        inner = key.field.annotation
        if isinstance(inner, type) and issubclass(inner, Options) and inner.__dict__.get("registry") is None:
            yield from configuration(f"{path}{name}.", inner)
        else:
            yield f"{path}{name}"


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(listing(), encoding="utf-8")
