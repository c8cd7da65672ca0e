"""Run all google-benchmark executables and compare every kernel with the limit that it comes nearest to.

    python bench/python/kernels.py BUILD [SECONDS]

BUILD is the folder of the executables (build/bench/bench), SECONDS the least time for each benchmark (default
0.2). Writes bench/results/kernels.json and prints the three kernels that are farthest from their limit.

A kernel is limited by arithmetic (the flop/s of large matrix products) or by memory (the bytes/s of reading
and writing long arrays), both measured in the same run: its fraction is the larger of the two. It stands for
the best arguments on one thread; processor time counts, so that what else runs on the machine does not.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from measure import RESULTS, machine

ITEMS = ("atoms/s", "structures/s", "rows/s", "solutions/s", "pairs/s", "energies/s", "numbers/s")
EXTRA = ("neighbours", "busy", "extra_MB", "stored_MB", "max_error")


def run(executable: Path, seconds: float) -> dict[str, Any]:
    """Return the report of one executable."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        options = [
            f"--benchmark_min_time={seconds}",
            f"--benchmark_out={report}",
            "--benchmark_out_format=json",
        ]
        done = subprocess.run([executable, *options], capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise SystemExit(f"{executable.name} ended with {done.returncode}: {done.stderr[-500:]}")
        result: dict[str, Any] = json.loads(report.read_text())
    return result


def row_of(kernel: str, entry: dict[str, Any]) -> dict[str, Any]:
    """Return what counts of one benchmark."""
    name, *arguments = entry["name"].removesuffix("/real_time").removeprefix("BM_").split("/")
    busy = entry["busy"] or 1.0
    rates = {key: entry[key] for key in ITEMS if key in entry}
    return {
        "kernel": f"{kernel}: {name}",
        "arguments": " ".join(arguments),
        "threads": next((int(a.split(":")[1]) for a in arguments if a.startswith("threads:")), 1),
        **{key: value / busy for key, value in rates.items()},
        "of_gemm": entry["of_gemm"] / busy,
        "of_memory": entry["of_memory"] / busy,
        **{key: entry[key] for key in EXTRA if key in entry},
    }


def operation(row: dict[str, Any]) -> str:
    """Return the kernel without the structures it is applied to."""
    kernel = row["kernel"].replace("Product::", "").replace("Of::", "")
    structures = r"\b(crystal|angular_order|molecules(_from_positions)?|slabs|boxes|true|false)\b"
    kernel = re.sub(structures, "", kernel)
    return re.sub(r"[<>: ]+", " ", kernel).strip()


def fraction(row: dict[str, Any]) -> float:
    """Return the fraction of the nearer limit."""
    return max(row["of_gemm"], row["of_memory"])


def best_of_kernels(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return each kernel at its best on one thread, the farthest from its limit first."""
    best: dict[str, dict[str, Any]] = {}
    for row in sorted(rows, key=fraction):
        if row["threads"] == 1 and not row["kernel"].startswith("stored_jacobian"):  # a comparison, no kernel
            best[operation(row)] = row
    return sorted(best.values(), key=fraction)


def main() -> None:
    """Run everything and write the table."""
    build = Path(sys.argv[1])
    seconds = float(sys.argv[2]) if len(sys.argv) > 2 else 0.2
    executables = sorted(
        path for path in build.glob("*_benchmark*") if os.access(path, os.X_OK) and path.is_file()
    )
    if not executables:
        raise SystemExit(f"{build}: no executables; build them first, see bench/README.md")
    rows, peaks = [], {}
    for executable in executables:
        kernel = executable.stem.removesuffix("_benchmark")
        report = run(executable, seconds)
        peaks[kernel] = {
            key: value for key, value in report["context"].items() if key.startswith(("peak", "products"))
        }
        rows += [row_of(kernel, entry) for entry in report["benchmarks"]]
        print(
            f"{kernel}: {len(report['benchmarks'])} benchmarks, {peaks[kernel].get('peak of 1 thread')}",
            flush=True,
        )
    ranked = best_of_kernels(rows)
    summary = {
        operation(row): {
            "fraction": fraction(row),
            "of": "products" if row["of_gemm"] > row["of_memory"] else "memory",
        }
        for row in ranked
    }
    result = {"machine": machine(), "peaks": peaks, "fractions": summary, "benchmarks": rows}
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "kernels.json").write_text(json.dumps(result, indent=1) + "\n")
    for kernel, values in summary.items():
        print(f"{100 * values['fraction']:5.1f} % of {values['of']:8s}  {kernel}")
    print("slowest:", ", ".join(map(operation, ranked[:3])))


if __name__ == "__main__":
    main()
