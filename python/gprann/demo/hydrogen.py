"""Four ways to a potential for H2 from seven structures, beside the numbers of the paper.

Yeu et al., npj Comput. Mater. 11, 156 (2025), Fig. 2: energies alone, Taylor-ANN, GPR-ANN and direct force training,
each a committee with the same network, descriptor and options of training.
"""

from __future__ import annotations

import importlib.util
import json
import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gprann import examples
from gprann.augmentation import label, taylor_labels
from gprann.augmentation.displacements import displace
from gprann.data.prediction import Prediction
from gprann.data.structure import Dataset, Structure
from gprann.descriptors import ChebyshevDescriptor
from gprann.evaluation import evaluate
from gprann.evaluation.methods import METHODS, Column, cells, headings
from gprann.evaluation.metrics import table
from gprann.potential import Potential
from gprann.runtime.atomic_write import atomic_write, make_folder, write_picture
from gprann.runtime.messages import progress_bar
from gprann.runtime.resources import n_threads
from gprann.surrogate import Surrogate
from gprann.training import train
from gprann.units import MEV

_log = logging.getLogger(__name__)
_TAYLOR_DISPLACEMENT = 0.01
_GPR_DISPLACEMENT = 0.055
_OPTIONS: dict[str, Any] = {
    "hidden": (5, 5),
    "optimizer": "lm",
    "iterations": 500,
    "validation": 0.0,
    "starts": 64,
    "ridge": 3e-7,
}
"""Options of all methods: with a dozen structures none can be spared for validation, and starts are cheap."""
_METRICS = (
    Column(("energy MAE", "meV"), "energy_mae", 1 / MEV),
    Column(("force MAE", "eV/Å"), "force_norm_mae"),
    Column(("energy MSD", "meV"), "energy_msd", 1 / MEV),
    Column(("force MSD", "eV/Å"), "force_norm_msd"),
)
_COLUMNS = (Column(("structures", ""), "structures"), *_METRICS)
_PAPER: dict[str, tuple[float, float, float, float]] = {
    "energies": (105, 3.10, 22, 0.52),
    "gpr": (3, 0.21, 2, 0.08),
    "direct": (23, 1.22, 9, 0.30),
}
"""Energy MAE (meV), force MAE (eV/Å), energy MSD (meV), force MSD (eV/Å), section "H2" and Fig. 2."""


@dataclass(frozen=True, slots=True)
class Method:
    """One way to a potential, and how good it is.

    Attributes
    ----------
    name : str
        In `gprann.evaluation.methods.METHODS`.
    structures : int
        In the training set, copies included.
    metrics : dict of str to float or None
        eV and eV/Å; the force is its magnitude.
    potential : Potential
    prediction : Prediction
        Of the test structures.
    """

    name: str
    structures: int
    metrics: dict[str, float | None]
    potential: Potential
    prediction: Prediction

    @property
    def title(self) -> str:
        """The name that tables and figures show."""
        return METHODS[self.name].title


@dataclass(frozen=True, slots=True)
class DemoResult:
    """Results of the demo.

    Attributes
    ----------
    train, test : Dataset
    methods : tuple of Method
        In the order of the paper.
    files : tuple of Path
        Picture, numbers and the GPR-ANN potential.
    notes : tuple of str
    """

    train: Dataset
    test: Dataset
    methods: tuple[Method, ...]
    files: tuple[Path, ...]
    notes: tuple[str, ...]

    def table(self) -> str:
        """Return the errors beside those of the paper."""
        rows = headings(_COLUMNS)
        for method in self.methods:
            values = {"structures": method.structures, **method.metrics}
            rows.append([method.title, *cells(values, _COLUMNS)])
            if method.name in _PAPER:
                energy, force, energy_msd, force_msd = _PAPER[method.name]  # with the digits that it gives
                paper = [f"{energy:g}", f"{force:.2f}", f"{energy_msd:g}", f"{force_msd:.2f}"]
                rows.append(["  paper", "", *paper])
        return table(rows, headers=2)


