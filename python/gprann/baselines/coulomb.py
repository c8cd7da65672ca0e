"""Electrostatics of fixed charges: points, Gaussians or Slater densities, in molecules, cells and slabs."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Literal, Self

import numpy as np
from pydantic import model_validator

from gprann import _core
from gprann.arrays import Array
from gprann.baselines.base import Baseline, Contribution, register_baseline
from gprann.data.prediction import voigt_stress, volume
from gprann.data.structure import Dataset, Structure
from gprann.errors import DataError
from gprann.options import ThreeNumbers, option
from gprann.runtime.resources import n_threads

CONSTANT = 14.399645478425668
"""e² / (4 pi epsilon_0), eV Å."""
_DIGITS = 5.26  # root of -ln(1e-12): both sums of Ewald end where their terms fall below
_PAIR_COST = 40.0  # of a pair in real space, in units of an atom and a vector in reciprocal space
_DECAY = 24.0  # exponent at which the tails of Slater densities are cut
_KEPT_CELLS = 8  # whose reciprocal vectors are kept
_GAP = 25.0  # exponent: what periodic images of a slab feel of its structure


@register_baseline
class Coulomb(Baseline):
    """The electrostatic energy of fixed charges, and of these in an external field.

    Molecules are summed directly; cells that are periodic in three directions by Ewald's sum, with metallic
    surroundings and, where they are charged, a neutralising background; slabs likewise with a vacuum of their own and
    the correction of Yeh and Berkowitz (J. Chem. Phys. 111, 3155 (1999)), for charged ones that of Ballenegger et al.
    (J. Chem. Phys. 131, 094107 (2009)), so that the distance between images does not matter. Smeared charges do not
    interact with themselves, which would be a constant.

    Examples
    --------
    >>> import gprann
    >>> import numpy as np
    >>> salt = gprann.Structure(("Na", "Cl"), np.array([[0.0, 0, 0], [2.82, 0, 0]]))
    >>> pair = gprann.Coulomb(charges={"Na": 1.0, "Cl": -1.0}).evaluate(gprann.Dataset([salt]))
    >>> round(float(pair.energy[0]), 4)  # -14.3996 eV Å / 2.82 Å
    -5.1063
    """

    name = "coulomb"
    charges: dict[str, float] | str = option(
        "Charge of each element, or the name of a column of the structure files with one for each atom, such as "
        '"initial_charges".',
        unit="e",
        example={"Na": 1.0, "Cl": -1.0},
    )
    scale: float = option("Factor on all charges: below 1 it stands for electronic screening.", 1.0, gt=0)
    shape: Literal["point", "gaussian", "slater"] = option(
        "Shape of the charge densities: points, Gaussians, or 1s Slater densities, of `widths`.", "point"
    )
    widths: dict[str, float] | None = option(
        "For each element the standard deviation of a Gaussian (Å), or zeta of a Slater density exp(-2 zeta r) (1/Å).",
        None,
        example={"Na": 1.2, "Cl": 1.6},
    )
    field: ThreeNumbers | None = option(
        "External electric field; each charge q contributes -q F . R, atoms as the files place them.",
        None,
        unit="V/Å",
        example=[0.0, 0.0, 0.1],
    )
    field_charges: dict[str, float] | None = option(
        "Charges that the field sees: fitted ones are screened, those that a field moves are Born charges. Default: "
        "`charges` times `scale`.",
        None,
        unit="e",
        example={"Na": 1.0, "Cl": -1.0},
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.shape == "point") != (self.widths is None):
            wanted = "has no effect on points; leave it out" if self.widths else "give one for each element"
            raise ValueError(f"widths: {wanted}")
        for symbol, width in (self.widths or {}).items():
            if not (np.isfinite(width) and width > 0):
                raise ValueError(f"widths: {symbol} = {width}: expected a positive number")
        if self.field_charges is not None and self.field is None:
            raise ValueError("field_charges has no effect without field; leave it out")
        return self

    def evaluate(self, data: Dataset) -> Contribution:
        """Return energies, forces and, of periodic cells and slabs, stresses.

        Raises
        ------
        DataError
            If an atom has no charge, or a structure is periodic in one direction.
        """
        parts = [self._structure(structure) for structure in data]
        energies = [energy for energy, _, _ in parts]
        return Contribution(
            np.array([float(energy.sum()) for energy in energies]),
            [forces for _, forces, _ in parts],
            np.array([stress for _, _, stress in parts]).reshape(len(data), 6),
            energies,
        )

    def potentials(self, structure: Structure) -> Array:
        """Return the electrostatic potential at each atom without that of the field, (N,), V."""
        return self._sums(structure, self.charges_of(structure))[0]

    def charges_of(self, structure: Structure) -> Array:
        """Return the charges of the atoms, scaled, (N,), e.

        Raises
        ------
        DataError
            If an atom has none.
        """
        if isinstance(self.charges, str):
            column = structure.arrays.get(self.charges)
            if column is None or np.shape(column) != (len(structure),):
                raise DataError(
                    f"{structure.origin}: baseline coulomb: there is no column '{self.charges}' of one charge for each "
                    "atom; add it to the file, or give charges by element"
                )
            return self.scale * np.asarray(column, dtype=float)
        return self.scale * _per_atom(structure, self.charges, "charge")

    def _structure(self, structure: Structure) -> tuple[Array, Array, Array]:
        """Return energies of the atoms, forces and stress (Voigt)."""
        charges = self.charges_of(structure)
        potential, gradient, virial = self._sums(structure, charges)
        energies, forces = 0.5 * charges * potential, -gradient
        if self.field is not None:
            field, seen = np.array(self.field), charges
            if self.field_charges is not None:
                seen = _per_atom(structure, self.field_charges, "field charge")
            energies = energies - seen * (structure.positions @ field)
            forces = forces + seen[:, None] * field
        stress = voigt_stress(structure, virial) if structure.pbc.any() else np.full(6, np.nan)
        return energies, forces, stress

    def _sums(self, structure: Structure, charges: Array) -> tuple[Array, Array, Array]:
        widths = np.zeros(0) if self.widths is None else _per_atom(structure, self.widths, "width")
        n_periodic = int(np.count_nonzero(structure.pbc))
        if n_periodic == 0:
            positions = np.ascontiguousarray(structure.positions)
            return _core.coulomb_molecule(positions, charges, widths, self.shape, n_threads())
        if n_periodic == 1:
            raise DataError(
                f"{structure.origin}: baseline coulomb: structures that are periodic in one direction are not summed; "
                "make the cell periodic in all directions, with vacuum around the wire"
            )
        if n_periodic == 3:
            return _cell_sums(structure, charges, widths, self.shape)
        padded, normal, height = _with_vacuum(structure)
        sums = _cell_sums(padded, charges, widths, self.shape)
        corrections = _slab_correction(padded, normal, height, charges)
        return sums[0] + corrections[0], sums[1] + corrections[1], sums[2] + corrections[2]


def _per_atom(structure: Structure, values: Mapping[str, float], what: str) -> Array:
    missing = sorted({symbol for symbol in structure.symbols if symbol not in values})
    if missing:
        raise DataError(
            f"{structure.origin}: baseline coulomb: {', '.join(missing)} has no {what}; known are {', '.join(values)}"
        )
    return np.array([values[symbol] for symbol in structure.symbols])


def choose_splitting(structure: Structure) -> float:
    """Return the splitting parameter of Ewald's sum, 1/Å, for which both sums cost the same.

    With cutoffs r = s/a and k = 2 s a an atom has 4/3 pi r³ N/V pairs and V k³ / (12 pi²) vectors.
    """
    size, n = volume(structure), len(structure)
    return float((_PAIR_COST * 2.0 * np.pi**3 * n / size**2) ** (1 / 6))


@lru_cache(maxsize=_KEPT_CELLS)
def _ewald_sum(lattice: bytes, splitting: float, cutoff: float) -> _core.EwaldSum:
    """Return Ewald's sum of a cell: molecular dynamics in one cell finds its reciprocal vectors once."""
    cell = np.frombuffer(lattice).reshape(3, 3)
    return _core.EwaldSum(cell, splitting, cutoff, 2.0 * _DIGITS * splitting)


