"""Properties of a structure by a potential and by its reference: each computed once, with numbers and plots."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import logging
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ase.calculators.calculator import BaseCalculator

from gprann.data.structure import Dataset, Structure
from gprann.dynamics.engine import make_calculator
from gprann.dynamics.run import single_model
from gprann.errors import ConfigError, GprannError
from gprann.io.reading import Source, structures
from gprann.labelling.calculators import CalculatorSpec
from gprann.pipeline.checkpoints import Stages, claim_folder, data_digest, file_digest
from gprann.potential import Potential
from gprann.properties.options import NAMES, PropertyOptions
from gprann.properties.simulated import KEPT, PROPERTIES
from gprann.properties.suite import Found, Property, Subject, structure_at_rest
from gprann.runtime.atomic_write import WriteError, atomic_write, write_picture
from gprann.signatures import takes
from gprann.surrogate import Surrogate, SurrogateSet

_log = logging.getLogger(__name__)
SIDES = ("potential", "reference")
_FAILURES = (GprannError, ImportError, RuntimeError, ArithmeticError)  # of a property; the others go on


@dataclass(frozen=True, slots=True, repr=False)
class Properties:
    """Properties of a structure. Printed, it is a page of text.

    Attributes
    ----------
    folder : Path
        With `summary.md`, `results.json` and, with matplotlib, a picture of each property.
    title : str
        What was measured.
    results : dict of str to dict of str to dict
        By property, then by `potential` and `reference`: `values` (list of `name`, `value`, `unit`, `error`), `curves`
        and `notes`.
    left_out : dict of str to str
        Properties that were not computed, and why.
    failed : dict of str to str
        Properties that could not be computed, and why.
    """

    folder: Path
    title: str
    results: Mapping[str, Mapping[str, Found]]
    left_out: Mapping[str, str]
    failed: Mapping[str, str]

    def __repr__(self) -> str:
        return f"Properties({', '.join(self.results)})"

    def __str__(self) -> str:
        return self.summary()

    def summary(self) -> str:
        """Return the page of text, Markdown."""
        lines = [f"# {self.title}", ""]
        for one in PROPERTIES:
            if one.name in self.results:
                lines += [f"## {one.title}", "", *_table(one, self.results[one.name]), ""]
        for heading, reasons in (("Left out", self.left_out), ("Failed", self.failed)):
            if reasons:
                lines += [f"## {heading}", "", *[f"- {name}: {why}" for name, why in reasons.items()], ""]
        return "\n".join(lines)


@takes(PropertyOptions)
def measure_properties(
    model: Potential | Surrogate | SurrogateSet | str | os.PathLike[str],
    structure: Source,
    folder: str | os.PathLike[str],
    *,
    reference: Potential | Surrogate | SurrogateSet | CalculatorSpec | str | os.PathLike[str] | None = None,
    **options: Any,
) -> Properties:
    """Measure what a potential is for: properties of a structure, beside those of a reference.

    Each property is computed once: the same call after an interruption goes on, and one with other options computes
    anew what depends on them.

    Parameters
    ----------
    model : Potential or Surrogate, or its file
    structure : Structure, ase.Atoms, or anything that `gprann.read` takes and that holds one structure
        Crystals as unit cells. What it is, crystal, slab or molecule, decides about the properties it has.
    folder : path
        For the results.
    reference : Potential or Surrogate, its file, or CalculatorSpec, optional
        Simulations are run with models alone, not with calculators.
    **options

    Returns
    -------
    Properties

    Raises
    ------
    ConfigError
        If an option is impossible, the calculator cannot be made, or the folder is in use.
    DataError
        If the structure is none that the model knows.

    Examples
    --------
    >>> import gprann, tempfile
    >>> data = gprann.examples.hydrogen(12)
    >>> surrogate = gprann.Surrogate(kernel="pairs").fit(data)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     found = gprann.measure_properties(surrogate, data[2], folder, only=["relaxation", "vibrations"])
    >>> [item["unit"] for item in found.results["vibrations"]["potential"]["values"]]
    ['1/cm']
    """
    settings = PropertyOptions(**options)
    data = structures(structure)
    if len(data) != 1:
        raise ConfigError(
            f"structure: expected one, got {len(data)}; choose one, on the command line with --index 0"
        )
    start = data[0].without_labels()
    subjects: dict[str, Potential | Surrogate | CalculatorSpec] = {"potential": single_model(model)}
    if reference is not None:
        subjects["reference"] = (
            reference if isinstance(reference, CalculatorSpec) else single_model(reference)
        )
    target = Path(folder)
    with claim_folder(target) as stages:
        return _Measurement(stages, start, settings).run(subjects)


class _Measurement:
    """The properties of one structure, in their folder."""

    def __init__(self, stages: Stages, structure: Structure, options: PropertyOptions) -> None:
        self._stages, self._structure, self._options = stages, structure, options
        self._results: dict[str, dict[str, Found]] = {}
        self._left_out: dict[str, str] = {}
        self._failed: dict[str, str] = {}

    def run(self, models: Mapping[str, Potential | Surrogate | CalculatorSpec]) -> Properties:
        subjects = {side: self._subject(side, model) for side, model in models.items()}  # before long work
        for side, (subject, identity) in subjects.items():
            self._measure(side, subject, identity)
        folder = self._stages.folder
        title = f"Properties of {self._structure.formula} from {self._structure.origin}"
        results = {one.name: self._results[one.name] for one in PROPERTIES if one.name in self._results}
        result = Properties(folder, title, results, self._left_out, self._failed)
        with atomic_write(folder / "results.json") as stream:
            document = {"results": results, "left_out": self._left_out, "failed": self._failed}
            json.dump({"title": title, **document}, stream, indent=1)
        with atomic_write(folder / "summary.md") as stream:
            stream.write(result.summary())
        _draw(result)
        return result

    def _subject(self, side: str, model: Potential | Surrogate | CalculatorSpec) -> tuple[Subject, str]:
        """Return what measures, and what identifies it."""
        calculator: BaseCalculator
        own: Potential | Surrogate | None = None
        if isinstance(model, CalculatorSpec):
            calculator = model.build()
            identity = json.dumps(model.to_dict(), sort_keys=True)
        else:
            calculator, own = make_calculator(model, skin=0.5, guard="off"), model
            identity = _digest(model)
        # Simulations of another model, structure or other options in the same folder are not gone on with.
        options = {name: getattr(self._options, name) for name in KEPT if name != "temperatures"}
        digest = self._digest_of(identity, "simulations", options)
        folder = self._stages.folder / "simulations" / side / digest[:12]
        return Subject(self._structure, calculator, own, self._options, folder), identity

    def _digest_of(self, identity: str, what: str, options: Mapping[str, Any]) -> str:
        """Return the digest of all that a result depends on."""
        content = [what, identity, data_digest(Dataset([self._structure])), json.dumps(options)]
        return hashlib.sha256("\0".join(content).encode()).hexdigest()

    def _measure(self, side: str, subject: Subject, identity: str) -> None:
        at_rest = True
        for one in PROPERTIES:
            if one.name not in (self._options.only or NAMES) and one.name != "relaxation":
                continue
            why = one.obstacle(self._structure, self._options)
            if why:
                self._left_out.setdefault(one.name, why)
            elif one.simulates and subject.model is None:
                why = "the reference is a calculator, with which no simulations are run"
                self._left_out.setdefault(f"{one.name} of the reference", why)
            elif not at_rest and not one.simulates:
                self._failed[f"{one.name} of the {side}"] = "needs the structure at rest"
            else:
                outcome = self._one(one, subject, side, identity)
                if outcome is not None:
                    self._results.setdefault(one.name, {})[side] = outcome
                if one.name == "relaxation":
                    at_rest = outcome is not None
                if one.name == "relaxation" and outcome is not None:
                    subject = replace(subject, structure=structure_at_rest(self._structure, outcome))

    def _one(self, one: Property, subject: Subject, side: str, identity: str) -> Found | None:
        options = {name: getattr(self._options, name) for name in one.uses}
        digest = self._digest_of(identity, one.name, options)
        name = f"{side}/{one.name}"
        known = self._stages.find(name, digest)
        if known is not None:
            _log.info("%s of the %s: computed before", one.title, side)
            return known
        _log.info("%s of the %s", one.title, side)
        try:
            outcome = one.compute(subject)
        except WriteError:  # nothing else could be kept either
            raise
        except _FAILURES as error:
            self._failed[f"{one.name} of the {side}"] = str(error)
            _log.warning("%s of the %s: %s", one.title, side, error)
            return None
        self._stages.keep(name, digest, [], outcome)
        return outcome


def _digest(model: Potential | Surrogate) -> str:
    """Return a digest of a model file of the model."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "model"
        model.save(file)
        return file_digest(file)


