"""Extension points, used as a stranger would: everything here is defined in this file, in plain numpy.

A descriptor, a surrogate kernel, a baseline, an optimiser and a file format each go through the public interface:
fit, train, predict, calculator, files, `gprann.run`. Registered ones are named in configurations and restored from
files; those that are not registered work from Python and are refused where a file would need them.
"""

from __future__ import annotations

import os
import pickle
import re
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import gprann
from contracts import assert_adjoint, assert_close, assert_derivative
from gprann import Dataset, Structure, option
from gprann.baselines.base import terms_of
from gprann.config import load_config
from gprann.data.neighbours import Neighbourhood
from gprann.data.prediction import Prediction
from gprann.errors import ConfigError, DataError, FormatError
from gprann.io.files import InputFile
from gprann.io.labels import ReadOptions
from gprann.training.objective import Objective
from gprann.training.optimizers import OptimizerState
from samples import CRYSTAL, WATER, crystals, waters

Array = NDArray[np.float64]

# A descriptor: values G (atoms, D) and the two products with its Jacobian ------------------------------------------


class Gaussians(gprann.Descriptor):
    """Sums over neighbours of Gaussians of the distance times a smooth cutoff, one set for each element."""

    name = "gaussians"
    centres: int = option("Number of Gaussians of each element.", 6, ge=1)
    width: float = option("Width of the Gaussians.", 0.6, unit="Å", gt=0)
    reach: float = option("Cutoff.", 4.0, unit="Å", gt=0)

    @property
    def size(self) -> int:
        return self.centres * len(self.species)

    @property
    def cutoff(self) -> float:
        return self.reach

    def values(self, neighbours: Neighbourhood) -> Array:
        result = np.zeros((neighbours.n_atoms, self.size))
        np.add.at(result, neighbours.centres, self._terms(neighbours)[0])
        return result

    def jvp(self, neighbours: Neighbourhood, direction: Array, strains: Array | None = None) -> Array:
        changes = neighbours.vector_changes(direction, strains)
        _, slope, unit = self._terms(neighbours)
        result = np.zeros((neighbours.n_atoms, self.size))
        np.add.at(result, neighbours.centres, slope * np.sum(unit * changes, axis=1)[:, None])
        return result

    def vjp(self, neighbours: Neighbourhood, cotangent: Array) -> tuple[Array, Array]:
        _, slope, unit = self._terms(neighbours)
        return neighbours.collect(unit * np.sum(slope * cotangent[neighbours.centres], axis=1)[:, None])

    def _terms(self, neighbours: Neighbourhood) -> tuple[Array, Array, Array]:
        """Return for each pair its components and their slopes, (pairs, D), and its direction, (pairs, 3)."""
        r = np.linalg.norm(neighbours.vectors, axis=1)[:, None]
        t = (r - np.linspace(0.5, self.reach, self.centres)) / self.width
        gauss, fade = np.exp(-(t**2)), 1 - (r / self.reach) ** 2
        shape = gauss * fade**3
        slope = -2 * t / self.width * shape - 6 * r / self.reach**2 * gauss * fade**2
        own = np.eye(len(self.species))[neighbours.species[neighbours.neighbour]]  # which set of components
        terms = [np.einsum("ps,pc->psc", own, x).reshape(len(r), self.size) for x in (shape, slope)]
        return terms[0], terms[1], neighbours.vectors / r


# A kernel of the surrogate: one vector of features for a structure, and its Jacobian -------------------------------


class LogDistances(gprann.Kernel):
    """Logarithms of all distances of a molecule."""

    name = "log_distances"
    unit: float = option("Distance whose logarithm is 0.", 1.0, unit="Å", gt=0)

    def features(self, structure: Structure) -> Array:
        """Return the features, shape (D,)."""
        i, j = np.triu_indices(len(structure), 1)
        return np.log(np.linalg.norm(structure.positions[j] - structure.positions[i], axis=1) / self.unit)

    def jacobian(self, structure: Structure) -> Array:
        """Return the derivatives of the features with respect to the positions, shape (D, 3N), 1/Å."""
        i, j = np.triu_indices(len(structure), 1)
        vectors = structure.positions[j] - structure.positions[i]
        slope = vectors / np.sum(vectors**2, axis=1)[:, None]
        pairs = np.arange(len(i))
        result = np.zeros((len(i), len(structure), 3))
        result[pairs, j], result[pairs, i] = slope, -slope
        return result.reshape(len(i), -1)


