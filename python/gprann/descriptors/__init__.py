"""Descriptors of atomic environments: values and their two derivative products."""

from gprann.descriptors.base import Descriptor
from gprann.descriptors.chebyshev import ChebyshevDescriptor

__all__ = ["ChebyshevDescriptor", "Descriptor"]
