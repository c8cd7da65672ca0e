"""Ways to displace atoms: sizes, normal modes, dynamics, the automatic choice, and copies that come too close."""

from __future__ import annotations

import logging
import re
from typing import Any

import numpy as np
import pytest
from ase.units import kB

import samples
from gprann import augment, examples, taylor_augment
from gprann.augmentation import surrogate_hessian
from gprann.augmentation.displacements import DistanceLimits, atom_sizes, automatic_copies, within_spheres
from gprann.augmentation.policies import CopyOptions, Sampler
from gprann.augmentation.thermal import ThermalCopies, normal_modes
from gprann.config import AugmentationSection, SurrogateSection
from gprann.data.structure import Dataset, Structure
from gprann.errors import ConfigError, DataError
from gprann.pipeline import augment_data
from gprann.surrogate import Surrogate

FIXED: dict[str, Any] = {"kernel": "pairs", "length": 5.0, "energy_noise": 1e-8, "force_noise": 1e-8}


@pytest.fixture(scope="module")
def waters() -> Dataset:
    return samples.waters(16)


@pytest.fixture(scope="module")
def surrogate(waters: Dataset) -> Surrogate:
    return Surrogate(**FIXED).fit(waters)


def shifts(augmented: Dataset, data: Dataset) -> np.ndarray:
    """Displacements of the copies (n, M, N, 3) of structures with as many copies each."""
    copies = np.array([copy.positions for copy in augmented[len(data) :]])
    return copies.reshape(len(data), -1, *copies.shape[1:]) - np.array([s.positions for s in data])[:, None]


def sized(options: CopyOptions, data: Dataset, surrogate: Surrogate) -> CopyOptions:
    sampler = Sampler(options, data, surrogate)
    sampler.find_size()
    sampler.find_number()
    return sampler.options


# Sizes -------------------------------------------------------------------------------------------------------------


def test_every_element_has_its_own_displacement(waters: Dataset, surrogate: Surrogate) -> None:
    moved = shifts(augment(waters, surrogate, copies=100, displacement={"H": 0.03, "O": 0.01}), waters)
    # 4800 numbers for oxygen: the standard error of their standard deviation is 1 %.
    assert moved[:, :, 0].std() == pytest.approx(0.01, rel=0.05)
    assert moved[:, :, 1:].std() == pytest.approx(0.03, rel=0.05)
    still = shifts(augment(waters, surrogate, copies=3, displacement={"H": 0.03, "O": 0.0}), waters)
    assert not still[:, :, 0].any()
    alike = augment(waters, surrogate, copies=3, displacement={"H": 0.03, "O": 0.03})
    plain = augment(waters, surrogate, copies=3, displacement=0.03)
    np.testing.assert_array_equal(shifts(alike, waters), shifts(plain, waters))


def test_an_element_without_a_size_is_named() -> None:
    with pytest.raises(
        DataError, match="waters, structure 0: displacement gives no size for O; valid names: H"
    ):
        augment(samples.waters(3), displacement={"H": 0.1}, **FIXED)


def test_a_size_for_an_element_that_is_not_there_is_refused() -> None:
    sizes = {"H": 0.02, "O": 0.02, "C": 0.02}
    message = (
        r"displacement = .*: C has no effect, no structure has this element \(elements: H, O\); leave it out"
    )
    with pytest.raises(ConfigError, match=message):
        augment(samples.waters(3), displacement=sizes, **FIXED)
    with pytest.raises(ConfigError, match=message):
        taylor_augment(samples.waters(3), displacement=sizes)
    with pytest.raises(ConfigError, match=message):
        augment_data(samples.waters(3), AugmentationSection(displacement=sizes), SurrogateSection())


