"""Descriptors of networks that learn from a surrogate."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from gprann.data.structure import Dataset
from gprann.descriptors import ChebyshevDescriptor, DensityDescriptor, Descriptor, compress_descriptor
from gprann.surrogate.compression import compress_surrogate
from gprann.surrogate.kernels.atoms import AtomsFingerprint
from gprann.surrogate.sets.surrogate_set import SurrogateSet

FEATURES = 48
"""Of compressed descriptors."""
_FAST: dict[str, Any] = {"kind": "density", "n_max": 4, "four_body": 0, "features": FEATURES}
_TEACHERS: dict[str, Any] = {"kind": "density", "features": FEATURES}


@dataclass(frozen=True, slots=True)
class Student:
    """A descriptor for networks that learn from a surrogate.

    Attributes
    ----------
    name : str
        Of the networks, in tables.
    options : dict
        By which a configuration names it.
    built : Descriptor
    reason : str
        Why it would be taken.
    """

    name: str
    options: dict[str, Any]
    built: Descriptor
    reason: str


def students(teacher: SurrogateSet, data: Dataset) -> list[Student]:
    """Return descriptors for networks that learn from surrogates, the fastest first.

    A small density descriptor without 4-body components is about ten times as fast as the features of the surrogate,
    which it needs to be accurate from few labels; networks have as many labels as they want.
    """
    surrogate, _ = max(teacher, key=lambda item: len(item[1]))
    if not isinstance(surrogate.fingerprint, AtomsFingerprint):
        return [
            Student("taught", {}, ChebyshevDescriptor(data.species), "the surrogate has no features of atoms")
        ]
    small = DensityDescriptor(data.species, n_max=_FAST["n_max"], four_body=_FAST["four_body"])
    reason = "a small one, which is ten times as fast as the features of the surrogate"
    fast = Student("taught", _FAST, compress_descriptor(small, data, most=FEATURES), reason)
    if set(surrogate.training_set.species) != set(data.species):
        return [fast]
    reason = "directions on which the energy of the surrogate depends most: slow, but more accurate"
    built = compress_surrogate(surrogate, n_features=FEATURES)
    return [fast, Student("taught, features of the surrogate", _TEACHERS, built, reason)]
