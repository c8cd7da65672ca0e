"""The kernel that is chosen by structures held out, and what is said about the choice."""

from __future__ import annotations

import json
import logging
from typing import Any

import numpy as np
import pytest

import contracts
import samples
from gprann.config import SurrogateSection
from gprann.data.structure import Dataset
from gprann.descriptors import ChebyshevDescriptor
from gprann.errors import ConfigError, DataError
from gprann.surrogate import CartesianKernel, PairsKernel, SoapKernel, SoapOptions, Surrogate
from gprann.surrogate.hyperparameters.kernel_selection import select_kernel
from gprann.surrogate.memory import random_subset

SOAP: Any = {"r_cut": 3.5, "n_max": 3, "l_max": 2}


def test_the_best_kernel_is_chosen_and_the_reason_given(caplog: pytest.LogCaptureFixture) -> None:
    data, query = samples.waters(12), samples.waters(20, seed=7)
    with caplog.at_level(logging.INFO, "gprann"):
        chosen = Surrogate("auto").fit(data)
    selection = chosen.selection
    assert selection is not None
    assert set(selection.candidates) == {"atoms", "pairs", "cartesian"}
    scores = {name: candidate.score for name, candidate in selection.candidates.items()}
    assert chosen.kernel.name == selection.kernel == min(scores, key=lambda name: scores[name])
    assert f"kernel '{chosen.kernel.name}' chosen; of 12 structures held out" in caplog.text
    errors = {
        name: np.abs(Surrogate(name).fit(data).predict(query).energy - query.energies).mean()
        for name in scores
    }
    assert errors[chosen.kernel.name] < 2 * min(errors.values())
    same = Surrogate(chosen.kernel.name).fit(data).predict(query)
    contracts.assert_same_bits([[chosen.predict(query).energy], [same.energy]])
    plain = chosen.to_dict()
    assert plain["kernel"] == chosen.kernel.name
    assert json.loads(json.dumps(plain)) == plain
    assert plain["selection"]["candidates"]["cartesian"]["energy_mae"] > 0


def test_kernels_that_do_not_apply_are_left_out() -> None:
    data = samples.waters(6)
    mixed = Dataset([*data[:5], contracts.reordered(data[5], np.array([1, 0, 2]))])
    surrogate = Surrogate("auto").fit(mixed)
    assert surrogate.kernel.name == "atoms"
    assert "this kernel needs one order of atoms" in surrogate.selection.refused["pairs"]
    assert "'pairs' does not apply" in surrogate.selection.reason()
    fingerprints = {"pairs": PairsKernel().fingerprint(), "cartesian": CartesianKernel().fingerprint()}
    with pytest.raises(DataError, match=r"no kernel applies to the training set: .*one order of atoms"):
        select_kernel(fingerprints, mixed)


def test_a_single_structure_gets_the_first_kernel() -> None:
    surrogate = Surrogate("auto").fit(samples.waters(1))
    assert surrogate.kernel.name == "atoms"
    assert surrogate.selection.candidates == {}
    assert surrogate.selection.reason()


def test_the_choice_is_made_anew_with_every_fit() -> None:
    surrogate = Surrogate("auto").fit(samples.waters(5))
    atom = samples.waters(2)[0].replace(symbols=("O",), positions=np.zeros((1, 3)), forces=np.zeros((1, 3)))
    surrogate.fit(Dataset([atom, atom]))
    assert "pairs" in surrogate.selection.refused
    assert Surrogate("pairs").selection is None


def test_options_of_all_candidates_are_checked() -> None:
    with pytest.raises(ConfigError, match=r"exponent = -1"):
        Surrogate("auto", exponent=-1.0)
    with pytest.raises(ConfigError, match=r"r_cut = 0\.5"):
        Surrogate("auto", soap={"r_cut": 0.5})


@pytest.mark.parametrize("by_configuration", [False, True])
def test_soap_is_a_candidate_if_its_settings_are_given(by_configuration: bool) -> None:
    pytest.importorskip("dscribe")
    data = samples.waters(8)
    if by_configuration:
        surrogate = SurrogateSection.model_validate({"kernel": "auto", "soap": SOAP}).build(data.species, 0)
    else:
        surrogate = Surrogate("auto", soap=SOAP)
    selection = surrogate.fit(data).selection
    assert selection is not None
    assert set(selection.candidates) == {"atoms", "pairs", "cartesian", "soap"}
    assert surrogate.kernel.name == min(
        selection.candidates, key=lambda name: selection.candidates[name].score
    )
    (alone,) = select_kernel(
        {"soap": SoapKernel(soap=SoapOptions(**SOAP)).fingerprint()},
        random_subset(data, 0, 1.0),
    ).candidates.values()
    assert alone == selection.candidates["soap"]


def test_soap_is_chosen_where_it_is_best() -> None:
    """The descriptor of `atoms` is blind, and the atoms stand in no order for the other kernels."""
    pytest.importorskip("dscribe")
    data, query = samples.waters(8), samples.waters(4, seed=7)
    mixed = Dataset([*data[:7], contracts.reordered(data[7], np.array([1, 0, 2]))])
    blind = ChebyshevDescriptor(["H", "O"], radial_order=1, radial_cutoff=0.5, angular_order=None)
    chosen = Surrogate("auto", soap=SOAP, descriptor=blind).fit(mixed)
    assert chosen.selection is not None
    assert set(chosen.selection.refused) == {"pairs", "cartesian"}
    assert chosen.kernel.name == chosen.to_dict()["kernel"] == "soap"
    same = Surrogate("soap", soap=SOAP).fit(mixed)
    contracts.assert_same_bits([[s.predict(query).energy] for s in (chosen, same)])


def test_kernels_are_compared_at_the_hyperparameters_that_are_given() -> None:
    data = samples.waters(8)
    free = Surrogate("auto").fit(data).selection
    given = Surrogate("auto", length=0.6, force_noise=1e-2).fit(data).selection
    assert free is not None
    assert given is not None
    assert all(given.candidates[name].score > free.candidates[name].score + 0.1 for name in free.candidates)
