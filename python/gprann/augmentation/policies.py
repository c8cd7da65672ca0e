"""How copies are made, and which of them are kept."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import model_validator

from gprann.augmentation.displacements import (
    DisplacementOptions,
    atom_sizes,
    gaussian,
    moving_atoms,
    within_spheres,
)
from gprann.augmentation.dynamics import langevin
from gprann.augmentation.hessian import surrogate_hessian, thermal
from gprann.augmentation.min_distance import DistanceLimits
from gprann.augmentation.sampling import displaced
from gprann.augmentation.step_size import (
    automatic_copies,
    largest_size,
    relative_noise,
    uncertainty_of_unseen,
)
from gprann.data.structure import Dataset, Structure
from gprann.errors import ConfigError, DataError
from gprann.options import option
from gprann.surrogate import Surrogate
from gprann.surrogate.sets.partition import SubsetOptions

__all__ = ["CopyOptions", "Known", "Policy"]

Array = NDArray[np.float64]
Policy = Literal["gaussian", "sphere", "normal_modes", "md"]
_log = logging.getLogger(__name__)
_BOUNDS = {"displacement": (0.005, 0.1), "temperature": (1.0, 1000.0)}  # Å, K; of the automatic choice
_USUAL = {"displacement": 0.02, "temperature": 300.0}
_OUTLIER = 5.0  # times as uncertain as unseen structures: left out if the sizes are automatic
_TRIED = 64  # copies, from which a size is judged
_FEW = 4  # structures; with fewer of them, leaving one out tells nothing


@dataclass(frozen=True, slots=True)
class Known:
    """What the displacements of a subset depend on besides the options.

    Attributes
    ----------
    data : Dataset
        The structures of the subset.
    surrogate : Surrogate
        Fitted to them.
    limits : DistanceLimits
        Of the copies.
    """

    data: Dataset
    surrogate: Surrogate
    limits: DistanceLimits
    _hessians: dict[Structure, Array] = field(default_factory=dict)

    def hessian(self, structure: Structure) -> Array:
        """Return the Hessian of the surrogate at a structure, (3N, 3N), eV/Å²; made once."""
        if structure not in self._hessians:
            self._hessians[structure] = surrogate_hessian(self.surrogate, structure)
        return self._hessians[structure]

    def comparable(self, copies: Dataset) -> NDArray[np.bool_]:
        """Return which copies the kernel can compare with the structures, shape (n,).

        Invariant kernels compare all, the Cartesian one none that have turned or left the places of the structures.
        """
        if self.surrogate.fingerprint.invariant == "rotation":
            return np.ones(len(copies), dtype=bool)
        return np.array([self._compares(copy) for copy in copies], dtype=bool)

    def _compares(self, copy: Structure) -> bool:
        try:
            self.surrogate.fingerprint.rows(Dataset([copy]))
        except DataError:
            return False
        return True


class CopyOptions(DisplacementOptions, SubsetOptions):
    """How copies are made for a surrogate to label, and which of them are kept; see `augment`."""

    policy: Policy = option(
        'Gpr: how atoms are displaced: "gaussian" every component of every atom, "sphere" uniformly in spheres, '
        'without a net shift, "normal_modes" along the modes of the surrogate\'s Hessian at the temperature, "md" '
        "along short molecular dynamics.",
        "gaussian",
    )
    temperature: float | None = option(
        "Normal_modes and md: temperature. Default: normal_modes the highest, between 1 and 1000, at which copies "
        "are no more uncertain than structures left out, md 300.",
        None,
        unit="K",
        example=300.0,
        gt=0,
    )
    steps: int = option("Md: steps of 0.5 fs from each structure.", 100, ge=1)
    threshold: float | None = option(
        "Gpr: copies whose predicted standard deviation per atom exceeds it are not trained on. Default: with an "
        "automatic displacement or temperature five times that of structures left out, else and for subsets below "
        "four structures none.",
        None,
        unit="eV/atom",
        example=0.003,
        gt=0,
    )
    forces: bool = option(
        "Gpr: label the copies with the surrogate's forces too, for training on forces; variances are those of the "
        "energies.",
        False,
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        self.check_policy()
        return self

    def check_policy(self) -> None:
        """Refuse options that exclude each other.

        Raises
        ------
        ConfigError
        """
        if self.displacement is not None and self.sized_by != "displacement":
            raise ConfigError(
                f"displacement = {self.displacement}: the policy '{self.policy}' takes its size from the "
                "temperature; leave displacement out"
            )
        if self.policy == "md" and self.steps < (self.copies or 1):
            raise ConfigError(f"steps = {self.steps}: expected as many as copies ({self.copies}) or more")

    @property
    def sized_by(self) -> Literal["displacement", "temperature"]:
        """Which option sets the size of the displacements."""
        return "displacement" if self.policy in ("gaussian", "sphere") else "temperature"

    def unused(self) -> dict[str, str]:
        """Return the options that are set and have no effect, with the reason."""
        result = {}
        if self.temperature is not None and self.sized_by == "displacement":
            result["temperature"] = f"the policy '{self.policy}' takes its size from the displacement"
        if self.steps != type(self).model_fields["steps"].default and self.policy != "md":
            result["steps"] = f"it belongs to the policy 'md', not to '{self.policy}'"
        return result

    @property
    def sets_apart(self) -> bool:
        """Whether there is a threshold, given or found with an automatic size."""
        return self.threshold is not None or getattr(self, self.sized_by) is None

    def count(self, structure: Structure, noise: float = 0.0) -> int:
        """Return the number of copies of a structure, for labels of some relative noise (see `automatic_copies`)."""
        wanted = automatic_copies(structure, noise) if self.copies is None else self.copies
        return min(wanted, self.steps) if self.policy == "md" else wanted

    def total(self, data: Iterable[Structure]) -> int:
        """Return the number of copies of all structures."""
        return sum(self.count(structure) for structure in data)

    def known(self, data: Dataset, surrogate: Surrogate) -> Known:
        """Return what the displacements of structures depend on, to which the surrogate is fitted."""
        return Known(data, surrogate, DistanceLimits.of(data, self.min_distance))

    def sized(self, known: Known) -> CopyOptions:
        """Return the options with a displacement or a temperature, whichever they need, threshold and number.

        Parameters
        ----------
        known : Known
            The uncertainty of its surrogate sets the size if none is given, see `largest_size`, and where there is
            no threshold leaves out copies five times as uncertain as structures that the surrogate has not seen;
            and then the number of copies if that is not given, see `automatic_copies`. Below four structures, which
            do not tell that uncertainty, the size is a usual one, and there is no threshold but a given one.
        """
        return self._with_size(known)._with_number(known)

    def _with_size(self, known: Known) -> CopyOptions:
        name, data, surrogate = self.sized_by, known.data, known.surrogate
        if getattr(self, name) is not None:
            return self
        if len(data) < _FEW:
            if self.threshold is None:
                _log.warning(
                    "%d structures of %s are too few to tell how uncertain copies may be: none is left out; give a "
                    "threshold to have some left out",
                    len(data),
                    data[0].formula,
                )
            return self._of_size(_USUAL[name])

        def shifts(structure: Structure, number: int, size: float) -> Array:
            return self._of_size(size)._tried(len(data))._shifts(structure, number, known)

        limit = uncertainty_of_unseen(surrogate)
        size = _USUAL[name]
        if self.policy != "md":
            size = largest_size(surrogate, data, shifts, _BOUNDS[name], limit)
        threshold = _OUTLIER * limit / len(data[0]) if self.threshold is None else self.threshold
        unit = "Å" if name == "displacement" else "K"
        _log.info("%s of the copies: %.3g %s; unseen structures: ± %.2g eV", name, size, unit, limit)
        return self._of_size(size).replace(threshold=threshold)

    def _with_number(self, known: Known) -> CopyOptions:
        if self.copies is not None:
            return self
        data = known.data
        tried = self._tried(len(data))
        limit = np.inf if self.threshold is None else self.threshold * len(data[0])
        noise = relative_noise(
            known.surrogate,
            data,
            lambda structure, number: tried._comparable(structure, number, known),
            limit,
        )
        number = self.count(data[0], noise)
        _log.info(
            "%d copies of each structure: their labels are uncertain by %.2g of what they tell", number, noise
        )
        return self.replace(copies=number)

    def _tried(self, n_structures: int) -> CopyOptions:
        """Return the options with the number of copies from which something is judged."""
        tried = max(2, _TRIED // n_structures)
        return self.replace(copies=min(tried, self.steps) if self.policy == "md" else tried)

    def _of_size(self, size: float) -> CopyOptions:
        if self.sized_by == "displacement":
            return self.replace(displacement=size)
        return self.replace(temperature=size)

    def make(self, known: Known, numbers: Iterable[int]) -> Dataset:
        """Return unlabelled copies, without those in which atoms come too close or that the kernel refuses.

        Parameters
        ----------
        known : Known
            For which the options are `sized`.
        numbers : iterable of int
            Structure k is displaced with the random stream (seed, numbers[k]).
        """
        data = known.data
        shifts = (
            self._shifts(structure, int(number), known)
            for structure, number in zip(data, numbers, strict=True)
        )
        made = displaced(data, "gpr", shifts)
        apart = made.select(np.flatnonzero(known.limits.kept(made)))
        kept = apart.select(np.flatnonzero(known.comparable(apart)))
        if len(kept) < len(apart):
            _log.warning(
                "%d of %d copies left out: they have left the places of the structures, which the kernel '%s' cannot "
                "compare; give a smaller size, or use the kernel 'atoms'",
                len(apart) - len(kept),
                len(apart),
                known.surrogate.kernel.name,
            )
        if len(kept) == 0:
            _log.warning("no copies of %d structures of %s", len(data), data[0].formula)
        return kept

    def _comparable(self, structure: Structure, number: int, known: Known) -> Array:
        """Return the displacements of those copies of a structure that the kernel can compare."""
        shifts = self._shifts(structure, number, known)
        kept: Array = shifts[known.comparable(displaced(Dataset([structure]), "gpr", [shifts]))]
        return kept

    def _shifts(self, structure: Structure, number: int, known: Known) -> Array:
        """Return the displacements (m, N, 3) of the copies of a structure; none if no atom is to move."""
        copies, stream = self.count(structure), (self.seed, number)
        moving = moving_atoms(structure, self.min_force)
        if not moving.any():
            return np.zeros((0, len(structure), 3))
        if self.sized_by == "displacement":
            sizes = atom_sizes(structure, self.displacement or 0.0, self.min_force)
            draw = gaussian if self.policy == "gaussian" else within_spheres
            return draw(len(structure), copies, sizes, stream)
        thermally: Any = {"temperature": self.temperature, "copies": copies, "stream": stream}
        if self.policy == "normal_modes":
            return thermal(structure, known.hessian(structure), moving, **thermally)
        return langevin(known.surrogate, structure, moving, known.limits, steps=self.steps, **thermally)
