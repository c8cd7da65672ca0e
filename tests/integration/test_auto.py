"""`method = "auto"`: what it chooses, that choices of the user stay, and that every choice has a reason."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gprann
import samples
from gprann.config import Config, default_config, load_config
from gprann.config.template import to_toml
from gprann.pipeline import auto, run
from gprann.pipeline.auto import choose
from gprann.pipeline.checkpoints import Stages
from gprann.pipeline.choices import Candidate, Choice, Plan

FAST: dict[str, Any] = {
    "surrogate": {"kernel": "pairs", "length": 5.0, "energy_noise": 1e-8, "force_noise": 1e-8},
    "descriptor": {"radial_order": 4, "radial_cutoff": 4.0, "angular_order": 2, "angular_cutoff": 3.0},
    "training": {"hidden": [4], "iterations": 5},
}


def plan_of(folder: Path, data: gprann.Dataset, **sections: Any) -> Plan:
    config = Config.model_validate({"method": "auto", "data": {"train": "train.extxyz"}, **FAST, **sections})
    return choose(config, data, Stages(folder))


def reasons(plan: Plan) -> dict[str, Choice]:
    return {choice.what: choice for choice in plan.choices}


def test_candidates_are_judged_by_structures_left_out(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, samples.waters(30))
    assert plan.left_out == 6
    assert [candidate.name for candidate in plan.candidates][:2] == ["surrogate", "direct, chebyshev"]
    assert plan.config.method == "manual"
    assert reasons(plan)["augmentation.method"].by == "data"
    best = min(plan.candidates[1:], key=lambda candidate: candidate.score(Candidate("", 1.0, 1.0, 0.0)))
    assert (plan.config.augmentation.method == "gpr") == best.name.startswith("taught")
    assert plan.config.training.forces


@pytest.mark.parametrize(
    ("forces", "chosen"), [([0.1, 0.02, 0.01, 0.0099], 8), ([0.1, 0.02, 0.03], 4), ([0.1], 2)]
)
def test_copies_are_doubled_while_networks_improve(
    forces: list[float], chosen: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(auto, "_LABELS", 1.0)
    numbers: list[int] = []

    def judged(self: Any, way: Any, data: gprann.Dataset) -> Candidate:
        if not way.name.startswith("taught"):
            return Candidate(way.name, 1.0, 1.0, 0.0)
        numbers.append(way.augmentation.copies)
        return Candidate(way.name, 0.01, forces[min(len(numbers), len(forces)) - 1], 0.0)

    monkeypatch.setattr(auto._Chooser, "_try", judged)
    monkeypatch.setattr(auto, "augment", lambda data, teacher, **options: data)
    plan = plan_of(tmp_path, samples.waters(30))
    assert plan.config.augmentation.copies == chosen
    assert numbers == [2, 4, 8, 16][: len(numbers)]


def test_few_structures_are_all_used(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, samples.waters(8))
    assert (plan.left_out, plan.candidates) == (0, ())
    assert plan.config.augmentation.method == "gpr"
    assert plan.config.augmentation.forces
    assert plan.config.training.forces
    assert "too few" in reasons(plan)["augmentation.method"].reason


def test_without_forces_energies_alone_are_learned(tmp_path: Path) -> None:
    data = gprann.Dataset(structure.replace(forces=None) for structure in samples.waters(30))
    plan = plan_of(tmp_path, data)
    assert (plan.config.augmentation.method, plan.config.training.forces) == ("none", False)
    assert "no structure has forces" in reasons(plan)["training.forces"].reason


def test_some_forces_are_trained_on_directly(tmp_path: Path) -> None:
    data = gprann.Dataset(
        structure.replace(forces=None) if k % 2 else structure
        for k, structure in enumerate(samples.waters(30))
    )
    plan = plan_of(tmp_path, data)
    assert (plan.config.augmentation.method, plan.config.training.forces) == ("none", True)
    assert "forces of all structures" in reasons(plan)["augmentation.method"].reason


@pytest.mark.parametrize(
    ("sections", "key", "expected"),
    [
        ({"training": {"hidden": [3, 3], "iterations": 5}}, "training.model.hidden", (3, 3)),
        ({"training": {"hidden": [3], "iterations": 5, "members": 2}}, "training.members", 2),
        ({"descriptor": {"radial_order": 3}}, "descriptor.kind.radial_order", 3),
        ({"augmentation": {"copies": 3}}, "augmentation.copies", 3),
        ({"augmentation": {"displacement": 0.03}}, "augmentation.displacement", 0.03),
        ({"augmentation": {"policy": "sphere"}}, "augmentation.policy", "sphere"),
        ({"augmentation": {"method": "none"}}, "augmentation.method", "none"),
        ({"augmentation": {"method": "taylor"}}, "augmentation.method", "taylor"),
    ],
)
def test_what_the_user_sets_stays(sections: Any, key: str, expected: Any, tmp_path: Path) -> None:
    value: Any = plan_of(tmp_path, samples.waters(8), **sections).config
    for name in key.split("."):
        value = getattr(value, name)
    assert value == expected


def test_the_table_tells_what_is_given_by_the_user(tmp_path: Path) -> None:
    training = {"hidden": [3], "iterations": 2, "members": 2}
    plan = plan_of(tmp_path, samples.waters(8), training=training)
    given = {choice.what: choice.value for choice in plan.choices if choice.by == "user"}
    assert given["training.members"] == "2"
    assert given["training.hidden"] == "[3]"
    assert given["descriptor.radial_order"] == "4"
    assert {reasons(plan)[what].reason for what in given} == {"given by you"}
    assert len(reasons(plan)) == len(plan.choices)  # nothing twice
    assert {"augmentation.copies", "training.forces"} <= reasons(plan).keys() - given.keys()


def test_defaults_that_a_template_spells_out_are_not_given(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text(to_toml(default_config()))
    config = load_config(tmp_path / "config.toml")
    data = gprann.Dataset(structure.replace(forces=None) for structure in samples.waters(8))
    plan = choose(config, data, Stages(tmp_path))
    assert {choice.by for choice in plan.choices} == {"data"}


def test_each_descriptor_is_tried_where_none_is_given(tmp_path: Path) -> None:
    config: Any = {
        "method": "auto",
        "data": {"train": "train.extxyz"},
        "augmentation": {"method": "none"},
        "training": {"hidden": [4], "iterations": 5},
    }
    plan = choose(Config.model_validate(config), samples.waters(30), Stages(tmp_path))
    assert [candidate.name for candidate in plan.candidates] == ["direct, chebyshev", "direct, density"]
    best = min(plan.candidates, key=lambda candidate: candidate.score(Candidate("", 1.0, 1.0, 0.0)))
    assert plan.config.descriptor.kind.name == best.name.split(", ")[1]


def test_less_time_makes_smaller_networks_and_committees(tmp_path: Path) -> None:
    options: Any = {"training": {"iterations": 2}}
    sizes = []
    for number, minutes in enumerate((1e-6, 1000.0)):
        plan = plan_of(tmp_path / str(number), samples.waters(19), **options, resources={"time": minutes})
        sizes.append((plan.config.training.members, plan.config.training.model.hidden))  # type: ignore[attr-defined]
    assert sizes[0][0] == 1
    assert sizes[1][0] > 1
    assert sizes[0][1] < sizes[1][1]


def test_choices_are_kept_for_a_run_that_goes_on(tmp_path: Path) -> None:
    data = samples.waters(8)
    first = plan_of(tmp_path, data)
    record = tmp_path / "checkpoints" / "choices.json"
    before = record.read_bytes()
    assert plan_of(tmp_path, data) == first
    assert record.read_bytes() == before
    assert plan_of(tmp_path, data[:7]) != first  # other data


@pytest.mark.parametrize(
    ("text", "method"),
    [
        ("", "auto"),
        ("training.members = 2", "auto"),
        ("augmentation.copies = 2", "manual"),
        ("training.forces = true", "manual"),
        ('method = "auto"\naugmentation.copies = 2', "auto"),
        ('method = "manual"', "manual"),
    ],
)
def test_tables_that_say_how_keep_their_meaning(text: str, method: str, tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text(f'{text}\ndata.train = "train.extxyz"\n')
    assert load_config(tmp_path / "config.toml").method == method


def test_run_reports_its_choices_and_can_be_repeated_by_hand(tmp_path: Path) -> None:
    gprann.write(tmp_path / "train.extxyz", gprann.examples.hydrogen(9))
    (tmp_path / "config.toml").write_text(
        'data.train = "train.extxyz"\noutput.plots = false\n'
        'training.hidden = [3]\ntraining.iterations = 3\ntraining.members = 2\nsurrogate.kernel = "pairs"\n'
    )
    result = run(tmp_path / "config.toml")
    assert "\nchoices\n=======\n" in result.summary
    given = {choice["what"] for choice in result.metrics["choices"]["choices"] if choice["by"] == "user"}
    assert {"training.hidden", "training.iterations", "training.members", "surrogate.kernel"} <= given
    assert "given by you" in result.summary
    written = json.loads((result.folder / "report" / "metrics.json").read_text())
    assert written["choices"] == result.metrics["choices"]
    assert run(tmp_path / "config.toml").skipped == ("augmentation", "training", "report")
    manual = (result.folder / "config.toml").read_text()
    assert 'method = "manual"' in manual
    (tmp_path / "again.toml").write_text(manual.replace(f'"{result.folder}"', f'"{tmp_path / "again"}"'))
    again = run(tmp_path / "again.toml")
    ours, theirs = gprann.load(result.potential), gprann.load(again.potential)
    np.testing.assert_array_equal(ours.parameters, theirs.parameters)


def test_networks_learn_on_the_features_of_their_surrogate(tmp_path: Path) -> None:
    """The descriptor that a run writes is the surrogate's; a run that goes on trains on the same."""
    data = samples.waters(14)
    gprann.write(tmp_path / "train.extxyz", data)
    config = Config.model_validate(
        {
            "method": "manual",
            "data": {"train": str(tmp_path / "train.extxyz"), "test_fraction": 0.0},
            "surrogate": {"length": 8.0, "energy_noise": 1e-8, "force_noise": 1e-8},
            "descriptor": {"kind": "density", "features": 5},
            "augmentation": {"copies": 2, "displacement": 0.03, "forces": True},
            "training": {"hidden": [3], "iterations": 2, "forces": True},
            "output": {"folder": str(tmp_path / "out"), "plots": False},
        }
    )
    first = gprann.load(run(config).potential)
    assert isinstance(first.descriptor, gprann.ProjectedDescriptor)
    assert first.descriptor.size == 5
    surrogate = gprann.Surrogate(length=8.0, energy_noise=1e-8, force_noise=1e-8).fit(data)
    assert (
        surrogate.fingerprint.descriptor.base == first.descriptor.base
    )  # both with the cutoff the data chose
    (tmp_path / "out" / "potential.gprann").unlink()
    again = gprann.load(run(config).potential)
    np.testing.assert_array_equal(first.parameters, again.parameters)


