"""The command `properties`: phonons, defects, vibrations and simulations, beside a reference, computed once."""

from __future__ import annotations

import json
import shutil
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase.build import bulk, fcc111, graphene, molecule
from ase.calculators.emt import EMT
from ase.calculators.lj import LennardJones
from ase.units import J, _amu, _hbar, invcm, kB, m
from ase.vibrations import Vibrations as AseVibrations

import gprann
from gprann.cli.main import main
from gprann.data.structure import Structure
from gprann.errors import ConfigError, DataError, GprannError
from gprann.labelling.calculators import CalculatorSpec
from gprann.properties import simulated, suite
from gprann.properties.options import NAMES, PropertyOptions
from gprann.properties.relaxation import relaxed_crystal, repeats

needs_phonopy = pytest.mark.skipif(
    not all(find_spec(name) for name in ("phonopy", "phono3py", "seekpath")),
    reason="needs pip install 'gprann[properties]'",
)
COPPER = Structure.from_ase(bulk("Cu"))
CUBE = Structure.from_ase(bulk("Cu", cubic=True))
H2 = gprann.examples.hydrogen(12)


class Springs(EMT):  # type: ignore[misc]
    """A line of atoms along x with springs to the next, and very soft ones across: its phonons are known."""

    K, SOFT = 3.0, 2.0

    def calculate(self, atoms: Any = None, properties: Any = (), system_changes: Any = ()) -> None:
        n = len(atoms)
        ideal = np.arange(n)[:, None] * np.array([2.5, 0.0, 0.0])
        order = np.argsort(atoms.positions[:, 0])
        shift = (atoms.positions[order] - ideal) - (atoms.positions[order] - ideal).mean(axis=0)
        stretch = np.roll(shift, -1, axis=0) - shift
        k = np.array([self.K, self.SOFT, self.SOFT])
        forces = np.empty_like(shift)
        forces[order] = k * (stretch - np.roll(stretch, 1, axis=0))
        self.results = {
            "energy": 0.5 * float((k * stretch**2).sum()),
            "forces": forces,
            "stress": np.zeros(6),
        }


@needs_phonopy
class TestPhonons:
    def test_a_line_of_springs(self) -> None:
        """2 sqrt(k/m) |sin(q a / 2)|: highest at the edge of the zone."""
        line = Structure(("Cu",), [[0.0, 0, 0]], np.diag([2.5, 20.0, 20.0]), True)
        found = gprann.phonons(line, Springs(), length=10.0, mesh=2, relax=False)
        highest = 2.0 * np.sqrt(Springs.K / 63.546) * _hbar_units()
        assert found.supercell == (4, 1, 1)
        assert found.bands.max() == pytest.approx(highest, rel=2e-3)
        assert found.is_stable
        assert next(name for _, name in found.labels) == "Γ"

    def test_supercells_and_symmetry_change_nothing(self) -> None:
        one = gprann.phonons(COPPER, EMT(), length=5.0, mesh=9)
        assert np.trapezoid(one.density, one.frequencies) == pytest.approx(3, rel=0.02)
        cube = gprann.phonons(CUBE, EMT(), length=5.0, mesh=2)
        assert one.bands.shape == cube.bands.shape == (len(one.distances), 3)
        assert one.bands.max() == pytest.approx(cube.bands.max(), rel=0.05)

    def test_imaginary_modes_are_named_and_give_no_conductivity(self) -> None:
        """Copper as a simple cubic crystal is held by symmetry alone."""
        simple = Structure.from_ase(bulk("Cu", "sc", a=2.4))
        found = gprann.phonons(simple, EMT(), length=6.0, mesh=3)
        assert not found.is_stable
        lowest = [frequency for _, frequency in found.imaginary]
        assert lowest == sorted(lowest)
        assert lowest[0] == pytest.approx(found.bands.min(), abs=0.5)
        with pytest.raises(
            GprannError, match=r"the crystal is not stable: a mode at q = \(.*\) has the imaginary"
        ):
            gprann.thermal_conductivity(simple, EMT(), length=4.0, mesh=3)

    def test_conductivity(self) -> None:
        found = gprann.thermal_conductivity(COPPER, EMT(), temperatures=[300.0, 600.0], length=4.0, mesh=3)
        matrix = found.matrices[0]
        assert matrix == pytest.approx(matrix[0, 0] * np.eye(3), abs=1e-6 * matrix[0, 0])
        assert found.values[0] / found.values[1] == pytest.approx(2.0, rel=0.1)  # 1/T
        with pytest.raises(GprannError, match="displaced supercells of 8 atoms, and 3 are allowed"):
            gprann.thermal_conductivity(COPPER, EMT(), length=4.0, mesh=3, most=3)


