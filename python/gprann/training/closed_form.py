"""Fits of linear and quadratic models in closed form: ridge, balance of energies and forces, deviations."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy.linalg import solve_triangular, svd
from scipy.optimize import minimize_scalar

from gprann.arrays import Array
from gprann.errors import TrainingError
from gprann.training.equations import Equations, Weights, triangular

_log = logging.getLogger(__name__)
_RIDGES = (
    -14.0,
    2.0,
)  # powers of ten of the largest squared singular value, between which the ridge is sought
RATIOS = tuple(10.0**k for k in range(-4, 5))
"""Weights of the forces relative to those of the energies among which cross-validation chooses."""
_USUAL_RATIO = 10.0
_FEWEST_FOLDS = 3
_WITHIN = 1.1  # times the smallest product of errors: what counts as equally good
_SCANNED = 1500  # parameters, or equations if these are fewer, up to which the balance is sought
_TRUSTED = 1e-30
_ROUNDING = 1e-12  # of labels, below which nothing is fitted
_ARD_STEPS = 100
_ARD_LIMIT = 1e12  # times the smallest precision: such a coefficient is zero


class Prior(NamedTuple):
    """Knowledge of the coefficients before the fit.

    Attributes
    ----------
    widths : ndarray, shape (P,)
        Relative standard deviations; zero for coefficients of components that are constant.
    ridge : str or float
        The `regularisation` of `gprann.models.polynomial.Polynomial`.
    """

    widths: Array
    ridge: str | float


@dataclass(slots=True)
class Solution:
    """The most probable coefficients and their covariance.

    Attributes
    ----------
    x : ndarray, shape (P,)
    root : ndarray, shape (P, m)
        The covariance is root root^T, and what `complement` adds.
    ridge : float
        In units of the mean square of the scaled equations.
    effective : float
        Number of parameters that the data determine.
    complement : tuple of ndarrays (m, P) and (P,) and a float, or None
        Orthonormal directions that the equations see, widths, and the standard deviation of scaled coefficients in all
        other directions; None where there are no others.
    """

    x: Array
    root: Array
    ridge: float
    effective: float
    complement: tuple[Array, Array, float] | None = None

    def draw(self, rng: np.random.Generator) -> Array:
        """Return a random deviation from `x`, shape (P,)."""
        result = self.root @ rng.normal(size=self.root.shape[1])
        if self.complement is not None:
            basis, widths, spread = self.complement
            free = rng.normal(size=len(widths))
            result = result + spread * widths * (free - basis.T @ (basis @ free))
        return np.asarray(result)

    def variance(self, rows: Array) -> float:
        """Return the sum of the variances of what rows (m, P) predict."""
        total = float(np.sum((rows @ self.root) ** 2))
        if self.complement is not None:
            basis, widths, spread = self.complement
            scaled = rows * widths
            total += spread**2 * float(np.sum(scaled**2) - np.sum((scaled @ basis.T) ** 2))
        return total


class Spectrum:
    """Singular value decomposition of scaled equations, with which ridges cost nothing.

    With z = x / widths, A = R diag(widths): |A z - c|² + lambda |z|² is minimal at z = V s / (s² + lambda) U^T c. The
    ridge that is most probable maximises the marginal likelihood of y = A z + e, z ~ N(0, sigma²/lambda),
    e ~ N(0, sigma²) (MacKay, Neural Comput. 4, 415 (1992)).

    Parameters
    ----------
    factor : ndarray, shape (m, P + 1)
        R of the weighted equations.
    widths : ndarray, shape (P,)
    count : int
        Equations.
    """

    def __init__(self, factor: Array, widths: Array, count: int) -> None:
        self.widths, self.count = widths, count
        left, self.values, self.basis = svd(
            factor[:, :-1] * widths, full_matrices=False, overwrite_a=True, check_finite=False
        )
        self.along = left.T @ factor[:, -1]
        self.beyond = max(float(factor[:, -1] @ factor[:, -1]) - float(self.along @ self.along), 0.0)
        self.unit = float(np.sum(self.values**2)) / max(int(np.count_nonzero(widths)), 1)

    def misfit(self, ridge: float) -> float:
        """Return the smallest |A z - c|² + lambda |z|²."""
        squares = self.values**2
        return self.beyond + float(np.sum(self.along**2 * ridge / (squares + ridge)))

    def evidence(self, ridge: float) -> float:
        """Return twice the negative logarithm of the marginal likelihood, up to a constant, for the best sigma."""
        squares = self.values**2
        misfit = max(self.misfit(ridge), _TRUSTED)
        return self.count * float(np.log(misfit / self.count)) + float(np.sum(np.log1p(squares / ridge)))

    def most_probable_ridge(self) -> float:
        """Return the ridge of the largest evidence."""
        largest = max(float(self.values[0]) ** 2, _TRUSTED)
        powers = np.arange(_RIDGES[0], _RIDGES[1] + 0.5)
        values = [self.evidence(largest * 10.0**power) for power in powers]
        best = float(powers[int(np.argmin(values))])
        found = minimize_scalar(
            lambda power: self.evidence(largest * 10.0**power), bounds=(best - 1, best + 1), method="bounded"
        )
        return largest * float(10.0 ** float(found.x))

    def coefficients(self, ridge: float) -> Array:
        """Return the coefficients x, shape (P,)."""
        shrunk = self.along * self.values / (self.values**2 + ridge)
        return np.asarray(self.widths * (shrunk @ self.basis))

    def solve(self, ridge: float) -> Solution:
        """Return coefficients and covariance."""
        squares = self.values**2
        sigma = np.sqrt(self.misfit(ridge) / self.count)
        root = (self.widths[:, None] * self.basis.T) * (sigma / np.sqrt(squares + ridge))
        rest = None
        if len(squares) < np.count_nonzero(self.widths):
            rest = (self.basis, self.widths, float(sigma / np.sqrt(ridge)))
        effective = float(np.sum(squares / (squares + ridge)))
        return Solution(self.coefficients(ridge), root, ridge / self.unit, effective, rest)


def relevance(factor: Array, widths: Array, count: int) -> Solution:
    """Return the solution with a ridge for each coefficient, by evidence.

    Automatic relevance determination with MacKay's updates: alpha_k = gamma_k / z_k², gamma_k = 1 - alpha_k S_kk
    (Tipping, J. Mach. Learn. Res. 1, 211 (2001)). Coefficients that the data do not need vanish.
    """
    scaled, right = factor[:, :-1] * widths, factor[:, -1]
    start = Spectrum(factor, widths, count)
    ridge = start.most_probable_ridge()
    sigma2 = start.misfit(ridge) / count
    smallest = _ROUNDING**2 * float(right @ right) / count
    alpha, alive = np.full(len(widths), ridge / sigma2), widths > 0
    for _ in range(_ARD_STEPS):
        k = np.flatnonzero(alive)
        z, root = _with_precisions(scaled[:, k], right, alpha[k], sigma2)
        gamma = np.clip(1.0 - alpha[k] * np.sum(root**2, axis=1), 1e-12, 1.0)
        updated = gamma / np.maximum(z**2, _TRUSTED)
        misfit = float(np.sum((scaled[:, k] @ z - right) ** 2))
        sigma2 = max(misfit / max(count - float(gamma.sum()), 1.0), smallest)
        change = float(np.max(np.abs(np.log(updated / alpha[k]))))
        alpha[k] = updated
        alive[k] = updated < _ARD_LIMIT * updated.min()
        if change < 1e-3:
            break
    k = np.flatnonzero(alive)
    z, own = _with_precisions(scaled[:, k], right, alpha[k], sigma2)
    x, root = np.zeros(len(widths)), np.zeros((len(widths), len(k)))
    x[k], root[k] = widths[k] * z, widths[k, None] * own
    return Solution(x, root, float(np.median(alpha[k]) * sigma2 / start.unit), float(gamma.sum()))


def _with_precisions(scaled: Array, right: Array, alpha: Array, sigma2: float) -> tuple[Array, Array]:
    """Return the most probable coefficients and a root of their covariance, for given precisions of prior and noise."""
    sigma = np.sqrt(sigma2)
    prior = np.column_stack([np.diag(np.sqrt(alpha)), np.zeros(len(alpha))])
    upper = triangular(np.vstack([np.column_stack([scaled, right]) / sigma, prior]))
    root = solve_triangular(upper[: len(alpha), :-1], np.eye(len(alpha)))
    return root @ upper[: len(alpha), -1], root


@dataclass(frozen=True, slots=True)
class Scan:
    """Cross-validated errors for one balance of energies and forces.

    Attributes
    ----------
    ratio : float
        Weight of the mean squared error of forces relative to that of energies.
    energy, force : float
        Root mean square errors in units of the labels' own root mean squares.
    """

    ratio: float
    energy: float
    force: float

    @property
    def score(self) -> float:
        """Product of the errors."""
        return self.energy * self.force


def solve(equations: Equations, weights: Weights, prior: Prior, folds: Sequence[int]) -> Solution:
    """Return the solution of some folds.

    Raises
    ------
    TrainingError
        If the coefficients are not finite.
    """
    factor, count = equations.join(weights, folds), equations.count(weights, folds)
    if prior.ridge == "ard":
        solution = relevance(factor, prior.widths, count)
    else:
        spectrum = Spectrum(factor, prior.widths, count)
        if prior.ridge == "evidence":
            ridge = spectrum.most_probable_ridge()
        elif prior.ridge == "cross_validation":
            ridge = _cross_validated_ridge(equations, weights, prior, folds) * spectrum.unit
        else:
            ridge = max(float(prior.ridge), _TRUSTED) * spectrum.unit
        solution = spectrum.solve(ridge)
    if not np.isfinite(solution.x).all():
        raise TrainingError(
            "the fit ended with coefficients that are not finite; look for wrong energies in the data"
        )
    return solution


def _cross_validated_ridge(
    equations: Equations, weights: Weights, prior: Prior, folds: Sequence[int]
) -> float:
    """Return the ridge, in units of the mean square, of the smallest errors of folds that are held out in turn."""
    powers = np.arange(-16.0, 1.5, 0.5)
    total = np.zeros(len(powers))
    for fold in folds:
        others = [other for other in folds if other != fold]
        spectrum = Spectrum(equations.join(weights, others), prior.widths, equations.count(weights, others))
        for k, power in enumerate(powers):
            x = spectrum.coefficients(10.0**power * spectrum.unit)
            total[k] += sum(w * equations.residual(kind, fold, x) for kind, w in enumerate(weights) if w > 0)
    return float(10.0 ** powers[int(np.argmin(total))])


def scan_ratios(equations: Equations, prior: Prior, ratios: Sequence[float] = RATIOS) -> list[Scan]:
    """Return cross-validated errors for some balances of energies and forces."""
    everything = range(equations.n_folds)
    squares = np.array([sum(fold[kind].square for fold in equations.factors) for kind in (0, 1)])
    found = []
    for ratio in ratios:
        weights = balance(ratio)
        wrong = np.zeros(2)
        for fold in everything:
            x = solve(equations, weights, prior, [other for other in everything if other != fold]).x
            wrong += [equations.residual(kind, fold, x) for kind in (0, 1)]
        energy, force = np.sqrt(wrong / np.maximum(squares, _TRUSTED)).tolist()
        found.append(Scan(ratio, energy, force))
    return found


def choose_ratio(equations: Equations, prior: Prior) -> tuple[float, str, list[Scan]]:
    """Return the weight of forces relative to energies that suits the data, the reason, and what was tried.

    The usual one is kept unless another one has a product of cross-validated errors that is smaller by a tenth.
    """
    rows = equations.count(balance(1.0), range(equations.n_folds))
    if equations.n_folds < _FEWEST_FOLDS or not all(f.count for fold in equations.factors for f in fold[:2]):
        return _USUAL_RATIO, "the usual one; too few structures to tell", []
    if min(len(prior.widths), rows) > _SCANNED:
        return _USUAL_RATIO, f"the usual one; {len(prior.widths)} coefficients are too many to tell", []
    # The most probable ridge takes one factorisation, the other choices dozens.
    scans = scan_ratios(
        equations, prior if isinstance(prior.ridge, float) else prior._replace(ridge="evidence")
    )
    best = min(scan.score for scan in scans)
    good = [scan.ratio for scan in scans if scan.score <= _WITHIN * best]
    ratio = min(good, key=lambda value: abs(np.log(value / _USUAL_RATIO)))
    reason = (
        "the nearest to the usual one of those whose cross-validated errors are the smallest, within a tenth"
    )
    return ratio, reason, scans


def balance(ratio: float) -> Weights:
    """Return weights of energies and forces with a given ratio and the sum two, as `alpha` = 1/2 has."""
    return Weights(2.0 / (1.0 + ratio), 2.0 * ratio / (1.0 + ratio), 1.0)


def calibrate(equations: Equations, weights: Weights, prior: Prior) -> tuple[float, float]:
    """Return what standard deviations of energies and forces are multiplied by to cover the errors of held-out folds.

    Ratios of root mean squares, in which each fold is predicted from the others; 1 where there is nothing to tell.
    """
    everything = range(equations.n_folds)
    wrong, expected = np.zeros(2), np.zeros(2)
    for fold in everything if equations.n_folds > 1 else ():
        solution = solve(equations, weights, prior, [other for other in everything if other != fold])
        for kind in (0, 1):
            factor = equations.factors[fold][kind]
            if factor.count:
                wrong[kind] += equations.residual(kind, fold, solution.x)
                expected[kind] += solution.variance(factor.get()[:, :-1])
    found = np.sqrt(wrong / np.maximum(expected, _TRUSTED))
    energy, force = np.where((wrong > 0) & (expected > 0), found, 1.0).tolist()
    return energy, force


def members_of(solution: Solution, count: int, seed: int) -> Array:
    """Return coefficients of the members of a committee, (count, P): draws from the posterior in opposite pairs.

    Their mean is the most probable solution; an odd one out is that itself.
    """
    rng = np.random.default_rng((seed, 21))
    rows = [solution.x] if count % 2 else []
    scale = np.sqrt(count / (count - count % 2)) if count > 1 else 0.0
    for _ in range(count // 2):
        deviation = scale * solution.draw(rng)
        rows += [solution.x + deviation, solution.x - deviation]
    return np.array(rows)
