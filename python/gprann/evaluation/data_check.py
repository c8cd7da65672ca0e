"""The verdict on a data set before anything is fitted: what it holds, and whether it can be trusted."""

from __future__ import annotations

import importlib.util
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from ase.data import atomic_numbers
from ase.neighborlist import neighbor_list
from numpy.typing import NDArray

from gprann.arrays import Array
from gprann.data.attachments import is_derived
from gprann.data.neighbours import build_neighbours
from gprann.data.prediction import volume
from gprann.data.structure import Dataset, Structure, evenly_spread
from gprann.io.checks import check_dataset, find_duplicates
from gprann.io.consistency import LabelCheck
from gprann.io.labels import ReadOptions
from gprann.io.reading import Source, read_all
from gprann.runtime.atomic_write import atomic_write, make_folder
from gprann.signatures import takes

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_SHOWN = 6
_SAME_ENERGY, _SAME_LENGTH = 1e-4, 2e-4  # eV, Å; of structures that are the same


@dataclass(frozen=True, slots=True, repr=False)
class DataCheck:
    """The verdict on a data set. Printed, it is a page of text.

    Attributes
    ----------
    data : Dataset
    test : Dataset or None
    problems : tuple of str
        What to look at, empty where nothing is suspicious.
    left_out : tuple of str
        Calculations that cannot be used, and why; with `skip_bad` only.
    labels : LabelCheck
        How energies, forces and stresses fit each other.
    """

    data: Dataset
    test: Dataset | None
    problems: tuple[str, ...]
    left_out: tuple[str, ...]
    labels: LabelCheck

    def __repr__(self) -> str:
        return f"DataCheck({self.data!r}: {len(self.problems)} problems)"

    def __str__(self) -> str:
        return self.summary()

    def summary(self) -> str:
        """Return the verdict as text."""
        lines = _describe(self.data, "structures")
        lines += _judge_units(self.labels)
        if self.test is not None:
            lines += ["", *_describe(self.test, "test structures")]
        if not self.problems:
            return "\n".join([*lines, "", "nothing suspicious was found"])
        counted = f"{len(self.problems)} finding{'s' if len(self.problems) > 1 else ''} to look at:"
        return "\n".join([*lines, "", counted, *(f"{n}. {text}" for n, text in enumerate(self.problems, 1))])

    def save(self, folder: str | Path) -> list[Path]:
        """Write the text, and plots of the distributions where matplotlib is installed; return the files.

        Raises
        ------
        WriteError
            If a file cannot be written.
        """
        target = make_folder(folder)
        files = [target / "check.txt"]
        with atomic_write(files[0]) as stream:
            stream.write(self.summary() + "\n")
        if importlib.util.find_spec("matplotlib") is not None:
            files.append(target / "distributions.png")
            with atomic_write(files[1], "wb") as binary:
                draw_distributions(self.data, self.test).savefig(binary, dpi=150, format="png")
        return files


@takes(ReadOptions)
def check(
    data: Source, *, test: Source | None = None, output: str | Path | None = None, **options: Any
) -> DataCheck:
    """Look at a data set without fitting anything.

    Parameters
    ----------
    data : path, folder, glob pattern, Dataset, ..., as for `gprann.read`
    test : the same, optional
        Structures that are to be predicted; those that are among `data` too are named.
    output : path, optional
        Folder for the text and plots of the distributions.
    **options
        Of `ReadOptions`, as for `gprann.read`.

    Returns
    -------
    DataCheck

    Raises
    ------
    DataError
        If a file cannot be used.

    Examples
    --------
    >>> import gprann
    >>> print(gprann.check(gprann.examples.hydrogen(7)).summary().splitlines()[0])
    7 structures: 7 x H2
    """
    result = read_and_check(data, test, ReadOptions(**options), require=())
    if output is not None:
        result.save(output)
    return result


