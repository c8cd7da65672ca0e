"""Reports: attributes, files, and the entry point `evaluate`."""

from __future__ import annotations

import copy
import csv
import json
import os
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

from gprann.data.prediction import Prediction
from gprann.data.structure import Dataset, Origin, Structure
from gprann.errors import DataError
from gprann.evaluation import Predictor, Report, evaluate
from gprann.evaluation import report as report_module
from gprann.evaluation.metrics import number, table


def make_data(*, forces: bool = True, n: int = 6) -> Dataset:
    rng = np.random.default_rng(3)
    symbols = [("O", "H", "H"), ("C", "O")]
    return Dataset(
        Structure(
            symbols[i % 2],
            rng.normal(size=(len(symbols[i % 2]), 3)),
            energy=-2000.0 + rng.normal(),
            forces=rng.normal(size=(len(symbols[i % 2]), 3)) if forces else None,
            origin=Origin("water.xyz", 10 + i),
        )
        for i in range(n)
    )


class Committee:
    """Reference labels plus a known noise for each member."""

    def __init__(self, members: int = 3) -> None:
        self.members = members

    def predict(self, data: Dataset, /) -> Prediction:
        rng = np.random.default_rng(5)
        energy = data.energies + 0.01 * rng.normal(size=(self.members, len(data)))
        forces = [
            np.zeros((len(s), 3))
            if s.forces is None
            else s.forces + 0.1 * rng.normal(size=(self.members, len(s), 3))
            for s in data
        ]
        forces = [np.broadcast_to(f, (self.members, *f.shape[-2:])) for f in forces]
        return Prediction(
            energy.mean(axis=0),
            [f.mean(axis=0) for f in forces],
            energy_std=energy.std(axis=0),
            member_energy=energy,
            member_forces=forces,
        )


@pytest.fixture
def report() -> Report:
    return evaluate(Committee(), make_data())


def test_metrics_are_attributes_of_the_report(report: Report) -> None:
    for name, value in asdict(report.metrics).items():
        assert getattr(report, name) == value
        assert name in dir(report)
    assert set(report.by_species) == {"C", "H", "O"}
    assert set(report.by_group) == {"CO", "H2O"}
    assert len(report.by_member) == 3


def test_misspelt_attribute_names_the_nearest(report: Report) -> None:
    with pytest.raises(AttributeError, match="did you mean 'energy_mae'"):
        _ = report.energie_mae
    assert not hasattr(report, "_repr_html_")


def test_repr_is_one_line(report: Report) -> None:
    expected = f"energy MAE {1000 * report.energy_mae:.3g} meV, force MAE {report.force_mae:.4f} eV/Å"
    assert repr(report) == f"Report(6 structures, {expected})"
    assert "force" not in repr(evaluate(Committee(), make_data(forces=False)))


def test_report_can_be_copied(report: Report) -> None:
    assert copy.deepcopy(report).metrics == report.metrics


def test_json_round_trip(report: Report, tmp_path: Path) -> None:
    path = tmp_path / "metrics.json"
    report.to_json(path)
    content = json.loads(path.read_text(encoding="utf-8"))
    assert content == report.to_dict()
    assert content["energy_mae"] == report.energy_mae
    assert content["by_species"]["H"]["force_mae"] == report.by_species["H"].force_mae
    assert content["by_member"][2]["force_angle_mae"] == report.by_member[2].force_angle_mae
    assert content["units"]["force_mae"] == "eV/Å"


def test_values_that_are_not_finite_are_null(tmp_path: Path) -> None:
    data = make_data()
    prediction = Committee().predict(data)
    prediction.energy[0] = np.nan
    prediction.forces[1][0, 0] = np.inf
    report = Report.from_prediction(data, prediction)
    report.to_json(tmp_path / "metrics.json")
    content = json.loads((tmp_path / "metrics.json").read_text(encoding="utf-8"))
    assert content["energy_mae"] is None
    assert content["force_max"] is None
    assert content["by_species"]["H"]["force_mae"] == report.by_species["H"].force_mae
    assert "nan" in report.summary()


