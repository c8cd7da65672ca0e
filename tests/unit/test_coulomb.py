"""The baselines `coulomb` and `zbl`: constants of crystals, direct sums, derivatives, invariances, bad input."""

import ase.build
import ase.neighborlist
import numpy as np
import pytest
from ase.build import bulk
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import erf, erfc

import contracts
import gprann
from gprann.baselines import coulomb
from gprann.baselines.coulomb import CONSTANT
from gprann.errors import ConfigError, DataError

SHAPES = {
    "point": {},
    "gaussian": {"shape": "gaussian", "widths": {"Na": 0.8, "Cl": 1.2}},
    "slater": {"shape": "slater", "widths": {"Na": 1.8, "Cl": 1.2}},
}


def structure(seed: int, pbc: object = True, atoms: int = 8) -> gprann.Structure:
    rng = np.random.default_rng(seed)
    cell = np.diag([6.0, 7.0, 8.0]) + rng.normal(0.0, 0.5, (3, 3))
    grid = np.stack(np.meshgrid(*3 * [[0.0, 0.5]], indexing="ij"), axis=-1).reshape(-1, 3)[:atoms]
    positions = (grid + rng.uniform(-0.1, 0.1, grid.shape)) @ cell
    symbols = ["Na", "Cl"] * (atoms // 2)
    return gprann.Structure.from_ase(ase.Atoms(symbols, positions=positions, cell=cell, pbc=pbc))


def contribution(baseline: gprann.Baseline, item: gprann.Structure) -> gprann.Contribution:
    return baseline.evaluate(gprann.Dataset([item]))


def energy(baseline: gprann.Baseline, item: gprann.Structure) -> float:
    return float(contribution(baseline, item).energy[0])


@pytest.mark.parametrize(
    ("crystal", "constant"),
    [
        (bulk("NaCl", "rocksalt", a=5.64), 1.747564594633),
        (bulk("CsCl", "cesiumchloride", a=4.12), 1.762674773071),
    ],
)
def test_madelung_constants(crystal: ase.Atoms, constant: float) -> None:
    first, second = crystal.get_chemical_symbols()
    baseline = gprann.Coulomb(charges={first: 1.0, second: -1.0})
    unit = energy(baseline, gprann.Structure.from_ase(crystal))
    nearest = crystal.get_distance(0, 1, mic=True)
    assert -unit * nearest / CONSTANT == pytest.approx(constant, abs=1e-10)
    large = gprann.Structure.from_ase(crystal.repeat((2, 1, 3)))
    assert energy(baseline, large) == pytest.approx(6 * unit, rel=1e-9)


@pytest.mark.parametrize("shape", SHAPES)
def test_sums_do_not_depend_on_the_splitting(shape: str, monkeypatch: pytest.MonkeyPatch) -> None:
    baseline = gprann.Coulomb(charges={"Na": 1.0, "Cl": -0.7}, **SHAPES[shape])
    item = structure(1)
    before, chosen = contribution(baseline, item), coulomb.choose_splitting(item)
    for factor in (0.7, 1.6):
        monkeypatch.setattr(coulomb, "choose_splitting", lambda _, factor=factor: factor * chosen)
        after = contribution(baseline, item)
        assert after.energy == pytest.approx(before.energy, rel=1e-9)
        np.testing.assert_allclose(after.forces[0], before.forces[0], atol=1e-9)
        np.testing.assert_allclose(after.stress, before.stress, atol=1e-10)


@pytest.mark.parametrize(
    ("distance", "widths", "expected"), [(2.0, (1.2, 1.6), 6.76987), (1.5, (1.3, 1.3), 8.09012)]
)
def test_slater_densities(distance: float, widths: tuple[float, float], expected: float) -> None:
    pair = gprann.Structure(("H", "Li"), np.array([[0.0, 0, 0], [distance, 0, 0]]))
    sizes = dict(zip(("H", "Li"), widths, strict=True))
    baseline = gprann.Coulomb(charges={"H": 1.0, "Li": 1.0}, shape="slater", widths=sizes)
    assert energy(baseline, pair) == pytest.approx(expected, abs=1e-5)


def test_nearly_equal_slater_densities_are_continuous() -> None:
    pair = gprann.Structure(("H", "Li"), np.array([[0.0, 0, 0], [1.5, 0, 0]]))
    values = [
        energy(
            gprann.Coulomb(charges={"H": 1.0, "Li": 1.0}, shape="slater", widths={"H": 1.3, "Li": 1.3 + gap}),
            pair,
        )
        for gap in (0.0, 0.002, 0.004)
    ]
    assert values[1] - values[0] == pytest.approx(values[2] - values[1], rel=0.1)


def test_molecules_are_direct_sums() -> None:
    item = structure(2, pbc=False)
    charges, widths = {"Na": 0.8, "Cl": -0.5}, {"Na": 0.7, "Cl": 0.9}
    q = np.array([charges[s] for s in item.symbols])
    w = np.array([widths[s] for s in item.symbols])
    r = np.linalg.norm(item.positions[:, None] - item.positions, axis=2) + np.eye(len(q))
    V = erf(r / np.sqrt(2.0 * (w[:, None] ** 2 + w**2))) / r
    expected = 0.5 * CONSTANT * float(q @ (V - np.diag(np.diagonal(V))) @ q)
    assert energy(gprann.Coulomb(charges=charges, shape="gaussian", widths=widths), item) == pytest.approx(
        expected
    )


def test_a_large_box_is_a_molecule() -> None:
    item = structure(3, pbc=False)
    charge = np.array([1.0, -1.0] * 4)
    baseline = gprann.Coulomb(charges={"Na": 1.0, "Cl": -1.0})
    size = 300.0
    box = item.replace(cell=size * np.eye(3), pbc=np.ones(3, dtype=bool))
    dipole = charge @ item.positions  # what images far away do to a dipole: (2 pi / 3 V) K |p|²
    lowered = 2.0 * np.pi * CONSTANT * float(dipole @ dipole) / (3.0 * size**3)
    assert energy(baseline, box) + lowered == pytest.approx(energy(baseline, item), abs=1e-6)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("pbc", [False, True, (True, True, False)], ids=["molecule", "cell", "slab"])
def test_forces_are_the_gradient(shape: str, pbc: object) -> None:
    baseline = gprann.Coulomb(charges={"Na": 1.0, "Cl": -0.7}, **SHAPES[shape])
    item = structure(4, pbc)
    direction = np.random.default_rng(0).normal(size=item.positions.shape)
    slope = -float(np.sum(contribution(baseline, item).forces[0] * direction))
    errors = []
    for step in (0.08, 0.04, 0.02):
        moved = [
            energy(baseline, item.replace(positions=item.positions + s * direction)) for s in (step, -step)
        ]
        errors.append(abs((moved[0] - moved[1]) / (2.0 * step) - slope))
    assert errors[1] / errors[2] == pytest.approx(4.0, rel=0.1)
    assert errors[0] > errors[1] > errors[2]


@pytest.mark.parametrize("shape", SHAPES)
def test_stress_is_the_derivative_by_strain(shape: str) -> None:
    baseline = gprann.Coulomb(charges={"Na": 1.0, "Cl": -0.7}, **SHAPES[shape])
    item, h = structure(5), 1e-4
    volume = abs(np.linalg.det(item.cell))
    for component, (a, b) in enumerate([(0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1)]):
        energies = []
        for sign in (1, -1):
            strain = np.eye(3)
            strain[a, b] += 0.5 * sign * h
            strain[b, a] += 0.5 * sign * h
            energies.append(
                energy(baseline, item.replace(positions=item.positions @ strain, cell=item.cell @ strain))
            )
        numeric = (energies[0] - energies[1]) / (2.0 * h * volume)
        assert contribution(baseline, item).stress[0, component] == pytest.approx(numeric, abs=1e-6)


@settings(max_examples=20, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    charge=st.floats(-1.5, 1.5),
    pbc=st.sampled_from([True, False, (True, True, False)]),
)
def test_translations_images_and_order_do_not_matter(seed: int, charge: float, pbc: object) -> None:
    baseline = gprann.Coulomb(charges={"Na": 1.0, "Cl": charge})
    item = structure(seed, pbc)
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(item))
    images = rng.integers(-2, 3, (len(item), 3)) * np.asarray(item.pbc)
    moved = item.positions + images @ item.cell + rng.normal(size=3)
    other = gprann.Structure(
        tuple(item.symbols[k] for k in order), moved[order], cell=item.cell, pbc=item.pbc
    )
    first, second = contribution(baseline, item), contribution(baseline, other)
    assert second.energy == pytest.approx(first.energy, abs=1e-8)
    np.testing.assert_allclose(second.forces[0], first.forces[0][order], atol=1e-8)
    np.testing.assert_allclose(first.forces[0].sum(axis=0), 0.0, atol=1e-10)
    assert float(first.atom_energies[0].sum()) == pytest.approx(float(first.energy[0]))


