"""Covariances of the compiled core against their equations, and their derivatives through real descriptors."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import contracts
from contracts import Array, clear_of, displaced, molecule
from gprann import _core
from gprann.data.structure import Structure
from gprann.descriptors import ChebyshevDescriptor
from gprann.runtime.resources import scipy_blas
from reference.covariance_oracle import Sets, covariance_oracle

pytestmark = pytest.mark.usefixtures("quiet_blas")
LENGTH = 2.3
D = 6


def make_sets(seed: int, n: int = 5, n_kinds: int = 3, *, directions: tuple[int, ...] = (7, 0, 4, 1)) -> Sets:
    """Up to three rows of a kind in a structure; some kinds are missing, some structures have no rows at all."""
    rng = np.random.default_rng(seed)
    counts = rng.integers(0, 4, size=(n, n_kinds))
    counts[1 % n] = 0
    kinds = [np.repeat(np.arange(n_kinds), c) for c in counts]
    features = [rng.normal(size=(len(k), D)) for k in kinds]
    jacobians = [rng.normal(size=(len(k), D, directions[s % len(directions)])) for s, k in enumerate(kinds)]
    return Sets(kinds, features, jacobians, n_kinds)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(6)


def covariance(
    A: Sets, B: Sets, blas: _core.Blas, *, kernel: Any = None, lower: bool = False, threads: int = 2
) -> Array:
    K = np.full((A.observations, B.observations), np.nan)
    kernel = kernel or _core.SquaredExponential(LENGTH)
    own = A.kernel
    _core.covariance(own, own if B is A else B.kernel, kernel, blas, lower, threads, K)
    return K


def energy_covariance(A: Sets, B: Sets, blas: _core.Blas, *, kernel: Any = None, threads: int = 2) -> Array:
    K = np.full((len(A), B.observations), np.nan)
    kernel = kernel or _core.SquaredExponential(LENGTH)
    _core.energy_covariance(A.kernel, B.kernel, kernel, blas, threads, K)
    return K


# Against the equations --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(4))
def test_covariance_is_what_the_equations_say(seed: int, blas: _core.Blas) -> None:
    A, B = make_sets(seed), make_sets(seed + 10, n=4, directions=(3, 5, 0))
    assert 0 in A.directions
    assert [] in [list(k) for k in A.kinds]
    contracts.assert_close(covariance(A, B, blas), covariance_oracle(A, B, LENGTH), relative=1e-13)


def test_covariance_of_many_structures(blas: _core.Blas) -> None:
    """More structures than are taken at a time (at most 8)."""
    A, B = make_sets(30, n=19), make_sets(31, n=11, directions=(3, 5, 0))
    contracts.assert_close(covariance(A, B, blas), covariance_oracle(A, B, LENGTH), relative=1e-13)


def test_rows_of_other_kinds_are_not_correlated(blas: _core.Blas) -> None:
    A = Sets([np.zeros(3, int)], [np.ones((3, D))], [np.ones((3, D, 2))], 2)
    B = Sets([np.ones(2, int)], [np.ones((2, D))], [np.ones((2, D, 3))], 2)
    np.testing.assert_array_equal(covariance(A, B, blas), np.zeros((3, 4)))
    np.testing.assert_array_equal(energy_covariance(A, B, blas), np.zeros((1, 4)))


@pytest.mark.parametrize("n", [5, 19])
def test_lower_triangle_of_blocks_alone_is_written(n: int, blas: _core.Blas) -> None:
    A = make_sets(3, n=n)
    whole, lower = covariance(A, A, blas), covariance(A, A, blas, lower=True)
    owner = np.repeat(np.arange(len(A)), np.array(A.directions) + 1)
    written = owner[:, None] >= owner
    np.testing.assert_array_equal(lower[written], whole[written])
    assert np.isnan(lower[~written]).all()
    contracts.assert_close(np.tril(lower), np.tril(covariance_oracle(A, A, LENGTH)), relative=1e-13)


def test_covariance_stays_within_its_rows(blas: _core.Blas) -> None:
    A, B = make_sets(4), make_sets(5)
    room = np.full((A.observations + 2, B.observations), 7.0)
    _core.covariance(A.kernel, B.kernel, _core.SquaredExponential(LENGTH), blas, False, 2, room[1:-1])
    contracts.assert_close(room[1:-1], covariance_oracle(A, B, LENGTH), relative=1e-13)
    assert (room[[0, -1]] == 7.0).all()


def test_energies_alone(blas: _core.Blas) -> None:
    A, B = make_sets(6, n=150), make_sets(7, n=4)  # more queries than one chunk of 64
    expected = covariance_oracle(A, B, LENGTH)[A.energies_at]
    contracts.assert_close(energy_covariance(A, B, blas), expected, relative=1e-13)
    without = Sets(A.kinds, A.features, [J[:, :, :0] for J in A.jacobians], A.n_kinds)
    np.testing.assert_array_equal(energy_covariance(without, B, blas), energy_covariance(A, B, blas))


def test_prior_variance_is_the_diagonal() -> None:
    A = make_sets(8, n=9)
    expected = np.diag(covariance_oracle(A, A, LENGTH))[A.energies_at]
    assert min(expected) == 0.0  # a structure without rows
    contracts.assert_close(
        _core.energy_variance(A.kernel, _core.SquaredExponential(LENGTH)), expected, relative=1e-14
    )


def test_transposed_blocks(blas: _core.Blas) -> None:
    A, B = make_sets(9), make_sets(10)
    contracts.assert_close(covariance(A, B, blas), covariance(B, A, blas).T, relative=1e-13)


@pytest.mark.parametrize("length", [0.9, 2.3, 20.0])
def test_matern_covariance_is_what_the_equations_say(length: float, blas: _core.Blas) -> None:
    A, B = make_sets(40), make_sets(41, n=4, directions=(3, 5, 0))
    kernel = _core.Matern52(length)
    for first, second in ((A, B), (A, A)):  # with itself: distances of zero
        expected = covariance_oracle(first, second, length, "matern52")
        contracts.assert_close(covariance(first, second, blas, kernel=kernel), expected, relative=1e-13)
        contracts.assert_close(
            energy_covariance(first, second, blas, kernel=kernel), expected[first.energies_at], relative=1e-13
        )
    expected = np.diag(covariance_oracle(A, A, length, "matern52"))[A.energies_at]
    contracts.assert_close(_core.energy_variance(A.kernel, kernel), expected, relative=1e-14)


@pytest.mark.parametrize("radial", [_core.SquaredExponential, _core.Matern52])
def test_a_constant_adds_to_covariances_of_energies_alone(radial: Any, blas: _core.Blas) -> None:
    """It is a shift of every row's energy: pairs of rows of one kind count."""
    A = make_sets(9)
    counts = np.array([[np.sum(np.asarray(kinds) == k) for k in range(A.n_kinds)] for kinds in A.kinds])
    shift = np.zeros((A.observations, A.observations))
    shift[np.ix_(A.energies_at, A.energies_at)] = 0.7 * counts @ counts.T
    plain, shifted = radial(LENGTH), radial(LENGTH, constant=0.7)
    expected = covariance(A, A, blas, kernel=plain) + shift
    contracts.assert_close(covariance(A, A, blas, kernel=shifted), expected, relative=1e-13)
    contracts.assert_close(
        energy_covariance(A, A, blas, kernel=shifted), expected[A.energies_at], relative=1e-13
    )
    variances = np.diag(expected)[A.energies_at]
    contracts.assert_close(_core.energy_variance(A.kernel, shifted), variances, relative=1e-13)
    slopes = [covariance(A, A, blas, kernel=radial(LENGTH, True, constant)) for constant in (0.0, 0.7)]
    np.testing.assert_array_equal(slopes[0], slopes[1])


