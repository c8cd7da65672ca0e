"""Hyperparameters that the surrogate finds or is given, and difficult training sets."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import contracts
import samples
from contracts import Array, assert_close
from gprann import examples
from gprann.descriptors import ChebyshevDescriptor
from gprann.errors import ConfigError, DataError, FactorisationError
from gprann.structure import Dataset, Structure
from gprann.surrogate import Surrogate, memory_needed, solvers
from gprann.surrogate import surrogate as module

FIXED: dict[str, Any] = {"length": 3.0, "energy_noise": 1e-4, "force_noise": 2e-5}

# Hyperparameters ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rows", [None, 40], ids=["left out one by one", "halves"])
def test_fits_of_one_seed_are_the_same(rows: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also on the path of large sets, whose halves predict each other."""
    if rows is not None:
        for name in ("_LIKELIHOOD_ROWS", "_LEAVE_OUT_ROWS", "_HALF_ROWS", "_HOLD_OUT_ROWS"):
            monkeypatch.setattr(module, name, rows)
    training, query = samples.waters(14), samples.waters(3, seed=4)
    first, second = (Surrogate("pairs", seed=1).fit(training).predict(query) for _ in range(2))
    contracts.assert_same_bits([[p.energy, p.energy_std, *p.forces] for p in (first, second)])
    errors = np.abs(first.energy - query.energies)
    assert errors.max() < 0.1 * np.ptp(query.energies)


@pytest.mark.parametrize("rows", [None, 40], ids=["left out one by one", "halves"])
@pytest.mark.parametrize("name", ["length", "energy_noise", "force_noise"])
def test_given_hyperparameters_are_kept(name: str, rows: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    if rows is not None:
        for limit in ("_LIKELIHOOD_ROWS", "_LEAVE_OUT_ROWS", "_HALF_ROWS", "_HOLD_OUT_ROWS"):
            monkeypatch.setattr(module, limit, rows)
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
    real, failures = solvers.factorise, [2]

    def failing(K: Array, noise: Array) -> Any:
        if len(K) == 4 * 4 and failures[0]:
            failures[0] -= 1
            raise FactorisationError("singular", 3)
        return real(K, noise)

    # The search for hyperparameters factorises through its own module, and is not disturbed.
    monkeypatch.setattr(solvers, "factorise", failing)
    raised = Surrogate("pairs", **options).fit(data).hyperparameters
    assert caplog.text.count("singular in double precision") == 2
    for name in ("energy_noise", "force_noise"):
        before = getattr(expected, name) / expected.amplitude
        after = getattr(raised, name) / raised.amplitude
        assert after == pytest.approx(before * (1 if name in given else 10))  # variances a hundredfold


def test_noise_does_not_rise_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(K: Array, noise: Array) -> Any:
        raise FactorisationError("singular", 3)

    monkeypatch.setattr(solvers, "factorise", failing)
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
            "composition HO2 differs from H2O",
        ),
    ],
)
def test_unusable_training_sets_are_refused(kernel: str, change: Any, message: str) -> None:
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


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kernel": "atms"}, "kernel = 'atms': did you mean 'atoms'"),
        (
            {"kernel": "pairs", "descriptor": ChebyshevDescriptor(["H", "O"])},
            "a descriptor belongs to the kernel 'atoms', not to 'pairs'",
        ),
        ({"length": 0.0}, "length = 0.0: expected a positive number"),
        ({"energy_noise": -1.0}, "energy_noise = -1.0"),
        ({"force_noise": np.inf}, "force_noise = inf"),
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


def test_provenance_is_plain_data() -> None:
    surrogate = Surrogate("pairs", **FIXED).fit(samples.waters(4))
    values = surrogate.hyperparameters
    assert surrogate.to_dict() == {
        "kernel": "pairs",
        "length": 3.0,
        "amplitude": values.amplitude,
        "energy_noise": values.energy_noise,
        "force_noise": values.force_noise,
        "n_structures": 4,
        "solver": "cholesky",
        "solver_reason": surrogate.to_dict()["solver_reason"],
    }
    assert "the covariance matrix of 40 observations takes" in surrogate.to_dict()["solver_reason"]
    assert all(type(value) in (str, float, int) for value in surrogate.to_dict().values())


def test_memory_is_that_of_the_matrix_and_the_jacobians() -> None:
    data = samples.waters(50)
    assert memory_needed(data) == pytest.approx(8 * (500**2 + 50 * 3 * 36 * 9) / 2**30)
