"""Training from a data set to a potential: options, targets, features, the split, and difficult sets."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase.build import bulk

import contracts
import regression
import samples
from contracts import assert_close
from gprann import ChebyshevDescriptor, augment, examples, taylor_augment, train
from gprann.data.structure import Dataset, Origin, Structure
from gprann.errors import ConfigError, DataError
from gprann.models import FeatureTable, Mlp, NetworkModel, Normalisation
from gprann.potential import Potential
from gprann.training import TrainingOptions
from gprann.training.hold_out import families, strata
from gprann.training.member import CommitteeTask, hold_out
from gprann.training.objective import EnergyObjective
from gprann.training.optimizers import AdamW, GaussNewtonCG, Lbfgs, LevenbergMarquardt, Optimizer, Workload
from gprann.training.options import Auto
from gprann.training.targets import energy_scale, energy_weights, structure_weights

HYDROGEN = ChebyshevDescriptor(["H"], radial_order=6, radial_cutoff=5.0, angular_order=None)
WATER = ChebyshevDescriptor(
    ["H", "O"], radial_order=4, radial_cutoff=3.9, angular_order=2, angular_cutoff=3.0
)
SHORT: dict[str, Any] = {"hidden": (4,), "iterations": 12}
QUICK: dict[str, Any] = {**SHORT, "starts": 2}


# Features ----------------------------------------------------------------------------------------------------------


def test_normalisation_is_per_species_and_leaves_constant_components_out() -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(2.0, [1.0, 0.1, 5.0], size=(30, 3))
    kinds = (np.arange(30) % 2).astype(np.int32)
    values[kinds == 1, 1] = 7.0
    normalisation = Normalisation.from_values(values, kinds, 3)
    applied = normalisation.apply(values, kinds)
    for kind in (0, 1):
        varying = [0, 2] if kind else [0, 1, 2]
        own = applied[kinds == kind]
        assert_close(own[:, varying].mean(axis=0), np.zeros(len(varying)), scale=1.0)
        assert_close(own[:, varying].std(axis=0), np.ones(len(varying)))
    np.testing.assert_array_equal(applied[kinds == 1, 1], 0.0)
    np.testing.assert_array_equal(normalisation.inverse_scale[2], 0.0)  # a species without atoms


def test_components_that_hardly_vary_in_training_are_not_blown_up() -> None:
    values = np.array([[1.0, 5.0 - 1e-7], [2.0, 5.0], [3.0, 5.0 + 1e-7]])
    normalisation = Normalisation.from_values(values, np.zeros(3, np.int32), 1)
    largest = values[:, 0].std()
    assert_close(normalisation.inverse_scale, [[1 / largest, 1e2 / largest]])


def test_features_of_a_rattled_crystal_stay_moderate_after_training_on_volumes_alone() -> None:
    descriptor = ChebyshevDescriptor(["Cl", "Na"])

    def structure(scale: float, rattle: float = 0.0) -> Structure:
        atoms = bulk("NaCl", "rocksalt", a=5.64 * scale, cubic=True)
        atoms.rattle(rattle, seed=0)
        return Structure(tuple(atoms.get_chemical_symbols()), atoms.positions, atoms.cell[:], [True] * 3)

    crystals = descriptor.neighbours([structure(scale) for scale in (0.97, 1.0, 1.03)])
    normalisation = Normalisation.from_values(descriptor.values(crystals), crystals.species, 2)
    rattled = descriptor.neighbours([structure(1.0, 0.1)])
    features = normalisation.apply(descriptor.values(rattled), rattled.species)
    assert 1 < np.abs(features).max() < 25


@pytest.mark.parametrize("structures", [[4, 0, 2], [1], [], [3, 3], list(range(6))])
def test_tables_hold_the_atoms_of_their_structures(structures: list[int]) -> None:
    rng = np.random.default_rng(1)
    features, kinds, first = regression.features(6, 2, 3, rng)
    table = FeatureTable.sort(features, kinds, first, 3).select(np.array(structures, dtype=np.int64))
    assert table.n_structures == len(structures)
    for kind in range(3):
        for place, structure in enumerate(structures):
            rows = slice(table.rows[kind, place], table.rows[kind, place + 1])
            atoms = first[structure] + np.flatnonzero(kinds[first[structure] : first[structure + 1]] == kind)
            np.testing.assert_array_equal(table.order[rows], atoms)
            np.testing.assert_array_equal(table.features[rows], features[atoms])
    assert len(table.features) == sum(first[s + 1] - first[s] for s in structures)


def test_parameters_start_at_random_and_layer_by_layer() -> None:
    model = NetworkModel(400, (300, 200), 2)
    parameters = model.initial(np.random.default_rng(0))
    assert model.n_parameters == len(parameters) == 2 * (401 * 300 + 301 * 200 + 201)
    end = 0
    for (kind, layer, weights, biases), fan_in in zip(model.layers(), [400, 300, 200] * 2, strict=True):
        assert weights.start == end
        end = biases.stop
        if layer < 2:
            assert parameters[weights].std() == pytest.approx(fan_in**-0.5, rel=0.02)
            assert parameters[biases].std() == pytest.approx(0.1, rel=0.2)
        assert kind in (0, 1)
    assert end == model.n_parameters


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((3, (0,), 1), "expected positive layer widths"),
        ((3, (2,), 1, "tan"), "activation = 'tan': did you mean 'tanh'"),
    ],
)
def test_impossible_networks_are_refused(arguments: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        NetworkModel(*arguments)


# Targets -----------------------------------------------------------------------------------------------------------


def compounds() -> Dataset:
    rng = np.random.default_rng(0)
    symbols = [("O", "H", "H"), ("O", "O"), ("H",), ("O", "H"), ("H", "H", "H", "O")]
    e0 = {"H": -13.6, "O": -430.0}
    return Dataset(
        Structure(names, rng.normal(0, 3, (len(names), 3)), energy=sum(e0[s] for s in names))
        for names in symbols
    )


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"H": -13.6}, "O missing"),
        ({}, "H, O missing"),
        ({"H": -13.6, "O": -430.0, "C": 1.0}, "C not among the species"),
        ({"H": -13.6, "O": np.nan}, "expected a finite number, got nan"),
        ({"H": -13.6, "O": "low"}, "expected a number, got 'low'"),
        ({"H": -13.6, "O": None}, "expected a number, got None"),
    ],
)
def test_reference_energies_must_be_given_for_each_species(given: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=rf"reference_energies(\.O)?: {message}"):
        train(compounds(), WATER, reference_energies=given, **QUICK)


def test_energy_scale_is_the_deviation_that_is_left() -> None:
    assert energy_scale(np.array([1.0, 3.0])) == 1.0
    assert energy_scale(np.array([5.0, 5.0])) == 1.0  # nothing is left: no division by zero
    assert energy_scale(np.array([0.0, 1e-3])) == pytest.approx(5e-4)


def test_weights_of_structures() -> None:
    data = Dataset(
        structure.replace(weight=weight, energy_variance=variance)
        for structure, weight, variance in zip(
            compounds()[:3], (1.0, 2.0, 0.0), (0.0, 0.03, 0.01), strict=True
        )
    )
    plain = structure_weights(data, TrainingOptions())
    np.testing.assert_allclose(plain, [1, 2, 0])
    mean = (3 + 2 * 2) / 3  # of the atoms of weighted structures, whose weights keep their sum about
    expected = [(mean / 3) ** 2, 2 * (mean / 2) ** 2, 0]
    np.testing.assert_allclose(energy_weights(data, plain, per_atom=True), expected)
    noisy = structure_weights(data, TrainingOptions(label_noise=0.1))
    np.testing.assert_allclose(noisy, [1, 2 * 0.01 / (0.01 + 0.03), 0])
    with pytest.raises(DataError, match="all weights of the training set are zero"):
        structure_weights(data[2:], TrainingOptions())


def test_groups_have_weights() -> None:
    data = Dataset(s.replace(group=group) for s, group in zip(compounds()[:3], ("a", "b", "a"), strict=True))
    weights = structure_weights(data, TrainingOptions(group_weights={"b": 0.25}))
    np.testing.assert_allclose(weights, [1, 0.25, 1])
    with pytest.raises(ConfigError, match="no structure is of the group 'c'"):
        structure_weights(data, TrainingOptions(group_weights={"c": 2.0}))


def test_structures_without_weight_are_not_fitted() -> None:
    """A wrong label of weight zero changes nothing."""
    data = examples.hydrogen(8)
    marked = [data[3].replace(energy=data[3].energy + 5.0, weight=0.0)]
    spoilt = Dataset([*data[:3], *marked, *data[4:]])
    scale = {"reference_energies": {"H": 0.0}, "validation": 0.0, "iterations": 40, "hidden": (4,)}
    potential = train(spoilt, HYDROGEN, **scale)
    errors = np.abs(potential.predict(data).energy - data.energies)
    assert errors.max() < 0.5
    assert np.delete(errors, 3).max() < 0.1


def test_synthetic_labels_count_less_the_more_uncertain_they_are() -> None:
    """Two labels for one geometry: the fit lies at their weighted mean."""
    bond = examples.hydrogen(1)[0]
    data = Dataset([bond.replace(energy=0.0), bond.replace(energy=1.0, energy_variance=0.03)])
    common = {"validation": 0.0, "iterations": 30, "ridge": 0.0, "hidden": (2,)}
    even = train(data, HYDROGEN, **common).predict(data[:1]).energy[0]
    weighted = train(data, HYDROGEN, label_noise=0.1, **common).predict(data[:1]).energy[0]
    assert even == pytest.approx(0.5, abs=1e-4)
    assert weighted == pytest.approx(0.25 / 1.25, abs=1e-4)


# Options -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"hiden": (3,)}, "unknown option 'hiden': did you mean 'hidden'"),
        ({"optimiser": "lm"}, "unknown option 'optimiser': did you mean 'optimizer'"),
        ({"epochs": 3}, "unknown option 'epochs': "),
        ({"optimizer": "adam"}, "optimizer = 'adam': did you mean 'adamw'"),
        ({"activation": "than"}, "activation = 'than': did you mean 'tanh'"),
        ({"hidden": 10}, "hidden: expected a list, got 10"),
        ({"hidden": "10-10"}, "hidden: expected a list, got '10-10'"),
        ({"hidden": (2.5,)}, r"hidden\[0\]: expected a whole number, got 2.5"),
        ({"hidden": (3, 0)}, "expected positive layer widths"),
        ({"members": 0}, "members = 0: expected 1 or more"),
        ({"members": 1.5}, "members: expected a whole number, got 1.5"),
        ({"members": None}, "members: expected a whole number, got None"),
        ({"starts": 0}, "starts = 0"),
        ({"optimizer": "adamw", "batch_size": 0}, "batch_size = 0"),
        ({"batch_size": 8}, "batch_size belongs to optimizer = 'adamw', not to 'auto'"),
        ({"optimizer": "adamw", "starts": 3}, "starts belongs to optimizer = 'lm' or 'gauss_newton_cg'"),
        ({"iterations": 0}, "iterations = 0: expected 1 or more"),
        ({"patience": -1}, "patience = -1"),
        ({"validation": 1.0}, "validation = 1.0: expected a fraction from 0 to below 1"),
        ({"validation": -0.1}, "validation = -0.1"),
        ({"validation": np.nan}, "validation: expected a finite number, got nan"),
        ({"seed": -1}, "seed = -1: expected 0 or more"),
        ({"optimizer": "adamw", "learning_rate": 0.0}, "learning_rate = 0.0: expected a positive number"),
        ({"optimizer": "adamw", "learning_rate": "fast"}, "learning_rate: expected a number, got 'fast'"),
        ({"label_noise": np.inf}, "label_noise: expected a finite number, got inf"),
        (
            {"optimizer": "adamw", "weight_decay": -1.0},
            "weight_decay = -1.0: expected a number that is not negative",
        ),
        ({"ridge": np.nan}, "ridge: expected a finite number, got nan"),
    ],
)
def test_impossible_options_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        train(examples.hydrogen(3), HYDROGEN, **options)


def test_options_are_plain_numbers() -> None:
    options = TrainingOptions(
        hidden=np.array([3, 4]),
        members=np.int64(2),
        seed=np.uint8(3),
        ridge=np.float32(0.5),
        iterations=np.int32(7),
    )
    assert json.loads(json.dumps(options.to_dict())) == options.to_dict()
    assert options == TrainingOptions(
        model=Mlp(hidden=(3, 4)), members=2, seed=3, optimizer=Auto(ridge=0.5, iterations=7)
    )
    assert TrainingOptions.from_dict(json.loads(json.dumps(options.to_dict()))) == options


def test_an_optimizer_is_given_by_name_or_as_an_object() -> None:
    data = samples.waters(12)
    options: dict[str, Any] = {"hidden": (4,), "members": 2}
    one = train(data, WATER, optimizer="adamw", learning_rate=0.01, iterations=5, **options)
    two = train(data, WATER, optimizer=AdamW(learning_rate=0.01, iterations=5), **options)
    np.testing.assert_array_equal(one.parameters, two.parameters)
    assert one.provenance["training"]["options"] == two.provenance["training"]["options"]


MIXED = Workload(n_compositions=2)


@pytest.mark.parametrize("kind", [LevenbergMarquardt, GaussNewtonCG, Lbfgs, AdamW])
def test_defaults_depend_on_the_optimizer_and_the_data(kind: type[Optimizer]) -> None:
    plain = kind()
    for workload in (Workload(), MIXED, Workload(forces=True), Workload(forces=True, n_compositions=2)):
        optimizer = plain.suited_to(workload)
        assert optimizer.iterations > optimizer.patience > 1
        assert None not in optimizer.to_dict().values()
    given = kind(iterations=3, patience=2).suited_to(MIXED)
    assert (given.iterations, given.patience) == (3, 2)
    of_energies, of_mixed = plain.suited_to(Workload()), plain.suited_to(MIXED)
    if kind in (LevenbergMarquardt, GaussNewtonCG):
        for name in ("iterations", "patience", "starts"):
            assert getattr(of_mixed, name) > getattr(of_energies, name)
    else:
        assert of_mixed == of_energies


@pytest.mark.parametrize(("rows", "several"), [([0, 2, 4], False), ([0, 2, 5], True)])
def test_random_starts_on_several_compositions_begin_with_short_steps(rows: list[int], several: bool) -> None:
    model = NetworkModel(3, (2,), 1)
    table = FeatureTable(np.ones((rows[-1], 3)), np.array([rows]), np.arange(rows[-1]))
    problem = EnergyObjective(model, table, np.zeros(2), np.ones(2))
    for optimizer, forces in (("lm", False), ("lm", True), ("adamw", False)):
        options = TrainingOptions(optimizer=optimizer, forces=forces)
        task = CommitteeTask(problem, np.arange(2), np.zeros(2, np.int64), options, 1.0)
        start = options.optimizer.start(model.initial(np.random.default_rng(0)), task.workload)
        assert ("damping" in start.numbers) == (several and optimizer == "lm" and not forces)
        np.testing.assert_array_equal(start.parameters, model.initial(np.random.default_rng(0)))


# The split ---------------------------------------------------------------------------------------------------------


def split(data: Dataset, member: int, **options: Any) -> tuple[list[int], list[int]]:
    """Indices of the structures that a member trains on and holds out."""
    species = data.species
    kinds = np.array([species.index(symbol) for structure in data for symbol in structure.symbols], np.int32)
    first = np.concatenate([[0], np.cumsum(data.n_atoms)])
    table = FeatureTable.sort(np.zeros((len(kinds), 1)), kinds, first, len(species))
    model = NetworkModel(1, (), len(species))
    objective = EnergyObjective(model, table, np.zeros(len(data)), np.ones(len(data)))
    settings = TrainingOptions(**options)
    task = CommitteeTask(objective, families(data), strata(data), settings, 1.0)
    fitted, held_out = hold_out(task, np.random.default_rng((settings.seed, member)))
    return fitted.tolist(), held_out.tolist()


def test_the_last_structure_of_a_composition_is_not_held_out() -> None:
    """An isolated atom alone tells the energy of its element."""
    atoms = [Structure((symbol,), np.zeros((1, 3)), energy=0.0) for symbol in ("H", "O")]
    pair = [Structure(("O", "O"), [[0.0, 0, 0], [0, 0, d]], energy=0.0) for d in (1.2, 1.3)]
    data = Dataset([*samples.waters(8), *atoms, *pair])
    for member in range(40):
        fitted, held_out = split(data, member, validation=0.5)
        assert {8, 9} < set(fitted)
        assert {10, 11} & set(fitted)
        assert len(held_out) == 6


def test_sets_without_common_compositions_still_hold_some_out() -> None:
    chains = [samples.chain("H" * n).replace(energy=0.0) for n in range(1, 21)]
    for member in range(10):
        fitted, held_out = split(Dataset(chains), member, validation=0.2)
        assert len(held_out) == 4
        assert 0 in fitted  # a single atom


def two_sets_in_memory() -> tuple[Dataset, list[int]]:
    """Sets that were augmented one by one, with origins that say nothing, and the true parent of every structure."""
    parts = []
    for seed in (1, 2):
        own = Dataset(structure.replace(origin=Origin()) for structure in samples.waters(8, seed=seed))
        parts.append(
            augment(
                own,
                copies=3,
                displacement=0.02,
                kernel="pairs",
                length=5.0,
                energy_noise=1e-8,
                force_noise=1e-8,
            )
        )
    parents = [[*range(8), *np.repeat(range(8), 3)], [*range(8, 16), *np.repeat(range(8, 16), 3)]]
    return parts[0] + parts[1], [int(parent) for part in parents for parent in part]


def file_set() -> tuple[Dataset, list[int]]:
    return taylor_augment(samples.waters(16), copies=3), [*range(16), *np.repeat(range(16), 3).tolist()]


def plain_set() -> tuple[Dataset, list[int]]:
    return Dataset(structure.replace(origin=Origin()) for structure in samples.waters(16)), list(range(16))


@pytest.mark.parametrize("make", [two_sets_in_memory, file_set, plain_set])
def test_copies_and_their_parents_are_held_out_together(make: Any) -> None:
    data, parents = make()
    groups = families(data)
    assert (
        len(set(zip(groups.tolist(), parents, strict=True))) == len(set(parents)) == len(set(groups.tolist()))
    )
    held_sets = set()
    for member in range(6):
        fitted, held_out = split(data, member, validation=0.25)
        assert sorted(fitted + held_out) == list(range(len(data)))
        assert {parents[i] for i in fitted}.isdisjoint(parents[i] for i in held_out)
        assert len({parents[i] for i in held_out}) == 4
        held_sets.add(tuple(held_out))
    assert len(held_sets) > 3  # members differ in what they hold out


def test_copies_that_stand_before_their_parents_join_them() -> None:
    data, parents = file_set()
    order = np.random.default_rng(0).permutation(len(data))
    groups = families(data.select(order))
    assert len(set(zip(groups.tolist(), [parents[i] for i in order], strict=True))) == 16


@pytest.mark.parametrize(
    ("n", "fraction", "held"), [(1, 0.9, 0), (2, 0.9, 1), (3, 0.1, 0), (10, 0.0, 0), (10, 0.999, 9)]
)
def test_something_is_always_left_to_train_on(n: int, fraction: float, held: int) -> None:
    fitted, held_out = split(samples.waters(n), 0, validation=fraction)
    assert (len(fitted), len(held_out)) == (n - held, held)


# From data to potential --------------------------------------------------------------------------------------------


def test_a_network_learns_the_energies_and_their_slopes() -> None:
    data = taylor_augment(samples.waters(30), copies=10, displacement=0.02)
    potential = train(data, WATER, hidden=(6,), iterations=60)
    test = samples.waters(20, seed=5)
    prediction = potential.predict(test)
    assert np.abs(prediction.energy - test.energies).mean() < 0.05 * test.energies.std()
    forces = np.concatenate(test.forces)
    assert np.abs(np.concatenate(prediction.forces) - forces).mean() < 0.1 * np.abs(forces).mean()


def test_molecules_and_crystals_train_together() -> None:
    data = samples.waters(15) + samples.crystals(15)
    potential = train(data, WATER, hidden=(5,), iterations=60, validation=0.0)
    assert np.abs(potential.predict(data).energy - data.energies).mean() < 0.1 * data.energies.std()


@pytest.mark.parametrize("optimizer", ["lm", "adamw"])
def test_one_seed_gives_the_same_bits(optimizer: str) -> None:
    data = samples.waters(12)
    runs = [
        train(data, WATER, optimizer=optimizer, seed=seed, hidden=(4,), iterations=6) for seed in (3, 3, 4)
    ]
    np.testing.assert_array_equal(runs[0].parameters, runs[1].parameters)
    assert not np.array_equal(runs[0].parameters, runs[2].parameters)


@pytest.mark.parametrize("optimizer", ["lm", "adamw"])
def test_number_of_threads_does_not_matter(optimizer: str, monkeypatch: pytest.MonkeyPatch) -> None:
    data = samples.waters(30)

    def compute() -> list[Any]:
        potential = train(data, WATER, optimizer=optimizer, hidden=(4,), iterations=4, workers=1)
        prediction = potential.predict(data)
        return [potential.parameters, prediction.energy, *prediction.forces]

    contracts.assert_threads(compute, monkeypatch)


def test_given_reference_energies_are_kept_up_to_a_constant() -> None:
    """What they leave is put on all atoms alike, so that the networks need not learn it."""
    data = compounds()
    shifted = Dataset(s.replace(energy=s.energy + 0.7 * len(s)) for s in data)
    potential = train(shifted, WATER, reference_energies={"H": -13.6, "O": -430.0}, **QUICK)
    assert potential.reference_energies == pytest.approx({"H": -12.9, "O": -429.3})
    assert_close(potential.predict(shifted).energy, shifted.energies, relative=1e-3)


def test_errors_may_be_weighed_per_atom() -> None:
    """Of two labels that no network can tell apart, that of the larger structure counts less."""
    atom = Structure(("H",), np.zeros((1, 3)), energy=0.0)
    far = Structure(("H", "H"), [[0.0, 0, 0], [50.0, 0, 0]], energy=1.0)
    common = {
        "reference_energies": {"H": 0.0},
        "validation": 0.0,
        "iterations": 40,
        "ridge": 0.0,
        "hidden": (2,),
    }
    for per_atom, weights in ((False, (1.0, 1.0)), (True, (1.0, 0.25))):
        potential = train(Dataset([atom, far]), HYDROGEN, per_atom=per_atom, **common)
        # Minimum of w1 e^2 + w2 (2 e - 1)^2.
        expected = 2 * weights[1] / (weights[0] + 4 * weights[1])
        assert potential.predict([atom]).energy[0] == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("optimizer", ["lm", "adamw"])
@pytest.mark.parametrize("validation", [0.0, 0.1, 0.9])
@pytest.mark.parametrize("n", [1, 2, 3])
def test_tiny_sets(n: int, validation: float, optimizer: str) -> None:
    data = samples.waters(n)
    potential = train(data, WATER, validation=validation, optimizer=optimizer, **SHORT)
    energies = potential.predict(data).energy
    assert np.isfinite(energies).all()
    if n == 1 and optimizer == "lm":
        assert energies[0] == pytest.approx(data[0].energy, abs=0.05)


def test_duplicates_single_atoms_and_atoms_out_of_reach() -> None:
    """Every descriptor component is constant; only the mean can be learnt."""
    atom = Structure(("H",), np.zeros((1, 3)), energy=-3.0)
    far = Structure(("H", "H"), [[0.0, 0, 0], [50.0, 0, 0]], energy=-6.0)
    for data in (Dataset([atom]), Dataset([atom, far]), Dataset([examples.hydrogen(1)[0]] * 4)):
        potential = train(data, HYDROGEN, **QUICK)
        assert_close(potential.predict(data).energy, data.energies, relative=1e-3)
        assert_close(
            np.concatenate(potential.predict(data).forces), np.zeros((data.n_atoms.sum(), 3)), scale=1.0
        )


def test_a_species_that_the_data_lack_is_named(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="gprann"):
        potential = train(examples.hydrogen(7), ChebyshevDescriptor(["C", "H", "O"], radial_order=4), **QUICK)
    assert "the training set has no C, O: the potential will know nothing about it" in caplog.text
    assert "H: 15 of 20 descriptor components are constant and left out" in caplog.text
    caplog.clear()
    assert np.isfinite(potential.predict(examples.hydrogen(3)).energy).all()
    train(examples.hydrogen(60), HYDROGEN, **QUICK)
    assert caplog.text == ""


def test_energies_alone_are_enough() -> None:
    bare = Dataset(structure.replace(forces=None) for structure in examples.hydrogen(5))
    with_forces = train(examples.hydrogen(5), HYDROGEN, **QUICK)
    np.testing.assert_array_equal(train(bare, HYDROGEN, **QUICK).parameters, with_forces.parameters)


def test_provenance_is_plain_and_complete(tmp_path: Path) -> None:
    data = augment(
        samples.waters(18), copies=2, kernel="pairs", length=5.0, energy_noise=1e-8, force_noise=1e-8
    )
    potential = train(data, WATER, members=2, checkpoint=tmp_path, **QUICK)
    record = potential.provenance["training"]
    assert (record["n_structures"], record["n_reference"]) == (len(data), 18)
    assert {**record["options"], "patience": None, "ridge": None, "per_atom": None} == TrainingOptions(
        members=2, optimizer="lm", **QUICK
    ).to_dict()
    assert len(record["history"]) == len(record["ended"]) == len(potential) == 2
    for member, curve in enumerate(record["history"]):
        assert [step[0] for step in curve] == list(range(1, len(curve) + 1))
        held_out = [step[2] for step in curve]
        fitted, unseen = split(data, member)
        own = potential[member].predict(data.select(unseen)).energy
        error = np.sqrt(np.mean((own - data.select(unseen).energies) ** 2))
        assert error == pytest.approx(min(held_out), rel=1e-6)  # in eV, of the parameters that were kept
        assert len(fitted) > len(unseen) > 0
    assert str(tmp_path) not in json.dumps(potential.provenance)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (Dataset(), "the training set is empty"),
        (
            Dataset([samples.waters(1)[0], samples.waters(2)[1].replace(energy=None)]),
            "structure 1: has no energy",
        ),
        (Dataset([samples.chain("CO").replace(energy=0.0)]), "element C is not among the species H, O"),
        (Dataset([Structure(("H", "H"), np.zeros((2, 3)), energy=0.0)]), "atoms 0 and 1 are 0 Å apart"),
    ],
)
def test_unusable_training_sets_are_refused(data: Dataset, message: str) -> None:
    with pytest.raises(DataError, match=message):
        train(data, WATER, **QUICK)


def test_a_list_of_elements_is_no_descriptor() -> None:
    with pytest.raises(ConfigError, match=r"descriptor is \['H'\]; expected a descriptor, for example"):
        train(examples.hydrogen(7), ["H"])  # type: ignore[arg-type]


def test_progress_counts_every_iteration(capfd: pytest.CaptureFixture[str]) -> None:
    potential = train(samples.waters(8), WATER, progress=True, members=2, **QUICK)
    assert isinstance(potential, Potential)
    printed = capfd.readouterr()
    assert "training" in printed.err
    assert "member 1: train" in printed.err
    assert printed.out == ""


@pytest.mark.parametrize("seed", range(4))
def test_isolated_atoms_are_learnt_whatever_is_held_out(seed: int) -> None:
    atoms = [Structure((name,), np.zeros((1, 3)), energy=e) for name, e in (("H", -13.0), ("O", -405.0))]
    bound = [
        structure.replace(energy=float(structure.energy or 0.0) - 440.0) for structure in samples.waters(20)
    ]
    data = Dataset([*bound, *atoms])
    potential = train(data, WATER, hidden=(4,), seed=seed, validation=0.3)
    e0 = potential.reference_energies
    assert e0["H"] - e0["O"] == pytest.approx(392.0)
    assert_close(potential.predict(Dataset(atoms)).energy, np.array([-13.0, -405.0]), relative=1e-4)
