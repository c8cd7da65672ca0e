"""Keys of options, and error messages about them: what was expected, what came, and the nearest name."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from gprann.errors import nearest_name

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
_BRANCHES = ("constrained-", "literal[", "float", "int", "str")
"""Beginnings of the names of types in the errors of an option that may have several."""
_LIMITS = {"greater_than": "gt", "greater_than_equal": "ge", "less_than": "lt", "less_than_equal": "le"}


@dataclass(frozen=True, slots=True)
class Key:
    """A key of a table of options.

    Attributes
    ----------
    name : str
    field : FieldInfo
        Its declaration.
    owners : tuple of (str, str)
        Where it belongs to kinds of something: the key that names the kind, and the kind, as
        `("optimizer", "adamw")`.
    shared : bool
        Whether it belongs to all kinds.
    """

    name: str
    field: FieldInfo
    owners: tuple[tuple[str, str], ...] = ()
    shared: bool = False

    @property
    def extra(self) -> dict[str, Any]:
        """Unit, example and the like, as declared by `option`."""
        extra = self.field.json_schema_extra
        return dict(extra) if isinstance(extra, Mapping) else {}

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds that it belongs to, none if it belongs to the table itself or to all kinds."""
        return () if self.shared else tuple(dict.fromkeys(kind for _, kind in self.owners))

    @property
    def sentence(self) -> str:
        """The description, beginning with the choice that has the key: `With optimizer adamw: learning rate.`"""
        text, kinds = (
            str(self.field.description),
            " or ".join(self.kinds).replace(" or ", ", ", max(len(self.kinds) - 2, 0)),
        )
        if not kinds:
            return text
        lower = text[1:2].islower() or text[1:2] == " "
        return f"With {self.owners[0][0]} {kinds}: {text[:1].lower() if lower else text[:1]}{text[1:]}"


def choices(model: type[BaseModel]) -> dict[str, Any]:
    """Return the registries of those options that name a kind of something."""
    found = {}
    for name, field in model.model_fields.items():
        for item in (field.annotation, *get_args(field.annotation)):
            registry = registry_of(item)
            if registry is not None:
                found[name] = registry
    return found


def registry_of(kind: Any) -> Any:
    """Return the registry of the base class of several kinds of something; None of anything else."""
    return vars(kind).get("registry") if isinstance(kind, type) else None


def keys(model: type[BaseModel]) -> dict[str, Key]:
    """Return the keys of a table by their names, its own before those that it has from the tables it is composed of.

    Each key that names a kind is followed by the options of the kinds.

    Options that have a table of their own are left out, and those named like an option of the table.
    """
    found: dict[str, Key] = {}
    registries = choices(model)
    declared = (name for part in model.__mro__ for name in vars(part).get("__annotations__", ()))
    for name in dict.fromkeys(name for name in declared if name in model.model_fields):
        found[name] = own = Key(name, model.model_fields[name])
        if name not in registries or own.extra.get("table"):
            continue
        for kind in registries[name]:
            for key in keys(registries[name][kind]).values():
                if key.name not in model.model_fields:
                    before = found[key.name].owners if key.name in found else ()
                    first = found.get(key.name, key)
                    owners = (*before, (name, kind))
                    shared = owners == tuple((name, kind) for kind in registries[name])
                    found[key.name] = Key(key.name, first.field, owners, shared)
    return found


def explain(error: ValidationError, model: type[BaseModel], *, file: bool = False) -> list[str]:
    """Return a sentence for every error, beginning with the key, for example `training.members: expected ...`.

    Of a `file` unknown keys are keys, else options of the Python interface.
    """
    groups: dict[tuple[Any, ...], list[Any]] = {}
    for item in error.errors(include_url=False):
        location = item["loc"]
        groups.setdefault(location[:-1] if _is_branch(location) else location, []).append(item)
    return [
        _sentence(items[0], model, file=file) if len(items) == 1 else _alternatives(items, model, file=file)
        for items in groups.values()
    ]


