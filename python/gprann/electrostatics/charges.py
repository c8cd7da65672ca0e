"""Charges of Coulomb baselines that are fitted: to structures held out, to locality, or to dipoles."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.linalg import null_space
from scipy.optimize import least_squares

from gprann.arrays import Array
from gprann.baselines import Coulomb
from gprann.data.structure import Dataset
from gprann.electrostatics.held_out import Residuals, hold_out, settings_of
from gprann.electrostatics.locality import HessianRows
from gprann.errors import ConfigError, DataError
from gprann.io.reading import Source, structures

_log = logging.getLogger(__name__)
_DIGITS = 12  # of charges; what lies behind is rounding, and would charge structures that are to be neutral
_TIE = 0.1  # weight of formal charges among three or more elements, relative to the data's own curvature


@dataclass(frozen=True, slots=True)
class ChargeFit:
    """Fitted charges.

    Attributes
    ----------
    baseline : Coulomb
        With these charges.
    charges, std : dict of str to float, e
        Charge of each element, and its standard deviation.
    without, with_charges : float
        Root mean square of what they were fitted to, and of what they leave of it.
    warning : str
        Advice to leave the baseline out, where it leaves no less; else empty.
    """

    baseline: Coulomb
    charges: dict[str, float]
    std: dict[str, float]
    without: float
    with_charges: float
    warning: str = ""

    def __str__(self) -> str:
        values = ", ".join(f"{symbol} {q:+.3f}({self.std[symbol]:.3f})" for symbol, q in self.charges.items())
        line = f"charges {values} e; {self.with_charges / max(self.without, 1e-300):.2f} of the residuals are left"
        return f"{line}; {self.warning}" if self.warning else line


def fit_charge_scale(data: Source, formal: Coulomb, *, seed: int = 0, **options: Any) -> ChargeFit:
    """Find the factor on formal charges that explains what structures held out of a surrogate leave unexplained.

    The residuals r_y of labels and r_h of the energies and forces of the formal charges come from surrogates with the
    same hyperparameters. The squared factor q² is that for which the squares of r_y - q² r_h are least: long-ranged
    energies are what the surrogate cannot explain, so that short-ranged physics does not count.

    Parameters
    ----------
    data : Dataset, or anything that `gprann.read` takes
        At least ten structures with energies and forces.
    formal : Coulomb
        With formal charges, and a scale of one.
    seed : int
        Of the fifths that are held out.
    **options
        Of `Surrogate`.

    Returns
    -------
    ChargeFit
        Its standard deviation is the scatter between the fifths.

    Examples
    --------
    >>> import gprann
    >>> data = gprann.examples.hydrogen(12)
    >>> found = gprann.fit_charge_scale(data, gprann.Coulomb(charges={"H": 1.0}), kernel="pairs")
    >>> found.charges["H"] >= 0
    True
    """
    data = structures(data)
    part = formal.evaluate(data)
    charged = Dataset(
        one.replace(energy=float(part.energy[k]), forces=(part.forces or [])[k], stress=None)
        for k, one in enumerate(data)
    )
    settings = settings_of(data, options)
    y, h = (_flatten(hold_out(labels, settings, seed)) for labels in (data, charged))
    unit = _units(y)
    y, h = [_in_units(a, *unit) for a in y], [_in_units(a, *unit) for a in h]
    products = np.array([[float(np.sum(a * b)), float(np.sum(a * a))] for a, b in zip(h, y, strict=True)])
    groups = np.array_split(np.random.default_rng(seed).permutation(len(data)), 5)
    parts = [products[group, 0].sum() / max(products[group, 1].sum(), 1e-300) for group in groups]
    squared = float(products[:, 0].sum() / max(products[:, 1].sum(), 1e-300))
    left = float(np.sqrt(sum(float(np.sum((b - squared * a) ** 2)) for a, b in zip(h, y, strict=True))))
    before = float(np.sqrt(sum(float(np.sum(b * b)) for b in y)))
    scale = float(np.sqrt(max(squared, 0.0)))
    error = float(np.std(parts, ddof=1)) / np.sqrt(len(parts)) / max(2.0 * scale, 1e-6)
    warning = ""
    if not squared > 0.0:
        warning, scale = "structures held out do not feel these charges: leave the baseline out", 1e-6
    return _finish(formal, scale, error, (before, left), warning)


def _finish(
    formal: Coulomb, scale: float, error: float, errors: tuple[float, float], warning: str
) -> ChargeFit:
    charges = {} if isinstance(formal.charges, str) else formal.charges
    baseline = formal.replace(scale=formal.scale * scale)
    found = ChargeFit(
        baseline,
        {symbol: baseline.scale * q for symbol, q in charges.items()},
        {symbol: formal.scale * error * abs(q) for symbol, q in charges.items()},
        *errors,
        warning,
    )
    (_log.warning if warning else _log.info)("charges times %.3f(%.3f): %s", scale, error, found)
    return found


def _flatten(residuals: Residuals) -> list[Array]:
    """Return energies and forces of each structure in one vector."""
    return [
        np.concatenate([[energy], np.asarray(force).ravel()])
        for energy, force in zip(residuals.energies, residuals.forces, strict=True)
    ]


def _units(rows: Sequence[Array]) -> tuple[float, float]:
    """Return the root mean squares of energies and of forces."""
    energies = np.sqrt(np.mean([row[0] ** 2 for row in rows]))
    forces = np.sqrt(np.mean(np.concatenate([row[1:] for row in rows]) ** 2))
    return max(float(energies), 1e-300), max(float(forces), 1e-300)


def _in_units(row: Array, energy: float, force: float) -> Array:
    """Return energy and forces of a structure so that both count the same."""
    return np.concatenate([row[:1] / energy, row[1:] / (force * np.sqrt(len(row) - 1))])


def fit_charges_to_locality(
    rows: Sequence[HessianRows], formal: Coulomb, *, radius: float = 6.0, tie: float = _TIE
) -> ChargeFit:
    """Find the charges that explain best how atoms beyond a radius act on each other.

    Parameters
    ----------
    rows : sequence of HessianRows
        Of the reference, two calculations for each atom.
    formal : Coulomb
        With formal charges: they tell signs, and of three or more elements the ratios as far as the data do not.
    radius : float, Å
    tie : float
        How much the formal ratios count; 0 for not at all.

    Returns
    -------
    ChargeFit
        The structures stay neutral if the formal charges make them so. Standard deviations are those of least squares.

    Examples
    --------
    >>> import gprann
    >>> from ase.build import bulk
    >>> salt = gprann.Structure.from_ase(bulk("NaCl", "rocksalt", a=5.64, cubic=True).repeat(2))
    >>> true, formal = (gprann.Coulomb(charges={"Na": q, "Cl": -q}) for q in (0.8, 1.0))
    >>> rows = gprann.HessianRows.of(salt, true)
    >>> round(gprann.fit_charges_to_locality([rows], formal, radius=5.0).charges["Na"], 3)
    0.8
    """
    if isinstance(formal.charges, str):
        raise ConfigError("charges: give formal charges by element")
    symbols = list(formal.charges)
    start = formal.scale * np.array([formal.charges[symbol] for symbol in symbols])
    terms = _Terms(rows, formal, symbols, radius)
    basis = _neutral(rows, symbols, start)
    y0 = basis.T @ start
    curvature = float(np.linalg.norm(terms.slopes(start) @ basis)) / max(float(np.linalg.norm(y0)), 1e-12)
    weight = tie * curvature if len(symbols) > 2 else 0.0
    across = np.eye(len(start)) - np.outer(start, start) / float(start @ start)  # what changes the ratios

    def misfit(y: Array) -> Array:
        charges = basis @ y
        return np.concatenate([terms.reference - terms.values(charges), weight * (across @ charges)])

    def slopes(y: Array) -> Array:
        return np.concatenate([-terms.slopes(basis @ y) @ basis, weight * across @ basis])

    best = min(
        (least_squares(misfit, scale * y0, jac=slopes) for scale in (1.0, 0.5, 0.2)),
        key=lambda r: float(r.cost),
    )
    charges = np.round(basis @ best.x, _DIGITS)
    charges = charges if charges @ start >= 0 else -charges
    left = terms.reference - terms.values(charges)
    variance = float(left @ left) / max(len(left) - len(best.x), 1)
    covariance = basis @ np.linalg.pinv(best.jac.T @ best.jac) @ basis.T * variance
    errors = float(np.sqrt(np.mean(terms.reference**2))), float(np.sqrt(np.mean(left**2)))
    warning = (
        ""
        if errors[1] < errors[0]
        else "no charges explain the forces of distant atoms: leave the baseline out"
    )
    found = _charge_fit(formal, charges, covariance, errors, warning)
    (_log.warning if warning else _log.info)("locality beyond %g Å: %s", radius, found)
    return found


class _Terms:
    """Hessian rows beyond a radius of the reference, and of charges: a quadratic form in these."""

    def __init__(
        self, rows: Sequence[HessianRows], formal: Coulomb, symbols: list[str], radius: float
    ) -> None:
        far = [one.distances() > radius for one in rows]
        if not any(np.any(one) for one in far):
            raise DataError(
                f"{rows[0].structure.origin}: no atom is farther than {radius:g} Å from those that move"
            )
        self.reference = np.concatenate([one.rows[mask].ravel() for one, mask in zip(rows, far, strict=True)])
        n = len(symbols)

        def unit(chosen: Sequence[int]) -> Array:
            charges = {symbol: float(k in chosen) for k, symbol in enumerate(symbols)}
            baseline = formal.replace(charges=charges, scale=1.0, field=None, field_charges=None)
            return np.concatenate(
                [one.same_of(baseline)[mask].ravel() for one, mask in zip(rows, far, strict=True)]
            )

        self.forms = np.zeros((n, n, len(self.reference)))
        for a in range(n):
            self.forms[a, a] = unit([a])
        for a, b in itertools.combinations(range(n), 2):
            both = 0.5 * (unit([a, b]) - self.forms[a, a] - self.forms[b, b])
            self.forms[a, b] = self.forms[b, a] = both

    def values(self, charges: Array) -> Array:
        """Return the rows of these charges."""
        return np.asarray(np.einsum("a,b,abr->r", charges, charges, self.forms))

    def slopes(self, charges: Array) -> Array:
        """Return their derivatives by the charges, (rows, n)."""
        return np.asarray(2.0 * np.einsum("b,abr->ra", charges, self.forms))


def _neutral(rows: Sequence[HessianRows], symbols: list[str], formal: Array) -> Array:
    """Return a basis of the charges with which those structures are neutral that formal charges make so."""
    counts = np.array(
        [[one.structure.symbols.count(symbol) for symbol in symbols] for one in rows], dtype=float
    )
    neutral = counts[np.abs(counts @ formal) < 1e-6]
    if not len(neutral):
        return np.eye(len(symbols))
    basis = null_space(neutral)
    if not basis.shape[1]:
        raise DataError("no charges but zero make all structures neutral; give structures of one composition")
    return np.asarray(basis)


def fit_charges_to_dipoles(data: Source, formal: Coulomb, *, name: str = "dipole") -> ChargeFit:
    """Find the charges that give the dipoles of neutral molecules, by least squares.

    Parameters
    ----------
    data : Dataset, or anything that `gprann.read` takes
        Molecules; each with its dipole (e Å) under `name` in `info`, as extended XYZ has it.
    formal : Coulomb
        Says which elements there are; shapes and widths are kept.
    name : str

    Returns
    -------
    ChargeFit
        Neutral for every composition in the data.

    Examples
    --------
    >>> import gprann
    >>> from ase.build import molecule
    >>> water = molecule("H2O")
    >>> water.info["dipole"] = [0.4, 0.4, -0.8] @ water.positions[[1, 2, 0]]
    >>> formal = gprann.Coulomb(charges={"O": -2.0, "H": 1.0})
    >>> round(gprann.fit_charges_to_dipoles(water, formal).charges["O"], 3)
    -0.8
    """
    data = structures(data)
    if isinstance(formal.charges, str):
        raise ConfigError("charges: give formal charges by element")
    symbols = list(formal.charges)
    equations, dipoles = [], []
    for structure in data:
        dipole = np.asarray(structure.info.get(name, np.zeros(0)), dtype=float)
        if dipole.shape != (3,) or structure.pbc.any():
            raise DataError(
                f"{structure.origin}: charges are fitted to dipoles of molecules; there is no '{name}' of three "
                "numbers, or the structure is periodic"
            )
        kinds = np.array(
            [[symbol == other for other in symbols] for symbol in structure.symbols], dtype=float
        )
        equations.append(structure.positions.T @ kinds)
        dipoles.append(dipole)
    counts = np.array([[one.symbols.count(symbol) for symbol in symbols] for one in data], dtype=float)
    basis = null_space(counts)
    if not basis.shape[1]:
        raise DataError("no charges but zero make all molecules neutral; give molecules of one composition")
    A, b = np.concatenate(equations) @ basis, np.concatenate(dipoles)
    y, *_ = np.linalg.lstsq(A, b, rcond=None)
    left = b - A @ y
    variance = float(left @ left) / max(len(b) - len(y), 1)
    covariance = basis @ np.linalg.pinv(A.T @ A) @ basis.T * variance
    errors = float(np.sqrt(np.mean(b**2))), float(np.sqrt(np.mean(left**2)))
    return _charge_fit(formal, basis @ y, covariance, errors)


def _charge_fit(
    formal: Coulomb, charges: Array, covariance: Array, errors: tuple[float, float], warning: str = ""
) -> ChargeFit:
    """Return charges, in the order of the formal ones, that were found by least squares."""
    found = dict(zip(formal.charges, charges.tolist(), strict=True))
    std = dict(zip(formal.charges, np.sqrt(np.diagonal(covariance)).tolist(), strict=True))
    return ChargeFit(formal.replace(charges=found, scale=1.0), found, std, *errors, warning)
