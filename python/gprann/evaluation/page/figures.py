"""The plots of an evaluation as images within the page: vector graphics, or pixels where those would be large."""

from __future__ import annotations

import base64
import importlib.util
import io
import logging
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from gprann.errors import DataError
from gprann.evaluation.metrics import number
from gprann.evaluation.page.elements import Markup, element
from gprann.units import MEV

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from gprann.evaluation.report import History, Report

_log = logging.getLogger(__name__)
_LARGEST_SVG = 100_000  # bytes
_DPI = 130


def can_plot() -> bool:
    """Return whether matplotlib is installed."""
    return importlib.util.find_spec("matplotlib") is not None


def image(figure: Figure, text: str) -> Markup:
    """Return a figure as an image that stands in the page itself.

    An image cannot run scripts, whatever is in it. The same figure gives the same bytes.

    Parameters
    ----------
    figure : Figure
    text : str
        What the image shows, for those who do not see it.
    """
    from matplotlib import rc_context

    with rc_context({"svg.hashsalt": "gprann", "svg.fonttype": "path"}):
        stream = io.BytesIO()
        figure.savefig(stream, format="svg", metadata={"Date": None, "Creator": None})
    kind, content = "svg+xml", stream.getvalue()
    if len(content) > _LARGEST_SVG:
        stream = io.BytesIO()
        figure.savefig(stream, format="png", dpi=_DPI, metadata={"Software": None})
        kind, content = "png", stream.getvalue()
    source = f"data:image/{kind};base64,{base64.b64encode(content).decode('ascii')}"
    width, height = (round(96 * length) for length in figure.get_size_inches())
    return element("img", src=source, alt=text, width=width, height=height)


def plots(report: Report, *, shortly: bool = False) -> Markup:
    """Return the plots for which there are data with their captions; nothing without matplotlib.

    Parameters
    ----------
    report : Report
    shortly : bool
        Only parity and distribution of the errors.
    """
    if not can_plot():
        return Markup("")
    drawn = [_figure(draw, *words) for draw, *words in _drawings(report, shortly)]
    return element("div", *drawn, class_="figures")


def learning_curves(history: History) -> Markup:
    """Return the learning curves; nothing without matplotlib or where there are none."""
    if not can_plot() or not history:
        return Markup("")
    from gprann.evaluation.plots import learning_curve

    ends = [curve[-1][1] for curve in history.values() if curve]
    last = f"; training errors at the end: {number(min(ends))} to {number(max(ends))} eV" if ends else ""
    return _figure(
        lambda: learning_curve(history, label="square root of the loss (eV)"),
        f"Training (solid) and validation error (dashed) against the iteration, {len(history)} networks{last}.",
        "Solid: error on the training set; dashed: on structures left out, where there are some. A dashed line that "
        "rises while the solid one falls tells of learning by heart.",
    )


def _figure(draw: Callable[[], Figure], text: str, caption: str) -> Markup:
    """Return a figure with its caption, nothing if there are no data for it; a failure to draw is a warning."""
    try:
        drawn = image(draw(), text)
    except DataError as error:
        _log.debug("no plot: %s", error)
        return Markup("")
    except Exception as error:
        _log.warning("a plot of the report is missing: %s: %s", type(error).__name__, error)
        return element("p", f"This plot could not be drawn: {text}", class_="muted")
    return element("figure", drawn, element("figcaption", caption))


def _drawings(report: Report, shortly: bool) -> Iterator[tuple[Callable[[], Figure], str, str]]:
    from gprann.evaluation import plots as drawings
    from gprann.evaluation.page.grades import error_by_grade

    residuals = report.residuals
    energies = f"mean absolute error {number(report.energy_mae, 1 / MEV)} meV per structure"
    forces = f"mean absolute error {number(report.force_mae)}, largest {number(report.force_max)} eV/Å"
    both = f"Energies: {energies}." + ("" if report.force_mae is None else f" Force components: {forces}.")
    yield (
        lambda: drawings.energy_parity(residuals),
        f"Predicted against reference energies, {energies}.",
        "Energies: on the line the prediction is exact; below, the errors, with bars of one standard deviation.",
    )
    yield (
        lambda: drawings.force_parity(residuals),
        f"Predicted against reference force components, {forces}.",
        "Force components; the darker, the more of them.",
    )
    yield (
        lambda: drawings.error_histogram(residuals, stacked=True),
        f"Distributions of the errors. {both}",
        "How often errors occur; those of forces on a logarithmic scale, where outliers can be seen.",
    )
    if shortly:
        return
    norms, angle = number(report.force_norm_mae), number(report.force_angle_mae)
    yield (
        lambda: drawings.force_parity(residuals, quantity="norm"),
        f"Predicted against reference magnitudes of the forces, mean absolute error {norms} eV/Å.",
        "Magnitudes of the forces.",
    )
    yield (
        lambda: drawings.force_direction_error(residuals),
        f"Error of the direction of forces against their magnitude, {angle} degrees on average.",
        "Directions of the forces: large angles of small forces do little harm.",
    )
    yield (
        lambda: drawings.error_by_force(residuals),
        "Median force error of each element against the magnitude of the reference force.",
        "Force errors of each element against the force: whether errors grow with the forces.",
    )
    yield (
        lambda: drawings.uncertainty_calibration(residuals, stacked=True),
        "Errors against the standard deviations that the potential tells, and observed against expected shares.",
        "Calibration: in the lower plot, below the diagonal the potential is surer of itself than it should be. In the "
        "legend: errors within one and two standard deviations (normal: 68, 95 %).",
    )
    yield (
        lambda: error_by_grade(residuals),
        "Force errors against extrapolation grades; the table above has the numbers.",
        "Guard: a grade of 1 is the edge of what the training set has shown (solid), simulations stop at 2 (dashed).",
    )
