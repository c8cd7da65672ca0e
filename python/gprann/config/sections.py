"""The sections of a configuration. Defaults are those of the Python functions that they configure."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator

from gprann.augmentation import augment, taylor_augment
from gprann.augmentation.gpr import CopyOptions
from gprann.descriptors import ChebyshevDescriptor
from gprann.io import read
from gprann.io.frames import check_keys
from gprann.surrogate import Surrogate
from gprann.surrogate.fingerprints import standing_weights
from gprann.surrogate.solvers import SolverName
from gprann.training import TrainingOptions

__all__ = [
    "AugmentationSection",
    "Config",
    "DataSection",
    "DescriptorSection",
    "OutputSection",
    "ResourcesSection",
    "Section",
    "SurrogateSection",
    "TrainingSection",
]


class Section(BaseModel):
    """A table of keys: unknown keys and values of another type are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


def _option(
    description: str,
    default: Any = ...,
    *,
    unit: str = "",
    example: Any = None,
    none: str = "",
    **limits: Any,
) -> Any:
    """Return a field with all that the template writes about it; `none` is how TOML spells the value None."""
    extra = {"unit": unit, "example": example, "none": none}
    return Field(default, description=description, json_schema_extra=extra, **limits)


def _default(function: Callable[..., Any], name: str) -> Any:
    """Return the default of a parameter of the Python interface."""
    return inspect.signature(function).parameters[name].default


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


def _unless_none(value: object) -> object:
    return None if value == "none" else value


Names = Annotated[tuple[str, ...], BeforeValidator(_names), Field(min_length=1)]
Widths = Annotated[tuple[int, ...], BeforeValidator(_as_tuple)]
Channels = Annotated[tuple[tuple[float, ...], ...], BeforeValidator(_channels)]
OrderOrNone = Annotated[int | None, BeforeValidator(_unless_none)]


