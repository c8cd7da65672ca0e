"""Surrogates of the subsets of a heterogeneous data set, fitted side by side."""

from __future__ import annotations

import io
import logging
from typing import Any

import numpy as np
import pytest
from tqdm import tqdm

import samples
from gprann import SurrogateSet, augment, evaluate, examples, fit_surrogates, select
from gprann.augmentation.gpr import augment_subsets
from gprann.augmentation.policies import CopyOptions
from gprann.data.structure import Dataset, Structure
from gprann.descriptors import ChebyshevDescriptor
from gprann.errors import ConfigError, DataError, FactorisationError
from gprann.runtime.messages import SharedBar, TaskFormatter
from gprann.runtime.resources import available_memory, memory_share
from gprann.surrogate import AtomsKernel, Surrogate, memory_needed
from gprann.surrogate.sets.surrogate_set import plan_subsets
from gprann.surrogate.solvers.posterior import greedy_variance_reduction

FIXED: dict[str, Any] = {"length": 4.0, "energy_noise": 1e-7, "force_noise": 1e-7}


def mixture(n: int = 5) -> Dataset:
    """Waters, hydrogens and periodic crystals (of the composition of water) in turn."""
    parts = samples.waters(n), examples.hydrogen(n), samples.crystals(n)
    return Dataset(structure for triple in zip(*parts, strict=True) for structure in triple)


@pytest.fixture(scope="module")
def fitted() -> SurrogateSet:
    return fit_surrogates(mixture(6), max_subset=4, **FIXED)


@pytest.fixture
def four_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GPRANN_NUM_THREADS", "4")


@pytest.mark.usefixtures("four_threads")
class TestSideBySide:
    def test_same_bits_as_one_after_the_other(self, monkeypatch: pytest.MonkeyPatch) -> None:
        data = mixture(6)
        together = augment(data, copies=3, max_subset=4)
        monkeypatch.setenv("GPRANN_NUM_THREADS", "1")
        alone = augment(data, copies=3, max_subset=4)
        assert [copy.energy for copy in together] == [copy.energy for copy in alone]
        assert [copy.energy_variance for copy in together] == [copy.energy_variance for copy in alone]
        assert all(np.array_equal(a.positions, b.positions) for a, b in zip(together, alone, strict=True))

    def test_errors_name_the_subset(self) -> None:
        data = mixture(3)
        broken = Dataset(s.replace(forces=None) if s.symbols == ("H", "H") else s for s in data)
        with pytest.raises(DataError, match=r"^subset 2 of 3: 3 structures of H2: .*has no forces"):
            augment(broken, copies=1, max_subset=4, **FIXED)
        with pytest.raises(DataError, match=r"^(?!subset)"):  # there is one only
            augment(broken.filter(lambda s: s.symbols == ("H", "H")), copies=1, **FIXED)
        twice = Dataset([*samples.waters(3), *samples.waters(3), *examples.hydrogen(3)])
        with pytest.raises(FactorisationError, match=r"subset 1 of 2: 6 structures of H2O: .*row") as caught:
            augment(twice, copies=1, max_subset=6, length=4.0, energy_noise=1e-18, force_noise=1e-18)
        assert caught.value.row > 0

    def test_messages_name_the_subset(self, caplog: pytest.LogCaptureFixture) -> None:
        caplog.handler.setFormatter(TaskFormatter("%(message)s"))
        with caplog.at_level(logging.INFO, logger="gprann"):
            augment(mixture(4), copies=1, max_subset=4, **FIXED)
            *lines, counts = caplog.text.splitlines()
            caplog.clear()
            augment(samples.waters(4), copies=1, **FIXED)
        assert {line[:13] for line in lines} == {f"subset {k} of 3" for k in (1, 2, 3)}
        assert counts.startswith("12 copies wanted")
        assert not any(line.count("subset") > 1 for line in lines)
        assert not any(line.startswith("subset") and "surrogate" in line for line in caplog.text.splitlines())

    def test_solvers_do_not_depend_on_what_runs_beside(self) -> None:
        """A surrogate may use what is there for all, and takes it only when nothing else runs."""
        data = mixture()
        found = []
        for subset in plan_subsets(data, lambda _: Surrogate(), max_subset=9, memory=3.0):
            with subset.task():
                found.append(available_memory())
        assert found == [3.0] * 3


