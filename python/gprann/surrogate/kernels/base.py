"""The base of all kernels: options, and fingerprints that turn structures into rows of features.

A fingerprint gives each structure one or several rows of D features, sorted by kind (species). The covariance of two
structures is the sum of a radial kernel over all pairs of their rows of the same kind. The kernel `atoms` has a row for
each atom; kernels that compare whole structures have a single row of a single kind.
"""

from __future__ import annotations

import functools
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from gprann import _core
from gprann.arrays import Array
from gprann.data.structure import Dataset, Structure
from gprann.errors import DataError
from gprann.options import Named, Registry, option
from gprann.surrogate.kernels.internal_coordinates import internal_directions

Radial = Literal["squared_exponential", "matern52"]
_RADIAL_KERNELS: dict[Radial, Callable[[float, bool, float], _core.RadialKernel]] = {
    "squared_exponential": _core.SquaredExponential,
    "matern52": _core.Matern52,
}


class Kernel(Named):
    """Options of a kernel; subclass it to write another one.

    A kernel that compares structures as wholes gives `features` and `jacobian` of one structure, in plain NumPy. The
    scale of the features, forces, standard deviations, extension and copies follow from these two. Kernels with
    several rows for a structure, or with a state that comes from the training set, override `fingerprint`. A kernel
    can be named in a configuration, and a surrogate that uses it saved, once its class is registered with
    `gprann.register_kernel`.

    Attributes
    ----------
    invariant : {'rotation', 'translation'}
        Rigid motions that do not change the features: rotations and translations, or translations alone.
    fixed_order : bool
        Whether atom k of one structure is compared with atom k of another.
    any_composition : bool
        Whether structures of other compositions and numbers of atoms can be compared.
    strains : bool
        Whether derivatives with respect to strains of positions and cell are known: needed for stresses.
    shift : float
        Prior variance of a shift of all energies, relative to the kernel's own. The mean of the training energies is
        not the shift that suits a stationary kernel, to which a surface that rises in all directions from the training
        structures is a deep well in a shifted energy. Kernels of whole structures need the shift: with the kernel
        `pairs` 40 structures of EC on Li(100) leave errors of 129 meV without it, of 21 meV with it. Sums over atoms
        have room for it, and their matrices are better conditioned without it.

    Examples
    --------
    Inverse squares of the distances from the first atom:

    >>> import gprann
    >>> import numpy as np
    >>> class InverseSquares(gprann.Kernel):
    ...     name = "inverse_squares"
    ...
    ...     def features(self, structure):
    ...         vectors = structure.positions[1:] - structure.positions[0]
    ...         return 1.0 / np.sum(vectors**2, axis=1)
    ...
    ...     def jacobian(self, structure):
    ...         vectors = structure.positions[1:] - structure.positions[0]
    ...         slopes = -2.0 * vectors / np.sum(vectors**2, axis=1)[:, None] ** 2
    ...         found = np.zeros((len(vectors), len(structure), 3))
    ...         for row, slope in enumerate(slopes):
    ...             found[row, row + 1], found[row, 0] = slope, -slope
    ...         return found.reshape(len(vectors), -1)
    >>> data = gprann.examples.hydrogen(7)
    >>> surrogate = gprann.Surrogate(kernel=InverseSquares()).fit(data)
    >>> bool(abs(surrogate.predict(data).energy - data.energies).max() < 0.05)
    True
    """

    invariant: ClassVar[Literal["rotation", "translation"]] = "rotation"
    fixed_order: ClassVar[bool] = True
    any_composition: ClassVar[bool] = False
    strains: ClassVar[bool] = False
    shift: ClassVar[float] = 1.0
    radial: Radial = option(
        'How the covariance falls with the distance of two fingerprints: "squared_exponential", or "matern52" for '
        "energy surfaces that are rougher.",
        "squared_exponential",
    )

    def features(self, structure: Structure) -> Array:
        """Return the features of a structure, shape (D,)."""
        raise NotImplementedError(f"{type(self).__name__}: define features(structure), or fingerprint()")

    def jacobian(self, structure: Structure) -> Array:
        """Return d(features)/d(positions), shape (D, 3N)."""
        raise NotImplementedError(f"{type(self).__name__}: define jacobian(structure), or fingerprint()")

    def fingerprint(self) -> Fingerprint:
        """Return a fingerprint that has not been fitted yet."""
        return StructureFingerprint(self)

    def candidates(self) -> dict[str, Kernel]:
        """Return the kernels from which the data are to choose, by name: by default this one alone."""
        return {self.name: self}


