"""The command line: commands, options and hints. Options of sections are made from the sections themselves."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence
from typing import Any, NoReturn, get_args, get_origin

from pydantic.fields import FieldInfo

from gprann.cli import commands
from gprann.config import (
    AugmentationSection,
    DescriptorSection,
    SurrogateSection,
    TrainingSection,
)
from gprann.config.template import key_facts, sentence
from gprann.errors import ConfigError, nearest_name
from gprann.evaluation.methods import METHODS
from gprann.explain import keys, option_name
from gprann.options import Options
from gprann.surrogate.sets.partition import MAX_SIZE
from gprann.version import __version__

__all__ = ["help_text", "parse"]

_DESCRIPTION = """\
Neural-network interatomic potentials from a few hundred first-principles energies and forces.
Units: Å, eV, eV/Å; energies are total energies per structure.
"""
_EPILOG = """\
first steps:
  gprann demo                     the first experiment of the paper, in a few seconds
  gprann init config.toml         write a commented configuration; name your files in it
  gprann run config.toml          from structures to an evaluated potential
"""


class _Parser(argparse.ArgumentParser):
    """A parser that raises instead of ending the process, and takes no abbreviations."""

    def __init__(self, **options: Any) -> None:
        super().__init__(allow_abbrev=False, formatter_class=argparse.RawDescriptionHelpFormatter, **options)

    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"{message}; see {self.prog} --help")


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Parse the command line.

    Returns
    -------
    argparse.Namespace
        With `run`, the function of the command, and `level`, from which messages are shown.

    Raises
    ------
    ConfigError
        With the nearest valid command or option.

    Examples
    --------
    >>> parse(["demo", "--seed", "3"]).seed
    3
    """
    parser, subparsers = _parser()
    names = list(subparsers)
    command = next((argument for argument in arguments if not argument.startswith("-")), None)
    if command is not None and command not in names and arguments[0] == command:
        raise ConfigError(f"unknown command '{command}'; {nearest_name(command, names)}")
    namespace, rest = parser.parse_known_args(list(arguments))
    if rest:
        known = parser if command is None else subparsers.get(command, parser)
        raise ConfigError(_unknown(rest, known, command))
    if not hasattr(namespace, "run"):
        raise ConfigError(f"a command is missing; {nearest_name('', names)}; see gprann --help")
    return namespace


def help_text() -> str:
    """Return the help of the command itself."""
    return _parser()[0].format_help()


def _unknown(rest: list[str], parser: argparse.ArgumentParser, command: str | None) -> str:
    options = [name for action in parser._actions for name in action.option_strings if name.startswith("--")]
    wrong = next((item.partition("=")[0] for item in rest if item.startswith("-")), None)
    if wrong is None:
        return f"{command}: unexpected argument '{rest[0]}'; see gprann {command} --help"
    hint = nearest_name(wrong, options)
    if not hint.startswith("did"):
        hint = f"see {parser.prog} --help"
    return f"{command or 'gprann'}: unknown option '{wrong}'; {hint}"


def _parser() -> tuple[_Parser, dict[str, argparse.ArgumentParser]]:
    parser = _Parser(prog="gprann", description=_DESCRIPTION, epilog=_EPILOG)
    parser.add_argument("--version", action="version", version=f"gprann {__version__}")
    group = parser.add_subparsers(title="commands", metavar="COMMAND", parser_class=_Parser)
    for add in (_demo, _init, _run, _compare, _augment, _train, _evaluate, _select, _label, _info):
        add(group)
    return parser, dict(group.choices)


def _command(group: Any, name: str, text: str, function: Any, level: int = logging.WARNING) -> _Parser:
    parser: _Parser = group.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
    parser.set_defaults(run=function, level=level)
    amount = parser.add_mutually_exclusive_group()
    for short, long, value, meaning in (
        ("-v", "--verbose", logging.DEBUG, "show all that is being done"),
        ("-q", "--quiet", logging.WARNING, "show warnings only"),
    ):
        amount.add_argument(short, long, dest="level", action="store_const", const=value, help=meaning)
    return parser


