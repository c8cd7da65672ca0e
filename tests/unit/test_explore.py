"""Exploration: the temperature window, the loop, each rule that chooses, kill and resume, input that cannot be used."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase.calculators.emt import EMT
from ase.constraints import FixAtoms

import gprann
from explore_sample import CLUSTER, TABLES, LocalWorker
from gprann.cli.main import main
from gprann.config import ExploreConfig, to_toml
from gprann.data.structure import Dataset, Structure
from gprann.dynamics.options import MdOptions
from gprann.dynamics.window import temperature_window
from gprann.errors import ConfigError, GprannError
from gprann.sampling.choice import choose, evenly, thin
from gprann.sampling.options import ChoiceOptions, ConvergenceOptions, ReferenceOptions
from gprann.sampling.reference import Reference
from gprann.sampling.replica import Frame, Outcome, lean_model, sound_frames
from gprann.sampling.results import Exploration, Generation


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a start; labels are computed in this process."""
    monkeypatch.setattr("gprann.labelling.run.WorkerProcess", LocalWorker)
    monkeypatch.setattr("gprann.sampling.reference.WorkerProcess", LocalWorker)
    gprann.write(tmp_path / "start.extxyz", CLUSTER)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def tables(**changes: dict[str, Any]) -> dict[str, Any]:
    """The small exploration with other options; None takes one out."""
    found = {**TABLES, **{name: {**TABLES.get(name, {}), **table} for name, table in changes.items()}}
    return {
        name: {key: value for key, value in table.items() if value is not None}
        if isinstance(table, dict)
        else table
        for name, table in found.items()
    }


# Temperature window -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("atoms", [10, 1000])
def test_no_false_alarm_in_a_million_steps_and_doubled_temperatures_are_found(atoms: int) -> None:
    """The kinetic energy of a canonical ensemble is that of a chi-square distribution."""
    degrees = 3 * atoms
    low, high = temperature_window(degrees, 1e-10)
    exact = np.random.default_rng(1).chisquare(degrees, 1_000_000) / degrees
    assert low < exact.min()
    assert exact.max() < high
    doubled = 2.0 * exact[:100_000]
    # A thousand atoms show it in every step, ten in one of some hundreds: within a tenth of a picosecond.
    assert np.mean((doubled > high) | (doubled < low)) > {10: 0.002, 1000: 0.999}[atoms]
    # A window of fixed width (200 to 500 K around 300 K) cannot serve both.
    assert (np.mean((exact < 2 / 3) | (exact > 5 / 3)) > 0.05) == (atoms == 10)


def test_the_window_has_the_probability_that_it_is_asked_for() -> None:
    low, high = temperature_window(30, 0.02)
    exact = np.random.default_rng(2).chisquare(30, 400_000) / 30
    assert np.mean(exact < low) == pytest.approx(0.01, rel=0.06)
    assert np.mean(exact > high) == pytest.approx(0.01, rel=0.06)


def small_potential(members: int = 2) -> gprann.Potential:
    rng = np.random.default_rng(0)
    data = []
    for _ in range(8):
        atoms = CLUSTER.to_ase()
        atoms.positions += rng.normal(0.0, 0.05, atoms.positions.shape)
        atoms.calc = EMT()
        atoms.get_forces()
        data.append(Structure.from_ase(atoms))
    options: Any = {"hidden": (3,), "members": members, "iterations": 8, "starts": 1, "forces": True}
    descriptor = gprann.ChebyshevDescriptor(["Cu"], radial_order=3, radial_cutoff=4.0, angular_order=None)
    return gprann.train(Dataset(data), descriptor, **options)


