"""Charges that are fitted, the locality test and checks of baselines, on systems whose charges are known."""

import json
from pathlib import Path

import numpy as np
import pytest
from ase.build import bulk, molecule
from ase.calculators.lj import LennardJones

import gprann
from gprann.cli.main import main
from gprann.data.structure import Dataset
from gprann.electrostatics.held_out import hold_out
from gprann.errors import ConfigError, DataError

CHARGE = 0.7
TRUE = gprann.Coulomb(charges={"Na": CHARGE, "Cl": -CHARGE})
FORMAL = gprann.Coulomb(charges={"Na": 1.0, "Cl": -1.0})
SHORT = gprann.CalculatorBaseline(calculator=LennardJones(sigma=2.2, epsilon=0.05, rc=5.0, smooth=True))


def salt(seed: int, repeat: int = 1) -> gprann.Structure:
    atoms = bulk("NaCl", "rocksalt", a=5.64, cubic=True).repeat(repeat)
    atoms.rattle(0.15, seed=seed)
    return gprann.Structure.from_ase(atoms)


def labelled(count: int) -> Dataset:
    """Small cells with short-ranged and electrostatic forces."""
    data = Dataset([salt(seed) for seed in range(count)])
    found = (TRUE + SHORT).evaluate(data)
    forces = found.forces or []
    return Dataset(one.replace(energy=float(found.energy[k]), forces=forces[k]) for k, one in enumerate(data))


KERNEL = gprann.AtomsKernel(
    descriptor=gprann.ChebyshevDescriptor(["Cl", "Na"], radial_cutoff=4.0, angular_cutoff=3.5)
)


def test_scale_of_formal_charges() -> None:
    found = gprann.fit_charge_scale(labelled(20), FORMAL, kernel=KERNEL)
    assert found.charges["Na"] == pytest.approx(CHARGE, abs=0.05)
    assert 0.0 < found.std["Na"] < 0.1
    assert found.with_charges < 0.5 * found.without
    assert not found.warning


def test_charges_that_nothing_feels_are_refused() -> None:
    data = Dataset([salt(seed) for seed in range(12)])
    found = (TRUE + SHORT).evaluate(data)
    part = FORMAL.evaluate(data)
    opposite = Dataset(
        one.replace(energy=float(found.energy[k] - 2 * part.energy[k]), forces=f - 2 * g)
        for k, (one, f, g) in enumerate(zip(data, found.forces or [], part.forces or [], strict=True))
    )
    assert "leave the baseline out" in gprann.fit_charge_scale(opposite, FORMAL, kernel=KERNEL).warning


def test_a_baseline_is_checked_by_structures_held_out() -> None:
    data = labelled(15)
    good = gprann.check_baseline(data, TRUE, kernel=KERNEL)
    assert good.with_baseline[1] < 0.5 * good.without[1]
    assert not good.warning
    bad = gprann.check_baseline(data, gprann.Coulomb(charges={"Na": 3.0, "Cl": -3.0}), kernel=KERNEL)
    assert "leave it out" in bad.warning
    assert "leave it out" in str(bad)


def test_charges_from_locality() -> None:
    large = salt(3, 2)
    rows = gprann.HessianRows.of(large, TRUE + SHORT)
    assert rows.rows.shape == (2, 64, 3)
    found = gprann.fit_charges_to_locality([rows], FORMAL, radius=5.2)
    assert found.charges["Na"] == pytest.approx(CHARGE, abs=1e-3)
    assert found.charges["Na"] == -found.charges["Cl"]
    test = gprann.locality(rows, found.baseline, radii=[5.2, 60.0])
    assert test.with_baseline is not None
    assert np.all(test.with_baseline[:, 0] < 0.02 * test.without[:, 0])
    assert np.isnan(test.without[:, 1]).all()
    assert not test.warning
    wrong = gprann.Coulomb(charges={"Na": 2.0, "Cl": -2.0})
    assert "leave it out" in gprann.locality(rows, wrong, radii=[5.2]).warning