def _hbar_units() -> float:
    """From the root of eV / (Å² u) to THz."""
    return 1e10 / np.sqrt(_amu / 1.602176634e-19) / (2e12 * np.pi)


class TestDefects:
    def test_vacancy_of_pairs(self) -> None:
        """With pair forces a vacancy costs, unrelaxed, the cohesive energy of an atom."""
        argon = Structure.from_ase(bulk("Ar", cubic=True, a=5.26))
        calculator = LennardJones(epsilon=0.0104, sigma=3.4, rc=7.0, smooth=True)
        found = gprann.vacancy(argon, calculator, length=10.0)
        relaxed = relaxed_crystal(argon, calculator)
        assert found.atoms == 32
        assert found.unrelaxed == pytest.approx(-relaxed.get_potential_energy() / 4, rel=1e-6)
        assert 0 < found.energy <= found.unrelaxed

    def test_surface_as_ase_builds_it(self) -> None:
        state = gprann.equation_of_state(COPPER, EMT(), range=0.04)
        slab = fcc111("Cu", (1, 1, 7), a=(4 * state.volume) ** (1 / 3), vacuum=6.0)
        slab.calc = EMT()
        area = np.linalg.norm(np.cross(slab.cell[0], slab.cell[1]))
        expected = (slab.get_potential_energy() - 7 * state.energy) / (2 * area) / (J / m**2)
        found = gprann.surface_energy(CUBE, EMT(), (1, 1, 1))
        assert found.unrelaxed == pytest.approx(expected, rel=1e-3)
        assert found.energy <= found.unrelaxed
        assert found.thickness >= 12.0

    def test_of_two_terminations_the_lower_one_counts(self) -> None:
        """Diamond (111) is cut between its double layers, wherever the origin of the cell lies."""
        energies = []
        for shift in (0.0, 0.7):
            atoms = bulk("Si", cubic=True)
            atoms.translate([shift] * 3)
            calculator = LennardJones(epsilon=1.0, sigma=2.1, rc=3.0)
            energies.append(gprann.surface_energy(Structure.from_ase(atoms), calculator, (1, 1, 1)).unrelaxed)
        assert energies[0] == pytest.approx(energies[1], rel=1e-6)

    def test_bad_input(self) -> None:
        salt = Structure.from_ase(bulk("NaCl", "rocksalt", a=5.6))
        for call, error, message in (
            (lambda: gprann.vacancy(salt, EMT()), DataError, "is the compound ClNa"),
            (lambda: gprann.vacancy(H2[0], EMT()), DataError, "no crystal"),
            (lambda: gprann.vacancy(COPPER, EMT(), length=-1.0), ConfigError, "length = -1"),
            (lambda: gprann.surface_energy(salt, EMT()), DataError, "which layer ends a surface"),
            (lambda: gprann.surface_energy(COPPER, EMT(), (0, 0, 0)), ConfigError, "miller"),
            (lambda: gprann.surface_energy(COPPER, EMT(), vacuum=0.0), ConfigError, "vacuum"),
            (lambda: gprann.phonons(COPPER, EMT(), length=0.0), ConfigError, "length"),
            (lambda: gprann.phonons(COPPER, EMT(), displacement=2.0), ConfigError, "displacement"),
            (
                lambda: gprann.thermal_conductivity(COPPER, EMT(), temperatures=[0.0]),
                ConfigError,
                "temperatures",
            ),
        ):
            with pytest.raises(error, match=message):
                call()

    def test_repeats_count_heights(self) -> None:
        assert repeats(bulk("Cu"), 4.0) == [2, 2, 2]  # planes 2.08 Å apart, vectors 2.55 Å long
        assert repeats(graphene(vacuum=10.0), 5.0) == [3, 3, 1]