def read_and_check(
    data: Source, test: Source | None, options: ReadOptions, *, require: Sequence[str] = ("energy",)
) -> DataCheck:
    """Read a data set, and perhaps a test set, and return the verdict on them.

    Raises
    ------
    DataError
        If a file cannot be used, or a structure lacks a label that `require` names.
    """
    found = read_all(data, options, require=require)
    report = found.report or check_dataset(found.data)
    known = () if found.report else report.messages
    problems = [*found.messages, *known, *_missing_labels(found.data)]
    labels = report.labels
    if test is None:
        return DataCheck(found.data, None, tuple(problems), found.left_out, labels)
    tested = read_all(test, options, require=require)
    problems += [f"test set: {message}" for message in tested.messages]
    problems += _shared_message(found.data, tested.data)
    unseen = sorted(set(tested.data.species) - set(found.data.species))
    if unseen:
        problems.append(f"the test structures have elements that the others lack: {', '.join(unseen)}")
    left_out = (*found.left_out, *tested.left_out)
    return DataCheck(found.data, tested.data, tuple(problems), left_out, labels)


def shared_structures(train: Dataset, test: Dataset) -> list[tuple[int, int]]:
    """Return pairs of indices of structures of a test set and the same ones of the training set.

    Structures are the same up to a translation and the choice of periodic images. Where the energies are the same, they
    may also be rotated, in another order of atoms, in another cell of the lattice, or rounded to four decimals.

    Examples
    --------
    >>> import gprann
    >>> data = gprann.examples.hydrogen(7)
    >>> shared_structures(data[:5], data[4:])
    [(0, 4)]
    """
    found: dict[int, int] = {}
    for group in find_duplicates(train + test):
        known = [index for index in group if index < len(train)]
        found |= {index - len(train): known[0] for index in group if index >= len(train) and known}
    alike: dict[tuple[object, ...], list[tuple[float, int]]] = defaultdict(list)
    for index, item in enumerate(train):
        if item.energy is not None:
            alike[item.composition, item.pbc.tobytes()].append((item.energy, index))
    ordered = {key: sorted(items) for key, items in alike.items()}
    compared = _Fingerprints(train)
    for index, item in enumerate(test):
        if index in found or item.energy is None:
            continue
        candidates = ordered.get((item.composition, item.pbc.tobytes()), [])
        first = bisect_left(candidates, (item.energy - _SAME_ENERGY, -1))
        for energy, known_index in candidates[first:]:
            if energy > item.energy + _SAME_ENERGY:
                break
            if compared.same(known_index, item):
                found[index] = known_index
                break
    return sorted(found.items())


class _Fingerprints:
    """Compares structures with those of a data set by numbers that do not depend on how the atoms are written down."""

    def __init__(self, data: Dataset) -> None:
        self.data = data
        self.kept: dict[int, tuple[Array, Array]] = {}

    def same(self, index: int, other: Structure) -> bool:
        """Return whether structure `index` has the geometry of another one."""
        if index not in self.kept:
            self.kept[index] = _fingerprint(self.data[index])
        (values, scales), (theirs, _) = self.kept[index], _fingerprint(other)
        return bool((np.abs(values - theirs) <= _SAME_LENGTH * scales + 1e-9).all())


def _fingerprint(structure: Structure) -> tuple[Array, Array]:
    """Return sums over pairs of functions of their distances, and by how much they change for 1 Å of noise.

    Sums of the vectors of each atom's surroundings make the difference where distances change in second order only: one
    displaced atom of a perfect crystal.
    """
    cutoff = 5.0 if structure.pbc.any() else 50.0
    neighbours = build_neighbours([structure], cutoff, sorted(set(structure.symbols)))
    numbers = np.array([atomic_numbers[symbol] for symbol in structure.symbols], dtype=np.float64)
    i, j = neighbours.centres, neighbours.neighbour
    distance = np.linalg.norm(neighbours.vectors, axis=1)
    window = 1.0 - (distance / cutoff) ** 2
    values, scales = [], []
    for weight in (np.ones(len(i)), numbers[i] * numbers[j], np.abs(numbers[i] - numbers[j])):
        for width in (0.5, 1.5, 5.0):
            decay = weight * np.exp(-distance / width)
            slope = decay * window * (window / width + 4.0 * distance / cutoff**2)
            sums = np.zeros((len(structure), 3))
            np.add.at(sums, i, (decay * window**2)[:, None] * neighbours.vectors)
            values += [float((decay * window**2).sum()), float(np.linalg.norm(sums))]
            scales += [float(np.linalg.norm(slope)), float(np.linalg.norm(slope * distance + decay))]
    return np.array(values), np.array(scales)


