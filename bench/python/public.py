"""Accuracy, time and memory on public data sets, beside the numbers that others have published.

    python bench/python/public.py DATA [PART ...] [--limit N] [--seeds N] [--again]
    python bench/python/public.py --table

A part is a set, its number of training structures and a model, such as rmd17_ethanol/50/surrogate; patterns like
'rmd17_*/50/*' choose several, no part all of them. Each runs in a process of its own, and its result is merged
into bench/results/public.json at once: parts that stand there are left out the next time, unless `--again` is
given. `--limit N` takes N training and N test structures for a quick look, and stores nothing. `--table` writes
bench/results/public.md from the results, and the same table into README.md and docs/results.md.

DATA is the folder with public/, ec_dimer/, li_ec/ and h2/. All sets are fitted with the same defaults. What is
random (networks) is repeated with other seeds: errors are medians, and stand one by one in `runs`.
"""

from __future__ import annotations

import argparse
import fnmatch
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from measure import RESULTS, PeakOfTree, hydrogen, machine, peak_gib
from public_sets import SETS
from public_table import write_tables

import gprann

FILE = RESULTS / "public.json"
SEEDS = 3
FORCES_STD = 50  # test structures whose forces get standard deviations from a surrogate


def parts() -> list[str]:
    """Return the names of all parts."""
    return [
        f"{name}/{structures or 'all'}/{model}"
        for name, one in SETS.items()
        for structures, model in one.models
    ]


# ----------------------------------------------------------------------- models
Models = Iterator[tuple[Any, dict[str, Any]]]
"""Fitted models, one for each seed, each with what is to be kept about it."""


def surrogate(train: gprann.Dataset, seeds: int) -> Models:
    """Fit a surrogate by its defaults; nothing of it is random but the structures it is judged on."""
    del seeds
    fitted = gprann.Surrogate().fit(train)
    yield fitted, {"surrogate": fitted.to_dict()}


def network(train: gprann.Dataset, seeds: int) -> Models:
    """Train networks on energies and forces: principal components of the density descriptor, otherwise the defaults."""
    descriptor = gprann.compress_descriptor(
        gprann.DensityDescriptor.for_kernel(train.species), train, most=60
    )
    for seed in range(seeds):
        yield _trained(train, descriptor, seed)


def distilled(train: gprann.Dataset, seeds: int) -> Models:
    """Train networks on copies along the dynamics of a surrogate, labelled by it, on its features."""
    teacher = gprann.Surrogate().fit(train)
    features = gprann.compress_surrogate(teacher)
    copies: dict[str, Any] = {"copies": 12, "policy": "mixture", "forces": True, "progress": False}
    for seed in range(seeds):
        yield _trained(gprann.augment(train, teacher, seed=seed, **copies), features, seed, hidden=(16, 16))


def _trained(
    data: gprann.Dataset, descriptor: gprann.Descriptor, seed: int, **options: Any
) -> tuple[gprann.Potential, dict[str, Any]]:
    potential = gprann.train(data, descriptor, forces=True, seed=seed, progress=False, **options)
    record = potential.provenance["training"]
    facts = {"iterations": [len(curve) for curve in record["history"]], "ended": record["ended"]}
    return potential, {"model": repr(potential.model), "structures": len(data), **facts}


MODELS: dict[str, Callable[[gprann.Dataset, int], Models]] = {
    "surrogate": surrogate,
    "network": network,
    "distilled": distilled,
}


# ------------------------------------------------------------------ measurement
def errors_of(model: Any, test: gprann.Dataset) -> dict[str, float | None]:
    """Return errors (meV, meV/atom, meV/Å) and the shares of them within one and two standard deviations."""
    report = gprann.evaluate(model, test, forces_std=FORCES_STD)
    names = {
        "energy_mae": 1e3,
        "energy_rmse": 1e3,
        "energy_per_atom_mae": 1e3,
        "energy_per_atom_rmse": 1e3,
        "force_mae": 1e3,
        "force_rmse": 1e3,
        "within_one_std": 1.0,
        "within_two_std": 1.0,
        "force_within_one_std": 1.0,
        "force_within_two_std": 1.0,
    }
    values = {name: getattr(report, name) for name in names}
    return {name: None if values[name] is None else factor * values[name] for name, factor in names.items()}


def median_of(runs: list[dict[str, Any]]) -> dict[str, float | None]:
    """Return the median over the runs, number by number."""
    result: dict[str, float | None] = {}
    for name, first in runs[0].items():
        if isinstance(first, int | float) or first is None:
            values = [run[name] for run in runs if run[name] is not None]
            result[name] = statistics.median(values) if values else None
    return result