class TestVibrations:
    @pytest.mark.parametrize(("name", "modes"), [("H2O", 3), ("CO2", 4), ("N2", 1), ("CH4", 9)])
    def test_as_ase(self, name: str, modes: int, tmp_path: Path) -> None:
        atoms = molecule(name)
        atoms.calc = EMT()
        found = gprann.vibrations(Structure.from_ase(molecule(name)), EMT(), relax=False)
        reference = AseVibrations(atoms, name=str(tmp_path / "vib"))
        reference.run()
        expected = reference.get_frequencies()[-modes:]
        numbers = np.sort(np.where(np.abs(expected.imag) > 1e-6, -np.abs(expected.imag), expected.real))
        assert len(found.wavenumbers) == modes
        # The structures are not at rest: rotations, which ASE keeps, mix with the softest modes.
        assert found.wavenumbers[-1] == pytest.approx(numbers[-1], rel=0.02)

    def test_two_masses(self) -> None:
        pair = Structure(("H", "Ar"), [[0.0, 0, 0], [0.0, 0, 1.2]])
        found = gprann.vibrations(pair, LennardJones())
        mass = 1 / (1 / 1.008 + 1 / 39.95)
        curvature = 72 / 2 ** (1 / 3)  # of Lennard-Jones at its minimum
        expected = np.sqrt(curvature / mass) * 1e10 * _hbar / np.sqrt(1.602176634e-19 * _amu) / invcm
        assert found.wavenumbers == pytest.approx([expected], rel=5e-3)  # of finite differences
        assert np.linalg.norm(found.modes[0]) == pytest.approx(1.0)

    def test_bad_input(self) -> None:
        for structure in (COPPER, Structure(("H",), [[0.0, 0, 0]])):
            with pytest.raises(DataError, match="is no molecule"):
                gprann.vibrations(structure, EMT())
        with pytest.raises(ConfigError, match="displacement"):
            gprann.vibrations(H2[0], EMT(), displacement=0.0)


@pytest.fixture(scope="module")
def surrogate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file: Path = tmp_path_factory.mktemp("model") / "h2.gprann"
    gprann.Surrogate(kernel="pairs").fit(H2).save(file)
    return file


