"""Descriptors whose derivatives are kept for one batch: the same products as those of the descriptor itself."""

from __future__ import annotations

import numpy as np
import pytest

import samples
from gprann import ChebyshevDescriptor, DensityDescriptor, _core, compress_descriptor
from gprann.arrays import Array
from gprann.data.structure import Dataset
from gprann.descriptors import Descriptor
from gprann.descriptors import base as descriptors

DATA = Dataset([*samples.crystals(3, size=0.1), *samples.waters(3)])
DENSITY = DensityDescriptor(DATA.species, n_max=3, l_max=2, four_body=1, four_body_l=2)
DESCRIPTORS = {
    "chebyshev": ChebyshevDescriptor(DATA.species),
    "density": DENSITY,
    "projected": compress_descriptor(DENSITY, DATA, most=12),
}


@pytest.mark.parametrize("name", DESCRIPTORS)
def test_products_are_those_of_the_descriptor(name: str) -> None:
    descriptor = DESCRIPTORS[name]
    neighbours = descriptor.neighbours(DATA)
    stored = _core.StoredDescriptor(descriptor.core, neighbours.core, 2)
    rng = np.random.default_rng(0)
    direction, strains = rng.normal(size=(neighbours.n_atoms, 3)), rng.normal(size=(len(DATA), 9))
    cotangent = rng.normal(size=(neighbours.n_atoms, descriptor.size))

    def products(core: _core.Descriptor) -> list[Array]:
        rows = [core.jacobian(neighbours.core, index, True) for index in range(len(DATA))]
        return [
            core.values(neighbours.core, 1),
            core.jvp(neighbours.core, direction, strains, 1),
            core.jvp(neighbours.core, direction, np.zeros((0, 9)), 2),
            *core.vjp(neighbours.core, cotangent, 1),
            *rows,
        ]

    for own, expected in zip(products(stored), products(descriptor.core), strict=True):
        np.testing.assert_allclose(own, expected, rtol=1e-9, atol=1e-10 * np.abs(expected).max())


def test_only_costly_descriptors_of_small_sets_are_stored(monkeypatch: pytest.MonkeyPatch) -> None:
    def is_stored(descriptor: Descriptor) -> bool:
        return isinstance(descriptor.core_for(descriptor.neighbours(DATA)), _core.StoredDescriptor)

    assert [name for name, descriptor in DESCRIPTORS.items() if is_stored(descriptor)] == [
        "density",
        "projected",
    ]
    monkeypatch.setattr(descriptors, "MOST_STORED", 1000)
    assert not is_stored(DENSITY)


def test_another_batch_is_refused() -> None:
    neighbours, others = (DENSITY.neighbours(part) for part in (DATA, DATA[:3]))
    stored = _core.StoredDescriptor(DENSITY.core, neighbours.core, 1)
    with pytest.raises(ValueError, match="stored for other structures"):
        stored.values(others.core, 1)
