"""Readable descriptions of model files, data and configurations."""

from __future__ import annotations

import json
import os
import textwrap
import zipfile
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from gprann.baselines import Baseline, ReferenceEnergies, terms_of
from gprann.baselines.calculator import DescribedCalculator
from gprann.config import load_config, to_toml
from gprann.data.structure import Dataset
from gprann.errors import listing
from gprann.evaluation.metrics import number, table
from gprann.formats.aenet import holds_networks, read_aenet
from gprann.io import read
from gprann.models import PolynomialModel
from gprann.potential import Potential, load
from gprann.surrogate import Surrogate, SurrogateSet
from gprann.units import MEV

_SHOWN = 20


def describe(path: str | os.PathLike[str]) -> str:
    """Describe a model file, networks of ænet, a configuration file, or structures in any form that `read` takes.

    Raises
    ------
    FormatError, ConfigError, DataError
        If the file cannot be read as what it is.
    """
    file = Path(path).expanduser()
    if file.suffix == ".toml":
        return to_toml(load_config(file), comments=False)
    if file.suffix == ".gprann" or (file.is_file() and zipfile.is_zipfile(file)):
        tested, model = _test_errors(file), load(file, baseline=DescribedCalculator())
        if not isinstance(model, Potential):
            return _describe_surrogates(model)
        return describe_potential(model) + (f"\n{_entry('test errors', tested)}" if tested else "")
    if holds_networks(file):
        return describe_potential(read_aenet(file))
    return describe_data(read(path, require=()))


