"""The kernel `soap`: SOAP vectors of whole structures, by the package dscribe (the optional extra `soap`).

Himanen et al., Comput. Phys. Commun. 247, 106949 (2020); the fingerprint of Yeu et al., npj Comput. Mater. 11,
156 (2025), for the molecule on a surface.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import ase
import numpy as np
from numpy.typing import NDArray
from pydantic import BeforeValidator

from gprann.arrays import Array
from gprann.data.structure import Dataset, Structure
from gprann.errors import ConfigError
from gprann.options import Options, Widths, option
from gprann.surrogate.kernels.base import Fingerprint, Kernel, StructureFingerprint, register_kernel

_PADDING = 3.8  # sigma; dscribe lets the tails of the Gaussians reach so far beyond the cutoff


class SoapOptions(Options):
    """Settings of SOAP, by the names that dscribe gives them.

    Examples
    --------
    >>> SoapOptions(r_cut=4.0, centers=[0, 4])
    SoapOptions(r_cut=4.0, n_max=6, l_max=4, sigma=0.5, centers=(0, 4))
    """

    r_cut: float = option("Cutoff; dscribe's radial functions need more than 1 Å.", 5.0, unit="Å", gt=1)
    n_max: int = option("Number of radial functions.", 6, ge=1)
    l_max: int = option("Largest degree of the spherical harmonics.", 4, ge=0)
    sigma: float = option("Width of the Gaussians on the atoms.", 0.5, unit="Å", gt=0)
    centers: Widths | None = option(
        "Atoms whose environments are compared one by one, in a fixed order of atoms. Default: the mean over the "
        "environments of all atoms.",
        None,
        example=[0, 1],
        min_length=1,
    )


def _table(value: object) -> object:
    """Take the options themselves for a table of them; refuse tables of which none can be made."""
    if isinstance(value, SoapOptions):
        return value.model_dump(exclude_defaults=True, mode="json")
    if not isinstance(value, dict):
        return value
    SoapOptions.from_dict(value)
    return {name: item for name, item in value.items() if item is not None}


SoapTable = Annotated[dict[str, int | float | list[int]], BeforeValidator(_table)]


@register_kernel
class SoapKernel(Kernel):
    """SOAP vectors of whole structures: averaged over all atoms, or at fixed ones side by side (needs dscribe)."""

    name = "soap"
    soap: SoapTable | None = option(
        "Settings of the vectors by the names of dscribe, and the centers to be compared one by one; with auto they "
        "make soap one of the kernels to choose from. Default: the mean over all atoms within 5 Å.",
        None,
        example={"r_cut": 5.0, "n_max": 6, "l_max": 4, "centers": [0, 1]},
    )

    def fingerprint(self) -> Fingerprint:
        """Return a fingerprint that has not been fitted yet."""
        return SoapFingerprint(self)


class SoapFingerprint(StructureFingerprint):
    """One row per structure: SOAP averaged over all atoms, or at fixed ones side by side."""

    _soap: Any = None

    def __init__(self, kernel: SoapKernel) -> None:
        super().__init__(kernel)
        self._options = SoapOptions.from_dict(kernel.soap or {})

    @property
    def fixed_order(self) -> bool:
        """Whether atoms are compared one by one: with fixed centers."""
        return self._options.centers is not None

    def prepare(self, data: Dataset) -> None:
        """Take the species from a training set.

        Raises
        ------
        ImportError
            If dscribe is not installed.
        """
        self._make(data[0].symbols)
        for atom in self._options.centers or ():
            if not 0 <= atom < len(self._symbols):
                raise ConfigError(
                    f"soap: centers has atom {atom}: expected 0 to {len(self._symbols) - 1}, the atoms of "
                    f"{data[0].origin}"
                )

    def _make(self, symbols: Sequence[str]) -> None:
        try:
            from dscribe.descriptors import SOAP
        except ImportError as error:
            raise ImportError("the kernel 'soap' needs dscribe: pip install 'gprann[soap]'") from error
        settings = {name: getattr(self._options, name) for name in ("r_cut", "n_max", "l_max", "sigma")}
        self._soap = SOAP(**settings, species=sorted(set(symbols)))

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take what `state` gave."""
        super().restore(state)
        self._make(self._symbols)

    def kernel_features(self, structure: Structure) -> Array:
        """Return the SOAP vector."""
        return self._features(structure)[0]

    def kernel_jacobian(self, structure: Structure) -> Array:
        """Return its derivatives with respect to the positions."""
        return self._features(structure, derivatives=True)[1]

    def _features(self, structure: Structure, *, derivatives: bool = False) -> tuple[Array, Array]:
        """Return features (D,) and, if asked for, their derivatives (D, 3N)."""
        atoms, owner = _with_images(structure, self._options.r_cut + _PADDING * self._options.sigma)
        centers = self._options.centers
        at = list(range(len(structure)) if centers is None else centers)
        if not derivatives:
            values = self._soap.create(atoms, centers=at)
            return self._join(values), np.zeros((0, 0))
        # (centres, atoms and images, 3, D)
        slopes, values = self._soap.derivatives(atoms, centers=at, attach=True, method="analytical")
        own = np.zeros((slopes.shape[0], len(structure), *slopes.shape[2:]))
        np.add.at(np.moveaxis(own, 1, 0), owner, np.moveaxis(slopes, 1, 0))
        by_feature = np.moveaxis(own.reshape(len(at), 3 * len(structure), -1), 1, 2)
        jacobian = by_feature.mean(axis=0) if centers is None else np.concatenate(by_feature)
        return self._join(values), np.ascontiguousarray(jacobian)

    def _join(self, values: Array) -> Array:
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