KERNELS = Registry("kernel", Kernel)
register_kernel = KERNELS.register


@dataclass(frozen=True, slots=True)
class Rows:
    """Features of n structures.

    Attributes
    ----------
    kind_rows : ndarray of int64, shape (n, S + 1)
        The rows of kind s of structure a are kind_rows[a, s] .. kind_rows[a, s + 1] - 1.
    features : ndarray, shape (rows, D)
    gradients : callable
        Takes slopes d(energy)/d(features), shape (rows, D), and returns d(energy)/d(positions), one (N, 3) array per
        structure, and the virials d(energy)/d(strain), (n, 3, 3), or None if the kernel does not know them.
    tangents : callable
        The adjoint of `gradients`: takes displacements, one (N, 3) array per structure, and strains, (n, 3, 3) or
        None, and returns the changes of the features, (rows, D).
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
        """Return the kind of every row, shape (rows,)."""
        counts = np.diff(self.kind_rows, axis=1)
        labels = np.broadcast_to(np.arange(counts.shape[1]), counts.shape)
        return np.repeat(labels.ravel(), counts.ravel())


@dataclass(frozen=True, slots=True)
class Environments:
    """Representative rows of a sparse model, M of them, sorted by kind.

    Attributes
    ----------
    features : ndarray, shape (M, D)
    first : ndarray of int64, shape (S + 1,)
        The first of each of the S kinds, and M.
    """

    features: Array
    first: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.features)

    def rows(self) -> Rows:
        """Return them as structures of a single row each, without positions."""
        index = np.arange(len(self))[:, None]
        kind = np.searchsorted(self.first, index, side="right") - 1
        later = np.arange(len(self.first))[None, :] > kind
        return Rows((index + later).astype(np.int64), self.features, _no_positions, _no_positions)


def _no_positions(*_: object) -> Any:
    raise TypeError("environments are features without positions, which have no gradients")


class Fingerprint(ABC):
    """Features of structures, on the scale that `fit` takes from a training set.

    Parameters
    ----------
    kernel : Kernel
        Its options.

    Attributes
    ----------
    kernel : Kernel
    spread : float
        Root of the summed variance of the features over the training set: the natural unit of kernel lengths.
    likely_lengths, relevance : bool
        Whether lengths of species and of components of the features are to be found from the training set.
    """

    likely_lengths = False
    relevance = False

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self.spread = 1.0

    @property
    def invariant(self) -> str:
        """Rigid motions that do not change the features, see `Kernel`."""
        return self.kernel.invariant

    @property
    def fixed_order(self) -> bool:
        """Whether atom k of one structure is compared with atom k of another; known before `fit`."""
        return self.kernel.fixed_order

    def radial_kernel(self, length: float, *, derivative: bool = False) -> _core.RadialKernel:
        """Return the radial kernel for a length in the units of the features, or its derivative."""
        return _RADIAL_KERNELS[self.kernel.radial](length, derivative, self.kernel.shift)

    def expect(self, species: Sequence[str]) -> None:  # noqa: B027 - options of most kernels name no element
        """Prepare for one of several training sets, which have these elements: options may name any of them.

        Raises
        ------
        ConfigError
            If an option names another element.
        """

    @abstractmethod
    def fit(self, data: Dataset) -> None:
        """Take the scale of the features, and what else the kernel needs to know, from a training set."""

    @abstractmethod
    def rows(self, data: Dataset) -> Rows:
        """Return the features of a data set."""

    @abstractmethod
    def jacobians(self, data: Dataset) -> list[Array]:
        """Return d(features)/d(observed directions), (rows_A D, m_A), for every structure."""

    @property
    def kinds(self) -> tuple[str, ...]:
        """Names of the kinds of rows, where a kernel has several."""
        return ()

    @property
    def local(self) -> bool:
        """Whether rows are environments of atoms, so that `environment_rows` is there: for the solver `sparse`."""
        return False

    def environment_rows(
        self, data: Dataset, environments: Environments, kernel: _core.RadialKernel
    ) -> tuple[Array, Array, NDArray[np.int64]]:
        """Return the covariances of energies and gradients of n structures with the values of M environments.

        Returns
        -------
        energies : ndarray, shape (M, n)
        gradients : ndarray, shape (M, first[-1])
            With respect to the coordinates of each structure, its positions and, where it has a stress, its strains in
            units of `strain_length`.
        first : ndarray of int64, shape (n + 1,)
            The first gradient of each structure.
        """
        raise NotImplementedError(f"the kernel '{self.kernel.name}' is no sum over environments of atoms")

    def stretch_species(self, species_lengths: Mapping[str, float]) -> None:
        """Multiply the kernel lengths of some kinds of rows by factors; of kernels with `likely_lengths` alone."""
        raise NotImplementedError(f"the kernel '{self.kernel.name}' has one length for all species")

    def stretch(self, factors: Array) -> None:
        """Multiply the kernel lengths of the components of each kind, (S, D), by factors; with `relevance` alone."""
        raise NotImplementedError(f"the kernel '{self.kernel.name}' has one length for all components")

    def state(self) -> dict[str, Any]:
        """Return what `fit` has found as plain data and arrays."""
        return {"spread": self.spread}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take what `state` gave."""
        self.spread = float(state["spread"])

    def facts(self) -> dict[str, Any]:
        """Return what is worth telling of what `fit` has found, as plain data."""
        return {}


