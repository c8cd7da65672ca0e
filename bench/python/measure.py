"""Measure accuracy, time and memory of gprann on the reference data and write bench/results/*.json.

    python bench/python/measure.py DATA [PART ...]

Parts: surrogates, surrogate_kernels, solvers, barriers, lapack, matrix_free, labels, hydrogen, pipeline, descriptor,
direct, direct_li, direct_copies, in_use, mixture.

DATA is the folder with ec_dimer/, li_ec/ and h2/ (train.extxyz, dev.extxyz or test.extxyz). Without names all
parts run, each in a process of its own, so that peak memory is that of the part. Times are medians where a
part is repeated.
"""

from __future__ import annotations

import datetime
import json
import logging
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import scipy
from core_parts import descriptor, in_use
from scipy.linalg import cholesky
from surrogate_parts import barriers, solvers, surrogate_kernels

import gprann
from gprann.demo import run_demo
from gprann.pipeline import run
from gprann.runtime.resources import n_threads
from gprann.surrogate.gaussian_process import factorise

RESULTS = Path(__file__).resolve().parents[1] / "results"
SETS = {"ec_dimer": ("train", "dev"), "li_ec": ("train", "dev")}


def machine() -> dict[str, Any]:
    """Describe where and with what the numbers were measured."""
    model = platform.processor()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [
            line.split(":", 1)[1].strip() for line in cpuinfo.read_text().splitlines() if "model name" in line
        ]
        model = names[0] if names else model
    return {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "processor": model,
        "instruction_set": gprann._core.INSTRUCTION_SET,
        "threads": n_threads(),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "scipy": scipy.__version__,
        "gprann": _version(),
    }


