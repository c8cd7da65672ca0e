"""Gaussian-process surrogates for energies and forces."""

from gprann.surrogate.calculator import SurrogateCalculator
from gprann.surrogate.hyperparameters import Hyperparameters
from gprann.surrogate.local import SurrogateSet, fit_surrogates
from gprann.surrogate.order import in_one_order
from gprann.surrogate.subsets import partition
from gprann.surrogate.surrogate import Surrogate, memory_needed

__all__ = [
    "Hyperparameters",
    "Surrogate",
    "SurrogateCalculator",
    "SurrogateSet",
    "fit_surrogates",
    "in_one_order",
    "memory_needed",
    "partition",
]
