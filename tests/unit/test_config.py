"""Configuration: what is read, what is refused and in which words, and the template that cannot drift."""

from __future__ import annotations

import inspect
import re
import tomllib
from pathlib import Path

import numpy as np
import pytest

import gprann
from gprann import Baseline, Descriptor, Kernel, Model, Optimizer, Solver
from gprann.augmentation.policies import CopyOptions
from gprann.augmentation.taylor import TaylorOptions
from gprann.baselines import BASELINES, ReferenceEnergies
from gprann.config import (
    AugmentationSection,
    Config,
    DescriptorSection,
    SurrogateSection,
    TrainingSection,
    default_config,
    load_config,
    to_toml,
    toml_value,
)
from gprann.descriptors import DESCRIPTORS
from gprann.errors import ConfigError
from gprann.explain import keys
from gprann.options import option
from gprann.surrogate import Surrogate
from gprann.training import TrainingOptions

MINIMAL = 'data.train = "train.extxyz"\n'


@pytest.fixture(autouse=True)
def _kinds_of_the_package_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Other tests may have registered their own."""
    for base in (Baseline, Descriptor, Kernel, Model, Optimizer, Solver):
        registry = base.registry
        assert registry is not None
        own = {name: kind for name, kind in registry._kinds.items() if kind.__module__.startswith("gprann.")}
        monkeypatch.setattr(registry, "_kinds", own)


def load_text(folder: Path, text: str) -> Config:
    file = folder / "run.toml"
    file.write_text(text, encoding="utf-8")
    return load_config(file)


def refusal(folder: Path, text: str) -> str:
    """Return the message of the error, without the name of the file, which every line must begin with."""
    with pytest.raises(ConfigError) as caught:
        load_text(folder, text)
    prefix = f"{folder / 'run.toml'}: "
    message = str(caught.value)
    assert message.startswith(prefix)
    return message.replace(prefix, "")


class TestDefaults:
    """Defaults are those of the Python interface; no key of it is missing."""

    def test_training(self) -> None:
        section = TrainingSection()
        assert section.options() == {}
        assert set(TrainingSection.model_fields) - {"start_from"} == set(TrainingOptions.model_fields)

    def test_descriptor(self) -> None:
        built = DescriptorSection().build(["C", "H", "O"])
        assert built.to_dict() == gprann.ChebyshevDescriptor(["C", "H", "O"]).to_dict()
        assert {"kind", *gprann.ChebyshevDescriptor.model_fields} <= set(keys(DescriptorSection))

    def test_the_baseline_is_that_of_the_training_too(self) -> None:
        own = ReferenceEnergies(energies={"H": -1.0})
        content = {
            "data": {"train": "a"},
            "baseline": {"kind": "reference_energies", "energies": {"H": -1.0}},
        }
        config = Config.from_dict(content)
        assert config.baseline == config.training.baseline == own
        assert Config.from_dict(tomllib.loads(to_toml(config))) == config
        content["training"] = {"baseline": {"kind": "reference_energies"}}
        assert Config.from_dict(content).training.baseline == ReferenceEnergies()

    def test_descriptors_of_users_have_a_section(self) -> None:
        class Gaussians(gprann.ChebyshevDescriptor):
            name = "gaussians"
            width: float = option("Width.", 1.0, unit="Å", gt=0)

        DESCRIPTORS.register(Gaussians)
        try:
            section = DescriptorSection.from_dict({"kind": "gaussians", "width": 2.0, "radial_order": 3})
            built = section.build(["H"])
            assert isinstance(built, Gaussians)
            assert (built.width, built.radial_order) == (2.0, 3)
            with pytest.raises(ConfigError, match="width belongs to kind = 'gaussians', not to 'chebyshev'"):
                DescriptorSection(width=2.0)
            assert "# With kind gaussians: width.\n# width = 1.0  # Å, default 1.0" in to_toml(
                default_config()
            )
        finally:
            del DESCRIPTORS._kinds["gaussians"]

    def test_surrogate(self) -> None:
        parameters = inspect.signature(Surrogate).parameters
        section = SurrogateSection()
        assert section.changes() == {}
        assert set(keys(SurrogateSection)) < set(parameters)
        assert set(parameters) - set(keys(SurrogateSection)) == {"seed"}

    def test_augmentation(self) -> None:
        section = AugmentationSection()
        assert section.copy_options() == CopyOptions()
        assert section.taylor_options() == TaylorOptions()
        gpr = set(inspect.signature(gprann.augment).parameters)
        assert set(CopyOptions.model_fields) < gpr
        assert set(TaylorOptions.model_fields) < set(inspect.signature(gprann.taylor_augment).parameters)

    def test_descriptor_of_the_surrogate_has_no_zero_weight(self) -> None:
        assert 0 not in DescriptorSection().build(["C", "H", "O"], for_kernel=True).channels
        assert 0 in DescriptorSection().build(["C", "H", "O"]).channels


class TestReading:
    def test_values_arrive(self, tmp_path: Path) -> None:
        config = load_text(
            tmp_path,
            """
            output.folder = "out"
            [data]
            train = ["a/*.xsf", "b.extxyz"]
            test = "~/c.extxyz"
            keys = { energy = "E0" }
            [descriptor]
            angular_order = "none"
            radial_cutoff = 8
            weights = [1, 2]
            species = ["H", "O"]
            [training]
            hidden = [7, 5]
            reference_energies = { H = -13, O = -2043.5 }
            """,
        )
        assert config.data.train == (str(tmp_path / "a/*.xsf"), str(tmp_path / "b.extxyz"))
        assert config.data.test == (str(Path("~/c.extxyz").expanduser()),)
        assert config.output.folder == str(tmp_path / "out")
        assert config.data.keys == {"energy": "E0"}
        assert (config.descriptor.kind.angular_order, config.descriptor.kind.radial_cutoff) == (None, 8.0)
        assert np.array_equal(config.descriptor.build(()).channels, [[1, 1], [1, 2]])
        assert config.training.model.hidden == (7, 5)
        assert config.training.reference_energies == {"H": -13.0, "O": -2043.5}

    def test_a_byte_order_mark_is_no_error(self, tmp_path: Path) -> None:
        file = tmp_path / "run.toml"
        file.write_bytes(b"\xef\xbb\xbf" + MINIMAL.encode())
        assert load_config(file).data.train == (str(tmp_path / "train.extxyz"),)

    def test_sections_cannot_be_changed(self) -> None:
        with pytest.raises(ValueError, match="frozen"):
            default_config().training.members = 3  # type: ignore[misc]


class TestRefusals:
    """Every message names the key, what was expected and what came, or the nearest valid name."""

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("trainig.members = 3", "trainig: unknown key; did you mean 'training'?"),
            ("training.optimiser = 'lm'", "training.optimiser: unknown key; did you mean 'optimizer'?"),
            (
                "surrogate.descriptor.radial_ordr = 3",
                "surrogate.descriptor.radial_ordr: unknown key; did you mean 'radial_order'?",
            ),
            ("augmentation.members = 3", "augmentation.members: unknown key; it belongs to [training]"),
            ("members = 3", "members: unknown key; it belongs to [training]"),
            ("training.optimizer = 'adam'", "training.optimizer = \"adam\": did you mean 'adamw'?"),
            ("surrogate.kernel = 'atms'", "surrogate.kernel = \"atms\": did you mean 'atoms'?"),
            ("augmentation.method = 'tailor'", "augmentation.method = \"tailor\": did you mean 'taylor'?"),
            ("augmentation.method = 1", "augmentation.method = 1: valid names: gpr, taylor, none"),
            ("training.members = 'ten'", 'training.members: expected a whole number, got "ten"'),
            ("training.members = true", "training.members: expected a whole number, got true"),
            ("training.members = 2.5", "training.members: expected a whole number, got 2.5"),
            ("training.hidden = 10", "training.hidden: expected a list, got 10"),
            ("training.hidden = [10, 'x']", 'training.hidden[1]: expected a whole number, got "x"'),
            ("training.per_atom = 1", "training.per_atom: expected true or false, got 1"),
            ("training.ridge = '1e-6'", 'training.ridge: expected a number, got "1e-6"'),
            ("training.ridge = nan", "training.ridge: expected a finite number, got NaN"),
            (
                "descriptor.angular_order = 'non'",
                'descriptor.angular_order: expected a whole number or "none", got "non"',
            ),
            ("output.folder = 3", "output.folder: expected a text in quotes, got 3"),
            ("output.folder = ''", 'output.folder: expected a name, got ""'),
            ("resources = 4", "resources: expected a table of keys, got 4"),
            ("data.keys = { energie = 'E' }", "data.keys: unknown label 'energie'; did you mean 'energy'?"),
            ("data.keys = 'E'", 'data.keys: expected a table: { name = value, ... }, got "E"'),
            ("training.members = 0", "training.members = 0: expected 1 or more"),
            ("training.validation = 1.0", "training.validation = 1.0: expected a fraction from 0 to below 1"),
            (
                "surrogate.species_lengths = 'likely'",
                "surrogate.species_lengths: expected \"likelihood\" or a table of factors, { H = 0.7 }, got 'likely'",
            ),
            (
                "surrogate.species_lengths = { H = true }",
                'surrogate.species_lengths: expected "likelihood" or a table of factors, { H = 0.7 }, '
                "got {'H': True}",
            ),
            (
                "surrogate.species_lengths.H = -1",
                "surrogate.species_lengths: H = -1: expected a positive number",
            ),
            ("surrogate.grid.length = 4", "surrogate.grid.length: expected a list, got 4"),
            (
                "surrogate = { hyperparameters = 'grid', grid = { lenght = [1] } }",
                "surrogate.grid.lenght: unknown key; did you mean 'length'?",
            ),
            ("surrogate.length = -1", "surrogate.length = -1: expected a positive number"),
            (
                "descriptor.radial_cutoff = 0",
                "descriptor.radial_cutoff = 0: expected a positive number in Å",
            ),
            ("descriptor.species = ['H', 'Xx']", "descriptor.species: 'Xx' is not a chemical element"),
            ("augmentation.copies = 0", "augmentation.copies = 0: expected 1 or more"),
            (
                "augmentation.displacement = 0",
                "augmentation.displacement = 0.0: expected a positive length in Å",
            ),
            (
                "augmentation.displacement = true",
                "augmentation.displacement: expected a length or a table of lengths, { O = 0.02, H = 0.03 }, "
                "got True",
            ),
            (
                "augmentation.displacement = { O = -1 }",
                "augmentation.displacement = {'O': -1.0}: expected a length in Å, 0 or more, for O",
            ),
            (
                "augmentation.displacement = 0.02\naugmentation.policy = 'md'",
                "augmentation.displacement = 0.02: the policy 'md' takes its size from the temperature; "
                "leave displacement out",
            ),
            (
                "augmentation.policy = 'gausian'",
                "augmentation.policy = \"gausian\": did you mean 'gaussian'?",
            ),
            (
                "augmentation.min_distance = 1.0",
                "augmentation.min_distance = 1.0: expected a fraction from 0 to below 1",
            ),
            (
                "augmentation.method = 'taylor'\naugmentation.forces = true",
                "augmentation.forces = true: a Taylor expansion gives energies alone; "
                'use method "gpr", or leave it out',
            ),
            (
                "augmentation.label_next = 'Augmented.extxyz'",
                "augmentation.label_next = 'Augmented.extxyz': the training structures are written to this file; "
                "give another name",
            ),
            (
                "augmentation.label_next = 'a/b.extxyz'",
                'augmentation.label_next: expected the name of an .extxyz file, without a folder, got "a/b.extxyz"',
            ),
        ],
    )
    def test_one_error(self, tmp_path: Path, text: str, message: str) -> None:
        assert refusal(tmp_path, text + "\n" + MINIMAL) == message

    def test_all_errors_are_named_at_once(self, tmp_path: Path) -> None:
        message = refusal(tmp_path, "training.optimiser = 'lm'\ntraining.members = 0.5\n" + MINIMAL)
        assert [line.partition(":")[0] for line in message.splitlines()] == [
            "training.members",
            "training.optimiser",
        ]

    def test_training_structures_are_required(self, tmp_path: Path) -> None:
        assert refusal(tmp_path, "").startswith("data: is missing; begin with")
        assert refusal(tmp_path, "[data]").startswith("data.train: is missing;")
        assert refusal(tmp_path, "data.train = []").startswith("data.train: expected at least one entry")

    def test_no_toml(self, tmp_path: Path) -> None:
        assert "line 2, column 9" in refusal(tmp_path, "[data]\ntrain = train.extxyz")
        (tmp_path / "run.toml").write_bytes(b"\xff\xfe\x00\x01")
        with pytest.raises(ConfigError, match=r"run\.toml: is not a text file in UTF-8"):
            load_config(tmp_path / "run.toml")

    def test_other_files_are_told_what_is_expected(self, tmp_path: Path) -> None:
        expected = "a configuration is expected here, gprann init writes one$"
        for name, content in (("train.extxyz", b"2\nenergy=1.0\n"), ("potential.gprann", b"PK\xff\xfe")):
            (tmp_path / name).write_bytes(content)
            with pytest.raises(ConfigError, match=rf"{name}: is not .*; {expected}"):
                load_config(tmp_path / name)

    @pytest.mark.parametrize("table", ["baseline", "training.baseline"])
    def test_reference_energies_are_given_once(self, table: str, tmp_path: Path) -> None:
        text = f'{MINIMAL}\n{table} = {{ kind = "reference_energies" }}\n'
        message = refusal(tmp_path, text + "training.reference_energies = { H = -13.6 }")
        assert message.endswith("reference_energies: the baseline has some already; give them once")

    def test_missing_file(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match=r"none\.toml: no such file; make one with: gprann init"):
            load_config(tmp_path / "none.toml")
        (tmp_path / "config.toml").write_text(MINIMAL)
        with pytest.raises(ConfigError, match=r"did you mean '.*config\.toml'"):
            load_config(tmp_path / "confg.toml")
        with pytest.raises(ConfigError, match="is a folder"):
            load_config(tmp_path)


class TestTemplate:
    def test_is_the_default_configuration(self) -> None:
        content = tomllib.loads(to_toml(default_config()))
        assert Config.model_validate(content) == default_config()

    def test_lists_every_key_with_its_unit(self) -> None:
        text = to_toml(default_config())
        checked = 0
        assert "\n# [baseline]\n# kind = " in text
        for name, field in Config.model_fields.items():
            if name in ("baseline", "method"):
                continue
            assert f"\n[{name}]\n" in text
            for key in keys(field.annotation).values():  # type: ignore[arg-type]
                if key.name == "descriptor" or key.extra["table"]:
                    assert f"\n# [{name}.{key.name}]\n" in text
                    continue
                lines = re.findall(rf"^(?:# )?{key.name} = .*$", text, re.MULTILINE)
                assert lines, key
                assert not key.extra["unit"] or any(f"# {key.extra['unit']}" in line for line in lines), key
                checked += 1
        assert checked > 70

    def test_keys_that_are_not_set_can_be_switched_on(self) -> None:
        """Every commented key is a valid example once the sign in front of it is removed, with the kind it is of."""
        text = re.sub(r"^# (\w+ = |\[)", r"\1", to_toml(default_config()), flags=re.MULTILINE)
        tables = tomllib.loads(text)
        for table in (tables, tables["surrogate"], tables["training"]):
            shown = table["baseline"]
            own = {key: shown.pop(key) for key in ("kind", "energies")}
            for kind in BASELINES:  # of each kind all that the table shows of it, as one baseline
                options = {key: shown.pop(key) for key in keys(BASELINES[kind]) if key in shown}
                options |= {"shape": "gaussian"} if "widths" in options else {}  # points have no widths
                if "damping" in options:  # instead of a functional
                    assert BASELINES.from_dict({"kind": kind, "damping": options.pop("damping")}).name == kind
                assert BASELINES.from_dict({"kind": kind, **options}).name == kind
            assert not shown
            table["baseline"] = own
        grid = tables["surrogate"].pop("grid")  # excludes hyperparameters that are given
        SurrogateSection(hyperparameters="grid", grid=grid)
        energies = tables["training"].pop("reference_energies")  # excludes a baseline that has some
        TrainingSection(reference_energies=energies)
        store = tables["training"].pop("store")  # excludes errors that count linearly
        assert TrainingSection(store=store).store
        shown_alone = {"reference_energies", "store"}
        nested, known = tables["surrogate"]["descriptor"], keys(DescriptorSection)
        for key in [
            key for key in nested if known[key].owners and known[key].owners[-1][1] != nested["kind"]
        ]:
            value = nested.pop(key)
            DescriptorSection.model_validate({"kind": known[key].owners[-1][1], key: value})
        of_kinds = []
        for name in ("surrogate", "training", "descriptor"):
            own = keys(Config.model_fields[name].annotation)  # type: ignore[arg-type]
            for key in [key for key in tables[name] if own[key].owners]:
                of_kinds.append((name, key, tables[name].pop(key), own[key].owners[-1]))
        assert len(of_kinds) > 20
        for name, key, value, (what, kind) in of_kinds:
            made = Config.model_validate(tables | {name: {**tables[name], what: kind, key: value}})
            assert key in keys(type(getattr(getattr(made, name), what)))
        config = Config.model_validate(tables)
        assert config.surrogate.descriptor is not None
        assert config.data.test is not None
        for section in (config.training, config.augmentation, config.resources):
            for name, value in section:
                assert value is not None or name in shown_alone, name

    def test_any_configuration_can_be_written_and_read(self, tmp_path: Path) -> None:
        config = load_text(
            tmp_path,
            """
            data.train = ["a b.xsf", 'c"d\\e.extxyz', "ä\\u007f.xyz"]
            data.keys = { energy = "REF energy" }
            descriptor.angular_order = "none"
            surrogate.descriptor.weights = [[1, -1.5]]
            surrogate.descriptor.species = ["H", "O"]
            surrogate.species_lengths = "likelihood"
            training.hidden = []
            training.reference_energies = { H = -13.6 }
            training.ridge = 3e-7
            output.plots = false
            """,
        )
        for comments in (True, False):
            assert load_text(tmp_path, to_toml(config, comments=comments)) == config

    def test_values(self) -> None:
        value = {"odd name": [1, 2.5, "x"], "plain": True}
        assert tomllib.loads(f"value = {toml_value(value)}")["value"] == value


class TestOptions:
    """Options of the command line are texts."""

    def test_are_converted(self) -> None:
        section = TrainingSection.from_texts({"hidden": ["5", "5"], "ridge": "1e-6", "per_atom": "true"})
        assert (section.model.hidden, section.optimizer.ridge, section.per_atom) == ((5, 5), 1e-6, True)
        assert DescriptorSection.from_texts({"angular_order": "none"}).kind.angular_order is None
        assert DescriptorSection.from_texts({"species": ["H", "O"], "weights": ["1", "2"]}).kind.weights == (
            (1, 2),
        )

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"members": "ten"}, '--members: expected a whole number, got "ten"'),
            ({"members": "0"}, "--members = 0: expected 1 or more"),
            ({"optimizer": "adamw", "batch_size": "0"}, "--batch-size = 0: expected 1 or more"),
            ({"optimizer": "adam"}, "--optimizer = \"adam\": did you mean 'adamw'?"),
        ],
    )
    def test_errors_name_the_option(self, options: dict[str, str], message: str) -> None:
        with pytest.raises(ConfigError) as caught:
            TrainingSection.from_texts(options)
        assert str(caught.value) == message
