"""Scans: errors of energies against errors of forces, for models of different complexity and weights of the forces.

After Rohskopf et al., J. Mater. Res. 38, 5136 (2023): which complexity is worth its price, and how energies and forces
are to be balanced.
"""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from gprann.arrays import Array
from gprann.baselines import as_baseline, fit_baseline
from gprann.data.structure import Dataset
from gprann.descriptors import Descriptor
from gprann.errors import ConfigError, DataError, check_whole
from gprann.evaluation.metrics import number, table
from gprann.evaluation.report import evaluate
from gprann.io.reading import Source, structures
from gprann.models import MODELS, Mlp, Model, Polynomial
from gprann.runtime.atomic_write import atomic_write, make_folder, write_picture
from gprann.runtime.resources import one_blas_thread
from gprann.training.closed_form import RATIOS, balance, solve
from gprann.training.linear import divide, prepare
from gprann.training.options import TrainingOptions
from gprann.training.standardised import Standardised
from gprann.training.train import train

_log = logging.getLogger(__name__)
_FEWEST = 4  # structures for each fold, at least


@dataclass(frozen=True, slots=True)
class ScanPoint:
    """Errors of one model with one weight of the forces, on folds held out in turn.

    Attributes
    ----------
    model : str
    ratio : float
        Weight of the mean squared error of force components (eV/Å)² relative to that of energies per atom (eV)².
    energy, energy_spread : float, eV/atom
        Root mean square errors: mean and standard deviation over the folds.
    force, force_spread : float, eV/Å
        The same of force components.
    seconds : float
        Time of the fits of all folds; polynomials share that of gathering their equations.
    parameters : int
    """

    model: str
    ratio: float
    energy: float
    energy_spread: float
    force: float
    force_spread: float
    seconds: float
    parameters: int


@dataclass(frozen=True, slots=True)
class ScanResult:
    """Points of a scan; see `scan`."""

    points: tuple[ScanPoint, ...]

    @property
    def front(self) -> tuple[ScanPoint, ...]:
        """Points that no other one beats in both errors (the Pareto front), by rising error of the energies."""
        found: list[ScanPoint] = []
        for point in sorted(self.points, key=lambda one: (one.energy, one.force)):
            if not found or point.force < found[-1].force:
                found.append(point)
        return tuple(found)

    def table(self) -> str:
        """Return all points as a table; those on the front are marked."""
        front = set(self.front)
        rows = [
            ["model", "parameters", "w(F)/w(E)", "energy", "", "force", "", "time", ""],
            ["", "", "", "meV/atom", "±", "meV/Å", "±", "s", ""],
        ]
        rows += [
            [
                one.model,
                str(one.parameters),
                f"{one.ratio:g}",
                *(
                    number(value, 1e3)
                    for value in (one.energy, one.energy_spread, one.force, one.force_spread)
                ),
                number(one.seconds),
                "front" if one in front else "",
            ]
            for one in self.points
        ]
        return table(rows, headers=2)

    def __str__(self) -> str:
        return f"root mean square errors of folds held out\n{self.table()}"

    def save(self, folder: str | os.PathLike[str]) -> list[Path]:
        """Write scan.txt, scan.json and scan.png into a folder; return the files."""
        target = make_folder(folder)
        files = [target / f"scan.{suffix}" for suffix in ("txt", "json", "png")]
        with atomic_write(files[0]) as stream:
            stream.write(f"{self}\n")
        with atomic_write(files[1]) as stream:
            json.dump([asdict(point) for point in self.points], stream, indent=1)
        self.plot(files[2])
        return files

    def plot(self, path: str | os.PathLike[str]) -> None:
        """Draw errors of forces over errors of energies, a line for each model, and the front. Needs matplotlib."""
        from gprann.evaluation.drawing import GREY, legend, logarithmic, new_axes, new_figure

        figure = new_figure(5.4, 4.2)
        axes = new_axes(figure)
        front = self.front
        axes.plot(
            [1e3 * p.energy for p in front], [1e3 * p.force for p in front], color=GREY, lw=5, alpha=0.35
        )
        for name, marker in zip(
            dict.fromkeys(point.model for point in self.points), "osD^vP*X" * 9, strict=False
        ):
            own = [point for point in self.points if point.model == name]
            axes.errorbar(
                [1e3 * p.energy for p in own],
                [1e3 * p.force for p in own],
                xerr=[1e3 * p.energy_spread for p in own],
                yerr=[1e3 * p.force_spread for p in own],
                marker=marker,
                markersize=4,
                capsize=2,
                lw=1,
                label=f"{name} ({own[0].parameters})",
            )
        axes.set_xlabel("energy, root mean square error (meV/atom)")
        axes.set_ylabel("forces, root mean square error (meV/Å)")
        logarithmic(axes)
        legend(axes)
        write_picture(figure, path, 150)


