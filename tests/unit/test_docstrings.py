"""Docstrings begin with the thing they describe, and functions are named by verbs or nouns."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import gprann

FOLDER = Path(gprann.__file__).parent
MODULES = [path.relative_to(FOLDER).as_posix() for path in sorted(FOLDER.rglob("*.py"))]
RIDDLE = re.compile(r"(Those|That|Them|They|What|Which|Whose|It)\b")
PARTICIPLES = re.compile(
    r"([a-z]+ed|left_out|broken|built|chosen|drawn|given|held|kept|known|made|put|seen|shown|spelt|taken|written)$"
)


def parts(module: str) -> Iterator[ast.Module | ast.ClassDef | ast.FunctionDef]:
    for node in ast.walk(ast.parse((FOLDER / module).read_text(encoding="utf-8"))):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
            yield node


@pytest.mark.parametrize("module", MODULES)
def test_no_docstring_begins_with_a_pronoun(module: str) -> None:
    found = {getattr(part, "name", "module"): ast.get_docstring(part) or "" for part in parts(module)}
    assert not {name: text.splitlines()[0] for name, text in found.items() if RIDDLE.match(text)}


@pytest.mark.parametrize("module", MODULES)
def test_no_function_is_named_by_a_participle_alone(module: str) -> None:
    """Properties may be: `result.converged` reads as a statement; `moved(...)` does not say what is done."""
    functions = [
        part for part in parts(module) if isinstance(part, ast.FunctionDef) and not part.decorator_list
    ]
    assert not [part.name for part in functions if PARTICIPLES.match(part.name.strip("_"))]
