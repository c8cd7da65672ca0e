"""How good the surrogates of a run are: each predicts the test structures of its composition while it exists."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gprann.data.prediction import Prediction
from gprann.data.structure import Dataset
from gprann.evaluation import Report, with_forces_std
from gprann.evaluation.metrics import Metrics, number
from gprann.pipeline.checkpoints import Stages
from gprann.pipeline.digest import data_digest, digest
from gprann.surrogate import Surrogate
from gprann.surrogate.sets.assignment import Assignment, Kinds, ask
from gprann.units import MEV
from gprann.version import __version__

__all__ = ["SurrogateTest", "notice_of_loss", "summary_of"]

_log = logging.getLogger(__name__)
_MUCH_WORSE = 5.0  # errors of the networks relative to those of their surrogates
_WORTH_A_REMARK = 2e-3  # eV/atom; error of the networks
_FORCES_STD = 50  # structures of a surrogate whose forces get standard deviations, which are costly
Arrays = dict[str, NDArray[Any]]


@dataclass(slots=True)
class SurrogateTest:
    """Predictions of the test structures by the surrogates, one file for each, kept for a run that goes on.

    Attributes
    ----------
    stages : Stages
        Where they are kept.
    test : Dataset
    options : dict
        Of the surrogates.
    """

    stages: Stages
    test: Dataset
    options: dict[str, Any]
    judged: set[str] = field(default_factory=set, init=False)
    """Records that a report has been made of."""
    _test_digest: str = field(init=False)

    def __post_init__(self) -> None:
        self._test_digest = data_digest(self.test)

    def has(self, subset: Dataset) -> bool:
        """Return whether the surrogate of a subset has been judged."""
        return self.stages.find(*self._record(subset)) is not None

    def judge(self, surrogate: Surrogate, subset: Dataset) -> None:
        """Predict the test structures of the composition of a subset; those that the surrogate refuses are left out.

        Parameters
        ----------
        surrogate : Surrogate
            Fitted to the subset.
        subset : Dataset
            As it is in the training set.
        """
        alike = [
            index
            for index, structure in enumerate(self.test)
            if structure.composition == subset[0].composition
        ]
        arrays = self._predicted(surrogate, np.array(alike, dtype=np.int64))
        file = self._file(subset)
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("wb") as stream:
            np.savez(stream, allow_pickle=False, **arrays)
        self.stages.keep(*self._record(subset), [file], {})

    def _predicted(self, surrogate: Surrogate, indices: NDArray[np.int64]) -> Arrays:
        """Return the predictions of those of some test structures that the surrogate does not refuse."""
        share, prediction, refusals = ask(surrogate, self.test.select(indices), _prediction)
        if refusals:
            _log.info(
                "the surrogate refuses %d of %d test structures: %s",
                len(refusals),
                len(indices),
                next(iter(refusals.values())),
            )
        return {
            "indices": indices[share.indices],
            "energy": prediction.energy,
            "energy_std": prediction.required_energy_std,
            "forces": np.concatenate([np.zeros((0, 3)), *prediction.forces]),
            "forces_std": np.concatenate([np.zeros((0, 3)), *(prediction.forces_std or [])]),
        }

    def report(self, subsets: list[Dataset]) -> Report | None:
        """Return the errors of the surrogates of all subsets; None if they know no test structure.

        As in a `SurrogateSet`: of several surrogates that know a structure the one that is surest of it counts.
        """
        kinds = Kinds([subset[0] for subset in subsets])
        best: dict[int, tuple[float, float, NDArray[np.float64], NDArray[np.float64]]] = {}
        for position, subset in enumerate(subsets):
            self.judged.add(self._record(subset)[0])
            with np.load(self._file(subset), allow_pickle=False) as arrays:
                part = dict(arrays)
            ends = np.cumsum(self.test.select(part["indices"]).n_atoms)[:-1]
            forces, stds = (np.split(part[name], ends) for name in ("forces", "forces_std"))
            own = zip(part["energy_std"].tolist(), part["energy"].tolist(), forces, stds, strict=False)
            for index, found in zip(part["indices"].tolist(), own, strict=True):
                known = position in kinds.knowing(self.test[index])
                if known and (index not in best or found[0] < best[index][0]):
                    best[index] = found
        if not best:
            return None
        judged = sorted(best)
        stds_of, energies, all_forces, forces_stds = zip(*(best[index] for index in judged), strict=True)
        prediction = Prediction(
            np.array(energies),
            list(all_forces),
            energy_std=np.array(stds_of),
            forces_std=list(forces_stds),
        )
        return Report.from_prediction(self.test.select(judged), prediction)

    def _record(self, subset: Dataset) -> tuple[str, str]:
        """Return the name and the inputs of the record of a subset."""
        inputs = digest(__version__, data_digest(subset), self.options, self._test_digest)
        return f"judgements/{inputs[:16]}", inputs

    def _file(self, subset: Dataset) -> Path:
        return self.stages.checkpoints / f"{self._record(subset)[0]}.npz"


def _prediction(share: Assignment) -> Prediction:
    means = share.surrogate.predict(share.data)
    return share.listed(with_forces_std(share.surrogate, share.data, means, _FORCES_STD))


def notice_of_loss(potential: Mapping[str, Any], surrogate: Mapping[str, Any]) -> str:
    """Return a remark if the networks are far worse than the surrogates whose labels they learn; else nothing.

    Parameters
    ----------
    potential, surrogate : mapping
        Metrics on the test set, as of `Report.to_dict`.

    Examples
    --------
    >>> own = {"n_structures": 9, "energy_mae": 0.002, "energy_per_atom_mae": 2e-4}
    >>> bad = {"n_structures": 9, "energy_mae": 0.050, "energy_per_atom_mae": 5e-3}
    >>> notice_of_loss(own, own), notice_of_loss(bad, own)[:62]
    ('', 'the energies of the networks are 25.0 times as far off: their ')
    """
    if surrogate["n_structures"] != potential["n_structures"]:
        return ""  # of other structures
    ratio = potential["energy_mae"] / max(surrogate["energy_mae"], 1e-12)
    if ratio < _MUCH_WORSE or potential["energy_per_atom_mae"] < _WORTH_A_REMARK:
        return ""
    return (
        f"the energies of the networks are {number(ratio)} times as far off: their training loses what the surrogate "
        "knows; try more copies, more members, wider hidden layers, or forces = true\n"
    )


def summary_of(metrics: Metrics, n_test: int) -> str:
    """Return errors and coverage of the surrogates in two lines."""

    def shares(one: float | None, two: float | None) -> str:
        return f"{number(one, 100.0)} / {number(two, 100.0)} %"

    return (
        f"{metrics.n_structures} of {n_test} test structures: energy MAE {number(metrics.energy_mae, 1 / MEV)} meV, "
        f"force component MAE {number(metrics.force_mae)} eV/Å\n"
        "errors within one / two standard deviations (normal: 68 / 95 %): energies "
        f"{shares(metrics.within_one_std, metrics.within_two_std)}, force components "
        f"{shares(metrics.force_within_one_std, metrics.force_within_two_std)}"
    )