@pytest.mark.parametrize(("slow", "chosen"), [(0.09, "fast"), (0.05, "slow")])
def test_slow_features_must_be_clearly_better(
    slow: float, chosen: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    labelled: list[int] = []

    def judged(self: Any, way: Any, data: gprann.Dataset) -> Candidate:
        error = {"direct": 1.0, "taught": 0.1}[way.name.split(",")[0]]
        if way.name == "taught, features of the surrogate":
            error = slow
            assert labelled[-1] == id(data)  # the copies are not labelled again
        labelled.append(id(data))
        return Candidate(way.name, error, error, 0.0)

    monkeypatch.setattr(auto._Chooser, "_try", judged)
    surrogate = {"length": 8.0, "energy_noise": 1e-8, "force_noise": 1e-8}
    data = {"train": "train.extxyz"}
    config = Config.model_validate({"method": "auto", "data": data, "surrogate": surrogate})
    config = config.replace(augmentation=config.augmentation.replace(copies=2, displacement=0.03))
    plan = choose(config, samples.waters(24), Stages(tmp_path))
    kind = plan.config.descriptor.kind
    assert plan.config.augmentation.method == "gpr"
    assert kind.changes() == ({"n_max": 4, "four_body": 0} if chosen == "fast" else {})
    assert ("slow" in reasons(plan)["descriptor.kind"].reason) == (chosen == "slow")
