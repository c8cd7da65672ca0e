"""Options of surrogates that a function passes on, checked before it does any work."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from typing import Any

from gprann.errors import ConfigError, nearest_name
from gprann.surrogate.surrogate import Surrogate

__all__ = ["check_surrogate_options"]


def check_surrogate_options(options: Iterable[str], function: Callable[..., Any]) -> None:
    """Refuse options that neither a surrogate has nor the function they were given to.

    Parameters
    ----------
    options : iterable of str
        Names.
    function : callable
        Its own keywords are named too where a name is misspelt.

    Raises
    ------
    ConfigError

    Examples
    --------
    >>> import gprann
    >>> check_surrogate_options(["fmx"], gprann.relax)
    Traceback (most recent call last):
    ...
    gprann.errors.ConfigError: unknown option 'fmx': did you mean 'fmax'?
    """
    known = inspect.signature(Surrogate).parameters
    parameters = inspect.signature(function).parameters.items()
    own = [name for name, item in parameters if item.kind is item.KEYWORD_ONLY]
    for name in options:
        if name not in known:
            raise ConfigError(f"unknown option '{name}': {nearest_name(name, [*own, *known])}")