def run_demo(
    *,
    seed: int = 0,
    members: int = 10,
    output: str | os.PathLike[str] | None = None,
    progress: bool | None = None,
) -> DemoResult:
    """Train the four kinds of committees and compare them with the reference.

    Parameters
    ----------
    seed : int
    members : int
        Potentials of each committee.
    output : path, optional
        Folder for the picture, the numbers and the GPR-ANN potential; default: nothing is written.
    progress : bool, optional
        Show a progress bar; default: on a terminal only.

    Returns
    -------
    DemoResult

    Examples
    --------
    >>> result = run_demo(members=2)
    >>> [method.name for method in result.methods]
    ['energies', 'taylor', 'gpr', 'direct']
    """
    reference, test = examples.hydrogen(7), examples.hydrogen(200, 0.95, 2.05)
    descriptor = ChebyshevDescriptor(["H"], radial_order=10, radial_cutoff=8.0, angular_order=None)
    methods = []
    with progress_bar(len(METHODS), "demo", unit="committee", show=progress) as bar:
        for name in METHODS:
            bar.set_postfix_str(METHODS[name].title)
            data = reference + _COPIES.get(name, _no_copies)(reference)
            options = {**_OPTIONS, "members": members, "seed": seed, "forces": name == "direct"}
            workers = (
                min(2, n_threads()) if name == "direct" else 1
            )  # the others end before a process has begun
            potential = train(data, descriptor, workers=workers, progress=False, **options)
            report = evaluate(potential, test)
            metrics = {column.name: getattr(report, column.name) for column in _METRICS}
            methods.append(Method(name, len(data), metrics, potential, potential.predict(test)))
            _log.info("%s: %d structures, %r", name, len(data), report)
            bar.update()
    result = DemoResult(reference, test, tuple(methods), (), ())
    return result if output is None else _write(result, Path(output))


# ------------------------------------------------------------ training sets
def along_bond(data: Dataset, displacement: float, method: str) -> Dataset:
    """Return two unlabelled copies of each molecule, with the bond longer and shorter by `displacement` (Å).

    Examples
    --------
    >>> copies = along_bond(examples.hydrogen(7), 0.01, "gpr")
    >>> len(copies), round(float(copies[0].positions[1, 2]), 6), round(float(copies[1].positions[1, 2]), 6)
    (14, 1.01, 0.99)
    """

    def shifts(structure: Structure) -> NDArray[np.float64]:
        bond = structure.positions[1] - structure.positions[0]
        step = np.zeros((2, len(structure), 3))
        step[:, 1] = np.outer([displacement, -displacement], bond / np.linalg.norm(bond))
        return step

    return displace(data, method, (shifts(structure) for structure in data))


def _no_copies(_: Dataset) -> Dataset:
    return Dataset()


def _taylor_copies(data: Dataset) -> Dataset:
    parents = [structure for structure in data for _ in range(2)]
    return taylor_labels(parents, along_bond(data, _TAYLOR_DISPLACEMENT, "taylor"))


def _gpr_copies(data: Dataset) -> Dataset:
    surrogate = Surrogate().fit(data)
    return label(surrogate, along_bond(data, _GPR_DISPLACEMENT, "gpr")).accepted


_COPIES: dict[str, Callable[[Dataset], Dataset]] = {"taylor": _taylor_copies, "gpr": _gpr_copies}


# ------------------------------------------------------------------- files
def _write(result: DemoResult, folder: Path) -> DemoResult:
    """Write picture, numbers and the GPR-ANN potential into a folder."""
    make_folder(folder)
    numbers, potential, picture = (folder / name for name in ("h2.json", "h2.gprann", "h2.png"))
    with atomic_write(numbers) as stream:
        content = {
            method.title: {"structures": method.structures, **method.metrics} for method in result.methods
        }
        json.dump({"methods": content, "units": {"energy": "eV", "force": "eV/Å"}}, stream, indent=1)
    next(method for method in result.methods if method.name == "gpr").potential.save(potential)
    files, notes = [numbers, potential], []
    if importlib.util.find_spec("matplotlib") is None:
        notes.append("no picture: matplotlib is missing; install it with: pip install 'gprann[plot]'")
    else:
        from gprann.demo.picture import draw

        write_picture(draw(result), picture, 200)
        files.insert(0, picture)
    return DemoResult(result.train, result.test, result.methods, tuple(files), tuple(notes))