class DataSection(Section):
    """Structures with their energies and forces. Units: Å, eV, eV/Å; energies are total energies."""

    train: Names = _option(
        "Training structures: a file, folder or glob pattern, or a list of these. Extended XYZ, ænet XSF, and "
        "whatever ASE reads with energies and forces. Relative paths start at the folder of this file.",
        example="train.extxyz",
    )
    test: Names | None = _option(
        "Structures to evaluate the potential on, given as for `train`. Without them it is evaluated on the "
        "training structures alone.",
        None,
        example="test.extxyz",
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


class DescriptorSection(Section):
    """Chebyshev descriptor of the networks."""

    species: Names | None = _option(
        "Elements, in the order that sets their weights. Default: those of the training structures, in "
        "alphabetical order.",
        None,
        example=["C", "H", "O"],
    )
    radial_order: int = _option(
        "Highest Chebyshev polynomial of the distances.", _default(ChebyshevDescriptor, "radial_order")
    )
    radial_cutoff: float = _option(
        "Cutoff of the distances.", _default(ChebyshevDescriptor, "radial_cutoff"), unit="Å"
    )
    angular_order: OrderOrNone = _option(
        'Highest Chebyshev polynomial of the angles; "none" for no angular part.',
        _default(ChebyshevDescriptor, "angular_order"),
        none="none",
    )
    angular_cutoff: float = _option(
        "Cutoff of the angular part.", _default(ChebyshevDescriptor, "angular_cutoff"), unit="Å"
    )
    weights: Channels | None = _option(
        "Weights of the species, one list for each channel after the first. Default: those of the ænet "
        "program; for the surrogate the same without a zero.",
        None,
        example=[[-1.0, 1.0, 2.0]],
    )

    @model_validator(mode="after")
    def _check(self) -> DescriptorSection:
        if self.species is not None or self.weights is None:
            self.build(self.species or ("H",))
        return self

    def build(self, species: Sequence[str], *, standing: bool = False) -> ChebyshevDescriptor:
        """Return the descriptor; `species` count where the section names none.

        With `standing`, weights that are not given have no zero.
        """
        names = self.species or tuple(species)
        weights: Any = self.weights
        if weights is None and standing and len(names) > 1:
            weights = [standing_weights(len(names))]
        return ChebyshevDescriptor(
            names,
            radial_order=self.radial_order,
            radial_cutoff=self.radial_cutoff,
            angular_order=self.angular_order,
            angular_cutoff=self.angular_cutoff,
            weights=weights,
        )


class SurrogateSection(Section):
    """Gaussian-process surrogate: learns energies and forces, and labels the copies."""

    kernel: Literal["atoms", "pairs", "cartesian"] = _option(
        'Kernel: "atoms" sums over the environments of the atoms (the most accurate, for any system), "pairs" '
        'uses inverse distances in a fixed order of atoms, "cartesian" the coordinates.',
        _default(Surrogate, "kernel"),
    )
    length: float | None = _option(
        "Kernel length in units of the spread of the fingerprints. Default: from the training structures.",
        _default(Surrogate, "length"),
        example=8.0,
    )
    energy_noise: float | None = _option(
        "Noise variance of the energies relative to the mean variance of the gradients. Default: from the "
        "training structures.",
        _default(Surrogate, "energy_noise"),
        example=1e-8,
    )
    force_noise: float | None = _option(
        "The same of the forces.", _default(Surrogate, "force_noise"), example=1e-8
    )
    exponent: float = _option(
        "Pairs kernel: inverse power of the distances.", _default(Surrogate, "exponent")
    )
    cutoff: float = _option(
        "Pairs kernel: cutoff in periodic structures.", _default(Surrogate, "cutoff"), unit="Å"
    )
    solver: SolverName = _option(
        'How the weights are found: "cholesky" by the covariance matrix of all energies and forces, '
        '"conjugate_gradient" without it, "inducing" from its part for representative structures; "auto" the first '
        "that fits into the memory.",
        _default(Surrogate, "solver"),
    )
    memory: float | None = _option(
        "Largest memory of a fit. Default: what is available.",
        _default(Surrogate, "memory"),
        unit="GiB",
        example=4.0,
    )
    tolerance: float = _option(
        "Conjugate gradients: largest residual relative to the energies and forces.",
        _default(Surrogate, "tolerance"),
    )
    inducing: int | None = _option(
        "Number of representative structures of the last two solvers. Default: what memory and time allow.",
        _default(Surrogate, "inducing"),
        example=50,
    )
    descriptor: DescriptorSection | None = _option(
        "Descriptor of the atoms kernel; the networks have theirs in [descriptor].", None
    )

    @model_validator(mode="after")
    def _check(self) -> SurrogateSection:
        self.build((self.descriptor and self.descriptor.species) or ("H",), 0)
        return self

    def build(self, species: Sequence[str], seed: int) -> Surrogate:
        """Return a surrogate that has not been fitted, for structures with these elements."""
        descriptor = None if self.descriptor is None else self.descriptor.build(species, standing=True)
        settings = {name: getattr(self, name) for name in type(self).model_fields if name != "descriptor"}
        return Surrogate(**settings, descriptor=descriptor, seed=seed)


class AugmentationSection(Section):
    """Displaced copies of the training structures, labelled with energies."""

    method: Literal["gpr", "taylor", "none"] = _option(
        'Who labels the copies: "gpr" the surrogate, "taylor" a first-order Taylor expansion with the forces; '
        '"none" for no copies: the networks see the energies of the training structures alone.',
        "gpr",
    )
    copies: int = _option(
        "Copies of each training structure; 10 to 40 are enough.", _default(augment, "copies"), ge=1
    )
    displacement: float | None = _option(
        "Size of the displacements: gpr the standard deviation of each component "
        f"(default {_default(augment, 'displacement')}), taylor the largest length "
        f"(default {_default(taylor_augment, 'displacement')}).",
        None,
        unit="Å",
        example=_default(augment, "displacement"),
        gt=0,
    )
    strategy: Literal["A", "B"] = _option(
        "Taylor: A moves one atom at a time along x, y and z, B all atoms at random.",
        _default(taylor_augment, "strategy"),
    )
    threshold: float | None = _option(
        "Gpr: copies whose predicted standard deviation per structure exceeds it are not trained on.",
        _default(augment, "threshold"),
        unit="eV",
        example=0.05,
        gt=0,
    )
    label_next: str = _option(
        "File in the output folder for the copies that exceed the threshold: compute and add them next.",
        "label_next.extxyz",
        pattern=r"^[^/\\]+\.(extxyz|xyz)$",
    )
    max_subset: int = _option(
        "Most structures of a surrogate; larger sets are divided. Memory grows with its square.",
        _default(augment, "max_subset"),
        ge=1,
    )
    seed: int = _option("Seed of the displacements and the subsets.", _default(augment, "seed"), ge=0)

    @property
    def size(self) -> float:
        """The displacement that the method uses, Å."""
        if self.displacement is not None:
            return self.displacement
        return float(_default(taylor_augment if self.method == "taylor" else augment, "displacement"))

    def copy_options(self) -> CopyOptions:
        """Return the options of gpr copies."""
        return CopyOptions(
            copies=self.copies,
            displacement=self.size,
            seed=self.seed,
            threshold=self.threshold,
            max_subset=self.max_subset,
        )


class TrainingSection(Section):
    """Networks, trained on energies."""

    hidden: Widths = _option("Widths of the hidden layers.", _default(TrainingOptions, "hidden"))
    activation: Literal["tanh", "softplus", "silu", "linear"] = _option(
        'Activation of the hidden layers: "tanh", "softplus", "silu" or "linear".',
        _default(TrainingOptions, "activation"),
    )
    optimizer: Literal["lm", "adamw"] = _option(
        'Optimiser: "lm" (Levenberg-Marquardt) or "adamw".', _default(TrainingOptions, "optimizer")
    )
    members: int = _option(
        "Networks of the committee, which differ by seed; 10 give a standard deviation with every prediction.",
        _default(TrainingOptions, "members"),
    )
    seed: int = _option(
        "Seed of the starts and of the held-out structures.", _default(TrainingOptions, "seed")
    )
    iterations: int | None = _option(
        "Most iterations of lm, or epochs of adamw. Default: "
        f"{TrainingOptions(optimizer='lm').max_iterations} and {TrainingOptions(optimizer='adamw').max_iterations}.",
        _default(TrainingOptions, "iterations"),
        example=TrainingOptions(optimizer="lm").max_iterations,
    )
    validation: float = _option(
        "Fraction of the training structures held out, with their copies, to choose the best iteration.",
        _default(TrainingOptions, "validation"),
    )
    patience: int | None = _option(
        "Stop after so many iterations or epochs without a better validation error. Default: "
        f"{TrainingOptions(optimizer='lm').max_patience} and {TrainingOptions(optimizer='adamw').max_patience}.",
        _default(TrainingOptions, "patience"),
        example=TrainingOptions(optimizer="lm").max_patience,
    )
    starts: int = _option(
        "Random starts that lm tries, to go on with the best.", _default(TrainingOptions, "starts")
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
    ridge: float = _option(
        "Lm: penalty on the squared parameters beside the mean squared error, in units of the energy scale.",
        _default(TrainingOptions, "ridge"),
    )
    reference_energies: dict[str, float] | None = _option(
        "Energy of each element. Default: least squares on the composition.",
        None,
        unit="eV/atom",
        example={"C": -1036.1, "H": -13.7, "O": -2043.2},
    )

    @model_validator(mode="after")
    def _check(self) -> TrainingSection:
        TrainingOptions(**self.options())
        return self

    def options(self) -> dict[str, Any]:
        """Return the keywords of `TrainingOptions`."""
        return {item.name: getattr(self, item.name) for item in fields(TrainingOptions)}


class ResourcesSection(Section):
    """What a run may use. Nothing here changes the results."""

    memory: float | None = _option(
        "Largest memory of a run; refused before the start if more is needed. Default: what is available.",
        None,
        unit="GiB",
        example=8.0,
        gt=0,
    )
    workers: int | None = _option(
        "Processes that train members side by side. Default: as many as there are processors, for large jobs.",
        None,
        example=2,
        ge=1,
    )


class OutputSection(Section):
    """Results."""

    folder: str = _option("Folder of the results; made by the run.", "results", min_length=1)
    plots: bool = _option("Draw the plots of the report; needs matplotlib.", True)


class Config(Section):
    """A whole run: from structures to an evaluated potential.

    Examples
    --------
    >>> config = Config.model_validate({"data": {"train": "train.extxyz"}, "training": {"members": 10}})
    >>> config.training.members, config.augmentation.copies, config.descriptor.radial_cutoff
    (10, 36, 6.5)
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

        def all_absolute(names: tuple[str, ...] | None) -> tuple[str, ...] | None:
            return names and tuple(absolute(name) for name in names)

        data = {"train": all_absolute(self.data.train), "test": all_absolute(self.data.test)}
        return self.model_copy(
            update={
                "data": self.data.model_copy(update=data),
                "output": self.output.model_copy(update={"folder": absolute(self.output.folder)}),
            }
        )
