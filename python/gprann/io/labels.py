"""Labels under the names that files and programs give them, and their units and signs."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gprann.data.strain import FIRST, SECOND
from gprann.data.structure import Origin, Structure
from gprann.errors import ConfigError, DataError, FormatError, nearest_name
from gprann.io.geometry import check_geometry

__all__ = ["LABELS", "Frame", "check_keys", "label_names", "make_frame", "similar_names", "stress_label"]

LABELS = ("energy", "forces", "stress")
"""Labels that a structure may have."""

_STANDARD_NAMES = {
    "energy": ("energy", "free_energy"),
    "forces": ("forces",),
    "stress": ("stress",),
    "virial": ("virial",),
}
_WORDS = {"energy": ("energy",), "forces": ("force",), "stress": ("stress", "virial")}
_SHORT = {
    "energy": {"e", "e0", "etot", "e_tot", "toten", "ref_e", "dft_e"},
    "forces": {"f", "ref_f", "dft_f"},
    "stress": set(),
}
_OTHER_MEANING = ("variance", "weight", "std", "sigma", "uncertainty", "kinetic", "cutoff")


class Frame(NamedTuple):
    """A structure, and names in its file that look like the labels that it lacks."""

    structure: Structure
    similar: Mapping[str, tuple[str, ...]]


def check_keys(keys: Mapping[str, str] | None) -> dict[str, str]:
    """Check the names under which a user's files keep the labels.

    Raises
    ------
    ConfigError
        If a label is none of `energy`, `forces`, `stress`, `virial`.

    Examples
    --------
    >>> check_keys({"energy": "REF_energy"})
    {'energy': 'REF_energy'}
    """
    keys = dict(keys or {})
    for label in keys:
        if label not in _STANDARD_NAMES:
            raise ConfigError(f"keys: unknown label {label!r}; {nearest_name(str(label), _STANDARD_NAMES)}")
    return keys


def label_names(present: Collection[str], keys: Mapping[str, str]) -> dict[str, str]:
    """Return the name under which each label is present.

    A name given by the user replaces the standard one, so that levels of theory are never mixed.

    Examples
    --------
    >>> label_names(["energy", "REF_energy", "forces"], {"energy": "REF_energy"})
    {'energy': 'REF_energy', 'forces': 'forces'}
    """
    found = {}
    for label, standard in _STANDARD_NAMES.items():
        candidates = (keys[label],) if label in keys else standard
        name = next((name for name in candidates if name in present), None)
        if name is not None:
            found[label] = name
    return found


def similar_names(structure: Structure, present: Collection[str]) -> dict[str, tuple[str, ...]]:
    """Return, for each label that the structure lacks, names in its file that look like it."""
    similar = {}
    for label in LABELS:
        if getattr(structure, label) is None:
            names = tuple(sorted(name for name in present if _looks_like(label, name.lower())))
            if names:
                similar[label] = names
    return similar


def _looks_like(label: str, name: str) -> bool:
    if any(word in name for word in _OTHER_MEANING):
        return False
    return name in _SHORT[label] or any(word in name for word in _WORDS[label])


def stress_label(
    stress: ArrayLike | None, virial: ArrayLike | None, cell: NDArray[np.float64], origin: Origin
) -> NDArray[np.float64] | None:
    """Return the stress from a stress (eV/Å³, ASE's sign) or from a virial (eV, minus volume times stress).

    Parameters
    ----------
    stress, virial : array of 6 values (xx yy zz yz xz xy) or of 3 x 3, or None
    cell : ndarray, shape (3, 3), Å

    Returns
    -------
    ndarray, shape (6,), eV/Å³, or None
        None also where there is only a virial and the cell has no volume.

    Raises
    ------
    DataError
        If both are given and contradict each other.

    Examples
    --------
    >>> stress_label(None, np.diag([8.0, 4.0, 0.0]), np.diag([1.0, 2.0, 4.0]), Origin()).round(9).tolist()
    [-1.0, -0.5, 0.0, 0.0, 0.0, 0.0]
    """
    volume = abs(float(np.linalg.det(cell)))
    from_stress = None if stress is None else _voigt(stress, "stress", origin)
    if virial is None or volume == 0.0:
        return from_stress
    from_virial = 0.0 - _voigt(virial, "virial", origin) / volume
    if from_stress is None:
        return from_virial
    scale = max(float(np.abs(from_virial).max()), float(np.abs(from_stress).max()))
    if np.abs(from_stress - from_virial).max() > 1e-3 * scale + 1e-6:
        raise DataError(
            f"{origin}: stress and virial contradict each other: virial = -volume x stress, stress positive "
            "when the structure wants to shrink; remove the wrong one"
        )
    return from_stress


def _voigt(values: ArrayLike, what: str, origin: Origin) -> NDArray[np.float64]:
    array = np.asarray(values, dtype=np.float64)
    if array.size == 6:
        return array.reshape(6)
    if array.size != 9:
        raise FormatError(f"{origin}: {what} has {array.size} values, expected 6 or 9; correct the file")
    full = array.reshape(3, 3)
    full = 0.5 * full + 0.5 * full.T
    return full[FIRST, SECOND]


def make_frame(structure: Structure, present: Collection[str] = ()) -> Frame:
    """Check the geometry of a structure and note the names in its file that look like missing labels."""
    check_geometry(structure)
    return Frame(structure, similar_names(structure, present))