def _demo(group: Any) -> None:
    parser = _command(
        group,
        "demo",
        "the first experiment of the paper: potentials for H2 from seven structures",
        commands.demo,
    )
    parser.add_argument(
        "--seed", type=int, default=0, metavar="INT", help="seed of the committees (default 0)"
    )
    parser.add_argument(
        "--members", type=int, default=10, metavar="INT", help="potentials of a committee (default 10)"
    )
    parser.add_argument(
        "--output", default="gprann-demo", metavar="FOLDER", help="where results go (default gprann-demo)"
    )


def _init(group: Any) -> None:
    parser = _command(group, "init", "write a commented configuration", commands.init)
    parser.add_argument("file", nargs="?", default="config.toml", metavar="FILE", help="default: config.toml")
    parser.add_argument("--force", action="store_true", help="replace a file that exists")


def _run(group: Any) -> None:
    text = "the whole pipeline: read, check, augment, train, evaluate; goes on where it was interrupted"
    parser = _command(group, "run", text, commands.run, logging.INFO)
    parser.add_argument("config", metavar="CONFIG.toml", help="configuration, as gprann init writes it")


def _compare(group: Any) -> None:
    text = "train on energies, with Taylor and GPR copies, and on forces directly; compare on the test set"
    parser = _command(group, "compare", text, commands.compare, logging.INFO)
    parser.add_argument("config", metavar="CONFIG.toml", help="configuration with a test set")
    parser.add_argument(
        "--methods", nargs="+", metavar="NAME", help=f"some of {', '.join(METHODS)} (default all)"
    )


def _augment(group: Any) -> None:
    text = "add displaced copies, labelled with energies, to structures"
    parser = _command(group, "augment", text, commands.augment, logging.INFO)
    _input(parser)
    parser.add_argument(
        "-o", "--output", required=True, metavar="FILE", help=".extxyz file, or folder for ænet XSF"
    )
    parser.add_argument(
        "--label-next",
        metavar="FILE",
        help="file for those copies beyond the threshold that are worth labelling (default: they are left out)",
    )
    _section_options(parser, "copies", AugmentationSection, leave_out=("label_next",))
    _section_options(parser, "surrogate", SurrogateSection, leave_out=("descriptor", "soap"))


def _train(group: Any) -> None:
    parser = _command(
        group, "train", "train a potential on the energies of structures", commands.train, logging.INFO
    )
    _input(parser)
    parser.add_argument(
        "-o", "--output", required=True, metavar="FILE", help="model file, for example potential.gprann"
    )
    parser.add_argument(
        "--checkpoint", metavar="FOLDER", help="keep the states here, to go on after an interruption"
    )
    parser.add_argument(
        "--workers", type=int, metavar="INT", help="processes that train members side by side"
    )
    _section_options(parser, "training", TrainingSection)
    _section_options(parser, "descriptor", DescriptorSection)


def _evaluate(group: Any) -> None:
    parser = _command(group, "evaluate", "errors of a potential on structures with labels", commands.evaluate)
    parser.add_argument("potential", metavar="POTENTIAL", help="model file")
    parser.add_argument("data", nargs="+", metavar="DATA", help="files, folders or glob patterns")
    _keys(parser)
    parser.add_argument("--output", metavar="FOLDER", help="write tables, metrics and plots")


def _select(group: Any) -> None:
    text = "choose the structures that are most worth labelling next"
    parser = _command(group, "select", text, commands.select, logging.INFO)
    _input(parser)
    model = parser.add_mutually_exclusive_group(required=True)
    model.add_argument("--potential", metavar="FILE", help="committee whose uncertainty counts")
    model.add_argument(
        "--train", nargs="+", metavar="FILE", help="structures to fit surrogates to, of any compositions"
    )
    parser.add_argument(
        "--max-subset",
        type=int,
        metavar="INT",
        help=f"with --train: most structures of a surrogate (default {MAX_SIZE})",
    )
    parser.add_argument("--count", type=int, required=True, metavar="INT", help="structures wanted")
    parser.add_argument(
        "--threshold",
        type=float,
        default=0.0,
        metavar="X",
        help="leave out structures of a smaller standard deviation, in eV/atom (default 0)",
    )
    parser.add_argument(
        "-o", "--output", required=True, metavar="FILE", help=".extxyz file, or folder for ænet XSF"
    )
    _section_options(parser, "surrogate", SurrogateSection, leave_out=("descriptor",))


