"""Dispersion: the D3 and D4 corrections of Grimme and co-workers."""

from __future__ import annotations

import importlib
from functools import cache
from typing import Any, Literal, Self

import numpy as np
from ase.data import atomic_numbers
from ase.units import Bohr, Hartree
from pydantic import model_validator
from threadpoolctl import ThreadpoolController

from gprann.arrays import Array
from gprann.baselines.base import Baseline, Contribution, register_baseline
from gprann.data.prediction import voigt_stress
from gprann.data.structure import Dataset, Structure
from gprann.errors import ConfigError, DataError
from gprann.options import option

_PACKAGES = {"d3": "dftd3", "d3zero": "dftd3", "d4": "dftd4"}
_CLASSES = {"d3": "RationalDampingParam", "d3zero": "ZeroDampingParam", "d4": "DampingParam"}
_NEEDED = {"d3": {"s8", "a1", "a2"}, "d3zero": {"s8", "rs6"}, "d4": {"s8", "a1", "a2"}}
_ALLOWED = {name: needed | {"s6", "s9", "alp"} for name, needed in _NEEDED.items()}
_ALLOWED["d3zero"].add("rs8")
_HEAVIEST = 103  # element with parameters; the programs notice not all that are heavier
_PAIRS, _COORDINATION, _WIDTH = 60.0, 40.0, 4.0  # Bohr: two cutoffs, and where those of energies set in
_GAP = 35.0  # Å, more than the cutoff of pairs


