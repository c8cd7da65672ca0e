"""Descriptors: the contracts of every energy-like function, and the Chebyshev descriptor against its defining sums."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import pytest

import contracts
from contracts import Array, Evaluate, Observed, cell_of, clear_of, displaced, molecule
from gprann import _core
from gprann.data.prediction import strain_matrices
from gprann.data.structure import Structure
from gprann.descriptors import (
    ChebyshevDescriptor,
    DensityDescriptor,
    Descriptor,
    ProjectedDescriptor,
    SymmetryFunctionDescriptor,
    descriptor_from_dict,
    descriptor_to_dict,
)
from gprann.descriptors.chebyshev import aenet_weights
from gprann.errors import ConfigError, DataError
from reference.chebyshev_oracle import chebyshev_oracle
from reference.density_oracle import density_oracle
from reference.numpy_descriptor import NumpyRadial
from reference.symmetry_oracle import symmetry_oracle

# Å; longer than the cells below, and not longer than the loops of the oracle allow
RADIAL, ANGULAR = 4.3, 3.4
TRICLINIC = np.array([[2.9, 0.0, 0.0], [0.8, 2.7, 0.0], [-0.5, 0.6, 3.1]])
SLAB = np.array([[3.1, 0.2, 0.0], [-0.4, 3.0, 0.0], [0.0, 0.0, 12.0]])
CUTOFFS = (RADIAL, ANGULAR, 5.1, 4.0)


def symbols_of(species: Sequence[str], n: int) -> tuple[str, ...]:
    """n atoms of all species in turn, the first more often than the last."""
    return tuple(species[(i * i) % len(species)] if i >= len(species) else species[i] for i in range(n))


def make_structure(name: str, species: Sequence[str], seed: int = 5) -> Structure:
    rng = np.random.default_rng(seed)
    makers = {
        "molecule": lambda: molecule(symbols_of(species, 9), rng),
        "pair": lambda: molecule(symbols_of(species, 2), rng),
        "isolated": lambda: Structure((species[0],), rng.normal(size=(1, 3))),
        "far apart": lambda: Structure(symbols_of(species, 2), [[0.0, 0.0, 0.0], [9.0, 2.0, 1.0]]),
        "triclinic": lambda: cell_of(symbols_of(species, 3), TRICLINIC, True, rng, closest=1.2),
        "one atom": lambda: cell_of(species[:1], TRICLINIC, True, rng),
        "slab": lambda: cell_of(symbols_of(species, 4), SLAB * [[1], [1], [0.4]], [1, 1, 0], rng),
        "wire": lambda: cell_of(symbols_of(species, 3), np.diag([2.4, 3.0, 3.0]), [1, 0, 0], rng),
    }
    return clear_of(makers[name], CUTOFFS)


STRUCTURES = ("molecule", "pair", "isolated", "far apart", "triclinic", "one atom", "slab", "wire")
STILL = ("isolated", "far apart", "one atom")  # no atom feels another, or all stand at centres of inversion

SETTINGS: dict[str, dict[str, Any]] = {
    "12/4, three species": {"species": ["C", "H", "O"], "radial_order": 12, "angular_order": 4},
    "0/none, one species": {"species": ["H"], "radial_order": 0, "angular_order": None},
    "20/none, two species": {"species": ["O", "H"], "radial_order": 20, "angular_order": None},
    "0/0, five species": {
        "species": ["Li", "C", "H", "O", "P"],
        "radial_order": 0,
        "angular_order": 0,
    },
    "1/1, four species": {"species": ["Li", "C", "H", "O"], "radial_order": 1, "angular_order": 1},
    "20/8, one species": {"species": ["Cu"], "radial_order": 20, "angular_order": 8},
    "3/8, three channels": {
        "species": ["C", "H"],
        "radial_order": 3,
        "angular_order": 8,
        "weights": [[0.3, -1.7], [2.0, 0.0]],
    },
    "5/3, wide angular part": {
        "species": ["C", "H", "O"],
        "radial_order": 5,
        "radial_cutoff": ANGULAR,
        "angular_order": 3,
        "angular_cutoff": RADIAL,
        "weights": [-1.0, 1.0, 2.0],
    },
    "4/2, equal cutoffs": {
        "species": ["C", "H"],
        "radial_order": 4,
        "radial_cutoff": 5.1,
        "angular_order": 2,
        "angular_cutoff": 5.1,
    },
}


DENSITIES: dict[str, dict[str, Any]] = {
    "density, three species": {
        "species": ["C", "H", "O"],
        "radial_order": 5,
        "n_max": 3,
        "l_max": 4,
        "four_body": 1,
    },
    "density, one species, all orders": {
        "species": ["Cu"],
        "radial_order": 12,
        "n_max": 9,
        "l_max": 8,
        "four_body": 3,
        "four_body_l": 4,
        "four_body_cutoff": 4.0,
        "decay": 0.0,
    },
    "density, five species mixed": {
        "species": ["Ti", "O", "H", "C", "N"],
        "radial_order": 0,
        "n_max": 1,
        "l_max": 2,
        "four_body": 3,
        "four_body_l": 2,
    },
    "density, 2-body alone": {"species": ["C", "H"], "radial_order": 7, "n_max": 0, "four_body": 0},
    "density, given channels": {
        "species": ["C", "H"],
        "n_max": 2,
        "l_max": 1,
        "four_body": 0,
        "weights": [[1.0, 0.0], [0.4, -1.3], [0.0, 1.0]],
    },
}


def make_density(name: str) -> DensityDescriptor:
    settings = {"radial_cutoff": RADIAL, "angular_cutoff": ANGULAR, **DENSITIES[name]}
    return DensityDescriptor(settings.pop("species"), **settings)


# Rows of central species, type, species of the neighbours, eta, Rs, lambda, zeta, cutoff.
SYMMETRIES: dict[str, dict[str, Any]] = {
    "symmetry functions, three species": {
        "species": ["C", "H", "O"],
        "radial": 3,
        "radial_cutoff": RADIAL,
        "angular": 2,
        "angular_cutoff": ANGULAR,
    },
    "symmetry functions, mixed": {
        "species": ["O", "H"],
        "cutoff_function": "poly2",
        "inner_cutoff": 0.1,
        "functions": [
            [0, 2, 1, 1, 0.5, 0.0, 0.0, 1.0, RADIAL],
            [0, 3, 1, 0, 0.1, 0.0, 1.0, 1.0, ANGULAR],
            [0, 9, 0, 0, 0.0, 0.0, -1.0, 4.0, RADIAL],
            [0, 9, 1, 1, 0.2, 0.5, -0.5, 2.5, RADIAL],
            [0, 9, 0, 1, 0.2, 0.5, 1.0, 2.5, RADIAL],
            [1, 2, 0, 0, 2.0, 1.1, 0.0, 1.0, ANGULAR],
            [1, 2, 1, 1, 2.0, 1.1, 0.0, 1.0, RADIAL],
            [1, 3, 1, 0, 0.1, 0.4, -1.0, 16.0, RADIAL],
        ],
    },
    "symmetry functions, one species, wide, tanh": {
        "species": ["Cu"],
        "radial": 2,
        "radial_cutoff": ANGULAR,
        "grid": "centred",
        "angular": 1,
        "angular_cutoff": RADIAL,
        "wide": True,
        "cutoff_function": "tanh",
    },
}


def make_symmetry(name: str) -> SymmetryFunctionDescriptor:
    settings = dict(SYMMETRIES[name])
    return SymmetryFunctionDescriptor(settings.pop("species"), **settings)


def make_projected(base: Descriptor, size: int) -> ProjectedDescriptor:
    """Random matrices; of equal size the inverse is another one, so that nothing is lost."""
    rng = np.random.default_rng(6)
    matrices = rng.normal(size=(len(base.species), base.size, size)) / np.sqrt(base.size)
    return ProjectedDescriptor(
        base.species, base=base, matrices=matrices, offsets=np.zeros((len(base.species), base.size))
    )


def make_descriptor(name: str) -> ChebyshevDescriptor:
    settings = {"radial_cutoff": RADIAL, "angular_cutoff": ANGULAR, **SETTINGS[name]}
    return ChebyshevDescriptor(settings.pop("species"), **settings)


FACTORIES: dict[str, Callable[[], Descriptor]] = {
    **{name: (lambda name=name: make_descriptor(name)) for name in SETTINGS},
    **{name: (lambda name=name: make_density(name)) for name in DENSITIES},
    **{name: (lambda name=name: make_symmetry(name)) for name in SYMMETRIES},
    "density, projected": lambda: make_projected(make_density("density, three species"), 9),
    "Chebyshev, projected": lambda: make_projected(make_descriptor("12/4, three species"), 36),
    "NumPy, two species": lambda: NumpyRadial(["O", "H"], order=5, range=RADIAL),
}
"""Every descriptor keeps the contracts below: a new one is a line here."""


class Case(NamedTuple):
    descriptor: Descriptor
    structure: Structure
    zero: bool  # no derivative by symmetry


@pytest.fixture(params=FACTORIES)
def descriptor(request: pytest.FixtureRequest) -> Descriptor:
    return FACTORIES[request.param]()


@pytest.fixture(params=STRUCTURES)
def case(request: pytest.FixtureRequest, descriptor: Descriptor) -> Case:
    structure = make_structure(request.param, descriptor.species)
    return Case(descriptor, structure, request.param in STILL)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(17)


def values_of(descriptor: Descriptor, structure: Structure) -> Array:
    return descriptor.values(descriptor.neighbours([structure]))


def half_square(descriptor: Descriptor) -> Evaluate:
    """The energy |G|^2 / 2: its derivatives contain every component and every derivative of G."""

    def evaluate(structure: Structure) -> Observed:
        neighbours = descriptor.neighbours([structure])
        G = descriptor.values(neighbours)
        gradient, virial = descriptor.vjp(neighbours, G)
        return Observed(0.5 * float(np.sum(G * G)), G, gradient, virial[0])

    return evaluate


def oracle(descriptor: Descriptor, structure: Structure) -> Array:
    if isinstance(descriptor, ProjectedDescriptor):
        kinds = [descriptor.species.index(symbol) for symbol in structure.symbols]
        return np.einsum("id,idk->ik", oracle(descriptor.base, structure), descriptor.matrices[kinds])
    if isinstance(descriptor, DensityDescriptor):
        return density_oracle(structure, descriptor)
    if isinstance(descriptor, SymmetryFunctionDescriptor):
        fade = (descriptor.cutoff_function, descriptor.inner_cutoff)
        return symmetry_oracle(structure, descriptor.species, descriptor.functions, *fade)
    if isinstance(descriptor, NumpyRadial):
        descriptor = descriptor.twin()
    assert isinstance(descriptor, ChebyshevDescriptor)
    angular = None
    if descriptor.angular_order is not None:
        angular = (descriptor.angular_order, descriptor.angular_cutoff)
    radial = (descriptor.radial_order, descriptor.radial_cutoff)
    return chebyshev_oracle(structure, descriptor.species, descriptor.channels, radial, angular)


# Values -----------------------------------------------------------------------------------------------------------


def test_values_are_the_defining_sums(case: Case) -> None:
    expected = oracle(case.descriptor, case.structure)
    contracts.assert_close(values_of(case.descriptor, case.structure), expected, relative=1e-12)


def test_values_of_orders_up_to_the_highest() -> None:
    structure = make_structure("molecule", ["C", "H"])
    for radial, angular in ((200, 24), (0, 24), (1, 17), (2, 2)):
        descriptor = ChebyshevDescriptor(
            ["C", "H"],
            radial_order=radial,
            radial_cutoff=RADIAL,
            angular_order=angular,
            angular_cutoff=ANGULAR,
        )
        expected = oracle(descriptor, structure)
        assert expected.shape == (9, 2 * (radial + angular + 2))
        contracts.assert_close(values_of(descriptor, structure), expected, relative=1e-12)


def test_atoms_without_neighbours_have_zero_descriptors(descriptor: ChebyshevDescriptor) -> None:
    for name in ("isolated", "far apart"):
        neighbours = descriptor.neighbours([make_structure(name, descriptor.species)])
        assert not descriptor.values(neighbours).any()
        gradient, virial = descriptor.vjp(neighbours, np.ones((neighbours.n_atoms, descriptor.size)))
        assert not gradient.any()
        assert not virial.any()


def test_order_of_species_sets_the_weights() -> None:
    structure = make_structure("molecule", ["C", "H", "O"])
    first = values_of(ChebyshevDescriptor(["C", "H", "O"]), structure)
    second = values_of(ChebyshevDescriptor(["O", "H", "C"]), structure)
    same = values_of(ChebyshevDescriptor(["O", "H", "C"], weights=[1, 0, -1]), structure)
    half = first.shape[1] // 2
    np.testing.assert_array_equal(first, same)
    np.testing.assert_array_equal(first[:, :half], second[:, :half])
    assert contracts.max_norm(first - second) > 0.01


@pytest.mark.parametrize(
    ("n", "weights"), [(1, [0]), (2, [-1, 1]), (3, [-1, 0, 1]), (4, [-2, -1, 1, 2]), (5, [-2, -1, 0, 1, 2])]
)
def test_default_weights_are_typespin(n: int, weights: list[float]) -> None:
    assert aenet_weights(n) == weights
    channels = ChebyshevDescriptor(["Li", "C", "H", "O", "P"][:n]).channels
    expected = [[1.0] * n, weights] if n > 1 else [[1.0]]
    np.testing.assert_array_equal(channels, expected)


def test_batch_gives_what_its_structures_give(descriptor: ChebyshevDescriptor, rng: Any) -> None:
    names = ("molecule", "isolated", "triclinic", "slab", "isolated", "one atom")
    structures = [make_structure(name, descriptor.species) for name in names]
    batch = descriptor.neighbours(structures)
    u = rng.normal(size=(batch.n_atoms, descriptor.size))
    v = rng.normal(size=(batch.n_atoms, 3))
    together = [descriptor.values(batch), descriptor.jvp(batch, v), descriptor.vjp(batch, u)[0]]
    virials = descriptor.vjp(batch, u)[1]
    for s, structure in enumerate(structures):
        own = slice(batch.first_atom[s], batch.first_atom[s + 1])
        alone = descriptor.neighbours([structure])
        gradient, virial = descriptor.vjp(alone, u[own])
        separate = [descriptor.values(alone), descriptor.jvp(alone, v[own]), gradient, virial[0]]
        contracts.assert_same_bits([separate, [array[own] for array in together] + [virials[s]]])
        np.testing.assert_array_equal(descriptor.jacobian(batch, s), descriptor.jacobian(alone, 0))


def test_empty_batch_has_no_rows() -> None:
    descriptor = ChebyshevDescriptor(["C", "H"])
    neighbours = descriptor.neighbours([])
    assert descriptor.values(neighbours).shape == (0, 36)
    gradient, virial = descriptor.vjp(neighbours, np.zeros((0, 36)))
    assert gradient.shape == (0, 3)
    assert virial.shape == (0, 3, 3)


def test_density_tells_what_distances_and_angles_apart_cannot() -> None:
    """The two bent molecules have the same distances and angles about the centre, but at other ends."""
    short, long = 1.1, 1.6
    ends = np.array([[1.0, 0, 0], [0, 1.0, 0], [-1.0, 0, 0]])
    first = Structure(("C",) * 4, [[0, 0, 0], *(ends * [[short], [short], [long]])])
    second = Structure(("C",) * 4, [[0, 0, 0], *(ends * [[short], [long], [short]])])
    plain = ChebyshevDescriptor(["C"], angular_cutoff=6.5)
    density = DensityDescriptor(["C"])
    same = values_of(plain, first)[0, :13] - values_of(plain, second)[0, :13]
    assert contracts.max_norm(same) < 1e-12
    assert contracts.max_norm(values_of(density, first)[0, :13] - values_of(density, second)[0, :13]) < 1e-12
    assert contracts.max_norm(values_of(density, first)[0] - values_of(density, second)[0]) > 1e-3


def test_components_are_counted_once() -> None:
    descriptor = make_density("density, three species")
    components = descriptor.components
    assert len(components) == len(set(components)) == descriptor.size
    assert [c.body for c in components] == sorted(c.body for c in components)


def test_size_of_the_density_descriptor_is_bounded() -> None:
    elements = ["H", "Li", "C", "N", "O", "F", "Na", "Mg", "Al", "Si", "P", "S", "Cl", "Ti", "Pt"]
    sizes = [DensityDescriptor(elements[:n]).size for n in range(1, 16)]
    assert sizes == sorted(sizes)
    assert set(sizes[3:]) == {sizes[3]}


def test_channels_of_many_elements_do_not_depend_on_their_order() -> None:
    elements = ["O", "Ti", "H", "N", "C"]
    again = ["C", "H", "N", "O", "Ti"]
    structure = make_structure("triclinic", elements)
    first, second = (
        values_of(DensityDescriptor(names, radial_cutoff=3.0, angular_cutoff=3.0), structure)
        for names in (elements, again)
    )
    contracts.assert_close(first, second, relative=1e-12)


# Derivatives ------------------------------------------------------------------------------------------------------


def test_jvp_is_the_derivative_of_the_values(case: Case, rng: np.random.Generator) -> None:
    descriptor, structure, zero = case
    direction = rng.uniform(-1, 1, size=(len(structure), 3))
    tangent = descriptor.jvp(descriptor.neighbours([structure]), direction)
    # The wave of highest order sets the step; component by component the largest is not zero.
    contracts.assert_derivative(
        lambda t: values_of(descriptor, displaced(structure, t * direction)),
        tangent,
        step=2e-4 if getattr(descriptor, "radial_order", 0) > 12 else 1e-3,
        zero=zero,
    )


def test_products_are_adjoint(case: Case, rng: np.random.Generator) -> None:
    descriptor, structure, _ = case
    neighbours = descriptor.neighbours([structure])
    for _ in range(3):
        u = rng.normal(size=(len(structure), descriptor.size))
        v = rng.normal(size=(len(structure), 3))
        contracts.assert_adjoint(u, descriptor.jvp(neighbours, v), v, descriptor.vjp(neighbours, u)[0])


def test_jacobian_is_made_of_the_products(case: Case, rng: np.random.Generator) -> None:
    descriptor, structure, _ = case
    neighbours = descriptor.neighbours([structure])
    J = descriptor.jacobian(neighbours, 0)
    assert J.shape == (len(structure), descriptor.size, 3 * len(structure))
    v = rng.normal(size=(len(structure), 3))
    u = rng.normal(size=(len(structure), descriptor.size))
    scale = contracts.max_norm(descriptor.values(neighbours))
    contracts.assert_close(J @ v.ravel(), descriptor.jvp(neighbours, v), relative=1e-12, scale=scale)
    gradient = np.einsum("id,idx->x", u, J).reshape(-1, 3)
    contracts.assert_close(gradient, descriptor.vjp(neighbours, u)[0], relative=1e-12, scale=scale)


def test_strains_are_adjoint_to_virials(case: Case, rng: np.random.Generator) -> None:
    """A strain is the displacements it causes, for molecules; for crystals it changes the cell as well."""
    descriptor, structure, _ = case
    neighbours = descriptor.neighbours([structure, structure])
    u = rng.normal(size=(2 * len(structure), descriptor.size))
    v = rng.normal(size=(2 * len(structure), 3))
    strains = rng.normal(size=(2, 3, 3))
    gradient, virials = descriptor.vjp(neighbours, u)
    forward = descriptor.jvp(neighbours, v, strains)
    backward = np.concatenate([gradient.ravel(), virials.ravel()])
    contracts.assert_adjoint(u, forward, np.concatenate([v.ravel(), strains.ravel()]), backward)


def test_jacobian_with_strains(case: Case, rng: np.random.Generator) -> None:
    descriptor, structure, _ = case
    neighbours = descriptor.neighbours([structure])
    J = descriptor.jacobian(neighbours, 0, strained=True)
    np.testing.assert_array_equal(J[:, :, :-6], descriptor.jacobian(neighbours, 0))
    v, strain = rng.normal(size=(len(structure), 3)), rng.normal(size=6)
    expected = descriptor.jvp(neighbours, v, strain_matrices(strain[None]))
    scale = contracts.max_norm(descriptor.values(neighbours))
    contracts.assert_close(J @ np.concatenate([v.ravel(), strain]), expected, relative=1e-12, scale=scale)


def test_gradient_of_an_energy(case: Case, rng: np.random.Generator) -> None:
    descriptor, structure, zero = case
    contracts.assert_gradient(half_square(descriptor), structure, rng, zero=zero)


def test_virial_of_an_energy(case: Case, rng: np.random.Generator) -> None:
    descriptor, structure, _ = case
    zero = not descriptor.values(descriptor.neighbours([structure])).any()
    contracts.assert_virial(half_square(descriptor), structure, rng, zero=zero)


# Symmetries -------------------------------------------------------------------------------------------------------


def test_translation(case: Case, rng: np.random.Generator) -> None:
    contracts.assert_translation(half_square(case.descriptor), case.structure, rng)


def test_rotation(case: Case, rng: np.random.Generator) -> None:
    contracts.assert_rotation(half_square(case.descriptor), case.structure, rng)


def test_permutation(case: Case, rng: np.random.Generator) -> None:
    contracts.assert_permutation(half_square(case.descriptor), case.structure, rng)


def test_extensivity(case: Case) -> None:
    contracts.assert_extensive(half_square(case.descriptor), case.structure, case.descriptor.cutoff)


@pytest.mark.parametrize(
    ("name", "moved"),
    [
        ("12/4, three species", RADIAL),
        ("12/4, three species", ANGULAR),
        ("5/3, wide angular part", RADIAL),
        ("5/3, wide angular part", ANGULAR),
        ("20/none, two species", RADIAL),
    ],
)
def test_smooth_at_the_cutoffs(name: str, moved: float) -> None:
    descriptor = make_descriptor(name)

    def at_distance(r: float) -> tuple[Array, Array]:
        # The third atom stays within the angular cutoff of the first, and out of reach of the second.
        structure = Structure(
            descriptor.species[:2] + descriptor.species[:1], [[0, 0, 0], [r, 0, 0], [-1, 0.5, 0]]
        )
        neighbours = descriptor.neighbours([structure])
        return descriptor.values(neighbours)[0], descriptor.jacobian(neighbours, 0)[0]

    contracts.assert_smooth_at_cutoff(at_distance, moved, last=moved == RADIAL)


# Execution --------------------------------------------------------------------------------------------------------


def large_batch(descriptor: ChebyshevDescriptor) -> list[Structure]:
    """A cell of more than one piece of the scatter of gradients (512 atoms), and many small structures."""
    rng = np.random.default_rng(2)
    grid = np.stack(np.meshgrid(*[np.arange(n) * 2.4 for n in (9, 9, 8)], indexing="ij"), -1).reshape(-1, 3)
    positions = grid + rng.uniform(-0.4, 0.4, grid.shape)
    symbols = symbols_of(descriptor.species, len(grid))
    crystal = Structure(symbols, positions, np.diag([21.6, 21.6, 19.2]), [True] * 3)
    return [crystal, *(make_structure("molecule", descriptor.species, seed) for seed in range(20))]


@pytest.mark.parametrize(
    "name", ["12/4, three species", "density, three species", "symmetry functions, mixed"]
)
def test_number_of_threads_does_not_matter(
    name: str, monkeypatch: pytest.MonkeyPatch, rng: np.random.Generator
) -> None:
    descriptor = FACTORIES[name]()
    neighbours = descriptor.neighbours(large_batch(descriptor))
    u = rng.normal(size=(neighbours.n_atoms, descriptor.size))
    v = rng.normal(size=(neighbours.n_atoms, 3))
    contracts.assert_threads(
        lambda: [
            descriptor.values(neighbours),
            descriptor.jvp(neighbours, v),
            *descriptor.vjp(neighbours, u),
        ],
        monkeypatch,
    )
    contracts.assert_adjoint(u, descriptor.jvp(neighbours, v), v, descriptor.vjp(neighbours, u)[0])


@pytest.mark.parametrize("name", list(FACTORIES))
def test_bits_do_not_depend_on_where_arrays_lie(name: str, rng: np.random.Generator) -> None:
    descriptor = FACTORIES[name]()
    n = descriptor.neighbours([make_structure("triclinic", descriptor.species)])
    u = rng.normal(size=(n.n_atoms, descriptor.size))
    results = []
    for offset in range(4):
        vectors, cotangent = (
            np.empty(a.size + 4)[offset : offset + a.size].reshape(a.shape) for a in (n.vectors, u)
        )
        vectors[:], cotangent[:] = n.vectors, u
        kernel = _core.Neighbours(n.first_atom, n.first_pair, n.neighbour, vectors, n.species)
        results.append([descriptor.core.values(kernel, 1), *descriptor.core.vjp(kernel, cotangent, 1)])
    contracts.assert_same_bits(results)


def test_inputs_are_not_modified(rng: np.random.Generator) -> None:
    descriptor = make_descriptor("3/8, three channels")
    structure = make_structure("slab", descriptor.species)
    n = descriptor.neighbours([structure])
    u = rng.normal(size=(n.n_atoms, descriptor.size))
    v = rng.normal(size=(n.n_atoms, 3))
    inputs = [n.first_atom, n.first_pair, n.neighbour, n.vectors, n.species, u, v]
    inputs += [structure.positions, structure.cell]
    contracts.assert_inputs_kept(
        lambda: (
            descriptor.values(descriptor.neighbours([structure])),
            descriptor.jvp(n, v),
            descriptor.vjp(n, u),
            descriptor.jacobian(n, 0),
        ),
        inputs,
    )


# Settings and wrong input -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*SETTINGS, *DENSITIES, *SYMMETRIES])
def test_settings_survive_a_round_trip(name: str) -> None:
    descriptor = FACTORIES[name]()
    again = descriptor_from_dict(json.loads(json.dumps(descriptor_to_dict(descriptor))))
    assert again == descriptor
    structure = make_structure("molecule", descriptor.species)
    contracts.assert_same_bits([[values_of(descriptor, structure)], [values_of(again, structure)]])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"species": []}, "at least one element"),
        ({"species": ["C", "Xx"]}, "'Xx' is not a chemical element"),
        ({"species": ["C", "H", "C"]}, "listed twice"),
        ({"radial_order": -1}, "radial_order = -1"),
        ({"angular_order": -1}, "angular_order = -1"),
        ({"angular_order": 25}, "angular_order = 25"),
        ({"radial_cutoff": 0.0}, r"radial_cutoff = 0\.0"),
        ({"angular_cutoff": float("nan")}, "angular_cutoff: expected a finite number, got nan"),
        ({"weights": [1.0, 2.0, 3.0]}, r"weights: shape \(3,\)|weights: shape \(1, 3\)"),
        ({"weights": [1.0, float("inf")]}, "finite"),
    ],
)
def test_impossible_settings_are_refused(changes: dict[str, Any], message: str) -> None:
    settings: dict[str, Any] = {"species": ["C", "H"], **changes}
    with pytest.raises(ConfigError, match=message):
        ChebyshevDescriptor(settings.pop("species"), **settings)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"n_max": -1}, "n_max"),
        ({"l_max": 9}, "l_max"),
        ({"four_body_l": 1}, "four_body_l"),
        ({"angular_cutoff": 0.0}, "angular_cutoff"),
        ({"four_body_cutoff": -1.0}, "four_body_cutoff"),
        ({"decay": float("inf")}, "decay"),
        ({"weights": [[1.0]]}, r"weights: shape \(1, 1\)"),
        ({"weights": []}, "at least one channel"),
    ],
)
def test_impossible_settings_of_densities_are_refused(changes: dict[str, Any], message: str) -> None:
    settings: dict[str, Any] = {"species": ["C", "H"], **changes}
    with pytest.raises(ConfigError, match=message):
        DensityDescriptor(settings.pop("species"), **settings)


def test_unknown_element_is_named() -> None:
    with pytest.raises(DataError, match="element O is not among the species C, H"):
        ChebyshevDescriptor(["C", "H"]).neighbours([Structure(("C", "O"), [[0, 0, 0], [1.2, 0, 0]])])


def test_kernel_refuses_arrays_it_cannot_read() -> None:
    descriptor = make_descriptor("12/4, three species")
    n = descriptor.neighbours([make_structure("molecule", descriptor.species)])
    atoms, D = n.n_atoms, descriptor.size
    kernel, none = descriptor.core, np.zeros((0, 9))
    with pytest.raises(ValueError, match="strains"):
        kernel.jvp(n.core, np.zeros((atoms, 3)), np.zeros((2, 9)), 1)
    with pytest.raises(ValueError, match="direction"):
        kernel.jvp(n.core, np.zeros((atoms + 1, 3)), none, 1)
    with pytest.raises(ValueError, match="direction"):
        kernel.jvp(n.core, np.zeros((3, atoms)), none, 1)
    with pytest.raises(ValueError, match="cotangent"):
        kernel.vjp(n.core, np.zeros((atoms, D - 1)), 1)
    with pytest.raises(TypeError):
        kernel.jvp(n.core, np.zeros((atoms, 3), dtype=np.float32), none, 1)
    with pytest.raises((TypeError, ValueError)):
        kernel.jvp(n.core, np.zeros((atoms, 6))[:, :3], none, 1)  # rows with a gap between them
    with pytest.raises((TypeError, ValueError)):
        kernel.vjp(n.core, np.zeros((atoms, D + 2))[:, :D], 1)
    with pytest.raises(ValueError, match="out of range"):
        kernel.jacobian(n.core, 1, False)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"first_atom": np.array([0, 3])}, "first_atom"),
        ({"first_atom": np.array([], dtype=np.int64)}, "first_atom"),
        ({"first_pair": np.array([0, 2, 1])}, "first_pair"),
        ({"first_pair": np.array([0, 1])}, "first_pair"),
        ({"neighbour": np.array([1, 2], dtype=np.int32)}, "neighbour"),
        ({"vectors": np.zeros((3, 3))}, "vectors"),
        ({"first_atom": np.array([0, 1, 2])}, "neighbour"),  # a neighbour in another structure
    ],
)
def test_kernel_refuses_inconsistent_lists(changes: dict[str, Any], message: str) -> None:
    arrays: dict[str, Any] = {
        "first_atom": np.array([0, 2]),
        "first_pair": np.array([0, 1, 2]),
        "neighbour": np.array([1, 0], dtype=np.int32),
        "vectors": np.array([[1.0, 0, 0], [-1.0, 0, 0]]),
        "species": np.zeros(2, dtype=np.int32),
    }
    _core.Neighbours(*arrays.values())
    with pytest.raises(ValueError, match=message):
        _core.Neighbours(*(arrays | changes).values())


def test_kernel_refuses_unknown_species() -> None:
    species = np.array([0, 2], dtype=np.int32)
    first_pair, neighbour = np.zeros(3, dtype=np.int64), np.zeros(0, dtype=np.int32)
    lists = _core.Neighbours(np.array([0, 2]), first_pair, neighbour, np.zeros((0, 3)), species)
    kernel = _core.ChebyshevDescriptor(2, 5.0, 2, 4.0, np.ones((1, 2)))
    with pytest.raises(ValueError, match="species of atom 1"):
        kernel.values(lists, 1)