def _is_branch(location: tuple[Any, ...]) -> bool:
    """Return whether the end of a location names one of several types that an option may have, not a key."""
    return len(location) > 1 and str(location[-1]).startswith(_BRANCHES)


def _alternatives(items: Sequence[Any], model: type[BaseModel], *, file: bool) -> str:
    """Return the sentence for an option of several types, of which the value has none."""
    wanted = []
    for item in items:
        if item["type"] == "literal_error":
            wanted.append(item["ctx"]["expected"])
        else:
            wanted.append(_sentence(item, model, file=file).rpartition("expected ")[2].partition(", got ")[0])
    value = spell_value(items[0]["input"], file=file)
    return f"{_spell_path(items[0]['loc'][:-1])} = {value}: expected {', or '.join(wanted)}"


def option_name(key: str) -> str:
    """Return the option of the command line that stands for a key.

    Examples
    --------
    >>> option_name("radial_cutoff")
    '--radial-cutoff'
    """
    return "--" + key.replace("_", "-")


def spell_value(value: object, *, file: bool = True) -> str:
    """Return a value as it stands in a TOML file, or else in Python, shortened."""
    if not file:
        return _shorten(repr(value))
    if isinstance(value, tuple):
        value = list(value)
    try:
        text = json.dumps(value, ensure_ascii=False)
    except TypeError:  # dates
        text = str(value)
    return _shorten(text)


def _shorten(text: str) -> str:
    return text if len(text) <= 60 else text[:57] + "..."


def _sentence(item: Any, model: type[BaseModel], *, file: bool) -> str:
    kind, value, context = item["type"], item["input"], item.get("ctx", {})
    *above, last = location = item["loc"] or ("",)
    path = _spell_path(location)
    if kind == "extra_forbidden":
        hint = _hint(str(last), tuple(above), model)
        return f"{path}: unknown key; {hint}" if file else f"unknown option '{path}': {hint}"
    if kind == "missing":
        return f"{path}: is missing; {_missing_hint(location)}"
    if kind == "value_error":
        return _join(path, str(context["error"]))
    if kind == "literal_error":
        return (
            f"{path} = {spell_value(value, file=file)}: {nearest_name(str(value), _choices(location, model))}"
        )
    if kind == "choice":
        above_it = _spell_path(tuple(above) if context["beside"] else location)
        return "\n".join(_join(above_it, text) for text in context["text"].splitlines())
    return f"{path}{_expectation(item, model, file=file)}"


def _expectation(item: Any, model: type[BaseModel], *, file: bool) -> str:
    """Return what was expected at a place, and what came."""
    kind, location, value = item["type"], item["loc"] or ("",), spell_value(item["input"], file=file)
    if kind in _LIMITS:
        limit = _LIMITS[kind]
        key = keys(_section(location[:-1], model)).get(str(location[-1]))
        words = bounds(key) if key else _words({limit: item["ctx"][limit]}, "number")
        given = item["input"]
        return (
            f" = {given if isinstance(given, str) else value}: expected {words}"  # a text of the command line
        )
    if kind in ("too_short", "string_too_short"):
        expected = "at least one entry" if kind == "too_short" else "a name"
    elif kind == "string_pattern_mismatch":
        expected = "the name of an .extxyz file, without a folder"
    else:
        expected = _EXPECTED.get(kind, "") + _or_none(location, model)
    return f": expected {expected}, got {value}" if expected else f": {item['msg']}, got {value}"


def _spell_path(location: tuple[str | int, ...]) -> str:
    """Return `training.hidden[1]` for ("training", "hidden", 1)."""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location)
    return text.removeprefix(".")


