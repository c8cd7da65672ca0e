"""Options: every one is declared once, with its type, unit, bounds, default and a sentence about it.

Sections of a configuration, options of the command line, the commented template and the pages of the documentation are
made from these declarations. `Registry` finds kernels, solvers, optimisers and the like by name.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Generic, Literal, Self, TypeVar, dataclass_transform

import numpy as np
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainValidator,
    ValidationError,
    model_validator,
)

from gprann.errors import ConfigError, nearest_name
from gprann.explain import explain

if TYPE_CHECKING:
    from pydantic._internal._model_construction import ModelMetaclass as _ModelMetaclass
else:
    _ModelMetaclass = type(BaseModel)  # pydantic does not publish its name

__all__ = [
    "Channels",
    "Named",
    "Names",
    "Options",
    "OrderOrNone",
    "Registry",
    "SpeciesLengths",
    "Widths",
    "option",
]

T = TypeVar("T", bound="Named")


@dataclass_transform(kw_only_default=True, field_specifiers=(Field,))
class _Explained(_ModelMetaclass):
    """Makes a `ConfigError` in plain words of what is wrong with the options of a call."""

    def __call__(self, *args: Any, **values: Any) -> Any:
        try:
            return super().__call__(*args, **values)
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
    gprann.errors.ConfigError: copies: expected a number not smaller than 1, got 0
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _plain(cls, values: Any) -> Any:
        """Take numbers of NumPy for plain ones, so that options can be written to files."""
        if not isinstance(values, Mapping):
            return values
        return {
            name: value.item() if isinstance(value, np.generic) else value for name, value in values.items()
        }

    def replace(self, **changes: Any) -> Self:
        """Return a checked copy with some options changed."""
        return type(self)(**{name: getattr(self, name) for name in type(self).model_fields} | changes)

    def to_dict(self) -> dict[str, Any]:
        """Return the options as plain data."""
        return self.model_dump(mode="json")


def option(
    description: str,
    default: Any = ...,
    *,
    unit: str = "",
    example: Any = None,
    none: str = "",
    **limits: Any,
) -> Any:
    """Declare an option.

    Parameters
    ----------
    description : str
        One sentence.
    default
        Default value. Without one the option is required.
    unit : str
    example
        A value for the template, where the default is None.
    none : str
        How a TOML file, which knows no None, spells it.
    **limits
        Bounds as pydantic names them: `ge`, `gt`, `le`, `lt`, `min_length`, ...
    """
    extra = {"unit": unit, "example": example, "none": none}
    return Field(default, description=description, json_schema_extra=extra, **limits)


def default(function: Callable[..., Any], name: str) -> Any:
    """Return the default of a parameter of the Python interface."""
    return inspect.signature(function).parameters[name].default


class Named(Options):
    """Options of something that a configuration or a file can name: a kernel, a solver, an optimiser, ..."""

    name: ClassVar[str] = ""


class Registry(Generic[T]):
    """The kinds of something by name.

    Parameters
    ----------
    what : str
        What they are, as `kernel`: the name of the option that names one of them.

    Examples
    --------
    >>> class Kernel(Named):
    ...     pass
    >>> kernels: Registry[Kernel] = Registry("kernel")
    >>> @kernels.register
    ... class Linear(Kernel):
    ...     name = "linear"
    ...     slope: float = option("Slope.", 1.0)
    >>> kernels.make("linear", slope=2.0), kernels.to_dict(Linear(slope=3.0))
    (Linear(slope=2.0), {'kind': 'linear', 'slope': 3.0})
    """

    def __init__(self, what: str) -> None:
        self.what = what
        self._kinds: dict[str, type[T]] = {}

    def __iter__(self) -> Iterator[str]:
        return iter(self._kinds)

    def __getitem__(self, name: str) -> type[T]:
        if name not in self._kinds:
            raise ConfigError(f"{self.what} = '{name}': {nearest_name(name, self._kinds)}")
        return self._kinds[name]

    def register(self, kind: type[T]) -> type[T]:
        """Make a kind known by its `name`; usable as a decorator.

        Raises
        ------
        ConfigError
            If it has no name, or another kind has the same.
        """
        if not kind.name:
            raise ConfigError(f"{kind.__name__}: give it a name, as name = 'mine'")
        known = self._kinds.get(kind.name)
        if known is not None and (known.__module__, known.__qualname__) != (
            kind.__module__,
            kind.__qualname__,
        ):
            raise ConfigError(f"{self.what} '{kind.name}': {known.__qualname__} has this name already")
        self._kinds[kind.name] = kind
        return kind

    def make(self, given: str | T, **options: Any) -> T:
        """Return what is given by name, with these options, or the object itself.

        Raises
        ------
        ConfigError
            If the name or an option is unknown, or there are options beside an object, which has its own.
        """
        if not isinstance(given, str):
            if options:
                raise ConfigError(
                    f"{', '.join(options)}: give options of the {self.what} to {type(given).__name__}(...)"
                )
            return given
        self.check(given, options)
        return self[given](**options)

    def check(self, name: str, options: Mapping[str, Any]) -> None:
        """Refuse options that the kind of this name does not have.

        Raises
        ------
        ConfigError
            Naming the kinds that have the option, or the nearest name.
        """
        for key in options:
            if key in self[name].model_fields:
                continue
            owners = [f"'{other}'" for other, kind in self._kinds.items() if key in kind.model_fields]
            if owners:
                raise ConfigError(f"{key} belongs to {self.what} = {' or '.join(owners)}, not to '{name}'")
            raise ConfigError(f"unknown option '{key}': {nearest_name(key, self[name].model_fields)}")

    def to_dict(self, thing: T) -> dict[str, Any]:
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

    def from_dict(self, settings: Mapping[str, Any]) -> T:
        """Make what `to_dict` described.

        Raises
        ------
        ConfigError
            If the kind is unknown here.
        """
        options = dict(settings)
        name = str(options.pop("kind", ""))
        if name not in self._kinds:
            raise ConfigError(
                f"the {self.what} '{name}' of the file is unknown here ({', '.join(self._kinds)}): import the program "
                "that registers it first"
            )
        return self[name].model_validate(options, strict=False)


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