# A baseline: energies and forces that are known already ------------------------------------------------------------


class Repulsion(gprann.Baseline):
    """Exponential repulsion of all atoms of a molecule, as a screened nuclear repulsion would be."""

    name = "repulsion"
    strength: float = option("Energy of two atoms on top of each other.", 20.0, unit="eV", gt=0)
    decay: float = option("Length over which the repulsion falls to 1/e.", 0.4, unit="Å", gt=0)

    def evaluate(self, data: Dataset) -> gprann.Contribution:
        """Return the energies and forces that are subtracted from the labels and added to predictions."""
        energies, forces = [], []
        for structure in data:
            i, j = np.triu_indices(len(structure), 1)
            vectors = structure.positions[j] - structure.positions[i]
            r = np.linalg.norm(vectors, axis=1)
            pair = self.strength * np.exp(-r / self.decay)
            pull = (pair / self.decay / r)[:, None] * vectors
            force = np.zeros((len(structure), 3))
            np.add.at(force, j, pull)
            np.subtract.at(force, i, pull)
            energies.append(pair.sum())
            forces.append(force)
        return gprann.Contribution(np.array(energies), forces)


# An optimiser: iterations from a state to the next ------------------------------------------------------------------


class Momentum(gprann.Optimizer):
    """Gradient descent with momentum on the whole training set."""

    name = "momentum"
    rate: float = option("Length of a step along the gradient of the mean loss.", 0.02, gt=0)
    friction: float = option("Part of the last step that the next one keeps.", 0.9, ge=0, lt=1)

    def minimise(
        self,
        train: Objective,
        validation: Objective,
        state: OptimizerState,
        *,
        stream: tuple[int, ...],
        frozen: NDArray[np.int64],
        report: Callable[[OptimizerState], object],
    ) -> OptimizerState:
        """Return the state at the end; what it holds on the way is what a checkpoint keeps."""
        while not state.finished:
            self.iterate(train, validation, state, frozen)
            self.end(state)
            report(state)
        return state

    def iterate(
        self, train: Objective, validation: Objective, state: OptimizerState, frozen: NDArray[np.int64]
    ) -> None:
        _, slope = train.gradient(state.parameters)
        step = self.friction * state.vectors.get("step", 0.0 * slope) - self.rate * slope / train.total_weight
        step[frozen] = 0.0
        state.vectors["step"] = step
        after = state.parameters + step
        state.advance(after, train.errors(after).total, validation.errors(after))


# A file format: structures in, structures out ----------------------------------------------------------------------


def read_table(file: InputFile, _: ReadOptions) -> Iterator[Structure]:
    """Read blocks of `energy E`, then a line for each atom: symbol, x y z, force."""
    for number, block in enumerate(file.text.strip().split("\n\n")):
        head, *lines = block.splitlines()
        if not head.startswith("energy "):
            raise FormatError(f"{file}: block {number} does not begin with 'energy'")
        rows = [line.split() for line in lines]
        numbers = np.array([row[1:] for row in rows], dtype=float)
        yield Structure(
            tuple(row[0] for row in rows),
            numbers[:, :3],
            energy=float(head.split()[1]),
            forces=numbers[:, 3:],
        )


def write_table(path: Path, structures: Iterable[Structure]) -> None:
    """Write what `read_table` reads."""
    blocks = []
    for structure in structures:
        assert structure.energy is not None
        assert structure.forces is not None
        lines = [f"energy {structure.energy!r}"]
        for symbol, position, force in zip(
            structure.symbols, structure.positions, structure.forces, strict=True
        ):
            lines.append(" ".join([symbol, *(repr(float(x)) for x in (*position, *force))]))
        blocks.append("\n".join(lines))
    path.write_text("\n\n".join(blocks) + "\n")


def register() -> None:
    """What a program does that offers them to others: one line each."""
    gprann.register_descriptor(Gaussians)
    gprann.register_kernel(LogDistances)
    gprann.register_baseline(Repulsion)
    gprann.register_optimizer(Momentum)
    gprann.register_format(gprann.FileFormat("table", ("*.table",), read=read_table, write=write_table))


if __name__ in os.environ.get("GPRANN_EXTENSIONS", "").split(","):  # a command or a worker imports this file
    register()


