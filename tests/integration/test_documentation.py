"""The pages of `docs/`, README and CONTRIBUTING do what they say: their blocks of code run, at small size.

The blocks of a page run one after the other in one folder. ```python blocks share their names, ```sh blocks are lines
of a shell, ```console blocks are commands (`$ `) with what they print (`...` stands for anything), ```toml blocks are
checked, and written to the file that `<!-- file: NAME -->` before them names. ```c blocks are compiled and run by
`tests/unit/test_c_interface.py`. `<!-- not run: REASON -->` excepts one, `<!-- needs: MODULE -->` one where this
module of Python is missing.
"""

from __future__ import annotations

import ast
import contextlib
import doctest
import importlib.util
import io
import logging
import re
import shlex
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule
from ase.calculators.emt import EMT
from ase.cluster import Octahedron

import gprann
from gprann.cli.main import main
from gprann.data.structure import Dataset, Origin, Structure
from gprann.options import Named
from program_outputs import aims_output, cp2k_output, vasp_outcar

ROOT = Path(__file__).parents[2]
PAGES = sorted([*(ROOT / "docs").glob("*.md"), ROOT / "README.md", ROOT / "CONTRIBUTING.md"])
BLOCK = re.compile(
    r"^(?:<!-- (?P<mark>[^>]*?) -->\n)?```(?P<language>\w+)\n(?P<text>.*?)^```$", re.DOTALL | re.MULTILINE
)
LANGUAGES = ("python", "sh", "console", "toml", "text", "c")

RUN = """members = 2
hidden = [3]
iterations = 3
starts = 1
[augmentation]
copies = 1
displacement = 0.01
[surrogate]
length = 8.0
energy_noise = 1e-6
force_noise = 1e-6
[output]
plots = false
"""
EXPLORATION = """force_error = 9.0
check = 2
[descriptor]
radial_order = 4
angular_order = 1
"""
SMALL = {
    "length = 20.0        # ps": "length = 0.02",
    "force_error = 0.03   # eV/Å\n": EXPLORATION,
    "members=10": "members=2",
    "--members 4": "--members 2 --hidden 3 --iterations 3 --starts 1",
    "--length 10": "--length 0.002",
    "--length 20": "--length 0.02",
    "--length 50": "--length 0.02",
    "length=10.0": "length=0.002",
    "members = 4": RUN,
    'model = "quadratic"': 'model = "linear"',
    "[output]\nfolder": "[output]\nplots = false\nfolder",
    "copies=36": "copies=2",
    "copies=12": "copies=2",
    "hidden=(16, 16)": "hidden=(3,), iterations=3",
    "hidden=(10, 10)": "hidden=(3,), iterations=3, starts=1",
    "size=(2, 2, 3)": "size=(2, 2, 2)",
    "final.atoms, calculator)": "final.atoms, calculator, images=3)",
}
"""What makes the examples of the pages small enough for a test."""


WITHOUT_EXAMPLES = {
    "BaselineCheck",
    "CInterface",
    "ChargeFit",
    "Diffusion",
    "ElasticConstants",
    "EquationOfState",
    "Exploration",
    "Locality",
    "Contribution",
    "GprannError",
    "MdResult",
    "Phonons",
    "Properties",
    "Rdf",
    "ReadOptions",
    "Surface",
    "SurrogateSet",
    "ThermalConductivity",
    "Vacancy",
    "Vibrations",
    "load_surrogate",
    "option",
    "phonons",
    "thermal_conductivity",
}
"""What is shown by the example of something else. So are kinds of kernels, solvers and the like: pages tell of them."""
SLOW_EXAMPLES = {"neb"}
"""Only run where the doctests of the modules are."""


class Block(NamedTuple):
    language: str
    text: str
    mark: str
    line: int


def blocks(page: Path) -> list[Block]:
    text = page.read_text(encoding="utf-8")
    return [
        Block(found["language"], found["text"], found["mark"] or "", text.count("\n", 0, found.start()) + 1)
        for found in BLOCK.finditer(text)
    ]


def small(text: str) -> str:
    for large, little in SMALL.items():
        text = text.replace(large, little)
    return text


# The reader's folder ----------------------------------------------------------------------------------------------


def rattled(atoms: Atoms, n: int, seed: int, size: float = 0.06) -> Dataset:
    """Structures with the labels of EMT, which stands for DFT."""
    rng = np.random.default_rng(seed)
    structures = []
    for index in range(n):
        moved = atoms.copy()
        moved.positions += rng.uniform(-size, size, moved.positions.shape)
        moved.calc = EMT()
        moved.get_forces()
        structures.append(Structure.from_ase(moved, origin=Origin("emt", index)))
    return Dataset(structures)


