"""Potentials of the ænet program: the same numbers, the same bytes, and what is refused."""

from __future__ import annotations

import itertools
import json
import re
import struct
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gprann
import samples
from gprann.baselines import BaselineSum, Coulomb, ReferenceEnergies
from gprann.errors import ConfigError, FormatError
from gprann.formats.aenet import network_file
from gprann.formats.aenet.network_file import AenetNetwork, read_network, write_network
from gprann.formats.aenet.records import text_content
from samples import Array

DATA = samples.waters(2) + samples.crystals(2)
A, B, C = 1.7159, 0.666666666666667, 0.1
PHI: list[Callable[[Array], Array]] = [
    lambda z: z,
    np.tanh,
    lambda z: 1 / (1 + np.exp(-z)),
    lambda z: A * np.tanh(B * z),
    lambda z: A * np.tanh(B * z) + C * z,
]


def random_network(
    element: str = "H",
    *,
    hidden: tuple[int, ...] = (5, 4),
    activations: tuple[int, ...] = (1, 1),
    seed: int = 0,
) -> AenetNetwork:
    """A network as ænet could have trained it on the descriptor of the samples."""
    rng = np.random.default_rng([seed, ord(element[0])])
    D = samples.DESCRIPTOR.size
    nodes = np.array([D, *hidden, 1])
    average = rng.normal(size=D)
    average[3] = 0.5  # a component that is always 0.5
    return AenetNetwork(
        nodes=nodes,
        activations=np.array([*activations, 0]),
        weights=rng.normal(size=int(((nodes[:-1] + 1) * nodes[1:]).sum())),
        description="made at random in Å$$",
        element=element,
        environment=("H", "O"),
        min_distance=0.55,
        cutoff=3.7,
        basis="Chebyshev",
        functions=np.zeros(D, np.int64),
        function_parameters=np.array([3.7, 5, 3.1, 3, *[0.0] * 4 * (D - 1)]),
        function_elements=np.zeros(2 * D, np.int64),
        n_evaluations=17,
        low=average - 1,
        high=average + 1,
        average=average,
        second_moment=np.where(np.arange(D) == 3, 0.25, average**2 + rng.uniform(0.5, 2.0, size=D)),
        training_file="data.train.ascii",
        normalised=True,
        scale=float(rng.uniform(2, 60)),
        shift=float(rng.normal()),
        elements=("O", "H"),  # of the training set, in another order than the neighbours
        atom_energies=np.array([-430.25, -13.5]),
        n_atoms=100,
        n_structures=10,
        energies=np.array([-1.0, 1.0, 0.25]),
    )


def member(**options: Any) -> list[AenetNetwork]:
    return [random_network(element, **options) for element in ("H", "O")]


def write_member(folder: Path, networks: list[AenetNetwork], suffix: str = ".nn") -> list[Path]:
    folder.mkdir(exist_ok=True)
    files = [folder / f"{network.element}{suffix}" for network in networks]
    for file, network in zip(files, networks, strict=True):
        write_network(file, network)
    return files


def aenet_energies(networks: list[AenetNetwork]) -> Array:
    """Total energies of the data, by the equations of the ænet program."""
    by_element = {network.element: network for network in networks}
    totals = []
    for structure in DATA:
        values = samples.DESCRIPTOR.values(samples.DESCRIPTOR.neighbours([structure]))
        total = 0.0
        for symbol, G in zip(structure.symbols, values, strict=True):
            net = by_element[symbol]
            sigma = np.sqrt(net.second_moment - net.average**2)
            x = np.where(sigma > 1e-10, (G - net.average) / np.maximum(sigma, 1e-10), 0.0)
            at = 0
            for n, kind in zip(net.nodes[1:], net.activations, strict=True):
                W = net.weights[at : at + n * (len(x) + 1)].reshape(n, len(x) + 1, order="F")
                at += W.size
                x = PHI[kind](W @ np.append(x, 1.0))
            total += x[0] / net.scale + net.shift + net.atom_energies[net.elements.index(symbol)]
        totals.append(total)
    return np.array(totals)


def assert_same_numbers(first: gprann.Potential, second: gprann.Potential) -> None:
    """Equal to 1e-12: energies relative, forces in eV/Å, stresses in eV/Å³."""
    a, b = first.predict(DATA), second.predict(DATA)
    np.testing.assert_allclose(b.energy, a.energy, rtol=1e-12)
    for key in ("forces", "member_forces"):
        for one, other in zip(getattr(a, key) or (), getattr(b, key) or (), strict=True):
            np.testing.assert_allclose(other, one, rtol=0, atol=1e-12)
    np.testing.assert_allclose(b.stress, a.stress, rtol=0, atol=1e-12)