def test_slabs_do_not_feel_their_images() -> None:
    item = structure(6, (True, True, False))
    baseline = gprann.Coulomb(charges={"Na": 1.0, "Cl": -0.7})
    thicker = item.cell.copy()
    thicker[2] *= 3.0  # the vacuum is the baseline's own
    assert energy(baseline, item.replace(cell=thicker)) == pytest.approx(energy(baseline, item), abs=1e-8)
    large = gprann.Structure.from_ase(item.to_ase().repeat((2, 3, 1)))
    assert energy(baseline, large) == pytest.approx(6 * energy(baseline, item), abs=1e-7)


def test_a_slab_is_the_limit_of_a_cell_with_vacuum() -> None:
    atoms = bulk("NaCl", "rocksalt", a=5.64, cubic=True)
    baseline = gprann.Coulomb(charges={"Na": 1.0, "Cl": -1.0})
    atoms.center(vacuum=15.0, axis=2)
    atoms.pbc = True
    cell = gprann.Structure.from_ase(atoms)  # without a dipole
    slab = cell.replace(pbc=np.array([True, True, False]))
    assert energy(baseline, slab) == pytest.approx(energy(baseline, cell), abs=1e-6)


def test_the_number_of_threads_does_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    baseline = gprann.Coulomb(charges={"Na": 1.0, "Cl": -1.0})

    def compute() -> list[np.ndarray]:
        found = contribution(baseline, structure(7))
        return [found.energy, found.forces[0], found.stress]

    contracts.assert_threads(compute, monkeypatch)


