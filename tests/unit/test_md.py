"""Molecular dynamics: ensembles against exact results, the same bits after kill -9, reasons to stop, files."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
import pytest
from ase.constraints import FixAtoms, FixBondLength, FixCartesian
from ase.md.verlet import VelocityVerlet
from ase.units import GPa, fs, kB

import gprann
import samples
from contracts import Array
from gprann.baselines import Baseline, Contribution, ReferenceEnergies
from gprann.cli.main import main
from gprann.data.structure import Dataset, Structure
from gprann.dynamics.engine import Engine
from gprann.dynamics.files import Checkpoint, GrowingFile
from gprann.dynamics.integrators import Integrator, State
from gprann.dynamics.options import MdOptions
from gprann.dynamics.results import read_log
from gprann.dynamics.watch import Watch
from gprann.errors import ConfigError, DataError, FormatError
from gprann.potential import Potential

CRYSTAL = samples.CRYSTAL


class Springs(Baseline):
    """Every atom on a spring at its place: independent oscillators, whose averages are known."""

    places: Any
    stiffness: float = 2.0

    def evaluate(self, data: Dataset) -> Contribution:
        shifts = [structure.positions - self.places for structure in data]
        energy = np.array([0.5 * self.stiffness * float((shift**2).sum()) for shift in shifts])
        return Contribution(energy, [-self.stiffness * shift for shift in shifts])


class Pull(Baseline):
    """A constant force on one atom, against the others: what is pulled does not stay."""

    atom: int
    strength: float

    def evaluate(self, data: Dataset) -> Contribution:
        forces = []
        for structure in data:
            force = np.zeros((len(structure), 3))
            force[self.atom, 2] = self.strength
            forces.append(force)
        return Contribution(
            np.array([-self.strength * structure.positions[self.atom, 2] for structure in data]), forces
        )


def silent(baseline: Baseline, members: int = 1) -> Potential:
    """A potential that adds nothing to its baseline."""
    potential = samples.potential(members=members)
    potential.parameters = np.zeros_like(potential.parameters)
    potential.baseline = baseline
    return potential


def springs(structure: Structure, stiffness: float = 2.0) -> Potential:
    return silent(Springs(places=np.array(structure.positions), stiffness=stiffness))


def grid(n: int, spacing: float = 3.0) -> Structure:
    places = np.stack(np.meshgrid(*[np.arange(n)] * 3, indexing="ij"), -1).reshape(-1, 3) * spacing
    return Structure(("H", "O") * (n**3 // 2), places)


def run(model: Any, structure: Structure, folder: Path, **options: Any) -> Any:
    return gprann.md(model, structure, folder, progress=False, **options)


# Ensembles ---------------------------------------------------------------------------------------------------------


def test_energy_is_conserved_to_second_order(tmp_path: Path) -> None:
    """The energy of velocity Verlet fluctuates with the square of the time step."""
    potential = samples.potential(members=1)
    potential.baseline = Springs(places=np.array(CRYSTAL.positions), stiffness=10.0)
    spreads = []
    for time_step in (0.5, 0.25, 0.125):
        result = run(
            potential,
            CRYSTAL,
            tmp_path / str(time_step),
            ensemble="nve",
            temperature=100.0,
            length=0.05,
            time_step=time_step,
            log_every=round(0.5 / time_step),
        )
        energy = result.log["conserved_eV"]
        assert len(energy) == 101
        assert np.std(result.log["kinetic_eV"]) > 20 * np.std(energy)
        spreads.append(np.std(energy))
    assert spreads[0] / spreads[1] == pytest.approx(4.0, rel=0.15)
    assert spreads[1] / spreads[2] == pytest.approx(4.0, rel=0.15)


def test_nve_takes_the_way_of_ase(tmp_path: Path) -> None:
    """The same start, potential and time step in ASE's velocity Verlet: the same positions to rounding."""
    potential = samples.potential(members=1)
    run(potential, CRYSTAL, tmp_path, ensemble="nve", temperature=100.0, length=0.02, trajectory_every=1)
    frames = ase.io.read(tmp_path / "trajectory.extxyz", index=":")
    atoms = frames[0].copy()
    atoms.calc = gprann.Calculator(potential)
    dynamics = VelocityVerlet(atoms, timestep=0.5 * fs)
    for frame in frames[1:]:
        dynamics.run(1)
        np.testing.assert_allclose(atoms.positions, frame.positions, atol=1e-7)  # ASE reads eight digits
    assert len(frames) == 41
    assert np.abs(frames[-1].positions - frames[0].positions).max() > 0.05


