"""Input of several commands: configurations, options of sections, structures, models and calculators."""

from __future__ import annotations

import argparse
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from gprann.errors import ConfigError
from gprann.explain import option_name

if TYPE_CHECKING:
    from gprann.baselines import CalculatorBaseline
    from gprann.data.structure import Dataset
    from gprann.options import Options
    from gprann.potential import Potential
    from gprann.surrogate import Surrogate, SurrogateSet

S = TypeVar("S", bound="Options")


def config_file(arguments: argparse.Namespace) -> str:
    """Return the configuration file of a command.

    Raises
    ------
    ConfigError
        If none was given: naming those in this folder, or how to make one.
    """
    if arguments.config is not None:
        return str(arguments.config)
    found = sorted(file.name for file in Path().glob("*.toml") if file.name != "pyproject.toml")
    command = f"gprann {arguments.command} {found[0] if found else 'config.toml'}"
    how = f"for example: {command}" if found else f"make one with: gprann init config.toml, then: {command}"
    raise ConfigError(f"{arguments.command}: give a configuration file; {how}")


def read_section(arguments: argparse.Namespace, section: type[S]) -> S:
    """Return a section of the options given for it."""
    prefix = f"{section.__name__}."
    given = {
        name.removeprefix(prefix): value for name, value in vars(arguments).items() if name.startswith(prefix)
    }
    for name, value in given.items():
        if isinstance(value, list) and any("=" in item for item in value):
            given[name] = {key: toml_value(text) for key, text in pairs(option_name(name), value).items()}
    return section.from_texts(given)


def pairs(option: str, items: Sequence[str]) -> dict[str, str]:
    """Return the mapping that NAME=VALUE arguments stand for."""
    pairs = [item.partition("=") for item in items]
    for item, (name, _, value) in zip(items, pairs, strict=True):
        if not (name and value):
            raise ConfigError(f"{option}: expected NAME=VALUE, got '{item}'")
    return {name: value for name, _, value in pairs}


def read_data(
    arguments: argparse.Namespace, sources: Sequence[str], require: Sequence[str] = ("energy",)
) -> Dataset:
    """Read structures with the options given for it."""
    from gprann.io import ReadOptions, read

    return read(list(sources), require=require, **read_section(arguments, ReadOptions).to_dict())


def check_output(path: str, suffixes: Sequence[str], option: str = "--output") -> None:
    """Refuse an output that could not be written, before the work is done."""
    target = Path(path).expanduser()
    if not target.absolute().parent.is_dir():
        raise ConfigError(f"{option}: the folder {target.parent} does not exist; make it first")
    if target.suffix.lower() not in suffixes:
        known = ", ".join(suffix or "a folder for ænet XSF files" for suffix in suffixes)
        raise ConfigError(f"{option}: {target} has the suffix '{target.suffix}'; expected {known}")


def calculator_options(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the keyword options of the calculator: of a TOML file, then those of the command line."""
    options: dict[str, Any] = {}
    if arguments.options_file is not None:
        file = Path(arguments.options_file).expanduser()
        try:
            options = tomllib.loads(file.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise ConfigError(f"--options-file: {file} cannot be read as TOML ({error})") from error
    return options | {name: toml_value(text) for name, text in pairs("--options", arguments.options).items()}


def toml_value(text: str) -> Any:
    """Return the number, truth value, text, list or table that a text stands for in TOML; else the text."""
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text
    return value if isinstance(value, bool | int | float | str | list | dict) else text


def load_model(
    arguments: argparse.Namespace, baseline: CalculatorBaseline | None = None
) -> Potential | Surrogate | SurrogateSet:
    """Return the model of a model file, or of networks of ænet; the baseline is the one that is asked for."""
    from gprann.formats.aenet import holds_networks, read_aenet
    from gprann.potential import load

    baseline = baseline or read_baseline(arguments)
    if not holds_networks(arguments.potential):
        return load(arguments.potential, baseline=baseline)
    if baseline is not None:
        raise ConfigError("--calculator has no effect: networks of ænet build on no calculator; leave it out")
    return read_aenet(arguments.potential)


def read_baseline(arguments: argparse.Namespace) -> CalculatorBaseline | None:
    """Return the calculator that is handed over beside a model file."""
    options = calculator_options(arguments)
    if arguments.calculator is None:
        if options:
            raise ConfigError("--options are those of the calculator: give --calculator")
        return None
    from gprann.baselines import CalculatorBaseline

    return CalculatorBaseline(calculator=arguments.calculator, options=options or None)
