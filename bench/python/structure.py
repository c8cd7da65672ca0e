"""Measure the structure of the installed gprann beside the version before issue 9 and the limits set there.

    python bench/python/structure.py            all, with a run of `gprann run`
    python bench/python/structure.py --static   what the source tells alone
    python bench/python/structure.py --check    the same, an error where a limit is broken (.ci/run)
    python bench/python/structure.py --list     name the modules, functions, files and options behind the numbers

The package is the one that Python imports. Each row:

modules entered by run
    Modules of gprann of which a function is called while `gprann run` works on a configuration of `gprann init` (seven
    H2 molecules, 20 to test, two copies of each, small networks, one worker). Imports do not count: neither the bodies
    of modules and classes, nor functions that these call. All threads count.
depth of calls
    Most functions of gprann on the stack of one thread in the same run. Comprehensions, generator expressions and
    functions of other packages in between do not count.
longest import chain
    Modules on the longest path along the imports that are carried out when a module is imported: not those below
    `TYPE_CHECKING`, nor those inside functions. The packages around an imported module do not count as imported by it.
rooms in surrogate/, arrows between them
    Modules and packages directly in surrogate/; pairs of these of which one imports the other, anywhere but below
    `TYPE_CHECKING`.
import circles
    Groups of modules that import each other, directly or not, when they are imported.
functions of more than 6 parameters
    All parameters but self and cls count, those of keyword only too. A function that takes the arrays of one operation
    may have more: there only parameters that are annotated with other types than arrays count, of which it has at
    most 2.
functions above 60 lines, files above 500 lines
    With comments and blank lines; functions without their docstring.
options declared twice
    Names declared by `option(...)` in a class which are, with the same description, declared in another class too; or
    whose default is looked up in a signature or another class; or which are fields of a dataclass named ...Options or
    ...Setting as well.
lines of code
    Of Python, without blank lines, comments and docstrings.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import importlib.util
import io
import re
import sys
import tempfile
import threading
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

Function = ast.FunctionDef | ast.AsyncFunctionDef
Edges = dict[str, set[str]]
Found = dict[str, list[str]]
"""The things behind a number: the number is how many these are."""

MAX_PARAMETERS, MAX_FUNCTION, MAX_FILE, MAX_BESIDE_ARRAYS = 6, 60, 500, 2


@dataclass(frozen=True)
class Row:
    """A property of the structure, its value at commit 567ea80 and the largest that is allowed."""

    name: str
    before: int
    limit: int
    checked: bool = False  # by .ci/run


ROWS = (
    Row("modules entered by run", 80, 45),
    Row("depth of calls", 31, 20),
    Row("longest import chain", 32, 20, checked=True),
    Row("rooms in surrogate/", 30, 14, checked=True),
    Row("arrows between them", 101, 45, checked=True),
    Row("import circles", 0, 0, checked=True),
    Row("functions of more than 6 parameters", 19, 0, checked=True),
    Row("functions above 60 lines", 0, 0, checked=True),
    Row("files above 500 lines", 0, 0, checked=True),
    Row("options declared twice", 64, 0, checked=True),
    Row("lines of code", 13912, 13911),
)


# ------------------------------------------------------------------------ sources
class Package:
    """The sources of a package by the names of its modules."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.files = {self._name(file): file for file in sorted(folder.rglob("*.py"))}
        self.texts = {name: file.read_text(encoding="utf-8") for name, file in self.files.items()}
        self.trees = {name: ast.parse(text) for name, text in self.texts.items()}

    def _name(self, file: Path) -> str:
        parts = file.relative_to(self.folder.parent).with_suffix("").parts
        return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)

    def functions(self) -> Iterator[tuple[str, Function]]:
        """Yield all functions with their addresses."""
        for name, tree in self.trees.items():
            for node in ast.walk(tree):
                if isinstance(node, Function):
                    yield f"{name}:{node.lineno} {node.name}", node

    def imports(self, *, inside_functions: bool) -> Edges:
        """Return which modules each module imports."""
        return {
            name: {
                target
                for node in _imports(tree, inside_functions)
                for target in self._targets(name, node)
                if target != name
            }
            for name, tree in self.trees.items()
        }

    def _targets(self, name: str, node: ast.Import | ast.ImportFrom) -> Iterator[str]:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in self.files)
            return
        source = node.module or ""
        if node.level:
            package = name if self.files[name].name == "__init__.py" else name.rpartition(".")[0]
            above = package.split(".")[: len(package.split(".")) - node.level + 1]
            source = ".".join([*above, source]) if source else ".".join(above)
        for alias in node.names:
            inner = f"{source}.{alias.name}"
            if inner in self.files:
                yield inner
            elif source in self.files and not self._compiled(inner):
                yield source

    def _compiled(self, name: str) -> bool:
        return any(self.folder.parent.glob(name.replace(".", "/") + ".*"))


