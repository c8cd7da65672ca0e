"""The command `gprann completion`: scripts by which bash, zsh and fish complete commands, options and their values.

The scripts are made from the parsers and hold all names: completing a word starts no Python.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from gprann.cli.answer import Answer

_PLACES = {
    "FILE",
    "FOLDER",
    "PREFIX",
    "INPUT",
    "DATA",
    "POTENTIAL",
    "STRUCTURE",
    "TRAIN",
    "CONFIG.toml",
    "FILE.gprann",
}
"""Placeholders of files and folders."""


@dataclass(frozen=True, slots=True)
class Word:
    """An option of a command, or an argument without a name.

    Attributes
    ----------
    names : tuple of str
        Empty for an argument without a name.
    values : tuple of str
        The values that are known by name.
    is_place : bool
        Whether its values are files or folders.
    count : str
        How many values follow: none, one, or many.
    text : str
        What it means.
    """

    names: tuple[str, ...]
    values: tuple[str, ...]
    is_place: bool
    count: str
    text: str


@dataclass(frozen=True, slots=True)
class Command:
    """A command with its words."""

    text: str
    words: tuple[Word, ...]

    @property
    def options(self) -> tuple[Word, ...]:
        """Words with names."""
        return tuple(word for word in self.words if word.names)

    @property
    def arguments(self) -> tuple[Word, ...]:
        """Words without a name."""
        return tuple(word for word in self.words if not word.names)


def completion(arguments: argparse.Namespace) -> Answer:
    """Print the script of a shell."""
    script = script_of(arguments.shell)
    return Answer(script, {"shell": arguments.shell, "script": script})


def script_of(shell: str) -> str:
    """Return the script of bash, zsh or fish."""
    from gprann.cli.arguments import COMMANDS
    from gprann.cli.main import _parser

    parser, parsers = _parser()
    commands = {
        name: Command(COMMANDS[name][1], tuple(map(_word, each._actions))) for name, each in parsers.items()
    }
    own = tuple(_word(action) for action in parser._actions if action.option_strings)
    write: Callable[[Mapping[str, Command], tuple[Word, ...]], Iterator[str]] = {
        "bash": _bash,
        "zsh": _zsh,
        "fish": _fish,
    }[shell]
    return "\n".join(write(commands, own))


def _word(action: argparse.Action) -> Word:
    metavars = action.metavar if isinstance(action.metavar, tuple) else (action.metavar or action.dest,)
    values = tuple(map(str, action.choices or vars(action).get("suggested") or ()))
    count = "none" if action.nargs == 0 else "one" if action.nargs in (None, "?") else "many"
    text = " ".join(str(action.help or "").replace("%%", "%").split())
    return Word(tuple(action.option_strings), values, bool({*metavars} & _PLACES), count, text)


def _short(text: str) -> str:
    """Return the first sentence of an explanation, without what a shell would read as its own."""
    first = re.split(r"(?<=\w)[.;:](?:\s|$)|\s\(", text, maxsplit=1)[0]
    return re.sub(r"[^\w\s,./+=Åæ²³%°-]", "", first)[:90].strip()


# bash --------------------------------------------------------------------------------------------------------


def _bash(commands: Mapping[str, Command], own: tuple[Word, ...]) -> Iterator[str]:
    """Yield the lines for bash 3.2 or newer. Where nothing is offered, bash offers files."""
    yield "# Completion of gprann for bash, made by: gprann completion bash"
    yield "_gprann() {"
    yield '    local current="${COMP_WORDS[COMP_CWORD]}" command="" option="" words="" k word'
    yield '    [ "$current" = "=" ] && current=""'
    yield "    for ((k = 1; k < COMP_CWORD; k++)); do"
    yield '        word="${COMP_WORDS[k]}"'
    yield '        case "$word" in'
    yield "            =|-[0-9]*) ;;"
    yield '            -*) option="$word" ;;'
    yield '            *) if [ -z "$command" ]; then command="$word"; option=""; fi ;;'
    yield "        esac"
    yield "    done"
    yield "    # An option with one value ends after it."
    yield '    case "$command $option" in'
    single = [
        f'"{c} {n}"'
        for c, each in commands.items()
        for w in each.options
        if w.count != "many"
        for n in w.names
    ]
    yield f"        {'|'.join(single)})"
    yield '            word="${COMP_WORDS[COMP_CWORD-1]}"'
    yield '            if [ "$word" = "=" ]; then word="${COMP_WORDS[COMP_CWORD-2]}"; fi'
    yield '            [ "$word" = "$option" ] || option="" ;;'
    yield "    esac"
    yield '    case "$current" in -*) option="" ;; esac'
    yield '    case "$command $option" in'
    names = " ".join([*commands, *_names(own)])
    yield f'        " "*) words="{names}" ;;'
    for name, command in commands.items():
        yield from _bash_command(name, command)
    yield "    esac"
    yield '    COMPREPLY=($(compgen -W "$words" -- "$current"))'
    yield "}"
    yield "complete -o bashdefault -o default -F _gprann gprann"


def _bash_command(name: str, command: Command) -> Iterator[str]:
    for word in command.options:
        if word.count == "none":
            continue
        which = "|".join(f'"{name} {option}"' for option in word.names)
        yield f'        {which}) words="{" ".join(word.values)}" ;;'
    values = [value for word in command.arguments for value in word.values]
    yield f'        "{name} "*) case "$current" in'
    yield f'            -*) words="{" ".join(_names(command.options))}" ;;'
    yield f'            *) words="{" ".join(values)}" ;;'
    yield "        esac ;;"


def _names(words: tuple[Word, ...]) -> list[str]:
    return [name for word in words for name in word.names]


# zsh ---------------------------------------------------------------------------------------------------------


def _zsh(commands: Mapping[str, Command], own: tuple[Word, ...]) -> Iterator[str]:
    yield "#compdef gprann"
    yield "# Completion of gprann for zsh, made by: gprann completion zsh"
    yield "_gprann() {"
    yield "    local -a commands"
    yield "    commands=("
    yield from (f"        '{name}:{_short(command.text)}'" for name, command in commands.items())
    yield "    )"
    yield "    if (( CURRENT == 2 )); then"
    yield "        _describe command commands"
    yield f"        compadd -- {' '.join(_names(own))}"
    yield "        return"
    yield "    fi"
    yield "    local command=$words[2]"
    yield "    shift words"
    yield "    (( CURRENT-- ))"
    yield '    case "$command" in'
    for name, command in commands.items():
        yield f"        {name})"
        specs = [_zsh_spec(word, option) for word in command.options for option in word.names]
        specs += [f"'*:{_zsh_action(word)}'" for word in command.arguments[-1:]]
        yield "            _arguments \\"
        yield " \\\n".join(f"                {spec}" for spec in specs) + " ;;"
    yield "    esac"
    yield "}"
    yield 'if [ "$funcstack[1]" = "_gprann" ]; then _gprann "$@"; else compdef _gprann gprann; fi'


def _zsh_spec(word: Word, option: str) -> str:
    action = {"none": "", "one": f":{_zsh_action(word)}", "many": f":*-*:{_zsh_action(word)}"}[word.count]
    return f"'{option}[{_short(word.text)}]{action}'"


def _zsh_action(word: Word) -> str:
    return "file:_files" if word.is_place else f"value:({' '.join(word.values)})"


# fish --------------------------------------------------------------------------------------------------------


def _fish(commands: Mapping[str, Command], own: tuple[Word, ...]) -> Iterator[str]:
    yield "# Completion of gprann for fish, made by: gprann completion fish"
    yield "complete -c gprann -e"
    for word in own:
        yield f"complete -c gprann -n __fish_use_subcommand {_fish_names(word)} -d '{_short(word.text)}'"
    for name, command in commands.items():
        yield f"complete -c gprann -f -n __fish_use_subcommand -a {name} -d '{_short(command.text)}'"
        here = f"complete -c gprann -n '__fish_seen_subcommand_from {name}'"
        if not any(word.is_place for word in command.arguments):
            yield f"{here} -f"
        for word in command.arguments:
            if word.values:
                yield f"{here} -a '{' '.join(word.values)}'"
        for word in command.options:
            value = (
                ""
                if word.count == "none"
                else " -r -F"
                if word.is_place
                else f" -x -a '{' '.join(word.values)}'"
            )
            yield f"{here} {_fish_names(word)}{value} -d '{_short(word.text)}'"


def _fish_names(word: Word) -> str:
    return " ".join(f"-l {name[2:]}" if name.startswith("--") else f"-s {name[1:]}" for name in word.names)