def test_hessian_rows_are_derivatives() -> None:
    item = salt(4)
    direction = np.array([[1.0, 2.0, -1.0]])
    rows = gprann.HessianRows.of(item, TRUE, [5], directions=direction, step=1e-3)
    unit = direction[0] / np.linalg.norm(direction)
    assert np.abs(rows.rows.sum(axis=1)).max() < 1e-8  # all atoms together feel no force
    moved = item.positions.copy()
    moved[5] += 1e-3 * unit
    change = TRUE.evaluate(Dataset([item.replace(positions=moved), item])).forces or []
    np.testing.assert_allclose((change[1] - change[0]) / 1e-3, rows.rows[0], atol=1e-2)


def test_charges_from_dipoles() -> None:
    charges = {"O": -0.8, "H": 0.4}
    data = []
    for seed in range(4):
        atoms = molecule("H2O")
        atoms.rattle(0.1, seed=seed)
        q = np.array([charges[symbol] for symbol in atoms.get_chemical_symbols()])
        atoms.info["dipole"] = q @ atoms.positions
        data.append(gprann.Structure.from_ase(atoms))
    found = gprann.fit_charges_to_dipoles(Dataset(data), gprann.Coulomb(charges={"O": -2.0, "H": 1.0}))
    assert found.charges == pytest.approx(charges, abs=1e-9)
    with pytest.raises(DataError, match="no 'mu' of three numbers"):
        gprann.fit_charges_to_dipoles(Dataset(data), FORMAL, name="mu")


def test_calculator_in_a_field() -> None:
    """Energies and forces of charges in a field, for both kinds of models; they fit each other."""
    data = gprann.examples.hydrogen(8)
    charged = gprann.Coulomb(charges={"H": 0.5}, scale=0.8)
    surrogate = gprann.Surrogate(kernel="pairs", baseline=charged).fit(data)
    descriptor = gprann.ChebyshevDescriptor(["H"], angular_order=None)
    potential = gprann.train(data, descriptor, hidden=(3,), iterations=2, baseline=charged, progress=False)
    field = np.array([0.1, -0.2, 0.3])
    for model in (surrogate, potential):
        for charges, q in ((None, 0.4), ({"H": 1.5}, 1.5)):
            atoms = data[3].to_ase()
            plain = model.predict(Dataset([data[3]]))
            atoms.calc = gprann.FieldCalculator(model, field, charges)
            expected = float(plain.energy[0]) - q * float((atoms.positions @ field).sum())
            assert atoms.get_potential_energy() == pytest.approx(expected, abs=1e-9)
            np.testing.assert_allclose(atoms.get_forces(), plain.forces[0] + q * field, atol=1e-9)
            h, forces = 1e-3, atoms.get_forces()
            moved = []
            for sign in (1, -1):
                atoms.positions[1, 0] += sign * h
                moved.append(atoms.get_potential_energy())
                atoms.positions[1, 0] -= sign * h
            assert (moved[1] - moved[0]) / (2 * h) == pytest.approx(forces[1, 0], abs=1e-3)
    assert atoms.get_potential_energies().sum() == pytest.approx(atoms.get_potential_energy())
    with pytest.raises(ConfigError, match="does not feel a field"):
        gprann.FieldCalculator(gprann.Surrogate(kernel="pairs").fit(data), field)
    with pytest.raises(ConfigError, match="three numbers"):
        gprann.FieldCalculator(surrogate, [0.1])
    with pytest.raises(ConfigError, match="expected a Potential"):
        gprann.FieldCalculator("model", field)


def test_bad_input() -> None:
    with pytest.raises(DataError, match="too few"):
        hold_out(labelled(4), {}, 0)
    with pytest.raises(ConfigError, match="atoms"):
        gprann.HessianRows.of(salt(0), TRUE, [99])
    with pytest.raises(DataError, match="no atom is farther"):
        gprann.fit_charges_to_locality([gprann.HessianRows.of(salt(0), TRUE)], FORMAL, radius=50.0)


def test_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, folder = tmp_path / "salt.extxyz", tmp_path / "locality"
    gprann.write(file, Dataset([salt(5, 2)]))
    command = ["locality", str(file), "--calculator", "lj", "--options", "sigma=2.2", "rc=7.0"]
    assert main([*command, "--charges", "Na=0.1", "Cl=-0.1", "--output", str(folder)]) == 0
    shown = capsys.readouterr().out
    assert "Na " in shown
    assert "Cl " in shown
    assert json.loads((folder / "locality.json").read_text())["symbols"] == ["Na", "Cl"]
    assert (folder / "locality.png").stat().st_size > 1000
    assert main([*command, "--fit"]) == 2
