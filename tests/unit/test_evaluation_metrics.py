"""Metrics against slow definitions written out as loops."""

from __future__ import annotations

import math
import statistics
from dataclasses import fields

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from gprann.data.prediction import Prediction
from gprann.data.structure import Dataset, Structure
from gprann.errors import DataError
from gprann.evaluation.metrics import (
    Metrics,
    compute_metrics,
    group_metrics,
    median_metrics,
    member_metrics,
    metrics_of,
    species_metrics,
    units,
)
from gprann.evaluation.residuals import TINY_FORCE, Residuals, angle_between, compare

SPECIES = (("H", "O", "H"), ("C", "H"), ("O",), ("C", "O", "H", "H"), ("H", "O", "H"))


def make_data(rng: np.random.Generator, *, forces: bool = True) -> Dataset:
    """Structures of different sizes and compositions with random labels."""
    return Dataset(
        Structure(
            symbols,
            rng.normal(size=(len(symbols), 3)),
            energy=rng.normal() - 40 * len(symbols),
            forces=rng.normal(size=(len(symbols), 3)) if forces else None,
            stress=rng.normal(size=6) if i != 2 else None,
            group="odd" if i % 2 else "",
        )
        for i, symbols in enumerate(SPECIES)
    )


def make_prediction(rng: np.random.Generator, data: Dataset, *, members: int = 0) -> Prediction:
    """A committee with random members, or a model with random standard deviations."""
    sizes = [len(structure) for structure in data]
    if members == 0:
        return Prediction(
            rng.normal(size=len(data)) - 40 * data.n_atoms,
            [rng.normal(size=(n, 3)) for n in sizes],
            energy_std=rng.uniform(0.1, 2, size=len(data)),
            forces_std=[rng.uniform(0.1, 2, size=(n, 3)) for n in sizes],
            stress=np.where(np.arange(len(data))[:, None] == 3, np.nan, rng.normal(size=(len(data), 6))),
        )
    energy = rng.normal(size=(members, len(data))) - 40 * data.n_atoms
    forces = [rng.normal(size=(members, n, 3)) for n in sizes]
    return Prediction(
        energy.mean(axis=0), [f.mean(axis=0) for f in forces], member_energy=energy, member_forces=forces
    )


def length(vector: NDArray[np.float64]) -> float:
    return math.sqrt(sum(float(x) ** 2 for x in vector))