def integrate(
    options: MdOptions, n: int, force: Callable[[State], None], *, cell: float = 10.0, skip: int = 500
) -> tuple[Array, Array, Array]:
    """Temperatures (K), potential energies (eV) and volumes (Å³) of n atoms in the steps after the first ones."""
    rng = np.random.default_rng(options.seed)
    masses = np.where(np.arange(n) % 2, 16.0, 1.0)[:, None]
    momenta = np.sqrt(masses * kB * options.temperature) * rng.standard_normal((n, 3))
    state = State(
        np.zeros((n, 3)), momenta, cell * np.eye(3), masses, np.ones((n, 3)), 3 * n, rng, np.zeros((n, 3))
    )
    force(state)
    integrator, found = Integrator(options), []
    for _ in range(options.steps):
        integrator.step(state, lambda: force(state))
        found.append((state.temperature, state.energy, state.volume))
    return tuple(np.array(found)[skip:].T)  # type: ignore[return-value]


def oscillators(state: State) -> None:
    """Oscillators of different frequencies, which do not stay in step with each other."""
    stiffness = 1.0 + 4.0 * np.random.default_rng(9).random(state.positions.shape)
    state.energy = 0.5 * float((stiffness * state.positions**2).sum())
    state.forces = -stiffness * state.positions


@pytest.mark.parametrize(
    ("ensemble", "options"), [("langevin", {"friction": 40.0}), ("bussi", {"coupling_time": 20.0})]
)
def test_thermostats_give_the_canonical_ensemble(ensemble: Any, options: Any) -> None:
    """Equipartition among kinetic and potential energy, and the fluctuations of the temperature."""
    settings = MdOptions(ensemble=ensemble, temperature=400.0, length=12.0, time_step=0.5, seed=1, **options)
    n = 60
    temperature, energy, _ = integrate(settings, n, oscillators)
    assert temperature.mean() == pytest.approx(400.0, rel=0.02)
    assert temperature.std() == pytest.approx(400.0 * np.sqrt(2 / (3 * n)), rel=0.15)
    # One factor on all velocities does not mix independent oscillators; each keeps its share.
    share = 0.03 if ensemble == "langevin" else 0.1
    assert energy.mean() == pytest.approx(1.5 * n * kB * 400.0, rel=share)


def test_barostat_gives_the_volume_of_an_ideal_gas() -> None:
    r"""Density of the volumes: V^N exp(-PV/kT), with mean (N + 1) kT/P and standard deviation sqrt(N + 1) kT/P."""
    n, pressure, temperature = 24, 0.5, 300.0
    options = MdOptions(
        ensemble="npt",
        temperature=temperature,
        pressure=pressure,
        compressibility=1 / pressure,
        pressure_time=40.0,
        coupling_time=20.0,
        length=30.0,
        time_step=1.0,
        seed=2,
    )

    def free(state: State) -> None:
        state.stress = np.zeros(6)

    unit = kB * temperature / (pressure * GPa)
    _, _, volume = integrate(options, n, free, cell=(n * unit) ** (1 / 3), skip=1000)
    assert volume.mean() == pytest.approx((n + 1) * unit, rel=0.03)
    assert volume.std() == pytest.approx(np.sqrt(n + 1) * unit, rel=0.15)


def test_barostat_pushes_against_the_stress() -> None:
    """A stiff cell of energy B (V - V0)² / (2 V0) gives way by -P V0 / B, and pulls with the sign of ASE's stress."""
    stiffness, start, pressure = 200 * GPa, 8000.0, 4.0
    options = MdOptions(
        ensemble="npt", temperature=50.0, pressure=pressure, compressibility=1 / 200, length=20.0, seed=0
    )

    def cell(state: State) -> None:
        slope = stiffness * (state.volume - start) / start
        state.stress = slope * np.array([1.0, 1, 1, 0, 0, 0])

    _, _, volume = integrate(options, 4, cell, cell=20.0, skip=10000)
    assert volume.mean() == pytest.approx(start * (1 - pressure / 200), rel=2e-3)


