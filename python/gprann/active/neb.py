"""Minimum-energy paths with few reference calls: the nudged elastic band on a surrogate that learns on the way.

As the one-image-evaluated algorithm of Koistinen et al., J. Chem. Phys. 147, 152720 (2017), and ML-NEB of Garrido
Torres et al., Phys. Rev. Lett. 122, 156001 (2019): relax the whole band on the surrogate, compute the reference
at the image of largest standard deviation, or at the climbing image once all images are certain, and learn.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import ase
import numpy as np
from ase.calculators.calculator import BaseCalculator
from ase.geometry import find_mic
from ase.mep import NEB, interpolate
from ase.optimize import FIRE

from gprann.active.learner import Learner, SearchOptions
from gprann.active.reference import Reference, check_atoms, largest_force, with_labels
from gprann.arrays import Array
from gprann.data.moving import bare_structure
from gprann.data.structure import Dataset, Structure
from gprann.errors import ConfigError, DataError, check_whole
from gprann.options import option
from gprann.signatures import divide, takes
from gprann.surrogate import Surrogate
from gprann.surrogate.options import SurrogateOptions

_log = logging.getLogger(__name__)
_STEPS = 60, 300  # on the surrogate: without, then with a climbing image
_COARSE = 2.0  # force, relative to fmax, at which the climbing starts
_INNER = 0.2  # and at which the band counts as relaxed
_TRUST = 5.0  # a band ends its relaxation when an image is this many thresholds uncertain
_FIXED = 1e-3  # Å by which atoms that are fixed may differ between the end points
_APART = 0.01  # Å that some atom must move
_UNRELAXED = 2.0  # times fmax; force on an atom of an end point that is worth a warning
_WRAPPED = 0.1  # Å by which the way across the border must be shorter


@dataclass(frozen=True, slots=True, repr=False)
class Band:
    """Result of a search for a minimum-energy path.

    Attributes
    ----------
    images : list of ase.Atoms
        End points included, with energies and forces: of the reference where it has been computed, else of the
        surrogate.
    energies : ndarray, shape (images,), eV
        Of the images, less that of the first.
    energy_std : ndarray, shape (images,), eV
        Predicted standard deviations.
    barrier : float, eV
        Energy of the highest image less that of the first. Once converged both are reference energies.
    calls : int
        Reference calls made, those for the end points included; end points that carry their energy and forces
        cost none.
    converged : bool
        Whether the reference forces at the climbing image are below `fmax` and all images certain.
    reference : Dataset
        All reference results, those read from the record included.
    surrogate : Surrogate
        As fitted last.
    """

    images: list[ase.Atoms]
    energies: Array
    energy_std: Array
    barrier: float
    calls: int
    converged: bool
    reference: Dataset
    surrogate: Surrogate | None

    def __repr__(self) -> str:
        converged = "converged" if self.converged else "not converged"
        return f"Band({len(self.images)} images: barrier {self.barrier:.3f} eV, {converged} after {self.calls} calls)"


class BandOptions(SearchOptions):
    """Options of the search for a minimum-energy path."""

    threshold: float = option(
        "Images are computed by the reference where the predicted standard deviation of their total energy exceeds "
        "this, which is compared with a barrier: it is not per atom.",
        0.02,
        unit="eV",
        gt=0,
    )
    max_calls: int = option(
        "Reference calls that are allowed: 3 or more, for the end points and an image.", 50, ge=3
    )
    spring: float = option("Spring constant between images.", 0.1, unit="eV/Å²", gt=0)


@takes(BandOptions, SurrogateOptions)
def neb(
    initial: ase.Atoms,
    final: ase.Atoms,
    calculator: BaseCalculator,
    *,
    images: int | Sequence[ase.Atoms] = 5,
    **options: Any,
) -> Band:
    """Find the minimum-energy path between two relaxed structures with few calls of a reference calculator.

    Parameters
    ----------
    initial, final : ase.Atoms
        Relaxed end points with the same atoms in the same order, cell and constraints. If they carry energy and
        forces (of a calculator like `calculator`, or read from a file) these are not computed again.
    calculator : ASE calculator
        The reference, with energies and forces.
    images : int or sequence of ase.Atoms
        Number of images between the end points, at first equally spaced on the straight line; or the images
        of a first path, without the end points.
    **options
        Of `BandOptions`, and those of `Surrogate` that replace the defaults, which are chosen for few structures.
        The path has converged when the force on the climbing image is below `fmax`.

    Returns
    -------
    Band

    Raises
    ------
    ConfigError
        If an option is impossible, or the calculator has no forces.
    DataError
        If the end points do not belong together or are the same, or a reference result cannot be used.
    GprannError
        If the calculator fails; the record keeps what was computed.

    Examples
    --------
    An aluminium atom hops on Al(100); the plain band takes about a hundred calls.

    >>> import gprann
    >>> from ase.build import add_adsorbate, fcc100
    >>> from ase.calculators.emt import EMT
    >>> from ase.constraints import FixAtoms
    >>> initial = fcc100("Al", (2, 2, 2), vacuum=4.0)
    >>> add_adsorbate(initial, "Al", 1.7, "hollow")
    >>> initial.set_constraint(FixAtoms(mask=initial.get_tags() == 2))
    >>> final = initial.copy()
    >>> final.positions[-1, 0] += initial.cell[0, 0] / 2
    >>> ends = [gprann.relax(atoms, EMT(), fmax=0.01).atoms for atoms in (initial, final)]
    >>> path = gprann.neb(*ends, EMT())
    >>> path.converged, path.calls < 8, round(path.barrier, 1)
    (True, True, 0.2)
    """
    settings, surrogate_options = divide(options, BandOptions, inspect.signature(Surrogate).parameters)
    fmax = settings.fmax
    start = _first_path(initial, final, images)
    reference = Reference(calculator, settings.record, settings.max_calls)
    learner = Learner(start, settings.seed, fmax, surrogate_options)
    search = _Search(start, reference, learner, settings)
    for name, end in (("initial", initial), ("final", final)):
        reference.take(end)
        force = largest_force(end, reference.label(end))
        if force > _UNRELAXED * fmax:
            _log.warning(
                "%s: not relaxed, the force on an atom is %.3f eV/Å, and the barrier counts from there; "
                "relax both end points first",
                name,
                force,
            )
    if len(search.results) <= 2:  # the end points alone say nothing about what lies between them
        reference.label(start[len(start) // 2])
    return search.run()


class _Search:
    """Search for a path between end points whose energies and forces are known."""

    def __init__(
        self,
        start: list[ase.Atoms],
        reference: Reference,
        learner: Learner,
        options: BandOptions,
    ) -> None:
        self._start = start
        self._reference = reference
        self._learner = learner
        self._options = options

    @property
    def results(self) -> Dataset:
        """All reference results for these atoms."""
        return self._reference.results(Structure.from_ase(self._start[0].copy()))

    def run(self) -> Band:
        """Relax the band and learn in turn, until the climbing image is converged."""
        while True:
            self._learner.learn(self.results)
            band = self._relax()
            std = self._learner.std(band)
            certain = bool(std[1:-1].max() < self._options.threshold)
            rank = np.array([atoms.get_potential_energy() for atoms in band]) if certain else std
            chosen = band[1 + int(np.argmax(rank[1:-1]))]
            known = self._reference.find(chosen) is not None
            if self._reference.exhausted and not known:
                return self._result(band, std, converged=False)
            force = largest_force(chosen, self._reference.label(chosen))
            _log.info("call %d: std %.4f eV, force %.3f eV/Å", self._reference.calls, std.max(), force)
            if certain and force < self._options.fmax:
                return self._result(band, std, converged=True)
            if known:
                _log.warning("the band leads back to an image that is known; lower its noises or raise fmax")
                return self._result(band, std, converged=False)

    def _relax(self) -> list[ase.Atoms]:
        """Relax the first path on the surrogate; stop where an image becomes too uncertain."""
        band = [atoms.copy() for atoms in self._start]
        for atoms in band:
            self._learner.attach(atoms)
        path = NEB(band, k=self._options.spring, method="improvedtangent")
        for path.climb, force, steps in ((False, _COARSE, _STEPS[0]), (True, _INNER, _STEPS[1])):
            for _ in FIRE(path, logfile=None).irun(fmax=force * self._options.fmax, steps=steps):
                if self._learner.std(band).max() > _TRUST * self._options.threshold:
                    return band
        return band

    def _result(self, band: list[ase.Atoms], std: Array, *, converged: bool) -> Band:
        images = []
        for atoms in band:
            predicted = {
                "energy": atoms.get_potential_energy(),
                "forces": atoms.get_forces(apply_constraint=False),
            }
            known = self._reference.find(atoms)
            images.append(with_labels(atoms, known or bare_structure(atoms).replace(**predicted)))
        energies = np.array([atoms.get_potential_energy() for atoms in images])
        energies -= energies[0]
        calls, surrogate = self._reference.calls, self._learner.surrogate
        return Band(images, energies, std, float(energies.max()), calls, converged, self.results, surrogate)


def _first_path(initial: ase.Atoms, final: ase.Atoms, images: int | Sequence[ase.Atoms]) -> list[ase.Atoms]:
    """Return the images from which every relaxation of the band starts, end points included."""
    check_atoms(initial, "initial")
    check_atoms(final, "final")
    _check_match(initial, final, "final")
    if isinstance(images, Iterable):
        return _path_through(initial, final, images)
    check_whole(1, images=images)
    shift = final.positions - initial.positions
    shortest, lengths = find_mic(shift, initial.cell, initial.pbc)
    if lengths.max() < _APART:
        raise DataError(
            f"final: no atom lies {_APART} Å or more from where it is in initial; give two different minima, or the "
            "images of a path that comes back to its start"
        )
    path = [initial.copy() for _ in range(images + 1)] + [final.copy()]
    # Across the border of the cell only where the end points were wrapped, not for a hop by half of a cell.
    wrapped = np.linalg.norm(shift, axis=1) > np.linalg.norm(shortest, axis=1) + _WRAPPED
    interpolate(path, mic=bool(wrapped.any()), apply_constraint=True)
    return path


def _path_through(initial: ase.Atoms, final: ase.Atoms, images: Iterable[ase.Atoms]) -> list[ase.Atoms]:
    """Return copies of the end points and of the images between them, all with the constraints of the first."""
    path = [initial.copy()]
    for number, atoms in enumerate(images):
        check_atoms(atoms, f"images[{number}]")
        _check_match(initial, atoms, f"images[{number}]")
        path.append(atoms.copy())
    path.append(final.copy())
    if len(path) < 3:
        raise ConfigError("images: expected one or more between the end points")
    for atoms in path:
        atoms.set_constraint([constraint.copy() for constraint in initial.constraints])
    return path


def _check_match(initial: ase.Atoms, other: ase.Atoms, name: str) -> None:
    """Refuse a structure that cannot lie on a path from `initial`.

    Raises
    ------
    DataError
    """
    if list(initial.symbols) != list(other.symbols):
        raise DataError(f"{name}: its atoms are not those of initial in the same order; sort them alike")
    if not (np.allclose(initial.cell, other.cell) and np.array_equal(initial.pbc, other.pbc)):
        raise DataError(f"{name}: cell or pbc differ from those of initial; a band needs one cell")
    moved = initial.copy()
    moved.set_positions(other.positions)
    off = np.linalg.norm(moved.positions - other.positions, axis=1)
    if off.max() > _FIXED:
        raise DataError(
            f"{name}: atom {int(np.argmax(off))} is constrained but lies {off.max():.3f} Å from where it is in "
            "initial; relax both end points with the same atoms fixed in the same places"
        )