def slow_angle(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    cosine = sum(float(x) * float(y) for x, y in zip(a, b, strict=True)) / (length(a) * length(b))
    return math.degrees(math.acos(max(-1.0, min(1.0, cosine))))


def atoms_of(data: Dataset, prediction: Prediction) -> list[tuple[int, int, str]]:
    return [(i, j, symbol) for i, structure in enumerate(data) for j, symbol in enumerate(structure.symbols)]


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(7)


def test_energy_metrics_follow_their_definitions(rng: np.random.Generator) -> None:
    data = make_data(rng)
    prediction = make_prediction(rng, data)
    metrics = compute_metrics(data, prediction)
    errors = [float(prediction.energy[i]) - structure.energy for i, structure in enumerate(data)]
    per_atom = [error / len(structure) for error, structure in zip(errors, data, strict=True)]
    assert metrics.n_structures == 5
    assert metrics.n_members == 0
    assert metrics.energy_mae == pytest.approx(statistics.fmean(abs(e) for e in errors), rel=1e-12)
    assert metrics.energy_rmse == pytest.approx(math.sqrt(statistics.fmean(e * e for e in errors)), rel=1e-12)
    assert metrics.energy_max == pytest.approx(max(abs(e) for e in errors), rel=1e-12)
    assert metrics.energy_per_atom_mae == pytest.approx(statistics.fmean(abs(e) for e in per_atom), rel=1e-12)
    expected = math.sqrt(statistics.fmean(e * e for e in per_atom))
    assert metrics.energy_per_atom_rmse == pytest.approx(expected, rel=1e-12)


def test_force_metrics_follow_their_definitions(rng: np.random.Generator) -> None:
    data = make_data(rng)
    prediction = make_prediction(rng, data)
    metrics = compute_metrics(data, prediction)
    components, norms, vectors, angles = [], [], [], []
    for i, j, _ in atoms_of(data, prediction):
        f, g = prediction.forces[i][j], data.forces[i][j]
        components += [abs(float(f[k] - g[k])) for k in range(3)]
        norms.append(abs(length(f) - length(g)))
        vectors.append(length(f - g))
        angles.append(slow_angle(f, g))
    assert metrics.n_force_atoms == 13
    assert metrics.n_directions == 13
    assert metrics.force_mae == pytest.approx(statistics.fmean(components), rel=1e-12)
    assert metrics.force_rmse == pytest.approx(
        math.sqrt(statistics.fmean(c * c for c in components)), rel=1e-12
    )
    assert metrics.force_max == pytest.approx(max(components), rel=1e-12)
    assert metrics.force_norm_mae == pytest.approx(statistics.fmean(norms), rel=1e-12)
    assert metrics.force_vector_mae == pytest.approx(statistics.fmean(vectors), rel=1e-12)
    assert metrics.force_angle_mae == pytest.approx(statistics.fmean(angles), rel=1e-12)


def test_committee_deviations_follow_their_definitions(rng: np.random.Generator) -> None:
    data = make_data(rng)
    prediction = make_prediction(rng, data, members=4)
    assert prediction.member_energy is not None
    assert prediction.member_forces is not None
    metrics = compute_metrics(data, prediction)
    energy = [statistics.pstdev(map(float, prediction.member_energy[:, i])) for i in range(len(data))]
    component, norm, vector, angle = [], [], [], []
    for i, j, _ in atoms_of(data, prediction):
        forces = [prediction.member_forces[i][m, j] for m in range(4)]
        mean = sum(forces) / 4
        component += [statistics.pstdev(float(f[k]) for f in forces) for k in range(3)]
        norm.append(statistics.pstdev(length(f) for f in forces))
        vector.append(math.sqrt(statistics.fmean(length(f - mean) ** 2 for f in forces)))
        angle.append(math.sqrt(statistics.fmean(slow_angle(f, mean) ** 2 for f in forces)))
    assert metrics.n_members == 4
    assert metrics.energy_msd == pytest.approx(statistics.fmean(energy), rel=1e-12)
    assert metrics.force_msd == pytest.approx(statistics.fmean(component), rel=1e-12)
    assert metrics.force_norm_msd == pytest.approx(statistics.fmean(norm), rel=1e-12)
    assert metrics.force_vector_msd == pytest.approx(statistics.fmean(vector), rel=1e-12)
    assert metrics.force_angle_msd == pytest.approx(statistics.fmean(angle), rel=1e-12)


def test_two_members_that_disagree_have_a_direction_deviation() -> None:
    reference = Dataset([Structure(("H",), np.zeros((1, 3)), energy=0.0, forces=np.array([[1.0, 0, 0]]))])
    spread = np.array([[[1.0, 1.0, 0.0]], [[1.0, -1.0, 0.0]]])
    prediction = Prediction(
        np.zeros(1), [spread.mean(axis=0)], member_energy=np.zeros((2, 1)), member_forces=[spread]
    )
    metrics = compute_metrics(reference, prediction)
    assert metrics.force_angle_mae == 0.0
    assert metrics.force_angle_msd == pytest.approx(45.0, rel=1e-14)


def test_deviations_given_by_the_model_are_averaged(rng: np.random.Generator) -> None:
    data = make_data(rng)
    prediction = make_prediction(rng, data)
    assert prediction.energy_std is not None
    assert prediction.forces_std is not None
    metrics = compute_metrics(data, prediction)
    assert metrics.energy_msd == pytest.approx(sum(prediction.energy_std) / 5, rel=1e-12)
    all_std = [float(x) for array in prediction.forces_std for x in array.ravel()]
    assert metrics.force_msd == pytest.approx(statistics.fmean(all_std), rel=1e-12)
    assert metrics.force_norm_msd is None
    assert metrics.force_angle_msd is None


def test_calibration_counts_errors_within_one_and_two_deviations() -> None:
    data = Dataset(Structure(("H",), np.zeros((1, 3)), energy=0.0) for _ in range(4))
    prediction = Prediction(
        np.array([0.5, -1.5, 2.5, -1.9]), [np.zeros((1, 3))] * 4, energy_std=np.array([1.0, 1.0, 1.0, 2.0])
    )
    metrics = compute_metrics(data, prediction)
    assert metrics.within_one_std == 0.5
    assert metrics.within_two_std == 0.75
    assert metrics.force_within_one_std is None


def test_calibration_of_forces_counts_components_that_have_a_deviation() -> None:
    data = Dataset(Structure(("H",), np.zeros((1, 3)), energy=0.0, forces=np.zeros((1, 3))) for _ in range(3))
    forces = [np.array([[0.5, -1.5, 2.5]]), np.array([[-0.1, 0.1, 1.1]]), np.full((1, 3), 9.0)]
    deviations = [np.ones((1, 3)), np.ones((1, 3)), np.full((1, 3), np.nan)]
    metrics = compute_metrics(data, Prediction(np.zeros(3), forces, forces_std=deviations))
    assert metrics.force_within_one_std == 3 / 6
    assert metrics.force_within_two_std == 5 / 6
    assert metrics.force_msd == 1.0
    members = [np.stack([f - 1.0, f + 1.0]) for f in forces]
    committee = Prediction(np.zeros(3), forces, member_energy=np.zeros((2, 3)), member_forces=members)
    assert compute_metrics(data, committee).force_within_two_std == 5 / 9


def test_stress_is_compared_where_both_sides_have_it(rng: np.random.Generator) -> None:
    data = make_data(rng)
    prediction = make_prediction(rng, data)
    assert prediction.stress is not None
    errors = [
        abs(float(prediction.stress[i][k] - structure.stress[k]))
        for i, structure in enumerate(data)
        if structure.stress is not None and i != 3
        for k in range(6)
    ]
    assert len(errors) == 18
    assert compute_metrics(data, prediction).stress_mae == pytest.approx(statistics.fmean(errors), rel=1e-12)


def test_no_stress_on_one_side_gives_none(rng: np.random.Generator) -> None:
    data = make_data(rng)
    assert compute_metrics(data, make_prediction(rng, data, members=2)).stress_mae is None
    bare = Dataset(structure.replace(stress=None) for structure in data)
    assert compute_metrics(bare, make_prediction(rng, data)).stress_mae is None


def test_data_without_forces_give_no_force_metrics(rng: np.random.Generator) -> None:
    data = make_data(rng, forces=False)
    prediction = make_prediction(rng, data, members=3)
    metrics = compute_metrics(data, prediction)
    assert metrics.energy_mae is not None
    assert metrics.n_force_atoms == 0
    given_force = [item.name for item in fields(Metrics) if item.name.startswith("force_")]
    assert len(given_force) == 12
    assert all(getattr(metrics, name) is None for name in given_force)
    assert species_metrics(compare(data, prediction)) == {}


def test_structures_without_forces_count_for_the_energy_only(rng: np.random.Generator) -> None:
    data = make_data(rng)
    prediction = make_prediction(rng, data, members=3)
    mixed = Dataset(s.replace(forces=None) if i in (0, 3) else s for i, s in enumerate(data))
    metrics = compute_metrics(mixed, prediction)
    kept = [1, 2, 4]
    alone = compute_metrics(data.select(kept), take(prediction, kept))
    assert metrics.n_force_atoms == 6
    assert metrics.force_mae == pytest.approx(alone.force_mae, rel=1e-14)
    assert metrics.force_angle_msd == pytest.approx(alone.force_angle_msd, rel=1e-14)
    assert metrics.energy_mae == pytest.approx(compute_metrics(data, prediction).energy_mae, rel=1e-14)


def take(prediction: Prediction, indices: list[int]) -> Prediction:
    assert prediction.member_energy is not None
    assert prediction.member_forces is not None
    return Prediction(
        prediction.energy[indices],
        [prediction.forces[i] for i in indices],
        member_energy=prediction.member_energy[:, indices],
        member_forces=[prediction.member_forces[i] for i in indices],
    )


def test_committee_of_one_has_no_deviation(rng: np.random.Generator) -> None:
    data = make_data(rng)
    prediction = make_prediction(rng, data, members=1)
    metrics = compute_metrics(data, prediction)
    assert metrics.n_members == 1
    assert metrics.energy_msd is None
    assert metrics.within_one_std is None
    assert metrics.force_msd is None
    assert metrics.force_angle_msd is None
    (member,) = member_metrics(compare(data, prediction))
    assert member.energy_mae == metrics.energy_mae
    assert member.force_angle_mae == metrics.force_angle_mae


@pytest.mark.parametrize(
    ("vector", "degrees"),
    [
        ([2.0, 0, 0], 0.0),
        ([0, 3.0, 0], 90.0),
        ([-0.5, 0, 0], 180.0),
        ([1.0, 1.0, 0], 45.0),
        ([1e-200, 1e-200, 0], 45.0),
        ([1e200, -1e200, 0], 45.0),
        ([0, 0, 0], 90.0),
    ],
)
def test_angles_of_known_vectors(vector: list[float], degrees: float) -> None:
    assert float(angle_between(vector, [1.0, 0.0, 0.0])) == pytest.approx(degrees, abs=1e-13)


def test_small_angles_are_exact() -> None:
    # The arc cosine of 1 - 5e-19 would give zero here.
    assert float(angle_between([1.0, 1e-9, 0], [1.0, 0, 0])) == pytest.approx(math.degrees(1e-9), rel=1e-12)
    assert 180 - float(angle_between([-1.0, 1e-6, 0], [1.0, 0, 0])) == pytest.approx(
        math.degrees(1e-6), rel=1e-7
    )


def test_short_reference_forces_have_no_direction() -> None:
    reference = np.array([[0.0, 0, 0], [0.99 * TINY_FORCE, 0, 0], [0, TINY_FORCE, 0], [1.0, 0, 0]])
    predicted = np.array([[1.0, 0, 0], [-1.0, 0, 0], [0, 1.0, 0], [0.0, 0, 0]])
    data = Dataset([Structure(("H",) * 4, np.arange(12.0).reshape(4, 3), energy=0.0, forces=reference)])
    metrics = compute_metrics(data, Prediction(np.zeros(1), [predicted]))
    assert metrics.n_force_atoms == 4
    assert metrics.n_directions == 2
    assert metrics.force_angle_mae == pytest.approx((0 + 90) / 2)


def test_zero_reference_forces_give_no_angle() -> None:
    data = Dataset([Structure(("H",), np.zeros((1, 3)), energy=0.0, forces=np.zeros((1, 3)))])
    forces = np.array([[[1.0, 0, 0]], [[0, 2.0, 0]]])
    prediction = Prediction(
        np.zeros(1), [forces.mean(axis=0)], member_energy=np.zeros((2, 1)), member_forces=[forces]
    )
    metrics = compute_metrics(data, prediction)
    assert metrics.force_angle_mae is None
    assert metrics.force_angle_msd is None
    assert metrics.force_norm_msd == 0.5


def test_species_add_up_to_the_total(rng: np.random.Generator) -> None:
    data = make_data(rng)
    prediction = make_prediction(rng, data, members=3)
    residuals = compare(data, prediction)
    total, species = metrics_of(residuals), species_metrics(residuals)
    assert {name: row.n_force_atoms for name, row in species.items()} == {"C": 2, "H": 7, "O": 4}
    for name in ("force_mae", "force_norm_mae", "force_vector_mae", "force_msd", "force_norm_msd"):
        summed = sum(row.n_force_atoms * getattr(row, name) for row in species.values())
        assert summed == pytest.approx(total.n_force_atoms * getattr(total, name), rel=1e-12)
    for name in ("force_angle_mae", "force_angle_msd"):
        summed = sum(row.n_directions * getattr(row, name) for row in species.values())
        assert summed == pytest.approx(total.n_directions * getattr(total, name), rel=1e-12)
    squares = sum(row.n_force_atoms * row.force_rmse**2 for row in species.values())
    assert squares == pytest.approx(total.n_force_atoms * total.force_rmse**2, rel=1e-12)
    assert max(row.force_max for row in species.values()) == total.force_max


def test_species_rows_hold_their_own_atoms(rng: np.random.Generator) -> None:
    data = make_data(rng)
    prediction = make_prediction(rng, data)
    errors = [
        abs(float(x))
        for i, j, symbol in atoms_of(data, prediction)
        if symbol == "O"
        for x in prediction.forces[i][j] - data.forces[i][j]
    ]
    rows = species_metrics(compare(data, prediction))
    assert rows["O"].force_mae == pytest.approx(statistics.fmean(errors), rel=1e-12)


def test_groups_are_the_metrics_of_their_structures(rng: np.random.Generator) -> None:
    data = make_data(rng)
    prediction = make_prediction(rng, data, members=3)
    groups = group_metrics(compare(data, prediction))
    assert {name: row.n_structures for name, row in groups.items()} == {"H2O": 2, "O": 1, "odd": 2}
    assert groups["odd"] == compute_metrics(data.select([1, 3]), take(prediction, [1, 3]))
    assert groups["H2O"] == compute_metrics(data.select([0, 4]), take(prediction, [0, 4]))


def test_members_are_evaluated_alone(rng: np.random.Generator) -> None:
    data = make_data(rng)
    prediction = make_prediction(rng, data, members=3)
    assert prediction.member_energy is not None
    assert prediction.member_forces is not None
    members = member_metrics(compare(data, prediction))
    assert len(members) == 3
    for m, member in enumerate(members):
        alone = Prediction(prediction.member_energy[m], [forces[m] for forces in prediction.member_forces])
        assert member == compute_metrics(data, alone)
    median = median_metrics(members)
    assert median is not None
    assert median.energy_mae == statistics.median(member.energy_mae for member in members)
    assert median.force_angle_mae == statistics.median(member.force_angle_mae for member in members)
    assert median.n_force_atoms == 13
    assert median.energy_msd is None


def test_committee_without_member_forces(rng: np.random.Generator) -> None:
    data = make_data(rng)
    full = make_prediction(rng, data, members=3)
    prediction = Prediction(full.energy, full.forces, member_energy=full.member_energy)
    metrics = compute_metrics(data, prediction)
    assert metrics.energy_msd is not None
    assert metrics.force_mae is not None
    assert metrics.force_msd is None
    assert all(member.force_mae is None for member in member_metrics(compare(data, prediction)))


def test_missing_member_is_an_error(rng: np.random.Generator) -> None:
    data = make_data(rng)
    with pytest.raises(DataError, match="no member 2; the prediction has 2 members"):
        compare(data, make_prediction(rng, data, members=2)).member(2)


def test_missing_energy_names_the_structure(rng: np.random.Generator) -> None:
    data = make_data(rng)
    prediction = make_prediction(rng, data)
    broken = Dataset(s.replace(energy=None) if i == 3 else s for i, s in enumerate(data))
    with pytest.raises(DataError, match="has no energy"):
        compute_metrics(broken, prediction)


def test_empty_data_set_is_an_error() -> None:
    with pytest.raises(DataError, match="no structures"):
        compute_metrics(Dataset(), Prediction(np.zeros(0), []))


def test_prediction_of_other_structures_is_an_error(rng: np.random.Generator) -> None:
    data = make_data(rng)
    prediction = make_prediction(rng, data)
    with pytest.raises(DataError, match="5 energies and 5 arrays of forces, the data set has 4"):
        compute_metrics(data[:4], prediction)
    with pytest.raises(DataError, match=r"shape \(3, 3\), expected \(2, 3\)"):
        compute_metrics(data.select([1, 0, 2, 3, 4]), prediction)


def test_predictions_that_are_not_finite_are_reported(
    rng: np.random.Generator, caplog: pytest.LogCaptureFixture
) -> None:
    data = make_data(rng)
    prediction = make_prediction(rng, data)
    prediction.energy[1] = np.nan
    with caplog.at_level("WARNING", logger="gprann"):
        metrics = compute_metrics(data, prediction)
    assert metrics.energy_mae is not None
    assert math.isnan(metrics.energy_mae)
    assert "not finite" in caplog.text


def test_selection_keeps_atoms_with_their_structures(rng: np.random.Generator) -> None:
    data = make_data(rng)
    residuals = compare(data, make_prediction(rng, data)).select(np.array([1, 3]))
    assert isinstance(residuals, Residuals)
    assert residuals.forces is not None
    assert residuals.forces.structure.tolist() == [0, 0, 1, 1, 1, 1]
    assert residuals.forces.symbols.tolist() == ["C", "H", "C", "O", "H", "H"]


def test_every_quantity_has_a_unit() -> None:
    counts = {"n_structures", "n_members", "n_force_atoms", "n_directions"}
    assert set(units()) == {item.name for item in fields(Metrics)} - counts


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), shift=st.floats(-10, 10))
def test_constant_shift_changes_the_energy_error_by_at_most_itself(seed: int, shift: float) -> None:
    rng = np.random.default_rng(seed)
    data = make_data(rng)
    prediction = make_prediction(rng, data, members=3)
    assert prediction.member_energy is not None
    shifted = Prediction(
        prediction.energy + shift,
        prediction.forces,
        member_energy=prediction.member_energy + shift,
        member_forces=prediction.member_forces,
    )
    before, after = compute_metrics(data, prediction), compute_metrics(data, shifted)
    bound = abs(shift) + 1e-12
    assert abs(after.energy_mae - before.energy_mae) <= bound
    assert abs(after.energy_rmse - before.energy_rmse) <= bound
    assert after.energy_mae >= abs(np.mean(shifted.energy - data.energies)) - 1e-12
    assert after.energy_msd == pytest.approx(before.energy_msd, abs=1e-11)
    assert after.force_mae == before.force_mae


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_rotation_leaves_magnitude_and_direction_errors_unchanged(seed: int) -> None:
    rng = np.random.default_rng(seed)
    data = make_data(rng)
    prediction = make_prediction(rng, data, members=3)
    assert prediction.member_forces is not None
    matrix = Rotation.random(rng=rng).as_matrix()
    turned = Dataset(s.replace(forces=s.forces @ matrix) for s in data)
    turned_prediction = Prediction(
        prediction.energy,
        [f @ matrix for f in prediction.forces],
        member_energy=prediction.member_energy,
        member_forces=[f @ matrix for f in prediction.member_forces],
    )
    before, after = compute_metrics(data, prediction), compute_metrics(turned, turned_prediction)
    for name in ("norm_mae", "vector_mae", "angle_mae", "norm_msd", "vector_msd", "angle_msd", "rmse"):
        assert getattr(after, f"force_{name}") == pytest.approx(
            getattr(before, f"force_{name}"), rel=1e-10
        ), name


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), factor=st.floats(1e-2, 1e2))
def test_scaling_the_forces_leaves_the_direction_unchanged(seed: int, factor: float) -> None:
    rng = np.random.default_rng(seed)
    data = make_data(rng)
    prediction = make_prediction(rng, data)
    scaled = Prediction(prediction.energy, [factor * f for f in prediction.forces])
    before, after = compute_metrics(data, prediction), compute_metrics(data, scaled)
    assert after.force_angle_mae == pytest.approx(before.force_angle_mae, rel=1e-10)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), members=st.integers(2, 6))
def test_committee_mean_is_no_worse_than_the_average_member(seed: int, members: int) -> None:
    rng = np.random.default_rng(seed)
    data = make_data(rng)
    residuals = compare(data, make_prediction(rng, data, members=members))
    mean, alone = metrics_of(residuals), member_metrics(residuals)
    for name in ("energy_mae", "force_mae", "force_vector_mae"):
        average = statistics.fmean(getattr(member, name) for member in alone)
        assert getattr(mean, name) <= average * (1 + 1e-12)
