"""Options: every one is declared once, with its type, unit, bounds, default and a sentence about it.

Sections of a configuration, options of the command line, the commented template and the pages of the documentation are
made from these declarations. A `Registry` knows the kinds of something (kernels, solvers, optimisers, ...) by name. An
option that names a kind takes the name or an object, and the options of the kind stand beside the name:

    optimizer = "adamw", learning_rate = 1e-3    is    optimizer = AdamW(learning_rate=1e-3)
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Generic, Self, TypeVar
from typing import dataclass_transform as _dataclass_transform

import numpy as np
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    ValidationError,
    ValidationInfo,
    model_validator,
)
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from gprann.errors import ConfigError, nearest_name
from gprann.explain import choices, explain, keys, literals, option_name, registry_of, spell_value

if TYPE_CHECKING:
    from pydantic._internal._model_construction import ModelMetaclass as _ModelMetaclass
else:
    _ModelMetaclass = type(BaseModel)  # pydantic does not publish its name

N = TypeVar("N", bound="Named")
A = TypeVar("A", bound="Options")
FILE, _TEXTS = {"texts": False}, {"texts": True}
"""Contexts of a validation: of the plain data of a file, and of the texts of a command line, which are converted."""


@dataclass(slots=True)
class _Beside:
    """A kind of something, and options that stood beside its name."""

    kind: Any
    options: dict[str, Any] = field(default_factory=dict)


@_dataclass_transform(kw_only_default=True, field_specifiers=(Field,))
class _Explained(_ModelMetaclass):
    """Makes a `ConfigError` in plain words of what is wrong with the options of a call."""

    def __call__(self, *args: Any, **values: Any) -> Any:
        fields: dict[str, Any] = self.model_fields  # type: ignore[attr-defined]
        positional = [name for name, field in fields.items() if field.kw_only is False]
        if len(args) > len(positional) or set(positional[: len(args)]) & set(values):
            raise TypeError(f"{self.__name__}: positional arguments: {', '.join(positional) or 'none'}, once")
        try:
            return super().__call__(**dict(zip(positional, args, strict=False)), **values)
        except ValidationError as error:
            sentences = explain(error, self)  # type: ignore[arg-type]
        raise ConfigError("\n".join(sentences))


class Options(BaseModel, metaclass=_Explained):
    """A table of options: unknown names and values of another type are errors; immutable.

    Examples
    --------
    >>> class Sizes(Options):
    ...     copies: int = option("Copies of each structure.", 10, ge=1)
    >>> Sizes(copies=3).copies
    3
    >>> Sizes(copies=0)
    Traceback (most recent call last):
    ...
    gprann.errors.ConfigError: copies = 0: expected 1 or more
    """

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, allow_inf_nan=False, validate_default=True
    )

    @model_validator(mode="before")
    @classmethod
    def _collect(cls, values: Any, info: ValidationInfo) -> Any:
        """Make plain numbers of NumPy's, so that options can be written to files, and gather options of kinds."""
        if not isinstance(values, Mapping):
            return values
        plain = {
            name: value.item() if isinstance(value, np.generic) else value for name, value in values.items()
        }
        if info.context is _TEXTS:  # among numbers pydantic finds no choice
            known = keys(cls)
            for name in set(plain) & set(known):
                found = [item for item in literals(known[name].field) if str(item) == plain[name]]
                plain[name] = found[0] if found else plain[name]
        return _gather(cls, plain)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Make options of what `to_dict` gave, perhaps read from a file.

        Raises
        ------
        ConfigError
            In the words of a configuration.
        """
        return _validate(cls, values, FILE)

    @classmethod
    def from_texts(cls, values: Mapping[str, Any]) -> Self:
        """Make options of those of a command line, whose values are texts.

        Raises
        ------
        ConfigError
            Naming the option.

        Examples
        --------
        >>> class Sizes(Options):
        ...     copies: int = option("Copies of each structure.", 10, ge=1)
        >>> Sizes.from_texts({"copies": "3"})
        Sizes(copies=3)
        >>> Sizes.from_texts({"copies": "many"})
        Traceback (most recent call last):
        ...
        gprann.errors.ConfigError: --copies: expected a whole number, got "many"
        """
        try:
            return _validate(cls, values, _TEXTS)
        except ConfigError as error:
            lines = str(error).splitlines()
        raise ConfigError("\n".join(re.sub(r"^\w+", lambda key: option_name(key[0]), line) for line in lines))

    @classmethod
    def part_of(cls, other: Options) -> Self:
        """Return these options of a table that has them among others."""
        return cls(**{name: getattr(other, name) for name in cls.model_fields})

    def replace(self, **changes: Any) -> Self:
        """Return a checked copy with some options changed."""
        return type(self)(**{name: getattr(self, name) for name in type(self).model_fields} | changes)

    def to_dict(self) -> dict[str, Any]:
        """Return the options as plain data, those of kinds beside the names of these.

        Raises
        ------
        ConfigError
            If a kind is not registered: a file that names it could not be read again.
        """
        cls = type(self)
        result: dict[str, Any] = {}
        registries, known = choices(cls), keys(cls)
        for name in cls.model_fields:
            value = getattr(self, name)
            if isinstance(value, Named) and value.registry is not None:
                plain = value.registry.to_dict(value)
                if name not in registries or known[name].extra.get("table"):
                    result[name] = plain
                    continue
                for key in set(plain) & set(cls.model_fields) - {"kind", *value.changes()}:
                    del plain[key]  # an option of the table, not of the kind
                result |= _spread(name, plain, known)
            elif isinstance(value, Options):
                result[name] = value.to_dict()
            else:
                result |= self.model_dump(mode="json", include={name})
        return result

    def changes(self) -> dict[str, Any]:
        """Return the options that differ from their defaults, those of kinds as an object."""
        found, registries = {}, choices(type(self))
        for name, item in type(self).model_fields.items():
            value, default = getattr(self, name), item.get_default(call_default_factory=True)
            if name in registries and isinstance(default, str):
                default = registries[name].make(default)
            if value != default:
                found[name] = value
        return found


def _validate(cls: type[A], values: Mapping[str, Any], context: dict[str, bool]) -> A:
    try:
        strict = False if context is _TEXTS else None
        return cls.model_validate(dict(values), strict=strict, context=context)
    except ValidationError as error:
        sentences = explain(error, cls, file=True)
    raise ConfigError("\n".join(sentences))


def _gather(cls: type[Options], values: dict[str, Any]) -> dict[str, Any]:
    """Put the options of kinds to the names of these, beside which they stand."""
    registries = choices(cls)
    if not registries:
        return values
    known, result = keys(cls), dict(values)
    for name, registry in registries.items():
        value = result.get(name)
        if isinstance(value, Mapping) and "kind" not in value:
            default = cls.model_fields[name].default
            result[name] = {"kind": default if isinstance(default, str) else next(iter(registry)), **value}
    for key in [key for key in values if key not in cls.model_fields and key in known]:
        owner = _owner(cls, key, known[key].owners, result)
        if not isinstance(result.get(owner), _Beside):
            result[owner] = _Beside(result.get(owner, cls.model_fields[owner].default))
        result[owner].options[key] = result.pop(key)
    return result


def _owner(cls: type[Options], key: str, owners: Sequence[tuple[str, str]], values: Mapping[str, Any]) -> str:
    """Return which of the options that name a kind an option belongs to."""
    fits = []
    for name in dict.fromkeys(name for name, _ in owners):
        given = values.get(name, cls.model_fields[name].default)
        given = given.kind if isinstance(given, _Beside) else given
        chosen = given.get("kind") if isinstance(given, Mapping) else getattr(given, "name", given)
        fits += [name] if (name, chosen) in owners else []
    if len(fits) > 1:
        raise ConfigError(
            f"{key} belongs to {' and to '.join(fits)}: give it in a table, "
            f"{fits[0]} = {{ kind = ..., {key} = ... }}"
        )
    return fits[0] if fits else owners[0][0]


def _spread(name: str, plain: dict[str, Any], known: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of a kind beside its name, or in a table if others have the same names."""
    kind = plain["kind"]
    inner = [key for key in plain if key != "kind"]
    alone = all(key in known and {owner for owner, _ in known[key].owners} == {name} for key in inner)
    return {name: kind, **{key: plain[key] for key in inner}} if alone else {name: plain}