def _label(group: Any) -> None:
    text = "compute energies and forces with any ASE calculator; goes on where it was interrupted"
    parser = _command(group, "label", text, commands.label, logging.INFO)
    _input(parser)
    parser.add_argument(
        "-o", "--output", required=True, metavar="FILE", help=".extxyz file, which grows by each result"
    )
    parser.add_argument(
        "--calculator",
        required=True,
        metavar="NAME",
        help="emt, vasp, espresso, ...; tblite for GFN-xTB; or module:Class",
    )
    parser.add_argument(
        "--options",
        nargs="+",
        default=[],
        metavar="NAME=X",
        help="keyword arguments of the calculator, X as in TOML; paths must be absolute",
    )
    parser.add_argument("--options-file", metavar="FILE", help="TOML file with such arguments")
    for option, kind, default, meaning in (
        ("--workers", int, 1, "processes side by side (default 1)"),
        ("--retries", int, 1, "further attempts at a structure that failed (default 1)"),
        ("--timeout", float, None, "seconds that an attempt may take (default: any)"),
    ):
        parser.add_argument(option, type=kind, default=default, metavar=kind.__name__.upper(), help=meaning)
    parser.add_argument(
        "--scratch", metavar="FOLDER", help="where the calculators run (default: a temporary folder)"
    )
    parser.add_argument(
        "--merge", nargs=2, metavar=("TRAIN", "MERGED"), help="write TRAIN with the new structures to MERGED"
    )


def _info(group: Any) -> None:
    parser = _command(group, "info", "describe a model file, structures or a configuration", commands.info)
    parser.add_argument("file", metavar="FILE")


def _input(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("input", nargs="+", metavar="INPUT", help="files, folders or glob patterns")
    _keys(parser)


def _keys(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--keys",
        nargs="+",
        default=[],
        metavar="LABEL=NAME",
        help="names of labels in extended XYZ, energy=REF_energy",
    )


def _section_options(
    parser: argparse.ArgumentParser, title: str, section: type[Options], leave_out: Sequence[str] = ()
) -> None:
    """Add an option for each key of a section; values stay texts, which the section converts and checks."""
    group = parser.add_argument_group(f"options of the {title}")
    for name, key in keys(section).items():
        if name in leave_out:
            continue
        text, facts = sentence(key).replace("%", "%%"), key_facts(key).replace("%", "%%")
        options: dict[str, Any] = {
            "dest": f"{section.__name__}.{name}",
            "default": argparse.SUPPRESS,
            "help": f"{text} ({facts})" if facts else text,
        }
        if _holds(key.field, bool):
            group.add_argument(option_name(name), action="store_const", const="true", **options)
        elif _holds(key.field, tuple):
            group.add_argument(option_name(name), nargs="*", metavar="X", **options)
        elif _holds(key.field, dict):
            group.add_argument(option_name(name), nargs="+", metavar="NAME=X", **options)
        else:
            group.add_argument(option_name(name), metavar="X", **options)


def _holds(field: FieldInfo, kind: type) -> bool:
    """Return whether a key holds values of a kind, or none."""
    candidates = [field.annotation, *get_args(field.annotation)]
    return any(item is kind or get_origin(item) is kind or _annotated(item, kind) for item in candidates)


def _annotated(item: Any, kind: type) -> bool:
    inner = get_args(item)[:1] if hasattr(item, "__metadata__") else ()
    choices = [choice for entry in inner for choice in (entry, *get_args(entry))]
    return any(choice is kind or get_origin(choice) is kind for choice in choices)
