"""Labels under the names that files and programs give them, their levels of theory, units and signs."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
from ase import units as ase_units
from numpy.typing import ArrayLike, NDArray
from pydantic import BeforeValidator, field_validator

from gprann.data.prediction import FIRST, SECOND
from gprann.data.structure import Origin, Structure
from gprann.errors import DataError, FormatError, nearest_name
from gprann.io.checks import check_geometry
from gprann.options import Names, Options, option

LABELS = ("energy", "forces", "stress")
"""Labels that a structure may have."""

_STANDARD_NAMES = {
    "energy": ("free_energy", "energy"),
    "forces": ("forces",),
    "stress": ("stress",),
    "virial": ("virial",),
}
_INDEX = re.compile(r"-?\d+|(-?\d+)?:(-?\d+)?(:(-?\d+)?)?", re.ASCII)


# -------------------------------------------------------------------- options
def _index_text(index: object) -> str:
    """Return the text of an index; text that is one is left as it is."""
    if isinstance(index, slice):
        parts = ["" if part is None else str(part) for part in (index.start, index.stop, index.step)]
        text = ":".join(parts if index.step is not None else parts[:2])
    elif isinstance(index, str | int | np.integer) and not isinstance(index, bool):
        text = str(index).strip()
    else:
        text = ""
    step = text.split(":")[2:]
    if not _INDEX.fullmatch(text) or (step and step[0] and int(step[0]) == 0):
        raise ValueError(
            f"index is {index!r}; expected an integer or start:stop:step, for example ':', -1 or '::10'"
        )
    return text


class ReadOptions(Options):
    """How files of structures are read."""

    index: Annotated[str, BeforeValidator(_index_text)] = option(
        "Structures to take from each file, as in ASE: ':' all, '::10' every tenth.", ":"
    )
    keys: dict[str, str] = option(
        "Names under which the files keep energy, forces, stress or virial, where these are not the standard ones. "
        "Labels that are not named are taken from the same level of theory (REF_forces beside REF_energy).",
        {},
        example={"energy": "REF_energy", "forces": "REF_forces"},
    )
    energy: Literal["consistent", "extrapolated"] = option(
        'Which energy is taken where a file has both: "consistent" is the (free) energy whose derivatives the forces '
        'are, "extrapolated" the one without smearing (sigma -> 0).',
        "consistent",
    )
    skip_bad: bool = option(
        "Whether calculations that are cut, damaged or not converged are left out, with a warning that lists them; "
        "otherwise they are errors.",
        False,
    )
    species: Names | None = option(
        "Elements of the types 0, 1, ... in formats that number them, such as MTP's .cfg.",
        None,
        example=["Si", "O"],
    )

    @field_validator("keys")
    @classmethod
    def _check_keys(cls, keys: dict[str, str]) -> dict[str, str]:
        for label in keys:
            if label not in _STANDARD_NAMES:
                raise ValueError(
                    f"keys: unknown label {label!r}; {nearest_name(str(label), _STANDARD_NAMES)}"
                )
        return keys

    @property
    def chosen(self) -> int | slice:
        """The structures to take, as an index of a list."""
        parts = [int(part) if part else None for part in self.index.split(":")]
        return slice(*parts) if len(parts) > 1 else int(self.index)


# --------------------------------------------------------------------- frames
class Frame(NamedTuple):
    """A structure as it was read.

    Attributes
    ----------
    structure : Structure
    similar : mapping
        For each label that is missing, names in its file that look like it.
    notes : tuple of str
        What was converted, ignored or assumed.
    """

    structure: Structure
    similar: Mapping[str, tuple[str, ...]]
    notes: tuple[str, ...] = ()


def make_frame(structure: Structure, present: Collection[str] = (), notes: tuple[str, ...] = ()) -> Frame:
    """Check the geometry of a structure and note the names in its file that look like missing labels."""
    check_geometry(structure)
    similar = {}
    for label in LABELS:
        if getattr(structure, label) is None:
            names = tuple(sorted(name for name in present if _looks_like(label, name.lower())))
            if names:
                similar[label] = names
    return Frame(structure, similar, notes)


_WORDS = {"energy": ("energy",), "forces": ("force",), "stress": ("stress", "virial")}
_SHORT = {
    "energy": {"e", "e0", "etot", "e_tot", "toten", "ref_e", "dft_e"},
    "forces": {"f", "ref_f", "dft_f"},
    "stress": set(),
}
# Words that make of a name another quantity than the total energy, the forces on the atoms or the stress.
_OTHER_MEANING = re.compile(
    r"variance|weight|std|sigma|uncertainty|error|unit|kinetic|cutoff|per_?atom|/atom|formation|binding|cohesive|"
    r"atomi[sz]ation|dispersion|vdw|d3|fermi|interaction|adsorption|surface|zero_?point|zpe|excitation|ionization|"
    r"affinity|band|gap|homo|lumo|exchange|correlation|_xc|xc_|hartree|ewald|madelung|repulsi|nuclear|solvation|"
    r"relative|hull|activation|barrier|reaction|correction|shift|delta|entropy|enthalpy|thermal|electrostatic|"
    r"coulomb|local|atomic_energ|isolated|max|min|mean|rms|norm|smear|strain|elastic|embedding|ads(_|orption)|core|"
    r"self_|(^|_)(pa|pv|ts|sd|ads|bind|vib|rot)(_|$)|vibration|rotation|lattice_?energ|torsion|external|per_?(formula|cell)"
)


def _looks_like(label: str, name: str) -> bool:
    if _OTHER_MEANING.search(name) and not name.startswith("#"):  # a comment is shown, not recommended
        return False
    return name in _SHORT[label] or any(word in name for word in _WORDS[label])


# ------------------------------------------------------------ names and levels
class Chosen(NamedTuple):
    """Names under which the labels of a structure are present, and what is to be said about them."""

    names: dict[str, str]
    notes: tuple[str, ...] = ()


FREE_ENERGY_NOTE = (
    "the free energy is taken, whose derivatives the forces are, not the energy extrapolated to zero smearing "
    '(energy = "extrapolated" takes that one)'
)


def choose_labels(values: Mapping[str, Any], options: ReadOptions, place: object) -> Chosen:
    """Choose the names of the labels so that all of them are of one level of theory.

    A name given by the user replaces the standard one, and others are looked for beside it: with
    `keys={"energy": "REF_energy"}` the forces are `REF_forces` where there are such.

    Parameters
    ----------
    values : mapping
        What the structure has in its file, by name.
    options : ReadOptions
    place : object
        Named in messages.

    Raises
    ------
    DataError
        If it is not clear which forces belong to the energy.

    Examples
    --------
    >>> values = {"energy": -1.0, "REF_energy": -2.0, "forces": 0, "REF_forces": 0}
    >>> choose_labels(values, ReadOptions(keys={"energy": "REF_energy"}), "a.xyz").names
    {'energy': 'REF_energy', 'forces': 'REF_forces'}
    """
    names = {label: name for label, name in options.keys.items() if name in values}
    standard = dict(_STANDARD_NAMES)
    if options.energy == "extrapolated":
        standard["energy"] = ("energy", "free_energy")
    meant = set(options.keys)  # by the user, or of the level that the user names
    for label in [label for label in _STANDARD_NAMES if label not in options.keys]:
        beside = _of_the_same_level(label, standard[label], names, values)
        name = beside or next((name for name in standard[label] if name in values), None)
        if name is None:
            continue
        rival = next(
            (own for own in names if own in options.keys and _has_standard(own, names[own], values)), None
        )
        if beside is None and rival is not None:
            if label in ("stress", "virial"):
                continue
            raise DataError(
                f"{place}: {rival} is there as '{names[rival]}' and under its standard name, {label} only as '{name}': "
                f"it is not clear to which of them it belongs; add {label!r} to keys"
            )
        names[label] = name
        meant |= {label} if beside else set()
    if {"stress", "virial"} <= names.keys() and len({"stress", "virial"} & meant) == 1:
        del names["stress" if "virial" in meant else "virial"]
    ordered = {label: names[label] for label in _STANDARD_NAMES if label in names}
    notes = (FREE_ENERGY_NOTE,) if _differ(values, ordered.get("energy")) else ()
    return Chosen(ordered, notes)


def _of_the_same_level(
    label: str, standard: tuple[str, ...], names: Mapping[str, str], values: Mapping[str, Any]
) -> str | None:
    """Return the name of a label that is built as the user's names are: REF_forces beside REF_energy."""
    lowered: dict[str, str] = {}
    for known, name in names.items():
        for word in (*_STANDARD_NAMES[known], *_WORDS.get(known, (known,))):
            before, found, after = name.lower().partition(word)
            if not found or not before + after:
                continue
            lowered = lowered or {str(name).lower(): str(name) for name in values}
            for other in (*standard, *_WORDS.get(label, ())):
                if before + other + after in lowered and (label != "stress" or "virial" not in other):
                    return lowered[before + other + after]
    return None