# ænet's own numbers -----------------------------------------------------------------------------------------------


@pytest.fixture(params=["EC-EC", "Li-EC"])
def reference(request: pytest.FixtureRequest, shared_data: Path) -> Path:
    folder = shared_data / "aenet_reference" / request.param
    if not folder.is_dir():
        pytest.skip("no files of ænet there")
    return folder


@pytest.mark.parametrize("pattern", ["*.nn", "*.nn.ascii", None])
def test_numbers_are_those_that_aenet_prints(reference: Path, pattern: str | None) -> None:
    potential = gprann.read_aenet(reference if pattern is None else sorted(reference.glob(pattern)))
    expected = json.loads((reference / "reference.json").read_text())
    data = gprann.read(reference / "structure.xsf")
    assert list(potential.species) == expected["env_order"]
    descriptors = potential.descriptor.values(potential.descriptor.neighbours(list(data)))
    np.testing.assert_allclose(descriptors, expected["raw_descriptors"], rtol=1e-12, atol=1e-12)
    result = potential.predict(data)
    assert abs(result.energy[0] - expected["predicted_total_energy_eV"]) < 0.51e-8
    np.testing.assert_allclose(
        result.forces[0], expected["predicted_forces_eV_A"], rtol=0, atol=0.51e-6
    )  # ænet prints 8 and 6 decimals


def record_lengths(content: bytes) -> list[int]:
    """Lengths of unformatted records, read by nothing but their counts."""
    lengths, at = [], 0
    while at < len(content):
        (n,) = struct.unpack_from("<i", content, at)
        assert struct.unpack_from("<i", content, at + 4 + n) == (n,)
        lengths.append(n)
        at += n + 8
    assert at == len(content)
    return lengths


def expected_lengths(n: int, nodes: list[int]) -> list[int]:
    """As the program's source has them: n elements, and the nodes of the layers."""
    L, D = len(nodes), nodes[0]
    W = sum((a + 1) * b for a, b in itertools.pairwise(nodes))
    network = [4, 4, 4, 4, 4 * L, 4 * (L - 1), 4 * L, 4 * L, 8 * W]
    setup = [1024, 2, 4, 2 * n, 8, 8, 100, 4, 4, 4 * D, 32 * D, 8 * D, 4, 8 * D, 8 * D, 8 * D, 8 * D]
    return [*network, *setup, 1024, 4, 8, 8, 4, 2 * n, 8 * n, 4, 4, 24]


def test_records_have_the_bytes_of_aenet(reference: Path, tmp_path: Path) -> None:
    potential = gprann.read_aenet(reference)
    written = gprann.write_aenet(potential, tmp_path / "gprann")
    n = len(potential.species)
    for symbol in potential.species:
        original = reference / f"{symbol}.nn"
        lengths = record_lengths(original.read_bytes())
        assert lengths == expected_lengths(n, [36, 10, 10, 1])
        assert record_lengths((tmp_path / "gprann" / f"{symbol}.nn").read_bytes()) == lengths
        write_network(tmp_path / "again.nn", read_network(original))
        assert (tmp_path / "again.nn").read_bytes() == original.read_bytes()
    assert len(written) == 2 * n


def test_both_forms_hold_the_same(reference: Path) -> None:
    for file in reference.glob("*.nn"):
        first, second = read_network(file).records(), read_network(file.with_suffix(".nn.ascii")).records()
        assert first.keys() == second.keys()
        for name, value in first.items():
            np.testing.assert_array_equal(value, second[name], err_msg=name)


def test_set_ups_are_those_of_the_networks(reference: Path, tmp_path: Path) -> None:
    potential = gprann.read_aenet(reference)
    files = sorted(reference.glob("*.stp"))
    assert gprann.read_aenet_setup(files) == potential.descriptor
    written = [file for file in gprann.write_aenet(potential, tmp_path) if file.suffix == ".stp"]
    assert gprann.read_aenet_setup(written) == potential.descriptor
    words = [(tmp_path / file.name).read_text().split("END DESCR")[1].split() for file in files]
    originals = [file.read_text().split("END DESCR")[1].split() for file in files]
    assert [["0.5d0" if word == "0.55d0" else word for word in text] for text in originals] == words


