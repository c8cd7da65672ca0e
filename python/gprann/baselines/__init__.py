"""Baselines: contributions to the energy that are known beforehand; a model learns the rest."""

from gprann.baselines.base import (
    BASELINES,
    Baseline,
    BaselineSum,
    Contribution,
    as_baseline,
    register_baseline,
    terms_of,
)
from gprann.baselines.reference_energies import (
    ReferenceEnergies,
    fit_baseline,
    is_spanned,
    spanning_compositions,
)

__all__ = [
    "BASELINES",
    "Baseline",
    "BaselineSum",
    "Contribution",
    "ReferenceEnergies",
    "as_baseline",
    "fit_baseline",
    "is_spanned",
    "register_baseline",
    "spanning_compositions",
    "terms_of",
]
