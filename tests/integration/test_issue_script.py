"""The program from the first page, as a user runs it: a script of its own, without a main guard."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.data

# As in the documentation, with fewer structures, copies, iterations and members, and what it found printed at the end.
SCRIPT = """
import gprann
data = gprann.read("{data}/ec_dimer/train.extxyz", index=":24")
surrogate = gprann.Surrogate(kernel="atoms").fit(data)
prediction = surrogate.predict(gprann.read("{data}/ec_dimer/dev.extxyz", index=":20"))
augmented = gprann.augment(data, surrogate, copies=12, displacement=0.021, seed=0)
descriptor = gprann.ChebyshevDescriptor(
    ["C", "H", "O"], radial_order=12, radial_cutoff=6.5, angular_order=4, angular_cutoff=4.0
)
committee = gprann.train(
    augmented, descriptor, hidden=(4,), optimizer="lm", members=2, seed=0,
    iterations=8, starts=2, start_iterations=3, workers=2,
)
report = gprann.evaluate(committee, "{data}/ec_dimer/dev.extxyz")
committee.save("ec.gprann"); atoms = data[0].to_ase(); atoms.calc = gprann.Calculator("ec.gprann")
forces = atoms.get_forces()

import json
import numpy as np
true = gprann.read("{data}/ec_dimer/dev.extxyz", index=":20")
print(json.dumps({{
    "n_augmented": len(augmented),
    "originals": all(a is b for a, b in zip(augmented, data)),
    "members": len(committee),
    "surrogate_energy": float(np.abs(prediction.energy - true.energies).mean()),
    "surrogate_force": float(np.abs(np.concatenate(prediction.forces) - np.concatenate(true.forces)).mean()),
    "surrogate_std": prediction.energy_std.tolist(),
    "spread": float(np.abs(true.energies - true.energies.mean()).mean()),
    "forces": forces.tolist(),
    "loaded": bool(np.array_equal(forces, gprann.load("ec.gprann").predict([data[0]]).forces[0])),
    **{{name: getattr(report, name) for name in {names!r}}},
}}))
"""
METRICS = ["energy_mae", "force_mae", "force_norm_mae", "force_angle_mae", "energy_msd"]


def test_the_script_runs_as_written(shared_data: Path, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT.format(data=shared_data.as_posix(), names=METRICS), encoding="utf-8")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    run = subprocess.run(
        [sys.executable, "script.py"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    assert run.stderr == ""  # no warnings, and no progress bars where nobody looks
    found = json.loads(run.stdout)
    assert (found["n_augmented"], found["originals"], found["members"]) == (24 * 13, True, 2)
    # 24 structures: the surrogate is within 5 meV and 0.04 eV/Å (20 structures in METHODS: 3.6 meV, 0.026 eV/Å).
    assert found["surrogate_energy"] < 0.005
    assert found["surrogate_force"] < 0.04
    assert all(0 < std < 0.1 for std in found["surrogate_std"])
    for name in METRICS:
        assert isinstance(found[name], float)
        assert 0 < found[name] < 180
    assert found["energy_mae"] < 0.5 * found["spread"]
    assert len(found["forces"]) == 20
    assert found["loaded"]
    assert sorted(file.name for file in tmp_path.iterdir()) == ["ec.gprann", "script.py"]
