"""Functions on structures take whatever `gprann.read` takes: paths, ASE's atoms, lists of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gprann
from gprann.data.structure import Dataset
from gprann.errors import DataError

DESCRIPTOR = gprann.ChebyshevDescriptor(["H"], radial_order=6, radial_cutoff=6.0, angular_order=None)
USES: dict[str, Callable[[Any, Path], Any]] = {
    "augment": lambda data, _: gprann.augment(data, copies=2, displacement=0.03, kernel="pairs").energies,
    "taylor_augment": lambda data, _: gprann.taylor_augment(data, copies=2).energies,
    "fit": lambda data, _: gprann.Surrogate(kernel="pairs").fit(data).predict(data).energy,
    "extend": lambda data, _: (
        gprann.Surrogate(kernel="pairs").fit(gprann.examples.hydrogen(4)).extend(data).predict(data).energy
    ),
    "fit_surrogates": lambda data, _: gprann.fit_surrogates(data, kernel="pairs").predict(data).energy,
    "select": lambda data, _: (
        gprann.select(
            data, gprann.Surrogate(kernel="pairs", length=2.0).fit(gprann.examples.hydrogen(3)), 2
        ).std
    ),
    "train": lambda data, _: gprann.train(data, DESCRIPTOR, hidden=(3,), iterations=5).predict(data).energy,
    "evaluate": lambda data, _: (
        gprann.evaluate(gprann.Surrogate(kernel="pairs").fit(gprann.examples.hydrogen(4)), data).energy_mae
    ),
    "label": lambda data, folder: gprann.label(data, "emt", folder / "labels.extxyz").labelled.energies,
}


@pytest.mark.parametrize("use", USES)
def test_a_path_and_atoms_do_as_well_as_a_data_set(use: str, tmp_path: Path) -> None:
    data = gprann.examples.hydrogen(9)
    gprann.write(tmp_path / "data.extxyz", data)
    folders = [tmp_path / name for name in ("a", "b", "c")]
    for folder in folders:
        folder.mkdir()
    of_data = USES[use](data, folders[0])
    for source, folder in zip(
        (tmp_path / "data.extxyz", [structure.to_ase() for structure in data]), folders[1:], strict=True
    ):
        np.testing.assert_allclose(USES[use](source, folder), of_data, rtol=1e-9)


@pytest.mark.parametrize(
    "use", sorted(USES.keys() - {"label", "extend"})
)  # nothing to label or to add is no mistake
@pytest.mark.parametrize("empty", [Dataset(), []], ids=["data", "list"])
def test_nothing_is_refused(use: str, empty: Any, tmp_path: Path) -> None:
    with pytest.raises(DataError):
        USES[use](empty, tmp_path)


@pytest.mark.parametrize("use", USES)
def test_a_missing_file_is_named(use: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nowhere\.extxyz"):
        USES[use](tmp_path / "nowhere.extxyz", tmp_path)


def test_a_calculator_is_named_and_not_given() -> None:
    with pytest.raises(gprann.errors.ConfigError, match=r"expected a name such as 'emt'.*got a EMT"):
        gprann.label(gprann.examples.hydrogen(2), emt(), "labels.extxyz")  # type: ignore[arg-type]


def emt() -> Any:
    from ase.calculators.emt import EMT

    return EMT()
