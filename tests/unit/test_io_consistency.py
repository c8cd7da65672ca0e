"""Labels that contradict each other, and the verdict on a data set."""

from __future__ import annotations

import logging
from collections.abc import Callable

import numpy as np
import pytest
from ase.units import Bohr, GPa, Hartree, Rydberg, kcal, mol

import gprann
import samples
from gprann.data.structure import Dataset, Origin, Structure
from gprann.evaluation.data_check import shared_structures
from gprann.io import DataWarning, read, write
from gprann.io.consistency import check_labels

WATERS = samples.waters(20)
CRYSTALS = samples.strained_crystals(20, size=0.05)


def changed(data: Dataset, change: Callable[[Structure], Structure]) -> list[str]:
    return check_labels(Dataset(change(item) for item in data)).messages


def forces(factor: float) -> Callable[[Structure], Structure]:
    return lambda item: item.replace(forces=factor * np.asarray(item.forces))


@pytest.mark.parametrize("data", [WATERS, CRYSTALS, samples.crystals(20), gprann.examples.hydrogen(7)])
def test_true_labels_fit(data):
    result = check_labels(data)
    assert result.messages == []
    assert result.forces is not None
    assert result.forces.fits
    assert result.forces.value == pytest.approx(1.0, abs=0.15)
    assert result.forces.correlation > 0.95
    assert result.net_force < 1e-9


@pytest.mark.parametrize("data", [WATERS, CRYSTALS])
@pytest.mark.parametrize(
    ("factor", "cause"),
    [
        (-1.0, "the forces have the wrong sign"),
        (Bohr / Hartree, "the forces are in Hartree/Bohr"),
        (Bohr / Rydberg, "the forces are in Rydberg/Bohr"),
        (mol / kcal, "the forces are in kcal/mol/Å"),
        (-Bohr / Hartree, "the forces are in Hartree/Bohr, and have the wrong sign"),
        (1000.0, "the forces are in meV/Å"),
    ],
)
def test_units_and_signs_of_forces(data, factor, cause):
    (message,) = changed(data, forces(factor))
    assert message.startswith(cause)
    assert "energy differences are" in message


@pytest.mark.parametrize("data", [WATERS, CRYSTALS])
def test_units_of_energies(data):
    (message,) = changed(data, lambda item: item.replace(energy=item.energy / Hartree))
    assert message.startswith("the energies are in Hartree")


@pytest.mark.parametrize(
    ("factor", "cause"),
    [(-1.0, "the stresses have the wrong sign"), (1 / (0.1 * GPa), "the stresses are in kbar")],
)
def test_units_and_sign_of_stress(factor, cause):
    result = check_labels(CRYSTALS)
    assert result.stress is not None
    assert result.stress.value == pytest.approx(1.0, abs=0.3)
    messages = changed(CRYSTALS, lambda item: item.replace(stress=factor * np.asarray(item.stress)))
    assert any(message.startswith(cause) for message in messages)


def test_frozen_atoms():
    held = np.array([[1.0], [0.0], [1.0]])
    (message,) = changed(WATERS, lambda item: item.replace(forces=held * item.forces))
    assert message.startswith("the forces of 1 of 3 atoms (1) are 0 in 20 of 20 structures of these atoms")
    assert "frozen atoms" in message


@pytest.mark.parametrize(
    ("held", "of", "words"),
    [
        (
            np.array([0.0, 1.0, 1.0]),
            1,
            "components of the forces of 1 of 3 atoms (1) are 0 in 20 of 20 structures",
        ),
        (np.zeros(3), 2, "the forces of 1 of 3 atoms (1) are 0 in 10 of 20 structures"),
        (np.full(3, 1e-12), 1, "the forces of 1 of 3 atoms (1) are 0 in 20 of 20 structures"),
    ],
)
def test_atoms_frozen_in_part(held, of, words):
    """Along one direction, in every second structure, and to the noise of the program."""
    factors = np.stack([np.ones(3), held, np.ones(3)])
    data = [
        item.replace(forces=factors * item.forces) if k % of == 0 else item for k, item in enumerate(WATERS)
    ]
    assert check_labels(Dataset(data)).messages[0].startswith(words)


