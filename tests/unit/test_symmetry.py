"""Symmetry functions: hand values, n2p2's and dscribe's numbers, n2p2's settings file, and wrong input."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase.units import Bohr

import contracts
from gprann import SymmetryFunctionDescriptor
from gprann.data.structure import Structure
from gprann.descriptors.base import Descriptor
from gprann.errors import ConfigError, DataError
from reference.symmetry_oracle import symmetry_oracle

WATER = Path(__file__).parents[1] / "reference" / "water_input.nn"
TRIANGLE = Structure(("O", "H", "H"), [[0, 0, 0], [1.0, 0, 0], [0, 1.2, 0]])
ALL = ("cosine", "tanhu", "tanh", "exp", "poly1", "poly2", "poly3", "poly4")


def one_function(row: list[float], **options: Any) -> SymmetryFunctionDescriptor:
    return SymmetryFunctionDescriptor(["O", "H"], functions=[row], **options)


def values_of(descriptor: Descriptor, structure: Structure) -> contracts.Array:
    return descriptor.values(descriptor.neighbours([structure]))


def test_hand_values() -> None:
    def fade(r: float) -> float:
        return 0.5 * (math.cos(math.pi * r / 4.0) + 1.0)

    third = math.sqrt(1.0 + 1.2**2)
    radial = math.exp(-0.5 * 0.9**2) * fade(1.0) + math.exp(-0.5 * 1.1**2) * fade(1.2)
    wide = 2.0**-1.5 * math.exp(-0.3 * (1.0 + 1.2**2)) * fade(1.0) * fade(1.2)  # a right angle
    narrow = wide * math.exp(-0.3 * third**2) * fade(third)
    for row, expected in (
        ([0, 2, 1, 1, 0.5, 0.1, 0, 1, 4.0], radial),
        ([0, 9, 1, 1, 0.3, 0.0, -1, 2.5, 4.0], wide),
        ([0, 3, 1, 1, 0.3, 0.0, 1, 2.5, 4.0], narrow),
    ):
        assert values_of(one_function(row), TRIANGLE)[:, 0] == pytest.approx([expected, 0, 0], rel=1e-14)


def test_cutoff_functions_have_the_values_of_n2p2() -> None:
    """Those of n2p2's own unit test: cutoff 3, inner cutoff 0.2, at 0.8 of the cutoff."""
    expected = [
        1.4644660940672610e-01,
        7.6891537120697701e-03,
        1.7406350897769030e-02,
        2.7645304662956416e-01,
        1.5624999999999989e-01,
        1.0351562500000003e-01,
        7.0556640624999140e-02,
    ]
    pair = Structure(("O", "H"), [[0, 0, 0], [2.4, 0, 0]])
    for name, value in zip(ALL[:7], expected, strict=True):
        inner = 0.0 if "tanh" in name else 0.2
        descriptor = one_function([0, 2, 1, 1, 0, 0, 0, 1, 3.0], cutoff_function=name, inner_cutoff=inner)
        assert values_of(descriptor, pair)[0, 0] == pytest.approx(value, rel=1e-13)


@pytest.mark.parametrize("name", ALL)
def test_cutoff_functions(name: str) -> None:
    """Values of the oracle and slopes of differences, within and beyond the inner cutoff."""
    inner = 0.0 if "tanh" in name else 0.3
    row = [0.0, 2, 1, 1, 0.1, 0.2, 0, 1, 3.0]
    descriptor = one_function(row, cutoff_function=name, inner_cutoff=inner)
    for r in (0.6, 1.4, 2.7, 2.95):
        pair = Structure(("O", "H"), [[0, 0, 0], [r, 0, 0]])
        expected = symmetry_oracle(pair, ["O", "H"], [row], name, inner)
        np.testing.assert_allclose(values_of(descriptor, pair), expected, rtol=1e-12, atol=3e-14)
        direction = np.array([[0.0, 0, 0], [1.0, 0, 0]])
        contracts.assert_derivative(
            lambda t, pair=pair, direction=direction: values_of(
                descriptor, contracts.displaced(pair, t * direction)
            ),
            descriptor.jvp(descriptor.neighbours([pair]), direction),
        )


@pytest.mark.parametrize("kind", [3, 9])
@pytest.mark.parametrize("reach", [2.2, 3.0])
def test_smooth_at_the_cutoff(kind: int, reach: float) -> None:
    """The side of a triangle passes through the cutoff; with type 3 also the one of the two neighbours."""
    descriptor = one_function([0, kind, 1, 1, 0.1, 0.0, 1, 2, reach])

    def at_distance(r: float) -> tuple[contracts.Array, contracts.Array]:
        structure = Structure(("O", "H", "H"), [[0, 0, 0], [0, 1.0, 0], [0, 1.0 - r, 0.3]])
        neighbours = descriptor.neighbours([structure])
        return descriptor.values(neighbours)[0], descriptor.jacobian(neighbours, 0)[0]

    moved = math.sqrt(reach**2 - 0.3**2) + (0.0 if kind == 3 else 1.0)
    contracts.assert_smooth_at_cutoff(at_distance, moved)


