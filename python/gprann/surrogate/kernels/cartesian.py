"""The kernel `cartesian`: Cartesian coordinates, in one orientation and with every atom in one periodic image.

The fingerprint of Yeu et al., npj Comput. Mater. 11, 156 (2025).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Literal

import numpy as np
from scipy.sparse import csr_array

from gprann.arrays import Array
from gprann.data.structure import Dataset, Structure
from gprann.errors import DataError
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

_REMEDY = "or use the kernel 'atoms', to which this makes no difference"
_TURNED_AWAY = 8.0  # times the median turn of the training set: twelve standard deviations of a component
_FAR = 4.0  # times its median of the largest displacements, ten standard deviations
_DISTANT = 1.0  # Å; displacements below are nothing unusual
_VIBRATION = 0.35  # Å; so far may vibrations, and the displacements of copies, move an atom
_DEGREES = np.array([2.0, 45.0])  # turns below are nothing unusual, turns above are whatever the training set
_IMAGES_APART = 0.6  # of a lattice vector; vibrations and half a cell's diffusion stay below


@register_kernel
class CartesianKernel(Kernel):
    """Cartesian coordinates less their mean.

    The kernel is not invariant: all structures must lie in one orientation, with the same order of atoms. Structures
    that have turned away from the rest, or atoms of which lie far away or in another periodic image, are refused.
    """

    name = "cartesian"
    invariant: ClassVar[Literal["rotation", "translation"]] = "translation"

    def fingerprint(self) -> Fingerprint:
        """Return a fingerprint that has not been fitted yet."""
        return CartesianFingerprint(self)


class CartesianFingerprint(StructureFingerprint):
    """One row per structure: its coordinates less their mean."""

    def prepare(self, data: Dataset) -> None:
        """Take the places of the atoms from a training set."""
        require_order(data, self._symbols)
        self._places = Places.of(data)

    def _check(self, data: Dataset) -> Dataset:
        require_order(data, self._symbols)
        for structure in data:
            self._places.require(structure)
        return data

    def kernel_features(self, structure: Structure) -> Array:
        """Return the coordinates less their mean."""
        return centre(structure.positions).ravel()

    def rows(self, data: Dataset) -> Rows:
        """Return one row per structure."""
        features = [self.kernel_features(structure) for structure in self._check(data)]
        n = len(self._symbols)

        def derivatives() -> list[csr_array]:
            return [csr_array(np.eye(3 * n) - np.tile(np.eye(3), (n, n)) / n)] * len(data)

        return single_rows(features, derivatives)

    def jacobians(self, data: Dataset) -> list[Array]:
        """Return the Jacobians along the internal directions, which are these directions themselves."""
        return [np.ascontiguousarray(internal_directions(structure, self.invariant)) for structure in data]

    def state(self) -> dict[str, Any]:
        """Return the order of the atoms, the spread, and the places of the atoms."""
        return {**super().state(), "places": asdict(self._places)}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take what `state` gave."""
        super().restore(state)
        self._places = Places(**state["places"])


