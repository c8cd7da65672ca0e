"""The section of a configuration on displaced copies."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import PlainValidator, model_validator

from gprann.augmentation import augment, taylor_augment
from gprann.augmentation.displacements import Displacement, check_displacement
from gprann.augmentation.policies import CopyOptions, Policy
from gprann.data.structure import Structure
from gprann.errors import ConfigError, refuse_unused
from gprann.options import Options, default, option

__all__ = ["AUGMENTED", "AugmentationSection"]

AUGMENTED = "augmented.extxyz"
"""File of a run with the structures that the networks are trained on."""


def _sizes(value: object) -> object:
    """Take a length, or a length for each element."""
    if isinstance(value, list) and len(value) == 1:
        (value,) = value
    try:
        if isinstance(value, Mapping):
            return {str(symbol): _length(size) for symbol, size in value.items()}
        return None if value is None else _length(value)
    except (TypeError, ValueError):
        raise ValueError(
            f"expected a length or a table of lengths, {{ O = 0.02, H = 0.03 }}, got {value!r}"
        ) from None


def _length(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise TypeError
    return float(value)


Sizes = Annotated[float | dict[str, float], PlainValidator(_sizes)]


_OF = {
    "gpr": ("policy", "temperature", "steps", "threshold", "label_next"),
    "taylor": ("strategy", "order", "hessians"),
}
"""Keys that a method alone uses."""


def _default_of(name: str) -> Any:
    return AugmentationSection.model_fields[name].default


class AugmentationSection(Options):
    """Displaced copies of the training structures, labelled with energies."""

    method: Literal["gpr", "taylor", "none"] = option(
        'Who labels the copies: "gpr" the surrogate, "taylor" a Taylor expansion with the forces; "none" for no '
        "copies: the networks see the energies of the training structures alone.",
        "gpr",
    )
    policy: Policy = option(
        'Gpr: how atoms are displaced: "gaussian" every component, "sphere" uniformly in spheres, "normal_modes" '
        'along the modes of the surrogate\'s Hessian at the temperature, "md" along short molecular dynamics.',
        default(augment, "policy"),
    )
    copies: int | None = option(
        "Copies of each training structure; 10 to 40 are enough. Default: one for each degree of freedom, at least "
        "10 and at most 36; gpr up to twice as many, the more uncertain their labels are.",
        default(augment, "copies"),
        example=36,
        ge=1,
    )
    displacement: Sizes | None = option(
        "Size of the displacements, a length or a table of lengths, { C = 0.02, H = 0.03 }: gaussian the standard "
        "deviation of each component, sphere and taylor the radius. Default: the largest at which copies are no "
        "more uncertain than structures left out; "
        f"taylor {default(taylor_augment, 'displacement')}.",
        None,
        unit="Å",
        example=0.02,
    )
    min_force: float | None = option(
        "Displace only atoms on which at least this force acts.",
        default(augment, "min_force"),
        unit="eV/Å",
        example=0.05,
        ge=0,
    )
    temperature: float | None = option(
        "Normal_modes and md: temperature. Default: normal_modes the highest at which copies are no more uncertain "
        "than structures left out, md 300.",
        default(augment, "temperature"),
        unit="K",
        example=300.0,
        gt=0,
    )
    steps: int = option("Md: steps of 0.5 fs from each structure.", default(augment, "steps"), ge=1)
    min_distance: float = option(
        "Leave out copies in which atoms come closer than this fraction of the smallest distance between their "
        "elements in the training structures.",
        default(augment, "min_distance"),
        ge=0,
    )
    strategy: Literal["A", "B"] = option(
        "Taylor: A moves one atom at a time along x, y and z, B all atoms at random.",
        default(taylor_augment, "strategy"),
    )
    order: Literal[1, 2] = option(
        "Taylor: 1 expands with the forces alone, 2 with Hessians as well, the surrogate's or those of `hessians`.",
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
    threshold: float | None = option(
        "Gpr: copies whose predicted standard deviation per atom exceeds it are not trained on. Default: with an "
        "automatic displacement or temperature five times that of structures left out, else and for subsets below "
        "four structures none.",
        default(augment, "threshold"),
        unit="eV/atom",
        example=0.003,
        gt=0,
    )
    label_next: str = option(
        "File in the output folder for the copies to compute and add next: of those that exceed the threshold so "
        "many that the others would be certain, the most informative first.",
        "label_next.extxyz",
        pattern=r"^[^/\\]+\.(extxyz|xyz)$",
    )
    max_subset: int = option(
        "Most structures of a surrogate; larger sets are divided by similarity. Memory grows with its square.",
        default(augment, "max_subset"),
        ge=1,
    )
    forces: bool = option(
        "Gpr: label the copies with the surrogate's forces too, for training on forces.",
        default(augment, "forces"),
    )
    seed: int = option("Seed of the displacements and of the surrogates.", default(augment, "seed"), ge=0)

    @model_validator(mode="after")
    def _check(self) -> AugmentationSection:
        check_displacement(self.displacement, self.copies, self.min_force)
        if self.label_next.casefold() == AUGMENTED:  # on some systems the same file
            raise ConfigError(
                f"label_next = '{self.label_next}': the training structures are written to this file; give another name"
            )
        if self.method == "gpr":
            self.copy_options()
        if self.forces and self.method == "taylor":
            raise ConfigError(
                'forces = true: a Taylor expansion gives energies alone; use method "gpr", or leave it out'
            )
        return self

    def unused(self) -> dict[str, str]:
        """Return the keys that are set to something else than the default and have no effect, with the reason."""
        if self.method == "none":  # switched off, whatever else is set
            return {}
        other = "taylor" if self.method == "gpr" else "gpr"
        reasons = dict.fromkeys(_OF[other], f'it belongs to the method "{other}", not to "{self.method}"')
        if self.method == "gpr":
            reasons |= self.copy_options().unused()
        if self.method == "taylor" and self.strategy == "A":
            reasons["copies"] = "strategy A makes six of each atom"
        if self.method == "taylor" and self.order != 2:
            reasons["hessians"] = f"an expansion of order {self.order} has none, order 2 has"
        if not self.uses_surrogate:
            reasons["max_subset"] = "there is no surrogate"
        return {name: reason for name, reason in reasons.items() if getattr(self, name) != _default_of(name)}

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
        refuse_unused(self.unused(), self, lambda name: spell("augmentation", name))
        if self.method != "none" and not self.uses_surrogate:
            reasons = {
                name: "there is no surrogate"
                for name, item in type(surrogate).model_fields.items()
                if getattr(surrogate, name) != item.default
            }
            refuse_unused(reasons, surrogate, lambda name: spell("surrogate", name))

    def of_method(self, method: str) -> AugmentationSection:
        """Return the section for another method, the keys that it does not use as if they were not set."""
        section = self.model_copy(update={"method": method, "forces": False})
        return section.model_copy(update={name: _default_of(name) for name in section.unused()})

    @property
    def taylor_size(self) -> Displacement:
        """The displacement of Taylor copies, Å."""
        size: Displacement | None = self.displacement
        return float(default(taylor_augment, "displacement")) if size is None else size

    @property
    def uses_surrogate(self) -> bool:
        """Whether the method needs a surrogate."""
        return self.method == "gpr" or (self.method == "taylor" and self.order == 2 and self.hessians is None)

    def count(self, structure: Structure) -> int:
        """Return how many copies of a structure will be made, at most."""
        if self.method == "none":
            return 0
        if self.method == "taylor" and self.strategy == "A":
            return 6 * len(structure)
        return self.copy_options().count(structure, noise=np.inf if self.method == "gpr" else 0.0)

    def copy_options(self) -> CopyOptions:
        """Return the options of gpr copies."""
        return CopyOptions(**{item.name: getattr(self, item.name) for item in fields(CopyOptions)})