def test_reference_networks_come_back(reference: Path, tmp_path: Path) -> None:
    potential = gprann.read_aenet(reference)
    data = gprann.read(reference / "structure.xsf")
    for ascii in (False, True):
        gprann.write_aenet(potential, tmp_path / str(ascii), ascii=ascii)
        again = gprann.read_aenet(tmp_path / str(ascii)).predict(data)
        np.testing.assert_allclose(again.energy, potential.predict(data).energy, rtol=1e-12)
        np.testing.assert_allclose(again.forces[0], potential.predict(data).forces[0], rtol=0, atol=1e-12)


# Round trips ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ascii", [False, True])
@pytest.mark.parametrize("members", [1, 3])
@pytest.mark.parametrize("angular_order", [3, 0, None])
@pytest.mark.parametrize(
    ("hidden", "activation"), [((5, 4), "tanh"), ((4,), "twist"), ((3, 2), "linear"), ((), "linear")]
)
def test_potentials_come_back(
    tmp_path: Path,
    hidden: tuple[int, ...],
    activation: str,
    angular_order: int | None,
    members: int,
    ascii: bool,
) -> None:
    descriptor = samples.DESCRIPTOR.replace(angular_order=angular_order)
    potential = samples.potential(
        hidden=hidden, activation=activation, descriptor=descriptor, members=members
    )
    potential.normalisation.inverse_scale[0, 2] = 0.0  # a constant component
    potential.normalisation.inverse_scale[1, :2] = 3e9, 2e-9  # too small and too large for ænet's own scaling
    first = next(weights for kind, layer, weights, _ in potential.model.layers() if (kind, layer) == (1, 0))
    columns = potential.parameters[:, first].reshape(members, -1, descriptor.size)
    potential.parameters[:, first] = (
        columns * np.repeat([1e-9, 1e9, 1.0], [1, 1, descriptor.size - 2])
    ).reshape(members, -1)
    files = gprann.write_aenet(potential, tmp_path, ascii=ascii)
    again = gprann.read_aenet(tmp_path)
    assert (again.descriptor, len(again)) == (descriptor, members)
    assert (again.model.hidden, again.model.activation) == (hidden, activation)
    assert len({file.parent for file in files}) == members
    assert_same_numbers(potential, again)
    networks = [read_network(file) for file in files if file.name.endswith((".nn", ".nn.ascii"))]
    assert all((network.average == 0).all() and network.shift == 0 for network in networks)
    assert all((np.sqrt(network.second_moment) > 1e-9).all() for network in networks)


def test_one_element_and_no_baseline(tmp_path: Path) -> None:
    """Whose descriptor has one channel, and whose energies are those of the network."""
    descriptor = gprann.ChebyshevDescriptor(["H"], radial_order=4, angular_order=2)
    potential = samples.potential(descriptor=descriptor, members=1)
    potential.baseline = BaselineSum()
    gprann.write_aenet(potential, tmp_path)
    data = gprann.examples.hydrogen(5)
    again = gprann.read_aenet(tmp_path)
    np.testing.assert_allclose(again.predict(data).energy, potential.predict(data).energy, rtol=1e-12)
    assert record_lengths((tmp_path / "H.nn").read_bytes()) == expected_lengths(1, [8, 5, 4, 1])


def test_a_potential_that_was_read_is_like_any_other(tmp_path: Path) -> None:
    write_member(tmp_path, member())
    potential = gprann.read_aenet(tmp_path)
    potential.save(tmp_path / "p.gprann")
    loaded = gprann.load(tmp_path / "p.gprann")
    np.testing.assert_array_equal(loaded.predict(DATA).energy, potential.predict(DATA).energy)
    assert loaded.provenance["converted"]["program"] == "ænet"


# The equations of ænet --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".nn", ".nn.ascii"])
@pytest.mark.parametrize("activations", [(1, 1), (2, 2), (3, 3), (4, 4), (0, 0), (2, 3), (3, 2), (1, 2)])
def test_energies_follow_aenets_equations(tmp_path: Path, activations: tuple[int, int], suffix: str) -> None:
    networks = member(activations=activations)
    potential = gprann.read_aenet(write_member(tmp_path, networks, suffix))
    kinds = {4: "twist", 0: "linear"}
    assert potential.model.activation == kinds.get(activations[0], "tanh")
    np.testing.assert_allclose(potential.predict(DATA).energy, aenet_energies(networks), rtol=1e-12)


@pytest.mark.parametrize("activations", [(1, 2), (4, 4)])
def test_elements_may_have_layers_of_different_widths(tmp_path: Path, activations: tuple[int, int]) -> None:
    networks = [
        random_network("H", hidden=(6, 2), activations=activations),
        random_network("O", hidden=(3, 7), activations=activations),
    ]
    potential = gprann.read_aenet(write_member(tmp_path, networks))
    assert potential.model.hidden == (6, 7)
    np.testing.assert_allclose(potential.predict(DATA).energy, aenet_energies(networks), rtol=1e-12)


