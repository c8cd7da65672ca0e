"""Models of atomic energies: pure functions of one flat parameter vector."""

from gprann.models.features import FeatureTable, Normalisation
from gprann.models.network import NetworkModel

__all__ = ["FeatureTable", "NetworkModel", "Normalisation"]
