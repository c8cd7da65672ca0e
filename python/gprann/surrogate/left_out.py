"""Structures of the training set left out of it: their errors and uncertainties, and calibration by them.

With the factor of the whole covariance matrix each of them is left out in turn, in closed form. Solvers without it
solve again, with some structures left out at once: fewer structures to learn from, so that errors and standard
deviations are a little larger than with each left out alone.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from gprann import _core
from gprann.memory import GIB
from gprann.parallel import one_blas_thread
from gprann.structure import Dataset, evenly_spread
from gprann.surrogate.calibration import Calibration, calibrate
from gprann.surrogate.choice import structures_for
from gprann.surrogate.hyperparameters import LeftOut, leave_out_in_turn, left_out_variance
from gprann.surrogate.observations import observations
from gprann.surrogate.posterior import DensePosterior, structure_covariance
from gprann.surrogate.solvers import Fit, solve_raising_noise

__all__ = ["calibration_last", "calibration_memory", "calibration_of", "leave_out", "left_out_std"]

Array = NDArray[np.float64]
_CALIBRATION_ROWS = 5500  # of structures left out one by one to calibrate the standard deviations
_FEWEST, _MOST = 10, 50  # structures left out at once, a tenth of the training set where that is between them


def calibration_last(data: Dataset, seed: int) -> Dataset:
    """Put the structures to calibrate with last: leaving them out then costs a corner of L alone."""
    if structures_for(data, _CALIBRATION_ROWS) == len(data):
        return data
    return data.select(np.random.default_rng([seed, 1]).permutation(len(data)))


def calibration_memory(data: Dataset) -> float:
    """Return the memory in GiB that it takes to calibrate with the factor of K: its corner inverted."""
    rows = structures_for(data, _CALIBRATION_ROWS) * max(structure.n_labels for structure in data)
    return 8.0 * float(rows) ** 2 / GIB


@one_blas_thread()
def calibration_of(fit: Fit, seed: int) -> Calibration:
    """Return the factors on the standard deviations.

    From the last structures of the training set (see `calibration_last`), or, by solvers without the covariance
    matrix, from a random tenth of it. Below twenty structures the latter leave the factors at 1.
    """
    data, invariant = fit.equations.data, fit.equations.fingerprint.invariant
    whole = _whole(fit)
    if whole is not None:
        problem, factor = whole.problem, whole.factor
        last = range(len(data) - structures_for(data, _CALIBRATION_ROWS), len(data))
        alpha = factor.solve(problem.values)
        errors = leave_out_in_turn(problem, factor, alpha, problem.noise(*fit.solution.noise), last)
        return calibrate(errors, data[last[0] :], invariant)
    if len(data) < 2 * _FEWEST:
        return Calibration()
    count = int(np.clip(len(data) // 10, _FEWEST, _MOST))
    chosen = np.sort(np.random.default_rng([seed, 1]).permutation(len(data))[:count])
    return calibrate(leave_out(fit, chosen), data.select(chosen), invariant)


@one_blas_thread()
def left_out_std(fit: Fit, count: int) -> Array:
    """Return the standard deviations, not calibrated, of `count` structures left out; see `Surrogate`."""
    n = len(fit.equations.data)
    chosen = evenly_spread(n, count)
    whole = _whole(fit)
    if whole is not None:
        relative = np.array(left_out_variance(whole.problem, whole.factor, chosen)) - fit.solution.noise[0]
        variance = fit.amplitude2 * relative
    elif n == 1:  # nothing would be left
        sets = fit.equations.fingerprint.rows(fit.equations.data).sets()
        variance = fit.amplitude2 * _core.energy_variance(sets, fit.kernel)[: len(chosen)]
    else:
        parts = [chosen] if 2 * len(chosen) <= n else [chosen[::2], chosen[1::2]]
        variance = np.zeros(n)
        for part in parts:
            if len(part):
                variance[part] = [block[0, 0] for block in leave_out(fit, part).latent]
        variance = variance[chosen]
    std: Array = np.sqrt(np.maximum(variance, 0.0))
    return std


def leave_out(fit: Fit, chosen: NDArray[np.int64]) -> LeftOut:
    """Return the errors of some structures predicted from all others, by the same solver.

    Parameters
    ----------
    fit : Fit
    chosen : ndarray of int64
        Structures left out, fewer than there are.

    Raises
    ------
    FactorisationError
        If no noise makes the equations solvable.
    """
    data = fit.equations.data
    kept = data.select(np.setdiff1d(np.arange(len(data)), chosen))
    equations = replace(fit.equations, data=kept, mean=float(kept.energies.mean()))
    without = f"without {len(chosen)} structures that are left out to judge the standard deviations"
    plan = replace(fit.solution.plan, inducing=min(fit.solution.plan.inducing, len(kept)), purpose=without)
    solution, settings = solve_raising_noise(equations, fit.settings, plan, fit.fixed)
    part = Fit(equations, settings, fit.fixed, solution)
    energies, gradients, latent = [], [], []
    fingerprint = equations.fingerprint
    for structure in data.select(chosen):
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


def _whole(fit: Fit) -> DensePosterior | None:
    """Return the posterior with the factor of the whole covariance matrix, if the solver has one."""
    posterior = fit.solution.posterior
    if fit.solution.plan.solver == "cholesky" and isinstance(posterior, DensePosterior):
        return posterior
    return None