def test_zeros_of_rounded_forces_are_not_frozen_atoms():
    data = [item.replace(forces=np.round(np.multiply(item.forces, 0.01), 2)) for item in WATERS]
    assert sum((np.asarray(item.forces) == 0).sum() for item in data) > 50
    assert not any("frozen" in message for message in check_labels(Dataset(data)).messages)


def test_an_atom_at_rest_by_symmetry_is_not_frozen():
    """In the symmetric stretch of CO2 the carbon feels no force."""
    lengths = np.linspace(1.1, 1.25, 8)
    data = Dataset(
        Structure(
            ("O", "C", "O"),
            [[0, 0, -x], [0, 0, 0], [0, 0, x]],
            energy=30 * (x - 1.16) ** 2,
            forces=[[0, 0, 30 * (x - 1.16)], [0, 0, 0], [0, 0, -30 * (x - 1.16)]],
        )
        for x in lengths
    )
    assert check_labels(data).messages == []


@pytest.mark.parametrize(
    ("factor", "words"), [(1e4, "times those of the others"), (0.0, "are 0, which their symmetry")]
)
def test_one_structure_with_other_forces(factor, words):
    odd = [forces(factor)(item) if k == 4 else item for k, item in enumerate(WATERS)]
    (message,) = check_labels(Dataset(odd)).messages
    assert "1 of 20 structures" in message
    assert words in message
    assert "waters, structure 4" in message


@pytest.mark.parametrize("factor", [-1.0, 50.0])
def test_the_pair_of_a_structure_whose_forces_contradict_is_named(factor):
    still = samples.waters(1)[0].positions
    rng = np.random.default_rng(1)
    data = []
    for index in range(40):  # in a valley, whose energies follow from the forces exactly
        shifts = rng.normal(0, 0.03, (3, 3))
        shifts -= shifts.mean(axis=0)
        energy = 20 * (shifts**2).sum()
        labels = {"energy": energy, "forces": -40 * shifts, "origin": Origin("valley", index)}
        data.append(Structure(("H", "O", "H"), still + shifts, **labels))
    assert check_labels(Dataset(data)).messages == []
    odd = int(np.argmax([item.energy for item in data]))  # its forces say the most
    data[odd] = forces(factor)(data[odd])
    (message,) = check_labels(Dataset(data)).messages
    assert message.startswith("energies and forces of near structures contradict each other in ")
    assert f"valley, structure {odd}" in message


def test_forces_that_are_zero_throughout():
    (message,) = changed(WATERS, forces(0.0))
    assert message.startswith(
        "all forces of 20 of 20 structures are 0, which their symmetry does not explain"
    )


def test_energies_per_atom():
    (message,) = changed(WATERS, lambda item: item.replace(energy=(item.energy or 0.0) / len(item)))
    assert message.startswith("the energies are per atom")


def test_energies_in_hartree_beside_forces_in_hartree_per_bohr():
    (message,) = changed(
        gprann.examples.hydrogen(9),
        lambda item: forces(Bohr / Hartree)(item.replace(energy=(item.energy or 0.0) / Hartree)),
    )
    assert message.startswith("the forces are in eV/Bohr, or in Hartree/Bohr beside energies in Hartree")


def test_virials_in_the_place_of_stresses():
    data = [item.replace(stress=np.asarray(item.stress) * abs(np.linalg.det(item.cell))) for item in CRYSTALS]
    messages = check_labels(Dataset(data)).messages
    assert any("the stresses are virials" in message for message in messages)


def test_a_perfect_crystal_feels_no_force():
    cell = np.diag([4.0, 4.0, 4.0])
    perfect = Structure(
        ("Cu",) * 2, [[0, 0, 0], [2, 2, 2]], cell, [True] * 3, energy=-7.0, forces=np.zeros((2, 3))
    )
    rng = np.random.default_rng(0)
    shifts = rng.normal(0, 0.1, (8, 3))
    rattled = [
        perfect.replace(
            positions=np.add(perfect.positions, [shift, -shift]),
            energy=-7 + 10 * shift @ shift,
            forces=[-10 * shift, 10 * shift],
        )
        for shift in shifts
    ]
    assert check_labels(Dataset([perfect, *rattled])).messages == []


