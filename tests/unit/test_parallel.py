"""Number of threads and the BLAS handed to the compiled core."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from threadpoolctl import threadpool_info

from gprann import _core
from gprann.errors import ConfigError
from gprann.parallel import n_threads, one_blas_thread, scipy_blas


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("GPRANN_NUM_THREADS", "OMP_NUM_THREADS"):
        monkeypatch.delenv(variable, raising=False)


def blas_threads() -> set[int]:
    return {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"}


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"GPRANN_NUM_THREADS": "5"}, 5),
        ({"OMP_NUM_THREADS": "3"}, 3),
        ({"OMP_NUM_THREADS": "4,2,1"}, 4),  # OpenMP's list for nested levels
        ({"GPRANN_NUM_THREADS": "2", "OMP_NUM_THREADS": "7"}, 2),
        ({"GPRANN_NUM_THREADS": "", "OMP_NUM_THREADS": "7"}, 7),
        ({"GPRANN_NUM_THREADS": " 6 "}, 6),
    ],
)
def test_variables_set_the_number(
    variables: dict[str, str], expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert n_threads() == expected


@pytest.mark.parametrize("variable", ["GPRANN_NUM_THREADS", "OMP_NUM_THREADS"])
@pytest.mark.parametrize("value", ["0", "-1", "two", "1.5", "²"])
def test_impossible_numbers_are_refused(variable: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(ConfigError, match=f"{variable}={value}: expected a positive integer"):
        n_threads()


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="this system has no processor affinity")
def test_affinity_counts_without_variables() -> None:
    before = os.sched_getaffinity(0)
    assert n_threads() == len(before)
    try:
        os.sched_setaffinity(0, {min(before)})
        assert n_threads() == 1
    finally:
        os.sched_setaffinity(0, before)


def test_blas_runs_one_thread_inside_and_as_before_outside() -> None:
    scipy_blas()
    before = blas_threads()
    assert before
    with one_blas_thread():
        assert blas_threads() == {1}
    assert blas_threads() == before
    with pytest.raises(ZeroDivisionError), one_blas_thread():
        raise ZeroDivisionError
    assert blas_threads() == before


def test_scipy_blas_is_one_object_that_multiplies() -> None:
    assert scipy_blas() is scipy_blas()
    K = np.array([[4.0, np.nan], [2.0, 5.0]])
    assert _core.cholesky(scipy_blas(), K, 1) == -1
    np.testing.assert_allclose(np.tril(K), [[2.0, 0.0], [1.0, 2.0]])


def test_kernels_may_run_side_by_side() -> None:
    """The kernels release the interpreter's lock and share no state."""
    K = np.eye(700) * 4 + np.tri(700) * 1e-3
    expected = K.copy()

    def factor(_: int) -> np.ndarray:
        own = K.copy()
        assert _core.cholesky(scipy_blas(), own, 2) == -1
        return own

    with one_blas_thread():
        _core.cholesky(scipy_blas(), expected, 1)
        with ThreadPoolExecutor(4) as pool:
            for actual in pool.map(factor, range(8)):
                np.testing.assert_array_equal(actual, expected)
