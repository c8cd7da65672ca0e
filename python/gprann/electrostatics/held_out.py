"""Errors of structures held out, with a baseline and without it."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from gprann.arrays import Array
from gprann.baselines import Baseline
from gprann.data.structure import Dataset
from gprann.errors import DataError
from gprann.io.reading import Source, structures
from gprann.surrogate import Surrogate
from gprann.surrogate.kernels.atoms import AtomsFingerprint, AtomsKernel
from gprann.units import MEV

_log = logging.getLogger(__name__)
_FOLDS = 5
_WORSE = 1.02  # ratio of errors that is no accident of the choice of structures


@dataclass(frozen=True, slots=True)
class Residuals:
    """Errors of all structures of a set, each predicted from four fifths of the set that it is not in.

    Attributes
    ----------
    energies : ndarray, shape (n,), eV
    forces : list of n ndarrays, eV/Å
    """

    energies: Array
    forces: list[Array]

    @property
    def energy_mae(self) -> float:
        """Mean absolute error of the energies, eV."""
        return float(np.abs(self.energies).mean())

    @property
    def force_mae(self) -> float:
        """Mean absolute error of the force components, eV/Å."""
        return float(np.abs(np.concatenate([f.ravel() for f in self.forces])).mean())


@dataclass(frozen=True, slots=True)
class BaselineCheck:
    """Errors of structures held out of a surrogate, without and with a baseline.

    Attributes
    ----------
    without, with_baseline : tuple of two floats
        Mean absolute errors of energies (eV) and force components (eV/Å).
    """

    without: tuple[float, float]
    with_baseline: tuple[float, float]

    @property
    def warning(self) -> str:
        """Advice to leave the baseline out, where it makes errors larger; else empty."""
        ratios = [b / max(a, 1e-12) for a, b in zip(self.without, self.with_baseline, strict=True)]
        if np.sqrt(ratios[0] * ratios[1]) <= _WORSE:
            return ""
        return (
            f"with the baseline energies of structures held out are {ratios[0]:.2g} times as wrong, forces "
            f"{ratios[1]:.2g} times: leave it out, or fit its charges"
        )

    def __str__(self) -> str:
        (e, f), (eb, fb) = self.without, self.with_baseline
        line = (
            f"held out without the baseline: {e / MEV:.3g} meV, {f / MEV:.3g} meV/Å; "
            f"with it: {eb / MEV:.3g} meV, {fb / MEV:.3g} meV/Å"
        )
        return f"{line}; {self.warning}" if self.warning else line


def check_baseline(data: Source, baseline: Baseline, *, seed: int = 0, **options: Any) -> BaselineCheck:
    """Compare surrogates with and without a baseline by structures held out, fifth by fifth.

    A warning is logged where the baseline does harm: formal charges often do.

    Parameters
    ----------
    data : Dataset, or anything that `gprann.read` takes
        With energies and forces.
    baseline : Baseline
    seed : int
        Of the fifths.
    **options
        Of `Surrogate`.

    Examples
    --------
    >>> import gprann
    >>> data = gprann.examples.hydrogen(12)
    >>> wrong = gprann.Coulomb(charges={"H": 3.0})
    >>> bool(gprann.check_baseline(data, wrong, kernel="pairs").warning)
    True
    """
    data = structures(data)
    found = []
    for labels in (data, baseline.subtract(data)):
        residuals = hold_out(labels, settings_of(labels, options), seed)
        found.append((residuals.energy_mae, residuals.force_mae))
    check = BaselineCheck(*found)
    (_log.warning if check.warning else _log.info)("%s", check)
    return check


def settings_of(data: Dataset, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return options of a surrogate with the hyperparameters and the descriptor that it chooses for a data set."""
    whole = Surrogate(**options).fit(data)
    settings = {**options, **whole.hyperparameters.options()}
    if isinstance(whole.fingerprint, AtomsFingerprint):
        kernel = whole.kernel
        assert isinstance(kernel, AtomsKernel)
        settings["kernel"] = kernel.replace(descriptor=whole.fingerprint.descriptor)
    return settings


def hold_out(data: Dataset, settings: Mapping[str, Any], seed: int) -> Residuals:
    """Return labels less predictions, every fifth of the structures predicted from the others.

    Raises
    ------
    DataError
        If there are too few structures.
    """
    if len(data) < 2 * _FOLDS:
        raise DataError(
            f"{len(data)} structures are too few to hold fifths of them out; give at least {2 * _FOLDS}"
        )
    order = np.random.default_rng(seed).permutation(len(data))
    energies, forces = np.zeros(len(data)), [np.zeros(0)] * len(data)
    for fold in range(_FOLDS):
        held, rest = np.sort(order[fold::_FOLDS]), np.sort(np.delete(order, np.s_[fold::_FOLDS]))
        prediction = Surrogate(**settings).fit(data.select(rest)).predict(data.select(held), std=False)
        for k, energy, force in zip(held.tolist(), prediction.energy, prediction.forces, strict=True):
            energies[k] = float(data[k].energy or 0.0) - energy
            forces[k] = np.asarray(data[k].forces) - force
    return Residuals(energies, forces)