@pytest.fixture(scope="module", autouse=True)
def registered(restored_registries: Any) -> Iterator[None]:
    with restored_registries():
        register()
        yield


class Nameless(Gaussians):
    """A descriptor that is not registered."""

    name = "nameless"


class NamelessKernel(LogDistances):
    name = "nameless"


class NamelessBaseline(Repulsion):
    name = "nameless"


class NamelessOptimizer(Momentum):
    name = "nameless"


HIDDEN = (6,)


def descriptor(**options: Any) -> Gaussians:
    return Gaussians(("H", "O"), **options)


def relative_error(model: Any, data: Dataset, *, forces: bool = True) -> float:
    """Root mean square error of force components or energies as a part of the spread of the labels."""
    prediction = model.predict(data)
    predicted, labels = (
        (np.concatenate(prediction.forces), np.concatenate(data.forces))
        if forces
        else (prediction.energy, data.energies)
    )
    return float(np.std(predicted - labels) / np.std(labels))


def assert_same_predictions(one: Any, other: Any, data: Dataset) -> None:
    for name in ("energy", "forces"):
        assert_close(
            np.concatenate([np.atleast_1d(x) for x in getattr(one.predict(data), name)]),
            np.concatenate([np.atleast_1d(x) for x in getattr(other.predict(data), name)]),
        )


# Descriptor --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("structure", [WATER, CRYSTAL], ids=["molecule", "crystal"])
def test_derivatives_of_the_descriptor(structure: Structure) -> None:
    """Otherwise all that follows would fail for a reason of this file."""
    rng = np.random.default_rng(0)
    gaussians = descriptor()
    lists = gaussians.neighbours([structure])
    direction = rng.normal(size=(len(structure), 3))
    cotangent = rng.normal(size=(len(structure), gaussians.size))
    forward = gaussians.jvp(lists, direction)
    gradient, virials = gaussians.vjp(lists, cotangent)
    assert virials.shape == (1, 3, 3)
    assert_adjoint(cotangent, forward, direction, gradient)

    def along(t: float) -> Array:
        moved = structure.replace(positions=structure.positions + t * direction)
        return gaussians.values(gaussians.neighbours([moved]))

    assert_derivative(along, forward)


def test_default_jacobian_agrees_with_jvp() -> None:
    gaussians = descriptor()
    lists = gaussians.neighbours([WATER])
    dense = gaussians.jacobian(lists, 0)
    direction = np.random.default_rng(1).normal(size=(3, 3))
    assert_close(dense @ direction.ravel(), gaussians.jvp(lists, direction))


@pytest.mark.parametrize("optimizer", ["lm", "adamw"])
@pytest.mark.parametrize("forces", [False, True], ids=["energies", "forces"])
def test_networks_train_on_the_descriptor(optimizer: str, forces: bool) -> None:
    data = waters(24)
    iterations = 20 if optimizer == "lm" else 150
    potential = gprann.train(
        data, descriptor(), hidden=HIDDEN, optimizer=optimizer, forces=forces, iterations=iterations, seed=0
    )
    assert relative_error(potential, data, forces=forces) < (0.05 if optimizer == "lm" else 0.5)


def test_potential_on_the_descriptor_is_a_calculator_and_a_file(tmp_path: Path) -> None:
    data = crystals(12)
    potential = gprann.train(
        data,
        descriptor(width=0.7),
        hidden=HIDDEN,
        optimizer="lm",
        forces=True,
        iterations=10,
        members=2,
        seed=0,
    )
    potential.save(tmp_path / "potential.gprann")
    loaded = gprann.load(tmp_path / "potential.gprann")
    assert isinstance(loaded.descriptor, Gaussians)
    assert loaded.descriptor.width == 0.7
    assert_same_predictions(loaded, potential, data)
    assert_same_predictions(pickle.loads(pickle.dumps(potential)), potential, data)

    atoms = data[0].to_ase()
    atoms.calc = gprann.Calculator(tmp_path / "potential.gprann")
    assert_close(atoms.get_forces(), potential.predict(data[:1]).forces[0])
    assert atoms.get_stress().shape == (6,)