def test_forces_that_do_not_cancel():
    (message,) = changed(WATERS, lambda item: item.replace(forces=np.add(item.forces, [3.0, 0.0, 0.0])))
    assert message.startswith("the forces of 20 of 20 structures do not cancel (net force up to 9")


def test_forces_of_other_structures():
    shuffled = Dataset(item.replace(forces=WATERS[(k + 13) % 20].forces) for k, item in enumerate(WATERS))
    (message,) = check_labels(shuffled).messages
    assert "fit" in message


def test_energies_that_are_all_zero():
    assert "all energies are 0; give the total energies" in changed(
        WATERS, lambda item: item.replace(energy=0.0)
    )


def test_charges_that_differ():
    data = Dataset(item.replace(info={"charge": k % 2}) for k, item in enumerate(WATERS))
    (message,) = check_labels(data).messages
    assert message.startswith("the structures differ in charge or spin (")


def test_read_warns(tmp_path):
    write(tmp_path / "a.extxyz", Dataset(forces(-1.0)(item) for item in WATERS))
    with pytest.warns(DataWarning, match="the forces have the wrong sign"):
        read(tmp_path / "a.extxyz")


# ---------------------------------------------------------------- the verdict
def test_shared_structures():
    moved = Dataset(item.replace(positions=item.positions + 1.0) for item in WATERS[3:5])
    assert shared_structures(WATERS, moved + samples.waters(2, seed=9)) == [(0, 3), (1, 4)]


def _rotation() -> np.ndarray:
    rotation = np.linalg.qr(np.random.default_rng(3).normal(size=(3, 3)))[0]
    return np.asarray(rotation * np.sign(np.linalg.det(rotation)))


@pytest.mark.parametrize(
    "change",
    [
        lambda item: item.reorder(np.random.default_rng(0).permutation(len(item))),
        lambda item: item.replace(positions=np.round(item.positions, 4)),
        lambda item: item.replace(positions=item.positions + 2.0),
    ],
    ids=["order", "rounded", "shifted"],
)
@pytest.mark.parametrize("data", [WATERS, CRYSTALS], ids=["waters", "crystals"])
def test_shared_structures_in_another_form(data, change):
    assert shared_structures(data, Dataset([change(data[3]), change(data[7])])) == [(0, 3), (1, 7)]


def test_shared_structures_rotated_or_in_another_cell():
    turned = WATERS[3].replace(positions=WATERS[3].positions @ _rotation())
    assert shared_structures(WATERS, Dataset([turned])) == [(0, 3)]
    cell = CRYSTALS[3].cell.copy()
    cell[1] += cell[0]
    other = CRYSTALS[3].replace(cell=cell)
    wrapped = other.replace(positions=(other.positions @ np.linalg.inv(cell) % 1.0) @ cell)
    assert shared_structures(CRYSTALS, Dataset([other, wrapped])) == [(0, 3), (1, 3)]


def test_near_structures_of_one_energy_are_not_the_same():
    """The perfect crystal and the same with one atom displaced, in which distances change in second order."""
    grid = np.array([[x, y, z] for x in range(3) for y in range(3) for z in range(3)], dtype=float)
    perfect = Structure(("Cu",) * 27, 2.5 * grid, 7.5 * np.eye(3), [True] * 3, energy=-1.0)
    moved = perfect.positions.copy()
    moved[0, 0] += 0.01
    assert shared_structures(Dataset([perfect]), Dataset([perfect.replace(positions=moved)])) == []
    near = [item.replace(energy=-1.0, positions=1.002 * item.positions) for item in WATERS]
    assert shared_structures(Dataset(item.replace(energy=-1.0) for item in WATERS), Dataset(near)) == []


