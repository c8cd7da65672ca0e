"""The extrapolation guard: fitted, in C++ and in numpy, in files, in calculators and reports."""

from __future__ import annotations

import logging
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import ase
import numpy as np
import pytest
from ase.calculators.calculator import PropertyNotImplementedError
from ase.io import read
from scipy.spatial.transform import Rotation

import gprann
import samples
from gprann import _core
from gprann.calculator import ExtrapolationWatch
from gprann.data.structure import Dataset, Structure
from gprann.errors import ConfigError, DataError, ExtrapolationError, FormatError
from gprann.evaluation.grades import guard_metrics, roc_area
from gprann.evaluation.residuals import ForceResiduals
from gprann.model_file import read_model_file, write_model_file
from gprann.models import Guard
from gprann.models.features import descriptor_values
from gprann.models.guard import STOP
from gprann.training.hold_out import families, folds, strata

DESCRIPTORS: dict[str, Any] = {
    "chebyshev": gprann.ChebyshevDescriptor(
        ["O", "H"], radial_order=5, radial_cutoff=4.0, angular_order=2, angular_cutoff=3.0
    ),
    "density": gprann.DensityDescriptor(["O", "H"], radial_cutoff=3.5),
}


def train(data: Dataset, descriptor: Any = DESCRIPTORS["chebyshev"], **options: Any) -> gprann.Potential:
    usual: dict[str, Any] = {"hidden": (4,), "iterations": 3, "members": 2, "optimizer": "lbfgs"}
    return gprann.train(data, descriptor, workers=1, progress=False, **(usual | options))


@pytest.fixture(scope="module")
def data() -> Dataset:
    return Dataset(
        [
            *samples.rattled(samples.WATER, 60, 0.08, 1, "water"),
            *samples.rattled(samples.CRYSTAL, 30, 0.08, 2, "crystal"),
        ]
    )


@pytest.fixture(scope="module", params=DESCRIPTORS)
def potential(request: pytest.FixtureRequest, data: Dataset) -> gprann.Potential:
    return train(data, DESCRIPTORS[request.param])


@pytest.fixture(scope="module")
def usual(data: Dataset) -> gprann.Potential:
    return train(data)


@pytest.fixture(scope="module")
def fresh() -> Dataset:
    """Structures of the same kinds, which nobody was trained on."""
    return Dataset(
        [
            *samples.rattled(samples.WATER, 40, 0.08, 3, "water"),
            *samples.rattled(samples.CRYSTAL, 20, 0.08, 4, "crystal"),
        ]
    )


def all_grades(potential: gprann.Potential, data: Dataset) -> np.ndarray[Any, Any]:
    grades = potential.predict(data).grades
    assert grades is not None
    return np.concatenate(grades)


def squashed(structure: Structure, factor: float) -> Structure:
    return structure.replace(
        positions=structure.positions * factor,
        cell=structure.cell * factor,
    ).without_labels()


# ------------------------------------------------------------------ the fit
def test_grade_is_the_mahalanobis_distance_over_that_of_held_out_atoms(data: Dataset) -> None:
    """Against the definition, computed fold by fold with inverses instead of sums and axes."""
    descriptor = DESCRIPTORS["chebyshev"]
    potential = train(data)
    values, kinds, first = descriptor_values(descriptor, data)
    features = potential.normalisation.apply(values, kinds)
    fold = np.repeat(
        folds(families(data), strata(data), 5, np.random.default_rng(0)), np.diff(first)
    )  # no trajectories among them
    expected = np.zeros(len(features))

    def distance(x: Any, of: Any) -> Any:
        covariance = np.cov(of.T, bias=True)
        covariance += 1e-4 * np.linalg.eigvalsh(covariance)[-1] * np.eye(len(covariance))
        difference = x - of.mean(axis=0)
        return np.sqrt(np.einsum("ad,de,ae->a", difference, np.linalg.inv(covariance), difference))

    for kind in range(2):
        own, held = features[kinds == kind], fold[kinds == kind]
        edge = np.quantile(
            np.concatenate([distance(own[held == n], own[held != n]) for n in range(5)]), 0.999
        )
        expected[kinds == kind] = distance(own, own) / edge
    np.testing.assert_allclose(all_grades(potential, data), expected, rtol=1e-6)


def test_core_equals_numpy(potential: gprann.Potential, fresh: Dataset) -> None:
    assert potential.guard is not None
    values, kinds, _ = descriptor_values(potential.descriptor, fresh)
    expected = potential.guard.grades(potential.normalisation.apply(values, kinds), kinds)
    np.testing.assert_allclose(all_grades(potential, fresh), expected, rtol=1e-9)


