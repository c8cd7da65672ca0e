"""Grids of hyperparameters, all points of which are tried (Yeu et al., npj Comput. Mater. 11, 156 (2025))."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

import numpy as np

from gprann.errors import ConfigError, nearest_name
from gprann.surrogate.hyperparameters.settings import Fixed, Settings, with_fixed

__all__ = ["Grid"]

_NOISES = (1e-10, 1e-8, 1e-6, 1e-4)


@dataclass(frozen=True, slots=True)
class Grid:
    """Lengths and noises that are combined with each other; without any noises both go through the same ones.

    Attributes
    ----------
    length : sequence of float
        In units of the fingerprint's spread.
    energy_noise, force_noise : sequence of float, optional
        Relative variances. Default: 1e-10, 1e-8, 1e-6 and 1e-4, the same for both if neither is given.

    Raises
    ------
    ConfigError
        If a value is no positive number, or there is none.

    Examples
    --------
    >>> len(Grid().points()), len(Grid(length=[4, 8], force_noise=[1e-8]).points())
    (20, 8)
    """

    length: Sequence[float] = (2.0, 4.0, 8.0, 16.0, 32.0)
    energy_noise: Sequence[float] | None = None
    force_noise: Sequence[float] | None = None

    def __post_init__(self) -> None:
        for item in fields(self):
            values = getattr(self, item.name)
            if values is None:
                continue
            if not _are_positive(values):
                raise ConfigError(f"grid: {item.name} = {values!r}: expected a list of positive numbers")
            object.__setattr__(self, item.name, tuple(float(value) for value in values))

    @classmethod
    def make(cls, given: Mapping[str, Sequence[float]], fixed: Fixed) -> Grid:
        """Make a grid from what the user states.

        Parameters
        ----------
        given : mapping
            Lists by the names of the attributes.
        fixed : tuple of length, energy noise and force noise
            Those that the user states by themselves, None for the others.

        Raises
        ------
        ConfigError
            If a key is misspelt or stated by itself too, or a value is impossible.
        """
        names = [item.name for item in fields(cls)]
        for name in given:
            if name not in names:
                raise ConfigError(f"grid: {name}: {nearest_name(str(name), names)}")
            value = fixed[names.index(name)]
            if value is not None:
                raise ConfigError(f"grid: {name} is given already, as {value}; leave one of both out")
        return cls(**given)

    def points(self, fixed: Fixed = (None, None, None)) -> list[Settings]:
        """Return all combinations, each once, with those hyperparameters that are given in their places."""
        pairs = [(noise, noise) for noise in _NOISES]
        if self.energy_noise is not None or self.force_noise is not None:
            pairs = list(itertools.product(self.energy_noise or _NOISES, self.force_noise or _NOISES))
        points = [with_fixed(Settings(length, *pair), fixed) for length in self.length for pair in pairs]
        return list(dict.fromkeys(points))


def _are_positive(values: object) -> bool:
    """Return whether this is a list of positive numbers that is not empty."""
    if not isinstance(values, Sequence | np.ndarray) or isinstance(values, str) or len(values) == 0:
        return False
    numbers = (int, float, np.integer, np.floating)
    return all(
        isinstance(value, numbers) and not isinstance(value, bool) and np.isfinite(value) and value > 0
        for value in values
    )