def test_members_of_a_committee_may_be_scaled_differently(tmp_path: Path) -> None:
    committee = [member(seed=seed, hidden=(4 + seed, 3), activations=(1, 2)) for seed in range(3)]
    for networks in committee[1:]:  # what is constant for the first is not for the others
        for network in networks:
            network.second_moment[3] = 0.75
    folders = [write_member(tmp_path / f"{k}", networks)[0].parent for k, networks in enumerate(committee)]
    potential = gprann.read_aenet(folders)
    energies = potential.predict(DATA).member_energy
    assert energies is not None
    for own, networks in zip(energies, committee, strict=True):
        np.testing.assert_allclose(own, aenet_energies(networks), rtol=1e-12)


def test_forces_are_derivatives_of_aenets_energies(tmp_path: Path) -> None:
    potential = gprann.read_aenet(write_member(tmp_path, member(activations=(4, 4))))
    structure, step = DATA[0], 1e-4
    forces = potential.predict([structure]).forces[0]
    for atom, axis in ((0, 2), (1, 0), (2, 1)):
        energies = []
        for sign in (1, -1):
            positions = structure.positions.copy()
            positions[atom, axis] += sign * step
            energies.append(potential.predict([structure.replace(positions=positions)]).energy[0])
        assert forces[atom, axis] == pytest.approx(
            -(energies[0] - energies[1]) / (2 * step), rel=1e-5, abs=1e-6
        )


# Text -------------------------------------------------------------------------------------------------------------


def test_numbers_of_texts_stand_in_the_columns_that_aenet_reads(tmp_path: Path) -> None:
    """The formats of its source: (4(1x,ES24.17)) and (4(1x,I17))."""
    network = random_network()
    network.weights[:4] = -1.5e-150, 2.5e-200, -1e300, 0.0
    file = write_member(tmp_path, [network], ".nn.ascii")[0]
    lines = file.read_text(encoding="latin-1").splitlines()
    numbers = [line for line in lines if line[0] == " " and len(line) > 2]
    for line in numbers:
        width = 25 if "." in line else 18
        assert len(line) % width == 0
        assert len(line) // width <= 4
        assert all(line[k] == " " for k in range(0, len(line), width))
    np.testing.assert_array_equal(read_network(file).weights, network.weights)


@pytest.mark.parametrize("rows", [1, 2, 3])
def test_texts_may_have_as_many_rows_of_elements_as_aenet_writes(tmp_path: Path, rows: int) -> None:
    """Which are as many as there are elements, not two."""
    network = replace(
        random_network(),
        environment=("H", "O", "C")[:rows],
        elements=("H", "O", "C"),
        atom_energies=np.zeros(3),
    )
    elements = np.zeros(rows * len(network.functions), np.int64)
    values = network.records() | {"function_elements": elements}
    file = tmp_path / "H.nn.ascii"
    file.write_bytes(text_content(network_file._RECORDS, values))
    again = read_network(file)
    assert (again.n_evaluations, again.environment) == (17, network.environment)
    np.testing.assert_array_equal(again.second_moment, network.second_moment)


def test_other_spellings_of_numbers_and_line_ends(tmp_path: Path) -> None:
    network = random_network()
    network.weights[0] = -1.5e-150
    file = write_member(tmp_path, [network], ".nn.ascii")[0]
    text = file.read_text(encoding="latin-1")
    assert re.search(r" -1\.\d{17}-150 ", text)
    spelt = text.replace("E+00", "D+00").replace("\n T\n", "\n .TRUE.\n").replace("\nO\nH\n", "\nO H \n")
    file.write_bytes(spelt.replace("\n", "\r\n").encode("latin-1"))
    again = read_network(file)
    np.testing.assert_array_equal(again.weights, network.weights)
    assert (again.elements, again.normalised) == (("O", "H"), True)


# What is refused: potentials --------------------------------------------------------------------------------------


def chebyshev(**options: Any) -> gprann.Potential:
    return samples.potential(descriptor=samples.DESCRIPTOR.replace(**options))


def with_baseline(baseline: gprann.Baseline) -> gprann.Potential:
    potential = samples.potential()
    potential.baseline = potential.baseline + baseline
    return potential


def density() -> gprann.Potential:
    descriptor: Any = gprann.DensityDescriptor(["H", "O"])
    return samples.potential(descriptor=descriptor)


