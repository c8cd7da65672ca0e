"""Cholesky factor and triangular solutions of the compiled core against numpy."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import pytest

import contracts
from contracts import EPS, Array
from gprann import _core

pytestmark = pytest.mark.usefixtures("quiet_blas")
LOWEST = 0.1
SIZES = (1, 2, 5, 511, 512, 513, 1024, 1300)  # tiles have 512 rows


@functools.cache
def numpy_factor(n: int) -> Array:
    L = np.linalg.cholesky(matrix(n))
    L.flags.writeable = False
    return L


@functools.cache
def matrix(n: int) -> Array:
    """A symmetric positive definite matrix with no eigenvalue below LOWEST."""
    A = np.random.default_rng(n).normal(size=(n, n))
    K = A @ A.T / np.sqrt(n) + LOWEST * np.eye(n)
    K.flags.writeable = False
    return K


def condition(K: Array) -> float:
    """An upper limit of the condition number."""
    return float(np.linalg.norm(K)) / LOWEST


def lower_of(K: Array) -> Array:
    """The lower triangle, NaN above it: what must not be read."""
    return np.where(np.tri(len(K), dtype=bool), K, np.nan)


def factor(K: Array, blas: _core.Blas, threads: int = 2) -> tuple[Array, int]:
    L = lower_of(K)
    failed = _core.cholesky(blas, L, threads)
    return L, failed


@pytest.mark.parametrize("n", SIZES)
def test_factor(n: int, blas: _core.Blas) -> None:
    K = matrix(n)
    L, failed = factor(K, blas)
    assert failed == -1
    assert np.isnan(L[np.triu_indices(n, 1)]).all()  # the upper triangle is neither read nor written
    contracts.assert_close(np.tril(L), numpy_factor(n), relative=n * EPS * condition(K))
    residual = np.tril(L) @ np.tril(L).T - K
    assert np.linalg.norm(residual) <= n * EPS * np.linalg.norm(K)  # Higham, Accuracy and Stability, th. 10.3


@pytest.mark.parametrize("row", [0, 3, 511, 512, 513, 1023, 1024, 1299])
def test_failing_row_is_reported(row: int, blas: _core.Blas) -> None:
    """K = L D L^T with one negative entry in D is definite up to the row of that entry, where the pivot is -1."""
    n = 1300
    L = np.tril(np.random.default_rng(row).normal(size=(n, n)), -1) / np.sqrt(n) + np.eye(n)
    D = np.ones(n)
    D[row] = -1.0
    assert factor(L * D @ L.T, blas)[1] == row


@pytest.mark.parametrize("n", [1, 20, 600])
def test_singular_matrix_fails(n: int, blas: _core.Blas) -> None:
    K = np.ones((n, n))
    K[0, 0] = 1.0 if n > 1 else 0.0
    assert factor(K, blas)[1] == min(1, n - 1)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize(("row", "column"), [(0, 0), (7, 3), (515, 515), (700, 20), (700, 600)])
def test_matrix_with_a_number_that_is_none_fails(
    row: int, column: int, value: float, blas: _core.Blas
) -> None:
    K = matrix(800).copy()
    K[row, column] = K[column, row] = value
    assert 0 <= factor(K, blas)[1] <= row


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("n_rhs", [0, 1, 300])
def test_solutions(n: int, n_rhs: int, blas: _core.Blas) -> None:
    L = lower_of(numpy_factor(n))
    B = np.random.default_rng(1).normal(size=(n_rhs, n))
    forward, backward = B.copy(), B.copy()
    _core.solve_lower(blas, L, forward, 2)
    _core.solve_lower_transposed(blas, L, backward, 2)
    L = np.tril(L)
    for X, product in ((forward, forward @ L.T), (backward, backward @ L)):
        bound = n * EPS * (np.abs(X) @ np.maximum(np.abs(L), np.abs(L.T)))  # Higham, th. 8.5
        assert np.all(np.abs(product - B) <= bound)
        assert n_rhs == 0 or X.any()


def test_factor_and_solutions_solve_a_system(blas: _core.Blas) -> None:
    K = matrix(700)
    x = np.random.default_rng(2).normal(size=(3, 700))
    B = x @ K
    L, _ = factor(K, blas)
    _core.solve_lower(blas, L, B, 2)
    _core.solve_lower_transposed(blas, L, B, 2)
    contracts.assert_close(B, x, relative=700 * EPS * condition(K))


def test_number_of_threads_does_not_matter(blas: _core.Blas) -> None:
    B = np.random.default_rng(3).normal(size=(500, 1300))
    results = []
    for threads in (1, 2, 3):
        L = np.tril(factor(matrix(1300), blas, threads)[0])
        forward, backward = B.copy(), B.copy()
        _core.solve_lower(blas, L, forward, threads)
        _core.solve_lower_transposed(blas, L, backward, threads)
        results.append([L, forward, backward])
    contracts.assert_same_bits(results)


def test_factor_of_solutions_is_not_modified(blas: _core.Blas) -> None:
    L, B = numpy_factor(5), np.ones((2, 5))
    contracts.assert_inputs_kept(
        lambda: (_core.solve_lower(blas, L, B, 1), _core.solve_lower_transposed(blas, L, B, 1)), [L]
    )


def test_arrays_that_do_not_fit_are_refused(blas: _core.Blas) -> None:
    read_only = np.eye(3)
    read_only.flags.writeable = False
    with pytest.raises(ValueError, match="K must be square"):
        _core.cholesky(blas, np.ones((3, 4)), 1)
    with pytest.raises(ValueError, match="L must be square"):
        _core.solve_lower(blas, np.ones((3, 4)), np.ones((2, 4)), 1)
    with pytest.raises(ValueError, match="right-hand side"):
        _core.solve_lower(blas, np.eye(3), np.ones((2, 4)), 1)
    wrong: tuple[Any, ...] = (
        np.eye(3, dtype=np.float32),
        np.ones((3, 4)).T[:3],
        np.eye(6)[::2, ::2],
        read_only,
    )
    for K in wrong:
        with pytest.raises(TypeError):
            _core.cholesky(blas, K, 1)


def test_blas_takes_capsules_alone() -> None:
    with pytest.raises((TypeError, ValueError)):
        _core.Blas(gemm=3)