def test_check(tmp_path):
    write(tmp_path / "train.extxyz", WATERS)
    write(tmp_path / "test.extxyz", WATERS[5:7] + samples.waters(3, seed=9))
    result = gprann.check(tmp_path / "train.extxyz", test=tmp_path / "test.extxyz", output=tmp_path / "out")
    (problem,) = result.problems
    assert problem.startswith("2 of 5 test structures are in the training set too (test structures 0, 1; ")
    text = str(result)
    for part in (
        "20 structures: 20 x H2O",
        "elements     H, O",
        "5 test structures",
        "forces are in eV/Å and fit",
    ):
        assert part in text
    assert (tmp_path / "out" / "check.txt").read_text().strip() == text
    assert (tmp_path / "out" / "distributions.png").stat().st_size > 1000


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "taken").write_text("")
    with pytest.raises(OSError, match="taken: the folder cannot be made: File exists; choose another name"):
        gprann.check(WATERS, output=tmp_path / "taken")


def test_check_of_a_clean_set():
    result = gprann.check(WATERS)
    assert result.problems == ()
    assert "nothing suspicious was found" in result.summary()
    assert gprann.check([*WATERS]).problems == ()


def test_check_names_what_is_missing_and_left_out(tmp_path):
    bare = [item.replace(energy=None, forces=None) if k < 2 else item for k, item in enumerate(WATERS)]
    write(tmp_path / "a.extxyz", bare)
    (tmp_path / "OUTCAR").write_text("cut")
    result = gprann.check(tmp_path, skip_bad=True)
    assert any("2 of 20 structures have no energy" in problem for problem in result.problems)
    assert len(result.left_out) == 1
    assert any("1 bad calculation(s) left out" in problem for problem in result.problems)


def test_check_on_the_command_line(tmp_path, capsys):
    from gprann.cli.main import main

    write(tmp_path / "a.extxyz", WATERS)
    assert main(["check", str(tmp_path / "a.extxyz")]) == 0
    assert "nothing suspicious was found" in capsys.readouterr().out
    assert main(["check", str(tmp_path / "a.extxyz"), "--test", str(tmp_path / "a.extxyz")]) == 1
    assert "20 of 20 test structures are in the training set too" in capsys.readouterr().out
    assert main(["check", str(tmp_path / "b.extxyz")]) == 2


def test_an_evaluation_names_structures_that_have_been_trained_on(caplog):
    data = gprann.examples.hydrogen(9)
    descriptor = gprann.ChebyshevDescriptor(["H"], radial_order=4, radial_cutoff=4.0, angular_order=None)
    potential = gprann.train(data[:5], descriptor, hidden=(3,), optimizer="lm", iterations=2, seed=1)
    surrogate = gprann.Surrogate(kernel="pairs").fit(data[:5])
    for model in (potential, surrogate, gprann.fit_surrogates(data[:5], kernel="pairs")):
        caplog.clear()
        with caplog.at_level(logging.WARNING, "gprann"):
            gprann.evaluate(model, data[3:])
        (message,) = [record.message for record in caplog.records if "trained on" in record.message]
        assert message.startswith("2 of 6 structures have been trained on")
        assert message.endswith("structures 0, 1")
        caplog.clear()
        gprann.evaluate(model, data[5:])
        assert not [record for record in caplog.records if "trained on" in record.message]


def test_the_verdict_says_in_words_what_a_set_holds() -> None:
    """Boundaries, and what else belongs to the structures."""
    water, crystal = samples.waters(1)[0], samples.crystals(1)[0]
    slab = crystal.replace(pbc=np.array([True, True, False]))
    charged = water.replace(info={"charge": 1})
    summary = gprann.check(Dataset([water, charged, charged, crystal, slab])).summary()
    lines = [line.split("; cells")[0].split(None, 1) for line in summary.split("\n") if line.startswith("  ")]
    assert ["boundaries", "3 not periodic, 1 periodic in all directions, 1 periodic along a and b"] in lines
    assert "  other data   charge (2)" in summary.split("\n")