def projected() -> gprann.Potential:
    descriptor: Any = gprann.compress_descriptor(samples.DESCRIPTOR, DATA)
    return samples.potential(descriptor=descriptor)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: samples.potential(activation="silu"), 'activation = "silu": ænet has none like it'),
        (lambda: samples.potential(activation="softplus"), 'activation = "softplus": ænet has none'),
        (lambda: chebyshev(weights=[[-1.0, 2.0]]), r"weights = \[\[-1.0, 2.0\]\]: ænet has fixed weights"),
        (lambda: chebyshev(weights=[]), r"weights = \[\]: ænet has fixed weights"),
        (lambda: chebyshev(angular_cutoff=3.9), "angular_cutoff = 3.9 is larger than radial_cutoff = 3.7"),
        (density, "ænet has none but the Chebyshev descriptor"),
        (projected, "ænet has none but the Chebyshev descriptor"),
        (lambda: with_baseline(Coulomb(charges={"H": 0.4, "O": -0.8})), "none but reference energies"),
        (lambda: with_baseline(gprann.Zbl()), "none but reference energies"),
    ],
)
def test_what_aenet_has_no_like_of_is_refused(
    tmp_path: Path, make: Callable[[], gprann.Potential], message: str
) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        gprann.write_aenet(make(), tmp_path / "f")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "f").exists()


def test_two_reference_energies_are_one(tmp_path: Path) -> None:
    potential = with_baseline(ReferenceEnergies(energies={"H": 1.5, "O": -2.0}))
    gprann.write_aenet(potential, tmp_path)
    assert_same_numbers(potential, gprann.read_aenet(tmp_path))


def test_surrogates_are_no_networks(tmp_path: Path) -> None:
    surrogate: Any = gprann.Surrogate(**samples.FIXED).fit(samples.waters(3))
    with pytest.raises(
        ConfigError, match="a Surrogate cannot be written: ænet has potentials of networks alone"
    ):
        gprann.write_aenet(surrogate, tmp_path)


def test_networks_that_are_there_are_not_mixed_with_others(tmp_path: Path) -> None:
    gprann.write_aenet(samples.potential(members=1), tmp_path)
    for members in (1, 2):
        with pytest.raises(ConfigError, match="has networks of ænet already"):
            gprann.write_aenet(samples.potential(members=members), tmp_path, ascii=True)


def test_lost_calibration_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    potential = samples.potential()
    gprann.write_aenet(potential, tmp_path / "a")
    assert not caplog.records
    potential.std_factors = (2.0, 3.0)
    gprann.write_aenet(potential, tmp_path / "b")
    assert "no place for the calibration" in caplog.text


# What is refused: networks ----------------------------------------------------------------------------------------


