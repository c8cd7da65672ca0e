"""Training over ranks of MPI: the same potential as in one process, and ends that leave no rank waiting."""

from __future__ import annotations

import functools
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import gprann
import rank_trainings
from gprann.errors import ConfigError
from gprann.runtime import mpi
from gprann.runtime.mpi import connect, deal
from gprann.training.ranks import lead

TESTS = Path(__file__).parents[1]
_ENVIRONMENT = {
    "GPRANN_NUM_THREADS": "1",
    # Open MPI: in containers, and with more ranks than processors.
    "OMPI_ALLOW_RUN_AS_ROOT": "1",
    "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
    "OMPI_MCA_rmaps_base_oversubscribe": "1",
    "PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe",
}


def mpiexec(
    ranks: int, *arguments: str | Path, folder: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """Run Python on some ranks; a run that hangs is ended, and fails."""
    paths = os.pathsep.join([os.path.pathsep.join(filter(None, sys.path)), str(TESTS)])
    search = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    command = [shutil.which("mpiexec", path=search) or "mpiexec", "-n", str(ranks), sys.executable]
    return subprocess.run(
        [*command, *map(str, arguments)],
        env={**os.environ, **_ENVIRONMENT, "PYTHONPATH": paths},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@functools.cache
def no_mpi() -> str:
    """Return why there is no MPI here, or nothing."""
    try:
        made = mpiexec(2, "-c", "from mpi4py.MPI import COMM_WORLD as c; c.rank or print(c.size)")
    except OSError as error:
        return f"mpiexec cannot be started: {error}"
    if made.returncode or made.stdout.split() != ["2"]:
        return f"mpiexec and mpi4py do not work together: {made.stdout} {made.stderr[-200:]}"
    return ""


@pytest.fixture
def _needs_mpi() -> None:
    if no_mpi():
        pytest.skip(no_mpi())


needs_mpi = pytest.mark.usefixtures("_needs_mpi")


# Results -----------------------------------------------------------------------------------------------------------
@pytest.fixture(scope="module", params=[2, 3])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The results of all trainings, on some ranks."""
    if no_mpi():
        pytest.skip(no_mpi())
    path = tmp_path_factory.mktemp("ranks")
    made = mpiexec(request.param, TESTS / "rank_trainings.py", path)
    assert made.returncode == 0, made.stderr
    return path


@functools.cache
def alone(name: str) -> dict[str, Any]:
    return rank_trainings.results(name)


@pytest.mark.parametrize("name", rank_trainings.TRAININGS)
def test_same_potential_as_in_one_process(name: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Up to the rounding of sums, which some iterations let grow; and the same bits on all ranks."""
    monkeypatch.setenv("GPRANN_NUM_THREADS", "1")
    number = list(rank_trainings.TRAININGS).index(name)
    found = np.load(folder / f"{number}.npz")
    others = np.load(folder / f"{number}-follower.npz")
    for key, expected in alone(name).items():
        scale = np.abs(expected).max()
        np.testing.assert_allclose(found[key], expected, rtol=0, atol=1e-6 * scale, err_msg=key)
        np.testing.assert_array_equal(others[key], found[key])


# Ends --------------------------------------------------------------------------------------------------------------
@needs_mpi
def test_rank_0_alone_speaks_and_writes(tmp_path: Path) -> None:
    gprann.write(tmp_path / "train.extxyz", gprann.examples.hydrogen(12))
    (tmp_path / "c.toml").write_text(
        'data.train = "train.extxyz"\naugmentation.method = "none"\noutput.plots = false\nmethod = "manual"\n'
        "training = { hidden = [3], iterations = 2, starts = 1, members = 2 }\nresources.mpi = true\n"
    )
    made = mpiexec(2, "-m", "gprann", "run", "c.toml", "--json", folder=tmp_path)
    assert made.returncode == 0, made.stderr
    assert json.loads(made.stdout)["result"]["skipped"] == []
    for text in (made.stderr, (tmp_path / "results" / "run.log").read_text()):
        assert text.count("divided among 2 ranks") == 1
        assert text.count("worker processes, without mpi, train them side by side") == 1


@needs_mpi
def test_checkpoints_are_taken_up_by_other_numbers_of_ranks(tmp_path: Path) -> None:
    gprann.write(tmp_path / "train.extxyz", gprann.examples.hydrogen(12))
    command = ["-m", "gprann", "train", "train.extxyz", "--mpi", "--hidden", "3", "--checkpoint", "states"]
    command += ["--optimizer", "adamw", "--iterations", "3", "--output"]
    states = tmp_path / "states" / "member_000.state"
    for ranks, name in ((3, "first.gprann"), (2, "second.gprann")):
        made = mpiexec(ranks, *command, name, folder=tmp_path)
        assert made.returncode == 0, made.stderr
        if ranks == 3:
            written = states.stat().st_mtime_ns
    assert states.stat().st_mtime_ns == written
    parameters = [gprann.load(tmp_path / f"{name}.gprann").parameters for name in ("first", "second")]
    np.testing.assert_array_equal(*parameters)


@needs_mpi
@pytest.mark.parametrize(
    ("failure", "messages"),
    [
        # In a step: the others wait for a sum.
        ("part.Part.energy_equations = fail", ["rank 1 of 2 has failed, all ranks end: broken on purpose"]),
        # In what is checked: rank 0 tells what has happened, and the other rank that it has.
        ("part.Part.standardise = fail", ["RankError: rank 1 has failed: broken on purpose"]),
        # On rank 0.
        ("train.train_members = fail", ["broken on purpose", "RankError: rank 0 has failed"]),
    ],
)
def test_a_failure_ends_all_ranks(failure: str, messages: list[str], tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "import gprann, rank_trainings\n"
        "from importlib import import_module\n"
        "from mpi4py import MPI\n"
        "part = import_module('gprann.training.ranks.part')\n"
        "train = import_module('gprann.training.train')\n"
        "def fail(*arguments, **facts):\n"
        "    raise ValueError('broken on purpose')\n"
        f"if MPI.COMM_WORLD.rank == {int('part' in failure)}:\n"
        f"    {failure}\n"
        "rank_trainings.results('lm, energies', mpi=True)\n"
    )
    made = mpiexec(2, script)
    assert made.returncode != 0
    for message in messages:
        assert message in made.stderr


@needs_mpi
def test_bad_structures_of_other_ranks_are_named(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "import gprann, rank_trainings\n"
        "from gprann.data.structure import Origin\n"
        "data = list(gprann.examples.hydrogen(6))\n"
        "bad = data[5].replace(positions=[[0, 0, 0], [0, 0, 0.01]])\n"
        "data[5] = bad.replace(origin=Origin('mine.extxyz', 17))\n"
        "gprann.train(gprann.Dataset(data), rank_trainings.DESCRIPTOR, mpi=True)\n"
    )
    made = mpiexec(2, script)
    assert made.returncode != 0
    assert "AtomsTooCloseError: mine.extxyz, structure 17" in made.stderr


# Without MPI -------------------------------------------------------------------------------------------------------
class TestConnection:
    def fake(self, monkeypatch: pytest.MonkeyPatch, size: int = 1) -> None:
        comm = SimpleNamespace(Get_rank=lambda: 0, Get_size=lambda: size)
        monkeypatch.setattr(mpi, "_mpi", lambda: SimpleNamespace(COMM_WORLD=comm))

    def test_one_rank_does_everything(
        self, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        self.fake(monkeypatch)
        for variable in mpi._SIZES:
            monkeypatch.delenv(variable, raising=False)
        with caplog.at_level("INFO", "gprann"):
            assert lead(lambda: 7) == 7
        assert "one rank alone" in caplog.text

    @pytest.mark.parametrize("variable", mpi._SIZES)
    def test_other_mpi_than_that_of_mpiexec(self, variable: str, monkeypatch: pytest.MonkeyPatch) -> None:
        self.fake(monkeypatch)
        monkeypatch.setenv(variable, "4")
        with pytest.raises(ConfigError, match="has started 4 processes, but mpi4py sees one alone"):
            connect()

    def test_without_mpi4py(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "mpi4py", None)
        with pytest.raises(ConfigError, match=r"needs mpi4py.*pip install 'gprann\[mpi\]'"):
            gprann.train(gprann.examples.hydrogen(4), rank_trainings.DESCRIPTOR, mpi=True)


class Wire:
    """A communicator of one process: what is sent is received by the same, what is summed is doubled."""

    def __init__(self) -> None:
        self.rank, self.sent = 0, []
        self.done = SimpleNamespace(Test=lambda: True)

    def Get_rank(self) -> int:  # noqa: N802 - the name of mpi4py
        return self.rank

    def Ibcast(self, array: Any, root: int) -> Any:  # noqa: N802
        if self.rank == root:
            self.sent.append(array.copy())
        else:
            array[:] = self.sent.pop(0)
        return self.done

    def Ireduce(self, place: Any, array: Any, root: int) -> Any:  # noqa: N802
        array *= 2
        return self.done


class TestMessages:
    @pytest.mark.parametrize("size", [0, 3, 1900, 2100, 50000])
    def test_arrive_whole(self, size: int) -> None:
        wire = Wire()
        arrays = [np.arange(float(size)), np.arange(6, dtype=np.int32).reshape(2, 3), np.zeros((0, 4))]
        mpi.Channel(wire).announce(mpi.Message("name", {"of": 3}, arrays))
        wire.rank = 1
        name, facts, found = mpi.Channel(wire).receive()
        assert (name, facts, wire.sent) == ("name", {"of": 3}, [])
        for array, expected in zip(found, arrays, strict=True):
            np.testing.assert_array_equal(array, expected)
            assert (array.dtype, array.shape) == (expected.dtype, expected.shape)

    @pytest.mark.parametrize("size", [1, 511, 512, 1100])
    def test_the_lower_triangle_is_summed(self, size: int, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(mpi, "_in_place", lambda: None)
        matrix = np.random.default_rng(0).normal(size=(size, size))
        expected = 2 * np.tril(matrix)
        vector = np.ones(3)
        mpi.Channel(Wire()).sum([mpi.Lower(matrix), vector])
        np.testing.assert_array_equal(np.tril(matrix), expected)
        np.testing.assert_array_equal(vector, 2.0)


class TestDeal:
    def test_sums_are_balanced(self) -> None:
        sizes = np.random.default_rng(0).integers(1, 50, size=200)
        owner = deal(sizes, 4)
        loads = np.bincount(owner, weights=sizes, minlength=4)
        assert loads.max() - loads.min() <= sizes.max()

    def test_every_rank_has_a_piece(self) -> None:
        assert sorted(deal([1000, 1, 1], 3).tolist()) == [0, 1, 2]

    def test_too_many_ranks(self) -> None:
        with pytest.raises(ConfigError, match="4 ranks, but only 3 structures"):
            deal([2, 2, 2], 4)
