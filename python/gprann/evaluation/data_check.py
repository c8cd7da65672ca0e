"""The verdict on a data set before anything is fitted: what it holds, and whether it can be trusted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ase.neighborlist import neighbor_list
from numpy.typing import NDArray

from gprann.data.attachments import is_derived
from gprann.data.strain import volume
from gprann.data.structure import Dataset, evenly_spread
from gprann.io.checks import check_dataset, shared_message
from gprann.io.consistency import LabelCheck
from gprann.io.labels import ReadOptions
from gprann.io.reading import Source, read_all
from gprann.runtime.atomic_write import atomic_write
from gprann.signatures import takes

__all__ = ["DataCheck", "check"]

Array = NDArray[np.float64]
_SHOWN = 6


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
        target = Path(folder).expanduser()
        target.mkdir(parents=True, exist_ok=True)
        files = [target / "check.txt"]
        with atomic_write(files[0]) as stream:
            stream.write(self.summary() + "\n")
        try:
            from gprann.evaluation.plots import data_distributions
        except ImportError:
            return files
        files.append(target / "distributions.png")
        with atomic_write(files[1], "wb") as binary:
            data_distributions(self.data, self.test).savefig(binary, dpi=150, format="png")
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
    problems += shared_message(found.data, tested.data)
    unseen = sorted(set(tested.data.species) - set(found.data.species))
    if unseen:
        problems.append(f"the test structures have elements that the others lack: {', '.join(unseen)}")
    left_out = (*found.left_out, *tested.left_out)
    return DataCheck(found.data, tested.data, tuple(problems), left_out, labels)


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
        ("periodic", _periodicity(data)),
        ("energies", _energies(data)),
        ("forces", _forces(data)),
        ("stresses", _stresses(data)),
        ("groups", _counts(item.group for item in data if item.group)),
        ("origin", _counts(item.origin.method for item in data if item.origin.method != "reference")),
        ("weights", _range(np.array([item.weight for item in data]), "", "") if _vary(data) else ""),
        ("attached", _attached(data)),
    ]
    head = f"{len(data)} {what}: {_counts(item.formula for item in data)}"
    return [head, *(f"  {name:<13}{text}" for name, text in rows if text)]


def _counts(names: Any) -> str:
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
    kinds = Counter("".join("T" if periodic else "F" for periodic in item.pbc) for item in data)
    names = {"TTT": "in all directions", "FFF": "in none"}
    listed = ", ".join(f"{count} {names.get(flags, flags)}" for flags, count in kinds.most_common())
    volumes = np.array([volume(item) for item in data if item.pbc.all()])
    return listed + (f"; cells of {_range(volumes, 'Å³', '')}" if len(volumes) else "")


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


def _attached(data: Dataset) -> str:
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


def distributions(data: Dataset, test: Dataset | None) -> Sequence[tuple[str, Array, Array]]:
    """Return what the plots of a data set show: title with unit, values of the data, and values of the test set."""
    empty = np.zeros(0)
    parts = []
    for title, values in (("energy (eV/atom)", _energy_values), ("force (eV/Å)", _force_values)):
        parts.append((title, values(data), empty if test is None else values(test)))
    shortest = "distance to the nearest atom (Å)"
    parts.append((shortest, _nearest(data), empty if test is None else _nearest(test)))
    return parts


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
