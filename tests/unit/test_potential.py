"""Potentials: against networks atom by atom, the contracts of every energy, committees, and their files."""

from __future__ import annotations

import copy
import pickle
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import contracts
import samples
from contracts import Array, Observed, assert_close, cell_of, clear_of, molecule
from gprann import ChebyshevDescriptor, load
from gprann import potential as module
from gprann.data.structure import Dataset, Structure
from gprann.errors import DataError, FormatError
from gprann.model_file import read_model_file, write_model_file
from gprann.potential import Potential
from gprann.runtime.atomic_write import WriteError
from reference.network_oracle import atom_terms

CUTOFFS = (3.7, 3.1)
SLAB = np.array([[3.1, 0.2, 0.0], [-0.4, 3.0, 0.0], [0.0, 0.0, 9.0]])
MAKERS: dict[str, Callable[[np.random.Generator], Structure]] = {
    "molecule": lambda rng: molecule("OHHOHH", rng, closest=1.0),
    "triclinic": lambda rng: cell_of("OHH", samples.TRICLINIC, True, rng, closest=1.2),
    "small cell": lambda rng: cell_of("OH", samples.TRICLINIC * 0.65, True, rng, closest=1.0),
    "slab": lambda rng: cell_of("OHHO", SLAB * [[1], [1], [0.5]], [1, 1, 0], rng),
    "wire": lambda rng: cell_of("HOH", np.diag([2.6, 3.0, 3.0]), [1, 0, 0], rng),
}


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(17)


@pytest.fixture(params=MAKERS, scope="module")
def structure(request: pytest.FixtureRequest) -> Structure:
    stream = np.random.default_rng(4)
    return clear_of(lambda: MAKERS[request.param](stream), CUTOFFS)


def observer(potential: Potential) -> Callable[[Structure], Observed]:
    """The mean over the members."""

    def evaluate(structure: Structure) -> Observed:
        result = potential.evaluate(potential.descriptor.neighbours([structure]))
        mean = [
            array.mean(axis=0)
            for array in (result.energies, result.atom_energies, result.forces, result.virials)
        ]
        return Observed(float(mean[0][0]), mean[1], -mean[2], mean[3][0])

    return evaluate


# Energies ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("hidden", "activation"),
    [((), "linear"), ((5, 4), "tanh"), ((3,), "softplus"), ((4,), "silu"), ((4,), "twist")],
)
def test_energies_are_those_of_a_network_for_each_atom(
    structure: Structure, hidden: tuple[int, ...], activation: str
) -> None:
    potential = samples.potential(hidden=hidden, activation=activation)
    descriptor, normalisation = potential.descriptor, potential.normalisation
    values = descriptor.values(descriptor.neighbours([structure]))
    result = potential.evaluate(descriptor.neighbours([structure]))
    per_species = potential.model.n_parameters // 2
    for member, parameters in enumerate(potential.parameters):
        expected = []
        for symbol, G in zip(structure.symbols, values, strict=True):
            kind = descriptor.species.index(symbol)
            g = (G - normalisation.mean[kind]) * normalisation.inverse_scale[kind]
            own = parameters[kind * per_species : (kind + 1) * per_species]
            eps, _, _ = atom_terms(own, potential.model.sizes, activation, g)
            expected.append(0.7 * eps)
        assert_close(result.atom_energies[member], expected)
        assert result.energies[member, 0] == pytest.approx(sum(expected))


# Contracts ---------------------------------------------------------------------------------------------------------


def test_forces_are_derivatives_of_the_energy(structure: Structure, rng: np.random.Generator) -> None:
    contracts.assert_gradient(observer(samples.potential()), structure, rng)


def test_virials_are_derivatives_of_the_energy(structure: Structure, rng: np.random.Generator) -> None:
    contracts.assert_virial(observer(samples.potential()), structure, rng)


def test_symmetries(structure: Structure, rng: np.random.Generator) -> None:
    evaluate = observer(samples.potential())
    contracts.assert_translation(evaluate, structure, rng)
    contracts.assert_rotation(evaluate, structure, rng)
    contracts.assert_permutation(evaluate, structure, rng)
    contracts.assert_extensive(evaluate, structure, 3.7)


def test_energies_and_forces_pass_smoothly_through_the_cutoffs() -> None:
    potential = samples.potential()

    def at_distance(r: float) -> tuple[Array, Array]:
        trimer = Structure(("O", "H", "O"), [[0.0, 0, 0], [r, 0, 0], [0.4, 1.2, 0.2]])
        prediction = potential.predict([trimer])
        return prediction.energy, prediction.forces[0]

    contracts.assert_smooth_at_cutoff(at_distance, 3.7, last=False)
    contracts.assert_smooth_at_cutoff(at_distance, 3.1, last=False)


