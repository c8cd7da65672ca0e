"""ASE calculators as baselines: computed once, added back, handed over when a file is read."""

import pickle
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from ase.calculators.calculator import Calculator as AseCalculator
from ase.calculators.emt import EMT

import gprann
from gprann.config import load_config
from gprann.describe import describe
from gprann.errors import ConfigError, DataError, GprannError
from gprann.labelling import worker


class Counting(EMT):
    """Counts calculations, and fails as often as it is told."""

    def __init__(self, failures: int = 0) -> None:
        super().__init__()
        self.calls, self.failures = 0, failures

    def calculate(self, *args: object, **kwargs: object) -> None:
        self.calls += 1
        if self.failures > 0:
            self.failures -= 1
            raise RuntimeError("no convergence")
        super().calculate(*args, **kwargs)


@pytest.fixture
def data() -> gprann.Dataset:
    return gprann.examples.hydrogen(6)


def test_what_is_subtracted_is_added_back(data: gprann.Dataset) -> None:
    baseline = gprann.CalculatorBaseline(calculator="emt")
    left = baseline.subtract(data)
    assert abs(left.energies - data.energies).max() > 0.1
    surrogate = gprann.Surrogate(baseline=baseline, bound="off").fit(data)
    plain = gprann.Surrogate().fit(left)
    own = EMT()
    prediction, residual = surrogate.predict(data), plain.predict(left)
    for k, structure in enumerate(data):
        atoms = structure.to_ase()
        atoms.calc = own
        assert prediction.energy[k] == pytest.approx(
            residual.energy[k] + atoms.get_potential_energy(), abs=1e-6
        )
        np.testing.assert_allclose(prediction.forces[k], residual.forces[k] + atoms.get_forces(), atol=1e-5)


def test_a_calculator_of_zero_changes_nothing(data: gprann.Dataset) -> None:
    class Zero(AseCalculator):
        implemented_properties: ClassVar[list[str]] = ["energy", "forces"]

        def calculate(self, atoms=None, properties=(), system_changes=()) -> None:
            self.results = {"energy": 0.0, "forces": np.zeros((len(atoms), 3))}

    with_zero = (
        gprann.Surrogate(baseline=gprann.CalculatorBaseline(calculator=Zero())).fit(data).predict(data)
    )
    without = gprann.Surrogate().fit(data).predict(data)
    assert np.array_equal(with_zero.energy, without.energy)
    assert all(np.array_equal(a, b) for a, b in zip(with_zero.forces, without.forces, strict=True))


def test_every_structure_is_computed_once(data: gprann.Dataset, tmp_path: Path) -> None:
    counting = Counting()
    cache = tmp_path / "baseline.extxyz"
    baseline = gprann.CalculatorBaseline(calculator=counting, cache=str(cache))
    baseline.subtract(data)
    baseline.evaluate(data[2:4])
    baseline.evaluate(data[:1])
    assert counting.calls == len(data)
    again = Counting()
    gprann.CalculatorBaseline(calculator=again, cache=str(cache)).subtract(data)
    assert again.calls == 0
    assert len(gprann.read(cache)) == len(data)


def test_processes_give_the_same(data: gprann.Dataset, tmp_path: Path) -> None:
    alone = gprann.CalculatorBaseline(calculator="emt").evaluate(data)
    cache = str(tmp_path / "baseline.extxyz")
    together = gprann.CalculatorBaseline(calculator="emt", workers=2, cache=cache).evaluate(data)
    np.testing.assert_allclose(together.energy, alone.energy, atol=1e-10)


def test_processes_that_fail_leave_what_is_finished(data: gprann.Dataset, tmp_path: Path) -> None:
    cache = tmp_path / "baseline.extxyz"
    baseline = gprann.CalculatorBaseline(calculator="emt", workers=2, cache=str(cache))
    iron = gprann.Structure(("Fe", "Fe"), [[0.0, 0, 0], [0, 0, 2.0]], energy=0.0)
    with pytest.raises(DataError, match="fails"):
        baseline.evaluate(data + gprann.Dataset([iron]))
    (left,) = tmp_path.glob("*.workers.extxyz")
    assert len(gprann.read(left)) == len(data)
    gprann.CalculatorBaseline(calculator="emt", workers=2, cache=str(cache)).evaluate(data)
    assert [file.name for file in tmp_path.iterdir()] == ["baseline.extxyz"]
    assert len(gprann.read(cache)) == len(data)


CONFIG = """
data.train = "train.extxyz"
output.plots = false
[baseline]
kind = "calculator"
calculator = "emt"
[surrogate]
kernel = "pairs"
[augmentation]
copies = 2
[training]
hidden = [3]
iterations = 2
starts = 1
"""


