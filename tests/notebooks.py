"""Run the notebooks of `docs/notebooks`, without Jupyter, and keep what they print.

python tests/notebooks.py docs/notebooks/*.ipynb
"""

from __future__ import annotations

import contextlib
import io
import json
import sys
from pathlib import Path
from typing import Any

__all__ = ["cells", "code", "run", "source"]


def cells(notebook: Path) -> list[dict[str, Any]]:
    """Return the cells of a notebook (nbformat 4)."""
    document = json.loads(notebook.read_text(encoding="utf-8"))
    return list(document["cells"])


def source(cell: dict[str, Any]) -> str:
    """Return the text of a cell."""
    return "".join(cell["source"])


def code(notebook: Path) -> list[dict[str, Any]]:
    """Return the cells with code."""
    return [cell for cell in cells(notebook) if cell["cell_type"] == "code"]


def run(notebook: Path) -> list[str]:
    """Run the cells with code one after the other, and return what each of them prints."""
    names: dict[str, Any] = {"__name__": "__main__"}
    printed = []
    for number, cell in enumerate(code(notebook), start=1):
        output = io.StringIO()
        with contextlib.redirect_stdout(output):
            exec(compile(source(cell), f"{notebook.name}, cell {number}", "exec"), names)
        printed.append(output.getvalue())
    return printed


def keep_outputs(notebook: Path) -> None:
    """Write into the notebook what its cells print."""
    document = json.loads(notebook.read_text(encoding="utf-8"))
    own = [cell for cell in document["cells"] if cell["cell_type"] == "code"]
    for number, (cell, text) in enumerate(zip(own, run(notebook), strict=True), start=1):
        lines = text.splitlines(keepends=True)
        cell["execution_count"] = number
        cell["outputs"] = [{"name": "stdout", "output_type": "stream", "text": lines}] if lines else []
    notebook.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    for name in sys.argv[1:]:
        keep_outputs(Path(name))