def test_md_stops_outside_the_window_once_it_has_settled(tmp_path: Path) -> None:
    """A window that is left in every other step: it is the first step after the time for settling."""
    options: Any = {"length": 0.1, "time_step": 1.0, "false_alarm": 0.09, "temperature": 100.0}
    model = small_potential()
    runs = [
        gprann.md(model, CLUSTER, tmp_path / str(settling), settling=settling, seed=3, **options)
        for settling in (0.0, 0.05)
    ]
    assert 0 < runs[0].steps < 50 <= runs[1].steps
    assert "outside 4" in runs[0].reason
    assert "of 12 degrees of freedom stay (false_alarm = 0.09)" in runs[0].reason
    assert runs[0].atom in range(4)
    with pytest.raises(ConfigError, match=r"settling = 0\.1: has no effect, it belongs to false_alarm"):
        MdOptions(settling=0.1)
    with pytest.raises(ConfigError, match=r"false_alarm = 0\.01: has no effect, it belongs to the ensemble"):
        MdOptions(ensemble="nve", false_alarm=0.01)


def test_md_stops_at_an_extrapolation_grade_and_names_the_atom(tmp_path: Path) -> None:
    model = small_potential()
    result = gprann.md(model, CLUSTER, tmp_path / "hot", length=0.2, temperature=3000.0, max_grade=1.5)
    assert "extrapolation grade of atom" in result.reason
    assert result.atom in range(4)
    model.guard = None
    with pytest.raises(ConfigError, match=r"max_grade = 1\.5: the model has no extrapolation guard"):
        gprann.md(model, CLUSTER, tmp_path / "blind", max_grade=1.5)


# The loop -----------------------------------------------------------------------------------------------------------


def test_an_exploration_ends_with_a_stable_and_accurate_potential(folder: Path) -> None:
    result = gprann.explore(tables())
    assert result.converged
    first, last = result.generations[0], result.generations[-1]
    assert not first.is_good(result.force_error)
    assert last.survived
    assert last.error is not None
    assert last.error < result.force_error
    assert [one.labels for one in result.generations[1:]] == [
        one.labels + one.added for one in result.generations[:-1]
    ]
    # The error that is told is that of structures that the potential has not been fitted to.
    tested = gprann.read(folder / "results" / f"generation_{last.number:03d}" / "new.extxyz")
    found = gprann.load(result.potential).predict(tested).forces
    assert found is not None
    errors = [np.abs(a - b.forces).mean() for a, b in zip(found, tested, strict=True)]
    assert last.error == pytest.approx(np.mean(errors))
    keys = {item.positions.tobytes() for item in result.labels}
    assert not keys & {item.positions.tobytes() for item in tested}
    assert len(gprann.read(folder / "results" / "labels.extxyz")) == last.calls
    plain = json.loads((folder / "results" / "generations.json").read_text())
    assert [Generation.from_dict(item) for item in plain["generations"]] == list(result.generations)
    assert "converged: " in (folder / "results" / "generations.txt").read_text()
    # A second call repeats nothing; a lower target goes on.
    LocalWorker.calls.clear()
    assert gprann.explore(tables()).generations == result.generations
    assert not LocalWorker.calls
    more = gprann.explore(
        tables(convergence={"force_error": 1e-6, "generations": len(result.generations) + 1})
    )
    assert more.generations[:-1] == result.generations
    assert not more.converged
    with pytest.raises(ConfigError, match=r"holds an exploration with another dynamics\.temperature"):
        gprann.explore(tables(dynamics={"temperature": 301.0}))


@pytest.mark.parametrize("model", ["quadratic", "linear", "surrogate"])
def test_other_models_are_fitted(model: str, folder: Path) -> None:
    none: dict[str, Any] = dict.fromkeys(TABLES["training"])
    others = {"descriptor": dict.fromkeys(TABLES["descriptor"])} if model == "surrogate" else {}
    result = gprann.explore(
        {**tables(training=none, convergence={"generations": 1}, **others), "model": model}
    )
    found = gprann.load(result.potential)
    assert result.generations[0].error is not None
    if isinstance(found, gprann.Potential):
        assert repr(found.model).startswith(model)
        assert len(found) > 1  # they know how uncertain they are


def test_replicas_of_linear_models_have_the_forces_of_all_members() -> None:
    descriptor = gprann.ChebyshevDescriptor(["H"], radial_order=6, radial_cutoff=8.0, angular_order=None)
    data = gprann.examples.hydrogen(20)
    model = gprann.fit_linear(data, descriptor, quadratic=True)
    lean = lean_model(model, MdOptions())
    assert isinstance(lean, gprann.Potential)
    assert len(lean) == 1
    for one, all_members in zip(lean.predict(data).forces, model.predict(data).forces, strict=True):
        assert one == pytest.approx(all_members, abs=1e-9)
    assert lean_model(model, MdOptions(max_deviation=1.0)) is model
    network = small_potential()
    assert lean_model(network, MdOptions()) is network


