"""Drawings of structures: circles with the symbols of the elements, bonds, and the force that is predicted worst."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from ase.data import atomic_numbers, covalent_radii
from ase.data.colors import jmol_colors
from numpy.typing import NDArray

from gprann.arrays import Array
from gprann.data.structure import Structure
from gprann.evaluation.metrics import number
from gprann.evaluation.page.elements import Markup, element, join
from gprann.evaluation.residuals import Residuals
from gprann.units import MEV

_MOST_ATOMS = 120
_NEAR = 1.25  # times the sum of covalent radii, up to which a line joins two atoms
_SIZE = 360.0  # width of the drawing
_ARROW = 0.25  # of the width: the longer of the two forces
_INK = "#1b1f24"


class Hardest(NamedTuple):
    """A structure with a large error.

    Attributes
    ----------
    number : int
        In its set.
    error : float
        Root mean square error of its force components, eV/Å; without forces, absolute error of its energy, eV/atom.
    atom : int or None
        The one whose force is predicted worst.
    reference, predicted : ndarray, shape (3,), eV/Å, or None
        Forces on this atom.
    energy_error : float, eV/atom
    """

    number: int
    error: float
    atom: int | None
    reference: Array | None
    predicted: Array | None
    energy_error: float


def find_hardest(residuals: Residuals, count: int) -> list[Hardest]:
    """Return the structures with the largest errors of the forces, without forces of the energies, worst first.

    Values that are no numbers count as the largest.
    """
    per_atom = residuals.energy_error / residuals.n_atoms
    forces = residuals.forces
    if forces is None or len(forces) == 0:
        errors = np.nan_to_num(np.abs(per_atom), nan=np.inf)
        chosen = np.argsort(-errors, kind="stable")[:count]
        return [Hardest(int(k), float(errors[k]), None, None, None, float(per_atom[k])) for k in chosen]
    squares = np.nan_to_num(np.sum(forces.error**2, axis=1), nan=np.inf)
    total = np.bincount(forces.structure, weights=squares, minlength=len(residuals))
    atoms = np.bincount(forces.structure, minlength=len(residuals))
    errors = np.sqrt(total / np.maximum(3 * atoms, 1))
    found = []
    for k in np.argsort(-errors, kind="stable")[:count]:
        own = np.flatnonzero(forces.structure == k)
        if len(own) == 0:
            continue
        atom = int(np.argmax(squares[own]))
        worst = own[atom]
        pair = forces.reference[worst], forces.predicted[worst]
        found.append(Hardest(int(k), float(errors[k]), atom, *pair, float(per_atom[k])))
    return found


def draw_hardest(structure: Structure, hardest: Hardest) -> Markup:
    """Return a figure of a structure: its drawing, and a caption with its origin and errors."""
    svg, shown = draw_structure(structure, hardest)
    parts = [element("strong", f"{structure.formula}"), f", {structure.origin}. "]
    parts.append(f"Energy error {number(hardest.energy_error, 1 / MEV)} meV/atom. ")
    if hardest.atom is not None and hardest.reference is not None and hardest.predicted is not None:
        error = float(np.linalg.norm(hardest.predicted - hardest.reference))
        parts.append(
            f"Force components off by {number(hardest.error)} eV/Å (root mean square), most at atom {hardest.atom} "
            f"({structure.symbols[hardest.atom]}, double ring): by {number(error)} of "
            f"{number(float(np.linalg.norm(hardest.reference)))} eV/Å. "
        )
    if shown < len(structure):
        parts.append(f"The nearest {shown} of {len(structure)} atoms are drawn. ")
    return element("figure", svg, element("figcaption", *parts))


class _Scene(NamedTuple):
    """Atoms as they stand on the page, in its units, y downwards, and their depth."""

    x: Array
    y: Array
    depth: Array
    radii: Array
    bonds: NDArray[np.intp]
    height: float


def draw_structure(structure: Structure, hardest: Hardest) -> tuple[Markup, int]:
    """Draw a structure, seen along its thinnest direction; return the drawing and the number of atoms in it."""
    centre = structure.positions[hardest.atom or 0]
    distances = np.linalg.norm(structure.positions - centre, axis=1)
    shown = np.sort(np.argsort(distances, kind="stable")[:_MOST_ATOMS])
    symbols = [structure.symbols[k] for k in shown]
    axes = _view(structure.positions[shown])
    scene = _place(structure.positions[shown] @ axes, symbols)
    low, high = np.zeros(2), np.array([_SIZE, scene.height])
    drawn = [
        _bonds(scene),
        *(_circle(symbols[k], scene, int(k)) for k in np.argsort(scene.depth, kind="stable")),
    ]
    label = f"Drawing of {structure.formula}"
    if hardest.atom is not None:
        marked = int(np.searchsorted(shown, hardest.atom))
        start = np.array([scene.x[marked], scene.y[marked]])
        drawn.append(_ring(start, scene.radii[marked] + 3))
        for vector, dashes in zip(_forces(hardest, axes), (None, "5 4"), strict=False):
            drawn.append(_arrow(start, vector, dashes))
            low, high = np.minimum(low, start + vector - 8), np.maximum(high, start + vector + 8)
        label += f"; the force on {symbols[marked]}, atom {hardest.atom}, is predicted worst"
    box = " ".join(f"{value:.1f}" for value in (*low, *(high - low)))
    return element("svg", *drawn, viewBox=box, role="img", aria_label=label), len(shown)


def _place(places: Array, symbols: Sequence[str]) -> _Scene:
    """Return the atoms on the page; `places`, shape (n, 3), are in Å, the third coordinate towards the reader."""
    covalent = np.array([covalent_radii[atomic_numbers[symbol]] for symbol in symbols])
    distances = np.linalg.norm(places[:, None] - places[None], axis=2)
    bonds = np.argwhere(np.triu(distances < _NEAR * (covalent[:, None] + covalent[None]), 1))
    radii = 0.55 * covalent
    low = (places[:, :2] - radii[:, None]).min(axis=0) - 0.4
    high = (places[:, :2] + radii[:, None]).max(axis=0) + 0.4
    scale = _SIZE / max(float(high[0] - low[0]), 4.0)
    x = (places[:, 0] - (low[0] + high[0]) / 2) * scale + _SIZE / 2
    y = (high[1] - places[:, 1]) * scale
    return _Scene(x, y, places[:, 2], radii * scale, bonds, float(high[1] - low[1]) * scale)


def _view(positions: Array) -> Array:
    """Return three orthogonal directions as columns: along the widest extent, across, and towards the reader."""
    centred = positions - positions.mean(axis=0)
    _, directions = np.linalg.eigh(centred.T @ centred)
    axes = directions[:, ::-1]
    axes = axes * np.where(axes.sum(axis=0) < 0, -1.0, 1.0)
    return np.column_stack([axes[:, 0], axes[:, 1], np.cross(axes[:, 0], axes[:, 1])])


def _bonds(scene: _Scene) -> Markup:
    lines = [f"M{scene.x[i]:.1f} {scene.y[i]:.1f}L{scene.x[j]:.1f} {scene.y[j]:.1f}" for i, j in scene.bonds]
    return element("path", d=" ".join(lines), stroke="#7a818a", stroke_width=2, fill="none")


def _circle(symbol: str, scene: _Scene, k: int) -> Markup:
    """Return the circle of an atom with its symbol in it."""
    x, y, radius = f"{scene.x[k]:.1f}", scene.y[k], scene.radii[k]
    style = {"fill": _tint(symbol), "stroke": _INK}
    circle = element("circle", cx=x, cy=f"{y:.1f}", r=f"{radius:.1f}", **style)
    size = min(max(radius, 6.0), 16.0)
    place = {"x": x, "y": f"{y + 0.35 * size:.1f}", "font_size": f"{size:.1f}"}
    return join([circle, element("text", symbol, **place, text_anchor="middle", fill=_INK)])


def _ring(centre: Array, radius: float) -> Markup:
    """Return the second ring around an atom; it lies above all atoms, as the atom may be hidden."""
    place = {"cx": f"{centre[0]:.1f}", "cy": f"{centre[1]:.1f}", "r": f"{radius:.1f}"}
    return element("circle", **place, fill="none", stroke=_INK, stroke_width=2.5)


def _tint(symbol: str) -> str:
    """Return the usual colour of an element, so pale that black letters can be read on it."""
    colour = 0.35 * jmol_colors[atomic_numbers[symbol]] + 0.65
    return "#" + "".join(f"{round(255 * part):02x}" for part in colour)


def _forces(hardest: Hardest, axes: Array) -> list[Array]:
    """Return the reference force and the predicted one on the page, the longer one of the length of arrows."""
    assert hardest.reference is not None
    assert hardest.predicted is not None
    forces = np.array([hardest.reference, hardest.predicted])
    longest = float(np.max(np.linalg.norm(forces, axis=1)))
    if not np.isfinite(longest) or longest == 0:
        return []
    return list((forces @ axes)[:, :2] * [1.0, -1.0] * _ARROW * _SIZE / longest)


def _arrow(start: Array, vector: Array, dashes: str | None) -> Markup:
    length = float(np.linalg.norm(vector))
    if length < 1.0:
        return Markup("")
    end = start + vector
    along, across = vector / length, np.array([-vector[1], vector[0]]) / length
    wings = [end - 9 * along + side * 4 * across for side in (1, -1)]
    line = element("path", d=f"M{_pair(start)}L{_pair(end)}", stroke_dasharray=dashes)
    head = element("path", d=f"M{_pair(wings[0])}L{_pair(end)}L{_pair(wings[1])}")
    return element("g", line, head, stroke=_INK, stroke_width=2, fill="none")


def _pair(point: Array) -> str:
    return f"{point[0]:.1f} {point[1]:.1f}"
