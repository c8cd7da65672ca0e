"""Which solver is to solve the surrogate's equations: by memory, and by time where memory leaves a choice."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from gprann.data.structure import Dataset
from gprann.errors import ConfigError, check_positive, check_whole, nearest_name
from gprann.runtime.resources import GIB, memory_budget
from gprann.surrogate.calibration import FEWEST
from gprann.surrogate.kernels.fingerprints import Fingerprint
from gprann.surrogate.solvers.inducing import BLOCK_ROWS

__all__ = [
    "TOLERANCE",
    "Plan",
    "SolverName",
    "SolverOptions",
    "features_per_atom",
    "memory_needed",
    "memory_within",
    "plan_solver",
    "structures_within",
]

SolverName = Literal["auto", "cholesky", "conjugate_gradient", "inducing"]
_SOLVERS: tuple[SolverName, ...] = ("auto", "cholesky", "conjugate_gradient", "inducing")
TOLERANCE = 1e-4
"""Of conjugate gradients, where none is given."""
_FEATURES = 36.0  # of an atom, by the descriptor of the kernel `atoms` with several elements
_NEIGHBOURS = 4736.0  # bytes of an atom's neighbour lists, about 60 of 28 bytes, and of what comes of them
_FEATURE_ARRAYS = 12  # that are held at once
_TILES = 4.0 * 2**20  # bytes; parts of a matrix that are copied
_PRODUCT_FLOPS = 14.0  # for each feature of a pair of rows, see covariance_product.hpp
_LARGEST_PRODUCT = 1e12
"""Operations of one K x (half a minute on one thread) beyond which a hundred of them take too long."""
_LEAST_ELIMINATED, _MOST_ELIMINATED = 3000, 15000  # observations of the representatives
_ELIMINATION = 30.0
"""Their elimination may take the time of this many products."""
_MOST_INDUCING = 10000  # observations of the inducing structures


@dataclass(frozen=True, slots=True)
class SolverOptions:
    """How to solve the equations.

    Attributes
    ----------
    solver : {'auto', 'cholesky', 'conjugate_gradient', 'inducing'}
    memory : float, optional, GiB
        Budget of the fit; default: what is available.
    tolerance : float
        Of conjugate gradients: largest residual relative to the observations.
    inducing : int, optional
        Number of representative structures: those that `inducing` keeps the covariances of, and those that
        `conjugate_gradient` eliminates first.

    Raises
    ------
    ConfigError
        If an option is misspelt or impossible.
    """

    solver: SolverName = "auto"
    memory: float | None = None
    tolerance: float = TOLERANCE
    inducing: int | None = None

    def __post_init__(self) -> None:
        if self.solver not in _SOLVERS:
            raise ConfigError(f"solver = '{self.solver}': {nearest_name(self.solver, _SOLVERS)}")
        if self.memory is not None:
            check_positive(memory=self.memory)
        check_positive(tolerance=self.tolerance)
        if not self.tolerance < 1:
            raise ConfigError(f"tolerance = {self.tolerance}: expected a number between 0 and 1")
        if self.inducing is not None:
            check_whole(1, inducing=self.inducing)
        if self.inducing is not None and self.solver == "cholesky":
            raise ConfigError(
                f"inducing = {self.inducing}: belongs to the solvers 'conjugate_gradient' and 'inducing', not to "
                "'cholesky'"
            )
        if self.tolerance != TOLERANCE and self.solver in ("cholesky", "inducing"):
            raise ConfigError(
                f"tolerance = {self.tolerance}: belongs to the solver 'conjugate_gradient', not to '{self.solver}'"
            )

    @property
    def budget(self) -> float:
        """Memory that may be used, GiB."""
        return memory_budget(self.memory)

    def memory_of(self, data: Dataset) -> float:
        """Return what the solution of a training set takes at most, GiB: all that may be used but for K that fits."""
        budget, dense = self.budget, memory_needed(data)
        if self.solver == "cholesky" or (self.solver == "auto" and dense <= budget):
            return dense
        most = len(data) if self.inducing is None else min(self.inducing, len(data))
        others = [name for name in _SOLVERS[2:] if self.solver in ("auto", name)]
        return min(budget, max(memory_needed(data, name, most) for name in others))


@dataclass(frozen=True, slots=True)
class Plan:
    """The solver that was chosen, and why.

    Attributes
    ----------
    solver : {'cholesky', 'conjugate_gradient', 'inducing'}
    reason : str
    inducing : int
        Number of representative structures; of no meaning to `cholesky`.
    tolerance : float
    purpose : str
        What is solved for, in words for the log, where it is not the training set.
    """

    solver: SolverName
    reason: str
    inducing: int
    tolerance: float
    purpose: str = ""


def features_per_atom(data: Dataset, fingerprint: Fingerprint) -> float:
    """Return the features of structures of one composition divided by their atoms."""
    return fingerprint.rows(data[:1]).features.size / len(data[0])


def memory_needed(
    data: Dataset, solver: SolverName = "cholesky", inducing: int = 1, *, features: float = _FEATURES
) -> float:
    """Return the memory in GiB that a fit takes: square matrices, Jacobians, neighbour lists.

    Parameters
    ----------
    data : Dataset
    solver : {'cholesky', 'conjugate_gradient', 'inducing', 'auto'}
        With `auto`, that of the covariance matrix.
    inducing : int
        Number of representative structures of the other solvers.
    features : float
        Features of an atom; of a kernel on whole structures, theirs divided by the number of atoms. Default: those
        of the kernel `atoms` with several elements.

    Examples
    --------
    >>> import gprann
    >>> round(memory_needed(gprann.examples.hydrogen(7)), 3)
    0.0
    """
    if solver in ("cholesky", "auto"):
        rows = sum(structure.n_labels for structure in data)
        return (8.0 * rows**2 + sum(_jacobian(len(structure), features) for structure in data)) / GIB
    atoms = int(data.n_atoms.max())
    m = inducing * max(structure.n_labels for structure in data)
    taken = 8.0 * m**2 + inducing * _jacobian(atoms, features)
    if solver == "inducing":  # a second factor, and one block of covariances with its Jacobians
        taken += 8.0 * m**2 + (8.0 * m + 2 * 8.0 * features * atoms) * (BLOCK_ROWS + 3 * atoms)
    elif 0 < len(data) - inducing < FEWEST:
        taken *= 2  # to calibrate, representatives are left out and others factorised
    return (taken + _per_atom(features) * float(data.n_atoms.sum())) / GIB


def structures_within(data: Dataset, memory: float, matrices: int, *, features: float = _FEATURES) -> int:
    """Return how many structures of a data set can be had with so many covariance matrices of theirs, at least two.

    Parameters
    ----------
    data : Dataset
        Structures of one composition.
    memory : float, GiB
    matrices : int
        That are held at once, beside the Jacobians, twice.
    features : float
        See `memory_needed`.

    Examples
    --------
    >>> import gprann
    >>> data = gprann.examples.hydrogen(7)
    >>> structures_within(data, 1e-4, 1), structures_within(data, 1.0, 1)
    (2, 7)
    """
    atoms = len(data[0])
    square = 8.0 * matrices * max(structure.n_labels for structure in data) ** 2
    half = _jacobian(atoms, features) + 0.5 * _per_atom(features) * atoms
    rest = max(memory * GIB - _TILES, 0.0)
    count = (np.sqrt(half**2 + square * rest) - half) / square  # square count² + 2 half count = rest
    return min(len(data), max(2, int(count)))


def memory_within(data: Dataset, count: int, matrices: int, *, features: float = _FEATURES) -> float:
    """Return the memory in GiB of `count` structures with so many covariance matrices of theirs.

    The reverse of `structures_within`.
    """
    atoms = len(data[0])
    rows = count * max(structure.n_labels for structure in data)
    each = 2.0 * _jacobian(atoms, features) + _per_atom(features) * atoms
    return (8.0 * matrices * rows**2 + each * count + _TILES) / GIB


def _jacobian(atoms: int, features: float) -> float:
    """Return the bytes of the Jacobian of a structure."""
    return 8.0 * features * 3 * atoms**2


def _per_atom(features: float) -> float:
    """Return the bytes of features and neighbours of an atom."""
    return _NEIGHBOURS + 8.0 * _FEATURE_ARRAYS * features


def product_operations(data: Dataset, fingerprint: Fingerprint) -> float:
    """Return the floating-point operations of one K x without K for structures of one composition."""
    rows = fingerprint.rows(data[:1])
    of_kinds = len(data) * np.diff(rows.kind_rows[0]).astype(float)
    return float(0.5 * _PRODUCT_FLOPS * rows.features.shape[1] * (of_kinds @ of_kinds))


def plan_solver(data: Dataset, fingerprint: Fingerprint, options: SolverOptions) -> Plan:
    """Choose the solver by the memory budget, and by time where memory leaves a choice.

    Parameters
    ----------
    data : Dataset
        The training set, of one composition.
    fingerprint : Fingerprint
        Fitted.
    options : SolverOptions

    Raises
    ------
    ConfigError
        If the solver asked for does not fit into the memory.
    """
    features = features_per_atom(data, fingerprint)
    budget, dense = options.budget, memory_needed(data, features=features)
    solver, work = options.solver, product_operations(data, fingerprint)
    n_observations = sum(structure.n_labels for structure in data)
    matrix = f"the covariance matrix of {n_observations} observations takes {dense:.2g} of {budget:.2g} GiB"
    reason = "asked for"
    if solver == "auto" and dense <= budget:
        solver, reason = "cholesky", matrix
    elif solver == "auto":
        solver = "conjugate_gradient" if work <= _LARGEST_PRODUCT else "inducing"
        reason = f"{matrix}; a product without it takes {work:.1g} operations"
    per_structure = max(structure.n_labels for structure in data)
    wanted = float(_MOST_INDUCING)
    if solver == "conjugate_gradient":
        # A quarter of the observations always pays in iterations.
        cheap = max(np.cbrt(3 * _ELIMINATION * work), n_observations / 4)
        wanted = float(np.clip(cheap, _LEAST_ELIMINATED, _MOST_ELIMINATED))
    count = min(options.inducing or max(1, int(wanted) // per_structure), len(data))
    needed = memory_needed(data, solver, count, features=features)
    while count > 1 and options.inducing is None and needed > budget:
        count -= 1
        needed = memory_needed(data, solver, count, features=features)
    if needed > budget:
        remedy = "use solver = 'auto'" if solver == "cholesky" else "fit fewer structures"
        raise ConfigError(
            f"solver '{solver}' needs about {needed:.2g} GiB for {len(data)} structures, {budget:.2g} GiB may be "
            f"used; raise memory, or {remedy}"
        )
    return Plan(solver, reason, count, options.tolerance)