def test_temperature_ramps() -> None:
    options = MdOptions(temperature=100.0, final_temperature=500.0, friction=100.0, length=4.0, seed=3)
    assert [options.temperature_at(step) for step in (0, 4000, 8000)] == [100.0, 300.0, 500.0]
    temperature, _, _ = integrate(options, 60, oscillators, skip=0)
    assert temperature[-800:].mean() == pytest.approx(480.0, rel=0.08)
    assert temperature[:800].mean() == pytest.approx(120.0, rel=0.15)


def test_conserved_energy_counts_the_heat_of_the_thermostat(tmp_path: Path) -> None:
    structure = grid(2)
    for ensemble in ("langevin", "bussi"):
        result = run(springs(structure), structure, tmp_path / ensemble, ensemble=ensemble, length=0.5)
        total = result.log["kinetic_eV"] + result.log["potential_eV"]
        assert np.ptp(total) > 30 * np.ptp(result.log["conserved_eV"])


def test_first_velocities(tmp_path: Path) -> None:
    """Of the temperature exactly, without translation and, in molecules, without rotation; fixed atoms have none."""
    free = run(springs(grid(2)), grid(2), tmp_path / "free", ensemble="nve", length=0.0005, temperature=250.0)
    assert free.log["temperature_K"][0] == pytest.approx(250.0)
    first = ase.io.read(tmp_path / "free" / "trajectory.extxyz", index=0)
    np.testing.assert_allclose(first.get_momenta().sum(axis=0), 0.0, atol=1e-12)
    np.testing.assert_allclose(first.get_angular_momentum(), 0.0, atol=1e-10)


@pytest.mark.parametrize("ensemble", ["nve", "langevin", "bussi"])
def test_constraints_hold(ensemble: Any, tmp_path: Path) -> None:
    atoms = grid(2).to_ase()
    atoms.set_constraint([FixAtoms([0, 3]), FixCartesian([5], mask=(True, False, True))])
    structure = Structure.from_ase(atoms)
    result = run(springs(grid(2)), structure, tmp_path / "a", ensemble=ensemble, length=0.05)
    last = ase.io.read(tmp_path / "a" / "trajectory.extxyz", index=-1)
    still = np.all(last.positions == atoms.positions, axis=1)
    assert np.flatnonzero(still).tolist() == [0, 3]
    assert (last.positions[5] == atoms.positions[5]).tolist() == [True, False, True]
    assert result.steps == 100
    atoms.set_constraint(FixBondLength(0, 1))
    with pytest.raises(ConfigError, match=r"FixBondLengths?: md knows FixAtoms and FixCartesian"):
        run(springs(grid(2)), Structure.from_ase(atoms), tmp_path / "b")
    atoms.set_constraint(FixAtoms(range(8)))
    with pytest.raises(DataError, match="all atoms are fixed"):
        run(springs(grid(2)), Structure.from_ase(atoms), tmp_path / "c")


def test_momenta_of_the_file(tmp_path: Path) -> None:
    """A run that begins with the last frame of another one goes on like it."""
    potential, options = (
        samples.potential(members=1),
        {"ensemble": "nve", "log_every": 1, "temperature": 50.0},
    )
    whole = run(potential, CRYSTAL, tmp_path / "whole", length=0.01, trajectory_every=10, **options)
    middle = gprann.read(tmp_path / "whole" / "trajectory.extxyz", index="1")
    half = run(potential, middle, tmp_path / "half", length=0.005, start="file", **options)
    np.testing.assert_allclose(half.log["potential_eV"], whole.log["potential_eV"][10:], atol=1e-9)
    np.testing.assert_allclose(half.log["kinetic_eV"], whole.log["kinetic_eV"][10:], atol=1e-9)
    with pytest.raises(DataError, match="there are no momenta"):
        run(potential, CRYSTAL, tmp_path / "none", start="file")


def test_results_do_not_depend_on_the_skin(tmp_path: Path) -> None:
    texts = []
    for skin in (0.0, 0.6):
        run(samples.potential(), CRYSTAL, tmp_path / str(skin), skin=skin, length=0.05, temperature=100.0)
        texts.append((tmp_path / str(skin) / "trajectory.extxyz").read_bytes())
    assert texts[0] == texts[1]


# Restart -----------------------------------------------------------------------------------------------------------

