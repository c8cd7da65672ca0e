"""Least-squares problems with known answers, for the tests of the optimisers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from gprann.models import FeatureTable, NetworkModel
from gprann.training.objective import EnergyObjective, Objective

Array = NDArray[np.float64]


def features(
    n: int, n_features: int, n_species: int, rng: np.random.Generator
) -> tuple[Array, NDArray[np.int32], NDArray[np.int64]]:
    """Random features of structures with 1 to 4 atoms: features, species of the atoms, first atoms."""
    counts = rng.integers(1, 5, size=n)
    first = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    kinds = rng.integers(n_species, size=first[-1]).astype(np.int32)
    return rng.normal(size=(first[-1], n_features)), kinds, first


def problem(
    n: int,
    *,
    hidden: Sequence[int] = (),
    activation: str = "linear",
    n_features: int = 3,
    n_species: int = 2,
    seed: int = 0,
    noise: float = 0.0,
) -> tuple[EnergyObjective, Array]:
    """A problem whose targets are those of known parameters, plus noise; with random weights."""
    rng = np.random.default_rng(seed)
    values, kinds, first = features(n, n_features, n_species, rng)
    model = NetworkModel(n_features, hidden, n_species, activation)
    table = FeatureTable.sort(values, kinds, first, n_species)
    teacher = model.initial(rng) + 0.3 * rng.normal(size=model.n_parameters)
    targets = model.core.energies(teacher, table.core, 1) + noise * rng.normal(size=n)
    return EnergyObjective(model, table, targets, rng.uniform(0.5, 2.0, size=n)), teacher


def design(problem: EnergyObjective) -> Array:
    """Of a linear model without hidden layers: energies are design @ parameters; (n, P)."""
    columns = np.eye(problem.model.n_parameters)
    atoms = problem.table.core
    return np.stack([problem.model.core.energies(column, atoms, 1) for column in columns], axis=1)


def best_linear(problem: EnergyObjective, ridge: float = 0.0) -> Array:
    """Minimum of sum w (X p - y)^2 + ridge sum(w) |p|^2 by the normal equations."""
    X, w = design(problem), problem.weights
    matrix = X.T @ (w[:, None] * X) + ridge * w.sum() * np.eye(X.shape[1])
    return np.linalg.solve(matrix, X.T @ (w * problem.targets))


def nothing(problem: EnergyObjective) -> EnergyObjective:
    return problem.select(np.zeros(0, dtype=np.int64))


def rmse(problem: Objective, parameters: Array) -> float:
    """Root of the mean loss."""
    return problem.errors(parameters).total