def test_number_of_threads_does_not_matter(structure: Structure, monkeypatch: pytest.MonkeyPatch) -> None:
    potential = samples.potential()

    def compute() -> list[Any]:
        prediction = potential.predict([structure, samples.WATER, samples.CRYSTAL])
        return [prediction.energy, prediction.stress, *prediction.forces, *prediction.forces_std]

    contracts.assert_threads(compute, monkeypatch)


# Predictions -------------------------------------------------------------------------------------------------------


def mixed() -> Dataset:
    return Dataset(
        [samples.WATER, samples.CRYSTAL, samples.chain("H"), *samples.crystals(2), *samples.waters(2)]
    )


def test_a_committee_is_the_mean_and_deviation_of_its_members() -> None:
    potential, data = samples.potential(members=4), mixed()
    whole = potential.predict(data)
    members = [potential[k].predict(data) for k in range(4)]
    energies = np.array([member.energy for member in members])
    np.testing.assert_array_equal(whole.member_energy, energies)
    assert_close(whole.energy, energies.mean(axis=0))
    assert_close(whole.energy_std, energies.std(axis=0))
    for index, structure in enumerate(data):
        forces = np.array([member.forces[index] for member in members])
        assert forces.shape == (4, len(structure), 3)
        np.testing.assert_array_equal(whole.member_forces[index], forces)
        assert_close(whole.forces[index], forces.mean(axis=0))
        assert_close(whole.forces_std[index], forces.std(axis=0))
        stress = np.array([member.stress[index] for member in members])
        assert np.isnan(stress).all() == np.isnan(whole.stress[index]).all() == (not structure.pbc.all())
        if structure.pbc.all():
            assert_close(whole.stress[index], stress.mean(axis=0))


def test_one_network_has_no_deviation() -> None:
    single = samples.potential(members=1).predict(mixed())
    assert (single.energy_std, single.forces_std, single.member_energy, single.member_forces) == (None,) * 4


def test_parts_of_a_committee_are_potentials() -> None:
    potential = samples.potential(members=4)
    for part, members in (
        (potential[1], [1]),
        (potential[-1], [3]),
        (potential[1:3], [1, 2]),
        (potential[[0, 2]], [0, 2]),
    ):
        assert len(part) == len(members)
        np.testing.assert_array_equal(part.parameters, potential.parameters[members])
        assert part.provenance == potential.provenance
    with pytest.raises(IndexError):
        potential[4]


def test_stress_is_the_virial_per_volume_in_voigt_order() -> None:
    potential = samples.potential(members=1)
    structure = samples.crystals(1)[0]
    virial = potential.evaluate(potential.descriptor.neighbours([structure])).virials[0, 0]
    stress = potential.predict([structure]).stress[0]
    tensor = virial / abs(np.linalg.det(structure.cell))
    assert_close(stress, tensor[[0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1]], relative=1e-10)
    left_handed = structure.replace(cell=structure.cell[[1, 0, 2]])
    assert_close(potential.predict([left_handed]).stress[0], stress, relative=1e-10)


def test_predictions_do_not_depend_on_the_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    potential, data = samples.potential(), mixed()
    whole = potential.predict(data)
    monkeypatch.setattr(module, "_BATCH", 3)
    parts = potential.predict(data)
    assert_close(parts.energy, whole.energy, relative=1e-13)
    np.testing.assert_allclose(parts.stress, whole.stress, rtol=1e-11, atol=1e-13)
    for one, other in zip(parts.forces, whole.forces, strict=True):
        assert_close(one, other, scale=1.0)


def test_nothing_is_predicted_for_nothing() -> None:
    for members in (1, 3):
        prediction = samples.potential(members=members).predict(Dataset())
        assert len(prediction) == 0
        assert prediction.forces == []
        assert prediction.stress.shape == (0, 6)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (samples.chain("CO"), "element C is not among the species H, O"),
        (
            Structure(("H", "O"), [[0.0, 0, 0], [0, 0, 0.01]]),
            r"structure 1: atoms 0 and 1 .* are 0\.010 Å apart",
        ),
        (samples.CRYSTAL.replace(positions=samples.CRYSTAL.cell[[0, 1, 2]]), "Å apart"),
    ],
)
def test_structures_that_cannot_be_described_are_refused(wrong: Structure, message: str) -> None:
    with pytest.raises(DataError, match=message):
        samples.potential().predict([samples.WATER, wrong])


def test_inputs_are_kept(structure: Structure) -> None:
    potential = samples.potential()
    kept = [potential.parameters, potential.normalisation.mean]
    contracts.assert_inputs_kept(lambda: potential.predict([structure]), kept)