OPTIONS: dict[str, Any] = {
    "length": 0.06,
    "temperature": 100.0,
    "checkpoint_every": 25,
    "log_every": 4,
    "trajectory_every": 6,
    "seed": 4,
}
KILLED = """
import os, signal, sys
import gprann
from gprann.data.structure import Origin
from gprann.dynamics import files, integrators
owner, method, count = sys.argv[1].split(":")
owner = {"integrator": integrators.Integrator, "file": files.GrowingFile,
         "checkpoint": files.Checkpoint, "os": files.os}[owner]
original, calls = getattr(owner, method), 0

def die(*given, **named):
    global calls
    calls += 1
    if calls == int(count):
        os.kill(os.getpid(), signal.SIGKILL)
    return original(*given, **named)

setattr(owner, method, die)
options = eval(sys.argv[5])
start = gprann.read(sys.argv[3], require=())[0].replace(origin=Origin())
gprann.md(sys.argv[2], start, sys.argv[4], progress=False, **options)
"""
MOMENTS = {
    "before the first step": "integrator:step:1",
    "between two checkpoints": "integrator:step:38",
    "while frames wait to be written": "file:write:30",
    "before files are on the disk": "os:fsync:5",
    "before the checkpoint": "checkpoint:write:4",
    "before anything is written": "checkpoint:write:1",
}


def state_of(folder: Path) -> dict[str, Any]:
    found = Checkpoint.read(folder / "checkpoint.npz")
    values = {name: value for name, value in found.values.items() if name != "options"}
    return {**values, **{name: array.tobytes() for name, array in found.arrays.items()}}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Runs that were never interrupted."""
    made: dict[str, Path] = {}

    def get(ensemble: str) -> Path:
        if ensemble not in made:
            made[ensemble] = tmp_path_factory.mktemp(ensemble)
            run(samples.potential(members=2), CRYSTAL, made[ensemble], ensemble=ensemble, **OPTIONS)
        return made[ensemble]

    return get


def assert_same_run(folder: Path, other: Path) -> None:
    for name in ("trajectory.extxyz", "log.csv", "summary.txt"):
        assert (folder / name).read_bytes() == (other / name).read_bytes(), name
    assert state_of(folder) == state_of(other)


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_killed_run_goes_on_with_the_same_bits(moment: str, whole: Any, tmp_path: Path) -> None:
    samples.potential(members=2).save(tmp_path / "p.gprann")
    gprann.write(tmp_path / "start.extxyz", Dataset([CRYSTAL]))
    folder, ensemble = tmp_path / "md", "langevin"
    command = [sys.executable, "-c", KILLED, MOMENTS[moment], str(tmp_path / "p.gprann")]
    options = repr({"ensemble": ensemble, **OPTIONS})
    done = subprocess.run(
        [*command, str(tmp_path / "start.extxyz"), str(folder), options], capture_output=True, check=False
    )
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()
    run(samples.potential(members=2), CRYSTAL, folder, ensemble=ensemble, **OPTIONS)
    assert_same_run(folder, whole(ensemble))


@pytest.mark.parametrize("ensemble", ["nve", "langevin", "bussi", "npt"])
def test_all_ensembles_go_on_with_the_same_bits(
    ensemble: str, whole: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Interrupted again and again; the steps since the last checkpoint are lost each time."""
    step, made = Integrator.step, [0]

    def fail(self: Integrator, *given: Any) -> None:
        made[0] += 1
        if made[0] % 29 == 0:
            raise RuntimeError
        step(self, *given)

    monkeypatch.setattr(Integrator, "step", fail)
    for _ in range(20):
        try:
            run(samples.potential(members=2), CRYSTAL, tmp_path, ensemble=ensemble, **OPTIONS)
        except RuntimeError:
            continue
        break
    assert made[0] > 130
    monkeypatch.undo()
    assert_same_run(tmp_path, whole(ensemble))


def test_a_longer_run_goes_on_where_a_shorter_one_ended(whole: Any, tmp_path: Path) -> None:
    potential = samples.potential(members=2)
    run(potential, CRYSTAL, tmp_path, ensemble="bussi", **{**OPTIONS, "length": 0.0185})
    assert run(potential, CRYSTAL, tmp_path, ensemble="bussi", **OPTIONS).steps == 120
    assert_same_run(tmp_path, whole("bussi"))


