"""Memory of a fit: that of its real features, and the search for hyperparameters within the budget that is given."""

from __future__ import annotations

import tracemalloc
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import samples
from gprann import Surrogate, examples
from gprann.config import Config
from gprann.data.structure import Dataset, Structure
from gprann.descriptors import ChebyshevDescriptor
from gprann.errors import ConfigError
from gprann.pipeline.inputs import surrogate_memory
from gprann.runtime.resources import GIB, one_blas_thread
from gprann.surrogate import AtomsKernel, AutoSolver, Cholesky, PairsKernel, memory, memory_needed
from gprann.surrogate.hyperparameters.search import SEARCHES, Grid, HyperparameterSearch, SearchName
from gprann.surrogate.kernels.base import Fingerprint
from gprann.surrogate.memory import features_per_atom, structures_within
from gprann.surrogate.observations import observe

a, b, _ = samples.TRICLINIC
CELLS = Structure(
    samples.CRYSTAL.symbols * 4,
    np.concatenate([samples.CRYSTAL.positions + shift for shift in (0 * a, a, b, a + b)]),
    cell=samples.TRICLINIC * [[2.0], [2.0], [1.0]],
    pbc=True,
)
"""Large enough for the matrices to take far more memory than the structures."""


def fitted(fingerprint: Fingerprint, data: Dataset) -> Fingerprint:
    fingerprint.fit(data)
    return fingerprint


CHEBYSHEV = ChebyshevDescriptor.for_kernel(("H", "O"))


# Features ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fingerprint", "expected"),
    [
        (AtomsKernel(descriptor=CHEBYSHEV).fingerprint(), 36),
        (AtomsKernel(descriptor=samples.DESCRIPTOR).fingerprint(), samples.DESCRIPTOR.size),
        (PairsKernel().fingerprint(), 11 / 2),
    ],
)
def test_memory_is_that_of_the_jacobians(fingerprint: Fingerprint, expected: float) -> None:
    data = samples.rattled(CELLS, 3, 0.1, 0, "cells")
    fitted(fingerprint, data)
    features = features_per_atom(data, fingerprint)
    assert features == expected
    size = sum(jacobian.size for jacobian in fingerprint.jacobians(data))
    # They have 3 N columns, less three for the translations.
    of_matrix = 8 * ((3 * data.n_atoms + 1).sum()) ** 2
    assert memory_needed(data, features=features) * GIB - of_matrix == pytest.approx(8 * size * 36 / 33)
    for solver in ("conjugate_gradient", "inducing"):
        assert memory_needed(data, solver, features=2 * features) > memory_needed(
            data, solver, features=features
        )


def test_the_solver_is_chosen_by_the_features_there_are() -> None:
    """A single element has half of the features of several, so that the matrix fits into less."""
    data = examples.hydrogen(20)
    fingerprint = fitted(AtomsKernel(descriptor=ChebyshevDescriptor(["H"])).fingerprint(), data)
    less, more = memory_needed(data, features=18), memory_needed(data)
    assert less < 0.9 * more
    assert AutoSolver().plan(data, fingerprint, 0.5 * (less + more)).solver == Cholesky()
    with pytest.raises(ConfigError, match="solver 'cholesky' needs about"):
        Cholesky().plan(data, fingerprint, 0.99 * less)


def test_a_run_is_judged_by_its_kernel() -> None:
    data = samples.rattled(CELLS, 5, 0.1, 0, "cells")

    def needed(**surrogate: Any) -> float:
        return surrogate_memory(
            Config.model_validate({"data": {"train": "x"}, "surrogate": surrogate}), data, 10
        )

    assert needed() == memory_needed(data, features=memory.FEATURES)
    assert needed(kernel="pairs") == memory_needed(data, features=5.5)
    assert needed(kernel="cartesian") == memory_needed(data, features=3)
    size = ChebyshevDescriptor(["H", "O"], radial_order=30, weights=[[-1.0, 1.0]]).size
    assert needed(descriptor={"radial_order": 30}) == memory_needed(data, features=size)


# The search --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", SEARCHES)
@pytest.mark.parametrize(
    "fingerprint",
    [AtomsKernel(descriptor=CHEBYSHEV).fingerprint(), PairsKernel().fingerprint()],
    ids=["atoms", "pairs"],
)
def test_the_search_stays_within_its_budget(fingerprint: Fingerprint, method: SearchName) -> None:
    """Without the limit it takes 60 MiB and more."""
    data, budget = samples.rattled(CELLS, 60, 0.1, 0, "cells"), 0.012
    search = HyperparameterSearch(fitted(fingerprint, data), (None, None, None), method, 0, budget, Grid())
    mean = float(data.energies.mean())
    tracemalloc.start()
    try:
        with one_blas_thread():
            search.find(data, mean)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert 0.2 * budget < peak / GIB < budget


@pytest.mark.parametrize("options", [{"kernel": "auto"}, {"relevance": True}])
def test_other_searches_stay_within_the_budget(
    options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the kernel, and of the relevance of components."""
    data, budget = samples.rattled(CELLS, 60, 0.1, 0, "cells"), 0.02
    seen: list[int] = []

    def watched(fingerprint: Fingerprint, part: Dataset, *more: Any) -> Any:
        seen.append(len(part))
        return observe(fingerprint, part, *more)

    for module in ("nested", "kernel_selection", "length_scales"):
        monkeypatch.setattr(f"gprann.surrogate.hyperparameters.{module}.observe", watched)
    options = {**options, "descriptor": CHEBYSHEV, "hyperparameters": "likelihood"}
    Surrogate(**options, memory=budget, solver="inducing", inducing=2).fit(data)
    assert len(seen) > 1
    assert min(seen) >= 2
    assert max(seen) ** 2 * 8 * 4 * 37**2 < budget * GIB


@given(budget=st.floats(1e-6, 1e3), matrices=st.integers(1, 4), features=st.floats(1, 1e3))
def test_structures_within_a_budget(budget: float, matrices: int, features: float) -> None:
    data = Dataset([CELLS] * 50)
    count = structures_within(data, budget, matrices, features=features)
    assert 2 <= count <= 50

    def needed(n: int) -> float:
        squares, jacobians = 8 * matrices * (37 * n) ** 2, 2 * n * 8 * features * 12 * 36
        return (squares + jacobians + n * 12 * (4736 + 96 * features)) / GIB + 2**-8

    if count > 2:
        assert needed(count) <= budget * (1 + 1e-9)
    if count < 50:
        assert needed(count + 1) > budget * (1 - 1e-9)


def test_with_memory_enough_subsets_are_as_large_as_the_search_wants() -> None:
    """The largest of all takes eight gibibytes."""
    for atoms in (1, 12, 100):
        structure = Structure(("H",) * atoms, np.arange(3.0 * atoms).reshape(-1, 3))
        data = Dataset([structure] * 12000)
        for rows, matrices in (
            (memory.SMALL_ROWS, 4),
            (memory.LEAVE_OUT_ROWS, 4),
            (memory.HOLD_OUT_ROWS, 1),
        ):
            assert structures_within(data, 10.0, matrices) >= memory.structures_for(data, rows)
