"""Augmentation: displaced copies of the reference structures, labelled with energies."""

from gprann.augmentation.gpr import Augmentation, augment, label
from gprann.augmentation.subsets import partition
from gprann.augmentation.taylor import taylor_augment, taylor_labels

__all__ = ["Augmentation", "augment", "label", "partition", "taylor_augment", "taylor_labels"]
