"""Promises of SECURITY.md that no other test shows, and that the tests it names are there."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gprann
from gprann.cli.main import main
from gprann.errors import GprannError

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "SECURITY.md"
SOURCES = sorted(Path(gprann.__file__).parent.rglob("*.py"))


@pytest.mark.skipif(not PAGE.is_file(), reason="tests apart from the source")
def test_the_page_names_tests_that_exist() -> None:
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", PAGE.read_text(encoding="utf-8"))
    assert len(named) >= 10
    for file, name in named:
        tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
        assert name in {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}, (
            file,
            name,
        )


class Trap:
    """An object that leaves a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


@pytest.fixture
def trap(tmp_path: Path) -> Path:
    """The file that is there once code from a file has run."""
    return tmp_path / "sprung"


def code(trap: Path) -> str:
    """Python that would leave the file."""
    return f"__import__('pathlib').Path('{trap}').touch()"


def test_text_in_structures_is_text(tmp_path: Path, trap: Path) -> None:
    text = code(trap)
    eval(text)
    assert trap.exists()  # the trap works
    trap.unlink()
    lines = [
        "2",
        f'Properties=species:S:1:pos:R:3:note:S:1 energy=1.0 note="{text}" config_type="{text}" {text}=1 pbc="F F F"',
        f"H 0 0 0 {text}",
        f"H 0 0 0.8 {text}",
    ]
    (tmp_path / "a.extxyz").write_text("\n".join(lines) + "\n")
    data = gprann.read(tmp_path / "a.extxyz")
    assert len(data) == 1
    assert not trap.exists()
    for place in ("Properties", "energy", "Lattice"):
        (tmp_path / "b.extxyz").write_text(f'2\n{place}="{text}" energy="{text}"\nH 0 0 0\nH 0 0 0.8\n')
        with pytest.raises(GprannError):
            gprann.read(tmp_path / "b.extxyz")
    assert not trap.exists()


@pytest.mark.parametrize(
    "line",
    [
        'data.keys = {{ energy = "{0}" }}',
        'training.optimizer = "{0}"',
        'training.hidden = "{0}"',
        'surrogate.kernel = "{0}"',
        'baseline.kind = "{0}"',
        'baseline = {{ kind = "calculator", calculator = "{0}" }}',
        "{0}",
    ],
)
def test_text_in_configurations_is_text(tmp_path: Path, trap: Path, line: str) -> None:
    gprann.write(tmp_path / "train.extxyz", gprann.examples.hydrogen(7))
    file = tmp_path / "c.toml"
    text = 'data.train = "train.extxyz"\noutput.plots = false\n' + line.format(code(trap)) + "\n"
    file.write_text(text)
    assert main(["run", str(file), "-q"]) in (1, 2)
    assert not trap.exists()


def pickled(trap: Path) -> np.ndarray[Any, Any]:
    array = np.empty(1, dtype=object)
    array[0] = Trap(trap)
    return array


def test_pickled_arrays_are_refused(tmp_path: Path, trap: Path) -> None:
    objects = pickled(trap)
    np.savez(tmp_path / "h.npz", *[objects] * 7)
    with np.load(tmp_path / "h.npz", allow_pickle=True) as archive:
        assert archive["arr_0"].shape == (1,)
    assert trap.exists()  # the trap works
    trap.unlink()
    with pytest.raises(GprannError):
        gprann.taylor_augment(gprann.examples.hydrogen(7), order=2, hessians=tmp_path / "h.npz")
    deepmd = tmp_path / "deepmd"
    (deepmd / "set.000").mkdir(parents=True)
    (deepmd / "type.raw").write_text("0\n0\n")
    (deepmd / "type_map.raw").write_text("H\n")
    for name in ("coord", "energy", "force", "box"):
        np.save(deepmd / "set.000" / f"{name}.npy", objects, allow_pickle=True)
    with pytest.raises(GprannError, match="is damaged or of another shape"):
        gprann.read(deepmd)
    assert not trap.exists()


def test_pickled_checkpoints_are_refused(tmp_path: Path, trap: Path) -> None:
    data = gprann.examples.hydrogen(7)
    surrogate = gprann.Surrogate(kernel="pairs").fit(data)
    options: dict[str, Any] = {"length": 0.002, "temperature": 10.0, "seed": 0}
    gprann.md(surrogate, data[3:4], tmp_path / "md", **options)
    np.savez(tmp_path / "md/checkpoint.npz", values=pickled(trap))
    with pytest.raises(GprannError, match="is no checkpoint, or damaged"):
        gprann.md(surrogate, data[3:4], tmp_path / "md", **options)
    assert not trap.exists()


def calls(tree: ast.AST) -> set[str]:
    """Return the names of everything that is called, as `np.load`, with the keywords that matter."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            words = {word.arg: ast.unparse(word.value) for word in node.keywords}
            if name.endswith((".load", "read_array")) and name.startswith("np."):
                name += f"(allow_pickle={words.get('allow_pickle')})"
            if "shell" in words:
                name += f"(shell={words['shell']})"
            found.add(name)
    return found


FORBIDDEN = re.compile(
    r"(eval|exec|compile|__import__|os\.(system|popen|exec\w+|spawn\w+)|\w*(pickle|marshal|dill|shelve|yaml)\w*\.\w+"
    r"|.*allow_pickle=(None|True).*|.*shell=(?!False).*)"
)
MODULES = {"urllib", "requests", "http", "socket", "ftplib", "pickle", "marshal", "shelve", "dill", "yaml"}


def test_the_source_has_no_such_calls() -> None:
    found = []
    for source in SOURCES:
        tree = ast.parse(source.read_text(encoding="utf-8"))
        found += [(source.name, name) for name in calls(tree) if FORBIDDEN.fullmatch(name)]
        found += [(source.name, name) for name in imports(tree) & MODULES]
    assert not found


def imports(tree: ast.AST) -> set[str]:
    """Return the packages that a module imports."""
    names = [alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names]
    names += [str(node.module) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    return {name.partition(".")[0] for name in names}


def test_what_the_search_finds() -> None:
    bad = ["np.load(f)", "eval('1')", "os.system('x')", "pickle.loads(b)", "subprocess.run('x', shell=True)"]
    good = [
        "np.load(f, allow_pickle=False)",
        "subprocess.run(['x'])",
        "ast.literal_eval('1')",
        "re.compile('a')",
    ]
    assert all(FORBIDDEN.fullmatch(*calls(ast.parse(line))) for line in bad)
    assert not any(FORBIDDEN.fullmatch(*calls(ast.parse(line))) for line in good)
    assert imports(ast.parse("import urllib.request\nfrom pickle import loads")) == {"urllib", "pickle"}
