"""Plots: made for every kind of data, non-empty, and without global state."""

from __future__ import annotations

import gc
import importlib
import logging
import sys
import weakref
from pathlib import Path

import numpy as np
import pytest

from gprann.data.prediction import Prediction
from gprann.data.structure import Dataset, Structure
from gprann.errors import DataError
from gprann.evaluation.report import Report
from gprann.evaluation.residuals import Residuals, compare

pytest.importorskip("matplotlib")

from matplotlib.collections import PolyCollection
from matplotlib.figure import Figure

from gprann.evaluation import plots

HISTORY = {f"member {k}": [(i, 2.0**-i + 0.01, 2.0**-i + 0.02 * k) for i in range(10)] for k in range(3)}


def make_residuals(*, n: int = 60, members: int = 3, forces: bool = True, scale: float = 2.0) -> Residuals:
    rng = np.random.default_rng(11)
    data = Dataset(
        Structure(
            ("O", "H", "H", "C"),
            rng.normal(size=(4, 3)),
            energy=-900.0 + rng.normal(),
            forces=scale * rng.normal(size=(4, 3)) if forces else None,
        )
        for _ in range(n)
    )
    energy = data.energies + 0.01 * rng.normal(size=(members, n))
    truth = data.forces if forces else [np.zeros((4, 3))] * n
    member_forces = [f + 0.1 * rng.normal(size=(members, 4, 3)) for f in truth]
    prediction = Prediction(
        energy.mean(axis=0),
        [f.mean(axis=0) for f in member_forces],
        member_energy=energy,
        member_forces=member_forces,
    )
    return compare(data, prediction)


def pixels(figure: Figure) -> np.ndarray:
    figure.canvas.draw()
    return np.asarray(figure.canvas.buffer_rgba())


@pytest.mark.parametrize(
    "draw",
    [
        plots.energy_parity,
        plots.force_parity,
        plots.force_direction_error,
        plots.error_by_force,
        plots.error_histogram,
        plots.uncertainty_calibration,
    ],
)
def test_every_plot_shows_something(draw) -> None:
    figure = draw(make_residuals())
    assert isinstance(figure, Figure)
    image = pixels(figure)
    assert np.mean(image[..., :3].min(axis=2) < 200) > 0.005
    for axes in figure.axes:
        assert axes.get_ylabel()


def test_axes_carry_units() -> None:
    residuals = make_residuals()
    labels = [axes.get_xlabel() for axes in plots.force_parity(residuals).axes]
    assert labels[0] == "reference force component (eV/Å)"
    assert "(degrees)" in plots.force_direction_error(residuals).axes[0].get_ylabel()
    assert "(meV)" in plots.energy_parity(residuals).axes[1].get_ylabel()


def test_parity_counts_every_component_and_atom() -> None:
    residuals = make_residuals()
    for quantity, count in (("component", 720), ("norm", 240)):
        figure = plots.force_parity(residuals, quantity=quantity)
        (cells,) = [item for item in figure.axes[0].collections if isinstance(item, PolyCollection)]
        assert np.sum(cells.get_array()) == count


def test_error_lines_appear_for_wide_force_ranges_only() -> None:
    assert len(plots.force_parity(make_residuals(scale=3.0)).axes[0].lines) == 3
    assert len(plots.force_parity(make_residuals(scale=0.1)).axes[0].lines) == 1


def test_energies_are_relative_to_their_composition() -> None:
    h2 = Structure(("H", "H"), np.array([[0.0, 0, 0], [0, 0, 0.74]]), energy=-30.0)
    data = Dataset([h2, h2.replace(energy=-31.0), h2.replace(symbols=("H", "O"), energy=-2000.0)])
    residuals = compare(data, Prediction(data.energies + 0.1, [np.zeros((2, 3))] * 3))
    points = plots.energy_parity(residuals).axes[0].lines[1]
    assert points.get_xdata() == pytest.approx([0.5, -0.5, 0.0])
    assert points.get_ydata() == pytest.approx([0.6, -0.4, 0.1])


def test_direction_axis_reaches_the_largest_error() -> None:
    forces = np.array([[1.0, 0, 0], [2.0, 0, 0]])
    data = Dataset([Structure(("H", "H"), np.array([[0.0, 0, 0], [0, 0, 1]]), energy=0.0, forces=forces)])
    for predicted, top in (([0, 1.0, 0], 90.0), ([-1.0, 0.001, 0], 180.0), ([1.0, 0.01, 0], 1.0)):
        residuals = compare(data, Prediction(np.zeros(1), [np.array([predicted, [2.0, 0, 0]])]))
        assert plots.force_direction_error(residuals).axes[0].get_ylim() == (0.0, top)


def test_learning_curve_has_a_line_per_potential() -> None:
    axes = plots.learning_curve(HISTORY, label="RMSE (eV)").axes[0]
    assert len(axes.lines) == 6
    assert axes.get_yscale() == "log"
    assert axes.get_ylabel() == "RMSE (eV)"
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["training", "validation"]


def test_learning_curve_leaves_out_what_a_logarithm_cannot_show() -> None:
    history = {"a": [(0, 1.0, None), (1, 0.0, None), (2, float("nan"), None), (3, 0.1, None)]}
    (line,) = plots.learning_curve(history).axes[0].lines
    assert line.get_xdata().tolist() == [0, 3]
    with pytest.raises(DataError, match="no positive error"):
        plots.learning_curve({})