@pytest.mark.parametrize("radial", [_core.SquaredExponential, _core.Matern52])
@pytest.mark.parametrize("length", [0.5, 2.3, 40.0])
def test_covariance_has_no_negative_eigenvalue(length: float, radial: Any, blas: _core.Blas) -> None:
    A = make_sets(11, n=8)
    K = covariance(A, A, blas, kernel=radial(length))
    eigenvalues = np.linalg.eigvalsh(K)
    assert eigenvalues[0] >= -1e-13 * eigenvalues[-1]


@pytest.mark.parametrize("radial", [_core.SquaredExponential, _core.Matern52])
@pytest.mark.parametrize("length", [0.7, 5.0])
def test_derivative_with_respect_to_the_length(length: float, radial: Any, blas: _core.Blas) -> None:
    A, B = make_sets(12), make_sets(13)

    def at(t: float, derivative: bool) -> list[Array]:
        kernel = radial(length * np.exp(t), derivative)
        K = covariance(A, B, blas, kernel=kernel).ravel()
        k = energy_covariance(A, B, blas, kernel=kernel).ravel()
        return [np.concatenate([K, k, _core.energy_variance(A.kernel, kernel)])]

    contracts.assert_derivative(lambda t: at(t, False), at(0.0, True), step=1e-2)