def _has_standard(label: str, name: str, values: Mapping[str, Any]) -> bool:
    """Return whether a label stands under a standard name beside the user's, with another value."""
    standard = [own for own in _STANDARD_NAMES[label] if own in values]
    return (
        bool(standard)
        and name not in _STANDARD_NAMES[label]
        and not _equal(values[standard[0]], values[name])
    )


def _equal(a: Any, b: Any) -> bool:
    return bool(np.array_equal(np.asarray(a), np.asarray(b)))


def _differ(values: Mapping[str, Any], taken: str | None) -> bool:
    """Return whether the free energy is taken although there is another energy."""
    if taken != "free_energy" or "energy" not in values:
        return False
    try:
        return abs(float(values["energy"]) - float(values["free_energy"])) > 1e-6
    except (TypeError, ValueError):
        return False


# Of whole structures or of single labels: config_energy_weight, force_atom_sigma, default_sigma, Weight, ...
_WEIGHTS = re.compile(
    r"((config|sample|structure|loss|default)_?)?((energ|force|stress|virial|dipole|hessian)\w*_)?(weights?|sigmas?)",
    re.IGNORECASE,
)
_USED_NAMES = ("weight", "config_weight", "sigma", "Sigma", "SIGMA")  # sigma is the width of a smearing