@pytest.fixture(autouse=True)
def registries(restored_registries: Any) -> Iterator[None]:
    with restored_registries():
        yield


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What a reader has at hand: a folder with training and test structures, and candidates without labels."""
    (tmp_path / "dft").mkdir()
    aldehyde = molecule("H2CO")
    train = [
        structure.replace(group=("near", "far")[k % 2])
        for k, structure in enumerate(rattled(aldehyde, 30, 0))
    ]
    test = rattled(aldehyde, 12, 1)
    for name, data in (
        ("dft/train", train),
        ("dft/test", test),
        ("dft/more", rattled(aldehyde, 4, 2)),
        ("dft/water", rattled(molecule("H2O"), 12, 3)),
        ("candidates", [s.replace(energy=None, forces=None) for s in rattled(aldehyde, 12, 4)]),
    ):
        gprann.write(tmp_path / f"{name}.extxyz", data)
    text = (tmp_path / "dft/test.extxyz").read_text()
    renamed = text.replace("energy=", "REF_energy=").replace(":forces:", ":REF_forces:")
    (tmp_path / "renamed.extxyz").write_text(renamed)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPLBACKEND", "Agg")
    return tmp_path


def outputs_of_programs() -> None:
    """A cluster and its rattled copies in the outputs of VASP, FHI-aims and CP2K."""
    cluster = Octahedron("Cu", 3, 1)
    cluster.center(vacuum=6.0)
    cluster.pbc = True
    ase.io.write("start.extxyz", cluster)
    images = [structure.to_ase() for structure in rattled(cluster, 40, 0)]
    for k in range(2):
        write_text(f"dft/run_{k + 1}/OUTCAR", vasp_outcar(images[20 * k : 20 * k + 20]))
    for k, atoms in enumerate(images[:8]):
        write_text(f"aims/structure_{k}.out", aims_output(atoms))
        write_text(f"cp2k/structure_{k}.log", cp2k_output(atoms))


def write_text(path: str, text: str) -> None:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text(text, encoding="utf-8")


OWN_FOLDERS: dict[str, Callable[[], None]] = {
    "quickstart.md": lambda: None,  # begins with nothing
    "tutorial.md": outputs_of_programs,
}
"""Pages that do not begin in the folder of the others, and what makes theirs."""


def given() -> dict[str, Any]:
    """Names that a page takes for granted: the reader's own atoms and calculator."""
    return {"__name__": "__main__"}


# Running ------------------------------------------------------------------------------------------------------------


def commands(text: str) -> Iterator[list[str]]:
    for line in text.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        if words:
            yield words


def run_command(words: list[str]) -> str:
    """Run a command of gprann in this process and return what it prints."""
    assert words[0] == "gprann", f"mark the block as not run, with a reason: {' '.join(words)}"
    output = io.StringIO()
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(io.StringIO()) as errors:
        code = main(words[1:])
    assert code == 0, f"{' '.join(words)}: {errors.getvalue()}"
    return output.getvalue()


def run_block(block: Block, names: dict[str, Any], where: str) -> None:
    if block.language == "python":
        if ">>>" in block.text:
            test = doctest.DocTestParser().get_doctest(small(block.text), names, where, where, block.line)
            runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
            runner.run(test, clear_globs=False)
            assert runner.summarize(verbose=False).failed == 0
        else:
            with contextlib.redirect_stdout(io.StringIO()):
                exec(compile("\n" * block.line + small(block.text), where, "exec"), names)
    elif block.language == "sh":
        for words in commands(small(block.text)):
            run_command(words)
    elif block.language == "console":
        command, _, expected = small(block.text).removeprefix("$ ").partition("\n")
        output = run_command(shlex.split(command))
        checker = doctest.OutputChecker()
        assert checker.check_output(expected, output, doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE), output
    elif block.language == "toml":
        tomllib.loads(block.text)
        name = re.fullmatch(r"file: (\S+)", block.mark)
        if name:
            Path(name[1]).write_text(small(block.text), encoding="utf-8")