# Predictions ------------------------------------------------------------------------------------------------------


def folded(B: Sets, alpha: Array) -> tuple[Any, Array, Array, Array]:
    """Training rows by kind with their weights: offsets, features, energy weights, slopes J alpha_F."""
    kinds = np.concatenate(B.kinds).astype(int)
    weight = np.concatenate([np.full(len(k), alpha[e]) for k, e in zip(B.kinds, B.energies_at, strict=True)])
    slope = np.concatenate(
        [
            J @ alpha[e + 1 : e + 1 + m]
            for J, e, m in zip(B.jacobians, B.energies_at, B.directions, strict=True)
        ]
    )
    order = np.argsort(kinds, kind="stable")
    first = np.searchsorted(kinds[order], np.arange(B.n_kinds + 1)).astype(np.int64)
    return first, np.concatenate(B.features)[order], weight[order], slope[order]


def predict(B: Sets, alpha: Array, first: Any, query: Array, blas: _core.Blas, threads: int = 2) -> Any:
    return _core.predict_rows(
        *folded(B, alpha), first, query, _core.SquaredExponential(LENGTH), blas, threads
    )


def test_predicted_rows_are_covariances_times_weights(blas: _core.Blas, rng: np.random.Generator) -> None:
    """A row of a query is a structure of one row, with its own features as directions."""
    B = make_sets(14, n=12)
    alpha = rng.normal(size=B.observations)
    first = np.array([0, 70, 70, 75])  # more rows than one chunk of 32, a kind without rows
    query = rng.normal(size=(75, D))
    energies, slopes = predict(B, alpha, first, query, blas)
    rows = [np.array([k]) for k in np.repeat(range(3), np.diff(first))]
    A = Sets(rows, [g[None] for g in query], [np.eye(D)[None]] * 75, 3)
    expected = (covariance_oracle(A, B, LENGTH) @ alpha).reshape(75, 1 + D)
    contracts.assert_close(energies, expected[:, 0], relative=1e-12)
    contracts.assert_close(slopes, expected[:, 1:], relative=1e-12)


def test_predicted_slopes_are_derivatives(blas: _core.Blas, rng: np.random.Generator) -> None:
    B = make_sets(15, n=6)
    alpha = rng.normal(size=B.observations)
    first, query = np.array([0, 5, 9, 20]), rng.normal(size=(20, D))
    direction = rng.uniform(-1, 1, size=query.shape)
    slopes = predict(B, alpha, first, query, blas)[1]
    contracts.assert_derivative(
        lambda t: predict(B, alpha, first, query + t * direction, blas)[0],
        np.sum(slopes * direction, axis=1),
        step=1e-2,
    )


def test_predicted_rows_of_a_kind_without_training_rows_are_zero(blas: _core.Blas) -> None:
    B = Sets([np.zeros(4, int)], [np.ones((4, D))], [np.ones((4, D, 2))], 2)
    energies, slopes = predict(B, np.ones(3), np.array([0, 1, 3]), np.ones((3, D)), blas)
    assert energies[0] > 1
    assert not energies[1:].any()
    assert not slopes[1:].any()


def test_prediction_far_from_the_origin_keeps_its_digits(rng: np.random.Generator) -> None:
    """Distances come from |g|^2 + |g'|^2 - 2 g.g', whose error has to stay small against the squared length."""
    B = make_sets(14, n=12)
    alpha = rng.normal(size=B.observations)
    first, query = np.array([0, 3, 6, 9]), rng.normal(size=(9, D))
    shifted = Sets(B.kinds, [g + 30.0 for g in B.features], B.jacobians, B.n_kinds)
    near, far = (predict(b, alpha, first, q, scipy_blas()) for b, q in ((B, query), (shifted, query + 30.0)))
    for a, b in zip(near, far, strict=True):
        contracts.assert_close(a, b, relative=1e-11)


# Through real descriptors -----------------------------------------------------------------------------------------


SPECIES = ("C", "H", "O")
SYMBOLS = (("C", "H", "H", "O"), ("H", "C", "O", "H", "C"))
DESCRIPTOR = ChebyshevDescriptor(
    SPECIES, radial_order=5, radial_cutoff=4.0, angular_order=3, angular_cutoff=3.2, weights=[-1, 1, 2]
)


