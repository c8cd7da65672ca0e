"""The base of all solvers: the weights of a training set, their extension, and what the posterior needs of them."""

from __future__ import annotations

import logging
from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, ClassVar

import numpy as np

from gprann import _core
from gprann.arrays import Array, Indices
from gprann.data.structure import Dataset
from gprann.errors import ConfigError, FactorisationError, FormatError
from gprann.options import Named, Registry
from gprann.runtime.resources import GIB
from gprann.surrogate.gaussian_process import PosteriorMean
from gprann.surrogate.hyperparameters.criteria import (
    Fixed,
    Hyperparameters,
    LeftOut,
    Search,
    Trial,
    coarse_points,
    scan,
    with_fixed,
)
from gprann.surrogate.kernels.base import Environments, Fingerprint, Rows
from gprann.surrogate.memory import FEATURES, features_per_atom, jacobian_bytes
from gprann.surrogate.observations import Observations, observe, observed_values
from gprann.surrogate.solvers.posterior import Posterior, structure_covariance

_log = logging.getLogger(__name__)
_RAISE = 3.0  # factor on noises for which the matrix is singular in double precision


@dataclass(frozen=True, slots=True)
class Equations:
    """A training set whose weights are to be found.

    Attributes
    ----------
    fingerprint : Fingerprint
        Fitted.
    data : Dataset
    mean : float, eV
        Energy that the kernel adds to: the mean of the training set.
    """

    fingerprint: Fingerprint
    data: Dataset
    mean: float

    @property
    def n_observations(self) -> int:
        """Number of energies and force components of the training set."""
        return sum(structure.n_labels for structure in self.data)

    def length(self, settings: Trial) -> float:
        """Return the kernel length in the units of the features."""
        return settings.length * self.fingerprint.spread

    def kernel(self, settings: Trial) -> _core.RadialKernel:
        """Return the radial kernel."""
        return self.fingerprint.radial_kernel(self.length(settings))

    def observe(self, part: Dataset | None = None) -> tuple[Observations, Rows, list[Array]]:
        """Return the observations of the training set, or of a part of it, with features and Jacobians."""
        return observe(self.fingerprint, self.data if part is None else part, self.mean)

    def noise(self, settings: Trial) -> Array:
        """Return the variances of energies and gradients relative to the amplitude, without K; shape (2,)."""
        length = self.length(settings)
        total, count, energies = 0.0, 0, 0.0
        for index in range(len(self.data)):
            observations, _, _ = self.observe(self.data[index : index + 1])
            diagonal = np.diagonal(observations.covariance(length))
            total, count, energies = (
                total + diagonal[1:].sum(),
                count + len(diagonal) - 1,
                energies + diagonal[0],
            )
        scale = total / count if total > 0 else energies / len(self.data)
        return float(scale) * np.array([settings.energy_noise, settings.force_noise])

    def without(self, indices: Iterable[int]) -> Equations:
        """Return the equations of the structures with these indices alone, about their own mean."""
        kept = self.data.select(indices)
        return replace(self, data=kept, mean=float(kept.energies.mean()))