def _version() -> str:
    """Return the version of the package, or that of the source tree if it runs from there."""
    if "unknown" not in gprann.__version__:
        return gprann.__version__
    project = tomllib.loads((RESULTS.parents[1] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return f"{project['version']} (source tree)"


def peak_gib(who: int = resource.RUSAGE_SELF) -> float:
    """Return the peak resident memory of this process (or its children), GiB."""
    return resource.getrusage(who).ru_maxrss / 2**20


def surrogates(data: Path) -> dict[str, Any]:
    """Accuracy of surrogates with hyperparameters from the training set alone."""
    result = {}
    for name, kernel in (("ec_dimer", "atoms"), ("ec_dimer", "pairs"), ("li_ec", "atoms")):
        train, test = (gprann.read(data / name / f"{part}.extxyz") for part in SETS[name])
        started = time.perf_counter()
        surrogate = gprann.Surrogate(kernel=kernel).fit(train)
        fitted = time.perf_counter()
        report = gprann.evaluate(surrogate, test)
        result[f"{name} {kernel} {len(train)}"] = {
            "energy_mae_meV": 1e3 * report.energy_mae,
            "force_mae": report.force_mae,
            "within_one_std": report.within_one_std,
            "within_two_std": report.within_two_std,
            "force_within_one_std": report.force_within_one_std,
            "force_within_two_std": report.force_within_two_std,
            "fit_seconds": fitted - started,
            **surrogate.to_dict(),
        }
    return result


def lapack(data: Path) -> dict[str, Any]:
    """Time and memory of fits to 200 EC dimers, hyperparameters fixed, against a Cholesky by LAPACK.

    Of a matrix of as many rows as the fit has, and of one for all energies and Cartesian forces: the fit leaves out
    rigid motions, of which an invariant kernel knows the forces.
    """
    result = {}
    for kernel in ("atoms", "pairs"):  # in processes of their own, so that the peak of memory is that of one
        command = [sys.executable, __file__, str(data), "lapack_of", kernel]
        result[kernel] = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    return result


def lapack_of(data: Path, kernel: Any) -> dict[str, Any]:
    """The same for one kernel."""
    train = gprann.read(data / "ec_dimer" / "train.extxyz")[:200]
    before = peak_gib()
    ours, bare, whole = [], [], []
    rows, fit_peak = 0, 0.0
    equations = int((3 * train.n_atoms + 1).sum())
    for _ in range(5):
        started = time.perf_counter()
        surrogate = gprann.Surrogate(kernel, length=10.0, energy_noise=1e-10, force_noise=1e-10).fit(train)
        ours.append(time.perf_counter() - started)
        rows = surrogate._require_fit().solution.posterior.sets.observations
        fit_peak = fit_peak or peak_gib()
        del surrogate
        bare.append(_lapack_seconds(rows))
        whole.append(_lapack_seconds(equations))
    return {
        "rows": rows,
        "fit_seconds": statistics.median(ours),
        "lapack_seconds": statistics.median(bare),
        "ratio": statistics.median(ours) / statistics.median(bare),
        "all_equations": equations,
        "all_equations_lapack_seconds": statistics.median(whole),
        "all_equations_ratio": statistics.median(ours) / statistics.median(whole),
        "peak_over_one_matrix": (fit_peak - before) / (8 * rows**2 / 2**30),
        "cholesky_only_ratio": _cholesky_ratio(rows),
    }


def _lapack_seconds(rows: int) -> float:
    matrix = np.asfortranarray(np.eye(rows)) * rows
    matrix += 1.0
    started = time.perf_counter()
    cholesky(matrix, lower=True, overwrite_a=True, check_finite=False)
    return time.perf_counter() - started


def _cholesky_ratio(rows: int) -> float:
    rng = np.random.default_rng(0)
    matrix = rng.normal(size=(rows, 8)) @ rng.normal(size=(8, rows))
    matrix = matrix @ matrix.T if rows < 500 else np.eye(rows) * rows + 1.0
    copy = np.asfortranarray(matrix)
    started = time.perf_counter()
    factorise(np.ascontiguousarray(matrix), np.zeros(rows))
    ours = time.perf_counter() - started
    started = time.perf_counter()
    cholesky(copy, lower=True, overwrite_a=True, check_finite=False)
    return ours / (time.perf_counter() - started)


MATRIX_FREE: dict[str, float] = {"length": 10.7, "energy_noise": 1e-8, "force_noise": 1e-8}


def matrix_free(data: Path) -> dict[str, Any]:
    """Fit 1000 structures of 46 atoms without their covariance matrix, in a budget of 1.7 GiB.

    They are displaced copies of 100 reference structures, labelled in a process of its own by a surrogate of those;
    a hundred more of them are held out.
    """
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "labelled.extxyz"
        subprocess.run([sys.executable, __file__, str(data), "labelled_copies", str(file)], check=True)
        labelled = gprann.read(file)
    training, held_out = labelled[:-100], labelled[-100:]
    started, cpu = time.perf_counter(), time.process_time()
    surrogate = gprann.Surrogate(solver="conjugate_gradient", memory=1.7, tolerance=1e-3, **MATRIX_FREE)
    surrogate.fit(training)
    seconds, cpu = time.perf_counter() - started, time.process_time() - cpu
    peak = peak_gib()
    prediction = surrogate.predict(held_out, std=False)
    forces = np.concatenate(prediction.forces) - np.concatenate(held_out.forces)
    return {
        "structures": len(training),
        "equations": int((3 * training.n_atoms + 1).sum()),
        "fit_seconds": seconds,
        "fit_cpu_seconds": cpu,
        "peak_GiB": peak,
        "held_out_energy_mae_meV": 1e3 * float(np.abs(prediction.energy - held_out.energies).mean()),
        "held_out_force_mae": float(np.abs(forces).mean()),
        **surrogate.to_dict(),
    }


def labelled_copies(data: Path, file: Path) -> None:
    """Write 11 displaced copies of every structure with the energies and forces of a surrogate."""
    train = gprann.read(data / "li_ec" / "train.extxyz")
    surrogate = gprann.Surrogate(**MATRIX_FREE).fit(train)
    rng = np.random.default_rng(0)
    copies = gprann.Dataset(
        structure.replace(
            positions=structure.positions + rng.normal(scale=0.05, size=structure.positions.shape)
        )
        for _ in range(11)
        for structure in train
    )
    prediction = surrogate.predict(copies, std=False)
    pairs = zip(copies, prediction.energy, prediction.forces, strict=True)
    labelled = (copy.replace(energy=float(energy), forces=forces) for copy, energy, forces in pairs)
    gprann.write(file, gprann.Dataset(labelled))


def pipeline(data: Path) -> dict[str, Any]:
    """The whole EC-dimer run: surrogate with hyperparameters, 9000 labels with std, 10 potentials, report."""
    memory = PeakOfTree()
    started = time.perf_counter()
    train = gprann.read(data / "ec_dimer" / "train.extxyz")
    surrogate = gprann.Surrogate(kernel="atoms").fit(train)
    times = {"surrogate": time.perf_counter() - started}
    augmented = gprann.augment(train, surrogate, copies=36, displacement=0.021, seed=0)
    times["labels"] = time.perf_counter() - started - sum(times.values())
    del surrogate
    chebyshev = gprann.ChebyshevDescriptor(["C", "H", "O"])
    committee = gprann.train(augmented, chebyshev, hidden=(10, 10), optimizer="lm", members=10, seed=0)
    times["training"] = time.perf_counter() - started - sum(times.values())
    report = gprann.evaluate(committee, data / "ec_dimer" / "dev.extxyz")
    times["total"] = time.perf_counter() - started
    members = report.by_member
    return {
        "seconds": times,
        "peak_GiB_of_all_processes": memory.stop(),
        "member_energy_mae_meV": [1e3 * member.energy_mae for member in members],
        "member_force_mae": [member.force_mae for member in members],
        "median_energy_mae_meV": 1e3 * statistics.median(member.energy_mae for member in members),
        "median_force_mae": statistics.median(member.force_mae for member in members),
        "median_force_norm_mae": statistics.median(member.force_norm_mae for member in members),
        "median_force_angle_mae": statistics.median(member.force_angle_mae for member in members),
        "committee_energy_mae_meV": 1e3 * report.energy_mae,
        "committee_force_mae": report.force_mae,
        "committee_force_norm_mae": report.force_norm_mae,
        "committee_force_angle_mae": report.force_angle_mae,
        "committee_energy_msd_meV": 1e3 * report.energy_msd,
        "committee_force_norm_msd": report.force_norm_msd,
    }


class PeakOfTree:
    """Watches the resident memory of this process and its children together."""

    def __init__(self) -> None:
        self._peak = 0.0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def _watch(self) -> None:
        import os

        page = os.sysconf("SC_PAGE_SIZE")
        own = os.getpid()
        while not self._stop.wait(0.2):
            children = Path(f"/proc/{own}/task/{own}/children")
            pids = [str(own), *(children.read_text().split() if children.exists() else [])]
            total = 0
            for pid in pids:
                try:
                    total += int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * page
                except OSError:
                    continue
            self._peak = max(self._peak, total / 2**30)

    def stop(self) -> float:
        """End watching and return the peak, GiB."""
        self._stop.set()
        self._thread.join()
        return self._peak


def hydrogen(_: Path) -> dict[str, Any]:
    """Run the H2 experiment of the paper, as `gprann demo` does, for five seeds the options were not chosen on."""
    keys = ("energy_mae", "force_norm_mae", "energy_msd", "force_norm_msd")
    runs: dict[str, list[dict[str, float]]] = {}
    for seed in range(100, 105):
        for method in run_demo(seed=seed, progress=False).methods:
            runs.setdefault(method.title, []).append({key: method.metrics[key] for key in keys})
    return {
        name: {key: statistics.median(run[key] for run in values) for key in keys} | {"runs": values}
        for name, values in runs.items()
    }


def _train_and_judge(data: Path, name: str, **options: Any) -> dict[str, Any]:
    """Train a committee on energies and forces; return its errors on held-out structures."""
    train, test = (gprann.read(data / name / f"{part}.extxyz") for part in SETS[name])
    return _judge(train, test, **options)


def _judge(train: gprann.Dataset, test: gprann.Dataset, **options: Any) -> dict[str, Any]:
    started = time.perf_counter()
    descriptor = gprann.ChebyshevDescriptor(train.species)
    committee = gprann.train(train, descriptor, forces=True, optimizer="lm", **options)
    seconds = time.perf_counter() - started
    report = gprann.evaluate(committee, test)
    members = report.by_member or [report]
    return {
        "seconds": seconds,
        "member_energy_mae_meV": [1e3 * member.energy_mae for member in members],
        "member_force_mae": [member.force_mae for member in members],
        "median_energy_mae_meV": 1e3 * statistics.median(member.energy_mae for member in members),
        "median_force_mae": statistics.median(member.force_mae for member in members),
        "committee_energy_mae_meV": 1e3 * report.energy_mae,
        "committee_force_mae": report.force_mae,
        "committee_force_norm_mae": report.force_norm_mae,
        "committee_force_angle_mae": report.force_angle_mae,
        "iterations": [len(curve) for curve in committee.provenance["training"]["history"]],
    }


def direct(data: Path) -> dict[str, Any]:
    """Train 36-10-10-1 directly on the forces of 250 EC dimers: one potential, and ten seeds as a committee."""
    return {
        "one potential": _train_and_judge(data, "ec_dimer", seed=7),
        "committee of ten": _train_and_judge(data, "ec_dimer", members=10, seed=0),
    }


def direct_li(data: Path) -> dict[str, Any]:
    """Train a committee of ten directly on the forces of 100 structures of EC on Li(100)."""
    return _train_and_judge(data, "li_ec", members=10, seed=0)


def direct_copies(data: Path) -> dict[str, Any]:
    """Energies and forces of 250 EC dimers and of copies that the surrogate labels with both; two networks."""
    train, test = (gprann.read(data / "ec_dimer" / f"{part}.extxyz") for part in SETS["ec_dimer"])
    surrogate = gprann.Surrogate(kernel="atoms").fit(train)
    result = {}
    copies, displacement = 2, 0.012
    everything = gprann.augment(
        train, surrogate, copies=copies, displacement=displacement, seed=0, forces=True
    )
    for hidden, options in (
        ((10, 10), {"iterations": 150, "max_rows": 50000}),
        ((20, 20), {"iterations": 100, "max_rows": 20000}),
    ):
        shape = "-".join(map(str, hidden))
        result[f"{copies} copies, {displacement} Å, {shape}"] = _judge(
            everything, test, hidden=hidden, seed=7, **options
        )
    result["no copies, 20-20"] = _judge(train, test, hidden=(20, 20), seed=7)
    return result


def labels(data: Path) -> dict[str, Any]:
    """Time of 9,000 labels with standard deviations from 250 EC dimers, hyperparameters fixed."""
    train = gprann.read(data / "ec_dimer" / "train.extxyz")
    surrogate = gprann.Surrogate(length=10.0, energy_noise=1e-10, force_noise=1e-10).fit(train)
    started = time.perf_counter()
    augmented = gprann.augment(train, surrogate, copies=36, displacement=0.021, seed=0)
    return {"labels": len(augmented) - len(train), "seconds": time.perf_counter() - started}


def mixture(data: Path) -> dict[str, Any]:
    """Shuffle molecules, clusters and a periodic slab, and run the pipeline by its defaults but for 10 copies.

    Without that number it is 36 of each structure with 20 atoms or more, and training takes several times as long.
    """
    names = {"h2": ("train", "test"), **SETS}
    sets = {
        name: [gprann.read(data / name / f"{part}.extxyz") for part in parts] for name, parts in names.items()
    }
    together = gprann.Dataset(structure for train, _ in sets.values() for structure in train)
    memory = PeakOfTree()
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        gprann.write(
            folder / "train.extxyz", together.select(np.random.default_rng(0).permutation(len(together)))
        )
        (folder / "config.toml").write_text(
            'data.train = "train.extxyz"\naugmentation.copies = 10\noutput.plots = false\n'
        )
        potential = gprann.load(run(folder / "config.toml").potential)
    seconds = time.perf_counter() - started
    record = potential.provenance["training"]
    return {
        "seconds": seconds,
        "seconds_of_training": record["seconds"],
        "peak_GiB_of_all_processes": memory.stop(),
        "structures": len(together),
        "structures_and_copies": record["n_structures"],
        "subsets": [item["n_structures"] for item in potential.provenance["surrogates"]],
        "iterations": [len(curve) for curve in record["history"]],
        "ended": record["ended"],
        **{name: _errors(potential, test) for name, (_, test) in sets.items()},
    }


def _errors(potential: gprann.Potential, test: gprann.Dataset) -> dict[str, float]:
    report = gprann.evaluate(potential, test)
    return {
        "energy_mae_meV": 1e3 * report.energy_mae,
        "force_mae": report.force_mae,
        "energy_std_meV": 1e3 * float(np.std(test.energies)),
    }


PARTS: dict[str, Callable[[Path], dict[str, Any]]] = {
    "descriptor": descriptor,
    "lapack": lapack,
    "labels": labels,
    "matrix_free": matrix_free,
    "surrogates": surrogates,
    "surrogate_kernels": surrogate_kernels,
    "solvers": solvers,
    "barriers": barriers,
    "hydrogen": hydrogen,
    "pipeline": pipeline,
    "direct": direct,
    "direct_li": direct_li,
    "direct_copies": direct_copies,
    "in_use": in_use,
    "mixture": mixture,
}


def main() -> None:
    """Run the parts named on the command line."""
    data, names = Path(sys.argv[1]), sys.argv[2:]
    if names[:1] == ["labelled_copies"]:
        labelled_copies(data, Path(names[1]))
        return
    if names[:1] == ["lapack_of"]:
        print(json.dumps(lapack_of(data, names[1])))
        return
    unknown = [name for name in names if name not in PARTS]
    if unknown:
        raise SystemExit(f"unknown part {unknown[0]}; parts: {', '.join(PARTS)}")
    if len(names) != 1:
        for name in names or PARTS:
            subprocess.run([sys.executable, __file__, str(data), name], check=True)
        return
    name = names[0]
    result = {"machine": machine(), name: PARTS[name](data)}
    text = json.dumps(result, indent=1)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.json").write_text(text + "\n")
    print(text)


if __name__ == "__main__":
    main()
