"""Any ASE calculator as a baseline: a semi-empirical method, a classical or a universal potential."""

from __future__ import annotations

import hashlib
import json
import tempfile
import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from ase.calculators.calculator import BaseCalculator
from pydantic import PrivateAttr, ValidationInfo, field_validator

from gprann.baselines.base import (
    BASELINES,
    Baseline,
    BaselineLike,
    BaselineSum,
    Contribution,
    as_baseline,
    register_baseline,
    terms_of,
)
from gprann.data.structure import Dataset, Structure
from gprann.errors import ConfigError, DataError
from gprann.options import PathText, option

if TYPE_CHECKING:
    from gprann.labelling import Record

# Labelling reads and writes files of all kinds: it is imported where a calculator is used, not by every surrogate.
_REMEMBERED = 512  # structures whose results are kept in memory, beside those of the cache
_CHECKS = 3  # structures by which a model file recognises its baseline
_ENERGY, _FORCE = 2e-4, 2e-3  # eV and eV/Å, by which their results may differ
_ONE_AT_A_TIME = threading.Lock()  # surrogates side by side share the calculator
_QUIET = {"tblite": {"method": "GFN2-xTB", "verbosity": 0}}  # defaults


@register_baseline
class CalculatorBaseline(Baseline):
    """Energies, forces and stresses of an ASE calculator: what a cheaper method knows already (delta learning).

    A surrogate of the difference to a quantum-chemical method such as GFN2-xTB needs far fewer structures
    (Ramakrishnan et al., J. Chem. Theory Comput. 11, 2087 (2015)). Each structure is computed once: results are kept in
    memory, and with `cache` in a file.

    A model file does not name code to run. It keeps three structures with their results instead, and the calculator is
    handed over when the file is read, `gprann.load(file, baseline=...)`: one that gives other results is refused.

    Examples
    --------
    >>> import gprann
    >>> data = gprann.examples.hydrogen(3)
    >>> emt = gprann.CalculatorBaseline(calculator="emt")
    >>> left = emt.subtract(data)
    >>> bool(abs(left.energies + emt.evaluate(data).energy - data.energies).max() < 1e-12)
    True
    """

    name = "calculator"
    calculator: Any = option(
        "Name of a calculator of ASE, tblite for GFN-xTB (GFN2 by default); in Python also `module:Class`, or an ASE "
        "calculator itself.",
        example="tblite",
    )
    options: dict[str, Any] | None = option(
        "Keyword arguments of the calculator, if it is given by its name.",
        None,
        example={"method": "GFN1-xTB"},
    )
    cache: PathText | None = option(
        "Extended XYZ file of the results of labelled structures, read and appended to, so that nothing is computed "
        "twice. Default: a file in the output folder of a run, otherwise in memory alone.",
        None,
        example="baseline.extxyz",
    )
    workers: int = option("Processes in which many structures are computed side by side.", 1, ge=1)
    _made: BaseCalculator | None = PrivateAttr(default=None)
    _file: str | None = PrivateAttr(default=None)
    _record: Any = PrivateAttr(default=None)
    _recent: OrderedDict[str, Structure] = PrivateAttr(default_factory=OrderedDict)
    _checks: list[Structure] = PrivateAttr(default_factory=list)

    @field_validator("calculator")
    @classmethod
    def _check_calculator(cls, given: Any, info: ValidationInfo) -> Any:
        if info.context is not None and ":" in str(given):  # from a file
            raise ValueError(
                f"calculator = '{given}': a file may name calculators of ASE and tblite alone; hand others over in "
                "Python"
            )
        if not isinstance(given, str) and not hasattr(given, "get_property"):
            raise ValueError(f"calculator: expected a name or an ASE calculator, got {type(given).__name__}")
        return given

    def __getstate__(self) -> dict[Any, Any]:
        state = super().__getstate__()
        private = state["__pydantic_private__"] or {}
        return {**state, "__pydantic_private__": {**private, "_made": None}}  # processes make their own

    def for_file(self) -> dict[str, Any]:
        """Return what a model file keeps: what it is called, and structures by which it is recognised."""
        checks = [_plain(item) for item in self._checks]
        return {"kind": self.name, "calculator": self.title, "checks": checks}

    @property
    def title(self) -> str:
        """Name and options of the calculator, or its class."""
        if isinstance(self.calculator, str):
            return " ".join([self.calculator, *(f"{name}={value}" for name, value in self._options.items())])
        return type(self.calculator).__name__

    @property
    def _options(self) -> dict[str, Any]:
        return {**_QUIET.get(self.calculator, {}), **(self.options or {})}

    def evaluate(self, data: Dataset) -> Contribution:
        """Return the results of the calculator, those that are known from memory or from the cache.

        Raises
        ------
        DataError
            If a structure cannot be computed, after a second attempt.
        """
        known = [self._find(structure) for structure in data]
        missing = [k for k, found in enumerate(known) if found is None]
        if len(missing) > 1 and self.workers > 1 and isinstance(self.calculator, str):
            for k, result in zip(missing, self._compute_in_processes(data.select(missing)), strict=True):
                known[k] = result
        results = [found or self._compute(item) for item, found in zip(data, known, strict=True)]
        return Contribution(
            np.array([float(item.energy or 0.0) for item in results]),
            [np.asarray(item.forces) for item in results],
            np.array(
                [np.full(6, np.nan) if item.stress is None else item.stress for item in results]
            ).reshape(-1, 6),
        )

    def subtract(self, data: Dataset) -> Dataset:
        """Return the structures with the labels that are left. Three results are kept for model files."""
        left = super().subtract(data)
        if not self._checks and len(data):
            chosen = np.unique(np.linspace(0, len(data) - 1, _CHECKS).astype(int))
            self._checks = [found for k in chosen.tolist() if (found := self._find(data[k])) is not None]
        return left

    def recognise(self, checks: Sequence[Mapping[str, Any]]) -> None:
        """Compare the results of some structures with those that a model file keeps.

        Raises
        ------
        ConfigError
            If they differ.
        """
        kept = [Structure(**item) for item in checks]
        own = [self._find(item) or self._compute(item) for item in kept]
        for item, found in zip(kept, own, strict=True):
            energy = abs(float(found.energy or 0.0) - float(item.energy or 0.0))
            force = float(np.abs(np.asarray(found.forces) - item.forces).max())
            if not (energy <= _ENERGY and force <= _FORCE):
                raise ConfigError(
                    f"the baseline that is handed over, {self.title}, is not the one of the file: energies differ by "
                    f"{energy:.2g} eV, forces by {force:.2g} eV/Å; hand over the same method with the same options"
                )
        self._checks = kept

    def _find(self, structure: Structure) -> Structure | None:
        from gprann.labelling import geometry_key

        key = geometry_key(structure)
        found = self._recent.get(key)
        return found if found is not None else self._cache.find(structure)

    @property
    def _cache(self) -> Record:
        from gprann.labelling import Record

        if self._record is None:
            self._record = Record(self.cache or self._file)
        record: Record = self._record
        return record

    def remember_in(self, folder: Path) -> None:
        """Keep results of labelled structures in a folder, unless `cache` says where; those of a run in its own.

        The file is named after the calculator and its options: another one does not find them.
        """
        if self.cache is None and isinstance(self.calculator, str):
            number = hashlib.sha256(json.dumps([self.calculator, self._options], sort_keys=True).encode())
            self._file, self._record = str(folder / f"baseline-{number.hexdigest()[:12]}.extxyz"), None

    def _keep(self, result: Structure, *, lasting: bool) -> None:
        """Remember a result: those of labelled structures for good, of all others the latest."""
        from gprann.labelling import geometry_key

        if lasting:
            self._cache.append(result)
            return
        self._recent[geometry_key(result)] = result
        while len(self._recent) > _REMEMBERED:
            self._recent.popitem(last=False)

    def _compute_in_processes(self, data: Dataset) -> Dataset:
        """Return the structures with results; an interruption spares those that are finished, if there is a cache."""
        from gprann.labelling import label

        with tempfile.TemporaryDirectory(prefix="gprann-baseline-") as name:
            folder = Path(name) if self._cache.path is None else self._cache.path.parent
            stem = "results" if self._cache.path is None else self._cache.path.stem
            target = folder / f"{stem}.workers.extxyz"
            done = label(data, self.calculator, target, options=self._options, workers=self.workers)
            if done.failures:
                first = done.failures[0]
                raise DataError(f"{first.origin}: the baseline {self.title} fails: {first.reason}")
            for item, result in zip(data, done.labelled, strict=True):
                self._keep(result, lasting=_is_labelled(item))
            for file in folder.glob(f"{target.name}*"):
                file.unlink()
        return done.labelled

    def _compute(self, structure: Structure) -> Structure:
        """Return a structure with the results of the calculator; a failure is tried once more, by a new one."""
        if (found := self._find(structure)) is not None:  # it stands twice in the data
            return found
        reason = ""
        for _ in range(2):
            try:
                with _ONE_AT_A_TIME:
                    result = self._attempt(structure)
            # A calculator fails in whatever way it likes.
            except Exception as error:
                reason, self._made = f"{type(error).__name__}: {error}", None
                continue
            self._keep(result, lasting=_is_labelled(structure))
            return result
        raise DataError(
            f"{structure.origin}: the baseline {self.title} fails: {reason}; leave the structure out, or correct the "
            "options of the calculator"
        )

    def _attempt(self, structure: Structure) -> Structure:
        from gprann.labelling.calculators import CalculatorSpec
        from gprann.labelling.worker import compute

        if self._made is None:
            given = self.calculator
            self._made = CalculatorSpec(given, self._options).build() if isinstance(given, str) else given
        plain = structure.without_labels()
        labels = compute(self._made, plain)
        if "forces" not in labels:
            raise ValueError("the calculator has no forces")
        return plain.replace(
            **{name: np.asarray(value) if name != "energy" else value for name, value in labels.items()}
        )