@dataclass(slots=True)
class Solution:
    """Weights of the training set, ready for predictions.

    Attributes
    ----------
    mean : PosteriorMean
    amplitude2 : float, eV²
    noise : ndarray, shape (2,)
        Variances of energies and gradients relative to the amplitude.
    facts : dict
        What the solver has to tell, plain data.
    posterior : Posterior, optional
        Covariances; made from the rest by `Solver.posterior` if it is None, as after loading.
    representatives : ndarray of int64
        Indices of the structures that were eliminated, or that alone count; empty where the solver has none.
    factor_sizes : tuple of int
        Number of structures of the first factorisation, and after each extension of the factor.
    sparse : bool
        Whether the representatives alone have weights.
    environments : Environments, optional
        Representative environments of atoms, which alone have weights.
    """

    mean: PosteriorMean
    amplitude2: float
    noise: Array
    facts: dict[str, Any]
    posterior: Posterior | None = None
    representatives: Indices = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    factor_sizes: tuple[int, ...] = ()
    sparse: bool = False
    environments: Environments | None = None

    @property
    def converged(self) -> bool:
        """Whether the tolerance was reached, where there is one."""
        return bool(self.facts.get("converged", True))

    def state(self) -> dict[str, Any]:
        """Return the solution as plain data and arrays, without the posterior."""
        return {
            "mean": self.mean.state(),
            "amplitude2": self.amplitude2,
            "noise": self.noise,
            "facts": self.facts,
            "representatives": self.representatives.tolist(),
            "factor_sizes": list(self.factor_sizes),
            "sparse": self.sparse,
            "environments": None if self.environments is None else asdict(self.environments),
        }

    @classmethod
    def from_state(cls, equations: Equations, state: Mapping[str, Any]) -> Solution:
        """Make the solution of equations from what `state` gave."""
        representatives = np.array(state["representatives"], dtype=np.int64).reshape(-1)
        if len(representatives) and not 0 <= representatives.min() <= representatives.max() < len(
            equations.data
        ):
            raise ValueError(f"representatives beyond the {len(equations.data)} structures")
        noise = np.array(state["noise"], dtype=np.float64)
        if noise.shape != (2,) or not np.all((noise >= 0) & np.isfinite(noise)):
            raise ValueError(f"noise is {noise}, expected two variances")
        environments = _environments(state.get("environments"))
        if environments is None:
            data = equations.data.select(representatives) if state["sparse"] else equations.data
            rows = equations.fingerprint.rows(data)
        else:
            rows = environments.rows()
        return cls(
            PosteriorMean.from_state(rows, state["mean"]),
            float(state["amplitude2"]),
            noise,
            dict(state["facts"]),
            representatives=representatives,
            factor_sizes=tuple(int(size) for size in state["factor_sizes"]),
            sparse=bool(state["sparse"]),
            environments=environments,
        )


def _environments(state: Mapping[str, Any] | None) -> Environments | None:
    if state is None:
        return None
    return Environments(np.ascontiguousarray(state["features"]), np.array(state["first"], dtype=np.int64))


