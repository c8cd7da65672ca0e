"""Analytic potentials with many-body terms as references for structures that nobody has labelled; for guard.py."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from ase.calculators.calculator import Calculator, all_changes
from ase.neighborlist import neighbor_list


class StillingerWeber(Calculator):  # type: ignore[misc]
    """Silicon: Stillinger, Weber, Phys. Rev. B 31, 5262 (1985)."""

    implemented_properties = ["energy", "forces", "stress"]  # noqa: RUF012

    def calculate(
        self, atoms: Any = None, properties: Sequence[str] = (), system_changes: Sequence[str] = all_changes
    ) -> None:
        """Compute energy, forces and, of a periodic structure, the stress."""
        super().calculate(atoms, properties, system_changes)
        epsilon, sigma, reach = 2.1683, 2.0951, 1.8
        i, j, vectors, d = neighbor_list("ijDd", self.atoms, reach * sigma - 1e-6)
        r, unit = d / sigma, vectors / d[:, None]
        decay = 7.049556277 * np.exp(1 / (r - reach))
        pair = (0.6022245584 * r**-4 - 1) * decay
        slope = -4 * 0.6022245584 * r**-5 * decay - pair / (r - reach) ** 2
        energy = 0.5 * pair.sum()
        forces = np.zeros((len(self.atoms), 3))
        push = 0.5 * (slope / sigma)[:, None] * unit
        np.add.at(forces, i, push)
        np.add.at(forces, j, -push)
        virial = vectors.T @ push
        screen = np.exp(1.2 / (r - reach))
        fall = -1.2 / (r - reach) ** 2 * screen / sigma
        for centre in range(len(self.atoms)):
            own = np.flatnonzero(i == centre)
            cosine = unit[own] @ unit[own].T
            bend = 21.0 * (1 - np.eye(len(own))) * (cosine + 1 / 3)
            energy += 0.5 * float(np.sum(bend * (cosine + 1 / 3) * np.outer(screen[own], screen[own])))
            radial = (bend * (cosine + 1 / 3) * screen[own]).sum(axis=1) * fall[own]
            turn = 2 * bend * np.outer(screen[own], screen[own])
            slopes = (
                radial[:, None] * unit[own]
                + (turn @ unit[own] - (turn * cosine).sum(axis=1)[:, None] * unit[own]) / d[own, None]
            )
            np.add.at(forces, j[own], -slopes)
            forces[centre] += slopes.sum(axis=0)
            virial += vectors[own].T @ slopes
        self.results = {"energy": epsilon * energy, "forces": epsilon * forces}
        if self.atoms.pbc.all():
            stress = epsilon * virial / self.atoms.get_volume()
            self.results["stress"] = stress[[0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1]]


class FinnisSinclair(Calculator):  # type: ignore[misc]
    """Molybdenum: Finnis, Sinclair, Phil. Mag. A 50, 45 (1984)."""

    implemented_properties = ["energy", "forces"]  # noqa: RUF012

    def calculate(
        self, atoms: Any = None, properties: Sequence[str] = (), system_changes: Sequence[str] = all_changes
    ) -> None:
        """Compute energy and forces."""
        super().calculate(atoms, properties, system_changes)
        reach, scale, inner = 4.114825, 1.887117, 3.25
        series = np.polynomial.Polynomial([43.4475218, -31.9332978, 6.0804249])
        i, j, vectors, d = neighbor_list("ijDd", self.atoms, reach)
        near = d < inner
        pair = near * (d - inner) ** 2 * series(d)
        slope = near * (2 * (d - inner) * series(d) + (d - inner) ** 2 * series.deriv()(d))
        root = np.sqrt(np.bincount(i, (d - reach) ** 2, len(self.atoms)) + 1e-12)
        pull = 0.5 * slope - scale * (d - reach) / root[i]
        forces = np.zeros((len(self.atoms), 3))
        push = (pull / d)[:, None] * vectors
        np.add.at(forces, i, push)
        np.add.at(forces, j, -push)
        self.results = {"energy": 0.5 * pair.sum() - scale * root.sum(), "forces": forces}