def _imports(tree: ast.AST, inside_functions: bool) -> Iterator[ast.Import | ast.ImportFrom]:
    """Yield the imports below a node but for those for the type checker."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield node
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            for other in node.orelse:
                yield from _imports(ast.Module([other], []), inside_functions)
        elif inside_functions or not isinstance(node, Function | ast.Lambda):
            yield from _imports(node, inside_functions)


# ------------------------------------------------------------------------ imports
def circles(edges: Edges) -> list[list[str]]:
    """Return the strongly connected components of more than one module, and those that import themselves."""
    reached = {name: _reachable(name, edges) for name in edges}
    groups = {
        tuple(sorted(other for other in reached[name] if name in reached.get(other, ())))
        for name in edges
        if name in reached[name]
    }
    return [list(group) for group in sorted(groups)]


def _reachable(start: str, edges: Edges) -> set[str]:
    found: set[str] = set()
    waiting = list(edges[start])
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting.extend(edges.get(name, ()))
    return found


def longest_chain(edges: Edges) -> list[str]:
    """Return the modules of the longest chain; an edge back into a circle is not followed."""
    known: dict[str, list[str]] = {}

    def chain(name: str, above: frozenset[str]) -> list[str]:
        if name not in known:
            found = [chain(other, above | {name}) for other in sorted(edges[name] - above)]
            known[name] = [name, *max(found, key=len, default=[])]
        return known[name]

    return max((chain(name, frozenset([name])) for name in edges), key=len)


def rooms(package: Package, folder: str) -> tuple[list[str], list[str]]:
    """Return what stands directly in a folder, and the arrows between these, as `a -> b`."""
    prefix = f"{package.folder.name}.{folder}."

    def room(name: str) -> str:
        return name.removeprefix(prefix).partition(".")[0] if name.startswith(prefix) else ""

    arrows = {
        f"{room(name)} -> {room(other)}"
        for name, others in package.imports(inside_functions=True).items()
        for other in others
        if room(name) and room(other) and room(name) != room(other)
    }
    return sorted({room(name) for name in package.files} - {""}), sorted(arrows)


# ---------------------------------------------------------------------- functions
def too_many_parameters(package: Package) -> list[str]:
    """Return the functions of more than six parameters that are not the arrays of one operation."""
    found = []
    for name, function in package.functions():
        given = function.args
        parameters = [*given.posonlyargs, *given.args, *given.kwonlyargs]
        parameters = [one for one in parameters if one.arg not in ("self", "cls")]
        others = [one for one in parameters if not _is_array(one)]
        if len(parameters) > MAX_PARAMETERS and len(others) > MAX_BESIDE_ARRAYS:
            found.append(f"{name}: {len(parameters)}")
    return found


def _is_array(parameter: ast.arg) -> bool:
    return parameter.annotation is not None and "Array" in ast.unparse(parameter.annotation)


def too_long(package: Package) -> tuple[list[str], list[str]]:
    """Return functions and files that are too long."""
    lengths = {name: _length(node) for name, node in package.functions()}
    functions = [f"{name}: {length}" for name, length in lengths.items() if length > MAX_FUNCTION]
    lines = {name: text.count("\n") for name, text in package.texts.items()}
    return functions, [f"{name}: {count}" for name, count in lines.items() if count > MAX_FILE]


def _length(function: Function) -> int:
    first = function.body[0]
    prose = (first.end_lineno or 0) - first.lineno + 1 if _is_prose(first) else 0
    return (function.end_lineno or 0) - function.lineno + 1 - prose


def _is_prose(node: ast.AST) -> bool:
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )


# ------------------------------------------------------------------------ options
def declared_twice(package: Package) -> list[str]:
    """Return the options that are declared in two places."""
    seen: dict[tuple[str, str], str] = {}
    fields = dict(_dataclass_fields(package))
    found = []
    for place, name, call in _options(package):
        description = ast.unparse(call.args[0]) if call.args else ""
        other = seen.setdefault((name, description), place)
        if other != place:
            found.append(f"{place}.{name}: also {other}")
        elif name in fields:
            found.append(f"{place}.{name}: also {fields[name]}")
        elif any(_is_look_up(node) for given in [*call.args, *call.keywords] for node in ast.walk(given)):
            found.append(f"{place}.{name}: its default stands elsewhere")
    return found


def _classes(package: Package) -> Iterator[tuple[str, ast.ClassDef]]:
    for name, tree in package.trees.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef):
                yield f"{name}.{node.name}", node


def _options(package: Package) -> Iterator[tuple[str, str, ast.Call]]:
    """Yield class, name and declaration of each option."""
    for place, node in _classes(package):
        for item in node.body:
            if not (isinstance(item, ast.AnnAssign) and isinstance(item.value, ast.Call)):
                continue
            if ast.unparse(item.value.func).rpartition(".")[2].lstrip("_") == "option":
                yield place, ast.unparse(item.target), item.value


def _dataclass_fields(package: Package) -> Iterator[tuple[str, str]]:
    for place, node in _classes(package):
        decorated = any("dataclass" in ast.unparse(decorator) for decorator in node.decorator_list)
        if decorated and node.name.endswith(("Options", "Setting")):
            for item in node.body:
                if isinstance(item, ast.AnnAssign):
                    yield ast.unparse(item.target), place


def _is_look_up(node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and ast.unparse(node.func).lstrip("_") in ("default", "default_of")


# --------------------------------------------------------------------------- size
def lines_of_code(text: str) -> int:
    """Count the lines that hold code."""
    prose: set[int] = set()
    for node in ast.walk(ast.parse(text)):  # attributes have docstrings too
        if _is_prose(node):
            prose.update(range(node.lineno, (node.end_lineno or 0) + 1))
    layout = (
        tokenize.COMMENT,
        tokenize.NL,
        tokenize.NEWLINE,
        tokenize.INDENT,
        tokenize.DEDENT,
        tokenize.ENDMARKER,
    )
    code: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type not in layout:
            code.update(range(token.start[0], token.end[0] + 1))
    return len(code - prose)


# ---------------------------------------------------------------------------- run
class Trace:
    """Which functions of a package are entered, and how deeply they call each other."""

    def __init__(self, package: Package) -> None:
        self._names = {str(file): name for name, file in package.files.items()}
        self._kinds: dict[CodeType, str] = {}
        self._local = threading.local()
        self.entered: set[str] = set()
        self.functions: set[str] = set()
        self.deepest: list[str] = []

    def __call__(self, frame: FrameType, event: str, _: Any) -> None:
        """Follow a call or a return, as `sys.setprofile` reports it."""
        if event not in ("call", "return"):
            return
        module = self._module(frame.f_code)
        if not module:
            return
        stack: list[str] = self._local.__dict__.setdefault("stack", [])
        if event == "call":
            stack.append("" if module == "import" else f"{module}:{frame.f_code.co_qualname}")
            if "" not in stack:  # nothing is being imported
                self._enter(module, stack)
        elif stack:
            stack.pop()

    def _enter(self, module: str, stack: list[str]) -> None:
        self.entered.add(module)
        self.functions.add(stack[-1])
        if len(stack) > len(self.deepest):
            self.deepest = list(stack)

    def _module(self, code: CodeType) -> str:
        """Return the module of a function, `import` for the body of a module, nothing for what does not count."""
        if code not in self._kinds:
            module = self._names.get(code.co_filename, "")
            if module and code.co_name == "<module>":
                module = "import"
            elif code.co_name.startswith("<") and code.co_name != "<lambda>":
                module = ""
            self._kinds[code] = module
        return self._kinds[code]


CONFIGURATION = {
    "train": '"train.extxyz"',
    "test": '"test.extxyz"',
    "copies": "2",
    "hidden": "[4]",
    "iterations": "4",
    "starts": "2",
    "start_iterations": "2",
    "workers": "1",
}


def trace_run(package: Package) -> Trace:
    """Carry out `gprann run` on a configuration that `gprann init` writes."""
    import gprann
    from gprann.cli.main import main

    trace = Trace(package)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        gprann.write(folder / "train.extxyz", gprann.examples.hydrogen(7))
        gprann.write(folder / "test.extxyz", gprann.examples.hydrogen(20, 0.97, 2.03))
        configuration = folder / "config.toml"
        with contextlib.redirect_stdout(io.StringIO()):
            status = main(["init", str(configuration), "--quiet"])
        if status:
            raise SystemExit("gprann init failed")
        text = configuration.read_text(encoding="utf-8")
        for key, value in CONFIGURATION.items():
            text, count = re.subn(rf"^(# )?{key} = .*$", f"{key} = {value}", text, flags=re.MULTILINE)
            if count != 1:
                raise SystemExit(f"gprann init writes {key} {count} times")
        configuration.write_text(text, encoding="utf-8")
        threading.setprofile(trace)
        sys.setprofile(trace)
        try:
            with contextlib.redirect_stdout(io.StringIO()):
                status = main(["run", str(configuration), "--quiet"])
        finally:
            sys.setprofile(None)
            threading.setprofile(None)
        if status:
            raise SystemExit("gprann run failed")
    return trace


# ------------------------------------------------------------------------- report
def measure(package: Package, *, run: bool) -> Found:
    """Return what is behind each number."""
    at_import = package.imports(inside_functions=False)
    in_surrogate, arrows = rooms(package, "surrogate")
    functions, files = too_long(package)
    code = [name for name, text in package.texts.items() for _ in range(lines_of_code(text))]
    found = {
        "longest import chain": longest_chain(at_import),
        "rooms in surrogate/": in_surrogate,
        "arrows between them": arrows,
        "import circles": [" -> ".join(group) for group in circles(at_import)],
        "functions of more than 6 parameters": too_many_parameters(package),
        "functions above 60 lines": functions,
        "files above 500 lines": files,
        "options declared twice": declared_twice(package),
        "lines of code": code,
    }
    if run:
        trace = trace_run(package)
        found |= {"modules entered by run": sorted(trace.entered), "depth of calls": trace.deepest}
    return found


def show(found: Found, *, names: bool) -> None:
    """Print the table, and what is behind its numbers."""
    print(f"{'':37}{'now':>7}{'567ea80':>9}{'limit':>7}")
    for row in ROWS:
        if row.name in found:
            now = len(found[row.name])
            mark = "" if now <= row.limit else "  above"
            print(f"{row.name:37}{now:7}{row.before:9}{row.limit:7}{mark}")
    for row in ROWS:
        if names and row.name in found and row.name != "lines of code":
            print(f"\n{row.name}:", *found[row.name], sep="\n    ")


def broken(found: Found) -> list[str]:
    """Return the rows whose limits always hold, and do not."""
    return [row.name for row in ROWS if row.checked and len(found.get(row.name, ())) > row.limit]


def main() -> int:
    """Measure, show, and check."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--static", action="store_true", help="do without a run")
    parser.add_argument("--check", action="store_true", help="fail where a limit is broken; without a run")
    parser.add_argument("--list", action="store_true", help="name what is behind the numbers")
    options = parser.parse_args()
    spec = importlib.util.find_spec("gprann")
    if spec is None or spec.origin is None:
        raise SystemExit("gprann is not installed")
    found = measure(Package(Path(spec.origin).parent), run=not (options.static or options.check))
    show(found, names=options.list)
    names = broken(found) if options.check else []
    for name in names:
        print(f"\ntoo many: {name}", *found[name], sep="\n    ")
    return 1 if names else 0


if __name__ == "__main__":
    sys.exit(main())