# Files -------------------------------------------------------------------------------------------------------------


DESCRIPTORS = {
    "angular": samples.DESCRIPTOR,
    "no angular part": ChebyshevDescriptor(["O", "H"], radial_order=3, radial_cutoff=3.3, angular_order=None),
    "channels": ChebyshevDescriptor(
        ["H", "O"], radial_order=2, angular_order=1, weights=[[1, 2], [0.5, -0.3]]
    ),
    "no channels": ChebyshevDescriptor(["H", "O"], radial_order=2, angular_order=1, weights=[]),
}


@pytest.mark.parametrize("descriptor", DESCRIPTORS.values(), ids=DESCRIPTORS)
@pytest.mark.parametrize("members", [1, 3])
def test_a_saved_potential_predicts_the_same_bits(
    descriptor: ChebyshevDescriptor, members: int, tmp_path: Path
) -> None:
    potential = samples.potential(descriptor=descriptor, members=members, activation="silu")
    potential.save(tmp_path / "a.gprann")
    back = load(str(tmp_path / "a.gprann"))
    assert (len(back), back.species, back.cutoff) == (members, descriptor.species, descriptor.cutoff)
    assert back.provenance == potential.provenance
    assert repr(back) == repr(potential)
    results = [potential.predict(mixed()), back.predict(mixed())]
    contracts.assert_same_bits([[p.energy, p.stress, *p.forces] for p in results])
    back.save(tmp_path / "b.gprann")
    assert (tmp_path / "a.gprann").read_bytes() == (tmp_path / "b.gprann").read_bytes()


def test_equal_potentials_make_equal_files_without_traces_of_the_machine(tmp_path: Path) -> None:
    samples.potential().save(tmp_path / "a.gprann")
    (tmp_path / "elsewhere").mkdir()
    samples.potential().save(tmp_path / "elsewhere" / "b.gprann")
    raw = (tmp_path / "a.gprann").read_bytes()
    assert raw == (tmp_path / "elsewhere" / "b.gprann").read_bytes()
    with zipfile.ZipFile(tmp_path / "a.gprann") as archive:
        assert {item.date_time for item in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}
    samples.potential(seed=1).save(tmp_path / "c.gprann")
    assert raw != (tmp_path / "c.gprann").read_bytes()
    for trace in (str(tmp_path), str(Path.home()), "a.gprann"):
        assert trace.encode() not in raw


def test_a_failed_save_leaves_the_old_file(tmp_path: Path) -> None:
    file = tmp_path / "a.gprann"
    samples.potential().save(file)
    before = file.read_bytes()
    broken = samples.potential()
    broken.provenance["number"] = np.nan  # JSON has no such number
    with pytest.raises(ValueError, match="JSON"):
        broken.save(file)
    assert file.read_bytes() == before
    assert [item.name for item in tmp_path.iterdir()] == ["a.gprann"]
    with pytest.raises(WriteError, match="create the folder first"):
        samples.potential().save(tmp_path / "missing" / "a.gprann")


def change(document: Any, arrays: Any, keys: str, value: Any) -> None:
    """Set (or with None delete) `document[a][b]` for keys "a.b", or the array of that name."""
    *path, last = keys.split(".")
    place = arrays if keys in arrays else document
    for key in path:
        place = place[key]
    if value is None:
        del place[last]
    else:
        place[last] = value


@pytest.mark.parametrize(
    ("keys", "value"),
    [
        ("parameters", None),
        ("parameters", np.zeros((3, 7))),
        ("parameters", np.zeros((0, 268))),
        ("parameters", np.zeros(())),
        ("feature_mean", np.zeros((1, 20))),
        ("feature_inverse_scale", None),
        ("baselines", 3),
        ("baselines", [{"kind": "reference_energies", "energies": {"H": "low"}}]),
        ("descriptor", None),
        ("descriptor", [1, 2]),
        ("descriptor.species", ["H", "Xx"]),
        ("descriptor.species", None),
        ("descriptor.radial_order", 6),
        ("descriptor.radial_cutoff", -1.0),
        ("descriptor.surprise", 1),
        ("model", None),
        ("model.hidden", [5, 5]),
        ("model.hidden", [2**40, 2**40]),
        ("model.hidden", [-5]),
        ("model.hidden", "many"),
        ("model.activation", "tan"),
        ("energy_scale", None),
        ("energy_scale", "much"),
        ("provenance", 3),
    ],
)
def test_files_whose_parts_do_not_fit_are_refused(keys: str, value: Any, tmp_path: Path) -> None:
    samples.potential().save(tmp_path / "a.gprann")
    document, arrays = read_model_file(tmp_path / "a.gprann")
    change(document, arrays, keys, value)
    for name in ("format", "version", "arrays"):
        del document[name]
    write_model_file(tmp_path / "b.gprann", document, arrays)
    with pytest.raises(FormatError, match=r"b\.gprann: "):
        load(tmp_path / "b.gprann")


