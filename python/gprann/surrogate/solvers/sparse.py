"""The solver `sparse`: weights of representative environments instead of all observations.

Cost is linear in the number of structures, memory and predictions do not depend on it: for kernels that are sums over
atoms, as GAP (Bartók et al., PRL 104, 136403 (2010)) and FLARE have it.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np

from gprann import _core
from gprann.arrays import Array, Indices
from gprann.data.structure import Dataset, evenly_spread
from gprann.errors import ConfigError
from gprann.options import option
from gprann.runtime.resources import GIB, blas_and_threads
from gprann.surrogate.gaussian_process import PosteriorMean
from gprann.surrogate.hyperparameters.criteria import Fixed, LeftOut, Search, Trial
from gprann.surrogate.kernels.base import Environments, Fingerprint
from gprann.surrogate.memory import FEATURES, features_per_atom, jacobian_bytes, per_atom_bytes
from gprann.surrogate.observations import observed_values
from gprann.surrogate.solvers.base import Equations, Fit, Plan, Solution, Solver, register_solver
from gprann.surrogate.solvers.environments import (
    BLOCK_ROWS,
    POOL,
    Equation,
    SparsePosterior,
    choose_environments,
    prior_root,
)
from gprann.surrogate.solvers.sparse_search import (
    append,
    environments_within,
    find_hyperparameters,
    held_out_score,
    mean_energies,
    noise_variances,
)

_log = logging.getLogger(__name__)
_MOST = 3000  # environments, where memory and time allow more
_LEAST = 500  # however long it takes
_FEWEST = 200  # for which memory must be left
_OPERATIONS = 3e12  # of the QR factorisation: a minute on one thread
_PRODUCTS = 4.5e12  # operations of the covariances with environments: about three minutes on two threads
_FRACTION = 1e-5  # of the noise of the gradients, the variance of environments that are not represented
_FEWEST_TO_SEARCH = 20  # structures; a quarter of them, where they have this many
_GRADIENTS_TO_SEARCH = 2000
_HELD_OUT = 10, 50  # structures to calibrate with, a tenth of the training set otherwise
_GROWN = 10.0  # times the variance of environments not represented: they are chosen anew


class WithEnvironments(Solver):
    """A solver that may choose representative environments."""

    environments: int | None = option(
        'Number of representative environments of solver = "sparse". Default: as many as leave the others less '
        "uncertain than the noise, within memory and time.",
        None,
        ge=1,
        example=1000,
    )


@register_solver
class Sparse(WithEnvironments):
    """Weights of representative environments of atoms: linear in the number of structures."""

    name = "sparse"
    eliminates: ClassVar[bool] = True
    remedy: ClassVar[str] = "give fewer environments"

    def find(self, equations: Equations, search: Search) -> Trial:
        """Return the hyperparameters: by structures held out of a sparse model, where there are enough."""
        data, fixed = equations.data, search.fixed
        if all(fixed) or search.name != "held_out" or not _enough_to_search(data):
            return search.find(data, equations.mean)
        return find_hyperparameters(equations, fixed, self.environments or _affordable(data), search.seed)

    def error(self, equations: Equations, subset: Dataset, fixed: Fixed) -> float:
        """Return the error of structures held out of a sparse model of more than the subset, see `Solver.error`."""
        if not _enough_to_search(equations.data):
            return super().error(equations, subset, fixed)
        return held_out_score(equations, fixed, self.environments or _affordable(equations.data), 0)

    def solve(self, equations: Equations, settings: Trial) -> Solution:
        """Return the weights, see `Solver.solve`."""
        kernel, noise = equations.kernel(settings), noise_variances(equations, settings)
        most = self.environments or _affordable(equations.data)
        tolerance = 0.0 if self.environments else _FRACTION * settings.force_noise
        sources = np.setdiff1d(np.arange(len(equations.data)), kept_for_calibration(len(equations.data)))
        environments, residual = choose_environments(
            equations.fingerprint, equations.data.select(sources), kernel, most, tolerance
        )
        _log.info(
            "sparse: %d environments, the others are left with %.1e of their variance",
            len(environments),
            residual,
        )
        equation = Equation.empty(
            len(environments), len(equations.fingerprint.kinds), float(equations.data.n_atoms.mean())
        )
        append(equation, equations, environments, kernel)
        root = prior_root(environments, kernel)
        facts = {
            "environments": len(environments),
            "environment_variance": residual,
            "atoms": equation.atoms,
        }
        return _solution(equation, environments, root, noise, facts=facts, sources=sources)

    def extend(self, before: Fit, equations: Equations, settings: Trial) -> Solution:
        """Return the weights with structures appended: rows of the triangle, the environments kept.

        They are chosen anew where the new structures have environments that those kept do not represent.
        """
        posterior = before.posterior if before.plan.solver.name == self.name else None
        if not isinstance(posterior, SparsePosterior):
            return self.solve(equations, settings)
        known, kernel = len(before.equations.data), equations.kernel(settings)
        added = equations.data[known:]
        if not _represents(posterior, equations.fingerprint, added, kernel, before.solution.facts):
            _log.info("sparse: the structures added have new environments, all are chosen anew")
            return self.solve(equations, settings)
        own = posterior.equation
        equation = Equation(own.energy.copy(), own.gradient.copy(), own.atoms, own.observations)
        equation.move(_shift(before.equations, equations))
        append(equation, replace(equations, data=added), posterior.environments, kernel)
        noise, facts = before.solution.noise, before.solution.facts
        sources = before.solution.representatives
        return _solution(
            equation, posterior.environments, posterior.root, noise, facts=facts, sources=sources
        )

    def posterior(
        self,
        equations: Equations,
        settings: Trial,
        solution: Solution,
        factors: list[Array],
    ) -> SparsePosterior:
        """Return the posterior again, see `Solver.posterior`."""
        environments, kernel = solution.environments, equations.kernel(settings)
        if environments is None:
            raise TypeError("the solution has no environments")
        kinds = len(equations.fingerprint.kinds)
        if factors:
            equation = Equation.empty(len(environments), kinds, float(factors[2][0]))
            for part, R in zip((equation.energy, equation.gradient), factors[:2], strict=True):
                if R.shape != part.R.shape:
                    raise ValueError(f"a factor has shape {R.shape}, expected {part.R.shape}")
                part.R = np.asfortranarray(R)
            equation.observations = int(factors[2][1])
        else:
            atoms = float(solution.facts["atoms"])
            equation = Equation.empty(len(environments), kinds, atoms)
            append(equation, equations, environments, kernel)
        root = prior_root(environments, kernel)
        solved = equation.solve(root, solution.noise)
        return SparsePosterior(environments.rows().sets(), environments, root, equation, solved)

    def leave_out(self, fit: Fit, chosen: Indices) -> LeftOut:
        """Return the errors of structures held out one by one, the environments kept.

        With C = |R⁻ᵀ k|² the covariance that the observations of a structure are left with, D their noise, and r their
        residual, these are, by Woodbury's formula, (I - C D⁻¹)⁻¹ r, with the covariance (I - C D⁻¹)⁻¹ C.
        """
        parts = [_leave_one_out(fit, fit.equations.data[index : index + 1]) for index in chosen.tolist()]
        return LeftOut(
            np.array([errors[0] for errors, _ in parts]),
            [errors[1:] for errors, _ in parts],
            [fit.amplitude2 * block for _, block in parts],
        )

    def left_out_variance(self, fit: Fit, chosen: Indices) -> Array:
        """Return the variances of the energies of structures held out one by one."""
        return np.array([block[0, 0] for block in self.leave_out(fit, chosen).latent]) / fit.amplitude2

    def plan(self, data: Dataset, fingerprint: Fingerprint, budget: float) -> Plan:
        """Choose the number of environments, see `Solver.plan`."""
        if not fingerprint.local:
            raise ConfigError(
                f"solver 'sparse' needs a kernel that is a sum over atoms, which '{fingerprint.kernel.name}' is "
                "not; use kernel = 'atoms', or solver = 'auto'"
            )
        features = features_per_atom(data, fingerprint)
        found = self
        most = self.environments or _affordable(data)
        while self.environments is None and most > 1 and _memory(most, data, features) > budget:
            most = int(0.9 * most)
            found = self.replace(environments=most)
        found._check_memory(data, features, budget)
        return Plan(found, "asked for")

    def fits(self, data: Dataset, fingerprint: Fingerprint, budget: float) -> bool:
        """Return whether a fit with enough environments to be of use, or with those asked for, fits into a memory."""
        count = self.environments or min(_FEWEST, _affordable(data))
        return _memory(count, data, features_per_atom(data, fingerprint)) <= budget

    def memory(self, data: Dataset, *, features: float = FEATURES) -> float:
        """Return the memory in GiB that a fit takes, with as many environments as time allows by default."""
        return _memory(self.environments or _affordable(data), data, features)


def _memory(count: int, data: Dataset, features: float) -> float:
    """Return the memory in GiB: triangles, the pool of environments, a block of rows, one Jacobian to calibrate."""
    atoms = int(data.n_atoms.max())
    block = max(BLOCK_ROWS, 3 * atoms)
    pool = min(max(POOL, 2 * count), int(data.n_atoms.sum()))
    taken = 8.0 * (8.0 * count**2 + 2.0 * block * count + 2.0 * pool**2 + pool * features)
    taken += per_atom_bytes(features) * block / 3 + 3 * jacobian_bytes(atoms, features)
    return taken / GIB


def _affordable(data: Dataset) -> int:
    """Return how many environments a training set may have for a fit to take a reasonable time."""
    rows, atoms = sum(structure.n_labels for structure in data), int(data.n_atoms.sum())
    timely = min(_MOST, int(np.sqrt(_OPERATIONS / (2.0 * rows))), environments_within(data, _PRODUCTS))
    return min(atoms, max(_LEAST, timely))


def _enough_to_search(data: Dataset) -> bool:
    """Return whether there are enough structures, or large ones, to hold fifths of them out."""
    large = 3 * int(data.n_atoms.sum()) >= _GRADIENTS_TO_SEARCH
    return len(data) >= (_FEWEST_TO_SEARCH // 4 if large else _FEWEST_TO_SEARCH)


def kept_for_calibration(n: int) -> Indices:
    """Return the structures whose environments are none of the representatives: they tell the errors of others."""
    if n < 4 * _HELD_OUT[0]:
        return np.zeros(0, dtype=np.int64)
    return evenly_spread(n, int(np.clip(n // 10, *_HELD_OUT)))


def _solution(
    equation: Equation,
    environments: Environments,
    root: Array,
    noise: Array,
    *,
    facts: dict[str, Any],
    sources: Indices,
) -> Solution:
    solved = equation.solve(root, noise)
    rows = environments.rows()
    mean = PosteriorMean(rows, solved.weights, np.zeros_like(environments.features))
    posterior = SparsePosterior(rows.sets(), environments, root, equation, solved)
    amplitude2 = solved.misfit / max(equation.observations, 1)
    return Solution(mean, amplitude2, noise, facts, posterior, sources, environments=environments)


def _shift(before: Equations, after: Equations) -> Array:
    """Return by how much the mean has grown for an atom of each kind, (S,)."""
    counts = np.diff(after.fingerprint.rows(after.data).kind_rows, axis=1).astype(float)
    grown = mean_energies(after, after.data) - mean_energies(before, after.data)
    return np.asarray(np.linalg.lstsq(counts, grown, rcond=None)[0])


def _represents(
    posterior: SparsePosterior,
    fingerprint: Fingerprint,
    data: Dataset,
    kernel: _core.RadialKernel,
    facts: dict[str, Any],
) -> bool:
    """Return whether environments of other structures are hardly less certain than those of the training set."""
    rows = fingerprint.rows(data)
    kinds = rows.kinds()
    order = np.argsort(kinds, kind="stable")
    first = np.searchsorted(kinds[order], np.arange(len(fingerprint.kinds) + 1)).astype(np.int64)
    sets = Environments(np.ascontiguousarray(rows.features[order]), first).rows().sets()
    prior, cross = _core.energy_variance(sets, kernel), np.zeros((len(kinds), len(posterior.root)))
    with blas_and_threads() as (blas, threads):
        _core.energy_covariance(sets, posterior.sets, kernel, blas, threads, cross)
    explained, _ = posterior.half_solve(cross)
    left = float(np.mean(prior - np.square(explained).sum(axis=1))) / float(prior[0])
    return left <= _GROWN * max(float(facts["environment_variance"]), 1e-10)


def _leave_one_out(fit: Fit, own: Dataset) -> tuple[Array, Array]:
    """Return errors of a structure of the training set without its observations, and their relative covariance."""
    posterior, fingerprint = fit.posterior, fit.equations.fingerprint
    if not isinstance(posterior, SparsePosterior):
        raise TypeError(f"{fit.plan.solver.name}: not a fit by environments")
    structure = own[0]
    cross = posterior.cross(fingerprint, own, fit.kernel)
    values = observed_values(structure, float(mean_energies(fit.equations, own)[0]), fingerprint.invariant)
    noise = np.full(len(values), fit.solution.noise[1])
    noise[0] = fit.solution.noise[0] * len(structure) / posterior.equation.atoms
    rows = fingerprint.rows(own)
    sets = rows.sets(fingerprint.jacobians(own))
    prior = np.zeros((len(values), len(values)))
    with blas_and_threads() as (blas, threads):
        _core.covariance(sets, sets, fit.kernel, blas, False, threads, prior)
    explained, left = posterior.half_solve(cross)
    residual = values - cross @ posterior.solved.weights
    root = np.sqrt(noise)
    share, modes = np.linalg.eigh(left @ left.T / np.outer(root, root))
    kept = 1.0 - np.clip(share, 0.0, 1.0 - 1e-9)
    errors = root * (modes @ ((modes.T @ (residual / root)) / kept))
    wide = root[:, None] * modes
    covariance = prior - explained @ explained.T + (wide * ((1.0 - kept) / kept)) @ wide.T
    return errors, covariance