def _shared_message(train: Dataset, test: Dataset) -> list[str]:
    """Return what to say of test structures that are in the training set; nothing if there are none."""
    shared = shared_structures(train, test)
    if not shared:
        return []
    indices = ", ".join(str(index) for index, _ in shared[:20]) + (", ..." if len(shared) > 20 else "")
    first, second = test[shared[0][0]].origin, train[shared[0][1]].origin
    return [
        f"{len(shared)} of {len(test)} test structures are in the training set too (test structures {indices}; "
        f"{first} is {second}, perhaps rotated or with its atoms in another order): their errors are no test errors; "
        "remove them from one of the sets"
    ]


def _missing_labels(data: Dataset) -> list[str]:
    found = []
    for label in ("energy", "forces"):
        without = [k for k, item in enumerate(data) if getattr(item, label) is None]
        if without and (label == "energy" or len(without) == len(data)):
            found.append(f"{len(without)} of {len(data)} structures have no {label}")
    return found


def _describe(data: Dataset, what: str) -> list[str]:
    """Return what a data set holds, line by line."""
    formulas = Counter(item.formula for item in data)
    rows = [
        ("elements", ", ".join(data.species)),
        ("compositions", f"{len(formulas)}" if len(formulas) > _SHOWN else ""),
        ("atoms", _range(data.n_atoms, "", "of a structure")),
        ("boundaries", _periodicity(data)),
        ("energies", _energies(data)),
        ("forces", _forces(data)),
        ("stresses", _stresses(data)),
        ("groups", _counts(item.group for item in data if item.group)),
        ("origin", _counts(item.origin.method for item in data if item.origin.method != "reference")),
        ("weights", _range(np.array([item.weight for item in data]), "", "") if _vary(data) else ""),
        ("other data", _list_attachments(data)),
    ]
    head = f"{len(data)} {what}: {_counts(item.formula for item in data)}"
    return [head, *(f"  {name:<13}{text}" for name, text in rows if text)]


def _counts(names: Iterable[str]) -> str:
    counted = Counter(names)
    more = f", and {len(counted) - _SHOWN} more" if len(counted) > _SHOWN else ""
    return ", ".join(f"{count} x {name}" for name, count in counted.most_common(_SHOWN)) + more


def _range(values: NDArray[Any], unit: str, rest: str) -> str:
    low, high = float(values.min()), float(values.max())
    text = f"{low:.6g}" if low == high else f"{low:.6g} to {high:.6g}"
    return " ".join(part for part in (text, unit, rest) if part)


def _vary(data: Dataset) -> bool:
    return any(item.weight != 1.0 for item in data)


def _periodicity(data: Dataset) -> str:
    kinds = Counter(tuple(item.pbc.tolist()) for item in data)
    listed = ", ".join(f"{count} {_boundaries(pbc)}" for pbc, count in kinds.most_common())
    volumes = np.array([volume(item) for item in data if item.pbc.all()])
    return listed + (f"; cells of {_range(volumes, 'Å³', '')}" if len(volumes) else "")


def _boundaries(pbc: Sequence[bool]) -> str:
    if all(pbc):
        return "periodic in all directions"
    along = " and ".join(axis for axis, periodic in zip("abc", pbc, strict=True) if periodic)
    return f"periodic along {along}" if along else "not periodic"


def _energies(data: Dataset) -> str:
    energies = np.array([item.energy / len(item) for item in data if item.energy is not None])
    if not len(energies):
        return "none"
    missing = len(data) - len(energies)
    return _range(energies, "eV/atom", "") + (f"; {missing} structures without" if missing else "")


def _forces(data: Dataset) -> str:
    forces = [np.asarray(item.forces) for item in data if item.forces is not None]
    if not forces:
        return "none"
    components = np.concatenate(forces)
    norms = np.linalg.norm(components, axis=1)
    net = max(float(np.linalg.norm(force.sum(axis=0))) for force in forces)
    missing = len(data) - len(forces)
    return (
        f"root mean square {np.sqrt(np.mean(components**2)):.3g}, largest {norms.max():.3g}, net up to {net:.2g} eV/Å"
        + (f"; {missing} structures without" if missing else "")
    )


