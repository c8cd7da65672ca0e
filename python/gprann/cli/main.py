"""The command `gprann`: how it reads its arguments, and how commands end."""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Any, NoReturn

from gprann.cli.answer import Answer, failure
from gprann.cli.arguments import COMMANDS, LIGHT, MODULES
from gprann.cli.console import messages, show, show_error
from gprann.errors import ConfigError, DataError, GprannError, nearest_name

_DESCRIPTION = """\
Neural-network interatomic potentials from a few hundred first-principles energies and forces.
Units: Å, eV, eV/Å; energies are total energies per structure.
"""
_EPILOG = """\
first steps:
  gprann demo                     the first experiment of the paper, in half a minute
  gprann init config.toml         write a commented configuration; name your files in it
  gprann run config.toml          from structures to an evaluated potential
"""


class _Parser(argparse.ArgumentParser):
    """A parser that raises instead of ending the process, and takes no abbreviations."""

    def __init__(self, **options: Any) -> None:
        super().__init__(allow_abbrev=False, formatter_class=argparse.RawDescriptionHelpFormatter, **options)

    def _print_message(self, message: str, file: Any = None) -> None:  # noqa: ARG002
        if message:
            show(message)

    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"{message}; see {self.prog} --help")


class _Version(argparse.Action):
    """Show the version; finding it out takes longer than all the rest, and nothing else needs it."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        from gprann.version import __version__

        show(f"gprann {__version__}")
        parser.exit()


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Parse the command line.

    Returns
    -------
    argparse.Namespace
        With `command`, its name, and `level`, from which messages are shown.

    Raises
    ------
    ConfigError
        With the nearest valid command or option.

    Examples
    --------
    >>> parse(["demo", "--seed", "3"]).seed
    3
    """
    command = next((argument for argument in arguments if not argument.startswith("-")), None)
    if command is not None and command not in COMMANDS and arguments[0] == command:
        raise ConfigError(f"unknown command '{command}'; {nearest_name(command, COMMANDS)}")
    parser, subparsers = _parser(command or "")
    namespace, rest = parser.parse_known_args(list(arguments))
    if rest:
        known = parser if command is None else subparsers.get(command, parser)
        raise ConfigError(_unknown(rest, known, command))
    if namespace.command is None:
        raise ConfigError(f"a command is missing; {nearest_name('', COMMANDS)}; see gprann --help")
    return namespace


def help_text() -> str:
    """Return the help of the command itself."""
    return _parser("")[0].format_help()


def _unknown(rest: list[str], parser: argparse.ArgumentParser, command: str | None) -> str:
    options = [name for action in parser._actions for name in action.option_strings if name.startswith("--")]
    wrong = next((item.partition("=")[0] for item in rest if item.startswith("-")), None)
    if wrong is None:
        return f"{command}: unexpected argument '{rest[0]}'; see gprann {command} --help"
    hint = nearest_name(wrong, options)
    if not hint.startswith("did"):
        hint = f"see {parser.prog} --help"
    return f"{command or 'gprann'}: unknown option '{wrong}'; {hint}"


def _parser(command: str | None = None) -> tuple[_Parser, dict[str, argparse.ArgumentParser]]:
    """Return the parser and those of the commands by their names; of one `command`, the others know no options."""
    parser = _Parser(prog="gprann", description=_DESCRIPTION, epilog=_EPILOG)
    parser.add_argument("--version", action=_Version, nargs=0, help="show program's version number and exit")
    group = parser.add_subparsers(
        title="commands", metavar="COMMAND", dest="command", required=False, parser_class=_Parser
    )
    subparsers: dict[str, argparse.ArgumentParser] = {}
    for name, (add, text, level) in COMMANDS.items():
        subparsers[name] = own = group.add_parser(
            name, help=text, description=text[0].upper() + text[1:] + "."
        )
        if command in (None, name):
            _messages(own, level)
            own.add_argument("--json", action="store_true", help="print the result as one JSON object")
            add(own)
    return parser, subparsers


def _messages(parser: argparse.ArgumentParser, level: int) -> None:
    parser.set_defaults(level=level)
    amount = parser.add_mutually_exclusive_group()
    for short, long, value, meaning in (
        ("-v", "--verbose", logging.DEBUG, "show all that is being done"),
        ("-q", "--quiet", logging.WARNING, "show warnings only"),
    ):
        amount.add_argument(short, long, dest="level", action="store_const", const=value, help=meaning)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Parameters
    ----------
    arguments : sequence of str, optional
        Default: those of the process.

    Returns
    -------
    int
        Exit code.

    Examples
    --------
    >>> main(["info", "missing.gprann"])
    2
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        if not given:
            show(help_text())
            return 2
        namespace = parse(given)
    except SystemExit as end:  # --help and --version
        return int(end.code or 0)
    except BrokenPipeError:
        return _end_of_pipe()
    except GprannError as error:
        unread = argparse.Namespace(command=None, json="--json" in given)
        return _fail(unread, 2 if isinstance(error, ConfigError) else 1, error)
    return _execute(namespace)


def _end_of_pipe() -> int:
    """End quietly: the reader of a pipe, such as `head`, has seen enough."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


def _execute(namespace: argparse.Namespace) -> int:
    try:
        return _give(_answer(namespace), namespace)
    except KeyboardInterrupt as stop:
        reason = f"interrupted; {_how_to_go_on(namespace)}"
        return _fail(namespace, 130, type(stop)(reason), begin="\ngprann: ")
    except BrokenPipeError:
        return _end_of_pipe()
    except (ConfigError, DataError) as error:
        return _fail(namespace, 2, error)
    except (GprannError, OSError, ImportError) as error:
        return _fail(namespace, 1, error)
    except MemoryError:
        remedy = "close other programs, or lower max_subset, copies or workers"
        return _fail(namespace, 1, MemoryError(f"the memory does not suffice; {remedy}"))


def _answer(namespace: argparse.Namespace) -> Answer:
    """Call a command."""
    name = namespace.command
    with contextlib.nullcontext() if name in LIGHT else messages(namespace.level):
        call = getattr(import_module(f"gprann.cli.{MODULES.get(name, 'commands')}"), name)
        return call(namespace)  # type: ignore[no-any-return]


def _give(answer: Answer, namespace: argparse.Namespace) -> int:
    """Show what a command answers, and return its exit code."""
    show(answer.document(namespace.command) if namespace.json else answer.text)
    if answer.error:
        show_error(f"gprann: {answer.error}")
    return answer.code


def _fail(namespace: argparse.Namespace, code: int, error: BaseException, begin: str = "gprann: ") -> int:
    """Show why there is no answer, and return the exit code."""
    if namespace.json:
        with contextlib.suppress(GprannError):  # output that cannot be written may be the very reason
            show(failure(namespace.command, code, error))
    show_error(f"{begin}{error}")
    return code


def _how_to_go_on(namespace: argparse.Namespace) -> str:
    command = namespace.command
    dry = getattr(namespace, "dry_run", False)
    if command in ("run", "compare", "explore") and isinstance(namespace.config, str) and not dry:
        return f"what is finished is kept, go on with: gprann {command} {namespace.config}"
    if command in ("label", "properties"):
        return f"what is finished is kept in {namespace.output}, the same command goes on"
    if command == "md":
        return (
            f"what was done up to the last checkpoint is kept in {namespace.output}, the same command goes on"
        )
    if command == "train" and namespace.checkpoint is not None:
        return f"the state is kept in {namespace.checkpoint}, the same command goes on"
    if command == "train":
        return "nothing is kept; with --checkpoint FOLDER the same command goes on"
    return "nothing was written"
