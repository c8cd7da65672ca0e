"""The sections of a configuration. Defaults are those of the Python functions that they configure."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

from pydantic import Field, create_model, field_validator, model_validator

from gprann.config.augmentation import AugmentationSection
from gprann.descriptors import DESCRIPTORS, Descriptor
from gprann.io import read
from gprann.io.labels import check_keys
from gprann.options import Named, Names, Options, Registry, Widths
from gprann.options import option as _option
from gprann.surrogate.options import SurrogateOptions
from gprann.surrogate.surrogate import Surrogate
from gprann.training import TrainingOptions

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


class DataSection(Options):
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
    index: str = _option(
        "Structures to take from each file, as in ASE: ':' all, '::10' every tenth.", _default(read, "index")
    )
    keys: dict[str, str] = _option(
        "Names under which extended XYZ files keep energy, forces, stress or virial, where these are not the "
        "standard ones.",
        {},
        example={"energy": "REF_energy", "forces": "REF_forces"},
    )

    @field_validator("keys")
    @classmethod
    def _check_keys(cls, keys: dict[str, str]) -> dict[str, str]:
        return check_keys(keys)


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


_MIXED = TrainingOptions(optimizer="lm").suited_to(2)


class TrainingSection(Options):
    """Networks, trained on energies, or on energies and forces."""

    hidden: Widths | None = _option(
        f"Widths of the hidden layers. Default: {list(TrainingOptions().hidden)}, or those of start_from.",
        None,
        example=TrainingOptions().hidden,
    )
    activation: Literal["tanh", "softplus", "silu", "linear"] | None = _option(
        'Activation of the hidden layers: "tanh", "softplus", "silu" or "linear". Default: '
        f'"{TrainingOptions().activation}", or that of start_from.',
        None,
        example=TrainingOptions().activation,
    )
    optimizer: Literal["auto", "lm", "gauss_newton_cg", "lbfgs", "adamw"] = _option(
        'Optimiser: "lm" (Levenberg-Marquardt), "gauss_newton_cg" (the same without a matrix), "lbfgs", "adamw", or '
        '"auto": by the numbers of weights and structures.',
        _default(TrainingOptions, "optimizer"),
    )
    members: int = _option(
        "Networks of the committee, which differ by seed; 10 give a standard deviation with every prediction.",
        _default(TrainingOptions, "members"),
    )
    seed: int = _option(
        "Seed of the starts and of the held-out structures.", _default(TrainingOptions, "seed")
    )
    forces: bool = _option(
        "Fit forces too, of the structures that have them: (1 - alpha) L_E + alpha L_F. Needs no copies.",
        _default(TrainingOptions, "forces"),
    )
    alpha: float = _option("Share of the forces in the loss.", _default(TrainingOptions, "alpha"))
    force_fraction: float = _option(
        "Part of the force components that counts, drawn anew for every iteration.",
        _default(TrainingOptions, "force_fraction"),
    )
    stress: float = _option(
        "Factor of the mean squared error of the virials (stress times volume) in the loss; 0: none.",
        _default(TrainingOptions, "stress"),
    )
    huber_energy: float | None = _option(
        "Energy errors beyond count linearly, so that outliers do not decide.",
        _default(TrainingOptions, "huber_energy"),
        unit="eV",
        example=0.1,
    )
    huber_force: float | None = _option(
        "Errors of force components beyond count linearly.",
        _default(TrainingOptions, "huber_force"),
        unit="eV/Å",
        example=0.5,
    )
    group_weights: dict[str, float] = _option(
        "Factors of the weights of the structures of a group.",
        {},
    )
    species_weights: dict[str, float] = _option(
        "Factors of the weights of the forces on the atoms of an element.",
        {},
    )
    max_rows: int = _option(
        "Lm with forces: residuals behind the equations of one iteration; of more, a random choice.",
        _default(TrainingOptions, "max_rows"),
    )
    frozen: Widths = _option(
        "Layers, counted from 0 at the descriptor, that stay as they are.",
        _default(TrainingOptions, "frozen"),
    )
    start_from: str | None = _option(
        "Potential to go on from (fine-tuning): its networks, normalisation and reference energies.",
        None,
        example="results/potential.gprann",
    )
    iterations: int | None = _option(
        "Most iterations of the optimiser, or epochs of adamw. Default: "
        f"{TrainingOptions(optimizer='lm').max_iterations} for lm and gauss_newton_cg "
        f"({TrainingOptions(optimizer='lm', forces=True).max_iterations} with forces, {_MIXED.max_iterations} "
        "with structures of several compositions), "
        f"{TrainingOptions(optimizer='adamw').max_iterations} for lbfgs and adamw.",
        _default(TrainingOptions, "iterations"),
        example=TrainingOptions(optimizer="lm").max_iterations,
    )
    validation: float = _option(
        "Fraction of the training structures held out, with their copies, to choose the best iteration.",
        _default(TrainingOptions, "validation"),
    )
    patience: int | None = _option(
        "Stop after so many iterations or epochs without a better validation error. Default: "
        f"{TrainingOptions(optimizer='lm').max_patience} for lm and gauss_newton_cg "
        f"({_MIXED.max_patience} with structures of several compositions), "
        f"{TrainingOptions(optimizer='adamw').max_patience} for lbfgs and adamw.",
        _default(TrainingOptions, "patience"),
        example=TrainingOptions(optimizer="lm").max_patience,
    )
    starts: int | None = _option(
        "Random starts that lm and gauss_newton_cg try, to go on with the best. Default: "
        f"{TrainingOptions(optimizer='lm').random_starts}, "
        f"with structures of several compositions {_MIXED.random_starts}, "
        f"with forces {TrainingOptions(optimizer='lm', forces=True).random_starts}.",
        _default(TrainingOptions, "starts"),
        example=TrainingOptions(optimizer="lm").random_starts,
    )
    start_iterations: int = _option(
        "Iterations of each start; with more than four starts the best quarter gets twice as many, and so on.",
        _default(TrainingOptions, "start_iterations"),
    )
    per_atom: bool = _option(
        "Fit errors per atom instead of per structure.", _default(TrainingOptions, "per_atom")
    )
    label_noise: float | None = _option(
        "Weigh copies of label variance v by label_noise² / (label_noise² + v). Default: all alike.",
        _default(TrainingOptions, "label_noise"),
        unit="eV",
        example=0.005,
    )
    learning_rate: float = _option("Adamw: learning rate.", _default(TrainingOptions, "learning_rate"))
    weight_decay: float = _option("Adamw: weight decay.", _default(TrainingOptions, "weight_decay"))
    batch_size: int = _option("Adamw: structures of a batch.", _default(TrainingOptions, "batch_size"))
    schedule: Literal["cosine", "exponential", "constant"] = _option(
        'Adamw: course of the learning rate, "cosine" or "exponential" (down to a hundredth) or "constant".',
        _default(TrainingOptions, "schedule"),
    )
    warmup: int = _option(
        "Adamw: epochs over which the learning rate rises.", _default(TrainingOptions, "warmup")
    )
    ridge: float | None = _option(
        "Lm, gauss_newton_cg and lbfgs: penalty on the squared parameters beside the mean squared error, in units of "
        f"the energy scale. Default: {TrainingOptions().penalty:g}, "
        f"with forces {TrainingOptions(forces=True).penalty:g}.",
        _default(TrainingOptions, "ridge"),
        example=TrainingOptions().penalty,
    )
    reference_energies: dict[str, float] | None = _option(
        "Energy of each element. Default: least squares on the composition.",
        None,
        unit="eV/atom",
        example={"C": -1036.1, "H": -13.7, "O": -2043.2},
    )

    @model_validator(mode="after")
    def _check(self) -> TrainingSection:
        options = self.options()
        if self.start_from is not None and self.hidden is None:
            del options["frozen"]  # counts layers of the potential, which has not been read yet
        TrainingOptions(**options)
        return self

    def options(self) -> dict[str, Any]:
        """Return the keywords of `TrainingOptions` that are set."""
        values = {item.name: getattr(self, item.name) for item in fields(TrainingOptions)}
        return {name: value for name, value in values.items() if value is not None}


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
    descriptor: DescriptorSection = Field(default_factory=DescriptorSection)
    surrogate: SurrogateSection = Field(default_factory=SurrogateSection)
    augmentation: AugmentationSection = Field(default_factory=AugmentationSection)
    training: TrainingSection = Field(default_factory=TrainingSection)
    resources: ResourcesSection = Field(default_factory=ResourcesSection)
    output: OutputSection = Field(default_factory=OutputSection)

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
