"""Energy, forces and pressure of one structure from LAMMPS beside those of the ASE calculator."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gprann.arrays import Array
from gprann.calculator import Calculator
from gprann.errors import GprannError
from gprann.lammps.plugin import Plugin, build
from gprann.potential import Potential

if TYPE_CHECKING:
    from ase import Atoms

_BAR = 1.602176634e6  # bar in an eV/Å³
_DRIVER = """\
import ctypes, sys
library, plugin, script = sys.argv[1:]
lammps = ctypes.CDLL(library, ctypes.RTLD_GLOBAL)
lammps.lammps_open_no_mpi.restype = ctypes.c_void_p
words = [b"lammps", b"-log", b"log.lammps", b"-screen", b"none"]
made = ctypes.c_void_p(lammps.lammps_open_no_mpi(len(words), (ctypes.c_char_p * len(words))(*words), None))
ctypes.CDLL(plugin).gprann_register(made)
lammps.lammps_file(made, script.encode())
"""
_INPUT = """\
units metal
newton on
boundary {boundary}
atom_modify map yes
box tilt large
read_data atoms.data
pair_style gprann
pair_coeff * * "{potential}" {elements}
compute energies all pe/atom
compute stresses all stress/atom NULL virial
compute sums all reduce sum c_stresses[*]
neigh_modify one 20000 page 200000
thermo_style custom step pe pxx pyy pzz pyz pxz pxy vol c_sums[*]
thermo_modify format float %.17g
dump forces all custom 1 forces.dump id fx fy fz c_energies
dump_modify forces sort id format float %.17g
run 0
"""
_ORDER = ("Pxx", "Pyy", "Pzz", "Pyz", "Pxz", "Pxy")
_SUMS = (1, 2, 3, 6, 5, 4)  # columns of stress/atom in Voigt's order


@dataclass(frozen=True, slots=True)
class LammpsCheck:
    """Differences between LAMMPS and the ASE calculator.

    Attributes
    ----------
    name : str
        What was compared.
    differences, limits : dict of str to float
        Largest difference of each quantity, and what is allowed.
    """

    name: str
    differences: dict[str, float]
    limits: dict[str, float]

    @property
    def good(self) -> bool:
        """Whether all differences are within their limits."""
        return all(value <= self.limits[key] for key, value in self.differences.items())

    def table(self) -> str:
        """Return the differences line by line, and the verdict."""
        lines = [self.name]
        for key, value in self.differences.items():
            mark = "" if value <= self.limits[key] else "   too large"
            lines.append(f"  {key:<40} {value:8.1e}   (limit {self.limits[key]:.0e}){mark}")
        verdict = "agree: LAMMPS computes what Python does" if self.good else "DIFFER: do not use this build"
        return "\n".join([*lines, verdict])


def check(
    potential: str | os.PathLike[str],
    atoms: Atoms | None = None,
    *,
    lammps: str | os.PathLike[str] | None = None,
    ranks: int = 1,
) -> LammpsCheck:
    """Compute one structure in LAMMPS and in Python.

    Parameters
    ----------
    potential : path
        File of a potential.
    atoms : ase.Atoms, optional
        Default: 27 atoms of its elements, displaced at random, in a triclinic cell.
    lammps : path, optional
        Prefix of LAMMPS, as for `build`, which is called first.
    ranks : int
        Processes; more than one are started by mpirun.

    Raises
    ------
    ConfigError
        If there is no LAMMPS.
    FormatError
        If the file is no potential.
    GprannError
        If LAMMPS fails: its message.
    """
    model = Potential.load(potential)
    plugin = build(lammps)
    chosen = _any_atoms(model) if atoms is None else atoms.copy()
    _open_directions(chosen)
    with tempfile.TemporaryDirectory() as folder:
        turned = _write_input(Path(folder), chosen, model, Path(potential).expanduser().absolute())
        _run(Path(folder), plugin, ranks)
        rows = np.loadtxt(Path(folder) / "forces.dump", skiprows=9, ndmin=2)
        thermo = _read_thermo(Path(folder) / "log.lammps")
    name = (
        f"{Path(potential).name}, {len(chosen)} atoms, LAMMPS of {plugin.installation.name}, {ranks} process"
    )
    return _compare(name + ("es" if ranks > 1 else ""), chosen, model, turned, (rows, thermo))


def _any_atoms(model: Potential) -> Atoms:
    from ase import Atoms
    from ase.data import atomic_numbers, covalent_radii

    rng = np.random.default_rng(0)
    radius = max(float(covalent_radii[atomic_numbers[symbol]]) for symbol in model.species)
    spacing = max(2.2, 2.1 * radius + 0.4)
    places = np.stack(np.meshgrid(*3 * [np.arange(3.0)], indexing="ij"), axis=-1).reshape(-1, 3)
    symbols = [model.species[k % len(model.species)] for k in range(len(places))]
    cell = 3.0 * spacing * np.array([[1.0, 0.0, 0.0], [0.1, 1.0, 0.0], [-0.05, 0.15, 1.0]])
    atoms = Atoms(symbols, scaled_positions=places / 3.0, cell=cell, pbc=True)
    atoms.positions += rng.uniform(-0.1, 0.1, atoms.positions.shape) * spacing
    return atoms


def _open_directions(atoms: Atoms) -> None:
    """Give directions that are not periodic lattice vectors that reach 2 Å beyond the atoms, as LAMMPS wants it."""
    cell = atoms.cell.complete().array
    for axis in np.flatnonzero(~atoms.pbc):
        height = abs(np.linalg.det(cell)) / float(np.linalg.norm(np.cross(cell[axis - 1], cell[axis - 2])))
        along = (
            atoms.positions @ np.linalg.inv(cell)[:, axis]
        )  # shifts along one vector leave the others alone
        atoms.positions += (2.0 / height - along.min()) * cell[axis]
        cell[axis] *= np.ptp(along) + 4.0 / height
    atoms.set_cell(cell)


def _write_input(folder: Path, atoms: Atoms, model: Potential, file: Path) -> Any:
    """Write script and atoms; return what turns vectors of LAMMPS back."""
    from ase.calculators.lammps import Prism
    from ase.io.lammpsdata import write_lammps_data

    prism = Prism(atoms.cell.array, pbc=atoms.pbc)
    write_lammps_data(
        folder / "atoms.data",
        atoms,
        specorder=list(model.species),
        masses=True,
        prismobj=prism,
        units="metal",
    )
    (folder / "in.lammps").write_text(
        _INPUT.format(
            boundary=" ".join("p" if periodic else "f" for periodic in atoms.pbc),
            potential=file,
            elements=" ".join(model.species),
        ),
        encoding="utf-8",
    )
    return prism


def _run(folder: Path, plugin: Plugin, ranks: int) -> None:
    environment = {**os.environ, "LAMMPS_PLUGIN_PATH": str(plugin.file.parent)}
    command = [*plugin.installation.command, "-in", "in.lammps", "-log", "log.lammps", "-screen", "none"]
    if not plugin.installation.has_plugins:
        library = next(plugin.installation.prefix.rglob("liblammps*.so*"), None)
        if library is None:
            raise GprannError(f"{plugin.installation.prefix}: there is no shared library of LAMMPS to test")
        command = [sys.executable, "-c", _DRIVER, str(library), str(plugin.file), "in.lammps"]
    if ranks > 1:
        command = ["mpirun", "-n", str(ranks), *command]
    try:
        answer = subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, text=True, check=False
        )
    except OSError as error:
        raise GprannError(f"LAMMPS does not run: {error}") from error
    if answer.returncode or not (folder / "forces.dump").is_file():
        log = folder / "log.lammps"
        text = (log.read_text(encoding="utf-8") if log.is_file() else "") + answer.stdout + answer.stderr
        lines = [line for line in text.splitlines() if "ERROR" in line] or text.strip().splitlines()[-1:]
        raise GprannError(f"LAMMPS: {lines[0] if lines else 'no message'}")


def _read_thermo(log: Path) -> dict[str, float]:
    lines = log.read_text(encoding="utf-8").splitlines()
    start = next(k for k, line in enumerate(lines) if line.split()[:1] == ["Step"])
    return dict(zip(lines[start].split(), map(float, lines[start + 1].split()), strict=True))


def _compare(
    name: str, atoms: Atoms, model: Potential, prism: Any, results: tuple[Array, dict[str, float]]
) -> LammpsCheck:
    rows, thermo = results
    reference = atoms.copy()
    reference.calc = Calculator(model)
    energy, forces = float(reference.get_potential_energy()), reference.get_forces()
    largest = max(1.0, float(np.abs(forces).max()))
    differences = {
        "energy, relative": abs(thermo["PotEng"] - energy) / max(1.0, abs(energy)),
        "forces, eV/Å": float(np.abs(prism.vector_to_ase(rows[:, 1:4]) - forces).max()),
        "energies of the atoms, eV": float(np.abs(rows[:, 4] - reference.calc.results["energies"]).max()),
    }
    limits = {
        "energy, relative": 1e-9,
        "forces, eV/Å": 1e-12 * largest,
        "energies of the atoms, eV": 1e-9 * max(1.0, abs(energy) / len(atoms)),
    }
    pressure = np.array([thermo[key] for key in _ORDER])
    scale = max(1.0, float(np.abs(pressure).max()))
    if atoms.pbc.all():
        stress = np.array(reference.get_stress(voigt=False))
        found = prism.tensor2_to_ase(_matrix(pressure))
        differences["pressure, relative"] = float(np.abs(found + _BAR * stress).max()) / scale
        limits["pressure, relative"] = 1e-6
    sums = np.array([thermo[f"c_sums[{k}]"] for k in _SUMS]) / thermo["Volume"]
    differences["sum of stress/atom against it, relative"] = float(np.abs(sums + pressure).max()) / scale
    limits["sum of stress/atom against it, relative"] = 1e-9
    return LammpsCheck(name, differences, limits)


def _matrix(voigt: Array) -> Array:
    xx, yy, zz, yz, xz, xy = voigt
    return np.array([[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]])
