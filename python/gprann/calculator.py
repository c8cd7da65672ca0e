"""ASE calculator of potentials."""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import ase
import numpy as np
from ase.calculators.calculator import all_changes
from ase.io import write

from gprann.arrays import Array
from gprann.baselines import terms_of
from gprann.data.ase_calculator import PredictionCalculator
from gprann.data.moving import SKIN, MovingStructure
from gprann.data.prediction import Prediction
from gprann.errors import ConfigError, ExtrapolationError
from gprann.models.guard import STOP
from gprann.potential import Potential

_log = logging.getLogger(__name__)
_DIFFERENT = 0.1  # Å by which some atom has moved since the structure that was collected last
GuardMode = Literal["warn", "stop", "collect", "off"]


class ExtrapolationWatch:
    """A look at extrapolation grades, and a reaction to large ones: warn, stop or collect the structure.

    Parameters
    ----------
    mode : {'warn', 'stop', 'collect', 'off'}
    threshold : float
        Grade from which on something is done.
    file : path, optional
        To which collected structures are appended, extended XYZ.

    Attributes
    ----------
    collected : list of ase.Atoms
        Structures that were collected, with the array `grades`.

    Raises
    ------
    ConfigError
        If the mode is unknown, the threshold not a positive number, or a file is given that nothing is collected in.

    Examples
    --------
    >>> watch = ExtrapolationWatch("collect")
    >>> for grade in (0.5, 3.0):
    ...     watch.look(ase.Atoms("H"), np.array([grade]))
    >>> len(watch.collected)
    1
    """

    def __init__(
        self, mode: GuardMode = "warn", threshold: float = STOP, file: str | os.PathLike[str] | None = None
    ) -> None:
        if mode not in get_args(GuardMode):
            raise ConfigError(f"guard = {mode!r}: expected one of {', '.join(get_args(GuardMode))}")
        if (
            isinstance(threshold, bool)
            or not isinstance(threshold, int | float)
            or not 0 < threshold < np.inf
        ):
            raise ConfigError(f"guard_threshold = {threshold!r}: expected a positive number")
        if file is not None and mode != "collect":
            raise ConfigError(
                f'guard_file: nothing is collected with guard = "{mode}"; use guard = "collect"'
            )
        self.mode, self.threshold = mode, float(threshold)
        self.file = None if file is None else Path(file)
        self.collected: list[ase.Atoms] = []
        self._warned = False

    def look(self, atoms: ase.Atoms, grades: Array) -> None:
        """Look at the grades, shape (N,), of a structure, and react.

        Raises
        ------
        ExtrapolationError
            If a grade reaches the threshold and the mode is "stop".
        """
        if self.mode == "off" or not len(grades) or grades.max() < self.threshold:
            return
        worst = int(np.argmax(grades))
        error = ExtrapolationError(worst, atoms.symbols[worst], float(grades[worst]), self.threshold)
        if self.mode == "stop":
            raise error
        if not self._warned:
            self._warned = True
            _log.warning("%s (told once)", error)
        if self.mode == "collect" and self._is_new(atoms):
            copy = atoms.copy()
            copy.calc = None
            copy.set_array("grades", grades)
            self.collected.append(copy)
            if self.file is not None:
                write(self.file, copy, format="extxyz", append=True)

    def _is_new(self, atoms: ase.Atoms) -> bool:
        """Whether the structure differs from the one that was collected last."""
        if not self.collected or len(self.collected[-1]) != len(atoms):
            return True
        moved = np.linalg.norm(atoms.positions - self.collected[-1].positions, axis=1)
        return bool(moved.max() > _DIFFERENT or np.any(atoms.cell[:] != self.collected[-1].cell[:]))


class Calculator(PredictionCalculator):
    """ASE calculator of a potential or a committee.

    Parameters
    ----------
    potential : Potential or path
        A trained potential, or the file it was saved to.
    skin : float, Å
        Neighbour lists hold all pairs within the cutoff and this, and are kept until an atom has moved by half of it.
        The results do not depend on it; 0 looks for the pairs at every step.
    guard : {'warn', 'stop', 'collect', 'off'}
        What is done when the environment of an atom lies outside the training set: a warning of the log, once; an
        `ExtrapolationError` that names the atom; or the structure is collected, to be labelled, in `watch.collected`.
        Potentials of before there were guards (`potential.guard` is None) notice nothing.
    guard_threshold : float
        Grade from which on this is done; 1 is the edge of the training set.
    guard_file : path, optional
        Extended XYZ file to which collected structures are appended.

    Notes
    -----
    `results` holds `energy` and `free_energy` (eV), `energies` (per atom, eV), `forces` (eV/Å) and `stress` (Voigt,
    eV/Å³; periodic structures only). `deviations` holds the standard deviations of a committee, `energy_std` (eV),
    `forces_std` (N, 3) (eV/Å) and `energies_std` (N,) (eV), and the extrapolation `grades` (N,); `get_property` gives
    them as well, and `snapshot` a copy of the atoms that carries all of them into files.
    Atoms may change in any way between two calls. A calculator serves one thread; several may share a potential.

    Examples
    --------
    >>> import gprann
    >>> data = gprann.examples.hydrogen(7)
    >>> descriptor = gprann.ChebyshevDescriptor(["H"], radial_order=10, radial_cutoff=8.0, angular_order=None)
    >>> potential = gprann.train(data, descriptor, hidden=(5, 5), optimizer="lm", iterations=20, seed=1)
    >>> atoms = data[0].to_ase()
    >>> atoms.calc = gprann.Calculator(potential)
    >>> atoms.get_forces().shape
    (2, 3)
    """

    def __init__(
        self,
        potential: Potential | str | os.PathLike[str],
        *,
        skin: float = SKIN,
        guard: GuardMode = "warn",
        guard_threshold: float = STOP,
        guard_file: str | os.PathLike[str] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if not isinstance(potential, Potential | str | os.PathLike):
            raise ConfigError(
                f"potential: expected a Potential or its file, got {type(potential).__name__}; the calculator of "
                "surrogates is SurrogateCalculator"
            )
        if not (isinstance(skin, int | float) and 0 <= skin < math.inf):
            raise ConfigError(f"skin = {skin}: expected a length in Å, 0 or more")
        self.potential = potential if isinstance(potential, Potential) else Potential.load(potential)
        attached = any(term.reads_attachments for term in terms_of(self.potential.baseline))
        self.moving = MovingStructure(self.potential.cutoff, self.potential.species, skin, attached=attached)
        self.watch = ExtrapolationWatch(guard, guard_threshold, guard_file)

    def predict(self, atoms: ase.Atoms, properties: Sequence[str]) -> Prediction:  # noqa: ARG002 - all cost the same
        """Return the prediction of the potential."""
        self.moving.follow(atoms)
        return self.potential.predict_moving(self.moving)

    def calculate(
        self,
        atoms: ase.Atoms | None = None,
        properties: Sequence[str] = ("energy",),
        system_changes: Sequence[str] = tuple(all_changes),
    ) -> None:
        """Compute all results for `atoms`, and look at their extrapolation grades.

        Raises
        ------
        DataError
            If the elements are not those of the model, or two atoms lie on top of each other.
        ExtrapolationError
            If an atom lies outside the training set and guard is "stop".
        PropertyNotImplementedError
            If the stress is asked for and not known.
        """
        super().calculate(atoms, properties, system_changes)
        if "grades" in self.deviations and self.atoms is not None:
            try:
                self.watch.look(self.atoms, self.deviations["grades"])
            except ExtrapolationError:
                self.results = {}  # nobody shall find them there
                raise