def test_most_atoms_of_the_same_kind_lie_inside(
    potential: gprann.Potential, data: Dataset, fresh: Dataset
) -> None:
    assert np.mean(all_grades(potential, data) <= 1) > 0.995
    grades = all_grades(potential, fresh)
    assert np.mean(grades <= 1) > 0.97
    assert grades.max() < 2


def test_blown_up_and_squashed_structures_lie_outside(potential: gprann.Potential, fresh: Dataset) -> None:
    for structure, factor in ((fresh[0], 0.75), (fresh[0], 1.5), (fresh[-1], 0.8), (fresh[-1], 1.3)):
        largest = potential.predict(Dataset([squashed(structure, factor)])).largest_grades
        assert largest is not None
        assert largest[0] > STOP


def test_the_atom_that_leaves_is_named(potential: gprann.Potential, fresh: Dataset) -> None:
    """An atom pulled away, and those near it, have larger grades than the others of the crystal before."""
    positions = fresh[0].positions.copy()
    positions[2] += [-0.5, 0.4, 0.0]
    grades = all_grades(potential, Dataset([fresh[0].with_positions(positions).without_labels()]))
    assert grades.argmax() == 2


def test_grades_do_not_change_with_orientation_order_or_origin(
    potential: gprann.Potential, fresh: Dataset
) -> None:
    order = [2, 0, 1]
    turn = Rotation.random(random_state=1).as_matrix()
    for structure in (fresh[0], fresh[-1]):
        turned = structure.replace(
            positions=structure.positions @ turn.T + 0.3,
            cell=structure.cell @ turn.T,
        ).without_labels()
        before = all_grades(potential, Dataset([structure]))
        np.testing.assert_allclose(all_grades(potential, Dataset([turned])), before, rtol=1e-7)
        np.testing.assert_allclose(
            all_grades(potential, Dataset([structure.reorder(order)])), before[order], rtol=1e-7
        )


def test_bits_do_not_depend_on_threads(usual: gprann.Potential, monkeypatch: pytest.MonkeyPatch) -> None:
    large = Structure.from_ase(samples.CRYSTAL.to_ase() * (6, 6, 6)).without_labels()
    found = []
    for threads in ("1", "2", "5"):
        monkeypatch.setenv("GPRANN_NUM_THREADS", threads)
        found.append(all_grades(usual, Dataset([large, samples.WATER])))
    assert len(found[0]) == 651
    assert (found[0] == found[1]).all()
    assert (found[0] == found[2]).all()


def test_results_do_not_depend_on_the_guard(usual: gprann.Potential, fresh: Dataset) -> None:
    bare = replace(usual, guard=None).predict(fresh)
    watched = usual.predict(fresh)
    assert bare.grades is None
    assert bare.largest_grades is None
    assert (bare.energy == watched.energy).all()
    assert all((a == b).all() for a, b in zip(bare.forces, watched.forces, strict=True))


def test_members_share_the_guard(usual: gprann.Potential, fresh: Dataset) -> None:
    assert (all_grades(usual[1], fresh) == all_grades(usual, fresh)).all()


def test_baselines_leave_the_grades_as_they_are(
    data: Dataset, fresh: Dataset, usual: gprann.Potential
) -> None:
    other = train(data, baseline="zbl")
    assert (all_grades(other, fresh) == all_grades(usual, fresh)).all()


def test_copies_widen_what_was_seen(data: Dataset, usual: gprann.Potential) -> None:
    """Copies of the training set belong to it."""
    copies = gprann.taylor_augment(data, copies=3, displacement=0.2, seed=1)
    far = samples.rattled(samples.WATER, 40, 0.25, 5, "far")
    assert np.median(all_grades(train(copies), far)) < 0.7 * np.median(all_grades(usual, far))


def test_an_element_without_atoms_is_never_known() -> None:
    rng = np.random.default_rng(1)
    guard = Guard.fit(rng.normal(size=(50, 3)), np.zeros(50, np.int32), np.arange(50) % 5, 2)
    assert guard.grades(np.zeros((1, 3)), np.ones(1, np.int32))[0] == pytest.approx(1e6)


@pytest.mark.parametrize("n", [1, 2, 3])
def test_few_structures_have_a_guard(n: int) -> None:
    data = samples.rattled(samples.WATER, n, 0.05, 1, "few")
    potential = train(data, iterations=1, validation=0)
    grades = all_grades(potential, data)
    assert np.isfinite(grades).all()
    assert grades.max() <= 1 + 1e-9


