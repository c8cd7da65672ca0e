"""Options of the command line for the keys of a section of the configuration."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, get_args, get_origin

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo

    from gprann.options import Options


def section_options(
    parser: argparse.ArgumentParser, title: str, section: type[Options], leave_out: Sequence[str] = ()
) -> None:
    """Add an option for each key of a section; values stay texts, which the section converts and checks."""
    from gprann.config.template import key_facts
    from gprann.explain import keys, option_name

    group = parser.add_argument_group(f"options of the {title}")
    for name, key in keys(section).items():
        if name in leave_out:
            continue
        text, facts = key.sentence.replace("%", "%%"), key_facts(key).replace("%", "%%")
        options: dict[str, Any] = {
            "dest": f"{section.__name__}.{name}",
            "default": argparse.SUPPRESS,
            "help": f"{text} ({facts})" if facts else text,
        }
        if _holds(key.field, bool):
            options |= {"action": "store_const", "const": "true"}
        elif _holds(key.field, tuple) or isinstance(key.extra["example"], list):
            options |= {"nargs": "*", "metavar": _placeholder(key.field)}
        elif _holds(key.field, dict) or isinstance(key.extra["example"], dict):
            options |= {"nargs": "+", "metavar": "NAME=X"}
        else:
            options |= {"metavar": _placeholder(key.field)}
        action = group.add_argument(option_name(name), **options)
        # For the completion of shells; `choices` would be checked here, with another message than the section's.
        vars(action)["suggested"] = _known_values(key.field.annotation)


def _known_values(annotation: Any) -> list[str]:
    """Return the values of an option that have names, for the completion of shells."""
    from gprann.explain import registry_of

    found: list[str] = []
    for item in (annotation, *get_args(annotation)):
        registry = registry_of(item)
        if registry is not None:
            found += list(registry)
        elif get_origin(item) is Literal:
            found += [str(value) for value in get_args(item)]
    return list(dict.fromkeys(found))


def _placeholder(field: FieldInfo) -> str:
    """Return what stands for the value of an option in its help."""
    kinds = {int: "INT", float: "NUMBER"}
    return next((word for kind, word in kinds.items() if _holds(field, kind)), "X")


def _holds(field: FieldInfo, kind: type) -> bool:
    """Return whether a key holds values of a kind, or none."""
    candidates = [field.annotation, *get_args(field.annotation)]
    return any(item is kind or get_origin(item) is kind or _mentions(item, kind) for item in candidates)


def _mentions(item: Any, kind: type) -> bool:
    inner = get_args(item)[:1] if hasattr(item, "__metadata__") else ()
    choices = [choice for entry in inner for choice in (entry, *get_args(entry))]
    return any(choice is kind or get_origin(choice) is kind for choice in choices)
