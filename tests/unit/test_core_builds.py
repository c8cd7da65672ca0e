"""Every build of the compiled core gives the same numbers, and one of them is picked."""

from __future__ import annotations

import importlib
import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import contracts
from gprann import _core, _cpu

LEVELS = ("base", "v3", "v4")
SUPPORTED = LEVELS[: LEVELS.index(_cpu.instruction_set()) + 1]
INSTALLED = tuple(level for level in LEVELS if importlib.util.find_spec(f"gprann._core_{level}"))
RUNNABLE = tuple(level for level in SUPPORTED if level in INSTALLED)

COMPUTE = """
import sys

import numpy as np

from gprann import _core
from gprann.descriptors import ChebyshevDescriptor
from gprann.runtime.resources import scipy_blas
from gprann.data.structure import Structure

assert _core.INSTRUCTION_SET == sys.argv[2], _core.INSTRUCTION_SET
loaded = [name for name in sys.modules if name.startswith("gprann._core_")]
assert loaded == ["gprann._core_" + sys.argv[2]], loaded

rng = np.random.default_rng(0)
grid = np.stack(np.meshgrid(*[np.arange(3.0)] * 3), -1).reshape(-1, 3) * 1.8
structure = Structure(("C", "H", "O") * 9, grid + rng.uniform(-0.3, 0.3, (27, 3)), np.eye(3) * 5.4, [True, True, False])
descriptor = ChebyshevDescriptor(["C", "H", "O"], angular_order=6)
neighbours = descriptor.neighbours([structure])
G = descriptor.values(neighbours)
beta, direction = rng.normal(size=G.shape), rng.normal(size=(27, 3))
gradient, virial = descriptor.vjp(neighbours, beta)
out = {"values": G, "jvp": descriptor.jvp(neighbours, direction), "gradient": gradient, "virial": virial}

g = (G - G.mean(axis=0)) / G.std(axis=0).max()
network = _core.Network([G.shape[1], 10, 10, 1], "tanh", 1)
w = rng.normal(size=network.n_parameters) * 0.3
atoms = _core.AtomFeatures(g, np.array([[0, 10, 27]]))
out["energies"], out["rows"] = network.energy_rows(w, atoms)
targets, weights = np.array([1.0, 2.0]), np.ones(2)
out["loss"], out["loss_gradient"] = network.energy_loss(w, atoms, np.arange(2), targets, weights, 2)

sets = _core.FeatureSets(np.array([[0, 10], [10, 27]]), g, descriptor.jacobian(neighbours, 0), np.array([81, 81]))
for name, blas in (("eigen", _core.Blas()), ("scipy", scipy_blas())):
    K = np.zeros((164, 164))
    _core.covariance(sets, sets, _core.SquaredExponential(5.0), blas, False, 2, K)
    out["covariance_" + name] = K.copy()
    K += np.eye(164) * K.max()
    assert _core.cholesky(blas, K, 2) == -1
    out["cholesky_" + name] = np.tril(K)
np.savez(sys.argv[1], **out)
"""


def run(code: str, level: str | None, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {key: value for key, value in os.environ.items() if key != "GPRANN_INSTRUCTION_SET"}
    if level is not None:
        environment["GPRANN_INSTRUCTION_SET"] = level
    environment["PYTHONPATH"] = str(Path(_core.__file__).parents[1])
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=120)


def compute(level: str, folder: Path) -> dict[str, np.ndarray]:
    file = folder / f"{level}.npz"
    done = run(COMPUTE, level, str(file), level)
    assert done.returncode == 0, done.stderr
    with np.load(file) as arrays:
        return dict(arrays)


def test_builds_give_the_same_numbers(tmp_path: Path) -> None:
    results = {level: compute(level, tmp_path) for level in RUNNABLE}
    reference = results[RUNNABLE[0]]
    for result in results.values():
        assert result.keys() == reference.keys()
        for name, expected in reference.items():
            assert np.abs(expected).max() > 0, name
            contracts.assert_close(result[name], expected, relative=1e-12)


