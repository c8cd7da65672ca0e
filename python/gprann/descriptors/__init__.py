"""Descriptors of atomic environments: values and their two derivative products."""

from gprann.descriptors.base import (
    DESCRIPTORS,
    Descriptor,
    descriptor_from_dict,
    descriptor_to_dict,
    register_descriptor,
)
from gprann.descriptors.chebyshev import ChebyshevDescriptor

__all__ = [
    "DESCRIPTORS",
    "ChebyshevDescriptor",
    "Descriptor",
    "descriptor_from_dict",
    "descriptor_to_dict",
    "register_descriptor",
]