def test_reach_is_the_displacement_that_half_of_the_atoms_show(
    data: Dataset, usual: gprann.Potential
) -> None:
    assert usual.guard is not None
    assert set(usual.guard.reach) == {"O", "H"}
    for symbol, length in usual.guard.reach.items():
        assert length is not None
        shares = []
        for factor in (0.4, 2.5):
            rng = np.random.default_rng(7)
            moved = Dataset(
                s.with_positions(s.positions + factor * length * rng.normal(size=(3, 3))).without_labels()
                for s in data
            )
            chosen = np.array([s == symbol for item in moved for s in item.symbols])
            shares.append(np.mean(all_grades(usual, moved)[chosen] > 1))
        assert shares[0] < 0.5 < shares[1]


def test_add_guard_gives_old_potentials_the_same(usual: gprann.Potential, data: Dataset) -> None:
    again = gprann.add_guard(replace(usual, guard=None), data)
    assert again.guard is not None
    assert usual.guard is not None
    assert (again.guard.factors == usual.guard.factors).all()
    assert again.guard.reach == usual.guard.reach
    with pytest.raises(DataError, match="data set is empty"):
        gprann.add_guard(usual, Dataset([]))


# ------------------------------------------------------------------ the file
def test_save_and_load(potential: gprann.Potential, fresh: Dataset, tmp_path: Path) -> None:
    potential.save(tmp_path / "p.gprann")
    loaded = gprann.Potential.load(tmp_path / "p.gprann")
    assert loaded.guard is not None
    assert potential.guard is not None
    assert loaded.guard.reach == potential.guard.reach
    assert (all_grades(loaded, fresh) == all_grades(potential, fresh)).all()


def test_files_without_guard_load(usual: gprann.Potential, fresh: Dataset, tmp_path: Path) -> None:
    replace(usual, guard=None).save(tmp_path / "old.gprann")
    document, arrays = read_model_file(tmp_path / "old.gprann")
    assert "guard" not in document
    assert not [name for name in arrays if "guard" in name]
    loaded = gprann.Potential.load(tmp_path / "old.gprann")
    assert loaded.guard is None
    assert loaded.predict(fresh).grades is None


@pytest.mark.parametrize("name", ["guard_factors", "guard_offset"])
def test_damaged_guards_are_refused(name: str, usual: gprann.Potential, tmp_path: Path) -> None:
    usual.save(tmp_path / "p.gprann")
    document, arrays = read_model_file(tmp_path / "p.gprann")
    del document["arrays"]
    write_model_file(tmp_path / "cut.gprann", document, arrays | {name: arrays[name][..., :-1]})
    with pytest.raises(FormatError, match=f"'{name}' has shape"):
        gprann.Potential.load(tmp_path / "cut.gprann")
    arrays.pop(name)
    if name == "guard_offset":
        write_model_file(tmp_path / "half.gprann", document, arrays)
        with pytest.raises(FormatError, match="guard_offset"):
            gprann.Potential.load(tmp_path / "half.gprann")


def test_core_refuses_arrays_that_do_not_fit(usual: gprann.Potential, fresh: Dataset) -> None:
    with pytest.raises(ValueError, match="offset"):
        _core.Guard(np.zeros((2, 3, 8)), np.zeros((2, 4)))
    with pytest.raises(ValueError, match="multiple of 8"):
        _core.Guard(np.zeros((2, 3, 3)), np.zeros((2, 3)))
    with pytest.raises(ValueError, match="three dimensions"):
        _core.Guard(np.zeros((2, 3)), np.zeros((2, 3)))
    wrong = replace(usual, guard=Guard(np.zeros((2, 3, 8)), np.zeros((2, 8))))
    with pytest.raises(ValueError, match="guard"):
        wrong.predict(fresh)


# ------------------------------------------------------------- calculators
def outside(potential: gprann.Potential, fresh: Dataset, **options: Any) -> ase.Atoms:
    atoms = squashed(fresh[0], 0.7).to_ase()
    atoms.calc = gprann.Calculator(potential, **options)
    return atoms


def test_calculator_gives_grades(usual: gprann.Potential, fresh: Dataset) -> None:
    atoms = fresh[0].without_labels().to_ase()
    atoms.calc = gprann.Calculator(usual)
    grades = atoms.calc.get_property("grades", atoms)
    assert (grades == all_grades(usual, fresh[:1])).all()
    atoms.get_potential_energy()
    assert (atoms.calc.deviations["grades"] == grades).all()
    assert "grades" not in atoms.calc.results
    atoms.calc = gprann.Calculator(replace(usual, guard=None))
    with pytest.raises(PropertyNotImplementedError, match="a model with a guard"):
        atoms.calc.get_property("grades", atoms)


def test_calculator_warns_once(
    usual: gprann.Potential, fresh: Dataset, caplog: pytest.LogCaptureFixture
) -> None:
    atoms = outside(usual, fresh)
    with caplog.at_level(logging.WARNING, logger="gprann"):
        for _ in range(3):
            atoms.positions *= 0.99
            atoms.get_forces()
    (record,) = caplog.records
    worst = int(atoms.calc.deviations["grades"].argmax())
    assert f"atom {worst} ({atoms.symbols[worst]})" in record.getMessage()