def test_committee_in_worker_processes_equals_one_in_this_process() -> None:
    """Workers import the module that registers the class, or the call is refused with the remedy."""
    data = waters(12)
    options: dict[str, Any] = {
        "hidden": HIDDEN,
        "optimizer": "lm",
        "forces": True,
        "iterations": 4,
        "members": 2,
    }
    here = gprann.train(data, descriptor(), workers=1, **options)
    try:
        there = gprann.train(data, descriptor(), workers=2, **options)
    except ConfigError as error:
        assert "workers = 1" in str(error)  # noqa: PT017
    else:
        assert_close(there.parameters, here.parameters)


def test_surrogate_on_the_descriptor(tmp_path: Path) -> None:
    data = waters(20)
    surrogate = gprann.Surrogate(kernel="atoms", descriptor=descriptor(), seed=0).fit(data[:14])
    assert relative_error(surrogate, data[14:]) < 0.25
    surrogate.save(tmp_path / "surrogate.gprann")
    assert_same_predictions(gprann.load(tmp_path / "surrogate.gprann"), surrogate, data)


def test_unregistered_descriptor_works_but_has_no_file(tmp_path: Path) -> None:
    data = waters(8)
    potential = gprann.train(data, Nameless(("H", "O")), hidden=HIDDEN, optimizer="lm", iterations=3, seed=0)
    assert potential.predict(data).energy.shape == (8,)
    with pytest.raises(ConfigError, match=r"Nameless is no registered descriptor.*register"):
        potential.save(tmp_path / "potential.gprann")
    assert not list(tmp_path.iterdir())


# Kernel ------------------------------------------------------------------------------------------------------------


def test_surrogate_with_the_kernel(tmp_path: Path) -> None:
    data = waters(20)
    surrogate = gprann.Surrogate(kernel=LogDistances(unit=1.2), seed=0).fit(data[:14])
    assert relative_error(surrogate, data[14:]) < 0.25
    assert surrogate.predict(data[14:]).required_energy_std.min() > 0

    by_name = gprann.Surrogate(kernel="log_distances", unit=1.2, seed=0).fit(data[:14])
    assert_same_predictions(by_name, surrogate, data)

    surrogate.save(tmp_path / "surrogate.gprann")
    loaded = gprann.load(tmp_path / "surrogate.gprann")
    assert_same_predictions(loaded, surrogate, data)

    atoms = data[0].to_ase()
    atoms.calc = gprann.SurrogateCalculator(loaded)
    assert_close(atoms.get_forces(), surrogate.predict(data[:1]).forces[0])


def test_option_of_another_kernel_is_refused() -> None:
    with pytest.raises(ConfigError, match="unit belongs to kernel = 'log_distances', not to 'pairs'"):
        gprann.Surrogate(kernel="pairs", unit=1.2)


def test_unregistered_kernel_works_but_has_no_file(tmp_path: Path) -> None:
    surrogate = gprann.Surrogate(kernel=NamelessKernel(), seed=0).fit(waters(8))
    with pytest.raises(ConfigError, match="NamelessKernel is no registered kernel"):
        surrogate.save(tmp_path / "surrogate.gprann")


# Baseline ----------------------------------------------------------------------------------------------------------


def test_networks_on_top_of_the_baseline(tmp_path: Path) -> None:
    data = waters(24)
    baseline = Repulsion(strength=15.0)
    potential = gprann.train(
        data,
        descriptor(),
        baseline=baseline,
        hidden=HIDDEN,
        optimizer="lm",
        forces=True,
        iterations=15,
        seed=0,
    )
    assert relative_error(potential, data) < 0.3
    assert baseline in terms_of(potential.baseline)

    # What is added back is what was subtracted: the networks alone predict the labels less the baseline.
    potential.save(tmp_path / "potential.gprann")
    loaded = gprann.load(tmp_path / "potential.gprann")
    assert loaded.baseline == potential.baseline
    assert_same_predictions(loaded, potential, data)
    atoms = data[0].to_ase()
    atoms.calc = gprann.Calculator(loaded)
    assert_close(atoms.get_forces(), potential.predict(data[:1]).forces[0])


def test_surrogate_on_top_of_the_baseline(tmp_path: Path) -> None:
    data = waters(20)
    surrogate = gprann.Surrogate(baseline=Repulsion(), seed=0).fit(data[:14])
    assert relative_error(surrogate, data[14:]) < 0.25
    surrogate.save(tmp_path / "surrogate.gprann")
    assert_same_predictions(gprann.load(tmp_path / "surrogate.gprann"), surrogate, data)
    augmented = gprann.augment(data[:14], surrogate, copies=2, displacement=0.02, seed=0)
    copy = next(structure for structure in augmented if structure.origin.method == "gpr")
    assert_close(copy.energy, surrogate.predict(Dataset([copy])).energy[0])  # total energies, as everywhere


