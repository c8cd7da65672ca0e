"""The sections of a configuration. Defaults are those of the Python functions that they configure."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

from pydantic import Field, create_model, model_validator

from gprann.baselines import Baseline
from gprann.config.augmentation import AugmentationSection
from gprann.descriptors import DESCRIPTORS, Descriptor
from gprann.io import ReadOptions
from gprann.options import Named, Names, Options, Registry
from gprann.options import option as _option
from gprann.surrogate.options import SurrogateOptions
from gprann.surrogate.surrogate import Surrogate
from gprann.training.options import TrainingOptions

__all__ = [
    "AugmentationSection",
    "Config",
    "DataSection",
    "DescriptorSection",
    "OutputSection",
    "ResourcesSection",
    "SurrogateSection",
    "TrainingSection",
]


def _default(function: Callable[..., Any], name: str) -> Any:
    """Return the default of a parameter of the Python interface."""
    return inspect.signature(function).parameters[name].default


class DataSection(ReadOptions):
    """Structures with their energies and forces. Units: Å, eV, eV/Å; energies are total energies."""

    train: Names = _option(
        "Training structures: a file, folder or glob pattern, or a list of these. Extended XYZ, ænet XSF, and "
        "whatever ASE reads with energies and forces. Relative paths start at the folder of this file.",
        example="train.extxyz",
    )
    test: Names | None = _option(
        "Structures to evaluate the potential on, given as for `train`. Default: a part of the training structures, "
        "see `test_fraction`.",
        None,
        example="test.extxyz",
    )
    test_fraction: float = _option(
        "Without test structures: part of the training structures that is split off as a test set, of every group and "
        "composition. Single structures of a composition and isolated atoms stay; 0: none is split off.",
        0.1,
        ge=0,
        lt=1,
    )


class DescriptorSettings(Named):
    """The options of a descriptor, but for the elements, which the data tell."""

    descriptor: ClassVar[type[Descriptor]]


class _DescriptorKinds(Registry[DescriptorSettings]):
    """The settings of all registered descriptors, those that users have registered among them."""

    def __iter__(self) -> Iterator[str]:
        return iter(DESCRIPTORS)

    def __getitem__(self, name: str) -> type[DescriptorSettings]:
        return self._kind(name, None)

    def _kind(self, name: Any, context: dict[str, bool] | None) -> type[DescriptorSettings]:
        if name not in DESCRIPTORS:
            return super()._kind(name, context)  # refuses it
        descriptor = DESCRIPTORS[name]
        known = self._kinds.get(name)
        if known is None or known.descriptor is not descriptor:
            fields: Any = {
                key: (item.annotation, item)
                for key, item in descriptor.model_fields.items()
                if key != "species"
            }
            known = create_model(f"{descriptor.__name__}Settings", __base__=DescriptorSettings, **fields)
            known.name, known.descriptor = name, descriptor
            self._kinds[name] = known
        return known


_DescriptorKinds("kind", DescriptorSettings)


class DescriptorSection(Options):
    """Descriptor of the environments of atoms."""

    species: Names | None = _option(
        "Elements, in the order that sets their weights. Default: those of the training structures, in "
        "alphabetical order.",
        None,
        example=["C", "H", "O"],
    )
    kind: DescriptorSettings = _option(
        'Kind of descriptor: "chebyshev", or one that a program has registered.', "chebyshev"
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        given = {
            key
            for key, item in type(self.kind).model_fields.items()
            if getattr(self.kind, key) != item.default
        }
        open_ones = {key for key, item in type(self.kind).model_fields.items() if item.default is None}
        if self.species is not None or not given & open_ones:  # else the options may depend on the elements
            self.build(self.species or ("H",))
        return self

    def build(self, species: Sequence[str], *, for_kernel: bool = False) -> Descriptor:
        """Return the descriptor; `species` count where the section names none.

        With `for_kernel`, options that are not given have the defaults that suit the kernel of a surrogate.
        """
        descriptor = type(self.kind).descriptor
        make = descriptor.for_kernel if for_kernel else descriptor
        options = {key: getattr(self.kind, key) for key in type(self.kind).model_fields}
        return make(self.species or tuple(species), **options)


class SurrogateSection(SurrogateOptions):
    """Gaussian-process surrogate: learns energies and forces, and labels the copies."""

    descriptor: DescriptorSection | None = _option(
        "Descriptor of the atoms kernel; the networks have theirs in [descriptor].", None
    )

    @model_validator(mode="after")
    def _check_descriptor(self) -> SurrogateSection:
        self.build((self.descriptor and self.descriptor.species) or ("H",), 0)
        return self

    def build(self, species: Sequence[str], seed: int) -> Surrogate:
        """Return a surrogate that has not been fitted, for structures with these elements."""
        options = SurrogateOptions.part_of(self)
        if self.descriptor is not None:
            if "descriptor" not in type(self.kernel).model_fields:
                raise ValueError(f"descriptor belongs to kernel = 'atoms', not to '{self.kernel.name}'")
            kernel = self.kernel.replace(descriptor=self.descriptor.build(species, for_kernel=True))
            options = options.replace(kernel=kernel)
        return Surrogate(**options.changed(), seed=seed)


class TrainingSection(TrainingOptions):
    """Networks, trained on energies, or on energies and forces."""

    start_from: str | None = _option(
        "Potential to go on from (fine-tuning): its networks, normalisation and baseline.",
        None,
        example="results/potential.gprann",
    )

    def options(self) -> dict[str, Any]:
        """Return the options of `gprann.train` that are set."""
        given = {**self.changed(), **({"model": self.model} if "model" in self.model_fields_set else {})}
        return {name: value for name, value in given.items() if name != "start_from"}

    def to_dict(self) -> dict[str, Any]:
        """Return the options as plain data; without a model where it is that of the potential to start from."""
        follows = self.start_from is not None and "model" not in self.model_fields_set
        left_out = {"model", *type(self.model).model_fields} if follows else set()
        return {name: value for name, value in super().to_dict().items() if name not in left_out}


class ResourcesSection(Options):
    """What a run may use. Nothing here changes the results, unless memory is short: it then decides on the surrogate's
    solver, and on the size of the subsets that its hyperparameters come from. Another memory repeats the labels."""

    memory: float | None = _option(
        "Largest memory of a run; refused before the start if more is needed, and the surrogate's solver chosen by it."
        " Default: what is available.",
        None,
        unit="GiB",
        example=8.0,
        gt=0,
    )
    workers: int | None = _option(
        "Processes that train members side by side, and most surrogates side by side. Default: as many as there are "
        "processors, for large jobs.",
        None,
        example=2,
        ge=1,
    )


class OutputSection(Options):
    """Results."""

    folder: str = _option("Folder of the results; made by the run.", "results", min_length=1)
    plots: bool = _option("Draw the plots of the report; needs matplotlib.", True)


class Config(Options):
    """A whole run: from structures to an evaluated potential.

    Examples
    --------
    >>> config = Config.model_validate({"data": {"train": "train.extxyz"}, "training": {"members": 10}})
    >>> config.training.members, config.augmentation.policy, config.descriptor.radial_cutoff
    (10, 'gaussian', 6.5)
    """

    data: DataSection
    baseline: Baseline | None = TrainingOptions.model_fields["baseline"]  # type: ignore[assignment]
    descriptor: DescriptorSection = Field(default_factory=DescriptorSection)
    surrogate: SurrogateSection = Field(default_factory=SurrogateSection)
    augmentation: AugmentationSection = Field(default_factory=AugmentationSection)
    training: TrainingSection = Field(default_factory=TrainingSection)
    resources: ResourcesSection = Field(default_factory=ResourcesSection)
    output: OutputSection = Field(default_factory=OutputSection)

    @model_validator(mode="after")
    def _share_baseline(self) -> Self:
        """Let surrogates and networks have the baseline, unless they have their own."""
        for name in ("surrogate", "training"):
            section = getattr(self, name)
            if self.baseline is not None and getattr(section, "baseline", self.baseline) is None:
                object.__setattr__(self, name, section.model_copy(update={"baseline": self.baseline}))
        return self

    def resolved(self, base: Path) -> Config:
        """Return the configuration with absolute paths; relative ones start at `base`."""

        def absolute(name: str) -> str:
            return str(base.absolute() / Path(name).expanduser())

        def if_given(name: str | None) -> str | None:
            return name and absolute(name)

        def all_absolute(names: tuple[str, ...] | None) -> tuple[str, ...] | None:
            return names and tuple(absolute(name) for name in names)

        data = {"train": all_absolute(self.data.train), "test": all_absolute(self.data.test)}
        return self.model_copy(
            update={
                "data": self.data.model_copy(update=data),
                "augmentation": self.augmentation.model_copy(
                    update={"hessians": if_given(self.augmentation.hessians)}
                ),
                "training": self.training.model_copy(
                    update={"start_from": if_given(self.training.start_from)}
                ),
                "output": self.output.model_copy(update={"folder": absolute(self.output.folder)}),
            }
        )