def test_calculator_off_says_nothing(
    usual: gprann.Potential, fresh: Dataset, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, logger="gprann"):
        outside(usual, fresh, guard="off").get_forces()
    assert not caplog.records


def test_calculator_stops_again_and_again(usual: gprann.Potential, fresh: Dataset) -> None:
    atoms = outside(usual, fresh, guard="stop", guard_threshold=3.0)
    for _ in range(2):  # the refused results must not be found the second time
        with pytest.raises(ExtrapolationError, match=r"atom \d \([OH]\)") as caught:
            atoms.get_forces()
    error = caught.value
    assert error.symbol == atoms.symbols[error.atom]
    assert error.grade > error.threshold == 3.0
    again = pickle.loads(pickle.dumps(error))
    assert (again.atom, str(again)) == (error.atom, str(error))
    inside = fresh[0].without_labels().to_ase()
    inside.calc = atoms.calc
    assert np.isfinite(inside.get_forces()).all()


def test_calculator_collects_structures_that_differ(
    usual: gprann.Potential, fresh: Dataset, tmp_path: Path
) -> None:
    file = tmp_path / "to_label.xyz"
    atoms = outside(usual, fresh, guard="collect", guard_file=file)
    expected = []
    for step in (0.0, 0.01, 0.02, 0.2, 0.21):
        atoms.positions[0] = squashed(fresh[0], 0.7).positions[0] + [0, 0, step]
        atoms.get_forces()
        if step in (0.0, 0.2):
            expected.append(atoms.positions.copy())
    collected = atoms.calc.watch.collected
    assert len(collected) == 2
    for one, positions in zip(collected, expected, strict=True):
        assert (one.positions == positions).all()
        assert one.calc is None
    written = read(file, ":")
    assert len(written) == 2
    np.testing.assert_allclose(written[1].arrays["grades"], collected[1].arrays["grades"], rtol=1e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"guard": "loud"}, "guard = 'loud': expected one of warn, stop, collect, off"),
        ({"guard_threshold": 0}, "guard_threshold = 0: expected a positive number"),
        ({"guard_threshold": float("nan")}, "guard_threshold = nan"),
        ({"guard_threshold": True}, "guard_threshold = True"),
        ({"guard_file": "a.xyz"}, 'use guard = "collect"'),
    ],
)
def test_bad_options_are_refused(options: dict[str, Any], message: str, usual: gprann.Potential) -> None:
    with pytest.raises(ConfigError, match=message):
        gprann.Calculator(usual, **options)


def test_watch_takes_an_empty_structure() -> None:
    ExtrapolationWatch("stop").look(ase.Atoms(), np.zeros(0))


# ------------------------------------------------------------------ reports
def test_roc_area_counts_pairs() -> None:
    rng = np.random.default_rng(2)
    score, positive = rng.integers(0, 6, 60).astype(float), rng.random(60) < 0.3
    pairs = [1.0 if a > b else 0.5 if a == b else 0.0 for a in score[positive] for b in score[~positive]]
    assert roc_area(score, positive) == pytest.approx(np.mean(pairs), abs=1e-14)
    assert roc_area(score, np.zeros(60, bool)) is None


def test_report_tells_errors_by_grade(data: Dataset, fresh: Dataset, tmp_path: Path) -> None:
    usual = train(data, forces=True, optimizer="lm", iterations=20)
    far = samples.rattled(samples.WATER, 20, 0.4, 9, "far")
    data = Dataset([*fresh, *far])
    report = gprann.evaluate(usual, data)
    assert report.guard is not None
    below, between, above = report.guard.ranges
    assert below.n_atoms + between.n_atoms + above.n_atoms == report.n_force_atoms
    assert above.n_atoms == np.sum(all_grades(usual, data) >= 2) > 0
    assert above.force_mae > below.force_mae
    assert report.guard.roc_area > 0.8
    text = report.summary()
    assert "extrapolation grade" in text
    assert f"{report.guard.roc_area:.3f}" in text
    assert report.to_dict()["guard"]["ranges"][2]["upper"] is None
    report.save(tmp_path, plots=False)


def test_report_without_grades_has_no_table(usual: gprann.Potential, fresh: Dataset) -> None:
    report = gprann.evaluate(replace(usual, guard=None), fresh)
    assert report.guard is None
    assert "extrapolation" not in report.summary()
    forces = ForceResiduals(np.zeros(1, int), np.array(["H"]), np.zeros((1, 3)), np.zeros((1, 3)))
    assert guard_metrics(forces) is None
