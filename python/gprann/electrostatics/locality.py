"""The locality test: forces that a cutoff can never explain (Staacke et al., ACS Appl. Energy Mater. 2021)."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gprann.arrays import Array, Indices
from gprann.baselines import Baseline
from gprann.data.structure import Dataset, Structure
from gprann.errors import ConfigError, DataError
from gprann.runtime.atomic_write import atomic_write, make_folder, write_picture

_RADII = (3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0)  # Å
_FEWEST_BEYOND = 2  # atoms


@dataclass(frozen=True, slots=True)
class HessianRows:
    """How the forces on all atoms change when one atom moves in one direction, for some atoms of a structure.

    Attributes
    ----------
    structure : Structure
    atoms : ndarray of int64, shape (k,)
    directions : ndarray, shape (k, 3)
        Unit vectors.
    rows : ndarray, shape (k, N, 3), eV/Å²
        -d(forces)/d(position of the atom along the direction).

    Examples
    --------
    >>> import gprann
    >>> pair = gprann.Structure(("Na", "Cl"), [[0.0, 0, 0], [2.8, 0, 0]])
    >>> rows = gprann.HessianRows.of(pair, gprann.Coulomb(charges={"Na": 1.0, "Cl": -1.0}))
    >>> rows.rows.shape
    (2, 2, 3)
    """

    structure: Structure
    atoms: Indices
    directions: Array
    rows: Array

    @classmethod
    def of(
        cls,
        structure: Structure,
        reference: Baseline,
        atoms: Sequence[int] | None = None,
        *,
        directions: Array | None = None,
        step: float = 0.02,
        seed: int = 0,
    ) -> HessianRows:
        """Compute rows by central differences: two calculations for each atom.

        Parameters
        ----------
        structure : Structure
        reference : Baseline
            What gives the forces, as `CalculatorBaseline(calculator="tblite")`.
        atoms : sequence of int, optional
            Default: one of each element, the one nearest to the middle of the cell.
        directions : ndarray, shape (k, 3), optional
            Default: random ones.
        step : float, Å
        seed : int
            Of the directions.
        """
        chosen = np.array(_one_of_each(structure) if atoms is None else atoms, dtype=np.int64)
        if len(chosen) == 0 or chosen.min() < 0 or chosen.max() >= len(structure):
            raise ConfigError(
                f"atoms: expected numbers from 0 to {len(structure) - 1}, got {chosen.tolist()}"
            )
        if directions is None:
            directions = np.random.default_rng(seed).normal(size=(len(chosen), 3))
        units = np.asarray(directions, dtype=float)
        if units.shape != (len(chosen), 3) or not np.all(np.linalg.norm(units, axis=1) > 0):
            raise ConfigError("directions: expected one vector that is not zero for each atom")
        units = units / np.linalg.norm(units, axis=1, keepdims=True)
        moved = []
        for atom, unit in zip(chosen.tolist(), units, strict=True):
            for sign in (1.0, -1.0):
                positions = structure.positions.copy()
                positions[atom] += sign * step * unit
                moved.append(structure.without_labels().replace(positions=positions))
        forces = reference.evaluate(Dataset(moved)).forces
        if forces is None:
            raise DataError(f"{structure.origin}: {reference} exerts no forces")
        stacked = np.array(forces).reshape(len(chosen), 2, len(structure), 3)
        return cls(structure, chosen, units, (stacked[:, 1] - stacked[:, 0]) / (2.0 * step))

    def same_of(self, baseline: Baseline, step: float = 0.02) -> Array:
        """Return the rows of a baseline for the same atoms and directions, (k, N, 3)."""
        return self.of(
            self.structure, baseline, self.atoms.tolist(), directions=self.directions, step=step
        ).rows

    def distances(self) -> Array:
        """Return the distances of all atoms from those that move, nearest images, (k, N), Å."""
        atoms = self.structure.to_ase()
        every = np.arange(len(atoms))
        found = [atoms.get_distances(atom, every, mic=bool(atoms.pbc.any())) for atom in self.atoms.tolist()]
        return np.array(found).reshape(len(self.atoms), len(atoms))


@dataclass(frozen=True, slots=True)
class Locality:
    """Forces that a potential with a cutoff cannot know, see `locality`.

    Attributes
    ----------
    symbols : list of str
        Elements of the atoms.
    atoms : list of int
    radii : ndarray, shape (R,), Å
    without, with_baseline : ndarray, shape (k, R), eV/Å
        Root mean square force on each atom that atoms beyond the radius induce; NaN where there are none. The latter
        is None without a baseline.
    amplitude : float, Å
        Displacement of these atoms.
    """

    symbols: list[str]
    atoms: list[int]
    radii: Array
    without: Array
    with_baseline: Array | None
    amplitude: float

    @property
    def warning(self) -> str:
        """Advice to leave the baseline out, where it makes the forces of atoms far away larger; else empty."""
        if self.with_baseline is None:
            return ""
        ratio = np.nanmedian(self.with_baseline / np.maximum(self.without, 1e-12))
        if not ratio > 1.0:
            return ""
        return (
            f"the baseline makes the forces of distant atoms {ratio:.2g} times as large: leave it out, or fit its "
            "charges"
        )

    def table(self) -> str:
        """Return the forces by atom and radius."""
        lines = ["forces (eV/Å) induced by atoms beyond a radius", ""]
        lines.append("atom      " + "".join(f"{radius:8.1f} Å" for radius in self.radii))
        for k, (symbol, atom) in enumerate(zip(self.symbols, self.atoms, strict=True)):
            name = f"{symbol} {atom}"
            lines.append(f"{name:10s}" + "".join(_cell(value) for value in self.without[k]))
            if self.with_baseline is not None:
                lines.append("  left    " + "".join(_cell(value) for value in self.with_baseline[k]))
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """Return plain data."""
        with_baseline = None if self.with_baseline is None else _plain(self.with_baseline)
        return {
            "symbols": self.symbols,
            "atoms": self.atoms,
            "radii": self.radii.tolist(),
            "without": _plain(self.without),
            "with_baseline": with_baseline,
            "amplitude": self.amplitude,
        }

    def save(self, folder: str | os.PathLike[str], suffix: str = "") -> None:
        """Write table, plain data and plot into a folder: locality.txt, locality.json, locality.png."""
        target = Path(folder).expanduser()
        make_folder(target)
        with atomic_write(target / f"locality{suffix}.txt") as stream:
            stream.write(self.table() + "\n")
        with atomic_write(target / f"locality{suffix}.json") as stream:
            json.dump(self.to_dict(), stream, indent=1)
        self.plot(target / f"locality{suffix}.png")

    def plot(self, path: str | os.PathLike[str]) -> None:
        """Draw the forces over the radius, one line for each atom."""
        from matplotlib.figure import Figure

        figure = Figure(figsize=(5.0, 3.6), layout="constrained")
        axes = figure.add_subplot()
        for k, (symbol, atom) in enumerate(zip(self.symbols, self.atoms, strict=True)):
            (line,) = axes.plot(self.radii, self.without[k], marker="o", label=f"{symbol} {atom}")
            if self.with_baseline is not None:
                (left,) = axes.plot(
                    self.radii, self.with_baseline[k], "s--", label=f"{symbol} {atom}, with baseline"
                )
                left.set_color(line.get_color())
        axes.set(xlabel="radius (Å)", ylabel="force of atoms beyond (eV/Å)", yscale="log")
        axes.legend(fontsize="small")
        write_picture(figure, path)


def locality(
    rows: HessianRows,
    baseline: Baseline | None = None,
    *,
    radii: Sequence[float] = _RADII,
    amplitude: float = 0.1,
) -> Locality:
    """Return what forces a cutoff can never explain, and what a baseline leaves of them.

    The force on atom i along n that atoms beyond a radius induce, displaced by `amplitude` in random directions, is
    amplitude times the root of the sum over these atoms j of the squares of n . H_ij, to first order.

    Parameters
    ----------
    rows : HessianRows
        Of the reference.
    baseline : Baseline, optional
    radii : sequence of float, Å
    amplitude : float, Å
        Displacement in each direction.

    Examples
    --------
    >>> import gprann
    >>> from ase.build import bulk
    >>> salt = gprann.Structure.from_ase(bulk("NaCl", "rocksalt", a=5.64, cubic=True).repeat(2))
    >>> charges = gprann.Coulomb(charges={"Na": 1.0, "Cl": -1.0})
    >>> found = gprann.locality(gprann.HessianRows.of(salt, charges), charges, radii=[4.0])
    >>> bool((found.without > 0.01).all()), bool((found.with_baseline < 1e-9).all())
    (True, True)
    """
    distances, edges = rows.distances(), np.asarray(radii, dtype=float)
    left = None if baseline is None else rows.rows - rows.same_of(baseline)
    return Locality(
        [rows.structure.symbols[atom] for atom in rows.atoms.tolist()],
        rows.atoms.tolist(),
        edges,
        _beyond(rows.rows, distances, edges, amplitude),
        None if left is None else _beyond(left, distances, edges, amplitude),
        amplitude,
    )


def _beyond(rows: Array, distances: Array, radii: Array, amplitude: float) -> Array:
    squares = np.square(rows).sum(axis=2)
    result = np.full((len(rows), len(radii)), np.nan)
    for r, radius in enumerate(radii):
        far = distances > radius
        enough = far.sum(axis=1) >= _FEWEST_BEYOND
        result[enough, r] = amplitude * np.sqrt(np.where(far, squares, 0.0).sum(axis=1))[enough]
    return result


def _one_of_each(structure: Structure) -> list[int]:
    """Return for each element the atom that is nearest to the mean position of all atoms."""
    centre = structure.positions.mean(axis=0)
    distance = np.linalg.norm(structure.positions - centre, axis=1)
    order = np.argsort(distance, kind="stable")
    symbols = [structure.symbols[k] for k in order]
    return [int(order[symbols.index(symbol)]) for symbol in dict.fromkeys(structure.symbols)]


def _cell(value: float) -> str:
    return f"{value:10.4f}" if np.isfinite(value) else f"{'-':>10s}"


def _plain(values: Array) -> list[list[float | None]]:
    return [[float(value) if np.isfinite(value) else None for value in row] for row in values]
