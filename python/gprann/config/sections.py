"""The sections of a configuration, composed of the options of what they configure, and the reading of its file."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import numpy as np
from pydantic import Field, create_model, model_validator

from gprann.augmentation.policies import CopyOptions
from gprann.augmentation.taylor import TaylorOptions
from gprann.baselines import Baseline
from gprann.config.files import find_config, read_config
from gprann.data.structure import Dataset, Structure
from gprann.descriptors import DESCRIPTORS, Descriptor, ProjectedDescriptor, compress_descriptor
from gprann.errors import ConfigError, refuse_unused
from gprann.io import ReadOptions
from gprann.options import Named, Names, Options, Registry, option
from gprann.runtime.executors import WorkersOption
from gprann.surrogate.options import SurrogateOptions
from gprann.surrogate.surrogate import Surrogate
from gprann.training.options import RankOptions, TrainingOptions

AUGMENTED = "augmented.extxyz"
"""File of a run with the structures that the networks are trained on."""


_OF = {
    "gpr": ("policy", "temperature", "steps", "threshold", "label_next"),
    "taylor": ("strategy", "order", "hessians"),
}
"""Keys that a method alone uses."""


class AugmentationSection(CopyOptions, TaylorOptions):
    """Displaced copies of the training structures, labelled with energies."""

    method: Literal["gpr", "taylor", "none"] = option(
        'Who labels the copies: "gpr" the surrogate, "taylor" a Taylor expansion with the forces; "none" for no '
        "copies: the networks see the energies of the training structures alone.",
        "gpr",
    )
    order: Literal[1, 2] = option(
        "With method taylor: 1 expands with the forces alone, 2 with Hessians as well, the surrogate's or those "
        "of `hessians`.",
        1,
    )
    hessians: str | None = option(
        "Taylor of order 2: file (.npz, as of numpy.savez(file, *hessians)) with a Hessian (3N, 3N) for each training "
        "structure. Default: those of the surrogate.",
        None,
        unit="eV/Å²",
        example="hessians.npz",
        min_length=1,
    )
    label_next: str = option(
        "File in the output folder for the copies to compute and add next: of those that exceed the threshold so "
        "many that the others would be certain, the most informative first.",
        "label_next.extxyz",
        pattern=r"^[^/\\]+\.(extxyz|xyz)$",
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.label_next.casefold() == AUGMENTED:  # on some systems the same file
            raise ConfigError(
                f"label_next = '{self.label_next}': the training structures are written to this file; give another name"
            )
        if self.method == "gpr":
            self.check_policy()
        if self.forces and self.method == "taylor":
            raise ConfigError(
                'forces = true: a Taylor expansion gives energies alone; use method "gpr", or leave it out'
            )
        return self

    def unused_options(self) -> dict[str, str]:
        """Return the keys that are set to something else than the default and have no effect, with the reason."""
        if self.method == "none":  # switched off, whatever else is set
            return {}
        other = "taylor" if self.method == "gpr" else "gpr"
        reasons = dict.fromkeys(_OF[other], f'it belongs to the method "{other}", not to "{self.method}"')
        if self.method == "gpr":
            reasons |= self.copy_options().unused_options()
        if self.method == "taylor" and self.strategy == "A":
            reasons["copies"] = "strategy A makes six of each atom"
        if self.method == "taylor" and self.order != 2:
            reasons["hessians"] = f"an expansion of order {self.order} has none, order 2 has"
        if not self.uses_surrogate:
            reasons["max_subset"] = "there is no surrogate"
        return {name: reasons[name] for name in self.changes() if name in reasons}

    def check_use(self, surrogate: Options, spell: Callable[[str, str], str] = lambda _, name: name) -> None:
        """Refuse keys without effect, here and in the section of a surrogate that is not used.

        Reading a configuration does not: `compare` uses the keys of several methods.

        Parameters
        ----------
        surrogate : SurrogateSection
        spell : callable
            How messages name a key of a section, `augmentation` or `surrogate`.

        Raises
        ------
        ConfigError
        """
        refuse_unused(self.unused_options(), self, lambda name: spell("augmentation", name))
        if self.method != "none" and not self.uses_surrogate:
            given = dict.fromkeys(surrogate.changes(), "there is no surrogate")
            given.pop("baseline", None)  # that of the networks too
            refuse_unused(given, surrogate, lambda name: spell("surrogate", name))

    def of_method(self, method: str) -> AugmentationSection:
        """Return the section for another method, the keys that it does not use as if they were not set."""
        section = self.model_copy(update={"method": method, "forces": False})
        fields = type(self).model_fields
        return section.model_copy(update={name: fields[name].default for name in section.unused_options()})

    @property
    def uses_surrogate(self) -> bool:
        """Whether the method needs a surrogate."""
        return self.method == "gpr" or (self.method == "taylor" and self.order == 2 and self.hessians is None)

    def most_copies(self, structure: Structure) -> int:
        """Return how many copies of a structure will be made, at most."""
        if self.method == "none":
            return 0
        if self.method == "taylor" and self.strategy == "A":
            return 6 * len(structure)
        return self.copy_options().count(structure, noise=np.inf if self.method == "gpr" else 0.0)

    def copy_options(self) -> CopyOptions:
        """Return the options of gpr copies."""
        return CopyOptions.part_of(self)

    def taylor_options(self) -> TaylorOptions:
        """Return the options of Taylor copies."""
        return TaylorOptions.part_of(self)


class DataSection(ReadOptions):
    """Structures with their energies and forces. Units: Å, eV, eV/Å; energies are total energies."""

    train: Names = option(
        "Training structures: a file, folder or glob pattern, or a list of these. Extended XYZ, ænet XSF, and "
        "whatever ASE reads with energies and forces. Relative paths start at the folder of this file.",
        example="train.extxyz",
    )
    test: Names | None = option(
        "Structures to evaluate the potential on, given as for `train`. Default: a part of the training structures, "
        "see `test_fraction`.",
        None,
        example="test.extxyz",
    )
    test_fraction: float = option(
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

    species: Names | None = option(
        "Elements, in the order that sets their weights. Default: those of the training structures, in "
        "alphabetical order.",
        None,
        example=["C", "H", "O"],
    )
    features: int | None = option(
        "Number of features to which the descriptor of the networks is compressed: the directions on which the energy "
        "of the surrogate depends most, or where there are several surrogates or none, principal components of the "
        "training structures. Default: it is not compressed.",
        None,
        ge=1,
        example=48,
    )
    kind: DescriptorSettings = option(
        'Kind of descriptor: "chebyshev" (small), "density" (tells distances and elements within angles apart), or one '
        "that a program has registered.",
        "chebyshev",
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

    def compress(self, data: Dataset, candidates: Sequence[ProjectedDescriptor] = ()) -> Descriptor:
        """Return the descriptor of the networks, with so many features as are asked for.

        `candidates`: features of surrogates; the first counts with all elements, this kind and options that are given.
        """
        descriptor = self.build(data.species)
        if self.features is None:
            return descriptor
        for candidate in candidates:
            base = candidate.base
            same = base == descriptor if self.kind.changes() else base.name == descriptor.name
            if same and tuple(candidate.species) == tuple(descriptor.species):
                return candidate
        return compress_descriptor(descriptor, data, most=self.features)

    def build(self, species: Sequence[str], *, for_kernel: bool = False) -> Descriptor:
        """Return the descriptor; `species` count where the section names none, `for_kernel` sets the defaults."""
        descriptor = type(self.kind).descriptor
        make = descriptor.for_kernel if for_kernel else descriptor
        options = {key: getattr(self.kind, key) for key in type(self.kind).model_fields}
        return make(self.species or tuple(species), **options)


class SurrogateSection(SurrogateOptions):
    """Gaussian-process surrogate: learns energies and forces, and labels the copies."""

    descriptor: DescriptorSection | None = option(
        "Descriptor of the atoms kernel; the networks have theirs in [descriptor].", None
    )
    baseline: Baseline | None = TrainingOptions.model_fields["baseline"]  # type: ignore[assignment]

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
        return Surrogate(**options.changes(), baseline=self.baseline, seed=seed)


class TrainingSection(TrainingOptions):
    """Networks, trained on energies, or on energies and forces."""

    start_from: str | None = option(
        "Potential to go on from (fine-tuning): its networks, normalisation and baseline.",
        None,
        example="results/potential.gprann",
    )

    def options(self) -> dict[str, Any]:
        """Return the options of `gprann.train` that are set."""
        given = {**self.changes(), **({"model": self.model} if "model" in self.model_fields_set else {})}
        return {name: value for name, value in given.items() if name != "start_from"}

    def to_dict(self) -> dict[str, Any]:
        """Return the options as plain data; without a model where it is that of the potential to start from."""
        follows = self.start_from is not None and "model" not in self.model_fields_set
        left_out = {"model", *type(self.model).model_fields} if follows else set()
        return {name: value for name, value in super().to_dict().items() if name not in left_out}


class ResourcesSection(RankOptions):
    """Time, memory and processes that a run may use.

    The number of processes does not change the results. Memory does if it is short: it then decides on the surrogate's
    solver, and on the size of the subsets that its hyperparameters come from; another memory repeats the labels. Time
    decides with method = "auto" on the size and number of the networks.
    """

    time: float = option(
        'With method = "auto": about how long the training of the networks may take on two usual processors. It is '
        "estimated from the number of operations, so that the choices are the same on every machine.",
        20.0,
        unit="min",
        gt=0,
    )

    memory: float | None = option(
        "Largest memory of a run; refused before the start if more is needed, and the surrogate's solver chosen by it."
        " Default: what is available.",
        None,
        unit="GiB",
        example=8.0,
        gt=0,
    )
    workers: WorkersOption | None = option(
        "Processes that train members side by side, and most surrogates side by side; or who does that on many "
        'machines: "mpi", or "dask:" and the address of a scheduler or its file. Default: as many processes as there '
        "are processors, for large jobs.",
        None,
        example=2,
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.mpi and isinstance(self.workers, str):
            raise ConfigError(
                f'workers = "{self.workers}" gives independent pieces of work to others, mpi = true divides each '
                "training among the ranks: leave one of them out"
            )
        return self


class OutputSection(Options):
    """Results."""

    folder: str = option("Folder of the results; made by the run.", "results", min_length=1)
    plots: bool = option("Draw the plots of the report; needs matplotlib.", True)


class Config(Options):
    """A whole run: from structures to an evaluated potential.

    Examples
    --------
    >>> config = Config.model_validate({"data": {"train": "train.extxyz"}, "training": {"members": 10}})
    >>> config.training.members, config.augmentation.policy, config.descriptor.kind.radial_cutoff
    (10, 'gaussian', 6.5)
    """

    method: Literal["auto", "manual"] = option(
        'Who chooses how the potential is made: "auto" left-out structures of the training set, "manual" the tables '
        "below as they stand. What is set there to something else than the default is kept by both. A file that "
        'says nothing here, but has a table [augmentation] or sets training.forces, is "manual".',
        "auto",
    )
    data: DataSection
    baseline: Baseline | None = option(
        "Contribution to the energy that is known: it is subtracted from the labels and added to the predictions, of "
        "surrogates and networks alike, where their own tables name no other baseline.",
        None,
        table=True,
        example="reference_energies",
    )
    descriptor: DescriptorSection = Field(default_factory=DescriptorSection)
    surrogate: SurrogateSection = Field(default_factory=SurrogateSection)
    augmentation: AugmentationSection = Field(default_factory=AugmentationSection)
    training: TrainingSection = Field(default_factory=TrainingSection)
    resources: ResourcesSection = Field(default_factory=ResourcesSection)
    output: OutputSection = Field(default_factory=OutputSection)

    @model_validator(mode="after")
    def _follow_tables(self) -> Self:
        """Let tables that say how the potential is made decide, where nothing else is said."""
        says = "augmentation" in self.model_fields_set or "forces" in self.training.model_fields_set
        if "method" not in self.model_fields_set and says:
            object.__setattr__(self, "method", "manual")
        return self

    @model_validator(mode="after")
    def _share_baseline(self) -> Self:
        """Let surrogates and networks have the baseline, unless they have their own."""
        for name in ("surrogate", "training"):
            section = getattr(self, name)
            if self.baseline is not None and section.baseline is None:
                object.__setattr__(self, name, section.model_copy(update={"baseline": self.baseline}))
        self.training.check_baseline()
        return self

    def resolve(self, base: Path) -> Config:
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
                    update={name: if_given(getattr(self.training, name)) for name in ("start_from", "store")}
                ),
                "output": self.output.model_copy(update={"folder": absolute(self.output.folder)}),
            }
        )


def default_config() -> Config:
    """Return the configuration in which nothing but an example of the training file is set."""
    return Config.model_validate({"data": {"train": "train.extxyz"}})


def load_config(path: str | os.PathLike[str]) -> Config:
    """Read a configuration file; its relative paths become absolute, starting at its folder.

    Parameters
    ----------
    path : path
        TOML, as `gprann init` writes it.

    Raises
    ------
    ConfigError
        If the file is missing or no TOML, or has an unknown key or an impossible value: the message names the
        file, the key, what was expected, what came, and the nearest valid name.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = Path(folder) / "config.toml"
    ...     _ = file.write_text('data.train = "train.extxyz"')
    ...     load_config(file).training.optimizer.name
    'auto'
    """
    file = find_config(path)
    return read_config(file, Config).resolve(file.parent)
