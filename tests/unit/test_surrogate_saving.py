"""Surrogates in files and as copies: predictions and extensions as before, and what other files and kernels say."""

from __future__ import annotations

import copy
import json
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import contracts
import gprann
import samples
from gprann.data.structure import Dataset, Structure
from gprann.errors import ConfigError, FormatError
from gprann.options import option
from gprann.surrogate import Kernel, Solver, Surrogate, SurrogateCalculator, SurrogateSet, fit_surrogates
from gprann.surrogate.kernels.base import KERNELS
from gprann.surrogate.solvers.base import SOLVERS
from samples import FIXED

CASES: dict[str, dict[str, Any]] = {
    "atoms": {},
    "Matérn, species, relevance": {"radial": "matern52", "species_lengths": {"H": 0.7}, "relevance": True},
    "descriptor": {"descriptor": samples.DESCRIPTOR},
    "pairs": {"kernel": "pairs", "exponent": 2.0},
    "cartesian": {"kernel": "cartesian"},
    "chosen": {"kernel": "auto"},
    "conjugate gradients": {"solver": "conjugate_gradient", "inducing": 5, "tolerance": 1e-6},
    "inducing": {"solver": "inducing", "inducing": 5},
    "baseline": {"baseline": "reference_energies"},
}


def from_file(surrogate: Surrogate, folder: Path, *, factor: bool = False) -> Surrogate:
    surrogate.save(folder / "surrogate.gprann", factor=factor)
    return Surrogate.load(folder / "surrogate.gprann")


WAYS: dict[str, Callable[[Surrogate, Path], Surrogate]] = {
    "file": from_file,
    "file with factor": lambda surrogate, folder: from_file(surrogate, folder, factor=True),
    "pickle": lambda surrogate, _: pickle.loads(pickle.dumps(surrogate)),
    "copy": lambda surrogate, _: copy.deepcopy(surrogate),
}


def everything(surrogate: Surrogate, query: Dataset) -> list[Any]:
    found = surrogate.predict(query, forces_std=True)
    stress = [] if found.stress is None else [found.stress]
    deviations = list(found.forces_std or [])
    return [found.energy, found.energy_std, *found.forces, *deviations, *stress, surrogate.left_out_std(3)]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("case", CASES)
def test_a_copy_predicts_and_is_extended_as_the_original(case: str, way: str, tmp_path: Path) -> None:
    """To the same bits, also with a factor that was extended before."""
    query, new = samples.waters(3, seed=8), samples.waters(3, seed=9)
    surrogate = Surrogate(**CASES[case], **FIXED).fit(samples.waters(12)).extend(samples.waters(3, seed=5))
    again = WAYS[way](surrogate, tmp_path)
    contracts.assert_same_bits([everything(one, query) for one in (surrogate, again)])
    assert again.to_dict() == surrogate.to_dict()
    assert again.hyperparameters == surrogate.hyperparameters
    assert [str(item.origin) for item in again.training_set] == [
        str(item.origin) for item in surrogate.training_set
    ]
    contracts.assert_same_bits([everything(one.extend(new), query) for one in (surrogate, again)])
    contracts.assert_same_bits([everything(one.fit(new), query) for one in (surrogate, again)])


@pytest.mark.parametrize("stress", [True, False])
def test_stresses_and_what_else_structures_carry_are_kept(stress: bool, tmp_path: Path) -> None:
    data = samples.strained_crystals(6)
    marked = Dataset([data[0].replace(group="first", weight=2.0), *data[1:]])
    surrogate = Surrogate(**FIXED, stress=stress).fit(marked)
    again = from_file(surrogate, tmp_path)
    contracts.assert_same_bits([everything(one, data[:2]) for one in (surrogate, again)])
    for one, other in zip(surrogate.training_set, again.training_set, strict=True):
        assert (one.group, one.weight, one.energy) == (other.group, other.weight, other.energy)
        assert (one.stress is None) == (other.stress is None) == (not stress)


