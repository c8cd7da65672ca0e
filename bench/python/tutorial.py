"""Follow docs/tutorial.md at full size, as a reader without outputs of DFT does.

    GPRANN_NUM_THREADS=1 python bench/python/tutorial.py

into bench/results/tutorial.json: for each step the lines that its command leaves, and its time. Commands,
configurations and the lines that make the data are those of the page. The last simulation is compared with the
reference.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
from ase.calculators.emt import EMT
from measure import RESULTS, machine

import gprann

PAGE = RESULTS.parents[1] / "docs" / "tutorial.md"
BLOCK = re.compile(r"^(?:<!-- file: (\S+) -->\n)?```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
LEFT = {
    "results": ("run", "report/summary.txt"),
    "explored": ("explore", "generations.txt"),
    "free": ("free", "summary.txt"),
    "guarded": ("guarded", "summary.txt"),
    "long": ("long", "summary.txt"),
}
"""Folders that the commands leave: the name of the step, and the file with its lines."""
STEPS = ("gprann run ", "gprann md ", "gprann explore ")


def frames(folder: Path) -> dict[str, Any]:
    """Return the force error on evenly spaced frames of the long simulation."""
    images = ase.io.read(folder / "long/trajectory.extxyz", index=":")
    images = images[:: max(1, len(images) // 100)]
    labelled = []
    for image in images:
        atoms = ase.Atoms(image.symbols, image.positions, cell=image.cell, pbc=image.pbc, calculator=EMT())
        atoms.get_forces()
        labelled.append(gprann.Structure.from_ase(atoms))
    errors = gprann.evaluate(gprann.load(folder / "explored/potential.gprann"), gprann.Dataset(labelled))
    return {"frames": len(labelled), "force_mae_meV": 1000 * float(errors.force_mae)}


def follow(folder: Path) -> dict[str, Any]:
    """Run the page in a folder and return what its steps leave."""
    text = PAGE.read_text(encoding="utf-8").replace("dft/**/OUTCAR", "dft.extxyz")
    blocks = BLOCK.findall(text)
    os.chdir(folder)
    exec("import ase.io\n" + next(b[2] for b in blocks if b[1] == "python" and "Octahedron" in b[2]), {})
    for name, language, content in blocks:
        if language == "toml" and name:
            Path(name).write_text(content, encoding="utf-8")
    result: dict[str, Any] = {}
    known = set(LEFT)
    lines_of = (
        content.replace("\\\n", " ").splitlines() for _, language, content in blocks if language == "sh"
    )
    commands = [" ".join(line.split()) for lines in lines_of for line in lines]
    for line in commands:
        if not line.startswith(STEPS) or "--dry-run" in line:
            continue
        begin = time.perf_counter()
        code = subprocess.run([sys.executable, "-m", *line.split()], check=False).returncode
        seconds = time.perf_counter() - begin
        made = next(name for name in known if Path(name).exists())
        known.remove(made)
        step, file = LEFT[made]
        lines = (folder / made / file).read_text(encoding="utf-8").replace(f"{folder}/", "").splitlines()
        result[step] = {"command": line, "exit_code": code, "seconds": seconds, "lines": lines[:40]}
    return result | {"frames": frames(folder)}


def main() -> None:
    """Measure and write the file."""
    np.seterr(all="ignore")
    with tempfile.TemporaryDirectory() as folder:
        result = {"machine": machine(), **follow(Path(folder))}
    (RESULTS / "tutorial.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
