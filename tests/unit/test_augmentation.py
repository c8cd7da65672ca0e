"""Displaced copies, their labels by Taylor expansion and by Gaussian processes, and the subsets behind them."""

from __future__ import annotations

import inspect
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import samples
from gprann import augment, examples, read, select, taylor_augment
from gprann.augmentation import label, surrogate_hessian, taylor_labels
from gprann.augmentation.displacements import DistanceLimits, gaussian, single_atoms, within_spheres
from gprann.augmentation.policies import CopyOptions
from gprann.data.structure import Dataset, Origin, Structure
from gprann.errors import ConfigError, DataError
from gprann.surrogate import Surrogate

FIXED: dict[str, Any] = {"kernel": "pairs", "length": 5.0, "energy_noise": 1e-8, "force_noise": 1e-8}


def mixture() -> Dataset:
    """Three compositions, one of them periodic, in turn."""
    oxygen = Dataset(
        samples.labelled(samples.chain("OO", bond=1.2 + 0.1 * k)).replace(origin=Origin("oxygen", k))
        for k in range(3)
    )
    parts = zip(samples.waters(3), samples.crystals(3), oxygen, strict=True)
    return Dataset(structure for triple in parts for structure in triple)


def copies_of(augmented: Dataset, parent: Structure) -> list[Structure]:
    return [
        s
        for s in augmented
        if s.origin.method != "reference"
        and (s.origin.file, s.origin.index) == (parent.origin.file, parent.origin.index)
    ]


# Displacements -----------------------------------------------------------------------------------------------------


def test_gaussian_displacements() -> None:
    shifts = gaussian(50, 400, 0.02, (3, 1))
    assert shifts.shape == (400, 50, 3)
    # The standard error of a standard deviation from 60000 numbers is 0.3 %.
    assert shifts.std() == pytest.approx(0.02, rel=0.015)
    assert abs(shifts.mean()) < 0.02 * 5 / np.sqrt(shifts.size)
    np.testing.assert_array_equal(shifts, gaussian(50, 400, 0.02, (3, 1)))
    assert not np.array_equal(shifts, gaussian(50, 400, 0.02, (3, 2)))
    assert not np.array_equal(shifts, gaussian(50, 400, 0.02, (4, 1)))


def test_displacements_within_spheres_have_no_net_shift() -> None:
    shifts = within_spheres(2000, 10, 0.1, (0, 0))
    np.testing.assert_allclose(shifts.sum(axis=1), 0, atol=1e-12)
    lengths = np.linalg.norm(shifts, axis=2)
    # The mean of 2000 atoms, which is taken off, is about 0.002 long. Half of a sphere lies beyond 0.079 of 0.1.
    assert 0.095 < lengths.max() < 0.11
    assert (lengths < 0.1 * 0.5 ** (1 / 3)).mean() == pytest.approx(0.5, abs=0.02)
    single = within_spheres(1, 500, 0.1, (0, 0))
    assert 0.095 < np.linalg.norm(single, axis=2).max() <= 0.1


def test_displacements_of_single_atoms_come_in_pairs() -> None:
    shifts = single_atoms(4, 0.03)
    assert shifts.shape == (24, 4, 3)
    assert (np.count_nonzero(shifts, axis=(1, 2)) == 1).all()
    np.testing.assert_array_equal(shifts.sum(axis=0), 0.0)
    np.testing.assert_array_equal(np.abs(shifts).sum(axis=0), np.full((4, 3), 0.06))


# Taylor ------------------------------------------------------------------------------------------------------------


def linear_pes(structure: Structure, seed: int = 0) -> Structure:
    """E = 3 + sum g . R: a first-order expansion is exact."""
    g = np.random.default_rng(seed).normal(size=(len(structure), 3))
    return structure.replace(energy=3.0 + float(np.vdot(g, structure.positions)), forces=-g)


