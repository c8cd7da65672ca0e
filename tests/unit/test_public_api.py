"""The public interface is what the list on the page "What stays as it is" says."""

from __future__ import annotations

import difflib
import subprocess
import sys
from pathlib import Path

import pytest

import api_listing
import gprann

LIST = Path(__file__).parents[2] / "docs" / "public_api.txt"


@pytest.mark.skipif(not LIST.is_file(), reason="tests apart from the source")
def test_the_list_is_true(tmp_path: Path) -> None:
    made = tmp_path / "list"  # by a process of its own: other tests register kernels and the like
    subprocess.run([sys.executable, api_listing.__file__, made], check=True)
    written = LIST.read_text(encoding="utf-8").splitlines()
    changes = difflib.unified_diff(
        written, made.read_text(encoding="utf-8").splitlines(), "list", "program", n=0, lineterm=""
    )
    found = [line for line in changes if not line.startswith(("---", "+++", "@@"))]
    assert not found, (
        "the public interface has changed; if that is on purpose and in the changelog: "
        "python tests/api_listing.py docs/public_api.txt\n" + "\n".join(found)
    )


def test_what_the_list_tells_of_parameters() -> None:
    def example(a: int, b: int = 1, *rest: int, c: int, d: int = 2, **more: int) -> None:
        """Have parameters of every kind."""

    assert api_listing.parameters(example) == "(a, b=, *rest, c, d=, **more)"
    assert api_listing.parameters(lambda a, *, b: None) == "(a, *, b)"


def test_what_the_list_tells_of_classes() -> None:
    lines = set(api_listing.python())
    assert "Potential.predict(" in "\n".join(lines)
    assert "PairsKernel.features(structure)" not in lines  # stands under Kernel
    assert not [line for line in lines if line.partition(".")[2].startswith("_")]
    assert {line.partition("(")[0].partition(".")[0] for line in lines} == set(gprann.__all__)
