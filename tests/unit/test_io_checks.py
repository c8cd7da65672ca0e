"""Coincident atoms, repeated structures, energies that do not belong to the others."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gprann.data.structure import Dataset, Origin, Structure
from gprann.errors import DataError
from gprann.io import DataWarning, check_dataset, read
from gprann.io.checks import check_geometry, close_pair, find_duplicates, find_outliers


def _smallest_distance(structure: Structure, images: int) -> float:
    """Oracle: all pairs with all images up to `images` cells away."""
    ranges = [range(-images, images + 1) if periodic else [0] for periodic in structure.pbc]
    steps = np.array([(a, b, c) for a in ranges[0] for b in ranges[1] for c in ranges[2]], dtype=float)
    shifts = steps @ structure.cell
    best = np.inf
    for i, start in enumerate(structure.positions):
        for j, end in enumerate(structure.positions):
            distances = np.linalg.norm(end - start + shifts, axis=1)
            best = min(best, distances[steps.any(axis=1) | (i != j)].min(initial=np.inf))
    return float(best)


@settings(max_examples=150, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), size=st.sampled_from([0.5, 1.0, 3.0]))
def test_close_pairs_are_those_of_the_double_loop(seed, size):
    rng = np.random.default_rng(seed)
    n = int(rng.integers(1, 7))
    # Cells this close to orthogonal need no image beyond the fourth; the wrapping is tested by the shifts.
    cell = size * (np.diag(rng.uniform(0.8, 2.0, 3)) + rng.uniform(-0.3, 0.3, (3, 3)))
    pbc = rng.random(3) < 0.6
    inside = rng.uniform(0, 1, (n, 3)) @ cell
    if n > 1 and rng.random() < 0.7:  # the last atom near a random image of the first one
        inside[-1] = inside[0] + rng.normal(size=3) * 0.15 + (rng.integers(-1, 2, 3) * pbc) @ cell
    expected = _smallest_distance(Structure(("H",) * n, inside, cell, pbc), 4)
    moved = inside + (rng.integers(-5, 6, (n, 3)) * pbc) @ cell
    found = close_pair(Structure(("H",) * n, moved, cell, pbc), 0.35)
    assert (found is not None) == (expected < 0.35)
    if found is not None:
        assert expected <= found[2] + 1e-9 < 0.35 + 1e-9


def test_coincident_atoms_are_named():
    h3 = Structure(("H", "O", "H"), [[0, 0, 0], [0, 0, 0.96], [0.1, 0, 0.9]], origin=Origin("a.xyz", 7))
    message = r"^a.xyz, structure 7: atoms 1 and 2 \(O, H\) are 0.117 Å apart; remove one of them"
    with pytest.raises(DataError, match=message):
        check_geometry(h3)
    check_geometry(h3.replace(positions=h3.positions * 2))


def test_coincident_images_are_named():
    pair = Structure(("H", "O"), [[0.05, 1, 1], [4.95, 1, 6.0]], np.diag([5.0, 5, 5]), [True, True, True])
    with pytest.raises(DataError, match=r"atoms 0 and 1 \(H, O\) are 0.100 Å apart"):
        check_geometry(pair)
    check_geometry(pair.replace(pbc=np.array([False, True, True])))
    check_geometry(pair.replace(pbc=np.array([True, True, False])))


@pytest.mark.parametrize("cell", [np.diag([0.1, 5, 5]), [[10, 0, 0], [5, 0.05, 0], [0, 0, 9]]])
def test_an_atom_on_its_own_image_is_named(cell):
    atom = Structure(("H",), np.zeros((1, 3)), cell, [True, True, True])
    with pytest.raises(DataError, match=r"atom 0 \(H\) and its own periodic image are 0\.10. Å apart"):
        check_geometry(atom)


def test_small_cells_are_fine():
    check_geometry(Structure(("H",), np.zeros((1, 3)), np.diag([0.3, 0.4, 0.5]), [True, True, True]))


def test_thin_and_skewed_cells():
    atom = Structure(("H",), np.zeros((1, 3)), [[9, 0, 0], [4.5, 2e-4, 0], [0, 0, 9]], [True] * 3)
    assert close_pair(atom, 0.2) == (0, 0, pytest.approx(4e-4))
    sheared = atom.replace(cell=np.array([[9.0, 0, 0], [9e3, 9.0, 0], [9e3, 9e3, 9.0]]))
    assert close_pair(sheared, 8.9) is None
    assert close_pair(sheared, 9.1) == (0, 0, pytest.approx(9.0))


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_images_across_every_face(axis):
    positions = np.full((2, 3), 2.0)
    positions[:, axis] = 0.05, 4.95
    pair = Structure(("H", "O"), positions, np.diag([5.0, 5, 5]), [True, True, True])
    assert close_pair(pair, 0.2) == (0, 1, pytest.approx(0.1))
    assert close_pair(pair.replace(pbc=np.arange(3) != axis), 0.2) is None


@pytest.mark.parametrize(("positions", "cell"), [([[0, 0, 1e9]], 5.0), ([[0, 0, 0]], 1e9)])
def test_absurd_lengths(positions, cell):
    with pytest.raises(DataError, match="check the units"):
        check_geometry(Structure(("H",), positions, cell * np.eye(3), [True] * 3))


def test_close_pairs_of_a_large_crystal():
    """8000 atoms take 0.02 s; a double loop in Python would take a minute."""
    grid = np.stack(np.meshgrid(*[np.arange(20)] * 3), axis=-1).reshape(-1, 3) * 2.2
    crystal = Structure(("Cu",) * len(grid), grid, np.eye(3) * 44.0, [True] * 3)
    assert close_pair(crystal, 0.2) is None


# --- duplicates ------------------------------------------------------------------------------------------


def _random(rng: np.random.Generator, pbc=(False, False, False), n: int = 5) -> Structure:
    cell = np.diag([4.0, 5.0, 6.0]) + rng.uniform(-0.5, 0.5, (3, 3))
    grid = np.array([[0, 0, 0], [2, 0, 0], [0, 2.5, 0], [0, 0, 3], [2, 2.5, 3]])[:n]
    return Structure(
        ("H", "C", "O", "H", "Li")[:n], grid + rng.normal(size=(n, 3)) * 0.1, cell, np.array(pbc)
    )


@pytest.mark.parametrize("pbc", [(False,) * 3, (True,) * 3, (True, False, True), (False, False, True)])
def test_duplicates_up_to_translation_and_images(pbc):
    rng = np.random.default_rng(3)
    data = [_random(rng, pbc) for _ in range(20)]
    shifts = rng.integers(-3, 4, (5, 3)) * np.array(pbc)
    moved = data[4].positions + rng.normal(size=3) + shifts @ data[4].cell
    data += [data[4].replace(positions=moved), data[7].replace(positions=data[7].positions + 4e-7), data[7]]
    assert find_duplicates(Dataset(data)) == ((4, 20), (7, 21, 22))


@pytest.mark.parametrize("pbc", [(False,) * 3, (True,) * 3])
def test_no_duplicates(pbc):
    rng = np.random.default_rng(4)
    first = _random(rng, pbc)
    nudge = np.zeros((5, 3))
    nudge[2, 1] = 3e-6
    others = [
        first.replace(positions=first.positions + nudge),
        first.replace(symbols=("H", "O", "C", "H", "Li")),
        first.replace(symbols=first.symbols[:4], positions=first.positions[:4]),
        first.replace(pbc=~first.pbc),
    ]
    if all(pbc):
        others.append(first.replace(cell=first.cell + 1e-4))
        others.append(first.replace(cell=first.cell * 2))
    for other in others:
        assert find_duplicates(Dataset([first, other])) == ()
    if not any(pbc):  # the cell means nothing there
        assert find_duplicates(Dataset([first, first.replace(cell=2 * first.cell)])) == ((0, 1),)


def test_many_structures_and_many_copies():
    rng = np.random.default_rng(5)
    base = [_random(rng) for _ in range(3000)]
    assert find_duplicates(Dataset(base)) == ()
    (group,) = find_duplicates(Dataset([base[0]] * 3000))
    assert len(group) == 3000


def test_duplicates_are_a_warning_with_the_list():
    rng = np.random.default_rng(6)
    data = [_random(rng).replace(energy=-1.0, origin=Origin("a.xyz", k)) for k in range(4)]
    with pytest.warns(DataWarning) as caught:
        read([*data, data[2].replace(energy=-1.25, origin=Origin("b.xyz", 0))])
    (warning,) = caught
    message = str(warning.message)
    assert message.startswith("1 of 5 structures repeat the geometry of another one")
    assert "differ by up to 0.25 eV" in message
    assert "[a.xyz, structure 2 = b.xyz, structure 0]" in message


# --- energy outliers -------------------------------------------------------------------------------------


def _thermal(rng: np.random.Generator, n: int, modes: int, temperature: float = 0.05) -> Dataset:
    """Structures with the energies of `modes` harmonic modes at a temperature (eV), 20 atoms each."""
    energies = -18000.0 + 0.5 * temperature * (rng.normal(size=(n, modes)) ** 2).sum(axis=1)
    symbols = ("C",) * 6 + ("H",) * 8 + ("O",) * 6
    return Dataset(
        Structure(symbols, rng.uniform(0, 9, (20, 3)), energy=energy, origin=Origin("t.xyz", k))
        for k, energy in enumerate(energies)
    )


@pytest.mark.parametrize("modes", [1, 3, 10, 54])
@pytest.mark.parametrize("n", [8, 20, 300])
def test_thermal_spread_is_not_reported(modes, n):
    rng = np.random.default_rng(7)
    for _ in range(20):
        assert find_outliers(_thermal(rng, n, modes, temperature=0.5)) == ((), ())


@pytest.mark.parametrize("n", [10, 100, 300])
@pytest.mark.parametrize("wrong", [1800.0, -1800.0, -18000 / 27.2114 + 18000, 30.0])
def test_wrong_energies_are_reported(n, wrong):
    data = _thermal(np.random.default_rng(8), n, 54)
    assert data[3].energy is not None
    mislabelled = Dataset(s.replace(energy=s.energy + wrong) if k == 3 else s for k, s in enumerate(data))
    outliers, deviations = find_outliers(mislabelled)
    assert outliers == (3,)
    assert deviations[0] == pytest.approx(wrong / 20, rel=0.1)


def test_several_wrong_energies_among_mixed_compositions():
    rng = np.random.default_rng(9)
    reference = {"H": -13.6, "C": -1030.0, "O": -2040.0}
    data = []
    for k in range(60):
        symbols = tuple(rng.choice(list(reference), size=int(rng.integers(3, 12))))
        energy = sum(reference[s] for s in symbols) + 0.05 * len(symbols) * rng.normal()
        positions = (
            3.0 * np.arange(len(symbols))[:, None] * np.ones(3) + rng.normal(size=(len(symbols), 3)) * 0.1
        )
        data.append(Structure(symbols, positions, energy=energy, origin=Origin("m.xyz", k)))
    assert find_outliers(Dataset(data))[0] == ()
    for k in (5, 17, 40):
        data[k] = data[k].replace(energy=data[k].energy / 27.2)
    assert sorted(find_outliers(Dataset(data))[0]) == [5, 17, 40]


def test_compositions_of_different_spread_are_not_compared():
    """A few stretched molecules, 2 eV/atom apart, beside many structures that hardly differ, are sound."""
    rng = np.random.default_rng(14)
    thermal = [s.replace(energy=s.energy) for s in _thermal(rng, 60, 54)]
    slab = [
        Structure((*s.symbols, "Li"), np.vstack([s.positions, [20.0, 0, 0]]), energy=s.energy - 203.0)
        for s in _thermal(rng, 40, 54)
    ]
    for few in (7, 20):
        molecules = [Structure(("H", "H"), [[0, 0, 0], [0, 0, 0.7 + 0.1 * k]]) for k in range(few)]
        stretched = [m.replace(energy=-31.7 + 4.0 * k / few) for k, m in enumerate(molecules)]
        mixed = [*thermal, *stretched, *slab]
        assert find_outliers(Dataset(mixed)) == ((), ())
        mixed[3] = mixed[3].replace(energy=mixed[3].energy / 27.2114)
        mixed[-3] = mixed[-3].replace(energy=mixed[-3].energy - 30.0)
        assert find_outliers(Dataset(mixed))[0] == (3, len(mixed) - 3)
    mixed[70] = mixed[70].replace(energy=700.0)
    assert 70 in find_outliers(Dataset(mixed))[0]


def test_rare_compositions_are_compared_with_the_frequent_ones():
    """Nine frequent compositions tell the energies of the elements, by which a rare one is judged."""
    rng = np.random.default_rng(15)
    data = []
    for carbons in range(1, 10):
        symbols = ("C",) * carbons + ("H",) * (2 * carbons + 2)
        for _ in range(9):
            energy = -1030.0 * carbons - 15.0 * (2 * carbons + 2) + 0.1 * rng.normal()
            data.append(Structure(symbols, rng.uniform(0, 9, (len(symbols), 3)), energy=energy))
    radical = Structure((*"CCCC", *"HHHHHHHHH"), rng.uniform(0, 9, (13, 3)), energy=-4255.0 + 2.0)
    assert find_outliers(Dataset([*data, radical])) == ((), ())
    assert find_outliers(Dataset([*data, radical.replace(energy=-4255.0 / 27.2)]))[0] == (len(data),)


def test_small_sets_are_not_judged():
    data = list(_thermal(np.random.default_rng(10), 9, 54))
    wrong = [*data[:-1], data[-1].replace(energy=0.0)]
    assert find_outliers(Dataset(wrong[2:])) == ((), ())  # 7 structures
    assert find_outliers(Dataset([s.replace(energy=None) for s in wrong])) == ((), ())


def test_equal_energies_are_not_reported():
    data = _thermal(np.random.default_rng(11), 30, 54)
    assert find_outliers(Dataset(s.replace(energy=-5.0 - 1e-3 * (k == 4)) for k, s in enumerate(data))) == (
        (),
        (),
    )


def test_outliers_are_a_warning_with_the_list():
    data = [s.replace(energy=s.energy * (10.0 if k in (4, 9) else 1.0))
            for k, s in enumerate(_thermal(np.random.default_rng(12), 30, 54))]  # fmt: skip
    with pytest.warns(DataWarning) as caught:
        read(data)
    (warning,) = caught
    assert "2 of 30 structures have an energy per atom" in str(warning.message)
    assert "t.xyz, structure 4 (-8.1e+03 eV/atom)" in str(warning.message)
    assert "t.xyz, structure 9" in str(warning.message)


def test_report_of_a_clean_set():
    report = check_dataset(_thermal(np.random.default_rng(13), 30, 54))
    assert (report.duplicates, report.outliers, report.messages) == ((), (), ())
    assert check_dataset(Dataset()).messages == ()
