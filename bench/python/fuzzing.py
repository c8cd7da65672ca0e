"""Gather what fuzzing, sanitizers and valgrind have shown in bench/results/fuzzing.json.

    python tests/fuzz/fuzz.py --seconds 1500 --seed 1 --json a.json        any number of such runs
    python bench/python/fuzzing.py a.json ... [--note NAME=TEXT ...]

Inputs and findings of the runs are added up by target; findings are those of the runs given here. What was found before
and mended is counted in tests/fuzz/corpus. Notes tell the outcome of `.ci/memory`, or of atheris.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from pathlib import Path
from typing import Any

from measure import RESULTS, machine

FILE = RESULTS / "fuzzing.json"
CORPUS = Path(__file__).resolve().parents[2] / "tests" / "fuzz" / "corpus"


def add_up(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the sums of runs by target."""
    targets: dict[str, Any] = {}
    for run in runs:
        for name, found in run.items():
            row = targets.setdefault(name, {"inputs": 0, "read": 0, "seconds": 0.0, "findings": {}})
            for key in ("inputs", "read", "seconds"):
                row[key] = round(row[key] + found[key], 1)
            row["findings"] |= found["findings"]
    return targets


def main() -> None:
    """Write the file."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--note", nargs="+", default=[], metavar="NAME=TEXT")
    arguments = parser.parse_args()
    targets = add_up([json.loads(run.read_text(encoding="utf-8")) for run in arguments.runs])
    kinds = Counter(kind.partition(":")[0] for row in targets.values() for kind in row["findings"])
    mended = Counter(path.parent.name for path in sorted(CORPUS.glob("*/*")))
    document = {
        "machine": machine(),
        "inputs": sum(row["inputs"] for row in targets.values()),
        "crashes": kinds["crash"],
        "hangs": kinds["hang"],
        "over_memory": kinds["memory"],
        "other_findings_of_these_runs": sum(kinds.values())
        - sum(kinds[k] for k in ("crash", "hang", "memory")),
        "findings_mended": {"all": mended.total(), **mended},
        "targets": targets,
        **dict(note.split("=", 1) for note in arguments.note),
    }
    FILE.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    print(json.dumps({name: document[name] for name in ("inputs", "crashes", "hangs")}))


if __name__ == "__main__":
    main()