def _table(one: Property, sides: Mapping[str, Found]) -> list[str]:
    """Return the table of the values of a property, with what they differ by, and the notes."""
    both = len(sides) > 1
    lines = ["| | potential |", "|---|---|"]
    if both:
        lines = ["| | potential | reference | difference |", "|---|---|---|---|"]
    known = {side: {item["name"]: item for item in found["values"]} for side, found in sides.items()}
    for name in dict.fromkeys(name for items in known.values() for name in items):
        items = [known.get(side, {}).get(name) for side in SIDES[: 2 if both else 1]]
        if not both:
            items = [next(iter(known.values()))[name]]
        unit = next(item["unit"] for item in items if item is not None)
        cells = ["-" if item is None else _number(item) for item in items]
        if both:
            cells.append(_difference(*items))
        lines.append(f"| {name}{f', {unit}' if unit else ''} | {' | '.join(cells)} |")
    notes = [f"{side}: {note}" if both else note for side, found in sides.items() for note in found["notes"]]
    if both:
        notes += one.compare(sides["potential"], sides["reference"])
    return [*lines, *(["", *[f"- {note}" for note in notes]] if notes else [])]


def _number(item: Found) -> str:
    text = f"{item['value']:.5g}"
    return text if item["error"] is None else f"{text} ± {item['error']:.2g}"


def _difference(one: Found | None, other: Found | None) -> str:
    if one is None or other is None:
        return "-"
    difference = one["value"] - other["value"]
    part = f" ({100 * difference / abs(other['value']):+.1f} %)" if other["value"] else ""
    return f"{difference:+.3g}{part}"


def _draw(result: Properties) -> None:
    if importlib.util.find_spec("matplotlib") is None:
        _log.warning("no plots in %s: matplotlib is missing, pip install 'gprann[plot]'", result.folder)
        return
    from gprann.properties.drawing import draw

    for name, sides in result.results.items():
        write_picture(draw(name, sides), result.folder / f"{name}.png", 150)