def _stresses(data: Dataset) -> str:
    stresses = [np.asarray(item.stress) for item in data if item.stress is not None]
    if not stresses:
        return ""
    return f"largest {np.abs(np.array(stresses)).max():.3g} eV/Å³, of {len(stresses)} structures"


def _list_attachments(data: Dataset) -> str:
    names = Counter(
        name for item in data for name in (*item.info, *item.arrays) if not is_derived(name)
    ) + Counter("constraints" for item in data if item.constraints)
    return ", ".join(f"{name} ({count})" for name, count in names.most_common(_SHOWN))


def _judge_units(labels: LabelCheck) -> list[str]:
    """Say what the slopes tell about units and signs."""
    lines = []
    for what, slope, unit in (("forces", labels.forces, "eV/Å"), ("stresses", labels.stress, "eV/Å³")):
        if slope is None or slope.error > 0.5:
            continue
        verdict = f"{what} are in {unit} and fit" if slope.fits else f"{what} do not fit"
        lines.append(f"  {'units':<13}{verdict} the energies: slope {slope}")
    if not lines:
        lines.append(f"  {'units':<13}not judged: too few pairs of near structures")
    return lines


def draw_distributions(data: Dataset, test: Dataset | None = None) -> Figure:
    """Plot the distributions of energies, forces and shortest distances of a data set, and those of a test set.

    Raises
    ------
    ImportError
        If matplotlib is not installed.

    Examples
    --------
    >>> import gprann
    >>> [axes.get_xlabel() for axes in draw_distributions(gprann.examples.hydrogen(7)).axes]
    ['energy (eV/atom)', 'force (eV/Å)', 'distance to the nearest atom (Å)']
    """
    from gprann.evaluation.drawing import BLUE, ORANGE, legend, new_axes, new_figure

    parts: dict[str, Callable[[Dataset], Array]] = {
        "energy (eV/atom)": _energy_values,
        "force (eV/Å)": _force_values,
        "distance to the nearest atom (Å)": _nearest,
    }
    figure = new_figure(3.4 * len(parts), 2.9)
    grid = figure.add_gridspec(1, len(parts))
    for place, (title, values_of) in enumerate(parts.items()):
        values, tested = values_of(data), values_of(test or Dataset())
        axes = new_axes(figure, grid[place])
        both = np.concatenate([values, tested])
        bins = np.histogram_bin_edges(both, bins=min(60, max(5, int(np.sqrt(len(both)))))).tolist()
        axes.hist(values, bins=bins, color=BLUE, label="data")
        if len(tested):
            axes.hist(tested, bins=bins, color=ORANGE, histtype="step", lw=1.5, label="test")
            legend(axes)
        axes.set(xlabel=title, ylabel="structures" if place == 0 else "atoms")
        axes.locator_params(nbins=5)
        if place == 0:
            axes.locator_params(axis="x", nbins=3)  # total energies have many digits
        axes.ticklabel_format(axis="x", useOffset=False)
        if len(values):
            axes.set_yscale("log" if place == 1 else "linear")
    return figure


def _energy_values(data: Dataset) -> Array:
    return np.array([item.energy / len(item) for item in data if item.energy is not None])


def _force_values(data: Dataset) -> Array:
    forces = [np.linalg.norm(np.asarray(item.forces), axis=1) for item in data if item.forces is not None]
    return np.concatenate(forces) if forces else np.zeros(0)


def _nearest(data: Dataset) -> Array:
    """Return the distance of each atom to its nearest one, of 200 structures at most."""
    found = []
    for index in evenly_spread(len(data), 200):
        i, distances = neighbor_list("id", data[int(index)].to_ase(), 4.0)
        nearest = np.full(len(data[int(index)]), np.inf)
        np.minimum.at(nearest, i, distances)
        found.append(nearest[np.isfinite(nearest)])
    return np.concatenate(found) if found else np.zeros(0)