def test_failed_replicas_tell_what_to_label(folder: Path) -> None:
    """A potential of four structures near the minimum fails when it is hot; the atom at fault is named."""
    hot = tables(
        dynamics={"temperature": 2500.0, "max_grade": 3.0},
        convergence={"force_error": 1e-4, "generations": 2, "test": "start.extxyz", "check": None},
        choice={"rule": "frames", "stretch": 0.02, "count": 4},
    )
    atoms = CLUSTER.to_ase()
    atoms.calc = EMT()
    atoms.get_forces()
    gprann.write(folder / "start.extxyz", Structure.from_ase(atoms))
    result = gprann.explore(hot)
    first = result.generations[0]
    failed = [k for k, outcome in enumerate(first.replicas) if not outcome.survived]
    assert failed
    assert all("grade" in first.replicas[k].reason and first.replicas[k].atom is not None for k in failed)
    assert {replica for replica, _ in first.chosen} <= set(failed)
    for replica, step in first.chosen:  # from before the failure, and not long before
        assert first.replicas[replica].steps - 20 <= step < first.replicas[replica].steps
    assert first.added == len(first.chosen) > 0
    assert not result.converged
    assert result.reason == "generations = 2"


def test_a_share_that_is_set_aside_is_never_fitted(folder: Path) -> None:
    result = gprann.explore(
        tables(convergence={"share": 0.25, "generations": 1, "check": None}, start={"count": 8})
    )
    first = result.generations[0]
    assert (first.labels, first.tested) == (6, 2)
    assert len(result.labels) == 6


def test_first_labels_by_dynamics_with_the_reference(folder: Path) -> None:
    """Every step is computed once and kept; fixed atoms stay, and their forces are those of the reference."""
    atoms = CLUSTER.to_ase()
    atoms.set_constraint(FixAtoms([0]))
    gprann.write(folder / "start.extxyz", Structure.from_ase(atoms))
    start = {"method": "reference_md", "count": 3, "displacement": None}
    LocalWorker.calls.clear()
    result = gprann.explore(tables(start=start, convergence={"generations": 1}))
    first = gprann.read(folder / "results" / "start.extxyz")
    assert len(first) == 3
    assert len(set(LocalWorker.calls)) == len(LocalWorker.calls) == result.generations[0].calls
    for item in first:
        assert item.positions[0] == pytest.approx(CLUSTER.positions[0])
        assert np.linalg.norm(item.forces[0]) > 1e-3
        assert not item.constraints


# Rules --------------------------------------------------------------------------------------------------------------


def frames(count: int = 40) -> list[Frame]:
    """A walk away from the start: the later, the less known."""
    rng = np.random.default_rng(5)
    steps = rng.normal(0.0, 0.01, (count, 4, 3)).cumsum(axis=0)
    return [
        Frame(0, 10 * k, 300.0, CLUSTER.with_positions(CLUSTER.positions + steps[k]), np.zeros((4, 3)))
        for k in range(count)
    ]


def test_each_rule_chooses_what_it_says() -> None:
    own, rng, model = frames(), np.random.default_rng(0), small_potential()
    last = choose([own, own[:2]], model, ChoiceOptions(rule="frames", count=5, stretch=0.1), 1.0, rng)
    assert last[2].step == 390
    assert min(frame.step for frame in last[:3]) >= 290
    assert [frame.step for frame in last[3:]] == [0, 10]
    drawn = choose([own], model, ChoiceOptions(rule="random", count=7), 1.0, rng)
    assert len({frame.step for frame in drawn}) == 7
    again = choose([own], model, ChoiceOptions(rule="random", count=7), 1.0, np.random.default_rng(0))
    assert again[0].structure is drawn[0].structure
    best = choose([own], model, ChoiceOptions(count=4), 1.0, rng)
    selection = gprann.select(Dataset(frame.structure for frame in own), model, 4)
    assert [frame.step for frame in best] == [10 * k for k in selection.indices]
    assert len(choose([own[:3]], model, ChoiceOptions(count=4), 1.0, rng)) == 3
    assert choose([[], []], model, ChoiceOptions(rule="random"), 1.0, rng) == []
    assert [frame.step for frame in evenly(own, 4)] == [100, 200, 290, 390]
    many = own * 20
    assert len(thin(many)) == 700
    assert thin(many)[-100:] == many[-100:]
    assert thin(own) == own