def test_threads_do_not_matter_where_there_are_many_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    atoms = bulk("NaCl", "rocksalt", a=5.64, cubic=True).repeat((3, 3, 2))
    atoms.rattle(0.1, seed=1)
    item, baseline = gprann.Structure.from_ase(atoms), gprann.Coulomb(charges={"Na": 1.0, "Cl": -0.9})

    def compute() -> list[np.ndarray]:
        found = contribution(baseline, item)
        return [found.energy, found.forces[0], found.stress]

    contracts.assert_threads(compute, monkeypatch)


def test_reciprocal_vectors_are_found_once_for_a_cell(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in molecular dynamics; a changed cell finds its own."""
    made = []

    class Counting(coulomb._core.EwaldSum):
        def __init__(self, *args: object) -> None:
            made.append(args)
            super().__init__(*args)

    monkeypatch.setattr(coulomb._core, "EwaldSum", Counting)
    coulomb._ewald_sum.cache_clear()
    baseline, item = gprann.Coulomb(charges={"Na": 1.0, "Cl": -1.0}), structure(11)
    strained = item.replace(cell=1.01 * item.cell, positions=1.01 * item.positions)
    for step in range(4):
        for one in (item, strained):
            moved = one.replace(positions=one.positions + 0.01 * step * np.arange(3.0))
            kept = contribution(baseline, moved)
            found = coulomb._ewald_sum.cache_info().misses
    assert len(made) == found == 2
    coulomb._ewald_sum.cache_clear()
    fresh = contribution(baseline, moved)
    assert np.array_equal(fresh.energy, kept.energy)
    assert np.array_equal(fresh.forces[0], kept.forces[0])
    coulomb._ewald_sum.cache_clear()


@pytest.mark.parametrize("shape", SHAPES)
def test_long_and_skewed_cells(shape: str) -> None:
    """The same crystal in cells of other shapes, whose reciprocal vectors fill spheres in other ways."""
    crystal = structure(12)
    baseline = gprann.Coulomb(charges={"Na": 1.0, "Cl": -0.7}, **SHAPES[shape])
    expected = contribution(baseline, crystal)
    for matrix in (np.diag([1, 1, 6]), np.array([[1, 0, 0], [2, 1, 0], [-3, 1, 1]])):
        atoms = ase.build.make_supercell(crystal.to_ase(), matrix, wrap=False)
        copies = round(abs(np.linalg.det(matrix)))
        found = contribution(baseline, gprann.Structure.from_ase(atoms))
        assert found.energy[0] == pytest.approx(copies * expected.energy[0], rel=1e-9)
        np.testing.assert_allclose(found.stress, expected.stress, atol=1e-10)


def test_atoms_on_top_of_each_other_are_refused() -> None:
    item = structure(13)
    positions = item.positions.copy()
    positions[3] = positions[0]
    for pbc in (True, False):
        both = item.replace(positions=positions, pbc=np.full(3, pbc))
        with pytest.raises(DataError, match="is not finite"):
            gprann.Coulomb(charges={"Na": 1.0, "Cl": -1.0}).subtract(
                gprann.Dataset([both.replace(energy=0.0)])
            )


@pytest.mark.parametrize("distance", [0.05, 0.3, 1.0, 2.5, 4.0, 7.0])
def test_error_function_of_pairs(distance: float) -> None:
    """Energies of Gaussians, whose V - 1/r is the complementary error function."""
    pair = gprann.Structure(("Na", "Cl"), np.array([[0.0, 0, 0], [distance, 0, 0]]))
    widths = {"Na": 0.6, "Cl": 0.8}  # sqrt(2 (0.6² + 0.8²)) = sqrt(2)
    baseline = gprann.Coulomb(charges={"Na": 1.0, "Cl": 1.0}, shape="gaussian", widths=widths)
    expected = CONSTANT * erf(distance / np.sqrt(2.0)) / distance
    assert energy(baseline, pair) == pytest.approx(expected, rel=1e-12)


def test_against_particle_mesh_ewald() -> None:
    """Another library, helpme-py, where it is installed; its pairs are summed here one by one."""
    helpme = pytest.importorskip("helpme_py")
    atoms = bulk("NaCl", "rocksalt", a=5.64, cubic=True).repeat(2)
    atoms.set_cell([11.0, 11.5, 12.0, 82.0, 95.0, 100.0], scale_atoms=True)
    atoms.rattle(0.2, seed=3)
    item, baseline = gprann.Structure.from_ase(atoms), gprann.Coulomb(charges={"Na": 1.0, "Cl": -1.0})
    charges, splitting = baseline.charges_of(item), 0.45
    pme = helpme.PMEInstanceD()
    pme.setup(1, splitting, 12, 64, 64, 64, CONSTANT, 1)
    pme.set_lattice_vectors(*atoms.cell.cellpar(), helpme.LatticeType.XAligned)
    forces = np.zeros((len(atoms), 3))
    arrays = [helpme.MatrixD(array) for array in (charges[:, None].copy(), atoms.positions.copy(), forces)]
    expected = pme.compute_EF_rec(0, *arrays)  # the last is a view of the forces
    expected -= CONSTANT * splitting / np.sqrt(np.pi) * float(charges @ charges)
    i, j, d, D = ase.neighborlist.neighbor_list("ijdD", atoms, 13.0)
    product = CONSTANT * charges[i] * charges[j]
    expected += 0.5 * float(np.sum(product * erfc(splitting * d) / d))
    slope = (
        erfc(splitting * d) / d**2 + 2.0 * splitting / np.sqrt(np.pi) * np.exp(-((splitting * d) ** 2)) / d
    )
    np.add.at(forces, i, -(product * slope / d)[:, None] * D)
    found = contribution(baseline, item)
    assert found.energy[0] == pytest.approx(expected, rel=1e-10)
    np.testing.assert_allclose(found.forces[0], forces, atol=1e-8)


def test_field() -> None:
    item, field = structure(8, pbc=False), np.array([0.1, -0.2, 0.3])
    plain = gprann.Coulomb(charges={"Na": 0.5, "Cl": -0.5})
    both = gprann.Coulomb(
        charges={"Na": 0.5, "Cl": -0.5}, field=tuple(field), field_charges={"Na": 1.0, "Cl": -1.0}
    )
    seen = np.array([1.0, -1.0] * 4)
    added = energy(both, item) - energy(plain, item)
    assert added == pytest.approx(-float(seen @ item.positions @ field))
    forces = contribution(both, item).forces[0] - contribution(plain, item).forces[0]
    np.testing.assert_allclose(forces, seen[:, None] * field, atol=1e-12)


def test_charges_of_atoms_come_from_a_column() -> None:
    item = structure(9)
    values = np.linspace(-1.0, 1.0, len(item))
    own = item.replace(arrays={"q": values})
    by_atom = gprann.Coulomb(charges="q", scale=0.5)
    np.testing.assert_allclose(by_atom.charges_of(own), 0.5 * values)
    with pytest.raises(DataError, match="no column 'q'"):
        by_atom.evaluate(gprann.Dataset([item]))


def test_bad_input() -> None:
    item = structure(10)
    with pytest.raises(DataError, match="Cl has no charge"):
        gprann.Coulomb(charges={"Na": 1.0}).evaluate(gprann.Dataset([item]))
    with pytest.raises(DataError, match="periodic in one direction"):
        gprann.Coulomb(charges={"Na": 1.0, "Cl": 1.0}).evaluate(
            gprann.Dataset([item.replace(pbc=np.array([True, False, False]))])
        )
    with pytest.raises(ConfigError, match="widths"):
        gprann.Coulomb(charges={"Na": 1.0}, shape="gaussian")
    with pytest.raises(ConfigError, match="widths"):
        gprann.Coulomb(charges={"Na": 1.0}, widths={"Na": 1.0})
    with pytest.raises(ConfigError, match="field_charges"):
        gprann.Coulomb(charges={"Na": 1.0}, field_charges={"Na": 1.0})


# ------------------------------------------------------------------------------------- ZBL
def test_repulsion_of_nuclei() -> None:
    def at(distance: float) -> gprann.Structure:
        return gprann.Structure(("C", "H"), np.array([[0.0, 0, 0], [distance, 0, 0]]))

    baseline = gprann.Zbl()
    assert energy(baseline, at(0.4)) > 40.0
    assert energy(baseline, at(0.81)) == 0.0  # 0.75 (0.76 + 0.31) Å
    h = 1e-5
    for distance in (0.2, 0.39, 0.5, 0.7, 0.79):
        numeric = (energy(baseline, at(distance + h)) - energy(baseline, at(distance - h))) / (2 * h)
        forces = contribution(baseline, at(distance)).forces[0]
        assert forces[1, 0] == pytest.approx(-numeric, rel=1e-5, abs=1e-6)
        np.testing.assert_allclose(forces.sum(axis=0), 0.0, atol=1e-12)


def test_repulsion_does_nothing_at_ordinary_distances() -> None:
    data = gprann.examples.hydrogen(5)
    left = gprann.Zbl().subtract(data)
    assert np.array_equal(left.energies, data.energies)