def test_values_of_dscribe() -> None:
    """An independent program: its G4 is narrow, its G5 wide; the cosine is its only cutoff function."""
    acsf = pytest.importorskip("dscribe.descriptors").ACSF
    parameters = [[0.2, 1.0, 1.0], [0.1, 4.0, -1.0]]
    options = {"g2_params": [[0.5, 0.0], [2.0, 1.0]], "g4_params": parameters, "g5_params": parameters}
    program = acsf(species=["H", "O"], r_cut=4.0, **options)
    structure = contracts.molecule(("O", "H", "H", "O", "H", "H"), np.random.default_rng(3))
    expected = program.create(structure.to_ase())
    rows: list[list[float]] = []
    for centre in (0, 1):
        for first in (0, 1):  # of each element the plain sum of cutoff functions G1, then G2
            rows.append([centre, 2, first, first, 0, 0, 0, 1, 4.0])
            rows += [[centre, 2, first, first, *g, 0, 1, 4.0] for g in options["g2_params"]]
        for first, second in ((0, 0), (1, 0), (1, 1)):
            for kind in (3, 9):
                rows += [[centre, kind, first, second, eta, 0, s, z, 4.0] for eta, z, s in parameters]
    descriptor = SymmetryFunctionDescriptor(["H", "O"], functions=rows)
    np.testing.assert_allclose(values_of(descriptor, structure), expected, rtol=1e-10, atol=1e-13)


def test_water_set_of_n2p2() -> None:
    descriptor = SymmetryFunctionDescriptor.from_n2p2(WATER, length_unit="bohr")
    assert {element: len(own) for element, own in descriptor.components.items()} == {"H": 27, "O": 30}
    assert descriptor.size == 30
    assert descriptor.cutoff == pytest.approx(12 * Bohr)
    values = values_of(descriptor, TRIANGLE)
    assert not values[1:, 27:].any()
    scaled = TRIANGLE.replace(positions=TRIANGLE.positions / Bohr)  # the same file in units of its own
    atomic = SymmetryFunctionDescriptor.from_n2p2(WATER, length_unit="angstrom")
    np.testing.assert_allclose(values_of(atomic, scaled), values, rtol=1e-12)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("symfunction_short H 12 0.1 0.0 12.0", "line 3: symmetry function of type 12 is not supported"),
        ("symfunction_short H", "line 3: symmetry function of type none"),
        ("symfunction_short H 2 C 0.1 0.0 12.0", "line 3: 'C' is not among the elements H O"),
        ("symfunction_short H 2 O 0.1 0.0", "line 3: expected 3 to 3 finite numbers"),
        ("symfunction_short H 3 O H 0.1 1.0 1.0 nan", "line 3: expected 4 to 5 finite numbers"),
        ("symfunction_short H 2 O 0.1 x 12.0", "line 3: expected numbers"),
        ("symfunction_short H 3 O H 0.1 1.0 0.5 12.0", "line 3: expected eta >= 0"),
        ("global_symfunction_short 2 0.1 0.0 12.0", "line 3: global_symfunction_short is not supported"),
        ("symfunction_short H 2 H 0.1 0 12\ncutoff_type 1", "line 4: cutoff_type stands twice"),
        ("", "no line symfunction_short"),
    ],
)
def test_bad_settings_files(line: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "input.nn"
    path.write_text(f"elements O H # comment\ncutoff_type 1\n{line}\n", encoding="utf-8")
    with pytest.raises(DataError, match=message) as error:
        SymmetryFunctionDescriptor.from_n2p2(path, length_unit="bohr")
    assert str(path) in str(error.value)


@pytest.mark.parametrize(
    ("head", "message"),
    [
        ("elements H Xx\ncutoff_type 1", "line 1: 'Xx'"),
        ("cutoff_type 1", "expected one line 'elements', found 0"),
        ("elements H", "no cutoff_type"),
        ("elements H\ncutoff_type 0", "line 2: cutoff_type 0 is not supported"),
        ("elements H\ncutoff_type 1 1.5", "line 2: inner cutoff 1.5"),
    ],
)
def test_bad_heads_of_settings_files(head: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "input.nn"
    path.write_text(f"{head}\nsymfunction_short H 2 H 0.1 0.0 12.0\n", encoding="utf-8")
    with pytest.raises(DataError, match=message):
        SymmetryFunctionDescriptor.from_n2p2(path, length_unit="bohr")


def test_inner_cutoff_is_read_from_the_settings_file(tmp_path: Path) -> None:
    path = tmp_path / "input.nn"
    path.write_text("elements H\ncutoff_type 5 0.25\nsymfunction_short H 2 H 0.1 0 5\n", encoding="utf-8")
    descriptor = SymmetryFunctionDescriptor.from_n2p2(path, length_unit="angstrom")
    assert (descriptor.cutoff_function, descriptor.inner_cutoff) == ("poly1", 0.25)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"radial": 0, "angular": 0}, "at least one function"),
        ({"nearest": 7.0}, "nearest = 7.0"),
        ({"zetas": [0.5]}, "zeta >= 1"),
        ({"functions": [[0, 2, 1]]}, r"functions: shape \(1, 3\)"),
        ({"functions": [[0, 4, 1, 1, 0.1, 0, 0, 1, 4]]}, "type must be 2, 3 or 9"),
        ({"functions": [[0, 2, 2, 2, 0.1, 0, 0, 1, 4]]}, "no such species"),
        ({"functions": [[0, 2, 1, 1, 0.1, 0, 0, 1, -4]]}, "cutoff must be positive"),
        ({"functions": [[0, 2, 1, 1, 0.1, 0, 0, 1, 4]], "radial": 3}, "radial: options of the rule"),
        ({"cutoff_function": "tanh", "inner_cutoff": 0.1}, "inner_cutoff = 0.1"),
        ({"cutoff_function": "hard"}, "cutoff_function"),
    ],
)
def test_impossible_settings_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        SymmetryFunctionDescriptor(["O", "H"], **options)
