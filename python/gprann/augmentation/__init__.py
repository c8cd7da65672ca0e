"""Augmentation: displaced copies of the reference structures, labelled with energies."""

from gprann.augmentation.gpr import Augmentation, augment, label
from gprann.augmentation.hessian import surrogate_hessian
from gprann.augmentation.taylor import taylor_augment, taylor_labels

__all__ = [
    "Augmentation",
    "augment",
    "label",
    "surrogate_hessian",
    "taylor_augment",
    "taylor_labels",
]