class TestMeasure:
    def test_beside_a_reference(self, surrogate: Path, tmp_path: Path) -> None:
        reference = CalculatorSpec("ase.calculators.lj:LennardJones")
        options: dict[str, Any] = {"only": ["vibrations", "dynamics"], "time": 0.1, "temperatures": [50.0]}
        found = gprann.measure_properties(surrogate, H2[2], tmp_path / "out", reference=reference, **options)
        assert not found.failed
        assert list(found.results) == ["relaxation", "vibrations", "dynamics"]
        assert found.left_out == {
            "dynamics of the reference": "the reference is a calculator, with which no simulations are run"
        }
        own, expected = (
            found.results["vibrations"][side]["values"][0]["value"] for side in ("potential", "reference")
        )
        assert own == pytest.approx(expected, rel=0.01)
        drift = found.results["dynamics"]["potential"]["values"][0]
        assert (drift["name"], drift["unit"]) == ("drift of the energy", "meV/atom/ps")
        text = (tmp_path / "out" / "summary.md").read_text(encoding="utf-8")
        assert text == str(found)
        assert "| mode 1, 1/cm |" in text
        assert json.loads((tmp_path / "out" / "results.json").read_text())["results"] == found.results
        pictures = {path.stem for path in (tmp_path / "out").glob("*.png")}
        assert pictures == {"relaxation", "vibrations", "dynamics"}

    def test_what_is_finished_is_not_computed_again(
        self, surrogate: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        options: dict[str, Any] = {"only": ["vibrations"]}
        first = gprann.measure_properties(surrogate, H2[2], tmp_path / "out", **options)

        def refuse(*_: Any, **__: Any) -> None:
            raise AssertionError("computed again")

        monkeypatch.setattr(suite, "vibrations", refuse)
        monkeypatch.setattr(suite, "relax_atoms", refuse)
        again = gprann.measure_properties(surrogate, H2[2], tmp_path / "out", temperatures=[77.0], **options)
        assert again.results == first.results
        with pytest.raises(AssertionError, match="computed again"):
            gprann.measure_properties(surrogate, H2[3], tmp_path / "out", **options)

    def test_simulations_of_another_structure_or_model_are_not_taken_up(
        self, surrogate: Path, tmp_path: Path
    ) -> None:
        options: dict[str, Any] = {"only": ["dynamics"], "time": 0.05, "temperatures": [50.0]}
        other = gprann.Surrogate(kernel="pairs").fit(H2[::2])
        cases = [
            (surrogate, H2[2], {}),
            (surrogate, H2[5], {}),
            (other, H2[2], {}),
            (surrogate, H2[2], {"seed": 1}),
        ]
        for model, structure, more in cases:
            found = gprann.measure_properties(model, structure, tmp_path / "one", **options, **more)
            fresh = gprann.measure_properties(model, structure, tmp_path / "new", **options, **more)
            shutil.rmtree(tmp_path / "new")
            assert not found.failed
            assert found.results == fresh.results

    def test_a_failure_stops_nothing_else(self, surrogate: Path, tmp_path: Path, capsys: Any) -> None:
        gprann.write(tmp_path / "h2.extxyz", H2[2:3])
        code = main(
            [
                "properties",
                str(surrogate),
                "--structure",
                str(tmp_path / "h2.extxyz"),
                "-o",
                str(tmp_path / "out"),
                *[
                    "--only",
                    "dynamics",
                    "vibrations",
                    "--time",
                    "0.2",
                    "--temperatures",
                    "3000",
                    "--time-step",
                    "20",
                ],
            ]
        )
        text = capsys.readouterr().out
        assert code == 1
        assert "- dynamics of the potential: " in text
        assert "mode 1, 1/cm" in text

    def test_what_does_not_come_to_rest_is_simulated_all_the_same(
        self, surrogate: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(*_: Any, **__: Any) -> None:
            raise GprannError("the atoms have not come to rest after 500 steps")

        monkeypatch.setattr(suite, "relax_atoms", refuse)
        found = gprann.measure_properties(
            surrogate, H2[2], tmp_path / "out", only=["vibrations", "dynamics"], time=0.1, temperatures=[50.0]
        )
        assert list(found.results) == ["dynamics"]
        assert found.failed == {
            "relaxation of the potential": "the atoms have not come to rest after 500 steps",
            "vibrations of the potential": "needs the structure at rest",
        }

    @needs_phonopy
    def test_a_crystal_has_everything(self, tmp_path: Path) -> None:
        """A potential that knows nothing cannot be at rest: the reference alone has its properties."""
        options = PropertyOptions(length=4.0, mesh=3, miller=("111",), temperatures=(300.0,))
        subject = suite.Subject(COPPER, EMT(), None, options, tmp_path)
        outcomes = {}
        for one in simulated.PROPERTIES:
            if one.obstacle(COPPER, options) or one.simulates:
                continue
            outcomes[one.name] = one.compute(subject)
            json.dumps(outcomes[one.name])
        assert list(outcomes) == [
            "relaxation",
            "equation_of_state",
            "elastic_constants",
            "phonons",
            "thermal_conductivity",
            "vacancy",
            "surfaces",
        ]
        from gprann.properties.drawing import draw

        for name, outcome in outcomes.items():
            draw(name, {"potential": outcome, "reference": outcome}).savefig(tmp_path / f"{name}.png")

    def test_what_a_structure_has(self) -> None:
        options = PropertyOptions()
        slab = Structure.from_ase(fcc111("Cu", (2, 2, 3), vacuum=8.0, periodic=True))
        salt = Structure.from_ase(bulk("NaCl", "rocksalt", a=5.6))

        def have(structure: Structure) -> set[str]:
            return {one.name for one in simulated.PROPERTIES if not one.obstacle(structure, options)}

        assert set(NAMES) - have(CUBE) == {"vibrations"}
        assert set(NAMES) - have(salt) == {"vibrations", "vacancy", "surfaces"}
        assert have(slab) == {"relaxation", "dynamics", "rdf", "diffusion"}
        assert have(H2[0]) == {"relaxation", "vibrations", "dynamics"}

    def test_simulations_of_a_crystal(self, tmp_path: Path) -> None:
        """Frozen argon by a surrogate: it does not diffuse, and its first shell is where the crystal has it."""
        rng = np.random.default_rng(0)
        argon = bulk("Ar", cubic=True, a=5.4)
        data = []
        for _ in range(8):
            atoms = argon.copy()
            atoms.positions += 0.1 * rng.normal(size=atoms.positions.shape)
            atoms.calc = LennardJones(epsilon=0.0104, sigma=3.4, rc=5.0, smooth=True)
            data.append(Structure.from_ase(atoms))
            data[-1] = data[-1].replace(energy=atoms.get_potential_energy(), forces=atoms.get_forces())
        potential = gprann.fit_linear(
            data,
            gprann.ChebyshevDescriptor(["Ar"], radial_order=6, radial_cutoff=5.0, angular_order=None),
            members=1,
        )
        options = PropertyOptions(length=5.0, temperatures=(10.0, 20.0), time=0.5, charges={"Ar": 1.0})
        structure = Structure.from_ase(argon)
        subject = suite.Subject(structure, gprann.Calculator(potential), potential, options, tmp_path)
        by_name = {one.name: one for one in simulated.PROPERTIES}
        pairs = by_name["rdf"].compute(subject)
        assert pairs["values"][0]["value"] == pytest.approx(5.4 / np.sqrt(2), abs=0.15)
        moved = by_name["diffusion"].compute(subject)
        names = [item["name"] for item in moved["values"]]
        assert "conductivity by Ar at 10 K" in names
        assert abs(moved["values"][0]["value"]) < 0.1
        energy = by_name["dynamics"].compute(subject)
        assert abs(energy["values"][0]["value"]) < 1.0
        assert (tmp_path / "10K_nve" / "log.csv").is_file()

    def test_activation_energy(self) -> None:
        temperatures = np.array([500.0, 700.0, 900.0])
        true = 2.0 * np.exp(-0.3 / (kB * temperatures))
        rng = np.random.default_rng(1)
        found = [
            simulated.activation(temperatures, true * (1 + 0.05 * rng.normal(size=3)), 0.05 * true)
            for _ in range(300)
        ]
        energies, errors = np.array(found).T
        assert energies.mean() == pytest.approx(0.3, abs=0.002)
        assert energies.std() == pytest.approx(errors.mean(), rel=0.2)

    def test_bad_input(self, surrogate: Path, tmp_path: Path, capsys: Any) -> None:
        for options, message in (
            ({"only": ["phonon"]}, "did you mean 'phonons'"),
            ({"miller": ["12"]}, "three indices"),
            ({"miller": ["000"]}, "three indices"),
            ({"temperatures": [0.0]}, "positive numbers of K"),
            ({"length": -1.0}, "length"),
        ):
            with pytest.raises(ConfigError, match=message):
                gprann.measure_properties(surrogate, H2[2], tmp_path / "out", **options)
        with pytest.raises(ConfigError, match="expected one, got 12"):
            gprann.measure_properties(surrogate, H2, tmp_path / "out")
        gprann.write(tmp_path / "h2.extxyz", H2[2:3])
        command = [
            "properties",
            str(surrogate),
            "--structure",
            str(tmp_path / "h2.extxyz"),
            "-o",
            str(tmp_path / "o"),
        ]
        for more, message in (
            (["--reference-options", "a=1"], "give --reference"),
            (["--reference", str(surrogate), "--reference-options", "a=1"], "the reference is a model file"),
            (["--reference", "nonsense"], "nonsense"),
            (["--reference", "missing.gprann"], "missing.gprann"),
        ):
            assert main([*command, *more]) == 2
            assert message in capsys.readouterr().err
