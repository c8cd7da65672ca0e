"""Gaussian-process surrogates for energies and forces."""

from gprann.surrogate.calculator import SurrogateCalculator
from gprann.surrogate.hyperparameters import Hyperparameters
from gprann.surrogate.surrogate import Surrogate, memory_needed

__all__ = ["Hyperparameters", "Surrogate", "SurrogateCalculator", "memory_needed"]
