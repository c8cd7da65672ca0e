"""Reference energies: a constant E0 for each atom of an element."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Self, TypeVar

import numpy as np

from gprann.arrays import Array
from gprann.baselines.base import Baseline, Contribution, as_baseline, register_baseline, terms_of
from gprann.data.neighbours import species_indices
from gprann.data.structure import Composition, Dataset, Structure
from gprann.errors import ConfigError
from gprann.options import option

_APART = 6.0  # Å; an atom whose periodic images are no nearer counts as isolated
_SPANNED = 1e-6  # relative length of what linear combinations of compositions leave


@register_baseline
class ReferenceEnergies(Baseline):
    """The sum of the reference energies E0 of the atoms of a structure.

    Parameters
    ----------
    energies : mapping of symbol to eV, optional
        Default: `fit` determines them. The energy of an isolated atom of the data is the E0 of its element; the
        others follow by least squares on the compositions (the solution of smallest norm).

    Notes
    -----
    `fit` shifts all reference energies by the mean energy per atom that remains, so that the model need not learn a
    constant. The differences between given energies stay the same.

    Examples
    --------
    >>> import gprann
    >>> import numpy as np
    >>> data = gprann.examples.hydrogen(7)
    >>> fitted = gprann.ReferenceEnergies().fit(data, ["H"])
    >>> bool(np.isclose(2 * fitted.energies["H"], data.energies.mean()))
    True
    """

    name = "reference_energies"
    reads_attachments = False
    energies: dict[str, float] | None = option(
        "Energy of each element. Default: of isolated atoms in the data, or by least squares on the compositions.",
        None,
        unit="eV/atom",
        example={"C": -1036.1, "H": -13.7, "O": -2043.2},
    )

    def evaluate(self, data: Dataset) -> Contribution:
        """Return the sums of the reference energies.

        Raises
        ------
        DataError
            If an element has none.
        """
        species, values = list(self._require_energies()), np.array(list(self._require_energies().values()))
        per_atom = [values[species_indices(structure, species)] for structure in data]
        return Contribution(count_species(data, species) @ values, atom_energies=per_atom)

    def _require_energies(self) -> Mapping[str, float]:
        if self.energies is None:
            raise ConfigError("the reference energies are not known yet: fit them, or give them")
        return self.energies

    def fit(self, data: Dataset, species: Sequence[str]) -> Self:
        """Return the reference energies of the species, less the mean energy per atom that would be left.

        Raises
        ------
        ConfigError
            If energies were given, and a species is missing or unknown.
        """
        isolated = isolated_atom_energies(data)
        return fit_to_counts(self, count_species(data, species), data.energies, isolated, species)

    def energies_of(self, species: Sequence[str]) -> Array:
        """Return the given energies in the order of the species, shape (S,), eV.

        Raises
        ------
        ConfigError
            If a species is missing or unknown.
        """
        energies = self._require_energies()
        missing = [symbol for symbol in species if symbol not in energies]
        unknown = [symbol for symbol in energies if symbol not in species]
        if missing or unknown:
            names = ", ".join(missing or unknown)
            raise ConfigError(
                f"reference_energies: {names} {'missing' if missing else 'not among the species'}"
            )
        return np.array([energies[symbol] for symbol in species])


def count_species(data: Dataset, species: Sequence[str]) -> Array:
    """Return the number of atoms of each species in each structure, shape (n, S)."""
    return np.array([_counts(structure.symbols, tuple(species)) for structure in data], dtype=float).reshape(
        len(data), len(species)
    )


@lru_cache(maxsize=64)  # for structures that move
def _counts(symbols: tuple[str, ...], species: tuple[str, ...]) -> tuple[int, ...]:
    return tuple(symbols.count(symbol) for symbol in species)


def spanning_compositions(compositions: Iterable[Composition]) -> list[Composition]:
    """Return some of the compositions, of which all others are linear combinations.

    Examples
    --------
    >>> water, hydrogen, oxygen = (("H", 2), ("O", 1)), (("H", 2),), (("O", 2),)
    >>> spanning_compositions([water, hydrogen, oxygen]) == [water, hydrogen]
    True
    """
    kept: list[Composition] = []
    for composition in dict.fromkeys(compositions):
        if not is_spanned(composition, kept):
            kept.append(composition)
    return kept


def is_spanned(composition: Composition, others: Iterable[Composition]) -> bool:
    """Return whether a composition is a linear combination of others.

    The energies of the others then determine the sum of its reference energies; else nothing does.

    Examples
    --------
    >>> water, hydrogen = (("H", 2), ("O", 1)), (("H", 2),)
    >>> is_spanned((("H", 4), ("O", 2)), [water]), is_spanned((("O", 2),), [water])
    (True, False)
    >>> is_spanned((("O", 2),), [water, hydrogen])
    True
    """
    numbers = [dict(one) for one in (composition, *others)]
    symbols = sorted(set().union(*numbers))
    wanted, *rows = np.array([[own.get(symbol, 0) for symbol in symbols] for own in numbers], dtype=float)
    if not rows:
        return False
    known = np.transpose(rows)
    residual = wanted - known @ np.linalg.lstsq(known, wanted, rcond=None)[0]
    return bool(np.linalg.norm(residual) < _SPANNED * np.linalg.norm(wanted))


def isolated_atom_energies(data: Dataset) -> dict[str, float]:
    """Return the mean energy of the isolated atoms of each element that has some, eV.

    Examples
    --------
    >>> atom = Structure(("H",), np.zeros((1, 3)), energy=-13.6)
    >>> isolated_atom_energies(Dataset([atom]))
    {'H': -13.6}
    """
    found: dict[str, list[float]] = {}
    for structure in data:
        if structure.energy is not None and _is_isolated(structure):
            found.setdefault(structure.symbols[0], []).append(structure.energy)
    return {symbol: float(np.mean(energies)) for symbol, energies in found.items()}


def _is_isolated(structure: Structure) -> bool:
    """Return whether a structure is a single atom whose periodic images are far away."""
    if len(structure) > 1:
        return False
    steps = np.stack(np.meshgrid(*3 * [[-1, 0, 1]], indexing="ij"), axis=-1).reshape(-1, 3)
    steps = steps[np.any(steps, axis=1)] * structure.pbc
    distances = np.linalg.norm(steps[np.any(steps, axis=1)] @ structure.cell, axis=1)
    return bool(distances.min(initial=np.inf) > _APART)


R = TypeVar("R", bound=ReferenceEnergies)


def fit_to_counts(
    term: R, counts: Array, energies: Array, isolated: Mapping[str, float], species: Sequence[str]
) -> R:
    """Return reference energies as their `fit` does, of structures of which no more than this is known.

    Parameters
    ----------
    term : ReferenceEnergies
    counts : ndarray, shape (n, S)
        Atoms of each species.
    energies : ndarray, shape (n,), eV
    isolated : mapping of symbol to eV
        Energies of isolated atoms.
    species : sequence of str
    """
    given = term.energies is not None
    values = term.energies_of(species) if given else _fit(counts, energies, isolated, species)
    residuals = energies - counts @ values
    # Without an atom of these species nothing is known, which is an error of the descriptor, not of the energies.
    values = values + float(residuals.sum() / max(counts.sum(), 1))
    return type(term)(energies=dict(zip(species, values.tolist(), strict=True)))


def _fit(counts: Array, energies: Array, isolated: Mapping[str, float], species: Sequence[str]) -> Array:
    """Return E0 of each species, shape (S,), eV: of the isolated atoms, the others by least squares."""
    known = np.array([symbol in isolated for symbol in species])
    values = np.array([isolated.get(symbol, 0.0) for symbol in species])
    if known.any():
        energies = energies - counts[:, known] @ values[known]
    if not known.all():
        values[~known] = np.linalg.lstsq(counts[:, ~known], energies, rcond=None)[0]
    return values


def divide_terms(baseline: Baseline) -> tuple[list[Baseline], list[ReferenceEnergies]]:
    """Return the terms of a baseline that are no reference energies, and those that are."""
    terms = terms_of(baseline)
    references = [term for term in terms if isinstance(term, ReferenceEnergies)]
    return [term for term in terms if not isinstance(term, ReferenceEnergies)], references


def fit_baseline(baseline: Baseline, data: Dataset, species: Sequence[str]) -> Baseline:
    """Return the baseline fitted to the data, with reference energies, which come last, where it has none.

    Raises
    ------
    ConfigError
        If reference energies were given that do not fit the species.
    """
    others, last = divide_terms(baseline)
    return as_baseline([*others, *(last or [ReferenceEnergies()])]).fit(data, species)
