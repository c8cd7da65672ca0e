"""The section of a configuration on displaced copies."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, Self

import numpy as np
from pydantic import model_validator

from gprann.augmentation.policies import CopyOptions
from gprann.augmentation.taylor import TaylorOptions
from gprann.data.structure import Structure
from gprann.errors import ConfigError, refuse_unused
from gprann.options import Options, option

__all__ = ["AUGMENTED", "AugmentationSection"]

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
        return {name: reasons[name] for name in self.changed() if name in reasons}

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
            given = dict.fromkeys(surrogate.changed(), "there is no surrogate")
            given.pop("baseline", None)  # that of the networks too
            refuse_unused(given, surrogate, lambda name: spell("surrogate", name))

    def of_method(self, method: str) -> AugmentationSection:
        """Return the section for another method, the keys that it does not use as if they were not set."""
        section = self.model_copy(update={"method": method, "forces": False})
        fields = type(self).model_fields
        return section.model_copy(update={name: fields[name].default for name in section.unused()})

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
