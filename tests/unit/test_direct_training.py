"""Training on forces and stresses: what the options do, every optimiser, fine-tuning, and bad input."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import contracts
import samples
from contracts import assert_close
from gprann import train
from gprann.calculator import Calculator
from gprann.data.neighbours import build_neighbours
from gprann.data.prediction import voigt_stress
from gprann.data.structure import Dataset
from gprann.errors import ConfigError, DataError
from gprann.potential import Potential
from gprann.training import TrainingOptions, committee
from gprann.training.optimizers import Workload
from gprann.training.targets import label_table

TRAIN = samples.waters(30, size=0.15, seed=1)
TEST = samples.waters(20, size=0.15, seed=2)
QUICK: dict[str, Any] = {"hidden": (6,), "progress": False, "validation": 0.0}


def errors(potential: Potential, data: Dataset = TEST) -> tuple[float, float]:
    """Root mean square errors of energies and force components, eV and eV/Å."""
    result = potential.predict(data)
    forces = np.concatenate([a - np.asarray(s.forces) for a, s in zip(result.forces, data, strict=True)])
    return float(np.sqrt(np.mean((result.energy - data.energies) ** 2))), float(np.sqrt(np.mean(forces**2)))


def spread() -> tuple[float, float]:
    forces = np.concatenate([np.asarray(s.forces) for s in TEST])
    return float(np.std(TEST.energies)), float(np.sqrt(np.mean(forces**2)))


def direct(data: Dataset = TRAIN, **options: Any) -> Potential:
    return train(data, samples.DESCRIPTOR, **{**QUICK, "forces": True, **options})


@pytest.mark.parametrize(
    ("optimizer", "iterations", "part"),
    [("lm", 30, 0.1), ("gauss_newton_cg", 30, 0.1), ("lbfgs", 200, 0.15), ("adamw", 300, 0.4)],
)
def test_every_optimiser_fits_energies_and_forces(optimizer: str, iterations: int, part: float) -> None:
    options: dict[str, Any] = {"learning_rate": 0.01} if optimizer == "adamw" else {}
    energy, force = errors(direct(optimizer=optimizer, iterations=iterations, **options))
    assert energy < part * spread()[0]
    assert force < part * spread()[1]


def test_forces_make_better_forces() -> None:
    few = TRAIN[:12]
    on_energies = errors(train(few, samples.DESCRIPTOR, iterations=30, **QUICK))
    on_both = errors(direct(few, iterations=30))
    assert on_both[1] < 0.3 * on_energies[1]


@pytest.mark.parametrize("optimizer", ["lm", "gauss_newton_cg", "lbfgs", "adamw"])
def test_threads_change_no_bits(optimizer: str, monkeypatch: pytest.MonkeyPatch) -> None:
    options: dict[str, Any] = {"optimizer": optimizer, "force_fraction": 0.6, "seed": 3}
    if optimizer == "lm":
        options["max_rows"] = 60
    contracts.assert_threads(lambda: [direct(TRAIN[:9], iterations=6, **options).parameters], monkeypatch)


def test_an_interrupted_run_goes_on_to_the_same_bits(tmp_path: Path) -> None:
    class InterruptionError(Exception):
        pass

    whole = direct(TRAIN[:9], iterations=8, force_fraction=0.5)
    resume = committee.resume_member
    seen = []

    def interrupted(task: Any, folder: Path, member: int, identity: str, report: Any) -> Any:
        def stop(state: Any) -> None:
            seen.append(state.iteration)
            if state.iteration == 4 and len(seen) == 4:
                raise InterruptionError

        return resume(task, folder, member, identity, stop)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(committee, "resume_member", interrupted)
        with pytest.raises(InterruptionError):
            direct(TRAIN[:9], iterations=8, force_fraction=0.5, checkpoint=tmp_path)
    again = direct(TRAIN[:9], iterations=8, force_fraction=0.5, checkpoint=tmp_path)
    assert again.parameters.tobytes() == whole.parameters.tobytes()


def test_committees_in_processes_are_those_of_one(tmp_path: Path) -> None:
    options: dict[str, Any] = {"iterations": 4, "members": 2, "huber_force": 0.5}
    here = direct(TRAIN[:9], workers=1, **options)
    there = direct(TRAIN[:9], workers=2, checkpoint=tmp_path, **options)
    assert here.parameters.tobytes() == there.parameters.tobytes()
    record = here.provenance["training"]
    assert record["options"]["forces"] is True
    assert (
        record["optimizer_reason"].startswith("135 parameters") or "parameters" in record["optimizer_reason"]
    )


# ------------------------------------------------------------------- options
def test_alpha_shifts_the_balance() -> None:
    """A network too small for both: what counts more is fitted better."""
    data = samples.crystals(60, seed=3)
    energies, forces = (direct(data, hidden=(), alpha=alpha, iterations=20) for alpha in (0.0, 1.0 - 1e-6))
    assert errors(energies, data)[0] < 0.9 * errors(forces, data)[0]
    assert errors(forces, data)[1] < 0.9 * errors(energies, data)[1]


def test_stress_is_learnt() -> None:
    """Labels of a teacher: with stresses the student's stresses of strained crystals come nearer."""
    teacher = samples.potential(members=1)
    rng = np.random.default_rng(0)
    crystals = []
    for structure in samples.crystals(14, seed=4):
        strained = contracts.deformed(structure, np.eye(3) + 0.03 * rng.normal(size=(3, 3)))
        atoms = strained.to_ase()
        atoms.calc = Calculator(teacher)
        crystals.append(
            strained.replace(
                energy=float(atoms.get_potential_energy()),
                forces=atoms.get_forces(),
                stress=atoms.get_stress(),
            )
        )
    data, test = Dataset(crystals[:8]), Dataset(crystals[8:])

    def stress_error(potential: Potential) -> float:
        found = potential.predict(test).stress
        assert found is not None
        return float(np.sqrt(np.mean((found - np.array([s.stress for s in test])) ** 2)))

    plain, stressed = (direct(data, stress=weight, iterations=25, alpha=0.5) for weight in (0.0, 1.0))
    assert stress_error(stressed) < 0.7 * stress_error(plain)