def test_a_run_computes_no_labelled_structure_twice(
    data: gprann.Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even one that was interrupted before it had finished anything, or failed."""
    gprann.write(tmp_path / "train.extxyz", gprann.examples.hydrogen(12))
    (tmp_path / "run.toml").write_text(CONFIG)
    computed: list[bytes] = []
    own = worker.compute

    def counted(calculator: object, structure: gprann.Structure) -> dict[str, object]:
        computed.append(structure.positions.tobytes())
        return own(calculator, structure)

    def interrupted(*args: object, **kwargs: object) -> None:
        raise RuntimeError("stop")

    monkeypatch.setattr(worker, "compute", counted)
    with monkeypatch.context() as patch:
        patch.setattr(gprann.Surrogate, "predict", interrupted)
        with pytest.raises(RuntimeError, match="stop"):
            gprann.run(tmp_path / "run.toml")
    first = set(computed)
    assert len(first) == len(computed) >= 11
    folder = gprann.run(tmp_path / "run.toml").folder
    (file,) = (folder / "checkpoints").glob("baseline-*.extxyz")
    assert len(gprann.read(file)) >= len(first)
    assert not first & set(computed[len(first) :])
    count = len(computed)
    (tmp_path / "run.toml").write_text(CONFIG.replace("iterations = 2", "iterations = 3"))
    gprann.run(tmp_path / "run.toml")
    assert not first & set(computed[count:])
    (tmp_path / "run.toml").write_text(CONFIG.replace('"emt"', '"emt"\noptions.asap_cutoff = true'))
    gprann.run(tmp_path / "run.toml")
    assert first <= set(computed[count:])  # other options, other results
    assert len(list((folder / "checkpoints").glob("baseline-*.extxyz"))) == 2


def test_a_failure_is_tried_once_more(data: gprann.Dataset) -> None:
    once = gprann.CalculatorBaseline(calculator=Counting(failures=1))
    assert np.isfinite(once.evaluate(data).energy).all()
    with pytest.raises(DataError, match=r"(?s)hydrogen.*no convergence"):
        gprann.CalculatorBaseline(calculator=Counting(failures=2)).evaluate(data)


def test_memory_of_single_structures_is_bounded() -> None:
    baseline = gprann.CalculatorBaseline(calculator="emt")
    h2 = gprann.examples.hydrogen(2)[0].without_labels()
    for k in range(600):
        baseline.evaluate(gprann.Dataset([h2.replace(positions=h2.positions * (1.0 + 1e-4 * k))]))
    assert len(baseline._recent) <= 512
    assert len(baseline._cache.structures) == 0


def test_files_keep_no_code_and_recognise_their_calculator(data: gprann.Dataset, tmp_path: Path) -> None:
    file = tmp_path / "surrogate.gprann"
    surrogate = gprann.Surrogate(baseline=gprann.CalculatorBaseline(calculator="emt")).fit(data)
    surrogate.save(file)
    with pytest.raises(GprannError, match="needs its baseline, the calculator emt"):
        gprann.load(file)
    again = gprann.load(file, baseline=gprann.CalculatorBaseline(calculator=EMT()))
    assert np.array_equal(again.predict(data).energy, surrogate.predict(data).energy)
    other = gprann.CalculatorBaseline(calculator="lj")
    with pytest.raises(GprannError, match="is not the one of the file"):
        gprann.load(file, baseline=other)
    gprann.Surrogate().fit(data).save(file)
    with pytest.raises(GprannError, match="do not hand one over"):
        gprann.load(file, baseline=gprann.CalculatorBaseline(calculator="emt"))


def test_potentials_add_it_back(data: gprann.Dataset, tmp_path: Path) -> None:
    emt = gprann.CalculatorBaseline(calculator="emt")
    descriptor = gprann.ChebyshevDescriptor(["H"], angular_order=None)
    options = {"hidden": (4,), "iterations": 3, "starts": 1, "progress": False}
    potential = gprann.train(data, descriptor, baseline=emt, **options)
    left = gprann.train(emt.subtract(data), descriptor, **options)
    difference = potential.predict(data).energy - left.predict(data).energy - emt.evaluate(data).energy
    np.testing.assert_allclose(difference, 0.0, atol=1e-9)
    potential.save(tmp_path / "potential.gprann")
    again = gprann.load(tmp_path / "potential.gprann", baseline=emt)
    assert np.array_equal(again.predict(data).energy, potential.predict(data).energy)


def test_files_are_described_without_their_calculator(data: gprann.Dataset, tmp_path: Path) -> None:
    descriptor = gprann.ChebyshevDescriptor(["H"], radial_order=4, angular_order=None)
    emt = gprann.CalculatorBaseline(calculator="emt")
    potential = gprann.train(data, descriptor, hidden=(2,), iterations=2, starts=1, baseline=[emt, "zbl"])
    potential.save(tmp_path / "potential.gprann")
    text = describe(tmp_path / "potential.gprann")
    assert "the calculator emt, which is handed over at loading + Zbl" in " ".join(text.split())
    gprann.Surrogate(baseline=emt).fit(data).save(tmp_path / "surrogate.gprann")
    assert "emt" in describe(tmp_path / "surrogate.gprann")


def test_stresses_that_the_calculator_lacks_are_refused() -> None:
    class Bare(EMT):
        implemented_properties: ClassVar[list[str]] = ["energy", "forces"]

    from ase.build import bulk

    atoms = bulk("Cu", cubic=True)
    structure = gprann.Structure.from_ase(atoms).replace(
        energy=0.0, forces=np.zeros((4, 3)), stress=np.zeros(6)
    )
    with pytest.raises(DataError, match="gives none"):
        gprann.CalculatorBaseline(calculator=Bare()).subtract(gprann.Dataset([structure]))


def test_bad_input() -> None:
    with pytest.raises(ConfigError, match="expected a name or an ASE calculator"):
        gprann.CalculatorBaseline(calculator=3)
    with pytest.raises(GprannError, match="is not found"):
        gprann.CalculatorBaseline(calculator="unknown_name").evaluate(gprann.examples.hydrogen(2))


def test_configurations_cannot_name_code(tmp_path: Path) -> None:
    file = tmp_path / "run.toml"
    file.write_text('[data]\ntrain = "x.extxyz"\n[baseline]\nkind = "calculator"\ncalculator = "os:system"\n')
    with pytest.raises(ConfigError, match="a file may name"):
        load_config(file)


def test_it_can_be_sent_to_processes(data: gprann.Dataset) -> None:
    baseline = gprann.CalculatorBaseline(calculator="emt")
    energies = baseline.evaluate(data).energy
    again = pickle.loads(pickle.dumps(baseline))
    assert np.array_equal(again.evaluate(data).energy, energies)
