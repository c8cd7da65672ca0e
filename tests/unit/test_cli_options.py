"""Every option of the commands that stands for a key of the configuration, with a valid value."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from typing import Any

import pytest

from gprann.active.select import SelectOptions
from gprann.cli import inputs
from gprann.cli.main import _parser, parse
from gprann.config import (
    AugmentationSection,
    DescriptorSection,
    ResourcesSection,
    SurrogateSection,
    TrainingSection,
)
from gprann.dynamics import MdOptions
from gprann.errors import ConfigError
from gprann.explain import keys
from gprann.io import ReadOptions
from gprann.labelling import LabelOptions
from gprann.options import Options
from gprann.properties.options import PropertyOptions

SECTIONS: dict[str, type[Options]] = {
    section.__name__: section
    for section in (
        AugmentationSection,
        DescriptorSection,
        LabelOptions,
        MdOptions,
        PropertyOptions,
        ReadOptions,
        ResourcesSection,
        SelectOptions,
        SurrogateSection,
        TrainingSection,
    )
}
COMMANDS = {
    "augment": ["a.extxyz", "-o", "b.extxyz"],
    "train": ["a.extxyz", "-o", "b.gprann"],
    "select": ["a.extxyz", "-o", "b.extxyz", "--train", "c.extxyz"],
    "md": ["a.gprann", "b.extxyz"],
    "properties": ["a.gprann", "--structure", "b.extxyz"],
    "label": ["a.extxyz", "-o", "b.extxyz", "--calculator", "emt"],
}
OTHER: dict[tuple[str, str], list[tuple[list[str], Any]]] = {
    ("AugmentationSection", "displacement"): [
        (["0.03"], 0.03),
        (["H=0.03", "C=0.01"], {"H": 0.03, "C": 0.01}),
    ],
    ("AugmentationSection", "order"): [(["1"], 1), (["2"], 2)],
    ("DescriptorSection", "angular_order"): [(["none"], None), (["5"], 5)],
    ("DescriptorSection", "weights"): [(["-1", "2"], ((-1.0, 2.0),))],
    ("DescriptorSection", "functions"): [
        (["[0, 2, 0, 0, 0.5, 0.0, 0.0, 1.0, 6.0]"], ((0, 2, 0, 0, 0.5, 0.0, 0.0, 1.0, 6.0),))
    ],
    ("SelectOptions", "count"): [(["3"], 3)],
    ("SurrogateSection", "soap"): [
        (["r_cut=4.5", "n_max=6", "centers=[0, 1]"], {"r_cut": 4.5, "n_max": 6, "centers": [0, 1]})
    ],
    ("TrainingSection", "baseline"): [(["reference_energies"], {"kind": "reference_energies"})],
    ("SurrogateSection", "baseline"): [(["reference_energies"], {"kind": "reference_energies"})],
    ("TrainingSection", "frozen"): [(["0"], (0,))],
    ("TrainingSection", "group_weights"): [(["slab=2"], {"slab": 2.0})],
    ("TrainingSection", "species_weights"): [(["H=0.5"], {"H": 0.5})],
    ("TrainingSection", "alpha"): [(["0.2"], 0.2)],
    ("TrainingSection", "stress"): [(["0.1"], 0.1)],
}
"""Values of keys whose example or default would not do."""
WITH = {
    ("DescriptorSection", "weights"): ["--species", "H", "O"],
    ("SelectOptions", "threshold"): ["--count", "1"],
    ("AugmentationSection", "hessians"): ["--order", "2"],
    ("MdOptions", "settling"): ["--false-alarm", "1e-10"],
    ("SurrogateSection", "soap"): ["--kernel", "soap"],
    ("SurrogateSection", "grid"): ["--hyperparameters", "grid"],
    **{
        ("TrainingSection", name): ["--forces"]
        for name in ("alpha", "force_fraction", "stress", "species_weights", "huber_force")
    },
}
"""Further options that a key needs."""


def options() -> Iterator[tuple[str, str, str, list[str], Any]]:
    """Every option of every command: command, section, key, its arguments and the value they stand for."""
    subparsers = _parser()[1]
    for command in COMMANDS:
        for action in subparsers[command]._actions:
            section, _, key = action.dest.partition(".")
            if key:
                for texts, value in OTHER.get((section, key)) or [usual(section, key, action)]:
                    yield command, section, key, texts, value


def usual(section: str, key: str, action: argparse.Action) -> tuple[list[str], Any]:
    """The example of a key, or its default."""
    field = keys(SECTIONS[section])[key]
    example = field.extra["example"]
    value: Any = field.field.default if example is None else example
    if action.nargs == 0:
        return [], True
    if isinstance(value, dict):
        return [f"{name}={item}" for name, item in value.items()], value
    if isinstance(value, list | tuple):
        return [str(item) for item in value], tuple(value)
    return [str(value)], value


@pytest.mark.parametrize(("command", "section", "key", "texts", "value"), list(options()))
def test_option(command: str, section: str, key: str, texts: list[str], value: Any) -> None:
    """Texts of the command line become the values that a configuration file has."""
    table = SECTIONS[section]
    given = ["--" + key.replace("_", "-"), *texts, *WITH.get((section, key), of_a_kind(table, key))]
    found = inputs.read_section(parse([command, *COMMANDS[command], *given]), table).to_dict()[key]
    value = json.loads(json.dumps(value))
    assert type(found) is type(value)
    assert found == ({**found, **value} if isinstance(found, dict) else value)


def of_a_kind(table: type[Options], key: str) -> list[str]:
    """The option that names the kind to which an option belongs, unless it is the default."""
    owners = keys(table)[key].owners
    if not owners or (owners[0][0], table.model_fields[owners[0][0]].default) in owners:
        return []
    return ["--" + owners[0][0].replace("_", "-"), owners[0][1]]


def test_there_are_options() -> None:
    """The list is that of the parsers: it must not become empty unnoticed."""
    assert len(list(options())) > 80


@pytest.mark.parametrize("text", ["3", "two", "1.0"])
def test_choice_that_is_none(text: str) -> None:
    arguments = parse(["augment", *COMMANDS["augment"], "--order", text])
    with pytest.raises(ConfigError, match=r"--order = .*: valid names: 1, 2|--order = .*: did you mean '1'"):
        inputs.read_section(arguments, AugmentationSection)
