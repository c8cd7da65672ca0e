"""The surrogate against a dense Gaussian process, the contracts of every energy, and difficult training sets."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

import contracts
import samples
from contracts import Array, Observed, assert_close, clear_of
from gprann.data.structure import Dataset, Structure
from gprann.descriptors import ChebyshevDescriptor
from gprann.errors import ConfigError, DataError
from gprann.surrogate import Surrogate
from gprann.surrogate import prediction as module
from gprann.surrogate.kernels.cartesian import CartesianKernel
from reference.chebyshev_oracle import cutoff_function
from reference.gaussian_process_oracle import DenseProcess, Features
from reference.neighbours_oracle import image_pairs

CUTOFFS = (3.4, 2.9)
DESCRIPTOR = ChebyshevDescriptor(
    ["H", "O"], radial_order=5, radial_cutoff=CUTOFFS[0], angular_order=2, angular_cutoff=CUTOFFS[1]
)
PAIRS_CUTOFF = 4.6
LENGTH, ENERGY_NOISE, FORCE_NOISE = 3.0, 1e-4, 2e-5
FIXED: dict[str, Any] = {"length": LENGTH, "energy_noise": ENERGY_NOISE, "force_noise": FORCE_NOISE}


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(5)


# The dense process -------------------------------------------------------------------------------------------------


def clear_crystals(n: int, seed: int) -> Dataset:
    """Crystals without a distance near a cutoff, where finite differences would be wrong."""
    stream = iter(samples.crystals(2000, seed=seed))
    return Dataset(clear_of(lambda: next(stream), (*CUTOFFS, PAIRS_CUTOFF), margin=0.05) for _ in range(n))


def atoms_features(descriptor: ChebyshevDescriptor, data: Dataset) -> Features:
    """Standardised descriptors, sorted by species."""
    symbols = np.array([symbol for structure in data for symbol in structure.symbols])
    values = descriptor.values(descriptor.neighbours(data))
    means, scales = {}, {}
    for symbol in set(symbols.tolist()):
        own = values[symbols == symbol]
        deviation = own.std(axis=0)
        means[symbol], scales[symbol] = own.mean(axis=0), np.maximum(deviation, 1e-3 * deviation.max())

    def features(structure: Structure) -> tuple[Any, Array]:
        rows = descriptor.values(descriptor.neighbours([structure]))
        order = np.argsort(structure.symbols, kind="stable")
        names = [structure.symbols[i] for i in order]
        standard = [(rows[i] - means[n]) / scales[n] for i, n in zip(order, names, strict=True)]
        return np.array([sorted(set(symbols.tolist())).index(n) for n in names]), np.array(standard)

    return features


def pairs_features(structure: Structure) -> tuple[Any, Array]:
    n, periodic = len(structure), structure.pbc.any()
    sums = np.zeros((n, n))
    for i, j, v in image_pairs(structure, PAIRS_CUTOFF if periodic else 50.0):
        r = np.linalg.norm(v)
        sums[i, j] += (cutoff_function(r, PAIRS_CUTOFF) ** 2 if periodic else 1.0) / r
    return np.zeros(1, int), sums[np.triu_indices(n, 1)][None]


def cartesian_features(structure: Structure) -> tuple[Any, Array]:
    return np.zeros(1, int), (structure.positions - structure.positions.mean(axis=0)).reshape(1, -1)


class Case(NamedTuple):
    options: dict[str, Any]
    features: Callable[[Dataset], Features]
    training: Dataset
    query: Structure
    freedom: int


WATERS, CRYSTALS = samples.waters(6, size=0.15), clear_crystals(5, seed=1)
QUERY = {"water": samples.waters(1, size=0.15, seed=9)[0], "crystal": clear_crystals(1, seed=9)[0]}
CASES = {
    "atoms, molecule": Case(
        {"kernel": "atoms", "descriptor": DESCRIPTOR},
        lambda data: atoms_features(DESCRIPTOR, data),
        WATERS,
        QUERY["water"],
        3,
    ),
    "atoms, crystal": Case(
        {"kernel": "atoms", "descriptor": DESCRIPTOR},
        lambda data: atoms_features(DESCRIPTOR, data),
        CRYSTALS,
        QUERY["crystal"],
        6,
    ),
    "pairs, molecule": Case({"kernel": "pairs"}, lambda data: pairs_features, WATERS, QUERY["water"], 3),
    "pairs, crystal": Case(
        {"kernel": "pairs", "cutoff": PAIRS_CUTOFF},
        lambda data: pairs_features,
        CRYSTALS,
        QUERY["crystal"],
        6,
    ),
    "cartesian, molecule": Case(
        {"kernel": "cartesian"}, lambda data: cartesian_features, WATERS, QUERY["water"], 6
    ),
    "cartesian, crystal": Case(
        {"kernel": "cartesian"}, lambda data: cartesian_features, CRYSTALS, QUERY["crystal"], 6
    ),
    "atoms, Matérn": Case(
        {"kernel": "atoms", "descriptor": DESCRIPTOR, "radial": "matern52"},
        lambda data: atoms_features(DESCRIPTOR, data),
        CRYSTALS,
        QUERY["crystal"],
        6,
    ),
    "pairs, Matérn": Case(
        {"kernel": "pairs", "radial": "matern52"}, lambda data: pairs_features, WATERS, QUERY["water"], 3
    ),
}


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest) -> Case:
    return CASES[request.param]


def test_predictions_are_those_of_the_dense_process(case: Case) -> None:
    """Jacobians by differences are right to 1e-10; relative noises of 1e-5 magnify that to 1e-5 at most."""
    surrogate = Surrogate(**case.options, **FIXED).fit(case.training)
    spread = surrogate.fingerprint.spread
    dense = DenseProcess(
        case.features(case.training),
        list(case.training),
        length=LENGTH * spread,
        noise=(ENERGY_NOISE, FORCE_NOISE),
        freedom=[case.freedom] * len(case.training),
        radial=surrogate.kernel.radial,
        shift=surrogate.kernel.shift,
    )
    values = surrogate.hyperparameters
    assert values.length == LENGTH
    assert values.amplitude == pytest.approx(np.sqrt(dense.amplitude2), rel=1e-6)
    assert values.energy_noise == pytest.approx(
        values.amplitude * np.sqrt(dense.unit * ENERGY_NOISE), rel=1e-6
    )
    assert values.force_noise == pytest.approx(values.amplitude * np.sqrt(dense.unit * FORCE_NOISE), rel=1e-6)
    queries = Dataset([case.query, case.training[2]])
    prediction = surrogate.predict(queries, forces_std=True)
    for index, structure in enumerate(queries):
        expected = dense.predict(structure)
        assert prediction.energy[index] == pytest.approx(expected.energy, abs=1e-6)
        assert_close(prediction.forces[index], expected.forces, relative=1e-6)
        assert prediction.energy_std[index] == pytest.approx(expected.energy_std, rel=1e-4)
        assert_close(prediction.forces_std[index], expected.forces_std, relative=1e-4)


@pytest.mark.parametrize(
    ("kernel", "make", "n", "tolerance"),
    [
        ("atoms", samples.waters, 12, 0.002),
        ("atoms", samples.crystals, 20, 0.005),
        ("pairs", samples.waters, 12, 0.01),
        ("pairs", samples.crystals, 20, 0.2),
        ("cartesian", samples.waters, 12, 0.2),
        ("cartesian", samples.crystals, 20, 0.05),
    ],
)
def test_hyperparameters_from_the_training_set_predict_other_structures(
    kernel: str, make: Callable[..., Dataset], n: int, tolerance: float
) -> None:
    """Errors are small against the variation of the labels, and within a few predicted standard deviations."""
    query = make(20, seed=7)
    prediction = Surrogate(kernel).fit(make(n)).predict(query)
    errors = np.abs(prediction.energy - query.energies)
    assert errors.mean() < tolerance * np.abs(query.energies - query.energies.mean()).mean()
    forces = np.concatenate(query.forces)
    assert np.abs(np.concatenate(prediction.forces) - forces).mean() < tolerance * np.abs(forces).mean()
    assert np.median(errors / prediction.energy_std) < 4


def test_standard_deviation_vanishes_at_the_training_set_and_grows_away_from_it() -> None:
    training = samples.waters(8)
    surrogate = Surrogate(**FIXED).fit(training)
    stretch = [training[0].replace(positions=s * training[0].positions) for s in (1.0, 1.1, 1.2, 1.3)]
    prediction = surrogate.predict(Dataset(stretch), forces_std=True)
    assert (np.diff(prediction.energy_std) > 0).all()
    assert prediction.energy_std[0] < 0.05 * prediction.energy_std[-1]
    sizes = [std.mean() for std in prediction.forces_std]
    assert (np.diff(sizes) > 0).all()
    # Far beyond the length of the kernel nothing is known: the mean and the standard deviation of the prior.
    gone = training[0].replace(positions=np.array([[0.0, 0, 0], [40.0, 0, 0], [0, 50.0, 0]]))
    short = Surrogate(**{**FIXED, "length": 0.05}).fit(training)
    far = short.predict(Dataset([gone]))
    assert far.energy[0] == pytest.approx(training.energies.mean(), abs=1e-6)
    # The two hydrogens are alike, so their kernels add up to 4, the oxygen's is 1.
    assert far.energy_std[0] == pytest.approx(np.sqrt(5) * short.hyperparameters.amplitude, rel=1e-6)


# Contracts ---------------------------------------------------------------------------------------------------------


def observer(surrogate: Surrogate) -> Callable[[Structure], Observed]:
    def evaluate(structure: Structure) -> Observed:
        prediction = surrogate.predict(Dataset([structure]))
        per_atom = np.full(len(structure), prediction.energy[0] / len(structure))
        return Observed(float(prediction.energy[0]), per_atom, -prediction.forces[0])

    return evaluate


def test_forces_are_derivatives_of_the_energy(case: Case, rng: np.random.Generator) -> None:
    surrogate = Surrogate(**case.options, **FIXED).fit(case.training)
    contracts.assert_gradient(observer(surrogate), case.query, rng)


def test_translation_does_not_matter_and_forces_have_no_resultant(
    case: Case, rng: np.random.Generator
) -> None:
    surrogate = Surrogate(**case.options, **FIXED).fit(case.training)
    evaluate = observer(surrogate)
    query = case.query.replace(pbc=False) if case.options["kernel"] == "cartesian" else case.query
    contracts.assert_translation(evaluate, query, rng)


@pytest.mark.parametrize("name", ["atoms, molecule", "atoms, crystal", "pairs, molecule", "pairs, crystal"])
def test_rotation_does_not_matter(name: str, rng: np.random.Generator) -> None:
    case = CASES[name]
    surrogate = Surrogate(**case.options, **FIXED).fit(case.training)
    contracts.assert_rotation(observer(surrogate), case.query, rng)


@pytest.mark.parametrize("name", ["atoms, molecule", "atoms, crystal"])
def test_permutation_does_not_matter(name: str, rng: np.random.Generator) -> None:
    case = CASES[name]
    surrogate = Surrogate(**case.options, **FIXED).fit(case.training)
    contracts.assert_permutation(observer(surrogate), case.query, rng)
    shuffled = Dataset(
        samples.labelled(contracts.reordered(s, rng.permutation(len(s)))) for s in case.training
    )
    again = Surrogate(**case.options, **FIXED).fit(shuffled)
    before, after = observer(surrogate)(case.query), observer(again)(case.query)
    assert_close(after.gradient, before.gradient, relative=1e-9)


def test_the_cartesian_kernel_knows_one_orientation_alone(rng: np.random.Generator) -> None:
    surrogate = Surrogate("cartesian").fit(samples.waters(12))
    query = samples.waters(1, seed=7)[0]
    for degrees, allowed in ((0.0, True), (10.0, True), (70.0, False), (180.0, False)):
        turned = contracts.deformed(query, Rotation.from_rotvec([0, 0, degrees], degrees=True).as_matrix())
        if allowed:
            assert abs(surrogate.predict(Dataset([turned])).energy[0] - query.energy) < 0.5
            continue
        with pytest.raises(DataError, match=r"waters, structure 0: has turned by \d+° .* kernel 'atoms'"):
            surrogate.predict(Dataset([turned]))
    mixed = Dataset([*samples.waters(12), turned])
    with pytest.raises(DataError, match="has turned by 1"):
        Surrogate("cartesian").fit(mixed)
    assert Surrogate("atoms", **FIXED).fit(mixed)


@pytest.mark.parametrize("shift", [[0.0, 0, 0], [0.3, -0.2, 7.0]])
def test_the_cartesian_kernel_refuses_other_periodic_images(shift: list[float]) -> None:
    """Of one atom; all of them together may lie anywhere."""
    data = samples.crystals(8)
    surrogate = Surrogate("cartesian", **FIXED).fit(data)
    moved = data[3].replace(positions=data[3].positions + shift)
    assert_close(
        surrogate.predict(Dataset([moved])).energy, surrogate.predict(data[3:4]).energy, relative=1e-9
    )
    jumped = moved.positions.copy()
    jumped[1] += moved.cell[2]
    with pytest.raises(DataError, match=r"structure 3: atom 1 \(H\) lies .* unwrap the coordinates"):
        surrogate.predict(Dataset([moved.replace(positions=jumped)]))


def test_number_of_threads_does_not_matter(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    def compute() -> list[Array]:
        surrogate = Surrogate(**case.options).fit(case.training)
        prediction = surrogate.predict(Dataset([case.query, *case.training]), forces_std=True)
        return [prediction.energy, prediction.energy_std, *prediction.forces, *prediction.forces_std]

    contracts.assert_threads(compute, monkeypatch)


def test_predictions_do_not_depend_on_the_batch(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    surrogate = Surrogate(**case.options, **FIXED).fit(case.training)
    data = Dataset([case.query, *case.training])
    whole = surrogate.predict(data, forces_std=True)
    counts: list[int] = []
    monkeypatch.setattr(module, "_BATCH", 2)
    parts = surrogate.predict(data, forces_std=True, progress=counts.append)
    assert sum(counts) == len(data)
    assert max(counts) == 2
    assert_close(parts.energy, whole.energy, relative=1e-12)
    # A variance is a difference of numbers of the size of the prior's.
    size = surrogate.hyperparameters.amplitude
    assert_close(parts.energy_std**2, whole.energy_std**2, relative=1e-11, scale=size**2)
    for one, other in zip(parts.forces + parts.forces_std, whole.forces + whole.forces_std, strict=True):
        assert_close(one, other, relative=1e-7)


def test_only_what_is_asked_for_is_predicted() -> None:
    surrogate = Surrogate(**FIXED).fit(samples.waters(3))
    query = samples.waters(2, seed=3)
    bare = surrogate.predict(query, std=False, forces=False)
    assert (bare.forces, bare.energy_std, bare.forces_std, bare.stress) == ([], None, None, None)
    full = surrogate.predict(query)
    np.testing.assert_array_equal(bare.energy, full.energy)
    nothing = surrogate.predict(Dataset())
    assert nothing.energy.shape == nothing.energy_std.shape == (0,)
    assert nothing.forces == []


def test_prediction_needs_no_labels_and_changes_nothing() -> None:
    surrogate = Surrogate().fit(samples.waters(5))
    query = samples.waters(3, seed=3)
    before, first = surrogate.hyperparameters, surrogate.predict(query)
    bare = Dataset(structure.replace(energy=None, forces=None) for structure in query)
    wrong = Dataset(structure.replace(energy=1e3, forces=np.ones((3, 3))) for structure in query)
    for other in (bare, wrong):
        second = surrogate.predict(other)
        contracts.assert_same_bits([[p.energy, p.energy_std, *p.forces] for p in (first, second)])
    assert surrogate.hyperparameters == before


def test_a_shift_of_the_energies_is_learnt(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a surface that rises in all directions the mean of the energies is not the shift that suits the kernel."""
    rng = np.random.default_rng(0)
    rest = rng.uniform(0, 5, size=(12, 3))
    shifts = rng.normal(scale=0.1, size=(30, 12, 3))
    shifts -= shifts.mean(axis=1, keepdims=True)
    data = Dataset(
        Structure(("Ar",) * 12, rest + shift, energy=2.0 * np.sum(shift**2), forces=-4.0 * shift)
        for shift in shifts
    )
    errors = []
    for shift in (0.0, CartesianKernel.shift):
        monkeypatch.setattr(CartesianKernel, "shift", shift)
        surrogate = Surrogate("cartesian", length=20.0, energy_noise=1e-8, force_noise=1e-8).fit(data[:10])
        errors.append(np.abs(surrogate.predict(data[10:], std=False).energy - data[10:].energies).mean())
    assert errors[1] < 0.4 * errors[0]


def test_lists_of_structures_are_taken() -> None:
    data = samples.waters(4)
    options: dict[str, Any] = {"length": 5.0, "energy_noise": 1e-8, "force_noise": 1e-8}
    of_list = Surrogate(**options).fit(list(data)[:3]).extend(list(data)[3:])  # type: ignore[arg-type]
    expected = Surrogate(**options).fit(data[:3]).extend(data[3:]).predict(data).energy
    np.testing.assert_array_equal(of_list.predict(list(data)).energy, expected)  # type: ignore[arg-type]
    with pytest.raises(DataError, match="source: int is no path"):
        Surrogate().fit([1, 2])  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"length": "long"}, "length: expected a number, got 'long'"),
        ({"length": True}, "length: expected a number, got True"),
        ({"force_noise": np.inf}, "force_noise: expected a finite number, got inf"),
        ({"seed": -1}, "seed = -1: expected 0 or more, a whole number"),
        ({"seed": 0.5}, r"seed = 0\.5: expected 0 or more, a whole number"),
        ({"tolerance": "small"}, "tolerance: expected a number, got 'small'"),
        ({"memory": "1 GiB"}, "memory: expected a number, got '1 GiB'"),
    ],
)
def test_options_of_another_type(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Surrogate(**options)
