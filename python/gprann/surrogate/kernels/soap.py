"""SOAP fingerprints of whole structures, by the package dscribe (the optional extra `soap`).

Himanen et al., Comput. Phys. Commun. 247, 106949 (2020); the fingerprint of Yeu et al., npj Comput. Mater. 11,
156 (2025), for the molecule on a surface.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import ase
import numpy as np
from numpy.typing import NDArray

from gprann.data.structure import Dataset, Structure
from gprann.errors import ConfigError, DataError, nearest_name
from gprann.surrogate.kernels.fingerprints import Rows, require_order, single_rows
from gprann.surrogate.kernels.internal_coordinates import internal_directions

__all__ = ["SoapFingerprint", "SoapOptions"]

Array = NDArray[np.float64]
_PADDING = 3.8  # sigma; dscribe lets the tails of the Gaussians reach so far beyond the cutoff


@dataclass(frozen=True, slots=True)
class SoapOptions:
    """Settings of SOAP, by the names that dscribe gives them.

    Attributes
    ----------
    r_cut : float, Å
    n_max, l_max : int
        Number of radial functions and largest degree of the spherical harmonics.
    sigma : float, Å
        Width of the Gaussians on the atoms.
    centers : sequence of int, optional
        Atoms whose environments are compared one by one, in a fixed order of atoms. Default: the mean over
        the environments of all atoms.
    """

    r_cut: float = 5.0
    n_max: int = 6
    l_max: int = 4
    sigma: float = 0.5
    centers: Sequence[int] | None = None

    def __post_init__(self) -> None:
        for name in ("r_cut", "sigma"):
            if not (np.isfinite(getattr(self, name)) and getattr(self, name) > 0):
                raise ConfigError(f"soap: {name} = {getattr(self, name)}: expected a positive distance in Å")
        if self.r_cut <= 1.0:
            raise ConfigError(f"soap: r_cut = {self.r_cut}: dscribe's radial functions need more than 1 Å")
        for name, lowest in (("n_max", 1), ("l_max", 0)):
            value = getattr(self, name)
            if not isinstance(value, int | np.integer) or value < lowest:
                raise ConfigError(f"soap: {name} = {value!r}: expected a whole number of at least {lowest}")
        if self.centers is not None and len(self.centers) == 0:
            raise ConfigError("soap: centers is empty: give the indices of atoms, or leave it out for all")

    @classmethod
    def make(cls, options: SoapOptions | Mapping[str, Any] | None) -> SoapOptions:
        """Make options from a mapping.

        Raises
        ------
        ConfigError
            If a name is unknown or a value impossible.
        """
        if isinstance(options, SoapOptions):
            return options
        names = [item.name for item in fields(cls)]
        for name in options or {}:
            if name not in names:
                raise ConfigError(f"soap: {name}: {nearest_name(name, names)}")
        return cls(**(options or {}))


class SoapFingerprint:
    """One row per structure: SOAP averaged over all atoms, or at fixed ones side by side.

    Parameters
    ----------
    options : SoapOptions
    """

    invariant = "rotation"
    strains = False
    shift = 1.0

    def __init__(self, options: SoapOptions) -> None:
        self._options = options
        self._symbols: tuple[str, ...] = ()
        self._soap: Any = None
        self._spread = 1.0

    @property
    def fixed_order(self) -> bool:
        """Whether atoms are compared one by one: those of fixed centers."""
        return self._options.centers is not None

    @property
    def spread(self) -> float:
        """Root of the summed variance of the features."""
        return self._spread

    def fit(self, data: Dataset) -> None:
        """Take species, order of atoms and spread of the features from the training set.

        Raises
        ------
        ImportError
            If dscribe is not installed.
        """
        try:
            from dscribe.descriptors import SOAP
        except ImportError as error:
            raise ImportError("the kernel 'soap' needs dscribe: pip install 'gprann[soap]'") from error
        options = self._options
        self._soap = SOAP(
            r_cut=options.r_cut,
            n_max=options.n_max,
            l_max=options.l_max,
            sigma=options.sigma,
            species=sorted(data.species),
        )
        self._symbols = data[0].symbols
        for atom in options.centers or ():
            if not 0 <= atom < len(self._symbols):
                raise ConfigError(
                    f"soap: centers has atom {atom}: expected 0 to {len(self._symbols) - 1}, the atoms of "
                    f"{data[0].origin}"
                )
        features = np.array([self._features(structure)[0] for structure in self._checked(data)])
        self._spread = float(np.sqrt(max(features.var(axis=0).sum(), 1e-24)))

    def rows(self, data: Dataset) -> Rows:
        """Return one row per structure."""
        features = [self._features(structure)[0] for structure in self._checked(data)]

        @functools.cache  # costly, and needed again in every iteration of conjugate gradients
        def derivatives() -> list[Array]:
            return [self._features(structure, derivatives=True)[1] for structure in data]

        return single_rows(features, derivatives)

    def jacobians(self, data: Dataset) -> list[Array]:
        """Return the Jacobians along the internal directions."""
        return [
            self._features(structure, derivatives=True)[1] @ internal_directions(structure, self.invariant)
            for structure in self._checked(data)
        ]

    def _checked(self, data: Dataset) -> Dataset:
        if self._options.centers is not None:
            require_order(data, self._symbols)
        for structure in data:
            unknown = set(structure.symbols) - set(self._symbols)
            if unknown:
                raise DataError(
                    f"{structure.origin}: {sorted(unknown)[0]} is not in the surrogate's training set"
                )
        return data

    def _features(self, structure: Structure, *, derivatives: bool = False) -> tuple[Array, Array]:
        """Return features (D,) and, if asked for, their derivatives (D, 3N)."""
        atoms, owner = _with_images(structure, self._options.r_cut + _PADDING * self._options.sigma)
        centers = self._options.centers
        at = list(range(len(structure)) if centers is None else centers)
        if not derivatives:
            values = self._soap.create(atoms, centers=at)
            return self._joined(values), np.zeros((0, 0))
        # (centres, atoms and images, 3, D)
        slopes, values = self._soap.derivatives(atoms, centers=at, attach=True, method="analytical")
        own = np.zeros((slopes.shape[0], len(structure), *slopes.shape[2:]))
        np.add.at(np.moveaxis(own, 1, 0), owner, np.moveaxis(slopes, 1, 0))
        by_feature = np.moveaxis(own.reshape(len(at), 3 * len(structure), -1), 1, 2)
        jacobian = by_feature.mean(axis=0) if centers is None else np.concatenate(by_feature)
        return self._joined(values), np.ascontiguousarray(jacobian)

    def _joined(self, values: Array) -> Array:
        joined: Array = values.mean(axis=0) if self._options.centers is None else values.ravel()
        return joined


def _with_images(structure: Structure, reach: float) -> tuple[ase.Atoms, NDArray[np.int64]]:
    """Return the atoms and all their periodic images within reach as free atoms, and whose image each is.

    dscribe has analytic derivatives without periodic boundaries alone; those of an atom are the sums over its
    images.
    """
    positions = structure.positions
    shifts = [np.zeros(3)]
    if structure.pbc.any():
        inverse = np.linalg.pinv(structure.cell)  # reciprocal vectors as columns
        extent = np.ptp(positions @ inverse, axis=0)
        counts = np.ceil(reach * np.linalg.norm(inverse, axis=0) + extent).astype(int) * structure.pbc
        steps = itertools.product(*(range(-count, count + 1) for count in counts))
        shifts += [np.array(step) @ structure.cell for step in steps if any(step)]
    every, owner = [positions], [np.arange(len(structure))]
    for shift in shifts[1:]:
        moved = positions + shift
        distance = np.linalg.norm(moved[:, None] - positions, axis=2).min(axis=1)
        near = np.flatnonzero(distance < reach)
        every.append(moved[near])
        owner.append(near)
    owners = np.concatenate(owner)
    symbols = [structure.symbols[atom] for atom in owners]
    return ase.Atoms(symbols, positions=np.concatenate(every)), owners
