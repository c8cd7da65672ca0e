"""Conversion of surrogates and training sets to the plain data of model files, and back."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, astuple, fields
from pathlib import Path
from typing import Any

import numpy as np

from gprann.baselines import BaselineLike, as_baseline, keep_baseline, restore_baseline
from gprann.data.structure import Dataset, Origin, Structure
from gprann.descriptors import Descriptor, descriptor_to_dict
from gprann.errors import FormatError
from gprann.model_file import naming_file, read_model_file, write_model_file
from gprann.runtime.resources import one_blas_thread
from gprann.surrogate.hyperparameters.criteria import Trial
from gprann.surrogate.hyperparameters.kernel_selection import Candidate, KernelSelection
from gprann.surrogate.kernels.base import KERNELS, Fingerprint
from gprann.surrogate.solvers.base import SOLVERS, Equations, Fit, Plan, Solution
from gprann.surrogate.solvers.calibration import Calibration

_BASELINES = ("baseline", "given_baseline")
_CALIBRATIONS = ("calibration", "new_calibration")
_STACKED = ("positions", "cell", "energy", "forces", "stress", "weight", "energy_variance")
_WRITTEN = (*_STACKED, "symbols", "pbc", "group", "origin")


def write_plain(path: str | os.PathLike[str], kind: str, content: Mapping[str, Any]) -> None:
    """Write plain data with nested float arrays as a model file.

    Parameters
    ----------
    path : path
    kind : str
        What it is, as `surrogate`: other readers refuse the file in plain words.
    content : mapping
        Tables, lists, texts, numbers, None, and float64 arrays in any place.
    """
    write_model_file(path, {"kind": kind, "content": _plain(content)}, {})


def read_plain(path: str | os.PathLike[str], kind: str) -> dict[str, Any]:
    """Read what `write_plain` has written.

    Raises
    ------
    FormatError
        If the file is damaged, or of another kind.
    """
    document, _ = read_model_file(path)
    found = str(document.get("kind", "potential"))
    if found != kind:
        raise FormatError(f"{Path(path)}: holds a {found}, not a {kind}; gprann.load(path) reads either")
    try:
        content: dict[str, Any] = document["content"]
    except (KeyError, TypeError) as error:
        raise FormatError(f"{Path(path)}: no complete {kind} ({error!r}); save it again") from error
    return content


@contextlib.contextmanager
def reading_plain(path: str | os.PathLike[str], kind: str) -> Iterator[dict[str, Any]]:
    """Give what `read_plain` returns to a block that makes a model of it; its errors come to name the file.

    Raises
    ------
    FormatError
        If the file is damaged or incomplete, or of another kind.
    ConfigError
        If something in it is not registered here.
    """
    content = read_plain(path, kind)
    with naming_file(path, kind):
        yield content


def _plain(value: Any) -> Any:
    """Return the same with descriptors as plain data, in any place."""
    if isinstance(value, Descriptor):
        return descriptor_to_dict(value)
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value


def fit_state(fit: Fit | None, *, factor: bool) -> dict[str, Any] | None:
    """Return what is needed to make a fit again, the factorised matrix only with `factor`."""
    if fit is None:
        return None
    return {
        "fingerprint": fit.equations.fingerprint.state(),
        "mean": fit.equations.mean,
        "settings": list(astuple(fit.settings)),
        "fixed": list(fit.fixed),
        "solver": fit.plan.solver,
        "reason": fit.plan.reason,
        "solution": fit.solution.state(),
        "factors": fit.posterior.factors if factor else [],
    }


@one_blas_thread()
def restore_fit(state: Mapping[str, Any], fingerprint: Fingerprint, labels: Dataset) -> Fit:
    """Make a fit from what `fit_state` gave, for a new fingerprint and the labels it was made for."""
    fingerprint.restore(state["fingerprint"])
    equations = Equations(fingerprint, labels, float(state["mean"]))
    length, energy_noise, force_noise = state["fixed"]
    return Fit(
        equations,
        Trial(*state["settings"]),
        (length, energy_noise, force_noise),
        Plan(state["solver"], state["reason"]),
        Solution.from_state(equations, state["solution"]),
        list(state["factors"]),
    )


def plain_state(state: Mapping[str, Any]) -> dict[str, Any]:
    """Return the state of a fitted surrogate as plain data, its kernel, solver and baseline by their names.

    Raises
    ------
    ConfigError
        If one of these is not registered.
    """
    selection = state["selection"]
    return {
        **state,
        **{name: keep_baseline(state[name]) for name in _BASELINES},
        "kernel": KERNELS.to_dict(state["kernel"]),
        "selection": None if selection is None else asdict(selection),
        **{name: None if state[name] is None else asdict(state[name]) for name in _CALIBRATIONS},
        "training_set": pack_dataset(state["training_set"]),
        "fit": {**state["fit"], "solver": SOLVERS.to_dict(state["fit"]["solver"])},
    }


def state_of_plain(plain: Mapping[str, Any], baseline: BaselineLike) -> dict[str, Any]:
    """Return the state that `plain_state` took, with calculators as `baseline` hands them over."""
    selection, handed_over = plain["selection"], as_baseline(baseline)
    if selection is not None:
        candidates = {name: Candidate(**item) for name, item in selection["candidates"].items()}
        selection = KernelSelection(**{**selection, "candidates": candidates})
    return {
        **plain,
        **{name: restore_baseline(plain[name], handed_over) for name in _BASELINES},
        "species": tuple(plain["species"]),
        "kernel": KERNELS.from_dict(plain["kernel"]),
        "selection": selection,
        **{name: Calibration(**plain[name]) if plain.get(name) else None for name in _CALIBRATIONS},
        "training_set": unpack_dataset(plain["training_set"]),
        "fit": {**plain["fit"], "solver": SOLVERS.from_dict(plain["fit"]["solver"])},
    }


def pack_dataset(data: Dataset) -> dict[str, Any]:
    """Return a data set as plain data: quantities of all structures stacked, None for labels that one lacks.

    Examples
    --------
    >>> import gprann
    >>> data = gprann.examples.hydrogen(3)
    >>> bool((unpack_dataset(pack_dataset(data)).energies == data.energies).all())
    True
    """
    packed: dict[str, Any] = {
        "symbols": [list(structure.symbols) for structure in data],
        "pbc": [structure.pbc.tolist() for structure in data],
        "group": [structure.group for structure in data],
        "origin": [list(astuple(structure.origin)) for structure in data],
    }
    for name in _STACKED:
        values = [getattr(structure, name) for structure in data]
        present = [np.atleast_1d(np.asarray(value, dtype=float)) for value in values if value is not None]
        packed[name] = {
            "present": [value is not None for value in values],
            "values": np.concatenate([value.reshape(-1) for value in present]) if present else np.zeros(0),
        }
    others = [item.name for item in fields(Structure) if item.name not in _WRITTEN]
    packed["others"] = [
        {name: getattr(structure, name) for name in others if getattr(structure, name)} for structure in data
    ]
    return packed


def unpack_dataset(packed: Mapping[str, Any]) -> Dataset:
    """Return the data set that `pack_dataset` took."""
    columns = {name: _column(packed[name], name, packed["symbols"]) for name in _STACKED}
    structures = []
    for index, symbols in enumerate(packed["symbols"]):
        values = {name: column[index] for name, column in columns.items() if column[index] is not None}
        structures.append(
            Structure(
                tuple(symbols),
                pbc=np.array(packed["pbc"][index]),
                group=packed["group"][index],
                origin=Origin(*packed["origin"][index]),
                **values,
                **packed["others"][index],
            )
        )
    return Dataset(structures)


def _column(packed: Mapping[str, Any], name: str, symbols: Sequence[Sequence[str]]) -> list[Any]:
    """Return a quantity of each structure."""
    shapes: dict[str, tuple[int, ...]] = {
        "positions": (-1, 3),
        "forces": (-1, 3),
        "cell": (3, 3),
        "stress": (6,),
    }
    sizes = {"cell": 9, "stress": 6}
    begin = 0
    found: list[Any] = []
    for present, atoms in zip(packed["present"], symbols, strict=True):
        if not present:
            found.append(None)
            continue
        end = begin + sizes.get(name, 3 * len(atoms) if name in ("positions", "forces") else 1)
        value = packed["values"][begin:end]
        found.append(value.reshape(shapes[name]) if name in shapes else float(value[0]))
        begin = end
    return found