def option(
    description: str,
    default: Any = ...,
    *,
    unit: str = "",
    example: Any = None,
    none: str = "",
    table: bool = False,
    **limits: Any,
) -> Any:
    """Declare an option.

    Parameters
    ----------
    description : str
        One sentence.
    default
        Default value. Without one the option is required. Of an option that names a kind: its name.
    unit : str
    example
        A value for the template, where the default is None.
    none : str
        How a TOML file, which knows no None, spells it.
    table : bool
        Of an option that names a kind: whether its options stand in a table of their own instead of beside the name.
    **limits
        Bounds as pydantic names them: `ge`, `gt`, `le`, `lt`, `min_length`, ...
    """
    extra = {"unit": unit, "example": example, "none": none, "table": table}
    return Field(default, description=description, json_schema_extra=extra, **limits)


class Named(Options):
    """Options of something that a configuration or a file can name: a kernel, a solver, an optimiser, ...

    A base class with a registry is the type of an option that names one of the kinds. The options of the kind then
    stand beside the name:

        class Optimizer(Named):
            pass

        OPTIMIZERS = Registry("optimizer", Optimizer)

        @OPTIMIZERS.register
        class AdamW(Optimizer):
            name = "adamw"
            learning_rate: float = option("Learning rate.", 1e-3, gt=0)

        class TrainingOptions(Options):
            optimizer: Optimizer = option("How the networks are trained.", "lm")

        TrainingOptions(optimizer="adamw", learning_rate=0.1)  # or optimizer=AdamW(learning_rate=0.1)
    """

    name: ClassVar[str] = ""
    registry: ClassVar[Registry[Any] | None] = None
    """The kinds of a base class; None for a kind."""

    def __str__(self) -> str:
        return self.name or type(self).__name__

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        registry = registry_of(cls)
        if registry is None:
            return handler(source)
        return core_schema.with_info_plain_validator_function(
            registry.validate,
            serialization=core_schema.plain_serializer_function_ser_schema(
                lambda thing: {"kind": thing.name, **thing.to_dict()}
            ),
        )


