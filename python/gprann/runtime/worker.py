"""Worker process of `WorkerProcesses`: makes the calls that come in on standard input.

Started as `python -m gprann.runtime.worker`; a process of its own with a clean start, never a fork.
"""

from __future__ import annotations

import os
import pickle
from typing import IO

from gprann.runtime.executors import read_message, write_message


def run(requests: IO[bytes], answers: IO[bytes]) -> None:
    """Answer requests until there are no more: whether a call succeeded, and its result or exception."""
    while (request := read_message(requests)) is not None:
        try:
            function, args, kwargs = pickle.loads(request)
            answer = pickle.dumps((True, function(*args, **kwargs)))
        # The exception is the answer, whatever it is.
        except Exception as error:
            answer = _describe(error)
        write_message(answers, answer)


def _describe(error: Exception) -> bytes:
    try:
        answer = pickle.dumps((False, error))
        pickle.loads(answer)
    except Exception:  # it cannot be pickled
        answer = pickle.dumps((False, RuntimeError(f"{type(error).__name__}: {error}")))
    return answer


if __name__ == "__main__":
    # What is printed must not get among the answers.
    with os.fdopen(0, "rb", closefd=False) as given, os.fdopen(os.dup(1), "wb") as taken:
        os.dup2(2, 1)
        run(given, taken)
