"""Internal directions of a structure: displacements that are no rigid motion.

With an invariant fingerprint the energy gradient along translations (and rotations) vanishes by construction,
so a covariance matrix that observed it would be singular. Gradients are observed along an orthonormal basis
of the rest; stresses as gradients along strains of positions and cell.
"""

from __future__ import annotations

import numpy as np
from scipy.linalg import block_diag

from gprann.arrays import Array
from gprann.data.prediction import volume
from gprann.data.structure import Structure


def rigid_motions(structure: Structure, invariant: str) -> Array:
    """Return an orthonormal basis of the rigid motions of a structure, shape (3N, r).

    Parameters
    ----------
    structure : Structure
    invariant : {'rotation', 'translation'}
        With `rotation`, rotations count as well unless the structure is periodic; r is 6, 5 for atoms on a
        line, 3 for one atom.
    """
    centred = structure.positions - structure.positions.mean(axis=0)
    n = len(structure)
    motions = [np.tile(axis, n) for axis in np.eye(3)]
    if invariant == "rotation" and not structure.pbc.any():
        motions += [np.cross(axis, centred).ravel() for axis in np.eye(3)]
    columns = np.array(motions).T
    norms = np.linalg.norm(columns, axis=0)
    columns = columns / np.where(norms > 0, norms, 1.0)
    left, singular, _ = np.linalg.svd(columns, full_matrices=False)
    return left[:, singular > 1e-6]


def internal_directions(structure: Structure, invariant: str) -> Array:
    """Return an orthonormal basis of the displacements that are no rigid motion, shape (3N, m).

    Examples
    --------
    >>> water = Structure(("O", "H", "H"), np.array([[0.0, 0, 0], [0.76, 0.59, 0], [-0.76, 0.59, 0]]))
    >>> internal_directions(water, "rotation").shape, internal_directions(water, "translation").shape
    ((9, 3), (9, 6))
    """
    rigid = rigid_motions(structure, invariant)
    complete, _ = np.linalg.qr(rigid, mode="complete")
    return np.ascontiguousarray(complete[:, rigid.shape[1] :])


def strain_length(structure: Structure) -> float:
    """Return s = √N (V/N)^(1/3), Å: a strain ε counts as a displacement s ε, a virial W as a gradient W/s.

    That is the virial of independent gradients of unit variance between atoms at their mean distance, so that
    forces and stresses share one noise.
    """
    n = len(structure)
    return float(np.sqrt(n) * np.cbrt(volume(structure) / n))


def observed_directions(structure: Structure, invariant: str) -> Array:
    """Return the directions along which gradients are observed, (3N, m), or with a stress (3N + 6, m + 6).

    They are the internal ones; coordinates of a structure with a stress are its positions, then its strains in
    units of `strain_length`, each of them one direction.
    """
    internal = internal_directions(structure, invariant)
    return internal if structure.stress is None else block_diag(internal, np.eye(6))


def unobserved_motions(structure: Structure, invariant: str) -> Array:
    """Return the rigid motions in the coordinates of `observed_directions`, (3N, r) or (3N + 6, r)."""
    rigid = rigid_motions(structure, invariant)
    return rigid if structure.stress is None else np.vstack([rigid, np.zeros((6, rigid.shape[1]))])