def _cell_sums(structure: Structure, charges: Array, widths: Array, shape: str) -> tuple[Array, Array, Array]:
    """Return potentials, gradient and virial of a cell that is periodic in three directions."""
    splitting = choose_splitting(structure)
    cutoff = max(_DIGITS / splitting, _range(widths, shape))
    lattice = np.ascontiguousarray(structure.cell, dtype=float).tobytes()
    positions = np.ascontiguousarray(structure.positions)
    return _ewald_sum(lattice, splitting, cutoff).sums(positions, charges, widths, shape, n_threads())


def _range(widths: Array, shape: str) -> float:
    """Return the distance beyond which smeared charges are points, Å."""
    if shape == "gaussian":
        return float(2.0 * _DIGITS * widths.max())
    return float((_DECAY + 4.0) / (2.0 * widths.min())) if shape == "slater" else 0.0


def _with_vacuum(structure: Structure) -> tuple[Structure, Array, float]:
    """Return a slab with vacuum to spare, as a cell that is periodic in three directions, its normal and height."""
    free = int(np.flatnonzero(~np.asarray(structure.pbc))[0])
    first, second = (structure.cell[axis] for axis in range(3) if axis != free)
    normal = np.cross(first, second)
    area = float(np.linalg.norm(normal))
    if area < 1e-6:
        raise DataError(
            f"{structure.origin}: the two periodic lattice vectors of the slab are parallel or zero"
        )
    normal = normal / area
    along = structure.positions @ normal
    # The shortest reciprocal vector in the plane: images feel exp(-g gap) of a slab's structure.
    shortest = min(
        2.0 * np.pi * float(np.linalg.norm(vector)) / area
        for vector in (first, second, first + second, first - second)
    )
    height = float(np.ptp(along)) + _GAP / shortest
    cell = structure.cell.copy()
    cell[free] = normal * height
    return structure.replace(cell=cell, pbc=np.ones(3, dtype=bool), stress=None), normal, height


def _slab_correction(
    padded: Structure, normal: Array, height: float, charges: Array
) -> tuple[Array, Array, Array]:
    """Return what turns potentials, gradient and virial of a stack of slabs into those of one slab."""
    along = padded.positions @ normal
    along = along - 0.5 * (along.max() + along.min())
    total, dipole, second = (float(charges @ along**power) for power in (0, 1, 2))
    factor = 2.0 * np.pi * CONSTANT / volume(padded)
    energy = factor * (dipole**2 - total * second - total**2 * height**2 / 12.0)
    potential = factor * (2.0 * along * dipole - second - total * along**2 - total * height**2 / 6.0)
    gradient = 2.0 * factor * (charges * (dipole - total * along))[:, None] * normal
    virial = energy * (2.0 * np.outer(normal, normal) - np.eye(3))
    return potential, gradient, virial
