"""Choice of the kernel: structures of a random subset are left out one by one and predicted by every kernel."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from gprann.data.structure import Dataset
from gprann.errors import DataError
from gprann.surrogate.gaussian_process import Radial
from gprann.surrogate.hyperparameters.likelihood import maximise_likelihood
from gprann.surrogate.hyperparameters.search import choose_by_leaving_out
from gprann.surrogate.hyperparameters.settings import FREE, Fixed, Settings, scan, with_fixed
from gprann.surrogate.kernels.fingerprints import Fingerprint
from gprann.surrogate.observations import build_problem
from gprann.units import MEV

__all__ = ["Candidate", "Selection", "select_kernel"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Candidate:
    """How well a kernel predicts structures that were left out.

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
class Selection:
    """The kernel chosen, and why.

    Attributes
    ----------
    kernel : str
    candidates : dict of str to Candidate
    refused : dict of str to str
        Kernels that do not apply to the data, and the reason.
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
        return f"of {self.n_structures} structures left out one by one: " + "; ".join(parts)

    def _errors(self, name: str) -> str:
        errors = self.candidates[name]
        return f"'{name}' {errors.energy_mae / MEV:.3g} meV, {errors.force_mae:.3g} eV/Å"

    def to_dict(self) -> dict[str, Any]:
        """Return the choice as plain data."""
        return asdict(self)


def select_kernel(
    fingerprints: Mapping[str, Fingerprint],
    subset: Dataset,
    radial: Radial,
    start: Settings,
    fixed: Fixed = FREE,
) -> Selection:
    """Fit every kernel to the subset and choose the one with the smallest leave-one-structure-out error.

    Parameters
    ----------
    fingerprints : mapping of str to Fingerprint
        The kernels, the one to be preferred if nothing can be compared first.
    subset : Dataset
        Random structures of the training set.
    radial : {'squared_exponential', 'matern52'}
    start : Settings
        Where the search for the hyperparameters of each kernel begins.
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
            found = _leave_out(fingerprint, subset, radial, start, fixed)
        except DataError as error:
            refused[name] = str(error)
            continue
        applicable.append(name)
        if found is not None:
            candidates[name] = found
    if not applicable:
        raise DataError(f"no kernel applies to the training set: {'; '.join(refused.values())}")
    best = min(candidates, key=lambda name: candidates[name].score) if candidates else applicable[0]
    selection = Selection(best, candidates, refused, len(subset))
    _log.info("kernel '%s' chosen; %s", best, selection.reason())
    for name, why in refused.items():
        _log.info("kernel '%s' does not apply: %s", name, why)
    return selection


def _leave_out(
    fingerprint: Fingerprint, subset: Dataset, radial: Radial, start: Settings, fixed: Fixed
) -> Candidate | None:
    """Return the errors at the best hyperparameters, None if there is nothing to be predicted from."""
    fingerprint.fit(subset)
    problem, _, _ = build_problem(fingerprint, subset, float(subset.energies.mean()), radial)
    if len(subset) < 2 or not problem.values.any():
        return None
    likely = maximise_likelihood(problem, with_fixed(start, fixed), fingerprint.spread, fixed)
    settings = choose_by_leaving_out(problem, likely, fingerprint.spread, fixed)
    results = scan(problem, [settings], fingerprint.spread)
    if not results:
        return None
    return Candidate(results[0].energy_mae, results[0].force_mae, results[0].score)
