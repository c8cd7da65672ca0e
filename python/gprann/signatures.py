"""Functions that take options as keywords: their signatures, their documentation, and the division of keywords."""

from __future__ import annotations

import inspect
import re
import textwrap
from collections.abc import Callable, Iterable, Mapping
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

from gprann.errors import ConfigError, nearest_name
from gprann.explain import Key, bounds, keys, registry_of
from gprann.options import Options

A = TypeVar("A", bound=Options)
F = TypeVar("F", bound=Callable[..., Any])


def takes(*tables: type[Options]) -> Callable[[F], F]:
    """Show the options of these tables, which a function takes as `**options`, in its signature and documentation.

    Parameters
    ----------
    *tables : type of Options
        Where two have an option of the same name, the first counts.

    Examples
    --------
    >>> from gprann.options import option
    >>> class Sizes(Options):
    ...     copies: int = option("Copies of each structure.", 10, ge=1)
    >>> @takes(Sizes)
    ... def double(data, **options):
    ...     return 2 * Sizes(**options).copies
    >>> double([], copies=4), str(inspect.signature(double))
    (8, "(data, *, copies: 'int' = 10)")
    """

    def decorate(function: F) -> F:
        signature = inspect.signature(function)
        own = [item for item in signature.parameters.values() if item.kind != inspect.Parameter.VAR_KEYWORD]
        taken = {item.name for item in own}
        found = {}
        for table in tables:
            for name, key in keys(table).items():
                if name not in taken and name not in found:
                    found[name] = key
        extra = [_parameter(key) for key in found.values()]
        function.__signature__ = signature.replace(parameters=[*own, *extra])  # type: ignore[attr-defined]
        function.__doc__ = _document(inspect.cleandoc(function.__doc__ or ""), found)
        return function

    return decorate


def _parameter(key: Key) -> inspect.Parameter:
    default = key.field.get_default(call_default_factory=True)
    return inspect.Parameter(
        key.name,
        inspect.Parameter.KEYWORD_ONLY,
        default=inspect.Parameter.empty if key.field.is_required() else default,
        annotation=_type_of(key.field.annotation),
    )


def _type_of(annotation: Any) -> str:
    """Return a type as one would write it, without what converts and checks its values.

    Examples
    --------
    >>> from gprann.options import Names
    >>> _type_of(Names | None), _type_of(dict[str, float]), _type_of(Literal["a", 1])
    ('tuple[str, ...] | None', 'dict[str, float]', "{'a', 1}")
    """
    origin, parts = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _type_of(parts[0])
    if origin is Literal:
        return "{" + ", ".join(map(repr, parts)) + "}"
    if origin in (Union, UnionType):
        return " | ".join(map(_type_of, parts))
    if origin is not None:
        inner = ", ".join("..." if part is Ellipsis else _type_of(part) for part in parts)
        return f"{origin.__name__}[{inner}]"
    if registry_of(annotation) is not None:
        return f"str | {annotation.__name__}"
    return "None" if annotation is NoneType else str(getattr(annotation, "__name__", annotation))


def _document(text: str, found: Mapping[str, Any]) -> str:
    """Return a docstring with the options in the place of the entry `**options`."""
    entries = []
    for name, key in found.items():
        limits = bounds(key) or key.extra.get("unit")
        head = f"{name} : {_type_of(key.field.annotation)}{f', {limits}' if limits else ''}"
        entries.append(head + "\n" + textwrap.indent(textwrap.fill(key.sentence, 110), "    "))
    return re.sub(r"\*\*\w+\n(?:[ ]+.*\n?)*", lambda _: "\n".join(entries) + "\n", text, count=1)


def divide(options: Mapping[str, Any], table: type[A], others: Iterable[str]) -> tuple[A, dict[str, Any]]:
    """Divide the keywords of a function: make a table of those that it has, return the rest.

    Raises
    ------
    ConfigError
        If an option is in neither, with the nearest name, or impossible.

    Examples
    --------
    >>> from gprann.options import option
    >>> class Sizes(Options):
    ...     copies: int = option("Copies of each structure.", 10, ge=1)
    >>> divide({"copies": 3, "length": 2.0}, Sizes, ["length", "kernel"])
    (Sizes(copies=3), {'length': 2.0})
    """
    own, names = keys(table), list(others)
    for name in options:
        if name not in own and name not in names:
            raise ConfigError(f"unknown option '{name}': {nearest_name(name, [*own, *names])}")
    made = table(**{name: value for name, value in options.items() if name in own})
    return made, {name: value for name, value in options.items() if name not in own}
