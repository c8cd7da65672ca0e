"""Fingerprints of structures for Gaussian processes: features, Jacobians, and slopes carried back to forces.

A fingerprint turns every structure into rows of D features sorted by kind (species). The covariance code of
the core sums a radial kernel over all pairs of rows of the same kind, so the atoms kernel (a row per atom)
and the kernels on whole structures (a single row of a single kind) share it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from gprann import _core
from gprann.data.neighbours import build_neighbours
from gprann.data.structure import Dataset, Structure
from gprann.descriptors import DESCRIPTORS, Descriptor
from gprann.errors import ConfigError, DataError, nearest_name
from gprann.surrogate.kernels.cartesian_frame import Frame, centred
from gprann.surrogate.kernels.internal_coordinates import (
    internal_directions,
    observed_directions,
    strain_length,
)

__all__ = [
    "PAIRS_CUTOFF",
    "PAIRS_EXPONENT",
    "AtomsFingerprint",
    "CartesianFingerprint",
    "Fingerprint",
    "PairsFingerprint",
    "Rows",
]

Array = NDArray[np.float64]
PAIRS_EXPONENT = 1.0
PAIRS_CUTOFF = 7.0
"""Å. Both where none is given."""


@dataclass(frozen=True, slots=True)
class Rows:
    """Features of n structures.

    Attributes
    ----------
    kind_rows : ndarray of int64, shape (n, S + 1)
        The rows of kind s of structure a are kind_rows[a, s] .. kind_rows[a, s + 1] - 1.
    features : ndarray, shape (rows, D)
    gradients : callable
        Carries slopes d(energy)/d(features), shape (rows, D), to d(energy)/d(positions), one (N, 3) array per
        structure, and to virials d(energy)/d(strain), (n, 3, 3), or None if it does not know them.
    tangents : callable
        Its adjoint: carries displacements, one (N, 3) array per structure, and strains, (n, 3, 3) or None, to
        changes of the features, (rows, D).
    """

    kind_rows: NDArray[np.int64]
    features: Array
    gradients: Callable[[Array], tuple[list[Array], Array | None]]
    tangents: Callable[[Sequence[Array], Array | None], Array]

    def sets(
        self, jacobians: Sequence[Array] = (), *, first: int = 0, last: int | None = None
    ) -> _core.FeatureSets:
        """Return the compiled view of the structures `first` to `last`, by default all.

        `jacobians` are (rows_A D, m_A), one for each of these structures, or none at all.
        """
        kind_rows = self.kind_rows[first:last]
        begin, end = (kind_rows[0, 0], kind_rows[-1, -1]) if len(kind_rows) else (0, 0)
        directions = [jacobian.shape[1] for jacobian in jacobians] or [0] * len(kind_rows)
        flat = np.concatenate([np.zeros(0), *(jacobian.ravel() for jacobian in jacobians)])
        return _core.FeatureSets(
            kind_rows - begin, self.features[begin:end], flat, np.array(directions, dtype=np.int64)
        )

    def kinds(self) -> NDArray[np.int64]:
        """Kind of every row, shape (rows,)."""
        counts = np.diff(self.kind_rows, axis=1)
        labels = np.broadcast_to(np.arange(counts.shape[1]), counts.shape)
        return np.repeat(labels.ravel(), counts.ravel())


class Fingerprint(Protocol):
    """Features of structures under the settings fixed by `fit`."""

    invariant: str
    """Rigid motions that leave the features unchanged: `rotation` (and translation) or `translation`."""
    strains: bool
    """Whether derivatives with respect to strains of positions and cell are known."""
    shift: float
    """Prior variance of a shift of all energies, relative to the kernel's own.

    The mean of the training energies is not the shift that suits the kernel: a surface that rises in all directions
    from the training structures is, to a stationary kernel, a deep well in a shifted energy. Kernels of whole
    structures need it (with the kernel `pairs` 40 structures of EC on Li(100) leave errors of 129 meV without it, of
    21 meV with it); sums over atoms have room for it, and their matrices are better conditioned without.
    """

    @property
    def fixed_order(self) -> bool:
        """Whether atom k of one structure is compared with atom k of another; known before `fit`."""

    @property
    def spread(self) -> float:
        """Root of the summed variance of the features over the training set: the natural unit of lengths."""

    def fit(self, data: Dataset) -> None:
        """Take standardisation and checks from the training set."""

    def rows(self, data: Dataset) -> Rows:
        """Return the features of a data set."""

    def jacobians(self, data: Dataset) -> list[Array]:
        """Return d(features)/d(observed directions), (rows_A D, m_A), for every structure."""


class AtomsFingerprint:
    """A row per atom: its descriptor, standardised per species.

    Parameters
    ----------
    descriptor : Descriptor, optional
        Default: the Chebyshev descriptor with species weights without a zero.
    species_lengths : mapping of str to float, optional
        Factors on the kernel length for atoms of some species.
    elsewhere : sequence of str
        Species that factors may be given for though the training set lacks them.
    """

    invariant = "rotation"
    strains = True
    shift = 0.0
    fixed_order = False
    _FLOOR = 1e-3
    """Smallest scale of a component as a fraction of the largest: constant ones must not be blown up."""

    def __init__(
        self,
        descriptor: Descriptor | None = None,
        species_lengths: Mapping[str, float] | None = None,
        elsewhere: Sequence[str] = (),
    ) -> None:
        for symbol, factor in (species_lengths or {}).items():
            if not (np.isfinite(factor) and factor > 0):
                raise ConfigError(f"species_lengths: {symbol} = {factor}: expected a positive number")
        self._given_lengths = dict(species_lengths or {})
        self._elsewhere = tuple(elsewhere)
        self._species_lengths: dict[str, float] = {}
        self._given = descriptor
        self._descriptor = descriptor
        self._mean = np.zeros((0, 0))
        self._scale = np.zeros((0, 0))
        self._spread = 1.0

    @property
    def descriptor(self) -> Descriptor:
        """The descriptor in use; known after `fit` unless it was given."""
        if self._descriptor is None:
            raise ConfigError("the fingerprint has not been fitted yet")
        return self._descriptor

    @property
    def spread(self) -> float:
        """Root of the summed variance of the standardised components."""
        return self._spread

    def fit(self, data: Dataset) -> None:
        """Fix the descriptor, and mean and scale of its components for each species."""
        if self._given is None:
            self._descriptor = DESCRIPTORS["chebyshev"].for_kernel(data.species)
        neighbours = self.descriptor.neighbours(data)
        values = self.descriptor.values(neighbours)
        n_species, size = len(self.descriptor.species), self.descriptor.size
        self._mean = np.zeros((n_species, size))
        self._scale = np.ones((n_species, size))
        variances = []
        for kind in range(n_species):
            own = values[neighbours.species == kind]
            if len(own) == 0:
                continue
            deviation = own.std(axis=0)
            if deviation.max() > 0:
                self._scale[kind] = np.maximum(deviation, self._FLOOR * deviation.max())
            self._mean[kind] = own.mean(axis=0)
            variances.append(np.sum((deviation / self._scale[kind]) ** 2))
        self._spread = float(np.sqrt(max(np.mean(variances), 1e-12)))
        self._species_lengths = {}
        own = self.descriptor.species
        self.stretch_species(
            {s: x for s, x in self._given_lengths.items() if s in own or s not in self._elsewhere}
        )

    @property
    def species_lengths(self) -> dict[str, float]:
        """Factors on the kernel length for atoms of some species; known after `fit`."""
        return dict(self._species_lengths)

    def stretch_species(self, species_lengths: Mapping[str, float]) -> None:
        """Multiply the kernel lengths of some species, which have none of their own yet, by factors.

        Raises
        ------
        ConfigError
            If a species is unknown.
        """
        species = self.descriptor.species
        factors = np.ones((len(species), self.descriptor.size))
        for symbol, factor in species_lengths.items():
            if symbol not in species:
                raise ConfigError(f"species_lengths: {symbol}: {nearest_name(symbol, species)}")
            factors[species.index(symbol)] = factor
        self._species_lengths = dict(species_lengths)
        self.stretch(factors)

    def stretch(self, factors: Array) -> None:
        """Multiply the kernel lengths of the components of each species, (species, D), by factors."""
        self._scale = self._scale * factors

    def rows(self, data: Dataset) -> Rows:
        """Return the standardised descriptors, the atoms of every structure sorted by species."""
        neighbours = self.descriptor.neighbours(data)
        kinds = neighbours.species
        structure = np.repeat(np.arange(len(data)), np.diff(neighbours.first_atom))
        order = np.lexsort((kinds, structure))
        n_species = len(self.descriptor.species)
        counts = np.zeros((len(data), n_species), dtype=np.int64)
        np.add.at(counts, (structure, kinds), 1)
        kind_rows = np.zeros((len(data), n_species + 1), dtype=np.int64)
        kind_rows[:, 0] = neighbours.first_atom[:-1]
        kind_rows[:, 1:] = neighbours.first_atom[:-1, None] + np.cumsum(counts, axis=1)
        features = ((self.descriptor.values(neighbours) - self._mean[kinds]) / self._scale[kinds])[order]

        def gradients(slopes: Array) -> tuple[list[Array], Array]:
            cotangent = np.empty_like(slopes)
            cotangent[order] = slopes
            gradient, virials = self.descriptor.vjp(neighbours, cotangent / self._scale[kinds])
            return np.split(gradient, neighbours.first_atom[1:-1]), virials

        def tangents(displacements: Sequence[Array], strains: Array | None) -> Array:
            changes = self.descriptor.jvp(neighbours, np.concatenate(displacements), strains)
            return np.ascontiguousarray((changes / self._scale[kinds])[order])

        return Rows(kind_rows, np.ascontiguousarray(features), gradients, tangents)

    def jacobians(self, data: Dataset) -> list[Array]:
        """Return the Jacobians of the standardised descriptors along the observed directions."""
        neighbours = self.descriptor.neighbours(data)
        result = []
        for index, structure in enumerate(data):
            atoms = slice(neighbours.first_atom[index], neighbours.first_atom[index + 1])
            kinds = neighbours.species[atoms]
            strained = structure.stress is not None
            dense = self.descriptor.jacobian(neighbours, index, strained=strained)
            if strained:
                dense[:, :, -6:] /= strain_length(structure)
            dense = (dense / self._scale[kinds][:, :, None])[np.argsort(kinds, kind="stable")]
            directions = observed_directions(structure, self.invariant)
            result.append(dense.reshape(-1, dense.shape[2]) @ directions)
        return result


class PairsFingerprint:
    """One row per structure: inverse powers of the distances of all atom pairs, in a fixed order of atoms.

    Parameters
    ----------
    exponent : float
        Features are r**-exponent.
    cutoff : float, Å
        In periodic structures features are the sum over images of f_c(r)² r**-exponent within this distance.
    """

    invariant = "rotation"
    strains = False
    shift = 1.0
    fixed_order = True

    def __init__(self, *, exponent: float = PAIRS_EXPONENT, cutoff: float = PAIRS_CUTOFF) -> None:
        if not (np.isfinite(exponent) and exponent > 0):
            raise ConfigError(f"exponent = {exponent}: expected a positive number")
        if not (np.isfinite(cutoff) and cutoff > 0):
            raise ConfigError(f"cutoff = {cutoff}: expected a positive distance in Å")
        self.exponent, self.cutoff = float(exponent), float(cutoff)
        self._symbols: tuple[str, ...] = ()
        self._periodic = False
        self._spread = 1.0

    @property
    def spread(self) -> float:
        """Root of the summed variance of the features."""
        return self._spread

    def fit(self, data: Dataset) -> None:
        """Take the order of atoms and the spread of the features from the training set."""
        self._symbols = data[0].symbols
        self._periodic = any(structure.pbc.any() for structure in data)
        if len(self._symbols) < 2:
            raise DataError(f"{data[0].origin}: a single atom has no pairs; use the kernel 'atoms'")
        features = np.array([value for value, _ in self._evaluate(data)])
        self._spread = float(np.sqrt(max(features.var(axis=0).sum(), 1e-24)))

    def _evaluate(self, data: Dataset) -> Iterator[tuple[Array, Array]]:
        require_order(data, self._symbols)
        for structure in data:
            # Its features would be sums over images without a cutoff.
            if structure.pbc.any() and not self._periodic:
                raise DataError(
                    f"{structure.origin}: is periodic, the training set of the surrogate is not; "
                    "fit one surrogate for each, or use the kernel 'atoms'"
                )
        extent = max(float(np.ptp(structure.positions, axis=0).max()) for structure in data)
        reach = self.cutoff if self._periodic else 2.0 * extent + 1.0
        neighbours = build_neighbours(data, reach, data.species)
        cutoff = self.cutoff if self._periodic else 0.0
        for index in range(len(data)):
            yield _core.pair_distances(neighbours.core, index, self.exponent, cutoff)

    def rows(self, data: Dataset) -> Rows:
        """Return one row per structure."""
        features, jacobians = [], []
        for value, jacobian in self._evaluate(data):
            features.append(value)
            jacobians.append(csr_array(jacobian))  # a distance depends on two atoms
        return single_rows(features, lambda: jacobians)

    def jacobians(self, data: Dataset) -> list[Array]:
        """Return the Jacobians along the internal directions."""
        return [
            jacobian @ internal_directions(structure, self.invariant)
            for structure, (_, jacobian) in zip(data, self._evaluate(data), strict=True)
        ]


class CartesianFingerprint:
    """One row per structure: its Cartesian coordinates less their mean, the fingerprint of the paper.

    It is not invariant: all structures must lie in one orientation, with the same order of atoms. Structures
    that have turned away from the rest, or atoms of which lie far away or in another periodic image, are refused.
    """

    invariant = "translation"
    strains = False
    shift = 1.0
    fixed_order = True

    def __init__(self) -> None:
        self._symbols: tuple[str, ...] = ()
        self._frame = Frame(np.zeros((0, 3)), 0.0, 0.0)
        self._spread = 1.0

    @property
    def spread(self) -> float:
        """Root of the summed variance of the coordinates, Å."""
        return self._spread

    def fit(self, data: Dataset) -> None:
        """Take the order of atoms and the spread of the coordinates from the training set."""
        self._symbols = data[0].symbols
        require_order(data, self._symbols)
        self._frame = Frame.of(data)
        features = self.rows(data).features
        self._spread = float(np.sqrt(max(features.var(axis=0).sum(), 1e-24)))

    def rows(self, data: Dataset) -> Rows:
        """Return one row per structure."""
        require_order(data, self._symbols)
        for structure in data:
            self._frame.require(structure)
        features = [centred(structure.positions).ravel() for structure in data]
        n = len(self._symbols)

        def derivatives() -> list[csr_array]:
            return [csr_array(np.eye(3 * n) - np.tile(np.eye(3), (n, n)) / n)] * len(data)

        return single_rows(features, derivatives)

    def jacobians(self, data: Dataset) -> list[Array]:
        """Return the Jacobians along the internal directions."""
        return [np.ascontiguousarray(internal_directions(structure, self.invariant)) for structure in data]


def single_rows(
    features: Sequence[Array], derivatives: Callable[[], Sequence[Array] | Sequence[csr_array]]
) -> Rows:
    """Return rows for fingerprints with one feature vector per structure.

    `derivatives` gives their Jacobians, (D, 3N) each, dense or sparse; called only for gradients and tangents.
    """
    n = len(features)
    kind_rows = np.stack([np.arange(n), np.arange(1, n + 1)], axis=1).astype(np.int64)

    def gradients(slopes: Array) -> tuple[list[Array], None]:
        pairs = zip(slopes, derivatives(), strict=True)
        return [(slope @ jacobian).reshape(-1, 3) for slope, jacobian in pairs], None

    def tangents(displacements: Sequence[Array], _: Array | None) -> Array:
        pairs = zip(displacements, derivatives(), strict=True)
        return np.array([jacobian @ displacement.ravel() for displacement, jacobian in pairs])

    return Rows(kind_rows, np.ascontiguousarray(features), gradients, tangents)


def require_order(data: Dataset, symbols: Sequence[str]) -> None:
    """Refuse structures whose atoms are not listed as `symbols`.

    Raises
    ------
    DataError
    """
    for index, structure in enumerate(data):
        if structure.symbols != tuple(symbols):
            raise DataError(_order_message(index, structure, symbols))


def _order_message(index: int, structure: Structure, symbols: Sequence[str]) -> str:
    if sorted(structure.symbols) != sorted(symbols):
        return (
            f"{structure.origin} (number {index} of the set): composition {structure.formula} "
            "differs from that of the "
            "training set; fit one surrogate for each composition"
        )
    atom = next(i for i, (a, b) in enumerate(zip(structure.symbols, symbols, strict=True)) if a != b)
    return (
        f"{structure.origin} (number {index} of the set): atom {atom} is {structure.symbols[atom]}, expected "
        f"{symbols[atom]}; this kernel needs one order of atoms: reorder them or use the kernel 'atoms'"
    )
