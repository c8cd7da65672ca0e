"""Whether energies, forces and stresses fit each other: their slopes, net forces, frozen atoms, outliers, magnitudes.

Two structures a and b that differ by small displacements u and a small strain e have energies that differ by

    E_b - E_a = -1/2 (F_a + F_b) . u + 1/2 (V_a s_a + V_b s_b) : e      (F forces, V volume, s stress)

up to third order. A regression over near pairs gives slopes of one; other slopes tell wrong units and signs.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from ase.units import Bohr, GPa, Hartree, Rydberg, kcal, kJ, mol
from numpy.typing import NDArray

from gprann.arrays import Array
from gprann.data.neighbours import build_neighbours
from gprann.data.prediction import FIRST, SECOND, volume
from gprann.data.structure import Dataset, Structure, evenly_spread
from gprann.errors import listing

_NEAR = 0.5  # Å; largest displacement of an atom between the structures of a pair
_SMALL_STRAIN = 0.04
_MOST_STRUCTURES, _MOST_NUMBERS = 120, 2_000_000  # of a group that is compared pair by pair
_MOST_PAIRS = 100
_FEWEST_PAIRS = 3
_FEWEST_JUDGED = 4  # structures whose net forces are judged
_NOISE = 1e-3  # eV; of an energy difference
_CORRELATED, _UNCORRELATED = 0.8, 0.6
_LARGE_STRESS = 20.0  # eV/Å³, 3200 GPa: the core of a star
_CONTRADICTION, _FEWEST_NAMED = 4.7, 8  # times the doubt about a pair; pairs without which none is named
_ZERO = 1e-9  # eV/Å
_LISTED = 5

_FORCE_CAUSES = {
    Hartree / Bohr: "the forces are in Hartree/Bohr",
    Rydberg / Bohr: "the forces are in Rydberg/Bohr",
    1 / Bohr: "the forces are in eV/Bohr, or in Hartree/Bohr beside energies in Hartree",
    kcal / mol: "the forces are in kcal/mol/Å",
    kJ / mol: "the forces are in kJ/mol/Å",
    1e-3: "the forces are in meV/Å",
    1 / Hartree: "the energies are in Hartree",
    1 / Rydberg: "the energies are in Rydberg",
    mol / kcal: "the energies are in kcal/mol",
    mol / kJ: "the energies are in kJ/mol",
}
_STRESS_CAUSES = {
    0.1 * GPa: "the stresses are in kbar",
    GPa: "the stresses are in GPa",
    1e-4 * GPa: "the stresses are in bar",
    Hartree / Bohr**3: "the stresses are in Hartree/Bohr³",
    Rydberg / Bohr**3: "the stresses are in Rydberg/Bohr³",
}


@dataclass(frozen=True, slots=True)
class Slope:
    """The slope of energy differences against the work of forces or of stresses.

    Attributes
    ----------
    value : float
        1 where they fit.
    error : float
        What anharmonicity may make of it.
    correlation : float
    n_pairs : int
    """

    value: float
    error: float
    correlation: float
    n_pairs: int

    @property
    def fits(self) -> bool:
        """Whether the slope may be one."""
        if self.value <= 0:
            return self.error > 0.5
        return bool(abs(np.log(self.value)) < np.log1p(0.2 + 3.0 * self.error))

    def __str__(self) -> str:
        return (
            f"{self.value:.3g} (correlation {self.correlation:.2f}, {self.n_pairs} pairs of near structures)"
        )


@dataclass(slots=True)
class LabelCheck:
    """Findings about labels, made without a model.

    Attributes
    ----------
    forces, stress : Slope or None
        None where there are too few near pairs, or no such labels.
    net_force : float, eV/Å
        Largest norm of the sum of the forces of a structure.
    messages : list of str
        What is wrong.
    """

    forces: Slope | None = None
    stress: Slope | None = None
    net_force: float = 0.0
    messages: list[str] = field(default_factory=list)


def list_places(data: Dataset, indices: Sequence[int], most: int = _LISTED) -> str:
    """Return the origins of some structures, as a list for a message."""
    return listing([data[i].origin for i in indices], most)


def check_labels(data: Dataset) -> LabelCheck:
    """Check energies, forces and stresses against each other; costs next to nothing.

    Examples
    --------
    >>> import gprann
    >>> data = gprann.examples.hydrogen(7)
    >>> check_labels(data).forces.fits
    True
    >>> wrong = Dataset(item.replace(forces=-item.forces) for item in data)
    >>> check_labels(wrong).messages[0][:32]
    'the forces have the wrong sign: '
    """
    result = LabelCheck()
    with_forces = [k for k, structure in enumerate(data) if structure.forces is not None]
    odd = _check_forces(data, with_forces, result) if with_forces else set()
    _check_slopes(data, odd, result)
    huge = [
        k
        for k, item in enumerate(data)
        if item.stress is not None and np.abs(item.stress).max() > _LARGE_STRESS
    ]
    if huge:
        largest = max(float(np.abs(data[k].stress).max()) for k in huge)  # type: ignore[arg-type]
        result.messages.append(
            f"{len(huge)} of {len(data)} structures have stresses up to {largest:.3g} eV/Å³, beyond any material "
            f"(1 eV/Å³ is 160 GPa): {list_places(data, huge)}; check their units"
        )
    energies = [item.energy for item in data if item.energy is not None]
    if len(energies) > 1 and not np.any(energies):
        result.messages.append("all energies are 0; give the total energies")
    charges = {tuple(sorted(_charge_and_spin(item).items())) for item in data}
    if len(charges) > 1:
        said = "; ".join(
            ", ".join(f"{name} = {value}" for name, value in item) or "not said"
            for item in sorted(charges, key=str)[:4]
        )
        result.messages.append(
            f"the structures differ in charge or spin ({said}), which the potential does not see: train one for each"
        )
    return result


def electronic_state(structure: Structure) -> tuple[object, ...]:
    """Return what tells apart two calculations of one geometry: charge, spin, initial moments and charges."""
    arrays = (structure.arrays.get(name, np.zeros(0)) for name in ("initial_magmoms", "initial_charges"))
    return (
        tuple(sorted(_charge_and_spin(structure).items())),
        *(array.tobytes() if array.any() else b"" for array in arrays),
    )


def _charge_and_spin(structure: Structure) -> dict[str, float]:
    names = ("charge", "total_charge", "spin", "total_spin", "multiplicity", "spin_multiplicity")
    neutral = {"charge": 0, "total_charge": 0, "multiplicity": 1, "spin_multiplicity": 1}
    found = {
        name: structure.info[name] for name in names if isinstance(structure.info.get(name), int | float)
    }
    return {name: value for name, value in found.items() if value != neutral.get(name)}


# ---------------------------------------------------------------------- forces
def _check_forces(data: Dataset, with_forces: Sequence[int], result: LabelCheck) -> set[int]:
    """Look for net forces, frozen atoms, and forces that are far larger than those of the others or all zero.

    Returns the structures whose forces are known to be wrong.
    """
    forces = [np.asarray(data[k].forces) for k in with_forces]
    sizes = np.array([len(force) for force in forces])
    rms = np.array([np.sqrt((force**2).sum() / len(force)) for force in forces])
    net = np.array([np.linalg.norm(force.sum(axis=0)) for force in forces])
    result.net_force = float(net.max())
    # Forces with errors that know nothing of each other have a net force of sqrt(N) times the error of one.
    unbalanced = (net > 0.3 * np.sqrt(sizes) * rms) & (net > 0.05) & (sizes > 1)
    frozen = _find_frozen(data, with_forces)
    if frozen:
        found, held, n_alike = frozen
        atoms = np.flatnonzero(held.any(axis=1)).tolist()
        listed = ", ".join(map(str, atoms[:_LISTED])) + (", ..." if len(atoms) > _LISTED else "")
        whole = (np.abs(np.asarray(data[found[0]].forces)[atoms]) < _ZERO).all()
        what = "the forces" if whole else "components of the forces"
        result.messages.append(
            f"{what} of {len(atoms)} of {len(held)} atoms ({listed}) are 0 in {len(found)} of {n_alike} structures of "
            f"these atoms ({list_places(data, found, 1)}), which their surroundings do not explain: frozen atoms, "
            "whose forces the program left out; compute the forces without constraints"
        )
    if unbalanced.any() and not frozen and len(with_forces) >= _FEWEST_JUDGED:
        bad = [k for k, is_bad in zip(with_forces, unbalanced, strict=True) if is_bad]
        result.messages.append(
            f"the forces of {len(bad)} of {len(data)} structures do not cancel (net force up to "
            f"{net[unbalanced].max():.3g} eV/Å): {list_places(data, bad)}; forces are missing, come from an external "
            "field, or are not converged"
        )
    odd = _force_outliers(data, with_forces, rms, result)
    return odd | (set(frozen[0]) if frozen else set())


def _find_frozen(
    data: Dataset, with_forces: Sequence[int]
) -> tuple[list[int], NDArray[np.bool_], int] | None:
    """Return structures, the components (N, 3) that are 0 in all of them, and how many structures have these atoms.

    Components that are 0 in three structures or more count, unless numbers were rounded so that many are 0.
    """
    groups: dict[tuple[str, ...], list[int]] = defaultdict(list)
    for k in with_forces:
        groups[data[k].symbols].append(k)
    for members in sorted(groups.values(), key=len, reverse=True):
        sizes = np.abs(np.stack([np.asarray(data[k].forces) for k in members]))
        sizes[sizes < _ZERO] = np.inf
        smallest = sizes.min(axis=(1, 2), keepdims=True)
        zero = np.isinf(sizes) & np.isfinite(smallest)  # where all forces are 0, nothing has been computed
        often = zero.sum(axis=0) >= _FEWEST_PAIRS
        rounded = (np.isfinite(sizes) & (sizes < 1.01 * smallest)).sum() - len(
            members
        )  # more than one smallest each
        if not often.any() or zero.sum() < 4 * rounded:
            continue
        held = zero[int((zero & often).sum(axis=(1, 2)).argmax())] & often
        found = [k for k, own in zip(members, zero, strict=True) if own[held].all()]
        for k in evenly_spread(len(found), _FEWEST_PAIRS).tolist():
            held &= ~_feels_no_force(data[found[k]])
        if held.any() and len(found) >= _FEWEST_PAIRS:
            return found, held, len(members)
    return None


def _force_outliers(data: Dataset, with_forces: Sequence[int], rms: Array, result: LabelCheck) -> set[int]:
    """Find structures with forces far beyond those of the others, or without any."""
    moving = rms > _ZERO
    huge: list[int] = []
    if moving.sum() >= _FEWEST_JUDGED:
        logs = np.log(rms[moving])
        spread = max(0.5, 1.4826 * float(np.median(np.abs(logs - np.median(logs)))))
        limit = float(np.exp(np.median(logs) + np.clip(6.0 * spread, np.log(100.0), np.log(1000.0))))
        huge = [k for k, size in zip(with_forces, rms.tolist(), strict=True) if size > limit]
    if huge:
        result.messages.append(
            f"the forces of {len(huge)} of {len(data)} structures are up to {rms.max() / np.exp(np.median(logs)):.2g} "
            f"times those of the others: {list_places(data, huge)}; check their units"
        )
    still = [
        k for k, size in zip(with_forces, rms.tolist(), strict=True) if size <= _ZERO and len(data[k]) > 1
    ]
    still = [k for k in still if len(with_forces) >= _FEWEST_JUDGED and not _feels_no_force(data[k]).all()]
    if still:
        result.messages.append(
            f"all forces of {len(still)} of {len(data)} structures are 0, which their symmetry does not explain: "
            f"{list_places(data, still)}; they were not computed"
        )
    return {*huge, *still}


def _feels_no_force(structure: Structure) -> NDArray[np.bool_]:
    """Return for each atom and direction (N, 3) whether the surroundings are balanced: then there is no force."""
    neighbours = build_neighbours([structure], 5.0, sorted(set(structure.symbols)))
    weights = np.exp(-np.linalg.norm(neighbours.vectors, axis=1))
    sums = np.zeros((len(structure), 3))
    np.add.at(sums, neighbours.centres, weights[:, None] * neighbours.vectors)
    return np.asarray(np.abs(sums) < 1e-3)


# ---------------------------------------------------------------------- slopes
@dataclass(slots=True)
class _Pairs:
    """Pairs of near structures: energy differences, what forces and stresses make of them, and doubts, eV."""

    energy: list[float] = field(default_factory=list)
    work: list[tuple[float, float]] = field(default_factory=list)
    doubt: list[tuple[float, float]] = field(default_factory=list)
    members: list[tuple[int, int]] = field(default_factory=list)
    distance: list[float] = field(default_factory=list)


def _check_slopes(data: Dataset, odd: set[int], result: LabelCheck) -> None:
    """Regress energy differences on forces and stresses of all structures but the odd ones."""
    pairs = _near_pairs(data, odd)
    if len(pairs.energy) < _FEWEST_PAIRS:
        return
    order = np.argsort(pairs.distance, kind="stable")[:_MOST_PAIRS]
    energy, work, doubt, members = (
        np.array(part)[order] for part in (pairs.energy, pairs.work, pairs.doubt, pairs.members)
    )
    result.forces, result.stress = _slopes(energy, work, doubt)
    typical = data[int(members[0][0])]
    force_causes, stress = {**_FORCE_CAUSES, 1 / len(typical): "the energies are per atom"}, result.stress
    stress_causes = {**_STRESS_CAUSES, 1 / max(volume(typical), 1.0): "the stresses are virials"}
    if _off_alike(result):
        force_causes = {k: text for k, text in force_causes.items() if text.startswith("the energies")}
        stress = None
    n_messages = len(result.messages)
    for what, slope, causes in (
        ("forces", result.forces, force_causes),
        ("stresses", stress, stress_causes),
    ):
        if slope is None:
            continue
        if abs(slope.correlation) >= _CORRELATED and not slope.fits:
            result.messages.append(
                f"{_cause(slope, causes, what)}: energy differences are {slope.value:.3g} times what the {what} make "
                f"of them, expected 1 (correlation {slope.correlation:.2f}, {slope.n_pairs} pairs of near structures)"
            )
        elif abs(slope.correlation) < _UNCORRELATED and slope.n_pairs >= _FEWEST_NAMED and slope.error < 0.3:
            result.messages.append(
                f"energies and {what} hardly fit each other (correlation {slope.correlation:.2f} over {slope.n_pairs} "
                "pairs of near structures): they belong to different structures or levels of theory, or some are wrong"
            )
    if len(result.messages) == n_messages and result.forces is not None and len(energy) >= _FEWEST_NAMED:
        # The trapezoid may be wrong by more than the doubt where the ends agree by accident.
        ends = np.maximum(2.0 * np.abs(work[:, 0]), 12.0 * doubt[:, 0])
        expected = np.sqrt(
            (doubt**2).sum(axis=1) + (0.05 * ends) ** 2 + (0.02 * energy) ** 2 + (5 * _NOISE) ** 2
        )
        excess = np.abs(energy - work.sum(axis=1))
        near = (np.array(pairs.distance)[order] < 0.6 * _NEAR) & (doubt[:, 1] == 0.0)
        bad = (excess > _CONTRADICTION * expected) & near
        _name_contradictions(data, members[bad], float(excess[bad].max(initial=0.0)), result)


def _name_contradictions(
    data: Dataset, members: NDArray[np.int64], largest: float, result: LabelCheck
) -> None:
    """Name pairs (n, 2) of structures whose energy difference is far from what the forces of both make of it."""
    found = sorted({(min(pair), max(pair)) for pair in members.tolist()})
    if not found:
        return
    listed = "; ".join(f"{data[a].origin} and {data[b].origin}" for a, b in found[:_LISTED])
    more = f"; and {len(found) - _LISTED} more" if len(found) > _LISTED else ""
    result.messages.append(
        f"energies and forces of near structures contradict each other in {len(found)} pairs (energy differences are "
        f"off by up to {largest:.2g} eV): {listed}{more}; check the labels of both"
    )


def _off_alike(result: LabelCheck) -> bool:
    """Return whether forces and stresses are off by one factor: then it is the energies that are wrong."""
    a, b = result.forces, result.stress
    return a is not None and b is not None and not a.fits and not b.fits and 0.7 < a.value / b.value < 1.4


def _slopes(energy: Array, work: Array, doubt: Array) -> tuple[Slope | None, Slope | None]:
    """Regress energy differences (n,) on works (n, 2) of forces and stresses at once; doubts (n, 2) weight the pairs.

    A fifth of the pairs, those that fit worst, do not count: a few energies may be of another level.
    """
    columns = [c for c in (0, 1) if (work[:, c] != 0).sum() >= _FEWEST_PAIRS]
    if not columns or np.sqrt(max(np.mean(energy**2), np.mean(work**2))) < 5 * _NOISE:
        return None, None
    x, d = work[:, columns], doubt[:, columns]
    slopes, weights = _weighted_fit(energy, x, d)
    if len(energy) >= 10:
        kept = np.argsort(weights * (energy - x @ slopes) ** 2)[: int(0.8 * len(energy))]
        energy, x, d = energy[kept], x[kept], d[kept]
        slopes, weights = _weighted_fit(energy, x, d)
    scale = np.linalg.norm(x, axis=0) + 1e-300  # of slopes that may differ by the factors of units
    covariance = np.linalg.pinv((x / scale).T @ (weights[:, None] * (x / scale))) / np.outer(scale, scale)
    found: list[Slope | None] = [None, None]
    for place, column in enumerate(columns):
        own = x[:, place]
        rest = energy - np.delete(x, place, axis=1) @ np.delete(slopes, place)
        xy, xx, yy = (float(weights @ product) for product in (own * rest, own * own, rest * rest))
        error = float(np.sqrt(covariance[place, place])) / max(abs(float(slopes[place])), 1e-12)
        if xx > 0 and yy > 0:
            n_pairs = int((own != 0).sum())
            found[column] = Slope(float(slopes[place]), error, xy / float(np.sqrt(xx * yy)), n_pairs)
    return found[0], found[1]


def _weighted_fit(energy: Array, work: Array, doubt: Array) -> tuple[Array, Array]:
    """Return slopes, and weights of pairs by how far energy and work may differ in the units that the slopes say."""
    slopes = _solve(energy, work, np.ones(len(energy)))
    weights = np.ones(len(energy))
    for _ in range(4):
        weights = 1.0 / (((doubt * slopes) ** 2).sum(axis=1) + (0.02 * energy) ** 2 + _NOISE**2)
        slopes = _solve(energy, work, weights)
    return slopes, weights


def _solve(energy: Array, work: Array, weights: Array) -> Array:
    root = np.sqrt(weights)
    scale = np.linalg.norm(root[:, None] * work, axis=0) + 1e-300
    solution = np.linalg.lstsq(root[:, None] * work / scale, root * energy, rcond=1e-6)[0]
    return np.asarray(solution / scale)


def _cause(slope: Slope, causes: dict[float, str], what: str) -> str:
    """Return the likely cause of a slope that is not one."""
    if (what == "forces" and -2.0 < slope.value < -0.5) or (what == "stresses" and -3.0 < slope.value < -0.3):
        return f"the {what} have the wrong sign"
    near = sorted(causes, key=lambda factor: abs(np.log(abs(slope.value) / factor)))
    doubt = min(0.5, 0.25 + 3.0 * slope.error)
    fitting = [factor for factor in near if abs(np.log(abs(slope.value) / factor)) < doubt][:3]
    if not fitting:
        return f"the {what} do not fit the energies"
    sign = ", and have the wrong sign" if slope.value < 0 else ""
    return ", or ".join(causes[factor] for factor in fitting) + sign


def _near_pairs(data: Dataset, odd: set[int]) -> _Pairs:
    """Return each structure with its nearest one of the same atoms, where it is near enough."""
    groups: dict[tuple[object, ...], list[int]] = defaultdict(list)
    for k, structure in enumerate(data):
        if structure.energy is not None and structure.forces is not None and k not in odd:
            charge = tuple(sorted(_charge_and_spin(structure).items()))
            groups[structure.symbols, tuple(structure.pbc.tolist()), charge].append(k)
    pairs = _Pairs()
    partners = max(30, 2 * _MOST_PAIRS // max(1, len(groups)))
    for members in sorted(groups.values(), key=len, reverse=True):
        most = min(_MOST_STRUCTURES, int(np.sqrt(_MOST_NUMBERS / (3 * len(data[members[0]])))))
        if len(members) > most:  # neighbours in a trajectory stay together
            half = evenly_spread(len(members) - 1, max(1, most // 2))
            chosen = np.unique(np.concatenate([half, half + 1])).tolist()
            _add_pairs(data, [members[k] for k in chosen], partners, pairs)
        elif len(members) > 1:
            _add_pairs(data, members, partners, pairs)
        if len(pairs.energy) >= 2 * _MOST_PAIRS:
            break
    return pairs


def _add_pairs(data: Dataset, members: Sequence[int], most: int, pairs: _Pairs) -> None:
    """Add the nearest partner of each structure of a group, of `most` structures."""
    group = [data[k] for k in members]
    positions = np.stack([item.positions for item in group])
    forces = np.stack([np.asarray(item.forces) for item in group])
    cells = np.stack([item.cell for item in group])
    energies = np.array([item.energy for item in group])
    pbc = group[0].pbc
    volumes = np.abs(np.linalg.det(cells))
    for a in evenly_spread(len(group), most).tolist():
        shifts, strains = _differences(a, positions, cells, pbc, volumes)
        shifts = shifts - shifts.mean(axis=1, keepdims=True)
        distance = np.linalg.norm(shifts, axis=2).max(axis=1)
        size = np.abs(strains).max(axis=(1, 2))
        distance[(size > _SMALL_STRAIN) | (distance > _NEAR)] = np.inf
        has_stress = np.array([group[a].stress is not None and item.stress is not None for item in group])
        distance[(size > 1e-6) & ~has_stress] = np.inf
        distance[a] = np.inf
        b = int(np.argmin(distance + 5.0 * size))
        if not np.isfinite(distance[b]):
            continue
        work_a, work_b = (-float((forces[k] * shifts[b]).sum()) for k in (a, b))
        stress = [0.0, 0.0]
        if size[b] > 1e-6:
            stress = [volumes[k] * float((_full(group[k]) * strains[b]).sum()) for k in (a, b)]
        pairs.energy.append(float(energies[b] - energies[a]))
        pairs.work.append((0.5 * (work_a + work_b), 0.5 * (stress[0] + stress[1])))
        # The trapezoid is wrong by a third derivative; by how much the two ends differ tells the order of it.
        pairs.doubt.append((abs(work_a - work_b) / 12.0, abs(stress[0] - stress[1]) / 12.0))
        pairs.members.append((members[a], members[b]))
        pairs.distance.append(float(distance[b] + 5.0 * size[b]))


def _differences(
    a: int, positions: Array, cells: Array, pbc: NDArray[np.bool_], volumes: Array
) -> tuple[Array, Array]:
    """Return displacements (n, N, 3) in the cell of structure a, and strains (n, 3, 3), from it to all."""
    strains = np.zeros((len(positions), 3, 3))
    if not pbc.any() or volumes[a] < 1e-6:
        return positions - positions[a], strains
    inverse = np.linalg.inv(cells[a])
    if pbc.all():
        strains = inverse @ cells - np.eye(3)
        strains[np.abs(strains).max(axis=(1, 2)) < 1e-9] = 0.0
    moved = positions
    changed = np.abs(strains).max(axis=(1, 2)) > 0
    if changed.any():
        moved = positions.copy()
        moved[changed] = positions[changed] @ np.linalg.inv(np.eye(3) + strains[changed])
    fractions = (moved - positions[a]) @ inverse
    fractions -= np.where(pbc, np.round(fractions), 0.0)
    return fractions @ cells[a], 0.5 * (strains + strains.transpose(0, 2, 1))


def _full(structure: Structure) -> Array:
    """Return the stress as a matrix."""
    matrix = np.zeros((3, 3))
    matrix[FIRST, SECOND] = matrix[SECOND, FIRST] = structure.stress
    return matrix
