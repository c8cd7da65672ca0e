"""Copies for a surrogate to label: their options, and the search for those options that are not given."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from copy import copy
from typing import TYPE_CHECKING, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import model_validator

from gprann.arrays import Array
from gprann.augmentation.displacements import (
    DisplacementOptions,
    DistanceLimits,
    atom_sizes,
    automatic_copies,
    displace,
    gaussian,
    moving_atoms,
    within_spheres,
)
from gprann.augmentation.dynamics import Walk, temperature_of, walk
from gprann.augmentation.thermal import ThermalCopies, langevin, normal_modes, surrogate_hessian
from gprann.data.structure import Dataset, Structure, evenly_spread
from gprann.errors import ConfigError, DataError
from gprann.options import option
from gprann.surrogate.observations import describe_formulas
from gprann.surrogate.sets.partition import SubsetOptions

if TYPE_CHECKING:
    from gprann.surrogate.surrogate import Surrogate

Policy = Literal["gaussian", "sphere", "normal_modes", "md", "mixture"]
_log = logging.getLogger(__name__)
_BOUNDS = {"displacement": (0.005, 0.1), "temperature": (1.0, 1000.0)}  # Å, K; of the automatic choice
_USUAL = {"displacement": 0.02, "temperature": 300.0}
_OUTLIER = 5.0  # times as uncertain as unseen structures: left out if the sizes are automatic
_TRIED = 64  # copies, from which a size is judged
_FEW = 4  # structures; with fewer of them, leaving one out tells nothing
_LEFT_OUT = 16  # structures of which uncertainties are computed
_PARENTS = 32  # structures of which copies are tried to find the size
_SPREADS = 3.0  # standard deviations of the energies, by which copies may rise
_MIXED_SIZES = (0.5, 1.0, 2.0)  # of the policy "mixture", in units of the displacement
_FRAME = 20  # steps of its dynamics for each frame, at least: 10 fs
_LEAST_STEPS = 200  # of it: 100 fs, after which nothing but the slowest motion remembers the start
_WALKERS = 16  # structures that walk, at least
_HALVINGS = 7  # of the interval of the logarithm: 2 % of a displacement


class CopyOptions(DisplacementOptions, SubsetOptions):
    """Options of the copies that a surrogate labels; see `augment`."""

    policy: Policy = option(
        'With method gpr: how atoms are displaced: "gaussian" every component of every atom, "sphere" uniformly in '
        'spheres, without a net shift, "normal_modes" along the modes of the surrogate\'s Hessian at the temperature, '
        '"md" along short molecular dynamics, "mixture" half of the copies along dynamics, the others like gaussian '
        "with half, one and two times the size: networks learn from them all that the surrogate knows.",
        "gaussian",
    )
    temperature: float | None = option(
        "With policy normal_modes, md or mixture: temperature. Default: normal_modes the highest, between 1 and 1000, "
        "at which copies are no more uncertain than structures held out, md 300, mixture the configurational "
        "temperature of the structures.",
        None,
        unit="K",
        example=300.0,
        gt=0,
    )
    steps: int = option(
        "With policy md: steps of 0.5 fs from each structure; mixture makes 200 at least, from as many structures as "
        "frames every 20 steps need.",
        100,
        ge=1,
    )
    threshold: float | None = option(
        "With method gpr: copies whose predicted standard deviation per atom exceeds it are left out. Default: five "
        "times that of structures held out where displacement or temperature are automatic; none where they are "
        "given, and for subsets of fewer than four structures.",
        None,
        unit="eV/atom",
        example=0.003,
        gt=0,
    )
    forces: bool = option(
        "With method gpr: label the copies with the surrogate's forces too, for training on forces; variances "
        "are those of the "
        "energies.",
        False,
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        self.check_policy()
        return self

    def check_policy(self) -> None:
        """Refuse options that exclude each other.

        Raises
        ------
        ConfigError
        """
        if self.displacement is not None and self.sized_by != "displacement":
            raise ConfigError(
                f"displacement = {self.displacement}: the policy '{self.policy}' takes its size from the "
                "temperature; leave displacement out"
            )
        if self.policy == "md" and self.steps < (self.copies or 1):
            raise ConfigError(f"steps = {self.steps}: expected as many as copies ({self.copies}) or more")

    @property
    def sized_by(self) -> Literal["displacement", "temperature"]:
        """Name of the option that sets the size of the displacements."""
        return "temperature" if self.policy in ("normal_modes", "md") else "displacement"

    def unused_options(self) -> dict[str, str]:
        """Return the options that are set and have no effect, with the reason."""
        result = {}
        if self.temperature is not None and self.policy in ("gaussian", "sphere"):
            result["temperature"] = f"the policy '{self.policy}' takes its size from the displacement"
        if self.steps != type(self).model_fields["steps"].default and self.policy not in ("md", "mixture"):
            result["steps"] = f"it belongs to the policies 'md' and 'mixture', not to '{self.policy}'"
        return result

    @property
    def has_threshold(self) -> bool:
        """Whether there is a threshold, given or found with an automatic size."""
        return self.threshold is not None or getattr(self, self.sized_by) is None

    def count(self, structure: Structure, noise: float = 0.0) -> int:
        """Return the number of copies of a structure; `noise` as in `automatic_copies`."""
        wanted = automatic_copies(structure, noise) if self.copies is None else self.copies
        return min(wanted, self.steps) if self.policy == "md" else wanted

    def total(self, data: Iterable[Structure]) -> int:
        """Return the number of copies of all structures."""
        return sum(self.count(structure) for structure in data)


class Sampler:
    """Makes displaced copies of the structures that a surrogate is fitted to.

    Parameters
    ----------
    options : CopyOptions
    data : Dataset
        Structures of one subset.
    surrogate : Surrogate
        Fitted to them.
    """

    def __init__(self, options: CopyOptions, data: Dataset, surrogate: Surrogate) -> None:
        self.options, self.data, self.surrogate = options, data, surrogate
        self.limits = DistanceLimits.of(data, options.min_distance)
        self._hessians: dict[Structure, Array] = {}

    def find_size(self) -> None:
        """Find the size of the displacements and the threshold, if the size is not given.

        The uncertainty of the surrogate sets the size, see `largest_size`, and the threshold: copies five times as
        uncertain as structures that the surrogate has not seen are left out. Fewer than four structures do not tell
        the uncertainty: the size is a usual one, and there is no threshold but a given one.
        """
        options, data, name = self.options, self.data, self.options.sized_by
        if getattr(options, name) is not None:
            return
        if len(data) < _FEW:
            if options.threshold is None:
                _log.warning(
                    "%d structures of %s are too few to tell how uncertain copies may be: none is left out; give a "
                    "threshold to have some left out",
                    len(data),
                    describe_formulas(data),
                )
            self.options = options.replace(**{name: _USUAL[name]})
            return
        # The median standard deviation of the energies of training structures given all others.
        limit = max(float(np.median(self.surrogate.left_out_std(_LEFT_OUT))), 1e-9)
        size = _USUAL[name] if options.policy == "md" else self.largest_size(_BOUNDS[name], limit)
        threshold = options.threshold
        if (
            threshold is None and self.surrogate.bound is None
        ):  # else the baseline is right where nothing is known
            threshold = _OUTLIER * limit / len(data[0])
        unit = "Å" if name == "displacement" else "K"
        _log.info(
            "%s of the copies: %.3g %s; standard deviation of the energies of structures held out: %.2g eV",
            name,
            size,
            unit,
            limit,
        )
        self.options = options.replace(**{name: size}, threshold=threshold)

    def largest_size(self, bounds: tuple[float, float], limit: float) -> float:
        """Return the largest size of displacements that leaves copies close to the reference structures.

        The median standard deviation of their energies is at most `limit`: that of structures the surrogate has not
        seen, so that copies lie no farther from their parents than the structures from each other. And the root mean
        square of the change of energy is at most three times the standard deviation of the energies of the set: at a
        repulsive wall surrogates are surer than they should be.

        Parameters
        ----------
        bounds : tuple of float, Å or K
            Between which the size is sought.
        limit : float, eV
        """
        (low, high), size = bounds, bounds[1]
        spread = float(self.data.energies.std()) or np.inf
        # Some copies of a mixture are displaced by more than the size; energies rise with its square.
        farthest = max(_MIXED_SIZES) if self.options.policy == "mixture" else 1.0
        for _ in range(_HALVINGS + 1):
            try:
                change, std = self._try_copies(_PARENTS, size)
                rise = float(np.sqrt(np.mean(change**2))) if len(change) else 0.0
                near = len(change) == 0 or (
                    float(np.median(std)) <= limit and farthest**2 * rise <= _SPREADS * spread
                )
            except DataError:  # the Cartesian kernel refuses copies that have left the places of the others
                near = False
            low, high = (size, high) if near else (low, size)
            if low == high:
                break
            size = float(np.sqrt(low * high))
        return float(f"{low:.3g}")

    def find_number(self) -> None:
        """Find the number of copies, if it is not given, by the uncertainty of their labels; see `automatic_copies`.

        The noise is a ratio of two root mean squares over trial copies: of the standard deviations of their energies,
        and of the differences of their energies from those of their parents. Copies above the threshold, which will be
        left out, do not count.
        """
        options, data = self.options, self.data
        if options.copies is not None:
            return
        change, std = self._try_copies(_LEFT_OUT)
        kept = std <= (np.inf if options.threshold is None else options.threshold * len(data[0]))
        told = float(np.sqrt(np.mean(change[kept] ** 2))) if kept.any() else 0.0
        noise = float(np.sqrt(np.mean(std[kept] ** 2))) / told if told > 0 else 0.0
        number = options.count(data[0], noise)
        _log.info(
            "%d copies of each structure: the standard deviation of their energies is %.2g of the change of energy",
            number,
            noise,
        )
        self.options = options.replace(copies=number)

    def _try_copies(self, parents: int, size: float | None = None) -> tuple[Array, Array]:
        """Make trial copies of some structures; return the changes of their energies and the standard deviations.

        Copies that the kernel cannot compare are left out, unless a size is given.
        """
        chosen = evenly_spread(len(self.data), parents)
        tried = self.data.select(chosen)
        copies = max(2, _TRIED // len(self.data))
        if self.options.policy == "md":
            copies = min(copies, self.options.steps)
        own = [
            self._shifts(structure, int(k), copies, size) for k, structure in zip(chosen, tried, strict=True)
        ]
        if size is None:
            own = [
                shifts[self._are_comparable(displace(Dataset([structure]), "gpr", [shifts]))]
                for structure, shifts in zip(tried, own, strict=True)
            ]
        prediction = self.surrogate.predict(displace(tried, "gpr", own), forces=False)
        change = prediction.energy - np.repeat(tried.energies, [len(shifts) for shifts in own])
        return change, prediction.required_energy_std

    def parts(self, numbers: list[int], size: int | None) -> Iterator[Dataset]:
        """Yield the copies of so many structures after the other; of all if `size` is None.

        The policy "mixture", whose dynamics start anywhere, makes those of all at once.
        """
        size = len(self.data) if size is None or self.options.policy == "mixture" else size
        for begin in range(0, len(self.data), max(size, 1)):
            part = copy(self)
            part.data = self.data[begin : begin + size]
            yield part.copies(numbers[begin : begin + size])

    def copies(self, numbers: Iterable[int]) -> Dataset:
        """Return unlabelled copies, without those in which atoms come too close or that the kernel refuses.

        Parameters
        ----------
        numbers : iterable of int
            Structure k is displaced with the random stream (seed, numbers[k]).
        """
        data, count = self.data, self.options.count
        shifts: Iterable[Array] = (
            self._shifts(structure, int(number), count(structure))
            for structure, number in zip(data, numbers, strict=True)
        )
        if self.options.policy == "mixture":
            shifts = self._mixture([int(number) for number in numbers])
        made = displace(data, "gpr", shifts)
        apart = made.select(np.flatnonzero(self.limits.allow_each(made)))
        kept = apart.select(np.flatnonzero(self._are_comparable(apart)))
        if len(kept) < len(apart):
            _log.warning(
                "%d of %d copies left out: they have left the places of the structures, which the kernel '%s' cannot "
                "compare; give a smaller size, or use the kernel 'atoms'",
                len(apart) - len(kept),
                len(apart),
                self.surrogate.kernel.name,
            )
        if len(kept) == 0:
            _log.warning("no copies of %d structures of %s", len(data), describe_formulas(data))
        return kept

    def find_temperature(self) -> None:
        """Find the temperature of the dynamics of the policy "mixture", if it is not given."""
        if self.options.policy == "mixture" and self.options.temperature is None:
            found = temperature_of(self.surrogate, self.data, self.options.seed)
            _log.info(
                "dynamics of the copies at %.3g K, the configurational temperature of the structures", found
            )
            self.options = self.options.replace(temperature=found)

    def _mixture(self, numbers: list[int]) -> list[Array]:
        """Return displacements (m, N, 3) of each structure: along dynamics, then gaussian of several sizes."""
        options, data = self.options, self.data
        size = options.displacement
        counts = [options.count(structure) for structure in data]
        walked = self._frames(numbers, [count - count // 2 for count in counts])
        result: list[Array] = []
        for structure, number, count, own in zip(data, numbers, counts, walked, strict=True):
            sizes = atom_sizes(structure, size or _USUAL["displacement"], options.min_force)
            rattled = gaussian(len(structure), count // 2, sizes, (options.seed, number))
            factors = np.resize(_MIXED_SIZES, count // 2)[:, None, None]
            moves = moving_atoms(structure, options.min_force).any()
            result.append(np.concatenate([own, factors * rattled]) if moves else own[:0])
        return result

    def _frames(self, numbers: list[int], counts: list[int]) -> list[Array]:
        """Return displacements (m, N, 3) of each structure along dynamics, `counts` of them on average.

        Many structures do not all walk: those that do walk far enough to forget where they came from.
        """
        options, data = self.options, self.data
        wanted, steps = sum(counts), max(options.steps, _LEAST_STEPS)
        walkers = evenly_spread(len(data), max(_WALKERS, -(-wanted * _FRAME // steps)))
        frames = -(-wanted // len(walkers))
        moving = [moving_atoms(data[k], options.min_force) for k in walkers]
        walked = walk(
            self.surrogate,
            data.select(walkers),
            self.limits,
            Walk(options.temperature or _USUAL["temperature"], max(steps, _FRAME * frames), frames),
            moving=moving,
            streams=[(options.seed, numbers[k], 0) for k in walkers],
        )
        shares = np.diff(np.linspace(0, wanted, len(walkers) + 1).round().astype(int)).tolist()
        result = [np.zeros((0, len(structure), 3)) for structure in data]
        for k, own, share in zip(walkers.tolist(), walked, shares, strict=True):
            result[k] = own[: counts[k] if len(walkers) == len(data) else share]
        return result

    def _are_comparable(self, copies: Dataset) -> NDArray[np.bool_]:
        """Return which copies the kernel can compare with the structures, shape (n,).

        Invariant kernels compare all, the Cartesian one none that have turned or left the places of the structures.
        """
        if self.surrogate.fingerprint.invariant == "rotation":
            return np.ones(len(copies), dtype=bool)
        return np.array([self._is_comparable(copy) for copy in copies], dtype=bool)

    def _is_comparable(self, copy: Structure) -> bool:
        try:
            self.surrogate.fingerprint.rows(Dataset([copy]))
        except DataError:
            return False
        return True

    def _shifts(self, structure: Structure, number: int, copies: int, size: float | None = None) -> Array:
        """Return the displacements (m, N, 3) of the copies of a structure; none if no atom is to move."""
        options, stream = self.options, (self.options.seed, number)
        moving = moving_atoms(structure, options.min_force)
        if not moving.any():
            return np.zeros((0, len(structure), 3))
        if options.sized_by == "displacement":
            sizes = atom_sizes(structure, size or options.displacement or 0.0, options.min_force)
            draw = gaussian if options.policy == "gaussian" else within_spheres
            return draw(len(structure), copies, sizes, stream)
        wanted = ThermalCopies(size or options.temperature or 0.0, copies, stream)
        if options.policy == "normal_modes":
            return normal_modes(structure, self._hessian(structure), moving, wanted)
        return langevin(self.surrogate, structure, moving, self.limits, wanted, steps=options.steps)

    def _hessian(self, structure: Structure) -> Array:
        """Return the Hessian of the surrogate at a structure, (3N, 3N), eV/Å²; made once."""
        if structure not in self._hessians:
            self._hessians[structure] = surrogate_hessian(self.surrogate, structure)
        return self._hessians[structure]