def measure(data: Path, part: str, limit: int | None, seeds: int) -> dict[str, Any]:
    """Fit and test the models of a part."""
    name, structures, model = part.split("/")
    if model == "demo":
        return {"machine": machine(), **hydrogen_errors(data)}
    one = SETS[name]
    files = one.files(data, None if structures == "all" else int(structures))
    train, test = (thinned(gprann.read(file), limit) for file in files)
    memory, runs = PeakOfTree(), []
    started, cpu = time.perf_counter(), _cpu_seconds()
    for fitted, facts in MODELS[model](train, seeds):
        seconds = {"seconds": time.perf_counter() - started, "cpu_seconds": _cpu_seconds() - cpu}
        runs.append({**errors_of(fitted, test), **seconds, **facts})
        print(part, json.dumps(runs[-1], default=str)[:400], file=sys.stderr, flush=True)
        started, cpu = time.perf_counter(), _cpu_seconds()
    peak = max(memory.stop(), peak_gib(), peak_gib(resource.RUSAGE_CHILDREN))
    facts = {"n_train": len(train), "n_test": len(test), "peak_GiB": peak}
    return {"machine": machine(), **facts, **median_of(runs), "runs": runs}


def thinned(data: gprann.Dataset, limit: int | None) -> gprann.Dataset:
    """Return some structures, evenly spread: sets are sorted by kind."""
    return data if limit is None else data[:: max(1, len(data) // limit)][:limit]


def hydrogen_errors(data: Path) -> dict[str, Any]:
    """Return the errors of GPR-ANN in the experiment of the paper; of the magnitude of forces, as there."""
    started, cpu = time.perf_counter(), _cpu_seconds()
    values = next(values for title, values in hydrogen(data).items() if "GPR" in title)
    return {
        "n_train": 7,
        "n_test": 200,
        "energy_mae": 1e3 * values["energy_mae"],
        "force_mae": 1e3 * values["force_norm_mae"],
        "seconds": (time.perf_counter() - started) / 20,  # five seeds of four methods
        "cpu_seconds": (_cpu_seconds() - cpu) / 20,
        "peak_GiB": peak_gib(),
        "runs": values["runs"],
    }


def _cpu_seconds() -> float:
    """Return the processor time of this process and its children."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


# ---------------------------------------------------------------------- results
def stored() -> dict[str, Any]:
    """Return the results of all parts so far."""
    return json.loads(FILE.read_text(encoding="utf-8")) if FILE.exists() else {}


def run_parts(names: list[str], options: argparse.Namespace) -> None:
    """Measure parts one after the other, each in a process of its own, and keep what they give."""
    for name in names:
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "result.json"
            command = [sys.executable, __file__, str(options.data), name, "--into", str(file)]
            command += ["--seeds", str(options.seeds)]
            command += [] if options.limit is None else ["--limit", str(options.limit)]
            done = subprocess.run(command, check=False)
            if not file.exists():
                print(f"{name}: failed with {done.returncode}", flush=True)
                continue
            result = json.loads(file.read_text(encoding="utf-8"))
        print(name, json.dumps({key: value for key, value in result.items() if key != "runs"}), flush=True)
        if options.limit is None:
            everything = {**stored(), name: result}  # read anew: parts may be measured side by side
            known = [part for part in parts() if part in everything]
            ordered = {part: everything[part] for part in known}
            FILE.write_text(json.dumps(ordered, indent=1) + "\n", encoding="utf-8")


def chosen_parts(patterns: list[str]) -> list[str]:
    """Return the parts that match one of the patterns; all without patterns."""
    for pattern in patterns:
        if not fnmatch.filter(parts(), pattern):
            raise SystemExit(f"no part matches {pattern}; parts: {', '.join(parts())}")
    return [part for part in parts() if not patterns or any(fnmatch.fnmatch(part, p) for p in patterns)]


def main() -> None:
    """Run the parts named on the command line, or write the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("data", nargs="?", type=Path)
    parser.add_argument("parts", nargs="*")
    parser.add_argument("--limit", type=int)
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--again", action="store_true")
    parser.add_argument("--table", action="store_true")
    parser.add_argument("--into", type=Path, help=argparse.SUPPRESS)  # the process of one part
    options = parser.parse_args()
    if options.table:
        write_tables(stored())
        return
    if options.data is None:
        parser.error("give the folder with the data, or --table")
    if options.into is not None:
        try:
            result = measure(options.data, options.parts[0], options.limit, options.seeds)
        except gprann.GprannError as error:
            result = {"machine": machine(), "refused": str(error)}
        options.into.write_text(json.dumps(result), encoding="utf-8")
        return
    before = {} if options.again or options.limit is not None else stored()
    run_parts([part for part in chosen_parts(options.parts) if part not in before], options)


if __name__ == "__main__":
    main()
