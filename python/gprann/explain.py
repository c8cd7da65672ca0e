"""What is wrong with a configuration, in words: the key, what was expected, what came, and the nearest valid one."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, Literal, TypeVar, get_args, get_origin

from pydantic import BaseModel, ValidationError

from gprann.errors import ConfigError, nearest_name

__all__ = ["explain", "option_name", "parse_section", "shown"]

S = TypeVar("S", bound=BaseModel)

_EXPECTED = {
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "int_parsing": "a whole number",
    "float_type": "a number",
    "float_parsing": "a number",
    "finite_number": "a finite number",
    "string_type": "a text in quotes",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "tuple_type": "a list",
    "list_type": "a list",
    "dict_type": "a table: { name = value, ... }",
    "model_type": "a table of keys",
    "model_attributes_type": "a table of keys",
}
_LIMITS = {
    "greater_than": ("gt", "a number greater than"),
    "greater_than_equal": ("ge", "a number not smaller than"),
}


def explain(error: ValidationError, model: type[BaseModel]) -> list[str]:
    """Return a sentence for every error, beginning with the key, for example `training.members: expected ...`."""
    return [_sentence(item, model) for item in error.errors(include_url=False)]


def parse_section(model: type[S], options: Mapping[str, Any]) -> S:
    """Make a section of options of the command line, whose values are texts.

    Raises
    ------
    ConfigError
        Naming the option.

    Examples
    --------
    >>> from gprann.config.sections import AugmentationSection
    >>> parse_section(AugmentationSection, {"copies": "3"}).copies
    3
    """
    try:
        return model.model_validate(
            {name: _chosen(value, model, name) for name, value in options.items()}, strict=False
        )
    except ValidationError as error:
        sentences = explain(error, model)
    raise ConfigError("\n".join(re.sub(r"^\w+", lambda key: option_name(key[0]), text) for text in sentences))


def _chosen(text: Any, model: type[BaseModel], name: str) -> Any:
    """Return the choice that a text stands for, where a key has choices: among numbers pydantic finds none."""
    return next((choice for choice in _literals(model, name) if str(choice) == text), text)


def option_name(key: str) -> str:
    """Return the option of the command line that stands for a key.

    Examples
    --------
    >>> option_name("radial_cutoff")
    '--radial-cutoff'
    """
    return "--" + key.replace("_", "-")


def shown(value: object) -> str:
    """Return a value as it stands in a TOML file, shortened."""
    if isinstance(value, tuple):
        value = list(value)
    try:
        text = json.dumps(value, ensure_ascii=False)
    except TypeError:  # dates
        text = str(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _sentence(item: Any, model: type[BaseModel]) -> str:
    kind, value, context = item["type"], item["input"], item.get("ctx", {})
    *above, last = location = item["loc"] or ("",)
    path = _spelled(location)
    if kind == "extra_forbidden":
        return f"{path}: unknown key; {_hint(str(last), tuple(above), model)}"
    if kind == "missing":
        return f"{path}: is missing; {_missing_hint(location)}"
    if kind == "value_error":
        return _joined(path, str(context["error"]))
    if kind == "literal_error":
        return f"{path} = {shown(value)}: {nearest_name(str(value), _choices(location, model))}"
    if kind in _LIMITS:
        name, words = _LIMITS[kind]
        expected = f"{words} {context[name]:g}"
    elif kind in ("too_short", "string_too_short"):
        expected = "at least one entry" if kind == "too_short" else "a name"
    elif kind == "string_pattern_mismatch":
        expected = "the name of an .extxyz file, without a folder"
    else:
        expected = _EXPECTED.get(kind, "") + _or_none(location, model)
    if not expected:
        return f"{path}: {item['msg']}, got {shown(value)}"
    return f"{path}: expected {expected}, got {shown(value)}"


def _spelled(location: tuple[str | int, ...]) -> str:
    """Return `training.hidden[1]` for ("training", "hidden", 1)."""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location)
    return text.removeprefix(".")


def _joined(path: str, message: str) -> str:
    """Put the path of a section before a message of the Python interface, which may begin with the key."""
    if not path:
        return message
    if re.match(rf"{re.escape(path.rpartition('.')[2])}\b", message):  # of the key itself
        return path.removesuffix(path.rpartition(".")[2]) + message
    return f"{path}.{message}" if re.match(r"\w+( = |: )", message) else f"{path}: {message}"


def _section(location: tuple[str | int, ...], model: type[BaseModel]) -> type[BaseModel]:
    """Return the model of the table at a place of the configuration."""
    for part in location:
        field = model.model_fields.get(str(part))
        found = [] if field is None else [field.annotation, *get_args(field.annotation)]
        tables = [item for item in found if isinstance(item, type) and issubclass(item, BaseModel)]
        if not tables:
            return model
        model = tables[0]
    return model


def _hint(name: str, above: tuple[str | int, ...], model: type[BaseModel]) -> str:
    """Name the section that an unknown key belongs to, or the nearest key of its own."""
    for section, field in model.model_fields.items():
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel) and name in inner.model_fields:
            return f"it belongs to [{section}]"
    return nearest_name(name, _section(above, model).model_fields)


def _missing_hint(location: tuple[str | int, ...]) -> str:
    if location == ("data",):
        return 'begin with\n[data]\ntrain = "train.extxyz"'
    return 'for example train = "train.extxyz"' if location[-1] == "train" else "add it"


def _or_none(location: tuple[str | int, ...], model: type[BaseModel]) -> str:
    """Return ` or "none"` for a key that takes it."""
    field = _section(location[:-1], model).model_fields.get(str(location[-1]))
    extra = field.json_schema_extra if field is not None else None
    return f' or "{extra["none"]}"' if isinstance(extra, Mapping) and extra["none"] else ""


def _choices(location: tuple[str | int, ...], model: type[BaseModel]) -> list[str]:
    return [str(choice) for choice in _literals(_section(location[:-1], model), str(location[-1]))]


def _literals(model: type[BaseModel], name: str) -> list[Any]:
    """Return the values that a key may have, if it is one with choices."""
    field = model.model_fields.get(name)
    annotation = None if field is None else field.annotation
    found = [item for item in (annotation, *get_args(annotation)) if get_origin(item) is Literal]
    return [choice for literal in found for choice in get_args(literal)]
