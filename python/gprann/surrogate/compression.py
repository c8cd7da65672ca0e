"""Features for networks: the directions along which the energy of a surrogate changes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from gprann.data.structure import Dataset
from gprann.descriptors import ProjectedDescriptor
from gprann.errors import ConfigError, check_whole
from gprann.runtime.resources import one_blas_thread
from gprann.surrogate.kernels.atoms import AtomsFingerprint

if TYPE_CHECKING:
    from gprann.surrogate.surrogate import Surrogate

_STRUCTURES = 500
"""Structures of the training set whose slopes are looked at."""


@one_blas_thread()
def compress_surrogate(surrogate: Surrogate, *, n_features: int = 48) -> ProjectedDescriptor:
    """Return the few features of a fitted surrogate on which its energy depends most, for networks that learn from it.

    They are the leading directions of the second moments of the slopes dE/dg over the environments of the training set
    (an active subspace: Constantine, Dow, Wang, SIAM J. Sci. Comput. 36, A1500 (2014)), one matrix for each species.

    Parameters
    ----------
    surrogate : Surrogate
        With the kernel `atoms`, fitted.
    n_features : int
        At most as many as the surrogate's own features.

    Returns
    -------
    ProjectedDescriptor

    Raises
    ------
    ConfigError
        If the surrogate has not been fitted, or its kernel does not sum over atoms.

    Examples
    --------
    >>> import gprann
    >>> data = gprann.examples.hydrogen(7)
    >>> few = gprann.compress_surrogate(gprann.Surrogate().fit(data), n_features=4)
    >>> potential = gprann.train(data, few, hidden=(3,), iterations=2, starts=1)
    >>> few.size
    4
    """
    check_whole(1, n_features=n_features)
    fingerprint = surrogate.fingerprint
    if not isinstance(fingerprint, AtomsFingerprint):
        raise ConfigError(
            "compress_surrogate: only surrogates with the kernel 'atoms' have features of atoms"
        )
    data = Dataset(surrogate.training_set[:_STRUCTURES])
    rows = fingerprint.rows(data)
    slopes, kinds = surrogate.feature_slopes(rows), rows.kinds()
    descriptor = fingerprint.descriptor
    size = min(n_features, slopes.shape[1])
    directions = np.zeros((len(descriptor.species), slopes.shape[1], size))
    for kind in np.unique(kinds).tolist():
        own = slopes[kinds == kind]
        vectors = np.linalg.eigh(own.T @ own)[1][:, ::-1][:, :size]
        signs = np.sign(vectors[np.abs(vectors).argmax(axis=0), np.arange(size)])
        directions[kind] = vectors * signs / fingerprint.scale[kind][:, None]
    if not isinstance(descriptor, ProjectedDescriptor):
        offsets = fingerprint.mean
        return ProjectedDescriptor(descriptor.species, base=descriptor, matrices=directions, offsets=offsets)
    matrices = np.matmul(descriptor.matrices, directions)
    return ProjectedDescriptor(
        descriptor.species, base=descriptor.base, matrices=matrices, offsets=descriptor.offsets
    )