PICKLED = """
import pickle
import sys
from pathlib import Path

import numpy as np

from gprann import ChebyshevDescriptor
from gprann.data.structure import Structure
from gprann.models import NetworkModel, Normalisation

descriptor = ChebyshevDescriptor(["C", "H"], angular_order=6)
neighbours = descriptor.neighbours([Structure(("C", "H"), [[0, 0, 0], [1.1, 0, 0]])])
normalisation = Normalisation(np.ones((2, 44)), np.ones((2, 44)))
things = (descriptor, neighbours, normalisation, NetworkModel(descriptor.size, (3,), 2))
Path(sys.argv[1]).write_bytes(pickle.dumps(things))
"""

UNPICKLED = """
import copy
import pickle
import sys
from pathlib import Path

from gprann import _core

descriptor, neighbours, normalisation, network = copy.deepcopy(pickle.loads(Path(sys.argv[1]).read_bytes()))
assert type(descriptor.core).__module__ == "gprann._core_" + _core.INSTRUCTION_SET
print(_core.INSTRUCTION_SET, descriptor.values(neighbours).shape, network.n_parameters, normalisation.mean.sum())
"""


@pytest.mark.skipif(len(RUNNABLE) < 2, reason="needs two builds")
def test_pickles_are_read_by_another_build(tmp_path: Path) -> None:
    first, last = RUNNABLE[0], RUNNABLE[-1]
    for writer, reader in ((first, last), (last, first)):
        done = run(PICKLED, writer, str(tmp_path / writer))
        assert done.returncode == 0, done.stderr
        done = run(UNPICKLED, reader, str(tmp_path / writer))
        assert done.stdout.split("\n")[0] == f"{reader} (2, 40) 254 88.0", done.stderr


def pick(level: str | None, *, processor: str = SUPPORTED[-1], missing: tuple[str, ...] = ()) -> str:
    """What is loaded on such a processor without some of the builds; the last line of the error if nothing is."""
    code = f"""
import sys, types
processor = types.ModuleType("gprann._cpu")
processor.instruction_set = lambda: {processor!r}
sys.modules["gprann._cpu"] = processor
sys.modules.update({{"gprann._core_" + level: None for level in {missing!r}}})
from gprann import _core
print(_core.INSTRUCTION_SET)
"""
    done = run(code, level)
    return done.stdout.strip() if done.returncode == 0 else done.stderr.strip().splitlines()[-1]


def test_best_build_is_picked() -> None:
    assert pick(None) == RUNNABLE[-1]
    assert pick(None, missing=RUNNABLE[1:]) == RUNNABLE[0]


@pytest.mark.parametrize("level", RUNNABLE)
def test_processor_limits_the_choice(level: str) -> None:
    assert pick(None, processor=level) == level
    better = LEVELS[LEVELS.index(level) + 1 :]
    if better:
        assert f"ConfigError: GPRANN_INSTRUCTION_SET={better[0]}: this processor runs only" in pick(
            better[0], processor=level
        )


def test_without_any_build_the_remedy_is_named() -> None:
    for level in (None, RUNNABLE[-1]):
        assert "ImportError: no compiled core was found: reinstall" in pick(level, missing=LEVELS)


def test_kernels_of_the_loaded_build_are_exported() -> None:
    module = importlib.import_module(f"gprann._core_{_core.INSTRUCTION_SET}")
    for name in ("Descriptor", "Network", "cholesky"):
        assert getattr(_core, name) is getattr(module, name)


@pytest.mark.skipif(INSTALLED == ("base",), reason="the only build is the one for every processor")
def test_without_a_build_for_this_processor_the_remedy_is_named() -> None:
    installed = next(level for level in reversed(INSTALLED) if level != "base")
    others = tuple(level for level in LEVELS if level != installed)
    error = pick(None, processor="base", missing=others)
    assert re.search(r"compiled for processors with AVX.* not for SSE2 .*GPRANN_LEVELS=all", error)


@pytest.mark.parametrize(
    ("value", "remedy"),
    [("v2", "valid names|did you mean"), ("", "valid names"), ("v33", "did you mean 'v3'")],
)
def test_unknown_level_is_refused(value: str, remedy: str) -> None:
    error = pick(value)
    assert f"ConfigError: GPRANN_INSTRUCTION_SET={value}: " in error
    assert re.search(remedy, error)