def test_only_atoms_with_large_forces_move(waters: Dataset, surrogate: Surrogate) -> None:
    forces = np.linalg.norm(np.array(waters.forces), axis=2)
    limit = float(np.median(forces))
    for policy in ("gaussian", "sphere", "normal_modes", "md"):
        options: Any = {"policy": policy, "copies": 2, "min_force": limit, "threshold": 1e3}
        if policy == "md":
            options["steps"] = 4
        copies = augment(waters, surrogate, **options)[len(waters) :]
        assert len(copies) == 2 * np.count_nonzero((forces >= limit).any(axis=1))
        for copy in copies:
            parent = waters[copy.origin.index]
            moved = np.any(copy.positions != parent.positions, axis=1)
            np.testing.assert_array_equal(moved, forces[copy.origin.index] >= limit)
    assert list(augment(waters, surrogate, min_force=1e6)) == list(waters)


def test_min_force_needs_forces() -> None:
    with pytest.raises(DataError, match="structure 0: has no forces, which min_force needs"):
        atom_sizes(Structure(("H",), [[0, 0, 0]]), 0.1, 0.5)


def test_copies_within_spheres(waters: Dataset, surrogate: Surrogate) -> None:
    moved = shifts(augment(waters, surrogate, policy="sphere", copies=5, displacement=0.05), waters)
    for number, own in enumerate(moved):
        np.testing.assert_allclose(own, within_spheres(3, 5, 0.05, (0, number)), atol=1e-15)
    sizes = np.array([0.0, 0.1, 0.0, 0.2])
    some = within_spheres(4, 50, sizes, (0, 0))
    assert not some[:, sizes == 0].any()
    np.testing.assert_allclose(some.sum(axis=1), 0, atol=1e-15)


# Hessian -----------------------------------------------------------------------------------------------------------


def test_hessian_is_that_of_the_forces(waters: Dataset, surrogate: Surrogate) -> None:
    """Central differences: the error falls to a quarter when the step is halved."""
    exact = surrogate_hessian(surrogate, waters[0], step=1e-3)
    errors = [
        np.abs(surrogate_hessian(surrogate, waters[0], step=h) - exact).max() for h in (0.08, 0.04, 0.02)
    ]
    assert errors[1] < 0.3 * errors[0]
    assert errors[2] < 0.3 * errors[1]
    np.testing.assert_array_equal(exact, exact.T)
    translations = np.tile(np.eye(3), (3, 1))
    np.testing.assert_allclose(exact @ translations, 0, atol=1e-5 * np.abs(exact).max())


def test_hessian_is_near_that_of_the_true_energy() -> None:
    data = samples.waters(40)
    hessian = surrogate_hessian(Surrogate(kernel="pairs").fit(data), data[0])
    steps = 1e-4 * np.eye(9).reshape(9, 3, 3)
    rows = [
        [
            samples.labels(data[0].replace(positions=data[0].positions + sign * step))[1].ravel()
            for step in steps
        ]
        for sign in (1, -1)
    ]
    true = -(np.array(rows[0]) - np.array(rows[1])) / 2e-4
    assert np.abs(hessian - true).max() < 0.05 * np.abs(true).max()


def test_normal_modes_have_thermal_energies() -> None:
    """Every internal mode of a harmonic energy holds kT/2 on average; rigid motions none."""
    structure = samples.WATER
    rng = np.random.default_rng(0)
    basis = np.linalg.qr(rng.normal(size=(9, 9)))[0]
    from gprann.surrogate.kernels.internal_coordinates import internal_directions, rigid_motions

    internal = internal_directions(structure, "rotation")
    stiffness = np.array([5.0, 20.0, 60.0])
    rotated = internal @ np.linalg.qr(internal.T @ basis[:, :3])[0]
    hessian = rotated @ np.diag(stiffness) @ rotated.T
    moving = np.ones(3, dtype=bool)
    moved = normal_modes(structure, hessian, moving, ThermalCopies(300.0, 4000, (0, 0))).reshape(4000, 9)
    energies = 0.5 * stiffness * (moved @ rotated) ** 2
    # The standard error of the mean of 4000 squares of normal numbers is 2.2 %.
    np.testing.assert_allclose(energies.mean(axis=0), 0.5 * kB * 300.0, rtol=0.1)
    np.testing.assert_allclose(moved @ rigid_motions(structure, "rotation"), 0, atol=1e-12)


