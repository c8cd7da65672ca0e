"""Selection of a kernel: structures of a random subset are held out one by one and predicted by every kernel."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

from gprann.data.structure import Dataset
from gprann.errors import DataError
from gprann.surrogate.hyperparameters.criteria import FREE, Fixed, maximise_likelihood, scan, with_fixed
from gprann.surrogate.hyperparameters.search import START, choose_by_leaving_out
from gprann.surrogate.kernels.atoms import AtomsKernel
from gprann.surrogate.kernels.base import Fingerprint, Kernel, register_kernel
from gprann.surrogate.kernels.cartesian import CartesianKernel
from gprann.surrogate.kernels.pairs import PairsKernel
from gprann.surrogate.kernels.soap import SoapKernel
from gprann.surrogate.observations import observe
from gprann.units import MEV

_log = logging.getLogger(__name__)


@register_kernel
class AutoKernel(AtomsKernel, PairsKernel, SoapKernel):
    """The kernel that best predicts structures of a random subset which are held out one by one.

    It has the options of all kernels from which it is chosen: `atoms`, `pairs`, `cartesian`, and `soap` if this one's
    settings are given.

    Examples
    --------
    >>> list(AutoKernel(exponent=2.0).candidates())
    ['atoms', 'pairs', 'cartesian']
    """

    name = "auto"
    any_composition: ClassVar[bool] = False
    strains: ClassVar[bool] = False

    def candidates(self) -> dict[str, Kernel]:
        """Return the kernels from which the data are to choose."""
        kinds: list[type[Kernel]] = [AtomsKernel, PairsKernel, CartesianKernel]
        if self.soap is not None:
            kinds.append(SoapKernel)
        return {
            kind.name: kind(**{name: getattr(self, name) for name in kind.model_fields}) for kind in kinds
        }


@dataclass(frozen=True, slots=True)
class Candidate:
    """Errors of a kernel for structures that were held out.

    Attributes
    ----------
    energy_mae : float, eV
    force_mae : float, eV/Å, along the internal directions
    score : float
        Half the sum of the logarithms of both.
    """

    energy_mae: float
    force_mae: float
    score: float


@dataclass(frozen=True, slots=True)
class KernelSelection:
    """The kernel that was chosen, and the errors of all candidates.

    Attributes
    ----------
    kernel : str
    candidates : dict of str to Candidate
    refused : dict of str to str
        The reason why a kernel does not apply to the data, by its name.
    n_structures : int
        Structures of the subset.
    """

    kernel: str
    candidates: dict[str, Candidate]
    refused: dict[str, str]
    n_structures: int

    def reason(self) -> str:
        """Return the reason for the choice in one sentence."""
        parts = [self._errors(name) for name in self.candidates]
        parts += [f"'{name}' does not apply" for name in self.refused]
        if not self.candidates:
            parts.append("nothing can be predicted from so few labels")
        return f"of {self.n_structures} structures held out one by one: " + "; ".join(parts)

    def _errors(self, name: str) -> str:
        errors = self.candidates[name]
        return f"'{name}' {errors.energy_mae / MEV:.3g} meV, {errors.force_mae:.3g} eV/Å"

    def to_dict(self) -> dict[str, Any]:
        """Return the choice as plain data."""
        return asdict(self)


def select_kernel(
    fingerprints: Mapping[str, Fingerprint], subset: Dataset, fixed: Fixed = FREE
) -> KernelSelection:
    """Fit every kernel to the subset and choose the one with the smallest leave-one-structure-out error.

    Parameters
    ----------
    fingerprints : mapping of str to Fingerprint
        The kernels, the one to be preferred if nothing can be compared first.
    subset : Dataset
        Random structures of the training set.
    fixed : tuple of length, energy noise and force noise
        Those that are given, None for the others.

    Raises
    ------
    DataError
        If no kernel applies to the data.
    """
    candidates: dict[str, Candidate] = {}
    refused: dict[str, str] = {}
    applicable: list[str] = []
    for name, fingerprint in fingerprints.items():
        try:
            found = _leave_out(fingerprint, subset, fixed)
        except DataError as error:
            refused[name] = str(error)
            continue
        applicable.append(name)
        if found is not None:
            candidates[name] = found
    if not applicable:
        raise DataError(f"no kernel applies to the training set: {'; '.join(refused.values())}")
    best = min(candidates, key=lambda name: candidates[name].score) if candidates else applicable[0]
    selection = KernelSelection(best, candidates, refused, len(subset))
    _log.info("kernel '%s' chosen; %s", best, selection.reason())
    for name, why in refused.items():
        _log.info("kernel '%s' does not apply: %s", name, why)
    return selection


def _leave_out(fingerprint: Fingerprint, subset: Dataset, fixed: Fixed) -> Candidate | None:
    """Return the errors at the best hyperparameters, None if there is nothing to be predicted from."""
    fingerprint.fit(subset)
    observations, _, _ = observe(fingerprint, subset, float(subset.energies.mean()))
    if len(subset) < 2 or not observations.values.any():
        return None
    likely, _ = maximise_likelihood([observations], with_fixed(START, fixed), fingerprint.spread, fixed)
    settings = choose_by_leaving_out(observations, likely, fingerprint.spread, fixed)
    results = scan(observations, [settings], fingerprint.spread)
    if not results:
        return None
    return Candidate(results[0].energy_mae, results[0].force_mae, results[0].score)