def test_summary_shows_the_numbers_with_units(report: Report) -> None:
    text = report.summary()
    assert str(report) == text
    lines = {line.split("  ")[0]: line for line in text.splitlines()}
    energy = lines["energy"].split()
    assert energy[1] == "meV/structure"
    assert energy[2] == number(report.energy_mae, 1000)
    assert energy[-1] == number(report.energy_msd, 1000)
    component = lines["force component"].split()
    assert component[2:4] == ["eV/Å", number(report.force_mae)]
    for name in ("H", "H2O", "median member", "committee mean"):
        assert name in lines
    assert "water.xyz, structure 1" in text
    assert "mean of a committee of 3" in text


def test_summary_without_forces_shows_energies_only() -> None:
    text = evaluate(Committee(), make_data(forces=False)).summary()
    assert "no reference forces" in text
    assert "force" not in text.replace("no reference forces", "")


def test_summary_shows_the_worst_of_many_groups() -> None:
    data = Dataset(s.replace(group=f"g{i}") for i, s in enumerate(make_data(n=25)))
    report = evaluate(Committee(), data)
    text = report.summary()
    worst = max(report.by_group, key=lambda name: report.by_group[name].energy_mae)
    best = min(report.by_group, key=lambda name: report.by_group[name].energy_mae)
    names = [line.split()[0] for line in text.splitlines() if line]
    assert worst in names
    assert best not in names
    assert "and 5 more" in text


def test_summary_of_a_large_committee_keeps_mean_and_median() -> None:
    text = evaluate(Committee(members=30), make_data()).summary()
    assert "median member" in text
    assert "committee mean" in text


def test_csv_has_one_line_per_structure(report: Report, tmp_path: Path) -> None:
    path = tmp_path / "structures.csv"
    report.to_csv(path)
    with path.open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    data, prediction = make_data(), Committee().predict(make_data())
    assert len(rows) == len(data)
    for i, row in enumerate(rows):
        error = prediction.forces[i] - data.forces[i]
        norm = np.linalg.norm(prediction.forces[i], axis=1) - np.linalg.norm(data.forces[i], axis=1)
        assert (row["file"], int(row["file_index"]), row["formula"]) == ("water.xyz", 10 + i, data[i].formula)
        assert float(row["energy_error_eV"]) == pytest.approx(
            prediction.energy[i] - data.energies[i], abs=1e-8
        )
        assert float(row["energy_std_eV"]) == pytest.approx(prediction.energy_std[i], rel=1e-9)
        assert float(row["force_mae_eV_per_A"]) == pytest.approx(np.mean(np.abs(error)), rel=1e-9)
        assert float(row["force_max_eV_per_A"]) == pytest.approx(np.max(np.abs(error)), rel=1e-9)
        assert float(row["force_norm_mae_eV_per_A"]) == pytest.approx(np.mean(np.abs(norm)), rel=1e-9)
    angles = [float(row["force_angle_mae_degrees"]) * int(row["n_atoms"]) for row in rows]
    assert sum(angles) == pytest.approx(report.n_directions * report.force_angle_mae, rel=1e-9)


def test_csv_leaves_missing_values_empty(tmp_path: Path) -> None:
    data = make_data()
    no_force = data[1].replace(forces=None)
    short = data[2].replace(forces=np.zeros((3, 3)))
    mixed = Dataset([data[0], no_force, short])
    report = Report.from_prediction(mixed, Prediction(mixed.energies, [np.ones((len(s), 3)) for s in mixed]))
    report.to_csv(tmp_path / "structures.csv")
    with (tmp_path / "structures.csv").open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["force_mae_eV_per_A"] == "" for row in rows] == [False, True, False]
    assert [row["force_angle_mae_degrees"] == "" for row in rows] == [False, True, True]
    assert all(row["energy_std_eV"] == "" for row in rows)


def test_save_without_plots(report: Report, tmp_path: Path) -> None:
    written = report.save(tmp_path / "new" / "folder", plots=False)
    assert [path.name for path in written] == ["metrics.json", "summary.txt", "structures.csv"]
    assert all(path.stat().st_size > 0 for path in written)
    assert written[1].read_text(encoding="utf-8") == report.summary()


