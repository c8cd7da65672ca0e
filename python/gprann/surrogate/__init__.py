"""Gaussian-process surrogates for energies and forces."""

from gprann.surrogate.calculator import SurrogateCalculator
from gprann.surrogate.hyperparameters.settings import Hyperparameters
from gprann.surrogate.sets.atom_matching import in_one_order
from gprann.surrogate.sets.partition import partition
from gprann.surrogate.sets.surrogate_set import SurrogateSet, fit_surrogates
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