@pytest.mark.parametrize("strategy", ["A", "B"])
def test_taylor_labels_are_exact_on_a_linear_energy(strategy: Any) -> None:
    data = Dataset(linear_pes(structure) for structure in mixture())
    copies_of_each = 5 if strategy == "B" else None
    augmented = taylor_augment(
        data, strategy=strategy, copies=copies_of_each, displacement=0.3, min_distance=0.0
    )
    per_structure = [5 if strategy == "B" else 6 * len(structure) for structure in data]
    assert len(augmented) == len(data) + sum(per_structure)
    for structure, n in zip(data, per_structure, strict=True):
        copies = copies_of(augmented, structure)
        assert len(copies) == n
        for copy in copies:
            assert copy.energy == pytest.approx(linear_pes(copy).energy, abs=1e-12)
            assert not np.array_equal(copy.positions, structure.positions)


def test_taylor_labels_are_right_to_first_order() -> None:
    """The error falls to a quarter when the displacement is halved."""
    data = samples.waters(1)
    errors = []
    for size in (0.02, 0.01, 0.005):
        copies = taylor_augment(data, strategy="A", displacement=size)[1:]
        errors.append(np.abs(copies.energies - [samples.labels(copy)[0] for copy in copies]).max())
    assert errors[1] < 0.3 * errors[0]
    assert errors[2] < 0.3 * errors[1]


def test_second_order_labels_are_exact_on_a_quadratic_energy() -> None:
    rng = np.random.default_rng(1)
    structure = samples.WATER
    raw = rng.normal(size=(9, 9))
    hessian, slope = raw + raw.T, rng.normal(size=9)

    def energy(positions: Any) -> float:
        x = (positions - structure.positions).ravel()
        return float(slope @ x + 0.5 * x @ hessian @ x)

    data = Dataset([structure.replace(energy=0.0, forces=-slope.reshape(3, 3))])
    # Only the symmetric part of a Hessian means anything.
    twisted = hessian + np.triu(np.ones((9, 9)), 1) - np.tril(np.ones((9, 9)), -1)
    for strategy in ("A", "B"):
        options: Any = {"strategy": strategy, "displacement": 0.3, "min_distance": 0.0}
        for copy in taylor_augment(data, hessians=[twisted], **options)[1:]:
            assert copy.energy == pytest.approx(energy(copy.positions), abs=1e-12)
        first = taylor_augment(data, **options)[1:]
        assert max(abs(copy.energy - energy(copy.positions)) for copy in first) > 0.01


def test_second_order_of_a_surrogate_is_right_to_second_order() -> None:
    """The error falls to an eighth when the displacement is halved."""
    data = samples.waters(12)
    surrogate = Surrogate(**FIXED).fit(data)
    predicted = surrogate.predict(data[:1])
    parent = Dataset([data[0].replace(energy=predicted.energy[0], forces=predicted.forces[0])])
    errors = []
    for size in (0.08, 0.04, 0.02):
        copies = taylor_augment(parent, strategy="A", displacement=size, hessians=surrogate)[1:]
        errors.append(np.abs(copies.energies - surrogate.predict(copies).energy).max())
    assert errors[1] < 0.16 * errors[0]
    assert errors[2] < 0.16 * errors[1]
    given = taylor_augment(data, copies=3, hessians=[surrogate_hessian(surrogate, s) for s in data])
    np.testing.assert_array_equal(given.energies, taylor_augment(data, copies=3, hessians=surrogate).energies)


