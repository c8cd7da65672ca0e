"""Relaxations and minimum-energy paths accelerated by a surrogate, on real barriers with ASE's EMT."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import ase
import numpy as np
import pytest
from ase.build import add_adsorbate, bulk, fcc100, fcc111
from ase.calculators.calculator import all_changes
from ase.calculators.emt import EMT
from ase.calculators.lj import LennardJones
from ase.calculators.singlepoint import SinglePointCalculator
from ase.cluster import Icosahedron
from ase.constraints import FixAtoms
from ase.filters import FrechetCellFilter
from ase.mep import NEB
from ase.optimize import BFGS

import gprann
from gprann.active.learner import Learner
from gprann.data.structure import Dataset, Structure
from gprann.errors import ConfigError, DataError, GprannError


class Counted(EMT):
    """EMT that counts its calls, and may die."""

    def __init__(self, lives: int = 1000) -> None:
        super().__init__()
        self.lives = lives
        self.seen: list[bytes] = []

    def calculate(
        self, atoms: Any = None, properties: Any = ("energy",), system_changes: Any = tuple(all_changes)
    ) -> None:
        if system_changes:
            if len(self.seen) == self.lives:
                raise RuntimeError("killed")
            self.seen.append(atoms.positions.tobytes())
        super().calculate(atoms, properties, system_changes)


def relaxed(atoms: ase.Atoms) -> ase.Atoms:
    atoms.calc = EMT()
    BFGS(atoms, logfile=None).run(fmax=0.01)
    return atoms


@cache
def hop(metal: str) -> tuple[ase.Atoms, ase.Atoms]:
    """An adatom in neighbouring hollows of Al(100); two of three layers are fixed."""
    initial = fcc100("Al", (2, 2, 3))
    add_adsorbate(initial, metal, 1.7, "hollow")
    initial.center(axis=2, vacuum=4.0)
    initial.set_constraint(FixAtoms(mask=initial.get_tags() > 1))
    final = initial.copy()
    final.positions[-1, 0] += initial.cell[0, 0] / 2
    return relaxed(initial), relaxed(final)


def fcc_to_hcp() -> tuple[ase.Atoms, ase.Atoms]:
    """O on Cu(111) between two sites of different energy."""
    ends = []
    for site in ("fcc", "hcp"):
        atoms = fcc111("Cu", (2, 2, 2))
        add_adsorbate(atoms, "O", 1.2, site)
        atoms.center(axis=2, vacuum=4.0)
        atoms.set_constraint(FixAtoms(mask=atoms.get_tags() == 2))
        ends.append(relaxed(atoms))
    return ends[0], ends[1]


def plain_barrier(initial: ase.Atoms, final: ase.Atoms) -> float:
    images = [initial.copy() for _ in range(6)] + [final.copy()]
    for image in images:
        image.calc = EMT()
    band = NEB(images, climb=True, method="improvedtangent")
    band.interpolate(apply_constraint=True)
    assert BFGS(band, logfile=None).run(fmax=0.02, steps=100)
    energies = [image.get_potential_energy() for image in images]
    return float(max(energies) - energies[0])


def bare(*atoms: ase.Atoms) -> list[ase.Atoms]:
    return [item.copy() for item in atoms]


class TestBarriers:
    @pytest.mark.parametrize("metal", ["Al", "Au"])
    def test_hops_of_adatoms(self, metal: str) -> None:
        """At most 10 calls, those for the end points included; the plain band takes about a hundred."""
        ends = hop(metal)
        reference = Counted()
        path = gprann.neb(*bare(*ends), reference)
        assert path.converged
        assert path.calls == len(reference.seen) == len(set(reference.seen)) <= 10
        assert abs(path.barrier - plain_barrier(*ends)) < 0.01
        top = int(np.argmax(path.energies))
        saddle = path.images[top].copy()
        saddle.calc = EMT()
        assert np.linalg.norm(saddle.get_forces(), axis=1).max() < 0.05
        assert path.barrier == pytest.approx(
            saddle.get_potential_energy() - ends[0].get_potential_energy(), abs=1e-9
        )
        assert path.energy_std[1:-1].max() < 0.02
        assert len(path.reference) == path.calls
        assert repr(path).startswith(
            f"Band({len(path.images)} images: barrier {path.barrier:.3f} eV, converged after"
        )

    def test_a_barrier_without_symmetry(self) -> None:
        ends = fcc_to_hcp()
        path = gprann.neb(*ends, EMT(), images=4)
        assert path.converged
        assert path.calls <= 8
        assert abs(path.barrier - plain_barrier(*ends)) < 0.01
        assert path.energies[-1] == pytest.approx(
            ends[1].get_potential_energy() - ends[0].get_potential_energy(), abs=1e-9
        )

    def test_an_end_point_that_is_not_relaxed_is_named(self, caplog: pytest.LogCaptureFixture) -> None:
        initial, final = bare(*hop("Al"))
        gprann.neb(initial, final, EMT(), max_calls=3)
        assert "not relaxed" not in caplog.text
        final.positions[-1, 2] += 0.2
        gprann.neb(initial, final, EMT(), max_calls=3)
        assert "final: not relaxed, the force on an atom is" in caplog.text

    def test_few_structures_are_no_reason_to_warn(self, caplog: pytest.LogCaptureFixture) -> None:
        """A search begins with two structures, which are too few for a calibration; nobody could change that."""
        gprann.neb(*bare(*hop("Al")), EMT(), max_calls=5)
        few = [record for record in caplog.records if "not calibrated" in record.message]
        assert not [record for record in few if record.levelname != "DEBUG"]

    def test_end_points_with_results_cost_nothing(self) -> None:
        ends = hop("Al")
        free = gprann.neb(*ends, EMT())
        assert free.calls == gprann.neb(*bare(*ends), EMT()).calls - 2
        from_file = bare(*ends)
        for atoms, end in zip(from_file, ends, strict=True):
            forces = end.get_forces(apply_constraint=False)
            atoms.calc = SinglePointCalculator(atoms, energy=end.get_potential_energy(), forces=forces)
        assert gprann.neb(*from_file, EMT()).calls == free.calls

    def test_results_of_another_calculator_do_not_count(self) -> None:
        ends = bare(*hop("Al"))
        for atoms in ends:
            atoms.calc = LennardJones()
            atoms.get_forces()
        path = gprann.neb(*ends, EMT())
        assert abs(path.reference[0].energy - hop("Al")[0].get_potential_energy()) < 1e-9  # type: ignore[operator]

    def test_fixed_atoms_stay_and_images_carry_results(self) -> None:
        ends = hop("Al")
        path = gprann.neb(*ends, EMT(), images=3)
        fixed = ends[0].constraints[0].index
        for atoms in path.images:
            np.testing.assert_array_equal(atoms.positions[fixed], ends[0].positions[fixed])
            assert atoms.get_forces().shape == (13, 3)
            assert atoms.constraints
        assert len(path.images) == len(path.energies) == len(path.energy_std) == 5
        np.testing.assert_array_equal(path.images[-1].positions, ends[1].positions)

    def test_a_first_path_of_the_user(self) -> None:
        """Images on an arc over the bridge: another start, the same saddle."""
        ends = hop("Al")
        images = []
        for t in (0.25, 0.5, 0.75):
            atoms = ends[0].copy()
            atoms.positions += t * (ends[1].positions - ends[0].positions)
            atoms.positions[-1, 2] += 1.6 * t * (1 - t)
            images.append(atoms)
        path = gprann.neb(*ends, EMT(), images=images)
        assert path.converged
        assert path.calls <= 8
        assert abs(path.barrier - plain_barrier(*ends)) < 0.01

    def test_wrapped_end_points_are_joined_across_the_border(self) -> None:
        initial, final = hop("Al")
        shift = initial.cell[0] * 0.4 + 0.3
        images = bare(initial, final)
        for atoms in images:
            atoms.positions += shift
            atoms.wrap(pbc=(True, True, False))
        assert images[1].positions[-1, 0] < images[0].positions[-1, 0]
        assert abs(gprann.neb(*images, EMT()).barrier - plain_barrier(initial, final)) < 0.01


class TestRecord:
    def test_an_interrupted_search_goes_on(self, tmp_path: Path) -> None:
        file = tmp_path / "reference.extxyz"
        ends = bare(*hop("Au"))
        dying = Counted(lives=4)
        with pytest.raises(GprannError) as error:
            gprann.neb(*ends, dying, record=file)
        assert str(error.value) == (
            "reference call 5, Al12Au: the calculator failed with RuntimeError: killed; "
            f"{file} keeps 4 results, from which the same call goes on"
        )
        assert len(gprann.read(file)) == 4
        with file.open("a") as stream:
            stream.write("13\nLattice=")  # of a process killed while it wrote
        second = Counted()
        path = gprann.neb(*ends, second, record=file)
        assert path.converged
        assert not set(second.seen) & set(dying.seen)
        assert len(second.seen) == path.calls <= 5
        assert len(gprann.read(file)) == 4 + path.calls == len(path.reference)
        again = gprann.neb(*ends, Counted(lives=3), record=file)
        assert again.calls <= 3  # all results are known from the start: the band ends a little elsewhere
        assert abs(again.barrier - path.barrier) < 5e-3

    def test_results_for_other_cells_are_left_alone(self, tmp_path: Path) -> None:
        file = tmp_path / "reference.extxyz"
        gprann.write(file, [gprann.Structure(("Al",), [[0.0, 0, 0]], energy=1.0, forces=np.zeros((1, 3)))])
        path = gprann.neb(*hop("Al"), EMT(), record=file)
        assert path.converged
        assert len(gprann.read(file)) == 1 + len(path.reference)


def rattled_cluster() -> ase.Atoms:
    cluster = Icosahedron("Cu", 2)
    cluster.rattle(0.2, seed=2)
    return cluster


class TestRelaxation:
    @pytest.mark.parametrize("optimizer", ["bfgs", "fire"])
    def test_fewer_calls_than_without(self, optimizer: Any) -> None:
        start = rattled_cluster()
        before = start.positions.copy()
        plain, steps = start.copy(), BFGS
        plain.calc = EMT()
        dynamics = steps(plain, logfile=None)
        dynamics.run(fmax=0.05)
        reference = Counted()
        result = gprann.relax(start, reference, optimizer=optimizer)
        assert result.converged
        assert result.calls == len(reference.seen) < dynamics.nsteps / 2
        assert result.energy == pytest.approx(plain.get_potential_energy(), abs=5e-3)
        assert np.linalg.norm(result.atoms.get_forces(), axis=1).max() < 0.05
        np.testing.assert_array_equal(start.positions, before)
        check = result.atoms.copy()
        check.calc = EMT()
        assert check.get_potential_energy() == pytest.approx(result.energy, abs=1e-9)

    def test_fixed_atoms_stay(self) -> None:
        start = rattled_cluster()
        start.set_constraint(FixAtoms([0, 5]))
        result = gprann.relax(start, EMT())
        assert result.converged
        np.testing.assert_array_equal(result.atoms.positions[[0, 5]], start.positions[[0, 5]])
        assert np.linalg.norm(result.reference[-1].forces[[0, 5]], axis=1).max() > 0.05  # type: ignore[index]

    def test_a_relaxed_start_costs_one_call(self) -> None:
        result = gprann.relax(bare(hop("Al")[0])[0], EMT())
        assert (result.calls, result.converged, result.surrogate) == (1, True, None)
        at_once = gprann.relax(hop("Al")[0], EMT())
        assert at_once.calls == 0
        assert repr(at_once) == f"Relaxation(Al13: {at_once.energy:.4f} eV, converged after 0 calls)"

    def test_a_result_of_high_energy_does_not_end_it(self) -> None:
        """The surrogate first runs up a wall, whose forces are a thousand times those at the minimum."""
        trimer = ase.Atoms("Ar3", [[0, 0, 0], [1.3, 0, 0], [0.5, 0.9, 0]])
        result = gprann.relax(trimer, LennardJones(), fmax=0.01)
        assert max(result.reference.energies) > 5.0
        assert result.converged
        assert result.calls <= 15

    def test_too_few_calls(self) -> None:
        result = gprann.relax(rattled_cluster(), EMT(), max_calls=2)
        assert (result.calls, result.converged) == (2, False)
        assert result.energy == min(result.reference.energies)
        path = gprann.neb(*bare(*hop("Au")), EMT(), max_calls=4)
        assert (path.calls, path.converged) == (4, False)

    def test_the_same_call_gives_the_same_result(self) -> None:
        first, second = (gprann.relax(rattled_cluster(), EMT(), seed=3) for _ in range(2))
        np.testing.assert_array_equal(first.atoms.positions, second.atoms.positions)


class TestLearner:
    @pytest.fixture
    def results(self) -> Dataset:
        rng = np.random.default_rng(1)
        structures = []
        for _ in range(6):
            atoms = rattled_cluster()
            atoms.positions += rng.normal(0.0, 0.05, atoms.positions.shape)
            atoms.calc = EMT()
            structures.append(
                Structure(
                    tuple(atoms.symbols),
                    atoms.positions,
                    energy=atoms.get_potential_energy(),
                    forces=atoms.get_forces(),
                )
            )
        return Dataset(structures)

    def learner(self, **options: Any) -> Learner:
        return Learner([rattled_cluster()], 0, 1e3, options)

    def test_new_results_extend_the_surrogate(self, results: Dataset) -> None:
        learner, anew = self.learner(), self.learner()
        learner.learn(results[:3])
        first = learner.surrogate
        learner.learn(results)
        anew.learn(results)
        assert learner.surrogate is first
        assert anew.surrogate is not None
        assert first is not None
        assert first.to_dict()["n_structures"] == 6
        a, b = (surrogate.predict(results, std=False) for surrogate in (first, anew.surrogate))
        np.testing.assert_allclose(a.energy, b.energy, atol=1e-4)
        np.testing.assert_allclose(np.array(a.forces), np.array(b.forces), atol=1e-3)

    def test_other_results_or_free_hyperparameters_need_a_new_fit(self, results: Dataset) -> None:
        for learner, then in ((self.learner(), results[1:]), (self.learner(length=None), results)):
            learner.learn(results[:3])
            first = learner.surrogate
            learner.learn(then)
            assert learner.surrogate is not first
            assert learner.surrogate is not None
            assert learner.surrogate.to_dict()["n_structures"] == len(then)


class NoForces(EMT):
    implemented_properties: list[str] = ["energy"]  # noqa: RUF012


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"fmax": 0.0}, "fmax = 0.0: expected a positive number"),
        ({"threshold": np.nan}, "threshold: expected a finite number, got nan"),
        ({"max_calls": 0}, "max_calls = 0: expected"),
        ({"length": -1.0}, "length = -1.0"),
        ({"kernel": "atms"}, "did you mean 'atoms'"),
        ({"record": "results.json"}, "ends in .extxyz or .xyz"),
    ],
)
def test_impossible_options(options: dict[str, Any], message: str) -> None:
    reference = Counted(lives=0)
    with pytest.raises(ConfigError, match=message):
        gprann.relax(rattled_cluster(), reference, **options)
    with pytest.raises(ConfigError, match=message):
        gprann.neb(*bare(*hop("Al")), reference, **options)


def test_other_impossible_options() -> None:
    with pytest.raises(ConfigError, match="optimizer = 'bfg': did you mean 'bfgs'"):
        gprann.relax(rattled_cluster(), EMT(), optimizer="bfg")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="give one with energies and forces"):
        gprann.relax(rattled_cluster(), NoForces())
    with pytest.raises(ConfigError, match="images: expected one or more"):
        gprann.neb(*hop("Al"), EMT(), images=[])
    for images in (0, 2.5, None):
        with pytest.raises(ConfigError, match=rf"images = {images}: expected 1 or more, a whole number"):
            gprann.neb(*hop("Al"), EMT(), images=images)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="unknown option 'fmx': did you mean 'fmax'"):
        gprann.relax(rattled_cluster(), EMT(), fmx=1)
    with pytest.raises(ConfigError, match="unknown option 'lenght': did you mean 'length'"):
        gprann.neb(*hop("Al"), EMT(), lenght=1)
    for calculator in (None, "emt", EMT):
        with pytest.raises(ConfigError, match=r"calculator = .*: expected an ASE calculator, for example"):
            gprann.relax(rattled_cluster(), calculator)  # type: ignore[arg-type]


def test_what_is_no_structure_is_named() -> None:
    cell: Any = FrechetCellFilter(bulk("Cu"))
    with pytest.raises(
        ConfigError, match=r"atoms: expected ase\.Atoms, got FrechetCellFilter; positions alone"
    ):
        gprann.relax(cell, EMT())
    initial, final = hop("Al")
    for arguments, name in (((cell, final), "initial"), ((initial, cell), "final")):
        with pytest.raises(ConfigError, match=rf"{name}: expected ase\.Atoms"):
            gprann.neb(*arguments, EMT())
    with pytest.raises(ConfigError, match=r"images\[0\]: expected ase\.Atoms, got str"):
        gprann.neb(initial, final, EMT(), images=["a"])  # type: ignore[list-item]


def test_a_calculator_that_fails_without_a_record() -> None:
    with pytest.raises(
        GprannError, match=r"call 3, Cu13: .* RuntimeError: killed; its 2 earlier results are lost"
    ):
        gprann.relax(rattled_cluster(), Counted(lives=2))


def test_results_that_are_not_finite_are_named() -> None:
    class Broken(EMT):  # type: ignore[misc]
        def calculate(self, *arguments: Any, **options: Any) -> None:
            super().calculate(*arguments, **options)
            self.results["forces"] = np.full((13, 3), np.nan)

    with pytest.raises(DataError, match="reference call 1: forces of atom 0 is nan"):
        gprann.relax(rattled_cluster(), Broken())


def test_equal_end_points_are_refused() -> None:
    initial = hop("Al")[0]
    calculator = Counted()
    wrapped = initial.copy()
    wrapped.positions[-1] += initial.cell[0]
    for same in (initial, wrapped):
        with pytest.raises(
            DataError, match=r"final: no atom lies 0\.01 Å or more from where it is in initial"
        ):
            gprann.neb(initial, same, calculator)
    assert calculator.seen == []


def changed(atoms: ase.Atoms, change: str) -> Sequence[ase.Atoms]:
    other = atoms.copy()
    if change == "order":
        other = other[::-1]
    elif change == "cell":
        other.cell[0, 0] += 0.1
    elif change == "fixed":
        other.set_constraint()
        other.positions[0, 2] += 0.01
    return other


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("order", "final: its atoms are not those of initial"),
        ("cell", "final: cell or pbc differ"),
        ("fixed", "final: atom 0 is constrained but lies 0.010 Å"),
    ],
)
def test_end_points_that_do_not_belong_together(change: str, message: str) -> None:
    initial, final = hop("Au")
    with pytest.raises(DataError, match=message):
        gprann.neb(initial, changed(final, change), EMT())


def test_a_result_that_is_not_finite() -> None:
    class Broken(EMT):
        def calculate(self, *args: Any, **kwargs: Any) -> None:
            super().calculate(*args, **kwargs)
            self.results["forces"][0, 0] = np.nan

    with pytest.raises(DataError, match="forces of atom 0 is nan"):
        gprann.relax(rattled_cluster(), Broken())
