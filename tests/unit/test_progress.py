"""Progress where there is no terminal: lines in the log, or on standard error."""

from __future__ import annotations

import io
import logging
import sys
import threading

import pytest

from gprann.runtime import messages
from gprann.runtime.messages import LineProgress, progress_bar


class Waiting(io.StringIO):
    """A stream that says when something was written."""

    def __init__(self) -> None:
        super().__init__()
        self.written = threading.Event()

    def write(self, text: str) -> int:
        result = super().write(text)
        self.written.set()
        return result


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(messages, "_EVERY", 0.01)


def test_lines_on_standard_error(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = Waiting()
    monkeypatch.setattr(sys, "stderr", stream)
    with progress_bar(10, "labelling") as bar:
        bar.update(4)
        bar.set_postfix_str("fitting subset 1")
        stream.written.clear()
        assert stream.written.wait(60)
    line = stream.getvalue().splitlines()[-1]
    assert line.startswith("labelling: 4 of 10 structures after 0 s, about 0 s left (fitting subset 1)")


def test_preparations_do_not_count_as_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 100.0, 110.0])
    monkeypatch.setattr(messages, "_EVERY", 1000.0)
    with progress_bar(10, "labelling") as bar, monkeypatch.context() as patch:
        bar._started = bar._counted = next(clock)
        patch.setattr(messages, "time", type("Clock", (), {"monotonic": lambda: next(clock)}))
        bar.set_postfix_str("")  # what was done for 100 s has ended
        bar.update(5)
        assert bar.line() == "labelling: 5 of 10 structures after 110 s, about 10 s left"


def test_lines_in_a_log_that_shows_them() -> None:
    stream = Waiting()
    handler, logger = logging.StreamHandler(stream), logging.getLogger("gprann")
    handler.setLevel(logging.INFO)
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        with LineProgress(3, "training", "it"):
            assert stream.written.wait(60)
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
    assert stream.getvalue().startswith("training: 0 of 3 it after 0 s\n")


def test_nothing_is_shown_if_that_is_asked_for() -> None:
    assert progress_bar(3, "training", show=False).disable