def label_weight(values: Mapping[str, Any], place: object) -> tuple[float, tuple[str, ...]]:
    """Return the weight of a structure, and a note about weights that have no effect.

    `weight`, and `config_weight` as GAP and MACE write it, are used; weights and standard deviations of single labels
    are not.

    Raises
    ------
    DataError
        If the weight is no number.

    Examples
    --------
    >>> label_weight({"config_weight": 2.0}, "a.xyz")
    (2.0, ())
    """
    value = values.get("weight", values.get("config_weight", 1.0))
    try:
        weight = float(value)
    except (TypeError, ValueError):
        raise FormatError(f"{place}: weight is {str(value)[:40]!r}, expected a number") from None
    ignored = sorted(
        name
        for name, given in values.items()
        if isinstance(name, str)
        and _WEIGHTS.fullmatch(name)
        and name not in _USED_NAMES
        and not _is_one(given)
    )
    if not ignored:
        return weight, ()
    have = "have" if len(ignored) > 1 else "has"
    note = (
        f"{', '.join(ignored)} {have} no effect: a structure has one weight, `weight` or `config_weight`, and the "
        "variance of its energy is `energy_variance` in eV²"
    )
    return weight, (note,)


def _is_one(value: Any) -> bool:
    try:
        return float(value) == 1.0
    except (TypeError, ValueError):
        return False


# ---------------------------------------------------------------------- units
_ENERGY_UNITS = {
    **dict.fromkeys(("ev", "electronvolt", "electronvolts"), 1.0),
    **dict.fromkeys(("ha", "hartree", "hartrees", "eh", "a.u.", "au", "atomic"), ase_units.Hartree),
    **dict.fromkeys(("ry", "rydberg", "rydbergs"), ase_units.Rydberg),
    **dict.fromkeys(("kcal/mol", "kcal_mol", "kcalpermol"), ase_units.kcal / ase_units.mol),
    **dict.fromkeys(("kj/mol", "kj_mol", "kjpermol"), ase_units.kJ / ase_units.mol),
}
_LENGTH_UNITS = {
    **dict.fromkeys(("å", "Å".lower(), "ang", "angstrom", "angstroms", "a"), 1.0),
    **dict.fromkeys(("bohr", "bohrs", "a0", "a.u.", "au"), ase_units.Bohr),
    "nm": 10.0,
    "pm": 0.01,
}
_PRESSURE_UNITS = {
    "pa": ase_units.Pascal,
    "mpa": 1e6 * ase_units.Pascal,
    "gpa": ase_units.GPa,
    "bar": ase_units.bar,
    "kbar": 1e3 * ase_units.bar,
    "kb": 1e3 * ase_units.bar,
    "atm": 101325 * ase_units.Pascal,
}
_QUANTITIES = {
    **dict.fromkeys(("energy", "energies"), "energy"),
    **dict.fromkeys(("length", "position", "positions", "distance", "lattice", "cell"), "length"),
    **dict.fromkeys(("force", "forces"), "forces"),
    **dict.fromkeys(("stress", "pressure"), "stress"),
    **dict.fromkeys(("virial", "virials"), "virial"),
}
_UNIT_KEY = re.compile(
    rf"({'|'.join(_QUANTITIES)})[-_. ]?units?|units?[-_. ](?:of[-_. ])?({'|'.join(_QUANTITIES)})",
    re.IGNORECASE,
)
_OURSELVES = ("ev", "metal", "ase", "å", "ang", "angstrom", "ev/å", "ev/a", "ev/angstrom")
_OURS = {"energy": "eV", "length": "Å", "forces": "eV/Å", "stress": "eV/Å³", "virial": "eV"}