def test_baseline_subtracts_and_adds_back() -> None:
    data = waters(3)
    baseline = Repulsion()
    rest = baseline.subtract(data)
    known = baseline.evaluate(data)
    assert_close(rest.energies + known.energy, data.energies)
    for left, own, forces in zip(rest.forces, known.forces, data.forces, strict=True):
        assert_close(left + own, forces)
    zero = Prediction(np.zeros(3), [np.zeros_like(forces) for forces in data.forces])
    assert_close(baseline.add(data, zero).energy, known.energy)


def test_unregistered_baseline_works_but_has_no_file(tmp_path: Path) -> None:
    data = waters(8)
    potential = gprann.train(
        data, descriptor(), baseline=NamelessBaseline(), hidden=HIDDEN, optimizer="lm", iterations=3, seed=0
    )
    with pytest.raises(ConfigError, match="NamelessBaseline is no registered baseline"):
        potential.save(tmp_path / "potential.gprann")


# Optimiser ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("forces", [False, True], ids=["energies", "forces"])
def test_networks_train_by_the_optimizer(forces: bool) -> None:
    data = waters(24)
    rate = 1e-3 if forces else 0.01
    options: dict[str, Any] = {"hidden": HIDDEN, "forces": forces, "iterations": 100, "seed": 0}
    potential = gprann.train(data, descriptor(), optimizer="momentum", rate=rate, **options)
    assert relative_error(potential, data, forces=forces) < 0.5
    assert potential.provenance["training"]["options"]["optimizer"] == "momentum"

    options["iterations"] = 2
    by_name = gprann.train(data, descriptor(), optimizer="momentum", rate=rate, **options)
    del options["iterations"]
    by_object = gprann.train(data, descriptor(), optimizer=Momentum(rate=rate, iterations=2), **options)
    assert by_name.parameters.tobytes() == by_object.parameters.tobytes()