class Solver(Named):
    """Options of a solver; subclass it to write another one.

    `solve` finds the weights, `posterior` the covariances that the training set leaves; the others have defaults.
    Register the class with `gprann.register_solver` to name it in configurations and files.

    Attributes
    ----------
    remedy : str
        What to do if the solver does not fit into the memory.
    eliminates : bool
        Whether structures that are held out to calibrate should be no representatives, where there are others.
    """

    remedy: ClassVar[str] = "fit fewer structures"
    eliminates: ClassVar[bool] = False

    def find(self, equations: Equations, search: Search) -> Trial:
        """Return the hyperparameters of a training set, those given kept; by default as the search finds them."""
        return search.find(equations.data, equations.mean)

    def error(self, equations: Equations, subset: Dataset, fixed: Fixed) -> float:
        """Return the logarithm of the error of structures held out, at the best of some hyperparameters.

        By it descriptors are compared.

        Parameters
        ----------
        equations : Equations
            Of the training set.
        subset : Dataset
            Random structures of it, to which the fingerprint has been fitted; each is predicted from the others.
        fixed : tuple of length, energy noise and force noise
            Those that the user gives.
        """
        observations, _, _ = observe(equations.fingerprint, subset, float(subset.energies.mean()))
        results = scan(observations, coarse_points(fixed), equations.fingerprint.spread)
        return min((result.score for result in results), default=np.inf)

    @abstractmethod
    def solve(self, equations: Equations, settings: Trial) -> Solution:
        """Return the weights of a training set.

        Raises
        ------
        FactorisationError
            If the covariance matrix is singular for these settings.
        """

    @abstractmethod
    def posterior(
        self,
        equations: Equations,
        settings: Trial,
        solution: Solution,
        factors: list[Array],
    ) -> Posterior:
        """Return the posterior that belongs to a solution which has been loaded.

        Parameters
        ----------
        equations : Equations
        settings : Trial
        solution : Solution
        factors : list of ndarray
            The factors of the posterior as they were saved; empty if they were not: factorise again.
        """

    def extend(self, before: Fit, equations: Equations, settings: Trial) -> Solution:  # noqa: ARG002
        """Return the weights for a training set to which structures were appended, hyperparameters kept.

        Parameters
        ----------
        before : Fit
            To the structures before, by any solver.
        equations : Equations
            Of all structures, those before first.
        settings : Trial

        Raises
        ------
        FactorisationError
            If the covariance matrix has become singular.
        """
        return self.solve(equations, settings)

    def leave_out(self, fit: Fit, chosen: Indices) -> LeftOut:
        """Return the errors of some structures predicted without them.

        By default these are held out together, and the equations of the others solved again: there are fewer
        structures to learn from, so that errors are a little larger than with each held out alone.

        Parameters
        ----------
        fit : Fit
            By this solver.
        chosen : ndarray of int64
            Structures held out, fewer than there are.

        Raises
        ------
        FactorisationError
            If no noise makes the equations solvable.
        """
        kept = np.setdiff1d(np.arange(len(fit.equations.data)), chosen)
        return leave_out_together(fit, chosen, self, fit.equations.without(kept))

    def left_out_variance(self, fit: Fit, chosen: Indices) -> Array:
        """Return the variances of the energies of structures given the others, relative to the amplitude.

        Only called where the solver does not have the factor of all observations. Default: `leave_out`.
        """
        return np.array([block[0, 0] for block in self.leave_out(fit, chosen).latent]) / fit.amplitude2

    def memory(self, data: Dataset, *, features: float = FEATURES) -> float:
        """Return the memory in GiB that a fit takes; default: that of the covariance matrix.

        Parameters
        ----------
        data : Dataset
        features : float
            Features of an atom; of a kernel on whole structures, theirs divided by the number of atoms.
        """
        rows = sum(structure.n_labels for structure in data)
        return (8.0 * rows**2 + sum(jacobian_bytes(len(item), features) for item in data)) / GIB

    def memory_at_most(self, data: Dataset, budget: float) -> float:  # noqa: ARG002
        """Return the memory in GiB that the solution of a training set takes at most, within a budget if it can."""
        return self.memory(data)

    def memory_at_least(self, data: Dataset, budget: float, *, features: float = FEATURES) -> float:  # noqa: ARG002
        """Return the memory in GiB with which the solution of a training set can do; within the budget if it can."""
        return self.memory(data, features=features)

    def plan(self, data: Dataset, fingerprint: Fingerprint, budget: float) -> Plan:
        """Return the solver with all its options chosen, so that it fits into a memory in GiB.

        Raises
        ------
        ConfigError
            If the solver does not fit into the memory.
        """
        self._check_memory(data, features_per_atom(data, fingerprint), budget)
        return Plan(self, "asked for")

    def _check_memory(self, data: Dataset, features: float, budget: float) -> None:
        needed = self.memory(data, features=features)
        if needed > budget:
            raise ConfigError(
                f"solver '{self.name}' needs about {needed:.2g} GiB for {len(data)} structures, {budget:.2g} GiB may "
                f"be used; raise memory, or {self.remedy}"
            )


SOLVERS = Registry("solver", Solver)  # type: ignore[type-abstract]
register_solver = SOLVERS.register


@dataclass(frozen=True, slots=True)
class Plan:
    """A solver with all its options chosen, and the reason for it.

    Attributes
    ----------
    solver : Solver
    reason : str
    """

    solver: Solver
    reason: str