def described(structures: list[Structure]) -> Sets:
    """Atoms as rows sorted by species, their descriptors as features, all Cartesian directions."""
    neighbours = DESCRIPTOR.neighbours(structures)
    G = DESCRIPTOR.values(neighbours)
    kinds, features, jacobians = [], [], []
    for s in range(len(structures)):
        first, last = neighbours.first_atom[s], neighbours.first_atom[s + 1]
        species = neighbours.species[first:last]
        order = np.argsort(species, kind="stable")
        kinds.append(species[order])
        features.append(G[first:last][order])
        jacobians.append(DESCRIPTOR.jacobian(neighbours, s)[order])
    return Sets(kinds, features, jacobians, len(SPECIES))


@pytest.fixture(scope="module")
def molecules() -> list[Structure]:
    rng = np.random.default_rng(21)
    return [clear_of(lambda s=s: molecule(s, rng), [4.0, 3.2], margin=0.05) for s in SYMBOLS]


def test_blocks_are_derivatives_of_the_energy_block(molecules: list[Structure], blas: _core.Blas) -> None:
    rng = np.random.default_rng(3)
    A, B = molecules
    u, v = rng.uniform(-1, 1, size=(len(A), 3)), rng.uniform(-1, 1, size=(len(B), 3))

    def energies(s: float, t: float) -> float:
        moved = [described([displaced(A, s * u)]), described([displaced(B, t * v)])]
        return float(covariance(*moved, blas)[0, 0])

    K = covariance(described([A]), described([B]), blas)
    contracts.assert_derivative(lambda t: energies(0.0, t), K[0, 1:] @ v.ravel())
    contracts.assert_derivative(lambda s: energies(s, 0.0), u.ravel() @ K[1:, 0])
    contracts.assert_mixed_derivative(energies, u.ravel() @ K[1:, 1:] @ v.ravel())


def test_rigid_motions_have_no_variance(molecules: list[Structure], blas: _core.Blas) -> None:
    sets = described(molecules)
    K = covariance(sets, sets, blas)
    for structure, e in zip(molecules, sets.energies_at, strict=True):
        centred = structure.positions - structure.positions.mean(axis=0)
        rigid = [np.tile(axis, (len(structure), 1)) for axis in np.eye(3)]
        rigid += [np.cross(axis, centred) for axis in np.eye(3)]
        block = K[:, e + 1 : e + 1 + 3 * len(structure)]
        contracts.assert_close(
            block @ np.array([r.ravel() for r in rigid]).T, np.zeros((len(K), 6)), scale=K.max()
        )


def test_covariance_of_descriptors_has_no_negative_eigenvalue(molecules: list[Structure]) -> None:
    sets = described([*molecules, *(displaced(m, 0.01) for m in molecules)])
    eigenvalues = np.linalg.eigvalsh(covariance(sets, sets, scipy_blas()))
    assert eigenvalues[0] >= -1e-13 * eigenvalues[-1]


# Execution --------------------------------------------------------------------------------------------------------


def test_number_of_threads_does_not_matter(blas: _core.Blas, rng: np.random.Generator) -> None:
    A, B = make_sets(16, n=130), make_sets(17, n=20)
    alpha, first = rng.normal(size=B.observations), np.array([0, 100, 150, 220])
    query = rng.normal(size=(220, D))
    results = []
    for threads in (1, 2, 3):
        blocks = [covariance(B, A, blas, threads=threads), energy_covariance(A, B, blas, threads=threads)]
        lower = np.nan_to_num(covariance(B, B, blas, lower=True, threads=threads))
        results.append([*blocks, lower, *predict(B, alpha, first, query, blas, threads)])
    contracts.assert_same_bits(results)


def test_bits_do_not_depend_on_where_arrays_lie(blas: _core.Blas) -> None:
    A = make_sets(18, n=6)
    kind_rows, features, jacobians, directions = A.arrays
    results = []
    for offset in range(4):
        moved = []
        for array in (features, jacobians):
            room = np.empty(array.size + 4)[offset : offset + array.size].reshape(array.shape)
            room[:] = array
            moved.append(room)
        sets = _core.FeatureSets(kind_rows, *moved, directions)
        K = np.zeros((A.observations, A.observations))
        kernel = _core.SquaredExponential(LENGTH)
        _core.covariance(sets, sets, kernel, blas, False, 1, K)
        results.append([K, _core.energy_variance(sets, kernel)])
    contracts.assert_same_bits(results)