def test_soft_modes_move_no_atom_far() -> None:
    moving = np.ones(3, dtype=bool)
    moved = normal_modes(samples.WATER, np.zeros((9, 9)), moving, ThermalCopies(1e4, 2000, (0, 0)))
    # Three modes, each with a standard deviation of at most 0.1 Å of the vector of an atom.
    assert np.sqrt((moved**2).sum(axis=2).mean(axis=0)).max() < 0.1 * np.sqrt(3) * 1.1


@pytest.mark.parametrize("policy", ["normal_modes", "md"])
def test_hotter_copies_lie_farther(policy: Any, waters: Dataset, surrogate: Surrogate) -> None:
    options: dict[str, Any] = {"policy": policy, "copies": 4, "min_distance": 0.0}
    if policy == "md":
        options["steps"] = 20
    spreads = [
        shifts(augment(waters, surrogate, temperature=t, **options), waters).std() for t in (1.0, 1000.0)
    ]
    assert spreads[1] > 2 * spreads[0]


# Dynamics ----------------------------------------------------------------------------------------------------------


def test_dynamics_follow_the_forces_and_the_seed(waters: Dataset, surrogate: Surrogate) -> None:
    options: Any = {"policy": "md", "copies": 3, "steps": 6, "temperature": 50.0}
    first = shifts(augment(waters, surrogate, **options), waters)
    np.testing.assert_array_equal(first, shifts(augment(waters, surrogate, **options), waters))
    assert not np.array_equal(first, shifts(augment(waters, surrogate, seed=1, **options), waters))
    sizes = np.sqrt((first**2).mean(axis=(0, 2, 3)))
    assert (np.diff(sizes) > 0).all()  # in time order, away from the start
    cold = shifts(augment(waters, surrogate, **{**options, "temperature": 1e-6}), waters)
    # At rest at the start: half of F/m t^2, in ASE's units of time.
    from ase.data import atomic_masses
    from ase.units import fs

    masses = atomic_masses[[8, 1, 1]][:, None]
    forces = np.array(surrogate.predict(waters).forces)
    expected = 0.5 * forces / masses * (2 * 0.5 * fs) ** 2
    np.testing.assert_allclose(cold[:, 0], expected, rtol=0.15, atol=0.05 * np.abs(expected).max())


def test_dynamics_end_where_atoms_come_too_close(waters: Dataset, surrogate: Surrogate) -> None:
    options = CopyOptions(policy="md", copies=50, steps=50, temperature=1e5)
    copies = Sampler(options, waters, surrogate).copies(range(16))
    assert len(copies) < 16 * 50
    limits = DistanceLimits.of(waters, 0.7)
    assert all(limits.allow(copy) for copy in copies)


# Distances ---------------------------------------------------------------------------------------------------------


def test_copies_that_come_too_close_are_left_out(
    waters: Dataset, surrogate: Surrogate, caplog: pytest.LogCaptureFixture
) -> None:
    everything = augment(waters, surrogate, copies=20, displacement=0.2, min_distance=0.0)[16:]
    with caplog.at_level(logging.WARNING, logger="gprann"):
        kept = augment(waters, surrogate, copies=20, displacement=0.2, min_distance=0.8)[16:]
    shortest: dict[tuple[str, ...], float] = {}

    def distances(structure: Structure) -> list[tuple[tuple[str, ...], float]]:
        return [
            (
                tuple(sorted((structure.symbols[i], structure.symbols[j]))),
                float(np.linalg.norm(structure.positions[i] - structure.positions[j])),
            )
            for i, j in ((0, 1), (0, 2), (1, 2))
        ]

    for structure in waters:
        for pair, r in distances(structure):
            shortest[pair] = min(shortest.get(pair, np.inf), r)
    expected = [c for c in everything if all(r >= 0.8 * shortest[pair] for pair, r in distances(c))]
    assert 0 < len(expected) < len(everything)
    assert [c.positions.tolist() for c in kept] == [c.positions.tolist() for c in expected]
    assert f"{320 - len(kept)} of 320 copies left out: atoms come too close" in caplog.text


