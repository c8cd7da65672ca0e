"""The baseline `dispersion`: the programs' own results, derivatives, slabs, files, bad input."""

import sys
from pathlib import Path

import ase
import numpy as np
import pytest
from ase.build import bulk, molecule
from ase.units import Bohr, Hartree

import gprann
from gprann.baselines import as_baseline
from gprann.errors import ConfigError, DataError

METHODS = {"d3": "dftd3", "d3zero": "dftd3", "d4": "dftd4"}
SYSTEMS = ("molecule", "cell", "slab")
DAMPING = {"s8": 0.78981345, "a1": 0.42945, "a2": 4.4407}  # D3 (BJ) of PBE is s8 0.7875, a1 0.4289, a2 4.4407


def structure(system: str) -> gprann.Structure:
    if system == "molecule":
        atoms = molecule("CH3CH2OH")
    else:
        atoms = bulk("C", "diamond", a=3.57)
        atoms.pbc = (True, True, system == "cell")
    atoms.rattle(0.05, seed=1)
    return gprann.Structure.from_ase(atoms)


def contribution(baseline: gprann.Baseline, item: gprann.Structure) -> gprann.Contribution:
    return baseline.evaluate(gprann.Dataset([item]))


def energy(baseline: gprann.Baseline, item: gprann.Structure) -> float:
    return float(contribution(baseline, item).energy[0])


@pytest.fixture(params=METHODS)
def baseline(request: pytest.FixtureRequest) -> gprann.Dispersion:
    pytest.importorskip(METHODS[request.param])
    return gprann.Dispersion(functional="pbe", method=request.param, three_body_cutoff=6.0)


def test_energies_of_small_molecules_are_those_of_the_programs() -> None:
    atoms = molecule("CH3CH2OH")
    item = gprann.Structure.from_ase(atoms)
    d3 = pytest.importorskip("dftd3.interface")
    model = d3.DispersionModel(atoms.numbers, atoms.positions / Bohr)
    for three_body in (False, True):
        own = d3.RationalDampingParam(method="pbe", atm=three_body)
        expected = Hartree * float(model.get_dispersion(own, grad=False)["energy"])
        found = energy(gprann.Dispersion(functional="pbe", three_body=three_body), item)
        assert found == pytest.approx(expected, abs=1e-9)
    d4 = pytest.importorskip("dftd4.interface")
    for charge in (0.0, 1.0):
        model = d4.DispersionModel(atoms.numbers, atoms.positions / Bohr, charge=charge)
        expected = Hartree * float(model.get_dispersion(d4.DampingParam(method="pbe"), grad=False)["energy"])
        charges = np.full(len(item), charge / len(item))
        found = energy(
            gprann.Dispersion(functional="pbe", method="d4"),
            item.replace(arrays={"initial_charges": charges}),
        )
        assert found == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("system", SYSTEMS)
def test_forces_are_the_gradient(baseline: gprann.Dispersion, system: str) -> None:
    item = structure(system)
    direction = np.random.default_rng(0).normal(size=item.positions.shape)
    direction -= direction.mean(axis=0)
    forces = contribution(baseline, item).forces[0]
    slope = -float(np.sum(forces * direction))
    errors = []
    for step in (0.02, 0.01):
        moved = [
            energy(baseline, item.replace(positions=item.positions + s * direction)) for s in (step, -step)
        ]
        errors.append(abs((moved[0] - moved[1]) / (2.0 * step) - slope))
    # D3 counts neighbours by a function that is 1e-7 at its cutoff.
    assert errors[0] / errors[1] == pytest.approx(4.0, rel=0.25) or errors[1] < 1e-7
    np.testing.assert_allclose(forces.sum(axis=0), 0.0, atol=1e-6)


def test_stress_is_the_derivative_by_strain(baseline: gprann.Dispersion) -> None:
    item, h = structure("cell"), 1e-3
    for component, (a, b) in enumerate([(0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1)]):
        energies = []
        for sign in (1, -1):
            strain = np.eye(3)
            strain[a, b] += 0.5 * sign * h
            strain[b, a] += 0.5 * sign * h
            energies.append(
                energy(baseline, item.replace(positions=item.positions @ strain, cell=item.cell @ strain))
            )
        numeric = (energies[0] - energies[1]) / (2.0 * h * abs(np.linalg.det(item.cell)))
        assert contribution(baseline, item).stress[0, component] == pytest.approx(numeric, abs=1e-6)