def test_files_of_the_first_version_are_read(tmp_path: Path) -> None:
    """They have an array of reference energies instead of baselines, and networks by another name."""
    potential = samples.potential(members=2)
    potential.save(tmp_path / "a.gprann")
    document, arrays = read_model_file(tmp_path / "a.gprann")
    for name in ("format", "version", "arrays", "kind", "baselines"):
        del document[name]
    document["model"]["kind"] = "network"
    arrays["reference_energies"] = np.array(list(potential.reference_energies.values()))
    write_model_file(tmp_path / "b.gprann", document, arrays)
    old = load(tmp_path / "b.gprann")
    assert old.reference_energies == potential.reference_energies
    contracts.assert_same_bits([[p.predict([samples.CRYSTAL]).energy] for p in (potential, old)])


def test_files_that_hold_something_else_are_refused(tmp_path: Path) -> None:
    write_model_file(tmp_path / "a.gprann", {"kind": "optimizer state"}, {})
    with pytest.raises(FormatError, match=r"a\.gprann: holds an optimizer state, not a potential"):
        load(tmp_path / "a.gprann")


def test_unknown_parts_of_a_file_are_named(tmp_path: Path) -> None:
    samples.potential().save(tmp_path / "a.gprann")
    document, arrays = read_model_file(tmp_path / "a.gprann")
    for name in ("format", "version", "arrays"):
        del document[name]
    document["baselines"].append({"kind": "mine"})
    write_model_file(tmp_path / "b.gprann", document, arrays)
    with pytest.raises(FormatError, match="the baseline 'mine' of the file is unknown here"):
        load(tmp_path / "b.gprann")


def test_the_untouched_parts_do_fit(tmp_path: Path) -> None:
    """What the test above changes is what is refused there."""
    samples.potential().save(tmp_path / "a.gprann")
    document, arrays = read_model_file(tmp_path / "a.gprann")
    for name in ("format", "version", "arrays"):
        del document[name]
    write_model_file(tmp_path / "b.gprann", document, arrays)
    assert (tmp_path / "a.gprann").read_bytes() == (tmp_path / "b.gprann").read_bytes()


def test_a_structure_of_several_pieces_is_its_cell_repeated() -> None:
    """More atoms than one thread takes: energies and forces cell by cell those of the small one, virials added."""
    cell, repeats = samples.crystals(1)[0], 6
    shifts = np.array(list(np.ndindex(repeats, repeats, repeats))) @ cell.cell
    large = Structure(
        cell.symbols * len(shifts),
        (shifts[:, None] + cell.positions).reshape(-1, 3),
        cell=repeats * cell.cell,
        pbc=True,
    )
    assert len(large) > 512
    made = samples.potential(members=2)
    small, whole = (made.evaluate(made.descriptor.neighbours([structure])) for structure in (cell, large))
    count = len(shifts)
    assert_close(whole.atom_energies, np.tile(small.atom_energies, (1, count)), relative=1e-10)
    assert_close(whole.forces, np.tile(small.forces, (1, count, 1)), relative=1e-9)
    assert_close(whole.virials, count * small.virials, relative=1e-9)


# Memory that is kept from one evaluation to the next -------------------------


def test_evaluations_leave_nothing_behind() -> None:
    """Whatever was evaluated before, and in whichever potential, the bits are the same."""
    data = [samples.crystals(1)[0], samples.waters(1)[0], samples.crystals(4, seed=2)[3]]
    model, other = samples.potential(), samples.potential(seed=3)
    fresh = [samples.potential().predict([one]) for one in data]
    for one, expected in [*zip(data, fresh, strict=True), *zip(data[::-1], fresh[::-1], strict=True)]:
        other.predict([one])
        got = model.predict([one])
        contracts.assert_same_bits([[got.energy, got.forces[0]], [expected.energy, expected.forces[0]]])


def test_threads_of_python_share_a_potential() -> None:
    model, data = samples.potential(), list(samples.crystals(24))
    expected = [model.predict([one]).energy[0] for one in data]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda one: model.predict([one]).energy[0], data))
    assert found == expected


def test_copies_of_a_potential_begin_without_memory() -> None:
    model, data = samples.potential(), samples.crystals(2)
    expected = model.predict(data).energy
    for other in (copy.copy(model), copy.deepcopy(model), model[:], pickle.loads(pickle.dumps(model))):
        np.testing.assert_array_equal(other.predict(data).energy, expected)
