"""Hyperparameters that the surrogate finds or is given, and difficult training sets."""

from __future__ import annotations

import dataclasses
import itertools
import json
import logging
from typing import Any

import numpy as np
import pytest

import contracts
import samples
from contracts import Array, assert_close
from gprann import examples
from gprann.data.structure import Dataset, Structure
from gprann.descriptors import ChebyshevDescriptor
from gprann.errors import ConfigError, DataError, FactorisationError
from gprann.surrogate import Surrogate, memory_needed
from gprann.surrogate.hyperparameters import search
from gprann.surrogate.hyperparameters.criteria import Trial, log_marginal_likelihood, scan
from gprann.surrogate.hyperparameters.length_scales import length_factors
from gprann.surrogate.hyperparameters.search import Grid
from gprann.surrogate.kernels.atoms import AtomsKernel
from gprann.surrogate.kernels.internal_coordinates import internal_directions
from gprann.surrogate.observations import observe
from gprann.surrogate.solvers import cholesky

FIXED: dict[str, Any] = {"length": 3.0, "energy_noise": 1e-4, "force_noise": 2e-5}

LIMITS = ("SMALL_ROWS", "LEAVE_OUT_ROWS", "HALF_ROWS", "HOLD_OUT_ROWS")

# Hyperparameters ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rows", [None, 40], ids=["held out one by one", "halves"])
def test_fits_of_one_seed_are_the_same(rows: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also on the path of large sets, whose halves predict each other."""
    if rows is not None:
        for limit in LIMITS:
            monkeypatch.setattr(search, limit, rows)
    training, query = samples.waters(14), samples.waters(3, seed=4)
    first, second = (Surrogate("pairs", seed=1).fit(training).predict(query) for _ in range(2))
    contracts.assert_same_bits([[p.energy, p.energy_std, *p.forces] for p in (first, second)])
    errors = np.abs(first.energy - query.energies)
    assert errors.max() < 0.1 * np.ptp(query.energies)


@pytest.mark.parametrize("rows", [None, 40], ids=["held out one by one", "halves"])
@pytest.mark.parametrize("name", ["length", "energy_noise", "force_noise"])
def test_given_hyperparameters_are_kept(name: str, rows: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    if rows is not None:
        for limit in LIMITS:
            monkeypatch.setattr(search, limit, rows)
    value = {"length": 3.21, "energy_noise": 3e-5, "force_noise": 3e-5}[name]
    training = samples.waters(14)
    found = Surrogate("pairs", **{name: value}).fit(training)
    complete = dict(FIXED, length=found.hyperparameters.length) | {name: value}
    same = Surrogate("pairs", **complete).fit(training).hyperparameters
    if name == "length":
        assert found.hyperparameters.length == value
    else:  # relative to the amplitude, noises depend on the length and the given value alone
        ratio = getattr(found.hyperparameters, name) / found.hyperparameters.amplitude
        assert ratio == pytest.approx(getattr(same, name) / same.amplitude)


@pytest.mark.parametrize("method", search.SEARCHES)
def test_every_way_to_hyperparameters_predicts(method: search.SearchName) -> None:
    training, query = samples.waters(14), samples.waters(10, seed=4)
    surrogate = Surrogate(hyperparameters=method).fit(training)
    errors = np.abs(surrogate.predict(query).energy - query.energies)
    assert errors.mean() < 0.02 * np.std(query.energies)
    given = Surrogate(hyperparameters=method, length=3.21).fit(training)
    assert given.hyperparameters.length == 3.21


def test_ways_to_hyperparameters_are_what_they_say() -> None:
    data = samples.waters(14)
    found = {m: Surrogate("pairs", hyperparameters=m).fit(data) for m in search.SEARCHES}
    assert found["grid"].hyperparameters.length in Grid().length
    likely = found["likelihood"]
    fingerprint = likely.fingerprint
    problem, _, _ = observe(fingerprint, data, data.energies.mean())
    best = likely._require_fit().settings
    top = log_marginal_likelihood([problem], best, fingerprint.spread)[0]
    for stretch in (0.7, 1.4):
        other = dataclasses.replace(best, length=best.length * stretch)
        assert log_marginal_likelihood([problem], other, fingerprint.spread)[0] < top
    scores = {
        m: scan(problem, [one._require_fit().settings], fingerprint.spread)[0].score
        for m, one in found.items()
    }
    assert scores["leave_one_out"] <= scores["likelihood"] + 1e-9
    assert scores["leave_one_out"] == pytest.approx(scores["held_out"])  # of so few structures the same


def test_folds_are_left_out_together() -> None:
    """The settings found are better than the others by that measure, and found on as many folds as there can be."""
    shuffled = samples.waters(14).select(np.random.default_rng(0).permutation(14))
    found = {
        m: Surrogate("pairs", hyperparameters=m).fit(samples.waters(14)) for m in ("k_fold", "likelihood")
    }
    fingerprint = found["k_fold"].fingerprint
    problem, _, _ = observe(fingerprint, shuffled, shuffled.energies.mean())
    best, start = (
        scan(problem, [found[m]._require_fit().settings], fingerprint.spread, [0, 2, 5, 8, 11]) for m in found
    )
    assert best[0].score < start[0].score
    assert search.folds(14) == [0, 2, 5, 8, 11]
    assert search.folds(3) == [0, 1, 2]


def test_the_best_point_of_a_grid_is_taken() -> None:
    data = samples.waters(10)
    grid = {"length": [3.0, 1.0, 6.0], "energy_noise": [1e-3, 1e-5], "force_noise": (1e-4, 1e-6, 1e-8)}
    surrogate = Surrogate("pairs", hyperparameters="grid", grid=grid).fit(data)
    fingerprint = surrogate.fingerprint
    problem, _, _ = observe(fingerprint, data, data.energies.mean())
    points = [Trial(*point) for point in itertools.product(*grid.values())]
    best = min(scan(problem, points, fingerprint.spread), key=lambda result: result.score)
    assert surrogate._require_fit().settings == best.settings
    given = Surrogate("pairs", length=2.5, hyperparameters="grid", grid={"force_noise": [1e-5]}).fit(data)
    settings = given._require_fit().settings
    assert (settings.length, settings.force_noise) == (2.5, 1e-5)
    assert settings.energy_noise in (1e-10, 1e-8, 1e-6, 1e-4)


def test_points_of_a_grid() -> None:
    assert {(point.energy_noise, point.force_noise) for point in Grid().points()} == {
        (noise, noise) for noise in (1e-10, 1e-8, 1e-6, 1e-4)
    }
    grid = Grid(length=[8, 4], energy_noise=[1e-6, 1e-7])
    assert grid.points((None, None, 1e-5)) == [
        Trial(length, noise, 1e-5) for length in (8.0, 4.0) for noise in (1e-6, 1e-7)
    ]


# Lengths of species and components ---------------------------------------------------------------------------------


def test_lengths_of_species_scale_their_distances() -> None:
    data, query = samples.waters(6), samples.waters(3, seed=4)
    plain = Surrogate(**FIXED).fit(data)
    both = Surrogate(**{**FIXED, "length": 1.5}, species_lengths={"H": 2.0, "O": 2.0}).fit(data)
    assert_close(both.predict(query).energy, plain.predict(query).energy, relative=1e-9)
    longer = Surrogate(**FIXED, species_lengths={"H": 2.0}).fit(data)
    before, after = (s.fingerprint.rows(data) for s in (plain, longer))
    factor = np.where(before.kinds() == 0, 2.0, 1.0)  # H, O
    assert_close(after.features * factor[:, None], before.features)
    assert plain.fingerprint.spread == longer.fingerprint.spread


def drawn_from_the_process(data: Dataset, factors: dict[str, float]) -> Dataset:
    """The structures with energies and forces of a Gaussian process with lengths of species."""
    fingerprint = AtomsKernel(
        species_lengths=factors, descriptor=ChebyshevDescriptor.for_kernel(("H", "O"))
    ).fingerprint()
    fingerprint.fit(data)
    problem, _, _ = observe(fingerprint, data, 0.0)
    K = np.tril(problem.covariance(4.0 * fingerprint.spread))
    K += np.tril(K, -1).T + np.diag(1e-8 * np.diagonal(K))
    drawn = np.linalg.cholesky(K) @ np.random.default_rng(8).normal(size=len(K))
    labelled = []
    for structure, begin, end in zip(data, problem.first[:-1], problem.first[1:], strict=True):
        forces = -internal_directions(structure, "rotation") @ drawn[begin + 1 : end]
        labelled.append(structure.replace(energy=drawn[begin], forces=forces.reshape(-1, 3)))
    return Dataset(labelled)


@pytest.mark.parametrize("length", [None, 4.0])
def test_lengths_of_species_are_found(length: float | None, caplog: pytest.LogCaptureFixture) -> None:
    """Those from which the labels were drawn, and with them other structures are predicted better."""
    true = {"H": 0.5, "O": 2.0}
    data = drawn_from_the_process(samples.crystals(100, size=0.3), true)
    training, query = data[:40], data[40:]
    options: dict[str, Any] = {
        "hyperparameters": "likelihood",
        "length": length,
        "descriptor": ChebyshevDescriptor.for_kernel(("H", "O")),
    }
    with caplog.at_level(logging.INFO, "gprann"):
        found = Surrogate(species_lengths="likelihood", **options).fit(training)
    factors = found.to_dict()["species_lengths"]
    assert factors["H"] * factors["O"] == pytest.approx(1.0)
    assert found.hyperparameters.length * factors["H"] == pytest.approx(2.0, rel=0.2)
    assert factors["O"] > 2 * factors["H"]  # long lengths are known less well
    assert "likelihood: lengths of species H 2." in caplog.text
    if length is not None:
        assert found.hyperparameters.length == length
    equal = Surrogate(**options).fit(training)
    forces = np.concatenate(query.forces)
    errors = [np.abs(np.concatenate(s.predict(query).forces) - forces).mean() for s in (found, equal)]
    assert errors[0] < 0.85 * errors[1]
    again = found.fit(training).to_dict()["species_lengths"]
    assert again == factors
    given = Surrogate(species_lengths=factors, **options).fit(training)
    assert given.to_dict()["species_lengths"] == factors
    assert given.hyperparameters.length == pytest.approx(found.hyperparameters.length, rel=0.02)


@pytest.mark.parametrize(
    "data", [samples.waters(1), Dataset([samples.labelled(samples.chain("HHH", bond=b)) for b in (0.9, 1.0)])]
)
def test_where_no_lengths_of_species_can_be_found_they_are_equal(data: Dataset) -> None:
    found = Surrogate(species_lengths="likelihood").fit(data)
    assert "species_lengths" not in found.to_dict()
    contracts.assert_same_bits([[found.predict(data).energy], [Surrogate().fit(data).predict(data).energy]])


def test_forces_with_lengths_of_species_are_derivatives(rng: np.random.Generator) -> None:
    options: dict[str, Any] = {"species_lengths": {"H": 0.6}, "relevance": True, "radial": "matern52"}
    surrogate = Surrogate(**FIXED, **options).fit(samples.waters(6))

    def observe(structure: Structure) -> contracts.Observed:
        found = surrogate.predict(Dataset([structure]))
        return contracts.Observed(float(found.energy[0]), np.zeros(3), -found.forces[0])

    contracts.assert_gradient(observe, samples.waters(1, seed=9)[0], rng)


def test_relevant_components_keep_their_lengths() -> None:
    slopes = np.array([[4.0, 1.0, 0.0], [4.0, -1.0, 0.0], [0.0, 0.0, 0.0]])
    factors = length_factors(slopes, np.array([0, 0, 1]), 3)
    np.testing.assert_allclose(factors, [[1, 2, 10], [1, 1, 1], [1, 1, 1]])
    training, query = samples.waters(12), samples.waters(20, seed=7)
    plain, weighed = (Surrogate(relevance=on, seed=3).fit(training) for on in (False, True))
    ratio = weighed.fingerprint._scale / plain.fingerprint._scale
    assert ratio.min(axis=1) == pytest.approx(1.0)
    assert ratio.max() > 1.5
    errors = np.abs(weighed.predict(query).energy - query.energies)
    assert errors.mean() < 0.01 * np.std(query.energies)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(5)


def test_a_singular_matrix_is_refused_if_all_is_given() -> None:
    strict = Surrogate(length=40.0, energy_noise=1e-16, force_noise=1e-16)
    with pytest.raises(
        FactorisationError, match=r"not positive definite at row .*raise force_noise"
    ) as caught:
        strict.fit(examples.hydrogen(12))
    assert 0 <= caught.value.row < 24


@pytest.mark.parametrize("given", [{}, {"energy_noise": 1e-9}, {"force_noise": 1e-9}])
def test_noise_that_is_not_given_rises_until_the_matrix_can_be_factorised(
    given: dict[str, float], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    data = samples.waters(4)
    options = {"length": 5.0, **given}
    expected = Surrogate("pairs", **options).fit(data).hyperparameters
    real, failures = cholesky.factorise, [2]

    def failing(K: Array, noise: Array) -> Any:
        if len(K) == 4 * 4 and failures[0]:
            failures[0] -= 1
            raise FactorisationError("singular", 3)
        return real(K, noise)

    # The search for hyperparameters factorises through its own module, and is not disturbed.
    monkeypatch.setattr(cholesky, "factorise", failing)
    raised = Surrogate("pairs", **options).fit(data).hyperparameters
    assert caplog.text.count("singular in double precision") == 2
    for name in ("energy_noise", "force_noise"):
        before = getattr(expected, name) / expected.amplitude
        after = getattr(raised, name) / raised.amplitude
        assert after == pytest.approx(before * (1 if name in given else 3))  # variances ninefold


def test_noise_does_not_rise_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(K: Array, noise: Array) -> Any:
        raise FactorisationError("singular", 3)

    monkeypatch.setattr(cholesky, "factorise", failing)
    for given in ({}, {"energy_noise": 1e-9}, {"force_noise": 1e-9}):
        with pytest.raises(FactorisationError):
            Surrogate("pairs", length=5.0, **given).fit(samples.waters(4))


# Difficult training sets -------------------------------------------------------------------------------------------

KERNELS = ("atoms", "pairs", "cartesian")


def hydrogen_molecule(bond: float, energy: float, force: float = 0.0) -> Structure:
    forces = np.array([[0.0, 0, -force], [0, 0, force]])
    return Structure(("H", "H"), [[0.0, 0, 0], [0, 0, bond]], energy=energy, forces=forces)


@pytest.mark.parametrize("kernel", KERNELS)
def test_few_structures(kernel: str) -> None:
    data = examples.hydrogen(7)
    for n in (1, 2, 3):
        training = data[2 : 2 + n]
        prediction = Surrogate(kernel).fit(training).predict(data)
        assert_close(prediction.energy[2 : 2 + n], training.energies, relative=0.05)
        assert_close(np.array(prediction.forces)[2 : 2 + n], np.array(training.forces), relative=0.05)
        assert np.isfinite(prediction.energy).all()
        assert np.isfinite(prediction.energy_std).all()


@pytest.mark.parametrize("kernel", KERNELS)
def test_duplicates(kernel: str) -> None:
    data = examples.hydrogen(7)
    prediction = Surrogate(kernel).fit(data + data + data[:3]).predict(data)
    assert_close(prediction.energy, data.energies, relative=1e-3)
    same = Surrogate(kernel).fit(Dataset([data[3]] * 4)).predict(data[3:4])
    assert same.energy[0] == pytest.approx(data[3].energy, abs=1e-6)


@pytest.mark.parametrize("kernel", KERNELS)
def test_labels_that_contradict_each_other_are_averaged(kernel: str) -> None:
    data = Dataset(hydrogen_molecule(1.0, energy) for energy in (0.0, 1.0, 2.0))
    prediction = Surrogate(kernel).fit(data).predict(data[:1])
    assert prediction.energy[0] == pytest.approx(1.0, abs=1e-3)


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("n", [1, 4])
def test_energies_all_equal(kernel: str, n: int) -> None:
    flat = Dataset(hydrogen_molecule(1.0 + 0.1 * k, -3.0) for k in range(n))
    prediction = Surrogate(kernel).fit(flat).predict(examples.hydrogen(3), forces_std=True)
    assert_close(prediction.energy, np.full(3, -3.0))
    assert_close(np.array(prediction.forces), np.zeros((3, 2, 3)))
    assert np.isfinite(prediction.energy_std).all()
    equal = Dataset(structure.replace(energy=-3.0) for structure in samples.waters(5))
    assert np.isfinite(Surrogate(kernel).fit(equal).predict(samples.waters(2)).energy).all()


@pytest.mark.parametrize("kernel", ["atoms", "cartesian"])
def test_single_atoms(kernel: str) -> None:
    atom = Structure(("H",), np.zeros((1, 3)), energy=-1.0, forces=np.zeros((1, 3)))
    for data in (Dataset([atom]), Dataset([atom, atom.replace(positions=np.ones((1, 3)))])):
        prediction = Surrogate(kernel).fit(data).predict(data[:1], forces_std=True)
        assert prediction.energy[0] == pytest.approx(-1.0)
        np.testing.assert_array_equal(prediction.forces[0], np.zeros((1, 3)))
        np.testing.assert_array_equal(prediction.forces_std[0], np.zeros((1, 3)))


@pytest.mark.parametrize("kernel", KERNELS)
def test_atoms_that_do_not_feel_each_other(kernel: str) -> None:
    """Beyond every cutoff the features do not vary, and gradients have no covariance at all."""
    data = Dataset(hydrogen_molecule(8.0 + k, 0.1 * k) for k in range(3))
    prediction = Surrogate(kernel).fit(data).predict(data)
    assert np.abs(prediction.energy - 0.1).max() < 0.2


@pytest.mark.parametrize("kernel", KERNELS)
def test_a_linear_molecule(kernel: str) -> None:
    data = Dataset(samples.labelled(samples.chain("OHO", bond=bond)) for bond in (1.0, 1.05, 1.1, 1.2))
    prediction = Surrogate(kernel).fit(data).predict(data, forces_std=True)
    assert_close(prediction.energy, data.energies, relative=1e-3)
    assert_close(np.array(prediction.forces), np.array(data.forces), relative=1e-2)


# Errors ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda data: data[:0], "training set of the surrogate is empty"),
        (
            lambda data: [*data[:1], data[1].replace(forces=None)],
            "structure 1: has no forces, which the surrogate needs",
        ),
        (
            lambda data: [*data[:1], data[1].replace(energy=None)],
            "structure 1: has no energy, which the surrogate needs",
        ),
        (
            lambda data: [*data[:1], samples.labelled(samples.chain("OHO"))],
            "composition HO2 differs from H2O.*this kernel compares whole structures",
        ),
    ],
)
def test_unusable_training_sets_are_refused(kernel: str, change: Any, message: str) -> None:
    if kernel == "atoms" and "composition" in message:
        pytest.skip("a sum over atoms compares any structures")
    with pytest.raises(DataError, match=message):
        Surrogate(kernel).fit(Dataset(change(samples.waters(3))))


@pytest.mark.parametrize("kernel", KERNELS)
def test_structures_of_another_composition_are_refused(kernel: str) -> None:
    surrogate = Surrogate(kernel, **FIXED).fit(samples.waters(2))
    with pytest.raises(DataError, match="composition HO2 is not that of the surrogate's training set, H2O"):
        surrogate.predict(Dataset([samples.chain("OHO")]))


@pytest.mark.parametrize("kernel", ["pairs", "cartesian"])
def test_another_order_of_atoms_is_refused(kernel: str) -> None:
    swapped = contracts.reordered(samples.waters(1)[0], np.array([2, 0, 1]))
    surrogate = Surrogate(kernel, **FIXED).fit(samples.waters(2))
    with pytest.raises(DataError, match="atom 0 is H, expected O"):
        surrogate.predict(Dataset([swapped]))


def on_grid(**values: Any) -> dict[str, Any]:
    return {"hyperparameters": "grid", "grid": values}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kernel": "atms"}, "kernel = 'atms': did you mean 'atoms'"),
        (
            {"kernel": "pairs", "descriptor": ChebyshevDescriptor(["H", "O"])},
            "descriptor belongs to kernel = 'atoms' or 'auto', not to 'pairs'",
        ),
        ({"radial": "matern"}, "radial = 'matern': did you mean 'matern52'"),
        ({"hyperparameters": "likelyhood"}, "hyperparameters = 'likelyhood': did you mean 'likelihood'"),
        ({"grid": {"length": [2.0]}}, "grid belongs to hyperparameters = 'grid', not to 'held_out'"),
        ({"species_lengths": "likely"}, 'expected "likelihood" or a table of factors, .*, got .likely'),
        (
            {"kernel": "pairs", "species_lengths": "likelihood"},
            "species_lengths belongs to kernel = 'atoms' or 'auto', not to 'pairs'",
        ),
        (on_grid(lenght=[2.0]), "grid.lenght: unknown key; did you mean 'length'"),
        (on_grid(length=[]), r"grid.length: expected at least one entry"),
        (on_grid(length=2.0), "grid.length: expected a list, got 2.0"),
        (on_grid(force_noise=[1e-8, -1.0]), r"grid.force_noise\[1\] = -1.0: expected a positive number"),
        (on_grid(force_noise=[1e-8, True]), r"grid.force_noise\[1\]: expected a number, got true"),
        (on_grid(force_noise="1"), "grid.force_noise: expected a list"),
        (on_grid(length=[4.0]) | {"length": 3.0}, "grid: length is given already, as 3.0"),
        ({"species_lengths": {"H": -1.0}}, "species_lengths: H = -1.0: expected a positive number"),
        (
            {"kernel": "pairs", "relevance": True},
            "relevance belongs to kernel = 'atoms' or 'auto', not to 'pairs'",
        ),
        ({"length": 0.0}, "length = 0.0: expected a positive number"),
        ({"energy_noise": -1.0}, "energy_noise = -1.0"),
        ({"force_noise": np.inf}, "force_noise: expected a finite number, got inf"),
        ({"kernel": "pairs", "exponent": 0.0}, "exponent = 0.0"),
    ],
)
def test_impossible_options_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Surrogate(**options)


def test_what_needs_a_fit_says_so() -> None:
    surrogate = Surrogate()
    for use in (
        lambda: surrogate.predict(samples.waters(1)),
        lambda: surrogate.hyperparameters,
        surrogate.to_dict,
    ):
        with pytest.raises(ConfigError, match=r"call fit\(data\) first"):
            use()


def test_a_surrogate_can_be_fitted_again_and_a_failed_fit_leaves_nothing_behind() -> None:
    surrogate = Surrogate().fit(samples.waters(4))
    oxygen = Dataset(samples.labelled(samples.chain("OO", bond=bond)) for bond in (1.3, 1.4, 1.5))
    again = surrogate.fit(oxygen).predict(oxygen)
    contracts.assert_same_bits([[again.energy], [Surrogate().fit(oxygen).predict(oxygen).energy]])
    strict = Surrogate(length=40.0, energy_noise=1e-16, force_noise=1e-16).fit(examples.hydrogen(1))
    with pytest.raises(FactorisationError):
        strict.fit(examples.hydrogen(12))
    with pytest.raises(ConfigError, match="not been fitted"):
        strict.predict(examples.hydrogen(1))


def test_lengths_of_unknown_species_are_refused() -> None:
    with pytest.raises(ConfigError, match="species_lengths: He: did you mean 'H'"):
        Surrogate(species_lengths={"He": 2.0}).fit(samples.waters(2))


def test_provenance_is_plain_data() -> None:
    surrogate = Surrogate("pairs", **FIXED).fit(samples.waters(4))
    values = surrogate.hyperparameters
    assert surrogate.to_dict() == {
        "kernel": "pairs",
        "radial": "squared_exponential",
        "stress": False,
        "length": 3.0,
        "amplitude": values.amplitude,
        "energy_noise": values.energy_noise,
        "force_noise": values.force_noise,
        "calibration": {
            "energy": 1.0,
            "force": 1.0,
            "n_structures": 0,
            "converged": True,
            "energy_error": None,
            "force_error": None,
        },
        "n_structures": 4,
        "solver": "cholesky",
        "solver_reason": surrogate.to_dict()["solver_reason"],
    }
    assert json.loads(json.dumps(surrogate.to_dict())) == surrogate.to_dict()


def test_memory_is_that_of_the_matrix_and_the_jacobians() -> None:
    data = samples.waters(50)
    assert memory_needed(data) == pytest.approx(8 * (500**2 + 50 * 3 * 400 * 9) / 2**30)


def test_a_grid_without_a_point_that_can_be_factorised_is_refused() -> None:
    grid = {"length": [1e6], "energy_noise": [1e-20], "force_noise": [1e-20]}
    with pytest.raises(FactorisationError, match="grid: at none of the 1 points is the covariance matrix"):
        Surrogate(hyperparameters="grid", grid=grid).fit(samples.waters(6))


def test_all_solvers_have_one_unit_of_the_noises_without_gradients() -> None:
    """Atoms beyond the cutoff of each other, which the kernel takes for alone."""
    apart = Dataset(
        Structure(("H", "H"), [[0, 0, 0], [0, 0, 20.0 + k]], energy=float(k), forces=np.zeros((2, 3)))
        for k in range(4)
    )
    options: dict[str, Any] = {"length": 5.0, "energy_noise": 1e-6, "force_noise": 1e-6}
    noises = [
        Surrogate(**options, solver=solver).fit(apart)._require_fit().solution.noise
        for solver in ("cholesky", "conjugate_gradient", "inducing")
    ]
    np.testing.assert_allclose(noises[1:], [noises[0]] * 2)
