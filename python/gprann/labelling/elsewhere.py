"""Labelling by the calls of an executor, on this machine or on others."""

from __future__ import annotations

import atexit
import os
import platform
import tempfile
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path

from gprann.data.structure import Structure
from gprann.labelling.calculators import CalculatorSpec
from gprann.labelling.process import LabellingError, WorkerProcess
from gprann.runtime.executors import Call, run_calls


@dataclass(frozen=True, slots=True)
class Attempts:
    """How a structure is labelled, wherever that is.

    Attributes
    ----------
    spec : CalculatorSpec
    most : int
        Attempts at a structure.
    timeout : float or None, s
        Of each.
    scratch : str or None
        Folder in which workers run, which is made where it is missing; None for temporary ones.
    """

    spec: CalculatorSpec
    most: int
    timeout: float | None
    scratch: str | None


def label_elsewhere(
    missing: Sequence[tuple[int, Structure]],
    how: Attempts,
    workers: str | Executor,
    done: Callable[[int, Structure, Structure | str], object],
) -> None:
    """Label structures by the calls of an executor.

    Parameters
    ----------
    missing : sequence of (int, Structure)
        Numbers and structures.
    how : Attempts
    workers : str or Executor
    done : callable
        Called with the number and the structure, and with the labelled one or the reason why there is none.

    Raises
    ------
    ConfigError
        If the calculator or the executor cannot be made.
    """
    calls = [Call(label_one, (how, structure)) for _, structure in missing]
    run_calls(workers, calls, lambda k, result: done(*missing[k], result))


def label_one(how: Attempts, structure: Structure) -> Structure | str:
    """Return a structure with its labels, or the reason why there are none; the calculator is kept for the next one."""
    process = _process(how)
    reason = ""
    for _ in range(how.most):
        try:
            return process.label(structure)
        except LabellingError as error:
            reason = str(error)
    return reason


_processes: dict[tuple[int, str], WorkerProcess] = {}


def _process(how: Attempts) -> WorkerProcess:
    """Return the process of the calculator that belongs to this thread of a worker."""
    key = (threading.get_ident(), repr(how))
    if key not in _processes:
        name = f"worker_{platform.node()}_{os.getpid()}_{len(_processes)}"
        if how.scratch is None:
            temporary = tempfile.TemporaryDirectory(prefix="gprann-")
            atexit.register(temporary.cleanup)
            folder = Path(temporary.name) / name
        else:
            folder = Path(how.scratch).expanduser().absolute() / name
        process = _processes[key] = WorkerProcess(how.spec, folder, timeout=how.timeout)
        atexit.register(process.close)
    return _processes[key]