def test_calibration_of_known_deviations() -> None:
    # Errors at exactly 0.5, 1.5 and 2.5 standard deviations: a third within one, two thirds within two.
    data = Dataset(Structure(("H",), np.zeros((1, 3)), energy=0.0) for _ in range(3))
    prediction = Prediction(np.array([0.5, -1.5, 2.5]), [np.zeros((1, 3))] * 3, energy_std=np.ones(3))
    marks = plots.uncertainty_calibration(compare(data, prediction)).axes[1].lines[-1]
    assert marks.get_xdata() == pytest.approx([0.6827, 0.9545], abs=1e-4)
    assert marks.get_ydata() == pytest.approx([1 / 3, 2 / 3])


def test_calibration_has_a_curve_for_energies_and_one_for_forces() -> None:
    (_, right) = plots.uncertainty_calibration(make_residuals()).axes
    labels = [text.get_text() for text in right.get_legend().get_texts()]
    assert [label.split(":")[0] for label in labels] == ["energies", "force components"]
    forces = right.lines[-2].get_ydata()
    assert (np.diff(forces) >= 0).all()
    assert 0 <= forces[0] <= forces[-1] <= 1


def test_plots_without_their_data_say_so() -> None:
    bare = make_residuals(forces=False, members=1)
    for draw in (plots.force_parity, plots.force_direction_error, plots.error_by_force):
        with pytest.raises(DataError, match="no forces"):
            draw(bare)
    with pytest.raises(DataError, match="no standard deviations"):
        plots.uncertainty_calibration(bare)
    with pytest.raises(DataError, match="'component' or 'norm'"):
        plots.force_parity(make_residuals(), quantity="angle")


def test_save_all_writes_what_there_are_data_for(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    everything = plots.save_all(make_residuals(), tmp_path / "all", history=HISTORY)
    assert sorted(path.stem for path in everything) == [
        "energy_parity",
        "error_by_force",
        "error_histogram",
        "force_direction_error",
        "force_norm_parity",
        "force_parity",
        "learning_curve",
        "uncertainty_calibration",
    ]
    for path in everything:
        assert path.read_bytes().startswith(b"\x89PNG")
    with caplog.at_level(logging.DEBUG, logger="gprann"):
        energy_only = plots.save_all(make_residuals(forces=False, members=1), tmp_path / "energy")
    assert sorted(path.stem for path in energy_only) == ["energy_parity", "error_histogram"]
    assert "no plot force_parity" in caplog.text
    assert "learning_curve" not in caplog.text  # there is none without a history


@pytest.mark.parametrize("n", [1, 2, 45])
def test_small_data_sets(n: int, tmp_path: Path) -> None:
    assert len(plots.save_all(make_residuals(n=n), tmp_path)) == 7


def test_perfect_prediction(tmp_path: Path) -> None:
    data = Dataset([Structure(("H",), np.zeros((1, 3)), energy=-1.0, forces=np.zeros((1, 3)))] * 5)
    residuals = compare(data, Prediction(data.energies, data.forces, energy_std=np.zeros(5)))
    names = sorted(path.stem for path in plots.save_all(residuals, tmp_path))
    assert names == [
        "energy_parity",
        "error_by_force",
        "error_histogram",
        "force_norm_parity",
        "force_parity",
    ]


@pytest.mark.parametrize("share", ["some", "all"])
def test_predictions_that_are_not_finite(share: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    data = Dataset(
        Structure(("H",), np.zeros((1, 3)), energy=rng.normal(), forces=rng.normal(size=(1, 3)))
        for _ in range(20)
    )
    energy, forces = data.energies + 0.1, [f + 0.1 for f in data.forces]
    for i in range(20 if share == "all" else 1):
        energy[i], forces[i] = np.nan, np.full((1, 3), np.nan)
    written = plots.save_all(compare(data, Prediction(energy, forces, energy_std=np.ones(20))), tmp_path)
    assert len(written) == (0 if share == "all" else 7)


def test_no_figure_stays_open_or_alive(tmp_path: Path) -> None:
    figure = weakref.ref(plots.energy_parity(make_residuals()))
    plots.save_all(make_residuals(n=5), tmp_path)
    gc.collect()
    assert figure() is None
    pyplot = sys.modules.get("matplotlib.pyplot")
    assert pyplot is None or pyplot.get_fignums() == []


def test_report_saves_its_plots(tmp_path: Path) -> None:
    data = Dataset([Structure(("H",), np.zeros((1, 3)), energy=-1.0)] * 3)
    report = Report.from_prediction(data, Prediction(data.energies + 0.1, [np.zeros((1, 3))] * 3))
    written = report.save(tmp_path, history=HISTORY)
    assert [path.name for path in written[3:]] == [
        "energy_parity.png",
        "error_histogram.png",
        "learning_curve.png",
    ]


def test_missing_matplotlib_names_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("matplotlib")]:
        monkeypatch.setitem(sys.modules, name, None)
    for name in ("plots", "drawing"):
        monkeypatch.delitem(sys.modules, f"gprann.evaluation.{name}", raising=False)
    with pytest.raises(ImportError, match=r"pip install 'gprann\[plot\]'"):
        importlib.import_module("gprann.evaluation.plots")


@pytest.mark.parametrize(("count", "shown"), [(3, "O, atoms"), (60, "O, median")])
def test_elements_with_few_atoms_are_no_lone_dot(count: int, shown: str) -> None:
    rng = np.random.default_rng(0)
    data = Dataset(
        Structure(("H", symbol), [[0, 0, 0], [0, 0, 1]], energy=0.0, forces=rng.normal(size=(2, 3)))
        for symbol in count * "O" + 300 * "H"
    )
    forces = [structure.forces + 0.1 * rng.normal(size=(2, 3)) for structure in data]
    figure = plots.error_by_force(compare(data, Prediction(np.zeros(len(data)), forces)))
    (line,) = [line for line in figure.axes[0].lines if str(line.get_label()).startswith("O")]
    assert line.get_label() == shown
    assert len(line.get_xdata()) >= 3
