"""The surrogate: Gaussian-process regression of energies and forces of one homogeneous subset.

Yeu et al., npj Comput. Mater. 11, 156 (2025), with an invariant kernel summed over atoms as the default.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from gprann.data.prediction import Prediction
from gprann.data.strain import voigt_stress
from gprann.data.structure import Dataset
from gprann.descriptors import Descriptor
from gprann.errors import ConfigError, check_positive, check_whole, nearest_name
from gprann.io.reading import Source, structures
from gprann.runtime.resources import one_blas_thread
from gprann.surrogate.calibration import Calibration
from gprann.surrogate.gaussian_process import Radial
from gprann.surrogate.hyperparameters.choice import (
    START,
    Choice,
    Method,
    check_method,
    fit_memory,
    small_subset,
)
from gprann.surrogate.hyperparameters.grid import Grid
from gprann.surrogate.hyperparameters.kernel_selection import Selection, select_kernel
from gprann.surrogate.hyperparameters.relevance import weigh_components
from gprann.surrogate.hyperparameters.settings import Fixed, Hyperparameters, Settings
from gprann.surrogate.hyperparameters.species_lengths import likely_lengths
from gprann.surrogate.kernels.fingerprints import (
    PAIRS_CUTOFF,
    PAIRS_EXPONENT,
    AtomsFingerprint,
    Fingerprint,
    Rows,
)
from gprann.surrogate.kernels.options import KernelName, KernelOptions
from gprann.surrogate.kernels.soap import SoapOptions
from gprann.surrogate.left_out import calibration_last, calibration_of, left_out_std
from gprann.surrogate.observations import (
    check_composition,
    check_training,
    with_rattled,
    with_stress,
    without_known,
)
from gprann.surrogate.solvers.plan import TOLERANCE, SolverName, SolverOptions, memory_needed, plan_solver
from gprann.surrogate.solvers.posterior import energy_covariance, energy_variance, forces_std_of
from gprann.surrogate.solvers.solve import Equations, Fit, Solution, extend_solution, solve_raising_noise

__all__ = ["Surrogate", "memory_needed"]

Array = NDArray[np.float64]
_log = logging.getLogger(__name__)
_BATCH = 512  # structures predicted at a time


class Surrogate:
    """Gaussian-process surrogate for energies and forces of structures of one composition.

    Parameters
    ----------
    kernel : {'atoms', 'pairs', 'cartesian', 'soap', 'auto'}
        `atoms` sums over the Chebyshev environments of the atoms: invariant, periodic, by far the most
        accurate. `pairs` uses inverse distances in a fixed order of atoms; `cartesian` the coordinates, as in
        the paper; `soap` SOAP vectors of whole structures (needs dscribe). `auto` takes the one of the first
        three, and of `soap` if its settings are given, that best predicts structures of a random subset, left out
        one by one (see `selection`).
    radial : {'squared_exponential', 'matern52'}
        How the covariance falls with the distance of two fingerprints: smoothly to any order, or with the
        Matérn kernel of order 5/2, for energy surfaces that are rougher.
    length : float, optional
        Kernel length in units of the fingerprint's spread. Default: from the training set.
    energy_noise, force_noise : float, optional
        Noise variances relative to g, the mean variance of gradients under the kernel (with energies in eV and
        lengths in Å): the standard deviations s_f √(energy_noise g) in eV and s_f √(force_noise g) in eV/Å, s_f
        the amplitude, are found in `hyperparameters` after the fit. To have others, fit again with the variances
        times about the squares of the ratios. Default: from the training set.
    hyperparameters : {'held_out', 'likelihood', 'leave_one_out', 'k_fold', 'grid'}
        How those that are not given are found, inside the training set. `held_out`: from the likelihood on a
        small random subset on to the smallest errors of structures that are left out, one by one in small
        sets, by halves and fifths in larger ones. The others look at random subsets alone: the maximum of the
        `likelihood`, the smallest errors near it of structures left out one by one (`leave_one_out`) or by
        fifths (`k_fold`), or those of structures left out one by one at all points of a `grid`.
    grid : mapping, optional
        Its points: all combinations of lists, as {"length": [4, 8], "energy_noise": [1e-8], "force_noise":
        [1e-8, 1e-6]}. Default: five lengths from 2 to 32, four noises from 1e-10 to 1e-4.
    descriptor : Descriptor, optional
        Descriptor of the atoms kernel.
    species_lengths : mapping of str to float or 'likelihood', optional
        Factors on the length of the atoms kernel for some species, as {"H": 0.7}, or those that maximise the
        likelihood of a small random subset, together with length and noises; `length` is then the geometric mean.
    relevance : bool
        Whether components of the descriptor on which the energy hardly depends get longer lengths.
    stress : bool
        Whether the atoms kernel observes the stresses of those training structures that have one too. Only for
        stresses that are derivatives of the energies: with plane waves, those of large cutoffs.
    soap : SoapOptions or mapping, optional
        Settings of the kernel `soap` (see `SoapOptions`), as {"r_cut": 5.0, "centers": [0, 4]}. With `auto` they
        make it one of the kernels from which is chosen, {} with all defaults.
    exponent, cutoff : float, optional
        Of the pairs kernel: inverse power (1) and, in periodic structures, cutoff in Å (7).
    solver : {'auto', 'cholesky', 'conjugate_gradient', 'inducing'}
        `cholesky` holds the covariance matrix of all energies and forces. `conjugate_gradient` solves the same
        equations without it; standard deviations are then those given the representative structures alone,
        upper bounds of the exact ones. `inducing` lets only the covariances with representative structures
        count: less accurate, linear in the number of structures. `auto`, the first that fits into the memory
        and takes a reasonable time; the reason is logged and kept in `to_dict`.
    memory : float, optional, GiB
        Budget of the fit: decides on the solver, and with little of it hyperparameters come from smaller subsets.
        Default: what is available.
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
        radial: Radial = "squared_exponential",
        length: float | None = None,
        energy_noise: float | None = None,
        force_noise: float | None = None,
        hyperparameters: Method = "held_out",
        grid: Mapping[str, Sequence[float]] | None = None,
        descriptor: Descriptor | None = None,
        exponent: float = PAIRS_EXPONENT,
        cutoff: float = PAIRS_CUTOFF,
        species_lengths: Mapping[str, float] | Literal["likelihood"] | None = None,
        relevance: bool = False,
        stress: bool = False,
        soap: SoapOptions | Mapping[str, Any] | None = None,
        solver: SolverName = "auto",
        memory: float | None = None,
        tolerance: float = TOLERANCE,
        inducing: int | None = None,
        seed: int = 0,
    ) -> None:
        given = {"length": length, "energy_noise": energy_noise, "force_noise": force_noise}
        check_positive(**{name: value for name, value in given.items() if value is not None})
        check_whole(0, seed=seed)
        if radial not in get_args(Radial):
            raise ConfigError(f"radial = '{radial}': {nearest_name(radial, get_args(Radial))}")
        self.kernel: str = kernel
        self.radial = radial
        self._fixed: Fixed = (length, energy_noise, force_noise)
        self._options = KernelOptions(descriptor, exponent, cutoff, species_lengths, relevance, soap, stress)
        self._options.check(kernel)
        self._asked: KernelName = kernel
        self._selection: Selection | None = None
        self._fingerprint = self._options.fingerprint(kernel)
        check_method(hyperparameters, grid, self._fixed)
        self._method: Method = hyperparameters
        self._grid = Grid.make(grid or {}, self._fixed)
        self._solver = SolverOptions(solver, memory, tolerance, inducing)
        self._seed = seed
        self._state: Fit | None = None
        self._calibration: Calibration | None = None

    def prepare(self, species: Sequence[str]) -> None:
        """Prepare for the fit to one of several training sets: options hold for all their species."""
        self._options = self._options.among(species)
        self._fingerprint = self._options.fingerprint(self._asked)

    @one_blas_thread()  # numpy's products too: the same bits for any number of BLAS threads
    def fit(self, data: Source, *, standardise_over: Dataset | None = None) -> Surrogate:
        """Fit energies and forces of a homogeneous training set; hyperparameters come from this set alone.

        Parameters
        ----------
        data : Dataset, or anything that `gprann.read` takes
            Of one composition with energies and forces, and stresses if these are to be observed.
        standardise_over : Dataset, optional
            Structures, with or without labels, that fix mean, scale and spread of the fingerprint. Default:
            `data`, less than five structures of it with rattled copies.

        Returns
        -------
        Surrogate
            Itself.

        Raises
        ------
        DataError
            If the set is empty, lacks forces, or mixes compositions, or if stresses are to be observed and there
            are none.
        FactorisationError
            If the covariance matrix is singular for the given hyperparameters.
        """
        data = structures(data)
        check_training(data)
        data = with_stress(data, stress=self._options.stress)
        self._state = None  # of an earlier fit, to which the fingerprint would no longer belong
        self._calibration = None
        self._select(data)
        self._fingerprint.fit(
            with_rattled(data, self._seed) if standardise_over is None else standardise_over
        )
        mean = float(data.energies.mean())
        memory = self._solver.budget
        choice = Choice(
            self._fingerprint, self.radial, self._fixed, self._method, self._seed, memory, self._grid
        )
        if self._options.species_lengths == "likelihood" and isinstance(self._fingerprint, AtomsFingerprint):
            factors, start = likely_lengths(self._fingerprint, small_subset(data, self._seed, memory), choice)
            self._fingerprint.stretch_species(factors)
            choice = replace(choice, start=start)
        if self._options.relevance and isinstance(self._fingerprint, AtomsFingerprint):
            weigh_components(self._fingerprint, small_subset(data, self._seed, memory), choice)
        settings = choice.choose(data, mean)
        data = calibration_last(data, self._seed)
        self._solve(Equations(self._fingerprint, data, mean, self.radial), settings)
        _log.info("surrogate of %d structures of %s: %s", len(data), data[0].formula, self.hyperparameters)
        return self

    @one_blas_thread()
    def extend(self, data: Source) -> Surrogate:
        """Add structures to the training set, hyperparameters and the scaling of the features kept.

        The Cholesky factor is extended by the new rows instead of made anew; the energies' mean is that of all
        structures, as in a fit to them. For a moment this takes the memory of both matrices. Conjugate gradients
        and inducing structures solve anew. Calibration is found again: in large sets (more than about 5500
        observations) from the structures added last.

        Parameters
        ----------
        data : Dataset, or anything that `gprann.read` takes
            Of the same composition with energies and forces. Geometries that are there already are left out, with a
            warning in the log that names them.

        Returns
        -------
        Surrogate
            Itself; unchanged if an error is raised.

        Raises
        ------
        DataError
            If structures lack forces or are of another composition.
        FactorisationError
            If the covariance matrix becomes singular.
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
        data = structures(data)
        check_training(state.equations.data + data)
        data = without_known(data, state.equations.data)
        if len(data) == 0:
            return self
        together = with_stress(state.equations.data + data, stress=self._options.stress)
        equations = Equations(self._fingerprint, together, float(together.energies.mean()), self.radial)
        self._solve(equations, state.settings, state.solution)
        _log.info("surrogate: %d structures added to %d", len(data), len(state.equations.data))
        return self

    def memory_of_fit(self, data: Dataset) -> tuple[float, float]:
        """Return the memory in GiB that a fit to a training set takes at most: on the way, and from then on."""
        kept = self._solver.memory_of(data)
        return fit_memory(data, kept), kept

    def _solve(self, equations: Equations, settings: Settings, before: Solution | None = None) -> None:
        """Find the weights of the training set, or extend those of its first structures."""
        plan = plan_solver(equations.data, self._fingerprint, self._solver)
        _log.info("solver %s: %s", plan.solver, plan.reason)
        extend = None if before is None else partial(extend_solution, before, equations, settings, plan)
        solution, settings = solve_raising_noise(equations, settings, plan, self._fixed, extend)
        self._state = Fit(equations, settings, self._fixed, solution)
        self._calibration = None

    def _select(self, data: Dataset) -> None:
        """Choose the kernel, if that is left to the data."""
        if self._asked != "auto":
            return
        fingerprints = self._options.candidates()
        subset = small_subset(data, self._seed, self._solver.budget)
        self._selection = select_kernel(fingerprints, subset, self.radial, START, self._fixed)
        self.kernel = self._selection.kernel
        self._fingerprint = fingerprints[self.kernel]

    # -------------------------------------------------------------- predict
    @property
    def hyperparameters(self) -> Hyperparameters:
        """Hyperparameters in physical units; known after `fit`."""
        return self._fitted().hyperparameters

    @property
    def selection(self) -> Selection | None:
        """How the kernel was chosen; None if it was given."""
        return self._selection

    @property
    def calibration(self) -> Calibration:
        """Factors on the standard deviations, from structures of the training set left out of it.

        With the covariance matrix each is left out in turn. Conjugate gradients and inducing structures solve once
        more, without a random tenth of the structures (10 to 50); below 20 structures their factors are 1.
        """
        if self._calibration is None:
            self._calibration = calibration_of(self._fitted(), self._seed)
        return self._calibration

    @property
    def stress(self) -> bool:
        """Whether stresses are observed."""
        return self._options.stress

    @property
    def training_set(self) -> Dataset:
        """The structures it is fitted to; not in the order in which they were given."""
        return self._fitted().equations.data

    @property
    def fingerprint(self) -> Fingerprint:
        """The fingerprint in use."""
        return self._fingerprint

    @one_blas_thread()
    def predict(
        self,
        data: Source,
        *,
        std: bool = True,
        forces: bool = True,
        forces_std: bool = False,
        progress: Callable[[int], object] | None = None,
    ) -> Prediction:
        """Predict energies and forces with their standard deviations, calibrated (see `calibration`).

        The atoms kernel predicts stresses too, where forces are predicted.

        Parameters
        ----------
        data : Dataset, or anything that `gprann.read` takes
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
        stresses: list[Array] = []
        force_stds: list[Array] = []
        data = with_stress(structures(data), stress=False)  # labels have no place in predictions
        for begin in range(0, len(data), _BATCH):
            batch = data[begin : begin + _BATCH]
            check_composition(batch, state.equations.data)
            rows = self._fingerprint.rows(batch)
            energy, slopes = state.solution.folded.predict(rows, state.kernel)
            energies.append(energy + state.equations.mean)
            if forces:
                gradients, virials = rows.gradients(slopes)
                force_list += [-gradient for gradient in gradients]
                if virials is not None:
                    stresses += [voigt_stress(*pair) for pair in zip(batch, virials, strict=True)]
            if std:
                stds.append(self._energy_std(rows, state))
            if forces_std:
                factor = self.calibration.force * float(np.sqrt(state.amplitude2))
                relative = forces_std_of(
                    state.solution.posterior, self._fingerprint, batch, rows, state.kernel
                )
                force_stds += [factor * std for std in relative]
            if progress is not None:
                progress(len(batch))
        return Prediction(
            np.concatenate(energies),
            force_list,
            energy_std=np.concatenate(stds) if std else None,
            forces_std=force_stds if forces_std else None,
            stress=np.array(stresses) if stresses else None,
        )

    def _energy_std(self, rows: Rows, state: Fit) -> Array:
        variance = energy_variance(state.solution.posterior, rows.sets(), state.kernel)
        return np.asarray(self.calibration.energy * np.sqrt(state.amplitude2 * np.maximum(variance, 0.0)))

    @one_blas_thread()
    def energy_covariance(self, data: Dataset) -> Array:
        """Return the posterior covariance of the energies of structures.

        cov(E, E') = s_f² [k(E, E') - k_*ᵀ K⁻¹ k_*'], calibrated; its diagonal the square of `Prediction.energy_std`.

        Parameters
        ----------
        data : Dataset
            n structures of the composition of the training set.

        Returns
        -------
        ndarray, shape (n, n), eV²

        Raises
        ------
        DataError
            If a structure has another composition.
        ConfigError
            If the surrogate has not been fitted.

        Examples
        --------
        >>> import gprann
        >>> data = gprann.examples.hydrogen(7)
        >>> gprann.Surrogate(kernel="pairs").fit(data[:3]).energy_covariance(data[3:]).shape
        (4, 4)
        """
        state = self._fitted()
        check_composition(data, state.equations.data)
        if len(data) == 0:
            return np.zeros((0, 0))
        sets = self._fingerprint.rows(data).sets()
        relative = energy_covariance(state.solution.posterior, sets, state.kernel, len(data))
        return np.asarray(self.calibration.energy**2 * state.amplitude2 * relative)

    @one_blas_thread()
    def left_out_std(self, count: int) -> Array:
        """Return how uncertain training structures would be, were they left out of the training set.

        Parameters
        ----------
        count : int
            Of how many structures, spread evenly over the training set; each costs the solution for all its
            observations. Of conjugate gradients the observations of representative structures alone count.

        Returns
        -------
        ndarray, shape (min(count, n),), eV
            Standard deviations of their energies.
        """
        return self.calibration.energy * left_out_std(self._fitted(), count)

    def _fitted(self) -> Fit:
        if self._state is None:
            raise ConfigError("the surrogate has not been fitted: call fit(data) first")
        return self._state

    def __repr__(self) -> str:
        if self._state is None:
            return f"Surrogate(kernel='{self.kernel}', not fitted)"
        data = self._state.equations.data
        return f"Surrogate(kernel='{self.kernel}', {len(data)} structures of {data[0].formula})"

    def to_dict(self) -> dict[str, Any]:
        """Return kernel and hyperparameters as plain data, for provenance."""
        values, state = self.hyperparameters, self._fitted()
        plain = {
            "kernel": self.kernel,
            "radial": self.radial,
            "stress": self.stress,
            "length": values.length,
            "amplitude": values.amplitude,
            "energy_noise": values.energy_noise,
            "force_noise": values.force_noise,
            "calibration": asdict(self.calibration),
            "n_structures": len(state.equations.data),
            **state.solution.facts,
        }
        if isinstance(self._fingerprint, AtomsFingerprint) and self._fingerprint.species_lengths:
            plain["species_lengths"] = self._fingerprint.species_lengths
        return plain | ({} if self._selection is None else {"selection": self._selection.to_dict()})