def test_inputs_are_not_modified(blas: _core.Blas, rng: np.random.Generator) -> None:
    A, B = make_sets(19), make_sets(20)
    alpha, first, query = rng.normal(size=B.observations), np.array([0, 1, 3, 4]), rng.normal(size=(4, D))
    contracts.assert_inputs_kept(
        lambda: (
            covariance(A, B, blas),
            energy_covariance(A, B, blas),
            predict(B, alpha, first, query, blas),
        ),
        [*A.arrays, *B.arrays, alpha, first, query],
    )


# Wrong input ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kind_rows": np.array([[0, 2, 1], [1, 3, 4]])}, "kind_rows"),
        ({"kind_rows": np.array([[0, 1, 2], [3, 3, 4]])}, "kind_rows"),
        ({"kind_rows": np.array([0, 1])}, "two dimensions"),
        ({"features": np.zeros((5, D))}, "features"),
        ({"jacobians": np.zeros((4, D, 2))}, "jacobians"),
        ({"directions": np.array([3])}, "directions"),
        ({"directions": np.array([3, -1])}, "directions"),
    ],
)
def test_inconsistent_feature_sets_are_refused(changes: dict[str, Any], message: str) -> None:
    arrays: dict[str, Any] = {
        "kind_rows": np.array([[0, 1, 2], [2, 2, 4]]),
        "features": np.zeros((4, D)),
        "jacobians": np.zeros((4, D, 3)),
        "directions": np.array([3, 3]),
    }
    assert _core.FeatureSets(*arrays.values()).observations == 8
    with pytest.raises(ValueError, match=message):
        _core.FeatureSets(*(arrays | changes).values())


def test_arrays_that_do_not_fit_are_refused() -> None:
    A, B = make_sets(21), make_sets(22)
    kernel, blas = _core.SquaredExponential(LENGTH), _core.Blas()
    K = np.zeros((A.observations, B.observations))
    other = make_sets(23, n_kinds=2)
    bare = _core.FeatureSets(A.kind_rows, A.arrays[1], np.zeros(0), A.arrays[3])
    for fill, shape in ((_core.covariance, K.shape), (_core.energy_covariance, (len(A), B.observations))):
        more: tuple[Any, ...] = (False, 1) if fill is _core.covariance else (1,)
        with pytest.raises(ValueError, match="first dimension of K"):
            fill(A.kernel, B.kernel, kernel, blas, *more, np.zeros((shape[0] + 1, shape[1])))
        with pytest.raises(ValueError, match="second dimension of K"):
            fill(A.kernel, B.kernel, kernel, blas, *more, np.zeros((shape[0], shape[1] + 1)))
        with pytest.raises(ValueError, match="size or kinds"):
            fill(A.kernel, other.kernel, kernel, blas, *more, K)
        with pytest.raises(TypeError):
            fill(A.kernel, B.kernel, kernel, blas, *more, np.zeros(shape, order="F"))
        with pytest.raises(ValueError, match="jacobians"):
            fill(A.kernel, bare, kernel, blas, *more, np.zeros((shape[0], A.observations)))
    with pytest.raises(ValueError, match="jacobians"):
        _core.covariance(bare, B.kernel, kernel, blas, False, 1, K)
    fewer = make_sets(21, n=4)
    K = np.zeros((A.observations, fewer.observations))
    with pytest.raises(ValueError, match="lower"):
        _core.covariance(A.kernel, fewer.kernel, kernel, blas, True, 1, K)


def test_prediction_refuses_rows_with_gaps() -> None:
    first, g, one = np.array([0, 4]), np.ones((4, D)), np.ones(4)
    gaps = np.ones((4, D + 1))[:, :D]
    kernel, blas = _core.SquaredExponential(LENGTH), _core.Blas()
    _core.predict_rows(first, g, one, g, first, g, kernel, blas, 1)
    for changed in (1, 3, 5):
        arguments = [first, g, one, g, first, g]
        arguments[changed] = gaps
        with pytest.raises((TypeError, ValueError)):
            _core.predict_rows(*arguments, kernel, blas, 1)
        arguments[changed] = g[:, 1:].copy()
        with pytest.raises(ValueError, match=r"slope|query"):
            _core.predict_rows(*arguments, kernel, blas, 1)
    with pytest.raises(ValueError, match="first"):
        _core.predict_rows(np.zeros(0, np.int64), g, one, g, np.zeros(0, np.int64), g, kernel, blas, 1)