def facts_of(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Return what a file holds as plain data, for programs; the errors are those of `describe`.

    Examples
    --------
    >>> import gprann, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     gprann.write(Path(folder) / "h2.extxyz", gprann.examples.hydrogen(7))
    ...     facts = facts_of(Path(folder) / "h2.extxyz")
    >>> facts["kind"], facts["structures"], facts["forces"]
    ('structures', 7, 7)
    """
    file = Path(path).expanduser()
    if file.suffix == ".toml":
        return {"kind": "configuration", "configuration": load_config(file).to_dict()}
    if holds_networks(file):
        return _potential_facts(read_aenet(file))
    if file.suffix == ".gprann" or (file.is_file() and zipfile.is_zipfile(file)):
        model = load(file, baseline=DescribedCalculator())
        if isinstance(model, Potential):
            return _potential_facts(model)
        each = [model] if isinstance(model, Surrogate) else [surrogate for surrogate, _ in model]
        return {"kind": "surrogates", "surrogates": [surrogate.to_dict() for surrogate in each]}
    data = read(path, require=())
    return {
        "kind": "structures",
        "structures": len(data),
        "species": list(data.species),
        "atoms": [int(data.n_atoms.min()), int(data.n_atoms.max())],
        "energies": sum(structure.energy is not None for structure in data),
        "forces": sum(structure.forces is not None for structure in data),
        "compositions": dict(Counter(structure.formula for structure in data)),
        "methods": dict(Counter(structure.origin.method for structure in data)),
    }


def _potential_facts(potential: Potential) -> dict[str, Any]:
    return {
        "kind": "potential",
        "species": list(potential.species),
        "members": len(potential),
        "cutoff": potential.cutoff,
        "parameters": potential.model.n_parameters,
        "model": repr(potential.model),
        "descriptor": repr(potential.descriptor),
        "reference_energies": dict(potential.reference_energies),
        "has_guard": potential.guard is not None,
        "provenance": potential.provenance,
    }


def _describe_surrogates(model: Surrogate | SurrogateSet) -> str:
    """Describe the surrogates of a file, one after the other."""
    each = [model] if isinstance(model, Surrogate) else [surrogate for surrogate, _ in model]
    texts = []
    for surrogate in each:
        facts = {
            "surrogate": repr(surrogate),
            **_other_baselines(surrogate.baseline),
            **{n: _facts(v) if isinstance(v, Mapping) else str(v) for n, v in surrogate.to_dict().items()},
        }
        texts.append("\n".join(_entry(name.replace("_", " "), text) for name, text in facts.items()))
    return "\n\n".join(texts)


def describe_data(data: Dataset) -> str:
    """Describe a data set: what it holds, and which labels.

    Examples
    --------
    >>> import gprann
    >>> print(describe_data(gprann.examples.hydrogen(7)))
    7 structures, 2 atoms each
    elements:  H
    periodic:  none
    energies:  7, from -0.952 to 0.005 eV (-0.476 to 0.003 eV/atom)
    forces:    7 structures, largest 24.0 eV/Å
    <BLANKLINE>
    composition  structures
    -----------------------
    H2                    7
    """
    atoms = data.n_atoms
    size = f"{atoms.min()}" if atoms.min() == atoms.max() else f"{atoms.min()} to {atoms.max()}"
    periodic = sum(bool(structure.pbc.any()) for structure in data)
    synthetic = Counter(s.origin.method for s in data if s.origin.method != "reference")
    lines = [f"{len(data)} structures, {size} atoms each"]
    if synthetic:
        counted = ", ".join(f"{count} {method}" for method, count in synthetic.items())
        lines.append(f"copies:    {counted}")
    lines += [
        f"elements:  {' '.join(data.species)}",
        f"periodic:  {'all' if periodic == len(data) else periodic or 'none'}",
        f"energies:  {_energies(data)}",
        f"forces:    {_forces(data)}",
    ]
    formulas = Counter(structure.formula for structure in data).most_common()
    rows = [["composition", "structures"], *([name, str(count)] for name, count in formulas[:_SHOWN])]
    more = [] if len(formulas) <= _SHOWN else [f"... and {len(formulas) - _SHOWN} more compositions"]
    return "\n".join([*lines, "", table(rows), *more])


def _energies(data: Dataset) -> str:
    labelled = data.filter(lambda structure: structure.energy is not None)
    if not len(labelled):
        return "none"
    per_atom = labelled.energies / labelled.n_atoms
    total = f"from {labelled.energies.min():.3f} to {labelled.energies.max():.3f} eV"
    return f"{len(labelled)}, {total} ({per_atom.min():.3f} to {per_atom.max():.3f} eV/atom)"


def _forces(data: Dataset) -> str:
    labelled = data.filter(lambda structure: structure.forces is not None)
    if not len(labelled):
        return "none"
    largest = max(float(np.linalg.norm(forces, axis=1).max()) for forces in labelled.forces)
    return f"{len(labelled)} structures, largest {number(largest)} eV/Å"


def describe_potential(potential: Potential) -> str:
    """Describe a potential: networks, descriptor, and how it was made.

    Examples
    --------
    >>> import gprann
    >>> data = gprann.examples.hydrogen(7)
    >>> descriptor = gprann.ChebyshevDescriptor(["H"], radial_order=10, radial_cutoff=8.0, angular_order=None)
    >>> potential = gprann.train(data, descriptor, hidden=(5, 5), iterations=5)
    >>> print(describe_potential(potential).splitlines()[1])
    parameters:          96 per network
    """
    return "\n".join(_entry(name, text) for name, text in list_facts(potential).items())


def list_facts(potential: Potential) -> dict[str, str]:
    """Return the facts about a potential, each under its name."""
    single, several = (
        ("polynomial", "draws of polynomials")
        if isinstance(potential.model, PolynomialModel)
        else ("network", "networks")
    )
    count = f"a single {single}" if len(potential) == 1 else f"a committee of {len(potential)} {several}"
    return {
        "potential": f"{count} for each element, {potential.model!r}",
        "parameters": f"{potential.model.n_parameters} per {single}",
        "elements": " ".join(potential.species),
        "descriptor": repr(potential.descriptor),
        "reference energies": _energies_of_elements(potential.reference_energies),
        **_other_baselines(potential.baseline),
        "extrapolation guard": _guard(potential),
        "units": "eV, Å, eV/Å, eV/Å³; total energies",
        **_provenance(potential.provenance),
    }


def _other_baselines(baseline: Baseline) -> dict[str, str]:
    """Return the baselines beside the reference energies, if there are some."""
    others = [term for term in terms_of(baseline) if not isinstance(term, ReferenceEnergies)]
    return {"baseline": " + ".join(map(repr, others))} if others else {}


def _guard(potential: Potential) -> str:
    """Return what the extrapolation guard notices."""
    if potential.guard is None:
        return "none: trained before there were guards (gprann.add_guard makes one)"
    lengths = [
        f"{symbol} {'more than 0.5' if length is None else format(length, '.2g')} Å"
        for symbol, length in potential.guard.reach.items()
    ]
    return f"notices random displacements of {', '.join(lengths)}" if lengths else "yes"


def _energies_of_elements(energies: Mapping[str, float]) -> str:
    """Return the reference energies, and which of them the data have not told apart."""
    text = ", ".join(f"{symbol} {energy:.6f} eV" for symbol, energy in energies.items())
    alike = [symbol for symbol in energies if list(energies.values()).count(energies[symbol]) > 1]
    if not alike:
        return text
    return f"{text}; {' and '.join(alike)} stand in the same numbers in all structures, which tell their sum alone"


def _test_errors(file: Path) -> str:
    """Return the errors on the test set that the run which made the potential has left beside it."""
    try:
        text = (file.parent / "report" / "metrics.json").read_text(encoding="utf-8")
        errors = json.loads(text)["test"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return ""
    facts = [f"{errors['n_structures']} structures"]
    for name, key, factor, unit in (
        ("energies", "energy_per_atom_mae", 1 / MEV, "meV/atom"),
        ("forces", "force_mae", 1.0, "eV/Å"),
    ):
        if errors.get(key) is not None:
            facts.append(f"{name} {number(factor * errors[key])} {unit}")
    return ", ".join(facts) + " (mean absolute errors)"


def _entry(name: str, text: str) -> str:
    """Return a line with its continuation indented."""
    return textwrap.fill(text, 110, initial_indent=f"{name + ':':<21}", subsequent_indent=21 * " ")


def _provenance(provenance: Mapping[str, Any]) -> dict[str, str]:
    """Return how a potential was made; model files of other origin may lack any of it."""
    training = provenance.get("training", {})
    facts: dict[str, str] = {}
    if "program" in training:
        facts["made by"] = f"{training['program']}, in {training.get('seconds', '?')} s"
    if "n_structures" in training:
        reference = training.get("n_reference", training["n_structures"])
        facts["trained on"] = (
            f"{reference} reference structures, {training['n_structures'] - reference} copies"
        )
    if "converted" in provenance:
        converted = provenance["converted"]
        facts["made by"] = (
            f"{converted['program']}: {listing([Path(name).name for name in converted['files']])}"
        )
    data = provenance.get("config", {}).get("data", {})
    for name, key in (("training data", "train"), ("test data", "test")):
        if data.get(key):
            facts[name] = ", ".join(data[key])
    if "options" in training:
        given = {name: value for name, value in training["options"].items() if value is not None}
        facts["options"] = ", ".join(f"{name} {value}" for name, value in given.items())
    held_out = [errors for errors in training.get("held_out", []) if errors.get("force") is not None]
    facts |= _errors_with_forces(held_out) if held_out else _errors(training.get("history", []))
    for position, surrogate in enumerate(provenance.get("surrogates", [])[:_SHOWN], 1):
        facts[f"surrogate {position}"] = _facts(surrogate)
    return facts


def _facts(values: Mapping[str, Any]) -> str:
    """Return names and values in words; tables in brackets, and nothing of what is not set."""
    texts = {
        name: f"({_facts(value)})"
        if isinstance(value, Mapping)
        else f"{value:.3g}"
        if isinstance(value, float)
        else value
        for name, value in values.items()
        if value is not None
    }
    return ", ".join(f"{name} {text}" for name, text in texts.items())


def _errors_with_forces(held_out: Sequence[Mapping[str, float | None]]) -> dict[str, str]:
    """Return the errors of direct training on the structures held out."""
    facts = {"validation forces": _range([errors["force"] for errors in held_out], 1.0, "eV/Å")}
    energies = [errors.get("energy") for errors in held_out]
    return {"validation energies": _range(energies, MEV, "meV")} | facts if any(energies) else facts


def _errors(history: Sequence[Sequence[Sequence[float | None]]]) -> dict[str, str]:
    """Return the errors of each member's best iteration, root mean square in meV."""
    best = [min(steps, key=_score) for steps in history if steps]
    if not best:
        return {}
    facts = {
        "training error": _spread([step[1] for step in best]),
        "iterations": _counts([s[0] for s in best]),
    }
    held_out = [step[2] for step in best if step[2] is not None]
    return facts | ({"validation error": _spread(held_out)} if held_out else {})


def _score(step: Sequence[float | None]) -> float:
    """Return the validation error, or the training error where there is none."""
    return next(float(value) for value in (step[2], step[1], np.inf) if value is not None)


def _spread(values: Sequence[float | None]) -> str:
    return _range(values, MEV, "meV")


def _range(values: Sequence[float | None], factor: float, unit: str) -> str:
    errors = sorted(float(value) / factor for value in values if value is not None)
    if len(errors) == 1:
        return f"{number(errors[0])} {unit} (root mean square)"
    return f"{number(errors[0])} to {number(errors[-1])} {unit} (root mean square of the members)"


def _counts(values: Sequence[float | None]) -> str:
    return ", ".join(f"{int(value)}" for value in values if value is not None)
