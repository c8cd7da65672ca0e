"""What the sections of a configuration are made of: keys with descriptions, units and defaults."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainValidator

__all__ = ["Channels", "Names", "OrderOrNone", "Section", "SpeciesLengths", "Widths", "default", "option"]


class Section(BaseModel):
    """A table of keys: unknown keys and values of another type are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


def option(
    description: str,
    default: Any = ...,
    *,
    unit: str = "",
    example: Any = None,
    none: str = "",
    **limits: Any,
) -> Any:
    """Return a field with all that the template writes about it; `none` is how TOML spells the value None."""
    extra = {"unit": unit, "example": example, "none": none}
    return Field(default, description=description, json_schema_extra=extra, **limits)


def default(function: Callable[..., Any], name: str) -> Any:
    """Return the default of a parameter of the Python interface."""
    return inspect.signature(function).parameters[name].default


def _as_tuple(value: object) -> object:
    return tuple(value) if isinstance(value, list) else value


def _names(value: object) -> object:
    """Take one name for a list of one."""
    return (value,) if isinstance(value, str) else _as_tuple(value)


def _channels(value: object) -> object:
    """Take the weights of a single channel for a list of one channel."""
    if not isinstance(value, Sequence) or isinstance(value, str):
        return value
    rows = value if value and isinstance(value[0], Sequence) and not isinstance(value[0], str) else [value]
    return tuple(_as_tuple(row) for row in rows)


def _species_lengths(value: object) -> object:
    """Take a name, or a factor for each element."""
    table = isinstance(value, Mapping) and all(
        isinstance(factor, int | float) and not isinstance(factor, bool) for factor in value.values()
    )
    if not table and value not in (None, "likelihood"):
        raise ValueError(f'expected "likelihood" or a table of factors, {{ H = 0.7 }}, got {value!r}')
    return value


def _unless_none(value: object) -> object:
    return None if value == "none" else value


Names = Annotated[tuple[str, ...], BeforeValidator(_names), Field(min_length=1)]
Widths = Annotated[tuple[int, ...], BeforeValidator(_as_tuple)]
Channels = Annotated[tuple[tuple[float, ...], ...], BeforeValidator(_channels)]
SpeciesLengths = Annotated[Literal["likelihood"] | dict[str, float], PlainValidator(_species_lengths)]
OrderOrNone = Annotated[int | None, BeforeValidator(_unless_none)]