class StructureFingerprint(Fingerprint):
    """One row per structure, from `features` and `jacobian` of the kernel."""

    def __init__(self, kernel: Kernel) -> None:
        super().__init__(kernel)
        self._symbols: tuple[str, ...] = ()

    def fit(self, data: Dataset) -> None:
        """Take the order of atoms and the spread of the features from a training set."""
        self._symbols = data[0].symbols
        self.prepare(data)
        features = np.array([self.kernel_features(structure) for structure in self._check(data)])
        self._set_spread(features)

    def _set_spread(self, features: Array) -> None:
        self.spread = float(np.sqrt(max(features.var(axis=0).sum(), 1e-24)))

    def prepare(self, data: Dataset) -> None:
        """Take what features need from a training set, before the first of them is computed."""

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take what `state` gave."""
        super().restore(state)
        self._symbols = tuple(state["symbols"])

    def state(self) -> dict[str, Any]:
        """Return the order of the atoms and the spread."""
        return {**super().state(), "symbols": list(self._symbols)}

    def kernel_features(self, structure: Structure) -> Array:
        """Return the features of a structure, (D,)."""
        return np.asarray(self.kernel.features(structure), dtype=np.float64)

    def kernel_jacobian(self, structure: Structure) -> Array:
        """Return d(features)/d(positions), (D, 3N)."""
        return np.ascontiguousarray(self.kernel.jacobian(structure), dtype=np.float64)

    def rows(self, data: Dataset) -> Rows:
        """Return one row per structure."""
        features = [self.kernel_features(structure) for structure in self._check(data)]

        @functools.cache  # may be costly, and is needed again in every iteration of conjugate gradients
        def derivatives() -> list[Array]:
            return [self.kernel_jacobian(structure) for structure in data]

        return single_rows(features, derivatives)

    def jacobians(self, data: Dataset) -> list[Array]:
        """Return the Jacobians along the internal directions."""
        return [
            self.kernel_jacobian(structure) @ internal_directions(structure, self.invariant)
            for structure in self._check(data)
        ]

    def _check(self, data: Dataset) -> Dataset:
        """Return the structures; refuse those whose features cannot be compared with the training set's.

        Raises
        ------
        DataError
        """
        if self.fixed_order:
            require_order(data, self._symbols)
        for structure in data:
            unknown = set(structure.symbols) - set(self._symbols)
            if unknown:
                raise DataError(
                    f"{structure.origin}: {sorted(unknown)[0]} is not in the surrogate's training set"
                )
        return data


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