def test_another_run_in_the_folder_is_refused(whole: Any, tmp_path: Path) -> None:
    folder = whole("langevin")
    before = {file.name: file.read_bytes() for file in folder.iterdir()}
    potential = samples.potential(members=2)
    for change, message in (
        ({"seed": 5}, "seed = 5: the run in this folder was begun with 4"),
        ({"ensemble": "nve"}, "ensemble = nve: the run in this folder was begun with langevin"),
        ({"friction": 1.0}, "friction = 1.0"),
    ):
        with pytest.raises(ConfigError, match=message):
            run(potential, CRYSTAL, folder, **{**OPTIONS, **change})
    with pytest.raises(ConfigError, match="begun with other atoms"):
        run(potential, samples.WATER, folder, **OPTIONS)
    with pytest.raises(ConfigError, match="begun with another potential"):
        run(samples.potential(members=2, seed=1), CRYSTAL, folder, **OPTIONS)
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == before
    (tmp_path / "trajectory.extxyz").write_text("mine")
    with pytest.raises(ConfigError, match="there is no checkpoint to go on from"):
        run(potential, CRYSTAL, tmp_path, **OPTIONS)
    assert (tmp_path / "trajectory.extxyz").read_text() == "mine"


def test_damaged_files_are_refused(tmp_path: Path) -> None:
    potential = samples.potential(members=2)
    run(potential, CRYSTAL, tmp_path, **OPTIONS)
    (tmp_path / "trajectory.extxyz").write_text("cut")
    with pytest.raises(FormatError, match=r"trajectory\.extxyz: is shorter than the checkpoint says"):
        run(potential, CRYSTAL, tmp_path, **OPTIONS)
    text = (tmp_path / "checkpoint.npz").read_bytes()
    for damaged in (b"", text[: len(text) // 2], b"no archive"):
        (tmp_path / "checkpoint.npz").write_bytes(damaged)
        with pytest.raises(FormatError, match="is no checkpoint, or damaged"):
            run(potential, CRYSTAL, tmp_path, **OPTIONS)
    (tmp_path / "log.csv").write_text("a,b\n")
    with pytest.raises(FormatError, match="is no log of gprann md"):
        read_log(tmp_path / "log.csv")


def test_growing_files_are_cut_back(tmp_path: Path) -> None:
    file = GrowingFile(tmp_path / "a", 0)
    file.write("Å one\n")
    size = file.flush()
    file.write("two\n")
    file.close()
    again = GrowingFile(tmp_path / "a", size)
    again.write("three\n")
    again.close()
    assert (tmp_path / "a").read_text(encoding="utf-8") == "Å one\nthree\n"


# Stops -------------------------------------------------------------------------------------------------------------


def test_a_run_that_heats_up_stops(tmp_path: Path) -> None:
    structure = grid(2)
    potential = silent(Springs(places=np.array(structure.positions) + 0.3, stiffness=2.0))
    result = run(potential, structure, tmp_path, ensemble="nve", temperature=50.0, log_every=1, keep=4)
    assert 1 < result.steps < 100
    assert result.atom is not None
    name = f"atom {result.atom} \\({structure.symbols[result.atom]}\\)"
    assert np.nanmax(result.log["temperature_K"]) < 1556
    pattern = rf"step {result.steps}: the temperature is \d+ K, above max_temperature = 1556 K; .* {name}$"
    assert re.search(pattern, result.reason)
    frames = gprann.read(tmp_path / "to_label.extxyz", require=())
    assert len(frames) == 4
    assert not frames.has_energies
    last = ase.io.read(tmp_path / "trajectory.extxyz", index=-1)
    assert last.info["step"] <= result.steps
    assert "reason: step" in (tmp_path / "summary.txt").read_text()


def test_an_atom_that_flies_away_stops_the_run(tmp_path: Path) -> None:
    structure = grid(2)
    result = run(
        silent(Pull(atom=3, strength=0.4)),
        structure,
        tmp_path,
        temperature=1.0,
        ensemble="nve",
        max_temperature=1e6,
        length=1.0,
    )
    assert result.reason.endswith("atom 3 (O) has no neighbour within max_distance = 6 Å any more")
    assert result.atom == 3
    assert 0 < result.steps < 2000


def test_an_atom_that_was_alone_from_the_beginning_stops_nothing(tmp_path: Path) -> None:
    structure = Structure(("O", "H", "H"), [[0.0, 0, 0], [0.0, 0, 1.0], [0.0, 0, 30.0]])
    result = run(springs(structure), structure, tmp_path, length=0.02)
    assert (result.reason, result.steps) == ("", 40)


def test_atoms_that_collide_stop_the_run(tmp_path: Path) -> None:
    pair = Structure(("O", "H"), [[0.0, 0, 0], [0.0, 0, 2.0]])
    result = run(
        silent(Pull(atom=1, strength=-1.0)),
        pair,
        tmp_path,
        temperature=1.0,
        ensemble="nve",
        max_temperature=1e6,
    )
    assert "atom 0 (O) and atom 1 (H) are 0.4" in result.reason
    assert result.reason.endswith("below min_distance = 0.5 Å")
    frames = gprann.read(tmp_path / "to_label.extxyz", require=())
    lengths = [float(np.linalg.norm(item.positions[1] - item.positions[0])) for item in frames]
    assert min(lengths) > 0.5
    assert lengths == sorted(lengths, reverse=True)


def test_grades_are_logged_and_stop_the_run(tmp_path: Path) -> None:
    """A single network has them; the largest of all steps, not of the lines of the log alone, is told."""
    potential = gprann.add_guard(samples.potential(members=1), samples.crystals(6))
    options: dict[str, Any] = {"temperature": 100.0, "length": 0.1, "log_every": 5, "trajectory_every": 5}
    free = run(potential, CRYSTAL, tmp_path / "free", **options)
    (tmp_path / "free" / "md.png").stat()
    grades = potential.predict(gprann.read(tmp_path / "free" / "trajectory.extxyz")).grades or ()
    np.testing.assert_allclose(free.log["grade"], [item.max() for item in grades], rtol=1e-5)
    np.testing.assert_array_equal(free.log["grade_atom"], [item.argmax() for item in grades])
    value, atom, step = free.highest
    assert value >= free.log["grade"].max() > free.log["grade"][0]
    assert f"largest extrapolation grade       {value:.3g}, at atom {atom} in step {step}" in str(free)
    limit = 0.5 * (value + free.log["grade"][0])
    stopped = run(potential, CRYSTAL, tmp_path / "stopped", max_grade=limit, **options)
    assert 0 < stopped.steps <= step
    assert f"step {stopped.steps}: the extrapolation grade of atom {stopped.atom} (" in stopped.reason
    last = gprann.read(tmp_path / "stopped" / "to_label.extxyz", require=())[-1]
    (found,) = potential.predict([last]).grades or ()
    assert (found.argmax(), found.max() > limit) == (stopped.atom, True)
    # With a higher limit the same folder goes on, as if nothing had been.
    again = run(potential, CRYSTAL, tmp_path / "stopped", max_grade=2 * value, **options)
    assert (again.reason, again.highest) == ("", free.highest)


def test_a_leap_stops_the_run(tmp_path: Path) -> None:
    structure = grid(2)
    result = run(
        silent(Pull(atom=3, strength=100.0)), structure, tmp_path, temperature=1.0, max_temperature=1e9
    )
    assert "atom 3 (O) moves by 0.5" in result.reason


def test_disagreeing_members_stop_the_run(tmp_path: Path) -> None:
    potential = samples.potential(members=3)
    options: dict[str, Any] = {"temperature": 100.0, "length": 0.1, "log_every": 5, "trajectory_every": 50}
    free = run(potential, CRYSTAL, tmp_path / "free", **options)
    value, _, step = free.worst
    assert free.reason == ""
    assert value >= np.nanmax(free.log["deviation_eV_per_A"]) > 0
    limit = 0.5 * (value + free.log["deviation_eV_per_A"][0])
    stopped = run(potential, CRYSTAL, tmp_path / "stopped", max_deviation=limit, **options)
    assert stopped.steps <= step
    assert f"step {stopped.steps}: the force on atom {stopped.atom} (" in stopped.reason
    frames = gprann.read(tmp_path / "stopped" / "to_label.extxyz", require=())
    deviations = []
    for frame in frames:
        std = potential.predict([frame]).forces_std[0]
        deviations.append(np.sqrt((std**2).sum(axis=1)))
    assert np.max(deviations[:-1]) < limit < np.max(deviations[-1])  # the last one is where it stopped
    assert int(np.argmax(deviations[-1])) == stopped.atom
    # With a higher limit the same folder goes on, as if nothing had been.
    again = run(potential, CRYSTAL, tmp_path / "stopped", max_deviation=2 * value, **options)
    assert again.reason == ""
    assert (tmp_path / "stopped" / "log.csv").read_bytes() == (tmp_path / "free" / "log.csv").read_bytes()
    with pytest.raises(ConfigError, match=r"max_deviation = 1\.0: the potential is a single network"):
        run(samples.potential(members=1), CRYSTAL, tmp_path / "one", max_deviation=1.0)


def test_numbers_that_are_none_stop_the_run() -> None:
    options = MdOptions()
    engine = Engine(samples.potential(members=1), CRYSTAL, options)
    state = State(
        np.array(CRYSTAL.positions),
        np.zeros((3, 3)),
        np.array(CRYSTAL.cell),
        np.ones((3, 1)),
        np.ones((3, 3)),
        9,
        np.random.default_rng(0),
        np.zeros((3, 3)),
    )
    engine.evaluate(state)
    watch = Watch(engine, CRYSTAL, options)
    assert watch.look(state, closely=True) is None
    state.forces[1, 2] = np.nan
    stop = watch.look(state, closely=True)
    assert stop is not None
    assert (stop.atom, "force on atom 1 (H) not finite" in stop.reason) == (1, True)
    state.forces[1, 2] = 0.0
    state.momenta[2, 0] = np.inf
    stop = watch.look(state, closely=False)
    assert stop is not None
    assert stop.atom == 2


def test_what_the_model_refuses_stops_the_run(tmp_path: Path) -> None:
    class Fails(Pull):
        def evaluate(self, data: Dataset) -> Contribution:
            if data[0].positions[0, 2] > 0.12:
                raise DataError("the baseline does not know this")
            return super().evaluate(data)

    result = run(
        silent(Fails(atom=0, strength=5.0)), samples.WATER, tmp_path, temperature=1.0, log_every=1, length=0.1
    )
    assert result.reason == f"step {result.steps + 1}: the baseline does not know this"
    assert len(gprann.read(tmp_path / "to_label.extxyz", require=())) == min(10, result.steps + 1)


def test_a_start_that_is_no_good_is_refused(tmp_path: Path) -> None:
    close = Structure(("O", "H"), [[0.0, 0, 0], [0.0, 0, 0.3]])
    with pytest.raises(DataError, match="the run would stop at once: atom 0"):
        run(samples.potential(), close, tmp_path)
    assert not list(tmp_path.iterdir())


# Options and files -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"ensemble": "nve", "friction": 2.0}, "friction = 2.0: has no effect"),
        ({"ensemble": "nve", "final_temperature": 2.0}, "final_temperature = 2.0: has no effect"),
        ({"pressure": 1.0}, "pressure = 1.0: has no effect"),
        (
            {"coupling_time": 1.0},
            "coupling_time = 1.0: has no effect, it belongs to the ensemble 'bussi' or 'npt'",
        ),
        ({"length": 1e-5}, "length = 1e-05: expected at least one time step"),
        ({"max_distance": 0.4}, "expected more than min_distance"),
        ({"ensemble": "npT"}, "ensemble"),
        ({"temprature": 3.0}, "did you mean 'temperature'"),
    ],
)
def test_options_that_make_no_sense(options: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=message):
        run(samples.potential(), CRYSTAL, tmp_path, **options)
    assert not list(tmp_path.iterdir())