def page_name(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page)], ids=page_name)
def test_blocks_of_a_page_run(page: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = given()
    if page.name in OWN_FOLDERS:
        (folder / "own").mkdir()
        monkeypatch.chdir(folder / "own")
        OWN_FOLDERS[page.name]()
    for block in blocks(page):
        where = f"{page_name(page)}, line {block.line}"
        assert block.language in LANGUAGES, f"{where}: is '{block.language}' to be run?"
        if block.mark.startswith("not run: "):
            assert len(block.mark) > len("not run: ") + 3, f"{where}: say why"
            continue
        needed = re.fullmatch(r"needs: (\w+)", block.mark)
        if needed and importlib.util.find_spec(needed[1]) is None:
            continue
        logging.getLogger("gprann").debug("block of %s", where)
        run_block(block, names, where)


def test_a_wrong_block_fails(folder: Path) -> None:
    """Otherwise nothing is tested."""
    with pytest.raises(gprann.GprannError):
        run_block(Block("python", "gprann.read('missing')", "", 1), {"gprann": gprann}, "here")
    with pytest.raises(AssertionError):
        run_block(Block("console", "$ gprann info dft/train.extxyz\n999 structures\n", "", 1), {}, "here")
    with pytest.raises(AssertionError, match="no such model file"):
        run_block(Block("sh", "gprann info missing.gprann\n", "", 1), {}, "here")


def public_docstrings() -> Iterator[tuple[str, str]]:
    """Docstrings with examples of the public names and of their methods."""
    for name in gprann.__all__:
        thing = getattr(gprann, name)
        things = {name: thing}
        if isinstance(thing, type):
            if ">>>" not in (thing.__doc__ or ""):
                things = {name: thing.__init__}
            things |= {f"{name}.{key}": value for key, value in vars(thing).items() if key[0] != "_"}
        for path, value in things.items():
            text = getattr(value, "__doc__", None) or ""
            if callable(value) and ">>>" in text and path not in SLOW_EXAMPLES:
                yield path, text


@pytest.mark.parametrize(("name", "text"), [pytest.param(*item, id=item[0]) for item in public_docstrings()])
def test_example_of_a_docstring_runs_when_it_is_copied(name: str, text: str, folder: Path) -> None:
    """Without the names of the module in which it stands, unlike in the doctests of the modules."""
    test = doctest.DocTestParser().get_doctest(text, {}, name, name, 0)
    output = io.StringIO()
    runner = doctest.DocTestRunner(verbose=False, optionflags=doctest.NORMALIZE_WHITESPACE)
    runner.run(test, out=output.write)
    assert runner.failures == 0, output.getvalue()


def test_public_functions_have_examples() -> None:
    things = {name: getattr(gprann, name) for name in gprann.__all__ if not name.startswith("register_")}
    kinds = {name for name, thing in things.items() if isinstance(thing, type) and issubclass(thing, Named)}
    shown = {name for name, _ in public_docstrings()} | kinds | SLOW_EXAMPLES
    assert {name for name, thing in things.items() if callable(thing)} - shown <= WITHOUT_EXAMPLES


def test_every_page_is_in_the_table_of_contents() -> None:
    listed = "\n".join(
        (ROOT / "docs" / name).read_text() for name in ("index.md", "commands.md", "options.md")
    )
    missing = [page.stem for page in (ROOT / "docs").glob("*.md") if page.stem != "index"]
    assert not [name for name in missing if not re.search(rf"^{name}$", listed, re.MULTILINE)]


def texts_of(source: str) -> Iterator[str]:
    """Texts of a module, docstrings left out; `{}` stands where values are filled in."""
    tree = ast.parse(source)
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef)
    skipped = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, documented) and node.body and isinstance(node.body[0], ast.Expr)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            yield "".join(part.value if isinstance(part, ast.Constant) else "{}" for part in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in skipped:
            yield node.value


def test_messages_that_the_page_of_questions_explains_exist() -> None:
    """The words as they stand in the program, where values are filled in."""
    package = Path(gprann.__file__).parent
    program = "\n".join(
        text for file in package.rglob("*.py") for text in texts_of(file.read_text(encoding="utf-8"))
    )
    page = (ROOT / "docs" / "faq.md").read_text(encoding="utf-8")
    terms = re.findall(r"^(`.*`)\n: ", page, re.MULTILINE)
    assert len(terms) > 50
    fill = {"learning_rate belongs to optimizer = 'adamw', not to 'lm'": " belongs to {} = "}
    phrases = [fill.get(phrase, phrase) for term in terms for phrase in re.findall(r"`([^`]+)`", term)]
    labels = [re.sub(r"^has no (energy|forces)$", "has no {}", phrase) for phrase in phrases]
    assert not [phrase for phrase in labels if phrase not in program]


def test_links_of_the_readme_lead_somewhere() -> None:
    for page in (ROOT / "README.md", ROOT / "CONTRIBUTING.md"):
        for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
            assert target.startswith("https://") or (ROOT / target).exists(), f"{page.name}: {target}"
