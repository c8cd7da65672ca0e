"""Pick the build of the compiled core that suits this processor.

The wheel for x86-64 carries three builds (`_core_base`, `_core_v3` with AVX2 and FMA, `_core_v4` with
AVX-512); an installation from source has the one for the machine it was compiled on, unless it is told
`-C cmake.define.GPRANN_LEVELS=all`; other processors have `_core_base` alone. `GPRANN_INSTRUCTION_SET` (base, v3,
v4) overrides the choice. Only one is ever loaded. `_kernels.pyi` lists what they have in common, for type checkers and
readers.
"""

from __future__ import annotations

import importlib.util
import os
from typing import TYPE_CHECKING

from gprann import _cpu
from gprann.errors import ConfigError, nearest_name

if TYPE_CHECKING:
    from gprann._kernels import *  # noqa: F403

_FEATURES = {"base": "SSE2 (base)", "v3": "AVX2 (v3)", "v4": "AVX-512 (v4)"}
_LEVELS = tuple(_FEATURES)


def _candidates() -> list[str]:
    """Builds to try, best first."""
    supported = _LEVELS[: _LEVELS.index(_cpu.instruction_set()) + 1]
    wanted = os.environ.get("GPRANN_INSTRUCTION_SET")
    if wanted is not None:
        if wanted not in _LEVELS:
            raise ConfigError(f"GPRANN_INSTRUCTION_SET={wanted}: {nearest_name(wanted, _LEVELS)}")
        if wanted not in supported:
            raise ConfigError(
                f"GPRANN_INSTRUCTION_SET={wanted}: this processor runs only {', '.join(supported)}"
            )
        return [wanted]
    return list(reversed(supported))


def _load() -> str:
    for level in _candidates():
        try:
            module = importlib.import_module(f"gprann._core_{level}")
        except ModuleNotFoundError:
            continue
        globals().update({name: value for name, value in vars(module).items() if not name.startswith("_")})
        return level
    installed = [level for level in _LEVELS if importlib.util.find_spec(f"gprann._core_{level}")]
    if installed:
        names = [" or ".join(_FEATURES[level] for level in levels) for levels in (installed, _candidates())]
        raise ImportError(
            f"this installation was compiled for processors with {names[0]}, not for {names[1]}: reinstall it from the "
            "source on this machine, or for all processors with pip install -C cmake.define.GPRANN_LEVELS=all ."
        )
    raise ImportError("no compiled core was found: reinstall with 'pip install --force-reinstall gprann'")


INSTRUCTION_SET = _load()
"""Which build was loaded: base, v3 or v4."""
