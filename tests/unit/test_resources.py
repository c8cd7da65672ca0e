"""Resources of a job: threads, memory, and the BLAS of the compiled core."""

from __future__ import annotations

import os
import threading
import time
from concurrent.futures import CancelledError, ThreadPoolExecutor

import numpy as np
import pytest
from threadpoolctl import threadpool_info

from gprann import _core
from gprann.errors import ConfigError
from gprann.runtime.resources import (
    Job,
    available_memory,
    blas_and_threads,
    memory_share,
    n_threads,
    one_blas_thread,
    scipy_blas,
    side_by_side,
)


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("GPRANN_NUM_THREADS", "OMP_NUM_THREADS"):
        monkeypatch.delenv(variable, raising=False)


def blas_threads() -> set[int]:
    return {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"}


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"GPRANN_NUM_THREADS": "5"}, 5),
        ({"OMP_NUM_THREADS": "3"}, 3),
        ({"OMP_NUM_THREADS": "4,2,1"}, 4),  # OpenMP's list for nested levels
        ({"GPRANN_NUM_THREADS": "2", "OMP_NUM_THREADS": "7"}, 2),
        ({"GPRANN_NUM_THREADS": "", "OMP_NUM_THREADS": "7"}, 7),
        ({"GPRANN_NUM_THREADS": " 6 "}, 6),
    ],
)
def test_variables_set_the_number(
    variables: dict[str, str], expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert n_threads() == expected


@pytest.mark.parametrize("variable", ["GPRANN_NUM_THREADS", "OMP_NUM_THREADS"])
@pytest.mark.parametrize("value", ["0", "-1", "two", "1.5", "²"])
def test_impossible_numbers_are_refused(variable: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(ConfigError, match=f"{variable}={value}: expected a positive integer"):
        n_threads()


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="this system has no processor affinity")
def test_affinity_counts_without_variables() -> None:
    before = os.sched_getaffinity(0)
    assert n_threads() == len(before)
    try:
        os.sched_setaffinity(0, {min(before)})
        assert n_threads() == 1
    finally:
        os.sched_setaffinity(0, before)


def test_blas_runs_one_thread_inside_and_as_before_outside() -> None:
    scipy_blas()
    before = blas_threads()
    assert before
    with one_blas_thread():
        assert blas_threads() == {1}
    assert blas_threads() == before
    with pytest.raises(ZeroDivisionError), one_blas_thread():
        raise ZeroDivisionError
    assert blas_threads() == before


def test_scipy_blas_is_one_object_that_multiplies() -> None:
    assert scipy_blas() is scipy_blas()
    K = np.array([[4.0, np.nan], [2.0, 5.0]])
    assert _core.cholesky(scipy_blas(), K, 1) == -1
    np.testing.assert_allclose(np.tril(K), [[2.0, 0.0], [1.0, 2.0]])


def test_kernels_may_run_side_by_side() -> None:
    """The kernels release the interpreter's lock and share no state."""
    K = np.eye(700) * 4 + np.tri(700) * 1e-3
    expected = K.copy()

    def factor(_: int) -> np.ndarray:
        own = K.copy()
        assert _core.cholesky(scipy_blas(), own, 2) == -1
        return own

    with one_blas_thread():
        _core.cholesky(scipy_blas(), expected, 1)
        with ThreadPoolExecutor(4) as pool:
            for actual in pool.map(factor, range(8)):
                np.testing.assert_array_equal(actual, expected)


def test_blas_stays_at_one_thread_until_the_last_block_of_any_thread_ends() -> None:
    scipy_blas()
    before = blas_threads()
    entered, leave = threading.Event(), threading.Event()

    def inside() -> set[int]:
        with one_blas_thread():
            entered.set()
            assert leave.wait(10)
            return blas_threads()

    with ThreadPoolExecutor(1) as pool:
        with one_blas_thread():
            later = pool.submit(inside)
            assert entered.wait(10)
        assert blas_threads() == {1}  # the other thread is still inside
        leave.set()
        assert later.result() == {1}
    assert blas_threads() == before


class TestSideBySide:
    @pytest.fixture(autouse=True)
    def four_threads(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("GPRANN_NUM_THREADS", "4")

    def run(self, sizes: list[float], memory: float, kept: float = 0.0, most: int | None = None) -> int:
        """Run jobs that take so much memory; return how many ran at a time, at most."""
        lock, running, largest = threading.Lock(), [0], [0]

        def work(number: int) -> int:
            with lock:
                running[0] += 1
                largest[0] = max(largest[0], running[0])
            time.sleep(0.02 * (len(sizes) - number))  # the first ends last
            with lock:
                running[0] -= 1
            return number

        jobs = [Job(lambda k=k: work(k), size, kept) for k, size in enumerate(sizes)]
        assert side_by_side(jobs, memory=memory, most=most) == list(range(len(sizes)))
        return largest[0]

    def test_as_many_as_threads(self) -> None:
        assert self.run([0.1] * 6, 10.0) == 4
        assert self.run([0.1] * 6, 10.0, most=3) == 3
        assert self.run([], 10.0) == 0

    def test_as_many_as_fit_into_the_memory(self) -> None:
        assert self.run([0.5] * 5, 1.0) == 2
        assert self.run([2.0] * 3, 1.0) == 1
        assert self.run([0.9, 0.5, 0.5], 1.0) == 2
        assert self.run([0.9, 0.5, 0.5], 1.0, kept=0.6) == 1

    def test_threads_are_shared_and_given_back(self) -> None:
        together, alone = threading.Barrier(2), threading.Event()

        def first() -> tuple[int, int]:
            together.wait(10)
            share = n_threads()
            together.wait(10)
            assert alone.wait(10)
            for _ in range(1000):
                if n_threads() == 4:
                    break
                time.sleep(0.01)
            return share, n_threads()

        def second() -> int:
            together.wait(10)
            share = n_threads()
            together.wait(10)
            alone.set()
            return share

        jobs: list[Job[object]] = [Job(first, 0.1), Job(second, 0.1)]
        assert side_by_side(jobs, memory=1.0) == [(2, 4), 2]
        assert n_threads() == 4

    def test_a_failure_stops_the_others(self) -> None:
        seen: list[str] = []
        begun = threading.Barrier(3)

        def endless() -> None:
            begun.wait(10)
            try:
                while True:
                    n_threads()
                    time.sleep(0.001)
            except CancelledError:
                seen.append("stopped")
                raise

        def failing() -> None:
            begun.wait(10)
            raise ZeroDivisionError

        jobs = [Job(endless, 0.1), Job(failing, 0.1), Job(endless, 0.1), *[Job(endless, 9.0)] * 2]
        with pytest.raises(ZeroDivisionError):
            side_by_side(jobs, memory=1.0)
        assert seen == ["stopped"] * 2  # the last two never began
        assert n_threads() == 4


def test_a_team_within_a_team_stops_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GPRANN_NUM_THREADS", "4")
    failed = threading.Event()

    def fails() -> None:
        failed.wait(5)
        raise ValueError("wrong")

    def outer() -> list[None]:
        return side_by_side([Job(inner, 0.1) for _ in range(2)], memory=1.0)

    def inner() -> None:
        failed.set()
        end = time.monotonic() + 5
        while time.monotonic() < end:
            n_threads()
            time.sleep(0.01)
        raise AssertionError("was not stopped")

    with pytest.raises(ValueError, match="wrong"):
        side_by_side([Job(fails, 0.1), Job(outer, 0.1)], memory=1.0)  # type: ignore[arg-type]


def test_a_job_that_runs_alone_while_the_next_waits_for_memory_has_all_threads(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("GPRANN_NUM_THREADS", "4")
    ended, seen = threading.Event(), []

    def long() -> None:
        ended.wait(5)
        for _ in range(200):
            if n_threads() == 4:
                break
            time.sleep(0.01)
        seen.append(n_threads())

    jobs = [Job(long, 0.5), Job(ended.set, 0.4), Job(lambda: None, 1.0)]
    side_by_side(jobs, memory=1.0)
    assert seen == [4]


def test_jobs_keep_the_memory_share_and_divide_the_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GPRANN_NUM_THREADS", "4")
    both = threading.Barrier(2)

    def job() -> tuple[int, float | None]:
        both.wait(timeout=30)
        share = n_threads()
        both.wait(timeout=30)  # neither ends before the other has asked
        return share, available_memory()

    with memory_share(3.0):
        assert side_by_side([Job(job, 1.0), Job(job, 1.0)], memory=2.0) == [(2, 3.0), (2, 3.0)]
    assert n_threads() == 4


def test_kernels_get_one_blas_thread_a_call_and_the_threads_of_the_job(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("GPRANN_NUM_THREADS", "3")
    with blas_and_threads() as (blas, threads):
        assert blas is scipy_blas()
        assert threads == 3
        assert {library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"} == {
            1
        }