@register_baseline
class Dispersion(Baseline):
    """London dispersion, which most functionals lack and which reaches farther than the cutoff of a potential.

    The programs s-dftd3 and dftd4 compute it, for molecules, slabs and cells (`pip install 'gprann[dispersion]'`):
    Grimme et al., J. Chem. Phys. 132, 154104 (2010) and J. Comput. Chem. 32, 1456 (2011); Caldeweyher et al., J. Chem.
    Phys. 150, 154122 (2019). Labels that contain such a correction, or the dispersion of a better method, are learned
    more easily without it.

    D4 depends on the total charge: the sum of the column `initial_charges`, where structures have one.

    Examples
    --------
    >>> import gprann
    >>> both = gprann.Dispersion(functional="pbe", method="d4") + gprann.ReferenceEnergies()
    >>> [term.name for term in both.terms]
    ['dispersion', 'reference_energies']
    """

    name = "dispersion"
    functional: str | None = option(
        "Functional of the labels, whose damping parameters are taken, by the names of these programs.",
        None,
        example="pbe",
    )
    method: Literal["d3", "d3zero", "d4"] = option(
        "D3 with the rational damping of Becke and Johnson or with zero damping, or D4.", "d3"
    )
    damping: dict[str, float] | None = option(
        "Damping parameters instead of those of a functional: s8, a1 and a2 (Bohr), of d3zero s8 and rs6; s6, s9 (the "
        "three-body term; 1) and alp, of d3zero rs8 too, if they are not to be the program's defaults.",
        None,
        example={"s8": 0.7875, "a1": 0.4289, "a2": 4.4407},
    )
    three_body: bool | None = option(
        "With the three-body term of Axilrod, Teller and Muto, if the functional is given. Default: with d4 alone.",
        None,
        example=True,
    )
    three_body_cutoff: float = option(
        "Longest side of the triangles of the three-body term, which fades out below. With 21 Å, as the programs have "
        "it, small cells take half a minute.",
        10.5,
        unit="Å",
        gt=3,
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.functional is None) == (self.damping is None):
            raise ValueError("give either functional or damping")
        if self.damping is not None:
            needed, allowed = _NEEDED[self.method], _ALLOWED[self.method]
            given = set(self.damping)
            if not needed <= given <= allowed:
                raise ValueError(
                    f"damping: expected {', '.join(sorted(needed))} and, of {self.method}, perhaps "
                    f"{', '.join(sorted(allowed - needed))}; got {', '.join(sorted(given)) or 'nothing'}"
                )
            if self.three_body is not None:
                raise ValueError("three_body has no effect on given damping parameters; give s9 among them")
        return self

    def evaluate(self, data: Dataset) -> Contribution:
        """Return energies, forces and, of periodic cells, stresses.

        Raises
        ------
        ConfigError
            If the functional is unknown.
        DataError
            If the program refuses a structure.
        ImportError
            If the program is not installed.
        """
        program = _program(_PACKAGES[self.method])
        parameters = self._parameters(program)
        # Sums of several threads would differ in their last digits from run to run.
        with _threads(program.__name__).limit(limits=1):
            parts = [self._structure(program, parameters, structure) for structure in data]
        return Contribution(
            np.array([energy for energy, _, _ in parts]),
            [forces for _, forces, _ in parts],
            np.array([stress for _, _, stress in parts]).reshape(len(data), 6),
        )

    def _parameters(self, program: Any) -> Any:
        kind = getattr(program, _CLASSES[self.method])
        if self.damping is not None:
            return kind(**self.damping)
        three_body = self.method == "d4" if self.three_body is None else self.three_body
        try:
            return kind(method=self.functional, atm=three_body)
        except RuntimeError as error:
            raise ConfigError(
                f"functional = '{self.functional}': {_PACKAGES[self.method]} has no parameters of it for {self.method} "
                f"({error}); give another name, or damping"
            ) from error

    def _structure(self, program: Any, parameters: Any, structure: Structure) -> tuple[float, Array, Array]:
        """Return energy, forces and stress (Voigt)."""
        numbers = np.array([atomic_numbers[symbol] for symbol in structure.symbols])
        if numbers.max(initial=0) > _HEAVIEST:
            heaviest = structure.symbols[int(np.argmax(numbers))]
            raise DataError(
                f"{structure.origin}: baseline dispersion: {heaviest} has no parameters; leave the structure "
                "out"
            )
        surroundings: dict[str, Any] = {}
        if structure.pbc.any():
            surroundings = {"lattice": _lattice(structure) / Bohr, "periodic": np.ones(3, dtype=bool)}
        if self.method == "d4":
            surroundings["charge"] = float(np.sum(structure.arrays.get("initial_charges", 0.0)))
        try:
            model = program.DispersionModel(numbers, structure.positions / Bohr, **surroundings)
            triangles = self.three_body_cutoff / Bohr
            model.set_realspace_cutoff(_PAIRS, triangles, _COORDINATION, _WIDTH, _WIDTH)
            found = model.get_dispersion(parameters, grad=True)
        except RuntimeError as error:
            raise DataError(f"{structure.origin}: baseline dispersion: {error}") from error
        stress = voigt_stress(structure, Hartree * np.asarray(found["virial"]))
        return Hartree * float(found["energy"]), -Hartree / Bohr * found["gradient"], stress


def _lattice(structure: Structure) -> Array:
    """Return lattice vectors, with vacuum in directions that are not periodic: the programs know cells alone."""
    cell, free = structure.cell.copy(), np.flatnonzero(~np.asarray(structure.pbc))
    periodic = [axis for axis in range(3) if axis not in free]
    normals = np.linalg.svd(cell[periodic])[2][len(periodic) :]  # orthogonal to the periodic directions
    for axis, normal in zip(free, normals, strict=True):
        cell[axis] = normal * (float(np.ptp(structure.positions @ normal)) + _GAP)
    return cell


@cache
def _threads(program: str) -> ThreadpoolController:  # noqa: ARG001 - looks anew when another one is loaded
    return ThreadpoolController()


def _program(package: str) -> Any:
    try:
        return importlib.import_module(f"{package}.interface")
    except ImportError as error:
        raise ImportError(
            f"the baseline 'dispersion' needs {package}: pip install 'gprann[dispersion]'"
        ) from error
