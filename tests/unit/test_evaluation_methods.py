"""Comparison of methods: the table's columns, and figures that show the numbers of each method."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from gprann.data.prediction import Prediction
from gprann.data.structure import Dataset, Structure
from gprann.errors import DataError
from gprann.evaluation.methods import METHODS, Column, cells, headings, markdown
from gprann.evaluation.metrics import metrics_of
from gprann.evaluation.residuals import Residuals, compare

COLUMNS = (Column(("structures", ""), "structures"), Column(("energy MAE", "meV"), "energy_mae", 1000.0))


def make_residuals(error: float, *, members: int = 3, forces: bool = True) -> Residuals:
    """Return residuals of the same 40 structures, whatever the error."""
    rng = np.random.default_rng(3)
    data = Dataset(
        Structure(
            ("O", "H", "H"),
            rng.normal(size=(3, 3)),
            energy=-14.0 + rng.normal(),
            forces=3 * rng.normal(size=(3, 3)) if forces else None,
        )
        for _ in range(40)
    )
    energy = data.energies + error * rng.normal(size=(members, 40))
    truth = data.forces if forces else [np.zeros((3, 3))] * 40
    member_forces = [f + error * rng.normal(size=(members, 3, 3)) for f in truth]
    mean = [f.mean(axis=0) for f in member_forces]
    return compare(
        data, Prediction(energy.mean(axis=0), mean, member_energy=energy, member_forces=member_forces)
    )


def test_rows() -> None:
    assert headings(COLUMNS) == [["", "structures", "energy MAE"], ["", "", "meV"]]
    assert cells({"structures": 250, "energy_mae": 0.0123456}, COLUMNS) == ["250", "12.3"]
    assert cells({"structures": 250, "energy_mae": None}, COLUMNS) == ["250", "-"]


def test_markdown_has_one_line_of_headers() -> None:
    lines = markdown([*headings(COLUMNS), ["GPR-ANN", "7", "2.1"]], headers=2).splitlines()
    assert lines == ["|  | structures | energy MAE meV |", "|---|---:|---:|", "| GPR-ANN | 7 | 2.1 |"]


class TestFigures:
    @pytest.fixture(autouse=True)
    def _needs_matplotlib(self) -> None:
        pytest.importorskip("matplotlib")

    @pytest.fixture
    def methods(self) -> dict[str, Residuals]:
        return {name: make_residuals(0.1 * 2**-k) for k, name in enumerate(METHODS)}

    def test_bars_are_the_metrics(self, methods: dict[str, Residuals]) -> None:
        from gprann.evaluation.method_plots import error_bars

        panels = error_bars(methods).axes
        assert len(panels) == 6
        attributes = [
            f"{stem}_{kind}" for kind in ("mae", "msd") for stem in ("energy", "force_norm", "force_angle")
        ]
        for axes, name, factor in zip(panels, attributes, [1000, 1, 1] * 2, strict=True):
            heights = [bar.get_height() for bar in axes.patches]
            expected = [factor * getattr(metrics_of(own), name) for own in methods.values()]
            assert heights == pytest.approx(expected, rel=1e-12)

    @pytest.mark.parametrize(("members", "forces", "panels"), [(1, True, 3), (3, False, 2), (1, False, 1)])
    def test_bars_without_committee_or_forces(self, members: int, forces: bool, panels: int) -> None:
        from gprann.evaluation.method_plots import error_bars

        assert len(error_bars({"gpr": make_residuals(0.1, members=members, forces=forces)}).axes) == panels

    def test_force_panels_share_their_scales(self, methods: dict[str, Residuals]) -> None:
        from gprann.evaluation.method_plots import force_panels

        *panels, bar = force_panels(methods).axes
        assert len(panels) == 8
        assert bar.get_ylabel() == "atoms per cell"
        assert [axes.get_title() for axes in panels[::2]] == [method.title for method in METHODS.values()]
        for row in (panels[::2], panels[1::2]):
            assert len({(axes.get_xlim(), axes.get_ylim()) for axes in row}) == 1
            cells = [axes.collections[0] for axes in row]
            assert all(np.sum(drawn.get_array()) == 120 for drawn in cells)  # every atom is counted
            assert len({drawn.get_clim() for drawn in cells}) == 1

    def test_forces_that_are_not_finite(self, methods: dict[str, Residuals]) -> None:
        from gprann.evaluation.method_plots import force_panels

        forces = methods["taylor"].forces
        assert forces is not None
        broken = forces.predicted.copy()
        broken[::2] = np.nan
        methods["taylor"] = replace(methods["taylor"], forces=replace(forces, predicted=broken))
        assert np.all(np.isfinite(force_panels(methods).axes[0].get_ylim()))

    def test_only_what_there_are_data_for_is_saved(self, tmp_path: Path) -> None:
        from gprann.evaluation.method_plots import force_panels, save_methods

        bare = {"gpr": make_residuals(0.1, forces=False)}
        with pytest.raises(DataError, match="no forces"):
            force_panels(bare)
        assert [path.name for path in save_methods(bare, tmp_path)] == ["errors.png"]
        both = save_methods({"gpr": make_residuals(0.1)}, tmp_path)
        assert [path.name for path in both] == ["errors.png", "forces.png"]
        assert all(path.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n" for path in both)