def changed(network: AenetNetwork, **changes: Any) -> AenetNetwork:
    """The network with changes; `first` are the numbers of the descriptor."""
    if "first" in changes:
        network.function_parameters[:4] = changes.pop("first")
    return replace(network, **changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"activations": np.array([4, 1, 0])},
            "hidden layers with tanh and twist: gprann has one activation",
        ),
        ({"activations": np.array([0, 1, 0])}, "hidden layers with linear and tanh"),
        ({"activations": np.array([4, 4, 0])}, "hidden layers with tanh and twist"),
        ({"activations": np.array([1, 1, 1])}, r"the output has activation 1; gprann has linear outputs"),
        ({"activations": np.array([1, 7, 0])}, "activation 7 is unknown"),
        ({"basis": "Behler2011"}, "has the basis 'Behler2011'; gprann has ænet's Chebyshev basis alone"),
        ({"environment": ("O", "H")}, "has the elements O H, but .* has H O: their order sets the weights"),
        ({"first": (3.7, 5, 3.0, 3)}, "has radial_Rc, .* = 3.7 5 3 3, but .* has 3.7 5 3.1 3"),
        ({"element": "H"}, "both are networks of H; give one file for each element"),
        ({"element": "C", "elements": ("H", "C")}, "there is no network for O"),
    ],
)
def test_networks_that_do_not_belong_together(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    first, second = member()
    write_network(tmp_path / "a.nn", first)
    write_network(tmp_path / "b.nn", changed(second, **changes))
    with pytest.raises(FormatError, match=message) as caught:
        gprann.read_aenet(tmp_path)
    assert str(tmp_path) in str(caught.value)


@pytest.mark.parametrize(
    ("first", "message"),
    [
        ((3.7, 5, 3.9, 3), "angular_Rc = 3.9 is larger than radial_Rc = 3.7"),
        ((3.7, 5.5, 3.1, 3), "the orders 5.5 and 3 are no whole numbers"),
        ((3.7, 900, 3.1, 3), "no such descriptor: radial_order = 900"),
        ((-3.7, 5, -5.0, 3), "no such descriptor: radial_cutoff"),
        ((3.7, 6, 3.1, 3), "has 20 components of the descriptor, expected 22"),
    ],
)
def test_descriptors_that_gprann_does_not_have(
    tmp_path: Path, first: tuple[float, ...], message: str
) -> None:
    files = write_member(tmp_path, [changed(network, first=first) for network in member()])
    with pytest.raises(FormatError, match=message) as caught:
        gprann.read_aenet(tmp_path)
    assert str(files[0]) in str(caught.value)


def test_other_numbers_of_hidden_layers_or_elements(tmp_path: Path) -> None:
    hydrogen, oxygen = member()
    files = write_member(tmp_path, [hydrogen, random_network("O", hidden=(5,), activations=(1,))])
    with pytest.raises(FormatError, match=r"O\.nn: has 1 hidden layers, but .*H\.nn has 2"):
        gprann.read_aenet(tmp_path)
    carbon = replace(oxygen, element="C", elements=("C",), atom_energies=np.zeros(1))
    with pytest.raises(FormatError, match=r"is the network of C, which is not among the elements"):
        gprann.read_aenet(write_member(tmp_path, [hydrogen, oxygen, carbon]))
    unknown = [
        replace(
            network, environment=("Q", "O"), element={"H": "Q"}.get(network.element, "O"), elements=("Q", "O")
        )
        for network in (hydrogen, oxygen)
    ]
    with pytest.raises(FormatError, match=r"Q\.nn: no such descriptor: .*Q"):
        gprann.read_aenet(write_member(tmp_path, unknown))
    assert len(files) == 2


def test_hidden_layers_that_would_be_huge_in_common(tmp_path: Path) -> None:
    wide, narrow = 20_000, 1
    networks = [
        random_network("H", hidden=(wide, narrow), activations=(1, 1)),
        random_network("O", hidden=(narrow, wide), activations=(1, 1)),
    ]
    with pytest.raises(FormatError, match="which gprann cannot hold"):
        gprann.read_aenet(write_member(tmp_path, networks))


# Places -----------------------------------------------------------------------------------------------------------


def test_the_binary_file_counts_where_both_are(tmp_path: Path) -> None:
    networks = member()
    write_member(tmp_path, networks)
    write_member(tmp_path, member(seed=1), ".nn.ascii")
    np.testing.assert_allclose(
        gprann.read_aenet(tmp_path).predict(DATA).energy, aenet_energies(networks), rtol=1e-12
    )


def test_places_without_networks(tmp_path: Path) -> None:
    files = write_member(tmp_path / "a", member())
    (tmp_path / "empty").mkdir()
    for source, error, message in (
        (tmp_path / "missing", FormatError, "missing: cannot be read: No such file"),
        (tmp_path / "empty", FormatError, "empty: has no networks of ænet"),
        ([], ConfigError, "source: nothing given"),
        ([tmp_path / "a", files[0]], ConfigError, "is a folder and others are files"),
        (files[:1], FormatError, r"H\.nn: the descriptor knows H O, but there is no network for O"),
    ):
        with pytest.raises(error, match=message):
            gprann.read_aenet(source)
    written = gprann.write_aenet(gprann.read_aenet(tmp_path / "a"), tmp_path / "b")
    with pytest.raises(FormatError, match="is a set-up of the descriptor, not a network"):
        gprann.read_aenet(written)


def test_members_are_not_mixed_or_lacking(tmp_path: Path) -> None:
    for k in range(11):
        write_member(tmp_path / f"member_{k:02}", member(seed=k))
    potential = gprann.read_aenet(tmp_path)
    last = potential[10].predict(DATA).energy
    np.testing.assert_allclose(last, aenet_energies(member(seed=10)), rtol=1e-12)
    (tmp_path / "member_99").mkdir()
    with pytest.raises(FormatError, match="member_99: has no networks"):
        gprann.read_aenet(tmp_path)
    write_member(tmp_path, member())
    with pytest.raises(FormatError, match="has networks, and folders of members beside them"):
        gprann.read_aenet(tmp_path)


# Damaged files ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=[".nn", ".nn.ascii"])
def sound(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sound network of either form."""
    folder = tmp_path_factory.mktemp("sound")
    return write_member(folder, [random_network("O")], request.param)[0]


def assert_refused(file: Path, content: bytes, message: str = "") -> None:
    file.write_bytes(content)
    with pytest.raises(FormatError, match=message) as caught:
        read_network(file)
    assert str(caught.value).startswith(f"{file}: ")
    assert len(str(caught.value)) < len(str(file)) + 400


def test_files_that_are_cut(sound: Path, tmp_path: Path) -> None:
    content, file = sound.read_bytes(), tmp_path / sound.name
    steps = [*range(0, 120, 3), *range(120, len(content) - 3, 211), len(content) - 4]
    for length in steps:
        assert_refused(file, content[:length], "ends|values|cannot be read")
    file.write_bytes(content)
    assert read_network(file).element == "O"


def outcome(read: Callable[[], object]) -> str | None:
    """The message of a file that is refused, None if it is read; other errors pass."""
    try:
        read()
    except FormatError as error:
        return str(error)
    return None


def starts(content: bytes) -> Iterator[tuple[int, int]]:
    """Beginnings and lengths of the records of an unformatted file."""
    at = 0
    for length in record_lengths(content):
        yield at, length
        at += length + 8


@pytest.fixture
def binary(tmp_path: Path) -> tuple[Path, bytes]:
    file = write_member(tmp_path, [random_network("O")])[0]
    return file, file.read_bytes()


def test_wrong_counts_of_records(binary: tuple[Path, bytes]) -> None:
    file, content = binary
    for at, length in starts(content):
        for count in (length - 1, -length, 2**31 - 1):
            marker = struct.pack("<i", count)
            end = at + 4 + length
            assert_refused(file, content[:at] + marker + content[at + 4 :], "record")
            assert_refused(file, content[:end] + marker + content[end + 4 :], "ends with the count")


def test_files_of_other_machines_or_kinds(binary: tuple[Path, bytes]) -> None:
    file, content = binary
    swapped = struct.pack(">i", 4) + content[4:]
    assert_refused(file, swapped, "begins with a record of 67108864 bytes.*another order or size of numbers")
    eight = struct.pack("<iqi", 8, 4, 8)
    assert_refused(file, eight + content[12:], "begins with a record of 8 bytes")
    assert_refused(file, b"PK\3\4" + content, "no network of ænet")
    assert_refused(file, b"                4\n", "no network of ænet")
    assert_refused(file, content + b"\0", "1 bytes follow the last record")
    assert_refused(file, b"", "ends within the record 'n_layers', after 0 bytes")


def test_hostile_sizes(binary: tuple[Path, bytes]) -> None:
    """Nothing is allocated by what a file claims."""
    file, content = binary
    whole = {at for at, length in starts(content) if length == 4}
    for at in whole:
        (value,) = struct.unpack_from("<i", content, at + 4)
        for size in (-1, 0, value + 1, 2**31 - 1, -(2**31)):
            file.write_bytes(content[: at + 4] + struct.pack("<i", size) + content[at + 8 :])
            answer = outcome(lambda: read_network(file))  # counts of structures and the like may be anything
            assert answer is None or answer.startswith(f"{file}: ")


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("n_layers", 2**31, "ends before|has 4 values, expected"),
        ("n_layers", 10**30, "cannot be read as integer"),
        ("n_layers", -3, "would have -3 values"),
        ("n_layers", 0, "would have -1 values|has 4 values, expected 0"),
        ("n_weights", 10**12, "cannot be read as real|ends before"),
        ("n_functions", 10**12, "cannot be read|ends before|expected"),
        ("n_elements", 10**12, "ends before|expected"),
        ("most_nodes", 4, "'most_nodes' is 4, which layers"),
        ("nodes", np.array([20, 5, 4, 2]), "'n_weights' is|contradict"),
        ("nodes", np.array([20, 5, 0, 1]), "none of them empty"),
        ("nodes", np.array([20, 2**31 - 1, 2**31 - 1, 1]), "contradict"),
        ("first_weights", np.zeros(4, int), "'first_weights' is .* contradict"),
        ("first_values", np.zeros(4, int), "'first_values' is .* contradict"),
        ("scale", 0.0, "the scale of the energies is 0"),
        ("scale", -1.0, "the scale of the energies is -1"),
        ("scale", np.inf, "'scale' holds numbers that are not finite"),
        ("weights", np.full(133, np.nan), "'weights' holds numbers that are not finite"),
        ("elements", ("H", "C"), "there is no energy of the atom O"),
        ("elements", ("\x1b[", "O"), "no printable text"),
        ("environment", ("H", "H"), "the neighbours are H H, expected each element once"),
    ],
)
def test_numbers_that_contradict_each_other(tmp_path: Path, name: str, value: Any, message: str) -> None:
    network = random_network("O")
    values = network.records()
    assert name in values
    if name == "weights":
        value = np.full(len(network.weights), np.nan)
    scalar = isinstance(value, int) and abs(value) >= 2**31
    values[name] = 123456789 if scalar else value
    content = text_content(network_file._RECORDS, values)
    if scalar:
        content = content.replace(b"        123456789", str(value).encode())
    assert_refused(tmp_path / "O.nn.ascii", content, message)


def test_texts_with_other_words(tmp_path: Path) -> None:
    file = write_member(tmp_path, [random_network("O")], ".nn.ascii")[0]
    content = file.read_bytes()
    for word in (b"four", b"4.0", b"9" * 5000, b"0x4", b"\xff\xfe", b"NaN"):
        assert_refused(file, content.replace(b"                4\n", word + b"\n", 1), "n_layers")
    assert_refused(file, content + b"\n1\n", "more lines follow the last record")
    assert_refused(file, content.replace(b"E+00", b"*", 1), "cannot be read as real")
    assert_refused(file, content.replace(b"E+00", b"E+999", 1), "cannot be read as real|not finite")
    assert_refused(file, content.replace(b"\n T\n", b"\n maybe\n"), "'normalised' cannot be read as logical")


def test_whatever_bytes_a_file_has_the_answer_is_an_error_or_a_network(sound: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    content, file = sound.read_bytes(), tmp_path / sound.name
    for _ in range(200):
        changed = bytearray(content)
        for at in rng.integers(0, len(content) if rng.random() < 0.5 else 200, size=rng.integers(1, 4)):
            changed[at] = rng.integers(256)
        file.write_bytes(bytes(changed))
        answer = outcome(lambda: gprann.read_aenet(file))
        assert answer is not None  # the other element is missing
        assert str(file) in answer


def test_files_that_are_no_files(tmp_path: Path) -> None:
    huge = tmp_path / "O.nn"
    with huge.open("wb") as stream:
        stream.truncate(2**31)  # takes no room on the disk
    with pytest.raises(FormatError, match="2147483648 bytes, more than any network"):
        gprann.read_aenet(huge)


# Set-ups ----------------------------------------------------------------------------------------------------------

SETUP = """DESCR
 ATOM X   what ænet ignores
END DESCR

ATOM O  ! an atom
# a comment
ENV 2
H
O
RMIN 0.75d0
BASIS type=Chebyshev
radial_Rc = 3.7d0 radial_N=5 angular_Rc = 3.10E0  angular_N = 3
"""


def test_set_ups_as_people_write_them(tmp_path: Path) -> None:
    file = tmp_path / "O.stp"
    file.write_text(SETUP)
    assert gprann.read_aenet_setup(file) == samples.DESCRIPTOR


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("ATOM O", "", "has no ATOM"),
        ("ENV 2\nH\nO\n", "", "has no ENV"),
        ("ENV 2", "ENV two", "ENV two: expected the number of elements"),
        ("ENV 2", "ENV 99999999999", "elements follow"),
        ("ENV 2", "ENV -1", "elements follow"),
        ("BASIS type=Chebyshev", "SYMMFUNC type=Behler2011", "has the basis 'Behler2011'"),
        ("radial_N=5", "", "the line after BASIS is"),
        ("3.7d0", "3.7.1", "the line after BASIS is"),
        ("radial_N=5", "radial_N=5.5", "no whole numbers"),
        ("3.10E0", "4.10E0", "angular_Rc = 4.1 is larger than radial_Rc = 3.7"),
        ("H\nO\n", "H\nH\n", "no such descriptor"),
        ("H\nO\n", "H\nXx\n", "no such descriptor"),
    ],
)
def test_set_ups_that_cannot_be_read(tmp_path: Path, old: str, new: str, message: str) -> None:
    file = tmp_path / "O.stp"
    assert old in SETUP
    file.write_text(SETUP.replace(old, new, 1))
    with pytest.raises(FormatError, match=message) as caught:
        gprann.read_aenet_setup(file)
    assert str(caught.value).startswith(f"{file}: ")


def test_set_ups_that_differ(tmp_path: Path) -> None:
    first, second = tmp_path / "H.stp", tmp_path / "O.stp"
    first.write_text(SETUP.replace("ATOM O", "ATOM H"))
    second.write_text(SETUP.replace("H\nO\n", "O\nH\n"))
    with pytest.raises(FormatError, match=r"O\.stp: has other elements, another order of them"):
        gprann.read_aenet_setup([first, second])
    with pytest.raises(ConfigError, match="files: none given"):
        gprann.read_aenet_setup([])
    with pytest.raises(FormatError, match=r"missing\.stp: cannot be read: No such file"):
        gprann.read_aenet_setup(tmp_path / "missing.stp")
