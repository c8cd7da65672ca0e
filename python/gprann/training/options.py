"""Options of training, checked once."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

import numpy as np

from gprann.errors import ConfigError, nearest_name
from gprann.models.network import ACTIVATIONS

__all__ = ["OPTIMIZERS", "TrainingOptions"]

OPTIMIZERS = ("lm", "adamw")


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingOptions:
    """How the networks are trained.

    Attributes
    ----------
    hidden : tuple of int
        Widths of the hidden layers.
    activation : {'tanh', 'softplus', 'silu', 'linear'}
    optimizer : {'lm', 'adamw'}
        Levenberg-Marquardt, or AdamW on minibatches.
    members : int
        Committee members, which differ by seed.
    seed : int
        Member k uses the random stream (seed, k).
    iterations : int or None
        Most LM iterations (default 40) or AdamW epochs (default 1000).
    validation : float
        Fraction of the reference structures held out, with all copies made from them, to judge when to stop
        and which state to keep.
    patience : int or None
        Stop after so many iterations without a better validation error (default 10 for LM, 200 epochs for
        AdamW).
    starts : int
        Random starts that LM tries for a few iterations, to go on with the best.
    start_iterations : int
        LM iterations each of them gets; with more than four starts the best quarter gets twice as many, and
        so on.
    per_atom : bool
        Errors in the loss per atom instead of per structure.
    label_noise : float or None, eV
        Weigh synthetic labels of variance v by label_noise² / (label_noise² + v); None: all labels alike.
    learning_rate, weight_decay, batch_size
        Of AdamW (the paper's: 1e-4, 1e-3, 32; here the rate decays to a hundredth along a cosine).
    ridge : float
        LM: penalty on the squared parameters beside the mean squared error, in units of the energy scale.
        Keeps tanh out of saturation, from which no step comes back.
    """

    hidden: tuple[int, ...] = (10, 10)
    activation: Literal["tanh", "softplus", "silu", "linear"] = "tanh"
    optimizer: Literal["lm", "adamw"] = "lm"
    members: int = 1
    seed: int = 0
    iterations: int | None = None
    validation: float = 0.1
    patience: int | None = None
    starts: int = 4
    start_iterations: int = 15
    per_atom: bool = False
    label_noise: float | None = None
    learning_rate: float = 1e-3
    weight_decay: float = 1e-3
    batch_size: int = 32
    ridge: float = 1e-7

    def __post_init__(self) -> None:
        try:
            object.__setattr__(self, "hidden", tuple(operator.index(width) for width in self.hidden))
        except TypeError:
            raise ConfigError(f"hidden = {self.hidden!r}: expected layer widths, such as (10, 10)") from None
        self._convert(
            ("members", "seed", "iterations", "starts", "start_iterations", "batch_size", "patience"),
            operator.index,
        )
        self._convert(("validation", "label_noise", "learning_rate", "weight_decay", "ridge"), float)
        for name, valid in (("optimizer", OPTIMIZERS), ("activation", ACTIVATIONS)):
            value = getattr(self, name)
            if value not in valid:
                raise ConfigError(f"{name} = '{value}': {nearest_name(str(value), valid)}")
        self._check_counts()
        self._check_numbers()

    def _check_counts(self) -> None:
        for name in ("members", "starts", "start_iterations", "batch_size", "iterations", "patience"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigError(f"{name} = {value}: expected 1 or more")
        if self.seed < 0:
            raise ConfigError(f"seed = {self.seed}: expected 0 or more")

    def _check_numbers(self) -> None:
        if not 0 <= self.validation < 1:
            raise ConfigError(f"validation = {self.validation}: expected a fraction from 0 to below 1")
        for name in ("learning_rate", "label_noise"):
            value = getattr(self, name)
            if value is not None and not (np.isfinite(value) and value > 0):
                raise ConfigError(f"{name} = {value}: expected a positive number")
        for name in ("weight_decay", "ridge"):
            value = getattr(self, name)
            if not (np.isfinite(value) and value >= 0):
                raise ConfigError(f"{name} = {value}: expected a number that is not negative")

    def _convert(self, names: Sequence[str], convert: Callable[[Any], float]) -> None:
        """Make plain numbers of NumPy's, so that options can be written to files."""
        for name in names:
            value = getattr(self, name)
            if value is None and name in ("iterations", "patience", "label_noise"):
                continue
            try:
                object.__setattr__(self, name, convert(value))
            except (TypeError, ValueError):
                kind = "whole number" if convert is operator.index else "number"
                raise ConfigError(f"{name} = {value!r}: expected a {kind}") from None

    @classmethod
    def from_keywords(cls, keywords: Mapping[str, Any]) -> TrainingOptions:
        """Make options from keywords.

        Raises
        ------
        ConfigError
            If a keyword is unknown, with the nearest valid name.
        """
        valid = [item.name for item in fields(cls)]
        for name in keywords:
            if name not in valid:
                raise ConfigError(f"unknown option '{name}': {nearest_name(name, valid)}")
        return cls(**keywords)

    @property
    def max_iterations(self) -> int:
        """Most iterations or epochs."""
        return self.iterations or (40 if self.optimizer == "lm" else 1000)

    @property
    def max_patience(self) -> int:
        """Iterations or epochs without improvement before training stops."""
        return self.patience or (10 if self.optimizer == "lm" else 200)

    def to_dict(self) -> dict[str, Any]:
        """Return the options as plain data."""
        return {**asdict(self), "hidden": list(self.hidden)}
