"""Kill commands at random moments, again and again, and compare what they end with to a run that nobody killed.

    python bench/python/kills.py [--kills N] [--seed INT] [COMMAND ...]

Commands: run, label, explore, md; by default all, with 25 kills (SIGKILL) each. A process is killed after a random time
between its start and that which an uninterrupted run takes; after four kills one may live to the end, and its results
must be those of the uninterrupted run, to the bit. Needs no data. Results go to bench/results/kills.json.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from ase import Atoms
from ase.build import molecule
from measure import RESULTS, machine

import gprann

FILE = RESULTS / "kills.json"
IN_A_ROW = 4
RUN = """
output.folder = "out"
output.plots = false
data.train = "train.extxyz"
data.test = "test.extxyz"
[descriptor]
radial_cutoff = 8.0
angular_order = "none"
[surrogate]
kernel = "pairs"
[augmentation]
copies = 3
displacement = 0.05
[training]
members = 2
hidden = [4]
optimizer = "adamw"
iterations = 300
patience = 300
"""
EXPLORE = """
model = "linear"
[descriptor]
radial_order = 4
angular_order = 1
[start]
structures = "start.extxyz"
count = 6
[reference]
calculator = "emt"
[dynamics]
length = 0.2
replicas = 2
temperature = 300.0
[convergence]
force_error = 1e-9
check = 2
generations = 4
[output]
folder = "out"
plots = false
"""


def prepare_run(folder: Path) -> None:
    """Write the structures and the configuration of a small pipeline."""
    gprann.write(folder / "train.extxyz", gprann.examples.hydrogen(7))
    gprann.write(folder / "test.extxyz", gprann.examples.hydrogen(20, 0.95, 2.05))
    (folder / "config.toml").write_text(RUN, encoding="utf-8")


def prepare_label(folder: Path) -> None:
    """Write structures to label."""
    ethanol, rng = molecule("CH3CH2OH"), np.random.default_rng(0)
    structures = []
    for _ in range(100):
        atoms = ethanol.copy()
        atoms.positions += 0.05 * rng.normal(size=atoms.positions.shape)
        structures.append(gprann.Structure.from_ase(atoms))
    gprann.write(folder / "in.extxyz", structures)


def prepare_explore(folder: Path) -> None:
    """Write the start and the configuration of a small exploration."""
    cluster = Atoms("Cu4", [[0, 0, 0], [2.3, 0, 0], [1.1, 2.0, 0], [1.1, 0.7, 1.9]])
    gprann.write(folder / "start.extxyz", [gprann.Structure.from_ase(cluster)])
    (folder / "config.toml").write_text(EXPLORE, encoding="utf-8")


def prepare_md(folder: Path) -> None:
    """Write a surrogate and the start of a simulation."""
    data = gprann.examples.hydrogen(12)
    gprann.Surrogate(kernel="pairs").fit(data).save(folder / "h2.gprann")
    gprann.write(folder / "start.extxyz", data[2:3])


def potential_of(file: Path) -> str:
    """Return the parameters of a potential as text; its file also tells when it was made."""
    return gprann.Potential.load(file).parameters.tobytes().hex()


def texts(*names: str) -> Callable[[Path], list[str]]:
    """Return what reads files as they are."""
    return lambda folder: [(folder / name).read_bytes().hex() for name in names]


def labels_of(folder: Path) -> list[str]:
    """Return energies and forces; `info` tells how long a calculation took."""
    data = gprann.read(folder / "out.extxyz")
    return [
        repr((item.energy, None if item.forces is None else item.forces.tobytes().hex())) for item in data
    ]


def explored(folder: Path) -> list[str]:
    """Return labels and potential of an exploration."""
    return [potential_of(folder / "out/potential.gprann"), *texts("out/train.extxyz")(folder)]


class Command(NamedTuple):
    """A command: what it needs, its arguments, and what it is judged by."""

    prepare: Callable[[Path], None]
    arguments: list[str]
    results: Callable[[Path], list[str]]


COMMANDS = {
    "run": Command(
        prepare_run, ["run", "config.toml"], lambda folder: [potential_of(folder / "out/potential.gprann")]
    ),
    "label": Command(
        prepare_label, ["label", "in.extxyz", "-o", "out.extxyz", "--calculator", "emt"], labels_of
    ),
    "explore": Command(prepare_explore, ["explore", "config.toml"], explored),
    "md": Command(
        prepare_md,
        ["md", "h2.gprann", "start.extxyz", "-o", "out", "--length", "0.6", "--checkpoint-every", "200"],
        texts("out/trajectory.extxyz", "out/log.csv"),
    ),
}


def start(command: Command, folder: Path) -> subprocess.Popen[bytes]:
    """Start the command in a folder."""
    line = [sys.executable, "-m", "gprann", *command.arguments, "--quiet"]
    return subprocess.Popen(line, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def measure(command: Command, kills: int, rng: np.random.Generator) -> dict[str, Any]:
    """Kill, and compare."""
    with tempfile.TemporaryDirectory() as name:
        once = Path(name) / "once"
        once.mkdir()
        command.prepare(once)
        began = time.perf_counter()
        process = start(command, once)
        message = process.communicate()[1].decode()
        length = time.perf_counter() - began
        expected = command.results(once)
        done, rounds, same, moments, failures = 0, 0, 0, [], []
        while done < kills:
            folder = Path(name) / "killed"
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            command.prepare(folder)
            rounds += 1
            for attempt in range(IN_A_ROW + 1):
                process = start(command, folder)
                wait = rng.uniform(0.2, length) if attempt < IN_A_ROW and done < kills else None
                try:
                    message = process.communicate(timeout=wait)[1].decode()
                    break
                except subprocess.TimeoutExpired:
                    os.kill(process.pid, signal.SIGKILL)
                    process.communicate()
                    done += 1
                    moments.append(round(float(wait or 0.0), 2))
            try:
                found = command.results(folder)
            except Exception as error:
                found = [f"{error!r}: {message[-300:]}"]
            same += found == expected
            if found != expected:
                failures.append(f"{message[-300:]} {found[0][:300] if found else 'nothing'}")
    return {
        "kills": done,
        "rounds": rounds,
        "identical": same,
        "seconds_of_a_run": round(length, 2),
        "moments": moments,
        "failures": failures,
    }


def main() -> None:
    """Measure the commands that are asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("commands", nargs="*", metavar="COMMAND", default=list(COMMANDS))
    parser.add_argument("--kills", type=int, default=25)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    known = json.loads(FILE.read_text(encoding="utf-8")) if FILE.exists() else {}
    for name in arguments.commands:
        known["machine"] = machine()
        known[name] = measure(COMMANDS[name], arguments.kills, np.random.default_rng(arguments.seed))
        print(name, json.dumps(known[name]), flush=True)
        FILE.write_text(json.dumps(known, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
