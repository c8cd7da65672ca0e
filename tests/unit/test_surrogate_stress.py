"""Surrogates that observe stresses, and the stresses that surrogates predict."""

from __future__ import annotations

from typing import Any

import ase
import numpy as np
import pytest
from ase.build import bulk
from ase.calculators.calculator import PropertyNotImplementedError
from ase.calculators.emt import EMT
from ase.filters import FrechetCellFilter
from ase.optimize import BFGS

import samples
from contracts import assert_close, assert_derivative
from gprann import Surrogate, SurrogateCalculator
from gprann.augmentation import augment
from gprann.data.prediction import strain_matrices, volume
from gprann.data.structure import Dataset, Structure
from gprann.errors import ConfigError, DataError

FIXED: dict[str, Any] = {"length": 5.0, "energy_noise": 1e-6, "force_noise": 1e-6}
TRAINING = samples.strained_crystals(12)
TEST = samples.strained_crystals(8, seed=5)


def stress_error(surrogate: Surrogate) -> float:
    predicted = surrogate.predict(TEST).stress
    assert predicted is not None
    return float(np.abs(predicted - np.array([structure.stress for structure in TEST])).mean())


def test_predicted_stresses_are_derivatives_of_the_energy() -> None:
    surrogate = Surrogate(**FIXED).fit(TRAINING)
    structure, prediction = TEST[0], surrogate.predict(TEST[:1])
    assert prediction.stress is not None
    strain = np.random.default_rng(0).uniform(-1, 1, size=6)

    def energy(t: float) -> float:
        deformation = np.eye(3) + t * strain_matrices(strain)
        deformed = structure.replace(
            positions=structure.positions @ deformation, cell=structure.cell @ deformation
        )
        return float(surrogate.predict(Dataset([deformed]), std=False).energy[0])

    assert_derivative(energy, volume(structure) * float(prediction.stress[0] @ strain), step=4e-3)


def test_observed_stresses_are_interpolated_and_help() -> None:
    plain, stressed = Surrogate(**FIXED).fit(TRAINING), Surrogate(**FIXED, stress=True).fit(TRAINING)
    assert stress_error(stressed) < 0.7 * stress_error(plain)
    own = stressed.predict(TRAINING, std=False).stress
    assert own is not None
    labels = np.array([structure.stress for structure in TRAINING])
    assert np.abs(own - labels).max() < 2e-2 * np.abs(labels).max()
    assert plain.to_dict()["stress"] is False
    assert stressed.to_dict()["stress"] is True


def test_hyperparameters_and_calibration_with_stresses() -> None:
    surrogate = Surrogate(stress=True).fit(TRAINING)
    assert surrogate.calibration.n_structures == len(TRAINING)
    prediction = surrogate.predict(TEST, forces_std=True)
    assert prediction.forces_std is not None
    assert [std.shape for std in prediction.forces_std] == [(3, 3)] * len(TEST)
    assert stress_error(surrogate) < stress_error(Surrogate().fit(TRAINING))


def test_some_structures_may_have_stresses() -> None:
    """Those without contribute what they have; of a molecule nobody asks for one."""
    mixed = Dataset(s if k % 2 else s.replace(stress=None) for k, s in enumerate(TRAINING))
    few, most = Surrogate(**FIXED, stress=True).fit(mixed), Surrogate(**FIXED, stress=True).fit(TRAINING)
    none = Surrogate(**FIXED).fit(mixed)
    assert stress_error(most) < stress_error(few) < stress_error(none)


@pytest.mark.parametrize("solver", ["conjugate_gradient", "inducing"])
def test_all_solvers_observe_stresses(solver: Any) -> None:
    mixed = Dataset(s if k % 3 else s.replace(stress=None) for k, s in enumerate(TRAINING))
    exact = Surrogate(**FIXED, stress=True).fit(mixed).predict(TEST)
    options = (
        {"tolerance": 1e-10, "inducing": 5} if solver == "conjugate_gradient" else {"inducing": len(mixed)}
    )
    other = Surrogate(**FIXED, stress=True, solver=solver, **options).fit(mixed).predict(TEST)
    assert exact.stress is not None
    assert other.stress is not None
    tolerance = 1e-6 if solver == "conjugate_gradient" else 2e-3  # the latter counts the noise twice
    assert_close(other.energy - exact.energy.mean(), exact.energy - exact.energy.mean(), relative=tolerance)
    assert_close(other.stress, exact.stress, relative=10 * tolerance)


