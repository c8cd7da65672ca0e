"""Rows of a sparse model, and its hyperparameters, judged by structures held out of it.

Covariances with the environments are computed once for each length; the triangles of energies and of gradients are kept
apart, so that another pair of noises costs a QR factorisation of three triangles. Lengths are compared with few
environments on a part of the training set, the noises then refined with all.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from gprann import _core
from gprann.arrays import Array
from gprann.data.neighbours import build_neighbours
from gprann.data.structure import Dataset, Structure, evenly_spread
from gprann.errors import FactorisationError
from gprann.runtime.resources import blas_and_threads
from gprann.surrogate.hyperparameters.criteria import BOUNDS, Fixed, Trial, with_fixed
from gprann.surrogate.kernels.base import Environments
from gprann.surrogate.kernels.internal_coordinates import rigid_motions
from gprann.surrogate.memory import FEATURES
from gprann.surrogate.observations import observed_gradient
from gprann.surrogate.solvers.base import Equations
from gprann.surrogate.solvers.environments import (
    Equation,
    blocks,
    choose_environments,
    prior_root,
)

_log = logging.getLogger(__name__)
_LENGTH, _STRETCH = 4.0, 1.6
_GAIN = 0.03  # of the score, for which another length is taken
_LENGTHS = 6  # tried in one direction, at most
_FEW_ENVIRONMENTS, _FEW_ROWS = 500, 30000
_COMPARED_ROWS = 5000  # gradients by which descriptors are compared
_SOME_ENVIRONMENTS = 1200
_MOST_ROWS = 60000
_FEW_OPERATIONS, _MOST_OPERATIONS = 6e11, 2.5e12  # of the rows, two minutes at most on two threads
_SLOPES = 1500  # environments whose covariances cost as much as the slopes of the descriptor
_USUAL_CUTOFF = 5.0  # Å
_COUNTED = 5  # structures whose neighbours are counted
_FOLDS = 5
_MOST_HELD_OUT = 8000  # gradients by which noises are judged, all energies beside them
_SAMPLED = 32  # structures that tell the unit of the noises
_DIRECTIONS = 24  # of each of them
_START = Trial(_LENGTH, 1e-6, 1e-6)
_LOWEST, _HIGHEST = 1e-10, BOUNDS[1].force_noise
Score = Callable[[Trial], float]


@dataclass(frozen=True, slots=True)
class _Fold:
    """Structures that are held out: the triangles of all others, and rows and labels of their own.

    Attributes
    ----------
    others : Equation
    energies, gradients : ndarray, shapes (M, n) and (M, m)
        Covariances of all energies and of some gradients.
    energy, gradient : ndarray, shapes (n,) and (m,)
        Labels.
    n_atoms : ndarray, shape (n,)
    """

    others: Equation
    energies: Array
    gradients: Array
    energy: Array
    gradient: Array
    n_atoms: Array

    def errors(self, root: Array, noise: Array) -> tuple[Array, Array]:
        """Return the absolute errors of energies, for each atom, and of gradients."""
        weights = self.others.solve(root, noise).weights
        energy = np.abs((weights @ self.energies - self.energy) / self.n_atoms)
        return energy, np.abs(weights @ self.gradients - self.gradient)


@dataclass(frozen=True, slots=True)
class _Kept:
    """Collects all rows of energies, and one of `every` rows of gradients, with their labels."""

    every: int
    energies: list[Array]
    gradients: list[Array]

    def __call__(self, energies: Array, gradients: Array) -> None:
        self.energies.append(energies.copy())
        self.gradients.append(gradients[:, :: self.every].copy())


def find_hyperparameters(equations: Equations, fixed: Fixed, most: int, seed: int) -> Trial:
    """Return the hyperparameters that are not given, from structures held out of the training set.

    Parameters
    ----------
    equations : Equations
        Of the training set.
    fixed : tuple of length, energy noise and force noise
        As the user gives them, None for the others.
    most : int
        Number of environments at most.
    seed : int
        Of the order of the structures.
    """
    data = equations.data
    shuffled = data.select(np.random.default_rng(seed).permutation(len(data)))
    start = with_fixed(_START, fixed)
    few, some = min(most, _FEW_ENVIRONMENTS), min(most, _SOME_ENVIRONMENTS)
    rows = min(_FEW_ROWS, rows_within(shuffled, few, _FEW_OPERATIONS))
    part = replace(equations, data=_first(shuffled, rows))
    rows = min(_MOST_ROWS, rows_within(shuffled, some, _MOST_OPERATIONS))
    whole = replace(equations, data=_first(shuffled, rows))
    best = _descend(start, _scores(part, start, few), fixed)
    if fixed[0] is None:
        longer = _stretch(best, _STRETCH, lambda settings: _scores(part, settings, few), fixed)
        if longer == best:
            longer = _stretch(best, 1.0 / _STRETCH, lambda settings: _scores(part, settings, few), fixed)
        best = longer
    best = _descend(best[0], _scores(whole, best[0], some), fixed)
    if fixed[0] is None:  # the more environments, the shorter the best length
        best = _stretch(best, 1.0 / _STRETCH, lambda settings: _scores(whole, settings, some), fixed, -_GAIN)
    _log.info("sparse: fifths of %d structures held out: %s, score %.3f", len(whole.data), *best)
    return best[0]


def held_out_score(equations: Equations, fixed: Fixed, most: int, seed: int) -> float:
    """Return the score of structures held out of a part of the training set, at the best of some hyperparameters.

    Parameters
    ----------
    equations : Equations
        Of the training set, the fingerprint fitted to some of it.
    fixed : tuple of length, energy noise and force noise
        As the user gives them, None for the others.
    most : int
        Number of environments at most.
    seed : int
        Of the choice of the part.
    """
    data = equations.data.select(np.random.default_rng(seed).permutation(len(equations.data)))
    part = replace(equations, data=_first(data, _COMPARED_ROWS))
    lengths = (_LENGTH, _STRETCH * _LENGTH) if fixed[0] is None else (fixed[0],)
    starts = [with_fixed(replace(_START, length=length), fixed) for length in lengths]
    few = min(most, _FEW_ENVIRONMENTS)
    return 0.5 * min(_descend(one, _scores(part, one, few), fixed)[1] for one in starts)


def row_operations(data: Dataset) -> float:
    """Return the operations for one atom: of a product of the slopes of its features with one environment."""
    some = list(data.select(evenly_spread(len(data), min(_COUNTED, len(data)))))
    neighbours = build_neighbours(some, _USUAL_CUTOFF, data.species)
    return 6.0 * FEATURES * max(float(neighbours.first_pair[-1]) / sum(map(len, some)), 1.0)


def rows_within(data: Dataset, environments: int, operations: float) -> int:
    """Return how many gradients have so many operations of their covariances with environments."""
    return int(3.0 * operations / (row_operations(data) * (environments + _SLOPES)))


def environments_within(data: Dataset, operations: float) -> int:
    """Return the number of environments with which the covariances of all gradients take so many operations."""
    return int(operations / (row_operations(data) * float(data.n_atoms.sum()))) - _SLOPES


def _first(data: Dataset, rows: int) -> Dataset:
    """Return the first structures that have about so many gradients, at least two of each fold."""
    count = int(np.searchsorted(np.cumsum(3 * data.n_atoms), rows, side="right"))
    return data[: max(count, 2 * _FOLDS)]


def _folds(equations: Equations, environments: Environments, kernel: _core.RadialKernel) -> list[_Fold]:
    """Return the fifths of a training set, every one with the triangles of the others."""
    data, kinds = equations.data, len(equations.fingerprint.kinds)
    atoms = float(data.n_atoms.mean())
    every = max(1, int(3 * data.n_atoms.sum()) // _MOST_HELD_OUT)
    count = min(_FOLDS, len(data))
    parts = [replace(equations, data=data.select(range(fold, len(data), count))) for fold in range(count)]
    own = [(Equation.empty(len(environments), kinds, atoms), _Kept(every, [], [])) for _ in parts]
    for part, (equation, kept) in zip(parts, own, strict=True):
        append(equation, part, environments, kernel, look=kept)
    folds = []
    for held_out, part in enumerate(parts):
        others = Equation.empty(len(environments), kinds, atoms)
        for fold, (equation, _) in enumerate(own):
            if fold != held_out:
                others.join(equation)
        kept = own[held_out][1]
        energies, gradients = (np.concatenate(rows, axis=1) for rows in (kept.energies, kept.gradients))
        n_atoms = part.data.n_atoms.astype(float)
        energies *= np.sqrt(n_atoms / atoms)  # as they were before their weights
        rows = energies[: -kinds - 1], gradients[:-1]
        folds.append(_Fold(others, *rows, energies[-1], gradients[-1], n_atoms))
    return folds


def _scores(equations: Equations, settings: Trial, most: int) -> Score:
    """Return the score of structures held out as a function of the noises, with environments for this length."""
    kernel = equations.kernel(settings)
    environments, _ = choose_environments(equations.fingerprint, equations.data, kernel, most, 0.0)
    root = prior_root(environments, kernel)
    folds = _folds(equations, environments, kernel)
    unit = noise_variances(equations, replace(settings, energy_noise=1.0, force_noise=1.0))
    known: dict[Trial, float] = {}

    def score(trial: Trial) -> float:
        if trial not in known:
            noise = unit * np.array([trial.energy_noise, trial.force_noise])
            try:
                errors = [
                    np.concatenate(item) for item in zip(*(f.errors(root, noise) for f in folds), strict=True)
                ]
                known[trial] = float(sum(np.log(max(item.mean(), 1e-12)) for item in errors))
            except FactorisationError:
                known[trial] = np.inf
            _log.debug("sparse: %s: %.4f", trial, known[trial])
        return known[trial]

    return score


def _descend(start: Trial, score: Score, fixed: Fixed) -> tuple[Trial, float]:
    """Return the noises near `start` of smallest score, by steps of ten and then of about three in either."""
    best, found = start, score(start)
    for step in (10.0, 10.0**0.5):
        improved = True
        while improved:
            improved = False
            for energy, force in ((1, 1), (-1, -1), (1, 0), (-1, 0), (0, 1), (0, -1)):
                trial = _step(best, step**energy, step**force, fixed)
                while trial != best and (value := score(trial)) < found - 1e-4:
                    best, found, improved = trial, value, True
                    trial = _step(best, step**energy, step**force, fixed)
    return best, found


def _step(settings: Trial, energy: float, force: float, fixed: Fixed) -> Trial:
    noises = np.clip([settings.energy_noise * energy, settings.force_noise * force], _LOWEST, _HIGHEST)
    return with_fixed(Trial(settings.length, *(float(noise) for noise in noises)), fixed)


def _stretch(
    best: tuple[Trial, float],
    factor: float,
    score_at: Callable[[Trial], Score],
    fixed: Fixed,
    gain: float = _GAIN,
) -> tuple[Trial, float]:
    """Return length, noises and their score, the length multiplied by `factor` as long as the score gains."""
    _log.info("sparse: %s: score %.3f", *best)
    for _ in range(_LENGTHS):
        trial = replace(best[0], length=best[0].length * factor)
        found = _descend(trial, score_at(trial), fixed)
        _log.info("sparse: %s: score %.3f", *found)
        if not found[1] < best[1] - gain:
            break
        best = found
    return best


def noise_variances(equations: Equations, settings: Trial) -> Array:
    """Return the variances of energies and gradients relative to the amplitude; shape (2,).

    Their unit, the mean variance of the gradients under the kernel, is that of some structures in random directions.
    """
    fingerprint, kernel = equations.fingerprint, equations.kernel(settings)
    rng = np.random.default_rng(0)
    total, weight, energies = 0.0, 0, []
    for index in evenly_spread(len(equations.data), min(_SAMPLED, len(equations.data))).tolist():
        structure = equations.data[index].replace(stress=None)
        data = Dataset([structure])
        rows = fingerprint.rows(data)
        rigid = rigid_motions(structure, fingerprint.invariant)
        size = 3 * len(structure) - rigid.shape[1]
        drawn = rng.normal(size=(3 * len(structure), min(size, _DIRECTIONS)))
        directions, _ = np.linalg.qr(drawn - rigid @ (rigid.T @ drawn))
        changes = [rows.tangents([one.reshape(-1, 3)], None).ravel() for one in directions.T]
        jacobian = np.array(changes).reshape(directions.shape[1], -1).T
        sets = rows.sets([np.ascontiguousarray(jacobian)])
        K = np.zeros((sets.observations, sets.observations))
        with blas_and_threads() as (blas, threads):
            _core.covariance(sets, sets, kernel, blas, False, threads, K)
        energies.append(K[0, 0])
        total += size * float(np.diagonal(K)[1:].mean()) if size else 0.0
        weight += size
    scale = total / weight if total > 0 else float(np.mean(energies))
    return scale * np.array([settings.energy_noise, settings.force_noise])


def append(
    equation: Equation,
    equations: Equations,
    environments: Environments,
    kernel: _core.RadialKernel,
    *,
    look: Callable[[Array, Array], object] | None = None,
) -> None:
    """Append the observations of a training set, block by block.

    `look`, if given, is shown every block before: the transposed rows of energies and of gradients.
    """
    fingerprint = equations.fingerprint
    for block in blocks(equations.data):
        energies, gradients, first = fingerprint.environment_rows(block, environments, kernel)
        M, (n, rows) = len(environments), (len(block), int(first[-1]))
        by_energy = np.empty((M + equation.kinds + 1, n))
        by_energy[:M] = energies
        by_energy[M:-1] = np.diff(fingerprint.rows(block).kind_rows, axis=1).T
        by_energy[-1] = block.energies - mean_energies(equations, block)
        by_energy /= np.sqrt(block.n_atoms / equation.atoms)
        by_gradient = np.empty((M + 1, rows))
        by_gradient[:M] = gradients
        by_gradient[-1] = np.concatenate([observed_gradient(structure) for structure in block])
        if look is not None:
            look(by_energy, by_gradient)
        equation.energy.append(by_energy.T)
        equation.gradient.append(by_gradient.T)
        equation.observations += n + sum(_directions(structure, fingerprint.invariant) for structure in block)


def mean_energies(equations: Equations, data: Dataset) -> Array:
    """Return the energies to which the kernel adds, (n,)."""
    return np.full(len(data), equations.mean)


def _directions(structure: Structure, invariant: str) -> int:
    """Return the number of observed directions."""
    rigid = rigid_motions(structure, invariant).shape[1]
    return int(3 * len(structure) - rigid) + (0 if structure.stress is None else 6)
