"""Selection of the structures that are most worth labelling next."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from gprann.arrays import Array
from gprann.data.structure import Dataset
from gprann.errors import ConfigError, DataError
from gprann.io.reading import Source, structures
from gprann.options import Options, option
from gprann.potential import Potential
from gprann.runtime.resources import one_blas_thread
from gprann.signatures import takes
from gprann.surrogate.sets.surrogate_set import SurrogateSet, assign
from gprann.surrogate.solvers.posterior import greedy_variance_reduction

if TYPE_CHECKING:
    from gprann.surrogate.surrogate import Surrogate

_log = logging.getLogger(__name__)
_POOL = 4000  # candidates whose covariance matrix (128 MB) is looked at
_BATCH = 256
_RANGE = 0.5  # of the localisation, relative to the root mean square distance of the candidates


@dataclass(frozen=True, slots=True)
class Selection:
    """Structures chosen to be labelled next, the most informative first.

    Attributes
    ----------
    structures : Dataset
    indices : ndarray of int64, shape (k,)
        Their numbers among the candidates.
    std : ndarray, shape (k,), eV/atom
        Standard deviations of their energies as predicted now.
    std_left : ndarray, shape (k,), eV/atom
        Root mean square standard deviation of all candidates once this structure and those before it are labelled.
    """

    structures: Dataset
    indices: NDArray[np.int64]
    std: Array
    std_left: Array


class SelectOptions(Options):
    """Options of a selection."""

    count: int = option("Structures wanted.", ge=1)
    threshold: float = option(
        "Candidates are left out if their standard deviation is smaller than this once the selected ones are labelled: "
        "the selection may have fewer structures than are wanted, or none.",
        0.0,
        unit="eV/atom",
        ge=0,
    )


@takes(SelectOptions)
@one_blas_thread()
def select(
    candidates: Source,
    model: Surrogate | SurrogateSet | Potential,
    count: int,
    *,
    progress: Callable[[int], object] | None = None,
    **options: Any,
) -> Selection:
    """Select the structures whose labels would tell most about all candidates.

    Greedy variance reduction: the candidate that lowers the summed variance of all energies per atom most is
    taken, the covariance is conditioned on it, and so on (Krause, Singh and Guestrin, J. Mach. Learn. Res. 9, 235
    (2008), with the variance for the mutual information). So of several copies of one uncertain structure only one
    is taken.

    Parameters
    ----------
    candidates : Dataset, or anything that `gprann.read` takes
        Structures, with or without labels. Of more than 4000 the most uncertain are considered.
    model : Surrogate, SurrogateSet or Potential
        Fitted surrogates with their posterior covariance, where structures that different surrogates predict count
        as independent; or a committee with the covariance of its members' energies, which falls with the distance
        of the candidates' descriptors.
    count : int
        Structures wanted.
    progress : callable, optional
        Called with the number of structures selected since the last call.
    **options
        Of `SelectOptions`.

    Returns
    -------
    Selection

    Raises
    ------
    ConfigError
        If an option is impossible, or the potential is a single network.
    DataError
        If there are no candidates, or the model cannot predict one.

    Examples
    --------
    >>> import gprann
    >>> import numpy as np
    >>> data = gprann.examples.hydrogen(41)
    >>> surrogate = gprann.Surrogate(kernel="pairs", length=2.0).fit(data[:3])
    >>> chosen = gprann.select(data, surrogate, 3)
    >>> len(chosen.structures), bool(np.all(np.diff(chosen.std_left) < 0))
    (3, True)
    """
    settings = SelectOptions(count=count, **options)
    candidates = structures(candidates)
    if len(candidates) == 0:
        raise DataError("there are no candidates to select from; give structures")
    pool, covariance, noise = _covariance(candidates, model)
    std = np.sqrt(np.maximum(np.diagonal(covariance), 0.0))
    chosen, left = greedy_variance_reduction(
        covariance, count, noise=noise, threshold=settings.threshold, progress=progress
    )
    if len(chosen) < count:
        _log.info("%d structures selected: the labels of the others would tell no more", len(chosen))
    indices = pool[chosen]
    return Selection(candidates.select(indices), indices, std[chosen], np.sqrt(left / len(pool)))


def _covariance(
    candidates: Dataset, model: Surrogate | SurrogateSet | Potential
) -> tuple[NDArray[np.int64], Array, Array]:
    """Return the candidates considered, their covariance of energies per atom, and the noise of labels, eV²."""
    if isinstance(model, Potential):
        if len(model) < 2:
            raise ConfigError(
                "a single network does not know its uncertainty; train a committee (members > 1), or select by a "
                "surrogate of the training structures (--train on the command line)"
            )
        member_energies = model.predict(candidates).member_energy
        if member_energies is None:  # a committee has them
            raise ConfigError("model: has no members")
        per_atom = member_energies / candidates.n_atoms
        pool = _most_uncertain(per_atom.std(axis=0))
        features = structure_features(candidates.select(pool), model)
        covariance = committee_covariance(per_atom[:, pool], features)
        return pool, covariance, np.full(len(pool), 1e-6 * np.diagonal(covariance).max())
    return _posterior(candidates, model)


def _posterior(
    candidates: Dataset, model: Surrogate | SurrogateSet
) -> tuple[NDArray[np.int64], Array, Array]:
    """Return candidates, covariance and noise as `_covariance` does, by the posterior of surrogates."""
    shares = assign(model, candidates)
    std = np.zeros(len(candidates))
    for share in shares:
        std[share.indices] = share.energy_std()
    n_atoms = candidates.n_atoms
    pool = _most_uncertain(std / n_atoms)
    covariance, noise = np.zeros((len(pool), len(pool))), np.zeros(len(pool))
    for share in shares:
        kept = np.flatnonzero(np.isin(pool, share.indices))
        looked_at = share.part(np.flatnonzero(np.isin(share.indices, pool)))
        covariance[np.ix_(kept, kept)] = share.surrogate.energy_covariance(looked_at.data)
        noise[kept] = share.surrogate.hyperparameters.energy_noise**2
    covariance /= np.outer(n_atoms[pool], n_atoms[pool])
    return pool, covariance, noise / n_atoms[pool] ** 2


def _most_uncertain(std: Array) -> NDArray[np.int64]:
    """Return the indices of the candidates to consider, ascending: the most uncertain ones if there are many."""
    if len(std) <= _POOL:
        return np.arange(len(std))
    _log.info("of %d candidates the %d most uncertain are considered", len(std), _POOL)
    return np.sort(np.argsort(-std, kind="stable")[:_POOL])


def committee_covariance(member_energies: Array, features: Array) -> Array:
    """Return the covariance of the members' energies, localised in the space of the features.

    A few members give a covariance of low rank with chance correlations between structures that have nothing in
    common. Multiplied element by element with exp(-d²/(2 r²)) of the distances d it keeps its diagonal, and
    those correlations go (Houtekamer and Mitchell, Mon. Weather Rev. 129, 123 (2001)).

    Parameters
    ----------
    member_energies : ndarray, shape (members, n), eV
    features : ndarray, shape (n, D)

    Returns
    -------
    ndarray, shape (n, n), eV²

    Examples
    --------
    >>> energies = np.array([[0.0, 1.0], [1.0, 0.0]])
    >>> np.diagonal(committee_covariance(energies, np.array([[0.0], [1.0]]))).tolist()
    [0.25, 0.25]
    """
    deviations = member_energies - member_energies.mean(axis=0)
    covariance: Array = deviations.T @ deviations / len(deviations)
    squares = np.einsum("id,id->i", features, features)
    distances2 = np.maximum(squares[:, None] + squares - 2.0 * features @ features.T, 0.0)
    np.fill_diagonal(distances2, 0.0)
    mean = float(distances2.mean())
    if mean > 0:
        covariance *= np.exp(-distances2 / (2.0 * _RANGE**2 * mean))
    return covariance


def structure_features(data: Dataset, potential: Potential) -> Array:
    """Return the mean standardised descriptor of the atoms of each species, shape (n, species * D)."""
    n_species = len(potential.species)
    parts = [np.zeros((0, n_species * potential.descriptor.size))]
    for values, kinds, sizes in atom_features(data, potential):
        sums = np.zeros((len(sizes), n_species, values.shape[1]))
        np.add.at(sums, (np.repeat(np.arange(len(sizes)), sizes), kinds), values)
        parts.append((sums / sizes[:, None, None]).reshape(len(sizes), -1))
    return np.concatenate(parts)


def atom_features(
    data: Dataset, potential: Potential
) -> Iterator[tuple[Array, NDArray[np.int32], NDArray[np.int64]]]:
    """Yield standardised descriptors and species of atoms, and sizes of structures, some structures at once."""
    for begin in range(0, len(data), _BATCH):
        neighbours = potential.descriptor.neighbours(data[begin : begin + _BATCH])
        values = potential.normalisation.apply(potential.descriptor.values(neighbours), neighbours.species)
        yield values, neighbours.species, np.diff(neighbours.first_atom)