def test_pressure_needs_a_periodic_cell(tmp_path: Path) -> None:
    for structure in (samples.WATER, CRYSTAL.replace(pbc=[1, 1, 0])):
        with pytest.raises(ConfigError, match=r"ensemble = npt: .* not periodic in all directions"):
            run(samples.potential(), structure, tmp_path, ensemble="npt")
    surrogate = gprann.Surrogate(kernel="pairs").fit(samples.crystals(6))
    with pytest.raises(ConfigError, match="ensemble = npt: stress"):
        run(surrogate, CRYSTAL, tmp_path, ensemble="npt")


def test_files_say_what_happened(tmp_path: Path) -> None:
    structure = grid(2)
    result = run(springs(structure), structure, tmp_path, length=0.1, trajectory_every=40, log_every=10)
    frames = ase.io.read(tmp_path / "trajectory.extxyz", index=":")
    assert [frame.info["step"] for frame in frames] == [0, 40, 80, 120, 160, 200]
    assert frames[-1].info["time_fs"] == 100.0
    log = read_log(tmp_path / "log.csv")
    assert log["step"].tolist() == list(range(0, 201, 10))
    assert log["time_ps"][-1] == 0.1
    speeds = frames[-1].get_kinetic_energy()
    assert speeds == pytest.approx(log["kinetic_eV"][-1])
    assert frames[-1].get_potential_energy() == pytest.approx(log["potential_eV"][-1])
    text = (tmp_path / "summary.txt").read_text(encoding="utf-8")
    assert str(result) == text
    assert f"{log['temperature_K'].mean():.6g}" in text
    assert "complete: 200 steps, 0.1 ps" in text
    assert (tmp_path / "md.png").stat().st_size > 1000
    assert np.isnan(log["pressure_GPa"]).all()
    assert "pressure" not in text


