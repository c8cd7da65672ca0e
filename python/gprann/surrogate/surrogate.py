"""The surrogate: Gaussian-process regression of energies and forces of one homogeneous subset.

Yeu et al., npj Comput. Mater. 11, 156 (2025), with an invariant kernel summed over atoms as the default.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from gprann import _core
from gprann.descriptors import ChebyshevDescriptor
from gprann.errors import ConfigError, DataError, nearest_name
from gprann.parallel import n_threads, one_blas_thread, scipy_blas
from gprann.prediction import Prediction
from gprann.structure import Dataset, Structure
from gprann.surrogate.directions import internal_directions
from gprann.surrogate.fingerprints import (
    AtomsFingerprint,
    CartesianFingerprint,
    Fingerprint,
    PairsFingerprint,
    Rows,
)
from gprann.surrogate.folded import FoldedTraining
from gprann.surrogate.gaussian_process import Problem, Restorable, assemble, factorise, observations
from gprann.surrogate.hyperparameters import Settings, gradient_scale, maximise_likelihood
from gprann.surrogate.search import (
    ErrorOfNoise,
    Fixed,
    choose_by_leaving_out,
    choose_length,
    describe,
    lower_noise,
    with_fixed,
)
from gprann.surrogate.solvers import (
    Equations,
    Solution,
    SolverName,
    SolverOptions,
    memory_needed,
    plan_solver,
    solve_raising_noise,
)

__all__ = ["Hyperparameters", "Surrogate", "memory_needed"]

Array = NDArray[np.float64]
KernelName = Literal["atoms", "pairs", "cartesian"]
_log = logging.getLogger(__name__)
_KERNELS = ("atoms", "pairs", "cartesian")
_BATCH = 512  # structures predicted at a time
_LIKELIHOOD_ROWS = 1700  # observations of the subset for the likelihood (about 20 evaluations)
_LEAVE_OUT_ROWS = 3400  # at most, for a set to be judged by leave-one-out errors
_HALF_ROWS = 7000  # of the half from which the other half is predicted
_HOLD_OUT_ROWS = 11000  # of the four fifths from which the last fifth is predicted
_START = Settings(8.0, 1e-8, 1e-8)
_SINGLE = Settings(4.0, 1e-6, 1e-6)  # for a single structure, from which nothing can be held out


@dataclass(frozen=True, slots=True)
class Hyperparameters:
    """Hyperparameters of a fitted surrogate, in physical units.

    Attributes
    ----------
    length : float
        Kernel length in units of the fingerprint's spread.
    amplitude : float, eV
        s_f, root of the kernel's prefactor.
    energy_noise : float, eV
    force_noise : float, eV/Å
    """

    length: float
    amplitude: float
    energy_noise: float
    force_noise: float


class Surrogate:
    """Gaussian-process surrogate for energies and forces of structures of one composition.

    Parameters
    ----------
    kernel : {'atoms', 'pairs', 'cartesian'}
        `atoms` sums over the Chebyshev environments of the atoms: invariant, periodic, by far the most
        accurate. `pairs` uses inverse distances in a fixed order of atoms; `cartesian` the coordinates, as in
        the paper.
    length : float, optional
        Kernel length in units of the fingerprint's spread. Default: from the training set.
    energy_noise, force_noise : float, optional
        Noise variances relative to the mean diagonal of the gradient covariances. Default: from the training
        set.
    descriptor : ChebyshevDescriptor, optional
        Descriptor of the atoms kernel.
    exponent, cutoff : float, optional
        Of the pairs kernel: inverse power (1) and, in periodic structures, cutoff in Å (7).
    solver : {'auto', 'cholesky', 'conjugate_gradient', 'inducing'}
        `cholesky` holds the covariance matrix of all energies and forces. `conjugate_gradient` solves the same
        equations without it; standard deviations are then those given the representative structures alone,
        upper bounds of the exact ones. `inducing` lets only the covariances with representative structures
        count: less accurate, linear in the number of structures. `auto`, the first that fits into the memory
        and takes a reasonable time; the reason is logged and kept in `to_dict`.
    memory : float, optional, GiB
        Budget of the fit. Default: what is available.
    tolerance : float
        Of conjugate gradients: largest residual relative to the observations.
    inducing : int, optional
        Number of representative structures. Default: as many as memory and time allow, to a limit.
    seed : int
        Seed of the random subsets on which hyperparameters are optimised.

    Raises
    ------
    ConfigError
        If an option is misspelt or impossible.

    Examples
    --------
    >>> import gprann
    >>> data = gprann.examples.hydrogen(7)
    >>> surrogate = gprann.Surrogate(kernel="pairs").fit(data)
    >>> bool(abs(surrogate.predict(data).energy - data.energies).max() < 0.05)
    True
    """

    def __init__(
        self,
        kernel: KernelName = "atoms",
        *,
        length: float | None = None,
        energy_noise: float | None = None,
        force_noise: float | None = None,
        descriptor: ChebyshevDescriptor | None = None,
        exponent: float = 1.0,
        cutoff: float = 7.0,
        solver: SolverName = "auto",
        memory: float | None = None,
        tolerance: float = 1e-4,
        inducing: int | None = None,
        seed: int = 0,
    ) -> None:
        if kernel not in _KERNELS:
            raise ConfigError(f"kernel = '{kernel}': {nearest_name(kernel, _KERNELS)}")
        if descriptor is not None and kernel != "atoms":
            raise ConfigError(f"a descriptor belongs to the kernel 'atoms', not to '{kernel}'")
        for name, value in (("length", length), ("energy_noise", energy_noise), ("force_noise", force_noise)):
            if value is not None and not (np.isfinite(value) and value > 0):
                raise ConfigError(f"{name} = {value}: expected a positive number")
        self.kernel = kernel
        self._fixed: Fixed = (length, energy_noise, force_noise)
        self._fingerprint: Fingerprint
        if kernel == "atoms":
            self._fingerprint = AtomsFingerprint(descriptor)
        elif kernel == "pairs":
            self._fingerprint = PairsFingerprint(exponent=exponent, cutoff=cutoff)
        else:
            self._fingerprint = CartesianFingerprint()
        self._solver = SolverOptions(solver, memory, tolerance, inducing)
        self._seed = seed
        self._state: _State | None = None

    # ------------------------------------------------------------------ fit
    @one_blas_thread()  # numpy's products too: the same bits for any number of BLAS threads
    def fit(self, data: Dataset) -> Surrogate:
        """Fit energies and forces of a homogeneous training set; hyperparameters come from this set alone.

        Parameters
        ----------
        data : Dataset
            Structures of one composition with energies and forces.

        Returns
        -------
        Surrogate
            Itself.

        Raises
        ------
        DataError
            If the set is empty, lacks forces, or mixes compositions.
        FactorisationError
            If the covariance matrix is singular for the given hyperparameters.
        """
        _check_training(data)
        self._state = None  # of an earlier fit, to which the fingerprint would no longer belong
        self._fingerprint.fit(data)
        mean = float(data.energies.mean())
        self._solve(Equations(self._fingerprint, data, mean), self._choose(data, mean))
        _log.info("surrogate of %d structures of %s: %s", len(data), data[0].formula, self.hyperparameters)
        return self

    @one_blas_thread()
    def extend(self, data: Dataset) -> Surrogate:
        """Add structures to the training set, hyperparameters and the scaling of the features kept.

        The Cholesky factor is extended by the new rows instead of made anew; the energies' mean is that of all
        structures, as in a fit to them. For a moment this takes the memory of both matrices.

        Parameters
        ----------
        data : Dataset
            Structures of the same composition with energies and forces.

        Returns
        -------
        Surrogate
            Itself; unchanged if an error is raised.

        Raises
        ------
        DataError
            If structures lack forces or are of another composition.
        FactorisationError
            If the covariance matrix becomes singular, as by structures that are there already.
        ConfigError
            If the surrogate has not been fitted.

        Examples
        --------
        >>> import gprann
        >>> data = gprann.examples.hydrogen(7)
        >>> surrogate = gprann.Surrogate().fit(data[:5]).extend(data[5:])
        >>> surrogate.to_dict()["n_structures"]
        7
        """
        state = self._fitted()
        if len(data) == 0:
            return self
        together = state.data + data
        _check_training(together)
        equations = Equations(self._fingerprint, together, float(together.energies.mean()))
        self._solve(equations, state.settings, state.solution)
        _log.info("surrogate: %d structures added to %d", len(data), len(state.data))
        return self

    def _solve(self, equations: Equations, settings: Settings, before: Solution | None = None) -> None:
        """Find the weights of the training set, or extend those of its first structures."""
        plan = plan_solver(equations.data, self._fingerprint.rows(equations.data), self._solver)
        _log.info("solver %s: %s", plan.solver, plan.reason)
        solution, settings = solve_raising_noise(equations, settings, plan, self._fixed, before)
        kernel = _core.SquaredExponential(settings.length * self._fingerprint.spread)
        # The amplitude is zero if all energies and forces are equal: then any fits.
        amplitude2 = solution.amplitude2 if solution.amplitude2 > 0 else 1e-12
        self._state = _State(kernel, equations.data, equations.mean, solution, amplitude2, settings)

    def _problem(self, data: Dataset, mean: float) -> tuple[Problem, Rows, list[Array]]:
        return assemble(self._fingerprint, data, mean)

    def _choose(self, data: Dataset, mean: float) -> Settings:
        """Return the hyperparameters: those given, the others from random subsets of the training set."""
        fixed, n = self._fixed, len(data)
        if all(fixed):
            return with_fixed(_START, fixed)
        if n < 2 or not any(np.any(observations(item, mean, self._fingerprint.invariant)) for item in data):
            return with_fixed(_SINGLE, fixed)
        shuffled = data.select(np.random.default_rng(self._seed).permutation(n))
        small, _, _ = self._problem(shuffled[: _structures_for(data, _LIKELIHOOD_ROWS)], mean)
        start = with_fixed(
            maximise_likelihood(small, with_fixed(_START, fixed), self._fingerprint.spread), fixed
        )
        _log.info("likelihood: %s", describe(start))
        n_left_out = _structures_for(data, _LEAVE_OUT_ROWS)
        if n == n_left_out:
            problem, _, _ = self._problem(shuffled, mean)
            return choose_by_leaving_out(problem, start, self._fingerprint.spread, fixed)
        half = min(n // 2, _structures_for(data, _HALF_ROWS))
        settings = choose_length(
            start,
            fixed,
            lambda length: self._held_out_error(shuffled[:half], shuffled[half : 3 * half], mean, length),
        )
        kept = min(n * 4 // 5, _structures_for(data, _HOLD_OUT_ROWS))
        held_out = shuffled[kept : kept + max(n // 5, 20)]
        settings, _ = lower_noise(
            settings, fixed, self._held_out_error(shuffled[:kept], held_out, mean, settings.length)
        )
        _log.info("a fifth of the structures predicted from the others: %s", describe(settings))
        return settings

    def _held_out_error(
        self, kept: Dataset, held_out: Dataset, mean: float, relative_length: float
    ) -> ErrorOfNoise:
        """Return the error of `held_out` predicted from `kept` as a function of the noises, K built once."""
        problem, rows, jacobians = self._problem(kept, mean)
        query = self._fingerprint.rows(held_out)
        length = relative_length * self._fingerprint.spread
        K = Restorable(problem.covariance(length))
        scale = gradient_scale(problem, K.matrix)

        def error(candidate: Settings) -> float:
            noise = problem.noise(scale * candidate.energy_noise, scale * candidate.force_noise)
            alpha = factorise(K.restored(), noise).solve(problem.values)
            folded = FoldedTraining.from_weights(rows, jacobians, alpha, problem.first)
            energy, slopes = folded.predict(query, _core.SquaredExponential(length))
            energies = np.abs(energy + mean - held_out.energies).mean()
            gradients = np.concatenate(query.gradients(slopes))
            forces = np.abs(gradients + np.concatenate(held_out.forces)).mean()
            return float(np.log(max(energies, 1e-12)) + np.log(max(forces, 1e-12)))

        return error

    # -------------------------------------------------------------- predict
    @property
    def hyperparameters(self) -> Hyperparameters:
        """Hyperparameters in physical units; known after `fit`."""
        state = self._fitted()
        energy, force = np.sqrt(state.amplitude2 * state.solution.noise)
        return Hyperparameters(
            state.settings.length, float(np.sqrt(state.amplitude2)), float(energy), float(force)
        )

    @property
    def fingerprint(self) -> Fingerprint:
        """The fingerprint in use."""
        return self._fingerprint

    @one_blas_thread()
    def predict(
        self,
        data: Dataset,
        *,
        std: bool = True,
        forces: bool = True,
        forces_std: bool = False,
        progress: Callable[[int], object] | None = None,
    ) -> Prediction:
        """Predict energies and forces with their standard deviations.

        Parameters
        ----------
        data : Dataset
            Structures of the composition of the training set.
        std : bool
            Whether to predict the standard deviations of the energies; costs far more than the means.
        forces : bool
            Whether to predict forces; without them `Prediction.forces` is empty.
        forces_std : bool
            Whether to predict the standard deviations of the forces too; costs 3N times as much.
        progress : callable, optional
            Called with the number of structures done since the last call.

        Returns
        -------
        Prediction

        Raises
        ------
        DataError
            If a structure has another composition.
        ConfigError
            If the surrogate has not been fitted.
        """
        state = self._fitted()
        energies: list[Array] = [np.zeros(0)]
        stds: list[Array] = [np.zeros(0)]
        force_list: list[Array] = []
        force_stds: list[Array] = []
        for batch in _batches(data):
            for structure in batch:
                _require_composition(structure, state)
            rows = self._fingerprint.rows(batch)
            energy, slopes = state.solution.folded.predict(rows, state.kernel)
            energies.append(energy + state.mean)
            if forces:
                force_list += [-gradient for gradient in rows.gradients(slopes)]
            if std:
                stds.append(self._energy_std(rows, state))
            if forces_std:
                force_stds += self._forces_std(batch, rows, state)
            if progress is not None:
                progress(len(batch))
        return Prediction(
            np.concatenate(energies),
            force_list,
            energy_std=np.concatenate(stds) if std else None,
            forces_std=force_stds if forces_std else None,
        )

    def _energy_std(self, rows: Rows, state: _State) -> Array:
        sets, posterior = rows.sets(), state.solution.posterior
        cross = np.zeros((len(rows.kind_rows), posterior.sets.observations))
        with one_blas_thread():
            _core.energy_covariance(sets, posterior.sets, state.kernel, scipy_blas(), n_threads(), cross)
        variance = posterior.variance(_core.energy_variance(sets, state.kernel), cross)
        std: Array = np.sqrt(state.amplitude2 * np.maximum(variance, 0.0))
        return std

    def _forces_std(self, data: Dataset, rows: Rows, state: _State) -> list[Array]:
        """Return sqrt(diag(B V Bᵀ)): V of the gradients along the internal directions B of each structure."""
        jacobians = self._fingerprint.jacobians(data)
        posterior = state.solution.posterior
        result = []
        for index, structure in enumerate(data):
            sets = rows.sets([jacobians[index]], first=index, last=index + 1)
            prior = np.zeros((sets.observations, sets.observations))
            cross = np.zeros((sets.observations, posterior.sets.observations))
            with one_blas_thread():
                for other, target in ((sets, prior), (posterior.sets, cross)):
                    _core.covariance(sets, other, state.kernel, scipy_blas(), False, n_threads(), target)
            variance = posterior.covariance(prior, cross)[1:, 1:]
            directions = internal_directions(structure, self._fingerprint.invariant)
            diagonal = np.einsum("kd,de,ke->k", directions, variance, directions)
            result.append(np.sqrt(state.amplitude2 * np.maximum(diagonal, 0.0)).reshape(-1, 3))
        return result

    def _fitted(self) -> _State:
        if self._state is None:
            raise ConfigError("the surrogate has not been fitted: call fit(data) first")
        return self._state

    def to_dict(self) -> dict[str, Any]:
        """Return kernel and hyperparameters as plain data, for provenance."""
        values, state = self.hyperparameters, self._fitted()
        return {
            "kernel": self.kernel,
            "length": values.length,
            "amplitude": values.amplitude,
            "energy_noise": values.energy_noise,
            "force_noise": values.force_noise,
            "n_structures": len(state.data),
            **state.solution.facts,
        }


@dataclass(frozen=True, slots=True)
class _State:
    """All that `fit` leaves behind."""

    kernel: _core.SquaredExponential
    data: Dataset
    mean: float
    solution: Solution
    amplitude2: float
    settings: Settings

    @property
    def composition(self) -> tuple[tuple[str, int], ...]:
        return self.data[0].composition


def _structures_for(data: Dataset, rows: int) -> int:
    """Return how many structures give about `rows` observations, at least four where there are so many."""
    return min(len(data), max(4, rows // (3 * len(data[0]) + 1)))


def _batches(data: Dataset) -> Iterator[Dataset]:
    for begin in range(0, len(data), _BATCH):
        yield data[begin : begin + _BATCH]


def _check_training(data: Dataset) -> None:
    if len(data) == 0:
        raise DataError("the training set of the surrogate is empty; give at least one structure")
    for structure in data:
        if structure.energy is None or structure.forces is None:
            missing = "energy" if structure.energy is None else "forces"
            raise DataError(
                f"{structure.origin}: has no {missing}, which the surrogate needs; compute them, "
                "leave the structure out, or train on energies without augmentation"
            )
        if structure.composition != data[0].composition:
            raise DataError(
                f"{structure.origin}: composition {structure.formula} differs from {data[0].formula} of "
                f"{data[0].origin}; fit one surrogate per composition, as fit_surrogates(data) does"
            )


def _require_composition(structure: Structure, state: _State) -> None:
    if structure.composition != state.composition:
        formula = "".join(f"{symbol}{count if count > 1 else ''}" for symbol, count in state.composition)
        raise DataError(
            f"{structure.origin}: composition {structure.formula} is not that of the surrogate's "
            f"training set, {formula}"
        )