def keep_baseline(baseline: Baseline) -> list[dict[str, Any]]:
    """Return what a model file keeps of a baseline, term by term, see `restore_baseline`.

    Raises
    ------
    ConfigError
        If a term is not registered.
    """
    return [
        term.for_file() if isinstance(term, CalculatorBaseline) else BASELINES.to_dict(term)
        for term in terms_of(baseline)
    ]


class DescribedCalculator(Baseline):
    """Stands for calculators of a model file that is read to be described, not to be evaluated."""

    title: str = ""

    def __repr__(self) -> str:
        return f"the calculator {self.title}, which is handed over at loading"

    def evaluate(self, data: Dataset) -> Contribution:  # noqa: ARG002
        """Refuse.

        Raises
        ------
        ConfigError
            Always.
        """
        raise ConfigError(f"the model file was read without its baseline, the calculator {self.title}")

    def subtract(self, data: Dataset) -> Dataset:
        """Return the structures as they are: a surrogate subtracts when it is read, before anything is asked of it."""
        return data


def restore_baseline(kept: Sequence[Mapping[str, Any]], given: BaselineLike) -> Baseline:
    """Return the baseline that a model file describes; calculators in it are those that the caller hands over.

    Parameters
    ----------
    kept : sequence of mappings
        One for each term.
    given : Baseline, its name, or a list of these, or None
        What the caller hands over. A `DescribedCalculator` stands for all calculators.

    Raises
    ------
    ConfigError
        If a calculator is missing, is another one than that of the file, or belongs to nothing.
    """
    described = isinstance(given, DescribedCalculator)
    at_hand = [term for term in terms_of(as_baseline(given)) if isinstance(term, CalculatorBaseline)]
    terms: list[Baseline] = []
    for item in kept:
        if item["kind"] != CalculatorBaseline.name:
            terms.append(as_baseline(item))
            continue
        if described:
            terms.append(DescribedCalculator(title=item["calculator"]))
            continue
        if not at_hand:
            raise ConfigError(
                f"needs its baseline, the calculator {item['calculator']}, which a file cannot hold; hand it over: "
                "gprann.load(file, baseline=gprann.CalculatorBaseline(calculator=...)), or --calculator"
            )
        found = at_hand.pop(0)
        found.recognise(item["checks"])
        terms.append(found)
    if at_hand:
        raise ConfigError(f"has no baseline {at_hand[0].title}: do not hand one over")
    return terms[0] if len(terms) == 1 else BaselineSum(terms=tuple(terms))


def _is_labelled(structure: Structure) -> bool:
    """Return whether results will be wanted again: those of data, not those of steps of molecular dynamics."""
    return structure.energy is not None or structure.forces is not None


def _plain(structure: Structure) -> dict[str, Any]:
    return {
        "symbols": list(structure.symbols),
        "positions": structure.positions.tolist(),
        "cell": structure.cell.tolist(),
        "pbc": np.asarray(structure.pbc).tolist(),
        "energy": structure.energy,
        "forces": np.asarray(structure.forces).tolist(),
    }
