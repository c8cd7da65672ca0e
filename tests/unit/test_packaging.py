"""The installed package: metadata, files, signatures, and what an import loads."""

from __future__ import annotations

import ast
import importlib
import importlib.metadata
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import gprann
from gprann import _core, _cpu

REPOSITORY = Path(__file__).resolve().parents[2]
PACKAGE = Path(_core.__file__).parent
OPTIONAL = {"matplotlib", "dscribe", "tblite", "mpi4py", "dask", "torch", "pandas", "IPython", "pytest"}
PLOTTING = {
    "gprann.evaluation.drawing",
    "gprann.evaluation.method_plots",
    "gprann.evaluation.page.grades",
    "gprann.evaluation.plots",
    "gprann.properties.drawing",
}

WANTED_SOURCES = {"gprann/include/gprann.h", "gprann/lammps/pair_gprann.cpp"}
"""Of the C interface, and of the pair style that is compiled where LAMMPS is."""

LIST_MODULES = """
import json, pkgutil, sys
import gprann
names = [m.name for m in pkgutil.walk_packages(gprann.__path__, "gprann.")]
names = [n for n in names if not n.endswith("__main__") and not n.startswith(("gprann._core_", "gprann.libgprann"))]
"""


def run_python(code: str) -> Any:
    """Run `code` in a fresh interpreter, outside the repository, and return the JSON that it prints."""
    answer = subprocess.run(
        [sys.executable, "-c", code],
        cwd=PACKAGE.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    assert answer.returncode == 0, answer.stderr
    return json.loads(answer.stdout)


@pytest.fixture(scope="module")
def installed_files() -> set[str]:
    """Every file that the installation of the wheel put on this machine."""
    files = importlib.metadata.files("gprann")
    assert files is not None, "the installation has no record of its files"
    return {file.as_posix() for file in files}


class TestMetadata:
    def test_version_is_that_of_the_installation(self) -> None:
        assert gprann.__version__ == importlib.metadata.version("gprann")

    @pytest.mark.parametrize(
        ("file", "pattern"),
        [
            ("pyproject.toml", r'^version = "(.+)"$'),
            ("CITATION.cff", r"^version: (.+)$"),
            ("CHANGELOG.md", r"^## \[(\d.*?)\]"),
        ],
    )
    def test_version_is_the_same_in_every_file(self, file: str, pattern: str) -> None:
        found = re.search(pattern, (REPOSITORY / file).read_text(encoding="utf-8"), re.MULTILINE)
        assert found is not None
        assert found[1] == gprann.__version__

    def test_command_resolves(self) -> None:
        (command,) = importlib.metadata.entry_points(group="console_scripts", name="gprann")
        assert command.value == "gprann.cli.main:main"
        assert callable(command.load())

    def test_licences_are_installed(self, installed_files: set[str]) -> None:
        names = {name.rsplit("/", 1)[1] for name in installed_files if ".dist-info/licenses/" in name}
        assert {"LICENSE", "MPL-2.0.txt", "BSD-3-Clause-pybind11.txt", "NOTICE.md"} <= names


class TestFiles:
    def test_types_are_installed(self, installed_files: set[str]) -> None:
        assert {"gprann/py.typed", "gprann/_kernels.pyi", "gprann/_cpu.pyi"} <= installed_files

    def test_every_python_file_of_the_package_is_installed(self, installed_files: set[str]) -> None:
        source = REPOSITORY / "python"
        expected = {path.relative_to(source).as_posix() for path in source.rglob("*.py")}
        assert expected <= installed_files

    def test_nothing_else_is_installed(self, installed_files: set[str]) -> None:
        place = re.compile(
            r"(gprann|gprann_lammps)/.+|gprann-[^/]+\.dist-info/.+|.+/(bin|Scripts)/gprann(\.exe)?"
        )
        assert {name for name in installed_files if not place.fullmatch(name)} == set()
        foreign = re.compile(r".+\.(cpp|hpp|h|a|o|cmake|txt)|(.+/)?(\.|test).*")
        package = {name for name in installed_files if name.startswith("gprann/")}
        assert {name for name in package if foreign.fullmatch(name)} == WANTED_SOURCES

    def test_a_build_is_there_for_this_processor(self, installed_files: set[str]) -> None:
        builds = {found[1] for name in installed_files if (found := re.match(r"gprann/_core_(\w+)\.", name))}
        assert builds & {"base", _cpu.instruction_set()}  # a wheel has all, an installation from source one
        assert builds <= {"base", "v3", "v4"}

    @pytest.mark.skipif(sys.platform == "win32", reason="there is no C interface for Windows")
    def test_each_build_has_a_library_of_the_c_interface(self, installed_files: set[str]) -> None:
        builds = {found[1] for name in installed_files if (found := re.match(r"gprann/_core_(\w+)\.", name))}
        names = {name.partition(".")[0] for name in installed_files if name.startswith("gprann/libgprann")}
        assert names == {"gprann/libgprann", *(f"gprann/libgprann_{level}" for level in builds)}

    def test_lammps_finds_the_pair_style(self) -> None:
        (entry,) = importlib.metadata.entry_points(group="lammps.plugins", name="gprann")
        assert entry.value == "gprann_lammps:plugin_path"
        assert isinstance(entry.load()(), str)


class TestStub:
    """The hand-written signatures against those of the compiled module."""

    @staticmethod
    def declared() -> dict[str, list[str]]:
        """Argument names by function, methods as Class.method, without `self`."""
        found: dict[str, list[str]] = {}
        tree = ast.parse((PACKAGE / "_kernels.pyi").read_text(encoding="utf-8"))
        for node in tree.body:
            for child in node.body if isinstance(node, ast.ClassDef) else [node]:
                if isinstance(child, ast.FunctionDef):
                    owner = f"{node.name}." if isinstance(node, ast.ClassDef) else ""
                    found[owner + child.name] = [a.arg for a in child.args.args if a.arg != "self"]
        return found

    @staticmethod
    def compiled(name: str) -> Any:
        owner, _, member = name.rpartition(".")
        return getattr(getattr(_core, owner) if owner else _core, member)

    def test_stub_declares_what_is_compiled(self) -> None:
        module = importlib.import_module(f"gprann._core_{_core.INSTRUCTION_SET}")
        names = {name: value for name, value in vars(module).items() if not name.startswith("_")}
        compiled = {name for name, value in names.items() if not isinstance(value, type)}
        for owner, value in names.items():
            if isinstance(value, type):
                members = [name for name in vars(value) if name == "__init__" or not name.startswith("_")]
                compiled |= {f"{owner}.{member}" for member in members}
        abstract = {"AtomModel.__init__", "Descriptor.__init__", "RadialKernel.__init__"}
        assert set(self.declared()) == compiled - abstract

    def test_argument_names_agree(self) -> None:
        checked = 0
        for name, arguments in self.declared().items():
            entry = self.compiled(name)
            if isinstance(entry, property):
                continue
            # pybind11 opens the docstring with "name(self: T, first: T, second: T = 0) -> T".
            signature = entry.__doc__.splitlines()[0].partition("(")[2]
            names = [n for n in re.findall(r"(?:^|, )(\w+):", signature) if n != "self"]
            assert names == arguments, f"{name}: compiled {names}, declared {arguments}"
            checked += 1
        assert checked > 10


class TestImports:
    def test_import_loads_no_optional_package(self) -> None:
        code = "import json, sys\nfrom gprann import *\nprint(json.dumps(sorted(sys.modules)))"
        loaded = {name.partition(".")[0] for name in run_python(code)}
        assert "numpy" in loaded
        assert not loaded & OPTIONAL

    def test_one_build_of_the_core_is_loaded(self) -> None:
        names = "[n for n in sys.modules if n.startswith('gprann._core_')]"
        assert len(run_python(f"import json, sys\nfrom gprann import *\nprint(json.dumps({names}))")) == 1

    def test_every_module_but_the_plots_imports_without_matplotlib(self) -> None:
        code = (
            LIST_MODULES
            + """
sys.modules["matplotlib"] = None
failed = []
for name in names:
    try:
        __import__(name)
    except ImportError as error:
        failed.append(name)
print(json.dumps([failed, len(names)]))
"""
        )
        failed, count = run_python(code)
        assert count > 10
        assert set(failed) <= PLOTTING

    def test_import_prints_nothing_and_leaves_logging_alone(self) -> None:
        code = """
import json, logging
import gprann
logger = logging.getLogger("gprann")
quiet = all(isinstance(h, logging.NullHandler) for h in logger.handlers)
print(json.dumps([quiet, len(logging.getLogger().handlers)]))
"""
        assert run_python(code) == [True, 0]
