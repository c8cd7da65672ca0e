"""The command line that benchmarks share: named parts, whose results are merged into one file."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from measure import machine, peak_gib

Part = Callable[[Path], Mapping[str, Any] | Iterator[Mapping[str, Any]]]


def run_parts(parts: Mapping[str, Part], file: Path, description: str | None) -> None:
    """Measure the parts that the command line asks for, by default all, and merge each result into a file at once.

    A part takes the folder of data, and returns its result. One that takes long yields what it has found so far, whole
    each time: what was measured before it was ended is kept.
    """
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path, metavar="DATA")
    parser.add_argument("parts", nargs="*", metavar="PART")
    arguments = parser.parse_args()
    for name in arguments.parts:
        if name not in parts:
            parser.error(f"unknown part {name}; parts: {', '.join(parts)}")
    for name in arguments.parts or parts:
        found = parts[name](arguments.data.resolve())
        for result in _as_iterable(found):
            stored = {"machine": machine(), **result, "peak_GiB": peak_gib()}
            print(name, json.dumps(stored, default=str), flush=True)
            merge(file, name, stored, parts)


def _as_iterable(found: Mapping[str, Any] | Iterator[Mapping[str, Any]]) -> Iterable[Mapping[str, Any]]:
    return [found] if isinstance(found, Mapping) else found


def merge(file: Path, name: str, result: Mapping[str, Any], order: Iterable[str]) -> None:
    """Write the result of a part beside those of the others, in the order of the parts."""
    known = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    everything = {**known, name: result}
    ordered = {part: everything[part] for part in order if part in everything}
    file.write_text(json.dumps(ordered, indent=1, default=str) + "\n", encoding="utf-8")
