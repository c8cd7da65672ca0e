"""Work on other processes and machines: own processes, mpi4py.futures, dask.distributed, and workers that are lost."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import samples
from gprann import ChebyshevDescriptor, Dataset, Structure, examples, label, load, read, train, write
from gprann.config import Config, ResourcesSection
from gprann.errors import ConfigError, DataError
from gprann.pipeline import run
from gprann.runtime import executors
from gprann.runtime.executors import Call, WorkerLostError, run_calls

TRAINING: dict[str, Any] = {"optimizer": "lm", "iterations": 6, "hidden": (4,), "members": 3, "seed": 2}


@pytest.fixture(autouse=True)
def _one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GPRANN_NUM_THREADS", "1")


class _Futures:
    """In the place of mpi4py.futures."""

    @staticmethod
    def MPIPoolExecutor(main: bool) -> Executor:  # noqa: N802 - the name there
        assert not main  # the script of the user is not run again
        return ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn"))


@pytest.fixture
def mpi(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let processes stand for the ranks of "mpi"."""
    monkeypatch.setattr(executors, "_import", lambda *names: _Futures)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(path for path in sys.path if path))


@pytest.fixture
def pool() -> Iterator[Executor]:
    with ThreadPoolExecutor(2) as threads:
        yield threads


def potential(workers: Any) -> Any:
    descriptor = ChebyshevDescriptor(["H", "O"], radial_order=3, radial_cutoff=3.5, angular_order=None)
    return train(samples.waters(10), descriptor, workers=workers, **TRAINING)


# Calls -------------------------------------------------------------------------------------------------------------


class Unreliable(Executor):
    """Loses every third piece of work that it is given."""

    def __init__(self, pool: Executor) -> None:
        self.pool, self.given = pool, 0

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        self.given += 1
        if self.given % 3 == 0:
            return self.pool.submit(_vanish)
        return self.pool.submit(fn, *args, **kwargs)


def _vanish() -> None:
    raise OSError("the worker is gone")


def test_the_work_of_a_lost_worker_alone_is_done_again(pool: Executor) -> None:
    found: list[tuple[int, int]] = []
    unreliable = Unreliable(pool)
    run_calls(unreliable, [Call(pow, (k, 2)) for k in range(5)], lambda k, result: found.append((k, result)))
    assert sorted(found) == [(k, k**2) for k in range(5)]
    assert unreliable.given == 7  # the third and the sixth were lost


def test_work_that_loses_every_worker_is_an_error(pool: Executor) -> None:
    with pytest.raises(WorkerLostError, match="3 workers failed at the same work: the worker is gone"):
        run_calls(pool, [Call(_vanish, ())], lambda k, result: None)


@pytest.mark.usefixtures("mpi")
def test_an_executor_that_breaks_is_opened_again() -> None:
    """A process that dies breaks the whole pool; work that was finished is not done again."""
    found: list[int] = []
    with pytest.raises(WorkerLostError, match="3 workers failed at the same work"):
        run_calls("mpi", [Call(pow, (2, 3)), Call(os._exit, (7,))], lambda k, result: found.append(result))
    assert found in ([8], [])


def test_errors_of_gprann_are_final(pool: Executor, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nowhere"):
        run_calls(pool, [Call(read, (str(tmp_path / "nowhere.xyz"),))], lambda k, result: None)


@pytest.mark.parametrize("workers", ["mpich", "dask:", "", "many", "0", 0, -3])
def test_workers_that_nobody_knows_are_refused(workers: object) -> None:
    with pytest.raises(ConfigError, match="workers"):
        Config(**{"data": {"train": "x.xyz"}, "resources": {"workers": workers}})  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="expected"):
        executors.check_workers(workers)


def test_work_goes_one_way_to_other_processes() -> None:
    with pytest.raises(
        ConfigError, match=r'workers = "mpi" gives independent pieces .* leave one of them out'
    ):
        ResourcesSection(workers="mpi", mpi=True)


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mpi4py", None)
    with pytest.raises(ConfigError, match=r"workers = mpi needs mpi4py: pip install 'gprann\[mpi\]'"):
        potential("mpi")


