"""Relaxation with few reference calls.

As GPMin (Garijo del Río, Mortensen and Jacobsen, Phys. Rev. B 100, 104103 (2019)): relax on the surrogate as far
as it can be trusted, compute the reference there, learn, and start again from the lowest energy found.
"""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from typing import Any, Literal

import ase
import numpy as np
from ase.calculators.calculator import BaseCalculator
from ase.optimize import BFGS, FIRE

from gprann.active.learner import Learner
from gprann.active.reference import Reference, check_atoms, energy_of, largest_force, with_labels
from gprann.data.structure import Dataset
from gprann.errors import ConfigError, check_positive, nearest_name
from gprann.surrogate import Surrogate
from gprann.surrogate.sets.surrogate_set import check_surrogate_options

__all__ = ["OPTIMIZERS", "Relaxation", "relax"]

_log = logging.getLogger(__name__)
OPTIMIZERS: dict[str, Any] = {"bfgs": BFGS, "fire": FIRE}
_STEPS = 200  # on the surrogate, between two reference calls
_INNER = 0.5  # forces on the surrogate, relative to fmax, at which its relaxation ends


@dataclass(frozen=True, slots=True)
class Relaxation:
    """Result of a relaxation.

    Attributes
    ----------
    atoms : ase.Atoms
        The structure of lowest energy (once converged: the relaxed one) with its reference energy and forces.
    energy : float, eV
    calls : int
        Reference calls made.
    converged : bool
        Whether the reference forces are below `fmax`.
    reference : Dataset
        All reference results, those read from the record included.
    surrogate : Surrogate or None
        As fitted last; None if the start was relaxed already.
    """

    atoms: ase.Atoms
    energy: float
    calls: int
    converged: bool
    reference: Dataset
    surrogate: Surrogate | None


def relax(
    atoms: ase.Atoms,
    calculator: BaseCalculator,
    *,
    fmax: float = 0.05,
    threshold: float = 0.05,
    max_calls: int = 100,
    optimizer: Literal["bfgs", "fire"] = "bfgs",
    record: str | os.PathLike[str] | None = None,
    seed: int = 0,
    **surrogate_options: Any,
) -> Relaxation:
    """Relax positions with few calls of a reference calculator.

    Parameters
    ----------
    atoms : ase.Atoms
        Start, with any constraints of ASE on positions; it is not changed.
    calculator : ASE calculator
        The reference, with energies and forces.
    fmax : float, eV/Å
        Largest norm of the reference force on a free atom at the end.
    threshold : float, eV
        Predicted standard deviation of the energy, of the structure and not per atom, at which the relaxation on
        the surrogate stops, to compute the reference there.
    max_calls : int
        Reference calls that are allowed.
    optimizer : {'bfgs', 'fire'}
        ASE's optimiser on the surrogate.
    record : path, optional
        Extended XYZ file to which every reference result is appended. The results for the same atoms and cell
        that it holds already are used, so that the same call goes on where it was interrupted: give the same
        calculator.
    seed : int
        Of the rattled copies over which descriptors are standardised.
    **surrogate_options
        Options of `Surrogate` that replace the defaults, chosen for few structures.

    Returns
    -------
    Relaxation

    Raises
    ------
    ConfigError
        If an option is impossible, or the calculator has no forces.
    DataError
        If a structure or a reference result cannot be used.
    GprannError
        If the calculator fails; the record keeps what was computed.

    Examples
    --------
    >>> import gprann
    >>> from ase.calculators.emt import EMT
    >>> trimer = ase.Atoms("Cu3", [[0, 0, 0], [2.6, 0, 0], [1.0, 2.0, 0]])
    >>> result = gprann.relax(trimer, EMT(), fmax=0.01)
    >>> result.converged, result.calls < 12
    (True, True)
    """
    check_positive(fmax=fmax, threshold=threshold)
    check_surrogate_options(surrogate_options, relax)
    check_atoms(atoms, "atoms")
    if optimizer not in OPTIMIZERS:
        raise ConfigError(f"optimizer = '{optimizer}': {nearest_name(str(optimizer), OPTIMIZERS)}")
    reference = Reference(calculator, record, max_calls)
    learner = Learner([atoms], seed, fmax, surrogate_options)
    moving = atoms.copy()
    reference.take(atoms)
    visited = [reference.label(moving)]
    while not (done := largest_force(moving, visited[-1]) < fmax) and not reference.exhausted:
        learner.learn(reference.results(visited[0]))
        moving.positions = min(visited, key=energy_of).positions
        learner.attach(moving)
        for _ in OPTIMIZERS[optimizer](moving, logfile=None).irun(fmax=_INNER * fmax, steps=_STEPS):
            if learner.std([moving])[0] > threshold:
                break
        if any(np.array_equal(moving.positions, item.positions) for item in visited):
            _log.warning("the surrogate leads back to where it has been; lower its noises or raise fmax")
            break
        visited.append(reference.label(moving))
        force = largest_force(moving, visited[-1])
        _log.info("call %d: %.4f eV, %.3f eV/Å", reference.calls, energy_of(visited[-1]), force)
    best = visited[-1] if done else min(visited, key=energy_of)
    return Relaxation(
        with_labels(moving, best),
        energy_of(best),
        reference.calls,
        done,
        reference.results(best),
        learner.surrogate,
    )
