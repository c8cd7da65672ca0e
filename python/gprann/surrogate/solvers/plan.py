"""The solver `auto`: chosen by memory, and by time where memory leaves a choice."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from gprann.data.structure import Dataset
from gprann.surrogate.kernels.base import Fingerprint
from gprann.surrogate.memory import FEATURES, features_per_atom
from gprann.surrogate.solvers.base import SOLVERS, Plan, Solver, register_solver
from gprann.surrogate.solvers.cholesky import Cholesky
from gprann.surrogate.solvers.conjugate_gradients import ConjugateGradients, product_operations
from gprann.surrogate.solvers.inducing import Inducing
from gprann.surrogate.solvers.representatives import WithRepresentatives
from gprann.surrogate.solvers.sparse import Sparse, WithEnvironments

_SOME, _MANY = 8000, 30000
"""Observations beyond which sums over atoms are sparse, without and with the memory for the covariance matrix."""
_LARGEST_MATRIX = 2e13
"""Operations of the covariance matrix (ten minutes on two threads) beyond which a sum over atoms is sparse."""
_LARGEST_PRODUCT = 1e12
"""Operations of one K x (half a minute on one thread) beyond which a hundred of them take too long."""


@register_solver
class AutoSolver(ConjugateGradients, WithEnvironments):
    """The first solver that fits into the memory and takes a reasonable time.

    `cholesky` if the covariance matrix fits into the memory and is factorised in a minute or two. Larger sets are
    solved by `sparse` if the kernel is a sum over atoms, otherwise by `cholesky` or, without the memory for that, by
    `conjugate_gradient` or, where its products take too long, `inducing`. Its options are those of the solvers from
    which it chooses.
    """

    name = "auto"

    def plan(self, data: Dataset, fingerprint: Fingerprint, budget: float) -> Plan:
        """Choose the solver, see `Solver.plan`."""
        features = features_per_atom(data, fingerprint)
        dense = Cholesky().memory(data, features=features)
        n_observations = sum(structure.n_labels for structure in data)
        matrix = f"the covariance matrix of {n_observations} observations takes {dense:.2g} GiB"
        sparse = Sparse(environments=self.environments)
        large = n_observations > (_MANY if dense <= budget else _SOME)
        large = large or matrix_operations(data, features) > _LARGEST_MATRIX
        if large and fingerprint.local and sparse.fits(data, fingerprint, budget):
            found = sparse.plan(data, fingerprint, budget)
            size = f"{n_observations} observations of a sum over atoms, of up to {data.n_atoms.max()} in a structure"
            return replace(found, reason=f"{size}: linear in structures")
        if dense <= budget:  # no word of the budget: the same reason whatever else the machine is busy with
            return Plan(Cholesky(), f"{matrix}, which the memory allows")
        work = product_operations(data, fingerprint)
        iterative, approximate = self._without_matrix()
        solver = iterative if work <= _LARGEST_PRODUCT else approximate
        found = solver.plan(data, fingerprint, budget)
        product = f"a product without it takes {work:.1g} operations"
        return replace(found, reason=f"{matrix}, more than {budget:.2g} GiB; {product}")

    def _without_matrix(self) -> tuple[WithRepresentatives, WithRepresentatives]:
        iterative = ConjugateGradients(tolerance=self.tolerance, inducing=self.inducing)
        return iterative, Inducing(inducing=self.inducing)

    def memory(self, data: Dataset, *, features: float = FEATURES) -> float:
        """Return the memory in GiB of the covariance matrix."""
        return Cholesky().memory(data, features=features)

    def memory_at_least(self, data: Dataset, budget: float, *, features: float = FEATURES) -> float:
        """Return the memory in GiB with which a solution can do, see `Solver.memory_at_least`."""
        dense = self.memory(data, features=features)
        if dense <= budget:
            return dense
        return max(solver.memory(data, features=features) for solver in self._without_matrix())

    def memory_at_most(self, data: Dataset, budget: float) -> float:
        """Return the memory in GiB that the solution takes at most, see `Solver.memory_at_most`."""
        dense = self.memory(data)
        if dense <= budget:
            return dense
        return max(solver.memory_at_most(data, budget) for solver in self._without_matrix())


def matrix_operations(data: Dataset, features: float) -> float:
    """Return the operations of the covariance matrix of all gradients: a product of Jacobians for each pair."""
    atoms = data.n_atoms.astype(float)
    # Jacobians (atoms x features, 3 atoms) of the one and of the other: sum over pairs, n_a 3 n_a 3 n_b.
    return float(9.0 * features * np.square(atoms).sum() * atoms.sum())


def memory_needed(
    data: Dataset, solver: str | Solver = "cholesky", inducing: int = 1, *, features: float = FEATURES
) -> float:
    """Return the memory in GiB that a fit takes: square matrices, Jacobians, neighbour lists.

    Parameters
    ----------
    data : Dataset
    solver : {'cholesky', 'conjugate_gradient', 'inducing', 'sparse', 'auto'} or Solver
        With `auto`, that of the covariance matrix.
    inducing : int
        Number of representative structures of solvers by name that have some.
    features : float
        Features of an atom; of a kernel on whole structures, theirs divided by the number of atoms. Default: those
        of the kernel `atoms` with several elements.

    Examples
    --------
    >>> import gprann
    >>> round(memory_needed(gprann.examples.hydrogen(7)), 3)
    0.0
    """
    if isinstance(solver, str):
        has = "inducing" in SOLVERS[solver].model_fields
        solver = SOLVERS.make(solver, **({"inducing": inducing} if has else {}))
    return solver.memory(data, features=features)
