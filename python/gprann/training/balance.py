"""The balance of energies and forces: the share of the forces in the loss, from what linear models make of the data."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, cast

import numpy as np
from scipy.linalg import LinAlgError, cho_factor, cho_solve

from gprann.arrays import Array, Indices
from gprann.models.base import AtomModel
from gprann.models.network import Mlp
from gprann.runtime.resources import one_blas_thread
from gprann.training.energy_force_objective import EnergyForceObjective
from gprann.training.fit_data import LabelTable
from gprann.training.hold_out import folds
from gprann.training.options import USUAL_ALPHA

_SHARES = (0.1, 0.2, 0.3, 0.5, 0.7, 0.8, 0.9, 0.95, USUAL_ALPHA, 0.99, 0.995)
_RIDGES = (1e-8, 1e-6, 1e-4, 1e-2)  # of the mean diagonal
_WITHIN = 1.1  # times the smallest product of errors: what counts as equally good
_FOLDS = 4
_FEWEST = 20  # structures below which the errors of those held out are chance
_MOST_PARAMETERS = 3000
_FEWEST_ROWS = 4  # for each parameter
_MOST_ROWS = 40000
_FLOPS = 1e11  # that are spent where they allow for more rows than the fewest


def choose_alpha(
    objective: EnergyForceObjective, families: Indices, strata: Indices, seed: int
) -> tuple[float, str]:
    """Return the share of the forces that suits the data, and the reason.

    Forces are many and local, energies few; which of them suffer if the other one counts more depends on the data. The
    linear model with the same descriptor shows it at once: it is solved for a range of shares, and judged by the
    product of the root mean square errors of energies and forces in fourfold cross-validation, which has no unit to
    choose. The usual share is kept unless another one is better by a tenth; then the nearest to it is taken that is not
    worse than the best by more than that.

    Parameters
    ----------
    objective : EnergyForceObjective
        Of all structures. Its model is not used, nor the balance of its labels.
    families, strata : ndarray of int64, shape (n,)
        See `gprann.training.hold_out`.
    seed : int

    Returns
    -------
    alpha : float
    reason : str
    """
    shared = objective.shared
    model = cast(AtomModel, Mlp(hidden=()).build(shared.model.n_features, shared.model.n_species))
    labels = objective.labels
    useful: Indices = np.flatnonzero(labels.structure_weights > 0)
    if len(useful) < _FEWEST:
        return USUAL_ALPHA, f"the usual share; {len(useful)} structures are too few to tell"
    if model.n_parameters > _MOST_PARAMETERS:
        return (
            USUAL_ALPHA,
            f"the usual share; {model.n_parameters} descriptor components are too many to tell",
        )
    linear = EnergyForceObjective(shared.with_model(model), labels, np.arange(len(labels.energies)))
    n = linear.n_parameters
    enough = max(_FEWEST_ROWS * n, min(_MOST_ROWS, int(_FLOPS / n**2)))
    chosen = _some(linear, useful, enough, np.random.default_rng((seed, 17)))
    numbers = folds(families[chosen], strata[chosen], _FOLDS, np.random.default_rng((seed, 18)))
    with one_blas_thread():
        parts = [
            tuple(_Quadratic.of(linear, chosen[numbers == fold], kind) for kind in _KINDS)
            for fold in range(_FOLDS)
        ]
        if not all(part.weight > 0 for fold in parts for part in fold):
            return USUAL_ALPHA, "the usual share; structures with energies or forces are too few to tell"
        products = _products(parts)
    return _decide(products)


def _decide(products: dict[float, float]) -> tuple[float, str]:
    best = min(products, key=products.__getitem__)
    if products[USUAL_ALPHA] <= _WITHIN * products[best]:
        return USUAL_ALPHA, (
            "the usual share; with linear models no other one is much better for both energies and forces"
        )
    good = [share for share in products if products[share] <= _WITHIN * products[best]]
    chosen = min(good, key=lambda share: abs(_logit(share) - _logit(USUAL_ALPHA)))
    gain = products[USUAL_ALPHA] / products[chosen]
    return chosen, (
        f"with linear models the product of the errors of energies and forces of structures that are held out is "
        f"{gain:.2f} times smaller than with the usual {USUAL_ALPHA}"
    )


def _logit(share: float) -> float:
    return float(np.log(share / (1 - share)))


def _some(
    objective: EnergyForceObjective, structures: Indices, enough: int, rng: np.random.Generator
) -> Indices:
    """Return structures at random that have enough residuals between them."""
    order = rng.permutation(structures)
    rows = np.cumsum(objective.select(order).rows_per_structure())
    return np.sort(order[: int(np.searchsorted(rows, enough)) + 1])


Kind = Literal["energy", "force"]
_KINDS: tuple[Kind, ...] = ("energy", "force")


@dataclass(frozen=True, slots=True)
class _Quadratic:
    """The sum of squared errors of energies or forces of a linear model: w·H w + 2 b·w + c, and of the weights."""

    hessian: Array
    slope: Array
    constant: float
    weight: float

    @classmethod
    def of(cls, linear: EnergyForceObjective, structures: Indices, kind: Kind) -> _Quadratic:
        """Return the errors of energies or forces of some structures."""
        chosen = linear.relabel(_only(linear.labels, kind)).select(structures)
        n = linear.n_parameters
        hessian, slope = np.zeros((n, n)), np.zeros(n)
        constant = chosen.normal_equations(np.zeros(n), hessian, slope)
        lower = np.tril(hessian)
        return cls(lower + np.tril(lower, -1).T, slope, constant, chosen.weight_of(kind))

    def error(self, w: Array) -> float:
        """Return the root mean square error."""
        squares = w @ self.hessian @ w + 2 * self.slope @ w + self.constant
        return float(np.sqrt(max(float(squares), 1e-300) / self.weight))


def _only(labels: LabelTable, kind: Kind) -> LabelTable:
    """Return the labels with weights of energies or forces alone."""
    nothing = {
        f"{name}_weights": np.zeros_like(getattr(labels, f"{name}_weights"))
        for name in ("energy", "force", "virial")
        if name != kind
    }
    return replace(labels, **nothing, energy_threshold=np.inf, force_threshold=np.inf)


def _products(parts: list[tuple[_Quadratic, ...]]) -> dict[float, float]:
    """Return the product of the held-out errors for each share of the forces: geometric means over the folds."""
    total = [
        (
            np.sum([p.hessian for p in kind], axis=0),
            np.sum([p.slope for p in kind], axis=0),
            sum(p.weight for p in kind),
        )
        for kind in zip(*parts, strict=True)
    ]

    def judge(share: float, ridge: float) -> float:
        logs = []
        for fold in parts:
            hessian, slope = np.zeros_like(fold[0].hessian), np.zeros_like(fold[0].slope)
            for part, held, (full, full_slope, weight) in zip((1 - share, share), fold, total, strict=True):
                factor = part / (weight - held.weight)
                hessian += factor * (full - held.hessian)
                slope += factor * (full_slope - held.slope)
            hessian.flat[:: len(slope) + 1] += ridge * np.diagonal(hessian).mean()
            try:
                w = -cho_solve(cho_factor(hessian, lower=True, overwrite_a=True), slope)
            except LinAlgError:
                return np.inf
            logs += [np.log(held.error(w)) for held in fold]
        return float(np.exp(2 * np.mean(logs)))

    ridge = min(_RIDGES, key=lambda value: judge(USUAL_ALPHA, value))
    return {share: judge(share, ridge) for share in _SHARES}