def scan(
    data: Source,
    descriptor: Descriptor,
    *,
    models: Sequence[str | Model | Sequence[int]] = ("linear", "quadratic"),
    ratios: Sequence[float] = RATIOS,
    folds: int = 5,
    seed: int = 0,
) -> ScanResult:
    """Compare models and weights of the forces by the errors of folds that are held out in turn.

    Parameters
    ----------
    data : Dataset, or anything that `gprann.read` takes
        Structures with energies and forces.
    descriptor : Descriptor
    models : sequence of model, its name, or widths of the hidden layers of a network
        Linear and quadratic models share one pass over the data, so that further weights cost little; networks are
        trained anew for each weight and fold.
    ratios : sequence of float
        Weights of the mean squared error of force components relative to that of energies per atom.
    folds : int
    seed : int
        Of the folds, and of the starts of networks.

    Returns
    -------
    ScanResult

    Raises
    ------
    ConfigError, DataError

    Examples
    --------
    >>> import gprann
    >>> data = gprann.examples.hydrogen(40)
    >>> descriptor = gprann.ChebyshevDescriptor(["H"], radial_order=6, radial_cutoff=8.0, angular_order=None)
    >>> found = gprann.scan(data, descriptor, ratios=(0.1, 10.0))
    >>> len(found.points), {point.model for point in found.front} <= {"linear", "quadratic"}
    (4, True)
    """
    check_whole(2, folds=folds)
    if not ratios or not all(np.isfinite(ratio) and ratio > 0 for ratio in ratios):
        raise ConfigError(f"ratios = {tuple(ratios)}: expected positive numbers")
    data = structures(data)
    if len(data) < _FEWEST * folds:
        raise DataError(f"{len(data)} structures: {folds} folds need {_FEWEST * folds} at least; lower folds")
    if any(item.forces is None for item in data):
        raise DataError("a scan weighs energies against forces: all structures need forces")
    baseline = fit_baseline(as_baseline(None), data, descriptor.species)
    points: list[ScanPoint] = []
    for given in models:
        model = _model(given)
        if isinstance(model, Polynomial):
            model = model.replace(folds=folds)
            points += _scan_polynomial(baseline.subtract(data), descriptor, model, tuple(ratios), seed)
        else:
            options = TrainingOptions(model=model, baseline=baseline, seed=seed, forces=True, per_atom=True)
            points += _scan_network(data, descriptor, options, tuple(ratios), folds)
    return ScanResult(tuple(points))


def _model(given: str | Model | Sequence[int]) -> Model:
    if isinstance(given, Model):
        return given
    if isinstance(given, str):
        return MODELS.make(given)
    return Mlp(hidden=tuple(given))


def _name(model: Model) -> str:
    return "network " + "-".join(map(str, model.hidden)) if isinstance(model, Mlp) else model.name


def _scan_polynomial(
    data: Dataset, descriptor: Descriptor, options: Polynomial, ratios: tuple[float, ...], seed: int
) -> list[ScanPoint]:
    """Return the points of a linear or quadratic model, from equations that are gathered once."""
    started = time.perf_counter()
    model = options.build(descriptor.size, len(descriptor.species))
    settings = TrainingOptions(model=options, forces=True, per_atom=True, seed=seed)
    prepared = prepare(data, descriptor, model, settings)
    equations, everything = prepared.equations, range(prepared.equations.n_folds)
    energies = data.energies / data.n_atoms
    scales = (
        float(np.sqrt(np.mean(energies**2))),
        float(np.sqrt(np.mean(np.concatenate([np.ravel(np.asarray(item.forces)) for item in data]) ** 2))),
    )
    mean_squares = [
        sum(fold[kind].square for fold in equations.factors)
        / sum(fold[kind].count for fold in equations.factors)
        for kind in (0, 1)
    ]
    points = []
    for ratio in ratios:
        errors = np.zeros((len(everything), 2))
        with one_blas_thread():
            for fold in everything:
                others = [other for other in everything if other != fold]
                x = solve(equations, balance(ratio), prepared.prior, others).x
                for kind in (0, 1):
                    mean = equations.residual(kind, fold, x) / max(equations.factors[fold][kind].count, 1)
                    errors[fold, kind] = scales[kind] * np.sqrt(mean / mean_squares[kind])
        points.append(_point(_name(options), ratio, errors, started, model.n_parameters))
        started = time.perf_counter()
    return points


def _scan_network(
    data: Dataset, descriptor: Descriptor, options: TrainingOptions, ratios: tuple[float, ...], folds: int
) -> list[ScanPoint]:
    """Return the points of networks, trained for each weight and fold."""
    numbers = divide(Standardised.of(data, descriptor), folds, options.seed)  # those of linear models
    points = []
    for ratio in ratios:
        started = time.perf_counter()
        errors = np.zeros((folds, 2))
        for fold in range(folds):
            rest, held = (data.select(np.flatnonzero(which)) for which in (numbers != fold, numbers == fold))
            share = ratio / (1.0 + ratio)
            network = train(rest, descriptor, progress=False, **options.replace(alpha=share).changes())
            report = evaluate(network, held, forces_std=0)
            errors[fold] = report.energy_per_atom_rmse, report.force_rmse or 0.0
        points.append(
            _point(_name(network.model.options), ratio, errors, started, network.model.n_parameters)
        )
        _log.info("%s, w(F)/w(E) = %g: %s meV/Å", points[-1].model, ratio, number(points[-1].force, 1e3))
    return points


def _point(name: str, ratio: float, errors: Array, started: float, parameters: int) -> ScanPoint:
    mean, spread = errors.mean(axis=0).tolist(), errors.std(axis=0).tolist()
    seconds = time.perf_counter() - started
    return ScanPoint(name, ratio, mean[0], spread[0], mean[1], spread[1], seconds, parameters)
