"""Kernels by name: which there are, and the fingerprint that each compares structures by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

from gprann.descriptors import Descriptor
from gprann.errors import ConfigError, nearest_name
from gprann.surrogate.kernels.fingerprints import (
    PAIRS_CUTOFF,
    PAIRS_EXPONENT,
    AtomsFingerprint,
    CartesianFingerprint,
    Fingerprint,
    PairsFingerprint,
)
from gprann.surrogate.kernels.soap import SoapFingerprint, SoapOptions

__all__ = ["KernelName", "KernelOptions"]

KernelName = Literal["atoms", "pairs", "cartesian", "soap", "auto"]
_CANDIDATES = ("atoms", "pairs", "cartesian")
"""Those from which `auto` chooses: all that need no other package, and `soap` where its settings are given."""
_PAIRS = {"exponent": PAIRS_EXPONENT, "cutoff": PAIRS_CUTOFF}  # other values count for this kernel only


@dataclass(frozen=True, slots=True)
class KernelOptions:
    """Options of the fingerprints, each for the kernels that have it (see `Surrogate`)."""

    descriptor: Descriptor | None = None
    exponent: float = PAIRS_EXPONENT
    cutoff: float = PAIRS_CUTOFF
    species_lengths: Mapping[str, float] | Literal["likelihood"] | None = None
    relevance: bool = False
    soap: SoapOptions | Mapping[str, Any] | None = None
    stress: bool = False
    elsewhere: tuple[str, ...] = ()
    """Species of other training sets, for which the same options hold."""

    def check(self, kernel: str) -> None:
        """Refuse unknown kernels, and options that are impossible or belong to another kernel.

        Raises
        ------
        ConfigError
        """
        names = get_args(KernelName)
        if kernel not in names:
            raise ConfigError(f"kernel = '{kernel}': {nearest_name(kernel, names)}")
        if self.descriptor is not None and kernel not in ("atoms", "auto"):
            raise ConfigError(f"a descriptor belongs to the kernel 'atoms', not to '{kernel}'")
        for option in ("species_lengths", "relevance"):
            if getattr(self, option) and kernel not in ("atoms", "auto"):
                raise ConfigError(f"{option} belongs to the kernel 'atoms', not to '{kernel}'")
        if isinstance(self.species_lengths, str) and self.species_lengths != "likelihood":
            raise ConfigError(
                f"species_lengths = '{self.species_lengths}': expected factors by species, or 'likelihood'"
            )
        if self.stress and kernel != "atoms":
            raise ConfigError(f"stress: only the kernel 'atoms' observes stresses, not '{kernel}'")
        for option in ("exponent", "cutoff"):
            if getattr(self, option) != _PAIRS[option] and kernel not in ("pairs", "auto"):
                raise ConfigError(f"{option} belongs to the kernel 'pairs', not to '{kernel}'")
        if self.soap is not None and kernel not in ("soap", "auto"):
            raise ConfigError(f"options of soap belong to the kernel 'soap', not to '{kernel}'")
        if kernel == "auto":
            self.candidates()
        else:
            self.fingerprint(kernel)

    def among(self, species: Sequence[str]) -> KernelOptions:
        """Return these options for one of several training sets, which together have these species.

        Raises
        ------
        ConfigError
            If there are factors for others.
        """
        known = species if self.descriptor is None else [*species, *self.descriptor.species]
        for symbol in self.species_lengths if isinstance(self.species_lengths, Mapping) else ():
            if symbol not in known:
                raise ConfigError(f"species_lengths: {symbol}: {nearest_name(symbol, known)}")
        return replace(self, elsewhere=tuple(species))

    def candidates(self) -> dict[str, Fingerprint]:
        """Return the fingerprints of the kernels from which `auto` chooses.

        Raises
        ------
        ConfigError
            If an option is impossible.
        """
        names = _CANDIDATES if self.soap is None else (*_CANDIDATES, "soap")
        return {name: self.fingerprint(name) for name in names}

    def fingerprint(self, kernel: str) -> Fingerprint:
        """Return the fingerprint of a kernel; that of `atoms` for `auto`.

        Raises
        ------
        ConfigError
            If an option is impossible.
        """
        if kernel in ("atoms", "auto"):  # until it is chosen
            given = None if isinstance(self.species_lengths, str) else self.species_lengths
            return AtomsFingerprint(self.descriptor, given, self.elsewhere)
        if kernel == "pairs":
            return PairsFingerprint(exponent=self.exponent, cutoff=self.cutoff)
        if kernel == "soap":
            return SoapFingerprint(SoapOptions.make(self.soap))
        return CartesianFingerprint()
