"""The surrogate: Gaussian-process regression of energies and forces of one homogeneous subset.

Yeu et al., npj Comput. Mater. 11, 156 (2025), with an invariant kernel summed over atoms as the default.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from gprann import _core
from gprann.descriptors import ChebyshevDescriptor
from gprann.errors import ConfigError, DataError, FactorisationError, nearest_name
from gprann.parallel import n_threads, one_blas_thread, scipy_blas
from gprann.prediction import Prediction
from gprann.structure import Dataset, Structure
from gprann.surrogate.calibration import Calibration, calibrate
from gprann.surrogate.choice import SMALL_ROWS, START, Choice, Method, structures_for
from gprann.surrogate.directions import internal_directions
from gprann.surrogate.fingerprints import AtomsFingerprint, Fingerprint, Rows
from gprann.surrogate.folded import FoldedTraining
from gprann.surrogate.gaussian_process import Factor, Problem, Radial, factorise
from gprann.surrogate.hyperparameters import Settings, gradient_scale, leave_one_out, left_out_variance
from gprann.surrogate.kernels import FINGERPRINTS, KernelName, KernelOptions
from gprann.surrogate.observations import build_problem, check_training
from gprann.surrogate.relevance import weigh_components
from gprann.surrogate.search import Fixed, describe, with_fixed
from gprann.surrogate.selection import Selection, select_kernel
from gprann.surrogate.soap import SoapOptions

__all__ = ["Hyperparameters", "Surrogate", "memory_needed"]

Array = NDArray[np.float64]
_log = logging.getLogger(__name__)
_BATCH = 512  # structures predicted at a time
_CALIBRATION_ROWS = 5500  # of structures left out one by one to calibrate the standard deviations


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
    kernel : {'atoms', 'pairs', 'cartesian', 'soap', 'auto'}
        `atoms` sums over the Chebyshev environments of the atoms: invariant, periodic, by far the most
        accurate. `pairs` uses inverse distances in a fixed order of atoms; `cartesian` the coordinates, as in
        the paper; `soap` SOAP vectors of whole structures (needs dscribe). `auto` takes the one of the first
        three that best predicts structures of a random subset, left out one by one (see `selection`).
    radial : {'squared_exponential', 'matern52'}
        How the covariance falls with the distance of two fingerprints: smoothly to any order, or with the
        Matérn kernel of order 5/2, for energy surfaces that are rougher.
    length : float, optional
        Kernel length in units of the fingerprint's spread. Default: from the training set.
    energy_noise, force_noise : float, optional
        Noise variances relative to the mean diagonal of the gradient covariances. Default: from the training
        set.
    hyperparameters : {'held_out', 'likelihood', 'leave_one_out', 'grid'}
        How those that are not given are found, inside the training set. `held_out`: from the likelihood on a
        small random subset on to the smallest errors of structures that are left out, one by one in small
        sets, by halves and fifths in larger ones. The others look at random subsets alone: the maximum of the
        `likelihood`, the smallest errors of structures left out one by one near it (`leave_one_out`), or
        among all points of a `grid` of lengths and noises.
    descriptor : ChebyshevDescriptor, optional
        Descriptor of the atoms kernel.
    species_lengths : mapping of str to float, optional
        Factors on the length of the atoms kernel for some species, as {"H": 0.7}.
    relevance : bool
        Whether components of the descriptor on which the energy hardly depends get longer lengths.
    soap : SoapOptions or mapping, optional
        Settings of the kernel `soap` (see `SoapOptions`), as {"r_cut": 5.0, "centers": [0, 4]}.
    exponent, cutoff : float, optional
        Of the pairs kernel: inverse power (1) and, in periodic structures, cutoff in Å (7).
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
        descriptor: ChebyshevDescriptor | None = None,
        exponent: float = 1.0,
        cutoff: float = 7.0,
        species_lengths: Mapping[str, float] | None = None,
        relevance: bool = False,
        soap: SoapOptions | Mapping[str, Any] | None = None,
        seed: int = 0,
    ) -> None:
        for name, value in (("length", length), ("energy_noise", energy_noise), ("force_noise", force_noise)):
            if value is not None and not (np.isfinite(value) and value > 0):
                raise ConfigError(f"{name} = {value}: expected a positive number")
        if radial not in get_args(Radial):
            raise ConfigError(f"radial = '{radial}': {nearest_name(radial, get_args(Radial))}")
        self.kernel: str = kernel
        self.radial = radial
        self._fixed: Fixed = (length, energy_noise, force_noise)
        self._options = KernelOptions(descriptor, exponent, cutoff, species_lengths, relevance, soap)
        self._options.check(kernel)
        self._asked: KernelName = kernel
        self._selection: Selection | None = None
        self._fingerprint = self._options.fingerprint("atoms" if kernel == "auto" else kernel)
        if hyperparameters not in get_args(Method):
            hint = nearest_name(hyperparameters, get_args(Method))
            raise ConfigError(f"hyperparameters = '{hyperparameters}': {hint}")
        self._method: Method = hyperparameters
        self._seed = seed
        self._state: _State | None = None
        self._calibration: Calibration | None = None

    # ------------------------------------------------------------------ fit
    @one_blas_thread()  # numpy's products too: the same bits for any number of BLAS threads
    def fit(self, data: Dataset, *, standardise_over: Dataset | None = None) -> Surrogate:
        """Fit energies and forces of a homogeneous training set; hyperparameters come from this set alone.

        Parameters
        ----------
        data : Dataset
            Structures of one composition with energies and forces.
        standardise_over : Dataset, optional
            Structures, with or without labels, that fix mean, scale and spread of the fingerprint. Default:
            `data`; a few structures, which hardly differ, are too few for that.

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
        check_training(data)
        self._state = None  # of an earlier fit, to which the fingerprint would no longer belong
        self._calibration = None
        self._select(data)
        self._fingerprint.fit(data if standardise_over is None else standardise_over)
        mean = float(data.energies.mean())
        choice = Choice(self._fingerprint, self.radial, self._fixed, self._method, self._seed)
        if self._options.relevance and isinstance(self._fingerprint, AtomsFingerprint):
            weigh_components(self._fingerprint, self._subset(data), choice)
        settings = choice.choose(data, mean)
        data = self._calibration_last(data)
        problem, rows, jacobians = self._problem(data, mean)
        factor, settings, noise = self._factorise(problem, settings)
        alpha = factor.solve(problem.values)
        amplitude2 = float(problem.values @ alpha) / len(alpha)
        if not amplitude2 > 0:  # all energies and forces are equal: any amplitude fits
            amplitude2 = 1e-12
        self._state = _State(
            kernel=problem.kernel(settings.length * self._fingerprint.spread),
            folded=FoldedTraining(rows, jacobians, alpha, problem.first),
            problem=problem,
            factor=factor,
            mean=mean,
            amplitude2=amplitude2,
            settings=settings,
            noise=noise * amplitude2,
            data=data,
        )
        _log.info("surrogate of %d structures of %s: %s", len(data), data[0].formula, self.hyperparameters)
        return self

    def _select(self, data: Dataset) -> None:
        """Choose the kernel, if that is left to the data."""
        if self._asked != "auto":
            return
        fingerprints = {name: self._options.fingerprint(name) for name in FINGERPRINTS}
        self._selection = select_kernel(fingerprints, self._subset(data), self.radial, START)
        self.kernel = self._selection.kernel
        self._fingerprint = fingerprints[self.kernel]

    def _subset(self, data: Dataset) -> Dataset:
        order = np.random.default_rng([self._seed, 2]).permutation(len(data))
        return data.select(order[: structures_for(data, SMALL_ROWS)])

    def _calibration_last(self, data: Dataset) -> Dataset:
        """Put the structures to calibrate with last: leaving them out then costs a corner of L alone."""
        if structures_for(data, _CALIBRATION_ROWS) == len(data):
            return data
        return data.select(np.random.default_rng([self._seed, 1]).permutation(len(data)))

    def _problem(self, data: Dataset, mean: float) -> tuple[Problem, Rows, list[Array]]:
        return build_problem(self._fingerprint, data, mean, self.radial)

    def _factorise(self, problem: Problem, settings: Settings) -> tuple[Factor, Settings, Array]:
        """Factorise the full matrix; noises found on a subset are raised where double precision needs it."""
        while True:
            K = problem.covariance(settings.length * self._fingerprint.spread)
            scale = gradient_scale(problem, K)
            noise = scale * np.array([settings.energy_noise, settings.force_noise])
            try:
                return factorise(K, problem.noise(*noise)), settings, noise
            except FactorisationError:
                free = settings.force_noise if self._fixed[2] is None else settings.energy_noise
                if (self._fixed[1] and self._fixed[2]) or free > 1e-3:
                    raise
                del K
                raised = Settings(settings.length, 10 * settings.energy_noise, 10 * settings.force_noise)
                settings = with_fixed(raised, self._fixed)
                _log.warning(
                    "the covariance matrix is singular in double precision; now %s", describe(settings)
                )

    # -------------------------------------------------------------- predict
    @property
    def hyperparameters(self) -> Hyperparameters:
        """Hyperparameters in physical units; known after `fit`."""
        state = self._fitted()
        energy, force = np.sqrt(state.noise)
        return Hyperparameters(
            state.settings.length, float(np.sqrt(state.amplitude2)), float(energy), float(force)
        )

    @property
    def selection(self) -> Selection | None:
        """How the kernel was chosen; None if it was given."""
        return self._selection

    @property
    def calibration(self) -> Calibration:
        """Factors on the standard deviations, from structures of the training set left out in turn."""
        if self._calibration is None:
            state = self._fitted()
            n_last = structures_for(state.data, _CALIBRATION_ROWS)
            alpha = state.factor.solve(state.problem.values)
            noise = state.problem.noise(*(state.noise / state.amplitude2))
            with one_blas_thread():
                errors = leave_one_out(state.problem, state.factor, alpha, noise, n_last)
                self._calibration = calibrate(errors, state.data[-n_last:], self._fingerprint.invariant)
        return self._calibration

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
        """Predict energies and forces with their standard deviations, calibrated (see `calibration`).

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
            energy, slopes = state.folded.predict(rows, state.kernel)
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
        sets = rows.sets()
        cross = np.zeros((len(rows.kind_rows), len(state.problem.values)))
        with one_blas_thread():
            _core.energy_covariance(sets, state.problem.sets, state.kernel, scipy_blas(), n_threads(), cross)
        state.factor.half_solve(cross)
        # Pairwise sums: what they leave of the prior's variance is too little for the rounding of plain ones.
        explained = np.square(cross, out=cross).sum(axis=1)
        variance = _core.energy_variance(sets, state.kernel) - explained
        std: Array = self.calibration.energy * np.sqrt(state.amplitude2 * np.maximum(variance, 0.0))
        return std

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
        for structure in data:
            _require_composition(structure, state)
        if len(data) == 0:
            return np.zeros((0, 0))
        sets = self._fingerprint.rows(data).sets()
        prior = np.zeros((len(data), len(data)))
        cross = np.zeros((len(data), len(state.problem.values)))
        for other, target in ((sets, prior), (state.problem.sets, cross)):
            _core.energy_covariance(sets, other, state.kernel, scipy_blas(), n_threads(), target)
        state.factor.half_solve(cross)
        covariance: Array = self.calibration.energy**2 * state.amplitude2 * (prior - cross @ cross.T)
        return covariance

    def _forces_std(self, data: Dataset, rows: Rows, state: _State) -> list[Array]:
        """Return sqrt(diag(B V Bᵀ)): V of the gradients along the internal directions B of each structure."""
        jacobians = self._fingerprint.jacobians(data)
        result = []
        for index, structure in enumerate(data):
            begin, end = rows.kind_rows[index, 0], rows.kind_rows[index, -1]
            own = Rows(rows.kind_rows[index : index + 1] - begin, rows.features[begin:end], rows.gradients)
            sets = own.sets([jacobians[index]])
            prior = np.zeros((sets.observations, sets.observations))
            cross = np.zeros((sets.observations, len(state.problem.values)))
            with one_blas_thread():
                for other, target in ((sets, prior), (state.problem.sets, cross)):
                    _core.covariance(sets, other, state.kernel, scipy_blas(), False, n_threads(), target)
            state.factor.half_solve(cross)
            variance = (prior - cross @ cross.T)[1:, 1:]
            directions = internal_directions(structure, self._fingerprint.invariant)
            diagonal = np.einsum("kd,de,ke->k", directions, variance, directions)
            std = np.sqrt(state.amplitude2 * np.maximum(diagonal, 0.0))
            result.append(self.calibration.force * std.reshape(-1, 3))
        return result

    @one_blas_thread()
    def left_out_std(self, count: int) -> Array:
        """Return how uncertain training structures would be, were they left out of the training set.

        Parameters
        ----------
        count : int
            Of how many structures, spread evenly over the training set; each costs the solution for all its
            observations.

        Returns
        -------
        ndarray, shape (min(count, n),), eV
            Standard deviations of their energies.
        """
        state = self._fitted()
        n = len(state.problem.first) - 1
        chosen = np.unique(np.linspace(0, n - 1, min(count, n)).round().astype(np.int64))
        variance = state.amplitude2 * np.array(left_out_variance(state.problem, state.factor, chosen))
        return np.asarray(self.calibration.energy * np.sqrt(np.maximum(variance - state.noise[0], 0.0)))

    def _fitted(self) -> _State:
        if self._state is None:
            raise ConfigError("the surrogate has not been fitted: call fit(data) first")
        return self._state

    def to_dict(self) -> dict[str, Any]:
        """Return kernel and hyperparameters as plain data, for provenance."""
        values = self.hyperparameters
        return {
            "kernel": self.kernel,
            "radial": self.radial,
            "length": values.length,
            "amplitude": values.amplitude,
            "energy_noise": values.energy_noise,
            "force_noise": values.force_noise,
            "calibration": asdict(self.calibration),
            "n_structures": len(self._fitted().problem.first) - 1,
        } | ({} if self._selection is None else {"selection": self._selection.to_dict()})


@dataclass(frozen=True, slots=True)
class _State:
    """All that `fit` leaves behind."""

    kernel: _core.RadialKernel
    folded: FoldedTraining
    problem: Problem
    factor: Factor
    mean: float
    amplitude2: float
    settings: Settings
    noise: Array
    data: Dataset

    @property
    def composition(self) -> tuple[tuple[str, int], ...]:
        return self.data[0].composition


def memory_needed(data: Dataset) -> float:
    """Return the memory in GiB that a fit to `data` takes: one covariance matrix and the Jacobians.

    Examples
    --------
    >>> import gprann
    >>> round(memory_needed(gprann.examples.hydrogen(7)), 3)
    0.0
    """
    rows = sum(3 * len(structure) + 1 for structure in data)
    return (8.0 * rows**2 + sum(8.0 * 36 * 3 * len(structure) ** 2 for structure in data)) / 2**30


def _batches(data: Dataset) -> Iterator[Dataset]:
    for begin in range(0, len(data), _BATCH):
        yield data[begin : begin + _BATCH]


def _require_composition(structure: Structure, state: _State) -> None:
    if structure.composition != state.composition:
        formula = "".join(f"{symbol}{count if count > 1 else ''}" for symbol, count in state.composition)
        raise DataError(
            f"{structure.origin}: composition {structure.formula} is not that of the surrogate's "
            f"training set, {formula}"
        )
