"""Products with a covariance matrix that is never formed, against the matrix."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import contracts
from contracts import Array
from gprann import _core
from reference.covariance_oracle import Sets, covariance_oracle

pytestmark = pytest.mark.usefixtures("quiet_blas")
LENGTH = 2.3
D = 5


def folded(first: list[int], seed: int) -> tuple[Any, Array, Array, Array]:
    """Offsets of the kinds, features, energy weights and slopes."""
    rng = np.random.default_rng(seed)
    n = first[-1]
    return (
        np.array(first, dtype=np.int64),
        rng.normal(size=(n, D)),
        rng.normal(size=n),
        rng.normal(size=(n, D)),
    )


KERNELS = [_core.SquaredExponential(LENGTH), _core.Matern52(LENGTH, constant=0.7)]
each_kernel = pytest.mark.parametrize("kernel", KERNELS, ids=["squared_exponential", "matern52"])


def product(
    rows: tuple[Any, Array, Array, Array],
    blas: _core.Blas,
    threads: int = 2,
    kernel: _core.RadialKernel = KERNELS[0],
) -> tuple[Array, Array]:
    return _core.covariance_product(*rows, kernel, blas, threads)


@each_kernel
def test_product_is_what_the_equations_say(kernel: _core.RadialKernel, blas: _core.Blas) -> None:
    """Each row is a structure of its own, with its features as directions."""
    first, features, weight, slope = rows = folded([0, 9, 9, 23], 0)
    kinds = [np.array([k]) for k in np.repeat(range(3), np.diff(first))]
    A = Sets(kinds, [g[None] for g in features], [np.eye(D)[None]] * len(kinds), 3)
    x = np.hstack([weight[:, None], slope]).ravel()
    radial, constant = ("squared_exponential", 0.0) if kernel is KERNELS[0] else ("matern52", 0.7)
    expected = (covariance_oracle(A, A, LENGTH, radial, constant) @ x).reshape(-1, 1 + D)
    energies, slopes = product(rows, blas, kernel=kernel)
    contracts.assert_close(energies, expected[:, 0], relative=1e-13)
    contracts.assert_close(slopes, expected[:, 1:], relative=1e-13)


@pytest.mark.parametrize("first", [[0, 128], [0, 129, 130], [0, 300, 300, 556, 701]])
@each_kernel
def test_tiles_cover_every_pair_of_rows_once(
    kernel: _core.RadialKernel, first: list[int], blas: _core.Blas
) -> None:
    rows = folded(first, 1)
    expected = _core.predict_rows(*rows, *rows[:2], kernel, blas, 1)
    for actual, own in zip(product(rows, blas, kernel=kernel), expected, strict=True):
        contracts.assert_close(actual, own, relative=1e-12)


def test_product_is_symmetric(blas: _core.Blas) -> None:
    first, features, w, a = folded([0, 150, 290], 2)
    _, _, v, b = folded([0, 150, 290], 3)
    (ew, sa), (ev, sb) = product((first, features, w, a), blas), product((first, features, v, b), blas)
    assert v @ ew + np.sum(b * sa) == pytest.approx(w @ ev + np.sum(a * sb), rel=1e-11)


def test_number_of_threads_does_not_matter(blas: _core.Blas) -> None:
    rows = folded([0, 400, 700], 4)
    contracts.assert_same_bits([product(rows, blas, threads) for threads in (1, 2, 5)])


def test_no_rows(blas: _core.Blas) -> None:
    energies, slopes = product(folded([0, 0, 0], 5), blas)
    assert energies.shape == (0,)
    assert slopes.shape == (0, D)


def test_arrays_that_do_not_fit_are_refused(blas: _core.Blas) -> None:
    first, features, weight, slope = folded([0, 4, 6], 6)
    for bad, message in (
        ((first[:0], features, weight, slope), "first is empty"),
        ((first[[0, 2, 1]], features, weight, slope), "first is no list of offsets"),
        ((first, features, weight[:-1], slope), "energy_weight has 5 elements, expected 6"),
        ((first, features, weight, slope[:, 1:]), "slope has shape"),
    ):
        with pytest.raises(ValueError, match=message):
            product((bad[0], bad[1], bad[2], np.ascontiguousarray(bad[3])), blas)


# Gram matrices ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("rows", "columns"), [(3, 7), (40, 512), (70, 1100), (0, 5)])
def test_gram_matrix_is_added_to_the_lower_triangle(rows: int, columns: int, blas: _core.Blas) -> None:
    rng = np.random.default_rng(7)
    A, start = rng.normal(size=(rows, columns)), rng.normal(size=(columns, columns))
    results = []
    for threads in (1, 3):
        C = start.copy()
        _core.add_gram(blas, A, C, threads)
        results.append([C])
    contracts.assert_same_bits(results)
    contracts.assert_close(np.tril(C), np.tril(start + A.T @ A), relative=1e-13)
    tiles = np.arange(columns) // 512
    beyond = tiles[:, None] < tiles  # within a diagonal tile, Eigen and BLAS both keep to the triangle
    np.testing.assert_array_equal(C[beyond], start[beyond])


def test_gram_matrices_that_do_not_fit_are_refused(blas: _core.Blas) -> None:
    with pytest.raises(ValueError, match="C must be square"):
        _core.add_gram(blas, np.zeros((2, 3)), np.zeros((3, 4)), 1)
    with pytest.raises(ValueError, match="a row of A has 2 elements, expected 3"):
        _core.add_gram(blas, np.zeros((2, 2)), np.zeros((3, 3)), 1)
