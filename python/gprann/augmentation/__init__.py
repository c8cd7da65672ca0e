"""Augmentation: displaced copies of the reference structures, labelled with energies."""

from gprann.augmentation.gpr import Augmentation, augment, label
from gprann.augmentation.hessian import surrogate_hessian
from gprann.augmentation.order import in_one_order
from gprann.augmentation.subsets import partition
from gprann.augmentation.taylor import taylor_augment, taylor_labels

__all__ = [
    "Augmentation",
    "augment",
    "in_one_order",
    "label",
    "partition",
    "surrogate_hessian",
    "taylor_augment",
    "taylor_labels",
]
