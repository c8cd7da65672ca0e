"""Measure how long the README's first command takes, for two versions side by side.

    python bench/python/setup_time.py [OLD [NEW]] [--repeat N] [--save FILE]

OLD (567ea80) and NEW (HEAD) are revisions of this repository. Each is checked out into a temporary folder, and there
`pip install '.[plot]' && gprann demo` runs in a fresh virtual environment; then the installation of the second
command, `pip install '.[test]'`, in the same one. Downloads do not count: what is needed is fetched into pip's cache
first. Versions take turns. For each step: wall time and processor time of all its processes, in s; the ratios are
those of the smallest times. On a machine that is busy otherwise, the processor time is the one to trust.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
import tomllib
import venv
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
STEPS = {
    "installation": ["-m", "pip", "install", "--quiet", ".[plot]"],
    "demo": ["-m", "gprann", "demo", "--quiet"],
    "installation for the tests": ["-m", "pip", "install", "--quiet", ".[test]"],
}
FIRST_COMMAND = ("installation", "demo")
Times = dict[str, dict[str, float]]


def environment() -> dict[str, str]:
    """Return the environment of all steps: nothing of ours, no messages of pip."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("GPRANN_", "PYTHON"))}
    return {**kept, "PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_NO_INPUT": "1", "MPLBACKEND": "Agg"}


def make_venv(folder: Path) -> Path:
    """Return the interpreter of a fresh virtual environment."""
    venv.create(folder, with_pip=True)
    return folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def run(command: list[str], folder: Path) -> dict[str, float]:
    """Return wall and processor time of a command and all its children."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(command, cwd=folder, env=environment(), check=True)
    wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    processor = after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
    return {"wall": round(wall, 1), "processor": round(processor, 1)}


def fill_cache(source: Path, folder: Path) -> None:
    """Fetch into pip's cache what an installation needs."""
    project = tomllib.loads((source / "pyproject.toml").read_text(encoding="utf-8"))
    extras = project["project"]["optional-dependencies"]
    needed = [*project["project"]["dependencies"], *extras["plot"], *extras["test"]]
    needed += [*project["build-system"]["requires"], "cmake", "ninja"]
    python = make_venv(folder)
    run([str(python), "-m", "pip", "install", "--quiet", *needed], source)


def check_out(revision: str, folder: Path) -> str:
    """Check a revision out and return its full name."""
    subprocess.run(["git", "clone", "--quiet", "--no-checkout", str(ROOT), str(folder)], check=True)
    name = subprocess.run(
        ["git", "rev-parse", f"{revision}^{{commit}}"], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout.strip()
    subprocess.run(["git", "checkout", "--quiet", "--detach", name], cwd=folder, check=True)
    return name


def measure(revision: str, folder: Path) -> Times:
    """Return the times of all steps from a clean clone in a fresh environment."""
    source = folder / "source"
    check_out(revision, source)
    python = make_venv(folder / "venv")
    times = {step: run([str(python), *command], source) for step, command in STEPS.items()}
    if not (source / "gprann-demo" / "h2.png").exists():
        raise SystemExit(f"{revision}: the demo drew no picture")
    return times


def first_command(times: list[Times], kind: str) -> float:
    """Return the smallest time of the first command."""
    return min(sum(one[step][kind] for step in FIRST_COMMAND) for one in times)


def main() -> None:
    """Measure, print and save."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("old", nargs="?", default="567ea80")
    parser.add_argument("new", nargs="?", default="HEAD")
    parser.add_argument("--repeat", type=int, default=1)
    parser.add_argument("--save", type=Path, help="file for the result")
    options = parser.parse_args()
    times: dict[str, list[Times]] = {options.old: [], options.new: []}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        check_out(options.new, folder / "source")
        fill_cache(folder / "source", folder / "cache")
        for turn in range(options.repeat):
            for index, revision in enumerate(times):
                times[revision].append(measure(revision, folder / f"{turn}-{index}"))
                print(revision, json.dumps(times[revision][-1]), flush=True)
    result: dict[str, Any] = {
        "machine": {"processor": platform.processor() or platform.machine(), "count": os.cpu_count()},
        "python": platform.python_version(),
        "times": {check_name(revision): found for revision, found in times.items()},
        "unit": "s",
    }
    for kind in ("wall", "processor"):
        old, new = (first_command(found, kind) for found in times.values())
        result[f"{kind} ratio"] = round(new / old, 3)
        print(f"first command, {kind} time: {old:.0f} s -> {new:.0f} s, ratio {new / old:.2f}")
    if options.save is not None:
        options.save.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


def check_name(revision: str) -> str:
    """Return the short name of a revision."""
    return subprocess.run(
        ["git", "rev-parse", "--short=9", revision], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout.strip()


if __name__ == "__main__":
    sys.exit(main())