def test_virials_are_stress_times_volume() -> None:
    crystal = samples.crystals(1)[0]
    potential = samples.potential(members=1)
    result = potential.evaluate(build_neighbours([crystal], potential.cutoff, potential.species))
    stress = voigt_stress(crystal, result.virials[0, 0])
    labelled = Dataset([crystal.replace(stress=stress)])
    table = label_table(labelled, 2.0, potential.species, TrainingOptions(forces=True, stress=0.3))
    symmetric = 0.5 * (result.virials[0, 0] + result.virials[0, 0].T)
    assert_close(2.0 * table.virials[0], symmetric[[0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1]])
    assert table.virial_weights.sum() == pytest.approx(0.3)
    assert table.energy_weights.sum() + table.force_weights.sum() == pytest.approx(1.0)


def test_weights_of_elements_and_missing_forces() -> None:
    data = Dataset([TRAIN[0], TRAIN[1].replace(forces=None), TRAIN[2].replace(weight=3.0)])
    options = TrainingOptions(forces=True, alpha=0.5, species_weights={"H": 0.5})
    table = label_table(data, 1.0, ("H", "O"), options)
    relative = table.force_weights[:, 0] / table.force_weights[0, 0]
    np.testing.assert_allclose(relative, [1, 0.5, 0.5, 0, 0, 0, 3, 1.5, 1.5])
    assert table.force_weights.sum() == pytest.approx(table.energy_weights.sum())


def test_an_outlier_decides_less_with_huber() -> None:
    wrong = np.asarray(TRAIN[20].forces) + 8.0 * np.random.default_rng(0).normal(size=(3, 3))
    spoilt = Dataset([*TRAIN[:20], TRAIN[20].replace(forces=wrong)])
    plain, robust = (direct(spoilt, iterations=25, **more) for more in ({}, {"huber_force": 0.2}))
    assert errors(robust)[1] < 0.6 * errors(plain)[1]


def test_frozen_layers_stay() -> None:
    base = direct(iterations=5)
    for optimizer in ("lm", "gauss_newton_cg", "lbfgs", "adamw"):
        tuned = direct(start_from=base, iterations=3, optimizer=optimizer, frozen=(0,))
        for _, layer, weights, biases in base.model.layers():
            for place in (weights, biases):
                same = np.array_equal(tuned.parameters[0, place], base.parameters[0, place])
                assert same == (layer == 0)