def test_slabs_and_wires_have_a_vacuum_of_their_own(baseline: gprann.Dispersion) -> None:
    """Whatever stands in the cell along directions that are not periodic."""
    for pbc in ((True, True, False), (False, True, False)):
        item = structure("slab").replace(pbc=np.array(pbc))
        other = item.cell.copy()
        other[~item.pbc] = 0.0
        assert energy(baseline, item.replace(cell=other)) == pytest.approx(energy(baseline, item), abs=1e-9)
        assert np.isnan(contribution(baseline, item).stress).all()
    bare = structure("cell")
    assert energy(baseline, bare) < energy(baseline, structure("slab")) - 0.01


def test_far_molecules_attract_as_the_sixth_power() -> None:
    pytest.importorskip("dftd3")
    baseline = gprann.Dispersion(functional="pbe")

    def pair(distance: float) -> float:
        atoms = ase.Atoms("Ar2", positions=[[0, 0, 0], [0, 0, distance]])
        return energy(baseline, gprann.Structure.from_ase(atoms))

    assert pair(20.0) / pair(10.0) == pytest.approx(2.0**-6, rel=0.1)
    assert pair(40.0) == 0.0


def test_damping_parameters_stand_for_a_functional() -> None:
    d3 = pytest.importorskip("dftd3.interface")
    item = structure("molecule")
    baseline = gprann.Dispersion(damping={**DAMPING, "s9": 0.0})
    model = d3.DispersionModel(np.array(item.to_ase().numbers), item.positions / Bohr)
    expected = model.get_dispersion(d3.RationalDampingParam(**DAMPING, s9=0.0), grad=False)["energy"]
    assert energy(baseline, item) == pytest.approx(Hartree * float(expected), abs=1e-9)


def test_surrogates_add_it_back_and_files_hold_it(tmp_path: Path) -> None:
    pytest.importorskip("dftd3")
    data = gprann.examples.hydrogen(8)
    baseline = gprann.Dispersion(functional="pbe")
    surrogate = gprann.Surrogate(baseline=baseline, bound="off").fit(data)
    left = gprann.Surrogate().fit(baseline.subtract(data)).predict(data)
    np.testing.assert_allclose(
        surrogate.predict(data).energy, left.energy + baseline.evaluate(data).energy, atol=1e-9
    )
    surrogate.save(tmp_path / "surrogate.gprann")
    again = gprann.load(tmp_path / "surrogate.gprann")
    assert again.baseline == surrogate.baseline
    assert np.array_equal(again.predict(data).energy, surrogate.predict(data).energy)


def test_bad_input(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="either functional or damping"):
        gprann.Dispersion()
    with pytest.raises(ConfigError, match="either functional or damping"):
        gprann.Dispersion(functional="pbe", damping=DAMPING)
    with pytest.raises(ConfigError, match=r"damping: expected a1, a2, s8.*got a1, s8"):
        gprann.Dispersion(damping={"s8": 1.0, "a1": 0.4})
    with pytest.raises(ConfigError, match="three_body has no effect"):
        gprann.Dispersion(damping=DAMPING, three_body=True)
    with pytest.raises(ConfigError, match="method"):
        as_baseline({"kind": "dispersion", "functional": "pbe", "method": "d5"})
    monkeypatch.setitem(sys.modules, "dftd3.interface", None)
    with pytest.raises(ImportError, match=r"pip install 'gprann\[dispersion\]'"):
        gprann.Dispersion(functional="pbe").evaluate(gprann.examples.hydrogen(1))


def test_what_the_programs_refuse(baseline: gprann.Dispersion) -> None:
    with pytest.raises(ConfigError, match="functional = 'no such one'"):
        baseline.replace(functional="no such one").evaluate(gprann.examples.hydrogen(1))
    heavy = gprann.Structure(("Og", "H"), [[0.0, 0, 0], [0, 0, 2.0]], energy=0.0)
    with pytest.raises(DataError, match="Og has no parameters"):
        baseline.subtract(gprann.Dataset([heavy]))
