"""Descriptors of atomic environments: values and their two derivative products."""

from gprann.descriptors.base import DESCRIPTORS as DESCRIPTORS
from gprann.descriptors.base import Descriptor as Descriptor
from gprann.descriptors.base import descriptor_from_dict as descriptor_from_dict
from gprann.descriptors.base import descriptor_to_dict as descriptor_to_dict
from gprann.descriptors.base import register_descriptor as register_descriptor
from gprann.descriptors.chebyshev import ChebyshevDescriptor as ChebyshevDescriptor
from gprann.descriptors.density import Component as Component
from gprann.descriptors.density import DensityDescriptor as DensityDescriptor
from gprann.descriptors.projected import ProjectedDescriptor as ProjectedDescriptor
from gprann.descriptors.projected import compress_descriptor as compress_descriptor
from gprann.descriptors.symmetry import SymmetryFunctionDescriptor as SymmetryFunctionDescriptor
