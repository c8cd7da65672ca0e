"""Scans of models and of the balance of energies and forces."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import gprann
import samples
from gprann.cli.main import main
from gprann.data.structure import Dataset
from gprann.errors import ConfigError, DataError
from gprann.pipeline.scan import ScanPoint, ScanResult
from gprann.training.linear import divide
from gprann.training.standardised import Standardised

SMALL = gprann.ChebyshevDescriptor(
    ["H", "O"], radial_order=3, radial_cutoff=3.7, angular_order=2, angular_cutoff=3.1
)


def point(energy: float, force: float) -> ScanPoint:
    return ScanPoint("linear", 1.0, energy, 0.0, force, 0.0, 0.0, 1)


def test_the_front_is_what_nothing_beats() -> None:
    points = [point(3.0, 1.0), point(1.0, 3.0), point(2.0, 2.0), point(2.0, 2.5), point(3.5, 1.0)]
    assert [(one.energy, one.force) for one in ScanResult(tuple(points)).front] == [(1, 3), (2, 2), (3, 1)]


def test_errors_are_those_of_predictions_of_held_out_folds() -> None:
    """Of structures of one size, so that weights are alike; the mean over the folds of root mean squares."""
    data = samples.waters(30)
    found = gprann.scan(data, SMALL, models=["linear"], ratios=[3.0], folds=3).points[0]
    numbers = divide(Standardised.of(data, SMALL), 3, 0)
    energy, force = [], []
    for fold in range(3):
        rest, held = (data.select(np.flatnonzero(which)) for which in (numbers != fold, numbers == fold))
        report = gprann.evaluate(gprann.fit_linear(rest, SMALL, alpha=0.75, members=1), held)
        energy.append(report.energy_per_atom_rmse)
        force.append(report.force_rmse)
    # The standardisation, in which the ridge is meant, is that of all structures in a scan.
    assert found.energy == pytest.approx(np.mean(energy), rel=0.5)
    assert found.force == pytest.approx(np.mean(force), rel=0.5)


def test_weights_move_errors_and_networks_take_part(tmp_path: Path) -> None:
    data = samples.waters(24)
    found = gprann.scan(data, SMALL, models=["linear", "quadratic", (3,)], ratios=[1e-3, 1e3], folds=2)
    assert [one.model for one in found.points] == ["linear"] * 2 + ["quadratic"] * 2 + ["network 3"] * 2
    assert found.points[1].force <= found.points[0].force  # whose forces count more
    assert found.points[2].force < found.points[0].force  # quadratic against linear
    files = found.save(tmp_path)
    assert all(file.stat().st_size > 0 for file in files)
    assert len(json.loads(files[1].read_text(encoding="utf-8"))) == 6
    assert "front" in str(found)


def test_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    gprann.write(tmp_path / "waters.extxyz", samples.waters(24))
    options = ["--ratios", "1", "10", "--folds", "2", "--models", "linear", "--radial-order", "3"]
    assert main(["scan", str(tmp_path / "waters.extxyz"), "-o", str(tmp_path / "out"), *options]) == 0
    assert "w(F)/w(E)" in capsys.readouterr().out
    assert (tmp_path / "out" / "scan.png").is_file()


def test_bad_input() -> None:
    data = samples.waters(24)
    with pytest.raises(ConfigError, match="ratios"):
        gprann.scan(data, SMALL, ratios=[0.0])
    with pytest.raises(ConfigError, match="model"):
        gprann.scan(data, SMALL, models=["cubic"])
    with pytest.raises(DataError, match="lower folds"):
        gprann.scan(data[:6], SMALL)
    with pytest.raises(DataError, match="forces"):
        gprann.scan(Dataset(item.replace(forces=None) for item in data), SMALL)
