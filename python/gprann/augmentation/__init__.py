"""Augmentation: displaced copies of the reference structures, labelled with energies."""

from gprann.augmentation.gpr import Augmentation, augment, label
from gprann.augmentation.taylor import taylor_augment, taylor_labels
from gprann.augmentation.thermal import surrogate_hessian

__all__ = [
    "Augmentation",
    "augment",
    "label",
    "surrogate_hessian",
    "taylor_augment",
    "taylor_labels",
]