def _join(path: str, message: str) -> str:
    """Put the path of a section before a message of the Python interface, which may begin with the key."""
    if not path:
        return message
    if re.match(rf"{re.escape(path.rpartition('.')[2])}\b", message):  # of the key itself
        return path.removesuffix(path.rpartition(".")[2]) + message
    return f"{path}.{message}" if re.match(r"[\w.\[\]]+( = |: | belongs )", message) else f"{path}: {message}"


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
        if isinstance(inner, type) and issubclass(inner, BaseModel) and name in _all_keys(inner):
            return f"it belongs to [{section}]"
    return nearest_name(name, keys(_section(above, model)))


def _all_keys(model: type[BaseModel]) -> set[str]:
    """Return the keys of a table, which may be one for several kinds of something."""
    kinds = registry_of(model) or ()
    return set(keys(model)).union(*(keys(kinds[kind]) for kind in kinds))


def _missing_hint(location: tuple[str | int, ...]) -> str:
    if location == ("data",):
        return 'begin with\n[data]\ntrain = "train.extxyz"'
    return 'for example train = "train.extxyz"' if location[-1] == "train" else "add it"


def _or_none(location: tuple[str | int, ...], model: type[BaseModel]) -> str:
    """Return ` or "none"` for a key that takes it."""
    key = keys(_section(location[:-1], model)).get(str(location[-1]))
    none = key.extra.get("none") if key is not None else ""
    return f' or "{none}"' if none else ""


def _choices(location: tuple[str | int, ...], model: type[BaseModel]) -> list[str]:
    field = _section(location[:-1], model).model_fields.get(str(location[-1]))
    return [] if field is None else [str(choice) for choice in literals(field)]


def literals(field: FieldInfo) -> list[Any]:
    """Return the values that an option may have, if it is one of a few."""
    found = [item for item in (field.annotation, *get_args(field.annotation)) if get_origin(item) is Literal]
    return [choice for literal in found for choice in get_args(literal)]


def bounds(key: Key) -> str:
    """Return in words which numbers a key may have, empty if any.

    Examples
    --------
    >>> from pydantic import Field
    >>> bounds(Key("copies", FieldInfo.from_annotated_attribute(int, Field(ge=1))))
    '1 or more'
    >>> bounds(Key("alpha", FieldInfo.from_annotated_attribute(float, Field(ge=0, lt=1))))
    'a fraction from 0 to below 1'
    """
    limits = {
        name: getattr(item, name)
        for item in key.field.metadata
        for name in _LIMITS.values()
        if getattr(item, name, None) is not None
    }
    held = {
        item for part in (key.field.annotation, *get_args(key.field.annotation)) for item in _parts_of(part)
    }
    unit = f" in {key.extra['unit']}" if key.extra.get("unit") else ""
    return _words(limits, "number" if float in held else "whole number", unit) if limits else ""


def _parts_of(annotation: Any) -> Iterable[Any]:
    return (annotation, *get_args(annotation))


def _words(limits: Mapping[str, float], kind: str, unit: str = "") -> str:
    """Return `a positive number in Å`, `1 or more`, `a fraction from 0 to 1`."""
    low, high = limits.get("gt", limits.get("ge")), limits.get("lt", limits.get("le"))
    if high is None and low is not None:
        if low == 0 and kind == "number":
            return f"a positive number{unit}" if "gt" in limits else f"a number{unit} that is not negative"
        return f"{low:g} or more" if "ge" in limits else f"a {kind} greater than {low:g}{unit}"
    if low is None:
        return f"a {kind} {'below' if 'lt' in limits else 'up to'} {high:g}{unit}"
    noun = "fraction" if (low, high) == (0, 1) and kind == "number" else kind
    begin = f"above {low:g}" if "gt" in limits else f"from {low:g}"
    end = {("gt", "le"): ", up to ", ("gt", "lt"): " and below ", ("ge", "lt"): " to below "}
    middle = end.get(("gt" if "gt" in limits else "ge", "lt" if "lt" in limits else "le"), " to ")
    return f"a {noun} {begin}{middle}{high:g}{unit}"
