"""A baseline is added back wherever predictions are used.

A model of data with a baseline is a model of what the baseline leaves, with the baseline added: so are its errors, its
choices, its copies and its forces. The baseline here is large, so that no place can forget it unnoticed.
"""

from pathlib import Path
from typing import Any

import ase
import numpy as np
import pytest
from ase.calculators.emt import EMT
from ase.constraints import FixAtoms

import gprann
from gprann.augmentation import surrogate_hessian
from gprann.config import load_config
from gprann.pipeline.comparison import compare

BASELINE = gprann.Coulomb(charges={"H": 0.9})  # 6 to 12 eV
NETWORK: dict[str, Any] = {"hidden": (4,), "iterations": 5, "starts": 1, "progress": False}


@pytest.fixture(scope="module")
def data() -> gprann.Dataset:
    return gprann.examples.hydrogen(12)


@pytest.fixture(scope="module")
def left(data: gprann.Dataset) -> gprann.Dataset:
    return BASELINE.subtract(data)


@pytest.fixture(scope="module")
def whole(data: gprann.Dataset) -> gprann.Surrogate:
    return gprann.Surrogate(kernel="pairs", baseline=BASELINE, bound="off").fit(data)


@pytest.fixture(scope="module")
def rest(left: gprann.Dataset) -> gprann.Surrogate:
    return gprann.Surrogate(kernel="pairs").fit(left)


@pytest.fixture(scope="module")
def test() -> gprann.Dataset:
    return gprann.examples.hydrogen(9, 0.63, 1.4)


def assert_added(found: Any, expected: Any, data: gprann.Dataset, scale: float = 1.0) -> None:
    """Compare predictions with those of what is left, and the baseline."""
    part = BASELINE.evaluate(data)
    np.testing.assert_allclose(found.energy, expected.energy + part.energy, atol=1e-7 * scale)
    for k in range(len(data)):
        np.testing.assert_allclose(found.forces[k], expected.forces[k] + part.forces[k], atol=1e-6 * scale)


def potentials(data: gprann.Dataset, left: gprann.Dataset) -> tuple[gprann.Potential, gprann.Potential]:
    descriptor = gprann.ChebyshevDescriptor(["H"], angular_order=None)
    options = {**NETWORK, "forces": True, "members": 2}
    return (
        gprann.train(data, descriptor, baseline=BASELINE, **options),
        gprann.train(left, descriptor, **options),
    )


def test_predictions(
    whole: gprann.Surrogate, rest: gprann.Surrogate, data: gprann.Dataset, left: gprann.Dataset
) -> None:
    assert_added(whole.predict(data), rest.predict(left), data)
    sets = [
        gprann.fit_surrogates(given, kernel="pairs", bound="off", baseline=baseline, max_subset=6)
        for given, baseline in ((data, BASELINE), (left, None))
    ]
    assert_added(sets[0].predict(data), sets[1].predict(left), data)
    trained = potentials(data, left)
    assert_added(trained[0].predict(data), trained[1].predict(left), data)


def test_calculators(
    whole: gprann.Surrogate, data: gprann.Dataset, left: gprann.Dataset, test: gprann.Dataset
) -> None:
    potential, _ = potentials(data, left)
    for model, calculator in (
        (whole, gprann.SurrogateCalculator(whole)),
        (potential, gprann.Calculator(potential)),
    ):
        expected = model.predict(test)
        for k, structure in enumerate(test):
            atoms = structure.to_ase()
            atoms.calc = calculator
            assert atoms.get_potential_energy() == pytest.approx(expected.energy[k])
            np.testing.assert_allclose(atoms.get_forces(), expected.forces[k], atol=1e-9)


def test_calculators_hand_charges_on(data: gprann.Dataset) -> None:
    """Charges of atoms, and what else a baseline needs of them."""
    rng = np.random.default_rng(0)
    columns = rng.uniform(-0.5, 0.5, (len(data), 2))
    charged = gprann.Dataset(
        structure.replace(arrays={"initial_charges": own})
        for structure, own in zip(data, columns, strict=True)
    )
    baseline = gprann.Coulomb(charges="initial_charges")
    surrogate = gprann.Surrogate(kernel="pairs", baseline=baseline).fit(charged)
    descriptor = gprann.ChebyshevDescriptor(["H"], angular_order=None)
    potential = gprann.train(charged, descriptor, baseline=baseline, **NETWORK)
    for model, calculator in (
        (surrogate, gprann.SurrogateCalculator(surrogate)),
        (potential, gprann.Calculator(potential)),
    ):
        for k in (0, 5):
            atoms = charged[k].to_ase()
            atoms.calc = calculator
            assert atoms.get_potential_energy() == pytest.approx(float(model.predict(charged).energy[k]))


def test_evaluate(
    whole: gprann.Surrogate, rest: gprann.Surrogate, data: gprann.Dataset, test: gprann.Dataset
) -> None:
    pairs = [(whole, rest), potentials(data, BASELINE.subtract(data))]
    for own, other in pairs:
        found, expected = gprann.evaluate(own, test), gprann.evaluate(other, BASELINE.subtract(test))
        assert found.energy_mae == pytest.approx(expected.energy_mae, rel=1e-4)
        assert found.force_mae == pytest.approx(expected.force_mae, rel=1e-4)


