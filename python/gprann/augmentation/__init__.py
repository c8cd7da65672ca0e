"""Augmentation: displaced copies of the reference structures, labelled with energies."""

from gprann.augmentation.gpr import Augmentation as Augmentation
from gprann.augmentation.gpr import augment as augment
from gprann.augmentation.gpr import label as label
from gprann.augmentation.taylor import taylor_augment as taylor_augment
from gprann.augmentation.taylor import taylor_labels as taylor_labels
from gprann.augmentation.thermal import surrogate_hessian as surrogate_hessian