def test_a_file_is_plain_small_and_the_same_every_time(tmp_path: Path) -> None:
    data = samples.waters(20)
    files = [tmp_path / "a.gprann", tmp_path / "b.gprann"]
    for file in files:
        Surrogate(**FIXED).fit(data).save(file)
    assert files[0].read_bytes() == files[1].read_bytes()
    with zipfile.ZipFile(files[0]) as archive:
        header = json.loads(archive.read("model.json"))
    assert header["kind"] == "surrogate"
    Surrogate(**FIXED).fit(data).save(files[1], factor=True)
    assert files[1].stat().st_size > files[0].stat().st_size + 8 * (4 * 20) ** 2


def test_sets_of_surrogates_are_saved_as_one(tmp_path: Path) -> None:
    mixed = samples.waters(6) + samples.crystals(6)
    surrogates = fit_surrogates(mixed, **FIXED)
    surrogates.save(tmp_path / "set.gprann")
    for again in (
        SurrogateSet.load(tmp_path / "set.gprann"),
        gprann.load(tmp_path / "set.gprann"),
        copy.deepcopy(surrogates),
    ):
        assert isinstance(again, SurrogateSet)
        assert str(again) == str(surrogates)
        assert [indices.tolist() for _, indices in again] == [indices.tolist() for _, indices in surrogates]
        found, expected = again.predict(mixed), surrogates.predict(mixed)
        contracts.assert_same_bits([[p.energy, p.energy_std, *p.forces] for p in (found, expected)])


def test_files_of_another_kind_are_named(tmp_path: Path) -> None:
    file = tmp_path / "model.gprann"
    Surrogate(**FIXED).fit(samples.waters(4)).save(file)
    assert isinstance(gprann.load(file), Surrogate)
    with pytest.raises(FormatError, match="holds a surrogate, not a potential"):
        gprann.Potential.load(file)
    with pytest.raises(FormatError, match="holds a surrogate, not a surrogate set"):
        SurrogateSet.load(file)
    samples.potential().save(file)
    assert isinstance(gprann.load(file), gprann.Potential)
    with pytest.raises(
        FormatError, match=r"holds a potential, not a surrogate; gprann.load\(path\) reads either"
    ):
        Surrogate.load(file)


def test_damaged_files_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "s.gprann"
    Surrogate(**FIXED).fit(samples.waters(4)).save(file)
    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 2])
    with pytest.raises(FormatError, match="not a complete gprann model file"):
        Surrogate.load(file)
    with pytest.raises(FormatError, match="no such model file"):
        Surrogate.load(tmp_path / "nothing.gprann")


def test_what_is_not_fitted_can_be_copied_but_not_saved(tmp_path: Path) -> None:
    surrogate = copy.deepcopy(Surrogate("pairs", exponent=2.0, **FIXED))
    with pytest.raises(ConfigError, match="has not been fitted"):
        surrogate.save(tmp_path / "s.gprann")
    data = samples.waters(5)
    expected = Surrogate("pairs", exponent=2.0, **FIXED).fit(data).predict(data)
    contracts.assert_same_bits([[p.energy] for p in (surrogate.fit(data).predict(data), expected)])


def test_calculators_can_be_copied() -> None:
    data = samples.waters(5)
    atoms = data[0].to_ase()
    atoms.calc = SurrogateCalculator(Surrogate(**FIXED).fit(data))
    energy = atoms.get_potential_energy()
    for again in (copy.deepcopy(atoms), pickle.loads(pickle.dumps(atoms))):
        again.calc.reset()
        assert again.get_potential_energy() == energy


# Kernels and solvers of one's own ----------------------------------------------------------------------------------