# What is computed on them ------------------------------------------------------------------------------------------


def test_a_committee_of_an_executor_has_the_same_bits(pool: Executor, tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()
    np.testing.assert_array_equal(potential(1).parameters, potential(pool).parameters)


def test_a_committee_survives_lost_workers(pool: Executor) -> None:
    unreliable = Unreliable(pool)
    np.testing.assert_array_equal(potential(1).parameters, potential(unreliable).parameters)
    assert unreliable.given == 4


@pytest.mark.usefixtures("mpi")
def test_labels_of_an_executor_are_those_of_this_machine(tmp_path: Path) -> None:
    here = label(examples.hydrogen(5), "emt", tmp_path / "here.xyz", workers=2, progress=False)
    there = label(examples.hydrogen(5), "emt", tmp_path / "there.xyz", workers="mpi", progress=False)
    assert (tmp_path / "here.xyz").read_text() == (tmp_path / "there.xyz").read_text()
    assert (here.computed, there.computed) == (5, 5)
    again = label(
        examples.hydrogen(5) + samples_of_emt(), "emt", tmp_path / "there.xyz", workers="mpi", progress=False
    )
    assert again.computed == 1


def samples_of_emt() -> Dataset:
    return Dataset([Structure(("H", "H"), np.array([[0.0, 0.0, 0.0], [0.0, 0.0, 0.9]]))])


@pytest.mark.usefixtures("mpi")
def test_a_run_on_an_executor_has_the_same_potential(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write("train.xyz", examples.hydrogen(9))
    found = []
    for workers in (1, "mpi"):
        config = Config.model_validate(
            {
                "data": {"train": "train.xyz"},
                "descriptor": {"radial_order": 4, "radial_cutoff": 6.0, "angular_order": "none"},
                "augmentation": {"copies": 3},
                "surrogate": {"kernel": "pairs"},
                "training": {**TRAINING, "members": 2},
                "resources": {"workers": workers},
                "output": {"folder": f"results_{workers}", "plots": False},
            }
        )
        found.append(load(run(config).potential))
    np.testing.assert_array_equal(found[0].parameters, found[1].parameters)


# Engines -----------------------------------------------------------------------------------------------------------


def test_dask(tmp_path: Path) -> None:
    distributed = pytest.importorskip("distributed")
    with distributed.LocalCluster(
        n_workers=2,
        threads_per_worker=1,
        processes=False,
        dashboard_address=None,
        local_directory=str(tmp_path),
    ) as cluster:
        found = potential(f"dask:{cluster.scheduler_address}")
    np.testing.assert_array_equal(potential(1).parameters, found.parameters)


def test_a_scheduler_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    distributed = pytest.importorskip("distributed")

    def refuse(**options: Any) -> None:
        raise OSError("timed out")

    monkeypatch.setattr(distributed, "Client", refuse)
    with pytest.raises(ConfigError, match=r"cannot be reached \(timed out\); start it with 'dask scheduler'"):
        potential("dask:tcp://127.0.0.1:1")


def test_mpi(tmp_path: Path) -> None:
    pytest.importorskip("mpi4py")
    launcher = Path(sys.executable).parent / "mpiexec"
    if not launcher.exists():
        pytest.skip("no mpiexec beside this Python")
    script = tmp_path / "script.py"
    script.write_text(
        "import numpy as np, gprann\n"
        "descriptor = gprann.ChebyshevDescriptor(['H'], radial_order=4, radial_cutoff=6.0, angular_order=None)\n"
        "options = dict(optimizer='lm', iterations=5, hidden=(4,), members=3, seed=1, progress=False)\n"
        "data = gprann.examples.hydrogen(9)\n"
        "here, there = (gprann.train(data, descriptor, workers=w, **options) for w in (1, 'mpi'))\n"
        "assert np.array_equal(here.parameters, there.parameters)\n"
        "print('the same bits')\n"
    )
    done = subprocess.run(
        [launcher, "-n", "3", sys.executable, "-m", "mpi4py.futures", script],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "the same bits"