def test_drift_is_the_slope_of_the_conserved_energy(tmp_path: Path) -> None:
    structure = grid(2)
    result = run(springs(structure), structure, tmp_path, length=0.02, log_every=1)
    result.log["conserved_eV"][:] = 5.0 + 0.008 * result.log["time_ps"]
    assert result.drift == pytest.approx(1.0)


def test_pressure_of_the_log(tmp_path: Path) -> None:
    """Kinetic part and stress: against ASE."""
    run(samples.potential(), CRYSTAL, tmp_path, length=0.001, ensemble="nve", trajectory_every=1, log_every=1)
    log = read_log(tmp_path / "log.csv")
    frame = ase.io.read(tmp_path / "trajectory.extxyz", index=1)
    frame.calc = gprann.Calculator(samples.potential())
    expected = -frame.get_stress(include_ideal_gas=True)[:3].mean() / GPa
    assert log["pressure_GPa"][1] == pytest.approx(expected)


def test_surrogates_run_and_stop(tmp_path: Path) -> None:
    surrogate = gprann.Surrogate(kernel="pairs").fit(samples.waters(12))
    options: dict[str, Any] = {"ensemble": "nve", "length": 0.01, "temperature": 300.0, "log_every": 5}
    result = run(surrogate, samples.WATER, tmp_path / "a", **options)
    assert result.steps == 20
    assert result.worst[1] == -1
    stopped = run(surrogate, samples.WATER, tmp_path / "b", max_deviation=3e-4, **options)
    assert stopped.steps in (5, 10, 15, 20)  # lines of the log
    assert "standard deviation" in stopped.reason


