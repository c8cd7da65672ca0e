"""Options of solvers that factorise the covariance matrix of some representative structures alone."""

from __future__ import annotations

from gprann.data.structure import Dataset
from gprann.options import option
from gprann.runtime.resources import GIB
from gprann.surrogate.kernels.base import Fingerprint
from gprann.surrogate.memory import FEATURES, features_per_atom, jacobian_bytes, per_atom_bytes
from gprann.surrogate.solvers.base import Plan, Solver


class WithRepresentatives(Solver):
    """A solver that factorises the covariance matrix of some representative structures alone."""

    inducing: int | None = option(
        "Number of representative structures. Default: what memory and time allow, to a limit.",
        None,
        ge=1,
        example=50,
    )

    def wanted_observations(self, data: Dataset, fingerprint: Fingerprint) -> float:
        """Return the observations of the representatives, where memory does not matter."""
        raise NotImplementedError

    def plan(self, data: Dataset, fingerprint: Fingerprint, budget: float) -> Plan:
        """Choose the number of representatives, see `Solver.plan`."""
        features = features_per_atom(data, fingerprint)
        per_structure = max(structure.n_labels for structure in data)
        wanted = int(self.wanted_observations(data, fingerprint))
        count = min(self.inducing or max(1, wanted // per_structure), len(data))
        found = self.replace(inducing=count)
        while count > 1 and self.inducing is None and found.memory(data, features=features) > budget:
            count -= 1
            found = self.replace(inducing=count)
        found._check_memory(data, features, budget)
        return Plan(found, "asked for")

    def memory(self, data: Dataset, *, features: float = FEATURES) -> float:
        """Return the memory in GiB that a fit takes, with one representative where their number is left open."""
        inducing = self.inducing or 1
        atoms = int(data.n_atoms.max())
        m = inducing * max(structure.n_labels for structure in data)
        taken = self.representative_bytes(m, data, features) + inducing * jacobian_bytes(atoms, features)
        return (taken + per_atom_bytes(features) * float(data.n_atoms.sum())) / GIB

    def representative_bytes(self, m: int, data: Dataset, features: float) -> float:
        """Return the bytes of the matrices for m observations of the representatives."""
        raise NotImplementedError

    def memory_at_most(self, data: Dataset, budget: float) -> float:
        """Return the memory in GiB that a solution takes at most: with all structures, but within the budget."""
        most = len(data) if self.inducing is None else min(self.inducing, len(data))
        return min(budget, self.replace(inducing=most).memory(data))
