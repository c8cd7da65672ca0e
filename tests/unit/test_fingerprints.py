"""Internal directions and fingerprints of structures."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

import contracts
import samples
from contracts import Array, assert_close, assert_derivative, displaced
from gprann.data.structure import Dataset, Structure
from gprann.descriptors import ChebyshevDescriptor
from gprann.descriptors.chebyshev import nonzero_weights
from gprann.errors import ConfigError, DataError
from gprann.io import read
from gprann.surrogate import AtomsKernel, CartesianKernel, PairsKernel
from gprann.surrogate.kernels.base import Fingerprint
from gprann.surrogate.kernels.internal_coordinates import internal_directions, rigid_motions
from reference.chebyshev_oracle import cutoff_function
from reference.neighbours_oracle import image_pairs

# Internal directions -----------------------------------------------------------------------------------------------


def bent(symbols: tuple[str, ...]) -> Structure:
    rng = np.random.default_rng(3)
    return Structure(symbols, samples.chain(symbols).positions + rng.normal(0, 0.1, (len(symbols), 3)))


def in_cell(pbc: list[int]) -> Structure:
    return samples.CRYSTAL.replace(pbc=pbc)


@pytest.mark.parametrize(
    ("structure", "rotation", "translation"),
    [
        (Structure(("H",), [[1.0, 2.0, 3.0]]), 0, 0),
        (samples.chain("HH"), 1, 3),
        (samples.chain("OHO"), 4, 6),  # two stretches and two bends
        (samples.chain("OHHHO"), 10, 12),
        (bent(("O", "H", "H")), 3, 6),
        (bent(("O", "H", "H", "O")), 6, 9),
        (in_cell([1, 1, 1]), 6, 6),  # a lattice cannot turn
        (in_cell([1, 1, 0]), 6, 6),
        (in_cell([0, 1, 0]), 6, 6),
        (in_cell([0, 0, 0]), 3, 6),
    ],
)
def test_number_of_internal_directions(structure: Structure, rotation: int, translation: int) -> None:
    assert internal_directions(structure, "rotation").shape == (3 * len(structure), rotation)
    assert internal_directions(structure, "translation").shape == (3 * len(structure), translation)


@pytest.mark.parametrize("invariant", ["rotation", "translation"])
@pytest.mark.parametrize("structure", [samples.chain("OHO"), bent(("O", "H", "H", "O")), samples.CRYSTAL])
def test_internal_directions_complete_the_rigid_motions(structure: Structure, invariant: str) -> None:
    internal, rigid = internal_directions(structure, invariant), rigid_motions(structure, invariant)
    basis = np.hstack([internal, rigid])
    assert_close(basis.T @ basis, np.eye(3 * len(structure)))
    for axis in np.eye(3):
        assert_close(np.tile(axis, len(structure)) @ internal, np.zeros(internal.shape[1]), scale=1.0)


def test_forces_of_an_invariant_energy_lie_in_the_internal_directions() -> None:
    for structure in [*samples.waters(3), *samples.crystals(3)]:
        internal = internal_directions(structure, "rotation")
        forces = structure.forces.ravel()
        assert_close(internal @ (internal.T @ forces), forces, relative=1e-12)


# Features ----------------------------------------------------------------------------------------------------------

DESCRIPTOR = ChebyshevDescriptor(
    ["H", "O"], radial_order=6, radial_cutoff=3.7, angular_order=3, angular_cutoff=3.1
)


def water_order(data: Dataset) -> Dataset:
    """Waters whose atoms stand as H, O, H: not sorted by species."""
    return Dataset(contracts.reordered(structure, np.array([1, 0, 2])) for structure in data)


CASES: dict[str, tuple[Callable[[], Fingerprint], Dataset]] = {
    "atoms, molecules": (AtomsKernel().fingerprint, water_order(samples.waters(5))),
    "atoms, crystals": (lambda: AtomsKernel(descriptor=DESCRIPTOR).fingerprint(), samples.crystals(5)),
    "pairs, molecules": (lambda: PairsKernel(exponent=1.5).fingerprint(), samples.waters(5)),
    "pairs, crystals": (lambda: PairsKernel(cutoff=5.0).fingerprint(), samples.crystals(5)),
    "cartesian, molecules": (CartesianKernel().fingerprint, samples.waters(5)),
    "cartesian, crystals": (CartesianKernel().fingerprint, samples.crystals(5)),
}


@pytest.fixture(params=CASES)
def fitted(request: pytest.FixtureRequest) -> tuple[Fingerprint, Dataset]:
    make, data = CASES[request.param]
    fingerprint = make()
    fingerprint.fit(data)
    return fingerprint, data


def test_jacobians_are_derivatives_along_the_internal_directions(
    fitted: tuple[Fingerprint, Dataset], rng: np.random.Generator
) -> None:
    fingerprint, data = fitted
    jacobians = fingerprint.jacobians(data)
    for structure, jacobian in zip(data, jacobians, strict=True):
        internal = internal_directions(structure, fingerprint.invariant)
        along = rng.normal(size=internal.shape[1])
        step = (internal @ along).reshape(-1, 3)
        assert_derivative(
            lambda t, s=structure, d=step: fingerprint.rows(Dataset([displaced(s, t * d)])).features.ravel(),
            jacobian @ along,
        )


def test_slopes_are_carried_back_to_the_positions(
    fitted: tuple[Fingerprint, Dataset], rng: np.random.Generator
) -> None:
    """The adjoint of the Jacobian, and no force along rigid motions."""
    fingerprint, data = fitted
    rows = fingerprint.rows(data)
    slopes = rng.normal(size=rows.features.shape)
    gradients, _ = rows.gradients(slopes)
    for index, (structure, jacobian) in enumerate(zip(data, fingerprint.jacobians(data), strict=True)):
        own = slopes[rows.kind_rows[index, 0] : rows.kind_rows[index, -1]]
        internal = internal_directions(structure, fingerprint.invariant)
        assert gradients[index].shape == (len(structure), 3)
        assert_close(gradients[index].ravel(), internal @ (jacobian.T @ own.ravel()))


def test_a_structure_alone_has_the_rows_it_has_among_others(fitted: tuple[Fingerprint, Dataset]) -> None:
    fingerprint, data = fitted
    rows = fingerprint.rows(data)
    for index in range(len(data)):
        alone = fingerprint.rows(data[index : index + 1])
        begin, end = rows.kind_rows[index, 0], rows.kind_rows[index, -1]
        assert_close(alone.features, rows.features[begin:end], relative=1e-14)
        np.testing.assert_array_equal(alone.kind_rows[0], rows.kind_rows[index] - begin)


def test_rigid_motions_do_not_change_the_features(
    fitted: tuple[Fingerprint, Dataset], rng: np.random.Generator
) -> None:
    fingerprint, data = fitted
    before = fingerprint.rows(data).features
    moved = Dataset(displaced(structure, rng.normal(size=3)) for structure in data)
    assert_close(fingerprint.rows(moved).features, before, relative=1e-12)
    Q = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    turned = Dataset(contracts.deformed(structure, Q) for structure in data)
    if fingerprint.invariant == "rotation":
        assert_close(fingerprint.rows(turned).features, before)
    else:
        with pytest.raises(DataError, match="use the kernel 'atoms'"):
            fingerprint.rows(turned)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(11)


# Atoms -------------------------------------------------------------------------------------------------------------


def test_atoms_are_sorted_by_species_and_standardised() -> None:
    data = water_order(samples.waters(6))
    fingerprint = AtomsKernel(descriptor=ChebyshevDescriptor.for_kernel(("H", "O"))).fingerprint()
    fingerprint.fit(data)
    rows = fingerprint.rows(data)
    assert fingerprint.descriptor.species == ("H", "O")
    np.testing.assert_array_equal(rows.kind_rows, [[3 * k, 3 * k + 2, 3 * k + 3] for k in range(6)])
    np.testing.assert_array_equal(rows.kinds(), [0, 0, 1] * 6)
    values = fingerprint.descriptor.values(fingerprint.descriptor.neighbours(data)).reshape(6, 3, -1)
    for kind, own in ((0, values[:, [0, 2]].reshape(12, -1)), (1, values[:, 1])):
        deviation = own.std(axis=0)
        scale = np.maximum(deviation, 1e-3 * deviation.max())
        assert_close(rows.features[rows.kinds() == kind], (own - own.mean(axis=0)) / scale, relative=1e-12)


def test_components_that_are_constant_in_training_are_not_blown_up() -> None:
    """Two atoms have no angles: what a third one adds later counts in thousandths of the largest deviation."""
    data = Dataset([samples.chain("HH", bond=bond) for bond in (0.9, 1.0, 1.3)])
    fingerprint = AtomsKernel(descriptor=ChebyshevDescriptor(["H"])).fingerprint()
    fingerprint.fit(data)
    describe = fingerprint.descriptor
    training = describe.values(describe.neighbours(data))
    deviation = training.std(axis=0)
    assert (deviation == 0).any()
    query = Dataset([samples.chain("HHH")])
    expected = (describe.values(describe.neighbours(query)) - training.mean(axis=0)) / np.maximum(
        deviation, 1e-3 * deviation.max()
    )
    assert_close(fingerprint.rows(query).features, expected, relative=1e-12)


def test_an_atom_alone_has_features_all_the_same() -> None:
    fingerprint = AtomsKernel().fingerprint()
    atom = Dataset([Structure(("H",), np.ones((1, 3)))])
    fingerprint.fit(atom)
    np.testing.assert_array_equal(fingerprint.rows(atom).features, np.zeros((1, fingerprint.descriptor.size)))
    assert fingerprint.jacobians(atom)[0].shape == (fingerprint.descriptor.size, 0)
    assert fingerprint.spread > 0


def test_spread_is_the_root_of_the_summed_variance() -> None:
    data = samples.waters(8)
    fingerprint = AtomsKernel().fingerprint()
    fingerprint.fit(data)
    rows = fingerprint.rows(data)
    summed = [rows.features[rows.kinds() == kind].var(axis=0).sum() for kind in (0, 1)]
    assert fingerprint.spread == pytest.approx(np.sqrt(np.mean(summed)))
    for single in (PairsKernel().fingerprint(), CartesianKernel().fingerprint()):
        single.fit(data)
        assert single.spread == pytest.approx(np.sqrt(single.rows(data).features.var(axis=0).sum()))


def test_a_given_descriptor_is_kept_and_its_own_follows_the_data() -> None:
    fingerprint = AtomsKernel(descriptor=DESCRIPTOR).fingerprint()
    fingerprint.fit(samples.crystals(2))
    assert fingerprint.descriptor is DESCRIPTOR
    own = AtomsKernel().fingerprint()
    with pytest.raises(ConfigError, match="not been fitted"):
        _ = own.descriptor
    own.fit(samples.waters(2))
    own.fit(Dataset([samples.chain("CO")]))
    assert own.descriptor.species == ("C", "O")


@pytest.mark.parametrize("n", range(1, 7))
def test_every_species_has_a_weight_of_its_own(n: int) -> None:
    weights = nonzero_weights(n)
    assert len(set(weights)) == n
    assert 0.0 not in weights


# Pairs -------------------------------------------------------------------------------------------------------------


def pair_features(structure: Structure, exponent: float, cutoff: float) -> Array:
    """Sums over pairs of atoms and images, atom by atom."""
    n = len(structure)
    sums = np.zeros((n, n))
    reach = cutoff if structure.pbc.any() else 100.0
    for i, j, v in image_pairs(structure, reach):
        r = np.linalg.norm(v)
        weight = cutoff_function(r, cutoff) ** 2 if structure.pbc.any() else 1.0
        sums[i, j] += weight * r**-exponent
    return sums[np.triu_indices(n, 1)]


@pytest.mark.parametrize("exponent", [1.0, 2.5])
@pytest.mark.parametrize("make", [samples.waters, samples.crystals])
def test_pairs_are_sums_of_inverse_powers(exponent: float, make: Callable[[int], Dataset]) -> None:
    data = make(3)
    fingerprint = PairsKernel(exponent=exponent, cutoff=5.3).fingerprint()
    fingerprint.fit(data)
    expected = [pair_features(structure, exponent, 5.3) for structure in data]
    assert_close(fingerprint.rows(data).features, expected, relative=1e-13)


def test_distant_atoms_of_a_molecule_are_pairs_too() -> None:
    data = Dataset([Structure(("H", "H"), [[0.0, 0.0, 0.0], [30.0, 30.0, 30.0 + k]]) for k in range(2)])
    fingerprint = PairsKernel().fingerprint()
    fingerprint.fit(data)
    assert_close(fingerprint.rows(data).features, [pair_features(s, 1.0, 0.0) for s in data])


def test_a_single_atom_has_no_pairs() -> None:
    with pytest.raises(DataError, match="a single atom has no pairs; use the kernel 'atoms'"):
        PairsKernel().fingerprint().fit(Dataset([Structure(("H",), np.zeros((1, 3)))]))


def test_pairs_of_a_molecule_are_no_measure_of_a_crystal() -> None:
    fingerprint = PairsKernel().fingerprint()
    fingerprint.fit(samples.waters(2))
    with pytest.raises(
        DataError, match="crystals, structure 0: is periodic, the training set of the surrogate is not"
    ):
        fingerprint.rows(samples.crystals(1))


@pytest.mark.parametrize(
    "options", [{"exponent": 0.0}, {"exponent": np.nan}, {"cutoff": -1.0}, {"cutoff": np.inf}]
)
def test_impossible_pairs_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=f"{next(iter(options))}.*: expected a"):
        PairsKernel(**options)


# Order of atoms ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [PairsKernel().fingerprint, CartesianKernel().fingerprint])
def test_another_order_of_atoms_is_named(make: Callable[[], Fingerprint]) -> None:
    data = samples.waters(3)
    swapped = contracts.reordered(data[1], np.array([1, 0, 2]))
    message = r"waters, structure 1 \(number 2 of the set\): atom 0 is H, expected O"
    fingerprint = make()
    with pytest.raises(DataError, match=message):
        fingerprint.fit(Dataset([data[0], data[1], swapped]))
    fingerprint.fit(data)
    with pytest.raises(DataError, match=message):
        fingerprint.rows(Dataset([data[0], data[1], swapped]))
    other = Dataset([samples.chain("OHO")])
    with pytest.raises(DataError, match="composition HO2 differs"):
        fingerprint.rows(other)


def test_cartesian_features_are_coordinates_about_their_mean() -> None:
    data = samples.waters(3)
    fingerprint = CartesianKernel().fingerprint()
    fingerprint.fit(data)
    features = fingerprint.rows(data).features.reshape(3, 3, 3)
    assert_close(features.mean(axis=1), np.zeros((3, 3)), scale=1.0)
    assert_close(features - features[:, :1], [s.positions - s.positions[0] for s in data])


# The frame of the Cartesian kernel ---------------------------------------------------------------------------------


def dimers(n: int, *, size: float = 0.05, seed: int = 0) -> Dataset:
    """Two molecules of four atoms that vibrate, without a cell."""
    one = bent(("O", "O", "H", "H"))
    positions = np.concatenate([one.positions, one.positions + np.array([3.0, 1.0, 0.5])])
    return samples.rattled(Structure(one.symbols * 2, positions), n, size, seed, "dimers")


def turned(
    structure: Structure, degrees: float, axis: tuple[float, float, float] = (1.0, -2.0, 1.0)
) -> Structure:
    vector = np.radians(degrees) * np.array(axis) / np.linalg.norm(axis)
    return contracts.deformed(structure, Rotation.from_rotvec(vector).as_matrix())


def cartesian(data: Dataset) -> Fingerprint:
    fingerprint = CartesianKernel().fingerprint()
    fingerprint.fit(data)
    return fingerprint


@pytest.mark.parametrize("degrees", [10.0, 15.0, 30.0, 40.0, 90.0, 180.0])
def test_structures_that_have_turned_away_are_refused(degrees: float) -> None:
    """In training sets as in predictions, with the angle."""
    data, query = dimers(20), turned(dimers(1, seed=4)[0], degrees)
    message = (
        rf"dimers, structure 0: has turned by {degrees:.0f}° .* at most 0\.\d\d Å .* use the kernel 'atoms'"
    )
    fingerprint = cartesian(data)
    loose = message.replace(f"{degrees:.0f}°", r"\d+°")  # it vibrates too
    with pytest.raises(DataError, match=loose):
        fingerprint.rows(Dataset([query]))
    with pytest.raises(DataError, match=loose):
        cartesian(Dataset([*data, query]))
    single = cartesian(data[:1])
    with pytest.raises(DataError, match=message):
        single.rows(Dataset([turned(data[0], degrees)]))


def test_the_scale_of_turns_is_that_of_the_training_set(rng: np.random.Generator) -> None:
    """Turns of a few degrees are refused only where the others turn by less."""
    query = Dataset([turned(dimers(1)[0], 15.0)])
    still = cartesian(dimers(20, size=0.02))
    with pytest.raises(DataError, match=r"has turned by 1[45]°"):
        still.rows(query)
    librating = Dataset(
        turned(structure, 8.0 * rng.normal(), tuple(rng.normal(size=3))) for structure in dimers(20, size=0.2)
    )
    assert cartesian(librating).rows(query).features.shape == (1, 24)


def test_vibrations_and_copies_are_no_turns(rng: np.random.Generator) -> None:
    for data in (dimers(20), samples.waters(20), samples.crystals(20), Dataset([samples.chain("HH")])):
        for some in (data[:1], data):
            fingerprint = cartesian(some)
            for size in (0.02, 0.1):
                copies = [displaced(s, rng.normal(0, size, (len(s), 3))) for s in some for _ in range(100)]
                assert len(fingerprint.rows(Dataset(copies)).features) == len(copies)


@pytest.mark.parametrize(
    "base", [dimers(1)[0], samples.chain("HH"), samples.chain("OHO")], ids=["dimer", "HH", "OHO"]
)
def test_training_sets_of_all_orientations_are_refused(base: Structure, rng: np.random.Generator) -> None:
    data = Dataset(
        turned(s, rng.uniform(90, 270), tuple(rng.normal(size=3)))
        for s in samples.rattled(base, 12, 0.05, 0, "all")
    )
    with pytest.raises(DataError, match=r"has turned by \d+° .* turn all structures into one"):
        cartesian(data)


def test_the_angle_of_a_linear_molecule_is_that_of_its_axis() -> None:
    data = Dataset([samples.chain("OHO")])
    with pytest.raises(DataError, match="has turned by 70°"):
        cartesian(data).rows(Dataset([turned(data[0], 70.0, (1.0, 0.0, -1.0))]))  # normal to the chain


@pytest.mark.parametrize("moved", [slice(4), slice(0, None, 2), slice(1)])
def test_atoms_far_from_their_places_are_refused(moved: slice) -> None:
    """Half of them, or one."""
    data = dimers(20)
    positions = data[3].positions.copy()
    positions[moved] += [3.0, 0.0, 0.0]
    fingerprint = cartesian(data)
    message = (
        r"structure 3: atom \d \([OH]\) lies \d\.\d\d Å away .* at most 1\.00 Å .* leave the structure out"
    )
    with pytest.raises(DataError, match=message):
        fingerprint.rows(Dataset([data[3].replace(positions=positions)]))
    crystal = samples.crystals(5)
    hopped = crystal[1].positions.copy()
    hopped[0] += [1.4, 0.7, 0.0]
    with pytest.raises(DataError, match=r"structure 1: atom 0 \(O\) lies 1\.\d\d Å away"):
        cartesian(crystal).rows(Dataset([crystal[1].replace(positions=hopped)]))


def test_training_sets_whose_atoms_move_far_are_no_error() -> None:
    """As along a dissociation."""
    base = dimers(1)[0]
    data = Dataset(displaced(base, np.outer(np.arange(8) < 4, [-0.2 * k, 0.0, 0.0])) for k in range(20))
    assert len(cartesian(data).rows(data).features) == 20


@pytest.mark.data
@pytest.mark.parametrize("name", ["ec_dimer", "li_ec"])
def test_real_structures_are_in_one_frame(name: str, shared_data: Path) -> None:
    training, query = (read(shared_data / name / f"{part}.extxyz") for part in ("train", "dev"))
    for data in (training, training[:1], training[:10]):
        assert len(cartesian(data).rows(query).features) == len(query)
    if name == "ec_dimer":
        for degrees in (5.0, 15.0, 30.0, 40.0):
            with pytest.raises(DataError, match=r"has turned by \d+°"):
                cartesian(training).rows(Dataset([turned(query[0], degrees)]))
