"""Pages that are made: one for each command, for each table of a configuration, and for each notebook."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import get_args

from gprann.cli.main import _parser
from gprann.config import Config, ExploreConfig, toml_value
from gprann.explain import Key, bounds, choices, keys
from gprann.options import Options

__all__ = ["write_pages"]


def write_pages(folder: Path) -> None:
    """Write `commands/NAME.md`, `options/NAME.md` and `notebooks/NAME.md`; equal files stay untouched."""
    _write(folder / "commands", {name: _command_page(name, p) for name, p in _parser()[1].items()})
    pages = {name: _options_page(name, key) for name, key in keys(Config).items()}
    _write(folder / "options", {**pages, "explore": _exploration_page()})
    notebooks = sorted((folder / "notebooks").glob("*.ipynb"))
    _write(folder / "notebooks", {notebook.stem: _notebook_page(notebook) for notebook in notebooks})


def _write(folder: Path, pages: Mapping[str, str]) -> None:
    folder.mkdir(exist_ok=True)
    for stale in {file for file in folder.glob("*.md") if file.stem not in pages}:
        stale.unlink()
    for name, text in pages.items():
        file = folder / f"{name}.md"
        if not file.exists() or file.read_text(encoding="utf-8") != text:
            file.write_text(text, encoding="utf-8")


# Notebooks -----------------------------------------------------------------------------------------------------


def _notebook_page(notebook: Path) -> str:
    """Return the cells with the text that they have printed."""
    pieces = []
    for cell in json.loads(notebook.read_text(encoding="utf-8"))["cells"]:
        text = "".join(cell["source"])
        pieces.append(text if cell["cell_type"] == "markdown" else _fenced("python", text))
        outputs = "".join("".join(output["text"]) for output in cell.get("outputs", ()))
        if outputs:
            pieces.append(_fenced("text", outputs.rstrip("\n")))
    return "\n\n".join(pieces) + "\n"


def _fenced(language: str, text: str) -> str:
    return f"```{language}\n{text}\n```"


# Commands ------------------------------------------------------------------------------------------------------


def _command_page(name: str, parser: argparse.ArgumentParser) -> str:
    lines = [
        f"# gprann {name}",
        "",
        _escaped(str(parser.description)),
        "",
        "```text",
        _usage(parser),
        "```",
        "",
    ]
    for group in parser._action_groups:
        actions = [action for action in group._group_actions if action.help != argparse.SUPPRESS]
        if actions:
            lines += [f"## {str(group.title).capitalize()}", "", *map(_definition, actions)]
    return "\n".join(lines)


def _usage(parser: argparse.ArgumentParser) -> str:
    """Return the command with what it must be given; everything else stands below."""
    words = [parser.prog]
    for action in parser._actions:
        value = _value(action)
        if not action.option_strings:
            words.append(value if action.required else f"[{value}]")
        elif action.required:
            words.append(f"{action.option_strings[0]} {value}")
    return " ".join([*words, "[options]"])


def _value(action: argparse.Action) -> str:
    names = action.metavar if isinstance(action.metavar, tuple) else (action.metavar or action.dest,)
    more = "..." if action.nargs in ("+", "*") else ""
    return "" if action.nargs == 0 else " ".join(str(name) for name in names) + more


def _definition(action: argparse.Action) -> str:
    value = _value(action)
    if not action.option_strings:
        term = f"`{value}`"
    else:
        term = ", ".join(f"`{f'{name} {value}'.strip()}`" for name in action.option_strings)
    return f"{term}\n: {_escaped(str(action.help or '').replace('%%', '%'))}\n"


# Options -------------------------------------------------------------------------------------------------------


def _is_table(annotation: object) -> bool:
    """Whether an option is a table of options, and not one that names a kind."""
    table = isinstance(annotation, type) and issubclass(annotation, Options)
    return table and annotation.__dict__.get("registry") is None


def _options_page(name: str, key: Key) -> str:
    lines = [f"# [{name}]", ""]
    if _is_table(key.field.annotation):
        return "\n".join([*lines, *_table(name, key.field.annotation, level=2)])
    if name not in choices(Config):  # a key outside all tables
        return "\n".join([f"# {name}", "", f"`{name}`{_facts(key)}\n: {_escaped(key.sentence)}\n"])
    registry = choices(Config)[name]
    lines += [_escaped(key.sentence), "", f"`kind`\n: {', '.join(f'`{kind}`' for kind in registry)}\n"]
    for kind in registry:
        lines += [f'## kind = "{kind}"', "", *_table(f"{name}.{kind}", registry[kind], level=3)]
    return "\n".join(lines)


def _exploration_page() -> str:
    """Return the page of the tables that explorations alone have."""
    lines = ["# Explorations", "", "Tables of the configuration of `gprann explore` that no other has.", ""]
    for name, key in keys(ExploreConfig).items():
        if not _is_table(key.field.annotation):
            lines += [f"`{name}`{_facts(key)}\n: {_escaped(key.sentence)}\n"]
        elif name not in keys(Config):
            lines += [f"## [{name}]", "", *_table(name, key.field.annotation, level=3)]
    return "\n".join(lines)


def _table(path: str, table: type[Options], level: int) -> Iterator[str]:
    summary = (table.__doc__ or "").strip().partition("\n\n")[0]
    yield f"{_escaped(' '.join(summary.split()))}\n"
    inner = {}
    for name, key in keys(table).items():
        kinds = [kind for kind in (key.field.annotation, *get_args(key.field.annotation)) if _is_table(kind)]
        if kinds:
            inner[name] = kinds[0], key
        else:
            yield f"`{name}`{_facts(key)}\n: {_escaped(key.sentence)}\n"
    for name, (kind, key) in inner.items():
        yield f"{'#' * level} [{path}.{name}]\n\n{_escaped(key.sentence)}\n"
        yield from _table(f"{path}.{name}", kind, level + 1)


def _facts(key: Key) -> str:
    """Return unit, bounds, default and an example of an option."""
    facts = [text for text in (bounds(key) or str(key.extra["unit"]),) if text]
    default = key.field.get_default(call_default_factory=True)
    if key.field.is_required():
        facts.append("required")
    elif default is not None:
        facts.append(f"default `{toml_value(default)}`")
    if default is None and key.extra["example"] is not None:
        facts.append(f"for example `{toml_value(key.extra['example'])}`")
    return f" ({', '.join(facts)})" if facts else ""


def _escaped(text: str) -> str:
    """Keep characters that Markdown would take for marks, but not names in backticks."""
    pieces = text.split("`")
    if len(pieces) % 2 == 0:
        pieces = [text.replace("`", "\\`")]
    marks = "\\*_{}[]<>#|$"
    plain = ["".join("\\" + c if c in marks else c for c in piece) for piece in pieces[::2]]
    return "`".join(
        piece for pair in zip(plain, [*pieces[1::2], ""], strict=False) for piece in pair
    ).removesuffix("`")
