"""The verdict on a potential in plain words, and the findings on which it rests."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING

import numpy as np

from gprann.arrays import Array
from gprann.evaluation.metrics import number
from gprann.evaluation.residuals import Residuals
from gprann.units import MEV

if TYPE_CHECKING:
    from gprann.evaluation.report import Report

# Rules of thumb, not theorems: docs/report.md lists them.
_FORCE_GOOD, _FORCE_POOR = 0.05, 0.20  # of the typical force
_ENERGY_GOOD, _ENERGY_POOR = 0.10, 0.30  # of the spread of the energies
_FEW_TESTED = 20
_OVERFITTED = 2.0
_TOO_SMALL, _TOO_LARGE = 0.55, 0.90  # share of errors within one standard deviation
_OUTSIDE = 0.02  # share of the atoms; at the edge of the training set it is 0.001
_OUTLIER = 10.0


class Weight(IntEnum):
    """How much a finding weighs in the verdict."""

    GOOD = 0
    NOTE = 1
    CAUTION = 2
    PROBLEM = 3


@dataclass(frozen=True, slots=True)
class Finding:
    """One sentence about the potential, and how much it weighs."""

    weight: Weight
    text: str


def headline(findings: Sequence[Finding]) -> str:
    """Return the verdict: the gravest finding decides.

    Examples
    --------
    >>> headline([Finding(Weight.GOOD, "")]), headline([Finding(Weight.CAUTION, ""), Finding(Weight.GOOD, "")])
    ('Good for structures like those tested', 'Usable with care')
    """
    gravest = max((finding.weight for finding in findings), default=Weight.NOTE)
    if gravest == Weight.PROBLEM:
        return "Not ready to be used"
    return "Usable with care" if gravest == Weight.CAUTION else "Good for structures like those tested"


def judge(test: Report | None, training: Report) -> list[Finding]:
    """Return what the errors on a test set say; without one, those on the training set."""
    report = training if test is None else test
    findings = [*judge_test_set(test), *judge_forces(report.residuals), *judge_energies(report.residuals)]
    if test is not None:
        findings += judge_overfitting(test, training)
    return [*findings, *judge_uncertainty(report), *judge_grades(report), *judge_outliers(report)]


def judge_test_set(test: Report | None) -> list[Finding]:
    """Say whether there are enough structures that the potential was not trained on."""
    if test is None:
        text = (
            "There is no test set: all errors are those on the training structures and say little about others. Give "
            "data.test, or more structures."
        )
        return [Finding(Weight.PROBLEM, text)]
    tested = len(test.residuals)
    if tested < _FEW_TESTED:
        text = f"Only {tested} structures were tested: the errors on others may be rather different."
        return [Finding(Weight.CAUTION, text)]
    return [Finding(Weight.GOOD, f"{tested} structures were tested that the potential was not trained on.")]


def _grade_ratio(ratio: float, good: float, poor: float) -> Weight:
    if ratio <= good:
        return Weight.GOOD
    return Weight.CAUTION if ratio <= poor else Weight.PROBLEM


def _rms(values: Array) -> float:
    return float(np.sqrt(np.mean(np.square(values))))


def judge_forces(residuals: Residuals) -> list[Finding]:
    """Compare the errors of the forces with the forces."""
    forces = residuals.forces
    if forces is None or len(forces) == 0:
        return [Finding(Weight.CAUTION, "The structures have no forces: how good forces are is not known.")]
    error, typical = _rms(forces.error), _rms(forces.reference)
    if not np.isfinite(error):
        return [Finding(Weight.PROBLEM, "Some predicted forces are no numbers.")]
    if typical == 0:
        return []
    weight = _grade_ratio(error / typical, _FORCE_GOOD, _FORCE_POOR)
    text = (
        f"Forces are off by {number(error / typical, 100)} % of their size: the components of the error have a root "
        f"mean square of {number(error)} eV/Å, those of the forces of {number(typical)} eV/Å."
    )
    return [Finding(weight, text)]


def judge_energies(residuals: Residuals) -> list[Finding]:
    """Compare the errors of the energies with the spread of the energies of structures of one composition."""
    error = residuals.energy_error / residuals.n_atoms
    if not np.all(np.isfinite(error)):
        return [Finding(Weight.PROBLEM, "Some predicted energies are no numbers.")]
    mae = f"Energies are off by {number(float(np.mean(np.abs(error))), 1 / MEV)} meV/atom on average"
    spread = _spread(residuals)
    if spread == 0:
        return [Finding(Weight.NOTE, f"{mae}.")]
    ratio = _rms(error) / spread
    weight = _grade_ratio(ratio, _ENERGY_GOOD, _ENERGY_POOR)
    text = (
        f"{mae}; their root mean square error is {number(ratio, 100)} % of the spread of the energies, "
        f"{number(spread, 1 / MEV)} meV/atom."
    )
    return [Finding(weight, text)]


def _spread(residuals: Residuals) -> float:
    """Return the root mean square deviation of the energies from their mean by composition, eV/atom."""
    _, index = np.unique(np.array(residuals.formulas), return_inverse=True)
    mean = np.bincount(index, weights=residuals.energy_reference) / np.bincount(index)
    return _rms((residuals.energy_reference - mean[index]) / residuals.n_atoms)


def judge_overfitting(test: Report, training: Report) -> list[Finding]:
    """Compare the errors on both sets."""
    name, unit = (
        ("force_rmse", "eV/Å")
        if test.force_rmse and training.force_rmse
        else ("energy_per_atom_rmse", "eV/atom")
    )
    there, here = getattr(test, name), getattr(training, name)
    if not there or not here or there / here < _OVERFITTED:
        return []
    text = (
        f"Errors on the test set are {number(there / here)} times those on the training set ({number(there)} and "
        f"{number(here)} {unit}): the test structures are of another kind, or there are too few to train on."
    )
    return [Finding(Weight.CAUTION, text)]


def judge_uncertainty(report: Report) -> list[Finding]:
    """Say whether the errors are as large as the standard deviations tell."""
    shares = {"force components": report.force_within_one_std, "energies": report.within_one_std}
    known = {what: share for what, share in shares.items() if share is not None}
    if not known:
        text = "The potential does not tell how uncertain it is; a committee (training.members above 1) does."
        return [Finding(Weight.NOTE, text)]
    what, share = min(known.items(), key=lambda item: item[1])
    begin = f"{number(share, 100)} % of the errors of {what} are within one standard deviation (normal: 68 %)"
    if share < _TOO_SMALL:
        return [Finding(Weight.CAUTION, f"{begin}: the potential is surer of itself than it should be.")]
    if share > _TOO_LARGE:
        return [Finding(Weight.NOTE, f"{begin}: the potential is less sure of itself than it could be.")]
    return [Finding(Weight.GOOD, f"{begin}: the stated uncertainties can be used.")]


def judge_grades(report: Report) -> list[Finding]:
    """Say how many atoms lie outside of what the training set has shown."""
    if report.guard is None or not report.guard.ranges:
        return []
    outside = 1.0 - report.guard.ranges[0].share
    if outside <= 0:
        text = "No tested atom lies outside of what the training structures have shown."
        return [Finding(Weight.GOOD, text)]
    text = (
        f"{number(outside, 100)} % of the tested atoms lie outside of what the training structures have shown"
    )
    if outside > _OUTSIDE:
        return [Finding(Weight.CAUTION, f"{text}: there the potential extrapolates.")]
    return [Finding(Weight.GOOD, f"{text}.")]


def judge_outliers(report: Report) -> list[Finding]:
    """Name errors that are far larger than the others."""
    largest, rmse = report.force_max, report.force_rmse
    if not largest or not rmse or largest < _OUTLIER * rmse:
        return []
    text = (
        f"One force component is off by {number(largest)} eV/Å, {number(largest / rmse)} times the root mean square "
        "error: look at the hardest structures."
    )
    return [Finding(Weight.CAUTION, text)]