def test_progress_reaches_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the number of copies turns out to be, and with the names of the subsets in work."""
    monkeypatch.setenv("GPRANN_NUM_THREADS", "3")
    seen: list[str] = []

    class Bar(tqdm):  # type: ignore[type-arg]
        def set_postfix_str(self, s: str = "", refresh: bool = True) -> None:
            seen.append(s)

    data, options = mixture(4), CopyOptions(displacement=0.2, threshold=1.0, min_distance=0.9)
    with Bar(total=options.total(data), file=io.StringIO()) as bar:
        subsets = plan_subsets(data, lambda _: Surrogate(**FIXED), max_subset=9)
        result = augment_subsets(subsets, options, SharedBar(bar))
        assert bar.n == bar.total > len(result.accepted) > 0
        assert bar.total > options.total(data)  # the labels are uncertain
    assert set(", ".join(seen).split(", ")) == {"", *(f"fitting subset {k} of 3" for k in (1, 2, 3))}
    assert seen[-1] == ""


def test_memory_of_a_fit() -> None:
    data = samples.waters(40)
    surrogate = Surrogate()
    taken, kept = surrogate.memory_of_fit(data)
    assert kept == memory_needed(data)
    assert 4 * kept < taken < 8 * kept + 0.006  # small sets are held out one by one; copies take 4 MiB
    large = Dataset(list(data) * 60)
    taken, kept = surrogate.memory_of_fit(large)
    assert kept == memory_needed(large) < taken < 1.1 * kept
    with memory_share(0.5 * kept):
        assert surrogate.memory_of_fit(large)[1] <= 0.5 * kept
    assert Surrogate(solver="inducing", inducing=10).memory_of_fit(large)[1] < 0.1 * kept


def test_subsets_tell_what_they_are() -> None:
    names = [str(subset) for subset in plan_subsets(mixture(), lambda _: Surrogate(), max_subset=9)]
    assert names == [f"subset {k} of 3: 5 structures of {f}" for k, f in ((1, "H2O"), (2, "H2"), (3, "H2O"))]


def swapped(structure: Structure, order: list[int]) -> Structure:
    return structure.replace(
        symbols=tuple(structure.symbols[k] for k in order),
        positions=structure.positions[order],
        forces=structure.forces[order],
    )


@pytest.mark.parametrize("kernel", ["atoms", "pairs", "cartesian"])
class TestOrderOfAtoms:
    """Structures that list their atoms in another order, of the training set and new ones: as if they did not.

    Energies and forces tell the hydrogens apart by their distances from the oxygen, 0.95 and 1.8 Å.
    """

    ORDERS = ([1, 0, 2], [0, 2, 1], [2, 1, 0])

    def data(self, n: int, seed: int, *, stray: bool) -> Dataset:
        rng = np.random.default_rng(seed)
        base = np.array([[0.0, 0, 0], [1.8, 0, 0], [-0.3, 0.9, 0]])
        found = []
        for k in range(n):
            shift = 0.05 * rng.normal(size=(3, 3))
            shift -= shift.mean(axis=0)
            bonds = base + shift
            vectors = bonds[1:] - bonds[0]
            lengths = np.linalg.norm(vectors, axis=1)
            stretch = np.array([5.0, 20.0]) * (lengths - [1.8, 0.95])
            pulls = -2.0 * stretch[:, None] * vectors / lengths[:, None]
            energy = float(stretch @ (lengths - [1.8, 0.95]))
            forces = np.concatenate([-pulls.sum(axis=0, keepdims=True), pulls])
            structure = Structure(("O", "H", "H"), bonds, energy=energy, forces=forces)
            found.append(swapped(structure, self.ORDERS[k // 2 % 3]) if stray and k % 2 else structure)
        return Dataset(found)

    @pytest.fixture
    def options(self, kernel: str) -> dict[str, Any]:
        return {"kernel": kernel, **FIXED, "max_subset": 12}

    @staticmethod
    def listed(forces: list[Any]) -> list[Any]:
        """Return values of atoms as `data` lists them with stray structures."""
        orders = TestOrderOfAtoms.ORDERS
        return [f[orders[k // 2 % 3]] if k % 2 else f for k, f in enumerate(forces)]

    def test_predicted(self, options: dict[str, Any]) -> None:
        surrogates = fit_surrogates(self.data(24, 0, stray=True), **options)
        right = fit_surrogates(self.data(24, 0, stray=False), **options)
        for n, seed in ((24, 0), (9, 1)):
            found = surrogates.predict(self.data(n, seed, stray=True), forces_std=True)
            expected = right.predict(self.data(n, seed, stray=False), forces_std=True)
            np.testing.assert_allclose(found.energy, expected.energy, atol=1e-6)
            np.testing.assert_allclose(found.energy_std, expected.energy_std, rtol=1e-3)
            np.testing.assert_allclose(found.forces, self.listed(expected.forces), atol=1e-5)
            np.testing.assert_allclose(found.forces_std, self.listed(expected.forces_std), rtol=1e-3)

    def test_evaluated(self, options: dict[str, Any]) -> None:
        report, expected = (
            evaluate(fit_surrogates(data, **options), data)
            for data in (self.data(24, 0, stray=True), self.data(24, 0, stray=False))
        )
        assert report.energy_mae == pytest.approx(expected.energy_mae, rel=1e-3)
        assert report.force_mae == pytest.approx(expected.force_mae, rel=1e-3)
        assert report.force_msd == pytest.approx(expected.force_msd, rel=1e-3)

    def test_augmented_and_selected_from(self, options: dict[str, Any]) -> None:
        data, candidates = self.data(24, 0, stray=True), self.data(9, 1, stray=True)
        made: dict[str, Any] = {"copies": 2, "displacement": 0.03, "forces": True}
        whole = {**options, "max_subset": 24}
        own = augment(data, fit_surrogates(data, **whole), **made)[24:]
        expected = augment(data, **whole, **made)[24:]
        np.testing.assert_allclose(own.energies, expected.energies, rtol=1e-9)
        np.testing.assert_allclose(own.forces, expected.forces, rtol=1e-6, atol=1e-9)
        if options["kernel"] != "atoms":  # copies are made of the structures in order
            right = augment(self.data(24, 0, stray=False), **whole, **made)[24:]
            np.testing.assert_allclose(own.energies, right.energies, atol=1e-7)
            np.testing.assert_allclose(own.forces, right.forces, atol=1e-5)
        surrogates = fit_surrogates(data, **options)
        right = fit_surrogates(self.data(24, 0, stray=False), **options)
        chosen = select(candidates, surrogates, 3)
        np.testing.assert_array_equal(chosen.indices, select(self.data(9, 1, stray=False), right, 3).indices)
        assert chosen.structures[0].symbols == candidates[int(chosen.indices[0])].symbols

    def test_ambiguous_structures_are_refused(self, kernel: str, options: dict[str, Any]) -> None:
        surrogates = fit_surrogates(self.data(24, 0, stray=True), **options)
        far = Structure(("H", "O", "H"), [[0.0, 0, 0], [3.0, 0, 0], [3.0, 4.0, 0]])
        if kernel == "atoms":
            assert len(surrogates.predict(Dataset([far]))) == 1
            return
        with pytest.raises(DataError, match="cannot be matched with certainty: list them in that order"):
            surrogates.predict(Dataset([*self.data(2, 0, stray=True), far]))


@pytest.fixture(scope="module")
def surrogates() -> SurrogateSet:
    return fit_surrogates(samples.conformers(8, 1), max_subset=8, kernel="cartesian", **FIXED)


class TestRefusals:
    """Each of two surrogates of one composition knows one of two shapes."""

    def test_another_surrogate_predicts(self, surrogates: SurrogateSet) -> None:
        data = samples.conformers(4, 2)
        found = surrogates.predict(data)
        assert np.abs(found.energy - data.energies).max() < 5e-3
        shares = surrogates.assign(data)
        assert [share.indices.tolist() for share in shares] == [[0, 1, 2, 3], [4, 5, 6, 7]]
        for share, (surrogate, _) in zip(shares, surrogates, strict=True):
            alone = surrogate.predict(data.select(share.indices))
            np.testing.assert_array_equal(found.energy[share.indices], alone.energy)
            np.testing.assert_allclose(found.energy_std[share.indices], alone.energy_std, rtol=1e-9)

    def test_all_refuse(self, surrogates: SurrogateSet) -> None:
        positions = np.array([[0.0, 0, 0], [4.0, 0, 0], [0, 4.0, 0], [0, 0, 4.0]])
        odd = Structure(("C", "H", "O", "N"), positions)
        with pytest.raises(DataError, match=r"lies .* Å away from where it is"):
            surrogates.predict(Dataset([*samples.conformers(2, 2), odd]))


class TestSurrogateSet:
    def test_iteration(self, fitted: SurrogateSet) -> None:
        assert len(fitted) == 6
        assert sorted(np.concatenate([indices for _, indices in fitted])) == list(range(18))
        facts = fitted.to_dict()
        assert [item["formula"] for item in facts] == ["H2O"] * 2 + ["H2"] * 2 + ["H2O"] * 2
        assert [item["n_structures"] for item in facts] == [len(indices) for _, indices in fitted]
        assert fitted.formulas == ("H2O", "H2")
        assert "subset 3 of 6: " in repr(fitted)

    def test_every_structure_by_the_surrogate_that_is_surest(self, fitted: SurrogateSet) -> None:
        """Independently: all surrogates asked, those of other compositions refuse."""
        data = mixture(9)[2:]
        found = fitted.predict(data, forces_std=True)
        own = {id(surrogate): k for k, (surrogate, _) in enumerate(fitted)}
        chosen = np.full(len(data), -1)
        for share in fitted.assign(data):
            chosen[share.indices] = own[id(share.surrogate)]
        for k, structure in enumerate(data):
            alone = Dataset([structure])
            answers = {}
            for number, (surrogate, indices) in enumerate(fitted):
                first = mixture(6)[int(indices[0])]
                if (first.symbols, first.pbc[0]) == (structure.symbols, structure.pbc[0]):
                    answers[number] = surrogate.predict(alone, forces_std=True)
            assert len(answers) == 2
            best = min(answers, key=lambda number: answers[number].energy_std[0])
            assert chosen[k] == best
            expected = answers[best]
            np.testing.assert_allclose(found.energy[k], expected.energy[0], rtol=1e-12)
            np.testing.assert_allclose(found.energy_std[k], expected.energy_std[0], rtol=1e-6, atol=1e-12)
            np.testing.assert_allclose(found.forces[k], expected.forces[0], rtol=1e-9, atol=1e-12)
            np.testing.assert_allclose(found.forces_std[k], expected.forces_std[0], rtol=1e-5, atol=1e-9)
            np.testing.assert_array_equal(np.isnan(found.stress[k]), ~structure.pbc.all())
        means = fitted.predict(data, std=False, forces=False)
        assert (means.energy_std, means.forces, means.forces_std) == (None, [], None)
        np.testing.assert_allclose(means.energy, found.energy, rtol=1e-12)

    def test_other_periodic_directions(self, fitted: SurrogateSet) -> None:
        """A crystal that is no longer periodic in one direction is still water."""
        cut = samples.CRYSTAL.replace(pbc=(True, True, False))
        stds = [
            surrogate.predict(Dataset([cut])).energy_std
            for k, (surrogate, _) in enumerate(fitted)
            if k not in (2, 3)
        ]
        assert fitted.predict(Dataset([cut])).energy_std == min(stds)

    def test_no_structures(self, fitted: SurrogateSet) -> None:
        found = fitted.predict(Dataset())
        assert (len(found), found.forces, fitted.assign(Dataset())) == (0, [], [])
        with pytest.raises(DataError, match="no structures to fit"):
            fit_surrogates(Dataset())

    def test_unknown_compositions(self, fitted: SurrogateSet) -> None:
        odd = Structure(("O", "H"), [[0, 0, 0], [0, 0, 1.0]])
        with pytest.raises(
            DataError, match=r"no surrogate knows the composition HO; .* known: H2O, H2\. Fit"
        ):
            fitted.predict(Dataset([*mixture(2), odd]))

    def test_a_single_composition_is_an_ordinary_surrogate(self) -> None:
        data, others = samples.waters(6), samples.waters(3, seed=7)
        found = fit_surrogates(data, **FIXED).predict(others)
        expected = Surrogate(**FIXED).fit(data).predict(others)
        np.testing.assert_array_equal(found.energy, expected.energy)
        np.testing.assert_array_equal(found.energy_std, expected.energy_std)

    def test_progress(self, fitted: SurrogateSet) -> None:
        cut = samples.CRYSTAL.replace(pbc=(True, True, False))
        for surrogates in (fitted, fit_surrogates(mixture(3), **FIXED)):
            taken: list[int] = []
            surrogates.predict(Dataset([*mixture(3), cut]), progress=taken.append)
            assert sum(taken) == 10

    def test_standard_deviations_are_predicted_once(
        self, fitted: SurrogateSet, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """By both surrogates of a composition, and not again by the one that is chosen."""
        asked: list[int] = []
        predict = Surrogate.predict

        def counted(self: Surrogate, data: Dataset, **options: Any) -> Any:
            asked.append(len(data) if options.get("std", True) else 0)
            return predict(self, data, **options)

        monkeypatch.setattr(Surrogate, "predict", counted)
        assert fitted.predict(mixture(3)).energy_std is not None
        assert sum(asked) == 2 * 9
        asked.clear()
        select(mixture(3), fitted, 2)
        assert sum(asked) == 2 * 9

    def test_one_surrogate_takes_all_by_default(self) -> None:
        data = mixture(6)
        surrogates = fit_surrogates(data, **FIXED)
        assert [len(indices) for _, indices in surrogates] == [18]
        assert str(surrogates) == "SurrogateSet(subset 1 of 1: 18 structures of 2 compositions)"
        assert set(surrogates.formulas) == {"H2O", "H2"}
        assert evaluate(surrogates, mixture(6)).energy_mae < 0.005
        assert [len(part) for _, part in fit_surrogates(data, kernel="pairs", **FIXED)] == [6, 6, 6]
        assert np.isfinite(
            surrogates.predict(Dataset([Structure(("O", "H"), [[0, 0, 0], [0, 0, 1.0]])])).energy
        )
        with pytest.raises(DataError, match="no surrogate knows the composition N2"):
            surrogates.predict(Dataset([Structure(("N", "N"), [[0, 0, 0], [0, 0, 1.1]])]))

    def test_mixed_sets_are_evaluated(self, fitted: SurrogateSet) -> None:
        report = evaluate(fitted, mixture(6))
        assert report.energy_mae < 0.005
        assert report.force_msd is not None

    def test_mixed_sets_are_augmented_as_without_a_word(self) -> None:
        data = mixture(6)
        own = augment(data, fit_surrogates(data, **FIXED), copies=3, displacement=0.03)
        expected = augment(data, copies=3, displacement=0.03, **FIXED)
        assert [s.energy for s in own] == pytest.approx([s.energy for s in expected], rel=1e-12)
        assert [s.origin.index for s in own] == [s.origin.index for s in expected]

    def test_mixed_sets_are_selected_from(self) -> None:
        """As from the dense covariance of all candidates, zero between those of different surrogates."""
        surrogates = fit_surrogates(mixture(6), max_subset=6, length=4.0, energy_noise=1e-2, force_noise=1e-7)
        waters = samples.waters(8, size=0.4, seed=3)
        h2 = samples.rattled(examples.hydrogen(3)[1], 4, 0.2, 0, "h2")
        covariance, noise = np.zeros((12, 12)), np.zeros(12)
        for own, data, (surrogate, _) in zip(
            (slice(8), slice(8, 12)), (waters, h2), surrogates, strict=False
        ):
            n = len(data[0])
            covariance[own, own] = surrogate.energy_covariance(data) / n**2
            noise[own] = (surrogate.hyperparameters.energy_noise / n) ** 2
        assert noise.max() > 0.1 * np.diagonal(covariance).max()  # it matters
        rows, left = greedy_variance_reduction(covariance, 5, noise=noise)
        chosen = select(waters + h2, surrogates, 5)
        np.testing.assert_array_equal(chosen.indices, rows)
        np.testing.assert_allclose(chosen.std_left, np.sqrt(left / 12), rtol=1e-9)

    def test_options(self) -> None:
        with pytest.raises(ConfigError, match="unknown option 'lenght': did you mean 'length'"):
            fit_surrogates(mixture(2), lenght=2.0)
        with pytest.raises(ConfigError, match="unknown option 'max_subsets': did you mean 'max_subset'"):
            fit_surrogates(mixture(2), max_subsets=2)
        with pytest.raises(ConfigError, match="max_subset = 0: expected 1 or more"):
            fit_surrogates(mixture(2), max_subset=0)

    @pytest.mark.parametrize("kernel", ["atoms", "auto"])
    def test_factors_by_species_hold_where_these_are(self, kernel: str) -> None:
        """Each surrogate takes those of its own species, as if it had been given these alone."""
        h2 = examples.hydrogen(5)
        n2 = Dataset(s.replace(symbols=("N", "N")) for s in h2)
        factors = {"H": 0.7, "O": 1.3}
        data = h2 + n2 + samples.waters(5)
        found = fit_surrogates(data, kernel=kernel, max_subset=5, species_lengths=factors, **FIXED)
        parts: list[Any] = [(h2, {"H": 0.7}), (n2, None), (samples.waters(5), factors)]
        for (surrogate, _), (part, own) in zip(found, parts, strict=True):
            expected = Surrogate(kernel, species_lengths=own, **FIXED).fit(part)
            assert surrogate.to_dict() == expected.to_dict()
            np.testing.assert_array_equal(surrogate.predict(part).energy, expected.predict(part).energy)
        made: dict[str, Any] = {"copies": 2, "displacement": 0.03, "kernel": kernel, "max_subset": 5, **FIXED}
        copies = augment(data, species_lengths=factors, **made)[15:]
        np.testing.assert_array_equal(
            copies.energies[:10], augment(h2, species_lengths={"H": 0.7}, **made)[5:].energies
        )
        for function in (fit_surrogates, augment):
            with pytest.raises(ConfigError, match=r"^species_lengths: Ho: did you mean 'H'"):
                function(data, species_lengths={"Ho": 0.7}, **FIXED)  # type: ignore[operator]

    def test_all_together_stay_within_the_memory(self) -> None:
        """Matrices that fit one by one but not together: other solvers, each with its share."""
        data = samples.waters(40) + examples.hydrogen(20)
        memory = memory_needed(samples.waters(40), features=36)
        kernel = AtomsKernel(descriptor=ChebyshevDescriptor.for_kernel(("H", "O")))
        solvers = [
            item["solver"]
            for item in fit_surrogates(
                data,
                kernel=kernel,
                max_subset=40,
                memory=1.5 * memory_needed(samples.waters(40)),
                **FIXED,
            ).to_dict()
        ]
        assert solvers == ["cholesky"] * 2
        solvers = [
            item["solver"]
            for item in fit_surrogates(
                data, kernel=kernel, max_subset=40, memory=1.4 * memory, **FIXED
            ).to_dict()
        ]
        assert solvers == ["conjugate_gradient", "cholesky"]  # the small one keeps its matrix