def test_command(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """With a baseline that is handed over; from a file with several structures."""
    monkeypatch.chdir(tmp_path)
    data = gprann.examples.hydrogen(8)
    baseline = gprann.CalculatorBaseline(calculator="emt") + ReferenceEnergies()
    descriptor = gprann.ChebyshevDescriptor(["H"], radial_order=4, angular_order=None)
    potential = gprann.train(
        data, descriptor, hidden=(3,), iterations=5, starts=1, baseline=baseline, progress=False
    )
    potential.save("p.gprann")
    gprann.write("h2.extxyz", data)
    command = ["md", "p.gprann", "h2.extxyz", "--ensemble", "nve", "--length", "0.003", "-q"]
    command += ["--temperature", "1", "--min-distance", "0.2"]
    assert main([*command, "--calculator", "emt"]) == 2
    assert "holds 8 structures; choose the first one with --index 0" in capsys.readouterr().err
    assert main([*command, "--index", "0"]) == 2
    assert "calculator" in capsys.readouterr().err
    assert main([*command, "--calculator", "emt", "--index", "3"]) == 0
    output = capsys.readouterr().out
    assert "complete: 6 steps, 0.003 ps" in output
    assert "written: md" in output
    model = gprann.load("p.gprann", baseline=gprann.CalculatorBaseline(calculator="emt"))
    assert model.predict(data[3:4]).energy[0] == read_log(Path("md/log.csv"))["potential_eV"][0]
    assert (
        main([*command, "--calculator", "emt", "--index", "3", "--max-temperature", "0.1"]) == 0
    )  # was complete
    assert (
        main([*command, "--calculator", "emt", "--index", "3", "-o", "hot", "--max-temperature", "0.1"]) == 2
    )
    assert "the run would stop at once" in capsys.readouterr().err


def test_a_set_of_surrogates_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="model: expected a Potential or a Surrogate, got int"):
        run(3, CRYSTAL, tmp_path)
    with pytest.raises(DataError, match="structure: expected one to begin with, got 2"):
        gprann.md(samples.potential(), samples.crystals(2), tmp_path)