@pytest.mark.parametrize(
    ("hessians", "message"),
    [
        ([np.eye(9)], "hessians: expected one for each of 2 structures, got 1"),
        (
            [np.eye(9), np.eye(6)],
            r"Hessian 1, of waters, structure 1: has shape \(6, 6\), expected \(9, 9\)",
        ),
        ([np.full((9, 9), np.nan)] * 2, "Hessian 0, of waters, structure 0: has values that are not finite"),
        ([np.eye(9), np.full((9, 9), "x")], "Hessian 1, of waters, structure 1: holds no numbers"),
    ],
)
def test_hessians_that_do_not_fit_are_refused(hessians: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        taylor_augment(samples.waters(2), hessians=hessians)


def test_hessians_of_a_file_are_those_of_a_list(tmp_path: Path) -> None:
    data, file = samples.waters(3), tmp_path / "hessians.npz"
    hessians = list(np.random.default_rng(1).normal(size=(3, 9, 9)))
    np.savez(file, *hessians)
    expected = taylor_augment(data, copies=4, hessians=hessians)
    assert taylor_augment(data, copies=4, hessians=file).energies.tolist() == expected.energies.tolist()
    assert taylor_augment(data, copies=4).energies.tolist() != expected.energies.tolist()


def test_files_of_hessians_that_cannot_be_used(tmp_path: Path) -> None:
    data, file = samples.waters(2), tmp_path / "hessians.npz"

    def refused(message: str) -> None:
        with pytest.raises(DataError, match=rf"hessians\.npz: {message}"):
            taylor_augment(data, hessians=str(file))

    refused("no such file of Hessians; make it with numpy.savez")
    file.write_text("3 4 5")
    refused("cannot be read as Hessians")
    with file.open("wb") as stream:
        np.save(stream, np.zeros((2, 9, 9)))
    refused("cannot be read as Hessians")
    np.savez(file, np.array([None, {}]), np.eye(9))
    refused("cannot be read as Hessians")
    np.savez(file, np.eye(9))
    refused(r"holds 1 arrays \(arr_0\), expected one for each of 2 structures, arr_0 to arr_1")
    np.savez(file, a=np.eye(9), b=np.eye(9))
    refused(r"holds 2 arrays \(a, b\)")
    np.savez(file, np.eye(9), np.eye(6))
    refused(r"Hessian 1, of waters, structure 1: has shape \(6, 6\), expected \(9, 9\)")
    np.savez(file, np.eye(9), np.eye(9))
    file.write_bytes(file.read_bytes()[:300])
    refused("cannot be read as Hessians")


@pytest.mark.parametrize("strategy", ["A", "B"])
def test_taylor_copies_that_come_too_close_are_left_out(
    strategy: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """The rule is that of gpr copies; labels stay with their copies."""
    data = samples.waters(5)
    options: dict[str, Any] = {"strategy": strategy, "displacement": 0.4, "hessians": [np.eye(9)] * 5}
    everything = taylor_augment(data, min_distance=0.0, **options)
    with caplog.at_level(logging.WARNING, logger="gprann"):
        kept = taylor_augment(data, min_distance=0.8, **options)
    allowed = DistanceLimits.of(data, 0.8).allow
    expected = [*data, *(copy for copy in everything[5:] if allowed(copy))]
    assert 5 < len(expected) < len(everything)
    assert [s.positions.tolist() for s in kept] == [s.positions.tolist() for s in expected]
    assert kept.energies.tolist() == [s.energy for s in expected]
    assert f"{len(everything) - len(kept)} of {len(everything) - 5} copies left out" in caplog.text
    assert len(taylor_augment(data, **options)) < len(everything)  # by default, as gpr copies
    with pytest.raises(ConfigError, match=r"min_distance = 1\.0: expected a fraction"):
        taylor_augment(data, min_distance=1.0)


def test_taylor_copies_move_chosen_atoms_alone() -> None:
    data = Dataset(linear_pes(structure) for structure in mixture())
    assert data[0].forces is not None
    limit = float(np.sort(np.linalg.norm(data[0].forces, axis=1))[1])  # two of three atoms
    sizes = {"H": 0.1, "O": 0.02}
    for strategy, expected in (("A", 12), ("B", 5)):
        options: Any = {"strategy": strategy, "displacement": sizes, "min_force": limit}
        if strategy == "B":
            options["copies"] = 5
        copies = copies_of(taylor_augment(data, **options), data[0])
        shifts = np.array([copy.positions - data[0].positions for copy in copies])
        still = np.linalg.norm(data[0].forces, axis=1) < limit
        assert len(copies) == expected
        assert not shifts[:, still].any()
        assert shifts[:, ~still].any(axis=(0, 2)).all()
    steps = np.abs(
        taylor_augment(data[:1], strategy="A", displacement=sizes)[1].positions - data[0].positions
    )
    assert steps.max() == pytest.approx(0.02)  # the first atom is oxygen
    assert len(taylor_augment(data, min_force=1e3)) == len(data)


def test_strategy_b_moves_no_atom_farther_than_allowed_and_no_structure_as_a_whole() -> None:
    data = mixture()
    augmented = taylor_augment(data, copies=20, displacement=0.05)
    for structure in data:
        shifts = np.array([copy.positions - structure.positions for copy in copies_of(augmented, structure)])
        np.testing.assert_allclose(shifts.sum(axis=1), 0, atol=1e-13)
        # The mean shift that was taken off is itself no longer than the radius.
        assert 0.02 < np.linalg.norm(shifts, axis=2).max() <= 0.1


def test_taylor_copies_hold_energies_alone() -> None:
    augmented = taylor_augment(samples.waters(2), copies=3)
    assert augmented[:2].has_forces
    for copy in augmented[2:]:
        assert (copy.forces, copy.stress, copy.energy_variance) == (None, None, 0.0)
        assert copy.origin.method == "taylor"


@pytest.mark.parametrize("missing", ["energy", "forces"])
def test_taylor_needs_energies_and_forces(missing: str) -> None:
    data = Dataset([*samples.waters(1), samples.waters(2)[1].replace(**{missing: None})])
    with pytest.raises(DataError, match=f"waters, structure 1: has no {missing}"):
        taylor_augment(data)


def test_taylor_labels_need_a_parent_for_each_copy() -> None:
    data = samples.waters(2)
    with pytest.raises(ValueError, match="zip"):
        taylor_labels([data[0]], data)


# Gaussian processes ------------------------------------------------------------------------------------------------


def test_originals_come_first_and_are_untouched() -> None:
    data = mixture()
    augmented = augment(data, copies=2, displacement=0.02, **FIXED)
    assert len(augmented) == 3 * len(data)
    assert all(one is other for one, other in zip(augmented[: len(data)], data, strict=True))
    for structure in data:
        copies = copies_of(augmented, structure)
        assert len(copies) == 2
        for copy in copies:
            assert copy.origin.method == "gpr"
            assert copy.symbols == structure.symbols
            assert (copy.forces, copy.stress) == (None, None)
            np.testing.assert_array_equal(copy.cell, structure.cell)
            np.testing.assert_array_equal(copy.pbc, structure.pbc)


def test_labels_are_predictions_of_the_surrogate_with_their_variance() -> None:
    data = samples.waters(6)
    surrogate = Surrogate(**FIXED).fit(data)
    copies = augment(data, surrogate, copies=4, displacement=0.03)[6:]
    prediction = surrogate.predict(copies)
    np.testing.assert_allclose(copies.energies, prediction.energy, rtol=1e-12)
    variances = np.array([copy.energy_variance for copy in copies])
    np.testing.assert_allclose(variances, prediction.energy_std**2, rtol=1e-6)
    assert (variances > 0).all()
    true = np.array([samples.labels(copy)[0] for copy in copies])
    assert np.abs(copies.energies - true).max() < 0.1 * np.ptp(true)
    # One surrogate for each composition is what augment() fits by itself.
    np.testing.assert_array_equal(
        augment(data, copies=4, displacement=0.03, **FIXED)[6:].energies, copies.energies
    )


def test_copies_carry_the_forces_of_the_surrogate_where_asked(tmp_path: Path) -> None:
    data = mixture()
    plain = augment(data, copies=2, displacement=0.03, **FIXED)[9:]
    augmented = augment(data, copies=2, displacement=0.03, forces=True, **FIXED)
    assert augmented.has_forces
    for copy, without in zip(augmented[9:], plain, strict=True):
        assert (copy.energy, copy.energy_variance) == (without.energy, without.energy_variance)
    waters = data.select([0, 3, 6])
    copies = augmented.select([9, 10, 11, 12, 13, 14])
    expected = Surrogate(**FIXED).fit(waters).predict(copies, std=False).forces
    np.testing.assert_allclose(copies.forces, expected, rtol=1e-9, atol=1e-12)
    assert np.abs(np.array(copies.forces) - [samples.labels(copy)[1] for copy in copies]).mean() < 0.5
    uncertain = tmp_path / "next.extxyz"
    augment(data, copies=2, displacement=0.3, threshold=1e-12, label_next=uncertain, forces=True, **FIXED)
    assert all((copy.energy, copy.forces) == (None, None) for copy in read(uncertain, require=()))


def test_copies_are_reproducible_by_seed_and_independent_of_the_other_structures() -> None:
    data = mixture()
    positions = [s.positions for s in augment(data, copies=3, seed=5, **FIXED)]
    again = [s.positions for s in augment(data, copies=3, seed=5, **FIXED)]
    assert all(np.array_equal(one, other) for one, other in zip(positions, again, strict=True))
    other_seed = augment(data, copies=3, seed=6, **FIXED)
    assert not np.array_equal(other_seed[9].positions, positions[9])
    fewer = augment(data[:4], copies=3, seed=5, **FIXED)
    for structure in data[:4]:
        expected = copies_of(augment(data, copies=3, seed=5, **FIXED), structure)
        found = copies_of(fewer, structure)
        assert all(np.array_equal(a.positions, b.positions) for a, b in zip(found, expected, strict=True))
    shifts = np.concatenate(
        [s.positions - p.positions for p in data[::3] for s in copies_of(fewer + other_seed, p)[:3]]
    )
    assert len(np.unique(shifts)) == shifts.size  # no two structures share their displacements


def test_structures_in_memory_get_origins_that_tell_them_apart() -> None:
    data = Dataset(structure.replace(origin=Origin()) for structure in samples.waters(3))
    augmented = augment(data, copies=2, **FIXED)
    assert [s.origin.index for s in augmented] == [0, 1, 2, 0, 0, 1, 1, 2, 2]
    for copy in augmented[3:]:
        parent = data[copy.origin.index]
        assert np.abs(copy.positions - parent.positions).max() < 0.15
    np.testing.assert_array_equal(augmented[:3].energies, data.energies)


def test_uncertain_copies_are_set_aside_and_written_for_labelling(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    data = samples.waters(4)
    surrogate = Surrogate(**FIXED).fit(data)
    everything = augment(data, surrogate, copies=10, displacement=0.1, min_distance=0.0)[4:]
    stds = np.sqrt([copy.energy_variance for copy in everything])
    threshold = float(np.median(stds))
    file = tmp_path / "next.extxyz"
    options: dict[str, Any] = {"copies": 10, "displacement": 0.1, "min_distance": 0.0}
    with caplog.at_level(logging.INFO, logger="gprann"):
        kept = augment(data, surrogate, threshold=threshold / 3, label_next=file, **options)  # per atom
    assert len(kept) == 4 + np.count_nonzero(stds <= threshold) == 24
    assert all(copy.energy_variance <= threshold**2 for copy in kept)
    uncertain = read(file, require=())
    assert (
        f"20 of 40 copies left out: less certain than {threshold / 3:g} eV/atom; {len(uncertain)} of"
        in caplog.text
    )
    assert f"{len(uncertain)} copies to be labelled next written to {file}" in caplog.text
    left_out = [copy for std, copy in zip(stds, everything, strict=True) if std > threshold]
    chosen = select(Dataset(left_out), surrogate, 20, threshold=threshold / 3).structures
    assert [s.positions.tolist() for s in uncertain] == [s.positions.tolist() for s in chosen]
    for structure in uncertain:
        assert (structure.energy, structure.forces) == (None, None)
        assert structure.energy_variance > threshold**2
        assert structure.origin.method == "gpr"


def test_the_automatic_threshold_tells_what_it_leaves_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Copies never vanish without a number, and can be kept."""
    monkeypatch.setattr("gprann.augmentation.policies._OUTLIER", 0.5)
    data, file = samples.waters(8), tmp_path / "next.extxyz"
    with caplog.at_level(logging.INFO, logger="gprann"):
        labelled = len(augment(data, copies=5, **FIXED)) - len(data)
    assert 0 < labelled < 40
    assert f"40 copies wanted: {labelled} labelled, 0 not made" in caplog.text
    assert f", {40 - labelled} too uncertain" in caplog.text
    assert (
        f"{40 - labelled} uncertain copies are not kept: label_next keeps those worth labelling"
        in caplog.text
    )
    caplog.clear()
    augment(data, copies=5, label_next=file, **FIXED)
    assert 0 < len(read(file, require=())) <= 40 - labelled
    assert "are not kept" not in caplog.text


def test_copies_that_are_not_made_are_counted(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="gprann"):
        augmented = augment(samples.waters(3), copies=20, displacement=0.3, min_distance=0.9, **FIXED)
    made = len(augmented) - 3
    assert 0 < made < 60
    assert f"60 copies wanted: {made} labelled, {60 - made} not made" in caplog.text


def test_labels_of_the_chosen_copies_make_all_certain() -> None:
    """Their variances given the labels of those chosen, from the dense joint covariance, and with one label less."""
    data = samples.waters(6)
    surrogate = Surrogate(**FIXED).fit(data)
    everything = augment(data, surrogate, copies=20, displacement=0.1)[6:]
    stds = np.sqrt([copy.energy_variance for copy in everything])
    threshold = float(np.quantile(stds, 0.4))
    result = label(surrogate, everything, threshold / 3)
    chosen, left_out = result.uncertain, everything.select(np.flatnonzero(stds > threshold))
    assert (result + result).left_out == 2 * len(left_out)
    assert 0 < len(chosen) < len(left_out) / 2
    places = [s.positions.tolist() for s in left_out]
    rows = [places.index(s.positions.tolist()) for s in chosen]
    covariance = surrogate.energy_covariance(left_out)
    noise = surrogate.hyperparameters.energy_noise**2

    def largest(rows: list[int]) -> float:
        cross = covariance[rows]
        inner = covariance[np.ix_(rows, rows)] + noise * np.eye(len(rows))
        free = np.setdiff1d(np.arange(len(left_out)), rows)
        return float(np.sqrt(np.diagonal(covariance - cross.T @ np.linalg.solve(inner, cross))[free].max()))

    assert largest(rows) <= threshold < largest(rows[:-1])


def test_of_many_uncertain_copies_the_most_uncertain_are_considered(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    data = samples.waters(6)
    surrogate = Surrogate(**FIXED).fit(data)
    copies = augment(data, surrogate, copies=20, displacement=0.1)[6:]
    variances = np.array([copy.energy_variance for copy in copies])
    pool = {copies[int(k)].positions.tobytes() for k in np.argsort(-variances)[:30]}
    monkeypatch.setattr("gprann.augmentation.gpr._POOL", 30)
    with caplog.at_level(logging.INFO, logger="gprann"):
        result = label(surrogate, copies, 1e-9)
    assert len(result.uncertain) > 0
    assert {copy.positions.tobytes() for copy in result.uncertain} <= pool
    assert (
        f"the 30 most uncertain copies are considered for labelling; the other {result.left_out - 30}"
        in caplog.text
    )


def test_nothing_is_written_when_nothing_is_uncertain(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "next.extxyz"
    with caplog.at_level(logging.INFO, logger="gprann"):
        augmented = augment(samples.waters(3), copies=2, threshold=1e3, label_next=file, **FIXED)
    assert len(augmented) == 9
    assert not file.exists()
    assert f"{file} was not written" in caplog.text


def test_nothing_may_be_left() -> None:
    data = samples.waters(3)
    assert list(augment(data, copies=2, displacement=0.3, threshold=1e-12, **FIXED)) == list(data)


def test_every_structure_of_an_oversized_subset_is_augmented(caplog: pytest.LogCaptureFixture) -> None:
    data = samples.waters(7)
    with caplog.at_level(logging.INFO, logger="gprann"):
        augmented = augment(data, copies=2, max_subset=3, **FIXED)
    assert "subset 3 of 3: 3 structures of H2O" in caplog.text
    assert [len(copies_of(augmented, structure)) for structure in data] == [2] * 7


def test_label_tells_which_surrogate_it_used() -> None:
    data = samples.waters(4)
    surrogate = Surrogate(**FIXED).fit(data)
    result = label(surrogate, data[:2]) + label(surrogate, data[2:])
    assert result.surrogates == [surrogate.to_dict()] * 2
    np.testing.assert_allclose(result.accepted.energies, data.energies, rtol=1e-4)
    assert len(result.uncertain) == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"copies": 0}, "copies = 0: expected 1 or more"),
        ({"displacement": 0.0}, "displacement = 0.0: expected a positive length"),
        ({"displacement": np.nan}, "displacement = nan"),
        ({"threshold": 0.0}, "threshold = 0.0: expected a positive number in eV/atom"),
        ({"label_next": "x.extxyz", "displacement": 0.1}, "label_next needs a threshold"),
        (
            {"label_next": "x.extxyz", "policy": "md", "temperature": 300.0},
            "not set automatically where temperature is given",
        ),
        ({"copys": 3}, "unknown option 'copys': did you mean 'copies'"),
        ({"kernal": "pairs"}, "unknown option 'kernal': did you mean 'kernel'"),
        ({"kernel": "paris"}, "kernel = 'paris': did you mean 'pairs'"),
        ({"max_subset": 0}, "max_subset = 0: expected 1 or more"),
        ({"copies": 2.5}, r"copies: expected a whole number, got 2\.5"),
        ({"copies": True}, "copies: expected a whole number, got True"),
        ({"seed": -1}, "seed = -1: expected 0 or more"),
        ({"policy": "md", "steps": 10.5}, r"steps: expected a whole number, got 10\.5"),
    ],
)
def test_impossible_options_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        augment(examples.hydrogen(3), **options)


def test_options_of_a_surrogate_that_is_given_are_refused() -> None:
    data = samples.waters(2)
    with pytest.raises(
        ConfigError, match="length: options of the surrogate, but a fitted surrogate was given"
    ):
        augment(data, Surrogate(**FIXED).fit(data), length=3.0)
    with pytest.raises(ConfigError, match=r"strategy = 'C'"):
        taylor_augment(data, strategy="C")  # type: ignore[arg-type]


def test_options_of_augment_and_of_the_surrogate_do_not_collide() -> None:
    assert set(CopyOptions.model_fields) & set(inspect.signature(Surrogate).parameters) == {"seed"}


@pytest.mark.parametrize("missing", ["energy", "forces"])
def test_augmentation_needs_energies_and_forces(missing: str) -> None:
    data = Dataset([*samples.waters(1), samples.waters(2)[1].replace(**{missing: None})])
    with pytest.raises(DataError, match=f"waters, structure 1: has no {missing}"):
        augment(data, **FIXED)
