"""Small outputs of VASP, FHI-aims and CP2K for structures with labels, as their programs would have written them.

Only what readers look at is there. Energies are `energy` of the calculator, in the units of the program.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from ase import Atoms
from ase.units import Bohr, Hartree


def vasp_outcar(images: Sequence[Atoms]) -> str:
    """Return an OUTCAR with one ionic step for each structure, all of one element and cell."""
    symbol = images[0].get_chemical_symbols()[0]
    header = (
        f" vasp.6.3.0\n POTCAR:    PAW_PBE {symbol} 15Jun2001\n POTCAR:    PAW_PBE {symbol} 15Jun2001\n"
        "   ISPIN  =      1    spin polarized calculation?\n"
        f"   ions per type =             {len(images[0])}\n   NELM   =     60;   NELMIN=  2; NELMDL= -5\n"
    )
    steps = "".join(_vasp_step(k, atoms) for k, atoms in enumerate(images, start=1))
    return header + steps + " General timing and accounting informations for this job:\n"


def _vasp_step(number: int, atoms: Atoms) -> str:
    energy = atoms.get_potential_energy()
    cell = "".join(
        "    " + "".join(f"{x:13.9f}" for x in (*row, *reciprocal)) + "\n"
        for row, reciprocal in zip(atoms.cell, atoms.cell.reciprocal(), strict=True)
    )
    rows = "".join(
        " " + " ".join(f"{x:14.8f}" for x in (*position, *force)) + "\n"
        for position, force in zip(atoms.positions, atoms.get_forces(), strict=True)
    )
    line = " " + "-" * 83 + "\n"
    return (
        f"{'-' * 27} Iteration {number:6d}(   1)  {'-' * 27}\n"
        f"{'-' * 24} aborting loop because EDIFF is reached {'-' * 22}\n"
        f"      direct lattice vectors                 reciprocal lattice vectors\n{cell}"
        f" POSITION                                       TOTAL-FORCE (eV/Angst)\n{line}{rows}{line}"
        "  FREE ENERGIE OF THE ION-ELECTRON SYSTEM (eV)\n  ---------------------------------------------------\n"
        f"  free  energy   TOTEN  = {energy:16.8f} eV\n\n"
        f"  energy  without entropy= {energy:16.8f}  energy(sigma->0) = {energy:16.8f}\n"
    )


def aims_output(atoms: Atoms) -> str:
    """Return the output of FHI-aims for one structure."""
    symbols = atoms.get_chemical_symbols()
    energy = atoms.get_potential_energy()
    cell = "".join("  | " + "".join(f"{x:17.8f}" for x in row) + "\n" for row in atoms.cell)
    positions = "".join(
        f"  |{k:5d}: Species {symbol:3s}" + "".join(f"{x:17.8f}" for x in position) + "\n"
        for k, (symbol, position) in enumerate(zip(symbols, atoms.positions, strict=True), start=1)
    )
    forces = "".join(
        f"  |{k:5d}" + "".join(f"{x:30.15E}" for x in force) + "\n"
        for k, force in enumerate(atoms.get_forces(), start=1)
    )
    return (
        "          Invoking FHI-aims ...\n\n"
        f"  | Number of atoms                   : {len(atoms):8d}\n  | Number of spin channels           :        1\n"
        f"  The structure contains     {len(atoms)} atoms,  and a total of      {atoms.numbers.sum():.3f} electrons.\n"
        f"  | Number of Kohn-Sham states (occupied + empty):      {20 * len(atoms)}\n"
        f"  | Unit cell:\n{cell}  Atomic structure:\n"
        "  |       Atom                x [A]            y [A]            z [A]\n"
        f"{positions}\n          Begin self-consistency loop: Initialization.\n"
        "          Begin self-consistency iteration #    1\n"
        "  Self-consistency cycle converged.\n"
        f"  | Total energy uncorrected      : {energy:28.15E} eV\n"
        f"  | Electronic free energy        : {energy:28.15E} eV\n"
        f"  | Number of self-consistency cycles          :           12\n"
        f"  Total atomic forces (unitary forces cleaned) [eV/Ang]:\n{forces}\n"
        "          Have a nice day.\n"
    )


def cp2k_output(atoms: Atoms) -> str:
    """Return the output of CP2K (ENERGY_FORCE) for one structure of one element."""
    symbol = atoms.get_chemical_symbols()[0]
    number = atoms.numbers[0]
    axes = zip("abc", atoms.cell, strict=True)
    cell = "".join(
        f" CELL| Vector {axis} [angstrom]:"
        + "".join(f"{x:14.8f}" for x in row)
        + f"   |{axis}| = {np.linalg.norm(row):12.6f}\n"
        for axis, row in axes
    )
    positions = "".join(
        f"{k:7d} {1:5d} {symbol:>3s} {number:4d}" + "".join(f"{x:15.8f}" for x in position) + "  11.0  63.5\n"
        for k, position in enumerate(atoms.positions, start=1)
    )
    forces = "".join(
        f"{k:7d} {1:6d}      {symbol:2s}" + "".join(f"{x:18.10f}" for x in force * Bohr / Hartree) + "\n"
        for k, force in enumerate(atoms.get_forces(), start=1)
    )
    return (
        " CP2K| version string:                                       CP2K version 9.1\n"
        " DBCSR| Multiplication driver                                               BLAS\n"
        f"{cell}\n  1. Atomic kind: {symbol}      Number of atoms: {len(atoms)}\n\n"
        " MODULE QUICKSTEP:  ATOMIC COORDINATES IN angstrom\n\n"
        f"  Atom  Kind  Element       X           Y           Z          Z(eff)       Mass\n\n{positions}\n"
        "  *** SCF run converged in    12 steps ***\n\n"
        f" ENERGY| Total FORCE_EVAL ( QS ) energy (a.u.): {atoms.get_potential_energy() / Hartree:24.12f}\n\n"
        f" ATOMIC FORCES in [a.u.]\n\n # Atom   Kind   Element          X              Y              Z\n{forces}"
        " SUM OF ATOMIC FORCES           0.00000000     0.00000000     0.00000000     0.00000000\n"
    )