# --------------------------------------------------------------- fine-tuning
def test_fine_tuning_goes_on_from_the_potential(tmp_path: Path) -> None:
    base = direct(iterations=25)
    base.save(tmp_path / "base.gprann")
    before = errors(base)
    tuned = train(
        TRAIN,
        samples.DESCRIPTOR,
        start_from=tmp_path / "base.gprann",
        forces=True,
        iterations=2,
        validation=0.0,
        progress=False,
    )
    assert tuned.model.hidden == (6,)
    assert tuned.energy_scale == base.energy_scale
    assert tuned.reference_energies == base.reference_energies
    assert errors(tuned)[1] < 1.5 * before[1]
    # The first loss is that of the potential it starts from, not that of a random network.
    first = tuned.provenance["training"]["history"][0][0][1]
    assert first < 2 * base.provenance["training"]["history"][0][-1][1]


def test_fine_tuning_takes_other_reference_energies() -> None:
    """The same chemistry with another zero of energy, as from another program."""
    base = direct(iterations=25)
    shifted = Dataset(s.replace(energy=float(s.energy or 0.0) + 2 * 100.0 + 300.0) for s in TRAIN)
    given = {
        symbol: e0 + shift
        for (symbol, e0), shift in zip(base.reference_energies.items(), (100.0, 300.0), strict=True)
    }
    tuned = direct(shifted, start_from=base, reference_energies=given, iterations=3)
    assert errors(tuned, shifted)[1] < 1.5 * errors(base, TRAIN)[1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"hidden": (7,)}, "hidden = .7,.: the potential to start from has .6,."),
        ({"activation": "silu"}, "activation = silu: the potential to start from has tanh"),
    ],
)
def test_fine_tuning_refuses_another_shape(options: dict[str, Any], message: str) -> None:
    base = direct(iterations=1)
    with pytest.raises(ConfigError, match=message):
        train(TRAIN, samples.DESCRIPTOR, start_from=base, forces=True, progress=False, **options)


def test_members_follow_those_of_the_potential_to_start_from() -> None:
    base = direct(iterations=1, members=2)
    options: dict[str, Any] = {"forces": True, "progress": False, "iterations": 1, "start_from": base}
    assert len(train(TRAIN, samples.DESCRIPTOR, **options)) == 2
    assert len(train(TRAIN, samples.DESCRIPTOR, members=1, **options)) == 1
    assert len(train(TRAIN, samples.DESCRIPTOR, members=3, **options)) == 3


def test_fine_tuning_refuses_another_descriptor() -> None:
    from gprann import ChebyshevDescriptor

    with pytest.raises(ConfigError, match="start_from: its descriptor is"):
        train(TRAIN, ChebyshevDescriptor(["H", "O"]), start_from=direct(iterations=1), progress=False)


# ----------------------------------------------------------------- bad input
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"alpha": 1.2}, "alpha = 1.2: expected a fraction from 0 to 1"),
        ({"force_fraction": 0.0}, "force_fraction = 0.0: expected a fraction above 0"),
        ({"huber_force": -1.0}, "huber_force = -1.0: expected a positive number"),
        ({"stress": np.nan}, "stress: expected a finite number, got nan"),
        ({"frozen": (2,)}, "frozen: layer 2 does not exist; expected 0 to 1"),
        ({"frozen": ("first",)}, r"frozen\[0\]: expected a whole number, got 'first'"),
        ({"optimizer": "lmm"}, "optimizer = 'lmm'"),
        ({"optimizer": "adamw", "schedule": "cosin"}, "schedule = 'cosin': did you mean 'cosine'"),
        ({"species_weights": {"C": 1.0}}, "species_weights: C is not among the species"),
        (
            {"species_weights": {"H": -1.0}},
            "species_weights.H = -1.0: expected a number that is not negative",
        ),
        ({"group_weights": [1]}, "group_weights: expected a table"),
        ({"forces": "yes"}, "forces: expected true or false, got 'yes'"),
        ({"forces": False, "stress": 1.0}, "stress has no effect without forces"),
        ({"max_rows": 0}, "max_rows = 0: expected 1 or more"),
    ],
)
def test_bad_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        direct(**options)


