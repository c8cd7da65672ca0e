"""Checks that every descriptor, kernel and model has to pass; a test file supplies what is checked.

Derivatives are judged by the order of convergence of central differences, never by one tolerance at one step; all
comparisons use the maximum norm. `Observed` is what an energy-like function says about one structure, so that the
same checks serve descriptors (through an energy made of their components), surrogates and potentials.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pytest
from numpy.typing import ArrayLike, NDArray
from scipy.spatial.transform import Rotation

from gprann.data.structure import Structure
from reference.neighbours_oracle import image_pairs

Array = NDArray[np.float64]

EPS = float(np.finfo(np.float64).eps)
SAME = 1e-11
"""Largest relative difference of two ways to compute the same: some 1e3 roundings of 2e-16, coordinates of 20 Å
rounded at 4e-15 Å and slopes up to 300 / Å of high Chebyshev orders."""


@dataclass(frozen=True)
class Observed:
    """An extensive energy of one structure and its derivatives.

    total: the energy; per_atom: (N, ...) numbers of each atom that no rotation changes; gradient: (N, 3) derivative of
    the energy with respect to the positions; virial: (3, 3) derivative with respect to a strain of positions and cell.
    """

    total: float
    per_atom: Array
    gradient: Array
    virial: Array | None = None


Evaluate = Callable[[Structure], Observed]


def max_norm(values: ArrayLike) -> float:
    return float(np.max(np.abs(values), initial=0.0))


def assert_close(actual: ArrayLike, expected: ArrayLike, relative: float = SAME, scale: float = 0.0) -> None:
    """The largest difference is at most `relative` times the largest expected number (or `scale`, if larger)."""
    actual, expected = np.asarray(actual), np.asarray(expected)
    assert actual.shape == expected.shape
    error = max_norm(actual - expected)
    assert error <= relative * max(max_norm(expected), scale), f"largest difference {error:.3g}"


# Derivatives ------------------------------------------------------------------------------------------------------


def assert_derivative(
    function: Callable[[float], ArrayLike],
    derivative: ArrayLike,
    *,
    step: float = 1e-3,
    halvings: int = 3,
    zero: bool = False,
) -> None:
    """The slope of `function(t)` at t = 0 is `derivative`.

    The error of the central difference falls at least to 0.30 (0.25 in the limit) whenever the step is halved, until it
    drowns in the rounding of the function: 100 roundings of its largest value, divided by the step.
    """
    errors, floors = [], []
    for h in step * 0.5 ** np.arange(halvings + 1):
        plus, minus = np.asarray(function(h)), np.asarray(function(-h))
        errors.append(max_norm((plus - minus) / (2 * h) - derivative))
        floors.append(100 * EPS * max(max_norm(plus), max_norm(minus)) / h)
    if not zero:
        assert max_norm(derivative) > 10 * floors[0], "the derivative is zero: nothing is tested"
    for before, after, floor in zip(errors, errors[1:], floors[1:], strict=False):
        assert after <= max(0.30 * before, floor), f"errors {errors}, floors {floors}"


def assert_mixed_derivative(
    function: Callable[[float, float], float], derivative: float, *, step: float = 0.02, halvings: int = 2
) -> None:
    """The second derivative d2/ds dt of `function(s, t)` at 0 is `derivative`; judged as in `assert_derivative`."""
    errors, floors = [], []
    for h in step * 0.5 ** np.arange(halvings + 1):
        corners = {(p, q): function(p * h, q * h) for p, q in itertools.product((1, -1), repeat=2)}
        mixed = sum(p * q * value for (p, q), value in corners.items()) / (4 * h * h)
        errors.append(abs(mixed - derivative))
        floors.append(100 * EPS * max_norm(list(corners.values())) / (h * h))
    assert abs(derivative) > 10 * floors[0], "the derivative is zero: nothing is tested"
    for before, after, floor in zip(errors, errors[1:], floors[1:], strict=False):
        assert after <= max(0.30 * before, floor), f"errors {errors}, floors {floors}"


def assert_adjoint(u: Array, forward: Array, v: Array, backward: Array) -> None:
    """<u, J v> = <J^T u, v> to 1e-12 of the size of the products; forward = J v, backward = J^T u."""
    left, right = float(np.sum(u * forward)), float(np.sum(backward * v))
    size = max(np.linalg.norm(u) * np.linalg.norm(forward), np.linalg.norm(backward) * np.linalg.norm(v))
    assert abs(left - right) <= 1e-12 * size, f"{left} and {right}"


def assert_gradient(
    evaluate: Evaluate, structure: Structure, rng: np.random.Generator, *, zero: bool = False
) -> None:
    """The gradient is the derivative of the total with respect to the positions."""
    direction = rng.uniform(-1, 1, size=(len(structure), 3))
    assert_derivative(
        lambda t: evaluate(displaced(structure, t * direction)).total,
        np.sum(evaluate(structure).gradient * direction),
        zero=zero,
    )


def assert_virial(
    evaluate: Evaluate, structure: Structure, rng: np.random.Generator, *, zero: bool = False
) -> None:
    """The virial is the derivative of the total with respect to a strain of the positions and the cell."""
    virial = evaluate(structure).virial
    assert virial is not None
    assert_close(virial, virial.T, scale=max_norm(structure.positions) * SAME)
    direction = rng.uniform(-1, 1, size=(3, 3))
    assert_derivative(
        lambda t: evaluate(deformed(structure, np.eye(3) + t * direction)).total,
        np.sum(virial * direction),
        step=1e-4,
        zero=zero,
    )


# Symmetries -------------------------------------------------------------------------------------------------------


def assert_translation(evaluate: Evaluate, structure: Structure, rng: np.random.Generator) -> None:
    """Nothing changes when all atoms move alike, or when one moves by whole periods."""
    before = evaluate(structure)
    _assert_same(evaluate(displaced(structure, rng.uniform(-7, 7, size=3))), before)
    periods = rng.integers(-2, 3, size=(len(structure), 3)) * structure.pbc
    _assert_same(evaluate(displaced(structure, periods @ structure.cell)), before)
    assert_close(before.gradient.sum(axis=0), np.zeros(3), scale=max_norm(before.gradient))


def assert_rotation(evaluate: Evaluate, structure: Structure, rng: np.random.Generator) -> None:
    """Energies stay, vectors and tensors turn with the structure."""
    Q = Rotation.random(random_state=rng.integers(1 << 31)).as_matrix()
    before, after = evaluate(structure), evaluate(deformed(structure, Q))
    virial = None if before.virial is None else Q @ before.virial @ Q.T
    _assert_same(after, Observed(before.total, before.per_atom, before.gradient @ Q.T, virial))


def assert_permutation(evaluate: Evaluate, structure: Structure, rng: np.random.Generator) -> None:
    """The order of the atoms does not matter."""
    order = rng.permutation(len(structure))
    before, after = evaluate(structure), evaluate(reordered(structure, order))
    _assert_same(after, Observed(before.total, before.per_atom[order], before.gradient[order], before.virial))


def assert_extensive(evaluate: Evaluate, structure: Structure, reach: float) -> None:
    """Twice the structure (a supercell, or a copy out of reach) has twice the energy, atom by atom the same."""
    before, after = evaluate(structure), evaluate(doubled(structure, reach))
    virial = None if before.virial is None else 2 * before.virial
    doubled_atoms = [np.concatenate([x, x]) for x in (before.per_atom, before.gradient)]
    _assert_same(after, Observed(2 * before.total, *doubled_atoms, virial))


def _assert_same(actual: Observed, expected: Observed) -> None:
    assert_close(actual.total, expected.total, scale=max_norm(expected.per_atom))
    assert_close(actual.per_atom, expected.per_atom)
    # Forces that cancel by symmetry are compared on the scale of the forces per Å of one atom on another.
    scale = max(abs(expected.total), max_norm(expected.per_atom))
    assert_close(actual.gradient, expected.gradient, scale=scale)
    if expected.virial is not None:
        assert actual.virial is not None
        assert_close(actual.virial, expected.virial, scale=scale)


def assert_smooth_at_cutoff(
    at_distance: Callable[[float], tuple[Array, Array]], cutoff: float, *, last: bool = True
) -> None:
    """Values and slopes, given as functions of a distance, pass through the cutoff without a jump.

    The change from cutoff - h to cutoff + h of a continuous number falls at least to 0.55 when h is halved; that of a
    jump stays. Beyond the last cutoff nothing depends on the distance.
    """
    width = 1e-2
    changes = []
    for h in width * 0.5 ** np.arange(5):
        inside, outside = at_distance(cutoff - h), at_distance(cutoff + h)
        changes.append([max_norm(a - b) for a, b in zip(inside, outside, strict=True)])
    assert min(changes[0]) > 0, "nothing changes at the cutoff: nothing is tested"
    for before, after in itertools.pairwise(changes):
        assert all(b <= 0.55 * a for a, b in zip(before, after, strict=True)), f"changes {changes}"
    if last:
        for near, far in zip(at_distance(cutoff + width), at_distance(cutoff + 5 * width), strict=True):
            assert_close(near, far, relative=1e-13)


# Execution --------------------------------------------------------------------------------------------------------


def assert_threads(compute: Callable[[], Sequence[ArrayLike]], monkeypatch: pytest.MonkeyPatch) -> None:
    """The arrays of `compute()` have the same bits for 1, 2 and 3 threads (GPRANN_NUM_THREADS)."""
    results = []
    for threads in ("1", "2", "3"):
        monkeypatch.setenv("GPRANN_NUM_THREADS", threads)
        results.append([np.array(array) for array in compute()])
    assert_same_bits(results)


def assert_same_bits(results: Sequence[Sequence[ArrayLike]]) -> None:
    first, *others = [[np.asarray(array) for array in result] for result in results]
    assert first
    assert others
    for other in others:
        for expected, actual in zip(first, other, strict=True):
            assert actual.shape == expected.shape
            assert actual.tobytes() == expected.tobytes()


def assert_inputs_kept(compute: Callable[[], object], inputs: Sequence[Array]) -> None:
    """`compute()` does not change the arrays it reads."""
    before = [array.copy() for array in inputs]
    compute()
    assert_same_bits([before, inputs])


# Structures -------------------------------------------------------------------------------------------------------


def displaced(structure: Structure, displacements: Array) -> Structure:
    return structure.replace(positions=structure.positions + displacements)


def deformed(structure: Structure, F: Array) -> Structure:
    return structure.replace(positions=structure.positions @ F.T, cell=structure.cell @ F.T)


def reordered(structure: Structure, order: NDArray[np.int64]) -> Structure:
    return structure.replace(
        symbols=tuple(structure.symbols[i] for i in order),
        positions=structure.positions[order],
        forces=None if structure.forces is None else structure.forces[order],
    )


def doubled(structure: Structure, reach: float) -> Structure:
    """A supercell of two cells, or without periods the structure and a copy farther away than `reach`."""
    cell = structure.cell.copy()
    if structure.pbc.any():
        axis = int(np.argmax(structure.pbc))
        shift = cell[axis].copy()
        cell[axis] *= 2
    else:
        size = np.ptp(structure.positions, axis=0).max() if len(structure) else 0.0
        shift = np.array([size + 1.5 * reach, 0.0, 0.0])
    positions = np.concatenate([structure.positions, structure.positions + shift])
    return structure.replace(symbols=structure.symbols * 2, positions=positions, cell=cell)


def molecule(
    symbols: Sequence[str], rng: np.random.Generator, *, closest: float = 0.9, volume: float = 8.0
) -> Structure:
    """Atoms at random in a box of `volume` (Å³) each, none nearer to another than `closest` (Å)."""
    return cell_of(symbols, np.eye(3) * (volume * len(symbols)) ** (1 / 3), False, rng, closest=closest)


def cell_of(
    symbols: Sequence[str],
    cell: ArrayLike,
    pbc: ArrayLike,
    rng: np.random.Generator,
    *,
    closest: float = 0.9,
) -> Structure:
    """Atoms at random in a cell, periodic in the directions `pbc`, none nearer to another than `closest` (Å)."""
    box = np.asarray(cell, dtype=np.float64)
    periodic = np.broadcast_to(np.asarray(pbc, dtype=bool), 3)
    for _ in range(20000):
        positions = rng.uniform(size=(len(symbols), 3)) @ box
        structure = Structure(tuple(symbols), positions, box * periodic.any(), periodic)
        if not any(True for _ in image_pairs(structure, closest)):
            return structure
    raise ValueError("no room for the atoms")


def clear_of(
    make: Callable[[], Structure], cutoffs: Sequence[float], *, margin: float = 5e-3, tries: int = 2000
) -> Structure:
    """A structure of `make` without a pair within `margin` (Å) of a cutoff.

    There the second derivative of the cutoff function jumps, so that central differences lose their order.
    """
    for _ in range(tries):
        structure = make()
        r = np.array([np.linalg.norm(v) for _, _, v in image_pairs(structure, max(cutoffs) + margin)])
        if all(max_norm(np.abs(r - cutoff) < margin) == 0 for cutoff in cutoffs):
            return structure
    raise ValueError("every structure has a pair at a cutoff")