def test_elements_that_never_meet_count_by_their_radii() -> None:
    apart = Structure(("O", "H"), [[0, 0, 0], [9, 0, 0]])
    limits = DistanceLimits.of(Dataset([apart]), 0.5)
    bond = 0.5 * (0.66 + 0.31)
    assert limits.allow(apart.replace(positions=[[0, 0, 0], [bond + 0.01, 0, 0]]))
    assert not limits.allow(apart.replace(positions=[[0, 0, 0], [bond - 0.01, 0, 0]]))


def test_the_order_of_the_atoms_does_not_matter() -> None:
    limits = DistanceLimits.of(samples.waters(3), 0.9)
    squeezed = samples.WATER.replace(positions=[[0, 0, 0], [0.7, 0, 0], [-0.2, 0.95, 0]])
    turned_round = squeezed.replace(symbols=squeezed.symbols[::-1], positions=squeezed.positions[::-1])
    assert not limits.allow(squeezed)
    assert not limits.allow(turned_round)
    np.testing.assert_array_equal(limits.smallest, limits.smallest.T)


def test_images_count() -> None:
    limits = DistanceLimits.of(samples.crystals(3), 0.9)
    crystal = samples.CRYSTAL
    close = crystal.positions.copy()
    close[1] = close[0] + crystal.cell[2] + [0, 0, 0.3]
    assert limits.allow(crystal)
    assert not limits.allow(crystal.replace(positions=close))


# Automatic choice --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kernel", ["pairs", "atoms"])
def test_left_out_std_is_that_of_a_fit_without_the_structure(kernel: Any) -> None:
    data = samples.waters(8)
    settings: dict[str, Any] = {"length": 5.0, "energy_noise": 1e-6, "force_noise": 1e-6, "kernel": kernel}
    whole = Surrogate(**settings).fit(data)
    found = whole.left_out_std(8)
    state = whole._require_fit()
    # The same from the dense matrices.
    problem, _, _ = state.equations.observe()
    noise = state.amplitude2 * state.solution.noise
    K = problem.covariance(state.settings.length * whole.fingerprint.spread)
    K = np.tril(K) + np.tril(K, -1).T
    K = state.amplitude2 * K + np.diag(problem.noise(*noise))
    for a in range(8):
        begin, end = problem.first[a : a + 2]
        others = np.r_[0:begin, end : len(K)]
        cross = K[begin, others]
        variance = K[begin, begin] - noise[0] - cross @ np.linalg.solve(K[np.ix_(others, others)], cross)
        assert found[a] == pytest.approx(np.sqrt(variance), rel=1e-3)
    np.testing.assert_allclose(whole.left_out_std(3), found[[0, 4, 7]], rtol=1e-9)


def test_automatic_displacement_makes_copies_as_uncertain_as_unseen_structures() -> None:
    data = samples.waters(20)
    surrogate = Surrogate(kernel="pairs").fit(data)
    chosen = sized(CopyOptions(), data, surrogate).displacement
    assert isinstance(chosen, float)
    unseen = float(np.median(surrogate.predict(samples.waters(30, seed=1)).energy_std))
    stds = [
        float(
            np.median([c.energy_variance for c in augment(data, surrogate, copies=10, displacement=d)[20:]])
        )
        ** 0.5
        for d in (chosen / 2, chosen, 2 * chosen)
    ]
    assert stds[0] < stds[1] < stds[2]
    assert 0.5 * unseen < stds[1] < 2 * unseen
    # The structures differ by 0.1 / sqrt(3) Å in every component.
    assert 0.02 < chosen < 0.1
    found = augment(data, surrogate, threshold=1e3)
    np.testing.assert_array_equal(
        shifts(found, data), shifts(augment(data, surrogate, displacement=chosen), data)
    )
    assert augment(data, surrogate, copies=1)[20].energy == augment(data, surrogate, copies=2)[20].energy


