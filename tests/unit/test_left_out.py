"""Structures of the training set held out by the solvers, for calibration."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, get_args

import numpy as np
import pytest

import samples
from contracts import Array, assert_close
from gprann import _core
from gprann.data.structure import Dataset
from gprann.runtime.resources import scipy_blas
from gprann.surrogate import Surrogate
from gprann.surrogate.gaussian_process import Factor, PosteriorMean, factorise
from gprann.surrogate.kernels.base import Radial
from gprann.surrogate.solvers.base import Equations, Fit
from gprann.surrogate.solvers.inducing import InducingApproximation
from gprann.surrogate.solvers.posterior import DensePosterior, representatives, structure_covariance
from samples import FIXED


@pytest.mark.parametrize("radial", get_args(Radial))
@pytest.mark.parametrize("solver", ["conjugate_gradient", "inducing"])
@pytest.mark.parametrize("kept", [True, False], ids=["others", "representatives"])
def test_structures_left_out_are_predicted_by_a_fit_without_them(
    solver: Any, radial: Any, *, kept: bool
) -> None:
    """Conjugate gradients leave them out together, inducing structures one by one."""
    data = samples.waters(24)
    options: dict[str, Any] = {"solver": solver, "radial": radial, "inducing": 5}
    if solver == "conjugate_gradient":
        options["tolerance"] = 1e-10
    surrogate = Surrogate("pairs", **FIXED, **options).fit(data)
    fit = surrogate._require_fit()
    rows = surrogate.fingerprint.rows(data)
    own = representatives(rows, fit.kernel, 5)
    chosen = np.setdiff1d(np.arange(24), own)[[2, 3, 17]] if kept else np.sort(np.append(own[:2], 20))
    errors = fit.plan.solver.leave_out(fit, chosen)
    for group in [chosen] if solver == "conjugate_gradient" else chosen[:, None]:
        indices = np.setdiff1d(np.arange(24), group)
        part = data.select(indices)
        equations = replace(fit.equations, data=part)
        if solver == "inducing":
            posterior: Any = with_basis(equations, data.select(own), fit)
            folded, amplitude2 = posterior.mean, fit.amplitude2
        else:
            equations = replace(equations, mean=float(part.energies.mean()))
            noise = fit.solution.noise if kept else equations.noise(fit.settings)
            folded, amplitude2, _ = densely(equations, fit, noise)
            again = own if kept else indices[representatives(surrogate.fingerprint.rows(part), fit.kernel, 5)]
            _, _, posterior = densely(replace(equations, data=data.select(again)), fit, noise)
        for place in np.searchsorted(chosen, group):
            one = data.select(chosen[place : place + 1])
            rows, jacobians = surrogate.fingerprint.rows(one), surrogate.fingerprint.jacobians(one)
            energy, slopes = folded.predict(rows, fit.kernel)
            observed = equations.observe(one)[0].values
            found = np.append(errors.energy[place], errors.gradient[place])
            expected = observed - np.append(energy, slopes.ravel() @ jacobians[0])
            assert_close(found, expected, relative=1e-6, scale=1e-2)
            covariance = amplitude2 * structure_covariance(posterior, rows.sets(jacobians), fit.kernel)
            assert_close(errors.latent[place], covariance, relative=1e-6)


def densely(equations: Equations, fit: Fit, noise: Array) -> tuple[PosteriorMean, float, Any]:
    """Return weights, amplitude and posterior with the whole matrix."""
    problem, rows, jacobians = equations.observe()
    factor = factorise(problem.covariance(equations.length(fit.settings)), problem.noise(*noise))
    alpha = factor.solve(problem.values)
    folded = PosteriorMean.from_weights(rows, jacobians, alpha, problem.first)
    return folded, float(problem.values @ alpha) / len(alpha), DensePosterior(problem, factor)


def with_basis(equations: Equations, basis: Dataset, fit: Fit) -> InducingApproximation:
    """Return the approximation by structures that need not be among those observed."""
    known = InducingApproximation.build(
        replace(equations, data=basis + equations.data),
        fit.settings,
        np.arange(len(basis)),
        fit.solution.noise,
    )
    problem, _, _ = equations.observe(basis)
    inner, projected = np.eye(len(known.projected)), np.zeros(len(known.projected))
    for structure in equations.data:
        part, _, _ = equations.observe(Dataset([structure]))
        V = np.zeros((len(part.values), len(projected)))
        _core.covariance(part.sets, problem.sets, fit.kernel, scipy_blas(), False, 1, V)
        known.half.half_solve(V)
        scaled = V / part.noise(*fit.solution.noise)[:, None]
        inner += scaled.T @ V
        projected += part.values @ scaled
    return replace(known, inner=Factor(np.linalg.cholesky(inner)), projected=projected)


@pytest.mark.parametrize("solver", ["conjugate_gradient", "inducing"])
def test_other_solvers_are_calibrated_by_their_own_errors(solver: Any) -> None:
    options: dict[str, Any] = {**FIXED, "solver": solver, "inducing": 20}
    surrogate = Surrogate("pairs", **options).fit(samples.waters(60))
    factors = surrogate.calibration
    assert factors.n_structures == 10
    query = samples.waters(40, seed=9)
    found = surrogate.predict(query, forces_std=True)
    energy_std, force_std = samples.uncalibrated(surrogate, found)
    errors = (found.energy - query.energies, np.array(found.forces) - np.array(query.forces))
    # Closer to the 0.67 of normally distributed errors.
    for error, std, factor in zip(
        errors, (energy_std, force_std), (factors.energy, factors.force), strict=True
    ):
        ratio = np.median(np.abs(error) / std)
        assert abs(np.log(ratio / factor / 0.67)) < abs(np.log(ratio / 0.67))
    assert surrogate.extend(samples.waters(60, seed=4)).calibration.n_structures == 12
    few = Surrogate("pairs", **{**options, "inducing": 5}).fit(samples.waters(19))
    assert few.calibration.n_structures == 0


@pytest.mark.parametrize("solver", ["conjugate_gradient", "inducing"])
@pytest.mark.parametrize("n", [1, 3, 20])
def test_uncertainty_of_structures_left_out(solver: Any, n: int) -> None:
    data = samples.waters(n)
    whole = Surrogate("pairs", **FIXED, solver=solver, inducing=50).fit(data)
    found = whole.left_out_std(8) / whole.calibration.energy
    assert found.shape == (min(n, 8),)
    exact = Surrogate("pairs", **FIXED).fit(data)
    alone = exact.left_out_std(8) / exact.calibration.energy
    # With others held out too they are less certain, but for an amplitude from other structures.
    assert (found > 0.6 * alone).all()
    if n == 20:
        assert np.median(found / alone) < 3