def test_select(
    whole: gprann.Surrogate, rest: gprann.Surrogate, data: gprann.Dataset, left: gprann.Dataset
) -> None:
    candidates = gprann.examples.hydrogen(30, 0.4, 3.0)
    for own, other in ((whole, rest), potentials(data, left)):
        found, expected = (gprann.select(candidates, model, 4) for model in (own, other))
        assert np.array_equal(found.indices, expected.indices)
        np.testing.assert_allclose(found.std, expected.std, rtol=1e-4)


@pytest.mark.parametrize("policy", ["gaussian", "normal_modes", "mixture"])
def test_augment(whole: gprann.Surrogate, rest: gprann.Surrogate, data: gprann.Dataset, policy: str) -> None:
    made = gprann.augment(data, whole, copies=3, policy=policy, forces=True, seed=1, progress=False)
    copies = made[len(data) :]
    assert len(copies) > 10
    part, predicted = BASELINE.evaluate(copies), rest.predict(copies)
    np.testing.assert_allclose(copies.energies, predicted.energy + part.energy, atol=1e-6)
    for k, copy in enumerate(copies):
        np.testing.assert_allclose(copy.forces, predicted.forces[k] + part.forces[k], atol=1e-5)


def test_taylor_copies(whole: gprann.Surrogate, rest: gprann.Surrogate, data: gprann.Dataset) -> None:
    """Their Hessians are those of surrogate and baseline together."""
    for structure in data[3:5]:
        own = gprann.HessianRows.of(
            structure, BASELINE, [0, 1, 0, 1, 0, 1], directions=np.eye(3)[[0, 0, 1, 1, 2, 2]]
        )
        order = [0, 2, 4, 1, 3, 5]
        part = own.rows[order].reshape(6, 6)
        found, expected = surrogate_hessian(whole, structure), surrogate_hessian(rest, structure)
        np.testing.assert_allclose(found, expected + part, atol=0.02 * np.abs(part).max())
        assert np.abs(part).max() > 5.0
    options: dict[str, Any] = {"copies": 2, "seed": 1}
    hessians = [surrogate_hessian(whole, structure) for structure in data]
    found = gprann.taylor_augment(data, hessians=whole, **options)
    expected = gprann.taylor_augment(data, hessians=hessians, **options)
    np.testing.assert_array_equal(found.energies, expected.energies)


def test_relax_and_neb() -> None:
    """Minima and barriers are those of the reference, whatever is subtracted on the way."""
    grid = [[2.55 * i, 2.55 * j, 0.0] for i in range(3) for j in range(2)]
    baseline = gprann.Coulomb(charges={"Cu": -0.2, "Au": 1.0})
    found: dict[bool, list[Any]] = {False: [], True: []}
    for x in (1.2, 3.9):  # an atom over four others, and over the next four
        start = ase.Atoms("Cu6Au", [*grid, [x, 1.3, 1.8]], constraint=FixAtoms(range(6)))
        for own, results in found.items():
            results.append(
                gprann.relax(start, EMT(), fmax=0.02, kernel="pairs", baseline=baseline if own else None)
            )
    for plain, own in zip(*found.values(), strict=True):
        assert own.converged
        assert own.energy == pytest.approx(plain.energy, abs=1e-3)
    ends = [result.atoms for result in found[True]]
    paths = [gprann.neb(*ends, EMT(), images=3, kernel="pairs", baseline=given) for given in (None, baseline)]
    assert paths[1].converged
    assert paths[1].barrier > 0.1
    assert paths[1].barrier == pytest.approx(paths[0].barrier, abs=0.01)


CONFIG = """
data.train = "{name}.extxyz"
data.test = "{name}_test.extxyz"
output.folder = "{name}_results"
output.plots = false
descriptor.angular_order = "none"
[surrogate]
kernel = "pairs"
bound = "off"
[augmentation]
copies = 2
[training]
hidden = [4]
iterations = 5
starts = 1
"""


def test_runs_comparisons_and_their_reports(
    tmp_path: Path, data: gprann.Dataset, test: gprann.Dataset
) -> None:
    """Errors are those of a run on what the baseline leaves."""
    own = '[baseline]\nkind = "coulomb"\ncharges = {H = 0.9}\n'
    results, methods = [], []
    for name, train, tests, extra in (
        ("whole", data, test, own),
        ("rest", BASELINE.subtract(data), BASELINE.subtract(test), ""),
    ):
        gprann.write(tmp_path / f"{name}.extxyz", train)
        gprann.write(tmp_path / f"{name}_test.extxyz", tests)
        file = tmp_path / f"{name}.toml"
        file.write_text(CONFIG.format(name=name) + extra)
        results.append(gprann.run(file).metrics)
        methods.append(compare(load_config(file), methods=["energies", "gpr", "direct"], source=file).metrics)
    for part in ("training", "test", "surrogate"):
        for key in ("energy_mae", "force_mae"):
            assert results[0][part][key] == pytest.approx(results[1][part][key], rel=1e-3), (part, key)
    for name, found in methods[0].items():
        for key in ("energy_mae", "force_mae"):
            assert found[key] == pytest.approx(methods[1][name][key], rel=1e-3), (name, key)


def test_calculators_are_compared_and_reported_too(
    tmp_path: Path, data: gprann.Dataset, test: gprann.Dataset
) -> None:
    for name, structures in (("emt", data), ("emt_test", test)):
        gprann.write(tmp_path / f"{name}.extxyz", structures)
    file = tmp_path / "run.toml"
    file.write_text(CONFIG.format(name="emt") + '[baseline]\nkind = "calculator"\ncalculator = "emt"\n')
    found = compare(load_config(file), methods=["energies", "direct"], source=file)
    assert set(found.metrics) == {"energies", "direct"}