def test_frames_that_have_blown_up_are_no_candidates() -> None:
    own = frames(4)
    near = CLUSTER.positions.copy()
    near[1] = near[0] + [1.2, 0.0, 0.0]  # the covalent radius of copper is 1.32
    own.append(Frame(0, 50, 300.0, CLUSTER.with_positions(near), own[0].momenta))
    own.append(Frame(0, 60, 1500.0, own[0].structure, own[0].momenta))
    options = MdOptions(false_alarm=1e-10, min_contact=0.55)
    assert sound_frames(own, options, 12) == own[:4]
    assert sound_frames(own, options.replace(min_contact=None), 12) == own[:5]


def test_labels_with_absurd_forces_are_refused(folder: Path) -> None:
    near = CLUSTER.positions.copy()
    near[1] = near[0] + [1.2, 0.0, 0.0]
    options = ReferenceOptions(calculator="emt", max_force=15.0)
    found = Reference(options, folder).label([CLUSTER, CLUSTER.with_positions(near)])
    assert len(found.data) == 1
    assert "above max_force = 15 eV/Å" in found.refused[0]


# Kill and resume ----------------------------------------------------------------------------------------------------


def test_killed_again_and_again_it_ends_with_the_same_labels_and_potential(tmp_path: Path) -> None:
    """Children are killed at files on their way to the disk, each a little later, until one lives to the end."""
    pytest.importorskip("fcntl")
    gprann.write(tmp_path / "start.extxyz", CLUSTER)
    script = Path(__file__).parents[1] / "explore_sample.py"
    done = subprocess.run(
        [sys.executable, str(script), str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["kills"] >= 10
    assert len(told["calls"]) == len(set(told["calls"])) == told["calls once"]
    once, killed = tmp_path / "once", tmp_path / "killed"
    for name in ("generations.json", "generations.txt", "train.extxyz"):
        assert (once / name).read_bytes() == (killed / name).read_bytes()
    for a, b in zip(gprann.read(once / "labels.extxyz"), gprann.read(killed / "labels.extxyz"), strict=True):
        assert (a.energy, a.positions.tobytes()) == (b.energy, b.positions.tobytes())
    one, other = (gprann.Potential.load(place / "potential.gprann") for place in (once, killed))
    assert one.parameters.tobytes() == other.parameters.tobytes()


# Input that cannot be used ------------------------------------------------------------------------------------------

BAD: list[tuple[dict[str, dict[str, Any]], str]] = [
    ({"reference": {"calculator": "emtt"}}, r"calculator 'emtt' is not found .* did you mean 'emt'"),
    ({"start": {"structures": "none.extxyz"}}, r"none\.extxyz: no such file"),
    ({"start": {"structures": "start.extxyz", "labels": "other.extxyz"}}, "start.labels: has no Cu, which"),
    ({"start": {"labels": "start.extxyz"}}, r"start\.extxyz, structure 0: has no energy"),
    ({"start": {"labels": "fixed.extxyz"}}, r"the forces on the atoms that are fixed \(0\) are exactly 0"),
    ({"dynamics": {"ensemble": "nve"}}, "ensemble = 'nve': has no temperature that could tell a failure"),
    (
        {"choice": {"rule": "random", "stretch": 0.1}},
        "stretch = 0.1: has no effect, it belongs to rule = 'frames'",
    ),
    ({"choice": {"rule": "newest"}}, "choice.rule"),
    (
        {"convergence": {"share": 0.1, "check": 5}},
        "check = 5: has no effect, a share of the labels is set aside",
    ),
    (
        {"surrogate": {"length": 3.0}},
        r"surrogate\.length = 3\.0: has no effect, it does not belong to model = 'network'",
    ),
    (
        {"training": {"model": "linear", "hidden": None}},
        "training.model: belongs to 'linear', not to model = 'network' of the exploration",
    ),
    ({"dynamics": {"replicass": 2}}, "did you mean 'replicas'"),
]


@pytest.mark.parametrize(("changes", "message"), BAD)
def test_bad_input(changes: dict[str, dict[str, Any]], message: str, folder: Path) -> None:
    gprann.write(folder / "other.extxyz", gprann.examples.hydrogen(4))
    labels = CLUSTER.replace(energy=0.0, forces=np.zeros((4, 3)), constraints=(FixAtoms([0]).todict(),))
    gprann.write(folder / "fixed.extxyz", labels)
    if "labels" in changes.get("start", {}):
        changes = {"start": {**changes["start"], "count": None, "displacement": None}}
    config = tables(**changes)
    with pytest.raises(GprannError, match=message):
        gprann.explore(config)
    assert not (folder / "results").exists()


def test_a_calculator_that_fails_for_all_structures(folder: Path) -> None:
    gprann.write(folder / "start.extxyz", Structure(("Xe", "Xe"), [[0, 0, 0], [0, 0, 3.0]]))
    with pytest.raises(GprannError, match=r"reference\.calculator = 'emt': no structure could be labelled"):
        gprann.explore(tables())


def test_runs_whose_frames_are_refused_are_no_sign_of_convergence(folder: Path) -> None:
    """They survive, but the reference says that what they show has blown up."""
    options: dict[str, dict[str, Any]] = {
        "start": {"displacement": 0.01},
        "dynamics": {"temperature": 3000.0, "min_contact": 0.1, "max_distance": 20.0},
        "convergence": {"generations": 1, "force_error": 50.0},
    }
    assert gprann.explore(tables(**options, reference={"max_force": 1000.0})).converged
    result = gprann.explore(tables(**options, output={"folder": "other"}))
    assert result.generations[0].survived
    assert result.generations[0].refused
    assert result.generations[0].error is None
    assert not result.converged
    with pytest.raises(GprannError, match="start: no structure could be labelled: the force on atom"):
        gprann.explore(tables(reference={"max_force": 1e-6}, output={"folder": "none"}))


def test_single_networks_cannot_tell_what_is_informative(folder: Path) -> None:
    with pytest.raises(ConfigError, match="members = 1: a single network does not know how uncertain it is"):
        gprann.explore(tables(training={"members": 1}))
    assert (
        ExploreConfig.from_dict(tables(training={"members": 1}, choice={"rule": "random"})).training.members
        == 1
    )
    assert ExploreConfig.from_dict(tables()).training.forces
    assert ExploreConfig.from_dict({k: v for k, v in TABLES.items() if k != "training"}).training.members == 4


def test_the_command(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["init", "explore.toml", "--explore"]) == 0
    text = (folder / "explore.toml").read_text()
    assert ExploreConfig.from_dict(tomllib.loads(text)).reference.calculator == "emt"
    config = ExploreConfig.from_dict(tables(convergence={"generations": 1, "force_error": 1e-4}))
    (folder / "mine.toml").write_text(to_toml(config))
    assert main(["explore", "mine.toml", "-q"]) == 1  # not converged after one generation
    assert "not converged: generations = 1" in capsys.readouterr().out
    assert main(["explore", "missing.toml"]) == 2


def test_a_picture_is_drawn(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    ways = (Outcome(10, 0.01, "too hot", 1), Outcome(1000, 1.0, "", None))
    ones = [
        Generation(k, 10 + k, ways, None if k else 0.2, 3, 0.3, ((0, 1),), 3, ("absurd",), 20)
        for k in range(2)
    ]
    result = Exploration(tmp_path, tuple(ones), False, "generations = 2", 0.08)
    result.save(plots=True)
    assert (tmp_path / "generations.png").stat().st_size > 1000
    assert "* too hot" in str(result)
    assert ConvergenceOptions().force_error == result.force_error
