"""Structures of the training set left out of it: their errors and uncertainties, and calibration by them.

With the factor of a covariance matrix each of them is left out in turn, in closed form. Conjugate gradients solve
again for the errors, with some structures left out at once: fewer structures to learn from, so that errors are a
little larger than with each left out alone. Representatives stay where they can, and with them their factor.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from gprann.data.structure import Dataset, evenly_spread
from gprann.runtime.resources import one_blas_thread
from gprann.surrogate.calibration import FEWEST, Calibration, calibrate
from gprann.surrogate.hyperparameters.choice import IN_TURN_ROWS, structures_for
from gprann.surrogate.hyperparameters.settings import LeftOut, leave_out_in_turn, left_out_variance
from gprann.surrogate.observations import observations
from gprann.surrogate.solvers.inducing import InducingApproximation
from gprann.surrogate.solvers.posterior import DensePosterior, energy_variance, structure_covariance
from gprann.surrogate.solvers.solve import Fit, conjugate_gradient, solve_raising_noise

__all__ = ["calibration_last", "calibration_of", "leave_out", "left_out_std"]

Array = NDArray[np.float64]
_MOST = 50  # structures left out by solvers without the whole matrix, a tenth of the training set otherwise


def calibration_last(data: Dataset, seed: int) -> Dataset:
    """Put the structures to calibrate with last: leaving them out then costs a corner of L alone."""
    if structures_for(data, IN_TURN_ROWS) == len(data):
        return data
    return data.select(np.random.default_rng([seed, 1]).permutation(len(data)))


@one_blas_thread()
def calibration_of(fit: Fit, seed: int) -> Calibration:
    """Return the factors on the standard deviations.

    From the last structures of the training set (see `calibration_last`), or, by solvers without the covariance
    matrix, from a random tenth of it, no representatives where there are ten others. Below twenty structures the
    latter leave the factors at 1.
    """
    data, invariant = fit.equations.data, fit.equations.fingerprint.invariant
    whole = _whole(fit)
    if whole is not None:
        problem, factor = whole.problem, whole.factor
        last = range(len(data) - structures_for(data, IN_TURN_ROWS), len(data))
        alpha = factor.solve(problem.values)
        errors = leave_out_in_turn(problem, factor, alpha, problem.noise(*fit.solution.noise), last)
        return calibrate(errors, data[last[0] :], invariant)
    if len(data) < 2 * FEWEST:
        return Calibration()
    count = int(np.clip(len(data) // 10, FEWEST, _MOST))
    shuffled = np.random.default_rng([seed, 1]).permutation(len(data))
    if fit.solution.eliminated is not None:
        others = shuffled[~np.isin(shuffled, fit.solution.eliminated.chosen)]
        shuffled = shuffled if len(others) < FEWEST else others
    chosen = np.sort(shuffled[:count])
    return calibrate(leave_out(fit, chosen), data.select(chosen), invariant)


@one_blas_thread()
def left_out_std(fit: Fit, count: int) -> Array:
    """Return the standard deviations, not calibrated, of `count` structures left out; see `Surrogate`."""
    chosen = evenly_spread(len(fit.equations.data), count)
    whole, eliminated = _whole(fit), fit.solution.eliminated
    if whole is not None:
        relative = _in_turn(whole, chosen, fit)
    elif eliminated is not None:
        relative = np.zeros(len(chosen))
        own = np.isin(chosen, eliminated.chosen)
        relative[own] = _in_turn(eliminated.posterior, np.searchsorted(eliminated.chosen, chosen[own]), fit)
        if not own.all():
            others = fit.equations.fingerprint.rows(fit.equations.data.select(chosen[~own]))
            relative[~own] = energy_variance(eliminated.posterior, others.sets(), fit.kernel)
    else:
        relative = np.array([block[0, 0] for _, block in _left_out_of(fit, chosen)])
    std: Array = np.sqrt(fit.amplitude2 * np.maximum(relative, 0.0))
    return std


def _in_turn(posterior: DensePosterior, places: NDArray[np.int64], fit: Fit) -> Array:
    """Return the relative variances of factorised structures, each given the others, without noise."""
    variance = np.array(left_out_variance(posterior.problem, posterior.factor, places))
    return np.asarray(variance - fit.solution.noise[0])


def leave_out(fit: Fit, chosen: NDArray[np.int64]) -> LeftOut:
    """Return the errors of some structures predicted without them, by a solver without the whole matrix.

    Parameters
    ----------
    fit : Fit
        By conjugate gradients, which leave the structures out together, or by inducing structures, one by one.
    chosen : ndarray of int64
        Structures left out, fewer than there are.

    Raises
    ------
    FactorisationError
        If no noise makes the equations solvable.
    """
    if fit.solution.plan.solver == "inducing":
        parts = list(_left_out_of(fit, chosen))
        return LeftOut(
            np.array([errors[0] for errors, _ in parts]),
            [errors[1:] for errors, _ in parts],
            [fit.amplitude2 * block for _, block in parts],
        )
    part = _without(fit, chosen)
    equations, solution, fingerprint = part.equations, part.solution, part.equations.fingerprint
    energies, gradients, latent = [], [], []
    for structure in fit.equations.data.select(chosen):
        own = Dataset([structure])
        rows, jacobians = fingerprint.rows(own), fingerprint.jacobians(own)
        energy, slopes = solution.folded.predict(rows, part.kernel)
        slope = slopes.ravel() @ jacobians[0]
        observed = observations(structure, equations.mean, fingerprint.invariant)
        energies.append(observed[0] - energy[0])
        gradients.append(observed[1:] - slope)
        block = structure_covariance(solution.posterior, rows.sets(jacobians), part.kernel)
        latent.append(part.amplitude2 * block)
    return LeftOut(np.array(energies), gradients, latent, solution.converged)


def _without(fit: Fit, chosen: NDArray[np.int64]) -> Fit:
    """Solve by conjugate gradients without some structures."""
    data, before = fit.equations.data, fit.solution
    indices = np.setdiff1d(np.arange(len(data)), chosen)
    kept = data.select(indices)
    equations = replace(fit.equations, data=kept, mean=float(kept.energies.mean()))
    without = f"without {len(chosen)} structures that are left out to judge the standard deviations"
    plan = replace(before.plan, inducing=min(before.plan.inducing, len(kept)), purpose=without)
    eliminated = None if before.eliminated is None else before.eliminated.within(indices)
    quicker = None
    if eliminated is not None:
        quicker = partial(conjugate_gradient, equations, fit.settings, plan, eliminated)
    solution, settings = solve_raising_noise(equations, fit.settings, plan, fit.fixed, quicker)
    return Fit(equations, settings, fit.fixed, solution)


def _left_out_of(fit: Fit, chosen: NDArray[np.int64]) -> Iterator[tuple[Array, Array]]:
    """Yield errors and relative covariances of structures left out one by one of an approximation by others."""
    approximation = fit.solution.posterior
    if not isinstance(approximation, InducingApproximation):
        raise TypeError(f"{fit.solution.plan.solver}: not a fit by inducing structures")
    for index in chosen.tolist():
        part, _, _ = fit.equations.problem(fit.equations.data[index : index + 1])
        yield approximation.left_out(part, fit.kernel, fit.solution.noise)


def _whole(fit: Fit) -> DensePosterior | None:
    """Return the posterior with the factor of the whole covariance matrix, if the solver has one."""
    posterior = fit.solution.posterior
    if isinstance(posterior, DensePosterior) and len(posterior.problem.first) == len(fit.equations.data) + 1:
        return posterior
    return None
