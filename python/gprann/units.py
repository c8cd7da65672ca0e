"""Units of gprann: Å, eV, eV/Å, eV/Å³, elementary charges, fs. Conversions happen in `io` only."""

from __future__ import annotations

from ase import units as _ase

MEV = 1e-3
"""One meV in eV."""

EV_PER_ANGSTROM3_TO_GPA = 1.0 / float(_ase.GPa)
"""Pressure of 1 eV/Å³ in GPa (160.2)."""