def test_automatic_temperature() -> None:
    data = samples.waters(20)
    surrogate = Surrogate(kernel="pairs").fit(data)
    options = sized(CopyOptions(policy="normal_modes", copies=10), data, surrogate)
    assert options.temperature is not None
    assert 1 < options.temperature < 1000
    limit = float(np.median(surrogate.left_out_std(16)))
    variances = [
        [
            copy.energy_variance
            for copy in augment(data, surrogate, policy="normal_modes", copies=10, **given)[20:]
        ]
        for given in ({}, {"temperature": 4 * options.temperature})
    ]
    assert np.median(variances[0]) < 2 * limit**2 < 2 * np.median(variances[1])
    assert sized(CopyOptions(policy="md"), data, surrogate).temperature == 300.0


@pytest.mark.parametrize("seed", [0, 1])
def test_automatic_copies_keep_away_from_repulsive_walls(seed: int) -> None:
    """Copies far up the wall of the Lennard-Jones potential, of which the surrogate knows nothing, are left out."""
    data = examples.hydrogen(7)
    surrogate = Surrogate().fit(data)
    options = sized(CopyOptions(seed=seed), data, surrogate)
    limit = float(np.median(surrogate.left_out_std(7)))
    assert options.threshold == pytest.approx(5 * limit / 2)  # per atom
    assert sized(CopyOptions(threshold=0.1), data, surrogate).threshold == 0.1
    assert sized(CopyOptions(displacement=0.1), data, surrogate).threshold is None
    kept = augment(data, surrogate, copies=36, seed=seed)[7:]
    everything = augment(data, surrogate, copies=36, seed=seed, displacement=options.displacement)[7:]
    assert kept.energies.tolist() == [c.energy for c in everything if c.energy_variance <= (5 * limit) ** 2]

    def largest_error(copies: Dataset) -> float:
        r = np.linalg.norm([copy.positions[1] - copy.positions[0] for copy in copies], axis=1)
        return float(np.abs(4 * (r**-12 - r**-6) - copies.energies).max())

    assert largest_error(kept) < 0.5
    assert largest_error(everything) > 5


def test_a_handful_of_structures_gets_the_usual_sizes(caplog: pytest.LogCaptureFixture) -> None:
    data = samples.waters(2)
    surrogate = Surrogate(**FIXED).fit(data)
    assert sized(CopyOptions(threshold=1.0), data, surrogate).displacement == 0.02
    assert not [message for message in caplog.messages if "calibrated" not in message]
    few = sized(CopyOptions(), data, surrogate)
    assert (few.displacement, few.threshold) == (0.02, None)
    assert sized(CopyOptions(policy="normal_modes"), data, surrogate).temperature == 300.0
    message, _ = (message for message in caplog.messages if "calibrated" not in message)
    assert message.startswith(
        "2 structures of H2O are too few to tell how uncertain copies may be: none is left"
    )