@dataclass(frozen=True, slots=True)
class Places:
    """The places where atoms are expected, and how far away from them they may lie.

    Turns are measured by the displacement that they are of the atoms (root mean square): an angle says nothing of
    linear molecules, and vibrations turn small molecules by more than large ones.

    Attributes
    ----------
    reference : ndarray, shape (N, 3), Å
        Positions relative to their mean.
    largest_turn : float, Å
        Largest root mean square displacement by a turn.
    largest_displacement : float, Å
        Of an atom, relative to most others, the turn apart.
    """

    reference: Array
    largest_turn: float
    largest_displacement: float

    @classmethod
    def of(cls, data: Dataset) -> Places:
        """Take the structure in the middle of a data set, and the scale from how far most others are from it."""
        positions = [centre(structure.positions) for structure in data]
        # Medians, which a few structures that have turned away do not move. That of all orientations is no molecule,
        # but the structure next to it is one.
        median = np.median(positions, axis=0)
        reference = min(positions, key=lambda own: _distance(own, median))
        turns = [_Turn.of(own, reference) for own in positions]
        free = [
            own if structure.pbc.any() else turn.turned
            for structure, own, turn in zip(data, positions, turns, strict=True)
        ]
        distances = [np.linalg.norm(_shift(own, reference), axis=1).max() for own in free]
        largest = max(_FAR * float(np.median(distances)), _DISTANT)
        return cls(reference, _largest_turn(turns, reference), largest)

    def require(self, structure: Structure) -> None:
        """Refuse a structure that has turned away, or atoms of which lie elsewhere or in other periodic images.

        Raises
        ------
        DataError
        """
        own = centre(structure.positions)
        if structure.pbc.any():
            _require_same_images(structure, _shift(own, self.reference))
            self._require_places(structure, own)
        else:
            turn = _Turn.of(own, self.reference)
            self._require_places(structure, turn.turned)
            self._require_orientation(structure, turn)

    def _require_places(self, structure: Structure, own: Array) -> None:
        distances = np.linalg.norm(_shift(own, self.reference), axis=1)
        atom = int(np.argmax(distances))
        if distances[atom] > self.largest_displacement:
            raise DataError(
                f"{structure.origin}: atom {atom} ({structure.symbols[atom]}) lies {distances[atom]:.2f} Å away from "
                f"where it is in the training set, and at most {self.largest_displacement:.2f} Å are to "
                "be expected; leave the structure out, or use the kernel 'atoms'"
            )

    def _require_orientation(self, structure: Structure, turn: _Turn) -> None:
        # Where most of the distance is no turn, the structure is another one.
        if turn.displacement > max(self.largest_turn, turn.after):
            raise DataError(
                f"{structure.origin}: has turned by {turn.degrees:.0f}° from the training set, which "
                f"moves its atoms by {turn.displacement:.2f} Å where at most {self.largest_turn:.2f} Å are to be "
                f"expected, and the kernel 'cartesian' knows one orientation alone; turn all structures into one, "
                f"{_REMEDY}"
            )


def centre(positions: Array) -> Array:
    """Return positions less their mean."""
    result: Array = positions - positions.mean(axis=0)
    return result


def _shift(own: Array, reference: Array) -> Array:
    """Return displacements relative to most atoms: the mean of all moves with those that have jumped."""
    shift = own - reference
    result: Array = shift - np.median(shift, axis=0)
    return result


def _require_same_images(structure: Structure, shift: Array) -> None:
    fractional = np.abs(shift @ np.linalg.pinv(structure.cell)) * structure.pbc
    atom, axis = np.unravel_index(np.argmax(fractional), fractional.shape)
    if fractional[atom, axis] > _IMAGES_APART:
        raise DataError(
            f"{structure.origin}: atom {atom} ({structure.symbols[atom]}) lies "
            f"{fractional[atom, axis]:.2f} lattice vectors (axis {axis}) away from where it is in the "
            f"training set; unwrap the coordinates, {_REMEDY}"
        )


@dataclass(frozen=True, slots=True)
class _Turn:
    """The rotation that brings a structure closest to another (Kabsch, Acta Cryst. A32, 922 (1976)).

    Root mean square distances: by which it moves the structure, and from the other after it, in Å.
    """

    turned: Array
    degrees: float
    displacement: float
    after: float

    @classmethod
    def of(cls, own: Array, reference: Array) -> _Turn:
        left, singular, right = np.linalg.svd(own.T @ reference)
        mirror = np.diag([1.0, 1.0, np.sign(np.linalg.det(left @ right)) or 1.0])
        rotation = left @ mirror @ right
        turned = own @ rotation
        displacement, after = _distance(turned, own), _distance(turned, reference)
        if singular[1] > 1e-6 * singular[0]:
            angle = np.arccos(np.clip((np.trace(rotation) - 1.0) / 2.0, -1.0, 1.0))
        else:  # of a linear molecule the rotation about its axis is any
            angle = 2.0 * np.arcsin(min(1.0, displacement / max(2.0 * _distance(own, 0.0 * own), 1e-12)))
        return cls(turned, float(np.degrees(angle)), displacement, after)


def _largest_turn(turns: list[_Turn], reference: Array) -> float:
    """Return the largest displacement by a turn that is nothing unusual beside those of a training set, Å."""
    # Turns that are large beside the vibrations are no measure of what is usual: such is a set of all orientations.
    usual = min(np.median([turn.displacement for turn in turns]), np.median([turn.after for turn in turns]))
    vibration = _VIBRATION * np.sqrt(3.0 / len(reference))  # three of 3N displacements turn the structure
    lowest, highest = 2.0 * np.sin(np.radians(_DEGREES) / 2.0) * _distance(reference, 0.0 * reference)
    return float(max(vibration, np.clip(_TURNED_AWAY * usual, lowest, highest)))


def _distance(a: Array, b: Array) -> float:
    """Return the root mean square distance of two structures, Å."""
    return float(np.sqrt(np.mean(np.sum((a - b) ** 2, axis=1))))
