"""Fixtures shared by all tests."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gprann.baselines import BASELINES
from gprann.descriptors import DESCRIPTORS
from gprann.io import formats
from gprann.models import MODELS
from gprann.surrogate.kernels.base import KERNELS
from gprann.surrogate.solvers.base import SOLVERS
from gprann.training.optimizers import OPTIMIZERS


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of the reference data set; the test is skipped where it is missing."""
    default = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(os.environ.get("GPRANN_SHARED_DATA", default))
    if not folder.is_dir():
        pytest.skip("reference data not found: set GPRANN_SHARED_DATA")
    return folder


@contextlib.contextmanager
def _restored_registries() -> Iterator[None]:
    registries = (BASELINES, DESCRIPTORS, MODELS, OPTIMIZERS, KERNELS, SOLVERS)
    tables = [*(registry._kinds for registry in registries), formats._FORMATS]
    before = [dict(table) for table in tables]
    try:
        yield
    finally:
        for table, content in zip(tables, before, strict=True):
            table.clear()
            table.update(content)


@pytest.fixture(scope="session")
def restored_registries() -> Callable[[], contextlib.AbstractContextManager[None]]:
    """A context after which whatever was registered in it is unknown again."""
    return _restored_registries