def test_extended_as_fitted_at_once() -> None:
    once = Surrogate(**FIXED, stress=True).fit(TRAINING, standardise_over=TRAINING[:7]).predict(TEST)
    extended = Surrogate(**FIXED, stress=True).fit(TRAINING[:7]).extend(TRAINING[7:]).predict(TEST)
    assert once.stress is not None
    assert extended.stress is not None
    # The unit of the noise is the mean variance of the gradients, which the first structures alone decide.
    assert_close(extended.stress, once.stress, relative=5e-2)


def test_copies_carry_stresses_where_they_were_observed() -> None:
    options: dict[str, Any] = {"copies": 2, "displacement": 0.02, "forces": True, "seed": 1}
    stressed = augment(TRAINING, Surrogate(**FIXED, stress=True).fit(TRAINING), **options)
    copies = [structure for structure in stressed if structure.origin.method == "gpr"]
    assert copies
    for copy in copies:
        expected = samples.stressed(samples.labelled(copy))
        assert copy.stress is not None
        assert expected.stress is not None
        assert np.abs(copy.stress - expected.stress).max() < 0.1 * np.abs(expected.stress).max()
    plain = augment(TRAINING, Surrogate(**FIXED).fit(TRAINING), **options)
    assert all(structure.stress is None for structure in plain if structure.origin.method == "gpr")


def test_cells_relax_with_the_calculator() -> None:
    """Lattice of copper by a surrogate of a few strained cells of EMT."""
    rng = np.random.default_rng(0)
    copper = bulk("Cu", "fcc", a=3.6, cubic=True)
    training = []
    for _ in range(8):
        atoms = copper.copy()
        deformation = np.eye(3) + strain_matrices(rng.uniform(-0.04, 0.04, size=6))
        atoms.set_cell(atoms.cell[:] @ deformation, scale_atoms=True)
        atoms.positions += rng.normal(scale=0.05, size=(4, 3))
        atoms.calc = EMT()
        atoms.get_stress()
        training.append(Structure.from_ase(atoms))
    surrogate = Surrogate(length=8.0, energy_noise=1e-8, force_noise=1e-8, stress=True)
    calculator = SurrogateCalculator(surrogate.fit(Dataset(training)))
    lattices = []
    for calc in (EMT(), calculator):
        atoms = copper.copy()
        atoms.set_cell(atoms.cell[:] * [[1.03], [0.98], [1.0]], scale_atoms=True)
        atoms.calc = calc
        BFGS(FrechetCellFilter(atoms), logfile=None).run(fmax=2e-3, steps=60)
        lattices.append(atoms.cell[:])
    assert np.abs(lattices[1] - lattices[0]).max() < 5e-3


def test_stress_of_a_molecule_is_refused() -> None:
    atoms = samples.WATER.to_ase()
    atoms.calc = SurrogateCalculator(Surrogate(**FIXED).fit(samples.waters(5)))
    atoms.get_forces()
    with pytest.raises(PropertyNotImplementedError, match="periodic in three directions"):
        atoms.get_stress()
    crystal: ase.Atoms = samples.CRYSTAL.to_ase()
    crystal.calc = SurrogateCalculator(Surrogate("pairs", **FIXED).fit(samples.crystals(5)))
    with pytest.raises(PropertyNotImplementedError, match="kernel 'atoms'"):
        crystal.get_stress()


def test_stresses_that_are_missing_or_cannot_be_observed_are_named() -> None:
    with pytest.raises(DataError, match=r"crystals, structure 0 .* no structure that is periodic"):
        Surrogate(stress=True).fit(samples.crystals(5))
    flat = Structure(
        ("H", "H"), [[0, 0, 0], [0, 0, 0.8]], energy=1.0, forces=np.zeros((2, 3)), stress=np.ones(6)
    )
    with pytest.raises(DataError, match="no structure that is periodic"):
        Surrogate(stress=True).fit(Dataset([flat, flat]))
    with pytest.raises(ConfigError, match="only the kernel 'atoms' observes stresses, not 'pairs'"):
        Surrogate("pairs", stress=True)
