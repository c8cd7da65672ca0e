"""Models of atomic energies: pure functions of one flat parameter vector."""

from gprann.models.base import MODELS, AtomModel, Model, register_model
from gprann.models.features import FeatureTable, Normalisation
from gprann.models.network import Mlp, NetworkModel

__all__ = [
    "MODELS",
    "AtomModel",
    "FeatureTable",
    "Mlp",
    "Model",
    "NetworkModel",
    "Normalisation",
    "register_model",
]
