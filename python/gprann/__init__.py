"""gprann: neural-network interatomic potentials from a few hundred first-principles energies and forces.

Units: Å, eV, eV/Å, eV/Å³; energies are total energies per structure.

The environment variable GPRANN_EXTENSIONS names modules, separated by commas, that register descriptors, kernels and
the like. They are imported with gprann, so that commands and worker processes know what they register.
"""

import ast
import os
from importlib import import_module
from pathlib import Path
from typing import Any

# The public names stand in `__init__.pyi`, where type checkers and editors look for them. A module is imported when one
# of its names is asked for: `import gprann` is quick, and a command loads no more than it needs.
_SOURCES = {
    alias.name: node.module
    for node in ast.parse(Path(__file__).with_suffix(".pyi").read_text(encoding="utf-8")).body
    if isinstance(node, ast.ImportFrom) and node.module is not None
    for alias in node.names
}
__all__ = list(_SOURCES)


def __getattr__(name: str) -> Any:
    source = _SOURCES.get(name)
    try:
        value = import_module(f"gprann.{name}") if source in (None, "gprann") else _of(str(source), name)
    except ModuleNotFoundError as error:
        if error.name != f"gprann.{name}":
            raise
        raise AttributeError(f"module 'gprann' has no attribute '{name}'") from None
    globals()[name] = value
    return value


def _of(module: str, name: str) -> Any:
    return getattr(import_module(module), name)


def __dir__() -> list[str]:
    return sorted({*__all__, *(name for name in globals() if name.startswith("__"))})


for _name in filter(None, map(str.strip, os.environ.get("GPRANN_EXTENSIONS", "").split(","))):
    try:
        import_module(_name)
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"GPRANN_EXTENSIONS names the module '{_name}', which cannot be imported ({error}): correct the "
            "name, or add its folder to PYTHONPATH"
        ) from error
