"""Fixtures shared by the tests of the compiled kernels."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from gprann import _core
from gprann.runtime.resources import one_blas_thread, scipy_blas


@pytest.fixture
def quiet_blas() -> Iterator[None]:
    """As in production: calls of BLAS come from the core's own threads."""
    with one_blas_thread():
        yield


@pytest.fixture(params=[pytest.param(_core.Blas, id="Eigen"), pytest.param(scipy_blas, id="scipy")])
def blas(request: pytest.FixtureRequest) -> _core.Blas:
    """Each source of BLAS in turn."""
    return request.param()