class Distances(Kernel):
    """Inverse distances, in plain NumPy."""

    name = "test distances"
    power: float = option("Power.", 1.0, gt=0)

    def features(self, structure: Structure) -> Any:
        first, second = np.triu_indices(len(structure), 1)
        lengths = np.linalg.norm(structure.positions[first] - structure.positions[second], axis=1)
        return lengths**-self.power

    def jacobian(self, structure: Structure) -> Any:
        first, second = np.triu_indices(len(structure), 1)
        vectors = structure.positions[first] - structure.positions[second]
        lengths = np.linalg.norm(vectors, axis=1)
        slopes = -self.power * vectors * lengths[:, None] ** (-self.power - 2)
        found = np.zeros((len(first), len(structure), 3))
        found[np.arange(len(first)), first] = slopes
        found[np.arange(len(first)), second] = -slopes
        return found.reshape(len(first), -1)


@pytest.fixture
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(KERNELS, "_kinds", {**KERNELS._kinds})
    gprann.register_kernel(Distances)


@pytest.mark.parametrize("solver", ["cholesky", "conjugate_gradient"])
def test_a_kernel_of_ones_own_is_that_of_pairs(solver: str) -> None:
    data, query, new = samples.waters(12), samples.waters(4, seed=2), samples.waters(2, seed=3)
    own, known = (
        Surrogate(kernel, **FIXED, solver=solver).fit(data).extend(new)
        for kernel in (Distances(power=1.0), "pairs")
    )
    mine, theirs = (surrogate.predict(query, forces_std=True) for surrogate in (own, known))
    contracts.assert_close(mine.energy, theirs.energy, relative=1e-6)
    contracts.assert_close(np.array(mine.forces), np.array(theirs.forces), relative=1e-5)
    contracts.assert_close(mine.energy_std, theirs.energy_std, relative=1e-3)
    contracts.assert_close(np.array(mine.forces_std), np.array(theirs.forces_std), relative=1e-3)
    atoms = query[0].to_ase()
    atoms.calc = SurrogateCalculator(own)
    contracts.assert_close(atoms.get_forces(), mine.forces[0])
    copies = gprann.augment(data, own, copies=2, displacement=0.01)
    assert len(copies) > len(data)


def test_registered_kernels_have_names_and_files(registered: None, tmp_path: Path) -> None:
    data = samples.waters(8)
    surrogate = Surrogate("test distances", power=2.0, **FIXED).fit(data)
    assert surrogate.kernel == Distances(power=2.0)
    again = from_file(surrogate, tmp_path)
    contracts.assert_same_bits([everything(one, data[:2]) for one in (surrogate, again)])


def test_kernels_that_are_not_registered_are_refused_by_files_alone(tmp_path: Path) -> None:
    data = samples.waters(8)
    surrogate = Surrogate(Distances(), **FIXED).fit(data)
    again = pickle.loads(pickle.dumps(surrogate))
    contracts.assert_same_bits([everything(one, data[:2]) for one in (surrogate, again)])
    with pytest.raises(ConfigError, match="Distances is no registered kernel, so a file cannot name it"):
        surrogate.save(tmp_path / "s.gprann")
    with pytest.raises(ConfigError, match="kernel = 'test distances'"):
        Surrogate("test distances")


def test_a_solver_of_ones_own() -> None:
    from gprann.surrogate import Cholesky

    class Checked(Cholesky):
        name = "checked"
        calls: list[int] = []  # noqa: RUF012

        def solve(self, equations: Any, settings: Any) -> Any:
            self.calls.append(len(equations.data))
            return super().solve(equations, settings)

    data = samples.waters(6)
    surrogate = Surrogate(solver=Checked(), **FIXED).fit(data)
    assert surrogate.to_dict()["solver"] == "checked"
    expected = Surrogate(solver="cholesky", **FIXED).fit(data).predict(data)
    contracts.assert_same_bits([[p.energy, p.energy_std] for p in (surrogate.predict(data), expected)])
    assert "checked" not in list(SOLVERS)
    assert issubclass(Checked, Solver)
