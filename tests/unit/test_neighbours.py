"""Neighbour lists against all pairs of atoms and images."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import contracts
from contracts import Array, cell_of, clear_of, displaced, molecule
from gprann.data.neighbours import Neighbourhood, build_neighbours, reduce_cells, species_indices
from gprann.data.structure import Structure
from gprann.errors import DataError
from reference.neighbours_oracle import image_pairs

CUTOFF = 5.0
FLAT = [[3.0, 0.4, 0.0], [-0.8, 2.9, 0.0], [0.0, 0.0, 0.0]]
TRICLINIC = [[2.9, 0.0, 0.0], [0.8, 2.7, 0.0], [-0.5, 0.6, 3.1]]
CELLS = {
    "molecule": (np.eye(3) * 9, [0, 0, 0]),
    "wire": (np.diag([2.4, 6.0, 6.0]), [1, 0, 0]),
    "wire along y": (np.diag([6.0, 2.4, 6.0]), [0, 1, 0]),
    "slab": (np.array(FLAT) + np.diag([0, 0, 15.0]), [1, 1, 0]),
    "triclinic": (np.array(TRICLINIC), [1, 1, 1]),
    "left-handed": (np.array(TRICLINIC)[[1, 0, 2]], [1, 1, 1]),
    "very skew": (np.array([[3.0, 0, 0], [-6.1, 2.5, 0], [9.2, 4.0, 3.0]]), [1, 1, 1]),
    "needle": (np.diag([1.9, 2.0, 25.0]), [1, 1, 1]),
}


def make(name: str, n: int = 4, seed: int = 3) -> Structure:
    rng = np.random.default_rng(seed)
    symbols = [("C", "H", "O")[i % 3] for i in range(n)]
    return clear_of(lambda: cell_of(symbols, *CELLS[name], rng), [CUTOFF], margin=1e-6)


def listed(neighbours: Neighbourhood) -> list[tuple[int, int, Array]]:
    """(i, j, vector) of every pair, in the order of the lists."""
    counts = np.diff(neighbours.first_pair)
    owners = np.repeat(np.arange(neighbours.n_atoms), counts)
    return list(zip(owners.tolist(), neighbours.neighbour.tolist(), neighbours.vectors, strict=True))


def in_order(pairs: list[tuple[int, int, Array]]) -> Array:
    """Pairs as rows (i, j, x, y, z), sorted; coordinates rounded so that equal ones sort alike."""
    rows = np.array([[i, j, *np.round(v, 9)] for i, j, v in pairs]).reshape(-1, 5) + 0.0
    return rows[np.lexsort(rows.T[::-1])]


@pytest.mark.parametrize("name", CELLS)
def test_lists_hold_every_pair_once_from_each_side(name: str) -> None:
    structure = make(name)
    pairs = listed(build_neighbours([structure], CUTOFF, ["C", "H", "O"]))
    expected = list(image_pairs(structure, CUTOFF))
    assert len(expected) > 0
    np.testing.assert_allclose(in_order(pairs), in_order(expected), atol=2e-9)
    np.testing.assert_array_equal(in_order([(j, i, -v) for i, j, v in pairs]), in_order(pairs))


def test_an_atom_may_be_its_own_neighbour() -> None:
    structure = Structure(("Cu",), np.zeros((1, 3)), np.eye(3) * 2.6, [True] * 3)
    neighbours = build_neighbours([structure], 2.7, ["Cu"])
    assert neighbours.neighbour.tolist() == [0] * 6
    np.testing.assert_allclose(np.abs(neighbours.vectors).sum(axis=1), 2.6)


@pytest.mark.parametrize("name", ["slab", "triclinic", "very skew"])
def test_atoms_outside_the_cell_are_the_same_atoms(name: str) -> None:
    structure = make(name)
    periods = np.array([[3, -2, 1], [0, 0, 0], [-40, 5, 2], [1, 1, 1]]) * structure.pbc
    moved = displaced(structure, periods @ structure.cell)
    pairs = [listed(build_neighbours([s], CUTOFF, ["C", "H", "O"])) for s in (structure, moved)]
    np.testing.assert_allclose(in_order(pairs[0]), in_order(pairs[1]), atol=2e-9)


def heights(cell: Array) -> Array:
    """Distances of the lattice planes: the fewer images lie within a cutoff, the larger they are."""
    return 1.0 / np.linalg.norm(np.linalg.inv(cell), axis=0)


@pytest.mark.parametrize("n", [2, 7])
def test_skewed_cells_cost_no_more_than_short_ones(n: int) -> None:
    """Other vectors of the same lattice give the same neighbours from as many images (all pairs, and cell lists)."""
    rng = np.random.default_rng(n)
    short = n * np.array([[2.4, 0.1, 0.0], [-0.2, 2.7, 0.1], [0.1, 0.2, 3.0]])
    shear = np.array([[1, 0, 0], [7, 1, 0], [5, -6, 1]])
    grid = np.stack(np.meshgrid(*[np.arange(n) / n] * 3), -1).reshape(-1, 3) @ short
    positions = grid + rng.uniform(-0.3, 0.3, grid.shape)
    plain = Structure(("H",) * n**3, positions, short, [True] * 3)
    skewed = plain.replace(cell=shear @ plain.cell)
    assert heights(skewed.cell).min() < 0.2 * heights(plain.cell).min()
    assert sorted(heights(reduce_cells([skewed])[0])) == pytest.approx(sorted(heights(plain.cell)))
    pairs = [listed(build_neighbours([s], CUTOFF, ["C", "H", "O"])) for s in (plain, skewed)]
    np.testing.assert_allclose(in_order(pairs[1]), in_order(pairs[0]), atol=2e-9)


@pytest.mark.parametrize("pbc", [[1, 1, 0], [1, 0, 0], [0, 0, 0]])
def test_only_directions_with_a_period_are_reduced(pbc: list[int]) -> None:
    cell = np.array([[3.0, 0, 0], [9.0, 2, 0], [20.0, 3, 5]])
    structure = Structure(("H",), np.zeros((1, 3)), cell, pbc)
    reduced = reduce_cells([structure])[0]
    np.testing.assert_array_equal(reduced[2], cell[2])
    if pbc == [1, 1, 0]:
        assert sorted(np.linalg.norm(reduced[:2], axis=1)) == [2.0, 3.0]
    else:
        np.testing.assert_array_equal(reduced, cell)


def test_direction_without_period_needs_no_cell_vector() -> None:
    structure = make("slab")
    flat = structure.replace(cell=structure.cell * [[1], [1], [0]])
    pairs = [listed(build_neighbours([s], CUTOFF, ["C", "H", "O"])) for s in (structure, flat)]
    np.testing.assert_allclose(in_order(pairs[0]), in_order(pairs[1]), atol=2e-9)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(0.5, 6.0), st.tuples(*[st.booleans()] * 3))
def test_any_cell(seed: int, cutoff: float, pbc: tuple[bool, bool, bool]) -> None:
    rng = np.random.default_rng(seed)
    cell = np.diag(rng.uniform(1.5, 6, size=3)) + rng.uniform(-1, 1, size=(3, 3))
    if abs(np.linalg.det(cell)) < 2:
        cell += 2 * np.eye(3)
    structure = Structure(("H", "C"), rng.uniform(-3, 3, size=(2, 3)), cell, pbc)
    lengths = [np.linalg.norm(v) for _, _, v in image_pairs(structure, 7.0)]
    if min(lengths, default=1.0) < 0.1 or min(abs(np.array(lengths) - cutoff), default=1.0) < 1e-6:
        return
    pairs = listed(build_neighbours([structure], cutoff, ["C", "H"]))
    np.testing.assert_allclose(in_order(pairs), in_order(list(image_pairs(structure, cutoff))), atol=2e-9)


def test_batch_numbers_its_atoms_through() -> None:
    lone = Structure(("O",), np.ones((1, 3)))
    structures = [make("triclinic"), lone, make("molecule", 6), lone]
    batch = build_neighbours(structures, CUTOFF, ["H", "O", "C"])
    assert batch.first_atom.tolist() == [0, 4, 5, 11, 12]
    assert batch.n_atoms == 12
    assert batch.first_pair[0] == 0
    assert batch.first_pair[-1] == len(batch.neighbour) == len(batch.vectors)
    assert batch.species.tolist() == [2, 0, 1, 2, 1, 2, 0, 1, 2, 0, 1, 1]
    for s, structure in enumerate(structures):
        alone = build_neighbours([structure], CUTOFF, ["H", "O", "C"])
        first, last = batch.first_pair[batch.first_atom[s]], batch.first_pair[batch.first_atom[s + 1]]
        np.testing.assert_array_equal(batch.neighbour[first:last] - batch.first_atom[s], alone.neighbour)
        np.testing.assert_array_equal(batch.vectors[first:last], alone.vectors)


def test_empty_batch() -> None:
    batch = build_neighbours([], CUTOFF, ["H"])
    assert batch.n_atoms == 0
    assert batch.first_atom.tolist() == [0]
    assert batch.first_pair.tolist() == [0]


@pytest.mark.parametrize("variable", ["GPRANN_NUM_THREADS", "OMP_NUM_THREADS"])
def test_number_of_threads_does_not_matter(variable: str, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(1)
    grid = np.stack(np.meshgrid(*[np.arange(11.0)] * 3), -1).reshape(-1, 3) * 2.2
    structure = Structure(
        ("H",) * len(grid), grid + rng.uniform(-0.3, 0.3, grid.shape), np.eye(3) * 24.2, [True] * 3
    )
    results = []
    for threads in ("1", "2", "3"):
        monkeypatch.setenv(variable, threads)
        n = build_neighbours([structure], CUTOFF, ["H"])
        results.append([n.first_pair, n.neighbour, n.vectors])
    contracts.assert_same_bits(results)


def test_species_are_positions_in_the_list() -> None:
    structure = Structure(("O", "C", "O"), np.diag([1.0, 2.0, 3.0]))
    assert species_indices(structure, ["C", "H", "O"]).tolist() == [2, 0, 2]
    with pytest.raises(DataError, match="structure 0: element O is not among the species C, H"):
        species_indices(structure, ["C", "H"])


@pytest.mark.parametrize("small", [0, 300])
def test_atoms_on_top_of_each_other_are_named(small: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gprann.data.neighbours._SMALL", small)
    good = molecule(["C", "H"], np.random.default_rng(0))
    bad = Structure(("C", "H", "O"), [[0, 0, 0], [3, 0, 0], [3.0, 0.01, 0]])
    with pytest.raises(DataError, match=r"atoms (1 and 2|2 and 1) are 0\.01 Å apart"):
        build_neighbours([good, bad], CUTOFF, ["C", "H", "O"])
    image = Structure(("C", "H"), [[0.1, 0, 0], [4.1, 0, 0]], np.eye(3) * 4, [True, False, False])
    with pytest.raises(DataError, match="apart"):
        build_neighbours([image], CUTOFF, ["C", "H"])


@pytest.mark.parametrize("name", CELLS)
def test_large_structures_have_the_same_lists(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """By linked cells, to which batches with a large structure go: the same to the last bit."""
    structures = [make(name), make(name, n=3, seed=5)]
    all_pairs = build_neighbours(structures, CUTOFF, ["C", "H", "O"])
    monkeypatch.setattr("gprann.data.neighbours._SMALL", 0)
    by_cells = build_neighbours(structures, CUTOFF, ["C", "H", "O"])
    np.testing.assert_allclose(in_order(listed(by_cells)), in_order(listed(all_pairs)), atol=2e-9)
    for part in ("first_atom", "first_pair", "neighbour", "vectors", "species"):
        np.testing.assert_array_equal(getattr(by_cells, part), getattr(all_pairs, part))


def test_nothing_has_no_neighbours() -> None:
    assert build_neighbours([], CUTOFF, ["C"]).n_atoms == 0
    alone = Structure(("C",), np.zeros((1, 3)))
    assert len(build_neighbours([alone], CUTOFF, ["C"]).neighbour) == 0
