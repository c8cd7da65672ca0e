"""Kernels by name: which there are, and the fingerprint that each compares structures by."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from gprann.descriptors import ChebyshevDescriptor
from gprann.errors import ConfigError, nearest_name
from gprann.surrogate.fingerprints import (
    AtomsFingerprint,
    CartesianFingerprint,
    Fingerprint,
    PairsFingerprint,
)

__all__ = ["KernelName", "KernelOptions"]

KernelName = Literal["atoms", "pairs", "cartesian"]


@dataclass(frozen=True, slots=True)
class KernelOptions:
    """Options of the fingerprints, each for the kernels that have it (see `Surrogate`)."""

    descriptor: ChebyshevDescriptor | None = None
    exponent: float = 1.0
    cutoff: float = 7.0

    def fingerprint(self, kernel: KernelName) -> Fingerprint:
        """Return the fingerprint of a kernel.

        Raises
        ------
        ConfigError
            If there is no such kernel, or an option is impossible or belongs to another kernel.
        """
        if kernel not in get_args(KernelName):
            raise ConfigError(f"kernel = '{kernel}': {nearest_name(kernel, get_args(KernelName))}")
        if self.descriptor is not None and kernel != "atoms":
            raise ConfigError(f"a descriptor belongs to the kernel 'atoms', not to '{kernel}'")
        if kernel == "atoms":
            return AtomsFingerprint(self.descriptor)
        if kernel == "pairs":
            return PairsFingerprint(exponent=self.exponent, cutoff=self.cutoff)
        return CartesianFingerprint()