def test_save_without_matplotlib(
    report: Report, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with caplog.at_level("WARNING", logger="gprann"):
        written = report.save(tmp_path)
    assert len(written) == 3
    assert "pip install 'gprann[plot]'" in caplog.text


def test_potential_may_be_anything_that_predicts() -> None:
    assert isinstance(Committee(), Predictor)
    with pytest.raises(TypeError, match="potential is a float; expected the path"):
        evaluate(1.0, make_data())  # type: ignore[arg-type]


def test_missing_energy_is_found_before_predicting() -> None:
    class Expensive:
        def predict(self, data: Dataset, /) -> Prediction:
            raise AssertionError("predicted without reference energies")

    data = Dataset([*make_data(), make_data()[0].replace(energy=None)])
    with pytest.raises(DataError, match=r"water\.xyz, structure 10: has no energy"):
        evaluate(Expensive(), data)
    with pytest.raises(DataError, match="no structures"):
        evaluate(Expensive(), Dataset())


def test_paths_are_loaded_and_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report_module, "load", {"model.gprann": Committee()}.__getitem__)
    monkeypatch.setattr(report_module, "read", {"dev.extxyz": make_data()}.__getitem__)
    assert evaluate("model.gprann", "dev.extxyz").metrics == evaluate(Committee(), make_data()).metrics


@pytest.mark.parametrize("backend", ["module://no_such_backend", "nonsense"])
def test_a_backend_that_is_missing_spoils_no_plot(tmp_path: Path, backend: str) -> None:
    """A notebook's shell names one for all programs it starts."""
    pytest.importorskip("matplotlib")
    program = (
        "from gprann.evaluation import plots; plots.learning_curve({'a': [(1, 1.0, None)]}).savefig('a.png')"
    )
    environment = os.environ | {"MPLBACKEND": backend}
    subprocess.run([sys.executable, "-c", program], cwd=tmp_path, env=environment, check=True)
    assert (tmp_path / "a.png").stat().st_size > 0


def test_a_failure_to_draw_is_no_failure_of_the_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def failing(*_: object, **__: object) -> list[Path]:
        raise OSError("no fonts")

    found = evaluate(Committee(), make_data())
    monkeypatch.setattr(Report, "save_plots", failing)
    assert [file.name for file in found.save(tmp_path)] == ["metrics.json", "summary.txt", "structures.csv"]
    assert "OSError: no fonts" in caplog.text
    with pytest.raises(OSError, match="no fonts"):
        found.save(tmp_path, plots=True)


def test_standard_deviations_are_explained_where_there_are_some() -> None:
    data = make_data()
    summary = evaluate(Committee(), data).summary()
    assert "MSD: mean standard deviation of the committee, its own estimate of its errors" in summary
    prediction = Committee().predict(data)
    bare = Prediction(prediction.energy, prediction.forces)
    assert "MSD" not in Report.from_prediction(data, bare).summary()


def test_plots_are_written_on_request(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    evaluate(Committee(), make_data(), plots=tmp_path / "plots")
    assert (tmp_path / "plots" / "energy_parity.png").stat().st_size > 0


@pytest.mark.parametrize(
    ("value", "factor", "text"),
    [
        (None, 1.0, "-"),
        (0.0, 1.0, "0.00"),
        (0.00123456, 1000.0, "1.23"),
        (12.0, 1.0, "12.0"),
        (123.4, 1.0, "123"),
        (98765.4, 1.0, "98765"),
        (float("nan"), 1.0, "nan"),
        (4.5e-5, 1.0, "4.50e-05"),
    ],
)
def test_numbers_have_three_digits(value: float | None, factor: float, text: str) -> None:
    assert number(value, factor) == text


def test_tables_align_their_columns() -> None:
    lines = table([["name", "x"], ["", "eV"], ["a longer name", "1.0"]], headers=2).splitlines()
    assert lines[2] == "-" * len("a longer name  1.0")
    assert [line.rstrip()[-3:] for line in (lines[0], lines[1], lines[3])] == ["  x", " eV", "1.0"]