@dataclass(frozen=True, slots=True)
class Units:
    """Factors from the units of a file to ours: eV, Å, eV/Å, eV/Å³, eV."""

    energy: float = 1.0
    length: float = 1.0
    forces: float = 1.0
    stress: float = 1.0
    virial: float = 1.0

    def convert(self, quantity: str, value: Any) -> Any:
        """Return a value in our units; what is in them already keeps its bits."""
        factor = getattr(self, quantity)
        return value if value is None or factor == 1.0 else factor * value


def declared_units(values: Mapping[str, Any], place: object) -> tuple[Units, frozenset[str], tuple[str, ...]]:
    """Return the units that a structure declares by keys such as `energy-unit`, the keys, and a note.

    Forces, stresses and virials of which no unit is declared are in those that follow from energy and length.

    Raises
    ------
    DataError
        If a unit is unknown.

    Examples
    --------
    >>> units, keys, note = declared_units({"energy-unit": "hartree", "force_unit": "hartree/bohr"}, "a.xyz")
    >>> round(units.energy, 3), round(units.forces, 3)
    (27.211, 51.422)
    """
    found = {str(name): match for name in values if (match := _UNIT_KEY.fullmatch(str(name)))}
    for name in values:
        if str(name).lower() in ("unit", "units") and str(values[name]).lower() not in _OURSELVES:
            raise DataError(
                f"{place}: {name} is {str(values[name])[:40]!r}, which does not say of what; write energy-unit, "
                "length-unit, force-unit or stress-unit, or convert the file to eV, Å, eV/Å and eV/Å³"
            )
    if not found:
        return Units(), frozenset(), ()
    factors: dict[str, float] = {}
    said = []
    for name, match in found.items():
        quantity = _QUANTITIES[(match[1] or match[2]).lower()]
        factor = _factor(quantity, str(values[name]))
        if factor is None:
            raise DataError(
                f"{place}: {name} is {str(values[name])[:40]!r}, which is no unit known here; convert the file to "
                "eV, Å, eV/Å and eV/Å³"
            )
        if abs(factors.setdefault(quantity, factor) / factor - 1.0) > 1e-9:
            raise DataError(f"{place}: two different units of {quantity} are declared; remove one")
        if factor != 1.0:
            said.append(f"{quantity} from {values[name]} to {_OURS[quantity]}")
    energy, length = factors.get("energy", 1.0), factors.get("length", 1.0)
    derived = {"forces": energy / length, "stress": energy / length**3, "virial": energy}
    note = (f"units that the file declares are converted: {', '.join(said)}",) if said else ()
    return Units(**{**derived, **factors}), frozenset(found), note


def _factor(quantity: str, text: str) -> float | None:
    """Return the factor from a unit to ours, None if it is unknown."""
    if text.strip() == "meV" and quantity in ("energy", "virial"):
        return 1e-3
    unit = re.sub(r"[\s^()\[\]]|\*\*", "", text.lower().replace("³", "3"))
    unit = re.sub(r"_?per|_/", "/", unit).strip("_")
    known = {
        "energy": _ENERGY_UNITS,
        "virial": _ENERGY_UNITS,
        "length": _LENGTH_UNITS,
        "stress": _PRESSURE_UNITS,
    }.get(quantity, {})
    if unit in known or quantity in ("energy", "virial", "length"):
        return known.get(unit)
    energy, _, length = unit.rpartition("/")
    power = 3 if quantity == "stress" else 1
    if power == 3 and length.endswith("3"):
        length = length[:-1]
    elif power == 3:
        return None
    if energy not in _ENERGY_UNITS or length not in _LENGTH_UNITS:
        return None
    return float(_ENERGY_UNITS[energy] / _LENGTH_UNITS[length] ** power)


# --------------------------------------------------------------------- stress
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
            "when the structure wants to shrink; remove the wrong one, or name the right one in keys"
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
