"""Options of training, checked once."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, Literal

import numpy as np

from gprann.errors import ConfigError, nearest_name
from gprann.models.network import ACTIVATIONS

__all__ = ["OPTIMIZERS", "TrainingOptions"]

OPTIMIZERS = ("auto", "lm", "gauss_newton_cg", "lbfgs", "adamw")
SCHEDULES = ("cosine", "exponential", "constant")
_SECOND_ORDER = ("lm", "gauss_newton_cg")
_DENSE = 5000  # parameters up to which the normal equations are set up and solved
_WHOLE = 20000  # structures up to which an optimiser sweeps over all of them for every step
_MIXED_ITERATIONS, _MIXED_PATIENCE, _MIXED_STARTS = 100, 20, 8  # of sets of several compositions
_FRACTIONS = ("validation", "alpha", "force_fraction")
_POSITIVE = ("learning_rate", "label_noise", "huber_energy", "huber_force")
_NOT_NEGATIVE = ("weight_decay", "ridge", "stress")
_OPTIONAL = ("iterations", "patience", "starts", "ridge", "label_noise", "huber_energy", "huber_force")


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingOptions:
    """How the networks are trained.

    Attributes
    ----------
    hidden : tuple of int
        Widths of the hidden layers.
    activation : {'tanh', 'softplus', 'silu', 'linear'}
    optimizer : {'auto', 'lm', 'gauss_newton_cg', 'lbfgs', 'adamw'}
        Levenberg-Marquardt; the same steps by conjugate gradients, without the matrix; L-BFGS; AdamW on
        minibatches. 'auto' chooses by the numbers of weights and structures, and says why.
    forces : bool
        Fit forces too, of those structures that have them: (1 - alpha) L_E + alpha L_F, the mean squared errors
        of energies and of force components (Yeu et al., eq. 5).
    alpha : float
        Share of the forces in the loss.
    force_fraction : float
        Part of the force components that counts, drawn anew for every iteration or epoch.
    stress : float
        Factor of the mean squared error of the virials (stress times volume, eV) of periodic structures that
        have a stress, added to the loss; 0 leaves stresses out.
    huber_energy, huber_force : float or None, eV and eV/Å
        Residuals beyond count linearly, so that outliers do not decide; None: all are squared.
    group_weights, species_weights : mapping of str to float
        Factors of the weights of the structures of a group, and of the forces on the atoms of an element.
    max_rows : int
        'lm' with forces: residuals behind the equations of one iteration; with more, structures are drawn at
        random for them, while the loss that a step must lower remains that of all.
    frozen : tuple of int
        Layers, counted from 0 at the descriptor, whose weights and biases stay as they are.
    members : int
        Committee members, which differ by seed.
    seed : int
        Member k uses the random stream (seed, k).
    iterations : int or None
        Most iterations (default 40 for LM on energies, 100 with forces or for several compositions, 1000 for L-BFGS)
        or AdamW epochs (default 1000).
    validation : float
        Fraction of the reference structures held out, with all copies made from them, to judge when to stop
        and which state to keep. None where it makes less than two structures.
    patience : int or None
        Stop after so many iterations without a better validation error (default 10 for LM, 20 for energies of
        several compositions, 200 for L-BFGS and AdamW).
    starts : int or None
        Random starts that LM tries for a few iterations, to go on with the best (default 4, for several compositions
        8; with forces, which leave fewer ways to go astray, 1).
    start_iterations : int
        LM iterations each of them gets; with more than four starts the best quarter gets twice as many, and
        so on.
    per_atom : bool
        Weigh the squared error of a structure of N atoms by 1/N², so that errors per atom count alike.
    label_noise : float or None, eV
        Weigh structures whose energy has the variance v by label_noise² / (label_noise² + v), their forces too;
        None: all labels alike.
    learning_rate, weight_decay, batch_size
        Of AdamW (the paper's: 1e-4, 1e-3, 32).
    schedule : {'cosine', 'exponential', 'constant'}
        Course of AdamW's learning rate, down to a hundredth.
    warmup : int
        Epochs over which AdamW's learning rate rises.
    ridge : float or None
        LM and L-BFGS: penalty on the squared parameters beside the mean squared error, in units of the energy
        scale (default 1e-7, with forces 1e-8). Keeps tanh out of saturation, from which no step comes back.
    """

    hidden: tuple[int, ...] = (10, 10)
    activation: Literal["tanh", "softplus", "silu", "linear"] = "tanh"
    optimizer: Literal["auto", "lm", "gauss_newton_cg", "lbfgs", "adamw"] = "auto"
    forces: bool = False
    alpha: float = 0.98
    force_fraction: float = 1.0
    stress: float = 0.0
    huber_energy: float | None = None
    huber_force: float | None = None
    group_weights: Mapping[str, float] = field(default_factory=dict)
    species_weights: Mapping[str, float] = field(default_factory=dict)
    max_rows: int = 60000
    frozen: tuple[int, ...] = ()
    members: int = 1
    seed: int = 0
    iterations: int | None = None
    validation: float = 0.1
    patience: int | None = None
    starts: int | None = None
    start_iterations: int = 15
    per_atom: bool = False
    label_noise: float | None = None
    learning_rate: float = 1e-3
    weight_decay: float = 1e-3
    batch_size: int = 32
    schedule: Literal["cosine", "exponential", "constant"] = "cosine"
    warmup: int = 0
    ridge: float | None = None

    def __post_init__(self) -> None:
        self._convert_layers("hidden", "layer widths, such as (10, 10)")
        self._convert_layers("frozen", "numbers of layers, such as (0,)")
        self._convert(
            (
                "members",
                "seed",
                "iterations",
                "starts",
                "start_iterations",
                "batch_size",
                "patience",
                "max_rows",
                "warmup",
            ),
            operator.index,
        )
        self._convert((*_FRACTIONS, *_POSITIVE, *_NOT_NEGATIVE), float)
        for name in ("group_weights", "species_weights"):
            self._convert_weights(name)
        for name in ("forces", "per_atom"):
            if not isinstance(getattr(self, name), bool | np.bool_):
                raise ConfigError(f"{name} = {getattr(self, name)!r}: expected true or false")
            object.__setattr__(self, name, bool(getattr(self, name)))
        for name, valid in (
            ("optimizer", OPTIMIZERS),
            ("activation", ACTIVATIONS),
            ("schedule", SCHEDULES),
        ):
            value = getattr(self, name)
            if value not in valid:
                raise ConfigError(f"{name} = '{value}': {nearest_name(str(value), valid)}")
        self._check_counts()
        self._check_numbers()

    def _convert_layers(self, name: str, expected: str) -> None:
        try:
            object.__setattr__(self, name, tuple(operator.index(item) for item in getattr(self, name)))
        except TypeError:
            raise ConfigError(f"{name} = {getattr(self, name)!r}: expected {expected}") from None

    def _convert_weights(self, name: str) -> None:
        value = getattr(self, name)
        try:
            weights = {str(key): float(weight) for key, weight in value.items()}
        except (AttributeError, TypeError, ValueError):
            raise ConfigError(f"{name} = {value!r}: expected a table of names and numbers") from None
        for key, weight in weights.items():
            if not (np.isfinite(weight) and weight >= 0):
                raise ConfigError(f"{name}: {key} = {weight}: expected a number that is not negative")
        object.__setattr__(self, name, weights)

    def _check_counts(self) -> None:
        for name in (
            "members",
            "starts",
            "start_iterations",
            "batch_size",
            "iterations",
            "patience",
            "max_rows",
        ):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigError(f"{name} = {value}: expected 1 or more")
        for name in ("seed", "warmup"):
            if getattr(self, name) < 0:
                raise ConfigError(f"{name} = {getattr(self, name)}: expected 0 or more")
        for layer in self.frozen:
            if not 0 <= layer <= len(self.hidden):
                raise ConfigError(f"frozen: layer {layer} does not exist; expected 0 to {len(self.hidden)}")
        if len(set(self.frozen)) > len(self.hidden):
            raise ConfigError(f"frozen = {self.frozen}: these are all layers; leave one to be trained")

    def _check_numbers(self) -> None:
        if not 0 <= self.validation < 1:
            raise ConfigError(f"validation = {self.validation}: expected a fraction from 0 to below 1")
        if not 0 <= self.alpha <= 1:
            raise ConfigError(f"alpha = {self.alpha}: expected a fraction from 0 to 1")
        if not 0 < self.force_fraction <= 1:
            raise ConfigError(f"force_fraction = {self.force_fraction}: expected a fraction above 0, up to 1")
        for name in _POSITIVE:
            value = getattr(self, name)
            if value is not None and not (np.isfinite(value) and value > 0):
                raise ConfigError(f"{name} = {value}: expected a positive number")
        for name in _NOT_NEGATIVE:
            value = getattr(self, name)
            if value is not None and not (np.isfinite(value) and value >= 0):
                raise ConfigError(f"{name} = {value}: expected a number that is not negative")
        of_forces = {
            "stress": self.stress > 0,
            "force_fraction": self.force_fraction < 1,
            "species_weights": bool(self.species_weights),
        }
        for name in [name for name, given in of_forces.items() if given and not self.forces]:
            raise ConfigError(f"{name} has no effect without forces; add forces = true")

    def _convert(self, names: Sequence[str], convert: Callable[[Any], float]) -> None:
        """Make plain numbers of NumPy's, so that options can be written to files."""
        for name in names:
            value = getattr(self, name)
            if value is None and name in _OPTIONAL:
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
    def second_order(self) -> bool:
        """Whether the optimiser solves Gauss-Newton equations."""
        return self.optimizer in _SECOND_ORDER

    @property
    def max_iterations(self) -> int:
        """Most iterations or epochs."""
        return self.iterations or ((100 if self.forces else 40) if self.second_order else 1000)

    @property
    def penalty(self) -> float:
        """Penalty on the squared parameters."""
        return self.ridge if self.ridge is not None else (1e-8 if self.forces else 1e-7)

    @property
    def random_starts(self) -> int:
        """Random starts that are tried; without second-order steps one is as good as another."""
        return (self.starts or (1 if self.forces else 4)) if self.second_order else 1

    @property
    def max_patience(self) -> int:
        """Iterations or epochs without improvement before training stops."""
        return self.patience or (10 if self.second_order else 200)

    def resolved(self, n_parameters: int, n_structures: int) -> tuple[TrainingOptions, str]:
        """Return the options with an optimiser in the place of 'auto', and the reason for it.

        Parameters
        ----------
        n_parameters : int
            Of the networks of all species.
        n_structures : int
        """
        if self.optimizer != "auto":
            return self, "as asked"
        name: Literal["lm", "gauss_newton_cg", "adamw"]
        if n_parameters <= _DENSE:
            name = "lm"
            reason = f"{n_parameters} parameters: their normal equations are cheap, and converge fastest"
        elif n_structures <= _WHOLE:
            name = "gauss_newton_cg"
            reason = (
                f"{n_parameters} parameters: too many for normal equations (up to {_DENSE}); the same steps by "
                "conjugate gradients"
            )
        else:
            name = "adamw"
            reason = (
                f"{n_parameters} parameters and {n_structures} structures: too many to sweep for each step"
            )
        return replace(self, optimizer=name), reason

    def suited_to(self, n_compositions: int) -> TrainingOptions:
        """Return the options with the defaults of second-order steps for sets of one or of several compositions.

        A composition whose environments are unlike those of the rest is learned late, and from few of the starts:
        of energies, several compositions get more iterations, patience and starts.
        """
        if n_compositions == 1 or not self.second_order or self.forces:
            return self
        return replace(
            self,
            iterations=self.iterations or _MIXED_ITERATIONS,
            patience=self.patience or _MIXED_PATIENCE,
            starts=self.starts or _MIXED_STARTS,
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the options as plain data."""
        return {**asdict(self), "hidden": list(self.hidden), "frozen": list(self.frozen)}