@dataclass(slots=True)
class Fit:
    """Equations with the hyperparameters for which they were solved, and their solution.

    Attributes
    ----------
    equations : Equations
    settings : Trial
        Noises perhaps raised (see `solve_raising_noise`).
    fixed : tuple of length, energy noise and force noise
        As the user gives them, None for the others.
    plan : Plan
    solution : Solution
    factors : list of ndarray
        Factors of the posterior that were loaded, if they were saved.
    certainty : Posterior or None
        Variances that weigh corrections, once they have been asked for; see `gprann.surrogate.prediction`.
    bound : float or None, eV
        Automatic bound of corrections, once it has been asked for.
    """

    equations: Equations
    settings: Trial
    fixed: Fixed
    plan: Plan
    solution: Solution
    factors: list[Array] = field(default_factory=list)
    certainty: Posterior | None = None
    bound: float | None = None

    @property
    def kernel(self) -> _core.RadialKernel:
        """Radial kernel of the features."""
        return self.equations.kernel(self.settings)

    @property
    def amplitude2(self) -> float:
        """Amplitude s_f², eV²; any fits if all energies and forces are equal."""
        return self.solution.amplitude2 if self.solution.amplitude2 > 0 else 1e-12

    @property
    def posterior(self) -> Posterior:
        """Covariances that the training set leaves; after loading they are factorised at the first use."""
        if self.solution.posterior is None:
            try:
                self.solution.posterior = self.plan.solver.posterior(
                    self.equations, self.settings, self.solution, self.factors
                )
            except (AttributeError, TypeError, ValueError, LookupError) as error:
                raise FormatError(
                    f"the file of the surrogate contradicts itself ({error}); fit and save it again"
                ) from error
            self.factors = []
        return self.solution.posterior

    @property
    def hyperparameters(self) -> Hyperparameters:
        """Hyperparameters in physical units."""
        amplitude, energy, force = np.sqrt(self.amplitude2 * np.array([1.0, *self.solution.noise]))
        return Hyperparameters(
            self.settings.length, float(amplitude), float(energy), float(force), self.settings
        )

    @property
    def facts(self) -> dict[str, Any]:
        """Solver, reason and what it has to tell, plain data."""
        return {"solver": self.plan.solver.name, "solver_reason": self.plan.reason, **self.solution.facts}


def solve_raising_noise(
    solve: Callable[[Trial], Solution],
    settings: Trial,
    fixed: Fixed,
    quicker: Callable[[], Solution] | None = None,
) -> tuple[Solution, Trial]:
    """Solve; noises that are not `fixed` are raised where double precision needs it.

    Where there is a `quicker` way for the settings as they are, from another solution, it is tried first.

    Raises
    ------
    FactorisationError
        If the covariance matrix is singular for the noises given, or for any.
    """
    while True:
        try:
            return quicker() if quicker is not None else solve(settings), settings
        except FactorisationError:
            free = settings.force_noise if fixed[2] is None else settings.energy_noise
            if (fixed[1] and fixed[2]) or free > 1e-3:
                raise
            quicker = None
            raised = Trial(settings.length, _RAISE * settings.energy_noise, _RAISE * settings.force_noise)
            settings = with_fixed(raised, fixed)
            _log.warning("the covariance matrix is singular in double precision; now %s", settings)


def leave_out_together(
    fit: Fit,
    chosen: Indices,
    solver: Solver,
    equations: Equations,
    quicker: Callable[[], Solution] | None = None,
) -> LeftOut:
    """Return the errors of some structures predicted from a solution for the others, see `Solver.leave_out`.

    Parameters
    ----------
    fit : Fit
        To all structures.
    chosen : ndarray of int64
        Structures held out.
    solver : Solver
        For the others.
    equations : Equations
        Of the others.
    quicker : callable, optional
        Another way to solve them, see `solve_raising_noise`.
    """
    solution, settings = solve_raising_noise(
        lambda settings: solver.solve(equations, settings), fit.settings, fit.fixed, quicker
    )
    part = Fit(equations, settings, fit.fixed, Plan(solver, ""), solution)
    fingerprint = equations.fingerprint
    energies, gradients, latent = [], [], []
    for structure in fit.equations.data.select(chosen):
        own = Dataset([structure])
        rows, jacobians = fingerprint.rows(own), fingerprint.jacobians(own)
        energy, slopes = solution.mean.predict(rows, part.kernel)
        slope = slopes.ravel() @ jacobians[0]
        observed = observed_values(structure, equations.mean, fingerprint.invariant)
        energies.append(observed[0] - energy[0])
        gradients.append(observed[1:] - slope)
        block = structure_covariance(part.posterior, rows.sets(jacobians), part.kernel)
        latent.append(part.amplitude2 * block)
    return LeftOut(np.array(energies), gradients, latent, solution.converged)
