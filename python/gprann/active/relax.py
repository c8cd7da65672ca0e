"""Relaxation with few reference calls.

As GPMin (Garijo del Río, Mortensen and Jacobsen, Phys. Rev. B 100, 104103 (2019)): relax on the surrogate as far
as it can be trusted, compute the reference there, learn, and start again from the lowest energy found.
"""

from __future__ import annotations

import inspect
import logging
from dataclasses import dataclass
from typing import Any, Literal

import ase
import numpy as np
from ase.calculators.calculator import BaseCalculator
from ase.optimize import BFGS, FIRE

from gprann.active.learner import Learner, SearchOptions
from gprann.active.reference import Reference, check_atoms, energy_of, largest_force, with_labels
from gprann.data.structure import Dataset
from gprann.options import option
from gprann.signatures import divide, takes
from gprann.surrogate import Surrogate
from gprann.surrogate.options import SurrogateOptions

_log = logging.getLogger(__name__)
OPTIMIZERS: dict[str, Any] = {"bfgs": BFGS, "fire": FIRE}
_STEPS = 200  # on the surrogate, between two reference calls
_INNER = 0.5  # forces on the surrogate, relative to fmax, at which its relaxation ends


@dataclass(frozen=True, slots=True, repr=False)
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

    def __repr__(self) -> str:
        converged = "converged" if self.converged else "not converged"
        return f"Relaxation({self.atoms.symbols}: {self.energy:.4f} eV, {converged} after {self.calls} calls)"


class RelaxOptions(SearchOptions):
    """Options of a relaxation."""

    threshold: float = option(
        "The relaxation on the surrogate stops where the predicted standard deviation of the total energy exceeds "
        "this, and the reference is computed there.",
        0.05,
        unit="eV",
        gt=0,
    )
    max_calls: int = option("Reference calls that are allowed.", 100, ge=1)
    optimizer: Literal["bfgs", "fire"] = option("ASE's optimiser on the surrogate.", "bfgs")


@takes(RelaxOptions, SurrogateOptions)
def relax(atoms: ase.Atoms, calculator: BaseCalculator, **options: Any) -> Relaxation:
    """Relax positions with few calls of a reference calculator.

    Parameters
    ----------
    atoms : ase.Atoms
        Start, with any constraints of ASE on positions; it is not changed.
    calculator : ASE calculator
        The reference, with energies and forces.
    **options
        Of `RelaxOptions`, and those of `Surrogate` that replace the defaults, which are chosen for few structures.

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
    >>> import ase, gprann
    >>> from ase.calculators.emt import EMT
    >>> trimer = ase.Atoms("Cu3", [[0, 0, 0], [2.6, 0, 0], [1.0, 2.0, 0]])
    >>> result = gprann.relax(trimer, EMT(), fmax=0.01)
    >>> result.converged, result.calls < 12
    (True, True)
    """
    settings, surrogate_options = divide(options, RelaxOptions, inspect.signature(Surrogate).parameters)
    fmax = settings.fmax
    check_atoms(atoms, "atoms")
    reference = Reference(calculator, settings.record, settings.max_calls)
    learner = Learner([atoms], settings.seed, fmax, surrogate_options)
    moving = atoms.copy()
    reference.take(atoms)
    visited = [reference.label(moving)]
    while not (done := largest_force(moving, visited[-1]) < fmax) and not reference.exhausted:
        learner.learn(reference.results(visited[0]))
        moving.positions = min(visited, key=energy_of).positions
        learner.attach(moving)
        for _ in OPTIMIZERS[settings.optimizer](moving, logfile=None).irun(fmax=_INNER * fmax, steps=_STEPS):
            if learner.std([moving])[0] > settings.threshold:
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
