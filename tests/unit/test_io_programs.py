"""Outputs of VASP, FHI-aims and CP2K give the energies, forces and positions that were written into them."""

from __future__ import annotations

from pathlib import Path

import ase
import numpy as np
import pytest
from ase.build import bulk
from ase.calculators.emt import EMT

import gprann
from program_outputs import aims_output, cp2k_output, vasp_outcar


@pytest.fixture
def image() -> ase.Atoms:
    atoms = bulk("Cu", cubic=True)
    atoms.rattle(0.1, seed=0)
    atoms.calc = EMT()
    atoms.get_forces()
    return atoms


def check(path: Path, image: ase.Atoms, n: int = 1) -> None:
    data = gprann.read(path)
    assert len(data) == n
    assert data[-1].energy == pytest.approx(image.get_potential_energy(), abs=1e-6)
    np.testing.assert_allclose(data[-1].forces, image.get_forces(), rtol=0, atol=1e-6)
    np.testing.assert_allclose(data[-1].positions, image.positions, rtol=0, atol=1e-6)
    np.testing.assert_allclose(data[-1].cell, image.cell, rtol=0, atol=1e-6)
    assert data[-1].pbc.all()


def test_vasp(tmp_path: Path, image: ase.Atoms) -> None:
    first = image.copy()
    first.rattle(0.1, seed=1)
    first.calc = EMT()
    (tmp_path / "OUTCAR").write_text(vasp_outcar([first, image]))
    check(tmp_path, image, n=2)


def test_fhi_aims_without_a_warning_about_the_reader(tmp_path: Path, image: ase.Atoms) -> None:
    """ASE's reader warns that it will be moved, which no user can help; warnings are errors in these tests."""
    (tmp_path / "aims.out").write_text(aims_output(image))
    check(tmp_path, image)


def test_cp2k(tmp_path: Path, image: ase.Atoms) -> None:
    pytest.importorskip("dpdata")
    (tmp_path / "run.log").write_text(cp2k_output(image))
    check(tmp_path, image)
