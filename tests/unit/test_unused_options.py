"""Options that would have no effect are refused; `gprann compare`, which changes the method, leaves them out."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import pytest

import gprann
import samples
from gprann.cli.main import main
from gprann.config import AugmentationSection, Config, SurrogateSection
from gprann.errors import ConfigError
from gprann.pipeline import augment_data, run
from gprann.pipeline.comparison import _variant

KEYS: list[tuple[dict[str, Any], str]] = [
    (
        {"method": "taylor", "policy": "md"},
        'policy = md: has no effect, it belongs to the method "gpr", not to "taylor"',
    ),
    ({"method": "taylor", "threshold": 0.1}, "threshold = 0.1: has no effect"),
    ({"method": "taylor", "temperature": 300.0}, "temperature = 300.0: has no effect"),
    ({"method": "taylor", "steps": 5}, "steps = 5: has no effect"),
    ({"method": "taylor", "label_next": "x.xyz"}, "label_next = x.xyz: has no effect"),
    ({"method": "taylor", "max_subset": 5}, "max_subset = 5: has no effect, there is no surrogate"),
    ({"method": "taylor", "strategy": "A", "copies": 5}, "copies = 5: has no effect, strategy A makes six"),
    ({"method": "taylor", "hessians": "/h.npz"}, "hessians = /h.npz: has no effect, an expansion of order 1"),
    ({"order": 2}, 'order = 2: has no effect, it belongs to the method "taylor", not to "gpr"'),
    ({"strategy": "A"}, "strategy = A: has no effect"),
    (
        {"temperature": 300.0},
        "temperature = 300.0: has no effect, the policy 'gaussian' takes its size from the",
    ),
    (
        {"policy": "sphere", "steps": 5},
        "steps = 5: has no effect, it belongs to the policies 'md' and 'mixture', not to 'sphere'",
    ),
]


@pytest.mark.parametrize(("options", "message"), KEYS)
def test_keys_of_the_configuration(
    options: dict[str, Any], message: str, tmp_path: Path, capsys: Any
) -> None:
    """Refused by a run, by the command and in Python, each with its own spelling."""
    gprann.write(tmp_path / "train.extxyz", gprann.examples.hydrogen(7))
    lines = [f"augmentation.{name} = {value!r}" for name, value in options.items()]
    config = tmp_path / "c.toml"
    config.write_text("\n".join(['data.train = "train.extxyz"', *lines]))
    with pytest.raises(ConfigError) as error:
        run(config)
    assert str(error.value).startswith(f"{config}: augmentation.{message}")
    assert not (tmp_path / "results").exists()
    arguments = [
        text for name, value in options.items() for text in ("--" + name.replace("_", "-"), str(value))
    ]
    if "label_next" not in options:
        output = str(tmp_path / "a.extxyz")
        assert main(["augment", str(tmp_path / "train.extxyz"), "-o", output, *arguments]) == 2
        name, _, rest = message.partition(" ")
        assert f"gprann: --{name.replace('_', '-')} {rest}" in capsys.readouterr().err
    with pytest.raises(ConfigError) as error:
        augment_data(gprann.examples.hydrogen(7), AugmentationSection(**options), Config.model_validate(
            {"data": {"train": "x"}}).surrogate)  # fmt: skip
    assert str(error.value).startswith(message)


def test_a_command_that_would_make_no_copies_is_refused(tmp_path: Path, capsys: Any) -> None:
    gprann.write(tmp_path / "train.extxyz", gprann.examples.hydrogen(7))
    output = tmp_path / "a.extxyz"
    assert main(["augment", str(tmp_path / "train.extxyz"), "-o", str(output), "--method", "none"]) == 2
    assert "gprann: --method = none: has no effect, no copies would be made" in capsys.readouterr().err
    assert not output.exists()


def test_what_has_an_effect_is_taken() -> None:
    for options in (
        {"method": "taylor", "order": 2, "max_subset": 5, "hessians": None},
        {"method": "taylor", "strategy": "B", "copies": 5, "displacement": 0.02, "min_distance": 0.5},
        {"policy": "md", "steps": 50, "temperature": 100.0, "threshold": 0.1},
        {"method": "none", "copies": 5, "order": 2},
        {"policy": "gaussian", "steps": 100, "order": 1},  # as the template of gprann init has them
    ):
        AugmentationSection(**options).check_use(SurrogateSection())


SURROGATES: list[tuple[dict[str, Any], bool]] = [
    ({"method": "taylor"}, True),
    ({"method": "taylor", "order": 2, "hessians": "/h.npz"}, True),
    ({"method": "taylor", "order": 2}, False),
    ({"method": "none"}, False),  # switched off, whatever else is set
    ({}, False),
]


@pytest.mark.parametrize(("options", "refused"), SURROGATES)
def test_options_of_a_surrogate_that_is_not_used(options: dict[str, Any], refused: bool) -> None:
    augmentation = AugmentationSection(**options)
    augmentation.check_use(SurrogateSection(kernel="atoms"))
    for given, message in (
        ({"kernel": "pairs"}, "surrogate.kernel = pairs: has no effect, there is no surrogate; leave it out"),
        ({"memory": 1.0}, "surrogate.memory = 1.0: has no effect, there is no surrogate; leave it out"),
    ):
        with pytest.raises(ConfigError) if refused else contextlib.nullcontext() as error:
            augmentation.check_use(
                SurrogateSection.model_validate(given), lambda section, name: f"{section}.{name}"
            )
        assert error is None or str(error.value) == message


def test_options_of_a_surrogate_in_files_and_commands(tmp_path: Path, capsys: Any) -> None:
    gprann.write(tmp_path / "train.extxyz", gprann.examples.hydrogen(7))
    config = tmp_path / "c.toml"
    taylor = 'data.train = "train.extxyz"\naugmentation.method = "taylor"\nresources.memory = 2\n'
    config.write_text(taylor + 'surrogate.kernel = "pairs"')
    with pytest.raises(ConfigError) as error:
        run(config)
    assert str(error.value).startswith(f"{config}: surrogate.kernel = pairs: has no effect, there is no surr")
    words = ["augment", str(tmp_path / "train.extxyz"), "-o", str(tmp_path / "a.extxyz")]
    assert main([*words, "--method", "taylor", "--length", "3"]) == 2
    assert "gprann: --length = 3.0: has no effect, there is no surrogate" in capsys.readouterr().err
    assert not (tmp_path / "a.extxyz").exists()
    # What the memory leaves a surrogate is no option of the user's.
    config.write_text(
        taylor + "descriptor.radial_cutoff = 4.0\ntraining.iterations = 2\noutput.plots = false"
    )
    assert run(config).skipped == ()


def test_compare_takes_for_each_method_what_it_has() -> None:
    config = Config.model_validate(
        {
            "data": {"train": "a.xyz", "test": "b.xyz"},
            "augmentation": {
                "policy": "normal_modes", "temperature": 200.0, "threshold": 0.1, "copies": 7,
                "order": 2, "strategy": "A", "seed": 3,
            },
            "surrogate": {"kernel": "pairs"},
        }
    )  # fmt: skip
    taylor = _variant(config, "taylor").augmentation
    assert taylor == AugmentationSection(method="taylor", order=2, strategy="A", seed=3)
    gpr = _variant(config, "gpr").augmentation
    assert gpr == AugmentationSection(
        policy="normal_modes", temperature=200.0, threshold=0.1, copies=7, seed=3
    )
    for name in ("energies", "taylor", "gpr", "direct"):
        variant = _variant(config, name)
        variant.augmentation.check_use(variant.surrogate)
        assert variant.surrogate == (config.surrogate if name in ("taylor", "gpr") else SurrogateSection())
    first = config.model_copy(update={"augmentation": AugmentationSection()})
    variant = _variant(first, "taylor")
    variant.augmentation.check_use(variant.surrogate)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"temperature": 300.0}, "temperature = 300.0: has no effect, the policy 'gaussian'"),
        ({"steps": 50}, "steps = 50: has no effect"),
        ({"policy": "normal_modes", "steps": 50}, "not to 'normal_modes'"),
        ({"exponent": 2.0}, "exponent belongs to kernel = 'pairs' or 'auto', not to 'atoms'"),
        ({"cutoff": 5.0}, "cutoff belongs to kernel = 'pairs' or 'auto', not to 'atoms'"),
        (
            {"kernel": "cartesian", "cutoff": 5.0},
            "cutoff belongs to kernel = 'pairs' or 'auto', not to 'cartesian'",
        ),
        (
            {"hyperparameters": "k_fold", "length": 8.0, "energy_noise": 1e-8, "force_noise": 1e-8},
            "hyperparameters = 'k_fold': has no effect, all are given; leave it out",
        ),
        ({"solver": "cholesky", "inducing": 5}, "inducing belongs to solver = .*'auto', not to 'cholesky'"),
        ({"solver": "cholesky", "tolerance": 1e-6}, "tolerance belongs to solver = 'conjugate_gradient'"),
        ({"solver": "inducing", "tolerance": 1e-6}, "not to 'inducing'"),
    ],
)
def test_options_in_python(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        gprann.augment(samples.waters(3), copies=2, **options)


def test_options_of_subsets_with_a_fitted_surrogate() -> None:
    data = gprann.examples.hydrogen(7)
    surrogate = gprann.Surrogate(kernel="pairs", exponent=2.0, cutoff=6.0).fit(data)
    with pytest.raises(ConfigError, match="max_subset = 5: has no effect, a fitted surrogate was given"):
        gprann.augment(data, surrogate, max_subset=5)
    with pytest.raises(ConfigError, match="copies = 5: has no effect, strategy A"):
        gprann.taylor_augment(data, strategy="A", copies=5)
