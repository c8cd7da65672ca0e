"""Leading directions of descriptors and of surrogates."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import samples
from gprann import DensityDescriptor, ProjectedDescriptor, compress_descriptor, compress_surrogate, examples
from gprann.data.structure import Dataset
from gprann.descriptors import projected
from gprann.errors import ConfigError
from gprann.surrogate import Surrogate

FIXED: dict[str, Any] = {"length": 8.0, "energy_noise": 1e-8, "force_noise": 1e-8}


def test_distances_are_kept() -> None:
    """Without tolerance nothing is lost: the kernel sees the same distances as of the scaled components."""
    data = samples.waters(30)
    base = DensityDescriptor(["H", "O"], n_max=2, l_max=2, four_body=0)
    few = compress_descriptor(base, data, tolerance=0.0)
    neighbours = base.neighbours(data)
    G, g, kinds = base.values(neighbours), few.values(neighbours), neighbours.species
    for kind in (0, 1):
        own = G[kinds == kind]
        deviations = np.zeros((2, base.size))
        deviations[kind] = own.std(axis=0)
        scaled = own / base.kernel_scales(deviations)[kind]
        expected = np.linalg.norm(scaled[:, None] - scaled[None], axis=2)
        found = np.linalg.norm(g[kinds == kind][:, None] - g[kinds == kind][None], axis=2)
        np.testing.assert_allclose(found, expected, atol=1e-6 * expected.max())


def test_tolerance_and_number_of_features() -> None:
    data = samples.waters(20)
    base = DensityDescriptor(["H", "O"])
    sizes = [compress_descriptor(base, data, tolerance=t).size for t in (1e-2, 1e-4, 1e-8)]
    assert sizes == sorted(sizes)
    assert sizes[0] < sizes[2]
    assert compress_descriptor(base, data, most=5).size == 5
    assert compress_descriptor(base, data, seed=1) == compress_descriptor(base, data, seed=1)


def test_features_of_a_surrogate_carry_its_energy() -> None:
    """Moving an environment across the features left out hardly changes the energy."""
    data = samples.waters(30)
    surrogate = Surrogate(**FIXED).fit(data)
    few = compress_surrogate(surrogate, n_features=6)
    assert few.size == 6
    fingerprint = surrogate.fingerprint
    rows = fingerprint.rows(data)
    slopes, kinds = surrogate.feature_slopes(rows), rows.kinds()
    for kind in (0, 1):
        own = slopes[kinds == kind]
        spectrum = np.linalg.eigvalsh(own.T @ own)[::-1]
        assert spectrum[6:].sum() < 0.05 * spectrum.sum()


@pytest.mark.parametrize(("options", "message"), [({"tolerance": 1.0}, "tolerance"), ({"most": 0}, "most")])
def test_impossible_options_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        compress_descriptor(DensityDescriptor(["H", "O"]), samples.waters(3), **options)


def test_only_kernels_of_atoms_have_features() -> None:
    surrogate = Surrogate(kernel="pairs", **FIXED).fit(samples.waters(5))
    with pytest.raises(ConfigError, match="only surrogates with the kernel 'atoms'"):
        compress_surrogate(surrogate)


def test_shapes_that_do_not_fit_are_refused() -> None:
    base = DensityDescriptor(["H"])
    with pytest.raises(ConfigError, match="matrices"):
        ProjectedDescriptor(["H"], base=base, matrices=np.zeros((1, 3, 2)), offsets=np.zeros((1, base.size)))
    with pytest.raises(ConfigError, match="species"):
        ProjectedDescriptor(
            ["O"], base=base, matrices=np.zeros((1, base.size, 2)), offsets=np.zeros((1, base.size))
        )


def test_rare_elements_have_features(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of many structures a random part counts, and every element with it."""
    monkeypatch.setattr(projected, "_ATOMS", 12)
    data = Dataset([*samples.waters(10), *examples.hydrogen(3), samples.chain("CH")])
    few = compress_descriptor(DensityDescriptor(data.species, n_max=2, l_max=2), data)
    assert np.abs(few.matrices[data.species.index("C")]).max() > 0
