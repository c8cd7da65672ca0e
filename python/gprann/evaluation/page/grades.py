"""Plot of force errors against extrapolation grades. Needs matplotlib."""

from __future__ import annotations

import numpy as np

from gprann.errors import DataError
from gprann.evaluation.drawing import (
    GREY,
    INK,
    Figure,
    logarithmic,
    markers,
    new_axes,
    new_figure,
    plain_ticks,
)
from gprann.evaluation.plots import reference_forces
from gprann.evaluation.residuals import Residuals
from gprann.models.guard import STOP

_MOST_POINTS = 5000


def error_by_grade(residuals: Residuals) -> Figure:
    """Plot the force error of each atom against its extrapolation grade, both logarithmic.

    Of very many atoms those of the largest grades are shown, and a part of the others.

    Raises
    ------
    DataError
        If there are no reference forces or no grades.
    """
    forces = reference_forces(residuals)
    if forces.grades is None:
        raise DataError("the prediction has no extrapolation grades; leave this plot out")
    grade, error = forces.grades, np.linalg.norm(forces.error, axis=1)
    shown = np.flatnonzero((grade > 0) & (error > 0) & np.isfinite(error))
    if len(shown) == 0:
        raise DataError("all errors or grades vanish; leave this plot out")
    shown = shown[np.argsort(-grade[shown], kind="stable")]
    half = _MOST_POINTS // 2
    shown = np.concatenate([shown[:half], shown[half :: 1 + max(0, len(shown) - half) // half]])
    figure = new_figure(5.0, 3.8)
    axes = new_axes(figure)
    axes.plot(grade[shown], error[shown], ls="", **markers(len(shown)))
    axes.set_xscale("log")
    logarithmic(axes)
    for limit, style in ((1.0, "-"), (STOP, "--")):
        axes.axvline(limit, color=INK if limit == 1.0 else GREY, lw=1, ls=style)
    plain_ticks(axes.xaxis)
    axes.set(xlabel="extrapolation grade", ylabel=r"force error $|F - F_\mathrm{ref}|$ (eV/Å)")
    return figure