def test_each_hessian_is_made_once(
    waters: Dataset, surrogate: Surrogate, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever is found from trial copies before: temperature, number of copies, and the copies themselves."""
    made = []

    def counted(model: Surrogate, structure: Structure) -> np.ndarray:
        made.append(structure)
        return surrogate_hessian(model, structure)

    monkeypatch.setattr("gprann.augmentation.policies.surrogate_hessian", counted)
    augment(waters, surrogate, policy="normal_modes")
    assert len(made) == len(waters)


def test_number_of_copies_follows_the_degrees_of_freedom() -> None:
    assert [automatic_copies(samples.chain("H" * n)) for n in (1, 3, 5, 11, 12, 40)] == [
        10,
        10,
        15,
        33,
        36,
        36,
    ]
    assert [automatic_copies(samples.chain("H" * 5), noise) for noise in (0.0, 0.5, 1.0, np.inf)] == [
        15,
        19,
        30,
        30,
    ]
    assert len(augment(examples.hydrogen(4), **FIXED)) == 44
    assert CopyOptions(policy="md", steps=7).count(samples.chain("H" * 40)) == 7


def test_a_worse_surrogate_gets_more_copies(caplog: pytest.LogCaptureFixture) -> None:
    """Twice as many at most, none more where labels are good; of given ones as many as given."""
    few, many = samples.waters(5), samples.waters(40)
    found = {}
    for name, data in (("worse", few), ("better", many)):
        surrogate = Surrogate(**FIXED).fit(data)
        options = sized(CopyOptions(displacement=0.1), data, surrogate)
        assert sized(CopyOptions(displacement=0.1, copies=7), data, surrogate).copies == 7
        copies = augment(data, surrogate, displacement=0.1, copies=40, min_distance=0.0)[len(data) :]
        change = copies.energies - np.repeat(data.energies, 40)
        noise = np.sqrt(np.mean([copy.energy_variance for copy in copies]) / np.mean(change**2))
        assert options.copies == pytest.approx(10 * (1 + min(noise, 1) ** 2), abs=1.5)
        found[name] = options.copies
        assert len(augment(data, surrogate, displacement=0.1, min_distance=0.0)) == len(data) * (
            1 + found[name]
        )
    assert found["better"] == 10
    assert 10 < found["worse"] <= 20
    rough = Surrogate(length=0.3, energy_noise=1e-7, force_noise=1e-7).fit(few)
    small = sized(CopyOptions(displacement=0.3, threshold=1e-9), few, rough)
    assert small.copies == 10  # none of them is kept: nothing to judge from
    assert sized(CopyOptions(policy="md", steps=11), few, rough).copies <= 11


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"policy": "gauss"}, "policy = 'gauss': did you mean 'gaussian'?"),
        ({"policy": "md", "displacement": 0.1}, "displacement = 0.1: the policy 'md' takes its size from"),
        ({"policy": "md", "copies": 9, "steps": 8}, "steps = 8: expected as many as copies"),
        ({"temperature": 0.0}, "temperature = 0.0: expected a positive number in K"),
        ({"min_distance": -0.1}, "min_distance = -0.1: expected a fraction"),
        ({"min_force": np.inf}, "min_force: expected a finite number, got inf"),
        (
            {"displacement": {"H": -1.0}},
            "displacement = {'H': -1.0}: expected a length in Å, 0 or more, for H",
        ),
        ({"displacement": {"H": 0.0}}, "expected a positive length of some element"),
    ],
)
def test_impossible_options_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        augment(examples.hydrogen(3), **options)


def test_copies_that_the_kernel_refuses_are_too_far() -> None:
    """The Cartesian kernel knows one orientation alone; trials beyond it end no run."""
    data = samples.waters(8)
    surrogate = Surrogate("cartesian").fit(data)
    far = augment(data, copies=8, displacement=3.0, min_distance=0.0, **FIXED)[8:]
    with pytest.raises(DataError, match=r"kernel 'cartesian' knows one orientation|lies .* Å away"):
        surrogate.predict(far)
    assert 0.01 <= Sampler(CopyOptions(), data, surrogate).largest_size((0.01, 3.0), np.inf) < 1.0


@pytest.mark.parametrize("copies", [20, None])
def test_copies_that_the_kernel_refuses_are_left_out(
    copies: int | None, waters: Dataset, caplog: pytest.LogCaptureFixture
) -> None:
    """Those that stay are the same as with a kernel that takes all; none of them ends the augmentation."""
    given: dict[str, Any] = {"displacement": 0.3, "copies": copies, "min_distance": 0.0}
    with caplog.at_level("INFO", "gprann"):
        found = augment(waters, **given, **FIXED | {"kernel": "cartesian"})[16:]
    wanted, made, refused = (
        int(n)
        for n in re.search(r"(\d+) copies wanted: (\d+) labelled, (\d+) not made", caplog.text).groups()  # type: ignore[union-attr]
    )
    assert (len(found), wanted - made) == (made, refused)
    assert 0 < refused < wanted
    assert (
        f"{refused} of {wanted} copies left out: they have left the places of the structures" in caplog.text
    )
    everything = augment(waters, **given | {"copies": wanted // 16}, **FIXED)[16:]
    assert {s.positions.tobytes() for s in found} < {s.positions.tobytes() for s in everything}
