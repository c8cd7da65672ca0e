"""The kernel `pairs`: inverse powers of the distances of all pairs of atoms, in a fixed order of atoms."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from scipy.sparse import csr_array

from gprann import _core
from gprann.arrays import Array
from gprann.data.neighbours import build_neighbours
from gprann.data.structure import Dataset
from gprann.errors import DataError
from gprann.options import option
from gprann.surrogate.kernels.base import (
    Fingerprint,
    Kernel,
    Rows,
    StructureFingerprint,
    register_kernel,
    require_order,
    single_rows,
)
from gprann.surrogate.kernels.internal_coordinates import internal_directions


@register_kernel
class PairsKernel(Kernel):
    """Inverse powers of the distances of all pairs of atoms, in a fixed order of atoms.

    Features are r**-exponent; in periodic structures sums over images of f_c(r)² r**-exponent within the cutoff.

    Examples
    --------
    >>> import gprann
    >>> gprann.PairsKernel(exponent=2)
    PairsKernel(radial='squared_exponential', exponent=2.0, cutoff=7.0)
    """

    name = "pairs"
    exponent: float = option("Inverse power of the distances.", 1.0, gt=0)
    cutoff: float = option("Cutoff of the distances in periodic structures.", 7.0, unit="Å", gt=0)

    def fingerprint(self) -> Fingerprint:
        """Return a fingerprint that has not been fitted yet."""
        return PairsFingerprint(self)


class PairsFingerprint(StructureFingerprint):
    """One row per structure: inverse powers of the distances."""

    kernel: PairsKernel
    _periodic = False

    def fit(self, data: Dataset) -> None:
        """Take the order of atoms and the spread of the features from the training set."""
        self._symbols = data[0].symbols
        self._periodic = any(structure.pbc.any() for structure in data)
        if len(self._symbols) < 2:
            raise DataError(f"{data[0].origin}: a single atom has no pairs; use the kernel 'atoms'")
        self._set_spread(np.array([value for value, _ in self._evaluate(data)]))

    def _evaluate(self, data: Dataset) -> Iterator[tuple[Array, Array]]:
        """Yield features and Jacobian of each structure."""
        require_order(data, self._symbols)
        for structure in data:
            # Its features would be sums over images without a cutoff.
            if structure.pbc.any() and not self._periodic:
                raise DataError(
                    f"{structure.origin}: is periodic, the training set of the surrogate is not; "
                    "fit one surrogate for each, or use the kernel 'atoms'"
                )
        extent = max(float(np.ptp(structure.positions, axis=0).max()) for structure in data)
        reach = self.kernel.cutoff if self._periodic else 2.0 * extent + 1.0
        neighbours = build_neighbours(data, reach, data.species)
        cutoff = self.kernel.cutoff if self._periodic else 0.0
        for index in range(len(data)):
            yield _core.pair_distances(neighbours.core, index, self.kernel.exponent, cutoff)

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

    def state(self) -> dict[str, Any]:
        """Return the order of the atoms, the spread, and whether structures are periodic."""
        return {**super().state(), "periodic": self._periodic}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take what `state` gave."""
        super().restore(state)
        self._periodic = bool(state["periodic"])