class Registry(Generic[N]):
    """The kinds of something by name.

    Parameters
    ----------
    what : str
        What they are, as `kernel`: the name of the option that names one of them.
    base : type
        Class that they are derived from: the type of such an option.

    Examples
    --------
    >>> class Kernel(Named):
    ...     pass
    >>> kernels = Registry("kernel", Kernel)
    >>> @kernels.register
    ... class Linear(Kernel):
    ...     name = "linear"
    ...     slope: float = option("Slope.", 1.0)
    >>> kernels.make("linear", slope=2.0), kernels.to_dict(Linear(slope=3.0))
    (Linear(slope=2.0), {'kind': 'linear', 'slope': 3.0})
    """

    def __init__(self, what: str, base: type[N]) -> None:
        self.what = what
        self._base = base
        self._kinds: dict[str, type[N]] = {}
        base.registry = self

    def __iter__(self) -> Iterator[str]:
        return iter(self._kinds)

    def __getitem__(self, name: str) -> type[N]:
        return self._kind(name, None)

    def _kind(self, name: Any, context: dict[str, bool] | None) -> type[N]:
        if not isinstance(name, str) or name not in self._kinds:
            given = spell_value(name, file=context is not None)
            raise ConfigError(f"{self.what} = {given}: {nearest_name(str(name), self)}")
        return self._kinds[name]

    def register(self, kind: type[N]) -> type[N]:
        """Make a kind known by its `name`; usable as a decorator.

        Raises
        ------
        ConfigError
            If it has no name, or another kind has the same.
        """
        if not kind.name:
            raise ConfigError(f"{kind.__name__}: give it a name, as name = 'mine'")
        known = self._kinds.get(kind.name)
        if known is not None and _address(known) != _address(kind):
            raise ConfigError(f"{self.what} '{kind.name}': {known.__qualname__} has this name already")
        self._kinds[kind.name] = kind
        return kind

    def make(self, given: str | N, **options: Any) -> N:
        """Return what is given by name, with these options, or the object itself.

        Raises
        ------
        ConfigError
            If the name or an option is unknown, or there are options beside an object, which has its own.
        """
        return self._make(given, options, None)

    def _make(self, given: Any, options: Mapping[str, Any], context: dict[str, bool] | None) -> N:
        if isinstance(given, self._base):
            if options:
                raise ConfigError(
                    f"{', '.join(options)}: give options of the {self.what} to {type(given).__name__}(...)"
                )
            return given
        kind = self._kind(given, context)
        self.check(given, options)
        return kind(**options) if context is None else _validate(kind, options, context)

    def validate(self, value: Any, info: ValidationInfo) -> N:
        """Make the value of an option that names a kind, with the options that stand beside it or in a table."""
        try:
            if isinstance(value, _Beside) and isinstance(value.kind, Mapping):
                return self._of_table({**value.kind, **value.options}, info.context)
            if isinstance(value, Mapping):
                return self._of_table(value, info.context)
            beside = value if isinstance(value, _Beside) else _Beside(value)
            return self._make(beside.kind, beside.options, info.context)
        except ConfigError as error:
            context = {"text": str(error), "beside": not isinstance(value, Mapping)}
            raise PydanticCustomError("choice", "{text}", context) from None

    def _of_table(self, table: Mapping[str, Any], context: dict[str, bool] | None) -> N:
        options = dict(table)
        return self._make(options.pop("kind"), options, context)

    def check(self, name: str, options: Mapping[str, Any]) -> None:
        """Refuse options that the kind of this name does not have.

        Raises
        ------
        ConfigError
            Naming the kinds that have the option, or the nearest name.
        """
        known = keys(self[name])
        for key in options:
            if key in known:
                continue
            owners = [f"'{other}'" for other in self if key in keys(self[other])]
            if owners:
                raise ConfigError(f"{key} belongs to {self.what} = {' or '.join(owners)}, not to '{name}'")
            raise ConfigError(f"{key}: unknown key; {nearest_name(key, known)}")

    def to_dict(self, thing: N) -> dict[str, Any]:
        """Return name and options as plain data, for a file.

        Raises
        ------
        ConfigError
            If its class is not registered: a file could not be read again.
        """
        if self._kinds.get(thing.name) is not type(thing):
            raise ConfigError(
                f"{type(thing).__name__} is no registered {self.what}, so a file cannot name it: register the class "
                "before saving, and in every program that loads the file"
            )
        return {"kind": thing.name, **thing.to_dict()}

    def from_dict(self, settings: Mapping[str, Any]) -> N:
        """Make what `to_dict` described.

        Raises
        ------
        ConfigError
            If the kind is unknown here.
        """
        name = str(settings.get("kind", ""))
        if name not in self._kinds:
            raise ConfigError(
                f"the {self.what} '{name}' of the file is unknown here ({', '.join(self._kinds)}): import the program "
                "that registers it first"
            )
        return self._of_table(settings, FILE)


def _address(kind: type[Named]) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"


def _as_tuple(value: object) -> object:
    plain = value.tolist() if isinstance(value, np.ndarray) else value
    return tuple(plain) if isinstance(plain, list) else plain


def _names(value: object) -> object:
    """Take one name for a list of one."""
    return (value,) if isinstance(value, str) else _as_tuple(value)


def _path(value: object) -> object:
    return os.fspath(value) if isinstance(value, os.PathLike) else value


def _unless_none(value: object) -> object:
    return None if value == "none" else value


Names = Annotated[tuple[str, ...], BeforeValidator(_names), Field(min_length=1)]
Widths = Annotated[tuple[int, ...], BeforeValidator(_as_tuple)]
ThreeNumbers = Annotated[tuple[float, float, float], BeforeValidator(_as_tuple)]
OrderOrNone = Annotated[int | None, BeforeValidator(_unless_none)]
PathText = Annotated[str, BeforeValidator(_path), Field(min_length=1)]
