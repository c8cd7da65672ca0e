"""A surrogate that learns from the reference results of a search."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import ase
import numpy as np

from gprann.arrays import Array
from gprann.data.moving import bare_structure
from gprann.data.structure import Dataset
from gprann.errors import ConfigError, FactorisationError
from gprann.options import Options, PathText, option
from gprann.surrogate import Surrogate
from gprann.surrogate.calculator import SurrogateCalculator
from gprann.surrogate.solvers.calibration import few_structures_expected

_RATTLE = 0.1  # Å
_COPIES = 24
# A handful of structures cannot decide about hyperparameters. These gave the fewest reference calls for hops of
# adatoms and relaxations with EMT; twice or half the length changes them by one or two.
_OPTIONS = {"length": 12.0, "energy_noise": 1e-8, "force_noise": 1e-8}
_LEAST_NOISE, _MOST_NOISE = 1e-4, 1e5  # times those of the options


class SearchOptions(Options):
    """Options that relaxations and searches for paths share."""

    fmax: float = option(
        "Converged when the reference force on every free atom is smaller than this.", 0.05, unit="eV/Å", gt=0
    )
    record: PathText | None = option(
        "Extended XYZ file to which every reference result is appended. The results for the same atoms and cell that "
        "it holds already are used, so that the same call goes on where it was interrupted: give the same calculator.",
        None,
    )
    seed: int = option("Seed of the rattled copies over which descriptors are standardised.", 0, ge=0)


class Learner:
    """A surrogate that learns every reference result that is added.

    Two structures of one mechanism hardly differ, so the scale of their descriptors is no measure of the space
    that the search will see. The descriptors are standardised over rattled copies of the structures from which
    it starts, once and for all.

    Parameters
    ----------
    region : sequence of ase.Atoms
        Structures from which the search starts; no labels are needed.
    seed : int
        Of the rattled copies.
    fmax : float, eV/Å
        Forces that are aimed at.
    options : dict
        Options of `Surrogate` that replace the defaults.
    """

    def __init__(self, region: Sequence[ase.Atoms], seed: int, fmax: float, options: dict[str, Any]) -> None:
        rng = np.random.default_rng(seed)
        structures = [bare_structure(atoms) for atoms in region]
        copies = max(4, _COPIES // len(structures))
        self._region = Dataset(
            item.replace(positions=item.positions + rng.normal(0.0, _RATTLE, item.positions.shape))
            for item in structures
            for _ in range(copies)
        )
        self._options = {**_OPTIONS, "seed": seed, **options}
        self._noise = 1.0  # factor of both noises
        self._largest_noise = 0.1 * fmax
        self.surrogate: Surrogate | None = None
        self._learnt: tuple[Dataset, dict[str, Any]] | None = None  # by the surrogate, with these options
        Surrogate(**self._options)  # refuses impossible options before the first reference call

    def learn(self, results: Dataset) -> None:
        """Fit the surrogate to all reference results, or extend it by those that are new.

        Noises are relative to the amplitude, which a single result of high energy can raise a hundredfold: they
        are lowered until the noise of the forces is small beside the forces that are aimed at, and raised where
        double precision needs it.

        Raises
        ------
        FactorisationError
            If no noise makes the covariance matrix positive definite.
        """
        raised = False
        while True:
            try:
                self.surrogate = self._fit(results, self._options_with_noise())
            except FactorisationError:
                if self._noise >= _MOST_NOISE:
                    raise
                self._noise *= 10.0
                raised = True
                continue
            too_much = self.surrogate.hyperparameters.force_noise > self._largest_noise
            if not too_much or raised or self._noise <= _LEAST_NOISE:
                return
            self._noise /= 10.0

    def _fit(self, results: Dataset, options: dict[str, Any]) -> Surrogate:
        """Return a surrogate fitted to all results. No other function of a search fits.

        The surrogate of the last call is extended if its options are the same and its results are the first ones.
        """
        learnt, self._learnt = self._learnt, None
        if self.surrogate is not None and learnt is not None and all(options[name] for name in _OPTIONS):
            known, before = learnt
            first = results[: len(known)]
            same = len(first) == len(known) and all(a is b for a, b in zip(first, known, strict=True))
            if same and options == before:
                surrogate = self.surrogate.extend(results[len(known) :])
                self._learnt = results, options
                return surrogate
        surrogate = Surrogate(**options).fit(results, standardise_over=self._region)
        self._learnt = results, options
        return surrogate

    def _options_with_noise(self) -> dict[str, Any]:
        """Return the options with the current noises; a noise that is None is left to the surrogate."""
        names = ("energy_noise", "force_noise")
        noises = {name: self._noise * self._options[name] for name in names if self._options[name]}
        return {**self._options, **noises}

    @property
    def _current(self) -> Surrogate:
        if self.surrogate is None:
            raise ConfigError("nothing has been learnt yet: call learn(results) first")
        return self.surrogate

    def attach(self, atoms: ase.Atoms) -> None:
        """Give atoms a calculator of the current surrogate."""
        atoms.calc = SurrogateCalculator(self._current)

    def std(self, images: Sequence[ase.Atoms]) -> Array:
        """Return the standard deviations of the energies, eV, one per structure."""
        data = Dataset([bare_structure(atoms) for atoms in images])
        with few_structures_expected():
            return self._current.predict(data, forces=False).required_energy_std