def test_missing_labels() -> None:
    bare = Dataset(structure.replace(forces=None) for structure in TRAIN)
    with pytest.raises(DataError, match="no structure of the training set has forces"):
        direct(bare)
    with pytest.raises(DataError, match="stress is to be fitted, but no structure"):
        direct(stress=1.0)


# ---------------------------------------------------------- automatic choice
@pytest.mark.parametrize(
    ("parameters", "structures", "optimizer", "reason"),
    [
        (1473, 250, "lm", "normal equations are cheap"),
        (30000, 250, "gauss_newton_cg", "too many for normal equations"),
        (30000, 50000, "adamw", "too many to sweep"),
    ],
)
def test_the_optimiser_is_chosen_with_a_reason(
    parameters: int, structures: int, optimizer: str, reason: str
) -> None:
    workload = Workload(n_parameters=parameters, n_structures=structures)
    chosen, why = TrainingOptions().optimizer.resolve(workload)
    assert chosen.name == optimizer
    assert reason in why
    assert TrainingOptions(optimizer="lbfgs").optimizer.resolve(workload)[0].name == "lbfgs"


def test_the_reason_is_printed(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="gprann"):
        direct(TRAIN[:5], iterations=1)
    assert any("optimizer lm: " in message for message in caplog.messages)


def test_an_outlier_does_not_set_the_zero_of_energy() -> None:
    wrong = TRAIN[3].replace(energy=float(TRAIN[3].energy or 0.0) + 50.0)
    spoilt = Dataset([*TRAIN[:3], wrong, *TRAIN[4:]])
    robust = direct(
        spoilt,
        iterations=25,
        huber_energy=0.05,
        huber_force=0.5,
        alpha=0.5,
        reference_energies=direct(iterations=1).reference_energies,
    )
    assert errors(robust)[0] < 0.2


@pytest.mark.parametrize("optimizer", ["lm", "lbfgs", "adamw"])
def test_huber_counts_for_energies_alone(optimizer: str) -> None:
    options: dict[str, Any] = {"forces": False, "iterations": 5, "optimizer": optimizer}
    plain, robust = (direct(TRAIN[:12], huber_energy=threshold, **options) for threshold in (None, 0.01))
    assert not np.array_equal(plain.parameters, robust.parameters)


def test_forces_alone_leave_a_sensible_zero_of_energy() -> None:
    potential = direct(alpha=1.0, iterations=15)
    assert errors(potential)[1] < 0.2 * spread()[1]
    assert abs(np.mean(potential.predict(TRAIN).energy - TRAIN.energies)) < 1e-6


def test_fine_tuning_on_an_element_that_the_potential_never_saw() -> None:
    """Its descriptors are standardised by the new data; otherwise its atoms would feel nothing."""
    h2 = samples.Structure(("H", "H"), np.array([[0.0, 0, 0], [0, 0, 0.9]]))
    base = direct(samples.rattled(h2, 8, 0.1, 0, "h2"), iterations=3)
    assert not base.normalisation.inverse_scale[1].any()
    tuned = direct(TRAIN, start_from=base, iterations=3)
    assert tuned.normalisation.inverse_scale[1].any()
    np.testing.assert_array_equal(tuned.normalisation.inverse_scale[0], base.normalisation.inverse_scale[0])


def test_frozen_layers_are_counted_in_the_potential_to_start_from() -> None:
    base = direct(hidden=(4, 4, 4), iterations=1)
    options: dict[str, Any] = {"forces": True, "progress": False, "iterations": 1, "start_from": base}
    tuned = train(TRAIN, samples.DESCRIPTOR, frozen=(3,), **options)
    assert tuned.model.hidden == (4, 4, 4)
    with pytest.raises(ConfigError, match="these are all layers"):
        train(TRAIN, samples.DESCRIPTOR, frozen=(0, 1, 2, 3), **options)


def test_wrong_labels_are_refused_by_the_core() -> None:
    from gprann import _core

    n, forces, virials = np.ones(2), np.ones((6, 3)), np.zeros((2, 6))
    with pytest.raises(ValueError, match="weights must not be negative"):
        _core.Labels(n, -n, forces, forces, virials, virials)
    with pytest.raises(ValueError, match="thresholds must be positive"):
        _core.Labels(n, n, forces, forces, virials, virials, 0.0)
