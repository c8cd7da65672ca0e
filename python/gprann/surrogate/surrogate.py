"""The surrogate: Gaussian-process regression of energies and forces."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from typing import Any

import numpy as np

from gprann.arrays import Array
from gprann.baselines import Baseline, BaselineLike, as_baseline, terms_of
from gprann.data.prediction import Prediction
from gprann.data.structure import Dataset
from gprann.errors import ConfigError, check_whole
from gprann.io.reading import Source, structures
from gprann.runtime.resources import memory_budget, one_blas_thread
from gprann.signatures import takes
from gprann.surrogate import saving
from gprann.surrogate.compositions import calibrate_new_compositions, factors_of, subtract_mean
from gprann.surrogate.hyperparameters.criteria import Hyperparameters, Trial
from gprann.surrogate.hyperparameters.kernel_selection import KernelSelection, select_kernel
from gprann.surrogate.hyperparameters.length_scales import fit_length_scales
from gprann.surrogate.kernels.base import Fingerprint, Kernel, Rows
from gprann.surrogate.memory import fit_memory, random_subset
from gprann.surrogate.observations import (
    add_rattled_copies,
    check_known,
    check_training,
    describe_formulas,
    leave_out_known,
    with_stress,
)
from gprann.surrogate.options import SurrogateOptions
from gprann.surrogate.prediction import Query, choose_bound, exerts_forces, predict_corrections
from gprann.surrogate.solvers.base import Equations, Fit, solve_raising_noise
from gprann.surrogate.solvers.calibration import (
    Calibration,
    calibration_of,
    left_out_std,
    put_calibration_last,
)
from gprann.surrogate.solvers.descriptor_choice import choose_descriptor
from gprann.surrogate.solvers.posterior import energy_covariance

_log = logging.getLogger(__name__)
_CHOICES = ("options", "seed", "species", "kernel", "selection", "baseline", "given_baseline")
_STATE = (*_CHOICES, "training_set", "calibration", "new_calibration")
"""Attributes that, with the fit, make a surrogate again."""


class Surrogate:
    """Gaussian-process surrogate for energies and forces.

    A training set of one composition is fitted about its mean energy, one of several about reference energies of the
    elements; only the kernel `atoms` takes the latter.

    Yeu et al., npj Comput. Mater. 11, 156 (2025). `fit` finds its hyperparameters inside the training set, `predict`
    gives energies and forces with their standard deviations, `extend` adds structures, `save` and `load` keep it.
    """

    @takes(SurrogateOptions)
    def __init__(
        self,
        kernel: str | Kernel = "atoms",
        *,
        baseline: BaselineLike = None,
        seed: int = 0,
        **options: Any,
    ) -> None:
        """Make a surrogate that is to be fitted.

        Parameters
        ----------
        kernel : str or Kernel
            By name, `atoms`, `pairs`, `cartesian`, `soap` or `auto`, or with options, as `PairsKernel(exponent=2)`.
        baseline : Baseline, its name, or a list of these, optional
            A known part of the energy: subtracted from the labels, and added to predictions.
        seed : int
            Seed of the random subsets on which hyperparameters are optimised.
        **options
            Options of the surrogate, of the kernel and of the solver.

        Raises
        ------
        ConfigError
            If an option is misspelt or impossible.

        Examples
        --------
        >>> import gprann
        >>> data = gprann.examples.hydrogen(7)
        >>> surrogate = gprann.Surrogate(kernel="pairs", exponent=2).fit(data)
        >>> bool(abs(surrogate.predict(data).energy - data.energies).max() < 0.05)
        True
        """
        check_whole(0, seed=seed)
        self._options = SurrogateOptions(**{"kernel": kernel, **options})
        self._baseline = self._given_baseline = as_baseline(baseline)
        self._seed = seed
        self._kernel = self._options.kernel
        self._species: tuple[str, ...] = ()
        self._fingerprint = self._new_fingerprint(self._kernel)
        self._selection: KernelSelection | None = None
        self._fit: Fit | None = None
        self._training_set = Dataset([])
        self._calibration: Calibration | None = None
        self._new_calibration: Calibration | None = None  # for compositions that it lacks

    def prepare(self, species: Sequence[str]) -> None:
        """Prepare for the fit to one of several training sets with these species."""
        self._species = tuple(species)
        self._fingerprint = self._new_fingerprint(self._options.kernel)

    def _new_fingerprint(self, kernel: Kernel) -> Fingerprint:
        fingerprint = kernel.fingerprint()
        if self._species:
            fingerprint.expect(self._species)
        return fingerprint

    @one_blas_thread()  # numpy's products too: the same bits for any number of BLAS threads
    def fit(self, data: Source, *, standardise_over: Dataset | None = None) -> Surrogate:
        """Fit energies and forces of a training set; hyperparameters come from this set alone.

        Parameters
        ----------
        data : Dataset, or anything that `gprann.read` takes
            With energies and forces, and stresses if these are to be observed.
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
            If the set is empty, lacks forces, or mixes compositions that the kernel cannot compare, or if stresses
            are to be observed and there are none.
        FactorisationError
            If the covariance matrix is singular for the given hyperparameters.
        """
        data = structures(data)
        check_training(data, one_composition=not self._options.kernel.any_composition)
        data = with_stress(data, stress=self._options.stress)
        self._fit = self._calibration = self._new_calibration = None  # of an earlier fingerprint
        self._baseline, labels = subtract_mean(self._given_baseline.fit(data, data.species), data)
        subset = random_subset(labels, self._seed, self._budget)
        candidates = self._options.kernel.candidates()
        if len(candidates) > 1:
            fingerprints = {name: self._new_fingerprint(item) for name, item in candidates.items()}
            self._selection = select_kernel(fingerprints, subset, self._options.fixed)
            self._kernel = candidates[self._selection.kernel]
            self._fingerprint = fingerprints[self._selection.kernel]
        if standardise_over is None:  # else features are to stay as they are while the training set grows
            solver, fixed = self._options.solver, self._options.fixed
            choose_descriptor(self._fingerprint, labels, subset, solver, fixed=fixed, memory=self._budget)
        self._fingerprint.fit(standardise_over or add_rattled_copies(labels, self._seed))
        search = fit_length_scales(self._options.search(self._fingerprint, self._seed, self._budget), subset)
        mean = float(labels.energies.mean())
        plan = self._options.solver.plan(labels, self._fingerprint, self._budget)
        settings = plan.solver.find(Equations(self._fingerprint, labels, mean), search)
        self._training_set = put_calibration_last(data, self._seed)
        labels = put_calibration_last(labels, self._seed)
        self._solve(Equations(self._fingerprint, labels, mean), settings)
        _log.info(
            "surrogate of %d structures of %s: %s", len(data), describe_formulas(data), self.hyperparameters
        )
        return self

    @one_blas_thread()
    def extend(self, data: Source) -> Surrogate:
        """Add structures to the training set, hyperparameters and the scaling of the features kept.

        The Cholesky factor is extended by the new rows, with both matrices in memory; other solvers solve anew.
        Calibration is found again: above about 5500 observations from the structures added last.

        Parameters
        ----------
        data : Dataset, or anything that `gprann.read` takes
            With energies and forces, of a known composition. Geometries that are there already are left out, with a
            warning in the log that names them.

        Returns
        -------
        Surrogate
            Itself; unchanged if an error is raised.

        Raises
        ------
        DataError
            If structures lack forces, or are of a composition of which the training set cannot tell the energy.
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
        before = self._require_fit()
        data = structures(data)
        check_training(before.equations.data + data)
        check_known(data, before.equations.data)
        data = leave_out_known(data, before.equations.data)
        if len(data) == 0:
            return self
        extended = with_stress(self._training_set + data, stress=self._options.stress)
        labels = before.equations.data + self._baseline.subtract(extended[len(self._training_set) :])
        equations = Equations(self._fingerprint, labels, float(labels.energies.mean()))
        self._solve(equations, before.settings, before)
        self._training_set = extended
        _log.info("surrogate: %d structures added to %d", len(data), len(before.equations.data))
        return self

    def memory_of_fit(self, data: Dataset) -> tuple[float, float]:
        """Return the memory in GiB that a fit to a training set takes at most: on the way, and from then on."""
        kept = self._options.solver.memory_at_most(data, self._budget)
        return fit_memory(data, kept), kept

    @property
    def _budget(self) -> float:
        return memory_budget(self._options.memory)

    def _solve(self, equations: Equations, settings: Trial, before: Fit | None = None) -> None:
        """Find the weights of the training set, or extend those of its first structures."""
        fixed = self._options.fixed
        plan = self._options.solver.plan(equations.data, self._fingerprint, self._budget)
        _log.info("solver %s: %s", plan.solver.name, plan.reason)
        extend = None if before is None else partial(plan.solver.extend, before, equations, settings)
        solve = partial(plan.solver.solve, equations)
        solution, settings = solve_raising_noise(solve, settings, fixed, extend)
        self._fit = Fit(equations, settings, fixed, plan, solution)
        self._calibration = self._new_calibration = None

    @property
    def hyperparameters(self) -> Hyperparameters:
        """Hyperparameters in physical units; known after `fit`."""
        return self._require_fit().hyperparameters

    @property
    def kernel(self) -> Kernel:
        """The kernel, with its options: the one chosen, if that was left to the data."""
        return self._kernel

    @property
    def baseline(self) -> Baseline:
        """The part of the energy that is known beforehand; zero by default."""
        return self._baseline

    @property
    def bound(self) -> float | None:
        """Standard deviation (eV) at which half of the correction is left; None if it is not weighed."""
        given = self._options.bound
        if isinstance(given, float):
            return given
        fit = self._require_fit()
        if given == "off" or (given is None and not exerts_forces(self._training_set, fit.equations.data)):
            return None
        if fit.bound is None:
            scale = fit.amplitude2 * self.calibration.energy**2
            fit.bound = choose_bound(fit, self.calibration.energy_error, scale)
        return fit.bound

    @property
    def selection(self) -> KernelSelection | None:
        """How the kernel was chosen; None if it was given."""
        return self._selection

    @property
    def calibration(self) -> Calibration:
        """Factors on the standard deviations, from structures of the training set held out of it.

        With the covariance matrix each is held out in turn, else a random tenth (10 to 50) together; 1 below 20 then.
        """
        self._calibration = self._calibration or calibration_of(self._require_fit(), self._seed)
        return self._calibration

    @property
    def calibration_of_new(self) -> Calibration:
        """Factors for compositions that the training set lacks, from compositions left out of it."""
        if self._new_calibration is None:
            self._new_calibration = calibrate_new_compositions(self._require_fit(), self.calibration)
        return self._new_calibration

    def _factors(self, data: Dataset) -> tuple[Array, Array]:
        return factors_of(data, self._training_set, self.calibration, lambda: self.calibration_of_new)

    @property
    def stress(self) -> bool:
        """Whether stresses are observed."""
        return self._options.stress

    @property
    def training_set(self) -> Dataset:
        """The structures it is fitted to; not in the order in which they were given."""
        self._require_fit()
        return self._training_set

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
            Structures of the composition of the training set, or if it has several, of its elements.
        std : bool
            Whether to predict standard deviations of energies; costs far more than the means.
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
            If the training set cannot tell the energy of a structure.
        ConfigError
            If the surrogate has not been fitted.
        """
        state = self._require_fit()
        data = with_stress(structures(data), stress=False)  # labels have no place in predictions
        check_known(data, state.equations.data)
        prediction = predict_corrections(
            Query(state, self._fingerprint, self._factors, self.bound),
            data,
            std=std,
            forces=forces,
            forces_std=forces_std,
            progress=progress,
        )
        return self._baseline.add(data, prediction) if terms_of(self._baseline) else prediction

    @one_blas_thread()
    def energy_covariance(self, data: Dataset) -> Array:
        """Return the posterior covariance of the energies of n structures, shape (n, n), eV².

        cov(E, E') = s_f² [k(E, E') - k_*ᵀ K⁻¹ k_*'], calibrated; its diagonal the square of `Prediction.energy_std`.

        Examples
        --------
        >>> import gprann
        >>> data = gprann.examples.hydrogen(7)
        >>> gprann.Surrogate(kernel="pairs").fit(data[:3]).energy_covariance(data[3:]).shape
        (4, 4)
        """
        check_known(data, (state := self._require_fit()).equations.data)
        if len(data) == 0:
            return np.zeros((0, 0))
        sets = self._fingerprint.rows(data).sets()
        relative = energy_covariance(state.posterior, sets, state.kernel, len(data))
        factors = self._factors(data)[0]
        return np.asarray(np.outer(factors, factors) * state.amplitude2 * relative)

    def feature_slopes(self, rows: Rows) -> Array:
        """Return the derivatives of the energy with respect to rows of features, (rows, D)."""
        state = self._require_fit()
        return state.solution.mean.predict(rows, state.kernel)[1]

    @one_blas_thread()
    def left_out_std(self, count: int) -> Array:
        """Return the standard deviations (eV) of the energies of `count` training structures, were they held out.

        They are spread evenly over the set; each costs a solution (conjugate gradients: for representatives alone).
        """
        return self.calibration.energy * left_out_std(self._require_fit(), count)

    def _require_fit(self) -> Fit:
        if self._fit is None:
            raise ConfigError("the surrogate has not been fitted: call fit(data) first")
        return self._fit

    def __repr__(self) -> str:
        kernel, data = self.kernel.name or type(self.kernel).__name__, self._training_set
        fitted = "not fitted" if self._fit is None else f"{len(data)} structures of {describe_formulas(data)}"
        return f"Surrogate(kernel='{kernel}', {fitted})"

    def to_dict(self) -> dict[str, Any]:
        """Return kernel and hyperparameters as plain data, for provenance."""
        values, fit = self.hyperparameters, self._require_fit()
        plain = {
            "kernel": self.kernel.name,
            "radial": self.kernel.radial,
            "stress": self.stress,
            "length": values.length,
            "amplitude": values.amplitude,
            "energy_noise": values.energy_noise,
            "force_noise": values.force_noise,
            "calibration": asdict(self.calibration),
            "n_structures": len(fit.equations.data),
            **fit.facts,
            **self._fingerprint.facts(),
        }
        return plain | ({} if self._selection is None else {"selection": self._selection.to_dict()})

    def save(self, path: str | os.PathLike[str], *, factor: bool = False) -> None:
        """Write the fitted surrogate to one portable file: plain numbers and text with checksums, no code.

        Parameters
        ----------
        path : path
            As `surrogate.gprann`.
        factor : bool
            Whether to write the factorised matrix too, 8 bytes times the square of the observations: 1.8 GB for
            250 EC dimers. Without it the matrix is factorised again when a standard deviation is asked for first.

        Raises
        ------
        ConfigError
            If the surrogate has not been fitted, or its kernel, solver or baseline is not registered.
        """
        saving.write_plain(path, "surrogate", self.to_plain(factor=factor))

    @classmethod
    def load(cls, path: str | os.PathLike[str], *, baseline: BaselineLike = None) -> Surrogate:
        """Read a surrogate that `save` has written, see `gprann.load`; it predicts and is extended as it was before.

        Raises
        ------
        FormatError
            If the file is missing, damaged, or holds something else.
        ConfigError
            If it needs a kernel, solver or baseline that is not registered here.

        Examples
        --------
        >>> import gprann, pathlib, tempfile
        >>> data = gprann.examples.hydrogen(7)
        >>> surrogate = gprann.Surrogate(kernel="pairs").fit(data)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     surrogate.save(pathlib.Path(folder) / "surrogate.gprann")
        ...     again = gprann.Surrogate.load(pathlib.Path(folder) / "surrogate.gprann")
        >>> bool((again.predict(data).energy_std == surrogate.predict(data).energy_std).all())
        True
        """
        with saving.reading_plain(path, "surrogate") as plain:
            return cls.from_plain(plain, baseline)

    def to_plain(self, *, factor: bool = False) -> dict[str, Any]:
        """Return options, training set and weights as plain data and arrays; see `save`."""
        self._require_fit()
        return {**saving.plain_state(self._state(factor=factor)), "options": self._options.to_dict()}

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any], baseline: BaselineLike = None) -> Surrogate:
        """Make the surrogate that `to_plain` described, with the calculators that `baseline` hands over."""
        surrogate = cls.__new__(cls)
        options = SurrogateOptions.from_dict(plain["options"])
        surrogate.__setstate__({**saving.state_of_plain(plain, baseline), "options": options})
        return surrogate

    def _state(self, *, factor: bool = False) -> dict[str, Any]:
        return {
            **{name: vars(self)[f"_{name}"] for name in _STATE},
            "fit": saving.fit_state(self._fit, factor=factor),
        }

    def __getstate__(self) -> dict[str, Any]:
        return self._state()

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        vars(self).update((f"_{name}", state[name]) for name in _STATE)
        self._fingerprint = self._new_fingerprint(self._kernel)
        labels, fit = self._baseline.subtract(self._training_set), state["fit"]
        self._fit = None if fit is None else saving.restore_fit(fit, self._fingerprint, labels)
