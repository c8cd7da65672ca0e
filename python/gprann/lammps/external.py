"""Potentials in any LAMMPS that Python drives, by `fix external`: for builds for which no pair style can be made."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from gprann.data.structure import Dataset, Structure
from gprann.errors import ConfigError
from gprann.potential import Potential


def attach(lmp: Any, potential: Potential, elements: Sequence[str], *, fix: str = "gprann") -> None:
    """Let a potential compute energy, forces and pressure of a LAMMPS object, on one process.

    Parameters
    ----------
    lmp : lammps.lammps
        With a box and atoms, `units metal`, and a pair style such as `zero` that finds neighbours.
    potential : Potential
        Any, those with baselines that are calculators included.
    elements : sequence of str
        Element of each atom type.
    fix : str
        Name of the fix that is made.

    Raises
    ------
    ConfigError
        If an element is unknown to the potential, or the units are not metal.

    Notes
    -----
    Energy and virial are counted by the thermo output as if the potential were a pair style; energies of the atoms are
    those of `fix_modify NAME energy yes` with `compute pe/atom`. There are no virials of atoms.
    """
    unknown = [element for element in elements if element not in potential.species]
    if unknown:
        raise ConfigError(
            f"elements: the potential does not know {unknown[0]}; it knows {', '.join(potential.species)}"
        )
    units = lmp.extract_global("units")
    if units != "metal":
        raise ConfigError(f"units of LAMMPS must be metal (eV, Å), not {units}")
    lmp.commands_list([f"fix {fix} all external pf/callback 1 1", f"fix_modify {fix} energy yes virial yes"])
    lmp.set_fix_external_callback(fix, _Callback(lmp, potential, tuple(elements), fix), None)


class _Callback:
    """Takes the atoms of each step from LAMMPS and gives it the prediction."""

    def __init__(self, lmp: Any, potential: Potential, elements: tuple[str, ...], fix: str) -> None:
        self._lmp, self._potential, self._elements, self._fix = lmp, potential, elements, fix

    def __call__(self, _: Any, __: int, nlocal: int, ___: Any, x: Any, f: Any) -> None:
        types = self._lmp.numpy.extract_atom("type")[:nlocal]
        symbols = tuple(self._elements[kind - 1] for kind in types)
        structure = Structure(symbols, np.array(x[:nlocal]), cell=self._cell(), pbc=self._periodic())
        prediction = self._potential.predict(Dataset([structure]))
        f[:nlocal] = prediction.forces[0]
        lmp, fix = self._lmp, self._fix
        lmp.fix_external_set_energy_global(fix, float(prediction.energy[0]))
        if prediction.atom_energies is not None:
            lmp.fix_external_set_energy_peratom(fix, prediction.atom_energies[0].tolist())
        if prediction.stress is not None and np.isfinite(prediction.stress[0]).all():
            size = abs(float(np.linalg.det(structure.cell)))
            xx, yy, zz, yz, xz, xy = (-size * prediction.stress[0]).tolist()
            lmp.fix_external_set_virial_global(fix, [xx, yy, zz, xy, xz, yz])

    def _periodic(self) -> Any:
        return np.array(self._lmp.extract_box()[5], dtype=bool)

    def _cell(self) -> Any:
        low, high, xy, yz, xz, *_ = self._lmp.extract_box()
        size = np.subtract(high, low)
        return np.array([[size[0], 0.0, 0.0], [xy, size[1], 0.0], [xz, yz, size[2]]])
