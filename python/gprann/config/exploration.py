"""The configuration of an exploration."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from gprann.config.files import find_config, read_config
from gprann.config.sections import DescriptorSection, OutputSection, SurrogateSection, TrainingSection
from gprann.errors import ConfigError, refuse_unused
from gprann.options import Options, option
from gprann.sampling.options import (
    ChoiceOptions,
    ConvergenceOptions,
    ReferenceOptions,
    ReplicaOptions,
    StartOptions,
)

_MEMBERS = 4  # networks, unless another number is asked for: one alone knows no uncertainty


class ExploreConfig(Options):
    """An exploration: from structures and a calculator to a potential whose simulations are stable.

    Examples
    --------
    >>> config = ExploreConfig.model_validate(
    ...     {"start": {"structures": "start.extxyz"}, "reference": {"calculator": "emt"}}
    ... )
    >>> config.dynamics.replicas, config.choice.rule
    (3, 'informative')
    """

    model: Literal["quadratic", "linear", "network", "surrogate"] = option(
        'What is fitted to all labels, energies and forces, in each generation: "quadratic" and "linear" polynomials '
        'of the descriptor, in closed form; "network" a committee of networks; "surrogate" the Gaussian process.',
        "quadratic",
    )
    start: StartOptions
    reference: ReferenceOptions
    dynamics: ReplicaOptions = Field(default_factory=ReplicaOptions)
    choice: ChoiceOptions = Field(default_factory=ChoiceOptions)
    convergence: ConvergenceOptions = Field(default_factory=ConvergenceOptions)
    descriptor: DescriptorSection = Field(default_factory=DescriptorSection)
    training: TrainingSection = Field(default_factory=TrainingSection)
    surrogate: SurrogateSection = Field(default_factory=SurrogateSection)
    output: OutputSection = Field(default_factory=lambda: OutputSection(folder="exploration"))

    @model_validator(mode="after")
    def _check_tables(self) -> Self:
        unused = ("training", "descriptor") if self.model == "surrogate" else ("surrogate",)
        for name in unused:
            table: Options = getattr(self, name)
            reason = f"it does not belong to model = '{self.model}'"
            refuse_unused(dict.fromkeys(table.changes(), reason), table, partial("{}.{}".format, name))
        kind, expected = self.training.model, "mlp" if self.model == "network" else self.model
        if kind.name != expected and (kind.name != "mlp" or kind.changes()):
            options = ", ".join(f"training.{name}" for name in ("model", *kind.changes()))
            raise ConfigError(
                f"{options}: belongs to '{kind.name}', not to model = '{self.model}' of the exploration; leave it out"
            )
        return self

    @model_validator(mode="after")
    def _fit_forces(self) -> Self:
        """Let potentials learn forces, and networks be several."""
        if self.model == "surrogate":
            return self
        several = self.model == "network" and "members" not in self.training.model_fields_set
        changes = {"forces": True, **({"members": _MEMBERS} if several else {})}
        training = self.training.model_copy(update=changes)
        if self.model == "network" and training.members == 1 and self.choice.rule == "informative":
            raise ConfigError(
                "training.members = 1: a single network does not know how uncertain it is; give more, or another "
                "choice.rule"
            )
        object.__setattr__(self, "training", training)
        return self

    def resolve(self, base: Path) -> ExploreConfig:
        """Return the configuration with absolute paths; relative ones start at `base`."""

        def absolute(name: str) -> str:
            return str(base.absolute() / Path(name).expanduser())

        def all_absolute(names: tuple[str, ...] | None) -> tuple[str, ...] | None:
            return names and tuple(absolute(name) for name in names)

        start = {name: all_absolute(getattr(self.start, name)) for name in ("structures", "labels")}
        names = {name: getattr(self.training, name) for name in ("start_from", "store")}
        return self.model_copy(
            update={
                "start": self.start.model_copy(update=start),
                "convergence": self.convergence.model_copy(
                    update={"test": all_absolute(self.convergence.test)}
                ),
                "training": self.training.model_copy(
                    update={name: path and absolute(path) for name, path in names.items()}
                ),
                "output": self.output.model_copy(update={"folder": absolute(self.output.folder)}),
            }
        )


def default_exploration() -> ExploreConfig:
    """Return the configuration in which nothing but examples of a start and a calculator are set."""
    return ExploreConfig.model_validate(
        {"start": {"structures": "start.extxyz"}, "reference": {"calculator": "emt"}}
    )


def load_exploration(path: str | os.PathLike[str]) -> ExploreConfig:
    """Read the configuration of an exploration; its relative paths become absolute, starting at its folder.

    Raises
    ------
    ConfigError
        If the file is missing or no TOML, or has an unknown key or an impossible value.
    """
    file = find_config(path)
    return read_config(file, ExploreConfig).resolve(file.parent)