def test_the_optimizer_goes_on_after_an_interruption(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = waters(12)
    options: dict[str, Any] = {"optimizer": Momentum(iterations=6), "hidden": HIDDEN, "seed": 0}
    whole = gprann.train(data, descriptor(), **options)
    iterate = Momentum.iterate

    def interrupted(self: Momentum, train: Any, validation: Any, state: OptimizerState, frozen: Any) -> None:
        if state.iteration == 3:
            raise KeyboardInterrupt
        iterate(self, train, validation, state, frozen)

    monkeypatch.setattr(Momentum, "iterate", interrupted)
    with pytest.raises(KeyboardInterrupt):
        gprann.train(data, descriptor(), checkpoint=tmp_path / "states", **options)
    monkeypatch.setattr(Momentum, "iterate", iterate)
    resumed = gprann.train(data, descriptor(), checkpoint=tmp_path / "states", **options)
    assert resumed.parameters.tobytes() == whole.parameters.tobytes()


def test_unregistered_optimizer_works_without_files(tmp_path: Path) -> None:
    options: dict[str, Any] = {
        "optimizer": NamelessOptimizer(iterations=3),
        "hidden": HIDDEN,
        "members": 2,
        "seed": 0,
    }
    here = gprann.train(waters(8), descriptor(), workers=1, **options)
    asked = gprann.train(waters(8), descriptor(), workers=2, **options)  # one after the other all the same
    assert_close(asked.parameters, here.parameters)
    with pytest.raises(ConfigError, match="NamelessOptimizer is no registered optimizer"):
        gprann.train(waters(8), descriptor(), checkpoint=tmp_path / "states", **options)


def test_option_of_another_optimizer_is_refused() -> None:
    with pytest.raises(ConfigError, match="rate belongs to optimizer = 'momentum', not to 'lm'"):
        gprann.train(waters(4), descriptor(), optimizer="lm", rate=0.1)


# Format ------------------------------------------------------------------------------------------------------------


def test_format_is_read_and_written_by_its_suffix(tmp_path: Path) -> None:
    data = waters(5)
    gprann.write(tmp_path / "waters.table", data)
    again = gprann.read(tmp_path / "waters.table", require=("energy", "forces"))
    assert_close(again.energies, data.energies)
    assert again[3].origin.file.endswith("waters.table")
    assert again[3].origin.index == 3
    assert len(gprann.read(tmp_path)) == 5  # as a file of a folder
    assert len(gprann.read(tmp_path / "*.table", index="::2")) == 3


def test_errors_of_the_format_name_the_file(tmp_path: Path) -> None:
    (tmp_path / "bad.table").write_text("no energy here\n")
    with pytest.raises(FormatError, match=r"bad\.table: block 0"):
        gprann.read(tmp_path / "bad.table")
    (tmp_path / "bad.table").write_text("energy 1.0\nXx 0 0 0 0 0 0\n")
    with pytest.raises(DataError, match=r"bad\.table.*Xx"):
        gprann.read(tmp_path / "bad.table")


# All in one configuration ------------------------------------------------------------------------------------------

CONFIG = """
data.train = "train.table"
data.test = "test.table"
[descriptor]
kind = "gaussians"
width = 0.7
[surrogate]
kernel = "log_distances"
unit = 1.2
[augmentation]
copies = 2
displacement = 0.03
[training]
members = 2
hidden = [5]
optimizer = "momentum"
rate = 0.01
iterations = 20
[baseline]
kind = "repulsion"
strength = 15.0
[output]
plots = false
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    data = waters(24)
    gprann.write(tmp_path / "train.table", data[:16])
    gprann.write(tmp_path / "test.table", data[16:])
    (tmp_path / "config.toml").write_text(CONFIG)
    return tmp_path


def test_run_names_all_of_them(folder: Path) -> None:
    result = gprann.run(folder / "config.toml")
    potential = gprann.load(result.potential)
    assert isinstance(potential.descriptor, Gaussians)
    assert potential.descriptor.width == 0.7
    assert Repulsion(strength=15.0) in terms_of(potential.baseline)
    assert potential.provenance["training"]["options"]["optimizer"] == "momentum"
    assert "test" in result.metrics
    kept = load_config(result.folder / "config.toml")  # as the run has used it
    assert isinstance(kept.surrogate.kernel, LogDistances)
    assert kept.surrogate.kernel.unit == 1.2


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"gaussians"', '"gausians"', "descriptor.kind = .gausians.: did you mean 'gaussians'"),
        ("width = 0.7", "widht = 0.7", "widht.*did you mean 'width'"),
        ('"log_distances"', '"pairs"', "unit belongs to kernel = 'log_distances', not to 'pairs'"),
        (
            "rate = 0.01",
            "learning_rate = 0.01",
            "learning_rate belongs to optimizer = 'adamw', not to 'momentum'",
        ),
        ("strength = 15.0", "strength = -1.0", "strength = -1.0: expected a positive number in eV"),
        ('"repulsion"', '"nameless"', "baseline = .nameless.: valid names"),
    ],
)
def test_what_is_wrong_in_the_configuration_is_said(folder: Path, old: str, new: str, message: str) -> None:
    text = (folder / "config.toml").read_text()
    assert old in text
    (folder / "config.toml").write_text(text.replace(old, new))
    with pytest.raises(ConfigError, match=message):
        gprann.run(folder / "config.toml")


def test_a_program_that_lacks_the_descriptor_is_told_what_to_import(tmp_path: Path) -> None:
    potential = gprann.train(waters(6), descriptor(), hidden=HIDDEN, optimizer="lm", iterations=2, seed=0)
    potential.save(tmp_path / "potential.gprann")
    program = "import sys, gprann; gprann.load(sys.argv[1])"
    other = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "potential.gprann")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert other.returncode == 1
    assert re.search(
        r"ConfigError: .*descriptor 'gaussians' of the file is unknown here.*import", other.stderr
    )


def test_commands_and_their_workers_import_the_extension(folder: Path) -> None:
    """As with a module of the user's; here it is this file."""
    text = (folder / "config.toml").read_text()
    (folder / "config.toml").write_text(text + "[resources]\nworkers = 2\n")
    environment = {
        **os.environ,
        "GPRANN_EXTENSIONS": "integration.test_extending",
        "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[1]), *filter(None, sys.path)]),
    }
    command = [sys.executable, "-m", "gprann", "run", str(folder / "config.toml")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "one after the other" not in done.stderr
    assert len(gprann.load(folder / "results" / "potential.gprann")) == 2
